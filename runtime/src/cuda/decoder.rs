//! [`CudaDecoder`]: the engine on a GPU.

use std::collections::BTreeMap;

use gpu_driver::{Context, DeviceAttribute, Driver, DriverError, Stream};
use kernels::sample::LoopCondition;

use super::ahead::{Queue, TOGETHER};
use super::engine_layout::{EngineLayout, StepTensors, padded_rows};
use super::error::CudaError;
use super::loaded::LoadedPlan;
use super::memory::DeviceMemory;
use super::memory_map::RegionKind;
use super::module_cache::{CacheStats, ModuleCache};
use super::pace::Pace;
use super::plan_graph::PlanGraph;
use super::step_plan::{EngineRegions, StepPlan, advancing_plan, loop_end_plan, step_plan};
use super::weights::Weights;
use crate::decoder::{
    Decoder, Output, Row, StepGuard, StepOutput, check_ahead, check_samplers, chosen, sample_on_host,
};
use crate::engine::EngineOptions;
use crate::error::{BackendError, Error};
use crate::model::{Model, ModelConfig};
use crate::sampling::Sampler;
use crate::startup::phase;

/// A model on one GPU.
///
/// For each number of rows and each [`Output`] the decoder makes one launch plan, the first time that it is asked for.
/// The plan is built into a CUDA graph, node by node, and replayed: tokens, positions and sequences are in device
/// memory, so nothing about the graph changes from step to step. If a graph cannot be built, or the options ask for
/// it, the same plan is launched kernel by kernel, with the same results. Where many steps are queued ahead, a graph
/// repeats them on the device.
#[derive(Debug)]
pub struct CudaDecoder {
    config: ModelConfig,
    pub(super) options: EngineOptions,
    pub(super) guard: StepGuard,
    pub(super) layout: EngineLayout,
    pub(super) regions: EngineRegions,
    pub(super) steps: BTreeMap<StepKey, PreparedStep>,
    pub(super) memory: DeviceMemory,
    pub(super) cache: ModuleCache,
    pub(super) stream: Stream,
    device: String,
    /// Why graphs are not used, if they are not.
    eager: Option<String>,
    pub(super) stats: Counts,
    /// The step whose graph is told of: the last one.
    pub(super) latest: StepKey,
    /// Whether everything queued has been waited for.
    pub(super) idle: bool,
    /// Steps that run ahead of the caller.
    pub(super) queue: Option<Queue>,
    /// Steps that were queued ahead so far.
    pub(super) begun: u32,
    /// Whether steps of a queue may be a loop on the device, if [`TOGETHER`] or more are wanted.
    pub(super) together: bool,
    pub(super) results: Vec<u32>,
}

/// Rows, and what they are for.
type StepKey = (usize, u8);

/// What a plan is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A step that the host begins and waits for.
    Step(Output),
    /// A step of a queue.
    Ahead(Choice),
}

/// How the tokens of a queue are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice {
    /// The most likely ones.
    Argmax,
    /// By the parameters of each row.
    Sample,
}

/// A plan that is loaded, and its graph unless steps run eagerly.
#[derive(Debug)]
pub(super) struct PreparedStep {
    graph: Option<PlanGraph>,
    /// A loop over [`TOGETHER`] runs of the plan, once a queue has wanted so many, and the number of its condition.
    pub(super) looped: Option<(PlanGraph, u64)>,
    pub(super) plan: LoadedPlan,
    result_words: usize,
    /// Of [`Purpose::Ahead`].
    pub(super) pace: Pace,
}

impl PreparedStep {
    fn graphs(&self) -> usize {
        usize::from(self.graph.is_some()) + usize::from(self.looped.is_some())
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) graph_steps: u64,
    eager_steps: u64,
}

/// How a decoder has worked so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderStats {
    /// Steps that were a graph launch, or run by one.
    pub graph_steps: u64,
    /// Steps that were launched kernel by kernel.
    pub eager_steps: u64,
    /// Plans made, one for each number of rows and output.
    pub plans: usize,
    /// Graphs built from them, of one step or of a loop.
    pub graphs: usize,
    /// Nodes of the graph of the last step alone, or of the one that was built first; 0 if it has none.
    pub nodes: usize,
    /// Edges of that graph.
    pub edges: usize,
    /// What the kernel cache did.
    pub kernels: CacheStats,
}

impl CudaDecoder {
    /// Puts `model` on the device that the options name, and compiles what their first steps need.
    ///
    /// # Errors
    /// [`BackendError::NoCuda`] without a driver or a device; [`CudaError::DoesNotFit`] as the source of
    /// [`Error::Device`] if weights, caches and workspace exceed the free memory; options out of range; a model with
    /// an operation that has no kernel; the driver's failures.
    pub fn new(model: &Model, options: &EngineOptions) -> Result<Self, Error> {
        options.check(model.config())?;
        let context = open(options.device)?;
        Self::with_context(model, options, &context)
    }

    /// [`new`](Self::new) on a given context, whatever device the options name.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_context(model: &Model, options: &EngineOptions, context: &Context) -> Result<Self, Error> {
        options.check(model.config())?;
        let config = model.config().clone();
        let cache = ModuleCache::new(context).map_err(failed("preparing the device"))?;
        let machine = cache.machine().for_activations(options.activations);
        let layout = phase!("layout").in_scope(|| EngineLayout::new(&config, options, machine))?;
        let stream = Stream::new(context).map_err(driver_failed("making the stream"))?;
        let (memory, regions) = phase!("memory").in_scope(|| allocate(options, &layout, &stream))?;
        let weights = Weights::new(model, options, &layout, (memory.clone(), regions.weights))?;
        let device = context.device();
        let name = device.name().map_err(driver_failed("asking for the device's name"))?;
        // A loop may run longer than what kernels are given there, on a device with a display.
        let limited = device
            .attribute(DeviceAttribute::KernelExecTimeout)
            .map_err(driver_failed("asking for the time limit of kernels"))?;
        let mut decoder = Self {
            guard: StepGuard::new(&config, options)
                .with_prompt_rows(layout.prompt_rows.map_or(0, |rows| rows.most)),
            device: format!("{name}, compute capability {}", context.limits().compute_capability),
            eager: options.eager.then(|| "as asked for".to_owned()),
            options: options.clone(),
            config,
            layout,
            regions,
            steps: BTreeMap::new(),
            memory,
            cache,
            stream,
            stats: Counts::default(),
            latest: options
                .first_steps
                .first()
                .map_or(key(1, Purpose::Step(Output::LastArgmax)), |&(rows, output)| {
                    key(rows, Purpose::Step(output))
                }),
            idle: true,
            queue: None,
            begun: 0,
            // A queue that has room for as many again has not run dry when they are launched.
            together: options.ahead + 1 >= 2 * TOGETHER as usize && limited == 0,
            results: Vec::new(),
        };
        // Weights are read and sent while kernels are compiled: neither needs the other.
        let (sent, prepared) = rayon::join(
            || weights.send(),
            || {
                let steps = options.first_steps.iter().flat_map(|&step| decoder.steps_of(step));
                let steps: Vec<_> = steps.collect();
                steps.into_iter().try_for_each(|(rows, output)| decoder.prepare(rows, Purpose::Step(output)))
            },
        );
        sent.and(prepared)?;
        Ok(decoder)
    }

    /// How the decoder has worked so far.
    pub fn stats(&self) -> DecoderStats {
        let latest = self.steps.get(&self.latest).and_then(|step| step.graph.as_ref());
        DecoderStats {
            graph_steps: self.stats.graph_steps,
            eager_steps: self.stats.eager_steps,
            plans: self.steps.len(),
            graphs: self.steps.values().map(PreparedStep::graphs).sum(),
            nodes: latest.map_or(0, PlanGraph::n_nodes),
            edges: latest.map_or(0, PlanGraph::n_edges),
            kernels: self.cache.stats(),
        }
    }

    /// Why steps are launched kernel by kernel, if they are.
    pub fn eager_reason(&self) -> Option<&str> {
        self.eager.as_deref()
    }

    /// Launches steps kernel by kernel from now on, as after a failed graph, and drops the graphs.
    pub fn go_eager(&mut self, reason: impl Into<String>) {
        self.eager = Some(reason.into());
        // It may be a loop.
        self.queue = None;
        self.steps.values_mut().for_each(|step| (step.graph, step.looped) = (None, None));
    }

    /// Replays graphs from now on; they are built when next needed.
    pub fn use_graphs(&mut self) {
        self.eager = None;
        // A step without a graph is prepared anew. Its kernels are in the cache.
        self.steps.retain(|_, step| step.graph.is_some());
    }

    /// The launch plan for `rows` rows as text, with costs when every row attends to `context` positions.
    ///
    /// # Errors
    /// If the plan cannot be made.
    pub fn listing(&mut self, rows: usize, output: Output, context: u64) -> Result<String, Error> {
        let rows = self.rows_of_plan(rows, output);
        self.prepare(rows, Purpose::Step(output))?;
        Ok(self.prepared(rows, Purpose::Step(output))?.plan.plan().listing(context).to_string())
    }

    /// The steps that so many rows take here, which the options may have foreseen in a larger one.
    fn steps_of(&self, (rows, output): (usize, Output)) -> Vec<(usize, Output)> {
        let most = self.options.max_rows;
        if self.layout.halves(rows, output) || rows <= most {
            return vec![(self.rows_of_plan(rows, output), output)];
        }
        vec![(most, Output::Cache), ((rows - 1) % most + 1, output)]
    }

    /// The rows of the plan for so many.
    pub(super) fn rows_of_plan(&self, rows: usize, output: Output) -> usize {
        if self.layout.halves(rows, output) { padded_rows(rows) } else { rows }
    }

    /// Makes the plan and the graph for a kind of step, unless they are there.
    pub(super) fn prepare(&mut self, rows: usize, purpose: Purpose) -> Result<(), Error> {
        if self.steps.contains_key(&key(rows, purpose)) {
            return Ok(());
        }
        let output = match purpose {
            Purpose::Step(output) => output,
            Purpose::Ahead(Choice::Argmax) => Output::AllArgmax,
            Purpose::Ahead(Choice::Sample) => Output::AllLogits,
        };
        let phase = phase!("plan").entered();
        phase.record("detail", format!("{rows} rows, {purpose:?}").as_str());
        let machine = self.cache.machine().for_activations(self.options.activations);
        let machine = self.layout.step_machine(machine, rows, output);
        let mut tensors = StepTensors::new(&self.config, &self.options, (rows, output), machine)?;
        if let (Purpose::Ahead(Choice::Sample), Some(sampling)) = (purpose, &self.layout.sampling) {
            tensors.work_in_also(sampling)?;
        }
        self.make_room(&tensors, purpose)?;
        let (layout, regions) = (&self.layout, &self.regions);
        let map = self.memory.map();
        let StepPlan { plan, result_bytes } = match purpose {
            Purpose::Step(_) => step_plan(&tensors, layout, regions, map, machine)?,
            Purpose::Ahead(_) => {
                let plan = advancing_plan(&tensors, layout, regions, map, machine)?;
                StepPlan { plan, result_bytes: 0 }
            }
        };
        drop(phase);
        let plan = LoadedPlan::new(plan, &self.memory, &self.cache).map_err(failed("compiling kernels"))?;
        let mut graph = None;
        if self.eager.is_none() {
            match phase!("graph").in_scope(|| PlanGraph::build(&plan, &self.stream)) {
                Ok(built) => graph = Some(built),
                Err(error) => {
                    let reason = crate::error::chain(&error);
                    tracing::warn!(%reason, "no CUDA graph: steps are launched kernel by kernel");
                    self.go_eager(reason);
                }
            }
        }
        let result_words = (result_bytes / 4) as usize;
        let step = PreparedStep { graph, looped: None, plan, result_words, pace: Pace::new() };
        self.steps.insert(key(rows, purpose), step);
        Ok(())
    }

    /// Makes the loop over a prepared kind of step, unless it is there or steps are launched otherwise. If it cannot be
    /// made, steps are launched one by one from then on.
    pub(super) fn prepare_loop(&mut self, rows: usize, purpose: Purpose) {
        let Some(step) = self.steps.get_mut(&key(rows, purpose)) else { return };
        if !self.together || step.graph.is_none() || step.looped.is_some() {
            return;
        }
        // SAFETY: it is part of the loop alone that is made of it here. That loop's condition is what `keep_looping` writes
        // before it launches it, when no loop is at work; nobody else writes there.
        let end = unsafe { loop_end_plan(&self.layout, &self.regions, self.memory.map(), TOGETHER) };
        let built = end
            .and_then(|end| LoadedPlan::new(end, &self.memory, &self.cache))
            .and_then(|end| PlanGraph::looped(&step.plan, &self.stream, TOGETHER as usize, &end));
        match built {
            Ok((graph, condition)) => step.looped = Some((graph, condition.handle())),
            Err(error) => {
                let reason = crate::error::chain(&error);
                tracing::info!(%reason, "no loop on the device: steps are launched one by one");
                self.together = false;
            }
        }
    }

    /// Sees to it that workspace and results are large enough. Growing them drops the plans made so far, whose
    /// addresses are the old ones; they are made anew when next needed.
    fn make_room(&mut self, tensors: &StepTensors, purpose: Purpose) -> Result<(), Error> {
        let result = match purpose {
            Purpose::Step(_) => {
                tensors.result.and_then(|id| tensors.memory.view(id)).map_or(0, |view| view.bytes())
            }
            Purpose::Ahead(_) => 0,
        };
        let wanted =
            [(self.regions.workspace, tensors.workspace_bytes()), (self.regions.host_results, result)];
        for (region, bytes) in wanted {
            if self.memory.map().get(region).is_none_or(|region| region.bytes < bytes) {
                self.steps.clear();
                self.memory.replace(region, bytes).map_err(failed("making room for a step"))?;
            }
        }
        Ok(())
    }

    pub(super) fn prepared(&self, rows: usize, purpose: Purpose) -> Result<&PreparedStep, Error> {
        self.steps.get(&key(rows, purpose)).ok_or_else(|| {
            let what = format!("the plan for {rows} rows");
            Error::device("cuda", "finding a plan", CudaError::Overflow { what })
        })
    }

    /// Queues a prepared step, and counts it.
    pub(super) fn launch(&mut self, rows: usize, purpose: Purpose) -> Result<(), Error> {
        let step = self.prepared(rows, purpose)?;
        let launched = match &step.graph {
            Some(graph) => graph.launch(&self.stream),
            None => step.plan.run(&self.stream),
        };
        launched.map_err(failed("running a step"))?;
        if step.graph.is_some() {
            self.stats.graph_steps += 1;
        } else {
            self.stats.eager_steps += 1;
        }
        self.latest = key(rows, purpose);
        Ok(())
    }

    /// Waits for what is left in the queue of steps that nobody asks for any more, or of one that failed: it uses the
    /// state that the next step writes.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        self.queue = None;
        if !self.idle {
            self.control()?.stop(self.begun).map_err(driver_failed("ending a loop"))?;
            self.stream.synchronize().map_err(driver_failed("waiting for earlier steps"))?;
            self.idle = true;
        }
        Ok(())
    }

    /// Writes the host's copy of the state of a step, which nothing may be reading: of `count` rows, of which those behind the
    /// last one repeat it, and so write what it writes.
    pub(super) fn write_state(&self, rows: &[Row], count: usize) -> Result<(), Error> {
        let state = self.memory.host(self.regions.host_state).map_err(failed("writing the step's state"))?;
        let stride = (self.layout.state_stride / 4) as usize;
        let begun = self.begun;
        let columns: [&dyn Fn(&Row) -> u32; 4] =
            [&|row| row.token, &|row| row.position, &|row| row.sequence, &|_| begun];
        for (index, column) in columns.into_iter().enumerate() {
            let repeated = rows.iter().chain(rows.last().into_iter().cycle()).take(count);
            for (row, value) in repeated.map(column).enumerate() {
                state
                    .write(index * stride + row, value)
                    .map_err(driver_failed("writing the step's state"))?;
            }
        }
        Ok(())
    }
}

impl Decoder for CudaDecoder {
    fn config(&self) -> &ModelConfig {
        &self.config
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

    fn prompt_rows(&self) -> usize {
        self.layout.prompt_rows.map_or(self.options.max_rows, |rows| rows.most)
    }

    fn step(&mut self, rows: &[Row], output: Output) -> Result<StepOutput<'_>, Error> {
        self.guard.check(rows, output)?;
        let most = self.options.max_rows;
        if rows.len() > most && !self.layout.halves(rows.len(), output) {
            let (before, last) = rows.split_at((rows.len() - 1) / most * most);
            before.chunks(most).try_for_each(|rows| self.step(rows, Output::Cache).map(drop))?;
            return self.step(last, output);
        }
        self.settle()?;
        let (purpose, count) = (Purpose::Step(output), self.rows_of_plan(rows.len(), output));
        self.prepare(count, purpose)?;
        // All earlier steps have been waited for, so nothing reads the state that is overwritten here.
        self.write_state(rows, count)?;
        self.idle = false;
        self.launch(count, purpose)?;
        self.stream.synchronize().map_err(driver_failed("running a step"))?;
        self.idle = true;
        self.guard.commit(rows);
        let words = self.prepared(count, purpose)?.result_words;
        self.results.resize(words, 0);
        if words > 0 {
            let pinned = self.memory.host(self.regions.host_results).map_err(failed("reading results"))?;
            pinned.read_range(0, &mut self.results).map_err(driver_failed("reading results"))?;
        }
        Ok(match output {
            Output::Cache => StepOutput::Cache,
            Output::LastArgmax | Output::AllArgmax => StepOutput::Argmax(&self.results),
            Output::LastLogits | Output::AllLogits => StepOutput::Logits(bytemuck::cast_slice(&self.results)),
        })
    }

    fn decode_ahead(&mut self, rows: &[Row], ahead: usize) -> Result<&[u32], Error> {
        check_ahead(rows)?;
        chosen(rows, self.run_ahead(rows, &[], ahead)?)
    }

    fn sample_ahead(
        &mut self,
        rows: &[Row],
        samplers: &mut [Sampler],
        ahead: usize,
    ) -> Result<Vec<u32>, Error> {
        if !self.samples(rows, samplers) {
            return sample_on_host(self, rows, samplers);
        }
        check_samplers(rows, samplers)?;
        let rules: Vec<_> = samplers.iter().map(|sampler| sampler.rule()).collect();
        let tokens = self.run_ahead(rows, &rules, ahead)?;
        Ok(chosen(rows, tokens)?.to_vec())
    }

    fn describe(&self) -> String {
        let DecoderStats { nodes, edges, .. } = self.stats();
        match &self.eager {
            Some(reason) => format!("cuda: {}; kernel by kernel ({reason})", self.device),
            None => format!("cuda: {}; graph of {nodes} nodes and {edges} edges", self.device),
        }
    }
}

/// A key with an order, which [`Output`] lacks.
pub(super) const fn key(rows: usize, purpose: Purpose) -> StepKey {
    let purpose = match purpose {
        Purpose::Step(Output::Cache) => 0,
        Purpose::Step(Output::LastArgmax) => 1,
        Purpose::Step(Output::LastLogits) => 2,
        Purpose::Step(Output::AllArgmax) => 3,
        Purpose::Step(Output::AllLogits) => 4,
        Purpose::Ahead(Choice::Argmax) => 5,
        Purpose::Ahead(Choice::Sample) => 6,
    };
    (rows, purpose)
}

fn open(ordinal: usize) -> Result<Context, Error> {
    let opened = Driver::load().and_then(|driver| {
        let ordinal = u32::try_from(ordinal).map_err(|_| DriverError::NoSuchDevice {
            ordinal: u32::MAX,
            count: driver.device_count().unwrap_or(0),
        })?;
        driver.device(ordinal)?.context()
    });
    opened.map_err(|error| {
        if error.is_unavailable() {
            let reason = "this machine has no usable NVIDIA driver or device".to_owned();
            BackendError::NoCuda { reason, source: Some(Box::new(error)) }.into()
        } else {
            Error::device("cuda", "opening the device", error)
        }
    })
}

/// Allocates everything, after a look at whether it fits. What `stream` is given here comes before the first step,
/// which it is also given.
fn allocate(
    options: &EngineOptions,
    layout: &EngineLayout,
    stream: &Stream,
) -> Result<(DeviceMemory, EngineRegions), Error> {
    let context = stream.context();
    let free = context.memory_info().map_err(driver_failed("asking for free memory"))?.free;
    layout.need().check(free).map_err(failed("allocating memory"))?;
    let mut memory = DeviceMemory::new(context);
    let mut allocate = |name: &str, kind, bytes| memory.allocate(name, kind, bytes);
    let mut device_regions = || {
        Ok((
            allocate("weights", RegionKind::Constant, layout.weight_bytes)?,
            allocate("caches", RegionKind::State, layout.cache_bytes)?,
            allocate("state", RegionKind::State, layout.state_bytes())?,
            allocate("workspace", RegionKind::Scratch, layout.workspace_bytes)?,
            allocate("sampling", RegionKind::State, layout.sampling_bytes())?,
        ))
    };
    let (weights, caches, state, workspace, sampling) =
        device_regions().map_err(failed("allocating memory"))?;
    let counters = memory
        .allocate_filled(stream, "counters", RegionKind::State, layout.counter_bytes, 0)
        .map_err(failed("allocating memory"))?;
    let mut host = |name, bytes| memory.allocate_host(name, bytes).map_err(failed("allocating memory"));
    let host_state = host("host state", layout.state_bytes())?;
    // Enough for the token ids of a step; logits take more, and get it when they are first asked for.
    let host_results = host("host results", options.max_rows as u64 * 4)?;
    let mut mapped = |name, bytes| memory.allocate_mapped(name, bytes).map_err(failed("allocating memory"));
    let ring = mapped("ring", layout.ring_bytes)?;
    let control = mapped("loop", LoopCondition::WORDS as u64 * 4)?;

    let regions = EngineRegions {
        weights,
        caches,
        state,
        workspace,
        counters,
        host_state,
        host_results,
        ring,
        control,
        sampling,
    };
    Ok((memory, regions))
}

pub(super) fn failed(action: impl Into<String>) -> impl FnOnce(CudaError) -> Error {
    move |error| Error::device("cuda", action, error)
}

pub(super) fn driver_failed(action: impl Into<String>) -> impl FnOnce(DriverError) -> Error {
    move |error| Error::device("cuda", action, error)
}
