//! The one interface of both engines: rows of tokens in, logits or the next tokens out.

use crate::engine::EngineOptions;
use crate::error::{Error, GenerateError, StepError};
use crate::model::ModelConfig;
use crate::sampling::Sampler;

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

    /// Whether nothing of any row but the last is wanted.
    pub const fn is_of_last_row(self) -> bool {
        matches!(self, Output::Cache | Output::LastArgmax | Output::LastLogits)
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
    /// Token ids, one for each result row; `u32::MAX`, which is no token, where logits hold no number to choose.
    Argmax(&'a [u32]),
    /// Logits, `[result_rows, n_vocab]`.
    Logits(&'a [f32]),
}

impl StepOutput<'_> {
    /// The error for a decoder that does not keep to its contract.
    pub(crate) fn instead_of(&self, expected: &'static str) -> Error {
        let found = match self {
            StepOutput::Cache => "nothing",
            StepOutput::Argmax(_) => "an argmax",
            StepOutput::Logits(_) => "logits",
        };
        GenerateError::WrongOutput { expected, found }.into()
    }
}

/// Checks that no two rows are of one sequence.
///
/// # Errors
/// The second of two that are.
pub(crate) fn check_ahead(rows: &[Row]) -> Result<(), StepError> {
    for (index, row) in rows.iter().enumerate() {
        if rows[..index].iter().any(|earlier| earlier.sequence == row.sequence) {
            return Err(StepError::Twice { row: index, sequence: row.sequence });
        }
    }
    Ok(())
}

/// Decodes `rows` and asks the samplers for the tokens that follow, one for each row.
///
/// # Errors
/// As [`Decoder::sample_ahead`].
pub(crate) fn sample_on_host(
    decoder: &mut (impl Decoder + ?Sized),
    rows: &[Row],
    samplers: &mut [Sampler],
) -> Result<Vec<u32>, Error> {
    check_samplers(rows, samplers)?;
    let n_vocab = decoder.config().n_vocab;
    let output = if rows.len() == 1 { Output::LastLogits } else { Output::AllLogits };
    let logits = match decoder.step(rows, output)? {
        StepOutput::Logits(logits) => logits,
        other => return Err(other.instead_of("logits")),
    };
    let choose = |((row, sampler), logits): ((&Row, &mut Sampler), &[f32])| {
        sampler.sample(logits, row.position).ok_or_else(|| no_number(row))
    };
    rows.iter().zip(samplers).zip(logits.chunks(n_vocab)).map(choose).collect()
}

/// The error for a row whose logits hold nothing that could be chosen.
fn no_number(row: &Row) -> Error {
    GenerateError::NoFiniteLogit { position: row.position as usize }.into()
}

/// The tokens that follow `rows`.
///
/// # Errors
/// A row that none was found for: see [`StepOutput::Argmax`].
pub(crate) fn chosen<'a>(rows: &[Row], tokens: &'a [u32]) -> Result<&'a [u32], Error> {
    match rows.iter().zip(tokens).find(|&(_, &token)| token == u32::MAX) {
        Some((row, _)) => Err(no_number(row)),
        None => Ok(tokens),
    }
}

/// Checks that no two rows are of one sequence, and each has a sampler.
///
/// # Errors
/// What is not so.
pub(crate) fn check_samplers(rows: &[Row], samplers: &[Sampler]) -> Result<(), StepError> {
    check_ahead(rows)?;
    match samplers.len() {
        n if n == rows.len() => Ok(()),
        samplers => Err(StepError::Samplers { rows: rows.len(), samplers }),
    }
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

    /// The largest number of rows of a step with nothing of any row but the last: what prompts are best cut into.
    fn prompt_rows(&self) -> usize {
        self.max_rows()
    }

    /// Runs one step. Rows of one sequence must have consecutive, ascending positions.
    ///
    /// # Errors
    /// An empty step, too many rows, a token, position or sequence out of range (all refused before anything runs),
    /// and the device's own failures.
    fn step(&mut self, rows: &[Row], output: Output) -> Result<StepOutput<'_>, Error>;

    /// Decodes `rows`, one of each of some sequences, and returns the most likely next token of each.
    ///
    /// That is a step with [`Output::AllArgmax`], and a hint: unless something unforeseen comes, the caller will go on at
    /// least `ahead` more times, each time with the same sequences, the tokens that it got, at the next positions. A
    /// decoder may begin those steps before it is asked for them. Whatever is asked for next, the results are as if it
    /// had not.
    ///
    /// # Errors
    /// As [`step`](Self::step), two rows of one sequence, and a row whose logits hold no number to choose; the rows are then
    /// decoded all the same.
    fn decode_ahead(&mut self, rows: &[Row], ahead: usize) -> Result<&[u32], Error> {
        // Without a device that could go on by itself there is nothing to begin with.
        let _ = ahead;
        check_ahead(rows)?;
        let output = if rows.len() == 1 { Output::LastArgmax } else { Output::AllArgmax };
        match self.step(rows, output)? {
            StepOutput::Argmax(tokens) => chosen(rows, tokens),
            other => Err(other.instead_of("argmaxes")),
        }
    }

    /// Decodes `rows`, one of each of some sequences, and returns the next token of each, as its sampler chooses it from
    /// the row's logits at the row's position. The samplers do not [accept](Sampler::accept) the tokens; the caller does.
    ///
    /// That, too, is a hint: unless something unforeseen comes, the caller will go on at least `ahead` more times, with
    /// samplers that have accepted the tokens in between and are otherwise the same. The results are the same anyway.
    ///
    /// # Errors
    /// As [`step`](Self::step), two rows of one sequence, another number of samplers than of rows, and a row whose logits
    /// hold no number to choose; the rows are then decoded all the same.
    fn sample_ahead(
        &mut self,
        rows: &[Row],
        samplers: &mut [Sampler],
        ahead: usize,
    ) -> Result<Vec<u32>, Error> {
        let _ = ahead;
        sample_on_host(self, rows, samplers)
    }

    /// What the decoder runs on and how, for people: device name, number of graph nodes and the like.
    fn describe(&self) -> String;
}

/// What a decoder refuses before anything runs, and how far each sequence's cache is filled.
///
/// Both engines hold one: [`check`](Self::check) before a step, [`commit`](Self::commit) after it.
#[derive(Debug, Clone)]
pub struct StepGuard {
    n_vocab: usize,
    max_seq: usize,
    max_rows: usize,
    prompt_rows: usize,
    /// Positions decoded so far, by sequence.
    decoded: Vec<u32>,
}

impl StepGuard {
    /// The limits of a decoder made with `options`.
    pub fn new(config: &ModelConfig, options: &EngineOptions) -> Self {
        let EngineOptions { max_seq, max_rows, .. } = *options;
        let decoded = vec![0; options.n_sequences];
        Self { n_vocab: config.n_vocab, max_seq, max_rows, prompt_rows: max_rows, decoded }
    }

    /// The same with so many rows, if they are more, where nothing of any but the last is wanted.
    #[must_use]
    pub fn with_prompt_rows(self, rows: usize) -> Self {
        Self { prompt_rows: self.max_rows.max(rows), ..self }
    }

    /// Checks that a step can run: everything in range, and no row attends to a position that was never decoded.
    ///
    /// A position that was decoded before may be decoded again; that takes the sequence back to there.
    ///
    /// # Errors
    /// The first row that cannot run, and why.
    pub fn check(&self, rows: &[Row], output: Output) -> Result<(), StepError> {
        if rows.is_empty() {
            return Err(StepError::Empty);
        }
        let limit = if output.is_of_last_row() { self.prompt_rows } else { self.max_rows };
        if rows.len() > limit {
            return Err(StepError::TooManyRows { rows: rows.len(), limit });
        }
        for (index, row) in rows.iter().enumerate() {
            let Row { token, position, sequence } = *row;
            if token as usize >= self.n_vocab {
                return Err(StepError::Token { row: index, token, n_vocab: self.n_vocab });
            }
            if position as usize >= self.max_seq {
                return Err(StepError::Position { row: index, position, max_seq: self.max_seq });
            }
            let Some(&decoded) = self.decoded.get(sequence as usize) else {
                let n_sequences = self.decoded.len();
                return Err(StepError::Sequence { row: index, sequence, n_sequences });
            };
            match rows[..index].iter().rev().find(|earlier| earlier.sequence == sequence) {
                Some(earlier) if position == earlier.position + 1 => {}
                Some(earlier) => {
                    let previous = earlier.position;
                    return Err(StepError::Order { row: index, position, sequence, previous });
                }
                None if position <= decoded => {}
                None => return Err(StepError::Gap { row: index, position, sequence, decoded }),
            }
        }
        Ok(())
    }

    /// Notes that a checked step has run.
    pub fn commit(&mut self, rows: &[Row]) {
        for row in rows {
            if let Some(decoded) = self.decoded.get_mut(row.sequence as usize) {
                *decoded = row.position + 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> StepGuard {
        StepGuard { n_vocab: 10, max_seq: 4, max_rows: 3, prompt_rows: 3, decoded: vec![0; 2] }
    }

    fn row(token: u32, position: u32, sequence: u32) -> Row {
        Row { token, position, sequence }
    }

    #[test]
    fn a_step_in_range_passes() {
        let mut guard = guard();
        let prompt = [row(1, 0, 0), row(9, 1, 0), row(3, 0, 1)];
        assert_eq!(guard.check(&prompt, Output::Cache), Ok(()));
        guard.commit(&prompt);
        assert_eq!(guard.check(&[row(1, 1, 1), row(1, 2, 0)], Output::AllLogits), Ok(()));
    }

    #[test]
    fn every_limit_is_kept() {
        let guard = guard();
        let cases: [(&[Row], StepError); 7] = [
            (&[], StepError::Empty),
            (&[row(0, 0, 0); 4], StepError::TooManyRows { rows: 4, limit: 3 }),
            (&[row(10, 0, 0)], StepError::Token { row: 0, token: 10, n_vocab: 10 }),
            (&[row(0, 4, 0)], StepError::Position { row: 0, position: 4, max_seq: 4 }),
            (&[row(0, 0, 0), row(0, 0, 2)], StepError::Sequence { row: 1, sequence: 2, n_sequences: 2 }),
            (
                &[row(0, 0, 0), row(0, 2, 0)],
                StepError::Order { row: 1, position: 2, sequence: 0, previous: 0 },
            ),
            (&[row(0, 0, 0), row(0, 1, 1)], StepError::Gap { row: 1, position: 1, sequence: 1, decoded: 0 }),
        ];
        for (rows, expected) in cases {
            assert_eq!(guard.check(rows, Output::AllLogits), Err(expected));
        }
    }

    #[test]
    fn going_back_forgets_what_came_after() {
        let mut guard = guard();
        guard.commit(&[row(0, 0, 0), row(0, 1, 0), row(0, 2, 0)]);
        assert_eq!(guard.check(&[row(0, 3, 0)], Output::Cache), Ok(()));
        guard.commit(&[row(0, 1, 0)]);
        let gap = StepError::Gap { row: 0, position: 3, sequence: 0, decoded: 2 };
        assert_eq!(guard.check(&[row(0, 3, 0)], Output::Cache), Err(gap));
    }
}
