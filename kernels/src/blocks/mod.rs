//! The code that turns a block of a weight format, in the device's layout, into registers.

pub(crate) mod partition;
mod q4_0;
mod q4_k;
mod q5_k;
mod q6_k;
mod q8_0;
mod scalar;
pub(crate) mod tile;
mod weight;

use ptx_builder::{B32, KernelBuilder, Reg, S32};

pub(crate) use weight::{Decoder, Q8Activations, Raw, WeightFormat};

/// The low nibbles of a word, or for `run` 1 the high ones, one in each byte.
fn nibbles(k: &mut KernelBuilder, word: Reg<B32>, run: usize) -> Reg<B32> {
    let word = if run == 0 { word } else { k.shr::<B32>(word, 4u32) };
    k.and::<B32>(word, 0x0f0f_0f0fu32)
}

/// Byte `index` of a word.
fn byte(k: &mut KernelBuilder, word: Reg<B32>, index: u32) -> Reg<B32> {
    k.prmt::<B32>(word, 0u32, 0x4440 + index)
}

/// The low nibbles of all words, then the high ones.
fn both_nibbles(k: &mut KernelBuilder, words: &[Reg<B32>]) -> Vec<Reg<B32>> {
    (0..2)
        .flat_map(|run| words.iter().map(move |&word| (run, word)))
        .map(|(run, word)| nibbles(k, word, run))
        .collect()
}

/// `start`, and the dot product of words of four unsigned bytes with words of signed ones.
fn dot_unsigned(k: &mut KernelBuilder, weights: &[Reg<B32>], x: &[Reg<B32>], start: Reg<S32>) -> Reg<S32> {
    weights.iter().zip(x).fold(start, |dot, (&w, &x)| k.dp4a_us(w, x, dot))
}

/// The dot product of words of four signed bytes.
fn dot(k: &mut KernelBuilder, weights: &[Reg<B32>], x: &[Reg<B32>]) -> Reg<S32> {
    let zero = k.imm::<S32>(0);
    weights.iter().zip(x).fold(zero, |dot, (&w, &x)| k.dp4a_ss(w, x, dot))
}
