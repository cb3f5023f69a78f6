//! Reproducible test data.

/// A small deterministic generator (SplitMix64), so that a case is the same on every machine.
///
/// Algorithm: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
///
/// ```
/// use kernels::random::Random;
/// assert_eq!(Random::new(7).f32s(4), Random::new(7).f32s(4));
/// ```
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The generator for `seed`.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u32
    }

    /// A value near a standard normal: mean 0, variance 1, within ±3.5, the scaled sum of four uniform ones.
    pub fn normal(&mut self) -> f32 {
        let bits = self.bits();
        let sum: f64 = (0..4).map(|i| (bits >> (16 * i) & 0xffff) as f64 / 65_536.0).sum();
        ((sum - 2.0) * 3f64.sqrt()) as f32
    }

    /// `n` values of [`normal`](Self::normal).
    pub fn f32s(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }

    /// `n` uniform bytes.
    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.bits() as u8).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_the_moments_of_a_standard_normal() {
        let values = Random::new(1).f32s(100_000);
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / 1e5;
        let variance = values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
    }

    #[test]
    fn bounded_numbers_reach_both_ends() {
        let mut random = Random::new(2);
        let seen: Vec<u32> = (0..100).map(|_| random.below(3)).collect();
        assert!((0..3).all(|v| seen.contains(&v)) && seen.iter().all(|&v| v < 3));
        assert_eq!(random.below(0), 0);
    }
}
