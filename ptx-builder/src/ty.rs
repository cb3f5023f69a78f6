//! PTX scalar types and which registers may hold them.

use crate::ids::RegClass;
use std::fmt;

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident $text:literal $bits:literal $kind:ident;)*) => {
        /// The type suffix of an instruction.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub enum Ty { $($(#[$doc])* $name,)* }

        impl Ty {
            /// Every type.
            pub const ALL: &'static [Self] = &[$(Self::$name),*];

            /// The suffix without its dot.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// Width in bits; packed pairs count both halves.
            pub const fn bits(self) -> u32 {
                match self { $(Self::$name => $bits,)* }
            }

            /// What the bits mean.
            pub const fn kind(self) -> TyKind {
                match self { $(Self::$name => TyKind::$kind,)* }
            }

            pub(crate) fn parse(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

/// What the bits of a type mean.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TyKind {
    /// One predicate bit.
    Pred,
    /// Bits without a meaning.
    Bits,
    /// An unsigned integer.
    Unsigned,
    /// A two's complement integer.
    Signed,
    /// One IEEE float of 32 or 64 bits, which has registers of its own.
    Float,
    /// A float format (one or several values) that lives in an untyped register.
    SmallFloat,
}

types! {
    /// A predicate.
    Pred "pred" 1 Pred;
    /// 8 untyped bits.
    B8 "b8" 8 Bits;
    /// 16 untyped bits.
    B16 "b16" 16 Bits;
    /// 32 untyped bits.
    B32 "b32" 32 Bits;
    /// 64 untyped bits.
    B64 "b64" 64 Bits;
    /// Unsigned 8-bit integer.
    U8 "u8" 8 Unsigned;
    /// Unsigned 16-bit integer.
    U16 "u16" 16 Unsigned;
    /// Unsigned 32-bit integer.
    U32 "u32" 32 Unsigned;
    /// Unsigned 64-bit integer.
    U64 "u64" 64 Unsigned;
    /// Signed 8-bit integer.
    S8 "s8" 8 Signed;
    /// Signed 16-bit integer.
    S16 "s16" 16 Signed;
    /// Signed 32-bit integer.
    S32 "s32" 32 Signed;
    /// Signed 64-bit integer.
    S64 "s64" 64 Signed;
    /// IEEE half.
    F16 "f16" 16 SmallFloat;
    /// Two IEEE halves, the lower half first.
    F16x2 "f16x2" 32 SmallFloat;
    /// bfloat16.
    BF16 "bf16" 16 SmallFloat;
    /// Two bfloat16 values, the lower half first.
    BF16x2 "bf16x2" 32 SmallFloat;
    /// TensorFloat-32 in a 32-bit register.
    TF32 "tf32" 32 SmallFloat;
    /// Two FP8 values of 4 exponent and 3 mantissa bits.
    E4M3x2 "e4m3x2" 16 SmallFloat;
    /// Two FP8 values of 5 exponent and 2 mantissa bits.
    E5M2x2 "e5m2x2" 16 SmallFloat;
    /// Two IEEE singles, the lower half first.
    F32x2 "f32x2" 64 SmallFloat;
    /// IEEE single.
    F32 "f32" 32 Float;
    /// IEEE double.
    F64 "f64" 64 Float;
}

impl Ty {
    /// Width in bytes. Predicates have none in memory and give 0.
    pub const fn bytes(self) -> u32 {
        self.bits() / 8
    }

    /// The narrowest register class that holds a value of this type.
    pub const fn class(self) -> RegClass {
        match (self.kind(), self.bits()) {
            (TyKind::Pred, _) => RegClass::Pred,
            (TyKind::Float, 32) => RegClass::F32,
            (TyKind::Float, _) => RegClass::F64,
            (_, 8 | 16) => RegClass::B16,
            (_, 32) => RegClass::B32,
            (_, _) => RegClass::B64,
        }
    }

    /// The type as which a value of this one is stored or declared: small floats are bits.
    pub(crate) const fn stored(self) -> Self {
        match (self.kind(), self.bits()) {
            (TyKind::SmallFloat, 16) => Self::B16,
            (TyKind::SmallFloat, 64) => Self::B64,
            (TyKind::SmallFloat, _) => Self::B32,
            _ => self,
        }
    }

    /// Is it an integer, signed or not?
    pub const fn is_int(self) -> bool {
        matches!(self.kind(), TyKind::Unsigned | TyKind::Signed)
    }

    /// Is it a signed integer?
    pub const fn is_signed(self) -> bool {
        matches!(self.kind(), TyKind::Signed)
    }

    /// Is it a float of any format?
    pub const fn is_float(self) -> bool {
        matches!(self.kind(), TyKind::Float | TyKind::SmallFloat)
    }

    /// The integer or bit type of twice the width, for `mul.wide` and `mad.wide`.
    pub const fn widened(self) -> Option<Self> {
        Some(match self {
            Self::U16 => Self::U32,
            Self::S16 => Self::S32,
            Self::U32 => Self::U64,
            Self::S32 => Self::S64,
            _ => return None,
        })
    }

    /// May a register of this class be an operand of this type? This is the operand type checking table of
    /// the PTX ISA (section "Operand Type Checking"): sizes agree, untyped bits agree with everything, an
    /// integer type does not agree with a float register.
    pub const fn agrees_with(self, class: RegClass) -> bool {
        match self.kind() {
            TyKind::Pred => matches!(class, RegClass::Pred),
            TyKind::Bits => self.bits() == class.bits() && !matches!(class, RegClass::Pred),
            TyKind::Float => {
                self.class() as u8 == class as u8
                    || (self.bits() == class.bits() && matches!(class, RegClass::B32 | RegClass::B64))
            }
            TyKind::Unsigned | TyKind::Signed | TyKind::SmallFloat => {
                self.class() as u8 == class as u8 && self.bits() == class.bits()
            }
        }
    }

    /// The relaxed rule of `ld`, `cvt` and, but for floats, `st`: values may sit in a wider untyped register, bits in any.
    pub const fn fits_in(self, class: RegClass) -> bool {
        if self.agrees_with(class) {
            return true;
        }
        let takes = match class {
            RegClass::Pred => false,
            RegClass::B16 | RegClass::B32 | RegClass::B64 => !matches!(self.kind(), TyKind::Pred),
            RegClass::F32 | RegClass::F64 => matches!(self.kind(), TyKind::Bits),
        };
        takes && self.bits() <= class.bits()
    }

    /// An integer literal of this type as it is stored, from any reading of its bits: -1 and 0xFFFFFFFF are
    /// the same `b32`. `None` if it has more bits than the type.
    pub(crate) const fn canonical_literal(self, value: i128) -> Option<i64> {
        let bits = self.bits();
        if self.is_float() || bits < 8 || value < -(1i128 << (bits - 1)) || value >= 1i128 << bits {
            return None;
        }
        #[expect(clippy::cast_possible_truncation, reason = "the value fits in 64 bits, checked above")]
        let raw = (value as i64) << (64 - bits);
        Some(if self.is_signed() {
            raw >> (64 - bits)
        } else {
            (raw.cast_unsigned() >> (64 - bits)).cast_signed()
        })
    }

    /// An integer literal of this type as it is stored, from a literal of 64 bits of which it takes the low ones.
    pub(crate) const fn truncated_literal(self, value: i64) -> Option<i64> {
        let unused = 64 - self.bits();
        self.canonical_literal((value.cast_unsigned() << unused >> unused) as i128)
    }

    /// The smallest and largest value of an integer literal of this type, as it is stored: signed types by
    /// value, the others by their bits, 64-bit ones reinterpreted.
    pub(crate) const fn literal_range(self) -> (i64, i64) {
        match (self.kind(), self.bits()) {
            (TyKind::Signed, bits) => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
            (_, 64) => (i64::MIN, i64::MAX),
            (_, bits) => (0, (1i64 << bits) - 1),
        }
    }
}

impl fmt::Display for Ty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
