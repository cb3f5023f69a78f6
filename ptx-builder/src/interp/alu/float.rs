//! Single and double precision.
//!
//! A NaN result in single precision is the canonical one of the hardware, 0x7FFFFFFF. Double precision keeps payloads
//! ("Floating-Point Instructions" of the PTX ISA): the result is the first NaN among the operands, made quiet, and
//! 0xFFF8000000000000 where no operand is one.

use super::lanes::{Row, map1, map2, map3, set_predicate};
use crate::inst::Regular;
use crate::interp::regs::{AluFn, Args, Regs};
use crate::ops::{Mods, Op, Rounding};
use crate::ty::Ty;

pub(super) const NAN32: u32 = 0x7FFF_FFFF;
pub(super) const NAN64: u64 = 0xFFF8_0000_0000_0000;

/// The bits of a result, or `nan` for any NaN.
///
/// The test is one of integers on purpose. Rust leaves the payload of a NaN that arithmetic gives open, so an optimiser
/// that sees a test for NaN on a float may drop the replacement of one NaN by another, and does so for square roots.
#[inline(always)]
pub(super) fn bits32(result: f32, nan: u32) -> u32 {
    let bits = result.to_bits();
    if bits & 0x7FFF_FFFF > 0x7F80_0000 { nan } else { bits }
}

/// As [`bits32`].
#[inline(always)]
pub(super) fn bits64(result: f64, nan: u64) -> u64 {
    let bits = result.to_bits();
    if bits & !(1 << 63) > 0x7FF0_0000_0000_0000 { nan } else { bits }
}

/// A float format of a register.
pub(super) trait Float: Copy + PartialOrd {
    type Row: Row;
    fn get(row: Self::Row) -> Self;
    /// The bits, any NaN as the canonical one.
    fn put(self) -> Self::Row;
}

impl Float for f32 {
    type Row = u32;

    #[inline(always)]
    fn get(row: u32) -> Self {
        f32::from_bits(row)
    }

    #[inline(always)]
    fn put(self) -> u32 {
        bits32(self, NAN32)
    }
}

impl Float for f64 {
    type Row = u64;

    #[inline(always)]
    fn get(row: u64) -> Self {
        f64::from_bits(row)
    }

    #[inline(always)]
    fn put(self) -> u64 {
        bits64(self, NAN64)
    }
}

/// The bit that makes a NaN quiet.
pub(super) const QUIET64: u64 = 1 << 51;

/// The NaN that follows from operands in double precision.
#[inline(always)]
pub(super) fn nan64<const N: usize>(operands: [u64; N]) -> u64 {
    operands.iter().rev().fold(NAN64, |nan, x| if f64::from_bits(*x).is_nan() { x | QUIET64 } else { nan })
}

/// A NaN of single precision in double precision: sign and payload stay.
#[inline(always)]
pub(super) fn widen_nan(x: u32) -> u64 {
    u64::from(x & 1 << 31) << 32 | 0x7FF8_0000_0000_0000 | u64::from(x & 0x7F_FFFF) << 29
}

/// A NaN of double precision in single precision: sign and the upper payload stay.
#[inline(always)]
pub(super) fn narrow_nan(x: u64) -> u32 {
    (x >> 32) as u32 & 1 << 31 | 0x7FC0_0000 | (x >> 29) as u32 & 0x7F_FFFF
}

/// A NaN of double precision in f16: sign and the upper payload stay.
pub(super) fn narrow_nan_to_half(x: u64) -> u32 {
    (x >> 48) as u32 & 1 << 15 | 0x7E00 | (x >> 42) as u32 & 0x3FF
}

/// A NaN of double precision in bf16: sign and the upper payload stay.
pub(super) fn narrow_nan_to_brain(x: u64) -> u32 {
    narrow_nan(x) >> 16
}

/// A NaN of f16 in double precision: sign and payload stay.
pub(super) fn widen_nan_of_half(x: u32) -> u64 {
    u64::from(x & 1 << 15) << 48 | 0x7FF8_0000_0000_0000 | u64::from(x & 0x3FF) << 42
}

/// With `.ftz` a product becomes zero if it is subnormal once it is rounded to 24 bits without a bound on the exponent:
/// of those just below the least normal number, some are rounded up to it only as subnormals.
#[inline(always)]
fn flush_tiny<const FTZ: bool>(rounded: f32, exact: f64) -> f32 {
    const LEAST: f64 = f32::MIN_POSITIVE as f64 * (1.0 - f32::EPSILON as f64 / 4.0);
    if FTZ && rounded.abs() == f32::MIN_POSITIVE && exact.abs() < LEAST {
        0f32.copysign(rounded)
    } else {
        rounded
    }
}

/// Subnormals become zeros of the same sign.
#[inline(always)]
pub(super) fn flush(x: f32) -> f32 {
    if x.is_subnormal() { f32::from_bits(x.to_bits() & 0x8000_0000) } else { x }
}

/// To 0..1; NaN gives +0.
#[inline(always)]
fn clamp(x: f32) -> f32 {
    if x > 0.0 { x.min(1.0) } else { 0.0 }
}

#[inline(always)]
fn input<const FTZ: bool>(row: u32) -> f32 {
    let x = f32::from_bits(row);
    if FTZ { flush(x) } else { x }
}

#[inline(always)]
fn output<const FTZ: bool, const SAT: bool>(x: f32) -> u32 {
    let x = if FTZ { flush(x) } else { x };
    if SAT { clamp(x).to_bits() } else { x.put() }
}

macro_rules! single {
    ($($name:ident $map:ident |$($x:ident),*| $body:expr;)*) => { $(
        fn $name<const FTZ: bool, const SAT: bool>(regs: &mut Regs, args: &Args, mask: u32) {
            $map(regs, args, mask, |$($x: u32),*| {
                $(let $x = input::<FTZ>($x);)*
                output::<FTZ, SAT>($body)
            });
        }
    )* };
}

single! {
    add map2 |a, b| a + b;
    sub map2 |a, b| a - b;
    mul map2 |a, b| flush_tiny::<FTZ>(a * b, f64::from(a) * f64::from(b));
    div map2 |a, b| a / b;
    div_approx map2 |a, b| coarse_quotient(a, b);
    rcp map1 |a| 1.0 / a;
    sqrt map1 |a| a.sqrt();
    rsqrt map1 |a| (1.0 / f64::from(a).sqrt()) as f32;
    ex2 map1 |a| f64::from(a).exp2() as f32;
    lg2 map1 |a| f64::from(a).log2() as f32;
    sin map1 |a| f64::from(a).sin() as f32;
    cos map1 |a| f64::from(a).cos() as f32;
    tanh map1 |a| f64::from(a).tanh() as f32;
    fma map3 |a, b, c| flush_tiny::<FTZ>(a.mul_add(b, c), f64::from(a).mul_add(f64::from(b), f64::from(c)));
}

/// `a * (1 / b)`, in which the reciprocal of a large `b` is zero: "div" of the PTX ISA.
#[inline(always)]
fn coarse_quotient(a: f32, b: f32) -> f32 {
    const LARGE: f32 = f32::from_bits((126 + 127) << 23);
    if b.abs() > LARGE && b.is_finite() { a * 0f32.copysign(b) } else { a / b }
}

/// The smaller; a number rather than a NaN; -0 is less than +0.
#[inline(always)]
pub(super) fn least(a: f32, b: f32) -> f32 {
    if b.is_nan() || a < b || a == b && a.is_sign_negative() { a } else { b }
}

#[inline(always)]
pub(super) fn most(a: f32, b: f32) -> f32 {
    if b.is_nan() || a > b || a == b && a.is_sign_positive() { a } else { b }
}

single! {
    min map2 |a, b| least(a, b);
    max map2 |a, b| most(a, b);
    min_nan map2 |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { least(a, b) };
    max_nan map2 |a, b| if a.is_nan() || b.is_nan() { f32::NAN } else { most(a, b) };
    neg map1 |a| -a;
    abs map1 |a| a.abs();
}

fn copysign(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |a: u32, b: u32| b & !(1 << 31) | a & 1 << 31);
}

macro_rules! tests {
    ($($single:ident $double:ident |$x:ident| $body:expr;)*) => { $(
        fn $single(regs: &mut Regs, args: &Args, mask: u32) {
            test::<f32>(regs, args, mask, |$x| $body);
        }

        fn $double(regs: &mut Regs, args: &Args, mask: u32) {
            test::<f64>(regs, args, mask, |$x| $body);
        }
    )* };
}

#[inline(always)]
fn test<F: Float>(regs: &mut Regs, args: &Args, mask: u32, f: impl Fn(F) -> bool) {
    let a = F::Row::row(regs, args.slots[1]);
    let lanes = a.iter().enumerate().fold(0, |lanes, (i, &x)| lanes | u32::from(f(F::get(x))) << i);
    set_predicate(regs, args.slots[0], mask, lanes);
}

tests! {
    finite finite_double |x| x.is_finite();
    infinite infinite_double |x| x.is_infinite();
    number number_double |x| !x.is_nan();
    nan nan_double |x| x.is_nan();
    // Zeros count as normal.
    normal normal_double |x| x.is_normal() || x == 0.0;
    subnormal subnormal_double |x| x.is_subnormal();
}

fn copysign_double(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |a: u64, b: u64| b & !(1 << 63) | a & 1 << 63);
}

macro_rules! double {
    ($($name:ident $map:ident |$($x:ident),*| $body:expr;)*) => { $(
        fn $name(regs: &mut Regs, args: &Args, mask: u32) {
            $map(regs, args, mask, |$($x: u64),*| {
                let nan = nan64([$($x),*]);
                $(let $x = f64::from_bits($x);)*
                let d: f64 = $body;
                bits64(d, nan)
            });
        }
    )* };
}

double! {
    add_double map2 |a, b| a + b;
    sub_double map2 |a, b| a - b;
    mul_double map2 |a, b| a * b;
    div_double map2 |a, b| a / b;
    fma_double map3 |a, b, c| a.mul_add(b, c);
    rcp_double map1 |a| 1.0 / a;
    sqrt_double map1 |a| a.sqrt();
}

/// Double precision, to nearest.
fn lower_double(op: Op) -> Option<AluFn> {
    Some(match op {
        Op::DAdd => add_double,
        Op::DSub => sub_double,
        Op::DMul => mul_double,
        Op::DDiv => div_double,
        Op::DFma => fma_double,
        Op::DRcp => rcp_double,
        Op::DSqrt => sqrt_double,
        Op::Copysign => copysign_double,
        Op::TestpFinite => finite_double,
        Op::TestpInf => infinite_double,
        Op::TestpNumber => number_double,
        Op::TestpNan => nan_double,
        Op::TestpNormal => normal_double,
        Op::TestpSubnormal => subnormal_double,
        _ => return None,
    })
}

macro_rules! modes {
    ($mods:expr, $f:ident) => {
        match ($mods.ftz, $mods.sat) {
            (false, false) => $f::<false, false>,
            (true, false) => $f::<true, false>,
            (false, true) => $f::<false, true>,
            (true, true) => $f::<true, true>,
        }
    };
}

pub(super) fn lower(regular: &Regular) -> Option<AluFn> {
    let mods: Mods = regular.mods;
    if !matches!(mods.rounding, None | Some(Rounding::Rn)) {
        return None;
    }
    match regular.ty {
        Some(Ty::F32) => {}
        Some(Ty::F64) => return lower_double(regular.op),
        _ => return None,
    }
    Some(match regular.op {
        Op::FAdd => modes!(mods, add),
        Op::FSub => modes!(mods, sub),
        Op::FMul => modes!(mods, mul),
        Op::FFma => modes!(mods, fma),
        Op::DivApprox => modes!(mods, div_approx),
        Op::FDiv | Op::DivFull => modes!(mods, div),
        Op::FRcp | Op::RcpApprox => modes!(mods, rcp),
        Op::FSqrt | Op::SqrtApprox => modes!(mods, sqrt),
        Op::RsqrtApprox => modes!(mods, rsqrt),
        Op::Ex2Approx => modes!(mods, ex2),
        Op::Lg2Approx => modes!(mods, lg2),
        Op::SinApprox => modes!(mods, sin),
        Op::CosApprox => modes!(mods, cos),
        Op::TanhApprox => modes!(mods, tanh),
        Op::FMin => modes!(mods, min),
        Op::FMax => modes!(mods, max),
        Op::FMinNan => modes!(mods, min_nan),
        Op::FMaxNan => modes!(mods, max_nan),
        Op::FNeg => modes!(mods, neg),
        Op::FAbs => modes!(mods, abs),
        Op::Copysign => copysign,
        Op::FMinFtzNan => min_nan::<true, false>,
        Op::FMaxFtzNan => max_nan::<true, false>,
        Op::TestpFinite => finite,
        Op::TestpInf => infinite,
        Op::TestpNumber => number,
        Op::TestpNan => nan,
        Op::TestpNormal => normal,
        Op::TestpSubnormal => subnormal,
        _ => return None,
    })
}
