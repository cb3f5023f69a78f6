//! Keys and values on their way: each warp has a ring of slots in shared memory that background copies fill.
//!
//! A slot holds the keys and the values of a warp's step. They are copied by whole rows, so by whole lines, and bytes in
//! flight cost no registers. Rows begin on lines of shared memory, and their pieces of 16 bytes are exchanged: piece `i`
//! of row `r` is at `i ^ exchange(r)`, so that what eight lanes read together is in different banks, whether these are
//! four pieces of two neighbouring rows, as of keys, or two pieces of every other of eight rows, as of values.

use ptx_builder::{Addr, KernelBuilder, Pred, Reg, Target, U32, U64, Var};

use super::{COLUMNS, MatrixPlan};
use crate::attention::Attention;
use crate::attention::emit::Sources;
use crate::emit;
use crate::support::{ALL_LANES, WARP};

/// The first target whose blocks have room for rings.
pub(in crate::attention) const MIN_TARGET: Target = Target::SM_90;

/// A line of shared memory.
const LINE: u32 = 128;

/// Bytes of a copy.
const PIECE: u32 = 16;

/// Slots at most, and at least: with fewer, loads a step ahead into registers are faster.
const MOST_SLOTS: u32 = 4;
const FEWEST_SLOTS: u32 = 3;

/// How rows lie in a slot.
#[derive(Debug, Clone, Copy)]
struct Layout {
    row_bytes: u32,
    slots: u32,
}

impl Layout {
    const fn new(kernel: &Attention, slots: u32) -> Self {
        Self { row_bytes: kernel.cache.head_dim * kernel.cache.stored.bytes(), slots }
    }

    /// From one row to the next.
    const fn stride(self) -> u32 {
        self.row_bytes.next_multiple_of(LINE)
    }

    /// Of the keys or values of a step.
    const fn tile_bytes(self) -> u32 {
        MatrixPlan::TILE * self.stride()
    }

    const fn slot_bytes(self) -> u32 {
        2 * self.tile_bytes()
    }

    /// Lanes that copy a row together, a power of two; not all of them have a piece.
    fn row_lanes(self) -> u32 {
        (self.row_bytes / PIECE).next_power_of_two().max(WARP / MatrixPlan::TILE)
    }
}

/// Bytes of shared memory for rings of `slots` slots, one for each warp of a block.
pub(in crate::attention) const fn bytes(kernel: &Attention, slots: u32) -> u32 {
    MatrixPlan::WARPS * slots * Layout::new(kernel, slots).slot_bytes()
}

/// Slots for which `bytes` of shared memory have room, if they are enough.
pub(in crate::attention) fn slots(kernel: &Attention, bytes: u32) -> Option<u32> {
    let slots = bytes / self::bytes(kernel, 1);
    (slots >= FEWEST_SLOTS).then_some(slots.min(MOST_SLOTS))
}

/// What is exchanged with the number of a piece, by 16 for its address: bit 0 of the row moves it by four pieces, bits 1
/// and 2 by two and four.
fn exchange(k: &mut KernelBuilder, row: Reg<U32>) -> Reg<U32> {
    let pairs = k.and(row, 6);
    let odd = k.and(row, 1);
    let odd = k.shl(odd, 2);
    let exchange = k.xor(pairs, odd);
    k.shl(exchange, 4)
}

/// The same for a known row.
const fn exchange_of(row: u32) -> u32 {
    ((row & 6) ^ ((row & 1) << 2)) * PIECE
}

/// A position, one past the last one of the chunk, and the last one.
type Extent = (Reg<U32>, Reg<U32>, Reg<U32>);

/// A warp's ring.
#[derive(Debug)]
pub(super) struct Ring {
    layout: Layout,
    /// The first slot.
    start: Reg<U32>,
    /// Bytes from there to the slot of the next step.
    current: Var<U32>,
    /// What the lane copies: its row of every copy, ...
    copied_row: Reg<U32>,
    /// ... whether it has a piece of it, if not all lanes have, ...
    copies: Option<Pred>,
    /// ... where it is in a tile, ...
    copied: Reg<U32>,
    /// ... and in position 0 of the caches.
    from: [Reg<U64>; 2],
    /// Where in a tile the lane finds its first features of the keys of position `g`, and of the values of positions
    /// `2 t` and `2 t + 1`.
    keys: Reg<U32>,
    values: [Reg<U32>; 2],
}

impl Ring {
    pub fn new(
        k: &mut KernelBuilder,
        kernel: &Attention,
        slots: u32,
        (warp, lane): (Reg<U32>, Reg<U32>),
        sources: Sources,
    ) -> Self {
        let layout = Layout::new(kernel, slots);
        let start = k.dynamic_shared(LINE);
        let start = k.mad(warp, layout.slots * layout.slot_bytes(), start);
        let row_lanes = layout.row_lanes();
        let (copied_row, piece) = (k.shr(lane, row_lanes.ilog2()), k.and(lane, row_lanes - 1));
        let has = layout.row_bytes < row_lanes * PIECE;
        let copies = has.then(|| k.lt(piece, layout.row_bytes / PIECE));
        let byte = k.mul(piece, PIECE);
        let place = |k: &mut KernelBuilder, row: Reg<U32>, byte: Reg<U32>| {
            let exchange = exchange(k, row);
            let byte = k.xor(byte, exchange);
            k.mad(row, layout.stride(), byte)
        };
        let copied = place(k, copied_row, byte);
        let (row, of_four) = (k.shr(lane, 2), k.and(lane, 3));
        let features = MatrixPlan::PIECE * kernel.cache.stored.bytes();
        let byte = k.mul(of_four, features);
        let keys = place(k, row, byte);
        let byte = k.mul(row, features);
        let even = k.shl(of_four, 1);
        let even = place(k, even, byte);
        let odd = k.xor(even, exchange_of(1));
        let values = [even, k.add(odd, layout.stride())];
        let piece = k.mul(piece, PIECE);
        let from = [sources.keys, sources.values].map(|cache| k.ptr_index(cache, piece, 1));
        Self {
            layout,
            start,
            current: k.named_var::<U32>("slot", 0),
            copied_row,
            copies,
            copied,
            from,
            keys,
            values,
        }
    }

    /// Emits the copies of the first steps from position `first` on; see [`fetch`](Self::fetch).
    pub fn begin(&self, k: &mut KernelBuilder, (first, end, last): Extent) {
        k.set(self.current, 0);
        for slot in 0..self.layout.slots {
            let base = if slot == 0 { first } else { k.add(first, slot * MatrixPlan::STEP) };
            let to = k.add(self.start, slot * self.layout.slot_bytes());
            self.fetch(k, to, (base, end, last));
        }
        self.asked(k, first, end);
    }

    /// Lets the next kernel begin if all copies of the warp are asked for, with those of the ring's slots from the step at
    /// `base` on.
    fn asked(&self, k: &mut KernelBuilder, base: Reg<U32>, end: Reg<U32>) {
        let left = k.add(base, self.layout.slots * MatrixPlan::STEP);
        let all = k.ge(left, end);
        k.if_(all, emit::let_next_begin);
    }

    /// Waits for the next step, and returns its slot.
    pub fn arrived(&self, k: &mut KernelBuilder) -> Reg<U32> {
        k.cp_async_wait(self.layout.slots - 1);
        k.warp_sync(ALL_LANES);
        k.add(self.start, self.current)
    }

    /// Emits the copies of the step that takes the place of that from `base` on, whose `slot` no lane reads any more.
    pub fn next(&self, k: &mut KernelBuilder, slot: Reg<U32>, (base, end, last): Extent) {
        k.warp_sync(ALL_LANES);
        let ahead = k.add(base, self.layout.slots * MatrixPlan::STEP);
        self.fetch(k, slot, (ahead, end, last));
        let next = k.add(base, MatrixPlan::STEP);
        self.asked(k, next, end);
        k.update(self.current, |k, current| {
            let next = k.add(current, self.layout.slot_bytes());
            let wraps = k.ge(next, self.layout.slots * self.layout.slot_bytes());
            k.selp(wraps, 0, next)
        });
    }

    /// Emits the copies of the positions from `base` on, if there are any before `end`; instead of those beyond `last`, of
    /// that one.
    fn fetch(&self, k: &mut KernelBuilder, slot: Reg<U32>, (base, end, last): Extent) {
        let any = k.lt(base, end);
        k.if_(any, |k| {
            let to = k.add(slot, self.copied);
            let first = k.add(base, self.copied_row);
            let rows = WARP / self.layout.row_lanes();
            for row in (0..MatrixPlan::TILE).step_by(rows as usize) {
                let position = if row == 0 { first } else { k.add(first, row) };
                let position = k.min(position, last);
                // The lane's row and `row` have no bits in common.
                let to = match exchange_of(row) {
                    0 => to,
                    exchange => k.xor(to, exchange),
                };
                for (tile, from) in (0..).zip(self.from) {
                    let from = k.ptr_index(from, position, self.layout.row_bytes);
                    let to = to + (row * self.layout.stride() + tile * self.layout.tile_bytes()) as i32;
                    match self.copies {
                        Some(copies) => k.guarded(copies, |k| k.cp_async_cg(to, from)),
                        None => k.cp_async_cg(to, from),
                    }
                }
            }
        });
        k.cp_async_commit();
    }

    /// Where the keys of positions `g` and `g + 8` begin in `slot`, and the values of the lane's four positions.
    pub fn rows(&self, k: &mut KernelBuilder, slot: Reg<U32>) -> ([Reg<U32>; 2], [Reg<U32>; 4]) {
        let keys = k.add(slot, self.keys);
        let eight = 8 * self.layout.stride();
        let keys = [keys, k.add(keys, eight)];
        let values = COLUMNS.map(|position| {
            let at = k.add(slot, self.values[position as usize % 2]);
            k.add(at, self.layout.tile_bytes() + position / 8 * eight)
        });
        (keys, values)
    }
}

/// What is `bytes` further in a row whose first piece is at `row`.
pub(super) fn further(k: &mut KernelBuilder, row: Reg<U32>, bytes: u32) -> Addr<U32> {
    let within = bytes % LINE;
    let row = if within == 0 { row } else { k.xor(row, within) };
    row + (bytes - within) as i32
}
