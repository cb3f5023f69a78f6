//! Grouped-query attention over the cache.

mod conformance;
mod emit;
mod lanes;
mod matrix;
mod partials;
mod peers;
mod plan;
mod prompt;
mod results;
mod splits;

use ptx_builder::{Module, Target};

use self::matrix::ring;
use self::partials::Partials;
use self::plan::Plan;
use self::splits::Splits;
use crate::cache::Cache;
use crate::kernel::LEAST_SHARED;
use crate::support::{counter_param, dim, extent, f32_param, refuse, scratch_param, u32_param};
use crate::{Access, CacheShape, Cost, Kernel, KernelError, LaunchGeometry, Param, shared_memory};

pub use self::prompt::PromptAttention;
pub(crate) use conformance::{cases, catalogue, invariances, prompt_cases};

const FAMILY: &str = "attention";

/// Row `r` attends to positions `0..=positions[r]` of sequence `sequences[r]`:
/// `y[r, h] = sum_p softmax_p(scale * q[r, h] . k[p]) v[p]`, where head `h` reads the keys and values of head
/// `h / (n_heads / n_kv_heads)`.
///
/// Positions are divided into chunks: all of a short row is one, otherwise a chunk has 64, or 128 in clusters of many
/// heads, or more where a row is so long that there would be more chunks than a GPU has use for. A block does one row,
/// the query heads of one key head (eight at most), which share every key and value they read, and one chunk, or in a
/// large batch several. Its warps take positions in turn, with an online softmax each (Milakov and Gimelshein, 2018),
/// and are combined at the end in a fixed order. Where a row has several chunks, their parts are left in `scratch`, and
/// the last block to do so combines them, also in a fixed order; [clusters](Self::on) do without. Chunks depend on the
/// row's length, so the result of a row depends on nothing but that row. A position or sequence outside the cache gives
/// a row of NaNs; nothing outside the cache is read.
///
/// Products with caches of F16, BF16 and F8E4M3 are done by tensor cores, with queries and weights as sums of two f16, or of
/// three bfloat16, and sums in f32, which is as exact as f32 is. Queries beyond 65,504, the largest f16, give NaNs where
/// they are f16. Where kernels start before their predecessors end, keys and values are fetched into the cache meanwhile.
///
/// Parameters: `q` `[rows, n_heads * head_dim]` f32, `k_cache` and `v_cache` (see [`CacheShape`]), `positions` and
/// `sequences` `[rows]` u32, `y` like `q`; `y` may be `q`. Where rows can have several chunks without clusters, then
/// `scratch` and `counters` ([`Access::Scratch`], [`Access::Counter`]).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    cache: Cache,
    rows: u32,
    n_heads: u32,
    scale: f32,
    plan: Plan,
    splits: Splits,
    /// Bytes of shared memory that a block may have.
    shared: u32,
}

impl Attention {
    /// The largest `head_dim`.
    pub const MAX_HEAD_DIM: usize = 256;

    /// The kernel for `rows` rows of `n_heads` query heads. `scale` is usually `1 / sqrt(head_dim)`.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] if `n_heads` is not a multiple of the cache's `n_kv_heads`, if a
    /// position of a head is not a whole number of 16-byte loads, if `head_dim` exceeds
    /// [`MAX_HEAD_DIM`](Self::MAX_HEAD_DIM), if `scale` is not finite, or for a dimension of 0.
    pub fn new(cache: CacheShape, rows: usize, n_heads: usize, scale: f32) -> Result<Self, KernelError> {
        if !scale.is_finite() {
            return Err(refuse(FAMILY, format!("scale is {scale}")));
        }
        let cache = Cache::new(FAMILY, cache)?;
        let (head_dim, piece, max) = (cache.head_dim, 16 / cache.stored.bytes(), Self::MAX_HEAD_DIM);
        if !head_dim.is_multiple_of(piece) || head_dim as usize > max {
            let reason = format!("head_dim is {head_dim}, it must be a multiple of {piece} up to {max}");
            return Err(refuse(FAMILY, reason));
        }
        let (rows, n_heads) = (dim(FAMILY, "rows", rows)?, dim(FAMILY, "n_heads", n_heads)?);
        if !n_heads.is_multiple_of(cache.n_kv_heads) {
            let reason = format!("{n_heads} heads do not share {} key heads evenly", cache.n_kv_heads);
            return Err(refuse(FAMILY, reason));
        }
        extent(FAMILY, "q", &[rows, n_heads, cache.head_dim])?;
        let plan = Plan::new(n_heads / cache.n_kv_heads, head_dim, cache.stored);
        let splits = Splits::new(cache.max_seq, rows, n_heads / plan.heads());
        extent(FAMILY, "scratch", &[rows, n_heads, splits.chunks, head_dim + 2])?;
        let kernel = Self { cache, rows, n_heads, scale, plan, splits, shared: 0 };
        if u64::from(rows) * u64::from(kernel.sets()) >= 1 << 31 {
            return Err(refuse(FAMILY, format!("{rows} rows of {n_heads} heads are too many blocks")));
        }
        Ok(kernel)
    }

    /// The same with keys and values copied in the background, if tensor cores multiply them and `bytes` of shared memory
    /// for a block, more than every device of compute capability 8.0 and later has, have room for enough of them; results
    /// are the same to the bit.
    #[must_use]
    pub fn within(self, bytes: u32) -> Self {
        Self { shared: bytes, ..self }
    }

    /// The same for devices of `target`: [within](Self::within) what their blocks have of shared memory, and from sm_90 on
    /// with the blocks of a row in clusters, which put its parts together in shared memory, where this is expected to be
    /// faster. With clusters results differ in their last bits, as chunks do.
    #[must_use]
    pub fn on(self, target: Target) -> Self {
        let kernel = self.within(shared_memory(target));
        if target >= Target::SM_90 { kernel.clustered() } else { kernel }
    }

    fn clustered(self) -> Self {
        let splits = Splits::clustered(self.cache.max_seq, self.rows, self.sets());
        Self { splits: splits.unwrap_or(self.splits), ..self }
    }

    /// The same with one block for all positions of a row and its heads, however many they are: it has neither scratch
    /// nor counters, so that launches may overlap.
    #[must_use]
    pub fn unsplit(self) -> Self {
        Self { splits: Splits::WHOLE, ..self }
    }

    /// Slots of a warp's ring; `None` if keys and values are loaded straight into registers.
    fn slots(&self) -> Option<u32> {
        match self.plan {
            // With so little a ring would be all that a processor has room for.
            Plan::Matrix(_) if self.shared <= LEAST_SHARED => None,
            Plan::Matrix(plan) => {
                let features = if self.splits.one_each() { 0 } else { plan.feature_bytes() };
                let others = features + plan.shared_bytes() + self.peers_bytes();
                ring::slots(self, self.shared.saturating_sub(others))
            }
            Plan::Lanes(_) => None,
        }
    }

    /// Whether warps leave their results in their rings, which a block's only chunk has no more use for.
    fn results_in_rings(&self) -> bool {
        self.splits.one_each() && self.slots().is_some()
    }

    fn ring_bytes(&self) -> u32 {
        self.slots().map_or(0, |slots| ring::bytes(self, slots))
    }

    fn peers_bytes(&self) -> u32 {
        if self.splits.clustered { peers::bytes(self) } else { 0 }
    }

    /// Whether the parts of a row meet in global memory.
    fn meets_in_global(&self) -> bool {
        self.splits.several() && !self.splits.clustered
    }

    /// What the kernel computes, in f64.
    ///
    /// # Panics
    /// If the slices do not have the lengths of the parameters.
    pub fn reference(&self, inputs: AttentionInputs<'_>) -> Vec<f64> {
        let AttentionInputs { q, k_cache, v_cache, positions, sequences } = inputs;
        assert_eq!(q.len() as u64, self.elements());
        assert_eq!(
            (k_cache.len() as u64, v_cache.len() as u64),
            (self.cache.elements(), self.cache.elements())
        );
        assert_eq!((positions.len(), sequences.len()), (self.rows as usize, self.rows as usize));
        let (head_dim, n_heads) = (self.cache.head_dim as usize, self.n_heads as usize);
        let mut y = Vec::with_capacity(q.len());
        for (index, q) in q.chunks(head_dim).enumerate() {
            let (row, head) = (index / n_heads, (index % n_heads) as u32);
            let kv_head = head / (self.n_heads / self.cache.n_kv_heads);
            let last = self.cache.index(sequences[row], kv_head, positions[row]);
            let first = self.cache.index(sequences[row], kv_head, 0);
            let (Some(first), Some(last)) = (first, last) else {
                y.extend(std::iter::repeat_n(f64::NAN, head_dim));
                continue;
            };
            let keys = k_cache[first..last + head_dim].chunks(head_dim);
            let dot = |k: &[f32]| q.iter().zip(k).map(|(&q, &k)| f64::from(q) * f64::from(k)).sum::<f64>();
            let scores: Vec<f64> = keys.map(|k| f64::from(self.scale) * dot(k)).collect();
            let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<f64> = scores.iter().map(|s| (s - max).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let mut out = vec![0.0; head_dim];
            for (weight, v) in weights.iter().zip(v_cache[first..].chunks(head_dim)) {
                for (out, &v) in out.iter_mut().zip(v) {
                    *out += weight / sum * f64::from(v);
                }
            }
            y.extend(out);
        }
        y
    }

    /// Sets of heads of a row that blocks do apart.
    fn sets(&self) -> u32 {
        self.n_heads / self.plan.heads()
    }

    fn elements(&self) -> u64 {
        u64::from(self.rows) * u64::from(self.n_heads) * u64::from(self.cache.head_dim)
    }
}

/// The parameters of a kernel with queries of so many elements.
fn tensors(cache: &Cache, rows: u32, elements: u64) -> Vec<Param> {
    let (element, bytes) = (cache.stored.element(), cache.bytes());
    let cache = |name| Param { name, access: Access::Read, element, bytes, align: 16 };
    vec![
        f32_param("q", Access::Read, elements, 16),
        cache("k_cache"),
        cache("v_cache"),
        u32_param("positions", rows.into()),
        u32_param("sequences", rows.into()),
        f32_param("y", Access::Write, elements, 16),
    ]
}

/// What [`Attention::reference`] reads: the kernel's parameters.
#[derive(Debug, Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// Queries `[rows, n_heads * head_dim]`.
    pub q: &'a [f32],
    /// The values of the key cache.
    pub k_cache: &'a [f32],
    /// The values of the value cache.
    pub v_cache: &'a [f32],
    /// The last position that each row attends to.
    pub positions: &'a [u32],
    /// The sequence of each row.
    pub sequences: &'a [u32],
}

impl Kernel for Attention {
    fn name(&self) -> String {
        let (heads, scale, rows, cache) = (self.n_heads, self.scale.to_bits(), self.rows, self.cache.name());
        let element = self.cache.stored.name();
        let whole = if self.splits == Splits::WHOLE { "_unsplit" } else { "" };
        let blocks = self.splits.blocks;
        let cluster = if self.splits.clustered { format!("_cluster{blocks}") } else { String::new() };
        let ring = self.slots().map_or_else(String::new, |slots| format!("_ring{slots}"));
        format!("attention_{element}_h{heads}_{cache}_b{rows}_s{scale:08x}{whole}{cluster}{ring}")
    }

    fn params(&self) -> Vec<Param> {
        let mut params = tensors(&self.cache, self.rows, self.elements());
        if self.meets_in_global() {
            params.push(scratch_param("scratch", Partials::elements(self)));
            params.push(counter_param("counters", u64::from(self.rows) * u64::from(self.sets())));
        }
        params
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry {
            grid: [self.rows * self.sets(), self.splits.blocks, 1],
            block: [self.plan.threads(), 1, 1],
            dynamic_shared: self.ring_bytes() + self.peers_bytes(),
        }
    }

    fn min_target(&self) -> Target {
        let reads = self.cache.stored.reads_from();
        let large = self.slots().is_some() || self.splits.clustered;
        if large { reads.max(ring::MIN_TARGET) } else { reads }
    }

    fn cost(&self, context: u64) -> Cost {
        let rows = u64::from(self.rows);
        let context = context.min(self.cache.max_seq.into());
        let head_dim = u64::from(self.cache.head_dim);
        let cached = 2 * rows * context * self.cache.row() * u64::from(self.cache.stored.bytes());
        // Two multiply-adds for each feature; scale, maximum, exponential and sum for each score.
        let per_head = context * (4 * head_dim + 4) + head_dim;
        Cost {
            bytes_read: self.elements() * 4 + rows * 8 + cached,
            bytes_written: self.elements() * 4,
            operations: rows * u64::from(self.n_heads) * per_head,
        }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        emit::emit(self, target)
    }
}
