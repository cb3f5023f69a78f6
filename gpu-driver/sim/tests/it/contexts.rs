//! Drivers, devices, contexts, handles.

use gpu_driver::sys::{CUcontext, CUevent, CUresult, CUstream};
use gpu_driver::{CudaVersion, DeviceAttribute, DeviceBuffer, DriverError, Event, EventKind, Stream};
use gpu_driver_sim::{DeviceProfile, SimConfig, SimDriver, Target};

use crate::support::Gpu;

#[test]
fn devices_are_the_parts_of_their_targets() {
    for target in Target::all() {
        let sim = SimDriver::new(SimConfig { target: *target, devices: 2, ..SimConfig::default() }).unwrap();
        let driver = sim.driver().unwrap();
        assert_eq!(driver.device_count().unwrap(), 2);
        let device = driver.device(1).unwrap();
        let part = DeviceProfile::of(*target);
        assert_eq!(device.compute_capability().unwrap().sm(), target.sm());
        assert!(device.name().unwrap().contains("(simulated)"));
        assert_eq!(device.total_memory().unwrap(), part.memory);
        let limits = device.limits().unwrap();
        assert_eq!(limits.multiprocessors, part.multiprocessors);
        assert_eq!(limits.cluster_launch, target.sm() >= 90);
        assert_eq!(device.attribute(DeviceAttribute::MaxRegistersPerBlock).unwrap(), 65_536);
        assert_ne!(driver.device(0).unwrap().uuid().unwrap(), device.uuid().unwrap());
        assert!(matches!(driver.device(2), Err(DriverError::NoSuchDevice { .. })));
    }
}

#[test]
fn a_device_has_as_many_processors_as_were_asked_for() {
    let sim = SimDriver::new(SimConfig { processors: Some(3), ..SimConfig::default() }).unwrap();
    let device = sim.driver().unwrap().device(0).unwrap();
    assert_eq!(device.attribute(DeviceAttribute::MultiprocessorCount).unwrap(), 3);
}

#[test]
fn a_driver_without_devices_says_so() {
    let sim = SimDriver::new(SimConfig { devices: 0, ..SimConfig::default() }).unwrap();
    let driver = sim.driver().unwrap();
    assert_eq!(driver.version().unwrap().to_string(), "13.2");
    assert_eq!(driver.device_count().unwrap(), 0);
    assert!(matches!(driver.device(0), Err(DriverError::NoDevice)));
}

#[test]
fn entries_younger_than_the_driver_are_absent() {
    let sim = SimDriver::new(SimConfig { cuda_version: 12_010, ..SimConfig::default() }).unwrap();
    let driver = sim.driver().unwrap();
    assert!(
        driver.table().graph_add_dependencies_v2.is_none() && driver.table().graph_add_kernel_node.is_some()
    );
    let old = SimDriver::new(SimConfig { cuda_version: 10_020, ..SimConfig::default() }).unwrap();
    let error = old.driver().unwrap_err().to_string();
    assert_eq!(error, "a driver of CUDA 10.2 is too old: CUDA 11.0 or later is needed");
    let oldest = SimConfig { cuda_version: CudaVersion::OLDEST.0, ..SimConfig::default() };
    SimDriver::new(oldest).unwrap().driver().unwrap().context(0).unwrap();
}

#[test]
fn drivers_of_a_process_do_not_meet() {
    let (a, b) = (Gpu::new(), Gpu::with(SimConfig { target: Target::SM_80, ..SimConfig::default() }));
    for _ in 0..3 {
        for (gpu, capability) in [(&a, 90), (&b, 80)] {
            let stream = Stream::new(&gpu.context).unwrap();
            assert_eq!(gpu.context.limits().compute_capability.sm(), capability);
            stream.synchronize().unwrap();
        }
    }
    // A handle of one is none of the other.
    a.context.make_current().unwrap();
    // SAFETY: the driver checks handles.
    let code = unsafe { (a.driver.table().stream_synchronize)(b.stream.handle()) };
    assert_eq!(code, CUresult::ERROR_INVALID_HANDLE);
    assert_eq!(a.sim.calls_of("cuStreamCreate").len(), 4);
    a.finish();
    b.finish();
}

#[test]
fn a_driver_that_is_gone_is_not_another() {
    let Gpu { stream, context, driver, sim } = Gpu::new();
    drop(sim);
    let error = stream.synchronize().unwrap_err();
    assert_eq!(error.code(), Some(CUresult::ERROR_DEINITIALIZED), "{error}");
    let next = Gpu::new();
    assert!(stream.synchronize().is_err() && driver.version().is_err());
    drop((stream, context, driver));
    next.finish();
}

#[test]
fn handles_that_were_destroyed_or_made_up_are_refused() {
    let gpu = Gpu::new();
    gpu.context.make_current().unwrap();
    let table = gpu.driver.table();
    let stream = Stream::new(&gpu.context).unwrap();
    let event = Event::new(&gpu.context, EventKind::Ordering).unwrap();
    let (s, e) = (stream.handle(), event.handle());
    drop((stream, event));
    let made_up = |bits: usize| std::ptr::without_provenance_mut(bits);
    // SAFETY: the driver checks handles; that is what is tested.
    let codes = unsafe {
        [
            (table.stream_synchronize)(s),
            (table.event_query)(e),
            (table.event_destroy)(e),
            (table.stream_synchronize)(CUstream(made_up(0xdead_bee0))),
            (table.event_query)(CUevent(gpu.stream.handle().0)),
            (table.event_query)(CUevent::NULL),
        ]
    };
    assert_eq!(codes, [CUresult::ERROR_INVALID_HANDLE; 6]);
    gpu.finish();
}

#[test]
fn a_context_ends_with_its_last_reference() {
    let sim = SimDriver::new(SimConfig::default()).unwrap();
    let (first, second) = (sim.driver().unwrap(), sim.driver().unwrap());
    let context = first.context(0).unwrap();
    let same = second.context(0).unwrap();
    assert_eq!(context.handle(), same.handle());
    let handle = context.handle();
    drop(context);
    same.synchronize().unwrap();
    drop(same);
    let table = first.table();
    let mut current = CUcontext::NULL;
    // SAFETY: the driver checks handles; results go to locals.
    unsafe {
        assert_eq!((table.ctx_set_current)(handle), CUresult::ERROR_CONTEXT_IS_DESTROYED);
        assert_eq!((table.ctx_get_current)(&mut current), CUresult::SUCCESS);
        assert_eq!(current, handle, "releasing a context does not make another one current");
        assert_eq!((table.ctx_synchronize)(), CUresult::ERROR_CONTEXT_IS_DESTROYED);
    }
    first.context(0).unwrap().synchronize().unwrap();
}

#[test]
fn without_a_context_there_is_nothing_to_work_on() {
    let sim = SimDriver::new(SimConfig::default()).unwrap();
    let driver = sim.driver().unwrap();
    std::thread::spawn(move || {
        let mut address = 0;
        let mut count = 0;
        // SAFETY: results go to locals.
        unsafe {
            assert_eq!((driver.table().device_get_count)(&mut count), CUresult::ERROR_NOT_INITIALIZED);
            assert_eq!((driver.table().init)(0), CUresult::SUCCESS);
            assert_eq!((driver.table().mem_alloc)(&mut address, 4), CUresult::ERROR_INVALID_CONTEXT);
        }
    })
    .join()
    .unwrap();
}

#[test]
fn devices_have_memory_of_their_own() {
    let sim =
        SimDriver::new(SimConfig { devices: 2, memory_limit: Some(1000), ..SimConfig::default() }).unwrap();
    let driver = sim.driver().unwrap();
    let contexts = [driver.context(0).unwrap(), driver.context(1).unwrap()];
    let buffers = contexts.each_ref().map(|context| {
        let stream = Stream::new(context).unwrap();
        DeviceBuffer::from_slice(&stream, &[context.device().ordinal(); 200]).unwrap()
    });
    assert_ne!(buffers[0].device_ptr(), buffers[1].device_ptr());
    for (context, buffer) in contexts.iter().zip(&buffers) {
        assert_eq!(context.memory_info().unwrap().free, 200);
        let stream = Stream::new(context).unwrap();
        assert_eq!(stream.read_to_vec(&buffer.as_slice()).unwrap(), [context.device().ordinal(); 200]);
    }
    drop(buffers);
    drop(contexts);
    assert!(sim.report().is_clean(), "{}", sim.report());
}
