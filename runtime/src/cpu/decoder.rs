//! [`CpuDecoder`]: a model on the CPU.

use std::collections::HashMap;

use graph::passes::{fuse_swiglu, share_q8_activations};
use graph::{ComputeGraph, MemoryPlan, TensorId, TensorView, execute_graph};
use tensor_formats::ElementType;

use super::backend::{CpuBackend, Workers};
use super::memory::{Binding, CpuMemory, zeros};
use crate::decoder::{Decoder, Output, Row, StepGuard, StepOutput};
use crate::engine::{Activations, EngineOptions};
use crate::error::{Error, OptionError};
use crate::model::{Model, ModelConfig, StepShape, build_step};

/// Tokens, positions and sequences: the first elements of [`CpuMemory::indices`].
const STEP_STATE: usize = 3;

/// A model on the CPU. Weights stay where they are, in the mapped file.
#[derive(Debug)]
pub struct CpuDecoder {
    model: Model,
    options: EngineOptions,
    workers: Workers,
    guard: StepGuard,
    memory: CpuMemory,
    /// Weights that are kept as f32 values: vectors, by tensor name, as indices into the memory's values.
    vectors: HashMap<String, usize>,
    steps: HashMap<(usize, Output), Step>,
}

/// The graph for one number of rows and one output, made when it is first needed.
#[derive(Debug)]
struct Step {
    graph: ComputeGraph,
    plan: MemoryPlan,
    leaves: Vec<Leaf>,
    result: Option<TensorView>,
}

/// What a leaf is, by [`TensorId::index`].
#[derive(Debug, Clone, PartialEq, Eq)]
enum Leaf {
    /// A matrix, by its name in the file.
    Matrix(String),
    /// An element of [`CpuMemory::values`].
    Values(usize),
    /// An element of [`CpuMemory::indices`].
    Indices(usize),
    /// No leaf.
    Inner,
}

impl CpuDecoder {
    /// Prepares `model` for decoding: reserves the caches and starts the threads.
    ///
    /// # Errors
    /// Options that do not fit the model, memory that the system does not give, a damaged table of the model.
    pub fn new(model: &Model, options: &EngineOptions) -> Result<Self, Error> {
        let config = model.config();
        options.check(config)?;
        if options.activations == Activations::F16 {
            return Err(OptionError::NeedsCuda { option: "activations of F16" }.into());
        }
        let mut memory = CpuMemory::default();
        // The order of `values`: each layer's keys and values, the RoPE table, the vectors. The caches are the largest
        // by far, and cost nothing until they are used: what does not fit is known before anything is computed.
        let cache = [options.n_sequences, config.n_kv_heads, options.max_seq, config.head_dim];
        let cache = cache.iter().try_fold(1usize, |product, &n| product.checked_mul(n));
        for _ in 0..2 * config.n_layers {
            memory.values.push(zeros("the KV cache", cache.unwrap_or(usize::MAX))?);
        }
        for _ in 0..STEP_STATE {
            memory.indices.push(zeros("the rows of a step", options.max_rows)?);
        }
        memory.values.push(model.rope_table(options.max_seq)?);
        let mut vectors = HashMap::new();
        for weight in config.weights.iter().filter(|weight| weight.dims.len() == 1) {
            let bytes = model.tensor_bytes(&weight.name)?;
            let mut values = vec![0.0; weight.dims[0]];
            tensor_formats::dequantize_row(weight.ty, bytes, &mut values)?;
            vectors.insert(weight.name.clone(), memory.values.len());
            memory.values.push(values);
        }
        Ok(Self {
            model: model.clone(),
            options: options.clone(),
            workers: Workers::new(options.threads)?,
            guard: StepGuard::new(config, options),
            memory,
            vectors,
            steps: HashMap::new(),
        })
    }

    fn prepare(&self, rows: usize, output: Output) -> Result<Step, Error> {
        let EngineOptions { n_sequences, max_seq, .. } = self.options;
        // Caches hold the values of another type as f32.
        let shape = StepShape { rows, n_sequences, max_seq, kv: ElementType::F32, output };
        let step = build_step(self.model.config(), &shape)?;
        let failed = |source| Error::graph("step", source);
        let mut rewrite = fuse_swiglu(&step.graph).map_err(failed)?;
        if self.options.activations == Activations::Q8 {
            rewrite = rewrite.then(share_q8_activations).map_err(failed)?;
        }
        let plan = rewrite.graph.plan();
        // Leaves and outputs survive every pass.
        let mut leaves = vec![Leaf::Inner; rewrite.graph.nodes().len()];
        let mut bind = |id: TensorId, leaf: Leaf| {
            if let Some(id) = rewrite.map(id) {
                leaves[id.index()] = leaf;
            }
        };
        for (index, id) in [step.tokens, step.positions, step.sequences].into_iter().enumerate() {
            bind(id, Leaf::Indices(index));
        }
        for (layer, &(keys, values)) in step.kv.iter().enumerate() {
            bind(keys, Leaf::Values(2 * layer));
            bind(values, Leaf::Values(2 * layer + 1));
        }
        bind(step.rope_table, Leaf::Values(2 * step.kv.len()));
        for (id, name) in step.weights {
            let vector = self.vectors.get(&name).copied();
            bind(id, vector.map_or(Leaf::Matrix(name), Leaf::Values));
        }
        let result = if output.is_logits() { step.logits } else { step.argmax };
        let result = result.and_then(|id| rewrite.map(id)).and_then(|id| plan.view(id));
        Ok(Step { graph: rewrite.graph, plan, leaves, result })
    }
}

impl Step {
    fn run(
        &self,
        model: &Model,
        kv: ElementType,
        workers: &Workers,
        memory: &mut CpuMemory,
    ) -> Result<(), Error> {
        let leaves: Vec<Binding<'_>> = self
            .leaves
            .iter()
            .map(|leaf| match leaf {
                Leaf::Matrix(name) => model.tensor_bytes(name).map(Binding::Bytes),
                Leaf::Values(index) => Ok(Binding::Values(*index)),
                Leaf::Indices(index) => Ok(Binding::Indices(*index)),
                Leaf::Inner => Ok(Binding::Unbound),
            })
            .collect::<Result<_, _>>()?;
        let mut backend = CpuBackend::new(workers.simd(), memory, &leaves).rounding_caches_to(kv);
        workers
            .run(|| execute_graph(&self.graph, &self.plan, &mut backend))
            .map_err(|source| Error::device("cpu", "running a step", source))?;
        Ok(())
    }
}

impl Decoder for CpuDecoder {
    fn config(&self) -> &ModelConfig {
        self.model.config()
    }

    fn max_seq(&self) -> usize {
        self.options.max_seq
    }

    fn n_sequences(&self) -> usize {
        self.options.n_sequences
    }

    fn max_rows(&self) -> usize {
        self.options.max_rows
    }

    fn step(&mut self, rows: &[Row], output: Output) -> Result<StepOutput<'_>, Error> {
        self.guard.check(rows, output)?;
        let key = (rows.len(), output);
        if !self.steps.contains_key(&key) {
            let step = self.prepare(rows.len(), output)?;
            let words = (step.plan.workspace_bytes / 4) as usize;
            if words > self.memory.workspace.len() {
                self.memory.workspace = zeros("the workspace", words)?;
            }
            self.steps.insert(key, step);
        }
        let step = &self.steps[&key];
        for (index, row) in rows.iter().enumerate() {
            for (leaf, value) in [row.token, row.position, row.sequence].into_iter().enumerate() {
                self.memory.indices[leaf][index] = value;
            }
        }
        step.run(&self.model, self.options.kv, &self.workers, &mut self.memory)?;
        self.guard.commit(rows);
        let Some(view) = &step.result else { return Ok(StepOutput::Cache) };
        let result = self
            .memory
            .read(&[], view)
            .map_err(|source| Error::device("cpu", "reading a step's result", source))?;
        Ok(match view.dtype {
            ElementType::U32 => StepOutput::Argmax(bytemuck::cast_slice(result)),
            _ => StepOutput::Logits(result),
        })
    }

    fn describe(&self) -> String {
        let threads = self.workers.threads();
        let activations = match self.options.activations {
            Activations::Q8 => "Q8",
            Activations::F16 => "f16",
            Activations::F32 => "f32",
        };
        format!("CPU, {threads} threads, {}, {activations} activations", self.workers.simd())
    }
}
