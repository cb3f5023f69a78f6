//! Which bytes of an allocation have been written.

use super::super::memory::zeroed;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

/// One bit for each byte, and a flag that makes them superfluous once every byte has been written.
///
/// The bits exist only for allocations that were written in parts. Several host threads may mark at once.
#[derive(Debug)]
pub(in crate::interp) struct InitMap {
    bytes: u64,
    complete: AtomicBool,
    written: AtomicU64,
    bits: OnceLock<Box<[AtomicU32]>>,
}

impl InitMap {
    pub(in crate::interp) fn new(bytes: u64, complete: bool) -> Self {
        Self { bytes, complete: AtomicBool::new(complete), written: AtomicU64::new(0), bits: OnceLock::new() }
    }

    /// Has every byte been written?
    #[inline]
    pub(in crate::interp) fn complete(&self) -> bool {
        self.complete.load(Relaxed)
    }

    /// The bits; empty if the host has no memory for them, and then everything counts as written.
    fn bits(&self) -> &[AtomicU32] {
        self.bits.get_or_init(|| {
            let bits = zeroed(self.bytes.div_ceil(32) as usize).unwrap_or_default();
            self.complete.fetch_or(bits.is_empty(), Relaxed);
            bits
        })
    }

    /// How many bytes have been written.
    pub(in crate::interp) fn count(&self) -> u64 {
        if self.complete() { self.bytes } else { self.written.load(Relaxed) }
    }

    /// Marks bytes as written. The range lies in the allocation.
    #[inline]
    pub(in crate::interp) fn mark(&self, offset: u64, len: u64) {
        if !self.complete() {
            self.mark_slowly(offset, len);
        }
    }

    fn mark_slowly(&self, offset: u64, len: u64) {
        if offset == 0 && len == self.bytes {
            self.complete.store(true, Relaxed);
            return;
        }
        let bits = self.bits();
        let mut new = 0;
        for (word, mask) in chunks(offset, len) {
            let Some(word) = bits.get(word) else { return };
            if word.load(Relaxed) & mask != mask {
                new += u64::from((!word.fetch_or(mask, Relaxed) & mask).count_ones());
            }
        }
        if new > 0 && self.written.fetch_add(new, Relaxed) + new == self.bytes {
            self.complete.store(true, Relaxed);
        }
    }

    /// Marks bytes as never written.
    fn clear(&self, offset: u64, len: u64) {
        let bits = self.bits();
        if bits.is_empty() {
            return;
        }
        if self.complete() {
            for (word, mask) in chunks(0, self.bytes) {
                bits[word].store(mask, Relaxed);
            }
            self.written.store(self.bytes, Relaxed);
            self.complete.store(false, Relaxed);
        }
        for (word, mask) in chunks(offset, len) {
            let gone = bits[word].fetch_and(!mask, Relaxed) & mask;
            self.written.fetch_sub(u64::from(gone.count_ones()), Relaxed);
        }
    }

    /// The first byte of the range that nothing wrote.
    #[inline]
    pub(in crate::interp) fn missing(&self, offset: u64, len: u64) -> Option<u64> {
        if self.complete() { None } else { self.missing_slowly(offset, len) }
    }

    fn missing_slowly(&self, offset: u64, len: u64) -> Option<u64> {
        let Some(bits) = self.bits.get() else { return (len > 0).then_some(offset) };
        for (word, mask) in chunks(offset, len) {
            let missing = mask & !bits[word].load(Relaxed);
            if missing != 0 {
                return Some(word as u64 * 32 + u64::from(missing.trailing_zeros()));
            }
        }
        None
    }

    /// The range gets the state of a range of the same length elsewhere.
    pub(in crate::interp) fn copy_from(&self, offset: u64, from: &Self, from_offset: u64, len: u64) {
        if from.missing(from_offset, len).is_none() {
            self.mark(offset, len);
            return;
        }
        // Runs of equal state; a snapshot first, because the ranges may overlap.
        let state: Vec<bool> = (0..len).map(|i| from.missing(from_offset + i, 1).is_none()).collect();
        let mut at = 0;
        for run in state.chunk_by(|a, b| a == b) {
            let len = run.len() as u64;
            if run[0] {
                self.mark(offset + at, len);
            } else {
                self.clear(offset + at, len);
            }
            at += len;
        }
    }
}

/// The words of 32 bits that a range of bits covers, each with the mask of bits in the range.
fn chunks(offset: u64, len: u64) -> impl Iterator<Item = (usize, u32)> {
    let end = offset + len;
    let mut at = offset;
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let word = at / 32;
            let low = at % 32;
            let stop = end.min((word + 1) * 32);
            let count = stop - at;
            let mask = if count == 32 { u32::MAX } else { ((1u32 << count) - 1) << low };
            at = stop;
            (word as usize, mask)
        })
    })
}

/// The same for memory of one host thread: one bit for each byte, cleared for every block.
#[derive(Clone, Debug, Default)]
pub(in crate::interp) struct InitBits {
    bits: Vec<u32>,
}

impl InitBits {
    pub(in crate::interp) fn reset(&mut self, bytes: usize) {
        self.bits.clear();
        self.bits.resize(bytes.div_ceil(32), 0);
    }

    /// Marks `len` bytes from `offset`, which do not cross a multiple of 32, as an aligned access does not.
    #[inline]
    pub(in crate::interp) fn mark(&mut self, offset: usize, len: usize) {
        if let Some(word) = self.bits.get_mut(offset / 32) {
            *word |= mask(offset, len);
        }
    }

    /// Are all of these bytes written?
    #[inline]
    pub(in crate::interp) fn has(&self, offset: usize, len: usize) -> bool {
        self.bits.get(offset / 32).is_none_or(|word| !word & mask(offset, len) == 0)
    }
}

#[inline]
fn mask(offset: usize, len: usize) -> u32 {
    let ones = if len >= 32 { u32::MAX } else { (1u32 << len) - 1 };
    ones << (offset % 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_make_a_whole() {
        let map = InitMap::new(100, false);
        assert_eq!(map.missing(0, 100), Some(0));
        map.mark(0, 40);
        assert_eq!(map.missing(0, 40), None);
        assert_eq!(map.missing(30, 20), Some(40));
        map.mark(50, 50);
        map.mark(45, 10);
        assert!(!map.complete());
        assert_eq!(map.missing(0, 100), Some(40));
        map.mark(40, 5);
        assert!(map.complete());
        map.clear(99, 1);
        assert_eq!(map.missing(0, 100), Some(99));
        map.mark(99, 1);
        assert!(map.complete());
    }

    #[test]
    fn state_is_copied_byte_by_byte() {
        let (a, b) = (InitMap::new(64, false), InitMap::new(64, true));
        a.mark(3, 5);
        a.mark(33, 1);
        b.copy_from(10, &a, 0, 40);
        let written = |i: u64| b.missing(i, 1).is_none();
        for i in 0..64 {
            let expected = !(10..50).contains(&i) || (13..18).contains(&i) || i == 43;
            assert_eq!(written(i), expected, "byte {i}");
        }
    }

    #[test]
    fn bits_of_a_block_are_reset() {
        let mut bits = InitBits::default();
        bits.reset(64);
        bits.mark(32, 32);
        bits.mark(4, 2);
        assert!(bits.has(32, 16) && bits.has(4, 2) && !bits.has(4, 4) && !bits.has(0, 1));
        bits.reset(64);
        assert!(!bits.has(32, 1));
    }
}
