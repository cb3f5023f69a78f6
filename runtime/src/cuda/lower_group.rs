//! Which kernels compute a group, and on which tensors.

use std::ops::Range;

use graph::groups::{AttentionInput, GatedProjection, Group, GroupCall, Head, ResidualProjection};
use graph::{BufferId, OpCall, RopeStyle, Shape, TensorView};
use kernels::{CacheShape, KernelError, projection, rope};
use ptx_builder::Target;

use super::error::CudaError;
use super::lower::{Lowered, lower, one, rows_of};
use super::row_chunks::row_chunks;

/// The launches that compute `group`, in order: a fused kernel for each chunk of rows.
///
/// # Errors
/// A type or size that no fused kernel takes. The group's parts may still have kernels.
pub(crate) fn lower_group(group: &Group) -> Result<Vec<Lowered>, CudaError> {
    constant_weights(group.call())?;
    match group.call() {
        GroupCall::AttentionInput(a) => attention_input(a),
        GroupCall::ResidualProjection(a) => residual_projection(a),
        GroupCall::GatedProjection(a) => gated_projection(a),
        GroupCall::Head(a) => head(a, group.parts()),
    }
}

/// Whether `target` runs `group` in fused kernels.
pub(crate) fn is_fused(group: &Group, target: Target) -> bool {
    let fits = |launches: Vec<Lowered>| launches.iter().all(|launch| launch.kernel.min_target() <= target);
    lower_group(group).is_ok_and(fits)
}

/// A launch for each chunk of the rows of `input`, which are as large as kernels take them.
fn chunks(
    input: &TensorView,
    launch: impl Fn(Range<usize>) -> Result<Lowered, CudaError>,
) -> Result<Vec<Lowered>, CudaError> {
    let rows = input.shape.rows();
    let most = (2..=rows.min(projection::MAX_BATCH)).rev().find(|&most| launch(0..most).is_ok());
    row_chunks(rows, most.unwrap_or(1)).map(launch).collect()
}

/// The fused kernels read weights before they wait for the kernels before them, so none of these may make them.
fn constant_weights(call: &GroupCall) -> Result<(), KernelError> {
    let weights = match call {
        GroupCall::AttentionInput(a) => vec![a.norm, a.query.weight, a.key.weight, a.value.weight],
        GroupCall::ResidualProjection(a) => vec![a.projection.weight],
        GroupCall::GatedProjection(a) => vec![a.norm, a.gate, a.up],
        GroupCall::Head(a) => vec![a.norm, a.weight],
    };
    if weights.iter().all(|weight| matches!(weight.buffer, BufferId::Leaf(_))) {
        return Ok(());
    }
    let reason = "weights that are computed".to_owned();
    Err(KernelError::Unsupported { kernel: "projection", reason })
}

/// The fused kernels quantise.
fn quantised(q8: bool) -> Result<(), KernelError> {
    let reason = || "activations that are not quantised".to_owned();
    if q8 { Ok(()) } else { Err(KernelError::Unsupported { kernel: "projection", reason: reason() }) }
}

pub(crate) fn attention_input(a: &AttentionInput) -> Result<Vec<Lowered>, CudaError> {
    quantised(a.q8)?;
    if a.n_rot != a.head_dim {
        let reason = format!("{} of {} features rotated", a.n_rot, a.head_dim);
        return Err(KernelError::Unsupported { kernel: "attention_input", reason }.into());
    }
    let projections = [a.query, a.key, a.value];
    let biases: Vec<TensorView> = projections.iter().filter_map(|projection| projection.bias).collect();
    if !biases.is_empty() && biases.len() < projections.len() {
        let reason = "biases on some of query, key and value".to_owned();
        return Err(KernelError::Unsupported { kernel: "attention_input", reason }.into());
    }
    let shape = projection::AttentionInputShape {
        batch: 1,
        cols: a.input.shape.cols(),
        eps: a.eps,
        elements: projections.map(|projection| projection.weight.dtype),
        n_heads: a.n_heads,
        bias: !biases.is_empty(),
        style: match a.style {
            RopeStyle::Interleaved => rope::RopeStyle::Interleaved,
            RopeStyle::NeoX => rope::RopeStyle::NeoX,
        },
        table_positions: a.table.shape.outer(),
        cache: CacheShape {
            n_sequences: a.n_sequences,
            n_kv_heads: a.n_kv_heads,
            max_seq: a.max_seq,
            head_dim: a.head_dim,
            element: a.keys.dtype,
        },
    };
    let launch = |rows: Range<usize>| {
        let shape = projection::AttentionInputShape { batch: rows.len(), ..shape };
        let mut operands = vec![rows_of(&a.input, &rows)?, a.norm];
        operands.extend(projections.iter().map(|projection| projection.weight));
        operands.extend(&biases);
        operands.extend([elements_of(&a.positions, &rows)?, elements_of(&a.sequences, &rows)?, a.table]);
        operands.extend([rows_of(&a.output, &rows)?, a.keys, a.values]);
        one(projection::AttentionInput::new(shape), &operands)
    };
    chunks(&a.input, launch)
}

pub(crate) fn residual_projection(a: &ResidualProjection) -> Result<Vec<Lowered>, CudaError> {
    quantised(a.q8)?;
    let weight = a.projection.weight;
    let launch = |rows: Range<usize>| {
        let [input, residual, output] = [a.input, a.residual, a.output].map(|view| rows_of(&view, &rows));
        let mut operands = vec![input?, weight];
        operands.extend(a.projection.bias);
        operands.extend([residual?, output?]);
        let bias = a.projection.bias.is_some();
        let shape = (weight.shape.rows(), weight.shape.cols());
        one(projection::ResidualProjection::new(weight.dtype, shape, rows.len(), bias), &operands)
    };
    chunks(&a.input, launch)
}

pub(crate) fn gated_projection(a: &GatedProjection) -> Result<Vec<Lowered>, CudaError> {
    quantised(a.q8)?;
    if a.gate.dtype != a.up.dtype {
        let reason = format!("a gate of type {} beside {}", a.gate.dtype, a.up.dtype);
        return Err(KernelError::Unsupported { kernel: "gated_projection", reason }.into());
    }
    let launch = |rows: Range<usize>| {
        let operands = [rows_of(&a.input, &rows)?, a.norm, a.gate, a.up, rows_of(&a.output, &rows)?];
        let shape = (a.gate.shape.rows(), a.gate.shape.cols());
        one(projection::GatedProjection::new(a.gate.dtype, shape, rows.len(), a.eps), &operands)
    };
    chunks(&a.input, launch)
}

/// The logits go to memory whether they are wanted or not: the largest is found in a second launch.
pub(crate) fn head(a: &Head, parts: &[OpCall]) -> Result<Vec<Lowered>, CudaError> {
    quantised(a.q8)?;
    let logits = parts.iter().find_map(|part| match part {
        OpCall::MulMat(product) => Some(product.output),
        _ => None,
    });
    let Some(logits) = a.logits.or(logits) else {
        let reason = "a head without a product".to_owned();
        return Err(KernelError::Unsupported { kernel: "head", reason }.into());
    };
    let launch = |rows: Range<usize>| {
        let operands = [rows_of(&a.input, &rows)?, a.norm, a.weight, rows_of(&logits, &rows)?];
        let shape = (a.weight.shape.rows(), a.weight.shape.cols());
        one(projection::Head::new(a.weight.dtype, shape, rows.len(), a.eps), &operands)
    };
    let mut launches = chunks(&a.input, launch)?;
    for part in parts.iter().filter(|part| matches!(part, OpCall::Argmax(_))) {
        launches.extend(lower(part)?);
    }
    Ok(launches)
}

/// The elements `rows` of a vector.
fn elements_of(view: &TensorView, rows: &Range<usize>) -> Result<TensorView, CudaError> {
    let shape = Shape::new(&[rows.len()]).map_err(|error| CudaError::Overflow { what: error.to_string() })?;
    let element = view.bytes() / view.shape.elements() as u64;
    Ok(TensorView { offset: view.offset + rows.start as u64 * element, shape, ..*view })
}

#[cfg(test)]
mod tests {
    use graph::passes::share_q8_activations;
    use graph::{ComputeGraph, Shape};
    use tensor_formats::ElementType::{F32, Q4_K};

    use super::*;

    /// The groups that `target` fuses of `residual + weight * x`, where the weight is a leaf or a copy of one.
    fn groups(copied: bool, target: Target) -> usize {
        let shape = |dims: &[usize]| Shape::new(dims).unwrap();
        let mut g = ComputeGraph::new();
        let leaf = g.add_leaf("weight", Q4_K, shape(&[64, 256])).unwrap();
        let x = g.add_leaf("x", F32, shape(&[1, 256])).unwrap();
        let residual = g.add_leaf("residual", F32, shape(&[1, 64])).unwrap();
        let weight = if copied { g.copy(leaf).unwrap() } else { leaf };
        let product = g.mul_mat(weight, x).unwrap();
        let sum = g.add(residual, product).unwrap();
        g.mark_output(sum).unwrap();
        let rewrite = share_q8_activations(&g).unwrap();
        rewrite.graph.group(|group| is_fused(group, target)).groups().len()
    }

    #[test]
    fn weights_that_a_kernel_makes_are_not_read_ahead_of_it() {
        assert_eq!((groups(false, Target::SM_90), groups(true, Target::SM_90)), (1, 0));
    }

    #[test]
    fn devices_without_copies_in_the_background_run_groups_part_by_part() {
        assert_eq!((groups(false, Target::SM_80), groups(false, Target::SM_75)), (1, 0));
    }
}
