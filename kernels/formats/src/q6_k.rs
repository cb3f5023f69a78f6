//! Q6_K: 256 six-bit values in 16 sub-blocks, each with a signed eight-bit scale.
//!
//! # Block
//! 210 bytes for 256 values (`block_q6_K` in ggml-common.h, `dequantize_row_q6_K` in ggml-quants.c):
//!
//! | bytes | content |
//! | --- | --- |
//! | `0 .. 128` | the lower four bits of the quants, 64 bytes for each half of 128 values |
//! | `128 .. 192` | the upper two bits, 32 bytes for each half |
//! | `192 .. 208` | the scales, one signed byte for every 16 values |
//! | `208 .. 210` | `d`, f16 |
//!
//! A half has four groups of 32. With `lo` its 64 bytes and `hi` its 32, value `i` of
//! group 0 has the low nibble of `lo[i]` and bits 0, 1 of `hi[i]`; group 1 the low nibble of `lo[32 + i]` and bits
//! 2, 3; group 2 the high nibble of `lo[i]` and bits 4, 5; group 3 the high nibble of `lo[32 + i]` and bits 6, 7. The
//! six bits are an unsigned number, 32 more than the quant. A value is `d * scale * quant`.

use crate::bytes::u16_at;
use crate::fit::{self, Affine, Grid};
use crate::lanes::{self, Lanes};
use crate::{ElementType, FormatError, Q8Row, f16};

/// Values in a block.
pub const ELEMENTS: usize = 256;
/// Bytes of a block.
pub const BYTES: usize = 210;
/// Where the upper two bits of the quants begin.
pub const HIGH: usize = 128;
/// Where the scales begin.
pub const SCALES: usize = 192;
/// Where `d` is.
pub const D: usize = 208;

/// The largest magnitude that the quantiser accepts: that of the largest scale times the largest positive quant.
pub const LIMIT: f32 = 127.0 * 31.0 * f16::MAX;

/// The quants of the eight groups of a block, -32 to 31.
#[inline(always)]
fn groups(block: &[u8; BYTES]) -> [[i8; 32]; 8] {
    let mut groups = [[0; 32]; 8];
    for (half, [a, b, c, d]) in groups.as_chunks_mut::<4>().0.iter_mut().enumerate() {
        let (first, second) = block[64 * half..][..64].split_at(32);
        let high = &block[HIGH + 32 * half..][..32];
        for i in 0..32 {
            let quant = |low: u8, high: u8| (low | high << 4) as i8 - 32;
            a[i] = quant(first[i] & 15, high[i] & 3);
            b[i] = quant(second[i] & 15, (high[i] >> 2) & 3);
            c[i] = quant(first[i] >> 4, (high[i] >> 4) & 3);
            d[i] = quant(second[i] >> 4, high[i] >> 6);
        }
    }
    groups
}

#[inline(always)]
pub(crate) fn dequantize(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<BYTES>().0.iter().zip(dst.as_chunks_mut::<ELEMENTS>().0) {
        let d = f16::to_f32(u16_at(block, D));
        let groups = groups(block);
        for (g, values) in values.as_chunks_mut::<32>().0.iter_mut().enumerate() {
            for (half, values) in values.as_chunks_mut::<16>().0.iter_mut().enumerate() {
                // f16 times eight bits times six bits fits in an f32: nothing rounds.
                let scale = d * f32::from(block[SCALES + 2 * g + half] as i8);
                for (value, &quant) in values.iter_mut().zip(&groups[g][16 * half..][..16]) {
                    *value = scale * f32::from(quant);
                }
            }
        }
    }
}

pub(crate) fn quantize(src: &[f32], dst: &mut [u8]) -> Result<(), FormatError> {
    fit::check_range(ElementType::Q6_K, src, LIMIT)?;
    for (values, block) in src.as_chunks::<ELEMENTS>().0.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
        quantize_block(values, block);
    }
    Ok(())
}

/// The quants.
const GRID: Grid = Grid { low: -32.0, high: 31.0 };

fn quantize_block(values: &[f32; ELEMENTS], block: &mut [u8; BYTES]) {
    let parts = values.as_chunks::<16>().0;
    let mut ideals = [0.0; 16];
    for (ideal, part) in ideals.iter_mut().zip(parts) {
        *ideal = fit::symmetric(part, &fit::importance(part), GRID).scale;
    }
    // The scale of the largest magnitude becomes -128, the longer side of a signed byte. Zeros have a `d` of 0.0, which
    // a division by -128.0 would not give.
    let largest = ideals.iter().fold(0.0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    let d_bits = f16::scale_from_f32(0.0 - largest / 128.0);
    let d = f16::to_f32(d_bits);

    block.fill(0);
    for (p, part) in parts.iter().enumerate() {
        let scale = settle(part, ideals[p], d);
        block[SCALES + p] = scale as u8;
        let stored = Affine { scale: d * f32::from(scale), min: 0.0 };
        let (g, first) = (p / 2, 16 * (p % 2));
        let (half, quarter) = (g / 4, g % 4);
        for (i, quant) in stored.quants(part, GRID).into_iter().enumerate() {
            let bits = (quant + 32.0) as u8;
            block[64 * half + 32 * (quarter % 2) + first + i] |= (bits & 15) << (4 * (quarter / 2));
            block[HIGH + 32 * half + first + i] |= (bits >> 4) << (2 * quarter);
        }
    }
    block[D..].copy_from_slice(&d_bits.to_le_bytes());
}

/// The eight-bit scale, near the rounded one, with the least error in the end.
fn settle(part: &[f32; 16], ideal: f32, d: f32) -> i8 {
    let importance = fit::importance(part);
    let nearest = if d == 0.0 { 0.0 } else { (ideal / d).round_ties_even().clamp(-128.0, 127.0) };
    let mut best = (f32::INFINITY, 0);
    for step in [0.0, -1.0, 1.0] {
        let scale = (nearest + step).clamp(-128.0, 127.0);
        let error = Affine { scale: d * scale, min: 0.0 }.error(part, &importance, GRID);
        if error < best.0 {
            best = (error, scale as i8);
        }
    }
    best.1
}

/// The dot product with a Q8 activation: for group `g`, `lane[g % 8] += (d * act_d) * (sum of scale * products)`.
///
/// The integer sum stays within 2^24, so its conversion to f32 is exact.
pub(crate) fn dot_q8(row: &[u8], act: Q8Row<'_>) -> f32 {
    let mut lanes: Lanes = [0.0; 8];
    for (b, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        let d = f16::to_f32(u16_at(block, D));
        for (g, (lane, quants)) in lanes.iter_mut().zip(groups(block)).enumerate() {
            let act_quants = act.group(8 * b + g);
            let mut sum = 0;
            for half in 0..2 {
                let products = quants[16 * half..][..16].iter().zip(&act_quants[16 * half..][..16]);
                let part: i32 = products.map(|(&q, &a)| i32::from(q) * i32::from(a as i8)).sum();
                sum += i32::from(block[SCALES + 2 * g + half] as i8) * part;
            }
            *lane += d * act.scale(8 * b + g) * sum as f32;
        }
    }
    lanes::sum(lanes)
}
