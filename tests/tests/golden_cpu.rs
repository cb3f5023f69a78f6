//! The CPU engine reproduces the recorded outputs and the exact logits.

#![allow(clippy::print_stdout)] // What fell the other way, for whoever reads the test's output.

use runtime::cpu::CpuDecoder;
use runtime::synthetic::{Preset, Quant, synthesize};
use runtime::tokenizer::Tokenizer;
use runtime::{Activations, EngineOptions, Model};
use tensor_formats::ElementType;
use tests::golden::{self, Golden};
use tests::{data, gpu, quality, synthetic};

fn decoder(model: &Model, activations: Activations, max_rows: usize) -> CpuDecoder {
    let options = EngineOptions { activations, max_rows, ..EngineOptions::for_model(model.config()) };
    CpuDecoder::new(model, &options).unwrap()
}

fn check(file: &str, activations: Activations) {
    let model = data::model(file);
    let tokenizer = Tokenizer::for_model(&model).unwrap();
    let engine = format!("the CPU, {activations:?} activations");
    let mut decoder = decoder(&model, activations, 8);
    let report = golden::check_file(&Golden::load(), file, &engine, &mut decoder, |ids| {
        tokenizer.decode(ids).expect("generated tokens are in the vocabulary")
    });
    println!("{report}");
}

#[test]
fn q4_k_m_with_q8_activations() {
    check("tiny-q4_k_m.gguf", Activations::Q8);
}

#[test]
fn q8_0_with_q8_activations() {
    check("tiny-q8_0.gguf", Activations::Q8);
}

#[test]
fn f16() {
    check("tiny-f16.gguf", Activations::Q8);
}

#[test]
fn q4_k_m_with_f32_activations() {
    check("tiny-q4_k_m.gguf", Activations::F32);
}

#[test]
fn every_recorded_text_has_the_recorded_tokens() {
    let tokenizer = Tokenizer::for_model(&data::model("tiny-q8_0.gguf")).unwrap();
    let golden = Golden::load();
    assert!(golden.tokenizer.len() >= 20);
    for recorded in &golden.tokenizer {
        assert_eq!(tokenizer.encode(&recorded.text).unwrap(), recorded.ids, "{:?}", recorded.text);
    }
    for case in &golden.cases {
        assert_eq!(tokenizer.encode(&case.prompt).unwrap(), case.prompt_ids, "{:?}", case.prompt);
    }
}

#[test]
fn logits_of_random_models_agree_with_the_exact_ones() {
    for model in synthetic::ALL {
        let loaded = Model::open(data::path(&model.file())).unwrap();
        for activations in [Activations::F32, Activations::Q8] {
            let distance = model.compare(&mut decoder(&loaded, activations, 8));
            println!("{} {activations:?}: {distance:?}", model.name);
            model.check(activations, distance);
        }
    }
}

#[test]
fn logits_do_not_depend_on_the_chunks_of_a_prompt() {
    let loaded = Model::open(data::path("synthetic/tiny-q4_k_m.gguf")).unwrap();
    let tokens = synthetic::tokens();
    let one_by_one = golden::all_logits(&mut decoder(&loaded, Activations::Q8, 1), &tokens);
    for max_rows in [2, 5, 8, 9, 16] {
        let chunked = golden::all_logits(&mut decoder(&loaded, Activations::Q8, max_rows), &tokens);
        assert_eq!(chunked, one_by_one, "chunks of {max_rows}");
    }
}

/// The caches in F16, as a GPU has them.
#[test]
fn activations_of_8_bits_hardly_move_the_distributions() {
    let golden = Golden::load();
    for (file, longest) in [("tiny-q4_k_m.gguf", usize::MAX), ("tiny-q8_0.gguf", 300)] {
        let model = data::model(file);
        let mut texts = quality::golden_texts(&golden, file);
        texts.retain(|text| text.len() <= longest);
        let options =
            EngineOptions { max_rows: 16, kv: ElementType::F16, ..EngineOptions::for_model(model.config()) };
        let mut decoder = CpuDecoder::new(&model, &options).unwrap();
        let mut right = CpuDecoder::new(&model, &quality::right(&options)).unwrap();
        let distance = quality::compare(&mut decoder, &mut right, &texts);
        println!("{file}: {distance}");
        quality::check(file, distance, texts.iter().map(Vec::len).sum());
    }
}

#[test]
fn activations_of_8_bits_on_random_weights_lose_no_more_than_elsewhere() {
    for preset in [Preset::Tiny, Preset::TinyQwen2] {
        for quant in
            Quant::ALL.into_iter().filter(|quant| !matches!(quant, Quant::F16 | Quant::BF16 | Quant::F32))
        {
            let model = synthesize(preset, quant, 1).unwrap();
            let options = EngineOptions { kv: ElementType::F16, ..gpu::options(&model, 1, 16) };
            let mut decoder = CpuDecoder::new(&model, &options).unwrap();
            let mut right = CpuDecoder::new(&model, &quality::right(&options)).unwrap();
            let text = gpu::tokens(1, 128, model.config().n_vocab);
            let distance = quality::compare(&mut decoder, &mut right, &[text]);
            println!("{}: {distance}", model.name());
            quality::check_random(&model, distance);
        }
    }
}
