//! What Q4_K and Q5_K have in common: 256 values in 8 groups of 32, each with a scale and a minimum, in a header whose
//! layout [`q4_k`](crate::q4_k) describes. The formats differ in the range of their quants and in where these are.

use crate::bytes::{bytes_at, u16_at, u32_at};
use crate::fit::{self, Affine, Grid};
use crate::lanes::{self, Lanes};
use crate::{ElementType, FormatError, Q8Row, f16};

/// Values in a block.
pub(crate) const ELEMENTS: usize = 256;

/// `d`, `dmin` and the packed scales and minima, at the start of a block.
pub(crate) const HEADER: usize = 16;

/// The quants of the eight groups, unsigned.
pub(crate) type Quants = [[u8; 32]; 8];

/// The largest magnitude that the quantisers accept: that of the lowest value that a minimum can express.
pub(crate) const LIMIT: f32 = 63.0 * f16::MAX;

/// The eight scales and the eight minima, each as the bytes of a word.
#[inline(always)]
pub(crate) fn scale_words(header: &[u8; HEADER]) -> (u64, u64) {
    let [a, b, c] = [u32_at(header, 4), u32_at(header, 8), u32_at(header, 12)];
    let low = |word: u32| u64::from(word & 0x3f3f_3f3f);
    let high =
        |nibbles: u32, top: u32| u64::from((nibbles & 0x0f0f_0f0f) | (((top >> 6) & 0x0303_0303) << 4));
    (low(a) | high(c, a) << 32, low(b) | high(c >> 4, b) << 32)
}

/// The twelve bytes that [`scale_words`] unpacks; every scale and minimum is below 64.
pub(crate) fn pack_scales(scales: [u8; 8], mins: [u8; 8]) -> [u8; 12] {
    std::array::from_fn(|i| match i {
        0..4 => scales[i] | (scales[i + 4] >> 4) << 6,
        4..8 => mins[i - 4] | (mins[i] >> 4) << 6,
        _ => (scales[i - 4] & 15) | (mins[i - 4] & 15) << 4,
    })
}

/// `d * scale` and `dmin * min` of each group, exactly.
#[inline(always)]
pub(crate) fn groups(header: &[u8; HEADER]) -> [Affine; 8] {
    let (d, dmin) = (f16::to_f32(u16_at(header, 0)), f16::to_f32(u16_at(header, 2)));
    let (scales, mins) = scale_words(header);
    let (scales, mins) = (scales.to_le_bytes(), mins.to_le_bytes());
    std::array::from_fn(|g| Affine { scale: d * f32::from(scales[g]), min: dmin * f32::from(mins[g]) })
}

/// The header at the start of a block.
#[inline(always)]
pub(crate) fn header<const BYTES: usize>(block: &[u8; BYTES]) -> &[u8; HEADER] {
    bytes_at(block, 0)
}

/// Converts whole blocks, whose quants `unpack` gives, to f32.
#[inline(always)]
pub(crate) fn dequantize<const BYTES: usize>(
    src: &[u8],
    dst: &mut [f32],
    unpack: impl Fn(&[u8; BYTES]) -> Quants,
) {
    for (block, values) in src.as_chunks::<BYTES>().0.iter().zip(dst.as_chunks_mut::<ELEMENTS>().0) {
        let groups = groups(header(block)).into_iter().zip(unpack(block));
        for ((group, quants), values) in groups.zip(values.as_chunks_mut::<32>().0) {
            // f16 times six bits times five bits fits in an f32: the subtraction is the only operation that rounds.
            for (value, quant) in values.iter_mut().zip(quants) {
                *value = group.scale * f32::from(quant) - group.min;
            }
        }
    }
}

/// Converts f32 to blocks of `BYTES` bytes: headers, and quants of `grid` that `pack` writes to what follows them.
pub(crate) fn quantize<const BYTES: usize>(
    ty: ElementType,
    grid: Grid,
    src: &[f32],
    dst: &mut [u8],
    pack: impl Fn(&Quants, &mut [u8]),
) -> Result<(), FormatError> {
    fit::check_range(ty, src, LIMIT)?;
    for (values, block) in src.as_chunks::<ELEMENTS>().0.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
        let (header, packed) = block.split_at_mut(HEADER);
        pack(&quantize_block(values, grid, header), packed);
    }
    Ok(())
}

/// Searches the header and the quants of a block, and writes the header.
fn quantize_block(values: &[f32; ELEMENTS], grid: Grid, header: &mut [u8]) -> Quants {
    let groups = values.as_chunks::<32>().0;
    let mut fits = [Affine::default(); 8];
    for (fit, group) in fits.iter_mut().zip(groups) {
        *fit = fit::affine(group, &fit::importance(group), grid);
    }
    // A fit may have -0.0 for a minimum, and of two zeros `f32::max` gives either.
    let largest =
        |of: fn(&Affine) -> f32| fits.iter().map(of).fold(0.0, |max, x| if x > max { x } else { max });
    let d_bits = f16::scale_from_f32(largest(|fit| fit.scale) / 63.0);
    let dmin_bits = f16::scale_from_f32(largest(|fit| fit.min) / 63.0);
    let (d, dmin) = (f16::to_f32(d_bits), f16::to_f32(dmin_bits));

    let (mut scales, mut mins, mut quants) = ([0; 8], [0; 8], [[0; 32]; 8]);
    for (g, group) in groups.iter().enumerate() {
        let (scale, min) = settle(group, fits[g], grid, d, dmin);
        (scales[g], mins[g]) = (scale, min);
        let stored = Affine { scale: d * f32::from(scale), min: dmin * f32::from(min) };
        quants[g] = stored.quants(group, grid).map(|quant| quant as u8);
    }
    header[..2].copy_from_slice(&d_bits.to_le_bytes());
    header[2..4].copy_from_slice(&dmin_bits.to_le_bytes());
    header[4..].copy_from_slice(&pack_scales(scales, mins));
    quants
}

/// The six-bit scale and minimum, near the rounded ones, with the least error in the end.
fn settle(group: &[f32; 32], ideal: Affine, grid: Grid, d: f32, dmin: f32) -> (u8, u8) {
    let importance = fit::importance(group);
    let around = |ideal: f32, unit: f32| {
        let nearest = if unit == 0.0 { 0 } else { (ideal / unit).round_ties_even().min(63.0) as u8 };
        nearest.saturating_sub(1)..=(nearest + 1).min(63)
    };
    let mut best = (f32::INFINITY, 0, 0);
    for scale in around(ideal.scale, d) {
        for min in around(ideal.min, dmin) {
            let stored = Affine { scale: d * f32::from(scale), min: dmin * f32::from(min) };
            let error = stored.error(group, &importance, grid);
            if error < best.0 {
                best = (error, scale, min);
            }
        }
    }
    (best.1, best.2)
}

/// The dot product with a Q8 activation: for group `g`, `lane[g % 8] += (d * scale * act_d) * (sum of products)` and
/// `minima[g % 8] += dmin * min * act_s`; the result is the sum of the lanes' differences.
pub(crate) fn dot_q8<const BYTES: usize>(
    row: &[u8],
    act: Q8Row<'_>,
    unpack: impl Fn(&[u8; BYTES]) -> Quants,
) -> f32 {
    let (mut lanes, mut minima): (Lanes, Lanes) = ([0.0; 8], [0.0; 8]);
    for (b, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        for (lane, (group, quants)) in groups(header(block)).into_iter().zip(unpack(block)).enumerate() {
            let products = quants.iter().zip(act.group(8 * b + lane));
            let sum: i32 = products.map(|(&q, &a)| i32::from(q) * i32::from(a as i8)).sum();
            lanes[lane] += group.scale * act.scale(8 * b + lane) * sum as f32;
            minima[lane] += group.min * act.sum(8 * b + lane);
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
            let (scales, mins) =
                (std::array::from_fn(|i| six_bits(i, 5)), std::array::from_fn(|i| six_bits(i, 29)));
            let mut header = [0; HEADER];
            header[4..].copy_from_slice(&pack_scales(scales, mins));
            assert_eq!(scale_words(&header), (u64::from_le_bytes(scales), u64::from_le_bytes(mins)));
        }
    }
}
