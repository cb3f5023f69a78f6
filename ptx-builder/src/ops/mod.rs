//! The instruction set: one row per regular instruction, one name per irregular one.
//!
//! A regular instruction is `mnemonic{.modifiers}{.type} defs, uses;` with operand kinds that depend on
//! nothing but its row. Adding one is one line in [`table`]: the enum variant, printing, parsing, uses and
//! defs, verification, gating and [`Op::ALL`] follow from it. Irregular ones only have their names there;
//! their families are the files of [`crate::inst`].

mod table;

pub use table::Op;

use crate::target::Requires;
use crate::ty::Ty;
use std::fmt;

/// The kind of an operand in a row of the table. As a def, a register; as a use, what each says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spec {
    /// Register or literal of the instruction's type.
    T,
    /// Register or literal of twice the width of the instruction's type.
    W,
    /// Register or literal, unsigned 32-bit.
    U32,
    /// Register or literal, signed 32-bit.
    S32,
    /// Register or literal, 32 bits.
    B32,
    /// Untyped register or literal, 32 bits.
    Word,
    /// Register, 32 bits.
    R32,
    /// Untyped register of 32 bits with several values.
    Pair,
    /// Register or literal, single precision.
    F32,
    /// Register or literal, unsigned 64-bit.
    U64,
    /// Predicate register.
    P,
    /// Predicate register, may be negated.
    PN,
    /// Integer literal.
    Imm,
    /// Unsigned 32-bit register or literal that may be left out at the end.
    OptU32,
    /// Address in global memory, `[a]`.
    Global,
    /// Address in shared memory, `[a]`.
    Shared,
    /// Generic address, `[a]`.
    Generic,
}

/// A modifier that a row allows, in the order in which modifiers are printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mod {
    /// `.rn`, `.rz`, `.rm` or `.rp`, or none.
    Rnd,
    /// One of `.rn`, `.rz`, `.rm`, `.rp`, required.
    RndReq,
    /// `.rn` or none.
    Rn,
    /// `.ftz`: flush subnormals to zero.
    Ftz,
    /// `.sat`: clamp to 0..1.
    Sat,
    /// `.f32` before the type, always: the type of the result and of the last operand.
    Single,
}

/// Rounding of a float result.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Rounding {
    /// To nearest, ties to even.
    Rn,
    /// Towards zero.
    Rz,
    /// Towards minus infinity.
    Rm,
    /// Towards plus infinity.
    Rp,
}

impl Rounding {
    /// Every rounding mode.
    pub const ALL: [Self; 4] = [Self::Rn, Self::Rz, Self::Rm, Self::Rp];

    /// The suffix without its dot.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rn => "rn",
            Self::Rz => "rz",
            Self::Rm => "rm",
            Self::Rp => "rp",
        }
    }
}

/// The modifiers that an instruction carries.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Mods {
    /// Explicit rounding. Without one, `add`, `sub` and `mul` round to nearest and may be contracted.
    pub rounding: Option<Rounding>,
    /// Flush subnormal inputs and results to zero.
    pub ftz: bool,
    /// Clamp the result to 0..1.
    pub sat: bool,
}

impl Mods {
    /// No modifier.
    pub const NONE: Self = Self { rounding: None, ftz: false, sat: false };
    /// Round to nearest even.
    pub const RN: Self = Self { rounding: Some(Rounding::Rn), ftz: false, sat: false };
}

impl fmt::Display for Mods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rounding) = self.rounding {
            write!(f, ".{}", rounding.name())?;
        }
        if self.ftz {
            f.write_str(".ftz")?;
        }
        if self.sat {
            f.write_str(".sat")?;
        }
        Ok(())
    }
}

/// What an instruction does beyond computing its results from its operands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Effects {
    /// Reads memory.
    pub reads: bool,
    /// Writes memory.
    pub writes: bool,
    /// Exchanges values or synchronises with other threads.
    pub communicates: bool,
    /// Ends the block: the thread ends or jumps.
    pub terminates: bool,
    /// The result differs from thread to thread, or from time to time, with the same operands.
    pub varies: bool,
}

impl Effects {
    /// None.
    pub const PURE: Self =
        Self { reads: false, writes: false, communicates: false, terminates: false, varies: false };
    /// Reads memory.
    pub const READ: Self = Self { reads: true, ..Self::PURE };
    /// Writes memory.
    pub const WRITE: Self = Self { writes: true, ..Self::PURE };
    /// Reads and writes memory.
    pub const COPY: Self = Self { reads: true, writes: true, ..Self::PURE };
    /// Reads and writes memory atomically; what it returns depends on who came first.
    pub const ATOMIC: Self = Self { varies: true, communicates: true, ..Self::COPY };
    /// Synchronises, orders or paces; has no result.
    pub const SYNC: Self = Self { communicates: true, ..Self::PURE };
    /// Exchanges values with other threads of the warp or block.
    pub const EXCHANGE: Self = Self { communicates: true, varies: true, ..Self::PURE };
    /// Ends the block.
    pub const END: Self = Self { terminates: true, ..Self::PURE };
    /// Unknown: assume everything except a jump.
    pub const UNKNOWN: Self =
        Self { reads: true, writes: true, communicates: true, terminates: false, varies: true };
}

/// A row of the table.
#[derive(Debug)]
pub struct OpInfo {
    /// The variant.
    pub op: Op,
    /// The variant's name.
    pub name: &'static str,
    /// The fixed part of the mnemonic; for irregular instructions its first word.
    pub mnemonic: &'static str,
    /// What only regular instructions have.
    pub regular: Option<RegularInfo>,
}

/// The columns of a regular instruction.
#[derive(Debug)]
pub struct RegularInfo {
    /// Allowed modifiers.
    pub mods: &'static [Mod],
    /// Allowed types; empty for instructions without a type suffix.
    pub types: &'static [Ty],
    /// Results.
    pub defs: &'static [Spec],
    /// Operands.
    pub uses: &'static [Spec],
    /// First PTX ISA version and target.
    pub requires: Requires,
    /// Side effects.
    pub effects: Effects,
}

impl Op {
    /// The row of the regular table, `None` for an irregular instruction.
    pub const fn regular(self) -> Option<&'static RegularInfo> {
        self.info().regular.as_ref()
    }

    /// Does it assign the carry flag of the thread?
    pub const fn sets_carry(self) -> bool {
        use Op::{AddCCc, AddCc, MadCHiCc, MadCLoCc, MadHiCc, MadLoCc, SubCCc, SubCc};
        matches!(self, AddCc | AddCCc | SubCc | SubCCc | MadLoCc | MadHiCc | MadCLoCc | MadCHiCc)
    }

    /// Does it read the carry flag of the thread?
    pub const fn reads_carry(self) -> bool {
        use Op::{AddC, AddCCc, MadCHi, MadCHiCc, MadCLo, MadCLoCc, SubC, SubCCc};
        matches!(self, AddC | AddCCc | SubC | SubCCc | MadCLo | MadCHi | MadCLoCc | MadCHiCc)
    }

    /// The fixed part of the mnemonic.
    pub const fn mnemonic(self) -> &'static str {
        self.info().mnemonic
    }
}

impl RegularInfo {
    /// May the instruction carry these modifiers?
    pub(crate) fn allows(&self, mods: Mods) -> bool {
        let has = |m: Mod| self.mods.contains(&m);
        let rounding = match mods.rounding {
            None => !has(Mod::RndReq),
            Some(Rounding::Rn) => has(Mod::Rnd) || has(Mod::RndReq) || has(Mod::Rn),
            Some(_) => has(Mod::Rnd) || has(Mod::RndReq),
        };
        rounding && (!mods.ftz || has(Mod::Ftz)) && (!mods.sat || has(Mod::Sat))
    }

    /// May the instruction carry this type (or its absence)?
    pub(crate) fn allows_type(&self, ty: Option<Ty>) -> bool {
        match ty {
            None => self.types.is_empty(),
            Some(ty) => self.types.contains(&ty),
        }
    }
}
