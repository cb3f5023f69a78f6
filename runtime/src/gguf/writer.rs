//! Writes GGUF version 3 images, for tests and for models made in memory.

use tensor_formats::{ElementType, FormatError};

use super::storage::Buffer;
use super::tensor::MAX_RANK;
use super::value::ValueType;
use super::{DEFAULT_ALIGNMENT, MAGIC, Storage};
use crate::error::Error;

/// Collects metadata and tensors, then lays out the image.
///
/// Tensors can be given with their data, for [`finish`](Self::finish), or only described, for
/// [`layout`](Self::layout), which reserves room to be filled in place: models of gigabytes are made that way.
#[derive(Debug, Clone, Default)]
pub struct Writer {
    n_entries: u64,
    entries: Vec<u8>,
    tensors: Vec<Tensor>,
}

#[derive(Debug, Clone)]
struct Tensor {
    name: String,
    dims: Vec<usize>,
    type_id: u32,
    bytes: usize,
    data: Vec<u8>,
}

impl Writer {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    fn entry(&mut self, key: &str, ty: ValueType, value: &[u8]) -> &mut Self {
        self.n_entries += 1;
        put_str(&mut self.entries, key);
        self.entries.extend(ty.id().to_le_bytes());
        self.entries.extend(value);
        self
    }

    fn array(&mut self, key: &str, ty: ValueType, len: usize, values: &[u8]) -> &mut Self {
        let mut value = Vec::with_capacity(12 + values.len());
        value.extend(ty.id().to_le_bytes());
        value.extend((len as u64).to_le_bytes());
        value.extend(values);
        self.entry(key, ValueType::Array, &value)
    }

    /// Adds a number.
    pub fn u32(&mut self, key: &str, value: u32) -> &mut Self {
        self.entry(key, ValueType::U32, &value.to_le_bytes())
    }

    /// Adds a number.
    pub fn f32(&mut self, key: &str, value: f32) -> &mut Self {
        self.entry(key, ValueType::F32, &value.to_le_bytes())
    }

    /// Adds a truth value.
    pub fn bool(&mut self, key: &str, value: bool) -> &mut Self {
        self.entry(key, ValueType::Bool, &[value.into()])
    }

    /// Adds a string.
    pub fn string(&mut self, key: &str, value: &str) -> &mut Self {
        let mut bytes = Vec::with_capacity(8 + value.len());
        put_str(&mut bytes, value);
        self.entry(key, ValueType::String, &bytes)
    }

    /// Adds an array of strings.
    pub fn strings<S: AsRef<str>>(&mut self, key: &str, values: &[S]) -> &mut Self {
        let mut bytes = Vec::new();
        for value in values {
            put_str(&mut bytes, value.as_ref());
        }
        self.array(key, ValueType::String, values.len(), &bytes)
    }

    /// Adds an array of numbers.
    pub fn i32s(&mut self, key: &str, values: &[i32]) -> &mut Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.array(key, ValueType::I32, values.len(), &bytes)
    }

    /// Adds a tensor with its data. `dims` are outermost first.
    ///
    /// # Errors
    /// A type that no file can hold, rows of partial blocks, or data of the wrong length.
    pub fn tensor(
        &mut self,
        name: &str,
        ty: ElementType,
        dims: &[usize],
        data: Vec<u8>,
    ) -> Result<&mut Self, FormatError> {
        let bytes = self.describe(name, ty, dims)?;
        if data.len() != bytes {
            self.tensors.pop();
            return Err(FormatError::Length {
                what: "bytes of tensor data",
                expected: bytes,
                actual: data.len(),
            });
        }
        if let Some(tensor) = self.tensors.last_mut() {
            tensor.data = data;
        }
        Ok(self)
    }

    /// Adds a tensor of f32.
    ///
    /// # Errors
    /// Data of the wrong length.
    pub fn f32_tensor(&mut self, name: &str, dims: &[usize], data: &[f32]) -> Result<&mut Self, FormatError> {
        self.tensor(name, ElementType::F32, dims, bytemuck::cast_slice(data).to_vec())
    }

    /// Adds a tensor whose data comes later; returns its size in bytes. `dims` are outermost first.
    ///
    /// # Errors
    /// A type that no file can hold, no or more than four dimensions, one of zero, rows of partial blocks, or a size that
    /// overflows.
    pub fn describe(&mut self, name: &str, ty: ElementType, dims: &[usize]) -> Result<usize, FormatError> {
        let type_id = ty.ggml_id().ok_or(FormatError::NotDefined { operation: "a GGUF tensor", ty })?;
        let actual = dims.len();
        let expected = actual.clamp(1, MAX_RANK);
        if actual != expected {
            return Err(FormatError::Length { what: "dimensions of a GGUF tensor", expected, actual });
        }
        let elements = dims.iter().try_fold(1usize, |product, &dim| product.checked_mul(dim));
        let (elements, cols) = (elements.unwrap_or(usize::MAX), dims[actual - 1]);
        if elements == 0 {
            return Err(FormatError::Length { what: "elements of a GGUF tensor", expected: 1, actual: 0 });
        }
        let bytes = ty.matrix_bytes(elements / cols, cols)?;
        self.tensors.push(Tensor {
            name: name.to_owned(),
            dims: dims.to_vec(),
            type_id,
            bytes,
            data: Vec::new(),
        });
        Ok(bytes)
    }

    /// The image with room for every tensor; data that was given is in place, the rest is zero.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn layout(&self) -> Result<Layout, Error> {
        let alignment = DEFAULT_ALIGNMENT as usize;
        let too_large = || Error::Memory { what: "a GGUF image".to_owned(), bytes: usize::MAX };
        let mut head = Vec::new();
        head.extend(MAGIC);
        head.extend(3u32.to_le_bytes());
        head.extend((self.tensors.len() as u64).to_le_bytes());
        head.extend(self.n_entries.to_le_bytes());
        head.extend(&self.entries);
        let mut offset = 0;
        let mut offsets = Vec::with_capacity(self.tensors.len());
        for tensor in &self.tensors {
            put_str(&mut head, &tensor.name);
            head.extend((tensor.dims.len() as u32).to_le_bytes());
            for &dim in tensor.dims.iter().rev() {
                head.extend((dim as u64).to_le_bytes());
            }
            head.extend(tensor.type_id.to_le_bytes());
            head.extend((offset as u64).to_le_bytes());
            offsets.push(offset);
            let end = tensor.bytes.checked_next_multiple_of(alignment).and_then(|n| n.checked_add(offset));
            offset = end.ok_or_else(too_large)?;
        }
        let data = head.len().next_multiple_of(alignment);
        let bytes = data.checked_add(offset).ok_or_else(too_large)?;
        let mut memory = Buffer::zeroed(bytes, "a GGUF image")?;
        let image = memory.bytes_mut();
        image[..head.len()].copy_from_slice(&head);
        let places: Vec<_> = self.tensors.iter().zip(offsets).map(|(t, at)| (data + at, t.bytes)).collect();
        for (tensor, &(start, _)) in self.tensors.iter().zip(&places) {
            image[start..start + tensor.data.len()].copy_from_slice(&tensor.data);
        }
        Ok(Layout { memory, places })
    }

    /// The bytes of the file.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn finish(&self) -> Result<Vec<u8>, Error> {
        Ok(self.layout()?.freeze()?.to_vec())
    }
}

/// An image whose tensors are still to be filled.
pub struct Layout {
    memory: Buffer,
    places: Vec<(usize, usize)>,
}

impl Layout {
    /// The room of every tensor, in the order in which they were added: disjoint, so they can be filled in parallel.
    pub fn tensors_mut(&mut self) -> Vec<&mut [u8]> {
        let mut rest = self.memory.bytes_mut();
        let mut at = 0;
        let mut tensors = Vec::with_capacity(self.places.len());
        for &(start, bytes) in &self.places {
            let (_, tail) = rest.split_at_mut(start - at);
            let (tensor, tail) = tail.split_at_mut(bytes);
            tensors.push(tensor);
            rest = tail;
            at = start + bytes;
        }
        tensors
    }

    /// The finished image.
    ///
    /// # Errors
    /// [`Error::Memory`].
    pub fn freeze(self) -> Result<Storage, Error> {
        self.memory.freeze()
    }
}

fn put_str(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as u64).to_le_bytes());
    out.extend(text.as_bytes());
}
