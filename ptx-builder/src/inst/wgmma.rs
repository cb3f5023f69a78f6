//! Matrix products of a warpgroup, which is four warps: `wgmma.mma_async`.

use super::{Arg, MatrixElement, Operand, Shape, Signature, What, Words};
use crate::target::Requires;
use crate::ty::Ty;
use std::fmt;

/// `wgmma.mma_async.sync.aligned.m64n{N}k{K}{.satfinite}.d.a.b`: D = A * B + D, where D has 64 rows, a quarter in the
/// registers of each warp, and K is 32 bytes.
///
/// Operands: the registers of D; A, a matrix descriptor of 64 bits or four registers; the descriptor of B; a predicate or a
/// literal, without which D = A * B; for floats two literals, 1 or -1, that A and B are multiplied with; for elements of 16
/// bits a literal for each descriptor, 1 where the matrix lies transposed: rows (of A) or columns (of B) from one address to
/// the next, rather than K.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Wgmma {
    /// Columns of D: a multiple of 8 up to 256; for integers above 24 a multiple of 16.
    pub n: u16,
    /// Integers are clamped rather than wrapped.
    pub satfinite: bool,
    /// The type of D: f32, s32, or f16, in pairs.
    pub d: Ty,
    /// The elements of A.
    pub a: MatrixElement,
    /// The elements of B.
    pub b: MatrixElement,
    /// A lies in registers, not in shared memory.
    pub registers: bool,
}

impl Wgmma {
    /// The depth of the product, K.
    pub const fn depth(&self) -> u32 {
        32 * 8 / self.a.bits()
    }

    /// Registers of D that a thread has.
    pub const fn accumulators(&self) -> u16 {
        if matches!(self.d, Ty::F16) { self.n / 4 } else { self.n / 2 }
    }

    /// Is there an operand that tells how this matrix lies?
    pub(crate) const fn has_transposed(&self) -> bool {
        self.a.bits() == 16
    }

    /// Are there operands that negate A and B?
    pub(crate) const fn has_signs(&self) -> bool {
        !self.a.is_integer()
    }

    pub(super) fn signature(&self) -> Signature {
        let count = u8::try_from(self.accumulators()).unwrap_or(u8::MAX);
        let part = if self.d == Ty::F16 { Ty::B32 } else { self.d };
        let descriptor = Arg::value(Ty::B64);
        let a = if self.registers { Arg::one(What::Reg(Ty::B32)).vector(4) } else { descriptor };
        let mut signature =
            Signature::new(&[Arg::def(part).vector(count), a, descriptor, Arg::value(Ty::Pred)]);
        let literals = 2 * usize::from(self.has_signs())
            + usize::from(self.has_transposed()) * (2 - usize::from(self.registers));
        for _ in 0..literals {
            signature.push(Arg::one(What::Literal));
        }
        signature
    }

    /// The operand that says whether D is added to, behind those of D, A and B.
    pub(crate) fn scale_operand(&self) -> usize {
        usize::from(self.accumulators()) + if self.registers { 5 } else { 2 }
    }

    /// Is D read? Not if a literal says that it is not.
    pub(super) fn reads_results(&self, operands: &[Operand]) -> bool {
        operands.get(self.scale_operand()) != Some(&Operand::Int(0))
    }

    pub(super) fn requires(&self) -> Requires {
        let mixed = self.a.is_integer() && self.a != self.b;
        Requires::specific(8, if mixed { 4 } else { 0 }, 90, 90)
    }

    pub(super) fn problems(&self, operands: &[Operand], report: &mut dyn FnMut(String)) {
        use MatrixElement::{BF16, E4M3, E5M2, F16, S8, TF32, U8};
        let exists = matches!(
            (self.d, self.a, self.b),
            (Ty::F32 | Ty::F16, F16, F16)
                | (Ty::F32, BF16, BF16)
                | (Ty::F32, TF32, TF32)
                | (Ty::F32 | Ty::F16, E4M3 | E5M2, E4M3 | E5M2)
                | (Ty::S32, S8 | U8, S8 | U8)
        );
        if !exists {
            report(format!(
                "no product of .{} and .{} matrices is a .{} one",
                self.a.name(),
                self.b.name(),
                self.d
            ));
        }
        let step = if self.a.is_integer() && self.n > 24 { 16 } else { 8 };
        if self.n == 0 || self.n > 256 || !self.n.is_multiple_of(step) {
            report(format!("no product of these elements has {} columns", self.n));
        }
        if self.satfinite && !self.a.is_integer() {
            report("only integers are clamped".to_owned());
        }
        let mut literals = operands.iter().skip(self.scale_operand() + 1);
        for name in ["A", "B"].into_iter().take(2 * usize::from(self.has_signs())) {
            if literals.next().is_some_and(|sign| !matches!(sign, Operand::Int(1 | -1))) {
                report(format!("{name} is multiplied with 1 or -1, a literal"));
            }
        }
        for order in literals {
            if !matches!(order, Operand::Int(0 | 1)) {
                report("whether a matrix lies transposed is a literal, 0 or 1".to_owned());
            }
        }
    }

    /// After `wgmma.mma_async`.
    pub(super) fn parse(words: &mut Words<'_>, shapes: &[Shape]) -> Result<Self, String> {
        if words.peek() == Some("sp") {
            return Err("sparse matrices are not supported".to_owned());
        }
        words.expect("sync")?;
        words.expect("aligned")?;
        let (n, depth) = words.need("a matrix shape", |word| {
            let (n, depth) = word.strip_prefix("m64n")?.split_once('k')?;
            Some((n.parse::<u16>().ok()?, depth.parse::<u32>().ok()?))
        })?;
        let satfinite = words.eat("satfinite");
        let d = words.ty()?;
        if words.peek() == Some("b1") {
            return Err("matrices of single bits are not supported".to_owned());
        }
        let a = words.need("an element", MatrixElement::from_name)?;
        let b = words.need("an element", MatrixElement::from_name)?;
        let registers = matches!(shapes.get(1), Some(Shape::Vector(_)));
        let wgmma = Self { n, satfinite, d, a, b, registers };
        if wgmma.depth() != depth {
            return Err(format!(
                "products of these elements are {} deep, not {depth}, which is `k{}`",
                wgmma.depth(),
                wgmma.depth()
            ));
        }
        Ok(wgmma)
    }
}

impl fmt::Display for Wgmma {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let satfinite = if self.satfinite { ".satfinite" } else { "" };
        let (d, a, b) = (self.d, self.a.name(), self.b.name());
        write!(f, "wgmma.mma_async.sync.aligned.m64n{}k{}{satfinite}.{d}.{a}.{b}", self.n, self.depth())
    }
}
