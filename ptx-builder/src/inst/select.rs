//! Comparisons and selections with two types: `set` and `slct`.

use super::convert::{Cmp, Combine};
use super::{Arg, Setp, Signature, What, Words};
use crate::target::Requires;
use crate::ty::{Ty, TyKind};
use std::fmt;

/// `set.cmp{.combine}{.ftz}.to.ty d, a, b{, c}`: all ones or 1.0 where the comparison holds, zero elsewhere.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Set {
    /// The comparison, with the type of both operands.
    pub test: Setp,
    /// The type of the result. For packed halves, each half is compared and set.
    pub to: Ty,
}

impl Set {
    pub(super) fn signature(&self) -> Signature {
        let mut signature =
            Signature::new(&[Arg::def(self.to), Arg::value(self.test.ty), Arg::value(self.test.ty)]);
        if self.test.combine.is_some() {
            signature.push(Arg::one(What::Pred(true)));
        }
        signature
    }

    pub(super) fn requires(&self) -> Requires {
        let of = |ty| match ty {
            Ty::F16 | Ty::F16x2 => Requires::new(4, 2, 53),
            Ty::BF16 | Ty::BF16x2 => Requires::new(7, 8, 90),
            _ => Requires::BASE,
        };
        let both = of(self.test.ty).and(of(self.to));
        let to_integer = self.test.ty.kind() == TyKind::SmallFloat && self.to.kind() != TyKind::SmallFloat;
        if to_integer { both.and(Requires::new(6, 5, 53)) } else { both }
    }

    pub(super) fn problems(&self, report: &mut dyn FnMut(String)) {
        let half = |ty| matches!(ty, Ty::F16 | Ty::BF16);
        let from = self.test.ty;
        let exists = match self.to {
            Ty::U32 | Ty::S32 => true,
            Ty::F32 => !matches!(from, Ty::F16x2 | Ty::BF16x2),
            Ty::U16 | Ty::S16 => half(from),
            Ty::F16 | Ty::BF16 | Ty::F16x2 | Ty::BF16x2 => from == self.to,
            _ => false,
        };
        // What the comparison needs of its operands, except that pairs of halves give one result here.
        let packed = match from {
            Ty::F16x2 => Ty::F16,
            Ty::BF16x2 => Ty::BF16,
            ty => ty,
        };
        if exists && from.bits() >= 16 {
            Setp { ty: packed, ..self.test }.problems(report);
        } else {
            report(format!("no set from .{from} to .{}", self.to));
        }
        if half(from) && self.to == Ty::F32 {
            report(format!("no set from .{from} to .f32"));
        }
    }

    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        let (cmp, unsigned) = Cmp::parse(words)?;
        let combine = words.take(Combine::from_name);
        let ftz = words.eat("ftz");
        let to = words.ty()?;
        Ok(Self { test: Setp { cmp, combine, ftz, ty: words.ty()? }.named(unsigned)?, to })
    }
}

impl fmt::Display for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Setp { cmp, combine, ftz, ty } = self.test;
        write!(f, "set.{}", cmp.name())?;
        if let Some(combine) = combine {
            write!(f, ".{}", combine.name())?;
        }
        write!(f, "{}.{}.{ty}", if ftz { ".ftz" } else { "" }, self.to)
    }
}

/// `slct{.ftz}.ty.by d, a, b, c`: `a` where `c` is not negative, otherwise `b` (also for a NaN).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Slct {
    /// The type of the result and of `a` and `b`.
    pub ty: Ty,
    /// The type of `c`: `s32` or `f32`.
    pub by: Ty,
    /// Flush a subnormal `c` to zero.
    pub ftz: bool,
}

impl Slct {
    pub(super) fn signature(&self) -> Signature {
        Signature::new(&[Arg::def(self.ty), Arg::value(self.ty), Arg::value(self.ty), Arg::value(self.by)])
    }

    pub(super) fn problems(&self, report: &mut dyn FnMut(String)) {
        if self.ty.bits() < 16 || self.ty.kind() == TyKind::SmallFloat {
            report(format!("slct has no form for .{}", self.ty));
        }
        if !matches!((self.by, self.ftz), (Ty::S32, false) | (Ty::F32, _)) {
            report(format!("slct does not choose by .{}", self.by));
        }
    }

    pub(super) fn parse(words: &mut Words<'_>) -> Result<Self, String> {
        let ftz = words.eat("ftz");
        Ok(Self { ftz, ty: words.ty()?, by: words.ty()? })
    }
}

impl fmt::Display for Slct {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slct{}.{}.{}", if self.ftz { ".ftz" } else { "" }, self.ty, self.by)
    }
}
