//! What every block does first: the activations, weighted by a norm if asked for, to Q8 in shared memory, or, for weights of
//! 16 bits, to floats of their type.
//!
//! Items of 256 columns are dealt out to the warps; a lane holds eight columns, four lanes a group of 32. A norm's
//! `1 / sqrt(mean of squares)` is one factor for a whole row: the quants do not depend on it, so nobody waits for it, and
//! the row's products are multiplied by it at their end.
//!
//! Activations that come as Q8 are copied. In a cluster each block takes its part of the columns, and tells the others
//! its sums of squares.
//!
//! Floats of 16 bits have a scale for each group, too, a power of two: so no activation is too large, or too small, for one.
//!
//! Quants lie in their order but for [`swizzled`] pieces of 16 bytes. Where tensor cores read them, eight rows at once,
//! they are in order, and rows are so far apart that eight of them use all banks.

use ptx_builder::{ArrayRef, B32, F32, KernelBuilder, Load, Pred, Reg, Space, U32, U64};

use super::{Peers, Shared};
use crate::blocks::tile::{self, TILE_BATCH};
use crate::emit;
use crate::factor::{self, Factor};
use crate::quantize::{largest_of_group, or_nan, quantize_group};
use crate::support::WARP;

/// Columns of a lane.
const LANE: u32 = 8;

/// Columns of an item.
pub(super) const ITEM: u32 = LANE * WARP;

/// Columns are a multiple of this: swizzled pieces stay among themselves.
pub(super) const MULTIPLE: u32 = 128;

/// Items whose loads a warp has under way together.
const TOGETHER: u32 = 4;

/// The activations `[batch, cols]`, and what is done to them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stage {
    pub(super) cols: u32,
    pub(super) batch: u32,
    /// Normalise, with this added to the mean square.
    pub(super) eps: Option<f32>,
    /// Slots of weights that are asked for before them.
    pub(super) early: u32,
    /// Whether tensor cores read them.
    pub(super) tiles: bool,
    /// Whether they come as Q8.
    pub(super) quantised: bool,
    /// Whether a product meets the groups' sums.
    pub(super) group_sums: bool,
    /// What they become, if not Q8.
    pub(super) factor: Option<Factor>,
    /// Blocks that share the columns.
    pub(super) cluster: u32,
    /// Columns of a block. If several share them, these are whole items; the last block has what the others leave.
    pub(super) block_cols: u32,
}

/// Where the activations are in shared memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staged {
    /// Row 0's quants, or floats of 16 bits; rows follow each other.
    pub(super) quants: Reg<U32>,
    /// Row 0's pairs `(d, d * sum)`, or `(d, 0)`; rows follow each other.
    pub(super) groups: Reg<U32>,
}

/// The columns of a lane in one item.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// Its number among the block's items of all rows.
    index: Reg<U32>,
    row: Reg<U32>,
    /// Among the block's columns.
    col: Reg<U32>,
    /// The block's number in its cluster, if there is one.
    rank: Option<Reg<U32>>,
    /// Where not every item or lane has columns: whether this one has.
    exists: Option<Pred>,
}

/// Eight columns' weights of a norm, or activations.
pub(super) type Values = [Reg<F32>; LANE as usize];

/// Where the quant of `col` is in a row: bits 7 and 8 of the column are added, without carries, to bits 4 and 5 and to
/// bits 5 and 6. Whichever parts eight neighbouring lanes read together, 16 bytes each, they then use all banks: parts of
/// 64 columns, of 32, and pairs of 16 columns 128 apart.
pub(super) fn swizzled(k: &mut KernelBuilder, col: Reg<U32>) -> Reg<U32> {
    let bits = k.bfe(col, 7, 2);
    let once = k.shl(bits, 4);
    let twice = k.shl(bits, 5);
    let both = k.xor(once, twice);
    k.xor(col, both)
}

impl Stage {
    /// Bytes of shared memory.
    pub(super) const fn bytes(&self) -> u32 {
        self.batch * (self.quant_row_bytes() + self.group_row_bytes())
    }

    /// Emits which activation row a thread takes that has number `row` of `of`: the last one beyond them.
    pub(super) fn activation_row(&self, k: &mut KernelBuilder, row: Reg<U32>, of: u32) -> Reg<U32> {
        if of == self.batch { row } else { k.min(row, self.batch - 1) }
    }

    /// Activation rows of a lane of tensor cores.
    pub(super) const fn lane_rows(&self) -> u32 {
        tile::lane_rows(self.batch)
    }

    /// Activation rows that tensor cores multiply: a lane's times the lanes that have different ones.
    pub(super) const fn tile_rows(&self) -> u32 {
        self.lane_rows() * (TILE_BATCH / 2)
    }

    /// Bytes of the sums that an item leaves for one unit.
    pub(super) const fn item_sums_bytes(&self) -> u32 {
        2 * self.tile_rows() * 4
    }

    /// Whether the last block of a cluster has fewer columns than the others.
    const fn uneven(&self) -> bool {
        self.block_cols * self.cluster != self.cols
    }

    /// Bytes of a value.
    pub(super) const fn value_bytes(&self) -> u32 {
        if self.factor.is_some() { 2 } else { 1 }
    }

    /// Bytes from one row's values to the next. Where tensor cores read several rows together, these are as far apart in a line
    /// of shared memory as what is read of each is long: a row of a matrix, or halves of four lanes.
    pub(super) const fn quant_row_bytes(&self) -> u32 {
        let apart = match self.factor {
            _ if !self.tiles => 0,
            Some(_) => 64,
            None => 16,
        };
        self.value_bytes() * self.block_cols + apart
    }

    pub(super) const fn group_row_bytes(&self) -> u32 {
        self.block_cols / 4 + if self.tiles { 16 } else { 0 }
    }

    /// Items of a row in a block.
    const fn row_items(&self) -> u32 {
        self.block_cols.div_ceil(ITEM)
    }

    /// Items of all rows in a block.
    pub(super) const fn items(&self) -> u32 {
        self.batch * self.row_items()
    }

    /// Sums of squares of a row.
    const fn row_sums(&self) -> u32 {
        self.row_items() * self.cluster
    }

    /// Sums of squares of all rows.
    pub(super) const fn sums(&self) -> u32 {
        self.batch * self.row_sums()
    }

    /// Rounds in which a warp loads its items.
    pub(super) fn rounds(&self, warps: u32) -> u32 {
        self.items().div_ceil(warps).div_ceil(TOGETHER)
    }

    /// The items of a warp, if there are few enough to load all together.
    fn few(&self, warps: u32) -> Option<u32> {
        let items = self.items().div_ceil(warps);
        (items <= TOGETHER).then_some(items)
    }

    /// Emits the loads of the norm's weights that do not have to wait for other kernels, if there are few.
    pub(super) fn preload(
        &self,
        k: &mut KernelBuilder,
        warps: u32,
        weight: Option<Reg<U64>>,
        rank: Option<Reg<U32>>,
    ) -> Option<Vec<Values>> {
        let (weight, items) = (weight?, self.few(warps)?);
        k.comment("the weights of the norm");
        let (warp, lane) = emit::warp_and_lane(k);
        let load = |index: u32| {
            let place = self.place(k, (warp, lane), index * warps, rank);
            self.load(k, weight, None, place)
        };
        Some((0..items).map(load).collect())
    }

    /// Emits all of it; at its end the block's threads have met. `weights` is what [`preload`](Self::preload) gave, `behind`
    /// emits what is to be fetched behind the activations: after the loads of the warp's first ones, or, where it takes
    /// several rounds, before them.
    pub(super) fn emit(
        &self,
        k: &mut KernelBuilder,
        warps: u32,
        (x, weight): (Reg<U64>, Option<Reg<U64>>),
        weights: Option<Vec<Values>>,
        shared: Shared,
        behind: &dyn Fn(&mut KernelBuilder),
    ) -> Staged {
        let quants = shared.quants;
        let groups = k.add(quants, self.batch * self.quant_row_bytes());
        let staged = Staged { quants, groups };
        if self.quantised {
            self.copy(k, warps * WARP, x, (staged, shared.rank()), behind);
            k.barrier();
            return staged;
        }
        let (warp, lane) = emit::warp_and_lane(k);
        let together = |k: &mut KernelBuilder,
                        (first, items): (Reg<U32>, u32),
                        weights: Option<Vec<Values>>,
                        behind: &dyn Fn(&mut KernelBuilder)| {
            let places: Vec<Place> =
                (0..items).map(|i| self.place(k, (first, lane), i * warps, shared.rank())).collect();
            let values: Vec<Values> =
                places.iter().map(|&place| self.load(k, x, Some(place.row), place)).collect();
            behind(k);
            let weights = weights.or_else(|| {
                weight.map(|weight| places.iter().map(|&place| self.load(k, weight, None, place)).collect())
            });
            for (i, (&place, values)) in places.iter().zip(values).enumerate() {
                let weights = weights.as_ref().map(|weights| weights[i]);
                // Warps without an item jump.
                let all = self.items().is_multiple_of(places.len() as u32 * warps);
                let any = (!all).then(|| k.lt(place.index, self.items()));
                emit::where_(k, any, |k| {
                    if let Some(sums) = shared.item_sums {
                        self.square(k, (sums, shared.peers), place, lane, &values);
                    }
                    let values = match weights {
                        Some(weights) => std::array::from_fn(|i| k.mul(values[i], weights[i])),
                        None => values,
                    };
                    self.store(k, staged, place, lane, values);
                });
            }
        };
        match self.few(warps) {
            Some(items) => together(k, (warp, items), weights, behind),
            None => {
                behind(k);
                k.for_range(warp, self.items(), warps * TOGETHER, |k, first| {
                    together(k, (first, TOGETHER), None, &|_| ());
                });
            }
        }
        k.barrier();
        staged
    }

    /// Copies rows of Q8: quants, then pairs.
    fn copy(
        &self,
        k: &mut KernelBuilder,
        threads: u32,
        x: Reg<U64>,
        (staged, rank): (Staged, Option<Reg<U32>>),
        behind: &dyn Fn(&mut KernelBuilder),
    ) {
        const PIECE: u32 = 16;
        const PIECES: u32 = 8;
        let (cols, row_bytes) = (self.block_cols, self.cols + self.cols / 4);
        let row_pieces = (cols + cols / 4) / PIECE;
        // From a row's start to the block's quants, and to its pairs less the quants before them.
        let starts = rank.map(|rank| [k.mul(rank, cols), k.mad(rank, cols / 4, self.cols - cols)]);
        let all = self.batch * row_pieces;
        let tid = k.tid_x();
        let round =
            |k: &mut KernelBuilder, first: Reg<U32>, pieces: u32, behind: &dyn Fn(&mut KernelBuilder)| {
                let pieces: Vec<_> = (0..pieces)
                    .map(|i| {
                        let index = k.add(first, i * threads);
                        let inside = k.min(index, all - 1);
                        let (row, piece) = emit::split(k, inside, u64::from(all), row_pieces);
                        let byte = k.mul(piece, PIECE);
                        let is_quant = k.lt(byte, cols);
                        let from = match starts {
                            Some([quant, group]) => {
                                let start = k.selp(is_quant, quant, group);
                                let from = k.add(start, byte);
                                // What the last block has not is not read: any piece will do.
                                if self.uneven() { k.min(from, row_bytes - PIECE) } else { from }
                            }
                            None => byte,
                        };
                        let at = k.ptr_index(x, row, row_bytes);
                        let at = k.ptr_index(at, from, 1);
                        (index, (row, byte, is_quant), k.ld_global_v4::<B32>(at))
                    })
                    .collect();
                behind(k);
                for (index, (row, byte, is_quant), words) in pieces {
                    let quant = k.mad(row, self.quant_row_bytes(), staged.quants);
                    let group = k.mad(row, self.group_row_bytes(), staged.groups);
                    let group = k.sub(group, cols);
                    let start = k.selp(is_quant, quant, group);
                    let to = if self.tiles {
                        byte
                    } else {
                        let quant = swizzled(k, byte);
                        k.selp(is_quant, quant, byte)
                    };
                    let to = k.add(start, to);
                    let exists = k.lt(index, all);
                    k.guarded(exists, |k| k.st_shared_v4::<B32>(to, words));
                }
            };
        if all <= threads * PIECES {
            return round(k, tid, all.div_ceil(threads), behind);
        }
        behind(k);
        k.for_range(tid, all, threads * PIECES, |k, first| round(k, first, PIECES, &|_| ()));
    }

    /// This lane's place in item `first + offset`; items beyond the last have the place of some other.
    fn place(
        &self,
        k: &mut KernelBuilder,
        (first, lane): (Reg<U32>, Reg<U32>),
        offset: u32,
        rank: Option<Reg<U32>>,
    ) -> Place {
        let index = if offset == 0 { first } else { k.add(first, offset) };
        let inside = k.min(index, self.items() - 1);
        let (row, item) = emit::split(k, inside, u64::from(self.items()), self.row_items());
        let within = k.mul(lane, LANE);
        let col = k.mad(item, ITEM, within);
        let exists = match rank {
            Some(rank) if self.uneven() => {
                let of_row = k.mad(rank, self.block_cols, col);
                Some(k.lt(of_row, self.cols))
            }
            _ => (!self.block_cols.is_multiple_of(ITEM)).then(|| k.lt(col, self.block_cols)),
        };
        Place { index, row, col, rank, exists }
    }

    /// A lane's values of a row, or of a vector; zeros where it has none.
    fn load(&self, k: &mut KernelBuilder, base: Reg<U64>, row: Option<Reg<U32>>, place: Place) -> Values {
        let at = match row {
            Some(row) if self.batch > 1 => k.ptr_index(base, row, self.cols * 4),
            _ => base,
        };
        let at = match place.rank {
            Some(rank) => k.ptr_index(at, rank, self.block_cols * 4),
            None => at,
        };
        let at = k.ptr_index(at, place.col, 4);
        let halves = [0, 16].map(|offset| match place.exists {
            Some(exists) => k.load_v4_or::<F32>(exists, Space::Global, Load::WEAK, at + offset, 0.0),
            None => k.ld_global_v4::<F32>(at + offset),
        });
        std::array::from_fn(|i| halves[i / 4][i % 4])
    }

    /// Leaves the sum of squares of an item, in every block of the cluster.
    fn square(
        &self,
        k: &mut KernelBuilder,
        (all, peers): (ArrayRef<F32>, Option<Peers>),
        place: Place,
        lane: Reg<U32>,
        values: &Values,
    ) {
        let sums = values.as_chunks::<2>().0.iter().map(|[a, b]| {
            let a = k.mul(*a, *a);
            k.fma(*b, *b, a)
        });
        let sums: Vec<_> = sums.collect();
        let sum = sums[1..].iter().fold(sums[0], |sum, &other| k.add(sum, other));
        let sum = k.warp_sum(sum);
        let Some(peers) = peers else {
            let at = k.shared_index(all, place.index);
            let first = k.eq(lane, 0);
            return k.guarded(first, |k| k.st_shared::<F32>(at, sum));
        };
        // Items of a row follow each other, block by block.
        let before = k.mul(place.row, self.row_sums() - self.row_items());
        let before = k.mad(peers.rank, self.row_items(), before);
        let index = k.add(before, place.index);
        let at = k.shared_index(all, index);
        // Lane `r` tells block `r`.
        let tells = k.lt(lane, self.cluster);
        let block = k.min(lane, self.cluster - 1);
        let [at, arrivals] = peers.of(k, block, at);
        k.guarded(tells, |k| k.st_async::<F32>(at, sum, arrivals));
    }

    /// `1 / sqrt(mean + eps)` of a row, after the threads have met; `None` without a norm.
    pub(super) fn factor(&self, k: &mut KernelBuilder, shared: Shared, row: Reg<U32>) -> Option<Reg<F32>> {
        let (sums, eps) = (shared.item_sums?, self.eps?);
        let start = k.mul(row, self.row_sums());
        let at = k.shared_index(sums, start);
        let parts: Vec<_> = (0..self.row_sums()).map(|i| k.ld_shared::<F32>(at + (i * 4) as i32)).collect();
        let total = parts[1..].iter().fold(parts[0], |total, &part| k.add(total, part));
        let mean = k.fma(total, (self.cols as f32).recip(), eps);
        Some(k.rsqrt_approx(mean))
    }

    /// Quantises a lane's values, or rounds them, and stores them.
    fn store(&self, k: &mut KernelBuilder, staged: Staged, place: Place, lane: Reg<U32>, values: Values) {
        let store = |k: &mut KernelBuilder, store: &dyn Fn(&mut KernelBuilder)| match place.exists {
            Some(exists) => k.guarded(exists, store),
            None => store(k),
        };
        if let Some(factor) = self.factor {
            let (words, scale) = rounded_group(k, factor, values);
            let row = k.mad(place.row, self.quant_row_bytes(), staged.quants);
            let at = k.mad(place.col, self.value_bytes(), row);
            store(k, &|k| k.st_shared_v4::<B32>(at, words));
            let none = k.imm::<B32>(0);
            return self.store_pair(k, staged, (place, lane), [scale, none]);
        }
        let group = quantize_group(k, values);
        let row = k.mad(place.row, self.quant_row_bytes(), staged.quants);
        let at = if self.tiles { place.col } else { swizzled(k, place.col) };
        let at = k.add(row, at);
        let quants = [group.quants[0], group.quants[1]];
        store(k, &|k| k.st_shared_v2::<B32>(at, quants));
        let scaled_sum = match self.group_sums {
            true => group.scaled_sum(k),
            false => k.imm::<B32>(0),
        };
        self.store_pair(k, staged, (place, lane), [group.scale, scaled_sum]);
    }

    /// Stores what belongs to the group of a lane's values.
    fn store_pair(
        &self,
        k: &mut KernelBuilder,
        staged: Staged,
        (place, lane): (Place, Reg<U32>),
        pair: [Reg<B32>; 2],
    ) {
        let sharer = k.and(lane, 3);
        let first = k.eq(sharer, 0);
        let writes = place.exists.map_or(first, |exists| k.and_pred(exists, first));
        let row = k.mad(place.row, self.group_row_bytes(), staged.groups);
        // A pair of eight bytes for every 32 columns.
        let of_group = k.shr(place.col, 2);
        let at = k.add(row, of_group);
        k.guarded(writes, |k| k.st_shared_v2::<B32>(at, pair));
    }
}

/// The group of 32 values of which a lane holds eight: the lane's as floats of 16 bits, times a power of two, and what that
/// has to be undone with, which is no number if one of them is none.
fn rounded_group(k: &mut KernelBuilder, to: Factor, values: Values) -> ([Reg<B32>; 4], Reg<B32>) {
    let (largest, broken) = largest_of_group(k, values);
    let [up, down] = factor::range(k, largest, broken);
    let values = values.map(|value| k.mul::<F32>(value, up));
    let words = std::array::from_fn(|i| to.word(k, [values[2 * i], values[2 * i + 1]]));
    (words, or_nan(k, down, broken))
}
