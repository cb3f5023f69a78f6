//! Models with random weights and the logits that an exact f64 implementation gives for them
//! (`tests/data/synthetic`, described in `tests/data/README.md`).

use runtime::Activations;
use runtime::decoder::Decoder;
use runtime::distance::Distance;

use crate::{data, golden};

/// A model and the logits at every position of [`tokens`].
#[derive(Debug, Clone, Copy)]
pub struct Synthetic {
    /// The stem of its files.
    pub name: &'static str,
    /// Whether its matrices are quantised.
    pub quantised: bool,
}

/// The models: llama (interleaved RoPE, frequency factors) and qwen2 (NeoX RoPE, biases, tied embeddings).
pub const ALL: [Synthetic; 6] = [
    Synthetic { name: "tiny-f32", quantised: false },
    Synthetic { name: "tiny-q8_0", quantised: true },
    Synthetic { name: "tiny-q4_k_m", quantised: true },
    Synthetic { name: "tiny-qwen2-f32", quantised: false },
    Synthetic { name: "tiny-qwen2-q8_0", quantised: true },
    Synthetic { name: "tiny-qwen2-q4_k_m", quantised: true },
];

impl Synthetic {
    /// The model's file within the test data.
    pub fn file(&self) -> String {
        format!("synthetic/{}.gguf", self.name)
    }

    /// The exact logits, `[tokens, n_vocab]`.
    pub fn expected(&self) -> Vec<f32> {
        data::read(&format!("synthetic/{}.logits", self.name))
            .chunks_exact(4)
            .map(|bytes| f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
            .collect()
    }

    /// How far a decoder's logits are from the exact ones.
    pub fn compare(&self, decoder: &mut dyn Decoder) -> Distance {
        let logits = golden::all_logits(decoder, &tokens());
        Distance::between(&logits, &self.expected(), decoder.config().n_vocab)
    }

    /// Checks a distance against what the weights and activations allow: 1e-4 for F32, 1e-3 for quantised weights with
    /// f32 activations. With Q8 activations the yardstick is what llama.cpp loses on the Q4_K_M model: 4.6 % rms,
    /// a divergence of 1.1e-3.
    ///
    /// # Panics
    /// If it is larger.
    pub fn check(&self, activations: Activations, distance: Distance) {
        let quantised = self.quantised && activations == Activations::Q8;
        let (rms, kl) = match (quantised, self.quantised) {
            (true, _) => (0.046, 1.1e-3),
            (false, true) => (1e-3, 1e-6),
            (false, false) => (1e-4, 1e-8),
        };
        assert!(
            distance.relative_rms <= rms && distance.kl <= kl,
            "{} with {activations:?} activations: {distance:?}, allowed: rms {rms}, KL {kl}",
            self.name
        );
    }
}

/// The tokens whose logits are recorded.
///
/// # Panics
/// If the file of the test data is damaged.
pub fn tokens() -> Vec<u32> {
    let text = String::from_utf8(data::read("synthetic/tokens.txt")).expect("tokens.txt is text");
    text.split(',').map(|word| word.trim().parse().expect("tokens.txt holds numbers")).collect()
}
