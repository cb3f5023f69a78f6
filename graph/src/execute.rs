//! Running a graph on a backend.

use std::time::Instant;

use crate::{ComputeGraph, KernelDispatch, MemoryPlan, TensorId, TensorOp};

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

/// A node in an error message: `%12 mul_mat "blk.0.attn_q"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName {
    /// The node.
    pub id: TensorId,
    /// Its operation.
    pub op: TensorOp,
    /// Its name, or that of its first named operand, or empty.
    pub name: String,
}

impl NodeName {
    fn new(graph: &ComputeGraph, id: TensorId) -> Self {
        let node = graph.node(id);
        let names = std::iter::once(node.name()).chain(node.inputs().iter().map(|&i| graph.node(i).name()));
        Self {
            id,
            op: node.op(),
            name: names.into_iter().find(|n| !n.is_empty()).unwrap_or_default().to_owned(),
        }
    }
}

impl std::fmt::Display for NodeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.id, self.op)?;
        if self.name.is_empty() { Ok(()) } else { write!(f, " \"{}\"", self.name) }
    }
}

/// Dispatches every operation of `graph` in order. Leaves and views are not dispatched and not counted.
///
/// All nodes are [checked](KernelDispatch::check) before the first is dispatched. Nothing is allocated unless a node
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
    for (id, call) in plan.calls() {
        dispatcher
            .check(call)
            .map_err(|source| ExecError::Unsupported { node: NodeName::new(graph, *id), source })?;
    }
    let mut n_launches = 0;
    for (id, call) in plan.calls() {
        n_launches += call
            .dispatch(dispatcher)
            .map_err(|source| ExecError::Failed { node: NodeName::new(graph, *id), source })?;
    }
    Ok(GraphExecResult { n_launches, elapsed_us: start.elapsed().as_micros() as u64 })
}
