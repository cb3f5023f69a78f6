//! `mov` between registers, and between a register and the vector of its parts.

use super::lanes::{Row, set_predicate, store};
use crate::interp::regs::{AluFn, Args, File, LANES, Regs};
use crate::ty::Ty;

fn copy<R: Row>(regs: &mut Regs, args: &Args, mask: u32) {
    let a = R::row(regs, args.slots[1]);
    store(regs, args.slots[0], mask, |i| a[i]);
}

fn copy_pred(regs: &mut Regs, args: &Args, mask: u32) {
    let a = super::lanes::predicate(regs, args, 1);
    set_predicate(regs, args.slots[0], mask, a);
}

pub(super) fn mov(files: &[File]) -> Option<AluFn> {
    Some(match (files.first()?, files.get(1)?) {
        (File::P, File::P) => copy_pred,
        (File::W, File::W) => copy::<u32>,
        (File::L, File::L) => copy::<u64>,
        _ => return None,
    })
}

fn pack<D: Row, P: Row, const PARTS: usize>(
    regs: &mut Regs,
    args: &Args,
    mask: u32,
    join: impl Fn([P; PARTS]) -> D,
) {
    let mut parts = [[P::default(); LANES]; PARTS];
    for (part, slot) in parts.iter_mut().zip(&args.slots[1..]) {
        *part = P::row(regs, *slot);
    }
    store(regs, args.slots[0], mask, |i| join(std::array::from_fn(|part| parts[part][i])));
}

fn pack_32(regs: &mut Regs, args: &Args, mask: u32) {
    pack(regs, args, mask, |[lo, hi]: [u32; 2]| hi << 16 | lo & 0xFFFF);
}

fn pack_32_bytes(regs: &mut Regs, args: &Args, mask: u32) {
    pack(regs, args, mask, |parts: [u32; 4]| u32::from_le_bytes(parts.map(|part| part as u8)));
}

fn pack_64(regs: &mut Regs, args: &Args, mask: u32) {
    pack(regs, args, mask, |[lo, hi]: [u32; 2]| u64::from(hi) << 32 | u64::from(lo));
}

fn pack_64_halves(regs: &mut Regs, args: &Args, mask: u32) {
    pack(regs, args, mask, |parts: [u32; 4]| {
        parts.iter().rev().fold(0u64, |word, part| word << 16 | u64::from(part & 0xFFFF))
    });
}

pub(super) fn lower_pack(ty: Ty, parts: u8) -> Option<AluFn> {
    Some(match (ty.bits(), parts) {
        (32, 2) => pack_32,
        (32, 4) => pack_32_bytes,
        (64, 2) => pack_64,
        (64, 4) => pack_64_halves,
        _ => return None,
    })
}

fn unpack<S: Row, const PARTS: usize>(
    regs: &mut Regs,
    args: &Args,
    mask: u32,
    part: impl Fn(S, usize) -> u32,
) {
    let a = S::row(regs, args.slots[PARTS]);
    for (index, slot) in args.slots[..PARTS].iter().enumerate() {
        store(regs, *slot, mask, |i| part(a[i], index));
    }
}

fn unpack_32(regs: &mut Regs, args: &Args, mask: u32) {
    unpack::<u32, 2>(regs, args, mask, |word, part| word >> (16 * part) & 0xFFFF);
}

fn unpack_32_bytes(regs: &mut Regs, args: &Args, mask: u32) {
    unpack::<u32, 4>(regs, args, mask, |word, part| word >> (8 * part) & 0xFF);
}

fn unpack_64(regs: &mut Regs, args: &Args, mask: u32) {
    unpack::<u64, 2>(regs, args, mask, |word, part| (word >> (32 * part)) as u32);
}

fn unpack_64_halves(regs: &mut Regs, args: &Args, mask: u32) {
    unpack::<u64, 4>(regs, args, mask, |word, part| (word >> (16 * part)) as u32 & 0xFFFF);
}

pub(super) fn lower_unpack(ty: Ty, parts: u8) -> Option<AluFn> {
    Some(match (ty.bits(), parts) {
        (32, 2) => unpack_32,
        (32, 4) => unpack_32_bytes,
        (64, 2) => unpack_64,
        (64, 4) => unpack_64_halves,
        _ => return None,
    })
}
