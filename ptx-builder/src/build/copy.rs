//! Background copies and prefetches.

use super::{IntoAddr, KernelBuilder, SharedAddr, U32, Val};
use crate::inst::{Address, Operand};
use crate::ops::Op;

impl KernelBuilder {
    /// Copies `bytes` (4, 8 or 16) from global to shared memory in the background, through L1. Needs sm_80.
    pub fn cp_async_ca(&mut self, shared: impl SharedAddr, global: impl IntoAddr, bytes: u32) {
        self.cp_async(Op::CpAsyncCa, shared.shared_address(), global.address(), bytes, None);
    }

    /// Copies 16 bytes from global to shared memory in the background, past L1. Needs sm_80.
    pub fn cp_async_cg(&mut self, shared: impl SharedAddr, global: impl IntoAddr) {
        self.cp_async(Op::CpAsyncCg, shared.shared_address(), global.address(), 16, None);
    }

    /// As [`KernelBuilder::cp_async_cg`], fetching whole 128-byte lines into L2.
    pub fn cp_async_cg_l2(&mut self, shared: impl SharedAddr, global: impl IntoAddr) {
        self.cp_async(Op::CpAsyncCgL2, shared.shared_address(), global.address(), 16, None);
    }

    /// As [`KernelBuilder::cp_async_ca`], but only the first `valid` bytes are read, the rest is zeros.
    pub fn cp_async_ca_zfill(
        &mut self,
        shared: impl SharedAddr,
        global: impl IntoAddr,
        bytes: u32,
        valid: impl Val<U32>,
    ) {
        let valid = Some(valid.operand());
        self.cp_async(Op::CpAsyncCa, shared.shared_address(), global.address(), bytes, valid);
    }

    /// As [`KernelBuilder::cp_async_cg`], but only the first `valid` bytes are read, the rest is zeros.
    pub fn cp_async_cg_zfill(
        &mut self,
        shared: impl SharedAddr,
        global: impl IntoAddr,
        valid: impl Val<U32>,
    ) {
        let valid = Some(valid.operand());
        self.cp_async(Op::CpAsyncCg, shared.shared_address(), global.address(), 16, valid);
    }

    fn cp_async(&mut self, op: Op, shared: Address, global: Address, bytes: u32, valid: Option<Operand>) {
        let [to, from] = [Operand::Addr(shared), Operand::Addr(global)];
        let bytes = Operand::Int(i64::from(bytes));
        match valid {
            Some(valid) => self.effect(op, [to, from, bytes, valid]),
            None => self.effect(op, [to, from, bytes]),
        }
    }

    /// Closes a group of background copies.
    pub fn cp_async_commit(&mut self) {
        self.effect(Op::CpAsyncCommit, []);
    }

    /// Waits until at most `pending` of this thread's groups are unfinished.
    pub fn cp_async_wait(&mut self, pending: u32) {
        self.effect(Op::CpAsyncWait, [Operand::Int(i64::from(pending))]);
    }

    /// Waits for all of this thread's background copies.
    pub fn cp_async_wait_all(&mut self) {
        self.effect(Op::CpAsyncWaitAll, []);
    }

    /// Brings a line of global memory into L2.
    pub fn prefetch_l2(&mut self, addr: impl IntoAddr) {
        self.effect(Op::PrefetchL2, [Operand::Addr(addr.address())]);
    }

    /// Brings a line of global memory into L1.
    pub fn prefetch_l1(&mut self, addr: impl IntoAddr) {
        self.effect(Op::PrefetchL1, [Operand::Addr(addr.address())]);
    }
}
