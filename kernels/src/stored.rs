//! The element types of a KV cache: how they are read, rounded and stored.

use ptx_builder::{B16, B32, BF16, CvtRound, F16, F32, KernelBuilder, Reg, Target, U8, U32, U64};
use tensor_formats::{ElementType, bf16, f8_e4m3, f16};

use crate::KernelError;
use crate::support::refuse;

/// An element type that a cache can have. Arithmetic is in f32 whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    F16,
    Bf16,
    E4m3,
}

impl Stored {
    /// Every type.
    pub const ALL: [Self; 4] = [Self::F32, Self::F16, Self::Bf16, Self::E4m3];

    pub fn new(kernel: &'static str, element: ElementType) -> Result<Self, KernelError> {
        let found = Self::ALL.into_iter().find(|stored| stored.element() == element);
        found.ok_or_else(|| refuse(kernel, format!("a cache cannot hold {element}")))
    }

    pub const fn element(self) -> ElementType {
        match self {
            Self::F32 => ElementType::F32,
            Self::F16 => ElementType::F16,
            Self::Bf16 => ElementType::BF16,
            Self::E4m3 => ElementType::F8E4M3,
        }
    }

    /// Bytes of an element.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::E4m3 => 1,
        }
    }

    /// The name in those of kernels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::E4m3 => "e4m3",
        }
    }

    /// The first target that converts it or has products of it.
    pub const fn reads_from(self) -> Target {
        match self {
            Self::F32 | Self::F16 => Target::SM_75,
            Self::Bf16 => Target::SM_80,
            Self::E4m3 => Target::SM_89,
        }
    }

    /// The first target that rounds to the type.
    pub const fn rounds_from(self) -> Target {
        match self {
            Self::F32 | Self::F16 => Target::SM_75,
            Self::Bf16 => Target::SM_80,
            Self::E4m3 => Target::SM_89,
        }
    }

    /// The value that is read back after `value` was stored.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::to_f32(f16::from_f32(value)),
            Self::Bf16 => bf16::to_f32(bf16::from_f32(value)),
            Self::E4m3 => f8_e4m3::to_f32(f8_e4m3::from_f32(value)),
        }
    }

    /// `values` as they are stored.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
            Self::E4m3 => values.iter().map(|&v| f8_e4m3::from_f32(v)).collect(),
        }
    }

    /// Rounds `values` and stores them at `at`: one value, or as many as 16 bytes hold.
    pub fn store(self, k: &mut KernelBuilder, at: Reg<U64>, values: &[Reg<F32>]) {
        match *values {
            [value] => self.store_one(k, at, value),
            _ => {
                let words: Vec<_> =
                    values.chunks_exact(self.per_word() as usize).map(|part| self.pack(k, part)).collect();
                match *words {
                    [a, b, c, d] => k.st_global_v4::<B32>(at, [a, b, c, d]),
                    _ => words.iter().zip(0i32..).for_each(|(&word, i)| k.st_global::<B32>(at + 4 * i, word)),
                }
            }
        }
    }

    fn store_one(self, k: &mut KernelBuilder, at: Reg<U64>, value: Reg<F32>) {
        match self {
            Self::F32 => k.st_global::<F32>(at, value),
            Self::F16 => {
                let half = k.cvt::<F16>(value);
                k.st_global::<F16>(at, half);
            }
            Self::Bf16 => {
                let half = k.cvt::<BF16>(value);
                k.st_global::<BF16>(at, half);
            }
            Self::E4m3 => {
                let pair = k.cvt_e4m3x2(value, 0.0);
                let zero = k.imm::<B16>(0);
                let word = k.pack32::<U32, B16>(pair, zero);
                k.st_global::<U8>(at, word);
            }
        }
    }

    /// A word of rounded values, the first in the lowest bits.
    fn pack(self, k: &mut KernelBuilder, values: &[Reg<F32>]) -> Reg<B32> {
        match (self, values) {
            (Self::F16, &[a, b]) => {
                let [a, b] = [a, b].map(|value| k.cvt_round::<F16>(CvtRound::Rn, value));
                k.pack32::<B32, F16>(a, b)
            }
            (Self::Bf16, &[a, b]) => k.cvt_bf16x2(a, b).cast(),
            (Self::E4m3, &[a, b, c, d]) => {
                let pairs = [(a, b), (c, d)].map(|(low, high)| k.cvt_e4m3x2(low, high));
                k.pack32::<B32, B16>(pairs[0], pairs[1])
            }
            _ => k.f32_to_bits(values[0]),
        }
    }

    /// Elements of a 32-bit word.
    pub const fn per_word(self) -> u32 {
        4 / self.bytes()
    }
}
