//! The handle of a simulated driver for Rust programs.

use std::fmt;
use std::sync::Arc;

use gpu_driver::{CudaVersion, Driver};

use crate::config::SimConfig;
use crate::error::{Result, SimError};
use crate::fault::Fault;
use crate::registry::Seat;
use crate::report::{Call, CallCount, LaunchRecord, LiveObject, Report};
use crate::{DeviceProfile, table};

/// A CUDA driver made of software. Cloning shares it.
///
/// It is the driver's process: when the last clone is dropped, the driver is gone with everything that was allocated,
/// and calls through a [`Driver`] that is left return `CUDA_ERROR_DEINITIALIZED`. Keep it as long as the driver is used.
///
/// Any number of threads may use one driver, and one thread several drivers; at most 63 live at once in a process.
#[derive(Clone)]
pub struct SimDriver(Arc<Seat>);

impl SimDriver {
    /// Makes a driver.
    ///
    /// # Errors
    ///
    /// [`SimError::TooManyDrivers`], [`SimError::TooManyDevices`], [`SimError::TooOld`].
    pub fn new(config: SimConfig) -> Result<Self> {
        Ok(Self(Arc::new(Seat::take(config)?)))
    }

    /// The driver as programs of [`gpu_driver`] use it. Each call makes one of its own, with contexts of its own that
    /// count as further references to the device's.
    pub fn driver(&self) -> Result<Driver> {
        let version = self.0.sim.config.cuda_version;
        let table =
            table::table(self.0.slot, version).ok_or(SimError::TooOld { version: CudaVersion(version) })?;
        // SAFETY: the functions keep the rules of the driver API: handles are checked, memory that they return is
        // valid until it is freed, arguments are copied when they must be, and no function unwinds.
        Ok(unsafe { Driver::from_table(table) })
    }

    /// The configuration that it was made with.
    pub fn config(&self) -> &SimConfig {
        &self.0.sim.config
    }

    /// The part that its devices are, with as many multiprocessors as was asked for.
    pub fn profile(&self) -> &DeviceProfile {
        &self.0.sim.profile
    }

    /// Everything that there is to say so far.
    pub fn report(&self) -> Report {
        let state = self.0.sim.lock();
        let log = &state.log;
        Report {
            calls: log.counts.clone(),
            findings: log.findings.clone(),
            faults: log.faults.clone(),
            leaks: log.leaks.clone(),
            live: state.live(None),
            launches: log.n_launches,
            bytes_copied: log.bytes_copied,
            instructions: log.instructions,
            peak_memory: log.peak_memory,
            elapsed_ns: state.now_ns,
            printed: log.printed.clone(),
        }
    }

    /// How often each function was called, in the order of their first calls.
    pub fn calls(&self) -> Vec<CallCount> {
        self.0.sim.lock().log.counts.clone()
    }

    /// Calls of functions whose name begins so, in order, as `name(argument)`.
    pub fn calls_of(&self, prefix: &str) -> Vec<String> {
        let state = self.0.sim.lock();
        let wanted = state.log.calls.iter().filter(|call| call.name.starts_with(prefix));
        wanted.map(ToString::to_string).collect()
    }

    /// Every call in order.
    pub fn trace(&self) -> Vec<Call> {
        self.0.sim.lock().log.calls.clone()
    }

    /// Forgets calls and their counts; everything else stays.
    pub fn forget_calls(&self) {
        let log = &mut self.0.sim.lock().log;
        log.calls.clear();
        log.counts.clear();
    }

    /// Takes the kernels executed since the last time, in the order of execution.
    pub fn take_launches(&self) -> Vec<LaunchRecord> {
        std::mem::take(&mut self.0.sim.lock().log.launches)
    }

    /// What is alive.
    pub fn live(&self) -> Vec<LiveObject> {
        self.0.sim.lock().live(None)
    }

    /// Adds a fault, counted from now on.
    pub fn inject(&self, fault: Fault) {
        self.0.sim.lock().faults.add(fault);
    }

    /// Faults that were not hit yet, with what is left of their counts.
    pub fn pending_faults(&self) -> Vec<Fault> {
        self.0.sim.lock().faults.pending().to_vec()
    }

    /// Forgets the faults that were not hit.
    pub fn clear_faults(&self) {
        self.0.sim.lock().faults.clear();
    }

    /// Changes the limit of device memory. What is allocated stays.
    pub fn set_memory_limit(&self, bytes: u64) {
        for device in &mut self.0.sim.lock().devices {
            device.limit = bytes;
        }
    }

    /// Reads device memory as it is: work that is queued has not happened.
    ///
    /// # Errors
    ///
    /// [`SimError::Memory`] for what is not allocated.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<()> {
        let memory = self.0.sim.lock().memory.clone();
        memory.read(address, out).map_err(|error| SimError::Memory { address, message: error.to_string() })
    }

    /// Whether every byte has been written by someone.
    pub fn is_initialised(&self, address: u64, bytes: u64) -> bool {
        self.0.sim.lock().memory.initialised(address, bytes)
    }
}

impl fmt::Debug for SimDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimDriver").field("config", self.config()).finish_non_exhaustive()
    }
}
