//! What blocks and grids work on together: sums, scans, histograms, sorts, stencils.

use super::{Call, Reference};
use crate::data::{Data, Elem};

pub(super) fn find(name: &str) -> Option<Reference> {
    Some(match name {
        "chunk_sums" => chunk_sums,
        "strided_sums" => strided_sums,
        "inclusive_scan" | "exclusive_scan" => scan,
        "histogram" => histogram,
        "transpose" => transpose,
        "sort" => sort,
        "chunk_sort" => chunk_sort,
        "chunk_reverse" => chunk_reverse,
        "stencil" => stencil,
        "laplace" => laplace,
        "softmax" => softmax,
        "diffuse" => diffuse,
        "keep_odd" => keep_odd,
        "ring" => ring,
        "cluster_next" => cluster_next,
        "cluster_sums" => cluster_sums,
        _ => return None,
    })
}

/// Of a type's own additions, one after the other.
fn sum(elem: Elem, bits: impl Iterator<Item = u64>) -> u64 {
    if elem.is_float() {
        return elem.from_f64(bits.fold(0.0, |sum, b| sum + elem.f64(b)));
    }
    elem.from_int(bits.fold(0, |sum, b| sum + elem.int(b)))
}

/// `chunk_sums(x, n)`: of every `n` elements.
fn chunk_sums(call: &Call<'_>) -> Result<Data, String> {
    let (x, n) = (call.data(0)?, call.size(1)?.max(1));
    Ok(Data { elem: x.elem, bits: x.bits.chunks(n).map(|c| sum(x.elem, c.iter().copied())).collect() })
}

/// `strided_sums(x, blocks, threads)`: what the blocks add up in a loop with the stride of the grid.
fn strided_sums(call: &Call<'_>) -> Result<Data, String> {
    let (x, blocks, threads) = (call.data(0)?, call.size(1)?.max(1), call.size(2)?.max(1));
    let of_block = |b: usize| {
        sum(x.elem, x.bits.iter().enumerate().filter(|(i, _)| i / threads % blocks == b).map(|(_, &v)| v))
    };
    Ok(Data { elem: x.elem, bits: (0..blocks).map(of_block).collect() })
}

fn scan(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    let inclusive = call.name == "inclusive_scan";
    let mut sum = 0;
    let one = |i: usize| {
        let before = sum;
        sum += x.int(i);
        if inclusive { sum } else { before }
    };
    Ok(Data::ints(x.elem, (0..x.len()).map(one)))
}

/// `histogram(x)`: how often each value from 0 occurs.
fn histogram(call: &Call<'_>) -> Result<Data, String> {
    let x = call.args_data(0)?;
    let mut bins = vec![0; call.len()?];
    for i in 0..x.len() {
        *bins.get_mut(x.raw(i) as usize).ok_or("a value beyond the last bin")? += 1;
    }
    Ok(Data::ints(call.elem, bins))
}

/// `transpose(x, width, height)`: of a row-major matrix.
fn transpose(call: &Call<'_>) -> Result<Data, String> {
    let (x, width, height) = (call.data(0)?, call.size(1)?, call.size(2)?);
    if x.len() != width * height {
        return Err(format!("{} elements are not {width} x {height}", x.len()));
    }
    Ok(Data { elem: x.elem, bits: (0..x.len()).map(|i| x.bits[i % height * width + i / height]).collect() })
}

fn ordered(elem: Elem, mut bits: Vec<u64>) -> Vec<u64> {
    if elem.is_float() {
        bits.sort_by(|&a, &b| elem.f64(a).total_cmp(&elem.f64(b)));
    } else {
        bits.sort_by_key(|&b| elem.int(b));
    }
    bits
}

/// `sort(x)`: ascending.
fn sort(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    Ok(Data { elem: x.elem, bits: ordered(x.elem, x.bits) })
}

/// `chunk_sort(x, n)`: every `n` elements ascending.
fn chunk_sort(call: &Call<'_>) -> Result<Data, String> {
    let (x, n) = (call.data(0)?, call.size(1)?.max(1));
    Ok(Data { elem: x.elem, bits: x.bits.chunks(n).flat_map(|c| ordered(x.elem, c.to_vec())).collect() })
}

/// `chunk_reverse(x, n, m)`: groups of `m` elements within chunks of `n` groups, backwards.
fn chunk_reverse(call: &Call<'_>) -> Result<Data, String> {
    let (x, n, m) = (call.data(0)?, call.size(1)?.max(1), call.size(2)?.max(1));
    let bits = x.bits.chunks(n * m).flat_map(|chunk| chunk.chunks(m).rev().flatten().copied()).collect();
    Ok(Data { elem: x.elem, bits })
}

/// `stencil(x, coefficients, bias)`: a fused multiply-add for each tap from the left, zero beyond the ends.
fn stencil(call: &Call<'_>) -> Result<Data, String> {
    let (x, taps, bias) = (call.typed(0, Elem::F32)?, call.typed(1, Elem::F32)?, call.float(2)?);
    let radius = taps.len() / 2;
    let at = |i: usize| if (radius..x.len() + radius).contains(&i) { x.f32(i - radius) } else { 0.0 };
    let one = |i: usize| {
        let sum = (0..taps.len()).fold(bias as f32, |sum, t| taps.f32(t).mul_add(at(i + t), sum));
        u64::from(sum.to_bits())
    };
    Ok(Data { elem: Elem::F32, bits: (0..x.len()).map(one).collect() })
}

/// `laplace(x, width, height)`: the mean of the four neighbours; the border stays.
fn laplace(call: &Call<'_>) -> Result<Data, String> {
    let (x, w, h) = (call.typed(0, Elem::F64)?, call.size(1)?, call.size(2)?);
    let one = |i: usize| {
        let (col, row) = (i % w, i / w);
        if col == 0 || row == 0 || col == w - 1 || row == h - 1 {
            return x.f64(i);
        }
        0.25 * (x.f64(i - 1) + x.f64(i + 1) + x.f64(i - w) + x.f64(i + w))
    };
    Ok(Data::floats(Elem::F64, (0..x.len()).map(one)))
}

/// `softmax(x, columns)`: of each row.
fn softmax(call: &Call<'_>) -> Result<Data, String> {
    let (x, cols) = (call.data(0)?, call.size(1)?.max(1));
    let rows = x.bits.chunks(cols).flat_map(|row| {
        let row: Vec<f64> = row.iter().map(|&b| x.elem.f64(b)).collect();
        let max = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let total: f64 = row.iter().map(|v| (v - max).exp()).sum();
        row.into_iter().map(move |v| (v - max).exp() / total)
    });
    Ok(Data::floats(x.elem, rows))
}

/// `diffuse(x, rounds)`: each round every element becomes the sum of its two neighbours, around the ends.
fn diffuse(call: &Call<'_>) -> Result<Data, String> {
    let (mut x, rounds) = (call.data(0)?, call.size(1)?);
    let n = x.len();
    for _ in 0..rounds {
        x = Data::ints(x.elem, (0..n).map(|i| x.int((i + n - 1) % n) + x.int((i + 1) % n)));
    }
    Ok(x)
}

/// `keep_odd(x)`: the odd elements, then zeros.
fn keep_odd(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    let mut bits: Vec<u64> = x.bits.iter().copied().filter(|b| b & 1 == 1).collect();
    bits.resize(x.len(), 0);
    Ok(Data { elem: x.elem, bits })
}

/// `ring(x)`: clusters of four blocks of 32; ten times the next block's element, plus the block's rank.
fn ring(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    let one = |i: usize| {
        let (cluster, rank, thread) = (i / 128, i / 32 % 4, i % 32);
        x.int(cluster * 128 + (rank + 1) % 4 * 32 + thread) * 10 + rank as i128
    };
    Ok(Data::ints(x.elem, (0..x.len()).map(one)))
}

/// `cluster_next(x)`: clusters of four blocks of 32; the next block's element, plus a thousand times its rank.
fn cluster_next(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    let one = |i: usize| {
        let (cluster, next, thread) = (i / 128, (i / 32 + 1) % 4, i % 32);
        x.int(cluster * 128 + next * 32 + thread) + next as i128 * 1000
    };
    Ok(Data::ints(x.elem, (0..x.len()).map(one)))
}

/// `cluster_sums(x)`: in the first of four blocks of 32 the sums over the cluster, thread by thread; zeros elsewhere.
fn cluster_sums(call: &Call<'_>) -> Result<Data, String> {
    let x = call.data(0)?;
    let one = |i: usize| if i % 128 < 32 { (0..4).map(|b| x.int(i + b * 32)).sum() } else { 0 };
    Ok(Data::ints(x.elem, (0..x.len()).map(one)))
}
