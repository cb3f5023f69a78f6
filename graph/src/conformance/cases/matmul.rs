//! Weights of every type: matmul and embedding.

use tensor_formats::ElementType::{self, Q8Act};
use tensor_formats::quantize_row;

use super::{BuildError, Builder, Case, F32_TOLERANCE, Goal, Q8_TOLERANCE, ROWS, Tier};
use crate::{TensorId, TensorOp};

/// What the activation of a matmul is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Input {
    /// F32.
    F32,
    /// Given Q8Act bytes: the product is as exact as that with F32.
    Q8,
    /// F32 that the graph quantises: the product is as exact as eight bits are.
    Quantised,
}

/// Output and input features: a few blocks and tails, one block, many. A length of 37 is no multiple of anything.
fn sizes(dtype: ElementType) -> Vec<[usize; 2]> {
    let all: [[usize; 2]; 8] =
        [[17, 37], [17, 32], [24, 96], [17, 256], [64, 512], [33, 1280], [500, 256], [8, 8960]];
    all.into_iter().filter(|&[_, n]| n.is_multiple_of(dtype.block_elements())).collect()
}

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    for dtype in ElementType::WEIGHTS {
        let inputs =
            if dtype.is_quantised() { &[Input::F32, Input::Q8, Input::Quantised][..] } else { &[Input::F32] };
        for &input in inputs {
            // With few outputs, how far the product of a quantised row is off is a matter of luck.
            let enough = |out: &usize| input != Input::Quantised || *out >= 33;
            for [out, n] in sizes(dtype).into_iter().filter(|[out, _]| enough(out)) {
                for rows in ROWS {
                    let fast = matches!((out, n, rows), (24 | 17, _, 1 | 9) | (33, 1280, 2 | 5));
                    let name = format!("mul_mat/{dtype}x{input:?}/out={out}/in={n}/rows={rows}");
                    cases.push(Case::new(name, TensorOp::MulMat, Tier::fast_if(fast), move |b| {
                        mul_mat(b, dtype, input, [out, n, rows])
                    }));
                }
            }
        }
        for n in [37, 96, 256, 1280].into_iter().filter(|n| n % dtype.block_elements() == 0) {
            for rows in ROWS {
                let tier = Tier::fast_if(matches!((n, rows), (96 | 256, 1 | 9)));
                let name = format!("embed_rows/{dtype}/n={n}/rows={rows}");
                let build = move |b: &mut Builder| embed_rows(b, dtype, n, rows);
                cases.push(Case::new(name, TensorOp::EmbedRows, tier, build));
            }
        }
    }
    for dtype in ElementType::WEIGHTS {
        let name = format!("mul_mat/{dtype}/rows 2..3 of 5, weight rows 8..40 of 64");
        cases.push(Case::new(name, TensorOp::MulMat, Tier::Fast, move |b| views(b, dtype)));
    }
}

fn mul_mat(
    b: &mut Builder,
    dtype: ElementType,
    input: Input,
    [out, n, rows]: [usize; 3],
) -> Result<Vec<(TensorId, Goal)>, BuildError> {
    let weight = b.weight("weight", dtype, &[out, n], 1.0)?;
    let x = match input {
        Input::F32 => b.normal("x", &[rows, n], 1.0)?,
        Input::Q8 => {
            let mut bytes = Vec::new();
            for _ in 0..rows {
                let values = b.rng.normals(n, 1.0);
                let mut row = vec![0; Q8Act.row_bytes(n)?];
                quantize_row(Q8Act, &values, &mut row)?;
                bytes.extend(row);
            }
            b.leaf("x", Q8Act, &[rows, n], bytes)?
        }
        Input::Quantised => {
            let x = b.normal("x", &[rows, n], 1.0)?;
            b.g.quantize_q8(x)?
        }
    };
    let y = b.g.mul_mat(weight, x)?;
    let tolerance = if input == Input::Quantised { Q8_TOLERANCE } else { F32_TOLERANCE };
    Ok(vec![(y, Goal::Close(tolerance))])
}

/// Lookups of the first row, the last, and some twice.
fn embed_rows(
    b: &mut Builder,
    dtype: ElementType,
    n: usize,
    rows: usize,
) -> Result<Vec<(TensorId, Goal)>, BuildError> {
    const VOCAB: usize = 41;
    let table = b.weight("table", dtype, &[VOCAB, n], 1.0)?;
    let mut tokens: Vec<u32> = (0..rows).map(|_| b.rng.below(VOCAB) as u32).collect();
    for (slot, token) in tokens.iter_mut().zip([VOCAB as u32 - 1, 0, 7, 7]) {
        *slot = token;
    }
    let tokens = b.u32("tokens", &tokens)?;
    let y = b.g.embed_rows(table, tokens)?;
    Ok(vec![(y, Goal::Close(F32_TOLERANCE))])
}

fn views(b: &mut Builder, dtype: ElementType) -> Result<Vec<(TensorId, Goal)>, BuildError> {
    let weight = b.weight("weight", dtype, &[64, 256], 1.0)?;
    let x = b.normal("x", &[5, 256], 1.0)?;
    let part = b.g.view(weight, 8, 32)?;
    let row = b.g.view(x, 2, 1)?;
    let y = b.g.mul_mat(part, row)?;
    Ok(vec![(y, Goal::Close(F32_TOLERANCE))])
}
