//! Removal of operations whose results nobody reads.

use super::{Rebuild, Rewrite};
use crate::{ComputeGraph, GraphError, TensorOp};

/// Removes every operation that neither an output nor a scatter into a cache depends on. Leaves are kept.
///
/// # Errors
/// None for a graph that could be built; [`GraphError`] because it is built again.
pub fn remove_dead(graph: &ComputeGraph) -> Result<Rewrite, GraphError> {
    let mut live = vec![false; graph.nodes().len()];
    for &output in graph.outputs() {
        live[output.index()] = true;
    }
    for (i, node) in graph.nodes().iter().enumerate().rev() {
        live[i] |= node.op() == TensorOp::KvScatter;
        if live[i] {
            node.inputs().iter().for_each(|input| live[input.index()] = true);
        }
    }
    let mut rebuild = Rebuild::new(graph);
    for (i, id) in graph.ids().enumerate() {
        if live[i] || graph.node(id).is_leaf() {
            rebuild.keep(id)?;
        }
    }
    rebuild.finish()
}
