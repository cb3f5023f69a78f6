//! How the threads that share a row divide its blocks among themselves.
//!
//! A block is cut into *parts*; one thread handles one part of a block at a time. Everything about a part, the bytes
//! it loads and the columns that these bytes stand for, is a constant plus bit fields of the part's number, kept here
//! as data: the emitter turns it into PTX and the tests evaluate it.

use ptx_builder::{KernelBuilder, Reg, U32};

/// A number made of bit fields of a part's number: the sum of `scale * ((part >> shift) & (2^bits - 1))`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BitFields(pub(crate) &'static [BitField]);

/// One term of [`BitFields`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BitField {
    pub(crate) shift: u32,
    pub(crate) bits: u32,
    pub(crate) scale: u32,
}

impl BitFields {
    pub(crate) const ZERO: Self = Self(&[]);

    /// The number for `part`.
    pub(crate) fn of(self, part: u32) -> u32 {
        self.0.iter().map(|f| ((part >> f.shift) & ((1 << f.bits) - 1)) * f.scale).sum()
    }

    /// Emits the number; `None` if it is always 0.
    pub(crate) fn emit(self, k: &mut KernelBuilder, part: Reg<U32>) -> Option<Reg<U32>> {
        self.0.iter().fold(None, |sum, f| {
            let bits = k.bfe::<U32>(part, f.shift, f.bits);
            Some(match sum {
                Some(sum) => k.mad::<U32>(bits, f.scale, sum),
                None => k.mul::<U32>(bits, f.scale),
            })
        })
    }
}

pub(crate) const fn field(shift: u32, bits: u32, scale: u32) -> BitField {
    BitField { shift, bits, scale }
}

/// One load instruction of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// The byte within the block: this stream's offset for the part plus `offset`.
    pub(crate) stream: usize,
    /// See `stream`.
    pub(crate) offset: u32,
    /// The width, which is also the alignment that the address must have.
    pub(crate) bytes: u32,
    /// Whether the bytes serve several parts (scales), as opposed to the quants, which belong to one.
    pub(crate) shared: bool,
}

/// Consecutive columns of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first column, from the part's column on.
    pub(crate) col: u32,
    /// The number of columns: 1, 2 or a multiple of 4.
    pub(crate) len: u32,
}

/// How a row of a weight type is divided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partition {
    /// Columns of a block.
    pub(crate) block_cols: u32,
    /// Bytes of a block.
    pub(crate) block_bytes: u32,
    /// Parts of a block, a power of two.
    pub(crate) parts: u32,
    /// The byte offsets within the block that depend on the part. Each becomes one pointer of a thread.
    pub(crate) streams: Vec<BitFields>,
    /// The loads of a part, in the order in which they are issued.
    pub(crate) loads: Vec<Load>,
    /// The part's column within the block.
    pub(crate) col: BitFields,
    /// The columns of a part, in the order in which they are accumulated.
    pub(crate) runs: Vec<Run>,
}

/// A load of quants.
pub(crate) const fn own(stream: usize, offset: u32, bytes: u32) -> Load {
    Load { stream, offset, bytes, shared: false }
}

/// A load of scales.
pub(crate) const fn shared(stream: usize, offset: u32, bytes: u32) -> Load {
    Load { stream, offset, bytes, shared: true }
}

impl Partition {
    /// Parts of a row of `cols` columns.
    pub(crate) fn parts_of_row(&self, cols: u32) -> u32 {
        cols / self.block_cols * self.parts
    }

    /// Parts that together hold about 64 bytes: what a thread should have in flight.
    pub(crate) fn parts_in_flight(&self) -> u32 {
        let own: u32 = self.loads.iter().filter(|load| !load.shared).map(|load| load.bytes).sum();
        (64 / own).next_power_of_two().min(16)
    }
}

#[cfg(test)]
mod tests {
    use tensor_formats::ElementType;

    use super::*;
    use crate::blocks::WeightFormat;

    fn partition(ty: ElementType, cols: u32) -> Partition {
        WeightFormat::of(ty).expect("a weight type").partition(cols)
    }

    fn partitions() -> impl Iterator<Item = (ElementType, u32, Partition)> {
        let shapes = WeightFormat::ELEMENTS
            .into_iter()
            .flat_map(|ty| [256, 1536, 260, 258, 257].map(|cols| (ty, cols)));
        shapes
            .filter(|&(ty, cols)| ty.row_bytes(cols as usize).is_ok())
            .map(|(ty, cols)| (ty, cols, partition(ty, cols)))
    }

    /// The bytes of the block that a load of a part covers.
    fn span(p: &Partition, load: &Load, part: u32) -> std::ops::Range<u32> {
        let start = p.streams[load.stream].of(part) + load.offset;
        start..start + load.bytes
    }

    #[test]
    fn every_quant_byte_is_loaded_once_and_every_scale_byte_by_someone() {
        for (ty, cols, p) in partitions() {
            let (mut own, mut shared) = (vec![0; p.block_bytes as usize], vec![0; p.block_bytes as usize]);
            for part in 0..p.parts {
                for load in &p.loads {
                    let counts = if load.shared { &mut shared } else { &mut own };
                    span(&p, load, part).for_each(|byte| counts[byte as usize] += 1);
                }
            }
            for byte in 0..p.block_bytes as usize {
                assert!(own[byte] <= 1, "{ty} {cols}: byte {byte} is loaded twice");
                assert_ne!(own[byte] > 0, shared[byte] > 0, "{ty} {cols}: byte {byte}");
            }
        }
    }

    #[test]
    fn every_column_belongs_to_one_part() {
        for (ty, cols, p) in partitions() {
            let mut owners = vec![0; p.block_cols as usize];
            for part in 0..p.parts {
                for run in &p.runs {
                    let first = p.col.of(part) + run.col;
                    (first..first + run.len).for_each(|col| owners[col as usize] += 1);
                }
            }
            assert!(owners.iter().all(|&n| n == 1), "{ty} {cols}: {owners:?}");
            assert_eq!(p.runs.iter().map(|run| run.len).sum::<u32>(), p.block_cols / p.parts);
        }
    }

    #[test]
    fn every_load_is_aligned_in_every_block_of_every_row() {
        for (ty, cols, p) in partitions() {
            let row_bytes = u32::try_from(ty.row_bytes(cols as usize).unwrap()).unwrap();
            for (row, block) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0), (5, 0)] {
                if block < cols / p.block_cols {
                    for (part, load) in (0..p.parts).flat_map(|part| p.loads.iter().map(move |l| (part, l))) {
                        let at = row * row_bytes + block * p.block_bytes + span(&p, load, part).start;
                        assert_eq!(at % load.bytes, 0, "{ty} {cols}: row {row} block {block} {load:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn neighbouring_parts_read_neighbouring_bytes() {
        for (_, _, p) in partitions() {
            for load in p.loads.iter().filter(|load| !load.shared) {
                for part in (1..p.parts).filter(|part| part % 8 != 0) {
                    let step = span(&p, load, part).start - span(&p, load, part - 1).start;
                    assert!(step <= 16 && step >= load.bytes);
                }
            }
        }
    }

    #[test]
    fn scalars_use_the_widest_vector_that_rows_allow() {
        let bytes = |ty, cols| partition(ty, cols).block_bytes;
        assert_eq!([8, 4, 2, 1].map(|cols| bytes(ElementType::F16, cols)), [16, 8, 4, 2]);
        assert_eq!([8, 4, 2, 1].map(|cols| bytes(ElementType::F32, cols)), [16, 16, 8, 4]);
        assert_eq!(WeightFormat::of(ElementType::U32), None);
    }
}
