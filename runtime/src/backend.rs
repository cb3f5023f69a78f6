//! Which engine runs a model.
//!
//! The choice is made once, from what the machine has and what the model needs, and says why. Later failures are
//! errors: a GPU that fails is not replaced by the CPU behind anyone's back.

use std::fmt;
use std::str::FromStr;
use std::thread::JoinHandle;

use gpu_driver::{Context, Driver, DriverError};

use crate::cpu::CpuDecoder;
use crate::cuda::CudaDecoder;
use crate::decoder::Decoder;
use crate::engine::EngineOptions;
use crate::error::{BackendError, Error, chain};
use crate::model::Model;
use crate::probe::{CudaProbe, probe};
use crate::startup::phase;

/// An engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Backend {
    /// [`CpuDecoder`].
    Cpu,
    /// [`CudaDecoder`].
    Cuda,
}

/// Which engine is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BackendRequest {
    /// CUDA where there is a device that can run the model, else the CPU.
    #[default]
    Auto,
    /// This engine, or an error.
    Only(Backend),
}

/// An engine and why it was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// The engine.
    pub backend: Backend,
    /// The reason, for people.
    pub reason: String,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        })
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.backend, self.reason)
    }
}

impl FromStr for BackendRequest {
    type Err = BackendError;

    fn from_str(name: &str) -> Result<Self, BackendError> {
        match name {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Only(Backend::Cpu)),
            "cuda" => Ok(Self::Only(Backend::Cuda)),
            other => Err(BackendError::Unknown { name: other.to_owned() }),
        }
    }
}

/// A device that is being opened on a thread of its own, while the caller reads the model: starting a driver takes
/// longer than that. Engines that are opened before this is dropped find the device open. What fails here fails again,
/// and is told, when the engine is opened.
#[derive(Debug)]
pub struct Opening(Option<JoinHandle<Option<Context>>>);

impl Opening {
    /// Begins to open CUDA device `ordinal`, unless the CPU is asked for.
    pub fn begin(request: BackendRequest, ordinal: usize) -> Self {
        if request == BackendRequest::Only(Backend::Cpu) {
            return Self(None);
        }
        let open = move || {
            let driver = phase!("driver").in_scope(Driver::load).ok()?;
            let device = driver.device(u32::try_from(ordinal).ok()?).ok()?;
            phase!("context").in_scope(|| device.context()).ok()
        };
        Self(std::thread::Builder::new().name("open device".to_owned()).spawn(open).ok())
    }
}

impl Drop for Opening {
    /// Waits: the driver does not take it well if the process ends while it starts.
    fn drop(&mut self) {
        if let Some(thread) = self.0.take() {
            drop(thread.join());
        }
    }
}

/// Chooses the engine for a model.
///
/// # Errors
/// [`BackendError::NoCuda`] if CUDA is asked for and the machine has none that can run the model.
pub fn choose(
    request: BackendRequest,
    model: &Model,
    options: &EngineOptions,
) -> Result<Choice, BackendError> {
    match request {
        BackendRequest::Only(Backend::Cpu) => {
            Ok(Choice { backend: Backend::Cpu, reason: "as asked for".to_owned() })
        }
        BackendRequest::Only(Backend::Cuda) => {
            match usable(probe(), needed_bytes(model, options), options.device) {
                Ok(device) => {
                    Ok(Choice { backend: Backend::Cuda, reason: format!("as asked for: {device}") })
                }
                Err((reason, source)) => {
                    Err(BackendError::NoCuda { reason, source: source.map(|error| Box::new(error) as _) })
                }
            }
        }
        BackendRequest::Auto => Ok(automatic(usable(probe(), needed_bytes(model, options), options.device))),
    }
}

/// Makes the decoder that was chosen.
///
/// # Errors
/// Whatever the engine cannot do; there is no fall-back.
pub fn open(choice: &Choice, model: &Model, options: &EngineOptions) -> Result<Box<dyn Decoder>, Error> {
    Ok(match choice.backend {
        Backend::Cpu => Box::new(CpuDecoder::new(model, options)?),
        Backend::Cuda => Box::new(CudaDecoder::new(model, options)?),
    })
}

type Unusable = (String, Option<DriverError>);

fn automatic(cuda: Result<String, Unusable>) -> Choice {
    match cuda {
        Ok(device) => Choice { backend: Backend::Cuda, reason: device },
        Err((reason, source)) => {
            let reason = match source {
                // What was tried is `doctor`'s to tell: most machines are just without a GPU.
                Some(DriverError::NoDriver { .. }) => "no CUDA driver is installed".to_owned(),
                Some(error) => format!("{reason}: {}", chain(&error)),
                None => reason,
            };
            Choice { backend: Backend::Cpu, reason }
        }
    }
}

/// What the model takes at least: weights and caches.
fn needed_bytes(model: &Model, options: &EngineOptions) -> u64 {
    let caches = model.config().kv_cache_bytes(options.kv, options.n_sequences, options.max_seq);
    (model.gguf().image_bytes() as u64).saturating_add(caches)
}

/// The device, if it can run a model of that size; else why not.
fn usable(probe: Result<CudaProbe, DriverError>, needed: u64, ordinal: usize) -> Result<String, Unusable> {
    let probe = probe.map_err(|error| {
        let reason = if error.is_unavailable() { "CUDA is not available" } else { "the CUDA driver fails" };
        (reason.to_owned(), Some(error))
    })?;
    let Some(device) = probe.devices.get(ordinal) else {
        return Err((
            format!("the CUDA driver has {} devices, none is number {ordinal}", probe.devices.len()),
            None,
        ));
    };
    if device.target.is_none() {
        return Err((format!("device {ordinal} ({device}) is older than compute capability 7.5"), None));
    }
    if device.memory < needed {
        let mib = |bytes: u64| bytes >> 20;
        let (needed, memory) = (mib(needed), mib(device.memory));
        return Err((
            format!("weights and caches take {needed} MiB, device {ordinal} has {memory} MiB"),
            None,
        ));
    }
    Ok(format!("device {ordinal}: {device}"))
}

#[cfg(test)]
mod tests {
    use gpu_driver::{ComputeCapability, CudaVersion, Driver};
    use ptx_builder::Target;

    use super::*;
    use crate::probe::CudaDevice;

    fn probe_of(major: u32, memory: u64) -> Result<CudaProbe, DriverError> {
        let device = CudaDevice {
            ordinal: 0,
            name: "Test".to_owned(),
            capability: ComputeCapability { major, minor: 0 },
            memory,
            multiprocessors: 1,
            target: Target::for_capability(major, 0),
        };
        Ok(CudaProbe { library: "test".to_owned(), version: CudaVersion(13_000), devices: vec![device] })
    }

    #[test]
    fn a_device_that_fits_is_taken() {
        let choice = automatic(usable(probe_of(9, 8 << 30), 1 << 30, 0));
        let reason = "device 0: Test, compute capability 9.0, 8 GiB".to_owned();
        assert_eq!(choice, Choice { backend: Backend::Cuda, reason });
    }

    #[test]
    fn the_cpu_is_taken_with_a_reason() {
        let reason = |probe, needed, ordinal| {
            let choice = automatic(usable(probe, needed, ordinal));
            assert_eq!(choice.backend, Backend::Cpu);
            choice.reason
        };
        assert_eq!(
            reason(probe_of(9, 1 << 30), 2 << 30, 0),
            "weights and caches take 2048 MiB, device 0 has 1024 MiB"
        );
        assert!(reason(probe_of(6, 8 << 30), 1, 0).ends_with("is older than compute capability 7.5"));
        assert_eq!(reason(probe_of(9, 8 << 30), 1, 3), "the CUDA driver has 1 devices, none is number 3");
        // SAFETY: there is no such file.
        let missing = unsafe { Driver::load_from("/no/such/libcuda.so") };
        let missing = missing.map(|_| unreachable!("there is no such driver"));
        assert_eq!(reason(missing, 1, 0), "no CUDA driver is installed");
        let none = reason(Err(DriverError::NoDevice), 1, 0);
        assert_eq!(none, "CUDA is not available: the CUDA driver sees no device");
    }

    #[test]
    fn names_of_backends() {
        assert_eq!("auto".parse::<BackendRequest>().unwrap(), BackendRequest::Auto);
        assert_eq!("cuda".parse::<BackendRequest>().unwrap(), BackendRequest::Only(Backend::Cuda));
        let unknown = "tpu".parse::<BackendRequest>().unwrap_err().to_string();
        assert_eq!(unknown, "unknown backend \"tpu\": auto, cpu or cuda");
    }

    #[test]
    fn a_cpu_that_was_asked_for_is_opened() {
        let model = Model::embedded().unwrap();
        let options = EngineOptions::for_model(model.config());
        let choice = choose(BackendRequest::Only(Backend::Cpu), &model, &options).unwrap();
        assert_eq!(choice.to_string(), "cpu (as asked for)");
        assert!(open(&choice, &model, &options).unwrap().describe().starts_with("CPU"));
    }
}
