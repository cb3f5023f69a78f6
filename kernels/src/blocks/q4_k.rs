//! Q4_K: for 256 columns 128 bytes of nibbles; f16 `d` and `dmin` and 12 bytes of six-bit scales and minima for 8
//! sub-blocks of 32 columns. A weight is `d * scale * q - dmin * min`.
//!
//! The nibbles are four groups of 32 bytes: the low ones of group `g` are sub-block `2g`, the high ones `2g + 1`.

use ptx_builder::{B32, F16, F32, KernelBuilder, MmaShape, Pred, Reg, S32, U32};

use super::partition::{BitFields, Partition, Run, field, own, shared, stream};
use super::tile::{self, Products, Scale, TileRow, Turn};
use super::weight::{Q8Activations, Q8Part, Raw, biased_byte, sixteenth};

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
        let [simple, split] = eight(k, low, s8, by);
        let four = k.selp::<B32>(sub_blocks.upper, split, simple);
        k.shr::<B32>(four, sub_blocks.shift)
    };
    Header { d, dmin, scales: four(s0, 0), mins: four(s4, 4) }
}

/// The scales of sub-blocks 0 to 3 and 4 to 7, for `by` 0 and their word `low`; for `by` 4 and theirs the minima.
fn eight(k: &mut KernelBuilder, low: Reg<B32>, s8: Reg<B32>, by: u32) -> [Reg<B32>; 2] {
    let simple = k.and::<B32>(low, 0x3f3f_3f3fu32);
    let fours = if by == 0 { s8 } else { k.shr::<B32>(s8, by) };
    let fours = k.and::<B32>(fours, LOW_NIBBLES);
    let twos = k.shr::<B32>(low, 2u32);
    let twos = k.and::<B32>(twos, 0x3030_3030u32);
    [simple, k.or::<B32>(fours, twos)]
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
/// second sub-block are 1 / `second` times what they stand for. `scale * dot` is exact.
pub(super) fn dot_q8(
    k: &mut KernelBuilder,
    part: &Q8Part,
    x: &Q8Activations,
    sum: Reg<F32>,
    second: f32,
) -> Reg<F32> {
    let mut scaled = |run: usize| {
        let zero = k.imm::<S32>(0);
        let dot = super::dot_unsigned(k, &part.words[8 * run..][..8], &x.words[8 * run..][..8], zero);
        let scaled = k.mul::<S32>(part.integer_scales[run], dot);
        k.cvt::<F32>(scaled)
    };
    let scaled = [scaled(0), scaled(1)];
    let scaled = if second == 1.0 { scaled } else { [scaled[0], k.mul::<F32>(scaled[1], second)] };
    accumulate(k, [0, 1, 2, 3].map(|i| part.scales[i]), [0, 1, 2, 3].map(|i| x.groups[i]), scaled, sum)
}

/// `scales` are `d`, `-dmin` and the two minima; groups are pairs `(d, d * sum)`.
fn accumulate(
    k: &mut KernelBuilder,
    scales: [Reg<F32>; 4],
    [d_0, sum_0, d_1, sum_1]: [Reg<F32>; 4],
    scaled: [Reg<F32>; 2],
    sum: Reg<F32>,
) -> Reg<F32> {
    let dots = k.mul::<F32>(d_0, scaled[0]);
    let dots = k.fma::<F32>(d_1, scaled[1], dots);
    let mins = k.mul::<F32>(scales[2], sum_0);
    let mins = k.fma::<F32>(scales[3], sum_1, mins);
    let sum = k.fma::<F32>(scales[0], dots, sum);
    k.fma::<F32>(scales[1], mins, sum)
}

/// Where the fifth bits of quants are, if they have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fifth {
    Absent,
    InPlane(usize),
}

/// A header that a lane has for all parts of a block.
struct WholeHeader {
    d: Reg<F32>,
    minus_dmin: Reg<F32>,
    /// Of sub-blocks 0 to 3, and of 4 to 7.
    scales: [Reg<B32>; 2],
    mins: [Reg<B32>; 2],
}

impl WholeHeader {
    fn new(k: &mut KernelBuilder, [halves, s0, s4, s8]: [Reg<B32>; 4]) -> Self {
        let [d, dmin] = k.unpack32::<F16>(halves).map(|half| k.f16_to_f32(half));
        let minus_dmin = k.neg::<F32>(dmin);
        Self { d, minus_dmin, scales: eight(k, s0, s8, 0), mins: eight(k, s4, s8, 4) }
    }

    /// The scales of a part's sub-blocks, that of the second for quants that are 16 times what they stand for if
    /// `in_place`, and what [`accumulate`] wants.
    fn of_part(&self, k: &mut KernelBuilder, part: usize, in_place: bool) -> ([Scale; 2], [Reg<F32>; 4]) {
        let (scales, mins) = (self.scales[part / 2], self.mins[part / 2]);
        let bytes = [0, 1].map(|i| 2 * (part as u32 % 2) + i);
        let [min_0, min_1] = bytes.map(|byte| biased_byte(k, mins, byte, 0));
        let first = biased_byte(k, scales, bytes[0], 0);
        let second =
            if in_place { sixteenth(k, scales, bytes[1]) } else { biased_byte(k, scales, bytes[1], 0) };
        ([first, second].map(|scale| Scale::new(k, scale)), [self.d, self.minus_dmin, min_0, min_1])
    }
}

/// The products of each part, of one block. A lane's words are eight columns of both sub-blocks.
pub(super) fn tile(k: &mut KernelBuilder, turn: &Turn, row: &TileRow, fifth: Fifth) -> Vec<Products> {
    let header = row.planes.len() - 1;
    let headers = [0, 1].map(|which| {
        let words = k.ld_shared_v4::<B32>(turn.row + row.plane(which, header));
        WholeHeader::new(k, words)
    });
    // The first 16 columns of each sub-block are in the first half of the block's quants, the others in the second.
    let (half, odd) = (k.shr::<U32>(turn.t, 1u32), k.and::<U32>(turn.t, 1u32));
    let quants = k.mad::<U32>(half, 64, turn.row);
    let quants = k.mad::<U32>(odd, 8, quants);
    let x = k.mad::<U32>(turn.t, 8, turn.x);
    let high = match fifth {
        Fifth::Absent => None,
        Fifth::InPlane(plane) => {
            let at = k.mad::<U32>(turn.t, 8, turn.row);
            Some([0, 1].map(|which| k.ld_shared_v2::<B32>(at + row.plane(which, plane))))
        }
    };
    let zero = k.imm::<F32>(0.0);
    let mut parts = Vec::new();
    for part in 0..tile::TURN_PARTS as usize {
        let at = |which| row.plane(which, 0) + 16 * part as i32;
        let words = [0, 1].map(|which| k.ld_shared_v2::<B32>(quants + at(which)));
        let dots = [0usize, 1].map(|run| {
            let x = k.ld_shared_v2::<B32>(x + (64 * part + 32 * run) as i32);
            let quant = |which: usize, word: usize| match &high {
                None => k.and::<B32>(words[which][word], if run == 0 { LOW_NIBBLES } else { !LOW_NIBBLES }),
                Some(high) => {
                    let low = super::nibbles(k, words[which][word], run);
                    let bit = fifth_bit(k, high[which][word], 2 * part + run);
                    k.or::<B32>(low, bit)
                }
            };
            let rows = rows(quant);
            tile::dots(k, MmaShape::M16N8K32U8S8, rows, x)
        });
        // Without a fifth bit high nibbles stay where they are, as in `q8_part`.
        let scales = [0, 1].map(|which: usize| headers[which].of_part(k, part, high.is_none()));
        let pairs = tile::two_groups(k, turn, 2 * part as u32);
        parts.push(tile::each(|weights, b, i| {
            let (sub_blocks, rest) = &scales[weights];
            let scaled = [0, 1].map(|run| sub_blocks[run].times(k, dots[run][i]));
            accumulate(k, *rest, pairs[b], scaled, zero)
        }));
    }
    parts
}

/// Two words of rows `g` and `g + 8`.
fn rows(mut word: impl FnMut(usize, usize) -> Reg<B32>) -> [[Reg<B32>; 2]; 2] {
    [[word(0, 0), word(0, 1)], [word(1, 0), word(1, 1)]]
}

/// Bit `sub_block` of each byte, where the fifth bit of a quant belongs.
fn fifth_bit(k: &mut KernelBuilder, word: Reg<B32>, sub_block: usize) -> Reg<B32> {
    let shifted = match sub_block as u32 {
        4 => word,
        bit @ 0..4 => k.shl::<B32>(word, 4 - bit),
        bit => k.shr::<B32>(word, bit - 4),
    };
    k.and::<B32>(shifted, 0x1010_1010u32)
}
