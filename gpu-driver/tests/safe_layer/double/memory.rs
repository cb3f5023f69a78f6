//! Allocations, copies and fills.

use super::*;
use gpu_driver::sys::{CUdeviceptr, CUstream};
use std::alloc::Layout;
use std::ffi::c_uint;

/// Larger allocations exist without memory behind them.
const BACKED: usize = 64 << 20;

pub extern "C" fn mem_get_info(free: *mut usize, total: *mut usize) -> CUresult {
    answer_in_context("cuMemGetInfo", String::new(), |s| {
        let used: usize = s.allocations.values().map(|a| a.bytes).sum();
        put(free, (141 << 30) - used)?;
        put(total, 141 << 30)
    })
}

pub extern "C" fn mem_alloc(pointer: *mut CUdeviceptr, bytes: usize) -> CUresult {
    answer_in_context("cuMemAlloc", bytes.to_string(), |s| {
        if bytes == 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        if bytes > 141 << 30 {
            return Err(CUresult::ERROR_OUT_OF_MEMORY);
        }
        let address = s.next_address;
        s.next_address += (bytes as u64).next_multiple_of(256) + 256;
        // Not zero: nobody may count on fresh memory being clear.
        let data = (bytes <= BACKED).then(|| vec![0xa5; bytes]);
        s.allocations.insert(address, Allocation { bytes, data });
        put(pointer, address)
    })
}

pub extern "C" fn mem_free(pointer: CUdeviceptr) -> CUresult {
    answer_in_context("cuMemFree", String::new(), |s| {
        s.allocations.remove(&pointer).map(|_| ()).ok_or(CUresult::ERROR_INVALID_VALUE)
    })
}

fn layout(bytes: usize) -> Layout {
    Layout::from_size_align(bytes, 4096).expect("a size that the tests chose")
}

pub extern "C" fn mem_host_alloc(pointer: *mut *mut c_void, bytes: usize, _flags: c_uint) -> CUresult {
    answer_in_context("cuMemHostAlloc", bytes.to_string(), |s| {
        if bytes == 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the size is not zero.
        let memory = unsafe { std::alloc::alloc(layout(bytes)) };
        s.pinned.insert(memory.addr(), bytes);
        put(pointer, memory.cast())
    })
}

pub extern "C" fn mem_free_host(pointer: *mut c_void) -> CUresult {
    answer_in_context("cuMemFreeHost", String::new(), |s| {
        let bytes = s.pinned.remove(&pointer.addr()).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        // SAFETY: the map held the address, so it came from `mem_host_alloc` with this size.
        unsafe { std::alloc::dealloc(pointer.cast(), layout(bytes)) };
        Ok(())
    })
}

pub extern "C" fn mem_host_get_device_pointer(
    device: *mut CUdeviceptr,
    host: *mut c_void,
    _flags: c_uint,
) -> CUresult {
    answer_in_context("cuMemHostGetDevicePointer", String::new(), |_| put(device, host.addr() as u64))
}

pub extern "C" fn memcpy_htod_async(
    dst: CUdeviceptr,
    src: *const c_void,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    answer_in_context("cuMemcpyHtoDAsync", bytes.to_string(), |s| {
        alive(&s.streams, stream.0.addr())?;
        s.copy(Address::Device(dst), Address::Host(src.addr()), bytes)
    })
}

pub extern "C" fn memcpy_dtoh_async(
    dst: *mut c_void,
    src: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    answer_in_context("cuMemcpyDtoHAsync", bytes.to_string(), |s| {
        alive(&s.streams, stream.0.addr())?;
        s.copy(Address::Host(dst.addr()), Address::Device(src), bytes)
    })
}

pub extern "C" fn memcpy_dtod_async(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    answer_in_context("cuMemcpyDtoDAsync", bytes.to_string(), |s| {
        alive(&s.streams, stream.0.addr())?;
        s.copy(Address::Device(dst), Address::Device(src), bytes)
    })
}

pub extern "C" fn memset_d8_async(dst: CUdeviceptr, value: u8, count: usize, stream: CUstream) -> CUresult {
    answer_in_context("cuMemsetD8Async", format!("{value}, {count}"), |s| {
        alive(&s.streams, stream.0.addr())?;
        s.device(dst, count)?.fill(value);
        Ok(())
    })
}

pub extern "C" fn memset_d32_async(
    dst: CUdeviceptr,
    value: c_uint,
    count: usize,
    stream: CUstream,
) -> CUresult {
    answer_in_context("cuMemsetD32Async", format!("{value}, {count}"), |s| {
        alive(&s.streams, stream.0.addr())?;
        s.run(&Work::Fill { dst, value, element: 4, width: count })
    })
}
