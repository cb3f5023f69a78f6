//! `--timings`: what the time between the start of the process and the first token is spent on.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use runtime::startup::TARGET;
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Collects phases.
#[derive(Debug, Clone)]
pub struct Timings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    origin: Instant,
    /// Whether the system says when the process began; else the origin is the start of `main`.
    from_process: bool,
    phases: Mutex<Vec<Phase>>,
}

/// A part of the time, from the process's start on. Parts may overlap.
#[derive(Debug, Clone, PartialEq)]
struct Phase {
    name: String,
    begin: Duration,
    end: Duration,
    bytes: u64,
    detail: String,
}

impl Timings {
    /// Counts from the start of the process.
    pub fn begin() -> Self {
        let now = Instant::now();
        let origin = process_age().and_then(|age| now.checked_sub(age));
        let phases = Mutex::default();
        let timings =
            Self(Arc::new(Inner { origin: origin.unwrap_or(now), from_process: origin.is_some(), phases }));
        timings.add("program", timings.0.origin, now);
        timings
    }

    /// What puts spans of the phases down here.
    pub fn layer<S: Subscriber + for<'a> LookupSpan<'a>>(&self) -> impl Layer<S> + use<S> {
        Recorder(self.clone()).with_filter(Targets::new().with_target(TARGET, tracing::Level::INFO))
    }

    /// Ends what is counted: the first token is there.
    pub fn first_token(&self) {
        self.add("first token", self.0.origin, Instant::now());
    }

    fn add(&self, name: &str, begin: Instant, end: Instant) {
        let since = |at: Instant| at.saturating_duration_since(self.0.origin);
        let (begin, end) = (since(begin), since(end));
        let (name, detail) = (name.to_owned(), String::new());
        self.0.phases.lock().push(Phase { name, begin, end, bytes: 0, detail });
    }
}

impl fmt::Display for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let from =
            if self.0.from_process { "the start of the process, to 10 ms" } else { "the start of main" };
        writeln!(f, "milliseconds from {from}")?;
        writeln!(f, "{:<16} {:>8} {:>8} {:>8}", "", "from", "to", "took")?;
        let mut phases = self.0.phases.lock().clone();
        phases.sort_by_key(|phase| (phase.begin, phase.end));
        // The sum of it all comes last.
        phases.sort_by_key(|phase| phase.name == "first token");
        for Phase { name, begin, end, bytes, detail } in &phases {
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let took = end.saturating_sub(*begin);
            write!(f, "{name:<16} {:>8.1} {:>8.1} {:>8.1}", ms(*begin), ms(*end), ms(took))?;
            if *bytes > 0 {
                let rate = *bytes as f64 / 1e9 / took.as_secs_f64();
                write!(f, "  {}, {rate:.1} GB/s", super::bytes(*bytes))?;
            }
            if !detail.is_empty() {
                write!(f, "{} {detail}", if *bytes > 0 { ";" } else { " " })?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

struct Recorder(Timings);

/// What a span of a phase carries until it ends.
#[derive(Default)]
struct Open {
    begin: Option<Instant>,
    bytes: u64,
    detail: String,
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, _: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(Open::default());
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            values.record(open);
        }
    }

    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(open) = span.extensions_mut().get_mut::<Open>()
        {
            open.begin.get_or_insert_with(Instant::now);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let end = Instant::now();
        let Some(span) = context.span(&id) else { return };
        let Some(Open { begin: Some(begin), bytes, detail }) = span.extensions_mut().remove() else { return };
        let since = |at: Instant| at.saturating_duration_since(self.0.0.origin);
        let (name, begin, end) = (span.name().to_owned(), since(begin), since(end));
        self.0.0.phases.lock().push(Phase { name, begin, end, bytes, detail });
    }
}

impl Visit for Open {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "bytes" {
            self.bytes = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "detail" {
            value.clone_into(&mut self.detail);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn fmt::Debug) {}
}

/// How long ago the process began. Linux counts it in ticks of a hundredth of a second since the machine's start.
#[cfg(target_os = "linux")]
fn process_age() -> Option<Duration> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let began = began(&stat, rustix::param::clock_ticks_per_second())?;
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let now = Duration::new(u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?);
    now.checked_sub(began)
}

#[cfg(not(target_os = "linux"))]
fn process_age() -> Option<Duration> {
    None
}

/// When a process began, from the machine's start, of what `/proc/PID/stat` says (proc_pid_stat(5)): field 22. The
/// second field, the program's name in parentheses, may hold anything.
#[cfg(target_os = "linux")]
fn began(stat: &str, ticks_per_second: u64) -> Option<Duration> {
    let after_name = stat.rsplit_once(')')?.1;
    let ticks: u64 = after_name.split_whitespace().nth(22 - 3)?.parse().ok()?;
    (ticks_per_second > 0).then(|| Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt as _;

    #[cfg(target_os = "linux")]
    #[test]
    fn the_start_is_field_22_whatever_the_name() {
        let stat =
            "42 (a) b (c) S 1 42 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 12345 1000 1 18446744073709551615";
        assert_eq!(began(stat, 100), Some(Duration::from_millis(123_450)));
        assert_eq!((began("42 a S 1", 100), began("1 (a) S 2", 100), began(stat, 0)), (None, None, None));
        assert!(process_age().is_some_and(|age| age < Duration::from_secs(3600)));
    }

    #[test]
    fn spans_of_the_target_are_phases() {
        let timings = Timings::begin();
        let subscriber = tracing_subscriber::registry().with(timings.layer());
        tracing::subscriber::with_default(subscriber, || {
            let span = tracing::info_span!(target: "startup", "weights", bytes = tracing::field::Empty,
                detail = tracing::field::Empty);
            span.record("bytes", 5_000_000_000u64);
            span.record("detail", "of a file");
            span.in_scope(|| std::thread::sleep(Duration::from_millis(5)));
            drop(span);
            tracing::info_span!(target: "other", "elsewhere").in_scope(|| ());
        });
        timings.first_token();
        let phases = timings.0.phases.lock().clone();
        let names: Vec<_> = phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(names, ["program", "weights", "first token"]);
        let weights = &phases[1];
        assert!(weights.end - weights.begin >= Duration::from_millis(5), "{weights:?}");
        assert_eq!((weights.bytes, weights.detail.as_str()), (5_000_000_000, "of a file"));
        let table = timings.to_string();
        let lines: Vec<&str> = table.lines().collect();
        assert_eq!(lines.len(), 5, "{table}");
        assert!(lines[3].starts_with("weights ") && lines[3].contains("  5000.0 MB, "), "{table}");
        assert!(lines[3].ends_with("GB/s; of a file") && lines[4].starts_with("first token"), "{table}");
    }
}
