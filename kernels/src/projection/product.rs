//! The products of a unit's two rows with the staged activations.
//!
//! A lane takes every `32 W`-th part of each row, or one part of one row of a bundle, whose rows follow each other in the
//! matrix. Its work is a sequence of *turns*; while it does one, the parts of the next ones are on their way into the
//! [ring](super::ring). Mostly a lane has one part of each row, so that all of them meet the same activations: those are
//! held in registers if there are few.

use std::ops::Range;

use ptx_builder::{B32, F32, KernelBuilder, Pred, Reg, U32, U64, Var};

use super::geometry::Spread;
use super::ring::{self, Lane, Layout, Slot};
use super::shape::MOST_ROWS;
use super::stage::{self, Stage, Staged};
use super::{Pairing, Segment};
use crate::blocks::partition::Partition;
use crate::blocks::{Decoder, Q8Activations};
use crate::emit;

/// The sums of a unit's two rows, for each activation row.
pub(super) type Sums = [Vec<Var<F32>>; 2];

/// What a thread knows of its segment.
pub(super) struct Product<'a> {
    segment: &'a Segment,
    partition: Partition,
    stage: Stage,
    /// Lanes that share a row.
    lanes: u32,
    /// Where not every lane has a part in the last step: whether this one has.
    last: Option<Pred>,
    turns: Vec<Turn>,
    /// Activation rows that are held in registers, as all units meet the same: few, where a lane has one part of each row.
    held: u32,
    decoder: Decoder,
    layout: Layout,
    /// Slots of a warp's ring.
    pub(super) slots: u32,
    lane: Lane,
    /// The lane's first part of row 0 of the first matrix, a pointer for each stream.
    first: Vec<Reg<U64>>,
    /// The same of the second matrix.
    second: Option<Vec<Reg<U64>>>,
    /// Bytes from the start of a staged row to the lane's first columns, 16 at a time.
    x: Vec<Reg<U32>>,
    /// The same for the first group's pair.
    group: Reg<U32>,
    /// The slot of the next turn, in bytes from the first, where it is not known.
    current: Option<Var<U32>>,
}

/// What is multiplied together: a part of one row or of both.
#[derive(Debug, Clone, Copy)]
struct Turn {
    step: u32,
    /// The first of [`rows_of_turn`] rows.
    row: usize,
}

/// Units that a slot of warps works on, one after the other.
#[derive(Debug, Clone, Copy)]
pub(super) struct Units {
    pub(super) end: Reg<U32>,
    pub(super) stride: u32,
}

/// What the emitters of a product need to know of the thread.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thread {
    /// Its warp among those that share a bundle.
    pub(super) warp: Reg<U32>,
    /// This thread among the lanes that share a bundle.
    pub(super) lane: Reg<U32>,
    /// Among those that share a row.
    pub(super) lane_of_row: Reg<U32>,
    pub(super) lane_in_warp: Reg<U32>,
    /// Its warp's ring.
    pub(super) ring: Reg<U32>,
}

/// Activation rows that registers have room for.
const MOST_HELD: u32 = 2;

/// The activations that a lane's parts meet.
pub(super) struct Met {
    staged: Staged,
    /// What is the same for all units, for each activation row, or nothing.
    held: Vec<Q8Activations>,
}

/// Rows of a turn: with one activation row they come one by one, so that little is on its way before the activations; for
/// several it pays to load those once for both.
const fn rows_of_turn(batch: u32) -> usize {
    if batch == 1 { 1 } else { 2 }
}

/// Blocks from a lane's part of one step to that of the next.
const fn advance(spread: &Spread, partition: &Partition) -> u32 {
    spread.lanes() / partition.parts
}

fn layout(segment: &Segment, spread: &Spread, cols: u32) -> Layout {
    let partition = segment.format.partition(cols);
    let advance = advance(spread, &partition);
    Layout::new(partition, cols, advance)
}

/// Bytes of one slot of a warp.
pub(super) fn slot_bytes(segment: &Segment, spread: &Spread, stage: Stage) -> u32 {
    layout(segment, spread, stage.cols).bytes() * rows_of_turn(stage.batch) as u32
}

impl<'a> Product<'a> {
    /// `matrices` are those of the segment, the ring of each warp has `ring_bytes`.
    pub(super) fn new(
        k: &mut KernelBuilder,
        segment: &'a Segment,
        (stage, spread, ring_bytes): (Stage, &Spread, u32),
        matrices: &[Reg<U64>],
        thread: Thread,
    ) -> Self {
        let cols = stage.cols;
        let partition = segment.format.partition(cols);
        let lanes = spread.lanes();
        let part = k.and(thread.lane, partition.parts - 1);
        let [block, block_of_row] =
            [thread.lane, thread.lane_of_row].map(|lane| k.shr(lane, partition.parts.ilog2()));
        let layout = layout(segment, spread, cols);
        let rows = segment.matrix_rows();
        let mut pointers =
            matrices.iter().map(|&matrix| layout.pointers(k, matrix, rows, (thread, [block, part])));
        let (first, second) = (pointers.next().unwrap_or_default(), pointers.next());
        let parts = partition.parts_of_row(cols);
        let steps = parts.div_ceil(lanes);
        let lane = layout.lane(k, (thread, part), (spread.bundle, steps - 1, advance(spread, &partition)));
        let rest = spread.bundle * parts - (steps - 1) * lanes;
        let last = (rest < lanes).then(|| k.lt(thread.lane, rest));
        let col = match partition.col.emit(k, part) {
            Some(col) => k.mad(block_of_row, partition.block_cols, col),
            None => k.mul(block_of_row, partition.block_cols),
        };
        let held = if steps == 1 && stage.batch <= MOST_HELD { stage.batch } else { 0 };
        let col = match last {
            // All lanes load what is held.
            Some(has) if held > 0 => k.selp(has, col, 0),
            _ => col,
        };
        let x = partition
            .runs
            .iter()
            .flat_map(|run| (run.col..run.col + run.len).step_by(16))
            .map(|offset| {
                let col = if offset == 0 { col } else { k.add(col, offset) };
                stage::swizzled(k, col)
            })
            .collect();
        let group = k.shr(col, 5);
        let group = k.shl(group, 3);
        let decoder = segment.format.decoder(k, part);
        let rows = (0..2).step_by(rows_of_turn(stage.batch));
        let turns: Vec<Turn> =
            (0..steps).flat_map(|step| rows.clone().map(move |row| Turn { step, row })).collect();
        let slots = ring_bytes / (layout.bytes() * rows_of_turn(stage.batch) as u32);
        let current = (!(turns.len() as u32).is_multiple_of(slots)).then(|| k.named_var::<U32>("slot", 0));
        Self {
            segment,
            partition,
            stage,
            lanes,
            last,
            turns,
            held,
            decoder,
            layout,
            slots,
            lane,
            first,
            second,
            x,
            group,
            current,
        }
    }

    const fn slot_bytes(&self) -> u32 {
        self.layout.bytes() * rows_of_turn(self.stage.batch) as u32
    }

    /// Emits the copies of the turns `slots` from the first of `unit` on, each into the slot of its number.
    pub(super) fn fill(&self, k: &mut KernelBuilder, slots: Range<u32>, (unit, units): (Reg<U32>, Units)) {
        for ahead in slots {
            let slot = Slot::new(None, ahead * self.slot_bytes());
            self.fetch(k, slot, ahead, (unit, units));
        }
    }

    /// Emits the loads of the activations that are held.
    pub(super) fn hold(&self, k: &mut KernelBuilder, staged: Staged) -> Met {
        Met { staged, held: (0..self.held).map(|b| self.activations(k, staged, 0, b)).collect() }
    }

    /// Emits a unit's products, added to `sums`, and the copies of turns to come.
    pub(super) fn unit_products(
        &self,
        k: &mut KernelBuilder,
        met: &Met,
        (unit, units): (Reg<U32>, Units),
        sums: &Sums,
    ) {
        // Of what is not copied ahead.
        let pointers = if self.layout.has_direct() { self.unit(k, unit) } else { <[Vec<_>; 2]>::default() };
        for (index, &turn) in (0u32..).zip(&self.turns) {
            ring::arrived(k, self.slots - 1);
            let slot = match self.current {
                Some(current) => Slot::new(Some(current.live()), 0),
                None => Slot::new(None, index % self.slots * self.slot_bytes()),
            };
            let products = |k: &mut KernelBuilder| self.products(k, met, (slot, &pointers, turn), sums);
            emit::where_(k, self.guard(turn), products);
            ring::read_by_all(k);
            self.fetch(k, slot, index + self.slots, (unit, units));
            if let Some(current) = self.current {
                k.update(current, |k, current| {
                    let next = k.add(current, self.slot_bytes());
                    let wraps = k.ge(next, self.slots * self.slot_bytes());
                    k.selp(wraps, 0, next)
                });
            }
        }
    }

    /// Emits the copies of turn number `ahead` from the first turn of `unit` on, which may be one of a later unit or of
    /// none.
    fn fetch(&self, k: &mut KernelBuilder, slot: Slot, ahead: u32, (unit, units): (Reg<U32>, Units)) {
        let n_turns = self.turns.len() as u32;
        let (later, turn) = (ahead / n_turns, self.turns[(ahead % n_turns) as usize]);
        let unit = if later == 0 { unit } else { k.add(unit, later * units.stride) };
        let exists = k.lt(unit, units.end);
        let is_last = self.turns.last().is_some_and(|last| last.step == turn.step);
        let pointers = self.unit(k, unit);
        for (index, row) in (0..).zip(turn.row..turn.row + rows_of_turn(self.stage.batch)) {
            let offsets = self.offsets(turn, row);
            let slot = slot.after(index * self.layout.bytes());
            let guard = (exists, self.guard(turn), is_last);
            self.layout.copy(k, (&self.lane, slot), (&pointers[row], &offsets), guard);
        }
        k.cp_async_commit();
    }

    /// Where this lane has a part, if not every lane has.
    fn guard(&self, turn: Turn) -> Option<Pred> {
        let last_step = self.turns.last().map(|turn| turn.step);
        self.last.filter(|_| Some(turn.step) == last_step)
    }

    /// The pointers to a unit's two rows.
    fn unit(&self, k: &mut KernelBuilder, unit: Reg<U32>) -> [Vec<Reg<U64>>; 2] {
        let row = self.segment.pairing.first_row(k, unit);
        let row_bytes: Vec<u32> = self.partition.row_bytes(self.stage.cols).collect();
        let mut rows = |starts: &[Reg<U64>]| -> Vec<Reg<U64>> {
            starts.iter().zip(&row_bytes).map(|(&start, &bytes)| k.ptr_index(start, row, bytes)).collect()
        };
        let first = rows(&self.first);
        let second = self.second.as_ref().map(|starts| rows(starts)).unwrap_or_else(|| first.clone());
        [first, second]
    }

    /// From the pointers of a unit's row to a turn's part, for each stream.
    fn offsets(&self, turn: Turn, row: usize) -> Vec<i32> {
        let blocks = turn.step * self.lanes / self.partition.parts;
        let rows = if row == 1 { self.segment.pairing.distance() } else { 0 };
        let bytes = self.partition.block_bytes().zip(self.partition.row_bytes(self.stage.cols));
        bytes.map(|(block, row)| (blocks * block + rows * row) as i32).collect()
    }

    /// The activations of row `b` that the lane's part of a step meets.
    fn activations(&self, k: &mut KernelBuilder, staged: Staged, step: u32, b: u32) -> Q8Activations {
        let cols = step * self.lanes / self.partition.parts * self.partition.block_cols;
        let offset = (b * self.stage.quant_row_bytes() + cols) as i32;
        let mut words = Vec::new();
        for &x in &self.x {
            let at = k.add(staged.quants, x);
            words.extend(k.ld_shared_v4::<B32>(at + offset));
        }
        let offset = (b * self.stage.group_row_bytes() + cols / 4) as i32;
        let at = k.add(staged.groups, self.group);
        let mut groups = Vec::new();
        for load in self.segment.format.group_loads() {
            let at = at + (offset + load.offset);
            match load.len {
                4 => groups.extend(k.ld_shared_v4::<F32>(at)),
                2 => groups.extend(k.ld_shared_v2::<F32>(at)),
                _ => groups.push(k.ld_shared::<F32>(at)),
            }
        }
        Q8Activations { words, groups }
    }

    /// One turn's parts times the activations.
    fn products(
        &self,
        k: &mut KernelBuilder,
        met: &Met,
        (slot, pointers, turn): (Slot, &[Vec<Reg<U64>>; 2], Turn),
        sums: &Sums,
    ) {
        let rows = turn.row..turn.row + rows_of_turn(self.stage.batch);
        let part = |(index, row): (u32, usize)| {
            let slot = slot.after(index * self.layout.bytes());
            let raw = self.layout.read(k, (&self.lane, slot), (&pointers[row], &self.offsets(turn, row)));
            (row, self.decoder.q8_part(k, &raw))
        };
        let parts: Vec<_> = (0..).zip(rows).map(part).collect();
        for b in 0..self.stage.batch {
            let dots = |k: &mut KernelBuilder, x: &Q8Activations| {
                for (row, part) in &parts {
                    k.update(sums[*row][b as usize], |k, sum| self.decoder.dot_q8(k, part, x, sum));
                }
            };
            match met.held.get(b as usize) {
                Some(x) => dots(k, x),
                None => {
                    let x = self.activations(k, met.staged, turn.step, b);
                    dots(k, &x);
                }
            }
        }
    }
}

impl Pairing {
    /// The first of a unit's rows.
    pub(super) fn first_row(self, k: &mut KernelBuilder, unit: Reg<U32>) -> Reg<U32> {
        match self {
            Self::Neighbours => k.shl(unit, 1),
            Self::Matrices => unit,
            Self::Halves { head_dim } => {
                let head = emit::quotient_below(k, unit, MOST_ROWS as u64 / 2, head_dim / 2);
                k.mad(head, head_dim / 2, unit)
            }
        }
    }

    /// Rows from a unit's first to that of the next unit, except at the end of a head.
    pub(super) const fn step(self) -> u32 {
        match self {
            Self::Neighbours => 2,
            Self::Matrices | Self::Halves { .. } => 1,
        }
    }

    /// Rows from a unit's first to its second in the same matrix.
    pub(super) const fn distance(self) -> u32 {
        match self {
            Self::Neighbours => 1,
            Self::Matrices => 0,
            Self::Halves { head_dim } => head_dim / 2,
        }
    }
}
