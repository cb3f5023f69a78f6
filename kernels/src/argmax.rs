//! The index of the largest value of rows.

use ptx_builder::{
    AtomOp, AtomOrder, Atomic, F32, FULL_WARP, KernelBuilder, Load, Module, Reg, Scope, Space, Target, U32,
    U64,
};
use tensor_formats::ElementType;

use crate::cases::Case;
use crate::emit;
use crate::random::Random;
use crate::support::{WARP, boxed, dim, dim_up_to, extent, f32_param, f32_vector, known};
use crate::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};

const FAMILY: &str = "argmax";

/// `y[r]` = the lowest `i` for which `x[r, i]` is the largest of the row.
///
/// A NaN never wins. A row with nothing above -inf gives `u32::MAX`. Several blocks share a long row: each offers its
/// best, and the last to do so knows the best of all. What is better does not depend on who compares it, so neither does
/// the result.
///
/// Parameters: `x` `[rows, n]` f32, `y` `[rows]` u32. Where a row has several blocks, then `best` ([`Access::Counter`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argmax {
    rows: u32,
    n: u32,
    plan: Plan,
}

/// How the elements of a row are spread over its blocks, in units of what a thread loads at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Plan {
    /// Elements of a unit: 4 if every row starts on 16 bytes, else 1.
    vector: u32,
    units: u32,
    /// Threads of a block.
    threads: u32,
    /// Blocks of a row.
    blocks: u32,
    /// Loads of a thread that are in flight together.
    unroll: u32,
}

impl Plan {
    const MAX_N: usize = 1 << 28;
    const MAX_THREADS: u32 = 256;
    const MAX_UNROLL: u32 = 4;
    /// Blocks that are enough to read a row as fast as the device can.
    const MAX_BLOCKS: u32 = 128;

    fn new(n: u32) -> Self {
        let vector = f32_vector(n);
        let units = n / vector;
        let threads = units.next_multiple_of(WARP).min(Self::MAX_THREADS);
        // One block does alone what its threads load together: meeting others takes longer.
        let each = match units.div_ceil(threads) {
            loads if loads <= Self::MAX_UNROLL => loads,
            loads => loads.div_ceil(Self::MAX_BLOCKS),
        };
        let blocks = units.div_ceil(threads * each);
        Self { vector, units, threads, blocks, unroll: each.min(Self::MAX_UNROLL) }
    }
}

/// Bytes of what the blocks of a row share: the best so far as 64 bits, and how many blocks have offered theirs.
pub(crate) const SHARED_BYTES: u32 = 16;

impl Argmax {
    /// The kernel for `rows` rows of `n` values.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] for `rows` of 0 or beyond 2^31, `n` of 0 or beyond 2^28.
    pub fn new(rows: usize, n: usize) -> Result<Self, KernelError> {
        let (rows, n) = (dim(FAMILY, "rows", rows)?, dim_up_to(FAMILY, "n", n, Plan::MAX_N)?);
        extent(FAMILY, "x", &[rows, n])?;
        Ok(Self { rows, n, plan: Plan::new(n) })
    }

    /// What the kernel computes.
    ///
    /// # Panics
    /// If `x` does not have the length of the parameter.
    pub fn reference(&self, x: &[f32]) -> Vec<u32> {
        assert_eq!(x.len(), self.rows as usize * self.n as usize);
        x.chunks(self.n as usize).map(|row| first_largest(row.iter().map(|&v| v.into()))).collect()
    }
}

/// What [`Argmax`] gives for a row of these values.
pub(crate) fn first_largest(row: impl Iterator<Item = f64>) -> u32 {
    let none = (f64::NEG_INFINITY, u32::MAX);
    (0..).zip(row).fold(none, |best, (i, v)| if v > best.0 { (v, i) } else { best }).1
}

impl Kernel for Argmax {
    fn name(&self) -> String {
        format!("argmax_f32_n{}_b{}", self.n, self.rows)
    }

    fn params(&self) -> Vec<Param> {
        let rows = u64::from(self.rows);
        let of_u32 =
            |name, access, bytes, align| Param { name, access, element: ElementType::U32, bytes, align };
        let mut params = vec![
            f32_param("x", Access::Read, rows * u64::from(self.n), self.plan.vector * 4),
            of_u32("y", Access::Write, rows * 4, 4),
        ];
        if self.plan.blocks > 1 {
            params.push(of_u32("best", Access::Counter, rows * u64::from(SHARED_BYTES), 8));
        }
        params
    }

    fn geometry(&self) -> LaunchGeometry {
        LaunchGeometry {
            grid: [self.rows, self.plan.blocks, 1],
            block: [self.plan.threads, 1, 1],
            dynamic_shared: 0,
        }
    }

    fn cost(&self, _context: u64) -> Cost {
        let (rows, n) = (u64::from(self.rows), u64::from(self.n));
        Cost { bytes_read: rows * n * 4, bytes_written: rows * 4, operations: rows * n }
    }

    fn emit(&self, target: Target) -> Result<Module, KernelError> {
        if self.plan.blocks > 1 {
            emit::module(self, target, |k, [x, y, best]| self.body(k, x, y, Some(best)))
        } else {
            emit::module(self, target, |k, [x, y]| self.body(k, x, y, None))
        }
    }
}

/// The largest value so far and where it is first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Best {
    /// The value as an integer in the order of values; 0 if there is none.
    pub key: Reg<U32>,
    /// `u32::MAX` if there is none.
    pub index: Reg<U32>,
}

impl Best {
    /// `value` at `index`, or none: -inf at `u32::MAX`.
    pub fn new(k: &mut KernelBuilder, value: Reg<F32>, index: Reg<U32>) -> Self {
        // One zero of the two.
        let value = k.add(value, 0.0);
        let bits = k.f32_to_bits(value).cast::<U32>();
        let negative = k.lt(value, 0.0);
        let flip = k.selp(negative, u32::MAX, 1 << 31);
        let key = k.xor(bits, flip);
        let some = k.gt(value, f32::NEG_INFINITY);
        Self { key: k.selp(some, key, 0), index }
    }

    /// As one integer, of which the largest is the best: of equals the one with the larger complement of its index.
    pub fn offer(self, k: &mut KernelBuilder) -> Reg<U64> {
        let place = k.not(self.index);
        k.pack64(place, self.key).cast::<U64>()
    }

    /// What was [offered](Self::offer).
    pub fn of_offer(k: &mut KernelBuilder, offer: Reg<U64>) -> Self {
        let [place, key] = k.unpack64::<U32>(offer);
        Self { key, index: k.not(place) }
    }

    /// The best of the warp, in every lane.
    fn of_warp(self, k: &mut KernelBuilder) -> Self {
        let redux = k.target() >= Target::SM_80;
        let key = if redux { k.redux_max(self.key, FULL_WARP) } else { k.warp_max(self.key) };
        let is_best = k.eq(self.key, key);
        let index = k.selp(is_best, self.index, u32::MAX);
        let index = if redux { k.redux_min(index, FULL_WARP) } else { k.warp_min(index) };
        Self { key, index }
    }

    /// The best of a block of so many threads, at least in the first warp.
    pub fn of_block(self, k: &mut KernelBuilder, thread: Reg<U32>, threads: u32) -> Self {
        let best = self.of_warp(k);
        let warps = threads / WARP;
        if warps == 1 {
            return best;
        }
        let [keys, indices] = ["keys", "indices"].map(|name| k.shared::<U32>(name, warps));
        let (warp, lane) = (k.shr(thread, 5), k.and(thread, WARP - 1));
        let [key_slot, index_slot] = [keys, indices].map(|array| k.shared_index(array, warp));
        let first = k.eq(lane, 0);
        k.guarded(first, |k| {
            k.st_shared::<U32>(key_slot, best.key);
            k.st_shared::<U32>(index_slot, best.index);
        });
        k.barrier();
        // Lanes beyond the last warp repeat it, which changes nothing.
        let slot = k.min(lane, warps - 1);
        let [key_slot, index_slot] = [keys, indices].map(|array| k.shared_index(array, slot));
        let part = Self { key: k.ld_shared::<U32>(key_slot), index: k.ld_shared::<U32>(index_slot) };
        part.of_warp(k)
    }

    /// The best of all `blocks` blocks of a row, each of which offers its own to `shared`, [`SHARED_BYTES`] that are
    /// zeros before and after. One thread of a block does this, and only that of the last block goes on.
    pub fn of_blocks(self, k: &mut KernelBuilder, shared: Reg<U64>, blocks: u32) -> Self {
        k.comment("offer the best of the block");
        let offer = self.offer(k);
        k.red::<U64>(Atomic::GLOBAL, AtomOp::Max, shared, offer);
        // Releases the offer, and acquires those of the blocks before.
        let order = Atomic::GLOBAL.order(AtomOrder::AcqRel, Scope::Gpu);
        let others = blocks - 1;
        let found = k.atom::<U32>(order, AtomOp::Inc, shared + 8, others);
        let is_last = k.eq(found, others);
        k.ret_if(!is_last);
        let of_row = k.atom::<U64>(Atomic::GLOBAL, AtomOp::Exch, shared, 0);
        Self::of_offer(k, of_row)
    }
}

impl Argmax {
    fn body(&self, k: &mut KernelBuilder, x: Reg<U64>, y: Reg<U64>, best: Option<Reg<U64>>) {
        let thread = k.tid_x();
        let of_thread = self.of_thread(k, thread, x);
        let of_block = of_thread.of_block(k, thread, self.plan.threads);
        let row = k.ctaid_x();
        let y = k.ptr_index(y, row, 4);
        let first = k.eq(thread, 0);
        let Some(best) = best else {
            k.guarded(first, |k| k.st_global::<U32>(y, of_block.index));
            return;
        };
        k.ret_if(!first);
        let best = k.ptr_index(best, row, SHARED_BYTES);
        let of_row = of_block.of_blocks(k, best, self.plan.blocks);
        k.st_global::<U32>(y, of_row.index);
    }

    /// The best that the thread sees of its row.
    fn of_thread(&self, k: &mut KernelBuilder, thread: Reg<U32>, x: Reg<U64>) -> Best {
        let Plan { vector, units, threads, blocks, unroll } = self.plan;
        let row = k.ctaid_x();
        let row = k.ptr_index(x, row, units * vector * 4);
        let value = k.named_var::<F32>("best", f32::NEG_INFINITY);
        let index = k.named_var::<U32>("best_index", u32::MAX);
        let start = if blocks == 1 {
            thread
        } else {
            let block = k.ctaid_y();
            k.mad(block, threads, thread)
        };
        let step = |k: &mut KernelBuilder, first: Reg<U32>| {
            let loads: Vec<_> = (0..unroll)
                .map(|u| {
                    let unit = if u == 0 { first } else { k.add(first, u * blocks * threads) };
                    let at = k.ptr_index(row, unit, vector * 4);
                    let inside = k.lt(unit, units);
                    let none = f32::NEG_INFINITY;
                    let values = match vector {
                        4 => k.load_v4_or::<F32>(inside, Space::Global, Load::WEAK, at, none).to_vec(),
                        _ => vec![k.load_or::<F32>(inside, Space::Global, Load::WEAK, at, none)],
                    };
                    (unit, values)
                })
                .collect();
            // A thread sees its elements in ascending order, so that "greater" keeps the first of equals.
            for (unit, values) in loads {
                for (lane, v) in (0..).zip(values) {
                    let better = k.gt(v, value);
                    let here = if vector == 1 { unit } else { k.mad(unit, vector, lane) };
                    k.update(value, |k, best| k.selp(better, v, best));
                    k.update(index, |k, best| k.selp(better, here, best));
                }
            }
        };
        let stride = unroll * blocks * threads;
        if units <= stride {
            step(k, start);
        } else {
            k.for_range(start, units, stride, step);
        }
        let (value, index) = (k.get(value), k.get(index));
        Best::new(k, value, index)
    }
}

/// The kernels of this family that tools iterate over.
pub(crate) fn catalogue() -> Vec<Box<dyn Kernel>> {
    let shapes = [(1, 64), (2, 77), (1, 32_000), (8, 128_256), (1, 151_936)];
    shapes.into_iter().map(|(rows, n)| boxed(Argmax::new(rows, n))).collect()
}

/// The conformance cases of this family.
pub(crate) fn cases() -> Vec<Case> {
    let case = |rows: usize, n: usize, data: &str, x: &[f32]| {
        let kernel = known(Argmax::new(rows, n));
        let y = kernel.reference(x);
        Case::new(kernel, data).with_f32("x", x).expect_u32("y", &y)
    };
    let random = |rows: usize, n: usize| case(rows, n, "", &Random::new((rows * n) as u64).f32s(rows * n));
    // Few distinct values: every row has many equal maxima, in all lanes and warps.
    let ties = |rows: usize, n: usize| {
        let mut random = Random::new((rows * n) as u64);
        let x: Vec<f32> = (0..rows * n).map(|_| random.below(3) as f32).collect();
        case(rows, n, "ties", &x)
    };
    let only = |n: usize, at: usize, value: f32, others: f32, data: &str| {
        let mut x = vec![others; n];
        x[at] = value;
        case(1, n, data, &x)
    };
    let (inf, nan) = (f32::INFINITY, f32::NAN);
    // Beside a row of zeros: no index is what nobody has written, too.
    let none = |n: usize, row: Vec<f32>, data: &str| case(2, n, data, &[row, vec![0.0; n]].concat());
    let mut cases: Vec<Case> = [1, 2, 5, 8, 9, 16, 32].into_iter().map(|rows| random(rows, 1000)).collect();
    // One block with one load and with four; two blocks; many; as many as there are, and more loads than fly together.
    let sizes = [
        1, 2, 3, 31, 33, 255, 257, 1023, 1025, 4096, 4100, 32_000, 50_257, 128_256, 131_077, 151_936, 600_004,
    ];
    cases.extend(sizes.map(|n| random(2, n)));
    // Enough rows that the largest element is once in every place of the unrolled loop and of its tail.
    cases.extend([1023, 8191, 20_000, 20_481].map(|n| random(96, n)));
    cases.extend([5, 64, 4097, 8192, 50_257].map(|n| ties(3, n)));
    for at in [0, 1, 31, 32, 4095, 4096, 9998, 9999] {
        cases.push(only(10_000, at, -1.0, -2.0, &format!("at_{at}")));
        cases.push(only(10_001, at, -3.0e38, -inf, &format!("above_minus_inf_at_{at}")));
    }
    // Equal everywhere: the first wins, in the unrolled loop and in its tail, with and without vectors.
    cases.extend([1023, 20_481, 20_484].map(|n| case(1, n, "equal", &vec![0.5; n])));
    // A row for each end of what one instruction of the row's blocks loads.
    cases.extend([5 * 1024 + 1, 4 * (5 * 1024 + 1)].map(|n: usize| {
        let plan = Plan::new(n as u32);
        let once = (plan.vector * plan.threads) as usize;
        let ends: Vec<usize> = (0..n).step_by(once * 5).flat_map(|i| [i, (i + once).min(n) - 1]).collect();
        let mut x = vec![-1.0; ends.len() * n];
        ends.iter().zip(x.chunks_exact_mut(n)).for_each(|(&at, row)| row[at] = 1.0);
        case(ends.len(), n, "ends", &x)
    }));
    // The first and the last of equals in different blocks; the last block has them alone.
    cases.push(case(1, 40_000, "equal_ends", &{
        let mut x = vec![-2.5; 40_000];
        [20_000, 39_999].into_iter().for_each(|at| x[at] = -0.5);
        x
    }));
    let mut nans = vec![nan; 40_001];
    nans[40_000] = -inf;
    cases.push(none(40_001, nans, "all_nan_but_minus_inf"));
    cases.push(only(4096, 4000, nan, -5.0, "nan_among_equals"));
    cases.push(only(4096, 0, nan, -5.0, "nan_first"));
    cases.push(only(4096, 77, 1.0, nan, "one_number"));
    cases.push(only(4096, 99, inf, 1.0, "inf"));
    cases.push(none(4096, vec![nan; 4096], "all_nan"));
    cases.push(none(4097, vec![-inf; 4097], "all_minus_inf"));
    cases.push(case(1, 8, "signed_zeros", &[-1.0, -0.0, 0.0, -0.0, 0.0, 0.0, -1.0, -2.0]));
    cases.push(case(1, 40_000, "signed_zeros_of_blocks", &{
        let mut x = vec![-1.0; 40_000];
        (30_001..).step_by(2).zip([-0.0, 0.0, 0.0, -0.0]).for_each(|(at, zero)| x[at] = zero);
        x
    }));
    cases
}
