//! The one interface of both engines: rows of tokens in, logits or the next tokens out.

use crate::error::Error;
use crate::model::ModelConfig;

/// One row of a step: a token at a position of a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// Token id, below the vocabulary size.
    pub token: u32,
    /// Position in the sequence, below [`Decoder::max_seq`]. Every earlier position of the sequence must have been
    /// decoded before, or be an earlier row of the same step.
    pub position: u32,
    /// Which of the decoder's caches the row belongs to, below [`Decoder::n_sequences`].
    pub sequence: u32,
}

/// What a step computes besides the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Output {
    /// Nothing: the rows only fill the cache.
    Cache,
    /// The most likely next token of the last row.
    LastArgmax,
    /// The logits of the last row.
    LastLogits,
    /// The most likely next token of every row.
    AllArgmax,
    /// The logits of every row.
    AllLogits,
}

impl Output {
    /// How many of `rows` rows have a result.
    pub const fn result_rows(self, rows: usize) -> usize {
        match self {
            Output::Cache => 0,
            Output::LastArgmax | Output::LastLogits => 1,
            Output::AllArgmax | Output::AllLogits => rows,
        }
    }

    /// Whether the results are logits.
    pub const fn is_logits(self) -> bool {
        matches!(self, Output::LastLogits | Output::AllLogits)
    }
}

/// The results of a step, borrowed from the decoder until the next one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum StepOutput<'a> {
    /// [`Output::Cache`] was asked for.
    Cache,
    /// Token ids, one for each result row.
    Argmax(&'a [u32]),
    /// Logits, `[result_rows, n_vocab]`.
    Logits(&'a [f32]),
}

/// A model with its KV caches on one device.
pub trait Decoder: Send {
    /// The model's hyperparameters.
    fn config(&self) -> &ModelConfig;

    /// Positions that each cache holds.
    fn max_seq(&self) -> usize;

    /// Number of independent KV caches.
    fn n_sequences(&self) -> usize;

    /// The largest number of rows of one step.
    fn max_rows(&self) -> usize;

    /// Runs one step. Rows of one sequence must have consecutive, ascending positions.
    ///
    /// # Errors
    /// An empty step, too many rows, a token, position or sequence out of range (all refused before anything runs),
    /// and the device's own failures.
    fn step(&mut self, rows: &[Row], output: Output) -> Result<StepOutput<'_>, Error>;

    /// What the decoder runs on and how, for people: device name, number of graph nodes and the like.
    fn describe(&self) -> String;
}
