//! `cp.async.bulk`: copies of many bytes by one thread.
//!
//! The data is there when the instruction has executed, which is one of the times that hardware may choose.

use super::block::Env;
use super::transfer::addresses;
use crate::inst::Space;
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::memory::{Access, RANK_SHIFT, Site, Strength, Values};
use crate::interp::program::BulkStep;
use crate::interp::regs::{LANES, Regs};

/// Bytes of one access.
const CHUNK: u32 = 16;

impl Env<'_, '_> {
    pub(super) fn bulk(
        &mut self,
        warp: u32,
        pc: u32,
        regs: &Regs,
        step: &BulkStep,
        active: u32,
    ) -> Result<(), Fault> {
        let (mut to, mut from, mut barrier) = ([0; LANES], [0; LANES], [0; LANES]);
        addresses(regs, &step.to, &mut to);
        addresses(regs, &step.from, &mut from);
        if let Some(pointer) = &step.barrier {
            addresses(regs, pointer, &mut barrier);
        }
        for lane in super::lanes(active) {
            let bytes = regs.w[step.bytes as usize][lane];
            if !bytes.is_multiple_of(CHUNK) {
                let detail = format!("bulk copies move multiples of {CHUNK} bytes, not {bytes}");
                return Err(self.fault(FindingKind::InvalidUse, warp, pc, 1 << lane, detail));
            }
            // The same offset in every block of the mask; the own block, or the one of the address, without.
            let targets: Vec<Option<u32>> = match step.multicast {
                None => vec![None],
                Some(mask) => {
                    super::lanes(regs.w[mask as usize][lane] & 0xFFFF).map(|rank| Some(rank as u32)).collect()
                }
            };
            for rank in targets {
                let there = |address: u64| match rank {
                    None => address,
                    Some(rank) => address & !(0xFF << RANK_SHIFT) | u64::from(rank) << RANK_SHIFT,
                };
                self.move_bytes(
                    (warp, pc),
                    (step.from.space, from[lane]),
                    (step.to.space, there(to[lane])),
                    bytes,
                )?;
                if let Some(pointer) = &step.barrier {
                    self.complete((warp, pc, lane), pointer.space, there(barrier[lane]), u64::from(bytes))?;
                }
            }
        }
        Ok(())
    }

    fn move_bytes(
        &mut self,
        (warp, pc): (u32, u32),
        (from_space, from): (Space, u64),
        (to_space, to): (Space, u64),
        bytes: u32,
    ) -> Result<(), Fault> {
        let access = |space| Access { space, bytes: CHUNK as u8, strength: Strength::Weak };
        let mut data: Box<Values> = Box::new([[0; 8]; LANES]);
        let chunks = bytes / CHUNK;
        for first in (0..chunks).step_by(LANES) {
            let count = (chunks - first).min(LANES as u32);
            let mask = if count == 32 { u32::MAX } else { (1 << count) - 1 };
            let mut at = [0; LANES];
            let mut fill = |base: u64| {
                for (i, address) in (0..).zip(&mut at) {
                    *address = base.wrapping_add(u64::from(first + i) * u64::from(CHUNK));
                }
                at
            };
            let (source, target) = (fill(from), fill(to));
            self.memory.load(Site { warp, pc }, &access(from_space), mask, &source, &mut data)?;
            self.memory.store(Site { warp, pc }, &access(to_space), mask, &target, &data)?;
        }
        // The lanes of these accesses are not those of the warp.
        self.memory.sync_lanes(warp, u32::MAX);
        Ok(())
    }
}
