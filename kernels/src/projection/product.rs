//! The products of a unit's two rows with the staged activations.
//!
//! A lane takes every `32 W`-th part of each row. While it multiplies one turn's parts the next turn's are on their way,
//! and while it multiplies the last ones, those of the next unit.

use ptx_builder::{B32, F32, KernelBuilder, Pred, Reg, S32, U16, U32, U64, Var};

use super::geometry::Spread;
use super::stage::{self, Stage, Staged};
use super::{Pairing, Segment};
use crate::blocks::partition::Partition;
use crate::blocks::{Decoder, Q8Activations, Raw};
use crate::support::WARP;

/// The two sums of a unit, for each activation row.
pub(super) type Sums = Vec<[Var<F32>; 2]>;

/// What a thread knows of its segment.
pub(super) struct Product<'a> {
    segment: &'a Segment,
    partition: Partition,
    cols: u32,
    stage: Stage,
    /// Lanes that share a row.
    lanes: u32,
    /// Where not every lane has a part in the last step: whether this one has.
    last: Option<Pred>,
    steps: u32,
    decoder: Decoder,
    /// The lane's first part of row 0 of the first matrix, a pointer for each stream.
    first: Vec<Reg<U64>>,
    /// The same of the second matrix.
    second: Option<Vec<Reg<U64>>>,
    /// Bytes from the start of a staged row to the lane's first columns, 16 at a time.
    x: Vec<Reg<U32>>,
    /// The same for the first group's pair.
    group: Reg<U32>,
}

/// The parts of one turn, on their way.
struct Loaded(Vec<Raw>);

/// The first turn of a unit, kept across the loop over units.
pub(super) struct Ahead(Vec<RawVars>);

/// What is loaded together.
#[derive(Clone, Copy)]
struct Turn {
    step: u32,
    /// The first of the rows, of which there are [`Product::rows_at_once`].
    row: usize,
}

/// A [`Raw`] that is assigned again.
struct RawVars {
    words: Vec<Var<B32>>,
    halves: Vec<Var<U16>>,
    bytes: Vec<Var<S32>>,
}

impl<'a> Product<'a> {
    /// `matrices` are those of the segment; `lane` is this thread among the lanes that share a row.
    pub(super) fn new(
        k: &mut KernelBuilder,
        segment: &'a Segment,
        (stage, spread): (Stage, &Spread),
        matrices: &[Reg<U64>],
        lane: Reg<U32>,
    ) -> Self {
        let cols = stage.cols;
        let partition = segment.format.partition(cols);
        let lanes = spread.warps_per_unit * WARP;
        let part = k.and(lane, partition.parts - 1);
        let block = k.shr(lane, partition.parts.ilog2());
        // A lane beyond the parts of a short row never loads; its pointers only have to be computable.
        let zero = k.imm::<U32>(0);
        let mut pointers =
            |matrix| partition.pointers(k, matrix, (segment.matrix_rows(), cols), [zero, block, part]);
        let first = pointers(matrices[0]);
        let second = matrices.get(1).map(|&matrix| pointers(matrix));
        let col = match partition.col.emit(k, part) {
            Some(col) => k.mad(block, partition.block_cols, col),
            None => k.mul(block, partition.block_cols),
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
        let parts = partition.parts_of_row(cols);
        let steps = spread.steps(&partition, cols);
        let rest = parts - (steps - 1) * lanes;
        let last = (rest < lanes).then(|| k.lt(lane, rest));
        let decoder = segment.format.decoder(k, part);
        Self { segment, partition, cols, stage, lanes, last, steps, decoder, first, second, x, group }
    }

    /// Rows of a turn: one at a time takes fewer registers, both together share the loads of activations.
    const fn rows_at_once(&self) -> usize {
        if self.stage.batch == 1 { 1 } else { 2 }
    }

    /// Emits the loads of a unit's first turn.
    pub(super) fn begin(&self, k: &mut KernelBuilder, unit: Reg<U32>) -> Ahead {
        let pointers = self.unit(k, unit);
        let Loaded(rows) = self.load(k, &pointers, Turn { step: 0, row: 0 });
        let vars = |raw: Raw| RawVars {
            words: raw.words.into_iter().map(|word| k.var::<B32>(word)).collect(),
            halves: raw.halves.into_iter().map(|half| k.var::<U16>(half)).collect(),
            bytes: raw.bytes.into_iter().map(|byte| k.var::<S32>(byte)).collect(),
        };
        Ahead(rows.into_iter().map(vars).collect())
    }

    /// Emits a unit's products, added to `sums`, and the first loads of unit `next`.
    pub(super) fn unit_products(
        &self,
        k: &mut KernelBuilder,
        staged: Staged,
        [unit, next]: [Reg<U32>; 2],
        (ahead, sums): (&Ahead, &Sums),
    ) {
        let pointers = self.unit(k, unit);
        let rows = (0..2).step_by(self.rows_at_once());
        let turns: Vec<Turn> =
            (0..self.steps).flat_map(|step| rows.clone().map(move |row| Turn { step, row })).collect();
        let mut now = ahead.now();
        for (index, &turn) in turns.iter().enumerate() {
            let after = match turns.get(index + 1) {
                Some(&turn) => self.load(k, &pointers, turn),
                None => {
                    let pointers = self.unit(k, next);
                    self.load(k, &pointers, turns[0])
                }
            };
            let products = |k: &mut KernelBuilder| self.products(k, staged, turn, &now, sums);
            match self.guard(turn) {
                Some(last) => k.if_(last, products),
                None => products(k),
            }
            now = after;
        }
        ahead.set(k, &now);
    }

    /// Where this lane has a part, if not every lane has.
    fn guard(&self, turn: Turn) -> Option<Pred> {
        self.last.filter(|_| turn.step + 1 == self.steps)
    }

    /// The pointers to a unit's two rows.
    fn unit(&self, k: &mut KernelBuilder, unit: Reg<U32>) -> [Vec<Reg<U64>>; 2] {
        let row = self.segment.pairing.first_row(k, unit);
        let row_bytes: Vec<u32> = self.partition.row_bytes(self.cols).collect();
        let mut rows = |starts: &[Reg<U64>]| -> Vec<Reg<U64>> {
            starts.iter().zip(&row_bytes).map(|(&start, &bytes)| k.ptr_index(start, row, bytes)).collect()
        };
        let first = rows(&self.first);
        let second = self.second.as_ref().map(|starts| rows(starts)).unwrap_or_else(|| first.clone());
        [first, second]
    }

    fn load(&self, k: &mut KernelBuilder, pointers: &[Vec<Reg<U64>>; 2], turn: Turn) -> Loaded {
        let blocks = turn.step * self.lanes / self.partition.parts;
        let distance = self.segment.pairing.distance();
        let mut row = |index: usize| {
            let rows = if index == 1 { distance } else { 0 };
            let offsets: Vec<i32> = self
                .partition
                .block_bytes()
                .zip(self.partition.row_bytes(self.cols))
                .map(|(block, row)| (blocks * block + rows * row) as i32)
                .collect();
            self.partition.load(k, &pointers[index], &offsets, self.guard(turn))
        };
        Loaded((turn.row..turn.row + self.rows_at_once()).map(&mut row).collect())
    }

    /// One turn's parts times the activations.
    fn products(&self, k: &mut KernelBuilder, staged: Staged, turn: Turn, loaded: &Loaded, sums: &Sums) {
        let parts: Vec<_> = loaded.0.iter().map(|raw| self.decoder.q8_part(k, raw)).collect();
        let cols = turn.step * self.lanes / self.partition.parts * self.partition.block_cols;
        for (b, sums) in (0..).zip(sums) {
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
            let activations = Q8Activations { words, groups };
            for (part, &sum) in parts.iter().zip(&sums[turn.row..]) {
                k.update(sum, |k, sum| self.decoder.dot_q8(k, part, &activations, sum));
            }
        }
    }
}

impl Ahead {
    fn now(&self) -> Loaded {
        let raw = |vars: &RawVars| Raw {
            words: vars.words.iter().map(|word| word.live()).collect(),
            halves: vars.halves.iter().map(|half| half.live()).collect(),
            bytes: vars.bytes.iter().map(|byte| byte.live()).collect(),
        };
        Loaded(self.0.iter().map(raw).collect())
    }

    fn set(&self, k: &mut KernelBuilder, loaded: &Loaded) {
        for (vars, raw) in self.0.iter().zip(&loaded.0) {
            vars.words.iter().zip(&raw.words).for_each(|(&var, &word)| k.set(var, word));
            vars.halves.iter().zip(&raw.halves).for_each(|(&var, &half)| k.set(var, half));
            vars.bytes.iter().zip(&raw.bytes).for_each(|(&var, &byte)| k.set(var, byte));
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
                let head = k.div(unit, head_dim / 2);
                k.mad(head, head_dim / 2, unit)
            }
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
