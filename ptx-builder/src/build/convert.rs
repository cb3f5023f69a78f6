//! Conversions, bit casts, packing.

use super::{
    AnyReg, B32, B64, BF16, BF16x2, CvtTy, F16, F16x2, F32, F64, KernelBuilder, Reg, RegTy, S64, U32, U64,
    Val, Word,
};
use crate::inst::{Cvt, CvtRound, Kind, Operand};
use crate::ty::Ty;

impl KernelBuilder {
    /// Converts between numbers, like `as` in Rust without the clamping: integers to floats and floats to narrower floats
    /// round to nearest, floats to integers towards zero. Integers to narrower ones keep the low bits.
    pub fn cvt<D: CvtTy>(&mut self, a: impl AnyReg<T: CvtTy>) -> Reg<D::Holder> {
        let from = source_ty(a);
        let round = default_round(D::CVT, from);
        self.cvt_operand(Cvt::new(D::CVT, from, round), a)
    }

    /// As [`KernelBuilder::cvt`], with a rounding: `CvtRound::Rni` for nearest integer, and so on.
    pub fn cvt_round<D: CvtTy>(&mut self, round: CvtRound, a: impl AnyReg<T: CvtTy>) -> Reg<D::Holder> {
        let cvt = Cvt::new(D::CVT, source_ty(a), Some(round));
        self.cvt_operand(cvt, a)
    }

    /// As [`KernelBuilder::cvt`], clamping to the range of the result (integers) or to 0..1 (floats).
    pub fn cvt_sat<D: CvtTy>(&mut self, a: impl AnyReg<T: CvtTy>) -> Reg<D::Holder> {
        let from = source_ty(a);
        let round = default_round(D::CVT, from);
        self.cvt_operand(Cvt { sat: true, ..Cvt::new(D::CVT, from, round) }, a)
    }

    /// As [`KernelBuilder::cvt_round`], clamping: `cvt_round_sat::<S8>(CvtRound::Rni, x)` quantises.
    pub fn cvt_round_sat<D: CvtTy>(&mut self, round: CvtRound, a: impl AnyReg<T: CvtTy>) -> Reg<D::Holder> {
        let cvt = Cvt { sat: true, ..Cvt::new(D::CVT, source_ty(a), Some(round)) };
        self.cvt_operand(cvt, a)
    }

    /// Converts the low bits of a register, read as `S`: `cvt_low::<F32, S8>(word)`.
    pub fn cvt_low<D: CvtTy, S: CvtTy>(&mut self, a: impl AnyReg<T: Word>) -> Reg<D::Holder> {
        let round = default_round(D::CVT, S::CVT);
        self.cvt_operand(Cvt::new(D::CVT, S::CVT, round), a)
    }

    fn cvt_operand<D: RegTy>(&mut self, cvt: Cvt, a: impl AnyReg) -> Reg<D> {
        let dest = self.fresh::<D>();
        self.push(Kind::Cvt(cvt), vec![dest.operand(), a.reg().operand()]);
        dest
    }

    fn cvt_pair<D: RegTy>(&mut self, to: Ty, lo: Operand, hi: Operand) -> Reg<D> {
        let fp8 = matches!(to, Ty::E4M3x2 | Ty::E5M2x2);
        let cvt = Cvt { satfinite: fp8, ..Cvt::new(to, Ty::F32, Some(CvtRound::Rn)) };
        let dest = self.fresh::<D>();
        self.push(Kind::Cvt(cvt), vec![dest.operand(), hi, lo]);
        dest
    }

    /// Two singles rounded to halves, `lo` in the lower bits. Needs sm_80.
    pub fn cvt_f16x2(&mut self, lo: impl Val<F32>, hi: impl Val<F32>) -> Reg<F16x2> {
        self.cvt_pair(Ty::F16x2, lo.operand(), hi.operand())
    }

    /// Two singles rounded to bfloat16, `lo` in the lower bits. Needs sm_80.
    pub fn cvt_bf16x2(&mut self, lo: impl Val<F32>, hi: impl Val<F32>) -> Reg<BF16x2> {
        self.cvt_pair(Ty::BF16x2, lo.operand(), hi.operand())
    }

    /// Two singles rounded to FP8 E4M3, `lo` in the lower byte, clamped to the finite range. Needs sm_89.
    pub fn cvt_e4m3x2(&mut self, lo: impl Val<F32>, hi: impl Val<F32>) -> Reg<super::B16> {
        self.cvt_pair(Ty::E4M3x2, lo.operand(), hi.operand())
    }

    /// Two FP8 E4M3 as halves, exactly. Needs sm_89.
    pub fn e4m3x2_to_f16x2(&mut self, a: Reg<super::B16>) -> Reg<F16x2> {
        let (to, from, round) = (Ty::F16x2, Ty::E4M3x2, Some(CvtRound::Rn));
        let cvt = Cvt::new(to, from, round);
        self.cvt_operand(cvt, a)
    }

    /// A single rounded to TensorFloat-32, ties away from zero. Needs sm_80.
    pub fn cvt_tf32(&mut self, a: impl Val<F32>) -> Reg<B32> {
        let cvt = Cvt::new(Ty::TF32, Ty::F32, Some(CvtRound::Rna));
        let dest = self.fresh::<B32>();
        self.push(Kind::Cvt(cvt), vec![dest.operand(), a.operand()]);
        dest
    }

    /// A half as a single, exactly.
    pub fn f16_to_f32(&mut self, a: impl Val<F16>) -> Reg<F32> {
        let cvt = Cvt::new(Ty::F32, Ty::F16, None);
        let dest = self.fresh::<F32>();
        self.push(Kind::Cvt(cvt), vec![dest.operand(), a.operand()]);
        dest
    }

    /// A bfloat16 as a single, exactly: it is the upper half of one. Available on every target.
    pub fn bf16_to_f32(&mut self, a: impl Val<BF16>) -> Reg<F32> {
        let zero = self.mov_operand::<super::B16>(Ty::B16, Operand::Int(0));
        let bits = self.fresh::<B32>();
        self.push(Kind::Pack { ty: Ty::B32, parts: 2 }, vec![bits.operand(), zero.operand(), a.operand()]);
        self.bits_to_f32(bits)
    }

    /// A half from its bits.
    pub fn f16_bits(&mut self, bits: u16) -> Reg<F16> {
        self.mov_operand(Ty::B16, Operand::Int(i64::from(bits)))
    }

    /// A bfloat16 from its bits.
    pub fn bf16_bits(&mut self, bits: u16) -> Reg<BF16> {
        self.mov_operand(Ty::B16, Operand::Int(i64::from(bits)))
    }

    /// The bits of a single.
    pub fn f32_to_bits(&mut self, a: impl Val<F32>) -> Reg<B32> {
        // A literal of an untyped instruction is its bits.
        let source = match a.operand() {
            Operand::F32(bits) => Operand::Int(i64::from(bits)),
            register => register,
        };
        self.mov_operand(Ty::B32, source)
    }

    /// A single from its bits.
    pub fn bits_to_f32(&mut self, a: impl AnyReg<T: Word>) -> Reg<F32> {
        self.mov_operand(Ty::B32, a.reg().operand())
    }

    /// The bits of a double.
    pub fn f64_to_bits(&mut self, a: impl AnyReg<T = F64>) -> Reg<B64> {
        self.mov_operand(Ty::B64, a.reg().operand())
    }

    /// A double from its bits.
    pub fn bits_to_f64(&mut self, a: Reg<B64>) -> Reg<F64> {
        self.mov_operand(Ty::B64, a.operand())
    }

    /// Two 32-bit values in one 64-bit register, `lo` in the lower bits.
    pub fn pack64(&mut self, lo: impl AnyReg<T: super::Lane>, hi: impl AnyReg<T: super::Lane>) -> Reg<B64> {
        let dest = self.fresh::<B64>();
        let operands = vec![dest.operand(), lo.reg().operand(), hi.reg().operand()];
        self.push(Kind::Pack { ty: Ty::B64, parts: 2 }, operands);
        dest
    }

    /// The lower and the upper half of a 64-bit register.
    pub fn unpack64<T: super::Lane>(
        &mut self,
        a: impl AnyReg<T: RegTy<Class = super::class::B64>>,
    ) -> [Reg<T>; 2] {
        let [lo, hi] = [self.fresh::<T>(), self.fresh::<T>()];
        let operands = vec![lo.operand(), hi.operand(), a.reg().operand()];
        self.push(Kind::Unpack { ty: Ty::B64, parts: 2 }, operands);
        [lo, hi]
    }

    /// Two 16-bit values in one 32-bit register, `lo` in the lower bits.
    pub fn pack32<D: Word, T: RegTy<Class = super::class::B16>>(&mut self, lo: Reg<T>, hi: Reg<T>) -> Reg<D> {
        let dest = self.fresh::<D>();
        self.push(Kind::Pack { ty: Ty::B32, parts: 2 }, vec![dest.operand(), lo.operand(), hi.operand()]);
        dest
    }

    /// The lower and the upper half of a 32-bit register.
    pub fn unpack32<T: RegTy<Class = super::class::B16>>(&mut self, a: impl AnyReg<T: Word>) -> [Reg<T>; 2] {
        let [lo, hi] = [self.fresh::<T>(), self.fresh::<T>()];
        let operands = vec![lo.operand(), hi.operand(), a.reg().operand()];
        self.push(Kind::Unpack { ty: Ty::B32, parts: 2 }, operands);
        [lo, hi]
    }

    /// An unsigned 32-bit value widened with zeros.
    pub fn widen(&mut self, a: impl Val<U32>) -> Reg<U64> {
        self.widen_operand(Ty::U32, Ty::U64, a.operand())
    }

    /// A signed 32-bit value widened with its sign.
    pub fn widen_signed(&mut self, a: impl Val<super::S32>) -> Reg<S64> {
        self.widen_operand(Ty::S32, Ty::S64, a.operand())
    }

    fn widen_operand<D: RegTy>(&mut self, from: Ty, to: Ty, a: Operand) -> Reg<D> {
        let dest = self.fresh::<D>();
        let cvt = Cvt::new(to, from, None);
        self.push(Kind::Cvt(cvt), vec![dest.operand(), a]);
        dest
    }
}

fn source_ty<A: AnyReg<T: CvtTy>>(_: A) -> Ty {
    <A::T as CvtTy>::CVT
}

/// Nearest for float results that may be inexact, towards zero for integers from floats.
fn default_round(to: Ty, from: Ty) -> Option<CvtRound> {
    let wider = matches!((to, from), (Ty::F64, _) | (Ty::F32, Ty::F16 | Ty::BF16));
    match (to.is_float(), from.is_float()) {
        (false, false) => None,
        (false, true) => Some(CvtRound::Rzi),
        (true, false) => Some(CvtRound::Rn),
        (true, true) if to == from || wider => None,
        (true, true) => Some(CvtRound::Rn),
    }
}
