//! Matrix products with f32 activations: weights are decoded 256 at a time and used by up to eight activation rows. (The
//! fast paths multiply F32, F16 and BF16 weights as they are, with the same sums.)
//!
//! A dot product has 32 partial sums; partial sum `l` takes the columns `c` with `c % 32 == l` in ascending order, and
//! the 32 are added as a tree at the end. The order depends neither on the number of activations nor on how rows are
//! shared between threads.

use crate::lanes;
use crate::{ElementType, Matrix, bf16, f16, float32, q4_0, q4_k, q5_k, q6_k, q8_0};

/// Weights decoded at a time: a whole number of blocks of every format.
pub(crate) const CHUNK: usize = 256;
/// Activation rows that share a decoded chunk.
pub(crate) const GROUP: usize = 8;
/// Partial sums of a dot product.
pub(crate) const PARTIALS: usize = 32;

/// Decoded weights, aligned for vector loads.
#[repr(C, align(64))]
pub(crate) struct Chunk(pub(crate) [f32; CHUNK]);

/// The partial sums of one dot product.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Partials(pub(crate) [f32; PARTIALS]);

/// A row decoder: bytes of whole blocks to values.
pub(crate) type Decode = fn(&[u8], &mut [f32]);

/// `out[row * n + act]` for every row and each of the `n` activation rows in `x`. `accumulate` adds the products of
/// two equally long slices, whose length is a multiple of [`PARTIALS`], to the partial sums.
#[inline(always)]
pub(crate) fn matmul(
    weights: Matrix<'_>,
    x: &[f32],
    out: &mut [f32],
    decode: impl Fn(&[u8], &mut [f32]),
    accumulate: impl Fn(&[f32], &[f32], &mut Partials),
) {
    let (cols, n) = (weights.cols(), x.len() / weights.cols());
    let chunk_bytes = CHUNK / weights.ty().block_elements() * weights.ty().block_bytes();
    let mut chunk = Chunk([0.0; CHUNK]);
    for first in (0..n).step_by(GROUP) {
        let count = GROUP.min(n - first);
        let x = &x[first * cols..][..count * cols];
        // What is left of each activation row after whole vectors, padded with zeros.
        let ragged = cols % PARTIALS;
        let mut tails = [Partials([0.0; PARTIALS]); GROUP];
        for (tail, x) in tails.iter_mut().zip(x.chunks_exact(cols)) {
            tail.0[..ragged].copy_from_slice(&x[cols - ragged..]);
        }
        let mut sums = [Partials([0.0; PARTIALS]); GROUP];
        let sums = &mut sums[..count];
        for (row, out) in weights.iter_rows().zip(out.chunks_exact_mut(n)) {
            sums.fill(Partials([0.0; PARTIALS]));
            for (c, bytes) in row.chunks(chunk_bytes).enumerate() {
                let at = c * CHUNK;
                let len = CHUNK.min(cols - at);
                let whole = len - len % PARTIALS;
                if len < CHUNK {
                    chunk.0[len..].fill(0.0);
                }
                decode(bytes, &mut chunk.0[..len]);
                for ((sums, tail), x) in sums.iter_mut().zip(&tails).zip(x.chunks_exact(cols)) {
                    accumulate(&chunk.0[..whole], &x[at..at + whole], sums);
                    if whole < len {
                        accumulate(&chunk.0[whole..whole + PARTIALS], &tail.0, sums);
                    }
                }
            }
            for (out, sums) in out[first..first + count].iter_mut().zip(&*sums) {
                *out = sum(sums);
            }
        }
    }
}

/// The sum of the partial sums, as a tree.
#[inline(always)]
fn sum(Partials(p): &Partials) -> f32 {
    lanes::sum(std::array::from_fn(|l| (p[l] + p[l + 8]) + (p[l + 16] + p[l + 24])))
}

/// The decoder of a weight type's blocks.
pub(crate) fn decoder(ty: ElementType) -> Decode {
    match ty {
        ElementType::F32 => float32::dequantize,
        ElementType::F16 => f16::dequantize,
        ElementType::BF16 => bf16::dequantize,
        ElementType::Q4_0 => q4_0::dequantize,
        ElementType::Q8_0 => q8_0::dequantize,
        ElementType::Q4_K => q4_k::dequantize,
        ElementType::Q5_K => q5_k::dequantize,
        ElementType::Q6_K => q6_k::dequantize,
        // No `Matrix` has these types; a NaN would show if one had.
        ElementType::Q8Act | ElementType::F8E4M3 | ElementType::U32 => |_, values| values.fill(f32::NAN),
    }
}

/// [`matmul`] for every processor. The compiler vectorises the loops for the baseline instruction set.
pub(crate) fn matmul_portable(weights: Matrix<'_>, x: &[f32], out: &mut [f32]) {
    let accumulate = |w: &[f32], x: &[f32], sums: &mut Partials| {
        for (w, x) in w.as_chunks::<PARTIALS>().0.iter().zip(x.as_chunks::<PARTIALS>().0) {
            for ((sum, w), x) in sums.0.iter_mut().zip(w).zip(x) {
                *sum += w * x;
            }
        }
    };
    matmul(weights, x, out, decoder(weights.ty()), accumulate);
}
