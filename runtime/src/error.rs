//! What can go wrong, by name.

use std::path::PathBuf;

use tensor_formats::FormatError;

pub use crate::compare::CompareError;
pub use crate::gguf::GgufError;
pub use crate::model::ModelError;
pub use crate::tokenizer::TokenizerError;

/// The boxed cause of a failure below this crate, such as a driver's.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Everything in this crate that can fail fails with this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that cannot be opened or mapped.
    #[error("cannot read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file that is not the GGUF it should be.
    #[error("{}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: GgufError,
    },
    /// A GGUF image or its metadata.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A model that this crate does not run, or that is not whole.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A tokenizer that is missing, damaged or of an unknown kind.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// An engine option out of range.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// A step that a decoder refuses.
    #[error(transparent)]
    Step(#[from] StepError),
    /// A generation that cannot start or go on.
    #[error(transparent)]
    Generate(#[from] GenerateError),
    /// A backend that was asked for and cannot be had.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A measurement that cannot be compared with an earlier one.
    #[error("cannot compare with {}", path.display())]
    Compare {
        /// The earlier one.
        path: PathBuf,
        /// Why.
        source: CompareError,
    },
    /// A tensor type or shape.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A tensor graph that cannot be built.
    #[error("cannot build the {what} graph")]
    Graph {
        /// Which graph.
        what: &'static str,
        /// What the graph refused.
        source: Cause,
    },
    /// A failure of the device or of the engine on it.
    #[error("{backend}: {action}")]
    Device {
        /// The engine: "cpu" or "cuda".
        backend: &'static str,
        /// What it was doing.
        action: String,
        /// Why it failed.
        source: Cause,
    },
    /// Memory that the system does not give.
    #[error("cannot allocate {bytes} bytes for {what}")]
    Memory {
        /// What it is for.
        what: String,
        /// How much.
        bytes: usize,
    },
}

impl Error {
    /// A device failure: `backend` was doing `action` when `source` happened.
    pub fn device(backend: &'static str, action: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Device { backend, action: action.into(), source: source.into() }
    }

    /// A graph that could not be built.
    pub fn graph(what: &'static str, source: impl Into<Cause>) -> Self {
        Self::Graph { what, source: source.into() }
    }

    /// The message with all of its causes, on one line.
    pub fn chain(&self) -> String {
        chain(self)
    }
}

/// The most characters of a [`chain`]. A compiler's log may need many; a name of a megabyte in a file needs none.
const CHAIN_CHARACTERS: usize = 10_000;

/// An error's message and those of its causes, joined by colons, on one line. What would control a terminal is escaped,
/// and what is longer than anybody reads is cut off.
pub fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        // A wrapper that already quotes its cause says nothing new.
        if !line.ends_with(&message) {
            line.push_str(": ");
            line.push_str(&message);
        }
        cause = error.source();
    }
    if let Some((end, _)) = line.char_indices().nth(CHAIN_CHARACTERS) {
        line.truncate(end);
        line.push_str("...");
    }
    let parts = line.split(['\n', '\r']).map(str::trim).filter(|part| !part.is_empty());
    let mut shown = String::with_capacity(line.len());
    for c in parts.collect::<Vec<_>>().join("; ").chars() {
        match c {
            '\t' => shown.push(' '),
            c if c.is_control() => shown.extend(c.escape_default()),
            c => shown.push(c),
        }
    }
    shown
}

/// An option of an engine out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum OptionError {
    /// A count of nothing.
    #[error("{option} must be at least 1")]
    Zero {
        /// Which option.
        option: &'static str,
    },
    /// More than can be had.
    #[error("{option} is {value}, the limit is {limit}")]
    TooLarge {
        /// Which option.
        option: &'static str,
        /// The value.
        value: usize,
        /// The most that it can be.
        limit: usize,
    },
    /// A number that is not in its range, or not a number.
    #[error("{option} is {value}, must be {expected}")]
    OutOfRange {
        /// Which option.
        option: &'static str,
        /// The value.
        value: f64,
        /// The range, in words.
        expected: &'static str,
    },
    /// A text that cannot be understood.
    #[error("{option} is {value:?}, must be {expected}")]
    Text {
        /// Which option.
        option: &'static str,
        /// The text.
        value: String,
        /// What it must be, in words.
        expected: &'static str,
    },
    /// What only the CUDA engine can do.
    #[error("{option} needs the cuda backend")]
    NeedsCuda {
        /// Which option.
        option: &'static str,
    },
}

/// A step that a decoder refuses before anything runs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StepError {
    /// A step without rows.
    #[error("a step needs at least one row")]
    Empty,
    /// More rows than the decoder was made for.
    #[error("a step of {rows} rows, the decoder takes {limit}")]
    TooManyRows {
        /// Rows of the step.
        rows: usize,
        /// The decoder's limit.
        limit: usize,
    },
    /// A token that is not in the vocabulary.
    #[error("row {row}: token {token} is outside the vocabulary of {n_vocab}")]
    Token {
        /// The row.
        row: usize,
        /// Its token.
        token: u32,
        /// The size of the vocabulary.
        n_vocab: usize,
    },
    /// A position beyond the KV cache.
    #[error("row {row}: position {position} is beyond the KV cache of {max_seq} positions")]
    Position {
        /// The row.
        row: usize,
        /// Its position.
        position: u32,
        /// Positions of the cache.
        max_seq: usize,
    },
    /// A sequence without a cache.
    #[error("row {row}: sequence {sequence}, the decoder has {n_sequences}")]
    Sequence {
        /// The row.
        row: usize,
        /// Its sequence.
        sequence: u32,
        /// Number of sequences.
        n_sequences: usize,
    },
    /// Two rows of a sequence that do not follow one another.
    #[error(
        "row {row}: position {position} of sequence {sequence}, after position {previous} of the same step"
    )]
    Order {
        /// The later row.
        row: usize,
        /// Its position.
        position: u32,
        /// The sequence.
        sequence: u32,
        /// The position of the sequence's row before.
        previous: u32,
    },
    /// Two rows of a sequence where each row is to be followed by its next token.
    #[error("row {row}: sequence {sequence} has a row already, and each is to be followed by a token")]
    Twice {
        /// The later row.
        row: usize,
        /// Its sequence.
        sequence: u32,
    },
    /// Rows that are to be followed by a token each, and another number of samplers.
    #[error("{samplers} samplers for {rows} rows")]
    Samplers {
        /// Rows of the step.
        rows: usize,
        /// Samplers.
        samplers: usize,
    },
    /// A position whose predecessors were never decoded.
    #[error("row {row}: position {position} of sequence {sequence}, whose cache holds {decoded} positions")]
    Gap {
        /// The row.
        row: usize,
        /// Its position.
        position: u32,
        /// The sequence.
        sequence: u32,
        /// Positions decoded so far.
        decoded: u32,
    },
}

/// A generation that cannot start or go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenerateError {
    /// Nothing to continue.
    #[error("the prompt is empty and the model has no start token")]
    EmptyPrompt,
    /// No token was asked for.
    #[error("the number of tokens to generate (n) must be at least 1")]
    NoTokens,
    /// A prompt that does not fit.
    #[error("the prompt has {prompt} tokens, the context holds {context}")]
    PromptTooLong {
        /// Tokens of the prompt, with the start token.
        prompt: usize,
        /// Positions of the context.
        context: usize,
    },
    /// A prompt that fits, with a continuation that does not.
    #[error(
        "{prompt} tokens of prompt and {n} to generate need {needed} positions, the context holds {context}"
    )]
    ContextTooShort {
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens to generate.
        n: usize,
        /// Positions needed: the last token is not decoded, so one less than the sum.
        needed: usize,
        /// Positions of the context.
        context: usize,
    },
    /// Logits without a finite number among them.
    #[error("the model's logits hold no number to choose from (position {position})")]
    NoFiniteLogit {
        /// The position they were computed at.
        position: usize,
    },
    /// Logits that make no distribution: one of them is NaN or infinite, or all are minus infinity.
    #[error("the model's logits are not all numbers (position {position})")]
    NanLogit {
        /// The position they were computed at.
        position: usize,
    },
    /// An engine that returned something else than it was asked for.
    #[error("the engine returned {found} where {expected} was asked for")]
    WrongOutput {
        /// What was asked for.
        expected: &'static str,
        /// What came.
        found: &'static str,
    },
    /// Too few tokens for a loss.
    #[error("a loss needs at least 2 tokens, got {tokens}")]
    TooFewTokens {
        /// Tokens given.
        tokens: usize,
    },
}

/// A backend that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// CUDA was asked for and is not there.
    #[error("the cuda backend was asked for, but {reason}")]
    NoCuda {
        /// What is missing.
        reason: String,
        /// The driver's error, where there is one.
        source: Option<Cause>,
    },
    /// A name that no backend has.
    #[error("unknown backend {name:?}: auto, cpu or cuda")]
    Unknown {
        /// The name.
        name: String,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_one_line_of_text_that_can_be_read() {
        let caused = |cause: &str| Error::graph("step", cause.to_owned()).chain();
        assert_eq!(caused("first\n\n  second\r\n"), "cannot build the step graph: first; second");
        assert_eq!(caused("a\t\u{1b}[2J\u{9b}é"), "cannot build the step graph: a \\u{1b}[2J\\u{9b}é");
        let long = caused(&"é".repeat(1_000_000));
        assert!(long.ends_with("éé..."), "{}", long.len());
        assert_eq!(long.chars().count(), CHAIN_CHARACTERS + 3);
    }
}
