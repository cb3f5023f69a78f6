//! Sixteen rows of weights as halves in registers: what `wgmma` multiplies with sixteen columns of activations at a time.
//!
//! A *step* is sixteen consecutive columns of a turn. Lane `4 g + t` has four weights of rows `g` and `g + 8` each, those of
//! columns `4 t` to `4 t + 3` of the step: the bytes of one word of quants. As a fragment of a product its columns are
//! `2 t`, `2 t + 1`, `2 t + 8` and `2 t + 9`; so activations lie in another order ([`place`]), the even ones first.
//!
//! A quantised weight is rounded to a half once, and so are its scale and its offset. All are
//! [`half_scale`](WeightFormat::half_scale) times what they stand for: scales of small weights are then no subnormal halves. Weights that are halves, or bfloat16, are
//! multiplied as they are.

use ptx_builder::{B32, F16, F16x2, F32, KernelBuilder, Reg, U32};

use super::tile::{self, TilePlane, TurnWeights};
use super::{WeightFormat, q4_k, q6_k};
use crate::support::ALL_LANES;

/// Columns of a step.
pub(crate) const STEP_COLS: u32 = 16;

/// How many times quantised weights halves are.
const SCALE: f32 = 64.0;

/// Bytes of shared memory in which the four lanes that meet the same rows leave what they decode for each other.
pub(crate) const ROOM: u32 = 4 * ROOM_LANE;

/// Bytes from what the lanes `4 g + t` of one `t` leave to that of the next: 16 for each `g`.
const ROOM_LANE: u32 = 8 * 16;

/// Where column `col` of a step is among the halves of an activation row.
pub(crate) const fn place(col: u32) -> u32 {
    col / 2 + col % 2 * (STEP_COLS / 2)
}

/// A lane's part of a step: halves of row `g`, of row `g + 8`, and two more of each, as `mma.m16n8k16` has them.
pub(crate) type Step = [Reg<B32>; 4];

/// `a & b | c`.
const MASKED: u8 = 0xea;

/// 1024 in both halves, whose neighbours are 1 apart.
const EXACT: u32 = 0x6400_6400;

impl WeightFormat {
    /// How many times the weights their halves are.
    pub(crate) const fn half_scale(self) -> f32 {
        if self.factor().is_some() { 1.0 } else { SCALE }
    }

    /// Emits the steps of a turn, each with its number to `visit`. No lane has left the turn before. `room` is the warp's of
    /// [`ROOM`] bytes, at `16 * g`.
    ///
    /// # Panics
    /// For F32 weights.
    pub(crate) fn half_steps(
        self,
        k: &mut KernelBuilder,
        (turn, room): (&TurnWeights, Reg<U32>),
        visit: &mut dyn FnMut(&mut KernelBuilder, u32, Step),
    ) {
        let planes = self.tile_planes();
        match self {
            Self::Q4_0 => simple(k, (turn, &planes), true, visit),
            Self::Q8_0 => simple(k, (turn, &planes), false, visit),
            Self::Q4K => with_sub_blocks(k, (turn, room, &planes), None, visit),
            Self::Q5K => with_sub_blocks(k, (turn, room, &planes), Some(1), visit),
            Self::Q6K => with_many_scales(k, (turn, room, &planes), visit),
            Self::F16 | Self::Bf16 => as_they_are(k, (turn, planes[0]), visit),
            Self::F32 => panic!("tensor cores do not multiply F32 weights"),
        }
    }
}

/// Both halves of a word, from bits.
fn halves(k: &mut KernelBuilder, bits: u32) -> Reg<F16x2> {
    k.imm::<B32>(bits).cast()
}

/// A number in both halves.
fn both(k: &mut KernelBuilder, value: i16) -> Reg<F16x2> {
    let bits = small(value);
    halves(k, bits << 16 | bits)
}

/// The bits of an integer as a half, where it has no more than eleven.
const fn small(value: i16) -> u32 {
    let magnitude = value.unsigned_abs() as u32;
    let exponent = magnitude.ilog2();
    ((value < 0) as u32) << 15 | (exponent + 15) << 10 | (magnitude << (10 - exponent)) & 0x3ff
}

/// Bytes 0 and 2, and bytes 1 and 3, of a word, each less `bias`.
fn bytes(k: &mut KernelBuilder, word: Reg<B32>, bias: i16) -> [Reg<F16x2>; 2] {
    let minus = both(k, -(1024 + bias));
    [0x4240u32, 0x4341].map(|selector| {
        // The upper byte of 1024 behind each of them.
        let exact = k.prmt::<B32>(word, 0x6464_6464u32, selector);
        k.add::<F16x2>(exact.cast::<F16x2>(), minus)
    })
}

/// The low nibbles of bytes 0 and 2 and of bytes 1 and 3, then the high ones.
fn nibbles(k: &mut KernelBuilder, word: Reg<B32>) -> [[Reg<F16x2>; 2]; 2] {
    let minus = both(k, -1024);
    let odd = k.shr::<B32>(word, 8u32);
    let low = [word, odd].map(|word| {
        let exact = k.lop3::<B32>(word, 0x000f_000fu32, EXACT, MASKED);
        k.add::<F16x2>(exact.cast::<F16x2>(), minus)
    });
    // 1024 + 16 q.
    let (sixteenth, minus) = (halves(k, 0x2c00_2c00), both(k, -64));
    let high = [word, odd].map(|word| {
        let exact = k.lop3::<B32>(word, 0x00f0_00f0u32, EXACT, MASKED);
        k.fma::<F16x2>(exact.cast::<F16x2>(), sixteenth, minus)
    });
    [low, high]
}

/// The lower half of a word twice, or the upper one.
fn twice(k: &mut KernelBuilder, word: Reg<B32>, upper: bool) -> Reg<F16x2> {
    // Not a permutation of bytes: `ptxas` makes these two moves part of the instruction that uses them.
    let half = k.unpack32::<F16>(word)[usize::from(upper)];
    k.pack32::<F16x2, F16>(half, half)
}

/// A lane's halves of rows `g` and `g + 8` in the order of a step.
fn step(rows: [[Reg<F16x2>; 2]; 2]) -> Step {
    let [[a, c], [b, d]] = rows;
    [a, b, c, d].map(|pair| pair.cast())
}

/// Leaves four words for the lanes that meet the same rows, and gives what all of them left: that of the lanes `t` from 0 to
/// 3, two for row `g`, then two for row `g + 8`.
fn exchanged(
    k: &mut KernelBuilder,
    (t, room): (Reg<U32>, Reg<U32>),
    words: [Reg<B32>; 4],
) -> [[Reg<B32>; 4]; 4] {
    let own = k.mad(t, ROOM_LANE, room);
    k.st_shared_v4::<B32>(own, words);
    k.warp_sync(ALL_LANES);
    [0, 1, 2, 3].map(|t| k.ld_shared_v4::<B32>(room + t * ROOM_LANE as i32))
}

/// Q4_K and Q5_K: a scale and an offset for every 32 columns.
fn with_sub_blocks(
    k: &mut KernelBuilder,
    (turn, room, planes): (&TurnWeights, Reg<U32>, &[TilePlane]),
    fifth: Option<usize>,
    visit: &mut dyn FnMut(&mut KernelBuilder, u32, Step),
) {
    let own = q4_k::own_factors(k, turn, planes);
    let mut word = |[scale, offset]: [Reg<F32>; 2]| {
        let [scale, offset] = [scale, offset].map(|factor| k.mul::<F32>(factor, SCALE));
        k.cvt_f16x2(scale, offset).cast::<B32>()
    };
    let words = own.map(|[a, b, c, d]| [word([a, b]), word([c, d])]);
    let [[a, b], [c, d]] = words;
    let factors = exchanged(k, (turn.t, room), [a, b, c, d]);
    // Of rows `g` and `g + 8` of the first half of the block's quants, then of the second.
    let quants = turn.matrices(k, planes[0], 4);
    let fifths = fifth.map(|plane| {
        let high = turn.matrices(k, planes[plane], 1);
        k.ldmatrix::<4>(high, false)
    });
    for part in 0..4u32 {
        // Of rows `g` and `g + 8`, of the two sub-blocks.
        let factors = [0, 2].map(|row: usize| {
            [0, 1].map(|run| {
                let word = factors[row + part as usize / 2][part as usize % 2 * 2 + run];
                [twice(k, word, false), twice(k, word, true)]
            })
        });
        let at = tile::piece(k, quants, part);
        let words = k.ldmatrix::<4>(at, false);
        for (half, words) in (0u32..).zip(words.as_chunks::<2>().0) {
            // Of each row, of each sub-block.
            let rows = match fifths {
                None => words.map(|word| nibbles(k, word)),
                Some(high) => [0, 1].map(|row: usize| {
                    [0, 1].map(|run: usize| {
                        let low = super::nibbles(k, words[row], run);
                        let bit = q4_k::fifth_bit(k, high[2 * half as usize + row], 2 * part as usize + run);
                        let quants = k.or::<B32>(low, bit);
                        bytes(k, quants, 0)
                    })
                }),
            };
            for run in 0..2usize {
                let weights = [0, 1].map(|row: usize| {
                    let [scale, offset] = factors[row][run];
                    rows[row][run].map(|quants| k.fma::<F16x2>(quants, scale, offset))
                });
                visit(k, 4 * part + 2 * run as u32 + half, step(weights));
            }
        }
    }
}

/// Q6_K: a scale for every 16 columns.
fn with_many_scales(
    k: &mut KernelBuilder,
    (turn, room, planes): (&TurnWeights, Reg<U32>, &[TilePlane]),
    visit: &mut dyn FnMut(&mut KernelBuilder, u32, Step),
) {
    let [even, odd] = q6_k::own_factors(k, turn, planes, SCALE);
    // Of each run that of the even part, then that of the odd one.
    let words = [0, 1, 2, 3].map(|run: usize| k.cvt_f16x2(even[run], odd[run]).cast::<B32>());
    let factors = exchanged(k, (turn.t, room), words);
    let [low, high] =
        [(0, 4), (1, 1)].map(|(plane, apart): (usize, _)| turn.matrices(k, planes[plane], apart));
    let mut highs = Vec::new();
    for part in 0..4u32 {
        let (half, odd) = (part / 2, part % 2);
        if odd == 0 {
            // Of this part and the next one.
            let at = tile::piece(k, high, part);
            highs = k.ldmatrix::<4>(at, false).to_vec();
        }
        let at = tile::piece(k, low, part);
        let [first, first_below, other, other_below] = k.ldmatrix::<4>(at, false);
        let high = |row: usize| highs[2 * odd as usize + row];
        let words = [[first, other, high(0)], [first_below, other_below, high(1)]];
        let factors = [0, 2].map(|row: usize| factors[row + half as usize]);
        for run in 0..4u32 {
            let weights = [0, 1].map(|row: usize| {
                let [low, other, high] = words[row];
                let low = if run.is_multiple_of(2) { low } else { other };
                let quants = q6_k::merged(k, low, high, run as usize);
                let scale = twice(k, factors[row][run as usize], odd == 1);
                bytes(k, quants, 32).map(|quants| k.mul::<F16x2>(quants, scale))
            });
            visit(k, 8 * half + odd + 2 * run, step(weights));
        }
    }
}

/// Q8_0 and, of nibbles, Q4_0: a scale for every 32 columns.
fn simple(
    k: &mut KernelBuilder,
    (turn, planes): (&TurnWeights, &[TilePlane]),
    of_nibbles: bool,
    visit: &mut dyn FnMut(&mut KernelBuilder, u32, Step),
) {
    let scales = tile::four_halves(k, turn, (1, planes[1]));
    let quants = turn.matrices(k, planes[0], 1);
    let mut words = Vec::new();
    for part in 0..4u32 {
        let scales = scales.map(|scales| {
            let scale = k.mul::<F32>(scales[part as usize], SCALE);
            k.cvt_f16x2(scale, scale)
        });
        // A part's quants are one piece or two.
        let (piece, first) = if of_nibbles { (part, part % 2 == 0) } else { (2 * part, true) };
        if first {
            let at = tile::piece(k, quants, piece);
            words = k.ldmatrix::<4>(at, false).to_vec();
        }
        let two = |piece: usize| [words[2 * piece], words[2 * piece + 1]];
        // Of each run, of each row.
        let runs: [[[Reg<F16x2>; 2]; 2]; 2] = if of_nibbles {
            let minus = both(k, -8);
            let rows = two(part as usize % 2).map(|word| nibbles(k, word));
            [0, 1].map(|run: usize| rows.map(|row| row[run].map(|quants| k.add::<F16x2>(quants, minus))))
        } else {
            [0, 1].map(|run| {
                two(run).map(|word| {
                    let biased = k.xor::<B32>(word, 0x8080_8080u32);
                    bytes(k, biased, 128)
                })
            })
        };
        for (run, rows) in (0..).zip(runs) {
            let weights =
                [0, 1].map(|row: usize| rows[row].map(|quants| k.mul::<F16x2>(quants, scales[row])));
            visit(k, 2 * part + run, step(weights));
        }
    }
}

/// F16 and BF16.
fn as_they_are(
    k: &mut KernelBuilder,
    (turn, plane): (&TurnWeights, TilePlane),
    visit: &mut dyn FnMut(&mut KernelBuilder, u32, Step),
) {
    let own = k.shl::<U32>(turn.t, 3u32);
    let weights = turn.pieces(k, plane, own);
    for number in 0..plane.bytes / (2 * STEP_COLS) {
        let at = tile::piece(k, weights, 2 * number);
        let rows = [0, plane.second()].map(|row| {
            let [first, second] = k.ld_shared_v2::<B32>(at + row);
            // The even columns, and the odd ones.
            [0x5410u32, 0x7632].map(|selector| k.prmt::<B32>(first, second, selector).cast::<F16x2>())
        });
        visit(k, number, step(rows));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_integers_as_halves() {
        let bits = [small(1), small(-8), small(-64), small(1024), small(-1056), small(2047)];
        assert_eq!(bits, [0x3c00, 0xc800, 0xd400, 0x6400, 0xe420, 0x67ff]);
    }

    #[test]
    fn a_lanes_columns_are_those_of_its_fragment() {
        for t in 0..4 {
            let fragment = [2 * t, 2 * t + 1, 2 * t + 8, 2 * t + 9];
            // Bytes 0 and 2 of the word, then bytes 1 and 3.
            assert_eq!([0, 2, 1, 3].map(|byte| place(4 * t + byte)), fragment);
        }
    }
}
