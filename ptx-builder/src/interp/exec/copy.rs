//! `cp.async`: data that arrives when the thread waits for it, or earlier.
//!
//! The destination counts as written from the copy on, and again when the copy is waited for, so that conflicts with
//! either are found. Reading it in between is a race whoever reads. The seed decides whether the data is there at
//! once or only at the end; in the second case the destination holds garbage in between.

use super::block::Env;
use super::transfer::addresses;
use crate::inst::Space;
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::memory::{Access, RANK_SHIFT, SHARED_WINDOW, Site, Strength, Values};
use crate::interp::program::CopyAsync;
use crate::interp::regs::{LANES, Regs};

/// What the destination holds while a copy is under way.
const GARBAGE: u32 = 0xCDCD_CDCD;

/// The copies of one instruction.
#[derive(Clone, Debug)]
struct Copy {
    pc: u32,
    bytes: u8,
    /// Lanes that still wait for theirs.
    mask: u32,
    to: Box<[u64; LANES]>,
    data: Box<[[u32; 4]; LANES]>,
    /// The group of each lane; `None` while it is open.
    group: [Option<u32>; LANES],
}

/// The asynchronous copies of a warp.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies {
    pending: Vec<Copy>,
    /// Groups that each lane has committed.
    committed: [u32; LANES],
}

impl Copies {
    /// `cp.async.commit_group`.
    pub(super) fn commit(&mut self, active: u32) {
        for copy in &mut self.pending {
            for lane in super::lanes(active & copy.mask) {
                copy.group[lane].get_or_insert(self.committed[lane]);
            }
        }
        for lane in super::lanes(active) {
            self.committed[lane] = self.committed[lane].wrapping_add(1);
        }
    }
}

/// Bytes of shared memory that asynchronous copies are going to write, in units of 4.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    /// The copying instruction and 1, or 0.
    units: Vec<u32>,
    open: usize,
}

/// The units of a range of shared memory, whatever the block of the cluster.
fn units(address: u64, bytes: u8) -> std::ops::Range<usize> {
    let offset = (address & ((1 << RANK_SHIFT) - 1)) as usize;
    offset / 4..(offset + usize::from(bytes)).div_ceil(4)
}

impl InFlight {
    pub(super) fn is_empty(&self) -> bool {
        self.open == 0
    }

    fn add(&mut self, address: u64, bytes: u8, pc: u32) {
        let range = units(address, bytes);
        if self.units.len() < range.end {
            self.units.resize(range.end, 0);
        }
        for unit in &mut self.units[range] {
            self.open += usize::from(*unit == 0);
            *unit = pc + 1;
        }
    }

    fn remove(&mut self, address: u64, bytes: u8) {
        for unit in self.units.get_mut(units(address, bytes)).unwrap_or_default() {
            self.open -= usize::from(*unit != 0);
            *unit = 0;
        }
    }

    fn find(&self, address: u64, bytes: u8) -> Option<u32> {
        let found = self.units.get(units(address, bytes))?.iter().find(|unit| **unit != 0)?;
        Some(found - 1)
    }
}

impl Env<'_, '_> {
    pub(super) fn copy_async(
        &mut self,
        warp: u32,
        pc: u32,
        regs: &Regs,
        copy: &CopyAsync,
        mask: u32,
        copies: &mut Copies,
    ) -> Result<(), Fault> {
        let site = Site { warp, pc };
        let mut to = Box::new([0; LANES]);
        addresses(regs, &copy.to, &mut to);
        let mut from = [0; LANES];
        addresses(regs, &copy.from, &mut from);
        let mut data: Box<Values> = Box::new([[0; 8]; LANES]);
        // Lanes that read everything, and those that read a part.
        let bytes = u32::from(copy.bytes);
        let valid = |lane: usize| copy.valid.map_or(bytes, |slot| regs.w[slot as usize][lane]);
        let whole = super::lanes(mask).filter(|lane| valid(*lane) == bytes).fold(0, |m, lane| m | 1 << lane);
        let access = |space, bytes| Access { space, bytes, strength: Strength::Weak };
        if whole != 0 {
            let read = access(copy.from.space, copy.bytes);
            self.memory.load(site, &read, whole, &from, &mut data)?;
            if copy.bypasses {
                self.memory.count_split_sectors(site, whole, &from, &to);
            }
        }
        for lane in super::lanes(mask & !whole) {
            if valid(lane) > bytes {
                let detail = format!("it reads {} bytes to write {bytes}", valid(lane));
                return Err(self.fault(FindingKind::InvalidUse, warp, pc, 1 << lane, detail));
            }
            let mut part: Box<Values> = Box::new([[0; 8]; LANES]);
            for byte in 0..valid(lane) {
                let mut at = from;
                at[lane] = at[lane].wrapping_add(u64::from(byte));
                self.memory.load(site, &access(copy.from.space, 1), 1 << lane, &at, &mut part)?;
                data[lane][(byte as usize / 4) & 7] |= (part[lane][0] & 0xFF) << (byte % 4 * 8);
            }
        }
        let early = self.grid.options.seed.is_multiple_of(2);
        let checked = self.grid.options.sanitize.races || self.grid.options.sanitize.init;
        let write = access(copy.to.space, copy.bytes);
        if early {
            self.memory.store(site, &write, mask, &to, &data)?;
        } else {
            // Also checks the address while the instruction is known.
            let garbage: Box<Values> = Box::new([[GARBAGE; 8]; LANES]);
            self.memory.store(site, &write, mask, &to, &garbage)?;
        }
        if checked {
            for lane in super::lanes(mask) {
                self.block.in_flight.add(to[lane], copy.bytes, pc);
            }
        }
        let mut kept = Box::new([[0; 4]; LANES]);
        for (kept, data) in kept.iter_mut().zip(data.iter()) {
            kept.copy_from_slice(&data[..4]);
        }
        copies.pending.push(Copy { pc, bytes: copy.bytes, mask, to, data: kept, group: [None; LANES] });
        Ok(())
    }

    /// Active lanes wait until at most `open` of their groups are under way; `None`: until nothing is.
    pub(super) fn wait_copies(
        &mut self,
        warp: u32,
        copies: &mut Copies,
        active: u32,
        open: Option<u32>,
    ) -> Result<(), Fault> {
        let committed = copies.committed;
        let mut data: Box<Values> = Box::new([[0; 8]; LANES]);
        for copy in &mut copies.pending {
            let done = super::lanes(active & copy.mask).filter(|lane| match (open, copy.group[*lane]) {
                (None, _) => true,
                (Some(_), None) => false,
                (Some(open), Some(group)) => committed[*lane].wrapping_sub(group) > open,
            });
            let done = done.fold(0, |mask, lane| mask | 1 << lane);
            if done == 0 {
                continue;
            }
            copy.mask &= !done;
            for lane in super::lanes(done) {
                self.block.in_flight.remove(copy.to[lane], copy.bytes);
                data[lane][..4].copy_from_slice(&copy.data[lane]);
            }
            let write = Access { space: Space::Shared, bytes: copy.bytes, strength: Strength::Weak };
            self.memory.write_shared(Site { warp, pc: copy.pc }, &write, done, &copy.to, &data)?;
        }
        copies.pending.retain(|copy| copy.mask != 0);
        Ok(())
    }

    /// Reads of what asynchronous copies are about to write.
    pub(super) fn check_in_flight(&mut self, warp: u32, pc: u32, access: &Access, mask: u32) {
        let window = match access.space {
            Space::Shared | Space::SharedCluster => 0,
            Space::Generic => SHARED_WINDOW,
            _ => return,
        };
        if !self.grid.options.sanitize.races {
            return;
        }
        let mut hit = None;
        for lane in super::lanes(mask) {
            let address = self.buffers.addresses[lane].wrapping_sub(window);
            // Other memory, or that of another block.
            if address >> RANK_SHIFT != u64::from(self.block.rank) {
                continue;
            }
            if let Some(by) = self.block.in_flight.find(address, access.bytes) {
                let (lanes, _, _) = hit.get_or_insert((0, address, by));
                *lanes |= 1 << lane;
            }
        }
        if let Some((lanes, address, by)) = hit {
            let line = self.grid.code.describe(by).1;
            let detail = format!("the bytes are the destination of `{line}`, which nobody has waited for");
            let mut finding = self.fault(FindingKind::SharedRace, warp, pc, lanes, detail);
            finding.address = Some(address);
            finding.space = Some(Space::Shared);
            finding.count = u64::from(lanes.count_ones());
            self.memory.report(*finding);
        }
    }
}
