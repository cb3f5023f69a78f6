//! Weights on their way: each warp has a ring of slots in shared memory that background copies fill.
//!
//! A slot holds what the 32 lanes of a warp need for one turn. Quants belong to one lane, which copies what it will read.
//! Scales serve several: the warp copies those of all its parts together, each byte once, because copies of one address to
//! several places are as many reads of the L2. So are copies of parts of its lines: where a lane has two pieces of quants, the
//! warp copies those of all its lanes together, too, 512 bytes in a row.

use ptx_builder::{Addr, B32, KernelBuilder, Load as How, Pred, Reg, S8, Space, Target, U16, U32, U64};

use super::product::Thread;
use crate::blocks::Raw;
use crate::blocks::partition::{Load, Partition};
use crate::support::{ALL_LANES, WARP};

/// The first target with copies in the background.
pub(super) const MIN_TARGET: Target = Target::SM_80;

/// Slots of a warp that are filled before the kernel waits for those before it. The activations that it loads then queue
/// behind everything that is on its way to the processor: behind three slots, 55 KB, for longer than the memory takes to begin.
pub(super) const EARLY: u32 = 1;

/// The same where attention makes the activations of one row: it has few bytes to read, or else lets this kernel begin late.
pub(super) const EARLY_OF_ATTENTION: u32 = 2;

/// How the parts of a row come into the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layout {
    partition: Partition,
    cols: u32,
    /// In the order of the partition's streams.
    streams: Vec<Way>,
    /// Of one part of 32 lanes.
    bytes: u32,
}

/// How one stream's bytes come.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Way {
    /// Every lane copies its own, load by load: for each the place in the slot.
    Own(Vec<Piece>),
    /// The lanes copy one piece each of what their blocks have in this plane, as far as there are pieces.
    Common { piece: Piece, lanes: u32 },
    /// Every lane has two pieces of 16 bytes, `apart` bytes from each other, a power of two. The warp copies the first
    /// half of what all lanes have, then the second. See [`swizzled`].
    Halves { pieces: [Piece; 2], apart: u32 },
    /// By ordinary loads when they are needed: rows do not begin at multiples of a piece.
    Direct,
}

/// One copy of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Piece {
    /// From the stream's pointer on.
    offset: u32,
    /// 4, 8 or 16.
    bytes: u32,
    /// Where the 32 lanes' pieces begin in the slot.
    at: u32,
}

/// Where a lane's pieces are.
#[derive(Debug, Clone)]
pub(super) struct Lane {
    /// The pieces of 16, 8 and 4 bytes that it copies, in the first slot, where there are any.
    first: [Option<Reg<U32>>; 3],
    /// For each stream that comes in common what the lane reads, in the first slot.
    common: Vec<Option<Reg<U32>>>,
    /// For each of these whether its piece is one of the row's in the last step, and in the others.
    copies: Vec<Option<[Option<Pred>; 2]>>,
    /// Of the stream that comes in halves.
    halves: Option<Halves>,
}

/// Where a lane's pieces of 16 bytes are that come in halves, in the first slot.
#[derive(Debug, Clone, Copy)]
struct Halves {
    /// What it copies.
    copied: Reg<U32>,
    /// What it reads.
    read: [Reg<U32>; 2],
    /// Whether the pieces that it copies are the row's in the last step, where they may not be.
    last: Option<[Pred; 2]>,
}

/// A lane's pieces in one slot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    /// Bytes from the first slot to this one.
    start: Option<Reg<U32>>,
    offset: u32,
}

/// Bytes in global memory: pointers of the streams, and what is added to them.
pub(super) type From<'a> = (&'a [Reg<U64>], &'a [i32]);

impl Layout {
    /// The layout for rows of `cols` columns whose lanes advance by `advance` blocks.
    pub(super) fn new(partition: Partition, cols: u32, advance: u32) -> Self {
        let mut bytes = 0;
        let mut piece = |offset, width| {
            let at = bytes;
            bytes += width * WARP;
            Piece { offset, bytes: width, at }
        };
        let block_bytes: Vec<u32> = partition.block_bytes().collect();
        let row_bytes: Vec<u32> = partition.row_bytes(cols).collect();
        let streams = (0..partition.streams.len()).map(|stream| {
            let loads: Vec<&Load> = partition.loads.iter().filter(|load| load.stream == stream).collect();
            if let [Load { offset: 0, bytes: 16, shared: false, .. }, Load { offset: apart, bytes: 16, .. }] =
                loads[..]
                && block_bytes[stream] == partition.parts * 32
            {
                return Way::Halves { pieces: [piece(0, 16), piece(16 * WARP, 16)], apart: *apart };
            }
            if loads.iter().all(|load| !load.shared) {
                return Way::Own(loads.iter().map(|load| piece(load.offset, load.bytes)).collect());
            }
            let warp_bytes = WARP / partition.parts * block_bytes[stream];
            let width = (warp_bytes / WARP).max(4);
            let lengths = [row_bytes[stream], warp_bytes, advance * block_bytes[stream]];
            if lengths.iter().all(|bytes| bytes.is_multiple_of(width)) {
                Way::Common { piece: piece(0, width), lanes: warp_bytes / width }
            } else {
                Way::Direct
            }
        });
        let streams = streams.collect();
        Self { partition, cols, streams, bytes }
    }

    /// Bytes of the 32 lanes' parts of one row.
    pub(super) const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// Whether some bytes are loaded when they are needed.
    pub(super) fn has_direct(&self) -> bool {
        self.streams.contains(&Way::Direct)
    }

    /// Emits pointers to what a lane copies of row 0 of a matrix of `rows` rows, a pointer for each stream.
    pub(super) fn pointers(
        &self,
        k: &mut KernelBuilder,
        matrix: Reg<U64>,
        rows: u32,
        (thread, [block, part]): (Thread, [Reg<U32>; 2]),
    ) -> Vec<Reg<U64>> {
        let starts = self.partition.stream_offsets(rows, self.cols).zip(self.partition.block_bytes());
        let starts: Vec<_> = starts.zip(&self.partition.streams).zip(&self.streams).collect();
        let mut pointers = Vec::new();
        for (((start, block_bytes), stream), way) in starts {
            let at = if start == 0 { matrix } else { k.add(matrix, start) };
            pointers.push(match way {
                Way::Common { piece, .. } => {
                    let at = k.ptr_index(at, thread.warp, WARP / self.partition.parts * block_bytes);
                    k.ptr_index(at, thread.lane_in_warp, piece.bytes)
                }
                Way::Halves { .. } => {
                    let at = k.ptr_index(at, thread.warp, HALVES);
                    k.ptr_index(at, thread.lane_in_warp, HALVES / 2 / WARP)
                }
                Way::Own(_) | Way::Direct => {
                    let at = k.ptr_index(at, block, block_bytes);
                    match stream.offset.emit(k, part) {
                        Some(offset) => k.ptr_index(at, offset, 1),
                        None => at,
                    }
                }
            });
        }
        pointers
    }

    /// Emits what a lane knows of its places. It has a part of one of `rows` rows; the last step is number `last_step`, steps
    /// are `advance` blocks apart.
    pub(super) fn lane(
        &self,
        k: &mut KernelBuilder,
        (thread, part): (Thread, Reg<U32>),
        (rows, last_step, advance): (u32, u32, u32),
    ) -> Lane {
        let first = [16, 8, 4].map(|bytes| {
            let is_copied =
                self.streams.iter().any(|way| way.copies_of_lane().any(|piece| piece.bytes == bytes));
            is_copied.then(|| k.mad(thread.lane_in_warp, bytes, thread.ring))
        });
        let block_bytes: Vec<u32> = self.partition.block_bytes().collect();
        let row_bytes: Vec<u32> = self.partition.row_bytes(self.cols).collect();
        let (mut common, mut copies, mut halves) = (Vec::new(), Vec::new(), None);
        for (stream, way) in self.streams.iter().enumerate() {
            let left = rows * row_bytes[stream] - last_step * advance * block_bytes[stream];
            let all = advance * block_bytes[stream];
            if let Way::Halves { apart, .. } = way {
                let block = k.shr(thread.lane_in_warp, self.partition.parts.ilog2());
                let at = k.mul(block, block_bytes[stream]);
                let at = match self.partition.streams[stream].offset.emit(k, part) {
                    Some(offset) => k.add(at, offset),
                    None => at,
                };
                let left = (left < all).then_some(left);
                halves = Some(Halves::new(k, thread, (at, *apart), left));
            }
            let Way::Common { piece, lanes } = way else {
                common.push(None);
                copies.push(None);
                continue;
            };
            let block = k.shr(thread.lane_in_warp, self.partition.parts.ilog2());
            let at = k.mad(block, block_bytes[stream], thread.ring);
            let at = match self.partition.streams[stream].offset.emit(k, part) {
                Some(offset) => k.add(at, offset),
                None => at,
            };
            common.push(Some(at));
            let has = (*lanes < WARP).then(|| k.lt(thread.lane_in_warp, *lanes));
            let in_last = (left < all).then(|| {
                let start = k.mul(thread.warp, lanes * piece.bytes);
                let start = k.mad(thread.lane_in_warp, piece.bytes, start);
                k.lt(start, left)
            });
            let last = match (has, in_last) {
                (Some(a), Some(b)) => Some(k.and_pred(a, b)),
                (a, b) => a.or(b),
            };
            copies.push(Some([last, has]));
        }
        Lane { first, common, copies, halves }
    }

    /// Emits the copies of a part into a slot, where `exists` holds; of quants where `own` does, too, if it is given, which
    /// it is in a last step that not all lanes have.
    pub(super) fn copy(
        &self,
        k: &mut KernelBuilder,
        (lane, slot): (&Lane, Slot),
        (streams, offsets): From<'_>,
        (exists, own, is_last): (Pred, Option<Pred>, bool),
    ) {
        let both = |k: &mut KernelBuilder, other: Option<Pred>| match other {
            Some(other) => k.and_pred(exists, other),
            None => exists,
        };
        let own = both(k, own);
        for (stream, way) in self.streams.iter().enumerate() {
            let (pieces, guard) = match way {
                Way::Own(pieces) => (pieces.as_slice(), own),
                Way::Halves { pieces, .. } => {
                    let Some(halves) = &lane.halves else { continue };
                    for (half, piece) in pieces.iter().enumerate() {
                        let guard = both(k, halves.last.filter(|_| is_last).map(|last| last[half]));
                        let to = slot.at(k, halves.copied, piece.at);
                        let from = streams[stream] + (offsets[stream] + piece.offset as i32);
                        k.guarded(guard, |k| k.cp_async_cg(to, from));
                    }
                    continue;
                }
                Way::Common { piece, .. } => {
                    let copies =
                        lane.copies[stream].and_then(|[last, other]| if is_last { last } else { other });
                    (std::slice::from_ref(piece), both(k, copies))
                }
                Way::Direct => continue,
            };
            for piece in pieces {
                let Some(to) = lane.place(k, slot, piece) else { continue };
                let from = streams[stream] + (offsets[stream] + piece.offset as i32);
                k.guarded(guard, |k| match piece.bytes {
                    16 => k.cp_async_cg(to, from),
                    bytes => k.cp_async_ca(to, from, bytes),
                });
            }
        }
    }

    /// Emits the reading of a part whose copies have arrived; the pointers are for what [comes later](Self::has_direct).
    pub(super) fn read(
        &self,
        k: &mut KernelBuilder,
        (lane, slot): (&Lane, Slot),
        (streams, offsets): From<'_>,
    ) -> Raw {
        let mut raw = Raw::default();
        let mut next = vec![0; self.streams.len()];
        for load in &self.partition.loads {
            let at = match &self.streams[load.stream] {
                Way::Own(pieces) => {
                    let piece = &pieces[next[load.stream]];
                    next[load.stream] += 1;
                    let Some(place) = lane.place(k, slot, piece) else { continue };
                    place
                }
                Way::Halves { pieces: [first, _], .. } => match &lane.halves {
                    Some(halves) => slot.at(k, halves.read[usize::from(load.offset > 0)], first.at),
                    None => continue,
                },
                Way::Common { piece, .. } => match lane.common[load.stream] {
                    Some(common) => slot.at(k, common, piece.at + load.offset),
                    None => continue,
                },
                Way::Direct => {
                    let at = streams[load.stream] + (offsets[load.stream] + load.offset as i32);
                    match load.bytes {
                        2 => raw.halves.push(k.load::<U16>(Space::Global, How::NC, at)),
                        _ => raw.bytes.push(k.load::<S8>(Space::Global, How::NC, at)),
                    }
                    continue;
                }
            };
            match load.bytes {
                16 => raw.words.extend(k.ld_shared_v4::<B32>(at)),
                8 => raw.words.extend(k.ld_shared_v2::<B32>(at)),
                4 => raw.words.push(k.ld_shared::<B32>(at)),
                2 => raw.halves.push(k.ld_shared::<U16>(at)),
                _ => raw.bytes.push(k.ld_shared::<S8>(at)),
            }
        }
        raw
    }
}

impl Way {
    /// The pieces that are as far from each other as lanes are.
    fn copies_of_lane(&self) -> impl Iterator<Item = &Piece> {
        match self {
            Self::Own(pieces) => pieces.as_slice(),
            Self::Common { piece, .. } => std::slice::from_ref(piece),
            Self::Halves { .. } | Self::Direct => &[],
        }
        .iter()
    }
}

impl Halves {
    /// For a lane whose first piece is `at` bytes from the warp's first one. In the last step there are `left` bytes of a
    /// row for all warps, if not every lane has its own.
    fn new(k: &mut KernelBuilder, thread: Thread, (at, apart): (Reg<U32>, u32), left: Option<u32>) -> Self {
        let lane = thread.lane_in_warp;
        let second = k.add(at, apart);
        let own = k.mul(lane, 16);
        let [copied, first, second] = [own, at, second].map(|at| {
            let at = swizzled(k, at, apart);
            k.add(at, thread.ring)
        });
        let last = left.map(|left| {
            let start = k.mad(thread.warp, HALVES, own);
            [0, HALVES / 2].map(|half| {
                let at = k.add(start, half);
                k.lt(at, left)
            })
        });
        Self { copied, read: [first, second], last }
    }
}

/// Bytes that come in halves.
const HALVES: u32 = 2 * 16 * WARP;

/// Where in shared memory the byte is that is number `at` in memory: every other 128 bytes, pieces that are `apart` bytes
/// from each other change places. Eight lanes that read 16 bytes each then use all banks.
fn swizzled(k: &mut KernelBuilder, at: Reg<U32>, apart: u32) -> Reg<U32> {
    let odd = k.bfe(at, 7, 1);
    let other = k.shl(odd, apart.ilog2());
    k.xor(at, other)
}

impl Lane {
    /// Where the lane's own piece is in a slot.
    fn place(&self, k: &mut KernelBuilder, slot: Slot, piece: &Piece) -> Option<Addr<U32>> {
        let first = match piece.bytes {
            16 => self.first[0],
            8 => self.first[1],
            _ => self.first[2],
        };
        first.map(|first| slot.at(k, first, piece.at))
    }
}

impl Slot {
    /// The slot that begins so many bytes from the first: some, and a constant number.
    pub(super) const fn new(start: Option<Reg<U32>>, offset: u32) -> Self {
        Self { start, offset }
    }

    /// The same, `bytes` further on.
    pub(super) const fn after(self, bytes: u32) -> Self {
        Self { offset: self.offset + bytes, ..self }
    }

    /// What is `bytes` from `first` in the first slot.
    fn at(self, k: &mut KernelBuilder, first: Reg<U32>, bytes: u32) -> Addr<U32> {
        let base = self.start.map_or(first, |start| k.add(first, start));
        base + (self.offset + bytes) as i32
    }
}

/// Waits until the copies of all but the last `pending` turns have arrived, those of all lanes.
pub(super) fn arrived(k: &mut KernelBuilder, pending: u32) {
    k.cp_async_wait(pending);
    k.warp_sync(ALL_LANES);
}

/// Waits until all lanes have read a slot, which may then be filled again.
pub(super) fn read_by_all(k: &mut KernelBuilder) {
    k.warp_sync(ALL_LANES);
}
