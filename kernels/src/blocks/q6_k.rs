//! Q6_K: for 256 columns, in two halves of 128, 64 bytes `ql` of low nibbles a half; 32 bytes `qh` of high bit pairs a
//! half; 16 signed scales of 16 columns; an f16 `d`. A weight is `d * scale * (q - 32)`.
//!
//! Byte `l < 32` of a half's `qh` and bytes `l` and `l + 32` of its `ql` hold columns `l`, `l + 32`, `l + 64`, `l + 96`.

use ptx_builder::{B32, F32, KernelBuilder, Reg};

use super::partition::{BitFields, Partition, Run, field, own, shared, stream};
use super::weight::{Q8Activations, Q8Part, Raw, biased_byte};

/// Four parts: 16 bytes of `qh`, whose bit pairs are four runs of 16 columns, 32 apart, and twice 16 bytes of `ql`, whose
/// low nibbles are the first two runs and whose high ones are the others.
pub(super) fn partition() -> Partition {
    const QL: BitFields = BitFields(&[field(0, 2, 16)]);
    const QH: BitFields = BitFields(&[field(0, 2, 16)]);
    const SCALES: BitFields = BitFields(&[field(1, 1, 8), field(0, 1, 1)]);
    const COL: BitFields = BitFields(&[field(1, 1, 128), field(0, 1, 16)]);
    Partition {
        block_cols: 256,
        planes: vec![128, 64, 16, 2],
        parts: 4,
        streams: vec![stream(0, QL), stream(1, QH), stream(2, SCALES), stream(3, BitFields::ZERO)],
        loads: vec![
            own(0, 0, 16),
            own(0, 64, 16),
            own(1, 0, 16),
            shared(2, 0, 1),
            shared(2, 2, 1),
            shared(2, 4, 1),
            shared(2, 6, 1),
            shared(3, 0, 2),
        ],
        col: COL,
        runs: [0, 32, 64, 96].map(|col| Run { col, len: 16 }).to_vec(),
    }
}

/// `d * scale` of each run, exact.
pub(super) fn factors(k: &mut KernelBuilder, raw: &Raw) -> Vec<Reg<F32>> {
    let d = raw.f16(k, 0);
    let scales = raw.bytes.iter().map(|&scale| {
        let scale = k.cvt::<F32>(scale);
        k.mul::<F32>(d, scale)
    });
    scales.collect()
}

/// Four quants of a run as bytes, each 32 more than its value.
fn biased_quants(k: &mut KernelBuilder, raw: &Raw, run: usize, quad: usize) -> Reg<B32> {
    let low = super::nibbles(k, raw.words[4 * (run % 2) + quad], run / 2);
    let high = raw.words[8 + quad];
    let high = match run {
        0 => k.shl::<B32>(high, 4u32),
        1 => k.shl::<B32>(high, 2u32),
        2 => high,
        _ => k.shr::<B32>(high, 2u32),
    };
    let high = k.and::<B32>(high, 0x3030_3030u32);
    k.or::<B32>(low, high)
}

/// The weights, exact.
pub(super) fn values(
    k: &mut KernelBuilder,
    raw: &Raw,
    factors: &[Reg<F32>],
    run: usize,
    quad: usize,
) -> Vec<Reg<F32>> {
    let word = biased_quants(k, raw, run, quad);
    (0..4)
        .map(|i| {
            let q = biased_byte(k, word, i, 32);
            k.mul::<F32>(factors[run], q)
        })
        .collect()
}

/// Quants are 32 more than their values.
pub(super) fn q8_part(k: &mut KernelBuilder, raw: &Raw) -> Q8Part {
    let words = (0..4).flat_map(|run| (0..4).map(move |quad| (run, quad)));
    let words = words.map(|(run, quad)| biased_quants(k, raw, run, quad)).collect();
    Q8Part { words, scales: vec![raw.f16(k, 0)], integer_scales: raw.bytes.clone() }
}

/// `sum + d * (the sum over the runs of d_x * (scale * dot))`, the inner product an exact integer.
pub(super) fn dot_q8(k: &mut KernelBuilder, part: &Q8Part, x: &Q8Activations, sum: Reg<F32>) -> Reg<F32> {
    let mut runs = None;
    for run in 0..4 {
        let (quants, x_words) = (&part.words[4 * run..][..4], &x.words[4 * run..][..4]);
        // What the bias of the quants adds, which is the same for every row of weights.
        let bias = [k.imm::<B32>(0xe0e0_e0e0u32); 4];
        let minus_bias = super::dot(k, &bias, x_words);
        let dot = super::dot_unsigned(k, quants, x_words, minus_bias);
        let scaled = k.mul(dot, part.integer_scales[run]);
        let scaled = k.cvt::<F32>(scaled);
        // Of each pair `(d, d * sum)` the first.
        let group = x.groups[2 * run];
        runs = Some(match runs {
            None => k.mul::<F32>(group, scaled),
            Some(runs) => k.fma::<F32>(group, scaled, runs),
        });
    }
    match runs {
        Some(runs) => k.fma::<F32>(part.scales[0], runs, sum),
        None => sum,
    }
}
