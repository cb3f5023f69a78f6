//! Comparisons, predicates, selection.

use super::{Compare, KernelBuilder, Pred, Reg, RegTy, Val};
use crate::inst::{Cmp, Combine, Kind, Operand, Setp};
use crate::ops::Op;
use crate::ty::Ty;

macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:ident $cmp:ident;)*) => {
        impl KernelBuilder { $(
            $(#[$doc])*
            pub fn $name<T: Compare>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Pred {
                self.setp(Cmp::$cmp, a, b)
            }
        )* }
    };
}

comparisons! {
    /// `a == b`; false with a NaN.
    eq Eq;
    /// `a < b`; false with a NaN.
    lt Lt;
    /// `a <= b`; false with a NaN.
    le Le;
    /// `a > b`; false with a NaN.
    gt Gt;
    /// `a >= b`; false with a NaN.
    ge Ge;
}

impl KernelBuilder {
    /// `a != b`; true with a NaN.
    pub fn ne<T: Compare>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Pred {
        self.setp(if T::TY.is_float() { Cmp::Neu } else { Cmp::Ne }, a, b)
    }

    /// Is it a NaN?
    pub fn is_nan<T: super::FullFloat>(&mut self, a: impl Val<T>) -> Pred {
        self.regular_pred(Op::TestpNan, Some(T::TY), [a.operand()])
    }

    /// Is it neither infinite nor a NaN?
    pub fn is_finite<T: super::FullFloat>(&mut self, a: impl Val<T>) -> Pred {
        self.regular_pred(Op::TestpFinite, Some(T::TY), [a.operand()])
    }

    /// Any comparison of the PTX ISA.
    pub fn setp<T: Compare>(&mut self, cmp: Cmp, a: impl Val<T>, b: impl Val<T>) -> Pred {
        self.push_setp(Setp { cmp, combine: None, ftz: false, ty: T::TY }, &[a.operand(), b.operand()])
    }

    /// A comparison combined with a further predicate, in one instruction.
    pub fn setp_combine<T: Compare>(
        &mut self,
        cmp: Cmp,
        a: impl Val<T>,
        b: impl Val<T>,
        combine: Combine,
        c: Pred,
    ) -> Pred {
        let setp = Setp { cmp, combine: Some(combine), ftz: false, ty: T::TY };
        self.push_setp(setp, &[a.operand(), b.operand(), Self::negatable(c)])
    }

    fn push_setp(&mut self, setp: Setp, sources: &[Operand]) -> Pred {
        let dest = self.fresh_pred();
        let kind = Kind::Setp(setp);
        let mut operands = vec![Operand::Reg(dest.id)];
        // The second result, where the form has room for one.
        operands.resize(kind.signature(&[]).def_operands(), Operand::None);
        operands.extend_from_slice(sources);
        self.push(kind, operands);
        dest
    }

    /// Both.
    pub fn and_pred(&mut self, a: Pred, b: Pred) -> Pred {
        let sources = [self.plain(a), self.plain(b)];
        self.regular_pred(Op::And, Some(Ty::Pred), sources)
    }

    /// At least one.
    pub fn or_pred(&mut self, a: Pred, b: Pred) -> Pred {
        let sources = [self.plain(a), self.plain(b)];
        self.regular_pred(Op::Or, Some(Ty::Pred), sources)
    }

    /// Exactly one.
    pub fn xor_pred(&mut self, a: Pred, b: Pred) -> Pred {
        let sources = [self.plain(a), self.plain(b)];
        self.regular_pred(Op::Xor, Some(Ty::Pred), sources)
    }

    /// `a` where `p` holds, `b` elsewhere.
    pub fn selp<T: RegTy>(&mut self, p: Pred, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        let (yes, no) = if p.negated { (b.operand(), a.operand()) } else { (a.operand(), b.operand()) };
        self.regular(Op::Selp, T::PLAIN, [yes, no, Operand::Reg(p.id)])
    }
}
