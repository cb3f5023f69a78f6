//! Sampling on the device, on the software driver: the tokens that the host's sampler chooses for the same logits.

use gpu_driver_sim::Sanitize;
use runtime::cuda::CudaDecoder;
use runtime::decoder::{Decoder as _, Output, Row, StepOutput};
use runtime::error::{Error, StepError};
use runtime::generate::{GenerateOptions, Generator};
use runtime::sampling::{Sampler, SamplingOptions};
use runtime::{EngineOptions, Model};
use tests::{data, gpu, sim};

const MAX_SEQ: usize = 24;
const STEPS: usize = 6;
const PROMPT: [u32; 3] = [5, 6, 7];

fn model() -> Model {
    data::model("synthetic/tiny-q4_k_m.gguf")
}

fn options(model: &Model, eager: bool, ahead: usize) -> EngineOptions {
    EngineOptions { eager, ahead, max_seq: MAX_SEQ, ..gpu::options(model, 3, 8) }
}

fn sampling(seed: u64) -> SamplingOptions {
    SamplingOptions {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.9,
        min_p: 0.05,
        repetition_penalty: 1.1,
        seed,
        ..SamplingOptions::default()
    }
}

/// All that cut, one by one and together; the penalty over few and over all.
fn all_options() -> Vec<SamplingOptions> {
    let hot = SamplingOptions { temperature: 1.3, seed: 9, ..SamplingOptions::default() };
    vec![
        sampling(1),
        sampling(2),
        hot,
        SamplingOptions { top_k: 5, ..hot },
        SamplingOptions { top_p: 0.6, ..hot },
        SamplingOptions { min_p: 0.2, ..hot },
        SamplingOptions { temperature: 0.0, repetition_penalty: 2.0, repeat_last_n: 4, ..hot },
        SamplingOptions { repetition_penalty: 3.0, repeat_last_n: usize::MAX, ..hot },
    ]
}

fn generated(decoder: &mut CudaDecoder, sampling: SamplingOptions, n: usize) -> Vec<u32> {
    let options = GenerateOptions { sampling, ..GenerateOptions::greedy(n) };
    Generator::new(decoder, &PROMPT, options).and_then(Iterator::collect).unwrap()
}

#[test]
fn texts_are_those_of_the_host() {
    let model = model();
    let ways = [(false, 7, Sanitize::NONE), (true, 2, Sanitize::ALL), (false, 0, Sanitize::NONE)];
    for (seed, (eager, ahead, sanitize)) in (0..).zip(ways) {
        let driver = sim::driver(seed, sanitize);
        sim::on_decoder(&driver, &model, &options(&model, eager, ahead), |decoder| {
            for (i, sampling) in all_options().into_iter().enumerate().skip(seed as usize).step_by(3) {
                let expected = gpu::sampled_on_host(decoder, &PROMPT, sampling, STEPS);
                assert_eq!(generated(decoder, sampling, STEPS), expected, "options {i}, {ahead} ahead");
            }
        });
    }
}

/// The first text is long enough for a loop to be built, the second begins with it.
#[test]
fn steps_of_a_loop_sample_the_same() {
    const STEPS: usize = 26;
    let model = model();
    let driver = sim::driver(6, Sanitize::ALL);
    let options = EngineOptions { max_seq: 40, ..options(&model, false, 15) };
    sim::on_decoder(&driver, &model, &options, |decoder| {
        let expected = gpu::sampled_on_host(decoder, &PROMPT, sampling(4), STEPS);
        for _ in 0..2 {
            driver.forget_calls();
            assert_eq!(generated(decoder, sampling(4), STEPS), expected);
        }
        // The prompt, a loop of 24 steps, which may be launched again, and a last step.
        let launched = driver.calls_of("cuGraphLaunch").len();
        assert!((3..=5).contains(&launched), "{launched}");
    });
}

#[test]
fn the_embedded_model_tells_the_same_story() {
    let model = Model::embedded().unwrap();
    let driver = sim::driver(1, Sanitize::NONE);
    let options = EngineOptions { max_seq: 40, ..gpu::options(&model, 1, 8) };
    sim::on_decoder(&driver, &model, &options, |decoder| {
        let expected = gpu::sampled_on_host(decoder, &PROMPT, sampling(3), STEPS);
        assert_eq!(generated(decoder, sampling(3), STEPS), expected);
    });
}

/// Rows with options of their own in one graph, and queues that are given up.
#[test]
fn every_row_has_its_own_options() {
    let model = model();
    let run = |ahead| {
        let driver = sim::driver(5, if ahead == 0 { Sanitize::NONE } else { Sanitize::ALL });
        sim::on_decoder(&driver, &model, &options(&model, false, ahead), |decoder| {
            let all = all_options();
            let mut samplers: Vec<Sampler> =
                [1, 4, 6].map(|i: usize| Sampler::new(all[i]).unwrap()).into_iter().collect();
            let mut rows: Vec<Row> = Vec::new();
            for (sequence, sampler) in (0..).zip(&mut samplers) {
                let text = gpu::tokens(sequence, 2 + 3 * sequence as usize, decoder.config().n_vocab);
                sampler.accept(&text);
                let mut prompt = gpu::rows(sequence, 0, &text);
                rows.extend(prompt.pop());
                gpu::step(decoder, &prompt, Output::Cache);
            }
            let mut found = Vec::new();
            for step in 0..=STEPS {
                match step {
                    // The options of a row change, and what it has seen.
                    3 => samplers[2] = Sampler::new(all[7]).unwrap(),
                    5 => samplers[0].accept(&[17]),
                    4 => drop(decoder.decode_ahead(&rows, 4).unwrap()),
                    _ => {}
                }
                let expected: Vec<u32> = {
                    let mut samplers = samplers.clone();
                    match step % 2 {
                        // Logits of the same rows do not change what is sampled after them.
                        0 if ahead == 0 => {
                            let StepOutput::Logits(logits) = decoder.step(&rows, Output::AllLogits).unwrap()
                            else {
                                panic!("no logits")
                            };
                            let of_rows = rows.iter().zip(&mut samplers).zip(logits.chunks(logits.len() / 3));
                            of_rows
                                .map(|((row, sampler), logits)| sampler.sample(logits, row.position).unwrap())
                                .collect()
                        }
                        _ => Vec::new(),
                    }
                };
                let tokens = decoder.sample_ahead(&rows, &mut samplers, 20).unwrap();
                assert!(expected.is_empty() || tokens == expected, "step {step}");
                for ((row, sampler), &token) in rows.iter_mut().zip(&mut samplers).zip(&tokens) {
                    sampler.accept(&[token]);
                    *row = Row { token, position: row.position + 1, ..*row };
                }
                found.push(tokens);
            }
            found
        })
    };
    assert_eq!(run(7), run(0));
}

#[test]
fn one_graph_serves_all_options_and_a_queue_goes_on_without_the_host() {
    let model = model();
    let driver = sim::driver(0, Sanitize::NONE);
    sim::on_decoder(&driver, &model, &options(&model, false, 4), |decoder| {
        generated(decoder, sampling(1), 4);
        let plans = decoder.stats().plans;
        all_options().into_iter().step_by(3).for_each(|options| drop(generated(decoder, options, 2)));
        assert_eq!(decoder.stats().plans, plans);
        let mut samplers = [Sampler::new(sampling(1)).unwrap()];
        let mut rows = gpu::rows(0, 0, &[9]);
        samplers[0].accept(&[9]);
        let mut step = |decoder: &mut CudaDecoder| {
            let tokens = decoder.sample_ahead(&rows, &mut samplers, 30).unwrap();
            samplers[0].accept(&tokens);
            rows[0] = Row { token: tokens[0], position: rows[0].position + 1, ..rows[0] };
        };
        step(decoder);
        driver.forget_calls();
        (0..10).for_each(|_| step(decoder));
        assert!(driver.calls_of("cuMemcpy").is_empty(), "{:?}", driver.calls_of("cu"));
        // The four that are ahead of the first one are queued with it: how long one takes is known.
        assert_eq!(driver.calls_of("cuGraphLaunch").len(), 10);
    });
}

#[test]
fn what_cannot_be_sampled_is_told() {
    let model = model();
    sim::on_decoder(&sim::driver(0, Sanitize::ALL), &model, &options(&model, false, 4), |decoder| {
        let row = gpu::rows(0, 0, &[9]);
        let refused = StepError::Samplers { rows: 1, samplers: 0 };
        assert!(
            matches!(decoder.sample_ahead(&row, &mut [], 0), Err(Error::Step(error)) if error == refused)
        );
        let mut samplers = vec![Sampler::new(sampling(1)).unwrap(); 2];
        let twice = [row[0], row[0]];
        assert!(matches!(decoder.sample_ahead(&twice, &mut samplers, 0), Err(Error::Step(_))));
        // More tokens than there are positions for: the host remembers them.
        samplers.pop();
        samplers[0].accept(&[1, 2, 3, 4]);
        let expected = {
            let StepOutput::Logits(logits) = decoder.step(&row, Output::LastLogits).unwrap() else {
                panic!("no logits")
            };
            samplers[0].clone().sample(logits, 0).unwrap()
        };
        assert_eq!(decoder.sample_ahead(&row, &mut samplers, 0).unwrap(), [expected]);
    });
}
