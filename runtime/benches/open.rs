//! Opening a GGUF file, building the graph of a step, and building a tokenizer.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use runtime::Model;
use runtime::decoder::Output;
use runtime::gguf::Gguf;
use runtime::model::{StepShape, build_step};
use runtime::synthetic::{Preset, Quant, synthesize};
use runtime::tokenizer::Tokenizer;
use tensor_formats::ElementType;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/assets/tiny-q4_k_m.gguf");

fn open(c: &mut Criterion) {
    c.bench_function("gguf open, 2,048 tokens, 56 tensors", |b| {
        b.iter(|| Gguf::open(black_box(FILE)).expect("the asset is sound"));
    });
    c.bench_function("model open", |b| {
        b.iter(|| Model::open(black_box(FILE)).expect("the asset is a model"))
    });
}

fn step(c: &mut Criterion) {
    let model = synthesize(Preset::Tiny, Quant::Q4KM, 1).expect("a tiny model fits in memory");
    let mut deep = model.config().clone();
    // The graph depends on shapes and types alone: 32 layers of a tiny model are as many nodes as those of an 8B.
    deep.weights.layers = (0..32).map(|layer| deep.weights.layers[layer % 2].clone()).collect();
    deep.n_layers = 32;
    let shape = StepShape {
        rows: 1,
        n_sequences: 1,
        max_seq: 4096,
        kv: ElementType::F32,
        output: Output::LastArgmax,
    };
    c.bench_function("step graph, 32 layers", |b| {
        b.iter(|| build_step(black_box(&deep), black_box(&shape)).expect("the step can be built"));
    });
    let step = build_step(&deep, &shape).expect("the step can be built");
    c.bench_function("step memory plan, 32 layers", |b| b.iter(|| black_box(&step.graph).plan()));
}

fn tokenizer(c: &mut Criterion) {
    let model = Model::embedded().expect("the embedded model is sound");
    c.bench_function("tokenizer build, 2,048 tokens", |b| {
        b.iter(|| Tokenizer::for_model(black_box(&model)).expect("the embedded model has a tokenizer"));
    });
    let tokenizer = Tokenizer::for_model(&model).expect("the embedded model has a tokenizer");
    let text = "Once upon a time, there was a small fox named Pip. ".repeat(100);
    c.bench_function("tokenizer encode, 5 kB", |b| {
        b.iter(|| tokenizer.encode(black_box(&text)).expect("text can be encoded"));
    });
}

criterion_group!(benches, open, step, tokenizer);
criterion_main!(benches);
