//! BF16: the upper 16 bits of a binary32, little-endian.

use half::bf16;

use crate::bytes::u16_at;

/// Bytes of one value.
pub const BYTES: usize = 2;

/// The value with these upper bits, exactly.
#[inline(always)]
pub const fn to_f32(bits: u16) -> f32 {
    f32::from_bits((bits as u32) << 16)
}

/// The bits of the bfloat16 nearest to `value`, ties to even.
pub fn from_f32(value: f32) -> u16 {
    bf16::from_f32(value).to_bits()
}

#[inline(always)]
pub(crate) fn dequantize(src: &[u8], dst: &mut [f32]) {
    for (bytes, value) in src.as_chunks::<BYTES>().0.iter().zip(dst) {
        *value = to_f32(u16_at(bytes, 0));
    }
}

pub(crate) fn quantize(src: &[f32], dst: &mut [u8]) {
    for (value, bytes) in src.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
        *bytes = from_f32(*value).to_le_bytes();
    }
}
