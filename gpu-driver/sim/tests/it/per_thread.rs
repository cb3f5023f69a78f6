//! Default streams of threads, how entries are found by name, and launches whose blocks wait for each other; through the
//! C library in a process of its own.

use std::ffi::{CStr, CString, c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;

use gpu_driver::sys::*;

use crate::c_api::{Library, call, ok, refused, started};
use crate::library::{in_process, installed, is_child};

fn library(test: &str) -> Option<(Library, CUcontext)> {
    if is_child() {
        let mut context = CUcontext::NULL;
        return Some((started(&mut 0, &mut context), context));
    }
    let (_folder, path) = installed();
    in_process(&format!("per_thread::{test}"), &[], &path);
    None
}

/// What `cuGetProcAddress` finds: the address, and how the search went.
fn find(l: &Library, name: &CStr, version: c_int, flags: u64) -> (usize, c_int) {
    let (mut found, mut status) = (null_mut::<c_void>(), 7);
    ok!(l, "cuGetProcAddress_v2"(
        name.as_ptr() => *const c_char, &mut found => *mut *mut c_void, version => c_int, flags => u64,
        &mut status => *mut c_int,
    ));
    (found.addr(), status)
}

#[test]
fn entries_are_found_with_their_variants() {
    let Some((l, _)) = library("entries_are_found_with_their_variants") else { return };
    for name in [c"cuMemcpyHtoD", c"cuStreamSynchronize", c"cuLaunchKernel", c"cuGraphLaunch"] {
        let [(any, _), (legacy, _), (thread, status)] = [0, 1, 2].map(|flags| find(&l, name, 12_000, flags));
        assert!(any == legacy && any != thread && thread != 0 && status == 0, "{name:?}");
    }
    // What has no default stream is the same for all.
    assert_eq!(find(&l, c"cuMemAlloc", 12_000, 2), find(&l, c"cuMemAlloc", 12_000, 0));
    assert_eq!(find(&l, c"cuNoSuch", 12_000, 2), (0, 1));
    assert_eq!(find(&l, c"cuLibraryLoadData", 11_080, 0), (0, 2), "too young for the program");
    // A name that went to another signature, and one that has gained an argument.
    assert_eq!(
        find(&l, c"cuGraphInstantiate", 12_000, 0),
        find(&l, c"cuGraphInstantiateWithFlags", 12_000, 0)
    );
    assert_ne!(find(&l, c"cuStreamGetCtx", 12_040, 0), find(&l, c"cuStreamGetCtx", 12_050, 0));
    refused!(ERROR_INVALID_VALUE, l, "cuGetProcAddress_v2"(
        c"cuInit".as_ptr() => *const c_char, &mut null_mut() => *mut *mut c_void, 12_000 => c_int, 4 => u64,
        &mut 0 => *mut c_int,
    ));
}

#[test]
fn every_thread_has_a_default_stream() {
    let Some((l, context)) = library("every_thread_has_a_default_stream") else { return };
    let own = CUstream(std::ptr::without_provenance_mut(2));
    let id = || {
        let mut id = 0u64;
        ok!(l, "cuCtxSetCurrent"(context => CUcontext));
        ok!(l, "cuStreamGetId"(own => CUstream, &mut id => *mut u64));
        let mut same = 0;
        ok!(l, "cuStreamGetId_ptsz"(CUstream::NULL => CUstream, &mut same => *mut u64));
        assert_eq!(id, same);
        id
    };
    let elsewhere = std::thread::scope(|scope| scope.spawn(id).join().unwrap());
    assert!(id() == id() && id() != elsewhere && id() != 0);
    let (mut data, mut flags, mut word) = (0u64, 7, 0u32);
    ok!(l, "cuStreamGetFlags"(own => CUstream, &mut flags => *mut c_uint));
    assert_eq!(flags, 0, "ordered with the legacy default stream");
    ok!(l, "cuMemAlloc_v2"(&mut data => *mut u64, 4 => usize));
    ok!(l, "cuMemsetD32_v2_ptds"(data => u64, 7 => c_uint, 1 => usize));
    ok!(l, "cuMemcpyDtoH_v2_ptds"((&raw mut word).cast() => *mut c_void, data => u64, 4 => usize));
    assert_eq!(word, 7);
    // Unlike the legacy one it can be captured.
    let mut graph = CUgraph::NULL;
    refused!(ERROR_STREAM_CAPTURE_UNSUPPORTED, l, "cuStreamBeginCapture_v2"(CUstream::NULL => CUstream, 0 => c_uint));
    ok!(l, "cuStreamBeginCapture_v2_ptsz"(CUstream::NULL => CUstream, 0 => c_uint));
    ok!(l, "cuMemsetD32Async_ptsz"(data => u64, 8 => c_uint, 1 => usize, CUstream::NULL => CUstream));
    ok!(l, "cuStreamEndCapture"(own => CUstream, &mut graph => *mut CUgraph));
    refused!(ERROR_INVALID_HANDLE, l, "cuStreamDestroy_v2"(own => CUstream));
    ok!(l, "cuCtxSynchronize"());
}

#[test]
fn clusters_are_as_large_as_the_kernel_allows() {
    let Some((l, _)) = library("clusters_are_as_large_as_the_kernel_allows") else { return };
    let (text, mut module, mut meet) = (CString::new(MEET).unwrap(), CUmodule::NULL, CUfunction::NULL);
    ok!(l, "cuModuleLoadData"(&mut module => *mut CUmodule, text.as_ptr().cast() => *const c_void));
    ok!(l, "cuModuleGetFunction"(&mut meet => *mut CUfunction, module => CUmodule, c"meet".as_ptr() => *const c_char));
    let largest = |threads: c_uint, non_portable: c_int| {
        let (mut size, config) = (
            7,
            CUlaunchConfig {
                grid_dim: [16, 1, 1],
                block_dim: [threads, 1, 1],
                shared_mem_bytes: 0,
                stream: CUstream::NULL,
                attrs: null_mut(),
                num_attrs: 0,
            },
        );
        ok!(l, "cuFuncSetAttribute"(meet => CUfunction, 14 => c_int, non_portable => c_int));
        ok!(l, "cuOccupancyMaxPotentialClusterSize"(&mut size => *mut c_int, meet => CUfunction, &config => *const CUlaunchConfig));
        size
    };
    assert_eq!([largest(32, 0), largest(32, 1), largest(2048, 1)], [8, 16, 0]);
}

/// `meet(count)`: every block counts, and waits until all have.
const MEET: &str = "
.version 7.0
.target sm_70
.address_size 64
.visible .entry meet(.param .u64 p)
{
    .reg .pred %p<2>;
    .reg .b32 %r<4>;
    .reg .b64 %rd<3>;
    ld.param.u64 %rd1, [p];
    cvta.to.global.u64 %rd2, %rd1;
    atom.acq_rel.gpu.global.add.u32 %r1, [%rd2], 1;
    mov.u32 %r2, %nctaid.x;
WAIT:
    ld.acquire.gpu.global.u32 %r3, [%rd2];
    setp.lt.u32 %p1, %r3, %r2;
    @%p1 bra WAIT;
    ret;
}
";

#[test]
fn blocks_of_a_cooperative_launch_run_at_once() {
    let Some((l, _)) = library("blocks_of_a_cooperative_launch_run_at_once") else { return };
    let (text, mut module, mut meet) = (CString::new(MEET).unwrap(), CUmodule::NULL, CUfunction::NULL);
    let (mut data, mut value) = (0u64, 0);
    ok!(l, "cuDeviceGetAttribute"(&mut value => *mut c_int, 95 => c_int, 0 => CUdevice));
    assert_eq!(value, 1);
    ok!(l, "cuModuleLoadData"(&mut module => *mut CUmodule, text.as_ptr().cast() => *const c_void));
    ok!(l, "cuModuleGetFunction"(&mut meet => *mut CUfunction, module => CUmodule, c"meet".as_ptr() => *const c_char));
    ok!(l, "cuMemAlloc_v2"(&mut data => *mut u64, 4 => usize));
    let mut params = [(&raw mut data).cast::<c_void>()];
    let mut launch = |blocks: c_uint, threads: c_uint| {
        ok!(l, "cuMemsetD32_v2"(data => u64, 0 => c_uint, 1 => usize));
        let code = call!(l, "cuLaunchCooperativeKernel"(
            meet => CUfunction, blocks => c_uint, 1 => c_uint, 1 => c_uint, threads => c_uint, 1 => c_uint, 1 => c_uint,
            0 => c_uint, CUstream::NULL => CUstream, params.as_mut_ptr() => *mut *mut c_void,
        ));
        let mut word = 0u32;
        ok!(l, "cuMemcpyDtoH_v2"((&raw mut word).cast() => *mut c_void, data => u64, 4 => usize));
        (code, word)
    };
    assert_eq!(launch(100, 1), (CUresult::SUCCESS, 100));
    // Two blocks of 1024 threads on each of 132 multiprocessors.
    assert_eq!(launch(265, 1024), (CUresult::ERROR_COOPERATIVE_LAUNCH_TOO_LARGE, 0));
    assert_eq!(launch(1025, 1), (CUresult::ERROR_NOT_SUPPORTED, 0));
}
