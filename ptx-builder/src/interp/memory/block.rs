//! Memory as the blocks of one cluster see it: the executor's view.

use super::super::finding::{Fault, FindingKind, Findings, RawFinding};
use super::super::metrics::MemoryMetrics;
use super::super::regs::LANES;
use super::super::sanitize::Clocks;
use super::host::Table;
use super::launch::LaunchMemory;
use super::local::LocalMemory;
use super::shared::SharedMemory;
use crate::inst::{Scope, Space};
use std::sync::Arc;

/// Where generic addresses of local memory begin.
pub(in crate::interp) const LOCAL_WINDOW: u64 = 0x0100_0000_0000;
/// Where generic addresses of shared memory begin.
pub(in crate::interp) const SHARED_WINDOW: u64 = 0x0200_0000_0000;
/// Bytes of each window.
pub(in crate::interp) const WINDOW: u64 = 1 << 32;
/// The rank of a block in its cluster begins at this bit of a shared address.
pub(in crate::interp) const RANK_SHIFT: u32 = 24;

/// Values of a memory instruction, lane by lane: little-endian words; 1 and 2 bytes in the low bits of the first.
pub(in crate::interp) type Values = [[u32; 8]; LANES];

/// Who executes what.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) struct Site {
    /// Warp in the cluster: rank of the block times warps of a block, plus the warp in the block.
    pub(in crate::interp) warp: u32,
    /// Index into the program's code.
    pub(in crate::interp) pc: u32,
}

/// The order that a strong access makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) enum Order {
    /// None; fences before and after make one.
    Relaxed,
    Acquire,
    Release,
    AcqRel,
}

impl Order {
    pub(in crate::interp) fn acquires(self) -> bool {
        matches!(self, Self::Acquire | Self::AcqRel)
    }

    pub(in crate::interp) fn releases(self) -> bool {
        matches!(self, Self::Release | Self::AcqRel)
    }
}

/// What an access promises and demands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) enum Strength {
    Weak,
    /// `ld.global.nc`: the memory does not change during the launch.
    NonCoherent,
    /// Atomic operations and accesses with an order.
    Strong {
        order: Order,
        scope: Scope,
    },
}

impl Strength {
    /// `.volatile`.
    pub(in crate::interp) const VOLATILE: Self = Self::Strong { order: Order::Relaxed, scope: Scope::Sys };

    pub(in crate::interp) fn is_strong(self) -> bool {
        matches!(self, Self::Strong { .. })
    }
}

/// A memory access of a warp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) struct Access {
    /// The state space of the addresses. `.param` memory is not here.
    pub(in crate::interp) space: Space,
    /// Bytes of the whole access of a lane: a power of two up to 32.
    pub(in crate::interp) bytes: u8,
    /// Weak or strong.
    pub(in crate::interp) strength: Strength,
}

/// The memory of the blocks of a cluster. One host thread runs a cluster, and then others with the same object.
///
/// Addresses of shared memory have the rank of the block from bit 24 on, also in a cluster of one block; addresses of
/// local memory are offsets into the thread's.
pub(in crate::interp) struct ClusterMemory<'a> {
    pub(super) launch: &'a LaunchMemory,
    pub(super) table: Arc<Table>,
    /// Position in the table of the region that was accessed last.
    pub(super) cached: usize,
    pub(super) cluster: u32,
    pub(super) clocks: Clocks,
    pub(super) shared: Vec<SharedMemory>,
    pub(super) local: LocalMemory,
    pub(super) findings: Findings,
    pub(super) counters: Option<Box<MemoryMetrics>>,
}

/// Lanes by the memory that their generic addresses point to.
struct Split {
    global: u32,
    shared: u32,
    local: u32,
}

impl Split {
    fn new(mask: u32, addresses: &[u64; LANES]) -> Self {
        let (mut shared, mut local) = (0, 0);
        for (lane, address) in addresses.iter().enumerate() {
            shared |= u32::from(address.wrapping_sub(SHARED_WINDOW) < WINDOW) << lane;
            local |= u32::from(address.wrapping_sub(LOCAL_WINDOW) < WINDOW) << lane;
        }
        Self { global: mask & !shared & !local, shared: mask & shared, local: mask & local }
    }
}

/// The lanes of a mask, in order.
#[inline]
pub(super) fn lanes(mask: u32) -> impl Iterator<Item = usize> {
    let mut rest = mask;
    std::iter::from_fn(move || {
        (rest != 0).then(|| {
            let lane = rest.trailing_zeros() as usize;
            rest &= rest - 1;
            lane
        })
    })
}

/// Addresses relative to a window.
fn relative(addresses: &[u64; LANES], window: u64) -> [u64; LANES] {
    addresses.map(|address| address.wrapping_sub(window))
}

impl<'a> ClusterMemory<'a> {
    pub(super) fn new(launch: &'a LaunchMemory) -> Self {
        let shape = launch.shape;
        let warps = shape.warps();
        Self {
            table: Arc::clone(&launch.table),
            cached: 0,
            cluster: 0,
            clocks: Clocks::new(warps),
            shared: (0..shape.blocks).map(|_| SharedMemory::new(shape.shared_bytes)).collect(),
            local: LocalMemory::new(warps, shape.local_bytes),
            findings: Findings::default(),
            counters: launch.metrics.then(Box::default),
            launch,
        }
    }

    /// Starts the cluster with that linear index: shared and local memory hold nothing, nothing is ordered.
    pub(in crate::interp) fn begin(&mut self, cluster: u32) {
        self.cluster = cluster;
        if self.clocks.begin(cluster) {
            // The counter of epochs wrapped around.
            for shared in &mut self.shared {
                shared.forget_accesses();
            }
        }
        for shared in &mut self.shared {
            shared.begin(self.launch.sanitize);
        }
        self.local.begin();
    }

    /// Loads. Lanes outside of the mask keep what `out` holds.
    pub(in crate::interp) fn load(
        &mut self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
        out: &mut Values,
    ) -> Result<(), Fault> {
        match access.space {
            Space::Global => self.load_global(at, access, mask, addresses, out),
            Space::Const => self.load_global(at, access, mask, addresses, out),
            Space::Shared | Space::SharedCluster => self.load_shared(at, access, mask, addresses, out),
            Space::Local => self.load_local(at, access, mask, addresses, out),
            Space::Generic => {
                let split = Split::new(mask, addresses);
                if split.global != 0 {
                    self.load_global(at, access, split.global, addresses, out)?;
                }
                if split.shared != 0 {
                    let addresses = relative(addresses, SHARED_WINDOW);
                    let access = Access { space: Space::SharedCluster, ..*access };
                    self.load_shared(at, &access, split.shared, &addresses, out)?;
                }
                if split.local != 0 {
                    let addresses = relative(addresses, LOCAL_WINDOW);
                    self.load_local(at, access, split.local, &addresses, out)?;
                }
                Ok(())
            }
            Space::Param => Err(self.no_memory(at, mask, addresses, access.space)),
        }
    }

    /// Stores.
    pub(in crate::interp) fn store(
        &mut self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
        data: &Values,
    ) -> Result<(), Fault> {
        match access.space {
            Space::Global => self.store_global(at, access, mask, addresses, data),
            Space::Shared | Space::SharedCluster => self.store_shared(at, access, mask, addresses, data),
            Space::Local => self.store_local(at, access, mask, addresses, data),
            Space::Generic => {
                let split = Split::new(mask, addresses);
                if split.global != 0 {
                    self.store_global(at, access, split.global, addresses, data)?;
                }
                if split.shared != 0 {
                    let addresses = relative(addresses, SHARED_WINDOW);
                    let access = Access { space: Space::SharedCluster, ..*access };
                    self.store_shared(at, &access, split.shared, &addresses, data)?;
                }
                if split.local != 0 {
                    let addresses = relative(addresses, LOCAL_WINDOW);
                    self.store_local(at, access, split.local, &addresses, data)?;
                }
                Ok(())
            }
            Space::Const | Space::Param => Err(self.no_memory(at, mask, addresses, access.space)),
        }
    }

    /// Atomic read-modify-write operations of 2, 4 or 8 bytes, lane after lane. `f` gets the lane and the old value and
    /// returns the new one. It can be called again for the same lane, if another host thread changed the memory in
    /// between: the last call counts.
    pub(in crate::interp) fn atomic(
        &mut self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
        f: &mut dyn FnMut(usize, u64) -> u64,
    ) -> Result<(), Fault> {
        match access.space {
            Space::Global => self.atomic_global(at, access, mask, addresses, f),
            Space::Shared | Space::SharedCluster => self.atomic_shared(at, access, mask, addresses, f),
            Space::Generic => {
                let split = Split::new(mask, addresses);
                if split.global != 0 {
                    self.atomic_global(at, access, split.global, addresses, f)?;
                }
                if split.shared != 0 {
                    let addresses = relative(addresses, SHARED_WINDOW);
                    let access = Access { space: Space::SharedCluster, ..*access };
                    self.atomic_shared(at, &access, split.shared, &addresses, f)?;
                }
                if split.local != 0 {
                    let addresses = relative(addresses, LOCAL_WINDOW);
                    return Err(self.no_memory(at, split.local, &addresses, Space::Local));
                }
                Ok(())
            }
            Space::Local | Space::Const | Space::Param => {
                Err(self.no_memory(at, mask, addresses, access.space))
            }
        }
    }

    /// A barrier that these warps completed together: what each did before is ordered before what any does after.
    pub(in crate::interp) fn sync_warps(&mut self, warps: &mut dyn Iterator<Item = u32>) {
        if self.launch.tracks_order() {
            self.clocks.barrier(warps);
        }
    }

    /// `bar.warp.sync`. Any mask orders all lanes of the warp.
    pub(in crate::interp) fn sync_lanes(&mut self, warp: u32, _mask: u32) {
        self.clocks.sync_lanes(warp);
    }

    /// What the warp did is ordered before what a warp does that acquires the object later: an arrival at an mbarrier or
    /// a cluster barrier. Objects are numbers that the executor chooses, above all addresses of shared memory.
    pub(in crate::interp) fn release(&mut self, warp: u32, object: u64) {
        if self.launch.tracks_order() {
            self.clocks.release_object(warp, object);
        }
    }

    /// [`Self::release`] of what the warp did before its last fence.
    pub(in crate::interp) fn release_relaxed(&mut self, warp: u32, object: u64) {
        if self.launch.tracks_order() {
            self.clocks.release_object_relaxed(warp, object);
        }
    }

    /// The other side of [`Self::release`].
    pub(in crate::interp) fn acquire(&mut self, warp: u32, object: u64) {
        if self.launch.tracks_order() {
            self.clocks.acquire_object(warp, object);
        }
    }

    /// `fence` and `membar`, which acquire and release unless they say otherwise.
    pub(in crate::interp) fn fence(&mut self, warp: u32, scope: Scope, order: Order) {
        std::sync::atomic::fence(std::sync::atomic::Ordering::SeqCst);
        if self.launch.tracks_order() {
            self.clocks.fence(warp, scope != Scope::Cta, order);
        }
    }

    /// `griddepcontrol.wait`: what pending launches did is visible to the warp.
    pub(in crate::interp) fn grid_dependency_wait(&mut self, warp: u32) {
        self.clocks.wait_for_grids(warp);
    }

    /// Adds a finding of the executor to those of the memory.
    pub(in crate::interp) fn report(&mut self, finding: RawFinding) {
        self.findings.add(finding);
    }

    /// A fault or finding at a site.
    pub(in crate::interp) fn finding(
        &self,
        kind: FindingKind,
        at: Site,
        lane: u32,
        detail: String,
    ) -> RawFinding {
        RawFinding {
            kind,
            pc: at.pc,
            cluster: self.cluster,
            warp: at.warp,
            lane,
            address: None,
            space: None,
            detail,
            other: None,
            count: 1,
        }
    }

    /// A finding about an address.
    pub(super) fn finding_at(
        &self,
        kind: FindingKind,
        at: Site,
        lane: usize,
        (space, address): (Space, u64),
        detail: String,
    ) -> RawFinding {
        let finding = self.finding(kind, at, lane as u32, detail);
        RawFinding { address: Some(address), space: Some(space), ..finding }
    }

    fn no_memory(&self, at: Site, mask: u32, addresses: &[u64; LANES], space: Space) -> Fault {
        let lane = mask.trailing_zeros() as usize % LANES;
        let detail = match space {
            Space::Const => "constant memory is only read".to_owned(),
            Space::Local => "there are no atomic operations on local memory".to_owned(),
            other => format!("not an instruction for .{} memory", other.name()),
        };
        Box::new(self.finding_at(FindingKind::InvalidUse, at, lane, (space, addresses[lane]), detail))
    }

    /// `Err` if a lane's address is not a multiple of the access's size.
    #[inline]
    pub(super) fn check_alignment(
        &self,
        at: Site,
        access: &Access,
        mask: u32,
        addresses: &[u64; LANES],
    ) -> Result<(), Fault> {
        let low = u64::from(access.bytes) - 1;
        // Branch-free over all lanes; lanes outside of the mask are looked at again below.
        let any = addresses.iter().fold(0, |any, address| any | address);
        if any & low == 0 {
            return Ok(());
        }
        match lanes(mask).find(|lane| addresses[*lane] & low != 0) {
            None => Ok(()),
            Some(lane) => {
                let detail = format!("an access of {} bytes needs a multiple of {0}", access.bytes);
                let place = (access.space, addresses[lane]);
                Err(Box::new(self.finding_at(FindingKind::Misaligned, at, lane, place, detail)))
            }
        }
    }
}

impl Drop for ClusterMemory<'_> {
    /// What was found and counted belongs to the launch.
    fn drop(&mut self) {
        self.launch.join(std::mem::take(&mut self.findings), self.counters.take());
    }
}
