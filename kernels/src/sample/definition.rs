//! What sampling means, in operations that every machine rounds alike: integers, and f32 products, sums and fused
//! multiply-adds.
//!
//! A probability is a [`weight`] of 32 bits, so sums of them are exact and do not depend on their order. A draw is
//! a function of seed and position, so it does not depend on what was drawn before.

/// The weight of the most likely token: that of probability 1 in units of it.
pub const WEIGHT_ONE: u32 = 1 << 31;

/// `2^f = 1 + f * (C[0] + C[1] f + ... + C[5] f^5)` for `f` in `0..1`, within 6.6e-8 of the value. A Chebyshev fit of
/// `(2^f - 1) / f`, in f32.
pub const EXP2: [f32; 6] =
    [std::f32::consts::LN_2, 0.240_227_22, 0.055_495_936, 0.009_652_44, 0.001_268_935_2, 0.000_208_291_95];

/// Below 2^-64 of the most likely token a weight is 0 in any case.
const SMALLEST: f32 = -64.0;

/// What distances of logits are multiplied by to become exponents of 2: log2(e) over the temperature, which is above 0.
pub fn exponent_scale(temperature: f32) -> f32 {
    // Finite, so that a distance of 0 stays 0.
    (std::f32::consts::LOG2_E / temperature).min(f32::MAX)
}

/// `floor(2^31 * 2^((logit - largest) * scale))` but for rounding in f32, for a `logit` that is not above `largest`. A NaN
/// weighs nothing, and everything weighs nothing beside infinity.
pub fn weight(logit: f32, largest: f32, scale: f32) -> u32 {
    // `max` is the number where the other is NaN.
    let exponent = ((logit - largest) * scale).max(SMALLEST);
    let whole = exponent.floor();
    let fraction = exponent - whole;
    let [c0, c1, c2, c3, c4, c5] = EXP2;
    let series = [c4, c3, c2, c1, c0, 1.0].into_iter().fold(c5, |sum, c| sum.mul_add(fraction, c));
    // From 2^23 to below 2^24, exactly; 2^24 where the series rounds up to 2.
    let mantissa = ((series * 8_388_608.0) as u32).min((1 << 24) - 1) << 8;
    // From 32 places on no bit is left.
    mantissa.checked_shr(-whole as u32).unwrap_or(0)
}

/// The order of logits as an order of integers: larger means more likely. NaNs of either sign are 0, below all numbers.
pub fn key(logit: f32) -> u32 {
    let bits = logit.to_bits();
    match (logit.is_nan(), bits >> 31) {
        (true, _) => 0,
        (_, 0) => bits | (1 << 31),
        _ => !bits,
    }
}

/// The logit of a token that came lately (Keskar et al., "CTRL", 2019, section 4.1, where signs are not told apart):
/// divided by `penalty` if it is above 0, multiplied by it if not.
pub fn penalised(logit: f32, penalty: f32) -> f32 {
    if logit > 0.0 { logit / penalty } else { logit * penalty }
}

/// Bins of likelihoods, and values of a digit of a [`rank`].
pub const BINS: u32 = 1024;

/// The bin of a weight that is not 0: weights of a bin differ by less than a 32nd, and those of a bin are larger than
/// those of the next.
pub fn bin(weight: u32) -> u32 {
    let magnitude = weight.leading_zeros();
    magnitude * 32 + (!(weight << magnitude) >> 26 & 31)
}

/// Bits of a token in a [`rank`].
pub const TOKEN_BITS: u32 = 18;

/// Where a logit, which is a number, stands in the order of likelihoods: the most likely has the lowest rank, and of
/// equals the lowest token. No two tokens have the same. The weight of a token is never less than that of one of a
/// higher rank: every operation of [`weight`] is monotone, and rounds so.
pub fn rank(logit: f32, token: u32) -> u64 {
    (u64::from(!key(logit)) << TOKEN_BITS) | u64::from(token)
}

/// 64 random bits for a position of a seed: the first two words of Philox4x32-10.
pub fn random_bits(seed: u64, position: u32) -> u64 {
    let [low, high, _, _] = philox([position, 0, 0, 0], [seed as u32, (seed >> 32) as u32]);
    (u64::from(high) << 32) | u64::from(low)
}

/// Philox4x32 with 10 rounds (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let product = |a: u32, b: u32| {
        let product = u64::from(a) * u64::from(b);
        ((product >> 32) as u32, product as u32)
    };
    let round = |[a, b, c, d]: [u32; 4], round: u32| {
        let keys = [PHILOX_KEYS[0], PHILOX_KEYS[1]].map(|step| step.wrapping_mul(round));
        let [k0, k1] = [key[0].wrapping_add(keys[0]), key[1].wrapping_add(keys[1])];
        let ((high_a, low_a), (high_c, low_c)) =
            (product(PHILOX_FACTORS[0], a), product(PHILOX_FACTORS[1], c));
        [high_c ^ b ^ k0, low_c, high_a ^ d ^ k1, low_a]
    };
    (0..10).fold(counter, round)
}

/// Philox's multipliers.
pub const PHILOX_FACTORS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
/// What Philox adds to its key after each round: the golden ratio and the square root of 3, less 1.
pub const PHILOX_KEYS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];

/// `total * share / 2^64`, rounded down.
pub fn share(total: u64, share: u64) -> u64 {
    ((u128::from(total) * u128::from(share)) >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that the authors publish with their code.
    #[test]
    fn philox_gives_the_published_numbers() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        for (counter, key, expected) in cases {
            assert_eq!(philox(counter, key), expected);
        }
        assert_eq!(random_bits(0, 0), 0xe169_c58d_6627_e8d5);
        assert_ne!(random_bits(1 << 32, 0), random_bits(0, 0));
    }

    #[test]
    fn weights_are_powers_and_never_grow_with_distance() {
        let scale = exponent_scale(1.0);
        let mut last = WEIGHT_ONE;
        for step in 0..2_000_000u32 {
            let distance = step as f32 * 1.5e-5;
            let weight = weight(3.0 - distance, 3.0, scale);
            assert!(weight <= last, "{distance}: {weight} after {last}");
            last = weight;
            let exact = f64::from(WEIGHT_ONE) * f64::from((3.0 - distance) - 3.0).exp();
            let error = (f64::from(weight) - exact).abs();
            assert!(error <= 1.0 + 3e-6 * exact, "{distance}: {weight}, {exact}");
        }
        assert_eq!(last, 0);
    }

    #[test]
    fn weights_of_what_is_no_finite_number() {
        let (inf, nan, scale) = (f32::INFINITY, f32::NAN, exponent_scale(0.5));
        assert_eq!([weight(1.0, 1.0, scale), weight(-inf, 1.0, scale)], [WEIGHT_ONE, 0]);
        assert_eq!([weight(nan, 1.0, scale), weight(inf, inf, scale), weight(0.0, inf, scale)], [0; 3]);
        let cold = exponent_scale(f32::MIN_POSITIVE / 4.0);
        assert_eq!([weight(5.0, 5.0, cold), weight(4.999_999, 5.0, cold)], [WEIGHT_ONE, 0]);
        assert_eq!(weight(-f32::MAX, f32::MAX, scale), 0);
    }

    #[test]
    fn keys_order_as_numbers_do() {
        let numbers =
            [-f32::INFINITY, -f32::MAX, -1.0, -f32::MIN_POSITIVE, -0.0, 0.0, 1e-40, 1.0, f32::INFINITY];
        assert!(numbers.windows(2).all(|pair| key(pair[0]) < key(pair[1])));
        assert_eq!([key(f32::NAN), key(-f32::NAN)], [0; 2]);
        assert!(key(-f32::INFINITY) > 0);
    }

    #[test]
    fn shares_round_down() {
        assert_eq!([share(1000, 1 << 63), share(7, u64::MAX), share(0, u64::MAX)], [500, 6, 0]);
    }
}
