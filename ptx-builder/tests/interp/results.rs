//! Results of what only an executor can do.

use crate::support::{Setup, module};
use half::{bf16, f16};
use ptx_builder::interp::{FindingKind, LaunchId, Memory, Program};
use ptx_builder::{Module, U32, U64, parse};

/// A kernel on sm_90a that has the address of its words for this thread in `%at`, its number in `%t`, and registers.
fn kernel(globals: &str, body: &str) -> Module {
    let text = format!(
        r".version 8.6
.target sm_90a
.address_size 64
{globals}
.visible .entry k(.param .u64 out)
.maxntid 128, 1, 1
{{
    .reg .b64 %out, %at, %x, %y, %z;
    .reg .b32 %t, %r<16>, %s, %u, %v;
    .reg .b16 %h;
    .reg .f32 %f;
    .reg .pred %p, %q;
    ld.param.u64 %out, [out];
    mov.u32 %t, %tid.x;
    mad.wide.u32 %at, %t, 4, %out;
    {body}
    ret;
}}
"
    );
    parse(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

const VPRINTF: &str = r#"
.extern .func (.param .b32 r) vprintf(.param .b64 format, .param .b64 values);
.global .align 1 .b8 format[40] = {37,100,32,37,53,117,124,37,115,124,37,46,50,102,124,37,120,32,37,108,108,100,32,37,99,37,37,10,0};
.global .align 1 .b8 text[4] = {97,98,99,0};
"#;

#[test]
fn vprintf_formats_its_values() {
    let module = kernel(
        VPRINTF,
        r"
    .local .align 8 .b8 values[48];
    .param .b64 a; .param .b64 b; .param .b32 d;
    setp.ne.u32 %p, %t, 1;
    @%p ret;
    st.local.u32 [values], -7;
    st.local.u32 [values+4], 42;
    mov.u64 %x, text;
    cvta.global.u64 %x, %x;
    st.local.u64 [values+8], %x;
    mov.b64 %y, 0d4004000000000000;
    st.local.u64 [values+16], %y;
    st.local.u32 [values+24], 48879;
    st.local.u64 [values+32], -5000000000;
    st.local.u32 [values+40], 90;
    mov.u64 %x, format;
    cvta.global.u64 %x, %x;
    st.param.b64 [a], %x;
    mov.u64 %y, values;
    cvta.local.u64 %y, %y;
    st.param.b64 [b], %y;
    call.uni (d), vprintf, (a, b);
    ld.param.b32 %r0, [d];
    st.global.u32 [%out], %r0;",
    );
    let (report, out) = Setup::default().report(module, 32);
    assert!(report.is_clean(), "{:?}", report.all().map(ToString::to_string).collect::<Vec<_>>());
    assert_eq!(report.printed, "-7    42|abc|2.50|beef -5000000000 Z%\n");
    assert_eq!(out[0], 7, "conversions");
}

#[test]
fn a_failed_assertion_traps_with_its_text() {
    let module = kernel(
        r".extern .func __assertfail(.param .b64 a, .param .b64 b, .param .b32 c, .param .b64 d, .param .b64 e) .noreturn;
.global .align 1 .b8 message[6] = {120,32,62,32,48,0};
.global .align 1 .b8 file[5] = {107,46,99,117,0};",
        r"
    .param .b64 a; .param .b64 b; .param .b32 c; .param .b64 d; .param .b64 e;
    setp.ne.u32 %p, %t, 5;
    @%p ret;
    mov.u64 %x, message;
    cvta.global.u64 %x, %x;
    mov.u64 %y, file;
    cvta.global.u64 %y, %y;
    st.param.b64 [a], %x;
    st.param.b64 [b], %y;
    st.param.b32 [c], 17;
    st.param.b64 [d], %y;
    mov.b64 %z, 1;
    st.param.b64 [e], %z;
    call.uni __assertfail, (a, b, c, d, e);",
    );
    let finding = Setup::default().finds(module, FindingKind::Trap);
    assert_eq!(finding.thread, [5, 0, 0]);
    assert!(finding.detail.contains("k.cu:17") && finding.detail.contains("x > 0"), "{finding}");
}

/// What a kernel gives to `cudaGraphSetConditional`.
fn conditionals(setup: &Setup, module: Module, handle: u64) -> Vec<(u64, u32)> {
    let (report, _) = setup.report_with(module, 1, &[handle.to_le_bytes().to_vec()]);
    assert!(report.is_clean(), "{:?}", report.all().map(ToString::to_string).collect::<Vec<_>>());
    report.conditionals
}

const HANDLE: u64 = 0x0123_4567_89AB_CDEF;

#[test]
fn conditional_nodes_are_set_by_the_lanes_that_call() {
    // Under a branch, and under a guard.
    for branch in [true, false] {
        let module = module(|k, _| {
            let handle = k.param::<U64>("handle");
            let lane = k.laneid();
            let value = k.mul(lane, 10);
            let some = k.lt(lane, 3);
            match branch {
                true => k.if_(some, |k| k.graph_set_conditional(handle, value)),
                false => k.guarded(some, |k| k.graph_set_conditional(handle, value)),
            }
        });
        let set = conditionals(&Setup::default(), module, HANDLE);
        assert_eq!(set, [(HANDLE, 0), (HANDLE, 10), (HANDLE, 20)], "branch {branch}");
    }
    let nobody = module(|k, _| {
        let handle = k.param::<U64>("handle");
        let lane = k.laneid();
        let none = k.ge(lane, 32);
        k.guarded(none, |k| k.graph_set_conditional(handle, u32::MAX));
    });
    assert_eq!(conditionals(&Setup::default(), nobody, HANDLE), []);
}

#[test]
fn conditional_nodes_are_set_in_the_order_of_the_calls() {
    let module = module(|k, _| {
        let handle = k.param::<U64>("handle");
        let lane = k.laneid();
        let first = k.eq(lane, 0);
        k.if_(first, |k| {
            k.for_range::<U32>(0, 2, 1, |k, i| k.graph_set_conditional(handle, i));
            let next = k.add(handle, 1u64);
            k.graph_set_conditional(next, u32::MAX);
        });
    });
    let set = conditionals(&Setup::default(), module, HANDLE);
    assert_eq!(set, [(HANDLE, 0), (HANDLE, 1), (HANDLE + 1, u32::MAX)]);
}

#[test]
fn conditional_nodes_are_set_by_every_block() {
    let module = module(|k, _| {
        let handle = k.param::<U64>("handle");
        let [tid, block] = [k.tid_x(), k.ctaid_x()];
        let first = k.eq(tid, 0);
        k.if_(first, |k| k.graph_set_conditional(handle, block));
    });
    let setup = Setup { grid: 100, block: 64, ..Setup::default() };
    let mut set = conditionals(&setup, module, HANDLE);
    set.sort_unstable();
    assert_eq!(set, (0..100).map(|block| (HANDLE, block)).collect::<Vec<_>>());
}

/// Element (row, column) of matrix m in shared memory is the half `m * 64 + row * 8 + column`.
const FILL: &str = r"
    .shared .align 16 .b8 tile[512];
    shl.b32 %r0, %t, 3;
    add.u32 %r1, %r0, 1;
    shl.b32 %r2, %r1, 16;
    or.b32 %r3, %r0, %r2;
    add.u32 %r4, %r3, 0x00020002;
    add.u32 %r5, %r3, 0x00040004;
    add.u32 %r6, %r3, 0x00060006;
    mov.u32 %s, tile;
    shl.b32 %u, %t, 4;
    add.u32 %s, %s, %u;
    st.shared.v4.b32 [%s], {%r3, %r4, %r5, %r6};
    bar.warp.sync 0xFFFFFFFF;
";

#[test]
fn matrices_are_loaded_in_fragments() {
    for (trans, name) in [(false, ""), (true, ".trans")] {
        let body = format!(
            "{FILL}
    ldmatrix.sync.aligned.m8n8.x4{name}.shared.b16 {{%r8, %r9, %r10, %r11}}, [%s];
    st.global.u32 [%at], %r8;
    st.global.u32 [%at+128], %r9;
    st.global.u32 [%at+256], %r10;
    st.global.u32 [%at+384], %r11;"
        );
        let out = Setup::default().clean(kernel("", &body), 128);
        for matrix in 0..4u32 {
            for lane in 0..32u32 {
                let element = |i: u32| {
                    let (row, column) = (lane / 4, lane % 4 * 2 + i);
                    let (row, column) = if trans { (column, row) } else { (row, column) };
                    matrix * 64 + row * 8 + column
                };
                let expected = element(0) | element(1) << 16;
                assert_eq!(out[(matrix * 32 + lane) as usize], expected, "trans {trans} {matrix} {lane}");
            }
        }
    }
}

#[test]
fn matrices_are_stored_from_fragments() {
    // Out again where they came from: the memory is the same, transposed if only one of the two is.
    for (load, store) in [("", ""), (".trans", ".trans"), ("", ".trans"), (".trans", "")] {
        let body = format!(
            "{FILL}
    ldmatrix.sync.aligned.m8n8.x2{load}.shared.b16 {{%r8, %r9}}, [%s];
    bar.warp.sync 0xFFFFFFFF;
    stmatrix.sync.aligned.m8n8.x2{store}.shared.b16 [%s], {{%r8, %r9}};
    bar.warp.sync 0xFFFFFFFF;
    mov.u32 %s, tile;
    shl.b32 %u, %t, 2;
    add.u32 %s, %s, %u;
    ld.shared.u32 %r8, [%s];
    ld.shared.u32 %r9, [%s+128];
    st.global.u32 [%at], %r8;
    st.global.u32 [%at+128], %r9;"
        );
        let out = Setup::default().clean(kernel("", &body), 64);
        for (i, word) in (0u32..).zip(&out) {
            let element = |i: u32| {
                let (matrix, row, column) = (i / 64, i / 8 % 8, i % 8);
                if load == store { i } else { matrix * 64 + column * 8 + row }
            };
            assert_eq!(*word, element(2 * i) | element(2 * i + 1) << 16, "{load} {store} word {i}");
        }
    }
}

#[test]
fn a_matrix_is_transposed_between_registers() {
    let body = format!(
        "{FILL}
    ldmatrix.sync.aligned.m8n8.x1.shared.b16 {{%r8}}, [%s];
    movmatrix.sync.aligned.m8n8.trans.b16 %r9, %r8;
    st.global.u32 [%at], %r9;"
    );
    let out = Setup::default().clean(kernel("", &body), 32);
    for (lane, word) in (0u32..).zip(&out) {
        let element = |i: u32| (lane % 4 * 2 + i) * 8 + lane / 4;
        assert_eq!(*word, element(0) | element(1) << 16, "lane {lane}");
    }
}

#[test]
fn reductions_of_a_warp() {
    let body = r"
    mul.lo.u32 %r0, %t, 0x9E3779B1;
    redux.sync.add.u32 %r1, %r0, 0xFFFFFFFF;
    redux.sync.min.u32 %r2, %r0, 0xFFFFFFFF;
    redux.sync.max.u32 %r3, %r0, 0xFFFFFFFF;
    redux.sync.min.s32 %r4, %r0, 0xFFFFFFFF;
    redux.sync.max.s32 %r5, %r0, 0xFFFFFFFF;
    or.b32 %r9, %r0, 0x11;
    redux.sync.and.b32 %r6, %r9, 0xFFFFFFFF;
    redux.sync.or.b32 %r7, %r0, 0xFFFFFFFF;
    redux.sync.xor.b32 %r8, %r0, 0xFFFFFFFF;
    setp.ne.u32 %p, %t, 9;
    @%p ret;
    st.global.v4.u32 [%out], {%r1, %r2, %r3, %r4};
    st.global.v4.u32 [%out+16], {%r5, %r6, %r7, %r8};";
    let out = Setup::default().clean(kernel("", body), 8);
    let all: Vec<u32> = (0..32u32).map(|t| t.wrapping_mul(0x9E37_79B1)).collect();
    let signed = || all.iter().map(|x| *x as i32);
    let expected = [
        all.iter().fold(0u32, |a, b| a.wrapping_add(*b)),
        *all.iter().min().unwrap(),
        *all.iter().max().unwrap(),
        signed().min().unwrap() as u32,
        signed().max().unwrap() as u32,
        all.iter().fold(u32::MAX, |a, b| a & (b | 0x11)),
        all.iter().fold(0, |a, b| a | b),
        all.iter().fold(0, |a, b| a ^ b),
    ];
    assert_eq!(out, expected);
}

#[test]
fn pairs_of_halves_are_added_atomically() {
    let pair = |x: u16, y: u16| u32::from(x) | u32::from(y) << 16;
    let h = pair(f16::from_f32(0.5).to_bits(), f16::from_f32(-2.0).to_bits());
    let b = pair(bf16::from_f32(0.5).to_bits(), bf16::from_f32(-2.0).to_bits());
    let body = format!(
        "
    mov.b32 %r0, {h};
    mov.b32 %r1, {b};
    mov.b16 %h, {low};
    red.relaxed.gpu.global.add.noftz.f16x2 [%out], %r0;
    red.relaxed.gpu.global.add.noftz.bf16x2 [%out+4], %r1;
    atom.relaxed.gpu.global.add.noftz.f16 %h, [%out+8], %h;",
        low = h & 0xFFFF
    );
    let out = Setup::default().clean(kernel("", &body), 3);
    let expected = pair(f16::from_f32(16.0).to_bits(), f16::from_f32(-64.0).to_bits());
    let brain = pair(bf16::from_f32(16.0).to_bits(), bf16::from_f32(-64.0).to_bits());
    assert_eq!(out, [expected, brain, u32::from(f16::from_f32(16.0).to_bits())]);
}

/// Copies of all threads arrive at an object that one thread waits for.
#[test]
fn asynchronous_copies_arrive_at_an_object() {
    let body = r"
    .shared .align 16 .b8 tile[512];
    .shared .align 8 .b64 object;
    setp.eq.u32 %p, %t, 0;
    @%p mbarrier.init.shared.b64 [object], 32;
    st.global.u32 [%at], %t;
    fence.acq_rel.cta;
    bar.sync 0;
    mov.u32 %s, tile;
    shl.b32 %u, %t, 2;
    add.u32 %s, %s, %u;
    cp.async.ca.shared.global [%s], [%at], 4;
    cp.async.mbarrier.arrive.noinc.shared.b64 [object];
wait:
    mbarrier.try_wait.parity.shared.b64 %q, [object], 0;
    @!%q bra wait;
    xor.b32 %u, %u, 124;
    mov.u32 %s, tile;
    add.u32 %s, %s, %u;
    ld.shared.u32 %v, [%s];
    st.global.u32 [%at+128], %v;";
    for seed in [0, 1, 2, 3] {
        let mut setup = Setup::default();
        setup.options.seed = seed;
        let out = setup.clean(kernel("", body), 64);
        assert_eq!(out[32..], (0..32).rev().collect::<Vec<u32>>(), "seed {seed}");
    }
}

/// One block reads global memory for all blocks of the cluster in a mask; the others only wait.
#[test]
fn a_bulk_copy_goes_to_several_blocks() {
    let body = r"
    .shared .align 128 .b8 tile[128];
    .shared .align 8 .b64 object;
    mov.u32 %r0, %cluster_ctarank;
    mov.u32 %r1, %ctaid.x;
    setp.eq.u32 %p, %t, 0;
    @%p mbarrier.init.shared.b64 [object], 1;
    fence.mbarrier_init.release.cluster;
    setp.eq.u32 %q, %r1, 0;
    mul.lo.u32 %v, %t, 3;
    @%q st.global.u32 [%at], %v;
    fence.acq_rel.cluster;
    fence.proxy.async;
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;
    // Blocks 0, 1 and 3.
    setp.eq.u32 %q, %r0, 2;
    @%q bra end;
    @%p mbarrier.arrive.expect_tx.shared.b64 %x, [object], 128;
    setp.eq.and.u32 %q, %r0, 0, %p;
    mov.b16 %h, 11;
    mov.u32 %s, tile;
    @%q cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%s], [%out], 128, [object], %h;
wait:
    mbarrier.try_wait.parity.shared.b64 %q, [object], 0;
    @!%q bra wait;
    shl.b32 %u, %t, 2;
    add.u32 %s, %s, %u;
    ld.shared.u32 %v, [%s];
    mad.lo.u32 %r0, %r0, 1000, %v;
    mul.wide.u32 %y, %r1, 128;
    add.u64 %y, %at, %y;
    st.global.u32 [%y+128], %r0;
end:
    barrier.cluster.arrive.aligned;
    barrier.cluster.wait.aligned;";
    let setup = Setup { grid: 4, cluster: 4, block: 32, ..Setup::default() };
    let out = setup.clean(kernel("", body), 160);
    for block in [0, 1, 3u32] {
        for t in 0..32 {
            assert_eq!(out[(32 + block * 32 + t) as usize], 3 * t + 1000 * block, "block {block}");
        }
    }
    assert_eq!(out[96..128], [0; 32], "a block that the mask does not name");
}

#[test]
fn variables_hold_the_addresses_of_others() {
    let globals = r"
.func (.param .b32 d) seven()
{
    .reg .b32 %r;
    mov.b32 %r, 7;
    st.param.b32 [d], %r;
    ret;
}
.const .align 4 .b32 numbers[4] = {10, 20, 30};
.global .align 4 .b32 words[4] = {1, 2, 3, 4};
.global .align 8 .u64 table[4] = {words, generic(words)+8, generic(numbers)+4, seven};
.const .align 8 .u64 last[1] = {words+12};";
    let body = r"
    .param .b32 d;
    setp.ne.u32 %p, %t, 0;
    @%p ret;
    ld.global.u64 %x, [table];
    ld.global.u32 %r0, [%x+4];
    ld.global.u64 %x, [table+8];
    ld.u32 %r1, [%x];
    ld.global.u64 %x, [table+16];
    ld.u32 %r2, [%x];
    ld.const.u32 %r3, [numbers+12];
    st.global.v4.u32 [%out], {%r0, %r1, %r2, %r3};
    ld.const.u64 %x, [last];
    ld.global.u32 %r4, [%x];
    ld.global.u64 %x, [table+24];
    shape: .callprototype (.param .b32 _) _ ();
    call (d), %x, (), shape;
    ld.param.b32 %r5, [d];
    st.global.v2.u32 [%out+16], {%r4, %r5};";
    assert_eq!(Setup::default().clean(kernel(globals, body), 6), [2, 3, 20, 0, 4, 7]);
}

/// Two launches on the same words, the second of which may overtake the first.
fn overtaking(second: &str) -> Vec<FindingKind> {
    let memory = Memory::new();
    let load = |body: &str| {
        let verified = kernel("", body).verify_foreign().unwrap();
        let loaded = Program::new(&verified).unwrap().load(&memory).unwrap();
        loaded.kernel("k").unwrap()
    };
    let out = memory.alloc(256).unwrap();
    memory.write(out, &[0; 256]).unwrap();
    let params = [out.to_le_bytes().to_vec()];
    let launch = |kernel: &ptx_builder::interp::Kernel, pending: Vec<LaunchId>| {
        let what = ptx_builder::interp::Launch {
            kernel,
            grid: [1; 3],
            block: [32, 1, 1],
            cluster: [1; 3],
            dynamic_shared: 0,
            params: &params,
        };
        let options = ptx_builder::interp::Options { pending, ..Default::default() };
        ptx_builder::interp::launch(&memory, &what, &options).unwrap()
    };
    let first = launch(&load("st.global.u32 [%at], %t;"), vec![]);
    assert!(first.is_clean());
    let report = launch(&load(second), vec![first.id]);
    // Without the edge, the order of launches is enough.
    assert!(launch(&load(second), vec![]).is_clean());
    report.all().map(|finding| finding.kind).collect()
}

#[test]
fn a_dependent_launch_has_to_wait_for_what_it_touches() {
    let wait = "griddepcontrol.wait;";
    for access in ["ld.global.u32 %v, [%at];", "st.global.u32 [%at], %t;", "red.global.add.u32 [%at], 1;"] {
        assert_eq!(overtaking(&format!("{wait} {access}")), [], "{access}");
        assert_eq!(overtaking(&format!("{access} {wait}")), [FindingKind::GridDependency], "{access}");
        assert_eq!(overtaking(access), [FindingKind::GridDependency], "{access} without a wait");
    }
    // What the first launch does not touch needs no wait.
    assert_eq!(overtaking("st.global.u32 [%at+128], %t;"), []);
}

#[test]
fn lanes_that_agree() {
    let body = r"
    shr.u32 %r0, %t, 5;
    match.all.sync.b32 %r1|%p, %r0, 0xFFFFFFFF;
    selp.u32 %r2, 1, 0, %p;
    match.all.sync.b32 %r3|%p, %t, 0xFFFFFFFF;
    selp.u32 %r4, 1, 0, %p;
    and.b32 %r5, %t, 1;
    match.any.sync.b32 %r6, %r5, 0xFFFFFFFF;
    elect.sync %r7|%p, 0xFFFFFFFF;
    selp.u32 %r8, 1, 0, %p;
    st.global.u32 [%at], %r1;
    st.global.u32 [%at+128], %r2;
    st.global.u32 [%at+256], %r3;
    st.global.u32 [%at+384], %r4;
    st.global.u32 [%at+512], %r6;
    st.global.u32 [%at+640], %r8;";
    let out = Setup::default().clean(kernel("", body), 192);
    for t in 0..32 {
        let odd = if t % 2 == 1 { 0xAAAA_AAAA } else { 0x5555_5555 };
        let of_lane: Vec<u32> = (0..6).map(|i| out[i * 32 + t]).collect();
        assert_eq!(of_lane, [u32::MAX, 1, 0, 0, odd, u32::from(t == 0)], "lane {t}");
    }
}

#[test]
fn a_jump_beyond_its_table_is_found() {
    let body = r"
    table: .branchtargets A, B;
    shr.u32 %r0, %t, 4;
    add.u32 %r0, %r0, 1;
    brx.idx %r0, table;
A:  st.global.u32 [%at], 1;
B:  ret;";
    let finding = Setup::default().finds(kernel("", body), FindingKind::InvalidUse);
    assert_eq!(finding.thread, [16, 0, 0]);
    assert!(finding.detail.contains("index 2 in a table of 2"), "{finding}");
}
