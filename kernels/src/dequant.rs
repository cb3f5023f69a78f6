//! Single elements of a row in any weight format, as f32.
//!
//! For lookups, where a thread wants one value. Products with whole rows go through [`blocks`](crate::blocks).

use ptx_builder::{BF16, F16, F32, KernelBuilder, Reg, S8, S32, U8, U32, U64};
use tensor_formats::ElementType;

/// Element `column` of the row at `row`. Every result is exact: the formats' products fit in the significand of an f32,
/// and the one difference that can round (of Q4_K) is rounded once.
///
/// # Panics
/// If `element` is not a type that [`WeightFormat`](crate::blocks::WeightFormat) has.
pub(crate) fn element(
    k: &mut KernelBuilder,
    element: ElementType,
    row: Reg<U64>,
    column: Reg<U32>,
) -> Reg<F32> {
    match element {
        ElementType::F32 => {
            let at = k.ptr_index(row, column, 4);
            k.ld_global::<F32>(at)
        }
        ElementType::F16 => {
            let at = k.ptr_index(row, column, 2);
            let value = k.ld_global::<F16>(at);
            k.f16_to_f32(value)
        }
        ElementType::BF16 => {
            let at = k.ptr_index(row, column, 2);
            let value = k.ld_global::<BF16>(at);
            k.bf16_to_f32(value)
        }
        ElementType::Q8_0 => q8_0(k, row, column),
        ElementType::Q4_K => q4_k(k, row, column),
        ElementType::Q6_K => q6_k(k, row, column),
        ElementType::Q4_0
        | ElementType::Q5_K
        | ElementType::Q8Act
        | ElementType::F8E4M3
        | ElementType::U32 => {
            panic!("no lookup of {element}")
        }
    }
}

/// The address of the column's block and the column within it.
fn block(k: &mut KernelBuilder, ty: ElementType, row: Reg<U64>, column: Reg<U32>) -> (Reg<U64>, Reg<U32>) {
    let elements = ty.block_elements() as u32;
    let index = k.shr(column, elements.ilog2());
    (k.ptr_index(row, index, ty.block_bytes() as u32), k.and(column, elements - 1))
}

fn half(k: &mut KernelBuilder, block: Reg<U64>, offset: i32) -> Reg<F32> {
    let value = k.ld_global::<F16>(block + offset);
    k.f16_to_f32(value)
}

/// Byte `index` of the block's array at `offset`.
fn byte(k: &mut KernelBuilder, block: Reg<U64>, offset: i32, index: Reg<U32>) -> Reg<U32> {
    let at = k.ptr_index(block, index, 1);
    k.ld_global::<U8>(at + offset)
}

fn signed_byte(k: &mut KernelBuilder, block: Reg<U64>, offset: i32, index: Reg<U32>) -> Reg<F32> {
    let at = k.ptr_index(block, index, 1);
    let value = k.ld_global::<S8>(at + offset);
    k.cvt::<F32>(value)
}

/// f16 scale, 32 signed bytes.
fn q8_0(k: &mut KernelBuilder, row: Reg<U64>, column: Reg<U32>) -> Reg<F32> {
    let (block, i) = block(k, ElementType::Q8_0, row, column);
    let scale = half(k, block, 0);
    let quant = signed_byte(k, block, 2, i);
    k.mul(scale, quant)
}

/// f16 scale and minimum, 12 bytes of six-bit scales and minima, 128 bytes of nibbles: of each 32 bytes, the low nibbles
/// are one sub-block and the high nibbles the next.
fn q4_k(k: &mut KernelBuilder, row: Reg<U64>, column: Reg<U32>) -> Reg<F32> {
    let (block, i) = block(k, ElementType::Q4_K, row, column);
    let (d, d_min) = (half(k, block, 0), half(k, block, 2));

    let sub_block = k.shr(i, 5);
    let slot = k.and(sub_block, 3);
    let [scales, minima, rest] = [4, 8, 12].map(|offset| byte(k, block, offset, slot));
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

    let pair = k.shr(i, 6);
    let lane = k.and(i, 31);
    let index = k.mad(pair, 32, lane);
    let nibbles = byte(k, block, 16, index);
    let odd = k.and(sub_block, 1);
    let shift = k.shl(odd, 2);
    let quant = k.shr(nibbles, shift);
    let quant = k.and(quant, 15);

    let [scale, min, quant] = [scale, min, quant].map(|v| k.cvt::<F32>(v));
    let scale = k.mul(d, scale);
    let min = k.mul(d_min, min);
    let min = k.neg(min);
    k.fma(scale, quant, min)
}

/// 128 bytes of low nibbles, 64 of upper bit pairs, 16 signed scales, f16 scale. A half of the block is four quarters of
/// 32: the nibbles of quarters 0 and 2, and of 1 and 3, share bytes, and so do the bit pairs of all four.
fn q6_k(k: &mut KernelBuilder, row: Reg<U64>, column: Reg<U32>) -> Reg<F32> {
    let (block, i) = block(k, ElementType::Q6_K, row, column);
    let d = half(k, block, 208);
    let part = k.shr(i, 4);
    let scale = signed_byte(k, block, 192, part);

    let half = k.shr(i, 7);
    let quarter = k.bfe(i, 5, 2);
    let lane = k.and(i, 31);
    k.comment("64 * half + i % 64");
    let within = k.and(i, 63);
    let low_index = k.mad(half, 64, within);
    let low = byte(k, block, 0, low_index);
    let upper = k.shr(quarter, 1);
    let low_shift = k.shl(upper, 2);
    let low = k.shr(low, low_shift);
    let low = k.and(low, 15);
    let high_index = k.mad(half, 32, lane);
    let high = byte(k, block, 128, high_index);
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
