//! Atomic operations and reductions.

use super::super::{atomic, least, most};
use super::Numbers;
use crate::inst::AtomOp;
use crate::ty::Ty;
use half::{bf16, f16};

fn add(ty: Ty, a: u64, b: u64) -> u64 {
    atomic(AtomOp::Add, ty, a, [b, 0], false)
}

#[test]
fn counters_wrap_at_the_operand() {
    let next = |op, old, a| atomic(op, Ty::U32, old, [a, 0], false);
    assert_eq!([0, 4, 5, 6].map(|old| next(AtomOp::Inc, old, 5)), [1, 5, 0, 0]);
    assert_eq!([0, 1, 5, 6].map(|old| next(AtomOp::Dec, old, 5)), [5, 0, 4, 5]);
    assert_eq!(next(AtomOp::Add, 0xFFFF_FFFF, 2), 1);
}

#[test]
fn order_and_bits() {
    let run = |op, ty, old, a| atomic(op, ty, old, [a, 0], false);
    let minus_one = 0xFFFF_FFFF;
    assert_eq!(run(AtomOp::Min, Ty::S32, 1, minus_one), minus_one);
    assert_eq!(run(AtomOp::Min, Ty::U32, 1, minus_one), 1);
    assert_eq!(run(AtomOp::Max, Ty::S64, 1, u64::MAX), 1);
    assert_eq!(run(AtomOp::Max, Ty::U64, 1, u64::MAX), u64::MAX);
    assert_eq!(run(AtomOp::And, Ty::B32, 0b1100, 0b1010), 0b1000);
    assert_eq!(run(AtomOp::Or, Ty::B64, 0b1100, 0b1010), 0b1110);
    assert_eq!(run(AtomOp::Xor, Ty::B32, 0b1100, 0b1010), 0b0110);
    assert_eq!(run(AtomOp::Exch, Ty::B32, 7, 9), 9);
    // Bits of a wider register above the type do not count.
    assert_eq!(atomic(AtomOp::Cas, Ty::B16, 7, [0xF_0007, 0xF_0009], false), 9);
    assert_eq!(atomic(AtomOp::Cas, Ty::B64, 7, [8, 9], false), 7);
}

#[test]
fn sums_of_floats() {
    let one = |x: f32| u64::from(x.to_bits());
    assert_eq!(add(Ty::F32, one(1.5), one(2.25)), one(3.75));
    assert_eq!(add(Ty::F32, 1, 1), 2);
    assert_eq!(atomic(AtomOp::Add, Ty::F32, 0x8000_0001, [0x8000_0000, 0], true), 0x8000_0000);
    assert_eq!(atomic(AtomOp::Add, Ty::F32, 0x0080_0000, [0x8080_0001, 0], true), 0x8000_0000);
    assert_eq!(add(Ty::F32, 0xFFC0_1234, one(1.0)), 0x7FFF_FFFF);
    assert_eq!(add(Ty::F64, 1.5f64.to_bits(), 2.25f64.to_bits()), 3.75f64.to_bits());
    assert_eq!(add(Ty::F64, 0x7FF0_0000_0000_0001, 0), 0x7FF8_0000_0000_0001);
    assert_eq!([Ty::F16, Ty::BF16].map(|ty| add(ty, 0xFFC1, 0)), [0x7FFF; 2]);
    let mut numbers = Numbers::new(1);
    for _ in 0..10_000 {
        let (a, b) = (numbers.value(Ty::F16x2), numbers.value(Ty::F16x2));
        // Both sums are exact in double precision.
        let half = |shift: u32| {
            let value = |x: u64| f16::from_bits((x >> shift) as u16).to_f64();
            let sum = value(a) + value(b);
            if sum.is_nan() { 0x7FFF } else { u64::from(f16::from_f64(sum).to_bits()) }
        };
        assert_eq!(add(Ty::F16x2, a, b), half(0) | half(16) << 16, "{a:x} {b:x}");
        let (a, b) = (numbers.value(Ty::BF16), numbers.value(Ty::BF16));
        let value = |x: u64| bf16::from_bits(x as u16).to_f64();
        let sum = value(a) + value(b);
        let expected = if sum.is_nan() { 0x7FFF } else { u64::from(bf16::from_f64(sum).to_bits()) };
        assert_eq!(add(Ty::BF16, a, b), expected, "{a:x} {b:x}");
    }
}

#[test]
fn extremes_of_a_warp() {
    let (one, nan) = (1f32.to_bits(), 0x7FC0_1234);
    assert_eq!([least(nan, one), least(one, nan), most(nan, one)], [one; 3]);
    assert_eq!([least(nan, nan), most(nan, nan)], [0x7FFF_FFFF; 2]);
    assert_eq!([least(0, 1 << 31), most(1 << 31, 0)], [1 << 31, 0]);
}
