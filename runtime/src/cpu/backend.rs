//! [`KernelDispatch`] on the CPU.

use std::num::NonZero;
use std::ops::Range;

use graph::{
    Add, Argmax, Attention, BufferId, CopyTensor, DispatchError, EmbedRows, KernelDispatch, KvScatter, Mul,
    MulMat, OpCall, QuantizeQ8, RmsNorm, Rope, Silu, SoftMax, SwiGlu, TensorView,
};
use rayon::prelude::*;
use tensor_formats::{
    ElementType, FormatError, Matrix, Q8Rows, Simd, dequantize_row, has_dot_q8, matmul_f32, matmul_q8,
    quantize_q8, quantize_row, silu, soft_max,
};

use super::memory::{Binding, CpuMemory, Operands, leaf_bytes, leaf_indices, operands};
use super::{CpuError, attention, ops};
use crate::engine::EngineOptions;
use crate::error::Error;

/// Weights that a thread should at least have to multiply: handing over less costs more than it brings.
const WEIGHTS_PER_TASK: usize = 1 << 16;

/// The threads and the instruction set that operations run on.
#[derive(Debug)]
pub struct Workers {
    pool: rayon::ThreadPool,
    simd: Simd,
}

impl Workers {
    /// A pool of `threads` threads, or of as many as the machine has cores.
    ///
    /// # Errors
    /// If the system does not start them.
    pub fn new(threads: Option<usize>) -> Result<Self, Error> {
        // Asked for none, the pool would ask the environment.
        let cores = || std::thread::available_parallelism().map_or(1, NonZero::get);
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads.unwrap_or_else(|| cores().min(EngineOptions::MAX_THREADS)))
            .thread_name(|index| format!("warpsmith-cpu-{index}"))
            .build()
            .map_err(|source| Error::device("cpu", "starting worker threads", source))?;
        Ok(Self { pool, simd: Simd::detect() })
    }

    /// Runs `work` on a thread of the pool, where parallel loops need no hand-over from outside.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.pool.install(work)
    }

    /// The number of threads.
    pub fn threads(&self) -> usize {
        self.pool.current_num_threads()
    }

    /// The instruction set.
    pub fn simd(&self) -> Simd {
        self.simd
    }
}

/// Runs the operations of one graph on borrowed memory. Parallel operations use the rayon pool that it is called on,
/// see [`Workers::run`].
///
/// Results do not depend on the number of threads, nor a row's result on the other rows.
#[derive(Debug)]
pub struct CpuBackend<'a> {
    simd: Simd,
    memory: &'a mut CpuMemory,
    leaves: &'a [Binding<'a>],
    /// The type whose values caches hold.
    kv: ElementType,
    /// `[out, rows]` of a product of several rows, before it is transposed.
    transposed: Vec<f32>,
}

impl<'a> CpuBackend<'a> {
    /// A backend on `memory`, with the graph's leaves, by [`TensorId::index`](graph::TensorId::index), bound to
    /// `leaves`.
    pub fn new(simd: Simd, memory: &'a mut CpuMemory, leaves: &'a [Binding<'a>]) -> Self {
        Self { simd, memory, leaves, kv: ElementType::F32, transposed: Vec::new() }
    }

    /// Rounds what goes into KV caches to values of type `kv`; they are kept as f32.
    #[must_use]
    pub fn rounding_caches_to(self, kv: ElementType) -> Self {
        Self { kv, ..self }
    }

    fn operands<const N: usize>(
        &mut self,
        output: &TensorView,
        inputs: [&TensorView; N],
    ) -> Result<Operands<'_, N>, CpuError> {
        let CpuMemory { workspace, values, indices: _ } = &mut *self.memory;
        operands(workspace, values, self.leaves, output, inputs)
    }

    /// The indices of a U32 leaf, all below `limit`.
    fn indices(&self, what: &'static str, view: &TensorView, limit: usize) -> Result<&[u32], CpuError> {
        let indices = leaf_indices(&self.memory.indices, self.leaves, view)?;
        match indices.iter().position(|&value| value as usize >= limit) {
            None => Ok(indices),
            Some(row) => Err(CpuError::Index { what, row, value: indices[row], limit }),
        }
    }

    /// `out[i] = f(a[i], b[i])`, where `a`, `b` or both may be `out`.
    fn elementwise(
        &mut self,
        output: &TensorView,
        (a, b): (&TensorView, &TensorView),
        f: impl Fn(f32, f32) -> f32,
    ) -> Result<usize, CpuError> {
        let Operands { output, inputs: [a, b] } = self.operands(output, [a, b])?;
        match (a, b) {
            (Some(a), Some(b)) => {
                output.iter_mut().zip(a).zip(b).for_each(|((out, &a), &b)| *out = f(a, b));
            }
            (None, Some(b)) => output.iter_mut().zip(b).for_each(|(out, &b)| *out = f(*out, b)),
            (Some(a), None) => output.iter_mut().zip(a).for_each(|(out, &a)| *out = f(a, *out)),
            (None, None) => output.iter_mut().for_each(|out| *out = f(*out, *out)),
        }
        Ok(1)
    }
}

/// Splits `[matrix rows, n]` of outputs into ranges of matrix rows for the threads of the current pool.
fn for_rows(
    out: &mut [f32],
    n: usize,
    cols: usize,
    work: impl Fn(Range<usize>, &mut [f32]) -> Result<(), FormatError> + Sync,
) -> Result<(), FormatError> {
    let rows = out.len() / n;
    let tasks = (rows * cols * n / WEIGHTS_PER_TASK).min(rayon::current_num_threads() * 4);
    if tasks < 2 || rayon::current_num_threads() == 1 {
        return work(0..rows, out);
    }
    let step = rows.div_ceil(tasks);
    out.par_chunks_mut(step * n).enumerate().try_for_each(|(task, out)| {
        let first = task * step;
        work(first..first + out.len() / n, out)
    })
}

/// `[rows, n]` to `[n, rows]`.
fn transpose(from: &[f32], n: usize, to: &mut [f32]) {
    /// Rows at a time: a cache line of the result.
    const ROWS: usize = 16;
    let rows = from.len() / n;
    for (block, from) in from.chunks(ROWS * n).enumerate() {
        for (column, to) in to.chunks_exact_mut(rows).enumerate() {
            let to = &mut to[block * ROWS..][..from.len() / n];
            for (to, from) in to.iter_mut().zip(from.chunks_exact(n)) {
                *to = from[column];
            }
        }
    }
}

impl KernelDispatch for CpuBackend<'_> {
    type Error = CpuError;

    fn check(&self, call: &OpCall) -> Result<(), CpuError> {
        let refuse = |reason: String| Err(DispatchError { backend: "cpu", op: call.op(), reason }.into());
        match call {
            OpCall::MulMat(a) => match a.input.dtype {
                ElementType::F32 if a.weight.dtype.is_weight() => Ok(()),
                ElementType::Q8Act if has_dot_q8(a.weight.dtype) => Ok(()),
                input => refuse(format!("weights {} with activations {input}", a.weight.dtype)),
            },
            OpCall::EmbedRows(a) if !a.table.dtype.is_weight() => {
                refuse(format!("a table of {}", a.table.dtype))
            }
            OpCall::KvScatter(a) if a.cache.dtype != ElementType::F32 => {
                refuse(format!("a cache of {}", a.cache.dtype))
            }
            OpCall::Attention(a) if a.keys.dtype != ElementType::F32 => {
                refuse(format!("a cache of {}", a.keys.dtype))
            }
            _ => Ok(()),
        }
    }

    fn embed_rows(&mut self, a: EmbedRows) -> Result<usize, CpuError> {
        self.indices("token", &a.tokens, a.table.shape.outer())?;
        let (row_bytes, cols) = (a.table.row_bytes() as usize, a.output.shape.cols());
        let CpuMemory { workspace, values, indices } = &mut *self.memory;
        let tokens = leaf_indices(indices, self.leaves, &a.tokens)?;
        let table = leaf_bytes(values, indices, self.leaves, &a.table)?;
        let output = operands(workspace, values, self.leaves, &a.output, [])?.output;
        for (&token, row) in tokens.iter().zip(output.chunks_exact_mut(cols)) {
            dequantize_row(a.table.dtype, &table[token as usize * row_bytes..][..row_bytes], row)?;
        }
        Ok(1)
    }

    fn rms_norm(&mut self, a: RmsNorm) -> Result<usize, CpuError> {
        let cols = a.input.shape.cols();
        let (output, [input, weight]) =
            self.operands(&a.output, [&a.input, &a.weight])?.disjoint(&a.output)?;
        for (input, output) in input.chunks_exact(cols).zip(output.chunks_exact_mut(cols)) {
            ops::rms_norm(input, weight, a.eps, output);
        }
        Ok(1)
    }

    fn mul_mat(&mut self, a: MulMat) -> Result<usize, CpuError> {
        let (n, cols, simd) = (a.input.shape.rows(), a.input.shape.cols(), self.simd);
        let CpuMemory { workspace, values, indices } = &mut *self.memory;
        let weights = leaf_bytes(values, indices, self.leaves, &a.weight)?;
        let weights = Matrix::new(a.weight.dtype, cols, weights)?;
        let (output, [input]) =
            operands(workspace, values, self.leaves, &a.output, [&a.input])?.disjoint(&a.output)?;
        let quantised = match a.input.dtype {
            ElementType::Q8Act => Some(Q8Rows::new(cols, bytemuck::cast_slice(input))?),
            _ => None,
        };
        let multiply = |rows, out: &mut [f32]| match quantised {
            Some(acts) => matmul_q8(simd, weights.slice(rows)?, acts, out),
            None => matmul_f32(simd, weights.slice(rows)?, input, out),
        };
        if n == 1 {
            for_rows(output, 1, cols, multiply)?;
            return Ok(1);
        }
        // The product comes as `[out, n]`.
        self.transposed.resize(output.len(), 0.0);
        for_rows(&mut self.transposed, n, cols, multiply)?;
        transpose(&self.transposed, n, output);
        Ok(1)
    }

    fn add(&mut self, a: Add) -> Result<usize, CpuError> {
        if !a.is_broadcast() {
            return self.elementwise(&a.output, (&a.a, &a.b), |a, b| a + b);
        }
        let cols = a.b.shape.cols();
        let Operands { output, inputs: [x, b] } = self.operands(&a.output, [&a.a, &a.b])?;
        let b = b.ok_or(CpuError::Overlap { buffer: a.b.buffer })?;
        if let Some(x) = x {
            output.copy_from_slice(x);
        }
        for row in output.chunks_exact_mut(cols) {
            row.iter_mut().zip(b).for_each(|(x, &b)| *x += b);
        }
        Ok(1)
    }

    fn mul(&mut self, a: Mul) -> Result<usize, CpuError> {
        self.elementwise(&a.output, (&a.a, &a.b), |a, b| a * b)
    }

    fn silu(&mut self, a: Silu) -> Result<usize, CpuError> {
        let simd = self.simd;
        let Operands { output, inputs: [x] } = self.operands(&a.output, [&a.input])?;
        if let Some(x) = x {
            output.copy_from_slice(x);
        }
        silu(simd, output);
        Ok(1)
    }

    fn swi_glu(&mut self, a: SwiGlu) -> Result<usize, CpuError> {
        /// Values at a time: a part of the first cache.
        const PIECE: usize = 512;
        let simd = self.simd;
        let Operands { output, inputs: [gate, up] } = self.operands(&a.output, [&a.gate, &a.up])?;
        let mut gates = [0.0; PIECE];
        for (piece, output) in output.chunks_mut(PIECE).enumerate() {
            let range = piece * PIECE..piece * PIECE + output.len();
            let gates = &mut gates[..output.len()];
            gates.copy_from_slice(gate.map_or(&*output, |gate| &gate[range.clone()]));
            silu(simd, gates);
            if let Some(up) = up {
                output.copy_from_slice(&up[range]);
            }
            output.iter_mut().zip(gates).for_each(|(out, gate)| *out *= *gate);
        }
        Ok(1)
    }

    fn rope(&mut self, a: Rope) -> Result<usize, CpuError> {
        let positions = self.indices("position", &a.positions, a.max_seq)?.to_vec();
        let Operands { output, inputs: [x, table] } = self.operands(&a.output, [&a.input, &a.table])?;
        let table = table.ok_or(CpuError::Overlap { buffer: a.table.buffer })?;
        if let Some(x) = x {
            output.copy_from_slice(x);
        }
        for (&position, row) in positions.iter().zip(output.chunks_exact_mut(a.n_heads * a.head_dim)) {
            let angles = &table[position as usize * a.n_rot..][..a.n_rot];
            for head in row.chunks_exact_mut(a.head_dim) {
                ops::rope_head(head, angles, a.style);
            }
        }
        Ok(1)
    }

    fn kv_scatter(&mut self, a: KvScatter) -> Result<usize, CpuError> {
        let positions = self.indices("position", &a.positions, a.max_seq)?.to_vec();
        let sequences = self.indices("sequence", &a.sequences, a.n_sequences)?.to_vec();
        let index = self.memory.value_index(self.leaves, &a.cache)?;
        let mut cache = std::mem::take(&mut self.memory.values[index]);
        let kv = self.kv;
        let result = self.memory.read(self.leaves, &a.input).and_then(|input| {
            let first = a.cache.offset as usize / 4;
            let mut bytes = vec![0; a.head_dim * kv.block_bytes()];
            for (row, values) in input.chunks_exact(a.n_kv_heads * a.head_dim).enumerate() {
                let sequence = sequences[row] as usize;
                for (head, values) in values.chunks_exact(a.head_dim).enumerate() {
                    let line = (sequence * a.n_kv_heads + head) * a.max_seq + positions[row] as usize;
                    let target = &mut cache[first + line * a.head_dim..][..a.head_dim];
                    if kv == ElementType::F32 {
                        target.copy_from_slice(values);
                    } else {
                        quantize_row(kv, values, &mut bytes)?;
                        dequantize_row(kv, &bytes, target)?;
                    }
                }
            }
            Ok(1)
        });
        self.memory.values[index] = cache;
        result
    }

    fn attention(&mut self, a: Attention) -> Result<usize, CpuError> {
        let positions = self.indices("position", &a.positions, a.max_seq)?.to_vec();
        let sequences = self.indices("sequence", &a.sequences, a.n_sequences)?.to_vec();
        let simd = self.simd;
        let (output, [query, keys, values]) =
            self.operands(&a.output, [&a.query, &a.keys, &a.values])?.disjoint(&a.output)?;
        let attention = attention::Attention {
            simd,
            keys,
            values,
            positions: &positions,
            sequences: &sequences,
            scale: a.scale,
            group: a.n_heads / a.n_kv_heads,
            n_kv_heads: a.n_kv_heads,
            max_seq: a.max_seq,
            head_dim: a.head_dim,
        };
        attention.run(query, output)?;
        Ok(1)
    }

    fn soft_max(&mut self, a: SoftMax) -> Result<usize, CpuError> {
        let (cols, simd) = (a.input.shape.cols(), self.simd);
        let (output, [input]) = self.operands(&a.output, [&a.input])?.disjoint(&a.output)?;
        output.copy_from_slice(input);
        output.chunks_exact_mut(cols).for_each(|row| soft_max(simd, row, a.scale));
        Ok(1)
    }

    fn copy(&mut self, a: CopyTensor) -> Result<usize, CpuError> {
        let CpuMemory { workspace, values, indices } = &mut *self.memory;
        let workspace: &mut [u8] = bytemuck::cast_slice_mut(workspace);
        let range = |view: &TensorView| view.offset as usize..view.end() as usize;
        for view in [&a.input, &a.output] {
            if view.buffer == BufferId::Workspace && view.end() as usize > workspace.len() {
                let (buffer, bytes, end) = (view.buffer, workspace.len(), view.end());
                return Err(CpuError::TooShort { buffer, bytes, end });
            }
        }
        match (a.input.buffer, a.output.buffer) {
            (_, BufferId::Leaf(_)) => {
                return Err(CpuError::Unbound { buffer: a.output.buffer, dtype: a.output.dtype });
            }
            (BufferId::Workspace, BufferId::Workspace) => {
                workspace.copy_within(range(&a.input), a.output.offset as usize);
            }
            (BufferId::Leaf(_), BufferId::Workspace) => {
                let source = leaf_bytes(values, indices, self.leaves, &a.input)?;
                workspace[range(&a.output)].copy_from_slice(source);
            }
        }
        Ok(1)
    }

    fn quantize_q8(&mut self, a: QuantizeQ8) -> Result<usize, CpuError> {
        let (cols, row_bytes) = (a.input.shape.cols(), a.output.row_bytes() as usize);
        let simd = self.simd;
        let (output, [input]) = self.operands(&a.output, [&a.input])?.disjoint(&a.output)?;
        let rows = bytemuck::cast_slice_mut::<f32, u8>(output).chunks_exact_mut(row_bytes);
        for (input, output) in input.chunks_exact(cols).zip(rows) {
            quantize_q8(simd, input, output)?;
        }
        Ok(1)
    }

    fn argmax(&mut self, a: Argmax) -> Result<usize, CpuError> {
        let cols = a.input.shape.cols();
        let (output, [input]) = self.operands(&a.output, [&a.input])?.disjoint(&a.output)?;
        let output = bytemuck::cast_slice_mut::<f32, u32>(output);
        for (input, output) in input.chunks_exact(cols).zip(output) {
            *output = ops::argmax(input);
        }
        Ok(1)
    }
}
