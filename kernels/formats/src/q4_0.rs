//! Q4_0: 32 four-bit values and one scale.
//!
//! # Block
//! 18 bytes for 32 values (`block_q4_0` in ggml-common.h, `dequantize_row_q4_0` in ggml-quants.c):
//!
//! | bytes | content |
//! | --- | --- |
//! | `0 .. 2` | `d`, f16 |
//! | `2 .. 18` | the quants: byte `i` has value `i` in its low nibble and value `16 + i` in its high one |
//!
//! A nibble is an unsigned number, 8 more than the quant. A value is `d * quant`.

use crate::bytes::u16_at;
use crate::fit::{self, Affine, Grid};
use crate::lanes::{self, Lanes};
use crate::{ElementType, FormatError, Q8Row, f16};

/// Values in a block.
pub const ELEMENTS: usize = 32;
/// Bytes of a block.
pub const BYTES: usize = 18;

/// The largest magnitude that the quantiser accepts: that of the largest scale times the largest positive quant.
pub const LIMIT: f32 = 7.0 * f16::MAX;

const GRID: Grid = Grid { low: -8.0, high: 7.0 };

/// The quants, -8 to 7.
#[inline(always)]
fn unpack(block: &[u8; BYTES]) -> [i8; ELEMENTS] {
    let mut quants = [0; ELEMENTS];
    let (low, high) = quants.split_at_mut(16);
    for ((low, high), byte) in low.iter_mut().zip(high).zip(&block[2..]) {
        (*low, *high) = ((byte & 15) as i8 - 8, (byte >> 4) as i8 - 8);
    }
    quants
}

#[inline(always)]
pub(crate) fn dequantize(src: &[u8], dst: &mut [f32]) {
    for (block, values) in src.as_chunks::<BYTES>().0.iter().zip(dst.as_chunks_mut::<ELEMENTS>().0) {
        let d = f16::to_f32(u16_at(block, 0));
        for (value, quant) in values.iter_mut().zip(unpack(block)) {
            *value = d * f32::from(quant);
        }
    }
}

pub(crate) fn quantize(src: &[f32], dst: &mut [u8]) -> Result<(), FormatError> {
    fit::check_range(ElementType::Q4_0, src, LIMIT)?;
    for (values, block) in src.as_chunks::<ELEMENTS>().0.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
        let bits = f16::scale_from_f32(fit::symmetric(values, &fit::importance(values), GRID).scale);
        let stored = Affine { scale: f16::to_f32(bits), min: 0.0 };
        let nibbles = stored.quants(values, GRID).map(|quant| (quant + 8.0) as u8);
        block[..2].copy_from_slice(&bits.to_le_bytes());
        for (i, byte) in block[2..].iter_mut().enumerate() {
            *byte = nibbles[i] | nibbles[16 + i] << 4;
        }
    }
    Ok(())
}

/// The dot product with a Q8 activation: for group `g`, `lane[g % 8] += (d * act_d) * (sum of products)`.
pub(crate) fn dot_q8(row: &[u8], act: Q8Row<'_>) -> f32 {
    let mut lanes: Lanes = [0.0; 8];
    for (g, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
        let quants = unpack(block);
        let products = quants.iter().zip(act.group(g));
        let sum: i32 = products.map(|(&q, &a)| i32::from(q) * i32::from(a as i8)).sum();
        lanes[g % 8] += f16::to_f32(u16_at(block, 0)) * act.scale(g) * sum as f32;
    }
    lanes::sum(lanes)
}
