//! `wmma`: fragments, and what moves them. The PTX ISA leaves open what a register of a fragment holds. Here the
//! elements are numbered so that those of one sum are next to each other, in A by rows and in B by columns, and in C
//! and D by rows; a lane has an equal share of them in order. Registers beyond that repeat them.

use super::block::Env;
use super::lanes;
use super::transfer::{addresses, read_lane, write_lane};
use crate::inst::{MatrixElement, MatrixLayout, Space, WmmaMatrix, WmmaProduct};
use crate::interp::alu;
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::memory::{Access, Site, Strength};
use crate::interp::program::{Element, WmmaMoveStep, WmmaStep};
use crate::interp::regs::{FULL, LANES, Regs};

/// The elements of a matrix that a lane has in the fragment of each matrix.
struct Share {
    /// Elements of a lane.
    elements: usize,
    /// Elements of a register.
    packed: usize,
    bits: usize,
}

impl Share {
    fn new(count: usize, element: MatrixElement) -> Self {
        let bits = element.bits() as usize;
        Self { elements: count / LANES, packed: (32 / bits).max(1), bits }
    }

    /// Element `i` of a lane.
    fn get(&self, regs: &Regs, fragment: &[Element], lane: usize, i: usize) -> u64 {
        let word = read_lane(regs, fragment[i / self.packed], lane);
        if self.bits == 64 { word } else { word >> (i % self.packed * self.bits) & ((1 << self.bits) - 1) }
    }

    /// Sets the registers of a lane from its elements.
    fn set(&self, regs: &mut Regs, fragment: &[Element], lane: usize, element: impl Fn(usize) -> u64) {
        for (r, register) in fragment.iter().enumerate() {
            let parts = (0..self.packed).map(|i| {
                let i = r * self.packed + i;
                element(i % self.elements) << (i % self.packed * self.bits)
            });
            write_lane(regs, *register, lane, parts.fold(0, |word, part| word | part));
        }
    }
}

/// Where the elements of a matrix are.
struct Plan {
    share: Share,
    /// Elements that are next to each other in number.
    inner: usize,
    /// Are they in memory, too?
    along: bool,
    /// Bytes of an access, and the elements in it.
    bytes: usize,
    together: usize,
}

impl Plan {
    fn new(step: &WmmaMoveStep) -> Self {
        let (m, n, k) = step.of.shape.dimensions();
        let (outer, inner, natural) = match step.of.matrix {
            WmmaMatrix::A => (m, k, MatrixLayout::Row),
            WmmaMatrix::B => (n, k, MatrixLayout::Col),
            WmmaMatrix::C | WmmaMatrix::D => (m, n, MatrixLayout::Row),
        };
        let share = Share::new(usize::from(outer) * usize::from(inner), step.of.element);
        let together = (8 / share.bits).max(1);
        Self {
            inner: usize::from(inner),
            along: step.of.layout == natural,
            bytes: (share.bits / 8).max(1),
            together,
            share,
        }
    }

    /// How far the rows or columns are apart that begin one after the other, if the instruction does not say so.
    fn stride(&self) -> u64 {
        let outer = self.share.elements * LANES / self.inner;
        (if self.along { self.inner } else { outer }) as u64
    }

    fn access(&self, space: Space) -> Access {
        Access { space, bytes: u8::try_from(self.bytes).unwrap_or(u8::MAX), strength: Strength::Weak }
    }

    /// The offset in bytes of an element.
    fn offset(&self, element: usize, stride: u64) -> u64 {
        let (outer, inner) = ((element / self.inner) as u64, (element % self.inner) as u64);
        let elements = if self.along { outer * stride + inner } else { inner * stride + outer };
        elements * self.share.bits as u64 / 8
    }
}

impl Env<'_, '_> {
    /// The addresses of element `i` of each lane. All lanes have to give the same address and stride.
    fn wmma_addresses(
        &mut self,
        at: Site,
        regs: &Regs,
        (step, plan): (&WmmaMoveStep, &Plan),
        i: usize,
    ) -> Result<(), Fault> {
        addresses(regs, &step.pointer, &mut self.buffers.addresses);
        let first = self.buffers.addresses[0];
        let stride_of = |lane| step.stride.map_or(plan.stride(), |s| read_lane(regs, s, lane) & 0xFFFF_FFFF);
        let stride = stride_of(0);
        let addresses = &mut self.buffers.addresses;
        let other = (0..LANES).filter(|lane| addresses[*lane] != first || stride_of(*lane) != stride);
        let other = other.fold(0, |mask, lane| mask | 1 << lane);
        if other != 0 {
            let detail = "the lanes of a warp give different addresses or strides of a matrix".to_owned();
            return Err(self.fault(FindingKind::InvalidUse, at.warp, at.pc, other, detail));
        }
        for (lane, address) in addresses.iter_mut().enumerate() {
            *address = first.wrapping_add(plan.offset(lane * plan.share.elements + i, stride));
            if step.pointer.space == Space::Shared {
                *address &= 0xFFFF_FFFF;
            }
        }
        Ok(())
    }

    /// `wmma.load`.
    pub(super) fn load_wmma(
        &mut self,
        at: Site,
        regs: &mut Regs,
        step: &WmmaMoveStep,
        mask: u32,
    ) -> Result<(), Fault> {
        let plan = Plan::new(step);
        let access = plan.access(step.pointer.space);
        let mut elements = vec![[0u64; LANES]; plan.share.elements];
        for i in (0..plan.share.elements).step_by(plan.together) {
            self.wmma_addresses(at, regs, (step, &plan), i)?;
            if !self.block.in_flight.is_empty() {
                self.check_in_flight(at.warp, at.pc, &access, mask);
            }
            let buffers = &mut *self.buffers;
            self.memory.load(at, &access, mask, &buffers.addresses, &mut buffers.data)?;
            for lane in lanes(mask) {
                let data = &buffers.data[lane];
                let value = u64::from(data[0]) | u64::from(data[1]) << 32;
                for part in 0..plan.together {
                    let low = value >> (part * plan.share.bits);
                    let ones = u64::MAX >> (64 - plan.share.bits);
                    elements[i + part][lane] = low & ones;
                }
            }
        }
        for lane in lanes(mask) {
            plan.share.set(regs, &step.fragment, lane, |i| elements[i][lane]);
        }
        Ok(())
    }

    /// `wmma.store`.
    pub(super) fn store_wmma(
        &mut self,
        at: Site,
        regs: &Regs,
        step: &WmmaMoveStep,
        mask: u32,
    ) -> Result<(), Fault> {
        let plan = Plan::new(step);
        let access = plan.access(step.pointer.space);
        for i in 0..plan.share.elements {
            self.wmma_addresses(at, regs, (step, &plan), i)?;
            let buffers = &mut *self.buffers;
            for lane in lanes(mask) {
                let value = plan.share.get(regs, &step.fragment, lane, i);
                #[expect(clippy::cast_possible_truncation, reason = "two words")]
                let words = [value as u32, (value >> 32) as u32];
                buffers.data[lane][..2].copy_from_slice(&words);
            }
            self.memory.store(at, &access, mask, &buffers.addresses, &buffers.data)?;
        }
        Ok(())
    }
}

/// `wmma.mma`, for the whole warp.
pub(super) fn multiply(regs: &mut Regs, step: &WmmaStep, mask: u32) {
    if mask != FULL {
        return;
    }
    let WmmaProduct { shape, to, factors, from, satfinite, .. } = step.of;
    let (m, n, k) = shape.dimensions();
    let (m, n, k) = (usize::from(m), usize::from(n), usize::from(k));
    let all = |regs: &Regs, fragment: &[Element], count: usize, element: MatrixElement| -> Vec<u64> {
        let share = Share::new(count, element);
        (0..count).map(|e| share.get(regs, fragment, e / share.elements, e % share.elements)).collect()
    };
    let a = all(regs, &step.a, m * k, factors);
    let b = all(regs, &step.b, n * k, factors);
    let c = all(regs, &step.c, m * n, from);
    let sum = |e: usize| {
        let (row, column) = (e / n, e % n);
        let pairs = a[row * k..][..k].iter().copied().zip(b[column * k..][..k].iter().copied());
        alu::multiply_add(pairs, c[e], (to, factors, from), satfinite)
    };
    let share = Share::new(m * n, to);
    let d: Vec<u64> = (0..m * n).map(sum).collect();
    for lane in 0..LANES {
        share.set(regs, &step.d, lane, |i| d[lane * share.elements + i]);
    }
}
