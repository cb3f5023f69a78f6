//! From logits to the next token.
//!
//! [`kernels::sample::definition`] says how logits become weights and how a draw is made, in operations that every
//! machine rounds alike, and [`SamplingParams`] what is done with them, in integers. So the same logits, seed and position
//! give the same token everywhere.

use std::collections::VecDeque;

use kernels::sample::{Candidate, SamplingParams};

use crate::error::OptionError;

/// How the next token is chosen. The default is greedy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingOptions {
    /// What logits are divided by, after the penalty and before the other choices, whose probabilities are those at this
    /// temperature; 0 takes the most likely token, and only the penalty has an effect besides.
    pub temperature: f32,
    /// Only the most likely `top_k` tokens take part; 0 for all.
    pub top_k: usize,
    /// Of those that `top_k` and `min_p` leave, only the most likely that together have this share of their probability
    /// take part; 1 for all.
    pub top_p: f32,
    /// Only tokens at least this many times as likely as the most likely one take part; 0 for all.
    pub min_p: f32,
    /// What the logits of tokens that came lately are divided by if they are positive, and multiplied by if not; 1 leaves
    /// them alone.
    pub repetition_penalty: f32,
    /// How many tokens, of the prompt too, have come lately.
    pub repeat_last_n: usize,
    /// Equal seeds, and logits, give equal tokens.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            repeat_last_n: 64,
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// Whether the most likely token is taken, which a device can find out by itself.
    pub fn is_greedy(&self) -> bool {
        self.temperature == 0.0 && !self.penalises()
    }

    fn penalises(&self) -> bool {
        self.repetition_penalty != 1.0 && self.repeat_last_n > 0
    }

    /// The options as numbers that a choice is made of. Without a penalty no token is recent.
    fn params(&self) -> SamplingParams {
        let recent = u32::try_from(self.repeat_last_n).unwrap_or(u32::MAX);
        SamplingParams {
            penalty: self.repetition_penalty,
            recent: if self.penalises() { recent } else { 0 },
            seed: self.seed,
            ..SamplingParams::new(self.temperature, self.top_k, self.top_p, self.min_p)
        }
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
        if !(self.min_p >= 0.0 && self.min_p <= 1.0) {
            return out_of_range("min_p", self.min_p, "from 0 to 1");
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return out_of_range("repetition_penalty", self.repetition_penalty, "a positive number");
        }
        Ok(())
    }
}

/// By what the next token of a sequence is chosen, besides its logits and its position.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub(crate) params: SamplingParams,
    /// The tokens that came lately, if they matter.
    pub(crate) recent: VecDeque<u32>,
}

impl Rule {
    pub(crate) fn accept(&mut self, tokens: &[u32]) {
        let n = self.params.recent as usize;
        if n > 0 {
            self.recent.extend(&tokens[tokens.len().saturating_sub(n)..]);
            self.recent.drain(..self.recent.len().saturating_sub(n));
        }
    }
}

/// Chooses tokens of one sequence. A choice depends on options, logits, position and the tokens that came lately, and on
/// nothing else.
#[derive(Debug, Clone)]
pub struct Sampler {
    rule: Rule,
    logits: Vec<f32>,
    candidates: Vec<Candidate>,
}

impl Sampler {
    /// A sampler of a sequence without tokens.
    ///
    /// # Errors
    /// An option out of range.
    pub fn new(options: SamplingOptions) -> Result<Self, OptionError> {
        options.check()?;
        let rule = Rule { params: options.params(), recent: VecDeque::new() };
        Ok(Self { rule, logits: Vec::new(), candidates: Vec::new() })
    }

    /// Notes that the sequence goes on with `tokens`, those of the prompt among them.
    pub fn accept(&mut self, tokens: &[u32]) {
        self.rule.accept(tokens);
    }

    pub(crate) const fn rule(&self) -> &Rule {
        &self.rule
    }

    /// The next token, given the logits of all tokens at `position`. It is not [accepted](Self::accept) by that.
    ///
    /// NaN is never chosen, nor is negative infinity. `None` if there is nothing else.
    pub fn sample(&mut self, logits: &[f32], position: u32) -> Option<u32> {
        let Rule { params, recent } = &self.rule;
        let logits = if params.recent > 0 {
            params.penalise(logits, recent.iter().copied(), &mut self.logits);
            &self.logits
        } else {
            logits
        };
        params.choose(logits, position, &mut self.candidates)
    }
}

#[cfg(test)]
mod tests {
    use kernels::sample::definition::{WEIGHT_ONE, exponent_scale, key, random_bits, share, weight};
    use kernels::sample::largest;
    use proptest::prelude::*;

    use super::*;

    fn options(temperature: f32, top_k: usize, top_p: f32, seed: u64) -> SamplingOptions {
        SamplingOptions { temperature, top_k, top_p, seed, ..SamplingOptions::default() }
    }

    fn sampler(temperature: f32, top_k: usize, top_p: f32, seed: u64) -> Sampler {
        Sampler::new(options(temperature, top_k, top_p, seed)).unwrap()
    }

    /// How often each token is drawn at `n` positions.
    fn counts(sampler: &mut Sampler, logits: &[f32], n: u32) -> Vec<usize> {
        let mut counts = vec![0; logits.len()];
        for position in 0..n {
            counts[sampler.sample(logits, position).unwrap() as usize] += 1;
        }
        counts
    }

    const LOGITS: [f32; 5] = [1.0, 3.0, f32::NAN, 2.0, f32::NEG_INFINITY];

    #[test]
    fn greedy_takes_the_first_of_the_largest_and_never_nan() {
        let mut greedy = sampler(0.0, 0, 1.0, 7);
        assert_eq!(greedy.sample(&[f32::NAN, 1.0, 4.0, 4.0], 0), Some(2));
        assert_eq!(greedy.sample(&[f32::NAN, f32::NEG_INFINITY], 0), None);
        assert_eq!(greedy.sample(&[], 0), None);
        assert_eq!(greedy.sample(&[0.0, f32::INFINITY, f32::INFINITY], 0), Some(1));
        let mut hot = sampler(1.0, 3, 0.5, 7);
        assert_eq!(hot.sample(&[0.0, f32::INFINITY, f32::INFINITY], 3), Some(1));
        assert_eq!(hot.sample(&[f32::NAN, f32::NEG_INFINITY], 3), None);
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
    fn min_p_leaves_out_what_is_much_less_likely_than_the_most_likely() {
        let seen = |min_p| {
            let mut sampler = Sampler::new(SamplingOptions { min_p, ..options(1.0, 0, 1.0, 1) }).unwrap();
            counts(&mut sampler, &LOGITS, 1000).iter().filter(|&&n| n > 0).count()
        };
        // Relative to the most likely, e^-1 and e^-2: 0.368 and 0.135.
        assert_eq!([seen(0.0), seen(0.13), seen(0.14), seen(0.37), seen(1.0)], [3, 3, 2, 1, 1]);
    }

    #[test]
    fn what_came_lately_is_less_likely_for_a_while() {
        let penalty =
            SamplingOptions { repetition_penalty: 2.0, repeat_last_n: 2, ..options(0.0, 0, 1.0, 0) };
        assert!(!penalty.is_greedy());
        let mut sampler = Sampler::new(penalty).unwrap();
        let logits = [3.0, 2.5, -1.0, -1.5];
        sampler.accept(&[0, 0]);
        assert_eq!(sampler.sample(&logits, 0), Some(1), "3 / 2, once however often it came");
        sampler.accept(&[3, 1]);
        assert_eq!(sampler.sample(&logits, 1), Some(0), "forgotten");
        let negative = [-3.0, -1.0, -1.5];
        sampler.accept(&[9, 1]);
        assert_eq!(sampler.sample(&negative, 2), Some(2), "-1 * 2; token 9 is none of these");
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
            [0, 1, 2, 3, 4, 5, 6, 7].map(|position| sampler.sample(&logits, position).unwrap())
        };
        assert_eq!(draw(1, 0, 1.0), draw(1, 0, 1.0));
        assert_ne!(draw(1, 0, 1.0), draw(2, 0, 1.0));
        // Recorded: a change here changes what users' seeds mean.
        assert_eq!(draw(42, 0, 1.0), RECORDED);
        assert_eq!(draw(42, 40, 0.9), RECORDED_RESTRICTED);
    }

    #[test]
    fn options_out_of_range_are_named() {
        let message = |options: SamplingOptions| Sampler::new(options).unwrap_err().to_string();
        let fine = options(1.0, 0, 1.0, 0);
        assert_eq!(message(options(-1.0, 0, 1.0, 0)), "temperature is -1, must be 0 or a positive number");
        assert_eq!(
            message(options(f32::NAN, 0, 1.0, 0)),
            "temperature is NaN, must be 0 or a positive number"
        );
        assert_eq!(message(options(1.0, 0, 0.0, 0)), "top_p is 0, must be above 0 and at most 1");
        assert_eq!(message(options(1.0, 0, 1.5, 0)), "top_p is 1.5, must be above 0 and at most 1");
        assert_eq!(message(SamplingOptions { min_p: -0.5, ..fine }), "min_p is -0.5, must be from 0 to 1");
        let penalty = SamplingOptions { repetition_penalty: 0.0, ..fine };
        assert_eq!(message(penalty), "repetition_penalty is 0, must be a positive number");
    }

    /// The definition, without selection or shortcuts: everything is sorted.
    fn by_sorting(options: &SamplingOptions, logits: &[f32], position: u32) -> Option<u32> {
        let (best, largest) = largest(logits)?;
        let scale = exponent_scale(options.temperature);
        let mut kept: Vec<Candidate> = (0..)
            .zip(logits)
            .filter(|(_, logit)| !logit.is_nan())
            .map(|(token, &logit)| Candidate {
                token,
                key: key(logit),
                weight: weight(logit, largest, scale),
            })
            .collect();
        kept.sort_by(Candidate::order);
        if options.top_k > 0 {
            kept.truncate(options.top_k);
        }
        let least = f64::from(options.min_p) * f64::from(WEIGHT_ONE);
        kept.retain(|candidate| f64::from(candidate.weight) >= least);
        let total = |kept: &[Candidate]| kept.iter().map(|c| u64::from(c.weight)).sum::<u64>();
        if options.top_p < 1.0 {
            let wanted = share(total(&kept), (f64::from(options.top_p) * 2f64.powi(64)) as u64);
            let fewest = (0..=kept.len()).find(|&n| total(&kept[..n]) > wanted);
            kept.truncate(fewest.unwrap_or(kept.len()));
        }
        kept.sort_by_key(|candidate| candidate.token);
        let drawn = share(total(&kept), random_bits(options.seed, position));
        let picked = (0..kept.len()).find(|&n| total(&kept[..=n]) > drawn);
        Some(picked.map_or(best, |n| kept[n].token))
    }

    fn logit() -> impl Strategy<Value = f32> {
        prop_oneof![
            10 => -20f32..20.0,
            // Ties.
            4 => (-3i8..4).prop_map(f32::from),
            1 => prop_oneof![Just(f32::NAN), Just(f32::INFINITY), Just(f32::NEG_INFINITY), Just(-0.0), Just(f32::MAX)],
        ]
    }

    proptest! {
        #[test]
        fn choices_are_those_of_the_definition(
            logits in proptest::collection::vec(logit(), 1..700),
            temperature in prop_oneof![Just(1.0f32), 0.05f32..4.0],
            top_k in prop_oneof![Just(0usize), 1usize..40, 1usize..800],
            top_p in prop_oneof![Just(1.0f32), 0.01f32..1.0],
            min_p in prop_oneof![Just(0.0f32), 0.0f32..1.0],
            seed: u64,
            position: u32,
        ) {
            let options = SamplingOptions { min_p, ..options(temperature, top_k, top_p, seed) };
            let found = Sampler::new(options).unwrap().sample(&logits, position);
            prop_assert_eq!(found, by_sorting(&options, &logits, position));
        }
    }

    const RECORDED: [u32; 8] = [469, 330, 660, 671, 838, 292, 745, 412];
    const RECORDED_RESTRICTED: [u32; 8] = [434, 292, 595, 636, 838, 262, 696, 363];
}
