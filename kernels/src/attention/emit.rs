//! The PTX of attention: scores and weighted values of each thread's positions.

use ptx_builder::{B32, F32, KernelBuilder, Module, Pred, Reg, Target, U32, U64, Var};

use super::Attention;
use super::combine::{Features, Outlet};
use super::plan::Plan;
use super::splits::{Division, Partials, Parts, Positions};
use crate::KernelError;
use crate::emit::{self, LOG2_E, split};

pub(super) fn emit(kernel: &Attention, target: Target) -> Result<Module, KernelError> {
    if kernel.splits.several() {
        emit::module(kernel, target, |k, [q, keys, values, positions, sequences, y, scratch, counters]| {
            let partials = Partials { scratch, counters };
            body(k, kernel, Tensors { q, keys, values, positions, sequences, y }, Some(partials));
        })
    } else {
        emit::module(kernel, target, |k, [q, keys, values, positions, sequences, y]| {
            body(k, kernel, Tensors { q, keys, values, positions, sequences, y }, None);
        })
    }
}

/// The parameters.
#[derive(Debug, Clone, Copy)]
struct Tensors {
    q: Reg<U64>,
    keys: Reg<U64>,
    values: Reg<U64>,
    positions: Reg<U64>,
    sequences: Reg<U64>,
    y: Reg<U64>,
}

fn body(k: &mut KernelBuilder, kernel: &Attention, tensors: Tensors, partials: Option<Partials>) {
    let place = Place::find(k, kernel, &tensors);
    let division = partials.map(|_| Division::of_row(k, kernel.splits, place.length));
    let q = place.head(k, kernel, tensors.q);
    let y = place.head(k, kernel, tensors.y);
    let [keys, values] = [tensors.keys, tensors.values].map(|cache| place.cached_head(k, kernel, cache));
    let lanes = Lanes::new(k, kernel, place.thread);
    let outlet = Outlet::new(k, kernel, place.thread);
    k.comment("queries, scaled so that a score is an exponent of 2");
    let queries = lanes.queries(k, kernel, q);
    let attended = |k: &mut KernelBuilder, positions| {
        let heads = attend(k, kernel, &lanes, &queries, Rows { keys, values, positions });
        Features::of_block(k, kernel, &lanes, &heads, &outlet)
    };
    let (Some(partials), Some(division)) = (partials, division) else {
        let all = Positions { first: None, end: place.length };
        attended(k, all).store(k, &outlet, y);
        return;
    };
    let parts = Parts::find(k, kernel, partials.scratch, &outlet);
    let alone = k.le(division.chunks, 1);
    k.for_range(division.first, division.chunks, kernel.splits.blocks, |k, index| {
        let positions = division.positions(k, index);
        let features = attended(k, positions);
        k.if_(alone, |k| {
            features.store(k, &outlet, y);
            k.ret();
        });
        k.comment("leave the part of the chunk");
        parts.leave(k, index, &features);
        // Before shared memory is used again, and before the part is counted.
        k.barrier();
    });
    parts.combine(k, kernel, &partials, &division, y);
}

/// Which row and heads this block does.
#[derive(Debug, Clone, Copy)]
struct Place {
    thread: Reg<U32>,
    /// The row and, within it, the set of heads.
    row_set: Reg<U32>,
    /// Which of the sets of heads that a row is divided into.
    set: Reg<U32>,
    sequence: Reg<U32>,
    /// Positions to attend to; 0 if the row lies outside the cache, from which NaNs follow: 0 divided by 0.
    length: Reg<U32>,
}

impl Place {
    fn find(k: &mut KernelBuilder, kernel: &Attention, tensors: &Tensors) -> Self {
        let (thread, row_set) = (k.tid_x(), k.ctaid_x());
        let sets = kernel.sets();
        let (row, set) = split(k, row_set, u64::from(kernel.rows) * u64::from(sets), sets);
        let [position, sequence] = [tensors.positions, tensors.sequences].map(|leaf| {
            let at = k.ptr_index(leaf, row, 4);
            k.ld_global::<U32>(at)
        });
        k.comment("a row outside the cache attends to nothing");
        let position_inside = k.lt(position, kernel.cache.max_seq);
        let sequence_inside = k.lt(sequence, kernel.cache.n_sequences);
        let inside = k.and_pred(position_inside, sequence_inside);
        let length = k.add(position, 1);
        let length = k.selp(inside, length, 0);
        let length = k.name(length, "length");
        let sequence = k.selp(inside, sequence, 0);
        Self { thread, row_set, set, sequence, length }
    }

    /// The address of the block's first head in queries or results.
    fn head(&self, k: &mut KernelBuilder, kernel: &Attention, base: Reg<U64>) -> Reg<U64> {
        k.ptr_index(base, self.row_set, kernel.plan.heads * kernel.cache.head_dim * 4)
    }

    /// The address of position 0 of the block's key head in a cache.
    fn cached_head(&self, k: &mut KernelBuilder, kernel: &Attention, cache: Reg<U64>) -> Reg<U64> {
        let sets_per_head = kernel.sets() / kernel.cache.n_kv_heads;
        let (kv_head, _) = split(k, self.set, kernel.sets().into(), sets_per_head);
        let head = k.mad(self.sequence, kernel.cache.n_kv_heads, kv_head);
        let head = k.widen(head);
        k.mad(head, kernel.cache.head_elements() * u64::from(kernel.cache.stored.bytes()), cache)
    }
}

/// This thread's part of the work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lanes {
    pub warp: Reg<U32>,
    /// The lane among those that share a position.
    pub lane: Reg<U32>,
    /// The first position that this thread's lanes take.
    slot: Reg<U32>,
    /// The first slot of the warp.
    warp_slot: Reg<U32>,
    /// Whether these are the first lanes of the warp.
    pub first: Pred,
    plan: Plan,
    /// Where not every lane has a last piece.
    pub partial: Option<Partial>,
}

/// The last piece of a lane that may lie beyond the head. The head's first piece is then read instead; what is computed
/// from it is not used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Partial {
    pub inside: Pred,
    /// Features from the lane's first piece.
    offset: Reg<U64>,
}

impl Lanes {
    fn new(k: &mut KernelBuilder, kernel: &Attention, thread: Reg<U32>) -> Self {
        let plan = kernel.plan;
        let warp = k.shr(thread, 5);
        let lane = k.and(thread, plan.lanes - 1);
        let slot = k.shr(thread, plan.lanes.ilog2());
        let warp_slot = k.mul(warp, plan.positions_per_warp());
        let first = k.eq(slot, warp_slot);
        let row_pieces = kernel.cache.head_dim / plan.piece;
        let partial = (plan.lanes * plan.pieces > row_pieces).then(|| {
            let before = (plan.pieces - 1) * plan.lanes;
            let inside = k.lt(lane, row_pieces - before);
            let back = k.mul_wide(lane, plan.piece);
            let back = k.sub(0, back);
            Partial { inside, offset: k.selp(inside, u64::from(before * plan.piece), back) }
        });
        Self { warp, lane, slot, warp_slot, first, plan, partial }
    }

    /// The addresses of this lane's pieces of a row at `row`, whose features have `bytes` bytes each: a base and an
    /// offset.
    fn pieces(&self, k: &mut KernelBuilder, row: Reg<U64>, bytes: u32) -> Vec<(Reg<U64>, i32)> {
        let Plan { piece, pieces, lanes, .. } = self.plan;
        let first = k.ptr_index(row, self.lane, piece * bytes);
        let mut addresses: Vec<_> =
            (0..pieces).map(|p| (first, (p * lanes * piece * bytes) as i32)).collect();
        if let (Some(partial), Some(last)) = (self.partial, addresses.last_mut()) {
            *last = (k.mad(partial.offset, u64::from(bytes), first), 0);
        }
        addresses
    }

    /// This lane's features of the queries at `row` of every head, scaled so that a score is an exponent of 2.
    fn queries(&self, k: &mut KernelBuilder, kernel: &Attention, row: Reg<U64>) -> Vec<Vec<Reg<F32>>> {
        let addresses = self.pieces(k, row, 4);
        let head = |head: u32| {
            let mut query = Vec::new();
            for (index, &(base, offset)) in addresses.iter().enumerate() {
                for quad in 0..self.plan.piece / 4 {
                    let offset = offset + (head * kernel.cache.head_dim * 4 + quad * 16) as i32;
                    let features = k.ld_global_v4::<F32>(base + offset);
                    let scaled = features.map(|v| k.mul(v, kernel.scale * LOG2_E));
                    let partial = self.partial.filter(|_| index + 1 == addresses.len());
                    query.extend(scaled.map(|v| partial.map_or(v, |p| k.selp(p.inside, v, 0.0))));
                }
            }
            query
        };
        (0..self.plan.heads).map(head).collect()
    }
}

/// The addresses of the block's cached heads, and the positions that it attends to.
#[derive(Debug, Clone, Copy)]
struct Rows {
    keys: Reg<U64>,
    values: Reg<U64>,
    positions: Positions,
}

/// What a set of lanes knows of one head after some positions.
#[derive(Debug)]
pub(super) struct Head {
    /// The largest score, in units of log 2.
    pub max: Var<F32>,
    /// The sum of `2^(score - max)`.
    pub sum: Var<F32>,
    /// The values weighted likewise; the lane's features.
    pub acc: Vec<Var<F32>>,
}

/// The online softmax over this thread's positions. While the block computes with the positions of one step, those of
/// the next are on their way.
fn attend(
    k: &mut KernelBuilder,
    kernel: &Attention,
    lanes: &Lanes,
    queries: &[Vec<Reg<F32>>],
    rows: Rows,
) -> Vec<Head> {
    let (plan, Positions { first, end }) = (kernel.plan, rows.positions);
    let heads: Vec<_> = (0..plan.heads)
        .map(|_| Head {
            // Finite, so that "nothing yet" minus "nothing yet" is 0.
            max: k.var::<F32>(f32::MIN),
            sum: k.var::<F32>(0.0),
            acc: (0..plan.pieces * plan.piece).map(|_| k.var::<F32>(0.0)).collect(),
        })
        .collect();
    let [this, next] = [(); 2].map(|()| Step::new(k, kernel));
    let steps = Steps { kernel, lanes, rows, queries, heads: &heads, last: k.sub(end, 1) };
    let start = match first {
        Some(first) => k.add(first, lanes.warp_slot),
        None => lanes.warp_slot,
    };
    let any = k.lt(start, end);
    k.if_(any, |k| this.load(k, &steps, start));
    // The loop is the same for all lanes of a warp, as they shuffle in it. An end is at most 2^31, so that adding steps
    // does not wrap.
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
    heads
}

/// What every step works with.
#[derive(Debug)]
struct Steps<'a> {
    kernel: &'a Attention,
    lanes: &'a Lanes,
    rows: Rows,
    queries: &'a [Vec<Reg<F32>>],
    heads: &'a [Head],
    /// The last position.
    last: Reg<U32>,
}

impl Steps<'_> {
    /// This thread's positions of the step of which the warp's first position is `base`.
    fn positions(&self, k: &mut KernelBuilder, base: Reg<U32>) -> Vec<Reg<U32>> {
        let plan = self.kernel.plan;
        let within = k.sub(self.lanes.slot, self.lanes.warp_slot);
        let first = k.add(base, within);
        (0..plan.unroll)
            .map(|u| if u == 0 { first } else { k.add(first, u * plan.positions_per_block()) })
            .collect()
    }
}

/// Words of keys and values of one step: this lane's pieces, by position.
#[derive(Debug)]
struct Step {
    keys: Vec<Vec<Var<B32>>>,
    values: Vec<Vec<Var<B32>>>,
}

impl Step {
    fn new(k: &mut KernelBuilder, kernel: &Attention) -> Self {
        let words = kernel.plan.pieces * kernel.plan.piece / kernel.cache.stored.per_word();
        let mut of_positions = || -> Vec<Vec<_>> {
            (0..kernel.plan.unroll).map(|_| (0..words).map(|_| k.var::<B32>(0)).collect()).collect()
        };
        Self { keys: of_positions(), values: of_positions() }
    }

    /// Loads the step of which the warp's first position is `base`.
    fn load(&self, k: &mut KernelBuilder, steps: &Steps<'_>, base: Reg<U32>) {
        k.comment("beyond the end the last position is read and its weight is 0");
        let bytes = steps.kernel.cache.stored.bytes();
        let positions: Vec<_> =
            steps.positions(k, base).into_iter().map(|position| k.min(position, steps.last)).collect();
        for (cache, words) in [(steps.rows.keys, &self.keys), (steps.rows.values, &self.values)] {
            for (&position, words) in positions.iter().zip(words) {
                let row = k.ptr_index(cache, position, steps.kernel.cache.head_dim * bytes);
                let addresses = steps.lanes.pieces(k, row, bytes);
                let per_piece = steps.kernel.plan.piece / steps.kernel.cache.stored.per_word();
                for ((base, offset), words) in addresses.into_iter().zip(words.chunks(per_piece as usize)) {
                    let loaded = match per_piece {
                        2 => k.ld_global_v2::<B32>(base + offset).to_vec(),
                        _ => k.ld_global_v4::<B32>(base + offset).to_vec(),
                    };
                    words.iter().zip(loaded).for_each(|(&word, new)| k.set(word, new));
                }
            }
        }
    }

    /// Takes in the positions that were loaded for `base`.
    fn add(&self, k: &mut KernelBuilder, steps: &Steps<'_>, base: Reg<U32>) {
        let stored = steps.kernel.cache.stored;
        let mut unpack = |words: &[Vec<Var<B32>>]| -> Vec<Vec<Reg<F32>>> {
            let of_position = |words: &Vec<Var<B32>>| {
                let words: Vec<_> = words.iter().map(|&word| k.get(word)).collect();
                stored.unpack(k, &words)
            };
            words.iter().map(of_position).collect()
        };
        let (keys, values) = (unpack(&self.keys), unpack(&self.values));
        let positions = steps.positions(k, base);
        let valid: Vec<_> =
            positions.iter().map(|&position| k.lt(position, steps.rows.positions.end)).collect();
        for (head, query) in steps.heads.iter().zip(steps.queries) {
            let scores: Vec<_> = keys
                .iter()
                .zip(&valid)
                .map(|(key, &valid)| {
                    let score = dot(k, query, key, steps.kernel.plan);
                    k.selp(valid, score, f32::NEG_INFINITY)
                })
                .collect();
            head.add(k, &scores, &values);
        }
    }
}

/// The scalar product of this lane set's features, in all of its lanes.
fn dot(k: &mut KernelBuilder, a: &[Reg<F32>], b: &[Reg<F32>], plan: Plan) -> Reg<F32> {
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
    /// Takes in some positions: their scores, and the lane's features of their values.
    fn add(&self, k: &mut KernelBuilder, scores: &[Reg<F32>], values: &[Vec<Reg<F32>>]) {
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
