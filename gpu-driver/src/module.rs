//! Modules: PTX compiled by the driver.

use crate::context::Context;
use crate::error::{ApiError, DriverError};
use crate::function::{Function, Kernel};
use crate::memory::DevicePtr;
use crate::sys::table::call;
use crate::sys::{
    CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, CU_JIT_GENERATE_DEBUG_INFO,
    CU_JIT_GENERATE_LINE_INFO, CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, CU_JIT_LOG_VERBOSE,
    CU_JIT_MAX_REGISTERS, CU_JIT_OPTIMIZATION_LEVEL, CU_JIT_WALL_TIME, CUmodule, CUresult,
};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::ffi::{CString, c_uint, c_void};
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// A loaded module. Cloning shares it; functions keep it loaded. Unloading waits for all work of the context.
#[derive(Clone)]
pub struct Module(pub(crate) Arc<ModuleInner>);

pub(crate) struct ModuleInner {
    context: Context,
    handle: CUmodule,
    log: JitLog,
    /// Kernels that were asked for, by name.
    pub(crate) kernels: Mutex<BTreeMap<String, Arc<Kernel>>>,
}

/// How PTX is compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JitOptions {
    /// 0 to 4; `None` leaves the driver's default, which is 4.
    pub optimization_level: Option<u8>,
    /// Most registers per thread; `None` leaves it to the compiler and to `.maxnreg` in the PTX.
    pub max_registers: Option<u32>,
    /// Registers, spills and shared memory of each kernel in the informational log. The driver writes it only for
    /// modules that it compiles, not for those from its cache.
    pub verbose: bool,
    /// Line numbers, for profilers.
    pub line_info: bool,
    /// Debug information. The driver then does not optimise.
    pub debug_info: bool,
    /// Size of each log buffer in bytes. The driver truncates what is longer.
    pub log_bytes: usize,
}

impl Default for JitOptions {
    fn default() -> Self {
        Self {
            optimization_level: None,
            max_registers: None,
            verbose: false,
            line_info: false,
            debug_info: false,
            log_bytes: 16 << 10,
        }
    }
}

/// What the driver's compiler said.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct JitLog {
    /// Informational log; often empty.
    pub info: String,
    /// Error log.
    pub error: String,
    /// Compile time in milliseconds, zero where the driver does not report it.
    pub wall_ms: f32,
}

/// PTX that the driver refused.
#[derive(Debug, Clone)]
pub struct JitError {
    api: ApiError,
    log: JitLog,
    line: Option<usize>,
    excerpt: String,
}

impl JitError {
    /// The call and its code.
    pub fn api(&self) -> &ApiError {
        &self.api
    }

    /// Both logs.
    pub fn log(&self) -> &JitLog {
        &self.log
    }

    /// The first line of the PTX that the error log names, counted from one.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The PTX round that line, with line numbers; empty if the log names none.
    pub fn excerpt(&self) -> &str {
        &self.excerpt
    }
}

impl fmt::Display for JitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.api)?;
        let log = self.log.error.trim_end();
        if log.is_empty() {
            f.write_str("\n(the driver's error log is empty)")?;
        } else {
            write!(f, "\n{log}")?;
        }
        if !self.excerpt.is_empty() {
            write!(f, "\n{}", self.excerpt.trim_end_matches('\n'))?;
        }
        Ok(())
    }
}

impl std::error::Error for JitError {}

/// What machine code begins with.
const ELF: &str = "\x7fELF";

impl Module {
    /// Compiles and loads PTX text with default options.
    ///
    /// # Errors
    ///
    /// As for [`Module::from_ptx_with`].
    pub fn from_ptx(context: &Context, ptx: &str) -> Result<Self, DriverError> {
        Self::from_ptx_with(context, ptx, &JitOptions::default())
    }

    /// Compiles and loads PTX text.
    ///
    /// # Errors
    ///
    /// [`DriverError::Jit`] with the driver's log and an excerpt of the PTX; [`DriverError::MachineCode`];
    /// [`DriverError::InteriorNul`]; [`DriverError::Poisoned`].
    pub fn from_ptx_with(context: &Context, ptx: &str, options: &JitOptions) -> Result<Self, DriverError> {
        // The driver tells kinds of images apart by their first bytes, and learns the size of machine code from its
        // headers, which may be that of more than this text. The other kinds do not begin with UTF-8.
        if ptx.starts_with(ELF) {
            return Err(DriverError::MachineCode);
        }
        let text = c_string("PTX", ptx)?;
        let mut request = JitRequest::new(options);
        let mut handle = CUmodule::NULL;
        context.bind()?;
        let loaded = {
            let (n, keys, values) = request.arguments();
            // SAFETY: the image is a NUL-terminated string that the driver takes for text. Keys and values are arrays of
            // `n` entries; each value is a scalar or the address of a log buffer of the size given beside it, and all
            // live until the call returns.
            unsafe {
                call!(
                    context.table(),
                    module_load_data_ex(&mut handle, text.as_ptr().cast::<c_void>(), n, keys, values)
                )
            }
        };
        let log = request.log();
        match loaded {
            Ok(()) => {
                tracing::debug!(bytes = ptx.len(), wall_ms = log.wall_ms, "module loaded");
                let kernels = Mutex::default();
                Ok(Self(Arc::new(ModuleInner { context: context.clone(), handle, log, kernels })))
            }
            Err(DriverError::Api(api)) => {
                let line = first_line_named(&log.error);
                let excerpt = line.map(|line| excerpt(ptx, line)).unwrap_or_default();
                let error = DriverError::Jit(Box::new(JitError { api, log, line, excerpt }));
                context.note(&error);
                Err(error)
            }
            Err(other) => Err(other),
        }
    }

    /// Its context.
    pub fn context(&self) -> &Context {
        &self.0.context
    }

    /// The driver's handle.
    pub fn handle(&self) -> CUmodule {
        self.0.handle
    }

    /// What the compiler said when it was loaded.
    pub fn log(&self) -> &JitLog {
        &self.0.log
    }

    /// A kernel by its name in the PTX (`.visible .entry`).
    ///
    /// # Errors
    ///
    /// [`DriverError::NoSuchName`], [`DriverError::InteriorNul`], [`DriverError::Poisoned`], or the driver's failure
    /// to report the kernel's attributes.
    pub fn function(&self, name: &str) -> Result<Function, DriverError> {
        Function::of(self, name)
    }

    /// Address and size in bytes of a module-scope variable (`.visible .global` or `.const`).
    ///
    /// # Errors
    ///
    /// [`DriverError::NoSuchName`], [`DriverError::InteriorNul`], [`DriverError::Poisoned`].
    pub fn global(&self, name: &str) -> Result<(DevicePtr, usize), DriverError> {
        let text = c_string("variable name", name)?;
        let (mut address, mut bytes) = (0u64, 0usize);
        self.context()
            .run(|t| {
                // SAFETY: address and size go to locals; the name is a NUL-terminated string.
                unsafe { call!(t, module_get_global(&mut address, &mut bytes, self.handle(), text.as_ptr())) }
            })
            .map_err(|e| not_found(e, "variable", name))?;
        Ok((DevicePtr(address), bytes))
    }
}

pub(crate) fn not_found(error: DriverError, kind: &'static str, name: &str) -> DriverError {
    match error.code() {
        Some(CUresult::ERROR_NOT_FOUND) => DriverError::NoSuchName { kind, name: name.to_owned() },
        _ => error,
    }
}

pub(crate) fn c_string(what: &'static str, text: &str) -> Result<CString, DriverError> {
    CString::new(text).map_err(|e| DriverError::InteriorNul { what, offset: e.nul_position() })
}

impl Drop for ModuleInner {
    fn drop(&mut self) {
        let (context, handle) = (&self.context, self.handle);
        context.release(
            || "Module".to_owned(),
            |t| {
                // Kernels of the module may still be queued; the driver does not say that unloading waits for them.
                context.quiesce()?;
                // SAFETY: the handle is owned by this value and not used again; every `Function` of the module holds
                // a reference to it, so none is left.
                unsafe { call!(t, module_unload(handle)) }
            },
        );
    }
}

impl fmt::Debug for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Module").field("handle", &self.0.handle).finish_non_exhaustive()
    }
}

/// The option arrays of one load, and the buffers that they point to.
struct JitRequest {
    keys: Vec<c_uint>,
    values: Vec<*mut c_void>,
    info: Vec<u8>,
    error: Vec<u8>,
}

/// Index of the wall time among the options, which `JitRequest::new` puts first.
const WALL_TIME: usize = 0;

impl JitRequest {
    fn new(options: &JitOptions) -> Self {
        // The driver takes sizes as 32-bit numbers. One byte at least, so that there is room for the terminator.
        let size = options.log_bytes.clamp(1, 1 << 30);
        let mut request =
            Self { keys: Vec::new(), values: Vec::new(), info: vec![0; size], error: vec![0; size] };
        request.scalar(CU_JIT_WALL_TIME, 0);
        let (info, error) =
            (request.info.as_mut_ptr().cast::<c_void>(), request.error.as_mut_ptr().cast::<c_void>());
        request.push(CU_JIT_INFO_LOG_BUFFER, info);
        request.scalar(CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, size);
        request.push(CU_JIT_ERROR_LOG_BUFFER, error);
        request.scalar(CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, size);
        if let Some(level) = options.optimization_level {
            request.scalar(CU_JIT_OPTIMIZATION_LEVEL, usize::from(level));
        }
        if let Some(registers) = options.max_registers {
            request.scalar(CU_JIT_MAX_REGISTERS, registers as usize);
        }
        for (flag, key) in [
            (options.verbose, CU_JIT_LOG_VERBOSE),
            (options.line_info, CU_JIT_GENERATE_LINE_INFO),
            (options.debug_info, CU_JIT_GENERATE_DEBUG_INFO),
        ] {
            if flag {
                request.scalar(key, 1);
            }
        }
        request
    }

    fn push(&mut self, key: c_uint, value: *mut c_void) {
        self.keys.push(key);
        self.values.push(value);
    }

    /// A scalar option travels in the pointer itself, not behind it.
    fn scalar(&mut self, key: c_uint, value: usize) {
        self.push(key, std::ptr::without_provenance_mut(value));
    }

    fn arguments(&mut self) -> (c_uint, *mut c_uint, *mut *mut c_void) {
        (self.keys.len() as c_uint, self.keys.as_mut_ptr(), self.values.as_mut_ptr())
    }

    fn log(&self) -> JitLog {
        // The driver writes the time as a 32-bit float into the low half of the value.
        let bits = self.values[WALL_TIME].addr() as u32;
        JitLog { info: text_of(&self.info), error: text_of(&self.error), wall_ms: f32::from_bits(bits) }
    }
}

fn text_of(buffer: &[u8]) -> String {
    let end = buffer.iter().position(|&b| b == 0).unwrap_or(buffer.len());
    String::from_utf8_lossy(&buffer[..end]).into_owned()
}

/// The first number that follows the word `line` in a log such as `ptxas input, line 12; error : ...`.
fn first_line_named(log: &str) -> Option<usize> {
    log.match_indices("line ").find_map(|(at, word)| {
        let digits = &log[at + word.len()..];
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse().ok().filter(|&line| line > 0)
    })
}

/// Lines of context on each side of the line at fault.
const CONTEXT_LINES: usize = 3;

fn excerpt(ptx: &str, line: usize) -> String {
    let mut out = String::new();
    let first = line.saturating_sub(CONTEXT_LINES + 1);
    let shown = 2 * CONTEXT_LINES + 1 - (CONTEXT_LINES + 1).saturating_sub(line);
    for (index, text) in ptx.lines().enumerate().skip(first).take(shown) {
        let mark = if index + 1 == line { '>' } else { ' ' };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{mark}{:>5} | {text}", index + 1);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_line_that_a_log_names() {
        let log = "ptxas application ptx input, line 7; error   : Unknown symbol 'x'\nline 9; again";
        assert_eq!(first_line_named(log), Some(7));
        assert_eq!(first_line_named("an outline of nothing"), None);
        assert_eq!(first_line_named("line 0; line 3"), Some(3));
    }

    #[test]
    fn excerpt_is_numbered_and_marks_the_line() {
        let ptx: String = (1..=20).map(|i| format!("text {i}\n")).collect();
        let shown = excerpt(&ptx, 10);
        assert_eq!(shown.lines().count(), 7);
        assert!(shown.contains(">   10 | text 10\n"), "{shown}");
        assert!(shown.starts_with("     7 | text 7\n"), "{shown}");
        assert!(excerpt(&ptx, 1).starts_with(">    1 | text 1\n"));
        assert_eq!(excerpt(&ptx, 1).lines().count(), 4);
        assert_eq!(excerpt(&ptx, 20).lines().count(), 4);
        assert_eq!(excerpt(&ptx, 500), "");
    }

    #[test]
    fn scalars_travel_in_the_pointer() {
        let options =
            JitOptions { optimization_level: Some(3), max_registers: Some(64), ..JitOptions::default() };
        let mut request = JitRequest::new(&options);
        let find = |r: &JitRequest, key| r.keys.iter().position(|&k| k == key).map(|i| r.values[i].addr());
        assert_eq!(find(&request, CU_JIT_OPTIMIZATION_LEVEL), Some(3));
        assert_eq!(find(&request, CU_JIT_MAX_REGISTERS), Some(64));
        assert_eq!(find(&request, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES), Some(16 << 10));
        assert_eq!(find(&request, CU_JIT_LOG_VERBOSE), None);
        request.values[WALL_TIME] = std::ptr::without_provenance_mut(1.5f32.to_bits() as usize);
        assert_eq!(request.log().wall_ms, 1.5);
    }
}
