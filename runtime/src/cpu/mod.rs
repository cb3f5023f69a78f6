//! The engine without a GPU: quantised weights used in place, SIMD dot products from tensor-formats, rayon.
//!
//! [`CpuBackend`] runs the operations of a tensor graph on borrowed memory. [`CpuDecoder`] owns the memory and the
//! graphs of a model and is a [`Decoder`](crate::decoder::Decoder).

mod attention;
mod backend;
mod decoder;
mod error;
mod memory;
mod ops;

pub use backend::{CpuBackend, Workers};
pub use decoder::CpuDecoder;
pub use error::CpuError;
pub use memory::{Binding, CpuMemory};
