//! One row of Q8 activations on processors with dot products of bytes (AVX-512 F, VL and VNNI).
//!
//! To turn a block, as is done for several rows, takes longer than its products would then save, but in Q8_0, where there
//! is nothing else to unpack.

use std::arch::x86_64::*;

use super::affine_k::{Block, dot_of};
use super::turned::{offset_q8_0, turn_row, unpack_q8_0};
use super::{COLS, PAIRS, act_pairs, half_to_f32, load, load_half, q6_k, sum_each, sum_lanes};
use crate::bytes::{bytes_at, u16_at};
use crate::q6_k::{D, SCALES};
use crate::{ElementType, Matrix, Q8Row, q8_0};

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
pub(super) fn matmul_q8(weights: Matrix<'_>, act: Q8Row<'_>, out: &mut [f32]) {
    match weights.ty() {
        ElementType::Q4_K => row_q4_k(weights, act, out),
        ElementType::Q5_K => row_q5_k(weights, act, out),
        ElementType::Q6_K => row_q6_k(weights, act, out),
        ElementType::Q8_0 => row_q8_0(weights, act, out),
        _ => super::matmul_q8(weights, act.as_rows(), out),
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
fn row_q4_k(weights: Matrix<'_>, act: Q8Row<'_>, out: &mut [f32]) {
    row_affine(weights, act, out, |block| Block::q4_k(block));
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
fn row_q5_k(weights: Matrix<'_>, act: Q8Row<'_>, out: &mut [f32]) {
    row_affine(weights, act, out, |block| Block::q5_k(block));
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
#[inline]
fn row_affine<const BYTES: usize>(
    weights: Matrix<'_>,
    act: Q8Row<'_>,
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES]) -> Block,
) {
    let (quants, pairs) = (act.quants().as_chunks::<COLS>().0, act.scales().as_chunks::<PAIRS>().0);
    for (row, out) in weights.iter_rows().zip(out) {
        let (mut products, mut minima) = (_mm256_setzero_ps(), _mm256_setzero_ps());
        for ((block, quants), pairs) in row.as_chunks::<BYTES>().0.iter().zip(quants).zip(pairs) {
            let block = unpack(block);
            let (act_scales, act_sums) = act_pairs(pairs);
            let dots = dot_of(|g| {
                let quants = load(bytes_at(quants, 32 * g));
                _mm256_dpbusd_epi32(_mm256_setzero_si256(), block.quants[g], quants)
            });
            let scales = _mm256_mul_ps(block.scales, act_scales);
            products = _mm256_add_ps(products, _mm256_mul_ps(scales, _mm256_cvtepi32_ps(dots)));
            minima = _mm256_add_ps(minima, _mm256_mul_ps(block.mins, act_sums));
        }
        *out = sum_lanes(_mm256_sub_ps(products, minima));
    }
}

/// Quants are too large by 32. The sums of activations are made once, so that 32 times these are taken off all groups
/// together.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
fn row_q6_k(weights: Matrix<'_>, act: Q8Row<'_>, out: &mut [f32]) {
    const BYTES: usize = crate::q6_k::BYTES;
    let (quants, pairs) = (act.quants().as_chunks::<COLS>().0, act.scales().as_chunks::<PAIRS>().0);
    let halves: Vec<__m256i> = quants.iter().map(|quants| half_sums(quants)).collect();
    for (row, out) in weights.iter_rows().zip(out) {
        let mut products = _mm256_setzero_ps();
        let acts = quants.iter().zip(pairs).zip(&halves);
        for (block, ((quants, pairs), halves)) in row.as_chunks::<BYTES>().0.iter().zip(acts) {
            let of_block = q6_k::quants(block);
            let bytes = load_half(bytes_at(block, SCALES));
            let mut groups = [_mm256_setzero_si256(); 8];
            for g in 0..8 {
                let products = _mm256_maddubs_epi16(of_block[g], load(bytes_at(quants, 32 * g)));
                groups[g] = _mm256_madd_epi16(products, q6_k::scales_of(bytes, g));
            }
            let offset = _mm256_madd_epi16(*halves, _mm256_cvtepi8_epi16(bytes));
            let dots = _mm256_sub_epi32(sum_each(groups), _mm256_slli_epi32::<5>(offset));
            let (act_scales, _) = act_pairs(pairs);
            let d = _mm256_set1_ps(half_to_f32(u16_at(block, D)));
            let scales = _mm256_mul_ps(d, act_scales);
            products = _mm256_add_ps(products, _mm256_mul_ps(scales, _mm256_cvtepi32_ps(dots)));
        }
        *out = sum_lanes(products);
    }
}

/// The sums of 16 activations each, as 16-bit numbers.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
#[inline]
fn half_sums(quants: &[u8; COLS]) -> __m256i {
    let mut sums = [0i16; 16];
    for (sum, half) in sums.iter_mut().zip(quants.as_chunks::<16>().0) {
        *sum = half.iter().map(|quant| i16::from(quant.cast_signed())).sum();
    }
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = sums;
    _mm256_setr_epi16(a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p)
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
fn row_q8_0(weights: Matrix<'_>, act: Q8Row<'_>, out: &mut [f32]) {
    const BYTES: usize = 8 * q8_0::BYTES;
    let mut acts = Vec::with_capacity(act.cols().div_ceil(COLS));
    turn_row(act, &mut acts);
    for (row, out) in weights.iter_rows().zip(out) {
        let mut products = _mm256_setzero_ps();
        let (blocks, rest) = row.as_chunks::<BYTES>();
        let mut padded = [0; BYTES];
        padded[..rest.len()].copy_from_slice(rest);
        let last = (!rest.is_empty()).then_some(&padded);
        for (block, act) in blocks.iter().chain(last).zip(&acts) {
            let weights = unpack_q8_0(block);
            let mut dots = [_mm256_setzero_si256(); 2];
            for k in 0..8 {
                dots[k / 4] = _mm256_dpbusd_epi32(dots[k / 4], weights.quants[k], act.quants[k]);
            }
            let sums = _mm256_sub_epi32(_mm256_add_epi32(dots[0], dots[1]), offset_q8_0(act));
            let scales = _mm256_mul_ps(weights.scales, act.scales);
            products = _mm256_add_ps(products, _mm256_mul_ps(scales, _mm256_cvtepi32_ps(sums)));
        }
        *out = sum_lanes(products);
    }
}
