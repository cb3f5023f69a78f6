//! Results do not depend on the order of blocks and warps, nor on the number of host threads.

use crate::support::{Setup, module, put};
use ptx_builder::interp::FindingKind;
use ptx_builder::{Module, U32};

/// Sums over blocks of 256 threads with divergent work, in shared memory and by shuffles.
fn sums() -> Module {
    module(|k, out| {
        let partial = k.shared::<U32>("partial", 8);
        let t = k.tid_x();
        let b = k.ctaid_x();
        let work = k.and(t, 15);
        let acc = k.var::<U32>(0);
        k.for_range::<U32>(0, work, 1, |k, i| {
            let x = k.mul(i, t);
            k.update(acc, |k, acc| k.add(acc, x));
        });
        let total = k.warp_sum(acc);
        let warp = k.shr(t, 5);
        let lane = k.and(t, 31);
        let slot = k.shared_index(partial, warp);
        let leader = k.eq(lane, 0);
        k.if_(leader, |k| k.st_shared::<U32>(slot, total));
        k.barrier();
        let first = k.eq(t, 0);
        k.if_(first, |k| {
            let sum = k.var::<U32>(0);
            k.unroll(8, |k, i| {
                let v = k.ld_shared::<U32>(partial + 4 * i as i32);
                k.update(sum, |k, sum| k.add(sum, v));
            });
            let sum = k.get(sum);
            let sum = k.add(sum, b);
            put(k, out, b, sum);
        });
    })
}

#[test]
fn seeds_and_threads_change_nothing() {
    let setup = Setup { grid: 40, block: 256, ..Setup::default() };
    let expected = setup.clean(sums(), 40);
    let one: u32 = (0..256u32).map(|t| (0..t & 15).map(|i| i * t).sum::<u32>()).sum();
    assert_eq!(expected[7], one + 7);
    for seed in 1..8 {
        for threads in [Some(1), Some(4), None] {
            let mut setup = setup.clone();
            setup.options.seed = seed;
            setup.options.threads = threads;
            assert_eq!(setup.clean(sums(), 40), expected, "seed {seed}, threads {threads:?}");
        }
    }
}

#[test]
fn one_thread_makes_everything_reproducible() {
    // The order in which blocks come is visible here.
    let racy = || {
        module(|k, out| {
            let b = k.ctaid_x();
            let first = k.atom::<U32>(ptx_builder::Atomic::GLOBAL, ptx_builder::AtomOp::Add, out, 1u32);
            let at = k.add(first, 1);
            put(k, out, at, b);
        })
    };
    let run = |seed| {
        let mut setup = Setup { grid: 16, block: 1, ..Setup::default() };
        setup.options.seed = seed;
        setup.options.threads = Some(1);
        setup.report(racy(), 17).1
    };
    assert_eq!(run(0)[1..], (0..16).collect::<Vec<_>>());
    for seed in 1..5 {
        assert_eq!(run(seed), run(seed));
        assert_ne!(run(seed), run(0), "seed {seed} shuffles blocks");
    }
}

/// Two warps store to the same words, each lane to one, and then meet or not; what they store is the same or not.
fn stored_by_two_warps(same: bool, meet: bool) -> Module {
    module(move |k, out| {
        let words = k.shared::<U32>("words", 32);
        let t = k.tid_x();
        let lane = k.and(t, 31);
        let value = k.mul(if same { lane } else { t }, 3);
        let at = k.shared_index(words, lane);
        k.st_shared::<U32>(at, value);
        if meet {
            k.barrier();
        }
        let other = k.xor(lane, 1);
        let at = k.shared_index(words, other);
        let read = k.ld_shared::<U32>(at);
        put(k, out, t, read);
    })
}

/// Several warps that compute the same, as compilers have them, may all store it. It has to be the same, and whoever reads it
/// has to wait for it.
#[test]
fn one_value_may_be_stored_by_several_warps() {
    let setup = Setup { block: 64, ..Setup::default() };
    let expected: Vec<u32> = (0..64).map(|t| ((t % 32) ^ 1) * 3).collect();
    assert_eq!(setup.clean(stored_by_two_warps(true, true), 64), expected);
    for (same, meet) in [(false, true), (true, false), (false, false)] {
        setup.finds(stored_by_two_warps(same, meet), FindingKind::SharedRace);
    }
}
