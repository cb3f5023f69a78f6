//! What a cache of weights has to survive.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::engine_layout::EngineLayout;
use super::machine::Machine;
use super::upload::PIECE_BYTES;
use super::weight_cache::{CachedImage, Refusal, WeightCache};
use super::weight_image::WeightImage;
use crate::engine::EngineOptions;
use crate::model::Model;
use crate::synthetic::{Preset, Quant, Vocabulary, image};

/// A model file, and a directory for caches beside it.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        let files = Self(TempDir::new().unwrap());
        files.write_model(1);
        files
    }

    /// A model of which each seed has other weights.
    fn write_model(&self, seed: u64) {
        let image = image(Preset::TinyQwen2, Quant::Q4KM, seed, Vocabulary::None).unwrap();
        fs::write(self.model_path(), &*image).unwrap();
    }

    fn model_path(&self) -> PathBuf {
        self.0.path().join("model.gguf")
    }

    fn caches(&self) -> PathBuf {
        self.0.path().join("caches")
    }

    fn model(&self) -> Model {
        Model::open(self.model_path()).unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.caches()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }
}

/// Calls `work` with the cache in `directory` and the image that it is of.
fn with_cache<T>(
    directory: &Path,
    model: &Model,
    work: impl FnOnce(&WeightCache, &WeightImage<'_>) -> T,
) -> T {
    let options = EngineOptions::for_model(model.config());
    let layout = EngineLayout::new(model.config(), &options, Machine::H200).unwrap();
    let image = WeightImage::new(model, &layout).unwrap();
    work(&WeightCache::new(directory, model, &image).unwrap(), &image)
}

/// The pieces of the image in turn, and whether each was sound.
fn pieces(cached: &CachedImage, bytes: u64) -> (Vec<u8>, Vec<bool>) {
    let mut all = vec![0xee; bytes as usize];
    let pieces = all.chunks_mut(PIECE_BYTES).enumerate();
    let sound = pieces.map(|(index, piece)| cached.read((index * PIECE_BYTES) as u64, piece)).collect();
    (all, sound)
}

fn made(image: &WeightImage<'_>) -> Vec<u8> {
    let mut bytes = vec![0xee; image.bytes() as usize];
    image.fill(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn what_was_written_is_read() {
    let files = Files::new();
    with_cache(&files.caches(), &files.model(), |cache, image| {
        assert!(matches!(cache.open(), Err(Refusal::Missing)));
        cache.write(image).unwrap();
        let cached = cache.open().unwrap();
        let (bytes, sound) = pieces(&cached, image.bytes());
        assert!(bytes == made(image) && sound.iter().all(|&sound| sound) && sound.len() > 1);
        assert_eq!(cached.damaged(), 0);
        // Only whole pieces have sums.
        assert!(!cached.read(1, &mut [0; 8]) && !cached.read(u64::MAX, &mut [0; 8]));
        assert!(!cached.read(0, &mut [0; 8]));
    });
    assert_eq!(files.names().len(), 1, "{:?}", files.names());
    assert!(files.names()[0].starts_with("model-") && files.names()[0].ends_with(".weights"));
}

#[test]
fn another_version_of_the_model_has_another_key() {
    let files = Files::new();
    let directory = files.caches();
    with_cache(&directory, &files.model(), |cache, image| cache.write(image).unwrap());
    let refused =
        || with_cache(&directory, &files.model(), |cache, _| matches!(cache.open(), Err(Refusal::Key)));
    assert!(!refused());
    // Touched, though nothing in it changed.
    let modified = File::open(files.model_path()).unwrap().metadata().unwrap().modified().unwrap();
    let set =
        |time: SystemTime| File::options().write(true).open(files.model_path()).unwrap().set_modified(time);
    set(modified + Duration::from_nanos(1_000)).unwrap();
    assert!(refused());
    set(modified).unwrap();
    assert!(!refused());
    // Other metadata of the same length at the same time.
    let mut bytes = fs::read(files.model_path()).unwrap();
    let name = bytes.windows(9).position(|window| window == b"synthetic").unwrap();
    bytes[name] = b'S';
    fs::write(files.model_path(), &bytes).unwrap();
    set(modified).unwrap();
    assert!(refused());
    // It is put in the place of the old one.
    with_cache(&directory, &files.model(), |cache, image| {
        cache.write(image).unwrap();
        assert!(cache.open().is_ok());
    });
    assert_eq!(files.names().len(), 1);
}

#[test]
fn models_of_one_name_in_two_folders_have_two_caches() {
    let (one, two) = (Files::new(), Files::new());
    for files in [&one, &two] {
        with_cache(&one.caches(), &files.model(), |cache, image| cache.write(image).unwrap());
    }
    assert_eq!(one.names().len(), 2);
}

#[test]
fn a_model_without_a_file_has_no_cache() {
    let model = Model::embedded().unwrap();
    let options = EngineOptions::for_model(model.config());
    let layout = EngineLayout::new(model.config(), &options, Machine::H200).unwrap();
    let image = WeightImage::new(&model, &layout).unwrap();
    assert!(WeightCache::new(Path::new("caches"), &model, &image).is_none());
}

#[test]
fn no_damage_makes_a_wrong_weight() {
    let files = Files::new();
    with_cache(&files.caches(), &files.model(), |cache, image| {
        cache.write(image).unwrap();
        let right = made(image);
        let whole = fs::read(cache.path()).unwrap();
        for length in [0, 1, 8, 100, 4096, whole.len() / 2, whole.len() - 1, whole.len() + 1] {
            let mut bytes = whole.clone();
            bytes.resize(length, 0);
            fs::write(cache.path(), &bytes).unwrap();
            assert!(matches!(cache.open(), Err(Refusal::Length { .. })), "{length} bytes");
        }
        let image_offset = whole.len() - right.len();
        // Every bit of the key and of the sums, but the zeros after them; of the image one in each of some places.
        let table = image_offset - whole[..image_offset].iter().rev().take_while(|&&byte| byte == 0).count();
        let image_bytes = [0, 1, PIECE_BYTES - 1, PIECE_BYTES, right.len() - 1].map(|at| image_offset + at);
        let (mut refused, mut damaged) = (0, 0);
        for at in (0..table).chain(image_bytes) {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << (at % 8);
            fs::write(cache.path(), &bytes).unwrap();
            match cache.open() {
                Err(Refusal::Key | Refusal::Sums) => refused += 1,
                Ok(cached) => {
                    let (mut bytes, sound) = pieces(&cached, image.bytes());
                    assert_eq!((cached.damaged(), at >= image_offset), (1, true), "byte {at}");
                    for (piece, sound) in sound.iter().enumerate() {
                        let start = piece * PIECE_BYTES;
                        let end = (start + PIECE_BYTES).min(bytes.len());
                        if !sound {
                            image.fill(start as u64, &mut bytes[start..end]).unwrap();
                        }
                    }
                    assert!(bytes == right, "byte {at}");
                    damaged += 1;
                }
                Err(other) => panic!("byte {at}: {other}"),
            }
        }
        assert_eq!((refused, damaged), (table, image_bytes.len()));
    });
}

#[test]
fn a_place_that_cannot_be_written_is_an_error_that_leaves_nothing() {
    let files = Files::new();
    let occupied = files.0.path().join("occupied");
    fs::write(&occupied, b"a file").unwrap();
    // Not even the superuser makes a file there.
    let system = Path::new("/proc/self");
    for directory in [occupied.join("caches"), occupied.clone(), system.join("caches"), system.to_owned()] {
        with_cache(&directory, &files.model(), |cache, image| {
            assert!(cache.write(image).is_err(), "{}", directory.display());
            assert!(cache.open().is_err());
        });
    }
    // A directory of the cache's own name cannot be replaced by it.
    with_cache(&files.caches(), &files.model(), |cache, image| {
        fs::create_dir_all(cache.path().join("inner")).unwrap();
        assert!(cache.write(image).is_err());
    });
    assert_eq!(files.names().len(), 1, "{:?}", files.names());
}

/// The marker that tells this test, started by itself in another process, what it is.
const WRITER: &str = "this process writes";

#[test]
fn processes_that_write_at_once_leave_one_whole_cache() {
    let here = std::env::current_dir().unwrap();
    if here.join(WRITER).exists() {
        let model = Model::open("model.gguf").unwrap();
        for _ in 0..20 {
            with_cache(Path::new("caches"), &model, |cache, image| {
                cache.write(image).unwrap();
                let (bytes, sound) = pieces(&cache.open().unwrap(), image.bytes());
                assert!(bytes == made(image) && sound.iter().all(|&sound| sound));
            });
        }
        return;
    }
    let files = Files::new();
    fs::write(files.0.path().join(WRITER), b"").unwrap();
    let name = "cuda::weight_cache_tests::processes_that_write_at_once_leave_one_whole_cache";
    let writer = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([name, "--exact"]).current_dir(files.0.path()).spawn().unwrap()
    };
    for mut process in [writer(), writer(), writer()] {
        assert!(process.wait().unwrap().success());
    }
    with_cache(&files.caches(), &files.model(), |cache, image| {
        let (bytes, _) = pieces(&cache.open().unwrap(), image.bytes());
        assert!(bytes == made(image));
    });
    assert_eq!(files.names().len(), 1, "{:?}", files.names());
}
