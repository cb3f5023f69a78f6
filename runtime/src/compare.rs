//! Two measurements of `warpsmith bench --json` beside each other.

use std::fmt;

use serde_json::Value;

/// One figure of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What was measured.
    pub what: String,
    /// Its unit: `tok/s` or `us`.
    pub unit: &'static str,
    /// The earlier figure.
    pub before: f64,
    /// The later figure.
    pub after: f64,
}

impl Line {
    /// How many times as fast it has become: the ratio of rates, or the inverse ratio of times.
    pub fn speedup(&self) -> f64 {
        if self.unit == "us" { self.before / self.after } else { self.after / self.before }
    }
}

/// What two measurements have in common, and what became of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The GPUs, if they differ.
    pub gpus: Option<[String; 2]>,
    /// The figures that both have.
    pub lines: Vec<Line>,
}

/// Why two measurements say nothing about each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CompareError {
    /// Text that is not JSON.
    #[error("it is not JSON: {reason}")]
    Json {
        /// What the parser says.
        reason: String,
    },
    /// A measurement that lacks what every measurement has.
    #[error("it is not what bench --json writes: it has no `{key}`")]
    NotABench {
        /// What is missing.
        key: &'static str,
    },
    /// A rate that says nothing about another.
    #[error("it is not what bench --json writes: a `{key}` is {value}, must be a speed above 0")]
    Rate {
        /// Which rate.
        key: &'static str,
        /// What it is.
        value: String,
    },
    /// Two GPUs.
    #[error(
        "it was measured on {before}, this on {after}: figures of two GPUs are compared with --other-gpu only"
    )]
    OtherGpu {
        /// The earlier one.
        before: String,
        /// The later one.
        after: String,
    },
    /// Two tasks.
    #[error("it measured another {what}: {before}, and this {after}")]
    Other {
        /// What differs.
        what: &'static str,
        /// The earlier one.
        before: String,
        /// The later one.
        after: String,
    },
    /// Two measurements without a figure in common.
    #[error("the two have no figure in common: one measured {before}, the other {after}")]
    NothingInCommon {
        /// The modes of the earlier one.
        before: String,
        /// The modes of the later one.
        after: String,
    },
}

/// What a task is, in a report and in words. Tasks that differ are not compared.
const TASK: [(&str, &str); 4] = [
    ("model", "model"),
    ("weight_bytes_per_token", "amount of weights"),
    ("prompt_tokens", "length of the prompt"),
    ("decode_tokens", "number of tokens"),
];

/// The rates of a row, in a report and in words.
const RATES: [(&str, &str); 2] = [("prompt_tok_per_s", "prompt"), ("decode_tok_per_s", "decode")];

/// Checks that a report has what a comparison needs, which is known before anything is measured.
///
/// # Errors
/// What is missing.
pub fn check(report: &Value) -> Result<(), CompareError> {
    for (key, _) in TASK {
        report.get(key).ok_or(CompareError::NotABench { key })?;
    }
    for row in rows(report)? {
        for (key, _) in RATES {
            let rate = row.get(key).ok_or(CompareError::NotABench { key })?;
            if figure(rate).is_none() {
                return Err(CompareError::Rate { key, value: rate.to_string() });
            }
        }
    }
    Ok(())
}

/// Compares the earlier report of a benchmark with a later one. What they measured has to be the same: model, weights,
/// tokens, and the GPU unless `other_gpu` says that it may be another.
///
/// # Errors
/// What is missing from the earlier one, and what differs.
pub fn compare(before: &Value, after: &Value, other_gpu: bool) -> Result<Comparison, CompareError> {
    check(before)?;
    let gpus = [gpu(before), gpu(after)];
    let differ = gpus[0] != gpus[1];
    if differ && !other_gpu {
        let [before, after] = gpus;
        return Err(CompareError::OtherGpu { before, after });
    }
    for (key, what) in TASK {
        let [before, after] = [before, after].map(|report| report.get(key));
        let (Some(before), Some(after)) = (before, after) else {
            return Err(CompareError::NotABench { key });
        };
        if before != after {
            let (before, after) = (before.to_string(), after.to_string());
            return Err(CompareError::Other { what, before, after });
        }
    }
    // Reports from before there were batches have none.
    let [one, other] = [before, after].map(|report| report.get("batch").and_then(Value::as_u64).unwrap_or(1));
    if one != other {
        let (before, after) = (one.to_string(), other.to_string());
        return Err(CompareError::Other { what: "number of sequences", before, after });
    }
    let mut lines = Vec::new();
    for row in rows(after)? {
        let Some(old) = rows(before)?.iter().find(|old| old.get("mode") == row.get("mode")) else { continue };
        let mode = text(row.get("mode"));
        for (key, what) in RATES {
            push(&mut lines, format!("{mode} {what}"), "tok/s", old.get(key), row.get(key));
        }
    }
    if let (Some(old), Some(new)) = (before.get("profile"), after.get("profile")) {
        push(&mut lines, "step as a graph".to_owned(), "us", old.get("step_us"), new.get("step_us"));
        let families = |profile: &Value| profile.get("families").and_then(Value::as_array).cloned();
        let old = families(old).unwrap_or_default();
        for family in families(new).unwrap_or_default() {
            let Some(same) = old.iter().find(|old| old.get("name") == family.get("name")) else { continue };
            let name = text(family.get("name"));
            push(&mut lines, name, "us", same.get("us_added"), family.get("us_added"));
        }
    }
    if lines.is_empty() {
        let modes = |report: &Value| -> Result<String, CompareError> {
            Ok(rows(report)?.iter().map(|row| text(row.get("mode"))).collect::<Vec<_>>().join(" and "))
        };
        return Err(CompareError::NothingInCommon { before: modes(before)?, after: modes(after)? });
    }
    Ok(Comparison { gpus: differ.then_some(gpus), lines })
}

fn gpu(report: &Value) -> String {
    match report.get("gpu") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Null) => "no GPU".to_owned(),
        _ => "an unnamed GPU".to_owned(),
    }
}

fn rows(report: &Value) -> Result<&Vec<Value>, CompareError> {
    report.get("rows").and_then(Value::as_array).ok_or(CompareError::NotABench { key: "rows" })
}

fn text(value: Option<&Value>) -> String {
    value.and_then(Value::as_str).unwrap_or("?").to_owned()
}

/// A number that can be divided by.
fn figure(value: &Value) -> Option<f64> {
    value.as_f64().filter(|figure| *figure > 0.0)
}

/// A figure that both have.
fn push(
    lines: &mut Vec<Line>,
    what: String,
    unit: &'static str,
    before: Option<&Value>,
    after: Option<&Value>,
) {
    if let (Some(before), Some(after)) = (before.and_then(figure), after.and_then(figure)) {
        lines.push(Line { what, unit, before, after });
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some([before, after]) = &self.gpus {
            writeln!(f, "before on {}, now on {}", before.escape_debug(), after.escape_debug())?;
        }
        writeln!(f, "{:>12} {:>12}       {:>9}", "before", "now", "speed")?;
        for line in &self.lines {
            let Line { what, unit, before, after } = line;
            let (speedup, what) = (line.speedup(), what.escape_debug());
            writeln!(f, "{before:>12.1} {after:>12.1} {unit:<5} {speedup:>8.3}x  {what}")?;
        }
        Ok(())
    }
}

impl Comparison {
    /// The lines as JSON, with their ratios.
    pub fn json(&self) -> Value {
        let line = |line: &Line| {
            let Line { what, unit, before, after } = line;
            let speedup = line.speedup();
            serde_json::json!({
                "what": what, "unit": unit, "before": before, "after": after, "speedup": speedup,
            })
        };
        Value::Array(self.lines.iter().map(line).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn report(gpu: &str, decode: f64) -> Value {
        json!({
            "gpu": gpu, "model": "m", "weight_bytes_per_token": 5, "prompt_tokens": 128, "decode_tokens": 64,
            "rows": [{ "mode": "graph", "prompt_tok_per_s": 100.0, "decode_tok_per_s": decode }],
        })
    }

    fn with_profile(mut report: Value, step: f64, families: &[(&str, f64)]) -> Value {
        let families: Vec<_> =
            families.iter().map(|(name, micros)| json!({ "name": name, "us_added": micros })).collect();
        report["profile"] = json!({ "step_us": step, "families": families });
        report
    }

    #[test]
    fn rates_and_times_become_ratios() {
        let before = with_profile(report("H200", 500.0), 2000.0, &[("head", 100.0), ("gone", 1.0)]);
        let after = with_profile(report("H200", 750.0), 1000.0, &[("new", 2.0), ("head", 80.0)]);
        let comparison = compare(&before, &after, false).unwrap();
        let brief: Vec<_> = comparison.lines.iter().map(|l| (l.what.as_str(), l.speedup())).collect();
        let expected =
            [("graph prompt", 1.0), ("graph decode", 1.5), ("step as a graph", 2.0), ("head", 1.25)];
        assert_eq!(brief, expected);
        let text = comparison.to_string();
        assert!(text.contains("500.0        750.0 tok/s    1.500x  graph decode"), "{text}");
        assert_eq!(comparison.json()[3]["speedup"], 1.25);
    }

    #[test]
    fn another_gpu_is_refused_unless_it_may_be_another() {
        let (before, after) = (report("H100", 500.0), report("H200", 600.0));
        let error = compare(&before, &after, false).unwrap_err();
        let (a, b) = ("H100".to_owned(), "H200".to_owned());
        assert_eq!(error, CompareError::OtherGpu { before: a.clone(), after: b.clone() });
        assert_eq!(compare(&before, &after, true).unwrap().gpus, Some([a, b]));
        let mut unnamed = report("", 1.0);
        unnamed.as_object_mut().unwrap().remove("gpu");
        assert!(compare(&unnamed, &after, false).unwrap_err().to_string().contains("an unnamed GPU"));
    }

    #[test]
    fn another_task_is_refused() {
        let after = report("H200", 600.0);
        let change = |key: &str, value: Value| {
            let mut before = report("H200", 500.0);
            before[key] = value;
            compare(&before, &after, true).unwrap_err()
        };
        assert!(matches!(change("model", json!("n")), CompareError::Other { what: "model", .. }));
        assert!(matches!(change("prompt_tokens", json!(1)), CompareError::Other { .. }));
        assert!(matches!(change("decode_tokens", json!(1)), CompareError::Other { .. }));
        assert!(matches!(change("batch", json!(2)), CompareError::Other { .. }));
        assert!(matches!(change("weight_bytes_per_token", json!(1)), CompareError::Other { .. }));
        assert_eq!(change("rows", json!(7)), CompareError::NotABench { key: "rows" });
        let eager = json!([{ "mode": "eager", "prompt_tok_per_s": 1.0, "decode_tok_per_s": 1.0 }]);
        assert!(matches!(change("rows", eager), CompareError::NothingInCommon { .. }));
        assert_eq!(compare(&json!({}), &after, true), Err(CompareError::NotABench { key: "model" }));
    }

    #[test]
    fn what_is_no_measurement_is_refused_for_what_it_lacks() {
        let after = report("H200", 600.0);
        for other in [json!([]), json!(null), json!({}), json!("text")] {
            let expected = Err(CompareError::NotABench { key: "model" });
            assert_eq!(
                (check(&other), compare(&other, &after, false).map(drop)),
                (expected.clone(), expected)
            );
        }
        for (rate, value) in
            [(json!(0), "0"), (json!(null), "null"), (json!(-1.5), "-1.5"), (json!("x"), "\"x\"")]
        {
            let mut before = report("H200", 500.0);
            before["rows"][0]["decode_tok_per_s"] = rate;
            let (key, value) = ("decode_tok_per_s", value.to_owned());
            assert_eq!(check(&before), Err(CompareError::Rate { key, value }));
        }
        let mut before = report("H200", 500.0);
        before["rows"] = json!([{ "mode": "graph" }]);
        assert_eq!(check(&before), Err(CompareError::NotABench { key: "prompt_tok_per_s" }));
    }
}
