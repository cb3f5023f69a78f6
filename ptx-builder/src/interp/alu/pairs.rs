//! Pairs of 16-bit integers, minima and maxima of which none is negative, absolute differences in parts of words, words
//! clamped to fewer bits. Sums wrap.

use super::lanes::{map2, map3};
use crate::interp::regs::{AluFn, Args, Regs};
use crate::ops::Op;

/// Each half of `a` and `b` on its own.
#[inline(always)]
fn each(regs: &mut Regs, args: &Args, mask: u32, f: impl Fn(u16, u16) -> u16) {
    map2(regs, args, mask, |a: u32, b: u32| {
        let half = |shift: u32| u32::from(f((a >> shift) as u16, (b >> shift) as u16)) << shift;
        half(0) | half(16)
    });
}

fn signed(f: impl Fn(i16, i16) -> i16) -> impl Fn(u16, u16) -> u16 {
    move |a, b| f(a as i16, b as i16) as u16
}

/// The absolute differences of the unsigned parts of two words, from the low end.
fn differences<const BITS: u32>(a: u32, b: u32) -> impl Iterator<Item = u32> {
    (0..32 / BITS).map(move |i| {
        let part = |word: u32| word >> (i * BITS) & ((1 << BITS) - 1);
        part(a).abs_diff(part(b))
    })
}

/// Their sum and `c`.
fn distance<const BITS: u32>(regs: &mut Regs, args: &Args, mask: u32) {
    map3(regs, args, mask, |a: u32, b: u32, c: u32| differences::<BITS>(a, b).fold(c, u32::wrapping_add));
}

/// `a` clamped to `BITS` above `b`, and above that the low bits of `c`, if there is room.
fn pack<const BITS: u32, const SIGNED: bool>(a: u32, b: u32, c: u32) -> u32 {
    let (least, most) =
        if SIGNED { (-1i32 << (BITS - 1), (1i32 << (BITS - 1)) - 1) } else { (0, (1i32 << BITS) - 1) };
    let clamped = |x: u32| (x as i32).clamp(least, most) as u32 & ((1 << BITS) - 1);
    let pair = clamped(a) << BITS | clamped(b);
    if BITS == 16 { pair } else { c << (2 * BITS) | pair }
}

fn pack_two<const SIGNED: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |a: u32, b: u32| pack::<16, SIGNED>(a, b, 0));
}

fn pack_three<const BITS: u32, const SIGNED: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    map3(regs, args, mask, |a: u32, b: u32, c: u32| pack::<BITS, SIGNED>(a, b, c));
}

pub(super) fn lower(op: Op) -> Option<AluFn> {
    Some(match op {
        Op::AddU16x2 | Op::AddS16x2 => |regs, args, mask| each(regs, args, mask, u16::wrapping_add),
        Op::MinU16x2 => |regs, args, mask| each(regs, args, mask, Ord::min),
        Op::MaxU16x2 => |regs, args, mask| each(regs, args, mask, Ord::max),
        Op::MinS16x2 => |regs, args, mask| each(regs, args, mask, signed(Ord::min)),
        Op::MaxS16x2 => |regs, args, mask| each(regs, args, mask, signed(Ord::max)),
        Op::MinReluS16x2 => |regs, args, mask| each(regs, args, mask, signed(|a, b| a.min(b).max(0))),
        Op::MaxReluS16x2 => |regs, args, mask| each(regs, args, mask, signed(|a, b| a.max(b).max(0))),
        Op::MinRelu => |regs, args, mask| {
            map2(regs, args, mask, |a: u32, b: u32| (a as i32).min(b as i32).max(0) as u32);
        },
        Op::MaxRelu => |regs, args, mask| {
            map2(regs, args, mask, |a: u32, b: u32| (a as i32).max(b as i32).max(0) as u32);
        },
        // The last operand would be for parts that are not computed.
        Op::AbsDiff4 => |regs, args, mask| {
            map2(regs, args, mask, |a: u32, b: u32| {
                differences::<8>(a, b).zip(0..).fold(0, |d, (part, i)| d | part << (8 * i))
            });
        },
        Op::CvtPackU16 => pack_two::<false>,
        Op::CvtPackS16 => pack_two::<true>,
        Op::CvtPackU8 => pack_three::<8, false>,
        Op::CvtPackS8 => pack_three::<8, true>,
        Op::CvtPackU4 => pack_three::<4, false>,
        Op::CvtPackS4 => pack_three::<4, true>,
        Op::CvtPackU2 => pack_three::<2, false>,
        Op::CvtPackS2 => pack_three::<2, true>,
        Op::AbsDiff4Add => distance::<8>,
        Op::AbsDiff2Add => distance::<16>,
        _ => return None,
    })
}
