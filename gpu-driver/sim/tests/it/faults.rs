//! Failures on demand: every call of a small program fails once.

use std::sync::Arc;

use gpu_driver::graph::{Graph, KernelNode};
use gpu_driver::sys::CUresult;
use gpu_driver::{
    DeviceBuffer, DriverError, EventKind, KernelArgs, LaunchConfig, Module, PinnedBuffer, Stream,
};
use gpu_driver_sim::{Fault, SimConfig, SimDriver};

/// A program that uses a bit of everything.
fn program(sim: &SimDriver) -> Result<Vec<u32>, DriverError> {
    let driver = sim.driver().expect("a table");
    let context = driver.context(0)?;
    let stream = Stream::new(&context)?;
    let module = Module::from_ptx(&context, crate::support::KERNELS)?;
    let triple = module.function("triple")?;
    let data = Arc::new(DeviceBuffer::from_slice(&stream, &[1u32, 2, 3, 4])?);
    let mut graph = Graph::new(&context)?;
    let args = KernelArgs::from_pointers([data.device_ptr()]);
    let node = KernelNode::new(&triple, LaunchConfig::new(1, 4), args).keep(data.clone());
    // SAFETY: the kernel touches four words of the buffer, which the node owns.
    unsafe { graph.add_kernel(node, &[]) }?;
    let exec = graph.instantiate()?;
    exec.launch(&stream)?;
    let event = stream.record(EventKind::Ordering)?;
    event.synchronize()?;
    let pinned = PinnedBuffer::<u32>::zeroed(&context, 4)?;
    let pending = stream.copy_to_host_async(pinned, &data.as_slice())?;
    Ok(pending.wait()?.to_vec())
}

#[test]
fn every_call_that_fails_is_named_and_nothing_leaks() {
    let right = vec![3, 6, 9, 12];
    let config = || SimConfig { threads: Some(1), ..SimConfig::default() };
    let sim = SimDriver::new(config()).unwrap();
    assert_eq!(program(&sim).unwrap(), right);
    let calls = sim.calls();
    assert!(calls.iter().any(|call| call.name == "cuGraphInstantiateWithParams"), "{calls:?}");
    let total: u64 = calls.iter().map(|call| call.count).sum();
    let trace = sim.trace();
    assert_eq!(trace.len() as u64, total);
    assert!(sim.report().is_clean());
    let mut failed = 0;
    for nth in 1..=total {
        let sim = SimDriver::new(config()).unwrap();
        sim.inject(Fault::new("*", nth, CUresult::ERROR_UNKNOWN));
        let outcome = program(&sim);
        assert!(sim.pending_faults().is_empty(), "{nth}");
        let call = &trace[nth as usize - 1];
        match outcome {
            Ok(words) => {
                assert_eq!(words, right, "{call}: a failure in a destructor, or of an optional question")
            }
            Err(error) => {
                failed += 1;
                assert!(error.to_string().contains(call.name), "{call}: {error}");
            }
        }
        let report = sim.report();
        assert!(report.leaks.is_empty() && report.live.is_empty(), "{call}: {report}\n{:?}", report.live);
        // And again.
        assert_eq!(program(&sim).unwrap(), right, "{call}");
    }
    assert!(failed > total / 2, "{failed} of {total}");
}

#[test]
fn a_sticky_code_on_demand_stays() {
    let sim = SimDriver::new(SimConfig::default()).unwrap();
    sim.inject("cuStreamCreateWithPriority=CUDA_ERROR_ECC_UNCORRECTABLE".parse().unwrap());
    let context = sim.driver().unwrap().context(0).unwrap();
    assert!(Stream::new(&context).is_err());
    let again = context.synchronize().unwrap_err();
    assert!(again.to_string().contains("CUDA_ERROR_ECC_UNCORRECTABLE"), "{again}");
}

#[test]
fn failed_calls_show_in_the_trace() {
    let sim = SimDriver::new(SimConfig::default()).unwrap();
    sim.inject(Fault::new("cuMemAlloc_v2", 1, CUresult::ERROR_OUT_OF_MEMORY));
    let context = sim.driver().unwrap().context(0).unwrap();
    assert!(DeviceBuffer::<u8>::uninit(&context, 16).is_err());
    DeviceBuffer::<u8>::uninit(&context, 16).unwrap();
    let trace = sim.trace();
    let allocations: Vec<_> = trace.iter().filter(|call| call.name == "cuMemAlloc").collect();
    assert_eq!(allocations.iter().map(|call| call.ok).collect::<Vec<_>>(), [false, true]);
    assert_eq!(sim.calls_of("cuMemAlloc"), ["cuMemAlloc(16)"; 2]);
    sim.forget_calls();
    assert!(sim.calls().is_empty());
}
