//! Products of matrices and of packed bytes, and what is made of pairs of bfloat16.

use super::{Call, Reference};
use crate::data::{Data, Elem};

pub(super) fn find(name: &str) -> Option<Reference> {
    Some(match name {
        "matmul" => matmul,
        "matmul_bt" => matmul_bt,
        "transposed" => transposed,
        "dot_bytes" => dot_bytes,
        "matvec_bytes" => matvec_bytes,
        "bf16_pairs" => bf16_pairs,
        "limbs" => limbs,
        _ => return None,
    })
}

/// A fused multiply-add in the type itself.
fn fma(elem: Elem, a: f64, b: f64, c: f64) -> f64 {
    if elem == Elem::F32 {
        f64::from((a as f32).mul_add(b as f32, c as f32))
    } else {
        elem.f64(elem.from_f64(a.mul_add(b, c)))
    }
}

/// `matmul(a, b, m, n, k)`: row-major, a fused multiply-add for each step in order.
fn matmul(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.typed(0, call.elem)?, call.typed(1, call.elem)?);
    let (m, n, k) = (call.size(2)?, call.size(3)?, call.size(4)?);
    if a.len() != m * k || b.len() != k * n {
        return Err(format!("{} and {} elements are not {m} x {k} and {k} x {n}", a.len(), b.len()));
    }
    let one =
        |i: usize| (0..k).fold(0.0, |acc, t| fma(call.elem, a.f64(i / n * k + t), b.f64(t * n + i % n), acc));
    Ok(Data::floats(call.elem, (0..m * n).map(one)))
}

/// `matmul_bt(a, b, m, n, k)`: `b` is the transposed matrix; of any types, added up in f64.
fn matmul_bt(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.args_data(0)?, call.args_data(1)?);
    let (m, n, k) = (call.size(2)?, call.size(3)?, call.size(4)?);
    if a.len() != m * k || b.len() != k * n {
        return Err(format!("{} and {} elements are not {m} x {k} and {k} x {n}", a.len(), b.len()));
    }
    let one = |i: usize| (0..k).map(|t| a.f64(i / n * k + t) * b.f64(i % n * k + t)).sum::<f64>();
    Ok(Data::floats(call.elem, (0..m * n).map(one)))
}

/// `transposed(x, columns)`: the rows of `x`, which has that many columns, as columns.
fn transposed(call: &Call<'_>) -> Result<Data, String> {
    let (x, columns) = (call.args_data(0)?, call.size(1)?);
    if columns == 0 || x.len() % columns != 0 {
        return Err(format!("{} elements are no rows of {columns}", x.len()));
    }
    let rows = x.len() / columns;
    let bits = (0..x.len()).map(|i| x.bits[i % rows * columns + i / rows]).collect();
    Ok(Data { elem: x.elem, bits })
}

/// The sum of the products of `lanes`: pairs of (shift of a, bits of a, shift of b).
fn dot(a: u64, b: u64, signed: bool, lanes: [(u32, u32, u32); 4]) -> i128 {
    let part = |word: u64, shift: u32, bits: u32| {
        let elem = match (signed, bits) {
            (true, 8) => Elem::S8,
            (true, _) => Elem::S16,
            (false, 8) => Elem::U8,
            _ => Elem::U16,
        };
        elem.int(word >> shift & elem.mask())
    };
    lanes.iter().map(|&(a_shift, bits, b_shift)| part(a, a_shift, bits) * part(b, b_shift, 8)).sum()
}

const BYTES: [(u32, u32, u32); 4] = [(0, 8, 0), (8, 8, 8), (16, 8, 16), (24, 8, 24)];
/// Two half words with the low or the high two bytes; the others count for nothing, since shifts of 32 give zero.
const HALVES_LOW: [(u32, u32, u32); 4] = [(0, 16, 0), (16, 16, 8), (32, 16, 32), (32, 16, 32)];
const HALVES_HIGH: [(u32, u32, u32); 4] = [(0, 16, 16), (16, 16, 24), (32, 16, 32), (32, 16, 32)];

/// `dot_bytes(a, b)`: `dp4a` signed and unsigned, `dp2a.lo` signed, `dp2a.hi` unsigned, each plus the index.
fn dot_bytes(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.data(0)?, call.data(1)?);
    let rows = [(true, BYTES), (false, BYTES), (true, HALVES_LOW), (false, HALVES_HIGH)];
    let values = rows.iter().flat_map(|&(signed, lanes)| {
        let (a, b) = (&a, &b);
        (0..a.len()).map(move |i| dot(a.raw(i), b.raw(i), signed, lanes) + i as i128)
    });
    Ok(Data::ints(call.elem, values))
}

/// `matvec_bytes(w, x, scale)`: rows of packed signed bytes times a vector of them.
fn matvec_bytes(call: &Call<'_>) -> Result<Data, String> {
    let (w, x, scale) = (call.args_data(0)?, call.args_data(1)?, call.args_data(2)?);
    let one = |(row, words): (usize, &[u64])| {
        let acc: i128 = words.iter().zip(&x.bits).map(|(&a, &b)| dot(a, b, true, BYTES)).sum();
        u64::from((scale.f32(row) * acc as f32).to_bits())
    };
    Ok(Data { elem: Elem::F32, bits: w.bits.chunks(x.len()).enumerate().map(one).collect() })
}

/// `bf16_pairs(x, y)`: for every pair, x as bfloat16, then x y + x of those, then the larger.
fn bf16_pairs(call: &Call<'_>) -> Result<Data, String> {
    let (x, y) = (call.args_data(0)?, call.args_data(1)?);
    let e = Elem::BF16;
    let bits = (0..x.len() / 2).flat_map(|pair| {
        let rounded = |data: &Data, i: usize| e.f64(e.from_f64(data.f64(2 * pair + i)));
        let (a, b) = ([rounded(&x, 0), rounded(&x, 1)], [rounded(&y, 0), rounded(&y, 1)]);
        [a[0], a[1], a[0].mul_add(b[0], a[0]), a[1].mul_add(b[1], a[1]), a[0].max(b[0]), a[1].max(b[1])]
            .map(|v| e.from_f64(v))
    });
    Ok(Data { elem: e, bits: bits.collect() })
}

/// `limbs(a, b)`: of a b + 2^64 b + a in 128 bits the low half, the high half, and zero.
fn limbs(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.data(0)?, call.data(1)?);
    let bits = (0..a.len()).flat_map(|i| {
        let (x, y) = (u128::from(a.raw(i)), u128::from(b.raw(i)));
        let sum = (x * y).wrapping_add(y << 64 | x);
        [sum as u64, (sum >> 64) as u64, 0]
    });
    Ok(Data { elem: a.elem, bits: bits.collect() })
}
