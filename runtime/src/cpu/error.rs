//! What the CPU backend refuses.

use graph::{BufferId, DispatchError};
use tensor_formats::{ElementType, FormatError};

/// An operation that the CPU backend cannot run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CpuError {
    /// An operation or type that the backend lacks.
    #[error(transparent)]
    Unsupported(#[from] DispatchError),
    /// Sizes that the format does not allow.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A leaf without memory of the type that the operation reads.
    #[error("{buffer} is not bound to memory of type {dtype}")]
    Unbound {
        /// The buffer.
        buffer: BufferId,
        /// What the operation reads.
        dtype: ElementType,
    },
    /// Memory that is shorter than the view on it.
    #[error("{buffer} ends at byte {bytes}, the view ends at {end}")]
    TooShort {
        /// The buffer.
        buffer: BufferId,
        /// Its length in bytes.
        bytes: usize,
        /// The view's end in bytes.
        end: u64,
    },
    /// An operand that shares bytes with the result where the operation does not allow it.
    #[error("an operand overlaps the result in the {buffer}")]
    Overlap {
        /// The buffer of both.
        buffer: BufferId,
    },
    /// A token, position or sequence out of range.
    #[error("row {row}: {what} {value} is out of range, the limit is {limit}")]
    Index {
        /// Which kind of index.
        what: &'static str,
        /// The row.
        row: usize,
        /// The index.
        value: u32,
        /// The first value that is too large.
        limit: usize,
    },
}
