//! A SIMT interpreter: runs the kernels of a verified module on the CPU, and says what is wrong with them.
//!
//! Grids, blocks, warps of 32 lanes with divergence and reconvergence, barriers, shared, local and generic memory,
//! atomics, asynchronous copies. What a kernel does wrong is a finding, never a panic and never undefined behaviour
//! of the host.
//!
//! ```
//! use ptx_builder::interp::{Launch, Memory, Options, Program, launch};
//! use ptx_builder::{Module, Target, U32};
//!
//! let mut module = Module::new(Target::SM_80);
//! module.kernel("double", |k| {
//!     k.reqntid(64, 1, 1);
//!     let x = k.param_ptr("x", 4);
//!     let i = k.global_tid_x();
//!     let at = k.ptr_index(x, i, 4);
//!     let old = k.ld_global::<U32>(at);
//!     let new = k.add(old, old);
//!     k.st_global::<U32>(at, new);
//! });
//! let memory = Memory::new();
//! let program = Program::new(&module.verify()?)?.load(&memory)?;
//! let x = memory.alloc(128 * 4)?;
//! let numbers: Vec<u8> = (0..128u32).flat_map(u32::to_le_bytes).collect();
//! memory.write(x, &numbers)?;
//! let report = launch(
//!     &memory,
//!     &Launch {
//!         kernel: &program.kernel("double").ok_or("no such kernel")?,
//!         grid: [2, 1, 1],
//!         block: [64, 1, 1],
//!         cluster: [1, 1, 1],
//!         dynamic_shared: 0,
//!         params: &[x.to_le_bytes().to_vec()],
//!     },
//!     &Options::default(),
//! )?;
//! assert!(report.is_clean());
//! let mut last = [0; 4];
//! memory.read(x + 127 * 4, &mut last)?;
//! assert_eq!(u32::from_le_bytes(last), 254);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Map
//! - `program`: modules decoded to steps over rows of registers. `alu`: what a step computes from registers alone.
//! - `exec`: warps, divergence, barriers, calls, and blocks on host threads.
//! - `memory`: allocations, and what blocks see of them. `sanitize`: what was written, and what is ordered.
//! - `finding`, `metrics`: what a launch reports.

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
