//! `atom` and `red`.

use super::block::Env;
use super::transfer::{addresses, read_lane, write_lane};
use crate::inst::Space;
use crate::interp::alu;
use crate::interp::finding::Fault;
use crate::interp::memory::{Access, Order, Site, Strength};
use crate::interp::program::AtomicStep;
use crate::interp::regs::{LANES, Regs};

impl Env<'_, '_> {
    pub(super) fn atomic(
        &mut self,
        warp: u32,
        pc: u32,
        regs: &mut Regs,
        step: &AtomicStep,
        mask: u32,
    ) -> Result<(), Fault> {
        if mask == 0 {
            return Ok(());
        }
        // Locks and counters that others change are read by atomic operations too.
        self.polls += u32::from(step.dest.is_some() && step.pointer.space != Space::Shared);
        let order = match (step.acquire, step.release) {
            (false, false) => Order::Relaxed,
            (true, false) => Order::Acquire,
            (false, true) => Order::Release,
            (true, true) => Order::AcqRel,
        };
        let bytes = u8::try_from(step.ty.bytes()).unwrap_or(8);
        let strength = Strength::Strong { order, scope: step.scope };
        let access = Access { space: step.pointer.space, bytes, strength };
        addresses(regs, &step.pointer, &mut self.buffers.addresses);
        let mut old = [0u64; LANES];
        let operand = |lane: usize, i: usize| step.values[i].map_or(0, |e| read_lane(regs, e, lane));
        let flush = step.pointer.space == Space::Global;
        let mut f = |lane: usize, before: u64| {
            if let Some(slot) = old.get_mut(lane) {
                *slot = before;
            }
            alu::atomic(step.op, step.ty, before, [operand(lane, 0), operand(lane, 1)], flush)
        };
        self.memory.atomic(Site { warp, pc }, &access, mask, &self.buffers.addresses, &mut f)?;
        if let Some(dest) = step.dest {
            for lane in super::lanes(mask) {
                write_lane(regs, dest, lane, old[lane]);
            }
        }
        Ok(())
    }
}
