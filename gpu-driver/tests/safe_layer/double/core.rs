//! Initialisation, devices, contexts.

use super::*;
use gpu_driver::sys::{CUdevice, CUuuid};
use std::ffi::{c_char, c_int, c_uint};

pub const CONTEXT_BASE: usize = 0xc0_0000;
/// Device handles differ from ordinals, so that confusing the two is noticed.
pub const DEVICE_BASE: CUdevice = 100;

fn ordinal(state: &State, device: CUdevice) -> Result<u32, CUresult> {
    let ordinal = u32::try_from(device - DEVICE_BASE).map_err(|_| CUresult::ERROR_INVALID_DEVICE)?;
    if !state.initialised {
        return Err(CUresult::ERROR_NOT_INITIALIZED);
    }
    if ordinal < state.devices { Ok(ordinal) } else { Err(CUresult::ERROR_INVALID_DEVICE) }
}

pub extern "C" fn init(flags: c_uint) -> CUresult {
    answer("cuInit", flags.to_string(), |s| {
        if s.devices == 0 {
            return Err(CUresult::ERROR_NO_DEVICE);
        }
        s.initialised = true;
        Ok(())
    })
}

pub extern "C" fn driver_get_version(version: *mut c_int) -> CUresult {
    answer("cuDriverGetVersion", String::new(), |s| put(version, s.version))
}

pub extern "C" fn get_error_name(code: CUresult, name: *mut *const c_char) -> CUresult {
    answer("cuGetErrorName", code.0.to_string(), |_| match code.0 {
        5000 => put(name, c"CUDA_ERROR_OF_A_LATER_DRIVER".as_ptr()),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    })
}

pub extern "C" fn get_error_string(code: CUresult, text: *mut *const c_char) -> CUresult {
    answer("cuGetErrorString", code.0.to_string(), |_| put(text, c"as the driver describes it".as_ptr()))
}

pub extern "C" fn device_get_count(count: *mut c_int) -> CUresult {
    answer("cuDeviceGetCount", String::new(), |s| {
        if s.initialised { put(count, s.devices as c_int) } else { Err(CUresult::ERROR_NOT_INITIALIZED) }
    })
}

pub extern "C" fn device_get(device: *mut CUdevice, number: c_int) -> CUresult {
    answer("cuDeviceGet", number.to_string(), |s| {
        ordinal(s, number + DEVICE_BASE)?;
        put(device, number + DEVICE_BASE)
    })
}

fn text_out(out: *mut c_char, len: c_int, text: &str) -> Outcome {
    let bytes = text.as_bytes();
    let n = bytes.len().min(len as usize - 1);
    // SAFETY: the caller passes a buffer of `len` bytes.
    unsafe {
        std::ptr::copy_nonoverlapping(bytes.as_ptr().cast(), out, n);
        out.add(n).write(0);
    }
    Ok(())
}

pub extern "C" fn device_get_name(name: *mut c_char, len: c_int, device: CUdevice) -> CUresult {
    answer("cuDeviceGetName", device.to_string(), |s| {
        let ordinal = ordinal(s, device)?;
        text_out(name, len, &format!("Double {ordinal}"))
    })
}

pub extern "C" fn device_get_uuid(uuid: *mut CUuuid, device: CUdevice) -> CUresult {
    answer("cuDeviceGetUuid", device.to_string(), |s| {
        let ordinal = ordinal(s, device)?;
        put(uuid, CUuuid { bytes: [ordinal as u8; 16] })
    })
}

pub extern "C" fn device_get_pci_bus_id(id: *mut c_char, len: c_int, device: CUdevice) -> CUresult {
    answer("cuDeviceGetPCIBusId", device.to_string(), |s| {
        let ordinal = ordinal(s, device)?;
        text_out(id, len, &format!("0000:0{ordinal}:00.0"))
    })
}

pub extern "C" fn device_total_mem(bytes: *mut usize, device: CUdevice) -> CUresult {
    answer("cuDeviceTotalMem", device.to_string(), |s| {
        ordinal(s, device)?;
        put(bytes, 141 << 30)
    })
}

pub extern "C" fn device_get_attribute(value: *mut c_int, attribute: c_int, device: CUdevice) -> CUresult {
    answer("cuDeviceGetAttribute", format!("{attribute}"), |s| {
        ordinal(s, device)?;
        let known = match attribute {
            1..=3 => 1024,
            4 => 64,
            5 => 0x7fff_ffff,
            6 | 7 => 65_535,
            8 => 48 << 10,
            10 => 32,
            16 => 132,
            75 => 9,
            76 => 0,
            81 => 228 << 10,
            97 => 227 << 10,
            // An attribute that drivers before CUDA 11.8 do not know.
            120 if s.version >= 11_080 => 1,
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        };
        put(value, known)
    })
}

pub extern "C" fn device_primary_ctx_retain(context: *mut CUcontext, device: CUdevice) -> CUresult {
    answer("cuDevicePrimaryCtxRetain", device.to_string(), |s| {
        let ordinal = ordinal(s, device)?;
        *s.retained.entry(ordinal).or_default() += 1;
        put(context, context_of(ordinal))
    })
}

pub extern "C" fn device_primary_ctx_release(device: CUdevice) -> CUresult {
    answer("cuDevicePrimaryCtxRelease", device.to_string(), |s| {
        let ordinal = ordinal(s, device)?;
        match s.retained.get_mut(&ordinal) {
            Some(n) if *n > 0 => {
                *n -= 1;
                Ok(())
            }
            _ => Err(CUresult::ERROR_INVALID_CONTEXT),
        }
    })
}

pub extern "C" fn ctx_get_current(context: *mut CUcontext) -> CUresult {
    answer("cuCtxGetCurrent", String::new(), |_| put(context, CUcontext(token(current_context()))))
}

pub extern "C" fn ctx_set_current(context: CUcontext) -> CUresult {
    answer("cuCtxSetCurrent", format!("{}", context.0.addr() - CONTEXT_BASE), |_| {
        set_current_context(context.0.addr());
        Ok(())
    })
}

pub extern "C" fn ctx_synchronize() -> CUresult {
    answer_in_context("cuCtxSynchronize", String::new(), |s| {
        s.busy = false;
        Ok(())
    })
}

pub extern "C" fn ctx_get_stream_priority_range(least: *mut c_int, greatest: *mut c_int) -> CUresult {
    answer_in_context("cuCtxGetStreamPriorityRange", String::new(), |_| {
        put(least, 0)?;
        put(greatest, -5)
    })
}
