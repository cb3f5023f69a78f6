//! What memory accesses count.

use super::super::super::finding::Names;
use super::super::super::metrics::{Direction, InstructionCounts, Metrics};
use super::*;
use crate::ids::{BlockId, InstId};

struct Lines;

impl Names for Lines {
    fn kernel(&self) -> &str {
        "test"
    }
    fn place(&self, cluster: u32, warp: u32, lane: u32) -> ([u32; 3], [u32; 3]) {
        ([cluster, 0, 0], [warp * 32 + lane, 0, 0])
    }
    fn line(&self, pc: u32) -> (InstId, String) {
        (InstId { block: BlockId(0), index: pc }, format!("line {pc}"))
    }
}

fn metrics(launch: LaunchMemory) -> Metrics {
    let memory = launch.finish().1.expect("metrics are on");
    Metrics::new(InstructionCounts::default(), memory, &Lines)
}

#[test]
fn sectors() {
    let (memory, a) = written(1 << 16);
    let launch = launch(&memory);
    let mut cluster = block(&launch, 0);
    let mut out = [[0; 8]; LANES];
    let mut load = |pc, bytes, addresses: [u64; LANES]| {
        cluster.load(at(0, pc), &weak(Space::Global, bytes), FULL, &addresses, &mut out).expect("readable");
    };
    load(0, 4, each(a, 4));
    load(1, 16, each(a, 16));
    load(2, 4, each(a, 128));
    load(3, 4, [a; LANES]);
    load(4, 4, each(a + 4, 4));
    load(5, 1, each(a, 1));
    drop(cluster);
    let metrics = metrics(launch);
    let sectors: Vec<_> = metrics.traffic.iter().map(|site| site.traffic.sectors).collect();
    assert_eq!(sectors, [4, 16, 32, 1, 5, 1]);
    let coalesced: Vec<_> = metrics.traffic.iter().map(|site| site.traffic.is_coalesced()).collect();
    assert_eq!(coalesced, [true, true, false, true, false, true]);
    let total = metrics.total(Space::Global, Direction::Load);
    assert_eq!((total.requests, total.bytes), (6, 128 + 512 + 128 + 128 + 128 + 32));
}

#[test]
fn each_byte_once() {
    let memory = Memory::new();
    let (weights, x) = (memory.alloc(1024).expect("memory"), memory.alloc(128).expect("memory"));
    memory.fill(weights, &[1], 1024).expect("writable");
    memory.fill(x, &[1], 128).expect("writable");
    let launch = launch(&memory);
    let mut out = [[0; 8]; LANES];
    for index in 0..4 {
        let mut cluster = block(&launch, index);
        for warp in 0..2 {
            let first = weights + u64::from(index * 2 + warp) * 128;
            cluster.load(at(warp, 0), &GLOBAL, FULL, &each(first, 4), &mut out).expect("readable");
            cluster.load(at(warp, 1), &GLOBAL, FULL, &each(x, 4), &mut out).expect("readable");
            cluster.load(at(warp, 2), &GLOBAL, FULL, &[x; LANES], &mut out).expect("readable");
        }
    }
    let metrics = metrics(launch);
    let weights = metrics.allocation(weights).expect("was read");
    assert_eq!((weights.bytes_read, weights.distinct_read, weights.sectors_read), (1024, 1024, 32));
    let x = metrics.allocation(x).expect("was read");
    assert_eq!((x.bytes_read, x.distinct_read, x.bytes_written), (1024 + 8 * 4, 128, 0));
    let table = metrics.to_string();
    assert!(table.contains("line 1") && table.contains("distinct"), "{table}");
}

#[test]
fn shared_and_local() {
    let memory = Memory::new();
    let launch = launch(&memory);
    let mut cluster = block(&launch, 0);
    let data = [[0; 8]; LANES];
    cluster.store(at(0, 0), &SHARED, FULL, &each(0, 32), &data).expect("writable");
    cluster.store(at(0, 1), &weak(Space::Local, 8), 0xFF, &[0; LANES], &data).expect("writable");
    add(&mut cluster, 0, strong(Space::Shared, Order::Relaxed, Scope::Cta), 0, 1);
    drop(cluster);
    let metrics = metrics(launch);
    let stores = metrics.total(Space::Shared, Direction::Store);
    assert_eq!((stores.wavefronts, stores.ideal_wavefronts, stores.bank_conflicts()), (8, 1, 7));
    assert_eq!(metrics.total(Space::Shared, Direction::Atomic).lanes, 1);
    assert_eq!(metrics.total(Space::Local, Direction::Store).bytes, 64);
}

#[test]
fn a_finding_reads_well() {
    let memory = Memory::new();
    let launch = launch(&memory);
    let mut cluster = block(&launch, 2);
    write(&mut cluster, 0, SHARED, 8, 1);
    read(&mut cluster, 1, SHARED, 8);
    drop(cluster);
    assert_eq!(
        only(launch).resolve(&Lines).to_string(),
        "race in shared memory: kernel `test`, block (2, 0, 0), thread (32, 0, 0), at `line 10`, address 0x8 in .shared \
         memory: conflicts with the write by block (2, 0, 0), thread (0, 0, 0), at `line 20`"
    );
}
