//! What can be wrong with a GGUF file.

use std::fmt;

use tensor_formats::FormatError;

use super::ValueType;

/// The part of a file that an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Field {
    /// A field of the header.
    Header(&'static str),
    /// The key of the metadata entry with this number.
    Key(u64),
    /// The value of a metadata key.
    Value(String),
    /// The name of the tensor with this number.
    TensorName(u64),
    /// A field of a tensor's description.
    Tensor {
        /// The tensor.
        name: String,
        /// The field.
        field: &'static str,
    },
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => f.write_str(name),
            Self::Key(index) => write!(f, "key of metadata entry {index}"),
            Self::Value(key) => write!(f, "metadata {}", key.escape_debug()),
            Self::TensorName(index) => write!(f, "name of tensor {index}"),
            Self::Tensor { name, field } => write!(f, "{field} of tensor {}", name.escape_debug()),
        }
    }
}

/// What is wrong with a GGUF file, with the field and where it is.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// Another kind of file.
    #[error("not a GGUF file: it starts with {found:02x?}, not with \"GGUF\"")]
    Magic {
        /// The first bytes.
        found: [u8; 4],
    },
    /// A version that this reader does not know.
    #[error("GGUF version {found} is not supported (2 and 3 are)")]
    Version {
        /// The version.
        found: u32,
    },
    /// A file for big-endian machines.
    #[error("big-endian GGUF files are not supported")]
    BigEndian,
    /// A file that ends early.
    #[error("{field} at byte {offset} needs {needed} bytes, but {remaining} are left in the file")]
    Truncated {
        /// What was being read.
        field: Field,
        /// Where it starts.
        offset: usize,
        /// How many bytes it takes; for a list, the least that its length takes.
        needed: u128,
        /// How many there are.
        remaining: usize,
    },
    /// A string that is not UTF-8.
    #[error("{field} at byte {offset} is not UTF-8")]
    Utf8 {
        /// The string.
        field: Field,
        /// Where it starts.
        offset: usize,
    },
    /// A value type that GGUF does not have.
    #[error("{field} at byte {offset} has the unknown value type {found}")]
    ValueType {
        /// The value.
        field: Field,
        /// Where the type is.
        offset: usize,
        /// The type's number.
        found: u32,
    },
    /// A truth value that is neither 0 nor 1.
    #[error("{field} at byte {offset} is the truth value {found}")]
    Bool {
        /// The value.
        field: Field,
        /// Where it is.
        offset: usize,
        /// The byte found.
        found: u8,
    },
    /// Arrays in arrays beyond reason.
    #[error("{field} at byte {offset} nests arrays more than {limit} deep")]
    Depth {
        /// The value.
        field: Field,
        /// Where the innermost array starts.
        offset: usize,
        /// The limit.
        limit: usize,
    },
    /// A name that occurs twice.
    #[error("{what} {name:?} occurs twice")]
    Duplicate {
        /// Metadata key or tensor.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A data alignment that is no alignment.
    #[error("general.alignment is {found}, must be a power of two and a multiple of 8")]
    Alignment {
        /// The value.
        found: u32,
    },
    /// A tensor with no or too many dimensions, or with an empty one.
    #[error("tensor {name:?} has the dimensions {dims:?}: 1 to 4 are needed, none of them zero")]
    Dimensions {
        /// The tensor.
        name: String,
        /// Its dimensions as far as they are known, innermost first as in the file.
        dims: Vec<u64>,
    },
    /// A tensor with too many dimensions.
    #[error("tensor {name:?} has {found} dimensions: 1 to 4 are needed")]
    Rank {
        /// The tensor.
        name: String,
        /// Number of dimensions.
        found: u32,
    },
    /// A tensor that is larger than any memory.
    #[error("the size of tensor {name:?} {dims:?} overflows")]
    Overflow {
        /// The tensor.
        name: String,
        /// Its dimensions, innermost first as in the file.
        dims: Vec<u64>,
    },
    /// A tensor whose rows are not whole blocks.
    #[error("tensor {name:?}")]
    TensorFormat {
        /// The tensor.
        name: String,
        /// What its type says.
        source: FormatError,
    },
    /// A tensor whose data does not start at a multiple of the alignment.
    #[error(
        "tensor {name:?} starts at data offset {offset}, which is no multiple of the alignment {alignment}"
    )]
    TensorAlignment {
        /// The tensor.
        name: String,
        /// Its offset in the data section.
        offset: u64,
        /// The file's alignment.
        alignment: u32,
    },
    /// A tensor that reaches past the end of the file.
    #[error(
        "tensor {name:?} takes {bytes} bytes at data offset {offset}, but the file has {available} bytes of data"
    )]
    OutOfFile {
        /// The tensor.
        name: String,
        /// Its offset in the data section.
        offset: u64,
        /// Its size.
        bytes: u64,
        /// Size of the data section.
        available: u64,
    },
    /// Two tensors that share bytes.
    #[error("tensors {first:?} and {second:?} overlap")]
    Overlap {
        /// The one that starts earlier.
        first: String,
        /// The other.
        second: String,
    },
    /// An image in memory that is not aligned.
    #[error("the GGUF image is at an address that is no multiple of {required}")]
    Misaligned {
        /// The alignment needed.
        required: usize,
    },
    /// A metadata key that is not there.
    #[error("metadata key {key:?} is missing (type {expected})")]
    MissingKey {
        /// The key.
        key: String,
        /// The type needed.
        expected: &'static str,
    },
    /// A metadata value of another type.
    #[error("metadata key {key:?} has the type {found}, {expected} is needed")]
    WrongType {
        /// The key.
        key: String,
        /// The type needed.
        expected: &'static str,
        /// The type it has.
        found: FoundType,
    },
    /// A metadata number out of range.
    #[error("metadata key {key:?} is {value}, must be {expected}")]
    OutOfRange {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The range, in words.
        expected: &'static str,
    },
    /// A tensor that is not there.
    #[error("tensor {name:?} is missing")]
    MissingTensor {
        /// The tensor.
        name: String,
    },
}

/// The type of a metadata value that was found where another was needed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FoundType {
    /// A value.
    One(ValueType),
    /// An array of values.
    ArrayOf(ValueType),
}

impl fmt::Display for FoundType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(ty) => write!(f, "{ty}"),
            Self::ArrayOf(ty) => write!(f, "array of {ty}"),
        }
    }
}
