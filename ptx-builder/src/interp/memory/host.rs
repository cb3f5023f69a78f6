//! Device memory as the host sees it.

use super::region::{Allocation, AllocationKind, Region};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use thiserror::Error;

/// The first address of device memory.
pub(super) const FIRST: u64 = 0x1000_0000_0000;
/// One past the last address of device memory; mappings of host memory lie above.
const LAST: u64 = 0x5000_0000_0000;
/// Alignment of allocations in bytes.
const ALIGNMENT: u64 = 256;
/// Bytes without memory after each allocation: at least, and at most.
const GAP: (u64, u64) = (1 << 20, 1 << 30);
/// Locks for accesses of more than one word.
const LOCKS: usize = 64;
/// How many freed allocations are remembered.
const REMEMBERED: usize = 1 << 20;

/// Why memory could not be had or accessed.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// An allocation or a mapping of no bytes.
    #[error("an allocation of 0 bytes")]
    Empty,
    /// The limit, the host's memory or the address space does not suffice.
    #[error("out of memory: {requested} bytes requested, {in_use} in use{}", limit_text(*limit))]
    OutOfMemory {
        /// Bytes that were asked for.
        requested: u64,
        /// Bytes that are allocated.
        in_use: u64,
        /// The limit, if there is one.
        limit: Option<u64>,
    },
    /// An address where there never was memory.
    #[error("{address:#x} is not in any allocation")]
    NotAllocated {
        /// The address.
        address: u64,
    },
    /// Memory that was freed.
    #[error("{address:#x} is in an allocation of {bytes} bytes at {base:#x} that was freed")]
    Freed {
        /// The address.
        address: u64,
        /// The base of what was there.
        base: u64,
        /// Its bytes.
        bytes: u64,
    },
    /// An address inside of an allocation where its base is needed.
    #[error("{address:#x} is not the base of an allocation; it lies in the one at {base:#x}")]
    NotABase {
        /// The address.
        address: u64,
        /// The base of the allocation around it.
        base: u64,
    },
    /// A range that begins in an allocation and ends outside.
    #[error(
        "{bytes} bytes at {address:#x} end {} bytes after the allocation of {allocated} bytes at {base:#x}",
        address.saturating_add(*bytes) - base - allocated
    )]
    OutOfBounds {
        /// The first address.
        address: u64,
        /// Bytes.
        bytes: u64,
        /// The base of the allocation.
        base: u64,
        /// Its bytes.
        allocated: u64,
    },
    /// A fill at an address that is not a multiple of the pattern's size.
    #[error("{address:#x} is not a multiple of {alignment}")]
    Misaligned {
        /// The address.
        address: u64,
        /// What it has to be a multiple of.
        alignment: u64,
    },
    /// A pattern that is not 1, 2 or 4 bytes long.
    #[error("a pattern of {bytes} bytes; patterns have 1, 2 or 4")]
    Pattern {
        /// Its length.
        bytes: usize,
    },
    /// Device memory where a host mapping is needed, or the other way round.
    #[error("the memory at {base:#x} is {}", if *host { "a mapping of host memory" } else { "not a mapping of host memory" })]
    WrongKind {
        /// The base.
        base: u64,
        /// Is it a host mapping?
        host: bool,
    },
    /// A host mapping that overlaps another allocation, or addresses that device memory uses.
    #[error("{bytes} bytes at {address:#x} cannot be mapped: the addresses are taken")]
    Overlap {
        /// The first address.
        address: u64,
        /// Bytes.
        bytes: u64,
    },
}

fn limit_text(limit: Option<u64>) -> String {
    limit.map(|limit| format!(", limit {limit}")).unwrap_or_default()
}

/// The live regions by address. Launches hold snapshots of it.
#[derive(Clone, Debug, Default)]
pub(in crate::interp) struct Table {
    regions: Vec<Arc<Region>>,
}

impl Table {
    /// The position of the last region that begins at or before an address.
    #[inline]
    pub(super) fn at_or_before(&self, address: u64) -> Option<usize> {
        self.regions.partition_point(|region| region.base() <= address).checked_sub(1)
    }

    #[inline]
    pub(super) fn region(&self, index: usize) -> Option<&Arc<Region>> {
        self.regions.get(index)
    }

    pub(super) fn regions(&self) -> &[Arc<Region>] {
        &self.regions
    }

    fn holding(&self, address: u64) -> Option<&Arc<Region>> {
        let region = self.region(self.at_or_before(address)?)?;
        region.offset(address, 1).map(|_| region)
    }
}

#[derive(Debug)]
struct State {
    table: Arc<Table>,
    /// Bytes of freed allocations by base.
    freed: BTreeMap<u64, u64>,
    next: u64,
    in_use: u64,
    limit: Option<u64>,
    /// Identifiers of launches minus this are what shadow state remembers.
    first_launch: u64,
}

/// The memory of a device: allocations that kernels and the host read and write.
///
/// Cloning is cheap, and clones are the same memory. Addresses are never used twice, and between allocations there is
/// space without memory, so an access after a free or beyond an end is always noticed. Each byte remembers whether it
/// was ever written.
///
/// ```
/// use ptx_builder::interp::{Memory, MemoryError};
///
/// let memory = Memory::new();
/// let a = memory.alloc(16)?;
/// memory.write(a, &[1, 2, 3, 4])?;
/// assert!(memory.initialised(a, 4) && !memory.initialised(a, 5));
/// let mut out = [0; 2];
/// memory.read(a + 2, &mut out)?;
/// assert_eq!(out, [3, 4]);
/// memory.free(a)?;
/// assert!(matches!(memory.free(a), Err(MemoryError::Freed { .. })));
/// # Ok::<(), MemoryError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Memory {
    state: Arc<Mutex<State>>,
    /// What makes accesses of 8 bytes and more atomic.
    locks: Arc<[Mutex<()>; LOCKS]>,
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Memory {
    /// Memory without allocations and without a limit.
    pub fn new() -> Self {
        let state = State {
            table: Arc::default(),
            freed: BTreeMap::new(),
            next: FIRST,
            in_use: 0,
            limit: None,
            first_launch: 0,
        };
        Self { state: Arc::new(Mutex::new(state)), locks: Arc::new([const { Mutex::new(()) }; LOCKS]) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Allocates memory, aligned to 256 bytes, that nothing has written.
    ///
    /// # Errors
    /// [`MemoryError::Empty`], [`MemoryError::OutOfMemory`].
    pub fn alloc(&self, bytes: u64) -> Result<u64, MemoryError> {
        self.allocate(bytes, AllocationKind::Device)
    }

    /// Allocates memory that kernels only read.
    pub(in crate::interp) fn alloc_constant(&self, bytes: u64) -> Result<u64, MemoryError> {
        self.allocate(bytes, AllocationKind::Constant)
    }

    fn allocate(&self, bytes: u64, kind: AllocationKind) -> Result<u64, MemoryError> {
        if bytes == 0 {
            return Err(MemoryError::Empty);
        }
        let mut state = self.state();
        let refused = MemoryError::OutOfMemory { requested: bytes, in_use: state.in_use, limit: state.limit };
        let base = state.next;
        let Some(next) = base
            .checked_add(bytes)
            .and_then(|end| end.checked_add(bytes.clamp(GAP.0, GAP.1)))
            .and_then(|end| end.checked_next_multiple_of(ALIGNMENT))
            .filter(|next| *next <= LAST)
        else {
            return Err(refused);
        };
        if state.limit.is_some_and(|limit| bytes > limit.saturating_sub(state.in_use)) {
            return Err(refused);
        }
        let Some(region) = Region::device(base, bytes, kind) else { return Err(refused) };
        state.next = next;
        state.in_use += bytes;
        state.insert(region);
        Ok(base)
    }

    /// Frees an allocation, given its base.
    ///
    /// # Errors
    /// [`MemoryError::Freed`] for what was freed before, [`MemoryError::NotAllocated`], [`MemoryError::NotABase`],
    /// [`MemoryError::WrongKind`] for a host mapping.
    pub fn free(&self, base: u64) -> Result<(), MemoryError> {
        self.remove(base, false)
    }

    /// Lets kernels and this API access host memory at its own address. All of it counts as written.
    ///
    /// # Errors
    /// [`MemoryError::Empty`], [`MemoryError::Overlap`].
    ///
    /// # Safety
    /// The memory is valid for reads and writes until [`Memory::unmap_host`] returns and every launch that began before
    /// has ended. While a launch or a call of this API may access it, other code accesses it only atomically, with
    /// aligned accesses of 4 bytes, or not at all.
    pub unsafe fn map_host(&self, start: *mut u8, bytes: u64) -> Result<u64, MemoryError> {
        if bytes == 0 {
            return Err(MemoryError::Empty);
        }
        let address = start as u64;
        let taken = MemoryError::Overlap { address, bytes };
        let end = address.checked_add(bytes).ok_or_else(|| taken.clone())?;
        if start.is_null() || (address < LAST && end > super::block::LOCAL_WINDOW) {
            return Err(taken);
        }
        let mut state = self.state();
        let before = state.table.at_or_before(end - 1).and_then(|index| state.table.region(index));
        if before.is_some_and(|region| region.base() + region.bytes() > address) {
            return Err(taken);
        }
        // SAFETY: the caller promises what `Region::host` asks for: `unmap_host` takes the region out of the table, and
        // only launches keep it longer.
        let region = unsafe { Region::host(start, bytes) };
        state.freed.remove(&address);
        state.insert(region);
        Ok(address)
    }

    /// Ends a mapping of host memory, given its first address.
    ///
    /// # Errors
    /// Those of [`Memory::free`]; [`MemoryError::WrongKind`] for device memory.
    pub fn unmap_host(&self, base: u64) -> Result<(), MemoryError> {
        self.remove(base, true)
    }

    fn remove(&self, base: u64, host: bool) -> Result<(), MemoryError> {
        let mut state = self.state();
        let Some(index) =
            state.table.at_or_before(base).filter(|i| state.table.regions[*i].offset(base, 1).is_some())
        else {
            return Err(state.unknown(base));
        };
        let found = state.table.regions[index].allocation();
        if found.base != base {
            return Err(MemoryError::NotABase { address: base, base: found.base });
        }
        if (found.kind == AllocationKind::Host) != host {
            return Err(MemoryError::WrongKind { base, host: !host });
        }
        Arc::make_mut(&mut state.table).regions.remove(index);
        if !host {
            state.in_use -= found.bytes;
        }
        state.freed.insert(base, found.bytes);
        if state.freed.len() > REMEMBERED {
            state.freed.pop_first();
        }
        Ok(())
    }

    /// Reads bytes of one allocation. Bytes that nothing wrote read as zero.
    ///
    /// # Errors
    /// If the range is not inside one allocation.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), MemoryError> {
        let (region, offset) = self.range(address, out.len() as u64)?;
        region.read(offset, out);
        Ok(())
    }

    /// Writes bytes of one allocation.
    ///
    /// # Errors
    /// If the range is not inside one allocation.
    pub fn write(&self, address: u64, data: &[u8]) -> Result<(), MemoryError> {
        let (region, offset) = self.range(address, data.len() as u64)?;
        region.write(offset, data);
        region.init.mark(offset, data.len() as u64);
        Ok(())
    }

    /// Copies bytes, and whether they were ever written. The ranges may overlap.
    ///
    /// # Errors
    /// If a range is not inside one allocation.
    pub fn copy(&self, to: u64, from: u64, bytes: u64) -> Result<(), MemoryError> {
        const CHUNK: u64 = 1 << 16;
        let (source, from_offset) = self.range(from, bytes)?;
        let (target, to_offset) = self.range(to, bytes)?;
        let mut buffer = vec![0; bytes.min(CHUNK) as usize];
        let chunks = bytes.div_ceil(CHUNK);
        for i in 0..chunks {
            // Backwards where the target is behind the source, as its end is read last.
            let at = if to > from { chunks - 1 - i } else { i } * CHUNK;
            let part = &mut buffer[..(bytes - at).min(CHUNK) as usize];
            source.read(from_offset + at, part);
            target.write(to_offset + at, part);
        }
        target.init.copy_from(to_offset, &source.init, from_offset, bytes);
        Ok(())
    }

    /// Writes a pattern of 1, 2 or 4 bytes `count` times.
    ///
    /// # Errors
    /// [`MemoryError::Pattern`], [`MemoryError::Misaligned`], and if the range is not inside one allocation.
    pub fn fill(&self, address: u64, value: &[u8], count: u64) -> Result<(), MemoryError> {
        let size = value.len() as u64;
        if !matches!(size, 1 | 2 | 4) {
            return Err(MemoryError::Pattern { bytes: value.len() });
        }
        if !address.is_multiple_of(size) {
            return Err(MemoryError::Misaligned { address, alignment: size });
        }
        let bytes = count.checked_mul(size).ok_or(MemoryError::NotAllocated { address: u64::MAX })?;
        let (region, offset) = self.range(address, bytes)?;
        let buffer = value.repeat((bytes.min(1 << 16) / size) as usize);
        let mut at = 0;
        while at < bytes {
            let part = &buffer[..(bytes - at).min(buffer.len() as u64) as usize];
            region.write(offset + at, part);
            at += part.len() as u64;
        }
        region.init.mark(offset, bytes);
        Ok(())
    }

    /// Has every byte of the range been written? False for ranges that are not inside one allocation.
    pub fn initialised(&self, address: u64, bytes: u64) -> bool {
        self.range(address, bytes).is_ok_and(|(region, offset)| region.init.missing(offset, bytes).is_none())
    }

    /// The allocation around an address.
    pub fn find(&self, address: u64) -> Option<Allocation> {
        self.state().table.holding(address).map(|region| region.allocation())
    }

    /// All allocations and mappings, by address.
    pub fn live(&self) -> Vec<Allocation> {
        self.state().table.regions.iter().map(|region| region.allocation()).collect()
    }

    /// Bytes of device memory that are allocated, host mappings not among them.
    pub fn bytes_in_use(&self) -> u64 {
        self.state().in_use
    }

    /// Bounds the bytes in use from now on.
    pub fn set_limit(&self, limit: Option<u64>) {
        self.state().limit = limit;
    }

    fn range(&self, address: u64, bytes: u64) -> Result<(Arc<Region>, u64), MemoryError> {
        let state = self.state();
        let Some(region) = state.table.holding(address) else {
            return Err(state.unknown(address));
        };
        match region.offset(address, bytes) {
            Some(offset) => Ok((Arc::clone(region), offset)),
            None => Err(MemoryError::OutOfBounds {
                address,
                bytes,
                base: region.base(),
                allocated: region.bytes(),
            }),
        }
    }

    /// Held by who accesses more than one word at an address as a whole.
    pub(super) fn lock(&self, address: u64) -> MutexGuard<'_, ()> {
        self.locks[(address / 16) as usize % LOCKS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn table(&self) -> Arc<Table> {
        Arc::clone(&self.state().table)
    }

    /// Why there is no memory at an address.
    pub(super) fn unknown(&self, address: u64) -> MemoryError {
        self.state().unknown(address)
    }

    /// The number by which shadow state knows a launch, from 1 to `last`. When they run out, what is known about earlier
    /// launches is forgotten. 0 for a launch that is older than what is known.
    pub(super) fn launch_tag(&self, launch: u64, last: u64) -> u64 {
        let mut state = self.state();
        let number = launch.saturating_add(1);
        if number.saturating_sub(state.first_launch) > last {
            for region in &state.table.regions {
                region.shadow.forget();
            }
            state.first_launch = launch;
        }
        number.saturating_sub(state.first_launch)
    }
}

impl State {
    fn insert(&mut self, region: Region) {
        let table = Arc::make_mut(&mut self.table);
        let at = table.regions.partition_point(|other| other.base() < region.base());
        table.regions.insert(at, Arc::new(region));
    }

    fn unknown(&self, address: u64) -> MemoryError {
        let freed =
            self.freed.range(..=address).next_back().filter(|(base, bytes)| address - **base < **bytes);
        match freed {
            Some((base, bytes)) => MemoryError::Freed { address, base: *base, bytes: *bytes },
            None => MemoryError::NotAllocated { address },
        }
    }
}
