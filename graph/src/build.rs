//! One method for each operation, thin over [`ComputeGraph::add_op`].

use crate::{ComputeGraph, GraphError, OpParams, RopeStyle, TensorId, TensorOp};

/// Builders: one for each operation. Shapes are those of [`TensorOp`]'s variants; each fails with
/// [`GraphError::Op`] like [`ComputeGraph::add_op`].
impl ComputeGraph {
    /// [`TensorOp::EmbedRows`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn embed_rows(&mut self, table: TensorId, tokens: TensorId) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::EmbedRows, &[table, tokens], OpParams::None)
    }

    /// [`TensorOp::RmsNorm`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn rms_norm(&mut self, input: TensorId, weight: TensorId, eps: f32) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::RmsNorm, &[input, weight], OpParams::RmsNorm { eps })
    }

    /// [`TensorOp::MulMat`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn mul_mat(&mut self, weight: TensorId, input: TensorId) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::MulMat, &[weight, input], OpParams::None)
    }

    /// [`TensorOp::Add`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn add(&mut self, a: TensorId, b: TensorId) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::Add, &[a, b], OpParams::None)
    }

    /// [`TensorOp::Mul`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn mul(&mut self, a: TensorId, b: TensorId) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::Mul, &[a, b], OpParams::None)
    }

    /// [`TensorOp::Silu`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn silu(&mut self, input: TensorId) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::Silu, &[input], OpParams::None)
    }

    /// [`TensorOp::SwiGlu`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn swi_glu(&mut self, gate: TensorId, up: TensorId) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::SwiGlu, &[gate, up], OpParams::None)
    }

    /// [`TensorOp::Rope`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn rope(&mut self, operands: RopeOperands) -> Result<TensorId, GraphError> {
        let RopeOperands { input, positions, table, style, n_rot, head_dim } = operands;
        self.add_op(TensorOp::Rope, &[input, positions, table], OpParams::Rope { style, n_rot, head_dim })
    }

    /// [`TensorOp::KvScatter`]. Read the result, not `cache`, from here on.
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn kv_scatter(
        &mut self,
        cache: TensorId,
        input: TensorId,
        positions: TensorId,
        sequences: TensorId,
    ) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::KvScatter, &[cache, input, positions, sequences], OpParams::None)
    }

    /// [`TensorOp::Attention`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn attention(&mut self, operands: AttentionOperands) -> Result<TensorId, GraphError> {
        let AttentionOperands { query, keys, values, positions, sequences, scale } = operands;
        let inputs = [query, keys, values, positions, sequences];
        self.add_op(TensorOp::Attention, &inputs, OpParams::Attention { scale })
    }

    /// [`TensorOp::SoftMax`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn soft_max(&mut self, input: TensorId, scale: f32) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::SoftMax, &[input], OpParams::SoftMax { scale })
    }

    /// [`TensorOp::Copy`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn copy(&mut self, input: TensorId) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::Copy, &[input], OpParams::None)
    }

    /// [`TensorOp::QuantizeQ8`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn quantize_q8(&mut self, input: TensorId) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::QuantizeQ8, &[input], OpParams::None)
    }

    /// [`TensorOp::Argmax`].
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn argmax(&mut self, input: TensorId) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::Argmax, &[input], OpParams::None)
    }

    /// [`TensorOp::View`] of indices `start..start + len` of the outermost dimension.
    ///
    /// # Errors
    /// As [`add_op`](Self::add_op).
    pub fn view(&mut self, input: TensorId, start: usize, len: usize) -> Result<TensorId, GraphError> {
        self.add_op(TensorOp::View, &[input], OpParams::View { start, len })
    }
}

/// The operands of [`ComputeGraph::rope`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RopeOperands {
    /// `[rows, n_heads * head_dim]` F32.
    pub input: TensorId,
    /// `[rows]` U32.
    pub positions: TensorId,
    /// `[max_seq, n_rot / 2, 2]` F32.
    pub table: TensorId,
    /// Which features form a pair.
    pub style: RopeStyle,
    /// Features of each head that are rotated.
    pub n_rot: usize,
    /// Features of a head.
    pub head_dim: usize,
}

/// The operands of [`ComputeGraph::attention`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionOperands {
    /// `[rows, n_heads * head_dim]` F32.
    pub query: TensorId,
    /// `[n_sequences, n_kv_heads, max_seq, head_dim]` in F32, F16, BF16 or F8E4M3.
    pub keys: TensorId,
    /// As `keys`, and of their type.
    pub values: TensorId,
    /// `[rows]` U32.
    pub positions: TensorId,
    /// `[rows]` U32.
    pub sequences: TensorId,
    /// Factor on the scores.
    pub scale: f32,
}
