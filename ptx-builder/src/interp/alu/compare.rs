//! `setp`: relations, and their combination with a predicate.

use super::EXTRA;
use super::convert::half_to_single;
use super::float::flush;
use super::int::Int;
use super::lanes::{predicate, set_predicate, test2};
use crate::inst::{Cmp, Combine, Setp};
use crate::interp::regs::{AluFn, Args, Regs};
use crate::ty::Ty;

// Relations as constants, so that each function is one loop.
const EQ: u8 = 0;
const NE: u8 = 1;
const LT: u8 = 2;
const LE: u8 = 3;
const GT: u8 = 4;
const GE: u8 = 5;
const NUM: u8 = 6;
const NAN: u8 = 7;

/// How the relation is combined, as [`finish`] finds it in the slot [`EXTRA`].
pub(super) fn encode(setp: &Setp) -> u32 {
    match setp.combine {
        None => 0,
        Some(Combine::And) => 1,
        Some(Combine::Or) => 2,
        Some(Combine::Xor) => 3,
    }
}

#[inline(always)]
fn relation<T: PartialOrd, const CMP: u8>(a: T, b: T) -> bool {
    match CMP {
        EQ => a == b,
        NE => a != b,
        LT => a < b,
        LE => a <= b,
        GT => a > b,
        _ => a >= b,
    }
}

/// Writes the predicate, and the second one: the combination with the negated relation. The comparisons of halves have
/// no second result, so that their other operands come one earlier.
fn finish<const RESULTS: usize>(regs: &mut Regs, args: &Args, mask: u32, lanes: u32) {
    let how = args.slots[EXTRA];
    let with = if how == 0 { 0 } else { predicate(regs, args, RESULTS + 2) };
    let combine = |lanes: u32| match how {
        1 => lanes & with,
        2 => lanes | with,
        3 => lanes ^ with,
        _ => lanes,
    };
    set_predicate(regs, args.slots[0], mask, combine(lanes));
    if RESULTS == 2 && args.slots[1] != args.slots[0] {
        set_predicate(regs, args.slots[1], mask, combine(!lanes));
    }
}

fn ints<T: Int, const CMP: u8>(regs: &mut Regs, args: &Args, mask: u32) {
    let lanes = test2(regs, [args.slots[2], args.slots[3]], |a: T::Row, b: T::Row| {
        relation::<T, CMP>(T::get(a), T::get(b))
    });
    finish::<2>(regs, args, mask, lanes);
}

/// With `UNORDERED` a NaN makes the relation true, otherwise false.
fn floats<const CMP: u8, const UNORDERED: bool, const FTZ: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    let get = |x: u32| if FTZ { flush(f32::from_bits(x)) } else { f32::from_bits(x) };
    let lanes = test2(regs, [args.slots[2], args.slots[3]], |a: u32, b: u32| {
        float_relation::<CMP, UNORDERED>(f64::from(get(a)), f64::from(get(b)))
    });
    finish::<2>(regs, args, mask, lanes);
}

fn doubles<const CMP: u8, const UNORDERED: bool>(regs: &mut Regs, args: &Args, mask: u32) {
    let lanes = test2(regs, [args.slots[2], args.slots[3]], |a: u64, b: u64| {
        float_relation::<CMP, UNORDERED>(f64::from_bits(a), f64::from_bits(b))
    });
    finish::<2>(regs, args, mask, lanes);
}

#[inline(always)]
fn float_relation<const CMP: u8, const UNORDERED: bool>(a: f64, b: f64) -> bool {
    let nan = a.is_nan() || b.is_nan();
    match CMP {
        NUM => !nan,
        NAN => nan,
        _ if UNORDERED => nan || relation::<f64, CMP>(a, b),
        _ => !nan && relation::<f64, CMP>(a, b),
    }
}

/// `.f16`, `.ftz.f16` and `.bf16`, all exact in f32.
const HALF: u8 = 0;
const HALF_FTZ: u8 = 1;
const BRAIN: u8 = 2;

fn halves<const CMP: u8, const UNORDERED: bool, const FORMAT: u8>(regs: &mut Regs, args: &Args, mask: u32) {
    let get = |x: u32| {
        f32::from_bits(match FORMAT {
            BRAIN => x << 16,
            HALF_FTZ if x & 0x7C00 == 0 => 0,
            _ => half_to_single(x),
        })
    };
    let lanes = test2(regs, [args.slots[1], args.slots[2]], |a: u32, b: u32| {
        float_relation::<CMP, UNORDERED>(f64::from(get(a)), f64::from(get(b)))
    });
    finish::<1>(regs, args, mask, lanes);
}

macro_rules! int_cmp {
    ($setp:expr, $t:ident) => {
        match $setp.cmp {
            Cmp::Eq => ints::<$t, EQ>,
            Cmp::Ne => ints::<$t, NE>,
            Cmp::Lt => ints::<$t, LT>,
            Cmp::Le => ints::<$t, LE>,
            Cmp::Gt => ints::<$t, GT>,
            Cmp::Ge => ints::<$t, GE>,
            _ => return None,
        }
    };
}

macro_rules! float_cmp {
    ($setp:expr, $f:ident $(, $form:tt)?) => {
        match $setp.cmp {
            Cmp::Eq => $f::<EQ, false $(, $form)?>,
            Cmp::Ne => $f::<NE, false $(, $form)?>,
            Cmp::Lt => $f::<LT, false $(, $form)?>,
            Cmp::Le => $f::<LE, false $(, $form)?>,
            Cmp::Gt => $f::<GT, false $(, $form)?>,
            Cmp::Ge => $f::<GE, false $(, $form)?>,
            Cmp::Equ => $f::<EQ, true $(, $form)?>,
            Cmp::Neu => $f::<NE, true $(, $form)?>,
            Cmp::Ltu => $f::<LT, true $(, $form)?>,
            Cmp::Leu => $f::<LE, true $(, $form)?>,
            Cmp::Gtu => $f::<GT, true $(, $form)?>,
            Cmp::Geu => $f::<GE, true $(, $form)?>,
            Cmp::Num => $f::<NUM, false $(, $form)?>,
            Cmp::Nan => $f::<NAN, false $(, $form)?>,
        }
    };
}

pub(super) fn lower(setp: &Setp) -> Option<AluFn> {
    Some(match setp.ty {
        Ty::U16 | Ty::B16 => int_cmp!(setp, u16),
        Ty::S16 => int_cmp!(setp, i16),
        Ty::U32 | Ty::B32 => int_cmp!(setp, u32),
        Ty::S32 => int_cmp!(setp, i32),
        Ty::U64 | Ty::B64 => int_cmp!(setp, u64),
        Ty::S64 => int_cmp!(setp, i64),
        Ty::F32 if setp.ftz => float_cmp!(setp, floats, true),
        Ty::F32 => float_cmp!(setp, floats, false),
        Ty::F16 if setp.ftz => float_cmp!(setp, halves, HALF_FTZ),
        Ty::F16 => float_cmp!(setp, halves, HALF),
        Ty::BF16 => float_cmp!(setp, halves, BRAIN),
        Ty::F64 => float_cmp!(setp, doubles),
        _ => return None,
    })
}
