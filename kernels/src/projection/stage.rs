//! What every block does first: the activations, normalised if asked for, to Q8 in shared memory.
//!
//! Chunks of 128 columns are dealt out to the warps; a lane holds four columns, eight lanes a group of 32. The sum of
//! squares is that of the chunks' sums in a fixed order, so that it does not depend on the number of warps.
//!
//! Quants lie in their order but for [`swizzled`] pieces of 16 bytes.

use ptx_builder::{B32, F32, KernelBuilder, Reg, U32, U64};

use super::Shared;
use crate::emit;
use crate::quantize::quantize_group;
use crate::support::WARP;

/// Columns of a chunk.
pub(super) const CHUNK: u32 = 128;

/// Chunks whose loads a warp has under way together, and keeps in registers between the passes of a norm.
const KEPT: u32 = 4;

/// The activations `[batch, cols]`, and what is done to them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Stage {
    pub(super) cols: u32,
    pub(super) batch: u32,
    /// Normalise first, with this added to the mean square.
    pub(super) eps: Option<f32>,
}

/// Where the activations are in shared memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Staged {
    /// Row 0's quants; rows follow each other.
    pub(super) quants: Reg<U32>,
    /// Row 0's pairs `(d, d * sum)`; rows follow each other.
    pub(super) groups: Reg<U32>,
}

/// A chunk of a row.
#[derive(Debug, Clone, Copy)]
struct Item {
    row: Reg<U32>,
    chunk: Reg<U32>,
}

/// Where the quant of `col` is in a row: bits 7 and 8 of the column are added, without carries, to bits 4 and 5 and to
/// bits 5 and 6. Whichever parts eight neighbouring lanes read together, 16 bytes each, they then use all banks: parts of
/// 64 columns, of 32, and pairs of 16 columns 128 apart.
pub(super) fn swizzled(k: &mut KernelBuilder, col: Reg<U32>) -> Reg<U32> {
    let bits = k.bfe(col, 7, 2);
    let once = k.shl(bits, 4);
    let twice = k.shl(bits, 5);
    let both = k.xor(once, twice);
    k.xor(col, both)
}

impl Stage {
    /// Bytes of shared memory.
    pub(super) const fn bytes(&self) -> u32 {
        self.batch * (self.quant_row_bytes() + self.group_row_bytes())
    }

    pub(super) const fn quant_row_bytes(&self) -> u32 {
        self.cols
    }

    pub(super) const fn group_row_bytes(&self) -> u32 {
        self.cols / 4
    }

    const fn chunks(&self) -> u32 {
        self.cols / CHUNK
    }

    /// Chunks of all rows.
    pub(super) const fn items(&self) -> u32 {
        self.batch * self.chunks()
    }

    /// Emits the loads of the norm's weights that do not have to wait for other kernels, if a warp's chunks fit its
    /// registers.
    pub(super) fn preload(
        &self,
        k: &mut KernelBuilder,
        warps: u32,
        weight: Option<Reg<U64>>,
    ) -> Vec<[Reg<F32>; 4]> {
        let Some(weight) = weight.filter(|_| self.keeps(warps)) else { return Vec::new() };
        k.comment("the weights of the norm");
        let (warp, lane) = place(k);
        (0..self.items().div_ceil(warps))
            .map(|index| {
                let item = self.item(k, warp, index * warps);
                self.load(k, weight, None, item.chunk, lane)
            })
            .collect()
    }

    /// Whether a warp keeps its chunks in registers.
    const fn keeps(&self, warps: u32) -> bool {
        self.items().div_ceil(warps) <= KEPT
    }

    /// Emits all of it; at its end the block's threads have met. `weights` is what [`preload`](Self::preload) gave.
    pub(super) fn emit(
        &self,
        k: &mut KernelBuilder,
        warps: u32,
        (x, weight): (Reg<U64>, Option<Reg<U64>>),
        weights: &[[Reg<F32>; 4]],
        shared: Shared,
    ) -> Staged {
        let quants = shared.quants;
        let groups = k.add(quants, self.batch * self.quant_row_bytes());
        let staged = Staged { quants, groups };
        let (warp, lane) = place(k);
        match (self.eps, weight, shared.chunk_sums) {
            (Some(eps), Some(weight), Some(sums)) => {
                let mut kept = Vec::new();
                if self.keeps(warps) {
                    k.comment("squares of a warp's chunks, which stay in registers");
                    let items: Vec<_> =
                        (0..self.items().div_ceil(warps)).map(|i| self.item(k, warp, i * warps)).collect();
                    kept =
                        items.iter().map(|item| self.load(k, x, Some(item.row), item.chunk, lane)).collect();
                    for (index, values) in (0..).zip(&kept) {
                        let index = k.add(warp, index * warps);
                        self.square(k, sums, index, lane, values);
                    }
                } else {
                    k.comment("squares of a warp's chunks");
                    k.for_range(warp, self.items(), warps, |k, index| {
                        let item = self.item(k, index, 0);
                        let values = self.load(k, x, Some(item.row), item.chunk, lane);
                        self.square(k, sums, index, lane, &values);
                    });
                }
                k.barrier();
                let only_row = (self.batch == 1).then(|| {
                    let row = k.imm::<U32>(0);
                    self.scale(k, sums, row, lane, eps)
                });
                let normalised =
                    |k: &mut KernelBuilder, item: Item, values: [Reg<F32>; 4], w: [Reg<F32>; 4]| {
                        let scale = only_row.unwrap_or_else(|| self.scale(k, sums, item.row, lane, eps));
                        std::array::from_fn(|i| {
                            let v = k.mul(values[i], scale);
                            k.mul(v, w[i])
                        })
                    };
                if self.keeps(warps) {
                    for (index, (values, w)) in (0..).zip(kept.iter().zip(weights)) {
                        let item = self.item(k, warp, index * warps);
                        let values = normalised(k, item, *values, *w);
                        let index = k.add(warp, index * warps);
                        self.store(k, staged, item, index, lane, values);
                    }
                } else {
                    k.for_range(warp, self.items(), warps, |k, index| {
                        let item = self.item(k, index, 0);
                        let values = self.load(k, x, Some(item.row), item.chunk, lane);
                        let w = self.load(k, weight, None, item.chunk, lane);
                        let values = normalised(k, item, values, w);
                        self.store(k, staged, item, index, lane, values);
                    });
                }
            }
            _ => {
                k.for_range(warp, self.items(), warps * KEPT, |k, first| {
                    let items: Vec<_> = (0..KEPT).map(|i| self.item(k, first, i * warps)).collect();
                    let values: Vec<_> =
                        items.iter().map(|item| self.load(k, x, Some(item.row), item.chunk, lane)).collect();
                    for (i, (item, values)) in (0..).zip(items.iter().zip(values)) {
                        let index = k.add(first, i * warps);
                        self.store(k, staged, *item, index, lane, values);
                    }
                });
            }
        }
        k.barrier();
        staged
    }

    /// Item `first + offset`, or the last one if there are fewer.
    fn item(&self, k: &mut KernelBuilder, first: Reg<U32>, offset: u32) -> Item {
        let index = if offset == 0 { first } else { k.add(first, offset) };
        let index = k.min(index, self.items() - 1);
        let (row, chunk) = emit::split(k, index, u64::from(self.items()), self.chunks());
        Item { row, chunk }
    }

    /// Four values of a chunk of a row, or of a vector.
    fn load(
        &self,
        k: &mut KernelBuilder,
        base: Reg<U64>,
        row: Option<Reg<U32>>,
        chunk: Reg<U32>,
        lane: Reg<U32>,
    ) -> [Reg<F32>; 4] {
        let at = match row {
            Some(row) if self.batch > 1 => k.ptr_index(base, row, self.cols * 4),
            _ => base,
        };
        let at = k.ptr_index(at, chunk, CHUNK * 4);
        let at = k.ptr_index(at, lane, 16);
        k.ld_global_v4::<F32>(at)
    }

    /// Leaves the sum of squares of a chunk. Warps without a chunk of that index have repeated the last, and leave
    /// nothing.
    fn square(
        &self,
        k: &mut KernelBuilder,
        sums: ptx_builder::ArrayRef<F32>,
        index: Reg<U32>,
        lane: Reg<U32>,
        values: &[Reg<F32>; 4],
    ) {
        let [a, b, c, d] = *values;
        let sum = k.mul(a, a);
        let sum = [b, c, d].into_iter().fold(sum, |sum, v| k.fma(v, v, sum));
        let sum = k.warp_sum(sum);
        let exists = k.lt(index, self.items());
        let first = k.eq(lane, 0);
        let writes = k.and_pred(exists, first);
        let index = k.min(index, self.items() - 1);
        let at = k.shared_index(sums, index);
        k.guarded(writes, |k| k.st_shared::<F32>(at, sum));
    }

    /// `1 / sqrt(mean + eps)` of a row.
    fn scale(
        &self,
        k: &mut KernelBuilder,
        sums: ptx_builder::ArrayRef<F32>,
        row: Reg<U32>,
        lane: Reg<U32>,
        eps: f32,
    ) -> Reg<F32> {
        let start = k.mul(row, self.chunks());
        let mut total = k.imm::<F32>(0.0);
        for from in (0..self.chunks()).step_by(WARP as usize) {
            let chunk = k.add(lane, from);
            let inside = k.lt(chunk, self.chunks());
            let chunk = k.min(chunk, self.chunks() - 1);
            let index = k.add(start, chunk);
            let at = k.shared_index(sums, index);
            let part = k.ld_shared::<F32>(at);
            let part = k.selp(inside, part, 0.0);
            total = k.add(total, part);
        }
        let total = k.warp_sum(total);
        let mean = k.fma(total, (self.cols as f32).recip(), eps);
        k.rsqrt_approx(mean)
    }

    /// Quantises four values a lane and stores them where the item is one of the warp's own.
    fn store(
        &self,
        k: &mut KernelBuilder,
        staged: Staged,
        item: Item,
        index: Reg<U32>,
        lane: Reg<U32>,
        values: [Reg<F32>; 4],
    ) {
        let group = quantize_group(k, values);
        let exists = k.lt(index, self.items());
        let row = k.mad(item.row, self.quant_row_bytes(), staged.quants);
        let within = k.shl(lane, 2);
        let col = k.mad(item.chunk, CHUNK, within);
        let at = swizzled(k, col);
        let at = k.add(row, at);
        k.guarded(exists, |k| k.st_shared::<B32>(at, group.quants));
        let sharer = k.and(lane, 7);
        let first = k.eq(sharer, 0);
        let writes = k.and_pred(exists, first);
        let row = k.mad(item.row, self.group_row_bytes(), staged.groups);
        let at = k.mad(item.chunk, CHUNK / 4, row);
        // A pair of eight bytes for every eighth lane.
        let at = k.add(at, lane);
        k.guarded(writes, |k| k.st_shared_v2::<B32>(at, [group.scale, group.scaled_sum]));
    }
}

/// This thread's warp and lane.
fn place(k: &mut KernelBuilder) -> (Reg<U32>, Reg<U32>) {
    let thread = k.tid_x();
    (k.shr(thread, 5), k.and(thread, WARP - 1))
}
