//! Sums of weighted rows of f32: the values of attention.

use crate::{FormatError, Simd};

/// `out[i] += sum of weights[i][j] * rows[j]`, for each `i` over as many rows as it has weights.
///
/// `rows` is `[n, cols]` and `out` is `[weights.len(), cols]`. Products are rounded and added row by row, in ascending
/// order: the result has the same bits on every machine and level of `simd`, and does not depend on the other sums; only
/// which of the NaNs a NaN is differs.
///
/// # Errors
/// [`FormatError::Length`] if `rows` is not whole rows, `out` is not `weights.len() * cols` long, there are more weights
/// than rows, or `cols` is 0.
pub fn add_weighted_rows(
    simd: Simd,
    rows: &[f32],
    cols: usize,
    weights: &[&[f32]],
    out: &mut [f32],
) -> Result<(), FormatError> {
    if cols == 0 {
        return Err(FormatError::Length { what: "columns of weighted rows", expected: 1, actual: 0 });
    }
    let n = rows.len() / cols;
    FormatError::check_len("weighted rows", n * cols, rows.len())?;
    FormatError::check_len("sums of weighted rows", weights.len().saturating_mul(cols), out.len())?;
    match weights.iter().find(|weights| weights.len() > n) {
        Some(weights) => {
            Err(FormatError::Length { what: "weights of rows", expected: n, actual: weights.len() })
        }
        None => {
            simd.add_weighted_rows(rows, cols, weights, out);
            Ok(())
        }
    }
}

/// [`add_weighted_rows`] for every processor.
pub(crate) fn portable(rows: &[f32], cols: usize, weights: &[&[f32]], out: &mut [f32]) {
    for (weights, out) in weights.iter().zip(out.chunks_exact_mut(cols)) {
        add_weighted_cols(rows, cols, 0, weights, out);
    }
}

/// One sum's columns from `col` on.
#[inline(always)]
pub(crate) fn add_weighted_cols(rows: &[f32], cols: usize, col: usize, weights: &[f32], out: &mut [f32]) {
    for (&weight, row) in weights.iter().zip(rows.chunks_exact(cols)) {
        for (out, &value) in out[col..].iter_mut().zip(&row[col..]) {
            *out += weight * value;
        }
    }
}
