//! Rounding that vectorises on every processor, unlike `f32::round_ties_even` where the instruction is missing.

/// 1.5 * 2^23: in a sum with it the last bit counts ones, and the sum is rounded to nearest even.
const SHIFT: f32 = 12_582_912.0;

/// The nearest integer, ties to even, of a number within 2^22.
#[inline(always)]
pub(crate) fn round_half_even(value: f32) -> f32 {
    (value + SHIFT) - SHIFT
}

/// [`round_half_even`] as an `i32`.
#[inline(always)]
pub(crate) fn round_to_i32(value: f32) -> i32 {
    (value + SHIFT).to_bits().wrapping_sub(SHIFT.to_bits()).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_go_to_the_even_neighbour() {
        for (value, rounded) in
            [(0.5, 0), (1.5, 2), (2.5, 2), (-0.5, 0), (-1.5, -2), (-2.5, -2), (126.5, 126)]
        {
            assert_eq!(round_to_i32(value), rounded, "{value}");
        }
        for i in -12_700..=12_700 {
            let value = i as f32 / 100.0;
            assert_eq!(round_to_i32(value), value.round_ties_even() as i32, "{value}");
            assert_eq!(round_half_even(value), value.round_ties_even(), "{value}");
        }
    }
}
