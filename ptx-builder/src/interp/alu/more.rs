//! What compilers print and kernels of this project do not use: carry arithmetic, 24-bit products, bit fields of the
//! video days, `set`, `slct`.

use super::EXTRA;
use super::convert::half_to_single;
use super::float::flush;
use super::int::Int;
use super::lanes::{Row, is_set, map1, map2, map3, set_predicate, store};
use crate::inst::{Cmp, Combine, Set, Slct};
use crate::interp::regs::{AluFn, Args, LANES, Regs};
use crate::ops::Op;
use crate::ty::Ty;

/// `a * b`, its low or high word, or nothing.
const SUM: u8 = 0;
const LOW: u8 = 1;
const HIGH: u8 = 2;

/// Sums with the carry flag, one bit for each lane of the predicate in the slot [`EXTRA`]. Unsigned and signed forms
/// have the same bits, except for the high word of a product. A difference is the sum with the complement, as the
/// hardware forms it: its flag is set where nothing is borrowed. The PTX ISA calls the flag the borrow, which only
/// shows where sums and differences follow each other.
fn carry<T: Int, const PRODUCT: u8, const SUB: bool, const READS: bool, const SETS: bool>(
    regs: &mut Regs,
    args: &Args,
    mask: u32,
) {
    let flag = args.slots[EXTRA];
    let carries = if READS { regs.p[flag as usize] } else { 0 };
    let (a, b) = (T::Row::row(regs, args.slots[1]), T::Row::row(regs, args.slots[2]));
    let c = if PRODUCT == SUM { a } else { T::Row::row(regs, args.slots[3]) };
    let mut lanes = 0;
    let mut sums = [T::Row::default(); LANES];
    for i in 0..LANES {
        let (a, b) = (T::get(a[i]), T::get(b[i]));
        let (x, y) = match PRODUCT {
            LOW => (a.mul(b), T::get(c[i])),
            HIGH => (a.mul_hi(b), T::get(c[i])),
            _ => (a, b),
        };
        let (x, y) = (i128::from(x.bits()), i128::from(y.bits()));
        let carry = i128::from(if READS { is_set(carries, i) } else { SUB });
        let sum = if SUB { x - y - 1 + carry } else { x + y + carry };
        lanes |= u32::from((sum >> T::BITS & 1 == 1) != SUB) << i;
        sums[i] = T::low(sum).put();
    }
    store(regs, args.slots[0], mask, |i| sums[i]);
    if SETS {
        set_predicate(regs, flag, mask, lanes);
    }
}

macro_rules! by_int {
    ($ty:expr, $t:ident => $body:expr) => {
        match $ty {
            Ty::U16 | Ty::B16 => {
                type $t = u16;
                $body
            }
            Ty::S16 => {
                type $t = i16;
                $body
            }
            Ty::U32 | Ty::B32 => {
                type $t = u32;
                $body
            }
            Ty::S32 => {
                type $t = i32;
                $body
            }
            Ty::U64 | Ty::B64 => {
                type $t = u64;
                $body
            }
            Ty::S64 => {
                type $t = i64;
                $body
            }
            _ => return None,
        }
    };
}

/// The lower 24 bits, by their sign for signed types.
fn low24<T: Int>(x: T) -> i128 {
    let x = x.wide() & 0xFF_FFFF;
    if T::SIGNED && x >> 23 & 1 == 1 { x - (1 << 24) } else { x }
}

/// Bits 0 to 31 of the 48-bit product, or 16 to 47.
fn product24<T: Int, const HI: bool>(a: T, b: T) -> T {
    let product = low24(a) * low24(b);
    T::low(if HI { product >> 16 } else { product })
}

fn mul24<T: Int, const HI: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |a: T::Row, b: T::Row| product24::<T, HI>(T::get(a), T::get(b)).put());
}

fn mad24<T: Int, const HI: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    map3(regs, args, mask, |a: T::Row, b: T::Row, c: T::Row| {
        product24::<T, HI>(T::get(a), T::get(b)).add(T::get(c)).put()
    });
}

fn mad_hi_sat(regs: &mut Regs, args: &Args, mask: u32) {
    map3(regs, args, mask, |a: u32, b: u32, c: u32| {
        (a as i32).mul_hi(b as i32).saturating_add(c as i32) as u32
    });
}

/// How far to shift left so that the highest bit that is not the sign is the top one.
fn bfind_shift<T: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: T::Row| {
        let a = T::get(a);
        let bits = if a.wide() < 0 { T::low(!a.wide()).bits() } else { a.bits() };
        let found = 63u32.wrapping_sub(bits.leading_zeros());
        if found == u32::MAX { found } else { T::BITS - 1 - found }
    });
}

fn cnot<T: Int>(regs: &mut Regs, args: &Args, mask: u32) {
    map1(regs, args, mask, |a: T::Row| T::low(i128::from(T::get(a).bits() == 0)).put());
}

/// The position of the `n`-th set bit from `base` on: upwards for positive `n`, downwards for negative, `base` itself
/// if it is set for 0; all ones if there is none.
fn fns(regs: &mut Regs, args: &Args, mask: u32) {
    map3(regs, args, mask, |bits: u32, base: u32, n: u32| {
        let (base, n) = (base & 31, n as i32);
        let set = |i: &u32| bits >> i & 1 == 1;
        let found = match n {
            0 => Some(base).filter(set),
            1.. => (base..32).filter(set).nth(n as usize - 1),
            _ => (0..=base).rev().filter(set).nth(n.unsigned_abs() as usize - 1),
        };
        found.unwrap_or(u32::MAX)
    });
}

/// The low `n` bits, extended by their sign for `SIGNED`.
fn szext<const SIGNED: bool, const WRAP: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |a: u32, n: u32| {
        let n = if WRAP { n & 31 } else { n };
        match n {
            0 => 0,
            1..32 if SIGNED => ((a << (32 - n)) as i32 >> (32 - n)) as u32,
            1..32 => a & ((1 << n) - 1),
            _ => a,
        }
    });
}

/// `n` ones from bit `position` on.
fn bmsk<const WRAP: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    map2(regs, args, mask, |position: u32, n: u32| {
        let (position, n) = if WRAP { (position & 31, n & 31) } else { (position, n) };
        if position >= 32 {
            return 0;
        }
        let ones = if n >= 32 { u32::MAX } else { (1 << n) - 1 };
        ones << position
    });
}

/// The selectors of the named modes of `prmt`, by the low two bits of the control operand.
const F4E: [u32; 4] = [0x3210, 0x4321, 0x5432, 0x6543];
const B4E: [u32; 4] = [0x5670, 0x6701, 0x7012, 0x0123];
const RC8: [u32; 4] = [0x0000, 0x1111, 0x2222, 0x3333];
const ECL: [u32; 4] = [0x3210, 0x3211, 0x3222, 0x3333];
const ECR: [u32; 4] = [0x0000, 0x1110, 0x2210, 0x3210];
const RC16: [u32; 4] = [0x1010, 0x3232, 0x1010, 0x3232];

macro_rules! prmt_modes {
    ($($name:ident $table:ident;)*) => { $(
        fn $name(regs: &mut Regs, args: &Args, mask: u32) {
            map3(regs, args, mask, |a: u32, b: u32, c: u32| {
                super::int::permute(a, b, $table[(c & 3) as usize])
            });
        }
    )* };
}

prmt_modes! {
    prmt_f4e F4E;
    prmt_b4e B4E;
    prmt_rc8 RC8;
    prmt_ecl ECL;
    prmt_ecr ECR;
    prmt_rc16 RC16;
}

macro_rules! carries {
    ($ty:expr, $product:ident, $sub:literal, $reads:literal, $sets:literal) => {
        match $ty {
            Ty::U32 => carry::<u32, $product, $sub, $reads, $sets>,
            Ty::U64 => carry::<u64, $product, $sub, $reads, $sets>,
            Ty::S32 if $product == HIGH => carry::<i32, HIGH, $sub, $reads, $sets>,
            Ty::S64 if $product == HIGH => carry::<i64, HIGH, $sub, $reads, $sets>,
            Ty::S32 => carry::<u32, $product, $sub, $reads, $sets>,
            Ty::S64 => carry::<u64, $product, $sub, $reads, $sets>,
            _ => return None,
        }
    };
}

pub(super) fn lower(op: Op, ty: Option<Ty>) -> Option<AluFn> {
    let ty = ty.unwrap_or(Ty::B32);
    Some(match op {
        Op::AddCc => carries!(ty, SUM, false, false, true),
        Op::AddC => carries!(ty, SUM, false, true, false),
        Op::AddCCc => carries!(ty, SUM, false, true, true),
        Op::SubCc => carries!(ty, SUM, true, false, true),
        Op::SubC => carries!(ty, SUM, true, true, false),
        Op::SubCCc => carries!(ty, SUM, true, true, true),
        Op::MadLoCc => carries!(ty, LOW, false, false, true),
        Op::MadHiCc => carries!(ty, HIGH, false, false, true),
        Op::MadCLo => carries!(ty, LOW, false, true, false),
        Op::MadCHi => carries!(ty, HIGH, false, true, false),
        Op::MadCLoCc => carries!(ty, LOW, false, true, true),
        Op::MadCHiCc => carries!(ty, HIGH, false, true, true),
        Op::Mul24Lo => by_int!(ty, T => mul24::<T, false>),
        Op::Mul24Hi => by_int!(ty, T => mul24::<T, true>),
        Op::Mad24Lo => by_int!(ty, T => mad24::<T, false>),
        Op::Mad24Hi => by_int!(ty, T => mad24::<T, true>),
        Op::MadHiSat => mad_hi_sat,
        Op::BfindShift => by_int!(ty, T => bfind_shift::<T>),
        Op::Cnot => by_int!(ty, T => cnot::<T>),
        Op::Fns => fns,
        Op::SzextClamp if ty.is_signed() => szext::<true, false>,
        Op::SzextClamp => szext::<false, false>,
        Op::SzextWrap if ty.is_signed() => szext::<true, true>,
        Op::SzextWrap => szext::<false, true>,
        Op::BmskClamp => bmsk::<false>,
        Op::BmskWrap => bmsk::<true>,
        Op::PrmtF4e => prmt_f4e,
        Op::PrmtB4e => prmt_b4e,
        Op::PrmtRc8 => prmt_rc8,
        Op::PrmtEcl => prmt_ecl,
        Op::PrmtEcr => prmt_ecr,
        Op::PrmtRc16 => prmt_rc16,
        _ => return None,
    })
}

/// The operands of a comparison in the widest type of their kind.
enum Pair {
    Ints(i128, i128),
    Floats(f64, f64),
}

fn holds(cmp: Cmp, pair: &Pair) -> bool {
    let (order, unordered) = match pair {
        Pair::Ints(a, b) => (Some(a.cmp(b)), false),
        Pair::Floats(a, b) => (a.partial_cmp(b), a.is_nan() || b.is_nan()),
    };
    match cmp {
        Cmp::Eq | Cmp::Equ => order.is_some_and(|o| o.is_eq()) || unordered && cmp == Cmp::Equ,
        Cmp::Ne | Cmp::Neu => order.is_some_and(|o| o.is_ne()) || unordered && cmp == Cmp::Neu,
        Cmp::Lt | Cmp::Ltu => order.is_some_and(|o| o.is_lt()) || unordered && cmp == Cmp::Ltu,
        Cmp::Le | Cmp::Leu => order.is_some_and(|o| o.is_le()) || unordered && cmp == Cmp::Leu,
        Cmp::Gt | Cmp::Gtu => order.is_some_and(|o| o.is_gt()) || unordered && cmp == Cmp::Gtu,
        Cmp::Ge | Cmp::Geu => order.is_some_and(|o| o.is_ge()) || unordered && cmp == Cmp::Geu,
        Cmp::Num => !unordered,
        Cmp::Nan => unordered,
    }
}

fn pair(ty: Ty, ftz: bool, a: u64, b: u64) -> Pair {
    let float = |x: u64| match ty {
        Ty::F16 | Ty::F16x2 if ftz && x & 0x7C00 == 0 => 0.0,
        Ty::F16 | Ty::F16x2 => f64::from(f32::from_bits(half_to_single(x as u32))),
        Ty::BF16 | Ty::BF16x2 => f64::from(f32::from_bits((x as u32) << 16)),
        Ty::F32 if ftz => f64::from(flush(f32::from_bits(x as u32))),
        Ty::F32 => f64::from(f32::from_bits(x as u32)),
        _ => f64::from_bits(x),
    };
    if ty.is_int() || matches!(ty, Ty::B16 | Ty::B32 | Ty::B64) {
        let unused = 64 - ty.bits();
        let int = |x: u64| {
            if ty.is_signed() {
                i128::from((x << unused) as i64 >> unused)
            } else {
                i128::from(x << unused >> unused)
            }
        };
        Pair::Ints(int(a), int(b))
    } else {
        Pair::Floats(float(a), float(b))
    }
}

fn index<T: PartialEq>(all: &[T], wanted: &T) -> u32 {
    all.iter().position(|other| other == wanted).unwrap_or(0) as u32
}

/// A `set` as a number: what [`set`] finds in the slot [`EXTRA`].
pub(super) fn encode_set(instruction: &Set) -> u32 {
    let test = &instruction.test;
    let combine = match test.combine {
        None => 0,
        Some(Combine::And) => 1,
        Some(Combine::Or) => 2,
        Some(Combine::Xor) => 3,
    };
    index(Cmp::ALL, &test.cmp)
        | combine << 4
        | u32::from(test.ftz) << 6
        | index(Ty::ALL, &test.ty) << 8
        | index(Ty::ALL, &instruction.to) << 16
}

/// All ones or 1.0 where the comparison holds; of pairs of halves each on its own.
pub(super) fn set(regs: &mut Regs, args: &Args, mask: u32) {
    let code = args.slots[EXTRA];
    let cmp = Cmp::ALL.get((code & 15) as usize).copied().unwrap_or(Cmp::Eq);
    let ty = |at: u32| Ty::ALL.get((code >> at & 0xFF) as usize).copied().unwrap_or(Ty::B32);
    let (from, to, ftz) = (ty(8), ty(16), code >> 6 & 1 == 1);
    let with = if code >> 4 & 3 == 0 { 0 } else { super::lanes::predicate(regs, args, 3) };
    let row = |slot: u32| {
        if from.bits() == 64 { regs.l[slot as usize] } else { regs.w[slot as usize].map(u64::from) }
    };
    let (a, b) = (row(args.slots[1]), row(args.slots[2]));
    let decide = |i: usize, a: u64, b: u64| {
        let (t, with) = (holds(cmp, &pair(from, ftz, a, b)), is_set(with, i));
        match code >> 4 & 3 {
            0 => t,
            1 => t & with,
            2 => t | with,
            _ => t ^ with,
        }
    };
    let one = |holds: bool| match to {
        _ if !holds => 0,
        Ty::F32 => 0x3F80_0000,
        Ty::F16 | Ty::F16x2 => 0x3C00,
        Ty::BF16 | Ty::BF16x2 => 0x3F80,
        _ if to.bits() == 16 || matches!(from, Ty::F16x2 | Ty::BF16x2) => 0xFFFF,
        _ => u32::MAX,
    };
    let packed = matches!(from, Ty::F16x2 | Ty::BF16x2);
    store(regs, args.slots[0], mask, |i| {
        if packed {
            one(decide(i, a[i] & 0xFFFF, b[i] & 0xFFFF)) | one(decide(i, a[i] >> 16, b[i] >> 16)) << 16
        } else {
            one(decide(i, a[i], b[i]))
        }
    });
}

/// `d = c >= 0 ? a : b`; of a NaN and of what is flushed, as of numbers: a NaN chooses `b`, -0 chooses `a`.
fn slct_rows<R: Row, const FLOAT: bool, const FTZ: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    let (a, b) = (R::row(regs, args.slots[1]), R::row(regs, args.slots[2]));
    let c = regs.w[args.slots[3] as usize];
    store(regs, args.slots[0], mask, |i| {
        let first = if FLOAT {
            let c = f32::from_bits(c[i]);
            (if FTZ { flush(c) } else { c }) >= 0.0
        } else {
            c[i] as i32 >= 0
        };
        if first { a[i] } else { b[i] }
    });
}

pub(super) fn slct(instruction: &Slct) -> AluFn {
    match (instruction.ty.bits() == 64, instruction.by == Ty::F32, instruction.ftz) {
        (true, false, _) => slct_rows::<u64, false, false>,
        (false, false, _) => slct_rows::<u32, false, false>,
        (true, true, false) => slct_rows::<u64, true, false>,
        (false, true, false) => slct_rows::<u32, true, false>,
        (true, true, true) => slct_rows::<u64, true, true>,
        (false, true, true) => slct_rows::<u32, true, true>,
    }
}
