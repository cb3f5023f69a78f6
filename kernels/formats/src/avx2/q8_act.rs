//! Quantisation of activations.

use std::arch::x86_64::*;

use super::{load_f32, store};
use crate::q8_act::{GROUP, group_scale};

/// As the portable `quantize`, to the bit.
#[target_feature(enable = "avx2")]
pub(crate) fn quantize(src: &[f32], dst: &mut [u8]) {
    let (quants, scales) = dst.split_at_mut(src.len());
    let groups = src.as_chunks::<GROUP>().0.iter().zip(quants.as_chunks_mut::<GROUP>().0);
    for ((values, quants), pair) in groups.zip(scales.as_chunks_mut::<8>().0) {
        let (d, s) = quantize_group(values, quants);
        pair[..4].copy_from_slice(&d.to_le_bytes());
        pair[4..].copy_from_slice(&s.to_le_bytes());
    }
}

#[target_feature(enable = "avx2")]
#[inline]
fn quantize_group(values: &[f32; GROUP], quants: &mut [u8; GROUP]) -> (f32, f32) {
    let values = values.as_chunks::<8>().0;
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| load_f32(&values[i]));
    let magnitude = |x: __m256| _mm256_and_si256(_mm256_castps_si256(x), _mm256_set1_epi32(0x7fff_ffff));
    let pairs = (_mm256_max_epi32(magnitude(a), magnitude(b)), _mm256_max_epi32(magnitude(c), magnitude(d)));
    let eight = _mm256_max_epi32(pairs.0, pairs.1);
    let four = _mm_max_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256::<1>(eight));
    let two = _mm_max_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    let one = _mm_max_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two));

    let scale = group_scale(_mm_cvtsi128_si32(one).cast_unsigned());
    if scale == 0.0 || scale.is_nan() {
        quants.fill(0);
        return (scale, scale);
    }
    let inverse = _mm256_set1_ps(1.0 / scale);
    // The default rounding mode is to nearest even, which is all that Rust code may run under.
    let round = |x: __m256| _mm256_cvtps_epi32(_mm256_mul_ps(x, inverse));
    let (a, b, c, d) = (round(a), round(b), round(c), round(d));
    let sums = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
    let sums = _mm_add_epi32(_mm256_castsi256_si128(sums), _mm256_extracti128_si256::<1>(sums));
    let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b01_00_11_10>(sums));
    let sums = _mm_add_epi32(sums, _mm_shuffle_epi32::<0b10_11_00_01>(sums));

    // Packing works on 128-bit halves and leaves groups of four interleaved: a0 b0 c0 d0 a1 b1 c1 d1.
    let bytes = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
    let bytes = _mm256_permutevar8x32_epi32(bytes, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
    store(quants, bytes);
    (scale, scale * _mm_cvtsi128_si32(sums) as f32)
}
