//! The code that turns a block of a weight format, in the device's layout, into registers.

pub(crate) mod half;
pub(crate) mod partition;
mod q4_0;
mod q4_k;
mod q5_k;
mod q6_k;
mod q8_0;
mod scalar;
mod scale;
pub(crate) mod tile;
mod weight;

use ptx_builder::{B32, KernelBuilder, Reg};

pub(crate) use weight::{Decoder, Q8Activations, Raw, WeightFormat};

/// The low nibbles of a word, or for `run` 1 the high ones, one in each byte.
fn nibbles(k: &mut KernelBuilder, word: Reg<B32>, run: usize) -> Reg<B32> {
    let word = if run == 0 { word } else { k.shr::<B32>(word, 4u32) };
    k.and::<B32>(word, 0x0f0f_0f0fu32)
}

/// The low nibbles of all words, then the high ones.
fn both_nibbles(k: &mut KernelBuilder, words: &[Reg<B32>]) -> Vec<Reg<B32>> {
    (0..2)
        .flat_map(|run| words.iter().map(move |&word| (run, word)))
        .map(|(run, word)| nibbles(k, word, run))
        .collect()
}
