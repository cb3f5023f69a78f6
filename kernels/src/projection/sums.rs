//! The sums of a unit's rows: what each warp or item leaves in shared memory, and their totals.

use ptx_builder::{B32, F32, KernelBuilder, Pred, Reg, U32};

use super::product::Sums;
use super::{Projection, Segment};
use crate::support::WARP;

/// Where a lane leaves what it has of a unit's sums.
#[derive(Clone, Copy)]
pub(super) struct Leaves {
    lane: Reg<U32>,
    /// Its place among the sums of unit 0, or where that would be.
    at: Reg<U32>,
    unit_bytes: u32,
    /// Whether it has any.
    writes: Pred,
}

impl Projection {
    /// Activation rows as the sums have them.
    pub(super) const fn sum_rows(&self) -> u32 {
        if self.stage.tiles { self.stage.tile_rows() } else { self.stage.batch.next_power_of_two() }
    }

    /// Bytes from the sums of one unit to those of the next. The eight units of a tile, whose sums are stored together, are
    /// in banks of their own.
    pub(super) fn unit_sums_bytes(&self, segment: &Segment) -> u32 {
        let apart = if self.stage.tiles { 32 } else { 0 };
        2 * self.sum_rows() * self.spread.sums_of_row(segment, self.stage.cols) * 4 + apart
    }

    pub(super) fn sums_bytes(&self) -> u32 {
        let of = |(i, segment): (usize, &Segment)| {
            self.spread.share(segment, i).most() * self.unit_sums_bytes(segment)
        };
        self.segments.iter().enumerate().map(of).fold(0, u32::max)
    }

    /// Where a lane leaves sums of units, those of unit 0 from `at` on, and every unit `unit_bytes` from the one before.
    pub(super) fn leaves(
        &self,
        k: &mut KernelBuilder,
        lane: Reg<U32>,
        (at, unit_bytes): (Reg<U32>, u32),
    ) -> Leaves {
        let (values, lanes) = (2 * self.sum_rows(), WARP / self.spread.bundle);
        let of_row = if lanes < WARP { k.and(lane, lanes - 1) } else { lane };
        // Lane `l` of a row gets the value whose number is `l` backwards.
        let place = k.brev(of_row.cast::<B32>()).cast::<U32>();
        let place = k.shr(place, 32 - values.ilog2());
        let at = k.mad(place, 4, at);
        Leaves { lane, at, unit_bytes, writes: k.lt(of_row, values) }
    }

    /// Leaves the sums of a lane's `unit`, over the lanes that have parts of the same row.
    pub(super) fn leave(&self, k: &mut KernelBuilder, sums: &Sums, leaves: Leaves, unit: Reg<U32>) {
        let mut values = Vec::new();
        for row in sums {
            let last = row.last().into_iter().cycle();
            let padded = row.iter().chain(last).take(self.sum_rows() as usize);
            values.extend(padded.map(|&sum| k.get(sum)));
        }
        let total = lane_sums(k, values, leaves.lane, WARP / self.spread.bundle);
        let at = k.mad(unit, leaves.unit_bytes, leaves.at);
        k.guarded(leaves.writes, |k| k.st_shared::<F32>(at, total));
    }

    /// The sums of a unit over the warps or items that share it, for activation row `row`; `at` is where its sums begin.
    pub(super) fn totals(
        &self,
        k: &mut KernelBuilder,
        segment: &Segment,
        at: Reg<U32>,
        row: Reg<U32>,
    ) -> [Reg<F32>; 2] {
        let at = k.mad(row, 4, at);
        let row_bytes = self.sum_rows() * 4;
        let all: Vec<u32> = (0..self.spread.sums_of_row(segment, self.stage.cols)).collect();
        let together = self.spread.sums_of_tree() as usize;
        [0, 1].map(|row| {
            let warps = all.chunks(together).map(|items| {
                let load = |item: &u32| k.ld_shared::<F32>(at + ((2 * item + row) * row_bytes) as i32);
                let sums: Vec<_> = items.iter().map(load).collect();
                neighbours_first(k, sums)
            });
            let warps: Vec<_> = warps.collect();
            warps[1..].iter().fold(warps[0], |total, &warp| k.add(total, warp))
        })
    }
}

/// The sum of some values as a tree.
fn neighbours_first(k: &mut KernelBuilder, mut values: Vec<Reg<F32>>) -> Reg<F32> {
    while values.len() > 1 {
        let pairs = values.chunks(2).map(|pair| match *pair {
            [left, right] => k.add(left, right),
            _ => pair[0],
        });
        values = pairs.collect();
    }
    values[0]
}

/// The sums of several values over `lanes` neighbouring lanes, a power of two, each as a tree of them, neighbours first: of
/// `n` values, a power of two, lane `l` gets that whose number is the last bits of `l` backwards. While lanes hold several
/// values, a pair of lanes exchanges halves of them, so that the values' shuffles are not `5 n` but `n` and a few.
fn lane_sums(k: &mut KernelBuilder, values: Vec<Reg<F32>>, lane: Reg<U32>, lanes: u32) -> Reg<F32> {
    let mut values = values;
    for distance in (0..lanes.ilog2()).map(|bit| 1 << bit) {
        let half = values.len() / 2;
        if half == 0 {
            let other = k.shfl_bfly(values[0], distance);
            values[0] = k.add(values[0], other);
            continue;
        }
        let bit = k.and(lane, distance);
        let upper = k.ne(bit, 0);
        values = (0..half)
            .map(|i| {
                let (low, high) = (values[i], values[i + half]);
                let kept = k.selp(upper, high, low);
                let given = k.selp(upper, low, high);
                let other = k.shfl_bfly(given, distance);
                k.add(kept, other)
            })
            .collect();
    }
    values[0]
}
