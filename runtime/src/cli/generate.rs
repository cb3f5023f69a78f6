//! `warpsmith generate`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use runtime::backend::Backend;
use runtime::generate::{GenerateOptions, Generator, Stop, check_fit, first_steps};
use runtime::sampling::SamplingOptions;
use runtime::tokenizer::Tokenizer;
use runtime::{Model, embedded};

use super::engine::{EngineArguments, open, open_model};
use super::timings::Timings;
use super::{Failure, explain, say};

/// Tokens to generate where nothing is said and the context allows it.
const DEFAULT_N: usize = 256;

#[derive(Debug, Args)]
pub struct GenerateArguments {
    /// The text to continue.
    #[arg(default_value = embedded::PROMPT)]
    prompt: String,
    /// A GGUF file [default: the embedded model].
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Most tokens to generate [default: 256, or what the context leaves].
    #[arg(short, value_name = "N")]
    n: Option<usize>,
    /// Temperature: 0 takes the most likely token, 1 draws from the model's distribution. Probabilities of --top-p and --min-p
    /// are those at this temperature.
    #[arg(long = "temp", default_value_t = 0.0, value_name = "T", allow_negative_numbers = true)]
    temperature: f32,
    /// Draw only among the K most likely tokens; 0 for all.
    #[arg(long, default_value_t = 0, value_name = "K")]
    top_k: usize,
    /// Draw only among the most likely tokens that together have the probability P.
    #[arg(long, default_value_t = 1.0, value_name = "P", allow_negative_numbers = true)]
    top_p: f32,
    /// Draw only among tokens at least P times as likely as the most likely one.
    #[arg(long, default_value_t = 0.0, value_name = "P", allow_negative_numbers = true)]
    min_p: f32,
    /// Divide the positive logits of tokens that came lately by X, multiply the negative ones.
    #[arg(long = "repeat-penalty", default_value_t = 1.0, value_name = "X", allow_negative_numbers = true)]
    repetition_penalty: f32,
    /// How many tokens have come lately.
    #[arg(long, default_value_t = 64, value_name = "N")]
    repeat_last_n: usize,
    /// Equal seeds give equal texts.
    #[arg(long, default_value_t = 0, value_name = "S")]
    seed: u64,
    /// Positions of the context [default: the model's, at most 4096].
    #[arg(long, value_name = "N")]
    context: Option<usize>,
    /// CUDA: launch kernel by kernel instead of replaying a graph.
    #[arg(long)]
    eager: bool,
    /// Write only what follows the prompt.
    #[arg(long)]
    no_echo: bool,
    /// Show what the time from the start of the process to the first token is spent on.
    #[arg(long)]
    pub timings: bool,
    #[command(flatten)]
    engine: EngineArguments,
}

pub fn run(
    arguments: &GenerateArguments,
    timings: Option<&Timings>,
    stdout: &mut impl Write,
) -> Result<(), Failure> {
    // The driver starts while the file is read.
    let opening = arguments.engine.begin_opening();
    let model = open_model(arguments.model.as_ref())?;
    let mut options = arguments.engine.options(&model, arguments.eager);
    options.max_seq = arguments.context.unwrap_or(options.max_seq);
    options.max_rows = options.max_rows.min(options.max_seq.max(1));
    options.check(model.config())?;

    let tokenizer = Tokenizer::for_model(&model)?;
    let prompt = tokenizer.encode(&arguments.prompt)?;
    let room = (options.max_seq + 1).saturating_sub(prompt.len());
    let n = arguments.n.unwrap_or(DEFAULT_N.min(room.max(1)));
    let longest = model.config().context_length;
    check_fit(prompt.len(), n, options.max_seq).inspect_err(|_| {
        if options.max_seq < longest {
            say(&format!("the model has {longest} positions, of which --context N takes N"));
        }
    })?;
    let generate = GenerateOptions {
        n,
        sampling: SamplingOptions {
            temperature: arguments.temperature,
            top_k: arguments.top_k,
            top_p: arguments.top_p,
            min_p: arguments.min_p,
            repetition_penalty: arguments.repetition_penalty,
            repeat_last_n: arguments.repeat_last_n,
            seed: arguments.seed,
        },
        end_tokens: tokenizer.end_tokens().to_vec(),
        sequence: 0,
    };
    generate.sampling.check()?;

    say(&describe(&model));
    let choice = arguments.engine.choose(&model, &mut options)?;
    let chunk = match choice.backend {
        Backend::Cuda => options.max_rows.max(options.prompt_rows),
        Backend::Cpu => options.max_rows,
    };
    options.first_steps = first_steps(prompt.len(), chunk, &generate.sampling);
    let mut decoder = open(&choice, &model, &options)?;
    drop(opening);
    if !arguments.no_echo {
        stdout.write_all(arguments.prompt.as_bytes())?;
        stdout.flush()?;
    }
    let mut generator = Generator::new(decoder.as_mut(), &prompt, generate)?;
    let mut stream = tokenizer.stream();
    let mut text = String::new();
    let mut failed = None;
    let mut first_token = timings;
    for token in generator.by_ref() {
        match token {
            Ok(token) => stream.push(token, &mut text)?,
            Err(error) => failed = Some(error),
        }
        if !text.is_empty() {
            stdout.write_all(text.as_bytes())?;
            stdout.flush()?;
            text.clear();
        }
        if let Some(timings) = first_token.take() {
            timings.first_token();
        }
    }
    stream.finish(&mut text);
    writeln!(stdout, "{text}")?;
    stdout.flush()?;
    let (stats, stop) = (generator.stats(), generator.stop());
    if let Some(error) = failed {
        explain(&model, &error);
        return Err(error.into());
    }
    say(&format!("engine: {}", decoder.describe()));
    if let Some(timings) = timings {
        say(timings.to_string().trim_end());
    }
    say(&format!("prompt: {} tokens, {:.1} tok/s", stats.prompt_tokens, stats.prompt_rate()));
    let why = match stop {
        Some(Stop::EndToken(_)) => "end of text",
        Some(Stop::Length) | None => "length",
    };
    say(&format!(
        "decode: {} tokens, {:.1} tok/s, stopped by {why}",
        stats.decode_tokens,
        stats.decode_rate()
    ));
    Ok(())
}

fn describe(model: &Model) -> String {
    let config = model.config();
    let millions = model.parameters() as f64 / 1e6;
    format!(
        "model: {}, {}, {millions:.1} M parameters",
        model.name().escape_debug(),
        config.architecture.name()
    )
}
