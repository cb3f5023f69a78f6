//! The recorded outputs of an independent engine on the tiny model (`tests/data/expected.json`), and the check that a
//! decoder reproduces them.
//!
//! Greedy continuations must be equal token by token up to the first recorded margin (the logit of the chosen token
//! minus the second best) that is so small that another order of summation may decide otherwise: 0.05 for F16 weights,
//! 0.3 for quantised ones, for which the recording engine quantised the activations as well.

use std::fmt::Write as _;

use runtime::decoder::{Decoder, Output, Row, StepOutput};
use serde::Deserialize;

/// The content of `expected.json`.
#[derive(Debug, Deserialize)]
pub struct Golden {
    /// Greedy continuations.
    pub cases: Vec<Case>,
    /// Mean losses over whole texts.
    pub loss: Vec<Loss>,
    /// Texts and their tokens.
    pub tokenizer: Vec<Tokens>,
}

/// A prompt and its greedy continuation.
#[derive(Debug, Deserialize)]
pub struct Case {
    /// The model's file name.
    pub file: String,
    /// What the prompt asks for.
    pub kind: String,
    /// The most tokens that were generated.
    pub n: usize,
    /// The prompt's text.
    pub prompt: String,
    /// The prompt's tokens, start token first.
    pub prompt_ids: Vec<u32>,
    /// The continuation; the end token is part of it.
    pub ids: Vec<u32>,
    /// For each token of `ids`, its logit minus the second best.
    pub margins: Vec<f32>,
    /// The right answer, where there is one: the continuation's text begins with it.
    pub answer: Option<String>,
    /// Tokens and logits of the five best after the prompt.
    pub top5: Vec<(u32, f32)>,
}

/// The mean negative log-likelihood of a text.
#[derive(Debug, Deserialize)]
pub struct Loss {
    /// The model's file name.
    pub file: String,
    /// The text's tokens.
    pub ids: Vec<u32>,
    /// Mean over `ids[1..]`, in nats.
    pub mean: f64,
    /// The same over equal parts of the text.
    pub blocks: Vec<f64>,
}

/// A text and its tokens, start token first.
#[derive(Debug, Deserialize)]
pub struct Tokens {
    /// The text.
    pub text: String,
    /// Its tokens.
    pub ids: Vec<u32>,
}

/// The token that ends a text of the tiny model.
const END: u32 = 1;

/// How far, relative to the recorded one, the mean loss of an eighth of a text may be off. What rounding does to one
/// token does not depend on what it does to the next, so the bound of a mean over `n` parts is `1 / sqrt(n)` of this:
/// 0.5 % for the sixteen parts of two texts.
const LOSS_OF_A_PART: f64 = 0.02;

impl Golden {
    /// Reads the recorded outputs.
    ///
    /// # Panics
    /// If they are missing or damaged.
    pub fn load() -> Self {
        serde_json::from_slice(&crate::data::read("expected.json"))
            .expect("expected.json has the recorded form")
    }

    /// The `n` shortest cases of `file`, and the first part of one of its texts: what an engine can do that takes a
    /// tenth of a second for a token.
    #[must_use]
    pub fn shortened(mut self, file: &str, n: usize) -> Self {
        self.cases.retain(|case| case.file == file);
        self.cases.sort_by_key(|case| case.prompt_ids.len() + case.ids.len());
        self.cases.truncate(n);
        self.loss.retain(|loss| loss.file == file);
        self.loss.truncate(1);
        for loss in &mut self.loss {
            let part = loss.ids.len() / loss.blocks.len();
            loss.ids.truncate(part + 1);
            loss.blocks.truncate(1);
            loss.mean = loss.blocks[0];
        }
        self
    }
}

/// What a file's cases came to.
#[derive(Debug, Default)]
pub struct Outcome {
    /// Cases whose every token is equal.
    pub equal: usize,
    /// Cases that differ from a small margin on: what, where and by which margin.
    pub flipped: Vec<String>,
    /// What must not happen.
    pub failures: Vec<String>,
}

impl Outcome {
    /// A line for each case that is not simply equal, for the test's output.
    pub fn report(&self, title: &str) -> String {
        let mut text = format!("{title}: {} equal, {} fell the other way", self.equal, self.flipped.len());
        for line in &self.flipped {
            let _ = write!(text, "\n  {line}");
        }
        text
    }
}

/// The margin under which a recorded choice may fall the other way.
pub fn free_margin(file: &str) -> f32 {
    if file.contains("f16") { 0.05 } else { 0.3 }
}

/// Runs all cases of `file` on `decoder`; `text` decodes tokens.
pub fn check_cases(
    golden: &Golden,
    file: &str,
    decoder: &mut dyn Decoder,
    text: impl Fn(&[u32]) -> String,
) -> Outcome {
    let mut outcome = Outcome::default();
    for case in golden.cases.iter().filter(|case| case.file == file) {
        let what = format!("{} {:?}", case.kind, case.prompt);
        let ids = greedy(decoder, &case.prompt_ids, case.n);
        if let Some(answer) = &case.answer
            && !text(&ids).starts_with(answer.as_str())
        {
            outcome.failures.push(format!("{what}: the answer is {answer:?}, not {:?}", text(&ids)));
        }
        let differs = (0..case.ids.len().max(ids.len())).find(|&i| case.ids.get(i) != ids.get(i));
        let Some(at) = differs else {
            outcome.equal += 1;
            continue;
        };
        let line = format!("{what}: token {at}: expected {:?}, got {:?}", case.ids.get(at), ids.get(at));
        let free = case.margins.iter().take(at + 1).position(|&margin| margin < free_margin(file));
        match free {
            Some(first) => {
                outcome.flipped.push(format!("{line} (margin {} at token {first})", case.margins[first]))
            }
            None => outcome.failures.push(format!("{line} (margins {:?})", &case.margins[..=at])),
        }
    }
    outcome
}

/// The greedy continuation of a prompt: at most `n` tokens, or up to the end token, which is included. After the first
/// token the decoder may run ahead.
pub fn greedy(decoder: &mut dyn Decoder, prompt: &[u32], n: usize) -> Vec<u32> {
    let mut ids = Vec::new();
    let mut position = 0;
    let mut next = None;
    let chunks: Vec<&[u32]> = prompt.chunks(decoder.max_rows()).collect();
    for (i, chunk) in chunks.iter().enumerate() {
        let output = if i + 1 == chunks.len() { Output::LastArgmax } else { Output::Cache };
        if let StepOutput::Argmax(tokens) = step(decoder, chunk, position, output) {
            next = Some(tokens[0]);
        }
        position += chunk.len() as u32;
    }
    let mut token = next.expect("the last chunk has a result");
    ids.push(token);
    while ids.len() < n && token != END {
        let row = Row { token, position, sequence: 0 };
        let tokens = decoder.decode_ahead(&[row], n - ids.len() - 1);
        token = tokens.expect("a step inside the context succeeds")[0];
        ids.push(token);
        position += 1;
    }
    ids
}

/// The mean negative log-likelihood of `ids[1..]` in nats, over the whole and over `blocks` parts of the text.
pub fn loss(decoder: &mut dyn Decoder, ids: &[u32], blocks: usize) -> (f64, Vec<f64>) {
    let logits = all_logits(decoder, &ids[..ids.len() - 1]);
    let n_vocab = decoder.config().n_vocab;
    let losses: Vec<f64> = logits
        .chunks_exact(n_vocab)
        .zip(&ids[1..])
        .map(|(row, &token)| {
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
            let sum: f64 = row.iter().map(|&x| (x as f64 - most).exp()).sum();
            most + sum.ln() - row[token as usize] as f64
        })
        .collect();
    let mean = |part: &[f64]| part.iter().sum::<f64>() / part.len() as f64;
    let part = ids.len() / blocks;
    (mean(&losses), losses.chunks(part).map(mean).collect())
}

/// The logits at every position of a text, `[ids.len(), n_vocab]`.
pub fn all_logits(decoder: &mut dyn Decoder, ids: &[u32]) -> Vec<f32> {
    let mut logits = Vec::new();
    let chunk = decoder.max_rows();
    for (i, part) in ids.chunks(chunk).enumerate() {
        match step(decoder, part, (i * chunk) as u32, Output::AllLogits) {
            StepOutput::Logits(rows) => logits.extend_from_slice(rows),
            other => panic!("asked for logits, got {other:?}"),
        }
    }
    logits
}

fn step<'a>(decoder: &'a mut dyn Decoder, tokens: &[u32], position: u32, output: Output) -> StepOutput<'a> {
    let rows: Vec<Row> =
        (position..).zip(tokens).map(|(position, &token)| Row { token, position, sequence: 0 }).collect();
    decoder.step(&rows, output).expect("a step inside the context succeeds")
}

/// Checks everything recorded of `file` on `decoder` and prints what fell the other way.
///
/// # Panics
/// If a token differs where no margin is small, an answer is wrong, or a loss is off by more than 2 % in a part of a text
/// or by more than 0.5 % over two whole texts.
pub fn check_file(
    golden: &Golden,
    file: &str,
    engine: &str,
    decoder: &mut dyn Decoder,
    text: impl Fn(&[u32]) -> String,
) -> String {
    let outcome = check_cases(golden, file, decoder, text);
    let mut report = outcome.report(&format!("{file} on {engine}"));
    assert!(outcome.failures.is_empty(), "{file} on {engine}:\n{}", outcome.failures.join("\n"));
    let (mut got_sum, mut want_sum, mut texts, mut parts) = (0.0, 0.0, 0, 0u32);
    for expected in golden.loss.iter().filter(|loss| loss.file == file) {
        let (mean, blocks) = loss(decoder, &expected.ids, expected.blocks.len());
        let _ = write!(report, "\n  loss {mean:.5}, recorded {:.5}", expected.mean);
        for (got, want) in blocks.iter().zip(&expected.blocks) {
            assert!(
                (got - want).abs() <= LOSS_OF_A_PART * want.max(0.1),
                "{file} on {engine}: blocks {blocks:?}, recorded {:?}",
                expected.blocks
            );
        }
        (got_sum, want_sum) = (got_sum + mean, want_sum + expected.mean);
        (texts, parts) = (texts + 1, parts + blocks.len() as u32);
    }
    assert!(texts > 0 && outcome.equal + outcome.flipped.len() > 0, "{file}: nothing is recorded");
    assert!(
        (got_sum - want_sum).abs() <= LOSS_OF_A_PART / f64::from(parts).sqrt() * want_sum,
        "{file} on {engine}: mean loss {}, recorded {}",
        got_sum / texts as f64,
        want_sum / texts as f64
    );
    report
}
