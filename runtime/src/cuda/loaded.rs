//! A plan with its kernels compiled and its memory held: ready to run on a stream.

use std::sync::Arc;

use gpu_driver::{DevicePtr, DeviceSliceMut, Function, KernelArgs, LaunchConfig, SharedPinned, Stream};

use super::error::CudaError;
use super::memory::{Allocation, DeviceMemory};
use super::memory_map::Span;
use super::module_cache::{CompiledKernel, ModuleCache};
use super::plan::{Launch, LaunchPlan, Step};
use crate::startup::phase;

/// A [`LaunchPlan`] that can run. It holds the memory and the modules that its steps use.
///
/// Kernels compute the same from the same memory however the plan is run: [`run`](Self::run) launches them one by
/// one, [`PlanGraph`](super::plan_graph::PlanGraph) replays them as a CUDA graph, [`profile`](super::profile::profile)
/// times them.
#[derive(Debug)]
pub struct LoadedPlan {
    pub(crate) plan: LaunchPlan,
    pub(crate) memory: DeviceMemory,
    pub(crate) steps: Vec<LoadedStep>,
}

/// A step in the driver's terms.
#[derive(Debug, Clone)]
pub(crate) enum LoadedStep {
    /// `waits`: see [`CompiledKernel`].
    Launch {
        function: Function,
        waits: bool,
        config: LaunchConfig,
        args: KernelArgs,
    },
    ToDevice {
        target: Span,
        source: Arc<SharedPinned<u32>>,
        first: usize,
        words: usize,
    },
    ToHost {
        target: Arc<SharedPinned<u32>>,
        first: usize,
        words: usize,
        source: Span,
    },
    OnDevice {
        target: Span,
        source: Span,
    },
    Fill {
        target: Span,
        value: u8,
    },
}

impl LoadedPlan {
    /// Compiles what the plan launches, on all cores, and takes hold of its memory.
    ///
    /// # Errors
    /// A kernel that cannot be emitted or compiled; [`CudaError::InvalidParameter`] if `memory` is not what the plan
    /// was made over.
    pub fn new(plan: LaunchPlan, memory: &DeviceMemory, cache: &ModuleCache) -> Result<Self, CudaError> {
        if plan.memory() != memory.map() {
            return Err(CudaError::InvalidParameter {
                what: "the memory of a plan",
                expected: "that over which it was made".into(),
                actual: "another".into(),
            });
        }
        let kernels = plan.kernels();
        let phase = phase!("kernels").entered();
        let before = cache.stats();
        let functions = cache.get_all(&kernels.values().map(|kernel| kernel.as_ref()).collect::<Vec<_>>())?;
        let after = cache.stats();
        let (emitting, loading) = (after.emitting - before.emitting, after.loading - before.loading);
        let compiled = after.compiled - before.compiled;
        let detail = format!(
            "{compiled} new of {}; over all threads emitted in {emitting:.1?}, compiled in {loading:.1?}",
            kernels.len()
        );
        phase.record("detail", detail.as_str());
        drop(phase);
        let functions: std::collections::BTreeMap<_, _> = kernels.into_keys().zip(&functions).collect();
        let steps = plan
            .steps()
            .iter()
            .map(|step| match step {
                Step::Launch(launch) => Ok(launch_step(launch, functions[launch.name.as_str()].clone())),
                Step::Copy { target, source } => copy_step(memory, *target, *source),
                Step::Fill { target, value } => Ok(LoadedStep::Fill { target: *target, value: *value }),
            })
            .collect::<Result<_, CudaError>>()?;
        Ok(Self { memory: memory.clone(), steps, plan })
    }

    /// The plan.
    pub fn plan(&self) -> &LaunchPlan {
        &self.plan
    }

    /// Queues every step on `stream`, in order, and returns without waiting.
    ///
    /// Runs of plans that share memory have to be ordered by the caller (one stream does); otherwise the values that
    /// they leave are unspecified.
    ///
    /// # Errors
    /// The driver's failure, with the step. The steps before it are queued.
    pub fn run(&self, stream: &Stream) -> Result<(), CudaError> {
        (0..self.steps.len()).try_for_each(|index| self.run_step(stream, index))
    }

    /// Queues one step.
    pub(crate) fn run_step(&self, stream: &Stream, index: usize) -> Result<(), CudaError> {
        let action = || format!("step {index}, {}", self.plan.steps()[index].name());
        match &self.steps[index] {
            LoadedStep::Launch { function, config, args, .. } => {
                // SAFETY: there is one pointer for each parameter, in order, and the parameters are all pointers. When
                // the step was appended, the plan checked that the extent that the kernel may touch from each pointer on
                // lies in one region, is aligned, and is not constant if it is written; kernels check every index
                // that they read from memory against that extent. `self.memory` holds the regions, and freeing
                // one waits for running kernels. Steps that conflict are ordered by the stream; the host touches pinned
                // memory by volatile accesses alone. Every kernel ends: their loops have bounds known when they were
                // emitted, or clamped to them, or wait for two reads of what nobody writes meanwhile to be equal. Whoever
                // made a kernel that sets the condition of a graph has promised that it does so in that graph alone.
                unsafe { function.launch(stream, config, args) }.map_err(CudaError::driver(action()))
            }
            LoadedStep::ToDevice { target, source, first, words } => {
                let mut target = self.words_mut(*target)?;
                stream
                    .copy_from_shared(&mut target, source, *first..*first + *words)
                    .map_err(CudaError::driver(action()))
            }
            LoadedStep::ToHost { target, first, words, source } => {
                let source =
                    self.memory.device_slice(*source)?.cast().map_err(CudaError::driver(action()))?;
                stream
                    .copy_to_shared(target, *first..*first + *words, &source)
                    .map_err(CudaError::driver(action()))
            }
            LoadedStep::OnDevice { target, source } => {
                let source = self.memory.device_slice(*source)?;
                stream
                    .copy_on_device(&mut self.memory.device_slice_mut(*target)?, &source)
                    .map_err(CudaError::driver(action()))
            }
            LoadedStep::Fill { target, value } => stream
                .memset(&mut self.memory.device_slice_mut(*target)?, *value)
                .map_err(CudaError::driver(action())),
        }
    }

    fn words_mut(&self, span: Span) -> Result<DeviceSliceMut<'_, u32>, CudaError> {
        self.memory.device_slice_mut(span)?.cast().map_err(CudaError::driver("copying words to the device"))
    }
}

fn launch_step(launch: &Launch, kernel: CompiledKernel) -> LoadedStep {
    let config = kernel.config(launch.geometry);
    let CompiledKernel { function, waits, .. } = kernel;
    let args = KernelArgs::from_pointers(launch.addresses.iter().copied().map(DevicePtr));
    LoadedStep::Launch { function, waits, config, args }
}

fn copy_step(memory: &DeviceMemory, target: Span, source: Span) -> Result<LoadedStep, CudaError> {
    let words = |span: Span| {
        let whole = span.offset.is_multiple_of(4) && span.bytes.is_multiple_of(4);
        let (first, words) = (usize::try_from(span.offset / 4).ok(), usize::try_from(span.bytes / 4).ok());
        first.zip(words).filter(|_| whole).ok_or_else(|| CudaError::InvalidParameter {
            what: "a copy from or to the host",
            expected: "whole words of 4 bytes".into(),
            actual: memory.map().display(span).to_string(),
        })
    };
    Ok(match (memory.allocation(target.region)?, memory.allocation(source.region)?) {
        (Allocation::Device(_), Allocation::Host(pinned)) => {
            let (first, words) = words(source)?;
            LoadedStep::ToDevice { target, source: Arc::clone(pinned), first, words }
        }
        (Allocation::Host(pinned), Allocation::Device(_)) => {
            let (first, words) = words(target)?;
            LoadedStep::ToHost { target: Arc::clone(pinned), first, words, source }
        }
        (Allocation::Device(_), Allocation::Device(_)) => LoadedStep::OnDevice { target, source },
        (Allocation::Host(_), Allocation::Host(_)) => {
            return Err(CudaError::InvalidParameter {
                what: "a copy",
                expected: "from or to the device".into(),
                actual: "from host to host".into(),
            });
        }
    })
}
