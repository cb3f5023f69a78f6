//! The shapes of known models, and which tensor has which type.

use std::fmt;
use std::str::FromStr;

use tensor_formats::ElementType;

use crate::model::Architecture;

/// A known model's shape.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Preset {
    /// Two layers of llama, width 256.
    Tiny,
    /// Two layers of qwen2, width 256.
    TinyQwen2,
    /// Llama 3.2 1B.
    Llama32_1B,
    /// Llama 3.1 8B.
    Llama31_8B,
    /// Llama 3.1 70B.
    Llama31_70B,
    /// Qwen 2.5 1.5B.
    Qwen25_1_5B,
    /// Qwen 2.5 7B.
    Qwen25_7B,
}

/// Which types the tensors have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quant {
    /// llama.cpp's mix Q4_K_M: Q4_K with Q6_K for the head and for half of the value and down projections; the other values
    /// of a 70B are Q5_K.
    Q4KM,
    /// Q4_K throughout.
    Q4K,
    /// Q5_K throughout.
    Q5K,
    /// Q4_0 throughout.
    Q4_0,
    /// Q8_0 throughout.
    Q8_0,
    /// F16 throughout.
    F16,
    /// BF16 throughout.
    BF16,
    /// F32 throughout.
    F32,
}

impl Preset {
    /// Every preset.
    pub const ALL: [Self; 7] = [
        Self::Tiny,
        Self::TinyQwen2,
        Self::Llama32_1B,
        Self::Llama31_8B,
        Self::Llama31_70B,
        Self::Qwen25_1_5B,
        Self::Qwen25_7B,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tiny => "tiny",
            Self::TinyQwen2 => "tiny-qwen2",
            Self::Llama32_1B => "llama-3.2-1b",
            Self::Llama31_8B => "llama-3.1-8b",
            Self::Llama31_70B => "llama-3.1-70b",
            Self::Qwen25_1_5B => "qwen2.5-1.5b",
            Self::Qwen25_7B => "qwen2.5-7b",
        }
    }
}

impl Quant {
    /// Every mix.
    pub const ALL: [Self; 8] =
        [Self::Q4KM, Self::Q4K, Self::Q5K, Self::Q4_0, Self::Q8_0, Self::F16, Self::BF16, Self::F32];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q4KM => "q4_k_m",
            Self::Q4K => "q4_k",
            Self::Q5K => "q5_k",
            Self::Q4_0 => "q4_0",
            Self::Q8_0 => "q8_0",
            Self::F16 => "f16",
            Self::BF16 => "bf16",
            Self::F32 => "f32",
        }
    }

    const fn base(self) -> ElementType {
        match self {
            Self::Q4KM | Self::Q4K => ElementType::Q4_K,
            Self::Q5K => ElementType::Q5_K,
            Self::Q4_0 => ElementType::Q4_0,
            Self::Q8_0 => ElementType::Q8_0,
            Self::F16 => ElementType::F16,
            Self::BF16 => ElementType::BF16,
            Self::F32 => ElementType::F32,
        }
    }
}

impl fmt::Display for Preset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Display for Quant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Preset {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL
            .into_iter()
            .find(|p| p.name() == name)
            .ok_or_else(|| format!("known presets are {}", known()))
    }
}

impl FromStr for Quant {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|q| q.name() == name).ok_or_else(|| format!("known mixes are {}", known()))
    }
}

/// The numbers of a preset.
#[derive(Debug, Clone, Copy)]
pub(super) struct ModelShape {
    pub architecture: Architecture,
    pub n_layers: usize,
    pub n_embd: usize,
    pub n_heads: usize,
    pub n_kv_heads: usize,
    pub n_ff: usize,
    pub n_vocab: usize,
    pub context_length: usize,
    pub rope_theta: f32,
    pub rms_eps: f32,
    pub tied: bool,
    /// Standard deviation of the matrices' weights: less for wider models, so that activations keep their size.
    pub std: f32,
    /// What Llama 3 slows its low frequencies by; its files have `rope_freqs.weight`.
    pub rope_factor: Option<f32>,
}

impl ModelShape {
    pub fn head_dim(&self) -> usize {
        self.n_embd / self.n_heads
    }
}

/// What fills a tensor.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    /// Weights of mean 0.
    Matrix { std: f32 },
    /// Around 1.
    Norm,
    /// Around 0, and large enough that leaving one out is noticed.
    Bias,
    /// Llama 3's frequency factors.
    RopeFactors { theta: f32, factor: f32 },
}

/// A tensor to be made.
#[derive(Debug, Clone)]
pub(super) struct TensorPlan {
    pub name: String,
    pub ty: ElementType,
    pub dims: Vec<usize>,
    pub kind: Kind,
}

/// Queries and keys are larger, so that attention is not flat.
const QUERY_KEY_GAIN: f32 = 1.5;

impl Preset {
    pub(super) const fn shape(self) -> ModelShape {
        let tiny = ModelShape {
            architecture: Architecture::Llama,
            n_layers: 2,
            n_embd: 256,
            n_heads: 4,
            n_kv_heads: 2,
            n_ff: 512,
            n_vocab: 512,
            context_length: 4096,
            rope_theta: 1e4,
            rms_eps: 1e-5,
            tied: false,
            std: 0.06,
            rope_factor: None,
        };
        let llama3 = ModelShape {
            n_kv_heads: 8,
            n_heads: 32,
            n_vocab: 128_256,
            context_length: 131_072,
            rope_theta: 5e5,
            ..tiny
        };
        let qwen25 = ModelShape {
            architecture: Architecture::Qwen2,
            n_layers: 28,
            context_length: 32_768,
            rope_theta: 1e6,
            rms_eps: 1e-6,
            ..tiny
        };
        match self {
            Self::Tiny => tiny,
            Self::TinyQwen2 => ModelShape {
                architecture: Architecture::Qwen2,
                tied: true,
                rope_theta: 1e6,
                rms_eps: 1e-6,
                ..tiny
            },
            Self::Llama32_1B => ModelShape {
                n_layers: 16,
                n_embd: 2048,
                n_ff: 8192,
                tied: true,
                std: 0.02,
                rope_factor: Some(32.0),
                ..llama3
            },
            Self::Llama31_8B => ModelShape {
                n_layers: 32,
                n_embd: 4096,
                n_ff: 14_336,
                std: 0.015,
                rope_factor: Some(8.0),
                ..llama3
            },
            Self::Llama31_70B => ModelShape {
                n_layers: 80,
                n_embd: 8192,
                n_heads: 64,
                n_ff: 28_672,
                std: 0.0105,
                rope_factor: Some(8.0),
                ..llama3
            },
            Self::Qwen25_1_5B => ModelShape {
                n_embd: 1536,
                n_heads: 12,
                n_kv_heads: 2,
                n_ff: 8960,
                n_vocab: 151_936,
                tied: true,
                std: 0.02,
                ..qwen25
            },
            Self::Qwen25_7B => ModelShape {
                n_embd: 3584,
                n_heads: 28,
                n_kv_heads: 4,
                n_ff: 18_944,
                n_vocab: 152_064,
                std: 0.015,
                ..qwen25
            },
        }
    }

    /// Every tensor of the model, in the order of llama.cpp's files.
    pub(super) fn tensors(self, quant: Quant) -> Vec<TensorPlan> {
        let shape = self.shape();
        let (d, ff, n_vocab) = (shape.n_embd, shape.n_ff, shape.n_vocab);
        let kv = shape.n_kv_heads * shape.head_dim();
        let (base, mixed) = (quant.base(), quant == Quant::Q4KM);
        let head_ty = if mixed { ElementType::Q6_K } else { base };
        let matrix = Kind::Matrix { std: shape.std };
        let query_key = Kind::Matrix { std: shape.std * QUERY_KEY_GAIN };
        let mut tensors = Vec::new();
        let mut add = |name: String, ty, dims: &[usize], kind| {
            tensors.push(TensorPlan { name, ty, dims: dims.to_vec(), kind });
        };
        if !shape.tied {
            add("output.weight".to_owned(), head_ty, &[n_vocab, d], matrix);
        }
        add("output_norm.weight".to_owned(), ElementType::F32, &[d], Kind::Norm);
        if let Some(factor) = shape.rope_factor {
            let kind = Kind::RopeFactors { theta: shape.rope_theta, factor };
            add("rope_freqs.weight".to_owned(), ElementType::F32, &[shape.head_dim() / 2], kind);
        }
        add("token_embd.weight".to_owned(), if shape.tied { head_ty } else { base }, &[n_vocab, d], matrix);
        for layer in 0..shape.n_layers {
            let wide = if mixed && has_more_bits(layer, shape.n_layers) { ElementType::Q6_K } else { base };
            let value = match self {
                Self::Llama31_70B if mixed && wide == base => ElementType::Q5_K,
                _ => wide,
            };
            let mut add =
                |part: &str, ty, dims: &[usize], kind| add(format!("blk.{layer}.{part}"), ty, dims, kind);
            if shape.architecture == Architecture::Qwen2 {
                add("attn_k.bias", ElementType::F32, &[kv], Kind::Bias);
                add("attn_q.bias", ElementType::F32, &[d], Kind::Bias);
                add("attn_v.bias", ElementType::F32, &[kv], Kind::Bias);
            }
            add("attn_k.weight", base, &[kv, d], query_key);
            add("attn_norm.weight", ElementType::F32, &[d], Kind::Norm);
            add("attn_output.weight", base, &[d, d], matrix);
            add("attn_q.weight", base, &[d, d], query_key);
            add("attn_v.weight", value, &[kv, d], matrix);
            add("ffn_down.weight", wide, &[d, ff], matrix);
            add("ffn_gate.weight", base, &[ff, d], matrix);
            add("ffn_norm.weight", ElementType::F32, &[d], Kind::Norm);
            add("ffn_up.weight", base, &[ff, d], matrix);
        }
        tensors
    }
}

/// The layers whose value and down projections Q4_K_M keeps in Q6_K: the first and last eighth, and every third
/// between (`use_more_bits` in llama.cpp's quantiser).
const fn has_more_bits(layer: usize, n_layers: usize) -> bool {
    let eighth = n_layers / 8;
    layer < eighth || layer >= 7 * n_layers / 8 || (layer - eighth) % 3 == 2
}

/// `rope_freqs.weight` of Llama 3: pairs that turn often within the original context of 8,192 positions keep their
/// frequency, those that turn less than once are slowed by `factor`, and those between by something between
/// (`rope_type: llama3` of the models' configuration).
pub(super) fn llama3_rope_factors(pairs: usize, theta: f32, factor: f32) -> Vec<f32> {
    const CONTEXT: f64 = 8192.0;
    const LOW_TURNS: f64 = 1.0;
    const HIGH_TURNS: f64 = 4.0;
    let factor = f64::from(factor);
    let of_pair = |i: usize| {
        let wavelength = std::f64::consts::TAU * f64::from(theta).powf(i as f64 / pairs as f64);
        let turns = CONTEXT / wavelength;
        if turns > HIGH_TURNS {
            1.0
        } else if turns < LOW_TURNS {
            factor
        } else {
            let kept = (turns - LOW_TURNS) / (HIGH_TURNS - LOW_TURNS);
            1.0 / ((1.0 - kept) / factor + kept)
        }
    };
    (0..pairs).map(|i| of_pair(i) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn megabytes_per_token(preset: Preset, quant: Quant) -> f64 {
        let tensors = preset.tensors(quant);
        let tied = preset.shape().tied;
        let read = tensors.iter().filter(|t| tied || t.name != "token_embd.weight");
        let bytes = |t: &TensorPlan| {
            let cols = t.dims[t.dims.len() - 1];
            t.ty.matrix_bytes(t.dims.iter().product::<usize>() / cols, cols).unwrap()
        };
        read.map(bytes).sum::<usize>() as f64 / 1e6
    }

    #[test]
    fn presets_have_the_sizes_of_their_models() {
        let cases = [
            (Preset::Qwen25_1_5B, 979.9),
            (Preset::Llama32_1B, 799.9),
            (Preset::Llama31_8B, 4_617.0),
            // A file of 42,520 MB, less its metadata and token_embd.weight.
            (Preset::Llama31_70B, 41_922.0),
        ];
        for (preset, expected) in cases {
            let found = megabytes_per_token(preset, Quant::Q4KM);
            assert!((found / expected - 1.0).abs() < 1e-3, "{preset}: {found}");
        }
    }

    #[test]
    fn names_parse_back() {
        for preset in Preset::ALL {
            assert_eq!(preset.name().parse(), Ok(preset));
        }
        for quant in Quant::ALL {
            assert_eq!(quant.name().parse(), Ok(quant));
        }
        assert_eq!("gpt5".parse::<Preset>().unwrap_err().split(' ').count(), 3 + Preset::ALL.len());
        assert!("q3".parse::<Quant>().unwrap_err().contains("q4_k_m"));
    }

    #[test]
    fn llama3_factors_go_from_one_to_the_factor() {
        let factors = llama3_rope_factors(64, 5e5, 8.0);
        assert_eq!((factors[0], factors[63]), (1.0, 8.0));
        assert!(factors.windows(2).all(|pair| pair[0] <= pair[1]));
        assert!(factors.iter().any(|&f| f > 1.0 && f < 8.0));
    }
}
