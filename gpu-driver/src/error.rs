//! Errors: which call failed, with which code, and what that means for the work that follows.

use crate::module::JitError;
use crate::sys::{CUresult, ENTRIES};
use std::fmt;

/// A CUDA version as the driver counts it: 1000 * major + 10 * minor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CudaVersion(pub i32);

impl CudaVersion {
    /// The oldest version whose drivers can be used: they have every function without which nothing works.
    pub const OLDEST: Self = {
        let (mut oldest, mut i) = (0, 0);
        while i < ENTRIES.len() {
            if ENTRIES[i].required && ENTRIES[i].version > oldest {
                oldest = ENTRIES[i].version;
            }
            i += 1;
        }
        Self(oldest)
    };

    /// Major version.
    pub fn major(self) -> i32 {
        self.0 / 1000
    }

    /// Minor version.
    pub fn minor(self) -> i32 {
        self.0 % 1000 / 10
    }
}

impl fmt::Display for CudaVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major(), self.minor())
    }
}

/// What an error says about its cause and about the context it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The named call itself failed, or was refused before it was made. The context is as usable as before.
    Immediate,
    /// The named call reports that work queued earlier failed. The context survives.
    Deferred,
    /// The context is lost: every later call on it fails, and most such errors end CUDA for the whole process.
    Sticky,
    /// The driver, a function of it, or a module could not be loaded.
    Load,
}

/// A driver call that returned something other than success.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    call: &'static str,
    code: CUresult,
    // Name and description as the driver gives them, for a code that this binding does not list.
    text: Option<Box<(String, String)>>,
}

impl ApiError {
    pub(crate) fn new(call: &'static str, code: CUresult, text: Option<(String, String)>) -> Self {
        Self { call, code, text: text.map(Box::new) }
    }

    /// The exported symbol that was called, for example `cuMemAlloc_v2`.
    pub fn call(&self) -> &'static str {
        self.call
    }

    /// The code that it returned.
    pub fn code(&self) -> CUresult {
        self.code
    }

    /// The code's exact CUDA name. For a code that neither this binding nor the driver can name, its number.
    pub fn name(&self) -> String {
        match (self.code.name(), &self.text) {
            (Some(name), _) => name.to_owned(),
            (None, Some(text)) => text.0.clone(),
            (None, None) => format!("CUDA error {}", self.code.0),
        }
    }

    /// What the code means.
    pub fn description(&self) -> String {
        match (self.code.description(), &self.text) {
            (Some(description), _) => description.to_owned(),
            (None, Some(text)) => text.1.clone(),
            (None, None) => "not listed in this binding, and the driver has no text for it".to_owned(),
        }
    }

    /// Cause and consequence.
    pub fn kind(&self) -> ErrorKind {
        if self.code.is_sticky() {
            ErrorKind::Sticky
        } else if is_load_code(self.code) {
            ErrorKind::Load
        } else if waits_for_earlier_work(self.call) && !is_argument_code(self.code) {
            ErrorKind::Deferred
        } else {
            ErrorKind::Immediate
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} returned {} ({}): {}", self.call, self.name(), self.code.0, self.description())?;
        match self.kind() {
            ErrorKind::Sticky => {
                write!(f, "; the fault lies in work queued earlier, and the context is lost")
            }
            ErrorKind::Deferred => write!(f, "; the fault lies in work queued earlier"),
            ErrorKind::Immediate | ErrorKind::Load => Ok(()),
        }
    }
}

impl std::error::Error for ApiError {}

fn is_load_code(code: CUresult) -> bool {
    matches!(
        code,
        CUresult::ERROR_STUB_LIBRARY
            | CUresult::ERROR_INVALID_IMAGE
            | CUresult::ERROR_NO_BINARY_FOR_GPU
            | CUresult::ERROR_INVALID_PTX
            | CUresult::ERROR_JIT_COMPILER_NOT_FOUND
            | CUresult::ERROR_UNSUPPORTED_PTX_VERSION
            | CUresult::ERROR_JIT_COMPILATION_DISABLED
            | CUresult::ERROR_UNSUPPORTED_DEVSIDE_SYNC
            | CUresult::ERROR_INSUFFICIENT_LOADER_VERSION
            | CUresult::ERROR_INVALID_SOURCE
            | CUresult::ERROR_FILE_NOT_FOUND
            | CUresult::ERROR_SHARED_OBJECT_SYMBOL_NOT_FOUND
            | CUresult::ERROR_SHARED_OBJECT_INIT_FAILED
            | CUresult::ERROR_SYSTEM_DRIVER_MISMATCH
            | CUresult::ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE
    )
}

/// Codes that speak of the named call's own arguments or of the process, never of work queued earlier.
fn is_argument_code(code: CUresult) -> bool {
    matches!(
        code,
        CUresult::ERROR_INVALID_VALUE
            | CUresult::ERROR_NOT_INITIALIZED
            | CUresult::ERROR_DEINITIALIZED
            | CUresult::ERROR_INVALID_CONTEXT
            | CUresult::ERROR_INVALID_HANDLE
            | CUresult::ERROR_NOT_READY
            | CUresult::ERROR_NOT_PERMITTED
            | CUresult::ERROR_NOT_SUPPORTED
    )
}

fn waits_for_earlier_work(call: &str) -> bool {
    matches!(
        call,
        "cuStreamSynchronize"
            | "cuStreamQuery"
            | "cuEventSynchronize"
            | "cuEventQuery"
            | "cuCtxSynchronize"
            | "cuMemFree_v2"
            | "cuMemFreeHost"
    )
}

/// Everything that can go wrong in this crate.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DriverError {
    /// No driver library could be loaded.
    #[error("no CUDA driver: {}", list_attempts(.tried))]
    NoDriver {
        /// Each name or path that was tried, with the loader's message.
        tried: Vec<(String, String)>,
    },
    /// A library was loaded, but it lacks functions without which nothing works.
    #[error(
        "{library}{} is not a usable CUDA driver: it lacks {}{}",
        version_clause(.driver), list_missing(.missing), needs_clause(.driver)
    )]
    IncompleteDriver {
        /// Its name or path.
        library: String,
        /// CUDA version that it supports, where it says.
        driver: Option<CudaVersion>,
        /// The missing symbols.
        missing: Vec<&'static str>,
    },
    /// The driver is older than the function that was needed.
    #[error("the driver lacks {symbol}, which CUDA {needs} introduced{}", driver_clause(.driver))]
    SymbolMissing {
        /// The exported symbol.
        symbol: &'static str,
        /// CUDA version that introduced it.
        needs: CudaVersion,
        /// CUDA version of the driver in use, where it says.
        driver: Option<CudaVersion>,
    },
    /// The driver works but sees no device.
    #[error("the CUDA driver sees no device")]
    NoDevice,
    /// There is no device with that ordinal.
    #[error("no device {ordinal}: the driver has {count}")]
    NoSuchDevice {
        /// The ordinal that was asked for.
        ordinal: u32,
        /// Devices that exist.
        count: u32,
    },
    /// A driver call failed.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The context was given up after an earlier error, usually a sticky one; the call was not made.
    #[error("the context of device {device} is poisoned: {cause}")]
    Poisoned {
        /// Ordinal of the context's device.
        device: u32,
        /// The error that poisoned it.
        cause: Box<ApiError>,
    },
    /// PTX did not compile or load.
    #[error(transparent)]
    Jit(Box<JitError>),
    /// Text that was to be compiled begins as machine code does.
    #[error("this is an ELF file, such as a cubin, and not PTX")]
    MachineCode,
    /// A kernel or variable is not in its module.
    #[error("the module has no {kind} named {name:?}")]
    NoSuchName {
        /// `kernel` or `variable`.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A string that goes to the driver contains a NUL byte.
    #[error("{what} contains a NUL byte at offset {offset}")]
    InteriorNul {
        /// What the string is.
        what: &'static str,
        /// Offset of the byte.
        offset: usize,
    },
    /// A launch contradicts the limits of the device or of the kernel.
    #[error("{kernel}: {reason}")]
    Launch {
        /// The kernel.
        kernel: String,
        /// What does not fit, with both numbers.
        reason: String,
    },
    /// An index or range lies outside its buffer.
    #[error("{what}: elements {start}..{end} of a buffer of {len}")]
    OutOfBounds {
        /// The operation.
        what: &'static str,
        /// First element.
        start: usize,
        /// One past the last element.
        end: usize,
        /// Elements in the buffer.
        len: usize,
    },
    /// Source and destination of a copy differ in length.
    #[error("{what}: destination has {dst} elements, source has {src}")]
    LengthMismatch {
        /// The operation.
        what: &'static str,
        /// Length of the destination.
        dst: usize,
        /// Length of the source.
        src: usize,
    },
    /// A size does not fit the address space.
    #[error("{what}: {count} elements of {size} bytes exceed the address space")]
    TooLarge {
        /// The operation.
        what: &'static str,
        /// Elements.
        count: usize,
        /// Bytes per element.
        size: usize,
    },
    /// Bytes cannot be viewed as elements of the wanted type.
    #[error(
        "{bytes} bytes at address {address:#x} cannot be viewed as elements of {size} bytes aligned to {align}"
    )]
    BadCast {
        /// Bytes in the view.
        bytes: usize,
        /// Device address.
        address: u64,
        /// Bytes per wanted element.
        size: usize,
        /// Wanted alignment.
        align: usize,
    },
    /// Two objects of one operation belong to different contexts.
    #[error("{what}: an object of device {other}{} is used with the context of device {device}", driver_of(.device, .other))]
    ContextMismatch {
        /// The operation.
        what: &'static str,
        /// Device of the context in which the operation runs.
        device: u32,
        /// Device of the foreign object; the same number if the object is of another [`Driver`](crate::Driver).
        other: u32,
    },
    /// A graph operation contradicts the graph.
    #[error("graph: {reason}")]
    Graph {
        /// What does not fit.
        reason: String,
    },
    /// An instantiated graph cannot be updated to the new definition.
    #[error("graph update refused: {result} ({code}){}", node_clause(.node))]
    GraphUpdate {
        /// Name of the `CUgraphExecUpdateResult`.
        result: &'static str,
        /// Its number.
        code: u32,
        /// Label of the node at fault, where the driver names one.
        node: Option<String>,
    },
    /// An instantiated graph has not finished running, so it cannot be changed.
    #[error(
        "the graph is in flight: a stream on which it was launched has unfinished work; wait before updating it"
    )]
    GraphInFlight,
    /// The driver gave a negative number where only a count makes sense.
    #[error("{what}: the driver gave {value}, which is no count")]
    NegativeCount {
        /// What was counted.
        what: &'static str,
        /// The number.
        value: i32,
    },
    /// A file that the driver was to write could not be made or read.
    #[error("{what}: {message}")]
    Io {
        /// The operation.
        what: &'static str,
        /// The system's message.
        message: String,
    },
}

/// A count as the driver gives it, in a C `int`.
pub(crate) fn count(what: &'static str, value: i32) -> Result<u32, DriverError> {
    u32::try_from(value).map_err(|_| DriverError::NegativeCount { what, value })
}

impl DriverError {
    /// The result code, for an error that comes from one.
    pub fn code(&self) -> Option<CUresult> {
        match self {
            Self::Api(e) => Some(e.code()),
            Self::Poisoned { cause, .. } => Some(cause.code()),
            Self::Jit(e) => Some(e.api().code()),
            Self::NoDevice => Some(CUresult::ERROR_NO_DEVICE),
            _ => None,
        }
    }

    /// Cause and consequence.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Api(e) => e.kind(),
            Self::Poisoned { .. } => ErrorKind::Sticky,
            Self::Jit(e) => match e.api().kind() {
                ErrorKind::Sticky => ErrorKind::Sticky,
                _ => ErrorKind::Load,
            },
            Self::NoDriver { .. }
            | Self::IncompleteDriver { .. }
            | Self::SymbolMissing { .. }
            | Self::MachineCode => ErrorKind::Load,
            _ => ErrorKind::Immediate,
        }
    }

    /// Whether the machine has no usable driver or device at all, as opposed to a fault in using one.
    pub fn is_unavailable(&self) -> bool {
        match self {
            Self::NoDriver { .. } | Self::IncompleteDriver { .. } | Self::NoDevice => true,
            Self::Api(e) => {
                matches!(e.code(), CUresult::ERROR_NO_DEVICE | CUresult::ERROR_STUB_LIBRARY)
                    && e.call() == "cuInit"
            }
            _ => false,
        }
    }
}

fn list_attempts(tried: &[(String, String)]) -> String {
    tried.iter().map(|(name, why)| format!("{name} ({why})")).collect::<Vec<_>>().join("; ")
}

/// Names that say which library it is, as opposed to all that a library of something else lacks.
const NAMED: usize = 3;

fn list_missing(missing: &[&str]) -> String {
    let named = missing[..missing.len().min(NAMED)].join(", ");
    match missing.len() - missing.len().min(NAMED) {
        0 => named,
        more => format!("{named} and {more} more functions"),
    }
}

fn version_clause(driver: &Option<CudaVersion>) -> String {
    driver.map(|v| format!(" (CUDA {v})")).unwrap_or_default()
}

fn needs_clause(driver: &Option<CudaVersion>) -> String {
    let needs = CudaVersion::OLDEST;
    if driver.is_some_and(|v| v >= needs) {
        return String::new();
    }
    format!("; CUDA {needs} or later is needed")
}

/// A device has one context in one driver.
fn driver_of(device: &u32, other: &u32) -> &'static str {
    if device == other { " of another `Driver`" } else { "" }
}

fn driver_clause(driver: &Option<CudaVersion>) -> String {
    driver.map(|v| format!("; this driver supports CUDA {v}")).unwrap_or_default()
}

fn node_clause(node: &Option<String>) -> String {
    node.as_ref().map(|n| format!(", node {n}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn api(call: &'static str, code: CUresult) -> ApiError {
        ApiError::new(call, code, None)
    }

    #[test]
    fn a_negative_count_is_an_error_that_names_it() {
        assert_eq!(count("devices", 2).expect("a count"), 2);
        let error = count("devices", -1).expect_err("no count");
        assert_eq!(error.to_string(), "devices: the driver gave -1, which is no count");
    }

    #[test]
    fn message_names_call_code_and_meaning() {
        let text = api("cuMemAlloc_v2", CUresult::ERROR_OUT_OF_MEMORY).to_string();
        assert!(
            text.starts_with("cuMemAlloc_v2 returned CUDA_ERROR_OUT_OF_MEMORY (2): there is not enough"),
            "{text}"
        );
        let text = api("cuGraphLaunch", CUresult(901)).to_string();
        assert!(text.contains("CUDA_ERROR_STREAM_CAPTURE_INVALIDATED (901)"), "{text}");
    }

    #[test]
    fn kinds() {
        use ErrorKind::*;
        assert_eq!(api("cuMemAlloc_v2", CUresult::ERROR_OUT_OF_MEMORY).kind(), Immediate);
        assert_eq!(api("cuStreamSynchronize", CUresult::ERROR_ILLEGAL_ADDRESS).kind(), Sticky);
        assert_eq!(api("cuLaunchKernel", CUresult::ERROR_ILLEGAL_ADDRESS).kind(), Sticky);
        assert_eq!(api("cuStreamSynchronize", CUresult::ERROR_LAUNCH_OUT_OF_RESOURCES).kind(), Deferred);
        assert_eq!(api("cuStreamSynchronize", CUresult::ERROR_INVALID_HANDLE).kind(), Immediate);
        assert_eq!(api("cuModuleLoadDataEx", CUresult::ERROR_UNSUPPORTED_PTX_VERSION).kind(), Load);
    }

    #[test]
    fn a_newer_drivers_text_is_used_for_unlisted_codes() {
        let text = Some(("CUDA_ERROR_FROM_THE_FUTURE".to_owned(), "something new".to_owned()));
        let error = ApiError::new("cuInit", CUresult(4242), text);
        assert_eq!(error.to_string(), "cuInit returned CUDA_ERROR_FROM_THE_FUTURE (4242): something new");
        let bare = api("cuInit", CUresult(4242));
        assert!(bare.to_string().contains("CUDA error 4242"), "{bare}");
    }

    #[test]
    fn missing_symbol_says_which_driver_has_it() {
        let error = DriverError::SymbolMissing {
            symbol: "cuGraphAddDependencies_v2",
            needs: CudaVersion(12_030),
            driver: Some(CudaVersion(12_010)),
        };
        assert_eq!(
            error.to_string(),
            "the driver lacks cuGraphAddDependencies_v2, which CUDA 12.3 introduced; this driver supports CUDA 12.1"
        );
        assert_eq!(error.kind(), ErrorKind::Load);
    }

    #[test]
    fn an_incomplete_driver_is_named_with_its_version_and_what_it_needs() {
        assert_eq!(CudaVersion::OLDEST.to_string(), "11.0");
        let error = |driver, missing: &[&'static str]| {
            let (library, missing) = ("libcuda.so.1".to_owned(), missing.to_vec());
            DriverError::IncompleteDriver { library, driver, missing }.to_string()
        };
        assert_eq!(
            error(Some(CudaVersion(10_020)), &["cuInit"]),
            "libcuda.so.1 (CUDA 10.2) is not a usable CUDA driver: it lacks cuInit; CUDA 11.0 or later is needed"
        );
        assert_eq!(
            error(Some(CudaVersion(12_000)), &["a", "b", "c"]),
            "libcuda.so.1 (CUDA 12.0) is not a usable CUDA driver: it lacks a, b, c"
        );
        assert_eq!(
            error(None, &["a", "b", "c", "d", "e"]),
            "libcuda.so.1 is not a usable CUDA driver: it lacks a, b, c and 2 more functions; CUDA 11.0 or later is needed"
        );
    }

    #[test]
    fn errors_stay_small() {
        assert!(std::mem::size_of::<DriverError>() <= 72, "{}", std::mem::size_of::<DriverError>());
    }
}
