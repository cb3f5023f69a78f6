//! Hyperparameters, from a file's metadata.

use graph::RopeStyle;
use tensor_formats::ElementType;

use super::{ModelError, ModelWeights};
use crate::gguf::{Gguf, Metadata};

/// The model families that are built here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Architecture {
    /// Llama 1 to 3 and what shares their layout: interleaved RoPE, no biases unless the file has them, in all layers.
    Llama,
    /// Qwen2 and Qwen2.5: NeoX RoPE, biases on queries, keys and values.
    Qwen2,
}

impl Architecture {
    /// The name in `general.architecture`, and the prefix of the architecture's metadata keys.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
        }
    }

    /// Which features of a head RoPE pairs up. GGUF files of the llama family have the rows of Q and K permuted so
    /// that pairs are neighbours.
    pub const fn rope_style(self) -> RopeStyle {
        match self {
            Self::Llama => RopeStyle::Interleaved,
            Self::Qwen2 => RopeStyle::NeoX,
        }
    }

    /// The matrices of a layer that have a bias in every model of the family.
    pub(super) const fn biases(self) -> &'static [&'static str] {
        match self {
            Self::Llama => &[],
            Self::Qwen2 => &["attn_q", "attn_k", "attn_v"],
        }
    }

    fn from_metadata(metadata: &Metadata) -> Result<Self, ModelError> {
        match metadata.str("general.architecture")? {
            "llama" => Ok(Self::Llama),
            "qwen2" => Ok(Self::Qwen2),
            other => Err(ModelError::Architecture { found: other.to_owned() }),
        }
    }
}

/// Rotary position embedding: the angle of pair `i` at position `p` is
/// `p / linear_scale * theta^(-2 i / n_rot) / factor_i`, with the factors of `rope_freqs.weight` where a file has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// How the rotated features are paired.
    pub style: RopeStyle,
    /// How many features of a head are rotated: even, at most `head_dim`.
    pub n_rot: usize,
    /// The base of the frequencies.
    pub theta: f32,
    /// What positions are divided by; 1 without linear scaling.
    pub linear_scale: f32,
}

/// The hyperparameters of a model and the weights they name. All counts are at least 1.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// The family.
    pub architecture: Architecture,
    /// Number of layers.
    pub n_layers: usize,
    /// Size of the vocabulary: rows of the embedding table.
    pub n_vocab: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Width of the feed-forward part.
    pub n_ff: usize,
    /// Query heads.
    pub n_heads: usize,
    /// Key and value heads; divides `n_heads`.
    pub n_kv_heads: usize,
    /// Features of a head, of queries, keys and values alike. Not always `n_embd / n_heads`.
    pub head_dim: usize,
    /// Positions that the model was made for.
    pub context_length: usize,
    /// The constant under RMSNorm's root.
    pub rms_eps: f32,
    /// What attention scores are multiplied by.
    pub attention_scale: f32,
    /// Position embedding.
    pub rope: Rope,
    /// Every weight, with type and shape.
    pub weights: ModelWeights,
}

impl ModelConfig {
    /// Columns of a query projection's output: all heads.
    pub fn q_dim(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Columns of a key or value projection's output: all KV heads.
    pub fn kv_dim(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }

    /// Bytes of the KV caches, all layers, keys and values, of values of type `kv`.
    pub fn kv_cache_bytes(&self, kv: ElementType, n_sequences: usize, max_seq: usize) -> u64 {
        let counts = [2, self.n_layers, n_sequences, max_seq, self.kv_dim()];
        counts.into_iter().fold(kv.block_bytes() as u64, |bytes, n| bytes.saturating_mul(n as u64))
    }
}

/// The hyperparameters as the metadata has them, before the tensors are looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hyperparameters {
    pub architecture: Architecture,
    pub n_layers: usize,
    pub n_embd: usize,
    pub n_ff: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub head_dim: usize,
    pub context_length: usize,
    pub rms_eps: f32,
    pub attention_scale: f32,
    pub rope: Rope,
    /// `{arch}.vocab_size`, where a file has it.
    pub vocab_size: Option<usize>,
}

impl Hyperparameters {
    pub fn read(gguf: &Gguf) -> Result<Self, ModelError> {
        let metadata = gguf.metadata();
        let architecture = Architecture::from_metadata(metadata)?;
        let keys = Keys { metadata, architecture };
        refuse_other_files(metadata)?;
        refuse_other_blocks(gguf)?;
        keys.refuse_unsupported()?;

        let n_embd = keys.count("embedding_length")?;
        let n_heads = keys.count("attention.head_count")?;
        let n_kv_heads = keys.opt_count("attention.head_count_kv")?.unwrap_or(n_heads);
        if !n_heads.is_multiple_of(n_kv_heads) {
            return Err(keys.bad(
                "attention.head_count_kv",
                n_kv_heads,
                format!("a divisor of {n_heads} heads"),
            ));
        }
        let head_dim = keys.head_dim(n_embd, n_heads)?;
        let rms_eps = keys.metadata.f32(&keys.key("attention.layer_norm_rms_epsilon"))?;
        if !(rms_eps.is_finite() && rms_eps > 0.0) {
            return Err(keys.bad("attention.layer_norm_rms_epsilon", rms_eps, "a positive number"));
        }
        let scale_key = "attention.scale";
        let attention_scale = match metadata.opt_f32(&keys.key(scale_key))? {
            // 0 is how some files say "the default".
            None | Some(0.0) => (1.0 / (head_dim as f64).sqrt()) as f32,
            Some(scale) if scale.is_finite() && scale > 0.0 => scale,
            Some(scale) => return Err(keys.bad(scale_key, scale, "a positive number")),
        };
        Ok(Self {
            architecture,
            n_layers: keys.count("block_count")?,
            n_embd,
            n_ff: keys.count("feed_forward_length")?,
            n_heads,
            n_kv_heads,
            head_dim,
            context_length: keys.count("context_length")?,
            rms_eps,
            attention_scale,
            rope: keys.rope(head_dim)?,
            vocab_size: keys.opt_count("vocab_size")?,
        })
    }
}

/// Files that are GGUF, but no whole model.
fn refuse_other_files(metadata: &Metadata) -> Result<(), ModelError> {
    if let Some(kind) = metadata.opt_str("general.type")?
        && kind != "model"
    {
        return Err(ModelError::NotAModel { found: format!("general.type {kind:?}") });
    }
    match metadata.opt_u32("split.count")? {
        Some(count) if count > 1 => {
            Err(ModelError::NotAModel { found: format!("one of {count} parts of a model") })
        }
        _ => Ok(()),
    }
}

/// Quantised blocks whose layout is not the one that is read here. What is not quantised has no such version.
fn refuse_other_blocks(gguf: &Gguf) -> Result<(), ModelError> {
    const VERSION: u32 = 2;
    let key = "general.quantization_version";
    let quantised = || gguf.tensors().iter().any(|tensor| tensor.ty.is_ok_and(|ty| ty.is_quantised()));
    match gguf.metadata().opt_u32(key)? {
        Some(version) if version != VERSION && quantised() => Err(ModelError::Unsupported {
            feature: "this version of quantised blocks",
            key: key.to_owned(),
            value: version.to_string(),
        }),
        _ => Ok(()),
    }
}

/// The metadata under an architecture's prefix.
struct Keys<'a> {
    metadata: &'a Metadata,
    architecture: Architecture,
}

impl Keys<'_> {
    fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.architecture.name())
    }

    fn bad(&self, suffix: &str, value: impl ToString, expected: impl Into<String>) -> ModelError {
        ModelError::Hyperparameter {
            key: self.key(suffix),
            value: value.to_string(),
            expected: expected.into(),
        }
    }

    /// A count that must be there.
    fn count(&self, suffix: &str) -> Result<usize, ModelError> {
        let value = self.metadata.u32(&self.key(suffix))?;
        if value == 0 { Err(self.bad(suffix, value, "at least 1")) } else { Ok(value as usize) }
    }

    fn opt_count(&self, suffix: &str) -> Result<Option<usize>, ModelError> {
        match self.metadata.opt_u32(&self.key(suffix))? {
            Some(0) => Err(self.bad(suffix, 0, "at least 1")),
            value => Ok(value.map(|v| v as usize)),
        }
    }

    /// The size of a head: from the metadata, and only without it the width divided by the heads.
    fn head_dim(&self, n_embd: usize, n_heads: usize) -> Result<usize, ModelError> {
        let (k, v) = ("attention.key_length", "attention.value_length");
        let default = || {
            if n_embd.is_multiple_of(n_heads) {
                Ok(n_embd / n_heads)
            } else {
                Err(self.bad("attention.head_count", n_heads, format!("a divisor of the width {n_embd}")))
            }
        };
        let key_length = self.opt_count(k)?;
        let value_length = self.opt_count(v)?;
        let head_dim = key_length.map_or_else(default, Ok)?;
        let value_dim = value_length.map_or_else(default, Ok)?;
        if head_dim != value_dim {
            return Err(ModelError::Unsupported {
                feature: "a value head of another size than the key head",
                key: self.key(v),
                value: format!("{value_dim}, {} = {head_dim}", self.key(k)),
            });
        }
        Ok(head_dim)
    }

    fn rope(&self, head_dim: usize) -> Result<Rope, ModelError> {
        let (base, count) = ("rope.freq_base", "rope.dimension_count");
        let theta = self.metadata.opt_f32(&self.key(base))?.unwrap_or(10_000.0);
        if !(theta.is_finite() && theta > 0.0) {
            return Err(self.bad(base, theta, "a positive number"));
        }
        let n_rot = self.opt_count(count)?.unwrap_or(head_dim);
        if n_rot > head_dim || !n_rot.is_multiple_of(2) {
            return Err(self.bad(count, n_rot, format!("even and at most the head's {head_dim}")));
        }
        Ok(Rope { style: self.architecture.rope_style(), n_rot, theta, linear_scale: self.linear_scale()? })
    }

    /// What positions are divided by.
    fn linear_scale(&self) -> Result<f32, ModelError> {
        let (ty, factor, legacy) = ("rope.scaling.type", "rope.scaling.factor", "rope.scale_linear");
        let kind = self.metadata.opt_str(&self.key(ty))?;
        let (suffix, value) = match self.metadata.opt_f32(&self.key(factor))? {
            Some(value) => (factor, Some(value)),
            None => (legacy, self.metadata.opt_f32(&self.key(legacy))?),
        };
        match kind {
            // A factor without a type scales linearly.
            Some("linear") | None => match value {
                // 0 is how some files say "none".
                None | Some(0.0) => Ok(1.0),
                Some(value) if value.is_finite() && value > 0.0 => Ok(value),
                Some(value) => Err(self.bad(suffix, value, "a positive number")),
            },
            Some("none") => Ok(1.0),
            Some(other) => Err(ModelError::Unsupported {
                feature: "this kind of RoPE scaling",
                key: self.key(ty),
                value: format!("{other:?}"),
            }),
        }
    }

    /// Features that change what a model computes and that no operation here expresses. Each is off when the key is
    /// missing, zero or false.
    fn refuse_unsupported(&self) -> Result<(), ModelError> {
        use crate::gguf::Value;
        const FEATURES: [(&str, &str); 10] = [
            ("expert_count", "a mixture of experts"),
            ("attention.sliding_window", "sliding-window attention"),
            ("attn_logit_softcapping", "a soft cap on attention scores"),
            ("final_logit_softcapping", "a soft cap on logits"),
            ("attention.clamp_kqv", "clamped projections"),
            ("attention.max_alibi_bias", "ALiBi position biases"),
            ("use_parallel_residual", "parallel residual blocks"),
            ("logit_scale", "scaled logits"),
            ("residual_scale", "scaled residuals"),
            ("embedding_scale", "scaled embeddings"),
        ];
        for (suffix, feature) in FEATURES {
            let key = self.key(suffix);
            let Some(value) = self.metadata.get(&key) else { continue };
            let off = match value {
                Value::Bool(on) => !on,
                Value::F32(v) => *v == 0.0,
                Value::F64(v) => *v == 0.0,
                other => other.as_unsigned() == Some(0),
            };
            if !off {
                return Err(ModelError::Unsupported { feature, key, value: self.metadata.display(value) });
            }
        }
        let attention = self.key("rope.scaling.attn_factor");
        if let Some(value) = self.metadata.opt_f32(&attention)?.filter(|value| ![0.0, 1.0].contains(value)) {
            let feature = "a factor of rotated features";
            return Err(ModelError::Unsupported { feature, key: attention, value: value.to_string() });
        }
        let causal = self.key("attention.causal");
        if self.metadata.opt_bool(&causal)? == Some(false) {
            let feature = "attention to later positions";
            return Err(ModelError::Unsupported { feature, key: causal, value: "false".to_owned() });
        }
        let eps = self.key("attention.layer_norm_epsilon");
        if let Some(value) = self.metadata.get(&eps) {
            let feature = "LayerNorm (RMSNorm is)";
            return Err(ModelError::Unsupported { feature, key: eps, value: self.metadata.display(value) });
        }
        Ok(())
    }
}
