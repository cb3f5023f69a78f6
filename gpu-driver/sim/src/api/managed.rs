//! Managed memory: host memory that is the device's, too. It is where it is, so that hints of where it should be change
//! nothing but are checked.

use std::ffi::{c_int, c_uint};

use gpu_driver::sys::{CUdevice, CUdeviceptr, CUresult, CUstream};

use crate::api::device::handle_of;
use crate::api::memory::allocate_on_host;
use crate::call::{Call, Name, Outcome, in_context, name, put};
use crate::work::Work;

/// `CUmemAttach_flags`: any stream, none, one.
const ATTACH_GLOBAL: c_uint = 1;
const ATTACH_HOST: c_uint = 2;
const ATTACH_SINGLE: c_uint = 4;

/// `CU_DEVICE_CPU`.
const HOST: CUdevice = -1;

/// `CUmemLocation`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Location {
    kind: c_int,
    id: c_int,
}

impl Location {
    /// The ordinal, where it is a device.
    pub(crate) fn device(self, call: &Call<'_>) -> Option<u32> {
        let mut ordinals = 0..call.devices.len() as u32;
        ordinals.find(|ordinal| self.kind == LOCATION_DEVICE && handle_of(call.sim, *ordinal) == self.id)
    }
}

/// `CUmemLocationType`: a device, and kinds of host memory.
const LOCATION_DEVICE: c_int = 1;
const LOCATION_HOST: std::ops::RangeInclusive<c_int> = 2..=4;

/// The greatest `CUmem_advise`.
const LAST_ADVICE: c_uint = 6;

pub(crate) unsafe extern "C" fn alloc(pointer: *mut CUdeviceptr, bytes: usize, flags: c_uint) -> CUresult {
    in_context(name!("cuMemAllocManaged", "{bytes}, {flags}"), |call| {
        if pointer.is_null() || ![ATTACH_GLOBAL, ATTACH_HOST].contains(&flags) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        put(pointer, allocate_on_host(call, bytes, flags, true)?.addr() as u64)
    })
}

fn expect_managed(call: &Call<'_>, pointer: CUdeviceptr, bytes: usize) -> Outcome {
    let managed = call.pinned_at(pointer as usize, bytes).is_some_and(|(_, pinned)| pinned.managed);
    if managed && bytes > 0 { Ok(()) } else { Err(CUresult::ERROR_INVALID_VALUE) }
}

fn expect_place(call: &Call<'_>, place: Location) -> Outcome {
    match place.kind {
        LOCATION_DEVICE if place.device(call).is_some() => Ok(()),
        LOCATION_DEVICE => Err(CUresult::ERROR_INVALID_DEVICE),
        kind if LOCATION_HOST.contains(&kind) => Ok(()),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

const fn place_of(device: CUdevice) -> Location {
    let kind = if device == HOST { *LOCATION_HOST.start() } else { LOCATION_DEVICE };
    Location { kind, id: device }
}

fn hint_in(
    name: Name<'_>,
    pointer: CUdeviceptr,
    bytes: usize,
    place: Location,
    stream: CUstream,
) -> CUresult {
    in_context(name, |call| {
        let stream = call.stream(stream)?;
        expect_managed(call, pointer, bytes)?;
        expect_place(call, place)?;
        call.expect_capturable(stream)?;
        call.submit(stream, Work::Nothing, false).map(|_| ())
    })
}

pub(crate) unsafe extern "C" fn prefetch(
    pointer: CUdeviceptr,
    bytes: usize,
    device: CUdevice,
    stream: CUstream,
) -> CUresult {
    hint_in(name!("cuMemPrefetchAsync", "{bytes}"), pointer, bytes, place_of(device), stream)
}

pub(crate) unsafe extern "C" fn prefetch_v2(
    pointer: CUdeviceptr,
    bytes: usize,
    place: Location,
    flags: c_uint,
    stream: CUstream,
) -> CUresult {
    if flags != 0 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    hint_in(name!("cuMemPrefetchAsync", "{bytes}"), pointer, bytes, place, stream)
}

fn advice(pointer: CUdeviceptr, bytes: usize, advice: c_uint, place: Location) -> CUresult {
    in_context(name!("cuMemAdvise", "{bytes}, {advice}"), |call| {
        expect_managed(call, pointer, bytes)?;
        match advice {
            // What is read mostly is so everywhere.
            1 | 2 => Ok(()),
            3..=LAST_ADVICE => expect_place(call, place),
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    })
}

pub(crate) unsafe extern "C" fn advise(
    pointer: CUdeviceptr,
    bytes: usize,
    kind: c_uint,
    device: CUdevice,
) -> CUresult {
    advice(pointer, bytes, kind, place_of(device))
}

pub(crate) unsafe extern "C" fn advise_v2(
    pointer: CUdeviceptr,
    bytes: usize,
    kind: c_uint,
    place: Location,
) -> CUresult {
    advice(pointer, bytes, kind, place)
}

/// Which stream may use the memory is not watched.
pub(crate) unsafe extern "C" fn attach(
    stream: CUstream,
    pointer: CUdeviceptr,
    bytes: usize,
    flags: c_uint,
) -> CUresult {
    in_context(name!("cuStreamAttachMemAsync", "{bytes}, {flags}"), |call| {
        let stream = call.stream(stream)?;
        if ![ATTACH_GLOBAL, ATTACH_HOST, ATTACH_SINGLE].contains(&flags)
            || flags == ATTACH_SINGLE && stream.is_none()
        {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // Zero bytes stand for all of them.
        expect_managed(call, pointer, bytes.max(1))?;
        call.expect_uncaptured(stream)?;
        call.submit(stream, Work::Nothing, false).map(|_| ())
    })
}
