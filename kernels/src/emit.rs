//! What the emitters share: the frame of a kernel, vector accesses, index arithmetic, block reductions.

use ptx_builder::{F32, Function, KernelBuilder, Load, Module, Pred, Reg, Space, Target, U32, U64};

use crate::support::WARP;
use crate::{Kernel, KernelError, shared_memory};

/// log2(e): exponentials are taken to base 2.
pub(crate) const LOG2_E: f32 = std::f32::consts::LOG2_E;

/// The verified module of `kernel`: launch contract and pointers from its description, the rest from `build`, which
/// gets the pointers in the order of [`Kernel::params`].
///
/// # Panics
/// If the kernel does not have `N` parameters.
pub(crate) fn module<const N: usize>(
    kernel: &dyn Kernel,
    target: Target,
    build: impl FnOnce(&mut KernelBuilder, [Reg<U64>; N]),
) -> Result<Module, KernelError> {
    assert_eq!(kernel.params().len(), N, "{} is emitted with another number of parameters", kernel.name());
    module_that_waits(kernel, target, |k, pointers| {
        let_next_begin(k);
        wait(k);
        build(k, std::array::from_fn(|i| pointers[i]));
    })
}

/// [`module`] for a kernel that calls [`let_next_begin`] and [`wait`] itself, on every path, and before that wait touches
/// nothing that a kernel writes.
pub(crate) fn module_that_waits(
    kernel: &dyn Kernel,
    target: Target,
    build: impl FnOnce(&mut KernelBuilder, &[Reg<U64>]),
) -> Result<Module, KernelError> {
    let needs = kernel.min_target();
    if target < needs {
        return Err(KernelError::Target { kernel: kernel.name(), needs, target });
    }
    let params = kernel.params();
    let mut module = Module::new(target);
    module.kernel(&kernel.name(), |k| {
        let [x, y, z] = kernel.geometry().block;
        k.reqntid(x, y, z);
        let pointers: Vec<_> = params.iter().map(|param| k.param_ptr(param.name, param.align)).collect();
        build(k, &pointers);
    });
    let (needs, has) = (shared_bytes(kernel, &module), shared_memory(target));
    if needs > has.into() {
        return Err(KernelError::SharedMemory { kernel: kernel.name(), needs, has, target });
    }
    match module.verify() {
        Ok(verified) => Ok(verified.into_module()),
        Err(report) => Err(KernelError::Verify { kernel: kernel.name(), report: report.to_string() }),
    }
}

/// Bytes of shared memory of a block: what the functions of its module declare, and behind it what a launch gives.
fn shared_bytes(kernel: &dyn Kernel, module: &Module) -> u64 {
    let declared = module.functions.iter().map(Function::static_shared_bytes).sum::<u64>();
    let align = module.dynamic_shared.unwrap_or(1);
    declared.next_multiple_of(align.into()) + u64::from(kernel.geometry().dynamic_shared)
}

/// Whether kernels for `target` start before their predecessors have ended.
pub(crate) const fn overlaps(target: Target) -> bool {
    target.sm() >= 90
}

/// Lets the next kernel take the room that this one leaves, as soon as all blocks get here.
pub(crate) fn let_next_begin(k: &mut KernelBuilder) {
    if overlaps(k.target()) {
        k.comment("the next kernel may begin");
        k.grid_launch_dependents();
    }
}

/// Waits until the kernels before this one have ended and what they wrote can be read.
pub(crate) fn wait(k: &mut KernelBuilder) {
    if overlaps(k.target()) {
        k.grid_dependency_wait();
    }
}

/// This thread's warp, and its lane.
pub(crate) fn warp_and_lane(k: &mut KernelBuilder) -> (Reg<U32>, Reg<U32>) {
    let thread = k.tid_x();
    (k.shr(thread, WARP.ilog2()), k.and(thread, WARP - 1))
}

/// The body, where the predicate holds if there is one.
pub(crate) fn where_(k: &mut KernelBuilder, p: Option<Pred>, body: impl FnOnce(&mut KernelBuilder)) {
    match p {
        Some(p) => k.if_(p, body),
        None => body(k),
    }
}

/// `blockIdx * threads + threadIdx`; threads numbered `items` and above end here.
pub(crate) fn flat_index(k: &mut KernelBuilder, items: u64, threads: u32) -> Reg<U32> {
    let [block, thread] = [k.ctaid_x(), k.tid_x()];
    let index = k.mad(block, threads, thread);
    if !items.is_multiple_of(threads.into()) {
        // Launches that are not whole blocks have fewer than 2^32 items.
        let beyond = k.ge(index, items as u32);
        k.ret_if(beyond);
    }
    index
}

/// `index / divisor` for an index of at most `2^32 / divisor`, as a shift or a multiplication: inside of loops ptxas divides.
pub(crate) fn quotient(k: &mut KernelBuilder, index: Reg<U32>, divisor: u32) -> Reg<U32> {
    if divisor.is_power_of_two() {
        k.shr(index, divisor.ilog2())
    } else {
        k.mul_hi(index, u32::MAX / divisor + 1)
    }
}

/// `index / divisor` for an index below `items`, without a division if these are few enough.
pub(crate) fn quotient_below(k: &mut KernelBuilder, index: Reg<U32>, items: u64, divisor: u32) -> Reg<U32> {
    if divisor.is_power_of_two() || items <= u64::from(u32::MAX / divisor) {
        quotient(k, index, divisor)
    } else {
        k.div(index, divisor)
    }
}

/// Quotient and remainder of `index`, which is below `items`, by `divisor`.
pub(crate) fn split(
    k: &mut KernelBuilder,
    index: Reg<U32>,
    items: u64,
    divisor: u32,
) -> (Reg<U32>, Reg<U32>) {
    if items <= u64::from(divisor) {
        (k.imm::<U32>(0), index)
    } else if divisor == 1 {
        (index, k.imm::<U32>(0))
    } else {
        let quotient = quotient_below(k, index, items, divisor);
        let product = k.mul(quotient, divisor);
        (quotient, k.sub(index, product))
    }
}

/// `vector` (1 or 4) consecutive values.
pub(crate) fn load(k: &mut KernelBuilder, at: Reg<U64>, vector: u32) -> Vec<Reg<F32>> {
    match vector {
        4 => k.ld_global_v4::<F32>(at).to_vec(),
        _ => vec![k.ld_global::<F32>(at)],
    }
}

/// Stores what [`load`] would load.
pub(crate) fn store(k: &mut KernelBuilder, at: Reg<U64>, values: &[Reg<F32>]) {
    match *values {
        [a, b, c, d] => k.st_global_v4::<F32>(at, [a, b, c, d]),
        _ => values.iter().zip(0i32..).for_each(|(&value, i)| k.st_global::<F32>(at + 4 * i, value)),
    }
}

/// How the elements of a row are spread over a block: unit `u` of `vector` elements belongs to thread
/// `u % threads`, in ascending order. It depends on the row's length alone.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowPlan {
    /// Elements of a unit: 4 if every row starts on 16 bytes, else 1.
    pub vector: u32,
    /// Units of a row.
    pub units: u32,
    /// Threads of a block.
    pub threads: u32,
    /// Units of a thread, the last of which may be missing.
    pub steps: u32,
}

impl RowPlan {
    /// The longest row, so that byte offsets within it fit 32 bits.
    pub const MAX_N: usize = 1 << 28;

    /// The plan for rows of `n` elements with about `per_thread` units each thread.
    pub fn new(n: u32, per_thread: u32) -> Self {
        let vector = crate::support::f32_vector(n);
        let units = n / vector;
        let threads = units.div_ceil(per_thread).next_multiple_of(WARP).min(1024);
        Self { vector, units, threads, steps: units.div_ceil(threads) }
    }

    /// Whether a thread's elements fit in its registers.
    pub fn keeps_row(&self) -> bool {
        self.steps * self.vector <= 32
    }

    /// The addresses of this block's row, row `ctaid.x`, of each of `bases`.
    pub fn rows<const N: usize>(&self, k: &mut KernelBuilder, bases: [Reg<U64>; N]) -> [Reg<U64>; N] {
        let row = k.ctaid_x();
        bases.map(|base| k.ptr_index(base, row, self.units * self.vector * 4))
    }

    /// The address of this thread's first unit of a row.
    pub fn first(&self, k: &mut KernelBuilder, thread: Reg<U32>, row: Reg<U64>) -> Reg<U64> {
        k.ptr_index(row, thread, self.vector * 4)
    }

    /// Bytes from one unit of a thread to its next.
    fn stride(&self) -> i32 {
        (self.threads * self.vector * 4) as i32
    }

    /// All of this thread's elements of a row that [`keeps_row`](Self::keeps_row), by unit; `missing` where the last
    /// unit is beyond the row. `first` is [`first`](Self::first) of the row.
    pub fn load_all(
        &self,
        k: &mut KernelBuilder,
        thread: Reg<U32>,
        first: Reg<U64>,
        missing: f32,
    ) -> Vec<Vec<Reg<F32>>> {
        let units = (0..self.steps).map(|step| {
            let at = first + step as i32 * self.stride();
            match (self.inside(k, thread, step), self.vector) {
                (None, 4) => k.ld_global_v4::<F32>(at).to_vec(),
                (None, _) => vec![k.ld_global::<F32>(at)],
                (Some(p), 4) => k.load_v4_or::<F32>(p, Space::Global, Load::WEAK, at, missing).to_vec(),
                (Some(p), _) => vec![k.load_or::<F32>(p, Space::Global, Load::WEAK, at, missing)],
            }
        });
        units.collect()
    }

    /// Stores what [`load_all`](Self::load_all) would load.
    pub fn store_all(
        &self,
        k: &mut KernelBuilder,
        thread: Reg<U32>,
        first: Reg<U64>,
        units: &[Vec<Reg<F32>>],
    ) {
        for (step, unit) in (0..).zip(units) {
            let at = first + step as i32 * self.stride();
            let store = |k: &mut KernelBuilder| match **unit {
                [a, b, c, d] => k.st_global_v4::<F32>(at, [a, b, c, d]),
                _ => unit.iter().for_each(|&value| k.st_global::<F32>(at, value)),
            };
            match self.inside(k, thread, step) {
                None => store(k),
                Some(p) => k.guarded(p, store),
            }
        }
    }

    /// Where unit `step` of the thread exists; `None` if it does in every thread.
    fn inside(&self, k: &mut KernelBuilder, thread: Reg<U32>, step: u32) -> Option<Pred> {
        let partial = (step + 1) * self.threads > self.units;
        partial.then(|| k.lt(thread, self.units - step * self.threads))
    }

    /// Calls `body` in a loop over this thread's units with the byte offset of each from the start of the row.
    pub fn for_units(
        &self,
        k: &mut KernelBuilder,
        thread: Reg<U32>,
        body: impl FnOnce(&mut KernelBuilder, Reg<U64>),
    ) {
        k.for_range(thread, self.units, self.threads, |k, unit| {
            let offset = k.mul_wide(unit, self.vector * 4);
            body(k, offset);
        });
    }
}

/// The threads that [`block_reduce`] combines and the shared memory that they use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Block<'a> {
    /// This thread's index.
    pub thread: Reg<U32>,
    /// Threads of the block, a multiple of 32.
    pub threads: u32,
    /// Names the shared memory: another one for each reduction.
    pub array: &'a str,
}

/// Combines a value of every thread of a block, in an order that depends on nothing but their number; every thread gets
/// the result.
pub(crate) fn block_reduce(
    k: &mut KernelBuilder,
    value: Reg<F32>,
    block: Block<'_>,
    combine: impl Fn(&mut KernelBuilder, Reg<F32>, Reg<F32>) -> Reg<F32>,
) -> Reg<F32> {
    let mut value = value;
    for lanes in [16, 8, 4, 2, 1] {
        let other = k.shfl_bfly(value, lanes);
        value = combine(k, value, other);
    }
    let Block { thread, threads, array } = block;
    let warps = threads / WARP;
    if warps == 1 {
        return value;
    }
    let array = k.shared::<F32>(array, warps);
    let (warp, lane) = (k.shr(thread, 5), k.and(thread, WARP - 1));
    let slot = k.shared_index(array, warp);
    let first = k.eq(lane, 0);
    k.guarded(first, |k| k.st_shared::<F32>(slot, value));
    k.barrier();
    let mut parts = Vec::new();
    while parts.len() < warps as usize {
        let at = array + 4 * parts.len() as i32;
        match warps as usize - parts.len() {
            4.. => parts.extend(k.ld_shared_v4::<F32>(at)),
            _ => parts.push(k.ld_shared::<F32>(at)),
        }
    }
    k.comment("combine the warps");
    while parts.len() > 1 {
        let combine_pair = |pair: &[Reg<F32>]| match *pair {
            [a, b] => combine(k, a, b),
            _ => pair[0],
        };
        parts = parts.chunks(2).map(combine_pair).collect();
    }
    parts[0]
}
