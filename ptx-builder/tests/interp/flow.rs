//! Divergence and reconvergence, loops, calls, jump tables.

use crate::support::{Setup, module, put};
use ptx_builder::interp::{InterpError, Launch, Memory, Options, Program, launch};
use ptx_builder::{FULL_WARP, U32};

fn lanes(f: impl Fn(u32) -> u32) -> Vec<u32> {
    (0..32).map(f).collect()
}

#[test]
fn branches_diverge_and_meet_again() {
    let m = module(|k, out| {
        let t = k.tid_x();
        let odd = k.and(t, 1);
        let p = k.eq(odd, 1);
        let v = k.var::<U32>(0);
        k.if_else(
            p,
            |k| {
                let low = k.lt(t, 16);
                k.if_else(low, |k| k.set(v, 1), |k| k.set(v, 2));
            },
            |k| k.set(v, 3),
        );
        // All lanes are together again: the ballot sees every one of them.
        let active = k.activemask();
        let whole = k.eq(active.cast::<U32>(), u32::MAX);
        let v = k.get(v);
        let value = k.selp(whole, v, 99);
        put(k, out, t, value);
    });
    let expected = lanes(|t| {
        if t % 2 == 0 {
            3
        } else if t < 16 {
            1
        } else {
            2
        }
    });
    assert_eq!(Setup::default().clean(m, 32), expected);
}

#[test]
fn loops_run_as_often_as_each_lane_asks() {
    let m = module(|k, out| {
        let t = k.tid_x();
        let sum = k.var::<U32>(0);
        k.for_range::<U32>(0, t, 1, |k, i| {
            let odd = k.and(i, 1);
            let p = k.eq(odd, 1);
            k.if_(p, |k| {
                k.for_range::<U32>(0, i, 1, |k, _| k.update(sum, |k, s| k.add(s, 1)));
            });
        });
        let sum = k.get(sum);
        put(k, out, t, sum);
    });
    let expected = lanes(|t| (0..t).filter(|i| i % 2 == 1).sum());
    assert_eq!(Setup::default().clean(m, 32), expected);
}

#[test]
fn lanes_that_return_early_are_gone() {
    let m = module(|k, out| {
        let t = k.tid_x();
        let p = k.ge(t, 20);
        k.ret_if(p);
        let sum = k.redux_add(t, FULL_WARP);
        put(k, out, t, sum);
    });
    let out = Setup::default().clean(m, 32);
    assert_eq!(out, lanes(|t| if t < 20 { 190 } else { 0 }));
}

#[test]
fn blocks_that_are_no_multiple_of_a_warp() {
    let m = module(|k, out| {
        let t = k.tid_x();
        k.barrier();
        let sum = k.redux_add(1u32, FULL_WARP);
        put(k, out, t, sum);
    });
    let out = Setup::block(70).clean(m, 70);
    assert!(out[..64].iter().all(|v| *v == 32) && out[64..].iter().all(|v| *v == 6), "{out:?}");
}

/// Lanes of a warp that wait for each other need the scheduler to be fair.
#[test]
fn a_spin_lock_between_lanes_of_a_warp() {
    let text = r"
.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 out)
{
    .reg .b64 %out; .reg .b32 %got; .reg .b32 %n; .reg .pred %p;
    ld.param.u64 %out, [out];
again:
    atom.global.acquire.gpu.cas.b32 %got, [%out], 0, 1;
    setp.ne.u32 %p, %got, 0;
    @%p bra again;
    ld.relaxed.gpu.global.u32 %n, [%out+4];
    add.u32 %n, %n, 1;
    st.relaxed.gpu.global.u32 [%out+4], %n;
    atom.global.release.gpu.exch.b32 %got, [%out], 0;
    ret;
}";
    let out = Setup::block(96).clean(ptx_builder::parse(text).unwrap(), 2);
    assert_eq!(out, [0, 96]);
}

#[test]
fn calls_recursion_and_function_pointers() {
    let text = r"
.version 8.0
.target sm_90a
.address_size 64
.func (.param .b32 r) fib(.param .b32 n)
{
    .reg .b32 %n; .reg .b32 %a; .reg .b32 %b; .reg .pred %p;
    ld.param.u32 %n, [n];
    setp.lt.u32 %p, %n, 2;
    @%p bra base;
    {
        .param .b32 x; .param .b32 y;
        sub.u32 %a, %n, 1;
        st.param.b32 [x], %a;
        call (y), fib, (x);
        ld.param.b32 %a, [y];
    }
    {
        .param .b32 x; .param .b32 y;
        sub.u32 %b, %n, 2;
        st.param.b32 [x], %b;
        call (y), fib, (x);
        ld.param.b32 %b, [y];
    }
    add.u32 %n, %a, %b;
base:
    st.param.b32 [r], %n;
    ret;
}
.func (.param .b32 r) twice(.param .b32 n)
{
    .reg .b32 %n;
    ld.param.u32 %n, [n];
    shl.b32 %n, %n, 1;
    st.param.b32 [r], %n;
    ret;
}
.visible .entry k(.param .u64 out)
{
    .reg .b64 %out; .reg .b64 %at; .reg .b64 %f; .reg .b64 %g; .reg .b32 %t; .reg .b32 %v; .reg .pred %p;
    ld.param.u64 %out, [out];
    mov.u32 %t, %tid.x;
    mov.u64 %f, fib;
    mov.u64 %g, twice;
    setp.lt.u32 %p, %t, 12;
    @!%p mov.u64 %f, %g;
    {
        .param .b32 x; .param .b32 y;
        st.param.b32 [x], %t;
        prototype: .callprototype (.param .b32 _) _ (.param .b32 _);
        call (y), %f, (x), prototype;
        ld.param.b32 %v, [y];
    }
    mad.wide.u32 %at, %t, 4, %out;
    st.global.u32 [%at], %v;
    ret;
}";
    let out = Setup::default().clean(ptx_builder::parse(text).unwrap(), 32);
    fn fib(n: u32) -> u32 {
        if n < 2 { n } else { fib(n - 1) + fib(n - 2) }
    }
    assert_eq!(out, lanes(|t| if t < 12 { fib(t) } else { 2 * t }));
}

#[test]
fn jump_tables() {
    let text = r"
.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 out)
{
    .reg .b64 %out; .reg .b64 %at; .reg .b32 %t; .reg .b32 %i; .reg .b32 %v;
    ld.param.u64 %out, [out];
    mov.u32 %t, %tid.x;
    and.b32 %i, %t, 3;
    table: .branchtargets A, B, C, B;
    brx.idx %i, table;
A:  mov.u32 %v, 10;
    bra done;
B:  mov.u32 %v, 20;
    bra done;
C:  mov.u32 %v, 30;
done:
    mad.wide.u32 %at, %t, 4, %out;
    st.global.u32 [%at], %v;
    ret;
}";
    let out = Setup::default().clean(ptx_builder::parse(text).unwrap(), 32);
    assert_eq!(out, lanes(|t| [10, 20, 30, 20][t as usize % 4]));
}

#[test]
fn endless_recursion_is_a_stack_overflow() {
    let text = r"
.version 8.0
.target sm_90a
.address_size 64
.func f()
{
    call f, ();
    ret;
}
.visible .entry k(.param .u64 out)
{
    call f, ();
    ret;
}";
    let finding = Setup::default()
        .finds(ptx_builder::parse(text).unwrap(), ptx_builder::interp::FindingKind::OutOfBounds);
    assert!(finding.detail.contains("stack"), "{finding}");
}

/// Their products are 1 modulo 2^64.
#[test]
fn blocks_and_clusters_of_far_too_many_are_refused() {
    let m = module(|k, _| k.ret());
    let (memory, verified) = (Memory::new(), m.verify().unwrap());
    let program = Program::new(&verified).unwrap().load(&memory).unwrap();
    let kernel = program.kernel("k").unwrap();
    let many = [998_724_481, 1_119_412_321, 33];
    for (block, cluster) in [(many, [1; 3]), ([32, 1, 1], many), ([32, 1, 1], [u32::MAX; 3])] {
        let params = [vec![0; 8]];
        let what =
            Launch { kernel: &kernel, grid: [1; 3], block, cluster, dynamic_shared: 0, params: &params };
        let error = launch(&memory, &what, &Options::default()).unwrap_err();
        assert!(matches!(error, InterpError::Geometry { .. }), "{block:?} {cluster:?}: {error}");
    }
}

#[test]
fn parameters_through_generic_addresses() {
    let text = r"
.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 out)
{
    .reg .b64 %p; .reg .b64 %out; .reg .b64 %at; .reg .b32 %t; .reg .pred %is;
    mov.u64 %p, out;
    cvta.param.u64 %p, %p;
    isspacep.param %is, %p;
    @%is ld.u64 %out, [%p];
    mov.u32 %t, %tid.x;
    mad.wide.u32 %at, %t, 4, %out;
    st.global.u32 [%at], %t;
    ret;
}";
    let out = Setup::default().clean(ptx_builder::parse(text).unwrap(), 32);
    assert_eq!(out, lanes(|t| t));
}
