//! Q4_K: 256 four-bit values in 8 groups, each with a six-bit scale and a six-bit minimum.
//!
//! # Block
//! 144 bytes for 256 values (`block_q4_K` in ggml-common.h, `dequantize_row_q4_K` in ggml-quants.c):
//!
//! | bytes | content |
//! | --- | --- |
//! | `0 .. 2` | `d`, f16: the scale of the scales |
//! | `2 .. 4` | `dmin`, f16: the scale of the minima |
//! | `4 .. 16` | 8 scales and 8 minima of six bits, see below |
//! | `16 .. 144` | the quants, 32 bytes for two groups: group `2k` in the low nibbles, `2k + 1` in the high ones |
//!
//! Value `i` of group `g` is `d * scale[g] * quant[i] - dmin * min[g]`.
//!
//! With `s` the 12 bytes from 4: `scale[g]` is the low six bits of `s[g]` and `min[g]` those of `s[4 + g]` for
//! `g < 4`. For `g >= 4` the low nibble of `s[4 + g]` is the lower part of `scale[g]` and its high nibble that of
//! `min[g]`; the two bits above come from the top of `s[g - 4]` and of `s[g]`.

use crate::affine_k::{self, HEADER, Quants};
use crate::fit::Grid;
use crate::{ElementType, FormatError, Q8Row};

/// Values in a block.
pub const ELEMENTS: usize = affine_k::ELEMENTS;
/// Bytes of a block.
pub const BYTES: usize = 144;
/// Where the quants begin.
pub const QUANTS: usize = HEADER;

/// The largest magnitude that the quantiser accepts: that of the lowest value that a minimum can express.
pub const LIMIT: f32 = affine_k::LIMIT;

const GRID: Grid = Grid { low: 0.0, high: 15.0 };

#[inline(always)]
fn unpack(block: &[u8; BYTES]) -> Quants {
    let mut quants = [[0; 32]; 8];
    let pairs = quants.as_chunks_mut::<2>().0.iter_mut().zip(block[QUANTS..].as_chunks::<32>().0);
    for ([even, odd], bytes) in pairs {
        *even = bytes.map(|byte| byte & 15);
        *odd = bytes.map(|byte| byte >> 4);
    }
    quants
}

fn pack(quants: &Quants, bytes: &mut [u8]) {
    for ([even, odd], bytes) in quants.as_chunks::<2>().0.iter().zip(bytes.as_chunks_mut::<32>().0) {
        *bytes = std::array::from_fn(|i| even[i] | odd[i] << 4);
    }
}

#[inline(always)]
pub(crate) fn dequantize(src: &[u8], dst: &mut [f32]) {
    affine_k::dequantize(src, dst, unpack);
}

pub(crate) fn quantize(src: &[f32], dst: &mut [u8]) -> Result<(), FormatError> {
    affine_k::quantize::<BYTES>(ElementType::Q4_K, GRID, src, dst, pack)
}

pub(crate) fn dot_q8(row: &[u8], act: Q8Row<'_>) -> f32 {
    affine_k::dot_q8(row, act, unpack)
}
