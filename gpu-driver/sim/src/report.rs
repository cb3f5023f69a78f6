//! What a simulated driver saw: calls, launches, findings, leaks.

use std::fmt;

use ptx_builder::interp::{Finding, Metrics};

/// A call of the driver API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// The function, without version suffix.
    pub name: &'static str,
    /// The argument that says most about it: bytes, a name, a number; empty where there is none.
    pub detail: String,
    /// Whether it returned success, or an answer that is no failure.
    pub ok: bool,
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({})", self.name, self.detail)
    }
}

/// How often a function was called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallCount {
    /// The function, without version suffix.
    pub name: &'static str,
    /// How often.
    pub count: u64,
}

/// A kernel that was executed, alone or as a node of a graph.
#[derive(Debug, Clone)]
pub struct LaunchRecord {
    /// The kernel.
    pub kernel: String,
    /// Blocks in x, y, z.
    pub grid: [u32; 3],
    /// Threads per block in x, y, z.
    pub block: [u32; 3],
    /// Blocks per cluster in x, y, z.
    pub cluster: [u32; 3],
    /// Dynamic shared memory per block, bytes.
    pub dynamic_shared: u32,
    /// The arguments, one for each parameter, with exactly its bytes.
    pub args: Vec<Vec<u8>>,
    /// Whether it was allowed to overtake a predecessor until `griddepcontrol.wait`.
    pub programmatic: bool,
    /// Warp instructions executed.
    pub instructions: u64,
    /// Simulated time, nanoseconds since the driver was made.
    pub start_ns: u64,
    /// Simulated time of its end.
    pub end_ns: u64,
    /// What was counted, if that was asked for.
    pub metrics: Option<Metrics>,
}

/// Kinds of objects that a program owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ObjectKind {
    /// Device memory.
    DeviceMemory,
    /// Managed memory.
    ManagedMemory,
    /// Pinned host memory.
    PinnedMemory,
    /// Registered host memory.
    RegisteredMemory,
    /// A stream.
    Stream,
    /// An event.
    Event,
    /// A module.
    Module,
    /// A graph.
    Graph,
    /// An instantiated graph.
    GraphExec,
    /// A library, which belongs to no context.
    Library,
    /// A memory pool.
    MemoryPool,
    /// A context reference: `cuDevicePrimaryCtxRetain` without release, or `cuCtxCreate` without destroy.
    Context,
}

impl fmt::Display for ObjectKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::DeviceMemory => "device memory",
            Self::ManagedMemory => "managed memory",
            Self::PinnedMemory => "pinned host memory",
            Self::RegisteredMemory => "registered host memory",
            Self::Stream => "stream",
            Self::Event => "event",
            Self::Module => "module",
            Self::Graph => "graph",
            Self::GraphExec => "instantiated graph",
            Self::Library => "library",
            Self::MemoryPool => "memory pool",
            Self::Context => "context",
        })
    }
}

/// An object that is alive, or was when its context ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Address or handle.
    pub address: u64,
    /// Size of memory; zero otherwise.
    pub bytes: u64,
    /// Ordinal of the device.
    pub device: u32,
    /// Which call of the driver made it, counted from 1 over all calls; none made what the driver begins with.
    pub made_by_call: Option<u64>,
}

impl fmt::Display for LiveObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, address, bytes, device, made_by_call } = self;
        write!(f, "{kind} {address:#x}")?;
        if *bytes > 0 {
            write!(f, " of {bytes} bytes")?;
        }
        write!(f, " on device {device}")?;
        match made_by_call {
            Some(call) => write!(f, ", made by call {call}"),
            None => Ok(()),
        }
    }
}

/// Everything that a simulated driver has to say.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Calls by function, in the order of their first.
    pub calls: Vec<CallCount>,
    /// What sanitizers found and what stopped kernels, in the order of execution.
    pub findings: Vec<Finding>,
    /// Work that failed as it executed, with the code and the reason; findings have their own text.
    pub faults: Vec<String>,
    /// What was alive as its context ended.
    pub leaks: Vec<LiveObject>,
    /// What is alive now.
    pub live: Vec<LiveObject>,
    /// Kernels executed.
    pub launches: u64,
    /// Bytes copied by copies and copy nodes.
    pub bytes_copied: u64,
    /// Warp instructions executed.
    pub instructions: u64,
    /// Most bytes of device memory in use at once, over all devices.
    pub peak_memory: u64,
    /// Simulated time since the driver was made, nanoseconds.
    pub elapsed_ns: u64,
    /// What kernels printed.
    pub printed: String,
}

impl Report {
    /// Whether there is neither a finding, nor a fault, nor a leak.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty() && self.faults.is_empty() && self.leaks.is_empty()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let calls: u64 = self.calls.iter().map(|call| call.count).sum();
        write!(
            f,
            "{calls} calls, {} launches, {} warp instructions, {} bytes copied, at most {} bytes of memory",
            self.launches, self.instructions, self.bytes_copied, self.peak_memory
        )?;
        for finding in &self.findings {
            write!(f, "\nfinding: {finding}")?;
        }
        for fault in &self.faults {
            write!(f, "\nfault: {fault}")?;
        }
        for leak in &self.leaks {
            write!(f, "\nleak: {leak}")?;
        }
        Ok(())
    }
}
