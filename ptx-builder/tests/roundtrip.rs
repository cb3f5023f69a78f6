//! `parse(print(m)) == m`, and no text makes the parser panic.

use proptest::prelude::*;
use ptx_builder::testing::random_module;
use ptx_builder::{Module, Target, U64, all_ops_module, parse, print};

fn check_round_trip(module: Module) -> Result<(), TestCaseError> {
    let text = print(&module);
    let verified = match module.clone().verify() {
        Ok(verified) => verified,
        Err(errors) => return Err(TestCaseError::fail(format!("{errors}\n{text}"))),
    };
    prop_assert_eq!(&verified.ptx(), &text);
    match parse(&text) {
        Ok(parsed) => prop_assert!(parsed == module, "not equal:\n{}\n{}", text, print(&parsed)),
        Err(error) => return Err(TestCaseError::fail(format!("{error}\n{text}"))),
    }
    Ok(())
}

fn from_choices(target: Target, choices: &[u32]) -> Module {
    let mut choices = choices.iter().copied();
    random_module(target, 150, &mut || choices.next().unwrap_or(0))
}

#[test]
fn calls_of_functions_of_the_driver_come_back_equal() {
    for &target in Target::all() {
        let mut module = Module::new(target);
        for name in ["one", "other"] {
            module.kernel(name, |k| {
                k.maxntid(32, 1, 1);
                let handle = k.param::<U64>("handle");
                let lane = k.laneid();
                k.graph_set_conditional(handle, lane);
                let first = k.eq(lane, 0);
                k.guarded(first, |k| k.graph_set_conditional(handle, 1));
            });
        }
        check_round_trip(module).unwrap();
    }
}

fn targets() -> impl Strategy<Value = Target> {
    prop::sample::select(Target::all())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_modules_come_back_equal(
        target in targets(),
        choices in prop::collection::vec(any::<u32>(), 0..1500),
    ) {
        check_round_trip(from_choices(target, &choices))?;
    }

    #[test]
    fn arbitrary_text_never_panics(text in any::<String>()) {
        let _ = parse(&text);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = parse(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn ptx_like_text_never_panics(
        words in prop::collection::vec(prop::sample::select(WORDS), 0..120),
    ) {
        let body = words.join(" ");
        let _ = parse(&body);
        if let Ok(module) = parse(&format!("{HEADER}{body}\n}}\n")) {
            // What parses also prints, and the verifier has an opinion on it.
            let _ = print(&module);
            let _ = module.verify();
        }
    }

    #[test]
    fn damaged_modules_never_panic(
        choices in prop::collection::vec(any::<u32>(), 0..400),
        at in any::<prop::sample::Index>(),
        cut in 0usize..40,
        insert in prop::sample::select(WORDS),
    ) {
        let text = print(&from_choices(Target::SM_90A, &choices));
        let start = at.index(text.len());
        let end = (start + cut).min(text.len());
        let damaged = format!("{}{insert}{}", &text[..start], &text[end..]);
        if let Ok(module) = parse(&damaged)
            && let Ok(verified) = module.verify()
        {
            prop_assert_eq!(&parse(&verified.ptx()), &Ok(verified.module().clone()));
        }
    }
}

const HEADER: &str = ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k(.param .u32 n)\n{\n\
    .reg .pred %p<4>; .reg .b32 %r<8>, %r1_x; .reg .b64 %rd<4>; .reg .f32 %f<4>; .shared .align 16 .f32 t[8];\n";

const WORDS: &[&str] = &[
    "add.u32",
    "add",
    "mov.b64",
    "ld.global.v4.f32",
    "st.shared.u32",
    "setp.lt.u32",
    "bra",
    "ret",
    "shfl.sync.bfly.b32",
    "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32",
    "cvt.rn.f32.s8",
    "%r0",
    "%r1_x",
    "%r9",
    "%rd1",
    "%f3",
    "%p0",
    "%tid.x",
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "<",
    ">",
    ",",
    ";",
    ":",
    "!",
    "@",
    "|",
    "+",
    "-",
    "=",
    "0",
    "1",
    "4",
    "0x1F",
    "0f3F800000",
    "0d3FF0000000000000",
    "99999999999999999999",
    "1.5",
    "L0:",
    "L1_x:",
    "L0",
    "L1_x",
    "L7",
    "n",
    "t",
    "_",
    ".reg",
    ".b32",
    ".f32",
    ".pred",
    ".shared",
    ".local",
    ".align",
    ".param",
    ".entry",
    ".visible",
    ".version",
    ".target",
    "sm_80",
    ".address_size",
    "64",
    "//",
    "// note\n",
    "// inline: %r0 <- %r2\n",
    "// end inline\n",
    "/*",
    "*/",
    "\n",
    "\t",
    "é",
    "\u{0}",
    "::",
    "L1::no_allocate",
    ".",
    "..",
    "%",
    "$",
    "\\",
    "\"",
];

#[test]
fn every_form_of_every_instruction_comes_back_equal() {
    for target in Target::all() {
        let module = all_ops_module(*target);
        let verified = module.clone().verify().unwrap_or_else(|errors| panic!("{target}: {errors}"));
        let parsed = parse(&verified.ptx()).unwrap_or_else(|error| panic!("{target}: {error}"));
        assert!(parsed == module, "{target}");
    }
}

#[test]
fn printing_is_deterministic() {
    let texts = || -> String {
        let choices = |seed: u32| (0..500u32).map(move |i| (i ^ seed << 16).wrapping_mul(2_654_435_761));
        let modules = (0..64).map(|seed| from_choices(Target::SM_90, &choices(seed).collect::<Vec<_>>()));
        modules.map(|module| print(&module)).collect()
    };
    let first = texts();
    assert!(first.len() > 50_000, "{}", first.len());
    assert_eq!(first, texts());
}

#[test]
fn huge_register_counts_are_refused_before_anything_is_allocated() {
    let text = ".version 7.0\n.target sm_80\n.address_size 64\n.visible .entry k()\n{\n.reg .b32 %r<4294967295>;\nret;\n}\n";
    let error = parse(text).unwrap_err();
    assert_eq!((error.line, error.column), (6, 11));
    assert!(error.message.contains("too many registers"), "{error}");
}

#[test]
fn long_lines_are_read_in_linear_time() {
    let line = "add.u32 %r0, %r0, 1; ".repeat(100_000);
    let text = format!("{HEADER}{line} ret; }}");
    let start = std::time::Instant::now();
    assert_eq!(parse(&text).map(|m| m.functions[0].insts().count()), Ok(100_001));
    assert!(start.elapsed().as_secs() < 5, "{:?}", start.elapsed());
}
