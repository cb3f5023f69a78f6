//! The weights of a model: which tensors it needs, of which shape and type, and that the file holds no others.

use std::collections::HashSet;

use tensor_formats::ElementType;

use super::ModelError;
use super::config::Hyperparameters;
use crate::gguf::Gguf;

/// A tensor of the file that the model uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Weight {
    /// The tensor's name in the file.
    pub name: String,
    /// Its type.
    pub ty: ElementType,
    /// Its shape, outermost first: `[out_features, in_features]` or `[features]`.
    pub dims: Vec<usize>,
}

/// A matrix `[out_features, in_features]`, with a bias `[out_features]` where the model has one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Linear {
    /// The matrix.
    pub weight: Weight,
    /// What is added to its product.
    pub bias: Option<Weight>,
}

/// The weights of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // the names are those of the tensors
pub struct LayerWeights {
    pub attn_norm: Weight,
    pub attn_q: Linear,
    pub attn_k: Linear,
    pub attn_v: Linear,
    pub attn_output: Linear,
    pub ffn_norm: Weight,
    pub ffn_gate: Linear,
    pub ffn_up: Linear,
    pub ffn_down: Linear,
}

/// The weights of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelWeights {
    /// The embedding table `[n_vocab, n_embd]`.
    pub token_embd: Weight,
    /// The layers, first to last.
    pub layers: Vec<LayerWeights>,
    /// The last norm `[n_embd]`.
    pub output_norm: Weight,
    /// The language model head `[n_vocab, n_embd]`; `None` where the embedding table serves as such (tied).
    pub output: Option<Linear>,
    /// RoPE frequency factors `[n_rot / 2]`, folded into the RoPE table by the host.
    pub rope_freqs: Option<Weight>,
}

impl Linear {
    fn iter(&self) -> impl Iterator<Item = &Weight> {
        std::iter::once(&self.weight).chain(&self.bias)
    }
}

impl LayerWeights {
    /// Every weight of the layer.
    pub fn iter(&self) -> impl Iterator<Item = &Weight> {
        let norms = [&self.attn_norm, &self.ffn_norm].into_iter();
        let attention = [&self.attn_q, &self.attn_k, &self.attn_v, &self.attn_output];
        let feed_forward = [&self.ffn_gate, &self.ffn_up, &self.ffn_down];
        norms.chain(attention.into_iter().chain(feed_forward).flat_map(Linear::iter))
    }
}

impl ModelWeights {
    /// Every weight of the model, once.
    pub fn iter(&self) -> impl Iterator<Item = &Weight> {
        let first = std::iter::once(&self.token_embd).chain(&self.rope_freqs);
        let layers = self.layers.iter().flat_map(LayerWeights::iter);
        let last = std::iter::once(&self.output_norm).chain(self.output.iter().flat_map(Linear::iter));
        first.chain(layers).chain(last)
    }

    /// The matrix that makes logits: the head, or the embedding table where there is none.
    pub fn head(&self) -> &Weight {
        self.output.as_ref().map_or(&self.token_embd, |output| &output.weight)
    }
}

/// Takes the tensors of a file one by one.
pub(super) struct Loader<'a> {
    gguf: &'a Gguf,
    taken: HashSet<&'a str>,
    /// The matrices of layers that have biases, such as `attn_q`: those of the architecture, and what any layer has a
    /// bias of. A layer without it has lost it.
    biased: HashSet<&'a str>,
}

impl<'a> Loader<'a> {
    /// The model's weights, and the size of its vocabulary.
    pub fn load(gguf: &'a Gguf, h: &Hyperparameters) -> Result<(ModelWeights, usize), ModelError> {
        let named = gguf.tensors().iter().filter_map(|tensor| {
            let (_, part) = tensor.name.strip_prefix("blk.")?.strip_suffix(".bias")?.split_once('.')?;
            Some(part)
        });
        let biased = named.chain(h.architecture.biases().iter().copied()).collect();
        let mut loader = Self { gguf, taken: HashSet::new(), biased };
        let table = "token_embd.weight";
        let n_vocab = match (gguf.tensor(table).map(|t| t.dims.as_slice()), h.vocab_size) {
            (Some(&[n_vocab, _]), None) => n_vocab,
            (_, Some(n_vocab)) => n_vocab,
            (Some(found), None) => {
                let (name, found) = (table.to_owned(), found.to_owned());
                return Err(ModelError::Shape { name, expected: vec![found[0], h.n_embd], found });
            }
            (None, None) => {
                return Err(ModelError::MissingTensor { name: table.to_owned(), dims: vec![0, h.n_embd] });
            }
        };
        let token_embd = loader.matrix(table, n_vocab, h.n_embd)?;
        let output = match gguf.tensor("output.weight") {
            Some(_) => {
                let biased = gguf.tensor("output.bias").is_some();
                Some(loader.linear("output", n_vocab, h.n_embd, biased)?)
            }
            None => None,
        };
        let weights = ModelWeights {
            token_embd,
            output,
            output_norm: loader.vector("output_norm.weight", h.n_embd)?,
            rope_freqs: match gguf.tensor("rope_freqs.weight") {
                Some(_) => Some(loader.vector("rope_freqs.weight", h.rope.n_rot / 2)?),
                None => None,
            },
            // The count is the file's word; a layer that is missing ends the loop before memory does.
            layers: (0..h.n_layers).map(|layer| loader.layer(layer, h)).collect::<Result<_, _>>()?,
        };
        loader.finish(h)?;
        Ok((weights, n_vocab))
    }

    fn layer(&mut self, layer: usize, h: &Hyperparameters) -> Result<LayerWeights, ModelError> {
        let (q_dim, kv_dim) = (dim(h.n_heads, h.head_dim), dim(h.n_kv_heads, h.head_dim));
        let norm = |loader: &mut Self, part| loader.vector(&format!("blk.{layer}.{part}.weight"), h.n_embd);
        let linear = |loader: &mut Self, part, out_features, in_features| {
            let biased = loader.biased.contains(part);
            loader.linear(&format!("blk.{layer}.{part}"), out_features, in_features, biased)
        };
        Ok(LayerWeights {
            attn_norm: norm(self, "attn_norm")?,
            attn_q: linear(self, "attn_q", q_dim, h.n_embd)?,
            attn_k: linear(self, "attn_k", kv_dim, h.n_embd)?,
            attn_v: linear(self, "attn_v", kv_dim, h.n_embd)?,
            attn_output: linear(self, "attn_output", h.n_embd, q_dim)?,
            ffn_norm: norm(self, "ffn_norm")?,
            ffn_gate: linear(self, "ffn_gate", h.n_ff, h.n_embd)?,
            ffn_up: linear(self, "ffn_up", h.n_ff, h.n_embd)?,
            ffn_down: linear(self, "ffn_down", h.n_embd, h.n_ff)?,
        })
    }

    fn linear(
        &mut self,
        name: &str,
        out_features: usize,
        in_features: usize,
        biased: bool,
    ) -> Result<Linear, ModelError> {
        let weight = self.matrix(&format!("{name}.weight"), out_features, in_features)?;
        let bias = if biased { Some(self.vector(&format!("{name}.bias"), out_features)?) } else { None };
        Ok(Linear { weight, bias })
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize) -> Result<Weight, ModelError> {
        self.take(name, &[rows, cols])
    }

    /// A vector, which is kept in f32 in every file.
    fn vector(&mut self, name: &str, features: usize) -> Result<Weight, ModelError> {
        let weight = self.take(name, &[features])?;
        if weight.ty != ElementType::F32 {
            let (found, expected) = (weight.ty, ElementType::F32);
            return Err(ModelError::TensorType { name: weight.name, found, expected });
        }
        Ok(weight)
    }

    fn take(&mut self, name: &str, dims: &[usize]) -> Result<Weight, ModelError> {
        let Some(tensor) = self.gguf.tensor(name) else {
            return Err(ModelError::MissingTensor { name: name.to_owned(), dims: dims.to_vec() });
        };
        let ty = tensor.ty.map_err(|source| ModelError::TensorFormat { name: name.to_owned(), source })?;
        if tensor.dims != dims {
            let (found, expected) = (tensor.dims.clone(), dims.to_vec());
            return Err(ModelError::Shape { name: name.to_owned(), found, expected });
        }
        self.taken.insert(&tensor.name);
        Ok(Weight { name: name.to_owned(), ty, dims: dims.to_vec() })
    }

    /// Refuses a file with a tensor that nothing took.
    fn finish(self, h: &Hyperparameters) -> Result<(), ModelError> {
        let left =
            self.gguf.tensors().iter().map(|t| t.name.as_str()).filter(|name| !self.taken.contains(name));
        let names: Vec<String> = left.map(str::to_owned).collect();
        if names.is_empty() {
            return Ok(());
        }
        Err(ModelError::Unconsumed { architecture: h.architecture.name(), names })
    }
}

/// A product of two counts of the metadata, each below 2^32.
fn dim(heads: usize, head_dim: usize) -> usize {
    heads.saturating_mul(head_dim)
}
