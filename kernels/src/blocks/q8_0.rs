//! Q8_0: 34 bytes, an f16 scale and 32 signed bytes.

use ptx_builder::{B32, F32, KernelBuilder, Reg};

use super::partition::{BitFields, Partition, Run, field, own, shared};
use super::weight::{Q8Activations, Q8Part, Raw, biased_byte};

/// Blocks are only 2-byte aligned. Eight parts of 4 quants, so that neighbouring threads read neighbouring bytes.
pub(super) fn partition() -> Partition {
    const QUANTS: BitFields = BitFields(&[field(0, 3, 4)]);
    Partition {
        block_cols: 32,
        block_bytes: 34,
        parts: 8,
        streams: vec![BitFields::ZERO, QUANTS],
        loads: vec![own(1, 2, 2), own(1, 4, 2), shared(0, 0, 2)],
        col: QUANTS,
        runs: vec![Run { col: 0, len: 4 }],
    }
}

/// The weights `d * q`, exact.
pub(super) fn values(k: &mut KernelBuilder, raw: &Raw, factors: &[Reg<F32>]) -> Vec<Reg<F32>> {
    let word = raw.word_of_halves(k, 0);
    // Signed bytes plus 128.
    let word = k.xor::<B32>(word, 0x8080_8080u32);
    (0..4)
        .map(|i| {
            let q = biased_byte(k, word, i, 128);
            k.mul::<F32>(factors[0], q)
        })
        .collect()
}

pub(super) fn q8_part(k: &mut KernelBuilder, raw: &Raw) -> Q8Part {
    Q8Part { words: vec![raw.word_of_halves(k, 0)], scales: vec![raw.f16(k, 2)], integer_scales: Vec::new() }
}

/// `sum + d * d_x * dot`.
pub(super) fn dot_q8(k: &mut KernelBuilder, part: &Q8Part, x: &Q8Activations, sum: Reg<F32>) -> Reg<F32> {
    let dot = k.dp4a_ss(part.words[0], x.words[0], 0i32);
    let dot = k.cvt::<F32>(dot);
    let scale = k.mul::<F32>(part.scales[0], x.groups[0]);
    k.fma::<F32>(scale, dot, sum)
}
