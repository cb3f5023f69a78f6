//! Weights in the device's layout on disk, so that they need not be reordered again.
//!
//! A cache is a file of its own for each model file. All of it follows from the model file, but for the sums:
//!
//! | bytes | |
//! | --- | --- |
//! | key | what the image was made from and how; a file with another key is of no use |
//! | sums | a checksum of each piece of the image, [`PIECE_BYTES`] each, u64 |
//! | 8 | the checksum of the sums |
//! | to a multiple of 4096 | zeros |
//! | image | [`WeightImage`], from its first byte to the end of the last weight |
//!
//! The key is the magic, the versions of this format and of the layout, the size of a piece, the model file's length,
//! time of modification and the checksum of its metadata and tensor table, and every weight with its type, shape and
//! place. Numbers are little-endian. Nothing in it depends on the device: all have one layout.
//!
//! A piece whose sum is wrong is made from the model file instead, so a damaged cache never makes a wrong weight.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::UNIX_EPOCH;

use memmap2::Mmap;
use rayon::prelude::*;

use super::checksum::checksum;
use super::error::CudaError;
use super::upload::PIECE_BYTES;
use super::weight_image::WeightImage;
use crate::model::Model;

const MAGIC: [u8; 8] = *b"WARPSWTS";

/// Of the file's format.
const VERSION: u32 = 1;

/// Of [`tensor_formats::planes`]: to be raised whenever a byte of any type's layout moves.
const LAYOUT_VERSION: u32 = 1;

/// What the image's place in the file is a multiple of.
const PAGE: usize = 4096;

/// Pieces that are made at once when a cache is written.
const WRITTEN_AT_ONCE: usize = 32;

/// Why a cache is not used.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// There is none.
    #[error("there is none")]
    Missing,
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// It is shorter or longer than it should be.
    #[error("it has {found} bytes instead of {expected}")]
    Length {
        /// What it should have.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// It was made from something else.
    #[error("it was made from another version of the model, or by another version of the program")]
    Key,
    /// Its sums are not what was written.
    #[error("it is damaged")]
    Sums,
}

/// Where the cache of a model's weights is, and what it must say.
#[derive(Debug)]
pub struct WeightCache {
    path: PathBuf,
    key: Vec<u8>,
    image_bytes: usize,
}

/// A cache that can be read.
#[derive(Debug)]
pub struct CachedImage {
    map: Mmap,
    image: usize,
    sums: Vec<u64>,
    damaged: AtomicUsize,
}

impl WeightCache {
    /// The cache in `directory` for an image of a model that comes from a file; others have none.
    pub fn new(directory: &Path, model: &Model, image: &WeightImage<'_>) -> Option<Self> {
        let gguf = model.gguf();
        let file = gguf.file()?;
        let image_bytes = usize::try_from(image.bytes()).ok()?;
        let mut key = Vec::from(MAGIC);
        let modified = file.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
        key.extend(
            [VERSION, LAYOUT_VERSION, PIECE_BYTES as u32, modified.subsec_nanos()]
                .map(u32::to_le_bytes)
                .as_flattened(),
        );
        let parts = image.parts();
        let numbers =
            [modified.as_secs(), file.bytes, checksum(gguf.head()), image.bytes(), parts.len() as u64];
        key.extend(numbers.map(u64::to_le_bytes).as_flattened());
        for part in parts {
            key.extend((part.name.len() as u32).to_le_bytes());
            key.extend(part.name.as_bytes());
            key.extend(part.element.ggml_id()?.to_le_bytes());
            let numbers = [part.rows as u64, part.cols as u64, part.place.offset, part.place.bytes];
            key.extend(numbers.map(u64::to_le_bytes).as_flattened());
        }
        // Models of one name in several folders have a cache each.
        let stem = file.path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let folder = checksum(file.path.as_os_str().as_encoded_bytes());
        let path = directory.join(format!("{stem}-{folder:016x}.weights"));
        Some(Self { path, key, image_bytes })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn n_pieces(&self) -> usize {
        self.image_bytes.div_ceil(PIECE_BYTES)
    }

    /// Where the image begins.
    fn image_offset(&self) -> usize {
        (self.key.len() + (self.n_pieces() + 1) * 8).next_multiple_of(PAGE)
    }

    /// Maps the file, if it is what it should be. The file must not be changed while it is mapped; [`write`](Self::write)
    /// never does, it puts another in its place.
    ///
    /// # Errors
    /// Why it is of no use.
    pub fn open(&self) -> Result<CachedImage, Refusal> {
        let file = File::open(&self.path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Refusal::Missing,
            _ => Refusal::Read(error),
        })?;
        let found = file.metadata().map_err(Refusal::Read)?.len();
        let expected = (self.image_offset() + self.image_bytes) as u64;
        if found != expected {
            return Err(Refusal::Length { expected, found });
        }
        // SAFETY: the mapping is only read, and lives in the value that is returned. That nobody writes to the file is
        // the documented condition; this program replaces such files and never writes to them.
        let map = unsafe { Mmap::map(&file) }.map_err(Refusal::Read)?;
        let (key, rest) = map.split_at(self.key.len());
        if key != self.key {
            return Err(Refusal::Key);
        }
        let (sums, rest) = rest.split_at(self.n_pieces() * 8);
        if checksum(sums).to_le_bytes() != rest[..8] {
            return Err(Refusal::Sums);
        }
        let sums = sums
            .chunks_exact(8)
            .map(|b| u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]))
            .collect();
        Ok(CachedImage { map, image: self.image_offset(), sums, damaged: AtomicUsize::new(0) })
    }

    /// Writes the file: under another name first, so that whoever opens it finds all of it or the one before.
    ///
    /// # Errors
    /// The system's, or an image that cannot be made. Nothing is left behind.
    pub fn write(&self, image: &WeightImage<'_>) -> io::Result<()> {
        static WRITTEN: AtomicU64 = AtomicU64::new(0);
        if let Some(directory) = self.path.parent() {
            fs::create_dir_all(directory)?;
        }
        let unique = format!("{}-{}", std::process::id(), WRITTEN.fetch_add(1, Ordering::Relaxed));
        let temporary = self.path.with_extension(format!("{unique}.tmp"));
        // No wait for the disk: what a power cut leaves of the file has other sums.
        let written = self.write_to(&temporary, image).and_then(|()| fs::rename(&temporary, &self.path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn write_to(&self, path: &Path, image: &WeightImage<'_>) -> io::Result<()> {
        use std::io::Seek as _;
        let file = File::create_new(path)?;
        let offset = self.image_offset();
        file.set_len((offset + self.image_bytes) as u64)?;
        let mut writer = BufWriter::new(&file);
        writer.seek(io::SeekFrom::Start(offset as u64))?;
        let mut sums = Vec::with_capacity(self.n_pieces() * 8);
        let mut buffer = vec![0; (WRITTEN_AT_ONCE * PIECE_BYTES).min(self.image_bytes)];
        for start in (0..self.image_bytes).step_by(WRITTEN_AT_ONCE * PIECE_BYTES) {
            let bytes = buffer.len().min(self.image_bytes - start);
            let pieces = buffer[..bytes].par_chunks_mut(PIECE_BYTES).enumerate();
            let made: Vec<Result<u64, CudaError>> = pieces
                .map(|(index, piece)| {
                    image.fill((start + index * PIECE_BYTES) as u64, piece)?;
                    Ok(checksum(piece))
                })
                .collect();
            for sum in made {
                sums.extend(sum.map_err(io::Error::other)?.to_le_bytes());
            }
            writer.write_all(&buffer[..bytes])?;
        }
        writer.seek(io::SeekFrom::Start(0))?;
        writer.write_all(&self.key)?;
        writer.write_all(&sums)?;
        writer.write_all(&checksum(&sums).to_le_bytes())?;
        writer.flush()
    }
}

impl CachedImage {
    /// Copies the piece that begins at `start` to `to`, which has its length, and says whether it is what was written.
    pub fn read(&self, start: u64, to: &mut [u8]) -> bool {
        let piece = usize::try_from(start).ok().filter(|start| start.is_multiple_of(PIECE_BYTES));
        let source = piece.and_then(|start| {
            let from = self.image.checked_add(start)?;
            let sum = self.sums.get(start / PIECE_BYTES)?;
            Some((self.map.get(from..from.checked_add(to.len())?)?, *sum))
        });
        let sound = source.is_some_and(|(source, sum)| {
            to.copy_from_slice(source);
            checksum(to) == sum
        });
        if !sound {
            self.damaged.fetch_add(1, Ordering::Relaxed);
        }
        sound
    }

    /// Pieces that were not what was written, of those that were read.
    pub fn damaged(&self) -> usize {
        self.damaged.load(Ordering::Relaxed)
    }
}
