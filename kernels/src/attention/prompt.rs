//! Attention of many rows at once: what a prompt needs.

use ptx_builder::{
    ArrayRef, B32, F32, FULL_WARP, KernelBuilder, MmaShape, Module, Pred, Reg, S32, Target, U32, U64, Var,
};

use super::{Attention, AttentionInputs, tensors};
use crate::cache::Cache;
use crate::emit::{self, LOG2_E};
use crate::stored::Stored;
use crate::support::{WARP, dim, extent, refuse};
use crate::{CacheShape, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "prompt_attention";

/// Warps of a block.
const WARPS: u32 = 4;

const THREADS: u32 = WARPS * WARP;

/// Queries of a warp: the rows of a product.
const WARP_QUERIES: u32 = 16;

/// Queries of a block.
const QUERIES: u32 = WARPS * WARP_QUERIES;

/// Positions whose keys and values are in shared memory together.
const TILE: u32 = 64;

/// Tiles that are there at a time: one that is used, and one on its way.
const STAGES: u32 = 2;

/// No sequence.
const NONE: u32 = u32::MAX;

/// [`Attention`] of many rows, with caches in F16: queries of neighbouring rows and of heads that share their keys are the
/// rows of a product, so that these are read once for 64 of them (Dao, "FlashAttention-2", 2023).
///
/// Queries and weights are rounded to f16. Rows may be of several sequences; a block takes one of these after the other. What
/// is no number at a position up to that of the last row of a block and a sequence makes results of the block NaNs.
///
/// Parameters: those of [`Attention`] without scratch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PromptAttention {
    cache: Cache,
    rows: u32,
    n_heads: u32,
    scale: f32,
}

impl PromptAttention {
    /// The kernel for `rows` rows of `n_heads` query heads.
    ///
    /// # Errors
    /// As [`Attention::new`]; and for caches of another type than F16, or of heads that have neither 64 nor 128 features.
    pub fn new(cache: CacheShape, rows: usize, n_heads: usize, scale: f32) -> Result<Self, KernelError> {
        // What it refuses, this does, too.
        Attention::new(cache, rows, n_heads, scale)?;
        let cache = Cache::new(FAMILY, cache)?;
        if cache.stored != Stored::F16 || ![64, 128].contains(&cache.head_dim) {
            let (features, stored) = (cache.head_dim, cache.stored.name());
            return Err(refuse(FAMILY, format!("heads of {features} features in {stored}")));
        }
        let (rows, n_heads) = (dim(FAMILY, "rows", rows)?, dim(FAMILY, "n_heads", n_heads)?);
        let kernel = Self { cache, rows, n_heads, scale };
        extent(FAMILY, "queries", &[rows, n_heads, cache.head_dim])?;
        if u64::from(rows) * u64::from(n_heads) >= 1 << 31 {
            return Err(refuse(FAMILY, format!("{rows} rows of {n_heads} heads")));
        }
        Ok(kernel)
    }

    /// What the kernel computes, in f64.
    ///
    /// # Errors
    /// None for the shapes of this kernel.
    ///
    /// # Panics
    /// As [`Attention::reference`].
    pub fn reference(&self, inputs: AttentionInputs<'_>) -> Result<Vec<f64>, KernelError> {
        let Cache { n_sequences, n_kv_heads, max_seq, head_dim, stored } = self.cache;
        let [n_sequences, n_kv_heads, max_seq, head_dim] =
            [n_sequences, n_kv_heads, max_seq, head_dim].map(|n| n as usize);
        let cache = CacheShape { n_sequences, n_kv_heads, max_seq, head_dim, element: stored.element() };
        let same = Attention::new(cache, self.rows as usize, self.n_heads as usize, self.scale)?;
        Ok(same.reference(inputs))
    }

    /// Heads that share a key head.
    const fn group(&self) -> u32 {
        self.n_heads / self.cache.n_kv_heads
    }

    /// Queries that share a key head.
    const fn queries(&self) -> u32 {
        self.rows * self.group()
    }

    /// Bytes of a position of a head.
    const fn line(&self) -> u32 {
        self.cache.head_dim * 2
    }

    const fn tile_bytes(&self) -> u32 {
        TILE * self.line()
    }

    fn elements(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.n_heads) * u64::from(self.cache.head_dim)
    }

    fn build(&self, k: &mut KernelBuilder, tensors: [Reg<U64>; 6]) {
        let [q, keys, values, positions, sequences, y] = tensors;
        let cache = self.cache;
        let block = k.ctaid_x();
        let blocks = self.queries().div_ceil(QUERIES);
        let all = u64::from(blocks) * u64::from(cache.n_kv_heads);
        let (index, kv_head) = emit::split(k, block, all, cache.n_kv_heads);
        k.comment("the last queries attend to most, and come first");
        let index = k.sub(blocks - 1, index);
        let first = k.mul(index, QUERIES);
        let (warp, lane) = emit::warp_and_lane(k);
        let (g, t) = (k.shr(lane, 2), k.and(lane, 3));
        let of_warp = k.mad(warp, WARP_QUERIES, first);
        let of_warp = k.add(of_warp, g);
        let own = [0, 8].map(|next| {
            let query = k.add(of_warp, next);
            Query::new(k, self, (query, kv_head), (positions, sequences))
        });
        let queries = own.map(|own| own.fragments(k, self, q, t));
        let rows = Rows::new(k, self, first, (positions, sequences), lane);
        let shared = k.dynamic_shared(128);
        let state = State::new(k, self);
        let tiles = Tiles::new(k, self, shared, lane);
        let least = rows.next(k, None);
        let (least, last) = rows.agree(k, least);
        let (sequence, last) = (k.named_var::<U32>("sequence", least), k.named_var::<U32>("last", last));
        k.while_(
            |k| k.ne(sequence, NONE),
            |k| {
                let (current, own_last) = (k.get(sequence), last);
                let last = k.get(last);
                let head = k.mad(current, cache.n_kv_heads, kv_head);
                let head_bytes = cache.head_elements() * 2;
                let head = k.widen(head);
                let [keys, values] = [keys, values].map(|cache| k.mad(head, head_bytes, cache));
                let limits = own.map(|own| own.limit(k, current));
                let start = k.imm::<U32>(0);
                tiles.copy(k, (keys, values), start, last);
                k.cp_async_commit();
                let n_tiles = k.shr(last, TILE.ilog2());
                let n_tiles = k.add(n_tiles, 1);
                k.for_range(0u32, n_tiles, 1u32, |k, tile| {
                    let next = k.add(tile, 1);
                    let further = k.lt(next, n_tiles);
                    k.if_(further, |k| tiles.copy(k, (keys, values), next, last));
                    k.cp_async_commit();
                    k.cp_async_wait(STAGES - 1);
                    k.barrier();
                    let column = k.mul(tile, TILE);
                    let column = k.mad(t, 2, column);
                    let limits = limits.map(|limit| k.sub(limit, column.cast::<S32>()));
                    let stage = k.and(tile, STAGES - 1);
                    let scores = tiles.scores(k, stage, &queries);
                    let weights = state.weigh(k, scores, limits, self.scale * LOG2_E);
                    tiles.add_values(k, stage, &weights, &state);
                    k.barrier();
                });
                let next = rows.next(k, Some(current));
                let (next, last) = rows.agree(k, next);
                k.set(sequence, next);
                k.set(own_last, last);
            },
        );
        for (row, own) in own.into_iter().enumerate() {
            state.store(k, row, own, (self, y, t));
        }
    }
}

/// One of the two queries of a lane.
#[derive(Debug, Clone, Copy)]
struct Query {
    exists: Pred,
    /// The row's and the head's place among all queries.
    place: Reg<U32>,
    position: Reg<U32>,
    sequence: Reg<U32>,
    /// Whether the row is in the cache.
    inside: Pred,
}

impl Query {
    /// Number `query` of those of a key head; one that does not exist is the last one.
    fn new(
        k: &mut KernelBuilder,
        kernel: &PromptAttention,
        (query, kv_head): (Reg<U32>, Reg<U32>),
        (positions, sequences): (Reg<U64>, Reg<U64>),
    ) -> Self {
        let exists = k.lt(query, kernel.queries());
        let query = k.min(query, kernel.queries() - 1);
        let (row, head) = emit::split(k, query, kernel.queries().into(), kernel.group());
        let head = k.mad(kv_head, kernel.group(), head);
        let [position, sequence] = [positions, sequences].map(|of_rows| {
            let at = k.ptr_index(of_rows, row, 4);
            k.ld_global::<U32>(at)
        });
        let inside = inside(k, kernel, position, sequence);
        Self { exists, place: k.mad(row, kernel.n_heads, head), position, sequence, inside }
    }

    /// Half a fragment for each sixteen features: pairs from `2 t` on, and from `2 t + 8`.
    fn fragments(
        self,
        k: &mut KernelBuilder,
        kernel: &PromptAttention,
        q: Reg<U64>,
        t: Reg<U32>,
    ) -> Vec<[Reg<B32>; 2]> {
        let at = k.ptr_index(q, self.place, kernel.cache.head_dim * 4);
        let at = k.ptr_index(at, t, 8);
        let pair = |k: &mut KernelBuilder, feature: u32| {
            let [a, b] = k.ld_global_v2::<F32>(at + (feature * 4) as i32);
            k.cvt_f16x2(a, b).cast::<B32>()
        };
        let steps = (0..kernel.cache.head_dim).step_by(16);
        steps.map(|feature| [pair(k, feature), pair(k, feature + 8)]).collect()
    }

    /// The last position that the query attends to in `sequence`; -1 for none.
    fn limit(self, k: &mut KernelBuilder, sequence: Reg<U32>) -> Reg<S32> {
        let here = k.eq(self.sequence, sequence);
        let here = k.and_pred(here, self.inside);
        k.selp::<S32>(here, self.position.cast::<S32>(), -1)
    }
}

fn inside(k: &mut KernelBuilder, kernel: &PromptAttention, position: Reg<U32>, sequence: Reg<U32>) -> Pred {
    let position = k.lt(position, kernel.cache.max_seq);
    let sequence = k.lt(sequence, kernel.cache.n_sequences);
    k.and_pred(position, sequence)
}

/// The rows of a block, up to 64: two for each lane, the last one repeated.
struct Rows {
    /// Sequences, [`NONE`] for rows outside of the cache, and positions.
    own: [(Reg<U32>, Reg<U32>); 2],
    /// A sequence, and the last position of its rows.
    agreed: ArrayRef<U32>,
}

impl Rows {
    fn new(
        k: &mut KernelBuilder,
        kernel: &PromptAttention,
        first: Reg<U32>,
        (positions, sequences): (Reg<U64>, Reg<U64>),
        lane: Reg<U32>,
    ) -> Self {
        let most = kernel.queries();
        let last = k.add(first, QUERIES - 1);
        let last = k.min(last, most - 1);
        let [first, last] =
            [first, last].map(|query| emit::quotient_below(k, query, most.into(), kernel.group()));
        let own = [0, WARP].map(|next| {
            let row = k.add(first, lane);
            let row = k.add(row, next);
            let row = k.min(row, last);
            let [position, sequence] = [positions, sequences].map(|of_rows| {
                let at = k.ptr_index(of_rows, row, 4);
                k.ld_global::<U32>(at)
            });
            let inside = inside(k, kernel, position, sequence);
            (k.selp(inside, sequence, NONE), position)
        });
        Self { own, agreed: k.shared::<U32>("agreed", 2) }
    }

    /// The smallest sequence, above `before` if that is given; [`NONE`] if there is none.
    fn next(&self, k: &mut KernelBuilder, before: Option<Reg<U32>>) -> Reg<U32> {
        let own = self.own.map(|(sequence, _)| match before {
            None => sequence,
            Some(before) => {
                let above = k.gt(sequence, before);
                k.selp(above, sequence, NONE)
            }
        });
        let least = k.min(own[0], own[1]);
        k.redux_min::<U32>(least, FULL_WARP)
    }

    /// What all threads of the block go on with, though each warp has found it: `sequence`, and the last position of its rows.
    /// All of them have read what was agreed upon before.
    fn agree(&self, k: &mut KernelBuilder, sequence: Reg<U32>) -> (Reg<U32>, Reg<U32>) {
        let last = self.last(k, sequence);
        let tid = k.tid_x();
        let first = k.eq(tid, 0);
        k.guarded(first, |k| {
            k.st_shared::<U32>(self.agreed, sequence);
            k.st_shared::<U32>(self.agreed + 4, last);
        });
        k.barrier();
        (k.ld_shared::<U32>(self.agreed), k.ld_shared::<U32>(self.agreed + 4))
    }

    /// The last position of the rows of `sequence`.
    fn last(&self, k: &mut KernelBuilder, sequence: Reg<U32>) -> Reg<U32> {
        let own = self.own.map(|(own, position)| {
            let same = k.eq(own, sequence);
            k.selp(same, position, 0)
        });
        let most = k.max(own[0], own[1]);
        k.redux_max::<U32>(most, FULL_WARP)
    }
}

/// Keys and values in shared memory: lines of a position, whose chunks of 16 bytes are exchanged by the number of the line.
struct Tiles {
    line: u32,
    bytes: u32,
    head_dim: u32,
    /// The keys of the first stage; those of the second one follow, then values.
    shared: Reg<U32>,
    /// The thread's first line, and where its chunk is in the tile and in the line.
    own_line: Reg<U32>,
    own_to: Reg<U32>,
    own_from: Reg<U32>,
    /// Of each 32 features: the lane's chunk of a line of keys that `ldmatrix` reads.
    key_chunks: Vec<Reg<U32>>,
    /// Of each 16 features: the same for values.
    value_chunks: Vec<Reg<U32>>,
}

impl Tiles {
    fn new(k: &mut KernelBuilder, kernel: &PromptAttention, shared: Reg<U32>, lane: Reg<U32>) -> Self {
        let (line, head_dim) = (kernel.line(), kernel.cache.head_dim);
        let chunks = line / 16;
        let tid = k.tid_x();
        let (own_line, chunk) = (k.shr(tid, chunks.ilog2()), k.and(tid, chunks - 1));
        let swizzle = k.and(own_line, 7);
        let exchanged = k.xor(chunk, swizzle);
        let own_to = k.mul(exchanged, 16);
        let own_to = k.mad(own_line, line, own_to);
        let own_from = k.mul(chunk, 16);
        // Eight lanes give the lines of a matrix.
        let (of_matrix, matrix) = (k.and(lane, 7), k.shr(lane, 3));
        let row = k.mul(of_matrix, line);
        let key_chunks = (0..head_dim / 32).map(|features| {
            let chunk = k.add(matrix, 4 * features);
            let chunk = k.xor(chunk, of_matrix);
            k.mad(chunk, 16, row)
        });
        let key_chunks = key_chunks.collect();
        let (second, right) = (k.and(matrix, 1), k.shr(matrix, 1));
        let row = k.mad(second, 8 * line, row);
        let value_chunks = (0..head_dim / 16).map(|features| {
            let chunk = k.add(right, 2 * features);
            let chunk = k.xor(chunk, of_matrix);
            k.mad(chunk, 16, row)
        });
        let value_chunks = value_chunks.collect();
        let bytes = kernel.tile_bytes();
        Self { line, bytes, head_dim, shared, own_line, own_to, own_from, key_chunks, value_chunks }
    }

    /// Emits the copies of a tile's keys and values, those of position `last` for what is behind it.
    fn copy(
        &self,
        k: &mut KernelBuilder,
        (keys, values): (Reg<U64>, Reg<U64>),
        tile: Reg<U32>,
        last: Reg<U32>,
    ) {
        let stage = k.and(tile, STAGES - 1);
        let to = k.mad(stage, self.bytes, self.shared);
        let to = k.add(to, self.own_to);
        let lines = THREADS * 16 / self.line;
        let position = k.mad(tile, TILE, self.own_line);
        for round in 0..TILE / lines {
            let position = k.add(position, round * lines);
            let position = k.min(position, last);
            for (index, cache) in (0..).zip([keys, values]) {
                let from = k.ptr_index(cache, position, self.line);
                let from = k.ptr_index(from, self.own_from, 1);
                let at = index * STAGES * self.bytes + round * lines * self.line;
                k.cp_async_cg(to + at as i32, from + 0);
            }
        }
    }

    /// The products of the lane's queries with the keys of a tile, eight positions after the other: two of the first, two of
    /// the second query.
    fn scores(
        &self,
        k: &mut KernelBuilder,
        stage: Reg<U32>,
        queries: &[Vec<[Reg<B32>; 2]>; 2],
    ) -> Vec<[Reg<F32>; 4]> {
        let start = k.mad(stage, self.bytes, self.shared);
        let chunks: Vec<_> = self.key_chunks.iter().map(|&chunk| k.add(start, chunk)).collect();
        let zero = k.imm::<F32>(0.0);
        (0..TILE / 8)
            .map(|eight| {
                let mut sums = [zero; 4];
                for (features, &at) in (0..).step_by(2).zip(&chunks) {
                    let at = at + (eight * 8 * self.line) as i32;
                    let b: [Reg<B32>; 4] = k.ldmatrix(at, false);
                    for (step, b) in (features..).zip([[b[0], b[1]], [b[2], b[3]]]) {
                        let [[a0, a2], [a1, a3]] = [queries[0][step], queries[1][step]];
                        sums = k.mma_f32(MmaShape::M16N8K16F16, [a0, a1, a2, a3], b, sums);
                    }
                }
                sums
            })
            .collect()
    }

    /// Adds the values of a tile, times these weights.
    fn add_values(&self, k: &mut KernelBuilder, stage: Reg<U32>, weights: &[[Reg<F32>; 4]], state: &State) {
        let start = k.mad(stage, self.bytes, self.shared);
        let start = k.add(start, STAGES * self.bytes);
        let chunks: Vec<_> = self.value_chunks.iter().map(|&chunk| k.add(start, chunk)).collect();
        for (sixteen, pair) in (0u32..).zip(weights.as_chunks::<2>().0) {
            let [left, right] = pair;
            let a = [[left[0], left[1]], [left[2], left[3]], [right[0], right[1]], [right[2], right[3]]];
            let a = a.map(|[low, high]| k.cvt_f16x2(low, high).cast::<B32>());
            for (features, &at) in chunks.iter().enumerate() {
                let at = at + (sixteen * 16 * self.line) as i32;
                let b: [Reg<B32>; 4] = k.ldmatrix(at, true);
                for (next, b) in [[b[0], b[1]], [b[2], b[3]]].into_iter().enumerate() {
                    k.mma_f32_acc(MmaShape::M16N8K16F16, a, b, state.sums[2 * features + next]);
                }
            }
        }
        debug_assert_eq!(state.sums.len() as u32 * 8, self.head_dim);
    }
}

/// What a lane knows of the softmax of its two queries so far.
struct State {
    /// The largest score, times log2(e).
    largest: [Var<F32>; 2],
    /// The sum of the lane's weights.
    total: [Var<F32>; 2],
    /// Of each eight features: two of the first, two of the second query.
    sums: Vec<[Var<F32>; 4]>,
}

impl State {
    fn new(k: &mut KernelBuilder, kernel: &PromptAttention) -> Self {
        let mut var = |name: &str, value: f32| k.named_var::<F32>(name, value);
        let largest = [(); 2].map(|()| var("largest", f32::NEG_INFINITY));
        let total = [(); 2].map(|()| var("total", 0.0));
        let sums = (0..kernel.cache.head_dim / 8).map(|_| [(); 4].map(|()| var("sum", 0.0)));
        let sums = sums.collect();
        Self { largest, total, sums }
    }

    /// The weights of a tile's positions: of each query those with a number among the lane's up to its limit.
    fn weigh(
        &self,
        k: &mut KernelBuilder,
        scores: Vec<[Reg<F32>; 4]>,
        limits: [Reg<S32>; 2],
        scale: f32,
    ) -> Vec<[Reg<F32>; 4]> {
        let mut weights = scores;
        for (row, limit) in limits.into_iter().enumerate() {
            let mut largest = k.get(self.largest[row]);
            for (eight, scores) in (0i32..).zip(&mut weights) {
                for (next, score) in (0i32..).zip(&mut scores[2 * row..2 * row + 2]) {
                    let scaled = k.mul(*score, scale);
                    let attends = k.ge(limit, 8 * eight + next);
                    *score = k.selp(attends, scaled, f32::NEG_INFINITY);
                    largest = k.max(largest, *score);
                }
            }
            for lanes in [1, 2] {
                let other = k.shfl_bfly(largest, lanes);
                largest = k.max(largest, other);
            }
            // Of a row that has attended to nothing yet, all weights are 0.
            let nothing = k.eq(largest, f32::NEG_INFINITY);
            let from = k.selp(nothing, 0.0, largest);
            let before = k.get(self.largest[row]);
            let before = k.sub(before, from);
            let shrunk = k.ex2_approx(before);
            k.set(self.largest[row], largest);
            let mut total = k.mul(self.total[row], shrunk);
            for scores in &mut weights {
                for score in &mut scores[2 * row..2 * row + 2] {
                    let below = k.sub(*score, from);
                    *score = k.ex2_approx(below);
                    total = k.add(total, *score);
                }
            }
            k.set(self.total[row], total);
            for sums in &self.sums {
                for &sum in &sums[2 * row..2 * row + 2] {
                    k.update(sum, |k, sum| k.mul(sum, shrunk));
                }
            }
        }
        weights
    }

    /// Stores the results of one of the queries.
    fn store(
        &self,
        k: &mut KernelBuilder,
        row: usize,
        query: Query,
        (kernel, y, t): (&PromptAttention, Reg<U64>, Reg<U32>),
    ) {
        let mut total = k.get(self.total[row]);
        for lanes in [1, 2] {
            let other = k.shfl_bfly(total, lanes);
            total = k.add(total, other);
        }
        let inverse = k.rcp(total);
        k.comment("a row outside of the cache becomes NaNs");
        let inverse = k.selp(query.inside, inverse, f32::NAN);
        let at = k.ptr_index(y, query.place, kernel.cache.head_dim * 4);
        let at = k.ptr_index(at, t, 8);
        for (eight, sums) in (0i32..).zip(&self.sums) {
            let pair = [sums[2 * row], sums[2 * row + 1]].map(|sum| k.mul(sum, inverse));
            k.guarded(query.exists, |k| k.st_global_v2::<F32>(at + 32 * eight, pair));
        }
    }
}

impl Kernel for PromptAttention {
    fn name(&self) -> String {
        let (heads, cache, rows, scale) = (self.n_heads, self.cache.name(), self.rows, self.scale.to_bits());
        format!("{FAMILY}_{}_h{heads}_{cache}_b{rows}_s{scale:08x}", self.cache.stored.name())
    }

    fn params(&self) -> Vec<Param> {
        tensors(&self.cache, self.rows, self.elements())
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry {
            grid: [self.queries().div_ceil(QUERIES) * self.cache.n_kv_heads, 1, 1],
            block: [THREADS, 1, 1],
            dynamic_shared: 2 * STAGES * self.tile_bytes(),
        }
    }

    fn min_target(&self) -> Target {
        // Copies in the background, and reductions of a warp.
        Target::SM_80
    }

    fn cost(&self, context: u64) -> Cost {
        let (rows, head_dim) = (u64::from(self.rows), u64::from(self.cache.head_dim));
        let context = context.min(self.cache.max_seq.into());
        // Rows of one sequence: the last attends to all, the first to as many less as there are rows.
        let attended = rows * context - rows * (rows - 1).min(context) / 2;
        Cost {
            bytes_read: self.elements() * 4 + rows * 8 + 2 * context * self.cache.row() * 2,
            bytes_written: self.elements() * 4,
            operations: u64::from(self.n_heads) * attended * (4 * head_dim + 4),
        }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::module(self, target, |k, pointers| self.build(k, pointers))
    }
}
