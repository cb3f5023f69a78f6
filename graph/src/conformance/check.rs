//! Comparison of a result with what it should be.

use std::fmt;

use super::cases::Expect;
use crate::Shape;

/// How a result differs from what it should be.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Mismatch {
    /// A row is too far from the reference.
    Far {
        /// The row.
        row: usize,
        /// Its relative L2 distance, NaN if a value is.
        distance: f64,
        /// The largest distance allowed.
        tolerance: f64,
        /// The column with the largest difference.
        col: usize,
        /// The value there.
        actual: f32,
        /// What it should be.
        expected: f64,
    },
    /// A byte of an exact result differs.
    Byte {
        /// Which.
        byte: usize,
        /// Its value.
        actual: u8,
        /// What it should be.
        expected: u8,
    },
    /// The result has another length.
    Length {
        /// Bytes it has.
        actual: usize,
        /// Bytes it should have.
        expected: usize,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Far { row, distance, tolerance, col, actual, expected } => write!(
                f,
                "row {row} is {distance:.2e} from the reference (at most {tolerance:.0e}), \
                 most in column {col}: {actual:e} instead of {expected:e}"
            ),
            Self::Byte { byte, actual, expected } => {
                write!(f, "byte {byte} (word {}) is {actual:#04x} instead of {expected:#04x}", byte / 4)
            }
            Self::Length { actual, expected } => write!(f, "has {actual} bytes instead of {expected}"),
        }
    }
}

/// Norms below this count as this: less than a normal f32, which a backend may flush to zero.
const TINY: f64 = 1e-30;

/// Whether `bytes` of a tensor of `shape` are as expected.
pub(super) fn compare(expect: &Expect, shape: Shape, bytes: &[u8]) -> Result<(), Mismatch> {
    match expect {
        Expect::Close { values, tolerance } => close(values, *tolerance, shape.cols(), bytes),
        Expect::Bytes(expected) => exact(expected, bytes),
    }
}

fn exact(expected: &[u8], actual: &[u8]) -> Result<(), Mismatch> {
    if expected.len() != actual.len() {
        return Err(Mismatch::Length { actual: actual.len(), expected: expected.len() });
    }
    match expected.iter().zip(actual).position(|(e, a)| e != a) {
        None => Ok(()),
        Some(byte) => Err(Mismatch::Byte { byte, actual: actual[byte], expected: expected[byte] }),
    }
}

fn close(expected: &[f64], tolerance: f64, cols: usize, bytes: &[u8]) -> Result<(), Mismatch> {
    let actual: Vec<f32> = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    if actual.len() != expected.len() || bytes.len() != 4 * expected.len() {
        return Err(Mismatch::Length { actual: bytes.len(), expected: 4 * expected.len() });
    }
    for (row, (actual, expected)) in actual.chunks(cols).zip(expected.chunks(cols)).enumerate() {
        let difference = |i: usize| (f64::from(actual[i]) - expected[i]).abs();
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|v| v * v).sum::<f64>().sqrt();
        let distance = norm(&mut (0..cols).map(difference)) / norm(&mut expected.iter().copied()).max(TINY);
        if distance.is_nan() || distance > tolerance {
            // total_cmp puts NaN last, so a NaN is the one that is shown.
            let farther =
                |a: usize, b: usize| if difference(b).total_cmp(&difference(a)).is_lt() { a } else { b };
            let col = (1..cols).fold(0, farther);
            let (actual, expected) = (actual[col], expected[col]);
            return Err(Mismatch::Far { row, distance, tolerance, col, actual, expected });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::data::f32_bytes;
    use super::*;

    fn compare_rows(actual: &[f32], expected: &[f64]) -> Result<(), Mismatch> {
        let expect = Expect::Close { values: expected.to_vec(), tolerance: 1e-5 };
        compare(&expect, Shape::new(&[expected.len() / 2, 2]).unwrap(), &f32_bytes(actual))
    }

    #[test]
    fn each_row_counts_by_itself() {
        assert_eq!(compare_rows(&[1e6, 1e6, 1e-3, 1e-3], &[1e6, 1e6, 1e-3, 1e-3]), Ok(()));
        let error = compare_rows(&[1e6, 1e6, 1e-3, 1.1e-3], &[1e6, 1e6, 1e-3, 1e-3]).unwrap_err();
        assert!(matches!(error, Mismatch::Far { row: 1, col: 1, .. }), "{error}");
        assert!(compare_rows(&[1.000_02, 0.0], &[1.0, 0.0]).is_err());
        assert!(compare_rows(&[1.000_005, 0.0], &[1.0, 0.0]).is_ok());
    }

    #[test]
    fn not_a_number_is_never_close() {
        for bad in [f32::NAN, f32::INFINITY] {
            let error = compare_rows(&[0.0, bad], &[0.0, 0.0]).unwrap_err();
            assert!(matches!(error, Mismatch::Far { col: 1, .. }), "{error}");
        }
        assert!(compare_rows(&[0.0, 0.0], &[f64::NAN, 0.0]).is_err());
    }

    #[test]
    fn zero_rows_have_to_be_zero() {
        assert_eq!(compare_rows(&[0.0, -0.0], &[0.0, 0.0]), Ok(()));
        assert!(compare_rows(&[1e-20, 0.0], &[0.0, 0.0]).is_err());
    }

    #[test]
    fn exact_bytes() {
        let expect = Expect::Bytes(vec![1, 2, 3, 4]);
        let shape = Shape::new(&[1]).unwrap();
        assert_eq!(compare(&expect, shape, &[1, 2, 3, 4]), Ok(()));
        assert_eq!(
            compare(&expect, shape, &[1, 2, 0, 4]),
            Err(Mismatch::Byte { byte: 2, actual: 0, expected: 3 })
        );
        assert_eq!(compare(&expect, shape, &[1]), Err(Mismatch::Length { actual: 1, expected: 4 }));
    }
}
