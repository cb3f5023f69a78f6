//! One failure after another: what a program makes of each, and that it runs again.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use gpu_driver::sys::CUresult;
use gpu_driver_sim::Fault;

use crate::program::{Expected, Phase, Program, new_sim};

/// A call that is to fail.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    pub phase: Phase,
    pub call: &'static str,
    pub nth: u64,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "call {} of {}, {:?}", self.nth, self.call, self.phase)
    }
}

/// Calls whose failure need not show: the engine asks again later, or does without.
const DONE_WITHOUT: [&str; 4] = [
    // Whether a copy is over: then it counts as under way.
    "cuEventQuery",
    // Whether the context is current, before that question.
    "cuCtxGetCurrent",
    // Without an event after a copy, the copy is waited for.
    "cuEventCreate",
    "cuEventRecord",
];

/// What became of a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The program got an error and could not go on.
    Stopped,
    /// A step failed, and then succeeded.
    Repeated,
    /// The graph was given up.
    Eager,
    /// A destructor met it.
    Dropped,
    /// It made no difference.
    DoneWithout,
    /// The call was not made this time.
    NotMade,
}

/// Runs the program with one failure, and then without on the same driver.
fn fail_once(
    program: &Program,
    expected: &Expected,
    failure: Failure,
    code: CUresult,
) -> Result<Outcome, String> {
    let sim = new_sim();
    sim.inject(Fault::new(failure.call, failure.nth, code));
    let run = program.run(&sim);
    let is_named = |text: &String| text.contains(failure.call) && text.contains(code.name().unwrap_or("?"));
    let fail = |what: &str| Err(format!("{what}: {run:?}"));
    let report = sim.report();
    if !report.leaks.is_empty() || !report.live.is_empty() || !report.findings.is_empty() {
        return fail(&format!("{report}\nalive: {:?}\n", report.live));
    }
    let complete = run.tokens == expected.tokens;
    if !complete && run.tokens.len() == expected.tokens.len() {
        return fail("other tokens");
    }
    let outcome = if !sim.pending_faults().is_empty() {
        // How often is asked whether copies are over depends on how fast they are.
        let depends = failure.call.starts_with("cuEvent") || failure.call == "cuCtxGetCurrent";
        if !depends || !complete || !run.errors.is_empty() {
            return fail("the call was not made");
        }
        Outcome::NotMade
    } else if !run.errors.is_empty() {
        if !run.errors.iter().all(is_named) && !code.is_sticky() {
            return fail("an error does not name the call");
        }
        if !run.errors.iter().any(is_named) {
            return fail("no error names the call");
        }
        if complete { Outcome::Repeated } else { Outcome::Stopped }
    } else if !complete {
        return fail("incomplete without an error");
    } else if let Some(reason) = &run.eager {
        if !is_named(reason) {
            return fail("the reason for no graph does not name the call");
        }
        Outcome::Eager
    } else if run.dropped.iter().any(is_named) {
        Outcome::Dropped
    } else if DONE_WITHOUT.contains(&failure.call) {
        Outcome::DoneWithout
    } else {
        return fail("the failure disappeared");
    };
    sim.clear_faults();
    let again = program.run(&sim);
    if again.tokens != expected.tokens || !again.errors.is_empty() || !again.dropped.is_empty() {
        return Err(format!("after {run:?}\nit does not run again: {again:?}"));
    }
    let report = sim.report();
    if !report.leaks.is_empty() || !report.live.is_empty() || !report.findings.is_empty() {
        return Err(format!("the second run is not clean: {report}\nalive: {:?}\n", report.live));
    }
    Ok(outcome)
}

/// Fails one call after another, on all cores. `choose` says which: see [`Expected::occurrences`].
pub fn fail_each(
    eager: bool,
    code: CUresult,
    choose: impl Fn(&[u64], usize) -> BTreeSet<u64>,
) -> BTreeMap<Outcome, usize> {
    let start = Instant::now();
    let program = Arc::new(Program::new(eager));
    let expected = Arc::new(on_one_thread(|| Expected::new(&program)));
    let failures = Arc::new(expected.occurrences(choose));
    let next = Arc::new(AtomicUsize::new(0));
    let (sender, outcomes) = mpsc::channel();
    for _ in 0..thread::available_parallelism().map_or(2, usize::from).min(8) {
        let (program, expected) = (Arc::clone(&program), Arc::clone(&expected));
        let (failures, next, sender) = (Arc::clone(&failures), Arc::clone(&next), sender.clone());
        thread::spawn(move || {
            on_one_thread(|| {
                while let Some(&failure) = failures.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = || fail_once(&program, &expected, failure, code);
                    let outcome = catch_unwind(AssertUnwindSafe(run));
                    let outcome = outcome.unwrap_or_else(|_| Err("a panic".to_owned()));
                    if sender.send((failure, outcome)).is_err() {
                        return;
                    }
                }
            });
        });
    }
    drop(sender);
    let mut counts = BTreeMap::new();
    let mut wrong = Vec::new();
    for ended in 0..failures.len() {
        // A program that hangs cannot be stopped, but the test can fail.
        let Ok((failure, outcome)) = outcomes.recv_timeout(Duration::from_secs(120)) else {
            panic!("{ended} of {} programs ended, then nothing for two minutes", failures.len())
        };
        match outcome {
            Ok(outcome) => *counts.entry(outcome).or_default() += 1,
            Err(what) => wrong.push(format!("{failure}: {what}")),
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), failures.len(), wrong.join("\n"));
    let (tried, all) = (failures.len(), expected.n_calls());
    println!("{code:?}, eager: {eager}, {tried} of {all} calls: {counts:?}, {:.0?}", start.elapsed());
    counts
}

/// Runs `work` such that kernels are compiled on this thread, one after the other, in the same order each time.
fn on_one_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let run = || {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
            pool.expect("a thread joins one pool").install(work)
        };
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Of this many calls of a function in a phase, [`telling`] takes one, whatever its place.
const SAMPLED: usize = 61;

/// The first of a function's calls in a phase, the second, one in the middle, the last, and a sample of the others.
/// `turn` chooses the sample.
pub fn telling(nths: &[u64], turn: usize) -> BTreeSet<u64> {
    let last = nths.len() - 1;
    let sampled = (turn % SAMPLED..nths.len()).step_by(SAMPLED);
    [0, 1.min(last), last / 2, last].into_iter().chain(sampled).map(|index| nths[index]).collect()
}

/// One of a function's calls in a phase. `turn` chooses it.
pub fn any(nths: &[u64], turn: usize) -> BTreeSet<u64> {
    BTreeSet::from([nths[turn % nths.len()]])
}

/// All of a function's calls in a phase.
pub fn every(nths: &[u64], _: usize) -> BTreeSet<u64> {
    nths.iter().copied().collect()
}
