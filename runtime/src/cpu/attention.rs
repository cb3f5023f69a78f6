//! Incremental attention over an f32 cache: one task for each key-value head and a few rows.

use rayon::prelude::*;
use tensor_formats::{ElementType, FormatError, Matrix, Simd, add_weighted_rows, matmul_f32, soft_max};

/// Products of a step below which the tasks stay on one thread.
const PARALLEL_FROM: usize = 1 << 17;
/// Queries of a task, which share the keys and values that are loaded.
const QUERIES_PER_TASK: usize = 24;

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

/// Rows of one sequence and the head that a task attends with.
#[derive(Debug, Clone, Copy)]
struct Task {
    /// The first row.
    row: usize,
    /// How many rows follow one another.
    rows: usize,
    /// The key-value head.
    head: usize,
}

impl Attention<'_> {
    /// Attends: `query` and `output` are `[rows, n_kv_heads * group * head_dim]`.
    ///
    /// # Errors
    /// [`FormatError`] if the slices are not of these sizes.
    pub fn run(&self, query: &[f32], output: &mut [f32]) -> Result<(), FormatError> {
        let width = self.group * self.head_dim;
        let positions: usize = self.positions.iter().map(|&position| position as usize + 1).sum();
        let tasks: Vec<Task> = self.tasks().collect();
        let attend = |task: &Task| self.attend(*task, query);
        let results: Vec<Result<Vec<f32>, FormatError>> =
            if positions * self.n_kv_heads * width < PARALLEL_FROM {
                tasks.iter().map(attend).collect()
            } else {
                tasks.par_iter().map(attend).collect()
            };
        for (task, result) in tasks.iter().zip(results) {
            for (row, result) in result?.chunks(width).enumerate() {
                let at = (task.row + row) * self.n_kv_heads + task.head;
                output[at * width..][..width].copy_from_slice(result);
            }
        }
        Ok(())
    }

    /// Every row with every key-value head: rows of one sequence together, as far as a task has room for their queries.
    fn tasks(&self) -> impl Iterator<Item = Task> {
        let most = (QUERIES_PER_TASK / self.group).max(1);
        let runs = self.sequences.chunk_by(|a, b| a == b).flat_map(move |run| run.chunks(most));
        let rows = runs.scan(0, |next, run| {
            let row = *next;
            *next += run.len();
            Some((row, run.len()))
        });
        rows.flat_map(|(row, rows)| (0..self.n_kv_heads).map(move |head| Task { row, rows, head }))
    }

    /// The output of one task: `[rows, group, head_dim]`.
    fn attend(&self, Task { row, rows, head }: Task, query: &[f32]) -> Result<Vec<f32>, FormatError> {
        let (width, dim) = (self.group * self.head_dim, self.head_dim);
        let cache = (self.sequences[row] as usize * self.n_kv_heads + head) * self.max_seq * dim;
        let lengths = self.positions[row..row + rows].iter().map(|&position| position as usize + 1);
        let longest = lengths.clone().max().unwrap_or(0);
        let keys = &self.keys[cache..][..longest * dim];
        let values = &self.values[cache..][..longest * dim];

        let mut queries = Vec::with_capacity(rows * width);
        for row in row..row + rows {
            queries.extend_from_slice(&query[(row * self.n_kv_heads + head) * width..][..width]);
        }
        // `[rows * group, longest]`: what is behind a row's own position is not used.
        let mut scores = vec![0.0; rows * self.group * longest];
        let matrix = Matrix::new(ElementType::F32, dim, bytemuck::cast_slice(&queries))?;
        matmul_f32(self.simd, matrix, keys, &mut scores)?;
        let lengths = lengths.flat_map(|length| std::iter::repeat_n(length, self.group));
        for (scores, length) in scores.chunks_mut(longest).zip(lengths.clone()) {
            soft_max(self.simd, &mut scores[..length], self.scale);
        }
        let weights: Vec<&[f32]> =
            scores.chunks(longest).zip(lengths).map(|(scores, length)| &scores[..length]).collect();
        let mut output = queries;
        output.fill(0.0);
        add_weighted_rows(self.simd, values, dim, &weights, &mut output)?;
        Ok(output)
    }
}
