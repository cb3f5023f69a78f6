//! What CUDA the machine has, without touching a context.

use std::fmt;

use gpu_driver::{ComputeCapability, CudaVersion, Driver, DriverError};
use ptx_builder::Target;

/// The driver and its devices.
#[derive(Debug, Clone)]
pub struct CudaProbe {
    /// The library that was loaded.
    pub library: String,
    /// The newest CUDA version that the driver supports.
    pub version: CudaVersion,
    /// Its devices, by ordinal.
    pub devices: Vec<CudaDevice>,
}

/// A device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CudaDevice {
    /// The driver's number for it.
    pub ordinal: u32,
    /// The product's name.
    pub name: String,
    /// Compute capability.
    pub capability: ComputeCapability,
    /// Memory in bytes, in use or not.
    pub memory: u64,
    /// Number of multiprocessors.
    pub multiprocessors: u32,
    /// What kernels are emitted for; `None` if the device is older than any target.
    pub target: Option<Target>,
}

impl fmt::Display for CudaDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = self.memory as f64 / (1u64 << 30) as f64;
        write!(f, "{}, compute capability {}, {gib:.0} GiB", self.name, self.capability)
    }
}

/// Looks at the system's driver.
///
/// # Errors
/// [`DriverError::NoDriver`] and the driver's failures. A driver without devices is no error.
pub fn probe() -> Result<CudaProbe, DriverError> {
    probe_driver(&Driver::load()?)
}

/// Looks at a driver.
///
/// # Errors
/// The driver's failures.
pub fn probe_driver(driver: &Driver) -> Result<CudaProbe, DriverError> {
    let version = driver.version()?;
    let devices =
        (0..driver.device_count()?).map(|ordinal| look(driver, ordinal)).collect::<Result<_, _>>()?;
    Ok(CudaProbe { library: driver.source().to_owned(), version, devices })
}

fn look(driver: &Driver, ordinal: u32) -> Result<CudaDevice, DriverError> {
    let device = driver.device(ordinal)?;
    let limits = device.limits()?;
    let capability = limits.compute_capability;
    Ok(CudaDevice {
        ordinal,
        name: device.name()?,
        capability,
        memory: device.total_memory()?,
        multiprocessors: limits.multiprocessors,
        target: Target::for_capability(capability.major, capability.minor),
    })
}
