//! How the parts of a row become one in a cluster: each of its blocks puts together an equal share of the features, which the
//! others send to its shared memory.

use ptx_builder::{F32, KernelBuilder, Reg, Scope, U32, U64};

use super::Attention;
use super::results::{Combined, Features, Outlet};
use super::splits::Splits;
use crate::emit;

/// How the features of a block's heads are shared, in groups of four.
#[derive(Debug, Clone, Copy)]
struct Shares {
    /// Groups of all blocks.
    groups: u32,
    /// Groups of a head.
    head_groups: u32,
    /// Groups of each block; the last blocks have fewer, or none.
    each: u32,
    /// Heads that groups of a block belong to, at most.
    heads: u32,
}

/// Bytes of a group's weighted values, and of a head's largest score and sum of weights.
const VALUES: u32 = 16;
const STATS: u32 = 8;

/// Bytes of a barrier object.
const OBJECT: u32 = 8;

impl Shares {
    fn new(kernel: &Attention) -> Self {
        let (head_groups, blocks) = (kernel.cache.head_dim / 4, kernel.splits.blocks);
        let groups = kernel.plan.heads() * head_groups;
        let each = groups.div_ceil(blocks);
        let ends = (0..groups).step_by(each as usize).map(|first| (first, groups.min(first + each) - 1));
        let heads = ends.map(|(first, last)| last / head_groups - first / head_groups + 1);
        Self { groups, head_groups, each, heads: heads.fold(1, u32::max) }
    }

    /// Bytes of the values of a block's share of all chunks.
    const fn values_bytes(self) -> u32 {
        Splits::CLUSTER_CHUNKS * self.each * VALUES
    }

    /// Bytes of that, what belongs to it, and the barrier object.
    const fn bytes(self) -> u32 {
        self.values_bytes() + Splits::CLUSTER_CHUNKS * self.heads * STATS + OBJECT
    }

    /// The head of a group, which may be one past the last.
    fn head(self, k: &mut KernelBuilder, group: Reg<U32>) -> Reg<U32> {
        emit::quotient_below(k, group, u64::from(self.groups) + 1, self.head_groups)
    }
}

/// Bytes of shared memory that a block needs to meet others.
pub(super) fn bytes(kernel: &Attention) -> u32 {
    Shares::new(kernel).bytes()
}

/// The blocks of a cluster. What a block is sent lies behind its rings: `[chunks, each]` values, `[chunks, heads]` pairs of
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

    /// The first group of this block's share, and how many it has.
    fn own(&self, k: &mut KernelBuilder) -> (Reg<U32>, Reg<U32>) {
        let Shares { groups, each, .. } = self.shares;
        let rank = k.cluster_ctarank();
        let first = k.mul(rank, each);
        let first = k.min(first, groups);
        let left = k.sub(groups, first);
        (first, k.min(left, each))
    }

    /// Has the barrier object wait for the parts of `chunks` chunks.
    pub fn expect(&self, k: &mut KernelBuilder, thread: Reg<U32>, chunks: Reg<U32>) {
        let first = k.eq(thread, 0);
        k.if_(first, |k| {
            let (group, own) = self.own(k);
            // Without groups the first is beyond all heads, and the last is not.
            let last = k.add(group, own);
            let last = k.sub(last, 1);
            let [head, last] = [group, last].map(|group| self.shares.head(k, group));
            let heads = k.sub(last, head);
            let heads = k.add(heads, 1);
            let stats = k.mul(heads, STATS);
            let part = k.mad(own, VALUES, stats);
            let bytes = k.mul(chunks, part);
            let arrivals = self.arrivals(k);
            k.mbarrier_arrive_expect(arrivals, bytes);
        });
    }

    /// Sends the thread's group of chunk `index` to the block whose it is; the first group of each head there, what belongs
    /// to the head.
    pub fn send(&self, k: &mut KernelBuilder, index: Reg<U32>, outlet: &Outlet, features: &Features) {
        let Shares { head_groups, each, heads, .. } = self.shares;
        let rank = k.div(outlet.place, each);
        let first = k.mul(rank, each);
        let place = k.sub(outlet.place, first);
        let place = k.mad(index, each, place);
        let first_head = self.shares.head(k, first);
        let head = k.sub(outlet.head, first_head);
        let head = k.mad(index, heads, head);
        let of_head = k.mul(outlet.head, head_groups);
        let leader = k.max(first, of_head);
        let leads = k.eq(outlet.place, leader);
        let leads = k.and_pred(leads, outlet.stores);
        let [values, stats, arrivals] = [self.values(k), self.stats(k), self.arrivals(k)];
        let values = k.mad(place, VALUES, values);
        let stats = k.mad(head, STATS, stats);
        let [values, stats, object] = [values, stats, arrivals].map(|at| k.cluster_address(at, rank));
        k.guarded(outlet.stores, |k| k.st_async_v4::<F32>(values, features.values, object));
        k.guarded(leads, |k| k.st_async_v2::<F32>(stats, [features.max, features.sum], object));
    }

    /// Waits for all chunks of the block's share, and stores it among the features of the row from `y` on.
    pub fn finish(&self, k: &mut KernelBuilder, thread: Reg<U32>, chunks: Reg<U32>, y: Reg<U64>) {
        let Shares { each, heads, .. } = self.shares;
        let (first, own) = self.own(k);
        let beyond = k.ge(thread, own);
        k.ret_if(beyond);
        let place = k.add(first, thread);
        let [first_head, head] = [first, place].map(|group| self.shares.head(k, group));
        let head = k.sub(head, first_head);
        k.comment("all parts of the block's share have come");
        let [values, stats, arrivals] = [self.values(k), self.stats(k), self.arrivals(k)];
        k.mbarrier_wait(arrivals, 0, Scope::Cluster);
        let values = k.mad(thread, VALUES, values);
        let stats = k.mad(head, STATS, stats);
        let combined = Combined::new(k);
        let part = k.imm::<U32>(0);
        combined.add(k, Splits::CLUSTER_CHUNKS, (part, chunks), |k, index| {
            let values = k.mad(index, each * VALUES, values);
            let stats = k.mad(index, heads * STATS, stats);
            let [max, sum] = k.ld_shared_v2::<F32>(stats);
            Features { max, sum, values: k.ld_shared_v4::<F32>(values) }
        });
        combined.features(k).store(k, (place, None), y);
    }
}
