//! What the tests share: a driver with a context, and small kernels.

use gpu_driver::{Context, Driver, Function, Module, Stream};
use gpu_driver_sim::{SimConfig, SimDriver};

/// A driver with a context and a stream.
pub struct Gpu {
    pub stream: Stream,
    pub context: Context,
    pub driver: Driver,
    pub sim: SimDriver,
}

impl Gpu {
    pub fn new() -> Self {
        Self::with(SimConfig::default())
    }

    pub fn seeded(seed: u64) -> Self {
        Self::with(SimConfig { seed, ..SimConfig::default() })
    }

    pub fn with(config: SimConfig) -> Self {
        let sim = SimDriver::new(SimConfig { threads: Some(1), ..config }).expect("a simulated driver");
        let driver = sim.driver().expect("a table");
        let context = driver.context(0).expect("a context");
        let stream = Stream::new(&context).expect("a stream");
        Self { stream, context, driver, sim }
    }

    pub fn function(&self, name: &str) -> Function {
        Module::from_ptx(&self.context, KERNELS).expect("a module").function(name).expect("a kernel")
    }

    /// Ends the context and looks at what is left.
    pub fn finish(self) {
        let Self { stream, context, driver, sim } = self;
        drop((stream, context, driver));
        let report = sim.report();
        assert!(report.is_clean() && report.live.is_empty(), "{report}\n{:?}", report.live);
    }
}

/// `triple(data)`: each of the block's threads triples its word. `add(data, n)`: adds n. `outside(data)`: writes far
/// beyond. `spin(flag)`: until the flag is not zero. `big`: static shared memory. `waits(dst, src)`: copies a word
/// behind `griddepcontrol.wait`; `hurries(dst, src)`: before.
pub const KERNELS: &str = include_str!("kernels.ptx");

/// Shapes of the files are one to one with what a launch passes.
pub fn words(bytes: &[u8]) -> Vec<u32> {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}
