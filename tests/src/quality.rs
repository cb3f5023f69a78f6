//! What activations of 8 bits cost: the engine as it is used, against itself with activations and caches in f32.
//!
//! The f32 path is held to exact logits by other tests (`logits_of_random_models_agree_with_the_exact_ones`), so it can
//! stand for them where no exact logits are recorded.

use runtime::decoder::Decoder;
use runtime::distance::{Distance, Sums};
use runtime::{Activations, EngineOptions, Model};
use tensor_formats::ElementType;

use crate::golden::Golden;

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
