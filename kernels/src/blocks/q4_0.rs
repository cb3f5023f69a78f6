//! Q4_0: for 32 columns, 16 bytes of nibbles; an f16 scale. A weight is `d * (q - 8)`; the low nibbles are the first 16
//! columns, the high ones the others.

use ptx_builder::{B32, F32, KernelBuilder, Reg};

use super::partition::{BitFields, Partition, Run, own, shared, stream};
use super::tile::{self, Products, TileRow, Turn};
use super::weight::{Q8Activations, Q8Part, Raw, biased_byte};

/// One part.
pub(super) fn partition() -> Partition {
    Partition {
        block_cols: 32,
        planes: vec![16, 2],
        parts: 1,
        streams: vec![stream(0, BitFields::ZERO), stream(1, BitFields::ZERO)],
        loads: vec![own(0, 0, 16), shared(1, 0, 2)],
        col: BitFields::ZERO,
        runs: vec![Run { col: 0, len: 16 }, Run { col: 16, len: 16 }],
    }
}

/// The weights, exact.
pub(super) fn values(
    k: &mut KernelBuilder,
    raw: &Raw,
    factors: &[Reg<F32>],
    run: usize,
    quad: usize,
) -> Vec<Reg<F32>> {
    let word = super::nibbles(k, raw.words[quad], run);
    (0..4)
        .map(|i| {
            let q = biased_byte(k, word, i, 8);
            k.mul::<F32>(factors[0], q)
        })
        .collect()
}

pub(super) fn q8_part(k: &mut KernelBuilder, raw: &Raw) -> Q8Part {
    let words = super::both_nibbles(k, &raw.words);
    Q8Part { words, scales: vec![raw.f16(k, 0)], integer_scales: Vec::new() }
}

/// `sum + d * (d_x * dot - 8 * sum_x)`.
pub(super) fn dot_q8(k: &mut KernelBuilder, part: &Q8Part, x: &Q8Activations, sum: Reg<F32>) -> Reg<F32> {
    let dot = super::dot(k, &part.words, &x.words);
    let dot = k.cvt::<F32>(dot);
    accumulate(k, part.scales[0], [x.groups[0], x.groups[1]], dot, sum)
}

fn accumulate(
    k: &mut KernelBuilder,
    d: Reg<F32>,
    [d_x, sum_x]: [Reg<F32>; 2],
    dot: Reg<F32>,
    sum: Reg<F32>,
) -> Reg<F32> {
    let scaled = k.mul::<F32>(d_x, dot);
    let centred = k.fma::<F32>(sum_x, -8.0f32, scaled);
    k.fma::<F32>(d, centred, sum)
}

/// The products of each part. A word's low nibbles are four columns, the high ones the columns 16 on.
pub(super) fn tile(k: &mut KernelBuilder, turn: &Turn, row: &TileRow) -> Vec<Products> {
    let [quants, x] = [turn.row, turn.x].map(|at| k.mad(turn.t, 4, at));
    let zero = k.imm::<F32>(0.0);
    let operands = |k: &mut KernelBuilder, part: u32| {
        let rows = [0, 1].map(|which| {
            let word = k.ld_shared::<B32>(quants + (row.plane(which, 0) + 16 * part as i32));
            [0, 1].map(|run| super::nibbles(k, word, run))
        });
        (rows, [0, 16].map(|col| k.ld_shared::<B32>(x + (32 * part + col) as i32)))
    };
    tile::scaled_parts(k, (turn, row), operands, |k, d, group, dot| accumulate(k, d, group, dot, zero))
}
