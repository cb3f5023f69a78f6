//! Kernels for processors with AVX2, FMA and F16C; in `one_row`, `turned` and `wide` also for those with AVX-512 VNNI.
//!
//! Every function here carries `#[target_feature]` and is therefore unsafe to call from code without those features;
//! the only such calls are in `simd`. Integer kernels take 256 columns at a time: eight groups of 32, one for each lane
//! of the f32 sums. They add in the order that the portable path defines, without fused operations.

use std::arch::x86_64::*;

use crate::bytes::bytes_at;
use crate::{ElementType, Matrix, Q8Row, Q8Rows};

mod affine_k;
mod blocks_32;
mod decode;
pub(crate) mod exponential;
pub(crate) mod f32_rows;
mod one_row;
mod q6_k;
pub(crate) mod q8_act;
pub(crate) mod turned;
pub(crate) mod wide;

/// Activation rows that share a decoded block.
const GROUP: usize = 8;

/// Columns that a kernel takes at a time.
const COLS: usize = 256;
/// Bytes of the scales and sums of as many activations.
const PAIRS: usize = 64;

/// Up to [`GROUP`] activation rows and where their results go: `out[row * stride + first + i]` for activation `i`.
#[derive(Clone, Copy)]
struct Batch<'a, const N: usize> {
    acts: [Q8Row<'a>; N],
    first: usize,
    stride: usize,
}

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn matmul_q8(weights: Matrix<'_>, acts: Q8Rows<'_>, out: &mut [f32]) {
    let stride = acts.rows();
    macro_rules! run {
        ($first:ident, $n:literal) => {{
            let acts = std::array::from_fn(|i| acts.row($first + i));
            let batch = Batch::<$n> { acts, first: $first, stride };
            match weights.ty() {
                ElementType::Q4_0 => blocks_32::rows_q4_0(weights, batch, out),
                ElementType::Q8_0 => blocks_32::rows_q8_0(weights, batch, out),
                ElementType::Q4_K => affine_k::rows_q4_k(weights, batch, out),
                ElementType::Q5_K => affine_k::rows_q5_k(weights, batch, out),
                ElementType::Q6_K => q6_k::rows(weights, batch, out),
                // The caller has refused every other type; a NaN would show if it had not.
                _ => out.fill(f32::NAN),
            }
        }};
    }
    for first in (0..stride).step_by(GROUP) {
        match stride - first {
            1 => run!(first, 1),
            2 => run!(first, 2),
            3 => run!(first, 3),
            4 => run!(first, 4),
            5 => run!(first, 5),
            6 => run!(first, 6),
            7 => run!(first, 7),
            _ => run!(first, 8),
        }
    }
}

/// 32 bytes in a register.
#[target_feature(enable = "avx2")]
#[inline]
fn load(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: the reference covers the 32 bytes that are read, and the load needs no alignment.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

/// A register's 32 bytes in memory.
#[target_feature(enable = "avx2")]
#[inline]
fn store(bytes: &mut [u8; 32], register: __m256i) {
    // SAFETY: the exclusive reference covers the 32 bytes that are written, and the store needs no alignment.
    unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), register) }
}

/// 16 bytes in a register.
#[target_feature(enable = "avx2")]
#[inline]
fn load_half(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: the reference covers the 16 bytes that are read, and the load needs no alignment.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}

/// Eight floats in a register.
#[target_feature(enable = "avx2")]
#[inline]
fn load_f32(values: &[f32; 8]) -> __m256 {
    // SAFETY: the reference covers the 32 bytes that are read, and the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

/// A register's floats in memory.
#[target_feature(enable = "avx2")]
#[inline]
fn store_f32(values: &mut [f32; 8], register: __m256) {
    // SAFETY: the exclusive reference covers the 32 bytes that are written, and the store needs no alignment.
    unsafe { _mm256_storeu_ps(values.as_mut_ptr(), register) }
}

/// The scales and the sums of eight groups of activations, apart.
#[target_feature(enable = "avx2")]
#[inline]
fn act_pairs(pairs: &[u8; PAIRS]) -> (__m256, __m256) {
    let low = _mm256_castsi256_ps(load(bytes_at(pairs, 0)));
    let high = _mm256_castsi256_ps(load(bytes_at(pairs, 32)));
    // Each 128-bit half gives two elements of `low` and two of `high`; the permutation puts them in order.
    let in_order =
        |mixed: __m256| _mm256_castpd_ps(_mm256_permute4x64_pd::<0b11_01_10_00>(_mm256_castps_pd(mixed)));
    let scales = in_order(_mm256_shuffle_ps::<0b10_00_10_00>(low, high));
    let sums = in_order(_mm256_shuffle_ps::<0b11_01_11_01>(low, high));
    (scales, sums)
}

/// The f32 of an f16.
#[target_feature(enable = "avx2,f16c")]
#[inline]
fn half_to_f32(bits: u16) -> f32 {
    _mm_cvtss_f32(_mm_cvtph_ps(_mm_cvtsi32_si128(i32::from(bits))))
}

/// Lane `g` of the result is the sum of the eight 32-bit lanes of `groups[g]`.
#[target_feature(enable = "avx2")]
#[inline]
fn sum_each(groups: [__m256i; 8]) -> __m256i {
    let [a, b, c, d, e, f, g, h] = groups;
    let low = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
    let high = _mm256_hadd_epi32(_mm256_hadd_epi32(e, f), _mm256_hadd_epi32(g, h));
    add_halves(low, high)
}

/// Adds the 128-bit halves of each operand: the sum of `low`'s, then the sum of `high`'s.
#[target_feature(enable = "avx2")]
#[inline]
fn add_halves(low: __m256i, high: __m256i) -> __m256i {
    let first = _mm256_permute2x128_si256::<0x20>(low, high);
    let second = _mm256_permute2x128_si256::<0x31>(low, high);
    _mm256_add_epi32(first, second)
}

/// The sum of eight lanes in the order of `lanes::sum`.
#[target_feature(enable = "avx2")]
#[inline]
fn sum_lanes(lanes: __m256) -> f32 {
    let halves = _mm_add_ps(_mm256_castps256_ps128(lanes), _mm256_extractf128_ps::<1>(lanes));
    let quarters = _mm_add_ps(halves, _mm_movehl_ps(halves, halves));
    _mm_cvtss_f32(_mm_add_ss(quarters, _mm_movehdup_ps(quarters)))
}
