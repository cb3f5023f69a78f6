//! Two devices: streams and events of another context, peers, bus addresses; through the C library.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};
use std::ptr::null_mut;

use gpu_driver::sys::*;

use crate::c_api::{Library, call, ok, refused, started};
use crate::library::{in_process, installed, is_child};

/// A context of each device, with a stream and 16 bytes.
struct Two {
    l: Library,
    contexts: [CUcontext; 2],
    streams: [CUstream; 2],
    data: [CUdeviceptr; 2],
}

fn two(test: &str) -> Option<Two> {
    if !is_child() {
        let (_folder, path) = installed();
        in_process(&format!("devices::{test}"), &[("WARPSMITH_SIM_DEVICES", "2")], &path);
        return None;
    }
    let (mut device, mut first) = (0, CUcontext::NULL);
    let l = started(&mut device, &mut first);
    let (mut contexts, mut streams, mut data) = ([first; 2], [CUstream::NULL; 2], [0; 2]);
    ok!(l, "cuDevicePrimaryCtxRetain"(&mut contexts[1] => *mut CUcontext, 1 => CUdevice));
    for i in [1, 0] {
        ok!(l, "cuCtxSetCurrent"(contexts[i] => CUcontext));
        ok!(l, "cuStreamCreate"(&mut streams[i] => *mut CUstream, 1 => c_uint));
        ok!(l, "cuMemAlloc_v2"(&mut data[i] => *mut u64, 16 => usize));
    }
    Some(Two { l, contexts, streams, data })
}

/// All but launches may name a stream of another context than the current one.
#[test]
fn streams_of_another_context_can_be_used() {
    let Some(Two { l, contexts, streams: [here, there], data }) =
        two("streams_of_another_context_can_be_used")
    else {
        return;
    };
    let mut event = CUevent::NULL;
    ok!(l, "cuCtxSetCurrent"(contexts[1] => CUcontext));
    ok!(l, "cuEventCreate"(&mut event => *mut CUevent, 0 => c_uint));
    ok!(l, "cuCtxSetCurrent"(contexts[0] => CUcontext));
    ok!(l, "cuMemsetD8Async"(data[1] => u64, 7 => u8, 16 => usize, there => CUstream));
    refused!(ERROR_INVALID_HANDLE, l, "cuEventRecord"(event => CUevent, here => CUstream));
    ok!(l, "cuEventRecord"(event => CUevent, there => CUstream));
    ok!(l, "cuStreamWaitEvent"(here => CUstream, event => CUevent, 0 => c_uint));
    ok!(l, "cuMemcpyPeerAsync"(data[0] => u64, contexts[0] => CUcontext, data[1] => u64, contexts[1] => CUcontext, 16 => usize, here => CUstream));
    ok!(l, "cuStreamSynchronize"(here => CUstream));
    ok!(l, "cuStreamSynchronize"(there => CUstream));
    ok!(l, "cuStreamQuery"(there => CUstream));
    ok!(l, "cuEventQuery"(event => CUevent));
    let mut back = [0u8; 16];
    ok!(l, "cuMemcpyDtoH_v2"(back.as_mut_ptr().cast() => *mut c_void, data[0] => u64, 16 => usize));
    assert_eq!(back, [7; 16]);
    let (mut context, mut device, mut green) = (CUcontext::NULL, 7, std::ptr::without_provenance_mut(7));
    ok!(l, "cuStreamGetCtx_v2"(there => CUstream, &mut context => *mut CUcontext, &mut green => *mut *mut c_void));
    ok!(l, "cuStreamGetDevice"(there => CUstream, &mut device => *mut CUdevice));
    assert_eq!((context, device, green), (contexts[1], 1, null_mut()));
    let mut own = CUevent::NULL;
    ok!(l, "cuEventCreate"(&mut own => *mut CUevent, 0 => c_uint));
    ok!(l, "cuEventRecord"(own => CUevent, here => CUstream));
    ok!(l, "cuEventSynchronize"(own => CUevent));
    refused!(ERROR_INVALID_HANDLE, l, "cuEventElapsedTime"(&mut 0.0 => *mut f32, own => CUevent, event => CUevent));
    // A launch in it is refused, before anything of the launch is looked at.
    let none = null_mut::<*mut c_void>();
    refused!(ERROR_INVALID_HANDLE, l, "cuLaunchKernel"(
        CUfunction::NULL => CUfunction, 1 => c_uint, 1 => c_uint, 1 => c_uint, 1 => c_uint, 1 => c_uint, 1 => c_uint,
        0 => c_uint, there => CUstream, none => *mut *mut c_void, none => *mut *mut c_void,
    ));
    ok!(l, "cuStreamDestroy_v2"(there => CUstream));
    refused!(ERROR_INVALID_HANDLE, l, "cuStreamSynchronize"(there => CUstream));
}

#[test]
fn devices_are_peers_and_have_addresses() {
    let Some(Two { l, contexts, data, .. }) = two("devices_are_peers_and_have_addresses") else { return };
    let mut value = 7;
    for (a, b, can) in [(0, 1, 1), (1, 0, 1), (0, 0, 0)] {
        ok!(l, "cuDeviceCanAccessPeer"(&mut value => *mut c_int, a => CUdevice, b => CUdevice));
        assert_eq!(value, can);
    }
    ok!(l, "cuDeviceGetP2PAttribute"(&mut value => *mut c_int, 2 => c_int, 0 => CUdevice, 1 => CUdevice));
    assert_eq!(value, 1);
    refused!(ERROR_INVALID_DEVICE, l, "cuDeviceGetP2PAttribute"(&mut value => *mut c_int, 2 => c_int, 0 => CUdevice, 0 => CUdevice));
    let enable = |peer: CUcontext| call!(l, "cuCtxEnablePeerAccess"(peer => CUcontext, 0 => c_uint));
    let disable = |peer: CUcontext| call!(l, "cuCtxDisablePeerAccess"(peer => CUcontext));
    assert_eq!(disable(contexts[1]), CUresult::ERROR_PEER_ACCESS_NOT_ENABLED);
    assert_eq!(
        (enable(contexts[0]), enable(CUcontext::NULL)),
        (CUresult::ERROR_INVALID_DEVICE, CUresult::ERROR_INVALID_CONTEXT)
    );
    assert_eq!(
        (enable(contexts[1]), enable(contexts[1])),
        (CUresult::SUCCESS, CUresult::ERROR_PEER_ACCESS_ALREADY_ENABLED)
    );
    assert_eq!((disable(contexts[1]), enable(contexts[1])), (CUresult::SUCCESS, CUresult::SUCCESS));
    // Attributes are those of the owner.
    let (mut owner, mut ordinal, mut nobody, mut kind) = (CUcontext::NULL, 7, 7, 7u32);
    let mut outs = [(&raw mut owner).cast::<c_void>(), (&raw mut ordinal).cast(), (&raw mut kind).cast()];
    // Context, device, memory type.
    let keys: [c_uint; 3] = [1, 9, 2];
    ok!(l, "cuPointerGetAttributes"(3 => c_uint, keys.as_ptr() => *const c_uint, outs.as_mut_ptr() => *mut *mut c_void, data[1] + 5 => u64));
    assert_eq!((owner, ordinal, kind), (contexts[1], 1, 2));
    let mut outs = [(&raw mut owner).cast::<c_void>(), (&raw mut nobody).cast(), (&raw mut kind).cast()];
    ok!(l, "cuPointerGetAttributes"(3 => c_uint, keys.as_ptr() => *const c_uint, outs.as_mut_ptr() => *mut *mut c_void, 12345 => u64));
    assert_eq!((owner, nobody, kind), (CUcontext::NULL, -2, 0), "an address of nobody's");
    // Contexts and devices by number.
    let (mut ids, mut text, mut device) = ([0u64; 2], [0 as c_char; 16], 7);
    for (id, context) in ids.iter_mut().zip(contexts) {
        ok!(l, "cuCtxGetId"(context => CUcontext, id => *mut u64));
    }
    assert_ne!(ids[0], ids[1]);
    ok!(l, "cuDeviceGetPCIBusId"(text.as_mut_ptr() => *mut c_char, 16 => c_int, 1 => CUdevice));
    // SAFETY: the driver has written a text with its terminator.
    let whole = unsafe { CStr::from_ptr(text.as_ptr()) };
    for (id, code) in [
        (whole, CUresult::SUCCESS),
        (c"02:00.0", CUresult::SUCCESS),
        (c"0000:02:00", CUresult::SUCCESS),
        (c"0000:09:00.0", CUresult::ERROR_INVALID_DEVICE),
    ] {
        assert_eq!(
            call!(l, "cuDeviceGetByPCIBusId"(&mut device => *mut CUdevice, id.as_ptr() => *const c_char)),
            code,
            "{id:?}"
        );
        assert_eq!(device, 1);
    }
    // What another device may do with a pool.
    let (mut pool, mut flags) = (null_mut::<c_void>(), 7);
    ok!(l, "cuDeviceGetDefaultMemPool"(&mut pool => *mut *mut c_void, 0 => CUdevice));
    let mut access = |device: c_int| {
        let place = [1, device];
        ok!(l, "cuMemPoolGetAccess"(&mut flags => *mut c_uint, pool => *mut c_void, place.as_ptr() => *const c_int));
        flags
    };
    assert_eq!((access(0), access(1)), (3, 0));
    let grant = |device: c_int, flags: c_int| {
        let list = [1, device, flags];
        call!(l, "cuMemPoolSetAccess"(pool => *mut c_void, list.as_ptr() => *const c_int, 1 => usize))
    };
    assert_eq!(
        (grant(1, 3), grant(0, 0), grant(9, 3)),
        (CUresult::SUCCESS, CUresult::ERROR_INVALID_VALUE, CUresult::ERROR_INVALID_DEVICE)
    );
    assert_eq!(access(1), 3);
}
