//! Q6_K rows times Q8 activations.

use std::arch::x86_64::*;

use super::{Batch, COLS, PAIRS, act_pairs, half_to_f32, load, load_half, sum_each, sum_lanes};
use crate::Matrix;
use crate::bytes::{bytes_at, u16_at};
use crate::q6_k::{BYTES, D, HIGH, SCALES};

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn rows<const N: usize>(weights: Matrix<'_>, batch: Batch<'_, N>, out: &mut [f32]) {
    let quants = batch.acts.map(|act| act.quants().as_chunks::<COLS>().0);
    let pairs = batch.acts.map(|act| act.scales().as_chunks::<PAIRS>().0);
    for (row, out) in weights.iter_rows().zip(out.chunks_exact_mut(batch.stride)) {
        let mut products = [_mm256_setzero_ps(); N];
        for (b, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
            let block = Block::load(block);
            for n in 0..N {
                let (act_scales, _) = act_pairs(&pairs[n][b]);
                let sums = _mm256_cvtepi32_ps(block.dot(&quants[n][b]));
                let product = _mm256_mul_ps(_mm256_mul_ps(block.d, act_scales), sums);
                products[n] = _mm256_add_ps(products[n], product);
            }
        }
        for n in 0..N {
            out[batch.first + n] = sum_lanes(products[n]);
        }
    }
}

/// A block in registers.
struct Block {
    /// The quants of each group, plus 32.
    quants: [__m256i; 8],
    /// The two scales of each group as 16-bit numbers, each for eight pairs of products.
    scales: [__m256i; 8],
    /// `d` in every lane.
    d: __m256,
}

impl Block {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn load(block: &[u8; BYTES]) -> Self {
        let bytes = load_half(bytes_at(block, SCALES));
        let mut scales = [_mm256_setzero_si256(); 8];
        for (g, scales) in scales.iter_mut().enumerate() {
            *scales = scales_of(bytes, g);
        }
        Self { quants: quants(block), scales, d: _mm256_set1_ps(half_to_f32(u16_at(block, D))) }
    }

    /// The sum of scaled products of each group.
    ///
    /// The products use the unsigned six bits; 32 times the activations, taken off in pairs, makes up for it. Pairs stay
    /// within 16 bits: 2 * 63 * 128 and 2 * 32 * 128.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn dot(&self, act: &[u8; COLS]) -> __m256i {
        let offset = _mm256_set1_epi8(32);
        let mut groups = [_mm256_setzero_si256(); 8];
        for (g, group) in groups.iter_mut().enumerate() {
            let act = load(bytes_at(act, 32 * g));
            let shifted = _mm256_maddubs_epi16(self.quants[g], act);
            let pairs = _mm256_sub_epi16(shifted, _mm256_maddubs_epi16(offset, act));
            *group = _mm256_madd_epi16(pairs, self.scales[g]);
        }
        sum_each(groups)
    }
}

/// The two scales of group `g` of a block's 16 as 16-bit numbers, each for eight pairs of products.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn scales_of(bytes: __m128i, g: usize) -> __m256i {
    let two_eights = _mm_set_epi8(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0);
    let pick = _mm_add_epi8(two_eights, _mm_set1_epi8(2 * g as i8));
    _mm256_cvtepi8_epi16(_mm_shuffle_epi8(bytes, pick))
}

/// The quants of each group of a block, plus 32.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn quants(block: &[u8; BYTES]) -> [__m256i; 8] {
    let nibble = _mm256_set1_epi8(15);
    let top = _mm256_set1_epi8(0x30);
    let mut quants = [_mm256_setzero_si256(); 8];
    for half in 0..2 {
        let first = load(bytes_at(block, 64 * half));
        let second = load(bytes_at(block, 64 * half + 32));
        let high = load(bytes_at(block, HIGH + 32 * half));
        let join = |low: __m256i, shifted: __m256i| {
            _mm256_or_si256(_mm256_and_si256(low, nibble), _mm256_and_si256(shifted, top))
        };
        quants[4 * half] = join(first, _mm256_slli_epi16::<4>(high));
        quants[4 * half + 1] = join(second, _mm256_slli_epi16::<2>(high));
        quants[4 * half + 2] = join(_mm256_srli_epi16::<4>(first), high);
        quants[4 * half + 3] = join(_mm256_srli_epi16::<4>(second), _mm256_srli_epi16::<2>(high));
    }
    quants
}
