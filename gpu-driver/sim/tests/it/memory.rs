//! Memory: device, pinned, registered, pooled; limits and leaks.

use std::sync::Arc;

use gpu_driver::sys::CUresult;
use gpu_driver::{Context, DeviceBuffer, PinnedBuffer, SharedPinned, Stream};
use gpu_driver_sim::{ObjectKind, SimConfig};

use crate::support::Gpu;

#[test]
fn bytes_go_there_and_back() {
    let gpu = Gpu::new();
    let data: Vec<u32> = (0..1000).collect();
    let a = DeviceBuffer::from_slice(&gpu.stream, &data).unwrap();
    let mut b = DeviceBuffer::<u32>::uninit(&gpu.context, 1000).unwrap();
    gpu.stream.copy_on_device(&mut b.slice_mut(10..20).unwrap(), &a.slice(500..510).unwrap()).unwrap();
    gpu.stream.fill(&mut b.slice_mut(0..10).unwrap(), 7u32).unwrap();
    gpu.stream.memset(&mut b.slice_mut(20..21).unwrap(), 0xab).unwrap();
    let back = gpu.stream.read_to_vec(&b.slice(0..21).unwrap()).unwrap();
    assert_eq!(back[..10], [7; 10]);
    assert_eq!(back[10..20], data[500..510]);
    assert_eq!(back[20], 0xabab_abab);
    assert!(!gpu.sim.is_initialised(b.device_ptr().0 + 84, 4));
    drop((a, b));
    gpu.finish();
}

#[test]
fn pinned_memory_is_read_when_the_copy_runs_and_pageable_when_it_is_queued() {
    let gpu = Gpu::new();
    let shared = Arc::new(SharedPinned::<u32>::zeroed(&gpu.context, 1).unwrap());
    let mut device = DeviceBuffer::<u32>::uninit(&gpu.context, 1).unwrap();
    shared.write(0, 1).unwrap();
    gpu.stream.copy_from_shared(&mut device.as_slice_mut(), &shared, 0..1).unwrap();
    shared.write(0, 2).unwrap();
    assert_eq!(
        gpu.stream.read_to_vec(&device.as_slice()).unwrap(),
        [2],
        "the write came before the copy ran"
    );

    let table = gpu.driver.table();
    let mut pageable = 3u32;
    // SAFETY: the buffer has four bytes, the handles are alive, and pageable memory is copied at once.
    let queued = unsafe {
        let source = (&raw const pageable).cast();
        (table.memcpy_htod_async)(device.device_ptr().0, source, 4, gpu.stream.handle())
    };
    assert_eq!(queued, CUresult::SUCCESS);
    pageable = 4;
    assert_eq!(gpu.stream.read_to_vec(&device.as_slice()).unwrap(), [3]);
    assert_eq!(pageable, 4);
    drop((shared, device));
    gpu.finish();
}

#[test]
fn pinned_memory_has_its_own_address_on_the_device() {
    let gpu = Gpu::new();
    let mut pinned = PinnedBuffer::<u32>::from_slice(&gpu.context, &[1, 2, 3, 4]).unwrap();
    pinned[1] = 20;
    let function = gpu.function("triple");
    let shared = Arc::new(pinned.into_shared());
    let args = gpu_driver::KernelArgs::from_pointers([shared.device_ptr().unwrap()]);
    // SAFETY: the kernel reads and writes four words of the buffer, which outlives the synchronisation.
    unsafe { function.launch(&gpu.stream, &gpu_driver::LaunchConfig::new(1, 4), &args) }.unwrap();
    gpu.stream.synchronize().unwrap();
    let mut words = [0; 4];
    shared.read_range(0, &mut words).unwrap();
    assert_eq!(words, [3, 60, 9, 12]);
    drop((shared, function));
    gpu.finish();
}

#[test]
fn memory_runs_out_at_the_limit_and_comes_back() {
    let gpu = Gpu::with(SimConfig { memory_limit: Some(10_000), ..SimConfig::default() });
    assert_eq!(gpu.context.memory_info().unwrap().total, 10_000);
    let first = DeviceBuffer::<u8>::uninit(&gpu.context, 6000).unwrap();
    let error = DeviceBuffer::<u8>::uninit(&gpu.context, 4001).unwrap_err();
    assert_eq!(error.code(), Some(CUresult::ERROR_OUT_OF_MEMORY));
    assert!(error.to_string().contains("cuMemAlloc"), "{error}");
    assert_eq!(gpu.context.memory_info().unwrap().free, 4000);
    drop(first);
    assert_eq!(gpu.context.memory_info().unwrap().free, 10_000);
    drop(DeviceBuffer::<u8>::uninit(&gpu.context, 10_000).unwrap());
    assert_eq!(gpu.sim.report().peak_memory, 10_000);
    gpu.finish();
}

#[test]
fn what_is_left_at_the_end_of_a_context_is_a_leak() {
    let gpu = Gpu::new();
    let (sim, driver) = (gpu.sim.clone(), gpu.driver.clone());
    drop(gpu);
    let context = driver.context(0).unwrap();
    context.make_current().unwrap();
    let mut address = 0;
    // SAFETY: the address goes to a local; the context is current.
    assert_eq!(unsafe { (driver.table().mem_alloc)(&mut address, 100) }, CUresult::SUCCESS);
    assert_eq!(sim.live().len(), 2, "memory and the context: {:?}", sim.live());
    assert!(sim.report().leaks.is_empty());
    drop(context);
    let report = sim.report();
    let [leak] = &report.leaks[..] else { panic!("{report}") };
    assert_eq!((leak.kind, leak.address, leak.bytes), (ObjectKind::DeviceMemory, address, 100));
    assert!(report.to_string().contains("leak: device memory"), "{report}");
    assert!(report.live.is_empty());
}

#[test]
fn freeing_what_is_not_allocated_is_refused() {
    let gpu = Gpu::new();
    gpu.context.make_current().unwrap();
    let buffer = DeviceBuffer::<u32>::uninit(&gpu.context, 4).unwrap();
    let free = gpu.driver.table().mem_free;
    // SAFETY: neither address is the base of an allocation, which the driver checks.
    let codes = unsafe { [free(buffer.device_ptr().0 + 4), free(0x1234), free(0)] };
    assert_eq!(codes, [CUresult::ERROR_INVALID_VALUE, CUresult::ERROR_INVALID_VALUE, CUresult::SUCCESS]);
    drop(buffer);
    gpu.finish();
}

#[test]
fn copies_outside_of_memory_are_refused_when_they_are_queued() {
    let gpu = Gpu::new();
    gpu.context.make_current().unwrap();
    let buffer = DeviceBuffer::<u32>::uninit(&gpu.context, 4).unwrap();
    let table = gpu.driver.table();
    let data = [0u32; 5];
    let stream = gpu.stream.handle();
    let at = buffer.device_ptr().0;
    // SAFETY: the host side has the bytes; the device side is checked by the driver.
    let codes = unsafe {
        [
            (table.memcpy_htod_async)(at, data.as_ptr().cast(), 20, stream),
            (table.memcpy_htod_async)(at + 12, data.as_ptr().cast(), 4, stream),
            (table.memset_d8_async)(at + 15, 1, 2, stream),
            (table.memset_d32_async)(at + 2, 1, 1, stream),
            (table.memcpy_dtod_async)(at, at + (1 << 40), 4, stream),
        ]
    };
    let invalid = CUresult::ERROR_INVALID_VALUE;
    assert_eq!(codes, [invalid, CUresult::SUCCESS, invalid, invalid, invalid]);
    drop(buffer);
    gpu.finish();
}

#[test]
fn work_that_still_uses_freed_memory_finds_it_freed_where_freeing_does_not_wait() {
    for free_waits in [true, false] {
        let gpu = Gpu::with(SimConfig { free_waits, ..SimConfig::default() });
        gpu.context.make_current().unwrap();
        let function = gpu.function("triple");
        let mut address = 0;
        let table = gpu.driver.table();
        // SAFETY: the context is current, and results go to locals. The free comes too early on purpose.
        unsafe {
            assert_eq!((table.mem_alloc)(&mut address, 16), CUresult::SUCCESS);
            assert_eq!((table.memset_d8_async)(address, 1, 16, gpu.stream.handle()), CUresult::SUCCESS);
            let args = gpu_driver::KernelArgs::from_pointers([gpu_driver::DevicePtr(address)]);
            function.launch(&gpu.stream, &gpu_driver::LaunchConfig::new(1, 4), &args).unwrap();
            assert_eq!((table.mem_free)(address), CUresult::SUCCESS);
        }
        let waited = gpu.stream.synchronize();
        assert_eq!(waited.is_ok(), free_waits, "{waited:?}");
        if !free_waits {
            assert_eq!(waited.unwrap_err().code(), Some(CUresult::ERROR_ILLEGAL_ADDRESS));
        }
    }
}

/// Memory on several streams from several threads.
#[test]
fn any_thread_may_use_the_driver() {
    let gpu = Gpu::new();
    std::thread::scope(|scope| {
        for i in 0..4u32 {
            let context: Context = gpu.context.clone();
            scope.spawn(move || {
                let stream = Stream::new(&context).unwrap();
                for round in 0..20 {
                    let data = [i, round, i * round];
                    let buffer = DeviceBuffer::from_slice(&stream, &data).unwrap();
                    assert_eq!(stream.read_to_vec(&buffer.as_slice()).unwrap(), data);
                }
            });
        }
    });
    gpu.finish();
}
