//! Inputs.

use super::{Call, Reference};
use crate::data::{Data, Elem};

pub(super) fn find(name: &str) -> Option<Reference> {
    Some(match name {
        "iota" => iota,
        "random" => random,
        "edges" => edges,
        "cross" => cross,
        "repeat" => repeat,
        "zeros" => zeros,
        "same" => same,
        "anything" => anything,
        _ => return None,
    })
}

/// `iota(first, step, count)`: each may be left out from the end.
fn iota(call: &Call<'_>) -> Result<Data, String> {
    let first = if call.count() > 0 { call.float(0)? } else { 0.0 };
    let step = if call.count() > 1 { call.float(1)? } else { 1.0 };
    let len = if call.count() > 2 { call.size(2)? } else { call.len()? };
    if call.elem.is_float() {
        return Ok(Data::floats(call.elem, (0..len).map(|i| first + step * i as f64)));
    }
    Ok(Data::ints(call.elem, (0..len as i128).map(|i| first as i128 + step as i128 * i)))
}

/// `random(seed)`: bits, for integers; `random(seed, low, high)`: uniform, integers inclusive of both.
fn random(call: &Call<'_>) -> Result<Data, String> {
    let mut state = SplitMix(call.int(0)? as u64);
    let len = call.len()?;
    if call.count() == 1 {
        return Ok(Data::new(call.elem, (0..len).map(|_| state.next()).collect()));
    }
    let (low, high) = (call.float(1)?, call.float(2)?);
    if call.elem.is_float() {
        let unit = |bits: u64| (bits >> 11) as f64 / (1u64 << 53) as f64;
        return Ok(Data::floats(call.elem, (0..len).map(|_| low + (high - low) * unit(state.next()))));
    }
    let (low, span) = (call.int(1)?, (call.int(2)? - call.int(1)? + 1).max(1));
    Ok(Data::ints(call.elem, (0..len).map(|_| low + i128::from(state.next()) % span)))
}

/// `same(count, value)`; the value is 1 if it is left out.
fn same(call: &Call<'_>) -> Result<Data, String> {
    let value = if call.count() > 1 { call.typed(1, call.elem)?.raw(0) } else { call.elem.from_int(1) };
    Ok(Data { elem: call.elem, bits: vec![value; call.size(0)?] })
}

/// `anything()`: what a kernel with a race leaves. It is not compared.
fn anything(call: &Call<'_>) -> Result<Data, String> {
    Ok(Data { elem: call.elem, bits: vec![0; call.len()?] })
}

/// `zeros(count)`.
fn zeros(call: &Call<'_>) -> Result<Data, String> {
    Ok(Data { elem: call.elem, bits: vec![0; call.size(0)?] })
}

/// `repeat(values...)`: the values over and over.
fn repeat(call: &Call<'_>) -> Result<Data, String> {
    let mut values = Vec::new();
    for i in 0..call.count() {
        values.extend(call.typed(i, call.elem)?.bits);
    }
    if values.is_empty() {
        return Err("nothing to repeat".into());
    }
    Ok(Data { elem: call.elem, bits: values.iter().copied().cycle().take(call.len()?).collect() })
}

/// `edges(shift)`: values where operations change their minds, over and over, beginning with that number `shift`.
fn edges(call: &Call<'_>) -> Result<Data, String> {
    let shift = if call.count() > 0 { call.size(0)? } else { 0 };
    let edges = edge_values(call.elem);
    let bits = edges.iter().copied().cycle().skip(shift % edges.len()).take(call.len()?).collect();
    Ok(Data { elem: call.elem, bits })
}

/// `cross(0)` and `cross(1)`: together every pair of edge values, if there is room; 16 of 8-bit types, 20 of other
/// integers, 24 of floating point types.
fn cross(call: &Call<'_>) -> Result<Data, String> {
    let edges = edge_values(call.elem);
    let divide = if call.int(0)? == 0 { 1 } else { edges.len() };
    let bits = (0..call.len()?).map(|i| edges[i / divide % edges.len()]).collect();
    Ok(Data { elem: call.elem, bits })
}

fn edge_values(elem: Elem) -> Vec<u64> {
    let (exponent, mantissa) = match elem {
        Elem::F16 => (5, 10),
        Elem::BF16 => (8, 7),
        Elem::F32 => (8, 23),
        Elem::F64 => (11, 52),
        _ => return integer_edges(elem),
    };
    let sign = 1u64 << (exponent + mantissa);
    let inf = ((1u64 << exponent) - 1) << mantissa;
    let one = ((1u64 << (exponent - 1)) - 1) << mantissa;
    let unit = 1u64 << mantissa;
    let (half, two, three) = (one - unit, one + unit, one + unit + unit / 2);
    vec![
        0,
        sign,
        one,
        one | sign,
        half,
        half + unit / 2,
        two,
        three | sign,
        one + 1,
        (one - 1) | sign,
        inf,
        inf | sign,
        // A quiet NaN, a signalling one, and a negative one with a payload.
        inf | (unit / 2),
        inf | 1,
        inf | sign | (unit / 2) | 5,
        // The largest, the smallest normal and subnormal ones.
        inf - 1,
        (inf - 1) | sign,
        unit,
        unit | sign,
        unit - 1,
        1,
        sign | 1,
        one + 7 * unit + unit / 8 + 3,
        (one + 4 * unit + unit / 4 + 1) | sign,
    ]
}

fn integer_edges(elem: Elem) -> Vec<u64> {
    let bits = elem.bits();
    let top = 1u64 << (bits - 1);
    let mask = elem.mask();
    let mut values = vec![0, 1, 2, 3, 7, mask, mask - 1, top, top - 1, top + 1, 8, 9, 15, 0x55, 0xAA, 100];
    if bits > 8 {
        values.extend([31, 32, u64::from(bits), 0x1234_5678_9ABC_DEF0]);
    }
    values.iter().map(|v| v & mask).collect()
}

/// Steele, Lea and Flood, "Fast splittable pseudorandom number generators", 2014.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}
