//! `mma` against a matrix product of three loops, with the fragments as the tables of the PTX ISA have them.

use super::{Machine, Numbers};
use crate::inst::{Kind, MmaShape};
use crate::interp::regs::FULL;
use crate::ty::Ty;
use half::{bf16, f16};

/// The width of an element, and its bits for a small integer.
fn element(name: &str, v: i32) -> (u32, u32) {
    match name {
        "f16" => (16, u32::from(f16::from_f32(v as f32).to_bits())),
        "bf16" => (16, u32::from(bf16::from_f32(v as f32).to_bits())),
        // The low 13 bits do not count.
        "tf32" => (32, (v as f32).to_bits() | 0x1ABC),
        "s8" | "u8" => (8, v as u32 & 0xFF),
        "s4" | "u4" => (4, v as u32 & 0xF),
        // Integers up to 8 have three bits: f16 has the exponents of e5m2, e4m3 another bias.
        "e5m2" => (8, u32::from(f16::from_f32(v as f32).to_bits() >> 8)),
        _ => {
            let bits = (v as f32).to_bits();
            let exponent = if v == 0 { 0 } else { (bits >> 23 & 0xFF) - 127 + 7 };
            (8, bits >> 24 & 0x80 | exponent << 3 | bits >> 20 & 7)
        }
    }
}

/// Row and column of element `i` of A that a lane holds.
fn place_a(width: u32, depth: usize, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane & 3);
    match (width, depth) {
        (4, _) => {
            let row = if i < 8 || (16..24).contains(&i) { group } else { group + 8 };
            (row, thread * 8 + (i & 7) + if i < 16 { 0 } else { 32 })
        }
        (16, 16) => {
            let row = if i < 2 || (4..6).contains(&i) { group } else { group + 8 };
            (row, thread * 2 + (i & 1) + if i < 4 { 0 } else { 8 })
        }
        (16, _) => (if i < 2 { group } else { group + 8 }, thread * 2 + (i & 1)),
        (32, _) => {
            (if i.is_multiple_of(2) { group } else { group + 8 }, if i < 2 { thread } else { thread + 4 })
        }
        (_, 32) => {
            let row = if i < 4 || (8..12).contains(&i) { group } else { group + 8 };
            (row, thread * 4 + (i & 3) + if i < 8 { 0 } else { 16 })
        }
        _ => (if i < 4 { group } else { group + 8 }, thread * 4 + (i & 3)),
    }
}

/// Row and column of element `i` of B.
fn place_b(width: u32, lane: usize, i: usize) -> (usize, usize) {
    let (group, thread) = (lane >> 2, lane & 3);
    let row = match width {
        16 => thread * 2 + (i & 1) + if i < 2 { 0 } else { 8 },
        32 => thread + if i == 0 { 0 } else { 4 },
        4 => thread * 8 + (i & 7) + if i < 8 { 0 } else { 32 },
        _ => thread * 4 + (i & 3) + if i < 4 { 0 } else { 16 },
    };
    (row, group)
}

#[test]
fn products_of_every_shape() {
    for shape in MmaShape::ALL.iter().filter(|shape| shape.fragments().0 != Ty::F64) {
        for seed in 0..20 {
            product(*shape, seed);
        }
    }
}

fn product(shape: MmaShape, seed: u64) {
    let kind = Kind::Mma(shape);
    let text = kind.to_string();
    let name = text.split('.').find(|part| part.starts_with('m') && part.contains('k')).unwrap();
    let depth: usize = name.split('k').nth(1).unwrap().parse().unwrap();
    let types: Vec<&str> = text.split('.').rev().take(4).collect();
    let (of_b, of_a, integers) = (types[1], types[2], types[0] == "s32");
    let (halves, clamps) = (types[0] == "f16", text.contains("satfinite"));
    let (_, nd, na, nb) = shape.fragments();
    let (nd, na, nb) = (usize::from(nd), usize::from(na), usize::from(nb));
    let mut numbers = Numbers::new(seed * 64 + depth as u64);
    let mut number = |name: &str| match name {
        "u8" => numbers.below(256) as i32,
        "s8" => numbers.below(256) as i32 - 128,
        "u4" => numbers.below(16) as i32,
        "s4" => numbers.below(16) as i32 - 8,
        _ => numbers.below(17) as i32 - 8,
    };
    let a: Vec<Vec<i32>> = (0..16).map(|_| (0..depth).map(|_| number(of_a)).collect()).collect();
    let b: Vec<Vec<i32>> = (0..depth).map(|_| (0..8).map(|_| number(of_b)).collect()).collect();
    let c: Vec<Vec<i32>> = (0..16)
        .map(|_| {
            // The sums of halves are below 2^11 and exact; clamped sums are near a limit.
            let edge = |x: i32| {
                if x & 1 == 1 { i32::MAX - (x >> 16 & 0xFFFF) } else { i32::MIN + (x >> 16 & 0xFFFF) }
            };
            let number = |x: i32| match x {
                x if clamps => edge(x),
                x if integers => x,
                x if halves => x >> 22,
                x => x >> 16,
            };
            (0..8).map(|_| number(numbers.bits() as i32)).collect()
        })
        .collect();

    let mut machine = Machine::new(&kind);
    let (width, _) = element(of_a, 0);
    let per_register = (32 / width) as usize;
    for lane in 0..32 {
        for r in 0..na {
            let word = (0..per_register).fold(0, |word, j| {
                let (row, column) = place_a(width, depth, lane, r * per_register + j);
                word | element(of_a, a[row][column]).1 << (j as u32 * width % 32)
            });
            machine.set(nd + r, lane, u64::from(word));
        }
        for r in 0..nb {
            let word = (0..per_register).fold(0, |word, j| {
                let (row, column) = place_b(width, lane, r * per_register + j);
                word | element(of_b, b[row][column]).1 << (j as u32 * width % 32)
            });
            machine.set(nd + na + r, lane, u64::from(word));
        }
        for i in 0..nd {
            let bits = accumulator(halves, lane, i, |row, column| number_bits(types[0], c[row][column]));
            machine.set(nd + na + nb + i, lane, u64::from(bits));
        }
    }
    machine.run(FULL);
    let expected = |row: usize, column: usize| {
        let sum: i32 = (0..depth).map(|k| a[row][k] * b[k][column]).sum();
        let c = c[row][column];
        number_bits(types[0], if clamps { c.saturating_add(sum) } else { c.wrapping_add(sum) })
    };
    for lane in 0..32 {
        for i in 0..nd {
            let bits = accumulator(halves, lane, i, expected);
            assert_eq!(machine.get(i, lane), u64::from(bits), "{text}, lane {lane}, register {i}");
        }
    }
}

fn number_bits(ty: &str, v: i32) -> u32 {
    match ty {
        "s32" => v as u32,
        "f16" => u32::from(f16::from_f32(v as f32).to_bits()),
        _ => (v as f32).to_bits(),
    }
}

/// Register `i` of C or D, which has two halves or one element.
fn accumulator(halves: bool, lane: usize, i: usize, bits: impl Fn(usize, usize) -> u32) -> u32 {
    let of = |i| {
        let (row, column) = place_c(lane, i);
        bits(row, column)
    };
    if halves { of(2 * i) | of(2 * i + 1) << 16 } else { of(i) }
}

/// Doubles: the tables of the PTX ISA, in which one register is one element.
#[test]
fn products_of_doubles() {
    let shapes = [(MmaShape::M8N8K4F64, 8, 4), (MmaShape::M16N8K4F64, 16, 4), (MmaShape::M16N8K8F64, 16, 8)];
    for (shape, rows, depth) in shapes {
        let (_, nd, na, nb) = shape.fragments();
        let (nd, na, nb) = (usize::from(nd), usize::from(na), usize::from(nb));
        let mut numbers = Numbers::new(depth as u64 + rows as u64);
        let mut matrix = |rows: usize, columns: usize| -> Vec<Vec<f64>> {
            let mut number = || (numbers.bits() as i64 >> 20) as f64 * 2f64.powi(-20);
            (0..rows).map(|_| (0..columns).map(|_| number()).collect()).collect()
        };
        let (a, b, c) = (matrix(rows, depth), matrix(depth, 8), matrix(rows, 8));
        let mut machine = Machine::new(&Kind::Mma(shape));
        for lane in 0..32 {
            let (group, thread) = (lane >> 2, lane & 3);
            for i in 0..na {
                let row = if i % 2 == 0 { group } else { group + 8 };
                let column = if i < 2 { thread } else { thread + 4 };
                machine.set(nd + i, lane, a[row][column].to_bits());
            }
            for i in 0..nb {
                machine.set(nd + na + i, lane, b[thread + 4 * i][group].to_bits());
            }
            for i in 0..nd {
                let (row, column) = place_c(lane, i);
                machine.set(nd + na + nb + i, lane, c[row][column].to_bits());
            }
        }
        machine.run(FULL);
        for lane in 0..32 {
            for i in 0..nd {
                let (row, column) = place_c(lane, i);
                let exact: f64 = (0..depth).map(|k| a[row][k] * b[k][column]).sum::<f64>() + c[row][column];
                let largest = (0..depth).map(|k| (a[row][k] * b[k][column]).abs()).fold(1.0, f64::max);
                let d = f64::from_bits(machine.get(i, lane));
                assert!((d - exact).abs() <= largest * 1e-15, "{shape:?}: {d} instead of {exact}");
            }
        }
    }
}

fn place_c(lane: usize, i: usize) -> (usize, usize) {
    ((lane >> 2) + if i < 2 { 0 } else { 8 }, (lane & 3) * 2 + (i & 1))
}

#[test]
fn a_nan_is_canonical_and_an_infinity_stays() {
    let mut machine = Machine::new(&Kind::Mma(MmaShape::M16N8K8F16));
    for operand in 4..7 {
        (0..32).for_each(|lane| machine.set(operand, lane, 0));
    }
    machine.set(7, 0, 0xFF80_0001);
    machine.set(7, 1, 0xFF80_0000);
    machine.run(FULL);
    assert_eq!((machine.get(0, 0), machine.get(0, 1)), (0x7FFF_FFFF, 0xFF80_0000));
}
