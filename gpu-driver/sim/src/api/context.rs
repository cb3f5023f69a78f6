//! Contexts: primary ones, which are counted, and created ones; which is current on a thread.

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};

use gpu_driver::sys::{CUcontext, CUdevice, CUresult};

use crate::api::device::{handle_of, on_device, releasing_on_device};
use crate::call::{
    self, Call, Outcome, current, in_context, name, on_driver, pop_current, push_current, put, put_if,
    releasing_on_driver, set_current,
};
use crate::handle::{Handle, Id};
use crate::objects::Context;
use crate::registry;

/// Priorities of streams: least and greatest.
pub(crate) const PRIORITIES: (c_int, c_int) = (0, -5);

/// What programs may ask of `cuCtxGetLimit` and set: stack, print buffer, heap, launches by kernels that are pending,
/// bytes that a read fetches to the L2 cache, bytes of it that are set aside.
const LIMITS: [(u32, usize); 6] =
    [(0, 1024), (1, 1 << 20), (2, 8 << 20), (4, 2048), (5, 128), (PERSISTING_L2, 0)];
const PERSISTING_L2: u32 = 6;

pub(crate) unsafe extern "C" fn primary_retain(context: *mut CUcontext, device: CUdevice) -> CUresult {
    on_device(device, name!("cuDevicePrimaryCtxRetain"), |_, state, ordinal| {
        let device = &mut state.devices[ordinal as usize];
        device.retained += 1;
        let (id, is_first) = (device.primary, device.retained == 1);
        if is_first {
            let call = state.log.n_calls;
            state.made_by.insert(id, call);
        }
        if let Some(primary) = state.contexts.get_mut(&id) {
            primary.alive = true;
        }
        put(context, state.handle(id))
    })
}

pub(crate) unsafe extern "C" fn primary_release(device: CUdevice) -> CUresult {
    releasing_on_device(device, name!("cuDevicePrimaryCtxRelease"), |sim, state, ordinal| {
        let device = &mut state.devices[ordinal as usize];
        if device.retained == 0 {
            return Err(CUresult::ERROR_INVALID_CONTEXT);
        }
        device.retained -= 1;
        if device.retained == 0 {
            let id = device.primary;
            // What is queued is finished first. A fault on the way has nobody left to be told but the report.
            let _ = sim.wait_for_context(state, id);
            let leaks = state.end_context(id);
            sim.tell_leaks(&leaks);
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn primary_reset(device: CUdevice) -> CUresult {
    on_device(device, name!("cuDevicePrimaryCtxReset"), |sim, state, ordinal| {
        let id = state.devices[ordinal as usize].primary;
        let retained = state.devices[ordinal as usize].retained;
        let _ = sim.wait_for_context(state, id);
        let leaks = state.end_context(id);
        sim.tell_leaks(&leaks);
        if let Some(context) = state.contexts.get_mut(&id) {
            context.alive = retained > 0;
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn primary_get_state(
    device: CUdevice,
    flags: *mut c_uint,
    active: *mut c_int,
) -> CUresult {
    on_device(device, name!("cuDevicePrimaryCtxGetState"), |_, state, ordinal| {
        let device = &state.devices[ordinal as usize];
        put_if(flags, device.primary_flags);
        put(active, c_int::from(device.retained > 0))
    })
}

/// `CUctx_flags`: how a thread waits, one way of three at most, and what else there is.
fn check_flags(flags: c_uint) -> Outcome {
    const WAITS: c_uint = 0b111;
    const ALL: c_uint = 0xff;
    let known = flags & !ALL == 0 && (flags & WAITS).count_ones() <= 1;
    if known { Ok(()) } else { Err(CUresult::ERROR_INVALID_VALUE) }
}

pub(crate) unsafe extern "C" fn primary_set_flags(device: CUdevice, flags: c_uint) -> CUresult {
    on_device(device, name!("cuDevicePrimaryCtxSetFlags", "{flags}"), |_, state, ordinal| {
        check_flags(flags)?;
        state.devices[ordinal as usize].primary_flags = flags;
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn create(context: *mut CUcontext, flags: c_uint, device: CUdevice) -> CUresult {
    on_device(device, name!("cuCtxCreate", "{flags}"), |_, state, ordinal| {
        check_flags(flags)?;
        let id = state.new_id()?;
        let handle = state.handle(id);
        put(context, handle)?;
        state.contexts.insert(id, Context::new(ordinal, false, flags));
        push_current(handle);
        Ok(())
    })
}

/// With parameters (execution affinity, graphics) that must be absent.
pub(crate) unsafe extern "C" fn create_v4(
    context: *mut CUcontext,
    params: *mut c_void,
    flags: c_uint,
    device: CUdevice,
) -> CUresult {
    if !params.is_null() {
        return CUresult::ERROR_NOT_SUPPORTED;
    }
    // SAFETY: the caller's promise.
    unsafe { create(context, flags, device) }
}

/// With parameters and their number, which must be zero.
pub(crate) unsafe extern "C" fn create_v3(
    context: *mut CUcontext,
    params: *mut c_void,
    n: c_int,
    flags: c_uint,
    device: CUdevice,
) -> CUresult {
    if !params.is_null() || n != 0 {
        return CUresult::ERROR_NOT_SUPPORTED;
    }
    // SAFETY: the caller's promise.
    unsafe { create(context, flags, device) }
}

pub(crate) unsafe extern "C" fn destroy(context: CUcontext) -> CUresult {
    let sim = context.serial().and_then(registry::find);
    if sim.is_none() {
        return CUresult::ERROR_INVALID_CONTEXT;
    }
    releasing_on_driver(sim, name!("cuCtxDestroy"), |sim, state| {
        let id = created(state, context)?;
        let _ = sim.wait_for_context(state, id);
        let leaks = state.end_context(id);
        sim.tell_leaks(&leaks);
        if current() == context {
            pop_current();
        }
        Ok(())
    })
}

/// A context that `cuCtxCreate` made: the primary ones are released, not destroyed.
fn created(state: &crate::state::State, context: CUcontext) -> Outcome<Id> {
    let id = state.id_of(context).map_err(|_| CUresult::ERROR_INVALID_CONTEXT)?;
    match state.contexts.get(&id) {
        Some(context) if !context.primary => Ok(id),
        Some(_) => Err(CUresult::ERROR_INVALID_CONTEXT),
        None => Err(CUresult::ERROR_CONTEXT_IS_DESTROYED),
    }
}

pub(crate) unsafe extern "C" fn get_current<const SLOT: usize>(context: *mut CUcontext) -> CUresult {
    on_driver(registry::in_slot(SLOT), name!("cuCtxGetCurrent"), true, |_, _| put(context, current()))
}

/// Checks that a context can be made current.
fn usable(context: CUcontext, call: call::Name<'_>, then: impl FnOnce()) -> CUresult {
    let sim = context.serial().and_then(registry::find);
    if sim.is_none() {
        return CUresult::ERROR_INVALID_CONTEXT;
    }
    on_driver(sim, call, true, |_, state| {
        let id = state.id_of(context).map_err(|_| CUresult::ERROR_INVALID_CONTEXT)?;
        match state.contexts.get(&id) {
            Some(context) if context.alive => {
                then();
                Ok(())
            }
            _ => Err(CUresult::ERROR_CONTEXT_IS_DESTROYED),
        }
    })
}

pub(crate) unsafe extern "C" fn ctx_set_current(context: CUcontext) -> CUresult {
    if context.is_null() {
        set_current(context);
        return CUresult::SUCCESS;
    }
    usable(context, name!("cuCtxSetCurrent"), || set_current(context))
}

pub(crate) unsafe extern "C" fn ctx_push_current(context: CUcontext) -> CUresult {
    usable(context, name!("cuCtxPushCurrent"), || push_current(context))
}

pub(crate) unsafe extern "C" fn ctx_pop_current(context: *mut CUcontext) -> CUresult {
    match pop_current() {
        Some(popped) => {
            put_if(context, popped);
            CUresult::SUCCESS
        }
        None => CUresult::ERROR_INVALID_CONTEXT,
    }
}

pub(crate) unsafe extern "C" fn synchronize() -> CUresult {
    in_context(name!("cuCtxSynchronize"), |call| {
        let context = call.context;
        if call.break_captures(|capture| capture.context == context) {
            return Err(CUresult::ERROR_STREAM_CAPTURE_UNSUPPORTED);
        }
        call.expect_careless()?;
        call.wait_for_context()
    })
}

pub(crate) unsafe extern "C" fn get_stream_priority_range(
    least: *mut c_int,
    greatest: *mut c_int,
) -> CUresult {
    in_context(name!("cuCtxGetStreamPriorityRange"), |_| {
        put_if(least, PRIORITIES.0);
        put_if(greatest, PRIORITIES.1);
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn get_device(device: *mut CUdevice) -> CUresult {
    in_context(name!("cuCtxGetDevice"), |call| put(device, handle_of(call.sim, call.device)))
}

pub(crate) unsafe extern "C" fn get_api_version(context: CUcontext, version: *mut c_uint) -> CUresult {
    let context = if context.is_null() { current() } else { context };
    if context.is_null() {
        return CUresult::ERROR_INVALID_CONTEXT;
    }
    put(version, 3020).map_or_else(|code| code, |()| CUresult::SUCCESS)
}

pub(crate) unsafe extern "C" fn get_flags(flags: *mut c_uint) -> CUresult {
    in_context(name!("cuCtxGetFlags"), |call| {
        let context = call.contexts.get(&call.context).ok_or(CUresult::ERROR_CONTEXT_IS_DESTROYED)?;
        let primary = call.devices[context.device as usize].primary_flags;
        put(flags, if context.primary { primary } else { context.flags })
    })
}

/// How a thread waits does not matter here.
pub(crate) unsafe extern "C" fn set_flags(flags: c_uint) -> CUresult {
    in_context(name!("cuCtxSetFlags", "{flags}"), |call| {
        check_flags(flags)?;
        let (id, device) = (call.context, call.device as usize);
        match call.contexts.get_mut(&id) {
            Some(context) if !context.primary => context.flags = flags,
            _ => call.devices[device].primary_flags = flags,
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn get_limit(value: *mut usize, limit: c_uint) -> CUresult {
    in_context(name!("cuCtxGetLimit", "{limit}"), |call| {
        let id = call.context;
        let set = call.contexts.get(&id).and_then(|context| context.limits.get(&limit).copied());
        let default = LIMITS.iter().find(|(number, _)| *number == limit).map(|(_, value)| *value);
        put(value, set.or(default).ok_or(CUresult::ERROR_UNSUPPORTED_LIMIT)?)
    })
}

pub(crate) unsafe extern "C" fn set_limit(limit: c_uint, value: usize) -> CUresult {
    in_context(name!("cuCtxSetLimit", "{limit}, {value}"), |call| {
        if !LIMITS.iter().any(|(number, _)| *number == limit) {
            return Err(CUresult::ERROR_UNSUPPORTED_LIMIT);
        }
        if limit == PERSISTING_L2 && value > call.sim.profile.persisting_l2_bytes as usize {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let id = call.context;
        if let Some(context) = call.contexts.get_mut(&id) {
            context.limits.insert(limit, value);
        }
        Ok(())
    })
}

/// Numbers of contexts are theirs for the driver's life.
pub(crate) unsafe extern "C" fn get_id(context: CUcontext, id: *mut c_ulonglong) -> CUresult {
    let context = if context.is_null() { current() } else { context };
    let Some(sim) = context.serial().and_then(registry::find) else {
        return CUresult::ERROR_INVALID_CONTEXT;
    };
    on_driver(Some(sim), name!("cuCtxGetId"), true, |_, state| {
        let number = state.id_of(context).map_err(|_| CUresult::ERROR_INVALID_CONTEXT)?;
        match state.contexts.get(&number) {
            Some(context) if context.alive => put(id, c_ulonglong::from(number)),
            _ => Err(CUresult::ERROR_CONTEXT_IS_DESTROYED),
        }
    })
}

/// The context of another device.
fn peer_of(call: &Call<'_>, peer: CUcontext) -> Outcome<Id> {
    let id = call.id_of(peer).map_err(|_| CUresult::ERROR_INVALID_CONTEXT)?;
    match call.contexts.get(&id) {
        Some(context) if !context.alive => Err(CUresult::ERROR_INVALID_CONTEXT),
        Some(context) if context.device == call.device => Err(CUresult::ERROR_INVALID_DEVICE),
        Some(_) => Ok(id),
        None => Err(CUresult::ERROR_INVALID_CONTEXT),
    }
}

/// Kernels are not kept from memory of other devices, so this only keeps the account that a driver keeps.
pub(crate) unsafe extern "C" fn enable_peer_access(peer: CUcontext, flags: c_uint) -> CUresult {
    in_context(name!("cuCtxEnablePeerAccess", "{flags}"), |call| {
        if flags != 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let (peer, context) = (peer_of(call, peer)?, call.context);
        let is_new = call.contexts.get_mut(&context).is_some_and(|context| context.peers.insert(peer));
        if is_new { Ok(()) } else { Err(CUresult::ERROR_PEER_ACCESS_ALREADY_ENABLED) }
    })
}

pub(crate) unsafe extern "C" fn disable_peer_access(peer: CUcontext) -> CUresult {
    in_context(name!("cuCtxDisablePeerAccess"), |call| {
        let peer = call.id_of(peer).map_err(|_| CUresult::ERROR_INVALID_CONTEXT)?;
        let context = call.context;
        let was = call.contexts.get_mut(&context).is_some_and(|context| context.peers.remove(&peer));
        if was { Ok(()) } else { Err(CUresult::ERROR_PEER_ACCESS_NOT_ENABLED) }
    })
}

/// `CUsharedconfig`: banks of four bytes, whatever is asked for.
pub(crate) unsafe extern "C" fn get_shared_config(config: *mut c_uint) -> CUresult {
    in_context(name!("cuCtxGetSharedMemConfig"), |_| put(config, 1))
}

pub(crate) unsafe extern "C" fn set_shared_config(config: c_uint) -> CUresult {
    in_context(name!("cuCtxSetSharedMemConfig", "{config}"), |_| {
        if config > 2 { Err(CUresult::ERROR_INVALID_VALUE) } else { Ok(()) }
    })
}

/// Tells a profiler to begin, or to end. None is attached.
pub(crate) unsafe extern "C" fn profiler_start() -> CUresult {
    in_context(name!("cuProfilerStart"), |_| Ok(()))
}

pub(crate) unsafe extern "C" fn profiler_stop() -> CUresult {
    in_context(name!("cuProfilerStop"), |_| Ok(()))
}

/// Devices with one configuration of cache and shared memory take the preference and ignore it.
pub(crate) unsafe extern "C" fn get_cache_config(config: *mut c_uint) -> CUresult {
    in_context(name!("cuCtxGetCacheConfig"), |_| put(config, 0))
}

pub(crate) unsafe extern "C" fn set_cache_config(config: c_uint) -> CUresult {
    in_context(name!("cuCtxSetCacheConfig", "{config}"), |_| {
        if config > 3 { Err(CUresult::ERROR_INVALID_VALUE) } else { Ok(()) }
    })
}
