//! Accesses of a warp to the local memory of its threads.

use super::super::finding::{Fault, FindingKind};
use super::super::metrics::{Direction, Traffic};
use super::super::regs::LANES;
use super::super::sanitize::InitBits;
use super::block::{Access, ClusterMemory, Site, Values, lanes};
use super::shared::{POISON, load_words, store_words};
use crate::inst::Space;

/// The local memory of the threads of a cluster. That of a warp exists from its first access on.
#[derive(Clone, Debug)]
pub(super) struct LocalMemory {
    /// Bytes of a thread.
    bytes: u32,
    warps: Vec<Option<WarpMemory>>,
}

/// Thread after thread.
#[derive(Clone, Debug)]
struct WarpMemory {
    words: Vec<u32>,
    init: InitBits,
}

impl LocalMemory {
    pub(super) fn new(warps: usize, bytes: u32) -> Self {
        Self { bytes, warps: vec![None; warps] }
    }

    /// Bytes from one thread's memory to the next's: what an aligned access does not cross.
    fn stride(&self) -> usize {
        self.bytes.next_multiple_of(32) as usize
    }

    pub(super) fn begin(&mut self) {
        let bytes = self.stride() * LANES;
        for warp in self.warps.iter_mut().flatten() {
            warp.words.fill(POISON);
            warp.init.reset(bytes);
        }
    }

    fn warp(&mut self, warp: u32) -> Option<&mut WarpMemory> {
        let bytes = self.stride() * LANES;
        let slot = self.warps.get_mut(warp as usize)?;
        Some(slot.get_or_insert_with(|| {
            let mut init = InitBits::default();
            init.reset(bytes);
            WarpMemory { words: vec![POISON; bytes / 4], init }
        }))
    }
}

impl ClusterMemory<'_> {
    fn locate_local(&self, at: Site, access: &Access, lane: usize, address: u64) -> Result<usize, Fault> {
        let limit = u64::from(self.local.bytes);
        let bytes = u64::from(access.bytes);
        if address.checked_add(bytes).is_some_and(|end| end <= limit) {
            return Ok(address as usize + lane * self.local.stride());
        }
        let detail = format!(
            "{bytes} bytes at offset {address:#x} end after the thread's {limit} bytes of local memory"
        );
        Err(Box::new(self.finding_at(FindingKind::OutOfBounds, at, lane, (Space::Local, address), detail)))
    }

    pub(super) fn load_local(
        &mut self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
        out: &mut Values,
    ) -> Result<(), Fault> {
        let access = &Access { space: Space::Local, ..*access };
        self.check_alignment(at, access, mask, addresses)?;
        for lane in lanes(mask) {
            let offset = self.locate_local(at, access, lane, addresses[lane])?;
            let Some(memory) = self.local.warp(at.warp) else { return Ok(()) };
            load_words(&memory.words, offset, access.bytes.into(), &mut out[lane]);
            if self.launch.sanitize.init && !memory.init.has(offset, access.bytes.into()) {
                let place = (lane, addresses[lane]);
                self.report_unwritten(at, access, place, addresses[lane] as usize);
            }
        }
        self.count_local(at, access, Direction::Load, mask);
        Ok(())
    }

    pub(super) fn store_local(
        &mut self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
        data: &Values,
    ) -> Result<(), Fault> {
        let access = &Access { space: Space::Local, ..*access };
        self.check_alignment(at, access, mask, addresses)?;
        for lane in lanes(mask) {
            let offset = self.locate_local(at, access, lane, addresses[lane])?;
            let Some(memory) = self.local.warp(at.warp) else { return Ok(()) };
            store_words(&mut memory.words, offset, access.bytes.into(), &data[lane]);
            memory.init.mark(offset, access.bytes.into());
        }
        self.count_local(at, access, Direction::Store, mask);
        Ok(())
    }

    fn count_local(&mut self, at: Site, access: &Access, direction: Direction, mask: u32) {
        let Some(counters) = self.counters.as_mut() else { return };
        let lanes = u64::from(mask.count_ones());
        let bytes = lanes * u64::from(access.bytes);
        let traffic = Traffic { requests: u64::from(mask != 0), lanes, bytes, ..Traffic::default() };
        counters.add(at.pc, Space::Local, direction, traffic);
    }
}
