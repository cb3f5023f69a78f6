//! Barriers of blocks, barrier objects, clusters.

use crate::support::{Setup, module, put};
use ptx_builder::interp::FindingKind;
use ptx_builder::{Module, U32};

/// Every thread reads what a thread of another warp wrote.
fn reversed(barrier: bool) -> Module {
    module(|k, out| {
        let tile = k.shared::<U32>("tile", 128);
        let t = k.tid_x();
        let at = k.shared_index(tile, t);
        k.st_shared::<U32>(at, t);
        if barrier {
            k.barrier();
        }
        let other = k.sub(127u32, t);
        let at = k.shared_index(tile, other);
        let v = k.ld_shared::<U32>(at);
        put(k, out, t, v);
    })
}

#[test]
fn a_barrier_orders_shared_memory() {
    for seed in 0..6 {
        let mut setup = Setup::block(128);
        setup.options.seed = seed;
        let expected: Vec<u32> = (0..128).rev().collect();
        assert_eq!(setup.clean(reversed(true), 128), expected);
    }
}

#[test]
fn a_missing_barrier_is_a_race() {
    for seed in 0..4 {
        let mut setup = Setup::block(128);
        setup.options.seed = seed;
        // Depending on the order, the first to be seen is the read of what is not there yet, or a conflict.
        let (report, _) = setup.report(reversed(false), 128);
        let found =
            report.all().any(|f| matches!(f.kind, FindingKind::SharedRace | FindingKind::Uninitialised));
        assert!(found, "seed {seed}");
    }
}

#[test]
fn named_barriers_with_counts() {
    let m = module(|k, out| {
        let tile = k.shared::<U32>("tile", 32);
        let t = k.tid_x();
        let producer = k.lt(t, 32);
        k.if_else(
            producer,
            |k| {
                let at = k.shared_index(tile, t);
                let square = k.mul(t, t);
                k.st_shared::<U32>(at, square);
                k.bar_arrive(3, 64);
            },
            |k| {
                k.bar_sync_count(3, 64);
                let lane = k.and(t, 31);
                let at = k.shared_index(tile, lane);
                let v = k.ld_shared::<U32>(at);
                put(k, out, lane, v);
            },
        );
    });
    let expected: Vec<u32> = (0..32).map(|t| t * t).collect();
    assert_eq!(Setup::block(64).clean(m, 32), expected);
}

#[test]
fn reductions_at_a_barrier() {
    let m = module(|k, out| {
        let t = k.tid_x();
        let p = k.lt(t, 40);
        let count = k.bar_count(0, p);
        put(k, out, t, count);
    });
    assert_eq!(Setup::block(96).clean(m, 96), [40; 96]);
}

#[test]
fn a_barrier_in_one_branch_is_found() {
    let m = module(|k, out| {
        let t = k.tid_x();
        let p = k.lt(t, 16);
        k.if_else(p, |k| k.bar_sync(0), |k| k.bar_sync(0));
        put(k, out, t, t);
    });
    let finding = Setup::default().finds(m, FindingKind::BarrierDivergence);
    assert!(finding.detail.contains("0x0000ffff") || finding.detail.contains("0xffff0000"), "{finding}");
}

#[test]
fn a_barrier_that_some_warps_never_reach_is_a_deadlock() {
    let m = module(|k, out| {
        let t = k.tid_x();
        let first = k.lt(t, 32);
        k.if_(first, |k| k.bar_sync_count(1, 64));
        put(k, out, t, t);
    });
    let finding = Setup::block(64).finds(m, FindingKind::Deadlock);
    assert!(finding.detail.contains("bar.sync 1, 64") && finding.detail.contains("exited"), "{finding}");
}

#[test]
fn an_endless_loop_ends() {
    let m = module(|k, out| {
        let t = k.tid_x();
        let v = k.var::<U32>(0);
        k.do_while(|k| {
            k.update(v, |k, v| k.and(v, 1));
            let v = k.get(v);
            k.lt(v, 2)
        });
        put(k, out, t, t);
    });
    let mut setup = Setup::default();
    setup.options.fuel = 10_000;
    setup.finds(m, FindingKind::EndlessLoop);
}

const BULK: &str = r"
.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 out)
.maxntid 64, 1, 1
{
    .shared .align 16 .b8 tile[256];
    .shared .align 8 .b64 bar;
    .reg .b64 %out; .reg .b64 %at; .reg .b64 %s; .reg .b32 %t; .reg .b32 %tile; .reg .b32 %bar; .reg .b32 %v; .reg .pred %p;
    ld.param.u64 %out, [out];
    mov.u32 %t, %tid.x;
    mov.u32 %tile, tile;
    mov.u32 %bar, bar;
    mad.wide.u32 %at, %t, 4, %out;
    st.global.u32 [%at], %t;
    fence.proxy.async;
    setp.ne.u32 %p, %t, 0;
    @%p bra ready;
    mbarrier.init.shared.b64 [%bar], 1;
ready:
    bar.sync 0;
    @%p bra wait;
    mbarrier.arrive.expect_tx.shared.b64 %s, [%bar], 256;
    cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%tile], [%out], 256, [%bar];
wait:
    WAIT
    shl.b32 %v, %t, 2;
    xor.b32 %v, %v, 252;
    add.u32 %tile, %tile, %v;
    ld.shared.u32 %v, [%tile];
    st.global.u32 [%at+256], %v;
    ret;
}";

#[test]
fn a_bulk_copy_is_waited_for_at_its_barrier_object() {
    let wait = "mbarrier.try_wait.parity.shared.b64 %p, [%bar], 0;\n    @!%p bra wait;";
    let m = ptx_builder::parse(&BULK.replace("WAIT", wait)).unwrap();
    let out = Setup::block(64).clean(m, 128);
    let expected: Vec<u32> = (0..64).rev().collect();
    assert_eq!(out[64..], expected);
}

#[test]
fn a_bulk_copy_that_nobody_waits_for_is_found() {
    let m = ptx_builder::parse(&BULK.replace("WAIT", "")).unwrap();
    let (report, _) = Setup::block(64).report(m, 128);
    let found = report.all().any(|f| matches!(f.kind, FindingKind::SharedRace | FindingKind::Uninitialised));
    assert!(found);
}

#[test]
fn blocks_of_a_cluster_read_each_other() {
    let text = r"
.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 out)
{
    .shared .align 4 .b32 mine;
    .reg .b64 %out; .reg .b64 %at; .reg .b32 %r; .reg .b32 %n; .reg .b32 %a; .reg .b32 %v; .reg .b32 %b; .reg .pred %p;
    ld.param.u64 %out, [out];
    mov.u32 %r, %cluster_ctarank;
    mov.u32 %n, %cluster_nctarank;
    mov.u32 %b, %ctaid.x;
    mov.u32 %a, mine;
    mov.u32 %v, %tid.x;
    setp.ne.u32 %p, %v, 0;
    mad.lo.u32 %v, %b, 10, 7;
    @!%p st.shared.u32 [%a], %v;
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;
    add.u32 %r, %r, 1;
    rem.u32 %r, %r, %n;
    mapa.shared::cluster.u32 %a, %a, %r;
    ld.shared::cluster.u32 %v, [%a];
    mad.wide.u32 %at, %b, 4, %out;
    @!%p st.global.u32 [%at], %v;
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;
    ret;
}";
    let setup = Setup { grid: 8, cluster: 4, block: 64, ..Setup::default() };
    let out = setup.clean(ptx_builder::parse(text).unwrap(), 8);
    let next = |b: u32| b / 4 * 4 + (b + 1) % 4;
    assert_eq!(out, (0..8).map(|b| next(b) * 10 + 7).collect::<Vec<_>>());
}

/// One thread of a warp arrives at a barrier object while the others are elsewhere.
#[test]
fn elected_lanes() {
    let text = r"
.version 8.0
.target sm_90a
.address_size 64
.visible .entry k(.param .u64 out)
{
    .reg .b64 %out; .reg .b64 %at; .reg .b32 %t; .reg .b32 %l; .reg .pred %p;
    ld.param.u64 %out, [out];
    mov.u32 %t, %tid.x;
    elect.sync %l|%p, 0xFFFFFFFF;
    @%p add.u32 %l, %l, 5;
    mad.wide.u32 %at, %t, 4, %out;
    st.global.u32 [%at], %l;
    ret;
}";
    let out = Setup::default().clean(ptx_builder::parse(text).unwrap(), 32);
    assert_eq!((out[0], out[1]), (5, 0));
}

/// Two blocks send each other their numbers, and write what they got.
const SENT: &str = "
.version 8.1
.target sm_90
.address_size 64
.visible .entry k(.param .u64 out)
.reqntid 32, 1, 1
{
    .shared .align 16 .b8 tile[256];
    .shared .align 8 .b64 bar;
    .reg .b64 %out; .reg .b64 %at; .reg .b64 %s; .reg .b32 %t; .reg .b32 %rank; .reg .b32 %other; .reg .b32 %own;
    .reg .b32 %to; .reg .b32 %bar; .reg .b32 %tobar; .reg .b32 %v; .reg .b32 %w; .reg .pred %p;
    ld.param.u64 %out, [out];
    mov.u32 %t, %tid.x;
    mov.u32 %rank, %cluster_ctarank;
    xor.b32 %other, %rank, 1;
    mov.u32 %bar, bar;
    mov.u32 %own, tile;
    mad.lo.u32 %own, %t, 8, %own;
    setp.ne.u32 %p, %t, 0;
    @%p bra made;
    mbarrier.init.shared.b64 [%bar], 1;
    FENCE
made:
    barrier.cluster.arrive.relaxed.aligned;
    barrier.cluster.wait.acquire.aligned;
    mapa.shared::cluster.u32 %to, %own, %other;
    mapa.shared::cluster.u32 %tobar, %bar, TARGET;
    mad.lo.u32 %v, %rank, 100, %t;
    add.u32 %w, %v, 1000;
    st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v2.u32 [%to], {%v, %w}, [%tobar];
    @%p bra wait;
    mbarrier.arrive.expect_tx.shared.b64 %s, [%bar], 256;
wait:
    WAIT
    ld.shared.v2.u32 {%v, %w}, [%own];
    mad.lo.u32 %t, %rank, 32, %t;
    mad.wide.u32 %at, %t, 8, %out;
    st.global.v2.u32 [%at], {%v, %w};
    ret;
}";

const FENCED: &str = "fence.mbarrier_init.release.cluster;";
const WAITED: &str = "mbarrier.try_wait.parity.acquire.cluster.shared.b64 %p, [%bar], 0;\n    @!%p bra wait;";

fn sent(fence: &str, target: &str, wait: &str) -> Module {
    let text = SENT.replace("FENCE", fence).replace("TARGET", target).replace("WAIT", wait);
    ptx_builder::parse(&text).unwrap_or_else(|e| panic!("{e}"))
}

fn two_blocks() -> Setup {
    Setup { grid: 2, cluster: 2, ..Setup::default() }
}

#[test]
fn what_is_sent_has_come_when_its_bytes_have() {
    let out = two_blocks().clean(sent(FENCED, "%other", WAITED), 128);
    let expected: Vec<u32> =
        [100, 0].iter().flat_map(|from| (0..32).flat_map(move |t| [from + t, from + t + 1000])).collect();
    assert_eq!(out, expected);
}

#[test]
fn what_is_sent_and_not_waited_for_is_found() {
    let (report, _) = two_blocks().report(sent(FENCED, "%other", ""), 128);
    assert!(report.all().any(|f| matches!(f.kind, FindingKind::SharedRace | FindingKind::Uninitialised)));
}

#[test]
fn an_object_that_nobody_was_told_of_is_found() {
    two_blocks().finds(sent("", "%other", WAITED), FindingKind::SharedRace);
}

#[test]
fn what_is_sent_and_its_object_are_in_one_block() {
    two_blocks().finds(sent(FENCED, "%rank", WAITED), FindingKind::InvalidUse);
}

/// The barrier of a grid as cooperative groups have it: the first block adds what makes the top bit change when all
/// others have added one.
const GRID_BARRIER: &str = "
.version 8.0
.target sm_80
.address_size 64
.entry k(.param .u64 out)
{
	.reg .pred %p<3>;
	.reg .b32 %r<10>;
	.reg .b64 %rd<6>;
	ld.param.u64 %rd0, [out];
	mov.u32 %r0, %ctaid.x;
	mov.u32 %r1, %nctaid.x;
	mul.wide.u32 %rd1, %r0, 4;
	add.u64 %rd1, %rd0, %rd1;
	add.u32 %r2, %r0, 7;
	st.global.u32 [%rd1], %r2;
	mov.u32 %r3, %envreg1;
	mov.u32 %r4, %envreg2;
	mov.b64 %rd2, {%r3, %r4};
	setp.eq.u64 %p0, %rd2, 0;
	@%p0 trap;
	sub.u32 %r5, %r1, 1;
	sub.u32 %r5, 0x80000000, %r5;
	setp.eq.u32 %p0, %r0, 0;
	selp.u32 %r5, %r5, 1, %p0;
	atom.add.release.gpu.u32 %r6, [%rd2+4], %r5;
L0:
	ld.acquire.gpu.u32 %r7, [%rd2+4];
	xor.b32 %r7, %r7, %r6;
	setp.ge.s32 %p1, %r7, 0;
	@%p1 bra L0;
	sub.u32 %r8, %r1, %r0;
	sub.u32 %r8, %r8, 1;
	mul.wide.u32 %rd3, %r8, 4;
	add.u64 %rd3, %rd0, %rd3;
	ld.global.u32 %r9, [%rd3];
	mul.wide.u32 %rd4, %r1, 4;
	add.u64 %rd4, %rd4, %rd1;
	st.global.u32 [%rd4], %r9;
	ret;
}
";

#[test]
fn the_blocks_of_a_cooperative_launch_wait_for_each_other() {
    let module = ptx_builder::parse(GRID_BARRIER).expect("a module");
    for seed in 0..4 {
        let mut setup = Setup { grid: 6, ..Setup::block(1) };
        setup.options.seed = seed;
        setup.options.cooperative = true;
        let words = setup.clean(module.clone(), 12);
        assert_eq!(words, [7, 8, 9, 10, 11, 12, 12, 11, 10, 9, 8, 7]);
        setup.options.cooperative = false;
        let (report, _) = setup.report(module.clone(), 12);
        assert_eq!(report.fault.map(|fault| fault.kind), Some(FindingKind::Trap));
    }
}
