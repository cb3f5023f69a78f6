//! Where an engine's weights, caches and step state go, before any of it is allocated.

use std::collections::BTreeMap;

use graph::passes::{self, Rewrite};
use graph::{GraphError, MemoryPlan, OpCall, PlannedCall, TensorId};
use kernels::projection::{Gemm, MAX_BATCH};

use super::layout::{ALIGNMENT, Layout, MemoryNeed};
use super::lower_group::is_fused;
use super::machine::{Machine, Rounds};
use super::sampling::SamplingLayout;
use super::working_memory::WorkingMemory;
use crate::decoder::Output;
use crate::engine::{Activations, EngineOptions};
use crate::error::Error;
use crate::model::{ModelConfig, StepGraph, StepShape, build_step};

/// A tensor's place in its allocation, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The first byte.
    pub offset: u64,
    /// The number of bytes.
    pub bytes: u64,
}

/// The layout of an engine's allocations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineLayout {
    /// Each weight by the name of its tensor.
    pub weights: BTreeMap<String, Place>,
    /// The table of rotations, in the same allocation as the weights.
    pub rope_table: Place,
    /// Bytes of the weights' allocation.
    pub weight_bytes: u64,
    /// Keys and values of each layer.
    pub caches: Vec<(Place, Place)>,
    /// Bytes of the caches' allocation.
    pub cache_bytes: u64,
    /// The most rows of a step that has them multiplied as halves, if there are such steps: see [`halves`](Self::halves).
    pub many_rows: Option<usize>,
    /// Tokens, positions, sequences and counts of steps: four vectors of a word for each row, this many bytes apart.
    pub state_stride: u64,
    /// Steps of the ring of tokens, a power of two.
    pub ring_slots: usize,
    /// Bytes of the ring of tokens: a count and a token for each of `max_rows` rows of each step.
    pub ring_bytes: u64,
    /// Bytes of the workspace that the largest of the usual steps needs: intermediates and scratch of kernels.
    pub workspace_bytes: u64,
    /// Bytes of counters of kernels.
    pub counter_bytes: u64,
    /// What sampling keeps on the device; `None` if the host does it.
    pub sampling: Option<SamplingLayout>,
}

impl EngineLayout {
    /// The layout for a model with `options` on `machine`.
    ///
    /// # Errors
    /// If a step's graph cannot be built, or sizes overflow.
    pub fn new(config: &ModelConfig, options: &EngineOptions, machine: Machine) -> Result<Self, Error> {
        let many_rows = many_rows(config, options, machine)?;
        let on = |rows, output| step_machine(machine, many_rows, (rows, output));
        let step = |rows, output| StepTensors::new(config, options, (rows, output), on(rows, output));
        let tensors = |output| step(options.max_rows, output);
        let largest = tensors(Output::AllLogits)?;
        let overflow = |what: &str| {
            let what = what.to_owned();
            Error::device("cuda", "laying out memory", super::error::CudaError::Overflow { what })
        };
        let mut arena = Layout::default();
        let place = |arena: &mut Layout, id: TensorId, name: &str| {
            let bytes = largest.rewrite.graph.get(id).map_err(|error| Error::graph("step", error))?.bytes();
            let offset = arena.place(bytes).ok_or_else(|| overflow(name))?;
            Ok::<_, Error>(Place { offset, bytes })
        };
        let mut weights = BTreeMap::new();
        for (id, name) in &largest.weights {
            weights.insert(name.clone(), place(&mut arena, *id, name)?);
        }
        let rope_table = place(&mut arena, largest.rope_table, "rope_table")?;
        let mut cache_arena = Layout::default();
        let mut caches = Vec::with_capacity(largest.kv.len());
        for (keys, values) in &largest.kv {
            let keys = place(&mut cache_arena, *keys, "the KV cache")?;
            caches.push((keys, place(&mut cache_arena, *values, "the KV cache")?));
        }
        let state_rows = options.max_rows.max(many_rows.map_or(0, padded_rows));
        let state_stride = (state_rows as u64 * 4).next_multiple_of(ALIGNMENT);
        let (mut workspace_bytes, mut counter_bytes) = (largest.workspace_bytes(), largest.working.counters);
        for output in [Output::LastArgmax, Output::LastLogits, Output::AllArgmax] {
            let step = tensors(output)?;
            workspace_bytes = workspace_bytes.max(step.workspace_bytes());
            counter_bytes = counter_bytes.max(step.working.counters);
        }
        if let Some(rows) = many_rows {
            let prompt = step(padded_rows(rows), Output::LastLogits)?;
            workspace_bytes = workspace_bytes.max(prompt.workspace_bytes());
            counter_bytes = counter_bytes.max(prompt.working.counters);
        }
        // Queued rows are of different sequences.
        let sampled = options.max_rows.min(options.n_sequences);
        let history = [options.n_sequences, options.max_seq];
        let sampling = SamplingLayout::new(sampled, config.n_vocab, history);
        if let Some(sampling) = &sampling {
            let mut step = step(sampled, Output::AllLogits)?;
            step.work_in_also(sampling)?;
            workspace_bytes = workspace_bytes.max(step.workspace_bytes());
            counter_bytes = counter_bytes.max(step.working.counters);
        }
        // One step more than are ahead, so that no entry is overwritten before it is read.
        let ring_slots = (options.ahead + 1).next_power_of_two();
        let ring_bytes = (ring_slots as u64).saturating_mul(options.max_rows as u64 * 8);
        Ok(Self {
            many_rows,
            ring_slots,
            ring_bytes,
            weights,
            rope_table,
            weight_bytes: arena.bytes(),
            caches,
            cache_bytes: cache_arena.bytes(),
            state_stride,
            workspace_bytes,
            counter_bytes,
            sampling,
        })
    }

    /// Whether a step of so many rows has them multiplied as halves.
    pub fn halves(&self, rows: usize) -> bool {
        self.many_rows.is_some() && rows > MAX_BATCH
    }

    /// What the kernels of a step of so many rows on `machine` are made for.
    pub fn step_machine(&self, machine: Machine, rows: usize, output: Output) -> Machine {
        step_machine(machine, self.many_rows, (rows, output))
    }

    /// Bytes of the region for sampling, which is never empty.
    pub fn sampling_bytes(&self) -> u64 {
        self.sampling.map_or(ALIGNMENT, |sampling| sampling.bytes)
    }

    /// Bytes of the step state.
    pub const fn state_bytes(&self) -> u64 {
        4 * self.state_stride
    }

    /// The place in the state of its vector `index`: 0 tokens, 1 positions, 2 sequences, 3 counts of steps.
    pub const fn state_vector(&self, index: u64) -> Place {
        Place { offset: index * self.state_stride, bytes: self.state_stride }
    }

    /// What the engine needs on the device.
    pub fn need(&self) -> MemoryNeed {
        let small =
            self.state_bytes().saturating_add(self.counter_bytes).saturating_add(self.sampling_bytes());
        let workspace = self.workspace_bytes.saturating_add(small);
        MemoryNeed { weights: self.weight_bytes, caches: self.cache_bytes, workspace }
    }
}

/// The rows for which the kernels of a prompt's step are made that has so many: these numbers are few, so that few kernels are
/// compiled.
pub const fn padded_rows(rows: usize) -> usize {
    let least = 2 * MAX_BATCH;
    if rows < least { least } else { rows.next_power_of_two() }
}

/// See [`EngineLayout::step_machine`].
fn step_machine(machine: Machine, many_rows: Option<usize>, (rows, output): (usize, Output)) -> Machine {
    if many_rows.is_none() || rows <= MAX_BATCH {
        return machine;
    }
    Machine { rounds: Rounds::ManyRows, prompt: output.is_of_last_row(), ..machine }
}

/// The most rows of a step that has them multiplied as halves; `None` if there are no such steps: where the options or the
/// device ask for others, and where a layer's weights have no such kernel.
fn many_rows(
    config: &ModelConfig,
    options: &EngineOptions,
    machine: Machine,
) -> Result<Option<usize>, Error> {
    let positions = options.max_seq.saturating_mul(options.n_sequences);
    let most = options.prompt_rows.min(positions).max(options.max_rows);
    let wanted = options.prompt_rows > MAX_BATCH && most > MAX_BATCH;
    if machine.rounds == Rounds::Nothing || machine.target != Gemm::TARGET || !wanted {
        return Ok(None);
    }
    let shape = (padded_rows(most), Output::LastLogits);
    let step = StepTensors::new(config, options, shape, step_machine(machine, Some(most), shape))?;
    // All but the head, which has one row.
    let alone = |call: &PlannedCall| match call {
        PlannedCall::Op(_, call) => matches!(**call, OpCall::MulMat(a) if a.input.shape.rows() > 1),
        PlannedCall::Group(_) => false,
    };
    let all = !step.memory.calls().iter().any(alone);
    Ok(all.then_some(most))
}

/// A step's graph after all passes, with the tensors that an engine binds or reads.
#[derive(Debug, Clone)]
pub struct StepTensors {
    /// The graph as it is executed.
    pub rewrite: Rewrite,
    /// Where its tensors lie.
    pub memory: MemoryPlan,
    /// `[rows]` U32.
    pub tokens: TensorId,
    /// `[rows]` U32.
    pub positions: TensorId,
    /// `[rows]` U32.
    pub sequences: TensorId,
    /// `[max_seq, n_rot / 2, 2]` F32.
    pub rope_table: TensorId,
    /// Keys and values of each layer.
    pub kv: Vec<(TensorId, TensorId)>,
    /// Each weight with its tensor's name.
    pub weights: Vec<(TensorId, String)>,
    /// What its kernels work in.
    pub working: WorkingMemory,
    /// What goes back to the host: logits, or token ids; nothing if only the caches are filled.
    pub result: Option<TensorId>,
}

impl StepTensors {
    /// Builds the graph of a step of so many rows for `machine`, and applies the passes that this backend wants: SwiGLU fused, Q8
    /// activations shared unless the options ask for f32.
    ///
    /// # Errors
    /// A graph that cannot be built.
    pub fn new(
        config: &ModelConfig,
        options: &EngineOptions,
        (rows, output): (usize, Output),
        machine: Machine,
    ) -> Result<Self, Error> {
        let EngineOptions { n_sequences, max_seq, kv, .. } = *options;
        let step = build_step(config, &StepShape { rows, n_sequences, max_seq, kv, output })?;
        let rewrite = rewritten(&step, options.activations).map_err(|error| Error::graph("step", error))?;
        // Groups that have a fused kernel; the others run part by part.
        let memory = rewrite.graph.group(|group| is_fused(group, machine)).plan();
        let working = WorkingMemory::of_graph(&rewrite.graph, &memory, machine)
            .map_err(|error| Error::device("cuda", "planning a step", error))?;
        // Leaves and outputs survive every pass.
        let map = |id: TensorId| {
            rewrite.map(id).ok_or_else(|| {
                Error::graph("step", GraphError::NoSuchTensor { id, nodes: rewrite.graph.nodes().len() })
            })
        };
        let kv = step.kv.iter().map(|(k, v)| Ok((map(*k)?, map(*v)?))).collect::<Result<_, Error>>()?;
        let weights = step
            .weights
            .iter()
            .map(|(id, name)| Ok((map(*id)?, name.clone())))
            .collect::<Result<_, Error>>()?;
        let result = match output {
            Output::Cache => None,
            Output::LastArgmax | Output::AllArgmax => step.argmax,
            Output::LastLogits | Output::AllLogits => step.logits,
        };
        Ok(Self {
            tokens: map(step.tokens)?,
            positions: map(step.positions)?,
            sequences: map(step.sequences)?,
            rope_table: map(step.rope_table)?,
            kv,
            weights,
            result: result.map(map).transpose()?,
            memory,
            working,
            rewrite,
        })
    }

    /// Makes room for what the kernels that sample the rows of the result work in.
    pub(super) fn work_in_also(&mut self, sampling: &SamplingLayout) -> Result<(), Error> {
        let rows = self.result.and_then(|id| self.memory.view(id)).map_or(1, |view| view.shape.rows());
        let working = sampling.working(rows);
        let working = working.map_err(|error| Error::device("cuda", "planning a step", error))?;
        self.working = self.working.max(working);
        Ok(())
    }

    /// Where the scratch of kernels begins in the workspace, after the intermediates.
    pub const fn scratch_offset(&self) -> u64 {
        self.memory.workspace_bytes.saturating_add(ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT
    }

    /// Bytes of intermediates and scratch.
    pub const fn workspace_bytes(&self) -> u64 {
        self.scratch_offset().saturating_add(self.working.scratch)
    }
}

fn rewritten(step: &StepGraph, activations: Activations) -> Result<Rewrite, GraphError> {
    let rewrite = passes::fuse_swiglu(&step.graph)?;
    match activations {
        Activations::Q8 => rewrite.then(passes::share_q8_activations),
        Activations::F32 => Ok(rewrite),
    }
}
