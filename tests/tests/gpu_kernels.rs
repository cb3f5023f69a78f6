//! Every kernel's conformance cases on a GPU.

#![allow(clippy::print_stdout)] // What was run and how exact it is, for whoever reads the test's output.

use kernels::Kernel;
use kernels::cases::{Case, cases, invariances};
use runtime::cuda::runner::CudaRunner;
use tests::gpu;

/// Cases whose kernels are compiled at once, on all cores.
const GROUP: usize = 64;

/// Runs the cases whose names contain one of `filters`, all that the device can run, and fails with a line for
/// each that failed.
fn check(filters: &[&str]) {
    let mut runner = gpu::runner();
    for filter in filters {
        let (mut ran, mut worst, mut failures) = (0, 0.0f64, Vec::new());
        let target = runner.cache().target();
        let mut pending = cases(filter).filter(|case| case.kernel.runs_on(target)).peekable();
        while pending.peek().is_some() {
            let group: Vec<Case> = pending.by_ref().take(GROUP).collect();
            compile(&runner, &group);
            for case in &group {
                ran += 1;
                match case.run(&mut runner) {
                    Ok(report) => worst = worst.max(report.relative_error),
                    Err(failure) => failures.push(failure.to_string()),
                }
            }
        }
        println!("{filter}: {ran} cases, largest relative error {worst:.2e}");
        assert!(failures.is_empty(), "{} of {ran} failed:\n{}", failures.len(), failures.join("\n"));
        assert!(ran > 0, "no case is called {filter}");
    }
}

/// Compiles ahead. What fails here fails again, with its name, when its case runs.
fn compile(runner: &CudaRunner, group: &[Case]) {
    let kernels: Vec<&dyn Kernel> = group.iter().map(|case| case.kernel.as_ref()).collect();
    let _ = runner.cache().get_all(&kernels);
}

#[test]
#[ignore = "needs a CUDA device"]
fn embedding() {
    check(&["embed_rows"]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn norms() {
    check(&["rms_norm"]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn matrix_vector_products() {
    check(&["gemv"]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn fused_projections() {
    check(&["residual_projection", "gated_projection", "head_", "greedy_head"]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn quantised_activations() {
    check(&["quantize"]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn many_rows() {
    check(&["gemm", "half_rows", "prompt_attention"]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn elementwise() {
    check(&["add", "mul", "silu", "swiglu"]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn copies_and_caches() {
    check(&["copy", "stream_read", "kv_scatter"]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn rotations() {
    check(&["rope"]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn attention() {
    check(&["attention"]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn rows_to_distributions_and_tokens() {
    check(&["soft_max", "argmax", "advance", "loop_condition"]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn sampling() {
    check(&["sample_largest", "sample_cut", "sample_draw"]);
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_row_does_not_depend_on_its_batch() {
    let mut runner = gpu::runner();
    let mut ran = 0;
    let target = runner.cache().target();
    let runs = |case: &Case| case.kernel.runs_on(target);
    for pair in invariances("").filter(|pair| runs(&pair.left) && runs(&pair.right)) {
        pair.run(&mut runner).unwrap_or_else(|failure| panic!("{}: {failure}", pair.name));
        ran += 1;
    }
    assert!(ran > 0);
}

#[test]
#[ignore = "needs a CUDA device"]
fn the_whole_catalogue_compiles_without_local_memory() {
    let runner = gpu::runner();
    let target = runner.cache().target();
    let mut catalogue = kernels::catalogue();
    catalogue.retain(|kernel| kernel.runs_on(target));
    let kernels: Vec<&dyn Kernel> = catalogue.iter().map(AsRef::as_ref).collect();
    let compiled = runner.cache().get_all(&kernels).unwrap_or_else(|error| panic!("{error:?}"));
    let functions: Vec<_> = compiled.iter().map(|kernel| &kernel.function).collect();
    let spilled: Vec<_> = functions
        .iter()
        .filter(|function| function.attributes().local_bytes > 0)
        .map(|function| format!("{}: {} bytes", function.name(), function.attributes().local_bytes))
        .collect();
    assert!(spilled.is_empty(), "kernels with local memory:\n{}", spilled.join("\n"));
    assert_eq!(runner.cache().stats().compiled, kernels.len());
}

/// The tests above name families; this one says that they miss none.
#[test]
fn every_case_belongs_to_a_test() {
    let families = [
        "embed_rows",
        "rms_norm",
        "gemv",
        "residual_projection",
        "gated_projection",
        "head_",
        "greedy_head",
        "gemm",
        "half_rows",
        "prompt_attention",
        "quantize",
        "add",
        "mul",
        "silu",
        "swiglu",
        "copy",
        "stream_read",
        "kv_scatter",
        "rope",
        "attention",
        "soft_max",
        "argmax",
        "advance",
        "loop_condition",
        "sample_largest",
        "sample_cut",
        "sample_draw",
    ];
    let mut seen = std::collections::BTreeSet::new();
    for case in cases("") {
        let family = families.iter().find(|family| case.name.starts_with(**family));
        seen.insert(*family.unwrap_or_else(|| panic!("{} is in no test", case.name)));
    }
    assert_eq!(seen.len(), families.len(), "families with cases: {seen:?}");
}
