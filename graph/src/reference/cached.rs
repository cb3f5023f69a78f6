//! Operations that depend on a row's position and sequence: rotary embedding, scatter into a cache, attention.

use super::ReferenceError;
use crate::RopeStyle;

/// The sizes of a key or value cache `[n_sequences, n_kv_heads, max_seq, head_dim]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheDims {
    /// Caches.
    pub n_sequences: usize,
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Positions of a cache.
    pub max_seq: usize,
    /// Features of a head.
    pub head_dim: usize,
}

impl CacheDims {
    /// The sizes of a shape of four dimensions.
    pub fn of(shape: crate::Shape) -> Option<Self> {
        let [n_sequences, n_kv_heads, max_seq, head_dim] = shape.dims().try_into().ok()?;
        Some(Self { n_sequences, n_kv_heads, max_seq, head_dim })
    }

    /// Where the features of one head at one position start.
    pub const fn index(&self, sequence: usize, head: usize, position: usize) -> usize {
        ((sequence * self.n_kv_heads + head) * self.max_seq + position) * self.head_dim
    }
}

/// Which position of which cache each row is at.
#[derive(Debug, Clone, Copy)]
pub struct RowState<'a> {
    /// Positions, one for each row.
    pub positions: &'a [u32],
    /// Sequences, one for each row.
    pub sequences: &'a [u32],
}

impl RowState<'_> {
    /// Position and sequence of row `row`, both in range.
    fn checked(&self, row: usize, dims: &CacheDims) -> Result<(usize, usize), ReferenceError> {
        let position = below("position", row, self.positions[row], dims.max_seq)?;
        Ok((position, below("sequence", row, self.sequences[row], dims.n_sequences)?))
    }
}

/// `value` as an index, if it is below `limit`.
pub(super) fn below(
    what: &'static str,
    row: usize,
    value: u32,
    limit: usize,
) -> Result<usize, ReferenceError> {
    if (value as usize) < limit {
        Ok(value as usize)
    } else {
        Err(ReferenceError::OutOfRange { what, row, value, limit })
    }
}

/// How [`rope`] rotates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RopeDims {
    /// Which features form a pair.
    pub style: RopeStyle,
    /// Features of each head that are rotated.
    pub n_rot: usize,
    /// Features of a head.
    pub head_dim: usize,
}

/// Rotates the pairs of every head of every row of `x` by the angles that `table` (`[max_seq, n_rot / 2]` pairs of
/// cosine and sine) has for the row's position.
///
/// # Errors
/// [`ReferenceError::OutOfRange`] for a position that the table lacks.
pub fn rope(x: &[f64], positions: &[u32], table: &[f64], dims: RopeDims) -> Result<Vec<f64>, ReferenceError> {
    if positions.is_empty() {
        return Ok(Vec::new());
    }
    let mut out = x.to_vec();
    let cols = x.len() / positions.len();
    for (row, &position) in positions.iter().enumerate() {
        let position = below("position", row, position, table.len() / dims.n_rot)?;
        let angles = &table[position * dims.n_rot..][..dims.n_rot];
        for head in (0..cols).step_by(dims.head_dim).map(|start| row * cols + start) {
            for i in 0..dims.n_rot / 2 {
                let (first, second) = dims.style.pair(i, dims.n_rot);
                let (cos, sin) = (angles[2 * i], angles[2 * i + 1]);
                let (a, b) = (x[head + first], x[head + second]);
                out[head + first] = a * cos - b * sin;
                out[head + second] = a * sin + b * cos;
            }
        }
    }
    Ok(out)
}

/// Writes each row of `x`, of `n_kv_heads * head_dim` features, to its position of its sequence's cache. Of two rows at
/// one place the later stays; [`TensorOp::KvScatter`](crate::TensorOp::KvScatter) does not promise that.
///
/// # Errors
/// [`ReferenceError::OutOfRange`] for a position or sequence that the cache lacks; nothing is written then.
pub fn kv_scatter<T: Copy>(
    cache: &mut [T],
    x: &[T],
    rows: RowState<'_>,
    dims: CacheDims,
) -> Result<(), ReferenceError> {
    for row in 0..rows.positions.len() {
        rows.checked(row, &dims)?;
    }
    for (row, features) in x.chunks_exact(dims.n_kv_heads * dims.head_dim).enumerate() {
        let (position, sequence) = rows.checked(row, &dims)?;
        for (head, features) in features.chunks_exact(dims.head_dim).enumerate() {
            cache[dims.index(sequence, head, position)..][..dims.head_dim].copy_from_slice(features);
        }
    }
    Ok(())
}

/// The operands of [`attention`].
#[derive(Debug, Clone, Copy)]
pub struct AttentionInputs<'a> {
    /// `[rows, n_heads * head_dim]`.
    pub query: &'a [f64],
    /// Cache of keys.
    pub keys: &'a [f64],
    /// Cache of values.
    pub values: &'a [f64],
    /// Where each row is.
    pub rows: RowState<'a>,
    /// Sizes of both caches.
    pub dims: CacheDims,
    /// Factor on the scores.
    pub scale: f32,
}

/// Causal grouped-query attention (Vaswani et al., arXiv:1706.03762; Ainslie et al., arXiv:2305.13245): for every row
/// and query head, the values at positions up to the row's, weighted by the softmax of the scaled dot products of the
/// query with the keys.
///
/// # Errors
/// [`ReferenceError::OutOfRange`] for a position or sequence that the caches lack.
pub fn attention(inputs: AttentionInputs<'_>) -> Result<Vec<f64>, ReferenceError> {
    let AttentionInputs { query, keys, values, rows, dims, scale } = inputs;
    let n_rows = rows.positions.len();
    if n_rows == 0 {
        return Ok(Vec::new());
    }
    let n_heads = query.len() / n_rows / dims.head_dim;
    let group = n_heads / dims.n_kv_heads;
    let mut out = vec![0.0; query.len()];
    for row in 0..n_rows {
        let (position, sequence) = rows.checked(row, &dims)?;
        for head in 0..n_heads {
            let start = (row * n_heads + head) * dims.head_dim;
            let query = &query[start..][..dims.head_dim];
            let at = |position| dims.index(sequence, head / group, position);
            let score = |position| super::ops::dot(&keys[at(position)..][..dims.head_dim], query);
            let scores: Vec<f64> = (0..=position).map(score).collect();
            for (position, weight) in
                super::ops::soft_max(&scores, scores.len(), scale).into_iter().enumerate()
            {
                for (out, v) in out[start..][..dims.head_dim].iter_mut().zip(&values[at(position)..]) {
                    *out += weight * v;
                }
            }
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rope_turns_each_pair_by_its_angle() {
        // One quarter turn for pair 0, none for pair 1, at position 1; two heads of 5, of which 4 features rotate.
        let table = [1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0];
        let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0];
        let turned = |style| rope(&x, &[1], &table, RopeDims { style, n_rot: 4, head_dim: 5 }).unwrap();
        assert_eq!(turned(RopeStyle::Interleaved), [-2.0, 1.0, 3.0, 4.0, 5.0, -7.0, 6.0, 8.0, 9.0, 10.0]);
        assert_eq!(turned(RopeStyle::NeoX), [-3.0, 2.0, 1.0, 4.0, 5.0, -8.0, 7.0, 6.0, 9.0, 10.0]);
        let dims = RopeDims { style: RopeStyle::NeoX, n_rot: 4, head_dim: 5 };
        assert_eq!(rope(&x, &[0], &table, dims).unwrap(), x);
        assert!(rope(&x, &[2], &table, dims).is_err());
    }

    #[test]
    fn no_rows_give_none() {
        let dims = RopeDims { style: RopeStyle::NeoX, n_rot: 4, head_dim: 5 };
        assert_eq!(rope(&[], &[], &[0.0; 8], dims).unwrap(), []);
        let dims = CacheDims { n_sequences: 1, n_kv_heads: 1, max_seq: 2, head_dim: 1 };
        let rows = RowState { positions: &[], sequences: &[] };
        let inputs =
            AttentionInputs { query: &[], keys: &[0.0; 2], values: &[0.0; 2], rows, dims, scale: 1.0 };
        assert_eq!(attention(inputs).unwrap(), []);
    }

    #[test]
    fn scatter_goes_head_first() {
        let dims = CacheDims { n_sequences: 2, n_kv_heads: 2, max_seq: 3, head_dim: 1 };
        let mut cache = [0; 12];
        let rows = RowState { positions: &[2, 0], sequences: &[0, 1] };
        kv_scatter(&mut cache, &[1, 2, 3, 4], rows, dims).unwrap();
        assert_eq!(cache, [0, 0, 1, 0, 0, 2, 3, 0, 0, 4, 0, 0]);
        let late = RowState { positions: &[0, 3], sequences: &[0, 1] };
        let error = kv_scatter(&mut cache, &[9; 4], late, dims).unwrap_err();
        assert_eq!(error, ReferenceError::OutOfRange { what: "position", row: 1, value: 3, limit: 3 });
        let other = RowState { positions: &[0, 1], sequences: &[0, 2] };
        assert!(kv_scatter(&mut cache, &[9; 4], other, dims).is_err());
        assert_eq!(cache, [0, 0, 1, 0, 0, 2, 3, 0, 0, 4, 0, 0], "nothing is written");
    }

    #[test]
    fn attention_weights_the_past_of_its_own_sequence() {
        // Two sequences, one key-value head of one feature, four positions, two query heads in one group.
        let dims = CacheDims { n_sequences: 2, n_kv_heads: 1, max_seq: 4, head_dim: 1 };
        let nan = f64::NAN;
        let keys = [0.0, 2f64.ln(), nan, nan, 7.0, nan, nan, nan];
        let values = [3.0, 6.0, nan, nan, 42.0, nan, nan, nan];
        let rows = RowState { positions: &[1, 0], sequences: &[0, 1] };
        let query = [1.0, -1.0, 0.0, 5.0];
        let out = attention(AttentionInputs {
            query: &query,
            keys: &keys,
            values: &values,
            rows,
            dims,
            scale: 1.0,
        });
        // Weights 1/3 and 2/3 for the first head, 2/3 and 1/3 for the second; the other row sees one position.
        let expected = [5.0, 4.0, 42.0, 42.0];
        assert!(out.unwrap().iter().zip(expected).all(|(a, e): (&f64, f64)| (a - e).abs() < 1e-12));
    }

    #[test]
    fn query_heads_read_their_own_group() {
        let dims = CacheDims { n_sequences: 1, n_kv_heads: 2, max_seq: 1, head_dim: 2 };
        let rows = RowState { positions: &[0], sequences: &[0] };
        let values = [1.0, 2.0, 3.0, 4.0];
        let (query, keys) = ([0.0; 8], [0.0; 4]);
        let out = attention(AttentionInputs {
            query: &query,
            keys: &keys,
            values: &values,
            rows,
            dims,
            scale: 1.0,
        });
        assert_eq!(out.unwrap(), [1.0, 2.0, 1.0, 2.0, 3.0, 4.0, 3.0, 4.0]);
    }
}
