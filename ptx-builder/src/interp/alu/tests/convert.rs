//! `cvt` in all its forms. Values go through doubles that are exact, or odd where something is lost, and the directed
//! results are found as neighbours in the order of the bits; FP8 by a search among all of its values.

use super::integer::{value, wrap};
use super::{Machine, Numbers, half_of, odd_single};
use crate::inst::{Cvt, CvtRound, Kind};
use crate::ops::Op;
use crate::testing::forms;
use crate::ty::Ty;
use half::{bf16, f16};

fn is_float(ty: Ty) -> bool {
    matches!(ty, Ty::F16 | Ty::BF16 | Ty::F32 | Ty::F64)
}

/// Exact.
fn to_double(ty: Ty, bits: u64) -> f64 {
    match ty {
        Ty::F16 => f16::from_bits(bits as u16).to_f64(),
        Ty::BF16 => bf16::from_bits(bits as u16).to_f64(),
        Ty::F32 => f64::from(f32::from_bits(bits as u32)),
        _ => f64::from_bits(bits),
    }
}

fn nearest(ty: Ty, x: f64) -> u64 {
    match ty {
        _ if x.is_nan() => nan(ty),
        Ty::F16 => u64::from(f16::from_f32(odd_single(x)).to_bits()),
        Ty::BF16 => u64::from(bf16::from_f32(odd_single(x)).to_bits()),
        Ty::F32 => u64::from((x as f32).to_bits()),
        _ => x.to_bits(),
    }
}

fn nan(ty: Ty) -> u64 {
    match ty {
        Ty::F16 | Ty::BF16 => 0x7FFF,
        Ty::F32 => 0x7FFF_FFFF,
        _ => 0xFFF8_0000_0000_0000,
    }
}

/// The double that rounds like an integer: odd if the integer has more bits.
fn odd(v: i128) -> f64 {
    let near = v as f64;
    let error = v - near as i128;
    match error.signum() {
        _ if near.to_bits() & 1 == 1 => near,
        1 => near.next_up(),
        -1 => near.next_down(),
        _ => near,
    }
}

/// Rounds an exact or odd double.
fn round_to(ty: Ty, x: f64, round: Option<CvtRound>) -> u64 {
    let d = nearest(ty, x);
    let back = to_double(ty, d);
    if x.is_nan() || x.is_infinite() || back == x {
        return d;
    }
    let sign = 1u64 << (ty.bits() - 1);
    let down = match round {
        Some(CvtRound::Rz) => x > 0.0,
        Some(CvtRound::Rm) => true,
        Some(CvtRound::Rp) => false,
        _ => return d,
    };
    let negative = d & sign != 0;
    match (down, back > x) {
        (true, true) | (false, false) if d & !sign == 0 => (u64::from(down) * sign) | 1,
        (true, true) if negative => d + 1,
        (true, true) => d - 1,
        (false, false) if negative => d - 1,
        (false, false) => d + 1,
        _ => d,
    }
}

fn flush(ty: Ty, bits: u64) -> u64 {
    if ty == Ty::F32 && f32::from_bits(bits as u32).is_subnormal() { bits & 0x8000_0000 } else { bits }
}

fn to_integral(x: f64, round: Option<CvtRound>) -> f64 {
    match round {
        Some(CvtRound::Rzi) => x.trunc(),
        Some(CvtRound::Rmi) => x.floor(),
        Some(CvtRound::Rpi) => x.ceil(),
        Some(CvtRound::Rni) => x.round_ties_even(),
        _ => x,
    }
}

fn range(ty: Ty) -> (i128, i128) {
    let bits = ty.bits();
    if ty.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
}

/// The integer that a conversion gives.
fn integer(cvt: &Cvt, bits: u64) -> i128 {
    let (least, most) = range(cvt.to);
    if cvt.from.is_int() {
        let v = value(cvt.from, bits);
        return if cvt.sat { v.clamp(least, most) } else { value(cvt.to, wrap(cvt.to.bits(), v)) };
    }
    let x = to_double(cvt.from, if cvt.ftz { flush(cvt.from, bits) } else { bits });
    if x.is_nan() {
        let wide = cvt.from == Ty::F64 || cvt.to.bits() == 64;
        return if wide { value(cvt.to, 1 << (cvt.to.bits() - 1)) } else { 0 };
    }
    (to_integral(x, cvt.round) as i128).clamp(least, most)
}

/// What a NaN becomes: wider formats keep sign and payload, made quiet or not as the hardware has it.
fn nan_of(cvt: &Cvt, to: Ty, bits: u64) -> u64 {
    let widened = |single: u64| (single & 1 << 31) << 32 | 0x7FF8 << 48 | (single & 0x7F_FFFF) << 29;
    match (to, cvt.from) {
        (Ty::F32 | Ty::F64, from) if to == from && cvt.round.is_none() && !cvt.ftz => bits,
        (Ty::F64, Ty::F64) => bits | 1 << 51,
        (Ty::F64, Ty::F32) => widened(bits),
        (Ty::F64, Ty::F16) => (bits & 0x8000) << 48 | 0x7FF8 << 48 | (bits & 0x3FF) << 42,
        (Ty::F64, _) => widened(bits << 16),
        (Ty::F32, Ty::BF16) => bits << 16,
        (Ty::F32, Ty::F64) => (bits >> 32) & 0x8000_0000 | 0x7FC0_0000 | bits >> 29 & 0x7F_FFFF,
        (Ty::F16, Ty::F64) => (bits >> 48) & 0x8000 | 0x7E00 | bits >> 42 & 0x3FF,
        (Ty::BF16, Ty::F64) => (bits >> 48) & 0x8000 | 0x7FC0 | bits >> 45 & 0x7F,
        _ => nan(to),
    }
}

fn to_float(cvt: &Cvt, bits: u64) -> u64 {
    let to = half_of(cvt.to);
    if is_float(cvt.from) && to_double(cvt.from, bits).is_nan() {
        return if cvt.sat { 0 } else { nan_of(cvt, to, bits) };
    }
    let x = if cvt.from.is_int() {
        let v = value(cvt.from, bits);
        if to == Ty::F64 {
            let near = v as f64;
            let error = v - near as i128;
            let down = cvt.round == Some(CvtRound::Rm) || cvt.round == Some(CvtRound::Rz) && v > 0;
            let directed = cvt.round != Some(CvtRound::Rn);
            match error.signum() {
                -1 if directed && down => near.next_down(),
                1 if directed && !down => near.next_up(),
                _ => near,
            }
        } else {
            odd(v)
        }
    } else {
        let bits = if cvt.ftz { flush(cvt.from, bits) } else { bits };
        to_integral(to_double(cvt.from, bits), cvt.round)
    };
    let d = round_to(to, x, cvt.round);
    let d = if cvt.ftz { flush(to, d) } else { d };
    if !cvt.sat {
        return limited(cvt, to, d);
    }
    let back = to_double(to, d);
    if back.is_nan() || back <= 0.0 { 0 } else { nearest(to, back.min(1.0)) }
}

/// The value of an FP8 code, by its definition.
fn fp8(e4m3: bool, code: u64) -> f64 {
    let (fraction_bits, bias) = if e4m3 { (3, 7) } else { (2, 15) };
    let exponent = (code >> fraction_bits & (0x7F >> fraction_bits)) as i32;
    let fraction = (code & ((1 << fraction_bits) - 1)) as f64 / f64::from(1 << fraction_bits);
    let magnitude = match exponent {
        15 if e4m3 && fraction == 0.875 => f64::NAN,
        31 if !e4m3 && fraction == 0.0 => f64::INFINITY,
        31 if !e4m3 => f64::NAN,
        0 => fraction * 2f64.powi(1 - bias),
        e => (1.0 + fraction) * 2f64.powi(e - bias),
    };
    if code & 0x80 != 0 { -magnitude } else { magnitude }
}

/// The nearest finite code, the even one of two; NaN is 0x7F.
fn to_fp8(e4m3: bool, x: f64) -> u64 {
    if x.is_nan() {
        return 0x7F;
    }
    let codes = (0..0x7F).filter(|code| fp8(e4m3, *code).is_finite());
    let distance = |code: u64| (fp8(e4m3, code) - x.abs()).abs();
    let best = codes.min_by(|a, b| {
        let by_distance = distance(*a).total_cmp(&distance(*b));
        by_distance.then((a & 1).cmp(&(b & 1)))
    });
    // Beyond all of them, the distances of doubles may be the same: the largest.
    let most = if e4m3 { 0x7E } else { 0x7B };
    let code = if x.abs() >= fp8(e4m3, most) { most } else { best.unwrap() };
    u64::from(x.is_sign_negative()) << 7 | code
}

fn tf32(cvt: &Cvt, bits: u64) -> u64 {
    let x = to_double(Ty::F32, bits);
    if x.is_nan() || x.is_infinite() || x == 0.0 {
        return limited(cvt, Ty::F32, bits & !0x1FFF);
    }
    let exponent = (x.abs().log2().floor() as i32).max(-126);
    let unit = 2f64.powi(exponent - 10);
    let units = x.abs() / unit;
    let whole = match cvt.round {
        Some(CvtRound::Rn) => units.round_ties_even(),
        Some(CvtRound::Rz) => units.floor(),
        _ => (units + 0.5).floor(),
    };
    limited(cvt, Ty::F32, nearest(Ty::F32, (whole * unit).copysign(x)))
}

/// `.satfinite` and `.relu` of a result, of which tf32 is a single.
fn limited(cvt: &Cvt, to: Ty, d: u64) -> u64 {
    let most = match cvt.to {
        Ty::TF32 => f64::from(f32::from_bits(0x7F7F_E000)),
        Ty::F16 | Ty::F16x2 => 65504.0,
        _ => f64::from(bf16::MAX),
    };
    let x = to_double(to, d);
    match d {
        _ if x.is_nan() => d,
        _ if cvt.relu && x.is_sign_negative() => 0,
        _ if cvt.satfinite && x.is_infinite() => nearest(to, most.copysign(x)),
        d => d,
    }
}

/// The result in a register of some width.
fn reference(cvt: &Cvt, register: u32, x: &[u64]) -> u64 {
    let e4m3 = |ty| ty == Ty::E4M3x2;
    let to_fp8 = |e4m3, x: f64| if cvt.relu && x <= 0.0 { to_fp8(e4m3, 0.0) } else { to_fp8(e4m3, x) };
    match (cvt.to, cvt.from) {
        (to, _) if to.is_int() => {
            let v = integer(cvt, x[0]);
            // Results of a signed type extend by their sign.
            if to.is_signed() { wrap(register, v) } else { wrap(to.bits(), v) }
        }
        (to, from) if is_float(to) && (is_float(from) || from.is_int()) => to_float(cvt, x[0]),
        (Ty::F16x2 | Ty::BF16x2, Ty::F32) => to_float(cvt, x[0]) << 16 | to_float(cvt, x[1]),
        (to @ (Ty::E4M3x2 | Ty::E5M2x2), Ty::F32) => {
            let code = |x: u64| to_fp8(e4m3(to), to_double(Ty::F32, x));
            code(x[0]) << 8 | code(x[1])
        }
        (to @ (Ty::E4M3x2 | Ty::E5M2x2), Ty::F16x2) => {
            let code = |x: u64| to_fp8(e4m3(to), to_double(Ty::F16, x & 0xFFFF));
            code(x[0] >> 16) << 8 | code(x[0])
        }
        (Ty::F16x2, from) => {
            let half = |code: u64| limited(cvt, Ty::F16, nearest(Ty::F16, fp8(e4m3(from), code & 0xFF)));
            half(x[0] >> 8) << 16 | half(x[0])
        }
        (Ty::TF32, Ty::F32) => tf32(cvt, x[0]),
        other => panic!("{other:?}"),
    }
}

/// Operands for a conversion from a type to another: near the limits of the result, halves of integers, anything.
fn operand(numbers: &mut Numbers, cvt: &Cvt) -> u64 {
    let any = numbers.value(cvt.from);
    if !is_float(cvt.from) {
        return any;
    }
    let x = match numbers.below(4) {
        0 if cvt.to.is_int() => {
            let (least, most) = range(cvt.to);
            let edge = if numbers.bits() & 1 == 1 { least } else { most } as f64;
            edge + (numbers.below(9) as f64 - 4.0) / 4.0
        }
        1 => (numbers.below(4001) as f64 - 2000.0) / 4.0,
        // Midpoints between neighbours of the narrower format, and just beside them.
        2 if is_float(cvt.to) && cvt.to.bits() < cvt.from.bits() => {
            let d = numbers.value(cvt.to);
            let (a, b) = (to_double(cvt.to, d), to_double(cvt.to, d ^ 1));
            let middle = nearest(cvt.from, (a + b) / 2.0);
            return middle.wrapping_add(numbers.below(3) as u64).wrapping_sub(1) & wrap(cvt.from.bits(), -1);
        }
        _ => return any,
    };
    nearest(cvt.from, x)
}

fn conversions() -> impl Iterator<Item = Cvt> {
    forms(Op::Cvt).into_iter().map(|kind| match kind {
        Kind::Cvt(cvt) => cvt,
        other => panic!("{other:?}"),
    })
}

#[test]
fn conversions_in_every_form() {
    let mut count = 0;
    for cvt in conversions() {
        let mut machine = Machine::new(&Kind::Cvt(cvt));
        let mut numbers = Numbers::new(101 + count);
        let inputs = machine.types.len() - machine.results;
        let lanes: Vec<Vec<u64>> =
            (0..1536).map(|_| (0..inputs).map(|_| operand(&mut numbers, &cvt)).collect()).collect();
        let register = cvt.to.bits().max(16);
        super::check_all(&mut machine, &lanes, |x| reference(&cvt, register, x));
        count += 1;
    }
    assert!(count > 500, "{count}");
}

/// Integers in registers that are wider than their type: what is above them does not count, and results fill them.
#[test]
fn integers_in_wider_registers() {
    for cvt in conversions() {
        for width in [Ty::B32, Ty::B64] {
            let result = cvt.to.is_int() && cvt.to.bits() < width.bits();
            let operand_fits = cvt.from.is_int() && cvt.from.bits() < width.bits();
            if !result && !operand_fits {
                continue;
            }
            let to = if result { width } else { cvt.to };
            let from = if operand_fits { width } else { cvt.from };
            let mut machine = Machine::with_types(&Kind::Cvt(cvt), 1, vec![to, from]);
            let mut numbers = Numbers::new(103);
            let lanes: Vec<Vec<u64>> = (0..256)
                .map(|_| vec![if operand_fits { numbers.value(width) } else { operand(&mut numbers, &cvt) }])
                .collect();
            super::check_all(&mut machine, &lanes, |x| reference(&cvt, to.bits().max(16), x));
        }
    }
}

fn exhaustive(to: Ty, from: Ty, round: Option<CvtRound>, reference: impl Fn(u16) -> u64) {
    let fp8 = matches!(to, Ty::E4M3x2 | Ty::E5M2x2);
    let cvt = Cvt { to, from, round, ftz: false, sat: false, satfinite: fp8, relu: false };
    let mut machine = Machine::new(&Kind::Cvt(cvt));
    let lanes: Vec<Vec<u64>> = (0..=0xFFFFu64).map(|x| vec![x]).collect();
    super::check_all(&mut machine, &lanes, |x| reference(x[0] as u16));
}

/// Bits that an H200 gave.
#[test]
fn nans_are_those_of_the_device() {
    let of = |to: Ty, from: Ty, round: Option<CvtRound>, cases: &[(u64, u64)]| {
        let cvt = Cvt { to, from, round, ftz: false, sat: false, satfinite: false, relu: false };
        let lanes: Vec<Vec<u64>> = cases.iter().map(|(x, _)| vec![*x]).collect();
        let results = Machine::new(&Kind::Cvt(cvt)).apply(&lanes);
        for ((x, expected), d) in cases.iter().zip(results) {
            assert_eq!(d[0], *expected, "{to:?} of {from:?} {x:#x}, {round:?}");
        }
    };
    const QUIET: u64 = 0x7FF8_0000_0000_0000;
    const SIGNALLING: u64 = 0x7FF0_0000_0000_0001;
    const PAYLOAD: u64 = 0xFFF8_0000_0000_0005;
    const UPPER: u64 = 0xFFF4_0000_0000_0000;
    const MIXED: u64 = 0x7FF1_2345_67AB_CDEF;
    const NEGATIVE: u64 = 0xFFF9_8765_4321_0FED;
    for round in [CvtRound::Rn, CvtRound::Rz, CvtRound::Rm, CvtRound::Rp].map(Some) {
        let half = [0x7E00, 0x7E00, 0xFE00, 0xFF00, 0x7E48, 0xFE61];
        let brain = [0x7FC0, 0x7FC0, 0xFFC0, 0xFFE0, 0x7FC9, 0xFFCC];
        for (to, expected) in [(Ty::F16, half), (Ty::BF16, brain)] {
            let operands = [QUIET, SIGNALLING, PAYLOAD, UPPER, MIXED, NEGATIVE];
            let cases: Vec<_> = operands.into_iter().zip(expected).collect();
            of(to, Ty::F64, round, &cases);
        }
    }
    for round in [CvtRound::Rn, CvtRound::Rz].map(Some) {
        of(Ty::F16, Ty::F32, round, &[(0x7FC0_0000, 0x7FFF), (0xFF89_ABCD, 0x7FFF)]);
        of(Ty::BF16, Ty::F32, round, &[(0x7FC0_0000, 0x7FFF), (0xFF89_ABCD, 0x7FFF)]);
        of(Ty::F32, Ty::F64, round, &[(MIXED, 0x7FC9_1A2B), (NEGATIVE, 0xFFCC_3B2A)]);
        of(Ty::F16, Ty::BF16, round, &[(0x7FC0, 0x7FFF), (0xFFCC, 0x7FFF)]);
        of(Ty::BF16, Ty::F16, round, &[(0x7E00, 0x7FFF), (0xFECC, 0x7FFF)]);
    }
    of(Ty::F64, Ty::F16, None, &[(0x7C01, 0x7FF8_0400_0000_0000), (0xFE05, 0xFFF8_1400_0000_0000)]);
    of(Ty::F64, Ty::BF16, None, &[(0x7F81, 0x7FF8_2000_0000_0000), (0xFFCC, 0xFFF9_8000_0000_0000)]);
    of(Ty::F64, Ty::F32, None, &[(0x7F80_0001, 0x7FF8_0000_2000_0000), (0xFFCC_4321, 0xFFF9_8864_2000_0000)]);
    of(Ty::F32, Ty::F16, None, &[(0x7C01, 0x7FFF_FFFF), (0xFECC, 0x7FFF_FFFF)]);
    of(Ty::F32, Ty::BF16, None, &[(0x7F81, 0x7F81_0000), (0xFFCC, 0xFFCC_0000)]);
}

#[test]
fn all_halves() {
    let single = |x: f32| if x.is_nan() { 0x7FFF_FFFF } else { u64::from(x.to_bits()) };
    exhaustive(Ty::F32, Ty::F16, None, |x| single(f16::from_bits(x).to_f32()));
    exhaustive(Ty::F32, Ty::BF16, None, |x| u64::from(x) << 16);
    let not_nan = |x: f64, nan: u64| if x.is_nan() { nan } else { x.to_bits() };
    exhaustive(Ty::F64, Ty::F16, None, |x| {
        let payload = u64::from(x & 0x8000) << 48 | 0x7FF8 << 48 | u64::from(x & 0x3FF) << 42;
        not_nan(f16::from_bits(x).to_f64(), payload)
    });
    exhaustive(Ty::F64, Ty::BF16, None, |x| {
        let payload = u64::from(x & 0x8000) << 48 | 0x7FF8 << 48 | u64::from(x & 0x7F) << 45;
        not_nan(bf16::from_bits(x).to_f64(), payload)
    });
    let rn = Some(CvtRound::Rn);
    for (ty, e4m3) in [(Ty::E4M3x2, true), (Ty::E5M2x2, false)] {
        exhaustive(ty, Ty::F16x2, rn, |x| to_fp8(e4m3, f16::from_bits(x).to_f64()) | to_fp8(e4m3, 0.0) << 8);
        exhaustive(Ty::F16x2, ty, rn, |x| {
            let half = |code: u16| nearest(Ty::F16, fp8(e4m3, u64::from(code & 0xFF)));
            half(x >> 8) << 16 | half(x)
        });
    }
    // Every FP8 value and back.
    for e4m3 in [true, false] {
        for code in (0..256).filter(|code| fp8(e4m3, *code).is_finite()) {
            assert_eq!(to_fp8(e4m3, fp8(e4m3, code)), code);
        }
    }
}

/// Every half, the middle to the next one, and what lies beside both.
#[test]
fn singles_to_all_halves() {
    for (to, up) in
        [(Ty::F16, f16::to_f32 as fn(f16) -> f32), (Ty::BF16, |x| bf16::from_bits(x.to_bits()).to_f32())]
    {
        let cvt = Cvt {
            to,
            from: Ty::F32,
            round: Some(CvtRound::Rn),
            ftz: false,
            sat: false,
            satfinite: false,
            relu: false,
        };
        let mut lanes = Vec::new();
        for bits in 0..0xFFFFu16 {
            let (a, b) = (up(f16::from_bits(bits)), up(f16::from_bits(bits + 1)));
            for x in [a, a / 2.0 + b / 2.0] {
                lanes.extend([-1i32, 0, 1].map(|i| vec![u64::from(x.to_bits().wrapping_add_signed(i))]));
            }
        }
        super::check_all(&mut Machine::new(&Kind::Cvt(cvt)), &lanes, |x| {
            let x = f32::from_bits(x[0] as u32);
            match to {
                _ if x.is_nan() => 0x7FFF,
                Ty::F16 => u64::from(f16::from_f32(x).to_bits()),
                _ => u64::from(bf16::from_f32(x).to_bits()),
            }
        });
    }
}
