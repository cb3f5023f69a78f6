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

use crate::bytes::{u16_at, u32_at};
use crate::fit::{self, Affine, Grid};
use crate::lanes::{self, Lanes};
use crate::{ElementType, FormatError, Q8Row, f16};

/// Values in a block.
pub const ELEMENTS: usize = 256;
/// Bytes of a block.
pub const BYTES: usize = 144;
/// Where the quants begin.
pub const QUANTS: usize = 16;

/// The largest magnitude that the quantiser accepts: that of the lowest value that a minimum can express.
pub const LIMIT: f32 = 63.0 * f16::MAX;

/// The scales and minima of a block, unpacked.
#[inline(always)]
pub fn scales(block: &[u8; BYTES]) -> ([u8; 8], [u8; 8]) {
    let (scales, mins) = scale_words(block);
    (scales.to_le_bytes(), mins.to_le_bytes())
}

/// [`scales`], each as the eight bytes of a word.
#[inline(always)]
pub(crate) fn scale_words(block: &[u8; BYTES]) -> (u64, u64) {
    let [a, b, c] = [u32_at(block, 4), u32_at(block, 8), u32_at(block, 12)];
    let low = |word: u32| u64::from(word & 0x3f3f_3f3f);
    let high =
        |nibbles: u32, top: u32| u64::from((nibbles & 0x0f0f_0f0f) | (((top >> 6) & 0x0303_0303) << 4));
    (low(a) | high(c, a) << 32, low(b) | high(c >> 4, b) << 32)
}

/// The twelve bytes that [`scales`] unpacks; every scale and minimum is below 64.
pub fn pack_scales(scales: [u8; 8], mins: [u8; 8]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..4 => scales[i] | (scales[i + 4] >> 4) << 6,
        4..8 => mins[i - 4] | (mins[i] >> 4) << 6,
        _ => (scales[i - 4] & 15) | (mins[i - 4] & 15) << 4,
    })
}

#[inline(always)]
pub(crate) fn dequantize(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<BYTES>().0.iter().zip(dst.as_chunks_mut::<ELEMENTS>().0) {
        let (d, dmin) = (f16::to_f32(u16_at(block, 0)), f16::to_f32(u16_at(block, 2)));
        let (scales, mins) = scales(block);
        // f16 times six bits times four bits fits in an f32: the subtraction is the only operation that rounds.
        for (pair, values) in values.as_chunks_mut::<64>().0.iter_mut().enumerate() {
            let quants = &block[QUANTS + 32 * pair..][..32];
            let (low, high) = values.split_at_mut(32);
            let scale = |g: usize| (d * f32::from(scales[g]), dmin * f32::from(mins[g]));
            let (s, m) = scale(2 * pair);
            for (value, &byte) in low.iter_mut().zip(quants) {
                *value = s * f32::from(byte & 15) - m;
            }
            let (s, m) = scale(2 * pair + 1);
            for (value, &byte) in high.iter_mut().zip(quants) {
                *value = s * f32::from(byte >> 4) - m;
            }
        }
    }
}

pub(crate) fn quantize(src: &[f32], dst: &mut [u8]) -> Result<(), FormatError> {
    fit::check_range(ElementType::Q4_K, src, LIMIT)?;
    for (values, block) in src.as_chunks::<ELEMENTS>().0.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
        quantize_block(values, block);
    }
    Ok(())
}

/// The quants.
const GRID: Grid = Grid { low: 0.0, high: 15.0 };

fn quantize_block(values: &[f32; ELEMENTS], block: &mut [u8; BYTES]) {
    let groups = values.as_chunks::<32>().0;
    let mut fits = [Affine::default(); 8];
    for (fit, group) in fits.iter_mut().zip(groups) {
        *fit = fit::affine(group, &fit::importance(group), GRID);
    }
    let largest = |of: fn(&Affine) -> f32| fits.iter().map(of).fold(0.0, f32::max);
    let d_bits = f16::scale_from_f32(largest(|fit| fit.scale) / 63.0);
    let dmin_bits = f16::scale_from_f32(largest(|fit| fit.min) / 63.0);
    let (d, dmin) = (f16::to_f32(d_bits), f16::to_f32(dmin_bits));

    let (mut scales, mut mins) = ([0; 8], [0; 8]);
    for (g, group) in groups.iter().enumerate() {
        let (scale, min) = settle(group, fits[g], d, dmin);
        (scales[g], mins[g]) = (scale, min);
        let stored = Affine { scale: d * f32::from(scale), min: dmin * f32::from(min) };
        let bytes = &mut block[QUANTS + 32 * (g / 2)..][..32];
        for (byte, quant) in bytes.iter_mut().zip(stored.quants(group, GRID)) {
            *byte = if g % 2 == 0 { quant as u8 } else { *byte | (quant as u8) << 4 };
        }
    }
    block[..2].copy_from_slice(&d_bits.to_le_bytes());
    block[2..4].copy_from_slice(&dmin_bits.to_le_bytes());
    block[4..QUANTS].copy_from_slice(&pack_scales(scales, mins));
}

/// The six-bit scale and minimum, near the rounded ones, with the least error in the end.
fn settle(group: &[f32; 32], ideal: Affine, d: f32, dmin: f32) -> (u8, u8) {
    let importance = fit::importance(group);
    let around = |ideal: f32, unit: f32| {
        let nearest = if unit == 0.0 { 0 } else { (ideal / unit).round_ties_even().min(63.0) as u8 };
        nearest.saturating_sub(1)..=(nearest + 1).min(63)
    };
    let mut best = (f32::INFINITY, 0, 0);
    for scale in around(ideal.scale, d) {
        for min in around(ideal.min, dmin) {
            let stored = Affine { scale: d * f32::from(scale), min: dmin * f32::from(min) };
            let error = stored.error(group, &importance, GRID);
            if error < best.0 {
                best = (error, scale, min);
            }
        }
    }
    (best.1, best.2)
}

/// The dot product with a Q8 activation: for group `g`, `lane[g % 8] += (d * scale * act_d) * (sum of products)` and
/// `minima[g % 8] += dmin * min * act_s`; the result is the sum of the lanes' differences.
pub(crate) fn dot_q8(row: &[u8], act: Q8Row<'_>) -> f32 {
    let (mut lanes, mut minima): (Lanes, Lanes) = ([0.0; 8], [0.0; 8]);
    for (b, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        let (d, dmin) = (f16::to_f32(u16_at(block, 0)), f16::to_f32(u16_at(block, 2)));
        let (scales, mins) = scales(block);
        for lane in 0..8 {
            let shift = 4 * (lane % 2);
            let quants = &block[QUANTS + 32 * (lane / 2)..][..32];
            let products = quants.iter().zip(act.group(8 * b + lane));
            let sum: i32 = products.map(|(&q, &a)| i32::from((q >> shift) & 15) * i32::from(a as i8)).sum();
            lanes[lane] += d * f32::from(scales[lane]) * act.scale(8 * b + lane) * sum as f32;
            minima[lane] += dmin * f32::from(mins[lane]) * act.sum(8 * b + lane);
        }
    }
    lanes::sum(std::array::from_fn(|lane| lanes[lane] - minima[lane]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scales_survive_packing() {
        for seed in 0..64u8 {
            let six_bits = |i: usize, step: u8| (seed.wrapping_mul(step).wrapping_add(i as u8 * 11)) & 63;
            let (scales_in, mins_in) =
                (std::array::from_fn(|i| six_bits(i, 5)), std::array::from_fn(|i| six_bits(i, 29)));
            let mut block = [0; BYTES];
            block[4..16].copy_from_slice(&pack_scales(scales_in, mins_in));
            assert_eq!(scales(&block), (scales_in, mins_in));
        }
    }
}
