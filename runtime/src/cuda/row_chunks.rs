//! Splits the rows of a step into launches of matrix-vector kernels.

use std::ops::Range;

use kernels::gemv::MAX_BATCH;

/// `0..rows` in consecutive ranges of at most [`MAX_BATCH`] rows, all full but the last.
pub(crate) fn row_chunks(rows: usize) -> impl Iterator<Item = Range<usize>> {
    (0..rows).step_by(MAX_BATCH).map(move |start| start..rows.min(start + MAX_BATCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_chunk() {
        let chunks = |rows| row_chunks(rows).map(|chunk| (chunk.start, chunk.end)).collect::<Vec<_>>();
        assert_eq!(MAX_BATCH, 8);
        assert_eq!(chunks(0), []);
        assert_eq!(chunks(1), [(0, 1)]);
        assert_eq!(chunks(8), [(0, 8)]);
        assert_eq!(chunks(9), [(0, 8), (8, 9)]);
        assert_eq!(chunks(32), [(0, 8), (8, 16), (16, 24), (24, 32)]);
    }
}
