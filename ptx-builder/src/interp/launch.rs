//! Launching a kernel: geometry and parameters in, a report out.

use super::program::Kernel;
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
    /// Memory for the module's variables could not be had.
    #[error("device memory for module variables: {0}")]
    Memory(String),
    /// The host cannot run it.
    #[error("{0}")]
    Host(String),
}
