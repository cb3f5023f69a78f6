//! Test data: the same on every machine, from a seed.

use tensor_formats::{ElementType, FormatError, quantize_row};

/// A small generator of numbers (SplitMix64: Steele, Lea and Flood, OOPSLA 2014). Integer arithmetic and exact float
/// operations only, so a seed gives the same data everywhere.
#[derive(Debug, Clone)]
pub struct Rng(u64);

impl Rng {
    /// A generator whose numbers follow from `name`.
    pub fn from_name(name: &str) -> Self {
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Self(name.bytes().fold(0xcbf2_9ce4_8422_2325, mix))
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`; `n` is far below 2^64, so the bias does not matter.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }

    /// A number in [0, 1).
    pub fn uniform(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1u64 << 24) as f32
    }

    /// A number of mean 0 and variance 1, bell-shaped: the sum of four uniform ones (Irwin and Hall).
    pub fn normal(&mut self) -> f32 {
        let sum: f32 = (0..4).map(|_| self.uniform()).sum();
        (sum - 2.0) * 3f32.sqrt()
    }

    /// `n` [normal](Self::normal) numbers times `sigma`.
    pub fn normals(&mut self, n: usize, sigma: f32) -> Vec<f32> {
        (0..n).map(|_| sigma * self.normal()).collect()
    }

    /// The bytes of `elements` weights of type `dtype` with standard deviation around `sigma` and mean around 0.
    ///
    /// The quantised formats get random quants, scales and minimums and not the output of a quantiser, which would
    /// leave many bit patterns out.
    ///
    /// # Errors
    /// [`FormatError`] if `elements` are not whole blocks, or for Q8Act and U32.
    pub fn weights(
        &mut self,
        dtype: ElementType,
        elements: usize,
        sigma: f32,
    ) -> Result<Vec<u8>, FormatError> {
        let mut bytes = vec![0; dtype.row_bytes(elements)?];
        if !dtype.is_quantised() {
            quantize_row(dtype, &self.normals(elements, sigma), &mut bytes)?;
            return Ok(bytes);
        }
        bytes.iter_mut().for_each(|byte| *byte = self.bits() as u8);
        for block in bytes.chunks_exact_mut(dtype.block_bytes()) {
            // The standard deviation of uniformly random bits with a scale of 1: of nibbles from -8 to 7; of signed
            // bytes; of six-bit scales times quants less minimums that make up for the quants' mean; of eight-bit
            // scales times six-bit quants.
            let unit = match dtype {
                ElementType::Q4_0 => 4.64,
                ElementType::Q8_0 => 73.9,
                ElementType::Q4_K => 258.0,
                ElementType::Q5_K => 527.0,
                _ => 1365.0,
            };
            let scale = sigma / unit * (0.5 + self.uniform());
            let sign = if dtype == ElementType::Q4_0 && self.bits() & 1 == 1 { -1.0 } else { 1.0 };
            let mut put =
                |at: usize, value: f32| quantize_row(ElementType::F16, &[value], &mut block[at..at + 2]);
            match dtype {
                // With one sign for all scales the mean of the quants, -0.5, would be that of the weights.
                ElementType::Q4_0 => put(0, sign * scale)?,
                ElementType::Q8_0 => put(0, scale)?,
                ElementType::Q5_K => {
                    put(0, scale)?;
                    put(2, 15.5 * scale)?;
                }
                ElementType::Q4_K => {
                    put(0, scale)?;
                    put(2, 7.5 * scale)?;
                }
                ElementType::Q6_K => put(208, scale)?,
                ty => return Err(FormatError::NotDefined { operation: "random weights", ty }),
            }
        }
        Ok(bytes)
    }
}

/// `values` as little-endian bytes.
pub(super) fn f32_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reference::dequantize;

    #[test]
    fn the_generator_is_splitmix64() {
        // The published sequence of seed 1234567.
        let mut rng = Rng(1_234_567);
        let bits = [rng.bits(), rng.bits(), rng.bits()];
        assert_eq!(bits, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
        assert_ne!(Rng::from_name("a").bits(), Rng::from_name("b").bits());
    }

    #[test]
    fn weights_have_the_spread_asked_for() {
        for dtype in ElementType::WEIGHTS {
            let bytes = Rng::from_name("spread").weights(dtype, 64 * 256, 0.5).unwrap();
            let values = dequantize(dtype, 64 * 256, &bytes).unwrap();
            let n = values.len() as f64;
            let mean = values.iter().sum::<f64>() / n;
            let sigma = (values.iter().map(|v| v * v).sum::<f64>() / n).sqrt();
            assert!(mean.abs() < 0.05 && (0.4..0.65).contains(&sigma), "{dtype}: mean {mean}, sigma {sigma}");
        }
        for dtype in [ElementType::U32, ElementType::Q8Act] {
            assert!(Rng::from_name("none").weights(dtype, 256, 1.0).is_err());
        }
    }
}
