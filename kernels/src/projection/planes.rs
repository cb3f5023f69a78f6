//! Where a warp finds the rows of a tile in each plane of a matrix, and how it copies them.

use ptx_builder::{Addr, KernelBuilder, Pred, Reg, U32, U64};

use super::tiles::TILE_UNITS;
use super::{Pairing, Segment};
use crate::blocks::partition::Partition;
use crate::blocks::tile::{TILE_ROWS, TURN_PARTS, TilePlane};
use crate::support::WARP;

/// The planes of a segment's matrices.
pub(super) struct Planes {
    pub(super) of: Vec<TilePlane>,
    partition: Partition,
    cols: u32,
    /// Turns that a warp takes one after the other from where it begins.
    pub(super) turns: u32,
}

impl Planes {
    /// Those of matrices of so many columns, `turns` of which are taken together if a row has so many.
    pub(super) fn new(segment: &Segment, cols: u32, turns: u32) -> Self {
        let partition = segment.format.tile_partition(cols);
        let planes = Self { of: segment.format.tile_planes(), partition, cols, turns };
        Self { turns: turns.min(planes.row_turns()), ..planes }
    }

    /// Turns of a row.
    pub(super) fn row_turns(&self) -> u32 {
        self.partition.parts_of_row(self.cols) / TURN_PARTS
    }

    /// Columns of a turn.
    pub(super) const fn turn_cols(&self) -> u32 {
        self.partition.block_cols / self.partition.parts * TURN_PARTS
    }

    /// Bytes of a row in a plane.
    pub(super) fn row_bytes(&self, plane: usize) -> u32 {
        self.partition.planes[plane] * (self.cols / self.partition.block_cols)
    }

    /// Whether what is taken together begins with a whole span of a plane.
    pub(super) fn begins_whole(&self, index: usize) -> bool {
        let (plane, row_bytes) = (self.of[index], self.row_bytes(index));
        plane.bytes == plane.span
            || row_bytes.is_multiple_of(plane.span) && (self.turns * plane.bytes).is_multiple_of(plane.span)
    }

    /// Emits where a lane's pieces of the first tile are in each plane of the matrices.
    pub(super) fn sources(
        &self,
        k: &mut KernelBuilder,
        segment: &Segment,
        matrices: &[Reg<U64>],
        lane: Reg<U32>,
    ) -> Vec<Source> {
        let blocks = u64::from(segment.matrix_rows()) * u64::from(self.cols / self.partition.block_cols);
        let mut before = 0;
        let mut sources = Vec::new();
        for (index, &bytes) in self.partition.planes.iter().enumerate() {
            let starts: Vec<Reg<U64>> = matrices
                .iter()
                .map(|&matrix| if before == 0 { matrix } else { k.add(matrix, before) })
                .collect();
            before += u64::from(bytes) * blocks;
            let plane = (self.of[index], self.begins_whole(index));
            let rows = (&starts[..], self.row_bytes(index));
            sources.push(Source::new(k, (plane, lane), rows, segment.pairing));
        }
        sources
    }
}

/// Where a lane's pieces of a plane are.
#[derive(Debug, Clone)]
pub(super) struct Source {
    /// Its piece of the first tile. Where the units' second rows are in a matrix of their own and are copied apart from
    /// the first ones, there are two.
    pub(super) from: Vec<Reg<U64>>,
    /// The bytes before the piece, where `from` has to be rounded down without them.
    pub(super) within: Option<Reg<U32>>,
    /// In the plane.
    to: Reg<U32>,
    /// Where not every lane copies: whether this one does.
    has: Option<Pred>,
}

impl Source {
    /// For a plane whose matrices begin at `starts`, with rows of `row_bytes`, and whether its items begin with whole spans.
    fn new(
        k: &mut KernelBuilder,
        ((plane, begins_whole), lane): ((TilePlane, bool), Reg<U32>),
        (starts, row_bytes): (&[Reg<U64>], u32),
        pairing: Pairing,
    ) -> Self {
        let row = k.shr(lane, plane.pieces().ilog2());
        let piece = k.and(lane, plane.pieces() - 1);
        let at = k.mul(piece, plane.piece);
        let rows = WARP / plane.pieces();
        let to = k.mul(lane, plane.piece);
        let to = match plane.exchanged(k, row) {
            Some(exchanged) => k.xor(to, exchanged),
            None => to,
        };
        let has = (rows > TILE_ROWS).then(|| k.lt(row, TILE_ROWS));
        let unit = k.and(row, TILE_UNITS - 1);
        let unit_row = k.mul(unit, pairing.step());
        let piece = |k: &mut KernelBuilder, from: Reg<U64>| match begins_whole {
            true => k.ptr_index(from, at, 1),
            false => from,
        };
        let from = match starts {
            // All rows at once: a lane has one of the first or one of the second ones.
            &[first, ..] if rows > TILE_UNITS => {
                let second = k.ge(row, TILE_UNITS);
                let distance = k.selp(second, pairing.distance(), 0);
                let start = starts.get(1).map_or(first, |&other| k.selp(second, other, first));
                let row = k.add(unit_row, distance);
                let from = k.ptr_index(start, row, row_bytes);
                vec![piece(k, from)]
            }
            starts => starts
                .iter()
                .map(|&start| {
                    let from = k.ptr_index(start, unit_row, row_bytes);
                    piece(k, from)
                })
                .collect(),
        };
        Self { from, within: (!begins_whole).then_some(at), to, has }
    }

    /// Emits the copies of a plane's part of a turn into `slot`, where `exists` holds: `from` is where the lane's pieces of
    /// the tile's first rows and second ones are, rows are `row_bytes` apart.
    pub(super) fn copy(
        &self,
        k: &mut KernelBuilder,
        plane: TilePlane,
        (slot, exists): (Reg<U32>, Pred),
        (from, row_bytes, pairing): (&[Addr<U64>], u32, Pairing),
    ) {
        let exists = self.has.map_or(exists, |has| k.and_pred(exists, has));
        let to = k.add(slot, self.to);
        for start in (0..TILE_ROWS).step_by((WARP / plane.pieces()) as usize) {
            let (second, unit) = (start / TILE_UNITS, start % TILE_UNITS);
            let rows = unit * pairing.step() + second * pairing.distance();
            let from = from[(second as usize).min(from.len() - 1)] + (rows * row_bytes) as i32;
            // The lane's row and `start` have no bits in common.
            let to = match plane.exchanged_at(start) {
                0 => to,
                exchanged => k.xor(to, exchanged),
            };
            let to = to + (plane.at + start * plane.span) as i32;
            k.guarded(exists, |k| match plane.piece {
                16 => k.cp_async_cg(to, from),
                bytes => k.cp_async_ca(to, from, bytes),
            });
        }
    }
}
