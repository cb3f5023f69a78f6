//! Floats of 16 bits that tensor cores multiply.

use ptx_builder::{B32, CvtRound, F16, F32, KernelBuilder, MatrixElement, MmaShape, Reg, Target};
use tensor_formats::ElementType;

use crate::stored::Stored;

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
