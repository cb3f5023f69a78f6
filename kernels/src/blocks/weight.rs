//! The weight formats behind one face: what the emitters of matrix products ask of a format.

use ptx_builder::{B32, B64, F16, F32, KernelBuilder, Load, Pred, Reg, S8, S32, Space, U16, U32, U64};
use tensor_formats::ElementType;

use super::partition::Partition;
use super::scale::{Group, as_float, zero_dot};
use super::{q4_0, q4_k, q5_k, q6_k, q8_0, scalar};
use crate::factor::Factor;

/// A format that weights come in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WeightFormat {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

/// The bytes of a part, as they were loaded. Loads of 4 bytes and more fill `words`, of 2 `halves`, of 1 `bytes`, each in
/// the order of [`Partition::loads`].
#[derive(Debug, Default)]
pub(crate) struct Raw {
    pub(crate) words: Vec<Reg<B32>>,
    pub(crate) halves: Vec<Reg<U16>>,
    /// Sign-extended.
    pub(crate) bytes: Vec<Reg<S32>>,
}

impl Raw {
    /// Half `index` as an IEEE half, widened.
    pub(super) fn f16(&self, k: &mut KernelBuilder, index: usize) -> Reg<F32> {
        k.f16_to_f32(self.halves[index].cast::<F16>())
    }
}

/// A format, and what a thread knows of its part before it loads anything.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Decoder {
    F32,
    F16,
    Bf16,
    Q4_0,
    Q8_0,
    Q4K(q4_k::SubBlocks),
    Q5K(q5_k::Bits),
    Q6K,
}

/// A part whose scales are decoded and whose quants are words of four bytes, in the order of the runs.
#[derive(Debug)]
pub(crate) struct Q8Part {
    pub(super) words: Vec<Reg<B32>>,
    /// Each for equally many words.
    pub(super) groups: Vec<Group>,
}

/// Activations for a part: quants as words in the order of the runs, and what [`WeightFormat::group_loads`] asks for.
#[derive(Debug)]
pub(crate) struct Q8Activations {
    pub(crate) words: Vec<Reg<B32>>,
    pub(crate) groups: Vec<Reg<F32>>,
}

/// One load of scales of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct GroupLoad {
    /// In bytes.
    pub(crate) offset: i32,
    /// Values, aligned to all of them together: 1, 2 or 4.
    pub(crate) len: u32,
}

impl WeightFormat {
    /// The format of weights of type `element`; `None` if it is no weight type.
    pub(crate) const fn of(element: ElementType) -> Option<Self> {
        match element {
            ElementType::F32 => Some(Self::F32),
            ElementType::F16 => Some(Self::F16),
            ElementType::BF16 => Some(Self::Bf16),
            ElementType::Q4_0 => Some(Self::Q4_0),
            ElementType::Q8_0 => Some(Self::Q8_0),
            ElementType::Q4_K => Some(Self::Q4K),
            ElementType::Q5_K => Some(Self::Q5K),
            ElementType::Q6_K => Some(Self::Q6K),
            ElementType::Q8Act | ElementType::F8E4M3 | ElementType::U32 => None,
        }
    }

    /// Whether the weights are bytes that `dp4a` can multiply.
    pub(crate) const fn has_bytes(self) -> bool {
        !matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// What tensor cores multiply such weights by, if these are factors as they are.
    pub(crate) const fn factor(self) -> Option<Factor> {
        match self {
            Self::F16 => Some(Factor::F16),
            Self::Bf16 => Some(Factor::Bf16),
            Self::F32 | Self::Q4_0 | Self::Q8_0 | Self::Q4K | Self::Q5K | Self::Q6K => None,
        }
    }

    /// What many activation rows become that meet such weights: quantised ones become halves, too.
    pub(crate) fn factor_of_many_rows(self) -> Factor {
        self.factor().unwrap_or(Factor::F16)
    }

    /// How rows of `cols` columns are divided.
    pub(crate) fn partition(self, cols: u32) -> Partition {
        match self {
            Self::F32 => scalar::partition(4, cols),
            Self::F16 | Self::Bf16 => scalar::partition(2, cols),
            Self::Q4_0 => q4_0::partition(),
            Self::Q8_0 => q8_0::partition(),
            Self::Q4K => q4_k::partition(),
            Self::Q5K => q5_k::partition(),
            Self::Q6K => q6_k::partition(),
        }
    }

    /// The same where tensor cores multiply them: no part has fewer columns than share a scale of activations.
    pub(crate) fn tile_partition(self, cols: u32) -> Partition {
        if self.factor().is_some() { scalar::groups() } else { self.partition(cols) }
    }

    /// Emits what depends on the part's number alone.
    pub(crate) fn decoder(self, k: &mut KernelBuilder, part: Reg<U32>) -> Decoder {
        match self {
            Self::F32 => Decoder::F32,
            Self::F16 => Decoder::F16,
            Self::Bf16 => Decoder::Bf16,
            Self::Q4_0 => Decoder::Q4_0,
            Self::Q8_0 => Decoder::Q8_0,
            Self::Q4K => Decoder::Q4K(q4_k::SubBlocks::new(k, part)),
            Self::Q5K => Decoder::Q5K(q5_k::Bits::new(k, part)),
            Self::Q6K => Decoder::Q6K,
        }
    }

    /// Whether quants are offset, so that products with Q8 activations take the sums of these.
    pub(crate) const fn has_offset(self) -> bool {
        matches!(self, Self::Q4_0 | Self::Q4K | Self::Q5K)
    }

    /// What [`Decoder::dot_q8`] wants of the groups of activations that a part meets, in the order of
    /// [`Q8Activations::groups`]: vectors of so many f32, so many bytes from the pair `(d, d * sum)` of the part's first
    /// group. None for weights that are no bytes.
    pub(crate) const fn group_loads(self) -> &'static [GroupLoad] {
        match self {
            Self::Q8_0 => &[GroupLoad { offset: 0, len: 1 }],
            Self::Q4_0 => &[GroupLoad { offset: 0, len: 2 }],
            Self::Q4K | Self::Q5K => &[GroupLoad { offset: 0, len: 4 }],
            Self::Q6K => &[GroupLoad { offset: 0, len: 4 }, GroupLoad { offset: 16, len: 4 }],
            Self::F32 | Self::F16 | Self::Bf16 => &[],
        }
    }
}

impl Decoder {
    /// Emits the factors that [`values`](Self::values) needs, once a part.
    pub(crate) fn factors(self, k: &mut KernelBuilder, raw: &Raw) -> Vec<Reg<F32>> {
        match self {
            Self::F32 | Self::F16 | Self::Bf16 => Vec::new(),
            Self::Q4_0 | Self::Q8_0 => vec![raw.f16(k, 0)],
            Self::Q4K(sub_blocks) => q4_k::factors(k, sub_blocks, &raw.words[8..]).to_vec(),
            Self::Q5K(bits) => q5_k::factors(k, bits, raw),
            Self::Q6K => q6_k::factors(k, raw),
        }
    }

    /// Emits four weights of run `run` as f32, from its column `4 * quad` on; fewer if the run is shorter.
    pub(crate) fn values(
        self,
        k: &mut KernelBuilder,
        raw: &Raw,
        factors: &[Reg<F32>],
        run: usize,
        quad: usize,
    ) -> Vec<Reg<F32>> {
        match self {
            Self::F32 => scalar::f32_values(k, raw),
            Self::F16 => scalar::f16_values(k, raw, quad),
            Self::Bf16 => scalar::bf16_values(k, raw, quad),
            Self::Q4_0 => q4_0::values(k, raw, factors, run, quad),
            Self::Q8_0 => q8_0::values(k, raw, factors, quad),
            Self::Q4K(_) => q4_k::values(k, raw, factors, run, quad),
            Self::Q5K(bits) => q5_k::values(k, bits, raw, factors, run, quad),
            Self::Q6K => q6_k::values(k, raw, factors, run, quad),
        }
    }

    /// Emits the decoding of a part for [`dot_q8`](Self::dot_q8).
    ///
    /// # Panics
    /// If not [`WeightFormat::has_bytes`], as [`dot_q8`](Self::dot_q8).
    pub(crate) fn q8_part(self, k: &mut KernelBuilder, raw: &Raw) -> Q8Part {
        match self {
            Self::Q4_0 => q4_0::q8_part(k, raw),
            Self::Q8_0 => q8_0::q8_part(k, raw),
            Self::Q4K(sub_blocks) => q4_k::q8_part(k, sub_blocks, raw),
            Self::Q5K(bits) => q5_k::q8_part(k, bits, raw),
            Self::Q6K => q6_k::q8_part(k, raw),
            Self::F32 | Self::F16 | Self::Bf16 => self.without_bytes(),
        }
    }

    /// Emits the dot product of a part with activations, added to `sum`.
    pub(crate) fn dot_q8(
        self,
        k: &mut KernelBuilder,
        part: &Q8Part,
        x: &Q8Activations,
        sum: Reg<F32>,
    ) -> Reg<F32> {
        let len = part.words.len() / part.groups.len();
        let operands = part.words.chunks(len).zip(x.words.chunks(len)).zip(x.groups.chunks(2));
        part.groups.iter().zip(operands).fold(sum, |sum, (group, ((words, x), pair))| {
            let zero = zero_dot(k);
            let start = match self {
                Self::Q6K => x.iter().fold(zero, |dot, &x| k.dp4a_ss::<B32, B32>(q6_k::MINUS_BIAS, x, dot)),
                _ => zero,
            };
            let dot = words.iter().zip(x).fold(start, |dot, (&word, &x)| match self {
                Self::Q8_0 => k.dp4a_ss(word, x, dot),
                _ => k.dp4a_us(word, x, dot),
            });
            let dot = as_float(k, dot);
            group.add(k, pair, dot, sum)
        })
    }

    fn without_bytes(self) -> ! {
        panic!("{self:?} weights are no bytes to multiply")
    }
}

impl Partition {
    /// Emits the loads of a part, `offsets` bytes from the pointers of its streams; only where `guard` holds.
    pub(crate) fn load(
        &self,
        k: &mut KernelBuilder,
        streams: &[Reg<U64>],
        offsets: &[i32],
        guard: Option<Pred>,
    ) -> Raw {
        let mut raw = Raw::default();
        for load in &self.loads {
            let at = streams[load.stream] + (offsets[load.stream] + load.offset as i32);
            match load.bytes {
                16 => raw.words.extend(match guard {
                    Some(p) => k.load_v4_or::<B32>(p, Space::Global, Load::NC, at, 0u32),
                    None => k.load_v4::<B32>(Space::Global, Load::NC, at),
                }),
                8 => {
                    let both = match guard {
                        Some(p) => k.load_or::<B64>(p, Space::Global, Load::NC, at, 0u64),
                        None => k.load::<B64>(Space::Global, Load::NC, at),
                    };
                    raw.words.extend(k.unpack64::<B32>(both));
                }
                4 => raw.words.push(match guard {
                    Some(p) => k.load_or::<B32>(p, Space::Global, Load::NC, at, 0u32),
                    None => k.load::<B32>(Space::Global, Load::NC, at),
                }),
                2 => raw.halves.push(match guard {
                    Some(p) => k.load_or::<U16>(p, Space::Global, Load::NC, at, 0u16),
                    None => k.load::<U16>(Space::Global, Load::NC, at),
                }),
                _ => raw.bytes.push(match guard {
                    Some(p) => k.load_or::<S8>(p, Space::Global, Load::NC, at, 0i32),
                    None => k.load::<S8>(Space::Global, Load::NC, at),
                }),
            }
        }
        raw
    }
}
