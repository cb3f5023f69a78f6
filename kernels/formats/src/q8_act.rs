//! Q8Act: activations quantised to signed bytes, planar within a row.
//!
//! # Layout
//! A row of `n` values (`n` a multiple of 32) takes `n * 40 / 32` bytes:
//!
//! | bytes | content |
//! | --- | --- |
//! | `0 .. n` | the quants, one signed byte a value, in order |
//! | `n + 8*g .. n + 8*g + 4` | `d` of group `g`, f32 little-endian |
//! | `n + 8*g + 4 .. n + 8*g + 8` | `s` of group `g`, f32 little-endian |
//!
//! Group `g` is values `32*g .. 32*g + 32`; value `i` of it stands for `d * quant[i]`, and `s = d * sum(quants of g)`,
//! which turns the minimum of a Q4_K block into one multiplication. Rows of a tensor follow each other without gaps,
//! so that every row starts at a multiple of 8 bytes.
//!
//! # Quantisation, to the bit
//! All arithmetic is IEEE binary32, round to nearest even, nothing contracted. For each group, with `x[0..32]`:
//!
//! 1. `a` = the largest bit pattern of `|x[i]|` as an unsigned integer: the largest magnitude, ordered so that an
//!    infinity is above every number and a NaN above that.
//! 2. If `a >= 0x7f80_0000` (an infinity or a NaN): `d = s = 0x7fc0_0000` (a NaN), every quant 0. Whatever is computed
//!    from the group is then NaN, never a plausible number.
//! 3. `d = a / 127.0`. If `d < 2^-126`, a subnormal or zero: `d = s = 0`, every quant 0. The reciprocal of a smaller
//!    `d` could overflow, and flushing here makes the result independent of the processor's subnormal mode.
//! 4. `r = 1.0 / d`, `quant[i] = round_half_even(x[i] * r)`, which is within -127..=127.
//! 5. `s = d * (sum of the quants, exact, converted to f32)`. (For `a` beyond 1e37 it can overflow to an infinity.)

use crate::bytes::f32_at;
use crate::rounding::round_to_i32;
use crate::{ElementType, FormatError};

/// Values that share a scale.
pub const GROUP: usize = 32;

/// One row of Q8Act.
#[derive(Debug, Clone, Copy)]
pub struct Q8Row<'a> {
    bytes: &'a [u8],
    cols: usize,
}

impl<'a> Q8Row<'a> {
    /// A view of the bytes of one row of `cols` values.
    ///
    /// # Errors
    /// As [`ElementType::row_bytes`], and [`FormatError::Length`] if `bytes` is not as long as that.
    pub fn new(cols: usize, bytes: &'a [u8]) -> Result<Self, FormatError> {
        FormatError::check_len("bytes of a Q8Act row", ElementType::Q8Act.row_bytes(cols)?, bytes.len())?;
        Ok(Self { bytes, cols })
    }

    /// The number of values.
    pub fn cols(self) -> usize {
        self.cols
    }

    /// The quants, each a signed byte.
    pub fn quants(self) -> &'a [u8] {
        &self.bytes[..self.cols]
    }

    /// The scales and sums: pairs of little-endian f32, one pair a group.
    pub fn scales(self) -> &'a [u8] {
        &self.bytes[self.cols..]
    }

    /// The quants of group `g`.
    #[inline(always)]
    pub(crate) fn group(self, g: usize) -> &'a [u8] {
        &self.bytes[GROUP * g..][..GROUP]
    }

    /// The scale `d` of group `g`.
    ///
    /// # Panics
    /// If the row has no such group.
    #[inline(always)]
    pub fn scale(self, g: usize) -> f32 {
        f32_at(self.bytes, self.cols + 8 * g)
    }

    /// `s` of group `g`: the scale times the sum of the quants.
    ///
    /// # Panics
    /// If the row has no such group.
    #[inline(always)]
    pub fn sum(self, g: usize) -> f32 {
        f32_at(self.bytes, self.cols + 8 * g + 4)
    }

    /// This row alone, as a matrix of one.
    pub(crate) fn as_rows(self) -> Q8Rows<'a> {
        Q8Rows { bytes: self.bytes, cols: self.cols, row_bytes: self.bytes.len() }
    }
}

/// Rows of Q8Act, one after the other.
#[derive(Debug, Clone, Copy)]
pub struct Q8Rows<'a> {
    bytes: &'a [u8],
    cols: usize,
    row_bytes: usize,
}

impl<'a> Q8Rows<'a> {
    /// A view of whole rows of `cols` values each.
    ///
    /// # Errors
    /// As [`ElementType::row_bytes`]; [`FormatError::Length`] if `bytes` is not a whole number of rows or `cols` is 0.
    pub fn new(cols: usize, bytes: &'a [u8]) -> Result<Self, FormatError> {
        let row_bytes = crate::matrix::whole_rows(ElementType::Q8Act, cols, bytes)?;
        Ok(Self { bytes, cols, row_bytes })
    }

    /// The number of rows.
    pub fn rows(self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// The number of values in a row.
    pub fn cols(self) -> usize {
        self.cols
    }

    /// Row `index`.
    ///
    /// # Panics
    /// If there is no such row.
    #[inline(always)]
    pub fn row(self, index: usize) -> Q8Row<'a> {
        Q8Row { bytes: &self.bytes[index * self.row_bytes..][..self.row_bytes], cols: self.cols }
    }
}

/// The first bit pattern that is not a finite magnitude.
pub(crate) const INFINITE: u32 = 0x7f80_0000;
/// The scale and sum of a group that is not finite.
pub(crate) const NOT_FINITE: f32 = f32::from_bits(0x7fc0_0000);

/// `d` for a group whose largest magnitude has these bits: NaN, zero, or a normal number (steps 2 and 3).
#[inline(always)]
pub(crate) fn group_scale(largest: u32) -> f32 {
    let d = f32::from_bits(largest) / 127.0;
    if largest >= INFINITE {
        NOT_FINITE
    } else if d < f32::MIN_POSITIVE {
        0.0
    } else {
        d
    }
}

#[inline(always)]
pub(crate) fn dequantize(src: &[u8], dst: &mut [f32]) {
    let (quants, scales) = src.split_at(dst.len());
    for (g, (quants, values)) in
        quants.as_chunks::<GROUP>().0.iter().zip(dst.as_chunks_mut::<GROUP>().0).enumerate()
    {
        let d = f32_at(scales, 8 * g);
        for (value, &quant) in values.iter_mut().zip(quants) {
            *value = d * f32::from(quant as i8);
        }
    }
}

/// Quantises one row; `dst` is as long as the row's type says.
pub(crate) fn quantize(src: &[f32], dst: &mut [u8]) {
    let (quants, scales) = dst.split_at_mut(src.len());
    let groups = src.as_chunks::<GROUP>().0.iter().zip(quants.as_chunks_mut::<GROUP>().0);
    for ((values, quants), pair) in groups.zip(scales.as_chunks_mut::<8>().0) {
        let largest = values.iter().fold(0, |max, x| (x.to_bits() & 0x7fff_ffff).max(max));
        let d = group_scale(largest);
        let mut sum = 0;
        if d > 0.0 {
            let inverse = 1.0 / d;
            for (value, quant) in values.iter().zip(quants) {
                let rounded = round_to_i32(value * inverse);
                *quant = rounded as u8;
                sum += rounded;
            }
        } else {
            quants.fill(0);
        }
        let s = if d > 0.0 { d * sum as f32 } else { d };
        pair[..4].copy_from_slice(&d.to_le_bytes());
        pair[4..].copy_from_slice(&s.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(values: &[f32]) -> (Vec<i8>, Vec<(f32, f32)>) {
        let mut bytes = vec![0xaa; ElementType::Q8Act.row_bytes(values.len()).unwrap()];
        quantize(values, &mut bytes);
        let row = Q8Row::new(values.len(), &bytes).unwrap();
        let pairs = (0..values.len() / GROUP).map(|g| (row.scale(g), row.sum(g))).collect();
        (row.quants().iter().map(|&q| q as i8).collect(), pairs)
    }

    #[test]
    fn extremes_become_127_and_the_sum_is_exact() {
        let mut values = [0.0; 64];
        values[..3].copy_from_slice(&[254.0, -254.0, 1.0]);
        values[32..].fill(-3.5);
        let (quants, pairs) = quantized(&values);
        // 1.0 is half a step: it goes to the even neighbour.
        assert_eq!(&quants[..4], &[127, -127, 0, 0]);
        assert_eq!(pairs[0], (2.0, 0.0));
        assert!(quants[32..].iter().all(|&q| q == -127));
        assert_eq!(pairs[1], (3.5 / 127.0, (3.5f32 / 127.0) * -4064.0));
    }

    #[test]
    fn a_group_that_is_not_finite_becomes_nan_and_spares_its_neighbours() {
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut values = [1.0; 96];
            values[40] = bad;
            let (quants, pairs) = quantized(&values);
            assert_eq!([pairs[1].0.to_bits(), pairs[1].1.to_bits()], [0x7fc0_0000; 2]);
            assert!(quants[32..64].iter().all(|&q| q == 0));
            assert_eq!((quants[0], quants[95]), (127, 127));
            assert!(pairs[0].0.is_finite() && pairs[2].0.is_finite());
        }
    }

    #[test]
    fn tiny_groups_become_zero() {
        let edge = 127.0 * f32::MIN_POSITIVE;
        for (largest, zero) in [(0.0, true), (-0.0, true), (1e-40, true), (edge * 0.99, true), (edge, false)]
        {
            let (quants, pairs) = quantized(&[largest; 32]);
            assert_eq!(quants.iter().all(|&q| q == 0), zero, "{largest:e}");
            assert_eq!(pairs[0].0.to_bits() == 0, zero);
            assert_eq!(pairs[0].1.to_bits() == 0, zero);
        }
    }
}
