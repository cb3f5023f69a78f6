//! Every driver call that loading a model and generating makes fails once: the error names the call, nothing leaks,
//! nothing hangs, and the process generates again afterwards.

#![allow(clippy::print_stdout)] // How many calls failed, for whoever reads the test's output.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use gpu_driver::sys::CUresult;
use gpu_driver::{Context, Driver};
use gpu_driver_sim::{Call, Fault, Sanitize, SimConfig, SimDriver};
use runtime::cuda::CudaDecoder;
use runtime::decoder::{Decoder as _, Output, Row, StepOutput};
use runtime::error::chain;
use runtime::{EngineOptions, Model};
use tests::{data, gpu, sim};

/// A driver on which the same program makes the same calls in the same order.
fn new_sim() -> SimDriver {
    let config = SimConfig { threads: Some(1), sanitize: Sanitize::NONE, ..SimConfig::default() };
    SimDriver::new(config).unwrap_or_else(|error| panic!("{error}"))
}

fn model() -> Model {
    data::model("synthetic/tiny-q4_k_m.gguf")
}

/// A program that generates a few tokens.
struct Program {
    model: Model,
    options: EngineOptions,
}

/// Where the program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Opening,
    Loading,
    /// The step with this index.
    Step(usize),
    Ending,
}

/// What came of a run.
#[derive(Debug, Default)]
struct Run {
    tokens: Vec<u32>,
    /// The errors that the program met, as text.
    errors: Vec<String>,
    /// Why steps ran eagerly, if not because they were to.
    eager: Option<String>,
    /// What destructors met.
    dropped: Vec<String>,
    /// How many calls had been made as each phase began.
    began: Vec<(Phase, usize)>,
}

impl Program {
    fn new(eager: bool) -> Self {
        let model = model();
        let options = EngineOptions { eager, ..gpu::options(&model, 1, 4) };
        Self { model, options }
    }

    /// Runs until the end, or the first error that does not go away when a step is asked for again.
    fn run(&self, sim: &SimDriver) -> Run {
        let mut run = Run::default();
        let driver = sim.driver().unwrap_or_else(|error| panic!("{error}"));
        run.began.push((Phase::Opening, sim.trace().len()));
        match driver.context(0) {
            Ok(context) => self.run_in(&context, sim, &mut run),
            Err(error) => run.errors.push(chain(&error)),
        }
        run.dropped = dropped(&driver);
        run
    }

    fn run_in(&self, context: &Context, sim: &SimDriver, run: &mut Run) {
        run.began.push((Phase::Loading, sim.trace().len()));
        let mut decoder = match CudaDecoder::with_context(&self.model, &self.options, context) {
            Ok(decoder) => decoder,
            Err(error) => return run.errors.push(error.chain()),
        };
        let mut rows = gpu::rows(0, 0, &[7, 8, 9]);
        for step in 0..3 {
            run.began.push((Phase::Step(step), sim.trace().len()));
            let token = match take_step(&mut decoder, &rows, &mut run.errors) {
                Some(token) => token,
                None => return,
            };
            run.tokens.push(token);
            rows = gpu::rows(0, 3 + step as u32, &[token]);
        }
        if !self.options.eager {
            run.eager = decoder.eager_reason().map(str::to_owned);
        }
        run.began.push((Phase::Ending, sim.trace().len()));
    }
}

/// The token of a step. Where the step fails, it is asked for once more.
fn take_step(decoder: &mut CudaDecoder, rows: &[Row], errors: &mut Vec<String>) -> Option<u32> {
    for _ in 0..2 {
        match decoder.step(rows, Output::LastArgmax) {
            Ok(StepOutput::Argmax(tokens)) => return Some(tokens[0]),
            Ok(other) => panic!("asked for a token, got {other:?}"),
            Err(error) => errors.push(error.chain()),
        }
    }
    None
}

fn dropped(driver: &Driver) -> Vec<String> {
    driver.take_drop_errors().iter().map(|dropped| format!("{}: {}", dropped.origin, dropped.error)).collect()
}

/// A run on a driver without faults.
struct Expected {
    tokens: Vec<u32>,
    calls: Vec<Call>,
    began: Vec<(Phase, usize)>,
}

impl Expected {
    fn new(program: &Program) -> Self {
        let sim = new_sim();
        let run = program.run(&sim);
        assert_eq!((run.errors.as_slice(), run.dropped.as_slice(), run.eager), (&[][..], &[][..], None));
        assert_eq!(run.tokens.len(), 3);
        sim::check_clean(&sim);
        Self { tokens: run.tokens, calls: sim.trace(), began: run.began }
    }

    fn phases(&self) -> impl Iterator<Item = (Phase, Range<usize>)> + '_ {
        let ends = self.began.iter().skip(1).map(|(_, begin)| *begin).chain([self.calls.len()]);
        self.began.iter().zip(ends).map(|((phase, begin), end)| (*phase, *begin..end))
    }

    /// The occurrences of each function in each phase of which `choose` says that they should fail: function and which
    /// of its calls, from 1.
    fn occurrences(&self, choose: impl Fn(&[u64]) -> BTreeSet<u64>) -> Vec<Failure> {
        let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
        let mut all = Vec::new();
        for (phase, calls) in self.phases() {
            let mut here: BTreeMap<&'static str, Vec<u64>> = BTreeMap::new();
            for call in &self.calls[calls] {
                let count = counts.entry(call.name).or_default();
                *count += 1;
                here.entry(call.name).or_default().push(*count);
            }
            for (call, nths) in here {
                all.extend(choose(&nths).into_iter().map(|nth| Failure { phase, call, nth }));
            }
        }
        all
    }
}

/// A call that is to fail.
#[derive(Debug, Clone, Copy)]
struct Failure {
    phase: Phase,
    call: &'static str,
    nth: u64,
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
enum Outcome {
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
    Ok(outcome)
}

/// Fails one call after another, on all cores.
fn fail_each(
    eager: bool,
    code: CUresult,
    choose: impl Fn(&[u64]) -> BTreeSet<u64>,
) -> BTreeMap<Outcome, usize> {
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
    println!("{code:?}, eager: {eager}, {} calls: {counts:?}", failures.len());
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

/// The first of a function's calls in a phase, the second, one in the middle, and the last.
fn telling(nths: &[u64]) -> BTreeSet<u64> {
    let last = nths.len() - 1;
    [0, 1.min(last), last / 2, last].into_iter().map(|index| nths[index]).collect()
}

fn middle(nths: &[u64]) -> BTreeSet<u64> {
    BTreeSet::from([nths[nths.len() / 2]])
}

#[test]
fn calls_of_the_graph_engine_fail_one_by_one() {
    let counts = fail_each(false, CUresult::ERROR_UNKNOWN, telling);
    for outcome in [Outcome::Stopped, Outcome::Repeated, Outcome::Eager, Outcome::Dropped] {
        assert!(counts.contains_key(&outcome), "{outcome:?}: {counts:?}");
    }
}

#[test]
fn calls_of_the_eager_engine_fail_one_by_one() {
    let counts = fail_each(true, CUresult::ERROR_OUT_OF_MEMORY, telling);
    for outcome in [Outcome::Stopped, Outcome::Repeated, Outcome::Dropped] {
        assert!(counts.contains_key(&outcome), "{outcome:?}: {counts:?}");
    }
}

/// After these codes the context is lost, but not the process: another decoder gets another context.
#[test]
fn calls_that_lose_the_context_fail_one_by_one() {
    for eager in [false, true] {
        let counts = fail_each(eager, CUresult::ERROR_ILLEGAL_ADDRESS, middle);
        assert!(counts[&Outcome::Stopped] > counts.len(), "{counts:?}");
        assert!(!counts.contains_key(&Outcome::Repeated), "{counts:?}");
    }
}

/// A kernel that dies takes the context with it: the step that waits for it says so, and so does every later call.
#[test]
fn a_kernel_that_dies_ends_the_decoder_and_not_the_process() {
    for eager in [false, true] {
        let program = Program::new(eager);
        let expected = program.run(&new_sim()).tokens;
        let sim = new_sim();
        let context = sim::context(&sim);
        let mut decoder = CudaDecoder::with_context(&program.model, &program.options, &context).unwrap();
        gpu::step(&mut decoder, &gpu::rows(0, 0, &[7, 8, 9]), Output::LastArgmax);
        sim.inject(Fault::new("launch", 20, CUresult::ERROR_LAUNCH_FAILED));
        let row = gpu::rows(0, 3, &expected[..1]);
        for attempt in 0..3 {
            let error = decoder.step(&row, Output::LastArgmax).unwrap_err().chain();
            let named = error.contains("cuStreamSynchronize returned CUDA_ERROR_LAUNCH_FAILED");
            assert!(named && error.contains("the context is lost"), "{error}");
            assert_eq!(error.contains("is poisoned"), attempt > 0, "{error}");
        }
        // As long as somebody holds the lost context there is no other.
        assert!(CudaDecoder::with_context(&program.model, &program.options, &sim::context(&sim)).is_err());
        drop((decoder, context));
        let report = sim.report();
        assert!(report.leaks.is_empty() && report.live.is_empty(), "{report}");
        let again = program.run(&sim);
        assert_eq!((again.tokens, again.errors), (expected, vec![]), "eager: {eager}");
    }
}

/// What a failed step has queued reads that step's tokens and positions, not those of the next step.
#[test]
fn a_step_after_one_that_failed_does_not_overwrite_its_state() {
    let model = model();
    for eager in [false, true] {
        let options = EngineOptions { eager, ..gpu::options(&model, 2, 8) };
        let expected = sim::on_decoder(&sim::driver(0, Sanitize::ALL), &model, &options, |decoder| {
            gpu::argmax(decoder, &gpu::rows(1, 0, &[9]), Output::LastArgmax)
        });
        let driver = sim::driver(0, Sanitize::ALL);
        sim::on_decoder(&driver, &model, &options, |decoder| {
            gpu::step(decoder, &gpu::rows(0, 0, &[1, 2, 3]), Output::LastArgmax);
            driver.inject(Fault::new("cuStreamSynchronize", 1, CUresult::ERROR_UNKNOWN));
            let failed = decoder.step(&gpu::rows(0, 3, &[4, 5]), Output::LastArgmax).unwrap_err();
            assert!(failed.chain().contains("cuStreamSynchronize"), "{}", failed.chain());
            assert_eq!(gpu::argmax(decoder, &gpu::rows(1, 0, &[9]), Output::LastArgmax), expected);
        });
    }
}

/// At any size of the device's memory the engine either works, or says what is missing and leaves nothing behind.
#[test]
fn memory_that_runs_out_is_an_error_and_can_be_given_back() {
    let program = Program::new(false);
    let sim = new_sim();
    let expected = program.run(&sim).tokens;
    let most = sim.report().peak_memory;
    for limit in [0, 1, 4096, most / 2, most - 1, most] {
        sim.set_memory_limit(limit);
        let run = program.run(&sim);
        if limit < most {
            assert!(run.errors.len() == 1 && run.tokens.is_empty(), "{limit} of {most} bytes: {run:?}");
            let free = format!("{limit} are free");
            assert!(run.errors[0].contains(&free), "{limit} of {most} bytes: {}", run.errors[0]);
        } else {
            assert_eq!((run.tokens, run.errors), (expected.clone(), vec![]));
        }
        sim::check_clean(&sim);
    }
}

/// Memory that another program takes between the look at what is free and the allocations.
#[test]
fn allocations_that_fail_are_named() {
    let program = Program::new(false);
    let sim = new_sim();
    let expected = program.run(&sim).tokens;
    for (nth, name) in (1..).zip(["weights", "caches", "state", "workspace"]) {
        sim.inject(Fault::new("cuMemAlloc", nth, CUresult::ERROR_OUT_OF_MEMORY));
        let run = program.run(&sim);
        let error = run.errors.first().expect("an error");
        let named = error.contains(&format!("for {name}")) && error.contains("CUDA_ERROR_OUT_OF_MEMORY");
        assert!(named, "{error}");
        sim::check_clean(&sim);
    }
    assert_eq!(program.run(&sim).tokens, expected);
}

/// Logits take more room than tokens. Where it is not given, the step can be asked for again, and others still work.
#[test]
fn room_for_logits_that_is_not_given_is_asked_for_again() {
    let model = model();
    let options = gpu::options(&model, 1, 4);
    let rows = gpu::rows(0, 0, &[7, 8, 9]);
    let expected = sim::on_decoder(&new_sim(), &model, &options, |decoder| {
        gpu::logits(decoder, &rows, Output::AllLogits)
    });
    let driver = new_sim();
    sim::on_decoder(&driver, &model, &options, |decoder| {
        let token = gpu::argmax(decoder, &rows, Output::LastArgmax);
        driver.inject(Fault::new("cuMemHostAlloc", 1, CUresult::ERROR_OUT_OF_MEMORY));
        let error = decoder.step(&rows, Output::AllLogits).unwrap_err().chain();
        let named = error.contains("host results") && error.contains("cuMemHostAlloc");
        assert!(named, "{error}");
        assert_eq!(gpu::argmax(decoder, &rows, Output::LastArgmax), token);
        assert!(gpu::logits(decoder, &rows, Output::AllLogits) == expected);
    });
}
