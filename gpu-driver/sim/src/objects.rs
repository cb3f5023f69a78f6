//! The kinds of objects that a driver has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use gpu_driver::sys::{CUgraph, CUgraphConditionalHandle, CUgraphEdgeData, CUresult};

use crate::api::link::LinkOptions;
use crate::api::user_object::References;
use crate::capture::Part;
use crate::code::{Code, Compiled, LoadedModule};
use crate::handle::Id;
use crate::profile::SHARED_PER_BLOCK;
use crate::queue::Marker;
use crate::work::{HostFunction, Work};

/// A device.
pub(crate) struct Device {
    pub limit: u64,
    /// Bytes of device memory in use, modules' variables apart.
    pub used: u64,
    pub primary: Id,
    pub retained: u32,
    pub primary_flags: u32,
    /// The pool that `cuMemAllocAsync` takes from.
    pub pool: Id,
    pub default_pool: Id,
}

/// A context.
pub(crate) struct Context {
    pub device: u32,
    pub primary: bool,
    /// The primary context exists from the first retain to the last release.
    pub alive: bool,
    /// What it was created with. Those of a primary context are the device's.
    pub flags: u32,
    /// The code of a fault; every later call returns it.
    pub sticky: Option<CUresult>,
    /// The last operation of the legacy default stream.
    pub legacy: Option<Arc<Marker>>,
    pub limits: BTreeMap<u32, usize>,
    /// Simulated time at which the last of its operations ended.
    pub latest_ns: u64,
    /// Contexts whose memory it may access.
    pub peers: BTreeSet<Id>,
}

pub(crate) struct Stream {
    pub context: Id,
    /// Ordered with the legacy default stream.
    pub blocking: bool,
    pub priority: i32,
    pub tail: Option<Arc<Marker>>,
    /// The last operation was a kernel alone, which a programmatic launch may overtake.
    pub tail_is_kernel: bool,
    /// The capture that notes its work.
    pub part: Option<Part>,
}

pub(crate) struct Event {
    pub context: Id,
    pub timing: bool,
    pub recorded: Option<Arc<Marker>>,
    /// Where it was last recorded in a captured stream.
    pub part: Option<Part>,
}

pub(crate) struct Module {
    pub context: Id,
    pub code: Arc<LoadedModule>,
    pub functions: BTreeMap<String, Id>,
    /// The library that it is an image of, with which it goes.
    pub library: Option<Id>,
}

/// A module that belongs to no context: it is loaded into each that uses it.
pub(crate) struct Library {
    pub code: Arc<Compiled>,
    /// An image in memory that no device sees, for what there is to know of kernels.
    pub prototype: LoadedModule,
    pub kernels: BTreeMap<String, Id>,
    /// Its modules, by context.
    pub modules: BTreeMap<Id, Id>,
}

/// A kernel of a library.
pub(crate) struct LibraryKernel {
    pub library: Id,
    pub code: Arc<Code>,
    /// Attributes that the program has set, by device and attribute.
    pub attributes: BTreeMap<(u32, i32), i32>,
}

/// A link in progress.
pub(crate) struct Link {
    pub inputs: Vec<String>,
    /// Where logs go.
    pub options: LinkOptions,
    /// The result.
    pub image: Option<Arc<[u8]>>,
}

pub(crate) struct Function {
    pub context: Id,
    pub code: Arc<Code>,
    pub max_dynamic_shared: u32,
    pub carveout: i32,
    pub non_portable_clusters: bool,
}

pub(crate) struct Graph {
    pub context: Id,
    pub nodes: Vec<Id>,
    pub edges: Vec<(Id, Id, CUgraphEdgeData)>,
    /// Belongs to a child or conditional node, which alone may destroy it.
    pub embedded: bool,
    /// The graph whose conditional node has it for a body.
    pub body_of: Option<Id>,
    /// What it keeps for the program.
    pub objects: References,
}

/// Something of the program's, with its destructor.
pub(crate) struct UserObject {
    pub references: u64,
    pub destructor: HostFunction,
}

/// A condition of a graph.
pub(crate) struct Condition {
    pub graph: Id,
    /// Its value when a launch begins; without one, a kernel has to set it.
    pub default: Option<u32>,
    /// The node that looks at it.
    pub node: Option<Id>,
}

pub(crate) struct Node {
    pub graph: Id,
    pub work: NodeWork,
}

#[derive(Clone)]
pub(crate) enum NodeWork {
    Single(Work),
    Child(Id),
    While {
        condition: CUgraphConditionalHandle,
        body: Id,
        /// Where the program reads the handle of the body.
        _out: Arc<CUgraph>,
    },
}

/// A node of an instantiated graph.
#[derive(Clone)]
pub(crate) struct ExecNode {
    /// The node of the definition.
    pub node: Id,
    pub work: ExecWork,
}

#[derive(Clone)]
pub(crate) enum ExecWork {
    Single(Work),
    Child(ExecBody),
    While(CUgraphConditionalHandle, Arc<ExecBody>),
}

/// Nodes and edges between their indices.
#[derive(Clone, Default)]
pub(crate) struct ExecBody {
    pub nodes: Vec<ExecNode>,
    pub edges: Vec<(usize, usize, CUgraphEdgeData)>,
}

pub(crate) struct Exec {
    pub context: Id,
    /// The definition.
    pub graph: Id,
    pub body: ExecBody,
    /// The values with which each launch begins.
    pub conditions: Vec<(CUgraphConditionalHandle, Option<u32>)>,
    pub last: Option<Arc<Marker>>,
    pub objects: References,
}

pub(crate) struct Pool {
    pub device: u32,
    pub release_threshold: u64,
    pub used: u64,
    pub used_high: u64,
    /// The reuse policies, which have nothing to decide here.
    pub reuse: [i32; 3],
    /// Other devices, with what they may do: `CUmemAccess_flags`.
    pub access: BTreeMap<u32, u32>,
}

/// Device memory.
pub(crate) struct Allocation {
    pub context: Id,
    pub device: u32,
    pub bytes: u64,
    pub pool: Option<Id>,
    /// Its free is queued.
    pub freeing: bool,
    pub made_by: u64,
}

/// Host memory that the device sees.
pub(crate) struct Pinned {
    pub context: Id,
    pub bytes: usize,
    pub flags: u32,
    /// One of `cuMemAllocManaged`, which is the device's memory as much as the host's.
    pub managed: bool,
    /// Where this driver allocated it, with which layout.
    pub layout: Option<std::alloc::Layout>,
    pub made_by: u64,
}

impl Context {
    pub(crate) const fn new(device: u32, primary: bool, flags: u32) -> Self {
        Self {
            device,
            primary,
            alive: !primary,
            flags,
            sticky: None,
            legacy: None,
            limits: BTreeMap::new(),
            latest_ns: 0,
            peers: BTreeSet::new(),
        }
    }
}

impl Stream {
    pub(crate) const fn new(context: Id, blocking: bool, priority: i32) -> Self {
        Self { context, blocking, priority, tail: None, tail_is_kernel: false, part: None }
    }
}

impl Function {
    pub(crate) fn new(context: Id, code: Arc<Code>) -> Self {
        let max_dynamic_shared = SHARED_PER_BLOCK.saturating_sub(code.static_shared);
        Self { context, code, max_dynamic_shared, carveout: -1, non_portable_clusters: false }
    }
}

impl Pool {
    pub(crate) const fn new(device: u32) -> Self {
        Self { device, release_threshold: 0, used: 0, used_high: 0, reuse: [1; 3], access: BTreeMap::new() }
    }
}
