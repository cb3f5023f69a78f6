//! PTX of other compilers: what it becomes, what is refused, and that no damage to it makes anything panic.

use proptest::prelude::*;
use ptx_builder::{Module, Rule, parse};

const TEXT: &str = include_str!("foreign.ptx");

fn header(rest: &str) -> String {
    format!(".version 8.8\n.target sm_90\n.address_size 64\n{rest}")
}

fn body(rest: &str) -> String {
    header(&format!(
        ".visible .entry k(.param .u64 p)\n{{\n.reg .pred %p<4>;\n.reg .b16 %rs<4>;\n.reg .b32 %r<8>;\n.reg .b64 %rd<4>;\n.reg .f32 %f<9>;\n.reg .f64 %fd<4>;\n{rest}\nret;\n}}\n"
    ))
}

#[test]
fn compilers_are_understood() {
    let module = parse(TEXT).unwrap_or_else(|error| panic!("{error}"));
    let verified = module.clone().verify_foreign().unwrap_or_else(|errors| panic!("{errors}"));
    let text = verified.ptx();
    assert_eq!(parse(&text), Ok(module));
    insta::assert_snapshot!(text);
}

/// Two texts that mean the same.
#[track_caller]
fn same(a: &str, b: &str) {
    let module = |text: &str| -> Module { parse(&body(text)).unwrap_or_else(|e| panic!("{e}")) };
    let (a, b) = (module(a), module(b));
    let insts = |module: &Module| module.functions[0].insts().map(|(_, i)| i.clone()).collect::<Vec<_>>();
    assert_eq!(insts(&a), insts(&b), "{a}\n{b}");
}

#[test]
fn other_spellings_of_the_same_instruction() {
    for (written, canonical) in [
        ("barrier.cta.sync 0;", "barrier.sync 0;"),
        ("ld.u32.global %r1, [%rd1];", "ld.global.u32 %r1, [%rd1];"),
        ("ld.v2.b32.global.volatile {%r1, %r2}, [%rd1];", "ld.volatile.global.v2.b32 {%r1, %r2}, [%rd1];"),
        ("setp.ftz.gt.f32 %p1, %f1, %f2;", "setp.gt.ftz.f32 %p1, %f1, %f2;"),
        ("setp.s32.and.gt %p1, %r1, %r2, %p2;", "setp.gt.and.s32 %p1, %r1, %r2, %p2;"),
        ("add.f32.rn %f1, %f1, %f2;", "add.rn.f32 %f1, %f1, %f2;"),
        ("cvt.f32.u32.rn %f1, %r1;", "cvt.rn.f32.u32 %f1, %r1;"),
        ("atom.global.u32.add %r1, [%rd1], 1;", "atom.global.add.u32 %r1, [%rd1], 1;"),
        ("shfl.bfly.sync.b32 %r1, %r2, 1, 31, -1;", "shfl.sync.bfly.b32 %r1, %r2, 1, 31, -1;"),
        ("ld.shared.u32 %r1, [%r2 + 0xfffffffc];", "ld.shared.u32 %r1, [%r2 - 4];"),
        ("barrier.sync.aligned 0;", "bar.sync 0;"),
        ("bar.cta.arrive 1, 64;", "bar.arrive 1, 64;"),
        ("barrier.cluster.arrive.release.aligned;", "barrier.cluster.arrive.aligned;"),
        ("barrier.cluster.wait.acquire;", "barrier.cluster.wait;"),
        ("ld.shared::cta.u32 %r1, [%r2];", "ld.shared.u32 %r1, [%r2];"),
        ("ld.param::entry.u64 %rd1, [p];", "ld.param.u64 %rd1, [p];"),
        ("ldu.global.u32 %r1, [%rd1];", "ld.global.u32 %r1, [%rd1];"),
        ("ld.global.acquire.sys.u32 %r1, [%rd1];", "ld.acquire.sys.global.u32 %r1, [%rd1];"),
        ("st.global.volatile.u32 [%rd1], %r1;", "st.volatile.global.u32 [%rd1], %r1;"),
        (
            "atom.cas.acq_rel.cta.shared.b32 %r1, [%r2], %r3, %r4;",
            "atom.acq_rel.cta.shared.cas.b32 %r1, [%r2], %r3, %r4;",
        ),
        ("setp.lo.u32 %p1, %r1, %r2;", "setp.lt.u32 %p1, %r1, %r2;"),
        ("setp.ls.u32 %p1, %r1, %r2;", "setp.le.u32 %p1, %r1, %r2;"),
        ("setp.hi.u64 %p1, %rd1, %rd2;", "setp.gt.u64 %p1, %rd1, %rd2;"),
        ("setp.hs.u16 %p1, %rs1, %rs2;", "setp.ge.u16 %p1, %rs1, %rs2;"),
        ("mad.rz.ftz.f32 %r1, %r2, %r3, %r4;", "fma.rz.ftz.f32 %r1, %r2, %r3, %r4;"),
        ("mbarrier.init.shared::cta.b64 [%r1], 4;", "mbarrier.init.shared.b64 [%r1], 4;"),
        ("cp.async.ca.shared::cta.global [%r1], [%rd1], 4;", "cp.async.ca.shared.global [%r1], [%rd1], 4;"),
        ("mov.u32 %r1, (1 + 2) * 4 - 15 % 4;", "mov.u32 %r1, 9;"),
        ("mov.u32 %r1, ~0 & 1 << 3 ^ 0b1;", "mov.u32 %r1, 9;"),
        ("mov.s32 %r1, -7 / 2;", "mov.s32 %r1, -3;"),
        ("ld.global.u32 %r1, [%rd1+(2*4)-4];", "ld.global.u32 %r1, [%rd1+4];"),
        ("mov.pred %p1, -1;", "mov.pred %p1, 1;"),
        ("mov.u32 %r1, 0xFFFFFFFFF;", "mov.u32 %r1, 0xFFFFFFFF;"),
        ("add.s16 %rs1, %rs2, 70000;", "add.s16 %rs1, %rs2, 4464;"),
        ("mov.s32 %r1, 0xffffffffffffffffU;", "mov.s32 %r1, -1;"),
        ("mov.u32 %r1, -5000000000;", "mov.u32 %r1, 3589934592;"),
        ("st.global.u8 [%rd1], 300 - 1;", "st.global.u8 [%rd1], 43;"),
        ("add.f32 %f1, %f2, 25e-2;", "add.f32 %f1, %f2, 0.25;"),
        ("add.f32 %f1, %f2, 2.5E+1;", "add.f32 %f1, %f2, 25.0;"),
        ("add.f32 %f1, %f2, -.5;", "add.f32 %f1, %f2, -0.5;"),
        ("ld.global.u32 %r1, [%rd1+0x1e-4];", "ld.global.u32 %r1, [%rd1+26];"),
        ("mov.u32 %r1, 0x1E-4;", "mov.u32 %r1, 26;"),
        ("membar.proxy.alias;", "fence.proxy.alias;"),
        ("isspacep.param::entry %p1, %rd1;", "isspacep.param %p1, %rd1;"),
        (
            "ldmatrix.sync.aligned.m8n8.x1.shared::cta.b16 {%r1}, [%r5];",
            "ldmatrix.sync.aligned.m8n8.x1.shared.b16 {%r1}, [%r5];",
        ),
        (
            "ldmatrix.sync.aligned.x2.m8n8.shared.trans.b16 {%r1, %r2}, [%r5];",
            "ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%r1, %r2}, [%r5];",
        ),
        (
            "stmatrix.sync.aligned.trans.x1.m8n8.b16 [%rd1], {%r1};",
            "stmatrix.sync.aligned.m8n8.x1.trans.b16 [%rd1], {%r1};",
        ),
        (
            "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64.rn {%fd0, %fd1}, {%fd2}, {%fd3}, {%fd0, %fd1};",
            "mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%fd0, %fd1}, {%fd2}, {%fd3}, {%fd0, %fd1};",
        ),
        ("setp.eq.u32 %p1|_, %r1, %r2;", "setp.eq.u32 %p1, %r1, %r2;"),
        ("add.ftz.rn.f32 %f1, %f2, %f3;", "add.rn.ftz.f32 %f1, %f2, %f3;"),
        ("fma.sat.ftz.rz.f32 %f1, %f2, %f3, %f4;", "fma.rz.ftz.sat.f32 %f1, %f2, %f3, %f4;"),
        ("mad.ftz.rn.f32 %f1, %f2, %f3, %f4;", "fma.rn.ftz.f32 %f1, %f2, %f3, %f4;"),
        ("div.ftz.approx.f32 %f1, %f2, %f3;", "div.approx.ftz.f32 %f1, %f2, %f3;"),
        ("ex2.ftz.approx.f32 %f1, %f2;", "ex2.approx.ftz.f32 %f1, %f2;"),
        ("cvt.ftz.rzi.s32.f32 %r1, %f2;", "cvt.rzi.ftz.s32.f32 %r1, %f2;"),
        ("cvt.sat.rn.ftz.f32.f64 %f1, %fd2;", "cvt.rn.ftz.sat.f32.f64 %f1, %fd2;"),
        ("selp.b32 %r1, %r2, 3, !%p1;", "selp.b32 %r1, 3, %r2, %p1;"),
        ("add.f32 %f1, %f2, 0d3FB999999999999A;", "add.f32 %f1, %f2, 0f3DCCCCCD;"),
        ("{ { } };", ""),
        (
            "cvt.bf16.f16 %rs1, %rs2; cvt.f16.bf16 %rs1, %rs2;",
            "cvt.rn.bf16.f16 %rs1, %rs2; cvt.rn.f16.bf16 %rs1, %rs2;",
        ),
        (
            "cvt.relu.satfinite.rz.bf16x2.f32 %r1, %f1, %f2;",
            "cvt.rz.satfinite.relu.bf16x2.f32 %r1, %f1, %f2;",
        ),
        ("max.s16x2.relu %r1, %r2, %r3;", "max.relu.s16x2 %r1, %r2, %r3;"),
        ("ld.global.b32 { %r1 }, [ %rd1 + 0 ];", "ld.global.b32 %r1, [%rd1];"),
        ("@%p1 st.shared.f32 [%r1], {%f1};", "@%p1 st.shared.f32 [%r1], %f1;"),
        ("st.global.u32 [%rd1], {1};", "st.global.u32 [%rd1], 1;"),
        ("mov.b32 {%r1}, %r2; mov.b64 %rd1, {%rd2};", "mov.b32 %r1, %r2; mov.b64 %rd1, %rd2;"),
    ] {
        same(written, canonical);
    }
}

/// The printed text of a body.
#[track_caller]
fn printed(text: &str) -> String {
    let module = parse(&body(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
    module.verify_foreign().unwrap_or_else(|errors| panic!("{text}: {errors}")).ptx()
}

/// The rule that a body breaks.
#[track_caller]
fn broken(text: &str) -> Rule {
    let module = parse(&body(text)).unwrap_or_else(|error| panic!("{text}: {error}"));
    module.verify_foreign().map(|_| ()).expect_err(text).errors[0].rule
}

#[test]
fn parameters_may_have_many_bytes() {
    let text = |bytes: u32| {
        format!(
            ".version 8.1\n.target sm_75\n.address_size 64\n.entry k(.param .u32 n, .param .align 8 .b8 p[{bytes}]) {{ ret; }}\n"
        )
    };
    let version = |bytes| {
        let module = parse(&text(bytes)).unwrap_or_else(|error| panic!("{error}"));
        module.verify_foreign().map(|module| module.ptx().lines().next().unwrap_or_default().to_owned())
    };
    assert_eq!(version(4344), Ok(".version 6.3".to_owned()));
    assert_eq!(version(4345), Ok(".version 8.1".to_owned()));
    assert_eq!(version(32756), Ok(".version 8.1".to_owned()));
    let errors = version(32757).expect_err("more than any target has");
    assert_eq!(errors.errors[0].rule, Rule::Parameter);
}

#[test]
fn comparisons_of_halves_that_give_integers_are_newer_than_others() {
    assert!(printed("set.lt.u32.f16 %r1, %rs1, %rs2;").starts_with(".version 7.8\n"));
    let version = |line: &str| {
        let text = body(line).replace("sm_90", "sm_75");
        let module = parse(&text).unwrap_or_else(|error| panic!("{error}"));
        module.verify_foreign().unwrap_or_else(|errors| panic!("{errors}")).ptx()[9..12].to_owned()
    };
    assert_eq!(version("set.lt.f16.f16 %rs3, %rs1, %rs2;"), "6.3");
    assert_eq!(version("set.lt.s16.f16 %rs3, %rs1, %rs2;"), "6.5");
}

#[test]
fn sums_of_registers_and_numbers_go_through_registers() {
    let text = printed("st.global.u32 [%rd1], %r1+5; mov.u64 %rd2, %rd1+-8;");
    assert!(text.contains("add.u32 %r8, %r1, 5;\n\tst.global.u32 [%rd1], %r8;"), "{text}");
    assert!(text.contains("add.u64 %rd4, %rd1, 18446744073709551608;\n\tmov.u64 %rd2, %rd4;"), "{text}");
    for (line, message) in [
        ("add.f32 %f1, %f2+1, %f2;", "a sum cannot stand here"),
        ("add.u32 %r1, %rs2+1, %r2;", "a register of the same width"),
        ("add.u32 %r1, %none+1, %r2;", "unknown register or symbol"),
    ] {
        let error = parse(&body(line)).expect_err(line);
        assert!(error.message.contains(message), "{error}");
    }
}

#[test]
fn matrices_without_a_fixed_layout() {
    for line in [
        "wmma.load.a.sync.aligned.col.m8n32k16.shared.s8 {%r1}, [%r5];",
        "wmma.load.b.sync.aligned.col.m8n8k32.global.u4 {%r1}, [%rd1], %r2;",
        "wmma.load.c.sync.aligned.row.m16n16k16.f16 {%r1, %r2, %r3, %r4}, [%rd1+32], 16;",
        "wmma.store.d.sync.aligned.col.m8n8k4.shared.f64 [%r5], {%fd1, %fd2}, 8;",
        "wmma.mma.sync.aligned.row.col.m8n8k32.s32.s4.s4.s32.satfinite {%r1, %r2}, {%r3}, {%r4}, {%r1, %r2};",
        "wmma.mma.sync.aligned.col.row.m8n8k4.f64.f64.f64.f64 {%fd1, %fd2}, {%fd3}, {%fd0}, {%fd1, %fd2};",
    ] {
        let ptx = printed(line);
        assert!(ptx.contains(line), "{ptx}");
    }
    same(
        "wmma.mma.sync.aligned.col.row.m8n8k4.f64.f64.f64.f64.rn {%fd1, %fd2}, {%fd3}, {%fd0}, {%fd1, %fd2};",
        "wmma.mma.sync.aligned.col.row.m8n8k4.f64.f64.f64.f64 {%fd1, %fd2}, {%fd3}, {%fd0}, {%fd1, %fd2};",
    );
    for line in [
        "wmma.load.a.sync.aligned.col.m8n8k32.s4 {%r1}, [%rd1];",
        "wmma.load.a.sync.aligned.row.m16n16k16.local.u8 {%r1, %r2}, [%rd1];",
        "wmma.load.a.sync.aligned.row.m8n8k4.f16 {%r1,%r2,%r3,%r4,%r5,%r6,%r7,%r0}, [%rd1];",
        "wmma.mma.sync.aligned.row.col.m8n8k4.f64.f64.f64.f64.satfinite {%fd1, %fd2}, {%fd3}, {%fd0}, {%fd1, %fd2};",
    ] {
        assert_eq!(broken(line), Rule::InstructionForm, "{line}");
    }
    for (line, message) in [
        ("wmma.load.d.sync.aligned.row.m8n8k4.f64 {%fd1}, [%rd1];", "expected a matrix, found `.d`"),
        (
            "wmma.mma.sync.aligned.row.col.m8n8k32.s32.s4.u4.s32 {%r1, %r2}, {%r3}, {%r4}, {%r1, %r2};",
            "of one type",
        ),
    ] {
        let error = parse(&body(line)).expect_err(line);
        assert!(error.message.contains(message), "{error}");
    }
}

#[test]
fn volatile_accesses_to_memory_of_the_thread() {
    let ptx = printed(".local .b32 s[4]; st.volatile.local.u32 [s], %r1; ld.volatile.local.u32 %r2, [s+4];");
    assert!(ptx.starts_with(".version 9.1\n"), "{ptx}");
    assert!(ptx.contains("st.volatile.local.u32 [s], %r1;\n\tld.volatile.local.u32 %r2, [s+4];"), "{ptx}");
    assert_eq!(broken(".local .b32 s[4]; st.relaxed.gpu.local.u32 [s], %r1;"), Rule::InstructionForm);
}

#[test]
fn either_result_of_a_pair_may_be_unwanted() {
    assert!(printed("setp.eq.u32 _|%p1, %r1, %r2;").contains("setp.eq.u32 %p4|%p1, %r1, %r2;"));
    assert!(printed("setp.eq.u32 %p1|_, %r1, %r2;").contains("setp.eq.u32 %p1, %r1, %r2;"));
    assert!(printed("setp.eq.u32 _, %r1, %r2;").contains("setp.eq.u32 %p4, %r1, %r2;"));
}

#[test]
fn negated_predicates_and_far_addresses_go_through_registers() {
    let text = printed("and.pred %p1, !%p2, %p3;");
    assert!(text.contains("not.pred %p4, %p2;\n\tand.pred %p1, %p4, %p3;"), "{text}");
    let text = printed("ld.global.u32 %r1, [%rd1 - 0x100000000];");
    assert!(text.contains("add.u64 %rd4, %rd1, "), "{text}");
    assert!(text.contains("ld.global.u32 %r1, [%rd4];"), "{text}");
    // Nor do assemblers take these.
    for text in
        ["mul.u32.lo %r1, %r2, %r3;", "cvta.u64.to.global %rd1, %rd2;", "shf.b32.l.wrap %r1, %r2, %r3, %r1;"]
    {
        assert!(parse(&body(text)).is_err(), "{text}");
    }
}

#[test]
fn braces_around_one_operand_are_for_values_that_move() {
    for text in
        ["add.u32 {%r1}, %r2, %r3;", "st.global.u32 [%rd1], {%r1, %r2};", "ld.global.u32 {%r1, %r2}, [%rd1];"]
    {
        let error = parse(&body(text)).expect_err(text);
        assert!(error.message.contains("not grouped"), "{error}");
    }
    assert_eq!(broken("mov.u32 %r1, {%r2};"), Rule::InstructionForm);
}

#[test]
fn singles_in_pairs_and_with_halves() {
    let text = |line: &str| body(line).replace("sm_90", "sm_100");
    for line in [
        "add.rn.f32.f16 %f1, %rs1, %f2;",
        "sub.f32.bf16 %f1, %rs1, 0f3F800000;",
        "fma.rz.sat.f32.f16 %f1, %rs1, %rs2, %f3;",
        "mul.rm.ftz.f32x2 %rd1, %rd2, %rd3;",
        "fma.rn.f32x2 %rd1, %rd2, %rd3, %rd0;",
    ] {
        let module = parse(&text(line)).unwrap_or_else(|error| panic!("{line}: {error}"));
        let ptx = module.verify_foreign().unwrap_or_else(|errors| panic!("{line}: {errors}")).ptx();
        assert!(ptx.contains(line), "{ptx}");
    }
    for (line, message) in [
        ("mul.f32.f16 %f1, %rs1, %f2;", "unknown instruction"),
        ("add.f32.f16.f32 %f1, %rs1, %f2;", "unknown instruction"),
        ("add.ftz.f32.bf16 %f1, %rs1, %f2;", "unknown instruction"),
        ("add.f32.f16 %f1, 0f3F800000, %f2;", "does not fit the type"),
        ("min.f32x2 %rd1, %rd2, %rd3;", "these packed types are not supported"),
        ("cvt.rn.f32x2.f32 %rd1, %f1, %f2;", "these packed types are not supported"),
    ] {
        let error = parse(&text(line)).expect_err(line);
        assert!(error.message.contains(message), "{line}: {error}");
    }
    assert_eq!(broken("add.f32x2 %rd1, %rd2, %rd3;"), Rule::Target);
}

#[test]
fn an_extreme_of_three_is_formed_of_two_and_one() {
    let line = "@%p1 max.NaN.f32 %f1, %f2, 0f3F800000, %f1;";
    let text = body(line).replace("sm_90", "sm_100");
    let module = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let ptx = module.verify_foreign().unwrap_or_else(|errors| panic!("{errors}")).ptx();
    let expected = "\tmax.NaN.f32 %f9, %f2, 0f3F800000;\n\t@%p1 max.NaN.f32 %f1, %f9, %f1;\n";
    assert!(ptx.contains(expected), "{ptx}");
    let error = parse(&body(line)).expect_err(line);
    assert!(error.message.contains("needs sm_100"), "{error}");
    let error = parse(&body("max.f64 %fd1, %fd2, %fd3, %fd1;")).expect_err(line);
    assert!(error.message.contains("too many operands"), "{error}");
}

#[test]
fn packed_halves_are_compared_one_by_one() {
    let text = printed("@!%p2 setp.lt.and.ftz.f16x2 %p2|%p1, %r1, %r2, !%p3;");
    let lines: Vec<&str> =
        text.lines().map(str::trim).skip_while(|line| !line.starts_with("mov.b32")).collect();
    let expected = [
        "mov.b32 {%rs4, %rs5}, %r1;",
        "mov.b32 {%rs6, %rs7}, %r2;",
        "setp.lt.and.ftz.f16 %p4, %rs4, %rs6, !%p3;",
        "setp.lt.and.ftz.f16 %p5, %rs5, %rs7, !%p3;",
        "@!%p2 mov.pred %p1, %p5;",
        "@!%p2 mov.pred %p2, %p4;",
    ];
    assert_eq!(lines[..6], expected, "{text}");
    let single = printed("setp.neu.bf16x2 %p1, %r1, %r2;");
    assert!(single.contains("mov.pred %p1, %p4;") && !single.contains("%p5;"), "{single}");
}

#[test]
fn labels_that_nothing_jumps_to() {
    for text in [
        "{ L5: mov.u32 %r1, 1; } { L5: mov.u32 %r1, 2; }",
        "mov.u32 %r1, 1; L5: L6: mov.u32 %r1, 2; @%p1 bra L6;",
        "L5: mov.u32 %r1, 1; @%p1 bra L5; L1: mov.u32 %r1, 2;",
        "L9: L8: L7: ret; L0: mov.u32 %r1, 1; L3:",
    ] {
        let ptx = printed(text);
        assert_eq!(parse(&ptx).map(|module| module.to_string()).as_ref(), Ok(&ptx), "{text}");
    }
}

#[test]
fn variables_of_halves_and_of_small_alignment() {
    let text = header(
        ".global .f16 h; .const .f16x2 hh[2]; .shared .align 4 .b64 s; .global .align 1 .f64 d;\n.entry k(.param .u32 n, .param .align 4 .b64 p, .param .f16 q) { .reg .b64 %rd; .local .align 2 .f16 t[4]; ld.param.u64 %rd, [p]; ret; }",
    );
    let module = parse(&text).unwrap_or_else(|error| panic!("{error}"));
    let verified = module.clone().verify_foreign().unwrap_or_else(|errors| panic!("{errors}"));
    let ptx = verified.ptx();
    for part in [
        ".global .align 2 .b16 h[1];",
        ".const .align 4 .b32 hh[2];",
        ".shared .align 4 .b64 s[1];",
        ".global .align 1 .f64 d[1];",
        ".param .align 4 .b8 p[8]",
        ".param .b16 q",
        ".local .align 2 .b16 t[4];",
    ] {
        assert!(ptx.contains(part), "`{part}` in {ptx}");
    }
    assert_eq!(parse(&ptx), Ok(module));
}

#[test]
fn registers_may_be_wider_than_values() {
    for text in [
        "ld.global.b16 %f1, [%rd1];",
        "ld.global.b8 %fd1, [%rd1];",
        "ld.global.v2.b32 {%fd1,%rd2}, [%rd1];",
        "ld.global.f32 %rd2, [%rd1];",
        "st.global.b32 [%rd1], %fd1;",
        "cvt.f32.f16 %f1, %r1;",
        "cvt.rn.f16.f32 %rd1, %f1;",
        "cvt.rn.f32.s32 %rd1, %rd2;",
        "mov.u16 %rs1, %tid.x; mov.b16 %rs1, %nctaid.z; mov.u16 %rs1, %gridid; mov.u32 %r1, %gridid;",
    ] {
        printed(text);
    }
    for text in [
        "ld.global.u16 %f1, [%rd1];",
        "ld.global.f32 %fd1, [%rd1];",
        "ld.global.v2.u8 {%rs1,%r1}, [%rd1];",
        "st.global.f32 [%rd1], %rd2;",
        "cvt.f32.f16 %f1, %f2;",
        "cvt.rn.f16.f32 %f2, %f1;",
        "cvt.rn.bf16.f32 %r1, %f1;",
        "cvt.rn.bf16x2.f32 %rd1, %f1, %f2;",
        "cvt.rna.tf32.f32 %rd1, %f1;",
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%r1], %rd2, [%r3];",
        "mov.u16 %rs1, %laneid;",
        "mov.u64 %rd1, %tid.x;",
    ] {
        assert_eq!(broken(text), Rule::OperandType, "{text}");
    }
}

#[test]
fn conversions_take_the_modifiers_that_they_have() {
    for text in [
        "cvt.rp.bf16.f32 %rs1, %f1; cvt.rm.bf16.f32 %rs1, %f1;",
        "cvt.rn.relu.f16.f32 %rs1, %f1; cvt.rz.satfinite.f16x2.f32 %r1, %f1, %f2;",
        "cvt.rz.tf32.f32 %r1, %f1; cvt.rn.relu.tf32.f32 %r1, %f1; cvt.rna.satfinite.tf32.f32 %r1, %f1;",
        "cvt.rn.satfinite.relu.e4m3x2.f32 %rs1, %f1, %f2; cvt.rn.relu.f16x2.e5m2x2 %r1, %rs1;",
    ] {
        printed(text);
    }
    for text in [
        "cvt.rp.bf16x2.f32 %r1, %f1, %f2;",
        "cvt.rm.relu.f16.f32 %rs1, %f1;",
        "cvt.rp.satfinite.bf16.f32 %rs1, %f1;",
        "cvt.rn.relu.ftz.f16.f32 %rs1, %f1;",
        "cvt.rn.sat.satfinite.f16.f32 %rs1, %f1;",
        "cvt.rn.satfinite.f16.f64 %rs1, %fd1;",
        "cvt.rn.relu.bf16.f16 %rs1, %rs2;",
        "cvt.rna.relu.tf32.f32 %r1, %f1;",
        "cvt.rn.satfinite.f16x2.e5m2x2 %r1, %rs1;",
        "cvt.rn.e4m3x2.f32 %rs1, %f1, %f2;",
        "cvt.rzi.relu.s32.f32 %r1, %f1;",
    ] {
        assert_eq!(broken(text), Rule::InstructionForm, "{text}");
    }
    assert_eq!(broken("cvt.rn.satfinite.tf32.f32 %r1, %f1;"), Rule::Target);
}

#[test]
fn the_version_is_the_one_that_the_assembler_asks_for() {
    for (text, version) in [
        ("mbarrier.arrive.relaxed.cta.shared::cta.b64 %rd1, [%r1];", "8.6"),
        ("mbarrier.arrive.relaxed.cluster.shared::cluster.b64 _, [%r1], 1;", "8.6"),
        ("mbarrier.arrive.expect_tx.relaxed.cta.shared::cta.b64 %rd1, [%r1], 1;", "8.6"),
        ("mbarrier.arrive_drop.relaxed.cta.shared::cta.b64 %rd1, [%r1];", "8.6"),
        ("mbarrier.test_wait.relaxed.cta.shared::cta.b64 %p1, [%r1], %rd1;", "8.6"),
        ("mbarrier.try_wait.parity.relaxed.cta.shared::cta.b64 %p1, [%r1], 0;", "8.6"),
        ("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%r1], 1;", "8.0"),
        ("mbarrier.complete_tx.relaxed.cluster.shared::cluster.b64 [%r1], 1;", "8.0"),
        ("mbarrier.arrive.release.cluster.shared::cta.b64 %rd1, [%r1];", "8.0"),
    ] {
        let ptx = printed(text);
        assert!(ptx.starts_with(&format!(".version {version}\n")), "{text}: {ptx}");
    }
}

#[test]
fn some_words_of_bits_are_in_no_float_register() {
    for text in [
        "dp4a.s32.s32 %r1, %f1, %r2, %r3;",
        "dp2a.lo.u32.s32 %r1, %r2, %f1, %r3;",
        "add.u16x2 %f1, %r2, %r3;",
        "max.s16x2 %r1, %r2, %f3;",
        "redux.sync.and.b32 %f1, %r2, -1;",
        "redux.sync.or.b32 %r1, %f2, -1;",
        "redux.sync.add.u32 %r1, %r2, %f1;",
        "match.any.sync.b32 %f1, %r2, -1;",
        "match.any.sync.b32 %r1, %r2, %f1;",
        "match.all.sync.b32 %f1|%p1, %r2, -1;",
        "match.all.sync.b32 %r1|%p1, %r2, %f1;",
        "vote.sync.ballot.b32 %r1, %p1, %f1;",
        "shfl.sync.idx.b32 %r1, %r2, %r3, %r4, %f1;",
        "bmsk.clamp.b32 %f1, %r2, %r3;",
        "elect.sync %f1|%p1, -1;",
        "elect.sync %r1|%p1, %f1;",
        "bar.warp.sync %f1;",
        "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1,%f2,%f3,%f4}, {%f5,%f6,%f7,%f8}, {%r1,%r2}, {%f1,%f2,%f3,%f4};",
        "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f1,%f2,%f3,%f4}, {%r1,%r2}, {%f5}, {%f1,%f2,%f3,%f4};",
        "mma.sync.aligned.m16n8k8.row.col.f16.f16.f16.f16 {%f1,%f2}, {%r1,%r2}, {%r3}, {%r4,%r5};",
        "mbarrier.arrive.shared.b64 %fd1, [%r1];",
        "mbarrier.test_wait.shared.b64 %p1, [%r1], %fd1;",
        "mbarrier.pending_count.b64 %r1, %fd1;",
        "createpolicy.fractional.L2::evict_first.b64 %fd1, 1.0;",
        "ld.global.L2::cache_hint.u32 %r1, [%rd1], %fd1;",
        "st.global.L2::cache_hint.u32 [%rd1], %r1, %fd1;",
        "cp.async.bulk.global.shared::cta.bulk_group.L2::cache_hint [%rd1], [%r1], 16, %fd1;",
    ] {
        assert_eq!(broken(text), Rule::OperandType, "{text}");
    }
    for text in [
        "match.any.sync.b32 %r1, %f2, -1;",
        "shfl.sync.idx.b32 %f1, %f2, 0, 31, -1;",
        "vote.sync.ballot.b32 %f1, %p1, -1;",
        "prmt.b32 %f1, %f2, %f3, %f4;",
        "lop3.b32 %f1, %f2, %f3, %f4, 1;",
        "atom.global.exch.b32 %f1, [%rd1], %f2;",
    ] {
        printed(text);
    }
}

#[test]
fn the_variables_of_a_call_are_used_without_a_guard() {
    let module = |text: &str| {
        let function = ".func (.param .b32 r) f(.param .b32 a) { st.param.b32 [r], 1; ret; }";
        let kernel = format!(".entry k() {{ .reg .b32 %r<4>; .reg .pred %p<2>; {text} ret; }}");
        parse(&header(&format!("{function}\n{kernel}"))).unwrap_or_else(|error| panic!("{text}: {error}"))
    };
    let variables = ".param .b32 v; .param .b32 w;";
    for line in
        ["@%p1 st.param.b32 [v], %r1; call (w), f, (v);", "call (w), f, (v); @%p1 ld.param.b32 %r1, [w];"]
    {
        let errors = module(&format!("{variables} {line}")).verify_foreign().map(|_| ()).expect_err(line);
        assert_eq!(errors.errors[0].rule, Rule::Call, "{errors}");
    }
    // A call of registers keeps its guard, and what the result was where it is not made.
    let verified = module("@%p1 call (%r1), f, (%r2);").verify_foreign().unwrap_or_else(|e| panic!("{e}"));
    let text = verified.ptx();
    let lines = [
        "\tst.param.b32 [call_param], %r2;",
        "\t@%p1 call (",
        "\tld.param.b32 %r4, [",
        "\t@%p1 mov.b32 %r1, %r4;",
    ];
    for line in lines {
        assert!(text.contains(line), "`{line}` in {text}");
    }
}

#[track_caller]
fn fails(text: &str, (line, column): (u32, u32), at: &str, message: &str) {
    let error = parse(text).expect_err(text);
    assert_eq!((error.line, error.column, error.text.as_str()), (line, column, at), "{error}");
    assert!(error.message.contains(message), "{error}");
}

#[test]
fn what_is_not_supported_is_named() {
    let at_module =
        |line: &str, column, at: &str, message: &str| fails(&header(line), (4, column), at, message);
    at_module(".global .texref t;", 9, ".texref", "textures, surfaces and samplers are not supported");
    at_module(".texref t;", 1, ".texref", "textures, surfaces and samplers are not supported");
    at_module(".global .b128 x;", 9, ".b128", "128-bit types are not supported");
    at_module(".local .b32 x;", 1, ".local", "expected `.entry`");
    at_module(".global .b32 x[2][2] = {1};", 24, "{", "several dimensions are not supported");
    at_module(".global .b32 x = y;", 18, "y", "unknown symbol");
    at_module(".global .b8 x = 1.5;", 17, "1.5", "does not fit the type");
    at_module(".global .v2 .b8 x = {{1, 2, 3}};", 27, ",", "expected `}`");
    at_module(".global .b8 x = 0xF0(y);", 22, "y", "unknown symbol");
    at_module(".global .b8 y; .const .b8 x = 0xF0(y);", 31, "0xF0", "does not select the bytes");
    at_module(".global .b32 x; .global .b32 x;", 30, "x", "already declared");
    at_module(".global .b32 x[65536][65536];", 29, ";", "too large");
    at_module(".func f(); .entry f() { }", 19, "f", "already defined");
    at_module(".func f() { } .func f() { }", 21, "f", "already defined");
    at_module(".entry k()", 1, "k", "declared but not defined");
    at_module(".entry k();", 1, "k", "declared but not defined");
    at_module(".func f() .abi_preserve 4;", 11, ".abi_preserve", "not supported");
    at_module(".alias a, b;", 8, "a", "unknown function");
    at_module(".section .debug_str {", 22, "end of file", "never ends");
    at_module(".pragma \"open;", 9, "\"", "never ends");
    at_module(".global .b32 x = 1 / (2 - 2);", 29, ";", "divides by zero");
    let in_body = |line: &str, column, at: &str, message: &str| fails(&body(line), (12, column), at, message);
    in_body(
        "suld.b.2d.b32.trap {%r1}, [s, {%r1, %r2}];",
        1,
        "suld.b.2d.b32.trap",
        "surface instructions are",
    );
    in_body("vadd4.u32.u32.u32 %r1, %r2, %r3, %r4;", 1, "vadd4.u32.u32.u32", "video instructions are");
    in_body("ld.global.b128 %rd1, [%rd2];", 1, "ld.global.b128", "128-bit types are");
    in_body(
        "wmma.load.a.sync.aligned.row.m8n8k128.b1 {%r1}, [%rd1], 128;",
        1,
        "wmma.load.a.sync.aligned.row.m8n8k128.b1",
        "matrices of single bits are not supported",
    );
    in_body("tcgen05.alloc %r1;", 1, "tcgen05.alloc", "`tcgen05` instructions");
    in_body("multimem.red.add.u32 [%rd1], %r1;", 1, "multimem.red.add.u32", "multicast memory");
    for (line, message) in [
        (
            "wgmma.mma_async.sp.sync.aligned.m64n8k32.f32.f16.f16 {%f1, %f2, %f3, %f4}, %rd1, %rd2, %r1, 0, 1, 1, 1, 0, 0;",
            "sparse matrices are not supported",
        ),
        (
            "wgmma.mma_async.sync.aligned.m64n8k256.s32.b1.b1.and.popc {%r1, %r2, %r3, %r4}, %rd1, %rd2, 1;",
            "matrices of single bits are not supported",
        ),
        ("fence.acquire.sync_restrict::shared::cluster.cluster;", "fences of some memory alone are"),
        ("fence.proxy.tensormap::generic.release.gpu;", "tensor maps are"),
        ("atom.global.add.v2.f32 {%f1,%f2}, [%rd1], {%f3,%f4};", "atomic operations on vectors are"),
        ("red.global.add.noftz.v4.bf16x2 [%rd1], {%r1,%r2,%r3,%r4};", "atomic operations on vectors are"),
        (
            "red.async.relaxed.cluster.shared::cluster.mbarrier::complete_tx::bytes.add.u32 [%r1], %r2, [%r3];",
            "`red.async` is",
        ),
        (
            "cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%rd1], [%r1], 16;",
            "`cp.reduce.async.bulk` is",
        ),
        (
            "atom.global.add.L2::cache_hint.u32 %r1, [%rd1], %r2, %rd2;",
            "cache policies of atomic operations are",
        ),
        ("cp.async.cg.shared.global.L2::cache_hint [%r1], [%rd1], 16, %rd2;", "this hint of `cp.async` is"),
        ("createpolicy.cvt.L2.b64 %rd1, 0x3d000;", "policies other than fractional ones are"),
        ("prefetch.tensormap [%rd1];", "tensor maps are"),
        ("ld.mmio.relaxed.sys.global.u32 %r1, [%rd1];", "`.mmio` is"),
        ("ld.global.v8.b32 {%r1,%r2,%r3,%r4,%r5,%r6,%r7,%r0}, [%rd1];", "accesses of 32 bytes are"),
        ("st.global.v4.f64 [%rd1], {%fd1,%fd2,%fd3,%fd0};", "accesses of 32 bytes are"),
        ("mad.rn.f16 %rs1, %rs2, %rs3, %rs0;", "unknown instruction"),
        ("setp.lo.s32 %p1, %r1, %r2;", "compare unsigned integers, not .s32"),
        ("set.hs.u32.f32 %r1, %f1, %f2;", "compare unsigned integers, not .f32"),
        ("cvt.pack.sat.u8.s32 %r1, %r2, %r3;", "unknown instruction"),
        ("min.xorsign.abs.f32 %f1, %f2, %f3;", "`.xorsign` is"),
        ("lop3.or.b32 %r1|%p1, %r2, %r3, %r4, 1, %p2;", "`lop3` with a predicate is"),
        (
            "mma.sync.aligned.m8n8k128.row.col.s32.b1.b1.s32.xor.popc {%r1,%r2}, {%r3}, {%r4}, {%r1,%r2};",
            "is not supported",
        ),
        ("ldmatrix.sync.aligned.x1.trans.shared.b16 {%r1}, [%r5];", "expected `.m8n8`, found `.b16`"),
        ("ldmatrix.sync.aligned.m8n8.trans.b16 {%r1}, [%r5];", "expected a matrix count, found `.b16`"),
        ("ldmatrix.sync.aligned.m8n8.x1.x1.b16 {%r1}, [%r5];", "expected `.b16`, found `.x1`"),
    ] {
        in_body(line, 1, line.split(' ').next().unwrap_or(line).trim_end_matches(';'), message);
    }
    in_body(
        "bar.red.popc.u32 %r1, 0, 64, %p1;",
        1,
        "bar.red.popc.u32",
        "reductions over some threads of a block are not supported",
    );
    in_body(".shared .b32 s; cvta.global.u64 %rd1, s;", 39, "s", "this address is one in other memory");
    in_body(".local .b32 s[4]; cvta.shared.u64 %rd1, s+8;", 41, "s", "this address is one in other memory");
    in_body("mov.u32 %r1, %envreg3;", 14, "%envreg3", "this special register is not supported");
    in_body("alloca.u64 %rd1, 8;", 1, "alloca.u64", "grows at run time");
    in_body(
        "cp.async.bulk.tensor.2d.shared::cluster.global [%r1], [%rd1, {%r1, %r2}], [%r3];",
        1,
        "cp.async.bulk.tensor.2d.shared::cluster.global",
        "tensor copies are not supported",
    );
    in_body(".reg .v4 .f32 %v;", 6, ".v4", "vector registers are not supported");
    in_body(".reg .f32x2 %q;", 13, "%q", "registers do not have this type");
    in_body(".reg .bf16 %q;", 12, "%q", "registers do not have this type");
    in_body(".reg .b128 %q;", 6, ".b128", "128-bit types");
    in_body(".tex .u32 t;", 1, ".tex", "not supported in a body");
    in_body("call f, ();", 6, "f", "unknown function");
    in_body("call %rd1, (), q;", 16, "q", "unknown prototype");
    in_body("call k, ();", 1, "k", "this call needs 1 arguments and 0 results");
    in_body("brx.idx %r1, t;", 14, "t", "unknown table");
    in_body("mov.u32 %r1, %rd1+4;", 14, "%rd1", "a register of the same width");
    in_body("add.f32 %r1, %r2, p;", 19, "p", "a symbol cannot stand here");
    in_body("{ inside: } bra inside;", 17, "inside", "unknown label");
    in_body("{ .reg .b32 t; } mov.u32 t, 1;", 26, "t", "unknown register");
}

#[test]
fn names_are_declared_once_between_braces() {
    for (text, name) in [
        (".reg .b32 a, a;", "a"),
        (".reg .b32 a<2>; .reg .b64 a<3>;", "a"),
        (".reg .b32 a<3>, a1;", "a1"),
        (".reg .b32 p;", "p"),
        (".shared .b32 s; .reg .b64 s;", "s"),
        ("{ .local .b32 s; .shared .b32 s; }", "s"),
        (".param .b32 x; .param .b32 x;", "x"),
    ] {
        let error = parse(&body(text)).expect_err(text);
        assert!(error.message == "this name is already declared" && error.text == name, "{text}: {error}");
    }
    for text in [
        ".func f(.param .b32 a, .param .b32 a);",
        ".func f(.reg .b32 a, .reg .b32 a);",
        ".func (.param .b32 a) f(.param .b32 a);",
        ".entry k(.param .b32 a, .param .u64 a) { ret; }",
    ] {
        let error = parse(&header(text)).expect_err(text);
        assert_eq!(error.message, "this name is already declared", "{text}");
    }
    printed(".reg .b32 a; { .reg .b64 a; .shared .b32 p; } { .reg .f32 a; } .reg .b32 a1; .reg .b32 a_1<2>;");
}

#[test]
fn names_may_hide_what_is_declared_below() {
    let kernel =
        ".entry k() { .reg .b32 %r1; .shared .b32 x[4]; .shared .b32 x_1[4]; ld.shared.b32 %r1, [x]; ret; }";
    let module = parse(&header(&format!("{kernel}\n.global .b32 x[4];"))).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(module.functions[0].arrays[0].name, "x_2");
    let text = module.verify_foreign().unwrap_or_else(|errors| panic!("{errors}")).ptx();
    assert!(text.contains(", [x_2];"), "{text}");
}

#[test]
fn a_declaration_has_no_registers() {
    let module = parse(&header(".func (.reg .u32 r) f(.reg .u32 a); .entry k() { ret; }"));
    let module = module.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(parse(&module.to_string()), Ok(module));
}

#[test]
fn directives_need_no_blanks_and_few_other_signs() {
    let text = ".version 8.8\n.target sm_90\n.extern .func f()\n.visible.global.u32 x;\n.global .attribute(.managed, .unified(19, 95)) .v2 .u32 v[2] = {{1, 2}, {3, 4}};\n.entry k(.param.u64 p) { .reg.u64 a; .shared.b32 s; ld.param.u64 a, [p]; ret; }";
    let with = ".version 8.8\n.target sm_90\n.address_size 64\n.extern .func f();\n.visible .global .u32 x;\n.global .align 8 .u32 v[4] = {1, 2, 3, 4};\n.entry k(.param .u64 p) { .reg .u64 a; .shared .b32 s; ld.param.u64 a, [p]; ret; }";
    let module = parse(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(parse(with), Ok(module));
}

#[test]
fn predicates_may_be_literals() {
    assert!(printed("and.pred %p1, %p2, 1;").contains("mov.pred %p4, 1;\n\tand.pred %p1, %p2, %p4;"));
    printed("selp.u32 %r1, 1, 0, 1; vote.sync.any.pred %p1, 1, -1; bar.red.popc.u32 %r1, 0, 1;");
}

#[test]
fn targets_that_nothing_is_generated_for_are_read() {
    for (target, version) in
        [("sm_70", "6.0"), ("sm_87", "7.4"), ("sm_100", "8.6"), ("sm_103a", "8.8"), ("sm_120", "8.7")]
    {
        let text = format!(".version 9.0\n.target {target}\n.address_size 64\n.entry k() {{ ret; }}");
        let module = parse(&text).unwrap_or_else(|error| panic!("{error}"));
        let ptx = module.verify_foreign().unwrap_or_else(|errors| panic!("{errors}")).ptx();
        assert!(ptx.starts_with(&format!(".version {version}\n.target {target}\n")), "{ptx}");
    }
}

#[test]
fn nesting_and_sizes_are_bounded() {
    let deep = |open: &str| format!("{}{}", open, open.repeat(200_000));
    for text in [
        body(&deep("{")),
        body(&format!("mov.u32 %r1, {}1;", deep("("))),
        body(&format!("mov.u32 %r1, {}1;", deep("-"))),
        body(&format!("mov.u32 %r1, {}1;", deep("~"))),
        body(&format!("ld.global.u32 %r1, [%rd1{}];", deep("+(1"))),
        header(&format!(".global .b32 x = {}", deep("(1+"))),
    ] {
        let error = parse(&text).expect_err("deep nesting");
        assert!(error.line >= 4, "{error}");
    }
    let start = std::time::Instant::now();
    let large = header(".global .b8 x[4294967295] = {1};\n.global .b8 y[4294967295];\n");
    assert!(parse(&large).is_ok_and(|module| module.globals[0].init == [1] && module.verify().is_err()));
    let registers: String = (0..1000).map(|i| format!(".reg .b32 %q{i}_<1000000>; ")).collect();
    let registers = body(&registers);
    assert!(parse(&registers).is_err_and(|error| error.message.contains("too many registers")));
    // Jumps that share their table.
    let labels: Vec<String> = (0..8000).map(|i| format!("A{i}")).collect();
    let jumps: String = labels.iter().map(|label| format!("{label}: brx.idx %r1, t; ")).collect();
    let jumps = body(&format!("t: .branchtargets {}; {jumps}", labels.join(", ")));
    let errors = parse(&jumps).expect("jumps").verify_foreign().expect_err("too many");
    assert!(errors.errors.iter().all(|error| error.rule == Rule::Block), "{errors}");
    // The same name many times over.
    let scopes = body(&"{ .param .b32 x; .reg .b32 t; again: bra again; }".repeat(20_000));
    assert!(parse(&scopes).is_ok_and(|module| module.functions[0].call_params.len() == 20_000));
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn behaviour_is_advice_for_foreign_modules() {
    for (text, rule) in [
        ("mov.u32 %r1, %r2;", Rule::Definition),
        (".shared .b32 t[2]; st.shared.b32 [t+8], 1;", Rule::Bounds),
        (".shared .align 4 .b32 t[2]; mov.b64 %rd1, 1; st.shared.b64 [t], %rd1;", Rule::Alignment),
        ("mov.u32 %r1, %tid.x; setp.eq.u32 %p1, %r1, 0; @%p1 bar.sync 0;", Rule::DivergentBarrier),
        ("griddepcontrol.launch_dependents;", Rule::GridDependency),
        ("forever: bra forever;", Rule::Exit),
    ] {
        let module = parse(&body(text)).unwrap_or_else(|error| panic!("{error}"));
        let errors = module.clone().verify().expect_err(text);
        assert_eq!(errors.errors.iter().map(|e| e.rule).collect::<Vec<_>>(), [rule], "{errors}");
        let verified = module.verify_foreign().unwrap_or_else(|errors| panic!("{errors}"));
        assert!(verified.notes().iter().any(|note| note.rule == rule), "{:?}", verified.notes());
    }
    // What nothing could execute stays an error.
    let module = parse(&body("add.u32 %r1, %r1, %rd1;")).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(module.verify_foreign().map_err(|e| e.errors[0].rule), Err(Rule::OperandType));
}

fn survives(text: &str) -> Result<(), TestCaseError> {
    let Ok(module) = parse(text) else { return Ok(()) };
    let _ = module.to_string();
    if let Ok(verified) = module.verify_foreign() {
        let printed = verified.ptx();
        let again = parse(&printed).map_err(|error| TestCaseError::fail(format!("{error}\n{printed}")))?;
        prop_assert!(again == *verified.module(), "not equal:\n{}\n{}", printed, again);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn missing_and_moved_lines_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0..3u8), 1..6),
    ) {
        let mut lines: Vec<&str> = TEXT.lines().collect();
        for (from, to, edit) in edits {
            let (from, to) = (from.index(lines.len()), to.index(lines.len()));
            match edit {
                0 => _ = lines.remove(from),
                1 => lines.swap(from, to),
                _ => lines.insert(to, lines[from]),
            }
        }
        survives(&lines.join("\n"))?;
    }

    #[test]
    fn exchanged_words_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<bool>()), 1..4),
    ) {
        let mut words: Vec<&str> = TEXT.split_inclusive([' ', '\t', '\n', ',', ';', '.', '[', ']', '{', '}']).collect();
        for (to, from, keep) in edits {
            let (to, from) = (to.index(words.len()), from.index(words.len()));
            if keep { words.insert(to, words[from]) } else { words[to] = words[from] }
        }
        survives(&words.concat())?;
    }

    #[test]
    fn damaged_bytes_never_panic(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let mut bytes = TEXT.as_bytes().to_vec();
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        survives(&String::from_utf8_lossy(&bytes))?;
    }
}
