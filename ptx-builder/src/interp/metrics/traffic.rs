//! Memory traffic of a launch: by instruction and by allocation.

use super::super::sanitize::InitMap;
use crate::ids::InstId;
use crate::inst::Space;
use std::collections::{BTreeMap, HashMap};
use std::ops::AddAssign;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of a sector, the unit in which global memory moves.
pub const SECTOR_BYTES: u64 = 32;

/// Loads, stores and atomic operations are counted apart.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Direction {
    /// Loads.
    Load,
    /// Stores.
    Store,
    /// Atomic operations.
    Atomic,
}

impl Direction {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Store => "store",
            Self::Atomic => "atomic",
        }
    }
}

/// Memory traffic: of an instruction, of a state space.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Instructions, each counted once for a warp.
    pub requests: u64,
    /// Accesses of lanes.
    pub lanes: u64,
    /// Bytes that lanes asked for, each as often as a lane did.
    pub bytes: u64,
    /// Sectors of 32 bytes that requests touched, each once for a request; of a copy to shared memory past the L1 cache
    /// (`cp.async.cg`) once for each sector there that its bytes come to. Global memory.
    pub sectors: u64,
    /// The fewest sectors that could hold the different bytes of each request. Global memory.
    pub ideal_sectors: u64,
    /// Passes over the 32 banks of 4 bytes. Shared memory.
    pub wavefronts: u64,
    /// Passes without bank conflicts: one for 32 lanes of up to 4 bytes, for 16 of 8, for 8 of 16. Shared memory.
    pub ideal_wavefronts: u64,
}

impl Traffic {
    /// Sectors of a request, on average.
    pub fn sectors_per_request(&self) -> f64 {
        if self.requests == 0 { 0.0 } else { self.sectors as f64 / self.requests as f64 }
    }

    /// Does every request touch as few sectors as its bytes fit in?
    pub fn is_coalesced(&self) -> bool {
        self.sectors == self.ideal_sectors
    }

    /// Passes over the banks beyond those that were needed.
    pub fn bank_conflicts(&self) -> u64 {
        self.wavefronts - self.ideal_wavefronts
    }

    /// Bytes that moved from or to global memory.
    pub fn moved_bytes(&self) -> u64 {
        self.sectors * SECTOR_BYTES
    }
}

impl AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.lanes += other.lanes;
        self.bytes += other.bytes;
        self.sectors += other.sectors;
        self.ideal_sectors += other.ideal_sectors;
        self.wavefronts += other.wavefronts;
        self.ideal_wavefronts += other.ideal_wavefronts;
    }
}

/// The traffic of one instruction in one state space.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct InstructionTraffic {
    /// Where the instruction is in its function.
    pub inst: InstId,
    /// The instruction as it is printed.
    pub line: String,
    /// The memory that it accessed; generic addresses are resolved.
    pub space: Space,
    /// What it does.
    pub direction: Direction,
    /// How much.
    pub traffic: Traffic,
}

/// The traffic of one allocation in global memory.
///
/// "Each byte is read by one request" is `bytes_read == distinct_read`; with `distinct_read == bytes`, all of them are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct AllocationTraffic {
    /// The base address.
    pub base: u64,
    /// The allocation's bytes.
    pub bytes: u64,
    /// Bytes that were read, each once for a request, however many lanes share it.
    pub bytes_read: u64,
    /// Different bytes that were read.
    pub distinct_read: u64,
    /// Sectors that were read, as [`Traffic::sectors`] counts them.
    pub sectors_read: u64,
    /// Bytes that were written, each once for a request. Atomic operations read and write.
    pub bytes_written: u64,
    /// Different bytes that were written.
    pub distinct_written: u64,
    /// Sectors that were written, each once for a request.
    pub sectors_written: u64,
}

/// Memory traffic of a part of a launch, by program counter.
#[derive(Clone, Debug, Default)]
pub(in crate::interp) struct MemoryMetrics {
    pub(super) sites: HashMap<(u32, Space), (Direction, Traffic)>,
    pub(super) allocations: BTreeMap<u64, AllocationTraffic>,
}

impl MemoryMetrics {
    pub(in crate::interp) fn add(&mut self, pc: u32, space: Space, direction: Direction, traffic: Traffic) {
        self.sites.entry((pc, space)).or_insert((direction, Traffic::default())).1 += traffic;
    }

    /// The counters of an allocation.
    pub(in crate::interp) fn allocation(&mut self, base: u64, bytes: u64) -> &mut AllocationTraffic {
        self.allocations.entry(base).or_insert(AllocationTraffic {
            base,
            bytes,
            ..AllocationTraffic::default()
        })
    }

    pub(in crate::interp) fn merge(&mut self, other: &Self) {
        for ((pc, space), (direction, traffic)) in &other.sites {
            self.add(*pc, *space, *direction, *traffic);
        }
        for from in other.allocations.values() {
            let into = self.allocation(from.base, from.bytes);
            into.bytes_read += from.bytes_read;
            into.sectors_read += from.sectors_read;
            into.bytes_written += from.bytes_written;
            into.sectors_written += from.sectors_written;
        }
    }
}

/// Which bytes of an allocation a launch read and wrote.
#[derive(Debug)]
pub(in crate::interp) struct TouchedBytes {
    base: u64,
    read: InitMap,
    written: InitMap,
}

impl TouchedBytes {
    pub(in crate::interp) fn base(&self) -> u64 {
        self.base
    }

    pub(in crate::interp) fn mark(&self, direction: Direction, offset: u64, len: u64) {
        if direction != Direction::Store {
            self.read.mark(offset, len);
        }
        if direction != Direction::Load {
            self.written.mark(offset, len);
        }
    }
}

/// The same for all allocations of a launch.
#[derive(Debug, Default)]
pub(in crate::interp) struct Touched {
    allocations: Mutex<BTreeMap<u64, Arc<TouchedBytes>>>,
}

impl Touched {
    pub(in crate::interp) fn of(&self, base: u64, bytes: u64) -> Arc<TouchedBytes> {
        let mut all = self.allocations.lock().unwrap_or_else(PoisonError::into_inner);
        let new =
            || TouchedBytes { base, read: InitMap::new(bytes, false), written: InitMap::new(bytes, false) };
        Arc::clone(all.entry(base).or_insert_with(|| Arc::new(new())))
    }

    /// Enters the numbers of different bytes.
    pub(in crate::interp) fn finish(&self, metrics: &mut MemoryMetrics) {
        let all = self.allocations.lock().unwrap_or_else(PoisonError::into_inner);
        for (base, touched) in all.iter() {
            if let Some(allocation) = metrics.allocations.get_mut(base) {
                allocation.distinct_read = touched.read.count();
                allocation.distinct_written = touched.written.count();
            }
        }
    }
}
