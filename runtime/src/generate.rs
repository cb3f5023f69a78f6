//! From a prompt to an iterator of tokens.
//!
//! ```
//! use runtime::generate::{GenerateOptions, Generator};
//! use runtime::tokenizer::Tokenizer;
//! use runtime::{EngineOptions, Model, cpu::CpuDecoder};
//!
//! let model = Model::embedded()?;
//! let tokenizer = Tokenizer::for_model(&model)?;
//! let mut decoder = CpuDecoder::new(&model, &EngineOptions::for_model(model.config()))?;
//! let options = GenerateOptions { end_tokens: tokenizer.end_tokens().to_vec(), ..GenerateOptions::greedy(40) };
//! let mut text = String::new();
//! let mut stream = tokenizer.stream();
//! for token in Generator::new(&mut decoder, &tokenizer.encode("Once upon a time")?, options)? {
//!     stream.push(token?, &mut text)?;
//! }
//! assert!(text.starts_with(", there"), "{text}");
//! # Ok::<(), runtime::Error>(())
//! ```

use std::slice;
use std::time::{Duration, Instant};

use crate::decoder::{Decoder, Output, Row, StepOutput, chosen};
use crate::error::{Error, GenerateError};
use crate::sampling::{Sampler, SamplingOptions};

/// How much to generate, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// Most tokens to generate, at least 1.
    pub n: usize,
    /// How tokens are chosen.
    pub sampling: SamplingOptions,
    /// Tokens after which to stop. The one that came is still given out.
    pub end_tokens: Vec<u32>,
    /// Which of the decoder's caches to use, from position 0 on.
    pub sequence: u32,
}

impl GenerateOptions {
    /// The most likely `n` tokens, in the first cache, whatever they are.
    pub fn greedy(n: usize) -> Self {
        Self { n, sampling: SamplingOptions::default(), end_tokens: Vec::new(), sequence: 0 }
    }
}

/// Checks that a prompt of `prompt` tokens and `n` more fit into a context of `context` positions.
///
/// # Errors
/// An empty prompt, `n` of 0, a prompt that is too long, alone or with what is to follow.
pub fn check_fit(prompt: usize, n: usize, context: usize) -> Result<(), GenerateError> {
    if n == 0 {
        return Err(GenerateError::NoTokens);
    }
    if prompt == 0 {
        return Err(GenerateError::EmptyPrompt);
    }
    if prompt > context {
        return Err(GenerateError::PromptTooLong { prompt, context });
    }
    // The last token is given out, not decoded.
    let needed = prompt.saturating_add(n - 1);
    if needed > context {
        return Err(GenerateError::ContextTooShort { prompt, n, needed, context });
    }
    Ok(())
}

/// The steps that a prompt of `prompt` tokens takes on an engine of `max_rows` rows a step, for
/// [`EngineOptions::first_steps`](crate::EngineOptions::first_steps).
pub fn first_steps(prompt: usize, max_rows: usize, sampling: &SamplingOptions) -> Vec<(usize, Output)> {
    let output = if sampling.is_greedy() { Output::LastArgmax } else { Output::LastLogits };
    let max_rows = max_rows.max(1);
    let last = prompt.saturating_sub(1) % max_rows + 1;
    let before = (prompt > max_rows).then_some((max_rows, Output::Cache));
    before.into_iter().chain([(last, output)]).collect()
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// All tokens that were asked for are there.
    Length,
    /// This end token came.
    EndToken(u32),
}

/// How long it took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stats {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// From the start to the first generated token.
    pub prompt_time: Duration,
    /// Generated tokens after the first.
    pub decode_tokens: usize,
    /// What those took.
    pub decode_time: Duration,
}

impl Stats {
    /// Prompt tokens per second.
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt_time)
    }

    /// Tokens per second after the first; 0 if there was only one.
    pub fn decode_rate(&self) -> f64 {
        rate(self.decode_tokens, self.decode_time)
    }
}

fn rate(tokens: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { tokens as f64 / time.as_secs_f64() }
}

/// Generates tokens, one for each call of `next`. The prompt is processed by the first. After an error there is
/// nothing more.
pub struct Generator<'a> {
    decoder: &'a mut dyn Decoder,
    options: GenerateOptions,
    sampler: Sampler,
    /// Tokens that are not decoded yet: the prompt, then the last token generated.
    pending: Vec<u32>,
    position: usize,
    generated: usize,
    stats: Stats,
    stop: Option<Stop>,
    failed: bool,
}

impl<'a> Generator<'a> {
    /// Checks that the prompt and what is to follow fit; nothing runs yet.
    ///
    /// # Errors
    /// An empty prompt, `n` of 0, a prompt or a prompt and continuation longer than the decoder's cache, a sampling
    /// option out of range.
    pub fn new(
        decoder: &'a mut dyn Decoder,
        prompt: &[u32],
        options: GenerateOptions,
    ) -> Result<Self, Error> {
        check_fit(prompt.len(), options.n, decoder.max_seq())?;
        let mut sampler = Sampler::new(options.sampling)?;
        sampler.accept(prompt);
        let stats = Stats { prompt_tokens: prompt.len(), ..Stats::default() };
        Ok(Self {
            decoder,
            options,
            sampler,
            pending: prompt.to_vec(),
            position: 0,
            generated: 0,
            stats,
            stop: None,
            failed: false,
        })
    }

    /// Times so far.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Why there are no more tokens; `None` while there may be, or after an error.
    pub fn stop(&self) -> Option<Stop> {
        self.stop
    }

    /// Decodes what is pending and chooses the next token.
    fn step(&mut self) -> Result<u32, Error> {
        let chunk = self.decoder.prompt_rows().max(1);
        let mut done = 0;
        while self.pending.len() - done > chunk {
            let rows = self.rows(done, chunk);
            self.decoder.step(&rows, Output::Cache)?;
            done += chunk;
        }
        let rows = self.rows(done, self.pending.len() - done);
        let position = self.position + self.pending.len() - 1;
        let ahead = self.options.n - self.generated - 1;
        let token = if self.generated > 0 && !self.options.sampling.is_greedy() {
            match *self.decoder.sample_ahead(&rows, slice::from_mut(&mut self.sampler), ahead)? {
                [token] => token,
                _ => return Err(StepOutput::Argmax(&[]).instead_of("one token")),
            }
        } else if !self.options.sampling.is_greedy() {
            match self.decoder.step(&rows, Output::LastLogits)? {
                StepOutput::Logits(logits) => {
                    let token = self.sampler.sample(logits, position as u32);
                    token.ok_or(GenerateError::NoFiniteLogit { position })?
                }
                other => return Err(other.instead_of("logits")),
            }
        } else if self.generated > 0 {
            // The token that comes now is not among those that follow.
            match *self.decoder.decode_ahead(&rows, ahead)? {
                [token] => token,
                _ => return Err(StepOutput::Argmax(&[]).instead_of("one argmax")),
            }
        } else {
            match self.decoder.step(&rows, Output::LastArgmax)? {
                StepOutput::Argmax(tokens @ &[token]) => {
                    chosen(&rows[rows.len() - 1..], tokens)?;
                    token
                }
                other => return Err(other.instead_of("one argmax")),
            }
        };
        self.sampler.accept(&[token]);
        self.position = position + 1;
        self.pending.clear();
        self.pending.push(token);
        Ok(token)
    }

    fn rows(&self, start: usize, count: usize) -> Vec<Row> {
        let tokens = self.pending[start..start + count].iter().zip(self.position + start..);
        let sequence = self.options.sequence;
        tokens.map(|(&token, position)| Row { token, position: position as u32, sequence }).collect()
    }

    fn account(&mut self, token: u32, time: Duration) {
        if self.generated == 0 {
            self.stats.prompt_time = time;
        } else {
            self.stats.decode_tokens += 1;
            self.stats.decode_time += time;
        }
        self.generated += 1;
        if self.options.end_tokens.contains(&token) {
            self.stop = Some(Stop::EndToken(token));
        } else if self.generated == self.options.n {
            self.stop = Some(Stop::Length);
        }
    }
}

impl Iterator for Generator<'_> {
    type Item = Result<u32, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stop.is_some() || self.failed {
            return None;
        }
        let start = Instant::now();
        let token = self.step();
        match &token {
            Ok(token) => self.account(*token, start.elapsed()),
            Err(_) => self.failed = true,
        }
        Some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeDecoder, N_VOCAB};

    fn tokens(
        decoder: &mut FakeDecoder,
        prompt: &[u32],
        options: GenerateOptions,
    ) -> Result<Vec<u32>, Error> {
        Generator::new(decoder, prompt, options)?.collect()
    }

    fn refusal(prompt: &[u32], n: usize) -> String {
        tokens(&mut FakeDecoder::new(10, 4), prompt, GenerateOptions::greedy(n)).unwrap_err().to_string()
    }

    #[test]
    fn first_steps_are_the_chunks_of_the_prompt() {
        let greedy = SamplingOptions::default();
        let last = |prompt| first_steps(prompt, 8, &greedy);
        let cache = (8, Output::Cache);
        assert_eq!(last(1), [(1, Output::LastArgmax)]);
        assert_eq!(last(8), [(8, Output::LastArgmax)]);
        assert_eq!(last(9), [cache, (1, Output::LastArgmax)]);
        assert_eq!(last(31), [cache, (7, Output::LastArgmax)]);
        let drawn = SamplingOptions { temperature: 1.0, ..greedy };
        assert_eq!(first_steps(9, 8, &drawn), [cache, (1, Output::LastLogits)]);
    }

    #[test]
    fn prompts_go_in_by_chunks_and_tokens_one_by_one() {
        let mut decoder = FakeDecoder::new(20, 4);
        let found = tokens(&mut decoder, &[1, 2, 3, 4, 5, 6], GenerateOptions::greedy(3)).unwrap();
        // The fake's next token is the sum of all so far.
        assert_eq!(found, [21 % N_VOCAB, 42 % N_VOCAB, 84 % N_VOCAB]);
        let steps: Vec<(usize, Output)> = decoder.steps.clone();
        assert_eq!(first_steps(6, 4, &SamplingOptions::default()), steps[..2]);
        assert_eq!(
            steps,
            [(4, Output::Cache), (2, Output::LastArgmax), (1, Output::LastArgmax), (1, Output::LastArgmax)]
        );
    }

    #[test]
    fn chunks_do_not_change_the_tokens() {
        let prompt: Vec<u32> = (1..14).collect();
        let expected = tokens(&mut FakeDecoder::new(40, 1), &prompt, GenerateOptions::greedy(8)).unwrap();
        for max_rows in [2, 3, 5, 13, 32] {
            let mut decoder = FakeDecoder::new(40, max_rows);
            assert_eq!(tokens(&mut decoder, &prompt, GenerateOptions::greedy(8)).unwrap(), expected);
        }
    }

    #[test]
    fn an_end_token_ends_it_and_is_given_out() {
        let mut decoder = FakeDecoder::new(20, 4);
        let options = GenerateOptions { end_tokens: vec![6], ..GenerateOptions::greedy(9) };
        let mut generator = Generator::new(&mut decoder, &[1, 2], options).unwrap();
        let found: Vec<u32> = generator.by_ref().map(Result::unwrap).collect();
        assert_eq!((found, generator.stop()), (vec![3, 6], Some(Stop::EndToken(6))));
        let stats = generator.stats();
        assert_eq!((stats.prompt_tokens, stats.decode_tokens), (2, 1));
        assert!(generator.next().is_none());
    }

    #[test]
    fn what_cannot_be_generated_is_refused_before_anything_runs() {
        assert_eq!(refusal(&[], 1), "the prompt is empty and the model has no start token");
        assert_eq!(refusal(&[1], 0), "the number of tokens to generate (n) must be at least 1");
        assert_eq!(refusal(&[1; 11], 1), "the prompt has 11 tokens, the context holds 10");
        let both = "8 tokens of prompt and 4 to generate need 11 positions, the context holds 10";
        assert_eq!(refusal(&[1; 8], 4), both);
        assert_eq!(
            tokens(&mut FakeDecoder::new(10, 4), &[1; 8], GenerateOptions::greedy(3)).unwrap().len(),
            3
        );
        let hot = SamplingOptions { temperature: -1.0, ..SamplingOptions::default() };
        let options = GenerateOptions { sampling: hot, ..GenerateOptions::greedy(1) };
        assert!(tokens(&mut FakeDecoder::new(10, 4), &[1], options).is_err());
    }

    #[test]
    fn sampling_reads_logits_and_a_seed_is_a_text() {
        let sampled = |seed| {
            let sampling = SamplingOptions { temperature: 5.0, seed, ..SamplingOptions::default() };
            let mut decoder = FakeDecoder::new(40, 4);
            let options = GenerateOptions { sampling, ..GenerateOptions::greedy(16) };
            let found = tokens(&mut decoder, &[1, 2, 3], options).unwrap();
            assert!(decoder.steps.iter().all(|&(_, output)| output == Output::LastLogits));
            found
        };
        assert_eq!(sampled(1), sampled(1));
        assert_ne!(sampled(1), sampled(2));
    }

    #[test]
    fn logits_without_a_number_are_an_error_and_the_end() {
        // Of the prompt, and of what follows it.
        for (nan_from, found) in [(1, 0), (3, 2)] {
            for temperature in [0.0, 1.0] {
                let mut decoder = FakeDecoder::new(10, 4);
                decoder.nan_from = Some(nan_from);
                let sampling = SamplingOptions { temperature, ..SamplingOptions::default() };
                let options = GenerateOptions { sampling, ..GenerateOptions::greedy(6) };
                let mut generator = Generator::new(&mut decoder, &[1, 2], options).unwrap();
                for _ in 0..found {
                    assert!(generator.next().unwrap().is_ok());
                }
                let message = generator.next().unwrap().unwrap_err().to_string();
                let expected =
                    format!("the model's logits hold no number to choose from (position {nan_from})");
                assert_eq!(message, expected);
                assert!(generator.next().is_none() && generator.stop().is_none());
            }
        }
    }
}
