//! Q4_K: for 256 columns 128 bytes of nibbles; f16 `d` and `dmin` and 12 bytes of six-bit scales and minima for 8
//! sub-blocks of 32 columns. A weight is `d * scale * q - dmin * min`.
//!
//! The nibbles are four groups of 32 bytes: the low ones of group `g` are sub-block `2g`, the high ones `2g + 1`.

use ptx_builder::{B32, F16, F32, KernelBuilder, Pred, Reg, S32, U32};

use super::partition::{BitFields, Partition, Run, field, own, shared, stream};
use super::weight::{Q8Activations, Q8Part, Raw, biased_byte};

const LOW_NIBBLES: u32 = 0x0f0f_0f0f;

/// Four parts, the groups: 32 bytes, in two halves 64 bytes apart, whose low nibbles are 32 columns and whose high ones
/// are the next 32. The header is another 16 bytes, the same for the four.
pub(super) fn partition() -> Partition {
    const GROUP: BitFields = BitFields(&[field(0, 2, 16)]);
    const COL: BitFields = BitFields(&[field(0, 2, 64)]);
    Partition {
        block_cols: 256,
        planes: vec![128, 16],
        parts: 4,
        streams: vec![stream(0, GROUP), stream(1, BitFields::ZERO)],
        loads: vec![own(0, 0, 16), own(0, 64, 16), shared(1, 0, 16)],
        col: COL,
        runs: vec![Run { col: 0, len: 32 }, Run { col: 32, len: 32 }],
    }
}

/// Which two sub-blocks a part belongs to: `2g` and `2g + 1`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubBlocks {
    /// `g >= 2`: scales 4 to 7 are packed another way than 0 to 3.
    upper: Pred,
    /// `16 * (g % 2)`: where the two are in a word of four.
    shift: Reg<U32>,
}

impl SubBlocks {
    pub(super) fn new(k: &mut KernelBuilder, part: Reg<U32>) -> Self {
        let upper = k.ge::<U32>(part, 2u32);
        let odd = k.and::<U32>(part, 1u32);
        Self { upper, shift: k.shl::<U32>(odd, 4u32) }
    }
}

/// What a header says of a part's two sub-blocks.
struct Header {
    d: Reg<F32>,
    dmin: Reg<F32>,
    /// The scales as the two low bytes.
    scales: Reg<B32>,
    /// The minima as the two low bytes.
    mins: Reg<B32>,
}

/// Decodes the four words of `d`, `dmin` and scales.
///
/// The 12 bytes `s` of scales hold, for sub-block `j < 4`, scale `s[j] & 63` and minimum `s[j + 4] & 63`; for the others
/// the low four bits are in `s[j + 4]` and the high two in `s[j - 4]` (scale) and `s[j]` (minimum).
fn header(k: &mut KernelBuilder, sub_blocks: SubBlocks, words: &[Reg<B32>]) -> Header {
    let [halves, s0, s4, s8] = [0, 1, 2, 3].map(|word| words[word]);
    let [d, dmin] = k.unpack32::<F16>(halves);
    let [d, dmin] = [k.f16_to_f32(d), k.f16_to_f32(dmin)];
    let mut four = |low: Reg<B32>, by: u32| {
        let simple = k.and::<B32>(low, 0x3f3f_3f3fu32);
        let fours = if by == 0 { s8 } else { k.shr::<B32>(s8, by) };
        let fours = k.and::<B32>(fours, LOW_NIBBLES);
        let twos = k.shr::<B32>(low, 2u32);
        let twos = k.and::<B32>(twos, 0x3030_3030u32);
        let split = k.or::<B32>(fours, twos);
        let four = k.selp::<B32>(sub_blocks.upper, split, simple);
        k.shr::<B32>(four, sub_blocks.shift)
    };
    Header { d, dmin, scales: four(s0, 0), mins: four(s4, 4) }
}

/// `d * scale` and `-dmin * min` of the first sub-block, then of the second, all exact. `words` is the header.
pub(super) fn factors(k: &mut KernelBuilder, sub_blocks: SubBlocks, words: &[Reg<B32>]) -> [Reg<F32>; 4] {
    let Header { d, dmin, scales, mins } = header(k, sub_blocks, words);
    let dmin = k.neg::<F32>(dmin);
    let mut of = |sub_block: u32| {
        let (scale, min) = (biased_byte(k, scales, sub_block, 0), biased_byte(k, mins, sub_block, 0));
        [k.mul::<F32>(d, scale), k.mul::<F32>(dmin, min)]
    };
    let ([a, b], [c, d]) = (of(0), of(1));
    [a, b, c, d]
}

/// The weights, rounded once.
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
            let q = biased_byte(k, word, i, 0);
            k.fma::<F32>(factors[2 * run], q, factors[2 * run + 1])
        })
        .collect()
}

/// A part of these quants: `d` and `-dmin`, then the two minima; the two scales as integers.
pub(super) fn part_of(
    k: &mut KernelBuilder,
    sub_blocks: SubBlocks,
    words: Vec<Reg<B32>>,
    header_words: &[Reg<B32>],
) -> Q8Part {
    let Header { d, dmin, scales, mins } = header(k, sub_blocks, header_words);
    let dmin = k.neg::<F32>(dmin);
    let [scale_0, scale_1] = [0, 1].map(|byte| super::byte(k, scales, byte).cast::<S32>());
    let [min_0, min_1] = [0, 1].map(|byte| {
        let min = super::byte(k, mins, byte).cast::<U32>();
        k.cvt::<F32>(min)
    });
    Q8Part { words, scales: vec![d, dmin, min_0, min_1], integer_scales: vec![scale_0, scale_1] }
}

/// The quants of the second sub-block are left where they are, in the high nibbles: 16 times what they stand for.
pub(super) fn q8_part(k: &mut KernelBuilder, sub_blocks: SubBlocks, raw: &Raw) -> Q8Part {
    let (quants, header) = raw.words.split_at(8);
    let masked = |k: &mut KernelBuilder, mask: u32| -> Vec<Reg<B32>> {
        quants.iter().map(|&word| k.and::<B32>(word, mask)).collect()
    };
    let mut words = masked(k, LOW_NIBBLES);
    words.extend(masked(k, !LOW_NIBBLES));
    part_of(k, sub_blocks, words, header)
}

/// `sum + d * (the sum over the sub-blocks of d_x * scale * dot) - dmin * (that of min * sum_x)`, where the quants of the
/// second sub-block are 1 / `second` times what they stand for. `scale * dot` is an exact integer, also as f32.
pub(super) fn dot_q8(
    k: &mut KernelBuilder,
    part: &Q8Part,
    x: &Q8Activations,
    sum: Reg<F32>,
    second: f32,
) -> Reg<F32> {
    let [d_0, sum_0, d_1, sum_1] = [0, 1, 2, 3].map(|i| x.groups[i]);
    let d_1 = if second == 1.0 { d_1 } else { k.mul::<F32>(d_1, second) };
    let mut scaled = |run: usize| {
        let zero = k.imm::<S32>(0);
        let dot = super::dot_unsigned(k, &part.words[8 * run..][..8], &x.words[8 * run..][..8], zero);
        let scaled = k.mul::<S32>(part.integer_scales[run], dot);
        k.cvt::<F32>(scaled)
    };
    let (scaled_0, scaled_1) = (scaled(0), scaled(1));
    let dots = k.mul::<F32>(d_0, scaled_0);
    let dots = k.fma::<F32>(d_1, scaled_1, dots);
    let mins = k.mul::<F32>(part.scales[2], sum_0);
    let mins = k.fma::<F32>(part.scales[3], sum_1, mins);
    let sum = k.fma::<F32>(part.scales[0], dots, sum);
    k.fma::<F32>(part.scales[1], mins, sum)
}
