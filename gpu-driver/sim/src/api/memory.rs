//! Device memory, pinned and registered host memory, and what an address is.

use std::alloc::Layout;
use std::ffi::{c_int, c_uint, c_void};

use gpu_driver::sys::{CUdeviceptr, CUresult};
use ptx_builder::interp::MemoryError;

use crate::call::{Call, Outcome, in_context, name, put, put_if, releasing};
use crate::handle::Id;
use crate::objects::{Allocation, Pinned};

/// Alignment of pinned memory: a page.
const PAGE: usize = 4096;

/// Flags that `cuMemHostAlloc` and `cuMemHostRegister` know.
const HOST_ALLOC_FLAGS: c_uint = 0b111;
const HOST_REGISTER_FLAGS: c_uint = 0b1111;

pub(crate) unsafe extern "C" fn get_info(free: *mut usize, total: *mut usize) -> CUresult {
    in_context(name!("cuMemGetInfo"), |call| {
        let device = &call.devices[call.device as usize];
        let (limit, used) = (device.limit as usize, device.used as usize);
        put_if(free, limit.saturating_sub(used));
        put_if(total, limit);
        Ok(())
    })
}

/// The code for a failure of the memory itself.
pub(crate) fn code_of(error: &MemoryError) -> CUresult {
    match error {
        MemoryError::OutOfMemory { .. } => CUresult::ERROR_OUT_OF_MEMORY,
        _ => CUresult::ERROR_INVALID_VALUE,
    }
}

/// Allocates device memory for the context, or for a pool of its device.
pub(crate) fn allocate(call: &mut Call<'_>, bytes: u64, pool: Option<Id>) -> Outcome<CUdeviceptr> {
    if bytes == 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let (context, device) = (call.context, call.device);
    call.charge(device, bytes)?;
    match call.memory.alloc(bytes) {
        Ok(address) => {
            let made_by = call.log.n_calls;
            call.allocations
                .insert(address, Allocation { context, device, bytes, pool, freeing: false, made_by });
            Ok(address)
        }
        Err(error) => {
            call.refund(device, bytes);
            Err(code_of(&error))
        }
    }
}

pub(crate) unsafe extern "C" fn alloc(pointer: *mut CUdeviceptr, bytes: usize) -> CUresult {
    in_context(name!("cuMemAlloc", "{bytes}"), |call| {
        if pointer.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        call.expect_careless()?;
        put(pointer, allocate(call, bytes as u64, None)?)
    })
}

/// Rows of `width` bytes, each beginning at a multiple of 512.
pub(crate) unsafe extern "C" fn alloc_pitch(
    pointer: *mut CUdeviceptr,
    pitch: *mut usize,
    width: usize,
    height: usize,
    _element: c_uint,
) -> CUresult {
    in_context(name!("cuMemAllocPitch", "{width}, {height}"), |call| {
        if pointer.is_null() || pitch.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        call.expect_careless()?;
        let row = width.checked_next_multiple_of(512).ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
        let bytes = row.checked_mul(height).ok_or(CUresult::ERROR_OUT_OF_MEMORY)?;
        put(pointer, allocate(call, bytes as u64, None)?)?;
        put(pitch, row)
    })
}

pub(crate) unsafe extern "C" fn free(pointer: CUdeviceptr) -> CUresult {
    releasing(name!("cuMemFree", "{pointer:#x}"), |call| {
        if pointer == 0 {
            return Ok(());
        }
        if call.allocations.get(&pointer).is_none_or(|allocation| allocation.freeing) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        call.expect_careless()?;
        // A fault that comes to light here is returned; the memory is freed all the same.
        let waited = if call.sim.config.free_waits { call.wait_for_context() } else { Ok(()) };
        if call.forget_allocation(pointer).is_some() {
            call.memory.free(pointer).map_err(|error| code_of(&error))?;
        }
        waited
    })
}

pub(crate) unsafe extern "C" fn host_alloc(
    pointer: *mut *mut c_void,
    bytes: usize,
    flags: c_uint,
) -> CUresult {
    in_context(name!("cuMemHostAlloc", "{bytes}"), |call| {
        let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| CUresult::ERROR_OUT_OF_MEMORY)?;
        if pointer.is_null() || bytes == 0 || flags & !HOST_ALLOC_FLAGS != 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        call.expect_careless()?;
        // SAFETY: the size is not zero.
        let memory = unsafe { std::alloc::alloc_zeroed(layout) };
        if memory.is_null() {
            return Err(CUresult::ERROR_OUT_OF_MEMORY);
        }
        let (context, made_by) = (call.context, call.log.n_calls);
        let address = memory.expose_provenance();
        call.pinned.insert(address, Pinned { context, bytes, flags, layout: Some(layout), made_by });
        if let Err(code) = map(call, memory, bytes) {
            call.forget_pinned(address);
            return Err(code);
        }
        put(pointer, memory.cast())
    })
}

pub(crate) unsafe extern "C" fn alloc_host(pointer: *mut *mut c_void, bytes: usize) -> CUresult {
    // SAFETY: the caller's promise.
    unsafe { host_alloc(pointer, bytes, 0) }
}

/// Lets the devices see host memory.
fn map(call: &Call<'_>, memory: *mut u8, bytes: usize) -> Outcome {
    // SAFETY: the memory is the program's own or was allocated for it, and stays until it is unmapped: by
    // `cuMemFreeHost`, `cuMemHostUnregister` or the end of the context. The program must keep registered memory until
    // then, and must order its own accesses with the device's, as CUDA asks.
    let mapped = unsafe { call.memory.map_host(memory, bytes as u64) };
    mapped.map(|_| ()).map_err(|error| code_of(&error))
}

/// Waits for work that may use host memory, then takes it from the devices.
fn unpin(call: &mut Call<'_>, address: usize) -> Outcome {
    let waited = call.wait_for_context();
    call.forget_pinned(address);
    waited
}

pub(crate) unsafe extern "C" fn free_host(pointer: *mut c_void) -> CUresult {
    releasing(name!("cuMemFreeHost"), |call| {
        let address = pointer.addr();
        match call.pinned.get(&address) {
            Some(pinned) if pinned.layout.is_some() => {
                call.expect_careless()?;
                unpin(call, address)
            }
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    })
}

pub(crate) unsafe extern "C" fn host_register(pointer: *mut c_void, bytes: usize, flags: c_uint) -> CUresult {
    in_context(name!("cuMemHostRegister", "{bytes}"), |call| {
        if pointer.is_null() || bytes == 0 || flags & !HOST_REGISTER_FLAGS != 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let address = pointer.expose_provenance();
        let end = address.checked_add(bytes).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let before = call.pinned.range(..end).next_back();
        if before.is_some_and(|(start, pinned)| start + pinned.bytes > address) {
            return Err(CUresult::ERROR_HOST_MEMORY_ALREADY_REGISTERED);
        }
        let (context, made_by) = (call.context, call.log.n_calls);
        call.pinned.insert(address, Pinned { context, bytes, flags, layout: None, made_by });
        if let Err(code) = map(call, pointer.cast(), bytes) {
            call.forget_pinned(address);
            return Err(code);
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn host_unregister(pointer: *mut c_void) -> CUresult {
    releasing(name!("cuMemHostUnregister"), |call| {
        let address = pointer.addr();
        match call.pinned.get(&address) {
            Some(pinned) if pinned.layout.is_none() => unpin(call, address),
            Some(_) => Err(CUresult::ERROR_INVALID_VALUE),
            None => Err(CUresult::ERROR_HOST_MEMORY_NOT_REGISTERED),
        }
    })
}

/// Host and device share one address space, so the address is the same.
pub(crate) unsafe extern "C" fn host_get_device_pointer(
    device: *mut CUdeviceptr,
    host: *mut c_void,
    flags: c_uint,
) -> CUresult {
    in_context(name!("cuMemHostGetDevicePointer"), |call| {
        if flags != 0 || call.pinned_at(host.addr(), 1).is_none() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        put(device, host.addr() as u64)
    })
}

pub(crate) unsafe extern "C" fn host_get_flags(flags: *mut c_uint, host: *mut c_void) -> CUresult {
    in_context(name!("cuMemHostGetFlags"), |call| match call.pinned_at(host.addr(), 1) {
        Some((_, pinned)) if pinned.layout.is_some() => put(flags, pinned.flags),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    })
}

/// What is at an address of this context's device or of pinned host memory: start, bytes, whether it is host memory.
fn range_at(call: &Call<'_>, address: u64) -> Option<(u64, u64, bool)> {
    if let Some((start, allocation)) = call.allocation_at(address, 1) {
        return Some((start, allocation.bytes, false));
    }
    if let Some((start, pinned)) = call.pinned_at(address as usize, 1) {
        return Some((start as u64, pinned.bytes as u64, true));
    }
    // A variable of a module.
    call.memory.find(address).map(|found| (found.base, found.bytes, false))
}

pub(crate) unsafe extern "C" fn get_address_range(
    base: *mut CUdeviceptr,
    bytes: *mut usize,
    pointer: CUdeviceptr,
) -> CUresult {
    in_context(name!("cuMemGetAddressRange"), |call| {
        let (start, size, _) = range_at(call, pointer).ok_or(CUresult::ERROR_NOT_FOUND)?;
        put_if(base, start);
        put_if(bytes, size as usize);
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn pointer_get_attribute(
    data: *mut c_void,
    attribute: c_uint,
    pointer: CUdeviceptr,
) -> CUresult {
    in_context(name!("cuPointerGetAttribute", "{attribute}"), |call| {
        let (start, bytes, on_host) = range_at(call, pointer).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let allocation = call.allocation_at(pointer, 1).map(|(_, allocation)| allocation);
        match attribute {
            // Context.
            1 => put(data.cast(), call.state.handle::<gpu_driver::sys::CUcontext>(call.context)),
            // Memory type.
            2 => put(data.cast::<c_uint>(), if on_host { 1 } else { 2 }),
            // Device pointer.
            3 => put(data.cast::<u64>(), pointer),
            // Host pointer.
            4 if on_host => put(data.cast::<u64>(), pointer),
            // Buffer id: unique in the process's life, as an address here is.
            7 => put(data.cast::<u64>(), start),
            // Managed.
            8 => put(data.cast::<u8>(), 0),
            // Device ordinal.
            9 => put(data.cast::<c_int>(), call.device as c_int),
            // Start and size of the range.
            11 => put(data.cast::<u64>(), start),
            12 => put(data.cast::<usize>(), bytes as usize),
            // Mapped.
            13 => put(data.cast::<u8>(), 1),
            // Pool.
            17 => match allocation.and_then(|allocation| allocation.pool) {
                Some(pool) => put(data.cast(), call.state.handle::<crate::handle::CUmemoryPool>(pool)),
                None => put(data.cast::<*mut c_void>(), std::ptr::null_mut()),
            },
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    })
}
