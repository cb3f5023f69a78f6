//! Copies and fills.
//!
//! Pageable host memory is read when the call is made and written before it returns, as drivers do. Pinned memory is
//! read and written when the copy runs, which may be as late as the next synchronisation.

use std::ffi::{c_uint, c_void};

use gpu_driver::sys::{CUDA_MEMCPY3D_v2, CUcontext, CUdeviceptr, CUresult, CUstream};

use crate::api::params::{CUDA_MEMCPY2D_v2, copy_of, slice_of};
use crate::call::{Call, Name, Outcome, in_context, name};
use crate::handle::Id;
use crate::work::{Copy, Fill, Place, Work};

/// Whether a call returns before its work is done.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Queued,
    Done,
}

/// An end on the device, or in pinned memory under its device address.
pub(crate) fn device_place(call: &Call<'_>, address: CUdeviceptr, bytes: usize) -> Outcome<Place> {
    if call.pinned_at(address as usize, bytes).is_some() {
        return Ok(Place::Host(address as usize));
    }
    check_device(call, address, bytes as u64)?;
    Ok(Place::Device(address))
}

/// Whether an address is one that the device sees.
pub(crate) fn is_known(call: &Call<'_>, address: CUdeviceptr) -> bool {
    call.pinned_at(address as usize, 1).is_some() || call.memory.find(address).is_some()
}

/// Whether a range is in one allocation of the device.
pub(crate) fn check_device(call: &Call<'_>, address: CUdeviceptr, bytes: u64) -> Outcome {
    let end = address.checked_add(bytes).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    match call.memory.find(address) {
        Some(found) if end <= found.base + found.bytes => Ok(()),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

/// A source on the host. A captured copy reads whatever is there when its node runs.
fn source(
    call: &Call<'_>,
    host: *const c_void,
    bytes: usize,
    stream: Option<Id>,
    when: When,
) -> Outcome<Place> {
    if host.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let address = host.expose_provenance();
    if when == When::Done || call.part(stream).is_some() || call.pinned_at(address, bytes).is_some() {
        return Ok(Place::Host(address));
    }
    // SAFETY: the program passes `bytes` readable bytes.
    let bytes = unsafe { std::slice::from_raw_parts(host.cast::<u8>(), bytes) };
    Ok(Place::Staged(bytes.into()))
}

/// A destination on the host, and when the call may return.
fn destination(call: &Call<'_>, host: *mut c_void, bytes: usize, when: When) -> Outcome<(Place, When)> {
    if host.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let address = host.expose_provenance();
    let pinned = call.pinned_at(address, bytes).is_some();
    Ok((Place::Host(address), if pinned { when } else { When::Done }))
}

fn queue(call: &mut Call<'_>, stream: Option<Id>, work: Work, when: When) -> Outcome {
    match (call.submit(stream, work, false)?, when) {
        (Some(marker), When::Done) => {
            let context = call.context_of(stream);
            call.sim.wait(&mut call.state, context, &[marker])
        }
        _ => Ok(()),
    }
}

/// The stream of a copy or fill that the program may not expect back before it is done.
fn stream_for(call: &mut Call<'_>, stream: CUstream, when: When) -> Outcome<Option<Id>> {
    let stream = call.stream(stream)?;
    if stream.is_none() {
        call.expect_free_legacy()?;
    }
    if when == When::Done {
        call.expect_careless()?;
    }
    Ok(stream)
}

fn htod(
    name: Name<'_>,
    dst: CUdeviceptr,
    src: *const c_void,
    bytes: usize,
    stream: CUstream,
    when: When,
) -> CUresult {
    in_context(name, |call| {
        let stream = stream_for(call, stream, when)?;
        if bytes == 0 {
            return Ok(());
        }
        let dst = device_place(call, dst, bytes)?;
        let src = source(call, src, bytes, stream, when)?;
        queue(call, stream, Work::Copy(Copy::linear(dst, src, bytes)), when)
    })
}

fn dtoh(
    name: Name<'_>,
    dst: *mut c_void,
    src: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
    when: When,
) -> CUresult {
    in_context(name, |call| {
        let stream = stream_for(call, stream, when)?;
        if bytes == 0 {
            return Ok(());
        }
        let src = device_place(call, src, bytes)?;
        let (dst, when) = destination(call, dst, bytes, when)?;
        queue(call, stream, Work::Copy(Copy::linear(dst, src, bytes)), when)
    })
}

fn dtod(
    name: Name<'_>,
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
    when: When,
) -> CUresult {
    in_context(name, |call| within_devices(call, dst, src, bytes, stream, when))
}

/// A copy from device addresses to others, of one context or of two.
fn within_devices(
    call: &mut Call<'_>,
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
    when: When,
) -> Outcome {
    let stream = stream_for(call, stream, when)?;
    if bytes == 0 {
        return Ok(());
    }
    let (dst, src) = (device_place(call, dst, bytes)?, device_place(call, src, bytes)?);
    // Copies within the device do not wait, not even the ones whose name says nothing of it.
    let within = matches!((&dst, &src), (Place::Device(_), Place::Device(_)));
    let when = if within { When::Queued } else { when };
    queue(call, stream, Work::Copy(Copy::linear(dst, src, bytes)), when)
}

pub(crate) unsafe extern "C" fn htod_sync(dst: CUdeviceptr, src: *const c_void, bytes: usize) -> CUresult {
    htod(name!("cuMemcpyHtoD", "{bytes}"), dst, src, bytes, CUstream::NULL, When::Done)
}

pub(crate) unsafe extern "C" fn htod_async(
    dst: CUdeviceptr,
    src: *const c_void,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    htod(name!("cuMemcpyHtoDAsync", "{bytes}"), dst, src, bytes, stream, When::Queued)
}

pub(crate) unsafe extern "C" fn dtoh_sync(dst: *mut c_void, src: CUdeviceptr, bytes: usize) -> CUresult {
    dtoh(name!("cuMemcpyDtoH", "{bytes}"), dst, src, bytes, CUstream::NULL, When::Done)
}

pub(crate) unsafe extern "C" fn dtoh_async(
    dst: *mut c_void,
    src: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    dtoh(name!("cuMemcpyDtoHAsync", "{bytes}"), dst, src, bytes, stream, When::Queued)
}

pub(crate) unsafe extern "C" fn dtod_sync(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize) -> CUresult {
    dtod(name!("cuMemcpyDtoD", "{bytes}"), dst, src, bytes, CUstream::NULL, When::Done)
}

pub(crate) unsafe extern "C" fn dtod_async(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    dtod(name!("cuMemcpyDtoDAsync", "{bytes}"), dst, src, bytes, stream, When::Queued)
}

/// A copy between any two places, by address: what is not the device's is the host's.
fn unified(
    name: Name<'_>,
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
    when: When,
) -> CUresult {
    in_context(name, |call| {
        let stream = stream_for(call, stream, when)?;
        if bytes == 0 {
            return Ok(());
        }
        let on_device = |call: &Call<'_>, address: u64| {
            call.pinned_at(address as usize, bytes).is_some() || call.memory.find(address).is_some()
        };
        let mut when = when;
        let to = if on_device(call, dst) {
            device_place(call, dst, bytes)?
        } else {
            let (place, latest) =
                destination(call, std::ptr::with_exposed_provenance_mut(dst as usize), bytes, when)?;
            when = latest;
            place
        };
        let from = if on_device(call, src) {
            device_place(call, src, bytes)?
        } else {
            source(call, std::ptr::with_exposed_provenance(src as usize), bytes, stream, when)?
        };
        queue(call, stream, Work::Copy(Copy::linear(to, from, bytes)), when)
    })
}

pub(crate) unsafe extern "C" fn memcpy(dst: CUdeviceptr, src: CUdeviceptr, bytes: usize) -> CUresult {
    unified(name!("cuMemcpy", "{bytes}"), dst, src, bytes, CUstream::NULL, When::Done)
}

pub(crate) unsafe extern "C" fn memcpy_async(
    dst: CUdeviceptr,
    src: CUdeviceptr,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    unified(name!("cuMemcpyAsync", "{bytes}"), dst, src, bytes, stream, When::Queued)
}

/// A copy of rows and slices.
fn strided(name: Name<'_>, params: Outcome<CUDA_MEMCPY3D_v2>, stream: CUstream, when: When) -> CUresult {
    in_context(name, |call| {
        let stream = stream_for(call, stream, when)?;
        let params = params?;
        if [params.width_in_bytes, params.height, params.depth].contains(&0) {
            return Ok(());
        }
        // SAFETY: the structure is a local.
        let copy = unsafe { copy_of(call, &params) }?;
        // Pageable memory is the program's again when the call returns, but for a captured copy.
        let is_pageable = |place: &Place| match place {
            Place::Host(address) => call.pinned_at(*address, 1).is_none(),
            Place::Device(_) | Place::Staged(_) => false,
        };
        let when = if is_pageable(&copy.src) || is_pageable(&copy.dst) { When::Done } else { when };
        queue(call, stream, Work::Copy(copy), when)
    })
}

/// # Safety
///
/// Null, or a structure that lives during the call.
unsafe fn read<T: std::marker::Copy>(params: *const T) -> Outcome<T> {
    // SAFETY: the caller's promise.
    if params.is_null() { Err(CUresult::ERROR_INVALID_VALUE) } else { Ok(unsafe { params.read() }) }
}

pub(crate) unsafe extern "C" fn memcpy_2d(params: *const CUDA_MEMCPY2D_v2) -> CUresult {
    // SAFETY: the caller's promise.
    strided(name!("cuMemcpy2D"), unsafe { slice_of(params) }, CUstream::NULL, When::Done)
}

pub(crate) unsafe extern "C" fn memcpy_2d_async(
    params: *const CUDA_MEMCPY2D_v2,
    stream: CUstream,
) -> CUresult {
    // SAFETY: the caller's promise.
    strided(name!("cuMemcpy2DAsync"), unsafe { slice_of(params) }, stream, When::Queued)
}

pub(crate) unsafe extern "C" fn memcpy_3d(params: *const CUDA_MEMCPY3D_v2) -> CUresult {
    // SAFETY: the caller's promise.
    strided(name!("cuMemcpy3D"), unsafe { read(params) }, CUstream::NULL, When::Done)
}

pub(crate) unsafe extern "C" fn memcpy_3d_async(
    params: *const CUDA_MEMCPY3D_v2,
    stream: CUstream,
) -> CUresult {
    // SAFETY: the caller's promise.
    strided(name!("cuMemcpy3DAsync"), unsafe { read(params) }, stream, When::Queued)
}

/// Copies between contexts of one driver, whose addresses are unique.
fn between(
    name: Name<'_>,
    (dst, to): (CUdeviceptr, CUcontext),
    (src, from): (CUdeviceptr, CUcontext),
    bytes: usize,
    stream: CUstream,
    when: When,
) -> CUresult {
    in_context(name, |call| {
        for context in [to, from] {
            let id = call.id_of(context).map_err(|_| CUresult::ERROR_INVALID_CONTEXT)?;
            if call.contexts.get(&id).is_none_or(|context| !context.alive) {
                return Err(CUresult::ERROR_INVALID_CONTEXT);
            }
        }
        within_devices(call, dst, src, bytes, stream, when)
    })
}

pub(crate) unsafe extern "C" fn memcpy_peer(
    dst: CUdeviceptr,
    to: CUcontext,
    src: CUdeviceptr,
    from: CUcontext,
    bytes: usize,
) -> CUresult {
    between(name!("cuMemcpyPeer", "{bytes}"), (dst, to), (src, from), bytes, CUstream::NULL, When::Done)
}

pub(crate) unsafe extern "C" fn memcpy_peer_async(
    dst: CUdeviceptr,
    to: CUcontext,
    src: CUdeviceptr,
    from: CUcontext,
    bytes: usize,
    stream: CUstream,
) -> CUresult {
    between(name!("cuMemcpyPeerAsync", "{bytes}"), (dst, to), (src, from), bytes, stream, When::Queued)
}

/// A fill of rows of `width` elements.
struct Rows {
    element: u32,
    width: usize,
    height: usize,
    pitch: usize,
}

fn fill(name: Name<'_>, dst: CUdeviceptr, value: u32, rows: &Rows, stream: CUstream, when: When) -> CUresult {
    in_context(name, |call| {
        // Only the host's own memory is waited for.
        let on_host = call.pinned_at(dst as usize, 1).is_some();
        let when = if on_host { when } else { When::Queued };
        let stream = stream_for(call, stream, when)?;
        let fill = Fill {
            dst,
            value,
            element: rows.element,
            width: rows.width,
            height: rows.height,
            pitch: rows.pitch,
        };
        if rows.width == 0 || rows.height == 0 {
            return Ok(());
        }
        check_fill(call, &fill)?;
        queue(call, stream, Work::Fill(fill), when)
    })
}

/// Whether a fill is aligned and stays in its memory.
pub(crate) fn check_fill(call: &Call<'_>, fill: &Fill) -> Outcome {
    let invalid = CUresult::ERROR_INVALID_VALUE;
    let element = fill.element as usize;
    let row = fill.width.checked_mul(element).ok_or(invalid)?;
    let before = fill.height.saturating_sub(1).checked_mul(fill.pitch).ok_or(invalid)?;
    let bytes = before.checked_add(row).ok_or(invalid)?;
    let aligned =
        fill.dst.is_multiple_of(element as u64) && (fill.height <= 1 || fill.pitch.is_multiple_of(element));
    if !aligned || fill.height > 1 && fill.pitch < row {
        return Err(invalid);
    }
    check_device(call, fill.dst, bytes as u64)
}

macro_rules! fills {
    ($($sync:ident $asynchronous:ident $sync_2d:ident $async_2d:ident: $ty:ty, $bytes:literal,
       $sync_name:literal $async_name:literal $sync_2d_name:literal $async_2d_name:literal;)*) => {$(
        pub(crate) unsafe extern "C" fn $sync(dst: CUdeviceptr, value: $ty, count: usize) -> CUresult {
            let rows = Rows { element: $bytes, width: count, height: 1, pitch: 0 };
            fill(name!($sync_name, "{value}, {count}"), dst, value.into(), &rows, CUstream::NULL, When::Done)
        }

        pub(crate) unsafe extern "C" fn $asynchronous(
            dst: CUdeviceptr,
            value: $ty,
            count: usize,
            stream: CUstream,
        ) -> CUresult {
            let rows = Rows { element: $bytes, width: count, height: 1, pitch: 0 };
            fill(name!($async_name, "{value}, {count}"), dst, value.into(), &rows, stream, When::Queued)
        }

        pub(crate) unsafe extern "C" fn $sync_2d(
            dst: CUdeviceptr,
            pitch: usize,
            value: $ty,
            width: usize,
            height: usize,
        ) -> CUresult {
            let rows = Rows { element: $bytes, width, height, pitch };
            fill(name!($sync_2d_name, "{value}, {width}, {height}"), dst, value.into(), &rows, CUstream::NULL, When::Done)
        }

        pub(crate) unsafe extern "C" fn $async_2d(
            dst: CUdeviceptr,
            pitch: usize,
            value: $ty,
            width: usize,
            height: usize,
            stream: CUstream,
        ) -> CUresult {
            let rows = Rows { element: $bytes, width, height, pitch };
            fill(name!($async_2d_name, "{value}, {width}, {height}"), dst, value.into(), &rows, stream, When::Queued)
        }
    )*};
}

fills! {
    d8 d8_async d2d8 d2d8_async: u8, 1,
        "cuMemsetD8" "cuMemsetD8Async" "cuMemsetD2D8" "cuMemsetD2D8Async";
    d16 d16_async d2d16 d2d16_async: u16, 2,
        "cuMemsetD16" "cuMemsetD16Async" "cuMemsetD2D16" "cuMemsetD2D16Async";
    d32 d32_async d2d32 d2d32_async: c_uint, 4,
        "cuMemsetD32" "cuMemsetD32Async" "cuMemsetD2D32" "cuMemsetD2D32Async";
}
