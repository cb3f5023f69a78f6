//! Managed memory, copies of rows, and callbacks, through the C library in a process of its own.

use std::ffi::{c_int, c_uint, c_void};

use gpu_driver::sys::*;

use crate::c_api::{Library, call, ok, refused, started};
use crate::library::{in_process, installed, is_child};

fn library(test: &str) -> Option<Library> {
    if is_child() {
        let mut context = CUcontext::NULL;
        return Some(started(&mut 0, &mut context));
    }
    let (_folder, path) = installed();
    in_process(&format!("managed::{test}"), &[], &path);
    None
}

#[test]
fn managed_memory_is_the_hosts_and_the_devices() {
    let Some(l) = library("managed_memory_is_the_hosts_and_the_devices") else { return };
    let (mut at, mut value, mut stream) = (0u64, 0, CUstream::NULL);
    for attribute in [83, 89] {
        ok!(l, "cuDeviceGetAttribute"(&mut value => *mut c_int, attribute => c_int, 0 => CUdevice));
        assert_eq!(value, 1);
    }
    for (bytes, flags) in [(0, 1), (16, 0), (16, 3)] {
        refused!(ERROR_INVALID_VALUE, l, "cuMemAllocManaged"(&mut at => *mut u64, bytes => usize, flags => c_uint));
    }
    ok!(l, "cuMemAllocManaged"(&mut at => *mut u64, 16 => usize, 1 => c_uint));
    let words = std::ptr::with_exposed_provenance_mut::<[u32; 4]>(at as usize);
    // SAFETY: the memory is the host's, too, and no work is queued.
    unsafe { words.write([1, 2, 3, 4]) };
    ok!(l, "cuStreamCreate"(&mut stream => *mut CUstream, 1 => c_uint));
    ok!(l, "cuMemPrefetchAsync"(at => u64, 16 => usize, 0 => CUdevice, stream => CUstream));
    ok!(l, "cuMemPrefetchAsync"(at => u64, 16 => usize, -1 => CUdevice, stream => CUstream));
    refused!(ERROR_INVALID_DEVICE, l, "cuMemPrefetchAsync"(at => u64, 16 => usize, 9 => CUdevice, stream => CUstream));
    refused!(ERROR_INVALID_VALUE, l, "cuMemPrefetchAsync"(at => u64, 17 => usize, 0 => CUdevice, stream => CUstream));
    // A place is two ints, which travel as one word.
    let device_0 = 1u64;
    ok!(l, "cuMemPrefetchAsync_v2"(at => u64, 16 => usize, device_0 => u64, 0 => c_uint, stream => CUstream));
    ok!(l, "cuMemAdvise"(at => u64, 16 => usize, 3 => c_uint, 0 => CUdevice));
    ok!(l, "cuMemAdvise_v2"(at => u64, 16 => usize, 5 => c_uint, device_0 => u64));
    refused!(ERROR_INVALID_VALUE, l, "cuMemAdvise"(at => u64, 16 => usize, 9 => c_uint, 0 => CUdevice));
    ok!(l, "cuStreamAttachMemAsync"(stream => CUstream, at => u64, 0 => usize, 4 => c_uint));
    ok!(l, "cuMemsetD32Async"(at => u64, 7 => c_uint, 2 => usize, stream => CUstream));
    ok!(l, "cuStreamSynchronize"(stream => CUstream));
    // SAFETY: as above.
    assert_eq!(unsafe { words.read() }, [7, 7, 3, 4]);
    for (attribute, expected) in [(2, 2), (8, 1), (4, at), (3, at)] {
        let mut out = 0u64;
        ok!(l, "cuPointerGetAttribute"((&raw mut out).cast() => *mut c_void, attribute => c_uint, at => u64));
        assert_eq!(out, expected, "{attribute}");
    }
    let host = std::ptr::with_exposed_provenance_mut::<c_void>(at as usize);
    refused!(ERROR_INVALID_VALUE, l, "cuMemFreeHost"(host => *mut c_void));
    ok!(l, "cuMemFree_v2"(at => u64));
    refused!(ERROR_INVALID_VALUE, l, "cuMemFree_v2"(at => u64));
}

/// Copies to managed memory are done when the call returns, also those between contexts.
#[test]
fn copies_to_managed_memory_wait() {
    let Some(l) = library("copies_to_managed_memory_wait") else { return };
    let (mut device, mut managed, mut context) = (0u64, 0u64, CUcontext::NULL);
    ok!(l, "cuCtxGetCurrent"(&mut context => *mut CUcontext));
    ok!(l, "cuMemAlloc_v2"(&mut device => *mut u64, 4 => usize));
    ok!(l, "cuMemAllocManaged"(&mut managed => *mut u64, 4 => usize, 1 => c_uint));
    let word = std::ptr::with_exposed_provenance_mut::<u32>(managed as usize);
    for value in [5, 6] {
        ok!(l, "cuMemsetD32Async"(device => u64, value => c_uint, 1 => usize, CUstream::NULL => CUstream));
        if value == 5 {
            ok!(l, "cuMemcpyDtoD_v2"(managed => u64, device => u64, 4 => usize));
        } else {
            ok!(l, "cuMemcpyPeer"(managed => u64, context => CUcontext, device => u64, context => CUcontext, 4 => usize));
        }
        // SAFETY: the memory is the host's, too, and what was queued is done.
        assert_eq!(unsafe { word.read() }, value);
    }
}

/// Fills of the host's own memory are done when the call returns, unless their name says otherwise.
#[test]
fn fills_of_host_memory_wait() {
    let Some(l) = library("fills_of_host_memory_wait") else { return };
    let (mut pinned, mut managed) = (std::ptr::null_mut::<c_void>(), 0u64);
    ok!(l, "cuMemHostAlloc"(&mut pinned => *mut *mut c_void, 16 => usize, 2 => c_uint));
    ok!(l, "cuMemAllocManaged"(&mut managed => *mut u64, 16 => usize, 1 => c_uint));
    for at in [pinned.expose_provenance() as u64, managed] {
        let bytes = std::ptr::with_exposed_provenance::<[u8; 16]>(at as usize);
        ok!(l, "cuMemsetD8_v2"(at => u64, 7 => u8, 16 => usize));
        // SAFETY: the memory is the host's, too, and no work is queued.
        assert_eq!(unsafe { bytes.read() }, [7; 16]);
        ok!(l, "cuMemsetD8Async"(at => u64, 8 => u8, 16 => usize, CUstream::NULL => CUstream));
        // SAFETY: as above: what is queued runs when somebody waits.
        assert_eq!(unsafe { bytes.read_volatile() }, [7; 16]);
        ok!(l, "cuCtxSynchronize"());
    }
}

/// `CUDA_MEMCPY2D`: x, y, type, host, device, array, pitch of each end, width, height.
#[repr(C)]
struct Rows {
    ends: [[u64; 7]; 2],
    width: usize,
    height: usize,
}

#[test]
fn rows_are_copied_with_their_pitches() {
    let Some(l) = library("rows_are_copied_with_their_pitches") else { return };
    let (mut at, mut pitch, mut stream) = (0u64, 0usize, CUstream::NULL);
    ok!(l, "cuStreamCreate"(&mut stream => *mut CUstream, 1 => c_uint));
    ok!(l, "cuMemAllocPitch_v2"(&mut at => *mut u64, &mut pitch => *mut usize, 4 => usize, 3 => usize, 4 => c_uint));
    let from: [u8; 12] = std::array::from_fn(|i| i as u8);
    let mut back = [0xffu8; 8];
    let host = |address: *const u8, pitch| [0, 0, 1, address.expose_provenance() as u64, 0, 0, pitch];
    let device = |x, y| [x, y, 2, 0, at, 0, pitch as u64];
    let all = Rows { ends: [host(from.as_ptr(), 4), device(0, 0)], width: 4, height: 3 };
    ok!(l, "cuMemcpy2DAsync_v2"(&all => *const Rows, stream => CUstream));
    let part = Rows { ends: [device(1, 1), host(back.as_mut_ptr(), 4)], width: 3, height: 2 };
    ok!(l, "cuMemcpy2D_v2"(&part => *const Rows));
    assert_eq!(back, [5, 6, 7, 255, 9, 10, 11, 255]);
    // Addresses that say themselves what they are.
    let unified = [0, 0, 4, 0, from.as_ptr().expose_provenance() as u64, 0, 4];
    let row = Rows { ends: [unified, device(0, 1)], width: 4, height: 1 };
    ok!(l, "cuMemcpy2DUnaligned_v2"(&row => *const Rows));
    ok!(l, "cuMemcpy2D_v2"(&part => *const Rows));
    assert_eq!(back[..4], [1, 2, 3, 255]);
    let wide = |ends, width, height| call!(l, "cuMemcpy2D_v2"(&Rows { ends, width, height } => *const Rows));
    let ends = || [host(from.as_ptr(), 4), device(0, 0)];
    assert_eq!((wide(ends(), 0, 3), wide(ends(), 4, 0)), (CUresult::SUCCESS, CUresult::SUCCESS));
    for (width, height) in [(5, 2), (4, 4000), (4, usize::MAX / 2)] {
        assert_eq!(wide(ends(), width, height), CUresult::ERROR_INVALID_VALUE);
    }
    let array = [host(from.as_ptr(), 4), [0, 0, 3, 0, 0, 0, 0]];
    assert_eq!(wide(array, 4, 1), CUresult::ERROR_NOT_SUPPORTED);
}

extern "C" fn note(stream: CUstream, status: CUresult, data: *mut c_void) {
    // SAFETY: the test passes the address of a variable that outlives the wait.
    unsafe { data.cast::<Option<(CUstream, CUresult)>>().write(Some((stream, status))) };
}

#[test]
fn callbacks_are_told_of_their_stream() {
    let Some(l) = library("callbacks_are_told_of_their_stream") else { return };
    let (mut stream, mut told) = (CUstream::NULL, None::<(CUstream, CUresult)>);
    type Callback = Option<extern "C" fn(CUstream, CUresult, *mut c_void)>;
    ok!(l, "cuStreamCreate"(&mut stream => *mut CUstream, 1 => c_uint));
    let data = (&raw mut told).cast::<c_void>();
    refused!(ERROR_INVALID_VALUE, l, "cuStreamAddCallback"(stream => CUstream, Some(note) => Callback, data => *mut c_void, 1 => c_uint));
    ok!(l, "cuStreamAddCallback"(stream => CUstream, Some(note) => Callback, data => *mut c_void, 0 => c_uint));
    ok!(l, "cuStreamSynchronize"(stream => CUstream));
    // SAFETY: the callback has run, and nothing writes any more.
    assert_eq!(unsafe { (&raw const told).read_volatile() }, Some((stream, CUresult::SUCCESS)));
}
