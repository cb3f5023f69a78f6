//! The part of `warpsmith bench` that looks into a step.

use std::path::{Path, PathBuf};

use clap::Args;
use runtime::cuda::{CudaDecoder, ProfileOptions};
use runtime::decoder::{Decoder as _, Output, Row};
use runtime::error::OptionError;
use runtime::random::SplitMix64;
use runtime::roofline::{Roof, Roofline};
use runtime::{EngineOptions, Error, Model};

use super::{Failure, say};

/// What is read to measure the roof: many times what any L2 holds.
const ROOF_BYTES: u64 = 1 << 30;
const ROOF_RUNS: usize = 5;

#[derive(Debug, Args)]
pub struct ProfileArguments {
    /// CUDA: also measure each launch of a decoding step after the prompts, beside what the memory gives.
    #[arg(long)]
    profile: bool,
    /// What the memory gives in TB/s [default: measured].
    #[arg(long, value_name = "TB/S", requires = "profile")]
    roof: Option<f64>,
    /// Draw the profile as a roofline.
    #[arg(long, value_name = "FILE", requires = "profile")]
    svg: Option<PathBuf>,
}

impl ProfileArguments {
    /// Whether a profile is asked for.
    pub fn wanted(&self) -> bool {
        self.profile
    }

    /// Checks what can be checked before anything is measured.
    pub fn check(&self) -> Result<(), OptionError> {
        match self.roof {
            Some(value) if !(value.is_finite() && value > 0.0) => {
                Err(OptionError::OutOfRange { option: "--roof", value, expected: "a speed above 0 in TB/s" })
            }
            _ => Ok(()),
        }
    }

    /// Decodes `prompt` random tokens of every sequence and measures the step after them.
    pub fn run(&self, model: &Model, options: &EngineOptions, prompt: usize) -> Result<Roofline, Failure> {
        let mut decoder = CudaDecoder::new(model, options)?;
        let roof = self.measure_roof(&decoder)?;
        let mut random = SplitMix64::new(1);
        let n_vocab = model.config().n_vocab as u64;
        let mut row = |position: usize, sequence: usize| Row {
            token: (random.next_u64() % n_vocab) as u32,
            position: position as u32,
            sequence: sequence as u32,
        };
        let positions: Vec<usize> = (0..prompt).collect();
        let sequences = 0..options.n_sequences;
        for sequence in sequences.clone() {
            for chunk in positions.chunks(options.max_rows) {
                let rows: Vec<Row> = chunk.iter().map(|&position| row(position, sequence)).collect();
                decoder.step(&rows, Output::Cache)?;
            }
        }
        let context = prompt as u64 + 1;
        let rows: Vec<Row> = sequences.map(|sequence| row(prompt, sequence)).collect();
        let output = if rows.len() == 1 { Output::LastArgmax } else { Output::AllArgmax };
        let profile = decoder.profile(&rows, output, ProfileOptions::at(context))?;
        let roofline =
            Roofline { model: model.name().to_owned(), gpu: decoder.device_name()?, context, roof, profile };
        if let Some(path) = &self.svg {
            write(path, &roofline.svg())?;
            say(&format!("roofline: {}", path.display()));
        }
        Ok(roofline)
    }

    fn measure_roof(&self, decoder: &CudaDecoder) -> Result<Roof, Error> {
        let operations_per_second = decoder.arithmetic_rate()?;
        Ok(match self.roof {
            Some(roof) => Roof { bytes_per_second: roof * 1e12, measured: None, operations_per_second },
            None => Roof {
                bytes_per_second: decoder.read_rate(ROOF_BYTES, ROOF_RUNS)?,
                measured: Some(ROOF_BYTES),
                operations_per_second,
            },
        })
    }
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    std::fs::write(path, text).map_err(|source| Error::Write { path: path.to_owned(), source })
}
