//! Random rows for the tests: sane weights, and blocks of arbitrary bytes.

#![allow(dead_code)] // each test binary uses its part

use tensor_formats::{ElementType, quantize_row};

/// A small generator (SplitMix64): the same seed gives the same numbers everywhere.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in -1..1.
    pub fn uniform(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Normal with mean 0 and variance 1, nearly: the sum of twelve uniform numbers.
    pub fn normal(&mut self) -> f32 {
        (0..12).map(|_| self.uniform()).sum::<f32>() / 2.0
    }

    pub fn normals(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.normal()).collect()
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }
}

/// The block formats that weights come in.
pub const BLOCK_TYPES: [ElementType; 5] =
    [ElementType::Q4_0, ElementType::Q8_0, ElementType::Q4_K, ElementType::Q5_K, ElementType::Q6_K];

/// `rows` rows of `cols` normal weights, quantised.
pub fn weights(random: &mut Random, ty: ElementType, rows: usize, cols: usize) -> Vec<u8> {
    (0..rows).flat_map(|_| quantized(ty, &random.normals(cols))).collect()
}

pub fn quantized(ty: ElementType, values: &[f32]) -> Vec<u8> {
    let mut bytes = vec![0; ty.row_bytes(values.len()).unwrap()];
    quantize_row(ty, values, &mut bytes).unwrap();
    bytes
}

/// Blocks of arbitrary bytes, except that the f16 scales are finite: everything that a valid file can hold.
pub fn arbitrary_blocks(random: &mut Random, ty: ElementType, blocks: usize) -> Vec<u8> {
    let scales: &[usize] = match ty {
        ElementType::Q4_0 | ElementType::Q8_0 => &[0],
        ElementType::Q4_K | ElementType::Q5_K => &[0, 2],
        ElementType::Q6_K => &[208],
        _ => panic!("{ty} has no f16 scales"),
    };
    let mut bytes: Vec<u8> = (0..blocks * ty.block_bytes()).map(|_| random.next() as u8).collect();
    for block in bytes.chunks_exact_mut(ty.block_bytes()) {
        if random.below(4) == 0 {
            // All quants and scales at an end of their range.
            block.fill([0x00, 0x80, 0x7f, 0xff][random.below(4) as usize]);
        }
        for &at in scales {
            let bits = random.next() as u16;
            let finite = if bits & 0x7c00 == 0x7c00 { bits & 0xbfff } else { bits };
            let scale = [finite, 0x0001, 0x8000, 0x7bff, 0x2e66][random.below(5) as usize];
            block[at..at + 2].copy_from_slice(&scale.to_le_bytes());
        }
    }
    bytes
}
