//! F32: IEEE 754 binary32, little-endian.

use crate::bytes::f32_at;

/// Bytes of one value.
pub const BYTES: usize = 4;

#[inline(always)]
pub(crate) fn dequantize(src: &[u8], dst: &mut [f32]) {
    for (bytes, value) in src.as_chunks::<BYTES>().0.iter().zip(dst) {
        *value = f32_at(bytes, 0);
    }
}

pub(crate) fn quantize(src: &[f32], dst: &mut [u8]) {
    for (value, bytes) in src.iter().zip(dst.as_chunks_mut::<BYTES>().0) {
        *bytes = value.to_le_bytes();
    }
}
