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
