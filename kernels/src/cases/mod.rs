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

/// The conformance cases whose name contains `filter` (all if it is empty), built family by family as they are
/// asked for.
pub fn cases(filter: &str) -> impl Iterator<Item = Case> {
    let families: [fn() -> Vec<Case>; 14] = [
        crate::embed::cases,
        crate::rms_norm::cases,
        crate::gemv::cases,
        crate::projection::cases,
        crate::quantize::cases,
        crate::elementwise::cases,
        crate::copy::cases,
        crate::stream_read::cases,
        crate::rope::cases,
        crate::kv_scatter::cases,
        crate::attention::cases,
        crate::soft_max::cases,
        crate::argmax::cases,
        crate::sample::cases,
    ];
    families.into_iter().flat_map(|family| family()).filter(move |case| case.name.contains(filter))
}
