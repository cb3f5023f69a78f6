//! What a header may say, and that checks fail when they should.

use ptx_filetests::{
    Data, Elem, Header, ItemKind, Launched, Names, Request, RunError, Runner, Tolerance, check_file, evaluate,
};

fn error(header: &str) -> String {
    Header::parse(header).expect_err(header).to_string()
}

#[test]
fn a_header_has_launches_with_parameters() {
    let text = "// Prose: with a colon.\n// run: k grid=(2,3) block=64 cluster=2 shared=16\n//   in x: f32[2*3] = [1, -2.5e-1, inf]\n//   arg s: {u8, f64[2]} = [1, [2, 3]]\n//   out y: s32[1] = fold_add(x) ~ 2 ulp unordered\n// Prose.\n//   more prose\n\n.version 8.0\n// run: not a header\n";
    let Header::Runs(runs) = Header::parse(text).unwrap() else { panic!("no runs") };
    assert_eq!(runs.len(), 1);
    assert_eq!(
        (runs[0].grid, runs[0].block, runs[0].cluster, runs[0].shared),
        ([2, 3, 1], [64, 1, 1], [2, 1, 1], 16)
    );
    assert_eq!(runs[0].items.len(), 3);
    assert_eq!(runs[0].items[0].kind, ItemKind::Buffer(Elem::F32, 6));
    assert_eq!(runs[0].items[1].kind, ItemKind::Struct(vec![(Elem::U8, 1), (Elem::F64, 2)]));
    assert_eq!(runs[0].items[2].tolerance, Tolerance::Ulps(2));
    assert!(runs[0].items[2].unordered);
}

#[test]
fn a_header_says_how_a_file_is_refused() {
    let parsed = Header::parse("// error: no such thing at 3:14\n").unwrap();
    assert_eq!(parsed, Header::Error { message: "no such thing".into(), line: 3, column: 14 });
    let parsed = Header::parse("// refused: Types: not this\n").unwrap();
    assert_eq!(parsed, Header::Refused { rule: "Types".into(), message: "not this".into() });
}

#[test]
fn mistakes_in_a_header_have_a_line() {
    assert_eq!(error(".version 8.0\n"), "line 1: no `// run:`, `// error:` or `// refused:`");
    assert_eq!(
        error("//\n// run: k grid=1\n"),
        "line 2: grid and block are needed, with no dimension of zero"
    );
    let item = |text: &str| error(&format!("// run: k grid=1 block=1\n//   {text}\n"));
    assert_eq!(item("in x: f33[1] = 0"), "line 2: unknown type `f33`");
    assert_eq!(item("in x: f32[1]"), "line 2: `in` needs other values than these");
    assert_eq!(item("out x: f32[1] = 1 -> 2"), "line 2: `out` has no value before: `= EXPECTED`");
    assert_eq!(item("in x: f32[1] = 1 2"), "line 2: unexpected `2`");
    assert_eq!(item("in x: f32[1] = add(1"), "line 2: expected `,`, found the end of the line");
    assert_eq!(item("out x: f32[1] = 1 ~ 0 ulp"), "line 2: expected `~ 1e-5` or `~ 2 ulp`");
    assert_eq!(item("in x: f32[99999999999] = 1"), "line 2: expected a length");
    assert_eq!(item("int x: f32[1] = 1"), "line 2: unknown directive `int`");
    assert_eq!(
        error("// run: k grid=1 block=1\n// error: x at 1:1\n"),
        "line 1: a file that is refused cannot be run"
    );
}

#[test]
fn expressions_have_a_type_and_a_length() {
    let value = |text: &str, elem, len| {
        let text = format!("// run: k grid=1 block=1\n//   in x: u8[1] = {text}\n");
        let Header::Runs(runs) = Header::parse(&text).unwrap() else { panic!("no runs") };
        let names = Names::from([("t".to_owned(), Data::ints(Elem::S32, [5, -6]))]);
        evaluate(runs[0].items[0].before.as_ref().unwrap(), elem, len, &names)
    };
    assert_eq!(value("-1", Elem::U16, 3).unwrap().bits, [0xffff; 3]);
    assert_eq!(value("[t, add(t, 1)]", Elem::S32, 4).unwrap(), Data::ints(Elem::S32, [5, -6, 6, -5]));
    assert_eq!(value("f32(t)", Elem::F32, 2).unwrap(), Data::floats(Elem::F32, [5.0, -6.0]));
    assert_eq!(value("round_rz_f16(f32(1.9999))", Elem::F16, 1).unwrap().bits, [0x3fff]);
    assert_eq!(value("t", Elem::F32, 2).unwrap_err(), "this gives s32, not f32");
    assert_eq!(value("t", Elem::S32, 3).unwrap_err(), "this gives 2 elements, not 3");
    assert_eq!(value("u", Elem::S32, 3).unwrap_err(), "`u` has no value before the launch");
    assert_eq!(value("nothing(t)", Elem::S32, 3).unwrap_err(), "unknown function `nothing`");
}

/// Memory only: a kernel adds one to every byte of its first parameter's allocation, or does nothing.
struct Fake {
    memory: Vec<Vec<u8>>,
    works: bool,
}

impl Runner for Fake {
    fn load(&mut self, _: &str) -> Result<(), RunError> {
        Ok(())
    }
    fn alloc(&mut self, bytes: u64) -> Result<u64, RunError> {
        self.memory.push(vec![0; bytes as usize]);
        Ok(self.memory.len() as u64 - 1)
    }
    fn write(&mut self, address: u64, bytes: &[u8]) -> Result<(), RunError> {
        self.memory[address as usize].copy_from_slice(bytes);
        Ok(())
    }
    fn read(&mut self, address: u64, bytes: &mut [u8]) -> Result<(), RunError> {
        bytes.copy_from_slice(&self.memory[address as usize]);
        Ok(())
    }
    fn variable(&mut self, name: &str) -> Result<(u64, u64), RunError> {
        Err(RunError(format!("no variable {name}")))
    }
    fn launch(&mut self, request: &Request<'_>) -> Result<Launched, RunError> {
        let first = request.params[0][0] as usize;
        if self.works {
            self.memory[first].iter_mut().for_each(|b| *b += 1);
        }
        Ok(Launched { findings: Some(Vec::new()), ..Launched::default() })
    }
}

#[test]
fn what_differs_is_said() {
    let text = |items: &str| format!("// run: k grid=1 block=1\n{items}");
    let run = |works, items: &str| check_file(&text(items), &mut Fake { memory: Vec::new(), works });
    let inout = "//   inout x: u8[3] = [1, 2, 3] -> [2, 3, 4]\n";
    assert_eq!(run(true, inout).unwrap()[0].data.bits, [2, 3, 4]);
    let failure = run(false, inout).unwrap_err();
    assert!(failure.contains("3 of 3 elements are wrong; [0] is 1 (0x1), not 2 (0x2)"), "{failure}");
    let changed = run(true, "//   in x: u8[3] = 7\n").unwrap_err();
    assert!(changed.contains("[0] is 8 (0x8), not 7 (0x7)"), "{changed}");
    let kept = "//   inout x: u8[1] = 1 -> 2\n// run: k grid=1 block=1\n//   keep x -> 3\n";
    assert_eq!(run(true, kept).unwrap().len(), 2);
    assert!(run(true, "//   var v: u8[1] -> 0\n").unwrap_err().contains("no variable v"));
    let finds = run(true, "//   in x: f32[1] = 1\n//   finds SharedRace\n").unwrap_err();
    assert!(finds.contains("expected findings [\"SharedRace\"], not []"), "{finds}");
}
