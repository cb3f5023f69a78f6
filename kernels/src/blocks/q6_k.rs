//! Q6_K: for 256 columns, in two halves of 128, 64 bytes `ql` of low nibbles a half; 32 bytes `qh` of high bit pairs a
//! half; 16 signed scales of 16 columns; an f16 `d`. A weight is `d * scale * (q - 32)`.
//!
//! Byte `l < 32` of a half's `qh` and bytes `l` and `l + 32` of its `ql` hold columns `l`, `l + 32`, `l + 64`, `l + 96`.

use ptx_builder::{B32, F32, KernelBuilder, MmaShape, Reg, U32};

use super::partition::{BitFields, Partition, Run, field, own, shared, stream};
use super::tile::{self, Products, Scale, TileRow, Turn};
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
    merged(k, raw.words[4 * (run % 2) + quad], raw.words[8 + quad], run)
}

/// The quants of a run from words of `ql` and `qh`.
fn merged(k: &mut KernelBuilder, low: Reg<B32>, high: Reg<B32>, run: usize) -> Reg<B32> {
    let low = super::nibbles(k, low, run / 2);
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
    let scaled = [0, 1, 2, 3].map(|run| {
        let (quants, x_words) = (&part.words[4 * run..][..4], &x.words[4 * run..][..4]);
        // What the bias of the quants adds, which is the same for every row of weights.
        let bias = [k.imm::<B32>(MINUS_BIAS); 4];
        let minus_bias = super::dot(k, &bias, x_words);
        let dot = super::dot_unsigned(k, quants, x_words, minus_bias);
        let scaled = k.mul(dot, part.integer_scales[run]);
        k.cvt::<F32>(scaled)
    });
    // Of each pair `(d, d * sum)` the first.
    accumulate(k, part.scales[0], [0, 1, 2, 3].map(|run| x.groups[2 * run]), scaled, sum)
}

/// Four times -32 as signed bytes.
const MINUS_BIAS: u32 = 0xe0e0_e0e0;

fn accumulate(
    k: &mut KernelBuilder,
    d: Reg<F32>,
    d_x: [Reg<F32>; 4],
    scaled: [Reg<F32>; 4],
    sum: Reg<F32>,
) -> Reg<F32> {
    let first = k.mul::<F32>(d_x[0], scaled[0]);
    let runs = (1..4).fold(first, |runs, run| k.fma::<F32>(d_x[run], scaled[run], runs));
    k.fma::<F32>(d, runs, sum)
}

/// The products of each part, of one block. A lane's words are four columns of each run.
pub(super) fn tile(k: &mut KernelBuilder, turn: &Turn, row: &TileRow) -> Vec<Products> {
    let d = tile::halves(k, turn, row, 3);
    // Signed bytes plus 128.
    let scales = [0, 1].map(|which| {
        let words = k.ld_shared_v4::<B32>(turn.row + row.plane(which, 2));
        words.map(|word| k.xor::<B32>(word, 0x8080_8080u32))
    });
    let [quants, x] = [turn.row, turn.x].map(|at| k.mad::<U32>(turn.t, 4, at));
    let minus_bias = [k.imm::<B32>(MINUS_BIAS); 2];
    let zero = k.imm::<F32>(0.0);
    let mut parts = Vec::new();
    let mut groups = None;
    for part in 0..tile::TURN_PARTS as usize {
        let (half, odd) = (part / 2, part % 2);
        if odd == 0 {
            groups = Some([0, 2].map(|group| tile::two_groups(k, turn, 4 * half as u32 + group)));
        }
        let Some(groups) = &groups else { continue };
        let words = [0, 1].map(|which| {
            let load = |(plane, offset): (usize, usize)| {
                k.ld_shared::<B32>(quants + (row.plane(which, plane) + (offset + 16 * part) as i32))
            };
            [(0, 0), (0, 64), (1, 0)].map(load)
        });
        let dots = [0usize, 1, 2, 3].map(|run| {
            let x = k.ld_shared::<B32>(x + (128 * half + 16 * odd + 32 * run) as i32);
            let start = tile::exact_zero(k);
            let start = k.mma_s32(MmaShape::M16N8K16S8, minus_bias, [x], start);
            let quants =
                words.map(|[even, odd, high]| merged(k, if run % 2 == 0 { even } else { odd }, high, run));
            let sums = k.mma_s32(MmaShape::M16N8K16S8, quants, [x], start);
            tile::as_floats(k, sums)
        });
        let scales = scales.map(|words| {
            [0usize, 1, 2, 3].map(|run| {
                let byte = 8 * half + odd + 2 * run;
                let scale = biased_byte(k, words[byte / 4], byte as u32 % 4, 128);
                Scale::new(k, scale)
            })
        });
        parts.push(tile::each(|weights, b, i| {
            let scaled = [0usize, 1, 2, 3].map(|run| scales[weights][run].times(k, dots[run][i]));
            let d_x = [0usize, 1, 2, 3].map(|run| groups[run / 2][b][2 * (run % 2)]);
            accumulate(k, d[weights], d_x, scaled, zero)
        }));
    }
    parts
}
