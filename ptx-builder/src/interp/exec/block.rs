//! What the warps of a block share, and what an instruction needs beside the registers of its warp.

use super::barrier::Barriers;
use super::cluster_barrier::ClusterBarrier;
use super::copy::InFlight;
use super::grid::Grid;
use crate::inst::SpecialReg;
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::memory::{ClusterMemory, Site, Values};
use crate::interp::regs::{LANES, Regs};

/// A block, without its warps.
#[derive(Debug)]
pub(super) struct BlockState {
    /// Its coordinates in the grid.
    pub(super) at: [u32; 3],
    pub(super) rank: u32,
    /// Threads that have not exited.
    pub(super) live: u32,
    pub(super) barriers: Barriers,
    /// Instructions of its warps so far.
    pub(super) executed: u64,
    /// Destinations of asynchronous copies that nobody has waited for.
    pub(super) in_flight: InFlight,
}

/// Addresses and values of the access that executes: kept to be not cleared for each of them.
pub(super) struct Buffers {
    pub(super) addresses: [u64; LANES],
    pub(super) data: Box<Values>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { addresses: [0; LANES], data: Box::new([[0; 8]; LANES]) }
    }
}

/// How often each instruction executed, and for how many lanes.
#[derive(Debug, Default)]
pub(in crate::interp) struct Counts {
    /// By program counter: executions, lanes.
    pub(in crate::interp) steps: Vec<(u64, u64)>,
    /// Branches whose lanes went different ways.
    pub(in crate::interp) divergent: u64,
}

impl Counts {
    #[inline]
    pub(super) fn count(&mut self, pc: u32, active: u32) {
        if let Some((executions, lanes)) = self.steps.get_mut(pc as usize) {
            *executions += 1;
            *lanes += u64::from(active.count_ones());
        }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.steps.len() < other.steps.len() {
            self.steps.resize(other.steps.len(), (0, 0));
        }
        for (sum, part) in self.steps.iter_mut().zip(&other.steps) {
            sum.0 += part.0;
            sum.1 += part.1;
        }
        self.divergent += other.divergent;
    }
}

/// What an instruction works on beside the registers of its warp.
pub(super) struct Env<'a, 'm> {
    pub(super) grid: &'a Grid<'a>,
    pub(super) memory: &'a mut ClusterMemory<'m>,
    pub(super) block: &'a mut BlockState,
    pub(super) cluster: &'a mut ClusterBarrier,
    pub(super) buffers: &'a mut Buffers,
    pub(super) counts: &'a mut Counts,
    pub(super) printed: &'a mut String,
    pub(super) conditionals: &'a mut Vec<(u64, u32)>,
    /// Whether to count.
    pub(super) metrics: bool,
    /// Whether misuse of synchronisation is reported.
    pub(super) sync: bool,
    /// Reads that synchronise, in this turn.
    pub(super) polls: u32,
    /// Instructions in this turn.
    pub(super) executed: u64,
    /// Instructions of the cluster before this turn.
    pub(super) time: u64,
}

impl Env<'_, '_> {
    pub(super) fn fault(&self, kind: FindingKind, warp: u32, pc: u32, lanes: u32, detail: String) -> Fault {
        let lane = lanes.trailing_zeros() % 32;
        Box::new(self.memory.finding(kind, Site { warp, pc }, lane, detail))
    }

    pub(super) fn report(&mut self, kind: FindingKind, warp: u32, pc: u32, lanes: u32, detail: String) {
        let mut finding = self.fault(kind, warp, pc, lanes, detail);
        finding.count = u64::from(lanes.count_ones());
        self.memory.report(*finding);
    }

    /// A branch that lanes took and others did not.
    pub(super) fn diverged(&mut self, _pc: u32) {
        self.counts.divergent += 1;
    }

    /// Threads of the block have ended.
    pub(super) fn exited(&mut self, threads: u32) {
        self.block.live -= threads.min(self.block.live);
        self.block.barriers.changed = true;
        self.cluster.exited(threads);
    }

    pub(super) fn clock(&mut self, special: SpecialReg, regs: &mut Regs, slot: usize, active: u32) {
        let now = self.grid.options.clock_base.wrapping_add(self.time).wrapping_add(self.executed + 1);
        for lane in super::lanes(active) {
            #[expect(clippy::cast_possible_truncation, reason = "halves of the counter")]
            match special {
                SpecialReg::Clock | SpecialReg::GlobalTimerLo => regs.w[slot][lane] = now as u32,
                SpecialReg::ClockHi | SpecialReg::GlobalTimerHi => regs.w[slot][lane] = (now >> 32) as u32,
                _ => regs.l[slot][lane] = now,
            }
        }
    }
}
