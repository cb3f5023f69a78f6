//! Operations on whole rows: norm, softmax, argmax, quantisation of activations.

use super::{BuildError, Builder, Case, F32_TOLERANCE, Goal, ROWS, Tier};
use crate::reference::ops;
use crate::{TensorId, TensorOp};

type Goals = Result<Vec<(TensorId, Goal)>, BuildError>;

pub(super) fn add_cases(cases: &mut Vec<Case>) {
    let mut add = |op: TensorOp, n: usize, fast: bool, build: fn(&mut Builder, usize, usize) -> Goals| {
        for rows in ROWS {
            let tier = Tier::fast_if(fast && matches!(rows, 1 | 5 | 9));
            let name = format!("{op}/n={n}/rows={rows}");
            cases.push(Case::new(name, op, tier, move |b| build(b, rows, n)));
        }
    };
    for n in [1, 7, 33, 64, 256, 1000, 1536, 4096] {
        add(TensorOp::RmsNorm, n, n <= 1000, rms_norm);
    }
    for n in [1, 7, 33, 256, 1025, 5000] {
        add(TensorOp::SoftMax, n, n <= 1025, soft_max);
    }
    for n in [1, 2, 33, 256, 1000, 32_000, 151_936] {
        add(TensorOp::Argmax, n, n <= 1000, argmax);
    }
    for n in [32, 96, 256, 1280, 8960] {
        add(TensorOp::QuantizeQ8, n, n <= 256, quantize_q8);
    }
}

/// Rows of every magnitude: where epsilon decides, where it does not matter, and all zero.
fn rms_norm(b: &mut Builder, rows: usize, n: usize) -> Goals {
    let mut values = Vec::new();
    for row in 0..rows {
        let sigma = [1.0, 1e-3, 0.0, 100.0][row % 4];
        values.extend(b.rng.normals(n, sigma));
    }
    let x = b.f32("x", &[rows, n], &values)?;
    let weight = b.normal("weight", &[n], 1.0)?;
    let y = b.g.rms_norm(x, weight, 1e-5)?;
    let z = b.g.rms_norm(x, weight, 1e-6)?;
    Ok(vec![(y, Goal::Close(F32_TOLERANCE)), (z, Goal::Close(F32_TOLERANCE))])
}

/// Rows whose powers overflow or vanish unless the maximum is taken off first, and some with excluded entries.
fn soft_max(b: &mut Builder, rows: usize, n: usize) -> Goals {
    let mut values = Vec::new();
    for row in 0..rows {
        let offset = [0.0, 100.0, -100.0][row % 3];
        let start = values.len();
        values.extend(b.rng.normals(n, 2.0).into_iter().map(|v| v + offset));
        if row % 4 == 1 {
            values[start..].iter_mut().skip(1).step_by(3).for_each(|v| *v = f32::NEG_INFINITY);
        }
    }
    let x = b.f32("x", &[rows, n], &values)?;
    let y = b.g.soft_max(x, 1.0)?;
    let z = b.g.soft_max(x, 0.125)?;
    Ok(vec![(y, Goal::Close(F32_TOLERANCE)), (z, Goal::Close(F32_TOLERANCE))])
}

/// Ties, not-a-numbers at either end and everywhere, infinities, and the largest value at a random place.
fn argmax(b: &mut Builder, rows: usize, n: usize) -> Goals {
    let mut values = Vec::new();
    for row in 0..rows {
        let start = values.len();
        values.extend(b.rng.normals(n, 1.0));
        let [first, second] = [b.rng.below(n), b.rng.below(n)];
        let row_values = &mut values[start..];
        match row % 8 {
            1 => [row_values[first], row_values[second]] = [9.0, 9.0],
            2 => (row_values[first], row_values[second]) = (f32::NAN, 9.0),
            3 => row_values.fill(f32::NEG_INFINITY),
            4 => row_values.fill(f32::NAN),
            5 => row_values.iter_mut().for_each(|v| *v = -1.0 - v.abs()),
            6 => {
                row_values.fill(0.0);
                row_values[0] = f32::NAN;
                row_values[n - 1] = if n > 1 { -0.0 } else { f32::NAN };
            }
            7 => row_values[n - 1] = f32::INFINITY,
            _ => {}
        }
    }
    let x = b.f32("x", &[rows, n], &values)?;
    let y = b.g.argmax(x)?;
    Ok(vec![(y, Goal::Exact)])
}

/// Groups of every magnitude, all zero, too small to scale, with ties between two quants, and not finite.
fn quantize_q8(b: &mut Builder, rows: usize, n: usize) -> Goals {
    let mut values = Vec::new();
    for group in 0..rows * n / 32 {
        let start = values.len();
        let sigma = [1.0, 1e-4, 1e3, 0.0, 1e-37, 1e-41][group % 6];
        values.extend(b.rng.normals(32, sigma));
        match group % 16 {
            7 => {
                // Steps of one half: every other value lies between two quants.
                values[start..].iter_mut().enumerate().for_each(|(i, v)| *v = i as f32 / 2.0 - 8.0);
                values[start] = 127.0;
            }
            9 => values[start + 5] = f32::INFINITY,
            14 => values[start + 31] = f32::NAN,
            _ => {}
        }
    }
    let x = b.f32("x", &[rows, n], &values)?;
    let y = b.g.quantize_q8(x)?;
    let exact: Vec<f64> = values.iter().map(|&v| f64::from(v)).collect();
    Ok(vec![(y, Goal::Bytes(ops::quantize_q8(&exact, n)?))])
}
