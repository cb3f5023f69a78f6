//! What is checked and counted about accesses to global memory.

use super::super::finding::{Fault, FindingKind, Findings, Other, RawFinding};
use super::super::metrics::{Direction, SECTOR_BYTES, TouchedBytes, Traffic};
use super::super::regs::LANES;
use super::super::sanitize::{Accessor, GlobalConflict};
use super::block::{Access, ClusterMemory, Order, Site, Strength, lanes};
use super::host::MemoryError;
use super::region::{AllocationKind, Region};
use crate::inst::{Scope, Space};
use std::sync::Arc;

/// A run of bytes in a region that the lanes from `lane` on access.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    pub(super) index: usize,
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) lane: usize,
}

impl<'a> ClusterMemory<'a> {
    /// What is wrong with an access that is in no allocation.
    #[cold]
    pub(super) fn outside(&self, at: Site, access: &Access, lane: usize, address: u64) -> Fault {
        let bytes = u64::from(access.bytes);
        let (kind, detail) = match self.launch.memory.unknown(address) {
            MemoryError::Freed { base, bytes: freed, .. } => {
                let detail = format!(
                    "{bytes} bytes at offset {} of an allocation of {freed} bytes at {base:#x} that was freed",
                    address - base
                );
                (FindingKind::UseAfterFree, detail)
            }
            _ => (FindingKind::OutOfBounds, self.neighbours(address, bytes)),
        };
        let detail = if self.launch.sanitize.memory { detail } else { String::new() };
        Box::new(self.finding_at(kind, at, lane, (access.space, address), detail))
    }

    /// Which allocation an access missed, and by how much.
    fn neighbours(&self, address: u64, bytes: u64) -> String {
        let before = self.table.at_or_before(address);
        let after = before.map_or(0, |index| index + 1);
        let end = |region: &Arc<Region>| region.base() + region.bytes();
        let past =
            before.and_then(|index| self.table.region(index)).map(|r| (address.saturating_sub(end(r)), r));
        let short = self.table.region(after).map(|region| (region.base() - address, region));
        match (past, short) {
            (Some((distance, region)), short) if short.is_none_or(|(other, _)| distance <= other) => {
                let (base, size) = (region.base(), region.bytes());
                if address < end(region) {
                    let over = address.saturating_add(bytes).saturating_sub(end(region));
                    format!(
                        "{bytes} bytes that end {over} bytes after the allocation of {size} bytes at {base:#x}"
                    )
                } else {
                    format!(
                        "{bytes} bytes that begin {distance} bytes after the end of the allocation of {size} bytes at {base:#x}"
                    )
                }
            }
            (_, Some((distance, region))) => format!(
                "{bytes} bytes that begin {distance} bytes before the allocation of {} bytes at {:#x}",
                region.bytes(),
                region.base()
            ),
            _ => format!("{bytes} bytes, and there is no memory at all"),
        }
    }

    #[inline]
    pub(super) fn check_initialised(&mut self, at: Site, access: &Access, piece: Piece) {
        if !self.launch.sanitize.init {
            return;
        }
        let region = &self.table.regions()[piece.index];
        if let Some(missing) = region.init.missing(piece.offset, piece.bytes) {
            self.report_uninitialised(at, access, piece, missing);
        }
    }

    #[cold]
    fn report_uninitialised(&mut self, at: Site, access: &Access, piece: Piece, missing: u64) {
        let region = self.region(piece.index).allocation();
        let bytes = u64::from(access.bytes);
        let lane = piece.lane + ((missing - piece.offset) / bytes) as usize;
        let init = &self.region(piece.index).init;
        let unwritten = |lane: u64| init.missing(piece.offset + lane * bytes, bytes).is_some();
        let count = (0..piece.bytes / bytes).filter(|lane| unwritten(*lane)).count() as u64;
        if self.findings.again(at.pc, FindingKind::Uninitialised, count) {
            return;
        }
        let detail = format!(
            "nothing wrote byte {missing} of the allocation of {} bytes at {:#x}",
            region.bytes, region.base
        );
        let place = (access.space, region.base + missing);
        let finding = self.finding_at(FindingKind::Uninitialised, at, lane, place, detail);
        self.findings.add(RawFinding { count, ..finding });
    }

    #[inline]
    pub(super) fn after_load(&mut self, who: Option<&Accessor<'_>>, at: Site, access: &Access, piece: Piece) {
        self.check_initialised(at, access, piece);
        if let Some(who) = who
            && self.region(piece.index).kind() != AllocationKind::Constant
        {
            self.record(who, (at, access), piece, false);
        }
    }

    #[inline]
    pub(super) fn after_store(
        &mut self,
        who: Option<&Accessor<'_>>,
        at: Site,
        access: &Access,
        piece: Piece,
    ) {
        self.region(piece.index).init.mark(piece.offset, piece.bytes);
        if let Some(who) = who {
            self.record(who, (at, access), piece, true);
        }
    }

    /// What the access is to shadow state, unless nobody looks for conflicts.
    #[inline]
    pub(super) fn accessor(&self, at: Site, access: &Access) -> Option<Accessor<'a>> {
        let launch = self.launch;
        launch.global_races.then(|| {
            let warp = (launch.shape.warps(), at.warp, at.pc);
            Accessor::new(&self.clocks, warp, access.strength.is_strong(), launch.tag, &launch.pending)
        })
    }

    /// Records an access in the shadow of the allocation and reports its conflicts.
    #[inline]
    fn record(&mut self, who: &Accessor<'_>, (at, access): (Site, &Access), piece: Piece, write: bool) {
        let region = &self.table.regions()[piece.index];
        let report = Report { at, access, piece, cluster: self.cluster, region };
        let findings = &mut self.findings;
        let mut conflict = |conflict: GlobalConflict| report.add(findings, conflict);
        if write {
            region.shadow.write(&self.clocks, who, (piece.offset, piece.bytes), &mut conflict);
        } else {
            region.shadow.read(&self.clocks, who, (piece.offset, piece.bytes), &mut conflict);
            if access.strength == Strength::NonCoherent
                && let Some(conflict) = region.shadow.written(who, piece.offset, piece.bytes)
            {
                report.add_non_coherent(findings, conflict);
            }
        }
    }

    /// A strong write tells its readers what the warp knows. Before the write.
    pub(super) fn tell(
        &mut self,
        at: Site,
        (order, scope): (Order, Scope),
        mask: u32,
        addresses: &[u64; LANES],
    ) {
        if !self.launch.global_races {
            return;
        }
        let device = scope != Scope::Cta;
        let known = self.clocks.tell(at.warp, order.releases(), device);
        let near =
            if device && !order.releases() { self.clocks.tell(at.warp, false, false) } else { known.clone() };
        let mut last = None;
        for address in lanes(mask).map(|lane| addresses[lane]) {
            if last == Some(address) {
                continue;
            }
            last = Some(address);
            if let Some(known) = known.as_ref().filter(|_| device) {
                self.launch.objects.publish(address, known);
            }
            if let Some(near) = &near {
                self.clocks.publish(address, near);
            }
        }
    }

    /// A strong read learns what the writers of the value knew. After the read.
    pub(super) fn hear(
        &mut self,
        at: Site,
        (order, scope): (Order, Scope),
        mask: u32,
        addresses: &[u64; LANES],
    ) {
        if !self.launch.global_races {
            return;
        }
        let mut last = None;
        for address in lanes(mask).map(|lane| addresses[lane]) {
            if last == Some(address) {
                continue;
            }
            last = Some(address);
            if scope != Scope::Cta
                && let Some(known) = self.launch.objects.learn(address)
            {
                self.clocks.hear(at.warp, known, order.acquires());
            }
            if let Some(known) = self.clocks.published(address) {
                self.clocks.hear(at.warp, known, order.acquires());
            }
        }
    }

    /// What a copy to shared memory past the L1 cache reads more than once: a sector for each sector that its bytes come
    /// to, as an H200 counts them.
    pub(in crate::interp) fn count_split_sectors(
        &mut self,
        at: Site,
        mask: u32,
        from: &[u64; LANES],
        to: &[u64; LANES],
    ) {
        if self.counters.is_none() {
            return;
        }
        let mut pairs: Vec<(u64, u64)> = Vec::with_capacity(LANES);
        for lane in lanes(mask) {
            let pair = (from[lane] / SECTOR_BYTES, to[lane] / SECTOR_BYTES);
            if pairs.contains(&pair) {
                continue;
            }
            let again = pairs.iter().any(|(sector, _)| *sector == pair.0);
            pairs.push(pair);
            let Some((index, _)) = self.locate(from[lane], 1) else { continue };
            let (base, size) = (self.region(index).base(), self.region(index).bytes());
            if again && let Some(counters) = self.counters.as_mut() {
                counters.allocation(base, size).sectors_read += 1;
                let traffic = Traffic { sectors: 1, ..Traffic::default() };
                counters.add(at.pc, Space::Global, Direction::Load, traffic);
            }
        }
    }

    pub(super) fn count_global(
        &mut self,
        at: Site,
        access: &Access,
        direction: Direction,
        mask: u32,
        addresses: &[u64; LANES],
    ) {
        let bytes = u64::from(access.bytes);
        let mut sectors = [0u64; LANES];
        let mut different = [0u64; LANES];
        let (mut sector_count, mut different_count) = (0, 0);
        let mut touched: Option<Arc<TouchedBytes>> = None;
        for lane in lanes(mask) {
            let address = addresses[lane];
            let Some((index, offset)) = self.locate(address, bytes) else { continue };
            let (base, size) = (self.region(index).base(), self.region(index).bytes());
            let Some(counters) = self.counters.as_mut() else { return };
            let allocation = counters.allocation(base, size);
            // An aligned access lies in one sector.
            let sector = address / SECTOR_BYTES;
            let new = u64::from(!sectors[..sector_count].contains(&sector));
            if new == 1 {
                sectors[sector_count] = sector;
                sector_count += 1;
            }
            // Aligned accesses of one size are the same or apart.
            let mut fresh = 0;
            if !different[..different_count].contains(&address) {
                different[different_count] = address;
                different_count += 1;
                fresh = bytes;
            }
            if direction != Direction::Store {
                allocation.bytes_read += fresh;
                allocation.sectors_read += new;
            }
            if direction != Direction::Load {
                allocation.bytes_written += fresh;
                allocation.sectors_written += new;
            }
            if touched.as_ref().is_none_or(|touched| touched.base() != base) {
                touched = Some(self.launch.touched.of(base, size));
            }
            if let Some(touched) = &touched {
                touched.mark(direction, offset, bytes);
            }
        }
        let Some(counters) = self.counters.as_mut() else { return };
        let lanes = u64::from(mask.count_ones());
        let traffic = Traffic {
            requests: 1,
            lanes,
            bytes: lanes * bytes,
            sectors: sector_count as u64,
            ideal_sectors: (different_count as u64 * bytes).div_ceil(SECTOR_BYTES),
            ..Traffic::default()
        };
        let space = if access.space == Space::Const { Space::Const } else { Space::Global };
        counters.add(at.pc, space, direction, traffic);
    }
}

/// Turns conflicts into findings.
struct Report<'a> {
    at: Site,
    access: &'a Access,
    piece: Piece,
    cluster: u32,
    region: &'a Region,
}

impl Report<'_> {
    #[cold]
    fn add(&self, findings: &mut Findings, conflict: GlobalConflict) {
        let kind = match conflict.pending {
            Some(_) => FindingKind::GridDependency,
            None => FindingKind::GlobalRace,
        };
        if findings.again(self.at.pc, kind, 1) {
            return;
        }
        let detail = match conflict.pending {
            Some(_) => format!(
                "an earlier launch that this one overtakes {} it, and griddepcontrol.wait has not been executed",
                if conflict.wrote { "wrote" } else { "read" }
            ),
            None => String::new(),
        };
        findings.add(self.finding(kind, conflict, detail));
    }

    #[cold]
    fn add_non_coherent(&self, findings: &mut Findings, conflict: GlobalConflict) {
        if !findings.again(self.at.pc, FindingKind::InvalidUse, 1) {
            let detail = "the read-only path is for memory that does not change during the launch".to_owned();
            findings.add(self.finding(FindingKind::InvalidUse, conflict, detail));
        }
    }

    fn finding(&self, kind: FindingKind, conflict: GlobalConflict, detail: String) -> RawFinding {
        let into = conflict.offset.saturating_sub(self.piece.offset);
        let other = conflict.pending.is_none().then_some(Other {
            cluster: conflict.cluster,
            warp: conflict.warp,
            lane: None,
            pc: conflict.pc,
            wrote: conflict.wrote,
        });
        RawFinding {
            kind,
            pc: self.at.pc,
            cluster: self.cluster,
            warp: self.at.warp,
            lane: self.piece.lane as u32 + (into / u64::from(self.access.bytes)) as u32,
            address: Some(self.region.base() + self.piece.offset.max(conflict.offset)),
            space: Some(self.access.space),
            detail,
            other,
            count: 1,
        }
    }
}
