//! The loop that executes instructions.

use super::block::Env;
use super::warp::{State, Warp};
use super::wmma;
use crate::inst::Space;
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::memory::Site;
use crate::interp::program::Action;
use crate::interp::regs::FULL;

/// Why a warp stopped running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Turn {
    /// Its turn is over.
    Budget,
    /// It looks at memory again and again, and waits for others to change it.
    Polled,
    /// No fragment can run.
    Blocked,
}

/// Instructions of one fragment before another one that could run gets its turn.
const BURST: u32 = 4096;
/// Reads that synchronise before a warp counts as waiting.
pub(super) const POLLS: u32 = 16;

/// What the execution of an instruction outside of the inner loop leads to.
pub(super) enum Next {
    /// The fragment goes on with the next instruction.
    Advance,
    /// Fragments have changed.
    Again,
}

impl Warp {
    /// Runs fragments until the budget is used up or none can run.
    pub(super) fn run(&mut self, env: &mut Env<'_, '_>, budget: u32) -> Result<Turn, Fault> {
        let mut left = budget;
        env.polls = 0;
        while let Some(i) = self.pick(self.fair) {
            let alone = self.fragments.len() == 1;
            let burst = if alone { left } else { left.min(BURST) };
            let used = self.burst(env, i, burst)?;
            // One that waits for another lane lets it run.
            self.fair = !alone && !self.fair && (used == burst || env.polls >= POLLS);
            left = left.saturating_sub(used);
            env.executed += u64::from(used);
            if env.polls >= POLLS {
                return Ok(Turn::Polled);
            }
            if left == 0 {
                return Ok(Turn::Budget);
            }
        }
        Ok(Turn::Blocked)
    }

    /// Runs one fragment for at most `burst` instructions, until it meets another, splits or waits.
    fn burst(&mut self, env: &mut Env<'_, '_>, i: usize, burst: u32) -> Result<u32, Fault> {
        let code = env.grid.code.steps.as_slice();
        let code_has_params = env.grid.code.generic_params;
        let alone = self.fragments.len() == 1;
        let mask = self.fragments[i].mask;
        // Lanes that have exited may be written: nobody reads their registers.
        let lanes = if alone { FULL } else { mask };
        let frame = self.fragments[i].frame as usize;
        let mut pc = self.fragments[i].pc;
        let mut meeting = if alone { u32::MAX } else { self.meeting(i) };
        let mut used = 0;
        while used < burst {
            // Control never leaves verified code, so this is the bound check.
            let Some(step) = code.get(pc as usize) else {
                used = burst;
                break;
            };
            let regs = &mut self.frames[frame].regs;
            used += 1;
            let guard = step.guard.lanes(&regs.p);
            if env.metrics {
                env.counts.count(pc, mask & guard);
            }
            match &step.action {
                Action::Alu(f) => {
                    let active = lanes & guard;
                    if active != 0 {
                        f(regs, &step.args, active);
                    }
                    pc += 1;
                }
                Action::Jump(target) => {
                    let taken = mask & guard;
                    if taken == mask {
                        pc = *target;
                    } else if taken == 0 {
                        pc += 1;
                    } else {
                        env.diverged(pc);
                        self.fragments[i].pc = pc + 1;
                        self.split(i, taken, *target);
                        return Ok(used);
                    }
                    if !alone {
                        self.fragments[i].pc = pc;
                        // Others may be here, or have been passed.
                        let last = if self.fair { pc } else { 0 };
                        if self.fragments.iter().enumerate().any(|(j, f)| {
                            j != i
                                && (last..=pc).contains(&f.pc)
                                && f.frame as usize == frame
                                && f.state == State::Ready
                        }) {
                            return Ok(used);
                        }
                        meeting = self.meeting(i);
                    }
                    continue;
                }
                Action::Load(transfer) => {
                    let mut active = mask & guard;
                    if code_has_params && transfer.pointer.space == Space::Generic {
                        active &= !super::param::load_generic(&mut self.frames, frame, transfer, active);
                    }
                    let regs = &mut self.frames[frame].regs;
                    env.load(self.index, pc, regs, transfer, active)?;
                    pc += 1;
                }
                Action::Store(transfer) => {
                    env.store(self.index, pc, regs, transfer, mask & guard)?;
                    pc += 1;
                }
                Action::LoadParam(transfer) => {
                    super::param::load(env, &mut self.frames[frame], self.index, pc, transfer, mask & guard)?;
                    pc += 1;
                }
                Action::Atomic(atomic) => {
                    env.atomic(self.index, pc, regs, atomic, mask & guard)?;
                    pc += 1;
                }
                Action::Nop => pc += 1,
                _ => {
                    self.fragments[i].pc = pc;
                    let active = mask & guard;
                    match self.step(env, i, active)? {
                        Next::Advance => pc += 1,
                        Next::Again => return Ok(used),
                    }
                }
            }
            if env.polls >= POLLS {
                break;
            }
            if pc == meeting {
                break;
            }
        }
        self.fragments[i].pc = pc;
        Ok(used)
    }

    /// Instructions that concern more than the registers and memory of their own lanes.
    fn step(&mut self, env: &mut Env<'_, '_>, i: usize, active: u32) -> Result<Next, Fault> {
        let fragment = self.fragments[i];
        let (pc, frame) = (fragment.pc, fragment.frame as usize);
        let code = env.grid.code;
        let Some(step) = code.steps.get(pc as usize) else { return Ok(Next::Again) };
        if active == 0 {
            return Ok(Next::Advance);
        }
        match &step.action {
            Action::Exit => {
                self.leave(env, i, active);
                Ok(Next::Again)
            }
            Action::Return => {
                self.ret(env, i, active);
                Ok(Next::Again)
            }
            Action::Trap => Err(env.fault(
                FindingKind::Trap,
                self.index,
                pc,
                active,
                "the kernel stops itself".to_owned(),
            )),
            Action::JumpTable(targets) => self.jump_table(env, i, active, targets, step.args.slots[0]),
            Action::Call(call) => self.call(env, i, active, call),
            Action::StoreParam(transfer) => {
                super::param::store(env, &mut self.frames[frame], self.index, pc, transfer, active)?;
                Ok(Next::Advance)
            }
            Action::Exchange(exchange) => self.exchange(env, i, active, *exchange),
            Action::ActiveMask => {
                let slot = step.args.slots[0] as usize;
                let regs = &mut self.frames[frame].regs;
                for lane in super::lanes(active) {
                    regs.w[slot][lane] = active;
                }
                Ok(Next::Advance)
            }
            Action::WarpSync => self.warp_sync(env, i, active),
            Action::Matrix(f) => {
                if active != self.live {
                    return Ok(self.wait_together(i, active));
                }
                if active != FULL && env.sync {
                    env.report(
                        FindingKind::InvalidUse,
                        self.index,
                        pc,
                        active,
                        format!("all 32 lanes have to execute it, but only {active:#010x} are left"),
                    );
                }
                // The fragments of lanes that have exited hold what they held last.
                f(&mut self.frames[frame].regs, &step.args, FULL);
                Ok(Next::Advance)
            }
            Action::LoadMatrix(matrix) => {
                if active != self.live {
                    return Ok(self.wait_together(i, active));
                }
                env.load_matrix(self.index, pc, &mut self.frames[frame].regs, matrix, active)?;
                Ok(Next::Advance)
            }
            Action::StoreMatrix(matrix) => {
                if active != self.live {
                    return Ok(self.wait_together(i, active));
                }
                env.store_matrix(self.index, pc, &mut self.frames[frame].regs, matrix, active)?;
                Ok(Next::Advance)
            }
            Action::Wgmma(_)
            | Action::WgmmaCommit
            | Action::WgmmaWait(_)
            | Action::WmmaLoad(_)
            | Action::WmmaStore(_)
            | Action::WmmaMma(_)
                if active != self.live =>
            {
                Ok(self.wait_together(i, active))
            }
            Action::Wgmma(wgmma) => {
                self.wgmma(env, frame, pc, wgmma)?;
                Ok(Next::Advance)
            }
            Action::WgmmaCommit => {
                self.products.commit();
                Ok(Next::Advance)
            }
            Action::WgmmaWait(open) => {
                self.wait_products(env, *open)?;
                Ok(Next::Advance)
            }
            Action::WmmaLoad(step) => {
                env.load_wmma(Site { warp: self.index, pc }, &mut self.frames[frame].regs, step, active)?;
                Ok(Next::Advance)
            }
            Action::WmmaStore(step) => {
                env.store_wmma(Site { warp: self.index, pc }, &self.frames[frame].regs, step, active)?;
                Ok(Next::Advance)
            }
            Action::WmmaMma(step) => {
                wmma::multiply(&mut self.frames[frame].regs, step, active);
                Ok(Next::Advance)
            }
            Action::Barrier(barrier) => self.arrive(env, i, active, barrier),
            Action::Fence(scope, order) => {
                env.memory.fence(self.index, *scope, *order);
                Ok(Next::Advance)
            }
            Action::CopyAsync(copy) => {
                let regs = &self.frames[frame].regs;
                env.copy_async(self.index, pc, regs, copy, active, &mut self.copies)?;
                Ok(Next::Advance)
            }
            Action::CommitGroup => {
                self.copies.commit(active);
                Ok(Next::Advance)
            }
            Action::WaitGroup(open) => {
                env.wait_copies(self.index, &mut self.copies, active, Some(*open))?;
                Ok(Next::Advance)
            }
            Action::WaitAll => {
                env.wait_copies(self.index, &mut self.copies, active, None)?;
                Ok(Next::Advance)
            }
            Action::Clock(special) => {
                env.clock(*special, &mut self.frames[frame].regs, step.args.slots[0] as usize, active);
                Ok(Next::Advance)
            }
            Action::GridWait => {
                env.memory.grid_dependency_wait(self.index);
                Ok(Next::Advance)
            }
            Action::Sleep => {
                env.polls = POLLS;
                Ok(Next::Advance)
            }
            Action::IsSpace(space) => {
                env.is_space(&mut self.frames[frame].regs, &step.args, *space, active);
                Ok(Next::Advance)
            }
            Action::Mapa(file) => {
                super::address::mapa(&mut self.frames[frame].regs, &step.args, *file, active);
                Ok(Next::Advance)
            }
            Action::Rank(file) => {
                super::address::rank(&mut self.frames[frame].regs, &step.args, *file, active);
                Ok(Next::Advance)
            }
            Action::ClusterArrive { relaxed, aligned } => {
                self.cluster_arrive(env, i, active, (*relaxed, *aligned))
            }
            Action::ClusterWait { aligned } => self.cluster_wait(env, i, active, *aligned),
            Action::Mbarrier(mbarrier) => {
                env.mbarrier(self.index, pc, &mut self.frames[frame].regs, mbarrier, active)?;
                Ok(Next::Advance)
            }
            Action::PendingCount => {
                super::mbarrier::pending_count(&mut self.frames[frame].regs, &step.args, active);
                Ok(Next::Advance)
            }
            Action::CopyArrive(arrive) => {
                let regs = &self.frames[frame].regs;
                env.copy_arrive(self.index, pc, regs, arrive, active, &mut self.copies)?;
                Ok(Next::Advance)
            }
            Action::StoreAsync(store) => {
                env.store_async(self.index, pc, &mut self.frames[frame].regs, store, active)?;
                Ok(Next::Advance)
            }
            Action::Bulk(bulk) => {
                env.bulk(self.index, pc, &self.frames[frame].regs, bulk, active)?;
                Ok(Next::Advance)
            }
            Action::Alu(_)
            | Action::Nop
            | Action::Jump(_)
            | Action::Load(_)
            | Action::Store(_)
            | Action::LoadParam(_)
            | Action::Atomic(_) => Ok(Next::Advance),
        }
    }

    /// The lanes of a fragment that are not active skip the instruction, the others end.
    pub(super) fn leave(&mut self, env: &mut Env<'_, '_>, i: usize, active: u32) {
        self.fragments[i].pc += 1;
        self.exit(active);
        env.exited(active.count_ones());
        self.settle_exchanges(env);
        self.settle_together();
    }

    /// Active lanes wait until the whole warp is here.
    pub(super) fn wait_together(&mut self, i: usize, active: u32) -> Next {
        let pc = self.fragments[i].pc;
        if self.fragments[i].mask != active {
            self.fragments[i].pc = pc + 1;
        }
        let here = self.split(i, active, pc);
        self.fragments[here].state = State::Together;
        self.settle_together();
        Next::Again
    }

    /// Lanes that waited for their warp go on if it is complete.
    pub(super) fn settle_together(&mut self) {
        let places = self.fragments.iter().filter(|f| f.state == State::Together).map(|f| (f.frame, f.pc));
        let places: Vec<(u32, u32)> = places.collect();
        for (frame, pc) in places {
            if self.gathered(frame, pc) {
                for fragment in self.fragments.iter_mut().filter(|f| f.frame == frame && f.pc == pc) {
                    fragment.state = State::Ready;
                }
            }
        }
    }
}
