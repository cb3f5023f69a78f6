//! Every check of the executor's view, on accesses that have the fault and on accesses that look like it.

mod bounds;
mod global_races;
mod host;
mod initialised;
mod shared_races;
mod traffic;

use super::super::finding::{Fault, FindingKind, RawFinding};
use super::super::launch::{LaunchId, Sanitize};
use super::super::regs::{FULL, LANES};
use super::*;
use crate::inst::{Scope, Space};

/// A grid of blocks of two warps.
const SHAPE: Shape =
    Shape { clusters: 8, blocks: 1, warps_per_block: 2, shared_bytes: 1024, local_bytes: 64 };

fn launch_as(memory: &Memory, id: u64, pending: &[u64], sanitize: Sanitize) -> LaunchMemory {
    let pending: Vec<_> = pending.iter().copied().map(LaunchId).collect();
    LaunchMemory::new(memory, LaunchId(id), &pending, SHAPE, (sanitize, true))
}

fn launch(memory: &Memory) -> LaunchMemory {
    launch_as(memory, 1, &[], Sanitize::ALL)
}

fn block<'a>(launch: &'a LaunchMemory, index: u32) -> ClusterMemory<'a> {
    let mut block = launch.cluster_memory();
    block.begin(index);
    block
}

const fn weak(space: Space, bytes: u8) -> Access {
    Access { space, bytes, strength: Strength::Weak }
}

const fn strong(space: Space, order: Order, scope: Scope) -> Access {
    Access { space, bytes: 4, strength: Strength::Strong { order, scope } }
}

const RELAXED: Access = strong(Space::Global, Order::Relaxed, Scope::Gpu);
const GLOBAL: Access = weak(Space::Global, 4);
const SHARED: Access = weak(Space::Shared, 4);

fn at(warp: u32, pc: u32) -> Site {
    Site { warp, pc }
}

/// One access of the first lane.
fn read(block: &mut ClusterMemory<'_>, warp: u32, access: Access, address: u64) -> u32 {
    let mut out = [[0; 8]; LANES];
    block.load(at(warp, 10), &access, 1, &[address; LANES], &mut out).expect("readable");
    out[0][0]
}

fn write(block: &mut ClusterMemory<'_>, warp: u32, access: Access, address: u64, value: u32) {
    let data = [[value; 8]; LANES];
    block.store(at(warp, 20), &access, 1, &[address; LANES], &data).expect("writable");
}

fn add(block: &mut ClusterMemory<'_>, warp: u32, access: Access, address: u64, value: u64) -> u64 {
    let mut seen = 0;
    let mut f = |_, old| {
        seen = old;
        old + value
    };
    block.atomic(at(warp, 30), &access, 1, &[address; LANES], &mut f).expect("writable");
    seen
}

fn each(base: u64, stride: u64) -> [u64; LANES] {
    std::array::from_fn(|lane| base + lane as u64 * stride)
}

/// What was found, by kind and program counter.
fn found(launch: LaunchMemory) -> Vec<(FindingKind, u32)> {
    launch.finish().0.iter().map(|finding| (finding.kind, finding.pc)).collect()
}

fn kinds(launch: LaunchMemory) -> Vec<FindingKind> {
    let mut kinds: Vec<_> = launch.finish().0.iter().map(|finding| finding.kind).collect();
    kinds.dedup();
    kinds
}

/// Memory with an allocation that is written.
fn written(bytes: u64) -> (Memory, u64) {
    let memory = Memory::new();
    let address = memory.alloc(bytes).expect("memory");
    memory.fill(address, &[0], bytes).expect("writable");
    (memory, address)
}

fn only(launch: LaunchMemory) -> RawFinding {
    let mut all = launch.finish().0;
    assert_eq!(all.len(), 1, "{all:?}");
    all.remove(0)
}
