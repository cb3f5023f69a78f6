//! The PTX of attention: scores and weighted values of each thread's positions.

use ptx_builder::{F32, KernelBuilder, Module, Pred, Reg, Target, U32, U64, Var};

use super::Attention;
use super::combine;
use super::plan::Plan;
use crate::KernelError;
use crate::emit::{self, LOG2_E, split};

pub(super) fn emit(kernel: &Attention, target: Target) -> Result<Module, KernelError> {
    emit::module(kernel, target, |k, [q, k_cache, v_cache, positions, sequences, y]| {
        let place = Place::find(k, kernel, positions, sequences);
        let q = place.head(k, kernel, q);
        let y = place.head(k, kernel, y);
        let [keys, values] = [k_cache, v_cache].map(|cache| place.cached_head(k, kernel, cache));
        let lanes = Lanes::new(k, kernel, place.thread);
        let heads = attend(k, kernel, &lanes, Rows { q, keys, values, length: place.length });
        combine::write(k, kernel, &lanes, &heads, y);
    })
}

/// Which row and heads this block does.
#[derive(Debug, Clone, Copy)]
struct Place {
    thread: Reg<U32>,
    row: Reg<U32>,
    /// Which of the sets of heads that a row is divided into.
    set: Reg<U32>,
    sequence: Reg<U32>,
    /// Positions to attend to; 0 if the row lies outside the cache, from which NaNs follow: 0 divided by 0.
    length: Reg<U32>,
}

impl Place {
    fn find(k: &mut KernelBuilder, kernel: &Attention, positions: Reg<U64>, sequences: Reg<U64>) -> Self {
        let (thread, block) = (k.tid_x(), k.ctaid_x());
        let sets = kernel.blocks_per_row();
        let (row, set) = split(k, block, u64::from(kernel.rows) * u64::from(sets), sets);
        let [position, sequence] = [positions, sequences].map(|leaf| {
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
        Self { thread, row, set, sequence, length }
    }

    /// The address of the block's first head in queries or results.
    fn head(&self, k: &mut KernelBuilder, kernel: &Attention, base: Reg<U64>) -> Reg<U64> {
        let set = k.mad(self.row, kernel.blocks_per_row(), self.set);
        k.ptr_index(base, set, kernel.plan.heads * kernel.cache.head_dim * 4)
    }

    /// The address of position 0 of the block's key head in a cache.
    fn cached_head(&self, k: &mut KernelBuilder, kernel: &Attention, cache: Reg<U64>) -> Reg<U64> {
        let sets_per_head = kernel.blocks_per_row() / kernel.cache.n_kv_heads;
        let (kv_head, _) = split(k, self.set, kernel.blocks_per_row().into(), sets_per_head);
        let head = k.mad(self.sequence, kernel.cache.n_kv_heads, kv_head);
        let head = k.widen(head);
        k.mad(head, kernel.cache.head_elements() * 4, cache)
    }
}

/// This thread's part of the work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lanes {
    pub thread: Reg<U32>,
    pub warp: Reg<U32>,
    /// The lane among those that share a position.
    pub lane: Reg<U32>,
    /// The first position that this thread's lanes take.
    slot: Reg<U32>,
    /// The first slot of the warp.
    warp_slot: Reg<U32>,
    /// Whether these are the first lanes of the warp.
    pub first: Pred,
    /// Chunks of a lane, and bytes from one to the next.
    chunks: u32,
    pub stride: i32,
    /// Where not every lane has a last chunk.
    pub partial: Option<Partial>,
}

/// The last chunk of a lane that may lie beyond the head. The head's first chunk is then read instead; what is computed
/// from it is not used.
#[derive(Debug, Clone, Copy)]
pub(super) struct Partial {
    pub inside: Pred,
    /// Bytes from the lane's first chunk.
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
        let row_chunks = kernel.cache.head_dim / 4;
        let stride = plan.lanes as i32 * 16;
        let partial = (plan.lanes * plan.chunks > row_chunks).then(|| {
            let before = (plan.chunks - 1) * plan.lanes;
            let inside = k.lt(lane, row_chunks - before);
            let back = k.mul_wide(lane, 16);
            let back = k.sub(0, back);
            Partial { inside, offset: k.selp(inside, u64::from(before) * 16, back) }
        });
        Self { thread, warp, lane, slot, warp_slot, first, chunks: plan.chunks, stride, partial }
    }

    /// The address of this lane's first chunk of the row at `row`.
    fn within(&self, k: &mut KernelBuilder, row: Reg<U64>) -> Reg<U64> {
        k.ptr_index(row, self.lane, 16)
    }

    /// This lane's chunks of a row, from the address that [`within`](Self::within) gives, plus `offset` bytes.
    fn load(&self, k: &mut KernelBuilder, at: Reg<U64>, offset: i32) -> Vec<[Reg<F32>; 4]> {
        let whole = self.chunks - u32::from(self.partial.is_some());
        let mut chunks: Vec<_> =
            (0..whole as i32).map(|chunk| k.ld_global_v4::<F32>(at + offset + chunk * self.stride)).collect();
        if let Some(partial) = self.partial {
            let at = k.add(at, partial.offset);
            chunks.push(k.ld_global_v4::<F32>(at + offset));
        }
        chunks
    }
}

/// The addresses of the block's rows.
#[derive(Debug, Clone, Copy)]
struct Rows {
    q: Reg<U64>,
    keys: Reg<U64>,
    values: Reg<U64>,
    length: Reg<U32>,
}

/// What a set of lanes knows of one head after some positions.
#[derive(Debug)]
pub(super) struct Head {
    /// The largest score, in units of log 2.
    pub max: Var<F32>,
    /// The sum of `2^(score - max)`.
    pub sum: Var<F32>,
    /// The values weighted likewise; the lane's chunks.
    pub acc: Vec<[Var<F32>; 4]>,
}

/// The online softmax over this thread's positions.
fn attend(k: &mut KernelBuilder, kernel: &Attention, lanes: &Lanes, rows: Rows) -> Vec<Head> {
    let (plan, head_dim) = (kernel.plan, kernel.cache.head_dim);
    k.comment("queries, scaled so that a score is an exponent of 2");
    let [q, keys, values] = [rows.q, rows.keys, rows.values].map(|row| lanes.within(k, row));
    let queries: Vec<Vec<[Reg<F32>; 4]>> = (0..plan.heads)
        .map(|head| {
            let mut query = lanes.load(k, q, (head * head_dim * 4) as i32);
            for v in query.iter_mut().flatten() {
                *v = k.mul(*v, kernel.scale * LOG2_E);
            }
            if let (Some(partial), Some(last)) = (lanes.partial, query.last_mut()) {
                *last = last.map(|v| k.selp(partial.inside, v, 0.0));
            }
            query
        })
        .collect();
    let heads: Vec<_> = (0..plan.heads)
        .map(|_| Head {
            // Finite, so that "nothing yet" minus "nothing yet" is 0.
            max: k.var::<F32>(f32::MIN),
            sum: k.var::<F32>(0.0),
            acc: (0..plan.chunks).map(|_| [(); 4].map(|()| k.var::<F32>(0.0))).collect(),
        })
        .collect();
    let last = k.sub(rows.length, 1);
    let step = plan.positions_per_block() * plan.unroll;
    // The loop is the same for all lanes of a warp, as they shuffle in it. A length is at most 2^31, so that adding
    // a step does not wrap.
    k.for_range(lanes.warp_slot, rows.length, step, |k, base| {
        let within = k.sub(lanes.slot, lanes.warp_slot);
        let first = k.add(base, within);
        let positions: Vec<_> = (0..plan.unroll)
            .map(|u| if u == 0 { first } else { k.add(first, u * plan.positions_per_block()) })
            .collect();
        k.comment("beyond the end the last position is read and its weight is 0");
        let read: Vec<_> = positions.iter().map(|&position| k.min(position, last)).collect();
        let mut load = |cache| -> Vec<_> {
            let row = |&position| {
                let row = k.ptr_index(cache, position, head_dim * 4);
                lanes.load(k, row, 0)
            };
            read.iter().map(row).collect()
        };
        let (keys, values) = (load(keys), load(values));
        let valid: Vec<_> = positions.iter().map(|&position| k.lt(position, rows.length)).collect();
        for (head, query) in heads.iter().zip(&queries) {
            let scores: Vec<_> = keys
                .iter()
                .zip(&valid)
                .map(|(key, &valid)| {
                    let score = dot(k, query, key, plan);
                    k.selp(valid, score, f32::NEG_INFINITY)
                })
                .collect();
            head.add(k, &scores, &values);
        }
    });
    heads
}

/// The scalar product of this lane set's chunks, in all of its lanes.
fn dot(k: &mut KernelBuilder, a: &[[Reg<F32>; 4]], b: &[[Reg<F32>; 4]], plan: Plan) -> Reg<F32> {
    let mut pairs = a.iter().flatten().zip(b.iter().flatten());
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
    /// Takes in some positions: their scores, and the lane's chunks of their values.
    fn add(&self, k: &mut KernelBuilder, scores: &[Reg<F32>], values: &[Vec<[Reg<F32>; 4]>]) {
        let old = k.get(self.max);
        let max = scores.iter().fold(old, |max, &score| k.max(max, score));
        let below = k.sub(old, max);
        let factor = k.ex2_approx(below);
        k.set(self.max, max);
        k.update(self.sum, |k, sum| k.mul(sum, factor));
        for &acc in self.acc.iter().flatten() {
            k.update(acc, |k, acc| k.mul(acc, factor));
        }
        for (&score, value) in scores.iter().zip(values) {
            let below = k.sub(score, max);
            let weight = k.ex2_approx(below);
            k.update(self.sum, |k, sum| k.add(sum, weight));
            for (&acc, &v) in self.acc.iter().flatten().zip(value.iter().flatten()) {
                k.update(acc, |k, acc| k.fma(weight, v, acc));
            }
        }
    }
}
