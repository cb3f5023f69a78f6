//! Expectations, their comparison with what is there, and how a difference is told.

use tensor_formats::{ElementType, dequantize_row};

use std::fmt;

use super::POISON;

/// What a region of a buffer has to hold after the launch.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// Exactly these bytes.
    Bytes(Vec<u8>),
    /// Floats near these. An expected NaN asks for any NaN but the poison, an expected infinity for the same infinity; of
    /// the others the relative L2 error must not exceed `bound` in any row of `cols` values.
    Near {
        /// Their type: F32, F16 or BF16.
        element: ElementType,
        /// The expectation, accumulated in f64.
        values: Vec<f64>,
        /// Values that are compared together.
        cols: usize,
        /// The largest relative L2 error of a row.
        bound: f64,
    },
}

impl Expect {
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Near { element, values, .. } => values.len() * element.block_bytes(),
        }
    }
}

/// An expectation and where it applies.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The parameter's index.
    pub param: usize,
    /// The first byte, from the pointer on.
    pub offset: usize,
    /// What has to be there.
    pub expect: Expect,
}

/// Why a case failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseFailure {
    /// The case itself is wrong.
    #[error("{case}: malformed case: {reason}")]
    Malformed {
        /// The case.
        case: String,
        /// What does not fit.
        reason: String,
    },
    /// The runner could not run the kernel.
    #[error("{case}: the launch failed: {source}")]
    Launch {
        /// The case.
        case: String,
        /// What the runner said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A buffer does not hold what it should.
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
}

/// The first difference between a buffer and its expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct Mismatch {
    /// The case.
    pub case: String,
    /// The parameter's name.
    pub param: String,
    /// The byte from the pointer on (guards come after the extent).
    pub byte: usize,
    /// What is there.
    pub got: String,
    /// What should be there.
    pub want: String,
    /// The rule that was broken.
    pub rule: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { case, param, byte, got, want, rule } = self;
        write!(f, "{case}: {param} at byte {byte} (element {}): got {got}, want {want}: {rule}", byte / 4)
    }
}

/// Where two regions of memory are compared.
pub(super) struct Place<'a> {
    pub case: &'a str,
    pub param: &'a str,
    /// The first byte of the regions, from the pointer on.
    pub offset: usize,
}

impl Place<'_> {
    fn mismatch(&self, byte: usize, got: String, want: String, rule: String) -> CaseFailure {
        let (case, param) = (self.case.to_owned(), self.param.to_owned());
        CaseFailure::Mismatch(Box::new(Mismatch { case, param, byte: self.offset + byte, got, want, rule }))
    }

    /// `Ok` if the regions hold the same bytes.
    pub fn same_bytes(&self, got: &[u8], want: &[u8], rule: &str) -> Result<(), CaseFailure> {
        let Some(at) = got.iter().zip(want).position(|(g, w)| g != w) else { return Ok(()) };
        let word = at / 4 * 4;
        let show = |bytes: &[u8]| {
            let word = &bytes[word..bytes.len().min(word + 4)];
            let hex: String = word.iter().rev().map(|b| format!("{b:02x}")).collect();
            match <[u8; 4]>::try_from(word) {
                Ok(b) => format!("0x{hex} (u32 {}, f32 {:e})", u32::from_le_bytes(b), f32::from_le_bytes(b)),
                Err(_) => format!("0x{hex}"),
            }
        };
        Err(self.mismatch(at, show(got), show(want), rule.to_owned()))
    }

    /// The largest relative L2 error of a row; see [`Expect::Near`].
    pub fn near(
        &self,
        (element, bytes): (ElementType, &[u8]),
        want: &[f64],
        cols: usize,
        bound: f64,
    ) -> Result<f64, CaseFailure> {
        let mut got = vec![0.0f32; want.len()];
        if let Err(error) = dequantize_row(element, bytes, &mut got) {
            let case = self.case.to_owned();
            return Err(CaseFailure::Malformed { case, reason: error.to_string() });
        }
        let size = element.block_bytes();
        let mut worst = 0.0f64;
        for (row, (got, want)) in got.chunks(cols).zip(want.chunks(cols)).enumerate() {
            let (mut error, mut norm, mut largest) = (0.0f64, 0.0f64, (0.0f64, 0));
            for (col, (&g, &w)) in got.iter().zip(want).enumerate() {
                let byte = (row * cols + col) * size;
                let difference = f64::from(g) - w;
                let written = bytes[byte..byte + size].iter().any(|&byte| byte != POISON);
                let special = if w.is_nan() { g.is_nan() && written } else { f64::from(g) == w };
                if (!w.is_finite() || !g.is_finite()) && !special {
                    let rule = format!("row {row}, column {col}");
                    return Err(self.mismatch(byte, format!("{g:e}"), format!("{w:e}"), rule));
                }
                if w.is_finite() && g.is_finite() {
                    error += difference * difference;
                    norm += w * w;
                    if difference.abs() > largest.0 {
                        largest = (difference.abs(), col);
                    }
                }
            }
            // An expectation of zeros leaves only equality.
            let relative = if error == 0.0 { 0.0 } else { (error / norm).sqrt() };
            if relative > bound {
                let col = largest.1;
                let rule = format!(
                    "relative L2 error {relative:.3e} of row {row} exceeds {bound:.1e}; largest at column {col}"
                );
                let byte = (row * cols + col) * size;
                return Err(self.mismatch(byte, format!("{:e}", got[col]), format!("{:e}", want[col]), rule));
            }
            worst = worst.max(relative);
        }
        Ok(worst)
    }
}
