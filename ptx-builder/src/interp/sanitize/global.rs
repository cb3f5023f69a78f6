//! Who accessed which word of global memory last.
//!
//! A word of four bytes has slots of 64 bits: one for its last write, and [`READERS`] for reads since that nothing orders.
//! They exist page by page, and only as many as were needed, so weights that one warp reads cost twice their size. Slots
//! are relaxed atomics: host threads that update one at the same time lose an update, never a bit of one.

use super::clocks::Clocks;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The last number of a launch that slots hold; then everything is forgotten and numbers start again.
pub(in crate::interp) const LAST_TAG: u64 = (1 << 12) - 1;
/// The most warps of a grid that slots distinguish.
pub(in crate::interp) const LAST_WARP: u64 = 1 << 23;

/// How many unordered readers of a word are remembered. Of more than that it is known whether they are of several clusters.
const READERS: usize = 4;

const CELLS: usize = 1024;
const LAST_PC: u32 = (1 << 11) - 1;
const LAST_EPOCH: u32 = (1 << 11) - 1;

/// An access: program counter 11 bits, epoch 11, warp 23, bytes 4, strong 1, foreign 1, launch 12. Zero is none.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot(u64);

const EPOCH_AT: u32 = 11;
const WARP_AT: u32 = 22;
const BYTES_AT: u32 = 45;
const STRONG: u64 = 1 << 49;
/// Of a read: warps of other clusters read the word too.
const FOREIGN: u64 = 1 << 50;
const TAG_AT: u32 = 52;
const BYTES: u64 = 0xF << BYTES_AT;

impl Slot {
    fn pc(self) -> Option<u32> {
        let pc = self.0 as u32 & LAST_PC;
        (pc != LAST_PC).then_some(pc)
    }
    fn epoch(self) -> u32 {
        (self.0 >> EPOCH_AT) as u32 & LAST_EPOCH
    }
    fn warp(self) -> u64 {
        self.0 >> WARP_AT & (LAST_WARP - 1)
    }
    fn tag(self) -> u64 {
        self.0 >> TAG_AT
    }
    fn is(self, flag: u64) -> bool {
        self.0 & flag != 0
    }
    fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 & BYTES != 0
    }
}

/// An access of a warp, with all that decides whether it conflicts.
pub(in crate::interp) struct Accessor<'a> {
    slot: Slot,
    strong: bool,
    warp: u32,
    warp_in_grid: u64,
    pending: &'a [u64],
    warps: u64,
}

/// A conflict at a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) struct GlobalConflict {
    /// Offset of the word in the allocation.
    pub(in crate::interp) offset: u64,
    /// Linear index of the other's cluster.
    pub(in crate::interp) cluster: u32,
    /// The other's warp in its cluster.
    pub(in crate::interp) warp: u32,
    /// The other's instruction, if it is of this launch and known.
    pub(in crate::interp) pc: Option<u32>,
    /// Did the other write?
    pub(in crate::interp) wrote: bool,
    /// If the other is of an earlier launch that this one may overtake: its number.
    pub(in crate::interp) pending: Option<u64>,
}

impl<'a> Accessor<'a> {
    pub(in crate::interp) fn new(
        clocks: &Clocks,
        (warps, warp, pc): (usize, u32, u32),
        strong: bool,
        tag: u64,
        pending: &'a [u64],
    ) -> Self {
        let warp_in_grid = u64::from(clocks.cluster()) * warps as u64 + u64::from(warp);
        let epoch = u64::from(clocks.relative_epoch(warp).min(LAST_EPOCH));
        let mut slot = u64::from(pc.min(LAST_PC))
            | epoch << EPOCH_AT
            | (warp_in_grid & (LAST_WARP - 1)) << WARP_AT
            | tag << TAG_AT;
        if strong {
            slot |= STRONG;
        }
        let pending = if clocks.waited(warp) { &[] } else { pending };
        Self { slot: Slot(slot), strong, warp, warp_in_grid, pending, warps: warps as u64 }
    }

    fn at(&self, bytes: u64) -> Slot {
        Slot(self.slot.0 | bytes << BYTES_AT)
    }

    #[inline]
    fn same_launch(&self, other: Slot) -> bool {
        other.0 >> TAG_AT == self.slot.0 >> TAG_AT
    }

    fn ordered(&self, clocks: &Clocks, other: Slot) -> bool {
        other.warp() == self.warp_in_grid || clocks.ordered_in_grid(self.warp, other.warp(), other.epoch())
    }

    fn conflict(&self, cell: u64, other: Slot, wrote: bool) -> GlobalConflict {
        let same = self.same_launch(other);
        GlobalConflict {
            offset: cell * 4,
            cluster: (other.warp() / self.warps) as u32,
            warp: (other.warp() % self.warps) as u32,
            pc: other.pc().filter(|_| same),
            wrote,
            pending: (!same).then_some(other.tag()),
        }
    }

    /// Does an access to `mine` conflict with an earlier one?
    fn conflicts(&self, clocks: &Clocks, mine: Slot, other: Slot) -> bool {
        if other.0 == 0 || !mine.overlaps(other) {
            return false;
        }
        if self.same_launch(other) {
            let both_strong = self.strong && other.is(STRONG);
            !both_strong && !self.ordered(clocks, other)
        } else {
            !self.pending.is_empty() && self.pending.contains(&other.tag())
        }
    }

    /// Has the warp read the strong write that a word holds, with a strong read? Then that write came before, whatever
    /// else its writer did. Writes clear reads, so a read that is remembered is one of the last write.
    fn observed(&self, write: Slot, mut reads: impl Iterator<Item = Slot>) -> bool {
        let mine = |read: Slot| read.is(STRONG) && self.same_launch(read) && read.warp() == self.warp_in_grid;
        write.is(STRONG) && reads.any(mine)
    }

    /// What a slot remembers after a read of its word; `None` if it has to keep another reader, whom nothing orders
    /// before this one.
    fn after_read(&self, clocks: &Clocks, mine: Slot, old: Slot) -> Option<Slot> {
        if !self.same_launch(old) {
            let may_be_overtaken = old.0 != 0 && self.pending.contains(&old.tag());
            return (!may_be_overtaken).then_some(mine);
        }
        let kept = old.0 & FOREIGN;
        if old.warp() == self.warp_in_grid {
            let same = old.epoch() == mine.epoch();
            // Bytes of both, and weak if one of them was.
            let bytes = if same { old.0 & BYTES } else { 0 };
            let strong = if same && !old.is(STRONG) { !STRONG } else { u64::MAX };
            return Some(Slot((mine.0 | bytes) & strong | kept));
        }
        self.ordered(clocks, old).then_some(Slot(mine.0 | kept))
    }

    /// What the first slot remembers of a reader for whom no slot is free.
    fn after_one_read_more(&self, mine: Slot, first: Slot) -> Slot {
        if !self.same_launch(first) {
            return first;
        }
        if first.is(STRONG) && !self.strong {
            return Slot(mine.0 | first.0 & FOREIGN);
        }
        let first_of_cluster = self.warp_in_grid - u64::from(self.warp);
        let same_cluster = first.warp().wrapping_sub(first_of_cluster) < self.warps;
        Slot(first.0 | if self.strong || same_cluster { 0 } else { FOREIGN })
    }
}

type Row = [AtomicU64; CELLS];

#[derive(Debug, Default)]
struct Page {
    reads: [OnceLock<Box<Row>>; READERS],
    writes: OnceLock<Box<Row>>,
}

impl Page {
    /// The remembered reads of a word.
    fn reads(&self, cell: usize) -> impl Iterator<Item = Slot> + '_ {
        self.read_slots(cell).map(|slot| Slot(slot.load(Relaxed))).filter(|read| read.0 != 0)
    }

    fn read_slots(&self, cell: usize) -> impl Iterator<Item = &AtomicU64> + '_ {
        self.reads.iter().map_while(OnceLock::get).map(move |row| &row[cell])
    }

    /// Remembers a read for which the first slot is not free.
    #[inline(never)]
    fn one_reader_more(&self, clocks: &Clocks, who: &Accessor<'_>, cell: usize, mine: Slot) {
        for of in &self.reads[1..] {
            let slot = &row(of)[cell];
            let old = Slot(slot.load(Relaxed));
            if let Some(new) = who.after_read(clocks, mine, old) {
                if new != old {
                    slot.store(new.0, Relaxed);
                }
                return;
            }
        }
        let slot = &row(&self.reads[0])[cell];
        let first = Slot(slot.load(Relaxed));
        let new = who.after_one_read_more(mine, first);
        if new != first {
            slot.store(new.0, Relaxed);
        }
    }
}

fn row(of: &OnceLock<Box<Row>>) -> &Row {
    of.get_or_init(|| Box::new([const { AtomicU64::new(0) }; CELLS]))
}

/// The slots of an allocation.
#[derive(Debug)]
pub(in crate::interp) struct GlobalShadow {
    bytes: u64,
    pages: OnceLock<Box<[Page]>>,
}

/// A part of an access within one page.
struct Part {
    page: usize,
    first: usize,
    last: usize,
}

impl GlobalShadow {
    pub(in crate::interp) fn new(bytes: u64) -> Self {
        Self { bytes, pages: OnceLock::new() }
    }

    fn pages(&self) -> &[Page] {
        self.pages.get_or_init(|| {
            let count = self.bytes.div_ceil(4 * CELLS as u64);
            (0..count).map(|_| Page::default()).collect()
        })
    }

    /// Forgets every access.
    pub(in crate::interp) fn forget(&self) {
        for page in self.pages.get().into_iter().flatten() {
            for row in page.reads.iter().chain([&page.writes]).filter_map(OnceLock::get) {
                for slot in row.iter() {
                    slot.store(0, Relaxed);
                }
            }
        }
    }

    /// Records a read of `len` bytes and reports what it conflicts with.
    #[inline]
    pub(in crate::interp) fn read(
        &self,
        clocks: &Clocks,
        who: &Accessor<'_>,
        (offset, len): (u64, u64),
        report: &mut dyn FnMut(GlobalConflict),
    ) {
        let pages = self.pages();
        // Words of one access were mostly accessed together before: what holds for one holds for the next.
        let whole = (offset | len).is_multiple_of(4);
        for part in parts(offset, len) {
            let Some(page) = pages.get(part.page) else { return };
            let base = (part.page * CELLS) as u64;
            let at =
                |cell: usize| who.at(if whole { 0xF } else { bytes_in(base + cell as u64, offset, len) });
            if let Some(writes) = page.writes.get() {
                let mut harmless = Slot(0);
                for (cell, slot) in (part.first..).zip(&writes[part.first..=part.last]) {
                    let other = Slot(slot.load(Relaxed));
                    if other == harmless {
                        continue;
                    }
                    if !who.conflicts(clocks, at(cell), other) {
                        harmless = if whole { other } else { harmless };
                    } else if !who.observed(other, page.reads(cell)) {
                        report(who.conflict(base + cell as u64, other, true));
                    }
                }
            }
            let mut last: Option<(Slot, Option<Slot>)> = None;
            for (cell, slot) in (part.first..).zip(&row(&page.reads[0])[part.first..=part.last]) {
                let old = Slot(slot.load(Relaxed));
                let mine = at(cell);
                if old == mine {
                    continue;
                }
                let new = match last {
                    Some((same, new)) if whole && same == old => new,
                    _ => who.after_read(clocks, mine, old),
                };
                last = Some((old, new));
                match new {
                    Some(new) if new != old => slot.store(new.0, Relaxed),
                    Some(_) => {}
                    None => page.one_reader_more(clocks, who, cell, mine),
                }
            }
        }
    }

    /// Records a write and reports what it conflicts with.
    #[inline]
    pub(in crate::interp) fn write(
        &self,
        clocks: &Clocks,
        who: &Accessor<'_>,
        (offset, len): (u64, u64),
        report: &mut dyn FnMut(GlobalConflict),
    ) {
        let pages = self.pages();
        for part in parts(offset, len) {
            let Some(page) = pages.get(part.page) else { return };
            let base = (part.page * CELLS) as u64;
            let writes = row(&page.writes);
            for (cell, write) in (part.first..).zip(&writes[part.first..=part.last]) {
                let index = base + cell as u64;
                let mine = who.at(bytes_in(index, offset, len));
                let old = Slot(write.load(Relaxed));
                if old.0 != 0 && who.conflicts(clocks, mine, old) && !who.observed(old, page.reads(cell)) {
                    report(who.conflict(index, old, true));
                }
                let again = who.same_launch(old) && (old.0 ^ mine.0) >> EPOCH_AT << EPOCH_AT & !BYTES == 0;
                write.store(if again { mine.0 | old.0 & BYTES } else { mine.0 }, Relaxed);
                for slot in page.read_slots(cell) {
                    let read = Slot(slot.load(Relaxed));
                    if read.0 == 0 {
                        continue;
                    }
                    write_after_read(clocks, who, (index, mine, read), report);
                    if who.same_launch(read) && mine.overlaps(read) && !read.is(FOREIGN) {
                        slot.store(0, Relaxed);
                    }
                }
            }
        }
    }

    /// Was any of these bytes written by the launch of `who`?
    pub(in crate::interp) fn written(
        &self,
        who: &Accessor<'_>,
        offset: u64,
        len: u64,
    ) -> Option<GlobalConflict> {
        let pages = self.pages.get()?;
        for part in parts(offset, len) {
            let Some(writes) = pages.get(part.page).and_then(|page| page.writes.get()) else { continue };
            for (cell, slot) in (part.first..).zip(&writes[part.first..=part.last]) {
                let other = Slot(slot.load(Relaxed));
                let cell = (part.page * CELLS + cell) as u64;
                if who.same_launch(other) && who.at(bytes_in(cell, offset, len)).overlaps(other) {
                    return Some(who.conflict(cell, other, true));
                }
            }
        }
        None
    }
}

fn write_after_read(
    clocks: &Clocks,
    who: &Accessor<'_>,
    (index, mine, read): (u64, Slot, Slot),
    report: &mut dyn FnMut(GlobalConflict),
) {
    // With readers in several clusters, a warp that never learned anything from another cluster conflicts with one.
    let others = read.is(FOREIGN)
        && who.same_launch(read)
        && mine.overlaps(read)
        && !(who.strong && read.is(STRONG))
        && !clocks.knows_others(who.warp);
    if others || who.conflicts(clocks, mine, read) {
        report(who.conflict(index, read, false));
    }
}

/// The pages of a range of bytes.
#[inline]
fn parts(offset: u64, len: u64) -> impl Iterator<Item = Part> {
    let (first, last) = ((offset / 4) as usize, ((offset + len.max(1) - 1) / 4) as usize);
    (first / CELLS..=last / CELLS).map(move |page| Part {
        page,
        first: first.saturating_sub(page * CELLS),
        last: (last - page * CELLS).min(CELLS - 1),
    })
}

/// Which of the four bytes of a word are in a range.
#[inline]
fn bytes_in(cell: u64, offset: u64, len: u64) -> u64 {
    let start = cell * 4;
    if start >= offset && start + 4 <= offset + len {
        return 0xF;
    }
    let low = offset.saturating_sub(start).min(4);
    let high = (offset + len).saturating_sub(start).min(4);
    (0xF << low) & (0xF >> (4 - high)) & 0xF
}
