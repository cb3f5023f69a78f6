//! Models that are read, and models that are refused by name; the graph of a step.

use tensor_formats::ElementType;

use super::*;
use crate::decoder::Output;
use crate::error::chain;
use crate::gguf::{Storage, Writer};

/// A tiny model's file, with room to be made wrong.
struct File {
    arch: &'static str,
    writer: Writer,
    tensors: Vec<(String, ElementType, Vec<usize>)>,
}

const LAYERS: usize = 2;

impl File {
    /// Width 64, 4 heads of 32 (more than the width), 2 KV heads, FFN 96, vocabulary 10.
    fn new(arch: &'static str) -> Self {
        let mut writer = Writer::new();
        let mut number = |key: &str, value| {
            writer.u32(&format!("{arch}.{key}"), value);
        };
        number("block_count", LAYERS as u32);
        number("context_length", 128);
        number("embedding_length", 64);
        number("feed_forward_length", 96);
        number("attention.head_count", 4);
        number("attention.head_count_kv", 2);
        number("attention.key_length", 32);
        number("attention.value_length", 32);
        writer.string("general.architecture", arch);
        writer.f32(&format!("{arch}.attention.layer_norm_rms_epsilon"), 1e-6);
        let mut tensors = vec![];
        let mut add =
            |name: &str, dims: &[usize]| tensors.push((name.to_owned(), ElementType::F32, dims.to_vec()));
        add("token_embd.weight", &[10, 64]);
        add("output_norm.weight", &[64]);
        for layer in 0..LAYERS {
            let mut add = |name: &str, dims: &[usize]| add(&format!("blk.{layer}.{name}"), dims);
            add("attn_norm.weight", &[64]);
            add("attn_q.weight", &[128, 64]);
            add("attn_k.weight", &[64, 64]);
            add("attn_v.weight", &[64, 64]);
            add("attn_output.weight", &[64, 128]);
            add("ffn_norm.weight", &[64]);
            add("ffn_gate.weight", &[96, 64]);
            add("ffn_up.weight", &[96, 64]);
            add("ffn_down.weight", &[64, 96]);
            if arch == "qwen2" {
                add("attn_q.bias", &[128]);
                add("attn_k.bias", &[64]);
                add("attn_v.bias", &[64]);
            }
        }
        Self { arch, writer, tensors }
    }

    fn key(&self, suffix: &str) -> String {
        format!("{}.{suffix}", self.arch)
    }

    fn tensor(&mut self, name: &str) -> &mut (String, ElementType, Vec<usize>) {
        self.tensors.iter_mut().find(|(n, ..)| n == name).unwrap()
    }

    fn add(&mut self, name: &str, ty: ElementType, dims: &[usize]) {
        self.tensors.push((name.to_owned(), ty, dims.to_vec()));
    }

    fn model(&self) -> Result<Model, ModelError> {
        let mut writer = self.writer.clone();
        for (name, ty, dims) in &self.tensors {
            writer.describe(name, *ty, dims).unwrap();
        }
        Model::from_gguf(Gguf::parse(Storage::copy(&writer.finish().unwrap()).unwrap()).unwrap())
    }

    fn refusal(&self) -> String {
        chain(&self.model().unwrap_err())
    }
}

#[test]
fn head_dim_comes_from_the_metadata() {
    let model = File::new("llama").model().unwrap();
    let config = model.config();
    assert_eq!((config.head_dim, config.q_dim(), config.kv_dim(), config.n_embd), (32, 128, 64, 64));
    assert_eq!(
        (config.rope.n_rot, config.rope.theta, config.rope.style),
        (32, 10_000.0, graph::RopeStyle::Interleaved)
    );
    assert_eq!(config.attention_scale, (1.0 / 32f64.sqrt()) as f32);
    assert_eq!(config.kv_cache_bytes(ElementType::F32, 3, 5), 2 * 2 * 3 * 5 * 64 * 4);
    assert_eq!(config.kv_cache_bytes(ElementType::F8E4M3, 3, 5), 2 * 2 * 3 * 5 * 64);
}

#[test]
fn every_tensor_of_the_file_is_used_or_refused() {
    let mut file = File::new("llama");
    file.add("blk.0.attn_q_norm.weight", ElementType::F32, &[32]);
    assert_eq!(
        file.refusal(),
        "the file holds 1 tensors that the llama architecture does not use: blk.0.attn_q_norm.weight"
    );
    let mut file = File::new("llama");
    file.add("blk.2.attn_norm.weight", ElementType::F32, &[64]);
    assert!(file.refusal().contains("blk.2.attn_norm.weight"));
}

#[test]
fn a_missing_or_misshapen_tensor_is_named() {
    for name in ["token_embd.weight", "output_norm.weight", "blk.1.ffn_down.weight", "blk.0.attn_norm.weight"]
    {
        let mut file = File::new("qwen2");
        let dims = file.tensor(name).2.clone();
        file.tensors.retain(|(n, ..)| n != name);
        let expected = if name == "token_embd.weight" { vec![0, 64] } else { dims };
        assert_eq!(file.refusal(), format!("tensor {name} {expected:?} is missing"));
    }
    let mut file = File::new("llama");
    file.tensor("blk.1.attn_k.weight").2 = vec![128, 64];
    assert_eq!(file.refusal(), "tensor blk.1.attn_k.weight has the shape [128, 64], [64, 64] is needed");
}

#[test]
fn types_are_refused_by_name() {
    let mut file = File::new("llama");
    file.tensor("output_norm.weight").1 = ElementType::F16;
    assert_eq!(file.refusal(), "tensor output_norm.weight is F16, F32 is needed");
    // A type that can be listed but not read: Q4_1 where F32 was.
    let mut writer = File::new("llama").writer.clone();
    for (name, ty, dims) in File::new("llama").tensors {
        writer.describe(&name, ty, &dims).unwrap();
    }
    let mut image = writer.finish().unwrap();
    let name = b"blk.0.ffn_up.weight";
    let at = image.windows(name.len()).position(|w| w == name).unwrap() + name.len() + 4 + 16;
    image[at] = 3;
    let model = Model::from_gguf(Gguf::parse(Storage::copy(&image).unwrap()).unwrap());
    assert_eq!(
        chain(&model.unwrap_err()),
        "tensor blk.0.ffn_up.weight: tensor type Q4_1 (3) is not supported"
    );
}

#[test]
fn biases_and_heads_are_found_where_the_file_has_them() {
    let config = File::new("qwen2").model().unwrap().config().clone();
    let layer = &config.weights.layers[1];
    assert_eq!(layer.attn_q.bias.as_ref().unwrap().name, "blk.1.attn_q.bias");
    assert!(layer.attn_output.bias.is_none() && config.weights.output.is_none());
    assert_eq!(config.weights.head().name, "token_embd.weight");
    let mut file = File::new("llama");
    file.add("output.weight", ElementType::F16, &[10, 64]);
    for layer in 0..LAYERS {
        file.add(&format!("blk.{layer}.attn_output.bias"), ElementType::F32, &[64]);
    }
    let model = file.model().unwrap();
    let weights = &model.config().weights;
    assert_eq!(weights.head().ty, ElementType::F16);
    assert!(weights.layers[0].attn_output.bias.is_some());
    // The embedding table is read by the row, the head as a whole.
    let matrices = model.parameters() - 10 * 64 - 10 * 64;
    assert_eq!(model.bytes_per_token(), matrices * 4 + 64 * 4 + 10 * 64 * 2);
}

#[test]
fn a_bias_that_the_architecture_has_or_another_layer_is_needed() {
    for lost in ["attn_q", "attn_k", "attn_v"] {
        let mut file = File::new("qwen2");
        let name = format!("blk.1.{lost}.bias");
        let dims = file.tensor(&name).2.clone();
        file.tensors.retain(|(n, ..)| *n != name);
        assert_eq!(file.refusal(), format!("tensor {name} {dims:?} is missing"));
        file.tensors.retain(|(n, ..)| !n.ends_with(&format!("{lost}.bias")));
        assert_eq!(file.refusal(), format!("tensor blk.0.{lost}.bias {dims:?} is missing"));
    }
    for (arch, present, missing) in
        [("llama", "blk.0.attn_q", "blk.1.attn_q"), ("qwen2", "blk.1.ffn_up", "blk.0.ffn_up")]
    {
        let mut file = File::new(arch);
        let features = file.tensor(&format!("{present}.weight")).2[0];
        file.add(&format!("{present}.bias"), ElementType::F32, &[features]);
        assert_eq!(file.refusal(), format!("tensor {missing}.bias [{features}] is missing"));
    }
}

#[test]
fn other_models_are_refused_by_name() {
    assert_eq!(
        File::new("gemma2").refusal(),
        "architecture \"gemma2\" is not supported (llama and qwen2 are)"
    );
    let mut lora = File::new("llama");
    lora.writer.string("general.type", "adapter");
    assert_eq!(lora.refusal(), "the file holds general.type \"adapter\", not a whole model");
    let mut part = File::new("llama");
    part.writer.u32("split.count", 3);
    assert_eq!(part.refusal(), "the file holds one of 3 parts of a model, not a whole model");
}

#[test]
fn features_that_are_not_built_are_refused_by_name() {
    let cases: [(&str, Change, &str); 8] = [
        (
            "expert_count",
            |w, k| {
                w.u32(k, 8);
            },
            "a mixture of experts",
        ),
        (
            "attention.sliding_window",
            |w, k| {
                w.u32(k, 4096);
            },
            "sliding-window attention",
        ),
        (
            "attn_logit_softcapping",
            |w, k| {
                w.f32(k, 50.0);
            },
            "a soft cap on attention scores",
        ),
        (
            "final_logit_softcapping",
            |w, k| {
                w.f32(k, 30.0);
            },
            "a soft cap on logits",
        ),
        (
            "attention.causal",
            |w, k| {
                w.bool(k, false);
            },
            "attention to later positions",
        ),
        (
            "attention.layer_norm_epsilon",
            |w, k| {
                w.f32(k, 1e-5);
            },
            "LayerNorm (RMSNorm is)",
        ),
        (
            "rope.scaling.type",
            |w, k| {
                w.string(k, "yarn");
            },
            "this kind of RoPE scaling",
        ),
        (
            "rope.scaling.attn_factor",
            |w, k| {
                w.f32(k, 1.5);
            },
            "a factor of rotated features",
        ),
    ];
    for (suffix, change, feature) in cases {
        let mut file = File::new("llama");
        let key = file.key(suffix);
        change(&mut file.writer, &key);
        let message = file.refusal();
        assert!(message.starts_with(&format!("{feature} is not supported (metadata {key} = ")), "{message}");
    }
    let mut off = File::new("llama");
    off.writer.u32("llama.expert_count", 0).u32("llama.attention.sliding_window", 0);
    off.writer.f32("llama.rope.scaling.attn_factor", 1.0).f32("llama.attention.scale", 0.0);
    assert_eq!(off.model().unwrap().config(), File::new("llama").model().unwrap().config());
}

#[test]
fn quantised_blocks_of_another_version_are_refused() {
    let mut file = File::new("llama");
    file.writer.u32("general.quantization_version", 1);
    assert!(file.model().is_ok(), "nothing is quantised");
    file.tensor("blk.1.ffn_up.weight").1 = ElementType::Q8_0;
    assert_eq!(
        file.refusal(),
        "this version of quantised blocks is not supported (metadata general.quantization_version = 1)"
    );
    file.writer = File::new("llama").writer;
    file.writer.u32("general.quantization_version", 2);
    assert!(file.model().is_ok());
}

#[test]
fn hyperparameters_are_checked() {
    let cases: [(&str, Change); 4] = [
        ("rope.dimension_count", |w, k| {
            w.u32(k, 34);
        }),
        ("rope.dimension_count", |w, k| {
            w.u32(k, 7);
        }),
        ("rope.freq_base", |w, k| {
            w.f32(k, f32::NAN);
        }),
        ("vocab_size", |w, k| {
            w.u32(k, 0);
        }),
    ];
    for (suffix, change) in cases {
        let mut file = File::new("qwen2");
        let key = file.key(suffix);
        change(&mut file.writer, &key);
        let message = file.refusal();
        assert!(
            message.starts_with(&format!("metadata {key} = ")) && message.contains("must be"),
            "{message}"
        );
    }
    let mut vocab = File::new("llama");
    vocab.writer.u32("llama.vocab_size", 11);
    assert_eq!(vocab.refusal(), "tensor token_embd.weight has the shape [10, 64], [11, 64] is needed");
}

#[test]
fn rope_scaling_and_factors_are_read() {
    let mut file = File::new("llama");
    file.writer.string("llama.rope.scaling.type", "linear").f32("llama.rope.scaling.factor", 4.0);
    file.writer.u32("llama.rope.dimension_count", 16).f32("llama.rope.freq_base", 5e5);
    let rope = file.model().unwrap().config().rope;
    assert_eq!((rope.linear_scale, rope.n_rot, rope.theta), (4.0, 16, 5e5));
    // Factors of zero, as this file's unwritten data is, would turn by infinity.
    file.add("rope_freqs.weight", ElementType::F32, &[8]);
    assert_eq!(
        file.refusal(),
        "tensor rope_freqs.weight: frequency factor 0 has to be positive and finite, is 0"
    );
}

/// Adds a metadata entry under the key.
type Change = fn(&mut Writer, &str);

fn shape(rows: usize, output: Output) -> StepShape {
    StepShape { rows, n_sequences: 3, max_seq: 20, kv: ElementType::F32, output }
}

#[test]
fn a_step_has_the_operations_of_its_layers() {
    let llama = File::new("llama").model().unwrap();
    // A layer: 2 norms, 7 products, 2 RoPE, 2 scatters, attention, silu, product, 2 residuals.
    let step = build_step(llama.config(), &shape(2, Output::AllLogits)).unwrap();
    assert_eq!(step.graph.n_ops(), 1 + LAYERS * 18 + 2);
    let argmax = build_step(llama.config(), &shape(2, Output::AllArgmax)).unwrap();
    assert_eq!(argmax.graph.n_ops(), 1 + LAYERS * 18 + 3);
    // Biases on queries, keys and values are three more.
    let qwen = File::new("qwen2").model().unwrap();
    let step = build_step(qwen.config(), &shape(2, Output::AllLogits)).unwrap();
    assert_eq!(step.graph.n_ops(), 1 + LAYERS * 21 + 2);
    let biases = step.weights.iter().filter(|(_, name)| name.ends_with(".bias")).count();
    assert_eq!(biases, 3 * LAYERS);
}

#[test]
fn a_layer_is_five_calls_in_groups() {
    let calls = |file: &File, output| {
        let step = build_step(file.model().unwrap().config(), &shape(2, output)).unwrap();
        let rewrite = graph::passes::fuse_swiglu(&step.graph).unwrap();
        let rewrite = rewrite.then(graph::passes::share_q8_activations).unwrap();
        rewrite.graph.group(|_| true).n_calls()
    };
    // With Q8_0, whose activations are shared, and with biases.
    let mut quantised = File::new("llama");
    for (name, ty, dims) in &mut quantised.tensors {
        if dims.len() == 2 && !name.starts_with("token_embd") {
            *ty = ElementType::Q8_0;
        }
    }
    for file in [File::new("llama"), File::new("qwen2"), quantised] {
        for output in [Output::LastArgmax, Output::AllArgmax, Output::LastLogits, Output::AllLogits] {
            assert_eq!(calls(&file, output), 1 + LAYERS * 5 + 1);
        }
    }
    // The last layer ends after the first of its calls.
    assert_eq!(calls(&File::new("llama"), Output::Cache), 1 + (LAYERS - 1) * 5 + 1);
}

#[test]
fn a_step_uses_every_weight_once() {
    let mut file = File::new("qwen2");
    file.add("output.weight", ElementType::F16, &[10, 64]);
    for model in [File::new("llama").model().unwrap(), file.model().unwrap()] {
        let step = build_step(model.config(), &shape(1, Output::LastArgmax)).unwrap();
        let mut used: Vec<&str> = step.weights.iter().map(|(_, name)| name.as_str()).collect();
        let mut all: Vec<&str> = model.gguf().tensors().iter().map(|t| t.name.as_str()).collect();
        used.sort_unstable();
        all.sort_unstable();
        assert_eq!(used, all);
        for (leaf, name) in &step.weights {
            let node = step.graph.get(*leaf).unwrap();
            let tensor = model.gguf().tensor(name).unwrap();
            assert_eq!((Ok(node.dtype()), node.shape().dims()), (tensor.ty, tensor.dims.as_slice()));
        }
    }
}

#[test]
fn only_the_rows_asked_for_reach_the_head() {
    let model = File::new("llama").model().unwrap();
    for (output, rows) in [(Output::LastLogits, 1), (Output::AllLogits, 5), (Output::LastArgmax, 1)] {
        let step = build_step(model.config(), &shape(5, output)).unwrap();
        let logits = step.graph.get(step.logits.unwrap()).unwrap();
        assert_eq!(logits.shape().dims(), [rows, 10]);
        assert_eq!(step.argmax.is_some(), !output.is_logits());
        let (k, v) = step.kv[1];
        for cache in [k, v] {
            assert_eq!(step.graph.get(cache).unwrap().shape().dims(), [3, 2, 20, 32]);
        }
    }
    let step = build_step(model.config(), &shape(5, Output::Cache)).unwrap();
    assert_eq!((step.logits, step.argmax), (None, None));
    // The last layer ends at its scatters and its query: norm, three products, RoPE twice, two scatters.
    assert_eq!(step.graph.n_ops(), 1 + (LAYERS - 1) * 18 + 8);
}

#[test]
fn a_step_of_nothing_is_refused() {
    let model = File::new("llama").model().unwrap();
    let none = StepShape { rows: 0, ..shape(1, Output::Cache) };
    let message = build_step(model.config(), &none).unwrap_err().to_string();
    assert!(message.starts_with("a step of 0 rows"), "{message}");
}
