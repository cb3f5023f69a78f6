//! What the lanes and warps of a block know of its heads becomes four features of each thread.

use ptx_builder::{ArrayRef, F32, KernelBuilder, Pred, Reg, U32, U64, Var};

use super::Attention;
use super::emit::{Head, Lanes};
use super::plan::Plan;
use crate::emit::split;
use crate::support::WARP;

/// The four features that a thread writes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Outlet {
    pub thread: Reg<U32>,
    /// The features are number `4 * place` and the next three of the block's heads, one after the other.
    pub place: Reg<U32>,
    /// The head among those of the block.
    pub head: Reg<U32>,
    /// Whether no other thread has the same features: threads beyond the features do the last ones again.
    pub stores: Pred,
    /// Whether the thread is the first of its head.
    pub leads: Pred,
}

impl Outlet {
    pub fn new(k: &mut KernelBuilder, kernel: &Attention, thread: Reg<U32>) -> Self {
        let (heads, head_dim) = (kernel.plan.heads, kernel.cache.head_dim);
        let outputs = heads * head_dim / 4;
        let place = if outputs < Plan::THREADS { k.min(thread, outputs - 1) } else { thread };
        let stores = k.lt(thread, outputs);
        let (head, within) = split(k, place, outputs.into(), head_dim / 4);
        let leads = k.eq(within, 0);
        let leads = k.and_pred(leads, stores);
        Self { thread, place, head, stores, leads }
    }
}

/// What a block knows of the features of an [`Outlet`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Features {
    /// The largest score, in units of log 2.
    pub max: Reg<F32>,
    /// The sum of `2^(score - max)`.
    pub sum: Reg<F32>,
    /// The features of the values, weighted likewise.
    pub values: [Reg<F32>; 4],
}

impl Features {
    /// Combines what the threads of the block have of each of its heads.
    pub fn of_block(
        k: &mut KernelBuilder,
        kernel: &Attention,
        lanes: &Lanes,
        heads: &[Head],
        outlet: &Outlet,
    ) -> Self {
        let shared = Shared::new(k, kernel);
        k.comment("combine the positions of the warp");
        let slots = shared.slots(k, kernel, lanes);
        for (index, head) in (0..).zip(heads) {
            let values = WarpHead::of(k, kernel, head);
            slots.put(k, kernel, index, &values);
        }
        k.barrier();
        k.comment("combine the warps");
        shared.features(k, kernel, outlet)
    }

    /// Stores the features as those of the row from `y` on.
    pub fn store(&self, k: &mut KernelBuilder, outlet: &Outlet, y: Reg<U64>) {
        let norm = k.rcp(self.sum);
        let row = self.values.map(|v| k.mul(v, norm));
        let at = k.ptr_index(y, outlet.place, 16);
        k.guarded(outlet.stores, |k| k.st_global_v4::<F32>(at, row));
    }
}

/// What a warp knows of one head.
#[derive(Debug)]
struct WarpHead {
    max: Reg<F32>,
    sum: Reg<F32>,
    /// The lane's features.
    acc: Vec<Reg<F32>>,
}

impl WarpHead {
    /// Combines the lanes that hold the same features of different positions.
    fn of(k: &mut KernelBuilder, kernel: &Attention, head: &Head) -> Self {
        let distances: Vec<u32> = (kernel.plan.lanes.ilog2()..WARP.ilog2()).map(|bit| 1 << bit).collect();
        let mut max = k.get(head.max);
        for &distance in &distances {
            let other = k.shfl_bfly(max, distance);
            max = k.max(max, other);
        }
        let below = k.sub(head.max, max);
        let factor = k.ex2_approx(below);
        let mut total = |part: Var<F32>| {
            let mut total = k.mul(part, factor);
            for &distance in &distances {
                let other = k.shfl_bfly(total, distance);
                total = k.add(total, other);
            }
            total
        };
        let sum = total(head.sum);
        Self { max, sum, acc: head.acc.iter().map(|&part| total(part)).collect() }
    }
}

/// Where the warps leave their results.
#[derive(Debug, Clone, Copy)]
struct Shared {
    /// `[warps, heads, head_dim]`
    acc: ArrayRef<F32>,
    /// `[warps, heads]`
    max: ArrayRef<F32>,
    /// `[warps, heads]`
    sum: ArrayRef<F32>,
}

/// The places of this thread's warp for its first head, and who writes there.
#[derive(Debug, Clone, Copy)]
struct Slots {
    /// This lane's first piece.
    acc: Reg<U32>,
    max: Reg<U32>,
    sum: Reg<U32>,
    /// The lanes that write pieces.
    writes: Pred,
    /// Those of them that have a last piece.
    writes_last: Pred,
    /// The lane that writes the rest.
    leads: Pred,
}

impl Shared {
    fn new(k: &mut KernelBuilder, kernel: &Attention) -> Self {
        let entries = Plan::WARPS * kernel.plan.heads;
        Self {
            acc: k.shared("acc", entries * kernel.cache.head_dim),
            max: k.shared("max", entries),
            sum: k.shared("sum", entries),
        }
    }

    fn slots(self, k: &mut KernelBuilder, kernel: &Attention, lanes: &Lanes) -> Slots {
        let plan = kernel.plan;
        let entry = k.mul(lanes.warp, plan.heads);
        let acc = k.shared_base(self.acc);
        let acc = k.mad(lanes.warp, plan.heads * kernel.cache.head_dim * 4, acc);
        let leader = k.eq(lanes.lane, 0);
        Slots {
            acc: k.mad(lanes.lane, plan.piece * 4, acc),
            max: k.shared_index(self.max, entry),
            sum: k.shared_index(self.sum, entry),
            writes: lanes.first,
            writes_last: match lanes.partial {
                Some(partial) => k.and_pred(lanes.first, partial.inside),
                None => lanes.first,
            },
            leads: k.and_pred(lanes.first, leader),
        }
    }

    /// The sums of all warps, brought to one maximum.
    fn features(self, k: &mut KernelBuilder, kernel: &Attention, outlet: &Outlet) -> Features {
        let (heads, head_dim) = (kernel.plan.heads, kernel.cache.head_dim);
        let &Outlet { head, place, .. } = outlet;
        let max_at = k.shared_index(self.max, head);
        let sum_at = k.shared_index(self.sum, head);
        let acc = k.shared_base(self.acc);
        let acc_at = k.mad(place, 16, acc);
        let warp_entries = |warp: u32| (warp * heads * 4) as i32;

        let maxima: Vec<_> =
            (0..Plan::WARPS).map(|warp| k.ld_shared::<F32>(max_at + warp_entries(warp))).collect();
        let max = maxima[1..].iter().fold(maxima[0], |max, &other| k.max(max, other));
        let sum = k.var::<F32>(0.0);
        let values = [(); 4].map(|()| k.var::<F32>(0.0));
        for (warp, &part) in (0..).zip(&maxima) {
            let below = k.sub(part, max);
            let factor = k.ex2_approx(below);
            let part = k.ld_shared::<F32>(sum_at + warp_entries(warp));
            k.update(sum, |k, sum| k.fma(part, factor, sum));
            let part = k.ld_shared_v4::<F32>(acc_at + warp_entries(warp) * head_dim as i32);
            for (total, v) in values.into_iter().zip(part) {
                k.update(total, |k, total| k.fma(v, factor, total));
            }
        }
        Features { max, sum: k.get(sum), values: values.map(|v| k.get(v)) }
    }
}

impl Slots {
    /// Stores head number `head` of the block.
    fn put(&self, k: &mut KernelBuilder, kernel: &Attention, head: u32, values: &WarpHead) {
        let plan = kernel.plan;
        let entry = head as i32 * 4;
        k.guarded(self.leads, |k| {
            k.st_shared::<F32>(self.max + entry, values.max);
            k.st_shared::<F32>(self.sum + entry, values.sum);
        });
        for (piece, features) in (0..).zip(values.acc.chunks(plan.piece as usize)) {
            let at = entry * kernel.cache.head_dim as i32 + (piece * plan.lanes * plan.piece * 4) as i32;
            let writes = if piece + 1 == plan.pieces { self.writes_last } else { self.writes };
            for (quad, features) in (0..).zip(features.as_chunks::<4>().0) {
                k.guarded(writes, |k| k.st_shared_v4::<F32>(self.acc + (at + quad * 16), *features));
            }
        }
    }
}
