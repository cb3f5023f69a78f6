//! A decoder for tests, whose next token is the sum of all tokens so far.

use crate::decoder::{Decoder, Output, Row, StepGuard, StepOutput};
use crate::engine::EngineOptions;
use crate::error::Error;
use crate::model::ModelConfig;
use crate::synthetic::{Preset, Quant, synthesize};

/// Tokens of the fake's vocabulary: that of the tiny preset.
pub const N_VOCAB: u32 = 512;

pub struct FakeDecoder {
    config: ModelConfig,
    options: EngineOptions,
    guard: StepGuard,
    history: Vec<u32>,
    argmax: Vec<u32>,
    logits: Vec<f32>,
    /// Rows and output of every step.
    pub steps: Vec<(usize, Output)>,
    /// Logits are no numbers from this position on.
    pub nan_from: Option<u32>,
    /// What they are instead: NaN, unless a test has it otherwise.
    pub instead: f32,
}

impl FakeDecoder {
    pub fn new(max_seq: usize, max_rows: usize) -> Self {
        let config = synthesize(Preset::Tiny, Quant::F16, 1).unwrap().config().clone();
        let options = EngineOptions { max_seq, max_rows, ..EngineOptions::for_model(&config) };
        let guard = StepGuard::new(&config, &options);
        let (history, argmax, logits, steps) = (vec![], vec![], vec![], vec![]);
        Self { config, options, guard, history, argmax, logits, steps, nan_from: None, instead: f32::NAN }
    }

    /// The logits after a position: highest at the sum of the tokens so far, lower the farther from it.
    pub fn logits(&self, position: u32) -> impl Iterator<Item = f32> + use<> {
        let sum: u32 = self.history[..=position as usize].iter().sum();
        let instead = self.nan_from.filter(|&from| position >= from).map(|_| self.instead);
        let of = move |token: u32| (sum % N_VOCAB).abs_diff(token) as f32 * -0.25;
        (0..N_VOCAB).map(move |token| instead.unwrap_or_else(|| of(token)))
    }
}

impl Decoder for FakeDecoder {
    fn config(&self) -> &ModelConfig {
        &self.config
    }

    fn max_seq(&self) -> usize {
        self.options.max_seq
    }

    fn n_sequences(&self) -> usize {
        1
    }

    fn max_rows(&self) -> usize {
        self.options.max_rows
    }

    fn step(&mut self, rows: &[Row], output: Output) -> Result<StepOutput<'_>, Error> {
        self.guard.check(rows, output)?;
        self.guard.commit(rows);
        self.steps.push((rows.len(), output));
        self.history.truncate(rows[0].position as usize);
        self.history.extend(rows.iter().map(|row| row.token));
        let wanted = &rows[rows.len() - output.result_rows(rows.len())..];
        self.logits = wanted.iter().flat_map(|row| self.logits(row.position)).collect();
        let best = |logits: &[f32]| kernels::sample::largest(logits).map_or(u32::MAX, |(token, _)| token);
        self.argmax = self.logits.chunks(N_VOCAB as usize).map(best).collect();
        Ok(match output {
            Output::Cache => StepOutput::Cache,
            Output::LastLogits | Output::AllLogits => StepOutput::Logits(&self.logits),
            Output::LastArgmax | Output::AllArgmax => StepOutput::Argmax(&self.argmax),
        })
    }

    fn describe(&self) -> String {
        "fake".to_owned()
    }
}
