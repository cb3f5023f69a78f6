//! `barrier.cluster`: all threads of a cluster arrive, and later wait for the others.

use super::block::Env;
use super::run::Next;
use super::warp::{State, Warp};
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::memory::ClusterMemory;

/// The barrier of a cluster.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct ClusterBarrier {
    /// Completed phases.
    phase: u32,
    /// Threads that have arrived in this one.
    arrived: u32,
    /// Threads that have not exited.
    pub(super) live: u32,
    changed: bool,
}

/// The object of a phase for the order of events; above all addresses, and apart from barriers of blocks.
fn object(phase: u32) -> u64 {
    3 << 62 | u64::from(phase)
}

impl ClusterBarrier {
    pub(super) fn new(live: u32) -> Self {
        Self { live, ..Self::default() }
    }

    pub(super) fn exited(&mut self, threads: u32) {
        self.live -= threads.min(self.live);
        self.changed = true;
    }

    /// Ends the phase if everybody has arrived; warps that wait for it go on.
    pub(super) fn settle<'w>(
        &mut self,
        warps: impl Iterator<Item = &'w mut Warp>,
        memory: &mut ClusterMemory<'_>,
    ) -> bool {
        if !std::mem::take(&mut self.changed) || self.arrived == 0 || self.arrived < self.live {
            return false;
        }
        let done = self.phase;
        self.phase = self.phase.wrapping_add(1);
        self.arrived = 0;
        for warp in warps {
            let index = warp.index;
            for fragment in warp.fragments.iter_mut().filter(|f| f.state == State::Cluster) {
                fragment.state = State::Ready;
                fragment.pc += 1;
                memory.acquire(index, object(done));
            }
        }
        true
    }
}

impl Warp {
    pub(super) fn cluster_arrive(
        &mut self,
        env: &mut Env<'_, '_>,
        i: usize,
        active: u32,
        (relaxed, aligned): (bool, bool),
    ) -> Result<Next, Fault> {
        if aligned && active != self.live {
            return Ok(self.wait_together(i, active));
        }
        let twice = active & self.cluster_arrived;
        if twice != 0 {
            let detail = "the thread has arrived already, and not waited since".to_owned();
            let pc = self.fragments[i].pc;
            return Err(env.fault(FindingKind::InvalidUse, self.index, pc, twice, detail));
        }
        self.cluster_arrived |= active;
        let barrier = &mut *env.cluster;
        let object = object(barrier.phase);
        if relaxed {
            env.memory.release_relaxed(self.index, object);
        } else {
            env.memory.release(self.index, object);
        }
        for lane in super::lanes(active) {
            self.cluster_phase[lane] = barrier.phase;
        }
        barrier.arrived += active.count_ones();
        barrier.changed = true;
        Ok(Next::Advance)
    }

    pub(super) fn cluster_wait(
        &mut self,
        env: &mut Env<'_, '_>,
        i: usize,
        active: u32,
        aligned: bool,
    ) -> Result<Next, Fault> {
        if aligned && active != self.live {
            return Ok(self.wait_together(i, active));
        }
        let pc = self.fragments[i].pc;
        let early = active & !self.cluster_arrived;
        if early != 0 {
            let detail = "the thread waits, but has not arrived".to_owned();
            return Err(env.fault(FindingKind::InvalidUse, self.index, pc, early, detail));
        }
        self.cluster_arrived &= !active;
        let barrier = *env.cluster;
        let open = super::lanes(active).filter(|lane| self.cluster_phase[*lane] == barrier.phase);
        let open = open.fold(0, |mask, lane| mask | 1 << lane);
        if open != active {
            env.memory.acquire(self.index, object(barrier.phase.wrapping_sub(1)));
        }
        if open == 0 {
            return Ok(Next::Advance);
        }
        if self.fragments[i].mask != open {
            self.fragments[i].pc = pc + 1;
        }
        let here = self.split(i, open, pc);
        self.fragments[here].state = State::Cluster;
        Ok(Next::Again)
    }
}
