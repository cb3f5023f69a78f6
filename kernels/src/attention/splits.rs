//! How a row's positions are divided among blocks, and how their results become one row.

use ptx_builder::{AtomOp, AtomOrder, Atomic, F32, KernelBuilder, Pred, Reg, Scope, U32, U64};

use super::Attention;
use super::lanes::plan::LanePlan;
use super::results::{Features, Outlet};
use crate::emit;

/// The division of a row's positions.
///
/// A short row is one chunk. A longer one is cut into chunks of [`CHUNK`](Self::CHUNK) positions, or of as many times
/// that as it takes for [`chunks`](Self::chunks) of them to suffice. The division depends on the length, and on the number
/// of blocks that the heads of a row make anyway: not on the batch, and not on the size of the cache.
///
/// Chunks are dealt out to the blocks of a row in turn. How many blocks that are depends on the batch, but no result
/// does: every chunk has a part of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Splits {
    /// Chunks of the longest row.
    pub chunks: u32,
    /// Blocks for each row and set of heads. Those that find no chunk left do nothing.
    pub blocks: u32,
    /// Whether a row may be so long that chunks grow.
    grow: bool,
}

impl Splits {
    /// Positions of the smallest chunk of several, a whole number of steps of any plan.
    pub const CHUNK: u32 = LanePlan::MAX_STEP;
    /// Positions that one block does alone: the chunks that others could take from it cost it as long as blocks take to
    /// meet.
    pub const ALONE: u32 = 4 * Self::CHUNK;
    /// Blocks that are enough for a large GPU: one on each multiprocessor. Twice as many read no faster, and take longer
    /// to combine.
    const ENOUGH: u32 = 128;
    /// Most chunks of a row: the last block reads the parts of all.
    const MOST: u32 = 32;
    /// Blocks for each row even of a large batch, one row of which may be long. More of them would cost short rows more,
    /// since a block without a chunk also has to be started.
    const FEWEST: u32 = 4;

    /// The division of `rows` rows of up to `max_seq` positions, of each of which `sets` sets of heads are done apart.
    pub fn new(max_seq: u32, rows: u32, sets: u32) -> Self {
        let most = (Self::ENOUGH / sets).clamp(16, Self::MOST);
        let chunks = if max_seq <= Self::ALONE { 1 } else { max_seq.div_ceil(Self::CHUNK) };
        let blocks = (Self::ENOUGH / sets / rows).max(Self::FEWEST);
        Self { chunks: chunks.min(most), blocks: blocks.min(chunks).min(most), grow: chunks > most }
    }

    /// One block for all positions of a row.
    pub const WHOLE: Self = Self { chunks: 1, blocks: 1, grow: true };

    /// Whether no block has more than one chunk.
    pub const fn one_each(self) -> bool {
        self.blocks >= self.chunks
    }

    /// Whether a row may have several chunks.
    pub const fn several(self) -> bool {
        self.chunks > 1
    }
}

/// The positions of a chunk.
#[derive(Debug, Clone, Copy)]
pub(super) struct Positions {
    /// The first, unless it is 0.
    pub first: Option<Reg<U32>>,
    /// One past the last.
    pub end: Reg<U32>,
}

/// How the block's row is divided.
#[derive(Debug, Clone, Copy)]
pub(super) struct Division {
    splits: Splits,
    length: Reg<U32>,
    /// Whether one block does all of it.
    alone: Pred,
    /// Positions of a chunk; the last may have fewer.
    chunk: Reg<U32>,
    /// The block's first chunk.
    pub first: Reg<U32>,
}

impl Division {
    /// The division of a row of `length` positions, which are at most 2^31.
    pub fn of_row(k: &mut KernelBuilder, splits: Splits, length: Reg<U32>) -> Self {
        k.comment("the chunks of the row's positions");
        let alone = k.le(length, Splits::ALONE);
        let chunk = if splits.grow {
            let all = splits.chunks * Splits::CHUNK;
            let rounded = k.add(length, all - 1);
            let times = emit::quotient_below(k, rounded, 1 << 32, all);
            k.mul(times, Splits::CHUNK)
        } else {
            k.imm::<U32>(Splits::CHUNK)
        };
        let chunk = k.selp(alone, Splits::ALONE, chunk);
        Self { splits, length, alone, chunk, first: k.ctaid_y() }
    }

    /// How many chunks there are. Even a row without positions has one: a row outside the cache, whose first block says so.
    pub fn chunks(&self, k: &mut KernelBuilder) -> Reg<U32> {
        let chunks = if self.splits.grow {
            let rounded = k.add(self.length, self.chunk);
            let rounded = k.sub(rounded, 1);
            let chunks = k.div(rounded, self.chunk);
            k.max(chunks, 1)
        } else {
            let rounded = k.add(self.length, Splits::CHUNK - 1);
            let chunks = k.shr(rounded, Splits::CHUNK.ilog2());
            k.selp(self.alone, 1, chunks)
        };
        k.name(chunks, "chunks")
    }

    /// Ends the block if there is no chunk for it.
    pub fn end_without_chunk(&self, k: &mut KernelBuilder, chunks: Reg<U32>) {
        let beyond = k.ge(self.first, chunks);
        k.ret_if(beyond);
    }

    /// The positions of chunk `index`.
    pub fn positions(&self, k: &mut KernelBuilder, index: Reg<U32>) -> Positions {
        let first = k.mul(index, self.chunk);
        let end = k.add(first, self.chunk);
        Positions { first: Some(first), end: k.min(end, self.length) }
    }
}

/// Where blocks leave what they know of their heads, for the one that ends last.
#[derive(Debug, Clone, Copy)]
pub(super) struct Partials {
    /// `[rows, sets, chunks, heads, head_dim]` weighted values, then `[rows, sets, chunks, heads, 2]` largest scores and
    /// sums of weights.
    pub scratch: Reg<U64>,
    /// `[rows, sets]`: how many blocks have left their parts.
    pub counters: Reg<U64>,
}

impl Partials {
    /// Floats of the scratch memory.
    pub fn elements(kernel: &Attention) -> u64 {
        let heads = u64::from(kernel.rows) * u64::from(kernel.n_heads) * u64::from(kernel.splits.chunks);
        heads * (u64::from(kernel.cache.head_dim) + 2)
    }
}

/// Counts the block, all of whose threads have left their parts and met. Only the last block of its row and heads goes on;
/// it sees all parts, and leaves the counter at zero.
pub(super) fn arrive(
    k: &mut KernelBuilder,
    kernel: &Attention,
    partials: &Partials,
    chunks: Reg<U32>,
    thread: Reg<U32>,
) {
    k.comment("the last block to get here finds the others counted, and leaves the counter at zero");
    let blocks = k.min(chunks, kernel.splits.blocks);
    let others = k.sub(blocks, 1);
    let found = k.named_var::<U32>("found", 0);
    let set = k.ctaid_x();
    let counter = k.ptr_index(partials.counters, set, 4);
    let counts = k.eq(thread, 0);
    k.if_(counts, |k| {
        // Releases what the block has stored before its barrier, and acquires what those before it have.
        let order = Atomic::GLOBAL.order(AtomOrder::AcqRel, Scope::Gpu);
        let old = k.atom::<U32>(order, AtomOp::Inc, counter, others);
        k.set(found, old);
    });
    let is_last = k.eq(found, others);
    let is_last = k.and_pred(counts, is_last);
    let is_last = k.bar_any(0, is_last);
    k.ret_if(!is_last);
}

/// Parts that the last block loads together.
const TOGETHER: u32 = 16;

/// The parts of this thread's features.
#[derive(Debug, Clone, Copy)]
pub(super) struct Parts<'a> {
    outlet: &'a Outlet,
    /// The weighted values of the first part.
    values: Reg<U64>,
    /// Largest score and sum of the first part.
    stats: Reg<U64>,
    /// Bytes from the values of a part to the next.
    values_stride: u32,
    stats_stride: u32,
}

impl<'a> Parts<'a> {
    pub fn find(k: &mut KernelBuilder, kernel: &Attention, scratch: Reg<U64>, outlet: &'a Outlet) -> Self {
        let (heads, chunks) = (kernel.plan.heads(), kernel.splits.chunks);
        let (values_stride, stats_stride) = (heads * kernel.cache.head_dim * 4, heads * 8);
        let parts = u64::from(kernel.rows) * u64::from(kernel.sets()) * u64::from(chunks);
        let set = k.ctaid_x();
        let first = k.mul_wide(set, chunks);
        let values = k.mad(first, u64::from(values_stride), scratch);
        let values = k.ptr_index(values, outlet.place, 16);
        let stats = k.mad(first, u64::from(stats_stride), scratch);
        let stats = k.add(stats, parts * u64::from(values_stride));
        let stats = k.ptr_index(stats, outlet.head, 8);
        Self { outlet, values, stats, values_stride, stats_stride }
    }

    /// The addresses of values and statistics of part `index`.
    fn part(&self, k: &mut KernelBuilder, index: Reg<U32>) -> [Reg<U64>; 2] {
        let values = k.ptr_index(self.values, index, self.values_stride);
        [values, k.ptr_index(self.stats, index, self.stats_stride)]
    }

    /// Leaves part `index`.
    pub fn leave(&self, k: &mut KernelBuilder, kernel: &Attention, index: Reg<U32>, features: &Features) {
        let [values, stats] = self.part(k, index);
        k.guarded(self.outlet.stores, |k| k.st_global_v4::<F32>(values, features.values));
        let leads = self.outlet.leads(k, kernel);
        k.guarded(leads, |k| k.st_global_v2::<F32>(stats, [features.max, features.sum]));
    }

    /// All parts, in the order of their positions, brought to one maximum.
    pub fn total(&self, k: &mut KernelBuilder, chunks: Reg<U32>) -> Features {
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
        Features { max: k.get(max), sum: k.get(sum), values: values.map(|v| k.get(v)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_rows_are_cut_alike_in_caches_of_every_size() {
        for sets in [1, 2, 8, 12, 32, 128] {
            let longest = Splits::new(1 << 20, 1, sets);
            assert!(longest.grow && (16..=Splits::MOST).contains(&longest.chunks));
            for max_seq in (1..10_000).step_by(7) {
                let splits = Splits::new(max_seq, 1, sets);
                // Either every chunk of the smallest size has its place, or there are as many as there ever are.
                let covered = splits.chunks * Splits::CHUNK >= max_seq || splits == longest;
                assert!(
                    if splits.several() { covered } else { max_seq <= Splits::ALONE },
                    "{max_seq} {splits:?}"
                );
                assert!((splits.chunks - 1) * Splits::CHUNK < max_seq, "{max_seq}: chunks without positions");
            }
        }
    }

    #[test]
    fn the_batch_changes_the_blocks_alone() {
        for (rows, blocks) in [(1, 16), (2, 8), (4, 4), (8, 4), (32, 4)] {
            let expected = Splits { blocks, ..Splits::new(1 << 17, 1, 8) };
            assert_eq!(Splits::new(1 << 17, rows, 8), expected);
        }
        assert_eq!(Splits::new(100, 64, 8).blocks, 1);
    }
}
