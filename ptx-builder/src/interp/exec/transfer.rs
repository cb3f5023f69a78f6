//! Loads, stores and matrix moves: registers on one side, memory on the other.

use super::block::Env;
use super::lanes;
use crate::inst::{MemOrder, Space};
use crate::interp::finding::Fault;
use crate::interp::memory::{Access, Order, SHARED_WINDOW, Site, Strength, Values};
use crate::interp::program::{Element, MatrixStep, Pointer, Transfer};
use crate::interp::regs::{FULL, File, LANES, Regs};
use crate::ty::Ty;

/// The addresses that a pointer holds.
pub(super) fn addresses(regs: &Regs, pointer: &Pointer, out: &mut [u64; LANES]) {
    match pointer.file {
        File::W => {
            // Addresses in shared memory have 32 bits.
            #[expect(clippy::cast_possible_truncation, reason = "wraps like the address")]
            let offset = pointer.offset as u32;
            let base = &regs.w[pointer.slot as usize];
            for (address, base) in out.iter_mut().zip(base) {
                *address = u64::from(base.wrapping_add(offset));
            }
        }
        _ => {
            let base = &regs.l[pointer.slot as usize];
            for (address, base) in out.iter_mut().zip(base) {
                *address = base.wrapping_add_signed(pointer.offset);
            }
        }
    }
}

pub(super) fn strength(order: MemOrder, nc: bool) -> Strength {
    match order {
        MemOrder::Weak if nc => Strength::NonCoherent,
        MemOrder::Weak => Strength::Weak,
        MemOrder::Volatile => Strength::VOLATILE,
        MemOrder::Relaxed(scope) => Strength::Strong { order: Order::Relaxed, scope },
        MemOrder::Acquire(scope) => Strength::Strong { order: Order::Acquire, scope },
        MemOrder::Release(scope) => Strength::Strong { order: Order::Release, scope },
    }
}

/// Bits of a value in memory as a register holds them.
#[inline]
pub(super) fn extend(bits: u64, ty: Ty, register: u32) -> u64 {
    let width = ty.bits();
    if width >= register {
        return bits;
    }
    if !ty.is_signed() {
        return bits;
    }
    let shift = 64 - width;
    let extended = ((bits << shift).cast_signed() >> shift).cast_unsigned();
    if register >= 64 { extended } else { extended & ((1 << register) - 1) }
}

/// Element `i` of `bytes` each in the words of an access.
#[inline]
fn element(words: &[u32; 8], i: usize, bytes: usize) -> u64 {
    let at = i * bytes;
    let word = |w: usize| u64::from(words[w & 7]);
    match bytes {
        8 => word(at / 4) | word(at / 4 + 1) << 32,
        4 => word(at / 4),
        2 => word(at / 4) >> (at % 4 * 8) & 0xFFFF,
        _ => word(at / 4) >> (at % 4 * 8) & 0xFF,
    }
}

#[inline]
pub(super) fn write_lane(regs: &mut Regs, element: Element, lane: usize, value: u64) {
    #[expect(clippy::cast_possible_truncation, reason = "the register holds the low half")]
    match element.file {
        File::P => {
            let bit = 1 << lane;
            let row = &mut regs.p[element.slot as usize];
            if value & 1 == 1 { *row |= bit } else { *row &= !bit }
        }
        File::W => regs.w[element.slot as usize][lane] = value as u32,
        File::L => regs.l[element.slot as usize][lane] = value,
    }
}

#[inline]
pub(super) fn read_lane(regs: &Regs, element: Element, lane: usize) -> u64 {
    match element.file {
        File::P => u64::from(regs.p[element.slot as usize] >> lane & 1),
        File::W => u64::from(regs.w[element.slot as usize][lane]),
        File::L => regs.l[element.slot as usize][lane],
    }
}

/// Registers from the words of a load.
pub(super) fn unpack(regs: &mut Regs, elements: &[Element], ty: Ty, data: &Values, mask: u32) {
    let bytes = ty.bytes() as usize;
    for (i, element_of) in elements.iter().enumerate() {
        match (bytes, element_of.file) {
            (4, File::W) if mask == FULL => {
                let row = &mut regs.w[element_of.slot as usize];
                for (value, words) in row.iter_mut().zip(data) {
                    *value = words[i & 7];
                }
            }
            _ => {
                for lane in lanes(mask) {
                    let value = extend(element(&data[lane], i, bytes), ty, element_of.bits);
                    write_lane(regs, *element_of, lane, value);
                }
            }
        }
    }
}

/// Registers to the words of a store.
pub(super) fn pack(regs: &Regs, elements: &[Element], ty: Ty, data: &mut Values, mask: u32) {
    let bytes = ty.bytes() as usize;
    for (i, element_of) in elements.iter().enumerate() {
        match (bytes, element_of.file) {
            (4, File::W) if mask == FULL => {
                for (value, words) in regs.w[element_of.slot as usize].iter().zip(data.iter_mut()) {
                    words[i & 7] = *value;
                }
            }
            _ => {
                for lane in lanes(mask) {
                    let value = read_lane(regs, *element_of, lane);
                    put(&mut data[lane], i, bytes, value);
                }
            }
        }
    }
}

#[expect(clippy::cast_possible_truncation, reason = "words are the parts of the value")]
fn put(words: &mut [u32; 8], i: usize, bytes: usize, value: u64) {
    let at = i * bytes;
    let word = (at / 4) & 7;
    match bytes {
        8 => {
            words[word] = value as u32;
            words[(word + 1) & 7] = (value >> 32) as u32;
        }
        4 => words[word] = value as u32,
        _ => {
            let ones: u32 = if bytes == 2 { 0xFFFF } else { 0xFF };
            let shift = at % 4 * 8;
            words[word] = words[word] & !(ones << shift) | (value as u32 & ones) << shift;
        }
    }
}

impl Env<'_, '_> {
    pub(super) fn load(
        &mut self,
        warp: u32,
        pc: u32,
        regs: &mut Regs,
        transfer: &Transfer,
        mask: u32,
    ) -> Result<(), Fault> {
        if mask == 0 {
            return Ok(());
        }
        let strength = strength(transfer.order, transfer.nc);
        if strength.is_strong() && transfer.pointer.space != Space::Shared {
            self.polls += 1;
        }
        let pointer = &transfer.pointer;
        let bytes = u8::try_from(transfer.bytes()).unwrap_or(u8::MAX);
        addresses(regs, pointer, &mut self.buffers.addresses);
        let access = Access { space: pointer.space, bytes, strength };
        if !self.block.in_flight.is_empty() {
            self.check_in_flight(warp, pc, &access, mask);
        }
        let buffers = &mut *self.buffers;
        self.memory.load(Site { warp, pc }, &access, mask, &buffers.addresses, &mut buffers.data)?;
        unpack(regs, &transfer.elements, transfer.ty, &self.buffers.data, mask);
        Ok(())
    }

    pub(super) fn store(
        &mut self,
        warp: u32,
        pc: u32,
        regs: &mut Regs,
        transfer: &Transfer,
        mask: u32,
    ) -> Result<(), Fault> {
        if mask == 0 {
            return Ok(());
        }
        let pointer = &transfer.pointer;
        let bytes = u8::try_from(transfer.bytes()).unwrap_or(u8::MAX);
        addresses(regs, pointer, &mut self.buffers.addresses);
        let access = Access { space: pointer.space, bytes, strength: strength(transfer.order, false) };
        let buffers = &mut *self.buffers;
        pack(regs, &transfer.elements, transfer.ty, &mut buffers.data, mask);
        self.memory.store(Site { warp, pc }, &access, mask, &buffers.addresses, &buffers.data)
    }

    /// `ldmatrix`: lanes 8m to 8m+7 hold the addresses of the rows of matrix m. Lane i gets elements 2i%8 and
    /// 2i%8+1 of row i/4, or with `.trans` of column i/4.
    pub(super) fn load_matrix(
        &mut self,
        warp: u32,
        pc: u32,
        regs: &mut Regs,
        matrix: &MatrixStep,
        mask: u32,
    ) -> Result<(), Fault> {
        let rows = rows(matrix);
        row_addresses(regs, &matrix.pointer, &mut self.buffers.addresses);
        let access = Access { space: Space::Shared, bytes: 16, strength: Strength::Weak };
        if !self.block.in_flight.is_empty() {
            self.check_in_flight(warp, pc, &access, rows & mask);
        }
        let buffers = &mut *self.buffers;
        self.memory.load(Site { warp, pc }, &access, rows & mask, &buffers.addresses, &mut buffers.data)?;
        for (m, slot) in matrix.slots.iter().enumerate() {
            for lane in lanes(mask) {
                let (row, pair) = (lane / 4, lane % 4);
                let value = if matrix.trans {
                    let half = |r: usize| element(&buffers.data[(m * 8 + r) % LANES], row, 2);
                    half(pair * 2) | half(pair * 2 + 1) << 16
                } else {
                    u64::from(buffers.data[(m * 8 + row) % LANES][pair])
                };
                #[expect(clippy::cast_possible_truncation, reason = "two halves")]
                let value = value as u32;
                regs.w[*slot as usize][lane] = value;
            }
        }
        Ok(())
    }

    /// `stmatrix`, the reverse.
    pub(super) fn store_matrix(
        &mut self,
        warp: u32,
        pc: u32,
        regs: &mut Regs,
        matrix: &MatrixStep,
        mask: u32,
    ) -> Result<(), Fault> {
        let rows = rows(matrix);
        row_addresses(regs, &matrix.pointer, &mut self.buffers.addresses);
        let data = &mut *self.buffers.data;
        for (m, slot) in matrix.slots.iter().enumerate() {
            for lane in lanes(mask) {
                let (row, pair) = (lane / 4, lane % 4);
                let value = regs.w[*slot as usize][lane];
                if matrix.trans {
                    for (r, half) in [(pair * 2, value & 0xFFFF), (pair * 2 + 1, value >> 16)] {
                        put(&mut data[(m * 8 + r) % LANES], row, 2, u64::from(half));
                    }
                } else {
                    data[(m * 8 + row) % LANES][pair] = value;
                }
            }
        }
        let access = Access { space: Space::Shared, bytes: 16, strength: Strength::Weak };
        let buffers = &mut *self.buffers;
        self.memory.store(Site { warp, pc }, &access, rows & mask, &buffers.addresses, &buffers.data)
    }
}

/// The addresses of rows within shared memory; generic ones that point elsewhere are beyond it.
fn row_addresses(regs: &Regs, pointer: &Pointer, out: &mut [u64; LANES]) {
    addresses(regs, pointer, out);
    if pointer.space == Space::Generic {
        out.iter_mut().for_each(|address| *address = address.wrapping_sub(SHARED_WINDOW));
    }
}

/// The lanes whose addresses count.
fn rows(matrix: &MatrixStep) -> u32 {
    match matrix.slots.len() {
        1 => 0xFF,
        2 => 0xFFFF,
        _ => FULL,
    }
}
