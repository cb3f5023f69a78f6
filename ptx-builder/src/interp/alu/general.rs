//! `cvt` in full: every pair of types, rounding, flushing and saturation. "Data Movement and Conversion Instructions:
//! cvt" of the PTX ISA.

use super::Place;
use super::float;
use super::soft::{self, BF16, F16, F32, F64, Format, Round, Value};
use crate::inst::{Cvt, CvtRound};
use crate::interp::regs::{Args, File, LANES, Regs};
use crate::ty::Ty;

/// The format of a scalar float type.
fn format(ty: Ty) -> Option<Format> {
    Some(match ty {
        Ty::F16 | Ty::F16x2 => F16,
        Ty::BF16 | Ty::BF16x2 => BF16,
        Ty::F32 => F32,
        Ty::F64 => F64,
        _ => return None,
    })
}

fn flush(bits: u64, ty: Ty) -> u64 {
    if ty == Ty::F32 && F32.is_subnormal(bits) { bits & F32.sign_bit() } else { bits }
}

/// The NaN that a conversion makes of a NaN: what an H200 gives. From and to double precision sign and payload stay, as
/// far as they fit, and the NaN becomes quiet; `bf16` is widened by moving bits; every other NaN is the canonical one.
fn nan(cvt: &Cvt, to: Ty, bits: u64) -> u64 {
    match (to, cvt.from) {
        (Ty::F64, Ty::F64) => bits | float::QUIET64,
        (Ty::F64, Ty::F32) => float::widen_nan(bits as u32),
        (Ty::F64, Ty::F16) => float::widen_nan_of_half(bits as u32),
        (Ty::F64, Ty::BF16) => float::widen_nan((bits as u32) << 16),
        (Ty::F32, Ty::F64) => u64::from(float::narrow_nan(bits)),
        (Ty::F32, Ty::BF16) => bits << 16 & 0xFFFF_0000,
        (Ty::F16, Ty::F64) => u64::from(float::narrow_nan_to_half(bits)),
        (Ty::BF16, Ty::F64) => u64::from(float::narrow_nan_to_brain(bits)),
        (Ty::F16 | Ty::BF16, _) => 0x7FFF,
        _ => u64::from(float::NAN32),
    }
}

/// The integer that a NaN becomes: zero in 32 and fewer bits of a single or half, otherwise the highest bit alone.
fn integer_of_nan(cvt: &Cvt) -> u64 {
    if cvt.from == Ty::F64 || cvt.to.bits() == 64 { 1 << (cvt.to.bits() - 1) } else { 0 }
}

/// The value rounded to an integer.
fn to_integer(value: Value, round: Round) -> i128 {
    let Value::Finite { negative, m, e } = value else { return 0 };
    if e >= 0 {
        // Far beyond every integer type: clamped by the caller.
        let magnitude = if e > 70 { i128::MAX } else { (m << e) as i128 };
        return if negative { -magnitude } else { magnitude };
    }
    let shift = e.unsigned_abs();
    let (whole, rest, half) = if shift > 120 {
        (0, u128::from(m != 0), 2)
    } else {
        (m >> shift, m & ((1 << shift) - 1), 1 << (shift - 1))
    };
    let up = match round {
        Round::Nearest => rest > half || rest == half && whole & 1 == 1,
        Round::NearestAway => rest >= half,
        Round::Zero => false,
        Round::Down => negative && rest != 0,
        Round::Up => !negative && rest != 0,
    };
    let magnitude = (whole + u128::from(up)) as i128;
    if negative { -magnitude } else { magnitude }
}

fn range(ty: Ty) -> (i128, i128) {
    let bits = ty.bits();
    if ty.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// An FP8 format: e4m3 has no infinities and one NaN, e5m2 is a short half.
fn encode_fp8(ty: Ty, value: Value) -> u64 {
    let e4m3 = ty == Ty::E4M3x2;
    let (precision, bias, most) = if e4m3 { (4, 7, 0x7E) } else { (3, 15, 0x7B) };
    let (negative, m, e) = match value {
        Value::Nan => return 0x7F,
        Value::Infinite(negative) => return u64::from(negative) << 7 | most,
        Value::Zero(negative) => return u64::from(negative) << 7,
        Value::Finite { negative, m, e } => (negative, m, e),
    };
    let least = 2 - bias - precision;
    let top = 127 - m.leading_zeros() as i32;
    let lowest = (e + top - (precision - 1)).max(least);
    let shift = lowest - e;
    let kept = if shift <= 0 {
        m << shift.unsigned_abs()
    } else if shift > 120 {
        0
    } else {
        let (kept, rest, half) = (m >> shift, m & ((1 << shift) - 1), 1 << (shift - 1));
        kept + u128::from(rest > half || rest == half && kept & 1 == 1)
    };
    let field = (lowest - least) as u64;
    let magnitude = (field << (precision - 1)) + kept as u64;
    u64::from(negative) << 7 | magnitude.min(most)
}

/// The f16 that an FP8 value is, exactly.
fn decode_fp8(e4m3: bool, byte: u64) -> Value {
    let negative = byte & 0x80 != 0;
    let magnitude = byte & 0x7F;
    if !e4m3 {
        return F16.decode(byte << 8);
    }
    let (exponent, fraction) = ((magnitude >> 3) as i32, u128::from(magnitude & 7));
    match (exponent, fraction) {
        (15, 7) => Value::Nan,
        (0, 0) => Value::Zero(negative),
        (0, _) => Value::Finite { negative, m: fraction, e: -9 },
        _ => Value::Finite { negative, m: fraction | 8, e: exponent - 10 },
    }
}

/// The operand as a value, sign-extended integers included.
fn decode(ty: Ty, bits: u64) -> Value {
    match format(ty) {
        Some(format) => format.decode(bits),
        None => soft::integer(integer(ty, bits)),
    }
}

fn integer(ty: Ty, bits: u64) -> i128 {
    let unused = 64 - ty.bits().min(64);
    if ty.is_signed() {
        i128::from((bits << unused) as i64 >> unused)
    } else {
        i128::from(bits << unused >> unused)
    }
}

/// One value.
fn scalar(cvt: &Cvt, bits: u64) -> u64 {
    let bits = bits & mask(cvt.from);
    let bits = if cvt.ftz { flush(bits, cvt.from) } else { bits };
    let round = Round::of_cvt(cvt.round);
    let element = |ty: Ty| match ty {
        Ty::F16x2 => Ty::F16,
        Ty::BF16x2 => Ty::BF16,
        other => other,
    };
    let to = element(cvt.to);
    if to == Ty::TF32 {
        return clamped(cvt, F32, tf32(bits, round), 0x1FFF);
    }
    if matches!(to, Ty::E4M3x2 | Ty::E5M2x2) {
        let d = encode_fp8(to, decode(element(cvt.from), bits));
        return if cvt.relu && d & 0x80 != 0 { 0 } else { d };
    }
    if to.is_int() {
        let (least, most) = range(to);
        let from_float = format(cvt.from).is_some();
        let value = match decode(cvt.from, bits) {
            _ if !from_float => integer(cvt.from, bits),
            Value::Nan => return integer_of_nan(cvt),
            Value::Infinite(negative) => {
                if negative {
                    least
                } else {
                    most
                }
            }
            value => to_integer(value, round),
        };
        return (if from_float || cvt.sat { value.clamp(least, most) } else { value }) as u64 & mask(to);
    }
    let Some(format) = format(to) else { return 0 };
    // The hardware moves the bits.
    if to == cvt.from && matches!(to, Ty::F32 | Ty::F64) && cvt.round.is_none() && !cvt.ftz && !cvt.sat {
        return bits;
    }
    let nan = nan(cvt, to, bits);
    let value = match decode(cvt.from, bits) {
        // Within one format: to an integral value.
        value @ Value::Finite { negative, .. } if cvt.round.is_some_and(CvtRound::is_integer) => {
            let Value::Finite { e, .. } = value else { return 0 };
            if e >= 0 {
                value
            } else {
                match to_integer(value, round) {
                    0 => Value::Zero(negative),
                    integer => soft::integer(integer),
                }
            }
        }
        value => value,
    };
    let d = format.encode(value, round, nan);
    let d = if cvt.ftz { flush(d, to) } else { d };
    if !cvt.sat {
        return clamped(cvt, format, d, 0);
    }
    let one = format.encode(soft::integer(1), Round::Nearest, nan);
    if value == Value::Nan || d & format.sign_bit() != 0 { 0 } else { d.min(one) }
}

fn mask(ty: Ty) -> u64 {
    if ty.bits() >= 64 { u64::MAX } else { (1 << ty.bits()) - 1 }
}

/// A result after `.satfinite` and `.relu`: an infinity becomes the largest value without the unused bits, what is
/// negative zero, and a NaN stays.
fn clamped(cvt: &Cvt, format: Format, bits: u64, unused: u64) -> u64 {
    match format.decode(bits) {
        Value::Nan => bits,
        _ if cvt.relu && bits & format.sign_bit() != 0 => 0,
        // The number before infinity.
        Value::Infinite(_) if cvt.satfinite => (bits - 1) & !unused,
        _ => bits,
    }
}

/// To 10 bits of fraction, in the upper bits of a word; infinities and NaNs lose their low bits.
fn tf32(bits: u64, round: Round) -> u64 {
    let special = bits & 0x7F80_0000 == 0x7F80_0000;
    let more = match round {
        _ if special => 0,
        Round::NearestAway => 0x1000,
        Round::Nearest => 0xFFF + (bits >> 13 & 1),
        _ => 0,
    };
    (bits + more) & !0x1FFF
}

fn get(regs: &Regs, file: u32, slot: u32) -> [u64; LANES] {
    if file == 1 { regs.l[slot as usize] } else { regs.w[slot as usize].map(u64::from) }
}

/// The instruction as a number: what [`run`] finds in the last slot of its operands.
pub(super) fn encode(cvt: &Cvt, place: &Place<'_>) -> u32 {
    let ty = |ty: Ty| Ty::ALL.iter().position(|other| *other == ty).unwrap_or(0) as u32;
    let round =
        cvt.round.map_or(0, |round| 1 + CvtRound::ALL.iter().position(|r| *r == round).unwrap_or(0) as u32);
    let wide = |i: usize| u32::from(place.files.get(i) == Some(&File::L));
    ty(cvt.to)
        | ty(cvt.from) << 8
        | round << 16
        | u32::from(cvt.ftz) << 20
        | u32::from(cvt.sat) << 21
        | u32::from(cvt.satfinite) << 22
        | u32::from(cvt.relu) << 23
        | wide(0) << 24
        | wide(1) << 25
        | u32::from(place.half) << 26
}

fn instruction(code: u32) -> Cvt {
    let ty = |code: u32| Ty::ALL.get((code & 0xFF) as usize).copied().unwrap_or(Ty::B32);
    Cvt {
        to: ty(code),
        from: ty(code >> 8),
        round: (code >> 16 & 15).checked_sub(1).and_then(|i| CvtRound::ALL.get(i as usize)).copied(),
        ftz: code >> 20 & 1 == 1,
        sat: code >> 21 & 1 == 1,
        satfinite: code >> 22 & 1 == 1,
        relu: code >> 23 & 1 == 1,
    }
}

pub(super) fn run(regs: &mut Regs, args: &Args, lanes: u32) {
    let code = args.slots[super::EXTRA];
    let cvt = instruction(code);
    let a = get(regs, code >> 25 & 1, args.slots[1]);
    let pair = cvt.from == Ty::F32 && matches!(cvt.to, Ty::F16x2 | Ty::BF16x2 | Ty::E4M3x2 | Ty::E5M2x2);
    let mut d = [0u64; LANES];
    for i in (0..LANES).filter(|i| lanes >> i & 1 == 1) {
        d[i] = if pair {
            let low = u64::from(regs.w[args.slots[2] as usize][i]);
            let width = cvt.to.bits() / 2;
            scalar(&cvt, a[i]) << width | scalar(&cvt, low)
        } else {
            match (cvt.to, cvt.from) {
                (Ty::E4M3x2 | Ty::E5M2x2, Ty::F16x2) => {
                    scalar(&cvt, a[i] >> 16 & 0xFFFF) << 8 | scalar(&cvt, a[i] & 0xFFFF)
                }
                (Ty::F16x2, from @ (Ty::E4M3x2 | Ty::E5M2x2)) => {
                    let half = |byte: u64| {
                        let value = decode_fp8(from == Ty::E4M3x2, byte & 0xFF);
                        clamped(&cvt, F16, F16.encode(value, Round::Nearest, 0x7FFF), 0)
                    };
                    half(a[i] >> 8) << 16 | half(a[i])
                }
                _ => {
                    let d = scalar(&cvt, a[i]);
                    // A wider register is filled by the sign.
                    if cvt.to.is_signed() { integer(cvt.to, d) as u64 } else { d }
                }
            }
        };
    }
    // Registers of 16 bits stay zero in the upper half of their row.
    let kept = if code >> 26 & 1 == 1 { 0xFFFF } else { u32::MAX };
    if code >> 24 & 1 == 1 {
        super::lanes::store(regs, args.slots[0], lanes, |i| d[i]);
    } else {
        super::lanes::store(regs, args.slots[0], lanes, |i| d[i] as u32 & kept);
    }
}
