//! Device memory, pinned and registered host memory, and what an address is.

use std::alloc::Layout;
use std::ffi::{c_int, c_uint, c_void};

use gpu_driver::sys::{CUcontext, CUdeviceptr, CUresult};
use ptx_builder::interp::MemoryError;

use crate::call::{Call, Outcome, in_context, name, put, put_if, releasing};
use crate::handle::{CUmemoryPool, Id};
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
        if call.pinned.get(&(pointer as usize)).is_some_and(|pinned| pinned.managed) {
            call.expect_careless()?;
            return unpin(call, pointer as usize);
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
        if pointer.is_null() || flags & !HOST_ALLOC_FLAGS != 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        put(pointer, allocate_on_host(call, bytes, flags, false)?.cast())
    })
}

/// Allocates host memory that the devices see.
pub(crate) fn allocate_on_host(
    call: &mut Call<'_>,
    bytes: usize,
    flags: c_uint,
    managed: bool,
) -> Outcome<*mut u8> {
    let layout = Layout::from_size_align(bytes, PAGE).map_err(|_| CUresult::ERROR_OUT_OF_MEMORY)?;
    if bytes == 0 {
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
    call.pinned.insert(address, Pinned { context, bytes, flags, managed, layout: Some(layout), made_by });
    if let Err(code) = map(call, memory, bytes) {
        call.forget_pinned(address);
        return Err(code);
    }
    Ok(memory)
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
            Some(pinned) if pinned.layout.is_some() && !pinned.managed => {
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
        call.pinned.insert(address, Pinned { context, bytes, flags, managed: false, layout: None, made_by });
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
        Some((_, pinned)) if pinned.layout.is_some() && !pinned.managed => put(flags, pinned.flags),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    })
}

/// What is at an address.
struct Range {
    start: u64,
    bytes: u64,
    context: Id,
    device: u32,
    /// Host memory that the host allocated or registered.
    on_host: bool,
    managed: bool,
    pool: Option<Id>,
}

fn range_at(call: &Call<'_>, address: u64) -> Option<Range> {
    let own = Range {
        start: 0,
        bytes: 0,
        context: call.context,
        device: call.device,
        on_host: false,
        managed: false,
        pool: None,
    };
    if let Some((start, allocation)) = call.allocation_at(address, 1) {
        let Allocation { context, device, bytes, pool, .. } = *allocation;
        return Some(Range { start, bytes, context, device, pool, ..own });
    }
    if let Some((start, pinned)) = call.pinned_at(address as usize, 1) {
        let Pinned { context, managed, bytes, .. } = *pinned;
        let device = call.contexts.get(&context).map_or(call.device, |context| context.device);
        let (start, bytes, on_host) = (start as u64, bytes as u64, !managed);
        return Some(Range { start, bytes, context, device, on_host, managed, ..own });
    }
    // A variable of a module.
    call.memory.find(address).map(|found| Range { start: found.base, bytes: found.bytes, ..own })
}

pub(crate) unsafe extern "C" fn get_address_range(
    base: *mut CUdeviceptr,
    bytes: *mut usize,
    pointer: CUdeviceptr,
) -> CUresult {
    in_context(name!("cuMemGetAddressRange"), |call| {
        let range = range_at(call, pointer).ok_or(CUresult::ERROR_NOT_FOUND)?;
        put_if(base, range.start);
        put_if(bytes, range.bytes as usize);
        Ok(())
    })
}

/// `CU_DEVICE_INVALID`, the device of an address that is nobody's.
const NO_DEVICE: c_int = -2;

/// Writes an attribute of an address.
fn attribute_of(
    call: &Call<'_>,
    data: *mut c_void,
    attribute: c_uint,
    pointer: CUdeviceptr,
    range: Option<&Range>,
) -> Outcome {
    // Null pointers, zeros and no device stand for what an address that is nobody's does not have.
    let number = |of: fn(&Range) -> u64| range.map_or(0, of);
    match attribute {
        // Context.
        1 => put(data.cast(), range.map_or(CUcontext::NULL, |range| call.handle(range.context))),
        // Memory type.
        2 => put(data.cast::<c_uint>(), number(|range| if range.on_host { 1 } else { 2 }) as c_uint),
        // Device pointer.
        3 => put(data.cast::<u64>(), range.map_or(0, |_| pointer)),
        // Host pointer.
        4 => match range {
            Some(range) if !range.on_host && !range.managed => Err(CUresult::ERROR_INVALID_VALUE),
            Some(_) => put(data.cast::<u64>(), pointer),
            None => put(data.cast::<u64>(), 0),
        },
        // Whether copies always wait, for other processes, for other devices on the bus.
        6 | 10 | 15 => put(data.cast::<u8>(), 0),
        // Buffer id, and id of the block: unique in the process's life, as an address here is.
        7 | 20 => put(data.cast::<u64>(), number(|range| range.start)),
        // Managed.
        8 => put(data.cast::<u8>(), number(|range| range.managed.into()) as u8),
        // Device ordinal.
        9 => put(data.cast::<c_int>(), range.map_or(NO_DEVICE, |range| range.device as c_int)),
        // Start and size of the range, and of its mapping.
        11 | 19 => put(data.cast::<u64>(), number(|range| range.start)),
        12 | 18 => put(data.cast::<usize>(), number(|range| range.bytes) as usize),
        // Mapped.
        13 => put(data.cast::<u8>(), range.is_some().into()),
        // Handle types that it can be exported as.
        14 => put(data.cast::<u64>(), 0),
        // CU_POINTER_ATTRIBUTE_ACCESS_FLAG_READWRITE.
        16 => put(data.cast::<c_uint>(), number(|_| 3) as c_uint),
        // Pool.
        17 => {
            let pool = range.and_then(|range| range.pool);
            put(data.cast(), pool.map_or(CUmemoryPool(std::ptr::null_mut()), |pool| call.handle(pool)))
        }
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

pub(crate) unsafe extern "C" fn pointer_get_attribute(
    data: *mut c_void,
    attribute: c_uint,
    pointer: CUdeviceptr,
) -> CUresult {
    in_context(name!("cuPointerGetAttribute", "{attribute}"), |call| {
        let range = range_at(call, pointer).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        attribute_of(call, data, attribute, pointer, Some(&range))
    })
}

/// Several attributes, also of an address that is nobody's.
pub(crate) unsafe extern "C" fn pointer_get_attributes(
    n: c_uint,
    attributes: *const c_uint,
    data: *mut *mut c_void,
    pointer: CUdeviceptr,
) -> CUresult {
    in_context(name!("cuPointerGetAttributes", "{n}"), |call| {
        if n == 0 || attributes.is_null() || data.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let range = range_at(call, pointer);
        for i in 0..n as usize {
            // SAFETY: both arrays have `n` entries.
            let (attribute, out) = unsafe { (attributes.add(i).read(), data.add(i).read()) };
            match attribute_of(call, out, attribute, pointer, range.as_ref()) {
                // Device memory has no address on the host.
                Err(_) if attribute == 4 => put(out.cast::<u64>(), 0)?,
                done => done?,
            }
        }
        Ok(())
    })
}
