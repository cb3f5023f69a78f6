//! How a row's positions are divided among blocks, and how their results become one row.

use ptx_builder::{AtomOp, AtomOrder, Atomic, F32, KernelBuilder, Reg, Scope, U32, U64};

use super::Attention;
use super::combine::Features;
use super::plan::Plan;

/// The division of a row's positions.
///
/// A short row is one chunk. A longer one is cut into chunks of [`CHUNK`](Self::CHUNK) positions, or of as many times
/// that as it takes for [`blocks`](Self::blocks) chunks to suffice. The division depends on the length, and on the number
/// of blocks that the heads of a row make anyway: not on the batch, and not on the size of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Splits {
    /// Blocks for each row and set of heads. Those that find no positions left do nothing.
    pub blocks: u32,
    /// Whether a row may be so long that chunks grow.
    grow: bool,
}

impl Splits {
    /// Positions of the smallest chunk of several, a whole number of steps of any plan.
    pub const CHUNK: u32 = Plan::MAX_STEP;
    /// Positions that one block does alone: another chunk takes it about as long as two blocks take to meet.
    pub const ALONE: u32 = 2 * Self::CHUNK;
    /// Blocks of one row that are enough for a large GPU, which runs one or two of them on each multiprocessor.
    const ENOUGH: u32 = 256;

    /// The division of rows of up to `max_seq` positions, of which `sets` sets of heads are done apart.
    pub fn new(max_seq: u32, sets: u32) -> Self {
        let most = (Self::ENOUGH / sets).clamp(16, 64);
        let chunks = if max_seq <= Self::ALONE { 1 } else { max_seq.div_ceil(Self::CHUNK) };
        Self { blocks: chunks.min(most), grow: chunks > most }
    }

    /// One block for all positions of a row.
    pub const WHOLE: Self = Self { blocks: 1, grow: true };

    /// Whether several blocks may share a row.
    pub const fn several(self) -> bool {
        self.blocks > 1
    }

    /// This block's share of a row of `length` positions, which are at most 2^31. The block ends if there is none; the
    /// first has a share even of a row without positions.
    pub fn share(self, k: &mut KernelBuilder, length: Reg<U32>) -> Share {
        if !self.several() {
            return Share { first: None, end: length, chunks: None };
        }
        k.comment("the block's chunk of the row's positions");
        let split = k.ctaid_y();
        let alone = k.le(length, Self::ALONE);
        let (chunk, chunks) = if self.grow {
            let all = self.blocks * Self::CHUNK;
            let rounded = k.add(length, all - 1);
            let times = k.div(rounded, all);
            let chunk = k.mul(times, Self::CHUNK);
            let chunk = k.selp(alone, Self::ALONE, chunk);
            let rounded = k.add(length, chunk);
            let rounded = k.sub(rounded, 1);
            (chunk, k.div(rounded, chunk))
        } else {
            let rounded = k.add(length, Self::CHUNK - 1);
            let chunks = k.div(rounded, Self::CHUNK);
            (k.selp(alone, Self::ALONE, Self::CHUNK), k.selp(alone, 1, chunks))
        };
        // A row outside the cache has no positions, and its first block says so.
        let chunks = k.max(chunks, 1);
        let chunks = k.name(chunks, "chunks");
        let beyond = k.ge(split, chunks);
        k.ret_if(beyond);
        let first = k.mul(split, chunk);
        let end = k.add(first, chunk);
        let end = k.min(end, length);
        Share { first: Some(first), end, chunks: Some(chunks) }
    }
}

/// The positions of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Share {
    /// The first position, unless it is 0.
    pub first: Option<Reg<U32>>,
    /// One past the last position.
    pub end: Reg<U32>,
    /// The blocks that have a share of the row, if there can be several.
    pub chunks: Option<Reg<U32>>,
}

/// Where blocks leave what they know of their heads, for the one that ends last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Partials {
    /// `[rows, sets, splits, heads, head_dim]` weighted values, then `[rows, sets, splits, heads, 2]` largest scores and
    /// sums of weights.
    pub scratch: Reg<U64>,
    /// `[rows, sets]`: how many blocks have left their part.
    pub counters: Reg<U64>,
}

/// Parts that the last block loads together.
const TOGETHER: u32 = 8;

impl Partials {
    /// Floats of the scratch memory.
    pub fn elements(kernel: &Attention) -> u64 {
        let heads = u64::from(kernel.rows) * u64::from(kernel.n_heads) * u64::from(kernel.splits.blocks);
        heads * (u64::from(kernel.cache.head_dim) + 2)
    }

    /// Leaves the block's part of its row. The last block to do so combines all `chunks` parts, in the order of their
    /// positions, and stores the row from `y` on.
    pub fn combine(
        self,
        k: &mut KernelBuilder,
        kernel: &Attention,
        chunks: Reg<U32>,
        part: &Features,
        y: Reg<U64>,
    ) {
        k.comment("leave the block's part");
        let all = Parts::find(k, kernel, self.scratch, part);
        let split = k.ctaid_y();
        let [values, stats] = all.part(k, split);
        k.guarded(part.stores, |k| k.st_global_v4::<F32>(values, part.values));
        k.guarded(part.leads, |k| k.st_global_v2::<F32>(stats, [part.max, part.sum]));
        k.barrier();

        k.comment("the last block to get here finds the others counted, and leaves the counter at zero");
        let others = k.sub(chunks, 1);
        let found = k.named_var::<U32>("found", 0);
        let set = k.ctaid_x();
        let counter = k.ptr_index(self.counters, set, 4);
        let counts = k.eq(part.thread, 0);
        k.if_(counts, |k| {
            // Releases what the block has stored before the barrier, and acquires what those before it have.
            let order = Atomic::GLOBAL.order(AtomOrder::AcqRel, Scope::Gpu);
            let old = k.atom::<U32>(order, AtomOp::Inc, counter, others);
            k.set(found, old);
        });
        let is_last = k.eq(found, others);
        let is_last = k.and_pred(counts, is_last);
        let is_last = k.bar_any(0, is_last);
        k.ret_if(!is_last);
        all.total(k, chunks).store(k, y);
    }
}

/// The parts of this thread's features.
#[derive(Debug, Clone, Copy)]
struct Parts<'a> {
    part: &'a Features,
    /// The weighted values of the first part.
    values: Reg<U64>,
    /// Largest score and sum of the first part.
    stats: Reg<U64>,
    /// Bytes from the values of a part to the next.
    values_stride: u32,
    stats_stride: u32,
}

impl<'a> Parts<'a> {
    fn find(k: &mut KernelBuilder, kernel: &Attention, scratch: Reg<U64>, part: &'a Features) -> Self {
        let (heads, blocks) = (kernel.plan.heads, kernel.splits.blocks);
        let (values_stride, stats_stride) = (heads * kernel.cache.head_dim * 4, heads * 8);
        let parts = u64::from(kernel.rows) * u64::from(kernel.sets()) * u64::from(blocks);
        let set = k.ctaid_x();
        let first = k.mul_wide(set, blocks);
        let values = k.mad(first, u64::from(values_stride), scratch);
        let values = k.ptr_index(values, part.place, 16);
        let stats = k.mad(first, u64::from(stats_stride), scratch);
        let stats = k.add(stats, parts * u64::from(values_stride));
        let stats = k.ptr_index(stats, part.head, 8);
        Self { part, values, stats, values_stride, stats_stride }
    }

    /// The addresses of values and statistics of part `index`.
    fn part(&self, k: &mut KernelBuilder, index: Reg<U32>) -> [Reg<U64>; 2] {
        let values = k.ptr_index(self.values, index, self.values_stride);
        [values, k.ptr_index(self.stats, index, self.stats_stride)]
    }

    /// All parts, brought to one maximum.
    fn total(&self, k: &mut KernelBuilder, chunks: Reg<U32>) -> Features {
        let max = k.named_var::<F32>("all_max", f32::MIN);
        let sum = k.named_var::<F32>("all_sum", 0.0);
        let values = [(); 4].map(|()| k.var::<F32>(0.0));
        let last = k.sub(chunks, 1);
        k.for_range(0, chunks, TOGETHER, |k, base| {
            k.comment("beyond the end the last part is read and its weight is 0");
            let loaded: Vec<_> = (0..TOGETHER)
                .map(|u| {
                    let index = if u == 0 { base } else { k.add(base, u) };
                    let read = k.min(index, last);
                    let [values, stats] = self.part(k, read);
                    let [part_max, part_sum] = k.ld_global_v2::<F32>(stats);
                    let values = k.ld_global_v4::<F32>(values);
                    let valid = k.le(index, last);
                    (k.selp(valid, part_max, f32::NEG_INFINITY), part_sum, values)
                })
                .collect();
            let old = k.get(max);
            let new = loaded.iter().fold(old, |max, &(part, ..)| k.max(max, part));
            let below = k.sub(old, new);
            let factor = k.ex2_approx(below);
            k.set(max, new);
            for total in values.into_iter().chain([sum]) {
                k.update(total, |k, total| k.mul(total, factor));
            }
            for (part_max, part_sum, part) in loaded {
                let below = k.sub(part_max, new);
                let weight = k.ex2_approx(below);
                k.update(sum, |k, sum| k.fma(part_sum, weight, sum));
                for (total, v) in values.into_iter().zip(part) {
                    k.update(total, |k, total| k.fma(v, weight, total));
                }
            }
        });
        Features { max: k.get(max), sum: k.get(sum), values: values.map(|v| k.get(v)), ..*self.part }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_rows_are_cut_alike_in_caches_of_every_size() {
        for sets in [1, 2, 8, 12, 32, 128] {
            let longest = Splits::new(1 << 20, sets);
            assert!(longest.grow && (16..=64).contains(&longest.blocks));
            for max_seq in (1..10_000).step_by(7) {
                let splits = Splits::new(max_seq, sets);
                // Either every chunk of the smallest size has a block, or there are as many blocks as there ever are.
                let covered = splits.blocks * Splits::CHUNK >= max_seq || splits == longest;
                assert!(
                    if splits.several() { covered } else { max_seq <= Splits::ALONE },
                    "{max_seq} {splits:?}"
                );
                assert!((splits.blocks - 1) * Splits::CHUNK < max_seq, "{max_seq}: blocks without positions");
            }
        }
    }
}
