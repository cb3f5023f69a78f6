//! F8E4M3: eight bits with a sign, four of exponent (bias 7) and three of mantissa, without infinities; a KV cache's
//! element type, not a GGML type.
//!
//! The format is that of Micikevicius et al., "FP8 Formats for Deep Learning" (2022): the exponent of all ones is an
//! ordinary one, except that a mantissa of all ones in it is NaN.

/// Bytes of one value.
pub const BYTES: usize = 1;

/// The largest finite value.
pub const MAX: f32 = 448.0;

/// The bits of [`MAX`].
const MAX_BITS: u8 = 0x7e;

/// The bits that are no number, but for the sign.
const NAN_BITS: u8 = 0x7f;

/// The value with these bits, exactly.
pub const fn to_f32(bits: u8) -> f32 {
    /// The difference of the two exponent biases, 127 - 7, as a factor; it also normalises subnormals.
    const REBIAS: f32 = f32::from_bits((127 + 120) << 23);
    if bits & NAN_BITS == NAN_BITS {
        return f32::NAN;
    }
    let magnitude = f32::from_bits((bits as u32 & 0x7f) << 20) * REBIAS;
    if bits & 0x80 == 0 { magnitude } else { -magnitude }
}

/// The bits of the number nearest to `value`, ties to even; beyond [`MAX`] those of [`MAX`] with the sign of `value`.
/// A NaN gives a positive NaN.
pub fn from_f32(value: f32) -> u8 {
    /// The smallest normal number, 2^-6, and the steps of 2^-9 below it.
    const NORMAL: f32 = 0.015_625;
    const STEPS: f32 = 512.0;
    if value.is_nan() {
        return NAN_BITS;
    }
    let sign = if value.is_sign_negative() { 0x80 } else { 0 };
    let magnitude = value.abs();
    let bits = if magnitude >= MAX {
        MAX_BITS
    } else if magnitude < NORMAL {
        // The scaling is exact, and what rounds up to 8 steps is the smallest normal number.
        (magnitude * STEPS).round_ties_even() as u8
    } else {
        let bits = magnitude.to_bits();
        let half_less_one = (1 << 19) - 1 + ((bits >> 20) & 1);
        // A carry out of the mantissa is one of the exponent, and at most 448 cannot become more.
        (((bits + half_less_one) >> 20) - (120 << 3)) as u8
    };
    sign | bits
}

pub(crate) fn dequantize(src: &[u8], dst: &mut [f32]) {
    for (&bits, value) in src.iter().zip(dst) {
        *value = to_f32(bits);
    }
}

pub(crate) fn quantize(src: &[f32], dst: &mut [u8]) {
    for (&value, bits) in src.iter().zip(dst) {
        *bits = from_f32(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_pattern_is_its_definition_and_comes_back() {
        let (all, mut defined): ([u8; 256], _) = (std::array::from_fn(|i| i as u8), [0.0; 256]);
        crate::reference::dequantize_row_f64(crate::ElementType::F8E4M3, &all, &mut defined)
            .unwrap_or_else(|error| panic!("{error}"));
        for (bits, expected) in all.into_iter().zip(defined) {
            let value = f64::from(to_f32(bits));
            if expected.is_nan() {
                assert!(value.is_nan() && from_f32(to_f32(bits)) == NAN_BITS, "{bits:#x}");
            } else {
                assert_eq!(value.to_bits(), expected.to_bits(), "{bits:#x}");
                assert_eq!(from_f32(to_f32(bits)), bits, "{bits:#x}");
            }
        }
    }

    #[test]
    fn values_between_two_numbers_go_to_the_nearer_and_ties_to_even() {
        for bits in 0..MAX_BITS {
            let (below, above) = (to_f32(bits), to_f32(bits + 1));
            let middle = f32::midpoint(below, above);
            assert_eq!(from_f32(middle), bits + (bits & 1), "{below} and {above}");
            assert_eq!(from_f32(middle.next_down()), bits);
            assert_eq!(from_f32(middle.next_up()), bits + 1);
            assert_eq!(from_f32(-middle.next_up()), 0x80 | (bits + 1));
        }
    }

    #[test]
    fn what_is_too_large_saturates() {
        for value in [448.0, 448.1, 464.0, 480.0, 1e30, f32::INFINITY] {
            assert_eq!((from_f32(value), from_f32(-value)), (0x7e, 0xfe), "{value}");
        }
        assert_eq!((from_f32(f32::NAN), from_f32(-f32::NAN)), (NAN_BITS, NAN_BITS));
        assert_eq!((from_f32(1e-10), from_f32(-1e-10), from_f32(-0.0)), (0, 0x80, 0x80));
    }
}
