//! Launching a kernel: geometry and parameters in, a report out.

use super::exec::{self, Grid};
use super::finding::{Finding, RawFinding};
use super::memory::{LaunchMemory, Memory, MemoryError, Shape};
use super::metrics::Metrics;
use super::program::{Kernel, align};
use crate::module::volume;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use thiserror::Error;

/// Identifies a launch in this process; what is launched later has a larger one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LaunchId(pub u64);

/// What to run, and how large.
#[derive(Clone, Copy, Debug)]
pub struct Launch<'a> {
    /// The kernel.
    pub kernel: &'a Kernel,
    /// Blocks in x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block in x, y and z.
    pub block: [u32; 3],
    /// Blocks of a cluster in x, y and z; ones without clusters.
    pub cluster: [u32; 3],
    /// Bytes of dynamic shared memory of each block.
    pub dynamic_shared: u32,
    /// One byte vector for each parameter, of exactly its size.
    pub params: &'a [Vec<u8>],
}

/// Which checks run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Sanitize {
    /// Bounds of each allocation, and use after free, with the allocation in the message. Without it an access
    /// outside of all memory still stops the launch.
    pub memory: bool,
    /// Reads of memory that nothing wrote.
    pub init: bool,
    /// Conflicting accesses without an order between them, in shared and in global memory.
    pub races: bool,
    /// Barriers under divergence, lanes that are not where an instruction of the warp needs them.
    pub sync: bool,
}

impl Sanitize {
    /// Every check.
    pub const ALL: Self = Self { memory: true, init: true, races: true, sync: true };
    /// No check.
    pub const NONE: Self = Self { memory: false, init: false, races: false, sync: false };
}

impl Default for Sanitize {
    fn default() -> Self {
        Self::ALL
    }
}

/// How to run it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Options {
    /// Checks; all of them by default.
    pub sanitize: Sanitize,
    /// Whether to count for [`super::Metrics`].
    pub metrics: bool,
    /// Warp instructions that a block may execute before it counts as an endless loop.
    pub fuel: u64,
    /// Determines the order of blocks and warps.
    pub seed: u64,
    /// Host threads; `None` takes the current rayon pool, `Some(1)` makes the order of everything reproducible.
    pub threads: Option<usize>,
    /// Earlier launches that a programmatic edge lets this one overtake until it executes `griddepcontrol.wait`.
    pub pending: Vec<LaunchId>,
    /// The most findings that a report lists.
    pub max_findings: usize,
    /// What `%clock64` and `%globaltimer` start from.
    pub clock_base: u64,
    /// The blocks may wait for each other by the words that `%envreg1` and `%envreg2` are the address of.
    pub cooperative: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            sanitize: Sanitize::ALL,
            metrics: false,
            fuel: 1 << 32,
            seed: 0,
            threads: None,
            pending: Vec::new(),
            max_findings: 64,
            clock_base: 0,
            cooperative: false,
        }
    }
}

/// The interpreter was used wrongly; what a kernel does wrong is a [`super::Finding`].
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum InterpError {
    /// Grid, block or cluster are empty, too large, or not what the kernel declares.
    #[error("{kernel}: {message}")]
    Geometry {
        /// The kernel.
        kernel: String,
        /// What is wrong.
        message: String,
    },
    /// The parameters are not those of the kernel.
    #[error("{kernel}: {message}")]
    Parameters {
        /// The kernel.
        kernel: String,
        /// What is wrong.
        message: String,
    },
    /// An instruction that the interpreter does not execute, such as inline text.
    #[error("{function}: the interpreter does not execute `{line}`: {message}")]
    Unsupported {
        /// The function.
        function: String,
        /// The printed instruction.
        line: String,
        /// Why.
        message: String,
    },
    /// A symbol that is declared but defined nowhere.
    #[error("the symbol `{0}` is not defined")]
    Undefined(String),
    /// Memory for the module's variables, or for the words that a cooperative grid synchronises by, could not be had.
    #[error("device memory for module variables or the barrier of a grid: {0}")]
    Memory(String),
    /// The host cannot run it.
    #[error("{0}")]
    Host(String),
}

/// What a launch did.
#[derive(Clone, PartialEq, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Names this launch in [`Options::pending`] of later ones.
    pub id: LaunchId,
    /// What the checks found, one entry for each instruction and kind, in the order of the code.
    pub findings: Vec<Finding>,
    /// What stopped it before its end.
    pub fault: Option<Finding>,
    /// If they were asked for.
    pub metrics: Option<Metrics>,
    /// Executed instructions of warps.
    pub instructions: u64,
    /// What the kernel printed.
    pub printed: String,
    /// What the kernel gave to `cudaGraphSetConditional`, handle and value: an entry for each lane of each call, in the
    /// order of the calls. What blocks that run in parallel give is in any order, as what they print.
    pub conditionals: Vec<(u64, u32)>,
}

impl Report {
    /// No finding and no fault?
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.fault.is_none()
    }

    /// The fault, then the findings.
    pub fn all(&self) -> impl Iterator<Item = &Finding> {
        self.fault.iter().chain(&self.findings)
    }
}

/// Local memory of a thread of a kernel that calls functions, beyond its own arrays: what recursion can use.
const STACK: u32 = 16 << 10;
/// Hardware limits that no target exceeds.
const MAX_THREADS: u64 = 1024;
const MAX_SHARED: u64 = 227 << 10;
const MAX_LOCAL: u32 = 512 << 10;

/// Runs a kernel to its end.
///
/// Blocks run in parallel on host threads and may run in any order; `options.seed` chooses one. What the kernel does
/// wrong is in the report.
///
/// # Errors
/// [`InterpError`] for a launch that the driver would refuse: nothing has been executed then.
pub fn launch(memory: &Memory, launch: &Launch<'_>, options: &Options) -> Result<Report, InterpError> {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let id = LaunchId(NEXT.fetch_add(1, Ordering::Relaxed));
    let kernel = launch.kernel;
    check_geometry(launch)?;
    let params = parameter_words(launch)?;
    let loaded = kernel.loaded();
    let code = kernel.code();
    let alignment = loaded.code.module.dynamic_shared.unwrap_or(1).max(16);
    let dynamic_offset = align(code.shared.bytes, alignment);
    let shared_bytes = if launch.dynamic_shared == 0 {
        code.shared.bytes
    } else {
        dynamic_offset.saturating_add(launch.dynamic_shared)
    };
    if u64::from(shared_bytes) > MAX_SHARED {
        return Err(geometry(
            launch,
            format!("{shared_bytes} bytes of shared memory, more than {MAX_SHARED}"),
        ));
    }
    let local = align(code.layout.local.bytes, 16);
    if local > MAX_LOCAL {
        return Err(geometry(launch, format!("{local} bytes of local memory, more than {MAX_LOCAL}")));
    }
    let mut grid = Grid {
        code: &loaded.code,
        kernel: code,
        index: kernel.index(),
        id,
        globals: &loaded.globals,
        grid: launch.grid,
        block: launch.block,
        cluster: launch.cluster,
        dynamic_shared: launch.dynamic_shared,
        dynamic_offset,
        shared_bytes,
        local_bytes: if code.calls { local + STACK } else { local },
        words: 0,
        params,
        templates: loaded.code.functions.iter().map(|_| OnceLock::new()).collect(),
        options,
    };
    if u32::try_from(grid.clusters()).is_err() {
        return Err(geometry(launch, "more than 2^32 blocks".to_owned()));
    }
    if options.cooperative && loaded.code.grid_words {
        grid.words = grid_words(memory).map_err(|error| InterpError::Memory(error.to_string()))?;
    }
    let shape = Shape {
        clusters: grid.clusters(),
        blocks: grid.blocks_per_cluster(),
        warps_per_block: grid.warps(),
        shared_bytes,
        local_bytes: grid.local_bytes,
    };
    let sanitizers = (options.sanitize, options.metrics);
    let launch_memory = LaunchMemory::new(memory, id, &options.pending, shape, sanitizers);
    let outcome = exec::run(&grid, &launch_memory);
    let (raw, memory_metrics) = launch_memory.finish();
    if grid.words != 0 {
        // Memory that was allocated above.
        let _ = memory.free(grid.words);
    }
    let resolve = |raw: &RawFinding| raw.resolve(&grid);
    let metrics = memory_metrics.map(|memory| exec::metrics(&grid, &outcome, memory));
    Ok(Report {
        id,
        findings: raw.iter().take(options.max_findings).map(resolve).collect(),
        fault: outcome.fault.as_deref().map(resolve),
        metrics,
        instructions: outcome.instructions,
        printed: outcome.printed,
        conditionals: outcome.conditionals,
    })
}

/// Memory for the words that a grid synchronises by, as cooperative groups have them: how many bytes there are, then
/// the barrier.
fn grid_words(memory: &Memory) -> Result<u64, MemoryError> {
    const BYTES: u32 = 64;
    let address = memory.alloc(u64::from(BYTES))?;
    let mut words = [0; BYTES as usize];
    words[..4].copy_from_slice(&BYTES.to_le_bytes());
    memory.write(address, &words)?;
    Ok(address)
}

fn geometry(launch: &Launch<'_>, message: String) -> InterpError {
    InterpError::Geometry { kernel: launch.kernel.name().to_owned(), message }
}

fn check_geometry(launch: &Launch<'_>) -> Result<(), InterpError> {
    let function = launch.kernel.function();
    let fail = |message: String| Err(geometry(launch, message));
    for (name, axes) in [("grid", launch.grid), ("block", launch.block), ("cluster", launch.cluster)] {
        if axes.contains(&0) {
            return fail(format!("an empty {name}: {axes:?}"));
        }
    }
    let threads = volume(launch.block);
    if threads > MAX_THREADS || launch.block[2] > 64 {
        return fail(format!("a block of {:?} threads, more than hardware has", launch.block));
    }
    if launch.grid[1] > 65535 || launch.grid[2] > 65535 || launch.grid[0] > i32::MAX as u32 {
        return fail(format!("a grid of {:?} blocks, more than hardware has", launch.grid));
    }
    if let Some(required) = function.reqntid
        && required != launch.block
    {
        return fail(format!("the kernel is for blocks of {required:?} threads, not {:?}", launch.block));
    }
    if let Some(most) = function.maxntid {
        let bound = volume(most);
        if threads > bound {
            return fail(format!("the kernel is for blocks of at most {bound} threads, not {threads}"));
        }
    }
    let blocks = volume(launch.cluster);
    if blocks > 16 {
        return fail(format!("a cluster of {blocks} blocks, more than 16"));
    }
    if launch.grid.iter().zip(&launch.cluster).any(|(grid, cluster)| grid % cluster != 0) {
        return fail(format!(
            "a grid of {:?} blocks does not consist of clusters of {:?}",
            launch.grid, launch.cluster
        ));
    }
    if let Some(required) = function.reqnctapercluster
        && required != launch.cluster
    {
        return fail(format!("the kernel is for clusters of {required:?} blocks, not {:?}", launch.cluster));
    }
    if let Some(most) = function.maxclusterrank
        && blocks > u64::from(most)
    {
        return fail(format!("the kernel is for clusters of at most {most} blocks, not {blocks}"));
    }
    Ok(())
}

/// The parameter memory of the kernel.
fn parameter_words(launch: &Launch<'_>) -> Result<Vec<u32>, InterpError> {
    let function = launch.kernel.function();
    let fail = |message: String| InterpError::Parameters { kernel: launch.kernel.name().to_owned(), message };
    if launch.params.len() != function.params.len() {
        let (given, needed) = (launch.params.len(), function.params.len());
        return Err(fail(format!("{given} parameters instead of {needed}")));
    }
    let layout = &launch.kernel.code().layout;
    let mut words = vec![0u32; layout.param_bytes.div_ceil(4) as usize];
    for ((value, param), range) in launch.params.iter().zip(&function.params).zip(&layout.params) {
        if value.len() != param.ty.bytes() as usize {
            let (given, needed) = (value.len(), param.ty.bytes());
            return Err(fail(format!("parameter `{}` has {given} bytes instead of {needed}", param.name)));
        }
        for (i, chunk) in value.chunks(4).enumerate() {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            if let Some(slot) = words.get_mut(range.offset as usize / 4 + i) {
                *slot = u32::from_le_bytes(word);
            }
        }
    }
    Ok(words)
}
