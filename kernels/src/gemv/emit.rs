//! The kernel around the formats: who reads what, the loop along a row, the sum over threads.

use ptx_builder::{B32, F32, KernelBuilder, Pred, Reg, U32, U64, Var};

use super::geometry::{Batch, Spread};
use super::{Activations, Matrix};
use crate::blocks::partition::Partition;
use crate::blocks::{Decoder, Q8Activations, Raw};
use crate::support::WARP;

/// What is known when the kernel is emitted.
pub(super) struct Emitter {
    matrix: Matrix,
    partition: Partition,
    spread: Spread,
    activations: Activations,
}

/// Where a thread stands.
struct Place {
    /// The thread within those that share its rows.
    thread: Reg<U32>,
    /// These threads' number within the block.
    group: Reg<U32>,
    /// The first of its rows. In groups beyond the last row these are the last group's.
    row: Reg<U32>,
    /// Whether the group has rows of its own; `None` if all have.
    has_rows: Option<Pred>,
    decoder: Decoder,
}

/// Where a thread reads: its part of the first weight row, the same columns of the first activation row.
#[derive(Clone)]
struct Cursor {
    /// One for each stream of the partition.
    weights: Vec<Reg<U64>>,
    /// f32 values or quants.
    x: Reg<U64>,
    /// The scales of quantised activations.
    groups: Option<Reg<U64>>,
}

/// Distances in bytes.
struct Strides {
    /// From a part of a thread to its next, in each stream.
    weights: Vec<u32>,
    /// The same for `x`.
    x: u32,
    /// The same for `groups`.
    groups: u32,
    /// From an activation row to the next.
    x_row: u32,
}

/// `sums[r][b]`: of weight row `r` with activation row `b`.
type Sums = Vec<Vec<Var<F32>>>;

impl Emitter {
    pub(super) fn new(matrix: &Matrix, activations: Activations) -> Self {
        Self { matrix: *matrix, partition: matrix.partition(), spread: matrix.spread(), activations }
    }

    /// Emits the kernel's body; the pointers are those of its parameters.
    pub(super) fn emit(&self, k: &mut KernelBuilder, [w, x, y]: [Reg<U64>; 3]) {
        let (place, cursor) = self.place(k, w, x);
        let (rows, batch) = (self.spread.rows_per_thread, self.matrix.batch);
        let mut sum = |r, b| k.named_var::<F32>(&format!("sum{r}_{b}"), 0.0f32);
        let sums: Sums = (0..rows).map(|r| (0..batch).map(|b| sum(r, b)).collect()).collect();

        let walk = self.spread.walk(self.partition.parts_of_row(self.matrix.cols));
        let cursor = if walk.trips > 0 {
            let moving = cursor.moving(k);
            let cursor = moving.now();
            let trip = Batch { steps: 0..walk.unroll, some: None };
            k.for_range::<U32>(0u32, walk.trips, 1u32, |k, _| {
                self.batch(k, &place, &cursor, &trip, &sums);
                moving.advance(k, &self.strides(), walk.unroll);
            });
            cursor
        } else {
            cursor
        };
        for batch in &walk.batches {
            self.batch(k, &place, &cursor, batch, &sums);
        }
        let totals = self.sum_over_lanes(k, &sums);
        if self.spread.warps_per_row() == 1 {
            self.store(k, &place, y, &totals);
        } else {
            self.sum_over_warps_and_store(k, &place, y, &totals);
        }
    }

    /// The thread's rows, and its first part in the first of them.
    fn place(&self, k: &mut KernelBuilder, w: Reg<U64>, x: Reg<U64>) -> (Place, Cursor) {
        let (spread, partition) = (&self.spread, &self.partition);
        let (per_row, groups) = (spread.threads_per_row, spread.groups(self.matrix.rows));
        k.comment("a group of threads shares rows");
        let (tid, block) = (k.tid_x(), k.ctaid_x());
        let thread = k.and::<U32>(tid, per_row - 1);
        k.name(thread, "thread");
        let group_in_block = k.shr::<U32>(tid, per_row.ilog2());
        let group = k.mad::<U32>(block, spread.groups_per_block(), group_in_block);
        let (group, has_rows) = if groups.is_multiple_of(spread.groups_per_block()) {
            (group, None)
        } else {
            k.comment("groups beyond the last rows repeat them and store nothing");
            let has_rows = k.lt::<U32>(group, groups);
            (k.min::<U32>(group, groups - 1), Some(has_rows))
        };
        let row = k.mul::<U32>(group, spread.rows_per_thread);
        k.name(row, "row");

        k.comment("the thread's first part of them");
        let part = k.and::<U32>(thread, partition.parts - 1);
        let block = k.shr::<U32>(thread, partition.parts.ilog2());
        let weights = partition.pointers(k, w, (self.matrix.rows, self.matrix.cols), [row, block, part]);
        let col = match partition.col.emit(k, part) {
            Some(col) => k.mad::<U32>(block, partition.block_cols, col),
            None => k.mul::<U32>(block, partition.block_cols),
        };
        k.name(col, "col");
        let (x, groups) = match self.activations {
            Activations::F32 { .. } => (k.ptr_index(x, col, 4), None),
            Activations::Q8 { .. } => {
                let group = k.shr::<U32>(col, 5u32);
                let scales = k.ptr_index(x, group, 8);
                let scales = k.add::<U64>(scales, u64::from(self.matrix.cols));
                (k.ptr_index(x, col, 1), Some(scales))
            }
        };
        let decoder = self.matrix.format.decoder(k, part);
        (Place { thread, group: group_in_block, row, has_rows, decoder }, Cursor { weights, x, groups })
    }

    fn strides(&self) -> Strides {
        let blocks = self.spread.threads_per_row / self.partition.parts;
        let (step, row) = (blocks * self.partition.block_cols, self.matrix.cols);
        let weights = self.partition.block_bytes().map(|bytes| blocks * bytes).collect();
        let groups = step / 32 * 8;
        match self.activations {
            Activations::F32 { .. } => Strides { weights, x: step * 4, groups, x_row: row * 4 },
            Activations::Q8 { .. } => Strides { weights, x: step, groups, x_row: row / 32 * 40 },
        }
    }

    /// Some steps: the loads of all their weights, then the products of each.
    fn batch(&self, k: &mut KernelBuilder, place: &Place, cursor: &Cursor, batch: &Batch, sums: &Sums) {
        let strides = self.strides();
        let some = batch.some.map(|threads| (batch.steps.end, Some(k.lt::<U32>(place.thread, threads))));
        let steps: Vec<_> = batch.steps.clone().map(|step| (step, None)).chain(some).collect();
        let row_bytes: Vec<u32> = self.partition.row_bytes(self.matrix.cols).collect();
        let mut load = |step: u32, guard| {
            let offsets = |r: u32| -> Vec<i32> {
                let streams = row_bytes.iter().zip(&strides.weights);
                streams.map(|(row, stride)| (r * row + step * stride) as i32).collect()
            };
            let rows = (0..self.spread.rows_per_thread).map(offsets);
            rows.map(|offsets| self.partition.load(k, &cursor.weights, &offsets, guard)).collect::<Vec<_>>()
        };
        let raws: Vec<Vec<Raw>> = steps.iter().map(|&(step, guard)| load(step, guard)).collect();
        for (&(step, guard), raw) in steps.iter().zip(&raws) {
            let x = cursor.x + (step * strides.x) as i32;
            let products = |k: &mut KernelBuilder| match cursor.groups {
                None => self.products_f32(k, place, raw, x, sums),
                Some(groups) => {
                    self.products_q8(k, place, raw, x, groups + (step * strides.groups) as i32, sums)
                }
            };
            match guard {
                Some(p) => k.if_(p, products),
                None => products(k),
            }
        }
    }

    /// One part of each row times f32 activations: four columns at a time, so that few weights are held at once.
    fn products_f32(&self, k: &mut KernelBuilder, place: &Place, raw: &[Raw], x: Addr, sums: &Sums) {
        let factors: Vec<_> = raw.iter().map(|raw| place.decoder.factors(k, raw)).collect();
        for (index, run) in self.partition.runs.iter().enumerate() {
            for quad in 0..run.len.div_ceil(4) {
                let col = run.col + 4 * quad;
                let weights: Vec<Vec<Reg<F32>>> = raw
                    .iter()
                    .zip(&factors)
                    .map(|(raw, factors)| place.decoder.values(k, raw, factors, index, quad as usize))
                    .collect();
                for b in 0..self.matrix.batch as usize {
                    let at = x + (b as u32 * self.strides().x_row + 4 * col) as i32;
                    let x = load_f32(k, at, run.len.min(4));
                    for (weights, sums) in weights.iter().zip(sums) {
                        for (&w, &x) in weights.iter().zip(&x) {
                            k.update(sums[b], |k, sum| k.fma::<F32>(w, x, sum));
                        }
                    }
                }
            }
        }
    }

    /// One part of each row times quantised activations.
    fn products_q8(
        &self,
        k: &mut KernelBuilder,
        place: &Place,
        raw: &[Raw],
        x: Addr,
        groups: Addr,
        sums: &Sums,
    ) {
        let parts: Vec<_> = raw.iter().map(|raw| place.decoder.q8_part(k, raw)).collect();
        for b in 0..self.matrix.batch as usize {
            let row = (b as u32 * self.strides().x_row) as i32;
            let mut words = Vec::new();
            for run in &self.partition.runs {
                let at = x + (row + run.col as i32);
                match self.activations {
                    Activations::Q8 { align: 16 } => {
                        for byte in (0..run.len as i32).step_by(16) {
                            words.extend(k.ld_global_v4::<B32>(at + byte));
                        }
                    }
                    _ => {
                        for byte in (0..run.len as i32).step_by(8) {
                            words.extend(k.ld_global_v2::<B32>(at + byte));
                        }
                    }
                }
            }
            let mut scales = Vec::new();
            for load in self.matrix.format.group_loads() {
                scales.extend(load_f32(k, groups + (row + load.offset), load.len));
            }
            let activations = Q8Activations { words, groups: scales };
            for (part, sums) in parts.iter().zip(sums) {
                k.update(sums[b], |k, sum| place.decoder.dot_q8(k, part, &activations, sum));
            }
        }
    }

    /// The sums of the lanes that share a row, as a tree; every lane has them.
    fn sum_over_lanes(&self, k: &mut KernelBuilder, sums: &Sums) -> Vec<Vec<Reg<F32>>> {
        k.comment("the sums of the lanes of a group");
        let lanes = self.spread.threads_per_row.min(WARP);
        let mut total = |sum: Var<F32>| {
            let mut total = sum.live();
            let mut distance = lanes / 2;
            while distance > 0 {
                let other = k.shfl_bfly::<F32>(total, distance);
                total = k.add::<F32>(total, other);
                distance /= 2;
            }
            total
        };
        sums.iter().map(|sums| sums.iter().map(|&sum| total(sum)).collect()).collect()
    }

    /// The first thread of a group stores.
    fn store(&self, k: &mut KernelBuilder, place: &Place, y: Reg<U64>, totals: &[Vec<Reg<F32>>]) {
        let first = k.eq::<U32>(place.thread, 0u32);
        let stores = self.and_has_rows(k, place, first);
        k.if_(stores, |k| {
            let y = k.ptr_index(y, place.row, 4);
            for b in 0..self.matrix.batch {
                let at = y + (b * self.matrix.rows * 4) as i32;
                let rows: Vec<Reg<F32>> = totals.iter().map(|totals| totals[b as usize]).collect();
                match rows[..] {
                    [a, b] => k.st_global_v2::<F32>(at, [a, b]),
                    _ => rows.iter().for_each(|&value| k.st_global::<F32>(at, value)),
                }
            }
        });
    }

    /// The warps of a group leave their sums in shared memory; then each of its first threads adds up one output.
    fn sum_over_warps_and_store(
        &self,
        k: &mut KernelBuilder,
        place: &Place,
        y: Reg<U64>,
        totals: &[Vec<Reg<F32>>],
    ) {
        let (rows, batch) = (self.spread.rows_per_thread, self.matrix.batch);
        let (outputs, warps) = (rows * batch, self.spread.warps_per_row());
        let sums = k.shared::<F32>("warp_sums", self.spread.block_threads / WARP * outputs);
        let tid = k.tid_x();
        let lane = k.and::<U32>(tid, WARP - 1);
        let first = k.eq::<U32>(lane, 0u32);
        k.if_(first, |k| {
            let warp = k.shr::<U32>(tid, WARP.ilog2());
            let start = k.mul::<U32>(warp, outputs);
            let at = k.shared_index(sums, start);
            for b in 0..batch {
                for (r, totals) in (0..rows).zip(totals) {
                    k.st_shared::<F32>(at + ((b * rows + r) * 4) as i32, totals[b as usize]);
                }
            }
        });
        k.barrier();
        let has_output = k.lt::<U32>(place.thread, outputs);
        let stores = self.and_has_rows(k, place, has_output);
        k.if_(stores, |k| {
            let start = k.mad::<U32>(place.group, warps * outputs, place.thread);
            let at = k.shared_index(sums, start);
            let mut total = k.ld_shared::<F32>(at);
            for warp in 1..warps {
                let other = k.ld_shared::<F32>(at + (warp * outputs * 4) as i32);
                total = k.add::<F32>(total, other);
            }
            let b = k.shr::<U32>(place.thread, rows.ilog2());
            let r = k.and::<U32>(place.thread, rows - 1);
            let y = k.ptr_index(y, place.row, 4);
            let y = k.ptr_index(y, r, 4);
            let y = k.ptr_index(y, b, self.matrix.rows * 4);
            k.st_global::<F32>(y, total);
        });
    }

    fn and_has_rows(&self, k: &mut KernelBuilder, place: &Place, p: Pred) -> Pred {
        match place.has_rows {
            Some(has_rows) => k.and_pred(p, has_rows),
            None => p,
        }
    }
}

type Addr = ptx_builder::Addr<U64>;

/// 1, 2 or 4 consecutive values, aligned to all of them together.
fn load_f32(k: &mut KernelBuilder, at: Addr, len: u32) -> Vec<Reg<F32>> {
    match len {
        4 => k.ld_global_v4::<F32>(at).to_vec(),
        2 => k.ld_global_v2::<F32>(at).to_vec(),
        _ => vec![k.ld_global::<F32>(at)],
    }
}

/// A cursor that moves.
struct Moving {
    weights: Vec<Var<U64>>,
    x: Var<U64>,
    groups: Option<Var<U64>>,
}

impl Cursor {
    fn moving(&self, k: &mut KernelBuilder) -> Moving {
        Moving {
            weights: self.weights.iter().map(|&at| k.var::<U64>(at)).collect(),
            x: k.var::<U64>(self.x),
            groups: self.groups.map(|at| k.var::<U64>(at)),
        }
    }
}

impl Moving {
    /// The cursor, wherever it is.
    fn now(&self) -> Cursor {
        Cursor {
            weights: self.weights.iter().map(|at| at.live()).collect(),
            x: self.x.live(),
            groups: self.groups.map(Var::live),
        }
    }

    fn advance(&self, k: &mut KernelBuilder, strides: &Strides, steps: u32) {
        let mut advance = |at: Var<U64>, stride: u32| {
            k.update(at, |k, at| k.add::<U64>(at, u64::from(steps * stride)));
        };
        self.weights.iter().zip(&strides.weights).for_each(|(&at, &stride)| advance(at, stride));
        advance(self.x, strides.x);
        self.groups.into_iter().for_each(|at| advance(at, strides.groups));
    }
}
