//! From logits to the next token.

use crate::error::OptionError;
use crate::random::SplitMix64;

/// How the next token is chosen. The default is greedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingOptions {
    /// What logits are divided by; 0 takes the most likely token, and the other options have no effect.
    pub temperature: f32,
    /// Only the most likely `top_k` tokens take part; 0 for all.
    pub top_k: usize,
    /// Only the most likely tokens that together have this probability take part; 1 for all. Taken after `top_k`.
    pub top_p: f32,
    /// Equal seeds, and logits, give equal tokens.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

impl SamplingOptions {
    /// Whether the most likely token is taken, which a device can find out by itself.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0
    }

    /// Checks that the numbers are in range.
    ///
    /// # Errors
    /// The option that is not.
    pub fn check(&self) -> Result<(), OptionError> {
        let out_of_range = |option, value: f32, expected| {
            Err(OptionError::OutOfRange { option, value: value.into(), expected })
        };
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return out_of_range("temperature", self.temperature, "0 or a positive number");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return out_of_range("top_p", self.top_p, "above 0 and at most 1");
        }
        Ok(())
    }
}

/// Chooses tokens of one sequence. Each choice takes one random number, so the choices of a sequence depend on its
/// seed and its own logits alone.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplingOptions,
    random: SplitMix64,
    candidates: Vec<Candidate>,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    token: u32,
    logit: f32,
    /// exp((logit - largest) / temperature): the probability but for a common factor.
    weight: f32,
}

impl Candidate {
    /// Most likely first; of equals, the lower token.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        other.logit.total_cmp(&self.logit).then(self.token.cmp(&other.token))
    }
}

impl Sampler {
    /// A sampler at the start of its seed's sequence.
    ///
    /// # Errors
    /// An option out of range.
    pub fn new(options: SamplingOptions) -> Result<Self, OptionError> {
        options.check()?;
        Ok(Self { options, random: SplitMix64::new(options.seed), candidates: Vec::new() })
    }

    /// The next token, given the logits of all tokens.
    ///
    /// NaN is never chosen, nor is negative infinity. `None` if there is nothing else.
    pub fn sample(&mut self, logits: &[f32]) -> Option<u32> {
        let (best, largest) = argmax(logits)?;
        if self.options.is_greedy() {
            return Some(best);
        }
        let draw = self.random.next_unit();
        // Nothing compares with infinity.
        if largest == f32::INFINITY {
            return Some(best);
        }
        self.fill(logits, largest);
        let restricted = self.restrict_to_top_k() | self.restrict_to_top_p();
        if !restricted {
            // In the order of tokens, so that what is drawn does not hang on how a selection left the others.
            return Some(self.pick(draw).unwrap_or(best));
        }
        self.candidates.sort_unstable_by(Candidate::order);
        Some(self.pick(draw).unwrap_or(best))
    }

    fn fill(&mut self, logits: &[f32], largest: f32) {
        let temperature = self.options.temperature;
        let numbers = logits.iter().enumerate().filter(|(_, logit)| !logit.is_nan());
        self.candidates.clear();
        self.candidates.extend(numbers.map(|(token, &logit)| {
            let weight = ((logit - largest) / temperature).exp();
            Candidate { token: token as u32, logit, weight }
        }));
    }

    fn restrict_to_top_k(&mut self) -> bool {
        let k = self.options.top_k;
        if k == 0 || k >= self.candidates.len() {
            return false;
        }
        self.candidates.select_nth_unstable_by(k - 1, Candidate::order);
        self.candidates.truncate(k);
        true
    }

    /// Keeps the fewest most likely candidates whose weights reach the share `top_p` of all.
    fn restrict_to_top_p(&mut self) -> bool {
        if self.options.top_p >= 1.0 {
            return false;
        }
        let total: f64 = self.candidates.iter().map(|c| f64::from(c.weight)).sum();
        let wanted = total * f64::from(self.options.top_p);
        // A vocabulary is large and the share is usually reached by few: sort ever larger heads until it is.
        let mut head = 64;
        loop {
            let n = self.candidates.len();
            if head < n {
                self.candidates.select_nth_unstable_by(head, Candidate::order);
            }
            let sorted = &mut self.candidates[..head.min(n)];
            sorted.sort_unstable_by(Candidate::order);
            let mut sum = 0.0;
            let reached = sorted.iter().position(|candidate| {
                sum += f64::from(candidate.weight);
                sum >= wanted
            });
            match reached {
                Some(last) => {
                    self.candidates.truncate(last + 1);
                    return true;
                }
                // Rounding alone can leave the share unreached: then all take part.
                None if head >= n => return true,
                None => head *= 8,
            }
        }
    }

    fn pick(&self, draw: f64) -> Option<u32> {
        let total: f64 = self.candidates.iter().map(|c| f64::from(c.weight)).sum();
        let mut left = draw * total;
        for candidate in &self.candidates {
            left -= f64::from(candidate.weight);
            if left < 0.0 {
                return Some(candidate.token);
            }
        }
        None
    }
}

/// The token of the largest logit, and the logit: the lowest among equals, never that of a NaN. `None` if there is no
/// number above negative infinity.
pub fn argmax(logits: &[f32]) -> Option<(u32, f32)> {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(temperature: f32, top_k: usize, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(SamplingOptions { temperature, top_k, top_p, seed }).unwrap()
    }

    /// How often each token is drawn.
    fn counts(sampler: &mut Sampler, logits: &[f32], n: usize) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        for _ in 0..n {
            counts[sampler.sample(logits).unwrap() as usize] += 1;
        }
        counts
    }

    const LOGITS: [f32; 5] = [1.0, 3.0, f32::NAN, 2.0, f32::NEG_INFINITY];

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_never_nan() {
        let mut greedy = sampler(0.0, 0, 1.0, 7);
        assert_eq!(greedy.sample(&[f32::NAN, 1.0, 4.0, 4.0]), Some(2));
        assert_eq!(greedy.sample(&[f32::NAN, f32::NEG_INFINITY]), None);
        assert_eq!(greedy.sample(&[]), None);
        assert_eq!(greedy.sample(&[0.0, f32::INFINITY, f32::INFINITY]), Some(1));
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let n = 20_000;
        for temperature in [0.5, 1.0, 2.0] {
            let counts = counts(&mut sampler(temperature, 0, 1.0, 3), &LOGITS, n);
            let weights = LOGITS.map(|l| if l.is_nan() { 0.0 } else { (l / temperature).exp() });
            let total: f32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(weights) {
                let (found, expected) = (*count as f32 / n as f32, weight / total);
                assert!((found - expected).abs() < 0.015, "{temperature}: {found} {expected}");
            }
        }
    }

    #[test]
    fn top_k_and_top_p_leave_out_the_rest() {
        let k = counts(&mut sampler(1.0, 2, 1.0, 1), &LOGITS, 1000);
        assert!(k[1] > 0 && k[3] > 0 && k[1] + k[3] == 1000, "{k:?}");
        // Probabilities 0.665, 0.245, 0.090: 0.7 takes two, 0.6 one, 0.95 all three.
        let p = |p| counts(&mut sampler(1.0, 0, p, 1), &LOGITS, 1000).iter().filter(|&&n| n > 0).count();
        assert_eq!((p(0.6), p(0.7), p(0.95)), (1, 2, 3));
        // Within the two of top-k, the first alone has 0.73.
        assert_eq!(counts(&mut sampler(1.0, 2, 0.7, 1), &LOGITS, 100)[1], 100);
    }

    #[test]
    fn equal_logits_are_cut_at_the_lower_tokens() {
        let seen = counts(&mut sampler(1.0, 3, 1.0, 2), &[0.0; 1000], 500);
        assert!(seen[..3].iter().all(|&n| n > 0) && seen[3..].iter().all(|&n| n == 0));
        let seen = counts(&mut sampler(1.0, 0, 0.4999, 2), &[0.0; 1000], 5000);
        assert!(seen[500..].iter().all(|&n| n == 0) && seen[400..500].iter().sum::<usize>() > 0);
    }

    #[test]
    fn a_seed_is_a_text() {
        let logits: Vec<f32> = (0..1000).map(|i| ((i * 37) % 101) as f32 / 20.0).collect();
        let draw = |seed, top_k, top_p| {
            let mut sampler = sampler(0.8, top_k, top_p, seed);
            [(); 8].map(|()| sampler.sample(&logits).unwrap())
        };
        assert_eq!(draw(1, 0, 1.0), draw(1, 0, 1.0));
        assert_ne!(draw(1, 0, 1.0), draw(2, 0, 1.0));
        // Recorded: a change here changes what users' seeds mean.
        assert_eq!(draw(42, 0, 1.0), [742, 161, 281, 345, 38, 868, 221, 802]);
        assert_eq!(draw(42, 40, 0.9), [595, 535, 939, 161, 131, 19, 737, 898]);
    }

    #[test]
    fn options_out_of_range_are_named() {
        let message = |temperature, top_p| {
            let options = SamplingOptions { temperature, top_p, ..SamplingOptions::default() };
            Sampler::new(options).unwrap_err().to_string()
        };
        assert_eq!(message(-1.0, 1.0), "temperature is -1, must be 0 or a positive number");
        assert_eq!(message(f32::NAN, 1.0), "temperature is NaN, must be 0 or a positive number");
        assert_eq!(message(1.0, 0.0), "top_p is 0, must be above 0 and at most 1");
        assert_eq!(message(1.0, 1.5), "top_p is 1.5, must be above 0 and at most 1");
    }
}
