//! How the threads that share a row divide its blocks among themselves.
//!
//! A block is cut into *parts*; one thread handles one part of a block at a time. Everything about a part, the bytes
//! it loads and the columns that these bytes stand for, is a constant plus bit fields of the part's number, kept here
//! as data: the emitter turns it into PTX and the tests evaluate it.
//!
//! Matrices are in the device's layout, plane by plane ([`tensor_formats::planes`]): the quants of all blocks, then
//! their scales. A part's bytes are therefore in several places, and neighbouring parts read neighbouring bytes in each.

use ptx_builder::{KernelBuilder, Reg, U32, U64};

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

/// Where the parts of a block read in one plane. Each stream is one pointer of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stream {
    pub(crate) plane: usize,
    /// The byte within the block's bytes of that plane.
    pub(crate) offset: BitFields,
}

/// One load instruction of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Load {
    /// The byte within the block's bytes of the stream's plane: this stream's offset for the part plus `offset`.
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
    /// Bytes of a block in each plane.
    pub(crate) planes: Vec<u32>,
    /// Parts of a block, a power of two.
    pub(crate) parts: u32,
    /// Where the parts read.
    pub(crate) streams: Vec<Stream>,
    /// The loads of a part, in the order in which they are issued.
    pub(crate) loads: Vec<Load>,
    /// The part's column within the block.
    pub(crate) col: BitFields,
    /// The columns of a part, in the order in which they are accumulated.
    pub(crate) runs: Vec<Run>,
}

pub(crate) const fn stream(plane: usize, offset: BitFields) -> Stream {
    Stream { plane, offset }
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

    /// Bytes of a block in the plane of each stream.
    pub(crate) fn block_bytes(&self) -> impl Iterator<Item = u32> + '_ {
        self.streams.iter().map(|stream| self.planes[stream.plane])
    }

    /// Bytes of a row of `cols` columns in the plane of each stream.
    pub(crate) fn row_bytes(&self, cols: u32) -> impl Iterator<Item = u32> + '_ {
        self.block_bytes().map(move |bytes| cols / self.block_cols * bytes)
    }

    /// Where each stream of a matrix `[rows, cols]` starts: the offset of its plane.
    pub(crate) fn stream_offsets(&self, rows: u32, cols: u32) -> impl Iterator<Item = u64> + '_ {
        let blocks = u64::from(rows) * u64::from(cols / self.block_cols);
        let before =
            move |plane: usize| self.planes[..plane].iter().map(|&bytes| u64::from(bytes)).sum::<u64>();
        self.streams.iter().map(move |stream| blocks * before(stream.plane))
    }

    /// Emits a pointer for each stream of the matrix at `w`: to part `part` of block `block` of row `row`.
    pub(crate) fn pointers(
        &self,
        k: &mut KernelBuilder,
        w: Reg<U64>,
        (rows, cols): (u32, u32),
        [row, block, part]: [Reg<U32>; 3],
    ) -> Vec<Reg<U64>> {
        let starts: Vec<_> =
            self.stream_offsets(rows, cols).zip(self.row_bytes(cols)).zip(self.block_bytes()).collect();
        let streams = self.streams.iter().zip(starts);
        let pointers = streams.map(|(stream, ((start, row_bytes), block_bytes))| {
            let at = if start == 0 { w } else { k.add::<U64>(w, start) };
            let at = k.ptr_index(at, row, row_bytes);
            let at = k.ptr_index(at, block, block_bytes);
            match stream.offset.emit(k, part) {
                Some(offset) => k.ptr_index(at, offset, 1),
                None => at,
            }
        });
        pointers.collect()
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
        let shapes =
            ElementType::WEIGHTS.into_iter().flat_map(|ty| [256, 1536, 260, 258, 257].map(|cols| (ty, cols)));
        let partitions = shapes
            .filter(|&(ty, cols)| ty.row_bytes(cols as usize).is_ok())
            .map(|(ty, cols)| (ty, cols, partition(ty, cols)));
        let tiles = [ElementType::F16, ElementType::BF16]
            .map(|ty| (ty, 1536, WeightFormat::of(ty).expect("a weight type").tile_partition(1536)));
        partitions.chain(tiles)
    }

    /// The bytes that a load of a part covers in the block's bytes of its plane.
    fn span(p: &Partition, load: &Load, part: u32) -> std::ops::Range<u32> {
        let start = p.streams[load.stream].offset.of(part) + load.offset;
        start..start + load.bytes
    }

    #[test]
    fn planes_are_those_of_the_layout() {
        for (ty, cols, p) in partitions() {
            let blocks = ty.block_elements() as u32;
            let per_block: Vec<u32> =
                p.planes.iter().map(|bytes| bytes * blocks / p.block_cols.min(blocks)).collect();
            let expected: Vec<u32> = ty.planes().iter().map(|plane| plane.block_bytes() as u32).collect();
            if blocks > 1 {
                assert_eq!(per_block, expected, "{ty}");
                assert_eq!(p.block_cols, blocks, "{ty}");
            } else {
                assert_eq!(p.planes, [p.block_cols * expected[0]], "{ty} {cols}");
            }
        }
    }

    #[test]
    fn every_quant_byte_is_loaded_once_and_every_other_byte_by_someone() {
        for (ty, cols, p) in partitions() {
            let empty = || p.planes.iter().map(|&bytes| vec![0; bytes as usize]).collect::<Vec<_>>();
            let (mut own, mut shared) = (empty(), empty());
            for part in 0..p.parts {
                for load in &p.loads {
                    let counts = if load.shared { &mut shared } else { &mut own };
                    let plane = &mut counts[p.streams[load.stream].plane];
                    span(&p, load, part).for_each(|byte| plane[byte as usize] += 1);
                }
            }
            for (own, shared) in own.iter().flatten().zip(shared.iter().flatten()) {
                assert!(*own <= 1, "{ty} {cols}: a byte is loaded twice");
                assert_ne!(*own > 0, *shared > 0, "{ty} {cols}");
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
            let (starts, row_bytes): (Vec<_>, Vec<_>) =
                (p.stream_offsets(7, cols).collect(), p.row_bytes(cols).collect());
            let block_bytes: Vec<_> = p.block_bytes().collect();
            for (row, block) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (3, 0), (5, 0)] {
                if block < cols / p.block_cols {
                    for (part, load) in (0..p.parts).flat_map(|part| p.loads.iter().map(move |l| (part, l))) {
                        let s = load.stream;
                        let at = starts[s] + u64::from(row * row_bytes[s] + block * block_bytes[s]);
                        let at = at + u64::from(span(&p, load, part).start);
                        assert_eq!(
                            at % u64::from(load.bytes),
                            0,
                            "{ty} {cols}: row {row} block {block} {load:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_loads_of_neighbouring_parts_fill_whole_lines_together() {
        for (ty, cols, p) in partitions() {
            for stream in 0..p.streams.len() {
                let loads: Vec<_> =
                    p.loads.iter().filter(|load| load.stream == stream && !load.shared).collect();
                let mut bytes: Vec<u32> = (0..p.parts)
                    .flat_map(|part| loads.iter().map(move |load| (part, load)))
                    .flat_map(|(part, load)| span(&p, load, part))
                    .collect();
                bytes.sort_unstable();
                assert!(bytes.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ty} {cols}");
            }
        }
    }

    #[test]
    fn scalars_use_the_widest_vector_that_rows_allow() {
        let bytes = |ty, cols| partition(ty, cols).planes[0];
        assert_eq!([8, 4, 2, 1].map(|cols| bytes(ElementType::F16, cols)), [16, 8, 4, 2]);
        assert_eq!([8, 4, 2, 1].map(|cols| bytes(ElementType::F32, cols)), [16, 16, 8, 4]);
        assert_eq!(WeightFormat::of(ElementType::U32), None);
    }
}
