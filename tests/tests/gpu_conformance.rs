//! The graph conformance suite on a GPU: eager, as a graph, and the hundredth replay of it, bit-identical.

#![allow(clippy::print_stdout)] // What was run and how exact it is, for whoever reads the test's output.

use graph::TensorOp;
use graph::conformance::{Selection, run_suite};
use ptx_builder::Target;
use tests::gpu;

fn check(selection: &Selection) {
    let mut runner = gpu::runner();
    let report = run_suite(&mut runner, selection);
    println!("{report}");
    assert!(report.is_success(), "{report}");
    let old = runner.cache().target() < Target::SM_89;
    // A quantised matrix is laid out as a whole; older devices have fewer types.
    let by_design = |reason: &str| {
        reason.starts_with("a part of a matrix of type Q") || (old && reason.starts_with("a cache of type "))
    };
    let skipped: Vec<_> = report.skipped.iter().filter(|(_, reason)| !by_design(reason)).collect();
    assert!(skipped.is_empty(), "{skipped:?}");
}

fn check_ops(ops: &[TensorOp]) {
    let selection = if gpu::is_simulated() { Selection::fast() } else { Selection::full() };
    for op in ops {
        check(&selection.clone().of(*op));
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn fast_selection() {
    check(&Selection::fast());
}

/// Small enough for compute-sanitizer, racecheck included.
#[test]
#[ignore = "needs a CUDA device"]
fn few_replays() {
    let report = run_suite(&mut gpu::runner().with_replays(2), &Selection::fast());
    assert!(report.is_success(), "{report}");
}

#[test]
#[ignore = "needs a CUDA device"]
fn matrix_products() {
    check_ops(&[TensorOp::MulMat, TensorOp::QuantizeQ8]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn attention_and_caches() {
    check_ops(&[TensorOp::Attention, TensorOp::KvScatter, TensorOp::Rope]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn rows() {
    check_ops(&[TensorOp::EmbedRows, TensorOp::RmsNorm, TensorOp::SoftMax, TensorOp::Argmax, TensorOp::Copy]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn elementwise() {
    check_ops(&[TensorOp::Add, TensorOp::Mul, TensorOp::Silu, TensorOp::SwiGlu]);
}

/// Whole layers.
#[test]
#[ignore = "needs a CUDA device"]
fn chains_of_operations() {
    check_ops(&[TensorOp::None]);
}
