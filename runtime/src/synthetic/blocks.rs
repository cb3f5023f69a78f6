//! Random blocks of each weight type.
//!
//! Making gigabytes of random blocks takes longer than copying them, so there is a pool for each type and scale, and a
//! tensor is the pool from a random block on, over and over. A pool is a prime number of blocks, more than a matrix has
//! rows: whatever the row's length, no two rows start at the same block.

use half::f16;
use tensor_formats::ElementType;

use crate::random::SplitMix64;

/// Sizes of pools, in blocks.
const PRIMES: [usize; 3] = [4_099, 262_147, 8_388_617];

pub(super) struct Pool {
    bytes: Vec<u8>,
    block_bytes: usize,
}

impl Pool {
    /// A pool for tensors of up to `blocks` blocks with weights of standard deviation `std`.
    pub fn new(ty: ElementType, std: f32, blocks: usize, random: &mut SplitMix64) -> Self {
        // Beyond some tens of megabytes a larger pool only takes longer.
        let limit = if ty.is_quantised() { PRIMES[1] } else { PRIMES[2] };
        let count = PRIMES.into_iter().find(|&prime| prime > blocks || prime == limit).unwrap_or(limit);
        let block_bytes = ty.block_bytes();
        let mut bytes = vec![0; count * block_bytes];
        for block in bytes.chunks_exact_mut(block_bytes) {
            fill_block(ty, std, block, random);
        }
        Self { bytes, block_bytes }
    }

    /// Fills a tensor, from a random block on.
    pub fn fill(&self, mut tensor: &mut [u8], random: &mut SplitMix64) {
        let blocks = self.bytes.len() / self.block_bytes;
        let first = (random.next_unit() * blocks as f64) as usize % blocks;
        let mut source = &self.bytes[first * self.block_bytes..];
        while !tensor.is_empty() {
            let count = source.len().min(tensor.len());
            let (head, tail) = tensor.split_at_mut(count);
            head.copy_from_slice(&source[..count]);
            tensor = tail;
            source = &self.bytes;
        }
    }
}

fn fill_block(ty: ElementType, std: f32, block: &mut [u8], random: &mut SplitMix64) {
    match ty {
        ElementType::F32 => block.copy_from_slice(&(std * random.next_normal()).to_le_bytes()),
        ElementType::F16 => block.copy_from_slice(&f16::from_f32(std * random.next_normal()).to_le_bytes()),
        ElementType::BF16 => {
            block.copy_from_slice(&half::bf16::from_f32(std * random.next_normal()).to_le_bytes());
        }
        ElementType::Q4_0 => q4_0(std, block, random),
        ElementType::Q8_0 => q8_0(std, block, random),
        ElementType::Q4_K => q4_k(std, block, random),
        ElementType::Q5_K => q5_k(std, block, random),
        ElementType::Q6_K => q6_k(std, block, random),
        // No tensor of a file has these types, and `Preset::tensors` names none.
        ElementType::Q8Act | ElementType::F8E4M3 | ElementType::U32 => {}
    }
}

fn fill_bytes(bytes: &mut [u8], random: &mut SplitMix64) {
    for word in bytes.chunks_mut(8) {
        word.copy_from_slice(&random.next_u64().to_le_bytes()[..word.len()]);
    }
}

/// A scale around `value`, from 0.7 to 1.3 of it.
fn scale(value: f32, random: &mut SplitMix64) -> f32 {
    value * (0.7 + 0.6 * random.next_unit() as f32)
}

/// A half `d`, 32 four-bit `q`; a weight is `d * (q - 8)`. The mean of uniform quants is not 0: `d` has either sign.
fn q4_0(std: f32, block: &mut [u8], random: &mut SplitMix64) {
    let (d, quants) = block.split_at_mut(2);
    fill_bytes(quants, random);
    // The root mean square of uniform numbers from -8 to 7 is 4.64; the scales' own spread makes it 4.71.
    let sign = if random.next_u64() >> 63 == 0 { 1.0 } else { -1.0 };
    d.copy_from_slice(&f16::from_f32(sign * scale(std / 4.71, random)).to_le_bytes());
}

/// A half `d`, 32 signed bytes `q`; a weight is `d * q`.
fn q8_0(std: f32, block: &mut [u8], random: &mut SplitMix64) {
    let (d, quants) = block.split_at_mut(2);
    fill_bytes(quants, random);
    for quant in quants {
        // A quantiser makes no -128.
        if *quant == 0x80 {
            *quant = 0x81;
        }
    }
    // Uniform from -127 to 127 has the standard deviation 73.6; the scales' own spread makes it 74.7.
    d.copy_from_slice(&f16::from_f32(scale(std / 74.7, random)).to_le_bytes());
}

/// A header of [`affine_header`], 256 four-bit quants.
fn q4_k(std: f32, block: &mut [u8], random: &mut SplitMix64) {
    let (head, quants) = block.split_at_mut(16);
    fill_bytes(quants, random);
    // The root mean square of scale * (q - 7.5) over uniform scales below 64 and quants below 16 is 169.
    affine_header(head, std / 171.5, 7.5, random);
}

/// A header of [`affine_header`], 256 five-bit quants (32 bytes of high, 128 of low bits).
fn q5_k(std: f32, block: &mut [u8], random: &mut SplitMix64) {
    let (head, quants) = block.split_at_mut(16);
    fill_bytes(quants, random);
    // The root mean square of scale * (q - 15.5) over uniform scales below 64 and quants below 32 is 339.
    affine_header(head, std / 344.0, 15.5, random);
}

/// Halves `d` and `dmin`, 8 six-bit scales and minima in 12 bytes; a weight is `d * scale * q - dmin * min`. With `dmin`
/// as many times `d` as the mean of the quants, and minima near the scales, its mean is near 0.
fn affine_header(head: &mut [u8], d: f32, mean_quant: f32, random: &mut SplitMix64) {
    let mut scales = [0u8; 8];
    let mut mins = [0u8; 8];
    let mut bits = random.next_u64();
    for (scale, min) in scales.iter_mut().zip(&mut mins) {
        *scale = (bits & 63) as u8;
        *min = (i16::from(*scale) + (bits >> 6 & 3) as i16 * 2 - 3).clamp(0, 63) as u8;
        bits >>= 8;
    }
    let packed = &mut head[4..16];
    for i in 0..4 {
        packed[i] = scales[i] | scales[i + 4] >> 4 << 6;
        packed[i + 4] = mins[i] | mins[i + 4] >> 4 << 6;
        packed[i + 8] = scales[i + 4] & 15 | mins[i + 4] << 4;
    }
    let d = scale(d, random);
    head[..2].copy_from_slice(&f16::from_f32(d).to_le_bytes());
    head[2..4].copy_from_slice(&f16::from_f32(mean_quant * d).to_le_bytes());
}

/// 256 six-bit quants (128 bytes of low, 64 of high bits), 16 signed scales, a half `d`; a weight is
/// `d * scale * (q - 32)`.
fn q6_k(std: f32, block: &mut [u8], random: &mut SplitMix64) {
    let (quants, tail) = block.split_at_mut(192);
    fill_bytes(quants, random);
    let (scales, d) = tail.split_at_mut(16);
    fill_bytes(scales, random);
    for scale in scales {
        // Magnitudes from 24 to 127, either sign.
        let magnitude = 24 + u32::from(*scale & 0x7f) * 104 / 128;
        *scale = if *scale & 0x80 == 0 { magnitude as u8 } else { (magnitude as u8).wrapping_neg() };
    }
    // The root mean square of scale * (q - 32) is 81.2 * 18.5; the scales' own spread adds 1.5 %.
    d.copy_from_slice(&f16::from_f32(scale(std / 1_525.0, random)).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_have_the_scale_asked_for() {
        for ty in ElementType::WEIGHTS {
            let pool = Pool::new(ty, 0.05, 2000, &mut SplitMix64::new(1));
            let elements = pool.bytes.len() / ty.block_bytes() * ty.block_elements();
            let mut weights = vec![0.0; elements];
            tensor_formats::dequantize_row(ty, &pool.bytes, &mut weights).unwrap();
            let mean = weights.iter().sum::<f32>() / elements as f32;
            let std = (weights.iter().map(|w| w * w).sum::<f32>() / elements as f32).sqrt();
            assert!((std / 0.05 - 1.0).abs() < 0.05 && mean.abs() < 0.004, "{ty}: mean {mean}, std {std}");
        }
    }

    #[test]
    fn a_tensor_longer_than_the_pool_wraps_around() {
        let pool = Pool { bytes: vec![1, 2, 3, 4, 5, 6], block_bytes: 2 };
        let mut tensor = [0; 14];
        pool.fill(&mut tensor, &mut SplitMix64::new(5));
        assert!(tensor.windows(2).all(|pair| pair[1] == pair[0] % 6 + 1), "{tensor:?}");
    }
}
