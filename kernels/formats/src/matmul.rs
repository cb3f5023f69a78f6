//! Matrix products: weight rows in any format with f32 or Q8 activations.

use crate::{ElementType, FormatError, Matrix, Q8Row, Q8Rows, Simd};

/// Multiplies weights by `n` rows of f32 activations: `out[row * n + act]` is the dot product of weight row `row` and
/// activation row `act`.
///
/// `x` is `[n, weights.cols()]` and `out` is `[weights.rows(), n]`, so that rows of the output can be split among threads
/// together with [`Matrix::slice`]. For `n = 1` both are plain vectors. Each weight block is decoded once for up to eight
/// activation rows. A result does not depend on `n` or on the split.
///
/// Weights are decoded to f32, products are summed in f32, in 32 partial sums.
///
/// # Errors
/// [`FormatError::Length`] if `x` is not whole rows or `out` is not `weights.rows() * n` long.
pub fn matmul_f32(simd: Simd, weights: Matrix<'_>, x: &[f32], out: &mut [f32]) -> Result<(), FormatError> {
    let n = x.len() / weights.cols();
    FormatError::check_len("f32 activations", n * weights.cols(), x.len())?;
    check_out(weights.rows(), n, out)?;
    if n > 0 {
        simd.matmul_f32(weights, x, out);
    }
    Ok(())
}

/// Multiplies weights by `n` rows of Q8 activations, with `out` as in [`matmul_f32`].
///
/// Products are summed as integers within each group of 32, and the groups in f32 in a fixed order: the result has the
/// same bits on every machine, for every `n`, split and level of `simd`; only which of the NaNs a NaN is differs. A quant
/// of -128, which quantisation never writes, gives an unspecified number.
///
/// # Errors
/// [`FormatError::NotDefined`] if the weights are not quantised; [`FormatError::Length`] if the activations have another
/// number of columns than the weights, or `out` is not `weights.rows() * acts.rows()` long.
pub fn matmul_q8(
    simd: Simd,
    weights: Matrix<'_>,
    acts: Q8Rows<'_>,
    out: &mut [f32],
) -> Result<(), FormatError> {
    let ty = weights.ty();
    if !has_dot_q8(ty) {
        return Err(FormatError::NotDefined { operation: "a product with Q8 activations", ty });
    }
    FormatError::check_len("columns of Q8 activations", weights.cols(), acts.cols())?;
    check_out(weights.rows(), acts.rows(), out)?;
    if acts.rows() > 0 {
        simd.matmul_q8(weights, acts, out);
    }
    Ok(())
}

/// Whether [`matmul_q8`] takes weights of this type: of every block format.
pub const fn has_dot_q8(ty: ElementType) -> bool {
    ty.is_weight() && ty.is_quantised()
}

fn check_out(rows: usize, n: usize, out: &[f32]) -> Result<(), FormatError> {
    let what = "outputs of a matrix product";
    match rows.checked_mul(n) {
        Some(expected) => FormatError::check_len(what, expected, out.len()),
        None => Err(FormatError::Length { what, expected: usize::MAX, actual: out.len() }),
    }
}

/// The dot product of one row of weights with f32 activations; one row of [`matmul_f32`].
///
/// # Errors
/// As [`Matrix::new`] and [`matmul_f32`].
pub fn dot_f32(simd: Simd, ty: ElementType, row: &[u8], x: &[f32]) -> Result<f32, FormatError> {
    let mut out = [0.0];
    matmul_f32(simd, Matrix::new(ty, x.len(), row)?, x, &mut out)?;
    Ok(out[0])
}

/// The dot product of one row of weights with one row of Q8 activations; one row of [`matmul_q8`].
///
/// # Errors
/// As [`Matrix::new`] and [`matmul_q8`].
pub fn dot_q8(simd: Simd, ty: ElementType, row: &[u8], act: Q8Row<'_>) -> Result<f32, FormatError> {
    let mut out = [0.0];
    let weights = Matrix::new(ty, act.cols(), row)?;
    matmul_q8(simd, weights, act.as_rows(), &mut out)?;
    Ok(out[0])
}
