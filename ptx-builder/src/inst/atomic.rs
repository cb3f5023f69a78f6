//! `atom` and `red`.

use super::space::{Scope, Space};
use super::{Arg, Signature, What, Words, named};
use crate::target::Requires;
use crate::ty::Ty;
use std::fmt;

named! {
    /// The order of an atomic operation.
    AtomOrder {
        /// None.
        Relaxed = "relaxed",
        /// Before everything that follows.
        Acquire = "acquire",
        /// After everything that precedes.
        Release = "release",
        /// Both.
        AcqRel = "acq_rel",
    }
}

named! {
    /// What an atomic operation does to memory.
    AtomOp {
        /// Add.
        Add = "add",
        /// Minimum.
        Min = "min",
        /// Maximum.
        Max = "max",
        /// Increment, wrapping to 0 above the operand.
        Inc = "inc",
        /// Decrement, wrapping to the operand at 0.
        Dec = "dec",
        /// Bitwise and.
        And = "and",
        /// Bitwise or.
        Or = "or",
        /// Bitwise exclusive or.
        Xor = "xor",
        /// Exchange.
        Exch = "exch",
        /// Compare with the first operand and, if equal, store the second.
        Cas = "cas",
    }
}

impl AtomOp {
    /// What the type needs, or `None` if there is no such form.
    fn requires(self, ty: Ty, returns: bool) -> Option<Requires> {
        use AtomOp::{Add, And, Cas, Dec, Exch, Inc, Max, Min, Or, Xor};
        Some(match (self, ty) {
            (Add, Ty::U32 | Ty::S32 | Ty::U64 | Ty::F32) => Requires::BASE,
            (Add, Ty::F64) => Requires::new(5, 0, 60),
            (Add, Ty::F16x2) => Requires::new(6, 2, 60),
            (Add, Ty::F16) => Requires::new(6, 3, 70),
            (Add, Ty::BF16 | Ty::BF16x2) => Requires::new(7, 8, 90),
            (Min | Max, Ty::U32 | Ty::S32) => Requires::BASE,
            (Min | Max, Ty::U64 | Ty::S64) => Requires::new(3, 1, 50),
            (Inc | Dec, Ty::U32) => Requires::BASE,
            (And | Or | Xor, Ty::B32 | Ty::B64) => Requires::BASE,
            (Exch, Ty::B32 | Ty::B64) if returns => Requires::BASE,
            (Cas, Ty::B32 | Ty::B64) if returns => Requires::BASE,
            (Cas, Ty::B16) if returns => Requires::new(6, 3, 70),
            _ => return None,
        })
    }

    fn noftz(self, ty: Ty) -> &'static str {
        let half = matches!(ty, Ty::F16 | Ty::F16x2 | Ty::BF16 | Ty::BF16x2);
        if self == Self::Add && half { ".noftz" } else { "" }
    }
}

macro_rules! atomic {
    ($(#[$doc:meta])* $name:ident, $mnemonic:literal, $returns:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub struct $name {
            /// `global`, `shared` or generic.
            pub space: Space,
            /// Order; relaxed if none is written.
            pub order: Option<AtomOrder>,
            /// Scope; the device if none is written.
            pub scope: Option<Scope>,
            /// The operation.
            pub op: AtomOp,
            /// Its type.
            pub ty: Ty,
        }

        impl $name {
            pub(super) fn requires(&self) -> Requires {
                let mut requires = self.op.requires(self.ty, $returns).unwrap_or(Requires::BASE).and(self.space.requires());
                if self.order.is_some() {
                    requires = requires.and(Requires::new(6, 0, 70));
                }
                if let Some(scope) = self.scope {
                    requires = requires.and(Requires::new(5, 0, 60)).and(scope.requires());
                }
                requires
            }

            pub(super) fn problems(&self, report: &mut dyn FnMut(String)) {
                if self.op.requires(self.ty, $returns).is_none() {
                    report(format!(concat!($mnemonic, ".{} has no form for .{}"), self.op.name(), self.ty));
                }
                if !matches!(self.space, Space::Global | Space::Shared | Space::SharedCluster | Space::Generic) {
                    report(format!("no atomic operations on .{} memory", self.space.name()));
                }
                if !$returns && matches!(self.order, Some(AtomOrder::Acquire | AtomOrder::AcqRel)) {
                    report("a reduction returns nothing, so it cannot acquire".to_owned());
                }
            }

            pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
                // Qualifiers in any order, since compilers have several, but each once.
                let (mut order, mut scope, mut space, mut op) = (None, None, None, None);
                while words.once(&mut order, |words| Ok(words.take(AtomOrder::from_name)))?
                    || words.once(&mut scope, |words| Ok(words.take(Scope::from_name)))?
                    || words.once(&mut space, |words| Ok(Space::take(words)))?
                    || words.once(&mut op, |words| Ok(words.take(AtomOp::from_name)))?
                {}
                let Some(op) = op else { return words.need("an atomic operation", |_| None) };
                let noftz = words.eat("noftz");
                let ty = words.ty()?;
                if noftz == op.noftz(ty).is_empty() {
                    return Err("`.noftz` belongs to the addition of 16-bit floats, and only to it".to_owned());
                }
                let space = space.unwrap_or(Space::Generic);
                Ok(Self { space, order, scope, op, ty })
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($mnemonic)?;
                if let Some(order) = self.order {
                    write!(f, ".{}", order.name())?;
                }
                if let Some(scope) = self.scope {
                    write!(f, ".{}", scope.name())?;
                }
                write!(f, "{}.{}{}.{}", self.space.dotted(), self.op.name(), self.op.noftz(self.ty), self.ty)
            }
        }
    };
}

atomic! {
    /// `atom{.order}{.scope}{.space}.op.ty d, [a], b{, c}`.
    Atom, "atom", true
}

atomic! {
    /// `red{.order}{.scope}{.space}.op.ty [a], b`.
    Red, "red", false
}

impl Atom {
    pub(super) fn signature(&self) -> Signature {
        let address = Arg::one(What::Address(self.space));
        let mut signature = Signature::new(&[Arg::def(self.ty), address, Arg::value(self.ty)]);
        if self.op == AtomOp::Cas {
            signature.push(Arg::value(self.ty));
        }
        signature
    }
}

impl Red {
    pub(super) fn signature(&self) -> Signature {
        Signature::new(&[Arg::one(What::Address(self.space)), Arg::value(self.ty)])
    }
}
