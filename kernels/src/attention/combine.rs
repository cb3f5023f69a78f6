//! The end of attention: what the lanes and warps of a block know of a head becomes one row.

use ptx_builder::{ArrayRef, F32, KernelBuilder, Pred, Reg, U32, U64, Var};

use super::Attention;
use super::emit::{Head, Lanes};
use super::plan::Plan;
use crate::emit::split;
use crate::support::WARP;

/// Combines what the threads of the block have of each of its heads and stores the rows from `y` on.
pub(super) fn write(k: &mut KernelBuilder, kernel: &Attention, lanes: &Lanes, heads: &[Head], y: Reg<U64>) {
    let shared = Shared::new(k, kernel);
    k.comment("combine the positions of the warp");
    let slots = shared.slots(k, kernel, lanes);
    for (index, head) in (0..).zip(heads) {
        let values = WarpHead::of(k, kernel, head);
        slots.put(k, kernel, index, values);
    }
    k.barrier();
    k.comment("combine the warps");
    shared.write_out(k, kernel, lanes.thread, y);
}

/// What a warp knows of one head.
#[derive(Debug)]
struct WarpHead {
    max: Reg<F32>,
    sum: Reg<F32>,
    /// The lane's chunks.
    acc: Vec<[Reg<F32>; 4]>,
}

impl WarpHead {
    /// Combines the lanes that hold the same chunks of different positions.
    fn of(k: &mut KernelBuilder, kernel: &Attention, head: &Head) -> Self {
        let distances: Vec<u32> = (kernel.plan.lanes.ilog2()..WARP.ilog2()).map(|bit| 1 << bit).collect();
        let mut max = k.get(head.max);
        for &distance in &distances {
            let other = k.shfl_bfly(max, distance);
            max = k.max(max, other);
        }
        let below = k.sub(head.max, max);
        let factor = k.ex2_approx(below);
        let total = |k: &mut KernelBuilder, part: Var<F32>| {
            let mut total = k.mul(part, factor);
            for &distance in &distances {
                let other = k.shfl_bfly(total, distance);
                total = k.add(total, other);
            }
            total
        };
        let sum = total(k, head.sum);
        let acc = head.acc.iter().map(|chunk| chunk.map(|part| total(k, part))).collect();
        Self { max, sum, acc }
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
    /// This lane's first chunk.
    acc: Reg<U32>,
    max: Reg<U32>,
    sum: Reg<U32>,
    /// The lanes that write chunks.
    writes: Pred,
    /// Those of them that have a last chunk.
    writes_last: Pred,
    /// The lane that writes the rest.
    leads: Pred,
    /// Bytes between the chunks of a lane.
    stride: i32,
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
        let heads = kernel.plan.heads;
        let entry = k.mul(lanes.warp, heads);
        let acc = k.shared_base(self.acc);
        let acc = k.mad(lanes.warp, heads * kernel.cache.head_dim * 4, acc);
        let leader = k.eq(lanes.lane, 0);
        Slots {
            acc: k.mad(lanes.lane, 16, acc),
            max: k.shared_index(self.max, entry),
            sum: k.shared_index(self.sum, entry),
            writes: lanes.first,
            writes_last: match lanes.partial {
                Some(partial) => k.and_pred(lanes.first, partial.inside),
                None => lanes.first,
            },
            leads: k.and_pred(lanes.first, leader),
            stride: lanes.stride,
        }
    }

    /// One thread for four features: the sums of all warps, brought to one maximum.
    fn write_out(self, k: &mut KernelBuilder, kernel: &Attention, thread: Reg<U32>, y: Reg<U64>) {
        let (heads, head_dim) = (kernel.plan.heads, kernel.cache.head_dim);
        let outputs = heads * head_dim / 4;
        if outputs < Plan::THREADS {
            let beyond = k.ge(thread, outputs);
            k.ret_if(beyond);
        }
        let (head, _) = split(k, thread, outputs.into(), head_dim / 4);
        let max_at = k.shared_index(self.max, head);
        let sum_at = k.shared_index(self.sum, head);
        let acc = k.shared_base(self.acc);
        let acc_at = k.mad(thread, 16, acc);
        let warp_entries = |warp: u32| (warp * heads * 4) as i32;

        let maxima: Vec<_> =
            (0..Plan::WARPS).map(|warp| k.ld_shared::<F32>(max_at + warp_entries(warp))).collect();
        let max = maxima[1..].iter().fold(maxima[0], |max, &other| k.max(max, other));
        let sum = k.var::<F32>(0.0);
        let out = [(); 4].map(|()| k.var::<F32>(0.0));
        for (warp, &part) in (0..).zip(&maxima) {
            let below = k.sub(part, max);
            let factor = k.ex2_approx(below);
            let part = k.ld_shared::<F32>(sum_at + warp_entries(warp));
            k.update(sum, |k, sum| k.fma(part, factor, sum));
            let values = k.ld_shared_v4::<F32>(acc_at + warp_entries(warp) * head_dim as i32);
            for (out, v) in out.into_iter().zip(values) {
                k.update(out, |k, out| k.fma(v, factor, out));
            }
        }
        let norm = k.rcp(sum);
        let out = out.map(|v| k.mul(v, norm));
        let at = k.ptr_index(y, thread, 16);
        k.st_global_v4::<F32>(at, out);
    }
}

impl Slots {
    /// Stores head number `head` of the block.
    fn put(&self, k: &mut KernelBuilder, kernel: &Attention, head: u32, values: WarpHead) {
        let entry = head as i32 * 4;
        k.guarded(self.leads, |k| {
            k.st_shared::<F32>(self.max + entry, values.max);
            k.st_shared::<F32>(self.sum + entry, values.sum);
        });
        let last = values.acc.len() - 1;
        for (chunk, &acc) in values.acc.iter().enumerate() {
            let at = self.acc + (entry * kernel.cache.head_dim as i32 + chunk as i32 * self.stride);
            let writes = if chunk == last { self.writes_last } else { self.writes };
            k.guarded(writes, |k| k.st_shared_v4::<F32>(at, acc));
        }
    }
}
