//! Streams and events: order, idleness, time.

use std::sync::Arc;

use gpu_driver::sys::{CUresult, CUstream};
use gpu_driver::{DeviceBuffer, DevicePtr, Event, EventKind, KernelArgs, LaunchConfig, SharedPinned, Stream};
use gpu_driver_sim::SimConfig;

use crate::support::Gpu;

#[test]
fn work_is_pending_until_somebody_waits() {
    let gpu = Gpu::new();
    let mut buffer = DeviceBuffer::<u32>::uninit(&gpu.context, 4).unwrap();
    gpu.stream.fill(&mut buffer.as_slice_mut(), 1u32).unwrap();
    let event = gpu.stream.record(EventKind::Ordering).unwrap();
    assert!(!gpu.stream.is_idle().unwrap() && !event.is_complete().unwrap());
    event.synchronize().unwrap();
    assert!(event.is_complete().unwrap() && gpu.stream.is_idle().unwrap());
    drop((buffer, event));
    gpu.finish();
}

#[test]
fn asking_again_and_again_gets_there() {
    let gpu = Gpu::new();
    let mut buffer = DeviceBuffer::<u32>::uninit(&gpu.context, 4).unwrap();
    for value in 0..10u32 {
        gpu.stream.fill(&mut buffer.as_slice_mut(), value).unwrap();
    }
    let asked = (1..).find(|_| gpu.stream.is_idle().unwrap()).unwrap();
    assert!((2..=20).contains(&asked), "{asked}");
    drop(buffer);
    gpu.finish();
}

/// A kernel that waits for the host does not stop the host.
#[test]
fn a_kernel_may_wait_for_what_the_host_does_next() {
    let gpu = Gpu::new();
    let flag = Arc::new(SharedPinned::<u32>::zeroed(&gpu.context, 1).unwrap());
    let spin = gpu.function("spin");
    let args = KernelArgs::from_pointers([flag.device_ptr().unwrap()]);
    // SAFETY: the kernel reads one word, which outlives it.
    unsafe { spin.launch(&gpu.stream, &LaunchConfig::new(1, 1), &args) }.unwrap();
    assert!(!gpu.stream.is_idle().unwrap());
    assert!(!gpu.stream.is_idle().unwrap());
    flag.write(0, 1).unwrap();
    gpu.stream.synchronize().unwrap();
    drop((flag, spin));
    gpu.finish();
}

#[test]
fn events_have_simulated_times() {
    let gpu = Gpu::new();
    let mut buffer = DeviceBuffer::<u8>::uninit(&gpu.context, 1 << 20).unwrap();
    let start = gpu.stream.record(EventKind::Timing).unwrap();
    gpu.stream.memset(&mut buffer.as_slice_mut(), 1).unwrap();
    let middle = gpu.stream.record(EventKind::Timing).unwrap();
    let back = gpu.stream.read_to_vec(&buffer.as_slice()).unwrap();
    let end = gpu.stream.record(EventKind::Timing).unwrap();
    let untimed = gpu.stream.record(EventKind::Ordering).unwrap();
    let unrecorded = Event::new(&gpu.context, EventKind::Timing).unwrap();
    assert_eq!(back.len(), 1 << 20);
    assert_eq!(end.elapsed_ms(&start).unwrap_err().code(), Some(CUresult::ERROR_NOT_READY));
    gpu.stream.synchronize().unwrap();
    let (fill, all) = (middle.elapsed_ms(&start).unwrap(), end.elapsed_ms(&start).unwrap());
    assert!(fill > 0.0 && all > fill, "{fill} {all}");
    assert_eq!(start.elapsed_ms(&end).unwrap(), -all);
    assert!(untimed.elapsed_ms(&start).is_err() && unrecorded.elapsed_ms(&start).is_err());
    assert!(unrecorded.is_complete().unwrap());
    drop((buffer, start, middle, end, untimed, unrecorded));
    gpu.finish();
}

#[test]
fn slow_copies_take_longer_and_come_last() {
    let time = |slow_copies| {
        let gpu = Gpu::with(SimConfig { slow_copies, ..SimConfig::default() });
        let mut buffer = DeviceBuffer::<u8>::uninit(&gpu.context, 1 << 20).unwrap();
        let start = gpu.stream.record(EventKind::Timing).unwrap();
        gpu.stream.memset(&mut buffer.as_slice_mut(), 1).unwrap();
        let end = gpu.stream.record(EventKind::Timing).unwrap();
        end.synchronize().unwrap();
        end.elapsed_ms(&start).unwrap()
    };
    let (usual, slow) = (time(None), time(Some(100)));
    assert!(slow > 20.0 * usual, "{usual} {slow}");
}

/// One writer and one reader on two streams; which of them comes first?
fn legacy(seed: u64, first_blocks: bool, on_default: bool) -> u32 {
    let gpu = Gpu::seeded(seed);
    gpu.context.make_current().unwrap();
    let table = gpu.driver.table();
    let mut other = CUstream::NULL;
    let flags = u32::from(!first_blocks);
    let pinned = Arc::new(SharedPinned::<u32>::zeroed(&gpu.context, 1).unwrap());
    let buffer = DeviceBuffer::from_slice(&gpu.stream, &[1u32]).unwrap();
    let DevicePtr(at) = buffer.device_ptr();
    let host = pinned.device_ptr().unwrap().0;
    // SAFETY: handles are alive, the context is current, and ranges are inside their buffers, which outlive the wait.
    let value = unsafe {
        assert_eq!((table.stream_create_with_priority)(&mut other, flags, 0), CUresult::SUCCESS);
        let (writer, reader) = if on_default { (CUstream::NULL, other) } else { (other, CUstream::NULL) };
        assert_eq!((table.memset_d32_async)(at, 2, 1, writer), CUresult::SUCCESS);
        let read =
            (table.memcpy_dtoh_async)(std::ptr::with_exposed_provenance_mut(host as usize), at, 4, reader);
        assert_eq!(read, CUresult::SUCCESS);
        assert_eq!((table.ctx_synchronize)(), CUresult::SUCCESS);
        assert_eq!((table.stream_destroy)(other), CUresult::SUCCESS);
        pinned.read(0).unwrap()
    };
    drop((buffer, pinned));
    gpu.finish();
    value
}

#[test]
fn the_default_stream_is_ordered_with_blocking_streams_only() {
    for on_default in [true, false] {
        assert!((0..16).all(|seed| legacy(seed, true, on_default) == 2), "blocking");
        let read: Vec<_> = (0..16).map(|seed| legacy(seed, false, on_default)).collect();
        assert!(read.contains(&1) && read.contains(&2), "non-blocking: {read:?}");
    }
}

#[test]
fn a_destroyed_stream_finishes_its_work() {
    let gpu = Gpu::new();
    let mut buffer = DeviceBuffer::<u32>::uninit(&gpu.context, 4).unwrap();
    let other = Stream::new(&gpu.context).unwrap();
    other.fill(&mut buffer.as_slice_mut(), 9u32).unwrap();
    drop(other);
    gpu.context.synchronize().unwrap();
    assert_eq!(gpu.stream.read_to_vec(&buffer.as_slice()).unwrap(), [9; 4]);
    drop(buffer);
    gpu.finish();
}

#[test]
fn priorities_are_clamped() {
    let gpu = Gpu::new();
    assert_eq!(Stream::priority_range(&gpu.context).unwrap(), (0, -5));
    assert_eq!(Stream::with_priority(&gpu.context, -100).unwrap().priority().unwrap(), -5);
    gpu.finish();
}
