//! F16: IEEE 754 binary16, little-endian; as an element type and as the scale of every block format.

use half::f16;

use crate::bytes::u16_at;

/// Bytes of one value.
pub const BYTES: usize = 2;

/// The largest finite value.
pub const MAX: f32 = 65504.0;

/// The value of the binary16 with these bits, exactly.
#[inline(always)]
pub const fn to_f32(bits: u16) -> f32 {
    /// The difference of the two exponent biases, 127 - 15, as a factor.
    const REBIAS: f32 = f32::from_bits((127 + 112) << 23);
    let sign = (bits as u32 & 0x8000) << 16;
    let magnitude = (bits as u32 & 0x7fff) << 13;
    // The multiplication also normalises subnormals; infinities and NaNs have no finite counterpart.
    let finite = (f32::from_bits(magnitude) * REBIAS).to_bits();
    let value = if bits & 0x7c00 == 0x7c00 { magnitude | 0x7f80_0000 } else { finite };
    f32::from_bits(sign | value)
}

/// The bits of the binary16 nearest to `value`, ties to even; beyond [`MAX`] an infinity.
pub fn from_f32(value: f32) -> u16 {
    f16::from_f32(value).to_bits()
}

/// The finite binary16 scale nearest to `scale` that does not shrink it by more than rounding at full precision would.
///
/// Below 2^-14 binary16 loses precision, and a scale rounded down there would clip the largest values of its block.
pub(crate) fn scale_from_f32(scale: f32) -> u16 {
    let bits = from_f32(scale.clamp(-MAX, MAX));
    let rounded = to_f32(bits);
    let shrunk = rounded.abs() < scale.abs() * (1.0 - 1.0 / 1024.0);
    if shrunk && bits & 0x7fff < 0x0400 { bits + 1 } else { bits }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_pattern_widens_exactly() {
        for bits in 0..=u16::MAX {
            let (ours, theirs) = (to_f32(bits), f16::from_bits(bits).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (ours.is_nan() && theirs.is_nan()), "{bits:#06x}");
        }
    }

    #[test]
    fn subnormal_scales_round_away_from_zero() {
        let step = 2f32.powi(-24);
        assert_eq!(scale_from_f32(1.4 * step), 2);
        assert_eq!(scale_from_f32(-1.4 * step), 0x8002);
        assert_eq!(scale_from_f32(2.0 * step), 2);
        assert_eq!(scale_from_f32(0.0), 0);
        assert_eq!(scale_from_f32(1e-12), 1);
        assert_eq!(scale_from_f32(1.0), 0x3c00);
    }
}
