//! Counts and sums of weights by bins, in shared memory, and the bin in which a running sum passes a number.

use ptx_builder::{Addr, ArrayRef, AtomOp, Atomic, KernelBuilder, Pred, Reg, U32, U64};

use super::definition::BINS;
use super::row::THREADS;
use crate::support::WARP;

/// Consecutive bins of a thread.
pub(super) const EACH: u32 = BINS / THREADS;
const WARPS: u32 = THREADS / WARP;
/// Bits of a weight that are added by themselves, so that the sum over any vocabulary fits a word.
const PART_BITS: u32 = 11;

const _: () = assert!(super::row::MAX_N as u64 * ((1 << PART_BITS) - 1) <= u32::MAX as u64);

/// What a [`Scan`] runs over: counts, sums of weights, or both.
pub(super) trait Amount: Copy {
    fn none(k: &mut KernelBuilder) -> Self;
    fn plus(self, k: &mut KernelBuilder, other: Self) -> Self;
    fn minus(self, k: &mut KernelBuilder, other: Self) -> Self;
    fn only_if(self, k: &mut KernelBuilder, p: Pred) -> Self;
    /// That of the lane `step` below.
    fn of_lower(self, k: &mut KernelBuilder, step: u32) -> Self;
    fn store(self, k: &mut KernelBuilder, count: Addr<U32>, sum: Addr<U32>);
    fn load(k: &mut KernelBuilder, count: Addr<U32>, sum: Addr<U32>) -> Self;
    /// What is compared with a number that is looked for.
    fn measure(self, k: &mut KernelBuilder) -> Reg<U64>;
}

/// A count.
impl Amount for Reg<U32> {
    fn none(k: &mut KernelBuilder) -> Self {
        k.imm::<U32>(0)
    }

    fn plus(self, k: &mut KernelBuilder, other: Self) -> Self {
        k.add(self, other)
    }

    fn minus(self, k: &mut KernelBuilder, other: Self) -> Self {
        k.sub(self, other)
    }

    fn only_if(self, k: &mut KernelBuilder, p: Pred) -> Self {
        k.selp(p, self, 0)
    }

    fn of_lower(self, k: &mut KernelBuilder, step: u32) -> Self {
        k.shfl_up(self, step)
    }

    fn store(self, k: &mut KernelBuilder, count: Addr<U32>, _: Addr<U32>) {
        k.st_shared::<U32>(count, self);
    }

    fn load(k: &mut KernelBuilder, count: Addr<U32>, _: Addr<U32>) -> Self {
        k.ld_shared::<U32>(count)
    }

    fn measure(self, k: &mut KernelBuilder) -> Reg<U64> {
        k.widen(self)
    }
}

/// A sum of weights.
impl Amount for Reg<U64> {
    fn none(k: &mut KernelBuilder) -> Self {
        k.imm::<U64>(0u64)
    }

    fn plus(self, k: &mut KernelBuilder, other: Self) -> Self {
        k.add(self, other)
    }

    fn minus(self, k: &mut KernelBuilder, other: Self) -> Self {
        k.sub(self, other)
    }

    fn only_if(self, k: &mut KernelBuilder, p: Pred) -> Self {
        k.selp(p, self, 0u64)
    }

    fn of_lower(self, k: &mut KernelBuilder, step: u32) -> Self {
        let [low, high] = k.unpack64::<U32>(self);
        let [low, high] = [k.shfl_up(low, step), k.shfl_up(high, step)];
        k.pack64(low, high).cast::<U64>()
    }

    fn store(self, k: &mut KernelBuilder, _: Addr<U32>, sum: Addr<U32>) {
        k.st_shared::<U64>(sum, self);
    }

    fn load(k: &mut KernelBuilder, _: Addr<U32>, sum: Addr<U32>) -> Self {
        k.ld_shared::<U64>(sum)
    }

    fn measure(self, _: &mut KernelBuilder) -> Reg<U64> {
        self
    }
}

/// How many, and their weights. A number that is looked for is one of the counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tally {
    pub count: Reg<U32>,
    pub sum: Reg<U64>,
}

impl Amount for Tally {
    fn none(k: &mut KernelBuilder) -> Self {
        Self { count: Amount::none(k), sum: Amount::none(k) }
    }

    fn plus(self, k: &mut KernelBuilder, other: Self) -> Self {
        Self { count: self.count.plus(k, other.count), sum: self.sum.plus(k, other.sum) }
    }

    fn minus(self, k: &mut KernelBuilder, other: Self) -> Self {
        Self { count: self.count.minus(k, other.count), sum: self.sum.minus(k, other.sum) }
    }

    fn only_if(self, k: &mut KernelBuilder, p: Pred) -> Self {
        Self { count: self.count.only_if(k, p), sum: self.sum.only_if(k, p) }
    }

    fn of_lower(self, k: &mut KernelBuilder, step: u32) -> Self {
        Self { count: self.count.of_lower(k, step), sum: self.sum.of_lower(k, step) }
    }

    fn store(self, k: &mut KernelBuilder, count: Addr<U32>, sum: Addr<U32>) {
        self.count.store(k, count, sum);
        self.sum.store(k, count, sum);
    }

    fn load(k: &mut KernelBuilder, count: Addr<U32>, sum: Addr<U32>) -> Self {
        Self { count: Amount::load(k, count, sum), sum: Amount::load(k, count, sum) }
    }

    fn measure(self, k: &mut KernelBuilder) -> Reg<U64> {
        self.count.measure(k)
    }
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
        self.clear_array(k, self.counts);
        self.clear_sums(k);
    }

    /// Empties their sums alone. All threads meet.
    pub fn clear_sums(&self, k: &mut KernelBuilder) {
        self.parts.iter().for_each(|&part| self.clear_array(k, part));
        k.barrier();
    }

    fn clear_array(&self, k: &mut KernelBuilder, array: ArrayRef<U32>) {
        let first = k.mul(self.thread, EACH);
        let at = k.shared_index(array, first);
        k.st_shared_v4::<U32>(at, [0u32; 4]);
    }

    /// Adds one of `weight` to a bin.
    pub fn add(&self, k: &mut KernelBuilder, bin: Reg<U32>, weight: Reg<U32>) {
        let one = k.imm::<U32>(1);
        let at = k.shared_index(self.counts, bin);
        k.red::<U32>(Atomic::SHARED, AtomOp::Add, at, one);
        self.add_weight(k, bin, weight);
    }

    /// Adds `weight` to the sum of a bin.
    pub fn add_weight(&self, k: &mut KernelBuilder, bin: Reg<U32>, weight: Reg<U32>) {
        for (array, part) in self.parts.into_iter().zip(0..) {
            let part = k.bfe(weight, part * PART_BITS, PART_BITS);
            let at = k.shared_index(array, bin);
            k.red::<U32>(Atomic::SHARED, AtomOp::Add, at, part);
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

    /// The sum of the bin that has the thread's number.
    pub fn sum_of_thread(&self, k: &mut KernelBuilder) -> Reg<U64> {
        let parts = self.parts.map(|array| {
            let at = k.shared_index(array, self.thread);
            k.ld_shared::<U32>(at)
        });
        joined(k, parts)
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

/// What a thread has with those of its warp before it, and what each warp but the last has.
#[derive(Debug)]
pub(super) struct Running<T> {
    scan: Scan,
    warp: Reg<U32>,
    own: T,
    until: T,
    warps: Vec<T>,
}

impl<T: Amount> Running<T> {
    /// What the threads before this one have.
    pub fn before(&self, k: &mut KernelBuilder) -> T {
        let mut before = T::none(k);
        for (index, &warp) in (0..).zip(&self.warps) {
            let earlier = k.gt(self.warp, index);
            let warp = warp.only_if(k, earlier);
            before = before.plus(k, warp);
        }
        let of_lanes = self.until.minus(k, self.own);
        before.plus(k, of_lanes)
    }

    /// What all threads have. To be called before they meet again.
    pub fn total(&self, k: &mut KernelBuilder) -> T {
        let last = self.scan.of_warp(k, WARPS - 1);
        let others = total(k, &self.warps);
        others.plus(k, last)
    }

    /// A part of it.
    pub fn map<U: Amount>(&self, part: impl Fn(T) -> U) -> Running<U> {
        let warps = self.warps.iter().map(|&warp| part(warp)).collect();
        Running { scan: self.scan, warp: self.warp, own: part(self.own), until: part(self.until), warps }
    }
}

/// All together.
pub(super) fn total<T: Amount>(k: &mut KernelBuilder, all: &[T]) -> T {
    let mut total = T::none(k);
    for &one in all {
        total = total.plus(k, one);
    }
    total
}

/// Where a running sum passes a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Found<const COUNTS: usize, const SUMS: usize> {
    /// The bin.
    pub bin: Reg<U32>,
    pub counts: [Reg<U32>; COUNTS],
    pub sums: [Reg<U64>; SUMS],
}

impl Scan {
    pub fn new(k: &mut KernelBuilder, thread: Reg<U32>) -> Self {
        Self {
            thread,
            counts: k.shared::<U32>("warp_counts", WARPS),
            sums: k.shared::<U64>("warp_sums", WARPS),
            found: k.shared::<U32>("found_bin", 3),
            found_sums: k.shared::<U64>("found_sums", 2),
        }
    }

    /// Running sums of what each thread has. All threads meet.
    pub fn run<T: Amount>(&self, k: &mut KernelBuilder, own: T) -> Running<T> {
        let (warp, lane) = (k.shr(self.thread, 5), k.and(self.thread, WARP - 1));
        let mut until = own;
        for step in [1u32, 2, 4, 8, 16] {
            let has = k.ge(lane, step);
            let lower = until.of_lower(k, step);
            let lower = lower.only_if(k, has);
            until = until.plus(k, lower);
        }
        // Whoever still reads what an earlier call left has read it then.
        k.barrier();
        let [count, sum] = [k.shared_index(self.counts, warp), k.shared_index(self.sums, warp)];
        let last = k.eq(lane, WARP - 1);
        k.guarded(last, |k| until.store(k, count + 0, sum + 0));
        k.barrier();
        let warps = (0..WARPS - 1).map(|warp| self.of_warp(k, warp)).collect();
        Running { scan: *self, warp, own, until, warps }
    }

    fn of_warp<T: Amount>(&self, k: &mut KernelBuilder, warp: u32) -> T {
        T::load(k, self.counts + 4 * warp as i32, self.sums + 8 * warp as i32)
    }

    /// The first bin after which what was seen so far is more than `target`, which is more in the end, and what `leave`
    /// makes of the bin's number among the thread's own and of what is before it; `own` are those of this thread, `before`
    /// what there is in those of the threads before it. All threads meet, and have met since the last call.
    pub fn find<T: Amount, const COUNTS: usize, const SUMS: usize>(
        &self,
        k: &mut KernelBuilder,
        own: &[T],
        before: T,
        target: Reg<U64>,
        leave: impl Fn(usize, T) -> ([Reg<U32>; COUNTS], [Reg<U64>; SUMS]),
    ) -> Found<COUNTS, SUMS> {
        let (counts, sums) = self.left();
        let mut before = before;
        for (i, &inside) in own.iter().enumerate() {
            let after = before.plus(k, inside);
            let [low, high] = [before.measure(k), after.measure(k)];
            let reached = k.le(low, target);
            let passed = k.gt(high, target);
            let here = k.and_pred(reached, passed);
            let bin = match own.len() {
                1 => self.thread,
                each => k.mad(self.thread, each as u32, i as u32),
            };
            let (found_counts, found_sums) = leave(i, before);
            k.guarded(here, |k| {
                k.st_shared::<U32>(self.found, bin);
                counts.iter().zip(found_counts).for_each(|(&at, count)| k.st_shared::<U32>(at, count));
                sums.iter().zip(found_sums).for_each(|(&at, sum)| k.st_shared::<U64>(at, sum));
            });
            before = after;
        }
        k.barrier();
        Found {
            bin: k.ld_shared::<U32>(self.found),
            counts: counts.map(|at| k.ld_shared::<U32>(at)),
            sums: sums.map(|at| k.ld_shared::<U64>(at)),
        }
    }

    /// [`find`](Self::find) for a `target` that may not be reached: then the bin is [`BINS`], and the rest zero.
    pub fn search<T: Amount, const COUNTS: usize, const SUMS: usize>(
        &self,
        k: &mut KernelBuilder,
        own: &[T],
        before: T,
        target: Reg<U64>,
        leave: impl Fn(usize, T) -> ([Reg<U32>; COUNTS], [Reg<U64>; SUMS]),
    ) -> Found<COUNTS, SUMS> {
        let (counts, sums): ([_; COUNTS], [_; SUMS]) = self.left();
        let first = k.eq(self.thread, 0);
        k.guarded(first, |k| {
            k.st_shared::<U32>(self.found, BINS);
            counts.iter().for_each(|&at| k.st_shared::<U32>(at, 0));
            sums.iter().for_each(|&at| k.st_shared::<U64>(at, 0u64));
        });
        k.barrier();
        self.find(k, own, before, target, leave)
    }

    /// Where the thread that finds a bin leaves counts and sums.
    fn left<const COUNTS: usize, const SUMS: usize>(&self) -> ([Addr<U32>; COUNTS], [Addr<U32>; SUMS]) {
        let counts = std::array::from_fn(|i| self.found + 4 * (i as i32 + 1));
        (counts, std::array::from_fn(|i| self.found_sums + 8 * i as i32))
    }
}
