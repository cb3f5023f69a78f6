//! Halves: sums and products are exact in double precision up to one error term, which makes the double odd, so that
//! the conversion of the `half` crate rounds the exact result.

use super::{check, half_of, odd_single, regular};
use crate::ops::{Mods, Op};
use crate::ty::Ty;
use half::{bf16, f16};

fn wide(ty: Ty, bits: u64) -> f64 {
    match ty {
        Ty::F16 => f16::from_bits(bits as u16).to_f64(),
        _ => bf16::from_bits(bits as u16).to_f64(),
    }
}

fn narrow(ty: Ty, x: f64) -> u64 {
    if x.is_nan() {
        return 0x7FFF;
    }
    u64::from(match ty {
        Ty::F16 => f16::from_f32(odd_single(x)).to_bits(),
        _ => bf16::from_f32(odd_single(x)).to_bits(),
    })
}

/// The sum, with its last bit set if it is not exact: what rounds like the exact sum.
fn odd_sum(a: f64, b: f64) -> f64 {
    let near = a + b;
    let of_b = near - a;
    let error = (a - (near - of_b)) + (b - of_b);
    if !near.is_finite() || error == 0.0 || near.to_bits() & 1 == 1 {
        return near;
    }
    if error > 0.0 { near.next_up() } else { near.next_down() }
}

fn compute(op: Op, ty: Ty, x: &[u64]) -> f64 {
    let v = |i: usize| wide(ty, x[i]);
    match op {
        Op::HAdd | Op::BAdd => odd_sum(v(0), v(1)),
        Op::HSub | Op::BSub => odd_sum(v(0), -v(1)),
        Op::HMul | Op::BMul => v(0) * v(1),
        Op::HFma | Op::BFma | Op::HFmaRelu | Op::BFmaRelu | Op::HFmaFtzRelu => odd_sum(v(0) * v(1), v(2)),
        _ => panic!("{op:?}"),
    }
}

fn flush(ty: Ty, x: u64) -> u64 {
    let exponent = if ty == Ty::F16 { 0x7C00 } else { 0x7F80 };
    if x & exponent == 0 { x & 0x8000 } else { x }
}

/// Both halves of a pair, or one value.
fn each(ty: Ty, x: &[u64], f: impl Fn(Ty, &[u64]) -> u64) -> u64 {
    if half_of(ty) == ty {
        return f(ty, x);
    }
    let part = |shift: u32| {
        let x: Vec<u64> = x.iter().map(|x| x >> shift & 0xFFFF).collect();
        f(half_of(ty), &x)
    };
    part(0) | part(16) << 16
}

#[test]
fn halves_are_rounded_once() {
    let ops = [
        (Op::HAdd, true),
        (Op::HSub, true),
        (Op::HMul, true),
        (Op::HFma, true),
        (Op::HFmaRelu, false),
        (Op::HFmaFtzRelu, false),
        (Op::BAdd, false),
        (Op::BSub, false),
        (Op::BMul, false),
        (Op::BFma, false),
        (Op::BFmaRelu, false),
    ];
    for (op, modifiers) in ops {
        for ty in op.regular().unwrap().types {
            for flags in 0..if modifiers { 4 } else { 1 } {
                let (ftz, sat) = (flags & 1 == 1, flags & 2 == 2);
                let flushes = ftz || op == Op::HFmaFtzRelu;
                let relu = matches!(op, Op::HFmaRelu | Op::HFmaFtzRelu | Op::BFmaRelu);
                check(&regular(op, *ty, Mods { rounding: None, ftz, sat }), 20_000, 73, |x| {
                    each(*ty, x, |ty, x| {
                        let x: Vec<u64> =
                            x.iter().map(|x| if flushes { flush(ty, *x) } else { *x }).collect();
                        let d = narrow(ty, compute(op, ty, &x));
                        let d = if flushes { flush(ty, d) } else { d };
                        let value = wide(ty, d);
                        match d {
                            _ if relu && (value < 0.0 || d == 0x8000) => 0,
                            _ if sat && (value.is_nan() || value <= 0.0) => 0,
                            _ if sat => narrow(ty, value.min(1.0)),
                            d => d,
                        }
                    })
                });
            }
        }
    }
}

#[test]
fn extremes_and_signs_of_halves() {
    let order = |ty: Ty, bits: u64| {
        let magnitude = (bits & 0x7FFF) as i64;
        let nan = wide(ty, bits).is_nan();
        (!nan).then_some(if bits >> 15 == 1 { -magnitude - 1 } else { magnitude })
    };
    let ops = [
        (Op::HMin, false, false),
        (Op::HMax, true, false),
        (Op::HMinNan, false, true),
        (Op::HMaxNan, true, true),
        (Op::HMinFtzNan, false, true),
        (Op::HMaxFtzNan, true, true),
        (Op::BMin, false, false),
        (Op::BMax, true, false),
        (Op::BMinNan, false, true),
        (Op::BMaxNan, true, true),
    ];
    for (op, max, nan) in ops {
        for ty in op.regular().unwrap().types {
            for ftz in [false, true] {
                if ftz && !matches!(op, Op::HMin | Op::HMax) {
                    continue;
                }
                let flushes = ftz || matches!(op, Op::HMinFtzNan | Op::HMaxFtzNan);
                check(&regular(op, *ty, Mods { rounding: None, ftz, sat: false }), 8000, 79, |x| {
                    each(*ty, x, |ty, x| {
                        let [a, b] = [x[0], x[1]].map(|x| if flushes { flush(ty, x) } else { x });
                        match (order(ty, a), order(ty, b)) {
                            (None, None) => 0x7FFF,
                            (None, _) | (_, None) if nan => 0x7FFF,
                            (None, _) => b,
                            (_, None) => a,
                            (p, q) if (p < q) == max => b,
                            _ => a,
                        }
                    })
                });
            }
        }
    }
    for (op, abs) in [(Op::HNeg, false), (Op::BNeg, false), (Op::HAbs, true), (Op::BAbs, true)] {
        for ty in op.regular().unwrap().types {
            check(&regular(op, *ty, Mods::NONE), 8000, 83, |x| {
                each(*ty, x, |ty, x| {
                    if order(ty, x[0]).is_none() {
                        0x7FFF
                    } else if abs {
                        x[0] & 0x7FFF
                    } else {
                        x[0] ^ 0x8000
                    }
                })
            });
        }
    }
}

#[test]
fn approximations_of_halves_are_the_nearest() {
    for (op, f) in [
        (Op::HEx2Approx, f64::exp2 as fn(f64) -> f64),
        (Op::HTanhApprox, f64::tanh),
        (Op::BEx2Approx, f64::exp2),
        (Op::BTanhApprox, f64::tanh),
    ] {
        for ty in op.regular().unwrap().types {
            let flushes = op == Op::BEx2Approx;
            check(&regular(op, *ty, Mods::NONE), 8000, 89, |x| {
                each(*ty, x, |ty, x| {
                    let a = if flushes { flush(ty, x[0]) } else { x[0] };
                    let d = narrow(ty, f(wide(ty, a)));
                    if flushes { flush(ty, d) } else { d }
                })
            });
        }
    }
}
