//! The products of sixteen weight rows, eight units, with up to eight activation rows, on tensor cores.
//!
//! A warp's work is a sequence of *items*: some consecutive turns of a tile, of which each gives the sums of its parts in
//! the order in which [`product`](super::product) adds them. While it does one turn, the next ones are on their way into
//! the warp's ring.

use ptx_builder::{F32, KernelBuilder, Pred, Reg, U32, U64, Var};

use super::geometry::Items;
use super::stage::{Stage, Staged};
use super::{Pairing, Peers, Segment, ring};
use crate::blocks::partition::Partition;
use crate::blocks::tile::{self, TILE_ROWS, TURN_PARTS, TilePlane, Turn, Within};
use crate::emit;
use crate::support::WARP;

/// Units of a tile: rows 0 to 7 are their first rows, 8 to 15 their second ones.
pub(super) const TILE_UNITS: u32 = TILE_ROWS / 2;

/// What a thread knows of its segment.
pub(super) struct Tiles<'a> {
    segment: &'a Segment,
    partition: Partition,
    planes: Vec<TilePlane>,
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
    /// Its warp's room for what its lanes decode for each other.
    pub(super) room: Reg<U32>,
    /// The blocks of the cluster, if there is one.
    pub(super) peers: Option<Peers>,
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
        (matrices, units): (&[Reg<U64>], Range),
        lane: Lane,
    ) -> Self {
        let partition = segment.format.partition(stage.cols);
        let planes = segment.format.tile_planes();
        let slots = ring_bytes / segment.format.slot_bytes();
        let rows = u64::from(segment.matrix_rows());
        let blocks = rows * u64::from(stage.cols / partition.block_cols);
        let mut sources = Vec::new();
        let mut before = 0;
        for (&plane, &bytes) in planes.iter().zip(&partition.planes) {
            let starts: Vec<Reg<U64>> = matrices
                .iter()
                .map(|&matrix| if before == 0 { matrix } else { k.add(matrix, before) })
                .collect();
            before += u64::from(bytes) * blocks;
            if let (Some(&first), Some(&last)) = (starts.first(), starts.last()) {
                let row_bytes = bytes * (stage.cols / partition.block_cols);
                sources.push(Source::new(k, (plane, lane.lane), ([first, last], row_bytes), segment.pairing));
            }
        }
        let mut tiles = Self {
            segment,
            partition,
            planes,
            stage,
            items,
            warps,
            slots,
            lane,
            sources,
            units,
            current: None,
        };
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
        // Rows beyond the batch repeat the last one, and so do odd columns where only the even ones are needed.
        let (lane_rows, rows) = (self.stage.lane_rows(), self.stage.tile_rows());
        let x_row = if lane_rows == 1 { k.shr(g, 1) } else { g };
        let x_row = self.stage.activation_row(k, x_row, rows);
        let x = k.mad(x_row, self.stage.quant_row_bytes(), staged.quants);
        let groups: Vec<Reg<U32>> = (0..lane_rows)
            .map(|b| {
                let row = k.mad(t, lane_rows, b);
                let row = self.stage.activation_row(k, row, rows);
                k.mad(row, self.stage.group_row_bytes(), staged.groups)
            })
            .collect();
        let room = k.mad(g, 16, self.lane.room);
        k.for_range(self.lane.warp, n_items, self.warps, |k, index| {
            let item = self.item(k, index);
            let turn_cols = self.partition.block_cols / self.partition.parts * TURN_PARTS;
            let item_cols = self.item_turns() * turn_cols;
            let x = k.mad(item.own_piece, item_cols, x);
            let groups: Vec<_> = groups.iter().map(|&at| k.mad(item.own_piece, item_cols / 4, at)).collect();
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
                let view = Turn {
                    g,
                    t,
                    slot,
                    within: (0..self.planes.len())
                        .map(|plane| self.within(k, plane, (item, turn), g))
                        .collect(),
                    x: k.add(x, turn * turn_cols),
                    groups: groups.iter().map(|&at| k.add(at, turn * turn_cols / 4)).collect(),
                    room,
                };
                turns.push(match self.exists(k, item, turn) {
                    None => self.segment.format.turn_products(k, &view),
                    Some(exists) => {
                        let products: Vec<_> = (0..2 * lane_rows).map(|_| k.var::<F32>(0.0)).collect();
                        k.if_(exists, |k| {
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
            let unit = k.mad(tile, TILE_UNITS, g);
            let at = k.mad(unit, unit_bytes, sums);
            let at = k.mad(item.piece, self.stage.item_sums_bytes(), at);
            let at = k.mad(t, lane_rows * 4, at);
            let to = self.lane.peers.map(|peers| {
                let block = k.and(item.tile, cluster - 1);
                peers.of(k, block, at)
            });
            for (row, values) in (0i32..).zip(products.chunks(lane_rows as usize)) {
                let offset = row * (rows * 4) as i32;
                match (values, to) {
                    (&[a, b], None) => k.st_shared_v2::<F32>(at + offset, [a, b]),
                    (&[a, b], Some([at, arrivals])) => k.st_async_v2::<F32>(at + offset, [a, b], arrivals),
                    (_, None) => k.st_shared::<F32>(at + offset, values[0]),
                    (_, Some([at, arrivals])) => k.st_async::<F32>(at + offset, values[0], arrivals),
                }
            }
        });
    }

    fn item(&self, k: &mut KernelBuilder, index: Reg<U32>) -> Item {
        let (tile, own_piece) = match self.block_items() {
            1 => (index, k.imm::<U32>(0)),
            pieces => {
                let tile = emit::quotient(k, index, pieces);
                let before = k.mul(tile, pieces);
                (tile, k.sub(index, before))
            }
        };
        let first = k.mul(tile, TILE_UNITS);
        let exists = k.lt(first, self.units.count);
        let piece = match self.lane.peers {
            Some(peers) => k.mad(peers.rank, self.block_items(), own_piece),
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

    /// Where in their span a plane's rows begin.
    fn within(
        &self,
        k: &mut KernelBuilder,
        index: usize,
        (item, turn): (Item, u32),
        g: Reg<U32>,
    ) -> [Within; 2] {
        let (plane, row_bytes) = (self.planes[index], self.row_bytes(index));
        if plane.bytes == plane.span {
            return [Within::Known(0); 2];
        }
        if row_bytes.is_multiple_of(plane.span)
            && (self.item_turns() * plane.bytes).is_multiple_of(plane.span)
        {
            return [Within::Known(turn * plane.bytes % plane.span); 2];
        }
        let unit = k.mad(item.tile, TILE_UNITS, self.units.start);
        let unit = k.add(unit, g);
        let first = self.segment.pairing.first_row(k, unit);
        [0, self.segment.pairing.distance()].map(|distance| {
            let row = k.add(first, distance);
            let at = k.mul(row, row_bytes);
            let turn = k.add(item.turn, turn);
            let at = k.mad(turn, plane.bytes, at);
            Within::Varying(k.and(at, plane.span - 1))
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
            for plane in 0..self.planes.len() {
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
        let (plane, source) = (self.planes[index], self.sources[index]);
        let row_bytes = self.row_bytes(index);
        let from = source.from.map(|from| {
            let from = k.ptr_index(from, first_row, row_bytes);
            let from = k.ptr_index(from, turn, plane.bytes);
            // Rows that begin in the middle of a span.
            let from = if plane.bytes < plane.span { k.and(from, !u64::from(plane.span - 1)) } else { from };
            source.within.map_or(from, |within| k.ptr_index(from, within, 1))
        });
        let to = k.add(slot, source.to);
        for start in (0..TILE_ROWS).step_by((WARP / plane.pieces()) as usize) {
            let (second, unit) = (start / TILE_UNITS, start % TILE_UNITS);
            let rows = unit * self.segment.pairing.step() + second * self.segment.pairing.distance();
            let from = from[second as usize] + (rows * row_bytes) as i32;
            // The lane's row and `start` have no bits in common.
            let to = match plane.exchanged_at(start) {
                0 => to,
                exchanged => k.xor(to, exchanged),
            };
            let to = to + (plane.at + start * plane.span) as i32;
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
    /// The bytes before the piece, where `from` has to be rounded down without them.
    within: Option<Reg<U32>>,
    /// In the plane.
    to: Reg<U32>,
    /// Where not every lane copies: whether this one does.
    has: Option<Pred>,
}

impl Source {
    /// For a plane whose matrices begin at `starts`, with rows of `row_bytes`.
    fn new(
        k: &mut KernelBuilder,
        (plane, lane): (TilePlane, Reg<U32>),
        ([a, b], row_bytes): ([Reg<U64>; 2], u32),
        pairing: Pairing,
    ) -> Self {
        let row = k.shr(lane, plane.pieces().ilog2());
        let piece = k.and(lane, plane.pieces() - 1);
        let at = k.mul(piece, plane.piece);
        let rows = WARP / plane.pieces();
        let to = k.mad(row, plane.span, at);
        let to = match plane.exchanged(k, row) {
            Some(exchanged) => k.xor(to, exchanged),
            None => to,
        };
        let has = (rows > TILE_ROWS).then(|| k.lt(row, TILE_ROWS));
        let unit = k.and(row, TILE_UNITS - 1);
        let unit_row = k.mul(unit, pairing.step());
        let within = (plane.bytes < plane.span && plane.pieces() > 1).then_some(at);
        let piece = |k: &mut KernelBuilder, from: Reg<U64>| match within {
            Some(_) => from,
            None => k.ptr_index(from, at, 1),
        };
        let from = if rows > TILE_UNITS {
            // All rows at once: a lane has one of the first or one of the second ones.
            let second = k.ge(row, TILE_UNITS);
            let distance = k.selp(second, pairing.distance(), 0);
            let (start, row) = (k.selp(second, b, a), k.add(unit_row, distance));
            let from = k.ptr_index(start, row, row_bytes);
            [piece(k, from); 2]
        } else {
            [a, b].map(|start| {
                let from = k.ptr_index(start, unit_row, row_bytes);
                piece(k, from)
            })
        };
        Self { from, within, to, has }
    }
}
