//! Counts and sums of weights by bins, in shared memory, and the bin in which a running sum passes a number.

use ptx_builder::{ArrayRef, AtomOp, Atomic, KernelBuilder, Pred, Reg, U32, U64};

use super::definition::BINS;
use super::row::THREADS;
use crate::support::WARP;

/// Consecutive bins of a thread.
pub(super) const EACH: u32 = BINS / THREADS;
/// Bits of a weight that are added by themselves, so that the sum over any vocabulary fits a word.
const PART_BITS: u32 = 11;

const _: () = assert!(super::row::MAX_N as u64 * ((1 << PART_BITS) - 1) <= u32::MAX as u64);

/// How many, and their weights.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    pub count: Reg<U32>,
    pub sum: Reg<U64>,
}

impl Tally {
    pub fn none(k: &mut KernelBuilder) -> Self {
        Self { count: k.imm::<U32>(0), sum: k.imm::<U64>(0u64) }
    }

    pub fn plus(self, k: &mut KernelBuilder, other: Self) -> Self {
        Self { count: k.add(self.count, other.count), sum: k.add(self.sum, other.sum) }
    }

    fn only_if(self, k: &mut KernelBuilder, p: Pred) -> Self {
        Self { count: k.selp(p, self.count, 0), sum: k.selp(p, self.sum, 0u64) }
    }

    /// The count or the sum.
    fn measure(self, k: &mut KernelBuilder, measure: Measure) -> Reg<U64> {
        match measure {
            Measure::Count => k.widen(self.count),
            Measure::Sum => self.sum,
        }
    }
}

/// What runs up to a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Measure {
    Count,
    Sum,
}

/// Bins of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bins {
    thread: Reg<U32>,
    counts: ArrayRef<U32>,
    /// Sums of the three parts of weights, lowest first.
    parts: [ArrayRef<U32>; 3],
}

impl Bins {
    pub fn new(k: &mut KernelBuilder, thread: Reg<U32>) -> Self {
        let counts = k.shared::<U32>("bin_counts", BINS);
        let parts = ["bin_low", "bin_middle", "bin_high"].map(|name| k.shared::<U32>(name, BINS));
        Self { thread, counts, parts }
    }

    /// Empties the bins. All threads meet.
    pub fn clear(&self, k: &mut KernelBuilder) {
        let first = k.mul(self.thread, EACH);
        for array in [self.counts].into_iter().chain(self.parts) {
            let at = k.shared_index(array, first);
            k.st_shared_v4::<U32>(at, [0u32; 4]);
        }
        k.barrier();
    }

    /// Adds one of `weight` to a bin.
    pub fn add(&self, k: &mut KernelBuilder, bin: Reg<U32>, weight: Reg<U32>) {
        let add = |k: &mut KernelBuilder, array, value: Reg<U32>| {
            let at = k.shared_index(array, bin);
            k.red::<U32>(Atomic::SHARED, AtomOp::Add, at, value);
        };
        let one = k.imm::<U32>(1);
        add(k, self.counts, one);
        for (array, part) in self.parts.into_iter().zip(0..) {
            let part = k.bfe(weight, part * PART_BITS, PART_BITS);
            add(k, array, part);
        }
    }

    /// The thread's bins. All threads have met since the last was added.
    pub fn own(&self, k: &mut KernelBuilder) -> [Tally; EACH as usize] {
        let first = k.mul(self.thread, EACH);
        let [counts, low, middle, high] =
            [self.counts, self.parts[0], self.parts[1], self.parts[2]].map(|array| {
                let at = k.shared_index(array, first);
                k.ld_shared_v4::<U32>(at)
            });
        std::array::from_fn(|i| {
            let sum = joined(k, [low[i], middle[i], high[i]]);
            Tally { count: counts[i], sum }
        })
    }

    /// The bin that has the thread's number.
    pub fn of_thread(&self, k: &mut KernelBuilder) -> Tally {
        let [count, low, middle, high] =
            [self.counts, self.parts[0], self.parts[1], self.parts[2]].map(|array| {
                let at = k.shared_index(array, self.thread);
                k.ld_shared::<U32>(at)
            });
        let sum = joined(k, [low, middle, high]);
        Tally { count, sum }
    }
}

fn joined(k: &mut KernelBuilder, [low, middle, high]: [Reg<U32>; 3]) -> Reg<U64> {
    let sum = k.widen(low);
    let middle = k.mul_wide(middle, 1u32 << PART_BITS);
    let sum = k.add(sum, middle);
    let high = k.mul_wide(high, 1u32 << (2 * PART_BITS));
    k.add(sum, high)
}

/// Running sums over the threads of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    thread: Reg<U32>,
    counts: ArrayRef<U32>,
    sums: ArrayRef<U64>,
    found: ArrayRef<U32>,
    found_sums: ArrayRef<U64>,
}

/// What the threads before this one have, and all together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Running {
    pub before: Tally,
    pub total: Tally,
}

/// Where a running sum passes a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found {
    /// The bin, or [`BINS`] if the number is not reached; then there is nothing in it and nothing before.
    pub bin: Reg<U32>,
    pub inside: Tally,
    pub before: Tally,
}

impl Scan {
    pub fn new(k: &mut KernelBuilder, thread: Reg<U32>) -> Self {
        Self {
            thread,
            counts: k.shared::<U32>("warp_counts", THREADS / WARP),
            sums: k.shared::<U64>("warp_sums", THREADS / WARP),
            found: k.shared::<U32>("found_bin", 4),
            found_sums: k.shared::<U64>("found_sums", 2),
        }
    }

    /// Running sums of what each thread has. All threads meet.
    pub fn run(&self, k: &mut KernelBuilder, own: Tally) -> Running {
        let (warp, lane) = (k.shr(self.thread, 5), k.and(self.thread, WARP - 1));
        let mut until = own;
        for step in [1u32, 2, 4, 8, 16] {
            let has = k.ge(lane, step);
            let count = k.shfl_up(until.count, step);
            let [low, high] = k.unpack64::<U32>(until.sum);
            let [low, high] = [k.shfl_up(low, step), k.shfl_up(high, step)];
            let sum = k.pack64(low, high).cast::<U64>();
            let lower = Tally { count, sum }.only_if(k, has);
            until = until.plus(k, lower);
        }
        // Whoever still reads what an earlier call left has read it then.
        k.barrier();
        let [count_at, sum_at] = [k.shared_index(self.counts, warp), k.shared_index(self.sums, warp)];
        let last = k.eq(lane, WARP - 1);
        k.guarded(last, |k| {
            k.st_shared::<U32>(count_at, until.count);
            k.st_shared::<U64>(sum_at, until.sum);
        });
        k.barrier();
        let (mut before, mut total) = (Tally::none(k), Tally::none(k));
        for other in 0..THREADS / WARP {
            let count = k.ld_shared::<U32>(self.counts + 4 * other as i32);
            let sum = k.ld_shared::<U64>(self.sums + 8 * other as i32);
            let of_warp = Tally { count, sum };
            total = total.plus(k, of_warp);
            let earlier = k.gt(warp, other);
            let of_warp = of_warp.only_if(k, earlier);
            before = before.plus(k, of_warp);
        }
        let of_lanes = Tally { count: k.sub(until.count, own.count), sum: k.sub(until.sum, own.sum) };
        before = before.plus(k, of_lanes);
        Running { before, total }
    }

    /// The first bin after which what was seen so far is more than `target`; `own` are those of this thread, `before`
    /// what there is in those of the threads before it. All threads meet.
    pub fn find(
        &self,
        k: &mut KernelBuilder,
        own: &[Tally],
        before: Tally,
        (measure, target): (Measure, Reg<U64>),
    ) -> Found {
        k.barrier();
        let first = k.eq(self.thread, 0);
        k.guarded(first, |k| {
            k.st_shared_v4::<U32>(self.found, [BINS, 0, 0, 0]);
            k.st_shared_v2::<U64>(self.found_sums, [0u64; 2]);
        });
        k.barrier();
        let mut before = before;
        for (i, &inside) in (0..).zip(own) {
            let after = before.plus(k, inside);
            let [low, high] = [before.measure(k, measure), after.measure(k, measure)];
            let reached = k.le(low, target);
            let passed = k.gt(high, target);
            let here = k.and_pred(reached, passed);
            let bin = k.mad(self.thread, own.len() as u32, i);
            k.guarded(here, |k| {
                k.st_shared_v2::<U32>(self.found, [bin, inside.count]);
                k.st_shared::<U32>(self.found + 8, before.count);
                k.st_shared_v2::<U64>(self.found_sums, [inside.sum, before.sum]);
            });
            before = after;
        }
        k.barrier();
        let [bin, inside, before, _] = k.ld_shared_v4::<U32>(self.found);
        let [inside_sum, before_sum] = k.ld_shared_v2::<U64>(self.found_sums);
        Found {
            bin,
            inside: Tally { count: inside, sum: inside_sum },
            before: Tally { count: before, sum: before_sum },
        }
    }

    /// [`find`](Self::find) among bins of the block, after [`run`](Self::run) over them.
    pub fn total_of(k: &mut KernelBuilder, own: &[Tally]) -> Tally {
        let mut total = Tally::none(k);
        for &bin in own {
            total = total.plus(k, bin);
        }
        total
    }
}
