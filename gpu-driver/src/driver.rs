//! The driver library: finding it, filling the table, initialising it once.

use crate::context::ContextInner;
use crate::drop_log::{DropError, DropLog};
use crate::error::{CudaVersion, DriverError};
use crate::sys::table::{GetProcAddress, GetProcAddressV1, GetProcAddressV2, call};
use crate::sys::{CUresult, DriverTable, Entry};
use crate::{Context, Device};
use libloading::Library;
use once_cell::sync::OnceCell;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ffi::{OsStr, c_int, c_void};
use std::fmt;
use std::path::Path;
use std::ptr::NonNull;
use std::sync::{Arc, Weak};

/// Environment variable with the path of the driver library, for [`Driver::load`].
pub const LIBRARY_VARIABLE: &str = "WARPSMITH_CUDA_LIBRARY";

#[cfg(windows)]
const DEFAULT_NAMES: &[&str] = &["nvcuda.dll"];
#[cfg(not(windows))]
const DEFAULT_NAMES: &[&str] = &["libcuda.so.1", "libcuda.so"];

/// A loaded CUDA driver. Cloning shares it.
#[derive(Clone)]
pub struct Driver(pub(crate) Arc<DriverInner>);

pub(crate) struct DriverInner {
    pub(crate) table: DriverTable,
    initialised: OnceCell<()>,
    pub(crate) contexts: Mutex<BTreeMap<u32, Weak<ContextInner>>>,
    pub(crate) drop_log: DropLog,
    source: String,
    // Last field: everything above may point into the library.
    _library: Option<Library>,
}

impl Driver {
    /// Loads the system's driver: the library that `WARPSMITH_CUDA_LIBRARY` names if it is set (and no other), else
    /// the platform's names (`libcuda.so.1`, `libcuda.so`; `nvcuda.dll`). The first success is kept for the process;
    /// a failure is not, so that a later call tries again. Whoever sets the variable vouches for the library.
    ///
    /// Nothing is initialised yet: [`Driver::version`] works on a machine without a device.
    ///
    /// # Errors
    ///
    /// [`DriverError::NoDriver`] lists what was tried and why each attempt failed; [`DriverError::IncompleteDriver`]
    /// names what a library lacks.
    pub fn load() -> Result<Self, DriverError> {
        static LOADED: OnceCell<Driver> = OnceCell::new();
        LOADED
            .get_or_try_init(|| match std::env::var_os(LIBRARY_VARIABLE) {
                Some(path) if !path.is_empty() => Self::load_path(path.as_ref()),
                _ => Self::load_first(DEFAULT_NAMES),
            })
            .cloned()
    }

    /// Loads the driver from a library at `path`, or of that name on the loader's search path.
    ///
    /// # Errors
    ///
    /// As for [`Driver::load`]. An empty path is refused: to the loader it is the program itself.
    ///
    /// # Safety
    ///
    /// The library must be one that may be loaded here, and if it has the functions of a driver, they must do what
    /// NVIDIA's do.
    pub unsafe fn load_from(path: impl AsRef<Path>) -> Result<Self, DriverError> {
        Self::load_path(path.as_ref())
    }

    fn load_path(path: &Path) -> Result<Self, DriverError> {
        if path.as_os_str().is_empty() {
            return Err(DriverError::NoDriver { tried: vec![("\"\"".to_owned(), "no path".to_owned())] });
        }
        let name = path.display().to_string();
        match open(path.as_os_str()) {
            Ok(library) => Self::from_library(library, name),
            Err(e) => Err(DriverError::NoDriver { tried: vec![(name, e)] }),
        }
    }

    fn load_first(names: &[&str]) -> Result<Self, DriverError> {
        let mut tried = Vec::new();
        for name in names {
            match open(OsStr::new(name)) {
                Ok(library) => return Self::from_library(library, (*name).to_owned()),
                Err(e) => tried.push(((*name).to_owned(), e)),
            }
        }
        Err(DriverError::NoDriver { tried })
    }

    fn from_library(library: Library, source: String) -> Result<Self, DriverError> {
        // SAFETY: the resolver looks symbols up in what presents itself as a CUDA driver, whose exported symbols and
        // answers to cuGetProcAddress have the signatures that CUDA documents for these names and versions; the
        // library is stored beside the table and dropped after it.
        let table = unsafe {
            let lookup = Lookup::new(&library);
            DriverTable::from_resolver(|entry| lookup.resolve(entry)).map_err(|missing| {
                DriverError::IncompleteDriver { library: source.clone(), driver: lookup.version, missing }
            })?
        };
        tracing::debug!(library = %source, "CUDA driver loaded");
        Ok(Self::new(table, source, Some(library)))
    }

    /// Makes a driver of functions that the caller supplies: a software driver, or a test double.
    ///
    /// # Safety
    ///
    /// Every function in the table must behave as the CUDA documentation says of its namesake as far as memory is
    /// concerned: it must write no more than the documented output, must accept being called from any thread, and
    /// what it returns as addresses of pinned host memory must be valid for reads and writes until freed.
    pub unsafe fn from_table(table: DriverTable) -> Self {
        Self::new(table, "function table".to_owned(), None)
    }

    fn new(table: DriverTable, source: String, library: Option<Library>) -> Self {
        Self(Arc::new(DriverInner {
            table,
            initialised: OnceCell::new(),
            contexts: Mutex::new(BTreeMap::new()),
            drop_log: DropLog::default(),
            source,
            _library: library,
        }))
    }

    /// The function table, for calls that this crate does not wrap.
    pub fn table(&self) -> &DriverTable {
        &self.0.table
    }

    /// Where the functions come from: the library's name or path.
    pub fn source(&self) -> &str {
        &self.0.source
    }

    /// The newest CUDA version that the driver supports. Works without initialisation and without a device.
    ///
    /// # Errors
    ///
    /// The driver's own failure.
    pub fn version(&self) -> Result<CudaVersion, DriverError> {
        let mut version: c_int = 0;
        // SAFETY: the version goes to a local.
        unsafe { call!(self.table(), driver_get_version(&mut version)) }?;
        Ok(CudaVersion(version))
    }

    /// Initialises the driver (`cuInit`) unless that has succeeded before. Called by everything that needs it.
    ///
    /// # Errors
    ///
    /// [`DriverError::NoDevice`] where the driver finds no device; otherwise the driver's failure. A failure is not
    /// remembered: the next call tries again.
    pub fn init(&self) -> Result<(), DriverError> {
        self.0
            .initialised
            .get_or_try_init(|| {
                // SAFETY: cuInit takes only flags, which must be zero.
                unsafe { call!(self.table(), init(0)) }
            })
            .map(|_| ())
            .map_err(|e| if e.code() == Some(CUresult::ERROR_NO_DEVICE) { DriverError::NoDevice } else { e })
    }

    /// Whether `cuInit` has succeeded.
    pub fn is_initialised(&self) -> bool {
        self.0.initialised.get().is_some()
    }

    /// Number of devices; zero is a valid answer.
    ///
    /// # Errors
    ///
    /// Those of [`Driver::init`] except for [`DriverError::NoDevice`], and the driver's failure.
    pub fn device_count(&self) -> Result<u32, DriverError> {
        match self.init() {
            Err(DriverError::NoDevice) => return Ok(0),
            other => other?,
        }
        let mut count: c_int = 0;
        // SAFETY: the count goes to a local.
        unsafe { call!(self.table(), device_get_count(&mut count)) }?;
        crate::error::count("devices", count)
    }

    /// The device with this ordinal.
    ///
    /// # Errors
    ///
    /// [`DriverError::NoDevice`], [`DriverError::NoSuchDevice`], or the driver's failure.
    pub fn device(&self, ordinal: u32) -> Result<Device, DriverError> {
        Device::new(self, ordinal)
    }

    /// Every device.
    ///
    /// # Errors
    ///
    /// Those of [`Driver::device_count`] and [`Driver::device`].
    pub fn devices(&self) -> Result<Vec<Device>, DriverError> {
        (0..self.device_count()?).map(|ordinal| self.device(ordinal)).collect()
    }

    /// The primary context of a device: [`Device::context`].
    ///
    /// # Errors
    ///
    /// Those of [`Driver::device`] and [`Device::context`].
    pub fn context(&self, ordinal: u32) -> Result<Context, DriverError> {
        self.device(ordinal)?.context()
    }

    /// Takes the errors of destructors that had no context left to be kept in, oldest first. See
    /// [`Context::take_drop_errors`] for the others.
    pub fn take_drop_errors(&self) -> Vec<DropError> {
        self.0.drop_log.take()
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("source", &self.0.source)
            .field("initialised", &self.is_initialised())
            .finish_non_exhaustive()
    }
}

/// Opens a library such that its code stays mapped after the guard is dropped: a CUDA driver starts threads and
/// registers exit handlers that would otherwise run in unmapped memory.
fn open(name: &OsStr) -> Result<Library, String> {
    #[cfg(unix)]
    {
        use libloading::os::unix;
        #[cfg(target_os = "linux")]
        const RTLD_NODELETE: c_int = 0x1000;
        #[cfg(not(target_os = "linux"))]
        const RTLD_NODELETE: c_int = 0;
        // SAFETY: loading runs the library's initialisers. The name comes from the platform's convention for the CUDA
        // driver or was chosen by the user for that purpose.
        let opened =
            unsafe { unix::Library::open(Some(name), unix::RTLD_NOW | unix::RTLD_LOCAL | RTLD_NODELETE) };
        opened.map(Library::from).map_err(|e| cause_of(&e))
    }
    #[cfg(windows)]
    {
        use libloading::os::windows;
        // SAFETY: as above.
        let opened = unsafe { windows::Library::new(name) }.map_err(|e| cause_of(&e))?;
        opened.pin().map_err(|e| cause_of(&e))?;
        Ok(Library::from(opened))
    }
}

/// The loader's own message: libloading's outer error only says which call failed.
fn cause_of(error: &libloading::Error) -> String {
    use std::error::Error;
    error.source().map_or_else(|| error.to_string(), ToString::to_string)
}

/// Symbol lookup in a library: through `cuGetProcAddress` where it has that, else by exported name.
struct Lookup<'l> {
    library: &'l Library,
    get_proc_address: Option<GetProcAddress>,
    version: Option<CudaVersion>,
}

impl<'l> Lookup<'l> {
    /// # Safety
    ///
    /// The library must be a CUDA driver: its exports must have the signatures that CUDA documents.
    unsafe fn new(library: &'l Library) -> Self {
        let mut version: c_int = 0;
        type GetVersion = unsafe extern "C" fn(*mut c_int) -> CUresult;
        // SAFETY: the caller promises that the export has the documented signature; the version goes to a local.
        let known = unsafe {
            library
                .get::<GetVersion>(c"cuDriverGetVersion")
                .is_ok_and(|f| f(&mut version) == CUresult::SUCCESS)
        };
        let version = known.then_some(CudaVersion(version));
        // SAFETY: the caller promises that the exports have the documented signatures.
        let get_proc_address = unsafe {
            library
                .get::<GetProcAddressV2>(c"cuGetProcAddress_v2")
                .map(|f| GetProcAddress::V2(*f))
                .or_else(|_| {
                    library.get::<GetProcAddressV1>(c"cuGetProcAddress").map(|f| GetProcAddress::V1(*f))
                })
                .ok()
        };
        Self { library, get_proc_address, version }
    }

    /// # Safety
    ///
    /// As for [`Lookup::new`].
    unsafe fn resolve(&self, entry: &Entry) -> Option<NonNull<c_void>> {
        let asked = self.get_proc_address.zip(self.version);
        if let Some(pointer) = asked.and_then(|(get, version)| get.resolve(entry, version)) {
            return Some(pointer);
        }
        // SAFETY: only the address is taken; whoever calls it relies on the caller's promise.
        let symbol = unsafe { self.library.get::<*mut c_void>(entry.symbol) }.ok()?;
        NonNull::new(*symbol)
    }
}
