//! F32, F16 and BF16 weights: vectors as wide as the rows' alignment allows.

use ptx_builder::{B32, BF16, F16, F32, KernelBuilder, Reg};

use super::partition::{BitFields, Partition, Run, own, stream};
use super::weight::Raw;

/// Scalars of `size` bytes: the widest vector, up to 16 bytes, that every row can be read with. Rows start at multiples
/// of `cols * size` bytes, so the vector's length has to divide `cols`.
pub(super) fn partition(size: u32, cols: u32) -> Partition {
    let longest = 16 / size;
    let vector = 1 << cols.trailing_zeros().min(longest.trailing_zeros());
    Partition {
        block_cols: vector,
        planes: vec![vector * size],
        parts: 1,
        streams: vec![stream(0, BitFields::ZERO)],
        loads: vec![own(0, 0, vector * size)],
        col: BitFields::ZERO,
        runs: vec![Run { col: 0, len: vector }],
    }
}

pub(super) fn f32_values(k: &mut KernelBuilder, raw: &Raw) -> Vec<Reg<F32>> {
    raw.words.iter().map(|&word| k.bits_to_f32(word)).collect()
}

pub(super) fn f16_values(k: &mut KernelBuilder, raw: &Raw, quad: usize) -> Vec<Reg<F32>> {
    if let [half] = raw.halves[..] {
        return vec![k.f16_to_f32(half.cast::<F16>())];
    }
    let words = raw.words.iter().skip(2 * quad).take(2);
    let halves = words.flat_map(|&word| k.unpack32::<F16>(word)).collect::<Vec<_>>();
    halves.into_iter().map(|half| k.f16_to_f32(half)).collect()
}

pub(super) fn bf16_values(k: &mut KernelBuilder, raw: &Raw, quad: usize) -> Vec<Reg<F32>> {
    if let [half] = raw.halves[..] {
        return vec![k.bf16_to_f32(half.cast::<BF16>())];
    }
    let mut values = Vec::new();
    for &word in raw.words.iter().skip(2 * quad).take(2) {
        let low = k.shl::<B32>(word, 16u32);
        let high = k.and::<B32>(word, 0xffff_0000u32);
        values.extend([k.bits_to_f32(low), k.bits_to_f32(high)]);
    }
    values
}
