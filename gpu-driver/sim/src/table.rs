//! The function table of a driver: the entries, with the functions of the driver's slot where there is no handle.

use std::ptr::NonNull;

use gpu_driver::sys::DriverTable;

use crate::api::{context, device};
use crate::exports::{Pointer, with_symbol};
use crate::registry::SLOTS;

/// The functions that have no handle to find their driver by.
struct SlotFunctions {
    init: Pointer,
    version: Pointer,
    count: Pointer,
    device: Pointer,
    current: Pointer,
}

impl SlotFunctions {
    const fn new<const SLOT: usize>() -> Self {
        Self {
            init: Pointer::new(device::init::<SLOT> as *const ()),
            version: Pointer::new(device::driver_get_version::<SLOT> as *const ()),
            count: Pointer::new(device::device_get_count::<SLOT> as *const ()),
            device: Pointer::new(device::device_get::<SLOT> as *const ()),
            current: Pointer::new(context::get_current::<SLOT> as *const ()),
        }
    }
}

macro_rules! slots {
    ($($tens:literal)*) => {
        [$(
            SlotFunctions::new::<{ 8 * $tens }>(),
            SlotFunctions::new::<{ 8 * $tens + 1 }>(),
            SlotFunctions::new::<{ 8 * $tens + 2 }>(),
            SlotFunctions::new::<{ 8 * $tens + 3 }>(),
            SlotFunctions::new::<{ 8 * $tens + 4 }>(),
            SlotFunctions::new::<{ 8 * $tens + 5 }>(),
            SlotFunctions::new::<{ 8 * $tens + 6 }>(),
            SlotFunctions::new::<{ 8 * $tens + 7 }>(),
        )*]
    };
}

static FUNCTIONS: [SlotFunctions; SLOTS] = slots!(0 1 2 3 4 5 6 7);

/// The table of the driver in a slot, unless one of that version lacks what every driver must have.
pub(crate) fn table(slot: usize, cuda_version: i32) -> Option<DriverTable> {
    let functions = &FUNCTIONS[slot % SLOTS];
    let find = |symbol: &str| -> Option<NonNull<std::ffi::c_void>> {
        let own = match symbol {
            "cuInit" => functions.init,
            "cuDriverGetVersion" => functions.version,
            "cuDeviceGetCount" => functions.count,
            "cuDeviceGet" => functions.device,
            "cuCtxGetCurrent" => functions.current,
            _ => with_symbol(symbol)?.function,
        };
        own.get()
    };
    // SAFETY: each function has the signature that CUDA documents for the symbol, which is that of the field; a test
    // calls every one of them through the table. They are functions of this program and stay callable.
    unsafe {
        DriverTable::from_resolver(|entry| {
            if entry.version > cuda_version { None } else { find(entry.symbol_name()) }
        })
        .ok()
    }
}
