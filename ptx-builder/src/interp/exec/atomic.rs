//! `atom` and `red`.

use super::block::Env;
use super::transfer::{addresses, read_lane, write_lane};
use crate::inst::{AtomOp, Space};
use crate::interp::finding::Fault;
use crate::interp::memory::{Access, Order, Site, Strength};
use crate::interp::program::AtomicStep;
use crate::interp::regs::{LANES, Regs};
use crate::ty::Ty;
use half::{bf16, f16};

impl Env<'_, '_> {
    pub(super) fn atomic(
        &mut self,
        warp: u32,
        pc: u32,
        regs: &mut Regs,
        step: &AtomicStep,
        mask: u32,
    ) -> Result<(), Fault> {
        if mask == 0 {
            return Ok(());
        }
        // Locks and counters that others change are read by atomic operations too.
        self.polls += u32::from(step.dest.is_some() && step.pointer.space != Space::Shared);
        let order = match (step.acquire, step.release) {
            (false, false) => Order::Relaxed,
            (true, false) => Order::Acquire,
            (false, true) => Order::Release,
            (true, true) => Order::AcqRel,
        };
        let bytes = u8::try_from(step.ty.bytes()).unwrap_or(8);
        let strength = Strength::Strong { order, scope: step.scope };
        let access = Access { space: step.pointer.space, bytes, strength };
        addresses(regs, &step.pointer, &mut self.buffers.addresses);
        let mut old = [0u64; LANES];
        let operand = |lane: usize, i: usize| step.values[i].map_or(0, |e| read_lane(regs, e, lane));
        let flush = step.pointer.space == Space::Global;
        let mut f = |lane: usize, before: u64| {
            if let Some(slot) = old.get_mut(lane) {
                *slot = before;
            }
            apply(step.op, step.ty, before, operand(lane, 0), operand(lane, 1), flush)
        };
        self.memory.atomic(Site { warp, pc }, &access, mask, &self.buffers.addresses, &mut f)?;
        if let Some(dest) = step.dest {
            for lane in super::lanes(mask) {
                write_lane(regs, dest, lane, old[lane]);
            }
        }
        Ok(())
    }
}

/// The value that an operation leaves in memory.
fn apply(op: AtomOp, ty: Ty, old: u64, a: u64, b: u64, flush: bool) -> u64 {
    let ones = if ty.bits() >= 64 { u64::MAX } else { (1 << ty.bits()) - 1 };
    let (a, b) = (a & ones, b & ones);
    let signed = |v: u64| (v << (64 - ty.bits())).cast_signed() >> (64 - ty.bits());
    let new = match op {
        AtomOp::Add => add(ty, old, a, flush),
        AtomOp::Min if ty.is_signed() => {
            if signed(a) < signed(old) {
                a
            } else {
                old
            }
        }
        AtomOp::Max if ty.is_signed() => {
            if signed(a) > signed(old) {
                a
            } else {
                old
            }
        }
        AtomOp::Min => old.min(a),
        AtomOp::Max => old.max(a),
        AtomOp::Inc => {
            if old >= a {
                0
            } else {
                old + 1
            }
        }
        AtomOp::Dec => {
            if old == 0 || old > a {
                a
            } else {
                old - 1
            }
        }
        AtomOp::And => old & a,
        AtomOp::Or => old | a,
        AtomOp::Xor => old ^ a,
        AtomOp::Exch => a,
        AtomOp::Cas => {
            if old == a {
                b
            } else {
                old
            }
        }
    };
    new & ones
}

#[expect(clippy::cast_possible_truncation, reason = "values have the width of the type")]
fn add(ty: Ty, old: u64, a: u64, flush: bool) -> u64 {
    let halves = |f: fn(u16, u16) -> u16| {
        let low = f(old as u16, a as u16);
        let high = f((old >> 16) as u16, (a >> 16) as u16);
        u64::from(low) | u64::from(high) << 16
    };
    // A NaN is the canonical one, as of arithmetic.
    let h16: fn(u16, u16) -> u16 = |x, y| {
        let sum = f16::from_bits(x) + f16::from_bits(y);
        if sum.is_nan() { 0x7FFF } else { sum.to_bits() }
    };
    let b16: fn(u16, u16) -> u16 = |x, y| {
        let sum = bf16::from_bits(x) + bf16::from_bits(y);
        if sum.is_nan() { 0x7FFF } else { sum.to_bits() }
    };
    match ty {
        // On global memory, subnormal operands and results are zero.
        Ty::F32 => {
            let ftz = |v: f32| if flush && v.is_subnormal() { 0f32.copysign(v) } else { v };
            let sum = ftz(f32::from_bits(old as u32)) + ftz(f32::from_bits(a as u32));
            u64::from(if sum.is_nan() { 0x7FFF_FFFF } else { ftz(sum).to_bits() })
        }
        Ty::F64 => {
            let sum = f64::from_bits(old) + f64::from_bits(a);
            if sum.is_nan() { 0xFFF8_0000_0000_0000 } else { sum.to_bits() }
        }
        Ty::F16 => u64::from(h16(old as u16, a as u16)),
        Ty::BF16 => u64::from(b16(old as u16, a as u16)),
        Ty::F16x2 => halves(h16),
        Ty::BF16x2 => halves(b16),
        _ => old.wrapping_add(a),
    }
}
