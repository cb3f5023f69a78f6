//! Integer arithmetic, bits and dot products. "Integer Arithmetic Instructions" and "Logic and Shift Instructions" of
//! the PTX ISA. Division by zero, which PTX leaves open, gives all ones, and its remainder the dividend.

use super::lanes::{Row, map1, map2, map3, map4, predicate, set_predicate};
use crate::inst::Regular;
use crate::interp::regs::{AluFn, Args, Regs};
use crate::ops::Op;
use crate::ty::Ty;

/// An integer type, and the row that holds it.
pub(super) trait Int: Copy + Ord {
    type Row: Row;
    /// The type of twice the width, and its row.
    type Wide: Int;
    const BITS: u32;
    const SIGNED: bool;
    fn get(row: Self::Row) -> Self;
    fn put(self) -> Self::Row;
    fn wide(self) -> i128;
    /// The low bits of a wider value.
    fn low(value: i128) -> Self;
    /// Extended to 64 bits by the sign of the type.
    fn extend64(self) -> u64;
    fn truncate64(bits: u64) -> Self;
    /// Extended to the row by the sign of the type.
    fn extend(self) -> Self::Row;
    /// Clamped; NaN gives 0.
    fn from_f32(x: f32) -> Self;
    fn to_f32(self) -> f32;
    fn to_f64(self) -> f64;
    fn add(self, b: Self) -> Self;
    fn sub(self, b: Self) -> Self;
    fn mul(self, b: Self) -> Self;
    fn mul_hi(self, b: Self) -> Self;
    fn mul_wide(self, b: Self) -> Self::Wide;
    fn div(self, b: Self) -> Self;
    fn rem(self, b: Self) -> Self;
    fn abs(self) -> Self;
    fn shr(self, by: u32) -> Self;
    fn shl(self, by: u32) -> Self;
    fn bits(self) -> u64;
}

macro_rules! int {
    ($($t:ident $unsigned:ident $row:ident $wide:ident $wider:ident $signed:literal;)*) => { $(
        impl Int for $t {
            type Row = $row;
            type Wide = $wide;
            const BITS: u32 = $t::BITS;
            const SIGNED: bool = $signed;
            #[inline(always)]
            fn get(row: $row) -> Self {
                row as $t
            }
            #[inline(always)]
            fn put(self) -> $row {
                self as $unsigned as $row
            }
            #[inline(always)]
            fn wide(self) -> i128 {
                i128::from(self)
            }
            #[inline(always)]
            fn low(value: i128) -> Self {
                value as $t
            }
            #[inline(always)]
            fn extend64(self) -> u64 {
                self as u64
            }
            #[inline(always)]
            fn truncate64(bits: u64) -> Self {
                bits as $t
            }
            #[inline(always)]
            fn extend(self) -> $row {
                self as $row
            }
            #[inline(always)]
            fn from_f32(x: f32) -> Self {
                x as $t
            }
            #[inline(always)]
            fn to_f32(self) -> f32 {
                self as f32
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn add(self, b: Self) -> Self {
                self.wrapping_add(b)
            }
            #[inline(always)]
            fn sub(self, b: Self) -> Self {
                self.wrapping_sub(b)
            }
            #[inline(always)]
            fn mul(self, b: Self) -> Self {
                self.wrapping_mul(b)
            }
            #[inline(always)]
            fn mul_hi(self, b: Self) -> Self {
                ((self as $wider).wrapping_mul(b as $wider) >> $t::BITS) as $t
            }
            #[inline(always)]
            fn mul_wide(self, b: Self) -> $wide {
                (self as $wide).wrapping_mul(b as $wide)
            }
            #[inline(always)]
            fn div(self, b: Self) -> Self {
                if b == 0 { !0 } else { self.wrapping_div(b) }
            }
            #[inline(always)]
            fn rem(self, b: Self) -> Self {
                if b == 0 { self } else { self.wrapping_rem(b) }
            }
            #[inline(always)]
            #[allow(unused_comparisons)] // of the unsigned types
            fn abs(self) -> Self {
                if self < 0 { (0 as $t).wrapping_sub(self) } else { self }
            }
            #[inline(always)]
            #[allow(unused_comparisons)]
            fn shr(self, by: u32) -> Self {
                if by < $t::BITS { self >> by } else if self < 0 { !0 } else { 0 }
            }
            #[inline(always)]
            fn shl(self, by: u32) -> Self {
                if by < $t::BITS { self << by } else { 0 }
            }
            #[inline(always)]
            fn bits(self) -> u64 {
                self as $unsigned as u64
            }
        }
    )* };
}

int! {
    u8 u8 u32 u16 u16 false;
    i8 u8 u32 i16 i16 true;
    u16 u16 u32 u32 u32 false;
    i16 u16 u32 i32 i32 true;
    u32 u32 u32 u64 u64 false;
    i32 u32 u32 i64 i64 true;
    u64 u64 u64 u64 u128 false;
    i64 u64 u64 i64 i128 true;
}

/// The function for the Rust type of a PTX type.
macro_rules! pick {
    ($ty:expr, $f:ident) => {
        match $ty {
            Ty::U16 | Ty::B16 => $f::<u16>,
            Ty::S16 => $f::<i16>,
            Ty::U32 | Ty::B32 => $f::<u32>,
            Ty::S32 => $f::<i32>,
            Ty::U64 | Ty::B64 => $f::<u64>,
            Ty::S64 => $f::<i64>,
            _ => return None,
        }
    };
}

macro_rules! ops {
    ($($name:ident $map:ident |$($x:ident),*| $body:expr;)*) => { $(
        fn $name<T: Int>(regs: &mut Regs, args: &Args, mask: u32) {
            $map(regs, args, mask, |$($x: T::Row),*| { $(let $x = T::get($x);)* let d: T = $body; d.put() });
        }
    )* };
}

ops! {
    add map2 |a, b| a.add(b);
    sub map2 |a, b| a.sub(b);
    mul_lo map2 |a, b| a.mul(b);
    mul_hi map2 |a, b| a.mul_hi(b);
    div map2 |a, b| a.div(b);
    rem map2 |a, b| a.rem(b);
    min map2 |a, b| a.min(b);
    max map2 |a, b| a.max(b);
    neg map1 |a| a.sub(a).sub(a);
    abs map1 |a| a.abs();
    sad map3 |a, b, c| c.add(if a < b { b.sub(a) } else { a.sub(b) });
    mad_lo map3 |a, b, c| a.mul(b).add(c);
    mad_hi map3 |a, b, c| a.mul_hi(b).add(c);
    and map2 |a, b| T::truncate64(a.bits() & b.bits());
    or map2 |a, b| T::truncate64(a.bits() | b.bits());
    xor map2 |a, b| T::truncate64(a.bits() ^ b.bits());
    not map1 |a| T::truncate64(!a.bits());
    brev map1 |a| T::truncate64(a.bits().reverse_bits() >> (64 - T::BITS));
}

fn mul_wide<T: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |a: T::Row, b: T::Row| T::get(a).mul_wide(T::get(b)).put());
}

fn mad_wide<T: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map3(regs, args, mask, |a: T::Row, b: T::Row, c: <T::Wide as Int>::Row| {
        T::get(a).mul_wide(T::get(b)).add(T::Wide::get(c)).put()
    });
}

fn shl<T: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |a: T::Row, by: u32| T::get(a).shl(by).put());
}

fn shr<T: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |a: T::Row, by: u32| T::get(a).shr(by).put());
}

fn popc<T: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: T::Row| T::get(a).bits().count_ones());
}

fn clz<T: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: T::Row| T::get(a).bits().leading_zeros() - (64 - T::BITS));
}

/// The position of the highest bit that is not the sign; all ones if there is none.
fn bfind<T: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: T::Row| {
        let a = T::get(a);
        let bits = if a.wide() < 0 { T::low(!a.wide()).bits() } else { a.bits() };
        63u32.wrapping_sub(bits.leading_zeros())
    });
}

/// The low `n` bits; all of them from 64 on.
#[inline(always)]
fn ones(n: u32) -> u64 {
    if n < 64 { (1 << n) - 1 } else { u64::MAX }
}

/// A field of `len` bits from bit `pos` on; beyond the highest bit it goes on with zeros, or with the sign.
fn bfe<T: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map3(regs, args, mask, |a: T::Row, pos: u32, len: u32| {
        let (a, pos, len) = (T::get(a).bits(), pos & 0xFF, len & 0xFF);
        let field = if pos < T::BITS { a >> pos & ones(len) } else { 0 };
        let sign = (pos + len).saturating_sub(1).min(T::BITS - 1);
        let negative = T::SIGNED && len > 0 && a >> sign & 1 == 1;
        let kept = len.min(T::BITS.saturating_sub(pos));
        T::truncate64(if negative { field | !ones(kept) } else { field }).put()
    });
}

fn bfi<T: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map4(regs, args, mask, |field: T::Row, into: T::Row, pos: u32, len: u32| {
        let (field, into) = (T::get(field).bits(), T::get(into).bits());
        let (pos, len) = (pos & 0xFF, len & 0xFF);
        let (chosen, field) = if pos < T::BITS { (ones(len) << pos, field << pos) } else { (0, 0) };
        T::truncate64(into & !chosen | field & chosen).put()
    });
}

/// Each bit of the result is the bit of `table` that the three bits of the operands select.
fn lop3(regs: &mut Regs, args: &Args, mask: u32) {
    map4(regs, args, mask, |a: u32, b: u32, c: u32, table: u32| {
        let side = |x: u32, inverted: u32| x ^ (inverted & 1).wrapping_sub(1);
        (0..8).fold(0, |bits, term: u32| {
            let minterm = side(a, term >> 2) & side(b, term >> 1) & side(c, term);
            bits | minterm & (table >> term & 1).wrapping_neg()
        })
    });
}

/// Four bytes of `b:a`; bit 3 of a selector takes the sign of the byte instead.
#[inline(always)]
pub(super) fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(b) << 32 | u64::from(a);
    (0..4).fold(0, |word, i| {
        let pick = selector >> (4 * i);
        let byte = (bytes >> (8 * (pick & 7))) as u8;
        let byte = if pick & 8 == 0 { byte } else { ((byte as i8) >> 7) as u8 };
        word | u32::from(byte) << (8 * i)
    })
}

fn prmt(regs: &mut Regs, args: &Args, mask: u32) {
    map3(regs, args, mask, permute);
}

/// The funnel shift of `hi:lo`: its upper word after a shift left, its lower word after a shift right.
fn funnel<const LEFT: bool, const CLAMP: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    map3(regs, args, mask, |lo: u32, hi: u32, by: u32| {
        let both = u64::from(hi) << 32 | u64::from(lo);
        let by = if CLAMP { by.min(32) } else { by & 31 };
        if LEFT { (both << by >> 32) as u32 } else { (both >> by) as u32 }
    });
}

/// Byte `i` of a word, sign- or zero-extended. Shifts, because those vectorise.
#[inline(always)]
fn byte<const SIGNED: bool>(word: u32, i: u32) -> i32 {
    if SIGNED { (word << (24 - 8 * i)) as i32 >> 24 } else { (word >> (8 * i) & 0xFF) as i32 }
}

#[inline(always)]
fn half<const SIGNED: bool>(word: u32, i: u32) -> i32 {
    if SIGNED { (word << (16 - 16 * i)) as i32 >> 16 } else { (word >> (16 * i) & 0xFFFF) as i32 }
}

fn dp4a<const A: bool, const B: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    map3(regs, args, mask, |a: u32, b: u32, c: u32| {
        let product = |i: u32| byte::<A>(a, i).wrapping_mul(byte::<B>(b, i)) as u32;
        c.wrapping_add(product(0)).wrapping_add(product(1)).wrapping_add(product(2)).wrapping_add(product(3))
    });
}

fn dp2a<const A: bool, const B: bool, const HIGH: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    map3(regs, args, mask, |a: u32, b: u32, c: u32| {
        let first = if HIGH { 2 } else { 0 };
        let product = |i: u32| half::<A>(a, i).wrapping_mul(byte::<B>(b, first + i)) as u32;
        c.wrapping_add(product(0)).wrapping_add(product(1))
    });
}

fn add_sat(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |a: u32, b: u32| (a as i32).saturating_add(b as i32) as u32);
}

fn sub_sat(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |a: u32, b: u32| (a as i32).saturating_sub(b as i32) as u32);
}

fn selp<R: Row>(regs: &mut Regs, args: &Args, mask: u32) {
    let chosen = predicate(regs, args, 3);
    let (a, b) = (R::row(regs, args.slots[1]), R::row(regs, args.slots[2]));
    super::lanes::store(regs, args.slots[0], mask, |i| if chosen >> i & 1 == 1 { a[i] } else { b[i] });
}

macro_rules! predicates {
    ($($name:ident |$a:ident, $b:ident| $body:expr;)*) => { $(
        fn $name(regs: &mut Regs, args: &Args, mask: u32) {
            let ($a, $b) = (predicate(regs, args, 1), predicate(regs, args, 2));
            set_predicate(regs, args.slots[0], mask, $body);
        }
    )* };
}

predicates! {
    and_pred |a, b| a & b;
    or_pred |a, b| a | b;
    xor_pred |a, b| a ^ b;
}

fn not_pred(regs: &mut Regs, args: &Args, mask: u32) {
    let a = predicate(regs, args, 1);
    set_predicate(regs, args.slots[0], mask, !a);
}

pub(super) fn lower(regular: &Regular) -> Option<AluFn> {
    let ty = regular.ty.unwrap_or(Ty::B32);
    Some(match regular.op {
        Op::And if ty == Ty::Pred => and_pred,
        Op::Or if ty == Ty::Pred => or_pred,
        Op::Xor if ty == Ty::Pred => xor_pred,
        Op::Not if ty == Ty::Pred => not_pred,
        Op::Add => pick!(ty, add),
        Op::Sub => pick!(ty, sub),
        Op::AddSat => add_sat,
        Op::SubSat => sub_sat,
        Op::MulLo => pick!(ty, mul_lo),
        Op::MulHi => pick!(ty, mul_hi),
        Op::MulWide => pick!(ty, mul_wide),
        Op::MadLo => pick!(ty, mad_lo),
        Op::MadHi => pick!(ty, mad_hi),
        Op::MadWide => pick!(ty, mad_wide),
        Op::Div => pick!(ty, div),
        Op::Rem => pick!(ty, rem),
        Op::Min => pick!(ty, min),
        Op::Max => pick!(ty, max),
        Op::Neg => pick!(ty, neg),
        Op::Abs => pick!(ty, abs),
        Op::Sad => pick!(ty, sad),
        Op::And => pick!(ty, and),
        Op::Or => pick!(ty, or),
        Op::Xor => pick!(ty, xor),
        Op::Not => pick!(ty, not),
        Op::Shl => pick!(ty, shl),
        Op::Shr => pick!(ty, shr),
        Op::ShfLWrap => funnel::<true, false>,
        Op::ShfRWrap => funnel::<false, false>,
        Op::ShfLClamp => funnel::<true, true>,
        Op::ShfRClamp => funnel::<false, true>,
        Op::Popc => pick!(ty, popc),
        Op::Clz => pick!(ty, clz),
        Op::Brev => pick!(ty, brev),
        Op::Bfind => pick!(ty, bfind),
        Op::Bfe => pick!(ty, bfe),
        Op::Bfi => pick!(ty, bfi),
        Op::Lop3 => lop3,
        Op::Prmt => prmt,
        Op::Dp4aUU => dp4a::<false, false>,
        Op::Dp4aUS => dp4a::<false, true>,
        Op::Dp4aSU => dp4a::<true, false>,
        Op::Dp4aSS => dp4a::<true, true>,
        Op::Dp2aLoUU => dp2a::<false, false, false>,
        Op::Dp2aLoUS => dp2a::<false, true, false>,
        Op::Dp2aLoSU => dp2a::<true, false, false>,
        Op::Dp2aLoSS => dp2a::<true, true, false>,
        Op::Dp2aHiUU => dp2a::<false, false, true>,
        Op::Dp2aHiUS => dp2a::<false, true, true>,
        Op::Dp2aHiSU => dp2a::<true, false, true>,
        Op::Dp2aHiSS => dp2a::<true, true, true>,
        Op::Selp if ty.bits() == 64 => selp::<u64>,
        Op::Selp => selp::<u32>,
        _ => return None,
    })
}
