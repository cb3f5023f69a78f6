//! Rows times f32 activations: decoded blocks and fused multiply-adds.

use std::arch::x86_64::*;

use super::{decode, load_f32, store_f32, wide};
use crate::f32_rows::{self, PARTIALS, Partials};
use crate::{ElementType, Matrix};

#[target_feature(enable = "avx2,fma,f16c")]
pub(crate) fn matmul(weights: Matrix<'_>, x: &[f32], out: &mut [f32]) {
    // One instance for each type, so that its decoder is inlined and vectorised with the features of this function.
    macro_rules! run {
        ($decode:expr) => {
            f32_rows::matmul(
                weights,
                x,
                out,
                |src, dst| $decode(src, dst),
                |w, x, sums| accumulate(w, x, sums),
            )
        };
    }
    match weights.ty() {
        ElementType::F32 | ElementType::F16 | ElementType::BF16 => wide::avx2::matmul(weights, x, out),
        ElementType::Q4_0 => run!(decode::q4_0),
        ElementType::Q8_0 => run!(decode::q8_0),
        ElementType::Q4_K => run!(decode::q4_k),
        ElementType::Q5_K => run!(decode::q5_k),
        ElementType::Q6_K => run!(decode::q6_k),
        // No `Matrix` has these types; a NaN would show if one had.
        ElementType::Q8Act | ElementType::F8E4M3 | ElementType::U32 => out.fill(f32::NAN),
    }
}

/// [`matmul`] with AVX-512 where weights need no decoding.
#[target_feature(enable = "avx2,fma,f16c,avx512f,avx512vl")]
pub(crate) fn matmul_512(weights: Matrix<'_>, x: &[f32], out: &mut [f32]) {
    match weights.ty() {
        ElementType::F32 | ElementType::F16 | ElementType::BF16 => wide::avx512::matmul(weights, x, out),
        _ => matmul(weights, x, out),
    }
}

/// Adds products to the partial sums, in four registers.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn accumulate(w: &[f32], x: &[f32], sums: &mut Partials) {
    let (sums, _) = sums.0.as_chunks_mut::<8>();
    let mut registers = [_mm256_setzero_ps(); 4];
    for (register, sums) in registers.iter_mut().zip(&*sums) {
        *register = load_f32(sums);
    }
    for (w, x) in w.as_chunks::<PARTIALS>().0.iter().zip(x.as_chunks::<PARTIALS>().0) {
        let (w, x) = (w.as_chunks::<8>().0, x.as_chunks::<8>().0);
        for ((register, w), x) in registers.iter_mut().zip(w).zip(x) {
            *register = _mm256_fmadd_ps(load_f32(w), load_f32(x), *register);
        }
    }
    for (sums, register) in sums.iter_mut().zip(registers) {
        store_f32(sums, register);
    }
}
