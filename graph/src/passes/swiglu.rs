//! Fusion of `silu(gate) * up`.

use super::{Rebuild, Rewrite};
use crate::{ComputeGraph, GraphError, TensorId, TensorOp};

/// Turns `mul(silu(gate), up)`, in either order, into `swi_glu(gate, up)` where nothing else reads the silu.
///
/// # Errors
/// None for a graph that could be built; [`GraphError`] because it is built again.
pub fn fuse_swiglu(graph: &ComputeGraph) -> Result<Rewrite, GraphError> {
    let mut readers = vec![0u32; graph.nodes().len()];
    for node in graph.nodes() {
        node.inputs().iter().for_each(|input| readers[input.index()] += 1);
    }
    // The gate of a silu that can move down to its multiplication. If a scatter writes to the memory of the gate, the
    // value might be gone by then.
    let gate = |id: TensorId| {
        let node = graph.node(id);
        let movable = node.op() == TensorOp::Silu
            && readers[id.index()] == 1
            && !graph.outputs().contains(&id)
            && !graph.is_written(node.inputs()[0]);
        movable.then(|| node.inputs()[0])
    };
    // fused[mul] = (silu, gate, up)
    let mut fused = vec![None; graph.nodes().len()];
    let mut removed = vec![false; graph.nodes().len()];
    for (i, node) in graph.nodes().iter().enumerate() {
        if let (TensorOp::Mul, &[a, b]) = (node.op(), node.inputs()) {
            let found = gate(a).map(|gate| (a, gate, b)).or_else(|| gate(b).map(|gate| (b, gate, a)));
            if let Some((silu, gate, up)) = found {
                removed[silu.index()] = true;
                fused[i] = Some((gate, up));
            }
        }
    }
    let mut rebuild = Rebuild::new(graph);
    for (i, id) in graph.ids().enumerate() {
        match fused[i] {
            Some((gate, up)) => {
                rebuild.replace(id, TensorOp::SwiGlu, &[gate, up])?;
            }
            None if removed[i] => {}
            None => {
                rebuild.keep(id)?;
            }
        }
    }
    rebuild.finish()
}
