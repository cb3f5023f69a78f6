//! Parameters of nodes: from the structures of a call to work.

use std::ffi::{c_uint, c_void};

use gpu_driver::sys::*;

use crate::api::copy::{check_fill, device_place, is_known};
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
    let request = Request { function, shape, params: p.kernel_params, extra: p.extra, cooperative: false };
    // SAFETY: the caller's promise.
    unsafe { request.capture(call) }
}

impl KernelWork {
    /// Gives it the clusters of the node that it is to be in.
    pub(crate) fn expect_cluster(&mut self, call: &Call<'_>, cluster: [u32; 3]) -> Outcome {
        self.cluster = cluster;
        let (grid, block, dynamic_shared) = (self.grid, self.block, self.dynamic_shared);
        let function = call.functions.get(&self.function).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        Shape { grid, block, cluster, dynamic_shared }.check(function, &call.sim.profile)
    }
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
        slice: p.src_pitch.checked_mul(p.src_height.max(p.height)).ok_or(invalid)?,
    };
    let dst = End {
        kind: p.dst_memory_type,
        host: p.dst_host.expose_provenance(),
        device: p.dst_device,
        offset: [p.dst_x_in_bytes, p.dst_y, p.dst_z],
        pitch: p.dst_pitch,
        slice: p.dst_pitch.checked_mul(p.dst_height.max(p.height)).ok_or(invalid)?,
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
    /// The distance from the beginning to a byte of a row of a slice.
    fn bytes_to(&self, z: usize, y: usize, x: usize) -> Option<usize> {
        z.checked_mul(self.slice)?.checked_add(y.checked_mul(self.pitch)?)?.checked_add(x)
    }

    fn place(&self, call: &Call<'_>, p: &CUDA_MEMCPY3D_v2) -> Outcome<Place> {
        let invalid = CUresult::ERROR_INVALID_VALUE;
        let offset = self.bytes_to(self.offset[2], self.offset[1], self.offset[0]).ok_or(invalid)?;
        let bytes = self.bytes_to(p.depth - 1, p.height - 1, p.width_in_bytes).ok_or(invalid)?;
        match self.kind {
            CU_MEMORYTYPE_HOST if self.host != 0 => {
                self.host.checked_add(offset).map(Place::Host).ok_or(invalid)
            }
            CU_MEMORYTYPE_DEVICE | MEMORYTYPE_UNIFIED if self.device != 0 => {
                let address = self.device.checked_add(offset as u64).ok_or(invalid)?;
                // What is not the device's is the host's.
                if self.kind == MEMORYTYPE_UNIFIED && !is_known(call, address) {
                    return Ok(Place::Host(address as usize));
                }
                device_place(call, address, bytes)
            }
            MEMORYTYPE_ARRAY => Err(CUresult::ERROR_NOT_SUPPORTED),
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    }
}

/// A two-dimensional copy as one of one slice.
///
/// # Safety
///
/// Null, or a structure that lives during the call.
pub(crate) unsafe fn slice_of(params: *const CUDA_MEMCPY2D_v2) -> Outcome<CUDA_MEMCPY3D_v2> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    let CUDA_MEMCPY2D_v2 { src, dst, width_in_bytes, height } = unsafe { params.read() };
    Ok(CUDA_MEMCPY3D_v2 {
        src_x_in_bytes: src.x_in_bytes,
        src_y: src.y,
        src_z: 0,
        src_lod: 0,
        src_memory_type: src.memory_type,
        src_host: src.host,
        src_device: src.device,
        src_array: src.array,
        reserved0: std::ptr::null_mut(),
        src_pitch: src.pitch,
        src_height: height,
        dst_x_in_bytes: dst.x_in_bytes,
        dst_y: dst.y,
        dst_z: 0,
        dst_lod: 0,
        dst_memory_type: dst.memory_type,
        dst_host: dst.host,
        dst_device: dst.device,
        dst_array: dst.array,
        reserved1: std::ptr::null_mut(),
        dst_pitch: dst.pitch,
        dst_height: height,
        width_in_bytes,
        height,
        depth: 1,
    })
}

/// One end of a two-dimensional copy.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct End2D {
    x_in_bytes: usize,
    y: usize,
    memory_type: c_uint,
    host: *mut c_void,
    device: CUdeviceptr,
    array: CUarray,
    pitch: usize,
}

/// Parameters of a two-dimensional copy. The binding makes none, so the type is here.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types)]
pub(crate) struct CUDA_MEMCPY2D_v2 {
    src: End2D,
    dst: End2D,
    width_in_bytes: usize,
    height: usize,
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

#[cfg(all(test, target_pointer_width = "64"))]
mod tests {
    use super::*;
    use std::mem::{offset_of, size_of};

    #[test]
    fn two_dimensional_copies_have_the_c_layout() {
        assert_eq!((size_of::<CUDA_MEMCPY2D_v2>(), size_of::<End2D>()), (128, 56));
        assert_eq!((offset_of!(End2D, host), offset_of!(End2D, pitch)), (24, 48));
        assert_eq!(offset_of!(CUDA_MEMCPY2D_v2, width_in_bytes), 112);
    }
}
