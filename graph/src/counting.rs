//! A backend that computes nothing.

use crate::dispatch::{
    Add, Argmax, Attention, CopyTensor, DispatchError, EmbedRows, KvScatter, Mul, MulMat, QuantizeQ8,
    RmsNorm, Rope, Silu, SoftMax, SwiGlu, run_parts,
};
use crate::groups::{AttentionInput, GatedProjection, GroupCall, Head, ResidualProjection};
use crate::{KernelDispatch, OpCall, TensorOp};

/// Records what is dispatched, one launch each: for tests of graphs and of the executor.
#[derive(Debug, Clone, Default)]
pub struct CountingDispatch {
    calls: Vec<OpCall>,
    groups: Vec<GroupCall>,
    lacks: Vec<TensorOp>,
    fails: Vec<TensorOp>,
    unfused: bool,
}

impl CountingDispatch {
    /// A backend that has every operation.
    pub fn new() -> Self {
        Self::default()
    }

    /// Without `op`: [`check`](KernelDispatch::check) refuses it.
    #[must_use]
    pub fn without(mut self, op: TensorOp) -> Self {
        self.lacks.push(op);
        self
    }

    /// With an `op` that passes the check and fails when it is dispatched.
    #[must_use]
    pub fn failing(mut self, op: TensorOp) -> Self {
        self.fails.push(op);
        self
    }

    /// With the default bodies of fused operations and of groups, so that the basic ones are recorded.
    #[must_use]
    pub fn unfused(mut self) -> Self {
        self.unfused = true;
        self
    }

    /// The operations that were dispatched, in order, those of groups apart.
    pub fn calls(&self) -> &[OpCall] {
        &self.calls
    }

    /// The groups that were dispatched, in order.
    pub fn groups(&self) -> &[GroupCall] {
        &self.groups
    }

    /// Which operations [`calls`](Self::calls) are.
    pub fn ops(&self) -> Vec<TensorOp> {
        self.calls.iter().map(OpCall::op).collect()
    }

    /// How often `op` was dispatched.
    pub fn count(&self, op: TensorOp) -> usize {
        self.calls.iter().filter(|call| call.op() == op).count()
    }

    fn record(&mut self, call: OpCall) -> Result<usize, DispatchError> {
        if self.fails.contains(&call.op()) {
            return Err(Self::error(call.op(), "told to fail"));
        }
        self.calls.push(call);
        Ok(1)
    }

    fn record_group(&mut self, call: GroupCall, parts: &[OpCall]) -> Result<usize, DispatchError> {
        if self.unfused {
            return run_parts(self, parts);
        }
        if let Some(part) = parts.iter().find(|part| self.fails.contains(&part.op())) {
            return Err(Self::error(part.op(), "told to fail"));
        }
        self.groups.push(call);
        Ok(1)
    }

    fn error(op: TensorOp, reason: &str) -> DispatchError {
        DispatchError { backend: "counting", op, reason: reason.to_owned() }
    }
}

impl KernelDispatch for CountingDispatch {
    type Error = DispatchError;

    fn check(&self, call: &OpCall) -> Result<(), DispatchError> {
        let parts: &[TensorOp] = match call.op() {
            TensorOp::SwiGlu if self.unfused => &[TensorOp::Silu, TensorOp::Mul],
            _ => &[],
        };
        match [call.op()].iter().chain(parts).find(|op| self.lacks.contains(op)) {
            Some(&op) => Err(Self::error(op, "told to lack it")),
            None => Ok(()),
        }
    }

    fn embed_rows(&mut self, a: EmbedRows) -> Result<usize, DispatchError> {
        self.record(OpCall::EmbedRows(a))
    }

    fn rms_norm(&mut self, a: RmsNorm) -> Result<usize, DispatchError> {
        self.record(OpCall::RmsNorm(a))
    }

    fn mul_mat(&mut self, a: MulMat) -> Result<usize, DispatchError> {
        self.record(OpCall::MulMat(a))
    }

    fn add(&mut self, a: Add) -> Result<usize, DispatchError> {
        self.record(OpCall::Add(a))
    }

    fn mul(&mut self, a: Mul) -> Result<usize, DispatchError> {
        self.record(OpCall::Mul(a))
    }

    fn silu(&mut self, a: Silu) -> Result<usize, DispatchError> {
        self.record(OpCall::Silu(a))
    }

    fn rope(&mut self, a: Rope) -> Result<usize, DispatchError> {
        self.record(OpCall::Rope(a))
    }

    fn kv_scatter(&mut self, a: KvScatter) -> Result<usize, DispatchError> {
        self.record(OpCall::KvScatter(a))
    }

    fn attention(&mut self, a: Attention) -> Result<usize, DispatchError> {
        self.record(OpCall::Attention(a))
    }

    fn soft_max(&mut self, a: SoftMax) -> Result<usize, DispatchError> {
        self.record(OpCall::SoftMax(a))
    }

    fn copy(&mut self, a: CopyTensor) -> Result<usize, DispatchError> {
        self.record(OpCall::Copy(a))
    }

    fn quantize_q8(&mut self, a: QuantizeQ8) -> Result<usize, DispatchError> {
        self.record(OpCall::QuantizeQ8(a))
    }

    fn argmax(&mut self, a: Argmax) -> Result<usize, DispatchError> {
        self.record(OpCall::Argmax(a))
    }

    fn swi_glu(&mut self, a: SwiGlu) -> Result<usize, DispatchError> {
        if !self.unfused {
            return self.record(OpCall::SwiGlu(a));
        }
        let (silu, mul) = a.unfused();
        Ok(self.silu(silu)? + self.mul(mul)?)
    }

    fn attention_input(&mut self, a: &AttentionInput, parts: &[OpCall]) -> Result<usize, DispatchError> {
        self.record_group(GroupCall::AttentionInput(*a), parts)
    }

    fn residual_projection(
        &mut self,
        a: &ResidualProjection,
        parts: &[OpCall],
    ) -> Result<usize, DispatchError> {
        self.record_group(GroupCall::ResidualProjection(*a), parts)
    }

    fn gated_projection(&mut self, a: &GatedProjection, parts: &[OpCall]) -> Result<usize, DispatchError> {
        self.record_group(GroupCall::GatedProjection(*a), parts)
    }

    fn head(&mut self, a: &Head, parts: &[OpCall]) -> Result<usize, DispatchError> {
        self.record_group(GroupCall::Head(*a), parts)
    }
}
