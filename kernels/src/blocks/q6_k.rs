//! Q6_K: 210 bytes for 256 columns: two halves of 128 columns, each 64 bytes `ql` of low nibbles, 32 bytes `qh` of high
//! bit pairs and 8 signed scales of 16 columns; then an f16 `d`. A weight is `d * scale * (q - 32)`.
//!
//! Byte `l < 32` of a half's `qh` and bytes `l` and `l + 32` of its `ql` hold columns `l`, `l + 32`, `l + 64`, `l + 96`.

use ptx_builder::{B32, F32, KernelBuilder, Reg, U32};

use super::partition::{BitFields, Partition, Run, field, own, shared};
use super::weight::{Q8Activations, Q8Part, Raw, biased_byte};

/// Blocks are only 2-byte aligned. Sixteen parts of 4 bytes `l`, so that neighbouring threads read neighbouring bytes.
pub(super) fn partition() -> Partition {
    const QL: BitFields = BitFields(&[field(3, 1, 64), field(0, 3, 4)]);
    const QH: BitFields = BitFields(&[field(3, 1, 32), field(0, 3, 4)]);
    const SCALES: BitFields = BitFields(&[field(3, 1, 8), field(2, 1, 1)]);
    const COL: BitFields = BitFields(&[field(3, 1, 128), field(0, 3, 4)]);
    Partition {
        block_cols: 256,
        block_bytes: 210,
        parts: 16,
        streams: vec![BitFields::ZERO, QL, QH, SCALES],
        loads: vec![
            own(1, 0, 2),
            own(1, 2, 2),
            own(1, 32, 2),
            own(1, 34, 2),
            own(2, 128, 2),
            own(2, 130, 2),
            shared(3, 192, 1),
            shared(3, 194, 1),
            shared(3, 196, 1),
            shared(3, 198, 1),
            shared(0, 208, 2),
        ],
        col: COL,
        runs: [0, 32, 64, 96].map(|col| Run { col, len: 4 }).to_vec(),
    }
}

/// `d * scale` of each run, exact.
pub(super) fn factors(k: &mut KernelBuilder, raw: &Raw) -> Vec<Reg<F32>> {
    let d = raw.f16(k, 6);
    let scales = raw.bytes.iter().map(|&scale| {
        let scale = k.cvt::<F32>(scale);
        k.mul::<F32>(d, scale)
    });
    scales.collect()
}

/// The four quants of a run as bytes, each 32 more than its value.
fn biased_quants(k: &mut KernelBuilder, raw: &Raw, run: usize) -> Reg<B32> {
    let low = raw.word_of_halves(k, run % 2 * 2);
    let low = if run < 2 { low } else { k.shr::<B32>(low, 4u32) };
    let low = k.and::<B32>(low, 0x0f0f_0f0fu32);
    let high = raw.word_of_halves(k, 4);
    let high = match run {
        0 => k.shl::<B32>(high, 4u32),
        1 => k.shl::<B32>(high, 2u32),
        2 => high,
        _ => k.shr::<B32>(high, 2u32),
    };
    let high = k.and::<B32>(high, 0x3030_3030u32);
    k.or::<B32>(low, high)
}

/// The four quants of a run as signed bytes.
fn signed_quants(k: &mut KernelBuilder, raw: &Raw, run: usize) -> Reg<B32> {
    let biased = biased_quants(k, raw, run);
    // Plus 96 is within 96..160, so that no byte carries; flipping its top bit subtracts 128.
    let shifted = k.add::<U32>(biased.cast::<U32>(), 0x6060_6060u32);
    k.xor::<B32>(shifted.cast::<B32>(), 0x8080_8080u32)
}

/// The weights, exact.
pub(super) fn values(k: &mut KernelBuilder, raw: &Raw, factors: &[Reg<F32>], run: usize) -> Vec<Reg<F32>> {
    let word = biased_quants(k, raw, run);
    (0..4)
        .map(|i| {
            let q = biased_byte(k, word, i, 32);
            k.mul::<F32>(factors[run], q)
        })
        .collect()
}

pub(super) fn q8_part(k: &mut KernelBuilder, raw: &Raw) -> Q8Part {
    let words = (0..4).map(|run| signed_quants(k, raw, run)).collect();
    Q8Part { words, scales: vec![raw.f16(k, 6)], integer_scales: raw.bytes.clone() }
}

/// `sum + d * (the sum over the runs of d_x * (scale * dot))`, the inner product an exact integer.
pub(super) fn dot_q8(k: &mut KernelBuilder, part: &Q8Part, x: &Q8Activations, sum: Reg<F32>) -> Reg<F32> {
    let mut runs = None;
    for run in 0..4 {
        let dot = k.dp4a_ss(part.words[run], x.words[run], 0i32);
        let scaled = k.mul(dot, part.integer_scales[run]);
        let scaled = k.cvt::<F32>(scaled);
        runs = Some(match runs {
            None => k.mul::<F32>(x.groups[run], scaled),
            Some(runs) => k.fma::<F32>(x.groups[run], scaled, runs),
        });
    }
    match runs {
        Some(runs) => k.fma::<F32>(part.scales[0], runs, sum),
        None => sum,
    }
}
