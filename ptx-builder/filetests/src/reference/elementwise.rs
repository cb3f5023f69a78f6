//! Element by element: arithmetic of integers and of floating point numbers, comparisons, conversions of type.

use super::{Call, Reference, Value};
use crate::data::{Data, Elem};

pub(super) fn find(name: &str) -> Option<Reference> {
    if integer(name).is_some() {
        return Some(apply_integer);
    }
    if Elem::named(name).is_some() {
        return Some(wrap);
    }
    Some(match name {
        "add" | "sub" | "mul" | "div" | "fma" | "min" | "max" => arithmetic,
        "fold_add" | "fold_min" | "fold_max" | "fold_and" | "fold_or" | "fold_xor" => fold,
        "neg" | "abs" => sign,
        "eq" | "ne" | "lt" | "le" | "gt" | "ge" => compare,
        "select" => select,
        "bits_u8" | "bits_u16" | "bits_u32" | "bits_s32" | "bits_u64" | "bits_s64" | "bits_f16"
        | "bits_bf16" | "bits_f32" | "bits_f64" => reinterpret,
        "slice" => slice,
        "every" => every,
        "interleave" => interleave,
        "index" => index,
        "rotate" | "reverse" => rearrange,
        "clamp" | "clamp_s8" | "clamp_u8" => clamp,
        _ => return None,
    })
}

/// An operation of integers: the type, and up to three operands as their values.
type Integer = fn(Elem, i128, i128, i128) -> i128;

/// Results are wrapped to the type.
fn integer(name: &str) -> Option<(usize, Integer)> {
    fn unsigned(elem: Elem, v: i128) -> u64 {
        v as u64 & elem.mask()
    }
    fn clamp(elem: Elem, v: i128) -> i128 {
        let (low, high) = elem.range();
        v.clamp(low, high)
    }
    Some(match name {
        "rem" => (2, |_, a, b, _| a.checked_rem(b).unwrap_or(-1)),
        "and" => (2, |_, a, b, _| a & b),
        "or" => (2, |_, a, b, _| a | b),
        "xor" => (2, |_, a, b, _| a ^ b),
        "not" => (1, |_, a, _, _| !a),
        // The amount is an unsigned number; what is shifted further than the width is gone.
        "shl" => {
            (2, |e, a, b, _| if unsigned(e, b) >= u64::from(e.bits()) { 0 } else { a << unsigned(e, b) })
        }
        "shr" => (2, |e, a, b, _| a >> unsigned(e, b).min(127)),
        "mul_hi" => (2, |e, a, b, _| a.wrapping_mul(b) >> e.bits()),
        "mad" => (3, |_, a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        "mad_hi" => (3, |e, a, b, c| (a.wrapping_mul(b) >> e.bits()) + c),
        "add_sat" => (2, |e, a, b, _| clamp(e, a + b)),
        "sub_sat" => (2, |e, a, b, _| clamp(e, a - b)),
        "mad_hi_sat" => (3, |e, a, b, c| clamp(e, ((a * b) >> e.bits()) + c)),
        "sad" => (3, |_, a, b, c| c + (a - b).abs()),
        "mul24" => (2, |e, a, b, _| low24(e, a) * low24(e, b)),
        "mad24" => (3, |e, a, b, c| low24(e, a) * low24(e, b) + c),
        "mul24_hi" => (2, |e, a, b, _| (low24(e, a) * low24(e, b)) >> 16),
        "popc" => (1, |e, a, _, _| unsigned(e, a).count_ones().into()),
        "clz" => (1, |e, a, _, _| (unsigned(e, a).leading_zeros() - (64 - e.bits())).into()),
        "ffs" => (
            1,
            |e, a, _, _| if unsigned(e, a) == 0 { 0 } else { (unsigned(e, a).trailing_zeros() + 1).into() },
        ),
        "brev" => (1, |e, a, _, _| (unsigned(e, a).reverse_bits() >> (64 - e.bits())).into()),
        "cnot" => (1, |_, a, _, _| i128::from(a == 0)),
        "bfind" => (1, |e, a, _, _| {
            let bits = unsigned(e, if e.is_signed() && a < 0 { !a } else { a });
            63 - i128::from(bits.leading_zeros())
        }),
        "bfind_shift" => (1, |e, a, _, _| {
            let bits = unsigned(e, if e.is_signed() && a < 0 { !a } else { a });
            if bits == 0 { -1 } else { i128::from(bits.leading_zeros() - (64 - e.bits())) }
        }),
        "bfe" => (3, |e, a, b, c| {
            let (position, len) = ((b & 0xff) as u32, (c & 0xff) as u32);
            let top = e.bits() - 1;
            // Positions above the type's own are filled with the sign of the field's last bit that exists.
            let bit = |at: u32| unsigned(e, a) >> at & 1 == 1;
            let fill = e.is_signed() && len > 0 && bit((position + len - 1).min(top));
            (0..e.bits()).fold(0, |result, i| {
                let set = if i < len && position + i <= top { bit(position + i) } else { fill };
                result | i128::from(set) << i
            })
        }),
        "bfi" => (3, |e, a, b, c| {
            // Inserts into `b` the field of `a` that `c` describes: position in its low byte, length above it.
            let (position, len) = ((c & 0xff) as u32, (c >> 8 & 0xff) as u32);
            (0..len).filter(|i| position + i < e.bits()).fold(b, |result, i| {
                let at = position + i;
                result & !(1 << at) | ((a >> i) & 1) << at
            })
        }),
        "prmt" => (3, |_, a, b, c| {
            let bytes = (b as u64 & 0xffff_ffff) << 32 | a as u64 & 0xffff_ffff;
            (0..4).fold(0, |result, i| {
                let selector = c >> (4 * i) & 15;
                let byte = (bytes >> (8 * (selector & 7))) as u8;
                let byte = if selector & 8 != 0 { (byte as i8 >> 7) as u8 } else { byte };
                result | i128::from(byte) << (8 * i)
            })
        }),
        "shf_l_clamp" => (3, |_, a, b, c| funnel(a, b) << funnel_clamp(c) >> 32),
        "shf_r_clamp" => (3, |_, a, b, c| funnel(a, b) >> funnel_clamp(c)),
        "shf_l_wrap" => (3, |_, a, b, c| funnel(a, b) << (c & 31) >> 32),
        "shf_r_wrap" => (3, |_, a, b, c| funnel(a, b) >> (c & 31)),
        "slct" => (3, |_, a, b, c| if c >= 0 { a } else { b }),
        "byte_swap" => (1, |e, a, _, _| (unsigned(e, a).swap_bytes() >> (64 - e.bits())).into()),
        "rotate_left" => (2, |e, a, b, _| {
            let by = unsigned(e, b) % u64::from(e.bits());
            (u128::from(unsigned(e, a)) << by | u128::from(unsigned(e, a)) >> (u64::from(e.bits()) - by))
                as i128
        }),
        "ctz" => (1, |e, a, _, _| unsigned(e, a).trailing_zeros().min(e.bits()).into()),
        _ => return None,
    })
}

fn low24(elem: Elem, v: i128) -> i128 {
    let v = v & 0xff_ffff;
    if elem.is_signed() && v & 0x80_0000 != 0 { v - 0x100_0000 } else { v }
}

fn funnel(low: i128, high: i128) -> i128 {
    (high & 0xffff_ffff) << 32 | low & 0xffff_ffff
}

fn funnel_clamp(by: i128) -> i128 {
    (by & 0xffff_ffff).min(32)
}

fn apply_integer(call: &Call<'_>) -> Result<Data, String> {
    let (arity, operation) = integer(call.name).ok_or("unknown")?;
    let elem = call.operand_elem();
    if call.count() != arity || elem.is_float() {
        return Err(format!("needs {arity} integers"));
    }
    let operands = (0..arity).map(|i| call.data(i)).collect::<Result<Vec<_>, _>>()?;
    let at = |operand: usize, i: usize| operands.get(operand).map_or(0, |data| data.int(i));
    Ok(Data::ints(elem, (0..call.common_len()?).map(|i| operation(elem, at(0, i), at(1, i), at(2, i)))))
}

/// `add`, `sub`, `mul`, `div`, `fma`, `min`, `max` of any type, rounded once, ties to even.
fn arithmetic(call: &Call<'_>) -> Result<Data, String> {
    let elem = call.operand_elem();
    let (a, b) = (call.data(0)?, call.data(1)?);
    let len = call.common_len()?;
    if elem.is_float() {
        let c = if call.name == "fma" { Some(call.data(2)?) } else { None };
        let one = |i: usize| {
            float_arithmetic(call.name, elem, [a.raw(i), b.raw(i), c.as_ref().map_or(0, |c| c.raw(i))])
        };
        return Ok(Data { elem, bits: (0..len).map(one).collect() });
    }
    let ones = -1;
    let one = |i: usize| {
        let (a, b) = (a.int(i), b.int(i));
        match call.name {
            "add" => a + b,
            "sub" => a - b,
            // Products of 64 bits without sign need one more than there is; the low ones are right.
            "mul" => a.wrapping_mul(b),
            // By zero: all ones.
            "div" => a.checked_div(b).unwrap_or(ones),
            "min" => a.min(b),
            _ => a.max(b),
        }
    };
    if call.name == "fma" {
        return Err("is of floating point numbers".into());
    }
    Ok(Data::ints(elem, (0..len).map(one)))
}

fn float_arithmetic(name: &str, elem: Elem, [a, b, c]: [u64; 3]) -> u64 {
    // Of two operands of f32 or less, sums, products and quotients in f64 round to the same as in one step, since
    // f64 has more than twice their digits.
    let (x, y, z) = (elem.f64(a), elem.f64(b), elem.f64(c));
    let result = match name {
        "add" => x + y,
        "sub" => x - y,
        "mul" => x * y,
        "div" => x / y,
        "min" | "max" => return minmax(name == "min", elem, a, b),
        _ if elem == Elem::F32 => {
            return (f32::from_bits(a as u32).mul_add(f32::from_bits(b as u32), f32::from_bits(c as u32)))
                .to_bits()
                .into();
        }
        _ => x.mul_add(y, z),
    };
    elem.from_f64(result)
}

/// The number, if the other operand is not one; of two zeros the negative one is the smaller.
fn minmax(min: bool, elem: Elem, a: u64, b: u64) -> u64 {
    let (x, y) = (elem.f64(a), elem.f64(b));
    if x.is_nan() || y.is_nan() {
        return match (x.is_nan(), y.is_nan()) {
            (true, false) => b,
            (false, true) => a,
            _ => elem.from_f64(f64::NAN),
        };
    }
    if x == y {
        let a_smaller = x.is_sign_negative();
        return if a_smaller == min { a } else { b };
    }
    if (x < y) == min { a } else { b }
}

/// `fold_*(x)`: all elements, in order.
fn fold(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    if x.elem.is_float() && call.name == "fold_add" {
        let sum = x.bits.iter().fold(0.0, |sum, &bits| sum + x.elem.f64(bits));
        return Ok(Data::floats(x.elem, [sum]));
    }
    let values = (0..x.len()).map(|i| x.int(i));
    let result = match call.name {
        "fold_add" => values.sum(),
        "fold_min" => values.min().ok_or("nothing")?,
        "fold_max" => values.max().ok_or("nothing")?,
        "fold_and" => values.fold(-1, |a, b| a & b),
        "fold_or" => values.fold(0, |a, b| a | b),
        _ => values.fold(0, |a, b| a ^ b),
    };
    Ok(Data::ints(x.elem, [result]))
}

fn sign(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    let neg = call.name == "neg";
    if x.elem.is_float() {
        let bit = 1 << (x.elem.bits() - 1);
        return Ok(Data {
            elem: x.elem,
            bits: x.bits.iter().map(|b| if neg { b ^ bit } else { b & !bit }).collect(),
        });
    }
    Ok(Data::ints(x.elem, (0..x.len()).map(|i| if neg { -x.int(i) } else { x.int(i).abs() })))
}

/// Ones and zeros of the declared type; an order with a NaN is false, and only `ne` is true of one.
fn compare(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.data(0)?, call.data(1)?);
    let elem = call.operand_elem();
    let one = |i: usize| {
        let order =
            if elem.is_float() { a.f64(i).partial_cmp(&b.f64(i)) } else { Some(a.int(i).cmp(&b.int(i))) };
        i128::from(match call.name {
            "eq" => order.is_some_and(|o| o.is_eq()),
            "ne" => !order.is_some_and(|o| o.is_eq()),
            "lt" => order.is_some_and(|o| o.is_lt()),
            "le" => order.is_some_and(|o| o.is_le()),
            "gt" => order.is_some_and(|o| o.is_gt()),
            _ => order.is_some_and(|o| o.is_ge()),
        })
    };
    Ok(Data::ints(call.elem, (0..call.common_len()?).map(one)))
}

/// `select(condition, a, b)`: `a` where the condition is not zero.
fn select(call: &Call<'_>) -> Result<Data, String> {
    let condition = call.data(0)?;
    let (a, b) = (call.typed(1, call.elem)?, call.typed(2, call.elem)?);
    let len = condition.len().max(a.len()).max(b.len());
    Ok(Data {
        elem: call.elem,
        bits: (0..len).map(|i| if condition.raw(i) != 0 { a.raw(i) } else { b.raw(i) }).collect(),
    })
}

/// A conversion as of C: integers wrap, to floating point ties go to even, from it the fraction is dropped.
fn wrap(call: &Call<'_>) -> Result<Data, String> {
    let to = Elem::named(call.name).ok_or("unknown")?;
    let x = match call.args.first() {
        // A literal is of the type that it is converted to.
        Some(Value::Data(data)) => data.clone(),
        _ => return call.typed(0, to),
    };
    Ok(if x.elem.is_float() {
        Data::floats(to, (0..x.len()).map(|i| x.f64(i)))
    } else if to == Elem::F32 {
        // Not through f64, which would round 64-bit integers twice.
        Data { elem: to, bits: (0..x.len()).map(|i| (x.int(i) as f32).to_bits().into()).collect() }
    } else {
        Data::ints(to, (0..x.len()).map(|i| x.int(i)))
    })
}

/// `bits_T(x)`: the same bits as another type of the same size.
fn reinterpret(call: &Call<'_>) -> Result<Data, String> {
    let to = Elem::named(&call.name["bits_".len()..]).ok_or("unknown")?;
    let x = call.data(0)?;
    Ok(Data::from_bytes(to, &x.to_bytes()))
}

/// `slice(x, first, count)`.
fn slice(call: &Call<'_>) -> Result<Data, String> {
    let (x, first, count) = (call.data(0)?, call.size(1)?, call.size(2)?);
    let bits = x.bits.get(first..first + count).ok_or("beyond the end")?;
    Ok(Data { elem: x.elem, bits: bits.to_vec() })
}

/// `every(x, first, step)`.
fn every(call: &Call<'_>) -> Result<Data, String> {
    let (x, first, step) = (call.data(0)?, call.size(1)?, call.size(2)?.max(1));
    Ok(Data { elem: x.elem, bits: x.bits.iter().copied().skip(first).step_by(step).collect() })
}

/// `interleave(a, b, ...)`: the first of each, then the second of each.
fn interleave(call: &Call<'_>) -> Result<Data, String> {
    let parts = (0..call.count()).map(|i| call.data(i)).collect::<Result<Vec<_>, _>>()?;
    let bits = (0..call.common_len()?).flat_map(|i| parts.iter().map(move |p| p.raw(i))).collect();
    Ok(Data { elem: call.operand_elem(), bits })
}

/// `index(x, at)`: the elements of `x` at the positions `at`.
fn index(call: &Call<'_>) -> Result<Data, String> {
    let (x, at) = (call.data(0)?, call.data(1)?);
    let get = |i: usize| x.bits.get(at.raw(i) as usize).copied().ok_or_else(|| "beyond the end".to_owned());
    Ok(Data { elem: x.elem, bits: (0..at.len()).map(get).collect::<Result<_, _>>()? })
}

/// `rotate(x)`: from the second element around to the first; `reverse(x)`: from the last one.
fn rearrange(call: &Call<'_>) -> Result<Data, String> {
    let mut x = call.args_data(0)?;
    if call.name == "rotate" {
        x.bits.rotate_left(1)
    } else {
        x.bits.reverse()
    }
    Ok(x)
}

/// `clamp(x)` to the declared integer type, `clamp_T(x)` to another one.
fn clamp(call: &Call<'_>) -> Result<Data, String> {
    let to = call.name.strip_prefix("clamp_").map_or(Some(call.elem), Elem::named).ok_or("unknown")?;
    let (x, (low, high)) = (call.args_data(0)?, to.range());
    Ok(Data::ints(to, (0..x.len()).map(|i| x.int(i).clamp(low, high))))
}
