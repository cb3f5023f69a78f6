//! Splits the rows of a step into launches of matrix-vector kernels.

use std::ops::Range;

/// `0..rows` in consecutive ranges of at most `most` rows, at least one, all full but the last.
pub(crate) fn row_chunks(rows: usize, most: usize) -> impl Iterator<Item = Range<usize>> {
    let most = most.max(1);
    (0..rows).step_by(most).map(move |start| start..rows.min(start + most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_one_chunk() {
        let chunks = |rows| row_chunks(rows, 8).map(|chunk| (chunk.start, chunk.end)).collect::<Vec<_>>();
        assert_eq!(chunks(0), []);
        assert_eq!(chunks(1), [(0, 1)]);
        assert_eq!(chunks(8), [(0, 8)]);
        assert_eq!(chunks(9), [(0, 8), (8, 9)]);
        assert_eq!(chunks(32), [(0, 8), (8, 16), (16, 24), (24, 32)]);
    }
}
