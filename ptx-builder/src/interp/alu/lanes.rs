//! Loops over the lanes of a warp. The full mask is a loop without branches that the compiler vectorises; operands are
//! copied first, so that a result may be one of them.

use crate::interp::regs::{Args, FULL, LANES, Regs};

/// A register as arithmetic sees it.
pub(super) trait Row: Copy + Default {
    fn row(regs: &Regs, slot: u32) -> [Self; LANES];
    fn row_mut(regs: &mut Regs, slot: u32) -> &mut [Self; LANES];
}

impl Row for u32 {
    #[inline(always)]
    fn row(regs: &Regs, slot: u32) -> [u32; LANES] {
        regs.w[slot as usize]
    }

    #[inline(always)]
    fn row_mut(regs: &mut Regs, slot: u32) -> &mut [u32; LANES] {
        &mut regs.w[slot as usize]
    }
}

impl Row for u64 {
    #[inline(always)]
    fn row(regs: &Regs, slot: u32) -> [u64; LANES] {
        regs.l[slot as usize]
    }

    #[inline(always)]
    fn row_mut(regs: &mut Regs, slot: u32) -> &mut [u64; LANES] {
        &mut regs.l[slot as usize]
    }
}

/// Whether a lane is in a mask.
#[inline(always)]
pub(super) fn is_set(mask: u32, lane: usize) -> bool {
    mask >> lane & 1 == 1
}

/// Fills the lanes of a mask of a register.
#[inline(always)]
pub(super) fn store<D: Row>(regs: &mut Regs, slot: u32, mask: u32, value: impl Fn(usize) -> D) {
    let row = D::row_mut(regs, slot);
    if mask != FULL {
        for (lane, out) in row.iter_mut().enumerate() {
            if is_set(mask, lane) {
                *out = value(lane);
            }
        }
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if has_wide_vectors() {
        // SAFETY: the processor has the features that the function is compiled for.
        return unsafe { fill_wide(row, value) };
    }
    fill(row, value);
}

#[inline(always)]
fn fill<D: Row>(row: &mut [D; LANES], value: impl Fn(usize) -> D) {
    for (lane, out) in row.iter_mut().enumerate() {
        *out = value(lane);
    }
}

/// Has the processor what [`fill_wide`] and other such functions are compiled for?
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(super) fn has_wide_vectors() -> bool {
    std::is_x86_feature_detected!("avx2") && std::is_x86_feature_detected!("fma")
}

/// [`fill`] with 8 words to a vector, products and shifts of vectors, and the instruction for fused sums in the place
/// of a call.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn fill_wide<D: Row>(row: &mut [D; LANES], value: impl Fn(usize) -> D) {
    fill(row, value);
}

/// `d = f(a)`.
#[inline(always)]
pub(super) fn map1<D: Row, A: Row>(regs: &mut Regs, args: &Args, mask: u32, f: impl Fn(A) -> D) {
    let a = A::row(regs, args.slots[1]);
    store(regs, args.slots[0], mask, |i| f(a[i]));
}

/// `d = f(a, b)`.
#[inline(always)]
pub(super) fn map2<D: Row, A: Row, B: Row>(regs: &mut Regs, args: &Args, mask: u32, f: impl Fn(A, B) -> D) {
    let (a, b) = (A::row(regs, args.slots[1]), B::row(regs, args.slots[2]));
    store(regs, args.slots[0], mask, |i| f(a[i], b[i]));
}

/// `d = f(a, b, c)`.
#[inline(always)]
pub(super) fn map3<D: Row, A: Row, B: Row, C: Row>(
    regs: &mut Regs,
    args: &Args,
    mask: u32,
    f: impl Fn(A, B, C) -> D,
) {
    let (a, b) = (A::row(regs, args.slots[1]), B::row(regs, args.slots[2]));
    let c = C::row(regs, args.slots[3]);
    store(regs, args.slots[0], mask, |i| f(a[i], b[i], c[i]));
}

/// `d = f(a, b, c, e)`.
#[inline(always)]
pub(super) fn map4<D: Row, A: Row, B: Row, C: Row, E: Row>(
    regs: &mut Regs,
    args: &Args,
    mask: u32,
    f: impl Fn(A, B, C, E) -> D,
) {
    let (a, b) = (A::row(regs, args.slots[1]), B::row(regs, args.slots[2]));
    let (c, e) = (C::row(regs, args.slots[3]), E::row(regs, args.slots[4]));
    store(regs, args.slots[0], mask, |i| f(a[i], b[i], c[i], e[i]));
}

/// The lanes of predicate operand `index`, negated where the instruction says so.
#[inline(always)]
pub(super) fn predicate(regs: &Regs, args: &Args, index: usize) -> u32 {
    let lanes = regs.p[args.slots[index] as usize];
    if args.negated >> index & 1 == 1 { !lanes } else { lanes }
}

/// Writes the lanes of `mask` of a predicate.
#[inline(always)]
pub(super) fn set_predicate(regs: &mut Regs, slot: u32, mask: u32, lanes: u32) {
    let row = &mut regs.p[slot as usize];
    *row = *row & !mask | lanes & mask;
}

/// The lanes for which `f(a, b)` holds.
#[inline(always)]
pub(super) fn test2<A: Row>(regs: &Regs, [a, b]: [u32; 2], f: impl Fn(A, A) -> bool) -> u32 {
    let (a, b) = (A::row(regs, a), A::row(regs, b));
    let mut lanes = 0;
    for i in 0..LANES {
        lanes |= u32::from(f(a[i], b[i])) << i;
    }
    lanes
}
