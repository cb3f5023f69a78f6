//! How a block's threads share the work of multiply-adds.

use crate::support::WARP;

/// The division of heads, features and positions among the lanes of a block.
///
/// It follows from the group size and `head_dim` alone, never from the batch or a length: that is what makes a row's
/// result independent of its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::attention) struct LanePlan {
    /// Query heads of a block. They share every key and value that the block reads.
    pub heads: u32,
    /// Lanes that hold one position's features together; a power of two.
    pub lanes: u32,
    /// Pieces of a position in each of these lanes, `lanes` pieces apart.
    pub pieces: u32,
    /// Positions that such lanes take at a time, loaded together.
    pub unroll: u32,
}

impl LanePlan {
    /// Features that a lane reads with one load: a piece.
    pub const PIECE: u32 = 4;
    /// Warps of a block.
    pub const WARPS: u32 = 8;
    /// Threads of a block.
    const THREADS: u32 = Self::WARPS * WARP;
    /// Most positions of a block's step. A chunk of positions is a whole number of steps.
    pub const MAX_STEP: u32 = 64;
    /// Features of all heads of a block together: as many as the threads can write out with one 16-byte store each.
    const MAX_FEATURES: u32 = Self::THREADS * 4;
    /// Query features in a lane's registers; there are as many sums.
    const MAX_LANE_FEATURES: u32 = 64;
    /// Registers of a lane for queries, sums, keys and values: what is left of 255 goes into addresses and scores.
    const MAX_REGISTERS: u32 = 192;

    /// The plan for groups of `group` query heads of `head_dim` features, a multiple of a piece.
    pub fn new(group: u32, head_dim: u32) -> Self {
        let row_pieces = head_dim / Self::PIECE;
        // A lane holds features of every head, so heads are limited by what is left when all 32 lanes share a position.
        let fewest = row_pieces.div_ceil(WARP) * Self::PIECE;
        let most = (Self::MAX_FEATURES / head_dim).min(Self::MAX_LANE_FEATURES / fewest).min(8);
        let heads = (1..=most).rev().find(|&h| group.is_multiple_of(h)).unwrap_or(1);
        // Queries and sums; of each position of a step and of the next one keys and values.
        let registers = |pieces: u32, unroll: u32| {
            let features = pieces * Self::PIECE;
            2 * features * heads + 4 * features * unroll
        };
        let candidates = [4, 8, 16, WARP].map(|lanes| (lanes, row_pieces.div_ceil(lanes)));
        let fits = |&(_, pieces): &(u32, u32)| {
            pieces * Self::PIECE * heads <= Self::MAX_LANE_FEATURES
                && registers(pieces, 1) <= Self::MAX_REGISTERS
        };
        // Instructions for a position and head: products with keys and values, shuffles, softmax.
        let cost = |&(lanes, pieces): &(u32, u32)| lanes * (2 * pieces * Self::PIECE + 2 * lanes.ilog2() + 6);
        let (lanes, pieces) =
            candidates.into_iter().filter(fits).min_by_key(cost).unwrap_or((WARP, row_pieces.div_ceil(WARP)));
        let side_by_side = Self::WARPS * (WARP / lanes);
        let unrolls = [4, 2].into_iter().filter(|unroll| side_by_side * unroll <= Self::MAX_STEP);
        let unroll = unrolls.into_iter().find(|&u| registers(pieces, u) <= Self::MAX_REGISTERS).unwrap_or(1);
        Self { heads, lanes, pieces, unroll }
    }

    /// Features of a head in a lane.
    pub const fn features(&self) -> u32 {
        self.pieces * Self::PIECE
    }

    /// Positions that a warp reads side by side.
    pub const fn positions_per_warp(&self) -> u32 {
        WARP / self.lanes
    }

    /// Positions that the block reads side by side.
    pub const fn positions_per_block(&self) -> u32 {
        Self::WARPS * self.positions_per_warp()
    }

    /// Positions of a step of the block: those of which keys and values are loaded together.
    pub const fn step(&self) -> u32 {
        self.positions_per_block() * self.unroll
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_has_a_lane_and_every_output_a_thread() {
        for head_dim in (LanePlan::PIECE..=256).step_by(LanePlan::PIECE as usize) {
            for group in 1..=32 {
                let plan = LanePlan::new(group, head_dim);
                let of_lanes = plan.lanes * LanePlan::PIECE;
                assert!(plan.pieces * of_lanes >= head_dim, "{plan:?} {head_dim}");
                // Only the last piece of a lane may lie beyond the head, except where lanes have none at all.
                assert!((plan.pieces - 1) * of_lanes < head_dim, "{plan:?} {head_dim}");
                assert!(plan.heads * head_dim / 4 <= LanePlan::THREADS);
                assert!(plan.pieces * LanePlan::PIECE * plan.heads <= LanePlan::MAX_LANE_FEATURES);
                assert!(group.is_multiple_of(plan.heads) && plan.heads <= 8);
                assert!(LanePlan::MAX_STEP.is_multiple_of(plan.step()), "{plan:?} {head_dim}");
            }
        }
    }
}
