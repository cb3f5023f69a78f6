//! How the parts of a row become one in global memory.

use ptx_builder::{AtomOp, AtomOrder, Atomic, F32, KernelBuilder, Reg, Scope, U32, U64};

use super::Attention;
use super::results::{Combined, Features, Outlet};

/// Where blocks leave what they know of their heads, for the one that ends last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Partials {
    /// `[rows, sets, chunks, heads, head_dim]` weighted values, then `[rows, sets, chunks, heads, 2]` largest scores and
    /// sums of weights.
    pub scratch: Reg<U64>,
    /// `[rows, sets]`: how many blocks have left their parts.
    pub counters: Reg<U64>,
}

impl Partials {
    /// Floats of the scratch memory.
    pub fn elements(kernel: &Attention) -> u64 {
        let heads = u64::from(kernel.rows) * u64::from(kernel.n_heads) * u64::from(kernel.splits.chunks);
        heads * (u64::from(kernel.cache.head_dim) + 2)
    }
}

/// Counts the block, all of whose threads have left their parts and met. Only the last block of its row and heads goes on;
/// it sees all parts, and leaves the counter at zero.
pub(super) fn arrive(
    k: &mut KernelBuilder,
    kernel: &Attention,
    partials: &Partials,
    chunks: Reg<U32>,
    thread: Reg<U32>,
) {
    k.comment("the last block to get here finds the others counted, and leaves the counter at zero");
    let blocks = k.min(chunks, kernel.splits.blocks);
    let others = k.sub(blocks, 1);
    let found = k.named_var::<U32>("found", 0);
    let set = k.ctaid_x();
    let counter = k.ptr_index(partials.counters, set, 4);
    let counts = k.eq(thread, 0);
    k.if_(counts, |k| {
        // Releases what the block has stored before its barrier, and acquires what those before it have.
        let order = Atomic::GLOBAL.order(AtomOrder::AcqRel, Scope::Gpu);
        let old = k.atom::<U32>(order, AtomOp::Inc, counter, others);
        k.set(found, old);
    });
    let is_last = k.eq(found, others);
    let is_last = k.and_pred(counts, is_last);
    let is_last = k.bar_any(0, is_last);
    k.ret_if(!is_last);
}

/// Parts that the last block loads together.
const TOGETHER: u32 = 16;

/// The parts of this thread's features.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    outlet: &'a Outlet,
    /// The weighted values of the first part.
    values: Reg<U64>,
    /// Largest score and sum of the first part.
    stats: Reg<U64>,
    /// Bytes from the values of a part to the next.
    values_stride: u32,
    stats_stride: u32,
}

impl<'a> Parts<'a> {
    pub fn find(k: &mut KernelBuilder, kernel: &Attention, scratch: Reg<U64>, outlet: &'a Outlet) -> Self {
        let (heads, chunks) = (kernel.plan.heads(), kernel.splits.chunks);
        let (values_stride, stats_stride) = (heads * kernel.cache.head_dim * 4, heads * 8);
        let parts = u64::from(kernel.rows) * u64::from(kernel.sets()) * u64::from(chunks);
        let set = k.ctaid_x();
        let first = k.mul_wide(set, chunks);
        let values = k.mad(first, u64::from(values_stride), scratch);
        let values = k.ptr_index(values, outlet.place, 16);
        let stats = k.mad(first, u64::from(stats_stride), scratch);
        let stats = k.add(stats, parts * u64::from(values_stride));
        let stats = k.ptr_index(stats, outlet.head, 8);
        Self { outlet, values, stats, values_stride, stats_stride }
    }

    /// The addresses of values and statistics of part `index`.
    fn part(&self, k: &mut KernelBuilder, index: Reg<U32>) -> [Reg<U64>; 2] {
        let values = k.ptr_index(self.values, index, self.values_stride);
        [values, k.ptr_index(self.stats, index, self.stats_stride)]
    }

    /// Leaves part `index`.
    pub fn leave(&self, k: &mut KernelBuilder, kernel: &Attention, index: Reg<U32>, features: &Features) {
        let [values, stats] = self.part(k, index);
        k.guarded(self.outlet.stores, |k| k.st_global_v4::<F32>(values, features.values));
        let leads = self.outlet.leads(k, kernel);
        k.guarded(leads, |k| k.st_global_v2::<F32>(stats, [features.max, features.sum]));
    }

    /// All parts, in the order of their positions, brought to one maximum.
    pub fn total(&self, k: &mut KernelBuilder, chunks: Reg<U32>) -> Features {
        let combined = Combined::new(k);
        k.for_range(0, chunks, TOGETHER, |k, base| {
            combined.add(k, TOGETHER, (base, chunks), |k, index| {
                let [values, stats] = self.part(k, index);
                let [max, sum] = k.ld_global_v2::<F32>(stats);
                Features { max, sum, values: k.ld_global_v4::<F32>(values) }
            });
        });
        combined.features(k)
    }
}
