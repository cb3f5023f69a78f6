//! Memory: allocations and the host's access to them, and what the blocks of a launch see.
//!
//! [`Memory`] is the device's. A launch takes a snapshot of it ([`LaunchMemory`]), and each host thread that runs blocks
//! has a [`ClusterMemory`]: the shared memories of one cluster, the local memory of its threads, and what the sanitizers
//! know about their order.
//!
//! # Addresses
//! | from | what |
//! | --- | --- |
//! | `0x0100_0000_0000` | local memory of the thread, as generic addresses |
//! | `0x0200_0000_0000` | shared memory of the cluster, as generic addresses |
//! | `0x1000_0000_0000` | device memory |
//! | their own | mappings of host memory |
//!
//! A shared address has the rank of the block in its cluster from bit 24 on.
//!
//! Device memory is words of relaxed atomics, so blocks on several host threads may race without undefined behaviour of the
//! host. Accesses of 8 bytes that have to be whole take a lock.

mod accesses;
mod block;
mod global;
mod host;
mod launch;
mod local;
mod region;
mod shared;

#[cfg(test)]
mod tests;

pub(super) use block::{
    Access, ClusterMemory, LOCAL_WINDOW, Order, RANK_SHIFT, SHARED_WINDOW, Site, Strength, Values,
};
pub use host::{Memory, MemoryError};

pub(super) use launch::{LaunchMemory, Shape};
pub(super) use region::zeroed;
pub use region::{Allocation, AllocationKind};
