//! What atomic operations and reductions of a warp compute: "atom" and "redux.sync" of the PTX ISA.

use super::convert::{half_to_single, single_to_brain, single_to_half};
use super::float::{self, NAN32, nan64};
use crate::inst::AtomOp;
use crate::ty::Ty;

/// The value that an operation leaves in memory: of `cas`, the first operand is what is compared. `flush`: sums of singles
/// take and give no subnormals, as in global memory.
pub(in crate::interp) fn atomic(op: AtomOp, ty: Ty, old: u64, [a, b]: [u64; 2], flush: bool) -> u64 {
    let ones = if ty.bits() >= 64 { u64::MAX } else { (1 << ty.bits()) - 1 };
    let (a, b) = (a & ones, b & ones);
    let signed = |v: u64| (v << (64 - ty.bits())).cast_signed() >> (64 - ty.bits());
    let new = match op {
        AtomOp::Add => add(ty, old, a, flush),
        AtomOp::Min if ty.is_signed() => {
            if signed(a) < signed(old) {
                a
            } else {
                old
            }
        }
        AtomOp::Max if ty.is_signed() => {
            if signed(a) > signed(old) {
                a
            } else {
                old
            }
        }
        AtomOp::Min => old.min(a),
        AtomOp::Max => old.max(a),
        AtomOp::Inc => {
            if old >= a {
                0
            } else {
                old + 1
            }
        }
        AtomOp::Dec => {
            if old == 0 || old > a {
                a
            } else {
                old - 1
            }
        }
        AtomOp::And => old & a,
        AtomOp::Or => old | a,
        AtomOp::Xor => old ^ a,
        AtomOp::Exch => a,
        AtomOp::Cas => {
            if old == a {
                b
            } else {
                old
            }
        }
    };
    new & ones
}

/// Integers wrap, floats are rounded to nearest even. A sum of two halves or bfloat16 in single precision has more than
/// twice their bits, so that rounding it again is as rounding it once.
fn add(ty: Ty, old: u64, a: u64, flush: bool) -> u64 {
    let (x, y) = (old as u32, a as u32);
    let halves = |x: u32, y: u32| single_to_half(single(half_to_single(x), half_to_single(y), false));
    let brains = |x: u32, y: u32| single_to_brain(single(x << 16, y << 16, false));
    u64::from(match ty {
        Ty::F32 => single(x, y, flush),
        Ty::F64 => {
            let sum = f64::from_bits(old) + f64::from_bits(a);
            return float::bits64(sum, nan64([old, a]));
        }
        Ty::F16 => halves(x, y),
        Ty::BF16 => brains(x, y),
        Ty::F16x2 => halves(x, y) | halves(x >> 16, y >> 16) << 16,
        Ty::BF16x2 => brains(x, y) | brains(x >> 16, y >> 16) << 16,
        _ => return old.wrapping_add(a),
    })
}

fn single(x: u32, y: u32, flush: bool) -> u32 {
    let input = |x: u32| if flush { float::flush(f32::from_bits(x)) } else { f32::from_bits(x) };
    input(float::bits32(input(x) + input(y), NAN32)).to_bits()
}

/// The smaller of two singles for `redux.sync`: of a NaN and a number the number, of two NaNs the canonical one.
pub(in crate::interp) fn least(x: u32, y: u32) -> u32 {
    canonical(float::least(f32::from_bits(x), f32::from_bits(y)))
}

/// The larger of two.
pub(in crate::interp) fn most(x: u32, y: u32) -> u32 {
    canonical(float::most(f32::from_bits(x), f32::from_bits(y)))
}

fn canonical(x: f32) -> u32 {
    float::bits32(x, NAN32)
}
