//! How the rows of a projection are spread over blocks and warps.
//!
//! Two weight rows that belong together are a *unit*. A block has a range of units and deals them out to its *slots*:
//! groups of `W` neighbouring warps that share each row. `W` fixes the order in which a row is summed: it follows from the
//! matrices alone, so that an activation row gives the same bits in every batch and on every device. The number of blocks
//! orders nothing.

use super::Segment;
use crate::support::WARP;

/// Blocks of a launch: one for each processor of the largest devices (132 on an H200). Every block prepares the
/// activations anew, so they are few.
const BLOCKS: u32 = 132;

/// Warps of a block, as far as `W` allows.
const WARPS: u32 = 16;

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
    /// The spread of `segments` with rows of `cols` columns and `batch` activation rows; `None` if the rows are too long.
    pub(super) fn new(segments: &[Segment], cols: u32, batch: u32) -> Option<Self> {
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
            wanted.clamp(1, segment.units)
        };
        let blocks = segments.iter().map(blocks).collect();
        Some(Self { warps_per_unit, slots: (WARPS / warps_per_unit).max(1), blocks })
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
