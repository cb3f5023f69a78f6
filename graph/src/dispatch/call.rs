//! A node as a backend sees it.

use super::{
    Add, Argmax, Attention, CopyTensor, EmbedRows, KernelDispatch, KvScatter, Mul, MulMat, QuantizeQ8,
    RmsNorm, Rope, Silu, SoftMax, SwiGlu,
};
use crate::view::TensorView;
use crate::{ComputeGraph, OpParams, TensorId, TensorOp};

/// An operation with its operands resolved: what a node asks of a backend.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // Each variant is the struct of its name.
#[non_exhaustive]
pub enum OpCall {
    EmbedRows(EmbedRows),
    RmsNorm(RmsNorm),
    MulMat(MulMat),
    Add(Add),
    Mul(Mul),
    Silu(Silu),
    SwiGlu(SwiGlu),
    Rope(Rope),
    KvScatter(KvScatter),
    Attention(Attention),
    SoftMax(SoftMax),
    Copy(CopyTensor),
    QuantizeQ8(QuantizeQ8),
    Argmax(Argmax),
}

impl OpCall {
    /// What node `id` of `graph` asks of a backend when its tensors are at `views`; `None` for leaves and views, which
    /// ask nothing.
    pub(crate) fn resolve(graph: &ComputeGraph, views: &[TensorView], id: TensorId) -> Option<Self> {
        let (node, output) = (graph.node(id), views[id.index()]);
        let input = |i: usize| views[node.inputs()[i].index()];
        Some(match (node.op(), node.params()) {
            (TensorOp::EmbedRows, _) => {
                Self::EmbedRows(EmbedRows { table: input(0), tokens: input(1), output })
            }
            (TensorOp::RmsNorm, OpParams::RmsNorm { eps }) => {
                Self::RmsNorm(RmsNorm { input: input(0), weight: input(1), output, eps })
            }
            (TensorOp::MulMat, _) => Self::MulMat(MulMat { weight: input(0), input: input(1), output }),
            (TensorOp::Add, _) => Self::Add(Add { a: input(0), b: input(1), output }),
            (TensorOp::Mul, _) => Self::Mul(Mul { a: input(0), b: input(1), output }),
            (TensorOp::Silu, _) => Self::Silu(Silu { input: input(0), output }),
            (TensorOp::SwiGlu, _) => Self::SwiGlu(SwiGlu { gate: input(0), up: input(1), output }),
            (TensorOp::Rope, OpParams::Rope { style, n_rot, head_dim }) => Self::Rope(Rope {
                input: input(0),
                positions: input(1),
                table: input(2),
                output,
                style,
                n_rot,
                head_dim,
                n_heads: output.shape.cols() / head_dim,
                max_seq: input(2).shape.outer(),
            }),
            (TensorOp::KvScatter, _) => {
                let [n_sequences, n_kv_heads, max_seq, head_dim] = cache_dims(&output)?;
                Self::KvScatter(KvScatter {
                    cache: output,
                    input: input(1),
                    positions: input(2),
                    sequences: input(3),
                    n_sequences,
                    n_kv_heads,
                    max_seq,
                    head_dim,
                })
            }
            (TensorOp::Attention, OpParams::Attention { scale }) => {
                let [n_sequences, n_kv_heads, max_seq, head_dim] = cache_dims(&input(1))?;
                Self::Attention(Attention {
                    query: input(0),
                    keys: input(1),
                    values: input(2),
                    positions: input(3),
                    sequences: input(4),
                    output,
                    scale,
                    n_heads: output.shape.cols() / head_dim,
                    n_kv_heads,
                    head_dim,
                    max_seq,
                    n_sequences,
                })
            }
            (TensorOp::SoftMax, OpParams::SoftMax { scale }) => {
                Self::SoftMax(SoftMax { input: input(0), output, scale })
            }
            (TensorOp::Copy, _) => Self::Copy(CopyTensor { input: input(0), output }),
            (TensorOp::QuantizeQ8, _) => Self::QuantizeQ8(QuantizeQ8 { input: input(0), output }),
            (TensorOp::Argmax, _) => Self::Argmax(Argmax { input: input(0), output }),
            // Leaves and views. The graph holds no other pairs: `add_op` checked the parameters' variant.
            (TensorOp::None | TensorOp::View, _) => return None,
            (TensorOp::RmsNorm | TensorOp::Rope | TensorOp::Attention | TensorOp::SoftMax, _) => return None,
        })
    }

    /// The operation.
    pub const fn op(&self) -> TensorOp {
        match self {
            Self::EmbedRows(_) => TensorOp::EmbedRows,
            Self::RmsNorm(_) => TensorOp::RmsNorm,
            Self::MulMat(_) => TensorOp::MulMat,
            Self::Add(_) => TensorOp::Add,
            Self::Mul(_) => TensorOp::Mul,
            Self::Silu(_) => TensorOp::Silu,
            Self::SwiGlu(_) => TensorOp::SwiGlu,
            Self::Rope(_) => TensorOp::Rope,
            Self::KvScatter(_) => TensorOp::KvScatter,
            Self::Attention(_) => TensorOp::Attention,
            Self::SoftMax(_) => TensorOp::SoftMax,
            Self::Copy(_) => TensorOp::Copy,
            Self::QuantizeQ8(_) => TensorOp::QuantizeQ8,
            Self::Argmax(_) => TensorOp::Argmax,
        }
    }

    /// The view that is written; for [`KvScatter`] the cache, of which only some rows are.
    pub const fn output(&self) -> TensorView {
        match self {
            Self::EmbedRows(a) => a.output,
            Self::RmsNorm(a) => a.output,
            Self::MulMat(a) => a.output,
            Self::Add(a) => a.output,
            Self::Mul(a) => a.output,
            Self::Silu(a) => a.output,
            Self::SwiGlu(a) => a.output,
            Self::Rope(a) => a.output,
            Self::KvScatter(a) => a.cache,
            Self::Attention(a) => a.output,
            Self::SoftMax(a) => a.output,
            Self::Copy(a) => a.output,
            Self::QuantizeQ8(a) => a.output,
            Self::Argmax(a) => a.output,
        }
    }

    /// Runs the operation: the one place that maps operations to methods.
    ///
    /// # Errors
    /// The backend's own.
    pub fn dispatch<D: KernelDispatch + ?Sized>(&self, dispatcher: &mut D) -> Result<usize, D::Error> {
        match *self {
            Self::EmbedRows(a) => dispatcher.embed_rows(a),
            Self::RmsNorm(a) => dispatcher.rms_norm(a),
            Self::MulMat(a) => dispatcher.mul_mat(a),
            Self::Add(a) => dispatcher.add(a),
            Self::Mul(a) => dispatcher.mul(a),
            Self::Silu(a) => dispatcher.silu(a),
            Self::SwiGlu(a) => dispatcher.swi_glu(a),
            Self::Rope(a) => dispatcher.rope(a),
            Self::KvScatter(a) => dispatcher.kv_scatter(a),
            Self::Attention(a) => dispatcher.attention(a),
            Self::SoftMax(a) => dispatcher.soft_max(a),
            Self::Copy(a) => dispatcher.copy(a),
            Self::QuantizeQ8(a) => dispatcher.quantize_q8(a),
            Self::Argmax(a) => dispatcher.argmax(a),
        }
    }
}

fn cache_dims(view: &TensorView) -> Option<[usize; 4]> {
    view.shape.dims().try_into().ok()
}
