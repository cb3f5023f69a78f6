//! The instruction sets that the fast paths are compiled for, and the choice between them at run time.

use std::fmt;

use crate::{Matrix, Q8Rows, f32_rows, portable, q8_act};

/// A set of code paths that this processor can run.
///
/// Detect it once and pass it on. A value other than [`PORTABLE`](Self::PORTABLE) can only come from
/// [`detect`](Self::detect) or [`available`](Self::available), so holding one proves that the processor has the
/// instructions.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Simd(Level);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
}

impl Simd {
    /// The path that every processor has.
    pub const PORTABLE: Self = Self(Level::Portable);

    /// The fastest path that this processor has.
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c")
        {
            return Self(Level::Avx2);
        }
        Self::PORTABLE
    }

    /// Every path that this processor has, the portable one first.
    pub fn available() -> impl Iterator<Item = Self> {
        let fastest = Self::detect();
        [Self::PORTABLE].into_iter().chain((fastest != Self::PORTABLE).then_some(fastest))
    }

    /// A short name for reports.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "AVX2+FMA+F16C",
        }
    }

    /// Checked arguments only: the lengths fit together.
    pub(crate) fn quantize_q8(self, src: &[f32], dst: &mut [u8]) {
        match self.0 {
            Level::Portable => q8_act::quantize(src, dst),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Level::Avx2` is only constructed by `detect`, after it found AVX2, FMA and F16C.
            Level::Avx2 => unsafe { crate::avx2::q8_act::quantize(src, dst) },
        }
    }

    /// Checked arguments only: the lengths fit together.
    pub(crate) fn matmul_f32(self, weights: Matrix<'_>, x: &[f32], out: &mut [f32]) {
        match self.0 {
            Level::Portable => f32_rows::matmul_portable(weights, x, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Level::Avx2` is only constructed by `detect`, after it found AVX2, FMA and F16C.
            Level::Avx2 => unsafe { crate::avx2::f32_rows::matmul(weights, x, out) },
        }
    }

    /// Checked arguments only: the lengths fit together and the weights are of a block format.
    pub(crate) fn matmul_q8(self, weights: Matrix<'_>, acts: Q8Rows<'_>, out: &mut [f32]) {
        match self.0 {
            Level::Portable => portable::matmul_q8(weights, acts, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `Level::Avx2` is only constructed by `detect`, after it found AVX2, FMA and F16C.
            Level::Avx2 => unsafe { crate::avx2::matmul_q8(weights, acts, out) },
        }
    }
}

impl fmt::Debug for Simd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Simd({})", self.name())
    }
}

impl fmt::Display for Simd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
