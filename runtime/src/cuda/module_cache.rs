//! Kernels emitted and compiled once for a device.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use gpu_driver::{Context, Function, LaunchConfig, Module};
use kernels::{Kernel, LaunchGeometry};
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use ptx_builder::Target;
use rayon::prelude::*;

use super::error::CudaError;
use super::machine::{Machine, Rounds};

/// The compiled kernels of one context, by name.
///
/// A kernel's name and the target determine its PTX, so a kernel that was compiled before is found without emitting
/// anything. A failure is not kept: the next request tries again.
#[derive(Debug)]
pub struct ModuleCache {
    context: Context,
    machine: Machine,
    entries: Mutex<BTreeMap<String, Arc<OnceCell<CompiledKernel>>>>,
    hits: AtomicUsize,
    compiled: AtomicUsize,
    emitting: AtomicU64,
    loading: AtomicU64,
}

/// A kernel on a device.
#[derive(Debug, Clone)]
pub struct CompiledKernel {
    /// What is launched.
    pub function: Function,
    /// Whether every thread executes `griddepcontrol.wait`, so that the kernel may be started before those that it
    /// depends on have ended.
    pub waits: bool,
    /// Dynamic shared memory of a launch, in bytes: what the kernel needs, or more, to be [alone](Kernel::alone) on a
    /// processor.
    pub dynamic_shared: u32,
}

impl CompiledKernel {
    /// A launch of this geometry.
    pub(crate) fn config(&self, geometry: LaunchGeometry) -> LaunchConfig {
        let ([gx, gy, gz], [bx, by, bz]) = (geometry.grid, geometry.block);
        LaunchConfig::new((gx, gy, gz), (bx, by, bz)).with_dynamic_shared(self.dynamic_shared)
    }
}

/// How often a [`ModuleCache`] was asked, and what it had to do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CacheStats {
    /// Requests for kernels that were there.
    pub hits: usize,
    /// Kernels emitted and compiled.
    pub compiled: usize,
    /// Time in which they were emitted, summed over threads.
    pub emitting: Duration,
    /// Time in which the driver compiled them, or found them compiled on disk, summed over threads.
    pub loading: Duration,
}

impl ModuleCache {
    /// An empty cache that compiles for the device of `context`.
    ///
    /// # Errors
    /// [`CudaError::OldDevice`].
    pub fn new(context: &Context) -> Result<Self, CudaError> {
        let capability = context.limits().compute_capability;
        let Some(target) = Target::for_capability(capability.major, capability.minor) else {
            let device =
                context.device().name().map_err(CudaError::driver("asking for the device's name"))?;
            return Err(CudaError::OldDevice { device, capability: capability.to_string() });
        };
        let processors = context.limits().multiprocessors;
        let machine = Machine { target, processors, rounds: Rounds::Nothing, prompt: false };
        Ok(Self {
            context: context.clone(),
            machine,
            entries: Mutex::default(),
            hits: AtomicUsize::new(0),
            compiled: AtomicUsize::new(0),
            emitting: AtomicU64::new(0),
            loading: AtomicU64::new(0),
        })
    }

    /// The context that kernels are loaded into.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The target that kernels are emitted for.
    pub fn target(&self) -> Target {
        self.machine.target
    }

    /// What kernels are chosen for, as long as they may round nothing.
    pub fn machine(&self) -> Machine {
        self.machine
    }

    /// What the cache has done so far.
    pub fn stats(&self) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            compiled: self.compiled.load(Ordering::Relaxed),
            emitting: Duration::from_nanos(self.emitting.load(Ordering::Relaxed)),
            loading: Duration::from_nanos(self.loading.load(Ordering::Relaxed)),
        }
    }

    /// The compiled `kernel`. Threads that ask for the same kernel at once wait for one compilation.
    ///
    /// # Errors
    /// [`CudaError::Kernel`] if it cannot be emitted for the target; [`CudaError::Driver`], with the compiler's log, if
    /// it cannot be compiled or lacks its entry.
    pub fn get(&self, kernel: &dyn Kernel) -> Result<CompiledKernel, CudaError> {
        let name = kernel.name();
        let entry = Arc::clone(self.entries.lock().entry(name.clone()).or_default());
        if let Some(compiled) = entry.get() {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(compiled.clone());
        }
        entry.get_or_try_init(|| self.compile(&name, kernel)).cloned()
    }

    /// Compiles those of `kernels` that are not there yet, on all cores.
    ///
    /// # Errors
    /// As [`get`](Self::get), for the first in order that fails.
    pub fn get_all(&self, kernels: &[&dyn Kernel]) -> Result<Vec<CompiledKernel>, CudaError> {
        // Collected in order, so that which error is reported does not depend on the threads.
        let results: Vec<_> = kernels.par_iter().map(|kernel| self.get(*kernel)).collect();
        results.into_iter().collect()
    }

    fn compile(&self, name: &str, kernel: &dyn Kernel) -> Result<CompiledKernel, CudaError> {
        let begun = Instant::now();
        let emitted = kernel.emit(self.target())?;
        let waits = emitted.function(name).is_some_and(ptx_builder::Function::waits_on_grid_dependency);
        let ptx = emitted.to_string();
        let emitted_at = Instant::now();
        let action = || format!("compiling {name}");
        let module = Module::from_ptx(&self.context, &ptx).map_err(CudaError::driver(action()))?;
        let function = module.function(name).map_err(CudaError::driver(action()))?;
        let dynamic_shared = self.dynamic_shared(kernel, function.attributes().static_shared_bytes);
        function.allow_dynamic_shared(dynamic_shared).map_err(CudaError::driver(action()))?;
        self.compiled.fetch_add(1, Ordering::Relaxed);
        let add = |sum: &AtomicU64, time: Duration| sum.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
        add(&self.emitting, emitted_at - begun);
        add(&self.loading, emitted_at.elapsed());
        tracing::debug!(kernel = name, registers = function.attributes().registers, "compiled");
        Ok(CompiledKernel { function, waits, dynamic_shared })
    }

    /// The dynamic shared memory of a launch: what the kernel needs, or so much that two blocks of one that wants to be
    /// [alone](Kernel::alone) do not fit a processor.
    fn dynamic_shared(&self, kernel: &dyn Kernel, static_shared: u32) -> u32 {
        let limits = self.context.limits();
        let needs = kernel.geometry().dynamic_shared;
        if !kernel.alone() {
            return needs;
        }
        let more_than_half = limits.shared_per_multiprocessor / 2;
        let most = limits.shared_per_block_optin.saturating_sub(static_shared);
        needs.max(more_than_half.min(most))
    }
}
