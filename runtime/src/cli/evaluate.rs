//! `warpsmith evaluate`

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use runtime::distance::Sums;
use runtime::error::{Error, GenerateError};
use runtime::evaluate::evaluate;
use runtime::random::SplitMix64;
use runtime::tokenizer::Tokenizer;
use runtime::{Activations, EngineOptions, Model};
use tensor_formats::ElementType;

use super::engine::{EngineArguments, ModelArguments, open};
use super::{Failure, explain, read_text};

#[derive(Debug, Args)]
pub struct EvaluateArguments {
    /// A text in UTF-8 [default: random tokens].
    #[arg(value_name = "FILE")]
    text: Option<PathBuf>,
    #[command(flatten)]
    model: ModelArguments,
    /// Tokens to evaluate: the first of the text, or as many random ones.
    #[arg(short, default_value_t = 256, value_name = "N")]
    n: usize,
    #[command(flatten)]
    engine: EngineArguments,
}

pub fn run(arguments: &EvaluateArguments, stdout: &mut impl Write) -> Result<(), Failure> {
    let model = arguments.model.open()?;
    let ids = arguments.ids(&model)?;
    if ids.len() < 2 {
        return Err(GenerateError::TooFewTokens { tokens: ids.len() }.into());
    }
    let mut options = arguments.engine.options(&model, false);
    options.max_seq = ids.len();
    options.max_rows = options.max_rows.min(options.max_seq);
    let choice = arguments.engine.choose(&model, &mut options)?;
    let mut decoder = open(&choice, &model, &options)?;
    writeln!(stdout, "{}: {} tokens", model.name().escape_debug(), ids.len())?;
    writeln!(stdout, "{}", decoder.describe())?;
    let evaluation = evaluate(decoder.as_mut(), 0, &ids).inspect_err(|error| explain(&model, error))?;
    let (loss, perplexity) = (evaluation.mean_loss(), evaluation.perplexity());
    let accuracy = evaluation.accuracy() * 100.0;
    writeln!(stdout, "loss {loss:.4}, perplexity {perplexity:.3}, right {accuracy:.1} %")?;
    let right = EngineOptions { activations: Activations::F32, kv: ElementType::F32, ..options };
    let mut right = open(&choice, &model, &right)?;
    let mut sums = Sums::default();
    sums.add_text(decoder.as_mut(), right.as_mut(), 0, &ids)?;
    writeln!(stdout, "from activations and caches in f32: {}", sums.distance())?;
    stdout.flush()?;
    Ok(())
}

impl EvaluateArguments {
    /// The tokens: at most `n`, and what the model's context takes.
    fn ids(&self, model: &Model) -> Result<Vec<u32>, Error> {
        let n = self.n.min(model.config().context_length);
        let Some(path) = &self.text else {
            let mut random = SplitMix64::new(1);
            let n_vocab = model.config().n_vocab as u64;
            return Ok((0..n).map(|_| (random.next_u64() % n_vocab) as u32).collect());
        };
        Ok(Tokenizer::for_model(model)?.encode_first(&read_text(path)?, n)?)
    }
}
