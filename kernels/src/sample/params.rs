//! How the token of a row is chosen, and the choice itself as the host makes it.

use super::definition::{WEIGHT_ONE, exponent_scale, key, penalised, random_bits, share, weight};

/// How a token is chosen, in the numbers that the choice is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingParams {
    /// What distances of logits are multiplied by to become exponents of 2; infinity takes the most likely token.
    pub scale: f32,
    /// Tokens that take part at most, the most likely ones; not 0.
    pub top_k: u32,
    /// The least weight that takes part; not 0.
    pub least: u32,
    /// The share of all weights, in units of 2^-64, that the most likely tokens have to exceed to be the only ones that
    /// take part. The largest number is for all.
    pub top_p: u64,
    /// What the logits of recent tokens are [penalised](penalised) by.
    pub penalty: f32,
    /// How many tokens are recent.
    pub recent: u32,
    /// Of the random numbers.
    pub seed: u64,
}

impl SamplingParams {
    /// Words of the parameters of a row in device memory.
    pub const WORDS: usize = 12;

    /// The most likely token.
    pub const GREEDY: Self = Self {
        scale: f32::INFINITY,
        top_k: u32::MAX,
        least: 1,
        top_p: u64::MAX,
        penalty: 1.0,
        recent: 0,
        seed: 0,
    };

    /// The parameters for a `temperature` of at least 0, `top_k` or 0, `top_p` above 0 and up to 1, `min_p` from 0 to 1.
    pub fn new(temperature: f32, top_k: usize, top_p: f32, min_p: f32) -> Self {
        Self {
            // Times a distance of 0 it is not a number, so that nothing weighs anything.
            scale: if temperature == 0.0 { f32::INFINITY } else { exponent_scale(temperature) },
            top_k: match u32::try_from(top_k) {
                Ok(0) | Err(_) => u32::MAX,
                Ok(k) => k,
            },
            least: ((f64::from(min_p) * f64::from(WEIGHT_ONE)).ceil() as u32).max(1),
            // Exact: an f32 has 24 bits. 1 saturates.
            top_p: (f64::from(top_p) * 2f64.powi(64)) as u64,
            ..Self::GREEDY
        }
    }

    /// As kernels read them: scale, top-k, least weight, penalty, number of recent tokens, the first position whose
    /// token can be recent, then top-p and seed, each with the low half first, and two zeros.
    pub const fn words(&self, since: u32) -> [u32; Self::WORDS] {
        let Self { scale, top_k, least, top_p, penalty, recent, seed } = *self;
        let [top_p, seed] = [[top_p as u32, (top_p >> 32) as u32], [seed as u32, (seed >> 32) as u32]];
        let [scale, penalty] = [scale.to_bits(), penalty.to_bits()];
        [scale, top_k, least, penalty, recent, since, top_p[0], top_p[1], seed[0], seed[1], 0, 0]
    }

    /// Penalises the logits of the `recent` tokens, each once, however often it is there.
    pub fn penalise(
        &self,
        logits: &[f32],
        recent: impl Iterator<Item = u32>,
        penalised_logits: &mut Vec<f32>,
    ) {
        penalised_logits.clear();
        penalised_logits.extend_from_slice(logits);
        for token in recent {
            let token = token as usize;
            if let (Some(own), Some(&logit)) = (penalised_logits.get_mut(token), logits.get(token)) {
                *own = penalised(logit, self.penalty);
            }
        }
    }

    /// The token at `position`, given logits that are penalised already. `candidates` is memory to work in.
    ///
    /// NaN is never chosen, nor is negative infinity. `None` if there is nothing else.
    pub fn choose(&self, logits: &[f32], position: u32, candidates: &mut Vec<Candidate>) -> Option<u32> {
        let (best, largest) = largest(logits)?;
        if self.scale == f32::INFINITY {
            return Some(best);
        }
        let numbers = (0..).zip(logits).filter(|(_, logit)| !logit.is_nan());
        candidates.clear();
        candidates.extend(numbers.map(|(token, &logit)| {
            let weight = weight(logit, largest, self.scale);
            Candidate { token, key: key(logit), weight }
        }));
        let top_k = self.top_k as usize;
        if top_k < candidates.len() {
            candidates.select_nth_unstable_by(top_k - 1, Candidate::order);
            candidates.truncate(top_k);
        }
        // What weighs nothing is never drawn, and adds nothing to a sum.
        candidates.retain(|candidate| candidate.weight >= self.least);
        if self.top_p < u64::MAX {
            restrict(candidates, self.top_p);
        }
        candidates.sort_unstable_by_key(|candidate| candidate.token);
        let drawn = share(total(candidates), random_bits(self.seed, position));
        let mut sum = 0;
        let picked = candidates.iter().find(|candidate| {
            sum += u64::from(candidate.weight);
            sum > drawn
        });
        // Beside infinity everything weighs nothing.
        Some(picked.map_or(best, |candidate| candidate.token))
    }
}

/// A token that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The token.
    pub token: u32,
    /// The [`key`] of its logit.
    pub key: u32,
    /// The [`weight`] of its logit.
    pub weight: u32,
}

impl Candidate {
    /// Most likely first; of equals, the lower token.
    pub fn order(&self, other: &Self) -> std::cmp::Ordering {
        other.key.cmp(&self.key).then(self.token.cmp(&other.token))
    }
}

/// The token of the largest logit, and the logit: the lowest among equals, never that of a NaN. `None` if there is no
/// number above negative infinity.
pub fn largest(logits: &[f32]) -> Option<(u32, f32)> {
    let mut best = None;
    let mut largest = f32::NEG_INFINITY;
    for (token, &logit) in logits.iter().enumerate() {
        if logit > largest {
            largest = logit;
            best = Some(token as u32);
        }
    }
    best.map(|token| (token, largest))
}

fn total(candidates: &[Candidate]) -> u64 {
    candidates.iter().map(|candidate| u64::from(candidate.weight)).sum()
}

/// Keeps the fewest most likely candidates whose weights exceed the share `top_p` of all, rounded down.
fn restrict(candidates: &mut Vec<Candidate>, top_p: u64) {
    let wanted = share(total(candidates), top_p);
    // A vocabulary is large and the share is usually reached by few: sort ever larger heads until it is.
    let (mut head, mut sorted, mut sum) = (64, 0, 0);
    loop {
        let n = candidates.len();
        let end = n.min(head);
        let rest = &mut candidates[sorted..];
        if end < n {
            rest.select_nth_unstable_by(end - sorted, Candidate::order);
        }
        rest[..end - sorted].sort_unstable_by(Candidate::order);
        let reached = rest[..end - sorted].iter().position(|candidate| {
            sum += u64::from(candidate.weight);
            sum > wanted
        });
        match reached {
            Some(last) => return candidates.truncate(sorted + last + 1),
            None if end == n => return,
            None => (sorted, head) = (end, head * 8),
        }
    }
}
