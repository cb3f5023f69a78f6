//! Attention to caches of F32, by multiply-adds: scores and weighted values of each thread's positions.

pub(super) mod plan;
mod warp;

use ptx_builder::{F32, KernelBuilder, Pred, Reg, U32, U64, Var};

use self::plan::LanePlan;
use self::warp::{Slots, WarpHead};
use super::Attention;
use super::emit::Sources;
use super::results::Results;
use super::splits::Positions;
use crate::emit::LOG2_E;

/// Bytes of a piece.
const PIECE_BYTES: u32 = LanePlan::PIECE * 4;

/// This thread's part of the work.
#[derive(Debug)]
pub(super) struct Lanes {
    warp: Reg<U32>,
    /// The lane among those that share a position.
    lane: Reg<U32>,
    /// The first position that this thread's lanes take.
    slot: Reg<U32>,
    /// The first slot of the warp.
    warp_slot: Reg<U32>,
    /// Whether these are the first lanes of the warp.
    first: Pred,
    plan: LanePlan,
    /// Where not every lane has a last piece.
    partial: Option<Partial>,
    sources: Sources,
}

/// The last piece of a lane that may lie beyond the head. The head's first piece is then read instead; what is computed
/// from it is not used.
#[derive(Debug, Clone, Copy)]
struct Partial {
    inside: Pred,
    /// Features from the lane's first piece.
    offset: Reg<U64>,
}

impl Lanes {
    pub fn new(
        k: &mut KernelBuilder,
        kernel: &Attention,
        plan: LanePlan,
        thread: Reg<U32>,
        sources: Sources,
    ) -> Self {
        let warp = k.shr(thread, 5);
        let lane = k.and(thread, plan.lanes - 1);
        let slot = k.shr(thread, plan.lanes.ilog2());
        let warp_slot = k.mul(warp, plan.positions_per_warp());
        let first = k.eq(slot, warp_slot);
        let row_pieces = kernel.cache.head_dim / LanePlan::PIECE;
        let partial = (plan.lanes * plan.pieces > row_pieces).then(|| {
            let before = (plan.pieces - 1) * plan.lanes;
            let inside = k.lt(lane, row_pieces - before);
            let back = k.mul_wide(lane, LanePlan::PIECE);
            let back = k.sub(0, back);
            Partial { inside, offset: k.selp(inside, u64::from(before * LanePlan::PIECE), back) }
        });
        Self { warp, lane, slot, warp_slot, first, plan, partial, sources }
    }

    /// The addresses of this lane's pieces of a row at `row`: a base and an offset.
    fn pieces(&self, k: &mut KernelBuilder, row: Reg<U64>) -> Vec<(Reg<U64>, i32)> {
        let LanePlan { pieces, lanes, .. } = self.plan;
        let first = k.ptr_index(row, self.lane, PIECE_BYTES);
        let mut addresses: Vec<_> = (0..pieces).map(|p| (first, (p * lanes * PIECE_BYTES) as i32)).collect();
        if let (Some(partial), Some(last)) = (self.partial, addresses.last_mut()) {
            *last = (k.mad(partial.offset, 4, first), 0);
        }
        addresses
    }

    /// Loads the lane's features of the queries of each head, scaled so that a score is an exponent of 2.
    fn queries(&self, k: &mut KernelBuilder, kernel: &Attention) -> Vec<Vec<Reg<F32>>> {
        k.comment("queries, scaled so that a score is an exponent of 2");
        let addresses = self.pieces(k, self.sources.q);
        let head = |head: u32| {
            let mut query = Vec::new();
            for (index, &(base, offset)) in addresses.iter().enumerate() {
                let offset = offset + (head * kernel.cache.head_dim * 4) as i32;
                let features = k.ld_global_v4::<F32>(base + offset);
                let scaled = features.map(|v| k.mul(v, kernel.scale * LOG2_E));
                let partial = self.partial.filter(|_| index + 1 == addresses.len());
                query.extend(scaled.map(|v| partial.map_or(v, |p| k.selp(p.inside, v, 0.0))));
            }
            query
        };
        (0..self.plan.heads).map(head).collect()
    }

    /// The online softmax over this thread's positions, and what each warp knows then. While the block computes with the
    /// positions of one step, those of the next are on their way.
    pub fn attend(&self, k: &mut KernelBuilder, kernel: &Attention, positions: Positions, results: Results) {
        let (plan, Positions { first, end }) = (self.plan, positions);
        let queries = self.queries(k, kernel);
        let heads: Vec<_> = (0..plan.heads).map(|_| Head::new(k, plan)).collect();
        let [this, next] = [(); 2].map(|()| Step::new(k, plan));
        let steps = Steps { kernel, lanes: self, heads: &heads, queries: &queries, end, last: k.sub(end, 1) };
        let start = match first {
            Some(first) => k.add(first, self.warp_slot),
            None => self.warp_slot,
        };
        let any = k.lt(start, end);
        k.if_(any, |k| this.load(k, &steps, start));
        // The loop is the same for all lanes of a warp, as they shuffle in it. An end is at most 2^31, so that adding
        // steps does not wrap.
        k.for_range(start, end, 2 * plan.step(), |k, base| {
            let second = k.add(base, plan.step());
            let is_second = k.lt(second, end);
            k.if_(is_second, |k| next.load(k, &steps, second));
            this.add(k, &steps, base);
            let third = k.add(second, plan.step());
            let is_third = k.lt(third, end);
            k.if_(is_third, |k| this.load(k, &steps, third));
            k.if_(is_second, |k| next.add(k, &steps, second));
        });
        k.comment("combine the positions of the warp");
        let slots = Slots::new(k, kernel, self, results);
        for (index, head) in (0..).zip(&heads) {
            let values = WarpHead::of(k, plan, head);
            slots.put(k, kernel, index, &values);
        }
    }
}

/// What a set of lanes knows of one head after some positions.
#[derive(Debug)]
struct Head {
    /// The largest score, in units of log 2.
    max: Var<F32>,
    /// The sum of `2^(score - max)`.
    sum: Var<F32>,
    /// The values weighted likewise; the lane's features.
    acc: Vec<Var<F32>>,
}

/// What every step works with.
#[derive(Debug)]
struct Steps<'a> {
    kernel: &'a Attention,
    lanes: &'a Lanes,
    heads: &'a [Head],
    queries: &'a [Vec<Reg<F32>>],
    /// One past the last position.
    end: Reg<U32>,
    last: Reg<U32>,
}

impl Steps<'_> {
    /// This thread's positions of the step of which the warp's first position is `base`.
    fn positions(&self, k: &mut KernelBuilder, base: Reg<U32>) -> Vec<Reg<U32>> {
        let plan = self.lanes.plan;
        let within = k.sub(self.lanes.slot, self.lanes.warp_slot);
        let first = k.add(base, within);
        (0..plan.unroll)
            .map(|u| if u == 0 { first } else { k.add(first, u * plan.positions_per_block()) })
            .collect()
    }
}

/// Keys and values of one step: this lane's features, by position.
#[derive(Debug)]
struct Step {
    keys: Vec<Vec<Var<F32>>>,
    values: Vec<Vec<Var<F32>>>,
}

impl Step {
    fn new(k: &mut KernelBuilder, plan: LanePlan) -> Self {
        let mut of_positions = || -> Vec<Vec<_>> {
            (0..plan.unroll).map(|_| (0..plan.features()).map(|_| k.var::<F32>(0.0)).collect()).collect()
        };
        Self { keys: of_positions(), values: of_positions() }
    }

    /// Loads the step of which the warp's first position is `base`.
    fn load(&self, k: &mut KernelBuilder, steps: &Steps<'_>, base: Reg<U32>) {
        k.comment("beyond the end the last position is read and its weight is 0");
        let sources = steps.lanes.sources;
        let positions: Vec<_> =
            steps.positions(k, base).into_iter().map(|position| k.min(position, steps.last)).collect();
        for (cache, features) in [(sources.keys, &self.keys), (sources.values, &self.values)] {
            for (&position, features) in positions.iter().zip(features) {
                let row = k.ptr_index(cache, position, steps.kernel.cache.head_dim * 4);
                let addresses = steps.lanes.pieces(k, row);
                for ((base, offset), piece) in addresses.into_iter().zip(features.as_chunks::<4>().0) {
                    let loaded = k.ld_global_v4::<F32>(base + offset);
                    piece.iter().zip(loaded).for_each(|(&feature, new)| k.set(feature, new));
                }
            }
        }
    }

    /// Takes in the positions that were loaded for `base`.
    fn add(&self, k: &mut KernelBuilder, steps: &Steps<'_>, base: Reg<U32>) {
        let positions = steps.positions(k, base);
        let valid: Vec<_> = positions.iter().map(|&position| k.lt(position, steps.end)).collect();
        for (head, query) in steps.heads.iter().zip(steps.queries) {
            let scores: Vec<_> = self
                .keys
                .iter()
                .zip(&valid)
                .map(|(key, &valid)| {
                    let score = dot(k, query, key, steps.lanes.plan);
                    k.selp(valid, score, f32::NEG_INFINITY)
                })
                .collect();
            head.add(k, &scores, &self.values);
        }
    }
}

/// The scalar product of this lane set's features, in all of its lanes.
fn dot(k: &mut KernelBuilder, a: &[Reg<F32>], b: &[Var<F32>], plan: LanePlan) -> Reg<F32> {
    let mut pairs = a.iter().zip(b);
    let mut sum = match pairs.next() {
        Some((&a, &b)) => k.mul(a, b),
        None => k.imm::<F32>(0.0),
    };
    for (&a, &b) in pairs {
        sum = k.fma(a, b, sum);
    }
    let mut lanes = plan.lanes / 2;
    while lanes > 0 {
        let other = k.shfl_bfly(sum, lanes);
        sum = k.add(sum, other);
        lanes /= 2;
    }
    sum
}

impl Head {
    fn new(k: &mut KernelBuilder, plan: LanePlan) -> Self {
        Self {
            // Finite, so that "nothing yet" minus "nothing yet" is 0.
            max: k.var::<F32>(f32::MIN),
            sum: k.var::<F32>(0.0),
            acc: (0..plan.features()).map(|_| k.var::<F32>(0.0)).collect(),
        }
    }

    /// Takes in some positions: their scores, and the lane's features of their values.
    fn add(&self, k: &mut KernelBuilder, scores: &[Reg<F32>], values: &[Vec<Var<F32>>]) {
        let old = k.get(self.max);
        let max = scores.iter().fold(old, |max, &score| k.max(max, score));
        let below = k.sub(old, max);
        let factor = k.ex2_approx(below);
        k.set(self.max, max);
        k.update(self.sum, |k, sum| k.mul(sum, factor));
        for &acc in &self.acc {
            k.update(acc, |k, acc| k.mul(acc, factor));
        }
        for (&score, value) in scores.iter().zip(values) {
            let below = k.sub(score, max);
            let weight = k.ex2_approx(below);
            k.update(self.sum, |k, sum| k.add(sum, weight));
            for (&acc, &v) in self.acc.iter().zip(value) {
                k.update(acc, |k, acc| k.fma(weight, v, acc));
            }
        }
    }
}
