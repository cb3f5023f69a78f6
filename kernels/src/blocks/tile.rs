//! Sixteen rows at once on tensor cores: what `mma.sync` makes of a turn of weights and eight rows of activations.
//!
//! A *turn* is [`TURN_PARTS`] consecutive parts of each row. Lane `4 g + t` holds quants of rows `g` and `g + 8` and of
//! activation row `g`, and gets the products of the two rows with activation rows `2 t` and `2 t + 1`. The columns of a
//! multiplication may be in any order that both factors have: it is chosen so that a lane's bytes lie together.
//!
//! The dots of quants are exact integers. Each format combines them by the same operations in the same order as for
//! [`dot_q8`](super::Decoder::dot_q8), and parts are added as a tree, neighbours first.

use ptx_builder::{B32, F16, F32, KernelBuilder, MmaShape, Reg, S32, U32};

use super::{WeightFormat, q4_0, q4_k, q6_k, q8_0};

/// Rows of a tile.
pub(crate) const TILE_ROWS: u32 = 16;

/// Parts of a turn.
pub(crate) const TURN_PARTS: u32 = 4;

/// Activation rows that are multiplied at once.
pub(crate) const TILE_BATCH: u32 = 8;

/// 1.5 * 2^23: floats of this size are 1 apart. Dots that begin at its bits, as integers, and are read as floats are
/// this much above their values, up to 2^22.
pub(super) const EXACT: f32 = 12_582_912.0;

/// A lane's products: row `g` with activation rows `2 t` and `2 t + 1`, then row `g + 8` with them.
pub(crate) type Products = [Reg<F32>; 4];

/// Where a lane finds one turn in shared memory.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    /// `t`
    pub(crate) t: Reg<U32>,
    /// Row `g` of the tile, as [`WeightFormat::tile_row`] has it.
    pub(crate) row: Reg<U32>,
    /// For planes whose rows begin in the middle of a word: the byte of it where rows `g` and `g + 8` begin.
    pub(crate) within: [Within; 2],
    /// Activation row `g`: the turn's quants.
    pub(crate) x: Reg<U32>,
    /// Activation rows `2 t` and `2 t + 1`: the turn's pairs `(d, d * sum)`.
    pub(crate) groups: [Reg<U32>; 2],
}

/// A number of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Within {
    Known(u32),
    Varying(Reg<U32>),
}

/// How a row of a turn lies in shared memory: the bytes of its planes, one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TileRow {
    /// From one row to the next: so that eight rows use all banks.
    pub(crate) stride: u32,
    /// For each plane where it begins, its bytes, and how many of them are copied at a time. Where rows begin in the middle
    /// of a piece, it is the whole piece that is copied.
    pub(crate) planes: Vec<TilePlane>,
}

/// A plane's bytes of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TilePlane {
    pub(crate) at: u32,
    pub(crate) bytes: u32,
    /// 4, 8 or 16.
    pub(crate) piece: u32,
}

impl TilePlane {
    /// Pieces of a row, a power of two.
    pub(crate) const fn pieces(self) -> u32 {
        self.bytes.div_ceil(self.piece)
    }
}

impl WeightFormat {
    /// How a turn's rows lie in shared memory; `None` for weights that are no bytes.
    pub(crate) fn tile_row(self) -> Option<TileRow> {
        let stride = match self {
            Self::Q4_0 => 80,
            Self::Q8_0 => 160,
            Self::Q4K => 144,
            Self::Q5K => 176,
            Self::Q6K => 240,
            Self::F32 | Self::F16 | Self::Bf16 => return None,
        };
        let partition = self.partition(256);
        let mut at = 0;
        let planes = partition.planes.iter().map(|bytes| {
            let bytes = bytes * TURN_PARTS / partition.parts;
            let plane = TilePlane { at, bytes, piece: bytes.clamp(4, 16) };
            at += plane.pieces() * plane.piece;
            plane
        });
        Some(TileRow { planes: planes.collect(), stride })
    }

    /// Emits the products of a turn, over its parts.
    ///
    /// # Panics
    /// If not [`has_bytes`](Self::has_bytes).
    pub(crate) fn turn_products(self, k: &mut KernelBuilder, turn: &Turn) -> Products {
        let parts = match (self, self.tile_row()) {
            (Self::Q4_0, Some(row)) => q4_0::tile(k, turn, &row),
            (Self::Q8_0, Some(row)) => q8_0::tile(k, turn, &row),
            (Self::Q4K, Some(row)) => q4_k::tile(k, turn, &row, q4_k::Fifth::Absent),
            (Self::Q5K, Some(row)) => q4_k::tile(k, turn, &row, q4_k::Fifth::InPlane(1)),
            (Self::Q6K, Some(row)) => q6_k::tile(k, turn, &row),
            (Self::F32 | Self::F16 | Self::Bf16, _) | (_, None) => {
                panic!("{self:?} weights are no bytes to multiply")
            }
        };
        tree(k, parts)
    }
}

impl TileRow {
    /// From row `g` to the bytes of a plane in row `g + 8 * which`.
    pub(super) fn plane(&self, which: usize, plane: usize) -> i32 {
        (8 * which as u32 * self.stride + self.planes[plane].at) as i32
    }
}

/// The sum of all, neighbours first.
pub(crate) fn tree(k: &mut KernelBuilder, mut values: Vec<Products>) -> Products {
    while values.len() > 1 {
        let pairs = values.chunks(2).map(|pair| match *pair {
            [left, right] => [0, 1, 2, 3].map(|i| k.add::<F32>(left[i], right[i])),
            _ => pair[0],
        });
        values = pairs.collect();
    }
    values[0]
}

/// `EXACT` and the dots of 32 columns, `c` more: a lane's words of rows `g` and `g + 8`, and of its activation row.
pub(super) fn dots(
    k: &mut KernelBuilder,
    shape: MmaShape,
    rows: [[Reg<B32>; 2]; 2],
    x: [Reg<B32>; 2],
) -> Products {
    let zero = exact_zero(k);
    let [[a, c], [b, d]] = rows;
    let sums = k.mma_s32(shape, [a, b, c, d], x, zero);
    as_floats(k, sums)
}

/// Integers that [`as_floats`] makes [`EXACT`].
pub(super) fn exact_zero(k: &mut KernelBuilder) -> [Reg<S32>; 4] {
    [k.imm::<S32>(EXACT.to_bits() as i32); 4]
}

/// The same bits.
pub(super) fn as_floats(k: &mut KernelBuilder, sums: [Reg<S32>; 4]) -> Products {
    sums.map(|sum| k.bits_to_f32(sum.cast::<B32>()))
}

/// `scale`, and what takes [`EXACT`] away after a multiplication with it: one rounding of `dot * scale`, which is exact.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scale(Reg<F32>, Reg<F32>);

impl Scale {
    pub(super) fn new(k: &mut KernelBuilder, scale: Reg<F32>) -> Self {
        Self(scale, k.mul::<F32>(scale, -EXACT))
    }

    pub(super) fn times(self, k: &mut KernelBuilder, dot: Reg<F32>) -> Reg<F32> {
        k.fma::<F32>(dot, self.0, self.1)
    }
}

/// The f16 at the beginning of a plane in rows `g` and `g + 8`.
pub(super) fn halves(k: &mut KernelBuilder, turn: &Turn, row: &TileRow, plane: usize) -> [Reg<F32>; 2] {
    [0, 1].map(|which| {
        let at = row.plane(which, plane);
        let half = match turn.within[which] {
            Within::Known(bytes) => k.ld_shared::<ptx_builder::U16>(turn.row + (at + bytes as i32)),
            Within::Varying(bytes) => {
                let start = k.add::<U32>(turn.row, bytes);
                k.ld_shared::<ptx_builder::U16>(start + at)
            }
        };
        k.f16_to_f32(half.cast::<F16>())
    })
}

/// The four f16 of a plane in rows `g` and `g + 8`, one a part.
fn four_halves(k: &mut KernelBuilder, turn: &Turn, row: &TileRow, plane: usize) -> [[Reg<F32>; 4]; 2] {
    [0, 1].map(|which| {
        let words = k.ld_shared_v2::<B32>(turn.row + row.plane(which, plane));
        let [[a, b], [c, d]] = words.map(|word| k.unpack32::<F16>(word));
        [a, b, c, d].map(|half| k.f16_to_f32(half))
    })
}

/// The pairs `(d, d * sum)` of the two groups from `group` on, of activation rows `2 t` and `2 t + 1`.
pub(super) fn two_groups(k: &mut KernelBuilder, turn: &Turn, group: u32) -> [[Reg<F32>; 4]; 2] {
    turn.groups.map(|groups| k.ld_shared_v4::<F32>(groups + (8 * group) as i32))
}

/// The products of each part of formats whose blocks are a part with an f16 scale in the second plane. `operands` gives a
/// part's words of rows `g` and `g + 8`, and of the activation row; `product` makes of a scale, a pair `(d, d * sum)` and
/// a dot what one part contributes.
pub(super) fn scaled_parts(
    k: &mut KernelBuilder,
    (turn, row): (&Turn, &TileRow),
    operands: impl Fn(&mut KernelBuilder, u32) -> ([[Reg<B32>; 2]; 2], [Reg<B32>; 2]),
    product: impl Fn(&mut KernelBuilder, Reg<F32>, [Reg<F32>; 2], Reg<F32>) -> Reg<F32>,
) -> Vec<Products> {
    let scales = four_halves(k, turn, row, 1);
    let mut parts = Vec::new();
    for pair in (0..TURN_PARTS).step_by(2) {
        let mut groups = None;
        for part in [pair, pair + 1] {
            let (rows, x) = operands(k, part);
            let dots = dots(k, MmaShape::M16N8K32S8, rows, x);
            let groups = groups.get_or_insert_with(|| two_groups(k, turn, pair));
            parts.push(each(|weights, b, i| {
                let dot = k.sub::<F32>(dots[i], EXACT);
                let first = 2 * (part - pair) as usize;
                let group = [groups[b][first], groups[b][first + 1]];
                product(k, scales[weights][part as usize], group, dot)
            }));
        }
    }
    parts
}

/// What a lane multiplies: for its weight rows and its activation rows, in the order of [`Products`].
pub(super) fn each(mut product: impl FnMut(usize, usize, usize) -> Reg<F32>) -> Products {
    [0, 1, 2, 3].map(|i| product(i / 2, i % 2, i))
}
