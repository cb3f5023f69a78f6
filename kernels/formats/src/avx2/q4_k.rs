//! Q4_K rows times Q8 activations.

use std::arch::x86_64::*;

use super::{Batch, COLS, PAIRS, act_pairs, add_halves, bytes_at, half_to_f32, load, sum_lanes};
use crate::Matrix;
use crate::bytes::u16_at;
use crate::q4_k::{BYTES, QUANTS, scale_words};

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn rows<const N: usize>(weights: Matrix<'_>, batch: Batch<'_, N>, out: &mut [f32]) {
    let quants = batch.acts.map(|act| act.quants().as_chunks::<COLS>().0);
    let pairs = batch.acts.map(|act| act.scales().as_chunks::<PAIRS>().0);
    for (row, out) in weights.iter_rows().zip(out.chunks_exact_mut(batch.stride)) {
        let mut products = [_mm256_setzero_ps(); N];
        let mut minima = [_mm256_setzero_ps(); N];
        for (b, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
            let block = Block::load(block);
            for n in 0..N {
                let (act_scales, act_sums) = act_pairs(&pairs[n][b]);
                let sums = _mm256_cvtepi32_ps(block.dot(&quants[n][b]));
                let product = _mm256_mul_ps(_mm256_mul_ps(block.scales, act_scales), sums);
                products[n] = _mm256_add_ps(products[n], product);
                minima[n] = _mm256_add_ps(minima[n], _mm256_mul_ps(block.mins, act_sums));
            }
        }
        for n in 0..N {
            out[batch.first + n] = sum_lanes(_mm256_sub_ps(products[n], minima[n]));
        }
    }
}

/// A block in registers.
pub(super) struct Block {
    /// The quants of each group.
    pub(super) quants: [__m256i; 8],
    /// `d * scale` of each group.
    pub(super) scales: __m256,
    /// `dmin * min` of each group.
    pub(super) mins: __m256,
}

impl Block {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(super) fn load(block: &[u8; BYTES]) -> Self {
        let nibble = _mm256_set1_epi8(15);
        let mut quants = [_mm256_setzero_si256(); 8];
        for pair in 0..4 {
            let bytes = load(bytes_at(block, QUANTS + 32 * pair));
            quants[2 * pair] = _mm256_and_si256(bytes, nibble);
            quants[2 * pair + 1] = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble);
        }
        let (scales, mins) = scale_words(block);
        Self {
            quants,
            scales: scaled(half_to_f32(u16_at(block, 0)), scales),
            mins: scaled(half_to_f32(u16_at(block, 2)), mins),
        }
    }

    /// The sum of products of each group.
    ///
    /// 32 products of at most 15 * 128 would overflow 16 bits, 16 of them do not: sums stay in 16 bits, where one
    /// instruction packs two groups and one adds neighbours, until the last halves are added in 32.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn dot(&self, act: &[u8; COLS]) -> __m256i {
        let ones = _mm256_set1_epi16(1);
        let add_neighbours = |a: __m256i, b: __m256i| _mm256_madd_epi16(_mm256_packs_epi32(a, b), ones);
        let group = |g: usize| {
            let products = _mm256_maddubs_epi16(self.quants[g], load(bytes_at(act, 32 * g)));
            _mm256_madd_epi16(products, ones)
        };
        let four = |g: usize| {
            let low = add_neighbours(group(g), group(g + 1));
            let high = add_neighbours(group(g + 2), group(g + 3));
            add_neighbours(low, high)
        };
        add_halves(four(0), four(4))
    }
}

/// `unit` times each byte of the word.
#[target_feature(enable = "avx2")]
#[inline]
fn scaled(unit: f32, bytes: u64) -> __m256 {
    let integers = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes.cast_signed()));
    _mm256_mul_ps(_mm256_set1_ps(unit), _mm256_cvtepi32_ps(integers))
}
