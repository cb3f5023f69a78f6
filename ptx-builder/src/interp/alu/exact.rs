//! Arithmetic that goes through [`super::soft`]: directed roundings, and what [`super::halves`] leaves of halves.

use super::EXTRA;
use super::convert::half_to_single;
use super::float::nan64;
use super::lanes::{Row, map1, map2, map3};
use super::soft::{self, BF16, F16, F32, F32_UNBOUNDED, F64, F64_HIGH, Format, Round, Value};
use crate::inst::Regular;
use crate::interp::regs::{AluFn, Args, Regs};
use crate::ops::{Mods, Op, Rounding};
use crate::ty::Ty;

/// What differs between the formats.
pub(super) trait Kind {
    type Row: Row + Bits;
    const FORMAT: Format;
    const NAN: u64;
    /// Two values in a register.
    const PAIR: bool;
    /// The bits of one.
    const ONE: u64;

    /// The NaN that follows from operands: the canonical one, but in double precision with their payload.
    fn nan<const N: usize>(operands: [u64; N]) -> u64 {
        if Self::FORMAT == F64 { nan64(operands) } else { Self::NAN }
    }
}

/// A row's element as bits.
pub(super) trait Bits: Sized {
    fn bits(self) -> u64;
    fn from_bits(bits: u64) -> Self;
}

impl Bits for u32 {
    #[inline(always)]
    fn bits(self) -> u64 {
        u64::from(self)
    }

    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        bits as u32
    }
}

impl Bits for u64 {
    #[inline(always)]
    fn bits(self) -> u64 {
        self
    }

    #[inline(always)]
    fn from_bits(bits: u64) -> Self {
        bits
    }
}

macro_rules! kinds {
    ($($name:ident $row:ident $format:ident $nan:literal $pair:literal $one:literal;)*) => { $(
        pub(super) struct $name;

        impl Kind for $name {
            type Row = $row;
            const FORMAT: Format = $format;
            const NAN: u64 = $nan;
            const PAIR: bool = $pair;
            const ONE: u64 = $one;
        }
    )* };
}

kinds! {
    Half u32 F16 0x7FFF false 0x3C00;
    HalfPair u32 F16 0x7FFF true 0x3C00;
    Brain u32 BF16 0x7FFF false 0x3F80;
    BrainPair u32 BF16 0x7FFF true 0x3F80;
    Single u32 F32 0x7FFF_FFFF false 0x3F80_0000;
    SinglePair u64 F32 0x7FFF_FFFF true 0x3F80_0000;
    Double u64 F64 0xFFF8_0000_0000_0000 false 0x3FF0_0000_0000_0000;
}

fn flush(bits: u64, format: Format) -> u64 {
    if format.is_subnormal(bits) { bits & format.sign_bit() } else { bits }
}

/// One value: decode, compute, encode, with flushing and saturation. Products flush by what they are once rounded without
/// a bound on the exponent, like those to nearest in [`super::float`].
fn one<K: Kind, const PRODUCT: bool, const N: usize>(
    bits: [u64; N],
    round: Round,
    mods: Mods,
    f: impl Fn([Value; N]) -> Value,
) -> u64 {
    let input = |x: u64| K::FORMAT.decode(if mods.ftz { flush(x, K::FORMAT) } else { x });
    let value = f(bits.map(input));
    let d = K::FORMAT.encode(value, round, K::nan(bits));
    let d = match value {
        _ if !mods.ftz => d,
        Value::Finite { .. } if PRODUCT && F32_UNBOUNDED.encode(value, round, 0) & MAGNITUDE < LEAST => {
            d & K::FORMAT.sign_bit()
        }
        _ => flush(d, K::FORMAT),
    };
    match value {
        _ if !mods.sat => d,
        Value::Nan => 0,
        _ if d & K::FORMAT.sign_bit() != 0 => 0,
        _ => d.min(K::ONE),
    }
}

/// The least normal single in [`F32_UNBOUNDED`], and its bits but the sign.
const LEAST: u64 = (1023 - 126) << 23;
const MAGNITUDE: u64 = (1 << 34) - 1;

/// One value, or both halves of a pair. The upper half of a row that holds 16 bits may be anything.
#[inline]
fn each<K: Kind, const N: usize>(rows: [u64; N], f: impl Fn([u64; N]) -> u64) -> K::Row {
    let width = K::FORMAT.bits();
    let low = |x: u64| if width < 64 { x & ((1 << width) - 1) } else { x };
    K::Row::from_bits(if K::PAIR {
        f(rows.map(low)) | f(rows.map(|x| low(x >> width))) << width
    } else {
        f(rows.map(low))
    })
}

/// Rounding and modifiers, as [`encode`] put them into the slot [`EXTRA`].
fn decode(args: &Args) -> (Round, Mods) {
    let code = args.slots[EXTRA];
    let round = match code & 3 {
        1 => Round::Zero,
        2 => Round::Down,
        3 => Round::Up,
        _ => Round::Nearest,
    };
    (round, Mods { rounding: None, ftz: code & 4 != 0, sat: code & 8 != 0 })
}

pub(super) fn encode(mods: Mods) -> u32 {
    let round = match mods.rounding {
        None | Some(Rounding::Rn) => 0,
        Some(Rounding::Rz) => 1,
        Some(Rounding::Rm) => 2,
        Some(Rounding::Rp) => 3,
    };
    round | u32::from(mods.ftz) << 2 | u32::from(mods.sat) << 3
}

macro_rules! ops {
    ($($name:ident $map:ident $product:literal |$round:ident, $($x:ident),*| $body:expr;)*) => { $(
        fn $name<K: Kind>(regs: &mut Regs, args: &Args, mask: u32) {
            let ($round, mods) = decode(args);
            $map(regs, args, mask, |$($x: K::Row),*| {
                each::<K, _>([$($x.bits()),*], |bits| one::<K, $product, _>(bits, $round, mods, |[$($x),*]| $body))
            });
        }
    )* };
}

ops! {
    add map2 false |round, a, b| soft::add(a, b, round);
    sub map2 false |round, a, b| soft::add(a, soft::negate(b), round);
    mul map2 true |round, a, b| soft::mul(a, b);
    fma map3 true |round, a, b, c| soft::fma(a, b, c, round);
    div map2 false |round, a, b| soft::div(a, b);
    rcp map1 false |round, a| soft::div(soft::integer(1), a);
    sqrt map1 false |round, a| soft::sqrt(a);
}

/// A half as a single, exactly.
#[inline(always)]
fn widened<const BRAIN: bool>(half: u32) -> u64 {
    u64::from(if BRAIN { half << 16 } else { half_to_single(half) })
}

/// The sum or difference of a half and a single, rounded once.
fn mixed_sum<const BRAIN: bool, const SUB: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    let (round, mods) = decode(args);
    map2(regs, args, mask, |a: u32, b: u32| {
        one::<Single, false, _>([widened::<BRAIN>(a), b.bits()], round, mods, |[a, b]| {
            soft::add(a, if SUB { soft::negate(b) } else { b }, round)
        }) as u32
    });
}

/// The product of two halves and a single, rounded once.
fn mixed_fma<const BRAIN: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    let (round, mods) = decode(args);
    map3(regs, args, mask, |a: u32, b: u32, c: u32| {
        let operands = [widened::<BRAIN>(a), widened::<BRAIN>(b), c.bits()];
        one::<Single, false, _>(operands, round, mods, |[a, b, c]| soft::fma(a, b, c, round)) as u32
    });
}

/// The smaller or the larger; a number rather than a NaN, except for the `NAN` forms; -0 is less than +0.
fn extreme<K: Kind, const MAX: bool, const FTZ: bool, const NAN: bool>(
    regs: &mut Regs,
    args: &Args,
    mask: u32,
) {
    let key = |bits: u64| {
        let sign = K::FORMAT.sign_bit();
        if bits & sign != 0 { -((bits & !sign) as i64) - 1 } else { bits as i64 }
    };
    let is_nan = |bits: u64| K::FORMAT.is_nan(bits);
    map2(regs, args, mask, |a: K::Row, b: K::Row| {
        each::<K, 2>([a.bits(), b.bits()], |[a, b]| {
            let (a, b) = if FTZ { (flush(a, K::FORMAT), flush(b, K::FORMAT)) } else { (a, b) };
            match (is_nan(a), is_nan(b)) {
                // The hardware takes the second one.
                (true, true) => K::nan([b]),
                (true, _) | (_, true) if NAN => K::NAN,
                (true, false) => b,
                (false, true) => a,
                _ if (key(a) > key(b)) == MAX => a,
                _ => b,
            }
        })
    });
}

fn sign<K: Kind, const ABS: bool, const FTZ: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    let sign = K::FORMAT.sign_bit();
    map1(regs, args, mask, |a: K::Row| {
        each::<K, 1>([a.bits()], |[a]| {
            let a = if FTZ { flush(a, K::FORMAT) } else { a };
            let d = if ABS { a & !sign } else { a ^ sign };
            if K::FORMAT.is_nan(a) { K::nan([d]) } else { d }
        })
    });
}

macro_rules! approximations {
    ($($name:ident |$x:ident| $body:expr;)*) => { $(
        fn $name<K: Kind, const FTZ: bool>(regs: &mut Regs, args: &Args, mask: u32) {
            map1(regs, args, mask, |a: K::Row| {
                each::<K, 1>([a.bits()], |[a]| {
                    let nan = K::nan([a]);
                    let a = if FTZ { flush(a, K::FORMAT) } else { a };
                    let $x = f64::from_bits(F64.encode(K::FORMAT.decode(a), Round::Nearest, f64::NAN.to_bits()));
                    let d: f64 = $body;
                    let d = K::FORMAT.encode(F64.decode(d.to_bits()), Round::Nearest, nan);
                    if FTZ { flush(d, K::FORMAT) } else { d }
                })
            });
        }
    )* };
}

approximations! {
    ex2 |x| x.exp2();
    tanh |x| x.tanh();
    rsqrt |x| 1.0 / x.sqrt();
}

/// `rcp.approx.ftz.f64` and `rsqrt.approx.ftz.f64`: of the upper word of the operand the upper word of the result, the
/// lower words being zero; any NaN gives the canonical one.
fn upper_word(regs: &mut Regs, args: &Args, mask: u32, f: fn(f64) -> f64) {
    map1(regs, args, mask, |a: u64| {
        let d = f(f64::from_bits(flush(a & !0xFFFF_FFFF, F64)));
        let high = F64_HIGH.encode(F64.decode(d.to_bits()), Round::Nearest, 0x7FF8_0000);
        flush(high << 32, F64)
    });
}

fn rcp_upper(regs: &mut Regs, args: &Args, mask: u32) {
    upper_word(regs, args, mask, |x| 1.0 / x);
}

fn rsqrt_upper(regs: &mut Regs, args: &Args, mask: u32) {
    upper_word(regs, args, mask, |x| 1.0 / x.sqrt());
}

macro_rules! wide {
    ($ty:expr, $k:ident => $body:expr) => {
        match $ty {
            Ty::F32 => {
                type $k = Single;
                $body
            }
            Ty::F64 => {
                type $k = Double;
                $body
            }
            _ => return None,
        }
    };
}

macro_rules! by_type {
    ($ty:expr, $k:ident => $body:expr) => {
        match $ty {
            Ty::F16 => {
                type $k = Half;
                $body
            }
            Ty::F16x2 => {
                type $k = HalfPair;
                $body
            }
            Ty::BF16 => {
                type $k = Brain;
                $body
            }
            Ty::BF16x2 => {
                type $k = BrainPair;
                $body
            }
            _ => wide!($ty, $k => $body),
        }
    };
}

pub(super) fn lower(regular: &Regular) -> Option<AluFn> {
    let (ty, mods) = (regular.ty?, regular.mods);
    Some(match regular.op {
        Op::FAdd | Op::DAdd => wide!(ty, K => add::<K>),
        Op::FSub | Op::DSub => wide!(ty, K => sub::<K>),
        Op::FMul | Op::DMul => wide!(ty, K => mul::<K>),
        Op::FFma | Op::DFma => wide!(ty, K => fma::<K>),
        Op::PAdd => add::<SinglePair>,
        Op::PSub => sub::<SinglePair>,
        Op::PMul => mul::<SinglePair>,
        Op::PFma => fma::<SinglePair>,
        Op::MixAdd if ty == Ty::F16 => mixed_sum::<false, false>,
        Op::MixAdd => mixed_sum::<true, false>,
        Op::MixSub if ty == Ty::F16 => mixed_sum::<false, true>,
        Op::MixSub => mixed_sum::<true, true>,
        Op::MixFma if ty == Ty::F16 => mixed_fma::<false>,
        Op::MixFma => mixed_fma::<true>,
        Op::FDiv | Op::DDiv => wide!(ty, K => div::<K>),
        Op::FRcp | Op::DRcp => wide!(ty, K => rcp::<K>),
        Op::FSqrt | Op::DSqrt => wide!(ty, K => sqrt::<K>),
        Op::DMin | Op::HMin | Op::BMin if mods.ftz => by_type!(ty, K => extreme::<K, false, true, false>),
        Op::DMin | Op::HMin | Op::BMin => by_type!(ty, K => extreme::<K, false, false, false>),
        Op::DMax | Op::HMax | Op::BMax if mods.ftz => by_type!(ty, K => extreme::<K, true, true, false>),
        Op::DMax | Op::HMax | Op::BMax => by_type!(ty, K => extreme::<K, true, false, false>),
        Op::HMinNan | Op::BMinNan => by_type!(ty, K => extreme::<K, false, false, true>),
        Op::HMaxNan | Op::BMaxNan => by_type!(ty, K => extreme::<K, true, false, true>),
        Op::HMinFtzNan => by_type!(ty, K => extreme::<K, false, true, true>),
        Op::HMaxFtzNan => by_type!(ty, K => extreme::<K, true, true, true>),
        Op::DNeg | Op::HNeg | Op::BNeg if mods.ftz => by_type!(ty, K => sign::<K, false, true>),
        Op::DNeg | Op::HNeg | Op::BNeg => by_type!(ty, K => sign::<K, false, false>),
        Op::DAbs | Op::HAbs | Op::BAbs if mods.ftz => by_type!(ty, K => sign::<K, true, true>),
        Op::DAbs | Op::HAbs | Op::BAbs => by_type!(ty, K => sign::<K, true, false>),
        Op::HEx2Approx => by_type!(ty, K => ex2::<K, false>),
        Op::BEx2Approx => by_type!(ty, K => ex2::<K, true>),
        Op::HTanhApprox | Op::BTanhApprox => by_type!(ty, K => tanh::<K, false>),
        Op::DRsqrtApprox => rsqrt::<Double, false>,
        Op::DRsqrtApproxFtz => rsqrt_upper,
        Op::DRcpApprox => rcp_upper,
        _ => return None,
    })
}
