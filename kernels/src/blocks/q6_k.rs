//! Q6_K: for 256 columns, in two halves of 128, 64 bytes `ql` of low nibbles a half; 32 bytes `qh` of high bit pairs a
//! half; 16 signed scales of 16 columns; an f16 `d`. A weight is `d * scale * (q - 32)`.
//!
//! Byte `l < 32` of a half's `qh` and bytes `l` and `l + 32` of its `ql` hold columns `l`, `l + 32`, `l + 64`, `l + 96`.

use ptx_builder::{Addr, B32, F16, F32, KernelBuilder, MmaShape, Reg, U16, U32};

use super::partition::{BitFields, Partition, Run, field, own, shared, stream};
use super::scale::{ByteFactor, Group, biased_byte, zero_dot};
use super::tile::{self, Products, TilePlane, Turn, TurnWeights};
use super::weight::{Q8Part, Raw};

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

/// `(a & b) | (!a & c)`.
const SELECT: u8 = 0xca;

/// The quants of a run from words of `ql` and `qh`.
pub(super) fn merged(k: &mut KernelBuilder, low: Reg<B32>, high: Reg<B32>, run: usize) -> Reg<B32> {
    let low = if run < 2 { low } else { k.shr::<B32>(low, 4u32) };
    // Every other pair, the same for two runs: above the run's own there are then zeros.
    let high = k.and::<B32>(high, if run.is_multiple_of(2) { 0x3333_3333u32 } else { 0xcccc_ccccu32 });
    let high = match run {
        0 => k.shl::<B32>(high, 4u32),
        1 => k.shl::<B32>(high, 2u32),
        2 => high,
        _ => k.shr::<B32>(high, 2u32),
    };
    k.lop3::<B32>(0x0f0f_0f0fu32, low, high, SELECT)
}

/// How many times what they stand for [`signed`] quants are.
const SIGNED: f32 = 4.0;

/// The quants of a run from words of `ql` and `qh`, less their bias, times [`SIGNED`]: in the upper six bits of a byte the
/// highest one is the sign, if it is inverted.
fn signed(k: &mut KernelBuilder, low: Reg<B32>, high: Reg<B32>, run: usize) -> Reg<B32> {
    // (high & pairs) ^ signs
    const INVERT: u8 = (0xf0 & 0xcc) ^ 0xaa;
    let low = if run < 2 { k.shl::<B32>(low, 2u32) } else { k.shr::<B32>(low, 2u32) };
    // Every other pair, the same for two runs: in the last two bits of the bytes there are then zeros.
    let (pairs, signs) =
        if run.is_multiple_of(2) { (0x3333_3333u32, 0x2222_2222u32) } else { (0xcccc_cccc, 0x8888_8888) };
    let high = k.lop3::<B32>(high, pairs, signs, INVERT);
    let high = if run == 3 { high } else { k.shl::<B32>(high, 6 - 2 * run as u32) };
    k.lop3::<B32>(0x3c3c_3c3cu32, low, high, SELECT)
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
    let factors = factors(k, raw);
    Q8Part { words, groups: factors.into_iter().map(|scale| Group::new(k, scale, None)).collect() }
}

/// Four times -32 as signed bytes: a dot with it is what the bias of the quants adds, the same for every row of weights.
pub(super) const MINUS_BIAS: u32 = 0xe0e0_e0e0;

/// `scale` times the [`factors`] of the two parts that a lane decodes for others, one a run.
pub(super) fn own_factors(
    k: &mut KernelBuilder,
    turn: &TurnWeights,
    planes: &[TilePlane],
    scale: f32,
) -> [[Reg<F32>; 4]; 2] {
    let own_half = turn.own_half(k);
    let eight = k.shl::<U32>(own_half, 3u32);
    let scales = turn.own_row(k, (2, planes[2]), Some(eight));
    let d = turn.own_row(k, (3, planes[3]), None);
    let d = scale_factor(k, d, scale);
    let scales = biased_scales(k, scales);
    [0, 1].map(|odd| {
        let [[a, b], [c, d]] = scales.map(|scales| two_factors(k, d, scales, odd));
        [a, b, c, d]
    })
}

/// What [`biased_scales`] are multiplied with: `scale` times the `d` at `at`.
fn scale_factor(k: &mut KernelBuilder, at: Addr<U32>, scale: f32) -> ByteFactor {
    let d = k.ld_shared::<U16>(at);
    let d = k.f16_to_f32(d.cast::<F16>());
    let d = k.mul::<F32>(d, scale);
    ByteFactor::new(k, d, 128)
}

/// The scales of two parts, signed bytes plus 128.
fn biased_scales(k: &mut KernelBuilder, at: Addr<U32>) -> [Reg<B32>; 2] {
    k.ld_shared_v2::<B32>(at).map(|word| k.xor::<B32>(word, 0x8080_8080u32))
}

/// The factors of two runs of one of the two, from their word of scales: a part's are every other one.
fn two_factors(k: &mut KernelBuilder, d: ByteFactor, scales: Reg<B32>, odd: u32) -> [Reg<F32>; 2] {
    [odd, odd + 2].map(|scale| d.times(k, scales, scale))
}

/// The products of each part, of one block. A lane's words are four columns of each run.
pub(super) fn tile(k: &mut KernelBuilder, turn: &Turn, planes: &[TilePlane]) -> Vec<Products> {
    let d = turn.rows(k, (3, planes[3])).map(|at| scale_factor(k, at, SIGNED.recip()));
    let scales = turn.rows(k, (2, planes[2]));
    let four = k.shl::<U32>(turn.t, 2u32);
    let [low, high] = [0, 1].map(|plane: usize| turn.pieces(k, planes[plane], four));
    let columns = turn.four_groups(k);
    let mut parts = Vec::new();
    for half in [0, 1u32] {
        let pairs = [0, 2].map(|group| tile::two_pairs(k, turn, 4 * half + group)).concat();
        for odd in [0, 1u32] {
            let part = 2 * half + odd;
            let at = [(low, part, 0), (low, part + 4, 0), (high, part, 1)]
                .map(|(row, piece, plane)| (tile::piece(k, row, piece), planes[plane].second()));
            let words = [0, 1].map(|which| at.map(|(at, second)| k.ld_shared::<B32>(at + which * second)));
            let scales = scales.map(|at| biased_scales(k, at + 8 * half as i32));
            let columns: [_; 4] = k.ldmatrix(columns + (128 * half + 16 * odd) as i32, false);
            let mut sums = tile::no_products(k, turn);
            for (two, columns) in columns.as_chunks::<2>().0.iter().enumerate() {
                // Not of all four, whose registers others need.
                let factors = [0, 1].map(|row: usize| two_factors(k, d[row], scales[row][two], odd));
                for (of_two, &x) in columns.iter().enumerate() {
                    let run = 2 * two + of_two;
                    let quants = words.map(|[even, odd, high]| signed(k, [even, odd][of_two], high, run));
                    let zero = [zero_dot(k); 4];
                    let dots = k.mma_s32(MmaShape::M16N8K16S8, quants, [x], zero);
                    let dots = turn.dots(k, dots);
                    let groups = factors.map(|factors| Group::new(k, factors[of_two], None));
                    sums = tile::add_group(k, &sums, &dots, (groups, &pairs[run]));
                }
            }
            parts.push(sums);
        }
    }
    parts
}
