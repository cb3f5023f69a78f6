//! A SIMT interpreter: runs the kernels of a verified module on the CPU, and says what is wrong with them.
//!
//! Grids, blocks, warps of 32 lanes with divergence and reconvergence, barriers, shared, local and generic memory,
//! atomics, asynchronous copies. What a kernel does wrong is a finding, never a panic and never undefined behaviour
//! of the host.

#[allow(dead_code, reason = "read by the executor")]
mod regs;

#[allow(dead_code, reason = "read by the executor")]
mod alu;
mod launch;
mod program;

pub use launch::{InterpError, Launch, LaunchId, Options, Sanitize};
pub use program::Kernel;
