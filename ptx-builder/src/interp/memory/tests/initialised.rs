//! Reads of memory that nothing wrote.

use super::*;

#[test]
fn global_memory_is_tracked_byte_by_byte() {
    let memory = Memory::new();
    let a = memory.alloc(128).expect("memory");
    memory.write(a, &[1; 50]).expect("writable");
    let launch = launch(&memory);
    let mut block = block(&launch, 0);
    let mut out = [[0; 8]; LANES];
    block.load(at(0, 1), &GLOBAL, FULL, &each(a, 4), &mut out).expect("a finding, not a fault");
    block.load(at(0, 2), &GLOBAL, 0xFFF, &each(a, 4), &mut out).expect("readable");
    drop(block);
    let finding = only(launch);
    assert_eq!((finding.kind, finding.pc, finding.lane), (FindingKind::Uninitialised, 1, 12));
    assert_eq!((finding.address, finding.count), (Some(a + 50), 20));
    assert!(finding.detail.contains("byte 50 of the allocation of 128 bytes"), "{}", finding.detail);
}

#[test]
fn what_a_kernel_wrote_is_written() {
    let memory = Memory::new();
    let a = memory.alloc(256).expect("memory");
    let launch = launch(&memory);
    let mut block = block(&launch, 0);
    let data = [[1; 8]; LANES];
    block.store(at(0, 0), &GLOBAL, FULL, &each(a, 4), &data).expect("writable");
    block.store(at(0, 0), &weak(Space::Global, 1), FULL, &each(a + 128, 2), &data).expect("writable");
    let mut out = data;
    block.load(at(0, 1), &GLOBAL, FULL, &each(a, 4), &mut out).expect("readable");
    block.load(at(0, 2), &weak(Space::Global, 1), FULL, &each(a + 128, 2), &mut out).expect("readable");
    block.load(at(0, 3), &weak(Space::Global, 2), FULL, &each(a + 128, 2), &mut out).expect("readable");
    drop(block);
    assert_eq!(found(launch), [(FindingKind::Uninitialised, 3)]);
    assert!(memory.initialised(a, 129) && !memory.initialised(a, 130));
}

#[test]
fn atomics_read() {
    let memory = Memory::new();
    let a = memory.alloc(4).expect("memory");
    let launch = launch(&memory);
    let mut block = block(&launch, 0);
    add(&mut block, 0, RELAXED, a, 1);
    add(&mut block, 0, strong(Space::Shared, Order::Relaxed, Scope::Cta), 0, 1);
    drop(block);
    let finding = only(launch);
    assert_eq!((finding.kind, finding.count), (FindingKind::Uninitialised, 2));
}

#[test]
fn shared_and_local_memory_of_each_block() {
    let memory = Memory::new();
    let launch = launch(&memory);
    let mut block = block(&launch, 0);
    let mut out = [[0; 8]; LANES];
    let local = weak(Space::Local, 4);
    write(&mut block, 0, SHARED, 16, 1);
    block.store(at(0, 0), &local, 1, &[8; LANES], &out).expect("writable");
    read(&mut block, 0, SHARED, 16);
    block.load(at(0, 1), &local, 1, &[8; LANES], &mut out).expect("readable");
    block.load(at(0, 2), &local, 2, &[8; LANES], &mut out).expect("another thread's");
    block.load(at(0, 3), &weak(Space::Shared, 8), 1, &[16; LANES], &mut out).expect("half of it");
    block.begin(1);
    block.load(at(0, 4), &SHARED, 1, &[16; LANES], &mut out).expect("a new block's");
    block.load(at(0, 5), &local, 1, &[8; LANES], &mut out).expect("a new block's");
    drop(block);
    let expected: Vec<_> = (2..=5).map(|pc| (FindingKind::Uninitialised, pc)).collect();
    assert_eq!(found(launch), expected);
}

#[test]
fn nothing_is_said_if_nobody_asks() {
    let memory = Memory::new();
    let a = memory.alloc(128).expect("memory");
    let launch = launch_as(&memory, 1, &[], Sanitize { init: false, ..Sanitize::ALL });
    let mut block = block(&launch, 0);
    read(&mut block, 0, GLOBAL, a);
    read(&mut block, 0, SHARED, 0);
    drop(block);
    assert_eq!(found(launch), []);
}
