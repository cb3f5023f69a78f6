//! Initialisation, error texts, devices. These have no context, so the first of them exist once for each slot.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::sync::Arc;

use gpu_driver::DeviceAttribute;
use gpu_driver::sys::{CUdevice, CUresult, CUuuid};

use crate::api::module::string;
use crate::call::{Name, Outcome, any_driver, name, on_driver, put, releasing_on_driver};
use crate::registry;
use crate::sim::Sim;
use crate::state::State;

/// Device handles of the C library's own driver are ordinals, as programs expect; those of other drivers hold the
/// driver's serial number above the ordinal.
const ORDINAL_BITS: u32 = 8;

/// The handle of a device.
pub(crate) fn handle_of(sim: &Sim, ordinal: u32) -> CUdevice {
    let serial = if sim.is_default { 0 } else { sim.serial };
    ((serial << ORDINAL_BITS) | ordinal).cast_signed()
}

/// Driver and ordinal of a device's handle.
fn parts(device: CUdevice) -> (Option<Arc<Sim>>, u32) {
    let bits = device.cast_unsigned();
    let (serial, ordinal) = (bits >> ORDINAL_BITS, bits & ((1 << ORDINAL_BITS) - 1));
    let sim = if serial == 0 { registry::default() } else { registry::find(serial) };
    (sim, ordinal)
}

/// A call about a device.
pub(crate) fn on_device(
    device: CUdevice,
    name: Name<'_>,
    f: impl FnOnce(&Arc<Sim>, &mut parking_lot::MutexGuard<'_, State>, u32) -> Outcome,
) -> CUresult {
    let (sim, ordinal) = parts(device);
    if sim.is_none() {
        return CUresult::ERROR_INVALID_DEVICE;
    }
    on_driver(sim, name, true, |sim, state| {
        known(state, ordinal)?;
        f(sim, state, ordinal)
    })
}

/// A call that releases something of a device.
pub(crate) fn releasing_on_device(
    device: CUdevice,
    name: Name<'_>,
    f: impl FnOnce(&Arc<Sim>, &mut parking_lot::MutexGuard<'_, State>, u32) -> Outcome,
) -> CUresult {
    let (sim, ordinal) = parts(device);
    if sim.is_none() {
        return CUresult::ERROR_INVALID_DEVICE;
    }
    releasing_on_driver(sim, name, |sim, state| {
        known(state, ordinal)?;
        f(sim, state, ordinal)
    })
}

fn known(state: &State, ordinal: u32) -> Outcome {
    if (ordinal as usize) < state.devices.len() { Ok(()) } else { Err(CUresult::ERROR_INVALID_DEVICE) }
}

pub(crate) unsafe extern "C" fn init<const SLOT: usize>(flags: c_uint) -> CUresult {
    on_driver(registry::in_slot(SLOT), name!("cuInit", "{flags}"), false, |_, state| {
        if flags != 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        if state.devices.is_empty() {
            return Err(CUresult::ERROR_NO_DEVICE);
        }
        state.initialised = true;
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn driver_get_version<const SLOT: usize>(version: *mut c_int) -> CUresult {
    on_driver(registry::in_slot(SLOT), name!("cuDriverGetVersion"), false, |sim, _| {
        put(version, sim.config.cuda_version)
    })
}

pub(crate) unsafe extern "C" fn device_get_count<const SLOT: usize>(count: *mut c_int) -> CUresult {
    on_driver(registry::in_slot(SLOT), name!("cuDeviceGetCount"), true, |_, state| {
        put(count, state.devices.len() as c_int)
    })
}

pub(crate) unsafe extern "C" fn device_get<const SLOT: usize>(
    device: *mut CUdevice,
    ordinal: c_int,
) -> CUresult {
    on_driver(registry::in_slot(SLOT), name!("cuDeviceGet", "{ordinal}"), true, |sim, state| {
        match u32::try_from(ordinal) {
            Ok(ordinal) if (ordinal as usize) < state.devices.len() => put(device, handle_of(sim, ordinal)),
            _ => Err(CUresult::ERROR_INVALID_DEVICE),
        }
    })
}

fn text_of(found: Option<&'static CStr>, out: *mut *const c_char) -> CUresult {
    // A code without a name has a null one, as CUDA documents.
    let written = put(out, found.map_or(std::ptr::null(), CStr::as_ptr));
    match (written, found) {
        (Ok(()), Some(_)) => CUresult::SUCCESS,
        _ => CUresult::ERROR_INVALID_VALUE,
    }
}

pub(crate) unsafe extern "C" fn get_error_name(code: CUresult, name: *mut *const c_char) -> CUresult {
    text_of(crate::texts::name(code), name)
}

pub(crate) unsafe extern "C" fn get_error_string(code: CUresult, text: *mut *const c_char) -> CUresult {
    text_of(crate::texts::description(code), text)
}

/// Writes a text with its terminator into a buffer of `len` bytes, cut off if it does not fit.
fn text_out(out: *mut c_char, len: c_int, text: &str) -> Outcome {
    let Some(room) = usize::try_from(len).ok().filter(|len| *len > 0 && !out.is_null()) else {
        return Err(CUresult::ERROR_INVALID_VALUE);
    };
    let bytes = &text.as_bytes()[..text.len().min(room - 1)];
    // SAFETY: the program passes a buffer of `len` bytes, and one more than the text's is at most that.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, bytes.len());
        out.add(bytes.len()).write(0);
    }
    Ok(())
}

pub(crate) unsafe extern "C" fn device_get_name(name: *mut c_char, len: c_int, device: CUdevice) -> CUresult {
    on_device(device, name!("cuDeviceGetName"), |sim, _, _| {
        text_out(name, len, &format!("{} (simulated)", sim.profile.name))
    })
}

pub(crate) unsafe extern "C" fn device_get_uuid(uuid: *mut CUuuid, device: CUdevice) -> CUresult {
    on_device(device, name!("cuDeviceGetUuid"), |sim, _, ordinal| {
        let mut bytes = *b"warpsmith-sim\0\0\0";
        bytes[14] = sim.profile.capability as u8;
        bytes[15] = ordinal as u8;
        put(uuid, CUuuid { bytes })
    })
}

pub(crate) unsafe extern "C" fn device_get_pci_bus_id(
    id: *mut c_char,
    len: c_int,
    device: CUdevice,
) -> CUresult {
    on_device(device, name!("cuDeviceGetPCIBusId"), |_, _, ordinal| text_out(id, len, &pci_bus_id(ordinal)))
}

pub(crate) unsafe extern "C" fn device_total_mem(bytes: *mut usize, device: CUdevice) -> CUresult {
    on_device(device, name!("cuDeviceTotalMem"), |_, state, ordinal| {
        put(bytes, state.devices[ordinal as usize].limit as usize)
    })
}

pub(crate) unsafe extern "C" fn device_get_attribute(
    value: *mut c_int,
    attribute: c_int,
    device: CUdevice,
) -> CUresult {
    on_device(device, name!("cuDeviceGetAttribute", "{attribute}"), |sim, _, ordinal| {
        let part = sim.profile.attribute(attribute, ordinal).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let limited = attribute == DeviceAttribute::KernelExecTimeout as c_int && sim.config.time_limit;
        put(value, if limited { 1 } else { part })
    })
}

pub(crate) unsafe extern "C" fn device_compute_capability(
    major: *mut c_int,
    minor: *mut c_int,
    device: CUdevice,
) -> CUresult {
    on_device(device, name!("cuDeviceComputeCapability"), |sim, _, _| {
        let (high, low) = sim.profile.version();
        put(major, high as c_int)?;
        put(minor, low as c_int)
    })
}

/// The device at a bus address, with its domain and function or without.
pub(crate) unsafe extern "C" fn device_get_by_pci_bus_id(
    device: *mut CUdevice,
    id: *const c_char,
) -> CUresult {
    // SAFETY: the caller's promise.
    let wanted = unsafe { string(id) };
    on_driver(any_driver(), name!("cuDeviceGetByPCIBusId"), true, |sim, state| {
        let wanted = wanted.ok_or(CUresult::ERROR_INVALID_VALUE)?.to_lowercase();
        let is_at = |ordinal: &u32| {
            let whole = pci_bus_id(*ordinal);
            let short = whole.strip_suffix(".0").unwrap_or(&whole);
            [Some(whole.as_str()), Some(short), whole.strip_prefix("0000:")].contains(&Some(wanted.as_str()))
        };
        let found = (0..state.devices.len() as u32).find(is_at).ok_or(CUresult::ERROR_INVALID_DEVICE)?;
        put(device, handle_of(sim, found))
    })
}

/// Any two devices of a driver see each other's memory.
pub(crate) unsafe extern "C" fn device_can_access_peer(
    can: *mut c_int,
    device: CUdevice,
    peer: CUdevice,
) -> CUresult {
    on_device(device, name!("cuDeviceCanAccessPeer"), |sim, state, _| {
        let known = (0..state.devices.len() as u32).any(|ordinal| handle_of(sim, ordinal) == peer);
        if known { put(can, c_int::from(peer != device)) } else { Err(CUresult::ERROR_INVALID_DEVICE) }
    })
}

pub(crate) unsafe extern "C" fn device_get_p2p_attribute(
    value: *mut c_int,
    attribute: c_int,
    device: CUdevice,
    peer: CUdevice,
) -> CUresult {
    on_device(device, name!("cuDeviceGetP2PAttribute", "{attribute}"), |sim, state, _| {
        let known = (0..state.devices.len() as u32).any(|ordinal| handle_of(sim, ordinal) == peer);
        if !known || peer == device {
            return Err(CUresult::ERROR_INVALID_DEVICE);
        }
        match attribute {
            // Relative speed: all links are the same. Arrays are not there.
            1 | 4 => put(value, 0),
            // Access, and atomics.
            2 | 3 => put(value, 1),
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    })
}

fn pci_bus_id(ordinal: u32) -> String {
    format!("0000:{:02x}:00.0", ordinal + 1)
}
