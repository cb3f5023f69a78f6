//! GGUF files, versions 2 and 3: a reader that trusts nothing, and a writer for models made in memory.
//!
//! Every length, count, offset, alignment, type, string and nesting depth is checked against the bytes that are left
//! before anything is allocated for it. A damaged file is a [`GgufError`] that names the field, never a panic, and
//! never an allocation that the file's size does not justify.
//!
//! The format is specified in `docs/gguf.md` of the ggml project.
//!
//! ```
//! use runtime::gguf::{Gguf, Storage, Writer};
//! use tensor_formats::ElementType;
//!
//! let mut writer = Writer::new();
//! writer.string("general.architecture", "llama").f32_tensor("output_norm.weight", &[2], &[1.0, 0.5])?;
//! let file = Gguf::parse(Storage::copy(&writer.finish()?)?)?;
//! assert_eq!(file.metadata().str("general.architecture")?, "llama");
//! let tensor = file.tensor("output_norm.weight").unwrap();
//! assert_eq!((tensor.ty, tensor.dims.as_slice()), (Ok(ElementType::F32), &[2][..]));
//! # Ok::<(), runtime::Error>(())
//! ```

mod cursor;
mod error;
mod metadata;
mod storage;
mod tensor;
mod value;
mod writer;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;

use cursor::Cursor;
pub use error::{Field, FoundType, GgufError};
pub use metadata::Metadata;
pub use storage::{Buffer, FileIdentity, IMAGE_ALIGNMENT, Storage};
pub use tensor::TensorInfo;
pub use value::{ArrayRef, Value, ValueType};
pub use writer::{Layout, Writer};

use crate::error::Error;

const MAGIC: [u8; 4] = *b"GGUF";
const DEFAULT_ALIGNMENT: u32 = 32;

/// An open GGUF file: metadata, tensor descriptions, and the bytes.
#[derive(Debug, Clone)]
pub struct Gguf {
    version: u32,
    alignment: u32,
    metadata: Metadata,
    tensors: Vec<TensorInfo>,
    index: HashMap<String, usize>,
    storage: Storage,
    /// Where the tensors' bytes begin.
    data: usize,
}

impl Gguf {
    /// Maps and checks a file. What [`Storage::map`] says about changing the file holds as long as it is open.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be read, [`Error::Damaged`] if it is not a sound GGUF file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let path = path.as_ref();
        Self::parse(Storage::map(path)?).map_err(|source| Error::Damaged { path: path.to_owned(), source })
    }

    /// Checks an image that lives as long as the program and starts at a multiple of [`IMAGE_ALIGNMENT`].
    ///
    /// # Errors
    /// Whatever is wrong with the image.
    pub fn from_static(image: &'static [u8]) -> Result<Self, GgufError> {
        Self::parse(Storage::from_static(image)?)
    }

    /// Checks an image.
    ///
    /// # Errors
    /// Whatever is wrong with the image.
    pub fn parse(storage: Storage) -> Result<Self, GgufError> {
        let mut cursor = Cursor::new(&storage);
        let version = read_version(&mut cursor)?;
        let n_tensors = cursor.count(tensor::MIN_BYTES, || Field::Header("number of tensors"))?;
        // A key's length, the value's type and at least one byte of value.
        let n_entries = cursor.count(8 + 4 + 1, || Field::Header("number of metadata entries"))?;

        // Both lists grow as they are read: an entry in memory is larger than the least that it takes in the file.
        let mut entries = Vec::new();
        for index in 0..n_entries as u64 {
            let key = cursor.str(|| Field::Key(index))?;
            let name = || Field::Value(key.to_owned());
            let ty = cursor.value_type(name)?;
            entries.push((key.to_owned(), cursor.value(ty, name)?));
        }
        let metadata = Metadata::new(storage.clone(), entries)?;
        let alignment = metadata.opt_u32("general.alignment")?.unwrap_or(DEFAULT_ALIGNMENT);
        if !alignment.is_power_of_two() || !alignment.is_multiple_of(8) {
            return Err(GgufError::Alignment { found: alignment });
        }

        let mut tensors = Vec::new();
        for index in 0..n_tensors as u64 {
            tensors.push(TensorInfo::read(&mut cursor, index)?);
        }
        let data = cursor.offset().next_multiple_of(alignment as usize);
        let mut index = HashMap::with_capacity(tensors.len());
        for (i, tensor) in tensors.iter_mut().enumerate() {
            tensor.place(data, storage.len(), alignment)?;
            if index.insert(tensor.name.clone(), i).is_some() {
                return Err(GgufError::Duplicate { what: "tensor", name: tensor.name.clone() });
            }
        }
        refuse_overlaps(&tensors)?;
        let data = data.min(storage.len());
        Ok(Self { version, alignment, metadata, tensors, index, storage, data })
    }

    /// The format's version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// What the offsets of tensors are multiples of.
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// Size of the whole image in bytes.
    pub fn image_bytes(&self) -> usize {
        self.storage.len()
    }

    /// The file that the image was read from, if it is one.
    pub fn file(&self) -> Option<&FileIdentity> {
        self.storage.file()
    }

    /// Everything before the tensors' bytes: the metadata and the list of tensors.
    pub fn head(&self) -> &[u8] {
        &self.storage[..self.data]
    }

    /// The metadata.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Every tensor, in the order of the file.
    pub fn tensors(&self) -> &[TensorInfo] {
        &self.tensors
    }

    /// The tensor called `name`.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.index.get(name).map(|&i| &self.tensors[i])
    }

    /// The bytes of the tensor called `name`, aligned as the file promises.
    ///
    /// # Errors
    /// [`GgufError::MissingTensor`], or [`GgufError::TensorFormat`] for a type that cannot be read.
    pub fn tensor_bytes(&self, name: &str) -> Result<&[u8], GgufError> {
        let tensor = self.tensor(name).ok_or_else(|| GgufError::MissingTensor { name: name.to_owned() })?;
        match (&tensor.bytes, tensor.ty) {
            (Some(range), _) => Ok(self.storage.slice(range.clone())),
            (None, Err(source)) => Err(GgufError::TensorFormat { name: name.to_owned(), source }),
            (None, Ok(_)) => Err(GgufError::MissingTensor { name: name.to_owned() }),
        }
    }
}

fn read_version(cursor: &mut Cursor<'_>) -> Result<u32, GgufError> {
    let magic = cursor.array(|| Field::Header("magic"))?;
    if magic != MAGIC {
        return Err(GgufError::Magic { found: magic });
    }
    match cursor.u32(|| Field::Header("version"))? {
        version @ 2..=3 => Ok(version),
        swapped if (1..=3).contains(&swapped.swap_bytes()) => Err(GgufError::BigEndian),
        found => Err(GgufError::Version { found }),
    }
}

fn refuse_overlaps(tensors: &[TensorInfo]) -> Result<(), GgufError> {
    let mut placed: Vec<_> = tensors.iter().filter_map(|t| Some((t.bytes.clone()?, &t.name))).collect();
    placed.sort_unstable_by_key(|(range, _)| range.start);
    for pair in placed.windows(2) {
        let [(first, first_name), (second, second_name)] = pair else { continue };
        if second.start < first.end {
            let (first, second) = ((*first_name).clone(), (*second_name).clone());
            return Err(GgufError::Overlap { first, second });
        }
    }
    Ok(())
}
