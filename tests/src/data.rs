//! Where the test data is: models and recorded outputs under `tests/data`.

use std::path::PathBuf;

use runtime::Model;

/// The path of a file of the test data. A bundle for another machine moves the folder and says so by
/// `WARPSMITH_TEST_DATA`.
pub fn path(file: &str) -> PathBuf {
    let folder = match std::env::var_os("WARPSMITH_TEST_DATA") {
        Some(folder) => PathBuf::from(folder),
        None => PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/data")),
    };
    folder.join(file)
}

/// A file of the test data.
///
/// # Panics
/// If it cannot be read: a test without its data has failed.
pub fn read(file: &str) -> Vec<u8> {
    let path = path(file);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A model of the test data; `tiny-q4_k_m.gguf` is the one that the program embeds.
///
/// # Panics
/// If it cannot be loaded.
pub fn model(file: &str) -> Model {
    let model = match file {
        "tiny-q4_k_m.gguf" => Model::embedded(),
        file => Model::open(path(file)),
    };
    model.unwrap_or_else(|error| panic!("{file}: {error}"))
}
