//! Several rows of Q8 activations at once, on processors with dot products of bytes (AVX-512 VL and VNNI).
//!
//! The 256 columns of a block are turned: lane `g` of register `k` holds columns `4 * k .. 4 * k + 4` of group `g`. When
//! the products of all eight registers have been added, the sum of each group is in its lane, and no lanes have to be added
//! to each other. A block is turned once for up to eight rows of activations, these once for all weights. Sums of integers
//! are exact, so their order is free; that of the floats is the portable path's.

use std::arch::x86_64::*;

use super::affine_k::Block;
use super::blocks_32::q4_0_quants;
use super::{Batch, COLS, PAIRS, act_pairs, for_groups, half_to_f32, load, load_half, q6_k, sum_lanes};
use crate::bytes::{bytes_at, u16_at};
use crate::q6_k::{D, SCALES};
use crate::{ElementType, Matrix, Q8Row, Q8Rows, q4_0, q4_k, q5_k, q8_0};

/// 256 columns of activations, turned.
#[derive(Clone, Copy)]
struct Acts {
    quants: [__m256i; 8],
    scales: __m256,
    sums: __m256,
    /// The sums of the quants in the first and in the second half of each group.
    halves: [__m256i; 2],
}

/// 256 columns of weights, turned, as unsigned bytes.
struct Weights {
    quants: [__m256i; 8],
    /// The scale of each group.
    scales: __m256,
    /// The minimum of each group, in formats that have them.
    mins: __m256,
    /// What the sums of the halves of each group are multiplied by, in formats that have such scales.
    factors: [__m256i; 2],
}

#[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
pub(crate) fn matmul_q8(weights: Matrix<'_>, acts: Q8Rows<'_>, out: &mut [f32]) {
    let stride = acts.rows();
    if stride == 1 && weights.ty() != ElementType::Q8_0 {
        // To turn a block takes longer than the products of one row save.
        return super::matmul_q8(weights, acts, out);
    }
    let turned: Vec<Acts> = (0..stride).flat_map(|row| turned_acts(acts.row(row))).collect();
    let blocks = turned.len() / stride;
    macro_rules! run {
        ($first:ident, $n:literal) => {{
            let acts = std::array::from_fn(|i| &turned[($first + i) * blocks..][..blocks]);
            let batch = Batch::<_, $n> { acts, first: $first, stride };
            match weights.ty() {
                ElementType::Q4_0 => rows_q4_0(weights, batch, out),
                ElementType::Q8_0 => rows_q8_0(weights, batch, out),
                ElementType::Q4_K => rows_q4_k(weights, batch, out),
                ElementType::Q5_K => rows_q5_k(weights, batch, out),
                ElementType::Q6_K => rows_q6_k(weights, batch, out),
                // The caller has refused every other type; a NaN would show if it had not.
                _ => out.fill(f32::NAN),
            }
        }};
    }
    for_groups!(stride, run);
}

#[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
fn rows_q4_k<const N: usize>(weights: Matrix<'_>, batch: Batch<&[Acts], N>, out: &mut [f32]) {
    rows::<N, { q4_k::BYTES }, true>(
        weights,
        batch,
        out,
        |block| affine(Block::q4_k(block)),
        |_, dots, _| _mm256_add_epi32(dots[0], dots[1]),
    );
}

#[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
fn rows_q5_k<const N: usize>(weights: Matrix<'_>, batch: Batch<&[Acts], N>, out: &mut [f32]) {
    rows::<N, { q5_k::BYTES }, true>(
        weights,
        batch,
        out,
        |block| affine(Block::q5_k(block)),
        |_, dots, _| _mm256_add_epi32(dots[0], dots[1]),
    );
}

#[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
fn rows_q4_0<const N: usize>(weights: Matrix<'_>, batch: Batch<&[Acts], N>, out: &mut [f32]) {
    let unpack = |blocks: &[u8; 8 * q4_0::BYTES]| {
        let eight = _mm256_set1_epi8(8);
        blocks_32(blocks, |block| _mm256_add_epi8(q4_0_quants(block), eight))
    };
    rows::<N, { 8 * q4_0::BYTES }, false>(weights, batch, out, unpack, |_, dots, act| {
        let offset = _mm256_slli_epi32::<3>(_mm256_add_epi32(act.halves[0], act.halves[1]));
        _mm256_sub_epi32(_mm256_add_epi32(dots[0], dots[1]), offset)
    });
}

#[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
fn rows_q8_0<const N: usize>(weights: Matrix<'_>, batch: Batch<&[Acts], N>, out: &mut [f32]) {
    let unpack = |blocks: &[u8; 8 * q8_0::BYTES]| {
        let top = _mm256_set1_epi8(-128);
        blocks_32(blocks, |block: &[u8; q8_0::BYTES]| _mm256_xor_si256(load(bytes_at(block, 2)), top))
    };
    rows::<N, { 8 * q8_0::BYTES }, false>(weights, batch, out, unpack, |_, dots, act| {
        let offset = _mm256_slli_epi32::<7>(_mm256_add_epi32(act.halves[0], act.halves[1]));
        _mm256_sub_epi32(_mm256_add_epi32(dots[0], dots[1]), offset)
    });
}

#[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
fn rows_q6_k<const N: usize>(weights: Matrix<'_>, batch: Batch<&[Acts], N>, out: &mut [f32]) {
    rows::<N, { crate::q6_k::BYTES }, false>(
        weights,
        batch,
        out,
        |block| scaled_halves(block),
        |weights, dots, act| {
            let half = |i: usize| {
                let offset = _mm256_slli_epi32::<5>(act.halves[i]);
                _mm256_mullo_epi32(_mm256_sub_epi32(dots[i], offset), weights.factors[i])
            };
            _mm256_add_epi32(half(0), half(1))
        },
    );
}

/// `BYTES` is the bytes of 256 columns. `sums` makes the sum of products of each group of what the halves' quants gave.
#[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
#[inline]
fn rows<const N: usize, const BYTES: usize, const MINS: bool>(
    weights: Matrix<'_>,
    batch: Batch<&[Acts], N>,
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES]) -> Weights,
    sums: impl Fn(&Weights, [__m256i; 2], &Acts) -> __m256i,
) {
    for (row, out) in weights.iter_rows().zip(out.chunks_exact_mut(batch.stride)) {
        let mut products = [_mm256_setzero_ps(); N];
        let mut minima = [_mm256_setzero_ps(); N];
        let (blocks, rest) = row.as_chunks::<BYTES>();
        // The last columns, padded with zeros like the activations: their scales are zero.
        let mut padded = [0; BYTES];
        padded[..rest.len()].copy_from_slice(rest);
        let last = (!rest.is_empty()).then_some(&padded);
        for (b, block) in blocks.iter().chain(last).enumerate() {
            let weights = unpack(block);
            for n in 0..N {
                let act = &batch.acts[n][b];
                let mut dots = [_mm256_setzero_si256(); 2];
                for k in 0..8 {
                    dots[k / 4] = _mm256_dpbusd_epi32(dots[k / 4], weights.quants[k], act.quants[k]);
                }
                let sums = _mm256_cvtepi32_ps(sums(&weights, dots, act));
                let product = _mm256_mul_ps(_mm256_mul_ps(weights.scales, act.scales), sums);
                products[n] = _mm256_add_ps(products[n], product);
                if MINS {
                    minima[n] = _mm256_add_ps(minima[n], _mm256_mul_ps(weights.mins, act.sums));
                }
            }
        }
        for n in 0..N {
            let lanes = if MINS { _mm256_sub_ps(products[n], minima[n]) } else { products[n] };
            out[batch.first + n] = sum_lanes(lanes);
        }
    }
}

/// A block of Q4_K or Q5_K.
#[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
#[inline]
fn affine(block: Block) -> Weights {
    let factors = [_mm256_setzero_si256(); 2];
    Weights { quants: turn(block.quants), scales: block.scales, mins: block.mins, factors }
}

/// Eight blocks of one scale each, which come first in a block.
#[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
#[inline]
fn blocks_32<const BYTES: usize>(blocks: &[u8], unpack: impl Fn(&[u8; BYTES]) -> __m256i) -> Weights {
    let mut quants = [_mm256_setzero_si256(); 8];
    let mut scales = [0; 8];
    for ((quants, scale), block) in quants.iter_mut().zip(&mut scales).zip(blocks.as_chunks().0) {
        *quants = unpack(block);
        *scale = u16_at(block, 0) as i16;
    }
    let [a, b, c, d, e, f, g, h] = scales;
    Weights {
        quants: turn(quants),
        scales: _mm256_cvtph_ps(_mm_set_epi16(h, g, f, e, d, c, b, a)),
        mins: _mm256_setzero_ps(),
        factors: [_mm256_setzero_si256(); 2],
    }
}

/// A block of Q6_K.
#[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
#[inline]
fn scaled_halves(block: &[u8; crate::q6_k::BYTES]) -> Weights {
    let bytes = load_half(bytes_at(block, SCALES));
    let first = _mm256_cvtepi8_epi32(_mm_shuffle_epi8(bytes, _mm_set1_epi64x(0x0e0c_0a08_0604_0200)));
    let second = _mm256_cvtepi8_epi32(_mm_shuffle_epi8(bytes, _mm_set1_epi64x(0x0f0d_0b09_0705_0301)));
    Weights {
        quants: turn(q6_k::quants(block)),
        scales: _mm256_set1_ps(half_to_f32(u16_at(block, D))),
        mins: _mm256_setzero_ps(),
        factors: [first, second],
    }
}

/// A row of activations, 256 columns at a time, the last padded with zeros.
#[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
fn turned_acts(row: Q8Row<'_>) -> Vec<Acts> {
    let (quants, last_quants) = row.quants().as_chunks::<COLS>();
    let (pairs, last_pairs) = row.scales().as_chunks::<PAIRS>();
    let mut turned: Vec<Acts> =
        quants.iter().zip(pairs).map(|(quants, pairs)| turn_acts(quants, pairs)).collect();
    if !last_quants.is_empty() {
        let (mut quants, mut pairs) = ([0; COLS], [0; PAIRS]);
        quants[..last_quants.len()].copy_from_slice(last_quants);
        pairs[..last_pairs.len()].copy_from_slice(last_pairs);
        turned.push(turn_acts(&quants, &pairs));
    }
    turned
}

#[target_feature(enable = "avx2,fma,f16c,avx512vl,avx512vnni")]
#[inline]
fn turn_acts(quants: &[u8; COLS], pairs: &[u8; PAIRS]) -> Acts {
    let quants = turn(std::array::from_fn(|g| load(bytes_at(quants, 32 * g))));
    let (scales, sums) = act_pairs(pairs);
    let ones = _mm256_set1_epi8(1);
    let mut halves = [_mm256_setzero_si256(); 2];
    for (k, &quants) in quants.iter().enumerate() {
        halves[k / 4] = _mm256_dpbusd_epi32(halves[k / 4], ones, quants);
    }
    Acts { quants, scales, sums, halves }
}

/// Lane `g` of register `k` of the result is lane `k` of register `g`.
#[target_feature(enable = "avx2")]
#[inline]
fn turn(groups: [__m256i; 8]) -> [__m256i; 8] {
    let [a, b, c, d, e, f, g, h] = groups;
    // Lanes k and k + 4 of four registers, for each k.
    let four = |a, b, c, d| {
        let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
        let (ab_high, cd_high) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
        [
            _mm256_unpacklo_epi64(ab, cd),
            _mm256_unpackhi_epi64(ab, cd),
            _mm256_unpacklo_epi64(ab_high, cd_high),
            _mm256_unpackhi_epi64(ab_high, cd_high),
        ]
    };
    let (first, second) = (four(a, b, c, d), four(e, f, g, h));
    let mut turned = [_mm256_setzero_si256(); 8];
    for k in 0..4 {
        turned[k] = _mm256_permute2x128_si256::<0x20>(first[k], second[k]);
        turned[k + 4] = _mm256_permute2x128_si256::<0x31>(first[k], second[k]);
    }
    turned
}
