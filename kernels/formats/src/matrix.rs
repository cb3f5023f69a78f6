//! A checked view of weight rows.

use std::ops::Range;

use crate::{ElementType, FormatError};

/// Contiguous rows of weights in the bytes of a tensor, checked once.
///
/// The view is two words and a few numbers: pass it by value, cut it with [`slice`](Self::slice) to share a matrix
/// between threads.
#[derive(Debug, Clone, Copy)]
pub struct Matrix<'a> {
    ty: ElementType,
    cols: usize,
    row_bytes: usize,
    bytes: &'a [u8],
}

impl<'a> Matrix<'a> {
    /// A view of `bytes` as rows of `cols` values of type `ty`. The bytes need no alignment.
    ///
    /// # Errors
    /// [`FormatError::NotDefined`] if `ty` is no weight type; as [`ElementType::row_bytes`];
    /// [`FormatError::Length`] if `bytes` is not a whole number of rows or `cols` is 0.
    pub fn new(ty: ElementType, cols: usize, bytes: &'a [u8]) -> Result<Self, FormatError> {
        if !ty.is_weight() {
            return Err(FormatError::NotDefined { operation: "a weight matrix", ty });
        }
        Ok(Self { ty, cols, row_bytes: whole_rows(ty, cols, bytes)?, bytes })
    }

    /// The element type.
    pub fn ty(self) -> ElementType {
        self.ty
    }

    /// The number of rows: output features.
    pub fn rows(self) -> usize {
        self.bytes.len() / self.row_bytes
    }

    /// The number of values in a row: input features.
    pub fn cols(self) -> usize {
        self.cols
    }

    /// The bytes of one row.
    pub fn row_bytes(self) -> usize {
        self.row_bytes
    }

    /// The bytes of all rows.
    pub fn bytes(self) -> &'a [u8] {
        self.bytes
    }

    /// The rows in `rows` alone.
    ///
    /// # Errors
    /// [`FormatError::Length`] if the range ends beyond the last row or before it begins.
    pub fn slice(self, rows: Range<usize>) -> Result<Self, FormatError> {
        if rows.start > rows.end || rows.end > self.rows() {
            let (expected, actual) = (self.rows(), rows.end);
            return Err(FormatError::Length { what: "end of a range of matrix rows", expected, actual });
        }
        Ok(Self { bytes: &self.bytes[rows.start * self.row_bytes..rows.end * self.row_bytes], ..self })
    }

    /// The bytes of each row.
    pub fn iter_rows(self) -> impl ExactSizeIterator<Item = &'a [u8]> {
        self.bytes.chunks_exact(self.row_bytes)
    }
}

/// The bytes of one row, if `bytes` is a whole number of them.
pub(crate) fn whole_rows(ty: ElementType, cols: usize, bytes: &[u8]) -> Result<usize, FormatError> {
    let row_bytes = ty.row_bytes(cols)?;
    if row_bytes == 0 {
        return Err(FormatError::Length {
            what: "columns of a matrix",
            expected: ty.block_elements(),
            actual: 0,
        });
    }
    let whole = bytes.len() / row_bytes * row_bytes;
    FormatError::check_len("bytes of whole rows", whole, bytes.len())?;
    Ok(row_bytes)
}
