//! The products of sixteen weight rows, eight units, with up to eight activation rows, on tensor cores.
//!
//! A warp's work is a sequence of *items*: some consecutive turns of a tile, of which each gives the sums of its parts in
//! the order in which [`product`](super::product) adds them. While it does one turn, the next ones are on their way into
//! the warp's ring.

use ptx_builder::{F32, KernelBuilder, Pred, Reg, U32, U64, Var};

use super::geometry::Items;
use super::stage::{Stage, Staged};
use super::{Pairing, Segment, ring};
use crate::blocks::partition::Partition;
use crate::blocks::tile::{
    self, Products, TILE_BATCH, TILE_ROWS, TURN_PARTS, TilePlane, TileRow, Turn, Within,
};
use crate::support::WARP;

/// Units of a tile: rows 0 to 7 are their first rows, 8 to 15 their second ones.
pub(super) const TILE_UNITS: u32 = TILE_ROWS / 2;

/// Bytes of the sums that an item leaves for one unit.
pub(super) const UNIT_BYTES: u32 = 2 * TILE_BATCH * 4;

/// What a thread knows of its segment.
pub(super) struct Tiles<'a> {
    segment: &'a Segment,
    partition: Partition,
    row: TileRow,
    stage: Stage,
    items: Items,
    warps: u32,
    slots: u32,
    lane: Lane,
    /// For each plane.
    sources: Vec<Source>,
    /// The units of this block or its cluster.
    units: Range,
    /// The slot of the next turn, in bytes from the first, where it is not known.
    current: Option<Var<U32>>,
}

/// What a thread is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lane {
    pub(super) warp: Reg<U32>,
    pub(super) lane: Reg<U32>,
    /// Its warp's ring.
    pub(super) ring: Reg<U32>,
    /// Its block in the cluster, if there is one.
    pub(super) rank: Option<Reg<U32>>,
}

/// A block's units, or a cluster's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) start: Reg<U32>,
    pub(super) count: Reg<U32>,
}

/// An item of a block.
#[derive(Clone, Copy)]
struct Item {
    /// Whether there is such an item.
    exists: Pred,
    tile: Reg<U32>,
    /// Among those of the tile.
    piece: Reg<U32>,
    /// Among the block's.
    own_piece: Reg<U32>,
    /// The first of its turns in the row.
    turn: Reg<U32>,
}

/// Bytes of a slot of a warp.
pub(super) fn slot_bytes(segment: &Segment) -> u32 {
    segment.format.tile_row().map_or(0, |row| row.stride * TILE_ROWS)
}

/// Whether the rows are whole tiles, evenly spaced, of which every plane of a turn can be copied piece by piece.
pub(super) fn copies(segment: &Segment, cols: u32) -> bool {
    let even = match segment.pairing {
        Pairing::Halves { head_dim } => (head_dim / 2).is_multiple_of(TILE_UNITS),
        Pairing::Neighbours | Pairing::Matrices => true,
    };
    if !even || !segment.units.is_multiple_of(TILE_UNITS) {
        return false;
    }
    let partition = segment.format.partition(cols);
    let (blocks, rows) = (cols / partition.block_cols, segment.matrix_rows());
    let Some(row) = segment.format.tile_row() else { return false };
    // A plane that is copied by pieces longer than its turns has to end with a whole one.
    let ends = |(plane, bytes): (&TilePlane, &u32)| {
        plane.bytes >= plane.piece
            || (u64::from(bytes * blocks) * u64::from(rows)).is_multiple_of(plane.piece.into())
    };
    blocks.is_multiple_of(TURN_PARTS / partition.parts) && row.planes.iter().zip(&partition.planes).all(ends)
}

impl<'a> Tiles<'a> {
    /// `matrices` are those of the segment, the ring of each of `warps` warps has `ring_bytes`.
    pub(super) fn new(
        k: &mut KernelBuilder,
        segment: &'a Segment,
        (stage, items, warps, ring_bytes): (Stage, Items, u32, u32),
        (matrices, units): (&[Reg<U64>], Range),
        lane: Lane,
    ) -> Self {
        let partition = segment.format.partition(stage.cols);
        let row = segment.format.tile_row().unwrap_or(TileRow { stride: 0, planes: Vec::new() });
        let slots = ring_bytes / (row.stride * TILE_ROWS).max(1);
        let rows = u64::from(segment.matrix_rows());
        let blocks = rows * u64::from(stage.cols / partition.block_cols);
        let mut sources = Vec::new();
        let mut before = 0;
        for (&plane, &bytes) in row.planes.iter().zip(&partition.planes) {
            let starts: Vec<Reg<U64>> = matrices
                .iter()
                .map(|&matrix| if before == 0 { matrix } else { k.add(matrix, before) })
                .collect();
            before += u64::from(bytes) * blocks;
            if let (Some(&first), Some(&last)) = (starts.first(), starts.last()) {
                let row_bytes = bytes * (stage.cols / partition.block_cols);
                let place = (plane, row.stride, lane.lane);
                sources.push(Source::new(k, place, ([first, last], row_bytes), segment.pairing));
            }
        }
        let mut tiles =
            Self { segment, partition, row, stage, items, warps, slots, lane, sources, units, current: None };
        if !tiles.item_turns().is_multiple_of(slots.max(1)) {
            tiles.current = Some(k.named_var::<U32>("slot", 0));
        }
        tiles
    }

    const fn slot_bytes(&self) -> u32 {
        self.row.stride * TILE_ROWS
    }

    /// Turns of a row.
    fn row_turns(&self) -> u32 {
        self.partition.parts_of_row(self.stage.cols) / TURN_PARTS
    }

    /// Turns of an item: a row may have fewer than an item takes.
    fn item_turns(&self) -> u32 {
        self.items.turns.min(self.row_turns())
    }

    /// Items of a tile in a block.
    fn block_items(&self) -> u32 {
        self.items.of_row(self.row_turns()) / self.items.cluster
    }

    /// Emits the copies of as many turns as there are slots, from the warp's first on.
    pub(super) fn begin(&self, k: &mut KernelBuilder) {
        for ahead in 0..self.slots {
            let to = k.add(self.lane.ring, ahead * self.slot_bytes());
            self.fetch(k, to, ahead, self.lane.warp);
        }
    }

    /// Emits the block's products: the sums of each item, from `sums` on `[unit, item of the row, row of the unit,
    /// activation row]`, `unit_bytes` from one unit to the next.
    pub(super) fn run(&self, k: &mut KernelBuilder, staged: Staged, (sums, unit_bytes): (Reg<U32>, u32)) {
        let tiles = k.shr(self.units.count, TILE_UNITS.ilog2());
        let n_items = k.mul(tiles, self.block_items());
        let (g, t) = (k.shr(self.lane.lane, 2), k.and(self.lane.lane, 3));
        // Lanes of activation rows beyond the batch repeat the last one.
        let x_row = self.stage.activation_row(k, g, TILE_BATCH);
        let x = k.mad(x_row, self.stage.quant_row_bytes(), staged.quants);
        let groups = [0, 1].map(|b| {
            let row = k.mad(t, 2, b);
            let row = self.stage.activation_row(k, row, TILE_BATCH);
            k.mad(row, self.stage.group_row_bytes(), staged.groups)
        });
        k.for_range(self.lane.warp, n_items, self.warps, |k, index| {
            let item = self.item(k, index);
            let turn_cols = self.partition.block_cols / self.partition.parts * TURN_PARTS;
            let item_cols = self.item_turns() * turn_cols;
            let x = k.mad(item.own_piece, item_cols, x);
            let groups = groups.map(|at| k.mad(item.own_piece, item_cols / 4, at));
            let mut turns = Vec::new();
            for turn in 0..self.item_turns() {
                ring::arrived(k, self.slots - 1);
                let slot = match self.current {
                    Some(current) => {
                        let current = k.get(current);
                        k.add(self.lane.ring, current)
                    }
                    None => k.add(self.lane.ring, turn % self.slots * self.slot_bytes()),
                };
                let row = k.mad(g, self.row.stride, slot);
                let view = Turn {
                    t,
                    row,
                    within: self.within(k, (item, turn), g),
                    x: k.add(x, turn * turn_cols),
                    groups: groups.map(|at| k.add(at, turn * turn_cols / 4)),
                };
                turns.push(match self.exists(k, item, turn) {
                    None => self.segment.format.turn_products(k, &view),
                    Some(exists) => {
                        let products = [0, 1, 2, 3].map(|_| k.var::<F32>(0.0));
                        k.if_(exists, |k| {
                            let found = self.segment.format.turn_products(k, &view);
                            products.into_iter().zip(found).for_each(|(var, value)| k.set(var, value));
                        });
                        products.map(|var| k.get(var))
                    }
                });
                ring::read_by_all(k);
                self.fetch(k, slot, turn + self.slots, index);
                if let Some(current) = self.current {
                    k.update(current, |k, current| {
                        let next = k.add(current, self.slot_bytes());
                        let wraps = k.ge(next, self.slots * self.slot_bytes());
                        k.selp(wraps, 0, next)
                    });
                }
            }
            let [a, b, c, d]: Products = tile::tree(k, turns);
            // The blocks of a cluster finish its tiles in turns.
            let cluster = self.items.cluster;
            let tile = k.shr(item.tile, cluster.ilog2());
            let unit = k.mad(tile, TILE_UNITS, g);
            let at = k.mad(unit, unit_bytes, sums);
            let at = k.mad(item.piece, UNIT_BYTES, at);
            let at = k.mad(t, 8, at);
            let second = (TILE_BATCH * 4) as i32;
            if cluster == 1 {
                k.st_shared_v2::<F32>(at, [a, b]);
                k.st_shared_v2::<F32>(at + second, [c, d]);
            } else {
                let block = k.and(item.tile, cluster - 1);
                let at = k.cluster_address(at, block);
                k.st_cluster_v2::<F32>(at, [a, b]);
                k.st_cluster_v2::<F32>(at + second, [c, d]);
            }
        });
    }

    fn item(&self, k: &mut KernelBuilder, index: Reg<U32>) -> Item {
        let (tile, own_piece) = match self.block_items() {
            1 => (index, k.imm::<U32>(0)),
            pieces => {
                let tile = k.div(index, pieces);
                let before = k.mul(tile, pieces);
                (tile, k.sub(index, before))
            }
        };
        let first = k.mul(tile, TILE_UNITS);
        let exists = k.lt(first, self.units.count);
        let piece = match self.lane.rank {
            Some(rank) => k.mad(rank, self.block_items(), own_piece),
            None => own_piece,
        };
        let turn = k.mul(piece, self.item_turns());
        Item { exists, tile, piece, own_piece, turn }
    }

    /// Where not every item has this turn: whether this one has.
    fn exists(&self, k: &mut KernelBuilder, item: Item, turn: u32) -> Option<Pred> {
        let rest = self.row_turns() % self.item_turns();
        (rest != 0 && turn >= rest).then(|| k.lt(item.turn, self.row_turns() - turn))
    }

    /// Where in a piece the rows of planes begin that are shorter than one.
    fn within(&self, k: &mut KernelBuilder, (item, turn): (Item, u32), g: Reg<U32>) -> [Within; 2] {
        let short = |(plane, _): &(&TilePlane, &u32)| plane.bytes < plane.piece;
        let Some((plane, &bytes)) = self.row.planes.iter().zip(&self.partition.planes).find(short) else {
            return [Within::Known(0); 2];
        };
        let row_bytes = bytes * (self.stage.cols / self.partition.block_cols);
        if row_bytes.is_multiple_of(plane.piece)
            && (self.item_turns() * plane.bytes).is_multiple_of(plane.piece)
        {
            return [Within::Known(turn * plane.bytes % plane.piece); 2];
        }
        let unit = k.mad(item.tile, TILE_UNITS, self.units.start);
        let unit = k.add(unit, g);
        let first = self.segment.pairing.first_row(k, unit);
        [0, self.segment.pairing.distance()].map(|distance| {
            let row = k.add(first, distance);
            let at = k.mul(row, row_bytes);
            let turn = k.add(item.turn, turn);
            let at = k.mad(turn, plane.bytes, at);
            Within::Varying(k.and(at, plane.piece - 1))
        })
    }

    /// Emits the copies of turn number `ahead` from the first turn of item `index` on, which may be one of a later item
    /// or of none.
    fn fetch(&self, k: &mut KernelBuilder, slot: Reg<U32>, ahead: u32, index: Reg<U32>) {
        let (later, turn) = (ahead / self.item_turns(), ahead % self.item_turns());
        let index = if later == 0 { index } else { k.add(index, later * self.warps) };
        let item = self.item(k, index);
        let exists = match self.exists(k, item, turn) {
            Some(exists) => k.and_pred(item.exists, exists),
            None => item.exists,
        };
        k.if_(exists, |k| {
            let turn = k.add(item.turn, turn);
            let unit = k.mad(item.tile, TILE_UNITS, self.units.start);
            let first_row = self.segment.pairing.first_row(k, unit);
            for plane in 0..self.row.planes.len() {
                self.copy(k, slot, plane, (first_row, turn));
            }
        });
        k.cp_async_commit();
    }

    /// Emits the copies of a plane's part of a turn: rows in order, the pieces of a row in order.
    fn copy(
        &self,
        k: &mut KernelBuilder,
        slot: Reg<U32>,
        index: usize,
        (first_row, turn): (Reg<U32>, Reg<U32>),
    ) {
        let (plane, source) = (self.row.planes[index], self.sources[index]);
        let row_bytes = self.row_bytes(index);
        let from = source.from.map(|from| {
            let from = k.ptr_index(from, first_row, row_bytes);
            let from = k.ptr_index(from, turn, plane.bytes);
            // Rows that begin in the middle of a piece.
            if plane.bytes < plane.piece { k.and(from, !u64::from(plane.piece - 1)) } else { from }
        });
        let to = k.add(slot, source.to);
        let rows = WARP / plane.pieces();
        for start in (0..TILE_ROWS).step_by(rows as usize) {
            let (second, unit) = (start / TILE_UNITS, start % TILE_UNITS);
            let rows = unit * self.segment.pairing.step() + second * self.segment.pairing.distance();
            let from = from[second as usize] + (rows * row_bytes) as i32;
            let to = to + (plane.at + start * self.row.stride) as i32;
            let copy = |k: &mut KernelBuilder| match plane.piece {
                16 => k.cp_async_cg(to, from),
                bytes => k.cp_async_ca(to, from, bytes),
            };
            match source.has {
                Some(has) => k.guarded(has, copy),
                None => copy(k),
            }
        }
    }

    /// Bytes of a row in a plane.
    fn row_bytes(&self, plane: usize) -> u32 {
        self.partition.planes[plane] * (self.stage.cols / self.partition.block_cols)
    }
}

/// Where a lane's pieces of a plane are.
#[derive(Debug, Clone, Copy)]
struct Source {
    /// Its piece of the first tile, in the matrix of the units' first rows and in that of the second ones. Where one copy
    /// brings all rows of a tile, both are the lane's only piece.
    from: [Reg<U64>; 2],
    /// In a slot.
    to: Reg<U32>,
    /// Where not every lane copies: whether this one does.
    has: Option<Pred>,
}

impl Source {
    /// For a plane whose matrices begin at `starts`, with rows of `row_bytes`.
    fn new(
        k: &mut KernelBuilder,
        (plane, stride, lane): (TilePlane, u32, Reg<U32>),
        ([a, b], row_bytes): ([Reg<U64>; 2], u32),
        pairing: Pairing,
    ) -> Self {
        let row = k.shr(lane, plane.pieces().ilog2());
        let piece = k.and(lane, plane.pieces() - 1);
        let at = k.mul(piece, plane.piece);
        let to = k.mad(row, stride, at);
        let rows = WARP / plane.pieces();
        let has = (rows > TILE_ROWS).then(|| k.lt(row, TILE_ROWS));
        let unit = k.and(row, TILE_UNITS - 1);
        let unit_row = k.mul(unit, pairing.step());
        let from = if rows > TILE_UNITS {
            // All rows at once: a lane has one of the first or one of the second ones.
            let second = k.ge(row, TILE_UNITS);
            let distance = k.selp(second, pairing.distance(), 0);
            let (start, row) = (k.selp(second, b, a), k.add(unit_row, distance));
            let from = k.ptr_index(start, row, row_bytes);
            [k.ptr_index(from, at, 1); 2]
        } else {
            [a, b].map(|start| {
                let from = k.ptr_index(start, unit_row, row_bytes);
                k.ptr_index(from, at, 1)
            })
        };
        Self { from, to, has }
    }
}
