//! Single elements of a matrix in any weight format, as f32.
//!
//! For lookups, where a thread wants one value. Products with whole rows go through [`blocks`](crate::blocks).

use ptx_builder::{BF16, F16, F32, KernelBuilder, Reg, S8, S32, U8, U32, U64};
use tensor_formats::{ElementType, PIECE};

/// A matrix `[rows, cols]` of type `element` in the device's layout ([`tensor_formats::planes`]).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub(crate) element: ElementType,
    pub(crate) rows: u32,
    pub(crate) cols: u32,
    pub(crate) base: Reg<U64>,
}

impl Table {
    /// Element `column` of row `row`. Every result is exact: the formats' products fit in the significand of an f32, and
    /// the one difference that can round (of Q4_K and Q5_K) is rounded once.
    ///
    /// # Panics
    /// If the element type is no weight type.
    pub(crate) fn element(&self, k: &mut KernelBuilder, row: Reg<U32>, column: Reg<U32>) -> Reg<F32> {
        let (block, column) = self.block(k, row, column);
        match self.element {
            ElementType::F32 => {
                let at = block.at(k, 0);
                k.ld_global::<F32>(at)
            }
            ElementType::F16 => block.half(k, 0, 0),
            ElementType::BF16 => {
                let at = block.at(k, 0);
                let value = k.ld_global::<BF16>(at);
                k.bf16_to_f32(value)
            }
            ElementType::Q4_0 => q4_0(k, &block, column),
            ElementType::Q8_0 => {
                let scale = block.half(k, 1, 0);
                let quant = block.signed_byte(k, 0, column);
                k.mul(scale, quant)
            }
            ElementType::Q4_K => q4_k(k, &block, column),
            ElementType::Q5_K => q5_k(k, &block, column),
            ElementType::Q6_K => q6_k(k, &block, column),
            other => panic!("{other} is no weight type"),
        }
    }

    /// The block that holds the column, and the column within it.
    fn block(&self, k: &mut KernelBuilder, row: Reg<U32>, column: Reg<U32>) -> (Block, Reg<U32>) {
        let elements = self.element.block_elements() as u32;
        let (index, column) = match elements {
            1 => (column, k.imm::<U32>(0)),
            _ => (k.shr(column, elements.ilog2()), k.and(column, elements - 1)),
        };
        (Block { table: *self, row, index }, column)
    }
}

/// A block of a table.
struct Block {
    table: Table,
    row: Reg<U32>,
    /// Within the row.
    index: Reg<U32>,
}

impl Block {
    /// The address of the block's bytes of a plane.
    fn at(&self, k: &mut KernelBuilder, plane: usize) -> Reg<U64> {
        let Table { element, rows, cols, base } = self.table;
        let planes = element.planes();
        let blocks = cols / element.block_elements() as u32;
        let before: usize = planes[..plane].iter().map(|plane| plane.block_bytes()).sum();
        let bytes = planes[plane].block_bytes() as u32;
        let start = u64::from(rows) * u64::from(blocks) * before as u64;
        let at = if start == 0 { base } else { k.add(base, start) };
        let at = k.ptr_index(at, self.row, blocks * bytes);
        k.ptr_index(at, self.index, bytes)
    }

    fn half(&self, k: &mut KernelBuilder, plane: usize, offset: i32) -> Reg<F32> {
        let at = self.at(k, plane);
        let value = k.ld_global::<F16>(at + offset);
        k.f16_to_f32(value)
    }

    /// Byte `index` of the block's bytes of a plane in GGUF's order.
    fn quant_byte(&self, k: &mut KernelBuilder, plane: usize, index: Reg<U32>) -> Reg<U32> {
        let pieces = self.table.element.planes()[plane].pieces;
        if pieces.is_empty() {
            return self.byte(k, plane, 0, index);
        }
        // Where each piece went, four bits for each.
        let mut places = 0u64;
        for (place, &piece) in (0u64..).zip(pieces) {
            places |= place << (4 * u32::from(piece));
        }
        let piece = k.shr(index, 4);
        let shift = k.shl(piece, 2);
        let place = k.shr(places as u32, shift);
        let place = k.and(place, 15);
        let within = k.and(index, 15);
        let index = k.mad(place, PIECE as u32, within);
        self.byte(k, plane, 0, index)
    }

    /// Byte `offset + index` of the block's bytes of a plane.
    fn byte(&self, k: &mut KernelBuilder, plane: usize, offset: i32, index: Reg<U32>) -> Reg<U32> {
        let at = self.at(k, plane);
        let at = k.ptr_index(at, index, 1);
        k.ld_global::<U8>(at + offset)
    }

    fn signed_byte(&self, k: &mut KernelBuilder, plane: usize, index: Reg<U32>) -> Reg<F32> {
        let at = self.at(k, plane);
        let at = k.ptr_index(at, index, 1);
        let value = k.ld_global::<S8>(at);
        k.cvt::<F32>(value)
    }
}

/// 16 bytes of nibbles, the low ones before the high ones; f16 scale.
fn q4_0(k: &mut KernelBuilder, block: &Block, i: Reg<U32>) -> Reg<F32> {
    let scale = block.half(k, 1, 0);
    let index = k.and(i, 15);
    let nibbles = block.byte(k, 0, 0, index);
    let upper = k.shr(i, 4);
    let shift = k.shl(upper, 2);
    let quant = k.shr(nibbles, shift);
    let quant = k.and(quant, 15);
    let quant = k.sub(quant.cast::<S32>(), 8);
    let quant = k.cvt::<F32>(quant);
    k.mul(scale, quant)
}

/// 128 bytes of nibbles: of each 32 bytes, the low nibbles are one sub-block and the high nibbles the next; then the
/// header.
fn q4_k(k: &mut KernelBuilder, block: &Block, i: Reg<U32>) -> Reg<F32> {
    let quant = k_nibble(k, block, i);
    k_value(k, block, 1, i, quant)
}

/// As Q4_K, and 32 bytes of high bits between nibbles and header: bit `j` of byte `l` is that of column `l` of sub-block
/// `j`.
fn q5_k(k: &mut KernelBuilder, block: &Block, i: Reg<U32>) -> Reg<F32> {
    let low = k_nibble(k, block, i);
    let lane = k.and(i, 31);
    let bits = block.byte(k, 1, 0, lane);
    let sub_block = k.shr(i, 5);
    let high = k.shr(bits, sub_block);
    let high = k.and(high, 1);
    let high = k.shl(high, 4);
    let quant = k.or(low, high);
    k_value(k, block, 2, i, quant)
}

/// The nibble of column `i` of a Q4_K or Q5_K block.
fn k_nibble(k: &mut KernelBuilder, block: &Block, i: Reg<U32>) -> Reg<U32> {
    let pair = k.shr(i, 6);
    let lane = k.and(i, 31);
    let index = k.mad(pair, 32, lane);
    let nibbles = block.quant_byte(k, 0, index);
    let odd = k.bfe(i, 5, 1);
    let shift = k.shl(odd, 2);
    let quant = k.shr(nibbles, shift);
    k.and(quant, 15)
}

/// `d * scale * quant - dmin * min`, with the header in plane `header`: f16 `d` and `dmin`, 12 bytes of six-bit scales and
/// minima.
fn k_value(k: &mut KernelBuilder, block: &Block, header: usize, i: Reg<U32>, quant: Reg<U32>) -> Reg<F32> {
    let (d, d_min) = (block.half(k, header, 0), block.half(k, header, 2));
    let sub_block = k.shr(i, 5);
    let slot = k.and(sub_block, 3);
    let [scales, minima, rest] = [4, 8, 12].map(|offset| block.byte(k, header, offset, slot));
    k.comment("the first four sub-blocks have their six bits together, the others in two places");
    let [low_scale, low_min] = [scales, minima].map(|bits| k.and(bits, 63));
    let [top_scale, top_min] = [scales, minima].map(|bits| {
        let top = k.shr(bits, 6);
        k.shl(top, 4)
    });
    let high_scale = k.and(rest, 15);
    let high_scale = k.or(high_scale, top_scale);
    let high_min = k.shr(rest, 4);
    let high_min = k.or(high_min, top_min);
    let together = k.lt(sub_block, 4);
    let scale = k.selp(together, low_scale, high_scale);
    let min = k.selp(together, low_min, high_min);

    let [scale, min, quant] = [scale, min, quant].map(|v| k.cvt::<F32>(v));
    let scale = k.mul(d, scale);
    let min = k.mul(d_min, min);
    let min = k.neg(min);
    k.fma(scale, quant, min)
}

/// 128 bytes of low nibbles, 64 of upper bit pairs, 16 signed scales, f16 scale. A half of the block is four quarters of
/// 32: the nibbles of quarters 0 and 2, and of 1 and 3, share bytes, and so do the bit pairs of all four.
fn q6_k(k: &mut KernelBuilder, block: &Block, i: Reg<U32>) -> Reg<F32> {
    let d = block.half(k, 3, 0);
    let part = k.shr(i, 4);
    let scale = block.signed_byte(k, 2, part);

    let half = k.shr(i, 7);
    let quarter = k.bfe(i, 5, 2);
    let lane = k.and(i, 31);
    k.comment("64 * half + i % 64");
    let within = k.and(i, 63);
    let low_index = k.mad(half, 64, within);
    let low = block.quant_byte(k, 0, low_index);
    let upper = k.shr(quarter, 1);
    let low_shift = k.shl(upper, 2);
    let low = k.shr(low, low_shift);
    let low = k.and(low, 15);
    let high_index = k.mad(half, 32, lane);
    let high = block.byte(k, 1, 0, high_index);
    let high_shift = k.shl(quarter, 1);
    let high = k.shr(high, high_shift);
    let high = k.and(high, 3);
    let high = k.shl(high, 4);
    let quant = k.or(low, high);
    let quant = k.sub(quant.cast::<S32>(), 32);

    let quant = k.cvt::<F32>(quant);
    let scale = k.mul(d, scale);
    k.mul(scale, quant)
}
