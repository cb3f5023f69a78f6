//! How fast a decoder is.

use std::time::Duration;

use crate::cpu_time;
use crate::decoder::Decoder;
use crate::error::{Error, OptionError};
use crate::generate::{GenerateOptions, Generator, Stats};
use crate::random::SplitMix64;

/// What to measure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BenchOptions {
    /// Tokens of the prompt, at least 1.
    pub prompt: usize,
    /// Tokens to decode after it, at least 1.
    pub n: usize,
    /// How often, at least 1. Before that everything runs once, untimed.
    pub repeat: usize,
}

impl BenchOptions {
    /// Positions that a measurement takes.
    pub fn positions(&self) -> usize {
        self.prompt.saturating_add(self.n)
    }

    /// Checks that there is something to measure.
    ///
    /// # Errors
    /// A count of zero.
    pub fn check(&self) -> Result<(), OptionError> {
        let counts =
            [("the prompt", self.prompt), ("the number of tokens (n)", self.n), ("repeat", self.repeat)];
        match counts.into_iter().find(|&(_, count)| count == 0) {
            Some((option, _)) => Err(OptionError::Zero { option }),
            None => Ok(()),
        }
    }
}

/// Tokens per second and processor time, of every repetition.
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

/// Measures a decoder with a random prompt, greedily, one sequence. End tokens do not end it.
///
/// # Errors
/// A count of zero, more positions than the cache holds, and the decoder's failures.
pub fn measure(decoder: &mut dyn Decoder, options: BenchOptions) -> Result<Measurement, Error> {
    options.check()?;
    let n_vocab = decoder.config().n_vocab as u64;
    let mut random = SplitMix64::new(1);
    let prompt: Vec<u32> = (0..options.prompt).map(|_| (random.next_u64() % n_vocab) as u32).collect();
    // The first token belongs to the prompt's time.
    let mut run = |n: usize| -> Result<(Stats, Option<Duration>), Error> {
        let mut generator = Generator::new(decoder, &prompt, GenerateOptions::greedy(n + 1))?;
        generator.next().transpose()?;
        let before = cpu_time::of_process();
        generator.by_ref().try_for_each(|token| token.map(drop))?;
        let used = cpu_time::of_process().zip(before).map(|(after, before)| after.saturating_sub(before));
        Ok((generator.stats(), used))
    };
    const WARM_UP: usize = 4;
    run(options.n.min(WARM_UP))?;
    let mut measurement = Measurement::default();
    for _ in 0..options.repeat {
        let (stats, cpu) = run(options.n)?;
        measurement.prompt_rates.push(stats.prompt_rate());
        measurement.decode_rates.push(stats.decode_rate());
        let per_token = |cpu: Duration| cpu.as_secs_f64() * 1e6 / stats.decode_tokens.max(1) as f64;
        measurement.decode_cpu_micros.extend(cpu.map(per_token));
    }
    Ok(measurement)
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
        let options = BenchOptions { prompt: 6, n: 10, repeat: 3 };
        let measurement = measure(&mut decoder, options).unwrap();
        assert_eq!((measurement.prompt_rates.len(), measurement.decode_rates.len()), (3, 3));
        assert!(measurement.decode_rate() > 0.0 && measurement.prompt_rate() > 0.0);
        assert_eq!(measurement.decode_cpu_micros.len(), if cfg!(unix) { 3 } else { 0 });
        assert_eq!(measurement.decode_cpu_micros().is_some(), cfg!(unix));
        let prompts = decoder.steps.iter().filter(|&&(_, output)| output == Output::Cache).count();
        let singles = decoder.steps.iter().filter(|&&(rows, _)| rows == 1).count();
        assert_eq!((prompts, singles), (4, 4 + 3 * 10));
    }

    #[test]
    fn nothing_is_not_measured() {
        for options in [
            BenchOptions { prompt: 0, n: 1, repeat: 1 },
            BenchOptions { prompt: 1, n: 0, repeat: 1 },
            BenchOptions { prompt: 1, n: 1, repeat: 0 },
            BenchOptions { prompt: 4, n: 9, repeat: 1 },
        ] {
            assert!(measure(&mut FakeDecoder::new(12, 4), options).is_err(), "{options:?}");
        }
        assert!(measure(&mut FakeDecoder::new(12, 4), BenchOptions { prompt: 4, n: 8, repeat: 1 }).is_ok());
    }

    #[test]
    fn medians() {
        assert_eq!((median(&[3.0, 1.0, 2.0]), median(&[4.0, 1.0, 2.0, 3.0]), median(&[])), (2.0, 2.5, 0.0));
    }
}
