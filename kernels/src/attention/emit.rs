//! The PTX of attention.

use ptx_builder::{ArrayRef, F32, KernelBuilder, Module, Pred, Reg, Target, U32, U64, Var};

use super::Attention;
use super::plan::Plan;
use crate::KernelError;
use crate::emit::{self, LOG2_E, split};
use crate::support::WARP;

pub(super) fn emit(kernel: &Attention, target: Target) -> Result<Module, KernelError> {
    emit::module(kernel, target, |k, [q, k_cache, v_cache, positions, sequences, y]| {
        let place = Place::find(k, kernel, positions, sequences);
        let q = place.head(k, kernel, q);
        let y = place.head(k, kernel, y);
        let [keys, values] = [k_cache, v_cache].map(|cache| place.cached_head(k, kernel, cache));
        let lanes = Lanes::new(k, kernel, place.thread);
        let state = State::attend(k, kernel, &lanes, Rows { q, keys, values, length: place.length });
        let shared = Shared::new(k, kernel);
        state.combine_warp(k, kernel, &lanes, shared);
        k.barrier();
        shared.write_out(k, kernel, place.thread, y);
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
#[derive(Debug)]
struct Lanes {
    warp: Reg<U32>,
    /// The lane among those that share a position.
    lane: Reg<U32>,
    /// The first position that this thread's lanes take.
    slot: Reg<U32>,
    /// The first slot of the warp.
    warp_slot: Reg<U32>,
    /// Byte offset within a head of each of the lane's chunks. A chunk beyond the head points to chunk 0; what is computed
    /// from it is not used.
    chunks: Vec<Reg<U64>>,
    /// Whether the last chunk lies within the head, where that differs between lanes.
    last_chunk: Option<Pred>,
}

impl Lanes {
    fn new(k: &mut KernelBuilder, kernel: &Attention, thread: Reg<U32>) -> Self {
        let plan = kernel.plan;
        let warp = k.shr(thread, 5);
        let lane = k.and(thread, plan.lanes - 1);
        let slot = k.shr(thread, plan.lanes.ilog2());
        let warp_slot = k.mul(warp, plan.positions_per_warp());
        let row_chunks = kernel.cache.head_dim / 4;
        let mut last_chunk = None;
        let chunks = (0..plan.chunks)
            .map(|chunk| {
                let mut index = k.add(lane, chunk * plan.lanes);
                if (chunk + 1) * plan.lanes > row_chunks {
                    let inside = k.lt(index, row_chunks);
                    index = k.selp(inside, index, 0);
                    last_chunk = Some(inside);
                }
                k.mul_wide(index, 16)
            })
            .collect();
        Self { warp, lane, slot, warp_slot, chunks, last_chunk }
    }

    /// All chunks of the row at `row`, four values each.
    fn load(&self, k: &mut KernelBuilder, row: Reg<U64>) -> Vec<[Reg<F32>; 4]> {
        let load = |&chunk| {
            let at = k.add(row, chunk);
            k.ld_global_v4::<F32>(at)
        };
        self.chunks.iter().map(load).collect()
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
struct Head {
    /// The largest score, in units of log 2.
    max: Var<F32>,
    /// The sum of `2^(score - max)`.
    sum: Var<F32>,
    /// The values weighted likewise; the lane's chunks.
    acc: Vec<[Var<F32>; 4]>,
}

#[derive(Debug)]
struct State {
    heads: Vec<Head>,
}

impl State {
    /// The online softmax over this thread's positions.
    fn attend(k: &mut KernelBuilder, kernel: &Attention, lanes: &Lanes, rows: Rows) -> Self {
        let (plan, head_dim) = (kernel.plan, kernel.cache.head_dim);
        k.comment("queries, scaled so that a score is an exponent of 2");
        let queries: Vec<Vec<[Reg<F32>; 4]>> = (0..plan.heads)
            .map(|head| {
                let row = k.add(rows.q, u64::from(head * head_dim * 4));
                let mut query = lanes.load(k, row);
                for v in query.iter_mut().flatten() {
                    *v = k.mul(*v, kernel.scale * LOG2_E);
                }
                if let (Some(inside), Some(last)) = (lanes.last_chunk, query.last_mut()) {
                    *last = last.map(|v| k.selp(inside, v, 0.0));
                }
                query
            })
            .collect();
        let heads = (0..plan.heads)
            .map(|_| Head {
                // Finite, so that "nothing yet" minus "nothing yet" is 0.
                max: k.var::<F32>(f32::MIN),
                sum: k.var::<F32>(0.0),
                acc: (0..plan.chunks).map(|_| [(); 4].map(|()| k.var::<F32>(0.0))).collect(),
            })
            .collect();
        let state = Self { heads };

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
            let offsets: Vec<Reg<U64>> = positions
                .iter()
                .map(|&position| {
                    let position = k.min(position, last);
                    k.mul_wide(position, head_dim * 4)
                })
                .collect();
            let mut load = |base| -> Vec<_> {
                let row = |&offset| {
                    let row = k.add(base, offset);
                    lanes.load(k, row)
                };
                offsets.iter().map(row).collect()
            };
            let (keys, values) = (load(rows.keys), load(rows.values));
            let valid: Vec<_> = positions.iter().map(|&position| k.lt(position, rows.length)).collect();
            for (head, query) in state.heads.iter().zip(&queries) {
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
        state
    }

    /// Combines the lanes of the warp that hold the same chunks, and puts the result into shared memory.
    fn combine_warp(&self, k: &mut KernelBuilder, kernel: &Attention, lanes: &Lanes, shared: Shared) {
        let plan = kernel.plan;
        k.comment("combine the positions of the warp");
        let other_lanes: Vec<u32> = (plan.lanes.ilog2()..WARP.ilog2()).map(|bit| 1 << bit).collect();
        let first_of_warp = k.eq(lanes.slot, lanes.warp_slot);
        for (index, head) in (0..).zip(&self.heads) {
            let mut max = k.get(head.max);
            for &lanes in &other_lanes {
                let other = k.shfl_bfly(max, lanes);
                max = k.max(max, other);
            }
            let below = k.sub(head.max, max);
            let factor = k.ex2_approx(below);
            let total = |k: &mut KernelBuilder, part: Var<F32>| {
                let mut total = k.mul(part, factor);
                for &lanes in &other_lanes {
                    let other = k.shfl_bfly(total, lanes);
                    total = k.add(total, other);
                }
                total
            };
            let sum = total(k, head.sum);
            let acc: Vec<_> = head.acc.iter().map(|chunk| chunk.map(|part| total(k, part))).collect();
            shared.put(k, kernel, lanes, first_of_warp, Partial { index, max, sum, acc });
        }
    }
}

/// One head of one warp.
#[derive(Debug)]
struct Partial {
    index: u32,
    max: Reg<F32>,
    sum: Reg<F32>,
    acc: Vec<[Reg<F32>; 4]>,
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

/// Where the warps leave their results.
#[derive(Debug, Clone, Copy)]
struct Shared {
    /// `[warps, heads, head_dim]`
    acc: ArrayRef<F32>,
    /// `[warps, heads]`
    max: ArrayRef<F32>,
    /// `[warps, heads]`
    sum: ArrayRef<F32>,
}

impl Shared {
    fn new(k: &mut KernelBuilder, kernel: &Attention) -> Self {
        let entries = Plan::WARPS * kernel.plan.heads;
        Self {
            acc: k.shared::<F32>("acc", entries * kernel.cache.head_dim),
            max: k.shared::<F32>("max", entries),
            sum: k.shared::<F32>("sum", entries),
        }
    }

    fn put(
        self,
        k: &mut KernelBuilder,
        kernel: &Attention,
        lanes: &Lanes,
        first_of_warp: Pred,
        partial: Partial,
    ) {
        let entry = k.mad(lanes.warp, kernel.plan.heads, partial.index);
        let max_at = k.shared_index(self.max, entry);
        let sum_at = k.shared_index(self.sum, entry);
        let leader = k.eq(lanes.lane, 0);
        let leader = k.and_pred(leader, first_of_warp);
        k.guarded(leader, |k| {
            k.st_shared::<F32>(max_at, partial.max);
            k.st_shared::<F32>(sum_at, partial.sum);
        });
        let acc = k.shared_base(self.acc);
        let acc = k.mad(entry, kernel.cache.head_dim * 4, acc);
        let acc = k.mad(lanes.lane, 16, acc);
        for (chunk, &values) in (0..).zip(&partial.acc) {
            let mut writes = first_of_warp;
            if let Some(inside) = lanes.last_chunk.filter(|_| chunk + 1 == kernel.plan.chunks) {
                writes = k.and_pred(writes, inside);
            }
            let at = acc + (chunk * kernel.plan.lanes * 16) as i32;
            k.guarded(writes, |k| k.st_shared_v4::<F32>(at, values));
        }
    }

    /// One thread for four features: the sums of all warps, brought to one maximum.
    fn write_out(self, k: &mut KernelBuilder, kernel: &Attention, thread: Reg<U32>, y: Reg<U64>) {
        let (heads, head_dim) = (kernel.plan.heads, kernel.cache.head_dim);
        let outputs = heads * head_dim / 4;
        if outputs < Plan::THREADS {
            let beyond = k.ge(thread, outputs);
            k.ret_if(beyond);
        }
        k.comment("combine the warps");
        let (head, _) = split(k, thread, outputs.into(), head_dim / 4);
        let max_at = k.shared_index(self.max, head);
        let sum_at = k.shared_index(self.sum, head);
        let stride = (heads * 4) as i32;
        let maxima: Vec<_> =
            (0..Plan::WARPS as i32).map(|warp| k.ld_shared::<F32>(max_at + warp * stride)).collect();
        let max = maxima[1..].iter().fold(maxima[0], |max, &other| k.max(max, other));

        let acc = k.shared_base(self.acc);
        let acc = k.mad(thread, 16, acc);
        let sum = k.var::<F32>(0.0);
        let out = [(); 4].map(|()| k.var::<F32>(0.0));
        for (warp, &part) in (0i32..).zip(&maxima) {
            let below = k.sub(part, max);
            let factor = k.ex2_approx(below);
            let part = k.ld_shared::<F32>(sum_at + warp * stride);
            k.update(sum, |k, sum| k.fma(part, factor, sum));
            let values = k.ld_shared_v4::<F32>(acc + warp * (heads * head_dim * 4) as i32);
            for (out, v) in out.into_iter().zip(values) {
                k.update(out, |k, out| k.fma(v, factor, out));
            }
        }
        let norm = k.rcp(sum);
        let out = out.map(|v| k.mul(v, norm));
        let at = k.ptr_index(y, thread, 16);
        k.st_global_v4::<F32>(at, out);
    }
}
