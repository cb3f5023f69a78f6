//! How fast a decoder is.

use std::time::{Duration, Instant};

use crate::cpu_time;
use crate::decoder::{Decoder, Output, Row, StepOutput, chosen};
use crate::error::{Error, OptionError};
use crate::generate::check_fit;
use crate::random::SplitMix64;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BenchOptions {
    /// Tokens of each sequence's prompt, at least 1.
    pub prompt: usize,
    /// Tokens to decode after each of them, at least 1.
    pub n: usize,
    /// Sequences that are decoded together, at least 1.
    pub batch: usize,
    /// How often, at least 1. Before that everything runs once, untimed.
    pub repeat: usize,
}

impl BenchOptions {
    /// Positions that a measurement takes of each sequence.
    pub fn positions(&self) -> usize {
        self.prompt.saturating_add(self.n)
    }

    /// Checks that there is something to measure.
    ///
    /// # Errors
    /// A count of zero.
    pub fn check(&self) -> Result<(), OptionError> {
        let counts = [
            ("the prompt", self.prompt),
            ("the number of tokens (n)", self.n),
            ("the batch", self.batch),
            ("repeat", self.repeat),
        ];
        match counts.into_iter().find(|&(_, count)| count == 0) {
            Some((option, _)) => Err(OptionError::Zero { option }),
            None => Ok(()),
        }
    }
}

/// Tokens per second, of all sequences together, and processor time, of every repetition.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Measurement {
    /// Of the prompt.
    pub prompt_rates: Vec<f64>,
    /// Of the tokens after the first.
    pub decode_rates: Vec<f64>,
    /// Microseconds of processor time for each of those, of all threads; empty where the system does not say.
    pub decode_cpu_micros: Vec<f64>,
}

impl Measurement {
    /// The median prompt rate.
    pub fn prompt_rate(&self) -> f64 {
        median(&self.prompt_rates)
    }

    /// The median decode rate.
    pub fn decode_rate(&self) -> f64 {
        median(&self.decode_rates)
    }

    /// The median processor time of a token after the first in microseconds, if it is known.
    pub fn decode_cpu_micros(&self) -> Option<f64> {
        (!self.decode_cpu_micros.is_empty()).then(|| median(&self.decode_cpu_micros))
    }
}

/// Times of one run.
struct Times {
    prompt: Duration,
    decode: Duration,
    /// Processor time of the latter.
    cpu: Option<Duration>,
}

/// Measures a decoder with random prompts, greedily: each sequence's prompt alone, then all sequences together. End tokens
/// do not end it.
///
/// # Errors
/// A count of zero, more positions than the cache holds, and the decoder's failures: it must have as many sequences, and
/// rows of a step.
pub fn measure(decoder: &mut dyn Decoder, options: BenchOptions) -> Result<Measurement, Error> {
    options.check()?;
    // The last token is decoded without being fed back.
    check_fit(options.prompt, options.n + 1, decoder.max_seq())?;
    let n_vocab = decoder.config().n_vocab as u64;
    let mut random = SplitMix64::new(1);
    let mut prompt = || (0..options.prompt).map(|_| (random.next_u64() % n_vocab) as u32).collect();
    let prompts: Vec<Vec<u32>> = (0..options.batch).map(|_| prompt()).collect();
    // A few tokens, but the decoder is told of all: it makes ready what it will use for so many.
    const WARM_UP: usize = 4;
    run(decoder, &prompts, options.n, WARM_UP)?;
    // What was queued for the others has run when this has.
    decoder.step(&[Row { token: prompts[0][0], position: 0, sequence: 0 }], Output::LastArgmax)?;
    let mut measurement = Measurement::default();
    let (prompt_tokens, tokens) = (options.batch * options.prompt, options.batch * options.n);
    for _ in 0..options.repeat {
        let times = run(decoder, &prompts, options.n, options.n)?;
        measurement.prompt_rates.push(prompt_tokens as f64 / times.prompt.as_secs_f64());
        measurement.decode_rates.push(tokens as f64 / times.decode.as_secs_f64());
        let per_token = |cpu: Duration| cpu.as_secs_f64() * 1e6 / tokens as f64;
        measurement.decode_cpu_micros.extend(times.cpu.map(per_token));
    }
    Ok(measurement)
}

/// Decodes every prompt, whose time the first token of its sequence belongs to, then the first `most` of `n` more tokens
/// of each.
fn run(decoder: &mut dyn Decoder, prompts: &[Vec<u32>], n: usize, most: usize) -> Result<Times, Error> {
    let start = Instant::now();
    let mut rows = Vec::with_capacity(prompts.len());
    for (sequence, prompt) in (0..).zip(prompts) {
        rows.push(first_token(decoder, sequence, prompt)?);
    }
    let prompt = start.elapsed();
    let before = cpu_time::of_process();
    let start = Instant::now();
    for ahead in (0..n).rev().take(most) {
        let tokens = decoder.decode_ahead(&rows, ahead)?;
        for (row, &token) in rows.iter_mut().zip(tokens) {
            *row = Row { token, position: row.position + 1, ..*row };
        }
    }
    let decode = start.elapsed();
    let cpu = cpu_time::of_process().zip(before).map(|(after, before)| after.saturating_sub(before));
    Ok(Times { prompt, decode, cpu })
}

/// The row after a sequence's prompt.
fn first_token(decoder: &mut dyn Decoder, sequence: u32, prompt: &[u32]) -> Result<Row, Error> {
    let rows: Vec<Row> =
        (0..).zip(prompt).map(|(position, &token)| Row { token, position, sequence }).collect();
    let mut chunks = rows.chunks(decoder.prompt_rows().max(1));
    let last = chunks.next_back().unwrap_or_default();
    for chunk in chunks {
        decoder.step(chunk, Output::Cache)?;
    }
    match decoder.step(last, Output::LastArgmax)? {
        StepOutput::Argmax(tokens @ &[token]) => {
            chosen(&last[last.len() - 1..], tokens)?;
            Ok(Row { token, position: prompt.len() as u32, sequence })
        }
        other => Err(other.instead_of("one argmax")),
    }
}

/// The middle value, or the mean of the two in the middle; 0 of none.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[middle],
        _ => (sorted[middle - 1] + sorted[middle]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decoder::Output;
    use crate::fake::FakeDecoder;

    #[test]
    fn every_repetition_runs_whole() {
        let mut decoder = FakeDecoder::new(32, 4);
        let options = BenchOptions { prompt: 6, n: 10, batch: 1, repeat: 3 };
        let measurement = measure(&mut decoder, options).unwrap();
        assert_eq!((measurement.prompt_rates.len(), measurement.decode_rates.len()), (3, 3));
        assert!(measurement.decode_rate() > 0.0 && measurement.prompt_rate() > 0.0);
        assert_eq!(measurement.decode_cpu_micros.len(), if cfg!(unix) { 3 } else { 0 });
        assert_eq!(measurement.decode_cpu_micros().is_some(), cfg!(unix));
        let prompts = decoder.steps.iter().filter(|&&(_, output)| output == Output::Cache).count();
        let singles = decoder.steps.iter().filter(|&&(rows, _)| rows == 1).count();
        assert_eq!((prompts, singles), (4, 4 + 1 + 3 * 10));
    }

    #[test]
    fn nothing_is_not_measured() {
        for options in [
            BenchOptions { prompt: 0, n: 1, batch: 1, repeat: 1 },
            BenchOptions { prompt: 1, n: 0, batch: 1, repeat: 1 },
            BenchOptions { prompt: 1, n: 1, batch: 0, repeat: 1 },
            BenchOptions { prompt: 1, n: 1, batch: 1, repeat: 0 },
            BenchOptions { prompt: 4, n: 9, batch: 1, repeat: 1 },
            // The fake has one sequence.
            BenchOptions { prompt: 4, n: 8, batch: 2, repeat: 1 },
        ] {
            assert!(measure(&mut FakeDecoder::new(12, 4), options).is_err(), "{options:?}");
        }
        let fits = BenchOptions { prompt: 4, n: 8, batch: 1, repeat: 1 };
        assert!(measure(&mut FakeDecoder::new(12, 4), fits).is_ok());
    }

    #[test]
    fn logits_without_a_number_are_told_of_where_they_come() {
        for nan_from in [3, 4] {
            let mut decoder = FakeDecoder::new(12, 2);
            decoder.nan_from = Some(nan_from);
            let options = BenchOptions { prompt: 4, n: 8, batch: 1, repeat: 1 };
            let message = measure(&mut decoder, options).unwrap_err().to_string();
            let expected = format!("the model's logits hold no number to choose from (position {nan_from})");
            assert_eq!(message, expected);
        }
    }

    #[test]
    fn medians() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0]), median(&[])), (2.0, 2.5, 0.0));
    }
}
