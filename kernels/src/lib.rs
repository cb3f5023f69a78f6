//! PTX kernel emitters for transformer decoding, each with a reference.
//!
//! A kernel is a plain struct of compile-time choices that implements [`Kernel`]. Its shape is an immediate of its
//! PTX, so that a launch needs only pointers. Next to each struct stands its reference: the same function in plain
//! Rust with f64 accumulation.
//!
//! | module | kernels |
//! |---|---|
//! | [`embed`] | rows of an embedding table, dequantised |
//! | [`rms_norm`] | root mean square normalisation |
//! | [`gemv`] | weight matrix times activation rows |
//! | [`projection`] | fused projections of a decode step |
//! | [`quantize`] | activations to Q8 |
//! | [`elementwise`] | add, row bias, multiply, SiLU, SwiGLU |
//! | [`copy`] | device-to-device copy |
//! | [`stream_read`] | reads as fast as memory gives: the roof |
//! | [`rope`] | rotary position embedding |
//! | [`kv_scatter`] | new keys or values into the cache |
//! | [`attention`] | grouped-query attention over the cache |
//! | [`soft_max`] | softmax of rows |
//! | [`argmax`] | the greedy token of rows |
//! | [`sample`] | the next token into the state of the next step |
//!
//! [`catalogue`](catalogue()) lists representative kernels for tools that print, assemble or benchmark all of them;
//! [`cases`](cases::cases) lists conformance cases for anything that can run PTX.
//!
//! ```
//! use kernels::{Kernel, Target, ptx_builder, rms_norm::RmsNorm};
//!
//! let norm = RmsNorm::new(1, 2048, 1e-5)?;
//! let ptx = ptx_builder::print(&norm.emit(Target::SM_80)?);
//! assert!(ptx.contains(&format!(".visible .entry {}(", norm.name())));
//!
//! // What a launch needs: a grid, and a pointer for each parameter.
//! assert_eq!(norm.geometry().grid, [1, 1, 1]);
//! let names: Vec<_> = norm.params().iter().map(|param| param.name).collect();
//! assert_eq!(names, ["x", "w", "y"]);
//!
//! // What it should compute, and what it costs at least.
//! assert_eq!(norm.reference(&[1.0; 2048], &[3.0; 2048])[0].round(), 3.0);
//! assert_eq!(norm.cost(0).bytes_read, 2 * 2048 * 4);
//! # Ok::<(), kernels::KernelError>(())
//! ```

pub mod argmax;
pub mod attention;
pub mod blocks;
mod cache;
pub mod cases;
mod catalogue;
pub mod copy;
mod dequant;
pub mod elementwise;
pub mod embed;
mod emit;
mod factor;
pub mod gemv;
mod kernel;
pub mod kv_scatter;
pub mod projection;
pub mod quantize;
pub mod random;
pub mod rms_norm;
pub mod rope;
pub mod sample;
pub mod soft_max;
mod stored;
pub mod stream_read;
mod support;

pub use cache::CacheShape;
pub use catalogue::catalogue;
pub use kernel::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param, shared_memory};

/// Modules and their targets, and all else that signatures here take from their crate.
pub use ptx_builder::{self, Module, Target};
/// The element types of tensors, and all else that signatures here take from their crate.
pub use tensor_formats::{self, ElementType};
