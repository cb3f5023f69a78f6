//! Language models from GGUF files on NVIDIA GPUs and CPUs.
//!
//! ```text
//! gguf ─> model ─> (build_step) ─> cpu::CpuDecoder   ┐
//!   └───> tokenizer                cuda::CudaDecoder ┴─ decoder::Decoder ─> generate, evaluate, bench
//! ```
//!
//! A [`model::Model`] is a checked GGUF file. An engine makes a [`decoder::Decoder`] of it: rows of tokens in, logits
//! or next tokens out. Everything above is the same for both engines.
//!
//! ```
//! use runtime::backend::{self, BackendRequest};
//! use runtime::generate::{GenerateOptions, Generator};
//! use runtime::tokenizer::Tokenizer;
//! use runtime::{EngineOptions, Error, Model};
//!
//! let model = Model::embedded()?;
//! let tokenizer = Tokenizer::for_model(&model)?;
//! let options = EngineOptions::for_model(model.config());
//! let choice = backend::choose(BackendRequest::Auto, &model, &options)?;
//! let mut decoder = backend::open(&choice, &model, &options)?;
//!
//! let prompt = tokenizer.encode("Q: 128 + 45 = A:")?;
//! let greedy = GenerateOptions { end_tokens: tokenizer.end_tokens().to_vec(), ..GenerateOptions::greedy(20) };
//! let ids = Generator::new(decoder.as_mut(), &prompt, greedy)?.collect::<Result<Vec<u32>, Error>>()?;
//! assert_eq!(tokenizer.decode(&ids)?, " 173\n");
//! # Ok::<(), Error>(())
//! ```
//!
//! | module | what |
//! | --- | --- |
//! | [`gguf`] | files: a reader that trusts nothing, a writer |
//! | [`model`] | hyperparameters, checked weights, the graph of a step |
//! | [`tokenizer`] | byte-level BPE |
//! | [`decoder`], [`engine`] | what both engines are and what they are made with |
//! | [`cpu`], [`cuda`], [`backend`] | the engines, and which of them is used |
//! | [`generate`], [`sampling`], [`random`] | tokens from a prompt |
//! | [`evaluate`], [`distance`] | losses of given tokens, and how far two engines are apart |
//! | [`embedded`], [`synthetic`] | models that need no file |
//! | [`mod@bench`], [`startup`], [`doctor`], [`probe`] | speed, and what the machine has |

pub mod backend;
pub mod bench;
pub mod compare;
pub mod cpu;
mod cpu_time;
pub mod cuda;
pub mod decoder;
pub mod distance;
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
pub mod roofline;
pub mod sampling;
pub mod startup;
pub mod synthetic;
pub mod tokenizer;

#[cfg(test)]
mod fake;

pub use engine::{Activations, EngineOptions};
pub use error::Error;
pub use model::Model;
