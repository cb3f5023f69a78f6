//! Single and double precision. The exact result is a double (of twice the precision for doubles) and the sign of its
//! error, found with error-free transformations; a directed result is the neighbour on the right side of it.

use super::{Machine, Numbers, check, check_all, regular, rounded};
use crate::inst::Kind;
use crate::interp::alu::soft::{self, F32, F64, Round};
use crate::ops::{Mods, Op, Rounding};
use crate::ty::Ty;

const NAN32: u64 = 0x7FFF_FFFF;
const NAN64: u64 = 0xFFF8_0000_0000_0000;

/// A number between two doubles: the nearest double, and on which side of it the number is.
#[derive(Clone, Copy)]
struct Exact {
    near: f64,
    side: f64,
}

/// The sum of two doubles and what is lost of it.
fn two_sum(a: f64, b: f64) -> Exact {
    let near = a + b;
    let of_b = near - a;
    Exact { near, side: (a - (near - of_b)) + (b - of_b) }
}

fn exact(op: Op, x: &[f64]) -> Exact {
    match op {
        Op::FAdd => two_sum(x[0], x[1]),
        Op::FSub => two_sum(x[0], -x[1]),
        Op::FMul => Exact { near: x[0] * x[1], side: 0.0 },
        Op::FFma => two_sum(x[0] * x[1], x[2]),
        Op::FDiv | Op::FRcp => {
            let (a, b) = if op == Op::FRcp { (1.0, x[0]) } else { (x[0], x[1]) };
            let near = a / b;
            Exact { near, side: (-near).mul_add(b, a) * b.signum() }
        }
        Op::FSqrt => {
            let near = x[0].sqrt();
            Exact { near, side: (-near).mul_add(near, x[0]) }
        }
        _ => panic!("{op:?}"),
    }
}

/// The single on the side that a direction asks for.
fn directed(exact: Exact, rounding: Rounding) -> f32 {
    let nearest = exact.near as f32;
    let wide = f64::from(nearest);
    // A single is a double: if it is not the nearest one, that one lies between.
    let above = if wide == exact.near { exact.side < 0.0 } else { wide > exact.near };
    let below = if wide == exact.near { exact.side > 0.0 } else { wide < exact.near };
    let down = match rounding {
        Rounding::Rz => exact.near > 0.0,
        Rounding::Rm => true,
        _ => false,
    };
    match (down, above, below) {
        (true, true, _) => nearest.next_down(),
        (false, _, true) => nearest.next_up(),
        _ => nearest,
    }
}

fn native(op: Op, x: &[f32]) -> f32 {
    match op {
        Op::FAdd => x[0] + x[1],
        Op::FSub => x[0] - x[1],
        Op::FMul => x[0] * x[1],
        Op::FFma => x[0].mul_add(x[1], x[2]),
        Op::FDiv => x[0] / x[1],
        Op::FRcp => 1.0 / x[0],
        Op::FSqrt => x[0].sqrt(),
        _ => panic!("{op:?}"),
    }
}

/// Tests for NaNs in integers, so that no optimiser takes all NaNs for the same.
fn canonical(x: f32) -> u64 {
    let bits = u64::from(x.to_bits());
    if bits & 0x7FFF_FFFF > 0x7F80_0000 { NAN32 } else { bits }
}

fn single(op: Op, rounding: Rounding, x: &[u64]) -> u64 {
    let x: Vec<f32> = x.iter().map(|bits| f32::from_bits(*bits as u32)).collect();
    let nearest = native(op, &x);
    let infinite = x.iter().any(|x| x.is_infinite()) || op == Op::FDiv && x[1] == 0.0;
    if rounding == Rounding::Rn || nearest.is_nan() || infinite || op == Op::FRcp && x[0] == 0.0 {
        return canonical(nearest);
    }
    let wide: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
    let exact = exact(op, &wide);
    // The sign of an exact zero: that of both terms, or that of the direction.
    if exact.near == 0.0 && matches!(op, Op::FAdd | Op::FSub | Op::FFma) {
        let (a, b) = match op {
            Op::FAdd => (x[0], x[1]),
            Op::FSub => (x[0], -x[1]),
            _ => (if x[0].is_sign_negative() == x[1].is_sign_negative() { 0.0 } else { -0.0 }, x[2]),
        };
        let negative = if a.is_sign_negative() == b.is_sign_negative() {
            a.is_sign_negative()
        } else {
            rounding == Rounding::Rm
        };
        return u64::from(negative) << 31;
    }
    if exact.near == 0.0 {
        return canonical(nearest);
    }
    let d = directed(exact, rounding);
    // What rounds to zero keeps the sign of the exact result.
    canonical(if d == 0.0 { 0f32.copysign(exact.near as f32) } else { d })
}

const ROUNDED: [Op; 7] = [Op::FAdd, Op::FSub, Op::FMul, Op::FFma, Op::FDiv, Op::FRcp, Op::FSqrt];

#[test]
fn singles_round_in_every_direction() {
    for op in ROUNDED {
        for rounding in Rounding::ALL {
            check(&rounded(op, Ty::F32, rounding), 20_000, 31, |x| single(op, rounding, x));
        }
    }
}

fn flush(x: u64) -> u64 {
    if f32::from_bits(x as u32).is_subnormal() { x & 0x8000_0000 } else { x }
}

fn saturate(x: u64) -> u64 {
    let x = f32::from_bits(x as u32);
    if x.is_nan() || x <= 0.0 { 0 } else { u64::from(x.min(1.0).to_bits()) }
}

#[test]
fn singles_flush_and_saturate() {
    for op in ROUNDED {
        for rounding in Rounding::ALL {
            for (ftz, sat) in [(true, false), (false, true), (true, true)] {
                let clamps = matches!(op, Op::FAdd | Op::FSub | Op::FMul | Op::FFma);
                if sat && !clamps {
                    continue;
                }
                let kind = regular(op, Ty::F32, Mods { rounding: Some(rounding), ftz, sat });
                check(&kind, 4000, 37, |x| {
                    let x: Vec<u64> = x.iter().map(|x| if ftz { flush(*x) } else { *x }).collect();
                    let d = single(op, rounding, &x);
                    let d = if ftz { flush(d) } else { d };
                    if sat { saturate(d) } else { d }
                });
            }
        }
    }
}

/// What rounds up to the least normal number only because it is rounded as a subnormal is flushed.
#[test]
fn products_flush_by_their_unbounded_value() {
    let (least, below_one) = (0x0080_0000, 0x3F7F_FFFF);
    // (1 - 2^-24) * 2^-126 has 24 bits; (1 - 2^-23) * (1 + 2^-23) * 2^-126 is just below 2^-126.
    let operands = [[below_one, least], [0x3F7F_FFFE, 0x0080_0001]];
    for (rounding, expected) in [
        (Rounding::Rn, [0, least]),
        (Rounding::Rz, [0, 0]),
        (Rounding::Rm, [0, 0]),
        (Rounding::Rp, [0, least]),
    ] {
        let mods = Mods { rounding: Some(rounding), ftz: true, sat: false };
        for (op, sign) in [(Op::FMul, 0), (Op::FFma, 1 << 31)] {
            let lanes: Vec<Vec<u64>> = operands.iter().map(|[a, b]| vec![*a, *b, sign]).collect();
            let results = Machine::new(&regular(op, Ty::F32, mods)).apply(&lanes);
            let results: Vec<u64> = results.iter().map(|d| d[0]).collect();
            assert_eq!(results, expected, "{op:?} {rounding:?}");
        }
    }
}

fn native_double(op: Op, x: &[f64]) -> f64 {
    match op {
        Op::DAdd => x[0] + x[1],
        Op::DSub => x[0] - x[1],
        Op::DMul => x[0] * x[1],
        Op::DFma => x[0].mul_add(x[1], x[2]),
        Op::DDiv => x[0] / x[1],
        Op::DRcp => 1.0 / x[0],
        Op::DSqrt => x[0].sqrt(),
        _ => panic!("{op:?}"),
    }
}

fn doubles(x: &[u64]) -> Vec<f64> {
    x.iter().map(|bits| f64::from_bits(*bits)).collect()
}

/// The result, or the first NaN among the operands, made quiet.
fn quiet(operands: &[u64], d: f64) -> u64 {
    let nan = operands.iter().find(|x| f64::from_bits(**x).is_nan());
    nan.map_or(canonical_double(d), |x| x | 1 << 51)
}

fn canonical_double(x: f64) -> u64 {
    let bits = x.to_bits();
    if bits << 1 > 0x7FF << 53 { NAN64 } else { bits }
}

const DOUBLES: [Op; 7] = [Op::DAdd, Op::DSub, Op::DMul, Op::DFma, Op::DDiv, Op::DRcp, Op::DSqrt];

#[test]
fn doubles_round_to_nearest() {
    for op in DOUBLES {
        check(&rounded(op, Ty::F64, Rounding::Rn), 20_000, 41, |x| quiet(x, native_double(op, &doubles(x))));
    }
}

/// Where the error of the nearest result is a double itself: away from the ends of the range of exponents.
fn error(op: Op, x: &[f64], near: f64) -> f64 {
    match op {
        Op::DAdd => two_sum(x[0], x[1]).side,
        Op::DSub => two_sum(x[0], -x[1]).side,
        Op::DMul => x[0].mul_add(x[1], -near),
        Op::DDiv => (-near).mul_add(x[1], x[0]) * x[1].signum(),
        Op::DRcp => (-near).mul_add(x[0], 1.0) * x[0].signum(),
        Op::DSqrt => (-near).mul_add(near, x[0]),
        _ => panic!("{op:?}"),
    }
}

#[test]
fn doubles_round_in_every_direction() {
    for op in DOUBLES.into_iter().filter(|op| *op != Op::DFma) {
        for rounding in [Rounding::Rz, Rounding::Rm, Rounding::Rp] {
            let mut machine = Machine::new(&rounded(op, Ty::F64, rounding));
            let mut numbers = Numbers::new(43);
            let inputs = machine.types.len() - machine.results;
            let moderate = |bits: u64| bits & 0x800F_FFFF_FFFF_FFFF | (0x3FF - 200 + bits % 400) << 52;
            let lanes: Vec<Vec<u64>> =
                (0..20_000).map(|_| (0..inputs).map(|_| moderate(numbers.bits())).collect()).collect();
            check_all(&mut machine, &lanes, |x| {
                let x = doubles(x);
                let near = native_double(op, &x);
                let error = if near.is_nan() { 0.0 } else { error(op, &x, near) };
                let down = rounding == Rounding::Rm || rounding == Rounding::Rz && near > 0.0;
                canonical_double(match (down, error) {
                    (true, e) if e < 0.0 => near.next_down(),
                    (false, e) if e > 0.0 => near.next_up(),
                    _ => near,
                })
            });
        }
    }
}

/// The directed sum of a product: exact in integers when all exponents are small.
#[test]
fn double_fma_rounds_in_every_direction() {
    for rounding in [Rounding::Rz, Rounding::Rm, Rounding::Rp] {
        let mut machine = Machine::new(&rounded(Op::DFma, Ty::F64, rounding));
        let mut numbers = Numbers::new(47);
        let mut whole = |bits: u32| {
            let magnitude = (numbers.bits() >> (64 - bits)) as f64;
            (if numbers.bits() & 1 == 1 { magnitude } else { -magnitude }).to_bits()
        };
        let lanes: Vec<Vec<u64>> = (0..20_000).map(|_| vec![whole(53), whole(50), whole(53)]).collect();
        check_all(&mut machine, &lanes, |x| {
            let x = doubles(x);
            let exact = x[0] as i128 * x[1] as i128 + x[2] as i128;
            let near = exact as f64;
            let error = exact - near as i128;
            let down = rounding == Rounding::Rm || rounding == Rounding::Rz && near > 0.0;
            if exact == 0 && x[0] * x[1] != x[2] {
                return u64::from(rounding == Rounding::Rm) << 63;
            }
            canonical_double(match (down, error.signum()) {
                (true, -1) => near.next_down(),
                (false, 1) => near.next_up(),
                _ => near,
            })
        });
    }
}

#[test]
fn soft_arithmetic_is_that_of_the_processor() {
    let mut numbers = Numbers::new(53);
    for _ in 0..50_000 {
        let [a, b, c] = [0; 3].map(|_| numbers.value(Ty::F32));
        let (x, y, z) = (F32.decode(a), F32.decode(b), F32.decode(c));
        let nearest = Round::Nearest;
        let encode = |value| F32.encode(value, nearest, NAN32);
        let f = |bits: u64| f32::from_bits(bits as u32);
        assert_eq!(encode(soft::add(x, y, nearest)), canonical(f(a) + f(b)), "{a:#x} + {b:#x}");
        assert_eq!(encode(soft::mul(x, y)), canonical(f(a) * f(b)), "{a:#x} * {b:#x}");
        assert_eq!(encode(soft::div(x, y)), canonical(f(a) / f(b)), "{a:#x} / {b:#x}");
        assert_eq!(encode(soft::sqrt(x)), canonical(f(a).sqrt()), "sqrt {a:#x}");
        let sum = f(a).mul_add(f(b), f(c));
        assert_eq!(encode(soft::fma(x, y, z, nearest)), canonical(sum), "{a:#x} * {b:#x} + {c:#x}");

        let [a, b, c] = [0; 3].map(|_| numbers.value(Ty::F64));
        let (x, y, z) = (F64.decode(a), F64.decode(b), F64.decode(c));
        let encode = |value| F64.encode(value, nearest, NAN64);
        let f = f64::from_bits;
        assert_eq!(encode(soft::add(x, y, nearest)), canonical_double(f(a) + f(b)), "{a:#x} + {b:#x}");
        assert_eq!(encode(soft::mul(x, y)), canonical_double(f(a) * f(b)), "{a:#x} * {b:#x}");
        assert_eq!(encode(soft::div(x, y)), canonical_double(f(a) / f(b)), "{a:#x} / {b:#x}");
        assert_eq!(encode(soft::sqrt(x)), canonical_double(f(a).sqrt()), "sqrt {a:#x}");
        let sum = f(a).mul_add(f(b), f(c));
        assert_eq!(encode(soft::fma(x, y, z, nearest)), canonical_double(sum), "{a:#x} * {b:#x} + {c:#x}");
    }
}

/// The operands as numbers in their order, -0 before +0; `None` for a NaN.
fn order(bits: u64) -> Option<i64> {
    let magnitude = (bits & 0x7FFF_FFFF) as i64;
    (magnitude <= 0x7F80_0000).then_some(if bits >> 31 == 1 { -magnitude - 1 } else { magnitude })
}

#[test]
fn extremes_of_singles() {
    let cases = [
        (Op::FMin, false, false, false),
        (Op::FMin, false, true, false),
        (Op::FMax, true, false, false),
        (Op::FMax, true, true, false),
        (Op::FMinNan, false, false, true),
        (Op::FMaxNan, true, false, true),
        (Op::FMinFtzNan, false, true, true),
        (Op::FMaxFtzNan, true, true, true),
    ];
    for (op, max, ftz, nan) in cases {
        let by_name = matches!(op, Op::FMinFtzNan | Op::FMaxFtzNan);
        let kind = regular(op, Ty::F32, Mods { rounding: None, ftz: ftz && !by_name, sat: false });
        check(&kind, 20_000, 59, |x| {
            let (a, b) = if ftz { (flush(x[0]), flush(x[1])) } else { (x[0], x[1]) };
            match (order(a), order(b)) {
                (None, None) => NAN32,
                (None, _) | (_, None) if nan => NAN32,
                (None, _) => b,
                (_, None) => a,
                (p, q) if (p < q) == max => b,
                _ => a,
            }
        });
    }
}

#[test]
fn extremes_of_doubles() {
    for (op, max) in [(Op::DMin, false), (Op::DMax, true)] {
        check(&regular(op, Ty::F64, Mods::NONE), 20_000, 59, |x| {
            let [a, b] = [x[0], x[1]].map(f64::from_bits);
            match (a.is_nan(), b.is_nan()) {
                // Of two NaNs, the second.
                (true, true) => x[1] | 1 << 51,
                (true, false) => x[1],
                (false, true) => x[0],
                _ if a.total_cmp(&b).is_lt() == max => x[1],
                _ => x[0],
            }
        });
    }
}

#[test]
fn signs_and_properties() {
    let of = |op, ty| regular(op, ty, Mods::NONE);
    let number = |x: u64, d: u64| if order(x).is_none() { NAN32 } else { d };
    check(&of(Op::FNeg, Ty::F32), 4000, 61, |x| number(x[0], x[0] ^ 1 << 31));
    check(&of(Op::FAbs, Ty::F32), 4000, 61, |x| number(x[0], x[0] & !(1 << 31)));
    check(&of(Op::DNeg, Ty::F64), 4000, 61, |x| quiet(&[x[0] ^ 1 << 63], -f64::from_bits(x[0])));
    check(&of(Op::DAbs, Ty::F64), 4000, 61, |x| quiet(&[x[0] & !(1 << 63)], f64::from_bits(x[0]).abs()));
    let sign = |w: u32| 1u64 << (w - 1);
    for ty in [Ty::F32, Ty::F64] {
        let s = sign(ty.bits());
        check(&of(Op::Copysign, ty), 4000, 61, |x| x[0] & s | x[1] & (s - 1));
        // Fields of the format, not the functions of the language.
        let fraction = if ty == Ty::F32 { 23 } else { 52 };
        let top = (s >> fraction) - 1;
        let parts = move |x: u64| (x >> fraction & top, x & ((1 << fraction) - 1));
        let test = |op, f: &dyn Fn(u64, u64) -> bool| {
            check(&of(op, ty), 4000, 67, |x| {
                let (exponent, fraction) = parts(x[0]);
                u64::from(f(exponent, fraction))
            });
        };
        test(Op::TestpFinite, &|e, _| e != top);
        test(Op::TestpInf, &|e, f| e == top && f == 0);
        test(Op::TestpNan, &|e, f| e == top && f != 0);
        test(Op::TestpNumber, &|e, f| e != top || f == 0);
        test(Op::TestpNormal, &|e, f| e != top && (e != 0 || f == 0));
        test(Op::TestpSubnormal, &|e, f| e == 0 && f != 0);
    }
}

/// Bits of the operand and of the result.
fn special(op: Op, ftz: bool, cases: &[(u32, u32)]) {
    let kind = regular(op, Ty::F32, Mods { rounding: None, ftz, sat: false });
    let lanes: Vec<Vec<u64>> = cases.iter().map(|(a, _)| vec![u64::from(*a)]).collect();
    let results = Machine::new(&kind).apply(&lanes);
    for ((a, expected), d) in cases.iter().zip(results) {
        assert_eq!(d[0], u64::from(*expected), "{op:?} ftz {ftz} of {a:#x}");
    }
}

#[test]
fn approximations_at_the_edges() {
    const INF: u32 = 0x7F80_0000;
    const MINUS_INF: u32 = 0xFF80_0000;
    const MINUS_0: u32 = 0x8000_0000;
    const NAN: u32 = 0x7FFF_FFFF;
    const ONE: u32 = 0x3F80_0000;
    const MINUS_ONE: u32 = 0xBF80_0000;
    const TINY: u32 = 1;
    for ftz in [false, true] {
        let quiet = (0x7F80_0001, NAN);
        special(Op::RcpApprox, ftz, &[(0, INF), (MINUS_0, MINUS_INF), (INF, 0), (MINUS_INF, MINUS_0), quiet]);
        special(Op::SqrtApprox, ftz, &[(0, 0), (MINUS_0, MINUS_0), (INF, INF), (MINUS_ONE, NAN), quiet]);
        special(
            Op::RsqrtApprox,
            ftz,
            &[(0, INF), (MINUS_0, MINUS_INF), (INF, 0), (MINUS_ONE, NAN), (ONE, ONE), quiet],
        );
        special(Op::SinApprox, ftz, &[(0, 0), (MINUS_0, MINUS_0), (INF, NAN), (MINUS_INF, NAN), quiet]);
        special(Op::CosApprox, ftz, &[(0, ONE), (MINUS_0, ONE), (INF, NAN), (TINY, ONE), quiet]);
        special(
            Op::Lg2Approx,
            ftz,
            &[(0, MINUS_INF), (MINUS_0, MINUS_INF), (INF, INF), (ONE, 0), (MINUS_ONE, NAN), quiet],
        );
        special(
            Op::Ex2Approx,
            ftz,
            &[(0, ONE), (INF, INF), (MINUS_INF, 0), (ONE, 0x4000_0000), (TINY, ONE), quiet],
        );
    }
    special(
        Op::TanhApprox,
        false,
        &[(0, 0), (MINUS_0, MINUS_0), (INF, ONE), (MINUS_INF, MINUS_ONE), (0x7F80_0001, NAN)],
    );
    // Subnormal operands, and results: kept, or flushed with their sign.
    special(Op::SqrtApprox, true, &[(TINY, 0), (TINY | MINUS_0, MINUS_0)]);
    special(Op::RsqrtApprox, true, &[(TINY, INF), (TINY | MINUS_0, MINUS_INF)]);
    special(Op::RcpApprox, true, &[(TINY, INF), (0x7F00_0000, 0), (0xFF00_0000, MINUS_0)]);
    special(Op::RcpApprox, false, &[(0x7F00_0000, 0x0040_0000)]);
    special(Op::Lg2Approx, true, &[(TINY, MINUS_INF)]);
    special(Op::Lg2Approx, false, &[(TINY, 0xC315_0000)]);
    special(Op::SinApprox, true, &[(TINY, 0), (TINY | MINUS_0, MINUS_0)]);
    special(Op::SinApprox, false, &[(TINY, TINY)]);
    special(Op::Ex2Approx, true, &[(0xC300_0000, 0)]);
    special(Op::Ex2Approx, false, &[(0xC300_0000, 0x0020_0000)]);
}

#[test]
fn approximate_division_by_large_numbers_is_zero() {
    let kind = regular(Op::DivApprox, Ty::F32, Mods::NONE);
    let bits = |x: f32| u64::from(x.to_bits());
    let large = 1.5 * 2f32.powi(126);
    let lanes = [
        vec![bits(1.0), bits(large)],
        vec![bits(-3.0), bits(large)],
        vec![bits(f32::INFINITY), bits(large)],
        vec![bits(3.0), bits(2f32.powi(126))],
        vec![bits(6.0), bits(2.0)],
        vec![bits(6.0), bits(f32::INFINITY)],
    ];
    let results: Vec<u64> = Machine::new(&kind).apply(&lanes).into_iter().map(|d| d[0]).collect();
    assert_eq!(results, [0, bits(-0.0), NAN32, bits(3.0 / 2f32.powi(126)), bits(3.0), 0]);
}

#[test]
fn selection_by_a_sign() {
    use crate::inst::Slct;
    for by in [Ty::S32, Ty::F32] {
        for ty in [Ty::B16, Ty::U32, Ty::B64, Ty::F32, Ty::F64] {
            for ftz in [false, true] {
                if ftz && by == Ty::S32 {
                    continue;
                }
                check(&Kind::Slct(Slct { ty, by, ftz }), 2000, 71, |x| {
                    let first = match by {
                        Ty::S32 => x[2] >> 31 == 0,
                        // -0 and, with `.ftz`, negative subnormals are not less than 0.
                        _ => order(if ftz { flush(x[2]) } else { x[2] }).is_some_and(|c| c >= -1),
                    };
                    if first { x[0] } else { x[1] }
                });
            }
        }
    }
}

/// What the instruction on singles gives.
fn of_singles(op: Op, mods: Mods, x: &[u64]) -> u64 {
    Machine::new(&regular(op, Ty::F32, mods)).apply(&[x.to_vec()])[0][0]
}

fn roundings(op: Op) -> impl Iterator<Item = Option<Rounding>> {
    let none = (op != Op::FFma).then_some(None);
    none.into_iter().chain(Rounding::ALL.map(Some))
}

#[test]
fn pairs_of_singles_are_two_singles() {
    for (pair, op) in [(Op::PAdd, Op::FAdd), (Op::PSub, Op::FSub), (Op::PMul, Op::FMul), (Op::PFma, Op::FFma)]
    {
        for rounding in roundings(op) {
            for ftz in [false, true] {
                let mods = Mods { rounding, ftz, sat: false };
                check(&regular(pair, Ty::F32x2, mods), 1000, 91, |x| {
                    let half = |shift: u32| {
                        let x: Vec<u64> = x.iter().map(|x| x >> shift & 0xFFFF_FFFF).collect();
                        of_singles(op, mods, &x) << shift
                    };
                    half(0) | half(32)
                });
            }
        }
    }
}

#[test]
fn halves_among_singles_are_widened_first() {
    let widened = |ty: Ty, x: u64| {
        let x = x as u16;
        let wide =
            if ty == Ty::F16 { half::f16::from_bits(x).to_f32() } else { half::bf16::from_bits(x).to_f32() };
        u64::from(wide.to_bits())
    };
    for (mixed, op) in [(Op::MixAdd, Op::FAdd), (Op::MixSub, Op::FSub), (Op::MixFma, Op::FFma)] {
        for ty in [Ty::F16, Ty::BF16] {
            for rounding in roundings(op) {
                for sat in [false, true] {
                    let mods = Mods { rounding, ftz: false, sat };
                    check(&regular(mixed, ty, mods), 1000, 92, |x| {
                        let last = x.len() - 1;
                        let x: Vec<u64> =
                            (0..).zip(x).map(|(i, x)| if i < last { widened(ty, *x) } else { *x }).collect();
                        of_singles(op, mods, &x)
                    });
                }
            }
        }
    }
}
