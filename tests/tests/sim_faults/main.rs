//! Every driver call that loading a model and generating makes fails once: the error names the call, nothing leaks,
//! nothing hangs, and the process generates again afterwards.

#![allow(clippy::print_stdout)] // How many calls failed, for whoever reads the test's output.

mod program;
mod sweep;

use gpu_driver::sys::CUresult;
use gpu_driver_sim::{Fault, Sanitize};
use runtime::EngineOptions;
use runtime::cuda::CudaDecoder;
use runtime::decoder::{Decoder as _, Output};
use tests::{gpu, sim};

use program::{Program, model, new_sim};
use sweep::{Outcome, every, fail_each, one_of_each_function, one_of_each_phase, places};

#[test]
fn calls_of_the_graph_engine_fail_one_by_one() {
    let counts = fail_each(false, CUresult::ERROR_UNKNOWN, places);
    for outcome in [Outcome::Stopped, Outcome::Repeated, Outcome::Eager, Outcome::Dropped] {
        assert!(counts.contains_key(&outcome), "{outcome:?}: {counts:?}");
    }
}

#[test]
fn calls_of_the_eager_engine_fail_one_by_one() {
    let counts = fail_each(true, CUresult::ERROR_OUT_OF_MEMORY, one_of_each_phase);
    for outcome in [Outcome::Stopped, Outcome::Repeated, Outcome::Dropped] {
        assert!(counts.contains_key(&outcome), "{outcome:?}: {counts:?}");
    }
}

/// After these codes the context is lost, but not the process: another decoder gets another context.
#[test]
fn calls_that_lose_the_context_fail_one_by_one() {
    for eager in [false, true] {
        let counts = fail_each(eager, CUresult::ERROR_ILLEGAL_ADDRESS, one_of_each_function);
        assert!(counts[&Outcome::Stopped] > counts.len(), "{counts:?}");
        assert!(!counts.contains_key(&Outcome::Repeated), "{counts:?}");
    }
}

/// Not a sample: every call, with an error that passes, one that a program may try to do something about, and one that
/// takes the context with it.
#[test]
#[ignore = "takes half an hour"]
fn every_call_fails_once() {
    for eager in [false, true] {
        for code in [CUresult::ERROR_UNKNOWN, CUresult::ERROR_OUT_OF_MEMORY, CUresult::ERROR_ILLEGAL_ADDRESS]
        {
            let counts = fail_each(eager, code, every);
            assert!(counts[&Outcome::Stopped] > 0, "{counts:?}");
        }
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
        sim.inject(Fault::new("launch", 5, CUresult::ERROR_LAUNCH_FAILED));
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
