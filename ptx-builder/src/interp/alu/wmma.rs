//! One element of a product of `wmma`, as `mma` has them: floats are added in f64 from the lowest K up and rounded once,
//! doubles are fused, integers wrap or are clamped once at the end.

use super::convert::{half_to_single, single_to_half};
use super::float::{NAN32, NAN64, bits32, bits64};
use super::halves::odd_single;
use crate::inst::MatrixElement;

/// The sum of the products of pairs and of `c`, in the bits of their types: of the result, the factors, and `c`.
#[expect(clippy::cast_possible_truncation, reason = "bits of narrower types, and sums that wrap")]
pub(in crate::interp) fn multiply_add(
    pairs: impl Iterator<Item = (u64, u64)>,
    c: u64,
    (to, factors, from): (MatrixElement, MatrixElement, MatrixElement),
    satfinite: bool,
) -> u64 {
    if to == MatrixElement::F64 {
        let value = f64::from_bits;
        let sum = pairs.fold(value(c), |sum, (a, b)| value(a).mul_add(value(b), sum));
        return bits64(sum, NAN64);
    }
    let get = |bits: u64| factors.get(bits as u32, 0);
    let products = pairs.fold(0.0, |sum, (a, b)| sum + get(a) * get(b));
    if to == MatrixElement::S32 {
        let (c, products) = (i64::from(c as u32 as i32), products as i64);
        let sum = if satfinite {
            (c + products).clamp(i64::from(i32::MIN), i64::from(i32::MAX))
        } else {
            c + products
        };
        return u64::from(sum as u32);
    }
    let c = if from == MatrixElement::F16 { half_to_single(c as u32) } else { c as u32 };
    let sum = products + f64::from(f32::from_bits(c));
    u64::from(match to {
        MatrixElement::F16 => single_to_half(odd_single(sum)),
        _ => bits32(sum as f32, NAN32),
    })
}
