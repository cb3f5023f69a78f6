//! Structures that cross the interface by pointer. Their layouts are those of 64-bit platforms, pinned by the tests below.

use super::handles::*;
use std::ffi::{c_int, c_uint, c_void};

/// A device's universally unique identifier.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CUuuid {
    /// The 16 bytes, most significant first.
    pub bytes: [u8; 16],
}

/// Value of a launch attribute: 64 bytes, of which each attribute uses a prefix.
#[repr(C)]
#[derive(Clone, Copy)]
pub union CUlaunchAttributeValue {
    /// All of it.
    pub pad: [u64; 8],
    /// Blocks per cluster in x, y, z.
    pub cluster_dim: [c_uint; 3],
    /// Nonzero: programmatic stream serialisation allowed.
    pub programmatic_stream_serialization: i32,
    /// Execution priority.
    pub priority: i32,
}

impl CUlaunchAttributeValue {
    /// All bytes zero.
    pub const ZERO: Self = Self { pad: [0; 8] };
}

/// One launch attribute.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CUlaunchAttribute {
    /// Which attribute.
    pub id: c_uint,
    /// Padding up to the value's alignment; zero.
    pub pad: [u8; 4],
    /// Its value.
    pub value: CUlaunchAttributeValue,
}

/// Argument of `cuLaunchKernelEx`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CUlaunchConfig {
    /// Blocks in x, y, z.
    pub grid_dim: [c_uint; 3],
    /// Threads per block in x, y, z.
    pub block_dim: [c_uint; 3],
    /// Dynamic shared memory per block in bytes.
    pub shared_mem_bytes: c_uint,
    /// Where to launch.
    pub stream: CUstream,
    /// The attributes.
    pub attrs: *mut CUlaunchAttribute,
    /// How many.
    pub num_attrs: c_uint,
}

/// Parameters of a kernel node, second version: twelve fields. The unsuffixed `cuGraphAddKernelNode` export takes the
/// ten-field structure that ends at `extra` and must never be given this one's companion functions or vice versa.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct CUDA_KERNEL_NODE_PARAMS_v2 {
    /// The kernel.
    pub func: CUfunction,
    /// Blocks in x, y, z.
    pub grid_dim: [c_uint; 3],
    /// Threads per block in x, y, z.
    pub block_dim: [c_uint; 3],
    /// Dynamic shared memory per block in bytes.
    pub shared_mem_bytes: c_uint,
    /// One pointer per kernel parameter.
    pub kernel_params: *mut *mut c_void,
    /// The other way of passing parameters; null here.
    pub extra: *mut *mut c_void,
    /// Used only where `func` is null; null here.
    pub kern: CUkernel,
    /// Used only with `kern`; null here.
    pub ctx: CUcontext,
}

/// Parameters of a three-dimensional copy; a linear copy is one row of `width_in_bytes`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct CUDA_MEMCPY3D_v2 {
    /// Source offset in a row, bytes.
    pub src_x_in_bytes: usize,
    /// Source row.
    pub src_y: usize,
    /// Source slice.
    pub src_z: usize,
    /// Source mipmap level.
    pub src_lod: usize,
    /// Which of the next three names the source.
    pub src_memory_type: c_uint,
    /// Source in host memory.
    pub src_host: *const c_void,
    /// Source in device memory.
    pub src_device: CUdeviceptr,
    /// Source array.
    pub src_array: CUarray,
    /// Must be null.
    pub reserved0: *mut c_void,
    /// Bytes from one source row to the next.
    pub src_pitch: usize,
    /// Source rows per slice.
    pub src_height: usize,
    /// Destination offset in a row, bytes.
    pub dst_x_in_bytes: usize,
    /// Destination row.
    pub dst_y: usize,
    /// Destination slice.
    pub dst_z: usize,
    /// Destination mipmap level.
    pub dst_lod: usize,
    /// Which of the next three names the destination.
    pub dst_memory_type: c_uint,
    /// Destination in host memory.
    pub dst_host: *mut c_void,
    /// Destination in device memory.
    pub dst_device: CUdeviceptr,
    /// Destination array.
    pub dst_array: CUarray,
    /// Must be null.
    pub reserved1: *mut c_void,
    /// Bytes from one destination row to the next.
    pub dst_pitch: usize,
    /// Destination rows per slice.
    pub dst_height: usize,
    /// Bytes per row.
    pub width_in_bytes: usize,
    /// Rows.
    pub height: usize,
    /// Slices.
    pub depth: usize,
}

/// Parameters of a fill node. `width` counts elements, not bytes.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct CUDA_MEMSET_NODE_PARAMS {
    /// Destination.
    pub dst: CUdeviceptr,
    /// Bytes between rows; ignored for one row.
    pub pitch: usize,
    /// The value, in the low `element_size` bytes.
    pub value: c_uint,
    /// 1, 2 or 4.
    pub element_size: c_uint,
    /// Elements per row.
    pub width: usize,
    /// Rows.
    pub height: usize,
}

/// What an edge of a graph means.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct CUgraphEdgeData {
    /// Which event of the upstream node releases the edge.
    pub from_port: u8,
    /// Which part of the downstream node waits; zero.
    pub to_port: u8,
    /// Kind of dependency.
    pub kind: u8,
    /// Zero.
    pub reserved: [u8; 5],
}

/// Outcome of `cuGraphExecUpdate_v2`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct CUgraphExecUpdateResultInfo {
    /// A `CUgraphExecUpdateResult`.
    pub result: c_uint,
    /// The node at fault, where there is one.
    pub error_node: CUgraphNode,
    /// The other end of the edge at fault, where there is one.
    pub error_from_node: CUgraphNode,
}

/// Argument of `cuGraphInstantiateWithParams`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct CUDA_GRAPH_INSTANTIATE_PARAMS {
    /// Instantiation flags.
    pub flags: u64,
    /// Stream for an upload flag; null here.
    pub upload_stream: CUstream,
    /// The node at fault, written by the driver.
    pub error_node: CUgraphNode,
    /// A `CUgraphInstantiateResult`, written by the driver.
    pub result: c_uint,
}

/// Parameters of a conditional node.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(non_camel_case_types)]
pub struct CUDA_CONDITIONAL_NODE_PARAMS {
    /// The condition.
    pub handle: CUgraphConditionalHandle,
    /// A `CUgraphConditionalNodeType`.
    pub kind: c_uint,
    /// Number of body graphs; 1 for a loop.
    pub size: c_uint,
    /// The body graphs, in an array of the driver's; written by the driver, and valid as long as the node.
    pub graphs: *mut CUgraph,
    /// Context of the condition and of everything in the bodies.
    pub ctx: CUcontext,
}

/// Parameters of a node by its type: 232 bytes, of which each type uses a prefix. The rest must be zero.
#[repr(C)]
#[derive(Clone, Copy)]
pub union CUgraphNodeParamsValue {
    /// All of it.
    pub pad: [i64; 29],
    /// Of a conditional node.
    pub conditional: CUDA_CONDITIONAL_NODE_PARAMS,
}

impl CUgraphNodeParamsValue {
    /// All bytes zero.
    pub const ZERO: Self = Self { pad: [0; 29] };
}

/// Argument of `cuGraphAddNode_v2`.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct CUgraphNodeParams {
    /// A `CUgraphNodeType`.
    pub kind: c_uint,
    /// Zero.
    pub reserved0: [c_int; 3],
    /// The parameters of that type.
    pub value: CUgraphNodeParamsValue,
    /// Zero.
    pub reserved2: i64,
}

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use std::mem::{align_of, offset_of, size_of};

    #[test]
    fn launch_structures_have_the_c_layout() {
        assert_eq!(size_of::<CUlaunchAttributeValue>(), 64);
        assert_eq!(align_of::<CUlaunchAttributeValue>(), 8);
        assert_eq!(size_of::<CUlaunchAttribute>(), 72);
        assert_eq!(offset_of!(CUlaunchAttribute, value), 8);
        assert_eq!(size_of::<CUlaunchConfig>(), 56);
        assert_eq!(offset_of!(CUlaunchConfig, stream), 32);
        assert_eq!(offset_of!(CUlaunchConfig, attrs), 40);
        assert_eq!(offset_of!(CUlaunchConfig, num_attrs), 48);
    }

    #[test]
    fn kernel_node_parameters_are_the_twelve_field_version() {
        assert_eq!(size_of::<CUDA_KERNEL_NODE_PARAMS_v2>(), 72);
        assert_eq!(offset_of!(CUDA_KERNEL_NODE_PARAMS_v2, grid_dim), 8);
        assert_eq!(offset_of!(CUDA_KERNEL_NODE_PARAMS_v2, block_dim), 20);
        assert_eq!(offset_of!(CUDA_KERNEL_NODE_PARAMS_v2, shared_mem_bytes), 32);
        assert_eq!(offset_of!(CUDA_KERNEL_NODE_PARAMS_v2, kernel_params), 40);
        assert_eq!(offset_of!(CUDA_KERNEL_NODE_PARAMS_v2, extra), 48);
        assert_eq!(offset_of!(CUDA_KERNEL_NODE_PARAMS_v2, kern), 56);
        assert_eq!(offset_of!(CUDA_KERNEL_NODE_PARAMS_v2, ctx), 64);
    }

    #[test]
    fn copy_and_fill_parameters_have_the_c_layout() {
        assert_eq!(size_of::<CUDA_MEMCPY3D_v2>(), 200);
        assert_eq!(offset_of!(CUDA_MEMCPY3D_v2, src_memory_type), 32);
        assert_eq!(offset_of!(CUDA_MEMCPY3D_v2, src_host), 40);
        assert_eq!(offset_of!(CUDA_MEMCPY3D_v2, src_device), 48);
        assert_eq!(offset_of!(CUDA_MEMCPY3D_v2, reserved0), 64);
        assert_eq!(offset_of!(CUDA_MEMCPY3D_v2, src_height), 80);
        assert_eq!(offset_of!(CUDA_MEMCPY3D_v2, dst_x_in_bytes), 88);
        assert_eq!(offset_of!(CUDA_MEMCPY3D_v2, dst_memory_type), 120);
        assert_eq!(offset_of!(CUDA_MEMCPY3D_v2, dst_host), 128);
        assert_eq!(offset_of!(CUDA_MEMCPY3D_v2, dst_device), 136);
        assert_eq!(offset_of!(CUDA_MEMCPY3D_v2, reserved1), 152);
        assert_eq!(offset_of!(CUDA_MEMCPY3D_v2, width_in_bytes), 176);
        assert_eq!(offset_of!(CUDA_MEMCPY3D_v2, depth), 192);
        assert_eq!(size_of::<CUDA_MEMSET_NODE_PARAMS>(), 40);
        assert_eq!(offset_of!(CUDA_MEMSET_NODE_PARAMS, value), 16);
        assert_eq!(offset_of!(CUDA_MEMSET_NODE_PARAMS, width), 24);
        assert_eq!(offset_of!(CUDA_MEMSET_NODE_PARAMS, height), 32);
    }

    #[test]
    fn node_parameters_have_the_c_layout() {
        assert_eq!((size_of::<CUgraphNodeParams>(), align_of::<CUgraphNodeParams>()), (256, 8));
        assert_eq!(offset_of!(CUgraphNodeParams, reserved0), 4);
        assert_eq!(offset_of!(CUgraphNodeParams, value), 16);
        assert_eq!(offset_of!(CUgraphNodeParams, reserved2), 248);
        assert_eq!(size_of::<CUgraphNodeParamsValue>(), 232);
        assert_eq!(size_of::<CUDA_CONDITIONAL_NODE_PARAMS>(), 32);
        assert_eq!(offset_of!(CUDA_CONDITIONAL_NODE_PARAMS, handle), 0);
        assert_eq!(offset_of!(CUDA_CONDITIONAL_NODE_PARAMS, kind), 8);
        assert_eq!(offset_of!(CUDA_CONDITIONAL_NODE_PARAMS, size), 12);
        assert_eq!(offset_of!(CUDA_CONDITIONAL_NODE_PARAMS, graphs), 16);
        assert_eq!(offset_of!(CUDA_CONDITIONAL_NODE_PARAMS, ctx), 24);
    }

    #[test]
    fn small_structures_have_the_c_layout() {
        assert_eq!((size_of::<CUgraphEdgeData>(), align_of::<CUgraphEdgeData>()), (8, 1));
        assert_eq!(size_of::<CUgraphExecUpdateResultInfo>(), 24);
        assert_eq!(offset_of!(CUgraphExecUpdateResultInfo, error_node), 8);
        assert_eq!(offset_of!(CUgraphExecUpdateResultInfo, error_from_node), 16);
        assert_eq!(size_of::<CUDA_GRAPH_INSTANTIATE_PARAMS>(), 32);
        assert_eq!(offset_of!(CUDA_GRAPH_INSTANTIATE_PARAMS, error_node), 16);
        assert_eq!(offset_of!(CUDA_GRAPH_INSTANTIATE_PARAMS, result), 24);
        assert_eq!(size_of::<CUuuid>(), 16);
        assert_eq!(size_of::<CUstream>(), size_of::<*mut c_void>());
    }
}
