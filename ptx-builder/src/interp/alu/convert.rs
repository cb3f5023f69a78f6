//! The conversions that kernels use most, as loops that vectorise; [`super::general`] has all of them.

use super::float::Float;
use super::int::Int;
use super::lanes::{map1, map2};
use crate::inst::{Cvt, CvtRound};
use crate::interp::regs::{AluFn, Args, File, Regs};
use crate::ty::Ty;
use half::{bf16, f16};

fn ints<S: Int, D: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: S::Row| D::truncate64(S::get(a).extend64()).extend());
}

/// Rounds an f32 to an integer and clamps; NaN gives 0.
fn float_to_int<D: Int, const ROUND: u8>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: u32| {
        let a = f32::from_bits(a);
        let a = match ROUND {
            0 => a.round_ties_even(),
            1 => a.trunc(),
            2 => a.floor(),
            _ => a.ceil(),
        };
        D::from_f32(a).extend()
    });
}

fn int_to_f32<S: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: S::Row| S::get(a).to_f32().to_bits());
}

fn int_to_f64<S: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: S::Row| S::get(a).to_f64().to_bits());
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
        (to, from) if to.is_int() && from.is_int() && !cvt.sat => {
            int_type!(to, D => int_type!(from, S => ints::<S, D>))
        }
        (to, Ty::F32) if to.is_int() && to.bits() == 32 && !cvt.ftz => int_type!(to, D => match cvt.round? {
            CvtRound::Rni => float_to_int::<D, 0>,
            CvtRound::Rzi => float_to_int::<D, 1>,
            CvtRound::Rmi => float_to_int::<D, 2>,
            CvtRound::Rpi => float_to_int::<D, 3>,
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
