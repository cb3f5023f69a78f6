//! What the machine has, what will be used, and what is missing.

use std::fmt;

use gpu_driver::{DriverError, LIBRARY_VARIABLE};
use tensor_formats::Simd;

use crate::error::chain;
use crate::model::Model;
use crate::probe::{CudaProbe, probe};
use crate::tokenizer::Tokenizer;

/// How a check came out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Good,
    /// Not there, and not needed.
    Absent,
    /// There, and not working.
    Bad,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub subject: String,
    /// How it came out.
    pub status: Status,
    /// What was found.
    pub detail: String,
}

/// Everything that was looked at, and what follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The checks, in order.
    pub checks: Vec<Check>,
    /// What `--backend auto` will use.
    pub conclusion: String,
}

/// Looks at the machine.
pub fn examine() -> Report {
    examine_with(probe())
}

/// Looks at the machine, with what a CUDA driver said.
pub fn examine_with(cuda: Result<CudaProbe, DriverError>) -> Report {
    let mut checks = vec![system(), cpu()];
    let device = examine_cuda(cuda, &mut checks);
    checks.push(embedded());
    let conclusion = match device {
        Some(device) => format!("auto will use cuda: {device}"),
        None => "auto will use the cpu".to_owned(),
    };
    Report { checks, conclusion }
}

fn check(subject: impl Into<String>, status: Status, detail: impl Into<String>) -> Check {
    Check { subject: subject.into(), status, detail: detail.into() }
}

fn system() -> Check {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    check("system", Status::Good, format!("{os}, {arch}, warpsmith {}", env!("CARGO_PKG_VERSION")))
}

fn cpu() -> Check {
    let cores = match std::thread::available_parallelism() {
        Ok(cores) => format!("{cores} cores"),
        Err(error) => format!("number of cores unknown ({error})"),
    };
    check("cpu", Status::Good, format!("{cores}, {}", Simd::detect()))
}

/// Adds the checks of driver and devices; returns the device that will be used.
fn examine_cuda(cuda: Result<CudaProbe, DriverError>, checks: &mut Vec<Check>) -> Option<String> {
    let probe = match cuda {
        Ok(probe) => probe,
        Err(error) => {
            let status = if error.is_unavailable() { Status::Absent } else { Status::Bad };
            checks.push(check("cuda driver", status, chain(&error)));
            if status == Status::Absent {
                let advice = format!(
                    "for a GPU, install the NVIDIA driver; if it is installed elsewhere, set {LIBRARY_VARIABLE} to its libcuda.so.1"
                );
                checks.push(check("missing", Status::Absent, advice));
            }
            return None;
        }
    };
    checks.push(check("cuda driver", Status::Good, format!("{}, CUDA {}", probe.library, probe.version)));
    if probe.devices.is_empty() {
        checks.push(check("device", Status::Absent, "the driver sees no device"));
    }
    for device in &probe.devices {
        let subject = format!("device {}", device.ordinal);
        let detail = format!("{device}, {} multiprocessors", device.multiprocessors);
        checks.push(match device.target {
            Some(target) => check(subject, Status::Good, format!("{detail}: kernels for {target}")),
            None => check(subject, Status::Bad, format!("{detail}: older than compute capability 7.5")),
        });
    }
    // Device 0 is what `auto` looks at.
    probe
        .devices
        .first()
        .filter(|device| device.target.is_some())
        .map(|device| format!("device 0, {}", device.name))
}

fn embedded() -> Check {
    let opened = Model::embedded().and_then(|model| Tokenizer::for_model(&model).map(|_| model));
    match opened {
        Ok(model) => {
            let millions = model.parameters() as f64 / 1e6;
            check("embedded model", Status::Good, format!("{}, {millions:.1} M parameters", model.name()))
        }
        Err(error) => check("embedded model", Status::Bad, chain(&error)),
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Check { subject, status, detail } in &self.checks {
            let mark = match status {
                Status::Good => "ok",
                Status::Absent => "-",
                Status::Bad => "BAD",
            };
            writeln!(f, "{mark:<4}{subject:<15} {detail}")?;
        }
        writeln!(f, "=>  {}", self.conclusion)
    }
}

#[cfg(test)]
mod tests {
    use gpu_driver::{ComputeCapability, CudaVersion, Driver};
    use ptx_builder::Target;

    use super::*;
    use crate::probe::CudaDevice;

    fn device(major: u32) -> CudaDevice {
        CudaDevice {
            ordinal: 0,
            name: "Test".to_owned(),
            capability: ComputeCapability { major, minor: 0 },
            memory: 8 << 30,
            multiprocessors: 132,
            target: Target::for_capability(major, 0),
        }
    }

    fn report(devices: Vec<CudaDevice>) -> Report {
        examine_with(Ok(CudaProbe {
            library: "libcuda.so.1".to_owned(),
            version: CudaVersion(13_000),
            devices,
        }))
    }

    #[test]
    fn without_a_driver_the_cpu_is_used_and_the_advice_says_what_is_missing() {
        // SAFETY: there is no such file.
        let missing = unsafe { Driver::load_from("/no/such/libcuda.so") };
        let missing = missing.map(|_| unreachable!("there is no such driver"));
        let report = examine_with(missing);
        assert_eq!(report.conclusion, "auto will use the cpu");
        let text = report.to_string();
        assert!(text.contains("no CUDA driver") && text.contains("WARPSMITH_CUDA_LIBRARY"), "{text}");
        assert!(report.checks.iter().all(|check| check.status != Status::Bad), "{text}");
    }

    #[test]
    fn a_device_is_used_if_kernels_can_be_made_for_it() {
        let good = report(vec![device(9)]);
        assert_eq!(good.conclusion, "auto will use cuda: device 0, Test");
        assert!(good.to_string().contains("132 multiprocessors: kernels for sm_90a"), "{good}");
        let old = report(vec![device(6)]);
        assert_eq!(old.conclusion, "auto will use the cpu");
        assert!(old.checks.iter().any(|check| check.status == Status::Bad));
        assert!(report(vec![]).to_string().contains("the driver sees no device"));
    }
}
