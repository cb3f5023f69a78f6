//! Q8_0: for 32 columns, 32 signed bytes; an f16 scale.

use ptx_builder::{B32, F32, KernelBuilder, Reg};

use super::partition::{BitFields, Partition, Run, own, shared, stream};
use super::tile::{self, Products, TileRow, Turn};
use super::weight::{Q8Activations, Q8Part, Raw, biased_byte};

/// One part.
pub(super) fn partition() -> Partition {
    Partition {
        block_cols: 32,
        planes: vec![32, 2],
        parts: 1,
        streams: vec![stream(0, BitFields::ZERO), stream(1, BitFields::ZERO)],
        loads: vec![own(0, 0, 16), own(0, 16, 16), shared(1, 0, 2)],
        col: BitFields::ZERO,
        runs: vec![Run { col: 0, len: 32 }],
    }
}

/// The weights `d * q`, exact.
pub(super) fn values(k: &mut KernelBuilder, raw: &Raw, factors: &[Reg<F32>], quad: usize) -> Vec<Reg<F32>> {
    // Signed bytes plus 128.
    let word = k.xor::<B32>(raw.words[quad], 0x8080_8080u32);
    (0..4)
        .map(|i| {
            let q = biased_byte(k, word, i, 128);
            k.mul::<F32>(factors[0], q)
        })
        .collect()
}

pub(super) fn q8_part(k: &mut KernelBuilder, raw: &Raw) -> Q8Part {
    Q8Part { words: raw.words.clone(), scales: vec![raw.f16(k, 0)], integer_scales: Vec::new() }
}

/// `sum + d * d_x * dot`.
pub(super) fn dot_q8(k: &mut KernelBuilder, part: &Q8Part, x: &Q8Activations, sum: Reg<F32>) -> Reg<F32> {
    let dot = super::dot(k, &part.words, &x.words);
    let dot = k.cvt::<F32>(dot);
    accumulate(k, [part.scales[0], x.groups[0]], dot, sum)
}

fn accumulate(k: &mut KernelBuilder, [d, d_x]: [Reg<F32>; 2], dot: Reg<F32>, sum: Reg<F32>) -> Reg<F32> {
    let scale = k.mul::<F32>(d, d_x);
    k.fma::<F32>(scale, dot, sum)
}

/// The products of each part. A lane's words are eight columns.
pub(super) fn tile(k: &mut KernelBuilder, turn: &Turn, row: &TileRow) -> Vec<Products> {
    let [quants, x] = [turn.row, turn.x].map(|at| k.mad(turn.t, 8, at));
    let zero = k.imm::<F32>(0.0);
    let operands = |k: &mut KernelBuilder, part: u32| {
        let rows =
            [0, 1].map(|which| k.ld_shared_v2::<B32>(quants + (row.plane(which, 0) + 32 * part as i32)));
        (rows, k.ld_shared_v2::<B32>(x + (32 * part) as i32))
    };
    tile::scaled_parts(k, (turn, row), operands, |k, d, [d_x, _], dot| accumulate(k, [d, d_x], dot, zero))
}
