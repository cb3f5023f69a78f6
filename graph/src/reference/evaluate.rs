//! A graph by value: no buffers, no plan, and no rounding but to what caches can hold.

use tensor_formats::ElementType;

use super::cached::{AttentionInputs, CacheDims, RopeDims, RowState, attention, kv_scatter, rope};
use super::{ReferenceError, dequantize, from_u32_bytes, ops, stored};
use crate::{ComputeGraph, OpParams, TensorId, TensorNode, TensorOp};

/// The value of a tensor.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Of every type but U32: the elements, exactly.
    Real(Vec<f64>),
    /// Of U32.
    Index(Vec<u32>),
}

/// The values of all tensors of a graph.
#[derive(Debug, Clone)]
pub struct Values(Vec<Value>);

impl Values {
    /// The value of `id`, or `None` if the graph has no such tensor.
    pub fn get(&self, id: TensorId) -> Option<&Value> {
        self.0.get(id.index())
    }
}

/// Computes every tensor of `graph` in f64 from the bytes of its leaves.
///
/// Nothing is rounded between operations: [`TensorOp::QuantizeQ8`] is the identity here, so that what a backend loses
/// by quantising activations is part of its distance from this. Only what is scattered to a cache of fewer bits than F32
/// becomes what that can hold, as it says in the graph.
///
/// # Errors
/// [`ReferenceError`] if a leaf's bytes are missing or of the wrong length, or for a token, position or sequence that
/// is out of range.
pub fn evaluate(graph: &ComputeGraph, leaves: &[(TensorId, Vec<u8>)]) -> Result<Values, ReferenceError> {
    let mut values = Values(Vec::with_capacity(graph.nodes().len()));
    for (id, node) in graph.ids().zip(graph.nodes()) {
        let value = if node.is_leaf() {
            let bytes = leaves.iter().find(|(leaf, _)| *leaf == id).ok_or(ReferenceError::NotBound(id))?;
            leaf_value(node, id, &bytes.1)?
        } else {
            Operands { node, graph, values: &values }.compute()?
        };
        values.0.push(value);
    }
    Ok(values)
}

fn leaf_value(node: &TensorNode, id: TensorId, bytes: &[u8]) -> Result<Value, ReferenceError> {
    if bytes.len() as u64 != node.bytes() {
        let buffer = crate::BufferId::Leaf(id);
        return Err(ReferenceError::OutOfBounds { buffer, offset: 0, end: node.bytes(), len: bytes.len() });
    }
    Ok(match node.dtype() {
        ElementType::U32 => Value::Index(from_u32_bytes(bytes)),
        dtype => Value::Real(dequantize(dtype, node.shape().cols(), bytes)?),
    })
}

/// A node and what its operands are worth.
struct Operands<'a> {
    node: &'a TensorNode,
    graph: &'a ComputeGraph,
    values: &'a Values,
}

impl<'a> Operands<'a> {
    fn value(&self, operand: usize) -> &'a Value {
        &self.values.0[self.node.inputs()[operand].index()]
    }

    fn real(&self, operand: usize) -> Result<&'a [f64], ReferenceError> {
        match self.value(operand) {
            Value::Real(values) => Ok(values),
            Value::Index(_) => Err(self.kind()),
        }
    }

    fn index(&self, operand: usize) -> Result<&'a [u32], ReferenceError> {
        match self.value(operand) {
            Value::Index(values) => Ok(values),
            Value::Real(_) => Err(self.kind()),
        }
    }

    fn rows(&self, positions: usize) -> Result<RowState<'a>, ReferenceError> {
        Ok(RowState { positions: self.index(positions)?, sequences: self.index(positions + 1)? })
    }

    fn cache(&self, operand: usize) -> Result<CacheDims, ReferenceError> {
        CacheDims::of(self.graph.node(self.node.inputs()[operand]).shape()).ok_or_else(|| self.kind())
    }

    fn kind(&self) -> ReferenceError {
        ReferenceError::Kind(self.node.op())
    }

    fn compute(&self) -> Result<Value, ReferenceError> {
        let cols = || self.graph.node(self.node.inputs()[0]).shape().cols();
        let result = match (self.node.op(), self.node.params()) {
            (TensorOp::EmbedRows, _) => ops::embed_rows(self.real(0)?, cols(), self.index(1)?)?,
            (TensorOp::RmsNorm, OpParams::RmsNorm { eps }) => {
                ops::rms_norm(self.real(0)?, self.real(1)?, eps)
            }
            (TensorOp::MulMat, _) => ops::mul_mat(self.real(0)?, self.real(1)?, cols()),
            (TensorOp::Add, _) => ops::add(self.real(0)?, self.real(1)?),
            (TensorOp::Mul, _) => ops::mul(self.real(0)?, self.real(1)?),
            (TensorOp::Silu, _) => ops::silu(self.real(0)?),
            (TensorOp::SwiGlu, _) => ops::swi_glu(self.real(0)?, self.real(1)?),
            (TensorOp::Rope, OpParams::Rope { style, n_rot, head_dim }) => {
                rope(self.real(0)?, self.index(1)?, self.real(2)?, RopeDims { style, n_rot, head_dim })?
            }
            (TensorOp::KvScatter, _) => {
                let mut cache = self.real(0)?.to_vec();
                let input = self.real(1)?;
                let input = match self.node.dtype() {
                    ElementType::F32 => input.to_vec(),
                    dtype => dequantize(dtype, input.len(), &stored(dtype, input)?)?,
                };
                kv_scatter(&mut cache, &input, self.rows(2)?, self.cache(0)?)?;
                cache
            }
            (TensorOp::Attention, OpParams::Attention { scale }) => attention(AttentionInputs {
                query: self.real(0)?,
                keys: self.real(1)?,
                values: self.real(2)?,
                rows: self.rows(3)?,
                dims: self.cache(1)?,
                scale,
            })?,
            (TensorOp::SoftMax, OpParams::SoftMax { scale }) => ops::soft_max(self.real(0)?, cols(), scale),
            (TensorOp::Copy, _) => return Ok(self.value(0).clone()),
            (TensorOp::QuantizeQ8, _) => self.real(0)?.to_vec(),
            (TensorOp::Argmax, _) => return Ok(Value::Index(ops::argmax(self.real(0)?, cols()))),
            (TensorOp::View, OpParams::View { start, len }) => return Ok(self.view(start, len)),
            _ => return Err(self.kind()),
        };
        Ok(Value::Real(result))
    }

    fn view(&self, start: usize, len: usize) -> Value {
        let shape = self.graph.node(self.node.inputs()[0]).shape();
        let step = shape.elements() / shape.outer();
        let range = start * step..(start + len) * step;
        match self.value(0) {
            Value::Real(values) => Value::Real(values[range].to_vec()),
            Value::Index(values) => Value::Index(values[range].to_vec()),
        }
    }
}
