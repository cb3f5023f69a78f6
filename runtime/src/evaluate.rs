//! How likely a model finds given tokens.

use crate::decoder::{Decoder, Output, Row, StepOutput};
use crate::error::{Error, GenerateError, StepError};

/// What the model made of each token after the first.
#[derive(Debug, Clone, PartialEq)]
pub struct Prediction {
    /// Negative log likelihood in nats.
    pub loss: f64,
    /// The token's logit minus the largest of the others: positive where the model would have chosen it.
    pub margin: f32,
}

/// The predictions of `ids[1..]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// One for each token after the first.
    pub predictions: Vec<Prediction>,
}

impl Evaluation {
    /// Mean negative log likelihood in nats.
    pub fn mean_loss(&self) -> f64 {
        let n = self.predictions.len().max(1);
        self.predictions.iter().map(|prediction| prediction.loss).sum::<f64>() / n as f64
    }

    /// `exp(mean_loss)`.
    pub fn perplexity(&self) -> f64 {
        self.mean_loss().exp()
    }

    /// Share of tokens that the model would have chosen.
    pub fn accuracy(&self) -> f64 {
        let right = self.predictions.iter().filter(|prediction| prediction.margin > 0.0).count();
        right as f64 / self.predictions.len().max(1) as f64
    }
}

/// Evaluates `ids[1..]`, each given all before it, in cache `sequence`.
///
/// # Errors
/// Fewer than two tokens, more than the cache holds, a token outside the vocabulary, logits that make no distribution (one
/// is NaN or infinite, or all are minus infinity), and the decoder's failures.
pub fn evaluate(decoder: &mut dyn Decoder, sequence: u32, ids: &[u32]) -> Result<Evaluation, Error> {
    let n_vocab = decoder.config().n_vocab;
    if ids.len() < 2 {
        return Err(GenerateError::TooFewTokens { tokens: ids.len() }.into());
    }
    // The last token is predicted, not decoded.
    let inputs = &ids[..ids.len() - 1];
    check_ids(decoder, inputs, ids)?;
    let max_rows = decoder.max_rows().max(1);
    let mut predictions = Vec::with_capacity(inputs.len());
    for (chunk, start) in inputs.chunks(max_rows).zip((0..).step_by(max_rows)) {
        let row = |(&token, position): (&u32, usize)| Row { token, position: position as u32, sequence };
        let rows: Vec<Row> = chunk.iter().zip(start..).map(row).collect();
        let logits = match decoder.step(&rows, Output::AllLogits)? {
            StepOutput::Logits(logits) if logits.len() == chunk.len() * n_vocab => logits,
            other => return Err(other.instead_of("the logits of every row")),
        };
        let targets = &ids[start + 1..];
        for ((row, &target), position) in logits.chunks_exact(n_vocab).zip(targets).zip(start..) {
            let prediction = predict(row, target);
            // A NaN among the logits makes one of the loss, as infinity does, beside which nothing has a share.
            if prediction.loss.is_nan() {
                return Err(GenerateError::NanLogit { position }.into());
            }
            predictions.push(prediction);
        }
    }
    Ok(Evaluation { predictions })
}

/// Checks that `inputs` fit the cache and that all of `ids` are in the vocabulary.
pub(crate) fn check_ids(decoder: &dyn Decoder, inputs: &[u32], ids: &[u32]) -> Result<(), Error> {
    let (context, n_vocab) = (decoder.max_seq(), decoder.config().n_vocab);
    if inputs.len() > context {
        return Err(GenerateError::PromptTooLong { prompt: inputs.len(), context }.into());
    }
    match ids.iter().position(|&token| token as usize >= n_vocab) {
        Some(row) => Err(StepError::Token { row, token: ids[row], n_vocab }.into()),
        None => Ok(()),
    }
}

fn predict(logits: &[f32], target: u32) -> Prediction {
    let target = target as usize;
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - largest).exp()).sum();
    let others = logits.iter().enumerate().filter(|&(token, _)| token != target);
    let best_other = others.map(|(_, &logit)| logit).fold(f32::NEG_INFINITY, f32::max);
    let loss = sum.ln() - f64::from(logits[target] - largest);
    Prediction { loss, margin: logits[target] - best_other }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{FakeDecoder, N_VOCAB};

    #[test]
    fn losses_are_those_of_the_softmax() {
        let ids = [1, 2, 3, 9, 4];
        let by_chunk: Vec<_> =
            [1, 2, 8].map(|rows| evaluate(&mut FakeDecoder::new(20, rows), 0, &ids).unwrap()).into();
        assert_eq!(by_chunk[0], by_chunk[1]);
        assert_eq!(by_chunk[0], by_chunk[2]);
        let predictions = &by_chunk[0].predictions;
        assert_eq!(predictions.len(), 4);
        // After 1, 2 the fake says 3: the logit 0, every token beside it 0.25 lower for each step away.
        let weight = |sum: u32| (0..N_VOCAB).map(|t| (f64::from(sum.abs_diff(t)) * -0.25).exp()).sum::<f64>();
        assert!((predictions[1].loss - weight(3).ln()).abs() < 1e-9);
        assert_eq!(predictions[1].margin, 0.25);
        assert!((predictions[2].loss - (weight(6).ln() + 0.75)).abs() < 1e-9);
        assert_eq!(predictions[2].margin, -0.75);
        assert_eq!(by_chunk[0].accuracy(), 0.25);
    }

    #[test]
    fn what_cannot_be_evaluated_is_refused() {
        let refusal = |ids: &[u32]| evaluate(&mut FakeDecoder::new(4, 2), 0, ids).unwrap_err().to_string();
        assert_eq!(refusal(&[1]), "a loss needs at least 2 tokens, got 1");
        assert_eq!(refusal(&[1; 6]), "the prompt has 5 tokens, the context holds 4");
        assert_eq!(refusal(&[1, 999]), "row 1: token 999 is outside the vocabulary of 512");
        for instead in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut decoder = FakeDecoder::new(20, 2);
            (decoder.nan_from, decoder.instead) = (Some(3), instead);
            let refusal = evaluate(&mut decoder, 0, &[1; 6]).unwrap_err().to_string();
            assert_eq!(refusal, "the model's logits are not all numbers (position 3)", "{instead}");
        }
    }
}
