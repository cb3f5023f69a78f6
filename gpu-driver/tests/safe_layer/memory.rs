//! Buffers, slices, copies, fills.

use crate::Fixture;
use gpu_driver::sys::CUresult;
use gpu_driver::{DeviceBuffer, DevicePtr, DriverError, KernelArgs, PinnedBuffer, SharedPinned};
use std::sync::Arc;

#[test]
fn data_survives_the_round_trip() {
    let f = Fixture::new();
    let data: Vec<f32> = (0..1000).map(|i| i as f32).collect();
    let buffer = DeviceBuffer::from_slice(&f.stream, &data).expect("a buffer");
    assert_eq!((buffer.len(), buffer.byte_len()), (1000, 4000));
    assert_eq!(f.stream.read_to_vec(&buffer.as_slice()).expect("a copy"), data);
    assert_eq!(f.stream.read_to_vec(&buffer.slice(990..).expect("a slice")).expect("a copy"), data[990..]);
}

#[test]
fn copies_with_borrowed_memory_wait_and_copies_on_the_device_do_not() {
    let f = Fixture::new();
    let mut a = DeviceBuffer::from_slice(&f.stream, &[1u16, 2, 3]).expect("a buffer");
    assert_eq!(f.double.calls("cuStreamSynchronize").len(), 1);
    let mut b = DeviceBuffer::<u16>::zeroed(&f.stream, 3).expect("a buffer");
    f.double.forget_calls();
    f.stream.copy_on_device(&mut b.as_slice_mut(), &a.as_slice()).expect("a copy");
    f.stream.memset(&mut a.as_slice_mut(), 7).expect("a fill");
    assert!(f.double.calls("cuStreamSynchronize").is_empty());
    assert_eq!(f.stream.read_to_vec(&b.as_slice()).expect("a copy"), [1, 2, 3]);
    assert_eq!(f.stream.read_to_vec(&a.as_slice()).expect("a copy"), [0x0707; 3]);
}

#[test]
fn memset_counts_bytes_and_fill_counts_words() {
    let f = Fixture::new();
    let mut buffer = DeviceBuffer::<f32>::uninit(&f.context, 10).expect("a buffer");
    f.stream.memset(&mut buffer.as_slice_mut(), 1).expect("a fill");
    f.stream.fill(&mut buffer.slice_mut(2..5).expect("a slice"), -1.5).expect("a fill");
    assert_eq!(f.double.calls("cuMemsetD8Async"), ["cuMemsetD8Async(1, 40)"]);
    assert_eq!(f.double.calls("cuMemsetD32Async"), [format!("cuMemsetD32Async({}, 3)", (-1.5f32).to_bits())]);
    let ones = f32::from_bits(0x0101_0101);
    let expected = [ones, ones, -1.5, -1.5, -1.5, ones, ones, ones, ones, ones];
    assert_eq!(f.stream.read_to_vec(&buffer.as_slice()).expect("a copy"), expected);
}

#[test]
fn sizes_beyond_4_gib_reach_the_driver_whole() {
    let f = Fixture::new();
    let len = (6usize << 30) / 4 + 3;
    let mut a = DeviceBuffer::<f32>::uninit(&f.context, len).expect("a buffer");
    let b = DeviceBuffer::<f32>::uninit(&f.context, len).expect("a buffer");
    assert_eq!(f.double.calls("cuMemAlloc"), ["cuMemAlloc(6442450956)", "cuMemAlloc(6442450956)"]);
    f.stream.memset(&mut a.as_slice_mut(), 0).expect("a fill");
    assert_eq!(f.double.calls("cuMemsetD8Async"), ["cuMemsetD8Async(0, 6442450956)"]);
    f.stream.copy_on_device(&mut a.as_slice_mut(), &b.as_slice()).expect("a copy");
    assert_eq!(f.double.calls("cuMemcpyDtoDAsync"), ["cuMemcpyDtoDAsync(6442450956)"]);
    let tail = a.slice(len - 3..).expect("a slice");
    assert_eq!(tail.device_ptr().0 - a.device_ptr().0, 6 << 30);
    let base = a.device_ptr().0;
    let (_, right) = a.as_slice_mut().split_at(len - 1).expect("a split");
    assert_eq!(right.device_ptr().0 - base, (6 << 30) + 8);
}

#[test]
fn sizes_beyond_the_address_space_are_refused_before_the_driver_is_asked() {
    let f = Fixture::new();
    let error = DeviceBuffer::<u64>::uninit(&f.context, usize::MAX / 4).expect_err("a buffer");
    assert!(matches!(error, DriverError::TooLarge { size: 8, .. }), "{error}");
    let error = PinnedBuffer::<u64>::zeroed(&f.context, usize::MAX / 4).expect_err("a buffer");
    assert!(matches!(error, DriverError::TooLarge { .. }), "{error}");
    assert!(f.double.calls("cuMem").is_empty());
}

#[test]
fn empty_buffers_own_nothing_and_copy_nothing() {
    let f = Fixture::new();
    let mut empty = DeviceBuffer::<u32>::zeroed(&f.stream, 0).expect("a buffer");
    assert!(empty.is_empty() && empty.device_ptr().is_null());
    f.stream.copy_to_device(&mut empty.as_slice_mut(), &[]).expect("a copy");
    assert!(f.stream.read_to_vec(&empty.as_slice()).expect("a copy").is_empty());
    let pinned = PinnedBuffer::<u32>::zeroed(&f.context, 0).expect("a buffer");
    assert!(pinned.is_empty());
    drop((empty, pinned));
    assert!(f.double.calls("cuMem").is_empty(), "{:?}", f.double.calls("cuMem"));
}

#[test]
fn elements_without_bytes_are_not_copied() {
    let f = Fixture::new();
    let from = DeviceBuffer::<()>::from_slice(&f.stream, &[(); 3]).expect("a buffer");
    let mut to = DeviceBuffer::<()>::zeroed(&f.stream, 3).expect("a buffer");
    f.stream.copy_on_device(&mut to.as_slice_mut(), &from.as_slice()).expect("a copy");
    assert_eq!(f.stream.read_to_vec(&to.as_slice()).expect("a copy"), [(); 3]);
    let pinned = PinnedBuffer::zeroed(&f.context, 3).expect("a buffer");
    let pending = f.stream.copy_to_host_async(pinned, &from.as_slice()).expect("a copy");
    let pinned = Arc::new(pending.wait().expect("the buffer"));
    f.stream.copy_to_device_async(&mut to.as_slice_mut(), &pinned, ..).expect("a copy");
    let shared = Arc::new(SharedPinned::zeroed(&f.context, 3).expect("a buffer"));
    f.stream.copy_from_shared(&mut to.as_slice_mut(), &shared, ..).expect("a copy");
    f.stream.copy_to_shared(&shared, .., &to.as_slice()).expect("a copy");
    assert!(f.double.calls("cuMem").is_empty(), "{:?}", f.double.calls("cuMem"));
    f.stream.copy_on_device(&mut to.slice_mut(1..).expect("a slice"), &from.as_slice()).expect_err("lengths");
}

#[test]
fn slices_are_checked_against_their_parents() {
    let f = Fixture::new();
    let mut buffer = DeviceBuffer::<u32>::uninit(&f.context, 8).expect("a buffer");
    let base = buffer.device_ptr();
    let error = buffer.slice(3..9).expect_err("a slice");
    assert_eq!(error.to_string(), "device slice: elements 3..9 of a buffer of 8");
    assert!(buffer.slice(9..).is_err() && buffer.slice_mut(..=8).is_err());
    let part = buffer.slice(2..6).expect("a slice");
    assert_eq!((part.len(), part.device_ptr()), (4, base.byte_add(8)));
    assert!(part.slice(1..5).is_err(), "a slice must not grow back into its parent");
    let (left, right) = part.split_at(1).expect("a split");
    assert_eq!((left.len(), right.len(), right.device_ptr()), (1, 3, base.byte_add(12)));
    let (left, mut right) = buffer.as_slice_mut().split_at(5).expect("a split");
    assert_eq!((left.len(), right.len(), right.device_ptr()), (5, 3, base.byte_add(20)));
    assert_eq!(right.reborrow().slice(1..).expect("a slice").len(), 2);
    assert!(right.split_at(4).is_err());
}

#[test]
fn memory_is_an_argument_however_it_is_held() {
    let f = Fixture::new();
    let mut buffer = DeviceBuffer::<u32>::uninit(&f.context, 8).expect("a buffer");
    let base = buffer.device_ptr();
    let mut args = KernelArgs::new().with(&buffer).with(&mut buffer);
    let borrowed = &buffer.as_slice();
    args.push(borrowed).push(*borrowed);
    let mut slice = buffer.as_slice_mut();
    args.push(&slice).push(&mut slice).push(slice);
    args.push(&Arc::new(buffer));
    assert_eq!(args, KernelArgs::from_pointers([base; 8]));
}

#[test]
fn casts_check_size_and_alignment() {
    let f = Fixture::new();
    let bytes = DeviceBuffer::<u8>::uninit(&f.context, 17).expect("a buffer");
    let words = bytes.slice(..16).and_then(|s| s.cast::<u32>()).expect("a cast");
    assert_eq!(words.len(), 4);
    assert!(matches!(bytes.as_slice().cast::<u32>(), Err(DriverError::BadCast { bytes: 17, size: 4, .. })));
    let odd = bytes.slice(1..17).expect("a slice");
    assert!(matches!(odd.cast::<u32>(), Err(DriverError::BadCast { align: 4, .. })));
}

#[test]
fn lengths_of_copies_must_agree() {
    let f = Fixture::new();
    let mut buffer = DeviceBuffer::<u32>::uninit(&f.context, 4).expect("a buffer");
    let error = f.stream.copy_to_device(&mut buffer.as_slice_mut(), &[1, 2, 3]).expect_err("a copy");
    assert_eq!(error.to_string(), "copy to device: destination has 4 elements, source has 3");
    assert!(f.stream.copy_to_host(&mut [0; 5], &buffer.as_slice()).is_err());
    assert!(f.double.calls("cuMemcpy").is_empty());
}

#[test]
fn a_failed_copy_returns_when_nothing_uses_the_borrowed_memory() {
    let f = Fixture::new();
    let mut buffer = DeviceBuffer::<u32>::uninit(&f.context, 4).expect("a buffer");
    let failures = ["cuMemcpyHtoDAsync", "cuStreamSynchronize", "cuCtxGetCurrent"];
    for name in failures {
        f.double.state().busy = true;
        f.double.fail(name, [CUresult::ERROR_LAUNCH_OUT_OF_RESOURCES]);
        f.stream.copy_to_device(&mut buffer.as_slice_mut(), &[1; 4]).expect_err("a failing copy");
        assert!(!f.double.state().busy, "{name}: it was waited for");
    }
    f.double.state().busy = true;
    f.double.fail("cuStreamSynchronize", [CUresult::ERROR_LAUNCH_OUT_OF_RESOURCES]);
    let error = f.stream.copy_to_host(&mut [0; 4], &buffer.as_slice()).expect_err("a failing copy");
    assert_eq!(error.code(), Some(CUresult::ERROR_LAUNCH_OUT_OF_RESOURCES));
    assert!(!f.double.state().busy && f.context.poison().is_none());
}

#[test]
fn a_context_that_cannot_be_waited_for_after_a_copy_is_poisoned() {
    let f = Fixture::new();
    let buffer = DeviceBuffer::<u32>::zeroed(&f.stream, 4).expect("a buffer");
    f.double.fail("cuStreamSynchronize", [CUresult::ERROR_LAUNCH_OUT_OF_RESOURCES]);
    f.double.fail("cuCtxSynchronize", [CUresult::ERROR_UNKNOWN]);
    let error = f.stream.read_to_vec(&buffer.as_slice()).expect_err("a failing copy");
    assert_eq!(error.code(), Some(CUresult::ERROR_LAUNCH_OUT_OF_RESOURCES));
    assert_eq!(f.context.poison().map(|p| p.call()), Some("cuCtxSynchronize"));
    assert!(matches!(f.stream.synchronize(), Err(DriverError::Poisoned { .. })));
    f.double.forget_calls();
    drop(buffer);
    assert_eq!(f.double.calls("cuCtxSynchronize").len(), 1, "work may be left that uses it");
}

#[test]
fn failed_allocations_leave_nothing_behind() {
    let f = Fixture::new();
    f.double.fail("cuMemsetD8Async", [CUresult::ERROR_INVALID_VALUE]);
    DeviceBuffer::<u32>::zeroed(&f.stream, 4).expect_err("a failing fill");
    f.double.fail("cuMemcpyHtoDAsync", [CUresult::ERROR_INVALID_VALUE]);
    DeviceBuffer::from_slice(&f.stream, &[1u32]).expect_err("a failing copy");
    assert_eq!(f.double.live()[0], 0);
}

#[test]
fn freeing_waits_for_queued_work_first() {
    let f = Fixture::new();
    let buffer = DeviceBuffer::<u32>::uninit(&f.context, 4).expect("a buffer");
    let pinned = SharedPinned::<u32>::zeroed(&f.context, 4).expect("a buffer");
    f.double.forget_calls();
    drop(buffer);
    drop(pinned);
    let calls: Vec<_> =
        f.double.calls("").into_iter().filter(|c| !c.starts_with("cuCtxGetCurrent")).collect();
    assert_eq!(calls, ["cuCtxSynchronize()", "cuMemFree()", "cuCtxSynchronize()", "cuMemFreeHost()"]);
}

#[test]
fn pinned_memory_that_cannot_be_waited_for_is_not_freed() {
    let f = Fixture::new();
    let pinned = PinnedBuffer::from_slice(&f.context, &[1u8; 64]).expect("a buffer");
    f.double.fail("cuCtxSynchronize", [CUresult::ERROR_INVALID_CONTEXT; 2]);
    drop(pinned);
    assert!(f.double.calls("cuMemFreeHost").is_empty());
    assert_eq!(f.context.take_drop_errors()[0].origin, "pinned memory of 64 bytes");
}

#[test]
fn a_wait_that_fails_once_is_recorded_and_made_again() {
    let f = Fixture::new();
    let pinned = PinnedBuffer::from_slice(&f.context, &[1u8; 64]).expect("a buffer");
    f.double.fail("cuCtxSynchronize", [CUresult::ERROR_UNKNOWN]);
    drop(pinned);
    assert_eq!(f.double.calls("cuMemFreeHost").len(), 1);
    assert_eq!(f.context.take_drop_errors()[0].origin, "waiting for the context");
}

#[test]
fn what_is_current_does_not_matter_to_a_destructor() {
    let f = Fixture::new();
    let buffer = DeviceBuffer::<u32>::uninit(&f.context, 4).expect("a buffer");
    f.double.fail("cuCtxGetCurrent", [CUresult::ERROR_UNKNOWN]);
    drop(buffer);
    assert_eq!(f.double.live()[0], 0);
    assert_eq!(f.context.take_drop_errors().len(), 1);
}

#[test]
fn pinned_buffers_start_at_zero_and_are_slices() {
    let f = Fixture::new();
    let mut pinned = PinnedBuffer::<u32>::zeroed(&f.context, 100).expect("a buffer");
    assert_eq!(&pinned[..], [0; 100]);
    pinned[7] = 9;
    assert_eq!(pinned.iter().sum::<u32>(), 9);
    let shared = pinned.into_shared();
    assert_eq!(shared.read(7).expect("a read"), 9);
    assert_eq!(f.double.live()[1], 1, "sharing does not copy");
}

#[test]
fn shared_pinned_memory_checks_its_bounds() {
    let f = Fixture::new();
    let shared = SharedPinned::<u64>::zeroed(&f.context, 3).expect("a buffer");
    shared.write_range(1, &[5, 6]).expect("a write");
    let mut out = [0; 3];
    shared.read_range(0, &mut out).expect("a read");
    assert_eq!(out, [0, 5, 6]);
    for error in [
        shared.read(3).expect_err("a read"),
        shared.write(usize::MAX, 1).expect_err("a write"),
        shared.write_range(2, &[1, 2]).expect_err("a write"),
        shared.read_range(usize::MAX, &mut out).expect_err("a read"),
    ] {
        assert!(matches!(error, DriverError::OutOfBounds { len: 3, .. }), "{error}");
    }
    assert_eq!(shared.device_ptr().expect("an address"), DevicePtr(shared.host_ptr().addr() as u64));
}

#[test]
fn the_stream_holds_pinned_memory_until_its_copy_is_done() {
    let f = Fixture::new();
    let source = Arc::new(PinnedBuffer::from_slice(&f.context, &[1u32, 2, 3, 4]).expect("a buffer"));
    let mut buffer = DeviceBuffer::<u32>::uninit(&f.context, 2).expect("a buffer");
    f.double.state().busy = true;
    f.stream.copy_to_device_async(&mut buffer.as_slice_mut(), &source, 1..3).expect("a copy");
    assert_eq!((f.stream.parked(), Arc::strong_count(&source)), (1, 2));
    f.double.state().busy = false;
    assert_eq!((f.stream.parked(), Arc::strong_count(&source)), (0, 1));
    assert_eq!(f.stream.read_to_vec(&buffer.as_slice()).expect("a copy"), [2, 3]);
    let error = f.stream.copy_to_device_async(&mut buffer.as_slice_mut(), &source, 3..5).expect_err("a copy");
    assert!(matches!(error, DriverError::OutOfBounds { .. }));
}

#[test]
fn pinned_memory_comes_back_when_the_copy_into_it_is_done() {
    let f = Fixture::new();
    let buffer = DeviceBuffer::from_slice(&f.stream, &[7u8; 5]).expect("a buffer");
    let target = PinnedBuffer::zeroed(&f.context, 5).expect("a buffer");
    f.double.state().busy = true;
    let pending = f.stream.copy_to_host_async(target, &buffer.as_slice()).expect("a copy");
    assert!(!pending.is_ready().expect("a query"));
    let target = pending.wait().expect("the buffer");
    assert_eq!(&target[..], [7; 5]);
    assert!(!f.double.state().busy, "it was waited for");
}

#[test]
fn an_abandoned_copy_is_waited_for_before_its_memory_is_freed() {
    let f = Fixture::new();
    let buffer = DeviceBuffer::from_slice(&f.stream, &[7u8; 5]).expect("a buffer");
    let target = PinnedBuffer::zeroed(&f.context, 5).expect("a buffer");
    let pending = f.stream.copy_to_host_async(target, &buffer.as_slice()).expect("a copy");
    f.double.forget_calls();
    drop(pending);
    let calls = f.double.calls("");
    let position = |name: &str| calls.iter().position(|c| c.starts_with(name)).expect("a call");
    assert!(position("cuEventSynchronize") < position("cuMemFreeHost"));
    assert_eq!(f.double.live()[1], 0);
}

#[test]
fn a_copy_that_cannot_be_followed_keeps_its_memory() {
    let f = Fixture::new();
    let buffer = DeviceBuffer::from_slice(&f.stream, &[7u8; 5]).expect("a buffer");
    let target = PinnedBuffer::zeroed(&f.context, 5).expect("a buffer");
    let pending = f.stream.copy_to_host_async(target, &buffer.as_slice()).expect("a copy");
    f.double.fail("cuEventSynchronize", [CUresult::ERROR_INVALID_HANDLE, CUresult::ERROR_INVALID_HANDLE]);
    assert!(pending.wait().is_err());
    assert_eq!(f.double.live()[1], 1, "memory that the device may still write to must not be freed");
    assert_eq!(f.context.take_drop_errors()[0].origin, "Pending, waiting for its copy");
    let target = PinnedBuffer::zeroed(&f.context, 5).expect("a buffer");
    let pending = f.stream.copy_to_host_async(target, &buffer.as_slice()).expect("a copy");
    f.double.fail("cuEventSynchronize", [CUresult::ERROR_INVALID_HANDLE]);
    assert!(pending.wait().is_err());
    assert_eq!(f.double.live()[1], 1, "the second wait succeeded");
}

#[test]
fn shared_pinned_copies_go_both_ways() {
    let f = Fixture::new();
    let shared = Arc::new(SharedPinned::<u32>::zeroed(&f.context, 4).expect("a buffer"));
    shared.write_range(0, &[1, 2, 3, 4]).expect("a write");
    let mut buffer = DeviceBuffer::<u32>::uninit(&f.context, 2).expect("a buffer");
    f.stream.copy_from_shared(&mut buffer.as_slice_mut(), &shared, 2..).expect("a copy");
    f.stream.copy_to_shared(&shared, ..2, &buffer.as_slice()).expect("a copy");
    f.stream.synchronize().expect("idle");
    let mut out = [0; 4];
    shared.read_range(0, &mut out).expect("a read");
    assert_eq!(out, [3, 4, 3, 4]);
    assert_eq!(Arc::strong_count(&shared), 1);
}
