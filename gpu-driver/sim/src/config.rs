//! What a simulated driver is like, from Rust or from the environment.

use std::env;

use ptx_builder::Target;
use ptx_builder::interp::Sanitize;

use crate::error::{Result, SimError};
use crate::fault::Fault;

/// Configuration of a [`SimDriver`](crate::SimDriver).
#[derive(Debug, Clone)]
pub struct SimConfig {
    /// Which part the devices are: see [`DeviceProfile::of`](crate::DeviceProfile::of).
    pub target: Target,
    /// Number of devices. Zero is a machine with a driver and no GPU.
    pub devices: u32,
    /// CUDA version of the driver, `1000 * major + 10 * minor`. Entries that are younger are absent, and PTX that is
    /// younger does not load.
    pub cuda_version: i32,
    /// Multiprocessors, where they are to be others than the part's: a program that gives each of them a block, which repeats
    /// some work, runs faster on few.
    pub processors: Option<u32>,
    /// Device memory in bytes, where it is to be less than the part's.
    pub memory_limit: Option<u64>,
    /// Whether kernels have a time limit, as on a device with a display. The device says so; nothing enforces it.
    pub time_limit: bool,
    /// Seed of the order of unordered work, and of blocks and warps in a launch.
    pub seed: u64,
    /// What launches are watched for.
    pub sanitize: Sanitize,
    /// Whether a finding that would not have stopped a GPU (a race, a read of memory never written) fails the launch
    /// with `CUDA_ERROR_LAUNCH_FAILED`, as if it had. Where false it is only reported.
    pub fail_on_findings: bool,
    /// Whether launches are measured: see [`LaunchRecord::metrics`](crate::LaunchRecord::metrics).
    pub metrics: bool,
    /// Threads that execute the blocks of a launch; `None` is one for each core.
    pub threads: Option<usize>,
    /// Warp instructions per block after which a launch counts as endless, `CUDA_ERROR_LAUNCH_TIMEOUT`.
    pub fuel: u64,
    /// Iterations of a loop of a graph after which a launch counts as endless, `CUDA_ERROR_LAUNCH_TIMEOUT`.
    pub most_iterations: u64,
    /// Failures on demand.
    pub faults: Vec<Fault>,
    /// Makes copies and fills take this many times as long, and run after whatever else could run.
    pub slow_copies: Option<u32>,
    /// Once this many operations are queued, half of them are executed without a synchronisation.
    pub most_queued: usize,
    /// Whether `cuMemFree` waits for queued work, which drivers do and do not promise. Where false, work that still
    /// uses the memory finds it freed.
    pub free_waits: bool,
    /// Whether leaks, findings and faults are written to standard error, too.
    pub print_report: bool,
}

impl Default for SimConfig {
    /// One H200 of CUDA 13.2 with every sanitizer on, seed 0, and no faults.
    fn default() -> Self {
        Self {
            target: Target::SM_90,
            devices: 1,
            cuda_version: 13_020,
            processors: None,
            memory_limit: None,
            time_limit: false,
            seed: 0,
            sanitize: Sanitize::ALL,
            fail_on_findings: true,
            metrics: false,
            threads: None,
            fuel: 1 << 32,
            most_iterations: 1 << 20,
            faults: Vec::new(),
            slow_copies: None,
            most_queued: 4096,
            free_waits: true,
            print_report: false,
        }
    }
}

impl SimConfig {
    /// The default, changed by what the environment says:
    ///
    /// | variable | value |
    /// | --- | --- |
    /// | `WARPSMITH_SIM_TARGET` | a target, such as `sm_80` |
    /// | `WARPSMITH_SIM_DEVICES` | number of devices |
    /// | `WARPSMITH_SIM_PROCESSORS` | number of multiprocessors |
    /// | `WARPSMITH_SIM_MEMORY` | bytes of device memory, with `K`, `M` or `G` for powers of 1024 |
    /// | `WARPSMITH_SIM_SEED` | a number |
    /// | `WARPSMITH_SIM_FAULT` | faults, separated by commas: see [`Fault`] |
    /// | `WARPSMITH_SIM_SANITIZE` | `all`, `report` (nothing fails that would not have stopped a GPU) or `none` |
    /// | `WARPSMITH_SIM_SLOW_COPIES` | how many times as long copies take |
    /// | `WARPSMITH_SIM_REPORT` | set: leaks, findings and faults go to standard error |
    ///
    /// # Errors
    ///
    /// [`SimError::Variable`] for a value that is not understood.
    pub fn from_env() -> Result<Self> {
        let mut config = Self::default();
        if let Some(target) = read("WARPSMITH_SIM_TARGET", |text| text.parse().ok())? {
            config.target = target;
        }
        if let Some(devices) = read("WARPSMITH_SIM_DEVICES", |text| text.parse().ok())? {
            config.devices = devices;
        }
        config.processors = read("WARPSMITH_SIM_PROCESSORS", |text| text.parse().ok().filter(|&n| n > 0))?;
        config.memory_limit = read("WARPSMITH_SIM_MEMORY", bytes)?;
        if let Some(seed) = read("WARPSMITH_SIM_SEED", |text| text.parse().ok())? {
            config.seed = seed;
        }
        if let Some(faults) = read("WARPSMITH_SIM_FAULT", |text| Fault::list(text).ok())? {
            config.faults = faults;
        }
        if let Some((sanitize, fail_on_findings)) = read("WARPSMITH_SIM_SANITIZE", |text| match text {
            "all" => Some((Sanitize::ALL, true)),
            "report" => Some((Sanitize::ALL, false)),
            "none" => Some((Sanitize::NONE, true)),
            _ => None,
        })? {
            config.sanitize = sanitize;
            config.fail_on_findings = fail_on_findings;
        }
        config.slow_copies = read("WARPSMITH_SIM_SLOW_COPIES", |text| text.parse().ok())?;
        config.print_report = env::var_os("WARPSMITH_SIM_REPORT").is_some();
        Ok(config)
    }
}

fn read<T>(name: &'static str, parse: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>> {
    let Some(value) = env::var_os(name) else { return Ok(None) };
    match value.to_str().and_then(parse) {
        Some(parsed) => Ok(Some(parsed)),
        None => Err(SimError::Variable { name, value: value.to_string_lossy().into_owned() }),
    }
}

/// `512M` is 2^29.
fn bytes(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'K' => (&text[..text.len() - 1], 10),
        b'M' => (&text[..text.len() - 1], 20),
        b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_have_suffixes() {
        assert_eq!(
            [bytes("7"), bytes("2K"), bytes("3M"), bytes("1G")],
            [7, 2048, 3 << 20, 1 << 30].map(Some)
        );
        assert_eq!([bytes(""), bytes("G"), bytes("-1"), bytes("1T"), bytes("99999999999G")], [None; 5]);
    }
}
