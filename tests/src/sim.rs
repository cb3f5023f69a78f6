//! The CUDA engine on the software driver.

use gpu_driver::Context;
use gpu_driver_sim::{Sanitize, SimConfig, SimDriver};
use runtime::cuda::CudaDecoder;
use runtime::{EngineOptions, Model};

/// Multiprocessors of the software driver's devices: every block of a projection prepares the activations anew, which on
/// the interpreter is most of a small model's time.
pub const PROCESSORS: Option<u32> = Some(8);

/// A software driver with every sanitizer on, whose unordered work runs in the order of `seed`.
///
/// # Panics
/// If the process has too many.
pub fn driver(seed: u64, sanitize: Sanitize) -> SimDriver {
    let config = SimConfig { seed, sanitize, processors: PROCESSORS, ..SimConfig::default() };
    SimDriver::new(config).unwrap_or_else(|error| panic!("{error}"))
}

/// The context of the first device.
///
/// # Panics
/// If it cannot be made.
pub fn context(sim: &SimDriver) -> Context {
    let driver = sim.driver().unwrap_or_else(|error| panic!("{error}"));
    driver.context(0).unwrap_or_else(|error| panic!("{error}"))
}

/// Runs `work` on a decoder, and then checks that the driver has seen nothing wrong and that nothing is left.
///
/// # Panics
/// If the decoder cannot be made, for a finding, a fault, a leak, and for what `work` panics for.
pub fn on_decoder<T>(
    sim: &SimDriver,
    model: &Model,
    options: &EngineOptions,
    work: impl FnOnce(&mut CudaDecoder) -> T,
) -> T {
    let context = context(sim);
    let mut decoder = CudaDecoder::with_context(model, options, &context)
        .unwrap_or_else(|error| panic!("{}", error.chain()));
    let result = work(&mut decoder);
    drop((decoder, context));
    check_clean(sim);
    result
}

/// Checks that the driver has seen nothing wrong, and that nothing is alive.
///
/// # Panics
/// For a finding, a fault, a leak, or what is alive.
pub fn check_clean(sim: &SimDriver) {
    let report = sim.report();
    assert!(report.is_clean() && report.live.is_empty(), "{report}\nalive: {:?}", report.live);
}
