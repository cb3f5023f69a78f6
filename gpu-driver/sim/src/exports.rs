//! The list of entries: what the C library exports, what `cuGetProcAddress` finds, what fills a Rust table.
//!
//! A line reads `symbol @ version = function(arguments)`, or `symbol / variant @ version`, where the variant takes the
//! default stream of the thread for the default stream. The exported functions only call those behind them, so that
//! nothing in here depends on how the loader binds a name that another library of the process may have, too.

#![allow(non_snake_case)]

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::ptr::NonNull;

use gpu_driver::sys::*;

use crate::api::graph::HostNodeParams;
use crate::api::managed::Location;
use crate::api::params::CUDA_MEMCPY2D_v2;
use crate::api::pool::{AccessDescription, PoolProperties};
use crate::api::{
    capture, condition, context, copy, device, edges, event, exec, function, graph, launch, library, link,
    managed, memory, module, nodes, occupancy, pool, stream, user_object,
};
use crate::call::{Name, on_driver, put, with_thread_stream};
use crate::fault::base_name;
use crate::handle::{CUlibrary, CUlinkState, CUmemoryPool, CUuserObject};
use crate::registry;
use crate::work::StatusFunction;

/// One entry.
pub(crate) struct Export {
    pub symbol: &'static str,
    /// CUDA version in which this signature appeared.
    pub version: i32,
    pub function: Pointer,
    /// The variant for per-thread default streams.
    pub per_thread: Option<Pointer>,
}

/// The address of a function.
#[derive(Clone, Copy)]
pub(crate) struct Pointer(*const ());

// SAFETY: the address of a function is the same, and valid, on every thread.
unsafe impl Sync for Pointer {}

impl Pointer {
    pub(crate) const fn new(function: *const ()) -> Self {
        Self(function)
    }

    pub(crate) fn get(self) -> Option<NonNull<c_void>> {
        NonNull::new(self.0.cast_mut().cast())
    }
}

/// The exported variant of an entry, if it has one.
macro_rules! variant {
    ([] $($rest:tt)*) => {};
    ([$variant:ident] $function:path, $($arg:ident: $ty:ty),*) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $variant($($arg: $ty),*) -> CUresult {
            // SAFETY: the caller's promise.
            with_thread_stream(|| unsafe { $function($($arg),*) })
        }
    };
}

/// The address of the variant, which does not depend on the loader either.
macro_rules! variant_pointer {
    ([] $($rest:tt)*) => {
        None
    };
    ([$variant:ident] $function:path, $($arg:ident: $ty:ty),*) => {{
        unsafe extern "C" fn variant($($arg: $ty),*) -> CUresult {
            // SAFETY: the caller's promise.
            with_thread_stream(|| unsafe { $function($($arg),*) })
        }
        Some(Pointer::new(variant as unsafe extern "C" fn($($ty),*) -> CUresult as *const ()))
    }};
}

macro_rules! exports {
    ($($symbol:ident $(/ $variant:ident)? @ $version:literal = $function:path as ($($arg:ident: $ty:ty),* $(,)?);)*) => {
        $(
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $symbol($($arg: $ty),*) -> CUresult {
                // SAFETY: the caller's promise.
                unsafe { $function($($arg),*) }
            }

            variant! { [$($variant)?] $function, $($arg: $ty),* }
        )*

        /// Every entry, the older of two versions first.
        static EXPORTS: &[Export] = &[$(Export {
            symbol: stringify!($symbol),
            version: $version,
            function: Pointer::new($function as unsafe extern "C" fn($($ty),*) -> CUresult as *const ()),
            per_thread: variant_pointer! { [$($variant)?] $function, $($arg: $ty),* },
        }),*];
    };
}

exports! {
    cuInit @ 2000 = device::init::<0> as (flags: c_uint);
    cuDriverGetVersion @ 2020 = device::driver_get_version::<0> as (version: *mut c_int);
    cuGetErrorName @ 6000 = device::get_error_name as (code: CUresult, name: *mut *const c_char);
    cuGetErrorString @ 6000 = device::get_error_string as (code: CUresult, text: *mut *const c_char);
    cuGetProcAddress @ 11030 = get_proc_address
        as (symbol: *const c_char, pfn: *mut *mut c_void, version: c_int, flags: u64);
    cuGetProcAddress_v2 @ 12000 = get_proc_address_v2
        as (symbol: *const c_char, pfn: *mut *mut c_void, version: c_int, flags: u64, status: *mut c_int);

    cuDeviceGetCount @ 2000 = device::device_get_count::<0> as (count: *mut c_int);
    cuDeviceGet @ 2000 = device::device_get::<0> as (device: *mut CUdevice, ordinal: c_int);
    cuDeviceGetName @ 2000 = device::device_get_name as (name: *mut c_char, len: c_int, device: CUdevice);
    cuDeviceGetUuid @ 9020 = device::device_get_uuid as (uuid: *mut CUuuid, device: CUdevice);
    cuDeviceGetUuid_v2 @ 11040 = device::device_get_uuid as (uuid: *mut CUuuid, device: CUdevice);
    cuDeviceGetPCIBusId @ 4010 = device::device_get_pci_bus_id as (id: *mut c_char, len: c_int, device: CUdevice);
    cuDeviceTotalMem_v2 @ 3020 = device::device_total_mem as (bytes: *mut usize, device: CUdevice);
    cuDeviceGetAttribute @ 2000 = device::device_get_attribute
        as (value: *mut c_int, attribute: c_int, device: CUdevice);
    cuDeviceComputeCapability @ 2000 = device::device_compute_capability
        as (major: *mut c_int, minor: *mut c_int, device: CUdevice);
    cuDeviceCanAccessPeer @ 4000 = device::device_can_access_peer
        as (can: *mut c_int, device: CUdevice, peer: CUdevice);
    cuDeviceGetP2PAttribute @ 8000 = device::device_get_p2p_attribute
        as (value: *mut c_int, attribute: c_int, device: CUdevice, peer: CUdevice);
    cuDeviceGetByPCIBusId @ 4010 = device::device_get_by_pci_bus_id
        as (device: *mut CUdevice, id: *const c_char);
    cuDeviceGetDefaultMemPool @ 11020 = pool::device_default_pool as (pool: *mut CUmemoryPool, device: CUdevice);
    cuDeviceGetMemPool @ 11020 = pool::device_pool as (pool: *mut CUmemoryPool, device: CUdevice);
    cuDeviceSetMemPool @ 11020 = pool::device_set_pool as (device: CUdevice, pool: CUmemoryPool);

    cuDevicePrimaryCtxRetain @ 7000 = context::primary_retain as (context: *mut CUcontext, device: CUdevice);
    cuDevicePrimaryCtxRelease @ 7000 = context::primary_release as (device: CUdevice);
    cuDevicePrimaryCtxRelease_v2 @ 11000 = context::primary_release as (device: CUdevice);
    cuDevicePrimaryCtxReset @ 7000 = context::primary_reset as (device: CUdevice);
    cuDevicePrimaryCtxReset_v2 @ 11000 = context::primary_reset as (device: CUdevice);
    cuDevicePrimaryCtxGetState @ 7000 = context::primary_get_state
        as (device: CUdevice, flags: *mut c_uint, active: *mut c_int);
    cuDevicePrimaryCtxSetFlags @ 7000 = context::primary_set_flags as (device: CUdevice, flags: c_uint);
    cuDevicePrimaryCtxSetFlags_v2 @ 11000 = context::primary_set_flags as (device: CUdevice, flags: c_uint);
    cuCtxCreate_v2 @ 3020 = context::create as (context: *mut CUcontext, flags: c_uint, device: CUdevice);
    cuCtxCreate_v3 @ 11040 = context::create_v3
        as (context: *mut CUcontext, params: *mut c_void, n: c_int, flags: c_uint, device: CUdevice);
    cuCtxCreate_v4 @ 12050 = context::create_v4
        as (context: *mut CUcontext, params: *mut c_void, flags: c_uint, device: CUdevice);
    cuCtxDestroy @ 2000 = context::destroy as (context: CUcontext);
    cuCtxDestroy_v2 @ 4000 = context::destroy as (context: CUcontext);
    cuCtxGetCurrent @ 4000 = context::get_current::<0> as (context: *mut CUcontext);
    cuCtxSetCurrent @ 4000 = context::ctx_set_current as (context: CUcontext);
    cuCtxPushCurrent @ 2000 = context::ctx_push_current as (context: CUcontext);
    cuCtxPushCurrent_v2 @ 4000 = context::ctx_push_current as (context: CUcontext);
    cuCtxPopCurrent @ 2000 = context::ctx_pop_current as (context: *mut CUcontext);
    cuCtxPopCurrent_v2 @ 4000 = context::ctx_pop_current as (context: *mut CUcontext);
    cuCtxSynchronize @ 2000 = context::synchronize as ();
    cuCtxGetDevice @ 2000 = context::get_device as (device: *mut CUdevice);
    cuProfilerStart @ 4000 = context::profiler_start as ();
    cuProfilerStop @ 4000 = context::profiler_stop as ();
    cuCtxGetId @ 12000 = context::get_id as (context: CUcontext, id: *mut c_ulonglong);
    cuCtxEnablePeerAccess @ 4000 = context::enable_peer_access as (peer: CUcontext, flags: c_uint);
    cuCtxDisablePeerAccess @ 4000 = context::disable_peer_access as (peer: CUcontext);
    cuCtxGetSharedMemConfig @ 4020 = context::get_shared_config as (config: *mut c_uint);
    cuCtxSetSharedMemConfig @ 4020 = context::set_shared_config as (config: c_uint);
    cuCtxGetApiVersion @ 3020 = context::get_api_version as (context: CUcontext, version: *mut c_uint);
    cuCtxGetFlags @ 7000 = context::get_flags as (flags: *mut c_uint);
    cuCtxSetFlags @ 12010 = context::set_flags as (flags: c_uint);
    cuCtxGetLimit @ 3010 = context::get_limit as (value: *mut usize, limit: c_uint);
    cuCtxSetLimit @ 3010 = context::set_limit as (limit: c_uint, value: usize);
    cuCtxGetCacheConfig @ 3020 = context::get_cache_config as (config: *mut c_uint);
    cuCtxSetCacheConfig @ 3020 = context::set_cache_config as (config: c_uint);
    cuCtxGetStreamPriorityRange @ 5050 = context::get_stream_priority_range
        as (least: *mut c_int, greatest: *mut c_int);

    cuMemGetInfo_v2 @ 3020 = memory::get_info as (free: *mut usize, total: *mut usize);
    cuMemAlloc_v2 @ 3020 = memory::alloc as (pointer: *mut CUdeviceptr, bytes: usize);
    cuMemAllocPitch_v2 @ 3020 = memory::alloc_pitch
        as (pointer: *mut CUdeviceptr, pitch: *mut usize, width: usize, height: usize, element: c_uint);
    cuMemFree_v2 @ 3020 = memory::free as (pointer: CUdeviceptr);
    cuMemAllocManaged @ 6000 = managed::alloc as (pointer: *mut CUdeviceptr, bytes: usize, flags: c_uint);
    cuMemPrefetchAsync / cuMemPrefetchAsync_ptsz @ 8000 = managed::prefetch
        as (pointer: CUdeviceptr, bytes: usize, device: CUdevice, stream: CUstream);
    cuMemPrefetchAsync_v2 / cuMemPrefetchAsync_v2_ptsz @ 12020 = managed::prefetch_v2
        as (pointer: CUdeviceptr, bytes: usize, place: Location, flags: c_uint, stream: CUstream);
    cuMemAdvise @ 8000 = managed::advise
        as (pointer: CUdeviceptr, bytes: usize, kind: c_uint, device: CUdevice);
    cuMemAdvise_v2 @ 12020 = managed::advise_v2
        as (pointer: CUdeviceptr, bytes: usize, kind: c_uint, place: Location);
    cuStreamAttachMemAsync / cuStreamAttachMemAsync_ptsz @ 6000 = managed::attach
        as (stream: CUstream, pointer: CUdeviceptr, bytes: usize, flags: c_uint);
    cuMemHostAlloc @ 2020 = memory::host_alloc as (pointer: *mut *mut c_void, bytes: usize, flags: c_uint);
    cuMemAllocHost_v2 @ 3020 = memory::alloc_host as (pointer: *mut *mut c_void, bytes: usize);
    cuMemFreeHost @ 2000 = memory::free_host as (pointer: *mut c_void);
    cuMemHostRegister_v2 @ 6050 = memory::host_register as (pointer: *mut c_void, bytes: usize, flags: c_uint);
    cuMemHostUnregister @ 4000 = memory::host_unregister as (pointer: *mut c_void);
    cuMemHostGetDevicePointer_v2 @ 3020 = memory::host_get_device_pointer
        as (device: *mut CUdeviceptr, host: *mut c_void, flags: c_uint);
    cuMemHostGetFlags @ 2030 = memory::host_get_flags as (flags: *mut c_uint, host: *mut c_void);
    cuMemGetAddressRange_v2 @ 3020 = memory::get_address_range
        as (base: *mut CUdeviceptr, bytes: *mut usize, pointer: CUdeviceptr);
    cuPointerGetAttribute @ 4000 = memory::pointer_get_attribute
        as (data: *mut c_void, attribute: c_uint, pointer: CUdeviceptr);

    cuPointerGetAttributes @ 7000 = memory::pointer_get_attributes
        as (n: c_uint, attributes: *const c_uint, data: *mut *mut c_void, pointer: CUdeviceptr);

    cuMemAllocAsync / cuMemAllocAsync_ptsz @ 11020 = pool::alloc_async as (pointer: *mut CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemAllocFromPoolAsync / cuMemAllocFromPoolAsync_ptsz @ 11020 = pool::alloc_from_pool_async
        as (pointer: *mut CUdeviceptr, bytes: usize, pool: CUmemoryPool, stream: CUstream);
    cuMemFreeAsync / cuMemFreeAsync_ptsz @ 11020 = pool::free_async as (pointer: CUdeviceptr, stream: CUstream);
    cuMemPoolCreate @ 11020 = pool::create as (pool: *mut CUmemoryPool, properties: *const PoolProperties);
    cuMemPoolDestroy @ 11020 = pool::destroy as (pool: CUmemoryPool);
    cuMemPoolSetAccess @ 11020 = pool::set_access
        as (pool: CUmemoryPool, list: *const AccessDescription, n: usize);
    cuMemPoolGetAccess @ 11020 = pool::get_access
        as (flags: *mut c_uint, pool: CUmemoryPool, place: *const Location);
    cuMemPoolTrimTo @ 11020 = pool::trim_to as (pool: CUmemoryPool, bytes: usize);
    cuMemPoolGetAttribute @ 11020 = pool::get_attribute
        as (pool: CUmemoryPool, attribute: c_uint, value: *mut c_void);
    cuMemPoolSetAttribute @ 11020 = pool::set_attribute
        as (pool: CUmemoryPool, attribute: c_uint, value: *mut c_void);

    cuMemcpy2D_v2 / cuMemcpy2D_v2_ptds @ 3020 = copy::memcpy_2d as (params: *const CUDA_MEMCPY2D_v2);
    cuMemcpy2DUnaligned_v2 / cuMemcpy2DUnaligned_v2_ptds @ 3020 = copy::memcpy_2d as (params: *const CUDA_MEMCPY2D_v2);
    cuMemcpy2DAsync_v2 / cuMemcpy2DAsync_v2_ptsz @ 3020 = copy::memcpy_2d_async as (params: *const CUDA_MEMCPY2D_v2, stream: CUstream);
    cuMemcpy3D_v2 / cuMemcpy3D_v2_ptds @ 3020 = copy::memcpy_3d as (params: *const CUDA_MEMCPY3D_v2);
    cuMemcpy3DAsync_v2 / cuMemcpy3DAsync_v2_ptsz @ 3020 = copy::memcpy_3d_async as (params: *const CUDA_MEMCPY3D_v2, stream: CUstream);
    cuMemcpyPeer / cuMemcpyPeer_ptds @ 4000 = copy::memcpy_peer
        as (dst: CUdeviceptr, to: CUcontext, src: CUdeviceptr, from: CUcontext, bytes: usize);
    cuMemcpyPeerAsync / cuMemcpyPeerAsync_ptsz @ 4000 = copy::memcpy_peer_async
        as (dst: CUdeviceptr, to: CUcontext, src: CUdeviceptr, from: CUcontext, bytes: usize, stream: CUstream);
    cuMemcpy / cuMemcpy_ptds @ 4000 = copy::memcpy as (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize);
    cuMemcpyAsync / cuMemcpyAsync_ptsz @ 4000 = copy::memcpy_async
        as (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyHtoD_v2 / cuMemcpyHtoD_v2_ptds @ 3020 = copy::htod_sync as (dst: CUdeviceptr, src: *const c_void, bytes: usize);
    cuMemcpyHtoDAsync_v2 / cuMemcpyHtoDAsync_v2_ptsz @ 3020 = copy::htod_async
        as (dst: CUdeviceptr, src: *const c_void, bytes: usize, stream: CUstream);
    cuMemcpyDtoH_v2 / cuMemcpyDtoH_v2_ptds @ 3020 = copy::dtoh_sync as (dst: *mut c_void, src: CUdeviceptr, bytes: usize);
    cuMemcpyDtoHAsync_v2 / cuMemcpyDtoHAsync_v2_ptsz @ 3020 = copy::dtoh_async
        as (dst: *mut c_void, src: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemcpyDtoD_v2 / cuMemcpyDtoD_v2_ptds @ 3020 = copy::dtod_sync as (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize);
    cuMemcpyDtoDAsync_v2 / cuMemcpyDtoDAsync_v2_ptsz @ 3020 = copy::dtod_async
        as (dst: CUdeviceptr, src: CUdeviceptr, bytes: usize, stream: CUstream);
    cuMemsetD8_v2 / cuMemsetD8_v2_ptds @ 3020 = copy::d8 as (dst: CUdeviceptr, value: u8, count: usize);
    cuMemsetD8Async / cuMemsetD8Async_ptsz @ 3020 = copy::d8_async as (dst: CUdeviceptr, value: u8, count: usize, stream: CUstream);
    cuMemsetD16_v2 / cuMemsetD16_v2_ptds @ 3020 = copy::d16 as (dst: CUdeviceptr, value: u16, count: usize);
    cuMemsetD16Async / cuMemsetD16Async_ptsz @ 3020 = copy::d16_async as (dst: CUdeviceptr, value: u16, count: usize, stream: CUstream);
    cuMemsetD32_v2 / cuMemsetD32_v2_ptds @ 3020 = copy::d32 as (dst: CUdeviceptr, value: c_uint, count: usize);
    cuMemsetD32Async / cuMemsetD32Async_ptsz @ 3020 = copy::d32_async as (dst: CUdeviceptr, value: c_uint, count: usize, stream: CUstream);
    cuMemsetD2D8_v2 / cuMemsetD2D8_v2_ptds @ 3020 = copy::d2d8
        as (dst: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize);
    cuMemsetD2D8Async / cuMemsetD2D8Async_ptsz @ 3020 = copy::d2d8_async
        as (dst: CUdeviceptr, pitch: usize, value: u8, width: usize, height: usize, stream: CUstream);
    cuMemsetD2D16_v2 / cuMemsetD2D16_v2_ptds @ 3020 = copy::d2d16
        as (dst: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize);
    cuMemsetD2D16Async / cuMemsetD2D16Async_ptsz @ 3020 = copy::d2d16_async
        as (dst: CUdeviceptr, pitch: usize, value: u16, width: usize, height: usize, stream: CUstream);
    cuMemsetD2D32_v2 / cuMemsetD2D32_v2_ptds @ 3020 = copy::d2d32
        as (dst: CUdeviceptr, pitch: usize, value: c_uint, width: usize, height: usize);
    cuMemsetD2D32Async / cuMemsetD2D32Async_ptsz @ 3020 = copy::d2d32_async
        as (dst: CUdeviceptr, pitch: usize, value: c_uint, width: usize, height: usize, stream: CUstream);

    cuStreamCreate @ 2000 = stream::create as (stream: *mut CUstream, flags: c_uint);
    cuStreamCreateWithPriority @ 5050 = stream::create_with_priority
        as (stream: *mut CUstream, flags: c_uint, priority: c_int);
    cuStreamDestroy @ 2000 = stream::destroy as (stream: CUstream);
    cuStreamDestroy_v2 @ 4000 = stream::destroy as (stream: CUstream);
    cuStreamSynchronize / cuStreamSynchronize_ptsz @ 2000 = stream::synchronize as (stream: CUstream);
    cuStreamQuery / cuStreamQuery_ptsz @ 2000 = stream::query as (stream: CUstream);
    cuStreamWaitEvent / cuStreamWaitEvent_ptsz @ 3020 = stream::wait_event as (stream: CUstream, event: CUevent, flags: c_uint);
    cuStreamGetPriority / cuStreamGetPriority_ptsz @ 5050 = stream::get_priority as (stream: CUstream, priority: *mut c_int);
    cuStreamGetFlags / cuStreamGetFlags_ptsz @ 5050 = stream::get_flags as (stream: CUstream, flags: *mut c_uint);
    cuStreamGetCtx / cuStreamGetCtx_ptsz @ 9020 = stream::get_context as (stream: CUstream, context: *mut CUcontext);
    cuStreamGetCtx_v2 / cuStreamGetCtx_v2_ptsz @ 12050 = stream::get_context_v2
        as (stream: CUstream, context: *mut CUcontext, green: *mut *mut c_void);
    cuStreamGetDevice / cuStreamGetDevice_ptsz @ 12080 = stream::get_device as (stream: CUstream, device: *mut CUdevice);
    cuStreamAddCallback / cuStreamAddCallback_ptsz @ 5000 = stream::add_callback
        as (stream: CUstream, function: Option<StatusFunction>, data: *mut c_void, flags: c_uint);
    cuStreamGetId / cuStreamGetId_ptsz @ 12000 = stream::get_id as (stream: CUstream, id: *mut c_ulonglong);

    cuStreamBeginCapture @ 10000 = capture::begin_capture_v1 as (stream: CUstream);
    cuStreamBeginCapture_v2 / cuStreamBeginCapture_v2_ptsz @ 10010 = capture::begin_capture as (stream: CUstream, mode: c_uint);
    cuStreamBeginCaptureToGraph / cuStreamBeginCaptureToGraph_ptsz @ 12030 = capture::begin_capture_to_graph
        as (stream: CUstream, graph: CUgraph, nodes: *const CUgraphNode, data: *const CUgraphEdgeData, n: usize,
            mode: c_uint);
    cuStreamEndCapture / cuStreamEndCapture_ptsz @ 10000 = capture::end_capture as (stream: CUstream, graph: *mut CUgraph);
    cuStreamIsCapturing / cuStreamIsCapturing_ptsz @ 10000 = capture::is_capturing as (stream: CUstream, status: *mut c_uint);
    cuStreamGetCaptureInfo @ 10010 = capture::get_info_v1
        as (stream: CUstream, status: *mut c_uint, id: *mut c_ulonglong);
    cuStreamGetCaptureInfo_v2 / cuStreamGetCaptureInfo_v2_ptsz @ 11030 = capture::get_info
        as (stream: CUstream, status: *mut c_uint, id: *mut c_ulonglong, graph: *mut CUgraph,
            nodes: *mut *const CUgraphNode, n: *mut usize);
    cuStreamGetCaptureInfo_v3 / cuStreamGetCaptureInfo_v3_ptsz @ 12030 = capture::get_info_v3
        as (stream: CUstream, status: *mut c_uint, id: *mut c_ulonglong, graph: *mut CUgraph,
            nodes: *mut *const CUgraphNode, data: *mut *const CUgraphEdgeData, n: *mut usize);
    cuStreamUpdateCaptureDependencies / cuStreamUpdateCaptureDependencies_ptsz @ 11030 = capture::update_dependencies
        as (stream: CUstream, nodes: *const CUgraphNode, n: usize, flags: c_uint);
    cuStreamUpdateCaptureDependencies_v2 / cuStreamUpdateCaptureDependencies_v2_ptsz @ 12030 = capture::update_dependencies_v2
        as (stream: CUstream, nodes: *const CUgraphNode, data: *const CUgraphEdgeData, n: usize, flags: c_uint);
    cuThreadExchangeStreamCaptureMode @ 10010 = capture::thread_exchange_mode as (mode: *mut c_uint);

    cuLaunchHostFunc / cuLaunchHostFunc_ptsz @ 10000 = stream::launch_host_function
        as (stream: CUstream, function: Option<extern "C" fn(*mut c_void)>, data: *mut c_void);

    cuEventCreate @ 2000 = event::create as (event: *mut CUevent, flags: c_uint);
    cuEventDestroy @ 2000 = event::destroy as (event: CUevent);
    cuEventDestroy_v2 @ 4000 = event::destroy as (event: CUevent);
    cuEventRecord / cuEventRecord_ptsz @ 2000 = event::record as (event: CUevent, stream: CUstream);
    cuEventRecordWithFlags / cuEventRecordWithFlags_ptsz @ 11010 = event::record_with_flags as (event: CUevent, stream: CUstream, flags: c_uint);
    cuEventQuery @ 2000 = event::query as (event: CUevent);
    cuEventSynchronize @ 2000 = event::synchronize as (event: CUevent);
    cuEventElapsedTime @ 2000 = event::elapsed_time as (milliseconds: *mut f32, start: CUevent, end: CUevent);
    cuEventElapsedTime_v2 @ 12080 = event::elapsed_time as (milliseconds: *mut f32, start: CUevent, end: CUevent);

    cuModuleLoad @ 2000 = module::load_file as (module: *mut CUmodule, path: *const c_char);
    cuModuleLoadData @ 2000 = module::load_data as (module: *mut CUmodule, image: *const c_void);
    cuModuleLoadDataEx @ 2010 = module::load_data_ex
        as (module: *mut CUmodule, image: *const c_void, n: c_uint, options: *mut c_uint, values: *mut *mut c_void);
    cuModuleLoadFatBinary @ 2000 = module::load_fat_binary as (module: *mut CUmodule, image: *const c_void);
    cuModuleUnload @ 2000 = module::unload as (module: CUmodule);
    cuModuleGetFunction @ 2000 = module::get_function
        as (function: *mut CUfunction, module: CUmodule, name: *const c_char);
    cuModuleGetFunctionCount @ 12040 = module::get_function_count as (count: *mut c_uint, module: CUmodule);
    cuModuleGetGlobal_v2 @ 3020 = module::get_global
        as (pointer: *mut CUdeviceptr, bytes: *mut usize, module: CUmodule, name: *const c_char);
    cuModuleEnumerateFunctions @ 12040 = module::enumerate_functions
        as (functions: *mut CUfunction, n: c_uint, module: CUmodule);
    cuModuleGetLoadingMode @ 11070 = module::get_loading_mode as (mode: *mut c_uint);

    cuLibraryLoadData @ 12000 = library::load_data
        as (library: *mut CUlibrary, code: *const c_void, keys: *mut c_uint, values: *mut *mut c_void, n: c_uint,
            library_keys: *mut c_uint, library_values: *mut *mut c_void, n_library: c_uint);
    cuLibraryLoadFromFile @ 12000 = library::load_from_file
        as (library: *mut CUlibrary, path: *const c_char, keys: *mut c_uint, values: *mut *mut c_void, n: c_uint,
            library_keys: *mut c_uint, library_values: *mut *mut c_void, n_library: c_uint);
    cuLibraryUnload @ 12000 = library::unload as (library: CUlibrary);
    cuLibraryGetKernel @ 12000 = library::get_kernel
        as (kernel: *mut CUkernel, library: CUlibrary, name: *const c_char);
    cuLibraryGetKernelCount @ 12040 = library::get_kernel_count as (count: *mut c_uint, library: CUlibrary);
    cuLibraryEnumerateKernels @ 12040 = library::enumerate_kernels
        as (kernels: *mut CUkernel, n: c_uint, library: CUlibrary);
    cuLibraryGetModule @ 12000 = library::get_module as (module: *mut CUmodule, library: CUlibrary);
    cuLibraryGetGlobal @ 12000 = library::get_global
        as (pointer: *mut CUdeviceptr, bytes: *mut usize, library: CUlibrary, name: *const c_char);
    cuKernelGetFunction @ 12000 = library::kernel_get_function as (function: *mut CUfunction, kernel: CUkernel);
    cuKernelGetLibrary @ 12050 = library::kernel_get_library as (library: *mut CUlibrary, kernel: CUkernel);
    cuKernelGetName @ 12030 = library::kernel_get_name as (name: *mut *const c_char, kernel: CUkernel);
    cuKernelGetParamInfo @ 12040 = library::kernel_get_param_info
        as (kernel: CUkernel, index: usize, offset: *mut usize, size: *mut usize);
    cuKernelGetAttribute @ 12000 = library::kernel_get_attribute
        as (value: *mut c_int, attribute: c_int, kernel: CUkernel, device: CUdevice);
    cuKernelSetAttribute @ 12000 = library::kernel_set_attribute
        as (attribute: c_int, value: c_int, kernel: CUkernel, device: CUdevice);
    cuKernelSetCacheConfig @ 12000 = library::kernel_set_cache_config
        as (kernel: CUkernel, config: c_uint, device: CUdevice);

    cuLinkCreate @ 5050 = link::create
        as (n: c_uint, keys: *mut c_uint, values: *mut *mut c_void, link: *mut CUlinkState);
    cuLinkCreate_v2 @ 6050 = link::create
        as (n: c_uint, keys: *mut c_uint, values: *mut *mut c_void, link: *mut CUlinkState);
    cuLinkAddData @ 5050 = link::add_data
        as (link: CUlinkState, kind: c_int, data: *mut c_void, bytes: usize, name: *const c_char, n: c_uint,
            keys: *mut c_uint, values: *mut *mut c_void);
    cuLinkAddData_v2 @ 6050 = link::add_data
        as (link: CUlinkState, kind: c_int, data: *mut c_void, bytes: usize, name: *const c_char, n: c_uint,
            keys: *mut c_uint, values: *mut *mut c_void);
    cuLinkAddFile @ 5050 = link::add_file
        as (link: CUlinkState, kind: c_int, path: *const c_char, n: c_uint, keys: *mut c_uint,
            values: *mut *mut c_void);
    cuLinkAddFile_v2 @ 6050 = link::add_file
        as (link: CUlinkState, kind: c_int, path: *const c_char, n: c_uint, keys: *mut c_uint,
            values: *mut *mut c_void);
    cuLinkComplete @ 5050 = link::complete as (link: CUlinkState, image: *mut *mut c_void, bytes: *mut usize);
    cuLinkDestroy @ 5050 = link::destroy as (link: CUlinkState);

    cuFuncGetAttribute @ 2020 = function::func_get_attribute
        as (value: *mut c_int, attribute: c_int, function: CUfunction);
    cuFuncSetAttribute @ 9000 = function::func_set_attribute
        as (function: CUfunction, attribute: c_int, value: c_int);
    cuFuncSetCacheConfig @ 3000 = function::func_set_cache_config as (function: CUfunction, config: c_uint);
    cuFuncGetModule @ 11000 = function::func_get_module as (module: *mut CUmodule, function: CUfunction);
    cuFuncGetName @ 12030 = function::func_get_name as (name: *mut *const c_char, function: CUfunction);
    cuFuncIsLoaded @ 12040 = function::func_is_loaded as (state: *mut c_uint, function: CUfunction);
    cuFuncLoad @ 12040 = function::func_load as (function: CUfunction);
    cuFuncGetParamCount @ 13020 = function::func_get_param_count as (function: CUfunction, count: *mut usize);
    cuFuncGetParamInfo @ 12040 = function::func_get_param_info
        as (function: CUfunction, index: usize, offset: *mut usize, size: *mut usize);
    cuOccupancyMaxActiveBlocksPerMultiprocessor @ 6050 = occupancy::max_active_blocks
        as (blocks: *mut c_int, function: CUfunction, threads: c_int, shared: usize);
    cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags @ 7000 = occupancy::max_active_blocks_with_flags
        as (blocks: *mut c_int, function: CUfunction, threads: c_int, shared: usize, flags: c_uint);
    cuOccupancyMaxPotentialBlockSize @ 6050 = occupancy::max_potential_block_size
        as (min_grid: *mut c_int, block: *mut c_int, function: CUfunction,
            shared_of_block: Option<extern "C" fn(c_int) -> usize>, shared: usize, limit: c_int);
    cuOccupancyMaxPotentialBlockSizeWithFlags @ 7000 = occupancy::max_potential_block_size_with_flags
        as (min_grid: *mut c_int, block: *mut c_int, function: CUfunction,
            shared_of_block: Option<extern "C" fn(c_int) -> usize>, shared: usize, limit: c_int, flags: c_uint);
    cuOccupancyAvailableDynamicSMemPerBlock @ 10020 = occupancy::available_dynamic_shared
        as (bytes: *mut usize, function: CUfunction, blocks: c_int, threads: c_int);
    cuOccupancyMaxPotentialClusterSize @ 11070 = occupancy::max_potential_cluster_size
        as (size: *mut c_int, function: CUfunction, config: *const CUlaunchConfig);
    cuOccupancyMaxActiveClusters @ 11070 = occupancy::max_active_clusters
        as (clusters: *mut c_int, function: CUfunction, config: *const CUlaunchConfig);

    cuLaunchKernel / cuLaunchKernel_ptsz @ 4000 = launch::launch_kernel
        as (function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
            block_z: c_uint, shared: c_uint, stream: CUstream, params: *mut *mut c_void, extra: *mut *mut c_void);
    cuLaunchCooperativeKernel / cuLaunchCooperativeKernel_ptsz @ 9000 = launch::launch_cooperative_kernel
        as (function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
            block_z: c_uint, shared: c_uint, stream: CUstream, params: *mut *mut c_void);
    cuLaunchKernelEx / cuLaunchKernelEx_ptsz @ 11060 = launch::launch_kernel_ex
        as (config: *const CUlaunchConfig, function: CUfunction, params: *mut *mut c_void, extra: *mut *mut c_void);

    cuGraphCreate @ 10000 = graph::create as (graph: *mut CUgraph, flags: c_uint);
    cuGraphDestroy @ 10000 = graph::destroy as (graph: CUgraph);
    cuGraphClone @ 10000 = graph::clone as (copy: *mut CUgraph, original: CUgraph);
    cuGraphAddKernelNode_v2 @ 12000 = graph::add_kernel_node
        as (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, n: usize,
            params: *const CUDA_KERNEL_NODE_PARAMS_v2);
    cuGraphKernelNodeSetAttribute @ 11000 = graph::kernel_node_set_attribute
        as (node: CUgraphNode, attribute: c_uint, value: *const CUlaunchAttributeValue);
    cuGraphAddMemcpyNode @ 10000 = graph::add_memcpy_node
        as (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, n: usize,
            params: *const CUDA_MEMCPY3D_v2, context: CUcontext);
    cuGraphAddMemsetNode @ 10000 = graph::add_memset_node
        as (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, n: usize,
            params: *const CUDA_MEMSET_NODE_PARAMS, context: CUcontext);
    cuGraphAddEmptyNode @ 10000 = graph::add_empty_node
        as (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, n: usize);
    cuGraphAddHostNode @ 10000 = graph::add_host_node
        as (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, n: usize, params: *const HostNodeParams);
    cuGraphAddChildGraphNode @ 10000 = graph::add_child_graph_node
        as (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, n: usize, child: CUgraph);
    cuGraphChildGraphNodeGetGraph @ 10000 = graph::child_graph_node_get_graph
        as (node: CUgraphNode, graph: *mut CUgraph);
    cuGraphConditionalHandleCreate @ 12030 = condition::handle_create
        as (handle: *mut CUgraphConditionalHandle, graph: CUgraph, context: CUcontext, default: c_uint, flags: c_uint);
    cuGraphAddNode_v2 @ 12030 = condition::add_node
        as (node: *mut CUgraphNode, graph: CUgraph, deps: *const CUgraphNode, data: *const CUgraphEdgeData, n: usize,
            params: *mut CUgraphNodeParams);
    cuGraphAddDependencies @ 10000 = edges::add_dependencies
        as (graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, n: usize);
    cuGraphAddDependencies_v2 @ 12030 = edges::add_dependencies_v2
        as (graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, data: *const CUgraphEdgeData, n: usize);
    cuGraphRemoveDependencies @ 10000 = edges::remove_dependencies
        as (graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, n: usize);
    cuGraphRemoveDependencies_v2 @ 12030 = edges::remove_dependencies_v2
        as (graph: CUgraph, from: *const CUgraphNode, to: *const CUgraphNode, data: *const CUgraphEdgeData, n: usize);
    cuGraphGetRootNodes @ 10000 = nodes::get_root_nodes
        as (graph: CUgraph, nodes: *mut CUgraphNode, n: *mut usize);
    cuGraphNodeGetDependencies @ 10000 = nodes::get_dependencies
        as (node: CUgraphNode, nodes: *mut CUgraphNode, n: *mut usize);
    cuGraphNodeGetDependencies_v2 @ 12030 = nodes::get_dependencies_v2
        as (node: CUgraphNode, nodes: *mut CUgraphNode, data: *mut CUgraphEdgeData, n: *mut usize);
    cuGraphNodeGetDependentNodes @ 10000 = nodes::get_dependent_nodes
        as (node: CUgraphNode, nodes: *mut CUgraphNode, n: *mut usize);
    cuGraphNodeGetDependentNodes_v2 @ 12030 = nodes::get_dependent_nodes_v2
        as (node: CUgraphNode, nodes: *mut CUgraphNode, data: *mut CUgraphEdgeData, n: *mut usize);
    cuGraphKernelNodeGetParams_v2 @ 12000 = nodes::kernel_get_params
        as (node: CUgraphNode, params: *mut CUDA_KERNEL_NODE_PARAMS_v2);
    cuGraphMemsetNodeGetParams @ 10000 = nodes::memset_get_params
        as (node: CUgraphNode, params: *mut CUDA_MEMSET_NODE_PARAMS);
    cuGraphKernelNodeSetParams_v2 @ 12000 = nodes::kernel_set_params
        as (node: CUgraphNode, params: *const CUDA_KERNEL_NODE_PARAMS_v2);
    cuGraphMemcpyNodeSetParams @ 10000 = nodes::memcpy_set_params
        as (node: CUgraphNode, params: *const CUDA_MEMCPY3D_v2);
    cuGraphMemsetNodeSetParams @ 10000 = nodes::memset_set_params
        as (node: CUgraphNode, params: *const CUDA_MEMSET_NODE_PARAMS);
    cuGraphHostNodeSetParams @ 10000 = nodes::host_set_params
        as (node: CUgraphNode, params: *const HostNodeParams);
    cuUserObjectCreate @ 11030 = user_object::create
        as (object: *mut CUuserObject, data: *mut c_void, destroy: Option<extern "C" fn(*mut c_void)>,
            count: c_uint, flags: c_uint);
    cuUserObjectRetain @ 11030 = user_object::retain as (object: CUuserObject, count: c_uint);
    cuUserObjectRelease @ 11030 = user_object::release as (object: CUuserObject, count: c_uint);
    cuGraphRetainUserObject @ 11030 = user_object::graph_retain
        as (graph: CUgraph, object: CUuserObject, count: c_uint, flags: c_uint);
    cuGraphReleaseUserObject @ 11030 = user_object::graph_release
        as (graph: CUgraph, object: CUuserObject, count: c_uint);
    cuGraphGetNodes @ 10000 = graph::get_nodes as (graph: CUgraph, nodes: *mut CUgraphNode, n: *mut usize);
    cuGraphGetEdges @ 10000 = edges::get_edges
        as (graph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, n: *mut usize);
    cuGraphGetEdges_v2 @ 12030 = edges::get_edges_v2
        as (graph: CUgraph, from: *mut CUgraphNode, to: *mut CUgraphNode, data: *mut CUgraphEdgeData, n: *mut usize);
    cuGraphNodeGetType @ 10000 = graph::node_get_type as (node: CUgraphNode, kind: *mut c_uint);
    cuGraphDestroyNode @ 10000 = graph::destroy_node as (node: CUgraphNode);
    cuGraphDebugDotPrint @ 11030 = graph::debug_dot_print as (graph: CUgraph, path: *const c_char, flags: c_uint);
    cuGraphInstantiate @ 10000 = exec::instantiate_v1
        as (exec: *mut CUgraphExec, graph: CUgraph, node: *mut CUgraphNode, log: *mut c_char, room: usize);
    cuGraphInstantiate_v2 @ 11000 = exec::instantiate_v1
        as (exec: *mut CUgraphExec, graph: CUgraph, node: *mut CUgraphNode, log: *mut c_char, room: usize);
    cuGraphInstantiateWithFlags @ 11040 = exec::instantiate_with_flags
        as (exec: *mut CUgraphExec, graph: CUgraph, flags: u64);
    cuGraphInstantiateWithParams / cuGraphInstantiateWithParams_ptsz @ 12000 = exec::instantiate_with_params
        as (exec: *mut CUgraphExec, graph: CUgraph, params: *mut CUDA_GRAPH_INSTANTIATE_PARAMS);
    cuGraphExecDestroy @ 10000 = exec::destroy as (exec: CUgraphExec);
    cuGraphUpload / cuGraphUpload_ptsz @ 11010 = exec::upload as (exec: CUgraphExec, stream: CUstream);
    cuGraphLaunch / cuGraphLaunch_ptsz @ 10000 = exec::launch as (exec: CUgraphExec, stream: CUstream);
    cuGraphExecKernelNodeSetParams_v2 @ 12000 = exec::kernel_node_set_params
        as (exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_KERNEL_NODE_PARAMS_v2);
    cuGraphExecMemcpyNodeSetParams @ 10020 = exec::memcpy_node_set_params
        as (exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_MEMCPY3D_v2, context: CUcontext);
    cuGraphExecMemsetNodeSetParams @ 10020 = exec::memset_node_set_params
        as (exec: CUgraphExec, node: CUgraphNode, params: *const CUDA_MEMSET_NODE_PARAMS, context: CUcontext);
    cuGraphExecHostNodeSetParams @ 10020 = exec::host_node_set_params
        as (exec: CUgraphExec, node: CUgraphNode, params: *const HostNodeParams);
    cuGraphExecUpdate @ 10020 = exec::update_v1
        as (exec: CUgraphExec, graph: CUgraph, node: *mut CUgraphNode, result: *mut c_uint);
    cuGraphExecUpdate_v2 @ 12000 = exec::update
        as (exec: CUgraphExec, graph: CUgraph, info: *mut CUgraphExecUpdateResultInfo);
}

macro_rules! absent {
    ($($symbol:ident)*) => {
        $(
            // Whatever the arguments are, they are not looked at: with the C calling convention the caller takes them
            // off the stack again.
            #[unsafe(no_mangle)]
            extern "C" fn $symbol() -> CUresult {
                not_supported(stringify!($symbol))
            }
        )*

        /// Entries of a driver that are exported for programs which resolve everything at once, and refuse.
        #[cfg(test)]
        static ABSENT: &[&str] = &[$(stringify!($symbol)),*];
    };
}

absent! {
    cuArray3DCreate_v2 cuArrayCreate_v2 cuArrayDestroy cuDestroyExternalMemory cuExternalMemoryGetMappedBuffer
    cuGraphAddMemAllocNode cuGetExportTable cuGraphAddMemFreeNode cuGraphAddNode cuImportExternalMemory
    cuIpcCloseMemHandle cuIpcGetEventHandle cuIpcGetMemHandle cuIpcOpenEventHandle cuIpcOpenMemHandle_v2
    cuMemAddressFree cuMemAddressReserve cuMemCreate cuMemMap cuMemRelease cuMemSetAccess cuMemUnmap
    cuModuleGetSurfRef cuModuleGetTexRef cuStreamWaitValue32_v2 cuStreamWriteValue32_v2 cuSurfObjectCreate
    cuTensorMapEncodeTiled cuTexObjectCreate
}

fn not_supported(symbol: &'static str) -> CUresult {
    let call = Name { name: symbol, detail: format_args!("") };
    on_driver(registry::default(), call, false, |_, _| Err(CUresult::ERROR_NOT_SUPPORTED))
}

/// The entry with a symbol.
pub(crate) fn with_symbol(symbol: &str) -> Option<&'static Export> {
    EXPORTS.iter().find(|export| export.symbol == symbol)
}

/// An entry that took over the name of older ones, and since when.
const RENAMED: (&str, i32, &str) = ("cuGraphInstantiate", 12_000, "cuGraphInstantiateWithFlags");

/// The newest entry under a base name that a program of a CUDA version knows.
fn with_name(name: &str, version: i32) -> Result<&'static Export, QueryResult> {
    let name = if name == RENAMED.0 && version >= RENAMED.1 { RENAMED.2 } else { name };
    let all = || EXPORTS.iter().filter(|export| base_name(export.symbol) == name);
    let newest = all().filter(|export| export.version <= version).max_by_key(|export| export.version);
    newest.ok_or(if all().next().is_some() {
        QueryResult::VersionNotSufficient
    } else {
        QueryResult::NotFound
    })
}

/// `CUdriverProcAddressQueryResult`.
#[derive(Clone, Copy)]
enum QueryResult {
    NotFound = 1,
    VersionNotSufficient = 2,
}

/// Flag of `cuGetProcAddress`: variants for per-thread default streams, where there are any.
const PER_THREAD_DEFAULT_STREAM: u64 = 2;
const KNOWN_FLAGS: u64 = CU_GET_PROC_ADDRESS_LEGACY_STREAM | PER_THREAD_DEFAULT_STREAM;

fn look_up(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    version: c_int,
    flags: u64,
) -> Result<Option<QueryResult>, CUresult> {
    if symbol.is_null() || pfn.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if flags & !KNOWN_FLAGS != 0 {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let driver = registry::default().map_or(0, |sim| sim.config.cuda_version);
    // SAFETY: the program passes a string that ends with a NUL.
    let name = unsafe { CStr::from_ptr(symbol) }.to_string_lossy();
    let found = with_name(&name, version.min(driver));
    let of_thread = flags & PER_THREAD_DEFAULT_STREAM != 0;
    let pointer = found.ok().and_then(|export| {
        let variant = export.per_thread.filter(|_| of_thread);
        variant.unwrap_or(export.function).get()
    });
    put(pfn, pointer.map_or(std::ptr::null_mut(), NonNull::as_ptr))?;
    Ok(found.err())
}

unsafe extern "C" fn get_proc_address(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    version: c_int,
    flags: u64,
) -> CUresult {
    match look_up(symbol, pfn, version, flags) {
        Ok(None) => CUresult::SUCCESS,
        Ok(Some(_)) => CUresult::ERROR_NOT_FOUND,
        Err(code) => code,
    }
}

unsafe extern "C" fn get_proc_address_v2(
    symbol: *const c_char,
    pfn: *mut *mut c_void,
    version: c_int,
    flags: u64,
    status: *mut c_int,
) -> CUresult {
    match look_up(symbol, pfn, version, flags) {
        Ok(missing) => {
            crate::call::put_if(status, missing.map_or(0, |missing| missing as c_int));
            CUresult::SUCCESS
        }
        Err(code) => code,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_entry_of_the_binding_is_there_with_its_version() {
        for entry in ENTRIES {
            let export = with_symbol(entry.symbol_name()).unwrap_or_else(|| panic!("{entry:?}"));
            assert_eq!(export.version, entry.version, "{entry:?}");
            let Ok(found) = with_name(entry.name, entry.version) else { panic!("{entry:?}") };
            assert_eq!(found.symbol, entry.symbol_name());
        }
    }

    #[test]
    fn names_are_unique_and_nothing_is_both_there_and_absent() {
        let names: BTreeSet<_> = EXPORTS.iter().map(|export| export.symbol).collect();
        assert_eq!(names.len(), EXPORTS.len());
        assert!(ABSENT.iter().all(|symbol| !names.contains(symbol) && with_symbol(symbol).is_none()));
    }

    #[test]
    fn older_programs_get_older_signatures() {
        let symbol = |version| with_name("cuGraphAddDependencies", version).map(|e| e.symbol).ok();
        assert_eq!(symbol(12_000), Some("cuGraphAddDependencies"));
        assert_eq!(symbol(13_000), Some("cuGraphAddDependencies_v2"));
        assert_eq!(symbol(9_000), None);
        assert!(matches!(with_name("cuMemAlloc", 2000), Err(QueryResult::VersionNotSufficient)));
        assert!(matches!(with_name("cuNoSuch", 13_000), Err(QueryResult::NotFound)));
    }
}
