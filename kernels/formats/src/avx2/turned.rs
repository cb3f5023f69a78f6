//! Several rows of Q8 activations on processors with dot products of bytes (AVX-512 F, VL and VNNI).
//!
//! The 256 columns of a block are turned: lane `g` of register `k` holds columns `4 * k .. 4 * k + 4` of group `g`. When
//! the products of all eight registers have been added, the sum of each group is in its lane, and no lanes have to be added
//! to each other. Activations are turned once for all weights of a call. Four rows of weights are multiplied at a time, two
//! in a register, by up to [`MOST`] rows of activations: a block that is turned is used often, and an activation that is
//! loaded four times. Sums of integers are exact, so their order is free; that of the floats is the portable path's.

use std::arch::x86_64::*;

use super::affine_k::Block;
use super::blocks_32::q4_0_quants;
use super::{COLS, PAIRS, act_pairs, half_to_f32, load, load_half, q6_k, sum_lanes};
use crate::bytes::{bytes_at, u16_at};
use crate::q6_k::{D, SCALES};
use crate::{ElementType, Matrix, Q8Row, Q8Rows, q4_0, q4_k, q5_k, q8_0};

/// Rows of activations that share a block of weights. With 32, prompts in Q8_0 take an eighth longer.
const MOST: usize = 64;
/// Rows of weights that are multiplied at a time, two in a register.
const TILE: usize = 4;

/// 256 columns of activations, turned.
#[derive(Clone, Copy)]
pub(super) struct Acts {
    pub(super) quants: [__m256i; 8],
    pub(super) scales: __m256,
    sums: __m256,
    /// The sums of the quants in the first and in the second half of each group.
    halves: [__m256i; 2],
}

/// 256 columns of a row of weights, turned, as unsigned bytes.
pub(super) struct Weights {
    pub(super) quants: [__m256i; 8],
    /// The scale of each group.
    pub(super) scales: __m256,
    /// The minimum of each group, in formats that have them.
    mins: __m256,
    /// What the sums of the halves of each group are multiplied by, in formats that have such scales.
    factors: [__m256i; 2],
}

/// The same of two rows, one in each half of a register.
struct Pair {
    quants: [__m512i; 8],
    scales: __m512,
    mins: __m512,
    factors: [__m512i; 2],
}

/// The same of four rows in memory, row by row for each register.
struct Tile {
    quants: [[__m256i; TILE]; 8],
    scales: [__m256; TILE],
    mins: [__m256; TILE],
    factors: [[__m256i; TILE]; 2],
}

/// Up to [`MOST`] rows of activations, each of so many blocks, and where their results go: `out[row * stride + first + i]`
/// for activation `i`.
#[derive(Clone, Copy)]
struct Batch<'a> {
    acts: &'a [Acts],
    blocks: usize,
    first: usize,
    stride: usize,
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
pub(crate) fn matmul_q8(weights: Matrix<'_>, acts: Q8Rows<'_>, out: &mut [f32]) {
    let stride = acts.rows();
    if stride == 1 {
        return super::one_row::matmul_q8(weights, acts.row(0), out);
    }
    let blocks = acts.cols().div_ceil(COLS);
    let mut turned = Vec::with_capacity(MOST.min(stride) * blocks);
    for first in (0..stride).step_by(MOST) {
        turned.clear();
        for row in first..stride.min(first + MOST) {
            turn_row(acts.row(row), &mut turned);
        }
        let batch = Batch { acts: &turned, blocks, first, stride };
        match weights.ty() {
            ElementType::Q4_0 => rows_q4_0(weights, batch, out),
            ElementType::Q8_0 => rows_q8_0(weights, batch, out),
            ElementType::Q4_K => rows_q4_k(weights, batch, out),
            ElementType::Q5_K => rows_q5_k(weights, batch, out),
            ElementType::Q6_K => rows_q6_k(weights, batch, out),
            // The caller has refused every other type; a NaN would show if it had not.
            _ => out.fill(f32::NAN),
        }
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
fn rows_q4_k(weights: Matrix<'_>, batch: Batch<'_>, out: &mut [f32]) {
    rows::<{ q4_k::BYTES }, true>(
        weights,
        batch,
        out,
        |block| affine(Block::q4_k(block)),
        |_, dots, _| _mm512_add_epi32(dots[0], dots[1]),
    );
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
fn rows_q5_k(weights: Matrix<'_>, batch: Batch<'_>, out: &mut [f32]) {
    rows::<{ q5_k::BYTES }, true>(
        weights,
        batch,
        out,
        |block| affine(Block::q5_k(block)),
        |_, dots, _| _mm512_add_epi32(dots[0], dots[1]),
    );
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
fn rows_q4_0(weights: Matrix<'_>, batch: Batch<'_>, out: &mut [f32]) {
    let unpack = |blocks: &[u8; 8 * q4_0::BYTES]| {
        let eight = _mm256_set1_epi8(8);
        blocks_32(blocks, |block| _mm256_add_epi8(q4_0_quants(block), eight))
    };
    rows::<{ 8 * q4_0::BYTES }, false>(weights, batch, out, unpack, |_, dots, act| {
        let offset = _mm256_slli_epi32::<3>(_mm256_add_epi32(act.halves[0], act.halves[1]));
        _mm512_sub_epi32(_mm512_add_epi32(dots[0], dots[1]), _mm512_broadcast_i64x4(offset))
    });
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
fn rows_q8_0(weights: Matrix<'_>, batch: Batch<'_>, out: &mut [f32]) {
    rows::<{ 8 * q8_0::BYTES }, false>(
        weights,
        batch,
        out,
        |blocks| unpack_q8_0(blocks),
        |_, dots, act| {
            let offset = _mm512_broadcast_i64x4(offset_q8_0(act));
            _mm512_sub_epi32(_mm512_add_epi32(dots[0], dots[1]), offset)
        },
    );
}

/// Eight blocks of Q8_0, each quant larger by 128.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
#[inline]
pub(super) fn unpack_q8_0(blocks: &[u8; 8 * q8_0::BYTES]) -> Weights {
    let top = _mm256_set1_epi8(-128);
    blocks_32(blocks, |block: &[u8; q8_0::BYTES]| _mm256_xor_si256(load(bytes_at(block, 2)), top))
}

/// What that adds to the sums of products.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
#[inline]
pub(super) fn offset_q8_0(act: &Acts) -> __m256i {
    _mm256_slli_epi32::<7>(_mm256_add_epi32(act.halves[0], act.halves[1]))
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
fn rows_q6_k(weights: Matrix<'_>, batch: Batch<'_>, out: &mut [f32]) {
    rows::<{ crate::q6_k::BYTES }, false>(
        weights,
        batch,
        out,
        |block| scaled_halves(block),
        |weights, dots, act| {
            let half = |i: usize| {
                let offset = _mm512_broadcast_i64x4(_mm256_slli_epi32::<5>(act.halves[i]));
                _mm512_mullo_epi32(_mm512_sub_epi32(dots[i], offset), weights.factors[i])
            };
            _mm512_add_epi32(half(0), half(1))
        },
    );
}

/// `BYTES` is the bytes of 256 columns. `sums` makes the sum of products of each group of what the halves' quants gave.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
#[inline]
fn rows<const BYTES: usize, const MINS: bool>(
    weights: Matrix<'_>,
    batch: Batch<'_>,
    out: &mut [f32],
    unpack: impl Fn(&[u8; BYTES]) -> Weights,
    sums: impl Fn(&Pair, [__m512i; 2], &Acts) -> __m512i,
) {
    let rows: Vec<&[u8]> = weights.iter_rows().collect();
    let count = batch.acts.len() / batch.blocks;
    let mut tile = Tile::new();
    // The ends of rows, padded with zeros like the activations: scales are zero there.
    let mut padded = [[0; BYTES]; TILE];
    let (mut products, mut minima) = ([[_mm512_setzero_ps(); 2]; MOST], [[_mm512_setzero_ps(); 2]; MOST]);
    for (i, out) in out.chunks_mut(TILE * batch.stride).enumerate() {
        let (rows, next) = rows[i * TILE..].split_at(TILE.min(rows.len() - i * TILE));
        // A tile with fewer rows has its last one several times.
        let rows: [_; TILE] = std::array::from_fn(|i| rows[i.min(rows.len() - 1)].as_chunks::<BYTES>());
        for ((_, rest), padded) in rows.iter().zip(&mut padded) {
            padded[..rest.len()].copy_from_slice(rest);
        }
        products[..count].fill([_mm512_setzero_ps(); 2]);
        minima[..count].fill([_mm512_setzero_ps(); 2]);
        for b in 0..batch.blocks {
            for row in next.iter().take(TILE) {
                prefetch(row.get(b * BYTES..).unwrap_or_default(), BYTES);
            }
            for (i, (blocks, _)) in rows.iter().enumerate() {
                tile.set(i, unpack(blocks.get(b).unwrap_or(&padded[i])));
            }
            let pairs = [tile.pair(0), tile.pair(2)];
            let acts = batch.acts[b..].iter().step_by(batch.blocks);
            for ((act, products), minima) in acts.zip(&mut products).zip(&mut minima) {
                let mut dots = [[_mm512_setzero_si512(); 2]; 2];
                for k in 0..8 {
                    let quants = _mm512_broadcast_i64x4(act.quants[k]);
                    for (dots, pair) in dots.iter_mut().zip(&pairs) {
                        dots[k / 4] = _mm512_dpbusd_epi32(dots[k / 4], pair.quants[k], quants);
                    }
                }
                let (act_scales, act_sums) = (twice(act.scales), twice(act.sums));
                for (p, pair) in pairs.iter().enumerate() {
                    let sums = _mm512_cvtepi32_ps(sums(pair, dots[p], act));
                    let product = _mm512_mul_ps(_mm512_mul_ps(pair.scales, act_scales), sums);
                    products[p] = _mm512_add_ps(products[p], product);
                    if MINS {
                        minima[p] = _mm512_add_ps(minima[p], _mm512_mul_ps(pair.mins, act_sums));
                    }
                }
            }
        }
        for (i, out) in out.chunks_exact_mut(batch.stride).enumerate() {
            let results = products.iter().zip(&minima).zip(&mut out[batch.first..][..count]);
            for ((products, minima), out) in results {
                let (products, minima) = (products[i / 2], minima[i / 2]);
                let lanes = if MINS { _mm512_sub_ps(products, minima) } else { products };
                *out = sum_lanes(half_of(lanes, i % 2));
            }
        }
    }
}

impl Tile {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new() -> Self {
        let (zero, none) = (_mm256_setzero_si256(), [_mm256_setzero_ps(); TILE]);
        Self { quants: [[zero; TILE]; 8], scales: none, mins: none, factors: [[zero; TILE]; 2] }
    }

    #[target_feature(enable = "avx2")]
    #[inline]
    fn set(&mut self, row: usize, weights: Weights) {
        for (to, from) in self.quants.iter_mut().zip(weights.quants) {
            to[row] = from;
        }
        self.scales[row] = weights.scales;
        self.mins[row] = weights.mins;
        for (to, from) in self.factors.iter_mut().zip(weights.factors) {
            to[row] = from;
        }
    }

    /// Rows `first` and the next.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn pair(&self, first: usize) -> Pair {
        let mut quants = [_mm512_setzero_si512(); 8];
        for (to, from) in quants.iter_mut().zip(&self.quants) {
            *to = joined(from[first], from[first + 1]);
        }
        let floats = |from: &[__m256; TILE]| {
            let [low, high] = [from[first], from[first + 1]].map(|lanes| _mm256_castps_si256(lanes));
            _mm512_castsi512_ps(joined(low, high))
        };
        let factors = [&self.factors[0], &self.factors[1]];
        Pair {
            quants,
            scales: floats(&self.scales),
            mins: floats(&self.mins),
            factors: factors.map(|from| joined(from[first], from[first + 1])),
        }
    }
}

/// Brings the first `bytes` bytes nearer.
///
/// Four rows at a time are no pattern that processors would see: without, they wait for a third of the time.
#[inline]
fn prefetch(row: &[u8], bytes: usize) {
    for line in row[..bytes.min(row.len())].chunks(64) {
        // SAFETY: prefetches have no effect that a program could observe, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn joined(low: __m256i, high: __m256i) -> __m512i {
    _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
}

#[target_feature(enable = "avx512f")]
#[inline]
fn twice(lanes: __m256) -> __m512 {
    _mm512_castsi512_ps(_mm512_broadcast_i64x4(_mm256_castps_si256(lanes)))
}

/// The low half, or the high one for 1.
#[target_feature(enable = "avx512f")]
#[inline]
fn half_of(lanes: __m512, half: usize) -> __m256 {
    let lanes = _mm512_castps_si512(lanes);
    let half = if half == 0 { _mm512_castsi512_si256(lanes) } else { _mm512_extracti64x4_epi64::<1>(lanes) };
    _mm256_castsi256_ps(half)
}

/// A block of Q4_K or Q5_K.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
#[inline]
fn affine(block: Block) -> Weights {
    let factors = [_mm256_setzero_si256(); 2];
    Weights { quants: turn(block.quants), scales: block.scales, mins: block.mins, factors }
}

/// Eight blocks of one scale each, which come first in a block.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
#[inline]
fn blocks_32<const BYTES: usize>(blocks: &[u8], unpack: impl Fn(&[u8; BYTES]) -> __m256i) -> Weights {
    let mut quants = [_mm256_setzero_si256(); 8];
    let mut scales = [0; 8];
    for g in 0..8 {
        let block = bytes_at(blocks, g * BYTES);
        quants[g] = unpack(block);
        scales[g] = u16_at(block, 0) as i16;
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
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
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

/// Adds a row of activations, 256 columns at a time, the last padded with zeros.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
pub(super) fn turn_row(row: Q8Row<'_>, turned: &mut Vec<Acts>) {
    let (quants, last_quants) = row.quants().as_chunks::<COLS>();
    let (pairs, last_pairs) = row.scales().as_chunks::<PAIRS>();
    for (quants, pairs) in quants.iter().zip(pairs) {
        turned.push(turn_acts(quants, pairs));
    }
    if !last_quants.is_empty() {
        let (mut quants, mut pairs) = ([0; COLS], [0; PAIRS]);
        quants[..last_quants.len()].copy_from_slice(last_quants);
        pairs[..last_pairs.len()].copy_from_slice(last_pairs);
        turned.push(turn_acts(&quants, &pairs));
    }
}

#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl,avx512vnni")]
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
