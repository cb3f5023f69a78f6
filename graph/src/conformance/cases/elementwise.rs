//! Elementwise operations and copies, of odd sizes, in place and not.

use tensor_formats::ElementType;

use super::{BuildError, Builder, Case, F32_TOLERANCE, Goal, ROWS, Tier};
use crate::{OpParams, TensorId, TensorOp};

type Goals = Result<Vec<(TensorId, Goal)>, BuildError>;

/// Row lengths: below, at and above the widths that vector loads and blocks have.
const COLS: [usize; 6] = [1, 7, 33, 256, 1000, 4099];

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    for n in COLS {
        for rows in ROWS {
            let tier = Tier::fast_if(n <= 1000 && matches!(rows, 1 | 5));
            for op in [TensorOp::Add, TensorOp::Mul, TensorOp::Silu, TensorOp::SwiGlu] {
                let over = op.in_place_operands().iter().map(|&operand| Some(operand));
                for over in std::iter::once(None).chain(over) {
                    let place = over.map_or("apart".into(), |i| format!("over {}", op.operands()[i]));
                    let name = format!("{op}/{place}/n={n}/rows={rows}");
                    cases.push(Case::new(name, op, tier, move |b| elementwise(b, op, over, [rows, n])));
                }
            }
            for in_place in [false, true] {
                let place = if in_place { "over a" } else { "apart" };
                let name = format!("add/vector to every row/{place}/n={n}/rows={rows}");
                let build = move |b: &mut Builder| add_vector(b, in_place, [rows, n]);
                cases.push(Case::new(name, TensorOp::Add, tier, build));
            }
        }
    }
    for op in [TensorOp::Add, TensorOp::Mul, TensorOp::SwiGlu] {
        let name = format!("{op}/both operands the same");
        cases.push(Case::new(name, op, Tier::Fast, move |b| same_operand(b, op)));
    }
    for dtype in ElementType::ALL {
        for rows in [1, 5, 32] {
            let name = format!("copy/{dtype}/rows={rows}");
            cases.push(Case::new(name, TensorOp::Copy, Tier::fast_if(rows < 32), move |b| {
                copy(b, dtype, rows)
            }));
        }
    }
    for (n, tier) in [(64, Tier::Fast), (33, Tier::Full)] {
        let name = format!("view/rows 3..5 of 6/n={n}");
        cases.push(Case::new(name, TensorOp::View, tier, move |b| view(b, n)));
    }
}

/// Normal values, with some that overflow a careless exponential.
fn input(b: &mut Builder, name: &str, [rows, n]: [usize; 2]) -> Result<TensorId, BuildError> {
    let mut values = b.rng.normals(rows * n, 2.0);
    if n >= 33 {
        values
            .iter_mut()
            .skip(5)
            .step_by(61)
            .zip([100.0, -100.0, 30.0, -30.0, 0.0].iter().cycle())
            .for_each(|(v, special)| *v = *special);
    }
    b.f32(name, &[rows, n], &values)
}

fn elementwise(b: &mut Builder, op: TensorOp, over: Option<usize>, dims: [usize; 2]) -> Goals {
    let mut inputs = Vec::new();
    for (i, operand) in op.operands().iter().enumerate() {
        let leaf = input(b, operand, dims)?;
        inputs.push(if over == Some(i) { b.dying(leaf)? } else { leaf });
    }
    let y = b.g.add_op(op, &inputs, OpParams::None)?;
    if over.is_some() {
        b.must_be_in_place(y);
    }
    Ok(vec![(y, Goal::Close(F32_TOLERANCE))])
}

fn add_vector(b: &mut Builder, in_place: bool, dims: [usize; 2]) -> Goals {
    let mut x = input(b, "x", dims)?;
    if in_place {
        x = b.dying(x)?;
    }
    let bias = b.normal("bias", &[dims[1]], 1.0)?;
    let y = b.g.add(x, bias)?;
    if in_place {
        b.must_be_in_place(y);
    }
    Ok(vec![(y, Goal::Close(F32_TOLERANCE))])
}

/// One tensor as both operands: for a sum and a product in place over both, for a gate that is also the factor apart.
fn same_operand(b: &mut Builder, op: TensorOp) -> Goals {
    let x = input(b, "x", [5, 257])?;
    let x = b.dying(x)?;
    let y = b.g.add_op(op, &[x, x], OpParams::None)?;
    if op != TensorOp::SwiGlu {
        b.must_be_in_place(y);
    }
    Ok(vec![(y, Goal::Close(F32_TOLERANCE))])
}

/// Any bytes, whatever they mean.
fn copy(b: &mut Builder, dtype: ElementType, rows: usize) -> Goals {
    let cols = if dtype.block_elements() == 1 { 259 } else { 512 };
    let bytes: Vec<u8> = (0..dtype.matrix_bytes(rows, cols)?).map(|_| b.rng.bits() as u8).collect();
    let x = b.leaf("x", dtype, &[rows, cols], bytes.clone())?;
    let y = b.g.copy(x)?;
    Ok(vec![(y, Goal::Bytes(bytes))])
}

/// Some rows of an intermediate, which others still need as a whole.
fn view(b: &mut Builder, n: usize) -> Goals {
    let x = input(b, "x", [6, n])?;
    let x = b.dying(x)?;
    let rows = b.g.view(x, 3, 2)?;
    let y = b.g.silu(rows)?;
    let whole = b.g.add(x, x)?;
    let again = b.g.view(whole, 5, 1)?;
    let z = b.g.mul(again, again)?;
    Ok(vec![(y, Goal::Close(F32_TOLERANCE)), (z, Goal::Close(F32_TOLERANCE))])
}
