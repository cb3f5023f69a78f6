//! Operations on rows: lookup, norm, matmul, elementwise, softmax, argmax, quantisation.
//!
//! Matrices are row-major slices with the row length beside them. Slices whose lengths disagree are a defect of the
//! caller and panic.

use tensor_formats::{ElementType, FormatError, quantize_row};

use super::ReferenceError;

/// The rows of `table` (of `cols` values each) that `tokens` name.
///
/// # Errors
/// [`ReferenceError::OutOfRange`] for a token that is not a row of the table.
pub fn embed_rows(table: &[f64], cols: usize, tokens: &[u32]) -> Result<Vec<f64>, ReferenceError> {
    let vocab = table.len() / cols;
    let mut out = Vec::with_capacity(tokens.len() * cols);
    for (row, &token) in tokens.iter().enumerate() {
        let index = super::cached::below("token", row, token, vocab)?;
        out.extend_from_slice(&table[index * cols..][..cols]);
    }
    Ok(out)
}

/// Each row over the root of its mean square plus `eps`, times `weight` (Zhang and Sennrich, arXiv:1910.07467).
pub fn rms_norm(x: &[f64], weight: &[f64], eps: f32) -> Vec<f64> {
    let row_norm = |row: &[f64]| {
        let mean_square = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
        let scale = 1.0 / (mean_square + f64::from(eps)).sqrt();
        row.iter().zip(weight).map(|(v, w)| v * scale * w).collect::<Vec<_>>()
    };
    x.chunks_exact(weight.len()).flat_map(row_norm).collect()
}

/// `x * weight^T`: the dot product of every row of `x` with every row of `weight`, both of `cols` values.
pub fn mul_mat(weight: &[f64], x: &[f64], cols: usize) -> Vec<f64> {
    x.chunks_exact(cols).flat_map(|x| weight.chunks_exact(cols).map(move |w| dot(w, x))).collect()
}

/// The dot product of two slices of one length.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `a + b`, `b` repeated for every row of `a` if it is shorter.
pub fn add(a: &[f64], b: &[f64]) -> Vec<f64> {
    assert!(a.len().is_multiple_of(b.len()));
    a.iter().zip(b.iter().cycle()).map(|(a, b)| a + b).collect()
}

/// `a * b`.
pub fn mul(a: &[f64], b: &[f64]) -> Vec<f64> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

/// `x / (1 + exp(-x))`.
pub fn silu(x: &[f64]) -> Vec<f64> {
    x.iter().map(|x| x / (1.0 + (-x).exp())).collect()
}

/// `silu(gate) * up` (Shazeer, arXiv:2002.05202).
pub fn swi_glu(gate: &[f64], up: &[f64]) -> Vec<f64> {
    mul(&silu(gate), up)
}

/// `softmax(scale * x)` of rows of `cols` values.
pub fn soft_max(x: &[f64], cols: usize, scale: f32) -> Vec<f64> {
    let row_soft_max = |row: &[f64]| {
        let scores = row.iter().map(|v| v * f64::from(scale)).collect::<Vec<_>>();
        let max = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let powers = scores.iter().map(|s| (s - max).exp()).collect::<Vec<_>>();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(move |p| p / sum)
    };
    x.chunks_exact(cols).flat_map(row_soft_max).collect()
}

/// The index of the largest value of each row of `cols`: the lowest among equals, never a NaN's, `u32::MAX` if nothing is
/// above -inf.
pub fn argmax(x: &[f64], cols: usize) -> Vec<u32> {
    let row_argmax = |row: &[f64]| {
        let none = (f64::NEG_INFINITY, u32::MAX);
        (0..).zip(row).fold(none, |best, (i, &v)| if v > best.0 { (v, i) } else { best }).1
    };
    x.chunks_exact(cols).map(row_argmax).collect()
}

/// Rows of `cols` values, rounded to f32, as Q8Act: the bytes that [`tensor_formats::q8_act`] defines.
///
/// # Errors
/// [`FormatError`] if `cols` is not a multiple of 32.
pub fn quantize_q8(x: &[f64], cols: usize) -> Result<Vec<u8>, FormatError> {
    let row_bytes = ElementType::Q8Act.row_bytes(cols)?;
    let mut out = vec![0; x.len() / cols * row_bytes];
    for (row, out) in x.chunks_exact(cols).zip(out.chunks_exact_mut(row_bytes)) {
        let row: Vec<f32> = row.iter().map(|&v| v as f32).collect();
        quantize_row(ElementType::Q8Act, &row, out)?;
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(actual: &[f64], expected: &[f64]) {
        assert_eq!(actual.len(), expected.len());
        for (a, e) in actual.iter().zip(expected) {
            assert!((a - e).abs() <= 1e-12 * e.abs().max(1.0), "{actual:?} is not {expected:?}");
        }
    }

    #[test]
    fn embedding_picks_rows() {
        let table = [0.0, 1.0, 10.0, 11.0, 20.0, 21.0];
        assert_eq!(embed_rows(&table, 2, &[2, 0]).unwrap(), [20.0, 21.0, 0.0, 1.0]);
        let error = embed_rows(&table, 2, &[1, 3]).unwrap_err();
        assert_eq!(error, ReferenceError::OutOfRange { what: "token", row: 1, value: 3, limit: 3 });
    }

    #[test]
    fn norm_of_known_rows() {
        // Mean square of (3, 4, 0, 0) is 6.25; with eps 0.0 the scale is 0.4.
        close(&rms_norm(&[3.0, 4.0, 0.0, 0.0], &[1.0, 2.0, 3.0, 4.0], 0.0), &[1.2, 3.2, 0.0, 0.0]);
        // eps is inside of the root: 0 over the root of 0.25 + 0.75 for a row of halves.
        close(&rms_norm(&[0.5, 0.5, 0.0, 0.0], &[1.0, 1.0], 0.75), &[0.5, 0.5, 0.0, 0.0]);
    }

    #[test]
    fn matmul_is_rows_by_rows() {
        let weight = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // [3, 2]
        close(&mul_mat(&weight, &[1.0, 10.0, -1.0, 0.5], 2), &[21.0, 43.0, 65.0, 0.0, -1.0, -2.0]);
    }

    #[test]
    fn elementwise() {
        assert_eq!(add(&[1.0, 2.0, 3.0, 4.0], &[10.0, 20.0]), [11.0, 22.0, 13.0, 24.0]);
        assert_eq!(mul(&[1.0, 2.0], &[3.0, 4.0]), [3.0, 8.0]);
        close(&silu(&[0.0, 1.0, -1.0]), &[0.0, 0.731_058_578_630_004_9, -0.268_941_421_369_995_1]);
        assert_eq!(silu(&[-1e4, 1e4]), [-0.0, 1e4]);
        close(&swi_glu(&[1.0], &[2.0]), &[1.462_117_157_260_009_8]);
    }

    #[test]
    fn softmax_of_known_rows() {
        close(&soft_max(&[0.0, 2f64.ln(), 5.0, 5.0], 2, 1.0), &[1.0 / 3.0, 2.0 / 3.0, 0.5, 0.5]);
        close(&soft_max(&[0.0, 4f64.ln(), 1e4, 0.0], 2, 0.5), &[1.0 / 3.0, 2.0 / 3.0, 1.0, 0.0]);
        close(&soft_max(&[f64::NEG_INFINITY, 0.0], 2, 1.0), &[0.0, 1.0]);
    }

    #[test]
    fn argmax_ties_and_nans() {
        let (nan, low) = (f64::NAN, f64::NEG_INFINITY);
        let rows = [1.0, 3.0, 3.0, nan, 2.0, 5.0, low, low, low, nan, low, nan, nan, nan, nan];
        assert_eq!(argmax(&rows, 3), [1, 2, u32::MAX, u32::MAX, u32::MAX]);
    }

    #[test]
    fn quantised_activations_stay_within_half_a_step() {
        let x: Vec<f64> = (0..128).map(|i| f64::from(((i * 37) % 101) as f32 - 50.0)).collect();
        let bytes = quantize_q8(&x, 64).unwrap();
        let back = super::super::dequantize(ElementType::Q8Act, 64, &bytes).unwrap();
        for (group, (x, back)) in x.chunks(32).zip(back.chunks(32)).enumerate() {
            let step = x.iter().fold(0.0f64, |m, v| m.max(v.abs())) / 127.0;
            let worst = x.iter().zip(back).fold(0.0f64, |m, (x, b)| m.max((x - b).abs()));
            assert!(worst <= 0.5001 * step, "group {group}: off by {worst}, step {step}");
        }
    }
}
