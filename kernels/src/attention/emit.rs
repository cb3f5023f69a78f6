//! The PTX of attention: which positions of which row and heads a block does, and where the result goes.

use ptx_builder::{KernelBuilder, Load, MemOrder, Module, Reg, Scope, Space, Target, U32, U64};

use super::Attention;
use super::lanes::Lanes;
use super::matrix::Matrix;
use super::plan::Plan;
use super::results::{Features, Outlet, Results};
use super::splits::{Division, Partials, Parts, Positions, arrive};
use crate::KernelError;
use crate::emit::{self, split};

pub(super) fn emit(kernel: &Attention, target: Target) -> Result<Module, KernelError> {
    emit::module_that_waits(kernel, target, |k, pointers| {
        let [q, keys, values, positions, sequences, y] = std::array::from_fn(|i| pointers[i]);
        let partials = match *pointers {
            [.., scratch, counters] if kernel.splits.several() => Some(Partials { scratch, counters }),
            _ => None,
        };
        body(k, kernel, Tensors { q, keys, values, positions, sequences, y }, partials);
    })
}

/// The parameters.
#[derive(Debug, Clone, Copy)]
struct Tensors {
    q: Reg<U64>,
    keys: Reg<U64>,
    values: Reg<U64>,
    positions: Reg<U64>,
    sequences: Reg<U64>,
    y: Reg<U64>,
}

/// What a block reads.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources {
    /// The queries of its first head.
    pub q: Reg<U64>,
    /// Position 0 of its key head.
    pub keys: Reg<U64>,
    /// Position 0 of its value head.
    pub values: Reg<U64>,
}

fn body(k: &mut KernelBuilder, kernel: &Attention, tensors: Tensors, partials: Option<Partials>) {
    if emit::overlaps(k.target()) {
        // A block of its own: nothing after it uses what it computes.
        let (ahead, row) = (k.label(), k.label());
        k.place(ahead, "ahead");
        fetch_ahead(k, kernel, &tensors);
        k.place(row, "row");
    }
    emit::wait(k);
    let place = Place::find(k, kernel, &tensors, Load::WEAK);
    let division = partials.map(|_| {
        let division = Division::of_row(k, kernel.splits, place.length);
        division.end_without_chunk(k);
        division
    });
    let y = place.head(k, kernel, tensors.y);
    let sources = Sources {
        q: place.head(k, kernel, tensors.q),
        keys: place.cached_head(k, kernel, tensors.keys),
        values: place.cached_head(k, kernel, tensors.values),
    };
    let results = Results::new(k, kernel);
    let workers = Workers::new(k, kernel, place.thread, sources);
    let (Some(partials), Some(division)) = (partials, division) else {
        workers.attend(k, kernel, Positions { first: None, end: place.length }, results);
        k.barrier();
        let outlet = Outlet::new(k, kernel, place.thread);
        Features::of_block(k, kernel, results, &outlet).store(k, &outlet, y);
        return;
    };
    let alone = k.le(division.chunks, 1);
    k.for_range(division.first, division.chunks, kernel.splits.blocks, |k, index| {
        let positions = division.positions(k, index);
        workers.attend(k, kernel, positions, results);
        k.barrier();
        let outlet = Outlet::new(k, kernel, place.thread);
        let features = Features::of_block(k, kernel, results, &outlet);
        k.if_(alone, |k| {
            features.store(k, &outlet, y);
            k.ret();
        });
        k.comment("leave the part of the chunk");
        Parts::find(k, kernel, partials.scratch, &outlet).leave(k, kernel, index, &features);
        // Before shared memory is used again, and before the part is counted.
        k.barrier();
    });
    arrive(k, kernel, &partials, &division, place.thread);
    let outlet = Outlet::new(k, kernel, place.thread);
    let parts = Parts::find(k, kernel, partials.scratch, &outlet);
    parts.total(k, division.chunks).store(k, &outlet, y);
}

/// Bytes of a line of the cache.
const LINE: u32 = 128;

/// Has the keys and values of the block's first chunk brought into the cache while the kernels before this one are still
/// at work. Nothing depends on it: what they write later is in the cache as well, and if they change a row's position or
/// sequence, then what is fetched is of no use, but lies inside the tensors whatever is read here.
fn fetch_ahead(k: &mut KernelBuilder, kernel: &Attention, tensors: &Tensors) {
    k.comment("a guess at what will be read");
    // Not through the first level, where it would stay.
    let place = Place::find(k, kernel, tensors, Load::WEAK.order(MemOrder::Relaxed(Scope::Gpu)));
    let (first, end) = if kernel.splits.several() {
        let division = Division::of_row(k, kernel.splits, place.length);
        let Positions { first, end } = division.positions(k, division.first);
        (first, end)
    } else {
        (None, place.length)
    };
    let row = kernel.cache.head_dim * kernel.cache.stored.bytes();
    let caches = [tensors.keys, tensors.values].map(|cache| {
        let head = place.cached_head(k, kernel, cache);
        first.map_or(head, |first| k.ptr_index(head, first, row))
    });
    let count = match first {
        Some(first) => {
            let first = k.min(first, end);
            k.sub(end, first)
        }
        None => end,
    };
    // Of a long chunk the first positions: more, and what the kernel before reads has to wait.
    let count = k.min(count, (kernel.plan.threads() * LINE).div_ceil(row));
    let bytes = k.mul(count, row);
    let offset = k.mul(place.thread, LINE);
    let inside = k.lt(offset, bytes);
    for cache in caches {
        let at = k.ptr_index(cache, offset, 1);
        k.guarded(inside, |k| k.prefetch_l2(at));
    }
}

/// The threads of the block at work on positions.
#[derive(Debug)]
enum Workers {
    Lanes(Lanes),
    Matrix(Matrix),
}

impl Workers {
    fn new(k: &mut KernelBuilder, kernel: &Attention, thread: Reg<U32>, sources: Sources) -> Self {
        match kernel.plan {
            Plan::Lanes(plan) => Self::Lanes(Lanes::new(k, kernel, plan, thread, sources)),
            Plan::Matrix(plan) => Self::Matrix(Matrix::new(k, kernel, plan, thread, sources)),
        }
    }

    /// Attends to `positions` and leaves what each warp knows of each head in `results`.
    fn attend(&self, k: &mut KernelBuilder, kernel: &Attention, positions: Positions, results: Results) {
        match self {
            Self::Lanes(lanes) => lanes.attend(k, kernel, positions, results),
            Self::Matrix(matrix) => matrix.attend(k, kernel, positions, results),
        }
    }
}

/// Which row and heads this block does.
#[derive(Debug, Clone, Copy)]
struct Place {
    thread: Reg<U32>,
    /// The row and, within it, the set of heads.
    row_set: Reg<U32>,
    /// Which of the sets of heads that a row is divided into.
    set: Reg<U32>,
    sequence: Reg<U32>,
    /// Positions to attend to; 0 if the row lies outside the cache, from which NaNs follow: 0 divided by 0.
    length: Reg<U32>,
}

impl Place {
    fn find(k: &mut KernelBuilder, kernel: &Attention, tensors: &Tensors, how: Load) -> Self {
        let (thread, row_set) = (k.tid_x(), k.ctaid_x());
        let sets = kernel.sets();
        let (row, set) = split(k, row_set, u64::from(kernel.rows) * u64::from(sets), sets);
        let [position, sequence] = [tensors.positions, tensors.sequences].map(|leaf| {
            let at = k.ptr_index(leaf, row, 4);
            k.load::<U32>(Space::Global, how, at)
        });
        k.comment("a row outside the cache attends to nothing");
        let position_inside = k.lt(position, kernel.cache.max_seq);
        let sequence_inside = k.lt(sequence, kernel.cache.n_sequences);
        let inside = k.and_pred(position_inside, sequence_inside);
        let length = k.add(position, 1);
        let length = k.selp(inside, length, 0);
        let length = k.name(length, "length");
        let sequence = k.selp(inside, sequence, 0);
        Self { thread, row_set, set, sequence, length }
    }

    /// The address of the block's first head in queries or results.
    fn head(&self, k: &mut KernelBuilder, kernel: &Attention, base: Reg<U64>) -> Reg<U64> {
        k.ptr_index(base, self.row_set, kernel.plan.heads() * kernel.cache.head_dim * 4)
    }

    /// The address of position 0 of the block's key head in a cache.
    fn cached_head(&self, k: &mut KernelBuilder, kernel: &Attention, cache: Reg<U64>) -> Reg<U64> {
        let kv_head = match kernel.sets() / kernel.cache.n_kv_heads {
            1 => self.set,
            sets_per_head => k.div(self.set, sets_per_head),
        };
        let head = k.mad(self.sequence, kernel.cache.n_kv_heads, kv_head);
        let head = k.widen(head);
        k.mad(head, kernel.cache.head_elements() * u64::from(kernel.cache.stored.bytes()), cache)
    }
}
