//! The library interface: modules that belong to no context, with kernels that can be launched in any.
//!
//! A library is loaded into a context when something of it is first used there.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_int, c_uint, c_void};
use std::sync::Arc;

use gpu_driver::sys::*;
use parking_lot::MutexGuard;
use ptx_builder::interp::Memory;

use crate::api::device::on_device;
use crate::api::module::{Options, add_module, compile, file_text, function_of, string, text_of};
use crate::call::{
    Call, Name, Outcome, any_driver, in_context, name, on_driver, put, put_if, releasing_on_driver,
};
use crate::code::JitLog;
use crate::handle::{CUlibrary, Handle, Id};
use crate::objects::{Function, Library, LibraryKernel};
use crate::registry;
use crate::sim::Sim;
use crate::state::State;

fn known_library(state: &State, library: CUlibrary) -> Outcome<Id> {
    let id = state.id_of(library)?;
    if state.libraries.contains_key(&id) { Ok(id) } else { Err(CUresult::ERROR_INVALID_HANDLE) }
}

fn known_kernel(state: &State, kernel: CUkernel) -> Outcome<(Id, &LibraryKernel)> {
    let id = state.id_of(kernel)?;
    state.kernels.get(&id).map(|kernel| (id, kernel)).ok_or(CUresult::ERROR_INVALID_HANDLE)
}

/// A call about a library or kernel, which names its driver.
fn on_owner(
    handle: impl Handle,
    name: Name<'_>,
    f: impl FnOnce(&Arc<Sim>, &mut MutexGuard<'_, State>) -> Outcome,
) -> CUresult {
    match handle.serial().and_then(registry::find) {
        Some(sim) => on_driver(Some(sim), name, true, f),
        None => CUresult::ERROR_INVALID_HANDLE,
    }
}

fn load(
    name: Name<'_>,
    library: *mut CUlibrary,
    text: Outcome<&str>,
    options: Outcome<Options<'_>>,
) -> CUresult {
    on_driver(any_driver(), name, true, |sim, state| {
        let (mut options, text) = (options?, text?);
        if library.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let (code, prototype) = compile(sim, text, &mut options, &Memory::new())?;
        let id = state.new_id()?;
        let (kernels, modules) = (BTreeMap::new(), BTreeMap::new());
        state.libraries.insert(id, Library { code: Arc::new(code), prototype, kernels, modules });
        put(library, state.handle(id))
    })
}

// Options of the library itself are about machine code that the program keeps, and there is none.
#[rustfmt::skip]
pub(crate) unsafe extern "C" fn load_data(
    library: *mut CUlibrary, code: *const c_void, keys: *mut c_uint, values: *mut *mut c_void, n: c_uint,
    _library_keys: *mut c_uint, _library_values: *mut *mut c_void, _n_library: c_uint,
) -> CUresult {
    // SAFETY: the caller's promises.
    let (text, options) = unsafe { (text_of(code), Options::new(n, keys, values)) };
    load(name!("cuLibraryLoadData"), library, text.as_deref().map_err(|code| *code), options)
}

#[rustfmt::skip]
pub(crate) unsafe extern "C" fn load_from_file(
    library: *mut CUlibrary, path: *const c_char, keys: *mut c_uint, values: *mut *mut c_void, n: c_uint,
    _library_keys: *mut c_uint, _library_values: *mut *mut c_void, _n_library: c_uint,
) -> CUresult {
    // SAFETY: the caller's promises.
    let (text, options) = unsafe { (file_text(path), Options::new(n, keys, values)) };
    load(name!("cuLibraryLoadFromFile"), library, text.as_deref().map_err(|code| *code), options)
}

pub(crate) unsafe extern "C" fn unload(library: CUlibrary) -> CUresult {
    let Some(sim) = library.serial().and_then(registry::find) else {
        return CUresult::ERROR_INVALID_HANDLE;
    };
    releasing_on_driver(Some(sim), name!("cuLibraryUnload"), |_, state| {
        let id = known_library(state, library)?;
        let gone = state.libraries.remove(&id).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        for module in gone.modules.values() {
            state.remove_module(*module);
        }
        state.kernels.retain(|_, kernel| kernel.library != id);
        Ok(())
    })
}

/// The kernel of a library with a name.
fn kernel_of(state: &mut State, library: Id, name: &str) -> Outcome<Id> {
    let found = state.libraries.get(&library).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
    if let Some(id) = found.kernels.get(name) {
        return Ok(*id);
    }
    let code = found.prototype.kernels.iter().find(|code| code.name() == name);
    let code = Arc::clone(code.ok_or(CUresult::ERROR_NOT_FOUND)?);
    let id = state.new_id()?;
    state.kernels.insert(id, LibraryKernel { library, code, attributes: BTreeMap::new() });
    if let Some(library) = state.libraries.get_mut(&library) {
        library.kernels.insert(name.to_owned(), id);
    }
    Ok(id)
}

pub(crate) unsafe extern "C" fn get_kernel(
    kernel: *mut CUkernel,
    library: CUlibrary,
    name: *const c_char,
) -> CUresult {
    // SAFETY: the caller's promise.
    let Some(wanted) = (unsafe { string(name) }) else { return CUresult::ERROR_INVALID_VALUE };
    on_owner(library, name!("cuLibraryGetKernel", "{wanted}"), |_, state| {
        let library = known_library(state, library)?;
        let id = kernel_of(state, library, &wanted)?;
        put(kernel, state.handle(id))
    })
}

pub(crate) unsafe extern "C" fn get_kernel_count(count: *mut c_uint, library: CUlibrary) -> CUresult {
    on_owner(library, name!("cuLibraryGetKernelCount"), |_, state| {
        let id = known_library(state, library)?;
        put(count, state.libraries.get(&id).map_or(0, |library| library.prototype.kernels.len()) as c_uint)
    })
}

pub(crate) unsafe extern "C" fn enumerate_kernels(
    kernels: *mut CUkernel,
    n: c_uint,
    library: CUlibrary,
) -> CUresult {
    on_owner(library, name!("cuLibraryEnumerateKernels"), |_, state| {
        let id = known_library(state, library)?;
        if kernels.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let all =
            state.libraries.get(&id).map(|library| library.prototype.kernels.clone()).unwrap_or_default();
        for (i, code) in all.iter().take(n as usize).enumerate() {
            let kernel = kernel_of(state, id, code.name())?;
            // SAFETY: the program passes an array of `n` kernels.
            unsafe { kernels.add(i).write(state.handle(kernel)) };
        }
        Ok(())
    })
}

/// The module of a library in the context of the call.
fn module_in_context(call: &mut Call<'_>, library: Id) -> Outcome<Id> {
    let found = call.libraries.get(&library).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
    if let Some(module) = found.modules.get(&call.context) {
        return Ok(*module);
    }
    let code = Arc::clone(&found.code);
    // What there is to say was said when it was compiled.
    let loaded = code.load(&call.sim.profile, &call.memory, Default::default(), &mut JitLog::default())?;
    let module = add_module(call, loaded, Some(library))?;
    let context = call.context;
    if let Some(library) = call.libraries.get_mut(&library) {
        library.modules.insert(context, module);
    }
    Ok(module)
}

/// The function that a kernel is in the context of the call.
pub(crate) fn function_in_context(call: &mut Call<'_>, kernel: Id) -> Outcome<Id> {
    let found = call.kernels.get(&kernel).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
    let (library, code) = (found.library, Arc::clone(&found.code));
    let set: Vec<_> = found.attributes.iter().filter(|((device, _), _)| *device == call.device).collect();
    let set: Vec<(c_int, c_int)> =
        set.into_iter().map(|((_, attribute), value)| (*attribute, *value)).collect();
    let module = module_in_context(call, library)?;
    let is_new = call.modules.get(&module).is_some_and(|m| !m.functions.contains_key(code.name()));
    let id = function_of(call, module, code.name())?;
    if is_new && let Some(function) = call.state.functions.get_mut(&id) {
        for (attribute, value) in set {
            function.set_attribute(&call.sim.profile, attribute, value)?;
        }
    }
    Ok(id)
}

pub(crate) unsafe extern "C" fn get_module(module: *mut CUmodule, library: CUlibrary) -> CUresult {
    in_context(name!("cuLibraryGetModule"), |call| {
        let library = known_library(&call.state, library)?;
        let id = module_in_context(call, library)?;
        put(module, call.handle(id))
    })
}

pub(crate) unsafe extern "C" fn get_global(
    pointer: *mut CUdeviceptr,
    bytes: *mut usize,
    library: CUlibrary,
    name: *const c_char,
) -> CUresult {
    // SAFETY: the caller's promise.
    let Some(wanted) = (unsafe { string(name) }) else { return CUresult::ERROR_INVALID_VALUE };
    in_context(name!("cuLibraryGetGlobal", "{wanted}"), |call| {
        let library = known_library(&call.state, library)?;
        let module = module_in_context(call, library)?;
        let module = call.modules.get(&module).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        let (address, size) = module.code.global(&wanted).ok_or(CUresult::ERROR_NOT_FOUND)?;
        put_if(pointer, address);
        put_if(bytes, size as usize);
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn kernel_get_function(function: *mut CUfunction, kernel: CUkernel) -> CUresult {
    in_context(name!("cuKernelGetFunction"), |call| {
        let (kernel, _) = known_kernel(&call.state, kernel)?;
        let id = function_in_context(call, kernel)?;
        put(function, call.handle(id))
    })
}

pub(crate) unsafe extern "C" fn kernel_get_library(library: *mut CUlibrary, kernel: CUkernel) -> CUresult {
    on_owner(kernel, name!("cuKernelGetLibrary"), |_, state| {
        let owner = known_kernel(state, kernel)?.1.library;
        put(library, state.handle(owner))
    })
}

pub(crate) unsafe extern "C" fn kernel_get_name(name: *mut *const c_char, kernel: CUkernel) -> CUresult {
    on_owner(kernel, name!("cuKernelGetName"), |_, state| {
        let (_, kernel) = known_kernel(state, kernel)?;
        // The text lives as long as the library.
        put(name, kernel.code.c_name.as_ptr())
    })
}

pub(crate) unsafe extern "C" fn kernel_get_param_info(
    kernel: CUkernel,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> CUresult {
    on_owner(kernel, name!("cuKernelGetParamInfo", "{index}"), |_, state| {
        let (_, kernel) = known_kernel(state, kernel)?;
        let (at, bytes) = *kernel.code.params.get(index).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        put(offset, at)?;
        put_if(size, bytes);
        Ok(())
    })
}

/// A function with the attributes that a kernel has on a device.
fn with_attributes(sim: &Sim, kernel: &LibraryKernel, device: u32) -> Outcome<Function> {
    let mut function = Function::new(0, Arc::clone(&kernel.code));
    for ((_, attribute), value) in kernel.attributes.iter().filter(|((on, _), _)| *on == device) {
        function.set_attribute(&sim.profile, *attribute, *value)?;
    }
    Ok(function)
}

pub(crate) unsafe extern "C" fn kernel_get_attribute(
    value: *mut c_int,
    attribute: c_int,
    kernel: CUkernel,
    device: CUdevice,
) -> CUresult {
    on_device(device, name!("cuKernelGetAttribute", "{attribute}"), |sim, state, ordinal| {
        let (_, kernel) = known_kernel(state, kernel)?;
        put(value, with_attributes(sim, kernel, ordinal)?.attribute(&sim.profile, attribute)?)
    })
}

pub(crate) unsafe extern "C" fn kernel_set_attribute(
    attribute: c_int,
    value: c_int,
    kernel: CUkernel,
    device: CUdevice,
) -> CUresult {
    on_device(device, name!("cuKernelSetAttribute", "{attribute}, {value}"), |sim, state, ordinal| {
        let (id, known) = known_kernel(state, kernel)?;
        with_attributes(sim, known, ordinal)?.set_attribute(&sim.profile, attribute, value)?;
        let (library, name) = (known.library, known.code.name().to_owned());
        let state = &mut **state;
        if let Some(kernel) = state.kernels.get_mut(&id) {
            kernel.attributes.insert((ordinal, attribute), value);
        }
        // Contexts of the device that have the function already.
        let modules = state.libraries.get(&library).into_iter().flat_map(|library| &library.modules);
        for (_, module) in modules.filter(|(c, _)| state.contexts.get(c).is_some_and(|c| c.device == ordinal))
        {
            let function = state.modules.get(module).and_then(|module| module.functions.get(&name));
            if let Some(function) = function.and_then(|id| state.functions.get_mut(id)) {
                function.set_attribute(&sim.profile, attribute, value)?;
            }
        }
        Ok(())
    })
}

/// A preference, as for functions.
pub(crate) unsafe extern "C" fn kernel_set_cache_config(
    kernel: CUkernel,
    config: c_uint,
    device: CUdevice,
) -> CUresult {
    on_device(device, name!("cuKernelSetCacheConfig", "{config}"), |_, state, _| {
        known_kernel(state, kernel)?;
        if config > 3 { Err(CUresult::ERROR_INVALID_VALUE) } else { Ok(()) }
    })
}
