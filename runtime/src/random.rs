//! Random numbers by counter: SplitMix64.
//!
//! Number `i` of a seed is a function of the two, so a sequence can be resumed, skipped or drawn in parallel, and is
//! the same on every machine and in every version of this crate.

/// SplitMix64 (Steele, Lea and Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014): a Weyl sequence
/// through a mixing function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SplitMix64 {
    state: u64,
}

/// The Weyl increment: 2^64 over the golden ratio, odd.
const GAMMA: u64 = 0x9e37_79b9_7f4a_7c15;

impl SplitMix64 {
    /// The sequence of `seed`.
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The sequence of `seed` from its number `index` on.
    pub const fn at(seed: u64, index: u64) -> Self {
        Self { state: seed.wrapping_add(index.wrapping_mul(GAMMA)) }
    }

    /// The next number.
    pub const fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GAMMA);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next number as one from 0 up to but not including 1, of 53 bits.
    pub const fn next_unit(&mut self) -> f64 {
        (self.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// A number of mean 0 and variance 1, close to normal: the sum of four 16-bit uniform numbers.
    pub const fn next_normal(&mut self) -> f32 {
        let bits = self.next_u64();
        let sum = (bits & 0xffff) + (bits >> 16 & 0xffff) + (bits >> 32 & 0xffff) + (bits >> 48);
        // Four uniform numbers on 0..65536 have mean 4 * 32767.5 and variance 4 * 65536^2 / 12.
        ((sum as i64 - 131_070) as f32) * (1.0 / 37_837.23)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence() {
        let mut random = SplitMix64::new(1_234_567);
        let numbers = [(); 3].map(|()| random.next_u64());
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn a_sequence_can_be_entered_anywhere() {
        let mut all = SplitMix64::new(9);
        let numbers = [(); 5].map(|()| all.next_u64());
        assert_eq!(SplitMix64::at(9, 3).next_u64(), numbers[3]);
    }

    #[test]
    fn moments() {
        let mut random = SplitMix64::new(1);
        let n = 100_000;
        let draws: Vec<f64> = (0..n).map(|_| random.next_normal().into()).collect();
        let mean = draws.iter().sum::<f64>() / f64::from(n);
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / f64::from(n);
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let unit = (0..n).map(|_| random.next_unit()).fold(0.0, |sum, x| sum + x) / f64::from(n);
        assert!((unit - 0.5).abs() < 0.01, "{unit}");
    }
}
