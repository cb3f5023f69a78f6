//! Typed values: what a register holds, known to the Rust type checker and erased in the IR.

use crate::ids::RegId;
use crate::inst::Operand;
use crate::ops::Op;
use crate::ty::Ty;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Not;

mod sealed {
    pub trait Sealed {}
}
pub(super) use sealed::Sealed;

/// A type that a register can have.
#[diagnostic::on_unimplemented(message = "`{Self}` is not the type of a register")]
pub trait RegTy: MemTy<Reg = Self> + Copy + fmt::Debug {
    /// The type in instructions.
    const TY: Ty;
    /// The type in instructions that take only plain types (`mov`, `selp`, `ld`): the bits of a small float.
    const PLAIN: Ty;
    /// The register class; types that share it can be [`Reg::cast`] into each other for free.
    type Class;
}

/// A type that memory can hold and the type of the register that it is loaded into.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a type that memory holds")]
pub trait MemTy: Sealed + 'static {
    /// The type in memory.
    const MEM: Ty;
    /// The type in the register.
    type Reg: RegTy;
}

/// Integers of 16, 32 and 64 bits.
#[diagnostic::on_unimplemented(message = "`{Self}` is not an integer type")]
pub trait Int: Arith + Bits + Compare + Divide {}

/// Signed integers.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a signed integer type")]
pub trait Signed: Int {}

/// Integers with a `mul.wide`.
#[diagnostic::on_unimplemented(message = "`{Self}` has no widening multiplication")]
pub trait Widen: Int {
    /// Twice the width.
    type Wide: Int;
}

/// Types with bitwise operations and shifts.
#[diagnostic::on_unimplemented(message = "`{Self}` has no bitwise operations")]
pub trait Bits: RegTy {
    /// The same width, untyped.
    const BITS: Ty;
}

/// Types with `add`, `sub`, `mul`, `min`, `max`.
#[diagnostic::on_unimplemented(message = "`{Self}` has no arithmetic")]
pub trait Arith: RegTy {
    #[doc(hidden)]
    const OPS: ArithOps;
}

/// Types with negation and absolute value.
#[diagnostic::on_unimplemented(message = "`{Self}` has no sign")]
pub trait Neg: Arith {
    #[doc(hidden)]
    const NEG: Op;
    #[doc(hidden)]
    const ABS: Op;
}

/// Types with `div`.
#[diagnostic::on_unimplemented(message = "`{Self}` has no division")]
pub trait Divide: Arith {
    #[doc(hidden)]
    const DIV: Op;
}

/// Float types, scalar or packed.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a float type")]
pub trait Float: Neg {
    #[doc(hidden)]
    const FMA: Op;
}

/// Single and double precision: types with correctly rounded `rcp` and `sqrt`.
#[diagnostic::on_unimplemented(message = "`{Self}` is not f32 or f64")]
pub trait FullFloat: Float + Divide {
    #[doc(hidden)]
    const RCP: Op;
    #[doc(hidden)]
    const SQRT: Op;
}

/// Types that `setp` compares.
#[diagnostic::on_unimplemented(message = "`{Self}` has no comparison")]
pub trait Compare: RegTy {}

/// 32-bit types that lanes of a warp can exchange.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a 32-bit register type")]
pub trait Lane: RegTy {}

/// 32-bit types that live in untyped registers.
#[diagnostic::on_unimplemented(message = "`{Self}` is not an untyped 32-bit register type")]
pub trait Word: Lane {}

/// Types of atomic operations.
#[diagnostic::on_unimplemented(message = "`{Self}` has no atomic operations")]
pub trait AtomTy: RegTy {}

/// Types that `cvt` converts to or from.
#[diagnostic::on_unimplemented(message = "`{Self}` has no conversions")]
pub trait CvtTy: Sealed + 'static {
    #[doc(hidden)]
    const CVT: Ty;
    /// The register that holds it.
    type Holder: RegTy;
}

#[doc(hidden)]
#[derive(Debug)]
pub struct ArithOps {
    pub add: Op,
    pub sub: Op,
    pub mul: Op,
    pub min: Op,
    pub max: Op,
    /// Are `add`, `sub` and `mul` written with `.rn`, so that they are not contracted into `fma`?
    pub rounds: bool,
}

/// A register of type `T`, assigned once.
pub struct Reg<T> {
    id: RegId,
    marker: PhantomData<fn() -> T>,
}

/// A register of type `T` that may be assigned again: loop-carried state.
///
/// Used as an operand it stands for its value at that point.
pub struct Var<T> {
    id: RegId,
    marker: PhantomData<fn() -> T>,
}

macro_rules! handle {
    ($name:ident) => {
        impl<T> Clone for $name<T> {
            fn clone(&self) -> Self {
                *self
            }
        }

        impl<T> Copy for $name<T> {}

        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.id, f)
            }
        }

        impl<T> $name<T> {
            pub(crate) const fn new(id: RegId) -> Self {
                Self { id, marker: PhantomData }
            }

            /// The register in the IR.
            pub const fn id(self) -> RegId {
                self.id
            }
        }
    };
}

handle!(Reg);
handle!(Var);

impl<T: RegTy> Reg<T> {
    /// The same register read as another type of its class: free, no instruction.
    pub const fn cast<U: RegTy<Class = T::Class>>(self) -> Reg<U> {
        Reg::new(self.id)
    }

    pub(super) const fn operand(self) -> Operand {
        Operand::Reg(self.id)
    }
}

impl<T: RegTy> Var<T> {
    pub(super) const fn operand(self) -> Operand {
        Operand::Reg(self.id)
    }

    /// The register as a value that changes when the variable is assigned. For a value that stays, see
    /// [`KernelBuilder::get`](super::KernelBuilder::get).
    pub const fn live(self) -> Reg<T> {
        Reg::new(self.id)
    }
}

/// A predicate, possibly negated: `!p` costs nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pred {
    pub(super) id: RegId,
    pub(super) negated: bool,
}

impl Pred {
    pub(crate) const fn new(id: RegId, negated: bool) -> Self {
        Self { id, negated }
    }

    /// The register in the IR.
    pub const fn id(self) -> RegId {
        self.id
    }

    /// Does it stand for the opposite of its register?
    pub const fn is_negated(self) -> bool {
        self.negated
    }
}

impl Not for Pred {
    type Output = Self;

    fn not(self) -> Self {
        Self { negated: !self.negated, ..self }
    }
}

/// A register or variable, whatever its type.
#[diagnostic::on_unimplemented(message = "`{Self}` is not a register")]
pub trait AnyReg: Sealed + Copy {
    /// Its type.
    type T: RegTy;
    #[doc(hidden)]
    fn reg(self) -> Reg<Self::T>;
}

impl<T> Sealed for Reg<T> {}
impl<T> Sealed for Var<T> {}

impl<T: RegTy> AnyReg for Reg<T> {
    type T = T;

    fn reg(self) -> Self {
        self
    }
}

impl<T: RegTy> AnyReg for Var<T> {
    type T = T;

    fn reg(self) -> Reg<T> {
        self.live()
    }
}

/// An operand of type `T`: a register, a variable, or a Rust number of the fitting type.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an operand of type `{T}`",
    label = "expected a register, variable or literal of type `{T}`"
)]
pub trait Val<T: RegTy>: Sealed + Copy {
    #[doc(hidden)]
    fn operand(self) -> Operand;
}

impl<T: RegTy> Val<T> for Reg<T> {
    fn operand(self) -> Operand {
        Operand::Reg(self.id)
    }
}

impl<T: RegTy> Val<T> for Var<T> {
    fn operand(self) -> Operand {
        Operand::Reg(self.id)
    }
}

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
