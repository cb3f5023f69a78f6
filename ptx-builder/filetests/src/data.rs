//! Arrays of any element type that PTX has.

use std::fmt;

use half::{bf16, f16};

/// The type of an element.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[expect(missing_docs, reason = "the names of PTX")]
pub enum Elem {
    U8,
    S8,
    U16,
    S16,
    U32,
    S32,
    U64,
    S64,
    F16,
    BF16,
    F32,
    F64,
}

impl Elem {
    const NAMES: [(&'static str, Self); 12] = [
        ("u8", Self::U8),
        ("s8", Self::S8),
        ("u16", Self::U16),
        ("s16", Self::S16),
        ("u32", Self::U32),
        ("s32", Self::S32),
        ("u64", Self::U64),
        ("s64", Self::S64),
        ("f16", Self::F16),
        ("bf16", Self::BF16),
        ("f32", Self::F32),
        ("f64", Self::F64),
    ];

    /// By the name that PTX has for it, without the dot.
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(n, _)| *n == name).map(|&(_, elem)| elem)
    }

    /// Its size.
    pub fn bytes(self) -> usize {
        match self {
            Self::U8 | Self::S8 => 1,
            Self::U16 | Self::S16 | Self::F16 | Self::BF16 => 2,
            Self::U32 | Self::S32 | Self::F32 => 4,
            Self::U64 | Self::S64 | Self::F64 => 8,
        }
    }

    /// Its size.
    pub fn bits(self) -> u32 {
        8 * self.bytes() as u32
    }

    /// Whether its values are floating point numbers.
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::BF16 | Self::F32 | Self::F64)
    }

    /// Whether its values are integers with a sign.
    pub fn is_signed(self) -> bool {
        matches!(self, Self::S8 | Self::S16 | Self::S32 | Self::S64)
    }

    /// The bits that an element has.
    pub fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// An integer's low bits; for floating point types the nearest value's bits.
    pub fn from_int(self, value: i128) -> u64 {
        if self.is_float() { self.from_f64(value as f64) } else { value as u64 & self.mask() }
    }

    /// The bits of the nearest value, ties to even; for integer types towards zero and saturating.
    pub fn from_f64(self, value: f64) -> u64 {
        match self {
            Self::F16 => narrow(value, 5, 10),
            Self::BF16 => narrow(value, 8, 7),
            Self::F32 => u64::from((value as f32).to_bits()),
            Self::F64 => value.to_bits(),
            Self::U64 => value as u64,
            _ => {
                let (low, high) = self.range();
                (value as i128).clamp(low, high) as u64 & self.mask()
            }
        }
    }

    /// The smallest and the largest value of an integer type.
    pub fn range(self) -> (i128, i128) {
        let bits = self.bits();
        if self.is_signed() { (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) } else { (0, (1 << bits) - 1) }
    }

    /// What the bits stand for, if this is an integer type; the bits themselves otherwise.
    pub fn int(self, bits: u64) -> i128 {
        if self.is_signed() {
            let shift = 64 - self.bits();
            i128::from((bits << shift) as i64 >> shift)
        } else {
            i128::from(bits)
        }
    }

    /// What the bits stand for.
    pub fn f64(self, bits: u64) -> f64 {
        match self {
            Self::F16 => f16::from_bits(bits as u16).to_f64(),
            Self::BF16 => bf16::from_bits(bits as u16).to_f64(),
            Self::F32 => f64::from(f32::from_bits(bits as u32)),
            Self::F64 => f64::from_bits(bits),
            _ => self.int(bits) as f64,
        }
    }
}

impl fmt::Display for Elem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, elem)| elem == self).map_or("?", |(name, _)| name))
    }
}

/// The nearest value of a format with so many bits of exponent and fraction, ties to even, in one rounding.
fn narrow(value: f64, exponent_bits: u32, fraction_bits: u32) -> u64 {
    let sign = u64::from(value.is_sign_negative()) << (exponent_bits + fraction_bits);
    let infinity = ((1 << exponent_bits) - 1) << fraction_bits;
    if value.is_nan() {
        return infinity | 1 << (fraction_bits - 1);
    }
    if value.is_infinite() {
        return sign | infinity;
    }
    let least = 2 - (1 << (exponent_bits - 1));
    let exponent = (value.to_bits() >> 52 & 0x7ff) as i32 - 1023;
    // The integer that counts the units of the last place; a carry out of it moves the exponent up.
    let unit = exponent.max(least) - fraction_bits as i32;
    let count = (value.abs() * 2f64.powi(-unit)).round_ties_even() as u64;
    let normal = if exponent >= least { ((exponent - least) as u64) << fraction_bits } else { 0 };
    sign | (normal + count).min(infinity)
}

/// Elements of one type, each as its bits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Data {
    /// The type of every element.
    pub elem: Elem,
    /// The elements; bits above the element's own are zero.
    pub bits: Vec<u64>,
}

impl Data {
    /// Elements from their bits.
    pub fn new(elem: Elem, bits: Vec<u64>) -> Self {
        let mask = elem.mask();
        Self { elem, bits: bits.into_iter().map(|b| b & mask).collect() }
    }

    /// Integers, wrapped to the type.
    pub fn ints(elem: Elem, values: impl IntoIterator<Item = i128>) -> Self {
        Self { elem, bits: values.into_iter().map(|v| elem.from_int(v)).collect() }
    }

    /// Numbers, rounded to the type.
    pub fn floats(elem: Elem, values: impl IntoIterator<Item = f64>) -> Self {
        Self { elem, bits: values.into_iter().map(|v| elem.from_f64(v)).collect() }
    }

    /// How many elements.
    pub fn len(&self) -> usize {
        self.bits.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bits.is_empty()
    }

    /// The integer at `i`; a single element stands for any number of them.
    pub fn int(&self, i: usize) -> i128 {
        self.elem.int(self.raw(i))
    }

    /// The number at `i`.
    pub fn f64(&self, i: usize) -> f64 {
        self.elem.f64(self.raw(i))
    }

    /// The number at `i`, if the type is `f32`; otherwise the nearest.
    pub fn f32(&self, i: usize) -> f32 {
        self.f64(i) as f32
    }

    /// The bits at `i`.
    pub fn raw(&self, i: usize) -> u64 {
        self.bits[if self.bits.len() == 1 { 0 } else { i }]
    }

    /// The elements as memory has them.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.bits.iter().flat_map(|b| b.to_le_bytes()[..self.elem.bytes()].to_vec()).collect()
    }

    /// From memory; a rest that is not a whole element is dropped.
    pub fn from_bytes(elem: Elem, bytes: &[u8]) -> Self {
        let bits = bytes.chunks_exact(elem.bytes()).map(|chunk| {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        Self { elem, bits: bits.collect() }
    }

    /// One element for a reader: its value, and its bits where the value does not tell everything.
    pub fn show(&self, i: usize) -> String {
        let bits = self.raw(i);
        if self.elem.is_float() {
            format!("{:?} ({bits:#x})", self.elem.f64(bits))
        } else {
            format!("{} ({bits:#x})", self.elem.int(bits))
        }
    }
}
