//! Fused projections: what a decode step does between its attentions, in one kernel each.
//!
//! | kernel | computes |
//! |---|---|
//! | [`AttentionInput`] | norm, then query, key and value with bias and rotation, keys and values into the cache |
//! | [`ResidualProjection`] | a matrix product with bias, added to a residual |
//! | [`GatedProjection`] | norm, then `silu(gate) * up` |
//! | [`Head`] | norm, then a matrix product: logits |
//!
//! All take one to [`MAX_BATCH`] activation rows in f32 and quantised weights in the device's layout
//! ([`tensor_formats::planes`]). A block first brings the activations to Q8 in shared memory, exactly as
//! [`RmsNorm`](crate::rms_norm::RmsNorm) and [`QuantizeQ8`](crate::quantize::QuantizeQ8) do but for the order of one sum;
//! then its warps multiply. On devices that can start a kernel before its predecessor has ended, a block loads its first
//! weights before it waits: weights are the one thing that no kernel writes.
//!
//! An activation row gives the same bits whatever shares its batch, on every device.
//!
//! | file | what |
//! |---|---|
//! | `shape` | the kernels' shapes, checked |
//! | `geometry` | warps and blocks |
//! | `stage` | norm and quantisation |
//! | `product` | weights times activations |
//! | `epilogue` | what becomes of the sums |
//! | `reference` | the same in plain Rust |

mod cases;
mod epilogue;
mod geometry;
mod product;
mod reference;
mod shape;
mod stage;

use ptx_builder::{ArrayRef, F32, KernelBuilder, Module, Reg, Target, U32, U64, Var};
use tensor_formats::ElementType;

use crate::blocks::WeightFormat;
use crate::cache::Cache;
use crate::emit;
use crate::support::{WARP, f32_param, u32_param};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};
pub(crate) use cases::{cases, catalogue, invariances};
use epilogue::{Finisher, Pointers};
use geometry::Spread;
use product::{Product, Sums};
pub use reference::AttentionInputs;
pub use shape::{AttentionInput, AttentionInputShape, GatedProjection, Head, ResidualProjection};
use stage::Stage;

/// The largest number of activation rows of one launch: the sums of more do not fit a thread's registers.
pub const MAX_BATCH: usize = 4;

/// The most activation rows of `cols` columns that a launch takes: their quants lie in shared memory together. 0 if not
/// even one does.
pub fn max_batch(cols: usize) -> usize {
    (shape::MOST_SHARED as usize * 4 / 5).checked_div(cols).unwrap_or(0).min(MAX_BATCH)
}

/// A kernel of this family: segments that share their activations.
#[derive(Debug, Clone, PartialEq)]
struct Projection {
    name: String,
    stage: Stage,
    segments: Vec<Segment>,
    spread: Spread,
}

/// One result: a matrix, or two whose rows are combined.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Segment {
    element: ElementType,
    format: WeightFormat,
    /// Pairs of weight rows.
    units: u32,
    /// Bytes of each of its matrices.
    matrix_bytes: u64,
    pairing: Pairing,
    names: Names,
    bias: bool,
    residual: bool,
    rotation: Option<Rotation>,
    destination: Destination,
}

/// Which two rows are a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pairing {
    /// Rows `2u` and `2u + 1`.
    Neighbours,
    /// Rows `i` and `i + head_dim / 2` of a head.
    Halves { head_dim: u32 },
    /// Row `u` of two matrices.
    Matrices,
}

/// The rotation of a unit's two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rotation {
    head_dim: u32,
    /// Positions of the table.
    max_seq: u32,
}

/// Where a segment's results go.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Destination {
    /// Rows of activations.
    Rows,
    /// Rows of `silu(first) * second`.
    Gated,
    /// A cache, at the row's position.
    Cache(Cache),
}

/// The names of a segment's parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Names {
    matrices: &'static [&'static str],
    bias: &'static str,
    output: &'static str,
}

impl Segment {
    /// Rows of each of its matrices.
    const fn matrix_rows(&self) -> u32 {
        match self.pairing {
            Pairing::Matrices => self.units,
            Pairing::Neighbours | Pairing::Halves { .. } => 2 * self.units,
        }
    }

    /// Values of a row of its results.
    const fn features(&self) -> u32 {
        match self.destination {
            Destination::Gated => self.units,
            Destination::Rows | Destination::Cache(_) => 2 * self.units,
        }
    }
}

/// What the segments of a kernel share.
#[derive(Clone, Copy)]
struct Shared {
    /// Sums of chunks of a norm.
    chunk_sums: Option<ArrayRef<F32>>,
    /// Sums of the warps that share a unit.
    unit_sums: Option<ArrayRef<F32>>,
    quants: Reg<U32>,
}

impl Projection {
    fn params(&self) -> Vec<Param> {
        let (batch, cols) = (u64::from(self.stage.batch), u64::from(self.stage.cols));
        let mut params = vec![f32_param("x", Access::Read, batch * cols, 16)];
        if self.stage.eps.is_some() {
            params.push(f32_param("norm", Access::Read, cols, 16));
        }
        for segment in &self.segments {
            params.extend(segment.names.matrices.iter().map(|name| Param {
                name,
                access: Access::Read,
                element: segment.element,
                bytes: segment.matrix_bytes,
                align: 16,
            }));
        }
        for segment in self.segments.iter().filter(|segment| segment.bias) {
            params.push(f32_param(segment.names.bias, Access::Read, segment.features().into(), 8));
        }
        if let Some(rotation) = self.segments.iter().find_map(|segment| segment.rotation) {
            params.push(u32_param("positions", batch));
            params.push(u32_param("sequences", batch));
            let table = u64::from(rotation.max_seq) * u64::from(rotation.head_dim);
            params.push(f32_param("table", Access::Read, table, 8));
        }
        if self.segments.iter().any(|segment| segment.residual) {
            params.push(f32_param(
                "residual",
                Access::Read,
                batch * u64::from(self.segments[0].features()),
                8,
            ));
        }
        for segment in &self.segments {
            let rows = batch * u64::from(segment.features());
            params.push(match segment.destination {
                Destination::Cache(cache) => Param {
                    name: segment.names.output,
                    access: Access::ReadWrite,
                    element: cache.stored.element(),
                    bytes: cache.bytes(),
                    align: 2 * cache.stored.bytes(),
                },
                Destination::Rows | Destination::Gated => {
                    f32_param(segment.names.output, Access::Write, rows, 8)
                }
            });
        }
        params
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry {
            grid: [self.spread.blocks.iter().sum(), 1, 1],
            block: [self.spread.threads(), 1, 1],
            dynamic_shared: self.stage.bytes(),
        }
    }

    fn cost(&self) -> Cost {
        let params = self.params();
        let batch = u64::from(self.stage.batch);
        let bytes = |keep: fn(&Param) -> bool| -> u64 {
            params.iter().filter(|param| keep(param)).map(|param| param.bytes).sum()
        };
        let cached = self.segments.iter().map(|segment| match segment.destination {
            Destination::Cache(cache) => batch * u64::from(segment.features() * cache.stored.bytes()),
            Destination::Rows | Destination::Gated => 0,
        });
        let cached: u64 = cached.sum();
        let rotations = self.segments.iter().filter_map(|segment| segment.rotation).next();
        let rotated = rotations.map_or(0, |rotation| batch * u64::from(rotation.head_dim) * 4);
        let products: u64 = self.segments.iter().map(|segment| 4 * u64::from(segment.units)).sum();
        Cost {
            bytes_read: bytes(|param| param.access == Access::Read && param.name != "table") + rotated,
            bytes_written: bytes(|param| param.access == Access::Write) + cached,
            operations: products * u64::from(self.stage.cols) * batch,
        }
    }

    fn min_target(&self) -> Target {
        let caches = self.segments.iter().filter_map(|segment| match segment.destination {
            Destination::Cache(cache) => Some(cache.stored.rounds_from()),
            Destination::Rows | Destination::Gated => None,
        });
        caches.max().unwrap_or(Target::SM_75)
    }

    fn emit(&self, kernel: &dyn Kernel, target: Target) -> Result<Module, KernelError> {
        emit::module_that_waits(kernel, target, |k, pointers| {
            let params = self.params();
            let pointer =
                |name: &str| params.iter().position(|param| param.name == name).map(|i| pointers[i]);
            k.minnctapersm(self.blocks_together(target));
            let sums = 2 * self.stage.batch;
            let shared = Shared {
                chunk_sums: self.stage.eps.map(|_| k.shared("chunk_sums", self.stage.items())),
                unit_sums: (self.spread.warps_per_unit > 1)
                    .then(|| k.shared("unit_sums", 2 * self.spread.warps * sums)),
                quants: k.dynamic_shared(16),
            };
            self.segments_from(k, 0, shared, &pointer);
        })
    }

    /// Blocks of a processor for which registers are kept free: as many as do without local memory.
    fn blocks_together(&self, target: Target) -> u32 {
        let large = |segment: &Segment| matches!(segment.format, WeightFormat::Q5K | WeightFormat::Q6K);
        match self.stage.batch {
            1 if target >= Target::SM_90 && !self.segments.iter().any(large) => 3,
            1 => 2,
            _ => 1,
        }
    }

    /// Emits the segments from `index` on, each for its own blocks.
    fn segments_from(
        &self,
        k: &mut KernelBuilder,
        index: usize,
        shared: Shared,
        pointer: &dyn Fn(&str) -> Option<Reg<U64>>,
    ) {
        let first: u32 = self.spread.blocks[..index].iter().sum();
        if index + 1 == self.segments.len() {
            return self.segment(k, index, first, shared, pointer);
        }
        let block = k.ctaid_x();
        let own = k.lt(block, first + self.spread.blocks[index]);
        k.if_else(
            own,
            |k| self.segment(k, index, first, shared, pointer),
            |k| self.segments_from(k, index + 1, shared, pointer),
        );
    }

    /// Emits the blocks from `first` on, which do one segment.
    fn segment(
        &self,
        k: &mut KernelBuilder,
        index: usize,
        first: u32,
        shared: Shared,
        pointer: &dyn Fn(&str) -> Option<Reg<U64>>,
    ) {
        let (segment, spread, stage) = (&self.segments[index], &self.spread, self.stage);
        let (slots, per_unit) = (spread.slots(), spread.warps_per_unit);
        let (tid, block) = (k.tid_x(), k.ctaid_x());
        let lane = k.and(tid, per_unit * WARP - 1);
        let slot = k.shr(tid, (per_unit * WARP).ilog2());
        let block = if first == 0 { block } else { k.sub(block, first) };
        let unit = k.mad(block, slots, slot);
        let unit = k.name(unit, "first_unit");

        k.comment("the first weights do not wait for anything");
        let matrices: Vec<_> = segment.names.matrices.iter().filter_map(|name| pointer(name)).collect();
        let product = Product::new(k, segment, (stage, spread), &matrices, lane);
        let begin = k.min(unit, segment.units - 1);
        let ahead = product.begin(k, begin);
        let norm = pointer("norm");
        let weights = stage.preload(k, spread.warps, norm);
        emit::wait(k);

        let staged = match pointer("x") {
            Some(x) => stage.emit(k, spread.warps, (x, norm), &weights, shared),
            None => return,
        };
        let lane_in_warp = k.and(tid, WARP - 1);
        let row = k.min(lane_in_warp, stage.batch - 1);
        let pointers = Pointers {
            bias: segment.bias.then(|| pointer(segment.names.bias)).flatten(),
            residual: segment.residual.then(|| pointer("residual")).flatten(),
            output: pointer(segment.names.output),
            positions: pointer("positions"),
            sequences: pointer("sequences"),
            table: pointer("table"),
        };
        let finisher = Finisher::new(k, segment, pointers, row);
        let stores = k.lt(lane, stage.batch);
        let sums: Sums = (0..stage.batch)
            .map(|b| [0, 1].map(|r| k.named_var::<F32>(&format!("sum{r}_{b}"), 0.0)))
            .collect();
        let parity = shared.unit_sums.map(|_| k.var::<U32>(0));
        let stride = spread.blocks[index] * slots;
        k.for_range(unit, segment.units, stride, |k, unit| {
            let next = k.add(unit, stride);
            let has_next = k.lt(next, segment.units);
            let next = k.selp(has_next, next, unit);
            let fetched = finisher.fetch(k, unit);
            sums.iter().flatten().for_each(|&sum| k.set(sum, 0.0));
            product.unit_products(k, staged, [unit, next], (&ahead, &sums));
            let totals = totals(k, &sums, row);
            let totals = match shared.unit_sums.zip(parity) {
                Some((array, parity)) => self.across_warps(k, (array, parity), [slot, lane], row, totals),
                None => totals,
            };
            finisher.finish(k, unit, totals, &fetched, stores);
        });
    }

    /// The sums over the warps that share a unit, in its first warp: `totals` is this warp's for activation row `row`.
    fn across_warps(
        &self,
        k: &mut KernelBuilder,
        (array, parity): (ArrayRef<F32>, Var<U32>),
        [slot, lane]: [Reg<U32>; 2],
        row: Reg<U32>,
        totals: [Reg<F32>; 2],
    ) -> [Reg<F32>; 2] {
        let (batch, per_unit) = (self.stage.batch, self.spread.warps_per_unit);
        k.comment("rounds alternate between two places, so that they meet once each");
        let half = k.mad(parity, self.spread.slots(), slot);
        k.update(parity, |k, parity| k.xor(parity, 1));
        let start = k.mul(half, per_unit * batch * 2);
        let warp = k.shr(lane, WARP.ilog2());
        let own = k.mad(warp, batch * 2, start);
        let place = k.shl(row, 1);
        let own = k.add(own, place);
        let at = k.shared_index(array, own);
        let lane_in_warp = k.and(lane, WARP - 1);
        let writes = k.lt(lane_in_warp, batch);
        k.guarded(writes, |k| k.st_shared_v2::<F32>(at, totals));
        let barrier = k.add(slot, 1);
        k.bar_sync_count(barrier, per_unit * WARP);
        let first = k.add(start, place);
        let at = k.shared_index(array, first);
        let mut sums = k.ld_shared_v2::<F32>(at);
        for warp in 1..per_unit {
            let other = k.ld_shared_v2::<F32>(at + (warp * batch * 8) as i32);
            sums = std::array::from_fn(|i| k.add(sums[i], other[i]));
        }
        sums
    }
}

/// The sums over a warp's lanes: in every lane those of activation row `row`.
fn totals(k: &mut KernelBuilder, sums: &Sums, row: Reg<U32>) -> [Reg<F32>; 2] {
    let mut own: Option<[Reg<F32>; 2]> = None;
    for (b, sums) in (0u32..).zip(sums) {
        let totals = sums.map(|sum| k.warp_sum(sum));
        own = Some(match own {
            None => totals,
            Some(own) => {
                let mine = k.eq(row, b);
                std::array::from_fn(|i| k.selp(mine, totals[i], own[i]))
            }
        });
    }
    own.unwrap_or_else(|| [0, 1].map(|_| k.imm::<F32>(0.0)))
}

macro_rules! kernels {
    ($($name:ident),*) => {$(
        impl Kernel for $name {
            fn name(&self) -> String {
                self.0.name.clone()
            }

            fn params(&self) -> Vec<Param> {
                self.0.params()
            }

            fn geometry(&self) -> LaunchGeometry {
                self.0.geometry()
            }

            fn cost(&self, _context: u64) -> Cost {
                self.0.cost()
            }

            fn min_target(&self) -> Target {
                self.0.min_target()
            }

            fn emit(&self, target: Target) -> Result<Module, KernelError> {
                self.0.emit(self, target)
            }
        }
    )*};
}

kernels!(AttentionInput, ResidualProjection, GatedProjection, Head);
