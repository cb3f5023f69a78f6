//! Execution: warps, barriers, calls, and the order in which blocks run.
//!
//! - `warp.rs`: fragments of a warp, divergence and reconvergence; `frame.rs`: the registers of a call.
//! - `run.rs`: the loop over instructions.
//! - `transfer.rs`, `param.rs`, `atomic.rs`, `copy.rs`: memory.
//! - `wmma.rs`: matrices without a fixed place in registers.
//! - `mbarrier.rs`, `bulk.rs`: barrier objects and bulk copies; `address.rs`: addresses of other blocks.
//! - `wgmma.rs`: matrices in shared memory, multiplied by a warpgroup.
//! - `exchange.rs`, `barrier.rs`, `cluster_barrier.rs`: what lanes, warps and blocks do together.
//! - `call.rs`: functions, and those that the driver provides.
//! - `cluster.rs`: the blocks of a cluster, on one host thread; `schedule.rs`: clusters on host threads.

mod address;
mod atomic;
mod barrier;
mod block;
mod bulk;
mod call;
mod cluster;
mod cluster_barrier;
mod copy;
mod exchange;
mod frame;
mod grid;
mod mbarrier;
mod param;
mod print;
mod run;
mod schedule;
mod transfer;
mod warp;
mod wgmma;
mod wmma;

use super::metrics::{Executed, InstClass, InstructionCounts, MemoryMetrics, Metrics};

pub(super) use grid::Grid;
pub(super) use schedule::run;

/// The lanes of a mask, lowest first.
#[inline]
fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        (rest != 0).then(|| {
            let lane = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            lane
        })
    })
}

/// The metrics of a launch that has ended.
pub(super) fn metrics(grid: &Grid<'_>, outcome: &schedule::Outcome, memory: MemoryMetrics) -> Metrics {
    let mut counts = InstructionCounts::default();
    counts.divergent_branches = outcome.counts.divergent;
    for (pc, (warp, lane)) in (0..).zip(&outcome.counts.steps) {
        if let Some(inst) = grid.code.inst(pc).filter(|_| *warp > 0) {
            counts.add(InstClass::of(&inst.kind), Executed { warp: *warp, lane: *lane });
        }
    }
    Metrics::new(counts, memory, grid)
}
