//! Stream-ordered allocation and its pools.
//!
//! An address exists from the call on, so work that uses it too early is not noticed; work that uses it after its free
//! has run is. Pools keep nothing: what is freed goes back to the device.

use std::ffi::{c_int, c_uint, c_void};

use gpu_driver::sys::{CUdevice, CUdeviceptr, CUresult, CUstream};

use crate::api::device::on_device;
use crate::api::managed::Location;
use crate::api::memory::allocate;
use crate::call::{Call, Name, Outcome, in_context, name, put, releasing};
use crate::handle::{CUmemoryPool, Id};
use crate::objects::Pool;
use crate::state::State;
use crate::work::Work;

/// `CUmemPoolProps`, as far as it is looked at: 88 bytes.
#[repr(C)]
pub(crate) struct PoolProperties {
    /// `CUmemAllocationType`: 1 is pinned, the only one.
    alloc_type: c_int,
    /// `CUmemAllocationHandleType`: 0 is none.
    handle_types: c_int,
    /// `CUmemLocationType`: 1 is a device.
    location_type: c_int,
    /// The device's handle.
    location_id: c_int,
}

fn known(state: &State, pool: CUmemoryPool) -> Outcome<Id> {
    let id = state.id_of(pool).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    if state.pools.contains_key(&id) { Ok(id) } else { Err(CUresult::ERROR_INVALID_VALUE) }
}

fn alloc_from(
    name: Name<'_>,
    pointer: *mut CUdeviceptr,
    bytes: usize,
    stream: CUstream,
    pool: impl FnOnce(&Call<'_>) -> Outcome<Id>,
) -> CUresult {
    in_context(name, |call| {
        let stream = call.own_stream(stream)?;
        call.expect_capturable(stream)?;
        let pool = pool(call)?;
        if pointer.is_null() || call.pools.get(&pool).is_none_or(|pool| pool.device != call.device) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let address = allocate(call, bytes as u64, Some(pool))?;
        if let Some(pool) = call.pools.get_mut(&pool) {
            pool.used += bytes as u64;
            pool.used_high = pool.used_high.max(pool.used);
        }
        put(pointer, address)
    })
}

pub(crate) unsafe extern "C" fn alloc_async(
    pointer: *mut CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    alloc_from(name!("cuMemAllocAsync", "{bytes}"), pointer, bytes, stream, |call| {
        Ok(call.devices[call.device as usize].pool)
    })
}

pub(crate) unsafe extern "C" fn alloc_from_pool_async(
    pointer: *mut CUdeviceptr,
    bytes: usize,
    pool: CUmemoryPool,
    stream: CUstream,
) -> CUresult {
    alloc_from(name!("cuMemAllocFromPoolAsync", "{bytes}"), pointer, bytes, stream, |call| known(call, pool))
}

pub(crate) unsafe extern "C" fn free_async(pointer: CUdeviceptr, stream: CUstream) -> CUresult {
    releasing(name!("cuMemFreeAsync", "{pointer:#x}"), |call| {
        if pointer == 0 {
            return Ok(());
        }
        match call.allocations.get(&pointer) {
            Some(allocation) if !allocation.freeing => {}
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        }
        if call.sticky().is_some() {
            // Nothing that is queued runs any more.
            if call.forget_allocation(pointer).is_some() {
                // The map held it, so it was allocated.
                let _ = call.memory.free(pointer);
            }
            return Ok(());
        }
        let stream = call.stream(stream)?;
        call.expect_capturable(stream)?;
        call.submit(stream, Work::Free(pointer), false)?;
        if let Some(allocation) = call.allocations.get_mut(&pointer) {
            allocation.freeing = true;
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn device_default_pool(pool: *mut CUmemoryPool, device: CUdevice) -> CUresult {
    on_device(device, name!("cuDeviceGetDefaultMemPool"), |_, state, ordinal| {
        put(pool, state.handle(state.devices[ordinal as usize].default_pool))
    })
}

pub(crate) unsafe extern "C" fn device_pool(pool: *mut CUmemoryPool, device: CUdevice) -> CUresult {
    on_device(device, name!("cuDeviceGetMemPool"), |_, state, ordinal| {
        put(pool, state.handle(state.devices[ordinal as usize].pool))
    })
}

pub(crate) unsafe extern "C" fn device_set_pool(device: CUdevice, pool: CUmemoryPool) -> CUresult {
    on_device(device, name!("cuDeviceSetMemPool"), |_, state, ordinal| {
        let id = known(state, pool)?;
        if state.pools.get(&id).is_none_or(|pool| pool.device != ordinal) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        state.devices[ordinal as usize].pool = id;
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn create(
    pool: *mut CUmemoryPool,
    properties: *const PoolProperties,
) -> CUresult {
    in_context(name!("cuMemPoolCreate"), |call| {
        if pool.is_null() || properties.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the program passes properties, whose first fields these are.
        let wanted = unsafe { &*properties };
        if wanted.alloc_type != 1 || wanted.location_type != 1 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        if wanted.handle_types != 0 {
            return Err(CUresult::ERROR_NOT_SUPPORTED);
        }
        let device = wanted.location_id;
        let n = call.devices.len() as u32;
        let ordinal = (0..n).find(|ordinal| {
            // Pools name a device by its ordinal; where handles are not ordinals, either is taken.
            *ordinal as c_int == device || crate::api::device::handle_of(call.sim, *ordinal) == device
        });
        let ordinal = ordinal.ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let id = call.new_id()?;
        call.pools.insert(id, Pool::new(ordinal));
        put(pool, call.handle(id))
    })
}

pub(crate) unsafe extern "C" fn destroy(pool: CUmemoryPool) -> CUresult {
    releasing(name!("cuMemPoolDestroy"), |call| {
        let id = known(call, pool)?;
        if call.devices.iter().any(|device| device.default_pool == id) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        for device in &mut call.devices {
            if device.pool == id {
                device.pool = device.default_pool;
            }
        }
        call.pools.remove(&id);
        Ok(())
    })
}

/// `CUmemAccess_flags`: what a device may do to the memory of a pool.
const READ_WRITE: c_uint = 3;

/// `CUmemAccessDesc`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AccessDescription {
    place: Location,
    flags: c_uint,
}

pub(crate) unsafe extern "C" fn set_access(
    pool: CUmemoryPool,
    list: *const AccessDescription,
    n: usize,
) -> CUresult {
    in_context(name!("cuMemPoolSetAccess", "{n}"), |call| {
        let id = known(call, pool)?;
        if n > 0 && list.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let mut wanted = Vec::with_capacity(n);
        for i in 0..n {
            // SAFETY: the program passes an array of `n` descriptions.
            let AccessDescription { place, flags } = unsafe { list.add(i).read() };
            let device = place.device(call).ok_or(CUresult::ERROR_INVALID_DEVICE)?;
            let own = call.pools.get(&id).is_some_and(|pool| pool.device == device);
            // Nothing, or all; and its own device keeps it.
            if ![0, READ_WRITE].contains(&flags) || own && flags != READ_WRITE {
                return Err(CUresult::ERROR_INVALID_VALUE);
            }
            wanted.push((device, flags));
        }
        if let Some(pool) = call.pools.get_mut(&id) {
            pool.access.extend(wanted);
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn get_access(
    flags: *mut c_uint,
    pool: CUmemoryPool,
    place: *const Location,
) -> CUresult {
    in_context(name!("cuMemPoolGetAccess"), |call| {
        let id = known(call, pool)?;
        if place.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the program passes a location that lives during the call.
        let device = unsafe { *place }.device(call).ok_or(CUresult::ERROR_INVALID_DEVICE)?;
        let pool = call.pools.get(&id).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let found = pool.access.get(&device).copied();
        put(flags, found.unwrap_or(if pool.device == device { READ_WRITE } else { 0 }))
    })
}

/// Pools keep nothing, so there is nothing to give back.
pub(crate) unsafe extern "C" fn trim_to(pool: CUmemoryPool, bytes: usize) -> CUresult {
    in_context(name!("cuMemPoolTrimTo", "{bytes}"), |call| known(call, pool).map(|_| ()))
}

pub(crate) unsafe extern "C" fn get_attribute(
    pool: CUmemoryPool,
    attribute: c_uint,
    value: *mut c_void,
) -> CUresult {
    in_context(name!("cuMemPoolGetAttribute", "{attribute}"), |call| {
        let id = known(call, pool)?;
        let pool = call.pools.get(&id).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        match attribute {
            1..=3 => put(value.cast::<c_int>(), pool.reuse[attribute as usize - 1]),
            4 => put(value.cast::<u64>(), pool.release_threshold),
            5 | 7 => put(value.cast::<u64>(), pool.used),
            6 | 8 => put(value.cast::<u64>(), pool.used_high),
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    })
}

pub(crate) unsafe extern "C" fn set_attribute(
    pool: CUmemoryPool,
    attribute: c_uint,
    value: *mut c_void,
) -> CUresult {
    in_context(name!("cuMemPoolSetAttribute", "{attribute}"), |call| {
        let id = known(call, pool)?;
        if value.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let pool = call.pools.get_mut(&id).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        match attribute {
            1..=3 => {
                // SAFETY: the program passes an int for these attributes.
                pool.reuse[attribute as usize - 1] = unsafe { value.cast::<c_int>().read() };
                Ok(())
            }
            4 => {
                // SAFETY: the program passes a 64-bit number for this attribute.
                pool.release_threshold = unsafe { value.cast::<u64>().read() };
                Ok(())
            }
            6 | 8 => {
                // High-water marks can only be reset.
                pool.used_high = pool.used;
                Ok(())
            }
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    })
}
