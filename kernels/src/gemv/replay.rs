//! The arithmetic of the kernels in plain Rust, operation for operation, in f32 and in the kernels' order.
//!
//! IEEE arithmetic leaves no room: a kernel that does what it says gives exactly these bits. The cases therefore ask
//! for them, and since the order here knows nothing of the batch, they also prove that the batch does not matter.

use tensor_formats::f16;

use super::Matrix;
use crate::blocks::WeightFormat;
use crate::blocks::partition::Partition;
use crate::support::WARP;

/// The order in which a row of a matrix is summed.
pub(super) struct Replay {
    format: WeightFormat,
    partition: Partition,
    threads_per_row: u32,
    cols: usize,
}

impl Replay {
    pub(super) fn new(matrix: &Matrix) -> Self {
        Self {
            format: matrix.format,
            partition: matrix.partition(),
            threads_per_row: matrix.spread().threads_per_row,
            cols: matrix.cols as usize,
        }
    }

    /// A row given as its values times f32 activations.
    pub(super) fn row_f32(&self, weights: &[f32], x: &[f32]) -> f32 {
        self.sum(|acc, block, part| {
            let first = block * self.partition.block_cols as usize + self.partition.col.of(part) as usize;
            let runs = self.partition.runs.iter();
            let cols = runs.flat_map(|run| first + run.col as usize..first + (run.col + run.len) as usize);
            cols.fold(acc, |acc, col| weights[col].mul_add(x[col], acc))
        })
    }

    /// A row of GGUF blocks times a Q8Act row.
    pub(super) fn row_q8(&self, row: &[u8], x: &[u8]) -> f32 {
        let (quants, groups) = x.split_at(self.cols);
        let activation = Activation { quants, groups };
        let bytes = self.partition.planes.iter().sum::<u32>() as usize;
        self.sum(|acc, block, part| {
            let unit = Unit {
                block: &row[block * bytes..][..bytes],
                part: part as usize,
                col: block * self.partition.block_cols as usize + self.partition.col.of(part) as usize,
            };
            match self.format {
                WeightFormat::Q4_0 => unit.q4_0(&activation, acc),
                WeightFormat::Q4K => unit.q4_k(&activation, acc),
                WeightFormat::Q5K => unit.q5_k(&activation, acc),
                WeightFormat::Q6K => unit.q6_k(&activation, acc),
                _ => unit.q8_0(&activation, acc),
            }
        })
    }

    /// Every thread folds its parts in ascending order, then the threads' sums are added as a tree in each warp and
    /// one after the other across warps.
    fn sum(&self, fold: impl Fn(f32, usize, u32) -> f32) -> f32 {
        let (threads, parts) = (self.threads_per_row, self.partition.parts_of_row(self.cols as u32));
        let thread = |t| {
            let own = (t..parts).step_by(threads as usize);
            own.fold(0.0, |acc, p| fold(acc, (p / self.partition.parts) as usize, p % self.partition.parts))
        };
        let sums: Vec<f32> = (0..threads).map(thread).collect();
        let warps = sums.chunks(WARP as usize).map(|lanes| {
            let mut lanes = lanes.to_vec();
            while lanes.len() > 1 {
                let (low, high) = lanes.split_at(lanes.len() / 2);
                lanes = low.iter().zip(high).map(|(a, b)| a + b).collect();
            }
            lanes[0]
        });
        warps.reduce(|a, b| a + b).unwrap_or(0.0)
    }
}

struct Activation<'a> {
    quants: &'a [u8],
    groups: &'a [u8],
}

impl Activation<'_> {
    fn quant(&self, col: usize) -> i32 {
        i32::from(self.quants[col] as i8)
    }

    /// `d` and `d * sum` of the group that `col` is in.
    fn group(&self, col: usize) -> (f32, f32) {
        let at = |byte: usize| f32::from_le_bytes(std::array::from_fn(|i| self.groups[byte + i]));
        (at(col / 32 * 8), at(col / 32 * 8 + 4))
    }

    /// The integer dot product of the columns from `col` on with `weights`.
    fn dot(&self, col: usize, weights: impl Iterator<Item = i32>) -> i32 {
        weights.enumerate().map(|(i, w)| w * self.quant(col + i)).sum()
    }
}

/// One part of one block, and its first column.
struct Unit<'a> {
    block: &'a [u8],
    part: usize,
    col: usize,
}

impl Unit<'_> {
    fn half(&self, byte: usize) -> f32 {
        f16::to_f32(u16::from_le_bytes([self.block[byte], self.block[byte + 1]]))
    }

    fn q8_0(&self, x: &Activation, acc: f32) -> f32 {
        let dot = x.dot(self.col, self.block[2..].iter().map(|&q| i32::from(q as i8)));
        add(acc, x.group(self.col), self.half(0), dot, None)
    }

    fn q4_0(&self, x: &Activation, acc: f32) -> f32 {
        let quants = &self.block[2..];
        let nibbles =
            [0, 4].into_iter().flat_map(|shift| quants.iter().map(move |&q| i32::from(q >> shift & 15)));
        let (d, dot) = (self.half(0), x.dot(self.col, nibbles));
        add(acc, x.group(self.col), d, dot, Some(-8.0 * d))
    }

    fn q4_k(&self, x: &Activation, acc: f32) -> f32 {
        let quants = &self.block[16 + 32 * self.part..][..32];
        self.sub_blocks(x, acc, |high, l| quants[l] >> (4 * high) & 15)
    }

    fn q5_k(&self, x: &Activation, acc: f32) -> f32 {
        let (bits, quants) = (&self.block[16..48], &self.block[48 + 32 * self.part..][..32]);
        let bit = |high, l: usize| bits[l] >> (self.part * 2 + high) & 1;
        self.sub_blocks(x, acc, |high, l| quants[l] >> (4 * high) & 15 | bit(high, l) << 4)
    }

    /// Two sub-blocks of Q4_K or Q5_K, whose quants are `quant(0 or 1, 0..32)`.
    fn sub_blocks(&self, x: &Activation, acc: f32, quant: impl Fn(usize, usize) -> u8) -> f32 {
        (0..2).fold(acc, |acc, high| {
            let col = self.col + 32 * high;
            let (scale, min) = q4_k_scale(&self.block[4..16], self.part * 2 + high);
            let dot = x.dot(col, (0..32).map(|l| i32::from(quant(high, l))));
            let offset = -self.half(2) * f32::from(min);
            add(acc, x.group(col), self.half(0) * f32::from(scale), dot, Some(offset))
        })
    }

    fn q6_k(&self, x: &Activation, acc: f32) -> f32 {
        let (half, odd) = (self.part / 2, self.part % 2);
        let qh = &self.block[128 + 16 * self.part..][..16];
        (0..4).fold(acc, |acc, run| {
            let ql = &self.block[64 * half + 32 * (run % 2) + 16 * odd..][..16];
            let quants = ql.iter().zip(qh).map(|(&low, &high)| {
                i32::from(low >> (run / 2 * 4) & 15 | (high >> (2 * run) & 3) << 4) - 32
            });
            let scale = self.half(208) * f32::from(self.block[192 + 8 * half + odd + 2 * run] as i8);
            let col = self.col + 32 * run;
            add(acc, x.group(col), scale, x.dot(col, quants), None)
        })
    }
}

/// `acc`, and what columns of one scale and one group `(d, d * sum)` give, whose weights are `scale * q + offset`.
fn add(acc: f32, (d, sum): (f32, f32), scale: f32, dot: i32, offset: Option<f32>) -> f32 {
    let acc = d.mul_add(scale * dot as f32, acc);
    offset.map_or(acc, |offset| offset.mul_add(sum, acc))
}

/// Scale and minimum of sub-block `index` of a Q4_K block: `get_scale_min_k4` of ggml, six bits each.
fn q4_k_scale(scales: &[u8], index: usize) -> (u8, u8) {
    if index < 4 {
        (scales[index] & 63, scales[index + 4] & 63)
    } else {
        let (low, high) = (scales[index + 4], (scales[index - 4] >> 6, scales[index] >> 6));
        (low & 15 | high.0 << 4, low >> 4 | high.1 << 4)
    }
}
