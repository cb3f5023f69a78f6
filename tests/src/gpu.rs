//! What the GPU tests share.

use gpu_driver::Driver;
use kernels::projection::Gemm;
use runtime::cuda::CudaDecoder;
use runtime::cuda::runner::{CudaRunner, REPLAYS};
use runtime::decoder::{Decoder, Output, Row, StepOutput};
use runtime::sampling::{Sampler, SamplingOptions};
use runtime::{EngineOptions, Model};

/// Whether the first device is that of the software driver, which takes a tenth of a second for a token. Tests that
/// repeat themselves, or run long texts, do less there, and all else as on a GPU.
///
/// # Panics
/// Without a device: a GPU test that cannot run has failed.
pub fn is_simulated() -> bool {
    let name = Driver::load().and_then(|driver| driver.device(0)?.name());
    name.unwrap_or_else(|error| panic!("no CUDA device: {error}")).ends_with("(simulated)")
}

/// How often to repeat what is repeated `n` times on a GPU: on the software driver a twentieth, twice at least.
///
/// # Panics
/// Without a device.
pub fn times(n: usize) -> usize {
    if is_simulated() { (n / 20).max(2) } else { n }
}

/// All of `choices`; on the software driver the first `n` of them.
///
/// # Panics
/// Without a device.
pub fn some<T>(choices: &[T], n: usize) -> &[T] {
    if is_simulated() { &choices[..n.min(choices.len())] } else { choices }
}

/// A runner on the first device.
///
/// # Panics
/// Without a device: a GPU test that cannot run has failed.
pub fn runner() -> CudaRunner {
    CudaRunner::new(0)
        .unwrap_or_else(|error| panic!("no CUDA device: {}", runtime::error::chain(&error)))
        .with_replays(times(REPLAYS))
}

/// Whether the first device multiplies the rows of prompts as halves.
///
/// # Panics
/// Without a device.
pub fn multiplies_halves() -> bool {
    runner().cache().machine().target == Gemm::TARGET
}

/// Options for a small engine: `n_sequences` caches of 256 positions, steps of up to `max_rows` rows, and few of them
/// queued, since a text that ends early wastes those.
pub fn options(model: &Model, n_sequences: usize, max_rows: usize) -> EngineOptions {
    EngineOptions {
        max_seq: 256,
        n_sequences,
        max_rows,
        ahead: 7,
        ..EngineOptions::for_model(model.config())
    }
}

/// A decoder on the first device.
///
/// # Panics
/// If it cannot be made.
pub fn decoder(model: &Model, options: &EngineOptions) -> CudaDecoder {
    CudaDecoder::new(model, options).unwrap_or_else(|error| panic!("{}", error.chain()))
}

/// The logits of a step as bits, so that equality is of every bit.
///
/// # Panics
/// If the step fails.
pub fn logits(decoder: &mut dyn Decoder, rows: &[Row], output: Output) -> Vec<u32> {
    match decoder.step(rows, output) {
        Ok(StepOutput::Logits(logits)) => logits.iter().map(|value| value.to_bits()).collect(),
        other => panic!("asked for logits, got {other:?}"),
    }
}

/// A step that is asked for nothing but to be done.
///
/// # Panics
/// If the step fails.
pub fn step(decoder: &mut dyn Decoder, rows: &[Row], output: Output) {
    if let Err(error) = decoder.step(rows, output) {
        panic!("{}", error.chain());
    }
}

/// The token ids of a step.
///
/// # Panics
/// If the step fails.
pub fn argmax(decoder: &mut dyn Decoder, rows: &[Row], output: Output) -> Vec<u32> {
    match decoder.step(rows, output) {
        Ok(StepOutput::Argmax(tokens)) => tokens.to_vec(),
        other => panic!("asked for tokens, got {other:?}"),
    }
}

/// Rows of one sequence at consecutive positions.
pub fn rows(sequence: u32, position: u32, tokens: &[u32]) -> Vec<Row> {
    (position..).zip(tokens).map(|(position, &token)| Row { token, position, sequence }).collect()
}

/// Tokens of no meaning below `n_vocab`, the same for the same seed.
pub fn tokens(seed: u32, n: usize, n_vocab: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(2_654_435_769).wrapping_add(1);
    let mut next = || {
        // A linear congruential generator (Numerical Recipes); its upper bits are good enough for tokens.
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as usize % n_vocab
    };
    (0..n).map(|_| next() as u32).collect()
}

/// The `n` tokens that the host chooses from the logits of `prompt`, and of each token after it, in sequence 0.
///
/// # Panics
/// If a step fails.
pub fn sampled_on_host(
    decoder: &mut dyn Decoder,
    prompt: &[u32],
    sampling: SamplingOptions,
    n: usize,
) -> Vec<u32> {
    let mut sampler = Sampler::new(sampling).unwrap_or_else(|error| panic!("{error}"));
    let (mut tokens, mut pending, mut position) = (Vec::new(), prompt.to_vec(), 0);
    while tokens.len() < n {
        sampler.accept(&pending);
        let rows = rows(0, position, &pending);
        position += pending.len() as u32;
        let token = match decoder.step(&rows, Output::LastLogits) {
            Ok(StepOutput::Logits(logits)) => sampler.sample(logits, position - 1),
            other => panic!("asked for logits, got {other:?}"),
        };
        let token = token.unwrap_or_else(|| panic!("no token at {position}"));
        tokens.push(token);
        pending = vec![token];
    }
    tokens
}
