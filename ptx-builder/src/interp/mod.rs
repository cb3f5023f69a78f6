//! A SIMT interpreter: runs the kernels of a verified module on the CPU, and says what is wrong with them.
//!
//! Grids, blocks, warps of 32 lanes with divergence and reconvergence, barriers, shared, local and generic memory,
//! atomics, asynchronous copies. What a kernel does wrong is a finding, never a panic and never undefined behaviour
//! of the host.

mod alu;
mod exec;
mod finding;
mod launch;
// Interim: without sanitizers and metrics.
#[path = "memory_interim.rs"]
mod memory;
#[path = "metrics_interim.rs"]
mod metrics;
mod program;
mod regs;

pub use finding::{Finding, FindingKind};
pub use launch::{InterpError, Launch, LaunchId, Options, Report, Sanitize, launch};
pub use memory::{Allocation, AllocationKind, Memory, MemoryError};
pub use metrics::Metrics;
pub use program::{Kernel, LoadedProgram, Program};
