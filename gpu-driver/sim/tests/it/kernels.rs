//! Kernels compute, and what they do wrong is seen.

use std::sync::Arc;

use gpu_driver::sys::CUresult;
use gpu_driver::{DeviceBuffer, ErrorKind, KernelArgs, LaunchConfig, Module};
use gpu_driver_sim::{Fault, FindingKind, SimConfig};

use crate::support::{Gpu, words};

#[test]
fn kernels_compute_on_buffers() {
    let gpu = Gpu::with(SimConfig { metrics: true, ..SimConfig::default() });
    let data = DeviceBuffer::from_slice(&gpu.stream, &[1u32, 2, 3, 4]).unwrap();
    let (triple, add) = (gpu.function("triple"), gpu.function("add"));
    let config = LaunchConfig::new(1, 4);
    // SAFETY: the kernels touch four words of the buffer, which outlives the wait.
    unsafe {
        triple.launch(&gpu.stream, &config, &KernelArgs::new().with(&data)).unwrap();
        add.launch(&gpu.stream, &config, &KernelArgs::new().with(&data).with(100u32)).unwrap();
    }
    assert!(gpu.sim.take_launches().is_empty(), "nothing has run yet");
    assert_eq!(gpu.stream.read_to_vec(&data.as_slice()).unwrap(), [103, 106, 109, 112]);
    let launches = gpu.sim.take_launches();
    let names: Vec<_> = launches.iter().map(|launch| launch.kernel.as_str()).collect();
    assert_eq!(names, ["triple", "add"]);
    assert_eq!(words(&launches[1].args[1]), [100]);
    assert_eq!((launches[0].grid, launches[0].block), ([1; 3], [4, 1, 1]));
    assert!(launches[0].instructions > 0 && launches[0].metrics.is_some());
    assert!(launches[0].end_ns > launches[0].start_ns && launches[1].start_ns >= launches[0].end_ns);
    drop((data, triple, add));
    gpu.finish();
}

#[test]
fn a_fault_stays_with_the_context_until_it_ends() {
    let gpu = Gpu::new();
    let data = DeviceBuffer::from_slice(&gpu.stream, &[1u32]).unwrap();
    let outside = gpu.function("outside");
    let config = LaunchConfig::new(1, 1);
    // SAFETY: the kernel is wrong on purpose, and no memory but the simulated device's is at stake.
    unsafe { outside.launch(&gpu.stream, &config, &KernelArgs::new().with(&data)) }.unwrap();
    let error = gpu.stream.synchronize().unwrap_err();
    assert_eq!((error.code(), error.kind()), (Some(CUresult::ERROR_ILLEGAL_ADDRESS), ErrorKind::Sticky));
    let mut address = 0;
    // SAFETY: the result goes to a local; the context is current.
    let later = unsafe { (gpu.driver.table().mem_alloc)(&mut address, 16) };
    assert_eq!(later, CUresult::ERROR_ILLEGAL_ADDRESS);
    let report = gpu.sim.report();
    let [finding] = &report.findings[..] else { panic!("{report}") };
    assert_eq!(finding.kind, FindingKind::OutOfBounds);
    assert!(finding.line.contains("st.global"), "{finding}");
    assert_eq!(finding.address, Some(data.device_ptr().0 + 4096));
    assert!(report.faults[0].contains("ILLEGAL_ADDRESS") && report.faults[0].contains("outside"), "{report}");
    // What is dropped now is freed, although each call fails.
    drop((data, outside));
    let Gpu { stream, context, driver, sim } = gpu;
    drop(stream);
    assert!(!context.take_drop_errors().is_empty());
    drop(context);
    assert!(sim.report().leaks.is_empty() && sim.live().is_empty(), "{}", sim.report());
    // A new context is a healthy one.
    driver.context(0).unwrap().synchronize().unwrap();
}

#[test]
fn reading_what_nobody_wrote_fails_the_launch_or_is_only_reported() {
    for fail_on_findings in [true, false] {
        let gpu = Gpu::with(SimConfig { fail_on_findings, ..SimConfig::default() });
        let data = DeviceBuffer::<u32>::uninit(&gpu.context, 4).unwrap();
        let triple = gpu.function("triple");
        // SAFETY: the kernel touches four words of the buffer, which outlives the wait.
        unsafe { triple.launch(&gpu.stream, &LaunchConfig::new(1, 4), &KernelArgs::new().with(&data)) }
            .unwrap();
        let waited = gpu.stream.synchronize();
        if fail_on_findings {
            assert_eq!(waited.unwrap_err().code(), Some(CUresult::ERROR_LAUNCH_FAILED));
        } else {
            waited.unwrap();
        }
        assert_eq!(gpu.sim.report().findings[0].kind, FindingKind::Uninitialised);
    }
}

#[test]
fn an_endless_loop_is_a_timeout() {
    let gpu = Gpu::with(SimConfig { fuel: 10_000, ..SimConfig::default() });
    let flag = DeviceBuffer::from_slice(&gpu.stream, &[0u32]).unwrap();
    let spin = gpu.function("spin");
    // SAFETY: the kernel reads one word of the buffer, which outlives the wait.
    unsafe { spin.launch(&gpu.stream, &LaunchConfig::new(1, 1), &KernelArgs::new().with(&flag)) }.unwrap();
    assert_eq!(gpu.stream.synchronize().unwrap_err().code(), Some(CUresult::ERROR_LAUNCH_TIMEOUT));
    assert_eq!(gpu.sim.report().findings[0].kind, FindingKind::EndlessLoop);
}

#[test]
fn a_launch_fails_on_demand_and_takes_the_context_with_it() {
    let faults = vec![Fault::new("launch", 2, CUresult::ERROR_LAUNCH_FAILED)];
    let gpu = Gpu::with(SimConfig { faults, ..SimConfig::default() });
    let data = DeviceBuffer::from_slice(&gpu.stream, &[1u32; 4]).unwrap();
    let triple = gpu.function("triple");
    for round in 0..2 {
        // SAFETY: the kernel touches four words of the buffer, which outlives the wait.
        unsafe { triple.launch(&gpu.stream, &LaunchConfig::new(1, 4), &KernelArgs::new().with(&data)) }
            .unwrap();
        assert_eq!(gpu.stream.synchronize().is_err(), round == 1);
    }
    let mut word = [0; 4];
    gpu.sim.read(data.device_ptr().0, &mut word).unwrap();
    assert_eq!(words(&word), [3], "the second did not run");
    assert!(gpu.sim.pending_faults().is_empty());
}

#[test]
fn variables_of_a_module_are_memory() {
    let gpu = Gpu::new();
    let module = Module::from_ptx(&gpu.context, crate::support::KERNELS).unwrap();
    let (address, bytes) = module.global("counter").unwrap();
    assert_eq!(bytes, 4);
    let mut word = [0; 4];
    gpu.sim.read(address.0, &mut word).unwrap();
    assert_eq!(words(&word), [17]);
    assert!(module.global("absent").is_err());
    let host = Arc::new(module);
    drop(host);
    assert!(gpu.sim.read(address.0, &mut word).is_err(), "gone with the module");
    gpu.finish();
}
