//! What the parser reads beyond the printer's own text, and what its errors say.

use ptx_builder::{Module, ParseError, Target, parse};

const HEADER: &str = ".version 8.0\n.target sm_90a\n.address_size 64\n";

fn body(text: &str) -> Result<Module, ParseError> {
    parse(&format!(
        "{HEADER}.visible .entry k(.param .u64 p)\n{{\n.reg .pred %p<4>;\n.reg .b32 %r<8>;\n.reg .b64 %rd<4>;\n.reg .f32 %f<4>;\n{text}\n}}\n"
    ))
}

/// The error of a body whose text starts in line 10, at the beginning of the line.
#[track_caller]
fn fails(text: &str, (line, column): (u32, u32), at: &str, message: &str) {
    let error = body(text).expect_err(text);
    assert_eq!((error.line, error.column), (line, column), "{error}");
    assert_eq!(error.text, at, "{error}");
    assert!(error.message.contains(message), "{error}");
}

#[test]
fn errors_have_line_column_and_text() {
    fails("\tfrobnicate.u32 %r0, %r1;", (10, 2), "frobnicate.u32", "unknown instruction `frobnicate.u32`");
    fails(
        "ret;\n  tex.2d.v4.f32.f32 %r0;",
        (11, 3),
        "tex.2d.v4.f32.f32",
        "texture instructions are not supported",
    );
    fails("add.f16x4 %r0, %r1, %r2;", (10, 1), "add.f16x4", "unknown instruction `add.f16x4`");
    fails("ld.global.v3.f32 %f0, [%rd0];", (10, 1), "ld.global.v3.f32", "expected a type, found `.v3`");
    fails("cvt.rn.f32.s32.x %f0, %r0;", (10, 1), "cvt.rn.f32.s32.x", "unexpected `.x`");
    fails(
        "mma.sync.aligned.m9n9k9 %r0;",
        (10, 1),
        "mma.sync.aligned.m9n9k9",
        "unknown matrix shape `m9n9k9`",
    );
    fails("add.u32 %r0, %r1, %r99;", (10, 19), "%r99", "unknown register");
    fails("add.u32 %r0, %r1;", (10, 1), "add.u32", "operands are missing");
    fails("add.u32 %r0, %r1, 1, 2;", (10, 1), "add.u32", "too many operands");
    fails("add.u32 %r0, %r1, {%r2, %r3};", (10, 19), "add.u32", "not grouped");
    fails("add.u32 %r0, %r1, 1e3;", (10, 19), "1e3", "does not fit the type");
    fails("ld.global.u32 %r0, [%rd0+1e-4];", (10, 30), "]", "the offset");
    fails("add.rn.f32 %f0, %f1, 1;", (10, 22), "1", "does not fit the type");
    fails("add.rn.f32 %f0, %f1, 1e400;", (10, 22), "1e400", "does not fit the type");
    fails("mov.u32 %r0, %nosuch;", (10, 14), "%nosuch", "unknown register or symbol");
    fails("ld.param.u64 %rd0, [q];", (10, 20), "q", "unknown register or symbol");
    fails("ld.shared.u32 %r0, [%r0+4294967296];", (10, 20), "%r0", "more than 32 bits");
    fails("@%p9 ret;", (10, 2), "%p9", "unknown register");
    fails("bra nowhere;", (10, 5), "nowhere", "unknown label");
    fails("L0: ret;\nL0: ret;", (11, 1), "L0", "already defined");
    fails("add.u32 %r0, %r1, %r2", (11, 1), "}", "expected `,` or `;`");
    fails("/* no end", (10, 1), "/*", "never ends");
    fails("// inline: %r0 <-\nmov.u32 %r0, 1;", (10, 1), "// inline:", "never ends");
    fails("é;", (10, 1), "é", "expected an instruction");
    fails("{ ret; ", (12, 1), "end of file", "expected an instruction");
    fails(".reg .b8 %x;", (10, 10), "%x", "registers have 16, 32 or 64 bits");

    let unknown = parse(".version 8.0\n.target sm_42\n").unwrap_err();
    assert_eq!(unknown.to_string().split(',').next(), Some("line 2"));
    assert!(unknown.message.starts_with("unknown target `sm_42`"), "{unknown}");
}

/// Two bodies that mean the same.
#[track_caller]
fn same(a: &str, b: &str) {
    assert_eq!(body(a).unwrap_or_else(|e| panic!("{e}")), body(b).unwrap_or_else(|e| panic!("{e}")));
}

#[test]
fn literals_in_any_radix_and_sign() {
    same("and.b32 %r0, %r0, 0xFFFFFFFC; ret;", "and.b32 %r0, %r0, -4; ret;");
    same("add.s32 %r0, %r0, 0xFFFFFFFF; ret;", "add.s32 %r0, %r0, -1; ret;");
    same("add.u32 %r0, %r0, 16U; ret;", "add.u32 %r0, %r0, 020; ret;");
    same("add.u32 %r0, %r0, 5; ret;", "add.u32 %r0, %r0, 0b101; ret;");
    same("add.rn.f32 %f0, %f0, 0f3FC00000; ret;", "add.rn.f32 %f0, %f0, 1.5; ret;");
    same("mov.b32 %r0, 0x3FC00000; ret;", "mov.b32 %r0, 0f3FC00000; ret;");
    same("ld.global.u32 %r0, [%rd0+-4]; ret;", "ld.global.u32 %r0, [%rd0-4]; ret;");
    same("and.b32 %r0, %r0, WARP_SZ; ret;", "and.b32 %r0, %r0, 32; ret;");
}

#[test]
fn qualifiers_come_once_and_in_any_order() {
    same("ld.global.relaxed.gpu.u32 %r0, [%rd0]; ret;", "ld.relaxed.gpu.global.u32 %r0, [%rd0]; ret;");
    same(
        "atom.gpu.global.relaxed.add.u32 %r0, [%rd0], 1; ret;",
        "atom.relaxed.gpu.global.add.u32 %r0, [%rd0], 1; ret;",
    );
    same("fence.gpu; ret;", "fence.acq_rel.gpu; ret;");
    for (text, word) in [
        ("ld.volatile.relaxed.gpu.global.u32 %r0, [%rd0];", "relaxed"),
        ("ld.shared.global.u32 %r0, [%rd0];", "global"),
        ("ld.global.cg.cs.u32 %r0, [%rd0];", "cs"),
        ("ld.global.nc.nc.u32 %r0, [%rd0];", "nc"),
        ("ld.global.L1::evict_last.L1::no_allocate.u32 %r0, [%rd0];", "L1::no_allocate"),
        ("ld.global.L2::64B.L2::128B.u32 %r0, [%rd0];", "L2::128B"),
        ("ld.global.L2::cache_hint.L2::cache_hint.u32 %r0, [%rd0], %rd1;", "L2::cache_hint"),
        ("st.shared.local.u32 [%rd0], %r0;", "local"),
        ("st.weak.volatile.u32 [%rd0], %r0;", "volatile"),
        ("atom.shared.global.add.u32 %r0, [%rd0], 1;", "global"),
        ("atom.relaxed.acq_rel.add.u32 %r0, [%rd0], 1;", "acq_rel"),
        ("red.gpu.sys.add.u32 [%rd0], 1;", "sys"),
    ] {
        let error = body(&format!("{text} ret;")).expect_err(text);
        assert!(error.message.contains(&format!("found `.{word}`")), "{text}: {error}");
    }
}

/// The values that assemblers give: unsigned where a number is, remainders always, shifts by six bits.
#[test]
fn expressions_are_signed_or_not() {
    for (expression, value) in [
        ("-7 / 2", "-3"),
        ("-7 / 2U", "9223372036854775804"),
        ("-7 % 5", "4"),
        ("0x8000000000000000 / 0x10", "0x800000000000000"),
        ("0x8000000000000000 >> 63", "1"),
        ("-8 >> 1U", "-4"),
        ("~7 >> 1", "0x7ffffffffffffffc"),
        ("(-8 & -1) / 2", "-4"),
        ("127 << -1", "0x8000000000000000"),
        ("1 << 65", "2"),
        ("1 | 2 ^ 3 & 1", "3"),
        ("1 == 3 & 1", "0"),
        ("3 > 2 > 1", "0"),
        ("5 <= 5 && 5 >= 6 || 5 != 5", "0"),
        ("-1 < 2", "1"),
        ("-1 < 2U", "0"),
        ("(-1 < 2U) - 1 < 0", "1"),
        ("(1 < 2U) - 2 < 0", "1"),
        ("(1 && 2U) - 2 < 0", "1"),
        ("!0U - 2 < 0", "1"),
        ("!!3", "1"),
        ("- -3", "3"),
        ("+ -5", "-5"),
        ("0 ? 1 : 1 ? 2 : 3", "2"),
        ("(1 ? 2U : -1) - 3 < 0", "0"),
        ("(0 ? 2U : -1) - 3 < 0", "1"),
        ("(.u64) -7 / 2", "0x7ffffffffffffffc"),
        ("(.s64) 0x8000000000000000 / 16", "0xf800000000000000"),
        ("(.s64) ~5 / 2", "-3"),
        ("-WARP_SZ * 2", "-64"),
    ] {
        same(&format!("mov.b64 %rd0, {expression}; ret;"), &format!("mov.b64 %rd0, {value}; ret;"));
    }
    // Both sides of a choice must be numbers.
    for text in ["1 ? 2 : 1 / 0", "0 && 1 % 0"] {
        let error = body(&format!("mov.b64 %rd0, {text}; ret;")).expect_err(text);
        assert!(error.message.contains("divides by zero"), "{text}: {error}");
    }
    same("ld.global.u32 %r0, [%rd0 + 4 | 8]; ret;", "ld.global.u32 %r0, [%rd0 + 12]; ret;");
    same("ld.global.u32 %r0, [%rd0 + 8 - 4 * 3]; ret;", "ld.global.u32 %r0, [%rd0 - 4]; ret;");
    same("ld.global.u32 %r0, [%rd0 + 0xfffffffffffffffc]; ret;", "ld.global.u32 %r0, [%rd0 - 4]; ret;");
}

#[test]
fn space_comments_and_labels_are_free() {
    same(
        "L0_top:\n\tadd.u32 %r0, %r0, 1;\n\t@%p0 bra L0_top;\n\tret;",
        "L17_top: add.u32 %r0 , %r0,1; /* here */ @ %p0 bra L17_top; // there\n ret ;",
    );
}

#[test]
fn registers_and_labels_of_other_compilers() {
    let module = body(
        ".reg .s32 total;\n.reg .f64 %d<2>;\nmov.u32 total, 1;\n$L__BB0_1:\nadd.s32 total, total, 1;\nbra.uni $L__BB0_1;",
    )
    .unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(module.target, Target::SM_90A);
    let text = module.to_string();
    assert!(text.contains("mov.u32 %r8_total, 1;") && text.contains("bra.uni L1_$L__BB0_1;"), "{text}");
    assert_eq!(parse(&text), Ok(module));
}
