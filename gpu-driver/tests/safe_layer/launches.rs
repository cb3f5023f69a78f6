//! Launches.

use crate::Fixture;
use crate::double::Double;
use gpu_driver::{DeviceBuffer, DevicePtr, DriverError, KernelArgs, LaunchConfig, Module, Stream};

/// Launches on memory that the double checks.
fn launch(f: &Fixture, name: &str, config: LaunchConfig, args: KernelArgs) -> Result<(), DriverError> {
    // SAFETY: the double runs its own kernels, on memory that it checks.
    unsafe { f.function(name).launch(&f.stream, &config, &args) }
}

fn mixed_args() -> KernelArgs {
    KernelArgs::new().with(DevicePtr(64)).with(7u32).with(0.5f32)
}

#[track_caller]
fn refused(f: &Fixture, name: &str, config: LaunchConfig, args: KernelArgs, wanted: &str) {
    let error = launch(f, name, config, args).expect_err("launched");
    assert!(matches!(error, DriverError::Launch { .. }), "{error}");
    assert!(error.to_string().starts_with(name) && error.to_string().contains(wanted), "{error}");
    assert!(f.double.calls("cuLaunch").is_empty());
}

#[test]
fn a_launch_runs_with_its_arguments() {
    let f = Fixture::new();
    let data = DeviceBuffer::from_slice(&f.stream, &[1u32, 2, 3, 4]).expect("a buffer");
    launch(&f, "triple", LaunchConfig::new(2, 2), KernelArgs::new().with(&data)).expect("a launch");
    assert_eq!(f.stream.read_to_vec(&data.as_slice()).expect("a copy"), [3, 6, 9, 12]);
    launch(&f, "mixed", LaunchConfig::new((3, 2), (32, 4, 2)).with_dynamic_shared(512), mixed_args())
        .expect("a launch");
    let seen = f.double.state().launches[1].clone();
    assert_eq!((seen.grid, seen.block, seen.shared), ([3, 2, 1], [32, 4, 2], 512));
    assert_eq!(
        seen.args,
        [64u64.to_le_bytes().to_vec(), 7u32.to_le_bytes().to_vec(), 0.5f32.to_le_bytes().to_vec()]
    );
}

#[test]
fn a_launch_costs_a_look_at_the_context_and_one_call() {
    let f = Fixture::new();
    let kernel = f.function("mixed");
    let (config, args) = (LaunchConfig::new(1, 32), mixed_args());
    f.double.forget_calls();
    // SAFETY: the double's kernel does nothing.
    unsafe { kernel.launch(&f.stream, &config, &args) }.expect("a launch");
    assert_eq!(f.double.calls(""), ["cuCtxGetCurrent()", "cuLaunchKernel()"]);
}

#[test]
fn arguments_are_checked_against_the_kernels_parameters() {
    let f = Fixture::new();
    let config = LaunchConfig::new(1, 32);
    refused(&f, "mixed", config, KernelArgs::new().with(1u64), "1 arguments for 3 parameters");
    let wrong = KernelArgs::new().with(1u64).with(2u64).with(0.5f32);
    refused(&f, "mixed", config, wrong, "argument 1 has 8 bytes, the parameter has 4");
}

#[test]
fn a_driver_that_cannot_tell_parameters_launches_unchecked() {
    let double = Double::new();
    let driver = double.driver_with(|t| t.func_get_param_count = None);
    let f = Fixture::over(double, &driver);
    assert_eq!(f.function("mixed").parameter_sizes(), None);
    launch(&f, "mixed", LaunchConfig::new(1, 32), mixed_args()).expect("a launch");
}

#[test]
fn geometry_is_checked_before_the_driver_is_called() {
    let f = Fixture::new();
    refused(&f, "fault", LaunchConfig::new(0, 32), KernelArgs::new(), "a dimension is zero");
    refused(&f, "fault", LaunchConfig::new(1, 2048), KernelArgs::new(), "exceeds the device's 1024x1024x64");
    refused(&f, "fat", LaunchConfig::new(1, 512), KernelArgs::new(), "exceed the kernel's 256");
    refused(&f, "fault", LaunchConfig::new(3, 32).with_cluster(2), KernelArgs::new(), "does not divide");
}

#[test]
fn more_than_48_kib_of_shared_memory_needs_a_word() {
    let f = Fixture::new();
    let config = LaunchConfig::new(1, 32).with_dynamic_shared(100 << 10);
    refused(&f, "mixed", config, mixed_args(), "Function::allow_dynamic_shared raises that to 232448");
    let kernel = f.function("mixed");
    kernel.allow_dynamic_shared(100 << 10).expect("permission");
    kernel.allow_dynamic_shared(64 << 10).expect("permission for less is implied");
    assert_eq!(f.double.calls("cuFuncSetAttribute"), ["cuFuncSetAttribute(8, 102400)"]);
    // SAFETY: the double's kernel does nothing.
    unsafe { kernel.launch(&f.stream, &config, &mixed_args()) }.expect("a launch");
    let error = kernel.allow_dynamic_shared(228 << 10).expect_err("permission");
    assert!(error.to_string().contains("exceed the device's 232448 per block"), "{error}");
    assert_eq!(f.double.calls("cuFuncSetAttribute").len(), 1);
}

#[test]
fn every_handle_of_a_kernel_has_the_limit_of_the_kernel() {
    let f = Fixture::new();
    let (a, b) = (f.function("mixed"), f.function("mixed"));
    a.allow_dynamic_shared(100 << 10).expect("permission");
    assert_eq!(b.max_dynamic_shared(), 100 << 10);
    b.allow_dynamic_shared(60 << 10).expect("permission for less is implied");
    assert_eq!(f.double.calls("cuFuncSetAttribute"), ["cuFuncSetAttribute(8, 102400)"]);
    drop((a, b));
    assert_eq!(f.function("mixed").max_dynamic_shared(), 100 << 10);
}

#[test]
fn threads_do_not_lower_the_limit_of_a_kernel() {
    for _ in 0..50 {
        let f = Fixture::new();
        let kernel = f.function("mixed");
        std::thread::scope(|scope| {
            for kib in 49..=56 {
                let (double, kernel) = (&f.double, &kernel);
                scope.spawn(move || {
                    double.enter();
                    kernel.allow_dynamic_shared(kib << 10).expect("permission");
                });
            }
        });
        let set = f.double.state().functions.values().map(|f| f.max_dynamic).max();
        assert_eq!((kernel.max_dynamic_shared(), set), (56 << 10, Some(56 << 10)));
    }
}

#[test]
fn static_shared_memory_counts_towards_the_limit() {
    let f = Fixture::new();
    let module =
        Module::from_ptx(&f.context, ".visible .entry s() { .shared .b8 x[1024]; ret; }").expect("a module");
    let kernel = module.function("s").expect("a kernel");
    assert_eq!(kernel.max_dynamic_shared(), 47 << 10);
    kernel.allow_dynamic_shared(226 << 10).expect("permission");
    let error = kernel.allow_dynamic_shared((226 << 10) + 1).expect_err("permission");
    assert!(error.to_string().contains("1024 of static"), "{error}");
}

#[test]
fn attributes_go_through_the_extended_call() {
    let f = Fixture::new();
    let config = LaunchConfig::new(8, 64).with_cluster((2, 1, 1)).with_programmatic_serialization();
    launch(&f, "mixed", config, mixed_args()).expect("a launch");
    assert_eq!(f.double.calls("cuLaunch"), ["cuLaunchKernelEx()"]);
    let seen = f.double.state().launches[0].clone();
    assert_eq!(seen.attributes, [(4, [2, 1, 1]), (6, [1, 0, 0])]);
    assert_eq!((seen.grid, seen.block), ([8, 1, 1], [64, 1, 1]));
    assert_eq!(f.function("mixed").max_active_clusters(&config).expect("a count"), 66);
}

#[test]
fn clusters_of_more_than_8_blocks_need_a_word() {
    let f = Fixture::new();
    let config = LaunchConfig::new(16, 32).with_cluster(16);
    refused(
        &f,
        "mixed",
        config,
        mixed_args(),
        "16x1x1: more than 8 blocks need Function::allow_non_portable_cl",
    );
    assert!(f.function("mixed").max_active_clusters(&config).is_err());
    for _ in 0..2 {
        f.function("mixed").allow_non_portable_clusters().expect("permission");
    }
    assert_eq!(f.double.calls("cuFuncSetAttribute"), ["cuFuncSetAttribute(14, 1)"]);
    launch(&f, "mixed", config, mixed_args()).expect("a launch");
    let error = launch(&f, "mixed", LaunchConfig::new(32, 32).with_cluster(32), mixed_args());
    assert!(error.expect_err("a launch").to_string().contains("1 to 16 blocks"));

    let double = Double::new();
    double.state().version = 11_040;
    let old = Fixture::over(double.clone(), &double.driver());
    let error = old.function("mixed").allow_non_portable_clusters().expect_err("permission");
    assert_eq!(error.to_string(), "mixed: a device of capability 9.0 has no clusters");
}

#[test]
fn an_old_driver_without_the_extended_call_is_named() {
    let double = Double::new();
    let driver = double.driver_with(|t| t.launch_kernel_ex = None);
    double.state().version = 11_040;
    let context = driver.context(0).expect("a context");
    let stream = Stream::new(&context).expect("a stream");
    let module = Module::from_ptx(&context, crate::PTX).expect("a module");
    let kernel = module.function("mixed").expect("a kernel");
    let plain = LaunchConfig::new(1, 32);
    // SAFETY: the double's kernel does nothing.
    unsafe { kernel.launch(&stream, &plain, &mixed_args()) }.expect("a plain launch");
    // SAFETY: as above.
    let error = unsafe { kernel.launch(&stream, &plain.with_programmatic_serialization(), &mixed_args()) };
    let error = error.expect_err("launched");
    assert_eq!(
        error.to_string(),
        "the driver lacks cuLaunchKernelEx, which CUDA 11.6 introduced; this driver supports CUDA 11.4"
    );
}
