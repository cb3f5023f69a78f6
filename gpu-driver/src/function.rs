//! Kernels of a loaded module.

use crate::args::KernelArgs;
use crate::context::Context;
use crate::error::{DriverError, count};
use crate::launch::{Dim3, LaunchConfig, no_clusters};
use crate::module::{Module, c_string, not_found};
use crate::stream::Stream;
use crate::sys::table::call;
use crate::sys::{
    CU_FUNC_ATTRIBUTE_BINARY_VERSION, CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES, CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES,
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK,
    CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, CU_FUNC_ATTRIBUTE_NUM_REGS,
    CU_FUNC_ATTRIBUTE_PTX_VERSION, CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES, CUfunction, CUlaunchConfig, CUstream,
    DriverTable,
};
use parking_lot::Mutex;
use std::ffi::c_int;
use std::fmt;
use std::ptr;
use std::sync::Arc;

/// A kernel. It keeps its module loaded. Clones, and what [`Module::function`] returns for the same name, are the same
/// kernel: what one lets launches ask for, launches of the others may ask for.
#[derive(Clone)]
pub struct Function {
    module: Module,
    kernel: Arc<Kernel>,
}

/// What is known of a kernel, kept by its module.
pub(crate) struct Kernel {
    handle: CUfunction,
    name: String,
    attributes: FunctionAttributes,
    /// Size of each parameter in bytes, where the driver can tell.
    parameters: Option<Vec<usize>>,
    /// Held while the driver is told of more.
    allowed: Mutex<Allowed>,
}

/// What launches may ask for, as the driver knows it. Nothing is ever taken back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    pub(crate) dynamic_shared: u32,
    pub(crate) non_portable_clusters: bool,
}

/// What the compiler made of a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FunctionAttributes {
    /// Most threads per block on this device, given the registers and the PTX's `.maxntid`.
    pub max_threads_per_block: u32,
    /// 32-bit registers per thread.
    pub registers: u32,
    /// Static shared memory per block, bytes.
    pub static_shared_bytes: u32,
    /// Local memory per thread, bytes: stack and spilled registers.
    pub local_bytes: u32,
    /// Constant memory, bytes.
    pub const_bytes: u32,
    /// Virtual architecture that the PTX targets: 75 for `.target sm_75`.
    pub ptx_target: u32,
    /// Architecture of the machine code: 90 for `sm_90`.
    pub binary_target: u32,
}

/// Answer of [`Function::suggested_block`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockSuggestion {
    /// Threads per block that give the highest occupancy.
    pub block_threads: u32,
    /// Blocks that fill the device at that size.
    pub min_grid: u32,
}

impl Kernel {
    fn load(module: &Module, name: &str) -> Result<Self, DriverError> {
        let text = c_string("kernel name", name)?;
        let mut handle = CUfunction::NULL;
        let context = module.context();
        context
            // SAFETY: the function goes to a local; the name is a NUL-terminated string; the module is loaded.
            .run(|t| unsafe { call!(t, module_get_function(&mut handle, module.handle(), text.as_ptr())) })
            .map_err(|e| not_found(e, "kernel", name))?;
        let read = |attribute| read_attribute(context, handle, attribute);
        let attributes = FunctionAttributes {
            max_threads_per_block: read(CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK)?,
            registers: read(CU_FUNC_ATTRIBUTE_NUM_REGS)?,
            static_shared_bytes: read(CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES)?,
            local_bytes: read(CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES)?,
            const_bytes: read(CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES)?,
            ptx_target: read(CU_FUNC_ATTRIBUTE_PTX_VERSION)?,
            binary_target: read(CU_FUNC_ATTRIBUTE_BINARY_VERSION)?,
        };
        let dynamic_shared = read(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES)?;
        let allowed = Mutex::new(Allowed { dynamic_shared, non_portable_clusters: false });
        let (name, parameters) = (name.to_owned(), parameter_sizes(context, handle)?);
        Ok(Self { handle, name, attributes, parameters, allowed })
    }
}

impl Function {
    pub(crate) fn of(module: &Module, name: &str) -> Result<Self, DriverError> {
        let mut kernels = module.0.kernels.lock();
        let kernel = match kernels.get(name) {
            Some(known) => Arc::clone(known),
            None => {
                let kernel = Arc::new(Kernel::load(module, name)?);
                kernels.insert(name.to_owned(), Arc::clone(&kernel));
                kernel
            }
        };
        Ok(Self { module: module.clone(), kernel })
    }

    /// Its name in the PTX.
    pub fn name(&self) -> &str {
        &self.kernel.name
    }

    /// Its module.
    pub fn module(&self) -> &Module {
        &self.module
    }

    /// Its context.
    pub fn context(&self) -> &Context {
        self.module.context()
    }

    /// The driver's handle.
    pub fn handle(&self) -> CUfunction {
        self.kernel.handle
    }

    /// What the compiler made of it.
    pub fn attributes(&self) -> &FunctionAttributes {
        &self.kernel.attributes
    }

    /// Size of each parameter in bytes, where the driver can count them (CUDA 13.2).
    pub fn parameter_sizes(&self) -> Option<&[usize]> {
        self.kernel.parameters.as_deref()
    }

    /// Dynamic shared memory that a launch may ask for now, bytes.
    pub fn max_dynamic_shared(&self) -> u32 {
        self.allowed().dynamic_shared
    }

    /// Lets launches ask for up to `bytes` of dynamic shared memory, which is needed where static and dynamic shared
    /// memory together exceed 48 KiB. Asking for no more than is allowed already does nothing.
    ///
    /// # Errors
    ///
    /// [`DriverError::Launch`] if static and dynamic memory together exceed what the device has for kernels that opt
    /// in; [`DriverError::Poisoned`], or the driver's failure.
    pub fn allow_dynamic_shared(&self, bytes: u32) -> Result<(), DriverError> {
        let mut allowed = self.kernel.allowed.lock();
        if bytes <= allowed.dynamic_shared {
            return Ok(());
        }
        let statics = self.attributes().static_shared_bytes;
        let most = self.context().limits().shared_per_block_optin;
        let value =
            c_int::try_from(bytes).ok().filter(|_| u64::from(bytes) + u64::from(statics) <= u64::from(most));
        let Some(value) = value else {
            return Err(self.refuse(format!(
                "{bytes} bytes of dynamic and {statics} of static shared memory exceed the device's {most} per block"
            )));
        };
        self.set_attribute(CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, value)?;
        allowed.dynamic_shared = bytes;
        Ok(())
    }

    /// Lets launches have clusters of more than 8 blocks, the most that every device with clusters takes, and up to 16. How
    /// many of them fit, if any, depends on the device: [`Function::max_active_clusters`].
    ///
    /// # Errors
    ///
    /// [`DriverError::Launch`] where the device has no clusters; [`DriverError::Poisoned`], or the driver's failure.
    pub fn allow_non_portable_clusters(&self) -> Result<(), DriverError> {
        let mut allowed = self.kernel.allowed.lock();
        if allowed.non_portable_clusters {
            return Ok(());
        }
        let limits = self.context().limits();
        if !limits.cluster_launch {
            return Err(self.refuse(no_clusters(limits)));
        }
        self.set_attribute(CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED, 1)?;
        allowed.non_portable_clusters = true;
        Ok(())
    }

    pub(crate) fn allowed(&self) -> Allowed {
        *self.kernel.allowed.lock()
    }

    fn set_attribute(&self, attribute: c_int, value: c_int) -> Result<(), DriverError> {
        // SAFETY: the function is alive: its module is loaded.
        self.context().run(|t| unsafe { call!(t, func_set_attribute(self.handle(), attribute, value)) })
    }

    /// Blocks of `block_threads` threads and `dynamic_shared` bytes that are resident on one multiprocessor at once.
    ///
    /// # Errors
    ///
    /// [`DriverError::Launch`] for more threads than the driver can count; [`DriverError::Poisoned`], or the driver's
    /// failure.
    pub fn max_active_blocks(&self, block_threads: u32, dynamic_shared: u32) -> Result<u32, DriverError> {
        let Ok(threads) = c_int::try_from(block_threads) else {
            return Err(self.refuse(format!("{block_threads} threads per block")));
        };
        let (mut blocks, shared): (c_int, usize) = (0, dynamic_shared as usize);
        self.context()
            // SAFETY: the count goes to a local; the function is alive.
            .run(|t| unsafe {
                call!(t, occupancy_max_active_blocks(&mut blocks, self.handle(), threads, shared))
            })?;
        count("active blocks", blocks)
    }

    /// The block size with the highest occupancy, for a constant amount of dynamic shared memory per block.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn suggested_block(&self, dynamic_shared: u32) -> Result<BlockSuggestion, DriverError> {
        let (mut grid, mut block): (c_int, c_int) = (0, 0);
        let shared = dynamic_shared as usize;
        // SAFETY: both counts go to locals; no callback is passed; the function is alive.
        self.context().run(|t| unsafe {
            call!(
                t,
                occupancy_max_potential_block_size(&mut grid, &mut block, self.handle(), None, shared, 0)
            )
        })?;
        Ok(BlockSuggestion {
            block_threads: count("threads of a block", block)?,
            min_grid: count("blocks of a grid", grid)?,
        })
    }

    /// Clusters of the configuration's shape that are resident on the device at once.
    ///
    /// # Errors
    ///
    /// [`DriverError::Launch`] if the configuration does not fit; [`DriverError::SymbolMissing`] before CUDA 11.7;
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn max_active_clusters(&self, config: &LaunchConfig) -> Result<u32, DriverError> {
        self.check_config(config)?;
        let mut clusters: c_int = 0;
        self.context().run(|t| {
            with_launch_config(config, CUstream::NULL, |c| {
                // SAFETY: the count goes to a local; the configuration and its attributes live during the call.
                unsafe { call!(t, occupancy_max_active_clusters(&mut clusters, self.handle(), c)) }
            })
        })?;
        count("active clusters", clusters)
    }

    /// Queues a launch in `stream`.
    ///
    /// Before the driver is called, the configuration is checked against the device's limits and the kernel's, and
    /// number and sizes of the arguments against the kernel's parameters where the driver can tell them.
    ///
    /// # Errors
    ///
    /// [`DriverError::Launch`] if configuration or arguments do not fit; [`DriverError::ContextMismatch`];
    /// [`DriverError::SymbolMissing`] where a configuration with attributes meets a driver before CUDA 11.6;
    /// [`DriverError::Poisoned`], or the driver's failure. A fault while the kernel runs is reported by a later call
    /// and poisons the context.
    ///
    /// # Safety
    ///
    /// A kernel is foreign code that runs with the rights of the whole context, at a time of its own. The caller
    /// promises, from the call until the kernel has finished (which [`Stream::synchronize`] or an event recorded after
    /// it shows):
    ///
    /// - *Arguments.* Each argument means what the kernel's parameter of that position means. The sizes are checked,
    ///   the types are not: an `f32` in place of a `u32`, or two pointers swapped, is accepted.
    /// - *Memory.* Every address that the kernel computes from its arguments lies in a live allocation of this context
    ///   (or in mapped pinned memory, or memory of a peer with access), is aligned for the access, and stays allocated.
    ///   Dropping a [`DeviceBuffer`](crate::DeviceBuffer) or [`SharedPinned`](crate::SharedPinned) waits for running
    ///   kernels; memory from elsewhere may not. The kernel's module stays loaded as long as this value, a clone, or
    ///   the module itself lives, and unloading waits.
    /// - *Races.* Nothing else reads or writes what the kernel writes, or writes what it reads, without being ordered
    ///   before or after it by a stream, an event or a graph, except by atomics meant for that. Host memory in
    ///   particular: a kernel must not touch pinned memory that Rust code sees as a slice.
    /// - *Meaning of what it writes.* Device memory behind a `DeviceBuffer<T>` may receive any bytes, because `T` is
    ///   plain data. Memory that others interpret (descriptors, page tables, code) must stay valid for them.
    /// - *Termination.* Barriers are reached by all the threads that they wait for, and every block ends; a kernel
    ///   that does not end makes every wait, and so every drop, hang.
    /// - *Programmatic serialisation.* With it set, the kernel runs before its predecessor in the stream has finished,
    ///   and the conditions on memory and races hold without the usual ordering up to its `griddepcontrol.wait`.
    pub unsafe fn launch(
        &self,
        stream: &Stream,
        config: &LaunchConfig,
        args: &KernelArgs,
    ) -> Result<(), DriverError> {
        let context = self.context();
        context.expect_same(stream.context(), "launch")?;
        self.check_config(config)?;
        self.check_args(args)?;
        context.run(|t| args.with_pointers(|params| self.launch_checked(t, stream, config, params)))
    }

    fn launch_checked(
        &self,
        table: &DriverTable,
        stream: &Stream,
        config: &LaunchConfig,
        params: *mut *mut std::ffi::c_void,
    ) -> Result<(), DriverError> {
        let LaunchConfig { grid, block, dynamic_shared_bytes: shared, cluster, programmatic_serialization } =
            *config;
        let (function, queue) = (self.handle(), stream.handle());
        if cluster.is_none() && !programmatic_serialization {
            // SAFETY: function and stream are alive and of the current context; there is one pointer per parameter, and
            // the driver copies the arguments before it returns. The rest is the promise made to `launch`.
            unsafe {
                call!(
                    table,
                    launch_kernel(
                        function,
                        grid.x,
                        grid.y,
                        grid.z,
                        block.x,
                        block.y,
                        block.z,
                        shared,
                        queue,
                        params,
                        ptr::null_mut()
                    )
                )
            }
        } else {
            with_launch_config(config, queue, |c| {
                // SAFETY: as above; the configuration and its attributes live during the call.
                unsafe { call!(table, launch_kernel_ex(c, function, params, ptr::null_mut())) }
            })
        }
    }

    pub(crate) fn check_config(&self, config: &LaunchConfig) -> Result<(), DriverError> {
        config.check(self, self.context().limits()).map_err(|reason| self.refuse(reason))
    }

    pub(crate) fn check_args(&self, args: &KernelArgs) -> Result<(), DriverError> {
        let Some(parameters) = &self.kernel.parameters else { return Ok(()) };
        if parameters.len() != args.len() {
            return Err(self.refuse(format!("{} arguments for {} parameters", args.len(), parameters.len())));
        }
        match parameters.iter().zip(args.sizes()).position(|(&wanted, given)| wanted != given) {
            None => Ok(()),
            Some(i) => Err(self.refuse(format!(
                "argument {i} has {} bytes, the parameter has {}",
                args.bytes(i).map_or(0, <[u8]>::len),
                parameters[i]
            ))),
        }
    }

    #[cold]
    fn refuse(&self, reason: String) -> DriverError {
        DriverError::Launch { kernel: self.name().to_owned(), reason }
    }
}

/// Calls `f` with the configuration in the form of `cuLaunchKernelEx`.
fn with_launch_config<R>(
    config: &LaunchConfig,
    stream: CUstream,
    f: impl FnOnce(*const CUlaunchConfig) -> R,
) -> R {
    let (mut attributes, n) = config.attributes();
    f(&CUlaunchConfig {
        grid_dim: Dim3::to_array(config.grid),
        block_dim: Dim3::to_array(config.block),
        shared_mem_bytes: config.dynamic_shared_bytes,
        stream,
        attrs: attributes.as_mut_ptr(),
        num_attrs: n as u32,
    })
}

fn read_attribute(context: &Context, function: CUfunction, attribute: c_int) -> Result<u32, DriverError> {
    let mut value: c_int = 0;
    // SAFETY: the value goes to a local; the function's module is loaded.
    context.run(|t| unsafe { call!(t, func_get_attribute(&mut value, attribute, function)) })?;
    count("a kernel attribute", value)
}

/// The sizes of the parameters, where the driver can count them. One that cannot would have to be asked for parameters
/// until it fails, and compute-sanitizer counts a failing call as the program's error.
fn parameter_sizes(context: &Context, function: CUfunction) -> Result<Option<Vec<usize>>, DriverError> {
    let mut count = 0usize;
    // SAFETY: the count goes to a local; the function's module is loaded.
    match context.run(|t| unsafe { call!(t, func_get_param_count(function, &mut count)) }) {
        Err(DriverError::SymbolMissing { .. }) => return Ok(None),
        answer => answer?,
    }
    let size_of = |index| {
        let (mut offset, mut size) = (0usize, 0usize);
        // SAFETY: offset and size go to locals; the function's module is loaded.
        context.run(|t| unsafe { call!(t, func_get_param_info(function, index, &mut offset, &mut size)) })?;
        Ok(size)
    };
    (0..count).map(size_of).collect::<Result<_, _>>().map(Some)
}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Function").field("name", &self.name()).finish_non_exhaustive()
    }
}
