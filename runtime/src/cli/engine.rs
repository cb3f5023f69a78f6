//! Arguments that say which model runs on what.

use std::path::PathBuf;
use std::time::Instant;

use clap::{Args, ValueEnum};
use runtime::backend::{self, Backend, BackendRequest, Choice, Opening};
use runtime::decoder::Decoder;
use runtime::synthetic::{Preset, Quant, synthesize};
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
    /// What the KV cache holds [default: f16 on CUDA, f32 on the CPU].
    #[arg(long, value_enum, value_name = "TYPE")]
    kv: Option<KvArgument>,
    /// Worker threads of the CPU engine [default: the machine's cores].
    #[arg(long, value_name = "N")]
    threads: Option<usize>,
    /// CUDA: how many steps are queued ahead of the token that is waited for.
    #[arg(long, default_value_t = 31, value_name = "N")]
    ahead: usize,
    /// CUDA, compute capability 9.0: most tokens of a prompt that are processed together, multiplied as halves; 8 multiplies
    /// them as everything else is.
    #[arg(long, default_value_t = EngineOptions::PROMPT_ROWS, value_name = "N")]
    prompt_rows: usize,
    /// CUDA: keep the weights of a model file in this directory in the order of the device.
    #[arg(long, value_name = "DIR")]
    weights_cache: Option<PathBuf>,
    /// The CUDA device.
    #[arg(long, default_value_t = 0, value_name = "N")]
    device: usize,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum ActivationsArgument {
    /// Quantised to 8 bits for quantised weights, on CUDA rounded to 16 bits for those of 16 bits.
    Q8,
    /// Rounded to halves, with the weights: nine or more sequences together are faster so. Needs CUDA, compute capability 9.0.
    F16,
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
                ActivationsArgument::F16 => Activations::F16,
                ActivationsArgument::F32 => Activations::F32,
            },
            kv: match self.kv {
                Some(KvArgument::F32) => ElementType::F32,
                Some(KvArgument::F16) => ElementType::F16,
                Some(KvArgument::Bf16) => ElementType::BF16,
                Some(KvArgument::Fp8) => ElementType::F8E4M3,
                // The engines' own, of which the choice depends on the larger.
                None => ElementType::F32,
            },
            eager,
            ahead: self.ahead,
            prompt_rows: self.prompt_rows,
            weights_cache: self.weights_cache.clone(),
            threads: self.threads,
            device: self.device,
            ..EngineOptions::for_model(model.config())
        }
    }

    /// Begins to open the device that may be used.
    pub fn begin_opening(&self) -> Opening {
        Opening::begin(self.backend, self.device)
    }

    /// Chooses an engine and says so. A KV cache whose type is left open gets that of the engine: half precision moves
    /// half the bytes on a GPU, and loses less than activations of 8 bits do. Heads have to be whole 16-byte loads for it.
    /// Chunks of prompts get the size that is best for the engine.
    pub fn choose(&self, model: &Model, options: &mut EngineOptions) -> Result<Choice, Failure> {
        options.check(model.config())?;
        let choice = backend::choose(self.backend, model, options)?;
        let halves = choice.backend == Backend::Cuda && model.config().head_dim.is_multiple_of(8);
        if self.kv.is_none() && halves {
            options.kv = ElementType::F16;
        }
        if choice.backend == Backend::Cpu {
            let rows = options.max_seq.saturating_mul(options.n_sequences).min(EngineOptions::CPU_ROWS);
            options.max_rows = options.max_rows.max(rows);
        }
        if self.weights_cache.is_some() && choice.backend == Backend::Cpu {
            say("--weights-cache is for CUDA: the CPU reads weights in the file's order");
        }
        say(&format!("backend: {choice}; KV cache in {}", options.kv));
        Ok(choice)
    }
}

/// Opens the chosen engine.
pub fn open(choice: &Choice, model: &Model, options: &EngineOptions) -> Result<Box<dyn Decoder>, Failure> {
    Ok(backend::open(choice, model, options)?)
}

/// Arguments that say which model.
#[derive(Debug, Args)]
pub struct ModelArguments {
    /// A GGUF file [default: the embedded model].
    #[arg(short, long, value_name = "FILE", conflicts_with = "synthetic")]
    model: Option<PathBuf>,
    /// Random weights of a known model's shapes: tiny, tiny-qwen2, llama-3.2-1b, llama-3.1-8b, llama-3.1-70b, qwen2.5-1.5b or qwen2.5-7b.
    #[arg(long, value_name = "PRESET")]
    synthetic: Option<Preset>,
    /// The weights' types: q4_k_m, q4_k, q5_k, q4_0, q8_0, f16, bf16 or f32.
    #[arg(long, default_value = "q4_k_m", value_name = "QUANT", requires = "synthetic")]
    quant: Quant,
}

impl ModelArguments {
    /// Opens or makes the model.
    pub fn open(&self) -> Result<Model, Error> {
        let Some(preset) = self.synthetic else { return open_model(self.model.as_ref()) };
        let start = Instant::now();
        let model = synthesize(preset, self.quant, 1)?;
        say(&format!("weights made in {:.1} s", start.elapsed().as_secs_f64()));
        Ok(model)
    }
}

/// Opens a file, or the embedded model.
pub fn open_model(file: Option<&PathBuf>) -> Result<Model, Error> {
    match file {
        Some(file) => Model::open(file),
        None => Model::embedded(),
    }
}
