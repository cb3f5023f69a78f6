//! The instruction sets that the fast paths are compiled for, and the choice between them at run time.

use std::fmt;

use crate::{Matrix, Q8Rows, exponential, f32_rows, portable, q8_act, weighted};

/// A set of code paths that this processor can run.
///
/// Detect it once and pass it on. A value other than [`PORTABLE`](Self::PORTABLE) can only come from
/// [`detect`](Self::detect) and [`available`](Self::available), so holding one proves that the processor has the
/// instructions.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Simd(Level);

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Level {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni,
}

impl Simd {
    /// The path that every processor has.
    pub const PORTABLE: Self = Self(Level::Portable);

    /// The fastest path that this processor has.
    pub fn detect() -> Self {
        Self::available().last().unwrap_or(Self::PORTABLE)
    }

    /// Every path that this processor has, the portable one first, the fastest one last.
    pub fn available() -> impl Iterator<Item = Self> {
        #[cfg(target_arch = "x86_64")]
        let fast = {
            let avx2 = is_x86_feature_detected!("avx2")
                && is_x86_feature_detected!("fma")
                && is_x86_feature_detected!("f16c");
            let vnni = avx2
                && is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512vnni");
            avx2.then_some(Level::Avx2).into_iter().chain(vnni.then_some(Level::Avx512Vnni))
        };
        #[cfg(not(target_arch = "x86_64"))]
        let fast = std::iter::empty();
        std::iter::once(Level::Portable).chain(fast).map(Self)
    }

    /// A short name for reports.
    pub const fn name(self) -> &'static str {
        match self.0 {
            Level::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "AVX2+FMA+F16C",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512Vnni => "AVX2+FMA+F16C+AVX512VNNI",
        }
    }

    /// Checked arguments only: the lengths fit together.
    pub(crate) fn quantize_q8(self, src: &[f32], dst: &mut [u8]) {
        match self.0 {
            Level::Portable => q8_act::quantize(src, dst),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: these levels are only constructed by `available`, after it found AVX2, FMA and F16C.
            Level::Avx2 | Level::Avx512Vnni => unsafe { crate::avx2::q8_act::quantize(src, dst) },
        }
    }

    /// Checked arguments only: the lengths fit together.
    pub(crate) fn matmul_f32(self, weights: Matrix<'_>, x: &[f32], out: &mut [f32]) {
        match self.0 {
            Level::Portable => f32_rows::matmul_portable(weights, x, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this level is only constructed by `available`, after it found AVX2, FMA and F16C.
            Level::Avx2 => unsafe { crate::avx2::f32_rows::matmul(weights, x, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this level is only constructed by `available`, after it found these and AVX-512 F and VL.
            Level::Avx512Vnni => unsafe { crate::avx2::f32_rows::matmul_512(weights, x, out) },
        }
    }

    /// See [`crate::soft_max`].
    pub(crate) fn soft_max(self, x: &mut [f32], scale: f32) {
        match self.0 {
            Level::Portable => exponential::soft_max_inline(x, scale),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: these levels are only constructed by `available`, after it found AVX2.
            Level::Avx2 | Level::Avx512Vnni => unsafe { crate::avx2::exponential::soft_max(x, scale) },
        }
    }

    /// See [`crate::silu`].
    pub(crate) fn silu(self, x: &mut [f32]) {
        match self.0 {
            Level::Portable => exponential::silu_inline(x),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: these levels are only constructed by `available`, after it found AVX2.
            Level::Avx2 | Level::Avx512Vnni => unsafe { crate::avx2::exponential::silu(x) },
        }
    }

    /// Checked arguments only: the lengths fit together and no sum has more weights than there are rows.
    pub(crate) fn add_weighted_rows(self, rows: &[f32], cols: usize, weights: &[&[f32]], out: &mut [f32]) {
        match self.0 {
            Level::Portable => weighted::portable(rows, cols, weights, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this level is only constructed by `available`, after it found AVX2, FMA and F16C.
            Level::Avx2 => unsafe { crate::avx2::wide::avx2::add_weighted_rows(rows, cols, weights, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this level is only constructed by `available`, after it found these and AVX-512 F and VL.
            Level::Avx512Vnni => unsafe {
                crate::avx2::wide::avx512::add_weighted_rows(rows, cols, weights, out)
            },
        }
    }

    /// Checked arguments only: the lengths fit together and the weights are of a block format.
    pub(crate) fn matmul_q8(self, weights: Matrix<'_>, acts: Q8Rows<'_>, out: &mut [f32]) {
        match self.0 {
            Level::Portable => portable::matmul_q8(weights, acts, out),
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this level is only constructed by `available`, after it found AVX2, FMA and F16C.
            Level::Avx2 => unsafe { crate::avx2::matmul_q8(weights, acts, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: this level is only constructed by `available`, after it found these and AVX-512 F, VL and VNNI.
            Level::Avx512Vnni => unsafe { crate::avx2::turned::matmul_q8(weights, acts, out) },
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
