//! Fused projections: what a decode step does between its attentions, in one kernel each.
//!
//! | kernel | computes |
//! |---|---|
//! | [`AttentionInput`] | norm, then query, key and value with bias and rotation, keys and values into the cache |
//! | [`ResidualProjection`] | a matrix product with bias, added to a residual |
//! | [`GatedProjection`] | norm, then `silu(gate) * up` |
//! | [`Head`] | norm, then a matrix product: logits |
//! | [`GreedyHead`] | the same, then the index of the largest of each row |
//! | [`Gemm`] | the first three for many rows, of which [`HalfRows`] makes halves |
//!
//! All but the last take one to [`MAX_BATCH`] activation rows in f32 and weights in the device's layout
//! ([`tensor_formats::planes`]), quantised or of 16 bits. A block first brings the activations to Q8 in shared memory, as
//! [`QuantizeQ8`](crate::quantize::QuantizeQ8) does, or rounds them to the type of the weights; then its warps multiply. Of a
//! norm the weights come before that, and the factor that is the same for a whole row after it. On devices that can start a
//! kernel before its predecessor has ended, a block loads its first weights before it waits: weights are the one thing that no
//! kernel writes.
//!
//! An activation row gives the same bits whatever shares its batch; beside quantised weights on every device that has these
//! kernels, as dots of bytes are exact. A [`Gemm`]'s are others, and the same for all that it has.
//!
//! | file | what |
//! |---|---|
//! | `shape` | the kernels' shapes, checked |
//! | `geometry` | warps and blocks |
//! | `stage` | norm and quantisation |
//! | `ring` | weights on their way |
//! | `product` | weights times activations, lane by lane |
//! | `tiles` | the same for several activation rows, and for weights of 16 bits, on tensor cores |
//! | `planes` | where these find their weights |
//! | `sums` | the sums of a block's units |
//! | `epilogue` | what becomes of them |
//! | `largest` | the largest of all |
//! | `half_rows`, `gemm` | many rows, on the tensor cores of Hopper |
//! | `reference` | the same in plain Rust |

mod cases;
mod epilogue;
mod gemm;
mod gemm_cases;
mod geometry;
mod half_rows;
mod largest;
mod planes;
mod product;
mod reference;
mod ring;
mod shape;
mod stage;
mod sums;
mod tiles;
mod tuning;

use std::ops::Range;

use ptx_builder::{ArrayRef, F32, KernelBuilder, Module, Reg, Scope, Target, U32, U64};
use tensor_formats::ElementType;

use crate::argmax::SHARED_BYTES;
use crate::blocks::WeightFormat;
use crate::blocks::tile::SLOT_ALIGN;
use crate::cache::Cache;
use crate::emit;
use crate::kernel::LEAST_SHARED;
use crate::support::{ALL_LANES, WARP, f32_param, u32_param};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};
pub(crate) use cases::{cases, catalogue, invariances};
use epilogue::{Belongs, Fetched, Finisher, Pointers};
pub use gemm::{Gemm, Way};
pub(crate) use gemm_cases::cases as gemm_cases;
pub use geometry::PROCESSORS;
use geometry::Spread;
pub use half_rows::HalfRows;
use largest::Largest;
use product::{Product, Sums, Thread, Units};
pub use reference::{AttentionInputs, Met};
pub use shape::{AttentionInput, AttentionInputShape, GatedProjection, GreedyHead, Head, ResidualProjection};
use stage::Stage;
use sums::Leaves;
use tiles::{BlockUnits, Lane, TILE_UNITS, Tiles};

/// The largest number of activation rows of one launch. Long rows of some types take fewer: rings and activations lie in
/// shared memory together. More than four are multiplied on tensor cores, in whole tiles: there the weight rows of each
/// matrix come in sixteens (in eights in a [`GatedProjection`]; where the halves of a head are rotated, of each head), and
/// the target has the shared memory or the clusters that such a kernel needs.
pub const MAX_BATCH: usize = 8;

/// A kernel of this family: segments that share their activations.
#[derive(Debug, Clone, PartialEq)]
struct Projection {
    family: &'static str,
    /// Without what it is made for.
    name: String,
    processors: u32,
    target: Target,
    stage: Stage,
    segments: Vec<Segment>,
    spread: Spread,
    /// Of each warp.
    ring_bytes: u32,
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
    /// Nowhere: which is the largest of a row is all that is stored.
    Largest,
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

    /// Whether its sums' ends need anything from memory.
    const fn fetches(&self) -> bool {
        self.bias || self.residual || self.rotation.is_some()
    }

    /// Values of a row of its results.
    const fn features(&self) -> u32 {
        match self.destination {
            Destination::Gated => self.units,
            Destination::Rows | Destination::Cache(_) | Destination::Largest => 2 * self.units,
        }
    }
}

/// The parameters of a kernel with these `segments`, whose matrices lie on multiples of `align`, behind those of its
/// activations.
fn params(activations: Vec<Param>, (segments, align): (&[Segment], u32), batch: u64) -> Vec<Param> {
    let mut params = activations;
    for segment in segments {
        params.extend(segment.names.matrices.iter().map(|name| Param {
            name,
            access: Access::Read,
            element: segment.element,
            bytes: segment.matrix_bytes,
            align,
        }));
    }
    for segment in segments.iter().filter(|segment| segment.bias) {
        params.push(f32_param(segment.names.bias, Access::Read, segment.features().into(), 8));
    }
    if let Some(rotation) = segments.iter().find_map(|segment| segment.rotation) {
        params.push(u32_param("positions", batch));
        params.push(u32_param("sequences", batch));
        let table = u64::from(rotation.max_seq) * u64::from(rotation.head_dim);
        params.push(f32_param("table", Access::Read, table, 8));
    }
    if segments.iter().any(|segment| segment.residual) {
        params.push(f32_param("residual", Access::Read, batch * u64::from(segments[0].features()), 8));
    }
    for segment in segments {
        let rows = batch * u64::from(segment.features());
        params.push(match segment.destination {
            Destination::Cache(cache) => Param {
                name: segment.names.output,
                access: Access::ReadWrite,
                element: cache.stored.element(),
                bytes: cache.bytes(),
                align: 2 * cache.stored.bytes(),
            },
            Destination::Rows | Destination::Gated => f32_param(segment.names.output, Access::Write, rows, 8),
            Destination::Largest => Param { access: Access::Write, ..u32_param(segment.names.output, batch) },
        });
        if segment.destination == Destination::Largest {
            let bytes = batch * u64::from(SHARED_BYTES);
            let (access, element) = (Access::Counter, ElementType::U32);
            params.push(Param { name: "best", access, element, bytes, align: 8 });
        }
    }
    params
}

/// What a launch over these parameters and segments costs.
fn cost(params: &[Param], segments: &[Segment], (batch, cols): (u32, u32)) -> Cost {
    let batch = u64::from(batch);
    let bytes = |keep: fn(&Param) -> bool| -> u64 {
        params.iter().filter(|param| keep(param)).map(|param| param.bytes).sum()
    };
    let cached = segments.iter().map(|segment| match segment.destination {
        Destination::Cache(cache) => batch * u64::from(segment.features() * cache.stored.bytes()),
        Destination::Rows | Destination::Gated | Destination::Largest => 0,
    });
    let cached: u64 = cached.sum();
    let rotations = segments.iter().filter_map(|segment| segment.rotation).next();
    let rotated = rotations.map_or(0, |rotation| batch * u64::from(rotation.head_dim) * 4);
    let products: u64 = segments.iter().map(|segment| 4 * u64::from(segment.units)).sum();
    Cost {
        bytes_read: bytes(|param| param.access == Access::Read && param.name != "table") + rotated,
        bytes_written: bytes(|param| param.access == Access::Write) + cached,
        operations: products * u64::from(cols) * batch,
    }
}

/// Deals the grid's blocks to segments, each of which gets as many as `blocks` says, in order: `emit` is called with each
/// one's index and its first block.
fn deal(k: &mut KernelBuilder, blocks: &[u32], emit: &dyn Fn(&mut KernelBuilder, usize, u32)) {
    fn from(
        k: &mut KernelBuilder,
        blocks: &[u32],
        (index, first): (usize, u32),
        emit: &dyn Fn(&mut KernelBuilder, usize, u32),
    ) {
        if index + 1 == blocks.len() {
            return emit(k, index, first);
        }
        let (block, end) = (k.ctaid_x(), first + blocks[index]);
        let own = k.lt(block, end);
        k.if_else(own, |k| emit(k, index, first), |k| from(k, blocks, (index + 1, end), emit));
    }
    from(k, blocks, (0, 0), emit);
}

/// The first target that rounds to what the caches of these segments hold, if there are any.
fn rounds_from(segments: &[Segment]) -> Option<Target> {
    let caches = segments.iter().filter_map(|segment| match segment.destination {
        Destination::Cache(cache) => Some(cache.stored.rounds_from()),
        Destination::Rows | Destination::Gated | Destination::Largest => None,
    });
    caches.max()
}

/// Quantised activations: a byte for each value, and eight more for every 32.
fn q8_param(batch: u64, cols: u64) -> Param {
    let (access, element) = (Access::Read, ElementType::Q8Act);
    Param { name: "x", access, element, bytes: batch * (cols + cols / 4), align: 16 }
}

/// What the segments of a kernel share.
#[derive(Clone, Copy)]
struct Shared {
    /// Sums of squares of the stage's items, where there is a norm.
    item_sums: Option<ArrayRef<F32>>,
    /// Each warp's ring of weights on their way, one after the other.
    rings: Reg<U32>,
    /// The staged activations.
    quants: Reg<U32>,
    /// The sums `[unit, warp, row of the unit, activation row]` of the block's units, activation rows a power of two.
    sums: Reg<U32>,
    /// The blocks of its cluster, if there is one.
    peers: Option<Peers>,
}

/// The blocks of a cluster, which send each other sums.
#[derive(Debug, Clone, Copy)]
struct Peers {
    /// This block's number.
    rank: Reg<U32>,
    /// The barrier object of each block that counts what it is sent.
    arrivals: Reg<U32>,
}

impl Peers {
    /// Where block `rank` has what is at `at` here, and where its barrier object is.
    fn of(self, k: &mut KernelBuilder, rank: Reg<U32>, at: Reg<U32>) -> [Reg<U32>; 2] {
        [at, self.arrivals].map(|at| k.cluster_address(at, rank))
    }
}

impl Shared {
    fn rank(&self) -> Option<Reg<U32>> {
        self.peers.map(|peers| peers.rank)
    }
}

impl Projection {
    fn name(&self) -> String {
        let mut name = self.name.clone();
        // Shared memory and tuning differ.
        if self.target.sm() != Target::SM_90.sm() {
            name += &format!("_sm{}", self.target.sm());
        }
        if self.processors != PROCESSORS {
            name += &format!("_p{}", self.processors);
        }
        name
    }

    fn params(&self) -> Vec<Param> {
        let (batch, cols) = (u64::from(self.stage.batch), u64::from(self.stage.cols));
        let x = match self.stage.quantised {
            true => q8_param(batch, cols),
            false => f32_param("x", Access::Read, batch * cols, 16),
        };
        let norm = self.stage.eps.map(|_| f32_param("norm", Access::Read, cols, 16));
        let align = if self.stage.tiles { SLOT_ALIGN } else { 16 };
        params([x].into_iter().chain(norm).collect(), (&self.segments, align), batch)
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry {
            grid: [self.spread.blocks.iter().sum(), 1, 1],
            block: [self.spread.threads(), 1, 1],
            dynamic_shared: self.spread.warps() * self.ring_bytes + self.stage.bytes() + self.sums_bytes(),
        }
    }

    fn cost(&self) -> Cost {
        cost(&self.params(), &self.segments, (self.stage.batch, self.stage.cols))
    }

    fn min_target(&self) -> Target {
        // What one block has of shared memory, and clusters.
        let shared = self.static_shared() + self.geometry().dynamic_shared;
        let roomy = shared > LEAST_SHARED || self.spread.cluster() > 1;
        let shared = if roomy { Target::SM_90 } else { ring::MIN_TARGET };
        rounds_from(&self.segments).map_or(shared, |caches| caches.max(shared))
    }

    fn emit(&self, kernel: &dyn Kernel, target: Target) -> Result<Module, KernelError> {
        emit::module_that_waits(kernel, target, |k, pointers| {
            emit::let_next_begin(k);
            let params = self.params();
            let pointer =
                |name: &str| params.iter().position(|param| param.name == name).map(|i| pointers[i]);
            k.minnctapersm(1);
            let peers = (self.spread.cluster() > 1).then(|| {
                k.reqnctapercluster(self.spread.cluster(), 1, 1);
                let arrivals = k.shared::<U64>("arrivals", 1);
                let arrivals = k.shared_base(arrivals);
                let tid = k.tid_x();
                let first = k.eq(tid, 0);
                k.if_(first, |k| {
                    k.mbarrier_init(arrivals, 1);
                    k.mbarrier_init_fence();
                });
                // Nobody writes to a block that has not begun.
                k.cluster_arrive_relaxed();
                Peers { rank: k.cluster_ctarank(), arrivals }
            });
            let rings = k.dynamic_shared(SLOT_ALIGN);
            let quants = k.add(rings, self.spread.warps() * self.ring_bytes);
            let sums = k.add(quants, self.stage.bytes());
            let shared = Shared {
                item_sums: self.stage.eps.map(|_| k.shared("item_sums", self.stage.sums())),
                rings,
                quants,
                sums,
                peers,
            };
            deal(k, &self.spread.blocks, &|k, index, first| {
                self.segment(k, (index, first), shared, &pointer)
            });
        })
    }

    /// Emits the blocks from `first` on, which do segment `index`.
    fn segment(
        &self,
        k: &mut KernelBuilder,
        (index, first): (usize, u32),
        shared: Shared,
        pointer: &dyn Fn(&str) -> Option<Reg<U64>>,
    ) {
        let (segment, spread, stage) = (&self.segments[index], &self.spread, self.stage);
        let (share, unit_bytes) = (spread.share(segment, index), self.unit_sums_bytes(segment));
        let (tid, block) = (k.tid_x(), k.ctaid_x());
        let block = if first == 0 { block } else { k.sub(block, first) };
        let block = k.shr(block, spread.cluster().ilog2());
        let longer_before = k.min(block, share.longer);
        let start = k.mad(block, share.least, longer_before);
        let longer = k.lt(block, share.longer);
        let count = k.selp(longer, share.least + 1, share.least);
        let (start, count) = match share.together {
            1 => (start, count),
            together => (k.mul(start, together), k.mul(count, together)),
        };

        let (warp, lane_in_warp) = emit::warp_and_lane(k);
        let ring = k.mad(warp, self.ring_bytes, shared.rings);
        k.comment("the first weights do not wait for anything");
        let matrices: Vec<_> = segment.names.matrices.iter().filter_map(|name| pointer(name)).collect();
        let multiply = match spread.items {
            None => {
                let (slot, warp) = emit::split(k, warp, spread.warps().into(), spread.warps_per_bundle);
                let lane = k.mad(warp, WARP, lane_in_warp);
                let (unit_of_bundle, lane_of_row, sum) = match spread.bundle {
                    1 => (None, lane, warp),
                    bundle => {
                        let parts = segment.format.partition(stage.cols).parts_of_row(stage.cols);
                        let (unit, lane_of_row) = emit::split(k, lane, spread.lanes().into(), parts);
                        let sum = k.shr(lane_of_row, (WARP / bundle).ilog2());
                        (Some(unit), lane_of_row, sum)
                    }
                };
                let thread = Thread { warp, lane, lane_of_row, lane_in_warp, ring };
                // Of unit 0, as if all units were this block's.
                let before = k.mul(start, unit_bytes);
                let at = k.sub(shared.sums, before);
                let at = unit_of_bundle.map_or(at, |of_bundle| k.mad(of_bundle, unit_bytes, at));
                let at = k.mad(sum, 2 * self.sum_rows() * 4, at);
                let leaves = self.leaves(k, lane_in_warp, (at, unit_bytes));
                let how = (stage, spread, self.ring_bytes);
                let product = Box::new(Product::new(k, segment, how, &matrices, thread));
                let units = Units { end: k.add(start, count), stride: spread.slots() * spread.bundle };
                let slot = if spread.bundle == 1 { slot } else { k.mul(slot, spread.bundle) };
                let unit = k.add(start, slot);
                Multiply::Dots { product, leaves, unit, units }
            }
            Some(items) => {
                let how = (stage, items, spread.warps(), self.ring_bytes);
                let lane = Lane { warp, lane: lane_in_warp, ring, peers: shared.peers };
                let tiles = Tiles::new(k, segment, how, (&matrices, BlockUnits { start, count }), lane);
                Multiply::Tiles(Box::new(tiles))
            }
        };
        let early = stage.early.min(multiply.slots());
        multiply.fill(k, 0..early);
        let norm = pointer("norm");
        let norm_weights = stage.preload(k, spread.warps(), norm, shared.rank());
        emit::wait(k);
        if shared.peers.is_some() {
            k.cluster_wait();
        }

        let row = k.and(tid, self.sum_rows() - 1);
        let own = k.shr(tid, self.sum_rows().ilog2());
        let stores = k.lt(row, stage.batch);
        let row = stage.activation_row(k, row, self.sum_rows());
        let pointers = Pointers::of(segment, pointer);
        let belongs = Belongs::load(k, segment, &pointers, row);
        let Some(x) = pointer("x") else { return };
        let staged = stage.emit(k, spread.warps(), (x, norm), norm_weights, shared, &|k| {
            k.comment("more weights, behind the activations");
            k.warp_sync(ALL_LANES);
            multiply.fill(k, early..multiply.slots());
        });
        let finisher = Finisher::new(k, segment, pointers, (row, belongs));
        // Where one round finishes all units, what it needs is loaded now.
        let stride = spread.threads() / self.sum_rows();
        let finished = Finished::new(k, (start, count), (spread.cluster(), shared.rank()));
        let ahead = (share.most() <= stride && segment.fetches()).then(|| {
            let last = k.sub(finished.count, 1);
            let index = k.min(own, last);
            let unit = finished.unit(k, index);
            finisher.fetch(k, unit)
        });

        match multiply {
            Multiply::Dots { product, leaves, unit, units } => {
                let met = product.hold(k, staged);
                k.for_range(unit, units.end, units.stride, |k, unit| {
                    let sums: Sums = [0, 1].map(|row| {
                        (0..stage.batch).map(|b| k.named_var::<F32>(&format!("sum{row}_{b}"), 0.0)).collect()
                    });
                    product.unit_products(k, &met, (unit, units), &sums);
                    self.leave(k, &sums, leaves, unit);
                });
            }
            Multiply::Tiles(tiles) => tiles.run(k, staged, (shared.sums, unit_bytes)),
        }
        let factor = match shared.peers {
            None => {
                let factor = stage.factor(k, shared, row);
                k.barrier();
                factor
            }
            Some(peers) => {
                k.comment("all sums of this block's tiles have come");
                let of_unit = self.spread.sums_of_row(segment, stage.cols) * stage.item_sums_bytes();
                let squares = if shared.item_sums.is_some() { stage.sums() * 4 } else { 0 };
                let first = k.eq(tid, 0);
                k.if_(first, |k| {
                    let bytes = k.mad(finished.count, of_unit, squares);
                    k.mbarrier_arrive_expect(peers.arrivals, bytes);
                    k.mbarrier_wait(peers.arrivals, 0, Scope::Cluster);
                });
                // What is written now may be what others have read ahead.
                k.barrier();
                stage.factor(k, shared, row)
            }
        };

        let largest = (segment.destination == Destination::Largest).then(|| Largest::new(k));
        let finish = |k: &mut KernelBuilder, index: Reg<U32>, ahead: Option<&Fetched>| {
            let unit = finished.unit(k, index);
            let at = k.mad(index, unit_bytes, shared.sums);
            let totals = self.totals(k, segment, at, row);
            let totals = match factor {
                Some(factor) => totals.map(|total| k.mul(total, factor)),
                None => totals,
            };
            if let Some(largest) = &largest {
                let first = segment.pairing.first_row(k, unit);
                return largest.see(k, first, totals);
            }
            match ahead {
                Some(fetched) => finisher.finish(k, unit, totals, fetched, stores),
                None => {
                    let fetched =
                        if segment.fetches() { finisher.fetch(k, unit) } else { Fetched::default() };
                    finisher.finish(k, unit, totals, &fetched, stores);
                }
            }
        };
        if share.most() <= stride {
            let has = k.lt(own, finished.count);
            k.if_(has, |k| finish(k, own, ahead.as_ref()));
        } else {
            k.for_range(own, finished.count, stride, |k, index| finish(k, index, None));
        }
        if let Some(((largest, y), best)) = largest.zip(pointer(segment.names.output)).zip(pointer("best")) {
            largest.store(k, self, y, best);
        }
    }
}

/// The units that a block finishes: of a cluster's tiles every so many.
#[derive(Clone, Copy)]
struct Finished {
    /// Of the units of the block or its cluster.
    start: Reg<U32>,
    count: Reg<U32>,
    /// Blocks of the cluster.
    cluster: u32,
    rank: Option<Reg<U32>>,
}

impl Finished {
    /// For the units `start..start + units` of `cluster` blocks.
    fn new(
        k: &mut KernelBuilder,
        (start, units): (Reg<U32>, Reg<U32>),
        (cluster, rank): (u32, Option<Reg<U32>>),
    ) -> Self {
        let count = match rank {
            None => units,
            Some(rank) => {
                // `ceil((tiles - rank) / cluster)` tiles.
                let tiles = k.shr(units, TILE_UNITS.ilog2());
                let tiles = k.add(tiles, cluster - 1);
                let tiles = k.sub(tiles, rank);
                let tiles = k.shr(tiles, cluster.ilog2());
                k.shl(tiles, TILE_UNITS.ilog2())
            }
        };
        Self { start, count, cluster, rank }
    }

    /// Number `index` of them.
    fn unit(self, k: &mut KernelBuilder, index: Reg<U32>) -> Reg<U32> {
        let Some(rank) = self.rank else { return k.add(self.start, index) };
        let tile = k.shr(index, TILE_UNITS.ilog2());
        let tile = k.mad(tile, self.cluster, rank);
        let within = k.and(index, TILE_UNITS - 1);
        let unit = k.mad(tile, TILE_UNITS, within);
        k.add(self.start, unit)
    }
}

/// How a block multiplies.
enum Multiply<'a> {
    /// Lanes for themselves: bundles from `unit` on.
    Dots { product: Box<Product<'a>>, leaves: Leaves, unit: Reg<U32>, units: Units },
    /// Warps, on tensor cores.
    Tiles(Box<Tiles<'a>>),
}

impl Multiply<'_> {
    /// Slots of a warp's ring.
    fn slots(&self) -> u32 {
        match self {
            Self::Dots { product, .. } => product.slots,
            Self::Tiles(tiles) => tiles.slots,
        }
    }

    /// Emits the copies of each warp's turns `slots`, each into the slot of its number.
    fn fill(&self, k: &mut KernelBuilder, slots: Range<u32>) {
        match self {
            Self::Dots { product, unit, units, .. } => product.fill(k, slots, (*unit, *units)),
            Self::Tiles(tiles) => tiles.fill(k, slots),
        }
    }
}

macro_rules! kernels {
    ($($name:ident),*) => {$(
        impl $name {
            /// The same for devices of `target` with `processors` multiprocessors, with the same results. New kernels are
            /// for those of compute capability 9.0 with [`PROCESSORS`].
            ///
            /// # Errors
            /// [`KernelError::Unsupported`] for a number of processors that no device has, and for more activation rows
            /// than these weights [take](MAX_BATCH) on `target`.
            pub fn on(self, processors: u32, target: Target) -> Result<Self, KernelError> {
                self.0.on(processors, target).map(Self)
            }
        }

        impl Kernel for $name {
            fn name(&self) -> String {
                self.0.name()
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

            fn alone(&self) -> bool {
                true
            }

            fn emit(&self, target: Target) -> Result<Module, KernelError> {
                self.0.emit(self, target)
            }
        }
    )*};
}

kernels!(AttentionInput, ResidualProjection, GatedProjection, Head, GreedyHead);
