//! The launch plan of one kind of step: state up, kernels, results down; or kernels alone, where a step hands its tokens
//! to the next.

use std::sync::Arc;

use graph::execute_graph;
use kernels::KernelError;
use kernels::sample::{Advance, LoopCondition};
use tensor_formats::ElementType;

use super::engine_layout::{EngineLayout, Place, StepTensors};
use super::error::CudaError;
use super::executor::{Bindings, CudaExecutor};
use super::machine::Machine;
use super::memory_map::{MemoryMap, RegionId, Span};
use super::plan::{Argument, LaunchPlan};
use super::sampling::SampledRows;
use crate::error::Error;

/// An engine's regions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EngineRegions {
    /// Weights and the table of rotations.
    pub weights: RegionId,
    /// KV caches.
    pub caches: RegionId,
    /// Tokens, positions, sequences and counts of steps on the device.
    pub state: RegionId,
    /// Intermediates, and scratch of kernels.
    pub workspace: RegionId,
    /// Counters of kernels.
    pub counters: RegionId,
    /// The host's copy of the state.
    pub host_state: RegionId,
    /// The host's copy of the results.
    pub host_results: RegionId,
    /// The ring of tokens that the host reads while steps run.
    pub ring: RegionId,
    /// How far the steps of a loop may run: see [`LoopCondition`].
    pub control: RegionId,
    /// What tokens are sampled by: see [`SamplingLayout`](super::sampling::SamplingLayout).
    pub sampling: RegionId,
}

/// A step's plan and what it leaves on the host.
#[derive(Debug, Clone)]
pub struct StepPlan {
    /// The plan: one copy up, the graph's launches, one copy down if there are results.
    pub plan: LaunchPlan,
    /// Bytes of results, from the start of [`EngineRegions::host_results`] on.
    pub result_bytes: u64,
}

/// Makes the plan of the step `tensors` over memory laid out as `layout`.
///
/// # Errors
/// If an operation has no kernel, or memory is too small for the step.
pub fn step_plan(
    tensors: &StepTensors,
    layout: &EngineLayout,
    regions: &EngineRegions,
    map: &Arc<MemoryMap>,
    machine: Machine,
) -> Result<StepPlan, Error> {
    let fail = |error: CudaError| Error::device("cuda", "planning a step", error);
    let bindings = bind(tensors, layout, regions, map).map_err(fail)?;
    let mut plan = LaunchPlan::new(Arc::clone(map));
    let bytes = layout.state_bytes();
    let state = Span { region: regions.state, offset: 0, bytes };
    let host_state = Span { region: regions.host_state, offset: 0, bytes };
    plan.copy(state, host_state).map_err(|error| fail(error.into()))?;
    let mut executor = CudaExecutor::new(plan, &bindings, machine);
    execute_graph(&tensors.rewrite.graph, &tensors.memory, &mut executor)
        .map_err(|error| Error::device("cuda", "planning a step", error))?;
    let mut plan = executor.finish();
    let mut result_bytes = 0;
    if let Some(view) = tensors.result.and_then(|id| tensors.memory.view(id)) {
        let source = bindings.span(&view).map_err(fail)?;
        result_bytes = source.bytes;
        let target = Span { region: regions.host_results, offset: 0, bytes: result_bytes };
        plan.copy(target, source).map_err(|error| fail(error.into()))?;
    }
    Ok(StepPlan { plan, result_bytes })
}

/// Makes the plan of the step `tensors`, which takes its state from the device's memory and leaves there that of the step
/// that follows: each row's token becomes the one that was chosen for it, at the next position. The tokens also go to
/// the ring, as [`Advance`] does it.
///
/// If the step ends in logits, the tokens are sampled from them.
///
/// # Errors
/// If the step ends in neither tokens nor logits, an operation has no kernel, or memory is too small for the step.
pub fn advancing_plan(
    tensors: &StepTensors,
    layout: &EngineLayout,
    regions: &EngineRegions,
    map: &Arc<MemoryMap>,
    machine: Machine,
) -> Result<LaunchPlan, Error> {
    let fail = |error: CudaError| Error::device("cuda", "planning a step", error);
    let bindings = bind(tensors, layout, regions, map).map_err(fail)?;
    let mut executor = CudaExecutor::new(LaunchPlan::new(Arc::clone(map)), &bindings, machine);
    execute_graph(&tensors.rewrite.graph, &tensors.memory, &mut executor)
        .map_err(|error| Error::device("cuda", "planning a step", error))?;
    let mut plan = executor.finish();
    let state = |index| {
        let Place { offset, bytes } = layout.state_vector(index);
        Span { region: regions.state, offset, bytes }
    };
    let Some(result) = tensors.result.and_then(|id| tensors.memory.view(id)) else {
        let reason = "a step that chooses no tokens".to_owned();
        return Err(fail(KernelError::Unsupported { kernel: "advance", reason }.into()));
    };
    let rows = result.shape.rows();
    let found = bindings.span(&result).map_err(fail)?;
    let (rows, chosen) = match (result.dtype, &layout.sampling) {
        (ElementType::U32, _) => (result.shape.elements(), found),
        (ElementType::F32, Some(sampling)) => {
            let sampled = SampledRows { rows, logits: found, positions: state(1), sequences: state(2) };
            (rows, sampling.append(&mut plan, &bindings, regions.sampling, &sampled).map_err(fail)?)
        }
        (other, _) => {
            let reason = format!("tokens from results of type {other}");
            return Err(fail(KernelError::Unsupported { kernel: "advance", reason }.into()));
        }
    };
    let kernel = Advance::new(rows, layout.ring_slots).map_err(|error| fail(error.into()))?;
    let ring = Span { region: regions.ring, offset: 0, bytes: layout.ring_bytes };
    let spans = [chosen, state(0), state(1), state(3), ring];
    let arguments = spans.map(|span| Argument { span, element: ElementType::U32 });
    plan.launch(Arc::new(kernel), &arguments).map_err(|error| fail(error.into()))?;
    Ok(plan)
}

/// Makes the plan that ends each iteration of a loop over `together` advancing plans: it sets the loop's condition.
///
/// # Errors
/// If memory is too small.
///
/// # Safety
/// As for [`LoopCondition::new`]: `regions.control` tells the number of the condition.
pub unsafe fn loop_end_plan(
    layout: &EngineLayout,
    regions: &EngineRegions,
    map: &Arc<MemoryMap>,
    together: u32,
) -> Result<LaunchPlan, CudaError> {
    let Place { offset, bytes } = layout.state_vector(3);
    let steps = Span { region: regions.state, offset, bytes };
    let control = Span { region: regions.control, offset: 0, bytes: LoopCondition::WORDS as u64 * 4 };
    let arguments = [steps, control].map(|span| Argument { span, element: ElementType::U32 });
    let mut plan = LaunchPlan::new(Arc::clone(map));
    // SAFETY: what the caller promises.
    let kernel = unsafe { LoopCondition::new(together) };
    plan.launch(Arc::new(kernel), &arguments)?;
    Ok(plan)
}

fn bind(
    tensors: &StepTensors,
    layout: &EngineLayout,
    regions: &EngineRegions,
    map: &MemoryMap,
) -> Result<Bindings, CudaError> {
    let span = |region, place: Place| Span { region, offset: place.offset, bytes: place.bytes };
    let mut bindings = Bindings::new();
    let state = [tensors.tokens, tensors.positions, tensors.sequences];
    for (index, id) in (0..).zip(state) {
        bindings.bind(id, span(regions.state, layout.state_vector(index)));
    }
    for (id, name) in &tensors.weights {
        let place = layout.weights.get(name).ok_or_else(|| CudaError::NoPlace { weight: name.clone() })?;
        bindings.bind(*id, span(regions.weights, *place));
    }
    bindings.bind(tensors.rope_table, span(regions.weights, layout.rope_table));
    for ((keys, values), (keys_at, values_at)) in tensors.kv.iter().zip(&layout.caches) {
        bindings.bind(*keys, span(regions.caches, *keys_at));
        bindings.bind(*values, span(regions.caches, *values_at));
    }
    let whole = |region, what: &str| map.whole(region).ok_or(CudaError::Overflow { what: what.into() });
    let workspace = whole(regions.workspace, "the workspace")?;
    let scratch_at = tensors.scratch_offset();
    bindings.bind_workspace(workspace.prefix(scratch_at).unwrap_or(workspace));
    if let Some(scratch) = workspace.slice(scratch_at, tensors.working.scratch) {
        bindings.bind_scratch(scratch);
    }
    bindings.bind_counters(whole(regions.counters, "the counters")?);
    Ok(bindings)
}
