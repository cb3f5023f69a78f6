//! The definition of a graph.

use super::KeepAlive;
use super::dot::to_dot;
use super::edge::{Dependency, Edge, EdgeKind};
use super::exec::GraphExec;
use super::node::{
    KernelNode, MemsetValue, NodeId, NodeType, memcpy_label, memcpy_params, memset_label, memset_params,
};
use super::region::Region;
use crate::context::Context;
use crate::error::DriverError;
use crate::function::Function;
use crate::launch::Dim3;
use crate::module::c_string;
use crate::sys::table::call;
use crate::sys::{
    CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE, CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION, CUgraph,
    CUgraphConditionalHandle, CUgraphNode, CUlaunchAttributeValue, DriverTable,
};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The definition of a graph. See the [module](crate::graph) for who owns what.
pub struct Graph {
    pub(super) inner: Arc<GraphHandle>,
    pub(super) nodes: Vec<Node>,
    pub(super) edges: Vec<Edge>,
    /// Conditions for which there is no loop yet.
    pub(super) unused_conditions: Vec<CUgraphConditionalHandle>,
    /// Why the driver's graph may differ from `nodes` and `edges`, once it may.
    pub(super) broken: Option<String>,
}

/// The driver's graph. The instantiated graph shares it, because updates name nodes of the definition.
pub(super) struct GraphHandle {
    pub(super) id: u64,
    pub(super) context: Context,
    raw: CUgraph,
    /// The driver does not synchronise access to a graph from several threads. A body takes turns with its graph.
    turn: Arc<Mutex<()>>,
    /// The graph that a body is part of, and that destroys it.
    part_of: Option<Arc<GraphHandle>>,
    /// Alive as long as an instantiated graph with a loop, of which the driver allows one at a time.
    instance: Mutex<Weak<()>>,
}

pub(super) struct Node {
    pub(super) handle: CUgraphNode,
    pub(super) kind: NodeType,
    pub(super) label: String,
    pub(super) keep: Arc<Owned>,
    /// What a loop repeats.
    pub(super) body: Option<Box<Graph>>,
}

/// What a node owns: kept for its `Drop`s.
pub(super) struct Owned {
    kernel: Option<KernelNode>,
    _others: Vec<KeepAlive>,
}

impl Owned {
    pub(super) fn kernel(node: KernelNode) -> Arc<Self> {
        Arc::new(Self { kernel: Some(node), _others: Vec::new() })
    }

    pub(super) fn others(others: Vec<KeepAlive>) -> Arc<Self> {
        Arc::new(Self { kernel: None, _others: others })
    }

    /// The kernel of a kernel node.
    pub(super) fn function(&self) -> Option<&Function> {
        self.kernel.as_ref().map(|kernel| &kernel.function)
    }

    /// The cluster size of a kernel node.
    pub(super) fn cluster(&self) -> Option<Dim3> {
        self.kernel.as_ref().and_then(|kernel| kernel.config.cluster)
    }
}

impl GraphHandle {
    /// Takes over the driver's graph; `part_of` is the graph whose loop has it for a body.
    pub(super) fn new(context: &Context, raw: CUgraph, part_of: Option<Arc<Self>>) -> Self {
        // Identity of graphs, so that a node of one is not taken for a node of another.
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            context: context.clone(),
            raw,
            turn: part_of.as_ref().map(|graph| Arc::clone(&graph.turn)).unwrap_or_default(),
            part_of,
            instance: Mutex::default(),
        }
    }

    pub(super) fn is_body(&self) -> bool {
        self.part_of.is_some()
    }

    /// The right to instantiate a graph with a loop, until the answer is dropped.
    pub(super) fn only_instance(&self) -> Result<Arc<()>, DriverError> {
        let mut instance = self.instance.lock();
        if instance.upgrade().is_some() {
            return Err(refused(
                "a graph with a loop can be instantiated again once its instantiated graph has been dropped"
                    .to_owned(),
            ));
        }
        let claim = Arc::new(());
        *instance = Arc::downgrade(&claim);
        Ok(claim)
    }

    /// Runs driver calls on the graph, one thread at a time.
    pub(super) fn with<T>(
        &self,
        f: impl FnOnce(&DriverTable, CUgraph) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        let _turn = self.turn.lock();
        self.context.run(|t| f(t, self.raw))
    }
}

impl Drop for GraphHandle {
    fn drop(&mut self) {
        if self.is_body() {
            return;
        }
        let raw = self.raw;
        // SAFETY: the handle is owned by this value and not used again; instantiated graphs are independent of it but
        // for updates, and those that could make one share this value.
        self.context.release(|| "Graph".to_owned(), |t| unsafe { call!(t, graph_destroy(raw)) });
    }
}

impl Graph {
    /// Makes an empty graph.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn new(context: &Context) -> Result<Self, DriverError> {
        let mut raw = CUgraph::NULL;
        // SAFETY: the graph goes to a local; the flags must be zero.
        context.run(|t| unsafe { call!(t, graph_create(&mut raw, 0)) })?;
        Ok(Self::over(GraphHandle::new(context, raw, None)))
    }

    /// The definition behind an empty graph of the driver.
    pub(super) fn over(handle: GraphHandle) -> Self {
        let (nodes, edges, unused_conditions) = (Vec::new(), Vec::new(), Vec::new());
        Self { inner: Arc::new(handle), nodes, edges, unused_conditions, broken: None }
    }

    /// Its context.
    pub fn context(&self) -> &Context {
        &self.inner.context
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Its nodes in the order in which they were added: identity, type, label.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (NodeId, NodeType, &str)> + '_ {
        self.nodes.iter().enumerate().map(|(i, node)| (self.id_of(i), node.kind, node.label.as_str()))
    }

    /// What the loop `node` repeats; `None` for nodes of other types, and of other graphs.
    pub fn body(&self, node: NodeId) -> Option<&Self> {
        let nodes = if node.graph == self.inner.id { &self.nodes[..] } else { &[] };
        nodes.get(node.index())?.body.as_deref()
    }

    /// The edges that were asked for, in that order. [`Graph::driver_edges`] reads them from the driver.
    pub fn edges(&self) -> &[Edge] {
        &self.edges
    }

    /// Adds a kernel. Geometry and arguments are checked as [`Function::launch`](crate::Function::launch) checks them.
    ///
    /// # Errors
    ///
    /// [`DriverError::Launch`]; [`DriverError::Graph`] for dependencies that do not fit;
    /// [`DriverError::SymbolMissing`] before CUDA 12.0, with a programmatic dependency before CUDA 12.3;
    /// [`DriverError::ContextMismatch`]; [`DriverError::Poisoned`], or the driver's failure.
    ///
    /// # Safety
    ///
    /// The promises of [`Function::launch`](crate::Function::launch) must hold at every launch of every graph that is
    /// instantiated or updated from this one or from one that embeds it. In particular, what the arguments point to must
    /// stay allocated as long as those graphs exist; [`KernelNode::keep`] makes the node own it. Ordering against other
    /// nodes is by dependencies only. A programmatic dependency orders nothing before the kernel's
    /// `griddepcontrol.wait`. The numbers of conditions that the kernel sets must be those of the graph that runs.
    pub unsafe fn add_kernel(
        &mut self,
        node: KernelNode,
        after: &[Dependency],
    ) -> Result<NodeId, DriverError> {
        self.context().expect_same(node.function.context(), "kernel node")?;
        node.check()?;
        let cluster = node.config.cluster;
        let id = self.add(NodeType::Kernel, node.name(), after, |t, out, graph, deps| {
            node.with_params(|params| {
                // SAFETY: graph, dependencies and function are alive and of the current context; there is one pointer
                // per parameter, and the driver copies the arguments. The rest is the caller's promise.
                unsafe { call!(t, graph_add_kernel_node(out, graph, deps.as_ptr(), deps.len(), params)) }
            })?;
            Ok(Owned::kernel(node))
        })?;
        if let Some(cluster) = cluster {
            let handle = self.nodes[id.index()].handle;
            let value = CUlaunchAttributeValue { cluster_dim: cluster.to_array() };
            let set = self.inner.with(|t, _| {
                let attribute = CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION;
                // SAFETY: the node is alive; the value lives during the call and has the attribute's member set.
                unsafe { call!(t, graph_kernel_node_set_attribute(handle, attribute, &value)) }
            });
            self.or_break(set, || format!("node {id} lacks its cluster dimension"))?;
        }
        Ok(id)
    }

    /// Adds a copy of `src` to `dst`: within the device, or between device and pinned memory.
    ///
    /// # Errors
    ///
    /// [`DriverError::LengthMismatch`]; [`DriverError::Graph`] for a copy of no bytes, from host to host, within the device
    /// between ranges that overlap, or with dependencies that do not fit; [`DriverError::ContextMismatch`];
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn add_memcpy(
        &mut self,
        dst: &Region,
        src: &Region,
        after: &[Dependency],
    ) -> Result<NodeId, DriverError> {
        self.expect_region(dst)?;
        self.expect_region(src)?;
        let params = memcpy_params(dst, src)?;
        let context = self.context().handle();
        self.add(NodeType::Memcpy, memcpy_label(dst), after, |t, out, graph, deps| {
            // SAFETY: graph and dependencies are alive; both ranges hold the bytes to copy, and the node owns them.
            unsafe {
                call!(t, graph_add_memcpy_node(out, graph, deps.as_ptr(), deps.len(), &params, context))
            }?;
            Ok(Owned::others(vec![dst.owner(), src.owner()]))
        })
    }

    /// Adds a fill of device memory.
    ///
    /// # Errors
    ///
    /// [`DriverError::Graph`] for host memory, for a fill of no bytes, for bytes or an address that are no multiple of the
    /// value's unit, or for dependencies that do not fit; [`DriverError::ContextMismatch`]; [`DriverError::Poisoned`], or
    /// the driver's failure.
    pub fn add_memset(
        &mut self,
        dst: &Region,
        value: MemsetValue,
        after: &[Dependency],
    ) -> Result<NodeId, DriverError> {
        self.expect_region(dst)?;
        let params = memset_params(dst, value)?;
        let context = self.context().handle();
        self.add(NodeType::Memset, memset_label(dst), after, |t, out, graph, deps| {
            // SAFETY: graph and dependencies are alive; the range holds the bytes to fill, and the node owns it.
            unsafe {
                call!(t, graph_add_memset_node(out, graph, deps.as_ptr(), deps.len(), &params, context))
            }?;
            Ok(Owned::others(vec![dst.owner()]))
        })
    }

    /// Adds a node that does nothing, at which dependencies can meet.
    ///
    /// # Errors
    ///
    /// [`DriverError::Graph`] for dependencies that do not fit; [`DriverError::Poisoned`], or the driver's failure.
    pub fn add_empty(&mut self, after: &[Dependency]) -> Result<NodeId, DriverError> {
        self.add(NodeType::Empty, "empty".to_owned(), after, |t, out, graph, deps| {
            // SAFETY: graph and dependencies are alive.
            unsafe { call!(t, graph_add_empty_node(out, graph, deps.as_ptr(), deps.len())) }?;
            Ok(Owned::others(Vec::new()))
        })
    }

    /// Adds a copy of `child` as one node. Later changes to `child` do not affect it; it owns what `child` owns now.
    ///
    /// # Errors
    ///
    /// [`DriverError::Graph`] for dependencies that do not fit or a `child` that is incomplete, has a loop or is the body
    /// of one; [`DriverError::ContextMismatch`]; [`DriverError::Poisoned`], or the driver's failure.
    pub fn add_child(&mut self, child: &Graph, after: &[Dependency]) -> Result<NodeId, DriverError> {
        self.context().expect_same(child.context(), "child graph node")?;
        child.expect_no_loop("a child of another")?;
        child.expect_sound()?;
        let label = format!("child graph of {} nodes", child.len());
        self.add(NodeType::Child, label, after, |t, out, graph, deps| {
            child.inner.with(|_, inner| {
                // SAFETY: both graphs and the dependencies are alive; the driver copies the child.
                unsafe { call!(t, graph_add_child_graph_node(out, graph, deps.as_ptr(), deps.len(), inner)) }
            })?;
            Ok(Owned::others(child.owners()))
        })
    }

    /// The types of the nodes as the driver holds them, in the driver's order.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn driver_node_types(&self) -> Result<Vec<NodeType>, DriverError> {
        self.inner.with(|t, graph| {
            let mut n = 0usize;
            // SAFETY: with a null array the driver only writes the count, to a local.
            unsafe { call!(t, graph_get_nodes(graph, ptr::null_mut(), &mut n)) }?;
            if n == 0 {
                return Ok(Vec::new());
            }
            let mut handles = vec![CUgraphNode::NULL; n];
            // SAFETY: the array has `n` entries, and the driver writes no more than `n`.
            unsafe { call!(t, graph_get_nodes(graph, handles.as_mut_ptr(), &mut n)) }?;
            handles.truncate(n);
            let mut types = Vec::with_capacity(n);
            for handle in handles {
                let mut kind = 0u32;
                // SAFETY: the type goes to a local; the node is the driver's own.
                unsafe { call!(t, graph_node_get_type(handle, &mut kind)) }?;
                types.push(NodeType::from_driver(kind));
            }
            Ok(types)
        })
    }

    /// Makes a graph that can be launched. If the definition has programmatic edges, they are read back from the
    /// driver first: some drivers apply other data than they are given.
    ///
    /// # Errors
    ///
    /// [`DriverError::Graph`] if the definition is incomplete because adding to it failed half-way or a condition has no
    /// loop, if the driver's edges are not those asked for, if the driver names a node that it cannot instantiate, if it
    /// is the body of a loop, or if it has a loop and a graph that was instantiated from it is alive;
    /// [`DriverError::SymbolMissing`] before CUDA 11.4; [`DriverError::Poisoned`], or the driver's failure.
    pub fn instantiate(&self) -> Result<GraphExec, DriverError> {
        self.expect_no_body()?;
        self.expect_sound()?;
        GraphExec::new(self)
    }

    /// The graph as DOT, drawn from what was added: dashed edges are programmatic.
    pub fn to_dot(&self) -> String {
        to_dot(self)
    }

    /// The graph as DOT, as the driver writes it: with every parameter it knows.
    ///
    /// # Errors
    ///
    /// [`DriverError::Graph`] if the definition is incomplete because adding to it failed half-way;
    /// [`DriverError::SymbolMissing`] before CUDA 11.3; [`DriverError::Io`] for the temporary file;
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn driver_dot(&self) -> Result<String, DriverError> {
        // The driver draws kernels with their names, also those of half a body, which nobody may own any more.
        self.expect_unbroken()?;
        const WHAT: &str = "DOT output of the driver";
        let io = |e: std::io::Error| DriverError::Io { what: WHAT, message: e.to_string() };
        let folder = tempfile::tempdir().map_err(io)?;
        let file = folder.path().join("graph.dot");
        let path = c_string("path of a temporary file", &file.to_string_lossy())?;
        // SAFETY: the path is a NUL-terminated string; the graph is alive.
        self.inner.with(|t, graph| unsafe {
            call!(t, graph_debug_dot_print(graph, path.as_ptr(), CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE))
        })?;
        std::fs::read_to_string(&file).map_err(io)
    }

    /// Everything that its nodes own.
    pub(super) fn owners(&self) -> Vec<KeepAlive> {
        self.nodes.iter().map(|node| -> KeepAlive { Arc::<Owned>::clone(&node.keep) }).collect()
    }

    /// The node behind an identity.
    pub(super) fn node(&self, id: NodeId) -> Result<&Node, DriverError> {
        self.nodes
            .get(id.index())
            .filter(|_| id.graph == self.inner.id)
            .ok_or_else(|| refused(format!("node {id} is of another graph")))
    }

    pub(super) fn id_of(&self, index: usize) -> NodeId {
        // `add` refuses more nodes than fit.
        NodeId { graph: self.inner.id, index: index as u32 }
    }

    fn expect_region(&self, region: &Region) -> Result<(), DriverError> {
        self.context().expect_same(region.context(), "graph node")
    }

    /// The node that the driver knows by `handle`, here or in a body.
    pub(super) fn node_of(&self, handle: CUgraphNode) -> Option<&Node> {
        self.nodes.iter().find_map(|node| {
            if node.handle == handle { Some(node) } else { node.body.as_ref()?.node_of(handle) }
        })
    }

    /// Adds the node that `f` makes and whose owners it returns. Full dependencies go with the node, so that they exist
    /// if it does; programmatic ones follow, one call each. If one of those fails the node is there all the same, in the
    /// driver's graph as well, and has its owners.
    pub(super) fn add(
        &mut self,
        kind: NodeType,
        label: String,
        after: &[Dependency],
        f: impl FnOnce(&DriverTable, *mut CUgraphNode, CUgraph, &[CUgraphNode]) -> Result<Arc<Owned>, DriverError>,
    ) -> Result<NodeId, DriverError> {
        let Ok(index) = u32::try_from(self.nodes.len()) else {
            return Err(refused("more nodes than 32 bits can number".to_owned()));
        };
        let mut seen = HashSet::new();
        for &dependency in after {
            self.check_dependency(dependency, index, kind)?;
            if !seen.insert(dependency.on) {
                return Err(refused(format!("{} appears twice among the dependencies", dependency.on)));
            }
        }
        let handles: Vec<CUgraphNode> = after
            .iter()
            .filter(|d| d.kind == EdgeKind::Full)
            .map(|d| self.node(d.on).map(|node| node.handle))
            .collect::<Result<_, _>>()?;
        let mut handle = CUgraphNode::NULL;
        let keep = self.inner.with(|t, graph| f(t, &mut handle, graph, &handles))?;
        self.nodes.push(Node { handle, kind, label, keep, body: None });
        let id = self.id_of(index as usize);
        for &Dependency { on, kind } in after {
            if kind == EdgeKind::Full {
                self.edges.push(Edge { from: on, to: id, kind });
            } else {
                let connected = self.connect(on, id, kind);
                self.or_break(connected, || format!("node {id} lacks its dependency on {on}"))?;
            }
        }
        Ok(id)
    }

    /// Remembers that the driver's graph is no longer what was asked for.
    fn or_break<T>(
        &mut self,
        result: Result<T, DriverError>,
        what: impl FnOnce() -> String,
    ) -> Result<T, DriverError> {
        result.inspect_err(|e| self.broken = Some(format!("{} ({e})", what())))
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // Bodies share the driver's graph. Without them it is destroyed before the owners of its nodes are dropped; what a
        // body's nodes own, its loop owns, too.
        for node in &mut self.nodes {
            node.body = None;
        }
    }
}

pub(super) fn refused(reason: String) -> DriverError {
    DriverError::Graph { reason }
}

impl fmt::Debug for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Graph")
            .field("nodes", &self.nodes.len())
            .field("edges", &self.edges.len())
            .field("broken", &self.broken)
            .finish_non_exhaustive()
    }
}
