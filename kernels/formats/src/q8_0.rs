//! Q8_0: 32 signed bytes and one scale.
//!
//! # Block
//! 34 bytes for 32 values (`block_q8_0` in ggml-common.h):
//!
//! | bytes | content |
//! | --- | --- |
//! | `0 .. 2` | `d`, f16 |
//! | `2 .. 34` | the quants, one signed byte a value, in order |
//!
//! Value `i` is `d * quant[i]`.

use crate::bytes::u16_at;
use crate::lanes::{self, Lanes};
use crate::rounding::round_to_i32;
use crate::{ElementType, FormatError, Q8Row, f16, fit};

/// Values in a block.
pub const ELEMENTS: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 34;

/// The largest magnitude that a block can hold.
pub const LIMIT: f32 = 127.0 * f16::MAX;

#[inline(always)]
pub(crate) fn dequantize(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<BYTES>().0.iter().zip(dst.as_chunks_mut::<ELEMENTS>().0) {
        let d = f16::to_f32(u16_at(block, 0));
        for (value, &quant) in values.iter_mut().zip(&block[2..]) {
            *value = d * f32::from(quant as i8);
        }
    }
}

pub(crate) fn quantize(src: &[f32], dst: &mut [u8]) -> Result<(), FormatError> {
    fit::check_range(ElementType::Q8_0, src, LIMIT)?;
    for (values, block) in src.as_chunks::<ELEMENTS>().0.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
        let bits = f16::scale_from_f32(fit::max_abs(values) / 127.0);
        let d = f16::to_f32(bits);
        // Dividing by the scale as stored, not as computed, keeps every error within half of it.
        let inverse = if d == 0.0 { 0.0 } else { 1.0 / d };
        block[..2].copy_from_slice(&bits.to_le_bytes());
        for (value, quant) in values.iter().zip(&mut block[2..]) {
            *quant = round_to_i32((value * inverse).clamp(-127.0, 127.0)) as u8;
        }
    }
    Ok(())
}

/// The dot product with a Q8 activation: for group `g`, `lane[g % 8] += (d * act_d) * (sum of products)`.
pub(crate) fn dot_q8(row: &[u8], act: Q8Row<'_>) -> f32 {
    let mut lanes: Lanes = [0.0; 8];
    for (g, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        let products = block[2..].iter().zip(act.group(g));
        let sum: i32 = products.map(|(&q, &a)| i32::from(q as i8) * i32::from(a as i8)).sum();
        lanes[g % 8] += f16::to_f32(u16_at(block, 0)) * act.scale(g) * sum as f32;
    }
    lanes::sum(lanes)
}
