//! How the parts of a row become one in a cluster: each of its blocks puts together an equal share of the features, which the
//! others send to its shared memory.

use ptx_builder::{F32, KernelBuilder, Reg, U32, U64};

use super::Attention;
use super::results::{Combined, Features, Outlet};
use super::splits::Splits;

/// How the features of a block's heads are shared, in groups of four.
#[derive(Debug, Clone, Copy)]
struct Shares {
    /// Groups of all blocks.
    groups: u32,
    /// Groups of each block; the last blocks have fewer, or none.
    each: u32,
}

/// Bytes of a group's weighted values, and of its largest score and sum of weights.
const VALUES: u32 = 16;
const STATS: u32 = 8;

/// Bytes of a barrier object.
const OBJECT: u32 = 8;

impl Shares {
    const fn new(kernel: &Attention) -> Self {
        let groups = kernel.plan.heads() * kernel.cache.head_dim / 4;
        Self { groups, each: groups.div_ceil(kernel.splits.blocks) }
    }

    /// Bytes of the values of a block's share of all chunks.
    const fn values_bytes(self) -> u32 {
        Splits::CLUSTER_CHUNKS * self.each * VALUES
    }

    /// Bytes of that, what belongs to it, and the barrier object.
    const fn bytes(self) -> u32 {
        self.values_bytes() + Splits::CLUSTER_CHUNKS * self.each * STATS + OBJECT
    }
}

/// Bytes of shared memory that a block needs to meet others.
pub(super) const fn bytes(kernel: &Attention) -> u32 {
    Shares::new(kernel).bytes()
}

/// The blocks of a cluster. What a block is sent lies behind its rings: `[chunks, each]` values, `[chunks, each]` pairs of
/// largest score and sum of weights, and the barrier object that counts their bytes. Registers are too few to keep addresses.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peers {
    shares: Shares,
    /// The bytes of the rings.
    behind: u32,
}

impl Peers {
    /// Makes what others need before they may send to this block: once they have met it at the cluster's barrier, at which it
    /// arrives here.
    pub fn begin(k: &mut KernelBuilder, kernel: &Attention, thread: Reg<U32>) -> Self {
        k.reqnctapercluster(1, kernel.splits.blocks, 1);
        let peers = Self { shares: Shares::new(kernel), behind: kernel.ring_bytes() };
        let first = k.eq(thread, 0);
        k.if_(first, |k| {
            let arrivals = peers.arrivals(k);
            k.mbarrier_init(arrivals, 1);
            k.mbarrier_init_fence();
        });
        k.cluster_arrive_relaxed();
        peers
    }

    fn values(&self, k: &mut KernelBuilder) -> Reg<U32> {
        let start = k.dynamic_shared(VALUES);
        k.add(start, self.behind)
    }

    fn stats(&self, k: &mut KernelBuilder) -> Reg<U32> {
        let start = k.dynamic_shared(VALUES);
        k.add(start, self.behind + self.shares.values_bytes())
    }

    fn arrivals(&self, k: &mut KernelBuilder) -> Reg<U32> {
        let start = k.dynamic_shared(VALUES);
        k.add(start, self.behind + self.shares.bytes() - OBJECT)
    }

    /// The groups of this block's share.
    fn own(&self, k: &mut KernelBuilder) -> Reg<U32> {
        let Shares { groups, each } = self.shares;
        let rank = k.cluster_ctarank();
        let before = k.mul(rank, each);
        let before = k.min(before, groups);
        let left = k.sub(groups, before);
        k.min(left, each)
    }

    /// Has the barrier object wait for the parts of `chunks` chunks.
    pub fn expect(&self, k: &mut KernelBuilder, thread: Reg<U32>, chunks: Reg<U32>) {
        let first = k.eq(thread, 0);
        k.if_(first, |k| {
            let own = self.own(k);
            let part = k.mul(own, VALUES + STATS);
            let bytes = k.mul(chunks, part);
            let arrivals = self.arrivals(k);
            k.mbarrier_arrive_expect(arrivals, bytes);
        });
    }

    /// Sends the thread's group of chunk `index` to the block whose it is.
    pub fn send(&self, k: &mut KernelBuilder, index: Reg<U32>, outlet: &Outlet, features: &Features) {
        let each = self.shares.each;
        let rank = k.div(outlet.place, each);
        let before = k.mul(rank, each);
        let place = k.sub(outlet.place, before);
        let place = k.mad(index, each, place);
        let [values, stats, arrivals] = [self.values(k), self.stats(k), self.arrivals(k)];
        let values = k.mad(place, VALUES, values);
        let stats = k.mad(place, STATS, stats);
        let [values, stats, object] = [values, stats, arrivals].map(|at| k.cluster_address(at, rank));
        k.if_(outlet.stores, |k| {
            k.st_async_v4::<F32>(values, features.values, object);
            k.st_async_v2::<F32>(stats, [features.max, features.sum], object);
        });
    }

    /// Waits for all chunks of the block's share, and stores it among the features of the row from `y` on.
    pub fn finish(&self, k: &mut KernelBuilder, thread: Reg<U32>, chunks: Reg<U32>, y: Reg<U64>) {
        let each = self.shares.each;
        let own = self.own(k);
        let beyond = k.ge(thread, own);
        k.ret_if(beyond);
        k.comment("all parts of the block's share have come");
        let [values, stats, arrivals] = [self.values(k), self.stats(k), self.arrivals(k)];
        k.mbarrier_wait(arrivals, 0);
        let values = k.mad(thread, VALUES, values);
        let stats = k.mad(thread, STATS, stats);
        let combined = Combined::new(k);
        let first = k.imm::<U32>(0);
        combined.add(k, Splits::CLUSTER_CHUNKS, (first, chunks), |k, index| {
            let values = k.mad(index, each * VALUES, values);
            let stats = k.mad(index, each * STATS, stats);
            let [max, sum] = k.ld_shared_v2::<F32>(stats);
            Features { max, sum, values: k.ld_shared_v4::<F32>(values) }
        });
        let rank = k.cluster_ctarank();
        let place = k.mad(rank, each, thread);
        combined.features(k).store(k, (place, None), y);
    }
}
