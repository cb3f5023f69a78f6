//! Decoding on a GPU: graph and eager, replays, batches, limits.

use std::error::Error as _;

use runtime::cuda::{CudaError, Profile, ProfileOptions};
use runtime::decoder::{Decoder, Output, Row, StepOutput};
use runtime::error::{Error, StepError};
use runtime::generate::{GenerateOptions, Generator};
use runtime::sampling::SamplingOptions;
use runtime::{Activations, EngineOptions, Model};
use tests::{data, gpu};

/// Small ones first.
const MODELS: [&str; 5] = [
    "synthetic/tiny-qwen2-q4_k_m.gguf",
    "synthetic/tiny-f32.gguf",
    "tiny-q4_k_m.gguf",
    "tiny-q8_0.gguf",
    "tiny-f16.gguf",
];

/// A prompt in chunks, then one token at a time: the logits of every step, as bits.
fn transcript(model: &Model, options: &EngineOptions) -> Vec<Vec<u32>> {
    let mut decoder = gpu::decoder(model, options);
    let tokens = gpu::tokens(1, 40, model.config().n_vocab);
    let mut steps = Vec::new();
    let (prompt, rest) = tokens.split_at(20);
    for (chunk, tokens) in prompt.chunks(options.max_rows).enumerate() {
        let rows = gpu::rows(0, (chunk * options.max_rows) as u32, tokens);
        steps.push(gpu::logits(&mut decoder, &rows, Output::AllLogits));
    }
    for (position, &token) in (20..).zip(rest) {
        steps.push(gpu::logits(&mut decoder, &gpu::rows(0, position, &[token]), Output::LastLogits));
    }
    let stats = decoder.stats();
    let used = if options.eager { stats.eager_steps } else { stats.graph_steps };
    assert_eq!(used, steps.len() as u64, "{stats:?}");
    assert_eq!(stats.graph_steps + stats.eager_steps, steps.len() as u64, "{stats:?}");
    steps
}

#[test]
#[ignore = "needs a CUDA device"]
fn graph_and_eager_give_the_same_bits() {
    for &file in gpu::some(&MODELS, 3) {
        let model = data::model(file);
        for activations in [Activations::Q8, Activations::F32] {
            let options = EngineOptions { activations, ..gpu::options(&model, 1, 8) };
            let graph = transcript(&model, &options);
            let eager = transcript(&model, &EngineOptions { eager: true, ..options });
            assert!(graph == eager, "{file} with {activations:?} activations");
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn the_first_and_the_hundredth_replay_give_the_same_bits() {
    let model = data::model("tiny-q4_k_m.gguf");
    let mut decoder = gpu::decoder(&model, &gpu::options(&model, 1, 8));
    let tokens = gpu::tokens(2, 9, model.config().n_vocab);
    gpu::logits(&mut decoder, &gpu::rows(0, 0, &tokens[..8]), Output::LastLogits);
    let last = gpu::rows(0, 8, &tokens[8..]);
    let first = gpu::logits(&mut decoder, &last, Output::LastLogits);
    let replays = gpu::times(100);
    for replay in 2..=replays {
        assert!(gpu::logits(&mut decoder, &last, Output::LastLogits) == first, "replay {replay}");
    }
    assert_eq!(decoder.stats().graph_steps, replays as u64 + 1);
}

#[test]
#[ignore = "needs a CUDA device"]
fn decoding_uses_the_graph_and_says_so() {
    let model = data::model("tiny-q4_k_m.gguf");
    let mut decoder = gpu::decoder(&model, &gpu::options(&model, 1, 8));
    let before = decoder.stats();
    assert_eq!((before.graph_steps, before.graphs), (0, 1), "{before:?}");
    for position in 0..5 {
        gpu::argmax(&mut decoder, &gpu::rows(0, position, &[7]), Output::LastArgmax);
    }
    let after = decoder.stats();
    assert_eq!((after.graph_steps, after.eager_steps, after.plans, after.graphs), (5, 0, 1, 1), "{after:?}");
    assert_eq!(after.kernels.compiled, before.kernels.compiled, "later steps compile nothing");
    // A layer has 5 launches; embedding, and head with argmax; state up, token down.
    assert_eq!(after.nodes, 5 * model.config().n_layers + 2 + 2);
    assert!(after.edges >= after.nodes - 1 && after.edges < 2 * after.nodes, "{after:?}");
    let text = decoder.describe();
    assert!(text.contains(&format!("graph of {} nodes", after.nodes)), "{text}");
    assert_eq!(decoder.eager_reason(), None);
}

#[test]
#[ignore = "needs a CUDA device"]
fn eager_is_a_choice_that_is_told() {
    let model = data::model("tiny-q4_k_m.gguf");
    let options = EngineOptions { eager: true, ..gpu::options(&model, 1, 8) };
    let mut decoder = gpu::decoder(&model, &options);
    gpu::argmax(&mut decoder, &gpu::rows(0, 0, &[7]), Output::LastArgmax);
    let stats = decoder.stats();
    assert_eq!((stats.graph_steps, stats.eager_steps, stats.graphs, stats.nodes), (0, 1, 0, 0), "{stats:?}");
    assert!(decoder.describe().contains("kernel by kernel"), "{}", decoder.describe());
}

/// A decoder that loses its graphs goes on as if nothing had happened: no position or token of an earlier step is left.
#[test]
#[ignore = "needs a CUDA device"]
fn going_eager_on_the_way_changes_nothing() {
    let model = data::model("tiny-q4_k_m.gguf");
    let options = gpu::options(&model, 1, 8);
    let generate = |switches: bool| {
        let mut decoder = gpu::decoder(&model, &options);
        let mut token = 5;
        let mut tokens = Vec::new();
        for position in 0..60 {
            match position {
                20 if switches => decoder.go_eager("as a test"),
                40 if switches => decoder.use_graphs(),
                _ => {}
            }
            token = gpu::argmax(&mut decoder, &gpu::rows(0, position, &[token]), Output::LastArgmax)[0];
            tokens.push(token);
        }
        (tokens, decoder.stats())
    };
    let (tokens, stats) = generate(true);
    assert_eq!((stats.graph_steps, stats.eager_steps), (40, 20));
    assert_eq!(tokens, generate(false).0);
}

/// Rows of different sequences at different positions: each row's logits are those that it has alone.
#[test]
#[ignore = "needs a CUDA device"]
fn a_row_does_not_depend_on_what_else_is_in_the_batch() {
    for &file in gpu::some(&["synthetic/tiny-qwen2-q8_0.gguf", "tiny-q4_k_m.gguf", "tiny-f16.gguf"], 1) {
        batches(file, Activations::Q8, gpu::some(&[1, 9, 32, 2, 5, 8, 16], 3));
    }
}

/// The same of rows that are multiplied as halves.
#[test]
#[ignore = "needs a CUDA device"]
fn a_row_of_halves_does_not_depend_on_what_else_is_in_the_batch() {
    if !gpu::multiplies_halves() {
        return;
    }
    for &file in gpu::some(&["tiny-q4_k_m.gguf", "synthetic/tiny-qwen2-q8_0.gguf", "tiny-f16.gguf"], 1) {
        batches(file, Activations::F16, gpu::some(&[17, 1, 32, 2, 8, 9, 16], 2));
    }
}

fn batches(file: &str, activations: Activations, batches: &[u32]) {
    let model = data::model(file);
    let n_vocab = model.config().n_vocab;
    let text = |sequence: u32| gpu::tokens(sequence, 3 + 5 * sequence as usize % 17, n_vocab);
    let options = EngineOptions { activations, ..gpu::options(&model, 32, 32) };
    let mut alone = gpu::decoder(&model, &options);
    let most = batches.iter().max().copied().unwrap_or(0);
    let expected: Vec<Vec<u32>> = (0..most)
        .map(|sequence| {
            let rows = gpu::rows(sequence, 0, &text(sequence));
            gpu::logits(&mut alone, &rows, Output::LastLogits)
        })
        .collect();
    for &batch in batches {
        let mut decoder = gpu::decoder(&model, &options);
        let mut last = Vec::new();
        for sequence in 0..batch {
            let mut rows = gpu::rows(sequence, 0, &text(sequence));
            last.extend(rows.pop());
            decoder.step(&rows, Output::Cache).unwrap();
        }
        let got = gpu::logits(&mut decoder, &last, Output::AllLogits);
        for (sequence, got) in got.chunks(n_vocab).enumerate() {
            assert!(got == expected[sequence], "{file}: sequence {sequence} in a batch of {batch}");
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn greedy_tokens_are_those_of_the_largest_logits() {
    let model = data::model("tiny-q8_0.gguf");
    let n_vocab = model.config().n_vocab;
    let mut decoder = gpu::decoder(&model, &gpu::options(&model, 1, 8));
    let rows = gpu::rows(0, 0, &gpu::tokens(3, 8, n_vocab));
    let tokens = gpu::argmax(&mut decoder, &rows, Output::AllArgmax);
    let last = gpu::argmax(&mut decoder, &rows, Output::LastArgmax);
    let StepOutput::Logits(logits) = decoder.step(&rows, Output::AllLogits).unwrap() else {
        panic!("no logits")
    };
    let largest = |row: &[f32]| {
        let best = (0..n_vocab).reduce(|best, i| if row[i] > row[best] { i } else { best });
        best.unwrap_or(0) as u32
    };
    assert_eq!(tokens, logits.chunks(n_vocab).map(largest).collect::<Vec<_>>());
    assert_eq!(last, tokens[7..]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn what_is_out_of_range_is_refused_and_changes_nothing() {
    let model = data::model("tiny-q4_k_m.gguf");
    let n_vocab = model.config().n_vocab;
    let options = EngineOptions { max_seq: 4, ..gpu::options(&model, 2, 4) };
    let mut decoder = gpu::decoder(&model, &options);
    let rows = gpu::rows(0, 0, &gpu::tokens(4, 4, n_vocab));
    let expected = gpu::logits(&mut decoder, &rows, Output::AllLogits);
    let row = |token, position, sequence| Row { token, position, sequence };
    let refused: [(&[Row], StepError); 5] = [
        (&[], StepError::Empty),
        (&[row(1, 4, 0)], StepError::Position { row: 0, position: 4, max_seq: 4 }),
        (&[row(1, 0, 2)], StepError::Sequence { row: 0, sequence: 2, n_sequences: 2 }),
        (&[row(n_vocab as u32, 0, 1)], StepError::Token { row: 0, token: n_vocab as u32, n_vocab }),
        (&[row(1, 2, 1)], StepError::Gap { row: 0, position: 2, sequence: 1, decoded: 0 }),
    ];
    for (rows, expected) in refused {
        match decoder.step(rows, Output::LastLogits) {
            Err(Error::Step(error)) => assert_eq!(error, expected),
            other => panic!("{rows:?}: {other:?}"),
        }
    }
    assert_eq!(decoder.stats().graph_steps, 1);
    let again = gpu::logits(&mut decoder, &rows[3..], Output::LastLogits);
    assert!(again == expected[3 * n_vocab..], "the cache is as it was");
}

#[test]
#[ignore = "needs a CUDA device"]
fn an_engine_that_does_not_fit_is_refused_before_anything_is_allocated() {
    let model = data::model("tiny-q4_k_m.gguf");
    let options = EngineOptions { n_sequences: 1_000_000, max_seq: 1024, ..gpu::options(&model, 1, 8) };
    let error = runtime::cuda::CudaDecoder::new(&model, &options).unwrap_err();
    let source = error.source().and_then(|source| source.downcast_ref::<CudaError>());
    let Some(CudaError::DoesNotFit { need, free }) = source else { panic!("{error:?}") };
    assert_eq!(need.caches, model.config().kv_cache_bytes(options.kv, 1_000_000, 1024));
    let text = error.chain();
    assert!(text.contains(&need.total().to_string()) && text.contains(&free.to_string()), "{text}");
}

#[test]
#[ignore = "needs a CUDA device"]
fn two_decoders_on_one_device_do_not_disturb_each_other() {
    let (a, b) = (data::model("tiny-q4_k_m.gguf"), data::model("tiny-q8_0.gguf"));
    let alone = [transcript(&a, &gpu::options(&a, 1, 8)), transcript(&b, &gpu::options(&b, 1, 8))];
    let together = std::thread::scope(|scope| {
        let threads = [&a, &b].map(|model| scope.spawn(|| transcript(model, &gpu::options(model, 1, 8))));
        threads.map(|thread| thread.join().expect("a decoder's thread ends well"))
    });
    assert!(alone == together);
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_profile_times_every_step_on_the_device() {
    let model = data::model("tiny-q4_k_m.gguf");
    let mut decoder = gpu::decoder(&model, &gpu::options(&model, 1, 8));
    let row = gpu::rows(0, 0, &[9]);
    let expected = gpu::argmax(&mut decoder, &row, Output::LastArgmax);
    // A median of few runs may be one for which the host was late.
    let options = ProfileOptions { runs: 9, chain: gpu::times(100), ..ProfileOptions::at(0) };
    let Profile { steps: times, micros } = decoder.profile(&row, Output::LastArgmax, options).unwrap();
    assert_eq!(times.len(), decoder.stats().nodes);
    for time in &times {
        // Kernels of a tiny model take microseconds; times beyond that would be the host's.
        assert!(time.micros > 0.0 && time.micros < 100.0 && time.added() <= 2.0 * time.micros, "{time:?}");
    }
    assert!(micros < 1.5 * times.iter().map(|time| time.micros).sum::<f64>(), "{micros}");
    assert_eq!(gpu::argmax(&mut decoder, &row, Output::LastArgmax), expected, "profiling changes nothing");
    let listing = decoder.listing(1, Output::LastArgmax, 1).unwrap();
    assert_eq!(listing.lines().count(), times.len() + 1, "{listing}");
}

/// Logits need more room than tokens; growing it must not leave a plan behind that points to the old memory.
#[test]
#[ignore = "needs a CUDA device"]
fn asking_for_more_later_gives_the_same_as_asking_at_once() {
    let model = data::model("tiny-q4_k_m.gguf");
    let options = gpu::options(&model, 1, 8);
    let rows = gpu::rows(0, 0, &gpu::tokens(6, 8, model.config().n_vocab));
    let mut late = gpu::decoder(&model, &options);
    let token = gpu::argmax(&mut late, &rows[..1], Output::LastArgmax);
    let logits = gpu::logits(&mut late, &rows, Output::AllLogits);
    assert_eq!(gpu::argmax(&mut late, &rows[..1], Output::LastArgmax), token);
    let mut early = gpu::decoder(&model, &options);
    assert!(gpu::logits(&mut early, &rows, Output::AllLogits) == logits);
}

#[test]
#[ignore = "needs a CUDA device"]
fn sampled_texts_are_those_of_the_host() {
    let all = SamplingOptions {
        temperature: 0.8,
        top_k: 40,
        top_p: 0.9,
        min_p: 0.05,
        repetition_penalty: 1.1,
        ..SamplingOptions::default()
    };
    let hot = SamplingOptions { temperature: 1.3, ..SamplingOptions::default() };
    let ways = [
        all,
        hot,
        SamplingOptions { top_k: 5, ..hot },
        SamplingOptions { top_p: 0.6, ..hot },
        SamplingOptions { min_p: 0.2, ..hot },
        SamplingOptions { repetition_penalty: 3.0, repeat_last_n: usize::MAX, ..hot },
        SamplingOptions { temperature: 0.0, repetition_penalty: 2.0, ..SamplingOptions::default() },
    ];
    for &file in gpu::some(&["tiny-q8_0.gguf", "tiny-f16.gguf"], 1) {
        let model = data::model(file);
        for eager in [false, true] {
            let mut decoder = gpu::decoder(&model, &EngineOptions { eager, ..gpu::options(&model, 1, 8) });
            for (seed, sampling) in (1..).zip(ways) {
                let (sampling, n) = (SamplingOptions { seed, ..sampling }, gpu::times(50));
                let prompt = gpu::tokens(7, 8, model.config().n_vocab);
                let expected = gpu::sampled_on_host(&mut decoder, &prompt, sampling, n);
                let options = GenerateOptions { sampling, ..GenerateOptions::greedy(n) };
                let found = Generator::new(&mut decoder, &prompt, options).and_then(Iterator::collect);
                let found: Vec<u32> = found.unwrap_or_else(|error| panic!("{}", error.chain()));
                assert_eq!(found, expected, "{file}, eager: {eager}, {sampling:?}");
            }
        }
    }
}
