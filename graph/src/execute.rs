//! Running a graph on a backend.

use std::time::Instant;

use crate::{ComputeGraph, KernelDispatch, MemoryPlan, PlannedCall, TensorId};

/// What running a graph took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GraphExecResult {
    /// The sum of what the backend's methods returned.
    pub n_launches: usize,
    /// Host time from the first check to the last dispatch, in microseconds. For a backend that queues work this is
    /// the time to queue it.
    pub elapsed_us: u64,
}

/// Why a graph did not run, or not to the end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExecError<E: std::error::Error + 'static> {
    /// The plan was made for another graph, or before the graph was changed. Nothing was run.
    #[error("the memory plan is not of this graph")]
    PlanMismatch,
    /// The backend cannot run a node. Nothing was run.
    #[error("{node} is not supported: {source}")]
    Unsupported {
        /// Which node.
        node: NodeName,
        /// Why.
        source: E,
    },
    /// A node failed. The ones before it have run, those after it have not.
    #[error("{node} failed: {source}")]
    Failed {
        /// Which node.
        node: NodeName,
        /// Why.
        source: E,
    },
}

/// A node or a group in an error message: `%12 mul_mat "blk.0.attn_q"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    /// The node, or the first of a group.
    pub id: TensorId,
    /// The name of its operation or of its kind.
    pub what: &'static str,
    /// The first name among the nodes, each before its operands, or empty.
    pub name: String,
}

impl NodeName {
    fn new(graph: &ComputeGraph, call: &PlannedCall) -> Self {
        let (what, ids) = match call {
            PlannedCall::Op(id, call) => (call.op().name(), std::slice::from_ref(id)),
            PlannedCall::Group(group) => (group.kind().name(), group.ids()),
        };
        let named = |&id: &TensorId| !graph.node(id).name().is_empty();
        let tensors = ids.iter().flat_map(|id| std::iter::once(id).chain(graph.node(*id).inputs()));
        let name = tensors.copied().find(named).map_or("", |id| graph.node(id).name());
        // A group is never empty.
        Self { id: ids.first().copied().unwrap_or(TensorId(0)), what, name: name.to_owned() }
    }
}

impl std::fmt::Display for NodeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.id, self.what)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " \"{}\"", self.name) }
    }
}

impl PlannedCall {
    fn check<D: KernelDispatch + ?Sized>(&self, dispatcher: &D) -> Result<(), D::Error> {
        match self {
            Self::Op(_, call) => dispatcher.check(call),
            Self::Group(group) => dispatcher.check_group(group),
        }
    }

    /// Runs the operation or the group.
    ///
    /// # Errors
    /// The backend's own.
    pub fn dispatch<D: KernelDispatch + ?Sized>(&self, dispatcher: &mut D) -> Result<usize, D::Error> {
        match self {
            Self::Op(_, call) => call.dispatch(dispatcher),
            Self::Group(group) => group.dispatch(dispatcher),
        }
    }
}

/// Dispatches every operation of `graph` in order, those of a group as one if `plan` was made for groups. Leaves and
/// views are not dispatched and not counted.
///
/// All nodes and groups are [checked](KernelDispatch::check) before the first is dispatched. Nothing is allocated unless a node
/// fails.
///
/// # Errors
/// [`ExecError::PlanMismatch`] and [`ExecError::Unsupported`] before anything runs; [`ExecError::Failed`] at the first
/// node that fails, after which nothing more is dispatched.
pub fn execute_graph<D: KernelDispatch + ?Sized>(
    graph: &ComputeGraph,
    plan: &MemoryPlan,
    dispatcher: &mut D,
) -> Result<GraphExecResult, ExecError<D::Error>> {
    if !plan.fits(graph) {
        return Err(ExecError::PlanMismatch);
    }
    let start = Instant::now();
    for call in plan.calls() {
        call.check(dispatcher)
            .map_err(|source| ExecError::Unsupported { node: NodeName::new(graph, call), source })?;
    }
    let mut n_launches = 0;
    for call in plan.calls() {
        n_launches += call
            .dispatch(dispatcher)
            .map_err(|source| ExecError::Failed { node: NodeName::new(graph, call), source })?;
    }
    Ok(GraphExecResult { n_launches, elapsed_us: start.elapsed().as_micros() as u64 })
}
