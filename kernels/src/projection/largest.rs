//! The index of the largest result of each activation row, where nothing else is asked of the results.

use ptx_builder::{B32, F32, KernelBuilder, Reg, U32, U64, Var};

use super::Projection;
use crate::argmax::{Best, SHARED_BYTES};
use crate::support::WARP;

/// The largest result that a thread has seen of its activation row, and where it is first.
pub(super) struct Largest {
    value: Var<F32>,
    index: Var<U32>,
}

impl Largest {
    pub(super) fn new(k: &mut KernelBuilder) -> Self {
        Self {
            value: k.named_var("largest", f32::NEG_INFINITY),
            index: k.named_var("largest_index", u32::MAX),
        }
    }

    /// Sees results `first` and `first + 1`, which come after those that it has seen: of equals the first stays.
    pub(super) fn see(&self, k: &mut KernelBuilder, first: Reg<U32>, values: [Reg<F32>; 2]) {
        for (index, value) in (0..).zip(values) {
            let index = if index == 0 { first } else { k.add(first, index) };
            let larger = k.gt(value, self.value);
            k.update(self.value, |k, largest| k.selp(larger, value, largest));
            k.update(self.index, |k, largest| k.selp(larger, index, largest));
        }
    }

    /// Stores in `y` the index of each activation row's largest, from what all threads of all blocks have seen. `best` is
    /// what the blocks share: [`SHARED_BYTES`] for each row.
    pub(super) fn store(self, k: &mut KernelBuilder, projection: &Projection, y: Reg<U64>, best: Reg<U64>) {
        k.comment("the largest of each row: of the warp, of the block, of all");
        let (rows, warps) = (projection.sum_rows(), projection.spread.warps());
        let (value, index) = (k.get(self.value), k.get(self.index));
        let seen = Best::new(k, value, index);
        let mut offer = seen.offer(k);
        // Lanes whose number modulo `rows` is the same have the same row.
        for distance in (rows.ilog2()..WARP.ilog2()).rev().map(|bit| 1 << bit) {
            let halves = k.unpack64::<B32>(offer);
            let [low, high] = halves.map(|half| k.shfl_bfly(half, distance));
            let other = k.pack64(low, high).cast::<U64>();
            offer = k.max(offer, other);
        }
        let offers = k.shared::<U64>("offers", warps * rows);
        let tid = k.tid_x();
        let (warp, lane) = crate::emit::warp_and_lane(k);
        let slot = k.mad(warp, rows, lane);
        let at = k.shared_index(offers, slot);
        let leads = k.lt(lane, rows);
        k.guarded(leads, |k| k.st_shared::<U64>(at, offer));
        k.barrier();
        let beyond = k.ge(tid, projection.stage.batch);
        k.ret_if(beyond);
        let at = k.shared_index(offers, tid);
        let offers: Vec<_> =
            (0..warps).map(|warp| k.ld_shared::<U64>(at + (warp * rows * 8) as i32)).collect();
        let offer = offers[1..].iter().fold(offers[0], |largest, &other| k.max(largest, other));
        let best = k.ptr_index(best, tid, SHARED_BYTES);
        let blocks = projection.spread.blocks.iter().sum();
        let of_row = Best::of_offer(k, offer).of_blocks(k, best, blocks);
        let at = k.ptr_index(y, tid, 4);
        k.st_global::<U32>(at, of_row.index);
    }

    /// Bytes of shared memory for what the warps of a block have seen.
    pub(super) const fn bytes(rows: u32, warps: u32) -> u32 {
        warps * rows * 8
    }
}
