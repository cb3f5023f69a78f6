//! Float functions: correctly rounded, and the fast approximations of the special function unit.

use super::value::FullFloat;
use super::{F16, F16x2, F32, KernelBuilder, Reg, RegTy, Val};
use crate::ops::{Mods, Op};
use crate::ty::Ty;

macro_rules! approximations {
    ($($(#[$doc:meta])* $name:ident $op:ident;)*) => {
        impl KernelBuilder { $(
            $(#[$doc])*
            pub fn $name(&mut self, a: impl Val<F32>) -> Reg<F32> {
                self.regular(Op::$op, Ty::F32, [a.operand()])
            }
        )* }
    };
}

// The error bounds are those of the PTX ISA manual for the forms without `.ftz`.
approximations! {
    /// `1 / a`, at most 1 ulp off.
    rcp_approx RcpApprox;
    /// Square root, relative error at most 2^-23.
    sqrt_approx SqrtApprox;
    /// `1 / sqrt(a)`, relative error at most 2^-22.9.
    rsqrt_approx RsqrtApprox;
    /// `2^a`, at most 2 ulp off.
    ex2_approx Ex2Approx;
    /// `log2(a)`, absolute error at most 2^-22 near 1, relative elsewhere.
    lg2_approx Lg2Approx;
    /// Sine of radians, absolute error at most 2^-20.5 in [-2 pi, 2 pi].
    sin_approx SinApprox;
    /// Cosine of radians, absolute error at most 2^-20.5 in [-2 pi, 2 pi].
    cos_approx CosApprox;
    /// Hyperbolic tangent, relative error at most 2^-11.
    tanh_approx TanhApprox;
}

impl KernelBuilder {
    /// `1 / a`, correctly rounded.
    pub fn rcp<T: FullFloat>(&mut self, a: impl Val<T>) -> Reg<T> {
        self.regular_with(T::RCP, Some(T::TY), Mods::RN, [a.operand()])
    }

    /// Square root, correctly rounded.
    pub fn sqrt<T: FullFloat>(&mut self, a: impl Val<T>) -> Reg<T> {
        self.regular_with(T::SQRT, Some(T::TY), Mods::RN, [a.operand()])
    }

    /// `a / b`, at most 2 ulp off for `b` in [2^-126, 2^126].
    pub fn div_approx(&mut self, a: impl Val<F32>, b: impl Val<F32>) -> Reg<F32> {
        self.regular(Op::DivApprox, Ty::F32, [a.operand(), b.operand()])
    }

    /// `a / b`, at most 2 ulp off over the full range.
    pub fn div_full(&mut self, a: impl Val<F32>, b: impl Val<F32>) -> Reg<F32> {
        self.regular(Op::DivFull, Ty::F32, [a.operand(), b.operand()])
    }

    /// The magnitude of `b` with the sign of `a`.
    pub fn copysign<T: FullFloat>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        self.regular(Op::Copysign, T::TY, [a.operand(), b.operand()])
    }

    /// The smaller; a NaN if one is.
    pub fn min_nan(&mut self, a: impl Val<F32>, b: impl Val<F32>) -> Reg<F32> {
        self.regular(Op::FMinNan, Ty::F32, [a.operand(), b.operand()])
    }

    /// The larger; a NaN if one is.
    pub fn max_nan(&mut self, a: impl Val<F32>, b: impl Val<F32>) -> Reg<F32> {
        self.regular(Op::FMaxNan, Ty::F32, [a.operand(), b.operand()])
    }

    /// `a + b` without `.rn`: the assembler may contract it with a product into an `fma`. Faster where it
    /// does; the result then depends on the assembler's version.
    pub fn add_contract(&mut self, a: impl Val<F32>, b: impl Val<F32>) -> Reg<F32> {
        self.regular(Op::FAdd, Ty::F32, [a.operand(), b.operand()])
    }

    /// `2^a` of halves.
    pub fn ex2_approx_half<T: Half>(&mut self, a: impl Val<T>) -> Reg<T> {
        self.regular(Op::HEx2Approx, T::TY, [a.operand()])
    }

    /// Hyperbolic tangent of halves.
    pub fn tanh_approx_half<T: Half>(&mut self, a: impl Val<T>) -> Reg<T> {
        self.regular(Op::HTanhApprox, T::TY, [a.operand()])
    }
}

/// IEEE halves, one or two in a register.
#[diagnostic::on_unimplemented(message = "`{Self}` is not f16 or f16x2")]
pub trait Half: RegTy {}

impl Half for F16 {}
impl Half for F16x2 {}
