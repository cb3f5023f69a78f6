//! Sums and products of halves, rounded once, in loops that vectorise.
//!
//! The product of two halves is a double. A sum that is none is made odd, and so is the single that it becomes: an odd
//! number of at least two more bits lies on the same side of every midpoint as what it stands for, so that the last
//! rounding is the only one (Boldo and Melquiond, "Emulation of FMA and correctly rounded sums: proved algorithms using
//! rounding to odd").

use super::EXTRA;
use super::convert::{half_to_single, single_to_brain, single_to_half};
use super::lanes::{map2, map3};
use crate::inst::Regular;
use crate::interp::regs::{AluFn, Args, Regs};
use crate::ops::Op;
use crate::ty::Ty;

/// In the slot [`EXTRA`], beside those of [`super::exact::encode`]: a negative result becomes +0.
const RELU: u32 = 16;
const FTZ: u32 = 4;
const SAT: u32 = 8;

const ADD: u8 = 0;
const SUB: u8 = 1;
const MUL: u8 = 2;

/// The modifiers that are part of an operation.
pub(super) fn encode(op: Op) -> u32 {
    match op {
        Op::HFmaRelu | Op::BFmaRelu => RELU,
        Op::HFmaFtzRelu => RELU | FTZ,
        _ => 0,
    }
}

/// The nearest double of a sum, but odd if it is not exact.
#[inline(always)]
fn odd_sum(a: f64, b: f64) -> f64 {
    let near = a + b;
    let of_b = near - a;
    let error = (a - (near - of_b)) + (b - of_b);
    let bits = near.to_bits();
    let grows = (error > 0.0) == (near > 0.0);
    let odd = if grows { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    let exact = error == 0.0 || bits & 1 == 1 || !near.is_finite();
    f64::from_bits(if exact { bits } else { odd })
}

/// The nearest single, but odd if it is not exact.
#[inline(always)]
pub(super) fn odd_single(x: f64) -> u32 {
    let near = x as f32;
    let (bits, back) = (near.to_bits(), f64::from(near));
    let odd = if x.abs() > back.abs() { bits.wrapping_add(1) } else { bits.wrapping_sub(1) };
    if back == x || bits & 1 == 1 || x.is_nan() { bits } else { odd }
}

/// `a * b + c` of the low 16 bits.
#[inline(always)]
fn one<const BRAIN: bool>([a, b, c]: [u32; 3], code: u32) -> u32 {
    let input = |x: u32| {
        let x = if code & FTZ != 0 && x & 0x7C00 == 0 { x & 0x8000 } else { x };
        f64::from(f32::from_bits(if BRAIN { x << 16 } else { half_to_single(x) }))
    };
    let sum = odd_single(odd_sum(input(a) * input(b), input(c)));
    let d = if BRAIN { single_to_brain(sum) } else { single_to_half(sum) };
    let d = if code & FTZ != 0 && d & 0x7C00 == 0 { d & 0x8000 } else { d };
    let (unit, infinity) = if BRAIN { (0x3F80, 0x7F80) } else { (0x3C00, 0x7C00) };
    let negative = d & 0x8000 != 0;
    let clamped = if negative || d > infinity { 0 } else { d.min(unit) };
    match code & (SAT | RELU) {
        0 => d,
        RELU if negative => 0,
        RELU => d,
        _ => clamped,
    }
}

#[inline(always)]
fn each<const BRAIN: bool, const PAIR: bool>(rows: [u32; 3], code: u32) -> u32 {
    let low = one::<BRAIN>(rows.map(|x| x & 0xFFFF), code);
    if PAIR { low | one::<BRAIN>(rows.map(|x| x >> 16), code) << 16 } else { low }
}

fn two<const BRAIN: bool, const PAIR: bool, const OP: u8>(regs: &mut Regs, args: &Args, mask: u32) {
    // In both halves.
    let unit: u32 = if BRAIN { 0x3F80_3F80 } else { 0x3C00_3C00 };
    let code = args.slots[EXTRA];
    map2(regs, args, mask, |a: u32, b: u32| {
        each::<BRAIN, PAIR>(
            match OP {
                ADD => [a, unit, b],
                SUB => [a, unit, b ^ 0x8000_8000],
                // Adding -0 changes nothing, not even the sign of a zero.
                _ => [a, b, 0x8000_8000],
            },
            code,
        )
    });
}

fn fma<const BRAIN: bool, const PAIR: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    let code = args.slots[EXTRA];
    map3(regs, args, mask, |a: u32, b: u32, c: u32| each::<BRAIN, PAIR>([a, b, c], code));
}

macro_rules! by_type {
    ($ty:expr, $f:ident $(, $op:ident)?) => {
        match $ty {
            Ty::F16 => $f::<false, false $(, $op)?>,
            Ty::F16x2 => $f::<false, true $(, $op)?>,
            Ty::BF16 => $f::<true, false $(, $op)?>,
            Ty::BF16x2 => $f::<true, true $(, $op)?>,
            _ => return None,
        }
    };
}

pub(super) fn lower(regular: &Regular) -> Option<AluFn> {
    let ty = regular.ty?;
    Some(match regular.op {
        Op::HAdd | Op::BAdd => by_type!(ty, two, ADD),
        Op::HSub | Op::BSub => by_type!(ty, two, SUB),
        Op::HMul | Op::BMul => by_type!(ty, two, MUL),
        Op::HFma | Op::BFma | Op::HFmaRelu | Op::BFmaRelu | Op::HFmaFtzRelu => by_type!(ty, fma),
        _ => return None,
    })
}
