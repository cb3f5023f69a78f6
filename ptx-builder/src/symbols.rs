//! What a module declares beside its kernels: variables and their initial values, linkage, call prototypes.

use crate::ids::{FuncId, GlobalId};
use crate::inst::Space;
use crate::module::ParamTy;
use crate::ty::Ty;

/// Who sees a symbol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Linkage {
    /// This module only.
    #[default]
    Internal,
    /// Everybody.
    Visible,
    /// Declared here, defined elsewhere.
    Extern,
    /// Everybody; one of several definitions is taken.
    Weak,
    /// Everybody; definitions without initial value are merged.
    Common,
}

impl Linkage {
    /// Every linkage.
    pub const ALL: [Self; 5] = [Self::Internal, Self::Visible, Self::Extern, Self::Weak, Self::Common];

    /// The directive with its dot; empty for [`Linkage::Internal`].
    pub const fn directive(self) -> &'static str {
        match self {
            Self::Internal => "",
            Self::Visible => ".visible",
            Self::Extern => ".extern",
            Self::Weak => ".weak",
            Self::Common => ".common",
        }
    }
}

/// A variable at module scope.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Global {
    /// The symbol.
    pub name: String,
    /// Who sees it.
    pub linkage: Linkage,
    /// [`Space::Global`], [`Space::Const`], or [`Space::Shared`] for shared memory that several functions of the
    /// module name: each block has its own.
    pub space: Space,
    /// Element type.
    pub ty: Ty,
    /// Number of elements. 0 only if [`Linkage::Extern`] leaves it open.
    pub len: u32,
    /// Alignment in bytes.
    pub align: u32,
    /// The first bytes of the initial value, little endian; the others are zero.
    pub init: Vec<u8>,
    /// Addresses in the initial value, ascending by offset. The bytes of `init` under them, if any, are zero.
    pub relocations: Vec<Relocation>,
}

impl Global {
    /// Size in bytes.
    pub const fn bytes(&self) -> u64 {
        self.ty.bytes() as u64 * self.len as u64
    }
}

/// An address in the initial value of a variable.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Relocation {
    /// Where in the variable, in bytes.
    pub offset: u32,
    /// Of what.
    pub symbol: SymbolId,
    /// Bytes that are added to the address.
    pub addend: i64,
    /// Is it the generic address, rather than the one within the space of the symbol?
    pub generic: bool,
    /// How many bytes are written: 8, in a variable of `.u64`, or 1, in one of `.u8`.
    pub bytes: u8,
    /// The first byte of the address that is written.
    pub first: u8,
}

/// A symbol of the module whose address is known at load time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum SymbolId {
    /// A function.
    Function(FuncId),
    /// A variable.
    Global(GlobalId),
}

/// The signature of the function that an indirect call expects.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Prototype {
    /// Results.
    pub returns: Vec<ParamTy>,
    /// Parameters.
    pub params: Vec<ParamTy>,
    /// Does the callee never return?
    pub noreturn: bool,
}
