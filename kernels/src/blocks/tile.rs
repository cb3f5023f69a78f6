//! Sixteen rows at once on tensor cores: what `mma.sync` makes of a turn of weights and eight rows of activations.
//!
//! A *turn* is [`TURN_PARTS`] consecutive parts of each row. Lane `4 g + t` holds quants of rows `g` and `g + 8` and of
//! column `g` of the activations, and gets the products of the two rows with columns `2 t` and `2 t + 1`. A column is an
//! activation row; up to four of them are the even columns, so that a lane has one product of each row to go on with
//! instead of two. What is multiplied may be in any order that both factors have: it is chosen so that a lane's bytes lie
//! together.
//!
//! What lanes load from shared memory decides how fast this is, in bytes that arrive in registers, however many lanes get the
//! same ones. So scales are loaded as they are and every lane decodes those of its rows, and words that are multiplied come as
//! matrices (`ldmatrix`), in the registers in which `mma` wants them.
//!
//! The dots of quants are exact integers. They are combined by the same operations in the same order as in
//! [`dot_q8`](super::Decoder::dot_q8), and parts are added as a tree, neighbours first. Dots of 16-bit floats are sums of f32,
//! in an order of the device's own.

use std::ops::Deref;

use ptx_builder::{Addr, B32, F16, F32, KernelBuilder, MmaShape, Reg, S32, U32};

use super::scale::{Group, as_float, zero_dot};
use super::{WeightFormat, q4_0, q4_k, q6_k, q8_0, scalar};
use crate::factor::Factor;
use crate::quantize::GROUP;

/// Rows of a tile.
pub(crate) const TILE_ROWS: u32 = 16;

/// Parts of a turn.
pub(crate) const TURN_PARTS: u32 = 4;

/// Activation rows that are multiplied at once.
pub(crate) const TILE_BATCH: u32 = 8;

/// A lane's products: row `g` with its activation rows, then row `g + 8` with them.
pub(crate) type Products = Vec<Reg<F32>>;

/// Pairs `(d, d * sum)` of a group, one for each of a lane's activation rows.
type Pairs = Vec<[Reg<F32>; 2]>;

/// Where a lane finds one turn of weights in shared memory.
#[derive(Debug, Clone)]
pub(crate) struct TurnWeights {
    /// This lane's number, `4 g + t`.
    pub(crate) lane: Reg<U32>,
    pub(crate) g: Reg<U32>,
    pub(crate) t: Reg<U32>,
    /// The turn's rows, as [`WeightFormat::tile_planes`] has them: on a multiple of [`SLOT_ALIGN`].
    pub(crate) slot: Reg<U32>,
    /// For each plane where in their span rows `g` and `g + 8` begin.
    pub(crate) within: Vec<[Within; 2]>,
}

/// The same with activations.
#[derive(Debug, Clone)]
pub(crate) struct Turn {
    pub(crate) weights: TurnWeights,
    /// The turn's quants of the activation row of a column: of `lane % 8`, or for floats of 16 bits of `g`.
    pub(crate) x: Reg<U32>,
    /// The lane's activation rows, [`lane_rows`] of them: the turn's pairs `(d, d * sum)`.
    pub(crate) groups: Vec<Reg<U32>>,
}

impl Deref for Turn {
    type Target = TurnWeights;

    fn deref(&self) -> &TurnWeights {
        &self.weights
    }
}

/// Activation rows of a lane, where there are so many in all.
pub(crate) const fn lane_rows(batch: u32) -> u32 {
    batch.div_ceil(TILE_BATCH / 2)
}

/// A number of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Within {
    Known(u32),
    Varying(Reg<U32>),
}

/// Slots begin on multiples of this, a line of shared memory: pieces of a row are then exchanged by an exclusive or of
/// their address.
pub(crate) const SLOT_ALIGN: u32 = 128;

/// Bytes that travel together. A copy whose halves of a sector come to different sectors of shared memory reads it twice,
/// and one of 16 bytes alone costs as much as one of 32.
const SECTOR: u32 = 32;

/// How a plane's bytes of a turn lie in shared memory: one row after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TilePlane {
    /// In the slot.
    pub(crate) at: u32,
    /// Of a row.
    pub(crate) bytes: u32,
    /// So many bytes of a row are copied, and so far apart are rows. Where rows begin in the middle of a span, it is the
    /// whole span that is copied.
    pub(crate) span: u32,
    /// How many are copied at a time: 4, 8 or 16.
    pub(crate) piece: u32,
    /// How the pieces of a row are exchanged, so that what a warp reads together is in different banks.
    exchange: Exchange,
}

/// Piece `i` of row `r` is at `i ^ ((((r / rows) % of) * by) % PIECES)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exchange {
    rows: u32,
    of: u32,
    by: u32,
}

impl Exchange {
    const NONE: Self = Self { rows: 1, of: 1, by: 0 };

    /// Eight rows that each read the same piece, rows of 128 bytes.
    const EACH: Self = Self { rows: 1, of: 8, by: 1 };

    /// The same for rows of 64 bytes.
    const SHORT: Self = Self { rows: 2, of: 4, by: 1 };

    /// Four rows that each read the same two neighbours, rows of 128 bytes, and two rows that each read the same four
    /// neighbours, rows of 256 bytes: by 0, 6, 4 and 2.
    const CROSSED: Self = Self { rows: 1, of: 4, by: 6 };

    /// Pieces are exchanged within a line of shared memory.
    const PIECES: u32 = 8;
}

impl TilePlane {
    /// Pieces of a row, a power of two.
    pub(crate) const fn pieces(self) -> u32 {
        self.span.div_ceil(self.piece)
    }

    /// What the bytes of a piece's place in row `row` are exchanged with, a multiple of a piece.
    pub(crate) const fn exchanged_at(self, row: u32) -> u32 {
        let Exchange { rows, of, by } = self.exchange;
        row / rows % of * by % Exchange::PIECES * self.piece
    }

    /// The same for a row that is not known.
    pub(crate) fn exchanged(self, k: &mut KernelBuilder, row: Reg<U32>) -> Option<Reg<U32>> {
        let Exchange { rows, of, by } = self.exchange;
        (of > 1).then(|| {
            let row = if rows == 1 { row } else { k.shr(row, rows.ilog2()) };
            let row = k.and(row, of - 1);
            let exchanged = k.mul(row, by * self.piece);
            let wraps = (of - 1) * by >= Exchange::PIECES;
            if wraps { k.and(exchanged, Exchange::PIECES * self.piece - 1) } else { exchanged }
        })
    }

    /// From row `g` to row `g + 8`.
    pub(super) const fn second(self) -> i32 {
        (8 * self.span) as i32
    }
}

impl WeightFormat {
    /// How the planes of a turn lie in shared memory; none for weights that tensor cores do not multiply.
    pub(crate) fn tile_planes(self) -> Vec<TilePlane> {
        let exchanges: &[Exchange] = match self {
            Self::Q4_0 => &[Exchange::SHORT, Exchange::NONE],
            Self::Q8_0 => &[Exchange::EACH, Exchange::NONE],
            Self::Q4K => &[Exchange::EACH, Exchange::NONE],
            Self::Q5K => &[Exchange::EACH, Exchange::NONE, Exchange::NONE],
            Self::Q6K => &[Exchange::EACH, Exchange::SHORT, Exchange::NONE, Exchange::NONE],
            Self::F16 | Self::Bf16 => &[Exchange::CROSSED],
            Self::F32 => return Vec::new(),
        };
        let partition = self.tile_partition(256);
        let mut at = 0;
        let planes = partition.planes.iter().zip(exchanges).map(|(bytes, &exchange)| {
            let bytes = bytes * TURN_PARTS / partition.parts;
            let piece = bytes.clamp(4, 16);
            let span = if piece == 16 { bytes.max(SECTOR) } else { piece };
            let plane = TilePlane { at, bytes, span, piece, exchange };
            at += TILE_ROWS * span;
            plane
        });
        planes.collect()
    }

    /// Bytes of a slot, the planes of a turn.
    pub(crate) fn slot_bytes(self) -> u32 {
        let end = self.tile_planes().last().map_or(0, |plane| plane.at + TILE_ROWS * plane.span);
        end.next_multiple_of(SLOT_ALIGN)
    }

    /// Emits the products of a turn, over its parts. No lane has left the turn before.
    ///
    /// # Panics
    /// For F32 weights.
    pub(crate) fn turn_products(self, k: &mut KernelBuilder, turn: &Turn) -> Products {
        let planes = self.tile_planes();
        let parts = match self {
            Self::Q4_0 => q4_0::tile(k, turn, &planes),
            Self::Q8_0 => q8_0::tile(k, turn, &planes),
            Self::Q4K => q4_k::tile(k, turn, &planes, q4_k::Fifth::Absent),
            Self::Q5K => q4_k::tile(k, turn, &planes, q4_k::Fifth::InPlane(1)),
            Self::Q6K => q6_k::tile(k, turn, &planes),
            Self::F16 => scalar::tile(k, turn, (planes[0], Factor::F16)),
            Self::Bf16 => scalar::tile(k, turn, (planes[0], Factor::Bf16)),
            Self::F32 => panic!("tensor cores do not multiply F32 weights"),
        };
        tree(k, parts)
    }
}

impl TurnWeights {
    /// Where a plane's row `g` is whose pieces are exchanged, at byte `at` of its first piece: byte `16 * i` further,
    /// [`piece`] `i`.
    pub(super) fn pieces(&self, k: &mut KernelBuilder, plane: TilePlane, at: Reg<U32>) -> Reg<U32> {
        self.pieces_of(k, plane, self.g, at)
    }

    /// The same of row `number`.
    fn pieces_of(&self, k: &mut KernelBuilder, plane: TilePlane, number: Reg<U32>, at: Reg<U32>) -> Reg<U32> {
        let row = k.mad(number, plane.span, self.slot);
        let row = k.add(row, at);
        let row = if plane.at == 0 { row } else { k.add(row, plane.at) };
        match plane.exchanged(k, number) {
            Some(exchanged) => k.xor(row, exchanged),
            None => row,
        }
    }

    /// Where this lane's row of matrices is whose rows are pieces of a plane: of those of rows 0 to 7 and 8 to 15, then of
    /// those that are `apart` pieces further. They are piece 0 and piece `apart`; [`piece`] finds others.
    pub(super) fn matrices(&self, k: &mut KernelBuilder, plane: TilePlane, apart: u32) -> Reg<U32> {
        let (row, further) = (k.and(self.lane, TILE_ROWS - 1), k.shr(self.lane, TILE_ROWS.ilog2()));
        let at = k.mul(further, 16 * apart);
        self.pieces_of(k, plane, row, at)
    }

    /// Where rows `g` and `g + 8` of a plane are whose pieces are in order.
    pub(super) fn rows(&self, k: &mut KernelBuilder, (index, plane): (usize, TilePlane)) -> [Addr<U32>; 2] {
        let row = k.mad(self.g, plane.span, self.slot);
        let second = [0, plane.second()];
        [0, 1].map(|which| {
            let at = plane.at as i32 + second[which];
            match self.within[index][which] {
                Within::Known(bytes) => row + (at + bytes as i32),
                Within::Varying(bytes) => k.add::<U32>(row, bytes) + at,
            }
        })
    }

    /// Which parts this lane decodes for the others: 0 for parts 0 and 1, 1 for parts 2 and 3. It does so in one row, `g`
    /// if `t < 2`, else `g + 8`, so that it loads and unpacks what belongs to the whole row once.
    pub(super) fn own_half(&self, k: &mut KernelBuilder) -> Reg<U32> {
        k.and(self.t, 1)
    }

    /// Where the row that this lane decodes is in a plane whose pieces are in order, at byte `at`.
    pub(super) fn own_row(
        &self,
        k: &mut KernelBuilder,
        (index, plane): (usize, TilePlane),
        at: Option<Reg<U32>>,
    ) -> Addr<U32> {
        let second = k.shr(self.t, 1);
        let row = k.mad(second, 8, self.g);
        let row = k.mul(row, plane.span);
        let row = at.map_or(row, |at| k.add(row, at));
        let row = k.add(row, self.slot);
        match self.within[index] {
            [Within::Varying(first), Within::Varying(other)] => {
                let is_second = k.ge(self.t, 2);
                let bytes = k.selp(is_second, other, first);
                k.add::<U32>(row, bytes) + plane.at as i32
            }
            [Within::Known(bytes), _] | [_, Within::Known(bytes)] => row + (plane.at + bytes) as i32,
        }
    }
}

impl Turn {
    /// Where this lane's row is of the activations that [`two_groups`](Self::two_groups) loads.
    pub(super) fn halves_of_groups(&self, k: &mut KernelBuilder) -> Reg<U32> {
        let matrix = k.shr(self.lane, 3);
        k.mad(matrix, 16, self.x)
    }

    /// The words of groups `group` and `group + 1`: of each those of columns `4 t..4 t + 4`, and 16 further. `row` is
    /// [`halves_of_groups`](Self::halves_of_groups).
    pub(super) fn two_groups(k: &mut KernelBuilder, row: Reg<U32>, group: u32) -> [[Reg<B32>; 2]; 2] {
        let [a, b, c, d] = k.ldmatrix(row + (GROUP * group) as i32, false);
        [[a, b], [c, d]]
    }

    /// Where this lane's row is of matrices that have columns of a part of four groups: those of the first, then of the others.
    pub(super) fn four_groups(&self, k: &mut KernelBuilder) -> Reg<U32> {
        let matrix = k.shr(self.lane, 3);
        k.mad(matrix, GROUP, self.x)
    }

    /// What a lane wants of the results of a multiplication whose sums began as [`zero_dot`].
    pub(super) fn dots(&self, k: &mut KernelBuilder, sums: [Reg<S32>; 4]) -> Products {
        let columns = self.groups.len();
        sums.chunks(2).flat_map(|row| &row[..columns]).map(|&sum| as_float(k, sum)).collect()
    }

    /// The dots of 32 columns: a lane's words of rows `g` and `g + 8`, of the first 16 columns and then of the others, and of
    /// its activation row.
    pub(super) fn product(
        &self,
        k: &mut KernelBuilder,
        shape: MmaShape,
        rows: [Reg<B32>; 4],
        x: [Reg<B32>; 2],
    ) -> Products {
        let zero = [zero_dot(k); 4];
        let sums = k.mma_s32(shape, rows, x, zero);
        self.dots(k, sums)
    }
}

/// The sum of all, neighbours first.
pub(crate) fn tree(k: &mut KernelBuilder, mut values: Vec<Products>) -> Products {
    while values.len() > 1 {
        let pairs = values.chunks(2).map(|pair| match pair {
            [left, right] => {
                left.iter().zip(right).map(|(&left, &right)| k.add::<F32>(left, right)).collect()
            }
            _ => pair[0].clone(),
        });
        values = pairs.collect();
    }
    values.swap_remove(0)
}

/// No products yet, of a lane with so many activation rows.
pub(super) fn no_products(k: &mut KernelBuilder, turn: &Turn) -> Products {
    vec![k.imm::<F32>(0.0); 2 * turn.groups.len()]
}

/// `sums`, and what a group of columns adds: its dots, what to make of them in rows `g` and `g + 8`, and its pairs.
pub(super) fn add_group(
    k: &mut KernelBuilder,
    sums: &Products,
    dots: &Products,
    (rows, pairs): ([Group; 2], &Pairs),
) -> Products {
    let columns = pairs.len();
    let sums = sums
        .iter()
        .zip(dots)
        .enumerate()
        .map(|(i, (&sum, &dot))| rows[i / columns].add(k, &pairs[i % columns], dot, sum));
    sums.collect()
}

/// Piece `index` of the row whose first piece is at `row`.
pub(super) fn piece(k: &mut KernelBuilder, row: Reg<U32>, index: u32) -> Reg<U32> {
    let (line, index) = (index / Exchange::PIECES, index % Exchange::PIECES);
    let at = if index == 0 { row } else { k.xor(row, 16 * index) };
    if line == 0 { at } else { k.add(at, line * SLOT_ALIGN) }
}

/// The four f16 of a plane in rows `g` and `g + 8`, one a part.
pub(super) fn four_halves(
    k: &mut KernelBuilder,
    turn: &TurnWeights,
    plane: (usize, TilePlane),
) -> [[Reg<F32>; 4]; 2] {
    turn.rows(k, plane).map(|at| {
        let words = k.ld_shared_v2::<B32>(at);
        let [[a, b], [c, d]] = words.map(|word| k.unpack32::<F16>(word));
        [a, b, c, d].map(|half| k.f16_to_f32(half))
    })
}

/// The pairs of groups `group` and `group + 1`.
pub(super) fn two_pairs(k: &mut KernelBuilder, turn: &Turn, group: u32) -> [Pairs; 2] {
    let loaded = turn.groups.iter().map(|&groups| {
        let [a, b, c, d] = k.ld_shared_v4::<F32>(groups + (8 * group) as i32);
        ([a, b], [c, d])
    });
    loaded.unzip::<_, _, Vec<_>, Vec<_>>().into()
}

/// The products of each part of formats whose blocks are a part with an f16 scale in the second plane. `rows` gives a
/// part's words as [`Turn::product`] takes them; a weight is its scale times `q + offset`.
pub(super) fn scaled_parts(
    k: &mut KernelBuilder,
    (turn, planes): (&Turn, &[TilePlane]),
    rows: impl Fn(&mut KernelBuilder, u32) -> [Reg<B32>; 4],
    offset: Option<f32>,
) -> Vec<Products> {
    let scales = four_halves(k, turn, (1, planes[1]));
    let columns = turn.halves_of_groups(k);
    let mut parts = Vec::new();
    for pair in (0..TURN_PARTS).step_by(2) {
        let pairs = two_pairs(k, turn, pair);
        let columns = Turn::two_groups(k, columns, pair);
        for ((part, pairs), x) in (pair..).zip(&pairs).zip(columns) {
            let rows = rows(k, part);
            let dots = turn.product(k, MmaShape::M16N8K32S8, rows, x);
            let groups = scales.map(|scales| {
                let scale = scales[part as usize];
                let offset = offset.map(|offset| k.mul::<F32>(scale, offset));
                Group::new(k, scale, offset)
            });
            let none = no_products(k, turn);
            parts.push(add_group(k, &none, &dots, (groups, pairs)));
        }
    }
    parts
}
