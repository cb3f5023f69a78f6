//! Modules: enough of PTX to find kernels and the sizes of their parameters.

use super::*;
use gpu_driver::sys::{CUdeviceptr, CUfunction, CUmodule};
use std::ffi::{CStr, c_char, c_int, c_uint};

/// A line with this word does not compile.
const BAD_WORD: &str = "gibberish";

pub extern "C" fn module_load_data_ex(
    module: *mut CUmodule,
    image: *const c_void,
    n_options: c_uint,
    options: *mut c_uint,
    values: *mut *mut c_void,
) -> CUresult {
    // SAFETY: the safe layer passes a NUL-terminated string.
    let text = unsafe { CStr::from_ptr(image.cast()) }.to_string_lossy().into_owned();
    answer_in_context("cuModuleLoadDataEx", String::new(), |s| {
        let n = n_options as usize;
        // SAFETY: both arrays have `n_options` entries.
        let (keys, slots) =
            unsafe { (std::slice::from_raw_parts(options, n), std::slice::from_raw_parts_mut(values, n)) };
        s.jit_options = keys.iter().zip(slots.iter()).map(|(&k, v)| (k, v.addr())).collect();
        let slot = |key: u32| keys.iter().position(|&k| k == key);
        let log = |key: u32, message: &str| {
            let (Some(buffer), Some(size)) = (slot(key), slot(key + 1)) else { return };
            let room = slots[size].addr();
            let n = message.len().min(room - 1);
            // SAFETY: the option says that the buffer has `room` bytes.
            unsafe {
                std::ptr::copy_nonoverlapping(message.as_ptr(), slots[buffer].cast(), n);
                slots[buffer].cast::<u8>().add(n).write(0);
            }
        };
        if let Some(line) = text.lines().position(|l| l.contains(BAD_WORD)) {
            log(
                5,
                &format!("ptxas application ptx input, line {}; error   : not an instruction\n", line + 1),
            );
            return Err(CUresult::ERROR_INVALID_PTX);
        }
        log(3, "compiled for the double\n");
        if let Some(wall) = slot(2) {
            slots[wall] = token(2.5f32.to_bits() as usize);
        }
        let handle = s.handle();
        s.modules.insert(handle, text);
        put(module, CUmodule(token(handle)))
    })
}

pub extern "C" fn module_unload(module: CUmodule) -> CUresult {
    answer_in_context("cuModuleUnload", String::new(), |s| {
        s.modules.remove(&module.0.addr()).map(|_| ()).ok_or(CUresult::ERROR_INVALID_HANDLE)
    })
}

fn parameters_of(text: &str, name: &str) -> Option<Vec<usize>> {
    let start = text.find(&format!(".entry {name}("))?;
    let list = text[start..].split_once('(')?.1.split_once(')')?.0;
    let sizes = list.split(',').filter(|p| p.contains(".param")).map(|p| {
        if let Some((_, length)) = p.split_once('[') {
            return length.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok();
        }
        let sizes = [("64", 8), ("32", 4), ("16", 2), ("8", 1)];
        sizes.into_iter().find(|(bits, _)| p.contains(bits)).map(|(_, n)| n)
    });
    sizes.collect()
}

pub extern "C" fn module_get_function(
    function: *mut CUfunction,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    // SAFETY: the safe layer passes a NUL-terminated string.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    answer_in_context("cuModuleGetFunction", name.clone(), |s| {
        let text = s.modules.get(&module.0.addr()).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        let parameters = parameters_of(text, &name).ok_or(CUresult::ERROR_NOT_FOUND)?;
        let static_shared = if text.contains(".shared") { 1024 } else { 0 };
        let module = module.0.addr();
        let known = s.functions.iter().find(|(_, f)| f.module == module && f.name == name);
        if let Some((&handle, _)) = known {
            return put(function, CUfunction(token(handle)));
        }
        let handle = s.handle();
        let max_dynamic = (48 << 10) - static_shared;
        let model = FunctionModel { module, name, parameters, static_shared, max_dynamic };
        s.functions.insert(handle, model);
        put(function, CUfunction(token(handle)))
    })
}

pub extern "C" fn module_get_global(
    pointer: *mut CUdeviceptr,
    bytes: *mut usize,
    module: CUmodule,
    name: *const c_char,
) -> CUresult {
    // SAFETY: the safe layer passes a NUL-terminated string.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
    answer_in_context("cuModuleGetGlobal", name.clone(), |s| {
        let text = s.modules.get(&module.0.addr()).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        if !text.contains(&format!(".global .b32 {name}")) {
            return Err(CUresult::ERROR_NOT_FOUND);
        }
        put(pointer, 0x6000_0000)?;
        put(bytes, 4)
    })
}

impl State {
    pub fn function(&self, function: CUfunction) -> Result<&FunctionModel, CUresult> {
        self.functions.get(&function.0.addr()).ok_or(CUresult::ERROR_INVALID_HANDLE)
    }
}

pub extern "C" fn func_get_attribute(value: *mut c_int, attribute: c_int, function: CUfunction) -> CUresult {
    answer_in_context("cuFuncGetAttribute", attribute.to_string(), |s| {
        let f = s.function(function)?;
        let v = match attribute {
            0 if f.name == "fat" => 256,
            0 => 1024,
            1 => f.static_shared,
            4 => 24,
            5 => 75,
            6 => 90,
            8 => f.max_dynamic,
            2 | 3 => 0,
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        };
        put(value, v)
    })
}

pub extern "C" fn func_set_attribute(function: CUfunction, attribute: c_int, value: c_int) -> CUresult {
    answer_in_context("cuFuncSetAttribute", format!("{attribute}, {value}"), |s| {
        let f = s.functions.get_mut(&function.0.addr()).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        if attribute == 14 && value == 1 {
            return Ok(());
        }
        if attribute != 8 || value + f.static_shared > 227 << 10 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        f.max_dynamic = value;
        Ok(())
    })
}

pub extern "C" fn func_get_param_count(function: CUfunction, count: *mut usize) -> CUresult {
    answer_in_context("cuFuncGetParamCount", String::new(), |s| {
        put(count, s.function(function)?.parameters.len())
    })
}

pub extern "C" fn func_get_param_info(
    function: CUfunction,
    index: usize,
    offset: *mut usize,
    size: *mut usize,
) -> CUresult {
    answer_in_context("cuFuncGetParamInfo", index.to_string(), |s| {
        let &bytes = s.function(function)?.parameters.get(index).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        put(offset, 8 * index)?;
        put(size, bytes)
    })
}
