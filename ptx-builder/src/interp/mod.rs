//! A SIMT interpreter: runs the kernels of a verified module on the CPU, and says what is wrong with them.
//!
//! Grids, blocks, warps of 32 lanes with divergence and reconvergence, barriers, shared, local and generic memory,
//! atomics, asynchronous copies. What a kernel does wrong is a finding, never a panic and never undefined behaviour
//! of the host.

mod alu;
mod exec;
mod finding;
mod launch;
mod memory;
mod metrics;
mod program;
mod regs;
mod sanitize;

pub use finding::{Finding, FindingKind};
pub use launch::{InterpError, Launch, LaunchId, Options, Report, Sanitize, launch};
pub use memory::{Allocation, AllocationKind, Memory, MemoryError};
pub use metrics::{
    AllocationTraffic, Direction, Executed, InstClass, InstructionCounts, InstructionTraffic, Metrics,
    SECTOR_BYTES, Traffic,
};
pub use program::{Kernel, LoadedProgram, Program};
