//! Q4_K and Q5_K rows times Q8 activations.

use std::arch::x86_64::*;

use super::{Batch, COLS, PAIRS, act_pairs, add_halves, half_to_f32, load, sum_lanes};
use crate::affine_k::{HEADER, header, scale_words};
use crate::bytes::{bytes_at, u16_at};
use crate::{Matrix, q4_k, q5_k};

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn rows_q4_k<const N: usize>(weights: Matrix<'_>, batch: Batch<'_, N>, out: &mut [f32]) {
    rows(weights, batch, out, |block| Block::q4_k(block));
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn rows_q5_k<const N: usize>(weights: Matrix<'_>, batch: Batch<'_, N>, out: &mut [f32]) {
    rows(weights, batch, out, |block| Block::q5_k(block));
}

#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn rows<const N: usize, const BYTES: usize>(
    weights: Matrix<'_>,
    batch: Batch<'_, N>,
    out: &mut [f32],
    load: impl Fn(&[u8; BYTES]) -> Block,
) {
    let quants = batch.acts.map(|act| act.quants().as_chunks::<COLS>().0);
    let pairs = batch.acts.map(|act| act.scales().as_chunks::<PAIRS>().0);
    for (row, out) in weights.iter_rows().zip(out.chunks_exact_mut(batch.stride)) {
        let mut products = [_mm256_setzero_ps(); N];
        let mut minima = [_mm256_setzero_ps(); N];
        for (b, block) in row.as_chunks::<BYTES>().0.iter().enumerate() {
            let block = load(block);
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
    pub(super) fn q4_k(block: &[u8; q4_k::BYTES]) -> Self {
        Self::new(header(block), nibbles(bytes_at(block, q4_k::QUANTS)))
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    pub(super) fn q5_k(block: &[u8; q5_k::BYTES]) -> Self {
        let mut quants = nibbles(bytes_at(block, q5_k::LOW));
        let (high, sixteen) = (load(bytes_at(block, q5_k::HIGH)), _mm256_set1_epi8(16));
        // Bit `g` of every byte is moved to bit 4. Shifts are of 16 bits: what crosses a byte is masked off.
        let top = [
            _mm256_slli_epi16::<4>(high),
            _mm256_slli_epi16::<3>(high),
            _mm256_slli_epi16::<2>(high),
            _mm256_slli_epi16::<1>(high),
            high,
            _mm256_srli_epi16::<1>(high),
            _mm256_srli_epi16::<2>(high),
            _mm256_srli_epi16::<3>(high),
        ];
        for (quants, top) in quants.iter_mut().zip(top) {
            *quants = _mm256_or_si256(*quants, _mm256_and_si256(top, sixteen));
        }
        Self::new(header(block), quants)
    }

    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn new(header: &[u8; HEADER], quants: [__m256i; 8]) -> Self {
        let (scales, mins) = scale_words(header);
        Self {
            quants,
            scales: scaled(half_to_f32(u16_at(header, 0)), scales),
            mins: scaled(half_to_f32(u16_at(header, 2)), mins),
        }
    }

    /// The sum of products of each group.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn dot(&self, act: &[u8; COLS]) -> __m256i {
        let ones = _mm256_set1_epi16(1);
        dot_of(|g| {
            let products = _mm256_maddubs_epi16(self.quants[g], load(bytes_at(act, 32 * g)));
            _mm256_madd_epi16(products, ones)
        })
    }
}

/// The sum of products of each group, where `group` gives sums of four neighbouring ones.
///
/// 32 products of at most 31 * 128 would overflow 16 bits, 8 of them do not: sums are packed to 16 bits twice, where
/// one instruction joins two groups and one adds neighbours, and the last halves are added in 32.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn dot_of(group: impl Fn(usize) -> __m256i) -> __m256i {
    let ones = _mm256_set1_epi16(1);
    let add_neighbours = |a: __m256i, b: __m256i| _mm256_madd_epi16(_mm256_packs_epi32(a, b), ones);
    let four = |g: usize| {
        let low = add_neighbours(group(g), group(g + 1));
        let high = add_neighbours(group(g + 2), group(g + 3));
        add_neighbours(low, high)
    };
    add_halves(four(0), four(4))
}

/// The 256 nibbles of 128 bytes: the low ones of each 32 bytes, then the high ones.
#[target_feature(enable = "avx2")]
#[inline]
fn nibbles(bytes: &[u8; 128]) -> [__m256i; 8] {
    let nibble = _mm256_set1_epi8(15);
    let mut quants = [_mm256_setzero_si256(); 8];
    // By index: with iterators of chunks this stays a loop.
    for i in 0..4 {
        let bytes = load(bytes_at(bytes, 32 * i));
        quants[2 * i] = _mm256_and_si256(bytes, nibble);
        quants[2 * i + 1] = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), nibble);
    }
    quants
}

/// `unit` times each byte of the word.
#[target_feature(enable = "avx2")]
#[inline]
fn scaled(unit: f32, bytes: u64) -> __m256 {
    let integers = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(bytes.cast_signed()));
    _mm256_mul_ps(_mm256_set1_ps(unit), _mm256_cvtepi32_ps(integers))
}
