//! Entries that `gpu-driver` does not bind, as other programs call them: by the symbols of the C library, in a process
//! of its own.

use std::ffi::{c_int, c_uint, c_void};

use gpu_driver::sys::{CUcontext, CUdevice, CUdeviceptr, CUevent, CUresult, CUstream};

use crate::library::{CHILD, in_process, installed, is_child};

pub struct Library(libloading::Library);

impl Library {
    /// # Safety
    ///
    /// `F` must be the signature of the symbol.
    pub unsafe fn get<F: Copy>(&self, symbol: &str) -> F {
        // SAFETY: the caller's promise.
        *unsafe { self.0.get::<F>(symbol) }.unwrap_or_else(|error| panic!("{symbol}: {error}"))
    }
}

macro_rules! call {
    ($library:expr, $symbol:literal ($($arg:expr => $ty:ty),* $(,)?)) => {{
        // SAFETY: the types are those of the entry, and pointers are to locals of the test that live during the call.
        unsafe { $library.get::<unsafe extern "C" fn($($ty),*) -> CUresult>($symbol)($($arg),*) }
    }};
}

macro_rules! ok {
    ($library:expr, $symbol:literal ($($arg:expr => $ty:ty),* $(,)?)) => {
        assert_eq!(call!($library, $symbol($($arg => $ty),*)), CUresult::SUCCESS, $symbol)
    };
}

pub(crate) use {call, ok};

macro_rules! refused {
    ($code:ident, $library:expr, $symbol:literal ($($arg:expr => $ty:ty),* $(,)?)) => {
        assert_eq!(call!($library, $symbol($($arg => $ty),*)), CUresult::$code, $symbol)
    };
}
pub(crate) use refused;

type Ptr = *mut CUdeviceptr;

pub fn started(device: &mut CUdevice, context: &mut CUcontext) -> Library {
    // SAFETY: loading the library runs no initialiser.
    let library = unsafe { libloading::Library::new(std::env::var_os(CHILD).expect("a path")) };
    let library = Library(library.unwrap());
    ok!(library, "cuInit"(0 => c_uint));
    ok!(library, "cuDeviceGet"(device => *mut CUdevice, 0 => c_int));
    assert_eq!(*device, 0, "a program may count on ordinals");
    ok!(library, "cuDevicePrimaryCtxRetain"(context => *mut CUcontext, *device => CUdevice));
    ok!(library, "cuCtxSetCurrent"(*context => CUcontext));
    library
}

#[test]
fn stream_ordered_memory_comes_from_pools() {
    if !is_child() {
        let (_folder, path) = installed();
        in_process("c_api::stream_ordered_memory_comes_from_pools", &[], &path);
        return;
    }
    let (mut device, mut context) = (0, CUcontext::NULL);
    let l = started(&mut device, &mut context);
    let (mut stream, mut a, mut pool, mut used) =
        (CUstream::NULL, 0u64, std::ptr::null_mut::<c_void>(), 0u64);
    ok!(l, "cuStreamCreate"(&mut stream => *mut CUstream, 1 => c_uint));
    ok!(l, "cuMemAllocAsync"(&mut a => Ptr, 100 => usize, stream => CUstream));
    ok!(l, "cuDeviceGetDefaultMemPool"(&mut pool => *mut *mut c_void, device => CUdevice));
    let mut read = |attribute: c_uint| {
        let out = (&raw mut used).cast::<c_void>();
        ok!(l, "cuMemPoolGetAttribute"(pool => *mut c_void, attribute => c_uint, out => *mut c_void));
        used
    };
    assert_eq!((read(7), read(8)), (100, 100));
    ok!(l, "cuMemsetD8Async"(a => u64, 7 => u8, 100 => usize, stream => CUstream));
    let mut back = [0u8; 100];
    let out = back.as_mut_ptr().cast::<c_void>();
    ok!(l, "cuMemcpyDtoHAsync_v2"(out => *mut c_void, a => u64, 100 => usize, stream => CUstream));
    assert_eq!(back, [7; 100], "a copy to pageable memory has been made when the call returns");
    ok!(l, "cuMemFreeAsync"(a => u64, stream => CUstream));
    let twice = call!(l, "cuMemFreeAsync"(a => u64, stream => CUstream));
    assert_eq!(twice, CUresult::ERROR_INVALID_VALUE);
    assert_eq!(read(7), 100, "not yet");
    ok!(l, "cuStreamSynchronize"(stream => CUstream));
    assert_eq!((read(7), read(8)), (0, 100));
    let after = call!(l, "cuMemsetD8Async"(a => u64, 7 => u8, 1 => usize, stream => CUstream));
    assert_eq!(after, CUresult::ERROR_INVALID_VALUE);
}

#[test]
fn contexts_are_stacked_and_addresses_are_known() {
    if !is_child() {
        let (_folder, path) = installed();
        in_process("c_api::contexts_are_stacked_and_addresses_are_known", &[], &path);
        return;
    }
    let (mut device, mut primary) = (0, CUcontext::NULL);
    let l = started(&mut device, &mut primary);
    let (mut own, mut popped, mut current) = (CUcontext::NULL, CUcontext::NULL, CUcontext::NULL);
    ok!(l, "cuCtxCreate_v2"(&mut own => *mut CUcontext, 0 => c_uint, device => CUdevice));
    ok!(l, "cuCtxGetCurrent"(&mut current => *mut CUcontext));
    assert_eq!(current, own);
    let mut a = 0u64;
    ok!(l, "cuMemAlloc_v2"(&mut a => Ptr, 1000 => usize));
    ok!(l, "cuCtxPopCurrent_v2"(&mut popped => *mut CUcontext));
    ok!(l, "cuCtxGetCurrent"(&mut current => *mut CUcontext));
    assert_eq!((popped, current), (own, primary));
    let (mut base, mut bytes, mut kind) = (0u64, 0usize, 0u32);
    ok!(l, "cuMemGetAddressRange_v2"(&mut base => Ptr, &mut bytes => *mut usize, a + 10 => u64));
    assert_eq!((base, bytes), (a, 1000));
    let mut host = vec![1u8; 4096];
    let at = host.as_mut_ptr().cast::<c_void>();
    let register = || call!(l, "cuMemHostRegister_v2"(at => *mut c_void, 4096 => usize, 0 => c_uint));
    assert_eq!(register(), CUresult::SUCCESS);
    assert_eq!(register(), CUresult::ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    for (address, expected) in [(a + 999, 2), (at.addr() as u64 + 4095, 1)] {
        let out = (&raw mut kind).cast::<c_void>();
        ok!(l, "cuPointerGetAttribute"(out => *mut c_void, 2 => c_uint, address => u64));
        assert_eq!(kind, expected);
    }
    // By address alone, from the host to the device.
    ok!(l, "cuMemcpy"(a => u64, at.addr() as u64 => u64, 100 => usize));
    ok!(l, "cuMemHostUnregister"(at => *mut c_void));
    let again = call!(l, "cuMemHostUnregister"(at => *mut c_void));
    assert_eq!(again, CUresult::ERROR_HOST_MEMORY_NOT_REGISTERED);
    ok!(l, "cuCtxDestroy_v2"(own => CUcontext));
    let gone = call!(l, "cuCtxDestroy_v2"(own => CUcontext));
    assert_eq!(gone, CUresult::ERROR_CONTEXT_IS_DESTROYED);
    let freed = call!(l, "cuMemFree_v2"(a => u64));
    assert_eq!(freed, CUresult::ERROR_INVALID_VALUE, "memory goes with its context");
}

#[test]
fn contexts_have_flags_and_limits() {
    if !is_child() {
        let (_folder, path) = installed();
        in_process("c_api::contexts_have_flags_and_limits", &[], &path);
        return;
    }
    let (mut device, mut primary) = (0, CUcontext::NULL);
    let l = started(&mut device, &mut primary);
    let (mut own, mut flags, mut value) = (CUcontext::NULL, 7, 7usize);
    let mut create = |flags: c_uint| call!(l, "cuCtxCreate_v2"(&mut own => *mut CUcontext, flags => c_uint, device => CUdevice));
    // Two ways of waiting, and a flag that nobody knows.
    assert_eq!([create(3), create(0x100)], [CUresult::ERROR_INVALID_VALUE; 2]);
    ok!(l, "cuDevicePrimaryCtxSetFlags_v2"(device => CUdevice, 4 => c_uint));
    refused!(ERROR_INVALID_VALUE, l, "cuDevicePrimaryCtxSetFlags_v2"(device => CUdevice, 0x7777 => c_uint));
    assert_eq!(create(1 | 8), CUresult::SUCCESS);
    ok!(l, "cuCtxGetFlags"(&mut flags => *mut c_uint));
    assert_eq!(flags, 9, "its own");
    ok!(l, "cuCtxSetFlags"(2 => c_uint));
    ok!(l, "cuCtxGetFlags"(&mut flags => *mut c_uint));
    assert_eq!(flags, 2);
    ok!(l, "cuCtxSetCurrent"(primary => CUcontext));
    ok!(l, "cuCtxGetFlags"(&mut flags => *mut c_uint));
    assert_eq!(flags, 4);
    for (limit, default) in [(0, 1024), (4, 2048), (5, 128), (6, 0)] {
        ok!(l, "cuCtxGetLimit"(&mut value => *mut usize, limit => c_uint));
        assert_eq!(value, default, "{limit}");
    }
    refused!(ERROR_UNSUPPORTED_LIMIT, l, "cuCtxGetLimit"(&mut value => *mut usize, 3 => c_uint));
    ok!(l, "cuCtxSetLimit"(6 => c_uint, 1 << 20 => usize));
    refused!(ERROR_INVALID_VALUE, l, "cuCtxSetLimit"(6 => c_uint, 1 << 40 => usize));
    ok!(l, "cuCtxGetLimit"(&mut value => *mut usize, 6 => c_uint));
    assert_eq!(value, 1 << 20);
}

extern "C" fn count(data: *mut c_void) {
    // SAFETY: the test passes the address of an atomic counter that outlives the wait.
    let counter = unsafe { &*data.cast::<std::sync::atomic::AtomicU32>() };
    counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    // A host function must not call the driver.
    // SAFETY: loading the library again runs no initialiser.
    let library =
        unsafe { libloading::Library::new(std::env::var_os(CHILD).expect("a path")) }.expect("the library");
    let refused = call!(Library(library), "cuCtxSynchronize"());
    assert_eq!(refused, CUresult::ERROR_NOT_PERMITTED);
}

#[test]
fn host_functions_run_in_stream_order() {
    if !is_child() {
        let (_folder, path) = installed();
        in_process("c_api::host_functions_run_in_stream_order", &[], &path);
        return;
    }
    let (mut device, mut context) = (0, CUcontext::NULL);
    let l = started(&mut device, &mut context);
    let counter = std::sync::atomic::AtomicU32::new(0);
    let data = (&raw const counter).cast_mut().cast::<c_void>();
    type Function = Option<extern "C" fn(*mut c_void)>;
    let mut event = CUevent::NULL;
    ok!(l, "cuEventCreate"(&mut event => *mut CUevent, 0 => c_uint));
    for _ in 0..3 {
        ok!(l, "cuLaunchHostFunc"(CUstream::NULL => CUstream, Some(count) => Function, data => *mut c_void));
    }
    ok!(l, "cuEventRecord"(event => CUevent, CUstream::NULL => CUstream));
    assert_eq!(counter.load(std::sync::atomic::Ordering::Relaxed), 0);
    ok!(l, "cuEventSynchronize"(event => CUevent));
    assert_eq!(counter.load(std::sync::atomic::Ordering::Relaxed), 3);
    ok!(l, "cuEventDestroy_v2"(event => CUevent));
}
