//! What activations of 8 bits cost on a GPU: the distance from the same engine with activations and caches in f32.

#![allow(clippy::print_stdout)] // The distances, for whoever reads the test's output.

use runtime::EngineOptions;
use runtime::synthetic::{Preset, Quant, synthesize};
use tensor_formats::ElementType;
use tests::golden::Golden;
use tests::{data, gpu, quality};

#[test]
#[ignore = "needs a CUDA device"]
fn the_trained_model() {
    let golden = Golden::load();
    for file in ["tiny-q4_k_m.gguf", "tiny-q8_0.gguf"] {
        let model = data::model(file);
        let mut texts = quality::golden_texts(&golden, file);
        if gpu::is_simulated() {
            texts.retain(|text| text.len() <= 22);
        }
        let options = EngineOptions { kv: ElementType::F16, ..EngineOptions::for_model(model.config()) };
        let mut decoder = gpu::decoder(&model, &options);
        let mut right = gpu::decoder(&model, &quality::right(&options));
        let distance = quality::compare(&mut decoder, &mut right, &texts);
        println!("{file}: {distance}");
        quality::check(file, distance, texts.iter().map(Vec::len).sum());
    }
}

/// The shapes of known models; on the software driver only small ones.
#[test]
#[ignore = "needs a CUDA device"]
fn random_weights_in_the_shapes_of_known_models() {
    let small = [(Preset::Tiny, Quant::Q4KM), (Preset::TinyQwen2, Quant::Q8_0)];
    let large = [
        (Preset::Llama32_1B, Quant::Q4KM),
        (Preset::Llama32_1B, Quant::Q8_0),
        (Preset::Qwen25_1_5B, Quant::Q4KM),
        (Preset::Llama31_8B, Quant::Q4KM),
    ];
    let (large, n) = if gpu::is_simulated() { (&[][..], 16) } else { (&large[..], 128) };
    for &(preset, quant) in small.iter().chain(large) {
        let model = synthesize(preset, quant, 1).unwrap_or_else(|error| panic!("{}", error.chain()));
        let options = EngineOptions { kv: ElementType::F16, ..gpu::options(&model, 1, 8) };
        let mut decoder = gpu::decoder(&model, &options);
        let mut right = gpu::decoder(&model, &quality::right(&options));
        let text = gpu::tokens(1, n, model.config().n_vocab);
        let distance = quality::compare(&mut decoder, &mut right, &[text]);
        println!("{}: {distance}", model.name());
        quality::check_random(&model, distance);
    }
}
