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
use crate::inst::{Factor, MmaShape};
use crate::interp::regs::{AluFn, Args, FULL, LANES, Regs};
use crate::ty::Ty;

impl Factor {
    const fn bits(self) -> usize {
        match self {
            Self::F64 => 64,
            Self::TF32 => 32,
            Self::F16 | Self::BF16 => 16,
            Self::S8 | Self::U8 | Self::E4M3 | Self::E5M2 => 8,
            Self::S4 | Self::U4 => 4,
        }
    }

    const fn is_integer(self) -> bool {
        matches!(self, Self::S8 | Self::U8 | Self::S4 | Self::U4)
    }

    /// Element `i` of a register. All formats are exact in f64.
    #[inline(always)]
    pub(super) fn get(self, word: u32, i: usize) -> f64 {
        let raw = word >> (i * self.bits());
        let single = |bits: u32| f64::from(f32::from_bits(bits));
        match self {
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
        Factor::F64 => run_doubles,
        Factor::S4 | Factor::U4 => run::<64>,
        _ => run::<32>,
    }
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
    let n = 32 / of_a.bits();
    let integers = of_a.is_integer();
    let clamped = shape.is_clamped();
    let depth = nb * 4 * n;
    let mut a = [[0.0; K]; 16];
    let mut b = [[0.0; 8]; K];
    let word = |slot: usize, lane: usize| regs.w[args.slots[slot] as usize][lane];
    for lane in 0..LANES {
        let (g, t) = (lane / 4, lane % 4);
        for r in 0..na {
            for i in 0..n {
                a[g + 8 * (r % 2)][t * n + (r / 2) * 4 * n + i] = of_a.get(word(nd + r, lane), i);
            }
        }
        for r in 0..nb {
            for i in 0..n {
                b[t * n + r * 4 * n + i][g] = of_b.get(word(nd + na + r, lane), i);
            }
        }
    }
    let sums = products(&a, &b[..depth]);
    let mut results = [[0u32; LANES]; 4];
    for (r, d) in results.iter_mut().enumerate().take(nd) {
        for (lane, d) in d.iter_mut().enumerate() {
            let c = word(nd + na + nb + r, lane);
            if ty == Ty::U32 {
                let sums = &sums[lane / 4 + 8 * r][lane % 4 * 2..];
                let half = |i: usize| {
                    let c = f64::from(f32::from_bits(half_to_single(c >> (16 * i))));
                    single_to_half(odd_single(sums[i] + c)) << (16 * i)
                };
                *d = half(0) | half(1);
                continue;
            }
            let (row, column) = (lane / 4 + 8 * (r / 2), lane % 4 * 2 + r % 2);
            let sum = sums[row][column];
            *d = if clamped {
                let sum = i64::from(c as i32) + sum as i64;
                sum.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as u32
            } else if integers {
                (c as i32).wrapping_add(sum as i64 as i32) as u32
            } else {
                let sum = (sum + f64::from(f32::from_bits(c))) as f32;
                super::float::bits32(sum, super::float::NAN32)
            };
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
fn products<const K: usize>(a: &[[f64; K]; 16], b: &[[f64; 8]]) -> [[f64; 8]; 16] {
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
