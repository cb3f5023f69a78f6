//! Nodes and what they are made of.

use super::KeepAlive;
use super::region::{Place, Region};
use crate::args::KernelArgs;
use crate::error::DriverError;
use crate::function::Function;
use crate::launch::LaunchConfig;
use crate::sys::{
    CU_GRAPH_NODE_TYPE_CONDITIONAL, CU_GRAPH_NODE_TYPE_EMPTY, CU_GRAPH_NODE_TYPE_GRAPH,
    CU_GRAPH_NODE_TYPE_KERNEL, CU_GRAPH_NODE_TYPE_MEMCPY, CU_GRAPH_NODE_TYPE_MEMSET, CU_MEMORYTYPE_DEVICE,
    CU_MEMORYTYPE_HOST, CUDA_KERNEL_NODE_PARAMS_v2, CUDA_MEMCPY3D_v2, CUDA_MEMSET_NODE_PARAMS, CUarray,
    CUcontext, CUkernel,
};
use std::fmt;
use std::ptr;

/// A node of one graph, displayed as `n3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    pub(super) graph: u64,
    pub(super) index: u32,
}

impl NodeId {
    /// Its number among the nodes of its graph, in the order in which they were added.
    pub fn index(self) -> usize {
        self.index as usize
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "n{}", self.index)
    }
}

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NodeType {
    /// Launches a kernel.
    Kernel,
    /// Copies memory.
    Memcpy,
    /// Fills memory.
    Memset,
    /// Nothing; dependencies meet there.
    Empty,
    /// Runs another graph.
    Child,
    /// Runs a body as long as a condition holds.
    Conditional,
    /// A type that this crate does not make, by the driver's number.
    Other(u32),
}

impl NodeType {
    pub(super) fn from_driver(kind: u32) -> Self {
        match kind {
            CU_GRAPH_NODE_TYPE_KERNEL => Self::Kernel,
            CU_GRAPH_NODE_TYPE_MEMCPY => Self::Memcpy,
            CU_GRAPH_NODE_TYPE_MEMSET => Self::Memset,
            CU_GRAPH_NODE_TYPE_EMPTY => Self::Empty,
            CU_GRAPH_NODE_TYPE_GRAPH => Self::Child,
            CU_GRAPH_NODE_TYPE_CONDITIONAL => Self::Conditional,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for NodeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("kernel"),
            Self::Memcpy => f.write_str("memcpy"),
            Self::Memset => f.write_str("memset"),
            Self::Empty => f.write_str("empty"),
            Self::Child => f.write_str("child graph"),
            Self::Conditional => f.write_str("conditional"),
            Self::Other(kind) => write!(f, "type {kind}"),
        }
    }
}

/// A kernel with its geometry and arguments, to be added to a graph or to replace another.
#[derive(Clone)]
pub struct KernelNode {
    pub(super) function: Function,
    pub(super) config: LaunchConfig,
    pub(super) args: KernelArgs,
    pub(super) keep: Vec<KeepAlive>,
    pub(super) label: Option<String>,
}

impl KernelNode {
    /// `function` with its geometry and arguments.
    pub fn new(function: &Function, config: LaunchConfig, args: KernelArgs) -> Self {
        Self { function: function.clone(), config, args, keep: Vec::new(), label: None }
    }

    /// Makes the node own something that its arguments point to.
    #[must_use]
    pub fn keep(mut self, owner: KeepAlive) -> Self {
        self.keep.push(owner);
        self
    }

    /// Makes the node own several things.
    #[must_use]
    pub fn keep_all(mut self, owners: impl IntoIterator<Item = KeepAlive>) -> Self {
        self.keep.extend(owners);
        self
    }

    /// Names the node in drawings and errors; the default is the kernel's name.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// What it is called in drawings and errors.
    pub(super) fn name(&self) -> String {
        self.label.clone().unwrap_or_else(|| self.function.name().to_owned())
    }

    /// Checks geometry and arguments as a launch would.
    pub(super) fn check(&self) -> Result<(), DriverError> {
        self.function.check_config(&self.config)?;
        self.function.check_args(&self.args)?;
        if self.config.programmatic_serialization {
            return Err(DriverError::Graph {
                reason: format!(
                    "kernel {}: programmatic serialisation is a property of stream launches; \
                     give the node a programmatic dependency",
                    self.function.name()
                ),
            });
        }
        Ok(())
    }

    /// Calls `f` with the node in the form of the C interface.
    pub(super) fn with_params<R>(&self, f: impl FnOnce(&CUDA_KERNEL_NODE_PARAMS_v2) -> R) -> R {
        self.args.with_pointers(|kernel_params| {
            f(&CUDA_KERNEL_NODE_PARAMS_v2 {
                func: self.function.handle(),
                grid_dim: self.config.grid.to_array(),
                block_dim: self.config.block.to_array(),
                shared_mem_bytes: self.config.dynamic_shared_bytes,
                kernel_params,
                extra: ptr::null_mut(),
                kern: CUkernel::NULL,
                ctx: CUcontext::NULL,
            })
        })
    }
}

impl fmt::Debug for KernelNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelNode")
            .field("function", &self.function)
            .field("config", &self.config)
            .field("args", &self.args)
            .finish_non_exhaustive()
    }
}

/// What a fill node writes. The unit is in the name: a region whose bytes or address are no multiple of it is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemsetValue {
    /// Every byte.
    Byte(u8),
    /// Every 32-bit word.
    Word(u32),
}

/// What a copy node is called.
pub(super) fn memcpy_label(dst: &Region) -> String {
    format!("memcpy {} bytes", dst.bytes())
}

/// What a fill node is called.
pub(super) fn memset_label(dst: &Region) -> String {
    format!("memset {} bytes", dst.bytes())
}

/// A linear copy in the form of the C interface.
pub(super) fn memcpy_params(dst: &Region, src: &Region) -> Result<CUDA_MEMCPY3D_v2, DriverError> {
    if dst.bytes() != src.bytes() {
        return Err(DriverError::LengthMismatch { what: "memcpy node", dst: dst.bytes(), src: src.bytes() });
    }
    if dst.bytes() == 0 {
        return Err(DriverError::Graph { reason: "memcpy node of no bytes".to_owned() });
    }
    if matches!((dst.place(), src.place()), (Place::Host(_), Place::Host(_))) {
        return Err(DriverError::Graph { reason: "memcpy node from host to host".to_owned() });
    }
    if let (Place::Device(to), Place::Device(from)) = (dst.place(), src.place())
        && to.0.abs_diff(from.0) < dst.bytes() as u64
    {
        return Err(DriverError::Graph {
            reason: format!("memcpy node of {} bytes from {from} to {to}, which overlap", dst.bytes()),
        });
    }
    let (dst_memory_type, dst_host, dst_device) = match dst.place() {
        Place::Device(p) => (CU_MEMORYTYPE_DEVICE, ptr::null_mut(), p.0),
        Place::Host(p) => (CU_MEMORYTYPE_HOST, p, 0),
    };
    let (src_memory_type, src_host, src_device) = match src.place() {
        Place::Device(p) => (CU_MEMORYTYPE_DEVICE, ptr::null(), p.0),
        Place::Host(p) => (CU_MEMORYTYPE_HOST, p.cast_const(), 0),
    };
    Ok(CUDA_MEMCPY3D_v2 {
        src_x_in_bytes: 0,
        src_y: 0,
        src_z: 0,
        src_lod: 0,
        src_memory_type,
        src_host,
        src_device,
        src_array: CUarray::NULL,
        reserved0: ptr::null_mut(),
        src_pitch: 0,
        src_height: 0,
        dst_x_in_bytes: 0,
        dst_y: 0,
        dst_z: 0,
        dst_lod: 0,
        dst_memory_type,
        dst_host,
        dst_device,
        dst_array: CUarray::NULL,
        reserved1: ptr::null_mut(),
        dst_pitch: 0,
        dst_height: 0,
        width_in_bytes: dst.bytes(),
        height: 1,
        depth: 1,
    })
}

/// A linear fill in the form of the C interface, whose width counts elements.
pub(super) fn memset_params(
    dst: &Region,
    value: MemsetValue,
) -> Result<CUDA_MEMSET_NODE_PARAMS, DriverError> {
    let Place::Device(address) = dst.place() else {
        return Err(DriverError::Graph { reason: "memset node on host memory".to_owned() });
    };
    let (bits, element) = match value {
        MemsetValue::Byte(b) => (u32::from(b), 1usize),
        MemsetValue::Word(w) => (w, 4),
    };
    let bytes = dst.bytes();
    if bytes == 0 || !bytes.is_multiple_of(element) || !address.0.is_multiple_of(element as u64) {
        return Err(DriverError::Graph {
            reason: format!("memset node: {bytes} bytes at {address} in units of {element}"),
        });
    }
    Ok(CUDA_MEMSET_NODE_PARAMS {
        dst: address.0,
        pitch: 0,
        value: bits,
        element_size: element as u32,
        width: bytes / element,
        height: 1,
    })
}
