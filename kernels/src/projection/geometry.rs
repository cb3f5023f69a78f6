//! How the rows of a projection are spread over blocks and warps.
//!
//! Two weight rows that belong together are a *unit*. A block has a range of units and deals them out to its *slots*:
//! groups of `W` neighbouring warps that share each row. `W` fixes the order in which a row is summed: it follows from the
//! matrices alone, so that an activation row gives the same bits in every batch and on every device. The number of blocks
//! orders nothing.
//!
//! With several activation rows eight units are a *tile*, and a warp takes *items* of it: 8, 16 or 32 parts of every row,
//! whose sums are whole branches of the tree in which the lanes of a warp are summed. Where the columns allow it the
//! blocks of a cluster share their tiles: each has an equal part of the columns, and prepares only those activations.

use super::Segment;
use super::stage::{ITEM, Stage};
use super::tiles::TILE_UNITS;
use super::tuning::Tuning;
use crate::blocks::tile::TURN_PARTS;
use crate::support::WARP;

/// Processors of an H200, for which kernels are made unless they are [moved](super::Head::on). A launch has a block for each:
/// every block prepares the activations anew, so they are few.
pub const PROCESSORS: u32 = 132;

/// More processors than this no device has.
pub(super) const MOST_PROCESSORS: u32 = 1 << 10;

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

/// The same for those of tiles.
const TILE_SUMS: u32 = 144 << 10;

/// Turns of an item.
const ITEM_TURNS: [u32; 3] = [2, 4, 8];

/// Blocks of a cluster, the best first: the more share their columns, the less each prepares.
const CLUSTERS: [u32; 3] = [4, 2, 1];

/// The spread of one projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spread {
    /// `W`: sums of 32 parts of a row that are added in order.
    pub(super) warps_per_unit: u32,
    /// Warps of a block.
    pub(super) warps: u32,
    /// Blocks of each segment, in order.
    pub(super) blocks: Vec<u32>,
    /// Where tensor cores multiply: how.
    pub(super) items: Option<Items>,
}

/// What a warp takes of a tile at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Items {
    /// At most, a power of two up to 8.
    pub(super) turns: u32,
    /// Blocks that share a tile's columns, a power of two.
    pub(super) cluster: u32,
}

impl Items {
    /// Items of a row of `turns` turns.
    pub(super) const fn of_row(self, turns: u32) -> u32 {
        turns.div_ceil(self.turns)
    }

    /// Whether the columns can be shared by the blocks of a cluster: items that are all full, and as many for each. There
    /// has to be a tile for each to finish, too.
    fn divide(self, segments: &[Segment], cols: u32) -> bool {
        let divides = |segment: &Segment| {
            row_turns(segment, cols).is_multiple_of(self.turns * self.cluster)
                && segment.units >= TILE_UNITS * self.cluster
        };
        self.cluster == 1 || (cols.is_multiple_of(self.cluster * ITEM) && segments.iter().all(divides))
    }

    /// Items that make up 32 parts.
    pub(super) const fn of_warp(self) -> u32 {
        WARP / TURN_PARTS / self.turns
    }
}

/// The units of a block or a cluster, of which some have one less, or one tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    /// Units of each, or tiles.
    pub(super) least: u32,
    /// So many, the first ones, have another.
    pub(super) longer: u32,
    /// Units that are dealt out together.
    pub(super) together: u32,
    /// Blocks that share them.
    pub(super) cluster: u32,
}

impl Spread {
    /// The spread of `segments` over `processors` and rows of activations; `None` if these are too long.
    pub(super) fn new(segments: &[Segment], stage: Stage, processors: u32) -> Option<Self> {
        let warps_per_unit = warps_per_unit(segments, stage.cols)?;
        if most_parts(segments, stage.cols)?.div_ceil(WARP * warps_per_unit) > MOST_STEPS {
            return None;
        }
        let sums = 2 * stage.batch.next_power_of_two() * warps_per_unit * 4;
        let blocks = blocks(segments, (1, 1), (processors, (SUMS / sums).max(1)));
        let units = segments.iter().zip(&blocks).map(|(segment, &blocks)| {
            let units = segment.units.div_ceil(blocks);
            let worth = (bytes(segment) / u64::from(blocks * warps_per_unit)).div_ceil(WARP_BYTES) as u32;
            units.min(worth)
        });
        let wanted = units.max()?.max(stage.items().div_ceil(warps_per_unit));
        let warps = wanted.min(WARPS / warps_per_unit).max(1) * warps_per_unit;
        Some(Self { warps_per_unit, warps, blocks, items: None })
    }

    /// The spread over the tensor cores of `processors`, with `warps` warps a block; `None` if the rows are too long.
    pub(super) fn of_tiles(
        segments: &[Segment],
        stage: Stage,
        (processors, warps): (u32, u32),
        tuning: Tuning,
    ) -> Option<Self> {
        let cols = stage.cols;
        let warps_per_unit = warps_per_unit(segments, cols)?;
        if most_parts(segments, cols)? > WARP * warps_per_unit {
            return None;
        }
        let mut last = None;
        let most = if bytes_each(segments, processors) < tuning.clusters_of_four_below { 4 } else { 2 };
        for cluster in CLUSTERS.into_iter().filter(|&cluster| cluster <= most) {
            let resident = clusters_at_once(processors, cluster);
            for turns in ITEM_TURNS {
                let items = Items { turns, cluster };
                if !items.divide(segments, cols) {
                    continue;
                }
                let of_row = |segment: &Segment| items.of_row(row_turns(segment, cols));
                let tile_sums = TILE_UNITS * stage.item_sums_bytes() * segments.iter().map(of_row).max()?;
                let fitting = (TILE_SUMS / tile_sums).max(1) * cluster;
                let clusters = blocks(segments, (TILE_UNITS, cluster), (resident, fitting));
                let few = clusters.iter().sum::<u32>() <= resident;
                let blocks = clusters.iter().map(|clusters| clusters * cluster).collect();
                last = Some(Self { warps_per_unit, warps, blocks, items: Some(items) });
                if few {
                    return last;
                }
            }
        }
        last
    }

    /// Units that a block's warps work on side by side, one activation row or a few at a time.
    pub(super) const fn slots(&self) -> u32 {
        self.warps / self.warps_per_unit
    }

    /// Sums of a row: one of each warp that shares it, or of each item.
    pub(super) fn sums_of_row(&self, segment: &Segment, cols: u32) -> u32 {
        self.items.map_or(self.warps_per_unit, |items| items.of_row(row_turns(segment, cols)))
    }

    /// Warps of a block.
    pub(super) const fn warps(&self) -> u32 {
        self.warps
    }

    /// Threads of a block.
    pub(super) const fn threads(&self) -> u32 {
        self.warps() * WARP
    }

    /// Lanes that share a row.
    pub(super) const fn lanes(&self) -> u32 {
        self.warps_per_unit * WARP
    }

    /// Blocks that share their units.
    pub(super) fn cluster(&self) -> u32 {
        self.items.map_or(1, |items| items.cluster)
    }

    /// The units of a block of segment `index`, or of a cluster.
    pub(super) fn share(&self, segment: &Segment, index: usize) -> Share {
        let together = if self.items.is_some() { TILE_UNITS } else { 1 };
        let (shares, sharers) = (segment.units.div_ceil(together), self.blocks[index] / self.cluster());
        Share { least: shares / sharers, longer: shares % sharers, together, cluster: self.cluster() }
    }
}

/// For how many clusters `processors` have room, one block a processor. A cluster stays within a group of processors, and
/// these are not all multiples of four: the 132 of an H200 take 30 clusters of four (`cuOccupancyMaxActiveClusters`). Of
/// other devices the same share is assumed.
const fn clusters_at_once(processors: u32, cluster: u32) -> u32 {
    let clusters = if cluster == 4 { processors * 30 / PROCESSORS } else { processors / cluster };
    if clusters == 0 { 1 } else { clusters }
}

/// The most parts of a row.
fn most_parts(segments: &[Segment], cols: u32) -> Option<u32> {
    segments.iter().map(|segment| segment.format.partition(cols).parts_of_row(cols)).max()
}

fn warps_per_unit(segments: &[Segment], cols: u32) -> Option<u32> {
    most_parts(segments, cols).map(|parts| parts.div_ceil(WARP).clamp(1, MOST_PER_UNIT))
}

/// Bytes of weights for each processor.
pub(super) fn bytes_each(segments: &[Segment], processors: u32) -> u64 {
    segments.iter().map(bytes).sum::<u64>() / u64::from(processors)
}

/// Bytes of a segment's weights.
const fn bytes(segment: &Segment) -> u64 {
    segment.matrix_bytes * segment.names.matrices.len() as u64
}

/// Turns of a row.
fn row_turns(segment: &Segment, cols: u32) -> u32 {
    segment.format.partition(cols).parts_of_row(cols).div_ceil(TURN_PARTS)
}

/// The blocks of each segment, or its clusters, of which `resident` are at work at once. Units are dealt out `together`, to
/// each at least `least` such shares and at most `fitting`.
fn blocks(segments: &[Segment], (together, least): (u32, u32), (resident, fitting): (u32, u32)) -> Vec<u32> {
    let all: u64 = segments.iter().map(bytes).sum();
    let most = |segment: &Segment| segment.units.div_ceil(together) / least;
    let blocks = segments.iter().map(|segment| {
        let proportional = (bytes(segment) * u64::from(resident) / all.max(1)) as u32;
        let needed = segment.units.div_ceil(together).div_ceil(fitting);
        let rounded = needed.div_ceil(resident) * resident;
        let wanted = if needed > proportional { rounded } else { proportional };
        let worth = bytes(segment).div_ceil(BLOCK_BYTES) as u32;
        wanted.min(worth).clamp(1, most(segment))
    });
    let mut blocks: Vec<u32> = blocks.collect();
    // What rounding has left goes to those who have the most to do.
    while blocks.iter().sum::<u32>() < resident {
        let open = segments.iter().zip(&mut blocks).filter(|(segment, blocks)| {
            **blocks < most(segment) && u64::from(**blocks) * BLOCK_BYTES < bytes(segment)
        });
        match open.max_by_key(|(segment, blocks)| bytes(segment) / u64::from(**blocks)) {
            Some((_, blocks)) => *blocks += 1,
            None => break,
        }
    }
    blocks
}

impl Share {
    /// The most units that a block finishes.
    pub(super) const fn most(self) -> u32 {
        (self.least + (self.longer > 0) as u32).div_ceil(self.cluster) * self.together
    }
}
