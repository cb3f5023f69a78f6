//! Steps that are queued ahead of the host, on the software driver: the same tokens as one by one, whatever comes
//! between, and failures that are told.

use gpu_driver::sys::CUresult;
use gpu_driver_sim::{Fault, Sanitize, SimDriver};
use runtime::cuda::CudaDecoder;
use runtime::decoder::{Decoder as _, Output, Row};
use runtime::error::{Error, StepError};
use runtime::generate::{GenerateOptions, Generator, Stop};
use runtime::{EngineOptions, Model};
use tests::{data, gpu, sim};

const MAX_SEQ: usize = 24;
/// Steps of most tests: several rounds of a short queue.
const STEPS: usize = 7;

fn model() -> Model {
    data::model("synthetic/tiny-q4_k_m.gguf")
}

fn options(model: &Model, eager: bool, ahead: usize) -> EngineOptions {
    EngineOptions { eager, ahead, max_seq: MAX_SEQ, ..gpu::options(model, 4, 8) }
}

/// Sequences with texts of unequal lengths, the last token of each not yet decoded.
fn begin(decoder: &mut CudaDecoder, sequences: u32) -> Vec<Row> {
    let n_vocab = decoder.config().n_vocab;
    let begun = (0..sequences).map(|sequence| {
        let mut rows = gpu::rows(sequence, 0, &gpu::tokens(sequence, 2 + 3 * sequence as usize, n_vocab));
        let last = rows.pop().unwrap();
        gpu::step(decoder, &rows, Output::Cache);
        last
    });
    begun.collect()
}

fn follow(rows: &mut [Row], tokens: &[u32]) {
    for (row, &token) in rows.iter_mut().zip(tokens) {
        *row = Row { token, position: row.position + 1, ..*row };
    }
}

fn ahead(decoder: &mut CudaDecoder, rows: &mut [Row], ahead: usize) -> Vec<u32> {
    let tokens =
        decoder.decode_ahead(rows, ahead).unwrap_or_else(|error| panic!("{}", error.chain())).to_vec();
    follow(rows, &tokens);
    tokens
}

fn one_by_one(decoder: &mut CudaDecoder, rows: &mut [Row]) -> Vec<u32> {
    let tokens = gpu::argmax(decoder, rows, Output::AllArgmax);
    follow(rows, &tokens);
    tokens
}

/// The tokens of a few steps, each asked for by itself.
fn expected(model: &Model, sequences: u32, steps: usize) -> Vec<Vec<u32>> {
    let driver = sim::driver(0, Sanitize::NONE);
    sim::on_decoder(&driver, model, &options(model, false, 0), |decoder| {
        let mut rows = begin(decoder, sequences);
        (0..steps).map(|_| one_by_one(decoder, &mut rows)).collect()
    })
}

#[test]
fn queued_steps_give_the_tokens_of_single_ones() {
    let model = model();
    for (sequences, ways) in [(1, [(0, false), (7, true)]), (3, [(2, true), (7, false)])] {
        let expected = expected(&model, sequences, STEPS);
        for (seed, (depth, eager)) in (0..).zip(ways) {
            let driver = sim::driver(seed, Sanitize::ALL);
            sim::on_decoder(&driver, &model, &options(&model, eager, depth), |decoder| {
                let mut rows = begin(decoder, sequences);
                for (step, expected) in expected.iter().enumerate() {
                    let tokens = ahead(decoder, &mut rows, STEPS - 1 - step);
                    assert_eq!(&tokens, expected, "step {step}, {sequences} sequences, {depth} ahead");
                }
                let stats = decoder.stats();
                let steps = if eager { stats.eager_steps } else { stats.graph_steps };
                assert_eq!(steps, STEPS as u64 + u64::from(sequences), "no step too many: {stats:?}");
            });
        }
    }
}

/// The same steps twice, and then the logits that follow. The last argument of `next` says how many steps follow.
fn twice(
    decoder: &mut CudaDecoder,
    sequences: u32,
    steps: usize,
    next: impl Fn(&mut CudaDecoder, &mut [Row], usize) -> Vec<u32>,
) -> (Vec<Vec<u32>>, Vec<u32>) {
    let begun = begin(decoder, sequences);
    let mut rows = begun.clone();
    let first: Vec<_> = (0..steps).map(|step| next(decoder, &mut rows, steps - 1 - step)).collect();
    rows.clone_from_slice(&begun);
    let second: Vec<_> = (0..steps).map(|step| next(decoder, &mut rows, steps - 1 - step)).collect();
    assert_eq!(first, second, "{sequences} sequences");
    (first, gpu::logits(decoder, &rows, Output::AllLogits))
}

/// Seven steps are ahead, so four are launched at once wherever so many are wanted: at the end of the first round, which
/// begins without such a graph, and whenever there is room for them in the second. The caches are the same, too.
#[test]
fn steps_that_are_launched_together_give_the_tokens_of_single_ones() {
    const STEPS: usize = 14;
    let model = model();
    for (sequences, sanitize) in [(1, Sanitize::ALL), (3, Sanitize::NONE)] {
        let driver = sim::driver(0, Sanitize::NONE);
        let expected = sim::on_decoder(&driver, &model, &options(&model, true, 0), |decoder| {
            twice(decoder, sequences, STEPS, |decoder, rows, _| one_by_one(decoder, rows))
        });
        let driver = sim::driver(sequences.into(), sanitize);
        sim::on_decoder(&driver, &model, &options(&model, false, 7), |decoder| {
            assert!(twice(decoder, sequences, STEPS, ahead) == expected, "{sequences} sequences");
            let stats = decoder.stats();
            assert_eq!(stats.graph_steps, u64::from(sequences) + 2 * STEPS as u64 + 1, "{stats:?}");
            // One step to learn the pace, eight that fill the queue, one launch of four and a last step; three launches
            // of four and two steps. Before that the prompts, and the logits after it.
            let launches = (1 + 8 + 1 + 1) + (3 + 2) + sequences as usize + 1;
            assert_eq!(driver.calls_of("cuGraphLaunch").len(), launches, "{sequences} sequences");
        });
    }
}

/// What was queued for nothing leaves no trace: not in this sequence, taken back or led elsewhere, not in others.
#[test]
fn a_queue_that_is_given_up_changes_nothing() {
    let model = model();
    let run = |depth| {
        let driver = sim::driver(4, Sanitize::ALL);
        sim::on_decoder(&driver, &model, &options(&model, false, depth), |decoder| {
            let mut rows = begin(decoder, 2);
            let mut found = Vec::new();
            let mut note = |tokens: Vec<u32>| found.push(tokens);
            (0..3).for_each(|_| note(ahead(decoder, &mut rows, 30)));
            // Another token than the one that was chosen.
            rows[1].token = 17;
            (0..2).for_each(|_| note(ahead(decoder, &mut rows, 30)));
            // A step of another kind.
            note(gpu::logits(decoder, &rows[..1], Output::LastLogits));
            (0..2).for_each(|_| note(ahead(decoder, &mut rows, 30)));
            // One sequence less, then back to a position that is decoded.
            note(ahead(decoder, &mut rows[..1], 30));
            rows[0].position -= 2;
            (0..2).for_each(|_| note(ahead(decoder, &mut rows[..1], 30)));
            // A new sequence at its start, and logits that need more room than there was.
            let mut fresh = gpu::rows(3, 0, &[9]);
            note(ahead(decoder, &mut fresh, 30));
            note(gpu::logits(decoder, &gpu::rows(2, 0, &[1, 2, 3, 4, 5]), Output::AllLogits));
            note(ahead(decoder, &mut fresh, 30));
            // Kernel by kernel and back, with steps queued.
            decoder.go_eager("as a test");
            (0..2).for_each(|_| note(ahead(decoder, &mut fresh, 30)));
            decoder.use_graphs();
            (0..2).for_each(|_| note(ahead(decoder, &mut fresh, 30)));
            found
        })
    };
    let alone = run(0);
    assert!(run(7) == alone && run(2) == alone);
}

#[test]
fn positions_beyond_what_was_asked_for_are_not_decoded() {
    let model = model();
    sim::on_decoder(&sim::driver(0, Sanitize::ALL), &model, &options(&model, false, 7), |decoder| {
        let mut rows = begin(decoder, 1);
        (0..3).for_each(|_| drop(ahead(decoder, &mut rows, 30)));
        let position = rows[0].position;
        rows[0].position += 1;
        let gap = StepError::Gap { row: 0, position: position + 1, sequence: 0, decoded: position };
        assert!(matches!(decoder.decode_ahead(&rows, 0), Err(Error::Step(error)) if error == gap));
        let twice = [rows[0], rows[0]];
        let refused = StepError::Twice { row: 1, sequence: 0 };
        assert!(matches!(decoder.decode_ahead(&twice, 0), Err(Error::Step(error)) if error == refused));
    });
}

#[test]
fn the_last_position_of_the_cache_is_the_last_that_is_queued() {
    let model = model();
    let driver = sim::driver(0, Sanitize::ALL);
    sim::on_decoder(&driver, &model, &options(&model, false, 7), |decoder| {
        let mut rows = begin(decoder, 1);
        let steps = MAX_SEQ - rows[0].position as usize;
        (0..steps).for_each(|_| drop(ahead(decoder, &mut rows, usize::MAX)));
        assert_eq!(decoder.stats().graph_steps, steps as u64 + 1);
        assert!(decoder.decode_ahead(&rows, 0).is_err());
        // Four at once, and then one by one: there is no room for eight.
        rows[0].position = MAX_SEQ as u32 - 7;
        driver.forget_calls();
        (0..7).for_each(|_| drop(ahead(decoder, &mut rows, usize::MAX)));
        assert_eq!(driver.calls_of("cuGraphLaunch").len(), 4);
        assert_eq!(decoder.stats().graph_steps, steps as u64 + 8);
        assert!(decoder.decode_ahead(&rows, 0).is_err());
    });
}

#[test]
fn a_queue_is_begun_by_one_copy_and_goes_on_without() {
    let model = model();
    let driver = sim::driver(0, Sanitize::NONE);
    sim::on_decoder(&driver, &model, &options(&model, false, 4), |decoder| {
        let mut rows = begin(decoder, 1);
        ahead(decoder, &mut rows, 30);
        driver.forget_calls();
        (0..10).for_each(|_| drop(ahead(decoder, &mut rows, 30)));
        assert!(driver.calls_of("cuMemcpy").is_empty(), "{:?}", driver.calls_of("cu"));
        // The four that are ahead of the last one, too.
        assert_eq!(driver.calls_of("cuGraphLaunch").len(), 14);
        assert!(driver.calls_of("cuStreamSynchronize").len() <= 3, "{:?}", driver.calls_of("cu"));
    });
}

#[test]
fn an_end_token_ends_the_queue_and_the_next_generation_begins_anew() {
    let model = model();
    let run = |depth| {
        let driver = sim::driver(1, Sanitize::ALL);
        sim::on_decoder(&driver, &model, &options(&model, false, depth), |decoder| {
            let all: Vec<u32> = Generator::new(decoder, &[5, 6, 7], GenerateOptions::greedy(12))
                .and_then(Iterator::collect)
                .unwrap();
            let end = all[5];
            let first = all.iter().position(|&token| token == end).unwrap();
            let options = GenerateOptions { end_tokens: vec![end], ..GenerateOptions::greedy(12) };
            let mut generator = Generator::new(decoder, &[5, 6, 7], options).unwrap();
            let some: Vec<u32> = generator.by_ref().map(Result::unwrap).collect();
            assert_eq!((some.as_slice(), generator.stop()), (&all[..=first], Some(Stop::EndToken(end))));
            let again: Vec<u32> = Generator::new(decoder, &[5, 6, 7], GenerateOptions::greedy(12))
                .and_then(Iterator::collect)
                .unwrap();
            assert_eq!(again, all);
            all
        })
    };
    assert_eq!(run(7), run(0));
}

/// The driver fails one call; the step that is asked for next says so, and can be asked for again.
fn failing_call(eager: bool, call: &'static str) {
    let model = model();
    let expected = expected(&model, 2, 6);
    let driver: SimDriver = sim::driver(2, Sanitize::ALL);
    sim::on_decoder(&driver, &model, &options(&model, eager, 4), |decoder| {
        let mut rows = begin(decoder, 2);
        let (first, rest) = expected.split_at(2);
        first.iter().for_each(|expected| assert_eq!(&ahead(decoder, &mut rows, 9), expected));
        driver.inject(Fault::new(call, 1, CUresult::ERROR_UNKNOWN));
        let mut failures = Vec::new();
        for expected in rest {
            if let Err(error) = decoder.decode_ahead(&rows, 9) {
                failures.push(error.chain());
            }
            assert_eq!(&ahead(decoder, &mut rows, 9), expected);
        }
        assert!(failures.len() == 1 && failures[0].contains(call), "{call}, eager: {eager}: {failures:?}");
    });
}

#[test]
fn calls_that_fail_are_told_and_the_step_can_be_repeated() {
    failing_call(false, "cuGraphLaunch");
    failing_call(true, "cuLaunchKernel");
}

/// The driver fails a launch of several steps: the first of a queue, one that fills it, or one that continues it.
#[test]
fn a_launch_of_several_steps_that_fails_is_told_and_they_can_be_repeated() {
    const STEPS: usize = 14;
    let model = model();
    let expected = expected(&model, 2, STEPS);
    let driver = sim::driver(2, Sanitize::NONE);
    sim::on_decoder(&driver, &model, &options(&model, false, 7), |decoder| {
        let begun = begin(decoder, 2);
        let mut rows = begun.clone();
        expected.iter().for_each(|expected| assert_eq!(&ahead(decoder, &mut rows, 30), expected));
        for (nth, fails_at) in [(1, 0), (2, 0), (3, 4)] {
            let mut rows = begun.clone();
            driver.inject(Fault::new("cuGraphLaunch", nth, CUresult::ERROR_UNKNOWN));
            let mut failures = Vec::new();
            for (step, expected) in expected.iter().enumerate() {
                let tokens = match decoder.decode_ahead(&rows, 30).map(<[u32]>::to_vec) {
                    Ok(tokens) => {
                        follow(&mut rows, &tokens);
                        tokens
                    }
                    Err(error) => {
                        assert!(error.chain().contains("cuGraphLaunch"), "{}", error.chain());
                        failures.push(step);
                        ahead(decoder, &mut rows, 30)
                    }
                };
                assert_eq!(&tokens, expected, "step {step}, launch {nth}");
            }
            assert_eq!(failures, [fails_at], "launch {nth}");
        }
    });
}

/// Without a graph of several steps, they are launched one by one, and nobody tries again.
#[test]
fn a_graph_of_several_steps_that_cannot_be_built_is_done_without() {
    let model = model();
    let expected = expected(&model, 1, 14);
    let driver = sim::driver(3, Sanitize::NONE);
    sim::on_decoder(&driver, &model, &options(&model, false, 7), |decoder| {
        let mut rows = begin(decoder, 1);
        assert_eq!(ahead(decoder, &mut rows, 13), expected[0]);
        let graphs = decoder.stats().graphs;
        driver.forget_calls();
        driver.inject(Fault::new("cuGraphInstantiateWithParams", 1, CUresult::ERROR_OUT_OF_MEMORY));
        for (step, expected) in expected.iter().enumerate().skip(1) {
            assert_eq!(&ahead(decoder, &mut rows, 13 - step), expected, "step {step}");
        }
        assert_eq!(
            (driver.calls_of("cuGraphLaunch").len(), driver.calls_of("cuGraphInstantiate").len()),
            (13, 1)
        );
        assert_eq!((decoder.stats().graphs, decoder.eager_reason()), (graphs, None));
    });
}

/// A kernel that dies in a step that nobody has asked for yet.
#[test]
fn a_queued_kernel_that_dies_is_told_by_the_step_that_needs_it() {
    let model = model();
    // The last of these dies in one of several steps that are launched at once.
    for (eager, depth, launch) in [(false, 4, 30), (true, 4, 30), (false, 7, 170)] {
        let driver = sim::driver(3, Sanitize::NONE);
        let context = sim::context(&driver);
        let options = options(&model, eager, depth);
        let mut decoder = CudaDecoder::with_context(&model, &options, &context).unwrap();
        let mut rows = begin(&mut decoder, 1);
        ahead(&mut decoder, &mut rows, 20);
        driver.inject(Fault::new("launch", launch, CUresult::ERROR_LAUNCH_FAILED));
        let error = (0..20).find_map(|_| {
            decoder.decode_ahead(&rows, 20).map(<[u32]>::to_vec).map_or_else(Some, |tokens| {
                follow(&mut rows, &tokens);
                None
            })
        });
        let text = error.expect("a step fails").chain();
        assert!(text.contains("CUDA_ERROR_LAUNCH_FAILED") && text.contains("running a step"), "{text}");
        assert!(decoder.decode_ahead(&rows, 9).is_err_and(|error| error.chain().contains("is lost")));
        drop((decoder, context));
        sim::on_decoder(&driver_after(&driver), &model, &options, |decoder| {
            let mut rows = begin(decoder, 1);
            (0..3).for_each(|_| drop(ahead(decoder, &mut rows, 9)));
        });
    }
}

/// A driver without the faults of another.
fn driver_after(driver: &SimDriver) -> SimDriver {
    assert!(driver.report().live.is_empty(), "{}", driver.report());
    sim::driver(3, Sanitize::NONE)
}
