//! Whole transformers in small: every operation in its place, on memory that is used again.

use tensor_formats::ElementType::{self, F16, F32, Q4_K, Q6_K, Q8_0};

use super::{BuildError, Builder, Case, F32_TOLERANCE, Goal, ROWS, Tier};
use crate::rope::rope_table;
use crate::{AttentionOperands, PlanOptions, RopeOperands, RopeStyle, TensorId, TensorOp};

type Goals = Result<Vec<(TensorId, Goal)>, BuildError>;

const HIDDEN: usize = 256;
const HEAD_DIM: usize = 64;
const N_HEADS: usize = 4;
const N_KV_HEADS: usize = 2;
const FFN: usize = 512;
const VOCAB: usize = 300;
const LAYERS: usize = 2;
const MAX_SEQ: usize = 50;

/// A few layers of matmuls with quantised activations, each within 1e-2, add up.
const Q8_LAYERS_TOLERANCE: f64 = 4e-2;

/// What a model is made of.
#[derive(Debug, Clone, Copy)]
struct Model {
    /// Types of the projections, in turn, as files of mixed quantisation have them.
    weights: [ElementType; 2],
    style: RopeStyle,
    biases: bool,
    /// Whether the passes run: fused SwiGLU and shared quantised activations.
    passes: bool,
}

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    let [f32, f16, q8_0, mixed] = [[F32, F32], [F16, F16], [Q8_0, Q8_0], [Q4_K, Q6_K]];
    let llama = Model { weights: f32, style: RopeStyle::Interleaved, biases: false, passes: false };
    let qwen = Model { style: RopeStyle::NeoX, biases: true, ..llama };
    for base in [llama, qwen] {
        for weights in [f32, f16, q8_0, mixed] {
            for passes in [false, true] {
                for rows in ROWS {
                    let model = Model { weights, passes, ..base };
                    let tier = Tier::fast_if(matches!(rows, 2 | 5) && (base.biases || weights == mixed));
                    let name = format!(
                        "layers/{:?}/{}+{}/passes={passes}/rows={rows}",
                        model.style, weights[0], weights[1]
                    );
                    cases.push(Case::new(name, TensorOp::None, tier, move |b| transformer(b, model, rows)));
                }
            }
        }
    }
}

fn transformer(b: &mut Builder, model: Model, rows: usize) -> Goals {
    b.plan = PlanOptions::default();
    b.passes = model.passes;
    // All rows but one continue sequences of their own, the last is the second of a chunk where there are two.
    let mut positions: Vec<u32> = (0..rows).map(|_| b.rng.below(MAX_SEQ - 1) as u32).collect();
    let mut sequences: Vec<u32> = (0..rows as u32).rev().collect();
    if let [.., before, last] = &mut positions[..] {
        *last = *before + 1;
        sequences[rows - 1] = sequences[rows - 2];
    }
    let positions = b.u32("positions", &positions)?;
    let sequences = b.u32("sequences", &sequences)?;
    let tokens: Vec<u32> = (0..rows).map(|_| b.rng.below(VOCAB) as u32).collect();
    let tokens = b.u32("tokens", &tokens)?;
    let table = rope_table(MAX_SEQ, HEAD_DIM, 10_000.0, None)?;
    let table = b.f32("rope", &[MAX_SEQ, HEAD_DIM / 2, 2], &table)?;
    let step = Step { rows, positions, sequences, table };

    let embedding = b.weight("token_embd", model.weights[0], &[VOCAB, HIDDEN], 1.0)?;
    let mut x = b.g.embed_rows(embedding, tokens)?;
    for _ in 0..LAYERS {
        x = attend(b, &model, &step, x)?;
        x = feed_forward(b, &model, x)?;
    }
    let last = b.g.view(x, rows - 1, 1)?;
    let normed = norm(b, last)?;
    let logits = b.g.mul_mat(embedding, normed)?;
    let token = b.g.argmax(logits)?;

    let q8 = model.passes && model.weights[0].is_quantised();
    let tolerance = if q8 { Q8_LAYERS_TOLERANCE } else { F32_TOLERANCE };
    let mut goals = vec![(x, Goal::Close(tolerance)), (logits, Goal::Close(tolerance))];
    if !q8 {
        // Two logits within the tolerance of each other at the top would make this a toss; the seeds have none.
        goals.push((token, Goal::Exact));
    }
    Ok(goals)
}

struct Step {
    rows: usize,
    positions: TensorId,
    sequences: TensorId,
    table: TensorId,
}

fn norm(b: &mut Builder, x: TensorId) -> Result<TensorId, BuildError> {
    let weight = b.normal("norm", &[HIDDEN], 1.0)?;
    Ok(b.g.rms_norm(x, weight, 1e-5)?)
}

/// A projection whose output is about as large as its input.
fn project(
    b: &mut Builder,
    dtype: ElementType,
    [out, n]: [usize; 2],
    x: TensorId,
) -> Result<TensorId, BuildError> {
    let weight = b.weight("weight", dtype, &[out, n], 1.0 / (n as f32).sqrt())?;
    Ok(b.g.mul_mat(weight, x)?)
}

fn attend(b: &mut Builder, model: &Model, step: &Step, x: TensorId) -> Result<TensorId, BuildError> {
    let normed = norm(b, x)?;
    let project_heads =
        |b: &mut Builder, heads: usize, dtype, rotated: bool| -> Result<TensorId, BuildError> {
            let out = heads * HEAD_DIM;
            let mut y = project(b, dtype, [out, HIDDEN], normed)?;
            if model.biases {
                let bias = b.normal("bias", &[out], 0.5)?;
                y = b.g.add(y, bias)?;
            }
            if rotated {
                let &Step { positions, table, .. } = step;
                let (style, n_rot, head_dim) = (model.style, HEAD_DIM, HEAD_DIM);
                y = b.g.rope(RopeOperands { input: y, positions, table, style, n_rot, head_dim })?;
            }
            Ok(y)
        };
    let query = project_heads(b, N_HEADS, model.weights[0], true)?;
    let k = project_heads(b, N_KV_HEADS, model.weights[0], true)?;
    let v = project_heads(b, N_KV_HEADS, model.weights[1], false)?;
    let &Step { rows, positions, sequences, .. } = step;
    let dims = [rows, N_KV_HEADS, MAX_SEQ, HEAD_DIM];
    let [keys, values] = ["keys", "values"].map(|name| b.normal(name, &dims, 1.0));
    let keys = b.g.kv_scatter(keys?, k, positions, sequences)?;
    let values = b.g.kv_scatter(values?, v, positions, sequences)?;
    let attended =
        b.g.attention(AttentionOperands { query, keys, values, positions, sequences, scale: 0.125 })?;
    let projected = project(b, model.weights[0], [HIDDEN, N_HEADS * HEAD_DIM], attended)?;
    Ok(b.g.add(x, projected)?)
}

fn feed_forward(b: &mut Builder, model: &Model, x: TensorId) -> Result<TensorId, BuildError> {
    let normed = norm(b, x)?;
    let gate = project(b, model.weights[0], [FFN, HIDDEN], normed)?;
    let up = project(b, model.weights[0], [FFN, HIDDEN], normed)?;
    let gate = b.g.silu(gate)?;
    let hidden = b.g.mul(gate, up)?;
    let down = project(b, model.weights[1], [HIDDEN, FFN], hidden)?;
    Ok(b.g.add(x, down)?)
}
