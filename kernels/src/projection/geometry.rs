//! How the rows of a projection are spread over blocks and warps.
//!
//! Two weight rows that belong together are a *unit*. A block has a range of units and deals them out to its *slots*:
//! groups of `W` neighbouring warps that share each row. `W` fixes the order in which a row is summed: it follows from the
//! matrices alone, so that an activation row gives the same bits in every batch and on every device. The number of blocks
//! orders nothing.

use super::Segment;
use super::stage::Stage;
use crate::support::WARP;

/// Blocks of a launch: one for each processor of the largest devices (132 on an H200). Every block prepares the
/// activations anew, so they are few.
const BLOCKS: u32 = 132;

/// Warps of a block at most, as far as `W` allows. A block has no more than it takes for each of its units, and each item
/// of its activations, to have one.
const WARPS: u32 = 16;

/// Bytes of weights below which a block, or a warp, is longer beginning than working.
const BLOCK_BYTES: u64 = 2 << 10;
const WARP_BYTES: u64 = 1 << 10;

/// Warps that share a row at most.
const MOST_PER_UNIT: u32 = 16;

/// Parts of a row that a lane takes at most, one after the other: the code of all is written out.
const MOST_STEPS: u32 = 8;

/// Bytes of shared memory for the sums of a block's units.
const SUMS: u32 = 8 << 10;

/// The spread of one projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spread {
    /// `W`: warps that share a unit.
    pub(super) warps_per_unit: u32,
    /// Units that a block works on side by side.
    pub(super) slots: u32,
    /// Blocks of each segment, in order.
    pub(super) blocks: Vec<u32>,
}

/// The units of a block, of which some blocks have one less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Units of every block.
    pub(super) least: u32,
    /// So many blocks, the first ones, have another.
    pub(super) longer: u32,
}

impl Spread {
    /// The spread of `segments` over rows of activations; `None` if these are too long.
    pub(super) fn new(segments: &[Segment], stage: Stage) -> Option<Self> {
        let Stage { cols, batch, .. } = stage;
        let parts = |segment: &Segment| segment.format.partition(cols).parts_of_row(cols);
        let lanes = segments.iter().map(parts).max()?;
        let warps_per_unit = lanes.div_ceil(WARP).clamp(1, MOST_PER_UNIT);
        if lanes.div_ceil(WARP * warps_per_unit) > MOST_STEPS {
            return None;
        }
        let bytes = |segment: &Segment| segment.matrix_bytes * segment.names.matrices.len() as u64;
        let all: u64 = segments.iter().map(bytes).sum();
        let sums = 2 * batch.next_power_of_two() * warps_per_unit * 4;
        let blocks = |segment: &Segment| {
            let proportional = (bytes(segment) * u64::from(BLOCKS) / all.max(1)) as u32;
            let fitting = segment.units.div_ceil((SUMS / sums).max(1));
            let rounded = fitting.div_ceil(BLOCKS) * BLOCKS;
            let wanted = if fitting > proportional { rounded } else { proportional };
            let worth = bytes(segment).div_ceil(BLOCK_BYTES) as u32;
            wanted.min(worth).clamp(1, segment.units)
        };
        let blocks: Vec<u32> = segments.iter().map(blocks).collect();
        let units = segments.iter().zip(&blocks).map(|(segment, &blocks)| {
            let units = segment.units.div_ceil(blocks);
            let worth = (bytes(segment) / u64::from(blocks * warps_per_unit)).div_ceil(WARP_BYTES) as u32;
            units.min(worth)
        });
        let wanted = units.max()?.max(stage.items().div_ceil(warps_per_unit));
        Some(Self { warps_per_unit, slots: wanted.min(WARPS / warps_per_unit).max(1), blocks })
    }

    /// Warps of a block.
    pub(super) const fn warps(&self) -> u32 {
        self.slots * self.warps_per_unit
    }

    /// Threads of a block.
    pub(super) const fn threads(&self) -> u32 {
        self.warps() * WARP
    }

    /// Lanes that share a row.
    pub(super) const fn lanes(&self) -> u32 {
        self.warps_per_unit * WARP
    }

    /// The units of a block of segment `index`.
    pub(super) fn share(&self, segment: &Segment, index: usize) -> Share {
        Share { least: segment.units / self.blocks[index], longer: segment.units % self.blocks[index] }
    }
}

impl Share {
    /// The most units of a block.
    pub(super) const fn most(self) -> u32 {
        self.least + (self.longer > 0) as u32
    }
}
