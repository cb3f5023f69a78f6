//! Functions of floating point numbers, and conversions with a rounding.

use super::{Call, Reference};
use crate::data::{Data, Elem};

pub(super) fn find(name: &str) -> Option<Reference> {
    if unary(name).is_some() {
        return Some(apply_unary);
    }
    if name.starts_with("to_int_r") {
        return Some(to_int);
    }
    if name.starts_with("round_r") {
        return Some(round_to);
    }
    Some(match name {
        "mul_rz" => mul_rz,
        "sum_spread" => sum_spread,
        "pow" | "fmod" | "copysign" => binary,
        "directed" => directed,
        "ftz" => flush,
        "mul_ftz" | "fma_ftz" => flushed,
        "sat" => saturate,
        "min_nan" | "max_nan" => minmax_nan,
        _ => return None,
    })
}

fn unary(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "exp" => f64::exp,
        "exp2" => f64::exp2,
        "log" => f64::ln,
        "log2" => f64::log2,
        "sin" => f64::sin,
        "cos" => f64::cos,
        "tanh" => f64::tanh,
        "sqrt" => f64::sqrt,
        "rcp" => |x| 1.0 / x,
        "rsqrt" => |x| 1.0 / x.sqrt(),
        "erf" => erf,
        "rint" => f64::round_ties_even,
        "floor" => f64::floor,
        "ceil" => f64::ceil,
        "trunc" => f64::trunc,
        _ => return None,
    })
}

/// A product, or a product and a sum, of single precision with `.ftz`: zero if it is subnormal after rounding to 24 bits
/// without a bound on the exponent. Scaled by 2^64, nothing of what matters is subnormal.
fn flushed(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.data(0)?, call.data(1)?);
    let c = if call.name == "fma_ftz" { Some(call.data(2)?) } else { None };
    let subnormal_to_zero =
        |x: f64| if x.abs() < f64::from(f32::MIN_POSITIVE) { 0f64.copysign(x) } else { x };
    let one = |i: usize| {
        let (a, b) = (subnormal_to_zero(a.f64(i)), subnormal_to_zero(b.f64(i)));
        let exact = match &c {
            Some(c) => a.mul_add(b, subnormal_to_zero(c.f64(i))),
            None => a * b,
        };
        let scaled = (exact * 2f64.powi(64)) as f32;
        let tiny = f64::from(scaled).abs() < f64::from(f32::MIN_POSITIVE) * 2f64.powi(64);
        if tiny { 0f64.copysign(exact) } else { exact }
    };
    Ok(Data::floats(a.elem, (0..a.len()).map(one)))
}

/// The exact function, rounded to the operand's type.
fn apply_unary(call: &Call<'_>) -> Result<Data, String> {
    let function = unary(call.name).ok_or("unknown")?;
    let x = call.data(0)?;
    Ok(Data::floats(x.elem, (0..x.len()).map(|i| function(x.f64(i)))))
}

/// Abramowitz and Stegun, 7.1.5 and 7.1.14.
fn erf(x: f64) -> f64 {
    let a = x.abs();
    if a < 3.0 {
        let (mut term, mut sum) = (a, a);
        for n in 1..100 {
            term *= -a * a / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        return (2.0 / std::f64::consts::PI.sqrt() * sum).copysign(x);
    }
    let fraction = (1..60).rev().fold(a, |f, n| a + f64::from(n) / 2.0 / f);
    (1.0 - (-a * a).exp() / (std::f64::consts::PI.sqrt() * fraction)).copysign(x)
}

fn binary(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.data(0)?, call.data(1)?);
    let one = |i: usize| match call.name {
        "pow" => a.f64(i).powf(b.f64(i)),
        "fmod" => a.f64(i) % b.f64(i),
        _ => a.f64(i).copysign(b.f64(i)),
    };
    Ok(Data::floats(a.elem, (0..call.common_len()?).map(one)))
}

/// The mode of a name `PREFIX_MODE` or `PREFIX_MODE_TYPE`, and the type: the declared one, if the name has none.
fn mode_and_type(call: &Call<'_>, prefix: &str) -> Result<(u8, Elem), String> {
    let rest = call.name.strip_prefix(prefix).ok_or("unknown")?;
    let (mode, elem) =
        rest.split_once('_').map_or((rest, Some(call.elem)), |(mode, elem)| (mode, Elem::named(elem)));
    match (mode, elem) {
        ("rn" | "rz" | "rm" | "rp", Some(elem)) => Ok((mode.as_bytes()[1], elem)),
        _ => Err(format!("unknown function `{}`", call.name)),
    }
}

/// `to_int_MODE(x)` or `to_int_MODE_TYPE(x)`: rounded, then saturated; of a NaN zero, or the top bit alone if either
/// type has 64 bits.
fn to_int(call: &Call<'_>) -> Result<Data, String> {
    let (mode, to) = mode_and_type(call, "to_int_")?;
    let x = call.args_data(0)?;
    if to.is_float() {
        return Err(format!("{to} is not an integer type"));
    }
    let one = |i: usize| {
        let v = x.f64(i);
        let rounded = match mode {
            b'z' => v.trunc(),
            b'n' => v.round_ties_even(),
            b'm' => v.floor(),
            _ => v.ceil(),
        };
        let (low, high) = to.range();
        match rounded.is_nan() {
            true if x.elem == Elem::F64 || to.bits() == 64 => 1 << (to.bits() - 1),
            true => 0,
            false => (rounded as i128).clamp(low, high),
        }
    };
    Ok(Data::ints(to, (0..x.len()).map(one)))
}

/// `round_MODE(x)` or `round_MODE_TYPE(x)`, to a floating point type.
fn round_to(call: &Call<'_>) -> Result<Data, String> {
    let (mode, to) = mode_and_type(call, "round_")?;
    let x = call.args_data(0)?;
    let wide = |i: usize| if x.elem.is_float() { Exact::Float(x.f64(i)) } else { Exact::Int(x.int(i)) };
    Ok(Data { elem: to, bits: (0..x.len()).map(|i| round(to, wide(i), mode)).collect() })
}

#[derive(Clone, Copy)]
enum Exact {
    Float(f64),
    Int(i128),
}

impl Exact {
    /// How this compares with a value of a type.
    fn cmp(self, elem: Elem, bits: u64) -> std::cmp::Ordering {
        let other = elem.f64(bits);
        match self {
            Self::Float(v) => v.total_cmp(&other),
            // Integers up to 2^64 compare exactly as such: their neighbours are integers, too.
            Self::Int(v) if other.is_finite() => v.cmp(&(other as i128)),
            Self::Int(_) => 0.0f64.total_cmp(&other),
        }
    }
}

/// The nearest value, moved by one where the mode wants the other neighbour. `mode` is the last letter of PTX's name.
fn round(elem: Elem, exact: Exact, mode: u8) -> u64 {
    let nearest = match (elem, exact) {
        (Elem::F32, Exact::Int(v)) => u64::from((v as f32).to_bits()),
        (_, Exact::Int(v)) => elem.from_f64(v as f64),
        (_, Exact::Float(v)) => elem.from_f64(v),
    };
    let value = elem.f64(nearest);
    let unbounded = matches!(exact, Exact::Float(v) if !v.is_finite());
    if mode == b'n' || unbounded || exact.cmp(elem, nearest).is_eq() {
        return nearest;
    }
    let exact_above = exact.cmp(elem, nearest).is_gt();
    let negative = match exact {
        Exact::Float(v) => v.is_sign_negative(),
        Exact::Int(v) => v < 0,
    };
    let want_above = match mode {
        b'm' => false,
        b'p' => true,
        _ => negative,
    };
    if exact_above == want_above {
        // The nearest is on the wrong side: the exact value is beyond it in the wanted direction.
        next(elem, nearest, want_above)
    } else {
        debug_assert!(!value.is_nan());
        nearest
    }
}

/// The neighbour above or below.
fn next(elem: Elem, bits: u64, above: bool) -> u64 {
    let sign = 1 << (elem.bits() - 1);
    if bits & !sign == 0 {
        return if above { 1 } else { sign | 1 };
    }
    if (bits & sign == 0) == above { bits + 1 } else { bits - 1 }
}

/// `directed(op, mode, x, y)` with `op` 0 for a sum, 1 for a difference, 2 for a product, and `mode` 0 for towards
/// zero, 1 for down, 2 for up; of f32, by way of f64, whose results of two f32 are exact or tell the direction.
fn directed(call: &Call<'_>) -> Result<Data, String> {
    let (op, mode) = (call.int(0)?, *b"zmp".get(call.size(1)?).ok_or("no such mode")?);
    let (a, b) = (call.typed(2, Elem::F32)?, call.typed(3, Elem::F32)?);
    let one = |i: usize| {
        let (x, y) = (a.f64(i), b.f64(i));
        let (result, error) = match op {
            2 => (x * y, 0.0),
            _ => {
                // Knuth's exact sum: the error of an addition is a number.
                let y = if op == 1 { -y } else { y };
                let sum = x + y;
                let z = sum - x;
                (sum, (x - (sum - z)) + (y - z))
            }
        };
        if result == 0.0 && op != 2 {
            // Zeros of one sign keep it; otherwise the sum is negative only when rounding down.
            let y_negative = y.is_sign_negative() != (op == 1);
            let negative = if x.is_sign_negative() == y_negative { y_negative } else { mode == b'm' };
            return u64::from(negative) << 31;
        }
        let x32 = result as f32;
        if f64::from(x32) == result && error != 0.0 && result.is_finite() {
            let up = error > 0.0;
            let wanted = match mode {
                b'm' => false,
                b'p' => true,
                _ => result < 0.0,
            };
            let bits = u64::from(x32.to_bits());
            return if up == wanted { next(Elem::F32, bits, up) } else { bits };
        }
        if result.is_finite() && f64::from(x32).is_infinite() {
            let max = if result < 0.0 { 0xFF7F_FFFF } else { 0x7F7F_FFFF };
            let away = match mode {
                b'm' => result < 0.0,
                b'p' => result > 0.0,
                _ => false,
            };
            return if away { u64::from(x32.to_bits()) } else { max };
        }
        round(Elem::F32, Exact::Float(result), mode)
    };
    Ok(Data { elem: Elem::F32, bits: (0..a.len().max(b.len())).map(one).collect() })
}

/// Subnormal numbers become zeros of their sign.
fn flush(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    let mantissa = match x.elem {
        Elem::F16 => 10,
        Elem::BF16 => 7,
        Elem::F32 => 23,
        _ => return Err("is of f16, bf16 and f32".into()),
    };
    let sign = 1u64 << (x.elem.bits() - 1);
    let one = |&b: &u64| if b & !sign < 1 << mantissa { b & sign } else { b };
    Ok(Data { elem: x.elem, bits: x.bits.iter().map(one).collect() })
}

/// Into [0, 1]; zero of a NaN, and positive zero of anything up to zero.
fn saturate(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    let one = |i: usize| if x.f64(i) > 0.0 { x.f64(i).min(1.0) } else { 0.0 };
    Ok(Data::floats(x.elem, (0..x.len()).map(one)))
}

/// A NaN, if an operand is one.
fn minmax_nan(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.data(0)?, call.data(1)?);
    let one = |i: usize| {
        let (x, y) = (a.f64(i), b.f64(i));
        if x.is_nan() || y.is_nan() {
            return a.elem.from_f64(f64::NAN);
        }
        let first = x.total_cmp(&y).is_lt() == (call.name == "min_nan");
        if first { a.raw(i) } else { b.raw(i) }
    };
    Ok(Data { elem: a.elem, bits: (0..call.common_len()?).map(one).collect() })
}

/// `mul_rz(x, y)`: the product of f64 towards zero, from all of its digits.
fn mul_rz(call: &Call<'_>) -> Result<Data, String> {
    /// Digits and exponent of a finite number.
    fn split(v: f64) -> (u128, i32) {
        let (exponent, fraction) =
            ((v.to_bits() >> 52 & 0x7ff) as i32, u128::from(v.to_bits() & ((1 << 52) - 1)));
        if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) }
    }
    let (a, b) = (call.typed(0, Elem::F64)?, call.typed(1, Elem::F64)?);
    let one = |i: usize| {
        let (x, y) = (a.f64(i), b.f64(i));
        let near = x * y;
        if !x.is_finite() || !y.is_finite() || x == 0.0 || y == 0.0 {
            return near;
        }
        let ((x_digits, x_exponent), (y_digits, y_exponent)) = (split(x), split(y));
        let (mut digits, mut exponent) = (x_digits * y_digits, x_exponent + y_exponent);
        let width = 128 - digits.leading_zeros() as i32;
        let drop = (width - 53).max(-1074 - exponent);
        if drop > 0 {
            // From 128 places on no digit is left.
            digits = digits.checked_shr(drop as u32).unwrap_or(0);
            exponent += drop;
        }
        let half = exponent / 2;
        let result = digits as f64 * 2f64.powi(half) * 2f64.powi(exponent - half);
        result.min(f64::MAX).copysign(near)
    };
    Ok(Data::floats(Elem::F64, (0..call.common_len()?).map(one)))
}

/// `sum_spread(x, y)`: the sum of f64 rounded up less the sum rounded down.
fn sum_spread(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.typed(0, Elem::F64)?, call.typed(1, Elem::F64)?);
    let one = |i: usize| {
        let (x, y) = (a.f64(i), b.f64(i));
        let sum = x + y;
        if !x.is_finite() || !y.is_finite() {
            return f64::NAN;
        }
        if !sum.is_finite() {
            return f64::INFINITY;
        }
        let z = sum - x;
        let error = (x - (sum - z)) + (y - z);
        match error {
            0.0 => 0.0,
            e if e > 0.0 => sum.next_up() - sum,
            _ => sum - sum.next_down(),
        }
    };
    Ok(Data::floats(Elem::F64, (0..call.common_len()?).map(one)))
}
