//! What both engines are built with.

use std::path::PathBuf;

use tensor_formats::ElementType;

use crate::decoder::Output;
use crate::error::{Error, OptionError};
use crate::model::ModelConfig;

/// How matrix products read their activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activations {
    /// Quantised once per activation to signed bytes, 32 to a scale, for weights that are themselves quantised.
    /// On CUDA those that meet weights in F16 and BF16 are rounded to these types, 32 to a scale, and so are those of
    /// [many rows](EngineOptions::prompt_rows). Else they are f32.
    #[default]
    Q8,
    /// CUDA, compute capability 9.0: rounded to halves, and so are the weights that they meet, in every step, as Q8 has it in
    /// long prompts. Nine sequences or more that decode together are faster so, up to
    /// [`HALVES_ROWS`](EngineOptions::HALVES_ROWS); fewer are slower.
    F16,
    /// Always f32: slower, and the yardstick for the other.
    F32,
}

/// The size and the manner of an engine. Start from [`EngineOptions::for_model`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Positions of each KV cache.
    pub max_seq: usize,
    /// Number of KV caches, that is of sequences decoded side by side.
    pub n_sequences: usize,
    /// Most rows of one step: the chunk in which prompts are processed, and the limit of a batch. The CPU is faster with
    /// [`CPU_ROWS`](Self::CPU_ROWS).
    pub max_rows: usize,
    /// CUDA, compute capability 9.0, all weights but those in F32: most rows of a step that is part of a prompt. Where these
    /// are more than 20, and more than [`max_rows`](Self::max_rows), they are multiplied as halves on tensor cores, many times
    /// as fast; results differ from those of other steps by rounding. With no more than `max_rows` prompts are multiplied as
    /// everything else is.
    pub prompt_rows: usize,
    /// How matrix products read their activations.
    pub activations: Activations,
    /// What keys and values are rounded to when they are stored: F32, F16, BF16 or F8E4M3. On CUDA it is also the type
    /// that the caches are kept in; the CPU keeps such values as f32.
    pub kv: ElementType,
    /// CUDA: launch kernel by kernel instead of replaying a graph. The CPU engine has no graph to skip.
    pub eager: bool,
    /// CUDA: how many steps, at most, are queued ahead of the one whose tokens the host waits for, while the device
    /// chooses the tokens itself. 0 queues each step when it is asked for.
    pub ahead: usize,
    /// CUDA: the steps that will be needed first, by their rows and results. They are made ready while weights are on
    /// their way to the device; any other step when it is first needed.
    pub first_steps: Vec<(usize, Output)>,
    /// CUDA: a directory where weights are kept in the device's layout, so that the next engine on the same model file
    /// need not reorder them. `None` keeps nothing.
    pub weights_cache: Option<PathBuf>,
    /// CPU: worker threads, at most [`MAX_THREADS`](Self::MAX_THREADS); `None` takes the machine's cores.
    pub threads: Option<usize>,
    /// CUDA: the device's ordinal.
    pub device: usize,
}

impl EngineOptions {
    /// The cache length taken for models that were trained on more, so that a KV cache stays of moderate size.
    pub const DEFAULT_MAX_SEQ: usize = 4096;

    /// Rows of a step that the CPU needs to process prompts at its best: each block of weights is decoded for all of them.
    pub const CPU_ROWS: usize = 64;

    /// The most rows of a step with [`Activations::F16`], but for those of a prompt: among so many none depends on how many
    /// there are.
    pub const HALVES_ROWS: usize = 128;

    /// Rows of a prompt's step that keep an H200 busy.
    pub const PROMPT_ROWS: usize = 512;

    /// The most that [`ahead`](Self::ahead) can be.
    pub const MAX_AHEAD: usize = 1023;

    /// The most that [`threads`](Self::threads) can be. More would wait for each other, not work.
    pub const MAX_THREADS: usize = 1024;

    /// One sequence, the model's context up to [`DEFAULT_MAX_SEQ`](Self::DEFAULT_MAX_SEQ), steps of up to 8 rows, or
    /// [`PROMPT_ROWS`](Self::PROMPT_ROWS) of a prompt.
    pub fn for_model(config: &ModelConfig) -> Self {
        Self {
            max_seq: config.context_length.min(Self::DEFAULT_MAX_SEQ),
            n_sequences: 1,
            max_rows: 8,
            prompt_rows: Self::PROMPT_ROWS,
            activations: Activations::default(),
            kv: ElementType::F32,
            eager: false,
            ahead: 31,
            first_steps: vec![(1, Output::LastArgmax)],
            weights_cache: None,
            threads: None,
            device: 0,
        }
    }

    /// Checks the options against the model. Both engines call this first.
    ///
    /// # Errors
    /// A count of zero, more steps ahead than [`MAX_AHEAD`](Self::MAX_AHEAD) or threads than
    /// [`MAX_THREADS`](Self::MAX_THREADS), a cache longer than the model's context, more rows than the caches can take, or than
    /// the activations allow, or counts whose product does not fit the 32 bits of a device index.
    pub fn check(&self, config: &ModelConfig) -> Result<(), Error> {
        const CONTEXT: &str = "the context (max_seq)";
        const INDEX: usize = u32::MAX as usize;
        let rows = match self.activations {
            Activations::F16 => Self::HALVES_ROWS,
            Activations::Q8 | Activations::F32 => INDEX,
        };
        let counts = [
            (CONTEXT, 1, self.max_seq, INDEX),
            ("n_sequences", 1, self.n_sequences, INDEX),
            ("max_rows", 1, self.max_rows, rows),
            ("prompt_rows", 1, self.prompt_rows, INDEX),
            ("threads", 1, self.threads.unwrap_or(1), Self::MAX_THREADS),
            ("ahead", 0, self.ahead, Self::MAX_AHEAD),
        ];
        for (option, least, value, limit) in counts {
            if value < least {
                return Err(OptionError::Zero { option }.into());
            }
            if value > limit {
                return Err(OptionError::TooLarge { option, value, limit }.into());
            }
        }
        if !self.kv.is_float() {
            let (value, expected) = (self.kv.to_string(), "F32, F16, BF16 or F8E4M3");
            return Err(OptionError::Text { option: "kv", value, expected }.into());
        }
        if self.max_seq > config.context_length {
            return Err(OptionError::TooLarge {
                option: CONTEXT,
                value: self.max_seq,
                limit: config.context_length,
            }
            .into());
        }
        let positions = self.max_seq.saturating_mul(self.n_sequences);
        if self.max_rows > positions {
            let (option, value) = ("max_rows", self.max_rows);
            return Err(OptionError::TooLarge { option, value, limit: positions }.into());
        }
        let rows = self.first_steps.iter().map(|&(rows, _)| rows);
        let limit = self.max_rows.max(self.prompt_rows.min(positions));
        if let Some(value) = rows.clone().max().filter(|&rows| rows > limit) {
            let option = "rows of the first steps";
            return Err(OptionError::TooLarge { option, value, limit }.into());
        }
        if rows.min() == Some(0) {
            return Err(OptionError::Zero { option: "rows of the first steps" }.into());
        }
        Ok(())
    }
}
