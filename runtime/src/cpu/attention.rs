//! Incremental attention over an f32 cache: one task for each row and key-value head.

use rayon::prelude::*;
use tensor_formats::{ElementType, FormatError, Matrix, Simd, matmul_f32};

use super::ops::{add_scaled, soft_max};

/// Products of a step below which the tasks stay on one thread.
const PARALLEL_FROM: usize = 1 << 17;

/// The sizes and caches of one attention.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// The instruction set for the scores.
    pub simd: Simd,
    /// `[n_sequences, n_kv_heads, max_seq, head_dim]`.
    pub keys: &'a [f32],
    /// As `keys`.
    pub values: &'a [f32],
    /// Each row's position, below `max_seq`.
    pub positions: &'a [u32],
    /// Each row's sequence, below `n_sequences`.
    pub sequences: &'a [u32],
    /// Factor on the scores.
    pub scale: f32,
    /// Query heads that share a key-value head.
    pub group: usize,
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Positions of a cache.
    pub max_seq: usize,
    /// Features of a head.
    pub head_dim: usize,
}

impl Attention<'_> {
    /// Attends: `query` and `output` are `[rows, n_kv_heads * group * head_dim]`.
    ///
    /// # Errors
    /// [`FormatError`] if the slices are not of these sizes.
    pub fn run(&self, query: &[f32], output: &mut [f32]) -> Result<(), FormatError> {
        let width = self.group * self.head_dim;
        let positions: usize = self.positions.iter().map(|&position| position as usize + 1).sum();
        let head = |(task, (output, query)): (usize, (&mut [f32], &[f32]))| self.head(task, query, output);
        if positions * self.n_kv_heads * width < PARALLEL_FROM {
            output.chunks_mut(width).zip(query.chunks(width)).enumerate().try_for_each(head)
        } else {
            output.par_chunks_mut(width).zip(query.par_chunks(width)).enumerate().try_for_each(head)
        }
    }

    /// One key-value head of one row: `query` and `output` are `[group, head_dim]`.
    fn head(&self, task: usize, query: &[f32], output: &mut [f32]) -> Result<(), FormatError> {
        let (row, head) = (task / self.n_kv_heads, task % self.n_kv_heads);
        let length = self.positions[row] as usize + 1;
        let cache = (self.sequences[row] as usize * self.n_kv_heads + head) * self.max_seq * self.head_dim;
        let keys = &self.keys[cache..][..length * self.head_dim];
        let values = &self.values[cache..][..length * self.head_dim];

        // `[length, group]`: the cache is a matrix whose rows are positions.
        let mut scores = vec![0.0; length * self.group];
        let matrix = Matrix::new(ElementType::F32, self.head_dim, bytemuck::cast_slice(keys))?;
        matmul_f32(self.simd, matrix, query, &mut scores)?;
        let mut weights = vec![0.0; length];
        for (query_head, output) in output.chunks_mut(self.head_dim).enumerate() {
            for (weight, scores) in weights.iter_mut().zip(scores.chunks(self.group)) {
                *weight = scores[query_head];
            }
            soft_max(&mut weights, self.scale);
            output.fill(0.0);
            for (&weight, value) in weights.iter().zip(values.chunks(self.head_dim)) {
                add_scaled(output, value, weight);
            }
        }
        Ok(())
    }
}
