//! The kernels that sample, on rows that make a choice hard.

use super::definition::{WEIGHT_ONE, random_bits, share, weight};
use super::params::largest;
use super::{SampleCut, SampleDraw, SampleLargest, SamplingParams};
use crate::Kernel;
use crate::cases::Case;
use crate::random::Random;
use crate::support::{boxed, known};

/// Tokens that the history keeps of each of two sequences.
const HISTORY: [usize; 2] = [2, 40];

/// Seeds whose random bits at the last position of the history begin with 0x7fff_ffff and with 0x8000_0000: of two tokens
/// that weigh 2^31 each, such a draw falls on the last unit of the first, or on the first of the second.
const HALVES: [u64; 2] = [0x2_7a7a_7a70, 0x875b_570d];

/// The kernels of this family that tools iterate over.
pub(super) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let shapes = [(1, 64), (2, 77), (1, 32_000), (8, 128_256), (1, 256_000)];
    let kernels = shapes.into_iter().flat_map(|(rows, n)| {
        let history = if n > 100 { [rows, 8192] } else { HISTORY };
        [
            boxed(SampleLargest::new(rows, n, history)),
            boxed(SampleCut::new(rows, n)),
            boxed(SampleDraw::new(rows, n, history)),
        ]
    });
    kernels.collect()
}

/// A row of logits and what is done with it.
struct Row {
    logits: Vec<f32>,
    params: SamplingParams,
    position: u32,
    since: u32,
}

impl Row {
    fn new(logits: Vec<f32>, params: SamplingParams) -> Self {
        // Positions at the start, in the middle and at the end of the history, and one beyond.
        let position = [0, 7, 23, 38, 39][(params.seed % 5) as usize];
        Self { logits, params, position, since: 0 }
    }
}

/// The rows of a case in memory, and what the three kernels make of them.
struct Memory {
    rows: Vec<Row>,
    sequences: Vec<u32>,
    history: Vec<u32>,
}

impl Memory {
    fn new(rows: Vec<Row>) -> Self {
        let n = rows[0].logits.len() as u32;
        let mut random = Random::new(rows.len() as u64 + u64::from(n));
        let [sequences, positions] = HISTORY;
        // Some tokens several times, some from all over the row, some that are none of it.
        let below = |i: usize| if i.is_multiple_of(2) { n.min(9) + 2 } else { n + 2 };
        // Which NaN a product gives is nobody's business.
        let is_nan =
            |token: u32| rows.iter().any(|row| row.logits.get(token as usize).is_some_and(|x| x.is_nan()));
        let history = (0..sequences * positions)
            .map(|i| random.below(below(i)))
            .map(|token| if is_nan(token) { n } else { token })
            .collect();
        // One sequence is of several rows in a case, which no decoder does, but only one of them writes its history.
        let sequences = (0..rows.len() as u32).map(|row| (row + 1) % 2).collect();
        Self { rows, sequences, history }
    }

    fn words(&self, word: impl Fn(&Row) -> u32) -> Vec<u32> {
        self.rows.iter().map(word).collect()
    }

    fn params(&self) -> Vec<u32> {
        self.rows.iter().flat_map(|row| row.params.words(row.since)).collect()
    }

    fn logits(&self) -> Vec<f32> {
        self.rows.iter().flat_map(|row| row.logits.iter().copied()).collect()
    }

    /// The recent tokens of a row.
    fn recent(&self, index: usize) -> &[u32] {
        let Row { params, position, since, .. } = self.rows[index];
        let end = (position as usize + 1).min(HISTORY[1]);
        let from = (end - (params.recent as usize).min(end)).max(since as usize);
        let first = self.sequences[index] as usize * HISTORY[1];
        &self.history[first + from..first + end]
    }

    fn cases(self, data: &str) -> [Case; 3] {
        let (rows, n) = (self.rows.len(), self.rows[0].logits.len());
        let positions = self.words(|row| row.position);
        let mut penalised = Vec::new();
        let mut largest_words = Vec::new();
        let mut cut = Vec::new();
        let mut tokens = Vec::new();
        let mut history = self.history.clone();
        for (index, row) in self.rows.iter().enumerate() {
            let (logits, words) = SampleLargest::reference(&row.params, &row.logits, self.recent(index));
            cut.extend(SampleCut::reference(&row.params, &logits, f32::from_bits(words[1])));
            let token = row.params.choose(&logits, row.position, &mut Vec::new()).unwrap_or(u32::MAX);
            let next = row.position as usize + 1;
            if next < HISTORY[1] {
                history[self.sequences[index] as usize * HISTORY[1] + next] = token;
            }
            penalised.extend(logits);
            largest_words.extend(words);
            tokens.push(token);
        }
        let first = Case::new(known(SampleLargest::new(rows, n, HISTORY)), data)
            .with_f32("x", &self.logits())
            .with_u32("history", &self.history)
            .with_u32("params", &self.params())
            .with_u32("positions", &positions)
            .with_u32("sequences", &self.sequences)
            .expect_f32_bits("x", &penalised)
            .expect_u32("largest", &largest_words);
        let second = Case::new(known(SampleCut::new(rows, n)), data)
            .with_f32("x", &penalised)
            .with_u32("largest", &largest_words)
            .with_u32("params", &self.params())
            .expect_u32("cut", &cut);
        let third = Case::new(known(SampleDraw::new(rows, n, HISTORY)), data)
            .with_f32("x", &penalised)
            .with_u32("largest", &largest_words)
            .with_u32("params", &self.params())
            .with_u32("cut", &cut)
            .with_u32("positions", &positions)
            .with_u32("sequences", &self.sequences)
            .with_u32("history", &self.history)
            .expect_u32("tokens", &tokens)
            .expect_u32("history", &history);
        [first, second, third]
    }
}

/// The conformance cases of this family.
pub(super) fn cases() -> Vec<Case> {
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    let params = |temperature, top_k, top_p, min_p, seed: u64| SamplingParams {
        seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        ..SamplingParams::new(temperature, top_k, top_p, min_p)
    };
    let penalty = |penalty, recent, params: SamplingParams| SamplingParams { penalty, recent, ..params };
    // Options in all combinations that cut differently.
    let all = [
        params(1.0, 0, 1.0, 0.0, 1),
        params(0.8, 40, 0.95, 0.0, 2),
        params(0.7, 0, 0.9, 0.0, 3),
        params(1.0, 5, 1.0, 0.0, 4),
        params(1.5, 0, 1.0, 0.05, 5),
        params(0.8, 40, 0.9, 0.05, 6),
        penalty(1.3, 20, params(0.8, 50, 0.9, 0.0, 7)),
        penalty(0.5, 3, params(1.0, 0, 0.5, 0.0, 8)),
        penalty(1.1, u32::MAX, params(0.0, 0, 1.0, 0.0, 9)),
        params(0.0, 0, 1.0, 0.0, 10),
        params(1e9, 30, 0.4, 0.0, 11),
        params(1e-9, 0, 0.99, 0.0, 12),
    ];
    let rows = |n: usize, draw: &dyn Fn(&mut Random) -> f32, all: &[SamplingParams]| {
        let mut random = Random::new(n as u64);
        Memory::new(
            all.iter().map(|&params| Row::new((0..n).map(|_| draw(&mut random)).collect(), params)).collect(),
        )
    };
    let uniform = |random: &mut Random| 6.0 * (random.f32s(1)[0] + random.f32s(1)[0]);
    let flat = |random: &mut Random| random.f32s(1)[0] * 0.01;
    let ties = |random: &mut Random| random.below(4) as f32;
    let bad = |random: &mut Random| match random.below(12) {
        0 => f32::NAN,
        1 => f32::NEG_INFINITY,
        2 => -0.0,
        3 => 0.0,
        4 => -f32::MAX,
        5 => 1e-41,
        _ => random.f32s(1)[0],
    };
    let mut cases = Vec::new();
    for n in [1, 3, 64, 77, 1023, 1024, 1025, 3001] {
        let pair = |i: usize| [all[i % all.len()], all[(i + 5) % all.len()]];
        cases.extend(rows(n, &uniform, &pair(n)).cases("uniform"));
        cases.extend(rows(n, &ties, &pair(n / 2 + 3)).cases("ties"));
    }
    for (i, &params) in all.iter().enumerate() {
        cases.extend(rows(2500 + 4 * i, &uniform, &[params]).cases("options"));
        cases.extend(rows(1200 + i, &flat, &[params]).cases("flat"));
        cases.extend(rows(2100 + i, &ties, &[params]).cases("ties"));
        cases.extend(rows(1300 + i, &bad, &[params]).cases("bad"));
    }
    let one = |logits: Vec<f32>, params, data: &str| Memory::new(vec![Row::new(logits, params)]).cases(data);
    let mut peak = vec![-8.0; 2050];
    peak[2048] = 20.0;
    for (i, &params) in all.iter().enumerate() {
        cases.extend(one(vec![0.25; 2052 + i], params, "equal"));
        cases.extend(one([peak.as_slice(), &vec![-9.0; i]].concat(), params, "peak"));
    }
    let edges = [
        (params(1.0, 1, 1.0, 0.0, 21), "top_k_of_1"),
        (params(1.0, 5000, 0.999, 0.0, 22), "top_k_of_more_than_all"),
        (params(1.0, 1500, 0.3, 0.0, 23), "cuts_in_different_bins"),
        (params(1.0, 1500, 0.9999, 0.0, 24), "cuts_in_one_bin"),
        (params(1.0, 0, f32::MIN_POSITIVE, 0.0, 25), "tiny_top_p"),
        (params(1.0, 0, 0.999_999_94, 0.0, 26), "nearly_all_of_top_p"),
        (params(1.0, 0, 1.0, 1.0, 27), "min_p_of_1"),
        (params(3.0, 700, 0.8, 0.3, 28), "all_of_them"),
    ];
    for (i, (params, data)) in edges.into_iter().enumerate() {
        cases.extend(rows(2200 + i, &uniform, &[params]).cases(data));
        cases.extend(rows(2208 + i, &ties, &[params]).cases(data));
    }
    // A row without a number is beside one with some: what nothing writes looks like its token.
    let hot = |logits: Vec<f32>| Row::new(logits, params(1.0, 3, 0.5, 0.0, 31));
    let beside = |logits: Vec<f32>, data: &str| {
        let normal = (0..logits.len()).map(|i| (i % 13) as f32).collect();
        Memory::new(vec![hot(logits), hot(normal)]).cases(data)
    };
    cases.extend(beside(vec![nan; 1500], "all_nan"));
    cases.extend(beside(vec![-inf; 1501], "all_minus_inf"));
    cases.extend(beside((0..1502).map(|i| if i == 1100 { 0.0 } else { nan }).collect(), "one_number"));
    cases.extend(beside((0..1503).map(|i| if i % 700 == 650 { inf } else { 1.0 }).collect(), "inf"));
    cases.extend(beside((0..1504).map(|i| [-0.0, 0.0][i % 2]).collect(), "signed_zeros"));
    cases.extend(beside((0..1505).map(|i| [f32::MAX, -f32::MAX][i % 2]).collect(), "max"));
    // History that begins late.
    let mut late = Row::new(vec![1.0; 40], penalty(2.0, 64, params(1.0, 0, 1.0, 0.0, 4)));
    (late.position, late.since) = (23, 17);
    let mut none = Row::new(vec![1.0; 40], penalty(2.0, 64, params(1.0, 0, 1.0, 0.0, 5)));
    (none.position, none.since) = (11, 12);
    cases.extend(Memory::new(vec![late, none]).cases("since"));
    // Few tokens that weigh anything, and top-k and top-p end in a run of equals before the most likely: a token more or
    // less, of any lane, moves most draws.
    for (values, data) in [([1.0, 0.5], "runs"), ([-1.0, -1.5], "negative_runs")] {
        let row = |i: usize| {
            let logit = |token: usize| match token {
                900 | 901 => values[0],
                _ if (40 + i..46 + i).contains(&token) => values[1],
                _ => -80.0,
            };
            let top_p = if i.is_multiple_of(3) { 0.8 } else { 1.0 };
            let options = params(1.0, 3 + i % 5, top_p, 0.0, 40 + i as u64);
            // The last position: no row writes its history.
            let position = HISTORY[1] as u32 - 1;
            Row { position, ..Row::new((0..1100).map(logit).collect(), options) }
        };
        cases.extend(Memory::new((0..48).map(row).collect()).cases(data));
    }
    cases.extend(exact());
    // Wide rows, as they are.
    cases.extend(rows(128_256, &uniform, &[all[1]]).cases("wide"));
    cases.extend(rows(50_257, &uniform, &[all[2]]).cases("wide"));
    cases.extend(rows(32_000, &flat, &[all[5]]).cases("wide"));
    // As many slices as there can be, each warp's with another sum.
    cases.extend(Memory::new(vec![spread(1 << 18, 1 << 15, HALVES[1])]).cases("widest"));
    // A draw that falls on the first and on the last of two.
    for (seed, data) in [(0, "first"), (1, "last")] {
        let seed = (0..).find(|&s| random_bits(s, 0) >> 63 == seed).expect("every other seed");
        let row = Row {
            position: 0,
            ..Row::new(vec![1.0, 1.0], SamplingParams { seed, ..params(1.0, 0, 1.0, 0.0, 0) })
        };
        debug_assert!(largest(&row.logits).is_some());
        cases.extend(Memory::new(vec![row]).cases(data));
    }
    cases
}

/// Rows in which a sum that is off by one unit, or a cut that is off by one token, changes what is drawn.
fn exact() -> Vec<Case> {
    let plain = SamplingParams::new(1.0, 0, 1.0, 0.0);
    // Two tokens that weigh the same: of a thread, of a warp, of several warps, of two slices; and a third that is cut.
    let places =
        [[0, 1], [1024, 1025], [2, 40], [127, 128], [5, 1023], [1000, 1060], [640, 1027], [1027, 1090]];
    let half = 1 << 63;
    let options = [
        plain,
        SamplingParams { top_k: 2, ..plain },
        SamplingParams { top_p: half, ..plain },
        SamplingParams { top_p: half - 1, ..plain },
        SamplingParams { top_k: 2, top_p: half, ..plain },
        SamplingParams { top_k: 2, top_p: half - 1, ..plain },
        SamplingParams { least: WEIGHT_ONE, ..plain },
    ];
    let halves = (0..places.len() * options.len()).map(|i| {
        let (place, params) = (places[i % places.len()], options[i / places.len()]);
        let logit = |token: usize| match token {
            1099 if params.top_k == 2 => 1.0,
            _ if place.contains(&token) => 1.0,
            _ => -80.0,
        };
        last((0..1100).map(logit).collect(), params, HALVES[(i + i / places.len()) % 2])
    });
    // Tokens of different bins whose ranks begin alike.
    let close = (0..16usize).map(|i| {
        let logit = |token: usize| match (token + 31 * i) % 90 {
            place @ 0..12 if token < 90 => 1.585 + 0.035 * place as f32,
            _ => -80.0,
        };
        let (top_k, top_p) =
            if i.is_multiple_of(2) { (1 + i / 2, 1.0) } else { (0, 0.1 * (1 + i / 2) as f32) };
        last((0..1100).map(logit).collect(), SamplingParams::new(1.0, top_k, top_p, 0.0), i as u64)
    });
    let narrow = (0..16).map(|i| spread(1100, 1 << (i / 2), HALVES[i % 2]));
    let wide = [1024, 2048, 4096].map(|stride| spread(32_768, stride, HALVES[1]));
    // A token that weighs a little less than the next, and a draw at the border: by the thread's token.
    let border = (0..48u64).map(|i| {
        let seed = (1000 * i..).find(|&seed| (0x72..0x7e).contains(&(random_bits(seed, LAST) >> 56)));
        let seed = seed.expect("one seed in twenty");
        let random = random_bits(seed, LAST);
        let falls_on_first = |logit: f32| {
            let first = u64::from(weight(logit, 0.0, 1.0));
            share(first + (1 << 31), random) < first
        };
        // The bits of a negative number grow as it becomes less.
        let (mut on, mut off) = ((-0.0f32).to_bits(), (-2.0f32).to_bits());
        while off - on > 1 {
            let middle = on + (off - on) / 2;
            if falls_on_first(f32::from_bits(middle)) { on = middle } else { off = middle }
        }
        let logit = f32::from_bits(if i.is_multiple_of(2) { on } else { off });
        let (first, next) = (500 + (i / 2 % 4) as usize, 600 + (i / 8 % 4) as usize);
        let logits = |token: usize| {
            [logit, 0.0, -70.0][usize::from(token != first) + usize::from(token != first && token != next)]
        };
        let top_k = if i < 24 { u32::MAX } else { 2 };
        last((0..1100).map(logits).collect(), SamplingParams { scale: 1.0, top_k, ..plain }, seed)
    });
    // The last token of a row, in a row that is read token by token.
    let ends = [1025, 1026, 1027].map(|n| {
        let logits = (0..n).map(|token| if token + 1 == n { 1.0 } else { -80.0 });
        Memory::new(vec![last(logits.collect(), plain, 1)]).cases("end")
    });
    let rows = [
        (halves.collect(), "halves"),
        (close.collect(), "close"),
        (narrow.collect(), "spread"),
        (wide.into(), "spread"),
        (border.collect(), "border"),
    ];
    let cases = rows.into_iter().map(|(rows, data): (Vec<Row>, _)| Memory::new(rows).cases(data));
    cases.chain(ends).flatten().collect()
}

/// The last position of the history, after which nothing is written to it.
const LAST: u32 = HISTORY[1] as u32 - 1;

/// A row at the last position.
fn last(logits: Vec<f32>, params: SamplingParams, seed: u64) -> Row {
    Row { position: LAST, ..Row::new(logits, SamplingParams { seed, ..params }) }
}

/// A row of `n` tokens, eight of which weigh something, `stride` apart: the last as much as the others together, and of
/// them each half of the one before, if it can.
fn spread(n: usize, stride: usize, seed: u64) -> Row {
    let exponent = |token: usize| match token / stride {
        7 => 0.0,
        6 => -6.0,
        place @ 0..6 => -1.0 - place as f32,
        _ => -70.0,
    };
    let logits = (0..n).map(|token| if token.is_multiple_of(stride) { exponent(token) } else { -70.0 });
    last(logits.collect(), SamplingParams { scale: 1.0, ..SamplingParams::new(1.0, 0, 1.0, 0.0) }, seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_are_the_two_sides_of_a_half() {
        let bits = HALVES.map(|seed| random_bits(seed, LAST) >> 32);
        assert_eq!(bits, [0x7fff_ffff, 0x8000_0000]);
    }
}
