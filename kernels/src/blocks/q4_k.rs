//! Q4_K: for 256 columns 128 bytes of nibbles; f16 `d` and `dmin` and 12 bytes of six-bit scales and minima for 8
//! sub-blocks of 32 columns. A weight is `d * scale * q - dmin * min`.
//!
//! The nibbles are four groups of 32 bytes: the low ones of group `g` are sub-block `2g`, the high ones `2g + 1`.

use ptx_builder::{Addr, B32, F16, F32, KernelBuilder, MmaShape, Pred, Reg, U32};

use super::partition::{BitFields, Partition, Run, field, own, shared, stream};
use super::scale::{ByteFactor, Group, biased_byte};
use super::tile::{self, Products, TilePlane, Turn, TurnWeights};
use super::weight::{Q8Part, Raw};

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

/// Where the scales and minima of a part are, those of sub-blocks `2g` and `2g + 1`: [`four_bytes`] says how they are
/// packed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SubBlocks {
    /// Picks two bytes of the scales' own word and two of the minima's.
    own: Reg<U32>,
    /// Picks the two bytes of the third word that have low bits of both, twice, or zeros for the first four sub-blocks.
    fours: Reg<U32>,
    /// By how much own bytes are shifted to the right, ...
    by: Reg<U32>,
    /// ... and which bits of them count then.
    mask: Reg<B32>,
}

impl SubBlocks {
    pub(super) fn new(k: &mut KernelBuilder, part: Reg<U32>) -> Self {
        let upper = k.ge::<U32>(part, 2u32);
        let odd = k.and::<U32>(part, 1u32);
        let odd = k.ne::<U32>(odd, 0u32);
        let own = k.selp::<U32>(odd, 0x7632, 0x5410);
        let fours = k.selp::<U32>(odd, 0x3232, 0x1010);
        Self {
            own,
            fours: k.selp::<U32>(upper, fours, 0x4444),
            by: k.selp::<U32>(upper, 2, 0),
            mask: k.selp::<B32>(upper, 0x3030_3030u32, 0x3f3f_3f3fu32),
        }
    }
}

/// The scales of a part's two sub-blocks and their minima, a byte each, from the words of a header.
fn bytes(k: &mut KernelBuilder, sub_blocks: SubBlocks, words: &[Reg<B32>]) -> Reg<B32> {
    let own = k.prmt::<B32>(words[1], words[2], sub_blocks.own);
    let own = k.shr::<B32>(own, sub_blocks.by);
    let own = k.and::<B32>(own, sub_blocks.mask);
    let fours = k.prmt::<B32>(words[3], 0u32, sub_blocks.fours);
    let scales = k.and::<B32>(fours, 0x0000_0f0fu32);
    let mins = k.shr::<B32>(fours, 4u32);
    let mins = k.and::<B32>(mins, 0x0f0f_0000u32);
    let fours = k.or::<B32>(scales, mins);
    k.or::<B32>(fours, own)
}

/// The scales and the minima of sub-blocks 0 to 3, or of the `upper` four, from the words of a header.
///
/// The 12 bytes `s` of scales hold, for sub-block `j < 4`, scale `s[j] & 63` and minimum `s[j + 4] & 63`; for the others
/// the low four bits are in `s[j + 4]` and the high two in `s[j - 4]` (scale) and `s[j]` (minimum).
fn four_bytes(k: &mut KernelBuilder, upper: Pred, words: &[Reg<B32>]) -> [Reg<B32>; 2] {
    [(words[1], 0), (words[2], 4)].map(|(low, by)| {
        let [simple, split] = eight(k, low, words[3], by);
        k.selp::<B32>(upper, split, simple)
    })
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

/// `d` and `-dmin` of a header.
fn halves(k: &mut KernelBuilder, words: &[Reg<B32>]) -> [Reg<F32>; 2] {
    let [d, dmin] = k.unpack32::<F16>(words[0]).map(|half| k.f16_to_f32(half));
    [d, k.neg::<F32>(dmin)]
}

/// `d * scale` and `-dmin * min` of the first sub-block, then of the second, all exact. `words` is the header.
pub(super) fn factors(k: &mut KernelBuilder, sub_blocks: SubBlocks, words: &[Reg<B32>]) -> [Reg<F32>; 4] {
    let [d, minus_dmin] = halves(k, words);
    let bytes = bytes(k, sub_blocks, words);
    [(d, 0), (minus_dmin, 2), (d, 1), (minus_dmin, 3)].map(|(factor, index)| {
        let byte = biased_byte(k, bytes, index, 0);
        k.mul::<F32>(factor, byte)
    })
}

/// What makes factors of bytes in fewer instructions and more registers than [`factors`].
#[derive(Clone, Copy)]
struct Scales {
    first: ByteFactor,
    second: ByteFactor,
    min: ByteFactor,
}

impl Scales {
    /// For a header, and quants of which those of second sub-blocks are `second` times what they stand for.
    fn new(k: &mut KernelBuilder, words: &[Reg<B32>], second: f32) -> Self {
        let [d, minus_dmin] = halves(k, words);
        let (first, min) = (ByteFactor::new(k, d, 0), ByteFactor::new(k, minus_dmin, 0));
        let second = if second == 1.0 {
            first
        } else {
            let d = k.mul::<F32>(d, second.recip());
            ByteFactor::new(k, d, 0)
        };
        Self { first, second, min }
    }

    /// The [`factors`] of two sub-blocks whose scales are bytes `scale` and `scale + 1` of a word, and whose minima are `min`
    /// and `min + 1` of another.
    fn times(
        self,
        k: &mut KernelBuilder,
        (scales, scale): (Reg<B32>, u32),
        (mins, min): (Reg<B32>, u32),
    ) -> [Reg<F32>; 4] {
        let factors = [self.first, self.min, self.second, self.min];
        let bytes = [(scales, scale), (mins, min), (scales, scale + 1), (mins, min + 1)];
        std::array::from_fn(|i| factors[i].times(k, bytes[i].0, bytes[i].1))
    }
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

/// A part of these quants, with the words of its header.
pub(super) fn part_of(
    k: &mut KernelBuilder,
    sub_blocks: SubBlocks,
    words: Vec<Reg<B32>>,
    (header, fifth): (&[Reg<B32>], Fifth),
) -> Q8Part {
    let scales = Scales::new(k, header, fifth.second());
    let bytes = bytes(k, sub_blocks, header);
    let [a, b, c, d] = scales.times(k, (bytes, 0), (bytes, 2));
    let groups = [(a, b), (c, d)].map(|(scale, offset)| Group::new(k, scale, Some(offset)));
    Q8Part { words, groups: groups.to_vec() }
}

/// The quants of the second sub-block are left where they are, in the high nibbles.
pub(super) fn q8_part(k: &mut KernelBuilder, sub_blocks: SubBlocks, raw: &Raw) -> Q8Part {
    let (quants, header) = raw.words.split_at(8);
    let masked = |k: &mut KernelBuilder, mask: u32| -> Vec<Reg<B32>> {
        quants.iter().map(|&word| k.and::<B32>(word, mask)).collect()
    };
    let mut words = masked(k, LOW_NIBBLES);
    words.extend(masked(k, !LOW_NIBBLES));
    part_of(k, sub_blocks, words, (header, Fifth::Absent))
}

/// Where the fifth bits of quants are, if they have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fifth {
    Absent,
    InPlane(usize),
}

impl Fifth {
    /// How many times what they stand for the quants of second sub-blocks are: without a fifth bit they stay in the high
    /// nibbles.
    const fn second(self) -> f32 {
        match self {
            Self::Absent => 16.0,
            Self::InPlane(_) => 1.0,
        }
    }
}

/// The [`factors`] of the two parts that a lane decodes for others.
pub(super) fn own_factors(
    k: &mut KernelBuilder,
    turn: &TurnWeights,
    planes: &[TilePlane],
) -> [[Reg<F32>; 4]; 2] {
    let header = planes.len() - 1;
    let words = turn.own_row(k, (header, planes[header]), None);
    let words = k.ld_shared_v4::<B32>(words);
    let own_half = turn.own_half(k);
    let upper = k.eq::<U32>(own_half, 1u32);
    let scales = Scales::new(k, &words, 1.0);
    let [four, mins] = four_bytes(k, upper, &words);
    [0, 2].map(|at| scales.times(k, (four, at), (mins, at)))
}

/// A header, as far as it is decoded once for all parts.
#[derive(Clone, Copy)]
struct RowFactors {
    scales: Scales,
    /// The scales of sub-blocks 0 to 3 and 4 to 7, a byte each.
    four: [Reg<B32>; 2],
    /// Their minima.
    mins: [Reg<B32>; 2],
}

impl RowFactors {
    /// Of the header at `at`, and quants of which those of second sub-blocks are `second` times what they stand for.
    fn load(k: &mut KernelBuilder, at: Addr<U32>, second: f32) -> Self {
        let words = k.ld_shared_v4::<B32>(at);
        let scales = Scales::new(k, &words, second);
        let (four, mins) = (eight(k, words[1], words[3], 0), eight(k, words[2], words[3], 4));
        Self { scales, four, mins }
    }

    /// The [`factors`] of a part.
    fn of_part(self, k: &mut KernelBuilder, part: u32) -> [Reg<F32>; 4] {
        let (word, byte) = (part as usize / 2, part % 2 * 2);
        self.scales.times(k, (self.four[word], byte), (self.mins[word], byte))
    }
}

/// The products of each part, of one block. A lane's words are columns `4 t..4 t + 4` of both sub-blocks, and 16 further.
pub(super) fn tile(k: &mut KernelBuilder, turn: &Turn, planes: &[TilePlane], fifth: Fifth) -> Vec<Products> {
    let header = planes.len() - 1;
    let rows = turn.rows(k, (header, planes[header])).map(|at| RowFactors::load(k, at, fifth.second()));
    // The first 16 columns of each sub-block are in the first half of the block's quants, the others in the second.
    let quants = turn.matrices(k, planes[0], 4);
    let columns = turn.halves_of_groups(k);
    let high = match fifth {
        Fifth::Absent => None,
        Fifth::InPlane(plane) => {
            let high = turn.matrices(k, planes[plane], 1);
            Some(k.ldmatrix::<4>(high, false))
        }
    };
    let mut parts = Vec::new();
    for part in 0..tile::TURN_PARTS {
        let factors = rows.map(|row| row.of_part(k, part));
        let at = tile::piece(k, quants, part);
        let words = k.ldmatrix::<4>(at, false);
        let pairs = tile::two_pairs(k, turn, 2 * part);
        let columns = Turn::two_groups(k, columns, 2 * part);
        let mut sums = tile::no_products(k, turn);
        for (run, (x, pairs)) in columns.into_iter().zip(&pairs).enumerate() {
            let rows = std::array::from_fn(|i| match high {
                None => k.and::<B32>(words[i], if run == 0 { LOW_NIBBLES } else { !LOW_NIBBLES }),
                Some(high) => {
                    let low = super::nibbles(k, words[i], run);
                    let bit = fifth_bit(k, high[i], 2 * part as usize + run);
                    k.or::<B32>(low, bit)
                }
            });
            let dots = turn.product(k, MmaShape::M16N8K32U8S8, rows, x);
            let groups = factors.map(|factors| Group::new(k, factors[2 * run], Some(factors[2 * run + 1])));
            sums = tile::add_group(k, &sums, &dots, (groups, pairs));
        }
        parts.push(sums);
    }
    parts
}

/// Bit `sub_block` of each byte, where the fifth bit of a quant belongs.
pub(super) fn fifth_bit(k: &mut KernelBuilder, word: Reg<B32>, sub_block: usize) -> Reg<B32> {
    let shifted = match sub_block as u32 {
        4 => word,
        bit @ 0..4 => k.shl::<B32>(word, 4 - bit),
        bit => k.shr::<B32>(word, bit - 4),
    };
    k.and::<B32>(shifted, 0x1010_1010u32)
}
