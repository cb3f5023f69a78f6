//! `mma.sync`: "Matrix Fragments for mma" of the PTX ISA. With `g = lane / 4` and `t = lane % 4`, register `r` of A
//! holds row `g + 8 * (r % 2)` and the elements of K from `t * n + (r / 2) * 4n`, `n` to a register; register `r` of B
//! column `g` and K from `t * n + r * 4n`; register `r` of C and D row `g + 8 * (r / 2)`, column `2t + r % 2`.
//!
//! A pair of halves is what two neighbouring registers are otherwise.
//!
//! Floats: every product is exact, products are added in f64 from the lowest K up, then to the accumulator, and the
//! sum is rounded once to f32 or f16. The hardware truncates in between, so results agree only within a few ulp of the
//! largest term. Doubles are fused products and sums from the lowest K up. Integers wrap, or are clamped once at the end.

use super::convert::{half_to_single, single_to_half};
use super::halves::odd_single;
use crate::inst::{MatrixElement, MmaShape};
use crate::interp::regs::{AluFn, Args, FULL, LANES, Regs};
use crate::ty::Ty;

impl MatrixElement {
    /// Element `i` of a register. All formats are exact in f64.
    #[inline(always)]
    pub(in crate::interp) fn get(self, word: u32, i: usize) -> f64 {
        let raw = word >> (i * self.bits() as usize);
        match self {
            Self::F32 => single(raw),
            Self::S32 => f64::from(raw as i32),
            // Doubles have registers of their own.
            Self::F64 => 0.0,
            Self::F16 => single(half_to_single(raw)),
            Self::BF16 => single(raw << 16),
            // The hardware ignores the low 13 bits.
            Self::TF32 => single(raw & !0x1FFF),
            Self::S8 => f64::from(raw as u8 as i8),
            Self::U8 => f64::from(raw as u8),
            Self::S4 => f64::from((raw << 28) as i32 >> 28),
            Self::U4 => f64::from(raw & 0xF),
            Self::E4M3 => single(e4m3_to_single(raw)),
            Self::E5M2 => single(half_to_single(raw << 8)),
        }
    }
}

/// The single that the low 8 bits are as e4m3: the fields moved into place, the bias mended by an exact product.
#[inline(always)]
fn e4m3_to_single(byte: u32) -> u32 {
    const SCALE: f32 = f32::from_bits((120 + 127) << 23);
    let magnitude = byte & 0x7F;
    if magnitude == 0x7F {
        return f32::NAN.to_bits();
    }
    (f32::from_bits(magnitude << 20) * SCALE).to_bits() | (byte & 0x80) << 24
}

pub(super) fn index(shape: MmaShape) -> u32 {
    MmaShape::ALL.iter().position(|other| *other == shape).unwrap_or(0) as u32
}

pub(super) fn lower(shape: MmaShape) -> AluFn {
    match shape.factors().0 {
        MatrixElement::F64 => run_doubles,
        MatrixElement::S4 | MatrixElement::U4 => run::<64>,
        _ => run::<32>,
    }
}

/// The 16 rows of A in the `registers` registers of a warp.
pub(in crate::interp) fn fragment_a<const K: usize>(
    of: MatrixElement,
    registers: usize,
    word: impl Fn(usize, usize) -> u32,
) -> [[f64; K]; 16] {
    let n = 32 / of.bits() as usize;
    let mut a = [[0.0; K]; 16];
    for lane in 0..LANES {
        let (g, t) = (lane / 4, lane % 4);
        for r in 0..registers {
            for i in 0..n {
                a[g + 8 * (r % 2)][t * n + (r / 2) * 4 * n + i] = of.get(word(r, lane), i);
            }
        }
    }
    a
}

/// How sums of products and accumulators come together.
#[derive(Clone, Copy, Debug)]
pub(in crate::interp) struct Sums {
    /// f32, s32, or f16 in pairs.
    pub(in crate::interp) ty: Ty,
    /// Integers are clamped.
    pub(in crate::interp) clamps: bool,
    /// The accumulator counts.
    pub(in crate::interp) adds: bool,
    /// Products are taken off.
    pub(in crate::interp) negative: bool,
}

impl Sums {
    /// Registers that a thread has for eight columns.
    pub(in crate::interp) fn registers(self) -> usize {
        if self.ty == Ty::F16 { 2 } else { 4 }
    }

    /// What a register `c` becomes: from the first sum, for halves from the first two.
    #[inline(always)]
    pub(in crate::interp) fn add(self, c: u32, sums: &[f64]) -> u32 {
        let c = if self.adds { c } else { 0 };
        let sum = |i: usize| if self.negative { -sums[i] } else { sums[i] };
        match self.ty {
            Ty::F16 => {
                let half = |i: usize| add_half(single(half_to_single(c >> (16 * i))), sum(i)) << (16 * i);
                half(0) | half(1)
            }
            Ty::S32 => add_integer(c, sum(0), self.clamps),
            _ => add_single(single(c), sum(0)),
        }
    }
}

/// The value of a single by its bits.
#[inline(always)]
pub(super) fn single(bits: u32) -> f64 {
    f64::from(f32::from_bits(bits))
}

/// The bits of a half: `c` and a sum of products, rounded once.
#[inline(always)]
pub(super) fn add_half(c: f64, sum: f64) -> u32 {
    single_to_half(odd_single(sum + c))
}

/// The same of a single.
#[inline(always)]
pub(super) fn add_single(c: f64, sum: f64) -> u32 {
    super::float::bits32((sum + c) as f32, super::float::NAN32)
}

/// The same of an integer, wrapped or clamped.
#[inline(always)]
pub(super) fn add_integer(c: u32, sum: f64, clamps: bool) -> u32 {
    let sum = i64::from(c as i32) + sum as i64;
    if clamps { sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as u32 } else { sum as u32 }
}

/// Of shapes whose K is at most so much. The whole warp has to be there; EXEC sees to it. The shape is in the last
/// slot.
fn run<const K: usize>(regs: &mut Regs, args: &Args, mask: u32) {
    let Some(&shape) = MmaShape::ALL.get(args.slots[super::EXTRA] as usize) else { return };
    if mask != FULL {
        return;
    }
    let (ty, nd, na, nb) = shape.fragments();
    let (nd, na, nb) = (usize::from(nd), usize::from(na), usize::from(nb));
    let (of_a, of_b) = shape.factors();
    let n = 32 / of_b.bits() as usize;
    let depth = nb * 4 * n;
    let word = |slot: usize, lane: usize| regs.w[args.slots[slot] as usize][lane];
    let a = fragment_a::<K>(of_a, na, |r, lane| word(nd + r, lane));
    let mut b = [[0.0; 8]; K];
    for lane in 0..LANES {
        let (g, t) = (lane / 4, lane % 4);
        for r in 0..nb {
            for i in 0..n {
                b[t * n + r * 4 * n + i][g] = of_b.get(word(nd + na + r, lane), i);
            }
        }
    }
    let products = products(&a, &b[..depth]);
    let ty = if ty == Ty::U32 { Ty::F16 } else { ty };
    let sums = Sums { ty, clamps: shape.is_clamped(), adds: true, negative: false };
    let per_row = sums.registers() / 2;
    let mut results = [[0u32; LANES]; 4];
    for (r, d) in results.iter_mut().enumerate().take(nd) {
        for (lane, d) in d.iter_mut().enumerate() {
            let (row, column) = (lane / 4 + 8 * (r / per_row), lane % 4 * 2 + r % per_row);
            *d = sums.add(word(nd + na + nb + r, lane), &products[row][column..]);
        }
    }
    for (d, slot) in results.iter().zip(&args.slots[..nd]) {
        regs.w[*slot as usize] = *d;
    }
}

/// [`run`] for doubles.
fn run_doubles(regs: &mut Regs, args: &Args, mask: u32) {
    let Some(&shape) = MmaShape::ALL.get(args.slots[super::EXTRA] as usize) else { return };
    if mask != FULL {
        return;
    }
    let (_, nd, na, nb) = shape.fragments();
    let (nd, na, nb) = (usize::from(nd), usize::from(na), usize::from(nb));
    let value = |slot: usize, lane: usize| f64::from_bits(regs.l[args.slots[slot] as usize][lane]);
    let mut results = [[0u64; LANES]; 4];
    for (r, d) in results.iter_mut().enumerate().take(nd) {
        for (lane, d) in d.iter_mut().enumerate() {
            let (half, column) = (r / 2, lane % 4 * 2 + r % 2);
            let sum = (0..4 * nb).fold(value(nd + na + nb + r, lane), |sum, k| {
                let a = value(nd + half + k / 4 * (na / nb), lane / 4 * 4 + k % 4);
                let b = value(nd + na + k / 4, column * 4 + k % 4);
                a.mul_add(b, sum)
            });
            *d = super::float::bits64(sum, super::float::NAN64);
        }
    }
    for (d, slot) in results.iter().zip(&args.slots[..nd]) {
        regs.l[*slot as usize] = *d;
    }
}

/// The product of two matrices, `b` by rows.
pub(in crate::interp) fn products<const K: usize>(a: &[[f64; K]; 16], b: &[[f64; 8]]) -> [[f64; 8]; 16] {
    #[cfg(target_arch = "x86_64")]
    if super::lanes::has_wide_vectors() {
        // SAFETY: the processor has the features that the function is compiled for.
        return unsafe { products_wide(a, b) };
    }
    products_lanes(a, b)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn products_wide<const K: usize>(a: &[[f64; K]; 16], b: &[[f64; 8]]) -> [[f64; 8]; 16] {
    products_lanes(a, b)
}

#[inline(always)]
fn products_lanes<const K: usize>(a: &[[f64; K]; 16], b: &[[f64; 8]]) -> [[f64; 8]; 16] {
    let mut sums = [[0.0; 8]; 16];
    for (row, sums) in a.iter().zip(&mut sums) {
        for (x, b) in row.iter().zip(b) {
            for (sum, y) in sums.iter_mut().zip(b) {
                *sum += x * y;
            }
        }
    }
    sums
}
