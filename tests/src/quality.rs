//! What activations of 8 bits cost: the engine as it is used, against itself with activations and caches in f32.
//!
//! The f32 path is held to exact logits by other tests (`logits_of_random_models_agree_with_the_exact_ones`), so it can
//! stand for them where no exact logits are recorded.

use runtime::decoder::Decoder;
use runtime::distance::{Distance, Sums};
use runtime::{Activations, EngineOptions};
use tensor_formats::ElementType;

use crate::golden::Golden;

/// The largest mean divergence of the trained model's next-token distributions, in nats.
pub const LARGEST_KL: f64 = 1e-3;

/// What llama.cpp loses with activations of 8 bits and an F16 cache on weights of random values: the yardstick where no
/// trained weights are.
pub const RANDOM_KL: f64 = 1.1e-3;

/// As [`RANDOM_KL`]: the relative root mean square of the logits' errors.
pub const RANDOM_RMS: f64 = 0.046;

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

/// Checks the distance of a model with random weights.
///
/// # Panics
/// If it is larger than what is usual elsewhere, or none.
pub fn check_random(what: &str, distance: Distance) {
    let allowed = distance.kl <= RANDOM_KL && distance.relative_rms <= RANDOM_RMS;
    assert!(distance.kl > 0.0 && allowed, "{what}: {distance}; allowed: KL {RANDOM_KL:e}, rms {RANDOM_RMS}");
}
