//! Graphs that several tests build.

use graph::{AttentionOperands, ComputeGraph, GraphError, Shape, TensorId};
use tensor_formats::ElementType::{self, F32, U32};

/// A leaf without ceremony.
pub fn leaf(g: &mut ComputeGraph, name: &str, dtype: ElementType, dims: &[usize]) -> TensorId {
    g.add_leaf(name, dtype, Shape::new(dims).unwrap()).unwrap()
}

/// Rows, and the step state that goes with them.
pub struct Step {
    pub rows: usize,
    pub positions: TensorId,
    pub sequences: TensorId,
}

impl Step {
    pub fn new(g: &mut ComputeGraph, rows: usize) -> Self {
        let positions = leaf(g, "positions", U32, &[rows]);
        Self { rows, positions, sequences: leaf(g, "sequences", U32, &[rows]) }
    }
}

/// Norm, Q, K, V, attention over caches that are filled elsewhere, residual add: six operations.
pub fn attention_layer(g: &mut ComputeGraph, step: &Step, x: TensorId) -> Result<TensorId, GraphError> {
    let cache = [2, 2, 64, 16];
    let norm = leaf(g, "norm", F32, &[64]);
    let [wq, wk, wv] = [("wq", 64), ("wk", 32), ("wv", 32)].map(|(name, out)| leaf(g, name, F32, &[out, 64]));
    let [keys, values] = ["keys", "values"].map(|name| leaf(g, name, F32, &cache));
    let normed = g.rms_norm(x, norm, 1e-5)?;
    let query = g.mul_mat(wq, normed)?;
    g.mul_mat(wk, normed)?;
    g.mul_mat(wv, normed)?;
    let Step { positions, sequences, .. } = *step;
    let attended =
        g.attention(AttentionOperands { query, keys, values, positions, sequences, scale: 0.25 })?;
    g.add(x, attended)
}

/// Norm, gate and up, silu, mul, down, residual add.
pub fn mlp(g: &mut ComputeGraph, dtype: ElementType, x: TensorId) -> Result<TensorId, GraphError> {
    let norm = leaf(g, "ffn_norm", F32, &[256]);
    let [gate, up, down] = [("ffn_gate", 512, 256), ("ffn_up", 512, 256), ("ffn_down", 256, 512)]
        .map(|(name, out, n)| leaf(g, name, dtype, &[out, n]));
    let normed = g.rms_norm(x, norm, 1e-5)?;
    let gate = g.mul_mat(gate, normed)?;
    let up = g.mul_mat(up, normed)?;
    let gate = g.silu(gate)?;
    let hidden = g.mul(gate, up)?;
    let down = g.mul_mat(down, hidden)?;
    g.add(x, down)
}
