//! Least-squares fits of small grids to values: the search behind the quantisers of the K formats.
//!
//! Both searches try inverse scales around the one that just covers the values. Each gives an assignment of values to
//! grid points, and for an assignment the best scale (and minimum) has a closed form. The candidate with the least
//! weighted squared error wins. Values are within a format's `LIMIT`, so that no sum here overflows.

use crate::{ElementType, FormatError};

/// How much the error of each value counts: more for the large ones, which dominate dot products.
pub(crate) fn importance<const N: usize>(values: &[f32; N]) -> [f32; N] {
    let mean_square = values.iter().map(|x| x * x).sum::<f32>() / N as f32;
    let rms = mean_square.sqrt();
    values.map(|x| rms + x.abs())
}

/// The largest magnitude.
pub(crate) fn max_abs(values: &[f32]) -> f32 {
    values.iter().fold(0.0, |max, x| x.abs().max(max))
}

/// Refuses values that are not finite or exceed `limit`: a block format has no way to express them.
pub(crate) fn check_range(ty: ElementType, values: &[f32], limit: f32) -> Result<(), FormatError> {
    match values.iter().position(|x| !x.is_finite() || x.abs() > limit) {
        None => Ok(()),
        Some(index) => Err(FormatError::NotRepresentable { ty, index }),
    }
}

/// Values approximated by `scale * q - min`, with `q` from 0 up and `min` not negative.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Affine {
    pub(crate) scale: f32,
    pub(crate) min: f32,
}

/// The grid points `0..=max` nearest to the values.
pub(crate) fn affine_quants<const N: usize>(values: &[f32; N], scale: f32, min: f32, max: u8) -> [u8; N] {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    values.map(|x| ((x + min) * inverse).round_ties_even().clamp(0.0, f32::from(max)) as u8)
}

/// The weighted squared error of the best assignment to a given grid.
pub(crate) fn affine_error<const N: usize>(
    values: &[f32; N],
    importance: &[f32; N],
    scale: f32,
    min: f32,
    max: u8,
) -> f32 {
    let quants = affine_quants(values, scale, min, max);
    let errors = values.iter().zip(quants).map(|(x, q)| scale * f32::from(q) - min - x);
    errors.zip(importance).map(|(error, weight)| weight * error * error).sum()
}

/// Fits `scale` and `min` for quants `0..=max`.
pub(crate) fn affine<const N: usize>(values: &[f32; N], importance: &[f32; N], max: u8) -> Affine {
    let low = values.iter().copied().fold(0.0, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let range = high - low;
    if range <= 0.0 {
        return Affine { scale: 0.0, min: -low };
    }
    let steps = f32::from(max);
    let mut best = Affine { scale: range / steps, min: -low };
    let mut best_error = affine_error(values, importance, best.scale, best.min, max);
    for step in 0..=20 {
        let inverse = (steps - 1.0 + 0.1 * step as f32) / range;
        let quants = values.map(|x| ((x - low) * inverse).round_ties_even().clamp(0.0, steps));
        let Some(fit) = solve_affine(values, importance, &quants) else { continue };
        let error = affine_error(values, importance, fit.scale, fit.min, max);
        if error < best_error {
            (best, best_error) = (fit, error);
        }
    }
    best
}

/// The scale and minimum with the least error for an assignment; `None` if it does not determine them.
fn solve_affine<const N: usize>(
    values: &[f32; N],
    importance: &[f32; N],
    quants: &[f32; N],
) -> Option<Affine> {
    let (mut w, mut q, mut qq, mut x, mut xq) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for ((&value, &weight), &quant) in values.iter().zip(importance).zip(quants) {
        w += weight;
        q += weight * quant;
        qq += weight * quant * quant;
        x += weight * value;
        xq += weight * value * quant;
    }
    let determinant = w * qq - q * q;
    let free = Affine { scale: (w * xq - x * q) / determinant, min: (q * xq - qq * x) / determinant };
    let fit = if free.min >= 0.0 { free } else { Affine { scale: xq / qq, min: 0.0 } };
    (determinant > 0.0 && qq > 0.0 && fit.scale.is_finite() && fit.scale > 0.0 && fit.min.is_finite())
        .then_some(fit)
}

/// The grid points `low..=high` nearest to the values.
pub(crate) fn symmetric_quants<const N: usize>(values: &[f32; N], scale: f32, low: i8, high: i8) -> [i8; N] {
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    values.map(|x| (x * inverse).round_ties_even().clamp(f32::from(low), f32::from(high)) as i8)
}

/// The weighted squared error of the best assignment to a given grid.
pub(crate) fn symmetric_error<const N: usize>(
    values: &[f32; N],
    importance: &[f32; N],
    scale: f32,
    low: i8,
    high: i8,
) -> f32 {
    let quants = symmetric_quants(values, scale, low, high);
    let errors = values.iter().zip(quants).map(|(x, q)| scale * f32::from(q) - x);
    errors.zip(importance).map(|(error, weight)| weight * error * error).sum()
}

/// Fits the scale, of either sign, for quants `low..=high` where `-low > high`.
pub(crate) fn symmetric<const N: usize>(values: &[f32; N], importance: &[f32; N], low: i8, high: i8) -> f32 {
    let extreme = values.iter().fold(0.0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    if extreme == 0.0 {
        return 0.0;
    }
    // The extreme value gets the longer side of the grid.
    let mut best = extreme / f32::from(low);
    let mut best_error = symmetric_error(values, importance, best, low, high);
    for step in -9..=9 {
        let guess = extreme / (f32::from(low) + 0.1 * step as f32);
        let quants = symmetric_quants(values, guess, low, high);
        let (mut xq, mut qq) = (0.0, 0.0);
        for ((&value, &weight), &quant) in values.iter().zip(importance).zip(&quants) {
            xq += weight * value * f32::from(quant);
            qq += weight * f32::from(quant) * f32::from(quant);
        }
        let scale = xq / qq;
        let error = symmetric_error(values, importance, scale, low, high);
        // A degenerate sum gives a NaN, which is never smaller.
        if error < best_error {
            (best, best_error) = (scale, error);
        }
    }
    best
}
