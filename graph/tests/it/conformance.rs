//! The suite itself: a correct backend passes it, and every mistake that a backend could make fails it.

use std::collections::BTreeSet;

use graph::conformance::{
    ConformanceBackend, Failure, Job, Report, Run, Selection, Tier, cases, run_case, run_suite,
};
use graph::reference::{ReferenceDispatch, ReferenceError, dequantize, from_u32_bytes, to_u32_bytes};
use graph::{
    Add, Argmax, Attention, ComputeGraph, CopyTensor, EmbedRows, KernelDispatch, KvScatter, Mul, MulMat,
    OpCall, QuantizeQ8, RmsNorm, Rope, RopeStyle, Silu, SoftMax, SwiGlu, TensorOp, TensorView, execute_graph,
};
use tensor_formats::ElementType;

/// The reference with one mistake, and a ledger of launches.
struct Mutant {
    inner: ReferenceDispatch,
    mutate: Mutation,
}

/// Runs a call, in its own way.
type Mutation = fn(&mut ReferenceDispatch, OpCall) -> Result<usize, ReferenceError>;

macro_rules! forward {
    ($($method:ident($args:ty) = $variant:ident,)*) => {
        $(fn $method(&mut self, a: $args) -> Result<usize, ReferenceError> {
            (self.mutate)(&mut self.inner, OpCall::$variant(a))
        })*
    };
}

impl KernelDispatch for Mutant {
    type Error = ReferenceError;

    fn check(&self, _: &OpCall) -> Result<(), ReferenceError> {
        Ok(())
    }

    forward! {
        embed_rows(EmbedRows) = EmbedRows, rms_norm(RmsNorm) = RmsNorm, mul_mat(MulMat) = MulMat, add(Add) = Add,
        mul(Mul) = Mul, silu(Silu) = Silu, rope(Rope) = Rope, kv_scatter(KvScatter) = KvScatter,
        attention(Attention) = Attention, soft_max(SoftMax) = SoftMax, copy(CopyTensor) = Copy,
        quantize_q8(QuantizeQ8) = QuantizeQ8, argmax(Argmax) = Argmax, swi_glu(SwiGlu) = SwiGlu,
    }
}

/// A backend that runs every job with a mutation, and then with a second one as its other way of running.
struct Backend {
    ways: Vec<(&'static str, Mutation)>,
}

impl Backend {
    fn correct() -> Self {
        Self::with(|d, call| call.dispatch(d))
    }

    fn with(mutation: Mutation) -> Self {
        Self { ways: vec![("eager", mutation)] }
    }
}

impl ConformanceBackend for Backend {
    type Error = Box<dyn std::error::Error>;

    fn run(&mut self, job: &Job<'_>) -> Result<Vec<Run>, Self::Error> {
        let mut runs = Vec::new();
        for &(label, mutate) in &self.ways {
            let mut mutant = Mutant { inner: ReferenceDispatch::new(job.plan, job.poison), mutate };
            for (leaf, bytes) in job.leaves {
                mutant.inner.bind(*leaf, bytes.clone())?;
            }
            execute_graph(job.graph, job.plan, &mut mutant)?;
            let read = |view| mutant.inner.bytes(view).map(<[u8]>::to_vec);
            let buffers = job.read.iter().map(read).collect::<Result<_, ReferenceError>>()?;
            runs.push(Run { label: label.into(), buffers });
        }
        Ok(runs)
    }
}

#[track_caller]
fn assert_passes(report: &Report) {
    assert!(report.is_success(), "{report}");
    assert_eq!(report.skipped, []);
}

#[test]
fn the_reference_passes() {
    let report = run_suite(&mut Backend::correct(), &Selection::fast());
    assert_passes(&report);
    assert!(report.passed > 300, "{report}");
}

/// Some 20 seconds; to be run by hand after a change to the suite.
#[test]
#[ignore = "slow"]
fn the_reference_passes_in_full() {
    let report = run_suite(&mut Backend::correct(), &Selection::full());
    assert_passes(&report);
}

#[test]
fn the_suite_covers_what_it_promises() {
    let all = cases();
    let names: BTreeSet<&str> = all.iter().map(|case| case.name()).collect();
    assert_eq!(names.len(), all.len(), "names are unique");
    for tier in [Tier::Fast, Tier::Full] {
        for op in TensorOp::ALL {
            let covered =
                all.iter().any(|case| case.op() == op && (tier == Tier::Full || case.tier() == tier));
            assert!(covered, "{op} in {tier:?}");
        }
    }
    for dtype in ElementType::WEIGHTS {
        for rows in [1, 2, 5, 8, 9, 16, 32] {
            assert!(names.contains(format!("mul_mat/{dtype}xF32/out=64/in=512/rows={rows}").as_str()));
            if dtype.is_quantised() {
                assert!(names.contains(format!("mul_mat/{dtype}xQ8/out=64/in=512/rows={rows}").as_str()));
            }
        }
    }
    for kind in graph::GroupKind::ALL {
        for rows in [1, 2, 5, 8, 9] {
            for weights in
                ["F32+F32xF32/in=37", "Q8_0+Q8_0xQ8/in=96", "Q4_K+Q6_KxF32/in=256", "Q4_K+Q6_KxQ8/in=1280"]
            {
                let (start, end) = (format!("groups/{kind}/{weights}/"), format!("/rows={rows}"));
                assert!(
                    names.iter().any(|name| name.starts_with(&start) && name.ends_with(&end)),
                    "{start}*{end}"
                );
            }
        }
    }
    for head_dim in [64, 128] {
        for len in [1, 31, 32, 33, 1025] {
            for group in [1, 2, 4, 8] {
                let name = format!(
                    "attention/cached/Batch/head_dim={head_dim}/kv_heads=2/group={group}/len={len}/rows=5"
                );
                assert!(names.contains(name.as_str()), "{name}");
            }
        }
    }
}

#[test]
fn cases_are_the_same_every_time() {
    let pick = || cases().into_iter().find(|case| case.name().starts_with("layers/NeoX/Q4_K+Q6_K")).unwrap();
    let (a, b) = (pick().build().unwrap(), pick().build().unwrap());
    assert_eq!((a.graph.to_string(), &a.leaves, &a.checks), (b.graph.to_string(), &b.leaves, &b.checks));
}

/// A mistake, the operation it is in, and what it does.
struct Mistake(&'static str, TensorOp, Mutation);

/// Runs `call` with the U32 values of `view` changed for the time of the call.
fn with_indices(
    d: &mut ReferenceDispatch,
    call: OpCall,
    view: TensorView,
    change: impl Fn(usize, &[u32]) -> u32,
) -> Result<usize, ReferenceError> {
    let before = d.bytes(&view)?.to_vec();
    let old = graph::reference::from_u32_bytes(&before);
    let new: Vec<u32> = (0..old.len()).map(|i| change(i, &old)).collect();
    d.bytes_mut(&view)?.copy_from_slice(&to_u32_bytes(&new));
    let result = call.dispatch(d);
    d.bytes_mut(&view)?.copy_from_slice(&before);
    result
}

/// Runs `call` and then changes the bytes of its output.
fn then(
    d: &mut ReferenceDispatch,
    call: OpCall,
    change: impl Fn(&mut [u8]),
) -> Result<usize, ReferenceError> {
    let launches = call.dispatch(d)?;
    change(d.bytes_mut(&call.output())?);
    Ok(launches)
}

/// Runs `call` on the first `rows` rows of a matmul only.
fn rows(view: TensorView, start: usize, len: usize) -> TensorView {
    let shape = graph::Shape::new(&[len, view.shape.cols()]).unwrap();
    TensorView { offset: view.offset + start as u64 * view.row_bytes(), shape, ..view }
}

/// The largest score of any row and head.
fn largest_score(d: &ReferenceDispatch, a: &Attention) -> Result<f64, ReferenceError> {
    let values = |view: &TensorView| -> Result<Vec<f64>, ReferenceError> {
        Ok(dequantize(view.dtype, view.shape.cols(), d.bytes(view)?)?)
    };
    let (query, keys) = (values(&a.query)?, values(&a.keys)?);
    let [positions, sequences] = [a.positions, a.sequences].map(|view| d.bytes(&view).map(from_u32_bytes));
    let (positions, sequences) = (positions?, sequences?);
    let mut largest = f64::NEG_INFINITY;
    for (index, query) in query.chunks(a.head_dim).enumerate() {
        let (row, head) = (index / a.n_heads, index % a.n_heads / (a.n_heads / a.n_kv_heads));
        let first = (sequences[row] as usize * a.n_kv_heads + head) * a.max_seq;
        for key in keys.chunks(a.head_dim).skip(first).take(positions[row] as usize + 1) {
            let dot: f64 = query.iter().zip(key).map(|(q, k)| q * k).sum();
            largest = largest.max(f64::from(a.scale) * dot);
        }
    }
    Ok(largest)
}

const MISTAKES: &[Mistake] = &[
    Mistake("half the head size in the scale", TensorOp::Attention, |d, call| match call {
        OpCall::Attention(a) => d.attention(Attention { scale: a.scale * std::f32::consts::SQRT_2, ..a }),
        other => other.dispatch(d),
    }),
    Mistake("a scale that is off by one part in a thousand", TensorOp::Attention, |d, call| match call {
        OpCall::Attention(a) => d.attention(Attention { scale: a.scale * 1.001, ..a }),
        other => other.dispatch(d),
    }),
    Mistake("the usual scale, whatever was asked for", TensorOp::Attention, |d, call| match call {
        OpCall::Attention(a) => d.attention(Attention { scale: 1.0 / (a.head_dim as f32).sqrt(), ..a }),
        other => other.dispatch(d),
    }),
    Mistake("exponentials that overflow", TensorOp::Attention, |d, call| match call {
        OpCall::Attention(a) => {
            let overflows = largest_score(d, &a)? > f64::from(f32::MAX).ln();
            let launches = d.attention(a)?;
            if overflows {
                d.bytes_mut(&a.output)?.fill(0xff);
            }
            Ok(launches)
        }
        other => other.dispatch(d),
    }),
    Mistake("no number for what is too large", TensorOp::KvScatter, |d, call| match call {
        OpCall::KvScatter(a) if a.cache.dtype == ElementType::F8E4M3 => {
            let launches = d.kv_scatter(a)?;
            for byte in d.bytes_mut(&a.cache)?.iter_mut().filter(|byte| **byte & 0x7f == 0x7e) {
                *byte |= 0x7f;
            }
            Ok(launches)
        }
        other => other.dispatch(d),
    }),
    Mistake("one position too few", TensorOp::Attention, |d, call| match call {
        OpCall::Attention(a) => with_indices(d, call, a.positions, |i, old| old[i].saturating_sub(1)),
        other => other.dispatch(d),
    }),
    Mistake("one position too many", TensorOp::Attention, |d, call| match call {
        OpCall::Attention(a) => with_indices(d, call, a.positions, |i, old| old[i] + 1),
        other => other.dispatch(d),
    }),
    Mistake("the first row's position for all rows", TensorOp::Attention, |d, call| match call {
        OpCall::Attention(a) => with_indices(d, call, a.positions, |_, old| old[0]),
        other => other.dispatch(d),
    }),
    Mistake("the first row's sequence for all rows", TensorOp::Attention, |d, call| match call {
        OpCall::Attention(a) => with_indices(d, call, a.sequences, |_, old| old[0]),
        other => other.dispatch(d),
    }),
    Mistake("the row's number for its sequence", TensorOp::Attention, |d, call| match call {
        OpCall::Attention(a) => {
            let n = a.n_sequences;
            with_indices(d, call, a.sequences, move |i, _| (i % n) as u32)
        }
        other => other.dispatch(d),
    }),
    Mistake("keys for values", TensorOp::Attention, |d, call| match call {
        OpCall::Attention(a) => d.attention(Attention { values: a.keys, ..a }),
        other => other.dispatch(d),
    }),
    Mistake("a scatter that the attention does not see", TensorOp::Attention, |d, call| match call {
        OpCall::KvScatter(_) => Ok(0),
        other => other.dispatch(d),
    }),
    Mistake("the stale position of the last step", TensorOp::KvScatter, |d, call| match call {
        OpCall::KvScatter(a) => with_indices(d, call, a.positions, |i, old| old[i].saturating_sub(1)),
        other => other.dispatch(d),
    }),
    Mistake("one slot for all rows", TensorOp::KvScatter, |d, call| match call {
        OpCall::KvScatter(a) => with_indices(d, call, a.positions, |_, old| old[0]),
        other => other.dispatch(d),
    }),
    Mistake("the first sequence for all rows", TensorOp::KvScatter, |d, call| match call {
        OpCall::KvScatter(a) => with_indices(d, call, a.sequences, |_, _| 0),
        other => other.dispatch(d),
    }),
    Mistake("rows at positions before heads", TensorOp::KvScatter, |d, call| match call {
        OpCall::KvScatter(a) => {
            d.kv_scatter(KvScatter { n_kv_heads: 1, head_dim: a.n_kv_heads * a.head_dim, ..a })
        }
        other => other.dispatch(d),
    }),
    Mistake("the other rope", TensorOp::Rope, |d, call| match call {
        OpCall::Rope(a) => {
            let style = match a.style {
                RopeStyle::Interleaved => RopeStyle::NeoX,
                RopeStyle::NeoX => RopeStyle::Interleaved,
            };
            d.rope(Rope { style, ..a })
        }
        other => other.dispatch(d),
    }),
    Mistake("the rope of the position before", TensorOp::Rope, |d, call| match call {
        OpCall::Rope(a) => with_indices(d, call, a.positions, |i, old| old[i].saturating_sub(1)),
        other => other.dispatch(d),
    }),
    Mistake("rope on the first head only", TensorOp::Rope, |d, call| match call {
        OpCall::Rope(a) => {
            let input = d.bytes(&a.input)?.to_vec();
            let (row, head) = (a.input.row_bytes() as usize, 4 * a.head_dim);
            then(d, call, |out| {
                for (out, input) in out.chunks_mut(row).zip(input.chunks(row)) {
                    out[head..].copy_from_slice(&input[head..]);
                }
            })
        }
        other => other.dispatch(d),
    }),
    Mistake("rope turns the other way", TensorOp::Rope, |d, call| match call {
        OpCall::Rope(a) => {
            let table = d.bytes(&a.table)?.to_vec();
            d.bytes_mut(&a.table)?.iter_mut().skip(7).step_by(8).for_each(|sign| *sign ^= 0x80);
            let result = d.rope(a);
            d.bytes_mut(&a.table)?.copy_from_slice(&table);
            result
        }
        other => other.dispatch(d),
    }),
    Mistake("another epsilon", TensorOp::RmsNorm, |d, call| match call {
        OpCall::RmsNorm(a) => d.rms_norm(RmsNorm { eps: 1e-5, ..a }),
        other => other.dispatch(d),
    }),
    Mistake("no epsilon", TensorOp::RmsNorm, |d, call| match call {
        OpCall::RmsNorm(a) => d.rms_norm(RmsNorm { eps: 0.0, ..a }),
        other => other.dispatch(d),
    }),
    Mistake("a softmax without its scale", TensorOp::SoftMax, |d, call| match call {
        OpCall::SoftMax(a) => d.soft_max(SoftMax { scale: 1.0, ..a }),
        other => other.dispatch(d),
    }),
    Mistake("up and gate exchanged", TensorOp::SwiGlu, |d, call| match call {
        OpCall::SwiGlu(a) => d.swi_glu(SwiGlu { gate: a.up, up: a.gate, ..a }),
        other => other.dispatch(d),
    }),
    Mistake("silu left out", TensorOp::SwiGlu, |d, call| match call {
        OpCall::SwiGlu(a) => d.mul(a.unfused().1),
        other => other.dispatch(d),
    }),
    Mistake("the first row of the bias's matrix only", TensorOp::Add, |d, call| match call {
        OpCall::Add(a) if a.is_broadcast() && a.a.shape.rows() > 1 => {
            let rest = d.bytes(&rows(a.a, 1, a.a.shape.rows() - 1))?.to_vec();
            then(d, call, |out| {
                let at = out.len() - rest.len();
                out[at..].copy_from_slice(&rest);
            })
        }
        other => other.dispatch(d),
    }),
    Mistake("sum for product", TensorOp::Mul, |d, call| match call {
        OpCall::Mul(a) => d.add(Add { a: a.a, b: a.b, output: a.output }),
        other => other.dispatch(d),
    }),
    Mistake("a batch of at most eight", TensorOp::MulMat, |d, call| match call {
        OpCall::MulMat(a) => {
            let n = a.input.shape.rows().min(8);
            d.mul_mat(MulMat { input: rows(a.input, 0, n), output: rows(a.output, 0, n), ..a })
        }
        other => other.dispatch(d),
    }),
    Mistake("the first activation for every row", TensorOp::MulMat, |d, call| match call {
        OpCall::MulMat(a) => {
            for row in 0..a.input.shape.rows() {
                d.mul_mat(MulMat { input: rows(a.input, 0, 1), output: rows(a.output, row, 1), ..a })?;
            }
            Ok(1)
        }
        other => other.dispatch(d),
    }),
    Mistake("weights read as the other K format", TensorOp::MulMat, |d, call| match call {
        OpCall::MulMat(a) if a.weight.dtype == ElementType::Q6_K => {
            d.mul_mat(MulMat { weight: TensorView { dtype: ElementType::Q4_K, ..a.weight }, ..a })
        }
        other => other.dispatch(d),
    }),
    Mistake("halves read as bfloats", TensorOp::MulMat, |d, call| match call {
        OpCall::MulMat(a) if a.weight.dtype == ElementType::F16 => {
            d.mul_mat(MulMat { weight: TensorView { dtype: ElementType::BF16, ..a.weight }, ..a })
        }
        other => other.dispatch(d),
    }),
    Mistake("products in half precision", TensorOp::MulMat, |d, call| match call {
        OpCall::MulMat(_) => then(d, call, |out| out.iter_mut().step_by(4).for_each(|low| *low = 0)),
        other => other.dispatch(d),
    }),
    Mistake("the last output missing", TensorOp::MulMat, |d, call| match call {
        OpCall::MulMat(a) => {
            let n = a.weight.shape.outer() - 1;
            let last = a.output.bytes() as usize - 4;
            assert!(n > 0);
            then(d, call, move |out| out[last..].fill(0xff))
        }
        other => other.dispatch(d),
    }),
    Mistake("an activation quantised twice as coarsely", TensorOp::MulMat, |d, call| match call {
        OpCall::QuantizeQ8(a) => {
            let (n, row) = (a.output.shape.cols(), a.output.row_bytes() as usize);
            then(d, call, move |out| {
                out.chunks_mut(row)
                    .for_each(|row| row[..n].iter_mut().for_each(|q| *q = (*q as i8 / 8 * 8) as u8));
            })
        }
        other => other.dispatch(d),
    }),
    Mistake("a token's neighbour", TensorOp::EmbedRows, |d, call| match call {
        OpCall::EmbedRows(a) => with_indices(d, call, a.tokens, |i, old| old[i].saturating_sub(1)),
        other => other.dispatch(d),
    }),
    Mistake("the last of equals", TensorOp::Argmax, |d, call| match call {
        OpCall::Argmax(a) => {
            let n = a.input.shape.cols();
            let input =
                d.bytes(&a.input)?.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect::<Vec<_>>();
            let last = |row: &[f32]| {
                let best = row.iter().copied().filter(|v| !v.is_nan()).fold(f32::NEG_INFINITY, f32::max);
                // Of NaNs alone it is the first, as it should be: the mistake is about others.
                row.iter().rposition(|&v| v == best).unwrap_or(0) as u32
            };
            let indices: Vec<u32> = input.chunks(n).map(last).collect();
            then(d, call, |out| out.copy_from_slice(&to_u32_bytes(&indices)))
        }
        other => other.dispatch(d),
    }),
    Mistake("quants rounded towards zero", TensorOp::QuantizeQ8, |d, call| match call {
        OpCall::QuantizeQ8(_) => then(d, call, |out| out[3] = out[3].wrapping_sub(1)),
        other => other.dispatch(d),
    }),
    Mistake("a copy of all but the last byte", TensorOp::Copy, |d, call| match call {
        OpCall::Copy(_) => then(d, call, |out| {
            if let Some(last) = out.last_mut() {
                *last ^= 1;
            }
        }),
        other => other.dispatch(d),
    }),
    Mistake("no work at all", TensorOp::Silu, |_, _| Ok(0)),
];

/// The first failure of a backend with `mutation` among the selected cases.
fn first_failure(mutation: Mutation, selection: &Selection) -> Option<Failure> {
    let mut backend = Backend::with(mutation);
    let mut selected = cases().into_iter().filter(|case| selection.selects(case));
    selected.find_map(|case| run_case(&mut backend, &case).err())
}

#[test]
fn every_mistake_is_noticed() {
    for Mistake(what, op, mutation) in MISTAKES {
        let failure = first_failure(*mutation, &Selection::fast().of(*op));
        assert!(matches!(failure, Some(Failure::Wrong { .. })), "{what} in {op}: {failure:?}");
    }
}

#[test]
fn mistakes_in_chains_are_noticed() {
    let chains = Selection::fast().of(TensorOp::None).containing("F32+F32/passes=false/rows=5");
    for Mistake(what, op, mutation) in MISTAKES {
        // Of the other operations the chain has none, or none on which the mistake makes a difference.
        let present =
            [TensorOp::Attention, TensorOp::KvScatter, TensorOp::Rope, TensorOp::Mul, TensorOp::Silu];
        let right_here = [
            "the first sequence for all rows",
            "the usual scale, whatever was asked for",
            "exponentials that overflow",
            "no number for what is too large",
        ];
        if present.contains(op) && !right_here.contains(what) {
            let failure = first_failure(*mutation, &chains);
            assert!(matches!(failure, Some(Failure::Wrong { .. })), "{what} in {op}: {failure:?}");
        }
    }
}

#[test]
fn a_write_beyond_a_tensor_is_noticed() {
    let past_the_end: Mutation = |d, call| {
        let launches = call.dispatch(d)?;
        let out = call.output();
        // The bytes behind the result: guard bytes, since the case leaves memory unused there.
        let shape = graph::Shape::new(&[1]).unwrap();
        let beyond = TensorView { offset: out.end(), shape, dtype: ElementType::F32, ..out };
        d.bytes_mut(&beyond)?.fill(0);
        Ok(launches)
    };
    let report = run_suite(&mut Backend::with(past_the_end), &Selection::fast().of(TensorOp::RmsNorm));
    assert_eq!(report.passed, 0);
    assert!(report.failed.iter().all(|(_, f)| matches!(f, Failure::GuardWritten { .. })), "{report}");
}

#[test]
fn a_write_to_the_last_byte_of_a_guard_is_noticed() {
    let at_the_end: Mutation = |d, call| {
        let launches = call.dispatch(d)?;
        let out = call.output();
        let shape = graph::Shape::new(&[1]).unwrap();
        let offset = out.end().next_multiple_of(graph::ALIGNMENT) + 255;
        let last = TensorView { offset, shape, dtype: ElementType::F8E4M3, ..out };
        d.bytes_mut(&last)?.fill(0);
        Ok(launches)
    };
    // Results of every type, among them one of an odd number of bytes.
    let report = run_suite(&mut Backend::with(at_the_end), &Selection::fast().of(TensorOp::Copy));
    assert_eq!(report.passed, 0);
    assert!(report.failed.iter().all(|(_, f)| matches!(f, Failure::GuardWritten { .. })), "{report}");
}

#[test]
fn a_write_to_a_leaf_is_noticed() {
    let in_place_on_leaf: Mutation = |d, call| match call {
        OpCall::Silu(a) => {
            let launches = d.silu(a)?;
            let bytes = d.bytes(&a.output)?.to_vec();
            d.bytes_mut(&a.input)?.copy_from_slice(&bytes);
            Ok(launches)
        }
        other => other.dispatch(d),
    };
    let selection = Selection::fast().of(TensorOp::Silu).containing("apart");
    let report = run_suite(&mut Backend::with(in_place_on_leaf), &selection);
    assert_eq!(report.passed, 0);
    assert!(report.failed.iter().all(|(_, f)| matches!(f, Failure::LeafWritten { .. })), "{report}");
}

#[test]
fn runs_have_to_agree_to_the_bit() {
    let low_bit: Mutation = |d, call| then(d, call, |out| out[0] ^= 1);
    let mut backend = Backend::correct();
    backend.ways.push(("replay 100", low_bit));
    let report = run_suite(&mut backend, &Selection::fast().of(TensorOp::RmsNorm));
    assert_eq!(report.passed, 0);
    for (_, failure) in &report.failed {
        let Failure::RunsDiffer { label, byte: 0, .. } = failure else { panic!("{failure}") };
        assert_eq!(label, "replay 100");
    }
}

#[test]
fn a_backend_that_does_nothing_fails() {
    struct Nothing;
    impl ConformanceBackend for Nothing {
        type Error = ReferenceError;
        fn run(&mut self, _: &Job<'_>) -> Result<Vec<Run>, ReferenceError> {
            Ok(Vec::new())
        }
    }
    let report = run_suite(&mut Nothing, &Selection::fast().of(TensorOp::Copy));
    assert!(report.passed == 0 && !report.is_success());
    assert!(report.failed.iter().all(|(_, f)| matches!(f, Failure::Incomplete { actual: 0, .. })));

    struct Unwilling;
    impl ConformanceBackend for Unwilling {
        type Error = ReferenceError;
        fn unsupported(&self, _: &ComputeGraph) -> Option<String> {
            Some("not today".into())
        }
        fn run(&mut self, _: &Job<'_>) -> Result<Vec<Run>, ReferenceError> {
            Ok(Vec::new())
        }
    }
    let report = run_suite(&mut Unwilling, &Selection::fast().of(TensorOp::Copy));
    assert!(!report.is_success() && report.failed.is_empty());
    assert!(report.skipped.iter().all(|(_, reason)| reason == "not today"));

    let nothing_selected = run_suite(&mut Backend::correct(), &Selection::full().containing("no such case"));
    assert!(!nothing_selected.is_success());
}
