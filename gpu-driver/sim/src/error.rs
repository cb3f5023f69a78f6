//! What can be wrong with a simulated driver itself, as opposed to what its calls return.

use gpu_driver::CudaVersion;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimError {
    /// An environment variable has a value that is not understood.
    #[error("{name} is {value:?}, which is not understood")]
    Variable {
        /// The variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
    /// A fault is not of the form `call:n=CODE`.
    #[error("the fault {text:?} is not understood: expected call:n=CUDA_ERROR_NAME")]
    Fault {
        /// The text.
        text: String,
    },
    /// More simulated drivers than a process has room for.
    #[error("{0} simulated drivers are alive in this process already")]
    TooManyDrivers(usize),
    /// More devices than a driver can number.
    #[error("{0} devices are too many: 16 at most")]
    TooManyDevices(u32),
    /// A CUDA version without entries that every driver must have.
    #[error("a driver of CUDA {version} is too old: CUDA {} or later is needed", CudaVersion::OLDEST)]
    TooOld {
        /// The version.
        version: CudaVersion,
    },
    /// Device memory could not be read or written for a test.
    #[error("device memory at {address:#x}: {message}")]
    Memory {
        /// The address.
        address: u64,
        /// What is wrong.
        message: String,
    },
    /// A file of the C library could not be made.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// Result of this crate.
pub type Result<T, E = SimError> = std::result::Result<T, E>;
