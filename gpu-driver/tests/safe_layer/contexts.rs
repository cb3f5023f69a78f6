//! Contexts: sharing, currency, poison, errors of destructors.

use crate::double::Double;
use crate::{Fixture, PTX};
use gpu_driver::sys::CUresult;
use gpu_driver::{DeviceBuffer, DriverError, ErrorKind, KernelArgs, LaunchConfig, Module, Stream};

#[test]
fn users_of_one_device_share_a_context_and_devices_do_not() {
    let double = Double::new();
    let driver = double.driver();
    let first = driver.context(0).expect("a context");
    let again = driver.context(0).expect("a context");
    let other = driver.context(1).expect("a context");
    assert!(first.same_as(&again) && !first.same_as(&other));
    assert_eq!((first.device().ordinal(), other.device().ordinal()), (0, 1));
    assert_ne!(first.handle(), other.handle());
    assert_eq!(double.calls("cuDevicePrimaryCtxRetain").len(), 2);
    drop((first, again));
    assert_eq!(double.live()[7], 1, "only device 1 is still retained");
    drop(other);
    assert_eq!(double.live()[7], 0);
    drop(driver.context(0).expect("a context can be retained again"));
}

#[test]
fn work_goes_to_the_device_of_its_context() {
    let double = Double::new();
    let driver = double.driver();
    let (a, b) = (driver.context(0).expect("a context"), driver.context(1).expect("a context"));
    double.forget_calls();
    for context in [&a, &b, &b, &a] {
        context.memory_info().expect("memory information");
    }
    assert_eq!(
        double.calls("cuCtxSetCurrent"),
        ["cuCtxSetCurrent(0)", "cuCtxSetCurrent(1)", "cuCtxSetCurrent(0)"]
    );
}

#[test]
fn a_context_that_is_current_is_not_set_again() {
    let f = Fixture::new();
    for _ in 0..10 {
        f.stream.synchronize().expect("idle");
    }
    assert!(f.double.calls("cuCtxSetCurrent").is_empty());
    assert_eq!(f.double.calls("").len(), 20, "one look at the current context per call");
}

#[test]
fn objects_work_on_other_threads() {
    let f = Fixture::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            f.double.enter();
            let data = DeviceBuffer::from_slice(&f.stream, &[1u8, 2, 3]).expect("a buffer");
            assert_eq!(f.stream.read_to_vec(&data.as_slice()).expect("a copy"), [1, 2, 3]);
        });
    });
    assert_eq!(f.double.calls("cuCtxSetCurrent").len(), 1);
}

#[test]
fn objects_of_different_contexts_do_not_mix() {
    let f = Fixture::new();
    let other = f.context.driver().context(1).expect("a context");
    let foreign = Stream::new(&other).expect("a stream");
    let mut data = DeviceBuffer::<u32>::uninit(&f.context, 4).expect("a buffer");
    f.double.forget_calls();
    let error = foreign.memset(&mut data.as_slice_mut(), 0).expect_err("mixed");
    assert_eq!(error.to_string(), "memset: an object of device 0 is used with the context of device 1");
    let again = f.double.driver().context(0).and_then(|c| Stream::new(&c)).expect("a stream");
    let error = again.memset(&mut data.as_slice_mut(), 0).expect_err("mixed");
    assert_eq!(
        error.to_string(),
        "memset: an object of device 0 of another `Driver` is used with the context of device 0"
    );
    let args = KernelArgs::new().with(&data);
    // SAFETY: the double refuses or runs it on memory that it checks.
    let launched = unsafe { f.function("triple").launch(&foreign, &LaunchConfig::new(1, 4), &args) };
    assert!(matches!(launched, Err(DriverError::ContextMismatch { .. })));
    assert!(f.double.calls("cuLaunch").is_empty() && f.double.calls("cuMemset").is_empty());
}

#[test]
fn a_sticky_error_poisons_the_context_and_later_calls_say_so_by_name() {
    let f = Fixture::new();
    let (config, args) = (LaunchConfig::new(1, 1), KernelArgs::new());
    // SAFETY: the double's kernel only sets an error.
    unsafe { f.function("fault").launch(&f.stream, &config, &args) }.expect("the launch itself succeeds");
    let error = f.stream.synchronize().expect_err("the fault surfaces");
    assert_eq!(error.kind(), ErrorKind::Sticky);
    assert!(
        error.to_string().starts_with("cuStreamSynchronize returned CUDA_ERROR_ILLEGAL_ADDRESS (700)"),
        "{error}"
    );
    assert_eq!(f.context.poison().map(|p| p.code()), Some(CUresult::ERROR_ILLEGAL_ADDRESS));

    f.double.forget_calls();
    let error = DeviceBuffer::<u8>::uninit(&f.context, 1).expect_err("a poisoned context");
    assert!(matches!(&error, DriverError::Poisoned { device: 0, .. }));
    assert!(
        error.to_string().starts_with("the context of device 0 is poisoned: cuStreamSynchronize"),
        "{error}"
    );
    assert_eq!(error.code(), Some(CUresult::ERROR_ILLEGAL_ADDRESS));
    let error = Module::from_ptx(&f.context, PTX).expect_err("a poisoned context");
    assert!(matches!(error, DriverError::Poisoned { .. }));
    assert!(f.double.calls("").is_empty(), "the driver must not be called: {:?}", f.double.calls(""));

    // The other device is unaffected, as far as this crate is concerned.
    f.double.state().sticky = None;
    f.context.driver().context(1).and_then(|c| c.synchronize()).expect("another context");
}

#[test]
fn other_errors_do_not_poison() {
    let f = Fixture::new();
    f.double.fail("cuMemAlloc", [CUresult::ERROR_OUT_OF_MEMORY]);
    let error = DeviceBuffer::<u8>::uninit(&f.context, 1).expect_err("memory");
    assert_eq!(error.kind(), ErrorKind::Immediate);
    assert!(f.context.poison().is_none());
    DeviceBuffer::<u8>::uninit(&f.context, 1).expect("memory");
    f.double.fail("cuStreamSynchronize", [CUresult::ERROR_LAUNCH_OUT_OF_RESOURCES]);
    assert_eq!(f.stream.synchronize().expect_err("an error").kind(), ErrorKind::Deferred);
    assert!(f.context.poison().is_none());
}

#[test]
fn errors_of_destructors_are_kept_with_their_origin() {
    let f = Fixture::new();
    let buffer = DeviceBuffer::<u32>::uninit(&f.context, 1024).expect("a buffer");
    f.double.fail("cuMemFree", [CUresult::ERROR_INVALID_VALUE]);
    drop(buffer);
    let errors = f.context.take_drop_errors();
    assert_eq!(errors.len(), 1);
    assert_eq!(errors[0].origin, "DeviceBuffer of 4096 bytes");
    assert_eq!(errors[0].error.code(), Some(CUresult::ERROR_INVALID_VALUE));
    assert!(f.context.take_drop_errors().is_empty());
}

#[test]
fn errors_of_the_last_destructors_move_to_the_driver() {
    let double = Double::new();
    let driver = double.driver();
    let context = driver.context(1).expect("a context");
    let stream = Stream::new(&context).expect("a stream");
    double.fail("cuStreamDestroy", [CUresult::ERROR_INVALID_HANDLE]);
    double.fail("cuDevicePrimaryCtxRelease", [CUresult::ERROR_INVALID_CONTEXT]);
    drop((stream, context));
    let origins: Vec<_> = driver.take_drop_errors().into_iter().map(|e| e.origin).collect();
    assert_eq!(origins, ["Stream", "primary context of device 1"]);
}

#[test]
fn destructors_in_a_poisoned_context_neither_panic_nor_hide() {
    let f = Fixture::new();
    let buffer = DeviceBuffer::<u32>::uninit(&f.context, 4).expect("a buffer");
    f.double.fail("cuStreamSynchronize", [CUresult::ERROR_LAUNCH_FAILED]);
    f.stream.synchronize().expect_err("a fault");
    let context = f.context.clone();
    drop(buffer);
    drop(f.module);
    drop(f.stream);
    let errors = context.take_drop_errors();
    assert_eq!(errors.len(), 3, "{errors:?}");
    assert!(errors.iter().all(|e| e.error.code() == Some(CUresult::ERROR_LAUNCH_FAILED)));
}
