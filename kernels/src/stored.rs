//! The element types of a KV cache: how they are read, rounded and stored.

use half::{bf16, f16};
use ptx_builder::{B32, CvtRound, F16, F32, KernelBuilder, Reg, Target};
use tensor_formats::ElementType;

use crate::KernelError;
use crate::support::refuse;

/// An element type that a cache can have. Arithmetic is in f32 whatever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stored {
    F32,
    F16,
    Bf16,
}

impl Stored {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::F32, Self::F16, Self::Bf16];

    pub fn new(kernel: &'static str, element: ElementType) -> Result<Self, KernelError> {
        let found = Self::ALL.into_iter().find(|stored| stored.element() == element);
        found.ok_or_else(|| refuse(kernel, format!("a cache cannot hold {element}")))
    }

    pub const fn element(self) -> ElementType {
        match self {
            Self::F32 => ElementType::F32,
            Self::F16 => ElementType::F16,
            Self::Bf16 => ElementType::BF16,
        }
    }

    /// Bytes of an element.
    pub const fn bytes(self) -> u32 {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
        }
    }

    /// The name in those of kernels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
        }
    }

    /// The first target whose instructions round to the type.
    pub const fn rounds_from(self) -> Target {
        match self {
            Self::F32 | Self::F16 => Target::SM_75,
            Self::Bf16 => Target::SM_80,
        }
    }

    /// The value that is read back after `value` was stored.
    pub fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::F16 => f16::from_f32(value).to_f32(),
            Self::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// `values` as they are stored.
    pub fn encode(self, values: &[f32]) -> Vec<u8> {
        match self {
            Self::F32 => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            Self::F16 => values.iter().flat_map(|&v| f16::from_f32(v).to_le_bytes()).collect(),
            Self::Bf16 => values.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect(),
        }
    }

    /// The elements of words that were loaded, in their order in memory.
    pub fn unpack(self, k: &mut KernelBuilder, words: &[Reg<B32>]) -> Vec<Reg<F32>> {
        let mut values = Vec::with_capacity(words.len() * (4 / self.bytes()) as usize);
        for &word in words {
            match self {
                Self::F32 => values.push(k.bits_to_f32(word)),
                Self::F16 => {
                    let halves = k.unpack32::<F16>(word);
                    values.extend(halves.map(|half| k.f16_to_f32(half)));
                }
                // A bfloat16 is the upper half of a single.
                Self::Bf16 => {
                    let low = k.shl(word, 16);
                    let high = k.and(word, 0xffff_0000u32);
                    values.extend([low, high].map(|bits| k.bits_to_f32(bits)));
                }
            }
        }
        values
    }

    /// Words to store for values whose number is a multiple of [`per_word`](Self::per_word).
    pub fn pack(self, k: &mut KernelBuilder, values: &[Reg<F32>]) -> Vec<Reg<B32>> {
        let pack = |values: &[Reg<F32>]| match (self, values) {
            (Self::F16, &[low, high]) => {
                let halves = [low, high].map(|value| k.cvt_round::<F16>(CvtRound::Rn, value));
                k.pack32::<B32, F16>(halves[0], halves[1])
            }
            (Self::Bf16, &[low, high]) => k.cvt_bf16x2(low, high).cast(),
            _ => k.f32_to_bits(values[0]),
        };
        values.chunks_exact(self.per_word() as usize).map(pack).collect()
    }

    /// Elements of a 32-bit word.
    pub const fn per_word(self) -> u32 {
        4 / self.bytes()
    }
}
