//! Q8_0: for 32 columns, 32 signed bytes; an f16 scale.

use ptx_builder::{B32, F32, KernelBuilder, Reg};

use super::partition::{BitFields, Partition, Run, own, shared, stream};
use super::scale::{Group, biased_byte};
use super::tile::{self, Products, TilePlane, Turn};
use super::weight::{Q8Part, Raw};

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
    let d = raw.f16(k, 0);
    Q8Part { words: raw.words.clone(), groups: vec![Group::new(k, d, None)] }
}

/// The products of each part. A lane's words are columns `4 t..4 t + 4`, and 16 further.
pub(super) fn tile(k: &mut KernelBuilder, turn: &Turn, planes: &[TilePlane]) -> Vec<Products> {
    let quants = turn.matrices(k, planes[0], 1);
    let rows = |k: &mut KernelBuilder, part: u32| {
        let at = tile::piece(k, quants, 2 * part);
        k.ldmatrix(at, false)
    };
    tile::scaled_parts(k, (turn, planes), rows, None)
}
