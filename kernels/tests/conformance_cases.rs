//! The conformance cases themselves: well formed, distinct, and impossible to pass without doing the work.

use std::collections::HashSet;
use std::convert::Infallible;

use kernels::cases::{Case, CaseFailure, PtxRunner, cases, cases_of, invariances};
use kernels::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};
use ptx_builder::{Module, Target};
use tensor_formats::ElementType;

/// Launches nothing and reports success.
struct Idle;

impl PtxRunner for Idle {
    type Error = Infallible;

    fn target(&self) -> Target {
        Target::SM_75
    }

    fn run(&mut self, _: &dyn Kernel, _: &mut [&mut [u8]], _: &[usize]) -> Result<(), Infallible> {
        Ok(())
    }
}

#[test]
fn a_runner_that_does_nothing_fails_every_case() {
    let mut names = HashSet::new();
    for case in cases("") {
        let outcome = case.run(&mut Idle);
        assert!(matches!(outcome, Err(CaseFailure::Mismatch(_))), "{}: {outcome:?}", case.name);
        assert!(names.insert(case.name.clone()), "{} is there twice", case.name);
    }
    assert!(names.len() > 300, "only {} cases", names.len());
}

#[test]
fn a_runner_that_does_nothing_fails_every_invariance() {
    for pair in invariances("") {
        let outcome = pair.run(&mut Idle);
        assert!(matches!(outcome, Err(CaseFailure::Mismatch(_))), "{}: {outcome:?}", pair.name);
    }
}

#[test]
fn filters_select_by_name() {
    let selected: Vec<Case> = cases("argmax_f32_n1000_").collect();
    assert_eq!(selected.len(), 7);
    assert!(selected.iter().all(|case| case.name.contains("argmax_f32_n1000_")));
    let names = |filters: &[&str]| cases_of(filters).map(|case| case.name).collect::<Vec<_>>();
    let (sums, scattered) = (names(&["add"]), names(&["kv_scatter"]));
    assert!(!sums.is_empty() && sums.iter().all(|name| name.starts_with("add")), "{sums:?}");
    assert_eq!(names(&["add", "add_f32"]), sums);
    assert_eq!(names(&["kv_scatter", "add"]), [sums, scattered].concat());
    assert!(names(&["/one_block"]).len() > 1 && names(&["no such kernel"]).is_empty());
}

/// Doubles four values from `x` to `y`, in whatever way the runner does it.
#[derive(Debug)]
struct Double;

impl Kernel for Double {
    fn name(&self) -> String {
        "double".into()
    }

    fn params(&self) -> Vec<Param> {
        let param = |name, access| Param { name, access, element: ElementType::F32, bytes: 16, align: 16 };
        vec![param("x", Access::Read), param("y", Access::Write)]
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry { grid: [1; 3], block: [1; 3], dynamic_shared: 0 }
    }

    fn cost(&self, _: u64) -> Cost {
        Cost::default()
    }

    fn emit(&self, _: Target) -> Result<Module, KernelError> {
        Err(KernelError::Unsupported { kernel: "double", reason: "it only exists for its cases".into() })
    }
}

/// Runs any kernel by calling a function on the buffers.
struct Doing<F>(F);

impl<F: FnMut(&mut [&mut [u8]], &[usize])> PtxRunner for Doing<F> {
    type Error = Infallible;

    fn target(&self) -> Target {
        Target::SM_75
    }

    fn run(
        &mut self,
        _: &dyn Kernel,
        buffers: &mut [&mut [u8]],
        arguments: &[usize],
    ) -> Result<(), Infallible> {
        (self.0)(buffers, arguments);
        Ok(())
    }
}

fn double(buffers: &mut [&mut [u8]], arguments: &[usize]) {
    for at in (0..16).step_by(4) {
        let x = &buffers[arguments[0]][at..at + 4];
        let x = f32::from_le_bytes(x.try_into().expect("four bytes"));
        buffers[arguments[1]][at..at + 4].copy_from_slice(&(2.0 * x).to_le_bytes());
    }
}

fn case() -> Case {
    Case::new(Double, "").with_f32("x", &[1.0, 2.0, 3.0, 4.0]).expect_f32(
        "y",
        vec![2.0, 4.0, 6.0, 8.0],
        4,
        1e-6,
    )
}

fn failure(case: &Case, run: impl FnMut(&mut [&mut [u8]], &[usize])) -> String {
    case.run(&mut Doing(run)).expect_err("the runner is wrong").to_string()
}

#[test]
fn right_results_pass_in_place_or_not() {
    assert_eq!(case().run(&mut Doing(double)).expect("it doubles").relative_error, 0.0);
    let in_place = case().with_alias("y", "x");
    assert_eq!(in_place.name, "double/y_is_x");
    assert_eq!(in_place.arguments, [0, 0]);
    in_place.run(&mut Doing(double)).expect("it doubles");
}

#[test]
fn wrong_results_name_case_parameter_and_values() {
    let message = failure(&case(), |buffers, arguments| {
        double(buffers, arguments);
        buffers[1][8..12].copy_from_slice(&6.5f32.to_le_bytes());
    });
    assert!(message.starts_with("double: y at byte 8 (element 2): got 6.5e0, want 6e0"), "{message}");
    assert!(message.contains("relative L2 error"), "{message}");
}

#[test]
fn whatever_no_check_covers_must_stay() {
    let message = failure(&case(), |buffers, arguments| {
        double(buffers, arguments);
        buffers[1][16] = 0;
    });
    assert!(message.starts_with("double: y at byte 16"), "{message}");
    assert!(message.ends_with("untouched"), "{message}");
    let message = failure(&case(), |buffers, arguments| {
        double(buffers, arguments);
        buffers[0][5] ^= 1;
    });
    assert!(message.starts_with("double: x at byte 5"), "{message}");
}

#[test]
fn special_values_are_compared_by_kind() {
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let write = |values: [f32; 4]| {
        Doing(move |buffers: &mut [&mut [u8]], _: &[usize]| {
            let bytes = values.map(f32::to_le_bytes).concat();
            buffers[1][..16].copy_from_slice(&bytes);
        })
    };
    let case = Case::new(Double, "").expect_f32("y", vec![nan, inf, 0.0, -inf], 4, 1e-6);
    let infinity = f32::INFINITY;
    case.run(&mut write([f32::NAN, infinity, 0.0, -infinity])).expect("as expected");
    for wrong in [
        [1.0, infinity, 0.0, -infinity],
        [f32::NAN, -infinity, 0.0, -infinity],
        [f32::NAN, infinity, 1e-30, -infinity],
        [f32::NAN, infinity, f32::NAN, -infinity],
        [f32::from_bits(u32::MAX), infinity, 0.0, -infinity],
    ] {
        assert!(case.run(&mut write(wrong)).is_err(), "{wrong:?}");
    }
}

#[test]
fn malformed_cases_do_not_run() {
    let malformed = [
        case().with_f32("z", &[1.0]),
        case().with_f32("x", &[1.0]),
        case().expect_bytes_at("y", 15, vec![0; 2]),
        case().expect_f32("y", vec![0.0; 3], 2, 1.0),
    ];
    for case in malformed {
        let run = |_: &mut [&mut [u8]], _: &[usize]| panic!("a malformed case ran");
        assert!(failure(&case, run).contains("malformed"), "{case:?}");
    }
}
