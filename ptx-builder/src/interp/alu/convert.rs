//! The conversions that kernels use most, as loops that vectorise; [`super::general`] has all of them.

use super::Place;
use super::float::{NAN32, narrow_nan, widen_nan};
use super::int::Int;
use super::lanes::{map1, map2};
use crate::inst::{Cvt, CvtRound};
use crate::interp::regs::{AluFn, Args, File, Regs};
use crate::ty::Ty;

fn ints<S: Int, D: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: S::Row| D::truncate64(S::get(a).extend64()).extend());
}

/// Rounds an f32 to an integer and clamps; a NaN gives 0, in 64 bits the highest bit alone.
fn float_to_int<D: Int, const ROUND: u8>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: u32| {
        let a = f32::from_bits(a);
        let rounded = match ROUND {
            0 => a.round_ties_even(),
            1 => a.trunc(),
            2 => a.floor(),
            _ => a.ceil(),
        };
        let d = if D::BITS == 64 && a.is_nan() { D::truncate64(1 << 63) } else { D::from_f32(rounded) };
        d.extend()
    });
}

fn int_to_f32<S: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: S::Row| S::get(a).to_f32().to_bits());
}

fn int_to_f64<S: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: S::Row| S::get(a).to_f64().to_bits());
}

/// The single that the low 16 bits are as a half, without branches so that loops vectorise: the fields are moved into
/// place and the exponent's bias is mended by a product, which is exact for subnormals too.
#[inline(always)]
pub(super) fn half_to_single(half: u32) -> u32 {
    const SCALE: f32 = f32::from_bits((112 + 127) << 23);
    let magnitude = half & 0x7FFF;
    let finite = (f32::from_bits(magnitude << 13) * SCALE).to_bits();
    let d = if magnitude >= 0x7C00 { 0x7F80_0000 } else { finite };
    if magnitude > 0x7C00 { NAN32 } else { d | (half & 0x8000) << 16 }
}

/// A single as a half, to nearest even. Adding one half leaves the bits of a subnormal result at the bottom.
#[inline(always)]
pub(super) fn single_to_half(single: u32) -> u32 {
    let magnitude = single & 0x7FFF_FFFF;
    let odd = magnitude >> 13 & 1;
    let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xFFF + odd) >> 13;
    let subnormal = (f32::from_bits(magnitude) + 0.5).to_bits().wrapping_sub(0.5f32.to_bits());
    let d = if magnitude < (113 << 23) { subnormal } else { normal };
    let d = if magnitude >= (143 << 23) { 0x7C00 } else { d };
    if magnitude > 0x7F80_0000 { 0x7FFF } else { d | single >> 16 & 0x8000 }
}

/// A single as a bfloat16, to nearest even.
#[inline(always)]
pub(super) fn single_to_brain(single: u32) -> u32 {
    let odd = single >> 16 & 1;
    if single & 0x7FFF_FFFF > 0x7F80_0000 { 0x7FFF } else { single.wrapping_add(0x7FFF + odd) >> 16 }
}

fn f16_to_f32(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, half_to_single);
}

fn bf16_to_f32(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: u32| a << 16);
}

fn f32_to_f16(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, single_to_half);
}

fn f32_to_bf16(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, single_to_brain);
}

fn pair_to_f16(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |hi: u32, lo: u32| single_to_half(hi) << 16 | single_to_half(lo));
}

fn pair_to_bf16(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |hi: u32, lo: u32| single_to_brain(hi) << 16 | single_to_brain(lo));
}

fn f32_to_f64(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: u32| {
        let x = f32::from_bits(a);
        if x.is_nan() { widen_nan(a) } else { f64::from(x).to_bits() }
    });
}

fn f64_to_f32(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: u64| {
        let x = f64::from_bits(a);
        if x.is_nan() { narrow_nan(a) } else { (x as f32).to_bits() }
    });
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

pub(super) fn lower(cvt: &Cvt, place: &Place<'_>) -> Option<AluFn> {
    let file = |ty: Ty| if ty.bits() == 64 { File::L } else { File::W };
    let files = place.files;
    if files.first() != Some(&file(cvt.to)) || files.get(1) != Some(&file(cvt.from)) {
        return None;
    }
    // In registers of 16 bits, signs go no further.
    if place.half && matches!(cvt.to, Ty::S8 | Ty::S16) {
        let integer = cvt.from.is_int() && cvt.to == Ty::S16 && !cvt.sat;
        return if integer { Some(int_type!(cvt.from, S => ints::<S, u16>)) } else { None };
    }
    let nearest = matches!(cvt.round, None | Some(CvtRound::Rn));
    Some(match (cvt.to, cvt.from) {
        (to, from) if to.is_int() && from.is_int() && !cvt.sat => {
            int_type!(to, D => int_type!(from, S => ints::<S, D>))
        }
        (to, Ty::F32) if to.is_int() && !cvt.ftz => int_type!(to, D => match cvt.round? {
            CvtRound::Rni => float_to_int::<D, 0>,
            CvtRound::Rzi => float_to_int::<D, 1>,
            CvtRound::Rmi => float_to_int::<D, 2>,
            CvtRound::Rpi => float_to_int::<D, 3>,
            _ => return None,
        }),
        _ if !nearest || cvt.sat || cvt.ftz || cvt.satfinite || cvt.relu => return None,
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
