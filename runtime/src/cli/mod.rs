//! The command line.

mod bench;
mod doctor;
mod engine;
mod environment;
mod evaluate;
mod generate;
mod info;
mod profile;
mod synthesize;
mod timings;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use runtime::error::GenerateError;
use runtime::{Error, Model};
use timings::Timings;

/// Runs language models from GGUF files on NVIDIA GPUs and CPUs.
#[derive(Debug, Parser)]
#[command(name = "warpsmith", version, about, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Continue a text. The text goes to stdout, everything else to stderr.
    Generate(generate::GenerateArguments),
    /// Measure tokens per second.
    Bench(bench::BenchArguments),
    /// How likely a model finds a text, and what 8-bit activations and a small KV cache cost.
    Evaluate(evaluate::EvaluateArguments),
    /// Write a model of a known model's shapes with random weights as a GGUF file.
    Synthesize(synthesize::SynthesizeArguments),
    /// Show what is in a GGUF file.
    Info(info::InfoArguments),
    /// Show driver, devices, what will be used and what is missing.
    Doctor,
}

/// Why a command ended early.
enum Failure {
    /// Something to tell.
    Error(Error),
    /// Stdout cannot be written.
    Stdout(io::Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Stdout(error)
    }
}

/// Lets `?` take the library's specific errors.
macro_rules! from_library_errors {
    ($($error:ty),*) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::Error(error.into())
            }
        })*
    };
}

from_library_errors!(
    runtime::error::BackendError,
    runtime::error::GenerateError,
    runtime::error::OptionError,
    runtime::error::TokenizerError
);

/// Parses the arguments, runs the command, and reports what went wrong on one line.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(wrong) if wrong.use_stderr() => wrong.exit(),
        // Help or the version, for which stdout may have no room.
        Err(asked) => return end(asked.print().map_err(Failure::from)),
    };
    let timings = match &arguments.command {
        Command::Generate(arguments) if arguments.timings => Some(Timings::begin()),
        _ => None,
    };
    let result =
        environment::start_logging(timings.as_ref()).and_then(|()| run(&arguments.command, timings.as_ref()));
    end(result)
}

/// Reports what went wrong, if anything did.
fn end(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever was reading has what they wanted.
        Err(Failure::Stdout(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(Failure::Stdout(error)) => {
            say(&format!("error: cannot write to stdout: {error}"));
            ExitCode::FAILURE
        }
        Err(Failure::Error(error)) => {
            say(&format!("error: {}", error.chain()));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command, timings: Option<&Timings>) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    match command {
        Command::Generate(arguments) => generate::run(arguments, timings, &mut stdout),
        Command::Bench(arguments) => bench::run(arguments, &mut stdout),
        Command::Evaluate(arguments) => evaluate::run(arguments, &mut stdout),
        Command::Synthesize(arguments) => synthesize::run(arguments),
        Command::Info(arguments) => info::run(arguments, &mut stdout),
        Command::Doctor => doctor::run(&mut stdout),
    }
}

/// A line to stderr. If nobody takes it there is nobody to tell.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Says which weight may be the reason, if logits were no numbers.
fn explain(model: &Model, error: &Error) {
    let Error::Generate(GenerateError::NoFiniteLogit { .. } | GenerateError::NanLogit { .. }) = error else {
        return;
    };
    if let Some(weight) = model.broken_weight() {
        say(&format!("tensor {} holds values that are no finite numbers", weight.name));
    }
}

/// The most bytes of a file of text. Devices have no end.
const MAX_TEXT: u64 = 1 << 28;

/// A file of text.
fn read_text(path: &Path) -> Result<String, Error> {
    let fail = |source| Error::File { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_TEXT + 1).read_to_end(&mut bytes)).map_err(fail)?;
    if bytes.len() as u64 > MAX_TEXT {
        return Err(fail(io::Error::other(format!("it has more than {MAX_TEXT} bytes"))));
    }
    String::from_utf8(bytes).map_err(|error| fail(io::Error::other(error)))
}

/// A size for people.
fn bytes(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} B"),
        10_000..10_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        10_000_000..10_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}
