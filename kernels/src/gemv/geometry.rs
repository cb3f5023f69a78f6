//! How a matrix is spread over threads.
//!
//! `T` threads, neighbours in a block, share a row: thread `t` takes parts `t`, `t + T`, ... of the row (see
//! [`Partition`]), so that the threads together read consecutive bytes. Up to 32 threads are lanes of one warp and
//! add their sums by shuffles; more add the sums of their warps through shared memory. A thread works on `R` rows at
//! a time, so that an activation it has loaded serves them all.
//!
//! `T` fixes the order in which a row is summed. It depends on the matrix alone: not on the batch, so that a sequence
//! gets the same bits in every batch; not on the device, so that it gets the same bits on all of them. `R`, the unroll
//! and the block size order nothing and may depend on the batch.

use std::ops::Range;

use crate::blocks::partition::Partition;
use crate::support::WARP;

/// Threads up to which rows are split further: about what the largest devices keep resident (132 processors of 2,048
/// threads on an H200).
const SPLIT_THREADS: u64 = 1 << 18;

/// Threads that have to be left when a thread takes more rows. Fewer than resident ones are enough, as each then has
/// more loads under way; what several rows save is the loads of activations.
const SHARE_THREADS: u64 = 1 << 16;

/// Blocks that a matrix should be cut into, so that processors with one block more than others matter little.
const BLOCKS_WANTED: u64 = 528;

/// Threads of a block, unless a row needs more or blocks would be too few.
const BLOCK_THREADS: u32 = 128;

const MAX_THREADS_PER_ROW: u32 = 256;

/// Columns that one thread may sum one after the other; longer rows are split further, for accuracy.
const MAX_COLS_PER_THREAD: u32 = 1024;

/// The spread of one matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    /// `T`: threads that share a row, a power of two.
    pub(crate) threads_per_row: u32,
    /// `R`: rows that a thread works on at a time; it divides the number of rows.
    pub(crate) rows_per_thread: u32,
    /// Threads of a block, a multiple of `threads_per_row` and of 32.
    pub(crate) block_threads: u32,
    /// Parts of each row that a thread loads before it uses the first.
    pub(crate) unroll: u32,
}

impl Spread {
    /// The spread of a matrix of `rows` rows of `cols` columns for `batch` activation rows.
    pub(crate) fn new(partition: &Partition, rows: u32, cols: u32, batch: u32) -> Self {
        let in_flight = partition.parts_in_flight();
        let threads_per_row = threads_per_row(partition, rows, cols);
        let threads = |rows_per_thread: u32| u64::from(rows / rows_per_thread) * u64::from(threads_per_row);

        // Two rows need as many accumulators as twice the batch.
        let shares = batch <= 2 && rows.is_multiple_of(2) && threads(2) >= SHARE_THREADS;
        let rows_per_thread = if shares { 2 } else { 1 };

        let mut block_threads = BLOCK_THREADS.max(threads_per_row);
        while block_threads > threads_per_row.max(WARP)
            && threads(rows_per_thread) < u64::from(block_threads) * BLOCKS_WANTED
        {
            block_threads /= 2;
        }
        let unroll = (in_flight / rows_per_thread).max(1);
        Self { threads_per_row, rows_per_thread, block_threads, unroll }
    }

    /// Groups of `threads_per_row` threads in a block.
    pub(crate) const fn groups_per_block(&self) -> u32 {
        self.block_threads / self.threads_per_row
    }

    /// Groups that have rows to work on.
    pub(crate) const fn groups(&self, rows: u32) -> u32 {
        rows / self.rows_per_thread
    }

    /// Blocks of the grid.
    pub(crate) const fn blocks(&self, rows: u32) -> u32 {
        self.groups(rows).div_ceil(self.groups_per_block())
    }

    /// Warps that share a row.
    pub(crate) const fn warps_per_row(&self) -> u32 {
        self.threads_per_row.div_ceil(WARP)
    }

    /// How a thread walks along rows of `parts` parts.
    pub(crate) fn walk(&self, parts: u32) -> Walk {
        let all = parts / self.threads_per_row;
        let trips = if all >= 2 * self.unroll { all / self.unroll } else { 0 };
        let straight = all - trips * self.unroll;
        let mut batches: Vec<Batch> = (0..straight)
            .step_by(self.unroll as usize)
            .map(|from| Batch { steps: from..straight.min(from + self.unroll), some: None })
            .collect();
        let rest = parts % self.threads_per_row;
        if rest > 0 {
            // The last loads of all go out with those before them.
            match batches.last_mut() {
                Some(batch) => batch.some = Some(rest),
                None => batches.push(Batch { steps: 0..0, some: Some(rest) }),
            }
        }
        Walk { trips, unroll: self.unroll, batches }
    }
}

/// The steps of a thread along a row: step `s` of thread `t` is part `t + s * T`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Walk {
    /// Times that a loop takes `unroll` steps: 0 or at least 2.
    pub(crate) trips: u32,
    /// Steps of a trip.
    pub(crate) unroll: u32,
    /// What follows the loop.
    pub(crate) batches: Vec<Batch>,
}

/// Steps whose loads are issued together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Batch {
    /// Steps that every thread takes, counted from the end of the loop.
    pub(crate) steps: Range<u32>,
    /// One more step, which only that many threads take.
    pub(crate) some: Option<u32>,
}

/// `T`. First the power of two that leaves a thread about 64 bytes of a row, within a warp; then more while the matrix
/// leaves a large device empty, as long as each thread has something to do.
fn threads_per_row(partition: &Partition, rows: u32, cols: u32) -> u32 {
    let parts = partition.parts_of_row(cols);
    let least = partition.parts.max(8);
    let mut threads = parts.div_ceil(partition.parts_in_flight()).next_power_of_two().clamp(least, WARP);
    while threads < MAX_THREADS_PER_ROW
        && 2 * threads <= parts
        && (u64::from(rows) * u64::from(threads) < SPLIT_THREADS || cols / threads > MAX_COLS_PER_THREAD)
    {
        threads *= 2;
    }
    threads
}

#[cfg(test)]
mod tests {
    use tensor_formats::ElementType;

    use super::*;
    use crate::blocks::WeightFormat;

    fn partition(ty: ElementType, cols: u32) -> Partition {
        WeightFormat::of(ty).expect("a weight type").partition(cols)
    }

    fn spread(ty: ElementType, rows: u32, cols: u32, batch: u32) -> Spread {
        Spread::new(&partition(ty, cols), rows, cols, batch)
    }

    #[test]
    fn every_part_of_a_row_is_taken_once() {
        let mut shapes = [false; 3];
        for ty in ElementType::WEIGHTS {
            for rows in [1, 6, 2048, 40_000] {
                for cols in [1, 2, 30, 255, 256, 512, 768, 1536, 8960, 14336, 131_072] {
                    let Ok(_) = ty.row_bytes(cols as usize) else { continue };
                    let (s, parts) = (spread(ty, rows, cols, 1), partition(ty, cols).parts_of_row(cols));
                    let walk = s.walk(parts);
                    let mut taken = vec![0; parts as usize];
                    for t in 0..s.threads_per_row {
                        let looped = walk.trips * walk.unroll;
                        let mut steps: Vec<u32> = (0..looped).collect();
                        for batch in &walk.batches {
                            steps.extend(batch.steps.clone().map(|step| looped + step));
                            let takes = batch.some.is_some_and(|threads| t < threads);
                            steps.extend(takes.then_some(looped + batch.steps.end));
                        }
                        assert!(steps.is_sorted());
                        steps.iter().for_each(|step| taken[(t + step * s.threads_per_row) as usize] += 1);
                    }
                    assert!(taken.iter().all(|&n| n == 1), "{ty} {rows}x{cols}: {walk:?}");
                    assert_ne!(walk.trips, 1);
                    shapes[0] |= walk.trips > 0;
                    shapes[1] |= walk.batches.len() > 1;
                    shapes[2] |= walk.batches.iter().any(|batch| batch.some.is_some());
                }
            }
        }
        assert_eq!(shapes, [true; 3], "a loop, several batches after it, a step of some threads");
    }

    /// The addresses of [`emit`](super::super::emit), group by group and thread by thread.
    #[test]
    fn every_quant_byte_of_a_matrix_is_read_once() {
        for ty in ElementType::WEIGHTS {
            for (rows, cols) in [(1, 256), (3, 512), (37, 768), (5, 8960), (16388, 256)] {
                let (s, p) = (spread(ty, rows, cols, 1), partition(ty, cols));
                let starts: Vec<u64> = p.stream_offsets(rows, cols).collect();
                let (row_bytes, block_bytes): (Vec<u32>, Vec<u32>) =
                    (p.row_bytes(cols).collect(), p.block_bytes().collect());
                let mut reads = vec![0u8; ty.matrix_bytes(rows as usize, cols as usize).unwrap()];
                for group in 0..s.groups(rows) {
                    let first = group * s.rows_per_thread;
                    for (row, part) in (first..first + s.rows_per_thread)
                        .flat_map(|row| (0..p.parts_of_row(cols)).map(move |part| (row, part)))
                    {
                        for load in p.loads.iter().filter(|load| !load.shared) {
                            let i = load.stream;
                            let within = p.streams[i].offset.of(part % p.parts) + load.offset;
                            let at = row * row_bytes[i] + part / p.parts * block_bytes[i] + within;
                            let at = (starts[i] + u64::from(at)) as usize;
                            reads[at..at + load.bytes as usize].iter_mut().for_each(|n| *n += 1);
                        }
                    }
                }
                let own: u32 = p.loads.iter().filter(|load| !load.shared).map(|load| load.bytes).sum();
                let quants = (rows * p.parts_of_row(cols) * own) as usize;
                assert!(reads.iter().all(|&n| n <= 1), "{ty} {rows}x{cols}");
                assert_eq!(reads.iter().filter(|&&n| n == 1).count(), quants, "{ty} {rows}x{cols}");
            }
        }
    }

    #[test]
    fn the_order_of_a_sum_does_not_depend_on_the_batch() {
        for ty in ElementType::WEIGHTS {
            for (rows, cols) in
                [(1, 256), (7, 256), (256, 1536), (1536, 8960), (14336, 4096), (151_936, 1536)]
            {
                let one = spread(ty, rows, cols, 1).threads_per_row;
                assert!((2..=8).all(|batch| spread(ty, rows, cols, batch).threads_per_row == one));
            }
        }
    }

    #[test]
    fn spreads_are_consistent_for_any_shape() {
        for ty in ElementType::WEIGHTS {
            for rows in [1, 2, 3, 4, 5, 31, 257, 1536, 8960, 151_936] {
                for cols in [1, 2, 30, 255, 256, 512, 1536, 8960, 14336, 131_072] {
                    let Ok(_) = ty.row_bytes(cols as usize) else { continue };
                    let s = spread(ty, rows, cols, 1 + rows % 4);
                    assert!(s.threads_per_row.is_power_of_two() && s.threads_per_row >= 8);
                    assert!(s.block_threads.is_multiple_of(s.threads_per_row));
                    assert!(s.block_threads.is_multiple_of(WARP) && s.block_threads <= 256);
                    assert!(rows.is_multiple_of(s.rows_per_thread));
                    assert!(s.blocks(rows) * s.groups_per_block() >= s.groups(rows));
                    assert!(s.unroll >= 1);
                }
            }
        }
    }

    #[test]
    fn real_matrices_occupy_a_large_device() {
        // Weight type, rows, columns, and the threads per row that the doc above leads to.
        for (ty, rows, cols, threads_per_row) in [
            (ElementType::Q4_K, 256, 1536, 16),
            (ElementType::Q4_K, 1536, 1536, 16),
            (ElementType::Q4_K, 8960, 1536, 16),
            (ElementType::Q4_K, 1536, 8960, 128),
            (ElementType::Q6_K, 151_936, 1536, 32),
            (ElementType::Q4_K, 512, 2048, 32),
            (ElementType::Q8_0, 2048, 8192, 128),
            (ElementType::Q4_K, 1024, 4096, 64),
            (ElementType::Q4_K, 14336, 4096, 32),
            (ElementType::F16, 4096, 14336, 64),
            (ElementType::F32, 1024, 4096, 256),
        ] {
            let s = spread(ty, rows, cols, 1);
            assert_eq!(s.threads_per_row, threads_per_row, "{ty} {rows}x{cols}: {s:?}");
            assert!(s.blocks(rows) >= 128, "{ty} {rows}x{cols}: {s:?}");
        }
    }
}
