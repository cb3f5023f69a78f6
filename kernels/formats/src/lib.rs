//! Tensor element types and GGUF block formats: geometry, quantisation, dot products.

mod element;
mod error;
pub mod q8_act;

pub use element::{ElementType, ggml_name};
pub use error::FormatError;
