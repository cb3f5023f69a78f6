//! Projections of many activation rows, on the tensor cores of Hopper.
//!
//! Activations are halves ([`HalfRows`](super::HalfRows)), and so are weights once they are multiplied, or both are bfloat16: a
//! warp makes them of the quants of a tile of sixteen rows, in registers, and `wgmma` multiplies four warps' tiles with the
//! activations of up to 128 rows in shared memory, with sums in f32. While the columns of one turn are multiplied, weights and
//! activations of the next ones are on their way. Where tiles are too few for all processors, parts of a block and blocks of a
//! cluster share the columns of the same tiles and add their sums in the end ([`Way`]).
//!
//! The columns of a row are added in an order of their own, so results are not those of the kernels for few rows to the bit;
//! but neither do they depend on what other rows there are, as long as all are one block's, 128 at most, or more than that.

mod turns;

use std::ops::RangeInclusive;

use ptx_builder::{F32, KernelBuilder, Module, Reg, Target, Ty, U32, U64, Var, Wgmma, WgmmaA, WgmmaOperands};
use tensor_formats::ElementType;

use self::turns::{LINES, Rows, Stages, Turns, Weights};
use super::epilogue::{Belongs, Fetched, Finisher, Pointers};
use super::geometry::{PROCESSORS, clusters_at_once};
use super::shape::{self, AttentionInputShape, MOST_COLS, MULTIPLE_OF_GEMM};
use super::tiles::{self, TILE_UNITS};
use super::{Destination, Segment, cost, deal, params};
use crate::blocks::half::{self, STEP_COLS};
use crate::blocks::tile::{SLOT_ALIGN, TILE_BATCH, TILE_ROWS, TURN_PARTS};
use crate::emit;
use crate::factor::Factor;
use crate::kernel::shared_memory;
use crate::support::{ALL_LANES, WARP, dim, dim_up_to, extent, f32_param, refuse};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

/// Activation rows of a block at most: among so many, results do not depend on how many there are.
const BLOCK_ROWS: u32 = 128;

/// Warps that multiply together, each with a tile of weights.
const WARPGROUP: u32 = 4;

/// Activation rows up to which sixteen warps have registers enough.
const ROWS_OF_SIXTEEN: u32 = 32;

/// The rows for which it is decided how many parts share columns, if they are one block's.
const USUAL_ROWS: u32 = 32;

/// Parts that share columns at most.
const MOST_SHARERS: u32 = 4;

/// Turns that are in shared memory at a time at most: one that is multiplied, and the others on their way. Two at least.
const MOST_STAGES: u32 = 4;

/// Groups of a turn's products, each of as many steps, between which the next turn is asked for.
const GROUPS: u32 = 4;

/// Activation rows that a warp finishes together at most: what their ends need from memory is loaded before any is written.
const FINISHED: u32 = 32;

/// Activation rows with those that fill up the last block.
pub(super) const fn padded(rows: u32) -> u32 {
    rows.next_multiple_of(if rows < BLOCK_ROWS { TILE_BATCH } else { BLOCK_ROWS })
}

/// A projection of many activation rows that are halves; beside weights in BF16 they are bfloat16, too.
///
/// Results are those of the kernel of its name but for rounding: of activations and weights to halves instead of
/// activations to bytes.
///
/// Parameters: `x` and `factors`, which [`HalfRows`](super::HalfRows) leaves, then those of the kernel of its name behind its
/// activations.
#[derive(Debug, Clone, PartialEq)]
pub struct Gemm {
    name: String,
    cols: u32,
    batch: u32,
    segments: Vec<Segment>,
    /// The type of the activations.
    factor: Factor,
    way: Way,
}

/// Who multiplies what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// Warps of a block: 4, 8, 12 or 16.
    pub warps: u32,
    /// Parts that these are divided into, whole warpgroups, which share the columns of their weights: 1, 2 or 4.
    pub parts: u32,
    /// Blocks of a cluster, whose parts all share these columns: 1, 2 or 4.
    pub cluster: u32,
}

impl Way {
    /// Parts that share columns. On their number depends how a row is summed.
    pub const fn sharers(self) -> u32 {
        self.parts * self.cluster
    }

    fn all() -> impl Iterator<Item = Self> {
        let parts = [1, 2, 4].into_iter().flat_map(|parts| [1, 2, 4].map(|cluster| (parts, cluster)));
        let ways =
            parts.flat_map(|(parts, cluster)| [4, 8, 12, 16].map(|warps| Self { warps, parts, cluster }));
        ways.filter(|way| way.warps.is_multiple_of(way.parts * WARPGROUP) && way.sharers() <= MOST_SHARERS)
    }

    /// Warps that have different weights.
    const fn part_warps(self) -> u32 {
        self.warps / self.parts
    }
}

impl Gemm {
    /// The one target whose devices have `wgmma`.
    pub const TARGET: Target = Target::SM_90A;

    /// [`AttentionInput`](super::AttentionInput) of `shape.batch` rows.
    ///
    /// # Errors
    /// As [`AttentionInput::new`](super::AttentionInput::new), but for any number of activation rows; weight rows that are not
    /// whole tiles.
    pub fn attention_input(shape: AttentionInputShape) -> Result<Self, KernelError> {
        const FAMILY: &str = "gemm_attention_input";
        Self::new(FAMILY, shape::attention_input(FAMILY, shape)?, (shape.batch, shape.cols))
    }

    /// [`ResidualProjection`](super::ResidualProjection) of `batch` rows.
    ///
    /// # Errors
    /// As [`ResidualProjection::new`](super::ResidualProjection::new), but for any number of activation rows; weight rows that
    /// are not whole tiles.
    pub fn residual_projection(
        element: ElementType,
        shape: (usize, usize),
        batch: usize,
        bias: bool,
    ) -> Result<Self, KernelError> {
        const FAMILY: &str = "gemm_residual_projection";
        Self::new(FAMILY, shape::residual_projection(FAMILY, element, shape, bias)?, (batch, shape.1))
    }

    /// [`GatedProjection`](super::GatedProjection) of `batch` rows.
    ///
    /// # Errors
    /// As [`residual_projection`](Self::residual_projection).
    pub fn gated_projection(
        element: ElementType,
        shape: (usize, usize),
        batch: usize,
    ) -> Result<Self, KernelError> {
        const FAMILY: &str = "gemm_gated_projection";
        Self::new(FAMILY, shape::gated_projection(FAMILY, element, shape)?, (batch, shape.1))
    }

    /// [`Head`](super::Head) of `batch` rows.
    ///
    /// # Errors
    /// As [`residual_projection`](Self::residual_projection).
    pub fn head(element: ElementType, shape: (usize, usize), batch: usize) -> Result<Self, KernelError> {
        const FAMILY: &str = "gemm_head";
        let segments = shape::head_segments(FAMILY, element, shape, Destination::Rows)?;
        Self::new(FAMILY, segments, (batch, shape.1))
    }

    fn new(
        family: &'static str,
        (name, segments): (String, Vec<Segment>),
        (batch, cols): (usize, usize),
    ) -> Result<Self, KernelError> {
        let cols = dim_up_to(family, "cols", cols, MOST_COLS)?;
        let batch = dim(family, "batch", batch)?;
        if !cols.is_multiple_of(MULTIPLE_OF_GEMM) {
            let reason = format!("{cols} columns, which are not a multiple of {MULTIPLE_OF_GEMM}");
            return Err(refuse(family, reason));
        }
        if !segments.iter().all(|segment| tiles::copies(segment, cols)) {
            return Err(refuse(family, format!("weights that are not whole tiles of {TILE_ROWS} rows")));
        }
        let mut factors = segments.iter().map(|segment| segment.format.factor_of_many_rows());
        let factor = factors.next().unwrap_or(Factor::F16);
        if factors.any(|other| other != factor) {
            return Err(refuse(family, "weights that are bfloat16 beside others".into()));
        }
        extent(family, "x", &[padded(batch), cols])?;
        let name = format!("{family}_{name}_b{batch}");
        let way = Way { warps: WARPGROUP, parts: 1, cluster: 1 };
        let kernel = Self { name, cols, batch, segments, factor, way };
        let fastest = |kernel: &Self, sharers: RangeInclusive<u32>| {
            let ways = Way::all().filter(|way| sharers.contains(&way.sharers()));
            ways.filter_map(|way| kernel.with(way).ok()).min_by_key(Self::cycles)
        };
        // How a row is summed depends on the weights alone, and on whether its block is the only one of its kind: more rows have
        // work for all processors as they are.
        let sharers = match kernel.row_blocks() {
            1 => fastest(&Self { batch: USUAL_ROWS, ..kernel.clone() }, 1..=MOST_SHARERS),
            _ => None,
        };
        let sharers = sharers.map_or(1, |kernel| kernel.way.sharers());
        fastest(&kernel, sharers..=sharers).ok_or_else(|| refuse(family, "no room in shared memory".into()))
    }

    /// The same in another way than that which is expected to be fastest.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for a way that there is not, some of whose parts would have no columns, where a block has no
    /// room, or its threads too few registers.
    pub fn with(&self, way: Way) -> Result<Self, KernelError> {
        let kernel = Self { way, ..self.clone() };
        let registers = way.warps < 16 || kernel.block_rows() <= ROWS_OF_SIXTEEN;
        let turns = self.segments.iter().all(|segment| self.turns(segment) >= way.sharers());
        let exists = Way::all().any(|other| other == way);
        if exists && registers && turns && kernel.shared_bytes() <= shared_memory(Self::TARGET) {
            return Ok(kernel);
        }
        Err(refuse("gemm", format!("{way:?} for {} rows", self.batch)))
    }

    /// What all blocks take on an H200, about, fitted to what was measured of 16 to 128 rows: a turn takes so much whatever its
    /// warps do, and more for each of them; longer if the next one cannot be on its way long before. Blocks begin and end.
    fn cycles(&self) -> u32 {
        let (Way { warps, cluster, .. }, rows) = (self.way, self.block_rows());
        let rounds = self.blocks().iter().sum::<u32>().div_ceil(clusters_at_once(PROCESSORS, cluster));
        let turns = self.segments.iter().map(|segment| self.turns(segment).div_ceil(self.way.sharers()));
        let turn = 800 + 5 * rows + warps * (80 + 4 * rows / 3);
        let turn = if self.stages() == 2 { turn * 5 / 4 } else { turn };
        let ends = if self.way.sharers() == 1 { 3000 } else { 3600 };
        rounds * (turns.fold(0, u32::max) * turn + ends)
    }

    const fn threads(&self) -> u32 {
        self.way.warps * WARP
    }

    /// Activation rows, and columns.
    pub(super) const fn size(&self) -> (usize, usize) {
        (self.batch as usize, self.cols as usize)
    }

    pub(super) fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Activation rows of a block.
    const fn block_rows(&self) -> u32 {
        let rows = padded(self.batch);
        if rows < BLOCK_ROWS { rows } else { BLOCK_ROWS }
    }

    /// Blocks that have different activation rows.
    const fn row_blocks(&self) -> u32 {
        padded(self.batch) / self.block_rows()
    }

    /// Blocks that have different weights of a segment.
    const fn tile_blocks(&self, segment: &Segment) -> u32 {
        (segment.units / TILE_UNITS).div_ceil(self.way.part_warps())
    }

    /// Turns of a row of a segment.
    fn turns(&self, segment: &Segment) -> u32 {
        segment.format.tile_partition(self.cols).parts_of_row(self.cols) / TURN_PARTS
    }

    /// Blocks of each segment, or clusters.
    fn blocks(&self) -> Vec<u32> {
        self.segments.iter().map(|segment| self.tile_blocks(segment) * self.row_blocks()).collect()
    }

    /// Bytes of a turn's activations of a part.
    fn rows_bytes(&self) -> u32 {
        let cols = self.segments.iter().map(|segment| turn_cols(segment, self.cols));
        cols.fold(0, u32::max) * self.block_rows() * 2
    }

    /// Bytes of a warp's weights of a turn.
    fn slot_bytes(&self) -> u32 {
        self.segments.iter().map(|segment| segment.format.slot_bytes()).fold(0, u32::max)
    }

    /// Bytes of what all turns need.
    const fn rooms_bytes(&self) -> u32 {
        self.way.warps * half::ROOM
    }

    /// Bytes of a turn that is in shared memory.
    fn stage_bytes(&self) -> u32 {
        self.way.parts * self.rows_bytes() + self.way.warps * self.slot_bytes()
    }

    /// Turns that are in shared memory at a time.
    fn stages(&self) -> u32 {
        let room = shared_memory(Self::TARGET)
            .saturating_sub(self.rooms_bytes() + self.way.parts * Turns::bytes(MOST_STAGES));
        (room / self.stage_bytes()).clamp(2, MOST_STAGES)
    }

    /// Bytes of all turns that are in shared memory and of what they need; when all are multiplied, the results are there.
    fn staged_bytes(&self) -> u32 {
        let staged = self.stages() * self.stage_bytes() + self.rooms_bytes();
        staged.max(self.way.warps * self.results_bytes())
    }

    fn shared_bytes(&self) -> u32 {
        self.staged_bytes() + self.way.parts * Turns::bytes(self.stages())
    }

    /// Of a warp: its tile's, of all activation rows of the block.
    const fn results_bytes(&self) -> u32 {
        TILE_ROWS * self.block_rows() * 4
    }

    /// Emits the blocks from `first` on, which do segment `index`.
    fn segment(
        &self,
        k: &mut KernelBuilder,
        (index, first): (usize, u32),
        shared: Shared,
        pointer: &dyn Fn(&str) -> Option<Reg<U64>>,
    ) {
        let (segment, stages) = (&self.segments[index], self.stages());
        let block = k.ctaid_x();
        let block = if first == 0 { block } else { k.sub(block, first) };
        let all = u64::from(self.blocks()[index]);
        let Way { warps, parts, cluster } = self.way;
        let (block, rank) = emit::split(k, block, all * u64::from(cluster), cluster);
        // Blocks of the same weights follow each other.
        let (of_weights, of_rows) = emit::split(k, block, all, self.row_blocks());
        let first_row = k.mul(of_rows, self.block_rows());
        let (warp, lane) = emit::warp_and_lane(k);
        let (part, of_part) = emit::split(k, warp, warps.into(), self.way.part_warps());
        let place = Place { warp, lane, part, of_part, sharer: k.mad(rank, parts, part) };
        let tiles = segment.units / TILE_UNITS;
        let tile = k.mad(of_weights, self.way.part_warps(), of_part);
        let exists = (!tiles.is_multiple_of(self.way.part_warps())).then(|| k.lt(tile, tiles));
        let tile = if exists.is_some() { k.min(tile, tiles - 1) } else { tile };
        let unit = k.mul(tile, TILE_UNITS);

        let matrices: Vec<_> = segment.names.matrices.iter().filter_map(|name| pointer(name)).collect();
        let Some((x, factors)) = pointer("x").zip(pointer("factors")) else { return };
        let pointers = Pointers::of(segment, pointer);
        let (first_turn, end) = self.own_turns(k, segment, place.sharer);
        let weights = Weights::new(k, (self, segment), &matrices, (unit, first_turn), (place, shared));
        let rows = Rows::new(k, (self, segment), (x, first_row, first_turn), (place, shared));
        for ahead in 0..stages - 1 {
            let stage = k.imm::<U32>(ahead);
            let turn = k.add(first_turn, ahead);
            let exists = k.lt(turn, end);
            weights.fetch(k, stage, exists);
            if ahead == 0 {
                k.comment("the first weights do not wait for anything");
                emit::wait(k);
            }
            (0..GROUPS).for_each(|group| rows.fetch(k, stage, exists, group));
            k.cp_async_commit();
        }
        let turns = Turns::new(k, stages, (place, shared));
        let begun = k.imm::<U32>(0);
        k.cp_async_wait(stages - 2);
        turns.has_come(k, begun);

        let sums: Vec<Var<F32>> = (0..self.block_rows() / 2).map(|_| k.var::<F32>(0.0)).collect();
        let steps = (turn_cols(segment, self.cols) / STEP_COLS) as usize;
        k.for_range(first_turn, end, 1u32, |k, turn| {
            let Stages { current, following, freed } = turns.begin(k);
            let ahead = k.add(turn, stages - 1);
            let further = k.lt(ahead, end);
            let b = rows.descriptor(k, current);
            let (view, room) = weights.turn(k, turn, current);
            let (mut group, mut groups) = (Vec::new(), 0);
            let shape = Wgmma {
                n: self.block_rows() as u16,
                satfinite: false,
                d: Ty::F32,
                a: self.factor.of_matrix(),
                b: self.factor.of_matrix(),
                registers: true,
            };
            segment.format.half_steps(k, (&view, room), &mut |k, step, a| {
                group.push((step, a));
                if group.len() < steps / GROUPS as usize {
                    return;
                }
                k.wgmma_fence();
                for (step, a) in group.drain(..) {
                    let at = rows.step(step);
                    let b = k.add::<U64>(b, u64::from(at / 16));
                    let a = WgmmaA::Registers(a.map(|word| word.cast::<U32>()));
                    let operands = WgmmaOperands { a, b, transposed: [false; 2], d: &sums, adds: None };
                    k.wgmma(shape, operands);
                }
                k.wgmma_commit();
                // While they multiply: copies take turns with what is read to make the next halves.
                if groups == 0 {
                    weights.fetch(k, freed, further);
                    turns.is_free(k, freed);
                }
                rows.fetch(k, freed, further, groups);
                if groups == 1 && stages > 2 {
                    k.cp_async_wait(stages - 3);
                    turns.has_come(k, following);
                }
                groups += 1;
            });
            k.cp_async_commit();
            if stages == 2 {
                k.cp_async_wait(0);
                turns.has_come(k, following);
            }
            k.wgmma_wait(0);
            turns.end(k, current, following);
        });
        k.comment("results of a tile, where weights and activations were");
        k.barrier();
        let results = k.mad(warp, self.results_bytes(), shared.rows);
        let of_first_part = k.mad(of_part, self.results_bytes(), shared.rows);
        let (g, t) = (k.shr(lane, 2), k.and(lane, 3));
        let own = k.mad(t, 2 * TILE_UNITS, g);
        let own = k.mad(own, 4, results);
        let second = (TILE_UNITS * self.block_rows() * 4) as i32;
        for (eight, sums) in (0i32..).zip(sums.as_chunks::<4>().0) {
            for (index, &sum) in (0i32..).zip(sums) {
                let row = eight * TILE_BATCH as i32 + index % 2;
                k.st_shared::<F32>(own + (row * (TILE_UNITS * 4) as i32 + index / 2 * second), sum);
            }
        }
        match (parts, cluster) {
            (1, 1) => k.warp_sync(ALL_LANES),
            (_, 1) => k.barrier(),
            _ => {
                k.cluster_arrive();
                k.cluster_wait();
            }
        }
        emit::where_(k, exists, |k| {
            self.finish(k, segment, (of_first_part, place), (first_row, unit), (factors, pointers));
        });
        if cluster > 1 {
            k.comment("what others still read stays");
            k.cluster_arrive_relaxed();
            k.cluster_wait();
        }
    }

    /// The first turn of a part and the end of its turns: equal shares, or one more for the first parts.
    fn own_turns(&self, k: &mut KernelBuilder, segment: &Segment, sharer: Reg<U32>) -> (Reg<U32>, Reg<U32>) {
        let (turns, sharers) = (self.turns(segment), self.way.sharers());
        if sharers == 1 {
            return (k.imm(0), k.imm(turns));
        }
        let (least, more) = (turns / sharers, turns % sharers);
        let start = |k: &mut KernelBuilder, sharer: Reg<U32>| {
            let before = k.min(sharer, more);
            k.mad(sharer, least, before)
        };
        let next = k.add(sharer, 1);
        (start(k, sharer), start(k, next))
    }

    /// Emits the ends of a tile's results: a lane has one unit, and every fourth activation row. Warps that share columns take
    /// rows in turn, and add what all of them have, always in the same order.
    fn finish(
        &self,
        k: &mut KernelBuilder,
        segment: &Segment,
        (of_first_part, place): (Reg<U32>, Place),
        (first_row, unit): (Reg<U32>, Reg<U32>),
        (factors, pointers): (Reg<U64>, Pointers),
    ) {
        let of_tile = k.and(place.lane, TILE_UNITS - 1);
        let unit = k.add(unit, of_tile);
        let row = k.shr(place.lane, TILE_UNITS.ilog2());
        let rows_at_once = WARP / TILE_UNITS;
        let at = k.mad(place.lane, 4, of_first_part);
        let second = (TILE_UNITS * self.block_rows() * 4) as i32;
        let rounds = self.block_rows() / rows_at_once;
        let Way { parts, cluster, .. } = self.way;
        let part = (self.way.part_warps() * self.results_bytes()) as i32;
        let most = rounds.div_ceil(self.way.sharers()).min(FINISHED / rows_at_once);
        let together = (1..=most).rev().find(|&together| rounds.is_multiple_of(together)).unwrap_or(1);
        // Of the last block, whose rows may not be all there.
        let end = match self.batch % self.block_rows() {
            0 => k.imm::<U32>(rounds),
            _ => {
                let left = k.sub(self.batch + rows_at_once - 1, first_row);
                let left = k.shr(left, rows_at_once.ilog2());
                k.min(left, rounds)
            }
        };
        let first = k.mul(place.sharer, together);
        k.for_range(first, end, together * self.way.sharers(), |k, round| {
            let row = k.mad(round, rows_at_once, row);
            let at = k.mad(round, WARP * 4, at);
            let blocks: Vec<_> = match cluster {
                1 => vec![at],
                _ => (0..cluster).map(|rank| k.cluster_address(at, rank)).collect(),
            };
            let rows: Vec<_> = (0..together)
                .map(|i| {
                    let own = if i == 0 { row } else { k.add(row, i * rows_at_once) };
                    let row = k.add(first_row, own);
                    let stores = k.lt(row, self.batch);
                    // Lanes behind the last row read what it reads, before it is written.
                    let row = k.min(row, self.batch - 1);
                    let belongs = Belongs::load(k, segment, &pointers, row);
                    let factor = k.ptr_index(factors, row, 4);
                    let factor = k.ld_global::<F32>(factor);
                    (stores, row, belongs, factor)
                })
                .collect();
            let rows: Vec<_> = rows
                .into_iter()
                .map(|(stores, row, belongs, factor)| {
                    let factor = match segment.format.half_scale() {
                        1.0 => factor,
                        scale => k.mul::<F32>(factor, scale.recip()),
                    };
                    let finisher = Finisher::new(k, segment, pointers, (row, belongs));
                    let fetched =
                        if segment.fetches() { finisher.fetch(k, unit) } else { Fetched::default() };
                    (stores, factor, finisher, fetched)
                })
                .collect();
            for (i, (stores, factor, finisher, fetched)) in (0i32..).zip(rows) {
                let totals = [0, second].map(|second| {
                    let mut totals = Vec::new();
                    for &block in &blocks {
                        for index in 0..parts as i32 {
                            let at = block + (i * (WARP * 4) as i32 + second + index * part);
                            totals.push(match cluster {
                                1 => k.ld_shared::<F32>(at),
                                _ => k.ld_cluster::<F32>(at),
                            });
                        }
                    }
                    let total = totals[1..].iter().fold(totals[0], |total, &part| k.add(total, part));
                    k.mul::<F32>(total, factor)
                });
                finisher.finish(k, unit, totals, &fetched, stores);
            }
        });
    }
}

/// Columns of a turn of a segment.
fn turn_cols(segment: &Segment, cols: u32) -> u32 {
    let partition = segment.format.tile_partition(cols);
    partition.block_cols / partition.parts * TURN_PARTS
}

/// What the segments of a kernel share: places in shared memory.
#[derive(Debug, Clone, Copy)]
struct Shared {
    /// Activations of each part, of each stage.
    rows: Reg<U32>,
    /// Weights of each warp, of each stage.
    slots: Reg<U32>,
    /// Each warp's room for what its lanes decode for each other.
    rooms: Reg<U32>,
    /// The barrier objects of [`Turns`], of each part.
    turns: Reg<U32>,
}

/// Where a warp is.
#[derive(Debug, Clone, Copy)]
struct Place {
    /// In its block.
    warp: Reg<U32>,
    lane: Reg<U32>,
    /// Its part of the block, and its place in there.
    part: Reg<U32>,
    of_part: Reg<U32>,
    /// Its part among all that share columns.
    sharer: Reg<U32>,
}

impl Kernel for Gemm {
    fn name(&self) -> String {
        let Way { warps, parts, cluster } = self.way;
        let more = [("p", parts), ("c", cluster)].into_iter().filter(|&(_, count)| count > 1);
        let more: String = more.map(|(letter, count)| format!("_{letter}{count}")).collect();
        format!("{}_w{warps}{more}", self.name)
    }

    fn params(&self) -> Vec<Param> {
        let (rows, cols) = (u64::from(padded(self.batch)), u64::from(self.cols));
        let (access, element) = (Access::Read, self.factor.element());
        let x = Param { name: "x", access, element, bytes: rows * cols * 2, align: 16 };
        let factors = f32_param("factors", access, rows, 4);
        params(vec![x, factors], (&self.segments, SLOT_ALIGN), self.batch.into())
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry {
            grid: [self.blocks().iter().sum::<u32>() * self.way.cluster, 1, 1],
            block: [self.threads(), 1, 1],
            dynamic_shared: self.shared_bytes(),
        }
    }

    fn cost(&self, _context: u64) -> Cost {
        cost(&self.params(), &self.segments, (self.batch, self.cols))
    }

    fn min_target(&self) -> Target {
        Self::TARGET
    }

    fn alone(&self) -> bool {
        true
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        if target != Self::TARGET {
            return Err(KernelError::Target { kernel: self.name(), needs: Self::TARGET, target });
        }
        emit::module_that_waits(self, target, |k, pointers| {
            emit::let_next_begin(k);
            let params = self.params();
            let pointer =
                |name: &str| params.iter().position(|param| param.name == name).map(|i| pointers[i]);
            k.minnctapersm(1);
            let rows = k.dynamic_shared(LINES);
            let Way { warps, parts, cluster } = self.way;
            let slots = k.add(rows, self.stages() * parts * self.rows_bytes());
            let rooms = k.add(slots, self.stages() * warps * self.slot_bytes());
            let turns = k.add(rows, self.staged_bytes());
            let shared = Shared { rows, slots, rooms, turns };
            Turns::init(k, (self.stages(), parts), turns, self.way.part_warps());
            k.barrier();
            if cluster > 1 {
                k.reqnctapercluster(cluster, 1, 1);
            }
            let blocks: Vec<_> = self.blocks().iter().map(|blocks| blocks * cluster).collect();
            deal(k, &blocks, &|k, index, first| self.segment(k, (index, first), shared, &pointer));
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_a_row_is_summed_depends_on_the_weights_alone_and_on_whether_rows_are_one_block() {
        let (q4, q6) = (ElementType::Q4_K, ElementType::Q6_K);
        let sharers = |kernel: Result<Gemm, KernelError>| kernel.expect("a kernel").way.sharers();
        for (element, shape) in
            [(q4, (4096, 4096)), (q6, (4096, 14_336)), (q4, (2048, 2048)), (q6, (1536, 8960))]
        {
            let of = |batch| sharers(Gemm::residual_projection(element, shape, batch, false));
            assert_eq!(of(32), 4, "{shape:?}");
            assert!((1..=128).step_by(7).all(|batch| of(batch) == of(32)), "{shape:?}");
            assert_eq!((of(129), of(512)), (1, 1));
        }
        // Tiles enough for all processors.
        assert_eq!(sharers(Gemm::gated_projection(q4, (14_336, 4096), 32)), 1);
        assert_eq!(sharers(Gemm::head(q6, (128_256, 4096), 1)), 1);
        // Fewer turns than parts.
        assert!(sharers(Gemm::residual_projection(q4, (64, 512), 16, false)) <= 2);
    }
}
