//! Arithmetic that integers and floats share, integer arithmetic, bits, packed dot products.

use super::value::Neg;
use super::{Arith, Bits, Divide, Float, Int, KernelBuilder, Reg, RegTy, S32, U32, Val, Widen, Word};
use crate::inst::Operand;
use crate::ops::{Mods, Op};
use crate::ty::Ty;

impl KernelBuilder {
    fn arith<T: Arith>(&mut self, op: Op, a: Operand, b: Operand) -> Reg<T> {
        // Without `.rn` the assembler may contract a product and a sum, and results would depend on it.
        let mods = if T::OPS.rounds { Mods::RN } else { Mods::NONE };
        self.regular_with(op, Some(T::TY), mods, [a, b])
    }

    /// `a + b`. Floats round to nearest and are never contracted into `fma`. bfloat16 before sm_90 is the
    /// equal `fma(a, 1, b)`.
    pub fn add<T: Arith>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        let (a, b) = (a.operand(), b.operand());
        match self.bf16_by_fma::<T>() {
            Some(fma) => {
                let one = self.bf16_constant::<T>(0x3F80);
                self.regular(fma, T::TY, [a, one, b])
            }
            None => self.arith(T::OPS.add, a, b),
        }
    }

    /// `a - b`, with the notes of [`KernelBuilder::add`].
    pub fn sub<T: Arith>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        let (a, b) = (a.operand(), b.operand());
        match self.bf16_by_fma::<T>() {
            Some(fma) => {
                let minus_one = self.bf16_constant::<T>(0xBF80);
                self.regular(fma, T::TY, [b, minus_one, a])
            }
            None => self.arith(T::OPS.sub, a, b),
        }
    }

    /// `a * b`; of integers the lower half. With the notes of [`KernelBuilder::add`].
    pub fn mul<T: Arith>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        let (a, b) = (a.operand(), b.operand());
        match self.bf16_by_fma::<T>() {
            Some(fma) => {
                // Minus zero is the neutral element of addition, whatever the product's sign.
                let zero = self.bf16_constant::<T>(0x8000);
                self.regular(fma, T::TY, [a, b, zero])
            }
            None => self.arith(T::OPS.mul, a, b),
        }
    }

    fn bf16_by_fma<T: Arith>(&self) -> Option<Op> {
        let bf16 = matches!(T::TY, Ty::BF16 | Ty::BF16x2);
        (bf16 && self.target().sm() < 90).then_some(Op::BFma)
    }

    fn bf16_constant<T: RegTy>(&mut self, bits: i64) -> Operand {
        let bits = if T::TY == Ty::BF16x2 { bits << 16 | bits } else { bits };
        self.mov_operand::<T>(T::PLAIN, Operand::Int(bits)).operand()
    }

    /// The smaller. Of a number and a NaN, the number.
    pub fn min<T: Arith>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        self.regular(T::OPS.min, T::TY, [a.operand(), b.operand()])
    }

    /// The larger. Of a number and a NaN, the number.
    pub fn max<T: Arith>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        self.regular(T::OPS.max, T::TY, [a.operand(), b.operand()])
    }

    /// `-a`.
    pub fn neg<T: Neg>(&mut self, a: impl Val<T>) -> Reg<T> {
        self.regular(T::NEG, T::TY, [a.operand()])
    }

    /// `|a|`.
    pub fn abs<T: Neg>(&mut self, a: impl Val<T>) -> Reg<T> {
        self.regular(T::ABS, T::TY, [a.operand()])
    }

    /// `a / b`: integers truncate, floats round to nearest.
    pub fn div<T: Divide>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        let mods = if T::TY.is_float() { Mods::RN } else { Mods::NONE };
        self.regular_with(T::DIV, Some(T::TY), mods, [a.operand(), b.operand()])
    }

    /// `a * b + c`, rounded once.
    pub fn fma<T: Float>(&mut self, a: impl Val<T>, b: impl Val<T>, c: impl Val<T>) -> Reg<T> {
        // The half-precision rows have the rounding in their mnemonic.
        let mods = if T::TY.bits() == T::TY.class().bits() && matches!(T::TY, Ty::F32 | Ty::F64) {
            Mods::RN
        } else {
            Mods::NONE
        };
        self.regular_with(T::FMA, Some(T::TY), mods, [a.operand(), b.operand(), c.operand()])
    }

    /// The remainder of a truncated division.
    pub fn rem<T: Int>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        self.regular(Op::Rem, T::TY, [a.operand(), b.operand()])
    }

    /// The upper half of the product.
    pub fn mul_hi<T: Int>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        self.regular(Op::MulHi, T::TY, [a.operand(), b.operand()])
    }

    /// The whole product, twice as wide.
    pub fn mul_wide<T: Widen>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T::Wide> {
        self.regular(Op::MulWide, T::TY, [a.operand(), b.operand()])
    }

    /// `a * b + c`, lower half.
    pub fn mad<T: Int>(&mut self, a: impl Val<T>, b: impl Val<T>, c: impl Val<T>) -> Reg<T> {
        self.regular(Op::MadLo, T::TY, [a.operand(), b.operand(), c.operand()])
    }

    /// `a * b + c`, where product and `c` are twice as wide.
    pub fn mad_wide<T: Widen>(
        &mut self,
        a: impl Val<T>,
        b: impl Val<T>,
        c: impl Val<T::Wide>,
    ) -> Reg<T::Wide> {
        self.regular(Op::MadWide, T::TY, [a.operand(), b.operand(), c.operand()])
    }

    /// `a + b`, clamped to the range of `i32`.
    pub fn add_sat(&mut self, a: impl Val<S32>, b: impl Val<S32>) -> Reg<S32> {
        self.regular(Op::AddSat, Ty::S32, [a.operand(), b.operand()])
    }

    /// `a - b`, clamped to the range of `i32`.
    pub fn sub_sat(&mut self, a: impl Val<S32>, b: impl Val<S32>) -> Reg<S32> {
        self.regular(Op::SubSat, Ty::S32, [a.operand(), b.operand()])
    }

    /// `|a - b| + c`.
    pub fn sad<T: Int>(&mut self, a: impl Val<T>, b: impl Val<T>, c: impl Val<T>) -> Reg<T> {
        self.regular(Op::Sad, T::TY, [a.operand(), b.operand(), c.operand()])
    }

    /// Bitwise and.
    pub fn and<T: Bits>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        self.regular(Op::And, T::BITS, [a.operand(), b.operand()])
    }

    /// Bitwise or.
    pub fn or<T: Bits>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        self.regular(Op::Or, T::BITS, [a.operand(), b.operand()])
    }

    /// Bitwise exclusive or.
    pub fn xor<T: Bits>(&mut self, a: impl Val<T>, b: impl Val<T>) -> Reg<T> {
        self.regular(Op::Xor, T::BITS, [a.operand(), b.operand()])
    }

    /// Bitwise complement.
    pub fn not<T: Bits>(&mut self, a: impl Val<T>) -> Reg<T> {
        self.regular(Op::Not, T::BITS, [a.operand()])
    }

    /// Shift left; by the width or more gives 0.
    pub fn shl<T: Bits>(&mut self, a: impl Val<T>, by: impl Val<U32>) -> Reg<T> {
        self.regular(Op::Shl, T::BITS, [a.operand(), by.operand()])
    }

    /// Shift right, filling with the sign for signed types; by the width or more gives 0 or the sign.
    pub fn shr<T: Bits>(&mut self, a: impl Val<T>, by: impl Val<U32>) -> Reg<T> {
        self.regular(Op::Shr, T::TY, [a.operand(), by.operand()])
    }

    /// The number of bits that are set.
    pub fn popc<T: Bits + WordOrLong>(&mut self, a: impl Val<T>) -> Reg<U32> {
        self.regular(Op::Popc, T::BITS, [a.operand()])
    }

    /// The number of leading zero bits.
    pub fn clz<T: Bits + WordOrLong>(&mut self, a: impl Val<T>) -> Reg<U32> {
        self.regular(Op::Clz, T::BITS, [a.operand()])
    }

    /// The bits in reverse order.
    pub fn brev<T: Bits + WordOrLong>(&mut self, a: impl Val<T>) -> Reg<T> {
        self.regular(Op::Brev, T::BITS, [a.operand()])
    }

    /// The position of the highest bit that is set (signed: that differs from the sign), or all ones.
    pub fn bfind<T: Int + WordOrLong>(&mut self, a: impl Val<T>) -> Reg<U32> {
        self.regular(Op::Bfind, T::TY, [a.operand()])
    }

    /// `len` bits of `a` from position `pos`, extended by sign for signed types.
    pub fn bfe<T: Int + WordOrLong>(
        &mut self,
        a: impl Val<T>,
        pos: impl Val<U32>,
        len: impl Val<U32>,
    ) -> Reg<T> {
        self.regular(Op::Bfe, T::TY, [a.operand(), pos.operand(), len.operand()])
    }

    /// `into` with `len` bits from position `pos` replaced by the low bits of `field`.
    pub fn bfi<T: Bits + WordOrLong>(
        &mut self,
        field: impl Val<T>,
        into: impl Val<T>,
        pos: impl Val<U32>,
        len: impl Val<U32>,
    ) -> Reg<T> {
        self.regular(Op::Bfi, T::BITS, [field.operand(), into.operand(), pos.operand(), len.operand()])
    }

    /// Any bitwise function of three operands: bit `4a + 2b + c` of `table` is its value. The table of a
    /// function is the function of 0xF0, 0xCC and 0xAA.
    pub fn lop3<T: Word + Bits>(
        &mut self,
        a: impl Val<T>,
        b: impl Val<T>,
        c: impl Val<T>,
        table: u8,
    ) -> Reg<T> {
        let table = Operand::Int(i64::from(table));
        self.regular(Op::Lop3, Ty::B32, [a.operand(), b.operand(), c.operand(), table])
    }

    /// Four bytes picked from the eight of `b:a` (`a` holds bytes 0 to 3) by the nibbles of `selector`, the lowest byte
    /// first; bit 3 of a nibble replicates the byte's sign.
    pub fn prmt<T: Word>(&mut self, a: impl Val<T>, b: impl Val<T>, selector: impl Val<U32>) -> Reg<T> {
        self.regular(Op::Prmt, Ty::B32, [a.operand(), b.operand(), selector.operand()])
    }

    /// The upper word of `hi:lo` shifted left by `by & 31`.
    pub fn shf_l<T: Word>(&mut self, lo: impl Val<T>, hi: impl Val<T>, by: impl Val<U32>) -> Reg<T> {
        self.regular(Op::ShfLWrap, Ty::B32, [lo.operand(), hi.operand(), by.operand()])
    }

    /// The lower word of `hi:lo` shifted right by `by & 31`.
    pub fn shf_r<T: Word>(&mut self, lo: impl Val<T>, hi: impl Val<T>, by: impl Val<U32>) -> Reg<T> {
        self.regular(Op::ShfRWrap, Ty::B32, [lo.operand(), hi.operand(), by.operand()])
    }
}

/// Types of 32 or 64 untyped bits.
#[diagnostic::on_unimplemented(message = "`{Self}` is not an untyped type of 32 or 64 bits")]
pub trait WordOrLong: RegTy {}

macro_rules! word_or_long {
    ($($ty:ident)*) => { $(impl WordOrLong for super::$ty {})* };
}

word_or_long! { U32 S32 B32 U64 S64 B64 }

macro_rules! dot_products {
    ($($(#[$doc:meta])* $name:ident $op:ident $acc:ident;)*) => {
        impl KernelBuilder { $(
            $(#[$doc])*
            pub fn $name<A: Word, B: Word>(&mut self, a: impl Val<A>, b: impl Val<B>, c: impl Val<$acc>) -> Reg<$acc> {
                self.untyped(Op::$op, [a.operand(), b.operand(), c.operand()])
            }
        )* }
    };
}

dot_products! {
    /// `c` plus the dot product of four unsigned with four unsigned bytes.
    dp4a_uu Dp4aUU U32;
    /// `c` plus the dot product of four unsigned with four signed bytes.
    dp4a_us Dp4aUS S32;
    /// `c` plus the dot product of four signed with four unsigned bytes.
    dp4a_su Dp4aSU S32;
    /// `c` plus the dot product of four signed with four signed bytes.
    dp4a_ss Dp4aSS S32;
    /// `c` plus the two unsigned halves of `a` times the lower two unsigned bytes of `b`.
    dp2a_lo_uu Dp2aLoUU U32;
    /// `c` plus the two unsigned halves of `a` times the lower two signed bytes of `b`.
    dp2a_lo_us Dp2aLoUS S32;
    /// `c` plus the two signed halves of `a` times the lower two unsigned bytes of `b`.
    dp2a_lo_su Dp2aLoSU S32;
    /// `c` plus the two signed halves of `a` times the lower two signed bytes of `b`.
    dp2a_lo_ss Dp2aLoSS S32;
    /// `c` plus the two unsigned halves of `a` times the upper two unsigned bytes of `b`.
    dp2a_hi_uu Dp2aHiUU U32;
    /// `c` plus the two unsigned halves of `a` times the upper two signed bytes of `b`.
    dp2a_hi_us Dp2aHiUS S32;
    /// `c` plus the two signed halves of `a` times the upper two unsigned bytes of `b`.
    dp2a_hi_su Dp2aHiSU S32;
    /// `c` plus the two signed halves of `a` times the upper two signed bytes of `b`.
    dp2a_hi_ss Dp2aHiSS S32;
}
