//! Integers against exact arithmetic in 128 bits and against the loops over bits that the PTX ISA gives.

use super::{Machine, Numbers, check, check_all, operands};
use crate::inst::{Kind, Regular};
use crate::ops::{Mods, Op};
use crate::testing::forms;
use crate::ty::Ty;

/// The value that bits stand for in a type.
pub(super) fn value(ty: Ty, bits: u64) -> i128 {
    let width = ty.bits();
    let low = i128::from(bits) & ((1 << width) - 1);
    if ty.is_signed() && low >> (width - 1) == 1 { low - (1 << width) } else { low }
}

/// A value as the bits of a register.
pub(super) fn wrap(width: u32, value: i128) -> u64 {
    (value & ((1i128 << width) - 1)) as u64
}

fn bit(x: u64, i: u32) -> bool {
    x >> i & 1 == 1
}

fn from_bits(width: u32, f: impl Fn(u32) -> bool) -> u64 {
    (0..width).fold(0, |word, i| word | u64::from(f(i)) << i)
}

fn high_bit(ty: Ty, x: u64) -> Option<u32> {
    let wanted = !(ty.is_signed() && bit(x, ty.bits() - 1));
    (0..ty.bits()).rev().find(|i| bit(x, *i) == wanted)
}

/// What an instruction on integers computes.
#[expect(clippy::too_many_lines, reason = "one line for each operation")]
fn reference(op: Op, ty: Ty, x: &[u64]) -> Option<u64> {
    let w = ty.bits();
    let v = |i: usize| value(ty, x[i]);
    let int = |i: usize| value(Ty::S32, x[i]);
    let all = wrap(w, -1);
    let product = |i: usize| value(ty, x[i]) * value(ty, x[i + 1]);
    // Two operands of 64 bits without a sign fill 128 bits: the product by its upper part.
    let high = || {
        if ty == Ty::U64 {
            i128::from(((u128::from(x[0]) * u128::from(x[1])) >> 64) as u64)
        } else {
            product(0) >> w
        }
    };
    let low = || {
        if ty == Ty::U64 { i128::from(x[0].wrapping_mul(x[1])) } else { product(0) }
    };
    let clamped = |sum: i128| wrap(32, sum.clamp(i128::from(i32::MIN), i128::from(i32::MAX)));
    let low24 = |i: usize| value(ty, x[i] << 8 & 0xFFFF_FFFF) >> 8;
    let shift = |i: usize| (x[i] as u32).min(w);
    let both = |i: u32| {
        let word = if i >= 32 { x[1] } else { x[0] };
        bit(word, i & 31)
    };
    Some(match op {
        Op::Add => wrap(w, v(0) + v(1)),
        Op::Sub => wrap(w, v(0) - v(1)),
        Op::AddSat => clamped(v(0) + v(1)),
        Op::SubSat => clamped(v(0) - v(1)),
        Op::MulLo => wrap(w, low()),
        Op::MulHi => wrap(w, high()),
        Op::MulWide => wrap(2 * w, product(0)),
        Op::MadLo => wrap(w, low() + v(2)),
        Op::MadHi => wrap(w, high() + v(2)),
        Op::MadHiSat => clamped(high() + v(2)),
        Op::MadWide => wrap(2 * w, product(0) + value(ty.widened()?, x[2])),
        Op::Div if x[1] == 0 => all,
        Op::Div => wrap(w, v(0) / v(1)),
        Op::Rem if x[1] == 0 => x[0],
        Op::Rem => wrap(w, v(0) % v(1)),
        Op::Min => wrap(w, v(0).min(v(1))),
        Op::Max => wrap(w, v(0).max(v(1))),
        Op::Neg => wrap(w, -v(0)),
        Op::Abs => wrap(w, v(0).abs()),
        Op::Sad => wrap(w, v(2) + (v(0) - v(1)).abs()),
        Op::Mul24Lo => wrap(32, low24(0) * low24(1)),
        Op::Mul24Hi => wrap(32, (low24(0) * low24(1)) >> 16),
        Op::Mad24Lo => wrap(32, low24(0) * low24(1) + v(2)),
        Op::Mad24Hi => wrap(32, ((low24(0) * low24(1)) >> 16) + v(2)),
        Op::And if ty != Ty::Pred => from_bits(w, |i| bit(x[0], i) && bit(x[1], i)),
        Op::Or if ty != Ty::Pred => from_bits(w, |i| bit(x[0], i) || bit(x[1], i)),
        Op::Xor if ty != Ty::Pred => from_bits(w, |i| bit(x[0], i) != bit(x[1], i)),
        Op::Not if ty != Ty::Pred => from_bits(w, |i| !bit(x[0], i)),
        Op::And => x[0] & x[1],
        Op::Or => x[0] | x[1],
        Op::Xor => x[0] ^ x[1],
        Op::Not => 1 - x[0],
        Op::Cnot => u64::from(x[0] == 0),
        Op::Shl => wrap(w, i128::from(x[0]).checked_shl(shift(1)).unwrap_or(0)),
        Op::Shr => wrap(w, v(0) >> shift(1)),
        Op::ShfLWrap => from_bits(32, |i| both(32 + i - (x[2] as u32 & 31))),
        Op::ShfRWrap => from_bits(32, |i| both(i + (x[2] as u32 & 31))),
        Op::ShfLClamp => from_bits(32, |i| both(32 + i - (x[2] as u32).min(32))),
        Op::ShfRClamp => from_bits(32, |i| both(i + (x[2] as u32).min(32))),
        Op::Popc => (0..w).filter(|i| bit(x[0], *i)).count() as u64,
        Op::Clz => (0..w).rev().take_while(|i| !bit(x[0], *i)).count() as u64,
        Op::Brev => from_bits(w, |i| bit(x[0], w - 1 - i)),
        Op::Bfind => high_bit(ty, x[0]).map_or(0xFFFF_FFFF, u64::from),
        Op::BfindShift => high_bit(ty, x[0]).map_or(0xFFFF_FFFF, |i| u64::from(w - 1 - i)),
        Op::Fns => {
            let (base, offset) = (int(1) & 31, int(2));
            let step = if offset > 0 { 1 } else { -1 };
            let (mut at, mut left) = (base, offset.abs() - 1);
            let mut found = 0xFFFF_FFFF;
            while offset != 0 && (0..32).contains(&at) {
                if bit(x[0], at as u32) {
                    if left == 0 {
                        found = at as u64;
                        break;
                    }
                    left -= 1;
                }
                at += step;
            }
            if offset == 0 && bit(x[0], base as u32) { base as u64 } else { found }
        }
        Op::SzextClamp | Op::SzextWrap => {
            let n = if op == Op::SzextWrap { x[1] as u32 & 31 } else { (x[1] as u32).min(32) };
            from_bits(32, |i| {
                let replicated = ty.is_signed() && n > 0 && bit(x[0], n - 1);
                if i < n { bit(x[0], i) } else { replicated }
            })
        }
        Op::BmskClamp => from_bits(32, |i| u64::from(i) >= x[0] && u64::from(i) < x[0] + x[1]),
        Op::BmskWrap => {
            from_bits(32, |i| u64::from(i) >= x[0] & 31 && u64::from(i) < (x[0] & 31) + (x[1] & 31))
        }
        Op::Bfe => {
            let (pos, len) = (x[1] as u32 & 0xFF, x[2] as u32 & 0xFF);
            let sign = ty.is_signed() && len > 0 && bit(x[0], (pos + len - 1).min(w - 1));
            from_bits(w, |i| if i < len && pos + i < w { bit(x[0], pos + i) } else { sign })
        }
        Op::Bfi => {
            let (pos, len) = (x[2] as u32 & 0xFF, x[3] as u32 & 0xFF);
            from_bits(w, |i| if i >= pos && i < pos + len { bit(x[0], i - pos) } else { bit(x[1], i) })
        }
        Op::Lop3 => from_bits(32, |i| {
            let term = u64::from(bit(x[0], i)) * 4 + u64::from(bit(x[1], i)) * 2 + u64::from(bit(x[2], i));
            bit(x[3], term as u32)
        }),
        Op::Selp => {
            if x[2] == 1 {
                x[0]
            } else {
                x[1]
            }
        }
        Op::Prmt => from_bits(32, |i| {
            let selector = x[2] >> (4 * (i / 8));
            let byte = 8 * (selector as u32 & 7);
            both(byte + if bit(selector, 3) { 7 } else { i % 8 })
        }),
        _ => return named_permutation(op, x).or_else(|| dot_product(op, x)),
    })
}

/// The named modes of `prmt`, as what they are for.
fn named_permutation(op: Op, x: &[u64]) -> Option<u64> {
    let byte = |i: u64| (if i % 8 >= 4 { x[1] } else { x[0] }) >> (i % 4 * 8) & 0xFF;
    let by = x.get(2)? & 3;
    let pick: fn(u64, u64) -> u64 = match op {
        // Four bytes upwards from byte `by`, or downwards.
        Op::PrmtF4e => |by, i| by + i,
        Op::PrmtB4e => |by, i| by + 8 - i,
        // Byte `by` everywhere; everywhere above or below itself.
        Op::PrmtRc8 => |by, _| by,
        Op::PrmtEcl => |by, i| i.max(by),
        Op::PrmtEcr => |by, i| i.min(by),
        // A half twice.
        Op::PrmtRc16 => |by, i| by % 2 * 2 + i % 2,
        _ => return None,
    };
    Some((0..4).fold(0, |word, i| word | byte(pick(by, i)) << (8 * i)))
}

fn dot_product(op: Op, x: &[u64]) -> Option<u64> {
    let name = op.mnemonic();
    let mut types = name.rsplit('.');
    let (of_b, of_a) = (types.next()? == "s32", types.next()? == "s32");
    let part = |word: u64, i: u32, bits: u32, signed: bool| {
        let raw = i128::from(word >> (i * bits)) & ((1 << bits) - 1);
        if signed && raw >> (bits - 1) == 1 { raw - (1 << bits) } else { raw }
    };
    let sum: i128 = if name.starts_with("dp4a") {
        (0..4).map(|i| part(x[0], i, 8, of_a) * part(x[1], i, 8, of_b)).sum()
    } else if name.starts_with("dp2a") {
        let first = if name.contains(".hi") { 2 } else { 0 };
        (0..2).map(|i| part(x[0], i, 16, of_a) * part(x[1], first + i, 8, of_b)).sum()
    } else {
        return None;
    };
    Some(wrap(32, i128::from(x[2]) + sum))
}

#[test]
fn integers_are_exact() {
    let mut checked = std::collections::HashSet::new();
    for op in Op::ALL {
        if op.sets_carry() || op.reads_carry() {
            continue;
        }
        for kind in forms(*op) {
            let Kind::Regular(Regular { ty, .. }) = kind else { continue };
            let (results, types) = if reads_registers_only(&kind) { operands(&kind) } else { continue };
            let ty = ty.unwrap_or(Ty::B32);
            let zeros = vec![0; types.len() - results];
            if ty.is_float() && *op != Op::Selp || reference(*op, ty, &zeros).is_none() {
                continue;
            }
            checked.insert(*op);
            if *op == Op::Lop3 {
                lop3(&kind);
            } else {
                small_counts(&kind, |x| reference(*op, ty, x).unwrap_or_default());
                check(&kind, 4000, 11, |x| reference(*op, ty, x).unwrap_or_default());
            }
        }
    }
    // 18 of arithmetic, 4 of 24 bits, 5 logical, 26 of bits, 12 dot products, selp.
    assert_eq!(checked.len(), 66, "{checked:?}");
}

fn reads_registers_only(kind: &Kind) -> bool {
    kind.effects() == crate::ops::Effects::PURE
        && !kind.signature(&[]).args().iter().any(|arg| matches!(arg.what, crate::inst::What::Address(_)))
}

/// Random words, with small numbers in the last operands: positions, lengths and counts.
fn small_counts(kind: &Kind, reference: impl Fn(&[u64]) -> u64) {
    let mut machine = Machine::new(kind);
    let mut numbers = Numbers::new(23);
    let types = machine.types[machine.results..].to_vec();
    let lanes: Vec<Vec<u64>> = (0..4000)
        .map(|_| {
            let mut lane: Vec<u64> = types.iter().map(|ty| numbers.value(*ty)).collect();
            for (operand, ty) in lane.iter_mut().zip(&types).skip(1) {
                *operand = match (ty, numbers.below(3)) {
                    (Ty::U32 | Ty::B32, 0 | 1) => numbers.bits() % 70,
                    (Ty::S32, 0 | 1) => wrap(32, i128::from(numbers.bits() % 80) - 40),
                    _ => *operand,
                };
            }
            lane
        })
        .collect();
    check_all(&mut machine, &lanes, reference);
}

/// The table is the same in all lanes.
fn lop3(kind: &Kind) {
    let mut machine = Machine::new(kind);
    let mut numbers = Numbers::new(5);
    for table in 0..256 {
        let lanes: Vec<Vec<u64>> = (0..32)
            .map(|_| vec![numbers.value(Ty::B32), numbers.value(Ty::B32), numbers.value(Ty::B32), table])
            .collect();
        check_all(&mut machine, &lanes, |x| reference(Op::Lop3, Ty::B32, x).unwrap_or_default());
    }
}

#[test]
fn carries_chain() {
    for op in Op::ALL.iter().filter(|op| op.sets_carry() || op.reads_carry()) {
        for kind in forms(*op) {
            let Kind::Regular(Regular { ty: Some(ty), .. }) = kind else { continue };
            let mut machine = Machine::new(&kind);
            let mut numbers = Numbers::new(3);
            let inputs = machine.types.len() - machine.results;
            let lanes: Vec<Vec<u64>> = (0..4000)
                .map(|_| {
                    let mut lane: Vec<u64> = (0..inputs).map(|_| numbers.value(ty)).collect();
                    lane.push(numbers.bits() & 1);
                    lane
                })
                .collect();
            for (x, d) in lanes.iter().zip(machine.apply(&lanes)) {
                let flag = x[inputs];
                let name = op.mnemonic();
                let difference = name.starts_with("sub");
                // The flag of a difference is that nothing is borrowed.
                let carry = i128::from(op.reads_carry() && (flag == 1) != difference);
                let unsigned = |i: usize| i128::from(x[i]);
                let sum = if difference {
                    unsigned(0) - unsigned(1) - carry
                } else if name.starts_with("add") {
                    unsigned(0) + unsigned(1) + carry
                } else {
                    let part = if name.contains(".lo") { Op::MulLo } else { Op::MulHi };
                    i128::from(reference(part, ty, &x[..2]).unwrap()) + unsigned(2) + carry
                };
                let out = (0..1i128 << ty.bits()).contains(&sum) == difference;
                let kept = if op.sets_carry() { u64::from(out) } else { flag };
                assert_eq!(d, [wrap(ty.bits(), sum), kept], "{kind:?} of {x:x?}");
            }
        }
    }
}

#[test]
fn pairs_are_computed_half_by_half() {
    type Half = fn(i64, i64) -> i64;
    let pairs: [(Op, Half); 8] = [
        (Op::AddU16x2, |a, b| a + b),
        (Op::AddS16x2, |a, b| a + b),
        (Op::MinU16x2, |a, b| (a & 0xFFFF).min(b & 0xFFFF)),
        (Op::MaxU16x2, |a, b| (a & 0xFFFF).max(b & 0xFFFF)),
        (Op::MinS16x2, |a, b| a.min(b)),
        (Op::MaxS16x2, |a, b| a.max(b)),
        (Op::MinReluS16x2, |a, b| a.min(b).max(0)),
        (Op::MaxReluS16x2, |a, b| a.max(b).max(0)),
    ];
    for (op, f) in pairs {
        check(&Kind::Regular(Regular::new(op, None)), 5000, 31, |x| {
            let half = |x: u64, shift: u32| i64::from((x >> shift) as u16 as i16);
            let part = |shift| (f(half(x[0], shift), half(x[1], shift)) as u64 & 0xFFFF) << shift;
            part(0) | part(16)
        });
    }
    for (op, greater) in [(Op::MinRelu, false), (Op::MaxRelu, true)] {
        check(&super::regular(op, Ty::S32, Mods::NONE), 5000, 32, |x| {
            let (a, b) = (x[0] as u32 as i32, x[1] as u32 as i32);
            let d = if (a > b) == greater { a } else { b };
            if d < 0 { 0 } else { d as u64 }
        });
    }
}

#[test]
fn absolute_differences_of_parts() {
    let bytes = |x: u64| (x as u32).to_le_bytes().map(i64::from);
    let of_bytes =
        |x: &[u64]| -> Vec<i64> { bytes(x[0]).iter().zip(bytes(x[1])).map(|(a, b)| (a - b).abs()).collect() };
    let op = |op| Kind::Regular(Regular::new(op, None));
    check(&op(Op::AbsDiff4), 2000, 33, |x| of_bytes(x).iter().rev().fold(0, |d, part| d << 8 | *part as u64));
    check(&op(Op::AbsDiff4Add), 2000, 34, |x| (of_bytes(x).iter().sum::<i64>() as u64 + x[2]) & 0xFFFF_FFFF);
    check(&op(Op::AbsDiff2Add), 2000, 35, |x| {
        let half = |x: u64, i: u32| i64::from((x >> (16 * i)) as u16);
        let sum: i64 = (0..2).map(|i| (half(x[0], i) - half(x[1], i)).abs()).sum();
        (sum as u64 + x[2]) & 0xFFFF_FFFF
    });
}

/// A product of 128 bits, as compilers form it from 64-bit words.
#[test]
fn a_chain_of_carries_is_a_wide_sum() {
    let mut numbers = Numbers::new(9);
    let mut low = Machine::new(&super::regular(Op::AddCc, Ty::U32, Mods::NONE));
    let mut high = Machine::new(&super::regular(Op::AddC, Ty::U32, Mods::NONE));
    for _ in 0..1000 {
        let (a, b) = (numbers.value(Ty::U64), numbers.value(Ty::U64));
        let first = low.apply(&[vec![a & 0xFFFF_FFFF, b & 0xFFFF_FFFF, 0]]).remove(0);
        let second = high.apply(&[vec![a >> 32, b >> 32, first[1]]]).remove(0);
        assert_eq!(first[0] | second[0] << 32, a.wrapping_add(b));
    }
}

#[test]
fn vectors_are_packed_from_the_low_end() {
    for (ty, parts) in [(Ty::B32, 2u8), (Ty::B64, 2), (Ty::B64, 4)] {
        let width = ty.bits() / u32::from(parts);
        let mut numbers = Numbers::new(77);
        let mut pack = Machine::new(&Kind::Pack { ty, parts });
        let mut unpack = Machine::new(&Kind::Unpack { ty, parts });
        for _ in 0..500 {
            let whole = numbers.value(ty);
            let of_whole: Vec<u64> =
                (0..u32::from(parts)).map(|i| whole >> (i * width) & ((1 << width) - 1)).collect();
            assert_eq!(unpack.apply(&[vec![whole]]), std::slice::from_ref(&of_whole));
            assert_eq!(pack.apply(&[of_whole]), [[whole]]);
        }
    }
}

#[test]
fn words_clamped_to_fewer_bits() {
    let op = |op| Kind::Regular(Regular::new(op, None));
    let forms = [
        (Op::CvtPackU16, 0, 0xFFFF),
        (Op::CvtPackS16, -0x8000, 0x7FFF),
        (Op::CvtPackU8, 0, 255),
        (Op::CvtPackS8, -128, 127),
        (Op::CvtPackU4, 0, 15),
        (Op::CvtPackS4, -8, 7),
        (Op::CvtPackU2, 0, 3),
        (Op::CvtPackS2, -2, 1),
    ];
    for ((which, least, most), seed) in forms.into_iter().zip(40..) {
        let bits = u64::from((most - least + 1i64).ilog2());
        check(&op(which), 3000, seed, |x| {
            // Small numbers are seldom random.
            let part = |x: u64| (i64::from(x as u32 as i32).clamp(least, most) as u64) & ((1 << bits) - 1);
            let rest = if bits == 16 { 0 } else { x[2] << (2 * bits) & 0xFFFF_FFFF };
            rest | part(x[0]) << bits | part(x[1])
        });
    }
}
