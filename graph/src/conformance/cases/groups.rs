//! Groups of operations: run by themselves and as one. The operations are written out; that they are a group of the
//! kind that a case is about is demanded when it is built.

use tensor_formats::ElementType::{self, BF16, F16, F32, Q4_K, Q6_K, Q8_0};

use super::{BuildError, Builder, Case, F32_TOLERANCE, Goal, Q8_TOLERANCE, Tier};
use crate::reference::dequantize;
use crate::rope::rope_table;
use crate::{GroupKind, RopeOperands, RopeStyle, TensorId, TensorOp};

type Goals = Result<Vec<(TensorId, Goal)>, BuildError>;

/// One row, two, the ends of what one kernel takes, and what needs two.
const ROWS: [usize; 5] = [1, 2, 5, 8, 9];

/// One matmul with quantised activations, compared head by head: a head is too few numbers for a mean error.
const Q8_HEADS_TOLERANCE: f64 = 1.5e-2;

/// The product of two matmuls with quantised activations, each within [`Q8_TOLERANCE`].
const Q8_PRODUCT_TOLERANCE: f64 = 2e-2;

const MAX_SEQ: usize = 40;
const N_SEQUENCES: usize = 3;

/// What all kinds have in common.
#[derive(Debug, Clone, Copy)]
struct Common {
    /// Types of the weights in turn: as files of mixed quantisation have them.
    weights: [ElementType; 2],
    /// Whether activations are quantised.
    q8: bool,
    /// Features of the input.
    n: usize,
    rows: usize,
}

impl Common {
    /// `q8` where activations are quantised.
    fn within(&self, q8: f64) -> Goal {
        Goal::Close(if self.q8 { q8 } else { F32_TOLERANCE })
    }

    /// Whether the case is in every run: the ends of what one kernel takes, with the weights of usual files and with odd
    /// sizes.
    fn tier(&self) -> Tier {
        let usual = self.weights == [Q4_K, Q6_K] && self.n == 256;
        let odd = matches!(self.weights[0], F32 | Q8_0) && self.n < 256;
        Tier::fast_if(matches!(self.rows, 1 | 9) && (usual || odd))
    }
}

/// Every weight type, alone and as Q4_K_M files mix them, with f32 and with quantised activations; lengths of one block,
/// of several, and of no whole number of what a kernel reads at once.
fn commons() -> impl Iterator<Item = Common> {
    let weights = [[F32; 2], [F16; 2], [BF16; 2], [Q8_0; 2], [Q4_K; 2], [Q6_K; 2], [Q4_K, Q6_K]];
    weights.into_iter().flat_map(|weights| {
        let (lengths, q8): (_, &[bool]) = match weights[0] {
            Q8_0 => ([96, 256], &[false, true]),
            quantised if quantised.is_quantised() => ([256, 1280], &[false, true]),
            _ => ([37, 256], &[false]),
        };
        let each = lengths.into_iter().flat_map(|n| q8.iter().map(move |&q8| (n, q8)));
        each.flat_map(move |(n, q8)| ROWS.map(|rows| Common { weights, q8, n, rows }))
    })
}

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    for c in commons() {
        let Common { weights: [first, second], q8, n, rows } = c;
        let mut add = |kind: GroupKind,
                       special: &str,
                       build: Box<dyn Fn(&mut Builder) -> Goals + Send + Sync>| {
            let activation = if q8 { "Q8" } else { "F32" };
            let name = format!("groups/{kind}/{first}+{second}x{activation}/in={n}/{special}/rows={rows}");
            cases.push(Case::new(name, TensorOp::None, c.tier(), move |b| {
                (b.group, b.passes) = (Some(kind), q8);
                build(b)
            }));
        };
        for (style, bias) in
            [(RopeStyle::Interleaved, false), (RopeStyle::NeoX, true), (RopeStyle::NeoX, false)]
        {
            let special = format!("{style:?}/bias={bias}");
            let build = move |b: &mut Builder| attention_input(b, c, style, bias);
            add(GroupKind::AttentionInput, &special, Box::new(build));
        }
        for (bias, in_place) in [(false, true), (true, false)] {
            let special = format!("bias={bias}/{}", if in_place { "in place" } else { "apart" });
            let build = move |b: &mut Builder| residual_projection(b, c, bias, in_place);
            add(GroupKind::ResidualProjection, &special, Box::new(build));
        }
        add(GroupKind::GatedProjection, "silu", Box::new(move |b| gated_projection(b, c)));
        for (logits, argmax) in [(true, true), (false, true), (true, false)] {
            let special = format!("logits={logits}/argmax={argmax}");
            add(GroupKind::Head, &special, Box::new(move |b| head(b, c, logits, argmax)));
        }
    }
}

/// Rows of every magnitude that a norm evens out, normed.
fn normed(b: &mut Builder, c: Common) -> Result<TensorId, BuildError> {
    let mut values = Vec::new();
    for row in 0..c.rows {
        values.extend(b.rng.normals(c.n, [1.0, 30.0, 0.1][row % 3]));
    }
    let x = b.f32("x", &[c.rows, c.n], &values)?;
    let norm = norm(b, c.n)?;
    Ok(b.g.rms_norm(x, norm, 1e-5)?)
}

/// The weight of a norm, around 1 as those of models are: wider, and eight bits of what comes out would be fewer.
fn norm(b: &mut Builder, n: usize) -> Result<TensorId, BuildError> {
    let values: Vec<f32> = (0..n).map(|_| 1.0 + 0.2 * b.rng.normal()).collect();
    b.f32("norm", &[n], &values)
}

/// A projection whose output is about as large as its input.
fn project(
    b: &mut Builder,
    dtype: ElementType,
    [out, n]: [usize; 2],
    bias: bool,
    x: TensorId,
) -> Result<TensorId, BuildError> {
    let weight = b.weight("weight", dtype, &[out, n], 1.0 / (n as f32).sqrt())?;
    let y = b.g.mul_mat(weight, x)?;
    if !bias {
        return Ok(y);
    }
    let bias = b.normal("bias", &[out], 0.5)?;
    Ok(b.g.add(y, bias)?)
}

/// Heads of 64 as in small models, or of sizes that are no power of two and rotate in part where the input's is neither.
/// The value's weight is of the second type. Rows belong to three sequences, in no order, and no two to one place.
fn attention_input(b: &mut Builder, c: Common, style: RopeStyle, bias: bool) -> Goals {
    let [n_heads, n_kv_heads, head_dim, n_rot] = if c.n < 256 { [6, 2, 40, 16] } else { [4, 2, 64, 64] };
    let start = b.rng.below(MAX_SEQ - c.rows);
    let positions: Vec<u32> = (0..c.rows).map(|row| (start + c.rows - 1 - row) as u32).collect();
    let sequences: Vec<u32> = (0..c.rows).map(|row| ((2 * row + 1) % N_SEQUENCES) as u32).collect();
    let (positions, sequences) = (b.u32("positions", &positions)?, b.u32("sequences", &sequences)?);
    let table = rope_table(MAX_SEQ, n_rot, 10_000.0, None)?;
    let table = b.f32("rope", &[MAX_SEQ, n_rot / 2, 2], &table)?;
    let cache = [N_SEQUENCES, n_kv_heads, MAX_SEQ, head_dim];
    let (keys, values) = (b.normal("keys", &cache, 1.0)?, b.normal("values", &cache, 1.0)?);

    let normed = normed(b, c)?;
    let rope =
        |b: &mut Builder, input| b.g.rope(RopeOperands { input, positions, table, style, n_rot, head_dim });
    let key = project(b, c.weights[0], [n_kv_heads * head_dim, c.n], bias, normed)?;
    let key = rope(b, key)?;
    let value = project(b, c.weights[1], [n_kv_heads * head_dim, c.n], bias, normed)?;
    let keys = b.g.kv_scatter(keys, key, positions, sequences)?;
    let values = b.g.kv_scatter(values, value, positions, sequences)?;
    let query = project(b, c.weights[0], [n_heads * head_dim, c.n], bias, normed)?;
    let query = rope(b, query)?;
    Ok([query, keys, values].map(|id| (id, c.within(Q8_HEADS_TOLERANCE))).into())
}

/// Odd numbers of outputs; the second type where there is a bias.
fn residual_projection(b: &mut Builder, c: Common, bias: bool, in_place: bool) -> Goals {
    let out = if c.n < 256 { 45 } else { 200 };
    let input = b.normal("x", &[c.rows, c.n], 1.0)?;
    let mut residual = b.normal("residual", &[c.rows, out], 1.0)?;
    if in_place {
        residual = b.dying(residual)?;
    }
    let y = project(b, c.weights[usize::from(bias)], [out, c.n], bias, input)?;
    let y = if bias { b.g.add(y, residual)? } else { b.g.add(residual, y)? };
    if in_place {
        b.must_be_in_place(y);
    }
    Ok(vec![(y, c.within(Q8_TOLERANCE))])
}

fn gated_projection(b: &mut Builder, c: Common) -> Goals {
    let out = if c.n < 256 { 45 } else { 328 };
    let normed = normed(b, c)?;
    let up = project(b, c.weights[1], [out, c.n], false, normed)?;
    let gate = project(b, c.weights[0], [out, c.n], false, normed)?;
    let y = b.g.swi_glu(gate, up)?;
    Ok(vec![(y, c.within(Q8_PRODUCT_TOLERANCE))])
}

/// The last rows of a step. Each row is nearly a row of the weight, so its largest logit is far from the others even
/// where activations are quantised; but some rows of the weight are there twice, and the first of two equals counts.
fn head(b: &mut Builder, c: Common, logits: bool, argmax: bool) -> Goals {
    const VOCAB: usize = 517;
    let dtype = c.weights[1];
    let mut weight = b.rng.weights(dtype, VOCAB * c.n, 1.0 / (c.n as f32).sqrt())?;
    let row_bytes = weight.len() / VOCAB;
    let twins = [(3, VOCAB - 1), (100, 101), (0, 256)];
    for (first, second) in twins {
        weight.copy_within(first * row_bytes..(first + 1) * row_bytes, second * row_bytes);
    }
    let mut values = b.rng.normals(2 * c.n, 1.0);
    for row in 0..c.rows {
        let token = match row % 4 {
            0 => b.rng.below(VOCAB),
            twin => twins[twin - 1].1,
        };
        let like = dequantize(dtype, c.n, &weight[token * row_bytes..(token + 1) * row_bytes])?;
        values.extend(like.iter().map(|&w| 3.0 * w as f32 * (c.n as f32).sqrt() + b.rng.normal()));
    }
    let x = b.f32("x", &[c.rows + 2, c.n], &values)?;
    let norm = norm(b, c.n)?;
    let weight = b.leaf("weight", dtype, &[VOCAB, c.n], weight)?;

    let last = b.g.view(x, 2, c.rows)?;
    let normed = b.g.rms_norm(last, norm, 1e-6)?;
    let y = b.g.mul_mat(weight, normed)?;
    let mut goals = Vec::new();
    if argmax {
        goals.push((b.g.argmax(y)?, Goal::Exact));
    }
    if logits {
        goals.push((y, c.within(Q8_TOLERANCE)));
    }
    Ok(goals)
}
