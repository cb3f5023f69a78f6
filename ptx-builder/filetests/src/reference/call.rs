//! The samples about control flow and calls, each as plain Rust.

use super::{Call, Reference};
use crate::data::{Data, Elem};

pub(super) fn find(name: &str) -> Option<Reference> {
    Some(match name {
        "called_floats" => called_floats,
        "called_ints" => called_ints,
        "recursion" => recursion,
        "pick_operation" => pick_operation,
        "nvcc_switch" => nvcc_switch,
        "llvm_switch" => llvm_switch,
        "collatz" => collatz,
        "nested_breaks" => nested_breaks,
        "generic_sums" => generic_sums,
        "scratch_shorts" => scratch_shorts,
        "read_globals" => read_globals,
        "llvm_calls" => llvm_calls,
        "polynomial" => polynomial,
        "assembly" => assembly,
        "called" => called,
        "llvm_integers" => llvm_integers,
        _ => return None,
    })
}

fn ints(elem: Elem, n: usize, f: impl Fn(usize) -> i128) -> Result<Data, String> {
    Ok(Data::ints(elem, (0..n).map(f)))
}

/// `called_floats(x, scale, weight)`.
fn called_floats(call: &Call<'_>) -> Result<Data, String> {
    let x = call.args_data(0)?;
    let (scale, weight) = (call.float(1)? as f32, call.float(2)?);
    let one = |i: usize| {
        let scaled = x.f32(i).mul_add(0.5 * i as f32, 1.0);
        let share = (1.0 / (i as f64 + 1.0) * weight) as f32;
        u64::from((scaled + scale + share).to_bits())
    };
    Ok(Data { elem: Elem::F32, bits: (0..x.len()).map(one).collect() })
}

/// `called_ints(shift)`.
fn called_ints(call: &Call<'_>) -> Result<Data, String> {
    let shift = call.int(0)?;
    ints(call.elem, call.len()?, |i| {
        let i = i as i128;
        let (mut a, mut b) = (i, (i & 7) + shift);
        if i % 3 == 0 {
            (a, b) = (b, a);
        }
        let big: i128 = (i & 15) + (0..6).map(|k| (i + k) * (k + 1)).sum::<i128>() + a;
        big * 2 + b
    })
}

/// `recursion(n)`.
fn recursion(call: &Call<'_>) -> Result<Data, String> {
    fn fibonacci(n: i128) -> i128 {
        if n < 2 { n } else { fibonacci(n - 1) + fibonacci(n - 2) }
    }
    let n = call.data(0)?;
    ints(call.elem, n.len(), |i| fibonacci(n.int(i) % 12) * 2 + i128::from(n.int(i) % 9 % 2 == 0))
}

/// `pick_operation(a, b)`: sum, difference, product, larger, in turn.
fn pick_operation(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.data(0)?, call.data(1)?);
    ints(call.elem, a.len(), |i| match (i & 3, a.int(i), b.int(i)) {
        (0, a, b) => a + b,
        (1, a, b) => a - b,
        (2, a, b) => a * b,
        (_, a, b) => a.max(b),
    })
}

/// `nvcc_switch(op, x, y)`: the new contents after the eight numbers, and the log of those that pass case 4.
fn nvcc_switch(call: &Call<'_>) -> Result<Data, String> {
    let (op, x, y) = (call.data(0)?, call.data(1)?, call.data(2)?);
    let n = x.len();
    let y_at = |k: usize| y.int(k) as i32;
    let mut out: Vec<i128> = (0..y.len()).map(|k| y.int(k)).collect();
    for i in 0..n {
        let mut v = x.int(i) as i32;
        let case = op.int(i);
        v = match case {
            0 => v.wrapping_add(y_at(0)),
            1 => v.wrapping_mul(3).wrapping_sub(y_at(1)),
            2 => (v.count_ones() as i32).wrapping_add(y_at(2)),
            3 => v.leading_zeros() as i32 ^ 0x55,
            4 => v ^ 0x55,
            5 => {
                if v > y_at(3) {
                    v / 7
                } else {
                    v % 7
                }
            }
            6 => v.reverse_bits(),
            7 => if v == 0 { 0 } else { v.trailing_zeros() as i32 + 1 }.wrapping_mul(y_at(4)),
            8 => (0..i & 7).fold(v, |v, _| v.wrapping_mul(31).wrapping_add(y_at(5))),
            9 => v.wrapping_neg(),
            10 => {
                let (a, b) = (v.to_le_bytes(), y_at(6).to_le_bytes());
                i32::from_le_bytes([b[1], b[3], a[1], a[3]])
            }
            11 => ((i64::from(v) * i64::from(y_at(7))) >> 32) as i32,
            _ => -1,
        };
        out[8 + i] = v.into();
        if case == 3 || case == 4 {
            out[8 + n + i] = v.into();
        }
    }
    Ok(Data::ints(call.elem, out))
}

fn mix(a: i32, b: i32) -> i32 {
    a.wrapping_mul(31).wrapping_add(b ^ (a >> 3))
}

/// `llvm_switch(op, x, log, part)`: the results, or with `part` 1 the log.
fn llvm_switch(call: &Call<'_>) -> Result<Data, String> {
    let (op, x, log) = (call.data(0)?, call.data(1)?, call.data(2)?);
    let log_at = |k: usize| log.int(k) as i32;
    let mut written: Vec<i128> = (0..log.len()).map(|k| log.int(k)).collect();
    let mut results = Vec::new();
    for i in 0..x.len() {
        let mut v = x.int(i) as i32;
        let case = op.int(i);
        if case == 3 {
            v = mix(v, log_at(3));
        }
        if case == 3 || case == 4 {
            written[8 + i] = v.into();
        }
        results.push(i128::from(match case {
            0 => v.wrapping_add(log_at(0)),
            1 => v.wrapping_mul(3).wrapping_sub(log_at(1)),
            2 => (v.count_ones() as i32).wrapping_add(log_at(2)),
            3 | 4 => v ^ 0x55,
            5 => {
                if v > log_at(4) {
                    v / 7
                } else {
                    v % 7
                }
            }
            6 => (0..(i & 7) as i32).fold(v, mix),
            7 => v.wrapping_neg(),
            8 => log_at(5).wrapping_mul(log_at(6)),
            9 => v.rotate_left(3),
            10 => mix(log_at(7), v),
            _ => -1,
        }));
    }
    Ok(Data::ints(call.elem, if call.int(3)? == 1 { written } else { results }))
}

/// `collatz(x)`: steps down to 1, at most 500.
fn collatz(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    ints(call.elem, x.len(), |i| {
        let (mut v, mut count) = (x.int(i), 0);
        while v != 1 {
            v = if v & 1 == 1 { 3 * v + 1 } else { v >> 1 };
            count += 1;
            if count >= 500 {
                break;
            }
        }
        count
    })
}

fn nested_breaks(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    let n = x.len();
    ints(call.elem, n, |i| {
        let mut acc = 0i32;
        'outer: for a in 0..8 {
            for b in 0..8 {
                let v = x.int((i * 8 + a + b) % n) as i32;
                if v % 5 == 0 {
                    break 'outer;
                }
                if v % 3 == 0 {
                    break;
                }
                if v % 2 != 0 {
                    acc = acc.wrapping_add(v.wrapping_mul(b as i32 + 1));
                }
            }
            acc ^= a as i32;
        }
        acc.into()
    })
}

/// `generic_sums(x)`: four numbers of global, shared, local or constant memory, and which of the first three it was.
fn generic_sums(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    ints(call.elem, call.len()?, |t| match t & 3 {
        0 => (0..4).map(|i| x.int(i)).sum::<i128>() * 8 + 1,
        1 => 60 * 8 + 2,
        2 => (4 * t as i128 + 6) * 8 + 4,
        _ => 1000 * 8,
    })
}

/// `scratch_shorts(a, b)`.
fn scratch_shorts(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.args_data(0)?, call.args_data(1)?);
    ints(call.elem, a.len(), |i| {
        let (a, b) = (a.int(i), b.int(i));
        let mut scratch = [0; 4];
        for k in 0..4 {
            scratch[((k + a) & 3) as usize] = i128::from((a * (k + 1) + b) as i16);
        }
        scratch[0] - scratch[(b & 3) as usize]
    })
}

/// What the module's variables hold at first.
fn read_globals(call: &Call<'_>) -> Result<Data, String> {
    let entries = [(1.0, 0.5, 1.0), (-2.0, 1.5, 5.0), (300.0, -2.5, 0.0)];
    let cursor = [4, 1, 5, 9];
    let message = *b"warp\0";
    let one = |i: usize| {
        let (code, weight, link) = entries[i % 3];
        let rest = f64::from(cursor[i % 4]) + 0.75 + f64::from(1 << (i % 5)) + f64::from(message[i % 5]);
        code * weight + link + rest + (0x0123_4567_89ab_cdefu64 >> (8 * (i % 8)) & 0xff) as f64
    };
    Ok(Data::floats(call.elem, (0..call.len()?).map(one)))
}

/// `llvm_calls(x, b, characters)`.
fn llvm_calls(call: &Call<'_>) -> Result<Data, String> {
    fn gcd(a: i128, b: i128) -> i128 {
        if b == 0 { a } else { 1 + gcd(b, a % b) }
    }
    let (x, b, characters) = (call.args_data(0)?, call.int(1)?, call.args_data(2)?);
    let (primes, letters) = ([2, 3, 5, 7, 11, 13, 17, 19], *b"warp");
    ints(call.elem, x.len(), |i| {
        let v = x.int(i);
        let weight = v + ((v << 33) + b) * 2 + ((v & 3) + 1) + i128::from(v as i8);
        let unary = if i & 1 == 0 { 2 * v } else { v * v };
        weight + gcd(v + 1, 36) + unary + primes[i & 7] + i128::from(letters[i & 3]) + characters.int(i % 5)
    })
}

/// `polynomial(x)`: Horner's scheme with fused multiply-adds, then the absolute value.
fn polynomial(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    let one = |i: usize| (0..8).rev().fold(0.0, |acc: f64, k| acc.mul_add(x.f64(i), f64::from(k - 3))).abs();
    Ok(Data::floats(call.elem, (0..x.len()).map(one)))
}

/// `assembly(a, b)`: low and high word of the sum, distance plus lane, majority of bits, the sum's remainder.
fn assembly(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.data(0)?, call.data(1)?);
    let rows = (0..5).flat_map(|row| {
        let (a, b) = (&a, &b);
        (0..a.len()).map(move |i| {
            let (x, y) = (a.int(i), b.int(i));
            let distance = (x - y).abs();
            match row {
                0 => x + y,
                1 => (x + y) >> 32,
                2 => distance + (i % 32) as i128,
                3 => x & y | x & distance | y & distance,
                _ => (x + y) % 1_000_003,
            }
        })
    });
    Ok(Data::ints(call.elem, rows))
}

/// `llvm_integers(a, b)`.
fn llvm_integers(call: &Call<'_>) -> Result<Data, String> {
    let (a, b) = (call.data(0)?, call.data(1)?);
    let rows = (0..9).flat_map(|row| {
        let (a, b) = (&a, &b);
        (0..a.len()).map(move |i| {
            let (x, y) = (a.raw(i), b.raw(i));
            let wide = u128::from(x) * u128::from(y);
            let (sum, carry) = x.overflowing_add(y);
            let (high, low) = ((x >> 32) as i32, x as i32);
            let value = match row {
                0 => (wide >> 64) as u64,
                1 => (wide >> 17) as u64,
                2 => u64::from(x.wrapping_add(y) as u8) | u64::from((x as u16).wrapping_mul(y as u16)) << 16,
                3 => x.swap_bytes() ^ y.rotate_left(13),
                4 => u64::from(
                    (x | 1).leading_zeros() * 100 + (y | 16).trailing_zeros() + (x ^ y).count_ones(),
                ),
                5 => u64::from(
                    (high.wrapping_sub(low).wrapping_mul(if high > low { 1 } else { -1 }) as u32)
                        .wrapping_mul(3),
                ),
                // So the program says it.
                6 => x.checked_rem(y).unwrap_or(0),
                7 => sum.wrapping_add(carry.into()),
                _ => carry.into(),
            };
            i128::from(value)
        })
    });
    Ok(Data::ints(call.elem, rows))
}

/// `called(x)`: sum, difference and product with the index, and a recursion, in turn.
fn called(call: &Call<'_>) -> Result<Data, String> {
    fn depth(n: i128) -> i128 {
        if n == 0 { 1 } else { depth(n - 1) * 3 + n }
    }
    let x = call.data(0)?;
    ints(call.elem, x.len(), |i| match (i & 3, x.int(i), i as i128) {
        (0, v, i) => v + i,
        (1, v, i) => v - i,
        (2, v, i) => v * i,
        (_, v, _) => depth(v & 15),
    })
}
