//! How the rows of a projection are spread over warps and blocks.
//!
//! Two weight rows that belong together, a *unit*, are one warp's work, or that of `W` neighbouring warps. `W` fixes the
//! order in which a row is summed: it follows from the matrices alone, so that an activation row gives the same bits in
//! every batch and on every device. The warps of a block and the blocks of the grid order nothing. They are few, since
//! every block prepares the activations anew, and small, since the blocks of the next kernel have to find room beside
//! them: they load their first weights while this kernel still runs.

use super::Segment;
use crate::blocks::partition::Partition;
use crate::support::WARP;

/// Blocks of a launch: three for each processor of the largest devices (132 on an H200).
const BLOCKS: u32 = 396;

/// Warps of a block at most: three blocks fill a processor's registers at 80 a thread.
const MOST_WARPS: u32 = 8;

/// Warps of a block at least: with fewer, too few loads are under way.
const LEAST_WARPS: u32 = 6;

/// Warps of all units together that keep a large device busy.
const WARPS_WANTED: u32 = 1500;

/// Parts of a row that a lane takes, one after the other, before a row is given more warps.
const STEPS_WANTED: u32 = 4;

/// Parts of a row that a lane takes at most: the loads of all are written out.
const MOST_STEPS: u32 = 16;

/// The spread of one projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spread {
    /// `W`: warps that share a unit, a power of two.
    pub(super) warps_per_unit: u32,
    /// Warps of a block, a multiple of `W`.
    pub(super) warps: u32,
    /// Blocks of each segment, in order.
    pub(super) blocks: Vec<u32>,
}

impl Spread {
    /// The spread of `segments` with rows of `cols` columns; `None` if the rows are too long.
    pub(super) fn new(segments: &[Segment], cols: u32) -> Option<Self> {
        let units: u32 = segments.iter().map(|segment| segment.units).sum();
        let parts = segments.iter().map(|segment| segment.format.partition(cols).parts_of_row(cols));
        let parts = parts.max().unwrap_or(1);
        let mut per_unit = 1;
        while per_unit < MOST_WARPS {
            let steps = parts.div_ceil(WARP * per_unit);
            if steps == 1 || (steps <= STEPS_WANTED && units.saturating_mul(per_unit) >= WARPS_WANTED) {
                break;
            }
            per_unit *= 2;
        }
        if parts.div_ceil(WARP * per_unit) > MOST_STEPS {
            return None;
        }
        // Among the sizes of blocks the one whose last round is the fullest; the largest of equals.
        let candidates =
            (LEAST_WARPS.max(per_unit)..=MOST_WARPS).filter(|warps| warps.is_multiple_of(per_unit));
        let spreads = candidates.map(|warps| {
            let slots = warps / per_unit;
            let share = |segment: &Segment| {
                let proportional = u64::from(segment.units) * u64::from(BLOCKS) / u64::from(units);
                (proportional as u32).clamp(1, segment.units.div_ceil(slots))
            };
            let blocks: Vec<u32> = segments.iter().map(share).collect();
            let rounds =
                segments.iter().zip(&blocks).map(|(segment, blocks)| segment.units.div_ceil(blocks * slots));
            let rounds = rounds.max().unwrap_or(1);
            (u64::from(rounds) * u64::from(slots), Self { warps_per_unit: per_unit, warps, blocks })
        });
        spreads.reduce(|best, other| if other.0 <= best.0 { other } else { best }).map(|(_, spread)| spread)
    }

    /// Units that a block works on side by side.
    pub(super) const fn slots(&self) -> u32 {
        self.warps / self.warps_per_unit
    }

    /// Threads of a block.
    pub(super) const fn threads(&self) -> u32 {
        self.warps * WARP
    }

    /// Parts of a row that each lane takes.
    pub(super) fn steps(&self, partition: &Partition, cols: u32) -> u32 {
        partition.parts_of_row(cols).div_ceil(WARP * self.warps_per_unit)
    }
}
