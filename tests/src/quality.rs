//! What activations of 8 bits cost: the engine as it is used, against itself with activations and caches in f32.
//!
//! The f32 path is held to exact logits by other tests (`logits_of_random_models_agree_with_the_exact_ones`), so it can
//! stand for them where no exact logits are recorded.

use runtime::decoder::{Decoder, Output, StepOutput};
use runtime::distance::{Distance, Sums};
use runtime::{Activations, EngineOptions, Model};
use tensor_formats::ElementType;

use crate::golden::Golden;
use crate::gpu;

/// The largest mean divergence of the trained model's next-token distributions, in nats.
pub const LARGEST_KL: f64 = 1e-3;

/// What llama.cpp loses with activations of 8 bits and an F16 cache on models of two layers with random weights: the
/// yardstick where no trained weights are.
pub const RANDOM_KL: f64 = 1.1e-3;

/// As [`RANDOM_KL`]: the relative root mean square of the logits' errors.
pub const RANDOM_RMS: f64 = 0.046;

/// Layers of the models of the yardstick.
const YARDSTICK_LAYERS: f64 = 2.0;

/// `options` of the path that is taken for right.
#[must_use]
pub fn right(options: &EngineOptions) -> EngineOptions {
    EngineOptions { activations: Activations::F32, kv: ElementType::F32, ..options.clone() }
}

/// The texts of a model's golden outputs: each prompt with its recorded continuation.
pub fn golden_texts(golden: &Golden, file: &str) -> Vec<Vec<u32>> {
    let cases = golden.cases.iter().filter(|case| case.file == file);
    cases.map(|case| [case.prompt_ids.as_slice(), &case.ids].concat()).collect()
}

/// The distance over all of `texts`.
///
/// # Panics
/// If a step fails.
pub fn compare(decoder: &mut dyn Decoder, right: &mut dyn Decoder, texts: &[Vec<u32>]) -> Distance {
    let mut sums = Sums::default();
    for text in texts {
        if let Err(error) = sums.add_text(decoder, right, 0, text) {
            panic!("{}", error.chain());
        }
    }
    sums.distance()
}

/// The distance where the first part of each text, all but the last quarter, was decoded as a prompt: of the next token of
/// that, and over the rest.
///
/// # Panics
/// If a step fails.
pub fn compare_after_prompts(
    decoder: &mut dyn Decoder,
    right: &mut dyn Decoder,
    texts: &[Vec<u32>],
) -> Distance {
    let mut sums = Sums::default();
    let n_vocab = decoder.config().n_vocab;
    for text in texts {
        sums.add(&after_prompt(decoder, text), &after_prompt(right, text), n_vocab);
    }
    sums.distance()
}

/// The logits of the last token of a text's prompt, then those of each token after it.
fn after_prompt(decoder: &mut dyn Decoder, text: &[u32]) -> Vec<f32> {
    let (prompt, rest) = text.split_at(text.len() - text.len() / 4);
    let mut steps = Vec::new();
    let chunk = decoder.prompt_rows();
    for (tokens, start) in prompt.chunks(chunk).zip((0..).step_by(chunk)) {
        let ends = start + tokens.len() == prompt.len();
        let output = if ends { Output::LastLogits } else { Output::Cache };
        steps.push((gpu::rows(0, start as u32, tokens), output));
    }
    let chunk = decoder.max_rows();
    for (tokens, start) in rest.chunks(chunk).zip((prompt.len()..).step_by(chunk)) {
        steps.push((gpu::rows(0, start as u32, tokens), Output::AllLogits));
    }
    let mut logits = Vec::new();
    for (rows, output) in steps {
        match decoder.step(&rows, output) {
            Ok(StepOutput::Logits(found)) => logits.extend_from_slice(found),
            Ok(_) => {}
            Err(error) => panic!("{}", error.chain()),
        }
    }
    logits
}

/// Checks the distance of a trained model, that was measured at `positions` positions.
///
/// # Panics
/// If it is too large, if something else was measured, or if there is none: then both paths are the same.
pub fn check(what: &str, distance: Distance, positions: usize) {
    assert_eq!(distance.positions, positions, "{what}");
    assert!(distance.kl > 0.0 && distance.kl <= LARGEST_KL, "{what}: {distance}; allowed: {LARGEST_KL:e}");
}

/// Checks the distance of a model with random weights against the yardstick. Each layer adds errors that know nothing of
/// the others', so their squares add up, and with them the divergence, which is of second order: the bounds of a model
/// of more layers than the yardstick's are higher in that proportion.
///
/// # Panics
/// If it is larger, or none.
pub fn check_random(model: &Model, distance: Distance) {
    let depth = model.config().n_layers as f64 / YARDSTICK_LAYERS;
    let (kl, rms) = (RANDOM_KL * depth, RANDOM_RMS * depth.sqrt());
    let allowed = distance.kl <= kl && distance.relative_rms <= rms;
    let name = model.name();
    assert!(distance.kl > 0.0 && allowed, "{name}: {distance}; allowed: KL {kl:.2e}, rms {rms:.3}");
}
