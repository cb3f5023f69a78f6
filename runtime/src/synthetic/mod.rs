//! Models of real shapes with random weights, made in memory: for measurements and tests, where what a model says
//! does not matter but its bytes do.
//!
//! ```
//! use runtime::synthetic::{Preset, Quant, synthesize};
//!
//! let model = synthesize(Preset::TinyQwen2, Quant::Q4KM, 1)?;
//! assert_eq!(model.config().n_layers, 2);
//! # Ok::<(), runtime::Error>(())
//! ```

mod blocks;
mod preset;
mod vocabulary;

use std::collections::HashMap;

use blocks::Pool;
use preset::{Kind, TensorPlan};
pub use preset::{Preset, Quant};
use rayon::prelude::*;
use tensor_formats::ElementType;

use crate::cpu::Workers;
use crate::error::Error;
use crate::gguf::{Gguf, Layout, Storage, Writer};
use crate::model::Model;
use crate::random::SplitMix64;

/// Makes a model. Equal arguments make equal bytes.
///
/// The bytes are a whole GGUF image and pass the same checks as a file. Weights are scaled so that activations stay
/// of ordinary size through all layers. There is no tokenizer.
///
/// # Errors
/// [`Error::Memory`] if the image does not fit, [`Error::Device`] if the system does not start threads.
pub fn synthesize(preset: Preset, quant: Quant, seed: u64) -> Result<Model, Error> {
    Ok(Model::from_gguf(Gguf::parse(image(preset, quant, seed, Vocabulary::None)?)?)?)
}

/// What a synthetic model has for a tokenizer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vocabulary {
    /// Nothing: it takes tokens.
    None,
    /// One of the model's size, of bytes and of two and three of them.
    Bytes,
}

/// The bytes of [`synthesize`]'s model as a GGUF file, with a tokenizer or without.
///
/// # Errors
/// As [`synthesize`].
pub fn image(preset: Preset, quant: Quant, seed: u64, vocabulary: Vocabulary) -> Result<Storage, Error> {
    let tensors = preset.tensors(quant);
    let mut writer = metadata(preset, quant);
    match vocabulary {
        Vocabulary::None => drop(writer.string("tokenizer.ggml.model", "none")),
        Vocabulary::Bytes => vocabulary::write(&mut writer, preset.shape().n_vocab),
    }
    for tensor in &tensors {
        writer.describe(&tensor.name, tensor.ty, &tensor.dims)?;
    }
    let mut layout = writer.layout()?;
    // Threads of its own: that the system does not start them is an error here, and a panic of those that all share.
    Workers::new(None)?.run(|| fill(&mut layout, &tensors, seed));
    layout.freeze()
}

/// Makes up the weights.
fn fill(layout: &mut Layout, tensors: &[TensorPlan], seed: u64) {
    let pools = pools(tensors, seed);
    layout.tensors_mut().into_par_iter().zip(tensors).enumerate().for_each(|(index, (bytes, tensor))| {
        // The pools have the even streams.
        let mut random = SplitMix64::new(SplitMix64::at(seed, 2 * index as u64 + 1).next_u64());
        match tensor.kind {
            Kind::Matrix { std } => {
                if let Some(pool) = pools.get(&(tensor.ty, std.to_bits())) {
                    pool.fill(bytes, &mut random);
                }
            }
            Kind::Norm => fill_f32(bytes, || 1.0 + 0.1 * random.next_normal()),
            Kind::Bias => fill_f32(bytes, || 0.5 * random.next_normal()),
            Kind::RopeFactors { theta, factor } => {
                let mut factors = preset::llama3_rope_factors(tensor.dims[0], theta, factor).into_iter();
                fill_f32(bytes, || factors.next().unwrap_or(1.0));
            }
        }
    });
}

fn fill_f32(bytes: &mut [u8], mut next: impl FnMut() -> f32) {
    for word in bytes.chunks_exact_mut(4) {
        word.copy_from_slice(&next().to_le_bytes());
    }
}

/// Random blocks for every type and scale that the model's matrices have.
fn pools(tensors: &[TensorPlan], seed: u64) -> HashMap<(ElementType, u32), Pool> {
    let mut largest: Vec<((ElementType, u32), usize)> = Vec::new();
    for tensor in tensors {
        let Kind::Matrix { std } = tensor.kind else { continue };
        let key = (tensor.ty, std.to_bits());
        let blocks = tensor.dims.iter().product::<usize>() / tensor.ty.block_elements();
        match largest.iter_mut().find(|(k, _)| *k == key) {
            Some((_, most)) => *most = blocks.max(*most),
            None => largest.push((key, blocks)),
        }
    }
    let made = largest.into_par_iter().enumerate().map(|(index, ((ty, std), blocks))| {
        let mut random = SplitMix64::new(SplitMix64::at(seed, 2 * index as u64).next_u64());
        ((ty, std), Pool::new(ty, f32::from_bits(std), blocks, &mut random))
    });
    made.collect()
}

fn metadata(preset: Preset, quant: Quant) -> Writer {
    let shape = preset.shape();
    let arch = shape.architecture.name();
    let mut writer = Writer::new();
    writer
        .string("general.architecture", arch)
        .string("general.type", "model")
        .string("general.name", &format!("synthetic {preset} {quant}"))
        .f32(&format!("{arch}.attention.layer_norm_rms_epsilon"), shape.rms_eps)
        .f32(&format!("{arch}.rope.freq_base"), shape.rope_theta);
    let numbers = [
        ("block_count", shape.n_layers),
        ("context_length", shape.context_length),
        ("embedding_length", shape.n_embd),
        ("feed_forward_length", shape.n_ff),
        ("attention.head_count", shape.n_heads),
        ("attention.head_count_kv", shape.n_kv_heads),
        ("attention.key_length", shape.head_dim()),
        ("attention.value_length", shape.head_dim()),
        ("rope.dimension_count", shape.head_dim()),
        ("vocab_size", shape.n_vocab),
    ];
    for (key, value) in numbers {
        writer.u32(&format!("{arch}.{key}"), value as u32);
    }
    writer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::CpuDecoder;
    use crate::decoder::{Decoder, Output, Row, StepOutput};
    use crate::engine::EngineOptions;

    #[test]
    fn every_small_model_is_a_model() {
        for preset in [Preset::Tiny, Preset::TinyQwen2] {
            for quant in Quant::ALL {
                let model = synthesize(preset, quant, 3).unwrap();
                assert_eq!(model.name(), format!("synthetic {preset} {quant}"));
                assert_eq!(model.config().architecture, preset.shape().architecture);
            }
        }
    }

    #[test]
    fn activations_keep_their_size() {
        for (preset, quant) in [(Preset::Tiny, Quant::Q4KM), (Preset::TinyQwen2, Quant::F16)] {
            let model = synthesize(preset, quant, 5).unwrap();
            let options = EngineOptions::for_model(model.config());
            let mut decoder = CpuDecoder::new(&model, &options).unwrap();
            let rows = [7, 1, 500].into_iter().zip(0..).map(|(token, position)| Row {
                token,
                position,
                sequence: 0,
            });
            let rows: Vec<Row> = rows.collect();
            let StepOutput::Logits(logits) = decoder.step(&rows, Output::AllLogits).unwrap() else {
                panic!("logits were asked for");
            };
            let n_vocab = model.config().n_vocab;
            for row in logits.chunks(n_vocab) {
                let std = (row.iter().map(|x| x * x).sum::<f32>() / n_vocab as f32).sqrt();
                assert!((0.3..5.0).contains(&std), "{preset} {quant}: {std}");
            }
            assert_ne!(logits[..n_vocab], logits[n_vocab..2 * n_vocab]);
        }
    }

    #[test]
    fn a_seed_is_a_model() {
        let bytes = |seed| {
            let model = synthesize(Preset::Tiny, Quant::Q4KM, seed).unwrap();
            model.tensor_bytes("blk.1.ffn_down.weight").unwrap().to_vec()
        };
        assert_eq!(bytes(1), bytes(1));
        assert_ne!(bytes(1), bytes(2));
    }

    #[test]
    fn no_two_rows_of_a_matrix_are_equal() {
        for quant in Quant::ALL {
            let model = synthesize(Preset::Tiny, quant, 1).unwrap();
            for weight in model.config().weights.iter().filter(|w| w.dims.len() == 2) {
                let bytes = model.tensor_bytes(&weight.name).unwrap();
                let mut rows: Vec<_> = bytes.chunks_exact(bytes.len() / weight.dims[0]).collect();
                rows.sort_unstable();
                rows.dedup();
                assert_eq!(rows.len(), weight.dims[0], "{}", weight.name);
            }
        }
    }

    #[test]
    fn the_mix_is_llama_cpps() {
        let model = synthesize(Preset::Tiny, Quant::Q4KM, 1).unwrap();
        let ty = |name: &str| model.gguf().tensor(name).unwrap().ty.unwrap();
        assert_eq!(ty("output.weight"), ElementType::Q6_K);
        assert_eq!(ty("token_embd.weight"), ElementType::Q4_K);
        assert_eq!(ty("blk.0.attn_q.weight"), ElementType::Q4_K);
        let tied = synthesize(Preset::TinyQwen2, Quant::Q4KM, 1).unwrap();
        assert_eq!(tied.gguf().tensor("token_embd.weight").unwrap().ty, Ok(ElementType::Q6_K));
    }
}
