//! Parameters of nodes: from the structures of a call to work.

use std::ffi::c_uint;

use gpu_driver::sys::*;

use crate::api::copy::{check_fill, device_place};
use crate::api::launch::Request;
use crate::call::{Call, Outcome};
use crate::limits::Shape;
use crate::work::{Copy, Fill, KernelWork, Place};

/// `CUmemorytype` of arrays, and of addresses that say themselves what they are.
const MEMORYTYPE_ARRAY: c_uint = 3;
const MEMORYTYPE_UNIFIED: c_uint = 4;

/// # Safety
///
/// Null, or as CUDA documents.
pub(crate) unsafe fn kernel_of(
    call: &mut Call<'_>,
    params: *const CUDA_KERNEL_NODE_PARAMS_v2,
) -> Outcome<KernelWork> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    let p = unsafe { &*params };
    // The kernel of a library, where there is no function. Its context is the graph's, as that of functions.
    let function = if p.func.is_null() { CUfunction(p.kern.0) } else { p.func };
    if function.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let shape =
        Shape { grid: p.grid_dim, block: p.block_dim, cluster: [1; 3], dynamic_shared: p.shared_mem_bytes };
    let request = Request { function, shape, params: p.kernel_params, extra: p.extra };
    // SAFETY: the caller's promise.
    unsafe { request.capture(call) }
}

/// # Safety
///
/// Null, or a structure that lives during the call.
pub(crate) unsafe fn copy_of(call: &Call<'_>, params: *const CUDA_MEMCPY3D_v2) -> Outcome<Copy> {
    let invalid = CUresult::ERROR_INVALID_VALUE;
    if params.is_null() {
        return Err(invalid);
    }
    // SAFETY: the caller's promise.
    let p = unsafe { &*params };
    if [p.width_in_bytes, p.height, p.depth].contains(&0) || !p.reserved0.is_null() || !p.reserved1.is_null()
    {
        return Err(invalid);
    }
    let one_row = p.height == 1 && p.depth == 1;
    if !one_row && (p.dst_pitch < p.width_in_bytes || p.src_pitch < p.width_in_bytes) {
        return Err(invalid);
    }
    let src = End {
        kind: p.src_memory_type,
        host: p.src_host.expose_provenance(),
        device: p.src_device,
        offset: [p.src_x_in_bytes, p.src_y, p.src_z],
        pitch: p.src_pitch,
        slice: p.src_pitch * p.src_height.max(p.height),
    };
    let dst = End {
        kind: p.dst_memory_type,
        host: p.dst_host.expose_provenance(),
        device: p.dst_device,
        offset: [p.dst_x_in_bytes, p.dst_y, p.dst_z],
        pitch: p.dst_pitch,
        slice: p.dst_pitch * p.dst_height.max(p.height),
    };
    Ok(Copy {
        dst: dst.place(call, p)?,
        src: src.place(call, p)?,
        width: p.width_in_bytes,
        height: p.height,
        depth: p.depth,
        dst_pitch: dst.pitch,
        src_pitch: src.pitch,
        dst_slice: dst.slice,
        src_slice: src.slice,
    })
}

/// One end of a copy node.
struct End {
    kind: c_uint,
    host: usize,
    device: CUdeviceptr,
    offset: [usize; 3],
    pitch: usize,
    slice: usize,
}

impl End {
    fn place(&self, call: &Call<'_>, p: &CUDA_MEMCPY3D_v2) -> Outcome<Place> {
        let offset = self.offset[0] + self.offset[1] * self.pitch + self.offset[2] * self.slice;
        let bytes = (p.depth - 1) * self.slice + (p.height - 1) * self.pitch + p.width_in_bytes;
        match self.kind {
            CU_MEMORYTYPE_HOST if self.host != 0 => Ok(Place::Host(self.host + offset)),
            CU_MEMORYTYPE_DEVICE | MEMORYTYPE_UNIFIED => {
                device_place(call, self.device + offset as u64, bytes)
            }
            MEMORYTYPE_ARRAY => Err(CUresult::ERROR_NOT_SUPPORTED),
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    }
}

/// The context of a copy or fill node must be the current one: its device is where the node runs.
pub(crate) fn expect_context(call: &Call<'_>, context: CUcontext) -> Outcome {
    let id = call.id_of(context).map_err(|_| CUresult::ERROR_INVALID_CONTEXT)?;
    if id == call.context { Ok(()) } else { Err(CUresult::ERROR_INVALID_CONTEXT) }
}

/// # Safety
///
/// Null, or a structure that lives during the call.
pub(crate) unsafe fn fill_of(call: &Call<'_>, params: *const CUDA_MEMSET_NODE_PARAMS) -> Outcome<Fill> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    let p = unsafe { &*params };
    if ![1, 2, 4].contains(&p.element_size) || p.width == 0 || p.height == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let fill = Fill {
        dst: p.dst,
        value: p.value,
        element: p.element_size,
        width: p.width,
        height: p.height,
        pitch: if p.height == 1 { 0 } else { p.pitch },
    };
    check_fill(call, &fill)?;
    Ok(fill)
}
