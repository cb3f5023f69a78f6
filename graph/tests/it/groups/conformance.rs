//! The suite on groups: fused kernels that are right pass it, and every mistake in one fails it.

use std::collections::BTreeSet;

use graph::conformance::{ConformanceBackend, Failure, Job, Run, Selection, cases, run_case, run_suite};
use graph::reference::{ReferenceDispatch, ReferenceError, Value, evaluate};
use graph::{
    Add, CopyTensor, Group, GroupKind, KvScatter, MulMat, OpCall, RmsNorm, Rope, SwiGlu, TensorOp,
    TensorView, execute_graph,
};
use tensor_formats::ElementType;

use super::fused::{Fused, Mistake};
use GroupKind::{AttentionInput, GatedProjection, Head, ResidualProjection};

/// A backend with a kernel for each group of `kinds`.
struct Backend {
    kinds: Vec<GroupKind>,
    mistake: Mistake,
    groups: usize,
}

impl Backend {
    fn with(mistake: Mistake) -> Self {
        Self { kinds: GroupKind::ALL.into(), mistake, groups: 0 }
    }
}

impl ConformanceBackend for Backend {
    type Error = Box<dyn std::error::Error>;

    fn accepts(&self, group: &Group) -> bool {
        self.kinds.contains(&group.kind())
    }

    fn run(&mut self, job: &Job<'_>) -> Result<Vec<Run>, Self::Error> {
        let mut memory = ReferenceDispatch::new(job.plan, job.poison);
        for (leaf, bytes) in job.leaves {
            memory.bind(*leaf, bytes.clone())?;
        }
        let mut fused = Fused { mistake: self.mistake, ..Fused::new(memory) };
        execute_graph(job.graph, job.plan, &mut fused)?;
        self.groups += fused.groups;
        let read = |view| fused.inner.bytes(view).map(<[u8]>::to_vec);
        let buffers = job.read.iter().map(read).collect::<Result<_, ReferenceError>>()?;
        Ok(vec![Run { label: "eager".into(), buffers }])
    }
}

#[test]
fn fused_groups_pass() {
    let mut backend = Backend::with(|_| ());
    let report = run_suite(&mut backend, &Selection::fast().containing("groups/"));
    assert!(report.is_success(), "{report}");
    assert!(report.passed > 80 && backend.groups == report.passed, "{report}");
    let report = run_suite(&mut backend, &Selection::fast().containing("layers/"));
    assert!(report.is_success(), "{report}");
}

#[test]
fn only_what_the_backend_accepts_is_run_in_groups() {
    for kinds in [vec![], vec![Head]] {
        let mut backend = Backend { kinds, ..Backend::with(|_| ()) };
        let selection = Selection::fast().containing("groups/");
        let report = run_suite(&mut backend, &selection);
        let is_head = |name: &str| name.starts_with("groups/head/");
        let heads = cases().iter().filter(|case| selection.selects(case) && is_head(case.name())).count();
        assert!(report.is_success() && heads > 0, "{report}");
        assert_eq!(backend.groups, if backend.kinds.is_empty() { 0 } else { heads });
    }
}

fn each(parts: &mut [OpCall], mut change: impl FnMut(&mut OpCall)) {
    parts.iter_mut().for_each(&mut change);
}

/// Leaves out the operation: its result is its first operand.
fn skip(call: &mut OpCall, input: TensorView) {
    let output = call.output();
    if !input.same_bytes(&output) {
        *call = OpCall::Copy(CopyTensor { input, output });
    } else if let OpCall::Rope(a) = call {
        // In place: a rotation by the angle of position 0, which is none.
        let table = TensorView { offset: 0, ..a.table };
        *call = OpCall::Rope(Rope { n_rot: 2, table, ..*a });
    }
}

const MISTAKES: &[(&str, GroupKind, Mistake)] = &[
    ("keys not rotated", AttentionInput, |parts| {
        let rope = parts.iter().position(|p| matches!(p, OpCall::Rope(_))).unwrap();
        let OpCall::Rope(a) = parts[rope] else { return };
        skip(&mut parts[rope], a.input);
    }),
    ("the other rotation", AttentionInput, |parts| {
        each(parts, |part| {
            if let OpCall::Rope(a) = part {
                a.style = match a.style {
                    graph::RopeStyle::Interleaved => graph::RopeStyle::NeoX,
                    graph::RopeStyle::NeoX => graph::RopeStyle::Interleaved,
                }
            }
        });
    }),
    ("values among the keys", AttentionInput, |parts| {
        let keys = parts.iter().find_map(|p| if let OpCall::KvScatter(a) = p { Some(a.cache) } else { None });
        each(parts, |part| {
            if let OpCall::KvScatter(a) = part {
                *a = KvScatter { cache: keys.unwrap(), ..*a };
            }
        });
    }),
    ("every row at the first row's position", AttentionInput, |parts| {
        each(parts, |part| {
            if let OpCall::KvScatter(a) = part {
                let first = graph::Shape::new(&[1]).unwrap();
                let row = graph::Shape::new(&[1, a.input.shape.cols()]).unwrap();
                a.positions.shape = first;
                a.sequences.shape = first;
                a.input.shape = row;
            }
        });
    }),
    ("a value's weight read as the key's type", AttentionInput, |parts| {
        each(parts, |part| match part {
            OpCall::MulMat(a) if a.weight.dtype == ElementType::Q6_K => a.weight.dtype = ElementType::Q4_K,
            _ => {}
        });
    }),
    ("no bias", AttentionInput, |parts| {
        each(parts, |part| {
            if let OpCall::Add(a) = *part {
                let output = a.output;
                *part = OpCall::Copy(CopyTensor { input: a.a, output });
            }
        });
    }),
    ("another epsilon", Head, |parts| {
        each(parts, |part| {
            if let OpCall::RmsNorm(a) = part {
                *a = RmsNorm { eps: 1e-2, ..*a };
            }
        });
    }),
    ("no residual", ResidualProjection, |parts| {
        if let Some(OpCall::Add(a)) = parts.last().copied() {
            *parts.last_mut().unwrap() = OpCall::Copy(CopyTensor { input: a.b, output: a.output });
        }
    }),
    ("the residual in place of the product", ResidualProjection, |parts| {
        if let Some(OpCall::Add(a)) = parts.last_mut() {
            *a = Add { b: a.a, ..*a };
        }
    }),
    ("no residual, and the bias twice", ResidualProjection, |parts| {
        if let [.., OpCall::Add(bias), OpCall::Add(sum)] = &mut parts[..] {
            *sum = Add { a: sum.a, b: bias.b, ..*sum };
        }
    }),
    ("up and gate exchanged", GatedProjection, |parts| {
        if let Some(OpCall::SwiGlu(a)) = parts.last_mut() {
            *a = SwiGlu { gate: a.up, up: a.gate, ..*a };
        }
    }),
    ("no silu", GatedProjection, |parts| {
        if let Some(OpCall::SwiGlu(a)) = parts.last().copied() {
            *parts.last_mut().unwrap() = OpCall::Mul(a.unfused().1);
        }
    }),
    ("one weight for gate and up", GatedProjection, |parts| {
        let weight = parts.iter().find_map(|p| if let OpCall::MulMat(a) = p { Some(a.weight) } else { None });
        each(parts, |part| {
            if let OpCall::MulMat(a) = part {
                *a = MulMat { weight: weight.unwrap(), ..*a };
            }
        });
    }),
    ("the first rows instead of the last", Head, |parts| {
        each(parts, |part| {
            if let OpCall::RmsNorm(a) = part {
                a.input.offset = 0;
            }
        });
    }),
    ("the largest of the first row only", Head, |parts| {
        each(parts, |part| {
            if let OpCall::Argmax(a) = part {
                a.input.shape = graph::Shape::new(&[1, a.input.shape.cols()]).unwrap();
                a.output.shape = graph::Shape::new(&[1]).unwrap();
            }
        });
    }),
    ("no work at all", Head, Vec::clear),
];

#[test]
fn every_mistake_in_a_group_is_noticed() {
    for &(what, kind, mistake) in MISTAKES {
        let selection = Selection::fast().containing(format!("groups/{kind}/"));
        let mut backend = Backend::with(mistake);
        let mut selected = cases().into_iter().filter(|case| selection.selects(case));
        let failure = selected.find_map(|case| run_case(&mut backend, &case).err());
        let Some(Failure::Grouped(failure)) = failure else { panic!("{what} in {kind}: {failure:?}") };
        assert!(matches!(*failure, Failure::Wrong { .. }), "{what} in {kind}: {failure}");
    }
}

/// A head that takes the last of equals, or that compares only within a block, would be noticed.
#[test]
fn heads_have_two_largest_logits() {
    let heads = cases().into_iter().filter(|case| case.name().starts_with("groups/head/F32+F32xF32/in=37/"));
    let heads = heads.filter(|case| case.name().ends_with("argmax=true/rows=9"));
    let mut distances = BTreeSet::new();
    for case in heads {
        let built = case.build().unwrap();
        let values = evaluate(&built.graph, &built.leaves).unwrap();
        let product =
            built.graph.ids().find(|&id| built.graph.get(id).unwrap().op() == TensorOp::MulMat).unwrap();
        let Some(Value::Real(logits)) = values.get(product) else { panic!() };
        let cols = built.graph.get(product).unwrap().shape().cols();
        for row in logits.chunks(cols) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let mut at = (0..cols).filter(|&i| row[i] == largest);
            let first = at.next().unwrap();
            distances.insert(at.next().map_or(0, |second| second - first));
        }
    }
    assert_eq!(distances.into_iter().collect::<Vec<_>>(), [0, 1, 256, 513]);
}
