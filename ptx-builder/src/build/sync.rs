//! Barriers, fences, programmatic launch, special registers.

use super::{B32, B64, KernelBuilder, Pred, Reg, SharedAddr, U32, U64, Val};
use crate::inst::{AtomOrder, Kind, Mbarrier, MbarrierOp, Operand, Scope, Space, SpecialReg};
use crate::ops::Op;
use crate::ty::Ty;

impl KernelBuilder {
    /// All threads of the block meet: barrier 0.
    pub fn barrier(&mut self) {
        self.bar_sync(0u32);
    }

    /// All threads of the block meet at a numbered barrier.
    pub fn bar_sync(&mut self, barrier: impl Val<U32>) {
        self.effect(Op::BarSync, [barrier.operand()]);
    }

    /// `threads` threads (a multiple of 32) meet at a numbered barrier.
    pub fn bar_sync_count(&mut self, barrier: impl Val<U32>, threads: impl Val<U32>) {
        self.effect(Op::BarSync, [barrier.operand(), threads.operand()]);
    }

    /// Arrives at a numbered barrier of `threads` threads without waiting.
    pub fn bar_arrive(&mut self, barrier: impl Val<U32>, threads: impl Val<U32>) {
        self.effect(Op::BarArrive, [barrier.operand(), threads.operand()]);
    }

    /// All threads of the block meet; gives the number of those where `p` holds.
    pub fn bar_count(&mut self, barrier: impl Val<U32>, p: Pred) -> Reg<U32> {
        self.untyped(Op::BarRedPopc, [barrier.operand(), Self::negatable(p)])
    }

    /// All threads of the block meet; does `p` hold in all of them?
    pub fn bar_all(&mut self, barrier: impl Val<U32>, p: Pred) -> Pred {
        self.regular_pred(Op::BarRedAnd, None, [barrier.operand(), Self::negatable(p)])
    }

    /// All threads of the block meet; does `p` hold in one of them?
    pub fn bar_any(&mut self, barrier: impl Val<U32>, p: Pred) -> Pred {
        self.regular_pred(Op::BarRedOr, None, [barrier.operand(), Self::negatable(p)])
    }

    /// The lanes of `mask` meet, and see each other's earlier writes.
    pub fn warp_sync(&mut self, mask: impl Val<B32>) {
        self.effect(Op::BarWarpSync, [mask.operand()]);
    }

    /// Orders this thread's accesses for the threads of `scope`, acquire and release.
    pub fn fence(&mut self, scope: Scope) {
        let op = match scope {
            Scope::Cta => Op::FenceAcqRelCta,
            Scope::Cluster => Op::FenceAcqRelCluster,
            Scope::Gpu => Op::FenceAcqRelGpu,
            Scope::Sys => Op::FenceAcqRelSys,
        };
        self.effect(op, []);
    }

    /// Orders this thread's accesses for the threads of `scope`, sequentially consistent.
    pub fn fence_sc(&mut self, scope: Scope) {
        let op = match scope {
            Scope::Cta => Op::FenceScCta,
            Scope::Cluster => Op::FenceScCluster,
            Scope::Gpu => Op::FenceScGpu,
            Scope::Sys => Op::FenceScSys,
        };
        self.effect(op, []);
    }

    /// Arrives at the barrier of the cluster without waiting: what this thread did before is seen by those that wait for
    /// it. All threads of the warp arrive together. Needs sm_90.
    pub fn cluster_arrive(&mut self) {
        self.effect(Op::ClusterArriveAligned, []);
    }

    /// As [`cluster_arrive`](Self::cluster_arrive), but nothing that this thread did before becomes visible by it.
    pub fn cluster_arrive_relaxed(&mut self) {
        self.effect(Op::ClusterArriveRelaxedAligned, []);
    }

    /// Waits until all threads of the cluster have arrived, together with the other threads of the warp. Needs sm_90.
    pub fn cluster_wait(&mut self) {
        self.effect(Op::ClusterWaitAligned, []);
    }

    /// Where what is at `addr` in this block's shared memory is in that of the cluster's block `rank`, as an address in
    /// [`Space::SharedCluster`](crate::Space::SharedCluster). Needs sm_90.
    pub fn cluster_address(&mut self, addr: impl Val<U32>, rank: impl Val<U32>) -> Reg<U32> {
        self.regular(Op::MapaShared, Ty::U32, [addr.operand(), rank.operand()])
    }

    /// Makes a barrier object of `arrivals` arrivals a phase, in 8 bytes of shared memory. Other threads see it after
    /// whatever orders them after this one; for those of other blocks that begins with
    /// [`mbarrier_init_fence`](Self::mbarrier_init_fence). Needs sm_80.
    pub fn mbarrier_init(&mut self, object: impl SharedAddr, arrivals: impl Val<U32>) {
        let kind = Mbarrier { op: MbarrierOp::Init, space: Space::Shared, order: None, count: false };
        self.push(Kind::Mbarrier(kind), vec![Operand::Addr(object.shared_address()), arrivals.operand()]);
    }

    /// What this thread made by [`mbarrier_init`](Self::mbarrier_init) is seen in the cluster by those who wait for its
    /// arrival at a barrier, even a relaxed one. Needs sm_90.
    pub fn mbarrier_init_fence(&mut self) {
        self.effect(Op::FenceMbarrierInit, []);
    }

    /// Arrives at a barrier object of this block once: what this thread did before is seen by those who wait for the phase.
    /// Needs sm_80.
    pub fn mbarrier_arrive(&mut self, object: impl SharedAddr) {
        let kind = Mbarrier { op: MbarrierOp::Arrive, space: Space::Shared, order: None, count: false };
        let state = self.fresh::<B64>().operand();
        self.push(Kind::Mbarrier(kind), vec![state, Operand::Addr(object.shared_address())]);
    }

    /// Arrives at a barrier object of this block once, and makes its phase wait for `bytes` more. Needs sm_90.
    pub fn mbarrier_arrive_expect(&mut self, object: impl SharedAddr, bytes: impl Val<U32>) {
        let op = MbarrierOp::ArriveExpectTx;
        let kind = Mbarrier { op, space: Space::Shared, order: None, count: false };
        let state = self.fresh::<B64>().operand();
        let operands = vec![state, Operand::Addr(object.shared_address()), bytes.operand()];
        self.push(Kind::Mbarrier(kind), operands);
    }

    /// Waits until the phase of that parity (0 for the first) of a barrier object of this block is complete; sees what
    /// its bytes and arrivals from `scope` brought. Needs sm_90.
    pub fn mbarrier_wait(&mut self, object: impl SharedAddr, parity: impl Val<U32>, scope: Scope) {
        let order = Some((AtomOrder::Acquire, scope));
        let kind = Mbarrier { op: MbarrierOp::TryWaitParity, space: Space::Shared, order, count: false };
        let (object, parity) = (Operand::Addr(object.shared_address()), parity.operand());
        self.do_while(|k| {
            let complete = k.fresh_pred();
            k.push(Kind::Mbarrier(kind), vec![Operand::Reg(complete.id), object, parity]);
            !complete
        });
    }

    /// Waits for the grids that this one depends on by programmatic edges. Needs sm_90.
    pub fn grid_dependency_wait(&mut self) {
        self.effect(Op::GridDepWait, []);
    }

    /// Lets grids start that depend on this one by programmatic edges. Needs sm_90.
    pub fn grid_launch_dependents(&mut self) {
        self.effect(Op::GridDepLaunch, []);
    }

    /// Suspends the thread for about that many nanoseconds.
    pub fn nanosleep(&mut self, nanoseconds: impl Val<U32>) {
        self.effect(Op::Nanosleep, [nanoseconds.operand()]);
    }

    /// More registers per thread for this warp group, in multiples of 8. Needs sm_90a.
    pub fn setmaxnreg_inc(&mut self, registers: u32) {
        self.effect(Op::SetMaxNRegInc, [Operand::Int(i64::from(registers))]);
    }

    /// Fewer registers per thread for this warp group, in multiples of 8. Needs sm_90a.
    pub fn setmaxnreg_dec(&mut self, registers: u32) {
        self.effect(Op::SetMaxNRegDec, [Operand::Int(i64::from(registers))]);
    }

    /// The nanosecond timer.
    pub fn globaltimer(&mut self) -> Reg<U64> {
        self.special64(SpecialReg::GlobalTimer)
    }

    /// The cycle counter.
    pub fn clock64(&mut self) -> Reg<U64> {
        self.special64(SpecialReg::Clock64)
    }
}

macro_rules! special_registers {
    ($($(#[$doc:meta])* $name:ident $special:ident;)*) => {
        impl KernelBuilder { $(
            $(#[$doc])*
            pub fn $name(&mut self) -> Reg<U32> {
                let value = self.special(SpecialReg::$special);
                self.name(value, stringify!($name))
            }
        )* }
    };
}

special_registers! {
    /// Thread index in the block, x.
    tid_x TidX;
    /// Thread index in the block, y.
    tid_y TidY;
    /// Thread index in the block, z.
    tid_z TidZ;
    /// Block size, x.
    ntid_x NtidX;
    /// Block size, y.
    ntid_y NtidY;
    /// Block size, z.
    ntid_z NtidZ;
    /// Block index, x.
    ctaid_x CtaidX;
    /// Block index, y.
    ctaid_y CtaidY;
    /// Block index, z.
    ctaid_z CtaidZ;
    /// Grid size, x.
    nctaid_x NctaidX;
    /// Grid size, y.
    nctaid_y NctaidY;
    /// Grid size, z.
    nctaid_z NctaidZ;
    /// Lane in the warp.
    laneid LaneId;
    /// The multiprocessor.
    smid SmId;
    /// Block in the cluster.
    cluster_ctarank ClusterCtaRank;
}

impl KernelBuilder {
    /// `ctaid.x * ntid.x + tid.x`.
    pub fn global_tid_x(&mut self) -> Reg<U32> {
        let [block, size, thread] = [self.ctaid_x(), self.ntid_x(), self.tid_x()];
        self.mad::<U32>(block, size, thread)
    }
}
