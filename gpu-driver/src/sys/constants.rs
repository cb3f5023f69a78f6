//! Constants of the C interface, as plain integers: a newer driver may return values that are not listed here, which a
//! Rust enum could not hold.

use std::ffi::{c_int, c_uint};

/// Flag of `cuStreamCreateWithPriority`: no implicit ordering with the legacy default stream.
pub const CU_STREAM_NON_BLOCKING: c_uint = 1;

/// Flag of `cuEventCreate`: a host thread that waits sleeps instead of spinning.
pub const CU_EVENT_BLOCKING_SYNC: c_uint = 1;
/// Flag of `cuEventCreate`: the event carries no time stamp.
pub const CU_EVENT_DISABLE_TIMING: c_uint = 2;

/// Flag of `cuMemHostAlloc`: pinned for every context of the process.
pub const CU_MEMHOSTALLOC_PORTABLE: c_uint = 1;
/// Flag of `cuMemHostAlloc`: mapped into the device's address space.
pub const CU_MEMHOSTALLOC_DEVICEMAP: c_uint = 2;
/// Flag of `cuMemHostAlloc`: write-combined, fast to write, very slow to read on the host.
pub const CU_MEMHOSTALLOC_WRITECOMBINED: c_uint = 4;

/// `CUmemorytype`: host memory.
pub const CU_MEMORYTYPE_HOST: c_uint = 1;
/// `CUmemorytype`: device memory.
pub const CU_MEMORYTYPE_DEVICE: c_uint = 2;

/// `CUjit_option`: most registers per thread.
pub const CU_JIT_MAX_REGISTERS: c_uint = 0;
/// `CUjit_option`: compile time in milliseconds, written by the driver as a float.
pub const CU_JIT_WALL_TIME: c_uint = 2;
/// `CUjit_option`: where the informational log goes.
pub const CU_JIT_INFO_LOG_BUFFER: c_uint = 3;
/// `CUjit_option`: size of that buffer; overwritten with the number of bytes filled.
pub const CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES: c_uint = 4;
/// `CUjit_option`: where the error log goes.
pub const CU_JIT_ERROR_LOG_BUFFER: c_uint = 5;
/// `CUjit_option`: size of that buffer; overwritten with the number of bytes filled.
pub const CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES: c_uint = 6;
/// `CUjit_option`: optimisation level, 0 to 4.
pub const CU_JIT_OPTIMIZATION_LEVEL: c_uint = 7;
/// `CUjit_option`: emit debug information.
pub const CU_JIT_GENERATE_DEBUG_INFO: c_uint = 11;
/// `CUjit_option`: register and spill counts in the informational log.
pub const CU_JIT_LOG_VERBOSE: c_uint = 12;
/// `CUjit_option`: emit line numbers.
pub const CU_JIT_GENERATE_LINE_INFO: c_uint = 13;

/// `CUfunction_attribute`: most threads per block for this kernel on this device.
pub const CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: c_int = 0;
/// `CUfunction_attribute`: static shared memory in bytes.
pub const CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: c_int = 1;
/// `CUfunction_attribute`: constant memory in bytes.
pub const CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES: c_int = 2;
/// `CUfunction_attribute`: local memory per thread in bytes (stack and spills).
pub const CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: c_int = 3;
/// `CUfunction_attribute`: registers per thread.
pub const CU_FUNC_ATTRIBUTE_NUM_REGS: c_int = 4;
/// `CUfunction_attribute`: virtual architecture that the PTX targets, `10 * major + minor`.
pub const CU_FUNC_ATTRIBUTE_PTX_VERSION: c_int = 5;
/// `CUfunction_attribute`: architecture of the machine code, `10 * major + minor`.
pub const CU_FUNC_ATTRIBUTE_BINARY_VERSION: c_int = 6;
/// `CUfunction_attribute`: most dynamic shared memory that a launch may ask for.
pub const CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: c_int = 8;
/// `CUfunction_attribute`: preferred share of the L1 as shared memory, in percent.
pub const CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: c_int = 9;
/// `CUfunction_attribute`: whether clusters larger than the portable eight blocks are allowed.
pub const CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED: c_int = 14;

/// `CUlaunchAttributeID`: blocks per cluster.
pub const CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION: c_uint = 4;
/// `CUlaunchAttributeID`: start before the previous kernel of the stream has finished.
pub const CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION: c_uint = 6;
/// `CUlaunchAttributeID`: execution priority.
pub const CU_LAUNCH_ATTRIBUTE_PRIORITY: c_uint = 8;

/// `CUgraphDependencyType`: the downstream node waits for the end of the upstream node.
pub const CU_GRAPH_DEPENDENCY_TYPE_DEFAULT: u8 = 0;
/// `CUgraphDependencyType`: the downstream kernel starts early and waits by `griddepcontrol.wait`.
pub const CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC: u8 = 1;
/// Output port of a kernel node: its completion.
pub const CU_GRAPH_KERNEL_NODE_PORT_DEFAULT: u8 = 0;
/// Output port of a kernel node: all its blocks have triggered or exited.
pub const CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC: u8 = 1;

/// `CUgraphNodeType`: a kernel.
pub const CU_GRAPH_NODE_TYPE_KERNEL: c_uint = 0;
/// `CUgraphNodeType`: a copy.
pub const CU_GRAPH_NODE_TYPE_MEMCPY: c_uint = 1;
/// `CUgraphNodeType`: a fill.
pub const CU_GRAPH_NODE_TYPE_MEMSET: c_uint = 2;
/// `CUgraphNodeType`: an embedded graph.
pub const CU_GRAPH_NODE_TYPE_GRAPH: c_uint = 4;
/// `CUgraphNodeType`: nothing; a point for dependencies to meet.
pub const CU_GRAPH_NODE_TYPE_EMPTY: c_uint = 5;
/// `CUgraphNodeType`: graphs that run or not, by a condition.
pub const CU_GRAPH_NODE_TYPE_CONDITIONAL: c_uint = 13;

/// `CUgraphConditionalNodeType`: one graph runs if the condition is not 0, another, if there is one, if it is.
pub const CU_GRAPH_COND_TYPE_IF: c_uint = 0;
/// `CUgraphConditionalNodeType`: a graph runs again and again while the condition is not 0.
pub const CU_GRAPH_COND_TYPE_WHILE: c_uint = 1;

/// Flag of `cuGraphConditionalHandleCreate`: each launch of the graph begins with the condition's default value.
pub const CU_GRAPH_COND_ASSIGN_DEFAULT: c_uint = 1;

/// `CUgraphDebugDot_flags`: everything that the driver can print.
pub const CU_GRAPH_DEBUG_DOT_FLAGS_VERBOSE: c_uint = 1;

/// `CUdriverProcAddress_flags`: never the per-thread-default-stream variants.
pub const CU_GET_PROC_ADDRESS_LEGACY_STREAM: u64 = 1;
