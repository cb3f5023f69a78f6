//! Who accessed which word of a block's shared memory since when.

use super::clocks::Clocks;

/// The last write of a word of four bytes, and the reads since.
#[derive(Clone, Copy, Debug, Default)]
struct Cell {
    write: Last,
    read: Last,
    /// Warps that read in or after `read.epoch`; warp `w` is bit `w % 64`.
    readers: u64,
}

/// An access; epoch 0 is none.
#[derive(Clone, Copy, Debug, Default)]
struct Last {
    epoch: u32,
    step: u32,
    pc: u32,
    warp: u16,
    lane: u8,
    /// A bit for each byte; [`STRONG`] for accesses that do not race with each other.
    bytes: u8,
}

const STRONG: u8 = 0x80;
const BYTES: u8 = 0x0F;
/// Of a read: several lanes of the warp.
const SEVERAL: u8 = u8::MAX;

/// One instruction of a warp.
#[derive(Clone, Copy, Debug)]
pub(in crate::interp) struct SharedAccess {
    warp: u32,
    pc: u32,
    strong: bool,
    epoch: u32,
    step: u32,
    floor: u32,
}

impl SharedAccess {
    pub(in crate::interp) fn new(clocks: &Clocks, warp: u32, pc: u32, strong: bool) -> Self {
        let (epoch, step, floor) = (clocks.epoch(warp), clocks.step(warp), clocks.floor(warp));
        Self { warp, pc, strong, epoch, step, floor }
    }

    #[inline]
    fn last(&self, lane: usize, (offset, len): (usize, usize)) -> Last {
        Last {
            epoch: self.epoch,
            step: self.step,
            pc: self.pc,
            warp: self.warp as u16,
            lane: lane as u8,
            bytes: bytes_of(offset, len) | if self.strong { STRONG } else { 0 },
        }
    }
}

/// A conflict at a word.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) struct SharedConflict {
    pub(in crate::interp) warp: u32,
    pub(in crate::interp) lane: Option<u32>,
    pub(in crate::interp) pc: Option<u32>,
    pub(in crate::interp) wrote: bool,
}

impl Last {
    fn conflict(&self, wrote: bool) -> SharedConflict {
        SharedConflict {
            warp: u32::from(self.warp),
            lane: (self.lane != SEVERAL).then_some(u32::from(self.lane)),
            pc: Some(self.pc),
            wrote,
        }
    }
}

/// The words of a block's shared memory.
#[derive(Clone, Debug, Default)]
pub(in crate::interp) struct SharedShadow {
    cells: Vec<Cell>,
}

impl SharedShadow {
    /// Makes room. What earlier blocks did stays: it lies in the past of every epoch of this one.
    pub(in crate::interp) fn begin(&mut self, bytes: usize) {
        self.cells.resize(bytes.div_ceil(4), Cell::default());
    }

    pub(in crate::interp) fn forget(&mut self) {
        self.cells.fill(Cell::default());
    }

    /// Records a read by a lane of `len` aligned bytes.
    #[inline]
    pub(in crate::interp) fn read(
        &mut self,
        clocks: &Clocks,
        who: &SharedAccess,
        lane: usize,
        (offset, len): (usize, usize),
    ) -> Option<SharedConflict> {
        let (epoch, step, floor) = (who.epoch, who.step, who.floor);
        let mut found = None;
        let mut mine = who.last(lane, (offset, len));
        let bit = 1u64 << (who.warp % 64);
        let first = offset / 4;
        let last = (offset + len - 1) / 4;
        let cells = self.cells.get_mut(first..=last)?;
        for cell in cells {
            if cell.write.epoch > floor
                && conflicts(clocks, &mine, &cell.write)
                && !observed(cell, bit, &mine)
            {
                found = Some(cell.write.conflict(true));
            }
            let old = &cell.read;
            if old.epoch <= floor && old.warp != mine.warp || cell.readers == 0 {
                cell.readers = bit;
                cell.read = mine;
            } else if cell.readers == bit && old.warp == mine.warp {
                let now = old.epoch == epoch && old.step == step;
                mine.lane = if now && old.lane != lane as u8 { SEVERAL } else { lane as u8 };
                let bytes = if old.epoch == epoch {
                    (mine.bytes | old.bytes) & BYTES | mine.bytes & old.bytes & STRONG
                } else {
                    mine.bytes
                };
                cell.read = Last { bytes, ..mine };
                mine.lane = lane as u8;
            } else if old.bytes & STRONG != 0 && !who.strong {
                cell.readers = bit;
                cell.read = mine;
            } else if old.bytes & STRONG != 0 || !who.strong {
                // Unordered readers: all of them, from the earliest epoch on.
                let bytes = old.bytes | (mine.bytes & BYTES);
                let first = old.epoch.min(epoch);
                cell.readers |= bit;
                cell.read = Last { bytes, epoch: first, ..mine };
            }
        }
        found
    }

    /// Records a write by a lane of `len` aligned bytes. With `same`, the write changed nothing, and the same instruction of
    /// another thread may have written the same before: who reads gets that value, whichever was first.
    #[inline]
    pub(in crate::interp) fn write(
        &mut self,
        clocks: &Clocks,
        who: &SharedAccess,
        lane: usize,
        (offset, len): (usize, usize),
        same: bool,
    ) -> Option<SharedConflict> {
        let floor = who.floor;
        let mine = who.last(lane, (offset, len));
        let mut found = None;
        let cells = self.cells.get_mut(offset / 4..=(offset + len - 1) / 4)?;
        for cell in cells {
            let old = &cell.write;
            let together = same && old.pc == mine.pc;
            let bit = 1u64 << (who.warp % 64);
            if old.epoch > floor && !together && conflicts(clocks, &mine, old) && !observed(cell, bit, &mine)
            {
                found = Some(old.conflict(true));
            }
            if cell.readers != 0 && cell.read.bytes & mine.bytes & BYTES != 0 {
                if cell.read.epoch > floor
                    && let Some(conflict) = write_after_read(clocks, &mine, cell)
                {
                    found = Some(conflict);
                }
                cell.readers = 0;
            }
            let again = old.epoch == mine.epoch
                && old.warp == mine.warp
                && old.lane == mine.lane
                && old.step == mine.step;
            let bytes = if again && (old.bytes ^ mine.bytes) & STRONG == 0 { old.bytes } else { 0 };
            cell.write = Last { bytes: mine.bytes | bytes, ..mine };
        }
        found
    }
}

/// The bytes of a word that an aligned access of up to four bytes covers; all four of a larger one's words.
#[inline]
fn bytes_of(offset: usize, len: usize) -> u8 {
    match len {
        1 => 1 << (offset % 4),
        2 => 3 << (offset % 4),
        _ => BYTES,
    }
}

/// Has the warp read the strong write that the word holds, with a strong read? Then that write came before.
fn observed(cell: &Cell, bit: u64, mine: &Last) -> bool {
    cell.write.bytes & cell.read.bytes & STRONG != 0 && cell.readers == bit && cell.read.warp == mine.warp
}

fn conflicts(clocks: &Clocks, mine: &Last, other: &Last) -> bool {
    if mine.bytes & other.bytes & BYTES == 0 || mine.bytes & other.bytes & STRONG != 0 {
        return false;
    }
    if mine.warp == other.warp {
        other.lane != mine.lane && other.epoch == mine.epoch && other.step == mine.step
    } else {
        !clocks.ordered(u32::from(mine.warp), u32::from(other.warp), other.epoch)
    }
}

fn write_after_read(clocks: &Clocks, mine: &Last, cell: &Cell) -> Option<SharedConflict> {
    let read = &cell.read;
    if mine.bytes & read.bytes & STRONG != 0 {
        return None;
    }
    let warp = u32::from(mine.warp);
    if cell.readers == 1 << (warp % 64) && read.warp == mine.warp {
        return conflicts(clocks, mine, read).then(|| read.conflict(false));
    }
    // A bit stands for several warps only in clusters of more than 64: then one that is ordered speaks for all.
    let mut readers = cell.readers;
    while readers != 0 {
        let bit = readers.trailing_zeros();
        readers &= readers - 1;
        let mut warps = (bit..clocks.warps() as u32).step_by(64);
        if bit != warp % 64 && !warps.any(|other| other == warp || clocks.ordered(warp, other, read.epoch)) {
            let same = u32::from(read.warp) == bit;
            let lane = same.then_some(u32::from(read.lane)).filter(|lane| *lane < 32);
            return Some(SharedConflict { warp: bit, lane, pc: same.then_some(read.pc), wrote: false });
        }
    }
    None
}
