//! Where an engine's weights, caches and step state go, before any of it is allocated.

use std::collections::BTreeMap;

use graph::passes::{self, Rewrite};
use graph::{GraphError, MemoryPlan, OpCall, PlannedCall, TensorId};
use kernels::KernelError;
use kernels::projection::Gemm;

use super::error::CudaError;
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

/// How many rows of a prompt are multiplied as halves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PromptRows {
    /// More than so many.
    pub above: usize,
    /// At most.
    pub most: usize,
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
    /// The rows of steps that have them multiplied as halves, if there are such steps: see [`halves`](Self::halves).
    pub prompt_rows: Option<PromptRows>,
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
        let tensors = |output| StepTensors::new(config, options, (options.max_rows, output), machine);
        let largest = tensors(Output::AllLogits)?;
        if machine.rounds == Rounds::AllRows
            && (machine.target != Gemm::TARGET || largest.multiplies_alone(1))
        {
            let reason = "activations of F16 need a device of compute capability 9.0 (sm_90a), and weights in whole tiles of \
                          sixteen rows that are not F32";
            let error = KernelError::Unsupported { kernel: "gemm", reason: reason.to_owned() };
            return Err(Error::device("cuda", "laying out memory", CudaError::from(error)));
        }
        let overflow = |what: &str| {
            let what = what.to_owned();
            Error::device("cuda", "laying out memory", CudaError::Overflow { what })
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
        let prompts = prompts(config, options, machine)?;
        let prompt_rows = prompts.as_ref().map(|(rows, _)| *rows);
        let state_rows = options.max_rows.max(prompt_rows.map_or(0, |rows| padded_rows(rows.most)));
        let state_stride = (state_rows as u64 * 4).next_multiple_of(ALIGNMENT);
        let (mut workspace_bytes, mut counter_bytes) = (largest.workspace_bytes(), largest.working.counters);
        for output in [Output::LastArgmax, Output::LastLogits, Output::AllArgmax] {
            let step = tensors(output)?;
            workspace_bytes = workspace_bytes.max(step.workspace_bytes());
            counter_bytes = counter_bytes.max(step.working.counters);
        }
        if let Some((_, step)) = prompts {
            workspace_bytes = workspace_bytes.max(step.workspace_bytes());
            counter_bytes = counter_bytes.max(step.working.counters);
        }
        // Queued rows are of different sequences.
        let sampled = options.max_rows.min(options.n_sequences);
        let history = [options.n_sequences, options.max_seq];
        let sampling = SamplingLayout::new(sampled, config.n_vocab, history);
        if let Some(sampling) = &sampling {
            let mut step = StepTensors::new(config, options, (sampled, Output::AllLogits), machine)?;
            step.work_in_also(sampling)?;
            workspace_bytes = workspace_bytes.max(step.workspace_bytes());
            counter_bytes = counter_bytes.max(step.working.counters);
        }
        // One step more than are ahead, so that no entry is overwritten before it is read.
        let ring_slots = (options.ahead + 1).next_power_of_two();
        let ring_bytes = (ring_slots as u64).saturating_mul(options.max_rows as u64 * 8);
        Ok(Self {
            prompt_rows,
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

    /// Whether a step of so many rows has them multiplied as halves: it is part of a prompt, and has more than other steps.
    pub fn halves(&self, rows: usize, output: Output) -> bool {
        output.is_of_last_row() && self.prompt_rows.is_some_and(|prompt| rows > prompt.above)
    }

    /// What the kernels of a step of so many rows on `machine` are made for.
    pub fn step_machine(&self, machine: Machine, rows: usize, output: Output) -> Machine {
        if self.halves(rows, output) { prompt_machine(machine) } else { machine }
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

/// Rows of a prompt that are multiplied as bytes, eight at a time, in less time than as halves (measured on an H200).
const FEW_PROMPT_ROWS: usize = 20;

/// The rows for which the kernels of a prompt's step are made that has so many: these numbers are few, so that few kernels are
/// compiled.
pub const fn padded_rows(rows: usize) -> usize {
    let least = FEW_PROMPT_ROWS.next_power_of_two();
    if rows < least { least } else { rows.next_power_of_two() }
}

/// The rows of a prompt's step that are multiplied as halves, and the largest such step; `None` if there are none: where the
/// options or the device ask for others, and where a layer's weights have no such kernel.
fn prompts(
    config: &ModelConfig,
    options: &EngineOptions,
    machine: Machine,
) -> Result<Option<(PromptRows, StepTensors)>, Error> {
    let positions = options.max_seq.saturating_mul(options.n_sequences);
    let (above, most) = (options.max_rows.max(FEW_PROMPT_ROWS), options.prompt_rows.min(positions));
    if machine.rounds == Rounds::Nothing || machine.target != Gemm::TARGET || most <= above {
        return Ok(None);
    }
    let shape = (padded_rows(most), Output::LastLogits);
    let step = StepTensors::new(config, options, shape, prompt_machine(machine))?;
    // All but the head, which has one row.
    Ok((!step.multiplies_alone(2)).then_some((PromptRows { above, most }, step)))
}

/// What the kernels of a prompt's step of many rows are made for.
fn prompt_machine(machine: Machine) -> Machine {
    Machine { rounds: machine.rounds.max(Rounds::ManyRows), prompt: true, ..machine }
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

    /// Whether products of so many activation rows, or more, are in no group.
    fn multiplies_alone(&self, rows: usize) -> bool {
        self.memory.calls().iter().any(|call| match call {
            PlannedCall::Op(_, call) => matches!(**call, OpCall::MulMat(a) if a.input.shape.rows() >= rows),
            PlannedCall::Group(_) => false,
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
        Activations::F16 | Activations::F32 => Ok(rewrite),
    }
}
