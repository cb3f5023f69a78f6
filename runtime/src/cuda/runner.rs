//! Conformance on a GPU: the cases of single kernels, and the graph suite in every way that a plan can run.

use std::borrow::Cow;
use std::collections::BTreeSet;

use gpu_driver::{Context, DeviceBuffer, Driver, KernelArgs, Stream};
use graph::conformance::{ConformanceBackend, Job, Run};
use graph::groups::Group;
use graph::{BufferId, ComputeGraph, Shape, TensorId, TensorOp, TensorView, execute_graph};
use kernels::attention::Attention;
use kernels::cases::PtxRunner;
use kernels::{CacheShape, Kernel};
use ptx_builder::Target;
use tensor_formats::{ElementType, FormatError, from_planes, to_planes};

use super::error::CudaError;
use super::executor::{Bindings, CudaExecutor};
use super::loaded::LoadedPlan;
use super::lower_group::is_fused;
use super::memory::DeviceMemory;
use super::memory_map::{RegionId, RegionKind, Span};
use super::module_cache::ModuleCache;
use super::plan::LaunchPlan;
use super::plan_graph::PlanGraph;
use super::working_memory::WorkingMemory;

/// How often a graph is launched before its results are read as those of the last replay.
pub const REPLAYS: usize = 100;

/// Runs kernels and graphs on one GPU, for tests.
#[derive(Debug)]
pub struct CudaRunner {
    cache: ModuleCache,
    stream: Stream,
    replays: usize,
}

impl CudaRunner {
    /// A runner on the device with this ordinal.
    ///
    /// # Errors
    /// No driver or device, or a device that is too old.
    pub fn new(ordinal: u32) -> Result<Self, CudaError> {
        let context = Driver::load()
            .and_then(|driver| driver.context(ordinal))
            .map_err(CudaError::driver("opening the device"))?;
        Self::on(&context)
    }

    /// A runner in `context`.
    ///
    /// # Errors
    /// A device that is too old, or the driver's failure.
    pub fn on(context: &Context) -> Result<Self, CudaError> {
        let stream = Stream::new(context).map_err(CudaError::driver("making the stream"))?;
        Ok(Self { cache: ModuleCache::new(context)?, stream, replays: REPLAYS })
    }

    /// Launches each graph `replays` times, at least once, instead of a hundred times before its results are read as
    /// those of the last replay: compute-sanitizer makes a launch a hundred times slower.
    #[must_use]
    pub fn with_replays(self, replays: usize) -> Self {
        Self { replays: replays.max(1), ..self }
    }

    /// The compiled kernels. Compiling many at once on all cores saves most of a suite's time.
    pub fn cache(&self) -> &ModuleCache {
        &self.cache
    }

    /// The stream that everything runs on.
    pub fn stream(&self) -> &Stream {
        &self.stream
    }
}

impl PtxRunner for CudaRunner {
    type Error = CudaError;

    fn target(&self) -> Target {
        self.cache.target()
    }

    fn run(
        &mut self,
        kernel: &dyn Kernel,
        buffers: &mut [&mut [u8]],
        arguments: &[usize],
    ) -> Result<(), CudaError> {
        let (name, params) = (kernel.name(), kernel.params());
        let fail = || CudaError::driver(format!("running {name}"));
        if params.len() != arguments.len() {
            let (expected, actual) = (params.len().to_string(), arguments.len().to_string());
            return Err(CudaError::InvalidParameter { what: "the number of arguments", expected, actual });
        }
        for (param, &index) in params.iter().zip(arguments) {
            let bytes = buffers.get(index).map_or(0, |buffer| buffer.len() as u64);
            if bytes < param.bytes {
                let (expected, actual) = (format!("at least {} bytes", param.bytes), bytes.to_string());
                return Err(CudaError::InvalidParameter { what: param.name, expected, actual });
            }
        }
        let compiled = self.cache.get(kernel)?;
        let config = compiled.config(kernel.geometry());
        let device = buffers
            .iter()
            .map(|buffer| DeviceBuffer::from_slice(&self.stream, buffer))
            .collect::<Result<Vec<_>, _>>()
            .map_err(fail())?;
        let args = KernelArgs::from_pointers(arguments.iter().map(|&index| device[index].device_ptr()));
        // SAFETY: there is one pointer for each parameter, and each buffer holds at least the extent that the kernel
        // may touch from its pointer on; allocations are aligned to 256 bytes. The buffers live until the copies below
        // have waited for the kernel. Two parameters share a buffer only where the case says that the kernel runs in
        // place.
        unsafe { compiled.function.launch(&self.stream, &config, &args) }.map_err(fail())?;
        for (host, device) in buffers.iter_mut().zip(&device) {
            self.stream.copy_to_host(host, &device.as_slice()).map_err(fail())?;
        }
        Ok(())
    }
}

/// Whether kernels for `target` attend to caches of type `element`.
fn can_be_cached(element: ElementType, target: Target) -> bool {
    let cache = CacheShape { n_sequences: 1, n_kv_heads: 1, max_seq: 1, head_dim: 16, element };
    Attention::new(cache, 1, 1, 1.0).is_ok_and(|kernel| kernel.runs_on(target))
}

impl ConformanceBackend for CudaRunner {
    type Error = String;

    fn accepts(&self, group: &Group) -> bool {
        is_fused(group, self.cache.machine())
    }

    fn unsupported(&self, graph: &ComputeGraph) -> Option<String> {
        let part =
            graph.nodes().iter().find(|node| node.op() == TensorOp::View && node.dtype().planes().len() > 1);
        let part = part.map(|node| format!("a part of a matrix of type {}", node.dtype()));
        part.or_else(|| {
            let target = self.cache.target();
            let mut caches = graph.nodes().iter().filter(|node| node.shape().rank() == 4);
            let cache = caches.find(|cache| !can_be_cached(cache.dtype(), target))?;
            Some(format!("a cache of type {} on {target}", cache.dtype()))
        })
    }

    fn run(&mut self, job: &Job<'_>) -> Result<Vec<Run>, String> {
        let fail = |error: CudaError| crate::error::chain(&error);
        let working = WorkingMemory::of_graph(job.graph, job.plan, self.cache.machine());
        let working = working.map_err(|error| crate::error::chain(&error))?;
        let memory = JobMemory::new(job, working, &self.stream).map_err(fail)?;
        let plan = LaunchPlan::new(memory.device.map().clone());
        let mut executor = CudaExecutor::new(plan, &memory.bindings, self.cache.machine());
        execute_graph(job.graph, job.plan, &mut executor).map_err(|error| crate::error::chain(&error))?;
        let plan = LoadedPlan::new(executor.finish(), &memory.device, &self.cache).map_err(fail)?;
        let graph = PlanGraph::build(&plan, &self.stream).map_err(fail)?;
        let run = |label: &str, way: &dyn Fn() -> Result<(), CudaError>| {
            memory.reset(job, &self.stream)?;
            way()?;
            Ok::<_, CudaError>(Run { label: label.into(), buffers: memory.read(job, &self.stream)? })
        };
        let all = || {
            Ok(vec![
                run("eager", &|| plan.run(&self.stream))?,
                run("graph", &|| graph.launch(&self.stream))?,
                run(&format!("replay {}", self.replays), &|| {
                    (0..self.replays).try_for_each(|_| graph.launch(&self.stream))
                })?,
            ])
        };
        all().map_err(fail)
    }
}

/// A job's leaves and workspace on the device.
struct JobMemory {
    device: DeviceMemory,
    bindings: Bindings,
    /// By leaf, in the job's order.
    leaves: Vec<RegionId>,
    workspace: RegionId,
    scratch: RegionId,
    counters: RegionId,
}

impl JobMemory {
    fn new(job: &Job<'_>, working: WorkingMemory, stream: &Stream) -> Result<Self, CudaError> {
        let mut device = DeviceMemory::new(stream.context());
        let mut bindings = Bindings::new();
        let written = scattered(job.graph);
        let mut leaves = Vec::with_capacity(job.leaves.len());
        for (id, bytes) in job.leaves {
            let kind = if written.contains(id) { RegionKind::State } else { RegionKind::Constant };
            let region = device.allocate(&format!("leaf {id}"), kind, bytes.len() as u64)?;
            bindings.bind(*id, Span { region, offset: 0, bytes: bytes.len() as u64 });
            leaves.push(region);
        }
        let bytes = job.plan.workspace_bytes;
        let workspace = device.allocate("workspace", RegionKind::Scratch, bytes)?;
        bindings.bind_workspace(Span { region: workspace, offset: 0, bytes });
        let scratch = device.allocate("scratch", RegionKind::Scratch, working.scratch)?;
        bindings.bind_scratch(Span { region: scratch, offset: 0, bytes: working.scratch });
        let counters = device.allocate("counters", RegionKind::State, working.counters)?;
        bindings.bind_counters(Span { region: counters, offset: 0, bytes: working.counters });
        Ok(Self { device, bindings, leaves, workspace, scratch, counters })
    }

    /// The leaves as given, workspace and scratch poisoned, counters at zero.
    fn reset(&self, job: &Job<'_>, stream: &Stream) -> Result<(), CudaError> {
        for ((id, bytes), region) in job.leaves.iter().zip(&self.leaves) {
            let span = Span { region: *region, offset: 0, bytes: bytes.len() as u64 };
            let mut target = self.device.device_slice_mut(span)?;
            let leaf = job.plan.view(*id).ok_or(CudaError::Unbound { buffer: BufferId::Leaf(*id) })?;
            let bytes = reordered(to_planes, leaf.dtype, leaf.shape, bytes)?;
            stream.copy_to_device(&mut target, &bytes).map_err(CudaError::driver("uploading a leaf"))?;
        }
        let fills = [(self.workspace, job.poison), (self.scratch, job.poison), (self.counters, 0)];
        for (region, value) in fills {
            let Some(span) = self.device.map().whole(region) else { continue };
            let mut target = self.device.device_slice_mut(span)?;
            stream.memset(&mut target, value).map_err(CudaError::driver("filling working memory"))?;
        }
        Ok(())
    }

    fn read(&self, job: &Job<'_>, stream: &Stream) -> Result<Vec<Vec<u8>>, CudaError> {
        let read = |view: &TensorView| {
            let source = self.device.device_slice(self.bindings.span(view)?)?;
            let bytes = stream.read_to_vec(&source).map_err(CudaError::driver("reading a result"))?;
            Ok(reordered(from_planes, view.dtype, view.shape, &bytes)?.into_owned())
        };
        job.read.iter().map(read).collect()
    }
}

/// [`to_planes`] or [`from_planes`].
type Reorder = fn(ElementType, usize, usize, &[u8], &mut [u8]) -> Result<(), FormatError>;

/// The bytes of a tensor in another layout: those of matrices in planes change, others do not.
fn reordered(
    reorder: Reorder,
    element: ElementType,
    shape: Shape,
    bytes: &[u8],
) -> Result<Cow<'_, [u8]>, CudaError> {
    if element.planes().len() <= 1 {
        return Ok(Cow::Borrowed(bytes));
    }
    let mut out = vec![0; bytes.len()];
    reorder(element, shape.rows(), shape.cols(), bytes, &mut out)?;
    Ok(Cow::Owned(out))
}

/// The leaves that a scatter writes to.
fn scattered(graph: &ComputeGraph) -> BTreeSet<TensorId> {
    let scatters = graph.nodes().iter().filter(|node| node.op() == TensorOp::KvScatter);
    scatters.map(|node| node.root()).collect()
}
