//! `mbarrier`: barrier objects in shared memory.
//!
//! The object is a word of 64 bits whose layout is ours, as the PTX ISA leaves it opaque: expected arrivals, pending
//! arrivals, pending transaction bytes, parity of the phase. The state that an arrival returns is the word from before.

use super::block::Env;
use super::copy::Copies;
use super::run::POLLS;
use super::transfer::{addresses, read_lane, write_lane};
use crate::inst::{MbarrierOp, Scope, Space};
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::memory::{Access, Order, RANK_SHIFT, SHARED_WINDOW, Site, Strength, Values};
use crate::interp::program::{CopyArrive, MbarrierStep, Pointer, StoreAsync};
use crate::interp::regs::{Args, LANES, Regs};

/// The most arrivals that a phase can expect.
const MOST: u64 = (1 << 20) - 1;
const COUNT_BITS: u32 = 21;
const COUNT: u64 = (1 << COUNT_BITS) - 1;
const PHASE: u64 = 1 << 63;

/// A barrier object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Object {
    expected: u64,
    pending: u64,
    /// Bytes that are still to come; negative if they came before they were expected.
    bytes: i64,
    phase: bool,
}

impl Object {
    fn new(expected: u64) -> Self {
        Self { expected, pending: expected, bytes: 0, phase: false }
    }

    fn of(word: u64) -> Self {
        let bytes = (word >> (2 * COUNT_BITS) & COUNT) << (64 - COUNT_BITS);
        Self {
            expected: word & COUNT,
            pending: word >> COUNT_BITS & COUNT,
            bytes: bytes.cast_signed() >> (64 - COUNT_BITS),
            phase: word & PHASE != 0,
        }
    }

    fn word(self) -> u64 {
        let bytes = self.bytes.cast_unsigned() & COUNT;
        self.expected & COUNT
            | (self.pending & COUNT) << COUNT_BITS
            | bytes << (2 * COUNT_BITS)
            | if self.phase { PHASE } else { 0 }
    }

    /// The phase ends when nothing is pending.
    fn settle(mut self) -> Self {
        if self.pending == 0 && self.bytes == 0 {
            self.phase = !self.phase;
            self.pending = self.expected;
        }
        self
    }

    fn arrive(mut self, count: u64, drop: bool) -> Result<Self, String> {
        if count > self.pending {
            return Err(format!("{count} arrivals at a phase that expects {} more", self.pending));
        }
        self.pending -= count;
        if drop {
            self.expected = self.expected.saturating_sub(count);
        }
        Ok(self.settle())
    }

    /// Expects bytes (positive) or takes those that have come (negative).
    fn transfer(mut self, bytes: i64) -> Result<Self, String> {
        self.bytes += bytes;
        if self.bytes.unsigned_abs() > MOST {
            return Err(format!("{} transaction bytes, more than an object can count", self.bytes));
        }
        Ok(self)
    }
}

/// The number that names the object of an address in shared memory for the order of events.
fn object(address: u64) -> u64 {
    address & 0xFFFF_FFFF
}

impl Env<'_, '_> {
    fn object_access(space: Space) -> Access {
        let strength = Strength::Strong { order: Order::Relaxed, scope: Scope::Cluster };
        Access { space, bytes: 8, strength }
    }

    /// Changes the object at the address of one lane; gives the word from before.
    pub(super) fn update(
        &mut self,
        at: (u32, u32, usize),
        space: Space,
        address: u64,
        change: &mut dyn FnMut(Object) -> Result<Object, String>,
    ) -> Result<u64, Fault> {
        let (warp, pc, lane) = at;
        let mut all = [0; LANES];
        all[lane] = address;
        let (mut before, mut problem) = (0, None);
        let mut f = |_: usize, word: u64| {
            before = word;
            match change(Object::of(word)) {
                Ok(object) => object.word(),
                Err(message) => {
                    problem = Some(message);
                    word
                }
            }
        };
        self.memory.atomic(Site { warp, pc }, &Self::object_access(space), 1 << lane, &all, &mut f)?;
        match problem {
            None => Ok(before),
            Some(message) => {
                let mut fault = self.fault(FindingKind::InvalidUse, warp, pc, 1 << lane, message);
                fault.address = Some(address);
                fault.space = Some(space);
                Err(fault)
            }
        }
    }

    pub(super) fn mbarrier(
        &mut self,
        warp: u32,
        pc: u32,
        regs: &mut Regs,
        step: &MbarrierStep,
        active: u32,
    ) -> Result<(), Fault> {
        use MbarrierOp as M;
        let space = step.pointer.space;
        let mut at = [0; LANES];
        addresses(regs, &step.pointer, &mut at);
        if step.op == M::Init || step.op == M::Inval {
            return self.make(warp, pc, regs, step, active, &at);
        }
        if step.ordered && step.op.arrives() {
            for lane in super::lanes(active) {
                self.memory.release(warp, object(self.within(space, at[lane])));
            }
        }
        let mut waits = false;
        for lane in super::lanes(active) {
            let value = step.value.map(|value| read_lane(regs, value, lane));
            let site = (warp, pc, lane);
            let number = value.unwrap_or(1);
            let bytes = number.cast_signed();
            let before = match step.op {
                M::ExpectTx => self.update(site, space, at[lane], &mut |o| o.transfer(bytes))?,
                M::CompleteTx => {
                    self.update(site, space, at[lane], &mut |o| Ok(o.transfer(-bytes)?.settle()))?
                }
                M::Arrive | M::ArriveNoComplete => {
                    self.update(site, space, at[lane], &mut |o| o.arrive(number, false))?
                }
                M::ArriveDrop | M::ArriveDropNoComplete => {
                    self.update(site, space, at[lane], &mut |o| o.arrive(number, true))?
                }
                M::ArriveExpectTx => {
                    self.update(site, space, at[lane], &mut |o| o.transfer(bytes)?.arrive(1, false))?
                }
                M::ArriveDropExpectTx => {
                    self.update(site, space, at[lane], &mut |o| o.transfer(bytes)?.arrive(1, true))?
                }
                _ => self.update(site, space, at[lane], &mut Ok)?,
            };
            if !step.op.waits() {
                if let Some(dest) = step.dest {
                    write_lane(regs, dest, lane, before);
                }
                continue;
            }
            let phase = Object::of(before).phase;
            let asked = match step.op {
                M::TestWait | M::TryWait => Object::of(number).phase,
                _ => number & 1 == 1,
            };
            let complete = phase != asked;
            waits |= !complete;
            if let Some(dest) = step.dest {
                write_lane(regs, dest, lane, u64::from(complete));
            }
            if complete && step.ordered {
                self.memory.acquire(warp, object(self.within(space, at[lane])));
            }
        }
        if waits {
            // Others have to run first.
            self.polls = POLLS;
        }
        Ok(())
    }

    fn make(
        &mut self,
        warp: u32,
        pc: u32,
        regs: &Regs,
        step: &MbarrierStep,
        active: u32,
        at: &[u64; LANES],
    ) -> Result<(), Fault> {
        let mut data: Box<Values> = Box::new([[0; 8]; LANES]);
        for lane in super::lanes(active) {
            let count = step.value.map_or(0, |value| read_lane(regs, value, lane));
            if step.op == MbarrierOp::Init && !(1..=MOST).contains(&count) {
                let detail = format!("an object expects 1 to {MOST} arrivals, not {count}");
                return Err(self.fault(FindingKind::InvalidUse, warp, pc, 1 << lane, detail));
            }
            let word = if step.op == MbarrierOp::Init { Object::new(count).word() } else { 0 };
            #[expect(clippy::cast_possible_truncation, reason = "two words")]
            let halves = [word as u32, (word >> 32) as u32];
            data[lane][..2].copy_from_slice(&halves);
        }
        let access = Access { space: step.pointer.space, bytes: 8, strength: Strength::Weak };
        self.memory.store(Site { warp, pc }, &access, active, at, &data)
    }

    /// An address within shared memory.
    fn within(&self, space: Space, address: u64) -> u64 {
        if space == Space::Generic { address.wrapping_sub(SHARED_WINDOW) } else { address }
    }

    /// Bytes of an asynchronous copy have arrived.
    pub(super) fn complete(
        &mut self,
        at: (u32, u32, usize),
        space: Space,
        address: u64,
        bytes: u64,
    ) -> Result<(), Fault> {
        self.memory.release(at.0, object(self.within(space, address)));
        let bytes = bytes.cast_signed();
        self.update(at, space, address, &mut |o| Ok(o.transfer(-bytes)?.settle()))?;
        Ok(())
    }

    /// `st.async`: the store, then its bytes for the barrier object. They have come when the instruction has executed, which
    /// is one of the times that hardware may choose.
    pub(super) fn store_async(
        &mut self,
        warp: u32,
        pc: u32,
        regs: &mut Regs,
        step: &StoreAsync,
        active: u32,
    ) -> Result<(), Fault> {
        let (mut to, mut barrier) = ([0; LANES], [0; LANES]);
        addresses(regs, &step.store.pointer, &mut to);
        addresses(regs, &step.barrier, &mut barrier);
        let block = |address: u64| object(address) >> RANK_SHIFT;
        if let Some(lane) = super::lanes(active).find(|&lane| block(to[lane]) != block(barrier[lane])) {
            let detail = "the barrier object is not in the block that is stored to".to_owned();
            return Err(self.fault(FindingKind::InvalidUse, warp, pc, 1 << lane, detail));
        }
        self.store(warp, pc, regs, &step.store, active)?;
        for lane in super::lanes(active) {
            let bytes = u64::from(step.store.bytes());
            self.complete((warp, pc, lane), step.barrier.space, barrier[lane], bytes)?;
        }
        Ok(())
    }

    /// `cp.async.mbarrier.arrive`: the copies of the thread arrive, then the thread does.
    pub(super) fn copy_arrive(
        &mut self,
        warp: u32,
        pc: u32,
        regs: &Regs,
        step: &CopyArrive,
        active: u32,
        copies: &mut Copies,
    ) -> Result<(), Fault> {
        self.wait_copies(warp, copies, active, None)?;
        let Pointer { space, .. } = step.pointer;
        let mut at = [0; LANES];
        addresses(regs, &step.pointer, &mut at);
        for lane in super::lanes(active) {
            self.memory.release(warp, object(self.within(space, at[lane])));
            // Without `.noinc` the phase expects one more arrival, which this is.
            let site = (warp, pc, lane);
            self.update(site, space, at[lane], &mut |o| {
                if step.counted { o.arrive(1, false) } else { Ok(o) }
            })?;
        }
        Ok(())
    }
}

/// `mbarrier.pending_count`.
pub(super) fn pending_count(regs: &mut Regs, args: &Args, active: u32) {
    for lane in super::lanes(active) {
        let state = Object::of(regs.l[args.slots[1] as usize][lane]);
        #[expect(clippy::cast_possible_truncation, reason = "21 bits")]
        let pending = state.pending as u32;
        regs.w[args.slots[0] as usize][lane] = pending;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_hold_objects() {
        for bytes in [0, 16, -16, MOST as i64, -(MOST as i64)] {
            for phase in [false, true] {
                let object = Object { expected: MOST, pending: 17, bytes, phase };
                assert_eq!(Object::of(object.word()), object);
            }
        }
    }

    #[test]
    fn a_phase_ends_when_arrivals_and_bytes_are_there() {
        let object = Object::new(2);
        let one = object.transfer(32).and_then(|o| o.arrive(1, false)).unwrap();
        let two = one.arrive(1, false).unwrap();
        assert!(!two.phase, "the bytes are missing");
        let done = two.transfer(-32).unwrap().settle();
        assert!(done.phase && done.pending == 2);
        assert!(done.arrive(3, false).is_err());
        let dropped = done.arrive(1, true).unwrap().arrive(1, false).unwrap();
        assert!(!dropped.phase && dropped.pending == 1);
    }
}
