//! Q4_0: for 32 columns, 16 bytes of nibbles; an f16 scale. A weight is `d * (q - 8)`; the low nibbles are the first 16
//! columns, the high ones the others.

use ptx_builder::{F32, KernelBuilder, Reg};

use super::partition::{BitFields, Partition, Run, own, shared, stream};
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
    let scaled = k.mul::<F32>(x.groups[0], dot);
    let centred = k.fma::<F32>(x.groups[1], -8.0f32, scaled);
    k.fma::<F32>(part.scales[0], centred, sum)
}
