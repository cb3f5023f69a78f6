//! Attributes of kernels.

use std::ffi::{c_char, c_int, c_uint};

use gpu_driver::sys::*;

use crate::api::library::function_in_context;
use crate::call::{Call, Outcome, in_context, name, put, put_if};
use crate::handle::Id;
use crate::objects::Function;
use crate::profile::DeviceProfile;

/// The function of a handle, which may be that of a library's kernel.
pub(crate) fn known<'a>(call: &'a mut Call<'_>, function: CUfunction) -> Outcome<(Id, &'a Function)> {
    let mut id = call.id_of(function)?;
    if call.kernels.contains_key(&id) {
        id = function_in_context(call, id)?;
    }
    let found = call.functions.get(&id).filter(|function| function.context == call.context);
    found.map(|function| (id, function)).ok_or(CUresult::ERROR_INVALID_HANDLE)
}

pub(crate) unsafe extern "C" fn func_get_attribute(
    value: *mut c_int,
    attribute: c_int,
    function: CUfunction,
) -> CUresult {
    in_context(name!("cuFuncGetAttribute", "{attribute}"), |call| {
        let part = &call.sim.profile;
        let (_, function) = known(call, function)?;
        put(value, function.attribute(part, attribute)?)
    })
}

impl Function {
    /// The value of a `CUfunction_attribute`.
    pub(crate) fn attribute(&self, part: &DeviceProfile, attribute: c_int) -> Outcome<c_int> {
        let code = &self.code;
        let number = match attribute {
            CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK => code.max_threads(),
            CU_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES => code.static_shared,
            CU_FUNC_ATTRIBUTE_CONST_SIZE_BYTES => code.const_bytes,
            CU_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES => code.local_bytes,
            CU_FUNC_ATTRIBUTE_NUM_REGS => code.registers(),
            CU_FUNC_ATTRIBUTE_PTX_VERSION => code.virtual_architecture,
            CU_FUNC_ATTRIBUTE_BINARY_VERSION => part.capability,
            // Whether caching of global loads was asked for at compile time.
            7 => 0,
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES => self.max_dynamic_shared,
            CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT => return Ok(self.carveout),
            // Whether the launch must set a cluster size, and the size that the kernel requires.
            10 => u32::from(code.function().explicitcluster),
            11..=13 => {
                code.function().reqnctapercluster.map_or(0, |required| required[attribute as usize - 11])
            }
            CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED => u32::from(self.non_portable_clusters),
            15 => 0,
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        };
        Ok(c_int::try_from(number).unwrap_or(c_int::MAX))
    }

    /// Changes one of the attributes that can be changed.
    pub(crate) fn set_attribute(&mut self, part: &DeviceProfile, attribute: c_int, value: c_int) -> Outcome {
        match attribute {
            CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES => {
                let most = part.shared_per_block_optin.saturating_sub(self.code.static_shared);
                self.max_dynamic_shared =
                    u32::try_from(value).ok().filter(|v| *v <= most).ok_or(CUresult::ERROR_INVALID_VALUE)?;
            }
            CU_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT if (-1..=100).contains(&value) => {
                self.carveout = value;
            }
            CU_FUNC_ATTRIBUTE_NON_PORTABLE_CLUSTER_SIZE_ALLOWED => self.non_portable_clusters = value != 0,
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        }
        Ok(())
    }
}

pub(crate) unsafe extern "C" fn func_set_attribute(
    function: CUfunction,
    attribute: c_int,
    value: c_int,
) -> CUresult {
    in_context(name!("cuFuncSetAttribute", "{attribute}, {value}"), |call| {
        let (id, _) = known(call, function)?;
        let part = &call.sim.profile;
        let function = call.state.functions.get_mut(&id).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        function.set_attribute(part, attribute, value)
    })
}

/// A preference for the split of L1 and shared memory; taken and ignored.
pub(crate) unsafe extern "C" fn func_set_cache_config(function: CUfunction, config: c_uint) -> CUresult {
    in_context(name!("cuFuncSetCacheConfig", "{config}"), |call| {
        known(call, function)?;
        if config > 3 { Err(CUresult::ERROR_INVALID_VALUE) } else { Ok(()) }
    })
}

pub(crate) unsafe extern "C" fn func_get_module(module: *mut CUmodule, function: CUfunction) -> CUresult {
    in_context(name!("cuFuncGetModule"), |call| {
        let (id, _) = known(call, function)?;
        let owner = call.modules.iter().find(|(_, module)| module.functions.values().any(|f| *f == id));
        let (owner, _) = owner.ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        put(module, call.handle(*owner))
    })
}

pub(crate) unsafe extern "C" fn func_get_name(name: *mut *const c_char, function: CUfunction) -> CUresult {
    in_context(name!("cuFuncGetName"), |call| {
        let (_, function) = known(call, function)?;
        // The text lives as long as the module.
        put(name, function.code.c_name.as_ptr())
    })
}

/// Functions are loaded with their modules.
pub(crate) unsafe extern "C" fn func_is_loaded(state: *mut c_uint, function: CUfunction) -> CUresult {
    in_context(name!("cuFuncIsLoaded"), |call| {
        known(call, function)?;
        put(state, 1)
    })
}

pub(crate) unsafe extern "C" fn func_load(function: CUfunction) -> CUresult {
    in_context(name!("cuFuncLoad"), |call| known(call, function).map(|_| ()))
}

pub(crate) unsafe extern "C" fn func_get_param_count(function: CUfunction, count: *mut usize) -> CUresult {
    in_context(name!("cuFuncGetParamCount"), |call| {
        let (_, function) = known(call, function)?;
        put(count, function.code.params.len())
    })
}

pub(crate) unsafe extern "C" fn func_get_param_info(
    function: CUfunction,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> CUresult {
    in_context(name!("cuFuncGetParamInfo", "{index}"), |call| {
        let (_, function) = known(call, function)?;
        let (at, bytes) = *function.code.params.get(index).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        put(offset, at)?;
        put_if(size, bytes);
        Ok(())
    })
}
