//! One piece of device memory: where it is, what it holds, and what is known about its bytes.

use super::super::sanitize::{GlobalShadow, InitMap};
use std::alloc::{Layout, alloc_zeroed};
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering, Ordering::Relaxed};

/// What a piece of device memory is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AllocationKind {
    /// Device memory.
    Device,
    /// A constant variable of a module, or several.
    Constant,
    /// Memory of the host that kernels see.
    Host,
}

/// A piece of device memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Allocation {
    /// The address of the first byte.
    pub base: u64,
    /// Bytes.
    pub bytes: u64,
    /// What it is.
    pub kind: AllocationKind,
}

/// A zeroed slice that the host's system provides page by page as it is used, or `None` if it cannot.
pub(in crate::interp) fn zeroed(len: usize) -> Option<Box<[AtomicU32]>> {
    let layout = Layout::array::<AtomicU32>(len).ok()?;
    if layout.size() == 0 {
        return Some(Box::default());
    }
    // SAFETY: the layout has a size greater than zero.
    let start = unsafe { alloc_zeroed(layout) }.cast::<AtomicU32>();
    if start.is_null() {
        return None;
    }
    // SAFETY: `start` is not null and was allocated by the global allocator with the layout of `[AtomicU32; len]`, which
    // is what a box of that slice frees; all bytes zero is a valid `AtomicU32`.
    Some(unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(start, len)) })
}

/// Memory with its shadow state.
#[derive(Debug)]
pub(in crate::interp) struct Region {
    base: u64,
    bytes: u64,
    kind: AllocationKind,
    /// The words of `base & !3` and after it. Those that lie wholly in the allocation, `first_word..end_word`, are
    /// valid for as long as `self`: they are in `owned`, or the caller of `map_host` promised it.
    words: *const AtomicU32,
    first_word: usize,
    end_word: usize,
    /// Keeps the words of device memory alive. Nothing but `words` reaches them.
    _owned: Option<Box<[AtomicU32]>>,
    pub(in crate::interp) init: InitMap,
    pub(in crate::interp) shadow: GlobalShadow,
}

// SAFETY: `words` points to atomics that `_owned` keeps alive or that the caller of `Region::host` keeps alive; they are
// shared between threads only as `&AtomicU32` and `&AtomicU8`. Everything else in a region is `Send`.
unsafe impl Send for Region {}
// SAFETY: as above: all access through `&Region` is atomic.
unsafe impl Sync for Region {}

impl Region {
    /// Device memory, or `None` if the host has not got enough.
    pub(in crate::interp) fn device(base: u64, bytes: u64, kind: AllocationKind) -> Option<Self> {
        let len = usize::try_from(bytes.div_ceil(4)).ok()?;
        let owned = zeroed(len)?;
        Some(Self {
            base,
            bytes,
            kind,
            words: owned.as_ptr(),
            first_word: 0,
            end_word: len,
            _owned: Some(owned),
            init: InitMap::new(bytes, false),
            shadow: GlobalShadow::new(bytes),
        })
    }

    /// Memory of the host at its own address.
    ///
    /// # Safety
    /// `bytes` from `start` on are valid for reads and writes for as long as the region lives, and until then the host
    /// accesses them only atomically or while no other thread uses the region.
    pub(in crate::interp) unsafe fn host(start: *mut u8, bytes: u64) -> Self {
        let base = start as u64;
        let head = (base % 4) as usize;
        let first_word = usize::from(head != 0);
        let end_word = ((base % 4 + bytes) / 4) as usize;
        Self {
            base,
            bytes,
            kind: AllocationKind::Host,
            words: start.wrapping_sub(head).cast(),
            first_word,
            end_word: end_word.max(first_word),
            _owned: None,
            init: InitMap::new(bytes, true),
            shadow: GlobalShadow::new(bytes),
        }
    }

    #[inline]
    pub(in crate::interp) fn base(&self) -> u64 {
        self.base
    }

    #[inline]
    pub(in crate::interp) fn bytes(&self) -> u64 {
        self.bytes
    }

    #[inline]
    pub(in crate::interp) fn kind(&self) -> AllocationKind {
        self.kind
    }

    pub(in crate::interp) fn allocation(&self) -> Allocation {
        Allocation { base: self.base, bytes: self.bytes, kind: self.kind }
    }

    /// The offset of an access that lies wholly inside.
    #[inline]
    pub(in crate::interp) fn offset(&self, address: u64, bytes: u64) -> Option<u64> {
        let offset = address.wrapping_sub(self.base);
        (offset < self.bytes && bytes <= self.bytes - offset).then_some(offset)
    }

    /// Words of an aligned run of bytes inside the allocation.
    ///
    /// # Panics
    /// If the run is not inside; callers have checked it.
    #[inline]
    pub(in crate::interp) fn words(&self, offset: u64, count: usize) -> &[AtomicU32] {
        let first = ((offset + self.base % 4) / 4) as usize;
        assert!(first >= self.first_word && first <= self.end_word && count <= self.end_word - first);
        // SAFETY: words from `first_word` to `end_word` are valid and aligned while `self` is borrowed, and the run lies
        // among them. Everybody accesses them atomically (`host` demands it of its caller).
        unsafe { std::slice::from_raw_parts(self.words.add(first), count) }
    }

    #[inline]
    pub(in crate::interp) fn word(&self, offset: u64) -> &AtomicU32 {
        &self.words(offset, 1)[0]
    }

    /// The word around a byte with the byte's shift, unless the word is not wholly inside.
    #[inline]
    fn word_around(&self, offset: u64) -> Option<(&AtomicU32, u32)> {
        let at = offset + self.base % 4;
        let index = (at / 4) as usize;
        let inside = index >= self.first_word && index < self.end_word;
        let shift = (at % 4) as u32 * 8;
        inside.then(|| (self.word(offset), shift))
    }

    /// A byte at the ragged edge of a host mapping.
    fn byte(&self, offset: u64) -> &AtomicU8 {
        let at = (offset + self.base % 4) as usize;
        assert!(offset < self.bytes);
        // SAFETY: the byte lies in the allocation, which is valid while `self` is borrowed; bytes of words that are not
        // wholly inside are accessed only here, so no two sizes of atomic access meet.
        unsafe { AtomicU8::from_ptr(self.words.cast::<u8>().add(at).cast_mut()) }
    }

    /// An aligned value of 1 or 2 bytes.
    #[inline]
    pub(in crate::interp) fn load_small(&self, offset: u64, bytes: u64, order: Ordering) -> u32 {
        let ones = if bytes == 1 { 0xFF } else { 0xFFFF };
        match self.word_around(offset) {
            Some((word, shift)) => (word.load(order) >> shift) & ones,
            None => {
                (0..bytes).fold(0, |value, i| value | u32::from(self.byte(offset + i).load(order)) << (8 * i))
            }
        }
    }

    /// Stores an aligned value of 1 or 2 bytes without touching its neighbours.
    #[inline]
    pub(in crate::interp) fn store_small(&self, offset: u64, bytes: u64, value: u32, order: Ordering) {
        let ones: u32 = if bytes == 1 { 0xFF } else { 0xFFFF };
        match self.word_around(offset) {
            Some((word, shift)) => {
                let mask = ones << shift;
                let value = (value & ones) << shift;
                let mut old = word.load(Relaxed);
                while let Err(now) = word.compare_exchange_weak(old, old & !mask | value, order, Relaxed) {
                    old = now;
                }
            }
            None => {
                for i in 0..bytes {
                    self.byte(offset + i).store((value >> (8 * i)) as u8, order);
                }
            }
        }
    }

    /// Replaces an aligned value of 1 or 2 bytes atomically. False at the ragged edge of a host mapping.
    pub(in crate::interp) fn update_small(
        &self,
        offset: u64,
        bytes: u64,
        mut f: impl FnMut(u32) -> u32,
    ) -> bool {
        let ones: u32 = if bytes == 1 { 0xFF } else { 0xFFFF };
        let Some((word, shift)) = self.word_around(offset) else { return false };
        let mut old = word.load(Ordering::Acquire);
        loop {
            let new = old & !(ones << shift) | (f(old >> shift & ones) & ones) << shift;
            match word.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return true,
                Err(now) => old = now,
            }
        }
    }

    /// Reads bytes for the host. The range lies inside.
    pub(in crate::interp) fn read(&self, offset: u64, out: &mut [u8]) {
        let head = head(self.base + offset, out.len());
        let (first, rest) = out.split_at_mut(head);
        for (i, byte) in (offset..).zip(first) {
            *byte = self.load_small(i, 1, Relaxed) as u8;
        }
        let middle = offset + head as u64;
        let count = rest.len() / 4;
        let (whole, tail) = rest.split_at_mut(count * 4);
        for (to, word) in whole.chunks_exact_mut(4).zip(self.run(middle, count)) {
            to.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        for (i, byte) in (middle + count as u64 * 4..).zip(tail) {
            *byte = self.load_small(i, 1, Relaxed) as u8;
        }
    }

    /// Writes bytes for the host. The range lies inside.
    pub(in crate::interp) fn write(&self, offset: u64, data: &[u8]) {
        let head = head(self.base + offset, data.len());
        let (first, rest) = data.split_at(head);
        for (i, byte) in (offset..).zip(first) {
            self.store_small(i, 1, u32::from(*byte), Relaxed);
        }
        let middle = offset + head as u64;
        let count = rest.len() / 4;
        let (whole, tail) = rest.split_at(count * 4);
        for (from, word) in whole.chunks_exact(4).zip(self.run(middle, count)) {
            word.store(u32::from_le_bytes([from[0], from[1], from[2], from[3]]), Relaxed);
        }
        for (i, byte) in (middle + count as u64 * 4..).zip(tail) {
            self.store_small(i, 1, u32::from(*byte), Relaxed);
        }
    }

    fn run(&self, offset: u64, count: usize) -> &[AtomicU32] {
        if count == 0 { &[] } else { self.words(offset, count) }
    }
}

/// Bytes before the first multiple of 4.
fn head(address: u64, len: usize) -> usize {
    ((address.wrapping_neg() % 4) as usize).min(len)
}
