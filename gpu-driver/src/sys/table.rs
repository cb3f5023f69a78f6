//! The function table, from one list.
//!
//! A line of the list reads
//!
//! ```text
//! need field: "base name" / "exported symbol" @ version (arguments);
//! ```
//!
//! `version` (1000 * major + 10 * minor) is the CUDA version in which this signature appeared. It is at once what
//! `cuGetProcAddress` is asked for, together with the base name, and the oldest driver that has the entry. The exported
//! symbol carries the suffix of that signature (`cuMemAlloc_v2`): it is what a dynamic symbol lookup must ask for,
//! because the unsuffixed export is an older function with other argument types.
//!
//! There is no stream-capture entry, no copy on the legacy default stream and no per-thread-default-stream variant in
//! the list: what is not bound cannot be called by accident.

use super::constants::CU_GET_PROC_ADDRESS_LEGACY_STREAM;
use super::handles::*;
use super::result::CUresult;
use super::structs::*;
use crate::error::{ApiError, CudaVersion, DriverError};
use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::NonNull;

/// One line of the function table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Field of [`DriverTable`].
    pub field: &'static str,
    /// Name without version suffix, as `cuGetProcAddress` wants it.
    pub name: &'static str,
    /// Exported symbol with version suffix, as the platform's loader wants it.
    pub symbol: &'static CStr,
    /// CUDA version in which this signature appeared, 1000 * major + 10 * minor.
    pub version: i32,
    /// Whether a library without this entry is refused when it is loaded. A missing entry that is not required is an
    /// error of the call that needs it.
    pub required: bool,
}

impl Entry {
    /// The exported symbol as a string.
    pub fn symbol_name(&self) -> &'static str {
        // The list below is ASCII.
        self.symbol.to_str().unwrap_or(self.name)
    }
}

macro_rules! field_type {
    (required, $t:ty) => { $t };
    (optional, $t:ty) => { Option<$t> };
}

macro_rules! is_required {
    (required) => {
        true
    };
    (optional) => {
        false
    };
}

macro_rules! resolved {
    (required, $t:ty, $pointer:expr, $missing:expr) => {
        match $pointer {
            // SAFETY: the caller of `from_resolver` promises that the pointer is a function of this signature.
            Some(p) => unsafe { std::mem::transmute::<NonNull<c_void>, $t>(p) },
            None => return Err($missing),
        }
    };
    (optional, $t:ty, $pointer:expr, $missing:expr) => {
        // SAFETY: the caller of `from_resolver` promises that the pointer is a function of this signature.
        $pointer.map(|p| unsafe { std::mem::transmute::<NonNull<c_void>, $t>(p) })
    };
}

macro_rules! function {
    (required, $table:expr, $field:ident) => {
        $table.$field
    };
    (optional, $table:expr, $field:ident) => {
        match $table.$field {
            Some(f) => f,
            None => return Err($table.missing(&entry::$field)),
        }
    };
}

macro_rules! driver_api {
    ($($(#[$doc:meta])* $need:ident $field:ident: $name:literal / $symbol:literal @ $version:literal
        ($($arg:ident: $ty:ty),* $(,)?);)*) => {
        /// Pointers to the driver's functions. The fields can be filled from a library ([`Driver::load`]), by any
        /// resolver ([`DriverTable::from_resolver`]), or with Rust functions.
        ///
        /// [`Driver::load`]: crate::Driver::load
        #[derive(Clone, Copy)]
        pub struct DriverTable {
            $(
                $(#[$doc])*
                pub $field: field_type!($need, unsafe extern "C" fn($($arg: $ty),*) -> CUresult),
            )*
        }

        /// Every entry of [`DriverTable`], in its order.
        pub const ENTRIES: &[Entry] = &[$(entry::$field),*];

        #[allow(non_upper_case_globals)]
        pub(crate) mod entry {
            use super::Entry;
            $(
                pub(crate) const $field: Entry = Entry {
                    field: stringify!($field),
                    name: $name,
                    symbol: $symbol,
                    version: $version,
                    required: is_required!($need),
                };
            )*
        }

        impl DriverTable {
            /// Fills the table by asking `resolve` for each entry.
            ///
            /// # Errors
            ///
            /// The symbol of every required entry for which there was no answer.
            ///
            /// # Safety
            ///
            /// A pointer that `resolve` returns must be a function with the C calling convention and the signature of
            /// the entry's field in this struct, and must stay callable for as long as the table or a copy of it is
            /// used.
            pub unsafe fn from_resolver(
                mut resolve: impl FnMut(&'static Entry) -> Option<NonNull<c_void>>,
            ) -> Result<Self, Vec<&'static str>> {
                let mut missing = Vec::new();
                $(
                    let $field = resolve(&entry::$field);
                    if entry::$field.required && $field.is_none() {
                        missing.push(entry::$field.symbol_name());
                    }
                )*
                Ok(Self {
                    $($field: resolved!(
                        $need,
                        unsafe extern "C" fn($($arg: $ty),*) -> CUresult,
                        $field,
                        missing
                    ),)*
                })
            }
        }

        // One method per entry: the function, or the error that says which driver has it. `call!` invokes it.
        impl DriverTable {
            $(
                #[inline]
                pub(crate) fn $field(
                    &self,
                ) -> Result<unsafe extern "C" fn($($arg: $ty),*) -> CUresult, DriverError> {
                    Ok(function!($need, self, $field))
                }
            )*
        }
    };
}

driver_api! {
    /// Initialises the driver for this process.
    required init: "cuInit" / c"cuInit" @ 2000 (flags: c_uint);
    /// The CUDA version that the driver supports.
    required driver_get_version: "cuDriverGetVersion" / c"cuDriverGetVersion" @ 2020 (version: *mut c_int);
    /// Name of a result code.
    optional get_error_name: "cuGetErrorName" / c"cuGetErrorName" @ 6000 (code: CUresult, name: *mut *const c_char);
    /// Description of a result code.
    optional get_error_string: "cuGetErrorString" / c"cuGetErrorString" @ 6000
        (code: CUresult, text: *mut *const c_char);

    /// Number of devices.
    required device_get_count: "cuDeviceGetCount" / c"cuDeviceGetCount" @ 2000 (count: *mut c_int);
    /// Handle of a device.
    required device_get: "cuDeviceGet" / c"cuDeviceGet" @ 2000 (device: *mut CUdevice, ordinal: c_int);
    /// Name of a device.
    required device_get_name: "cuDeviceGetName" / c"cuDeviceGetName" @ 2000
        (name: *mut c_char, len: c_int, device: CUdevice);
    /// Identifier of a device or MIG instance.
    optional device_get_uuid: "cuDeviceGetUuid" / c"cuDeviceGetUuid_v2" @ 11040 (uuid: *mut CUuuid, device: CUdevice);
    /// PCI address of a device.
    optional device_get_pci_bus_id: "cuDeviceGetPCIBusId" / c"cuDeviceGetPCIBusId" @ 4010
        (id: *mut c_char, len: c_int, device: CUdevice);
    /// Memory of a device in bytes.
    required device_total_mem: "cuDeviceTotalMem" / c"cuDeviceTotalMem_v2" @ 3020
        (bytes: *mut usize, device: CUdevice);
    /// An attribute of a device.
    required device_get_attribute: "cuDeviceGetAttribute" / c"cuDeviceGetAttribute" @ 2000
        (value: *mut c_int, attribute: c_int, device: CUdevice);

    /// Takes a reference to a device's primary context.
    required device_primary_ctx_retain: "cuDevicePrimaryCtxRetain" / c"cuDevicePrimaryCtxRetain" @ 7000
        (context: *mut CUcontext, device: CUdevice);
    /// Gives that reference back.
    required device_primary_ctx_release: "cuDevicePrimaryCtxRelease" / c"cuDevicePrimaryCtxRelease_v2" @ 11000
        (device: CUdevice);
    /// The context that is current on this thread.
    required ctx_get_current: "cuCtxGetCurrent" / c"cuCtxGetCurrent" @ 4000 (context: *mut CUcontext);
    /// Makes a context current on this thread.
    required ctx_set_current: "cuCtxSetCurrent" / c"cuCtxSetCurrent" @ 4000 (context: CUcontext);
    /// Waits for all work of the current context.
    required ctx_synchronize: "cuCtxSynchronize" / c"cuCtxSynchronize" @ 2000 ();
    /// Least and greatest stream priority; greater priority is the smaller number.
    optional ctx_get_stream_priority_range: "cuCtxGetStreamPriorityRange" / c"cuCtxGetStreamPriorityRange" @ 5050
        (least: *mut c_int, greatest: *mut c_int);

    /// Free and total device memory in bytes.
    required mem_get_info: "cuMemGetInfo" / c"cuMemGetInfo_v2" @ 3020 (free: *mut usize, total: *mut usize);
    /// Allocates device memory.
    required mem_alloc: "cuMemAlloc" / c"cuMemAlloc_v2" @ 3020 (pointer: *mut CUdeviceptr, bytes: usize);
    /// Frees device memory.
    required mem_free: "cuMemFree" / c"cuMemFree_v2" @ 3020 (pointer: CUdeviceptr);
    /// Allocates pinned host memory.
    required mem_host_alloc: "cuMemHostAlloc" / c"cuMemHostAlloc" @ 2020
        (pointer: *mut *mut c_void, bytes: usize, flags: c_uint);
    /// Frees pinned host memory.
    required mem_free_host: "cuMemFreeHost" / c"cuMemFreeHost" @ 2000 (pointer: *mut c_void);
    /// Device address of mapped pinned memory.
    required mem_host_get_device_pointer: "cuMemHostGetDevicePointer" / c"cuMemHostGetDevicePointer_v2" @ 3020
        (device: *mut CUdeviceptr, host: *mut c_void, flags: c_uint);
    /// Copies from host to device in stream order.
    required memcpy_htod_async: "cuMemcpyHtoDAsync" / c"cuMemcpyHtoDAsync_v2" @ 3020
        (dst: CUdeviceptr, src: *const c_void, bytes: usize, stream: CUstream);
    /// Copies from device to host in stream order.
    required memcpy_dtoh_async: "cuMemcpyDtoHAsync" / c"cuMemcpyDtoHAsync_v2" @ 3020
        (dst: *mut c_void, src: CUdeviceptr, bytes: usize, stream: CUstream);
    /// Copies within device memory in stream order.
    required memcpy_dtod_async: "cuMemcpyDtoDAsync" / c"cuMemcpyDtoDAsync_v2" @ 3020
        (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream);
    /// Fills with a byte in stream order; `count` is bytes.
    required memset_d8_async: "cuMemsetD8Async" / c"cuMemsetD8Async" @ 3020
        (dst: CUdeviceptr, value: u8, count: usize, stream: CUstream);
    /// Fills with a word in stream order; `count` is 32-bit words.
    required memset_d32_async: "cuMemsetD32Async" / c"cuMemsetD32Async" @ 3020
        (dst: CUdeviceptr, value: c_uint, count: usize, stream: CUstream);

    /// Makes a stream.
    required stream_create_with_priority: "cuStreamCreateWithPriority" / c"cuStreamCreateWithPriority" @ 5050
        (stream: *mut CUstream, flags: c_uint, priority: c_int);
    /// Destroys a stream; queued work still runs.
    required stream_destroy: "cuStreamDestroy" / c"cuStreamDestroy_v2" @ 4000 (stream: CUstream);
    /// Waits for a stream.
    required stream_synchronize: "cuStreamSynchronize" / c"cuStreamSynchronize" @ 2000 (stream: CUstream);
    /// Whether a stream is idle.
    required stream_query: "cuStreamQuery" / c"cuStreamQuery" @ 2000 (stream: CUstream);
    /// Orders a stream after an event.
    required stream_wait_event: "cuStreamWaitEvent" / c"cuStreamWaitEvent" @ 3020
        (stream: CUstream, event: CUevent, flags: c_uint);
    /// Priority of a stream.
    required stream_get_priority: "cuStreamGetPriority" / c"cuStreamGetPriority" @ 5050
        (stream: CUstream, priority: *mut c_int);

    /// Makes an event.
    required event_create: "cuEventCreate" / c"cuEventCreate" @ 2000 (event: *mut CUevent, flags: c_uint);
    /// Destroys an event.
    required event_destroy: "cuEventDestroy" / c"cuEventDestroy_v2" @ 4000 (event: CUevent);
    /// Records an event in a stream.
    required event_record: "cuEventRecord" / c"cuEventRecord" @ 2000 (event: CUevent, stream: CUstream);
    /// Whether an event has happened.
    required event_query: "cuEventQuery" / c"cuEventQuery" @ 2000 (event: CUevent);
    /// Waits for an event.
    required event_synchronize: "cuEventSynchronize" / c"cuEventSynchronize" @ 2000 (event: CUevent);
    /// Milliseconds between two events.
    required event_elapsed_time: "cuEventElapsedTime" / c"cuEventElapsedTime" @ 2000
        (milliseconds: *mut f32, start: CUevent, end: CUevent);

    /// Loads a module from PTX or machine code.
    required module_load_data_ex: "cuModuleLoadDataEx" / c"cuModuleLoadDataEx" @ 2010
        (module: *mut CUmodule, image: *const c_void, n_options: c_uint, options: *mut c_uint,
         values: *mut *mut c_void);
    /// Unloads a module.
    required module_unload: "cuModuleUnload" / c"cuModuleUnload" @ 2000 (module: CUmodule);
    /// Finds a kernel by name.
    required module_get_function: "cuModuleGetFunction" / c"cuModuleGetFunction" @ 2000
        (function: *mut CUfunction, module: CUmodule, name: *const c_char);
    /// Finds a global variable by name.
    required module_get_global: "cuModuleGetGlobal" / c"cuModuleGetGlobal_v2" @ 3020
        (pointer: *mut CUdeviceptr, bytes: *mut usize, module: CUmodule, name: *const c_char);

    /// An attribute of a kernel.
    required func_get_attribute: "cuFuncGetAttribute" / c"cuFuncGetAttribute" @ 2020
        (value: *mut c_int, attribute: c_int, function: CUfunction);
    /// Sets an attribute of a kernel.
    required func_set_attribute: "cuFuncSetAttribute" / c"cuFuncSetAttribute" @ 9000
        (function: CUfunction, attribute: c_int, value: c_int);
    /// How many parameters a kernel has.
    optional func_get_param_count: "cuFuncGetParamCount" / c"cuFuncGetParamCount" @ 13020
        (function: CUfunction, count: *mut usize);
    /// Offset and size of a kernel's parameter.
    optional func_get_param_info: "cuFuncGetParamInfo" / c"cuFuncGetParamInfo" @ 12040
        (function: CUfunction, index: usize, offset: *mut usize, size: *mut usize);
    /// Blocks that fit on one multiprocessor.
    required occupancy_max_active_blocks: "cuOccupancyMaxActiveBlocksPerMultiprocessor"
        / c"cuOccupancyMaxActiveBlocksPerMultiprocessor" @ 6050
        (blocks: *mut c_int, function: CUfunction, block_threads: c_int, dynamic_shared: usize);
    /// Block size for the highest occupancy.
    required occupancy_max_potential_block_size: "cuOccupancyMaxPotentialBlockSize"
        / c"cuOccupancyMaxPotentialBlockSize" @ 6050
        (min_grid: *mut c_int, block: *mut c_int, function: CUfunction,
         shared_of_block: Option<extern "C" fn(c_int) -> usize>, dynamic_shared: usize, limit: c_int);
    /// Clusters that can be resident on the device.
    optional occupancy_max_active_clusters: "cuOccupancyMaxActiveClusters" / c"cuOccupancyMaxActiveClusters" @ 11070
        (clusters: *mut c_int, function: CUfunction, config: *const CUlaunchConfig);
    /// Launches a kernel.
    required launch_kernel: "cuLaunchKernel" / c"cuLaunchKernel" @ 4000
        (function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
         block_z: c_uint, shared_bytes: c_uint, stream: CUstream, params: *mut *mut c_void, extra: *mut *mut c_void);
    /// Launches a kernel with attributes.
    optional launch_kernel_ex: "cuLaunchKernelEx" / c"cuLaunchKernelEx" @ 11060
        (config: *const CUlaunchConfig, function: CUfunction, params: *mut *mut c_void, extra: *mut *mut c_void);

    /// Makes an empty graph.
    optional graph_create: "cuGraphCreate" / c"cuGraphCreate" @ 10000 (graph: *mut CUgraph, flags: c_uint);
    /// Destroys a graph.
    optional graph_destroy: "cuGraphDestroy" / c"cuGraphDestroy" @ 10000 (graph: CUgraph);
    /// Adds a kernel node (twelve-field parameters).
    optional graph_add_kernel_node: "cuGraphAddKernelNode" / c"cuGraphAddKernelNode_v2" @ 12000
        (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, n_deps: usize,
         params: *const CUDA_KERNEL_NODE_PARAMS_v2);
    /// Sets a launch attribute of a kernel node.
    optional graph_kernel_node_set_attribute: "cuGraphKernelNodeSetAttribute" / c"cuGraphKernelNodeSetAttribute" @ 11000
        (node: CUgraphNode, attribute: c_uint, value: *const CUlaunchAttributeValue);
    /// Adds a copy node.
    optional graph_add_memcpy_node: "cuGraphAddMemcpyNode" / c"cuGraphAddMemcpyNode" @ 10000
        (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, n_deps: usize,
         params: *const CUDA_MEMCPY3D_v2, context: CUcontext);
    /// Adds a fill node.
    optional graph_add_memset_node: "cuGraphAddMemsetNode" / c"cuGraphAddMemsetNode" @ 10000
        (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, n_deps: usize,
         params: *const CUDA_MEMSET_NODE_PARAMS, context: CUcontext);
    /// Adds a node that does nothing.
    optional graph_add_empty_node: "cuGraphAddEmptyNode" / c"cuGraphAddEmptyNode" @ 10000
        (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, n_deps: usize);
    /// Adds a copy of another graph as one node.
    optional graph_add_child_graph_node: "cuGraphAddChildGraphNode" / c"cuGraphAddChildGraphNode" @ 10000
        (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, n_deps: usize, child: CUgraph);
    /// Makes a condition, for one conditional node of the graph. Each launch begins with the default value if the flags
    /// say so.
    optional graph_conditional_handle_create: "cuGraphConditionalHandleCreate" / c"cuGraphConditionalHandleCreate" @ 12030
        (handle: *mut CUgraphConditionalHandle, graph: CUgraph, context: CUcontext, default: c_uint, flags: c_uint);
    /// Adds a node of any type; here conditional ones. `data` may be null where all edges mean completion.
    optional graph_add_node: "cuGraphAddNode" / c"cuGraphAddNode_v2" @ 12030
        (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, data: *const CUgraphEdgeData,
         n_deps: usize, params: *mut CUgraphNodeParams);
    /// Adds edges that mean completion.
    optional graph_add_dependencies: "cuGraphAddDependencies" / c"cuGraphAddDependencies" @ 10000
        (graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, n: usize);
    /// Adds edges with data. Called with one edge at a time: driver 580 applies the first edge's data to all of a call.
    optional graph_add_dependencies_v2: "cuGraphAddDependencies" / c"cuGraphAddDependencies_v2" @ 12030
        (graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, data: *const CUgraphEdgeData, n: usize);
    /// Nodes of a graph.
    optional graph_get_nodes: "cuGraphGetNodes" / c"cuGraphGetNodes" @ 10000
        (graph: CUgraph, nodes: *mut CUgraphNode, n: *mut usize);
    /// Edges of a graph that has no edge data.
    optional graph_get_edges: "cuGraphGetEdges" / c"cuGraphGetEdges" @ 10000
        (graph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, n: *mut usize);
    /// Edges of a graph, with their data.
    optional graph_get_edges_v2: "cuGraphGetEdges" / c"cuGraphGetEdges_v2" @ 12030
        (graph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, data: *mut CUgraphEdgeData, n: *mut usize);
    /// Type of a node.
    optional graph_node_get_type: "cuGraphNodeGetType" / c"cuGraphNodeGetType" @ 10000
        (node: CUgraphNode, kind: *mut c_uint);
    /// Writes a graph as DOT to a file.
    optional graph_debug_dot_print: "cuGraphDebugDotPrint" / c"cuGraphDebugDotPrint" @ 11030
        (graph: CUgraph, path: *const c_char, flags: c_uint);
    /// Instantiates a graph.
    optional graph_instantiate_with_flags: "cuGraphInstantiateWithFlags" / c"cuGraphInstantiateWithFlags" @ 11040
        (exec: *mut CUgraphExec, graph: CUgraph, flags: u64);
    /// Instantiates a graph and says which node is at fault where that fails.
    optional graph_instantiate_with_params: "cuGraphInstantiateWithParams" / c"cuGraphInstantiateWithParams" @ 12000
        (exec: *mut CUgraphExec, graph: CUgraph, params: *mut CUDA_GRAPH_INSTANTIATE_PARAMS);
    /// Destroys an instantiated graph.
    optional graph_exec_destroy: "cuGraphExecDestroy" / c"cuGraphExecDestroy" @ 10000 (exec: CUgraphExec);
    /// Moves an instantiated graph to the device ahead of its first launch.
    optional graph_upload: "cuGraphUpload" / c"cuGraphUpload" @ 11010 (exec: CUgraphExec, stream: CUstream);
    /// Launches an instantiated graph.
    optional graph_launch: "cuGraphLaunch" / c"cuGraphLaunch" @ 10000 (exec: CUgraphExec, stream: CUstream);
    /// Replaces the parameters of a kernel node in an instantiated graph (twelve-field parameters).
    optional graph_exec_kernel_node_set_params: "cuGraphExecKernelNodeSetParams"
        / c"cuGraphExecKernelNodeSetParams_v2" @ 12000
        (exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_KERNEL_NODE_PARAMS_v2);
    /// Replaces the parameters of a copy node in an instantiated graph.
    optional graph_exec_memcpy_node_set_params: "cuGraphExecMemcpyNodeSetParams"
        / c"cuGraphExecMemcpyNodeSetParams" @ 10020
        (exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_MEMCPY3D_v2, context: CUcontext);
    /// Replaces the parameters of a fill node in an instantiated graph.
    optional graph_exec_memset_node_set_params: "cuGraphExecMemsetNodeSetParams"
        / c"cuGraphExecMemsetNodeSetParams" @ 10020
        (exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_MEMSET_NODE_PARAMS, context: CUcontext);
    /// Makes an instantiated graph equal to another definition of the same shape.
    optional graph_exec_update: "cuGraphExecUpdate" / c"cuGraphExecUpdate_v2" @ 12000
        (exec: CUgraphExec, graph: CUgraph, info: *mut CUgraphExecUpdateResultInfo);
}

/// Calls an entry of a table: `call!(table, field(arguments))` is a `Result<(), DriverError>` that names the call.
/// Must be used inside `unsafe`: the arguments have to be what the CUDA documentation of the function asks for.
macro_rules! call {
    ($table:expr, $field:ident($($arg:expr),* $(,)?)) => {{
        let table: &$crate::sys::DriverTable = $table;
        match table.$field() {
            Ok(function) => table.check(&$crate::sys::table::entry::$field, function($($arg),*)),
            Err(absent) => Err(absent),
        }
    }};
}
pub(crate) use call;

/// `cuGetProcAddress` as of CUDA 11.3.
pub type GetProcAddressV1 = unsafe extern "C" fn(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    version: c_int,
    flags: u64,
) -> CUresult;

/// `cuGetProcAddress_v2` as of CUDA 12.0, which also reports why there is no answer.
pub type GetProcAddressV2 = unsafe extern "C" fn(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    version: c_int,
    flags: u64,
    status: *mut c_int,
) -> CUresult;

/// Whichever form of `cuGetProcAddress` a library has.
#[derive(Clone, Copy)]
pub(crate) enum GetProcAddress {
    V1(GetProcAddressV1),
    V2(GetProcAddressV2),
}

impl GetProcAddress {
    /// Asks for an entry. `driver_version` is what `cuDriverGetVersion` said: an entry newer than the driver is not
    /// asked for, because an older function under the same base name would be no answer to it.
    pub(crate) fn resolve(self, entry: &Entry, driver_version: CudaVersion) -> Option<NonNull<c_void>> {
        if entry.version > driver_version.0 {
            return None;
        }
        let name = std::ffi::CString::new(entry.name).ok()?;
        let mut pointer: *mut c_void = std::ptr::null_mut();
        let code = match self {
            // SAFETY: the name is a NUL-terminated string and the pointer is a local, both alive during the call.
            Self::V1(f) => unsafe {
                f(name.as_ptr(), &mut pointer, entry.version, CU_GET_PROC_ADDRESS_LEGACY_STREAM)
            },
            Self::V2(f) => {
                let mut status: c_int = 0;
                // SAFETY: as above; `status` is a local too.
                unsafe {
                    f(
                        name.as_ptr(),
                        &mut pointer,
                        entry.version,
                        CU_GET_PROC_ADDRESS_LEGACY_STREAM,
                        &mut status,
                    )
                }
            }
        };
        if code == CUresult::SUCCESS { NonNull::new(pointer) } else { None }
    }
}

impl DriverTable {
    #[inline]
    pub(crate) fn check(&self, entry: &'static Entry, code: CUresult) -> Result<(), DriverError> {
        if code == CUresult::SUCCESS { Ok(()) } else { Err(self.failure(entry, code)) }
    }

    #[cold]
    fn failure(&self, entry: &'static Entry, code: CUresult) -> DriverError {
        let text = if code.name().is_some() {
            None
        } else {
            let name = self.get_error_name().ok().and_then(|f| text_of(f, code));
            let description = self.get_error_string().ok().and_then(|f| text_of(f, code));
            name.map(|name| (name, description.unwrap_or_default()))
        };
        DriverError::Api(ApiError::new(entry.symbol_name(), code, text))
    }

    #[cold]
    fn missing(&self, entry: &'static Entry) -> DriverError {
        let mut driver: c_int = 0;
        // SAFETY: the version goes to a local.
        let known = unsafe { (self.driver_get_version)(&mut driver) } == CUresult::SUCCESS;
        DriverError::SymbolMissing {
            symbol: entry.symbol_name(),
            needs: CudaVersion(entry.version),
            driver: known.then_some(CudaVersion(driver)),
        }
    }
}

/// Asks `cuGetErrorName` or `cuGetErrorString` about a code.
fn text_of(
    function: unsafe extern "C" fn(CUresult, *mut *const c_char) -> CUresult,
    code: CUresult,
) -> Option<String> {
    let mut text: *const c_char = std::ptr::null();
    // SAFETY: both users pass one of these two functions; the pointer is a local.
    let rc = unsafe { function(code, &mut text) };
    if rc != CUresult::SUCCESS || text.is_null() {
        return None;
    }
    // SAFETY: on success the driver returns a NUL-terminated string with static lifetime.
    Some(unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn there_is_no_capture_and_no_legacy_stream_copy() {
        for entry in ENTRIES {
            let name = entry.symbol_name().to_ascii_lowercase();
            assert!(!name.contains("capture"), "{name}");
            assert!(!name.ends_with("_ptsz") && !name.ends_with("_ptds"), "{name}");
            if name.starts_with("cumemcpy") || name.starts_with("cumemset") {
                assert!(name.contains("async"), "{name} would run on the legacy default stream");
            }
        }
    }

    #[test]
    fn symbols_and_fields_are_unique_and_symbols_extend_names() {
        let symbols: HashSet<_> = ENTRIES.iter().map(|e| e.symbol).collect();
        let fields: HashSet<_> = ENTRIES.iter().map(|e| e.field).collect();
        assert_eq!(symbols.len(), ENTRIES.len());
        assert_eq!(fields.len(), ENTRIES.len());
        for entry in ENTRIES {
            let suffix = entry.symbol_name().strip_prefix(entry.name);
            assert!(matches!(suffix, Some("" | "_v2")), "{entry:?}");
        }
    }

    #[test]
    fn kernel_node_functions_are_the_second_version() {
        let wanted = ["cuGraphAddKernelNode_v2", "cuGraphExecKernelNodeSetParams_v2", "cuGraphExecUpdate_v2"];
        for symbol in wanted {
            let entry = ENTRIES.iter().find(|e| e.symbol_name() == symbol);
            assert_eq!(entry.map(|e| e.version), Some(12_000), "{symbol}");
        }
        assert!(ENTRIES.iter().all(|e| e.symbol_name() != "cuGraphAddKernelNode"));
    }

    #[test]
    fn all_missing_required_entries_are_named_at_once() {
        // SAFETY: no pointer is returned.
        let missing = unsafe { DriverTable::from_resolver(|_| None) }.err().expect("a table");
        assert_eq!(missing.len(), ENTRIES.iter().filter(|e| e.required).count());
        assert!(missing.contains(&"cuMemAlloc_v2"));
    }
}
