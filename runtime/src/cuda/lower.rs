//! Which kernels compute an operation, and on which tensors: the one place where operations meet kernels.

use std::sync::Arc;

use graph::{OpCall, Shape, TensorView};
use kernels::argmax::Argmax;
use kernels::attention::{Attention, PromptAttention};
use kernels::copy::CopyRows;
use kernels::elementwise::{Elementwise, ElementwiseOp};
use kernels::embed::EmbedRows;
use kernels::gemv::{self, Gemv, GemvQ8};
use kernels::kv_scatter::KvScatter;
use kernels::quantize::QuantizeQ8;
use kernels::rms_norm::RmsNorm;
use kernels::rope::{Rope, RopeShape, RopeStyle};
use kernels::soft_max::SoftMax;
use kernels::{CacheShape, Kernel, KernelError};
use tensor_formats::ElementType;

use super::error::CudaError;
use super::machine::Machine;
use super::row_chunks::row_chunks;
use super::working_memory::WorkingMemory;

/// A kernel and its tensors.
#[derive(Debug, Clone)]
pub(crate) struct Lowered {
    pub(crate) kernel: Arc<dyn Kernel>,
    /// For each parameter that is not working memory.
    pub(crate) operands: Vec<Operand>,
}

/// What a parameter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operand {
    Tensor(TensorView),
    /// What a launch hands to those right behind it: so many bytes of the scratch, from `offset` on.
    Handed {
        offset: u64,
        bytes: u64,
        element: ElementType,
    },
}

impl Lowered {
    /// What the launch works in.
    ///
    /// # Errors
    /// [`CudaError::Overflow`] if it does not fit 64 bits.
    pub(crate) fn working_memory(&self) -> Result<WorkingMemory, CudaError> {
        let handed = self.operands.iter().map(|operand| match operand {
            Operand::Tensor(_) => 0,
            Operand::Handed { offset, bytes, .. } => offset.saturating_add(*bytes),
        });
        let handed = WorkingMemory { scratch: handed.max().unwrap_or(0), counters: 0 };
        Ok(WorkingMemory::of(&self.kernel.params())?.max(handed))
    }
}

/// The launches that compute `call`, in order.
///
/// The weight's element type chooses the matrix kernel, the activation's type its variant; more rows than a
/// matrix-vector kernel takes become several launches over views.
///
/// # Errors
/// A type or size that no kernel takes.
pub(crate) fn lower(call: &OpCall, machine: Machine) -> Result<Vec<Lowered>, CudaError> {
    Ok(vec![match *call {
        OpCall::MulMat(a) => return mul_mat(&a),
        OpCall::EmbedRows(a) => {
            let (vocab, n) = (a.table.shape.rows(), a.table.shape.cols());
            let kernel = EmbedRows::new(a.table.dtype, vocab, n, a.tokens.shape.elements());
            one(kernel, &[a.table, a.tokens, a.output])?
        }
        OpCall::RmsNorm(a) => one(
            RmsNorm::new(a.input.shape.rows(), a.input.shape.cols(), a.eps),
            &[a.input, a.weight, a.output],
        )?,
        OpCall::Add(a) => {
            let op = if a.is_broadcast() { ElementwiseOp::AddRow } else { ElementwiseOp::Add };
            elementwise(op, &[a.a, a.b, a.output])?
        }
        OpCall::Mul(a) => elementwise(ElementwiseOp::Mul, &[a.a, a.b, a.output])?,
        OpCall::Silu(a) => elementwise(ElementwiseOp::Silu, &[a.input, a.output])?,
        OpCall::SwiGlu(a) => elementwise(ElementwiseOp::SwiGlu, &[a.gate, a.up, a.output])?,
        OpCall::Rope(a) => {
            let style = match a.style {
                graph::RopeStyle::Interleaved => RopeStyle::Interleaved,
                graph::RopeStyle::NeoX => RopeStyle::NeoX,
            };
            let (rows, heads) = (a.input.shape.rows(), a.n_heads);
            let shape = RopeShape { rows, heads, head_dim: a.head_dim, n_rot: a.n_rot, max_seq: a.max_seq };
            one(Rope::new(style, shape), &[a.input, a.positions, a.table, a.output])?
        }
        OpCall::KvScatter(a) => {
            let graph::KvScatter { n_sequences, n_kv_heads, max_seq, head_dim, .. } = a;
            let cache = CacheShape { n_sequences, n_kv_heads, max_seq, head_dim, element: a.cache.dtype };
            let kernel = KvScatter::new(cache, a.input.shape.rows());
            one(kernel, &[a.cache, a.input, a.positions, a.sequences])?
        }
        OpCall::Attention(a) => {
            let graph::Attention { n_sequences, n_kv_heads, max_seq, head_dim, .. } = a;
            let cache = CacheShape { n_sequences, n_kv_heads, max_seq, head_dim, element: a.keys.dtype };
            let rows = a.query.shape.rows();
            let operands = [a.query, a.keys, a.values, a.positions, a.sequences, a.output];
            let many = machine.prompt && machine.multiplies_halves(rows);
            // Caches and heads that it has no kernel for are left to the other one.
            if many && let Ok(kernel) = PromptAttention::new(cache, rows, a.n_heads, a.scale) {
                return Ok(vec![one(Ok(kernel), &operands)?]);
            }
            let kernel = Attention::new(cache, rows, a.n_heads, a.scale);
            let kernel = kernel.map(|kernel| kernel.on(machine.target));
            // Many rows have blocks enough.
            one(kernel.map(|kernel| if many { kernel.unsplit() } else { kernel }), &operands)?
        }
        OpCall::SoftMax(a) => {
            one(SoftMax::new(a.input.shape.rows(), a.input.shape.cols(), a.scale), &[a.input, a.output])?
        }
        OpCall::Copy(a) => {
            let kernel = CopyRows::new(a.input.dtype, a.input.shape.rows(), a.input.shape.cols());
            one(kernel, &[a.input, a.output])?
        }
        OpCall::QuantizeQ8(a) => {
            one(QuantizeQ8::new(a.input.shape.rows(), a.input.shape.cols()), &[a.input, a.output])?
        }
        OpCall::Argmax(a) => {
            one(Argmax::new(a.input.shape.rows(), a.input.shape.cols()), &[a.input, a.output])?
        }
        _ => {
            let reason = "no kernel computes it".into();
            return Err(graph::DispatchError { backend: "cuda", op: call.op(), reason }.into());
        }
    }])
}

pub(crate) fn one<K: Kernel + 'static>(
    kernel: Result<K, KernelError>,
    operands: &[TensorView],
) -> Result<Lowered, CudaError> {
    with(kernel, operands.iter().copied().map(Operand::Tensor).collect())
}

pub(crate) fn with<K: Kernel + 'static>(
    kernel: Result<K, KernelError>,
    operands: Vec<Operand>,
) -> Result<Lowered, CudaError> {
    Ok(Lowered { kernel: Arc::new(kernel?), operands })
}

fn elementwise(op: ElementwiseOp, operands: &[TensorView]) -> Result<Lowered, CudaError> {
    let shape = operands[0].shape;
    one(Elementwise::new(op, shape.rows(), shape.cols()), operands)
}

fn mul_mat(a: &graph::MulMat) -> Result<Vec<Lowered>, CudaError> {
    let (weight, out, cols) = (a.weight.dtype, a.weight.shape.rows(), a.weight.shape.cols());
    let launch = |rows: std::ops::Range<usize>| {
        let operands = [a.weight, rows_of(&a.input, &rows)?, rows_of(&a.output, &rows)?];
        match a.input.dtype {
            ElementType::F32 => one(Gemv::new(weight, out, cols, rows.len()), &operands),
            ElementType::Q8Act => one(GemvQ8::new(weight, out, cols, rows.len()), &operands),
            other => {
                let reason = format!("activations of type {other}; F32 and Q8Act are supported");
                Err(graph::DispatchError { backend: "cuda", op: graph::TensorOp::MulMat, reason }.into())
            }
        }
    };
    row_chunks(a.input.shape.rows(), gemv::MAX_BATCH).map(launch).collect()
}

/// The rows `rows` of a matrix.
pub(crate) fn rows_of(view: &TensorView, rows: &std::ops::Range<usize>) -> Result<TensorView, CudaError> {
    let shape = Shape::new(&[rows.len(), view.shape.cols()])
        .map_err(|error| CudaError::Overflow { what: error.to_string() })?;
    Ok(TensorView { offset: view.offset + rows.start as u64 * view.row_bytes(), shape, ..*view })
}
