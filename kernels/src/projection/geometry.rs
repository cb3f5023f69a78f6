//! How the rows of a projection are spread over blocks and warps.
//!
//! Two weight rows that belong together are a *unit*. A block has a range of units and deals them out to its *slots*:
//! groups of `W` neighbouring warps that share each row. `W` fixes the order in which a row is summed: it follows from the
//! matrices alone, so that an activation row gives the same bits in every batch and on every device. The number of blocks
//! orders nothing.
//!
//! Where a row is no whole number of warps' parts, lanes would have nothing to do: a row of 1,536 columns is 24 parts. So
//! where blocks have many units `W` warps take a *bundle* of them, as many as are whole warps together, and neighbouring
//! lanes whose number is a power of two still have parts of one row. Their sums are branches of the same tree.
//!
//! With several activation rows eight units are a *tile*, and a warp takes *items* of it: 8, 16 or 32 parts of every row,
//! whose sums are whole branches of the tree in which the lanes of a warp are summed. Where the columns allow it the
//! blocks of a cluster share their tiles: each has as many items of a row, but for the last one, which may have fewer, and
//! prepares only those activations.

use super::stage::{ITEM, Stage};
use super::tiles::TILE_UNITS;
use super::{Pairing, Segment};
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

/// The same for one activation row, where two slots take no more: one slot alone has nobody at work while it waits.
const WARPS_OF_TWO: u32 = 20;

/// Bytes of weights below which a block, or a warp, is longer beginning than working.
const BLOCK_BYTES: u64 = 2 << 10;
const WARP_BYTES: u64 = 1 << 10;

/// Warps that share a row at most: tensor cores take rows of which each lane has one part.
const MOST_PER_UNIT: u32 = 20;

/// Bundles that a block has at least: one more, which some blocks have, is then no great part of them.
const FEWEST_BUNDLES: u32 = 16;

/// Parts of a row that a lane takes at most, one after the other: the code of all is written out.
const MOST_STEPS: u32 = 8;

/// Bytes of shared memory for the sums of a block's units.
const SUMS: u32 = 8 << 10;

/// The same for those of tiles, and of tiles of weights of 16 bits, whose rings and activations are larger.
const TILE_SUMS: u32 = 144 << 10;
const TILE_SUMS_OF_HALVES: u32 = 96 << 10;

/// Turns of an item.
const ITEM_TURNS: [u32; 3] = [2, 4, 8];

/// Blocks of a cluster have at most one part in so many more than an even share of the columns. They all wait for each other, so
/// what the last one has less saves nothing.
const UNEVEN: u32 = 7;

/// Blocks of a cluster, the best first: the more share their columns, the less each prepares.
const CLUSTERS: [u32; 3] = [4, 2, 1];

/// The spread of one projection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Spread {
    /// `W`: warps that share a bundle, and sums that they leave of each of its rows.
    pub(super) warps_per_bundle: u32,
    /// Units that a slot takes at a time, a power of two. Its lanes have parts of one row by `32 / bundle`.
    pub(super) bundle: u32,
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
    /// Columns of a block; the last of a cluster may have fewer.
    pub(super) cols: u32,
}

/// What a spread over tensor cores may do about its shared memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    /// Blocks of a cluster at most: the more there are, the fewer activations each has.
    most_blocks: u32,
    /// Turns of an item at least: the more they are, the fewer sums there are.
    least_turns: u32,
    /// Bytes of sums at most, if there are as many blocks as it takes.
    sums: u32,
}

impl Room {
    /// The ways of which the best is found by trying.
    pub(super) const WAYS: [Self; 2] =
        [Self::of(CLUSTERS[0], ITEM_TURNS[0]), Self::of(CLUSTERS[1], ITEM_TURNS[0])];

    /// The one that needs the least, where there is no room for another.
    pub(super) const LAST: Self = Self::of(CLUSTERS[0], ITEM_TURNS[1]);

    const fn of(most_blocks: u32, least_turns: u32) -> Self {
        Self { most_blocks, least_turns, sums: TILE_SUMS }
    }

    /// The ways for weights of 16 bits.
    pub(super) fn of_halves() -> impl Iterator<Item = Self> {
        let sums = TILE_SUMS_OF_HALVES;
        let of = move |most_blocks| ITEM_TURNS.map(|least_turns| Self { most_blocks, least_turns, sums });
        CLUSTERS.into_iter().flat_map(of)
    }
}

impl Items {
    /// Items of so many turns, with `cols` columns shared by the blocks of a cluster; `None` where that would be too
    /// uneven, or leave a block no tile to finish.
    fn new(segments: &[Segment], cols: u32, (turns, cluster): (u32, u32)) -> Option<Self> {
        let mut shared = cols;
        if cluster > 1 {
            let shares = segments.iter().map(|segment| {
                let all = row_turns(segment, cols);
                let of_block = all.div_ceil(turns * cluster) * turns;
                let each_has = (cluster - 1) * of_block < all && segment.units >= TILE_UNITS * cluster;
                let even = of_block * cluster * UNEVEN <= all * (UNEVEN + 1);
                (each_has && even).then_some(of_block * (cols / all))
            });
            let shares: Vec<u32> = shares.collect::<Option<_>>()?;
            shared = shares[0];
            if !shared.is_multiple_of(ITEM) || shares.iter().any(|&share| share != shared) {
                return None;
            }
        }
        Some(Self { turns, cluster, cols: shared })
    }

    /// Items of a row of `turns` turns.
    pub(super) const fn of_row(self, turns: u32) -> u32 {
        turns.div_ceil(self.turns)
    }

    /// The same in a block, if it is not the last of its cluster.
    pub(super) const fn of_block(self, turns: u32) -> u32 {
        self.of_row(turns).div_ceil(self.cluster)
    }

    /// Whether the last block of a cluster has fewer items of a row of `turns` turns than the others, or one that is not
    /// full.
    pub(super) const fn uneven(self, turns: u32) -> bool {
        self.cluster > 1 && !turns.is_multiple_of(self.turns * self.cluster)
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
        let (warps_per_bundle, bundle) = match bundle(segments, stage, processors) {
            Some(bundle) => (most_parts(segments, stage.cols)? * bundle / WARP, bundle),
            None => (warps_per_unit(segments, stage.cols)?, 1),
        };
        if most_parts(segments, stage.cols)?.div_ceil(WARP * warps_per_bundle) > MOST_STEPS {
            return None;
        }
        let sums = 2 * stage.batch.next_power_of_two() * warps_per_bundle * bundle * 4;
        let blocks = blocks(segments, (bundle, 1), (processors, (SUMS / sums).max(1)));
        let bundles = segments.iter().zip(&blocks).map(|(segment, &blocks)| {
            let bundles = (segment.units / bundle).div_ceil(blocks);
            let worth = (bytes(segment) / u64::from(blocks * warps_per_bundle)).div_ceil(WARP_BYTES) as u32;
            bundles.min(worth)
        });
        let wanted = bundles.max()?.max(stage.items().div_ceil(warps_per_bundle));
        let two = stage.batch == 1 && 2 * warps_per_bundle <= WARPS_OF_TWO;
        let most = (WARPS / warps_per_bundle).max(if two { 2 } else { 1 });
        let warps = wanted.clamp(1, most) * warps_per_bundle;
        Some(Self { warps_per_bundle, bundle, warps, blocks, items: None })
    }

    /// The spread over the tensor cores of `processors`, with `warps` warps a block; `None` if the rows are too long.
    pub(super) fn of_tiles(
        segments: &[Segment],
        stage: Stage,
        (processors, warps): (u32, u32),
        room: Room,
    ) -> Option<Self> {
        let cols = stage.cols;
        let warps_per_bundle = warps_per_unit(segments, cols)?;
        if most_parts(segments, cols)? > WARP * warps_per_bundle {
            return None;
        }
        let mut last = None;
        for cluster in CLUSTERS.into_iter().filter(|&cluster| cluster <= room.most_blocks) {
            let resident = clusters_at_once(processors, cluster);
            for turns in ITEM_TURNS.into_iter().filter(|&turns| turns >= room.least_turns) {
                let Some(items) = Items::new(segments, cols, (turns, cluster)) else { continue };
                let of_row = |segment: &Segment| items.of_row(row_turns(segment, cols));
                let tile_sums = TILE_UNITS * stage.item_sums_bytes() * segments.iter().map(of_row).max()?;
                let fitting = (room.sums / tile_sums).max(1) * cluster;
                let clusters = blocks(segments, (TILE_UNITS, cluster), (resident, fitting));
                let few = clusters.iter().sum::<u32>() <= resident;
                let blocks = clusters.iter().map(|clusters| clusters * cluster).collect();
                last = Some(Self { warps_per_bundle, bundle: 1, warps, blocks, items: Some(items) });
                if few {
                    return last;
                }
            }
        }
        last
    }

    /// Bundles that a block's warps work on side by side, one activation row or a few at a time.
    pub(super) const fn slots(&self) -> u32 {
        self.warps / self.warps_per_bundle
    }

    /// Sums of a row: one of each warp or group of lanes that share it, or of each item.
    pub(super) fn sums_of_row(&self, segment: &Segment, cols: u32) -> u32 {
        self.items.map_or(self.warps_per_bundle, |items| items.of_row(row_turns(segment, cols)))
    }

    /// Sums of a row that are those of 32 parts together, and a tree; the others are added in order.
    pub(super) fn sums_of_tree(&self) -> u32 {
        self.items.map_or(self.bundle, Items::of_warp)
    }

    /// Warps of a block.
    pub(super) const fn warps(&self) -> u32 {
        self.warps
    }

    /// Threads of a block.
    pub(super) const fn threads(&self) -> u32 {
        self.warps() * WARP
    }

    /// Lanes that share a bundle.
    pub(super) const fn lanes(&self) -> u32 {
        self.warps_per_bundle * WARP
    }

    /// Blocks that share their units.
    pub(super) fn cluster(&self) -> u32 {
        self.items.map_or(1, |items| items.cluster)
    }

    /// Turns that a warp takes at most where tensor cores multiply.
    pub(super) fn turns_of_warp(&self, segment: &Segment, index: usize, cols: u32) -> u32 {
        self.items.map_or(0, |items| {
            let of_tile = items.of_block(row_turns(segment, cols));
            (self.share(segment, index).shares() * of_tile).div_ceil(self.warps) * items.turns
        })
    }

    /// The units of a block of segment `index`, or of a cluster.
    pub(super) fn share(&self, segment: &Segment, index: usize) -> Share {
        let together = if self.items.is_some() { TILE_UNITS } else { self.bundle };
        let (shares, sharers) = (segment.units.div_ceil(together), self.blocks[index] / self.cluster());
        Share { least: shares / sharers, longer: shares % sharers, together, cluster: self.cluster() }
    }
}

/// For how many clusters `processors` have room, one block a processor. A cluster stays within a group of processors, and
/// these are not all multiples of four: the 132 of an H200 take 30 clusters of four (`cuOccupancyMaxActiveClusters`). Of
/// other devices the same share is assumed.
pub(super) const fn clusters_at_once(processors: u32, cluster: u32) -> u32 {
    let clusters = if cluster == 4 { processors * 30 / PROCESSORS } else { processors / cluster };
    if clusters == 0 { 1 } else { clusters }
}

/// The most parts of a row.
fn most_parts(segments: &[Segment], cols: u32) -> Option<u32> {
    segments.iter().map(|segment| segment.format.tile_partition(cols).parts_of_row(cols)).max()
}

/// As few as it takes for each lane to have as few parts as possible.
fn warps_per_unit(segments: &[Segment], cols: u32) -> Option<u32> {
    let all = most_parts(segments, cols)?.div_ceil(WARP).max(1);
    Some(all.div_ceil(all.div_ceil(MOST_PER_UNIT)))
}

/// How many units are a bundle; `None` if they had better be taken one by one. Only where the rows of neighbouring units
/// are neighbours in each matrix.
fn bundle(segments: &[Segment], stage: Stage, processors: u32) -> Option<u32> {
    let parts = most_parts(segments, stage.cols)?;
    let group = 1 << parts.trailing_zeros().min(WARP.ilog2());
    let (bundle, alone) = (WARP / group, parts.div_ceil(WARP));
    let together = parts * bundle / WARP;
    if bundle == 1 || together.max(alone) > WARPS {
        return None;
    }
    // Of all warps that a block can have.
    let parts_at_once = WARPS / together * together * WARP;
    let better = parts_at_once > WARPS / alone * parts;
    // Each value that a bundle leaves has a lane of its group.
    let left = 2 * stage.batch.next_power_of_two() <= group;
    let divides = |segment: &Segment| {
        segment.format.partition(stage.cols).parts_of_row(stage.cols) == parts
            && segment.units.is_multiple_of(bundle)
            && segment.pairing == Pairing::Matrices
    };
    let units: u32 = segments.iter().map(|segment| segment.units).sum();
    let many = units / processors >= FEWEST_BUNDLES * bundle;
    (better && left && many && segments.iter().all(divides)).then_some(bundle)
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
    segment.format.tile_partition(cols).parts_of_row(cols).div_ceil(TURN_PARTS)
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
    /// Bytes of weights that a block reads at most, about.
    pub(super) fn most_bytes(self, segment: &Segment) -> u64 {
        bytes(segment) * u64::from(self.shares() * self.together) / u64::from(segment.units * self.cluster)
    }

    /// Units that a block or a cluster has at most, in what is dealt out together.
    const fn shares(self) -> u32 {
        self.least + (self.longer > 0) as u32
    }

    /// The most units that a block finishes.
    pub(super) const fn most(self) -> u32 {
        self.shares().div_ceil(self.cluster) * self.together
    }
}

#[cfg(test)]
mod tests {
    use tensor_formats::ElementType;

    use super::super::{GatedProjection, GreedyHead, ResidualProjection};

    #[test]
    fn units_are_bundled_where_lanes_would_have_nothing_to_do() {
        let spread = |rows, cols, batch| {
            let kernel =
                GatedProjection::new(ElementType::Q4_K, (rows, cols), batch, 1e-6).expect("a kernel");
            (kernel.0.spread.bundle, kernel.0.spread.warps_per_bundle, kernel.0.spread.warps)
        };
        // 24, 48 and 80 parts a row.
        assert_eq!(spread(8960, 1536, 1), (4, 3, 15));
        assert_eq!(spread(8192, 3072, 1), (2, 3, 15));
        assert_eq!(spread(13_824, 5120, 2), (2, 5, 15));
        // Whole warps; 56 parts, where as many lanes are idle as bundles would leave warps; few units; tensor cores.
        assert_eq!(spread(8192, 2048, 1), (1, 1, 16));
        assert_eq!(spread(14_336, 4096, 1), (1, 2, 16));
        assert_eq!(spread(18_944, 3584, 1), (1, 2, 16));
        assert_eq!(spread(4096, 1536, 1).0, 1);
        assert_eq!(spread(8960, 1536, 4).0, 1);
    }

    #[test]
    fn one_row_has_two_slots_where_these_are_no_more_than_twenty_warps() {
        let spread = |cols, batch| {
            let kernel = ResidualProjection::of_q8(ElementType::Q4_K, (4096, cols), batch, false);
            let spread = kernel.expect("a kernel").0.spread;
            (spread.warps_per_bundle, spread.warps)
        };
        assert_eq!((spread(16_384, 1), spread(17_408, 1), spread(18_944, 1)), ((8, 16), (9, 18), (10, 20)));
        assert_eq!((spread(18_944, 2), spread(22_016, 1), spread(28_672, 1)), ((10, 10), (11, 11), (14, 14)));
    }

    #[test]
    fn lanes_have_as_few_parts_as_possible_and_as_few_lanes_have_them() {
        let spread = |cols, batch| {
            let kernel = ResidualProjection::new(ElementType::Q8_0, (4096, cols), batch, false);
            let spread = kernel.expect("a kernel").0.spread;
            (spread.warps_per_bundle, spread.items.is_some())
        };
        // 592 and 640 parts are one for each lane, 800 and 896 two.
        assert_eq!(
            (spread(18_944, 1), spread(18_944, 8), spread(20_480, 8)),
            ((19, false), (19, true), (20, true))
        );
        assert_eq!((spread(25_600, 1), spread(28_672, 4)), ((13, false), (14, false)));
    }

    #[test]
    fn clusters_are_as_large_as_takes_the_least_time() {
        let q4 = ElementType::Q4_K;
        let cluster = |projection: super::super::Projection| projection.spread.cluster();
        let gated = |shape, batch| cluster(GatedProjection::new(q4, shape, batch, 1e-6).expect("a kernel").0);
        let residual =
            |shape, batch| cluster(ResidualProjection::new(q4, shape, batch, false).expect("a kernel").0);
        // 60 tiles for each of 30 clusters, or 28 for each of 66; 35 tiles or 16.
        assert_eq!((gated((14_336, 4096), 4), gated((14_336, 4096), 8)), (2, 4));
        assert_eq!((gated((8192, 2048), 4), gated((8192, 2048), 8)), (2, 4));
        // Little to read beside what is prepared.
        assert_eq!((residual((4096, 4096), 4), residual((2048, 2048), 8)), (4, 4));
        assert_eq!((residual((4096, 14_336), 4), residual((2048, 8192), 4)), (4, 4));
    }

    #[test]
    fn weights_of_16_bits_are_copied_while_others_are_multiplied() {
        let spread = |projection: super::super::Projection| {
            let items = projection.spread.items.expect("tensor cores");
            assert!(projection.ring_bytes >= 2 * 4096, "{}: one slot", projection.name);
            (items.cluster, items.turns, projection.spread.warps, projection.spread.blocks)
        };
        let f16 = ElementType::F16;
        let residual = |shape, batch| ResidualProjection::new(f16, shape, batch, false).expect("a kernel").0;
        let gated = |shape, batch| GatedProjection::new(f16, shape, batch, 1e-6).expect("a kernel").0;
        let head = |shape, batch| GreedyHead::new(f16, shape, batch, 1e-6).expect("a kernel").0;
        // Each block has as many tiles as others, or nearly.
        assert_eq!(spread(residual((2048, 2048), 1)), (1, 2, 16, vec![128]));
        assert_eq!(spread(gated((8192, 2048), 1)), (1, 2, 16, vec![132]));
        // Three tiles for two blocks.
        assert_eq!(spread(residual((3072, 2048), 1)), (1, 2, 16, vec![132]));
        // Long rows of many activations, which clusters share; many tiles, of which larger items leave fewer sums, and twice as
        // many blocks.
        assert_eq!(spread(residual((4096, 14_336), 8)), (4, 8, 16, vec![120]));
        assert_eq!(spread(head((128_256, 2048), 1)), (1, 4, 16, vec![132]));
        assert_eq!(spread(head((128_256, 4096), 8)), (1, 8, 8, vec![264]));
        assert_eq!(spread(head((152_064, 3584), 8)), (1, 8, 8, vec![264]));
    }

    #[test]
    fn clusters_share_columns_as_evenly_as_items_allow() {
        let items = |element, (rows, cols), batch| {
            let kernel = ResidualProjection::new(element, (rows, cols), batch, false).expect("a kernel");
            let items = kernel.0.spread.items.expect("tensor cores");
            (items.turns, items.cluster, items.cols)
        };
        let q4 = |rows, cols| items(ElementType::Q4_K, (rows, cols), 8);
        // Whole items for each; an item less for the last block, half an item less, and both.
        assert_eq!(q4(4096, 14_336), (2, 4, 3584));
        assert_eq!(q4(3584, 18_944), (2, 4, 5120));
        assert_eq!((q4(64, 3584), q4(64, 1792), q4(64, 5376)), ((2, 4, 1024), (2, 4, 512), (2, 4, 1536)));
        assert_eq!(q4(1536, 8960), (2, 4, 2560));
        // Three items, which no two blocks share evenly.
        assert_eq!(q4(1536, 1536), (2, 1, 1536));
        // What has room in large clusters only, and with few sums.
        assert_eq!(q4(5120, 27_648), (2, 4, 7168));
        assert_eq!(items(ElementType::Q6_K, (8192, 28_672), 8), (4, 4, 7168));
        assert_eq!(items(ElementType::Q6_K, (8192, 28_672), 4), (2, 4, 7168));
    }
}
