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
//! | [`quantize`] | activations to Q8 |
//! | [`elementwise`] | add, row bias, multiply, SiLU, SwiGLU |
//! | [`copy`] | device-to-device copy |
//! | [`rope`] | rotary position embedding |
//! | [`kv_scatter`] | new keys or values into the cache |
//! | [`attention`] | grouped-query attention over the cache |
//! | [`soft_max`] | softmax of rows |
//! | [`argmax`] | the greedy token of rows |
//!
//! [`catalogue`](catalogue()) lists representative kernels for tools that print, assemble or benchmark all of them;
//! [`cases`](cases::cases) lists conformance cases for anything that can run PTX.

pub mod argmax;
pub mod attention;
pub mod blocks;
pub mod cases;
mod cache;
mod catalogue;
pub mod copy;
mod dequant;
pub mod elementwise;
pub mod embed;
mod emit;
pub mod gemv;
mod kernel;
pub mod kv_scatter;
pub mod quantize;
pub mod random;
pub mod rms_norm;
pub mod rope;
pub mod soft_max;
mod support;

pub use cache::CacheShape;
pub use catalogue::catalogue;
pub use kernel::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};
