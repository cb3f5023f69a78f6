//! The CUDA engine reproduces the recorded outputs and the exact logits, launch by launch and as a graph.

#![allow(clippy::print_stdout)] // What fell the other way, for whoever reads the test's output.

use runtime::cuda::CudaDecoder;
use runtime::tokenizer::Tokenizer;
use runtime::{Activations, EngineOptions, Model};
use tests::golden::{self, Golden};
use tests::{data, gpu, synthetic};

fn decoder(model: &Model, activations: Activations, eager: bool, max_rows: usize) -> CudaDecoder {
    let options = EngineOptions { activations, eager, max_rows, ..EngineOptions::for_model(model.config()) };
    CudaDecoder::new(model, &options).unwrap()
}

fn check(file: &str, activations: Activations) {
    let model = data::model(file);
    let tokenizer = Tokenizer::for_model(&model).unwrap();
    let golden = match Golden::load() {
        golden if gpu::is_simulated() => golden.shortened(file, 1),
        golden => golden,
    };
    for eager in [false, true] {
        let way = if eager { "eager" } else { "graph" };
        let engine = format!("CUDA, {way}, {activations:?} activations");
        let mut decoder = decoder(&model, activations, eager, 8);
        let report = golden::check_file(&golden, file, &engine, &mut decoder, |ids| {
            tokenizer.decode(ids).expect("generated tokens are in the vocabulary")
        });
        println!("{report}");
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn q4_k_m_with_q8_activations() {
    check("tiny-q4_k_m.gguf", Activations::Q8);
}

#[test]
#[ignore = "needs a CUDA device"]
fn q8_0_with_q8_activations() {
    check("tiny-q8_0.gguf", Activations::Q8);
}

#[test]
#[ignore = "needs a CUDA device"]
fn f16() {
    check("tiny-f16.gguf", Activations::Q8);
}

#[test]
#[ignore = "needs a CUDA device"]
fn q4_k_m_with_f32_activations() {
    check("tiny-q4_k_m.gguf", Activations::F32);
}

#[test]
#[ignore = "needs a CUDA device"]
fn logits_of_random_models_agree_with_the_exact_ones() {
    for model in synthetic::ALL {
        let loaded = Model::open(data::path(&model.file())).unwrap();
        for activations in [Activations::F32, Activations::Q8] {
            let distance = model.compare(&mut decoder(&loaded, activations, false, 8));
            println!("{} {activations:?}: {distance:?}", model.name);
            model.check(activations, distance);
        }
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn logits_do_not_depend_on_the_chunks_of_a_prompt() {
    let loaded = Model::open(data::path("synthetic/tiny-q4_k_m.gguf")).unwrap();
    let tokens = synthetic::tokens();
    let one_by_one = golden::all_logits(&mut decoder(&loaded, Activations::Q8, false, 1), &tokens);
    for max_rows in [2, 5, 8, 9, 16] {
        let chunked = golden::all_logits(&mut decoder(&loaded, Activations::Q8, false, max_rows), &tokens);
        assert_eq!(chunked, one_by_one, "chunks of {max_rows}");
    }
}
