//! Q5_K: 256 five-bit values in 8 groups, each with a six-bit scale and a six-bit minimum.
//!
//! # Block
//! 176 bytes for 256 values (`block_q5_K` in ggml-common.h, `dequantize_row_q5_K` in ggml-quants.c):
//!
//! | bytes | content |
//! | --- | --- |
//! | `0 .. 16` | `d`, `dmin`, scales and minima, as in [`q4_k`](crate::q4_k) |
//! | `16 .. 48` | the top bits of the quants: bit `g` of byte `i` is that of value `i` of group `g` |
//! | `48 .. 176` | the lower four bits, 32 bytes for two groups: group `2k` in the low nibbles, `2k + 1` in the high ones |
//!
//! Value `i` of group `g` is `d * scale[g] * quant[i] - dmin * min[g]`.

use crate::affine_k::{self, HEADER, Quants};
use crate::fit::Grid;
use crate::{ElementType, FormatError, Q8Row};

/// Values in a block.
pub const ELEMENTS: usize = affine_k::ELEMENTS;
/// Bytes of a block.
pub const BYTES: usize = 176;
/// Where the top bits of the quants begin.
pub const HIGH: usize = HEADER;
/// Where the lower four bits of the quants begin.
pub const LOW: usize = HIGH + 32;

/// The largest magnitude that the quantiser accepts: that of the lowest value that a minimum can express.
pub const LIMIT: f32 = affine_k::LIMIT;

const GRID: Grid = Grid { low: 0.0, high: 31.0 };

#[inline(always)]
fn unpack(block: &[u8; BYTES]) -> Quants {
    let high = &block[HIGH..LOW];
    let mut quants = [[0; 32]; 8];
    for (g, quants) in quants.iter_mut().enumerate() {
        let low = &block[LOW + 32 * (g / 2)..][..32];
        let shift = 4 * (g % 2);
        for (quant, (&low, &high)) in quants.iter_mut().zip(low.iter().zip(high)) {
            *quant = (low >> shift) & 15 | ((high >> g) & 1) << 4;
        }
    }
    quants
}

fn pack(quants: &Quants, bytes: &mut [u8]) {
    let (high, low) = bytes.split_at_mut(LOW - HIGH);
    for (i, byte) in high.iter_mut().enumerate() {
        *byte = (0..8).fold(0, |bits, g| bits | (quants[g][i] >> 4) << g);
    }
    for ([even, odd], bytes) in quants.as_chunks::<2>().0.iter().zip(low.as_chunks_mut::<32>().0) {
        *bytes = std::array::from_fn(|i| even[i] & 15 | (odd[i] & 15) << 4);
    }
}

#[inline(always)]
pub(crate) fn dequantize(src: &[u8], dst: &mut [f32]) {
    affine_k::dequantize(src, dst, unpack);
}

pub(crate) fn quantize(src: &[f32], dst: &mut [u8]) -> Result<(), FormatError> {
    affine_k::quantize::<BYTES>(ElementType::Q5_K, GRID, src, dst, pack)
}

pub(crate) fn dot_q8(row: &[u8], act: Q8Row<'_>) -> f32 {
    affine_k::dot_q8(row, act, unpack)
}
