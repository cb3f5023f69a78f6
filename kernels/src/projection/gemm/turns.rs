//! Turns on their way into shared memory: activations of a block, and weights of each warp.

use ptx_builder::{KernelBuilder, MatrixDescriptor, Pred, Reg, Scope, Swizzle, U32, U64, Var};

use super::{GROUPS, Gemm, Place, Shared, turn_cols};
use crate::blocks::half::{self, STEP_COLS};
use crate::blocks::tile::{TurnWeights, Within};
use crate::projection::Segment;
use crate::projection::planes::{Planes, Source};
use crate::support::{ALL_LANES, WARP};

/// Bytes of a row of activations in a tile of shared memory, whose chunks of 16 bytes are swizzled.
const LINE: u32 = 128;

/// Bytes of a barrier object.
const OBJECT: u32 = 8;

/// Eight such rows, on a multiple of which tiles begin.
pub(super) const LINES: u32 = 8 * LINE;

/// The turns of a part in its stages. Warps meet twice a turn, and wait for nobody in between: when all copies of a turn
/// have come, and when all have multiplied it, so that its stage may have another. For each stage there is a barrier object of
/// each, at which warps arrive long before they wait.
pub(super) struct Turns {
    stages: u32,
    /// That of the turn that is multiplied.
    stage: Var<U32>,
    /// The parity of the objects' phases that belong to it.
    parity: Var<U32>,
    /// The objects of what has come, and behind them those of what is multiplied.
    objects: Reg<U32>,
    /// The lane that arrives for its warp.
    elected: Pred,
}

/// Stages of a turn: its own, that of the next turn, and that of the turn before, which is free for another.
pub(super) struct Stages {
    pub(super) current: Reg<U32>,
    pub(super) following: Reg<U32>,
    pub(super) freed: Reg<U32>,
}

impl Turns {
    /// Bytes of the objects for so many stages.
    pub(super) const fn bytes(stages: u32) -> u32 {
        2 * stages * OBJECT
    }

    /// Emits the objects of all parts, for `warps` warps each. They are there after a barrier.
    pub(super) fn init(k: &mut KernelBuilder, (stages, parts): (u32, u32), objects: Reg<U32>, warps: u32) {
        let tid = k.tid_x();
        let is_object = k.lt(tid, 2 * stages * parts);
        k.if_(is_object, |k| {
            let object = k.mad(tid, OBJECT, objects);
            k.mbarrier_init(object, warps);
        });
    }

    pub(super) fn new(k: &mut KernelBuilder, stages: u32, (place, shared): (Place, Shared)) -> Self {
        Self {
            stages,
            stage: k.named_var::<U32>("stage", 0),
            parity: k.named_var::<U32>("parity", 0),
            objects: k.mad(place.part, Self::bytes(stages), shared.turns),
            elected: k.eq(place.lane, 0),
        }
    }

    fn arrive(&self, k: &mut KernelBuilder, stage: Reg<U32>, behind: u32) {
        let object = k.mad(stage, OBJECT, self.objects);
        k.warp_sync(ALL_LANES);
        k.guarded(self.elected, |k| k.mbarrier_arrive(object + (behind * OBJECT) as i32));
    }

    /// This thread's copies to `stage` have come.
    pub(super) fn has_come(&self, k: &mut KernelBuilder, stage: Reg<U32>) {
        k.fence_proxy_async_shared();
        self.arrive(k, stage, 0);
    }

    /// Waits for the copies of all to this turn's stage.
    pub(super) fn begin(&self, k: &mut KernelBuilder) -> Stages {
        let current = k.get(self.stage);
        let (last, behind) = (k.eq(current, self.stages - 1), k.add(current, 1));
        let following = k.selp(last, 0, behind);
        let freed = match self.stages {
            // That behind the next one is that before this one.
            2 => following,
            stages => {
                let (first, before) = (k.eq(current, 0), k.sub(current, 1));
                k.selp(first, stages - 1, before)
            }
        };
        let object = k.mad(current, OBJECT, self.objects);
        let parity = k.get(self.parity);
        k.mbarrier_wait(object + 0, parity, Scope::Cta);
        Stages { current, following, freed }
    }

    /// Waits until all have multiplied the turn before this one, which was in stage `freed`.
    pub(super) fn is_free(&self, k: &mut KernelBuilder, freed: Reg<U32>) {
        let (stage, parity) = (k.get(self.stage), k.get(self.parity));
        let first = k.eq(stage, 0);
        let other = k.xor(parity, 1);
        let parity = k.selp(first, other, parity);
        let object = k.mad(freed, OBJECT, self.objects);
        k.mbarrier_wait(object + (self.stages * OBJECT) as i32, parity, Scope::Cta);
    }

    /// This warp has multiplied the turn.
    pub(super) fn end(&self, k: &mut KernelBuilder, current: Reg<U32>, following: Reg<U32>) {
        self.arrive(k, current, self.stages);
        let first = k.eq(following, 0);
        let parity = k.get(self.parity);
        let other = k.xor(parity, 1);
        let parity = k.selp(first, other, parity);
        k.set(self.parity, parity);
        k.set(self.stage, following);
    }
}

/// The activations of a part.
pub(super) struct Rows {
    block_rows: u32,
    turn_cols: u32,
    cols: u32,
    /// Bytes of a stage.
    bytes: u32,
    /// The first stage.
    shared: Reg<U32>,
    /// What this thread of the part copies next, and where in a stage.
    from: Var<U64>,
    to: Reg<U32>,
    /// The same in every other round, if rounds are no whole tiles of eight rows but halves: these are swizzled otherwise.
    other: Option<Reg<U32>>,
    /// Chunks that there are for all threads.
    chunks: u32,
    threads: u32,
    tid: Reg<U32>,
}

impl Rows {
    /// Of the activations `x`, from row `first` and turn `first_turn` on.
    pub(super) fn new(
        k: &mut KernelBuilder,
        (kernel, segment): (&Gemm, &Segment),
        (x, first, first_turn): (Reg<U64>, Reg<U32>, Reg<U32>),
        (place, shared): (Place, Shared),
    ) -> Self {
        let (block_rows, turn_cols) = (kernel.block_rows(), turn_cols(segment, kernel.cols));
        // Chunks of a row, a power of two; those of a round are whole rows.
        let of_row = turn_cols / 8;
        let tid = k.mad(place.of_part, WARP, place.lane);
        let row = k.shr(tid, of_row.ilog2());
        let chunk = k.and(tid, of_row - 1);
        let from = k.add(first, row);
        let from = k.ptr_index(x, from, kernel.cols * 2);
        let from = k.ptr_index(from, chunk, 16);
        let from = k.ptr_index(from, first_turn, turn_cols * 2);
        let tile = k.shr(chunk, 3);
        let of_line = k.and(chunk, 7);
        let swizzled = k.and(row, 7);
        let of_line = k.xor(of_line, swizzled);
        let to = k.mul(tile, block_rows * LINE);
        let to = k.mad(row, LINE, to);
        let to = k.mad(of_line, 16, to);
        let threads = kernel.way.part_warps() * WARP;
        let other = (!(threads / of_row).is_multiple_of(8)).then(|| k.xor(to, 4 * 16));
        Self {
            block_rows,
            turn_cols,
            cols: kernel.cols,
            bytes: kernel.way.parts * kernel.rows_bytes(),
            shared: k.mad(place.part, kernel.rows_bytes(), shared.rows),
            from: k.named_var::<U64>("next_rows", from),
            to,
            other,
            chunks: block_rows * of_row,
            threads,
            tid,
        }
    }

    /// Emits the copies of a part of the next turn into a stage, where it exists. There are [`GROUPS`] parts, in order.
    pub(super) fn fetch(&self, k: &mut KernelBuilder, stage: Reg<U32>, exists: Pred, part: u32) {
        let from = k.get(self.from);
        let to = k.mad(stage, self.bytes, self.shared);
        let places = [Some(self.to), self.other].map(|own| own.map(|own| k.add(to, own)));
        let rows = self.threads / (self.turn_cols / 8);
        let rounds = self.chunks.div_ceil(self.threads);
        for round in part * rounds / GROUPS..(part + 1) * rounds / GROUPS {
            let from = from + (round * rows * self.cols * 2) as i32;
            let Some(to) = places[(round % 2) as usize].or(places[0]) else { continue };
            let to = to + (round * rows * LINE) as i32;
            let has = if (round + 1) * self.threads <= self.chunks {
                exists
            } else {
                let has = k.lt(self.tid, self.chunks - round * self.threads);
                k.and_pred(exists, has)
            };
            k.guarded(has, |k| k.cp_async_cg(to, from));
        }
        if part + 1 == GROUPS {
            let next = k.add(from, u64::from(self.turn_cols * 2));
            k.set(self.from, next);
        }
    }

    /// Emits the descriptor of a stage's first step.
    pub(super) fn descriptor(&self, k: &mut KernelBuilder, stage: Reg<U32>) -> Reg<U64> {
        let start = k.mad(stage, self.bytes, self.shared);
        let layout =
            MatrixDescriptor { start: 0, leading: 16, stride: LINES, phase: 0, swizzle: Swizzle::Bytes128 };
        k.matrix_descriptor(start, layout)
    }

    /// Bytes from the first step to another one.
    pub(super) const fn step(&self, step: u32) -> u32 {
        let bytes = step * STEP_COLS * 2;
        bytes / LINE * (self.block_rows * LINE) + bytes % LINE
    }
}

/// A warp's weights: a tile.
pub(super) struct Weights<'a> {
    segment: &'a Segment,
    planes: Planes,
    slot_bytes: u32,
    /// Of the block.
    warps: u32,
    unit: Reg<U32>,
    lane: Reg<U32>,
    /// The slot of the first stage; those of the other warps follow.
    slot: Reg<U32>,
    room: Reg<U32>,
    /// For each plane.
    sources: Vec<Source>,
    /// For each plane what its source has of the next turn.
    next: Vec<Vec<Var<U64>>>,
}

impl<'a> Weights<'a> {
    /// The weights of the tile that begins with unit `unit`, from turn `first_turn` on.
    pub(super) fn new(
        k: &mut KernelBuilder,
        (kernel, segment): (&Gemm, &'a Segment),
        matrices: &[Reg<U64>],
        (unit, first_turn): (Reg<U32>, Reg<U32>),
        (place, shared): (Place, Shared),
    ) -> Self {
        let slot_bytes = kernel.slot_bytes();
        let mut weights = Self {
            segment,
            planes: Planes::new(segment, kernel.cols, 1),
            slot_bytes,
            warps: kernel.way.warps,
            unit,
            lane: place.lane,
            slot: k.mad(place.warp, slot_bytes, shared.slots),
            room: k.mad(place.warp, half::ROOM, shared.rooms),
            sources: Vec::new(),
            next: Vec::new(),
        };
        let first_row = segment.pairing.first_row(k, unit);
        weights.sources = weights.planes.sources(k, segment, matrices, place.lane);
        for (index, source) in weights.sources.iter().enumerate() {
            let next = source.from.iter().map(|&from| {
                let from = k.ptr_index(from, first_row, weights.planes.row_bytes(index));
                let from = k.ptr_index(from, first_turn, weights.planes.of[index].bytes);
                k.named_var::<U64>("next", from)
            });
            weights.next.push(next.collect());
        }
        weights
    }

    fn stage_slot(&self, k: &mut KernelBuilder, stage: Reg<U32>) -> Reg<U32> {
        k.mad(stage, self.warps * self.slot_bytes, self.slot)
    }

    /// Emits the copies of the next turn into a stage, where it exists.
    pub(super) fn fetch(&self, k: &mut KernelBuilder, stage: Reg<U32>, exists: Pred) {
        let slot = self.stage_slot(k, stage);
        for (index, source) in self.sources.iter().enumerate() {
            let (plane, row_bytes) = (self.planes.of[index], self.planes.row_bytes(index));
            let from = self.next[index].iter().map(|&next| match source.within {
                None => k.get(next) + 0,
                Some(within) => {
                    // Turns that begin in the middle of a span.
                    let from = k.and(next, !u64::from(plane.span - 1));
                    k.ptr_index(from, within, 1) + 0
                }
            });
            let from: Vec<_> = from.collect();
            source.copy(k, plane, (slot, exists), (&from, row_bytes, self.segment.pairing));
            for &next in &self.next[index] {
                k.update(next, |k, next| k.add(next, u64::from(plane.bytes)));
            }
        }
    }

    /// Where a stage has turn `turn`, and the warp's room at the lane's row.
    pub(super) fn turn(
        &self,
        k: &mut KernelBuilder,
        turn: Reg<U32>,
        stage: Reg<U32>,
    ) -> (TurnWeights, Reg<U32>) {
        let (g, t) = (k.shr(self.lane, 2), k.and(self.lane, 3));
        let slot = self.stage_slot(k, stage);
        let within = (0..self.planes.of.len()).map(|plane| self.within(k, plane, turn, g)).collect();
        (TurnWeights { lane: self.lane, g, t, slot, within }, k.mad(g, 16, self.room))
    }

    /// Where in their span a plane's rows begin.
    fn within(&self, k: &mut KernelBuilder, index: usize, turn: Reg<U32>, g: Reg<U32>) -> [Within; 2] {
        let (plane, row_bytes) = (self.planes.of[index], self.planes.row_bytes(index));
        if self.planes.begins_whole(index) {
            return [Within::Known(0); 2];
        }
        let at = k.mul(turn, plane.bytes);
        if row_bytes.is_multiple_of(plane.span) {
            return [Within::Varying(k.and(at, plane.span - 1)); 2];
        }
        let unit = k.add(self.unit, g);
        let first = self.segment.pairing.first_row(k, unit);
        [0, self.segment.pairing.distance()].map(|distance| {
            let row = k.add(first, distance);
            let at = k.mad(row, row_bytes, at);
            Within::Varying(k.and(at, plane.span - 1))
        })
    }
}
