//! Addresses: where there is memory, and where not.

use super::*;

fn load_all(memory: &Memory, access: Access, addresses: [u64; LANES]) -> Result<(), Fault> {
    let launch = launch(memory);
    let mut out = [[0; 8]; LANES];
    block(&launch, 3).load(at(1, 7), &access, FULL, &addresses, &mut out)
}

#[test]
fn the_end_of_an_allocation_is_exact() {
    let (memory, a) = written(128);
    assert!(load_all(&memory, GLOBAL, each(a, 4)).is_ok());
    let fault = load_all(&memory, GLOBAL, each(a + 4, 4)).expect_err("one word too far");
    assert_eq!((fault.kind, fault.lane, fault.address), (FindingKind::OutOfBounds, 31, Some(a + 128)));
    assert_eq!((fault.cluster, fault.warp, fault.pc), (3, 1, 7));
    assert_eq!(
        fault.detail,
        format!("4 bytes that begin 0 bytes after the end of the allocation of 128 bytes at {a:#x}")
    );
    let fault = load_all(&memory, GLOBAL, each(a - 4, 4)).expect_err("one word too early");
    assert_eq!(
        fault.detail,
        format!("4 bytes that begin 4 bytes before the allocation of 128 bytes at {a:#x}")
    );
    let odd = memory.alloc(6).expect("memory");
    let fault = load_all(&memory, GLOBAL, [odd + 4; LANES]).expect_err("half outside");
    assert_eq!(fault.detail, format!("4 bytes that end 2 bytes after the allocation of 6 bytes at {odd:#x}"));
}

#[test]
fn wild_addresses_fault_without_sanitizers_too() {
    let memory = Memory::new();
    let launch = launch_as(&memory, 1, &[], Sanitize::NONE);
    let mut block = block(&launch, 0);
    let mut out = [[0; 8]; LANES];
    for address in [0, 4, 0x1000, u64::MAX - 3, 0x7FFF_0000_0000] {
        for access in [GLOBAL, weak(Space::Generic, 4), weak(Space::Const, 4)] {
            let fault = block.load(at(0, 0), &access, 1, &[address; LANES], &mut out).expect_err("no memory");
            assert_eq!(fault.kind, FindingKind::OutOfBounds);
            assert!(block.store(at(0, 0), &access, 1, &[address; LANES], &out).is_err());
            assert!(block.atomic(at(0, 0), &access, 1, &[address; LANES], &mut |_, old| old).is_err());
        }
    }
    for (access, address) in
        [(SHARED, 1024), (SHARED, 1 << 24), (SHARED, u64::MAX - 3), (weak(Space::Local, 4), 64)]
    {
        let fault = block.load(at(0, 0), &access, 1, &[address; LANES], &mut out).expect_err("no memory");
        assert_eq!(fault.kind, FindingKind::OutOfBounds);
        assert!(block.store(at(0, 0), &access, 1, &[address; LANES], &out).is_err());
    }
}

#[test]
fn lanes_outside_of_the_mask_do_nothing() {
    let (memory, a) = written(128);
    let launch = launch(&memory);
    let mut block = block(&launch, 0);
    let mut addresses = each(1, 3);
    addresses[5] = a;
    let mut out = [[7; 8]; LANES];
    block.load(at(0, 0), &GLOBAL, 1 << 5, &addresses, &mut out).expect("readable");
    assert_eq!(out[5][0], 0);
    assert_eq!(out[4][0], 7);
    block.load(at(0, 0), &GLOBAL, 0, &addresses, &mut out).expect("nothing to do");
}

#[test]
fn misaligned() {
    let (memory, a) = written(256);
    let fault = load_all(&memory, GLOBAL, each(a + 2, 4)).expect_err("misaligned");
    assert_eq!((fault.kind, fault.lane), (FindingKind::Misaligned, 0));
    let fault = load_all(&memory, weak(Space::Shared, 8), each(4, 8)).expect_err("misaligned");
    assert_eq!(fault.kind, FindingKind::Misaligned);
    assert!(load_all(&memory, weak(Space::Global, 1), each(a + 1, 1)).is_ok());
}

#[test]
fn use_after_free() {
    let (memory, a) = written(128);
    memory.free(a).expect("live");
    let b = memory.alloc(128).expect("memory");
    assert_ne!(a, b);
    let fault = load_all(&memory, GLOBAL, each(a, 4)).expect_err("freed");
    assert_eq!(fault.kind, FindingKind::UseAfterFree);
    assert_eq!(
        fault.detail,
        format!("4 bytes at offset 0 of an allocation of 128 bytes at {a:#x} that was freed")
    );
}

#[test]
fn generic_addresses_are_resolved_lane_by_lane() {
    let (memory, a) = written(128);
    let launch = launch(&memory);
    let mut block = block(&launch, 0);
    let mut addresses = [a; LANES];
    addresses[1] = SHARED_WINDOW + 8;
    addresses[2] = LOCAL_WINDOW + 16;
    let mut data = [[0; 8]; LANES];
    for (lane, data) in data.iter_mut().enumerate() {
        data[0] = lane as u32 + 40;
    }
    block.store(at(0, 0), &weak(Space::Generic, 4), 7, &addresses, &data).expect("writable");
    let mut out = [[0; 8]; LANES];
    block.load(at(0, 0), &weak(Space::Generic, 4), 7, &addresses, &mut out).expect("readable");
    assert_eq!([out[0][0], out[1][0], out[2][0]], [40, 41, 42]);
    block.sync_lanes(0, FULL);
    assert_eq!(read(&mut block, 0, SHARED, 8), 41);
    block.load(at(0, 0), &weak(Space::Local, 4), 4, &[16; LANES], &mut out).expect("readable");
    assert_eq!(out[2][0], 42);
    assert!(block.atomic(at(0, 0), &weak(Space::Generic, 4), 4, &addresses, &mut |_, old| old).is_err());
    drop(block);
    assert_eq!(found(launch), []);
}

#[test]
fn constant_memory_is_only_read() {
    let memory = Memory::new();
    let a = memory.alloc_constant(64).expect("memory");
    memory.write(a, &[1; 64]).expect("the host writes it");
    let launch = launch(&memory);
    let mut block = block(&launch, 0);
    assert_eq!(read(&mut block, 0, weak(Space::Const, 4), a), 0x0101_0101);
    let fault = block.store(at(0, 0), &GLOBAL, 1, &[a; LANES], &[[0; 8]; LANES]).expect_err("constant");
    assert_eq!(fault.kind, FindingKind::InvalidUse);
}

#[test]
fn shared_memory_of_the_cluster() {
    let memory = Memory::new();
    let shape = Shape { clusters: 1, blocks: 2, ..SHAPE };
    let launch = LaunchMemory::new(&memory, LaunchId(1), &[], shape, (Sanitize::ALL, false));
    let mut cluster = block(&launch, 0);
    let remote = weak(Space::SharedCluster, 4);
    write(&mut cluster, 0, remote, (1 << RANK_SHIFT) + 12, 5);
    cluster.sync_warps(&mut (0..4));
    assert_eq!(read(&mut cluster, 2, SHARED, (1 << RANK_SHIFT) + 12), 5, "the block's own");
    let mut out = [[0; 8]; LANES];
    let foreign = cluster.load(at(0, 0), &SHARED, 1, &[(1 << RANK_SHIFT) + 12; LANES], &mut out);
    assert_eq!(foreign.expect_err("not without shared::cluster").kind, FindingKind::OutOfBounds);
    let beyond = cluster.load(at(0, 0), &remote, 1, &[2 << RANK_SHIFT; LANES], &mut out);
    assert_eq!(beyond.expect_err("two blocks").kind, FindingKind::OutOfBounds);
    drop(cluster);
    assert_eq!(found(launch), []);
}

#[test]
fn values_of_every_size_survive() {
    let (memory, a) = written(4096);
    let launch = launch(&memory);
    let mut block = block(&launch, 0);
    let data: Values =
        std::array::from_fn(|lane| std::array::from_fn(|word| (lane * 8 + word) as u32 * 0x0101_0101));
    for space in [Space::Global, Space::Shared, Space::Local] {
        for (bytes, stride) in [(1, 1), (2, 2), (4, 4), (8, 8), (16, 16), (32, 32), (4, 12), (1, 5), (2, 6)] {
            if space == Space::Local && bytes > 16 {
                continue;
            }
            let base = if space == Space::Global { a } else { 0 };
            let addresses = if space == Space::Local { [0; LANES] } else { each(base, stride) };
            let access = weak(space, bytes);
            block.store(at(0, 0), &access, FULL, &addresses, &data).expect("writable");
            let mut out = [[0; 8]; LANES];
            block.load(at(0, 0), &access, FULL, &addresses, &mut out).expect("readable");
            for lane in 0..LANES {
                let words = usize::from(bytes).div_ceil(4);
                let ones = u32::MAX >> (32 - 8 * u32::from(bytes).min(4));
                for word in 0..words {
                    assert_eq!(out[lane][word], data[lane][word] & ones, "{space:?} {bytes} {stride} {lane}");
                }
                assert!(out[lane][words..].iter().all(|word| *word == 0));
            }
        }
    }
}
