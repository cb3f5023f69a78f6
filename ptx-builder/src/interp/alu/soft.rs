//! Exact arithmetic on binary floating-point formats, rounded once in any direction.
//!
//! A finite value is `m * 2^e` with an integer `m`. Sums, products, quotients and roots are formed with at least two
//! bits more than the result keeps, the lowest of them set if anything below it is lost, so that rounding sees what
//! the exact result would show it.

use crate::inst::CvtRound;

/// A format: bits of precision (the hidden one included) and of the exponent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Format {
    precision: u32,
    exponent: u32,
}

pub(super) const F16: Format = Format { precision: 11, exponent: 5 };
pub(super) const BF16: Format = Format { precision: 8, exponent: 8 };
pub(super) const F32: Format = Format { precision: 24, exponent: 8 };
pub(super) const F64: Format = Format { precision: 53, exponent: 11 };
/// [`F32`] with exponents that its sums and products do not leave.
pub(super) const F32_UNBOUNDED: Format = Format { precision: 24, exponent: 11 };
/// The upper word of an [`F64`].
pub(super) const F64_HIGH: Format = Format { precision: 21, exponent: 11 };

/// A direction of rounding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Round {
    Nearest,
    /// Ties away from zero.
    NearestAway,
    Zero,
    Down,
    Up,
}

impl Round {
    pub(super) fn of_cvt(rounding: Option<CvtRound>) -> Self {
        match rounding {
            Some(CvtRound::Rz | CvtRound::Rzi) => Self::Zero,
            Some(CvtRound::Rm | CvtRound::Rmi) => Self::Down,
            Some(CvtRound::Rp | CvtRound::Rpi) => Self::Up,
            Some(CvtRound::Rna) => Self::NearestAway,
            _ => Self::Nearest,
        }
    }
}

/// A value of any format. Zeros and infinities have a sign.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Value {
    Nan,
    Infinite(bool),
    Zero(bool),
    /// `(-1)^negative * m * 2^e`, `m` not 0.
    Finite {
        negative: bool,
        m: u128,
        e: i32,
    },
}

use Value::{Finite, Infinite, Nan, Zero};

/// Shifts right and sets the lowest bit if a set bit is lost.
fn jam(m: u128, by: u32) -> u128 {
    match by {
        0 => m,
        1..128 => m >> by | u128::from(m & ((1 << by) - 1) != 0),
        _ => u128::from(m != 0),
    }
}

impl Format {
    const fn bias(self) -> i32 {
        (1 << (self.exponent - 1)) - 1
    }

    /// The exponent of the lowest bit of the smallest values.
    const fn least(self) -> i32 {
        2 - self.bias() - self.precision as i32
    }

    pub(super) const fn bits(self) -> u32 {
        self.precision + self.exponent
    }

    pub(super) const fn sign_bit(self) -> u64 {
        1 << (self.bits() - 1)
    }

    pub(super) const fn is_nan(self, bits: u64) -> bool {
        bits & (self.sign_bit() - 1) > ((1 << self.exponent) - 1) << (self.precision - 1)
    }

    pub(super) const fn is_subnormal(self, bits: u64) -> bool {
        let fraction = bits & ((1 << (self.precision - 1)) - 1);
        let exponent = bits & (self.sign_bit() - 1) & !((1 << (self.precision - 1)) - 1);
        exponent == 0 && fraction != 0
    }

    #[inline(never)]
    pub(super) fn decode(self, bits: u64) -> Value {
        let negative = bits >> (self.bits() - 1) & 1 == 1;
        let fraction = bits & ((1 << (self.precision - 1)) - 1);
        let exponent = (bits >> (self.precision - 1)) as i32 & ((1 << self.exponent) - 1);
        let special = (1 << self.exponent) - 1;
        match (exponent, fraction) {
            (e, 0) if e == special => Infinite(negative),
            (e, _) if e == special => Nan,
            (0, 0) => Zero(negative),
            (0, _) => Finite { negative, m: u128::from(fraction), e: self.least() },
            (e, _) => {
                let m = u128::from(fraction | 1 << (self.precision - 1));
                Finite { negative, m, e: e - 1 + self.least() }
            }
        }
    }

    /// The bits of a value after rounding; NaN gives `nan`.
    #[inline(never)]
    pub(super) fn encode(self, value: Value, round: Round, nan: u64) -> u64 {
        let sign = |negative: bool| u64::from(negative) << (self.bits() - 1);
        let infinity = ((1u64 << self.exponent) - 1) << (self.precision - 1);
        let (negative, m, e) = match value {
            Nan => return nan,
            Infinite(negative) => return sign(negative) | infinity,
            Zero(negative) => return sign(negative),
            Finite { negative, m, e } => (negative, m, e),
        };
        // The lowest bit of the result: `precision` bits below the top, but not below that of the subnormals.
        let top = 127 - m.leading_zeros() as i32;
        let lowest = (e + top - (self.precision as i32 - 1)).max(self.least());
        let shift = lowest - e;
        let mut kept =
            if shift <= 0 { m << shift.unsigned_abs() } else { m.checked_shr(shift as u32).unwrap_or(0) };
        if shift > 0 {
            let rest = if shift < 128 { m & ((1 << shift) - 1) } else { m };
            let half = if shift < 129 {
                1u128.checked_shl(shift as u32 - 1).unwrap_or(u128::MAX)
            } else {
                u128::MAX
            };
            let up = match round {
                Round::Nearest => rest > half || rest == half && kept & 1 == 1,
                Round::NearestAway => rest >= half,
                Round::Zero => false,
                Round::Down => negative && rest != 0,
                Round::Up => !negative && rest != 0,
            };
            kept += u128::from(up);
        }
        // A carry into the next power of two carries into the exponent field as well.
        let field = (lowest - self.least()) as u64;
        let magnitude = (field << (self.precision - 1)) + kept as u64;
        if magnitude < infinity {
            return sign(negative) | magnitude;
        }
        let away = match round {
            Round::Nearest | Round::NearestAway => true,
            Round::Zero => false,
            Round::Down => negative,
            Round::Up => !negative,
        };
        sign(negative) | if away { infinity } else { infinity - 1 }
    }
}

/// The sign of a sum that is exactly zero.
fn zero_sum(a: bool, b: bool, round: Round) -> Value {
    Zero(if a == b { a } else { round == Round::Down })
}

/// Moves the top bit to bit 125.
fn normalise(m: u128, e: i32) -> (u128, i32) {
    let up = m.leading_zeros() as i32 - 2;
    (m << up, e - up)
}

#[inline(never)]
pub(super) fn add(a: Value, b: Value, round: Round) -> Value {
    match (a, b) {
        (Nan, _) | (_, Nan) => Nan,
        (Infinite(a), Infinite(b)) => {
            if a == b {
                Infinite(a)
            } else {
                Nan
            }
        }
        (Infinite(sign), _) | (_, Infinite(sign)) => Infinite(sign),
        (Zero(a), Zero(b)) => zero_sum(a, b, round),
        (Zero(_), x) | (x, Zero(_)) => x,
        (Finite { negative: na, m: ma, e: ea }, Finite { negative: nb, m: mb, e: eb }) => {
            let (a, b) = (normalise(ma, ea), normalise(mb, eb));
            let ((ml, el, nl), (ms, es, ns)) = if (a.1, a.0) >= (b.1, b.0) {
                ((a.0, a.1, na), (b.0, b.1, nb))
            } else {
                ((b.0, b.1, nb), (a.0, a.1, na))
            };
            let ms = jam(ms, (el - es) as u32);
            let m = if nl == ns { ml + ms } else { ml - ms };
            if m == 0 { zero_sum(na, nb, round) } else { Finite { negative: nl, m, e: el } }
        }
    }
}

#[inline(never)]
pub(super) fn mul(a: Value, b: Value) -> Value {
    match (a, b) {
        (Nan, _) | (_, Nan) | (Infinite(_), Zero(_)) | (Zero(_), Infinite(_)) => Nan,
        (Finite { negative: na, m: ma, e: ea }, Finite { negative: nb, m: mb, e: eb }) => {
            Finite { negative: na != nb, m: ma * mb, e: ea + eb }
        }
        _ => {
            let negative = is_negative(a) != is_negative(b);
            let zero = matches!(a, Zero(_)) || matches!(b, Zero(_));
            if zero { Zero(negative) } else { Infinite(negative) }
        }
    }
}

fn is_negative(a: Value) -> bool {
    match a {
        Nan => false,
        Infinite(negative) | Zero(negative) | Finite { negative, .. } => negative,
    }
}

pub(super) fn negate(a: Value) -> Value {
    match a {
        Nan => Nan,
        Infinite(negative) => Infinite(!negative),
        Zero(negative) => Zero(!negative),
        Finite { negative, m, e } => Finite { negative: !negative, m, e },
    }
}

pub(super) fn fma(a: Value, b: Value, c: Value, round: Round) -> Value {
    add(mul(a, b), c, round)
}

#[inline(never)]
pub(super) fn div(a: Value, b: Value) -> Value {
    let negative = is_negative(a) != is_negative(b);
    match (a, b) {
        (Nan, _) | (_, Nan) | (Infinite(_), Infinite(_)) | (Zero(_), Zero(_)) => Nan,
        (Infinite(_), _) | (_, Zero(_)) => Infinite(negative),
        (Zero(_), _) | (_, Infinite(_)) => Zero(negative),
        (Finite { m: ma, e: ea, .. }, Finite { m: mb, e: eb, .. }) => {
            // At most 64 bits below and 126 above: 61 bits of quotient at least.
            let (ma, ea) = normalise(ma, ea);
            let m = (ma / mb) << 1 | u128::from(ma % mb != 0);
            Finite { negative, m, e: ea - eb - 1 }
        }
    }
}

#[inline(never)]
pub(super) fn sqrt(a: Value) -> Value {
    match a {
        Nan | Infinite(true) | Finite { negative: true, .. } => Nan,
        Infinite(false) => a,
        Zero(_) => a,
        Finite { m, e, .. } => {
            let (m, e) = normalise(m, e);
            let (m, e) = if e % 2 == 0 { (m, e) } else { (m << 1, e - 1) };
            let root = m.isqrt();
            Finite { negative: false, m: root << 1 | u128::from(root * root != m), e: e / 2 - 1 }
        }
    }
}

/// The value of an integer.
pub(super) fn integer(value: i128) -> Value {
    if value == 0 { Zero(false) } else { Finite { negative: value < 0, m: value.unsigned_abs(), e: 0 } }
}
