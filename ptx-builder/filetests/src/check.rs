//! Runs a file on a runner, and compares.

use std::collections::HashMap;
use std::fmt::Write as _;

use crate::data::{Data, Elem};
use crate::expr::Expr;
use crate::format::{Header, Item, ItemKind, Run, Tolerance};
use crate::reference::{Names, evaluate};
use crate::runner::{Launched, Request, RunError, Runner};

/// What a launch left in memory, for comparing one runner with another.
#[derive(Clone, PartialEq, Debug)]
pub struct Output {
    /// The kernel, the number of the launch in the file and the parameter or variable.
    pub name: String,
    /// Its contents.
    pub data: Data,
    /// Whether two runners must agree on every bit.
    pub exact: bool,
}

/// Loads the module and runs the launches of its header, and gives what they left in memory.
///
/// # Errors
/// Every difference from what the header expects, one a line, or what kept the module from running.
pub fn check(text: &str, runs: &[Run], runner: &mut dyn Runner) -> Result<Vec<Output>, String> {
    runner.load(text).map_err(|e| e.to_string())?;
    let mut checker = Checker { runner, kept: HashMap::new(), outputs: Vec::new(), failures: String::new() };
    for (index, run) in runs.iter().enumerate() {
        if let Err(message) = checker.run(index, run) {
            checker.fail(run.line, &message);
        }
    }
    if checker.failures.is_empty() { Ok(checker.outputs) } else { Err(checker.failures) }
}

/// Runs [`check`] on a whole file.
///
/// # Errors
/// As [`check`]; also for a header that is not understood or has nothing to run.
pub fn check_file(text: &str, runner: &mut dyn Runner) -> Result<Vec<Output>, String> {
    match Header::parse(text).map_err(|e| e.to_string())? {
        Header::Runs(runs) => check(text, &runs, runner),
        _ => Err("the file is refused, not run".into()),
    }
}

struct Checker<'a> {
    runner: &'a mut dyn Runner,
    /// Buffers by name: address, type and length, and contents if they are known.
    kept: HashMap<String, Kept>,
    outputs: Vec<Output>,
    failures: String,
}

#[derive(Clone)]
struct Kept {
    address: u64,
    elem: Elem,
    len: usize,
    contents: Option<Data>,
}

impl Checker<'_> {
    fn fail(&mut self, line: u32, message: &str) {
        // Writing to a string cannot fail.
        let _ = writeln!(self.failures, "line {line}: {message}");
    }

    fn run(&mut self, index: usize, run: &Run) -> Result<(), String> {
        let mut names = Names::new();
        let mut params = Vec::new();
        let mut places: Vec<Option<Kept>> = Vec::new();
        for item in &run.items {
            let at = |e: String| format!("{}: {e}", item.name);
            let place = self.prepare(item, &mut names, &mut params).map_err(at)?;
            places.push(place);
        }
        let request = Request {
            kernel: &run.kernel,
            grid: run.grid,
            block: run.block,
            cluster: run.cluster,
            shared: run.shared,
            params: &params,
        };
        let launched = self.runner.launch(&request).map_err(|e| e.to_string())?;
        self.check_report(run, &launched);
        if launched.fault.is_some() {
            return Ok(());
        }
        for (item, place) in run.items.iter().zip(places) {
            let Some(place) = place else { continue };
            if let Err(message) = self.compare(index, run, item, &names, place) {
                self.fail(item.line, &format!("{}, {}: {message}", run.kernel, item.name));
            }
        }
        Ok(())
    }

    /// Puts an item where the kernel finds it; gives its place in memory, if it has one.
    fn prepare(
        &mut self,
        item: &Item,
        names: &mut Names,
        params: &mut Vec<Vec<u8>>,
    ) -> Result<Option<Kept>, String> {
        let runner_error = |e: RunError| e.to_string();
        let contents = |elem, len, names: &Names| {
            item.before.as_ref().map(|e| evaluate(e, elem, len, names)).transpose()
        };
        let place = match &item.kind {
            ItemKind::Scalar(elem) => {
                let data = contents(*elem, 1, names)?.ok_or("no value")?;
                params.push(data.to_bytes());
                names.insert(item.name.clone(), data);
                return Ok(None);
            }
            ItemKind::Struct(fields) => {
                params.push(structure(item, fields, names)?);
                return Ok(None);
            }
            ItemKind::Buffer(elem, len) => Kept {
                address: self.runner.alloc((len * elem.bytes()) as u64).map_err(runner_error)?,
                elem: *elem,
                len: *len,
                contents: contents(*elem, *len, names)?,
            },
            ItemKind::Variable(elem, len) => {
                let (address, bytes) = self.runner.variable(&item.name).map_err(runner_error)?;
                if bytes != (len * elem.bytes()) as u64 {
                    return Err(format!("the variable has {bytes} bytes"));
                }
                let mut bytes = vec![0; len * elem.bytes()];
                self.runner.read(address, &mut bytes).map_err(runner_error)?;
                let data = contents(*elem, *len, names)?;
                let old = Data::from_bytes(*elem, &bytes);
                Kept { address, elem: *elem, len: *len, contents: Some(data.unwrap_or(old)) }
            }
            ItemKind::Keep => self.kept.get(&item.name).cloned().ok_or("no earlier launch has it")?,
        };
        if let (Some(data), true) = (&place.contents, item.before.is_some()) {
            self.runner.write(place.address, &data.to_bytes()).map_err(runner_error)?;
        }
        if let Some(data) = &place.contents {
            names.insert(item.name.clone(), data.clone());
        }
        if !matches!(item.kind, ItemKind::Variable(..)) {
            params.push(place.address.to_le_bytes().to_vec());
        }
        self.kept.insert(item.name.clone(), place.clone());
        Ok(Some(place))
    }

    fn check_report(&mut self, run: &Run, launched: &Launched) {
        if let Some(expected) = &run.prints {
            match &launched.printed {
                Some(printed) if printed != expected => {
                    self.fail(run.line, &format!("prints {printed:?}, not {expected:?}"));
                }
                _ => {}
            }
        }
        let Some(findings) = &launched.findings else { return };
        let mut expected: Vec<&str> = run.finds.iter().chain(&run.fault).map(String::as_str).collect();
        expected.sort_unstable();
        expected.dedup();
        let mut found: Vec<&str> = findings.iter().map(|f| f.kind.as_str()).collect();
        found.sort_unstable();
        found.dedup();
        if expected != found {
            let texts: Vec<&str> = findings.iter().map(|f| f.text.as_str()).collect();
            let message = format!(
                "{}: expected findings {expected:?}, not {found:?}: {}",
                run.kernel,
                texts.join("; ")
            );
            self.fail(run.line, &message);
        }
        if launched.fault != run.fault {
            self.fail(
                run.line,
                &format!("{}: expected the fault {:?}, not {:?}", run.kernel, run.fault, launched.fault),
            );
        }
    }

    fn compare(
        &mut self,
        index: usize,
        run: &Run,
        item: &Item,
        names: &Names,
        place: Kept,
    ) -> Result<(), String> {
        let mut bytes = vec![0; place.len * place.elem.bytes()];
        self.runner.read(place.address, &mut bytes).map_err(|e| e.to_string())?;
        let mut got = Data::from_bytes(place.elem, &bytes);
        if let Some(kept) = self.kept.get_mut(&item.name) {
            kept.contents = Some(got.clone());
        }
        if matches!(&item.after, Some(Expr::Call(name, _)) if name == "anything") {
            return Ok(());
        }
        let mut want = match &item.after {
            Some(expr) => evaluate(expr, place.elem, place.len, names)?,
            // What a launch does not say to change stays as it was, if that is known.
            None => match place.contents {
                Some(before) => before,
                None => return Ok(()),
            },
        };
        if item.unordered {
            got.bits.sort_unstable();
            want.bits.sort_unstable();
        }
        let exact = item.tolerance == Tolerance::Exact;
        self.outputs.push(Output {
            name: format!("{} {index} {}", run.kernel, item.name),
            data: got.clone(),
            exact,
        });
        let wrong: Vec<usize> = (0..got.len())
            .filter(|&i| !agrees(place.elem, got.bits[i], want.bits[i], item.tolerance))
            .collect();
        if wrong.is_empty() {
            return Ok(());
        }
        let mut message = format!("{} of {} elements are wrong", wrong.len(), got.len());
        for &i in wrong.iter().take(4) {
            let _ = write!(message, "; [{i}] is {}, not {}", got.show(i), want.show(i));
        }
        Err(message)
    }
}

/// The bytes of a structure, its members aligned as in C.
fn structure(item: &Item, fields: &[(Elem, usize)], names: &Names) -> Result<Vec<u8>, String> {
    let Some(Expr::List(values)) = &item.before else {
        return Err("a structure's value is a list".into());
    };
    if values.len() != fields.len() {
        return Err(format!("{} values for {} members", values.len(), fields.len()));
    }
    let mut bytes = Vec::new();
    let mut align = 1;
    for (&(elem, len), value) in fields.iter().zip(values) {
        align = align.max(elem.bytes());
        bytes.resize(bytes.len().next_multiple_of(elem.bytes()), 0);
        bytes.extend(evaluate(value, elem, len, names)?.to_bytes());
    }
    bytes.resize(bytes.len().next_multiple_of(align), 0);
    Ok(bytes)
}

fn agrees(elem: Elem, got: u64, want: u64, tolerance: Tolerance) -> bool {
    if got == want {
        return true;
    }
    if !elem.is_float() {
        let (got, want) = (elem.int(got), elem.int(want));
        return match tolerance {
            Tolerance::Exact => false,
            Tolerance::Within(t) => (got - want).abs() as f64 <= t * (1.0 + want.abs() as f64),
            Tolerance::Ulps(n) => (got - want).unsigned_abs() <= n.into(),
        };
    }
    let (x, y) = (elem.f64(got), elem.f64(want));
    if x.is_nan() || y.is_nan() {
        return x.is_nan() && y.is_nan();
    }
    match tolerance {
        Tolerance::Exact => false,
        // An infinity agrees with itself only, which the comparison of bits has seen.
        Tolerance::Within(t) => (x - y).abs() <= t * (1.0 + y.abs()) && x.is_finite() && y.is_finite(),
        Tolerance::Ulps(n) => {
            let rank = |bits: u64| {
                let sign = 1u64 << (elem.bits() - 1);
                if bits & sign != 0 { -i128::from(bits & !sign) } else { i128::from(bits) }
            };
            (rank(got) - rank(want)).unsigned_abs() <= n.into()
        }
    }
}
