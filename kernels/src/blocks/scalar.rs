//! F32, F16 and BF16 weights: vectors as wide as the rows' alignment allows; where tensor cores multiply the last two, groups
//! of 32.

use ptx_builder::{B32, BF16, F16, F32, KernelBuilder, Reg};

use super::partition::{BitFields, Partition, Run, own, stream};
use super::tile::{self, Products, TURN_PARTS, TilePlane, Turn};
use super::weight::Raw;
use crate::factor::Factor;

/// Scalars of `size` bytes: the widest vector, up to 16 bytes, that every row can be read with. Rows start at multiples
/// of `cols * size` bytes, so the vector's length has to divide `cols`.
pub(super) fn partition(size: u32, cols: u32) -> Partition {
    let longest = 16 / size;
    let vector = 1 << cols.trailing_zeros().min(longest.trailing_zeros());
    Partition {
        block_cols: vector,
        planes: vec![vector * size],
        parts: 1,
        streams: vec![stream(0, BitFields::ZERO)],
        loads: vec![own(0, 0, vector * size)],
        col: BitFields::ZERO,
        runs: vec![Run { col: 0, len: vector }],
    }
}

/// Groups of 32 halves, as many as share a scale of activations.
pub(super) fn groups() -> Partition {
    Partition {
        block_cols: 32,
        planes: vec![64],
        parts: 1,
        streams: vec![stream(0, BitFields::ZERO)],
        loads: (0..4).map(|load| own(0, 16 * load, 16)).collect(),
        col: BitFields::ZERO,
        runs: vec![Run { col: 0, len: 32 }],
    }
}

/// The products of each part of halves. A lane's words are eight columns, of which each of two multiplications takes four.
pub(super) fn tile(
    k: &mut KernelBuilder,
    turn: &Turn,
    (plane, factor): (TilePlane, Factor),
) -> Vec<Products> {
    let at = k.mul(turn.t, 16);
    let (weights, x) = (turn.pieces(k, plane, at), k.add(turn.x, at));
    let mut parts = Vec::new();
    for pair in (0..TURN_PARTS).step_by(2) {
        let pairs = tile::two_pairs(k, turn, pair);
        for (part, pairs) in (pair..).zip(&pairs) {
            let at = tile::piece(k, weights, 4 * part);
            let [g, other] = [0, plane.second()].map(|row| k.ld_shared_v4::<B32>(at + row));
            let x = k.ld_shared_v4::<B32>(x + (64 * part) as i32);
            let zero = [k.imm::<F32>(0.0); 4];
            let sums = factor.product(k, [g[0], other[0], g[1], other[1]], [x[0], x[1]], zero);
            let sums = factor.product(k, [g[2], other[2], g[3], other[3]], [x[2], x[3]], sums);
            let rows = sums.chunks(2).flat_map(|row| row.iter().zip(pairs));
            parts.push(rows.map(|(&sum, &[scale, _])| k.mul::<F32>(sum, scale)).collect());
        }
    }
    parts
}

pub(super) fn f32_values(k: &mut KernelBuilder, raw: &Raw) -> Vec<Reg<F32>> {
    raw.words.iter().map(|&word| k.bits_to_f32(word)).collect()
}

pub(super) fn f16_values(k: &mut KernelBuilder, raw: &Raw, quad: usize) -> Vec<Reg<F32>> {
    if let [half] = raw.halves[..] {
        return vec![k.f16_to_f32(half.cast::<F16>())];
    }
    let words = raw.words.iter().skip(2 * quad).take(2);
    let halves = words.flat_map(|&word| k.unpack32::<F16>(word)).collect::<Vec<_>>();
    halves.into_iter().map(|half| k.f16_to_f32(half)).collect()
}

pub(super) fn bf16_values(k: &mut KernelBuilder, raw: &Raw, quad: usize) -> Vec<Reg<F32>> {
    if let [half] = raw.halves[..] {
        return vec![k.bf16_to_f32(half.cast::<BF16>())];
    }
    let mut values = Vec::new();
    for &word in raw.words.iter().skip(2 * quad).take(2) {
        let low = k.shl::<B32>(word, 16u32);
        let high = k.and::<B32>(word, 0xffff_0000u32);
        values.extend([k.bits_to_f32(low), k.bits_to_f32(high)]);
    }
    values
}
