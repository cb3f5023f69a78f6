//! Least-squares fits of small grids to values: the search behind the quantisers of the K formats.
//!
//! Both searches try inverse scales around the one that just covers the values. Each gives an assignment of values to
//! grid points, and for an assignment the best scale (and minimum) has a closed form. The candidate with the least
//! weighted squared error wins. Values are within a format's `LIMIT`, so that no sum here overflows.

use crate::lanes::{self, Lanes};
use crate::rounding::round_half_even;
use crate::{ElementType, FormatError};

/// How much the error of each value counts: more for the large ones, which dominate dot products.
pub(crate) fn importance<const N: usize>(values: &[f32; N]) -> [f32; N] {
    let rms = (sum_of::<N>(|i| values[i] * values[i]) / N as f32).sqrt();
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

/// A grid of numbers `low..=high`, the quants that a format can store.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) low: f32,
    pub(crate) high: f32,
}

impl Grid {
    /// The grid point nearest to `x`, the even one of two; the lowest for a NaN.
    #[inline(always)]
    fn nearest(self, x: f32) -> f32 {
        let x = if x > self.low { x } else { self.low };
        round_half_even(if x < self.high { x } else { self.high })
    }
}

/// Values approximated by `scale * q - min`.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Affine {
    pub(crate) scale: f32,
    pub(crate) min: f32,
}

impl Affine {
    /// The quants nearest to the values.
    #[inline(always)]
    pub(crate) fn quants<const N: usize>(self, values: &[f32; N], grid: Grid) -> [f32; N] {
        let inverse = if self.scale == 0.0 { 0.0 } else { 1.0 / self.scale };
        values.map(|x| grid.nearest((x + self.min) * inverse))
    }

    /// The weighted squared error of the nearest quants.
    #[inline(always)]
    pub(crate) fn error<const N: usize>(self, values: &[f32; N], importance: &[f32; N], grid: Grid) -> f32 {
        let quants = self.quants(values, grid);
        sum_of::<N>(|i| {
            let error = self.scale * quants[i] - self.min - values[i];
            importance[i] * error * error
        })
    }
}

/// The sum of `N` terms (a multiple of eight), in eight lanes, so that it vectorises.
#[inline(always)]
fn sum_of<const N: usize>(term: impl Fn(usize) -> f32) -> f32 {
    let mut sums: Lanes = [0.0; 8];
    for first in (0..N).step_by(8) {
        for (lane, sum) in sums.iter_mut().enumerate() {
            *sum += term(first + lane);
        }
    }
    lanes::sum(sums)
}

/// Fits scale and minimum for quants from 0; the minimum is never negative.
pub(crate) fn affine<const N: usize>(values: &[f32; N], importance: &[f32; N], grid: Grid) -> Affine {
    let low = values.iter().copied().fold(0.0, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let range = high - low;
    if range <= 0.0 {
        return Affine { scale: 0.0, min: -low };
    }
    let sums = AffineSums::new(values, importance);
    let mut best = Affine { scale: range / grid.high, min: -low };
    let mut best_error = best.error(values, importance, grid);
    for step in 0..=20 {
        let guess = Affine { scale: range / (grid.high - 1.0 + 0.1 * step as f32), min: -low };
        let Some(fit) = sums.solve(importance, &guess.quants(values, grid)) else { continue };
        let error = fit.error(values, importance, grid);
        if error < best_error {
            (best, best_error) = (fit, error);
        }
    }
    best
}

/// What the normal equations of all assignments have in common.
struct AffineSums<const N: usize> {
    importance: f32,
    values: f32,
    weighted: [f32; N],
}

impl<const N: usize> AffineSums<N> {
    fn new(values: &[f32; N], importance: &[f32; N]) -> Self {
        let weighted: [f32; N] = std::array::from_fn(|i| importance[i] * values[i]);
        Self { importance: sum_of::<N>(|i| importance[i]), values: sum_of::<N>(|i| weighted[i]), weighted }
    }

    /// The scale and minimum with the least error for an assignment; `None` if it does not determine them.
    #[inline(always)]
    fn solve(&self, importance: &[f32; N], quants: &[f32; N]) -> Option<Affine> {
        let (w, x) = (self.importance, self.values);
        let q = sum_of::<N>(|i| importance[i] * quants[i]);
        let qq = sum_of::<N>(|i| importance[i] * quants[i] * quants[i]);
        let xq = sum_of::<N>(|i| self.weighted[i] * quants[i]);
        let determinant = w * qq - q * q;
        let free = Affine { scale: (w * xq - x * q) / determinant, min: (q * xq - qq * x) / determinant };
        let fit = if free.min >= 0.0 { free } else { Affine { scale: xq / qq, min: 0.0 } };
        let solved = determinant > 0.0 && qq > 0.0 && fit.scale > 0.0;
        (solved && fit.scale.is_finite() && fit.min.is_finite()).then_some(fit)
    }
}

/// Fits a scale, of either sign, to `scale * q`, for a grid that reaches further down than up.
pub(crate) fn symmetric<const N: usize>(values: &[f32; N], importance: &[f32; N], grid: Grid) -> Affine {
    let extreme = values.iter().fold(0.0f32, |a, &b| if b.abs() > a.abs() { b } else { a });
    if extreme == 0.0 {
        return Affine::default();
    }
    // The extreme value gets the longer side of the grid.
    let mut best = Affine { scale: extreme / grid.low, min: 0.0 };
    let mut best_error = best.error(values, importance, grid);
    for step in -9..=9 {
        let guess = Affine { scale: extreme / (grid.low + 0.1 * step as f32), min: 0.0 };
        let quants = guess.quants(values, grid);
        let xq = sum_of::<N>(|i| importance[i] * values[i] * quants[i]);
        let qq = sum_of::<N>(|i| importance[i] * quants[i] * quants[i]);
        let fit = Affine { scale: xq / qq, min: 0.0 };
        let error = fit.error(values, importance, grid);
        // A degenerate sum gives a NaN, which is never smaller.
        if error < best_error {
            (best, best_error) = (fit, error);
        }
    }
    best
}
