//! Quantised activations, each computed once and shared by the matmuls that read it.

use tensor_formats::{ElementType, has_dot_q8};

use super::{Rebuild, Rewrite};
use crate::{ComputeGraph, GraphError, OpParams, TensorId, TensorOp};

/// Lets every matmul with a quantised weight read its activation as Q8Act: one `quantize_q8` for each
/// distinct activation tensor, directly before its first such reader. Other matmuls keep reading F32.
///
/// The quantised activation is a node of its own with the activation as operand, so it cannot be mistaken for that of
/// another tensor.
///
/// # Errors
/// None for a graph that could be built; [`GraphError`] because it is built again.
pub fn share_q8_activations(graph: &ComputeGraph) -> Result<Rewrite, GraphError> {
    let mut rebuild = Rebuild::new(graph);
    // By index of the activation in the old graph: its quantised form in the new one.
    let mut quantised: Vec<Option<TensorId>> = vec![None; graph.nodes().len()];
    for id in graph.ids() {
        let node = graph.node(id);
        match (node.op(), node.inputs()) {
            (TensorOp::MulMat, &[weight, input]) if wants_q8(graph, weight, input) => {
                let activation = match quantised[input.index()] {
                    Some(activation) => activation,
                    None => {
                        let input = rebuild.mapped(input)?;
                        rebuild.new.add_op(TensorOp::QuantizeQ8, &[input], OpParams::None)?
                    }
                };
                quantised[input.index()] = Some(activation);
                let weight = rebuild.mapped(weight)?;
                rebuild.replace_with(id, TensorOp::MulMat, &[weight, activation])?;
            }
            (TensorOp::QuantizeQ8, &[input]) => {
                let new = rebuild.keep(id)?;
                quantised[input.index()].get_or_insert(new);
            }
            _ => {
                rebuild.keep(id)?;
            }
        }
    }
    rebuild.finish()
}

fn wants_q8(graph: &ComputeGraph, weight: TensorId, input: TensorId) -> bool {
    let (weight, input) = (graph.node(weight), graph.node(input));
    has_dot_q8(weight.dtype())
        && input.dtype() == ElementType::F32
        && input.shape().cols().is_multiple_of(ElementType::Q8Act.block_elements())
}
