//! What activations of 8 bits, or of 16 beside such weights, cost on a GPU: the distance from the same engine with activations
//! and caches in f32.

#![allow(clippy::print_stdout)] // The distances, for whoever reads the test's output.

use runtime::decoder::{Decoder, Output};
use runtime::synthetic::{Preset, Quant, synthesize};
use runtime::{Activations, EngineOptions};
use tensor_formats::ElementType;
use tests::golden::Golden;
use tests::{data, gpu, quality};

const FILES: [&str; 3] = ["tiny-q4_k_m.gguf", "tiny-q8_0.gguf", "tiny-f16.gguf"];

#[test]
#[ignore = "needs a CUDA device"]
fn the_trained_model() {
    trained(Activations::Q8, 8);
}

/// In steps of many rows, all of whose results are wanted.
#[test]
#[ignore = "needs a CUDA device"]
fn the_trained_model_with_activations_of_f16() {
    if gpu::multiplies_halves() {
        trained(Activations::F16, 16);
    }
}

fn trained(activations: Activations, max_rows: usize) {
    let golden = Golden::load();
    for file in FILES {
        let model = data::model(file);
        let mut texts = quality::golden_texts(&golden, file);
        if gpu::is_simulated() {
            texts.retain(|text| text.len() <= 22);
        }
        let kv = ElementType::F16;
        let options = EngineOptions { kv, activations, max_rows, ..EngineOptions::for_model(model.config()) };
        let mut decoder = gpu::decoder(&model, &options);
        let mut right = gpu::decoder(&model, &quality::right(&options));
        let distance = quality::compare(&mut decoder, &mut right, &texts);
        println!("{file}: {distance}");
        quality::check(file, distance, texts.iter().map(Vec::len).sum());
    }
}

/// Prompts, whose rows are multiplied as halves.
#[test]
#[ignore = "needs a CUDA device"]
fn prompts() {
    let golden = Golden::load();
    for file in FILES {
        let model = data::model(file);
        let mut texts = quality::golden_texts(&golden, file);
        // Rows that are worth it.
        texts.retain(|text| text.len() >= 40);
        if gpu::is_simulated() {
            texts.sort_by_key(Vec::len);
            texts.truncate(2);
        }
        let options = EngineOptions { kv: ElementType::F16, ..EngineOptions::for_model(model.config()) };
        let mut right = gpu::decoder(&model, &quality::right(&options));
        let mut distance = |prompt_rows: usize| {
            let mut decoder = gpu::decoder(&model, &EngineOptions { prompt_rows, ..options.clone() });
            (decoder.prompt_rows(), quality::compare_after_prompts(&mut decoder, &mut right, &texts))
        };
        let ((few, bytes), (many, halves)) = (distance(options.max_rows), distance(options.prompt_rows));
        println!("{file}, steps of {few}: {bytes}\n{file}, of {many}: {halves}");
        assert!(many > few || !gpu::multiplies_halves(), "{few} and {many} rows");
        quality::check(file, halves, bytes.positions);
    }
}

/// A row of a prompt gives the same bits whatever its step is: how many rows it has, up to 128 or more, and which of them it is.
#[test]
#[ignore = "needs a CUDA device"]
fn prompts_in_other_steps() {
    let model = data::model("tiny-q4_k_m.gguf");
    let text = gpu::tokens(3, 400, model.config().n_vocab);
    let options = EngineOptions { kv: ElementType::F16, ..EngineOptions::for_model(model.config()) };
    let logits = |n: usize, lengths: &[usize]| {
        let mut decoder = gpu::decoder(&model, &options);
        let mut position = 0;
        for &length in lengths {
            let rows = gpu::rows(0, position as u32, &text[position..position + length]);
            position += length;
            if position == n {
                return gpu::logits(&mut decoder, &rows, Output::LastLogits);
            }
            gpu::step(&mut decoder, &rows, Output::Cache);
        }
        panic!("{position} of {n} rows");
    };
    // Few rows more than other steps have are several of these.
    let few = gpu::rows(0, 0, &text[..20]);
    let mut decoder = gpu::decoder(&model, &options);
    let together = decoder.prompt_rows() >= few.len();
    for chunk in few[..16].chunks(if together { 16 } else { 8 }) {
        gpu::step(&mut decoder, chunk, Output::Cache);
    }
    let got = gpu::logits(&mut decoder, &few[16..], Output::LastLogits);
    let mut other = gpu::decoder(&model, &EngineOptions { prompt_rows: 1, ..options.clone() });
    few[..16].chunks(8).for_each(|chunk| gpu::step(&mut other, chunk, Output::Cache));
    assert!(got == gpu::logits(&mut other, &few[16..], Output::LastLogits));
    if gpu::multiplies_halves() {
        // One block of rows, and several.
        for (n, firsts) in gpu::some(&[(64, [21, 32, 33]), (120, [21, 64, 88]), (400, [129, 200, 256])], 1) {
            let whole = logits(*n, &[*n]);
            for first in firsts {
                assert!(logits(*n, &[*first, n - first]) == whole, "{first} of {n} rows, then the others");
            }
        }
    }
}

/// The shapes of known models; on the software driver only small ones.
#[test]
#[ignore = "needs a CUDA device"]
fn random_weights_in_the_shapes_of_known_models() {
    let small =
        [(Preset::Tiny, Quant::Q4KM), (Preset::TinyQwen2, Quant::Q8_0), (Preset::TinyQwen2, Quant::BF16)];
    let large = [
        (Preset::Llama32_1B, Quant::Q4KM),
        (Preset::Llama32_1B, Quant::Q8_0),
        (Preset::Llama32_1B, Quant::F16),
        (Preset::Qwen25_1_5B, Quant::BF16),
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
