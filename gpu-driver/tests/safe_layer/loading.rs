//! Loading and initialising the driver.

use crate::double::Double;
use gpu_driver::sys::CUresult;
use gpu_driver::{Driver, DriverError, ErrorKind};

#[test]
fn a_missing_library_is_named_with_the_loaders_reason() {
    // SAFETY: there is no such file.
    let error = unsafe { Driver::load_from("/nonexistent/libcuda.so") }.expect_err("loaded");
    assert!(matches!(&error, DriverError::NoDriver { tried } if tried.len() == 1));
    assert!(error.to_string().contains("/nonexistent/libcuda.so ("), "{error}");
    assert_eq!(error.kind(), ErrorKind::Load);
    assert!(error.is_unavailable());
}

#[test]
#[cfg(target_os = "linux")]
fn a_library_that_is_no_driver_is_refused_with_what_it_lacks() {
    // SAFETY: the C library is loaded already.
    let error = unsafe { Driver::load_from("libc.so.6") }.expect_err("loaded");
    let DriverError::IncompleteDriver { library, driver: None, missing } = &error else {
        panic!("{error:?}")
    };
    assert_eq!(library, "libc.so.6");
    assert!(missing.contains(&"cuInit") && missing.contains(&"cuMemAlloc_v2"), "{error}");
    assert!(!missing.contains(&"cuGraphCreate"), "an optional entry must not prevent loading");
}

#[test]
fn the_program_itself_is_no_driver() {
    // SAFETY: nothing is loaded.
    let error = unsafe { Driver::load_from("") }.expect_err("loaded");
    assert_eq!(error.to_string(), "no CUDA driver: \"\" (no path)");
}

#[test]
fn the_driver_is_initialised_once_and_only_by_success() {
    let double = Double::new();
    let driver = double.driver();
    assert_eq!(driver.version().expect("a version").to_string(), "13.0");
    assert!(double.calls("cuInit").is_empty(), "the version must not need initialisation");

    double.fail("cuInit", [CUresult::ERROR_SYSTEM_NOT_READY, CUresult::ERROR_SYSTEM_NOT_READY]);
    for _ in 0..2 {
        let error = driver.init().expect_err("initialised");
        assert_eq!(error.code(), Some(CUresult::ERROR_SYSTEM_NOT_READY));
        assert!(!driver.is_initialised());
    }
    assert_eq!(driver.device_count().expect("a count"), 2);
    driver.init().expect("initialised");
    assert!(driver.is_initialised());
    assert_eq!(double.calls("cuInit").len(), 3);
}

#[test]
fn no_device_is_an_error_of_its_own_and_a_count_of_zero() {
    let double = Double::new();
    double.state().devices = 0;
    let driver = double.driver();
    assert_eq!(driver.device_count().expect("a count"), 0);
    assert!(driver.devices().expect("a list").is_empty());
    let error = driver.device(0).expect_err("a device");
    assert!(matches!(error, DriverError::NoDevice), "{error}");
    assert!(error.is_unavailable());
}

#[test]
fn an_ordinal_beyond_the_devices_is_refused_with_both_numbers() {
    let driver = Double::new().driver();
    for ordinal in [2, u32::MAX] {
        let error = driver.device(ordinal).expect_err("a device");
        assert_eq!(error.to_string(), format!("no device {ordinal}: the driver has 2"));
    }
}

#[test]
fn devices_answer_for_themselves() {
    let driver = Double::new().driver();
    let device = driver.device(1).expect("a device");
    assert_eq!(device.name().expect("a name"), "Double 1");
    assert_eq!(device.uuid().expect("a uuid").to_string(), "GPU-01010101-0101-0101-0101-010101010101");
    assert_eq!(device.pci_bus_id().expect("an address"), "0000:01:00.0");
    assert_eq!(device.total_memory().expect("a size"), 141 << 30);
    assert_eq!(device.compute_capability().expect("a capability").sm(), 90);
    let limits = device.limits().expect("limits");
    assert_eq!((limits.multiprocessors, limits.max_block.z, limits.cluster_launch), (132, 64, true));
}

#[test]
fn an_attribute_that_an_old_driver_does_not_know_means_absence() {
    let double = Double::new();
    double.state().version = 11_040;
    let limits = double.driver().device(0).and_then(|d| d.limits()).expect("limits");
    assert!(!limits.cluster_launch);
}

#[test]
fn an_absent_entry_is_an_error_of_the_call_that_needs_it() {
    let double = Double::new();
    double.state().version = 11_020;
    let driver = double.driver_with(|t| t.device_get_uuid = None);
    let device = driver.device(0).expect("everything else works");
    let error = device.uuid().expect_err("a uuid");
    assert_eq!(
        error.to_string(),
        "the driver lacks cuDeviceGetUuid_v2, which CUDA 11.4 introduced; this driver supports CUDA 11.2"
    );
}

#[test]
fn a_code_that_only_a_later_driver_knows_is_named_by_it() {
    let double = Double::new();
    let driver = double.driver();
    double.fail("cuDeviceGetCount", [CUresult(5000), CUresult(5001)]);
    let error = driver.device_count().expect_err("a count");
    assert_eq!(
        error.to_string(),
        "cuDeviceGetCount returned CUDA_ERROR_OF_A_LATER_DRIVER (5000): as the driver describes it"
    );
    let error = driver.device_count().expect_err("a count");
    assert!(error.to_string().contains("CUDA error 5001"), "{error}");
}
