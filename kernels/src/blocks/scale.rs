//! Scales, and what they are multiplied with: small integers that become floats without a conversion.

use ptx_builder::{B32, F32, KernelBuilder, Reg, S32};

/// 1.5 * 2^23: floats of this size are 1 apart. Dots that begin at its bits, as integers, and are read as floats are
/// this much above their values, up to 2^22.
const EXACT: f32 = 12_582_912.0;

/// A dot that is 0, as the integer that [`as_float`] makes [`EXACT`].
pub(super) fn zero_dot(k: &mut KernelBuilder) -> Reg<S32> {
    k.imm::<S32>(EXACT.to_bits() as i32)
}

/// A dot that began as [`zero_dot`], as [`Scale::times`] wants it: the same bits.
pub(super) fn as_float(k: &mut KernelBuilder, dot: Reg<S32>) -> Reg<F32> {
    k.bits_to_f32(dot.cast::<B32>())
}

/// A scale of quants, and what takes [`EXACT`] away after a multiplication with it.
#[derive(Debug, Clone, Copy)]
struct Scale(Reg<F32>, Reg<F32>);

impl Scale {
    /// The scale has at most 22 significant bits.
    fn new(k: &mut KernelBuilder, scale: Reg<F32>) -> Self {
        Self(scale, k.mul::<F32>(scale, -EXACT))
    }

    /// `scale * dot`, rounded once.
    fn times(self, k: &mut KernelBuilder, dot: Reg<F32>) -> Reg<F32> {
        k.fma::<F32>(dot, self.0, self.1)
    }
}

/// What turns the dot of some columns into their share of a row's product.
#[derive(Debug, Clone, Copy)]
pub(super) struct Group {
    scale: Scale,
    offset: Option<Reg<F32>>,
}

impl Group {
    /// A weight is `scale * q + offset`.
    pub(super) fn new(k: &mut KernelBuilder, scale: Reg<F32>, offset: Option<Reg<F32>>) -> Self {
        Self { scale: Scale::new(k, scale), offset }
    }

    /// `sum + d_x * (scale * dot) + offset * sum_x`, added from left to right. `pair` is `d_x` and, where there is an offset,
    /// `sum_x`.
    pub(super) fn add(
        &self,
        k: &mut KernelBuilder,
        pair: &[Reg<F32>],
        dot: Reg<F32>,
        sum: Reg<F32>,
    ) -> Reg<F32> {
        let scaled = self.scale.times(k, dot);
        let sum = k.fma::<F32>(pair[0], scaled, sum);
        match self.offset {
            Some(offset) => k.fma::<F32>(offset, pair[1], sum),
            None => sum,
        }
    }
}

/// Byte `index` of a word, minus `bias`, as f32: exact for a bias that is a byte or 128.
///
/// The byte becomes the last of the significand of a float in 2^23..2^24, where neighbours are 1 apart: a permutation
/// and a subtraction, both cheaper than the conversion of an integer.
pub(super) fn biased_byte(k: &mut KernelBuilder, word: Reg<B32>, index: u32, bias: u8) -> Reg<F32> {
    const TWO_TO_23: f32 = 8_388_608.0;
    let float = k.prmt::<B32>(word, TWO_TO_23.to_bits(), 0x7440 + index);
    let float = k.bits_to_f32(float);
    k.sub::<F32>(float, TWO_TO_23 + f32::from(bias))
}

/// A factor of bytes that several are multiplied with.
#[derive(Debug, Clone, Copy)]
pub(super) struct ByteFactor(Reg<F32>, Reg<F32>);

/// 2^15: floats of this size have an integer in the byte above their last one.
const TWO_TO_15: f32 = 32_768.0;

impl ByteFactor {
    /// For bytes that are `bias` more than what they stand for, 0 or 128. The factor is an f16, times a power of two.
    pub(super) fn new(k: &mut KernelBuilder, factor: Reg<F32>, bias: u8) -> Self {
        Self(factor, k.mul::<F32>(factor, -(TWO_TO_15 + f32::from(bias))))
    }

    /// The factor times byte `index` of a word, less the bias: exact, since there are so few bits below the byte.
    pub(super) fn times(self, k: &mut KernelBuilder, word: Reg<B32>, index: u32) -> Reg<F32> {
        let float = k.prmt::<B32>(word, TWO_TO_15.to_bits(), 0x7404 + 0x10 * index);
        let float = k.bits_to_f32(float);
        k.fma::<F32>(float, self.0, self.1)
    }
}
