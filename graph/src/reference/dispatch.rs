//! The reference behind the dispatch trait, on planned memory.

use tensor_formats::quantize_row;

use super::cached::{AttentionInputs, CacheDims, RopeDims, RowState, attention, kv_scatter, rope};
use super::{ReferenceError, dequantize, from_u32_bytes, ops, to_f32_bytes, to_u32_bytes};
use crate::dispatch::{
    Add, Argmax, Attention, CopyTensor, EmbedRows, KvScatter, Mul, MulMat, QuantizeQ8, RmsNorm, Rope, Silu,
    SoftMax,
};
use crate::view::{BufferId, TensorView};
use crate::{KernelDispatch, MemoryPlan, OpCall, TensorId};

/// A slow, exact backend: computes in f64, stores results rounded to their element types.
///
/// It keeps the default body of every fused operation, so those are tested too.
#[derive(Debug, Clone)]
pub struct ReferenceDispatch {
    leaves: Vec<Option<Vec<u8>>>,
    workspace: Vec<u8>,
}

type Launches = Result<usize, ReferenceError>;

impl ReferenceDispatch {
    /// A backend with the workspace of `plan`, every byte of it `poison`, and no leaf bound.
    pub fn new(plan: &MemoryPlan, poison: u8) -> Self {
        let workspace = vec![poison; plan.workspace_bytes as usize];
        Self { leaves: vec![None; plan.views().len()], workspace }
    }

    /// Binds the memory of a leaf. Whether it is large enough shows when it is used.
    ///
    /// # Errors
    /// [`ReferenceError::NotBound`] if the plan has no such tensor.
    pub fn bind(&mut self, leaf: TensorId, bytes: Vec<u8>) -> Result<(), ReferenceError> {
        *self.leaves.get_mut(leaf.index()).ok_or(ReferenceError::NotBound(leaf))? = Some(bytes);
        Ok(())
    }

    /// The bytes of a view.
    ///
    /// # Errors
    /// [`ReferenceError::NotBound`] or [`ReferenceError::OutOfBounds`].
    pub fn bytes(&self, view: &TensorView) -> Result<&[u8], ReferenceError> {
        let buffer = match view.buffer {
            BufferId::Workspace => &self.workspace,
            BufferId::Leaf(id) => {
                self.leaves.get(id.index()).and_then(Option::as_ref).ok_or(ReferenceError::NotBound(id))?
            }
        };
        let out_of_bounds = || Self::out_of_bounds(view, buffer.len());
        buffer.get(view.offset as usize..view.end() as usize).ok_or_else(out_of_bounds)
    }

    /// The bytes of a view, to be changed.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes).
    pub fn bytes_mut(&mut self, view: &TensorView) -> Result<&mut [u8], ReferenceError> {
        let buffer = match view.buffer {
            BufferId::Workspace => &mut self.workspace,
            BufferId::Leaf(id) => self
                .leaves
                .get_mut(id.index())
                .and_then(Option::as_mut)
                .ok_or(ReferenceError::NotBound(id))?,
        };
        let len = buffer.len();
        let range = view.offset as usize..view.end() as usize;
        buffer.get_mut(range).ok_or_else(|| Self::out_of_bounds(view, len))
    }

    fn out_of_bounds(view: &TensorView, len: usize) -> ReferenceError {
        ReferenceError::OutOfBounds { buffer: view.buffer, offset: view.offset, end: view.end(), len }
    }

    fn real(&self, view: &TensorView) -> Result<Vec<f64>, ReferenceError> {
        Ok(dequantize(view.dtype, view.shape.cols(), self.bytes(view)?)?)
    }

    fn index(&self, view: &TensorView) -> Result<Vec<u32>, ReferenceError> {
        Ok(from_u32_bytes(self.bytes(view)?))
    }

    fn store(&mut self, view: &TensorView, bytes: &[u8]) -> Launches {
        self.bytes_mut(view)?.copy_from_slice(bytes);
        Ok(1)
    }

    fn store_real(&mut self, view: &TensorView, values: &[f64]) -> Launches {
        self.store(view, &to_f32_bytes(values))
    }
}

impl KernelDispatch for ReferenceDispatch {
    type Error = ReferenceError;

    /// Everything is supported.
    fn check(&self, _: &OpCall) -> Result<(), ReferenceError> {
        Ok(())
    }

    fn embed_rows(&mut self, a: EmbedRows) -> Launches {
        let (table, tokens) = (self.real(&a.table)?, self.index(&a.tokens)?);
        self.store_real(&a.output, &ops::embed_rows(&table, a.table.shape.cols(), &tokens)?)
    }

    fn rms_norm(&mut self, a: RmsNorm) -> Launches {
        self.store_real(&a.output, &ops::rms_norm(&self.real(&a.input)?, &self.real(&a.weight)?, a.eps))
    }

    fn mul_mat(&mut self, a: MulMat) -> Launches {
        let (weight, input) = (self.real(&a.weight)?, self.real(&a.input)?);
        self.store_real(&a.output, &ops::mul_mat(&weight, &input, a.weight.shape.cols()))
    }

    fn add(&mut self, a: Add) -> Launches {
        self.store_real(&a.output, &ops::add(&self.real(&a.a)?, &self.real(&a.b)?))
    }

    fn mul(&mut self, a: Mul) -> Launches {
        self.store_real(&a.output, &ops::mul(&self.real(&a.a)?, &self.real(&a.b)?))
    }

    fn silu(&mut self, a: Silu) -> Launches {
        self.store_real(&a.output, &ops::silu(&self.real(&a.input)?))
    }

    fn rope(&mut self, a: Rope) -> Launches {
        let dims = RopeDims { style: a.style, n_rot: a.n_rot, head_dim: a.head_dim };
        let (input, positions, table) =
            (self.real(&a.input)?, self.index(&a.positions)?, self.real(&a.table)?);
        self.store_real(&a.output, &rope(&input, &positions, &table, dims)?)
    }

    fn kv_scatter(&mut self, a: KvScatter) -> Launches {
        let KvScatter { n_sequences, n_kv_heads, max_seq, head_dim, .. } = a;
        let (positions, sequences) = (self.index(&a.positions)?, self.index(&a.sequences)?);
        let input = self.bytes(&a.input)?.as_chunks().0;
        let input: Vec<f32> = input.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
        let mut rounded = vec![0; a.cache.dtype.row_bytes(input.len())?];
        quantize_row(a.cache.dtype, &input, &mut rounded)?;
        // By the byte: a head has `head_dim` elements of a plain type.
        let head_dim = a.cache.dtype.row_bytes(head_dim)?;
        let dims = CacheDims { n_sequences, n_kv_heads, max_seq, head_dim };
        let rows = RowState { positions: &positions, sequences: &sequences };
        kv_scatter(self.bytes_mut(&a.cache)?, &rounded, rows, dims)?;
        Ok(1)
    }

    fn attention(&mut self, a: Attention) -> Launches {
        let Attention { n_sequences, n_kv_heads, max_seq, head_dim, scale, .. } = a;
        let (positions, sequences) = (self.index(&a.positions)?, self.index(&a.sequences)?);
        let out = attention(AttentionInputs {
            query: &self.real(&a.query)?,
            keys: &self.real(&a.keys)?,
            values: &self.real(&a.values)?,
            rows: RowState { positions: &positions, sequences: &sequences },
            dims: CacheDims { n_sequences, n_kv_heads, max_seq, head_dim },
            scale,
        })?;
        self.store_real(&a.output, &out)
    }

    fn soft_max(&mut self, a: SoftMax) -> Launches {
        self.store_real(&a.output, &ops::soft_max(&self.real(&a.input)?, a.input.shape.cols(), a.scale))
    }

    fn copy(&mut self, a: CopyTensor) -> Launches {
        let bytes = self.bytes(&a.input)?.to_vec();
        self.store(&a.output, &bytes)
    }

    fn quantize_q8(&mut self, a: QuantizeQ8) -> Launches {
        let bytes = ops::quantize_q8(&self.real(&a.input)?, a.input.shape.cols())?;
        self.store(&a.output, &bytes)
    }

    fn argmax(&mut self, a: Argmax) -> Launches {
        let indices = ops::argmax(&self.real(&a.input)?, a.input.shape.cols());
        self.store(&a.output, &to_u32_bytes(&indices))
    }
}
