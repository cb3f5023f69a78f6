//! `warpsmith bench`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use runtime::backend::Backend;
use runtime::bench::{BenchOptions, Measurement, measure};
use runtime::compare::{check, compare};
use runtime::error::{BackendError, CompareError, OptionError};
use runtime::probe::probe;
use runtime::{EngineOptions, Error, Model};
use serde_json::{Value, json};

use super::engine::{EngineArguments, ModelArguments, open};
use super::profile::ProfileArguments;
use super::{Failure, bytes, explain, read_text};

#[derive(Debug, Args)]
pub struct BenchArguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Tokens to decode.
    #[arg(short, default_value_t = 128, value_name = "N")]
    n: usize,
    /// Tokens of the prompt.
    #[arg(short, default_value_t = 128, value_name = "N")]
    p: usize,
    /// Sequences that are decoded together, each after a prompt of its own. Speeds are those of all together.
    #[arg(short, long, default_value_t = 1, value_name = "N")]
    batch: usize,
    /// Repetitions, of which the median counts.
    #[arg(long, default_value_t = 3, value_name = "R")]
    repeat: usize,
    /// CUDA: launch kernel by kernel instead of replaying a graph.
    #[arg(long, conflicts_with = "both")]
    eager: bool,
    /// CUDA: measure the graph and eager launches.
    #[arg(long)]
    both: bool,
    /// Write JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Show ratios to an earlier measurement, a file that --json wrote, of the same model on the same GPU.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// Compare with a measurement of another GPU, too.
    #[arg(long, requires = "compare")]
    other_gpu: bool,
    #[command(flatten)]
    profile: ProfileArguments,
    #[command(flatten)]
    engine: EngineArguments,
}

/// One line of the table.
struct Row {
    mode: &'static str,
    engine: String,
    measurement: Measurement,
}

pub fn run(arguments: &BenchArguments, stdout: &mut impl Write) -> Result<(), Failure> {
    let BenchArguments { p: prompt, n, batch, repeat, .. } = *arguments;
    let bench = BenchOptions { prompt, n, batch, repeat };
    bench.check()?;
    arguments.profile.check()?;
    let earlier = arguments.compare.as_deref().map(read_earlier).transpose()?;
    let model = arguments.model.open()?;
    let mut options = arguments.engine.options(&model, arguments.eager);
    options.max_seq = bench.positions();
    options.n_sequences = bench.batch;
    options.max_rows = options.max_rows.max(bench.batch).min(options.max_seq.saturating_mul(bench.batch));
    let choice = arguments.engine.choose(&model, &mut options)?;
    if arguments.profile.wanted() && choice.backend == Backend::Cpu {
        return Err(OptionError::NeedsCuda { option: "--profile" }.into());
    }
    let modes: &[(&str, bool)] = match choice.backend {
        Backend::Cpu => &[("cpu", false)],
        Backend::Cuda if arguments.both => &[("graph", false), ("eager", true)],
        Backend::Cuda if arguments.eager => &[("eager", true)],
        Backend::Cuda => &[("graph", false)],
    };
    let mut rows = Vec::with_capacity(modes.len());
    for &(mode, eager) in modes {
        let mut decoder = open(&choice, &model, &EngineOptions { eager, ..options.clone() })?;
        let measurement = measure(decoder.as_mut(), bench).inspect_err(|error| explain(&model, error))?;
        rows.push(Row { mode, engine: decoder.describe(), measurement });
    }
    let gpu = match choice.backend {
        Backend::Cuda => Some(gpu_name(options.device)?),
        Backend::Cpu => None,
    };
    let roofline = if arguments.profile.wanted() {
        Some(arguments.profile.run(&model, &options, bench.prompt)?)
    } else {
        None
    };
    let mut report = report(&model, gpu.as_deref(), &rows, bench);
    if let Some(roofline) = &roofline {
        report["profile"] = roofline.json();
    }
    let compared = match &earlier {
        None => None,
        Some((path, earlier)) => Some(
            compare(earlier, &report, arguments.other_gpu)
                .map_err(|source| Error::Compare { path: path.to_path_buf(), source })?,
        ),
    };
    if arguments.json {
        if let Some(compared) = &compared {
            report["compared"] = compared.json();
        }
        writeln!(stdout, "{report:#}")?;
    } else {
        write_table(&model, &rows, bench, stdout)?;
        if let Some(roofline) = &roofline {
            write!(stdout, "\n{roofline}")?;
        }
        if let Some(compared) = &compared {
            write!(stdout, "\n{compared}")?;
        }
    }
    stdout.flush()?;
    Ok(())
}

/// The report of an earlier measurement, with all that a comparison needs.
fn read_earlier(path: &Path) -> Result<(&Path, Value), Error> {
    let text = read_text(path)?;
    let report =
        serde_json::from_str(&text).map_err(|error| CompareError::Json { reason: error.to_string() });
    let report = report.and_then(|report| check(&report).map(|()| report));
    Ok((path, report.map_err(|source| Error::Compare { path: path.to_owned(), source })?))
}

/// The name of a device that a decoder has just run on.
fn gpu_name(ordinal: usize) -> Result<String, Error> {
    let device = probe().map(|probe| probe.devices.into_iter().nth(ordinal));
    let device = device.map_err(|error| Error::device("cuda", "asking for the device's name", error))?;
    device.map(|device| device.name).ok_or_else(|| {
        let reason = format!("the machine has no device {ordinal} any more");
        BackendError::NoCuda { reason, source: None }.into()
    })
}

/// Bytes of weights read in a second of decoding, in GB: a step reads them once for all sequences.
fn bandwidth(model: &Model, measurement: &Measurement, batch: usize) -> f64 {
    model.bytes_per_token() as f64 * measurement.decode_rate() / batch as f64 / 1e9
}

fn write_table(
    model: &Model,
    rows: &[Row],
    bench: BenchOptions,
    stdout: &mut impl Write,
) -> Result<(), std::io::Error> {
    let BenchOptions { prompt, n, batch, repeat } = bench;
    let (millions, per_token) = (model.parameters() as f64 / 1e6, bytes(model.bytes_per_token()));
    writeln!(
        stdout,
        "{}: {millions:.1} M parameters, {per_token} of weights per token",
        model.name().escape_debug()
    )?;
    for row in rows {
        writeln!(stdout, "{}: {}", row.mode, row.engine)?;
    }
    match batch {
        1 => writeln!(stdout, "median of {repeat}")?,
        _ => writeln!(stdout, "{batch} sequences together, median of {repeat}")?,
    }
    let (prompt, decode) = (format!("prompt {prompt} tok/s"), format!("decode {n} tok/s"));
    writeln!(
        stdout,
        "{:<6} {prompt:>20} {decode:>20} {:>12} {:>13} {:>13}",
        "mode", "us/token", "weights GB/s", "CPU us/token"
    )?;
    for Row { mode, measurement, .. } in rows {
        let (prompt, decode) = (measurement.prompt_rate(), measurement.decode_rate());
        let (micros, rate) = (1e6 / decode, bandwidth(model, measurement, batch));
        let cpu = measurement.decode_cpu_micros().map_or("unknown".to_owned(), |cpu| format!("{cpu:.1}"));
        writeln!(stdout, "{mode:<6} {prompt:>20.1} {decode:>20.1} {micros:>12.1} {rate:>13.1} {cpu:>13}")?;
    }
    Ok(())
}

fn report(model: &Model, gpu: Option<&str>, rows: &[Row], bench: BenchOptions) -> Value {
    let rows = rows.iter().map(|row| {
        let Measurement { prompt_rates, decode_rates, decode_cpu_micros } = &row.measurement;
        json!({
            "mode": row.mode,
            "engine": row.engine,
            "prompt_tok_per_s": row.measurement.prompt_rate(),
            "decode_tok_per_s": row.measurement.decode_rate(),
            "weights_gb_per_s": bandwidth(model, &row.measurement, bench.batch),
            "all_prompt_tok_per_s": prompt_rates,
            "all_decode_tok_per_s": decode_rates,
            "cpu_us_per_token": row.measurement.decode_cpu_micros(),
            "all_cpu_us_per_token": decode_cpu_micros,
        })
    });
    json!({
        "gpu": gpu,
        "model": model.name(),
        "architecture": model.config().architecture.name(),
        "parameters": model.parameters(),
        "weight_bytes_per_token": model.bytes_per_token(),
        "prompt_tokens": bench.prompt,
        "decode_tokens": bench.n,
        "batch": bench.batch,
        "repeat": bench.repeat,
        "rows": rows.collect::<Vec<_>>(),
    })
}
