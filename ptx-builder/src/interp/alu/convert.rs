//! `cvt`.

use super::float::{Float, flush};
use super::int::Int;
use super::lanes::{Row, map1, map2};
use crate::inst::{Cvt, CvtRound};
use crate::interp::regs::{AluFn, Args, File, Regs};
use crate::ty::Ty;
use half::{bf16, f16};

/// Extends to the width of the row, by the sign for signed types.
#[inline(always)]
fn extend<D: Int>(value: D) -> D::Row
where
    D::Row: FromWide,
{
    D::Row::from_wide(value.wide())
}

/// A row that takes the low bits of a value.
trait FromWide: Row {
    fn from_wide(value: i128) -> Self;
}

impl FromWide for u32 {
    #[inline(always)]
    fn from_wide(value: i128) -> Self {
        value as u32
    }
}

impl FromWide for u64 {
    #[inline(always)]
    fn from_wide(value: i128) -> Self {
        value as u64
    }
}

fn ints<S: Int, D: Int, const SAT: bool>(regs: &mut Regs, args: &Args, mask: u32)
where
    D::Row: FromWide,
{
    let (least, most) = range::<D>();
    map1(regs, args, mask, |a: S::Row| {
        let a = S::get(a).wide();
        extend(D::low(if SAT { a.clamp(least, most) } else { a }))
    });
}

fn range<D: Int>() -> (i128, i128) {
    if D::SIGNED { (-1 << (D::BITS - 1), (1 << (D::BITS - 1)) - 1) } else { (0, (1 << D::BITS) - 1) }
}

/// Rounds to an integer and clamps; NaN gives 0.
fn float_to_int<S: Float + Into<f64>, D: Int, const ROUND: u8, const FTZ: bool>(
    regs: &mut Regs,
    args: &Args,
    mask: u32,
) where
    D::Row: FromWide,
{
    let (least, most) = range::<D>();
    map1(regs, args, mask, |a: S::Row| {
        let a: f64 = S::get(a).into();
        let a = if FTZ { f64::from(flush(a as f32)) } else { a };
        let a = match ROUND {
            0 => a.round_ties_even(),
            1 => a.trunc(),
            2 => a.floor(),
            _ => a.ceil(),
        };
        extend(D::low((a as i128).clamp(least, most)))
    });
}

fn int_to_f32<S: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: S::Row| (S::get(a).wide() as f32).to_bits());
}

fn int_to_f64<S: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: S::Row| (S::get(a).wide() as f64).to_bits());
}

fn f16_to_f32(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: u32| f16::from_bits(a as u16).to_f32().put());
}

fn bf16_to_f32(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: u32| f32::from_bits(a << 16).put());
}

fn to_f16(x: u32) -> u32 {
    let x = f32::from_bits(x);
    if x.is_nan() { 0x7FFF } else { u32::from(f16::from_f32(x).to_bits()) }
}

fn to_bf16(x: u32) -> u32 {
    let x = f32::from_bits(x);
    if x.is_nan() { 0x7FFF } else { u32::from(bf16::from_f32(x).to_bits()) }
}

fn f32_to_f16(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, to_f16);
}

fn f32_to_bf16(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, to_bf16);
}

fn pair_to_f16(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |hi: u32, lo: u32| to_f16(hi) << 16 | to_f16(lo));
}

fn pair_to_bf16(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |hi: u32, lo: u32| to_bf16(hi) << 16 | to_bf16(lo));
}

fn f32_to_f64(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: u32| f64::from(f32::from_bits(a)).put());
}

fn f64_to_f32(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: u64| (f64::from_bits(a) as f32).put());
}

macro_rules! int_type {
    ($ty:expr, $t:ident => $body:expr) => {
        match $ty {
            Ty::U8 => {
                type $t = u8;
                $body
            }
            Ty::S8 => {
                type $t = i8;
                $body
            }
            Ty::U16 => {
                type $t = u16;
                $body
            }
            Ty::S16 => {
                type $t = i16;
                $body
            }
            Ty::U32 => {
                type $t = u32;
                $body
            }
            Ty::S32 => {
                type $t = i32;
                $body
            }
            Ty::U64 => {
                type $t = u64;
                $body
            }
            Ty::S64 => {
                type $t = i64;
                $body
            }
            _ => return None,
        }
    };
}

pub(super) fn lower(cvt: &Cvt, files: &[File]) -> Option<AluFn> {
    let file = |ty: Ty| if ty.bits() == 64 { File::L } else { File::W };
    if files.first() != Some(&file(cvt.to)) || files.get(1) != Some(&file(cvt.from)) {
        return None;
    }
    let nearest = matches!(cvt.round, None | Some(CvtRound::Rn));
    Some(match (cvt.to, cvt.from) {
        (to, from) if to.is_int() && from.is_int() => int_type!(to, D => int_type!(from, S => {
            if cvt.sat { ints::<S, D, true> } else { ints::<S, D, false> }
        })),
        (to, Ty::F32) if to.is_int() => int_type!(to, D => match (cvt.round?, cvt.ftz) {
            (CvtRound::Rni, false) => float_to_int::<f32, D, 0, false>,
            (CvtRound::Rzi, false) => float_to_int::<f32, D, 1, false>,
            (CvtRound::Rmi, false) => float_to_int::<f32, D, 2, false>,
            (CvtRound::Rpi, false) => float_to_int::<f32, D, 3, false>,
            (CvtRound::Rni, true) => float_to_int::<f32, D, 0, true>,
            (CvtRound::Rzi, true) => float_to_int::<f32, D, 1, true>,
            (CvtRound::Rmi, true) => float_to_int::<f32, D, 2, true>,
            (CvtRound::Rpi, true) => float_to_int::<f32, D, 3, true>,
            _ => return None,
        }),
        (to, Ty::F64) if to.is_int() => int_type!(to, D => match cvt.round? {
            CvtRound::Rni => float_to_int::<f64, D, 0, false>,
            CvtRound::Rzi => float_to_int::<f64, D, 1, false>,
            CvtRound::Rmi => float_to_int::<f64, D, 2, false>,
            CvtRound::Rpi => float_to_int::<f64, D, 3, false>,
            _ => return None,
        }),
        _ if !nearest || cvt.sat || cvt.ftz => return None,
        (Ty::F32, from) if from.is_int() => int_type!(from, S => int_to_f32::<S>),
        (Ty::F64, from) if from.is_int() => int_type!(from, S => int_to_f64::<S>),
        (Ty::F32, Ty::F16) => f16_to_f32,
        (Ty::F32, Ty::BF16) => bf16_to_f32,
        (Ty::F16, Ty::F32) => f32_to_f16,
        (Ty::BF16, Ty::F32) => f32_to_bf16,
        (Ty::F16x2, Ty::F32) => pair_to_f16,
        (Ty::BF16x2, Ty::F32) => pair_to_bf16,
        (Ty::F64, Ty::F32) => f32_to_f64,
        (Ty::F32, Ty::F64) => f64_to_f32,
        _ => return None,
    })
}
