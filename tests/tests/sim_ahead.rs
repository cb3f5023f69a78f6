//! Steps that are queued ahead of the host, on the software driver: the same tokens as one by one, whatever comes
//! between, and failures that are told.

use gpu_driver::sys::CUresult;
use gpu_driver_sim::{Fault, Sanitize, SimConfig, SimDriver};
use runtime::cuda::CudaDecoder;
use runtime::decoder::{Decoder as _, Output, Row};
use runtime::error::{Error, StepError};
use runtime::generate::{GenerateOptions, Generator, Stop};
use runtime::{Activations, EngineOptions, Model};
use tensor_formats::ElementType;
use tests::{data, gpu, sim};

const MAX_SEQ: usize = 40;
/// Steps of most tests: several rounds of a short queue.
const STEPS: usize = 7;
/// Steps ahead from which on a queue is a loop on the device, with eight steps an iteration.
const DEEP: usize = 15;

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

/// Activations in F16 are multiplied by other kernels, whose steps of any number of rows give a sequence the same tokens.
#[test]
fn queued_steps_with_activations_in_halves_give_the_tokens_of_single_ones() {
    let model = model();
    let options = |ahead| {
        let options = options(&model, false, ahead);
        EngineOptions { activations: Activations::F16, kv: ElementType::F16, ..options }
    };
    let tokens = |sequences: u32, depth: usize, sanitize: Sanitize| {
        let driver = sim::driver(0, sanitize);
        sim::on_decoder(&driver, &model, &options(depth), |decoder| {
            let mut rows = begin(decoder, sequences);
            let next = |step| match depth {
                0 => one_by_one(decoder, &mut rows),
                _ => ahead(decoder, &mut rows, STEPS - 1 - step),
            };
            (0..STEPS).map(next).collect::<Vec<_>>()
        })
    };
    let expected = tokens(3, 0, Sanitize::NONE);
    assert_eq!(tokens(3, 4, Sanitize::ALL), expected);
    let alone: Vec<_> = expected.iter().map(|of_step| vec![of_step[0]]).collect();
    assert_eq!(tokens(1, 4, Sanitize::NONE), alone);
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

/// Fifteen steps are ahead, so a loop runs them wherever eight are wanted: at the end of the first round, which begins
/// without it, and whenever there is room for them in the second. The caches are the same, too.
#[test]
fn steps_of_a_loop_give_the_tokens_of_single_ones() {
    const STEPS: usize = 26;
    let model = model();
    for (sequences, sanitize) in [(1, Sanitize::ALL), (3, Sanitize::NONE)] {
        let driver = sim::driver(0, Sanitize::NONE);
        let expected = sim::on_decoder(&driver, &model, &options(&model, true, 0), |decoder| {
            twice(decoder, sequences, STEPS, |decoder, rows, _| one_by_one(decoder, rows))
        });
        let driver = sim::driver(sequences.into(), sanitize);
        sim::on_decoder(&driver, &model, &options(&model, false, DEEP), |decoder| {
            assert!(twice(decoder, sequences, STEPS, ahead) == expected, "{sequences} sequences");
            let stats = decoder.stats();
            assert_eq!(stats.graph_steps, u64::from(sequences) + 2 * STEPS as u64 + 1, "{stats:?}");
            // One step to learn the pace, sixteen that fill the queue, a loop of eight and a last step; a loop of 24, which
            // is launched again where it had ended before it was told to go on, and two steps. Before that the prompts,
            // and the logits after it.
            let launches = (1 + 16 + 1 + 1) + (1 + 2) + sequences as usize + 1;
            let launched = driver.calls_of("cuGraphLaunch").len();
            assert!((launches..=launches + 2).contains(&launched), "{sequences} sequences: {launched}");
        });
    }
}

/// Brings a decoder to where its queues are loops, and back to the start of the sequences.
fn looping(decoder: &mut CudaDecoder, sequences: u32) -> Vec<Row> {
    let begun = begin(decoder, sequences);
    let (mut rows, before) = (begun.clone(), decoder.stats().graphs);
    (0..2).for_each(|_| drop(ahead(decoder, &mut rows, 30)));
    assert_eq!(decoder.stats().graphs, before + 2, "one of a step, one of a loop");
    begun
}

/// Whoever asks for eight steps at a time leaves the loop nothing to go on with. It has ended, or is about to, when the
/// next eight are allowed.
#[test]
fn a_loop_that_has_ended_is_launched_again() {
    const ROUNDS: usize = 3;
    let model = model();
    for sequences in [1, 2] {
        let expected = expected(&model, sequences, 8 * ROUNDS);
        let driver = sim::driver(sequences.into(), Sanitize::ALL);
        sim::on_decoder(&driver, &model, &options(&model, false, DEEP), |decoder| {
            let mut rows = looping(decoder, sequences);
            driver.forget_calls();
            for (step, expected) in expected.iter().enumerate() {
                assert_eq!(&ahead(decoder, &mut rows, 7 - step % 8), expected, "step {step}");
            }
            assert_eq!(driver.calls_of("cuGraphLaunch").len(), ROUNDS);
            assert!(driver.calls_of("cuMemcpy").len() == 1, "the state of the first step");
        });
    }
}

/// With five steps more in each round than the loop does: they are launched behind it.
#[test]
fn steps_behind_a_loop_are_counted() {
    let model = model();
    let expected = expected(&model, 1, 26);
    let driver = sim::driver(9, Sanitize::ALL);
    sim::on_decoder(&driver, &model, &options(&model, false, DEEP), |decoder| {
        let mut rows = looping(decoder, 1);
        let before = decoder.stats().graph_steps;
        for (step, expected) in expected.iter().enumerate() {
            assert_eq!(&ahead(decoder, &mut rows, 12 - step % 13), expected, "step {step}");
        }
        assert_eq!(decoder.stats().graph_steps - before, 26);
    });
}

/// A loop that nobody wants any more runs on to the end of an iteration, and not as far as it was allowed to. This driver
/// does nothing before somebody waits for it.
#[test]
fn a_loop_that_is_given_up_ends_early() {
    const AHEAD: usize = 31;
    let model = model();
    let driver = sim::driver(5, Sanitize::NONE);
    let options = EngineOptions { ahead: AHEAD, max_seq: 80, ..options(&model, false, DEEP) };
    sim::on_decoder(&driver, &model, &options, |decoder| {
        let begun = begin(decoder, 1);
        let mut rows = begun.clone();
        (0..2).for_each(|_| drop(ahead(decoder, &mut rows, 70)));
        let expected = one_by_one(decoder, &mut begun.clone());
        driver.take_launches();
        // Thirty-two steps run, and three times eight more are allowed.
        rows = begun.clone();
        (0..25).for_each(|_| drop(ahead(decoder, &mut rows, 70)));
        assert_eq!(one_by_one(decoder, &mut begun.clone()), expected);
        let steps = driver.take_launches().iter().filter(|launch| launch.kernel.starts_with("embed")).count();
        assert_eq!(steps, 32 + 8 + 1);
    });
}

/// Conditional nodes came with CUDA 12.4. Where kernels have a time limit, a loop could exceed it.
#[test]
fn without_loops_queues_are_launched_step_by_step() {
    let model = model();
    let expected = expected(&model, 1, 26);
    for (cuda_version, time_limit) in [(12_030, false), (13_020, true)] {
        let processors = sim::PROCESSORS;
        let config = SimConfig { seed: 4, cuda_version, time_limit, processors, ..SimConfig::default() };
        let driver = SimDriver::new(config).unwrap();
        sim::on_decoder(&driver, &model, &options(&model, false, DEEP), |decoder| {
            let mut rows = begin(decoder, 1);
            driver.forget_calls();
            for (step, expected) in expected.iter().enumerate() {
                assert_eq!(&ahead(decoder, &mut rows, 25 - step), expected, "step {step}");
            }
            assert_eq!(driver.calls_of("cuGraphLaunch").len(), 26);
            assert_eq!(decoder.eager_reason(), None);
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
    assert!(run(DEEP) == alone && run(2) == alone);
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
    sim::on_decoder(&driver, &model, &options(&model, false, DEEP), |decoder| {
        let mut rows = begin(decoder, 1);
        let steps = MAX_SEQ - rows[0].position as usize;
        (0..steps).for_each(|_| drop(ahead(decoder, &mut rows, usize::MAX)));
        assert_eq!(decoder.stats().graph_steps, steps as u64 + 1);
        assert!(decoder.decode_ahead(&rows, 0).is_err());
        // Eight in a loop, and then one by one: there is no room for sixteen.
        rows[0].position = MAX_SEQ as u32 - 11;
        driver.forget_calls();
        (0..11).for_each(|_| drop(ahead(decoder, &mut rows, usize::MAX)));
        assert_eq!(driver.calls_of("cuGraphLaunch").len(), 4);
        assert_eq!(decoder.stats().graph_steps, steps as u64 + 12);
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
    assert_eq!(run(DEEP), run(0));
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

/// The driver fails the launch of a loop: the first of a queue, or the one that continues it.
#[test]
fn a_loop_that_cannot_be_launched_is_told_and_its_steps_can_be_repeated() {
    let model = model();
    let expected = expected(&model, 2, 24);
    let driver = sim::driver(2, Sanitize::NONE);
    sim::on_decoder(&driver, &model, &options(&model, false, DEEP), |decoder| {
        let begun = looping(decoder, 2);
        for nth in [1, 2] {
            let mut rows = begun.clone();
            driver.inject(Fault::new("cuGraphLaunch", nth, CUresult::ERROR_UNKNOWN));
            let mut failures = Vec::new();
            for (step, expected) in expected.iter().enumerate() {
                let wanted = 7 - step % 8;
                let tokens = match decoder.decode_ahead(&rows, wanted).map(<[u32]>::to_vec) {
                    Ok(tokens) => {
                        follow(&mut rows, &tokens);
                        tokens
                    }
                    Err(error) => {
                        assert!(error.chain().contains("cuGraphLaunch"), "{}", error.chain());
                        failures.push(step);
                        ahead(decoder, &mut rows, wanted)
                    }
                };
                assert_eq!(&tokens, expected, "step {step}, launch {nth}");
            }
            assert_eq!(failures, [8 * (nth as usize - 1)], "launch {nth}");
        }
    });
}

/// Without a loop steps are launched one by one, and nobody tries again.
#[test]
fn a_loop_that_cannot_be_built_is_done_without() {
    let model = model();
    let expected = expected(&model, 1, 26);
    for call in ["cuGraphInstantiateWithParams", "cuGraphConditionalHandleCreate", "cuGraphAddNode"] {
        let driver = sim::driver(3, Sanitize::NONE);
        sim::on_decoder(&driver, &model, &options(&model, false, DEEP), |decoder| {
            let mut rows = begin(decoder, 1);
            assert_eq!(ahead(decoder, &mut rows, 25), expected[0]);
            let graphs = decoder.stats().graphs;
            driver.forget_calls();
            driver.inject(Fault::new(call, 1, CUresult::ERROR_OUT_OF_MEMORY));
            for (step, expected) in expected.iter().enumerate().skip(1) {
                assert_eq!(&ahead(decoder, &mut rows, 25 - step), expected, "step {step}, {call}");
            }
            assert_eq!(
                (driver.calls_of("cuGraphLaunch").len(), driver.calls_of(call).len()),
                (25, 1),
                "{call}"
            );
            assert_eq!((decoder.stats().graphs, decoder.eager_reason()), (graphs, None));
        });
    }
}

/// A kernel that dies in a step that nobody has asked for yet.
#[test]
fn a_queued_kernel_that_dies_is_told_by_the_step_that_needs_it() {
    let model = model();
    // The last of these dies in a loop: sixteen steps come before it.
    for (eager, depth, steps) in [(false, 4, 1), (true, 4, 1), (false, DEEP, 18)] {
        let driver = sim::driver(3, Sanitize::NONE);
        let context = sim::context(&driver);
        let options = options(&model, eager, depth);
        let mut decoder = CudaDecoder::with_context(&model, &options, &context).unwrap();
        let mut rows = begin(&mut decoder, 1);
        driver.take_launches();
        ahead(&mut decoder, &mut rows, 30);
        let launch = steps * driver.take_launches().len() as u64 + 5;
        driver.inject(Fault::new("launch", launch, CUresult::ERROR_LAUNCH_FAILED));
        let error = (0..30).find_map(|_| {
            decoder.decode_ahead(&rows, 30).map(<[u32]>::to_vec).map_or_else(Some, |tokens| {
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
