//! Atomic operations, and blocks that wait for each other.

use crate::support::{Setup, module, put};
use ptx_builder::{AtomOp, Atomic, F32, U32};

#[test]
fn counters_in_shared_and_global_memory() {
    let m = module(|k, out| {
        let hist = k.shared::<U32>("hist", 8);
        let t = k.tid_x();
        let first = k.lt(t, 8);
        k.if_(first, |k| {
            let at = k.shared_index(hist, t);
            k.st_shared::<U32>(at, 0);
        });
        k.barrier();
        let bin = k.rem(t, 7);
        let at = k.shared_index(hist, bin);
        k.red::<U32>(Atomic::SHARED, AtomOp::Add, at, 1u32);
        k.barrier();
        k.if_(first, |k| {
            let at = k.shared_index(hist, t);
            let count = k.ld_shared::<U32>(at);
            let at = k.ptr_index(out, t, 4);
            k.red::<U32>(Atomic::GLOBAL, AtomOp::Add, at, count);
        });
    });
    let setup = Setup { grid: 5, block: 128, ..Setup::default() };
    let out = setup.clean(m, 8);
    let expected: Vec<u32> = (0..8).map(|b| 5 * (0..128).filter(|t| t % 7 == b).count() as u32).collect();
    assert_eq!(out, expected);
}

#[test]
fn float_sums() {
    let m = module(|k, out| {
        k.red::<F32>(Atomic::GLOBAL, AtomOp::Add, out, 0.5f32);
    });
    let out = Setup { grid: 4, block: 64, ..Setup::default() }.clean(m, 1);
    assert_eq!(f32::from_bits(out[0]), 128.0);
}

#[test]
fn old_values_are_all_different() {
    let m = module(|k, out| {
        let old = k.atom::<U32>(Atomic::GLOBAL, AtomOp::Add, out, 1u32);
        let at = k.add(old, 1);
        put(k, out, at, old);
    });
    let out = Setup { grid: 3, block: 64, ..Setup::default() }.clean(m, 193);
    assert_eq!(out[0], 192);
    assert_eq!(out[1..], (0..192).collect::<Vec<_>>());
}

/// Far more blocks than host threads: each waits until all have arrived.
#[test]
fn a_grid_barrier() {
    let text = r"
.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 out)
{
    .reg .b64 %out; .reg .b64 %at; .reg .b32 %t; .reg .b32 %b; .reg .b32 %n; .reg .b32 %v; .reg .pred %p;
    ld.param.u64 %out, [out];
    mov.u32 %t, %tid.x;
    mov.u32 %b, %ctaid.x;
    mov.u32 %n, %nctaid.x;
    setp.ne.u32 %p, %t, 0;
    @%p bra meet;
    mad.wide.u32 %at, %b, 4, %out;
    mad.lo.u32 %v, %b, %b, 3;
    st.global.u32 [%at+4], %v;
    fence.acq_rel.gpu;
    atom.relaxed.gpu.global.add.u32 %v, [%out], 1;
wait:
    ld.relaxed.gpu.global.u32 %v, [%out];
    setp.lt.u32 %p, %v, %n;
    @%p bra wait;
    fence.acq_rel.gpu;
meet:
    bar.sync 0;
    setp.ne.u32 %p, %t, 0;
    @%p bra done;
    add.u32 %b, %b, 1;
    rem.u32 %v, %b, %n;
    mad.wide.u32 %at, %v, 4, %out;
    ld.global.u32 %v, [%at+4];
    mad.wide.u32 %at, %b, 4, %out;
    mad.wide.u32 %at, %n, 4, %at;
    st.global.u32 [%at], %v;
done:
    ret;
}";
    for threads in [Some(1), Some(3)] {
        let mut setup = Setup { grid: 264, block: 64, ..Setup::default() };
        setup.options.threads = threads;
        let out = setup.clean(ptx_builder::parse(text).unwrap(), 1 + 2 * 264);
        for b in 0..264u32 {
            let next = (b + 1) % 264;
            assert_eq!(out[1 + 264 + b as usize], next * next + 3, "block {b}");
        }
    }
}
