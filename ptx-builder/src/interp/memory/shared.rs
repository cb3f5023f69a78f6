//! Accesses of a warp to shared memory, of its block and of others of the cluster.

use super::super::finding::{Fault, FindingKind, Other, RawFinding};
use super::super::launch::Sanitize;
use super::super::metrics::{Direction, Traffic, wavefronts};
use super::super::regs::LANES;
use super::super::sanitize::{InitBits, SharedAccess, SharedConflict, SharedShadow};
use super::block::{Access, ClusterMemory, Order, RANK_SHIFT, Site, Strength, Values, lanes};
use crate::inst::{Scope, Space};

/// What memory holds that nothing has written yet: far from zero in every type.
pub(super) const POISON: u32 = 0xCDCD_CDCD;

/// The shared memory of a block.
#[derive(Clone, Debug)]
pub(super) struct SharedMemory {
    bytes: u32,
    words: Vec<u32>,
    init: InitBits,
    shadow: SharedShadow,
}

impl SharedMemory {
    pub(super) fn new(bytes: u32) -> Self {
        Self {
            bytes,
            words: vec![POISON; bytes.div_ceil(4) as usize],
            init: InitBits::default(),
            shadow: SharedShadow::default(),
        }
    }

    pub(super) fn begin(&mut self, sanitize: Sanitize) {
        self.words.fill(POISON);
        if sanitize.init {
            self.init.reset(self.bytes as usize);
        }
        if sanitize.races {
            self.shadow.begin(self.bytes as usize);
        }
    }

    pub(super) fn forget_accesses(&mut self) {
        self.shadow.forget();
    }
}

/// Words around an aligned access of `bytes`, and the shift of a small one.
#[inline]
pub(super) fn load_words(words: &[u32], offset: usize, bytes: usize, out: &mut [u32; 8]) {
    let first = offset / 4;
    if bytes == 4 {
        out[0] = words.get(first).copied().unwrap_or(0);
    } else if bytes < 4 {
        let ones = if bytes == 1 { 0xFF } else { 0xFFFF };
        out[0] = words.get(first).map_or(0, |word| word >> (offset % 4 * 8) & ones);
    } else if let Some(words) = words.get(first..first + bytes / 4) {
        out[..words.len()].copy_from_slice(words);
    }
}

/// Stores; true if nothing changed.
#[inline]
pub(super) fn store_words(words: &mut [u32], offset: usize, bytes: usize, data: &[u32; 8]) -> bool {
    let first = offset / 4;
    if bytes == 4 {
        let Some(word) = words.get_mut(first) else { return true };
        std::mem::replace(word, data[0]) == data[0]
    } else if bytes < 4 {
        let shift = offset % 4 * 8;
        let mask = if bytes == 1 { 0xFF } else { 0xFFFF } << shift;
        let Some(word) = words.get_mut(first) else { return true };
        let new = *word & !mask | data[0] << shift & mask;
        let same = new == *word;
        *word = new;
        same
    } else if let Some(words) = words.get_mut(first..first + bytes / 4) {
        let same = words == &data[..words.len()];
        words.copy_from_slice(&data[..words.len()]);
        same
    } else {
        true
    }
}

impl ClusterMemory<'_> {
    /// The block and the offset that an address means.
    #[inline]
    fn locate_shared(
        &self,
        at: Site,
        access: &Access,
        lane: usize,
        address: u64,
    ) -> Result<(usize, usize), Fault> {
        let rank = (address >> RANK_SHIFT) as usize;
        let offset = address & ((1 << RANK_SHIFT) - 1);
        let own = (at.warp / self.launch.shape.warps_per_block.max(1)) as usize;
        let allowed = rank == own || access.space != Space::Shared;
        if offset + u64::from(access.bytes) <= u64::from(self.launch.shape.shared_bytes)
            && allowed
            && rank < self.shared.len()
        {
            return Ok((rank, offset as usize));
        }
        Err(self.outside_shared(at, access, lane, address))
    }

    /// The block whose shared memory all lanes access: its own, almost always. Otherwise lanes are looked at one by one.
    #[inline]
    fn own_shared(
        &self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
    ) -> Option<(usize, u64)> {
        let own = (at.warp / self.launch.shape.warps_per_block.max(1)) as usize;
        let base = (own as u64) << RANK_SHIFT;
        let limit = u64::from(self.launch.shape.shared_bytes).checked_sub(u64::from(access.bytes))?;
        let off = (0u32..).zip(addresses).fold(0, |off, (lane, address)| {
            off | mask >> lane & u32::from(address.wrapping_sub(base) > limit)
        });
        (off & 1 == 0 && own < self.shared.len()).then_some((own, base))
    }

    #[inline]
    fn shared_access(&self, at: Site, access: &Access) -> Option<SharedAccess> {
        let strong = access.strength.is_strong();
        self.launch.sanitize.races.then(|| SharedAccess::new(&self.clocks, at.warp, at.pc, strong))
    }

    #[cold]
    fn outside_shared(&self, at: Site, access: &Access, lane: usize, address: u64) -> Fault {
        let declared = u64::from(self.launch.shape.shared_bytes);
        let (rank, offset) = (address >> RANK_SHIFT, address & ((1 << RANK_SHIFT) - 1));
        let bytes = u64::from(access.bytes);
        let detail = if rank as usize >= self.shared.len() {
            format!(
                "the address is in the shared memory of rank {rank}, and the cluster has {}",
                self.shared.len()
            )
        } else if offset + bytes <= declared {
            format!("the address is in the shared memory of rank {rank}, which needs shared::cluster")
        } else {
            let over = offset + bytes - declared;
            format!(
                "{bytes} bytes at offset {offset} end {over} bytes after the block's {declared} bytes of shared memory"
            )
        };
        Box::new(self.finding_at(FindingKind::OutOfBounds, at, lane, (access.space, address), detail))
    }

    pub(super) fn load_shared(
        &mut self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
        out: &mut Values,
    ) -> Result<(), Fault> {
        self.check_alignment(at, access, mask, addresses)?;
        let bytes = usize::from(access.bytes);
        let own = self.own_shared(at, access, mask, addresses);
        let who = self.shared_access(at, access);
        // Three lanes that read the same in a row are as good as two.
        let mut before = [None; 2];
        for lane in lanes(mask) {
            let address = addresses[lane];
            let (rank, offset) = match own {
                Some((own, base)) => (own, (address - base) as usize),
                None => self.locate_shared(at, access, lane, address)?,
            };
            load_words(&self.shared[rank].words, offset, bytes, &mut out[lane]);
            if before != [Some(address); 2] {
                self.check_shared_read(who.as_ref(), (at, access), (rank, offset), (lane, address));
                before = [before[1], Some(address)];
            }
        }
        if let Strength::Strong { order, .. } = access.strength {
            self.hear_shared(at, order, mask, addresses);
        }
        self.count_shared(at, access, Direction::Load, mask, addresses);
        Ok(())
    }

    #[inline]
    fn check_shared_read(
        &mut self,
        who: Option<&SharedAccess>,
        (at, access): (Site, &Access),
        (rank, offset): (usize, usize),
        place: (usize, u64),
    ) {
        let bytes = usize::from(access.bytes);
        if self.launch.sanitize.init && !self.shared[rank].init.has(offset, bytes) {
            self.report_unwritten(at, access, place, offset);
        }
        if let Some(who) = who
            && let Some(conflict) = self.shared[rank].shadow.read(&self.clocks, who, place.0, (offset, bytes))
        {
            self.report_shared_race(at, access, place, conflict);
        }
    }

    #[inline]
    fn check_shared_write(
        &mut self,
        who: Option<&SharedAccess>,
        (at, access): (Site, &Access),
        (rank, offset): (usize, usize),
        place: (usize, u64),
        same: bool,
    ) {
        let bytes = usize::from(access.bytes);
        let shared = &mut self.shared[rank];
        if self.launch.sanitize.init {
            shared.init.mark(offset, bytes);
        }
        if let Some(who) = who
            && let Some(conflict) = shared.shadow.write(&self.clocks, who, place.0, (offset, bytes), same)
        {
            self.report_shared_race(at, access, place, conflict);
        }
    }

    /// A read of bytes of shared or local memory that nothing wrote.
    #[cold]
    pub(super) fn report_unwritten(
        &mut self,
        at: Site,
        access: &Access,
        (lane, address): (usize, u64),
        offset: usize,
    ) {
        if !self.findings.again(at.pc, FindingKind::Uninitialised, 1) {
            let whose = if access.space == Space::Local { "thread's local" } else { "block's shared" };
            let detail = format!(
                "nothing wrote all of the {} bytes at offset {offset} of the {whose} memory",
                access.bytes
            );
            let place = (access.space, address);
            let finding = self.finding_at(FindingKind::Uninitialised, at, lane, place, detail);
            self.findings.add(finding);
        }
    }

    #[cold]
    fn report_shared_race(
        &mut self,
        at: Site,
        access: &Access,
        (lane, address): (usize, u64),
        conflict: SharedConflict,
    ) {
        if !self.findings.again(at.pc, FindingKind::SharedRace, 1) {
            let place = (access.space, address);
            let finding = self.finding_at(FindingKind::SharedRace, at, lane, place, String::new());
            let other = Other {
                cluster: self.cluster,
                warp: conflict.warp,
                lane: conflict.lane,
                pc: conflict.pc,
                wrote: conflict.wrote,
            };
            self.findings.add(RawFinding { other: Some(other), ..finding });
        }
    }

    pub(super) fn store_shared(
        &mut self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
        data: &Values,
    ) -> Result<(), Fault> {
        self.write_shared(at, access, mask, addresses, data)?;
        self.count_shared(at, access, Direction::Store, mask, addresses);
        Ok(())
    }

    /// What a store does but for being counted: a copy in the background is counted when it is issued, and writes again when
    /// it is complete.
    pub(in crate::interp) fn write_shared(
        &mut self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
        data: &Values,
    ) -> Result<(), Fault> {
        self.check_alignment(at, access, mask, addresses)?;
        // Before a release ends the epoch: it orders itself too.
        let who = self.shared_access(at, access);
        if let Strength::Strong { order, scope } = access.strength {
            self.tell_shared(at, (order, scope), mask, addresses);
        }
        let own = self.own_shared(at, access, mask, addresses);
        for lane in lanes(mask) {
            let address = addresses[lane];
            let (rank, offset) = match own {
                Some((own, base)) => (own, (address - base) as usize),
                None => self.locate_shared(at, access, lane, address)?,
            };
            let same = store_words(&mut self.shared[rank].words, offset, access.bytes.into(), &data[lane]);
            self.check_shared_write(who.as_ref(), (at, access), (rank, offset), (lane, address), same);
        }
        Ok(())
    }

    pub(super) fn atomic_shared(
        &mut self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
        f: &mut dyn FnMut(usize, u64) -> u64,
    ) -> Result<(), Fault> {
        self.check_alignment(at, access, mask, addresses)?;
        let (order, scope) = match access.strength {
            Strength::Strong { order, scope } => (order, scope),
            _ => (Order::Relaxed, Scope::Gpu),
        };
        let access = &Access { strength: Strength::Strong { order, scope }, ..*access };
        let who = self.shared_access(at, access);
        self.tell_shared(at, (order, scope), mask, addresses);
        let bytes = usize::from(access.bytes);
        for lane in lanes(mask) {
            let address = addresses[lane];
            let place = self.locate_shared(at, access, lane, address)?;
            let (rank, offset) = place;
            let shared = &mut self.shared[rank];
            if self.launch.sanitize.init && !shared.init.has(offset, bytes) {
                self.report_unwritten(at, access, (lane, address), offset);
            }
            let words = &mut self.shared[rank].words;
            let mut value = [0; 8];
            load_words(words, offset, bytes, &mut value);
            let new = f(lane, u64::from(value[0]) | u64::from(value[1]) << 32);
            value[0] = new as u32;
            value[1] = (new >> 32) as u32;
            store_words(words, offset, bytes, &value);
            self.check_shared_write(who.as_ref(), (at, access), place, (lane, address), false);
        }
        self.hear_shared(at, order, mask, addresses);
        self.count_shared(at, access, Direction::Atomic, mask, addresses);
        Ok(())
    }

    fn tell_shared(
        &mut self,
        at: Site,
        (order, _scope): (Order, Scope),
        mask: u32,
        addresses: &[u64; LANES],
    ) {
        if !self.launch.sanitize.races {
            return;
        }
        if let Some(known) = self.clocks.tell(at.warp, order.releases(), false) {
            for lane in lanes(mask) {
                self.clocks.publish(addresses[lane], &known);
            }
        }
    }

    fn hear_shared(&mut self, at: Site, order: Order, mask: u32, addresses: &[u64; LANES]) {
        if !self.launch.sanitize.races {
            return;
        }
        for lane in lanes(mask) {
            if let Some(known) = self.clocks.published(addresses[lane]) {
                self.clocks.hear(at.warp, known, order.acquires());
            }
        }
    }

    #[inline]
    fn count_shared(
        &mut self,
        at: Site,
        access: &Access,
        direction: Direction,
        mask: u32,
        addresses: &[u64; LANES],
    ) {
        let Some(counters) = self.counters.as_mut() else { return };
        if mask == 0 {
            return;
        }
        let (passes, ideal_wavefronts) = wavefronts(mask, addresses, u64::from(access.bytes));
        let lanes = u64::from(mask.count_ones());
        let traffic = Traffic {
            requests: 1,
            lanes,
            bytes: lanes * u64::from(access.bytes),
            wavefronts: passes,
            ideal_wavefronts,
            ..Traffic::default()
        };
        counters.add(at.pc, Space::Shared, direction, traffic);
    }
}
