//! Passes: functions from graph to graph.
//!
//! A pass rebuilds the graph through [`ComputeGraph::add_op`], so its result is checked like any other. All leaves
//! survive, in their order, and so do all outputs; [`Rewrite::map`] says what became of every other tensor.

mod dead;
mod q8;
mod swiglu;

pub use dead::remove_dead;
pub use q8::share_q8_activations;
pub use swiglu::fuse_swiglu;

use crate::{ComputeGraph, GraphError, TensorId, TensorOp};

/// The result of a pass.
#[derive(Debug, Clone)]
pub struct Rewrite {
    /// The new graph.
    pub graph: ComputeGraph,
    map: Vec<Option<TensorId>>,
}

impl Rewrite {
    /// A rewrite that changes nothing: the start of a chain of passes.
    pub fn identity(graph: ComputeGraph) -> Self {
        let map = graph.ids().map(Some).collect();
        Self { graph, map }
    }

    /// The tensor of the new graph with the value of `old`; `None` if the new graph does not compute it, or if the old
    /// one had no such tensor.
    pub fn map(&self, old: TensorId) -> Option<TensorId> {
        self.map.get(old.index()).copied().flatten()
    }

    /// This rewrite followed by another pass; the map leads from the first graph to the last.
    ///
    /// # Errors
    /// Those of `pass`.
    pub fn then(
        self,
        pass: impl FnOnce(&ComputeGraph) -> Result<Rewrite, GraphError>,
    ) -> Result<Self, GraphError> {
        let next = pass(&self.graph)?;
        let map = self.map.into_iter().map(|id| id.and_then(|id| next.map(id))).collect();
        Ok(Self { graph: next.graph, map })
    }
}

/// Copies a graph node by node, with changes on the way.
struct Rebuild<'a> {
    old: &'a ComputeGraph,
    new: ComputeGraph,
    map: Vec<Option<TensorId>>,
}

impl<'a> Rebuild<'a> {
    fn new(old: &'a ComputeGraph) -> Self {
        Self { old, new: ComputeGraph::new(), map: vec![None; old.nodes().len()] }
    }

    /// What `old` became.
    fn mapped(&self, old: TensorId) -> Result<TensorId, GraphError> {
        let gone = GraphError::NoSuchTensor { id: old, nodes: self.new.nodes().len() };
        self.map[old.index()].ok_or(gone)
    }

    /// Adds the node of `id` as it is.
    fn keep(&mut self, id: TensorId) -> Result<TensorId, GraphError> {
        let node = self.old.node(id);
        if node.is_leaf() {
            let new = self.new.add_leaf(node.name(), node.dtype(), node.shape())?;
            self.map[id.index()] = Some(new);
            return Ok(new);
        }
        self.replace(id, node.op(), node.inputs())
    }

    /// Adds an operation on `inputs` (of the old graph) in the place of `id`, with its name and parameters.
    fn replace(&mut self, id: TensorId, op: TensorOp, inputs: &[TensorId]) -> Result<TensorId, GraphError> {
        let inputs = inputs.iter().map(|&input| self.mapped(input)).collect::<Result<Vec<_>, _>>()?;
        self.replace_with(id, op, &inputs)
    }

    /// As [`replace`](Self::replace), with inputs of the new graph.
    fn replace_with(
        &mut self,
        id: TensorId,
        op: TensorOp,
        inputs: &[TensorId],
    ) -> Result<TensorId, GraphError> {
        let node = self.old.node(id);
        let new = self.new.add_op(op, inputs, node.params())?;
        self.new.set_name(new, node.name())?;
        self.map[id.index()] = Some(new);
        Ok(new)
    }

    fn finish(mut self) -> Result<Rewrite, GraphError> {
        for &output in self.old.outputs() {
            let new = self.mapped(output)?;
            self.new.mark_output(new)?;
        }
        Ok(Rewrite { graph: self.new, map: self.map })
    }
}
