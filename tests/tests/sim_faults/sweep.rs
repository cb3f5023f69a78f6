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

use crate::program::{Expected, Program, Site, new_sim};

/// A call that is to fail.
#[derive(Debug, Clone, Copy)]
pub struct Failure {
    pub site: Site,
    /// Whether the program then runs once more on the same driver, without a failure.
    pub again: bool,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Site { phase, after, call, nth } = self.site;
        write!(f, "call {nth} of {call}, after {after}, {phase:?}")
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

/// Runs the program with one failure, and then perhaps without on the same driver.
fn fail_once(
    program: &Program,
    expected: &Expected,
    failure: Failure,
    code: CUresult,
) -> Result<Outcome, String> {
    let sim = new_sim();
    let Site { call, nth, .. } = failure.site;
    sim.inject(Fault::new(call, nth, code));
    let run = program.run(&sim);
    let is_named = |text: &String| text.contains(call) && text.contains(code.name().unwrap_or("?"));
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
        let depends = call.starts_with("cuEvent") || call == "cuCtxGetCurrent";
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
    } else if DONE_WITHOUT.contains(&call) {
        Outcome::DoneWithout
    } else {
        return fail("the failure disappeared");
    };
    if !failure.again {
        return Ok(outcome);
    }
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

/// Fails one call after another, on all cores. `choose` says which of all: see [`places`].
pub fn fail_each(
    eager: bool,
    code: CUresult,
    choose: impl Fn(&[Site], usize) -> Vec<Failure>,
) -> BTreeMap<Outcome, usize> {
    let start = Instant::now();
    let program = Arc::new(Program::new(eager));
    let expected = Arc::new(on_one_thread(|| Expected::new(&program)));
    let sites = expected.sites();
    let failures = Arc::new(choose(&sites, sites.len()));
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
    let (tried, all) = (failures.len(), sites.len());
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

/// Of this many calls, [`places`] takes one, whatever its place.
const SAMPLED: usize = 61;

/// The first call at each place of the program, as far as a function and the call before it tell places apart, and a
/// sample of all calls. `turn` chooses the sample: another one whenever the program comes to make more calls or fewer,
/// so that in time every call is tried, and each version of the program is tried at the same ones.
pub fn places(sites: &[Site], turn: usize) -> Vec<Failure> {
    let mut seen = BTreeSet::new();
    let chosen = sites.iter().enumerate().filter(|(index, site)| {
        let new = seen.insert((site.after, site.call));
        new || index % SAMPLED == turn % SAMPLED
    });
    sampled(chosen.map(|(_, site)| site))
}

/// One call of each function in each phase. `turn` chooses which.
pub fn one_of_each_phase(sites: &[Site], turn: usize) -> Vec<Failure> {
    one_of_each(sites, turn, |site| (site.phase, site.call))
}

/// One call of each function. `turn` chooses which.
pub fn one_of_each_function(sites: &[Site], turn: usize) -> Vec<Failure> {
    one_of_each(sites, turn, |site| site.call)
}

fn one_of_each<K: Ord>(sites: &[Site], turn: usize, kind: impl Fn(&Site) -> K) -> Vec<Failure> {
    let mut kinds: BTreeMap<K, Vec<&Site>> = BTreeMap::new();
    for site in sites {
        kinds.entry(kind(site)).or_default().push(site);
    }
    sampled(kinds.values().map(|alike| alike[turn % alike.len()]))
}

/// After the first failure of each function the program runs once more.
fn sampled<'a>(sites: impl Iterator<Item = &'a Site>) -> Vec<Failure> {
    let mut seen = BTreeSet::new();
    sites.map(|site| Failure { site: *site, again: seen.insert(site.call) }).collect()
}

/// All calls.
pub fn every(sites: &[Site], _: usize) -> Vec<Failure> {
    sites.iter().map(|site| Failure { site: *site, again: true }).collect()
}
