//! Accesses of a warp to global and constant memory.

use super::super::finding::{Fault, FindingKind};
use super::super::metrics::Direction;
use super::super::regs::LANES;
use super::accesses::Piece;
use super::block::{Access, ClusterMemory, Order, Site, Strength, Values, lanes};
use super::region::{AllocationKind, Region};
use crate::inst::Scope;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// If the lanes of the mask are the first of the warp and access one run of bytes: their number.
#[inline]
fn run(mask: u32, addresses: &[u64; LANES], bytes: u64) -> Option<usize> {
    let count = mask.trailing_ones() as usize;
    if count == 0 || mask != u32::MAX >> (LANES - count) {
        return None;
    }
    let first = addresses[0];
    let expected = |lane: usize| first.wrapping_add(lane as u64 * bytes);
    let active = &addresses[..count];
    let off = active.iter().enumerate().fold(0, |off, (lane, address)| off | (address ^ expected(lane)));
    (off == 0).then_some(count)
}

/// The host's order for an access.
fn ordering(strength: Strength, load: bool) -> Ordering {
    match strength {
        Strength::Strong { .. } if load => Ordering::Acquire,
        Strength::Strong { .. } => Ordering::Release,
        _ => Ordering::Relaxed,
    }
}

impl ClusterMemory<'_> {
    /// The region around an access and the offset in it.
    #[inline]
    pub(super) fn locate(&mut self, address: u64, bytes: u64) -> Option<(usize, u64)> {
        if let Some(offset) = self.table.region(self.cached).and_then(|region| region.offset(address, bytes))
        {
            return Some((self.cached, offset));
        }
        self.locate_slowly(address, bytes)
    }

    fn locate_slowly(&mut self, address: u64, bytes: u64) -> Option<(usize, u64)> {
        for refreshed in [false, true] {
            if refreshed {
                // The kernel itself may have allocated memory.
                let table = self.launch.memory.table();
                if Arc::ptr_eq(&table, &self.table) {
                    return None;
                }
                self.table = table;
            }
            if let Some(index) = self.table.at_or_before(address)
                && let Some(offset) =
                    self.table.region(index).and_then(|region| region.offset(address, bytes))
            {
                self.cached = index;
                return Some((index, offset));
            }
        }
        None
    }

    pub(super) fn region(&self, index: usize) -> &Arc<Region> {
        &self.table.regions()[index]
    }

    pub(super) fn load_global(
        &mut self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
        out: &mut Values,
    ) -> Result<(), Fault> {
        if mask == 0 {
            return Ok(());
        }
        self.check_alignment(at, access, mask, addresses)?;
        let bytes = u64::from(access.bytes);
        let who = self.accessor(at, access);
        let order = ordering(access.strength, true);
        let whole = bytes > 4 && access.strength.is_strong();
        if let Some(count) = run(mask, addresses, bytes)
            && !whole
            && let Some((index, offset)) = self.locate(addresses[0], bytes * count as u64)
        {
            load_run(self.region(index), offset, (bytes, count), order, out);
            let piece = Piece { index, offset, bytes: bytes * count as u64, lane: 0 };
            self.after_load(who.as_ref(), at, access, piece);
        } else {
            let mut last = None;
            for lane in lanes(mask) {
                let Some((index, offset)) = self.locate(addresses[lane], bytes) else {
                    return Err(self.outside(at, access, lane, addresses[lane]));
                };
                let guard = whole.then(|| self.launch.memory.lock(addresses[lane]));
                load_lane(self.region(index), offset, bytes, order, &mut out[lane]);
                drop(guard);
                // Lanes that read the same in a row are one reader.
                if last != Some((index, offset)) {
                    self.after_load(who.as_ref(), at, access, Piece { index, offset, bytes, lane });
                    last = Some((index, offset));
                }
            }
        }
        if let Strength::Strong { order, scope } = access.strength {
            self.hear(at, (order, scope), mask, addresses);
        }
        if self.counters.is_some() {
            self.count_global(at, access, Direction::Load, mask, addresses);
        }
        Ok(())
    }

    pub(super) fn store_global(
        &mut self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
        data: &Values,
    ) -> Result<(), Fault> {
        if mask == 0 {
            return Ok(());
        }
        self.check_alignment(at, access, mask, addresses)?;
        let bytes = u64::from(access.bytes);
        // Before a release ends the epoch: it orders itself too.
        let who = self.accessor(at, access);
        if let Strength::Strong { order, scope } = access.strength {
            self.tell(at, (order, scope), mask, addresses);
        }
        let order = ordering(access.strength, false);
        let whole = bytes > 4 && access.strength.is_strong();
        if let Some(count) = run(mask, addresses, bytes)
            && !whole
            && let Some((index, offset)) = self.locate(addresses[0], bytes * count as u64)
        {
            self.check_writable(at, access, index, (0, addresses[0]))?;
            store_run(self.region(index), offset, (bytes, count), order, data);
            let piece = Piece { index, offset, bytes: bytes * count as u64, lane: 0 };
            self.after_store(who.as_ref(), at, access, piece);
        } else {
            for lane in lanes(mask) {
                let Some((index, offset)) = self.locate(addresses[lane], bytes) else {
                    return Err(self.outside(at, access, lane, addresses[lane]));
                };
                self.check_writable(at, access, index, (lane, addresses[lane]))?;
                let guard = whole.then(|| self.launch.memory.lock(addresses[lane]));
                store_lane(self.region(index), offset, bytes, order, &data[lane]);
                drop(guard);
                self.after_store(who.as_ref(), at, access, Piece { index, offset, bytes, lane });
            }
        }
        if self.counters.is_some() {
            self.count_global(at, access, Direction::Store, mask, addresses);
        }
        Ok(())
    }

    pub(super) fn atomic_global(
        &mut self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
        f: &mut dyn FnMut(usize, u64) -> u64,
    ) -> Result<(), Fault> {
        if mask == 0 {
            return Ok(());
        }
        self.check_alignment(at, access, mask, addresses)?;
        let bytes = u64::from(access.bytes);
        let strength = match access.strength {
            Strength::Strong { order, scope } => (order, scope),
            _ => (Order::Relaxed, Scope::Gpu),
        };
        let access =
            &Access { strength: Strength::Strong { order: strength.0, scope: strength.1 }, ..*access };
        let who = self.accessor(at, access);
        self.tell(at, strength, mask, addresses);
        for lane in lanes(mask) {
            let address = addresses[lane];
            let Some((index, offset)) = self.locate(address, bytes) else {
                return Err(self.outside(at, access, lane, address));
            };
            self.check_writable(at, access, index, (lane, address))?;
            let piece = Piece { index, offset, bytes, lane };
            self.check_initialised(at, access, piece);
            let region = self.region(index);
            match bytes {
                4 => {
                    let word = region.word(offset);
                    let mut old = word.load(Ordering::Acquire);
                    loop {
                        let new = f(lane, u64::from(old)) as u32;
                        match word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
                            Ok(_) => break,
                            Err(now) => old = now,
                        }
                    }
                }
                8 => {
                    let _whole = self.launch.memory.lock(address);
                    let words = region.words(offset, 2);
                    let old = u64::from(words[0].load(Ordering::Acquire))
                        | u64::from(words[1].load(Ordering::Acquire)) << 32;
                    let new = f(lane, old);
                    words[0].store(new as u32, Ordering::Release);
                    words[1].store((new >> 32) as u32, Ordering::Release);
                }
                _ => {
                    if !region.update_small(offset, bytes, |old| f(lane, u64::from(old)) as u32) {
                        let detail = format!("atomic operations of {bytes} bytes are not for this memory");
                        let place = (access.space, address);
                        return Err(Box::new(self.finding_at(
                            FindingKind::InvalidUse,
                            at,
                            lane,
                            place,
                            detail,
                        )));
                    }
                }
            }
            self.after_store(who.as_ref(), at, access, piece);
        }
        self.hear(at, strength, mask, addresses);
        if self.counters.is_some() {
            self.count_global(at, access, Direction::Atomic, mask, addresses);
        }
        Ok(())
    }

    #[inline]
    fn check_writable(
        &self,
        at: Site,
        access: &Access,
        index: usize,
        (lane, address): (usize, u64),
    ) -> Result<(), Fault> {
        if self.region(index).kind() != AllocationKind::Constant {
            return Ok(());
        }
        let detail = "constant memory is only read".to_owned();
        Err(Box::new(self.finding_at(FindingKind::InvalidUse, at, lane, (access.space, address), detail)))
    }
}

#[inline]
fn load_lane(region: &Region, offset: u64, bytes: u64, order: Ordering, out: &mut [u32; 8]) {
    if bytes < 4 {
        out[0] = region.load_small(offset, bytes, order);
    } else {
        for (to, word) in out.iter_mut().zip(region.words(offset, (bytes / 4) as usize)) {
            *to = word.load(order);
        }
    }
}

#[inline]
fn store_lane(region: &Region, offset: u64, bytes: u64, order: Ordering, data: &[u32; 8]) {
    if bytes < 4 {
        region.store_small(offset, bytes, data[0], order);
    } else {
        for (from, word) in data.iter().zip(region.words(offset, (bytes / 4) as usize)) {
            word.store(*from, order);
        }
    }
}

#[inline]
fn load_run(region: &Region, offset: u64, (bytes, count): (u64, usize), order: Ordering, out: &mut Values) {
    if bytes < 4 {
        for (at, out) in (offset..).step_by(bytes as usize).zip(&mut out[..count]) {
            out[0] = region.load_small(at, bytes, order);
        }
        return;
    }
    let each = (bytes / 4) as usize;
    let words = region.words(offset, each * count);
    for (words, out) in words.chunks_exact(each).zip(&mut out[..count]) {
        for (to, word) in out.iter_mut().zip(words) {
            *to = word.load(order);
        }
    }
}

#[inline]
fn store_run(region: &Region, offset: u64, (bytes, count): (u64, usize), order: Ordering, data: &Values) {
    if bytes < 4 {
        for (at, data) in (offset..).step_by(bytes as usize).zip(&data[..count]) {
            region.store_small(at, bytes, data[0], order);
        }
        return;
    }
    let each = (bytes / 4) as usize;
    let words = region.words(offset, each * count);
    for (words, data) in words.chunks_exact(each).zip(&data[..count]) {
        for (from, word) in data.iter().zip(words) {
            word.store(*from, order);
        }
    }
}
