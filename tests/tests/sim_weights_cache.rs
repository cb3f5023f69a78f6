//! Weights from a cache in the device's layout are the weights of the model file, whatever the state of the cache.

use std::fs;
use std::path::Path;

use gpu_driver_sim::Sanitize;
use runtime::decoder::Output;
use runtime::{EngineOptions, Model};
use tests::{data, gpu, sim};

/// The logits of a prompt, as bits.
fn logits(model: &Model, weights_cache: Option<&Path>) -> Vec<u32> {
    let options = EngineOptions { weights_cache: weights_cache.map(Into::into), ..gpu::options(model, 1, 8) };
    let tokens = gpu::tokens(4, 8, model.config().n_vocab);
    sim::on_decoder(&sim::driver(0, Sanitize::NONE), model, &options, |decoder| {
        gpu::logits(decoder, &gpu::rows(0, 0, &tokens), Output::AllLogits)
    })
}

#[test]
fn a_cache_of_any_state_gives_the_same_logits_and_is_whole_afterwards() {
    for file in ["synthetic/tiny-q4_k_m.gguf", "synthetic/tiny-qwen2-q8_0.gguf"] {
        let model = Model::open(data::path(file)).unwrap();
        let expected = logits(&model, None);
        let directory = tempfile::tempdir().unwrap();
        let caches = directory.path().join("caches");
        assert!(logits(&model, Some(&caches)) == expected, "{file}: no cache");
        let entries: Vec<_> = fs::read_dir(&caches).unwrap().map(|entry| entry.unwrap().path()).collect();
        let [cache] = entries.as_slice() else { panic!("{entries:?}") };
        let whole = fs::read(cache).unwrap();
        let modified = || fs::metadata(cache).unwrap().modified().unwrap();
        let before = modified();
        assert!(logits(&model, Some(&caches)) == expected, "{file}: a cache");
        assert_eq!(modified(), before, "a sound cache is not written again");
        let flipped = |at: usize| {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x10;
            bytes
        };
        let last = whole.len() - 1;
        for (what, bytes) in [
            ("shortened", whole[..last].to_vec()),
            ("empty", Vec::new()),
            ("another key", flipped(9)),
            ("the last weight damaged", flipped(last)),
            ("many weights damaged", flipped(whole.len() / 2)),
            ("zeros", vec![0; whole.len()]),
        ] {
            fs::write(cache, bytes).unwrap();
            assert!(logits(&model, Some(&caches)) == expected, "{file}: {what}");
            assert!(fs::read(cache).unwrap() == whole, "{file}: {what}: it is not made anew");
        }
    }
}

#[test]
fn without_a_place_for_the_cache_the_engine_runs() {
    let model = Model::open(data::path("synthetic/tiny-q4_k_m.gguf")).unwrap();
    let expected = logits(&model, None);
    assert!(logits(&model, Some(Path::new("/proc/self"))) == expected);
    assert!(logits(&Model::embedded().unwrap(), Some(Path::new("/proc/self"))).len() > 8);
}

/// The cache has the bytes of the model file, and the one of the same file under other options is the same.
#[test]
fn the_cache_does_not_depend_on_the_engine() {
    let model = Model::open(data::path("synthetic/tiny-q4_k_m.gguf")).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let small = EngineOptions { weights_cache: Some(directory.path().into()), ..gpu::options(&model, 1, 4) };
    let large = EngineOptions { max_seq: 128, n_sequences: 2, max_rows: 8, ..small.clone() };
    let mut contents = Vec::new();
    for options in [&small, &large] {
        sim::on_decoder(&sim::driver(0, Sanitize::NONE), &model, options, |_| ());
        let entries: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(entries.len(), 1);
        let path = entries[0].as_ref().unwrap().path();
        contents.push((fs::metadata(&path).unwrap().modified().unwrap(), fs::read(path).unwrap()));
    }
    assert!(contents[0] == contents[1]);
}
