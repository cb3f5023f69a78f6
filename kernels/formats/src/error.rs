//! What can be wrong with a tensor's type, shape or bytes.

use crate::ElementType;

/// Everything in this crate that can fail fails with this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormatError {
    /// A GGML type that exists but that this crate does not read.
    #[error("tensor type {name} ({id}) is not supported")]
    Unsupported {
        /// The type's number in a GGUF file.
        id: u32,
        /// Its name in GGML.
        name: &'static str,
    },
    /// A number that is no GGML type.
    #[error("{id} is not a known GGML tensor type")]
    UnknownType {
        /// The number found.
        id: u32,
    },
    /// A row that does not consist of whole blocks.
    #[error("{elements} elements are not a whole number of {ty} blocks of {block}")]
    PartialBlock {
        /// The row's type.
        ty: ElementType,
        /// The row's length in elements.
        elements: usize,
        /// Elements in one block of `ty`.
        block: usize,
    },
    /// A size that does not fit in `usize`.
    #[error("the size of {elements} {ty} elements overflows")]
    Overflow {
        /// The type whose size was asked for.
        ty: ElementType,
        /// The number of elements (or rows, where those overflowed).
        elements: usize,
    },
    /// A slice that is not as long as the others say it has to be.
    #[error("{what}: expected {expected}, got {actual}")]
    Length {
        /// Which slice, and in which unit its length is counted.
        what: &'static str,
        /// The length that follows from the other arguments.
        expected: usize,
        /// The length it has.
        actual: usize,
    },
    /// A value that is not finite, or too large for the format's scales.
    #[error("value {index} is not finite or too large for {ty}")]
    NotRepresentable {
        /// The format that was to hold it.
        ty: ElementType,
        /// Its index in the slice given.
        index: usize,
    },
    /// An operation that is not defined for a type.
    #[error("{operation} is not defined for {ty}")]
    NotDefined {
        /// The operation.
        operation: &'static str,
        /// The type it was asked of.
        ty: ElementType,
    },
}

impl FormatError {
    /// `Ok` if `actual == expected`, else [`FormatError::Length`].
    pub(crate) fn check_len(what: &'static str, expected: usize, actual: usize) -> Result<(), Self> {
        if actual == expected { Ok(()) } else { Err(Self::Length { what, expected, actual }) }
    }
}
