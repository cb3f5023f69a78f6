//! What the lanes of a warp know of a head becomes one, in shared memory.

use ptx_builder::{F32, KernelBuilder, Pred, Reg, U32, Var};

use super::plan::LanePlan;
use super::{Head, Lanes, PIECE_BYTES};
use crate::attention::Attention;
use crate::attention::results::Results;
use crate::support::WARP;

/// What a warp knows of one head.
#[derive(Debug)]
pub(super) struct WarpHead {
    max: Reg<F32>,
    sum: Reg<F32>,
    /// The lane's features.
    acc: Vec<Reg<F32>>,
}

impl WarpHead {
    /// Combines the lanes that hold the same features of different positions.
    pub fn of(k: &mut KernelBuilder, plan: LanePlan, head: &Head) -> Self {
        let distances: Vec<u32> = (plan.lanes.ilog2()..WARP.ilog2()).map(|bit| 1 << bit).collect();
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

/// The places of this thread's warp for its first head, and who writes there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slots {
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
    plan: LanePlan,
}

impl Slots {
    pub fn new(k: &mut KernelBuilder, kernel: &Attention, lanes: &Lanes, results: Results) -> Self {
        let plan = lanes.plan;
        let entry = k.mul(lanes.warp, plan.heads);
        let (acc, warp_bytes) = results.features(k, kernel);
        let acc = k.mad(lanes.warp, warp_bytes, acc);
        let leader = k.eq(lanes.lane, 0);
        Self {
            acc: k.mad(lanes.lane, PIECE_BYTES, acc),
            max: k.shared_index(results.max, entry),
            sum: k.shared_index(results.sum, entry),
            writes: lanes.first,
            writes_last: match lanes.partial {
                Some(partial) => k.and_pred(lanes.first, partial.inside),
                None => lanes.first,
            },
            leads: k.and_pred(lanes.first, leader),
            plan,
        }
    }

    /// Stores head number `head` of the block.
    pub fn put(&self, k: &mut KernelBuilder, kernel: &Attention, head: u32, values: &WarpHead) {
        let plan = self.plan;
        let entry = head as i32 * 4;
        k.guarded(self.leads, |k| {
            k.st_shared::<F32>(self.max + entry, values.max);
            k.st_shared::<F32>(self.sum + entry, values.sum);
        });
        for (piece, features) in (0..).zip(values.acc.as_chunks::<4>().0) {
            let at = entry * kernel.cache.head_dim as i32 + (piece * plan.lanes * PIECE_BYTES) as i32;
            let writes = if piece + 1 == plan.pieces { self.writes_last } else { self.writes };
            k.guarded(writes, |k| k.st_shared_v4::<F32>(self.acc + at, *features));
        }
    }
}
