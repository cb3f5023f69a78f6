//! The operations on rows of f32: plain functions on slices.

use graph::RopeStyle;

/// `out = x / sqrt(mean(x^2) + eps) * weight` (Zhang and Sennrich, arXiv:1910.07467), the mean square in f64.
pub fn rms_norm(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
    // Eight sums, so that the additions do not wait for one another.
    let mut sums = [0.0f64; 8];
    let (whole, rest) = x.as_chunks::<8>();
    for chunk in whole {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += f64::from(x) * f64::from(x);
        }
    }
    let rest: f64 = rest.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let mean = (sums.iter().sum::<f64>() + rest) / x.len() as f64;
    let scale = (1.0 / (mean + f64::from(eps)).sqrt()) as f32;
    for ((out, &x), &weight) in out.iter_mut().zip(x).zip(weight) {
        *out = x * scale * weight;
    }
}

/// Rotates the first `n_rot` features of one head in place; `angles` is the position's row of the RoPE table,
/// `n_rot / 2` pairs of (cosine, sine).
pub fn rope_head(head: &mut [f32], angles: &[f32], style: RopeStyle) {
    let half = angles.len() / 2;
    for (i, &[cos, sin]) in angles.as_chunks::<2>().0.iter().enumerate() {
        let (a, b) = match style {
            RopeStyle::Interleaved => (2 * i, 2 * i + 1),
            RopeStyle::NeoX => (i, i + half),
        };
        let (x, y) = (head[a], head[b]);
        head[a] = x * cos - y * sin;
        head[b] = x * sin + y * cos;
    }
}

/// The index of the largest value: the lowest among equals; NaN never wins; `u32::MAX` if nothing is above -inf.
pub fn argmax(x: &[f32]) -> u32 {
    kernels::sample::largest(x).map_or(u32::MAX, |(index, _)| index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argmax_takes_the_first_of_equals_and_never_nan() {
        assert_eq!(argmax(&[1.0, 3.0, 3.0, 2.0]), 1);
        assert_eq!(argmax(&[f32::NAN, -1.0, f32::NAN]), 1);
        assert_eq!(argmax(&[f32::NAN; 3]), u32::MAX);
        assert_eq!(argmax(&[f32::NEG_INFINITY; 3]), u32::MAX);
    }
}
