//! From a GGUF file to a model: hyperparameters, checked weights, and the graph of a decode step.

mod config;
mod error;
mod rope;
mod step;
mod weights;

#[cfg(test)]
mod tests;

use std::path::Path;

pub use config::{Architecture, ModelConfig, Rope};
pub use error::ModelError;
pub use step::{StepGraph, StepShape, build_step};
use tensor_formats::dequantize_row;
pub use weights::{LayerWeights, Linear, ModelWeights, Weight};

use crate::error::Error;
use crate::gguf::{Gguf, GgufError};
use crate::startup::phase;

/// A model: the file, and what was read from it. Cloning shares the file's bytes.
#[derive(Debug, Clone)]
pub struct Model {
    gguf: Gguf,
    config: ModelConfig,
    name: String,
}

impl Model {
    /// Opens a GGUF file and checks that it holds a model of a supported architecture, whole and with nothing else.
    ///
    /// # Errors
    /// A file that cannot be read or is damaged; an architecture, feature or tensor type that is not supported; a
    /// tensor that is missing, misshapen or not used.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let _phase = phase!("model file").entered();
        let path = path.as_ref();
        let mut model = Self::from_gguf(Gguf::open(path)?)?;
        if model.gguf.metadata().opt_str("general.name")?.is_none()
            && let Some(stem) = path.file_stem()
        {
            model.name = stem.to_string_lossy().into_owned();
        }
        Ok(model)
    }

    /// The model in an open file.
    ///
    /// # Errors
    /// As [`open`](Self::open), but for the file itself.
    pub fn from_gguf(gguf: Gguf) -> Result<Self, ModelError> {
        let hyperparameters = config::Hyperparameters::read(&gguf)?;
        let (weights, n_vocab) = weights::Loader::load(&gguf, &hyperparameters)?;
        let h = hyperparameters;
        let config = ModelConfig {
            architecture: h.architecture,
            n_layers: h.n_layers,
            n_vocab,
            n_embd: h.n_embd,
            n_ff: h.n_ff,
            n_heads: h.n_heads,
            n_kv_heads: h.n_kv_heads,
            head_dim: h.head_dim,
            context_length: h.context_length,
            rms_eps: h.rms_eps,
            attention_scale: h.attention_scale,
            rope: h.rope,
            weights,
        };
        let name = gguf.metadata().opt_str("general.name")?.unwrap_or("unnamed model").to_owned();
        let model = Self { gguf, config, name };
        // The factors are data, and wrong ones should not wait for a decoder to be found.
        rope::table(&model.config.rope, model.rope_factors()?.as_deref(), 1)?;
        Ok(model)
    }

    /// The hyperparameters and the list of weights.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// The file.
    pub fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    /// The model's name, from the metadata or the file.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The bytes of a tensor, in place in the file.
    ///
    /// # Errors
    /// The file has no tensor of that name.
    pub fn tensor_bytes(&self, name: &str) -> Result<&[u8], GgufError> {
        self.gguf.tensor_bytes(name)
    }

    /// The RoPE table for the first `max_seq` positions, `[max_seq, n_rot / 2, 2]` of (cosine, sine).
    ///
    /// # Errors
    /// A frequency factor of the file that is no positive number, or a table beyond memory.
    pub fn rope_table(&self, max_seq: usize) -> Result<Vec<f32>, ModelError> {
        Ok(rope::table(&self.config.rope, self.rope_factors()?.as_deref(), max_seq)?)
    }

    /// Number of parameters.
    pub fn parameters(&self) -> u64 {
        self.config.weights.iter().map(|w| w.dims.iter().map(|&d| d as u64).product::<u64>()).sum()
    }

    /// Bytes of weights that a step of one row has to read: everything, but of the embedding table one row, unless
    /// the table is also the head.
    pub fn bytes_per_token(&self) -> u64 {
        let weights = &self.config.weights;
        let size = |name: &str| self.gguf.tensor(name).and_then(|t| t.byte_len()).unwrap_or(0) as u64;
        let all: u64 = weights.iter().map(|weight| size(&weight.name)).sum();
        if weights.output.is_none() {
            return all;
        }
        let table = size(&weights.token_embd.name);
        all - table + table / self.config.n_vocab as u64
    }

    /// The first weight with a value that is not finite, which is what to look for where logits are no numbers. This
    /// reads the whole model.
    pub fn broken_weight(&self) -> Option<&Weight> {
        self.config.weights.iter().find(|weight| {
            let mut row = vec![0.0; weight.dims.last().copied().unwrap_or(0)];
            let (Ok(bytes), Ok(row_bytes)) =
                (self.tensor_bytes(&weight.name), weight.ty.row_bytes(row.len()))
            else {
                return false;
            };
            bytes.chunks_exact(row_bytes).any(|bytes| {
                dequantize_row(weight.ty, bytes, &mut row).is_ok() && !row.iter().all(|x| x.is_finite())
            })
        })
    }

    fn rope_factors(&self) -> Result<Option<Vec<f32>>, ModelError> {
        let Some(weight) = &self.config.weights.rope_freqs else { return Ok(None) };
        let bytes = self.gguf.tensor_bytes(&weight.name)?;
        Ok(Some(bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect()))
    }
}
