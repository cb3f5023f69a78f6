//! What a backend implements: one method for each operation, on resolved views.
//!
//! # Aliasing
//! The memory plan never gives two live tensors common bytes, with these exceptions, which a backend has to allow:
//! - [`Add`], [`Mul`]: `output` may be the same bytes as `a`, as `b`, or as both. (`b` as a broadcast vector never is.)
//! - [`Silu`], [`Rope`]: `output` may be the same bytes as `input`.
//! - [`SwiGlu`]: `output` may be the same bytes as `gate`, never those of `up`.
//! - Two operands that are only read may be the same bytes, or overlap as views of one tensor.
//!
//! An output that shares bytes with an operand shares all of them: same offset, same extent. All other outputs are
//! disjoint from all operands.
//!
//! What holds of the tensors of a group is said in [`groups`](crate::groups).
//!
//! # Contents of memory
//! A result's memory holds anything before the operation, not-a-numbers included, and the operation writes all of it.
//! A cache may hold anything at positions that no row has been scattered to.

mod args;
mod call;

pub use args::{
    Add, Argmax, Attention, CopyTensor, EmbedRows, KvScatter, Mul, MulMat, QuantizeQ8, RmsNorm, Rope, Silu,
    SoftMax, SwiGlu,
};
pub use call::OpCall;

use crate::TensorOp;
use crate::groups::{AttentionInput, GatedProjection, Group, Head, ResidualProjection};

/// An operation that a backend does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{backend} cannot run {op}: {reason}")]
pub struct DispatchError {
    /// The backend's name.
    pub backend: &'static str,
    /// The operation.
    pub op: TensorOp,
    /// Which type or size of it, and what would do.
    pub reason: String,
}

/// A backend: runs operations, or records them to be run.
///
/// Every method returns the number of launches that it really made: 0 is a correct answer for an operation that
/// needed none. The views' bounds, types and shapes agree as the structs say; the backend checks what only it knows,
/// that bound memory is large enough and that token ids, positions and sequences are in range.
pub trait KernelDispatch {
    /// What can go wrong. Backends usually have a variant for [`DispatchError`].
    type Error: std::error::Error + Send + Sync + 'static;

    /// Refuses what the backend cannot run. Called for every node before the first dispatch, so that nothing runs if
    /// anything cannot. A backend that keeps the default body of a fused operation checks the operations it consists of.
    ///
    /// # Errors
    /// An operation, type or size that the backend lacks.
    fn check(&self, call: &OpCall) -> Result<(), Self::Error>;

    /// Refuses a group that the backend cannot run, as [`check`](Self::check) does an operation; by default one of whose
    /// parts it refuses.
    ///
    /// # Errors
    /// An operation, type or size that the backend lacks.
    fn check_group(&self, group: &Group) -> Result<(), Self::Error> {
        group.parts().iter().try_for_each(|part| self.check(part))
    }

    /// [`TensorOp::EmbedRows`].
    ///
    /// # Errors
    /// The backend's own.
    fn embed_rows(&mut self, a: EmbedRows) -> Result<usize, Self::Error>;

    /// [`TensorOp::RmsNorm`].
    ///
    /// # Errors
    /// The backend's own.
    fn rms_norm(&mut self, a: RmsNorm) -> Result<usize, Self::Error>;

    /// [`TensorOp::MulMat`].
    ///
    /// # Errors
    /// The backend's own.
    fn mul_mat(&mut self, a: MulMat) -> Result<usize, Self::Error>;

    /// [`TensorOp::Add`].
    ///
    /// # Errors
    /// The backend's own.
    fn add(&mut self, a: Add) -> Result<usize, Self::Error>;

    /// [`TensorOp::Mul`].
    ///
    /// # Errors
    /// The backend's own.
    fn mul(&mut self, a: Mul) -> Result<usize, Self::Error>;

    /// [`TensorOp::Silu`].
    ///
    /// # Errors
    /// The backend's own.
    fn silu(&mut self, a: Silu) -> Result<usize, Self::Error>;

    /// [`TensorOp::Rope`].
    ///
    /// # Errors
    /// The backend's own.
    fn rope(&mut self, a: Rope) -> Result<usize, Self::Error>;

    /// [`TensorOp::KvScatter`].
    ///
    /// # Errors
    /// The backend's own.
    fn kv_scatter(&mut self, a: KvScatter) -> Result<usize, Self::Error>;

    /// [`TensorOp::Attention`].
    ///
    /// # Errors
    /// The backend's own.
    fn attention(&mut self, a: Attention) -> Result<usize, Self::Error>;

    /// [`TensorOp::SoftMax`].
    ///
    /// # Errors
    /// The backend's own.
    fn soft_max(&mut self, a: SoftMax) -> Result<usize, Self::Error>;

    /// [`TensorOp::Copy`].
    ///
    /// # Errors
    /// The backend's own.
    fn copy(&mut self, a: CopyTensor) -> Result<usize, Self::Error>;

    /// [`TensorOp::QuantizeQ8`].
    ///
    /// # Errors
    /// The backend's own.
    fn quantize_q8(&mut self, a: QuantizeQ8) -> Result<usize, Self::Error>;

    /// [`TensorOp::Argmax`].
    ///
    /// # Errors
    /// The backend's own.
    fn argmax(&mut self, a: Argmax) -> Result<usize, Self::Error>;

    /// [`TensorOp::SwiGlu`]. Fused; by default [`silu`](Self::silu) into the output, then [`mul`](Self::mul) in place.
    ///
    /// # Errors
    /// The backend's own.
    fn swi_glu(&mut self, a: SwiGlu) -> Result<usize, Self::Error> {
        let (silu, mul) = a.unfused();
        Ok(self.silu(silu)? + self.mul(mul)?)
    }

    /// [`AttentionInput`], which is what `parts` are together; by default [these](run_parts).
    ///
    /// # Errors
    /// The backend's own.
    fn attention_input(&mut self, a: &AttentionInput, parts: &[OpCall]) -> Result<usize, Self::Error> {
        let _ = a;
        run_parts(self, parts)
    }

    /// [`ResidualProjection`], which is what `parts` are together; by default [these](run_parts).
    ///
    /// # Errors
    /// The backend's own.
    fn residual_projection(
        &mut self,
        a: &ResidualProjection,
        parts: &[OpCall],
    ) -> Result<usize, Self::Error> {
        let _ = a;
        run_parts(self, parts)
    }

    /// [`GatedProjection`], which is what `parts` are together; by default [these](run_parts).
    ///
    /// # Errors
    /// The backend's own.
    fn gated_projection(&mut self, a: &GatedProjection, parts: &[OpCall]) -> Result<usize, Self::Error> {
        let _ = a;
        run_parts(self, parts)
    }

    /// [`Head`], which is what `parts` are together; by default [these](run_parts).
    ///
    /// # Errors
    /// The backend's own.
    fn head(&mut self, a: &Head, parts: &[OpCall]) -> Result<usize, Self::Error> {
        let _ = a;
        run_parts(self, parts)
    }
}

/// Runs the operations of a group one after the other and returns the sum of their launches.
///
/// # Errors
/// The backend's own, at the first operation that fails.
pub fn run_parts<D: KernelDispatch + ?Sized>(
    dispatcher: &mut D,
    parts: &[OpCall],
) -> Result<usize, D::Error> {
    parts.iter().try_fold(0, |launches, part| Ok(launches + part.dispatch(dispatcher)?))
}
