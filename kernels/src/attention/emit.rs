//! The PTX of attention: which positions of which row and heads a block does, and where the result goes.

use ptx_builder::{KernelBuilder, Load, MemOrder, Module, Reg, Scope, Space, Target, U32, U64};

use super::Attention;
use super::lanes::Lanes;
use super::matrix::{Matrix, operands};
use super::partials::{Partials, Parts, arrive};
use super::peers::Peers;
use super::plan::Plan;
use super::results::{Features, Outlet, Results};
use super::splits::{Division, Positions};
use crate::KernelError;
use crate::emit::{self, split};
use crate::support::ALL_LANES;

pub(super) fn emit(kernel: &Attention, target: Target) -> Result<Module, KernelError> {
    emit::module_that_waits(kernel, target, |k, pointers| {
        let [q, keys, values, positions, sequences, y] = std::array::from_fn(|i| pointers[i]);
        let partials = match *pointers {
            [.., scratch, counters] if kernel.meets_in_global() => Some(Partials { scratch, counters }),
            _ => None,
        };
        if kernel.slots().is_some() {
            // They take most of a processor's shared memory: there is no second block.
            k.minnctapersm(1);
        }
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
    let row = Row::of_block(k, kernel);
    let results = Results::new(k, kernel);
    let peers = kernel.splits.clustered.then(|| Peers::begin(k, kernel, row.thread));
    let Work { division, first, y, workers } = Work::begin(k, kernel, tensors, row);
    let Some(division) = division else {
        workers.attend(k, kernel, first, results);
        k.barrier();
        let outlet = Outlet::new(k, kernel, row.thread);
        let features = Features::of_block(k, kernel, results, &outlet);
        features.store(k, (outlet.place, Some(outlet.stores)), y);
        return;
    };
    if peers.is_some() {
        k.comment("nobody is sent parts before having begun");
        k.cluster_wait();
    }
    let chunks = division.chunks(k);
    division.end_idle(k, chunks);
    let alone = k.le(chunks, 1);
    if let Some(peers) = &peers {
        peers.expect(k, row.thread, chunks);
    }
    let chunk = |k: &mut KernelBuilder, index: Reg<U32>, positions: Positions, next: Option<Reg<U32>>| {
        workers.attend(k, kernel, positions, results);
        if let Some(next) = next {
            let more = k.lt(next, chunks);
            k.if_(more, |k| {
                let positions = division.positions(k, next);
                workers.begin(k, positions);
            });
        }
        k.barrier();
        let outlet = Outlet::new(k, kernel, row.thread);
        let features = Features::of_block(k, kernel, results, &outlet);
        k.if_(alone, |k| {
            features.store(k, (outlet.place, Some(outlet.stores)), y);
            k.ret();
        });
        k.comment("leave the part of the chunk");
        if let Some(peers) = &peers {
            peers.send(k, index, &outlet, &features);
        }
        if let Some(partials) = &partials {
            Parts::find(k, kernel, partials.scratch, &outlet).leave(k, kernel, index, &features);
        }
        if partials.is_some() || next.is_some() {
            // Before the part is counted, and before shared memory is used again.
            k.barrier();
        }
    };
    if kernel.splits.one_each() {
        let has = peers.is_some().then(|| k.lt(division.first, chunks));
        emit::where_(k, has, |k| chunk(k, division.first, first, None));
    } else {
        k.for_range(division.first, chunks, kernel.splits.blocks, |k, index| {
            let positions = division.positions(k, index);
            let next = k.add(index, kernel.splits.blocks);
            chunk(k, index, positions, Some(next));
        });
    }
    if let Some(peers) = &peers {
        // Blocks without a chunk have had nothing to ask for.
        emit::let_next_begin(k);
        peers.finish(k, row.thread, chunks, y);
    }
    if let Some(partials) = &partials {
        arrive(k, kernel, partials, chunks, row.thread);
        let outlet = Outlet::new(k, kernel, row.thread);
        let parts = Parts::find(k, kernel, partials.scratch, &outlet);
        parts.total(k, chunks).store(k, (outlet.place, Some(outlet.stores)), y);
    }
}

/// What a block does.
#[derive(Debug)]
struct Work {
    division: Option<Division>,
    /// The positions of its first chunk, or of the whole row.
    first: Positions,
    /// Its results.
    y: Reg<U64>,
    workers: Workers,
}

impl Work {
    /// Waits for the kernels before this one, and begins with the first positions. Where that wait is the kernel's, they
    /// are worked out before it, from what the row's position and sequence seem to be, and anew if they are others.
    fn begin(k: &mut KernelBuilder, kernel: &Attention, tensors: Tensors, row: Row) -> Self {
        let overlaps = emit::overlaps(k.target());
        if overlaps {
            k.comment("a guess at what will be read");
        }
        // Not through the first level, where it would stay.
        let how = if overlaps { Load::WEAK.order(MemOrder::Relaxed(Scope::Gpu)) } else { Load::WEAK };
        let [position, sequence] = row.belongs(k, &tensors, how);
        let [position, sequence] =
            [("position", position), ("sequence", sequence)].map(|(name, v)| k.named_var::<U32>(name, v));
        let again = k.label();
        k.place(again, "row");
        let belongs = [position, sequence].map(|guess| k.get(guess));
        let place = Place::find(k, kernel, row, belongs);
        let division = kernel.splits.several().then(|| Division::of_row(k, kernel.splits, place.length));
        let first = match division {
            Some(division) => division.positions(k, division.first),
            None => Positions { first: None, end: place.length },
        };
        let y = row.head(k, kernel, tensors.y);
        let sources = Sources {
            q: row.head(k, kernel, tensors.q),
            keys: place.cached_head(k, kernel, tensors.keys),
            values: place.cached_head(k, kernel, tensors.values),
        };
        let workers = Workers::new(k, kernel, row.thread, sources);
        if overlaps {
            fetch_ahead(k, kernel, row.thread, sources, first);
        }
        emit::wait(k);
        let now = overlaps.then(|| row.belongs(k, &tensors, Load::WEAK));
        // The first block of a row without positions attends, too.
        let attends = first.first.map(|position| {
            let end = k.max(first.end, 1);
            k.lt(position, end)
        });
        emit::where_(k, attends, |k| {
            let queries = workers.load_queries(k);
            workers.begin(k, first);
            // A warp lays out its part whether or not it has positions.
            workers.lay_out(k, queries);
        });
        if let Some(now) = now {
            k.comment("anew if it was not right");
            let [moved, other] = [0, 1].map(|i| {
                let guess = [position, sequence][i];
                let wrong = k.ne(guess, now[i]);
                k.set(guess, now[i]);
                wrong
            });
            let wrong = k.or_pred(moved, other);
            k.if_(wrong, |k| {
                k.cp_async_wait_all();
                k.bra(again);
            });
            // Lanes may have read different guesses.
            k.warp_sync(ALL_LANES);
        }
        Self { division, first, y, workers }
    }
}

/// Bytes of a line of the cache.
const LINE: u32 = 128;

/// Has the keys and values of the positions brought into the cache while the kernels before this one are still at work.
/// Nothing depends on it: what they write later is in the cache as well, and if they change a row's position or
/// sequence, then what is fetched is of no use, but lies inside the tensors whatever is read here.
fn fetch_ahead(
    k: &mut KernelBuilder,
    kernel: &Attention,
    thread: Reg<U32>,
    sources: Sources,
    Positions { first, end }: Positions,
) {
    let row = kernel.cache.head_dim * kernel.cache.stored.bytes();
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
    let offset = k.mul(thread, LINE);
    let inside = k.lt(offset, bytes);
    for head in [sources.keys, sources.values] {
        let at = first.map_or(head, |first| k.ptr_index(head, first, row));
        let at = k.ptr_index(at, offset, 1);
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

    /// Loads the queries, where they are [laid out](Self::lay_out).
    fn load_queries(&self, k: &mut KernelBuilder) -> Option<operands::Features> {
        match self {
            Self::Lanes(_) => None,
            Self::Matrix(matrix) => {
                let queries = matrix.load_queries(k);
                k.comment("before the copies, where ptxas would not leave it; perhaps without lanes that guessed right");
                let lanes = k.activemask();
                k.warp_sync(lanes);
                Some(queries)
            }
        }
    }

    /// Lays out the queries; [`attend`](Self::attend) begins with the barrier that has to follow.
    fn lay_out(&self, k: &mut KernelBuilder, queries: Option<operands::Features>) {
        if let (Self::Matrix(matrix), Some(queries)) = (self, queries) {
            matrix.lay_out(k, queries);
        }
    }

    /// Emits the first copies of the keys and values of `positions`, where there are copies in the background, and lets the
    /// next kernel begin: at once without them, with them when the last of `positions` are asked for, which may be in
    /// [`attend`](Self::attend). What the next kernel fetches would be in their way, and sooner in that of the kernels before.
    fn begin(&self, k: &mut KernelBuilder, positions: Positions) {
        match self {
            Self::Lanes(_) => emit::let_next_begin(k),
            Self::Matrix(matrix) => matrix.begin(k, positions),
        }
    }

    /// Attends to `positions`, which it has [begun](Self::begin) with, and leaves what each warp knows of each head in
    /// `results`.
    fn attend(&self, k: &mut KernelBuilder, kernel: &Attention, positions: Positions, results: Results) {
        match self {
            Self::Lanes(lanes) => lanes.attend(k, kernel, positions, results),
            Self::Matrix(matrix) => matrix.attend(k, kernel, positions, results),
        }
    }
}

/// Which row and heads this block does.
#[derive(Debug, Clone, Copy)]
struct Row {
    thread: Reg<U32>,
    row: Reg<U32>,
    /// The row and, within it, the set of heads.
    row_set: Reg<U32>,
    /// Which of the sets of heads that a row is divided into.
    set: Reg<U32>,
}

impl Row {
    fn of_block(k: &mut KernelBuilder, kernel: &Attention) -> Self {
        let (thread, row_set) = (k.tid_x(), k.ctaid_x());
        let sets = kernel.sets();
        let (row, set) = split(k, row_set, u64::from(kernel.rows) * u64::from(sets), sets);
        Self { thread, row, row_set, set }
    }

    /// Loads its position and its sequence.
    fn belongs(&self, k: &mut KernelBuilder, tensors: &Tensors, how: Load) -> [Reg<U32>; 2] {
        [tensors.positions, tensors.sequences].map(|leaf| {
            let at = k.ptr_index(leaf, self.row, 4);
            k.load::<U32>(Space::Global, how, at)
        })
    }

    /// The address of the block's first head in queries or results.
    fn head(&self, k: &mut KernelBuilder, kernel: &Attention, base: Reg<U64>) -> Reg<U64> {
        k.ptr_index(base, self.row_set, kernel.plan.heads() * kernel.cache.head_dim * 4)
    }
}

/// Where in the cache a row is.
#[derive(Debug, Clone, Copy)]
struct Place {
    row: Row,
    sequence: Reg<U32>,
    /// Positions to attend to; 0 if the row lies outside the cache, from which NaNs follow: 0 divided by 0.
    length: Reg<U32>,
}

impl Place {
    fn find(
        k: &mut KernelBuilder,
        kernel: &Attention,
        row: Row,
        [position, sequence]: [Reg<U32>; 2],
    ) -> Self {
        k.comment("a row outside the cache attends to nothing");
        let position_inside = k.lt(position, kernel.cache.max_seq);
        let sequence_inside = k.lt(sequence, kernel.cache.n_sequences);
        let inside = k.and_pred(position_inside, sequence_inside);
        let length = k.add(position, 1);
        let length = k.selp(inside, length, 0);
        let length = k.name(length, "length");
        let sequence = k.selp(inside, sequence, 0);
        Self { row, sequence, length }
    }

    /// The address of position 0 of the block's key head in a cache.
    fn cached_head(&self, k: &mut KernelBuilder, kernel: &Attention, cache: Reg<U64>) -> Reg<U64> {
        let kv_head = match kernel.sets() / kernel.cache.n_kv_heads {
            1 => self.row.set,
            sets_per_head => k.div(self.row.set, sets_per_head),
        };
        let head = k.mad(self.sequence, kernel.cache.n_kv_heads, kv_head);
        let head = k.widen(head);
        k.mad(head, kernel.cache.head_elements() * u64::from(kernel.cache.stored.bytes()), cache)
    }
}
