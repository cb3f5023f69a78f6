//! One element of a product of `wmma`, as `mma` has them: floats are added in f64 from the lowest K up and rounded once,
//! doubles are fused, integers wrap or are clamped once at the end.

use super::convert::half_to_single;
use super::float::{NAN64, bits64};
use super::mma::{add_half, add_integer, add_single, single};
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
        return u64::from(add_integer(c as u32, products, satfinite));
    }
    let c = single(if from == MatrixElement::F16 { half_to_single(c as u32) } else { c as u32 });
    u64::from(if to == MatrixElement::F16 { add_half(c, products) } else { add_single(c, products) })
}
