//! Floats of 16 bits that tensor cores multiply, and how activations come into their range.

use ptx_builder::{B32, CvtRound, F16, F32, KernelBuilder, MatrixElement, MmaShape, Pred, Reg, Target, U32};
use tensor_formats::ElementType;

use crate::stored::Stored;

/// The largest magnitude of what shares a scale becomes a half from 256 on and below 512: far from the largest half, and from
/// the smallest.
const LARGEST: u32 = 8;

/// The exponent bits of 1.
const ONE: u32 = 127;

/// By what activations are multiplied whose largest magnitude is `largest`, and the reciprocal: powers of two, and 1 for what
/// is no finite number.
pub(crate) const fn range_of(largest: f32) -> [f32; 2] {
    let exponent = largest.to_bits() >> 23;
    let exponent = match exponent {
        255 => ONE + LARGEST,
        0..LARGEST => LARGEST,
        exponent => exponent,
    };
    [f32::from_bits((2 * ONE + LARGEST - exponent) << 23), f32::from_bits((exponent - LARGEST) << 23)]
}

/// Emits [`range_of`] the magnitude that has the bits `largest`, which is `broken` if it is no finite number.
pub(crate) fn range(k: &mut KernelBuilder, largest: Reg<U32>, broken: Pred) -> [Reg<F32>; 2] {
    let exponent = k.shr::<B32>(largest.cast::<B32>(), 23u32).cast::<U32>();
    let exponent = k.max::<U32>(exponent, LARGEST);
    let exponent = k.selp::<U32>(broken, ONE + LARGEST, exponent);
    let up = k.sub::<U32>(2 * ONE + LARGEST, exponent);
    [up, k.sub::<U32>(exponent, LARGEST)].map(|exponent| {
        let bits = k.shl::<U32>(exponent, 23u32);
        k.bits_to_f32(bits.cast::<B32>())
    })
}

/// The type of a product's factors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Factor {
    F16,
    Bf16,
}

impl Factor {
    /// How many of them an f32 is the sum of: two f16 hold 22 bits, three bfloat16 all 24.
    pub(crate) const fn parts(self) -> u32 {
        match self {
            Self::F16 => 2,
            Self::Bf16 => 3,
        }
    }

    const fn stored(self) -> Stored {
        match self {
            Self::F16 => Stored::F16,
            Self::Bf16 => Stored::Bf16,
        }
    }

    pub(crate) const fn element(self) -> ElementType {
        self.stored().element()
    }

    /// The same for `wgmma`.
    pub(crate) const fn of_matrix(self) -> MatrixElement {
        match self {
            Self::F16 => MatrixElement::F16,
            Self::Bf16 => MatrixElement::BF16,
        }
    }

    /// The value that is left of `value`.
    pub(crate) fn round(self, value: f32) -> f32 {
        self.stored().round(value)
    }

    /// Two values, the first one in the lower half.
    pub(crate) fn word(self, k: &mut KernelBuilder, [low, high]: [Reg<F32>; 2]) -> Reg<B32> {
        match self {
            Self::F16 if k.target() >= Target::SM_80 => k.cvt_f16x2(low, high).cast(),
            Self::F16 => {
                let [low, high] = [low, high].map(|value| k.cvt_round::<F16>(CvtRound::Rn, value));
                k.pack32::<B32, F16>(low, high)
            }
            Self::Bf16 => k.cvt_bf16x2(low, high).cast(),
        }
    }

    /// Two values as sums of such parts, each the nearest to what those before it leave: of each part a word of both.
    pub(crate) fn split(self, k: &mut KernelBuilder, mut left: [Reg<F32>; 2]) -> Vec<Reg<B32>> {
        let last = self.parts() - 1;
        (0..=last)
            .map(|part| {
                let word = self.word(k, left);
                if part < last {
                    let back = match self {
                        Self::F16 => k.unpack32::<F16>(word).map(|half| k.f16_to_f32(half)),
                        // A bfloat16 is the upper half of a single.
                        Self::Bf16 => {
                            [k.shl(word, 16), k.and(word, 0xffff_0000u32)].map(|bits| k.bits_to_f32(bits))
                        }
                    };
                    left = [0, 1].map(|i| k.sub(left[i], back[i]));
                }
                word
            })
            .collect()
    }

    /// `a * b + c` on fragments of 16 rows, 16 columns of `a`, and 8 columns of `b`.
    pub(crate) fn product(
        self,
        k: &mut KernelBuilder,
        a: [Reg<B32>; 4],
        b: [Reg<B32>; 2],
        c: [Reg<F32>; 4],
    ) -> [Reg<F32>; 4] {
        match self {
            Self::Bf16 => k.mma_f32(MmaShape::M16N8K16BF16, a, b, c),
            Self::F16 if k.target() >= Target::SM_80 => k.mma_f32(MmaShape::M16N8K16F16, a, b, c),
            Self::F16 => {
                let c = k.mma_f32(MmaShape::M16N8K8F16, [a[0], a[1]], [b[0]], c);
                k.mma_f32(MmaShape::M16N8K8F16, [a[2], a[3]], [b[1]], c)
            }
        }
    }
}
