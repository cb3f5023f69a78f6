//! How far the next-token distributions of one engine are from those of another.

use std::fmt;

use crate::decoder::{Decoder, Output, Row, StepOutput};
use crate::error::Error;
use crate::evaluate::check_ids;

/// The distance of logits from others that are taken for right, over the positions of a text or of several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    /// Positions compared.
    pub positions: usize,
    /// Root mean square of the differences over that of the right logits.
    pub relative_rms: f64,
    /// Kullback-Leibler divergence of the next-token distribution from the right one in nats, mean over the positions.
    pub kl: f64,
    /// The largest of these.
    pub max_kl: f64,
    /// Share of positions with the same most likely token.
    pub same_top: f64,
}

impl Distance {
    /// Compares logits `[positions, n_vocab]`.
    ///
    /// # Panics
    /// If the lengths differ or are no multiple of `n_vocab`.
    pub fn between(got: &[f32], right: &[f32], n_vocab: usize) -> Self {
        let mut sums = Sums::default();
        sums.add(got, right, n_vocab);
        sums.distance()
    }
}

impl fmt::Display for Distance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { positions, relative_rms, kl, max_kl, same_top } = *self;
        write!(
            f,
            "{positions} positions: KL {kl:.2e} (most {max_kl:.2e}), rms {:.2} %, same choice {:.1} %",
            relative_rms * 100.0,
            same_top * 100.0
        )
    }
}

/// What a [`Distance`] is made of, text by text.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sums {
    positions: usize,
    square_error: f64,
    square: f64,
    kl: f64,
    max_kl: f64,
    same_top: usize,
}

impl Sums {
    /// Adds logits `[positions, n_vocab]`.
    ///
    /// # Panics
    /// If the lengths differ or are no multiple of `n_vocab`.
    pub fn add(&mut self, got: &[f32], right: &[f32], n_vocab: usize) {
        assert_eq!((got.len(), got.len() % n_vocab), (right.len(), 0), "numbers of logits");
        for (got, right) in got.chunks_exact(n_vocab).zip(right.chunks_exact(n_vocab)) {
            for (&got, &right) in got.iter().zip(right) {
                self.square_error += (f64::from(got) - f64::from(right)).powi(2);
                self.square += f64::from(right).powi(2);
            }
            let kl = divergence(got, right);
            self.kl += kl;
            // Unlike `f64::max`, this keeps what is not a number.
            if kl.is_nan() || kl > self.max_kl {
                self.max_kl = kl;
            }
            self.same_top += usize::from(top(got) == top(right));
            self.positions += 1;
        }
    }

    /// Decodes `ids` with both decoders, each token given all before it in cache `sequence`, and adds what they make
    /// of every position.
    ///
    /// # Errors
    /// More tokens than either cache holds, a token outside the vocabulary, and the decoders' failures.
    ///
    /// # Panics
    /// If the decoders' vocabularies differ.
    pub fn add_text(
        &mut self,
        decoder: &mut dyn Decoder,
        right: &mut dyn Decoder,
        sequence: u32,
        ids: &[u32],
    ) -> Result<(), Error> {
        let n_vocab = decoder.config().n_vocab;
        assert_eq!(n_vocab, right.config().n_vocab, "sizes of the vocabularies");
        check_ids(decoder, ids, ids)?;
        check_ids(right, ids, ids)?;
        let chunk = decoder.max_rows().min(right.max_rows()).max(1);
        for (tokens, start) in ids.chunks(chunk).zip((0u32..).step_by(chunk)) {
            let rows: Vec<Row> =
                (start..).zip(tokens).map(|(position, &token)| Row { token, position, sequence }).collect();
            let got = logits(decoder.step(&rows, Output::AllLogits)?, rows.len() * n_vocab)?;
            let right = logits(right.step(&rows, Output::AllLogits)?, rows.len() * n_vocab)?;
            self.add(got, right, n_vocab);
        }
        Ok(())
    }

    /// The distance; all zero if nothing was added.
    pub fn distance(&self) -> Distance {
        let n = self.positions.max(1) as f64;
        let relative_rms =
            if self.square_error == 0.0 { 0.0 } else { (self.square_error / self.square).sqrt() };
        Distance {
            positions: self.positions,
            relative_rms,
            kl: self.kl / n,
            max_kl: self.max_kl,
            same_top: self.same_top as f64 / n,
        }
    }
}

fn logits(output: StepOutput<'_>, len: usize) -> Result<&[f32], Error> {
    match output {
        StepOutput::Logits(logits) if logits.len() == len => Ok(logits),
        other => Err(other.instead_of("the logits of every row")),
    }
}

/// `sum(p * ln(p / q))` with the softmax of `right` for `p` and that of `got` for `q`.
fn divergence(got: &[f32], right: &[f32]) -> f64 {
    let (got_norm, right_norm) = (log_sum_exp(got), log_sum_exp(right));
    let terms = got.iter().zip(right).map(|(&got, &right)| {
        let (log_q, log_p) = (f64::from(got) - got_norm, f64::from(right) - right_norm);
        log_p.exp() * (log_p - log_q)
    });
    terms.sum()
}

fn log_sum_exp(row: &[f32]) -> f64 {
    let most = f64::from(row.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    most + row.iter().map(|&logit| (f64::from(logit) - most).exp()).sum::<f64>().ln()
}

fn top(row: &[f32]) -> Option<usize> {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::FakeDecoder;

    #[test]
    fn distances_are_those_of_the_definition() {
        // Two positions of two tokens. At the first p = (1/2, 1/2), q = (1/4, 3/4); at the second both are equal.
        let ln3 = 3f32.ln();
        let (got, right) = ([0.0, ln3, 2.0, 1.0], [0.0, 0.0, 2.0, 1.0]);
        let distance = Distance::between(&got, &right, 2);
        let kl = 0.5 * (0.5f64 / 0.25).ln() + 0.5 * (0.5f64 / 0.75).ln();
        assert!((distance.max_kl - kl).abs() < 1e-7, "{distance:?}");
        assert!((distance.kl - kl / 2.0).abs() < 1e-7, "{distance:?}");
        assert!((distance.relative_rms - f64::from(ln3) / 5f64.sqrt()).abs() < 1e-7, "{distance:?}");
        // Of equal logits the last counts as the most likely one, in both.
        assert_eq!((distance.positions, distance.same_top), (2, 1.0));
        assert_eq!(Distance::between(&[1.0, 0.0], &[0.0, 1.0], 2).same_top, 0.0);
    }

    #[test]
    fn what_is_not_a_number_is_no_small_distance() {
        let distance = Distance::between(&[f32::NAN, 0.0, 1.0, 0.0], &[1.0, 0.0, 1.0, 0.0], 2);
        assert!(distance.kl.is_nan() && distance.max_kl.is_nan() && distance.relative_rms.is_nan());
    }

    #[test]
    fn a_text_is_compared_at_every_position_whatever_the_chunks() {
        let mut sums = Sums::default();
        let (mut three, mut four) = (FakeDecoder::new(16, 3), FakeDecoder::new(16, 4));
        sums.add_text(&mut three, &mut four, 0, &[1, 2, 3, 4, 5, 6, 7]).unwrap();
        let distance = sums.distance();
        assert_eq!((distance.positions, distance.kl, distance.relative_rms), (7, 0.0, 0.0));
        assert_eq!(three.steps.len(), 3);
        let refusal = |ids: &[u32]| {
            let mut sums = Sums::default();
            let refused = sums.add_text(&mut FakeDecoder::new(16, 3), &mut FakeDecoder::new(4, 4), 0, ids);
            refused.unwrap_err().to_string()
        };
        assert_eq!(refusal(&[1; 5]), "the prompt has 5 tokens, the context holds 4");
        assert_eq!(refusal(&[1, 999]), "row 1: token 999 is outside the vocabulary of 512");
    }
}
