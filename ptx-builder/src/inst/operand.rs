//! Operands: registers, literals, addresses, symbols, labels.

use super::SpecialReg;
use crate::ids::{ArrayId, BlockId, CallParamId, FuncId, GlobalId, ParamId, RegId};

/// An operand of an instruction.
///
/// Integer literals hold the value for signed types and the bits, zero-extended, for all others (64-bit
/// values reinterpreted as `i64`). Float literals hold bits, so that equality is exact and printing does
/// not round.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Operand {
    /// The second destination of a pair that nobody wants.
    None,
    /// A register.
    Reg(RegId),
    /// `!%p`: a negated predicate.
    NotPred(RegId),
    /// An integer literal.
    Int(i64),
    /// The bits of a single-precision literal.
    F32(u32),
    /// The bits of a double-precision literal.
    F64(u64),
    /// A special register; only `mov` reads them.
    Special(SpecialReg),
    /// `[base + offset]`.
    Addr(Address),
    /// The address of a symbol, as a value; only `mov` takes it.
    Symbol(Base),
    /// A jump target.
    Label(BlockId),
}

/// What an address is relative to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Base {
    /// A register: 64-bit, or 32-bit for shared memory.
    Reg(RegId),
    /// A parameter of the function.
    Param(ParamId),
    /// A result of the (device) function, which it stores before it returns.
    Return(ParamId),
    /// A parameter variable for a call: arguments are stored to it, results loaded from it.
    CallParam(CallParamId),
    /// A shared or local array of the function.
    Array(ArrayId),
    /// The start of the dynamic shared memory.
    DynamicShared,
    /// A variable of the module.
    Global(GlobalId),
    /// A function of the module; only as a value, for indirect calls.
    Function(FuncId),
}

/// `[base + offset]`, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Address {
    /// What it is relative to.
    pub base: Base,
    /// Signed bytes.
    pub offset: i32,
}

impl Operand {
    /// The register that it names, also as the base of an address.
    pub fn register(&self) -> Option<RegId> {
        match self {
            Self::Reg(reg) | Self::NotPred(reg) | Self::Addr(Address { base: Base::Reg(reg), .. }) => {
                Some(*reg)
            }
            _ => None,
        }
    }

    pub(crate) fn register_mut(&mut self) -> Option<&mut RegId> {
        match self {
            Self::Reg(reg) | Self::NotPred(reg) | Self::Addr(Address { base: Base::Reg(reg), .. }) => {
                Some(reg)
            }
            _ => None,
        }
    }
}
