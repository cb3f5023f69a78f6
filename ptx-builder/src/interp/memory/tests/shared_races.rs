//! Conflicts in shared memory.

use super::*;

fn run(body: impl FnOnce(&mut ClusterMemory<'_>)) -> Vec<FindingKind> {
    let memory = Memory::new();
    let launch = launch(&memory);
    let mut cluster = block(&launch, 0);
    let zeros = [[0; 8]; LANES];
    for warp in 0..8 {
        cluster.store(at(0, 0), &SHARED, FULL, &each(warp * 128, 4), &zeros).expect("writable");
    }
    cluster.sync_warps(&mut (0..2));
    body(&mut cluster);
    drop(cluster);
    kinds(launch)
}

const RACE: [FindingKind; 1] = [FindingKind::SharedRace];

#[test]
fn a_barrier_orders_a_write_and_a_read() {
    let pass = |barrier: bool| {
        run(|block| {
            write(block, 0, SHARED, 64, 1);
            if barrier {
                block.sync_warps(&mut (0..2));
            }
            read(block, 1, SHARED, 64);
        })
    };
    assert_eq!(pass(true), []);
    assert_eq!(pass(false), RACE);
}

#[test]
fn a_barrier_orders_a_read_and_a_write() {
    let pass = |barrier: bool| {
        run(|block| {
            read(block, 0, SHARED, 64);
            read(block, 1, SHARED, 64);
            if barrier {
                block.sync_warps(&mut (0..2));
            }
            write(block, 1, SHARED, 64, 2);
        })
    };
    assert_eq!(pass(true), []);
    assert_eq!(pass(false), RACE);
}

#[test]
fn two_writes() {
    let pass = |second: u32, pc: u32| {
        run(|block| {
            block.store(at(0, 1), &SHARED, 1, &[64; LANES], &[[1; 8]; LANES]).expect("writable");
            block.store(at(1, pc), &SHARED, 1, &[64; LANES], &[[second; 8]; LANES]).expect("writable");
        })
    };
    assert_eq!(pass(2, 1), RACE);
    assert_eq!(pass(1, 2), RACE);
    // One value by one instruction.
    assert_eq!(pass(1, 1), []);
}

#[test]
fn the_finding_names_the_other_side() {
    let memory = Memory::new();
    let launch = launch(&memory);
    let mut cluster = block(&launch, 2);
    let mut data = [[0; 8]; LANES];
    cluster.store(at(0, 11), &SHARED, FULL, &each(0, 4), &data).expect("writable");
    cluster.load(at(1, 12), &SHARED, FULL, &each(0, 4), &mut data).expect("readable");
    drop(cluster);
    let finding = only(launch);
    let other = finding.other.expect("the other side");
    assert_eq!((finding.warp, finding.lane, finding.pc, finding.count), (1, 0, 12, 32));
    assert_eq!(
        (other.cluster, other.warp, other.lane, other.pc, other.wrote),
        (2, 0, Some(0), Some(11), true)
    );
}

#[test]
fn broadcasts_and_disjoint_bytes_are_none() {
    assert_eq!(
        run(|block| {
            let mut out = [[0; 8]; LANES];
            for warp in 0..2 {
                block.load(at(warp, 1), &SHARED, FULL, &[8; LANES], &mut out).expect("readable");
            }
            let byte = weak(Space::Shared, 1);
            write(block, 0, byte, 128, 1);
            write(block, 1, byte, 129, 1);
            read(block, 0, byte, 130);
        }),
        []
    );
}

#[test]
fn lanes_of_a_warp_need_a_barrier_too() {
    let pass = |sync: bool| {
        run(|block| {
            let data = [[1; 8]; LANES];
            let mut out = data;
            block.store(at(0, 1), &SHARED, FULL, &each(0, 4), &data).expect("writable");
            if sync {
                block.sync_lanes(0, FULL);
            }
            let neighbour = std::array::from_fn(|lane| (lane as u64 ^ 1) * 4);
            block.load(at(0, 2), &SHARED, FULL, &neighbour, &mut out).expect("readable");
            if sync {
                block.sync_lanes(0, FULL);
            }
            block.store(at(0, 3), &SHARED, FULL, &each(0, 4), &data).expect("writable");
        })
    };
    assert_eq!(pass(true), []);
    assert_eq!(pass(false), RACE);
}

#[test]
fn lanes_that_write_the_same_value_together_are_one_writer() {
    let pass = |different: bool| {
        run(|block| {
            let mut data = [[5; 8]; LANES];
            if different {
                data[3][0] = 6;
            }
            block.store(at(0, 1), &SHARED, FULL, &[256; LANES], &data).expect("writable");
        })
    };
    assert_eq!(pass(false), []);
    assert_eq!(pass(true), RACE);
}

#[test]
fn atomics_do_not_race_with_atomics() {
    let atomic = strong(Space::Shared, Order::Relaxed, Scope::Cta);
    assert_eq!(
        run(|block| {
            add(block, 0, atomic, 0, 1);
            add(block, 1, atomic, 0, 1);
            let volatile = Access { strength: Strength::VOLATILE, ..SHARED };
            read(block, 0, volatile, 0);
        }),
        []
    );
    assert_eq!(
        run(|block| {
            add(block, 0, atomic, 0, 1);
            read(block, 1, SHARED, 0);
        }),
        RACE
    );
    assert_eq!(
        run(|block| {
            read(block, 1, SHARED, 0);
            add(block, 0, atomic, 0, 1);
        }),
        RACE
    );
}

#[test]
fn a_barrier_of_some_warps_orders_only_them() {
    let memory = Memory::new();
    let shape = Shape { warps_per_block: 3, ..SHAPE };
    for (reader, expected) in [(1, vec![]), (2, RACE.to_vec())] {
        let launch = LaunchMemory::new(&memory, LaunchId(1), &[], shape, (Sanitize::ALL, false));
        let mut cluster = block(&launch, 0);
        write(&mut cluster, 0, SHARED, 0, 1);
        cluster.sync_warps(&mut (0..2));
        read(&mut cluster, reader, SHARED, 0);
        drop(cluster);
        assert_eq!(kinds(launch), expected, "warp {reader}");
    }
}

#[test]
fn arrivals_and_waits_at_an_object() {
    let pass = |arrive: bool, object: u64| {
        run(|block| {
            write(block, 0, SHARED, 0, 1);
            if arrive {
                block.release(0, 512);
            }
            block.acquire(1, object);
            read(block, 1, SHARED, 0);
        })
    };
    assert_eq!(pass(true, 512), []);
    assert_eq!(pass(false, 512), RACE);
    assert_eq!(pass(true, 520), RACE, "another object");
    // What follows the arrival is not ordered.
    assert_eq!(
        run(|block| {
            block.release(0, 512);
            write(block, 0, SHARED, 0, 1);
            block.acquire(1, 512);
            read(block, 1, SHARED, 0);
        }),
        RACE
    );
}

#[test]
fn a_flag_in_shared_memory() {
    let flag = |order| strong(Space::Shared, order, Scope::Cta);
    let pass = |release: Order, acquire: Order| {
        run(|block| {
            write(block, 0, SHARED, 0, 1);
            write(block, 0, flag(release), 64, 1);
            read(block, 1, flag(acquire), 64);
            read(block, 1, SHARED, 0);
        })
    };
    assert_eq!(pass(Order::Release, Order::Acquire), []);
    assert_eq!(pass(Order::Relaxed, Order::Acquire), RACE);
    assert_eq!(pass(Order::Release, Order::Relaxed), RACE);
    assert_eq!(
        run(|block| {
            write(block, 0, SHARED, 0, 1);
            block.fence(0, Scope::Cta, Order::AcqRel);
            write(block, 0, flag(Order::Relaxed), 64, 1);
            read(block, 1, flag(Order::Relaxed), 64);
            block.fence(1, Scope::Cta, Order::AcqRel);
            read(block, 1, SHARED, 0);
        }),
        []
    );
}

#[test]
fn ping_pong_between_two_buffers() {
    // One barrier a step is enough with two buffers, and too few with one.
    let pass = |buffers: u64| {
        run(|block| {
            for step in 0..6 {
                let buffer = step % buffers * 256;
                for warp in 0..2 {
                    write(block, warp, SHARED, buffer + u64::from(warp) * 4, 1);
                }
                block.sync_warps(&mut (0..2));
                for warp in 0..2 {
                    read(block, warp, SHARED, buffer + u64::from(warp ^ 1) * 4);
                }
            }
        })
    };
    assert_eq!(pass(2), []);
    assert_eq!(pass(1), RACE);
}

#[test]
fn blocks_do_not_remember_each_other() {
    let memory = Memory::new();
    let launch = launch(&memory);
    let mut cluster = launch.cluster_memory();
    for index in 0..4 {
        cluster.begin(index);
        write(&mut cluster, index % 2, SHARED, 0, 1);
        read(&mut cluster, index % 2, SHARED, 0);
    }
    drop(cluster);
    assert_eq!(kinds(launch), []);
}
