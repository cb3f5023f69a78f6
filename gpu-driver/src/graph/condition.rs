//! Conditions, and loops that run as long as they hold.

use super::definition::{Graph, GraphHandle, Owned, refused};
use super::edge::Dependency;
use super::node::{NodeId, NodeType};
use crate::error::{CudaVersion, DriverError};
use crate::sys::table::call;
use crate::sys::{
    CU_GRAPH_COND_ASSIGN_DEFAULT, CU_GRAPH_COND_TYPE_WHILE, CU_GRAPH_NODE_TYPE_CONDITIONAL,
    CUDA_CONDITIONAL_NODE_PARAMS, CUgraph, CUgraphConditionalHandle, CUgraphNodeParams,
    CUgraphNodeParamsValue,
};
use std::ptr;
use std::sync::Arc;

/// The version with which NVIDIA announced conditional nodes. CUDA 12.3 has the entries already.
const CONDITIONAL_NODES: CudaVersion = CudaVersion(12_040);

/// A condition of one graph, for one loop of it: a 32-bit number that kernels of the graph set, and that holds unless it
/// is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Conditional {
    graph: u64,
    handle: CUgraphConditionalHandle,
}

impl Conditional {
    /// The number by which a kernel sets it: the first argument of the device function `cudaGraphSetConditional`. It is
    /// the same for every graph that is instantiated from the definition.
    pub fn handle(self) -> u64 {
        self.handle
    }
}

impl Graph {
    /// Whether the driver has conditions and loops, which CUDA 12.4 introduced.
    pub fn takes_conditional(&self) -> bool {
        self.expect_conditional().is_ok()
    }

    /// Makes a condition whose value is `launch_value` whenever a launch begins. [`Graph::add_while`] has to use it before
    /// the graph is instantiated.
    ///
    /// # Errors
    ///
    /// [`DriverError::Graph`] in the body of a loop, and before CUDA 12.4; [`DriverError::SymbolMissing`] before CUDA 12.3;
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn conditional(&mut self, launch_value: u32) -> Result<Conditional, DriverError> {
        if self.inner.is_body() {
            // The driver accepts it. When the inner condition gets its launch value is not documented.
            return Err(refused("a loop in the body of a loop is not supported".to_owned()));
        }
        self.expect_conditional()?;
        let context = self.context().handle();
        let mut handle: CUgraphConditionalHandle = 0;
        self.inner.with(|t, graph| {
            let flags = CU_GRAPH_COND_ASSIGN_DEFAULT;
            // SAFETY: the condition goes to a local; graph and context are alive.
            unsafe {
                call!(t, graph_conditional_handle_create(&mut handle, graph, context, launch_value, flags))
            }
        })?;
        self.unused_conditions.push(handle);
        Ok(Conditional { graph: self.inner.id, handle })
    }

    /// Adds a loop: as long as the value of `condition` is not 0, what `fill` adds to the body runs, one iteration after
    /// the other. The value is looked at before each iteration, so the body does not run at all if it is 0 at first. A
    /// node that depends on the loop starts after the last iteration. A condition that nothing sets to 0 is a loop that
    /// does not end, and every wait for it hangs.
    ///
    /// The body takes kernels, copies, fills, empty nodes and child graphs, with dependencies among themselves. It is part
    /// of this graph: it is not instantiated, embedded or used for an update by itself, and it has no loops. A graph with
    /// a loop is no child of another, has one instantiated graph at a time, and takes no part in [`GraphExec::update`].
    ///
    /// # Errors
    ///
    /// What `fill` returns. [`DriverError::Graph`] for a condition of another graph or one that has a loop already, for
    /// dependencies that do not fit, and before CUDA 12.4; [`DriverError::SymbolMissing`] before CUDA 12.3;
    /// [`DriverError::Poisoned`], or the driver's failure. After an error of `fill` or after it the definition is incomplete
    /// and cannot be instantiated.
    ///
    /// [`GraphExec::update`]: super::GraphExec::update
    pub fn add_while<E: From<DriverError>>(
        &mut self,
        condition: Conditional,
        after: &[Dependency],
        fill: impl FnOnce(&mut Graph) -> Result<(), E>,
    ) -> Result<NodeId, E> {
        let (id, graph) = self.add_loop(condition, after)?;
        // The node is there. Until its owners are known, whatever becomes of `fill`, nobody may launch it.
        let before = self.broken.replace(format!("the body of node {id} is not finished"));
        if graph.is_null() {
            return Err(refused(format!("the driver made no body for node {id}")).into());
        }
        let part_of = Arc::clone(&self.inner);
        let mut body = Graph::over(GraphHandle::new(self.context(), graph, Some(part_of)));
        let identity = body.inner.id;
        let filled = fill(&mut body);
        if body.inner.id != identity {
            filled?;
            return Err(refused(format!("the body of node {id} was exchanged for another graph")).into());
        }
        // Half a body is in the driver's graph, too.
        let node = &mut self.nodes[id.index()];
        node.label = format!("while of {} nodes", body.len());
        node.keep = Owned::others(body.owners());
        node.body = Some(Box::new(body));
        filled?;
        self.broken = before;
        Ok(id)
    }

    /// Adds the node; the answer has the driver's body, which is null if the driver made none.
    fn add_loop(
        &mut self,
        condition: Conditional,
        after: &[Dependency],
    ) -> Result<(NodeId, CUgraph), DriverError> {
        if condition.graph != self.inner.id {
            return Err(refused("the condition is of another graph".to_owned()));
        }
        if !self.unused_conditions.contains(&condition.handle) {
            return Err(refused("the condition has a loop already".to_owned()));
        }
        self.expect_conditional()?;
        let mut value = CUgraphNodeParamsValue::ZERO;
        value.conditional = CUDA_CONDITIONAL_NODE_PARAMS {
            handle: condition.handle,
            kind: CU_GRAPH_COND_TYPE_WHILE,
            size: 1,
            graphs: ptr::null_mut(),
            ctx: self.context().handle(),
        };
        let kind = CU_GRAPH_NODE_TYPE_CONDITIONAL;
        let mut params = CUgraphNodeParams { kind, reserved0: [0; 3], value, reserved2: 0 };
        let id = self.add(NodeType::Conditional, "while".to_owned(), after, |t, out, graph, deps| {
            // SAFETY: graph, dependencies and context are alive; no edge has data; every byte of the parameters is
            // initialised, and they live during the call.
            unsafe {
                call!(t, graph_add_node(out, graph, deps.as_ptr(), ptr::null(), deps.len(), &mut params))
            }?;
            Ok(Owned::others(Vec::new()))
        })?;
        self.unused_conditions.retain(|handle| *handle != condition.handle);
        // SAFETY: the member is the one that was written above, and whatever the driver wrote is a pointer.
        let graphs = unsafe { params.value.conditional.graphs };
        // SAFETY: null, or the driver's array of one graph, which is valid as long as the node.
        let body = unsafe { graphs.as_ref() }.copied().unwrap_or(CUgraph::NULL);
        Ok((id, body))
    }

    /// Whether it has a loop.
    pub(super) fn has_loop(&self) -> bool {
        self.nodes.iter().any(|node| node.kind == NodeType::Conditional)
    }

    /// Refuses the body of a loop where only a graph of its own will do.
    pub(super) fn expect_no_body(&self) -> Result<(), DriverError> {
        if self.inner.is_body() {
            return Err(refused("the body of a loop cannot be used without its graph".to_owned()));
        }
        Ok(())
    }

    /// Refuses the body of a loop, and a graph that has a loop: the driver neither copies such graphs nor, here, compares
    /// them.
    pub(super) fn expect_no_loop(&self, what: &str) -> Result<(), DriverError> {
        self.expect_no_body()?;
        if self.has_loop() {
            return Err(refused(format!("a graph with a loop cannot be {what}")));
        }
        Ok(())
    }

    /// Refuses conditions without a loop, which the driver may refuse as well.
    pub(super) fn expect_conditions_used(&self) -> Result<(), DriverError> {
        match self.unused_conditions.len() {
            0 => Ok(()),
            n => Err(refused(format!("the definition is incomplete: {n} conditions have no loop"))),
        }
    }

    fn expect_conditional(&self) -> Result<(), DriverError> {
        let table = self.context().table();
        // The errors name the symbols and the version that has them.
        table.graph_conditional_handle_create().map(|_| ())?;
        table.graph_add_node().map(|_| ())?;
        let version = self.context().driver().version()?;
        if version < CONDITIONAL_NODES {
            return Err(refused(format!(
                "conditional nodes need CUDA {CONDITIONAL_NODES}, this driver supports {version}"
            )));
        }
        Ok(())
    }
}
