//! The products of sixteen weight rows, eight units, with up to eight activation rows, on tensor cores.
//!
//! A warp's work is a sequence of *items*: some consecutive turns of a tile, of which each gives the sums of its parts in
//! the order in which [`product`](super::product) adds them. While it does one turn, the next ones are on their way into
//! the warp's ring.

use std::ops::Range;

use ptx_builder::{F32, KernelBuilder, Pred, Reg, U32, U64, Var};

use super::geometry::Items;
use super::planes::{Planes, Source};
use super::stage::{Stage, Staged};
use super::{Pairing, Peers, Segment, ring};
use crate::blocks::tile::{self, TILE_ROWS, TURN_PARTS, TilePlane, Turn, TurnWeights, Within};
use crate::emit;

/// Units of a tile: rows 0 to 7 are their first rows, 8 to 15 their second ones.
pub(super) const TILE_UNITS: u32 = TILE_ROWS / 2;

/// What a thread knows of its segment.
pub(super) struct Tiles<'a> {
    segment: &'a Segment,
    planes: Planes,
    stage: Stage,
    items: Items,
    warps: u32,
    pub(super) slots: u32,
    lane: Lane,
    /// The units of this block or its cluster.
    units: BlockUnits,
    /// The block's items.
    n_items: Reg<U32>,
    /// Where all items of a warp are the same piece of their tiles: that one.
    piece: Option<Piece>,
    /// For each plane.
    sources: Vec<Source>,
    /// For each plane what its source has of the first tile, of the first turn of the item that is copied next.
    next: Vec<Vec<Var<U64>>>,
    /// Where a warp's items are different pieces: that of the item which is copied next, among the block's.
    next_piece: Option<Var<U32>>,
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
    /// The blocks of the cluster, if there is one.
    pub(super) peers: Option<Peers>,
}

/// A block's units, or a cluster's.
#[derive(Debug, Clone, Copy)]
pub(super) struct BlockUnits {
    pub(super) start: Reg<U32>,
    pub(super) count: Reg<U32>,
}

/// An item of a block.
#[derive(Clone, Copy)]
struct Item {
    tile: Reg<U32>,
    piece: Piece,
}

/// The columns of an item.
#[derive(Clone, Copy)]
struct Piece {
    /// Its number among those of the tile.
    index: Reg<U32>,
    /// Among the block's.
    own: Reg<U32>,
    /// The first of its turns in the row.
    turn: Reg<U32>,
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
    let partition = segment.format.tile_partition(cols);
    let (blocks, rows) = (cols / partition.block_cols, segment.matrix_rows());
    let planes = segment.format.tile_planes();
    // A plane that is copied by spans longer than its turns has to end with a whole one.
    let ends = |(plane, bytes): (&TilePlane, &u32)| {
        plane.bytes >= plane.span
            || (u64::from(bytes * blocks) * u64::from(rows)).is_multiple_of(plane.span.into())
    };
    !planes.is_empty()
        && blocks.is_multiple_of(TURN_PARTS / partition.parts)
        && planes.iter().zip(&partition.planes).all(ends)
}

impl<'a> Tiles<'a> {
    /// `matrices` are those of the segment, the ring of each of `warps` warps has `ring_bytes`.
    pub(super) fn new(
        k: &mut KernelBuilder,
        segment: &'a Segment,
        (stage, items, warps, ring_bytes): (Stage, Items, u32, u32),
        (matrices, units): (&[Reg<U64>], BlockUnits),
        lane: Lane,
    ) -> Self {
        let planes = Planes::new(segment, stage.cols, items.turns);
        let slots = ring_bytes / segment.format.slot_bytes();
        let tiles = k.shr(units.count, TILE_UNITS.ilog2());
        let mut tiles = Self {
            segment,
            planes,
            stage,
            items,
            warps,
            slots,
            lane,
            units,
            n_items: tiles,
            piece: None,
            sources: Vec::new(),
            next: Vec::new(),
            next_piece: None,
            current: None,
        };
        let pieces = tiles.block_items();
        tiles.n_items = k.mul(tiles.n_items, pieces);
        let own = k.rem(lane.warp, pieces);
        if warps.is_multiple_of(pieces) {
            tiles.piece = Some(tiles.piece(k, own));
        } else {
            tiles.next_piece = Some(k.named_var::<U32>("next_piece", own));
        }
        tiles.sources = tiles.planes.sources(k, segment, matrices, lane.lane);
        let first = tiles.from(k, lane.warp);
        let variables =
            |from: Vec<_>| from.into_iter().map(|from| k.named_var::<U64>("next", from)).collect();
        tiles.next = first.into_iter().map(variables).collect();
        if !tiles.item_turns().is_multiple_of(slots.max(1)) {
            tiles.current = Some(k.named_var::<U32>("slot", 0));
        }
        tiles
    }

    fn slot_bytes(&self) -> u32 {
        self.segment.format.slot_bytes()
    }

    /// Turns of a row.
    fn row_turns(&self) -> u32 {
        self.planes.row_turns()
    }

    /// Turns of an item: a row may have fewer than an item takes.
    fn item_turns(&self) -> u32 {
        self.planes.turns
    }

    /// Items of a tile in a block; where a cluster's last block has fewer, it passes over the others.
    fn block_items(&self) -> u32 {
        self.items.of_block(self.row_turns())
    }

    /// Emits the copies of the warp's turns `slots`, each into the slot of its number.
    pub(super) fn fill(&self, k: &mut KernelBuilder, slots: Range<u32>) {
        for ahead in slots {
            let to = k.add(self.lane.ring, ahead * self.slot_bytes());
            self.fetch(k, to, ahead, self.lane.warp);
        }
    }

    /// Emits the block's products: the sums of each item, from `sums` on `[unit, item of the row, row of the unit,
    /// activation row]`, `unit_bytes` from one unit to the next.
    pub(super) fn run(&self, k: &mut KernelBuilder, staged: Staged, (sums, unit_bytes): (Reg<U32>, u32)) {
        let (g, t) = (k.shr(self.lane.lane, 2), k.and(self.lane.lane, 3));
        // Rows beyond the batch repeat the last one, and so do odd columns where only the even ones are needed.
        let (lane_rows, rows) = (self.stage.lane_rows(), self.stage.tile_rows());
        let column = if self.stage.factor.is_some() { g } else { k.and(self.lane.lane, 7) };
        let x_row = if lane_rows == 1 { k.shr(column, 1) } else { column };
        let x_row = self.stage.activation_row(k, x_row, rows);
        let x = k.mad(x_row, self.stage.quant_row_bytes(), staged.quants);
        let groups: Vec<Reg<U32>> = (0..lane_rows)
            .map(|b| {
                let row = k.mad(t, lane_rows, b);
                let row = self.stage.activation_row(k, row, rows);
                k.mad(row, self.stage.group_row_bytes(), staged.groups)
            })
            .collect();
        let sums = k.mad(g, unit_bytes, sums);
        let sums = k.mad(t, lane_rows * 4, sums);
        k.for_range(self.lane.warp, self.n_items, self.warps, |k, index| {
            let item = self.item(k, index);
            let turn_cols = self.planes.turn_cols();
            let item_cols = self.item_turns() * turn_cols;
            let x = k.mad(item.piece.own, item_cols * self.stage.value_bytes(), x);
            let groups: Vec<_> = groups.iter().map(|&at| k.mad(item.piece.own, item_cols / 4, at)).collect();
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
                let within = (0..self.planes.of.len()).map(|plane| self.within(k, plane, (item, turn), g));
                let within = within.collect();
                let view = Turn {
                    x: k.add(x, turn * turn_cols * self.stage.value_bytes()),
                    groups: groups.iter().map(|&at| k.add(at, turn * turn_cols / 4)).collect(),
                    weights: TurnWeights { lane: self.lane.lane, g, t, slot, within },
                };
                turns.push(match self.has(k, index, turn) {
                    None => self.segment.format.turn_products(k, &view),
                    Some(has) => {
                        let products: Vec<_> = (0..2 * lane_rows).map(|_| k.var::<F32>(0.0)).collect();
                        k.if_(has, |k| {
                            let found = self.segment.format.turn_products(k, &view);
                            products.iter().zip(found).for_each(|(&var, value)| k.set(var, value));
                        });
                        products.iter().map(|&var| k.get(var)).collect()
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
            let products = tile::tree(k, turns);
            // The blocks of a cluster finish its tiles in turns.
            let cluster = self.items.cluster;
            let tile = k.shr(item.tile, cluster.ilog2());
            let at = k.mad(item.piece.index, self.stage.item_sums_bytes(), sums);
            let at = k.mad(tile, TILE_UNITS * unit_bytes, at);
            let to = self.lane.peers.map(|peers| {
                let block = k.and(item.tile, cluster - 1);
                peers.of(k, block, at)
            });
            let exists = self.items.uneven(self.row_turns()).then(|| k.lt(item.piece.turn, self.row_turns()));
            emit::where_(k, exists, |k| {
                for (row, values) in (0i32..).zip(products.chunks(lane_rows as usize)) {
                    let offset = row * (rows * 4) as i32;
                    match (values, to) {
                        (&[a, b], None) => k.st_shared_v2::<F32>(at + offset, [a, b]),
                        (&[a, b], Some([at, arrivals])) => {
                            k.st_async_v2::<F32>(at + offset, [a, b], arrivals);
                        }
                        (_, None) => k.st_shared::<F32>(at + offset, values[0]),
                        (_, Some([at, arrivals])) => k.st_async::<F32>(at + offset, values[0], arrivals),
                    }
                }
            });
        });
    }

    fn item(&self, k: &mut KernelBuilder, index: Reg<U32>) -> Item {
        let pieces = self.block_items();
        let tile = emit::quotient(k, index, pieces);
        let piece = self.piece.unwrap_or_else(|| {
            let before = k.mul(tile, pieces);
            let own = k.sub(index, before);
            self.piece(k, own)
        });
        Item { tile, piece }
    }

    /// Number `own` of the block's.
    fn piece(&self, k: &mut KernelBuilder, own: Reg<U32>) -> Piece {
        let index = match self.lane.peers {
            Some(peers) => k.mad(peers.rank, self.block_items(), own),
            None => own,
        };
        Piece { index, own, turn: k.mul(index, self.item_turns()) }
    }

    /// Where not every item has this turn: whether item `index` has.
    fn has(&self, k: &mut KernelBuilder, index: Reg<U32>, turn: u32) -> Option<Pred> {
        let rest = self.row_turns() % self.item_turns();
        let uneven = self.items.uneven(self.row_turns());
        (uneven || rest != 0 && turn >= rest).then(|| {
            let item = self.item(k, index);
            k.lt(item.piece.turn, self.row_turns() - turn)
        })
    }

    /// Where in their span a plane's rows begin.
    fn within(
        &self,
        k: &mut KernelBuilder,
        index: usize,
        (item, turn): (Item, u32),
        g: Reg<U32>,
    ) -> [Within; 2] {
        let (plane, row_bytes) = (self.planes.of[index], self.planes.row_bytes(index));
        if self.planes.begins_whole(index) {
            return [Within::Known(turn * plane.bytes % plane.span); 2];
        }
        let unit = k.mad(item.tile, TILE_UNITS, self.units.start);
        let unit = k.add(unit, g);
        let first = self.segment.pairing.first_row(k, unit);
        [0, self.segment.pairing.distance()].map(|distance| {
            let row = k.add(first, distance);
            let at = k.mul(row, row_bytes);
            let turn = k.add(item.piece.turn, turn);
            let at = k.mad(turn, plane.bytes, at);
            Within::Varying(k.and(at, plane.span - 1))
        })
    }

    /// Emits for each plane what its source has of the first tile, of the first turn of item `index`.
    fn from(&self, k: &mut KernelBuilder, index: Reg<U32>) -> Vec<Vec<Reg<U64>>> {
        let item = self.item(k, index);
        let unit = k.mad(item.tile, TILE_UNITS, self.units.start);
        let first_row = self.segment.pairing.first_row(k, unit);
        let mut planes = Vec::new();
        for (index, source) in self.sources.iter().enumerate() {
            let from = source.from.iter().map(|&from| {
                let from = k.ptr_index(from, first_row, self.planes.row_bytes(index));
                k.ptr_index(from, item.piece.turn, self.planes.of[index].bytes)
            });
            planes.push(from.collect());
        }
        planes
    }

    /// Emits the copies of turn number `ahead` from the first turn of item `index` on, which may be one of a later item
    /// or of none. It is called for each turn of a warp in order.
    fn fetch(&self, k: &mut KernelBuilder, slot: Reg<U32>, ahead: u32, index: Reg<U32>) {
        let (later, turn) = (ahead / self.item_turns(), ahead % self.item_turns());
        let index = if later == 0 { index } else { k.add(index, later * self.warps) };
        let exists = k.lt(index, self.n_items);
        let exists = match self.has(k, index, turn) {
            Some(has) => k.and_pred(exists, has),
            None => exists,
        };
        for plane in 0..self.planes.of.len() {
            self.copy(k, (slot, exists), plane, turn);
        }
        k.cp_async_commit();
        if turn + 1 == self.item_turns() {
            self.step(k, index);
        }
    }

    /// Emits the step from item `index` to the warp's next one.
    fn step(&self, k: &mut KernelBuilder, index: Reg<U32>) {
        if let Pairing::Halves { .. } = self.segment.pairing {
            // Not all tiles are equally far apart.
            let index = k.add(index, self.warps);
            let from = self.from(k, index);
            let next = self.next.iter().flatten().zip(from.into_iter().flatten());
            return next.for_each(|(&next, from)| k.set(next, from));
        }
        let pieces = self.block_items();
        let (tiles, further) = (self.warps / pieces, self.warps % pieces);
        let in_next_tile = self.next_piece.map(|piece| {
            let further = k.add(piece, further);
            let in_next_tile = k.ge(further, pieces);
            let beyond = k.sub(further, pieces);
            let own = k.selp(in_next_tile, beyond, further);
            k.set(piece, own);
            in_next_tile
        });
        for (plane, next) in self.next.iter().enumerate() {
            let tile_bytes = TILE_UNITS * self.segment.pairing.step() * self.planes.row_bytes(plane);
            let item_bytes = self.item_turns() * self.planes.of[plane].bytes;
            let bytes = tiles * tile_bytes + further * item_bytes;
            let bytes = match in_next_tile {
                None => k.imm(bytes),
                Some(next) => k.selp(next, bytes + tile_bytes - pieces * item_bytes, bytes),
            };
            next.iter().for_each(|&next| k.update(next, |k, next| k.ptr_index(next, bytes, 1)));
        }
    }

    /// Emits the copies of a plane's part of a turn: rows in order, the pieces of a row in order.
    fn copy(&self, k: &mut KernelBuilder, (slot, exists): (Reg<U32>, Pred), index: usize, turn: u32) {
        let (plane, source) = (self.planes.of[index], &self.sources[index]);
        let row_bytes = self.planes.row_bytes(index);
        let bytes = turn * plane.bytes;
        let from = self.next[index].iter().map(|&next| match source.within {
            None => k.get(next) + (bytes / plane.span * plane.span) as i32,
            Some(within) => {
                // Rows that begin in the middle of a span.
                let from = k.add(next, u64::from(bytes));
                let from = k.and(from, !u64::from(plane.span - 1));
                k.ptr_index(from, within, 1) + 0
            }
        });
        let from: Vec<_> = from.collect();
        source.copy(k, plane, (slot, exists), (&from, row_bytes, self.segment.pairing));
    }
}
