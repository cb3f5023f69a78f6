//! Arguments that say which model runs on what.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use runtime::backend::{self, BackendRequest, Choice};
use runtime::decoder::Decoder;
use runtime::{Activations, EngineOptions, Error, Model};
use tensor_formats::ElementType;

use super::{Failure, say};

/// The engine's arguments.
#[derive(Debug, Args)]
pub struct EngineArguments {
    /// Which engine: auto, cpu or cuda.
    #[arg(long, default_value = "auto", value_name = "NAME")]
    backend: BackendRequest,
    /// How matrix products read activations.
    #[arg(long, value_enum, default_value_t = ActivationsArgument::Q8)]
    activations: ActivationsArgument,
    /// What the KV cache holds; narrower types are read faster.
    #[arg(long, value_enum, default_value_t = KvArgument::F32, value_name = "TYPE")]
    kv: KvArgument,
    /// Worker threads of the CPU engine [default: the machine's cores].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// The CUDA device.
    #[arg(long, default_value_t = 0, value_name = "N")]
    device: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ActivationsArgument {
    /// Quantised to 8 bits for quantised weights.
    Q8,
    /// Always f32: slower and more exact.
    F32,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KvArgument {
    /// Exactly what was computed.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of f32.
    Bf16,
    /// Eight bits, E4M3: needs compute capability 8.9 on CUDA.
    Fp8,
}

impl EngineArguments {
    /// The options for a model.
    pub fn options(&self, model: &Model, eager: bool) -> EngineOptions {
        EngineOptions {
            activations: match self.activations {
                ActivationsArgument::Q8 => Activations::Q8,
                ActivationsArgument::F32 => Activations::F32,
            },
            kv: match self.kv {
                KvArgument::F32 => ElementType::F32,
                KvArgument::F16 => ElementType::F16,
                KvArgument::Bf16 => ElementType::BF16,
                KvArgument::Fp8 => ElementType::F8E4M3,
            },
            eager,
            threads: self.threads,
            device: self.device,
            ..EngineOptions::for_model(model.config())
        }
    }

    /// Chooses an engine and says so.
    pub fn choose(&self, model: &Model, options: &EngineOptions) -> Result<Choice, Failure> {
        options.check(model.config())?;
        let choice = backend::choose(self.backend, model, options)?;
        say(&format!("backend: {choice}"));
        Ok(choice)
    }
}

/// Opens the chosen engine.
pub fn open(choice: &Choice, model: &Model, options: &EngineOptions) -> Result<Box<dyn Decoder>, Failure> {
    Ok(backend::open(choice, model, options)?)
}

/// Opens a file, or the embedded model.
pub fn open_model(file: Option<&PathBuf>) -> Result<Model, Error> {
    match file {
        Some(file) => Model::open(file),
        None => Model::embedded(),
    }
}
