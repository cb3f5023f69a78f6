//! Conformance cases: a kernel, the bytes its parameters point to, and what has to be there afterwards.
//!
//! A case runs on anything that can run PTX ([`PtxRunner`]). Whatever a check does not cover must be bit for bit
//! what it was: inputs, the parts of a cache that a row must not touch, and [`GUARD_BYTES`] after every extent.

mod case;
mod check;
mod equivalent;
mod interpreter;
mod invariance;
mod mutants;

use ptx_builder::Target;

use crate::Kernel;

pub use case::{Case, CaseReport};
pub use check::{CaseFailure, Check, Expect, Mismatch};
pub use interpreter::{Interpreter, InterpreterError};
pub use invariance::Invariance;
pub use mutants::{Subject, Survey, Verdict, family};

/// The byte that fills outputs and guards: as an f32 it is a NaN, so that what nobody wrote spoils every sum.
pub const POISON: u8 = 0xff;

/// Bytes after the extent of every parameter that no kernel may write.
pub const GUARD_BYTES: usize = 256;

/// The relative L2 error that f32 kernels may have against f64 accumulation.
pub const F32_BOUND: f64 = 1e-5;

/// Something that runs PTX kernels.
pub trait PtxRunner {
    /// Why a launch failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// The target that kernels are emitted for.
    fn target(&self) -> Target;

    /// Emits `kernel` for [`target`](Self::target), launches it once with its
    /// [`geometry`](Kernel::geometry) and waits for it.
    ///
    /// `arguments[i]` is the index in `buffers` of what parameter `i` points to: the start of that buffer, aligned to
    /// at least 256 bytes. Two parameters share a buffer when the kernel runs in place. Every buffer holds on
    /// return what the launch left in it.
    ///
    /// # Errors
    /// If the kernel cannot be emitted, loaded or launched, or faults.
    fn run(
        &mut self,
        kernel: &dyn Kernel,
        buffers: &mut [&mut [u8]],
        arguments: &[usize],
    ) -> Result<(), Self::Error>;
}

/// The invariances whose name contains `filter` (all if it is empty).
pub fn invariances(filter: &str) -> impl Iterator<Item = Invariance> {
    let families: [fn() -> Vec<Invariance>; 4] = [
        crate::rms_norm::invariances,
        crate::gemv::invariances,
        crate::projection::invariances,
        crate::attention::invariances,
    ];
    families.into_iter().flat_map(|family| family()).filter(move |pair| pair.name.contains(filter))
}

/// Kernels whose cases are built together.
struct Family {
    /// What the names of its cases begin with.
    stems: &'static [&'static str],
    cases: fn() -> Vec<Case>,
}

const FAMILIES: [Family; 16] = [
    Family { stems: &["embed"], cases: crate::embed::cases },
    Family { stems: &["rms_norm"], cases: crate::rms_norm::cases },
    Family { stems: &["gemv"], cases: crate::gemv::cases },
    Family {
        stems: &["residual_projection", "gated_projection", "head", "greedy_head", "attention_input"],
        cases: crate::projection::cases,
    },
    Family { stems: &["gemm", "half_rows"], cases: crate::projection::gemm_cases },
    Family { stems: &["quantize"], cases: crate::quantize::cases },
    Family { stems: &["add", "mul", "silu", "swiglu"], cases: crate::elementwise::cases },
    Family { stems: &["copy"], cases: crate::copy::cases },
    Family { stems: &["stream_read"], cases: crate::stream_read::cases },
    Family { stems: &["rope"], cases: crate::rope::cases },
    Family { stems: &["kv_scatter"], cases: crate::kv_scatter::cases },
    Family { stems: &["attention_f", "attention_bf", "attention_e"], cases: crate::attention::cases },
    Family { stems: &["prompt_attention"], cases: crate::attention::prompt_cases },
    Family { stems: &["soft_max"], cases: crate::soft_max::cases },
    Family { stems: &["argmax"], cases: crate::argmax::cases },
    Family { stems: &["sample", "advance", "loop_condition"], cases: crate::sample::cases },
];

impl Family {
    fn has(&self, case: &Case) -> bool {
        self.stems.iter().any(|stem| case.name.starts_with(stem))
    }

    /// Does the filter begin as the names of its cases do, or they as the filter?
    fn is_named(&self, filter: &str) -> bool {
        !filter.is_empty()
            && self.stems.iter().any(|stem| stem.starts_with(filter) || filter.starts_with(stem))
    }
}

/// Every case's name begins with one of these.
pub fn stems() -> impl Iterator<Item = &'static str> {
    FAMILIES.into_iter().flat_map(|family| family.stems).copied()
}

/// The conformance cases whose name contains `filter` (all if it is empty), built family by family as they are
/// asked for. Of a filter that begins as the names of families do, only those families are looked at: most of a case is
/// its reference.
pub fn cases(filter: &str) -> impl Iterator<Item = Case> {
    cases_of(&[filter])
}

/// The cases that [`cases`] gives for any of the filters, each once.
pub fn cases_of<'a>(filters: &[&'a str]) -> impl Iterator<Item = Case> + use<'a> {
    let filters = filters.to_vec();
    let names_a_family: Vec<bool> =
        filters.iter().map(|filter| FAMILIES.iter().any(|family| family.is_named(filter))).collect();
    FAMILIES.into_iter().flat_map(move |family| {
        let here: Vec<&str> = filters
            .iter()
            .zip(&names_a_family)
            .filter(|(filter, elsewhere)| family.is_named(filter) || !**elsewhere)
            .map(|(filter, _)| *filter)
            .collect();
        let mut cases = if here.is_empty() { Vec::new() } else { (family.cases)() };
        debug_assert!(cases.iter().all(|case| family.has(case)), "a stem of {:?} is missing", family.stems);
        cases.retain(|case| here.iter().any(|filter| case.name.contains(filter)));
        cases
    })
}
