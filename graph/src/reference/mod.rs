//! Every operation in plain f64, apart from any backend.
//!
//! - [`ops`] and [`cached`]: the operations as functions on slices, written from their definitions in [`TensorOp`] for
//!   clarity and not for speed. Weights come dequantised, see [`dequantize`].
//! - [`evaluate`]: a whole graph by value, without a memory plan, every tensor in f64.
//! - [`ReferenceDispatch`]: the same functions behind [`KernelDispatch`](crate::KernelDispatch), on planned memory with
//!   results rounded to their element types. It tests the executor and the planner, and is the baseline of the
//!   [conformance suite](crate::conformance).

pub mod cached;
mod dispatch;
mod evaluate;
pub mod ops;

pub use dispatch::ReferenceDispatch;
pub use evaluate::{Value, Values, evaluate};

use tensor_formats::reference::dequantize_row_f64;
use tensor_formats::{ElementType, FormatError, quantize_row};

use crate::{BufferId, TensorId, TensorOp};

/// Why the reference could not compute something.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// A token, position or sequence that is not below its limit.
    #[error("{what} {value} of row {row} is not below {limit}")]
    OutOfRange {
        /// What the value is.
        what: &'static str,
        /// The row it belongs to.
        row: usize,
        /// The value.
        value: u32,
        /// The first value that is too large.
        limit: usize,
    },
    /// No bytes were given for a leaf.
    #[error("leaf {0} is not bound")]
    NotBound(TensorId),
    /// A view that reaches beyond its buffer.
    #[error("bytes {offset}..{end} of {buffer}, which has {len}")]
    OutOfBounds {
        /// The buffer.
        buffer: BufferId,
        /// First byte of the view.
        offset: u64,
        /// End of the view.
        end: u64,
        /// Bytes of the buffer.
        len: usize,
    },
    /// A value of a kind that the operation does not take.
    #[error("{0} does not take a value of this kind")]
    Kind(TensorOp),
    /// Bytes that are not rows of their type.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// The values of rows of `cols` elements of type `dtype`, each exactly.
///
/// # Errors
/// [`FormatError`] if `bytes` are not whole rows of `dtype`, or for U32.
pub fn dequantize(dtype: ElementType, cols: usize, bytes: &[u8]) -> Result<Vec<f64>, FormatError> {
    let row_bytes = dtype.row_bytes(cols)?;
    // Of rows without bytes there are none; any byte is then too many.
    let rows = bytes.len().checked_div(row_bytes).unwrap_or(0);
    if rows * row_bytes != bytes.len() {
        let (expected, actual) = (rows * row_bytes, bytes.len());
        return Err(FormatError::Length { what: "bytes of whole rows", expected, actual });
    }
    let mut values = vec![0.0; rows * cols];
    for (row, values) in bytes.chunks(row_bytes.max(1)).zip(values.chunks_mut(cols.max(1))) {
        dequantize_row_f64(dtype, row, values)?;
    }
    Ok(values)
}

/// `values` rounded to f32, and then to `dtype`, as it is stored.
pub(crate) fn stored(dtype: ElementType, values: &[f64]) -> Result<Vec<u8>, FormatError> {
    let values: Vec<f32> = values.iter().map(|&value| value as f32).collect();
    let mut bytes = vec![0; dtype.row_bytes(values.len())?];
    quantize_row(dtype, &values, &mut bytes)?;
    Ok(bytes)
}

/// `values` rounded to f32, as little-endian bytes.
pub fn to_f32_bytes(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect()
}

/// `values` as little-endian bytes.
pub fn to_u32_bytes(values: &[u32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Little-endian bytes as U32; bytes after the last whole value are ignored.
pub fn from_u32_bytes(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks().0.iter().map(|&b| u32::from_le_bytes(b)).collect()
}
