//! The sixteen barriers of a block.
//!
//! Since compute capability 7.0 threads arrive one by one. The aligned forms (`bar`, `barrier.aligned`) ask that all
//! threads of a warp execute the same instruction together: a part of a warp that comes first waits for the rest,
//! and if the rest never comes, that is a finding and the part arrives alone. Threads that have exited count as
//! arrived. With a thread count, a warp of which all remaining threads arrive together counts as 32 threads.

use super::block::Env;
use super::run::Next;
use super::warp::{State, Warp};
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::memory::{ClusterMemory, Site};
use crate::interp::program::{Action, BarrierKind, BarrierStep, Code};
use crate::interp::regs::LANES;

const BARRIERS: usize = 16;

/// One barrier.
#[derive(Clone, Debug, Default)]
struct Barrier {
    /// The number of threads that it waits for; `None`: those of the block.
    expected: Option<u32>,
    /// Threads that have arrived, counted for `expected` or for the block.
    arrived: u32,
    /// Threads that wait, as lanes of warps of the block.
    waiting: Vec<(u32, u32)>,
    /// Threads whose predicate is true; all of those that brought one.
    yes: u32,
    voters: u32,
}

/// The barriers of a block.
#[derive(Debug)]
pub(super) struct Barriers {
    all: [Barrier; BARRIERS],
    /// Something happened that may complete one.
    pub(super) changed: bool,
}

impl Default for Barriers {
    fn default() -> Self {
        Self { all: std::array::from_fn(|_| Barrier::default()), changed: false }
    }
}

/// An object for the order of `bar.arrive`: above all addresses.
fn object(rank: u32, id: usize) -> u64 {
    1 << 63 | u64::from(rank) << 8 | id as u64
}

impl Warp {
    /// Active lanes of fragment `i` reach a barrier.
    pub(super) fn arrive(
        &mut self,
        env: &mut Env<'_, '_>,
        i: usize,
        active: u32,
        step: &BarrierStep,
    ) -> Result<Next, Fault> {
        if step.aligned && active != self.live {
            return Ok(self.wait_together(i, active));
        }
        self.arrive_now(env, i, active, step)
    }

    /// They arrive, whoever is missing.
    pub(super) fn arrive_now(
        &mut self,
        env: &mut Env<'_, '_>,
        i: usize,
        active: u32,
        step: &BarrierStep,
    ) -> Result<Next, Fault> {
        let fragment = self.fragments[i];
        let pc = fragment.pc;
        let regs = &self.frames[fragment.frame as usize].regs;
        let lane = active.trailing_zeros() as usize % LANES;
        let id = regs.w[step.id as usize][lane] as usize;
        let count = step.count.map(|slot| regs.w[slot as usize][lane]);
        let same = |slot: u32, value: u32| super::lanes(active).all(|l| regs.w[slot as usize][l] == value);
        let uniform = same(step.id, regs.w[step.id as usize][lane])
            && step.count.is_none_or(|slot| same(slot, count.unwrap_or(0)));
        if id >= BARRIERS || !uniform {
            let detail = if uniform {
                format!("a block has {BARRIERS} barriers, there is none with the number {id}")
            } else {
                "the lanes of the warp name different barriers or counts".to_owned()
            };
            return Err(env.fault(FindingKind::InvalidUse, self.index, pc, active, detail));
        }
        if let Some(count) = count
            && (count == 0 || count % 32 != 0)
        {
            let detail = format!("the number of threads has to be a positive multiple of 32, not {count}");
            return Err(env.fault(FindingKind::InvalidUse, self.index, pc, active, detail));
        }
        let threads = active.count_ones();
        // All that is left of the warp stands for all of it.
        let counted = if active == self.live && step.aligned { 32 } else { threads };
        let votes = match (step.kind, env.grid.code.steps.get(pc as usize)) {
            (BarrierKind::Popc | BarrierKind::And | BarrierKind::Or, Some(decoded)) => {
                let row = regs.p[decoded.args.slots[2] as usize];
                let row = if decoded.args.negated >> 2 & 1 == 1 { !row } else { row };
                Some((row & active).count_ones())
            }
            _ => None,
        };
        let rank = env.block.rank;
        let barriers = &mut env.block.barriers;
        let barrier = &mut barriers.all[id];
        let fresh = barrier.arrived == 0;
        let differs = !fresh && barrier.expected != count;
        if fresh {
            barrier.expected = count;
        }
        barrier.arrived += if count.is_some() { counted } else { threads };
        if let Some(yes) = votes {
            barrier.yes += yes;
            barrier.voters += threads;
        }
        barriers.changed = true;
        if step.kind == BarrierKind::Arrive {
            env.memory.release(self.index, object(rank, id));
        } else {
            barrier.waiting.push((self.number, active));
        }
        if differs {
            let detail = format!("others wait at barrier {id} for another number of threads");
            return Err(env.fault(FindingKind::InvalidUse, self.index, pc, active, detail));
        }
        if step.kind == BarrierKind::Arrive {
            return Ok(Next::Advance);
        }
        let id = u32::try_from(id).unwrap_or(0);
        if self.fragments[i].mask != active {
            self.fragments[i].pc = pc + 1;
        }
        let here = self.split(i, active, pc);
        self.fragments[here].state = State::Barrier(id);
        Ok(Next::Again)
    }
}

impl Barriers {
    /// Completes what can be completed. `warps` are those of the block.
    pub(super) fn settle(
        &mut self,
        code: &Code,
        (rank, live): (u32, u32),
        warps: &mut [Warp],
        memory: &mut ClusterMemory<'_>,
    ) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        for (id, barrier) in self.all.iter_mut().enumerate() {
            let needed = barrier.expected.unwrap_or(live);
            if barrier.arrived == 0 || barrier.arrived < needed {
                continue;
            }
            let done = std::mem::take(barrier);
            let first = warps.first().map_or(0, |warp| warp.index);
            let mut members: Vec<u32> = done.waiting.iter().map(|(warp, _)| first + warp).collect();
            members.sort_unstable();
            members.dedup();
            memory.sync_warps(&mut members.iter().copied());
            if done.expected.is_some() {
                for warp in &members {
                    memory.acquire(*warp, object(rank, id));
                }
            }
            for (warp, lanes) in &done.waiting {
                if let Some(warp) = warps.get_mut(*warp as usize) {
                    warp.pass(code, id as u32, *lanes, (done.yes, done.voters));
                }
            }
        }
    }
}

impl Warp {
    /// Lanes that waited at a barrier go on.
    fn pass(&mut self, code: &Code, id: u32, lanes: u32, (yes, voters): (u32, u32)) {
        for fragment in &mut self.fragments {
            if fragment.state != State::Barrier(id) || fragment.mask & lanes == 0 {
                continue;
            }
            fragment.state = State::Ready;
            let pc = fragment.pc as usize;
            fragment.pc += 1;
            let Some(step) = code.steps.get(pc) else { continue };
            let Action::Barrier(barrier) = &step.action else { continue };
            let slot = step.args.slots[0] as usize;
            let regs = &mut self.frames[fragment.frame as usize].regs;
            let truth = match barrier.kind {
                BarrierKind::Sync | BarrierKind::Arrive => continue,
                BarrierKind::Popc => {
                    for lane in super::lanes(fragment.mask) {
                        regs.w[slot][lane] = yes;
                    }
                    continue;
                }
                BarrierKind::And => yes == voters,
                BarrierKind::Or => yes > 0,
            };
            let row = &mut regs.p[slot];
            *row = if truth { *row | fragment.mask } else { *row & !fragment.mask };
        }
    }

    /// Parts of the warp wait for the rest, which will not come: at a barrier they arrive alone, which is a finding.
    /// Anything else that needs the whole warp is a fault. `false`: nothing of the kind.
    pub(super) fn give_up_together(&mut self, env: &mut Env<'_, '_>) -> Result<bool, Fault> {
        let Some(i) = self.fragments.iter().position(|f| f.state == State::Together) else {
            return Ok(false);
        };
        let fragment = self.fragments[i];
        let steps = &env.grid.code.steps;
        let others: Vec<String> = self
            .fragments
            .iter()
            .filter(|f| f.pc != fragment.pc)
            .map(|f| format!("lanes {:#010x} are at `{}`", f.mask, env.grid.code.describe(f.pc).1))
            .collect();
        let others = others.join(", ");
        match steps.get(fragment.pc as usize).map(|step| &step.action) {
            Some(Action::Barrier(barrier)) => {
                if env.sync && !others.is_empty() {
                    let detail = format!(
                        "all threads of a warp have to execute it together, but only lanes {:#010x} are here; {others}",
                        fragment.mask
                    );
                    env.report(
                        FindingKind::BarrierDivergence,
                        self.index,
                        fragment.pc,
                        fragment.mask,
                        detail,
                    );
                }
                self.fragments[i].state = State::Ready;
                if let Next::Advance = self.arrive_now(env, i, fragment.mask, barrier)? {
                    self.fragments[i].pc += 1;
                }
                Ok(true)
            }
            _ => {
                let detail = format!(
                    "all lanes of the warp have to execute it together, but only {:#010x} are here; {others}",
                    fragment.mask
                );
                Err(env.fault(FindingKind::InvalidUse, self.index, fragment.pc, fragment.mask, detail))
            }
        }
    }

    /// What each waiting fragment waits for, for the report of a deadlock.
    pub(super) fn waits(&self, code: &Code) -> Vec<(Site, u32, String)> {
        let parked = self.fragments.iter().filter(|f| f.state != State::Ready);
        parked
            .map(|f| {
                let line = code.describe(f.pc).1;
                let what = match f.state {
                    State::Lanes(mask) => {
                        format!(
                            "lanes {:#010x} of warp {} wait at `{line}` for lanes {mask:#010x}",
                            f.mask, self.number
                        )
                    }
                    _ => format!("lanes {:#010x} of warp {} wait at `{line}`", f.mask, self.number),
                };
                (Site { warp: self.index, pc: f.pc }, f.mask, what)
            })
            .collect()
    }
}
