//! `mma` against a matrix product of three loops, with the fragments as the tables of the PTX ISA have them.

use super::{Machine, Numbers};
use crate::inst::{Kind, MmaShape};
use crate::interp::regs::FULL;
use half::{bf16, f16};

/// The width of an element, and its bits for a small integer.
fn element(name: &str, v: i32) -> (u32, u32) {
    match name {
        "f16" => (16, u32::from(f16::from_f32(v as f32).to_bits())),
        "bf16" => (16, u32::from(bf16::from_f32(v as f32).to_bits())),
        // The low 13 bits do not count.
        "tf32" => (32, (v as f32).to_bits() | 0x1ABC),
        "s8" | "u8" => (8, v as u32 & 0xFF),
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
        _ => thread * 4 + (i & 3) + if i < 4 { 0 } else { 16 },
    };
    (row, group)
}

#[test]
fn products_of_every_shape() {
    for shape in MmaShape::ALL {
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
    let (_, nd, na, nb) = shape.fragments();
    let (nd, na, nb) = (usize::from(nd), usize::from(na), usize::from(nb));
    let mut numbers = Numbers::new(seed * 64 + depth as u64);
    let mut number = |name: &str| match name {
        "u8" => numbers.below(256) as i32,
        "s8" => numbers.below(256) as i32 - 128,
        _ => numbers.below(17) as i32 - 8,
    };
    let a: Vec<Vec<i32>> = (0..16).map(|_| (0..depth).map(|_| number(of_a)).collect()).collect();
    let b: Vec<Vec<i32>> = (0..depth).map(|_| (0..8).map(|_| number(of_b)).collect()).collect();
    let c: Vec<Vec<i32>> = (0..16)
        .map(|_| (0..8).map(|_| numbers.bits() as i32 >> if integers { 0 } else { 16 }).collect())
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
            let (row, column) = place_c(lane, i);
            let value = c[row][column];
            let bits = if integers { value as u32 } else { (value as f32).to_bits() };
            machine.set(nd + na + nb + i, lane, u64::from(bits));
        }
    }
    machine.run(FULL);
    for lane in 0..32 {
        for i in 0..nd {
            let (row, column) = place_c(lane, i);
            let sum: i32 = (0..depth).map(|k| a[row][k] * b[k][column]).sum();
            let expected = c[row][column].wrapping_add(sum);
            let bits = if integers { expected as u32 } else { (expected as f32).to_bits() };
            assert_eq!(machine.get(i, lane), u64::from(bits), "{text}, row {row}, column {column}");
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
