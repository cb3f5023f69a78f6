//! Why a file is not a model that this crate runs.

use graph::rope::RopeTableError;
use tensor_formats::{ElementType, FormatError};

use crate::gguf::GgufError;

/// Why a file is not a model that this crate runs.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The file's metadata.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// An architecture that is not built here.
    #[error("architecture {found:?} is not supported (llama and qwen2 are)")]
    Architecture {
        /// The value of `general.architecture`.
        found: String,
    },
    /// A file that holds something else than a whole model.
    #[error("the file holds {found}, not a whole model")]
    NotAModel {
        /// What it holds.
        found: String,
    },
    /// A feature of the model that is not built here.
    #[error("{feature} is not supported (metadata {key} = {value})")]
    Unsupported {
        /// The feature, in words.
        feature: &'static str,
        /// The metadata key that asks for it.
        key: String,
        /// Its value.
        value: String,
    },
    /// A hyperparameter that makes no sense.
    #[error("metadata {key} = {value}: must be {expected}")]
    Hyperparameter {
        /// The metadata key.
        key: String,
        /// Its value.
        value: String,
        /// What it must be.
        expected: String,
    },
    /// A tensor that the architecture needs and the file lacks.
    #[error("tensor {name} {dims:?} is missing")]
    MissingTensor {
        /// The tensor.
        name: String,
        /// The shape it should have, outermost first.
        dims: Vec<usize>,
    },
    /// A tensor of another shape than the metadata says.
    #[error("tensor {name} has the shape {found:?}, {expected:?} is needed")]
    Shape {
        /// The tensor.
        name: String,
        /// Its shape, outermost first.
        found: Vec<usize>,
        /// The shape needed.
        expected: Vec<usize>,
    },
    /// A tensor of a type that cannot be read.
    #[error("tensor {name}")]
    TensorFormat {
        /// The tensor.
        name: String,
        /// What is wrong with its type.
        source: FormatError,
    },
    /// A tensor of a type that is not used for what it is.
    #[error("tensor {name} is {found}, {expected} is needed")]
    TensorType {
        /// The tensor.
        name: String,
        /// Its type.
        found: ElementType,
        /// The type needed.
        expected: ElementType,
    },
    /// Tensors of the file that the model would not use: it would not be the model that the file holds.
    #[error("the file holds {} tensors that the {architecture} architecture does not use: {}", names.len(), shorten(names))]
    Unconsumed {
        /// The architecture's name.
        architecture: &'static str,
        /// The tensors.
        names: Vec<String>,
    },
    /// RoPE parameters from which no table can be made, such as a frequency factor of zero.
    #[error("{}", rope_part(.0))]
    Rope(#[from] RopeTableError),
    /// A step that cannot be laid out.
    #[error(
        "a step of {rows} rows, {n_sequences} sequences, {max_seq} positions: each must be from 1 to 4294967295"
    )]
    StepShape {
        /// Rows.
        rows: usize,
        /// Sequences.
        n_sequences: usize,
        /// Positions of each cache.
        max_seq: usize,
    },
}

/// What RoPE's table could not be made from.
fn rope_part(error: &RopeTableError) -> &'static str {
    match error {
        RopeTableError::Factor { .. } => "tensor rope_freqs.weight",
        _ => "RoPE",
    }
}

/// The first few names.
fn shorten(names: &[String]) -> String {
    const SHOWN: usize = 4;
    let mut text =
        names.iter().take(SHOWN).map(|name| name.escape_debug().to_string()).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text.push_str(", ...");
    }
    text
}
