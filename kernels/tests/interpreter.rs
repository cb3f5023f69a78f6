//! Every conformance case on the interpreter, with every sanitizer: no GPU needed.

use kernels::cases::{Interpreter, cases, invariances};
use ptx_builder::Target;
use rayon::prelude::*;

/// Targets whose code differs: with and without `cp.async`, bf16 arithmetic and programmatic launches.
const TARGETS: [Target; 3] = [Target::SM_75, Target::SM_80, Target::SM_90A];

/// Runs the cases whose names contain one of `filters` and fails with a line for each that failed.
fn check(filters: &[&str]) {
    for filter in filters {
        let all: Vec<_> = cases(filter).collect();
        assert!(!all.is_empty(), "no case is called {filter}");
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
}

#[test]
fn embedding() {
    check(&["embed_rows"]);
}

#[test]
fn norms() {
    check(&["rms_norm"]);
}

#[test]
fn matrix_vector_products() {
    check(&["gemv"]);
}

#[test]
fn fused_projections() {
    check(&["residual_projection", "gated_projection", "head_q"]);
}

#[test]
fn quantised_activations() {
    check(&["quantize"]);
}

#[test]
fn elementwise() {
    check(&["add", "mul", "silu", "swiglu"]);
}

#[test]
fn copies_and_caches() {
    check(&["copy", "kv_scatter", "stream_read"]);
}

#[test]
fn rotations() {
    check(&["rope"]);
}

#[test]
fn attention() {
    check(&["attention"]);
}

#[test]
fn rows_to_distributions_and_tokens() {
    check(&["soft_max", "argmax", "advance"]);
}

#[test]
fn sampling() {
    check(&["sample_largest", "sample_cut", "sample_draw"]);
}

#[test]
fn a_row_does_not_depend_on_its_batch() {
    let pairs: Vec<_> = invariances("").collect();
    let failures: Vec<String> = pairs
        .par_iter()
        .filter_map(|pair| {
            let target = Target::SM_80.max(pair.left.kernel.min_target());
            let failure = pair.run(&mut Interpreter::new(target)).err()?;
            Some(format!("{}: {failure}", pair.name))
        })
        .collect();
    assert!(failures.is_empty() && !pairs.is_empty(), "{}", failures.join("\n"));
}
