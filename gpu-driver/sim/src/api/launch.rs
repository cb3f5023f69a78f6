//! Launches.

use std::ffi::{c_uint, c_void};
use std::sync::Arc;

use gpu_driver::sys::*;

use crate::api::function::known;
use crate::call::{Call, Name, Outcome, in_context, name};
use crate::code::Code;
use crate::limits::Shape;
use crate::work::{KernelWork, Work};

/// The end of the list behind `extra`, the parameter buffer, its size.
const PARAM_END: usize = 0;
const PARAM_BUFFER_POINTER: usize = 1;
const PARAM_BUFFER_SIZE: usize = 2;

/// `CU_LAUNCH_ATTRIBUTE_IGNORE` and `CU_LAUNCH_ATTRIBUTE_COOPERATIVE`.
const IGNORE: c_uint = 0;
const COOPERATIVE: c_uint = 2;

/// Everything of a launch but its stream.
pub(crate) struct Request {
    pub function: CUfunction,
    pub shape: Shape,
    pub params: *mut *mut c_void,
    pub extra: *mut *mut c_void,
    /// All blocks have to run at once, since they may wait for each other.
    pub cooperative: bool,
}

impl Request {
    /// Checks it and takes copies of the arguments.
    ///
    /// # Safety
    ///
    /// `params` or `extra` must be as CUDA documents.
    pub(crate) unsafe fn capture(&self, call: &mut Call<'_>) -> Outcome<KernelWork> {
        let part = &call.sim.profile;
        let (id, function) = known(call, self.function)?;
        let shape = self.shape.completed(&function.code)?;
        shape.check(function, part)?;
        if self.cooperative {
            shape.check_together(&function.code, part)?;
        }
        // SAFETY: the caller's promise.
        let args = Arc::new(unsafe { arguments(&function.code, self.params, self.extra) }?);
        let pointers = args.iter().map(|argument| argument.as_ptr().expose_provenance()).collect();
        Ok(KernelWork {
            function: id,
            code: Arc::clone(&function.code),
            grid: shape.grid,
            block: shape.block,
            cluster: shape.cluster,
            dynamic_shared: shape.dynamic_shared,
            cooperative: self.cooperative,
            args,
            pointers,
            conditions: None,
        })
    }
}

/// # Safety
///
/// `params` must have a pointer for each parameter, each to as many bytes as the parameter has; or be null, and `extra`
/// be null or a list that ends with `CU_LAUNCH_PARAM_END`.
unsafe fn arguments(code: &Code, params: *mut *mut c_void, extra: *mut *mut c_void) -> Outcome<Vec<Vec<u8>>> {
    let invalid = CUresult::ERROR_INVALID_VALUE;
    if code.params.is_empty() {
        return Ok(Vec::new());
    }
    if !params.is_null() {
        if !extra.is_null() {
            return Err(invalid);
        }
        let argument = |(i, &(_, bytes)): (usize, &(usize, usize))| {
            // SAFETY: there is a pointer for each parameter.
            let pointer = unsafe { params.add(i).read() };
            if pointer.is_null() {
                return Err(invalid);
            }
            // SAFETY: each points to as many bytes as the parameter has.
            Ok(unsafe { std::slice::from_raw_parts(pointer.cast::<u8>(), bytes) }.to_vec())
        };
        return code.params.iter().enumerate().map(argument).collect();
    }
    if extra.is_null() {
        return Err(invalid);
    }
    let (mut buffer, mut size) = (std::ptr::null::<u8>(), 0usize);
    let mut at = 0;
    loop {
        // SAFETY: the list has an end, which stops the loop; every other key is followed by a value.
        let key = unsafe { extra.add(at).read() }.addr();
        if key == PARAM_END {
            break;
        }
        // SAFETY: as above.
        let value = unsafe { extra.add(at + 1).read() };
        match key {
            PARAM_BUFFER_POINTER => buffer = value.cast(),
            // SAFETY: the value points to the size.
            PARAM_BUFFER_SIZE if !value.is_null() => size = unsafe { value.cast::<usize>().read() },
            _ => return Err(invalid),
        }
        at += 2;
    }
    let end = code.params.last().map_or(0, |(offset, bytes)| offset + bytes);
    if buffer.is_null() || size < end {
        return Err(invalid);
    }
    // SAFETY: the program says that the buffer has that many bytes.
    let bytes = unsafe { std::slice::from_raw_parts(buffer, size) };
    Ok(code.params.iter().map(|(offset, n)| bytes[*offset..offset + n].to_vec()).collect())
}

/// What the attributes of a launch say.
pub(crate) struct Attributes {
    pub cluster: [u32; 3],
    pub programmatic: bool,
    pub cooperative: bool,
}

/// # Safety
///
/// `attrs` must have `num_attrs` entries, whose values are initialised as far as their attributes go.
pub(crate) unsafe fn attributes(config: &CUlaunchConfig) -> Outcome<Attributes> {
    let mut found = Attributes { cluster: [1; 3], programmatic: false, cooperative: false };
    if config.num_attrs > 0 && config.attrs.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    for i in 0..config.num_attrs as usize {
        // SAFETY: the array has that many entries.
        let attribute = unsafe { &*config.attrs.add(i) };
        match attribute.id {
            IGNORE | CU_LAUNCH_ATTRIBUTE_PRIORITY => {}
            CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION => {
                // SAFETY: the value is that of the attribute.
                found.cluster = unsafe { attribute.value.cluster_dim };
            }
            CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION => {
                // SAFETY: as above.
                found.programmatic = unsafe { attribute.value.programmatic_stream_serialization } != 0;
            }
            COOPERATIVE => {
                // SAFETY: as above; the value is an int, like the priority.
                found.cooperative = unsafe { attribute.value.priority } != 0;
            }
            _ => return Err(CUresult::ERROR_NOT_SUPPORTED),
        }
    }
    Ok(found)
}

/// # Safety
///
/// As for [`Request::capture`].
unsafe fn launch(
    name: Name<'_>,
    request: &Request,
    stream: CUstream,
    programmatic: Outcome<bool>,
) -> CUresult {
    in_context(name, |call| {
        let stream = call.own_stream(stream)?;
        let programmatic = programmatic?;
        // SAFETY: the caller's promise.
        let work = unsafe { request.capture(call) }?;
        call.submit(stream, Work::Kernel(work), programmatic).map(|_| ())
    })
}

#[rustfmt::skip]
pub(crate) unsafe extern "C" fn launch_kernel(
    function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
    block_z: c_uint, shared: c_uint, stream: CUstream, params: *mut *mut c_void, extra: *mut *mut c_void,
) -> CUresult {
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    let shape = Shape { grid, block, cluster: [1; 3], dynamic_shared: shared };
    let request = Request { function, shape, params, extra, cooperative: false };
    // SAFETY: the caller's promise.
    unsafe { launch(name!("cuLaunchKernel"), &request, stream, Ok(false)) }
}

#[rustfmt::skip]
pub(crate) unsafe extern "C" fn launch_cooperative_kernel(
    function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
    block_z: c_uint, shared: c_uint, stream: CUstream, params: *mut *mut c_void,
) -> CUresult {
    let (grid, block) = ([grid_x, grid_y, grid_z], [block_x, block_y, block_z]);
    let shape = Shape { grid, block, cluster: [1; 3], dynamic_shared: shared };
    let request = Request { function, shape, params, extra: std::ptr::null_mut(), cooperative: true };
    // SAFETY: the caller's promise.
    unsafe { launch(name!("cuLaunchCooperativeKernel"), &request, stream, Ok(false)) }
}

pub(crate) unsafe extern "C" fn launch_kernel_ex(
    config: *const CUlaunchConfig,
    function: CUfunction,
    params: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> CUresult {
    if config.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the caller's promise.
    let config = unsafe { &*config };
    // SAFETY: as above.
    let attributes = unsafe { attributes(config) };
    let shape = Shape {
        grid: config.grid_dim,
        block: config.block_dim,
        cluster: attributes.as_ref().map_or([1; 3], |found| found.cluster),
        dynamic_shared: config.shared_mem_bytes,
    };
    let cooperative = attributes.as_ref().is_ok_and(|found| found.cooperative);
    let request = Request { function, shape, params, extra, cooperative };
    let programmatic = attributes.map(|found| found.programmatic);
    // SAFETY: as above.
    unsafe { launch(name!("cuLaunchKernelEx"), &request, config.stream, programmatic) }
}
