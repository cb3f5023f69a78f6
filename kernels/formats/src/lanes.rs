//! The order of f32 additions that every path keeps.

/// Partial sums of a dot product with Q8 activations: lane `g % 8` takes the groups `g` of 32 values.
pub(crate) type Lanes = [f32; 8];

/// The sum of eight lanes: halves, then quarters, then the last pair, as the AVX2 path does it with shuffles.
#[inline(always)]
pub(crate) fn sum(lanes: Lanes) -> f32 {
    let [a, b, c, d, e, f, g, h] = lanes;
    let half = [a + e, b + f, c + g, d + h];
    (half[0] + half[2]) + (half[1] + half[3])
}
