//! How a block's threads share the work of attention.

use crate::support::WARP;

/// The division of heads, features and positions among the lanes of a block.
///
/// It follows from the group size and `head_dim` alone, never from the batch or a length: that is what makes a row's
/// result independent of its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    /// Query heads of a block. They share every key and value that the block reads.
    pub heads: u32,
    /// Lanes that hold one position's features together; a power of two.
    pub lanes: u32,
    /// 16-byte chunks of a position in each of these lanes, `lanes` chunks apart.
    pub chunks: u32,
    /// Positions that such lanes take at a time, loaded together.
    pub unroll: u32,
}

impl Plan {
    /// Warps of a block.
    pub const WARPS: u32 = 8;
    /// Threads of a block.
    pub const THREADS: u32 = Self::WARPS * WARP;
    /// Features of all heads of a block together: as many as the threads can write out with one 16-byte store each.
    const MAX_FEATURES: u32 = Self::THREADS * 4;
    /// Chunks of queries in a lane's registers; there are as many of sums.
    const MAX_QUERY_CHUNKS: u32 = 16;

    /// The plan for groups of `group` query heads of `head_dim` features.
    pub fn new(group: u32, head_dim: u32) -> Self {
        let row_chunks = head_dim / 4;
        // A lane holds chunks of every head, so heads are limited by what is left when all 32 lanes share a position.
        let most =
            (Self::MAX_FEATURES / head_dim).min(Self::MAX_QUERY_CHUNKS / row_chunks.div_ceil(WARP)).min(8);
        let heads = (1..=most).rev().find(|&h| group.is_multiple_of(h)).unwrap_or(1);
        let candidates = [8, 16, 32].map(|lanes| (lanes, row_chunks.div_ceil(lanes)));
        let fitting = candidates.into_iter().filter(|&(_, chunks)| chunks * heads <= Self::MAX_QUERY_CHUNKS);
        // Instructions for a position and head: products with keys and values, shuffles, softmax.
        let cost = |&(lanes, chunks): &(u32, u32)| lanes * (8 * chunks + 2 * lanes.ilog2() + 6);
        let (lanes, chunks) = fitting.min_by_key(cost).unwrap_or((WARP, row_chunks.div_ceil(WARP)));
        let unroll = if chunks * heads > 8 { 2 } else { (8 / chunks).clamp(1, 4) };
        Self { heads, lanes, chunks, unroll }
    }

    /// Positions that a warp reads side by side.
    pub const fn positions_per_warp(&self) -> u32 {
        WARP / self.lanes
    }

    /// Positions that the block reads side by side.
    pub const fn positions_per_block(&self) -> u32 {
        Self::WARPS * self.positions_per_warp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_a_lane_and_every_output_a_thread() {
        for head_dim in (4..=256).step_by(4) {
            for group in 1..=32 {
                let plan = Plan::new(group, head_dim);
                assert!(plan.lanes * plan.chunks * 4 >= head_dim, "{plan:?} {head_dim}");
                // Only the last chunk of a lane may lie beyond the head, except where lanes have none at all.
                assert!(plan.lanes * (plan.chunks - 1) * 4 < head_dim, "{plan:?} {head_dim}");
                assert!(plan.heads * head_dim / 4 <= Plan::THREADS);
                assert!(plan.chunks * plan.heads <= Plan::MAX_QUERY_CHUNKS);
                assert!(group.is_multiple_of(plan.heads) && plan.heads <= 8);
            }
        }
    }

    #[test]
    fn heads_of_usual_groups_stay_together() {
        for (group, head_dim, heads) in
            [(4, 64, 4), (6, 128, 6), (7, 64, 7), (8, 128, 8), (8, 256, 4), (1, 128, 1)]
        {
            assert_eq!(Plan::new(group, head_dim).heads, heads, "group {group}, head_dim {head_dim}");
        }
    }
}
