//! The catalogue rows and conformance cases of attention.

use super::{Attention, AttentionInputs};
use crate::cases::{Case, F32_BOUND, Invariance};
use crate::random::Random;
use crate::support::{boxed, known};
use crate::{CacheShape, Kernel};
use tensor_formats::ElementType;

fn scale(head_dim: usize) -> f32 {
    (head_dim as f32).sqrt().recip()
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let kernel = |(rows, group, n_kv_heads, head_dim, max_seq): (usize, usize, usize, usize, usize)| {
        let cache =
            CacheShape { n_sequences: rows, n_kv_heads, max_seq, head_dim, element: ElementType::F32 };
        boxed(Attention::new(cache, rows, group * n_kv_heads, scale(head_dim)))
    };
    let head_dims = [64, 80, 96, 128, 256].map(|head_dim| (1, 4, 2, head_dim, 64));
    let groups = [1, 2, 7, 8].map(|group| (2, group, 2, 128, 64));
    // Llama 3.2 1B, Qwen2.5 1.5B, Llama 3.1 8B.
    let real = [(1, 4, 8, 64, 4096), (1, 6, 2, 128, 4096), (1, 4, 8, 128, 4096), (8, 4, 8, 128, 4096)];
    head_dims.into_iter().chain(groups).chain(real).map(kernel).collect()
}

/// A case in which row `r` attends to `lengths[r]` positions of a sequence of its own, all of whose other positions are
/// NaN: reading one too many spoils the row.
#[derive(Debug, Clone, Copy)]
struct Sequences<'a> {
    group: usize,
    n_kv_heads: usize,
    head_dim: usize,
    max_seq: usize,
    lengths: &'a [usize],
    /// Factor on the queries: how sharply peaked the softmax is.
    sharpness: f32,
}

/// The data of a [`Sequences`].
#[derive(Debug, Clone)]
struct Data {
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    positions: Vec<u32>,
    sequences: Vec<u32>,
}

impl Sequences<'_> {
    fn data(&self) -> Data {
        let rows = self.lengths.len();
        let mut random = Random::new((self.head_dim * 1000 + self.group * 10 + rows) as u64);
        let mut q = random.f32s(rows * self.group * self.n_kv_heads * self.head_dim);
        q.iter_mut().for_each(|q| *q *= self.sharpness);
        let mut cache = || {
            let mut cache = vec![f32::NAN; rows * self.n_kv_heads * self.max_seq * self.head_dim];
            for (index, head) in cache.chunks_mut(self.max_seq * self.head_dim).enumerate() {
                // Row r uses sequence rows - 1 - r.
                let length = self.lengths[rows - 1 - index / self.n_kv_heads];
                head[..length * self.head_dim].fill_with(|| random.normal());
            }
            cache
        };
        let (k, v) = (cache(), cache());
        let positions = self.lengths.iter().map(|&length| length as u32 - 1).collect();
        Data { q, k, v, positions, sequences: (0..rows as u32).rev().collect() }
    }

    fn case(&self, data: &Data, name: &str) -> Case {
        let rows = data.positions.len();
        let (n_kv_heads, max_seq, head_dim) = (self.n_kv_heads, self.max_seq, self.head_dim);
        let n_sequences = data.k.len() / (n_kv_heads * max_seq * head_dim);
        let cache = CacheShape { n_sequences, n_kv_heads, max_seq, head_dim, element: ElementType::F32 };
        let kernel = known(Attention::new(cache, rows, self.group * n_kv_heads, scale(head_dim)));
        let inputs = AttentionInputs {
            q: &data.q,
            k_cache: &data.k,
            v_cache: &data.v,
            positions: &data.positions,
            sequences: &data.sequences,
        };
        let y = kernel.reference(inputs);
        Case::new(kernel, name)
            .with_f32("q", &data.q)
            .with_f32("k_cache", &data.k)
            .with_f32("v_cache", &data.v)
            .with_u32("positions", &data.positions)
            .with_u32("sequences", &data.sequences)
            .expect_f32("y", y, head_dim, F32_BOUND)
    }
}

const LENGTHS: [usize; 5] = [1, 31, 32, 33, 1025];

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    let plain =
        Sequences { group: 4, n_kv_heads: 2, head_dim: 64, max_seq: 70, lengths: &[], sharpness: 1.0 };
    let mut cases = Vec::new();
    let mut add = |sequences: Sequences, name: &str| cases.push(sequences.case(&sequences.data(), name));
    for head_dim in [64, 128] {
        for length in LENGTHS {
            let one = Sequences { head_dim, max_seq: 1030, lengths: &[length], ..plain };
            add(one, &format!("length_{length}"));
        }
        for rows in [2, 5, 8, 9, 16, 32] {
            let lengths: Vec<usize> = (0..rows).map(|r| 1 + (r * 29 + 33) % 70).collect();
            add(Sequences { head_dim, lengths: &lengths, ..plain }, "batch");
        }
        for group in [1, 2, 7, 8] {
            let long =
                Sequences { head_dim, group, n_kv_heads: 1, max_seq: 1025, lengths: &LENGTHS, ..plain };
            add(long, "lengths");
        }
    }
    for head_dim in [4, 32, 36, 64, 80, 96, 128, 192, 256] {
        for group in [1, 2, 3, 4, 5, 6, 7, 8, 12, 16] {
            let shape = Sequences { head_dim, group, lengths: &[70, 1, 31, 32, 33], ..plain };
            add(shape, "shape");
        }
    }
    add(Sequences { head_dim: 128, max_seq: 700, lengths: &[700, 513], sharpness: 12.0, ..plain }, "sharp");
    add(Sequences { max_seq: 4096, n_kv_heads: 1, lengths: &[4096], ..plain }, "full_cache");

    let outside = Sequences { max_seq: 40, lengths: &[40, 40, 40, 40, 40, 40], ..plain };
    let mut data = outside.data();
    data.positions[1..5].copy_from_slice(&[40, u32::MAX, 5, 6]);
    data.sequences[3..5].copy_from_slice(&[6, u32::MAX]);
    cases.push(outside.case(&data, "outside"));

    // Rows of one sequence at consecutive positions, as in a prompt.
    let prompt = Sequences { max_seq: 64, lengths: &[64; 9], ..plain };
    let mut data = prompt.data();
    data.positions = (50..59).collect();
    data.sequences = vec![4; 9];
    cases.push(prompt.case(&data, "prompt"));

    let in_place = Sequences { lengths: &[70, 3], ..plain };
    cases.push(in_place.case(&in_place.data(), "").with_alias("y", "q"));
    cases
}

/// A row in a batch and that row alone.
pub(crate) fn invariances() -> Vec<Invariance> {
    let pair = |(group, head_dim): (usize, usize)| {
        let lengths = [70, 1, 33, 300, 64, 7, 299, 128];
        let row = 6;
        let shape =
            Sequences { group, n_kv_heads: 2, head_dim, max_seq: 300, lengths: &lengths, sharpness: 2.0 };
        let batch = shape.data();
        let width = group * 2 * head_dim;
        let alone = Data {
            q: batch.q[row * width..(row + 1) * width].to_vec(),
            positions: vec![batch.positions[row]],
            sequences: vec![batch.sequences[row]],
            ..batch.clone()
        };
        Invariance {
            name: format!("attention_f32_g{group}_d{head_dim}/row_{row}_of_8"),
            left: shape.case(&batch, ""),
            right: shape.case(&alone, ""),
            param: "y",
            left_bytes: row * width * 4..(row + 1) * width * 4,
            right_bytes: 0..width * 4,
        }
    };
    [(4, 64), (7, 64), (4, 128), (6, 128)].map(pair).into()
}
