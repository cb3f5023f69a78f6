//! Element types: their GGML numbers, names and block geometry.

use std::fmt;

use crate::FormatError;

/// The type of a tensor's elements: a plain scalar or a block-quantised format.
///
/// A row of a block format is a sequence of blocks of [`block_elements`](Self::block_elements) values in
/// [`block_bytes`](Self::block_bytes) bytes each. [`Q8Act`](Self::Q8Act) is the exception: it is planar within a row
/// (see [`q8_act`](crate::q8_act)), and the two figures only give its density.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(non_camel_case_types)] // GGUF's names
pub enum ElementType {
    /// IEEE 754 binary32.
    F32,
    /// IEEE 754 binary16.
    F16,
    /// The upper half of a binary32.
    BF16,
    /// 32 four-bit values and one f16 scale.
    Q4_0,
    /// 32 signed bytes and one f16 scale.
    Q8_0,
    /// 256 four-bit values in 8 sub-blocks, each with a six-bit scale and minimum.
    Q4_K,
    /// 256 five-bit values in 8 sub-blocks, each with a six-bit scale and minimum.
    Q5_K,
    /// 256 six-bit values in 16 sub-blocks, each with an eight-bit scale.
    Q6_K,
    /// Activations as signed bytes with an f32 scale and sum for every 32; not a GGML type.
    Q8Act,
    /// Eight bits: sign, four of exponent, three of mantissa; not a GGML type.
    F8E4M3,
    /// Unsigned 32-bit integers: token ids, positions; not a GGML type.
    U32,
}

impl ElementType {
    /// Every type, in declaration order.
    #[rustfmt::skip]
    pub const ALL: [Self; 11] = [
        Self::F32, Self::F16, Self::BF16,
        Self::Q4_0, Self::Q8_0, Self::Q4_K, Self::Q5_K, Self::Q6_K,
        Self::Q8Act, Self::F8E4M3, Self::U32,
    ];

    /// The types that weights come in: those that a GGUF file can hold.
    #[rustfmt::skip]
    pub const WEIGHTS: [Self; 8] = [
        Self::F32, Self::F16, Self::BF16,
        Self::Q4_0, Self::Q8_0, Self::Q4_K, Self::Q5_K, Self::Q6_K,
    ];

    /// The type with GGML number `id` (`enum ggml_type`, the `type` field of a GGUF tensor).
    ///
    /// # Errors
    /// [`FormatError::Unsupported`], with GGML's name, for a type that GGML has and this crate lacks;
    /// [`FormatError::UnknownType`] for any other number.
    pub fn from_ggml(id: u32) -> Result<Self, FormatError> {
        if let Some(ty) = Self::ALL.into_iter().find(|ty| ty.ggml_id() == Some(id)) {
            return Ok(ty);
        }
        match ggml_name(id) {
            Some(name) => Err(FormatError::Unsupported { id, name }),
            None => Err(FormatError::UnknownType { id }),
        }
    }

    /// The GGML number, or `None` for a type that exists only at run time.
    pub const fn ggml_id(self) -> Option<u32> {
        match self {
            Self::F32 => Some(0),
            Self::F16 => Some(1),
            Self::Q4_0 => Some(2),
            Self::Q8_0 => Some(8),
            Self::Q4_K => Some(12),
            Self::Q5_K => Some(13),
            Self::Q6_K => Some(14),
            Self::BF16 => Some(30),
            Self::Q8Act | Self::F8E4M3 | Self::U32 => None,
        }
    }

    /// The name, as GGML spells it where GGML has the type.
    pub const fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::BF16 => "BF16",
            Self::Q4_0 => "Q4_0",
            Self::Q8_0 => "Q8_0",
            Self::Q4_K => "Q4_K",
            Self::Q5_K => "Q5_K",
            Self::Q6_K => "Q6_K",
            Self::Q8Act => "Q8Act",
            Self::F8E4M3 => "F8E4M3",
            Self::U32 => "U32",
        }
    }

    /// Elements in one block; 1 for scalars.
    pub const fn block_elements(self) -> usize {
        match self {
            Self::F32 | Self::F16 | Self::BF16 | Self::F8E4M3 | Self::U32 => 1,
            Self::Q4_0 | Self::Q8_0 | Self::Q8Act => 32,
            Self::Q4_K | Self::Q5_K | Self::Q6_K => 256,
        }
    }

    /// Bytes of one block.
    pub const fn block_bytes(self) -> usize {
        match self {
            Self::F8E4M3 => 1,
            Self::F16 | Self::BF16 => 2,
            Self::F32 | Self::U32 => 4,
            Self::Q4_0 => 18,
            Self::Q8_0 => 34,
            Self::Q4_K => 144,
            Self::Q5_K => 176,
            Self::Q6_K => 210,
            Self::Q8Act => 40,
        }
    }

    /// Bytes of a row of `elements` values.
    ///
    /// # Errors
    /// [`FormatError::PartialBlock`] if the row is not a whole number of blocks, [`FormatError::Overflow`] if its
    /// size does not fit in `usize`.
    pub fn row_bytes(self, elements: usize) -> Result<usize, FormatError> {
        let block = self.block_elements();
        if !elements.is_multiple_of(block) {
            return Err(FormatError::PartialBlock { ty: self, elements, block });
        }
        (elements / block).checked_mul(self.block_bytes()).ok_or(FormatError::Overflow { ty: self, elements })
    }

    /// Bytes of `rows` contiguous rows of `cols` values each.
    ///
    /// # Errors
    /// As [`row_bytes`](Self::row_bytes).
    pub fn matrix_bytes(self, rows: usize, cols: usize) -> Result<usize, FormatError> {
        self.row_bytes(cols)?.checked_mul(rows).ok_or(FormatError::Overflow { ty: self, elements: rows })
    }

    /// Whether values share scales in blocks.
    pub const fn is_quantised(self) -> bool {
        self.block_elements() > 1
    }

    /// Whether values are floating-point numbers of their own, as those of KV caches are.
    pub const fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::BF16 | Self::F8E4M3)
    }

    /// Whether a GGUF file can hold weights of this type.
    pub const fn is_weight(self) -> bool {
        self.ggml_id().is_some()
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// GGML's name for type number `id`, whether or not this crate reads it; `None` if GGML has no such type.
///
/// The numbers are those of `enum ggml_type` in ggml.h. They are never reused: those of formats that were withdrawn
/// (`Q4_2`, `Q4_3` and the interleaved `Q4_0_4_4` and `IQ4_NL_4_4` families) are still found in old files.
pub const fn ggml_name(id: u32) -> Option<&'static str> {
    #[rustfmt::skip]
    const NAMES: [&str; 43] = [
        "F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1",
        "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K", "IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S",
        "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M",
        "BF16", "Q4_0_4_4", "Q4_0_4_8", "Q4_0_8_8", "TQ1_0", "TQ2_0", "IQ4_NL_4_4", "IQ4_NL_4_8", "IQ4_NL_8_8", "MXFP4",
        "NVFP4", "Q1_0", "Q2_0",
    ];
    if (id as usize) < NAMES.len() { Some(NAMES[id as usize]) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ggml_numbers_round_trip_and_names_agree() {
        for ty in ElementType::ALL {
            if let Some(id) = ty.ggml_id() {
                assert_eq!(ElementType::from_ggml(id), Ok(ty));
                assert_eq!(ggml_name(id), Some(ty.name()));
            }
            assert_eq!(ElementType::WEIGHTS.contains(&ty), ty.is_weight());
        }
    }

    #[test]
    fn unsupported_types_are_named() {
        let message = |id| ElementType::from_ggml(id).unwrap_err().to_string();
        assert_eq!(message(3), "tensor type Q4_1 (3) is not supported");
        assert_eq!(message(11), "tensor type Q3_K (11) is not supported");
        assert_eq!(message(39), "tensor type MXFP4 (39) is not supported");
        assert_eq!(message(42), "tensor type Q2_0 (42) is not supported");
        assert_eq!(message(43), "43 is not a known GGML tensor type");
        assert_eq!(message(u32::MAX), "4294967295 is not a known GGML tensor type");
    }

    #[test]
    fn row_bytes_counts_whole_blocks() {
        let expected = [(ElementType::F32, 1024), (ElementType::F16, 512), (ElementType::BF16, 512)];
        let small = [(ElementType::Q4_0, 144), (ElementType::Q8_0, 272), (ElementType::Q8Act, 320)];
        let large = [(ElementType::Q4_K, 144), (ElementType::Q5_K, 176), (ElementType::Q6_K, 210)];
        let other = [(ElementType::U32, 1024)];
        for (ty, bytes) in expected.into_iter().chain(small).chain(large).chain(other) {
            assert_eq!(ty.row_bytes(256), Ok(bytes), "{ty}");
            assert_eq!(ty.row_bytes(0), Ok(0));
            assert_eq!(ty.matrix_bytes(3, 256), Ok(3 * bytes));
        }
    }

    #[test]
    fn row_bytes_rejects_partial_blocks_and_overflow() {
        let partial = FormatError::PartialBlock { ty: ElementType::Q4_K, elements: 300, block: 256 };
        assert_eq!(ElementType::Q4_K.row_bytes(300), Err(partial));
        assert_eq!(partial.to_string(), "300 elements are not a whole number of Q4_K blocks of 256");
        assert!(matches!(ElementType::F32.row_bytes(usize::MAX / 2), Err(FormatError::Overflow { .. })));
        assert!(matches!(ElementType::Q8_0.matrix_bytes(usize::MAX, 32), Err(FormatError::Overflow { .. })));
    }
}
