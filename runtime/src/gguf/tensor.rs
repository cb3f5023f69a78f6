//! The description of a tensor in a file.

use std::ops::Range;

use tensor_formats::{ElementType, FormatError};

use super::cursor::Cursor;
use super::error::{Field, GgufError};

/// Most dimensions of a tensor, `GGML_MAX_DIMS`.
pub(super) const MAX_RANK: usize = 4;

/// Bytes of the shortest description: an empty name, one dimension.
pub(super) const MIN_BYTES: usize = 8 + 4 + 8 + 4 + 8;

/// A tensor of a file: what it is and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// The dimensions, outermost first: `[out_features, in_features]` of a matrix. (The file has them the other way.)
    pub dims: Vec<usize>,
    /// The type's number in the file.
    pub type_id: u32,
    /// The type, or why it cannot be read.
    pub ty: Result<ElementType, FormatError>,
    /// Where the data starts, from the start of the data section.
    pub offset: u64,
    /// Where the data is in the image; `None` if the type is not one whose size is known.
    pub(super) bytes: Option<Range<usize>>,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Size of the data in bytes, if the type is one that can be read.
    pub fn byte_len(&self) -> Option<usize> {
        self.bytes.as_ref().map(|range| range.len())
    }

    /// GGML's name of the type, also of one that cannot be read.
    pub fn type_name(&self) -> String {
        match tensor_formats::ggml_name(self.type_id) {
            Some(name) => name.to_owned(),
            None => format!("type {}", self.type_id),
        }
    }

    pub(super) fn read(cursor: &mut Cursor<'_>, index: u64) -> Result<Self, GgufError> {
        let name = cursor.str(|| Field::TensorName(index))?.to_owned();
        let field = |field| Field::Tensor { name: name.clone(), field };
        let rank = cursor.u32(|| field("number of dimensions"))?;
        if !(1..=MAX_RANK as u32).contains(&rank) {
            return Err(GgufError::Rank { name, found: rank });
        }
        let mut innermost_first = Vec::with_capacity(MAX_RANK);
        for _ in 0..rank {
            innermost_first.push(cursor.u64(|| field("dimensions"))?);
        }
        let type_id = cursor.u32(|| field("type"))?;
        let offset = cursor.u64(|| field("offset"))?;
        if innermost_first.contains(&0) {
            return Err(GgufError::Dimensions { name, dims: innermost_first });
        }
        let mut dims = Vec::with_capacity(innermost_first.len());
        let mut elements = 1usize;
        for &dim in innermost_first.iter().rev() {
            match usize::try_from(dim).ok().and_then(|dim| Some((dim, elements.checked_mul(dim)?))) {
                Some((dim, product)) => {
                    dims.push(dim);
                    elements = product;
                }
                None => return Err(GgufError::Overflow { name, dims: innermost_first }),
            }
        }
        Ok(Self { name, dims, type_id, ty: ElementType::from_ggml(type_id), offset, bytes: None })
    }

    /// Finds the data in an image of `image` bytes whose data section starts at `data`.
    pub(super) fn place(&mut self, data: usize, image: usize, alignment: u32) -> Result<(), GgufError> {
        if !self.offset.is_multiple_of(alignment.into()) {
            return Err(GgufError::TensorAlignment {
                name: self.name.clone(),
                offset: self.offset,
                alignment,
            });
        }
        let bytes = match self.ty {
            Ok(ty) => {
                let cols = self.dims.last().copied().unwrap_or(0);
                let rows = self.dims.iter().rev().skip(1).product();
                ty.matrix_bytes(rows, cols)
                    .map_err(|source| GgufError::TensorFormat { name: self.name.clone(), source })?
            }
            // Without the type's block the size is unknown; the tensor is refused where it would be used.
            Err(_) => 0,
        };
        let available = image.saturating_sub(data);
        let end = usize::try_from(self.offset).ok().and_then(|start| start.checked_add(bytes));
        match end {
            Some(end) if end <= available => {
                if self.ty.is_ok() {
                    self.bytes = Some(data + end - bytes..data + end);
                }
                Ok(())
            }
            _ => Err(GgufError::OutOfFile {
                name: self.name.clone(),
                offset: self.offset,
                bytes: bytes as u64,
                available: available as u64,
            }),
        }
    }
}
