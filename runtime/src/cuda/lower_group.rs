//! Which kernels compute a group, and on which tensors.

use std::ops::Range;

use graph::groups::{AttentionInput, GatedProjection, Group, GroupCall, Head, ResidualProjection};
use graph::{BufferId, OpCall, RopeStyle, Shape, TensorView};
use kernels::{CacheShape, KernelError, projection, rope};
use tensor_formats::ElementType;

use super::error::CudaError;
use super::layout::ALIGNMENT;
use super::lower::{Lowered, Operand, lower, one, rows_of, with};
use super::machine::{Machine, Rounds};
use super::row_chunks::row_chunks;

/// The launches that compute `group` on `machine`, in order: a fused kernel for each chunk of rows.
///
/// # Errors
/// A type or size that no fused kernel takes. The group's parts may still have kernels.
pub(crate) fn lower_group(group: &Group, machine: Machine) -> Result<Vec<Lowered>, CudaError> {
    constant_weights(group.call())?;
    match group.call() {
        GroupCall::AttentionInput(a) => attention_input(a, machine),
        GroupCall::ResidualProjection(a) => residual_projection(a, group.parts(), machine),
        GroupCall::GatedProjection(a) => gated_projection(a, machine),
        GroupCall::Head(a) => head(a, group.parts(), machine),
    }
}

/// Whether `machine` runs `group` in fused kernels.
pub(crate) fn is_fused(group: &Group, machine: Machine) -> bool {
    lower_group(group, machine).is_ok_and(|launches| launches.iter().all(|launch| fits(launch, machine)))
}

/// Whether a kernel finds what it needs on `machine`.
fn fits(launch: &Lowered, machine: Machine) -> bool {
    let shared = launch.kernel.geometry().dynamic_shared;
    launch.kernel.min_target() <= machine.target && shared <= kernels::shared_memory(machine.target)
}

/// A launch for each chunk of the rows of `input`, which are as large as `machine` takes them.
fn chunks(
    input: &TensorView,
    machine: Machine,
    launch: impl Fn(Range<usize>) -> Result<Lowered, CudaError>,
) -> Result<Vec<Lowered>, CudaError> {
    let rows = input.shape.rows();
    let takes = |&most: &usize| launch(0..most).is_ok_and(|launch| fits(&launch, machine));
    let most = (2..=rows.min(projection::MAX_BATCH)).rev().find(takes);
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

/// The fused kernels quantise, or round what meets `weights`.
fn rounded(q8: bool, weights: &[TensorView], machine: Machine) -> Result<(), KernelError> {
    let halves = |weight: &TensorView| matches!(weight.dtype, ElementType::F16 | ElementType::BF16);
    let rounds = match machine.rounds {
        Rounds::Nothing => false,
        Rounds::BesideHalves | Rounds::ManyRows => weights.iter().all(halves),
        Rounds::AllRows => true,
    };
    let reason = || "activations that are neither quantised nor may be rounded".to_owned();
    if q8 || rounds {
        Ok(())
    } else {
        Err(KernelError::Unsupported { kernel: "projection", reason: reason() })
    }
}

/// The launches of a group of many rows: one that makes halves of them, with the weights and the `eps` of a norm if there is
/// one, and one that multiplies these with the `operands` of `kernel`, weights first.
fn halves(
    input: TensorView,
    norm: Option<(TensorView, f32)>,
    kernel: Result<projection::Gemm, KernelError>,
    operands: &[TensorView],
) -> Result<Vec<Lowered>, CudaError> {
    let rows = projection::HalfRows::new(input.shape.rows(), input.shape.cols(), norm.map(|(_, eps)| eps))?;
    let rows = rows.of_weights(operands[0].dtype);
    let [halves, factors] = rows.bytes();
    let at = halves.next_multiple_of(ALIGNMENT);
    let halves = Operand::Handed { offset: 0, bytes: halves, element: rows.element() };
    let factors = Operand::Handed { offset: at, bytes: factors, element: ElementType::F32 };
    let mut read = vec![Operand::Tensor(input)];
    read.extend(norm.map(|(weight, _)| Operand::Tensor(weight)));
    read.extend([halves, factors]);
    let mut multiplied = vec![halves, factors];
    multiplied.extend(operands.iter().copied().map(Operand::Tensor));
    Ok(vec![with(Ok(rows), read)?, with(kernel, multiplied)?])
}

pub(crate) fn attention_input(a: &AttentionInput, machine: Machine) -> Result<Vec<Lowered>, CudaError> {
    rounded(a.q8, &[a.query.weight, a.key.weight, a.value.weight], machine)?;
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
    let operands = |rows: &Range<usize>| {
        let mut operands: Vec<_> = projections.iter().map(|projection| projection.weight).collect();
        operands.extend(&biases);
        operands.extend([elements_of(&a.positions, rows)?, elements_of(&a.sequences, rows)?, a.table]);
        operands.extend([rows_of(&a.output, rows)?, a.keys, a.values]);
        Ok::<_, CudaError>(operands)
    };
    if machine.multiplies_halves(a.input.shape.rows()) {
        let rows = 0..a.input.shape.rows();
        let shape = projection::AttentionInputShape { batch: rows.len(), ..shape };
        let kernel = projection::Gemm::attention_input(shape);
        return halves(a.input, Some((a.norm, a.eps)), kernel, &operands(&rows)?);
    }
    let launch = |rows: Range<usize>| {
        let shape = projection::AttentionInputShape { batch: rows.len(), ..shape };
        let operands = [vec![rows_of(&a.input, &rows)?, a.norm], operands(&rows)?].concat();
        let kernel = projection::AttentionInput::new(shape)
            .and_then(|kernel| kernel.on(machine.processors, machine.target));
        one(kernel, &operands)
    };
    chunks(&a.input, machine, launch)
}

pub(crate) fn residual_projection(
    a: &ResidualProjection,
    parts: &[OpCall],
    machine: Machine,
) -> Result<Vec<Lowered>, CudaError> {
    let weight = a.projection.weight;
    rounded(a.q8, &[weight], machine)?;
    let shape = (weight.shape.rows(), weight.shape.cols());
    let bias = a.projection.bias.is_some();
    if machine.multiplies_halves(a.input.shape.rows()) {
        let kernel = projection::Gemm::residual_projection(weight.dtype, shape, a.input.shape.rows(), bias);
        let mut operands = vec![weight];
        operands.extend(a.projection.bias);
        operands.extend([a.residual, a.output]);
        return halves(a.input, None, kernel, &operands);
    }
    let kernel = |new: New, rows: usize| {
        new(weight.dtype, shape, rows, bias).and_then(|kernel| kernel.on(machine.processors, machine.target))
    };
    let launches = |new: New, input: TensorView| {
        chunks(&input, machine, |rows| {
            let [input, residual, output] = [input, a.residual, a.output].map(|view| rows_of(&view, &rows));
            let mut operands = vec![input?, weight];
            operands.extend(a.projection.bias);
            operands.extend([residual?, output?]);
            one(kernel(new, rows.len()), &operands)
        })
    };
    let quantisation = parts.iter().find_map(|part| match part {
        OpCall::QuantizeQ8(quantisation) => Some((part, quantisation)),
        _ => None,
    });
    let plain: New = match a.of_attention {
        true => projection::ResidualProjection::of_attention,
        false => projection::ResidualProjection::new,
    };
    let rows = a.input.shape.rows().min(projection::MAX_BATCH);
    let largest = (1..=rows).rev().find_map(|rows| kernel(plain, rows).ok());
    if let Some((part, quantisation)) = quantisation
        && largest.is_some_and(|largest| largest.prefers_q8())
    {
        let mut all = lower(part, machine)?;
        all.extend(launches(projection::ResidualProjection::of_q8, quantisation.output)?);
        return Ok(all);
    }
    launches(plain, a.input)
}

/// What makes a residual projection of a weight's type and shape, a number of rows, and whether there is a bias.
type New =
    fn(ElementType, (usize, usize), usize, bool) -> Result<projection::ResidualProjection, KernelError>;

pub(crate) fn gated_projection(a: &GatedProjection, machine: Machine) -> Result<Vec<Lowered>, CudaError> {
    rounded(a.q8, &[a.gate, a.up], machine)?;
    if a.gate.dtype != a.up.dtype {
        let reason = format!("a gate of type {} beside {}", a.gate.dtype, a.up.dtype);
        return Err(KernelError::Unsupported { kernel: "gated_projection", reason }.into());
    }
    let shape = (a.gate.shape.rows(), a.gate.shape.cols());
    if machine.multiplies_halves(a.input.shape.rows()) {
        let kernel = projection::Gemm::gated_projection(a.gate.dtype, shape, a.input.shape.rows());
        return halves(a.input, Some((a.norm, a.eps)), kernel, &[a.gate, a.up, a.output]);
    }
    let launch = |rows: Range<usize>| {
        let operands = [rows_of(&a.input, &rows)?, a.norm, a.gate, a.up, rows_of(&a.output, &rows)?];
        let kernel = projection::GatedProjection::new(a.gate.dtype, shape, rows.len(), a.eps);
        one(kernel.and_then(|kernel| kernel.on(machine.processors, machine.target)), &operands)
    };
    chunks(&a.input, machine, launch)
}

/// Where logits are wanted as well, or are those of many rows, the largest is found in a launch of its own.
pub(crate) fn head(a: &Head, parts: &[OpCall], machine: Machine) -> Result<Vec<Lowered>, CudaError> {
    rounded(a.q8, &[a.weight], machine)?;
    let shape = (a.weight.shape.rows(), a.weight.shape.cols());
    let rows = a.input.shape.rows();
    let largest = |mut launches: Vec<Lowered>| {
        for part in parts.iter().filter(|part| matches!(part, OpCall::Argmax(_))) {
            launches.extend(lower(part, machine)?);
        }
        Ok(launches)
    };
    let product = parts.iter().find_map(|part| match part {
        OpCall::MulMat(product) => Some(product.output),
        _ => None,
    });
    if machine.multiplies_halves(rows)
        && let Some(logits) = product
        && let Ok(kernel) = projection::Gemm::head(a.weight.dtype, shape, rows)
    {
        return largest(halves(a.input, Some((a.norm, a.eps)), Ok(kernel), &[a.weight, logits])?);
    }
    let on = (machine.processors, machine.target);
    let operands = |rows: &Range<usize>, output| {
        Ok::<_, CudaError>([rows_of(&a.input, rows)?, a.norm, a.weight, output])
    };
    let logits = match (a.logits, a.argmax) {
        (Some(logits), _) => logits,
        (None, Some(argmax)) => {
            return chunks(&a.input, machine, |rows| {
                let operands = operands(&rows, elements_of(&argmax, &rows)?)?;
                let kernel = projection::GreedyHead::new(a.weight.dtype, shape, rows.len(), a.eps);
                one(kernel.and_then(|kernel| kernel.on(on.0, on.1)), &operands)
            });
        }
        (None, None) => {
            let reason = "a head without results".to_owned();
            return Err(KernelError::Unsupported { kernel: "head", reason }.into());
        }
    };
    largest(chunks(&a.input, machine, |rows| {
        let operands = operands(&rows, rows_of(&logits, &rows)?)?;
        let kernel = projection::Head::new(a.weight.dtype, shape, rows.len(), a.eps);
        one(kernel.and_then(|kernel| kernel.on(on.0, on.1)), &operands)
    })?)
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
    use ptx_builder::Target;
    use tensor_formats::ElementType::{F32, Q4_K};

    use super::*;

    /// `residual + weight * x` for `x` `[rows, cols]`, where the weight is a leaf or a copy of one.
    fn graph(copied: bool, (rows, cols): (usize, usize)) -> ComputeGraph {
        let shape = |dims: &[usize]| Shape::new(dims).unwrap();
        let mut g = ComputeGraph::new();
        let leaf = g.add_leaf("weight", Q4_K, shape(&[64, cols])).unwrap();
        let x = g.add_leaf("x", F32, shape(&[rows, cols])).unwrap();
        let residual = g.add_leaf("residual", F32, shape(&[rows, 64])).unwrap();
        let weight = if copied { g.copy(leaf).unwrap() } else { leaf };
        let product = g.mul_mat(weight, x).unwrap();
        let sum = g.add(residual, product).unwrap();
        g.mark_output(sum).unwrap();
        share_q8_activations(&g).unwrap().graph
    }

    fn machine(target: Target) -> Machine {
        Machine { target, ..Machine::H200 }
    }

    /// How many groups `target` fuses.
    fn groups(copied: bool, target: Target) -> usize {
        graph(copied, (1, 256)).group(|group| is_fused(group, machine(target))).groups().len()
    }

    /// The kernels of a residual projection, each with the rows that it takes.
    fn kernels(x: (usize, usize), target: Target) -> Vec<String> {
        kernels_on(x, machine(target))
    }

    fn kernels_on(x: (usize, usize), machine: Machine) -> Vec<String> {
        let names = std::cell::RefCell::new(Vec::new());
        graph(false, x).group(|group| {
            let launches = lower_group(group, machine).unwrap();
            names.replace(launches.iter().map(|launch| launch.kernel.name()).collect());
            true
        });
        names.into_inner()
    }

    #[test]
    fn weights_that_a_kernel_makes_are_not_read_ahead_of_it() {
        assert_eq!((groups(false, Target::SM_90), groups(true, Target::SM_90)), (1, 0));
    }

    #[test]
    fn devices_without_copies_in_the_background_run_groups_part_by_part() {
        assert_eq!((groups(false, Target::SM_80), groups(false, Target::SM_75)), (1, 0));
    }

    #[test]
    fn chunks_of_rows_are_as_large_as_the_device_has_shared_memory_for() {
        let of = |x: (usize, usize), target: Target| -> String {
            let names = kernels(x, target);
            names.iter().map(|name| name.rsplit_once("_b").unwrap().1).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(of((9, 4096), Target::SM_90A), "8 1");
        assert_eq!(of((8, 4096), Target::SM_80), "4_sm80 4_sm80");
        for target in [Target::SM_80, Target::SM_86, Target::SM_120A] {
            let names = kernels((8, 14336), target);
            assert!(names.len() > 1, "{target}: {names:?}");
        }
    }

    #[test]
    fn kernels_are_spread_over_the_processors_of_the_device() {
        let machine =
            Machine { target: Target::SM_89, processors: 58, rounds: Rounds::Nothing, prompt: false };
        assert_eq!(kernels_on((1, 4096), machine), ["residual_projection_q4_k_64x4096_b1_sm89_p58"]);
    }

    #[test]
    fn many_activations_are_quantised_once() {
        assert_eq!(
            kernels((8, 14336), Target::SM_90),
            ["quantize_q8_n14336_b8", "residual_projection_q8_q4_k_64x14336_b8"]
        );
        assert_eq!(kernels((8, 4096), Target::SM_90), ["residual_projection_q4_k_64x4096_b8"]);
        let names = kernels((9, 14336), Target::SM_90);
        assert!(names.len() == 3 && names[2] == "residual_projection_q8_q4_k_64x14336_b1", "{names:?}");
        // One row is not worth a launch, and neither are several of which the blocks of a cluster have a part each.
        assert_eq!(kernels((1, 14336), Target::SM_90).len(), 1);
        assert_eq!(kernels((4, 4096), Target::SM_90).len(), 1);
    }
}
