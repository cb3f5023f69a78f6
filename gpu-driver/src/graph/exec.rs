//! Instantiated graphs.

use super::KeepAlive;
use super::definition::{Graph, GraphHandle, Owned, refused};
use super::node::{
    KernelNode, MemsetValue, NodeId, NodeType, memcpy_label, memcpy_params, memset_label, memset_params,
};
use super::region::Region;
use crate::context::Context;
use crate::error::DriverError;
use crate::function::Function;
use crate::launch::Dim3;
use crate::stream::{Queue, Stream};
use crate::sys::table::call;
use crate::sys::{
    CUDA_GRAPH_INSTANTIATE_PARAMS, CUgraphExec, CUgraphExecUpdateResultInfo, CUgraphNode, CUresult, CUstream,
};
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;

/// A graph that can be launched. It owns what its nodes use, independently of the definition.
///
/// Launching costs the check for the current context and one driver call. Updates need the graph idle: they replace the
/// owners of memory and code that a running launch may still use, so they are refused while a stream on which the graph
/// was launched has unfinished work (of whatever kind; an event per launch would be needed to tell). Dropping it waits
/// for those streams; if neither they nor the context can be waited for, what its nodes own is leaked.
pub struct GraphExec {
    definition: Arc<GraphHandle>,
    handle: CUgraphExec,
    nodes: Vec<ExecNode>,
    /// Owners that a whole-graph update brought; they belong to no single node.
    updated: Vec<KeepAlive>,
    /// Held during a launch, because the driver does not synchronise use of one graph from several threads.
    launches: Mutex<Launches>,
    /// With a loop, the right to be the only graph that is instantiated from the definition. Given up after `drop`.
    _only: Option<Arc<()>>,
}

struct ExecNode {
    handle: CUgraphNode,
    kind: NodeType,
    label: String,
    cluster: Option<Dim3>,
    keep: Arc<Owned>,
    /// The kernel that the definition's node has, whatever replaced it here: updates name that node to the driver.
    _defined: Option<Function>,
}

impl ExecNode {
    fn replace(&mut self, label: String, keep: Arc<Owned>) {
        (self.label, self.keep) = (label, keep);
    }
}

#[derive(Default)]
struct Launches {
    /// Streams with launches that have not been seen to finish, each with the number of the latest, so that a wait
    /// forgets only what it has waited for.
    on: Vec<(Arc<Queue>, u64)>,
    count: u64,
}

impl GraphExec {
    pub(super) fn new(graph: &Graph) -> Result<Self, DriverError> {
        let only = if graph.has_loop() { Some(graph.inner.only_instance()?) } else { None };
        let mut handle = CUgraphExec::NULL;
        graph.inner.with(|t, raw| {
            if t.graph_instantiate_with_params.is_none() {
                // SAFETY: the result goes to a local; the graph is alive; no flags are set.
                return unsafe { call!(t, graph_instantiate_with_flags(&mut handle, raw, 0)) };
            }
            let mut params = CUDA_GRAPH_INSTANTIATE_PARAMS {
                flags: 0,
                upload_stream: CUstream::NULL,
                error_node: CUgraphNode::NULL,
                result: 0,
            };
            // SAFETY: the result goes to a local; the graph is alive; the parameters live during the call.
            let made = unsafe { call!(t, graph_instantiate_with_params(&mut handle, raw, &mut params)) };
            made.map_err(|error| match graph.node_of(params.error_node) {
                Some(node) if !error.code().is_some_and(CUresult::is_sticky) => refused(format!(
                    "the driver cannot instantiate {} node {:?} (reason {}): {error}",
                    node.kind, node.label, params.result
                )),
                _ => error,
            })
        })?;
        let nodes = graph
            .nodes
            .iter()
            .map(|node| ExecNode {
                handle: node.handle,
                kind: node.kind,
                label: node.label.clone(),
                cluster: node.keep.cluster(),
                keep: Arc::clone(&node.keep),
                _defined: node.keep.function().cloned(),
            })
            .collect();
        Ok(Self {
            definition: Arc::clone(&graph.inner),
            handle,
            nodes,
            updated: Vec::new(),
            launches: Mutex::default(),
            _only: only,
        })
    }

    /// Its context.
    pub fn context(&self) -> &Context {
        &self.definition.context
    }

    /// Number of nodes, a child graph counting as one.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether it has no nodes.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Moves it to the device ahead of its first launch, in the order of `stream`.
    ///
    /// # Errors
    ///
    /// [`DriverError::ContextMismatch`]; [`DriverError::SymbolMissing`] before CUDA 11.1; [`DriverError::Poisoned`], or
    /// the driver's failure.
    pub fn upload(&self, stream: &Stream) -> Result<(), DriverError> {
        self.queue(stream, "graph upload", |t| {
            // SAFETY: graph and stream are alive and of the current context.
            unsafe { call!(t, graph_upload(self.handle, stream.handle())) }
        })
    }

    /// Queues a launch in `stream`. Launches of one graph run one after the other, whatever their streams.
    ///
    /// # Errors
    ///
    /// [`DriverError::ContextMismatch`]; [`DriverError::Poisoned`], or the driver's failure. A fault while the graph runs
    /// is reported by a later call and poisons the context.
    pub fn launch(&self, stream: &Stream) -> Result<(), DriverError> {
        self.queue(stream, "graph launch", |t| {
            // SAFETY: graph and stream are alive and of the current context. What the nodes use is owned by this value,
            // or promised by whoever added the kernel, and `drop` and updates wait for the stream.
            unsafe { call!(t, graph_launch(self.handle, stream.handle())) }
        })
    }

    fn queue(
        &self,
        stream: &Stream,
        what: &'static str,
        f: impl FnOnce(&crate::sys::DriverTable) -> Result<(), DriverError>,
    ) -> Result<(), DriverError> {
        self.context().expect_same(stream.context(), what)?;
        let mut launches = self.launches.lock();
        // Noted before the call: a call that fails may have queued something all the same.
        launches.count += 1;
        let number = launches.count;
        match launches.on.iter_mut().find(|(queue, _)| Arc::ptr_eq(queue, stream.queue())) {
            Some((_, latest)) => *latest = number,
            None => launches.on.push((Arc::clone(stream.queue()), number)),
        }
        self.context().run(f)
    }

    /// Whether a stream on which it was launched has unfinished work.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the failure of work queued earlier.
    pub fn is_in_flight(&self) -> Result<bool, DriverError> {
        let mut launches = self.launches.lock();
        while let Some((queue, _)) = launches.on.last() {
            if !queue.is_idle()? {
                return Ok(true);
            }
            launches.on.pop();
        }
        Ok(false)
    }

    /// Waits for the streams on which it was launched. Other threads may launch it meanwhile.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the failure of work queued earlier.
    pub fn wait(&self) -> Result<(), DriverError> {
        let launched_on = self.launches.lock().on.clone();
        for (queue, number) in launched_on {
            queue.wait()?;
            self.launches.lock().on.retain(|(_, latest)| *latest != number);
        }
        Ok(())
    }

    /// Replaces a kernel node's function, geometry and arguments, for the launches that follow.
    ///
    /// # Errors
    ///
    /// [`DriverError::GraphInFlight`]; [`DriverError::Launch`]; [`DriverError::Graph`] for a node that is no kernel of
    /// the definition, or another cluster size than it had; [`DriverError::ContextMismatch`];
    /// [`DriverError::Poisoned`], or the driver's failure. On an error the node is as before.
    ///
    /// # Safety
    ///
    /// As for [`Graph::add_kernel`].
    pub unsafe fn update_kernel(&mut self, id: NodeId, node: KernelNode) -> Result<(), DriverError> {
        self.context().expect_same(node.function.context(), "kernel node update")?;
        node.check()?;
        let old = self.node(id, NodeType::Kernel)?;
        if old.cluster != node.config.cluster {
            return Err(refused(format!(
                "{id}: an update cannot change the cluster from {:?} to {:?}",
                old.cluster, node.config.cluster
            )));
        }
        let handle = old.handle;
        self.expect_idle()?;
        self.definition.with(|t, _| {
            node.with_params(|params| {
                // SAFETY: the graph is idle; the node is of the definition that it was made from, which is alive; there
                // is one pointer per parameter, and the driver copies the arguments.
                unsafe { call!(t, graph_exec_kernel_node_set_params(self.handle, handle, params)) }
            })
        })?;
        self.nodes[id.index()].replace(node.name(), Owned::kernel(node));
        Ok(())
    }

    /// Replaces both ends of a copy node. The kinds of memory must stay the same.
    ///
    /// # Errors
    ///
    /// [`DriverError::GraphInFlight`]; [`DriverError::Graph`] for a node that is no copy; those of
    /// [`Graph::add_memcpy`]. On an error the node is as before.
    pub fn update_memcpy(&mut self, id: NodeId, dst: &Region, src: &Region) -> Result<(), DriverError> {
        for region in [dst, src] {
            self.context().expect_same(region.context(), "memcpy node update")?;
        }
        let params = memcpy_params(dst, src)?;
        let handle = self.node(id, NodeType::Memcpy)?.handle;
        self.expect_idle()?;
        let context = self.context().handle();
        self.definition.with(|t, _| {
            // SAFETY: the graph is idle; the node is of its definition, which is alive; both ranges hold the bytes.
            unsafe { call!(t, graph_exec_memcpy_node_set_params(self.handle, handle, &params, context)) }
        })?;
        self.nodes[id.index()].replace(memcpy_label(dst), Owned::others(vec![dst.owner(), src.owner()]));
        Ok(())
    }

    /// Replaces destination and value of a fill node.
    ///
    /// # Errors
    ///
    /// [`DriverError::GraphInFlight`]; [`DriverError::Graph`] for a node that is no fill; those of
    /// [`Graph::add_memset`]. On an error the node is as before.
    pub fn update_memset(&mut self, id: NodeId, dst: &Region, value: MemsetValue) -> Result<(), DriverError> {
        self.context().expect_same(dst.context(), "memset node update")?;
        let params = memset_params(dst, value)?;
        let handle = self.node(id, NodeType::Memset)?.handle;
        self.expect_idle()?;
        let context = self.context().handle();
        self.definition.with(|t, _| {
            // SAFETY: the graph is idle; the node is of its definition, which is alive; the range holds the bytes.
            unsafe { call!(t, graph_exec_memset_node_set_params(self.handle, handle, &params, context)) }
        })?;
        self.nodes[id.index()].replace(memset_label(dst), Owned::others(vec![dst.owner()]));
        Ok(())
    }

    /// Makes it equal to `graph`, which must have the same shape: as many nodes of the same types, added in the same
    /// order, with the same dependencies. Identities of nodes stay those of the first definition.
    ///
    /// # Errors
    ///
    /// [`DriverError::GraphInFlight`]; [`DriverError::Graph`] if either has a loop, or if `graph` is the body of one, is
    /// incomplete, or has other edges at the driver's than those asked for; [`DriverError::GraphUpdate`] if the shapes
    /// differ, with the node at fault; [`DriverError::ContextMismatch`]; [`DriverError::Poisoned`], or the driver's failure.
    pub fn update(&mut self, graph: &Graph) -> Result<(), DriverError> {
        self.context().expect_same(graph.context(), "graph update")?;
        graph.expect_no_loop("used for an update")?;
        if self.nodes.iter().any(|node| node.kind == NodeType::Conditional) {
            return Err(refused("a graph with a loop cannot be updated as a whole".to_owned()));
        }
        graph.expect_sound()?;
        self.expect_idle()?;
        let mut info = CUgraphExecUpdateResultInfo {
            result: 0,
            error_node: CUgraphNode::NULL,
            error_from_node: CUgraphNode::NULL,
        };
        // Until the outcome is known the graph may be of either version, so it owns what both use.
        let before = self.updated.len();
        self.updated.extend(graph.owners());
        let updated = graph.inner.with(|t, raw| {
            // SAFETY: the graph is idle; both graphs are alive; the outcome goes to a local.
            unsafe { call!(t, graph_exec_update(self.handle, raw, &mut info)) }
        });
        match updated {
            Ok(()) => {
                self.updated = graph.owners();
                for (node, new) in self.nodes.iter_mut().zip(&graph.nodes) {
                    node.replace(new.label.clone(), Owned::others(Vec::new()));
                    node.cluster = new.keep.cluster();
                }
                Ok(())
            }
            Err(e) if e.code() == Some(CUresult::ERROR_GRAPH_EXEC_UPDATE_FAILURE) => {
                // The driver documents that the update was then not performed.
                self.updated.truncate(before);
                let node = graph.nodes.iter().find(|node| node.handle == info.error_node);
                Err(DriverError::GraphUpdate {
                    result: update_result_name(info.result),
                    code: info.result,
                    node: node.map(|node| node.label.clone()),
                })
            }
            Err(e) => Err(e),
        }
    }

    /// Labels of its nodes, as the latest update left them, in the order of the definition.
    pub fn labels(&self) -> impl ExactSizeIterator<Item = &str> + '_ {
        self.nodes.iter().map(|node| node.label.as_str())
    }

    fn node(&self, id: NodeId, kind: NodeType) -> Result<&ExecNode, DriverError> {
        match self.nodes.get(id.index()).filter(|_| id.graph == self.definition.id) {
            Some(node) if node.kind == kind => Ok(node),
            Some(node) => Err(refused(format!("{id} is a {} node, not a {kind} node", node.kind))),
            None => Err(refused(format!("node {id} is not of the definition that this graph was made from"))),
        }
    }

    fn expect_idle(&self) -> Result<(), DriverError> {
        if self.is_in_flight()? { Err(DriverError::GraphInFlight) } else { Ok(()) }
    }
}

fn update_result_name(code: u32) -> &'static str {
    match code {
        0 => "SUCCESS",
        1 => "ERROR",
        2 => "ERROR_TOPOLOGY_CHANGED",
        3 => "ERROR_NODE_TYPE_CHANGED",
        4 => "ERROR_FUNCTION_CHANGED",
        5 => "ERROR_PARAMETERS_CHANGED",
        6 => "ERROR_NOT_SUPPORTED",
        7 => "ERROR_UNSUPPORTED_FUNCTION_CHANGE",
        8 => "ERROR_ATTRIBUTES_CHANGED",
        _ => "a reason that this binding does not list",
    }
}

impl Drop for GraphExec {
    fn drop(&mut self) {
        let (context, handle) = (&self.definition.context, self.handle);
        let launched_on = std::mem::take(&mut self.launches.get_mut().on);
        let mut finished = launched_on.is_empty();
        context.release(
            || "GraphExec".to_owned(),
            |t| {
                let waited = if context.is_lost() {
                    Ok(())
                } else {
                    launched_on.iter().try_for_each(|(queue, _)| {
                        // SAFETY: the stream is alive: the vector shares it.
                        unsafe { call!(t, stream_synchronize(queue.handle())) }
                    })
                };
                // What failed may be other work of the stream, and the graph still runs.
                finished = waited.as_ref().err().is_none_or(|error| context.wait_again(error).is_ok());
                // SAFETY: the handle is owned by this value and not used again.
                let destroyed = unsafe { call!(t, graph_exec_destroy(handle)) };
                waited.and(destroyed)
            },
        );
        if !finished && !context.is_lost() {
            // Whether the device still uses what the nodes own is unknown, so it must never be freed.
            let owners = (std::mem::take(&mut self.nodes), std::mem::take(&mut self.updated));
            Box::leak(Box::new(owners));
        }
    }
}

impl fmt::Debug for GraphExec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GraphExec").field("nodes", &self.nodes.len()).finish_non_exhaustive()
    }
}
