//! Every conformance case on the interpreter, with every sanitizer: no GPU needed.

use std::collections::BTreeSet;

use kernels::cases::{Interpreter, cases_of, invariances, stems};
use ptx_builder::Target;
use rayon::prelude::*;

/// Targets whose code differs: with and without `cp.async`, bf16 arithmetic and programmatic launches.
const TARGETS: [Target; 3] = [Target::SM_75, Target::SM_80, Target::SM_90A];

const EMBEDDING: &[&str] = &["embed"];
const NORMS: &[&str] = &["rms_norm"];
const PRODUCTS: &[&str] = &["gemv"];
const PROJECTIONS: &[&str] =
    &["residual_projection", "gated_projection", "head", "greedy_head", "attention_input"];
const MANY_ROWS: &[&str] = &["gemm", "half_rows", "prompt_attention"];
const QUANTISATION: &[&str] = &["quantize"];
const ELEMENTWISE: &[&str] = &["add", "mul", "silu", "swiglu"];
const COPIES: &[&str] = &["copy", "kv_scatter", "stream_read"];
const ROTATIONS: &[&str] = &["rope"];
const ATTENTION: &[&str] = &["attention_f", "attention_bf", "attention_e"];
const ROWS: &[&str] = &["soft_max", "argmax"];
const SAMPLING: &[&str] = &["sample", "advance", "loop_condition"];

/// Runs the cases whose names contain one of `filters` and fails with a line for each that failed.
fn check(filters: &[&str]) {
    let all: Vec<_> = cases_of(filters).collect();
    for filter in filters {
        assert!(all.iter().any(|case| case.name.contains(filter)), "no case is called {filter}");
    }
    let failures: Vec<String> = all
        .par_iter()
        .enumerate()
        .filter_map(|(i, case)| {
            let target = TARGETS[i % TARGETS.len()].max(case.kernel.min_target());
            let failure = case.run(&mut Interpreter::new(target)).err()?;
            Some(format!("{target}: {failure}"))
        })
        .collect();
    assert!(failures.is_empty(), "{} of {} failed:\n{}", failures.len(), all.len(), failures.join("\n"));
}

#[test]
fn every_case_is_run() {
    let run = [
        EMBEDDING,
        NORMS,
        PRODUCTS,
        PROJECTIONS,
        MANY_ROWS,
        QUANTISATION,
        ELEMENTWISE,
        COPIES,
        ROTATIONS,
        ATTENTION,
        ROWS,
        SAMPLING,
    ];
    let run: BTreeSet<&str> = run.into_iter().flatten().copied().collect();
    assert_eq!(stems().collect::<BTreeSet<_>>(), run);
}

#[test]
fn embedding() {
    check(EMBEDDING);
}

#[test]
fn norms() {
    check(NORMS);
}

#[test]
fn matrix_vector_products() {
    check(PRODUCTS);
}

#[test]
fn fused_projections() {
    check(PROJECTIONS);
}

#[test]
fn quantised_activations() {
    check(QUANTISATION);
}

#[test]
fn elementwise() {
    check(ELEMENTWISE);
}

#[test]
fn copies_and_caches() {
    check(COPIES);
}

#[test]
fn many_rows() {
    check(MANY_ROWS);
}

#[test]
fn rotations() {
    check(ROTATIONS);
}

#[test]
fn attention() {
    check(ATTENTION);
}

#[test]
fn rows_to_distributions_and_tokens() {
    check(ROWS);
}

#[test]
fn sampling() {
    check(SAMPLING);
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    let pairs: Vec<_> = invariances("").collect();
    let failures: Vec<String> = pairs
        .par_iter()
        .filter_map(|pair| {
            let targets = [&pair.left, &pair.right].map(|case| case.kernel.min_target());
            let target = targets.into_iter().fold(Target::SM_80, Target::max);
            let failure = pair.run(&mut Interpreter::new(target)).err()?;
            Some(format!("{}: {failure}", pair.name))
        })
        .collect();
    assert!(failures.is_empty() && !pairs.is_empty(), "{}", failures.join("\n"));
}
