//! The types themselves, and which traits of [`super::value`] each has.

use super::value::{
    Arith, ArithOps, AtomTy, Bits, Compare, CvtTy, Divide, Float, FullFloat, Int, Lane, MemTy, Neg, RegTy,
    Sealed, Signed, Val, Widen, Word,
};
use crate::inst::Operand;
use crate::ops::Op;
use crate::ty::Ty;
use std::marker::PhantomData;

macro_rules! classes {
    ($($(#[$doc:meta])* $class:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Debug)]
        pub enum $class {}
    )* };
}

/// Register classes at the type level.
pub mod class {
    classes! {
        /// 16 untyped bits.
        B16;
        /// 32 untyped bits.
        B32;
        /// 64 untyped bits.
        B64;
        /// Single precision.
        F32;
        /// Double precision.
        F64;
    }
}

macro_rules! types {
    ($($(#[$doc:meta])* $name:ident $class:ident $plain:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {}

        impl Sealed for $name {}

        impl RegTy for $name {
            const TY: Ty = Ty::$name;
            const PLAIN: Ty = Ty::$plain;
            type Class = class::$class;
        }

        impl MemTy for $name {
            const MEM: Ty = Ty::$plain;
            type Reg = Self;
        }
    )* };
}

types! {
    /// Unsigned 16-bit integer.
    U16 B16 U16;
    /// Signed 16-bit integer.
    S16 B16 S16;
    /// 16 untyped bits.
    B16 B16 B16;
    /// IEEE half.
    F16 B16 B16;
    /// bfloat16.
    BF16 B16 B16;
    /// Unsigned 32-bit integer.
    U32 B32 U32;
    /// Signed 32-bit integer.
    S32 B32 S32;
    /// 32 untyped bits.
    B32 B32 B32;
    /// Two IEEE halves, the first in the lower bits.
    F16x2 B32 B32;
    /// Two bfloat16 values, the first in the lower bits.
    BF16x2 B32 B32;
    /// Unsigned 64-bit integer; addresses.
    U64 B64 U64;
    /// Signed 64-bit integer.
    S64 B64 S64;
    /// 64 untyped bits.
    B64 B64 B64;
    /// IEEE single.
    F32 F32 F32;
    /// IEEE double.
    F64 F64 F64;
}

macro_rules! memory_only {
    ($($(#[$doc:meta])* $name:ident $reg:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $name {}

        impl Sealed for $name {}

        impl MemTy for $name {
            const MEM: Ty = Ty::$name;
            type Reg = $reg;
        }

        impl CvtTy for $name {
            const CVT: Ty = Ty::$name;
            type Holder = $reg;
        }
    )* };
}

memory_only! {
    /// Unsigned byte; in a register, a zero-extended [`U32`].
    U8 U32;
    /// Signed byte; in a register, a sign-extended [`S32`].
    S8 S32;
}

/// Untyped byte: the element of raw arrays. No register holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum B8 {}

impl Sealed for B8 {}

impl MemTy for B8 {
    const MEM: Ty = Ty::B8;
    type Reg = B32;
}

/// A 16-bit integer in memory (or the operand of a conversion) that a 32-bit register holds, extended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WideInt<T>(PhantomData<T>);

impl<T> Sealed for WideInt<T> {}

macro_rules! wide_ints {
    ($($name:ident $reg:ident;)*) => { $(
        impl MemTy for WideInt<$name> {
            const MEM: Ty = Ty::$name;
            type Reg = $reg;
        }

        impl CvtTy for WideInt<$name> {
            const CVT: Ty = Ty::$name;
            type Holder = $reg;
        }
    )* };
}

wide_ints! {
    U16 U32;
    S16 S32;
    B16 B32;
}

macro_rules! mark {
    ($($tr:ident: $($name:ident)*;)*) => { $($(impl $tr for $name {})*)* };
}

mark! {
    Int: U16 U32 U64 S16 S32 S64;
    Signed: S16 S32 S64;
    Compare: U16 U32 U64 S16 S32 S64 B16 B32 B64 F16 BF16 F32 F64;
    Lane: U32 S32 B32 F16x2 BF16x2 F32;
    Word: U32 S32 B32 F16x2 BF16x2;
    AtomTy: U32 U64 S32 S64 B16 B32 B64 F16 F16x2 BF16 BF16x2 F32 F64;
}

macro_rules! bits {
    ($($name:ident $bits:ident;)*) => { $(
        impl Bits for $name {
            const BITS: Ty = Ty::$bits;
        }
    )* };
}

bits! {
    U16 B16; S16 B16; B16 B16;
    U32 B32; S32 B32; B32 B32;
    U64 B64; S64 B64; B64 B64;
}

macro_rules! widen {
    ($($name:ident $wide:ident;)*) => { $(
        impl Widen for $name {
            type Wide = $wide;
        }
    )* };
}

widen! { U16 U32; S16 S32; U32 U64; S32 S64; }

macro_rules! arith {
    ($($($name:ident)*: $add:ident $sub:ident $mul:ident $min:ident $max:ident $rounds:literal;)*) => { $($(
        impl Arith for $name {
            const OPS: ArithOps = ArithOps {
                add: Op::$add,
                sub: Op::$sub,
                mul: Op::$mul,
                min: Op::$min,
                max: Op::$max,
                rounds: $rounds,
            };
        }
    )*)* };
}

arith! {
    U16 U32 U64 S16 S32 S64: Add Sub MulLo Min Max false;
    F32: FAdd FSub FMul FMin FMax true;
    F64: DAdd DSub DMul DMin DMax true;
    F16 F16x2: HAdd HSub HMul HMin HMax true;
    BF16 BF16x2: BAdd BSub BMul BMin BMax true;
}

macro_rules! signs {
    ($($($name:ident)*: $neg:ident $abs:ident;)*) => { $($(
        impl Neg for $name {
            const NEG: Op = Op::$neg;
            const ABS: Op = Op::$abs;
        }
    )*)* };
}

signs! {
    S16 S32 S64: Neg Abs;
    F32: FNeg FAbs;
    F64: DNeg DAbs;
    F16 F16x2: HNeg HAbs;
    BF16 BF16x2: BNeg BAbs;
}

macro_rules! constants {
    ($($tr:ident: $($name:ident { $($constant:ident = $op:ident)* })*;)*) => { $($(
        impl $tr for $name {
            $(const $constant: Op = Op::$op;)*
        }
    )*)* };
}

constants! {
    Divide:
        U16 { DIV = Div } U32 { DIV = Div } U64 { DIV = Div }
        S16 { DIV = Div } S32 { DIV = Div } S64 { DIV = Div }
        F32 { DIV = FDiv } F64 { DIV = DDiv };
    Float:
        F32 { FMA = FFma } F64 { FMA = DFma } F16 { FMA = HFma } F16x2 { FMA = HFma }
        BF16 { FMA = BFma } BF16x2 { FMA = BFma };
    FullFloat:
        F32 { RCP = FRcp SQRT = FSqrt } F64 { RCP = DRcp SQRT = DSqrt };
}

macro_rules! converts {
    ($($name:ident)*) => { $(
        impl CvtTy for $name {
            const CVT: Ty = Ty::$name;
            type Holder = Self;
        }
    )* };
}

converts! { U16 U32 U64 S16 S32 S64 F16 BF16 F32 F64 }

macro_rules! literals {
    ($($rust:ident: $($ty:ident)* => |$v:ident| $operand:expr;)*) => { $(
        impl Sealed for $rust {}
        $(impl Val<$ty> for $rust {
            fn operand(self) -> Operand {
                let $v = self;
                $operand
            }
        })*
    )* };
}

literals! {
    u16: U16 B16 => |v| Operand::Int(i64::from(v));
    i16: S16 => |v| Operand::Int(i64::from(v));
    u32: U32 B32 => |v| Operand::Int(i64::from(v));
    i32: S32 => |v| Operand::Int(i64::from(v));
    u64: U64 B64 => |v| Operand::Int(v.cast_signed());
    i64: S64 => |v| Operand::Int(v);
    f32: F32 => |v| Operand::F32(v.to_bits());
    f64: F64 => |v| Operand::F64(v.to_bits());
}
