//! Q4_0 and Q8_0 rows, with blocks of 32 values and one scale, times Q8 activations.

use std::arch::x86_64::*;

use super::{Batch, COLS, PAIRS, act_pairs, load, load_half, sum_each, sum_lanes};
use crate::bytes::{bytes_at, u16_at};
use crate::{Matrix, q4_0, q8_0};

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn rows_q4_0<const N: usize>(weights: Matrix<'_>, batch: Batch<'_, N>, out: &mut [f32]) {
    rows::<N, { 8 * q4_0::BYTES }>(weights, batch, out, |blocks| {
        Blocks::load(blocks, |block: &[u8; q4_0::BYTES]| q4_0_quants(block))
    });
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn rows_q8_0<const N: usize>(weights: Matrix<'_>, batch: Batch<'_, N>, out: &mut [f32]) {
    rows::<N, { 8 * q8_0::BYTES }>(weights, batch, out, |blocks| {
        Blocks::load(blocks, |block: &[u8; q8_0::BYTES]| load(bytes_at(block, 2)))
    });
}

/// The quants of a block of Q4_0, as signed bytes.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn q4_0_quants(block: &[u8; q4_0::BYTES]) -> __m256i {
    let bytes = load_half(bytes_at(block, 2));
    let both = _mm256_set_m128i(_mm_srli_epi16::<4>(bytes), bytes);
    _mm256_sub_epi8(_mm256_and_si256(both, _mm256_set1_epi8(15)), _mm256_set1_epi8(8))
}

/// `EIGHT` is the bytes of eight blocks.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
fn rows<const N: usize, const EIGHT: usize>(
    weights: Matrix<'_>,
    batch: Batch<'_, N>,
    out: &mut [f32],
    load: impl Fn(&[u8; EIGHT]) -> Blocks,
) {
    let quants = batch.acts.map(|act| act.quants().as_chunks::<COLS>());
    let pairs = batch.acts.map(|act| act.scales().as_chunks::<PAIRS>());
    // Columns after the last 256, padded with zeros, which change no sum: the scales of the padding are zero too.
    let mut tails = [([0; COLS], [0; PAIRS]); N];
    for (tail, (quants, pairs)) in tails.iter_mut().zip(quants.iter().zip(&pairs)) {
        tail.0[..quants.1.len()].copy_from_slice(quants.1);
        tail.1[..pairs.1.len()].copy_from_slice(pairs.1);
    }
    for (row, out) in weights.iter_rows().zip(out.chunks_exact_mut(batch.stride)) {
        let mut products = [_mm256_setzero_ps(); N];
        let (eights, rest) = row.as_chunks::<EIGHT>();
        for (b, blocks) in eights.iter().enumerate() {
            let blocks = load(blocks);
            for n in 0..N {
                products[n] = blocks.accumulate(&quants[n].0[b], &pairs[n].0[b], products[n]);
            }
        }
        if !rest.is_empty() {
            let mut padded = [0; EIGHT];
            padded[..rest.len()].copy_from_slice(rest);
            let blocks = load(&padded);
            for n in 0..N {
                products[n] = blocks.accumulate(&tails[n].0, &tails[n].1, products[n]);
            }
        }
        for n in 0..N {
            out[batch.first + n] = sum_lanes(products[n]);
        }
    }
}

/// Eight blocks in registers.
struct Blocks {
    /// The quants of each block.
    quants: [__m256i; 8],
    /// `d` of each block.
    scales: __m256,
}

impl Blocks {
    #[target_feature(enable = "avx2,fma,f16c")]
    #[inline]
    fn load<const BYTES: usize>(blocks: &[u8], unpack: impl Fn(&[u8; BYTES]) -> __m256i) -> Self {
        let mut quants = [_mm256_setzero_si256(); 8];
        let mut scales = [0; 8];
        for ((quants, scale), block) in quants.iter_mut().zip(&mut scales).zip(blocks.as_chunks().0) {
            *quants = unpack(block);
            *scale = u16_at(block, 0) as i16;
        }
        let [a, b, c, d, e, f, g, h] = scales;
        Self { quants, scales: _mm256_cvtph_ps(_mm_set_epi16(h, g, f, e, d, c, b, a)) }
    }

    /// Adds each block's product to its lane.
    ///
    /// The product of signed bytes is that of the weight's magnitude with the activation under the weight's sign. Pairs
    /// stay within 16 bits: 2 * 128 * 127.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn accumulate(&self, act: &[u8; COLS], pairs: &[u8; PAIRS], products: __m256) -> __m256 {
        let ones = _mm256_set1_epi16(1);
        let mut groups = [_mm256_setzero_si256(); 8];
        for (g, group) in groups.iter_mut().enumerate() {
            let signed = _mm256_sign_epi8(load(bytes_at(act, 32 * g)), self.quants[g]);
            *group = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_abs_epi8(self.quants[g]), signed), ones);
        }
        let (act_scales, _) = act_pairs(pairs);
        let product =
            _mm256_mul_ps(_mm256_mul_ps(self.scales, act_scales), _mm256_cvtepi32_ps(sum_each(groups)));
        _mm256_add_ps(products, product)
    }
}
