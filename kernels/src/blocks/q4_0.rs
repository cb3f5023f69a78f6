//! Q4_0: for 32 columns, 16 bytes of nibbles; an f16 scale. A weight is `d * (q - 8)`; the low nibbles are the first 16
//! columns, the high ones the others.

use ptx_builder::{B32, F32, KernelBuilder, Reg};

use super::partition::{BitFields, Partition, Run, own, shared, stream};
use super::scale::{Group, biased_byte};
use super::tile::{self, Products, TilePlane, Turn};
use super::weight::{Q8Part, Raw};

/// What a quant of 0 stands for.
const OFFSET: f32 = -8.0;

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
    let d = raw.f16(k, 0);
    let offset = k.mul::<F32>(d, OFFSET);
    Q8Part { words, groups: vec![Group::new(k, d, Some(offset))] }
}

/// The products of each part. A word's low nibbles are four columns, the high ones the columns 16 on.
pub(super) fn tile(k: &mut KernelBuilder, turn: &Turn, planes: &[TilePlane]) -> Vec<Products> {
    let at = k.mul(turn.t, 4);
    let quants = turn.pieces(k, planes[0], at);
    let rows = |k: &mut KernelBuilder, part: u32| {
        let at = tile::piece(k, quants, part);
        let words = [0, planes[0].second()].map(|row| k.ld_shared::<B32>(at + row));
        let [[a, b], [c, d]] = [0, 1].map(|run| words.map(|word| super::nibbles(k, word, run)));
        [a, b, c, d]
    };
    tile::scaled_parts(k, (turn, planes), rows, Some(OFFSET))
}
