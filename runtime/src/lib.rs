//! Language models from GGUF files on NVIDIA GPUs and CPUs.
//!
//! ```text
//! gguf ─> model ─> (build_step) ─> cpu::CpuDecoder   ┐
//!   └───> tokenizer                cuda::CudaDecoder ┴─ decoder::Decoder ─> generate, evaluate, bench
//! ```
//!
//! A [`model::Model`] is a checked GGUF file. An engine makes a [`decoder::Decoder`] of it: rows of tokens in, logits
//! or next tokens out. Everything above is the same for both engines.

pub mod backend;
pub mod bench;
pub mod cpu;
pub mod cuda;
pub mod decoder;
pub mod doctor;
pub mod embedded;
pub mod engine;
pub mod error;
pub mod evaluate;
pub mod generate;
pub mod gguf;
pub mod model;
pub mod probe;
pub mod random;
pub mod sampling;
pub mod synthetic;
pub mod tokenizer;

#[cfg(test)]
mod fake;

pub use engine::{Activations, EngineOptions};
pub use error::Error;
pub use model::Model;
