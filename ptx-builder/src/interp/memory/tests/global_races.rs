//! Conflicts in global memory, between blocks and within one, and with earlier launches.

use super::*;

const RACE: [FindingKind; 1] = [FindingKind::GlobalRace];

/// Runs a body with the blocks of a launch, which run interleaved as the body says.
fn run<const N: usize>(bytes: u64, body: impl FnOnce(&mut [ClusterMemory<'_>; N], u64)) -> Vec<FindingKind> {
    let (memory, a) = written(bytes);
    let launch = launch(&memory);
    let mut blocks = std::array::from_fn(|index| block(&launch, index as u32));
    body(&mut blocks, a);
    drop(blocks);
    kinds(launch)
}

#[test]
fn two_blocks_and_a_word() {
    type Body = fn(&mut ClusterMemory<'_>, u64);
    let reads: Body = |block, a| {
        read(block, 0, GLOBAL, a);
    };
    let writes: Body = |block, a| write(block, 0, GLOBAL, a, 1);
    let adds: Body = |block, a| {
        add(block, 0, RELAXED, a, 1);
    };
    let cases = [
        ("write, read", writes, reads, true),
        ("read, write", reads, writes, true),
        ("write, write", writes, writes, true),
        ("read, read", reads, reads, false),
        ("atomics", adds, adds, false),
        ("atomic, read", adds, reads, true),
    ];
    for (name, first, second, races) in cases {
        let kinds = run(64, |[one, two], a| {
            first(one, a);
            second(two, a);
        });
        assert_eq!(kinds, if races { RACE.to_vec() } else { vec![] }, "{name}");
    }
}

#[test]
fn neighbouring_bytes_and_words_do_not_conflict() {
    let kinds = run(64, |[one, two], a| {
        for (byte, block) in [(0, &mut *one), (1, two)] {
            write(block, 0, weak(Space::Global, 1), a + byte, 1);
            write(block, 0, weak(Space::Global, 2), a + 4 + 2 * byte, 1);
            write(block, 1, GLOBAL, a + 8 + 4 * byte, 1);
        }
        read(one, 0, weak(Space::Global, 2), a + 4);
    });
    assert_eq!(kinds, []);
}

#[test]
fn a_write_after_reads_of_several_blocks() {
    let kinds = run(64, |[one, two, three], a| {
        for block in [&mut *one, two, three] {
            read(block, 0, GLOBAL, a);
        }
        write(one, 0, GLOBAL, a, 1);
    });
    assert_eq!(kinds, RACE, "the first reader writes");
}

/// The writer hears of some of the readers, in any order.
#[test]
fn every_reader_counts() {
    let pass = |readers: &[usize], heard: &[usize]| {
        run(256, |blocks: &mut [ClusterMemory<'_>; 5], a| {
            for &reader in readers {
                read(&mut blocks[reader], 0, GLOBAL, a);
                release(&mut blocks[reader], a + 32 + 4 * reader as u64);
            }
            for &reader in heard {
                acquire(&mut blocks[4], a + 32 + 4 * reader as u64);
            }
            write(&mut blocks[4], 0, GLOBAL, a, 1);
        })
    };
    assert_eq!(pass(&[0, 1, 2, 3], &[3, 1, 0, 2]), []);
    assert_eq!(pass(&[0, 1, 2, 3, 4], &[3, 1, 0, 2]), [], "its own read as well");
    for missing in 0..4 {
        let heard: Vec<usize> = (0..4).filter(|reader| *reader != missing).collect();
        assert_eq!(pass(&[0, 1, 2, 3], &heard), RACE, "not of reader {missing}");
        assert_eq!(pass(&[3, 2, 1, 0], &heard), RACE, "not of reader {missing}");
        assert_eq!(pass(&[missing, 4], &heard[..1]), RACE, "not of reader {missing}");
    }
}

/// Readers that are ordered leave room for others, and a write makes room for the readers of what it wrote.
#[test]
fn a_reader_that_is_known_is_forgotten() {
    let pass = |heard: bool| {
        run(256, |blocks: &mut [ClusterMemory<'_>; 8], a| {
            for reader in 0..7 {
                read(&mut blocks[reader], 0, GLOBAL, a);
                release(&mut blocks[reader], a + 32);
                acquire(&mut blocks[reader + 1], a + 32);
            }
            write(&mut blocks[7], 0, GLOBAL, a, 1);
            release(&mut blocks[7], a + 32);
            for (block, flag) in blocks[..2].iter_mut().zip([a + 64, a + 68]) {
                acquire(block, a + 32);
                read(block, 0, GLOBAL, a);
                release(block, flag);
            }
            acquire(&mut blocks[5], a + 64);
            if heard {
                acquire(&mut blocks[5], a + 68);
            }
            write(&mut blocks[5], 0, GLOBAL, a, 2);
        })
    };
    assert_eq!(pass(true), []);
    assert_eq!(pass(false), RACE);
}

#[test]
fn warps_of_a_block_need_a_barrier() {
    let pass = |barrier: bool| {
        run(64, |[block], a| {
            write(block, 0, GLOBAL, a, 1);
            if barrier {
                block.sync_warps(&mut (0..2));
            }
            read(block, 1, GLOBAL, a);
        })
    };
    assert_eq!(pass(true), []);
    assert_eq!(pass(false), RACE);
}

#[test]
fn the_finding_names_both_sides() {
    let (memory, a) = written(256);
    let launch = launch(&memory);
    let (mut one, mut two) = (block(&launch, 0), block(&launch, 1));
    let data = [[1; 8]; LANES];
    one.store(at(1, 5), &GLOBAL, FULL, &each(a, 4), &data).expect("writable");
    two.store(at(0, 6), &GLOBAL, FULL, &each(a + 124, 4), &data).expect("writable");
    drop((one, two));
    let finding = only(launch);
    assert_eq!(
        (finding.kind, finding.pc, finding.cluster, finding.count),
        (FindingKind::GlobalRace, 6, 1, 1)
    );
    assert_eq!((finding.lane, finding.address), (0, Some(a + 124)));
    let other = finding.other.expect("the other side");
    assert_eq!((other.cluster, other.warp, other.pc, other.wrote), (0, 1, Some(5), true));
}

/// A message: data, then a flag, in the way that `publish` and `receive` say.
fn message(
    publish: impl Fn(&mut ClusterMemory<'_>, u64),
    receive: impl Fn(&mut ClusterMemory<'_>, u64),
) -> Vec<FindingKind> {
    run(64, |[one, two], a| {
        write(one, 0, GLOBAL, a, 7);
        publish(one, a + 32);
        receive(two, a + 32);
        assert_eq!(read(two, 0, GLOBAL, a), 7);
    })
}

fn release(block: &mut ClusterMemory<'_>, flag: u64) {
    write(block, 0, strong(Space::Global, Order::Release, Scope::Gpu), flag, 1);
}

fn acquire(block: &mut ClusterMemory<'_>, flag: u64) {
    read(block, 0, strong(Space::Global, Order::Acquire, Scope::Gpu), flag);
}

fn fence_and_write(block: &mut ClusterMemory<'_>, flag: u64) {
    block.fence(0, Scope::Gpu, Order::AcqRel);
    write(block, 0, RELAXED, flag, 1);
}

fn read_and_fence(block: &mut ClusterMemory<'_>, flag: u64) {
    read(block, 0, RELAXED, flag);
    block.fence(0, Scope::Gpu, Order::AcqRel);
}

#[test]
fn messages() {
    assert_eq!(message(release, acquire), []);
    assert_eq!(message(fence_and_write, read_and_fence), []);
    assert_eq!(message(release, read_and_fence), []);
    assert_eq!(message(fence_and_write, acquire), []);
    assert_eq!(message(|b, a| write(b, 0, RELAXED, a, 1), acquire), RACE, "nothing releases");
    let publish = |order: Order| {
        move |block: &mut ClusterMemory<'_>, flag: u64| {
            block.fence(0, Scope::Gpu, order);
            write(block, 0, RELAXED, flag, 1);
        }
    };
    let receive = |order: Order| {
        move |block: &mut ClusterMemory<'_>, flag: u64| {
            read(block, 0, RELAXED, flag);
            block.fence(0, Scope::Gpu, order);
        }
    };
    assert_eq!(message(publish(Order::Release), receive(Order::Acquire)), []);
    assert_eq!(message(publish(Order::Acquire), receive(Order::Acquire)), RACE, "nothing releases");
    assert_eq!(message(publish(Order::Release), receive(Order::Release)), RACE, "nothing acquires");
    let relaxed = |b: &mut ClusterMemory<'_>, a| {
        read(b, 0, RELAXED, a);
    };
    assert_eq!(message(release, relaxed), RACE, "nothing acquires");
    assert_eq!(message(release, |b, a| acquire(b, a + 4)), RACE, "another flag");
    let near = |b: &mut ClusterMemory<'_>, a| {
        b.fence(0, Scope::Cta, Order::AcqRel);
        write(b, 0, RELAXED, a, 1);
    };
    assert_eq!(message(near, read_and_fence), RACE, "a fence for the block");
    let narrow = |b: &mut ClusterMemory<'_>, a| {
        write(b, 0, strong(Space::Global, Order::Release, Scope::Cta), a, 1);
    };
    assert_eq!(message(narrow, acquire), RACE, "a release for the block");
}

#[test]
fn a_flag_that_was_read_may_be_reset() {
    let pass = |publish: fn(&mut ClusterMemory<'_>, u64), receive: fn(&mut ClusterMemory<'_>, u64)| {
        run(64, |[one, two], a| {
            publish(one, a);
            receive(two, a);
            write(two, 0, GLOBAL, a, 0);
        })
    };
    assert_eq!(pass(release, acquire), []);
    assert_eq!(pass(fence_and_write, read_and_fence), []);
    assert_eq!(pass(release, |_, _| {}), RACE);
    let counter = run(64, |[one, two], a| {
        for block in [&mut *one, two] {
            block.fence(0, Scope::Gpu, Order::AcqRel);
            add(block, 0, RELAXED, a, 1);
        }
        two.fence(0, Scope::Gpu, Order::AcqRel);
        write(two, 0, GLOBAL, a, 0);
    });
    assert_eq!(counter, []);
}

#[test]
fn what_follows_a_release_is_not_ordered() {
    let kinds = run(64, |[one, two], a| {
        release(one, a + 32);
        write(one, 0, GLOBAL, a, 1);
        acquire(two, a + 32);
        read(two, 0, GLOBAL, a);
    });
    assert_eq!(kinds, RACE);
}

#[test]
fn order_is_transitive() {
    let kinds = run(64, |[one, two, three], a| {
        write(one, 0, GLOBAL, a, 1);
        release(one, a + 32);
        acquire(two, a + 32);
        release(two, a + 36);
        acquire(three, a + 36);
        read(three, 0, GLOBAL, a);
    });
    assert_eq!(kinds, []);
}

/// All blocks write, meet, and read what the others wrote, several times. `fence` at both sides, `barrier` in the block.
fn grid_barrier(fence: bool, barrier: bool) -> Vec<FindingKind> {
    run(256, |blocks: &mut [ClusterMemory<'_>; 4], a| {
        for round in 0..3 {
            for (index, block) in blocks.iter_mut().enumerate() {
                // The second warp writes, the first one meets the other blocks.
                write(block, 1, GLOBAL, a + 4 * index as u64, round);
                if barrier {
                    block.sync_warps(&mut (0..2));
                }
                if fence {
                    block.fence(0, Scope::Gpu, Order::AcqRel);
                }
                add(block, 0, RELAXED, a + 128, 1);
            }
            for block in blocks.iter_mut() {
                let volatile = Access { strength: Strength::VOLATILE, ..GLOBAL };
                read(block, 0, volatile, a + 128);
                if fence {
                    block.fence(0, Scope::Gpu, Order::AcqRel);
                }
                if barrier {
                    block.sync_warps(&mut (0..2));
                }
                for other in 0..4 {
                    assert_eq!(read(block, 1, GLOBAL, a + 4 * other), round);
                }
                // Nobody writes the next round's values before all have read.
                if barrier {
                    block.sync_warps(&mut (0..2));
                }
                if fence {
                    block.fence(0, Scope::Gpu, Order::AcqRel);
                }
                add(block, 0, RELAXED, a + 132, 1);
            }
            for block in blocks.iter_mut() {
                read(block, 0, RELAXED, a + 132);
                if fence {
                    block.fence(0, Scope::Gpu, Order::AcqRel);
                }
                if barrier {
                    block.sync_warps(&mut (0..2));
                }
            }
        }
    })
}

#[test]
fn grid_barriers() {
    assert_eq!(grid_barrier(true, true), []);
    assert_eq!(grid_barrier(false, true), RACE);
    assert_eq!(grid_barrier(true, false), RACE);
}

#[test]
fn the_last_block_reads_what_all_wrote() {
    let pass = |fence: bool| {
        run(256, |blocks: &mut [ClusterMemory<'_>; 4], a| {
            for (index, block) in blocks.iter_mut().enumerate() {
                write(block, 0, GLOBAL, a + 4 * index as u64, 1);
                if fence {
                    block.fence(0, Scope::Gpu, Order::AcqRel);
                }
                let before = add(block, 0, RELAXED, a + 128, 1);
                assert_eq!(before, index as u64);
            }
            let last = &mut blocks[3];
            if fence {
                last.fence(0, Scope::Gpu, Order::AcqRel);
            }
            for other in 0..4 {
                read(last, 0, GLOBAL, a + 4 * other);
            }
            write(last, 0, GLOBAL, a, 0);
        })
    };
    assert_eq!(pass(true), []);
    assert_eq!(pass(false), RACE);
}

#[test]
fn a_fence_before_the_blocks_barrier_counts_for_all() {
    let kinds = run(64, |[one, two], a| {
        write(one, 1, GLOBAL, a, 7);
        one.fence(0, Scope::Gpu, Order::AcqRel);
        one.fence(1, Scope::Gpu, Order::AcqRel);
        one.sync_warps(&mut (0..2));
        add(one, 0, RELAXED, a + 32, 1);
        add(two, 0, RELAXED, a + 32, 1);
        two.fence(0, Scope::Gpu, Order::AcqRel);
        read(two, 0, GLOBAL, a);
    });
    assert_eq!(kinds, []);
}

#[test]
fn the_read_only_path_is_for_what_does_not_change() {
    let nc = Access { strength: Strength::NonCoherent, ..GLOBAL };
    let kinds = run(64, |[block], a| {
        write(block, 0, GLOBAL, a, 1);
        read(block, 0, nc, a + 4);
    });
    assert_eq!(kinds, []);
    let kinds = run(64, |[block], a| {
        write(block, 0, GLOBAL, a, 1);
        read(block, 0, nc, a);
    });
    assert_eq!(kinds, [FindingKind::InvalidUse]);
}

#[test]
fn launches_are_ordered_unless_one_overtakes() {
    let pass = |pending: &[u64], wait: bool, first_writes: bool, second_writes: bool| {
        let (memory, a) = written(64);
        let access = |block: &mut ClusterMemory<'_>, writes| {
            if writes {
                write(block, 0, GLOBAL, a, 1);
            } else {
                read(block, 0, GLOBAL, a);
            }
        };
        let first = launch_as(&memory, 5, &[], Sanitize::ALL);
        access(&mut block(&first, 2), first_writes);
        assert_eq!(kinds(first), []);
        let second = launch_as(&memory, 6, pending, Sanitize::ALL);
        let mut waiting = block(&second, 1);
        if wait {
            waiting.grid_dependency_wait(0);
        }
        access(&mut waiting, second_writes);
        drop(waiting);
        kinds(second)
    };
    assert_eq!(pass(&[], false, true, false), []);
    assert_eq!(pass(&[5], true, true, true), []);
    assert_eq!(pass(&[5], false, false, false), []);
    assert_eq!(pass(&[4], false, true, true), []);
    for (first, second) in [(true, false), (false, true), (true, true)] {
        assert_eq!(pass(&[5], false, first, second), [FindingKind::GridDependency]);
    }
}

#[test]
fn waiting_is_passed_on_by_barriers() {
    let (memory, a) = written(64);
    let first = launch_as(&memory, 5, &[], Sanitize::ALL);
    write(&mut block(&first, 0), 0, GLOBAL, a, 1);
    drop(first);
    let second = launch_as(&memory, 6, &[5], Sanitize::ALL);
    let mut waiting = block(&second, 0);
    waiting.grid_dependency_wait(0);
    waiting.sync_warps(&mut (0..2));
    read(&mut waiting, 1, GLOBAL, a);
    waiting.begin(1);
    read(&mut waiting, 1, GLOBAL, a);
    drop(waiting);
    assert_eq!(only(second).cluster, 1, "the next block waits for itself");
}

#[test]
fn numbers_of_launches_run_out_without_consequence() {
    let (memory, a) = written(64);
    for id in (0..20_000).step_by(611) {
        let launch = launch_as(&memory, id, &[], Sanitize::ALL);
        let (mut one, mut two) = (block(&launch, 0), block(&launch, 1));
        write(&mut one, 0, GLOBAL, a, 1);
        read(&mut one, 0, GLOBAL, a);
        write(&mut two, 0, GLOBAL, a + 4, 1);
        drop((one, two));
        assert_eq!(kinds(launch), []);
    }
}

#[test]
fn blocks_on_host_threads() {
    let (memory, a) = written(4096);
    let shape = Shape { clusters: 64, ..SHAPE };
    let launch = LaunchMemory::new(&memory, LaunchId(1), &[], shape, (Sanitize::ALL, true));
    std::thread::scope(|scope| {
        for thread in 0..4u32 {
            let launch = &launch;
            scope.spawn(move || {
                let mut cluster = launch.cluster_memory();
                for index in (thread..64).step_by(4) {
                    cluster.begin(index);
                    for warp in 0..2 {
                        for access in
                            [RELAXED, Access { bytes: 8, ..RELAXED }, Access { bytes: 2, ..RELAXED }]
                        {
                            let address = a + 16 * u64::from(access.bytes);
                            let all = [address; LANES];
                            let add = &mut |_, old: u64| old.wrapping_add(3);
                            cluster.atomic(at(warp, 1), &access, FULL, &all, add).expect("writable");
                        }
                        let own = a + 1024 + u64::from(index * 2 + warp);
                        write(&mut cluster, warp, weak(Space::Global, 1), own, index * 2 + warp);
                    }
                }
            });
        }
    });
    assert_eq!(kinds(launch), []);
    let mut bytes = [0; 128];
    memory.read(a + 1024, &mut bytes).expect("readable");
    assert!(bytes.iter().enumerate().all(|(i, byte)| *byte as usize == i), "{bytes:?}");
    for (size, total) in [(2u64, 12288u64), (4, 12288), (8, 12288)] {
        let mut value = [0; 8];
        memory.read(a + 16 * size, &mut value[..size as usize]).expect("readable");
        assert_eq!(u64::from_le_bytes(value), total, "{size} bytes");
    }
}
