//! Operations that depend on positions and sequences: rotary embedding, scatter, attention.

use tensor_formats::ElementType;

use super::{BuildError, Builder, Case, F32_TOLERANCE, Goal, ROWS, Tier};
use crate::rope::rope_table;
use crate::{AttentionOperands, RopeOperands, RopeStyle, TensorId, TensorOp};

type Goals = Result<Vec<(TensorId, Goal)>, BuildError>;

/// The types of caches beside F32.
const SHORT: [ElementType; 3] = [ElementType::F16, ElementType::BF16, ElementType::F8E4M3];

/// How the rows of a step relate.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Rows {
    /// Rows of several sequences, at positions of their own.
    Batch,
    /// Consecutive positions of one sequence that is not the first.
    Chunk,
}

/// The positions and sequences of a step. At least one row is at the last of `len` positions.
struct Step {
    positions: Vec<u32>,
    sequences: Vec<u32>,
    n_sequences: usize,
}

impl Step {
    fn new(b: &mut Builder, pattern: Rows, rows: usize, len: usize, n_sequences: usize) -> Self {
        let last = len as u32 - 1;
        let (positions, sequences) = match pattern {
            Rows::Batch => {
                let position = |row| if row == 0 { last } else { b.rng.below(len) as u32 };
                // Neither in order nor starting at the first.
                (
                    (0..rows).map(position).collect(),
                    (0..rows).map(|row| ((row + 1) % n_sequences) as u32).collect(),
                )
            }
            Rows::Chunk => {
                let position = |row| (len - rows + row) as u32;
                ((0..rows).map(position).collect(), vec![n_sequences as u32 - 1; rows])
            }
        };
        Self { positions, sequences, n_sequences }
    }

    fn leaves(&self, b: &mut Builder) -> Result<(TensorId, TensorId), BuildError> {
        Ok((b.u32("positions", &self.positions)?, b.u32("sequences", &self.sequences)?))
    }
}

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    add_rope(cases);
    add_scatter(cases);
    add_attention(cases);
}

fn add_rope(cases: &mut Vec<Case>) {
    for style in [RopeStyle::Interleaved, RopeStyle::NeoX] {
        for [n_rot, head_dim] in [[64, 64], [128, 128], [32, 80], [6, 10], [2, 2]] {
            for rows in ROWS {
                for in_place in [false, true] {
                    let place = if in_place { "over input" } else { "apart" };
                    let name =
                        format!("rope/{style:?}/{place}/n_rot={n_rot}/head_dim={head_dim}/rows={rows}");
                    let tier = Tier::fast_if(rows == 5);
                    cases.push(Case::new(name, TensorOp::Rope, tier, move |b| {
                        rope(b, style, in_place, [rows, n_rot, head_dim])
                    }));
                }
            }
        }
    }
}

fn rope(b: &mut Builder, style: RopeStyle, in_place: bool, [rows, n_rot, head_dim]: [usize; 3]) -> Goals {
    const MAX_SEQ: usize = 700;
    let mut input = b.normal("x", &[rows, 3 * head_dim], 1.0)?;
    if in_place {
        input = b.dying(input)?;
    }
    let mut positions: Vec<u32> = (0..rows).map(|_| b.rng.below(MAX_SEQ) as u32).collect();
    for (slot, position) in positions.iter_mut().zip([MAX_SEQ as u32 - 1, 0, 1, 1]) {
        *slot = position;
    }
    let positions = b.u32("positions", &positions)?;
    let factors = vec![1.5; n_rot / 2];
    let table = rope_table(MAX_SEQ, n_rot, 10_000.0, Some(&factors))?;
    let table = b.f32("table", &[MAX_SEQ, n_rot / 2, 2], &table)?;
    let y = b.g.rope(RopeOperands { input, positions, table, style, n_rot, head_dim })?;
    if in_place {
        b.must_be_in_place(y);
    }
    Ok(vec![(y, Goal::Close(F32_TOLERANCE))])
}

fn add_scatter(cases: &mut Vec<Case>) {
    for pattern in [Rows::Batch, Rows::Chunk] {
        for n_kv_heads in [1, 2, 8] {
            for head_dim in [10, 64, 80, 128] {
                for rows in ROWS {
                    let name = format!(
                        "kv_scatter/{pattern:?}/kv_heads={n_kv_heads}/head_dim={head_dim}/rows={rows}"
                    );
                    let tier = Tier::fast_if(n_kv_heads == 2 && matches!(rows, 1 | 9));
                    cases.push(Case::new(name, TensorOp::KvScatter, tier, move |b| {
                        scatter(b, pattern, (ElementType::F32, 1.0), [rows, n_kv_heads, head_dim])
                    }));
                }
            }
        }
        for element in SHORT {
            for [rows, n_kv_heads, head_dim] in [[1, 2, 64], [9, 1, 80], [5, 8, 128]] {
                let name = format!(
                    "kv_scatter/{element}/{pattern:?}/kv_heads={n_kv_heads}/head_dim={head_dim}/rows={rows}"
                );
                cases.push(Case::new(name, TensorOp::KvScatter, Tier::Fast, move |b| {
                    scatter(b, pattern, (element, 1.0), [rows, n_kv_heads, head_dim])
                }));
            }
        }
    }
    // Some of the values are larger than any number of the type.
    for (element, sigma) in [(ElementType::F16, 5e4), (ElementType::F8E4M3, 300.0)] {
        let name = format!("kv_scatter/{element}/beyond its range");
        cases.push(Case::new(name, TensorOp::KvScatter, Tier::Fast, move |b| {
            scatter(b, Rows::Batch, (element, sigma), [5, 2, 64])
        }));
    }
}

/// The whole cache is compared: what no row goes to has to stay.
fn scatter(
    b: &mut Builder,
    pattern: Rows,
    (element, sigma): (ElementType, f32),
    [rows, n_kv_heads, head_dim]: [usize; 3],
) -> Goals {
    // One sequence for each row, so that no two rows go to one place.
    let n_sequences = if pattern == Rows::Batch { rows } else { 2 };
    let step = Step::new(b, pattern, rows, 37, n_sequences);
    let (positions, sequences) = step.leaves(b)?;
    let cache = b.weight("cache", element, &[step.n_sequences, n_kv_heads, 37, head_dim], 1.0)?;
    let x = b.normal("x", &[rows, n_kv_heads * head_dim], sigma)?;
    let scattered = b.g.kv_scatter(cache, x, positions, sequences)?;
    Ok(vec![(scattered, Goal::Exact)])
}

/// The sizes of an attention, and what its caches hold.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    element: ElementType,
    rows: usize,
    len: usize,
    n_kv_heads: usize,
    group: usize,
    head_dim: usize,
}

fn add_attention(cases: &mut Vec<Case>) {
    let mut add = |tier: Tier, pattern: Rows, scatter: bool, sizes: Sizes| {
        let Sizes { element, rows, len, n_kv_heads, group, head_dim } = sizes;
        let kind = if scatter { "after scatter" } else { "cached" };
        let element = if element == ElementType::F32 { String::new() } else { format!("{element}/") };
        let name = format!(
            "attention/{element}{kind}/{pattern:?}/head_dim={head_dim}/kv_heads={n_kv_heads}/group={group}/len={len}/rows={rows}"
        );
        let scale = usual_scale(head_dim);
        cases.push(Case::new(name, TensorOp::Attention, tier, move |b| {
            attention(b, pattern, scatter, sizes, scale)
        }));
    };
    let element = ElementType::F32;
    for head_dim in [64, 128] {
        for len in [1, 31, 32, 33, 1025] {
            for group in [1, 2, 4, 8] {
                for rows in ROWS {
                    let sizes = Sizes { element, rows, len, n_kv_heads: 2, group, head_dim };
                    let fast = matches!((len, group, rows), (1 | 32 | 33, 1 | 4, 5) | (1025, 2, 2));
                    add(Tier::fast_if(fast), Rows::Batch, false, sizes);
                    if len >= rows && group == 2 {
                        add(Tier::fast_if(rows == 9 && len < 1000), Rows::Chunk, false, sizes);
                        add(Tier::fast_if(rows == 5 && len < 1000), Rows::Chunk, true, sizes);
                    }
                    if group == 4 {
                        add(Tier::fast_if(rows == 5 && len < 1000), Rows::Batch, true, sizes);
                    }
                }
            }
        }
    }
    // Other head sizes and numbers of heads that models have, and a length far beyond what one pass covers.
    for head_dim in [16, 32, 48, 80, 96, 256] {
        let sizes = Sizes { element, rows: 2, len: 33, n_kv_heads: 1, group: 3, head_dim };
        add(Tier::Fast, Rows::Batch, false, sizes);
    }
    for [n_kv_heads, group] in [[1, 1], [8, 4], [3, 7]] {
        let sizes = Sizes { element, rows: 2, len: 130, n_kv_heads, group, head_dim: 64 };
        add(Tier::Full, Rows::Batch, false, sizes);
    }
    let long = Sizes { element, rows: 2, len: 5000, n_kv_heads: 1, group: 2, head_dim: 128 };
    add(Tier::Full, Rows::Batch, false, long);
    for element in SHORT {
        for [len, group, head_dim] in [[33, 4, 64], [33, 7, 128], [700, 3, 80]] {
            let sizes = Sizes { element, rows: 5, len, n_kv_heads: 2, group, head_dim };
            add(Tier::Fast, Rows::Batch, false, sizes);
            add(Tier::Fast, Rows::Chunk, true, sizes);
        }
        add(Tier::Full, Rows::Batch, true, Sizes { element, ..long });
    }
    // The scale is the graph's to choose: half the usual one, twice, and so much that an exponential of a score by
    // itself would overflow.
    for head_dim in [64, 128] {
        for factor in [0.5, 2.0, 100.0] {
            let sizes =
                Sizes { element: ElementType::F32, rows: 2, len: 33, n_kv_heads: 2, group: 2, head_dim };
            let name = format!("attention/scale={factor} times the usual/head_dim={head_dim}");
            let scale = factor * usual_scale(head_dim);
            cases.push(Case::new(name, TensorOp::Attention, Tier::Fast, move |b| {
                attention(b, Rows::Batch, false, sizes, scale)
            }));
        }
    }
}

fn usual_scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}

fn attention(b: &mut Builder, pattern: Rows, scatter: bool, sizes: Sizes, scale: f32) -> Goals {
    let Sizes { element, rows, len, n_kv_heads, group, head_dim } = sizes;
    let n_sequences = if scatter && pattern == Rows::Batch { rows } else { rows.clamp(2, 3) };
    let step = Step::new(b, pattern, rows, len, n_sequences);
    let (positions, sequences) = step.leaves(b)?;
    // Room beyond the last position, so that reading further shows.
    let max_seq = len + 5;
    let keys = cache(b, "keys", element, &step, [n_kv_heads, max_seq, head_dim], len)?;
    let values = cache(b, "values", element, &step, [n_kv_heads, max_seq, head_dim], len)?;
    let query = b.normal("query", &[rows, n_kv_heads * group * head_dim], 1.5)?;
    let (keys, values) = if scatter {
        let [k, v] = ["k", "v"].map(|name| b.normal(name, &[rows, n_kv_heads * head_dim], 1.0));
        let keys = b.g.kv_scatter(keys, k?, positions, sequences)?;
        (keys, b.g.kv_scatter(values, v?, positions, sequences)?)
    } else {
        (keys, values)
    };
    let y = b.g.attention(AttentionOperands { query, keys, values, positions, sequences, scale })?;
    Ok(vec![(y, Goal::Close(F32_TOLERANCE))])
}

/// A cache that holds `len` positions of every sequence that a row belongs to, and not-a-numbers elsewhere.
fn cache(
    b: &mut Builder,
    name: &str,
    element: ElementType,
    step: &Step,
    [n_kv_heads, max_seq, head_dim]: [usize; 3],
    len: usize,
) -> Result<TensorId, BuildError> {
    // Bits that are all set are not a number in any type.
    let row = element.row_bytes(head_dim)?;
    let mut bytes = vec![0xff; step.n_sequences * n_kv_heads * max_seq * row];
    for (i, head) in bytes.chunks_exact_mut(max_seq * row).enumerate() {
        if step.sequences.contains(&((i / n_kv_heads) as u32)) {
            head[..len * row].copy_from_slice(&b.rng.weights(element, len * head_dim, 1.0)?);
        }
    }
    b.leaf(name, element, &[step.n_sequences, n_kv_heads, max_seq, head_dim], bytes)
}
