//! `warpsmith info`

use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use runtime::Model;
use runtime::error::chain;
use runtime::gguf::Gguf;
use runtime::tokenizer::Tokenizer;

use super::{Failure, bytes};

#[derive(Debug, Args)]
pub struct InfoArguments {
    /// A GGUF file.
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
}

pub fn run(arguments: &InfoArguments, stdout: &mut impl Write) -> Result<(), Failure> {
    let gguf = Gguf::open(&arguments.file)?;
    let size = bytes(gguf.image_bytes() as u64);
    writeln!(stdout, "GGUF version {}, {size}, alignment {}", gguf.version(), gguf.alignment())?;

    writeln!(stdout, "\nmetadata ({})", gguf.metadata().len())?;
    for (key, value) in gguf.metadata().iter() {
        writeln!(stdout, "  {:<45} {}", key.escape_debug().to_string(), gguf.metadata().display(value))?;
    }

    writeln!(stdout, "\ntensors ({})", gguf.tensors().len())?;
    let mut by_type: BTreeMap<String, (usize, u64, Option<u64>)> = BTreeMap::new();
    for tensor in gguf.tensors() {
        let (count, elements, size) = by_type.entry(tensor.type_name()).or_insert((0, 0, Some(0)));
        *count += 1;
        *elements = elements.saturating_add(tensor.elements() as u64);
        *size = size.zip(tensor.byte_len()).map(|(sum, bytes)| sum + bytes as u64);
        if arguments.tensors {
            let name = tensor.name.escape_debug().to_string();
            writeln!(stdout, "  {name:<45} {:<8} {:?}", tensor.type_name(), tensor.dims)?;
        }
    }
    for (ty, (count, elements, size)) in by_type {
        let size = size.map_or_else(|| "of unknown size: not supported".to_owned(), bytes);
        writeln!(stdout, "  {ty:<8} {count:>5} tensors, {elements:>14} elements, {size}")?;
    }

    match Model::from_gguf(gguf) {
        Ok(model) => {
            let config = model.config();
            writeln!(
                stdout,
                "\nmodel: {}, {} parameters, {} layers, width {}, {} heads of {} ({} KV), context {}",
                config.architecture.name(),
                model.parameters(),
                config.n_layers,
                config.n_embd,
                config.n_heads,
                config.head_dim,
                config.n_kv_heads,
                config.context_length,
            )?;
            writeln!(stdout, "weights read per token: {}", bytes(model.bytes_per_token()))?;
            if let Err(error) = Tokenizer::for_model(&model) {
                writeln!(stdout, "it takes no text: {}", chain(&error))?;
            }
        }
        Err(error) => writeln!(stdout, "\nthis file cannot be run: {}", chain(&error))?,
    }
    stdout.flush()?;
    Ok(())
}
