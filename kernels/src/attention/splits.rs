//! How a row's positions are divided among blocks.

use ptx_builder::{KernelBuilder, Pred, Reg, U32};

use super::lanes::plan::LanePlan;
use crate::emit;

/// The division of a row's positions.
///
/// A short row is one chunk. A longer one is cut into chunks of [`CHUNK`](Self::CHUNK) positions, or of as many times
/// that as it takes for [`chunks`](Self::chunks) of them to suffice, and of [`smallest`](Self::smallest) at least. The
/// division depends on the length, on the number of blocks that the heads of a row make anyway, and on whether blocks are
/// clusters: not on the batch, and otherwise not on the size of the cache.
///
/// Chunks are dealt out to the blocks of a row in turn. How many blocks that are depends on the batch, but no result
/// does: every chunk has a part of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Splits {
    /// Chunks of the longest row.
    pub chunks: u32,
    /// Blocks for each row and set of heads. Those that find no chunk left do nothing, but as part of a cluster.
    pub blocks: u32,
    /// Positions that one block does alone.
    alone: u32,
    /// Positions of the smallest of several chunks.
    smallest: u32,
    /// Whether a row may be so long that chunks grow.
    grow: bool,
    /// Whether the blocks of a row are a cluster, whose parts meet in its shared memory; otherwise they do in global memory.
    pub clustered: bool,
}

impl Splits {
    /// Positions of the smallest chunk of several, a whole number of steps of any plan.
    pub const CHUNK: u32 = LanePlan::MAX_STEP;
    /// Positions that one block does alone: the chunks that others could take from it cost it as long as blocks take to
    /// meet. Where a row has so few heads that small chunks are enough for its clusters, it does half as many.
    const ALONE: u32 = 4 * Self::CHUNK;
    /// Blocks that are enough for a large GPU: one on each multiprocessor. Twice as many read no faster, and take longer
    /// to combine.
    const ENOUGH: u32 = 128;
    /// Most chunks of a row: the last block reads the parts of all.
    const MOST: u32 = 32;
    /// Blocks for each row even of a large batch, one row of which may be long. More of them would cost short rows more,
    /// since a block without a chunk also has to be started.
    const FEWEST: u32 = 4;
    /// Most chunks of a row in a cluster: as many as it has blocks, if these are not needed for other rows.
    pub const CLUSTER_CHUNKS: u32 = 8;
    /// Blocks of a cluster, and how many clusters an H200 has room for, one block a processor
    /// (`cuOccupancyMaxActiveClusters`).
    const CLUSTERS: [(u32, u32); 3] = [(8, 15), (4, 30), (2, 66)];
    /// Sets of heads up to which even some rows have the largest clusters. Of more, a batch has few blocks for each row, to
    /// which small chunks are many turns, with work for some of their warps.
    const FEW_SETS: u32 = 3;
    /// Positions of the cache for each set of heads up to which it is faster to meet sooner than to have more blocks.
    const CLUSTER_POSITIONS: u32 = 3072;

    /// The division of `rows` rows of up to `max_seq` positions, of each of which `sets` sets of heads are done apart.
    pub fn new(max_seq: u32, rows: u32, sets: u32) -> Self {
        let most = (Self::ENOUGH / sets).clamp(16, Self::MOST);
        let chunks = if max_seq <= Self::ALONE { 1 } else { max_seq.div_ceil(Self::CHUNK) };
        let blocks = (Self::ENOUGH / sets / rows).max(Self::FEWEST);
        let grow = chunks > most;
        let (chunks, blocks) = (chunks.min(most), blocks.min(chunks).min(most));
        Self { chunks, blocks, alone: Self::ALONE, smallest: Self::CHUNK, grow, clustered: false }
    }

    /// The same in clusters; `None` where that would be slower.
    pub fn clustered(max_seq: u32, rows: u32, sets: u32) -> Option<Self> {
        if u64::from(max_seq) > u64::from(sets) * u64::from(Self::CLUSTER_POSITIONS) {
            return None;
        }
        let (alone, smallest) = match sets <= Self::FEW_SETS {
            true => (Self::ALONE / 2, Self::CHUNK),
            false => (Self::ALONE, 2 * Self::CHUNK),
        };
        let chunks = if max_seq <= alone { 1 } else { max_seq.div_ceil(smallest) };
        let sharers = u64::from(rows) * u64::from(sets);
        let room = Self::CLUSTERS.into_iter().find(|&(_, clusters)| sharers <= clusters.into());
        let [.., (fewest, _)] = Self::CLUSTERS;
        let blocks = room.map_or(fewest, |(blocks, _)| blocks).min(chunks.next_power_of_two());
        let grow = chunks > Self::CLUSTER_CHUNKS;
        let chunks = chunks.min(Self::CLUSTER_CHUNKS);
        Some(Self { chunks, blocks, alone, smallest, grow, clustered: blocks > 1 })
    }

    /// One block for all positions of a row.
    pub const WHOLE: Self = Self {
        chunks: 1,
        blocks: 1,
        alone: Self::ALONE,
        smallest: Self::CHUNK,
        grow: true,
        clustered: false,
    };

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
        let alone = k.le(length, splits.alone);
        let grown = splits.grow.then(|| {
            let all = splits.chunks * Splits::CHUNK;
            let rounded = k.add(length, all - 1);
            let times = emit::quotient_below(k, rounded, 1 << 32, all);
            k.mul(times, Splits::CHUNK)
        });
        let chunk = match grown {
            Some(grown) if splits.clustered => {
                let several = k.max(grown, splits.smallest);
                k.selp(alone, splits.alone, several)
            }
            Some(grown) => k.selp(alone, splits.alone, grown),
            None => k.selp(alone, splits.alone, splits.smallest),
        };
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
            let chunk = self.splits.smallest;
            let rounded = k.add(self.length, chunk - 1);
            let chunks = k.shr(rounded, chunk.ilog2());
            k.selp(self.alone, 1, chunks)
        };
        k.name(chunks, "chunks")
    }

    /// Ends the block if there is no chunk for it, and no part in a cluster that meets.
    pub fn end_idle(&self, k: &mut KernelBuilder, chunks: Reg<U32>) {
        let blocks = if self.splits.clustered { k.selp(self.alone, 1, self.splits.blocks) } else { chunks };
        let beyond = k.ge(self.first, blocks);
        k.ret_if(beyond);
    }

    /// The positions of chunk `index`.
    pub fn positions(&self, k: &mut KernelBuilder, index: Reg<U32>) -> Positions {
        let first = k.mul(index, self.chunk);
        let end = k.add(first, self.chunk);
        Positions { first: Some(first), end: k.min(end, self.length) }
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
        for (rows, blocks) in [(1, 8), (2, 4), (4, 2), (8, 2), (32, 2), (1 << 28, 2)] {
            let expected = Splits { blocks, ..Splits::clustered(1 << 14, 1, 8).unwrap() };
            assert_eq!(Splits::clustered(1 << 14, rows, 8), Some(expected));
        }
    }

    #[test]
    fn clusters_cut_rows_alike_in_caches_of_every_size_and_have_no_idle_block() {
        for (sets, alone, smallest) in [(2, 128, 64), (8, 256, 128)] {
            let longest = Splits::clustered(1 << 12, 1, sets).unwrap();
            assert!(longest.grow && longest.chunks == Splits::CLUSTER_CHUNKS && longest.one_each());
            for max_seq in (1..3000).step_by(7) {
                let splits = Splits::clustered(max_seq, 1, sets).unwrap();
                assert_eq!(splits.clustered, splits.several(), "{max_seq}");
                assert_eq!(splits.several(), max_seq > alone, "{max_seq}");
                let covered = splits.chunks * smallest >= max_seq || splits == longest;
                assert!(!splits.several() || covered, "{max_seq} {splits:?}");
                assert!((splits.chunks - 1) * smallest < max_seq, "{max_seq}: chunks without positions");
                assert!(splits.one_each() && splits.blocks / 2 < splits.chunks, "{max_seq}: {splits:?}");
            }
        }
    }

    #[test]
    fn few_heads_and_long_caches_have_more_blocks_than_a_cluster() {
        for (max_seq, sets, clustered) in
            [(6144, 2, true), (6145, 2, false), (3072, 1, true), (3073, 1, false), (1 << 31, 1 << 30, true)]
        {
            assert_eq!(Splits::clustered(max_seq, 1, sets).is_some(), clustered, "{max_seq}, {sets}");
        }
    }
}
