//! Attention on tensor cores: scores and weighted values of sixteen positions of a warp at a time.
//!
//! Every operand comes from global memory as the instruction wants it, without shared memory or shuffles, because both
//! products may take features and positions in any order. In `scores = queries * keys`, lane `4 g + t` has eight
//! consecutive features of position `g`, and the queries are laid out to match. The sums then are scores of head `g` at
//! positions `2 t` and `2 t + 1`, and so are weights as the second product wants them: in
//! `features = values * weights`, the lane has eight consecutive features of those positions.
//!
//! What is not f16 already is the sum of two f16 that together hold 22 bits: queries take both halves of the sixteen rows
//! of a fragment, the upper and the lower part of eight heads, and weights take a product for each part. Beside a cache of
//! bfloat16 it is the sum of three, of which the third of the queries takes a product of its own.

mod heads;
pub(super) mod operands;
pub(super) mod ring;
mod rows;

use ptx_builder::{B32, F32, KernelBuilder, Pred, Reg, U32, U64};

use self::heads::Heads;
use self::operands::{Features, Fragment, Queries};
use self::ring::Ring;
use self::rows::Rows;
use super::Attention;
use super::emit::Sources;
use super::results::Results;
use super::splits::Positions;
use crate::emit::{self, LOG2_E};
use crate::factor::Factor;
use crate::support::WARP;

/// How heads and features are spread over the lanes of a warp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MatrixPlan {
    /// Query heads of a block.
    pub heads: u32,
    head_dim: u32,
    factor: Factor,
}

impl MatrixPlan {
    /// Warps of a block.
    pub const WARPS: u32 = 8;
    /// Positions of a warp's step.
    const TILE: u32 = 16;
    /// Positions of a block's step.
    const STEP: u32 = Self::WARPS * Self::TILE;
    /// Features of a lane's load.
    const PIECE: u32 = 8;
    /// Features of a position's keys that four lanes load together.
    const KEY_ROUND: u32 = 4 * Self::PIECE;
    /// Features of a position's values that eight lanes load together.
    const VALUE_ROUND: u32 = 8 * Self::PIECE;
    /// Heads of a fragment.
    const MAX_HEADS: u32 = 8;
    /// Features of all heads of a block together: as many as the threads can write out with one 16-byte store each.
    const MAX_FEATURES: u32 = Self::WARPS * WARP * 4;
    /// Bytes of shared memory that a kernel can declare.
    const MAX_SHARED: u32 = 48 << 10;

    /// The plan for groups of `group` query heads of `head_dim` features, a multiple of 8.
    pub fn new(group: u32, head_dim: u32, factor: Factor) -> Self {
        let most = (Self::MAX_FEATURES / head_dim).min(Self::MAX_HEADS);
        let plans = (1..=most).rev().map(|heads| Self { heads, head_dim, factor });
        let mut fit = plans.filter(|plan| plan.feature_bytes() + plan.shared_bytes() <= Self::MAX_SHARED);
        fit.find(|plan| group.is_multiple_of(plan.heads)).unwrap_or(Self { heads: 1, head_dim, factor })
    }

    const fn key_rounds(self) -> u32 {
        self.head_dim.div_ceil(Self::KEY_ROUND)
    }

    /// Fragments of the queries, two a round.
    const fn fragments(self) -> u32 {
        2 * self.key_rounds()
    }

    /// Bytes of shared memory for the queries: of each fragment two words of every lane and part.
    pub const fn query_bytes(self) -> u32 {
        self.fragments() * self.factor.parts() * WARP * 8
    }

    /// Bytes of the features that the warps leave.
    pub const fn feature_bytes(self) -> u32 {
        Self::WARPS * self.heads * self.head_stride() * 4
    }

    /// Bytes of shared memory beside these and rings: those of the queries, and a maximum and a sum of each head of a warp.
    pub const fn shared_bytes(self) -> u32 {
        Self::WARPS * self.heads * 2 * 4 + self.query_bytes()
    }

    const fn value_rounds(self) -> u32 {
        self.head_dim.div_ceil(Self::VALUE_ROUND)
    }

    /// Floats from one head to the next: whole rounds, and four, so that lanes that store different heads together
    /// use different banks of shared memory.
    pub const fn head_stride(self) -> u32 {
        self.value_rounds() * Self::VALUE_ROUND + 4
    }

    /// Where features `4 * within..` of a head are in shared memory, in groups of four: of each round the first halves of
    /// the lanes' features, then the second.
    pub fn group_of(self, k: &mut KernelBuilder, within: Reg<U32>) -> Reg<U32> {
        let round = k.and(within, !15u32);
        let half = k.and(within, 1);
        let lane = k.bfe::<U32>(within, 1, 3);
        let half = k.mad(half, 8, round);
        k.add(half, lane)
    }
}

/// A warp at work.
#[derive(Debug)]
pub(super) struct Matrix {
    plan: MatrixPlan,
    warp: Reg<U32>,
    /// The lane's row of a fragment, `g`.
    row: Reg<U32>,
    /// The first of the lane's columns, `2 t`.
    column: Reg<U32>,
    queries: Queries,
    ring: Option<Ring>,
    /// The lane's first feature of position 0.
    keys: Reg<U64>,
    values: Reg<U64>,
    /// Whether the lane's features of the last round exist, if they do not in all lanes.
    has_last_key: Option<Pred>,
    has_last_value: Option<Pred>,
}

impl Matrix {
    pub fn new(
        k: &mut KernelBuilder,
        kernel: &Attention,
        plan: MatrixPlan,
        thread: Reg<U32>,
        sources: Sources,
    ) -> Self {
        let (warp, lane) = (k.shr(thread, 5), k.and(thread, WARP - 1));
        let (row, of_four) = (k.shr(lane, 2), k.and(lane, 3));
        let column = k.shl(of_four, 1);
        let piece_bytes = MatrixPlan::PIECE * kernel.cache.stored.bytes();
        // The last round may lie beyond the head in some lanes.
        let last = |k: &mut KernelBuilder, rounds: u32, round: u32, lane: Reg<U32>| {
            let left = plan.head_dim - (rounds - 1) * round;
            (left < round).then(|| k.lt(lane, left / MatrixPlan::PIECE))
        };
        Self {
            plan,
            warp,
            row,
            column,
            keys: k.ptr_index(sources.keys, of_four, piece_bytes),
            values: k.ptr_index(sources.values, row, piece_bytes),
            has_last_key: last(k, plan.key_rounds(), MatrixPlan::KEY_ROUND, of_four),
            has_last_value: last(k, plan.value_rounds(), MatrixPlan::VALUE_ROUND, row),
            queries: Queries::new(k, plan, warp, lane, sources.q),
            ring: kernel.slots().map(|slots| Ring::new(k, kernel, slots, (warp, lane), sources)),
        }
    }

    /// The first of the warp's positions.
    fn start(&self, k: &mut KernelBuilder, first: Option<Reg<U32>>) -> Reg<U32> {
        let start = k.mul(self.warp, MatrixPlan::TILE);
        match first {
            Some(first) => k.add(first, start),
            None => start,
        }
    }

    /// Emits the copies of the warp's first steps, if there is a ring, and lets the next kernel begin when none are left.
    pub fn begin(&self, k: &mut KernelBuilder, Positions { first, end }: Positions) {
        let Some(ring) = &self.ring else { return emit::let_next_begin(k) };
        let (start, last) = (self.start(k, first), k.sub(end, 1));
        ring.begin(k, (start, end, last));
    }

    /// Loads the queries that the warp lays out.
    pub fn load_queries(&self, k: &mut KernelBuilder) -> Features {
        self.queries.load(k, self.row)
    }

    /// Lays them out.
    pub fn lay_out(&self, k: &mut KernelBuilder, queries: Features) {
        self.queries.lay_out(k, queries);
    }

    /// The online softmax over this warp's positions, and what it knows then. While a warp computes, the positions of its
    /// next step are on their way.
    pub fn attend(&self, k: &mut KernelBuilder, kernel: &Attention, positions: Positions, results: Results) {
        let Positions { first, end } = positions;
        let start = self.start(k, first);
        let stored = kernel.cache.stored;
        let keys = Rows::new(k, stored, 2, self.plan.key_rounds());
        let values = Rows::new(k, stored, 4, self.plan.value_rounds());
        let last = k.sub(end, 1);
        if self.ring.is_none() {
            let any = k.lt(start, end);
            k.if_(any, |k| {
                self.load_keys(k, kernel, &keys, start, last);
                self.load_values(k, kernel, &values, start, last);
            });
        }
        k.barrier();
        // With rings, registers have room for the queries.
        let queries = self.ring.as_ref().map(|_| self.queries.fragments(k));
        let heads = Heads::new(k, self.plan);
        // The loop is the same for all lanes of a warp. An end is at most 2^31, so that adding steps does not wrap.
        k.for_range(start, end, MatrixPlan::STEP, |k, base| {
            if let Some(ring) = &self.ring {
                let slot = ring.arrived(k);
                let (key_rows, value_rows) = ring.rows(k, slot);
                keys.read(k, &key_rows, MatrixPlan::KEY_ROUND, self.has_last_key);
                let scores = self.scores(k, kernel, queries.as_deref(), &keys);
                let weights = self.weights(k, scores, &heads, (base, end));
                values.read(k, &value_rows, MatrixPlan::VALUE_ROUND, self.has_last_value);
                self.add_values(k, &values, &heads, &weights);
                ring.next(k, slot, (base, end, last));
            } else {
                let next = k.add(base, MatrixPlan::STEP);
                let more = k.lt(next, end);
                let scores = self.scores(k, kernel, None, &keys);
                k.if_(more, |k| self.load_keys(k, kernel, &keys, next, last));
                let weights = self.weights(k, scores, &heads, (base, end));
                self.add_values(k, &values, &heads, &weights);
                k.if_(more, |k| self.load_values(k, kernel, &values, next, last));
            }
        });
        k.comment("what the warp knows");
        self.leave(k, kernel, &heads, results);
    }

    /// Loads the keys of positions `base + g` and `base + 8 + g`; beyond the end the last, whose weight is 0 then.
    fn load_keys(
        &self,
        k: &mut KernelBuilder,
        kernel: &Attention,
        keys: &Rows,
        base: Reg<U32>,
        last: Reg<U32>,
    ) {
        let first = k.add(base, self.row);
        let second = k.add(first, 8);
        let rows = [first, second].map(|position| self.cached(k, kernel, self.keys, position, last));
        keys.load(k, &rows, MatrixPlan::KEY_ROUND, self.has_last_key);
    }

    /// Loads the values of positions `2 t`, `2 t + 1`, `2 t + 8` and `2 t + 9` from `base` on.
    fn load_values(
        &self,
        k: &mut KernelBuilder,
        kernel: &Attention,
        values: &Rows,
        base: Reg<U32>,
        last: Reg<U32>,
    ) {
        let first = k.add(base, self.column);
        let rows = COLUMNS.map(|offset| {
            let position = k.add(first, offset);
            self.cached(k, kernel, self.values, position, last)
        });
        values.load(k, &rows, MatrixPlan::VALUE_ROUND, self.has_last_value);
    }

    /// The lane's first feature of `position`, or of the last one if it is beyond.
    fn cached(
        &self,
        k: &mut KernelBuilder,
        kernel: &Attention,
        cache: Reg<U64>,
        position: Reg<U32>,
        last: Reg<U32>,
    ) -> Reg<U64> {
        let position = k.min(position, last);
        k.ptr_index(cache, position, self.plan.head_dim * kernel.cache.stored.bytes())
    }

    /// Scores of head `g` at positions `2 t`, `2 t + 1`, `2 t + 8` and `2 t + 9`, as exponents of 2. Fragments of queries
    /// that are not given are loaded.
    fn scores(
        &self,
        k: &mut KernelBuilder,
        kernel: &Attention,
        queries: Option<&[Fragment]>,
        keys: &Rows,
    ) -> [Reg<F32>; 4] {
        k.comment("scores");
        // Sums of even and odd fragments apart, so that fewer instructions wait for each other.
        let zero = k.imm::<F32>(0.0);
        let mut sums = [[[zero; 4]; 2]; 2];
        for fragment in 0..self.plan.fragments() {
            let queries = match queries {
                Some(queries) => queries[fragment as usize],
                None => self.queries.fragment(k, fragment),
            };
            for (half, sums) in sums.iter_mut().enumerate() {
                let sum = &mut sums[fragment as usize % 2];
                let keys = keys.pair(k, half, fragment as usize);
                *sum = queries.add(k, self.plan.factor, keys, *sum);
            }
        }
        std::array::from_fn(|i| {
            let ([even, odd], column) = (sums[i / 2], i % 2);
            // The upper parts of the queries and the rest.
            let upper = k.add(even[column], odd[column]);
            let lower = k.add(even[column + 2], odd[column + 2]);
            let score = k.add(upper, lower);
            k.mul(score, kernel.scale * LOG2_E)
        })
    }

    /// Takes in the scores of a step and returns the weights of its positions as fragments, one for each part.
    fn weights(
        &self,
        k: &mut KernelBuilder,
        scores: [Reg<F32>; 4],
        heads: &Heads,
        (base, end): (Reg<U32>, Reg<U32>),
    ) -> Vec<[Reg<B32>; 2]> {
        k.comment("weights");
        let first = k.add(base, self.column);
        let scores: [Reg<F32>; 4] = std::array::from_fn(|i| {
            let position = k.add(first, COLUMNS[i]);
            let valid = k.lt(position, end);
            k.selp(valid, scores[i], f32::NEG_INFINITY)
        });
        let old = k.get(heads.max);
        let pairs = [(0, 1), (2, 3)].map(|(a, b)| k.max(scores[a], scores[b]));
        let mut max = k.max(pairs[0], pairs[1]);
        for lanes in [1, 2] {
            let other = k.shfl_bfly(max, lanes);
            max = k.max(max, other);
        }
        let max = k.max(max, old);
        let below = k.sub(old, max);
        let factor = k.ex2_approx(below);
        k.set(heads.max, max);
        heads.rescale(k, factor, self.column);
        let lift = k.sub(max, LIFT);
        let weights = scores.map(|score| {
            let above = k.sub(score, lift);
            k.ex2_approx(above)
        });
        let pairs = [(0, 1), (2, 3)].map(|(a, b)| k.add(weights[a], weights[b]));
        let step = k.add(pairs[0], pairs[1]);
        k.update(heads.sum, |k, sum| k.fma(sum, factor, step));
        let [first, second] =
            [(0, 1), (2, 3)].map(|(a, b)| self.plan.factor.split(k, [weights[a], weights[b]]));
        first.into_iter().zip(second).map(|(first, second)| [first, second]).collect()
    }

    /// Adds the values of a step by their weights.
    fn add_values(&self, k: &mut KernelBuilder, values: &Rows, heads: &Heads, weights: &[[Reg<B32>; 2]]) {
        k.comment("weighted values");
        for (pair, acc) in heads.acc.iter().enumerate() {
            // Features `2 pair` and `2 pair + 1` of the lane at its four positions.
            let [a, b, c, d] = [0, 1, 2, 3].map(|position| values.word(k, position, pair));
            let fragment = [(a, b, 0x5410u32), (a, b, 0x7632), (c, d, 0x5410), (c, d, 0x7632)]
                .map(|(low, high, halves)| k.prmt(low, high, halves));
            for &part in weights {
                let sum = acc.map(|acc| k.get(acc));
                let sum = self.plan.factor.product(k, fragment, part, sum);
                acc.iter().zip(sum).for_each(|(&acc, sum)| k.set(acc, sum));
            }
        }
    }

    /// Leaves what the warp knows.
    fn leave(&self, k: &mut KernelBuilder, kernel: &Attention, heads: &Heads, results: Results) {
        let mut sum = k.get(heads.sum);
        for lanes in [1, 2] {
            let other = k.shfl_bfly(sum, lanes);
            sum = k.add(sum, other);
        }
        let plan = self.plan;
        let entries = k.mul(self.warp, plan.heads);
        let entry = k.add(entries, self.row);
        let is_head = k.lt(self.row, plan.heads);
        let leads = k.eq(self.column, 0);
        let leads = k.and_pred(is_head, leads);
        let [max_at, sum_at] = [results.max, results.sum].map(|array| k.shared_index(array, entry));
        k.guarded(leads, |k| {
            k.st_shared::<F32>(max_at, heads.max);
            k.st_shared::<F32>(sum_at, sum);
        });
        let (acc, warp_bytes) = results.features(k, kernel);
        let acc = k.mad(self.warp, warp_bytes, acc);
        let acc = k.mad(self.column, plan.head_stride() * 4, acc);
        let acc = k.mad(self.row, 16, acc);
        for column in 0..2u32 {
            let head = k.add(self.column, column);
            let is_head = k.lt(head, plan.heads);
            for (half, pairs) in (0..).zip(heads.acc.chunks(2)) {
                let at = acc + (column * plan.head_stride() * 4 + half * 128) as i32;
                let c = column as usize;
                let four = [pairs[0][c], pairs[0][c + 2], pairs[1][c], pairs[1][c + 2]];
                k.guarded(is_head, |k| k.st_shared_v4::<F32>(at, four));
            }
        }
    }
}

/// Positions of a lane in the second product, from `2 t` on.
const COLUMNS: [u32; 4] = [0, 1, 8, 9];

/// Weights are multiplied by two to this power, so that the f16 that they are made of reach further down. It cancels out,
/// as sums are multiplied too.
const LIFT: f32 = 12.0;
