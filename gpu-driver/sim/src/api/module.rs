//! Modules, functions, variables.

use std::ffi::{CStr, c_char, c_uint, c_void};
use std::sync::Arc;

use gpu_driver::sys::*;
use ptx_builder::interp::Memory;

use crate::call::{Call, Name, Outcome, any_driver, in_context, name, on_driver, put, put_if, releasing};
use crate::code::{Compiled, JitLog, JitRequest, LoadedModule, is_machine_code};
use crate::handle::Id;
use crate::objects::{Function, Module};
use crate::sim::Sim;

/// The highest `CUjit_option` that is known, used or not.
const LAST_JIT_OPTION: c_uint = 35;

/// `CUmoduleLoadingMode`.
const EAGER_LOADING: c_uint = 1;

/// The two arrays of options of a load.
pub(crate) struct Options<'a> {
    keys: &'a [c_uint],
    values: &'a mut [*mut c_void],
}

impl Options<'_> {
    /// # Safety
    ///
    /// Both arrays must have `n` entries, or `n` be zero.
    pub(crate) unsafe fn new<'a>(
        n: c_uint,
        keys: *mut c_uint,
        values: *mut *mut c_void,
    ) -> Outcome<Options<'a>> {
        if n == 0 {
            return Ok(Options { keys: &[], values: &mut [] });
        }
        if keys.is_null() || values.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the caller's promise; neither is null.
        let (keys, values) = unsafe {
            (std::slice::from_raw_parts(keys, n as usize), std::slice::from_raw_parts_mut(values, n as usize))
        };
        if keys.iter().any(|key| *key > LAST_JIT_OPTION) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        Ok(Options { keys, values })
    }

    fn slot(&self, key: c_uint) -> Option<usize> {
        self.keys.iter().position(|found| *found == key)
    }

    /// A scalar, which travels in the pointer itself.
    fn scalar(&self, key: c_uint) -> Option<usize> {
        self.slot(key).map(|slot| self.values[slot].addr())
    }

    fn request(&self) -> JitRequest {
        JitRequest { verbose: self.scalar(CU_JIT_LOG_VERBOSE).is_some_and(|on| on != 0) }
    }

    /// Writes a log with its terminator, cut off if it does not fit, and the number of bytes.
    fn write_log(&mut self, buffer: c_uint, size: c_uint, text: &str) {
        let (Some(at), Some(size)) = (self.slot(buffer), self.slot(size)) else { return };
        let (target, room) = (self.values[at].cast::<u8>(), self.values[size].addr());
        if target.is_null() || room == 0 {
            return;
        }
        let bytes = &text.as_bytes()[..text.len().min(room - 1)];
        // SAFETY: the options say that the buffer has `room` bytes, and one more than the text's is at most that.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
            target.add(bytes.len()).write(0);
        }
        self.values[size] =
            std::ptr::without_provenance_mut(if text.is_empty() { 0 } else { bytes.len() + 1 });
    }

    /// A compilation takes a microsecond for each byte of text; the value is a float in the pointer's low half.
    fn write_time(&mut self, text: &str) {
        if let Some(slot) = self.slot(CU_JIT_WALL_TIME) {
            let milliseconds = 0.1 + text.len() as f32 / 1000.0;
            self.values[slot] = std::ptr::without_provenance_mut(milliseconds.to_bits() as usize);
        }
    }
}

/// The text behind an image.
///
/// # Safety
///
/// The image must be a binary image, or a text that ends with a NUL.
pub(crate) unsafe fn text_of<'a>(image: *const c_void) -> Outcome<std::borrow::Cow<'a, str>> {
    if image.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let mut start = Vec::new();
    for i in 0..4 {
        // SAFETY: an image has four bytes, or ends with a NUL, which ends the loop.
        let byte = unsafe { image.cast::<u8>().add(i).read() };
        if byte == 0 {
            break;
        }
        start.push(byte);
    }
    if is_machine_code(&start) {
        // There is no such device, whatever architecture the code is for.
        return Err(CUresult::ERROR_NO_BINARY_FOR_GPU);
    }
    // SAFETY: what is no binary image is a text that ends with a NUL.
    Ok(unsafe { CStr::from_ptr(image.cast()) }.to_string_lossy())
}

fn load(
    name: Name<'_>,
    module: *mut CUmodule,
    text: Outcome<&str>,
    options: Outcome<Options<'_>>,
) -> CUresult {
    in_context(name, |call| {
        let mut options = options?;
        let text = text?;
        if module.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let (_, loaded) = compile(call.sim, text, &mut options, &call.memory)?;
        let id = add_module(call, loaded, None)?;
        put(module, call.handle(id))
    })
}

/// Compiles a text and loads it into memory; logs go where the options say.
pub(crate) fn compile(
    sim: &Sim,
    text: &str,
    options: &mut Options<'_>,
    memory: &Memory,
) -> Outcome<(Compiled, LoadedModule)> {
    let (part, version, mut log) = (&sim.profile, sim.config.cuda_version, JitLog::default());
    let compiled = Compiled::new(text, part, version, &mut log).and_then(|compiled| {
        let loaded = compiled.load(part, memory, options.request(), &mut log)?;
        Ok((compiled, loaded))
    });
    options.write_log(CU_JIT_INFO_LOG_BUFFER, CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES, &log.info);
    options.write_log(CU_JIT_ERROR_LOG_BUFFER, CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES, &log.error);
    options.write_time(text);
    if !log.error.is_empty() {
        tracing::debug!(log = log.error, "a module was refused");
    }
    compiled
}

/// A module of the context.
pub(crate) fn add_module(call: &mut Call<'_>, code: LoadedModule, library: Option<Id>) -> Outcome<Id> {
    let id = call.new_id()?;
    let context = call.context;
    call.modules.insert(id, Module { context, code: Arc::new(code), functions: Default::default(), library });
    Ok(id)
}

pub(crate) unsafe extern "C" fn load_data_ex(
    module: *mut CUmodule,
    image: *const c_void,
    n_options: c_uint,
    options: *mut c_uint,
    values: *mut *mut c_void,
) -> CUresult {
    // SAFETY: the caller's promises.
    let (text, options) = unsafe { (text_of(image), Options::new(n_options, options, values)) };
    load(name!("cuModuleLoadDataEx"), module, text.as_deref().map_err(|code| *code), options)
}

pub(crate) unsafe extern "C" fn load_data(module: *mut CUmodule, image: *const c_void) -> CUresult {
    // SAFETY: the caller's promise; there are no options.
    let (text, options) =
        unsafe { (text_of(image), Options::new(0, std::ptr::null_mut(), std::ptr::null_mut())) };
    load(name!("cuModuleLoadData"), module, text.as_deref().map_err(|code| *code), options)
}

/// The text in a file.
///
/// # Safety
///
/// Null, or a string that ends with a NUL.
pub(crate) unsafe fn file_text(path: *const c_char) -> Outcome<String> {
    // SAFETY: the caller's promise.
    let path = unsafe { string(path) }.ok_or(CUresult::ERROR_INVALID_VALUE)?;
    let mut bytes = std::fs::read(path).map_err(|_| CUresult::ERROR_FILE_NOT_FOUND)?;
    if is_machine_code(bytes.get(..4).unwrap_or_default()) {
        return Err(CUresult::ERROR_NO_BINARY_FOR_GPU);
    }
    // A text may have been stored with its terminator.
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    String::from_utf8(bytes).map_err(|_| CUresult::ERROR_INVALID_IMAGE)
}

pub(crate) unsafe extern "C" fn load_file(module: *mut CUmodule, path: *const c_char) -> CUresult {
    // SAFETY: the caller's promise.
    let text = unsafe { file_text(path) };
    // SAFETY: there are no options.
    let options = unsafe { Options::new(0, std::ptr::null_mut(), std::ptr::null_mut()) };
    load(name!("cuModuleLoad"), module, text.as_deref().map_err(|code| *code), options)
}

/// Fat binaries hold machine code, or PTX that is compressed; neither is read.
pub(crate) unsafe extern "C" fn load_fat_binary(_module: *mut CUmodule, _image: *const c_void) -> CUresult {
    in_context(name!("cuModuleLoadFatBinary"), |_| Err(CUresult::ERROR_NO_BINARY_FOR_GPU))
}

pub(crate) unsafe extern "C" fn unload(module: CUmodule) -> CUresult {
    releasing(name!("cuModuleUnload"), |call| {
        let id = call.id_of(module)?;
        // The module of a library goes with that.
        if call.modules.get(&id).is_none_or(|module| module.library.is_some()) {
            return Err(CUresult::ERROR_INVALID_HANDLE);
        }
        call.remove_module(id);
        Ok(())
    })
}

/// A name that the program passes.
///
/// # Safety
///
/// Null, or a string that ends with a NUL.
pub(crate) unsafe fn string(text: *const c_char) -> Option<String> {
    // SAFETY: the caller's promise.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned())
}

pub(crate) unsafe extern "C" fn get_function(
    function: *mut CUfunction,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    // SAFETY: the caller's promise.
    let Some(wanted) = (unsafe { string(name) }) else { return CUresult::ERROR_INVALID_VALUE };
    in_context(name!("cuModuleGetFunction", "{wanted}"), |call| {
        let module = call.id_of(module)?;
        let id = function_of(call, module, &wanted)?;
        put(function, call.handle(id))
    })
}

/// The function of a module with a name.
pub(crate) fn function_of(call: &mut Call<'_>, module: Id, name: &str) -> Outcome<Id> {
    let found = call.modules.get(&module).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
    if let Some(id) = found.functions.get(name) {
        return Ok(*id);
    }
    let code = found.code.kernels.iter().find(|code| code.name() == name);
    let code = Arc::clone(code.ok_or(CUresult::ERROR_NOT_FOUND)?);
    let context = found.context;
    let id = call.new_id()?;
    call.functions.insert(id, Function::new(context, code));
    if let Some(module) = call.modules.get_mut(&module) {
        module.functions.insert(name.to_owned(), id);
    }
    Ok(id)
}

pub(crate) unsafe extern "C" fn enumerate_functions(
    functions: *mut CUfunction,
    n: c_uint,
    module: CUmodule,
) -> CUresult {
    in_context(name!("cuModuleEnumerateFunctions"), |call| {
        let module = call.id_of(module)?;
        let found = call.modules.get(&module).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        if functions.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let code = Arc::clone(&found.code);
        for (i, kernel) in code.kernels.iter().take(n as usize).enumerate() {
            let id = function_of(call, module, kernel.name())?;
            // SAFETY: the program passes an array of `n` functions.
            unsafe { functions.add(i).write(call.handle(id)) };
        }
        Ok(())
    })
}

/// What a program loads is compiled at once.
pub(crate) unsafe extern "C" fn get_loading_mode(mode: *mut c_uint) -> CUresult {
    on_driver(any_driver(), name!("cuModuleGetLoadingMode"), true, |_, _| put(mode, EAGER_LOADING))
}

pub(crate) unsafe extern "C" fn get_function_count(count: *mut c_uint, module: CUmodule) -> CUresult {
    in_context(name!("cuModuleGetFunctionCount"), |call| {
        let module = call.id_of(module)?;
        let module = call.modules.get(&module).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        put(count, module.code.kernels.len() as c_uint)
    })
}

pub(crate) unsafe extern "C" fn get_global(
    pointer: *mut CUdeviceptr,
    bytes: *mut usize,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    // SAFETY: the caller's promise.
    let Some(wanted) = (unsafe { string(name) }) else { return CUresult::ERROR_INVALID_VALUE };
    in_context(name!("cuModuleGetGlobal", "{wanted}"), |call| {
        let module = call.id_of(module)?;
        let module = call.modules.get(&module).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        let (address, size) = module.code.global(&wanted).ok_or(CUresult::ERROR_NOT_FOUND)?;
        put_if(pointer, address);
        put_if(bytes, size as usize);
        Ok(())
    })
}
