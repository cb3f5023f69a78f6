//! `setp` and `set` in all their forms against the order of exact values.

use super::{Machine, Numbers, integer};
use crate::inst::{Cmp, Combine, Kind, Setp};
use crate::ops::Op;
use crate::testing::forms;
use crate::ty::{Ty, TyKind};
use half::{bf16, f16};
use std::cmp::Ordering;

fn flush(ty: Ty, bits: u64) -> u64 {
    let (sign, exponent) = if ty == Ty::F32 { (1 << 31, 0x7F80_0000) } else { (0x8000, 0x7C00) };
    if bits & exponent == 0 { bits & sign } else { bits }
}

/// The order of two operands; `None` if one is a NaN.
fn order(test: &Setp, ty: Ty, a: u64, b: u64) -> Option<Ordering> {
    if matches!(ty.kind(), TyKind::Bits | TyKind::Unsigned | TyKind::Signed) {
        return Some(integer::value(ty, a).cmp(&integer::value(ty, b)));
    }
    let float = |x: u64| {
        let x = if test.ftz { flush(ty, x) } else { x };
        match ty {
            Ty::F16 => f16::from_bits(x as u16).to_f64(),
            Ty::BF16 => bf16::from_bits(x as u16).to_f64(),
            Ty::F32 => f64::from(f32::from_bits(x as u32)),
            _ => f64::from_bits(x),
        }
    };
    float(a).partial_cmp(&float(b))
}

fn holds(cmp: Cmp, order: Option<Ordering>) -> bool {
    let name = cmp.name();
    let Some(order) = order else { return name == "nan" || name.len() == 3 && name.ends_with('u') };
    match name.trim_end_matches('u') {
        "eq" => order == Ordering::Equal,
        "ne" => order != Ordering::Equal,
        "lt" => order == Ordering::Less,
        "le" => order != Ordering::Greater,
        "gt" => order == Ordering::Greater,
        "ge" => order != Ordering::Less,
        name => name == "n" || name == "num",
    }
}

fn combined(test: &Setp, holds: bool, with: u64) -> bool {
    match test.combine {
        None => holds,
        Some(Combine::And) => holds && with == 1,
        Some(Combine::Or) => holds || with == 1,
        Some(Combine::Xor) => holds != (with == 1),
    }
}

/// Operands that are often equal.
fn operands(machine: &Machine, numbers: &mut Numbers) -> Vec<Vec<u64>> {
    let ty = machine.types[machine.results];
    (0..512)
        .map(|_| {
            let a = numbers.value(ty);
            let b = match numbers.below(4) {
                0 => a,
                1 if ty.is_float() => a ^ 1 << (ty.bits() - 1),
                _ => numbers.value(ty),
            };
            let mut lane = vec![a, b];
            if machine.types.len() > machine.results + 2 {
                lane.push(numbers.bits() & 1);
            }
            lane
        })
        .collect()
}

#[test]
fn setp_in_every_form() {
    for kind in forms(Op::Setp) {
        let Kind::Setp(test) = &kind else { panic!("{kind:?}") };
        let mut machine = Machine::new(&kind);
        let lanes = operands(&machine, &mut Numbers::new(107));
        for (x, d) in lanes.iter().zip(machine.apply(&lanes)) {
            let holds = holds(test.cmp, order(test, test.ty, x[0], x[1]));
            let with = x.get(2).copied().unwrap_or_default();
            let expected = [holds, !holds].map(|t| u64::from(combined(test, t, with)));
            assert_eq!(d, expected[..d.len()], "{kind:?} of {x:x?}");
        }
    }
}

#[test]
fn setp_negates_its_predicate() {
    let setp = Setp { cmp: Cmp::Lt, combine: Some(Combine::And), ftz: false, ty: Ty::S32 };
    let mut machine = Machine::new(&Kind::Setp(setp));
    machine.args.negated = 1 << 4;
    let lanes = [vec![1, 2, 0], vec![1, 2, 1], vec![2, 1, 0], vec![2, 1, 1]];
    assert_eq!(machine.apply(&lanes), [[1, 0], [0, 0], [0, 1], [0, 0]]);
}

#[test]
fn set_in_every_form() {
    for kind in forms(Op::Set) {
        let Kind::Set(set) = &kind else { panic!("{kind:?}") };
        let packed = matches!(set.test.ty, Ty::F16x2 | Ty::BF16x2);
        let part = super::half_of(set.test.ty);
        let truth = match set.to {
            Ty::F32 => 0x3F80_0000,
            Ty::F16 | Ty::F16x2 => 0x3C00,
            Ty::BF16 | Ty::BF16x2 => 0x3F80,
            Ty::U16 | Ty::S16 => 0xFFFF,
            _ if packed => 0xFFFF,
            _ => 0xFFFF_FFFF,
        };
        let mut machine = Machine::new(&kind);
        let lanes = operands(&machine, &mut Numbers::new(109));
        super::check_all(&mut machine, &lanes, |x| {
            let one = |shift: u32| {
                let mask = if packed { 0xFFFF } else { u64::MAX };
                let order = order(&set.test, part, x[0] >> shift & mask, x[1] >> shift & mask);
                let with = x.get(2).copied().unwrap_or_default();
                u64::from(combined(&set.test, holds(set.test.cmp, order), with)) * truth
            };
            if packed { one(0) | one(16) << 16 } else { one(0) }
        });
    }
}
