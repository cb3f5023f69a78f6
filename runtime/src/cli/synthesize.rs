//! `warpsmith synthesize`

use std::fs::{self, File};
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use runtime::error::Error;
use runtime::synthetic::{Preset, Quant, Vocabulary, image};

use super::{Failure, bytes, say};

#[derive(Debug, Args)]
pub struct SynthesizeArguments {
    /// tiny, tiny-qwen2, llama-3.2-1b, llama-3.1-8b, llama-3.1-70b, qwen2.5-1.5b or qwen2.5-7b.
    #[arg(value_name = "PRESET")]
    preset: Preset,
    /// The file to write. It must not exist.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// The weights' types: q4_k_m, q4_k, q5_k, q4_0, q8_0, f16, bf16 or f32.
    #[arg(long, default_value = "q4_k_m", value_name = "QUANT")]
    quant: Quant,
}

pub fn run(arguments: &SynthesizeArguments) -> Result<(), Failure> {
    let SynthesizeArguments { preset, file, quant } = arguments;
    let failed = |source| Error::Write { path: file.clone(), source };
    let mut output = File::create_new(file).map_err(failed)?;
    let written = image(*preset, *quant, 1, Vocabulary::Bytes).and_then(|image| {
        output.write_all(&image).map_err(failed)?;
        Ok(image.len() as u64)
    });
    drop(output);
    match written {
        Ok(length) => say(&format!("{}: {}", file.display(), bytes(length))),
        Err(error) => {
            // A part of a model is of no use. That it cannot be removed would say less than why it is one.
            let _ = fs::remove_file(file);
            return Err(error.into());
        }
    }
    Ok(())
}
