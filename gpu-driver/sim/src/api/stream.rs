//! Streams.

use std::ffi::{c_int, c_uint, c_ulonglong, c_void};
use std::sync::Arc;

use gpu_driver::sys::{CU_STREAM_NON_BLOCKING, CUcontext, CUdevice, CUevent, CUresult, CUstream};

use crate::api::context::PRIORITIES;
use crate::api::device::handle_of;
use crate::call::{Call, Name, in_context, name, put, put_if, releasing};
use crate::objects::Stream;
use crate::queue::Dependency;
use crate::work::{HostCall, HostFunction, StatusFunction, Work};

fn make(name: Name<'_>, stream: *mut CUstream, flags: c_uint, priority: c_int) -> CUresult {
    in_context(name, |call| {
        if stream.is_null() || flags & !CU_STREAM_NON_BLOCKING != 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let id = call.new_id()?;
        let blocking = flags & CU_STREAM_NON_BLOCKING == 0;
        let made = Stream::new(call.context, blocking, priority.clamp(PRIORITIES.1, PRIORITIES.0));
        call.streams.insert(id, made);
        put(stream, call.handle(id))
    })
}

pub(crate) unsafe extern "C" fn create(stream: *mut CUstream, flags: c_uint) -> CUresult {
    make(name!("cuStreamCreate", "{flags}"), stream, flags, 0)
}

pub(crate) unsafe extern "C" fn create_with_priority(
    stream: *mut CUstream,
    flags: c_uint,
    priority: c_int,
) -> CUresult {
    make(name!("cuStreamCreateWithPriority", "{flags}, {priority}"), stream, flags, priority)
}

pub(crate) unsafe extern "C" fn destroy(stream: CUstream) -> CUresult {
    releasing(name!("cuStreamDestroy"), |call| {
        let id = call.stream(stream)?.ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        // Default streams are the driver's.
        if call.thread_streams.values().any(|stream| *stream == id) {
            return Err(CUresult::ERROR_INVALID_HANDLE);
        }
        let gone = call.streams.remove(&id).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        let began = gone.part.map(|part| part.capture);
        if let Some(capture) =
            began.filter(|capture| call.captures.get(capture).is_some_and(|c| c.origin == id))
            && let Some(ended) = call.end_capture(capture)
            && !ended.into_existing
        {
            call.remove_graph(ended.graph);
        }
        // What it has queued still runs, and the default stream still waits for it.
        if let Some(tail) = gone.tail.filter(|tail| gone.blocking && !tail.is_done()) {
            let context = gone.context;
            call.state.queue_in(context, None, vec![Dependency::full(tail)], Work::Nothing, false)?;
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn synchronize(stream: CUstream) -> CUresult {
    in_context(name!("cuStreamSynchronize"), |call| {
        let stream = call.stream(stream)?;
        call.expect_uncaptured(stream)?;
        call.expect_careless()?;
        call.wait_for_stream(stream)
    })
}

pub(crate) unsafe extern "C" fn query(stream: CUstream) -> CUresult {
    in_context(name!("cuStreamQuery"), |call| {
        let stream = call.stream(stream)?;
        call.expect_uncaptured(stream)?;
        call.expect_careless()?;
        let context = call.context_of(stream);
        let tails = call.tails(context, stream);
        call.sim.query(&mut call.state, context, &tails)
    })
}

pub(crate) unsafe extern "C" fn wait_event(stream: CUstream, event: CUevent, flags: c_uint) -> CUresult {
    in_context(name!("cuStreamWaitEvent"), |call| {
        // CU_EVENT_WAIT_EXTERNAL has a meaning in captures only.
        if flags > 1 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let stream = call.stream(stream)?;
        let id = call.id_of(event)?;
        if flags != 0 {
            call.expect_capturable(stream)?;
        }
        if call.join(stream, id)? {
            return Ok(());
        }
        if stream.is_none() {
            call.expect_free_legacy()?;
        }
        let recorded = call.events.get(&id).ok_or(CUresult::ERROR_INVALID_HANDLE)?.recorded.clone();
        if let Some(marker) = recorded {
            let context = call.context_of(stream);
            call.state.queue_in(context, stream, vec![Dependency::full(marker)], Work::Nothing, false)?;
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn get_priority(stream: CUstream, priority: *mut c_int) -> CUresult {
    in_context(name!("cuStreamGetPriority"), |call| {
        let stream = call.stream(stream)?;
        put(priority, stream.and_then(|id| call.streams.get(&id)).map_or(0, |stream| stream.priority))
    })
}

pub(crate) unsafe extern "C" fn get_flags(stream: CUstream, flags: *mut c_uint) -> CUresult {
    in_context(name!("cuStreamGetFlags"), |call| {
        let stream = call.stream(stream)?;
        let blocking = stream.and_then(|id| call.streams.get(&id)).is_none_or(|stream| stream.blocking);
        put(flags, if blocking { 0 } else { CU_STREAM_NON_BLOCKING })
    })
}

pub(crate) unsafe extern "C" fn get_context(stream: CUstream, context: *mut CUcontext) -> CUresult {
    in_context(name!("cuStreamGetCtx"), |call| {
        let stream = call.stream(stream)?;
        put(context, call.handle(call.context_of(stream)))
    })
}

/// With the green context of the stream, which it never has.
pub(crate) unsafe extern "C" fn get_context_v2(
    stream: CUstream,
    context: *mut CUcontext,
    green: *mut *mut c_void,
) -> CUresult {
    // SAFETY: the caller's promise.
    let code = unsafe { get_context(stream, context) };
    if code == CUresult::SUCCESS {
        put_if(green, std::ptr::null_mut());
    }
    code
}

pub(crate) unsafe extern "C" fn get_device(stream: CUstream, device: *mut CUdevice) -> CUresult {
    in_context(name!("cuStreamGetDevice"), |call| {
        let stream = call.stream(stream)?;
        let context = call.context_of(stream);
        let context = call.contexts.get(&context).ok_or(CUresult::ERROR_CONTEXT_IS_DESTROYED)?;
        put(device, handle_of(call.sim, context.device))
    })
}

pub(crate) unsafe extern "C" fn get_id(stream: CUstream, id: *mut c_ulonglong) -> CUresult {
    in_context(name!("cuStreamGetId"), |call| {
        let number = call.stream(stream)?.map_or(0, u64::from);
        put(id, number)
    })
}

pub(crate) unsafe extern "C" fn launch_host_function(
    stream: CUstream,
    function: Option<extern "C" fn(*mut c_void)>,
    data: *mut c_void,
) -> CUresult {
    in_context(name!("cuLaunchHostFunc"), |call| {
        let stream = call.stream(stream)?;
        let function = function.ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let work =
            Work::Host(HostFunction { function: HostCall::Plain(function), data: data.expose_provenance() });
        call.submit(stream, work, false).map(|_| ())
    })
}

/// The older form, which is not captured.
pub(crate) unsafe extern "C" fn add_callback(
    stream: CUstream,
    function: Option<StatusFunction>,
    data: *mut c_void,
    flags: c_uint,
) -> CUresult {
    in_context(name!("cuStreamAddCallback"), |call| {
        let handle = stream;
        let stream = call.stream(stream)?;
        let function = function.filter(|_| flags == 0).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        call.expect_uncaptured(stream)?;
        let function = HostCall::WithStatus(function, handle);
        let work = Work::Host(HostFunction { function, data: data.expose_provenance() });
        call.submit(stream, work, false).map(|_| ())
    })
}

impl Call<'_> {
    /// Whether operations are done; where not, they go on.
    pub(crate) fn query(&mut self, markers: &[Arc<crate::queue::Marker>]) -> crate::call::Outcome {
        self.sim.query(&mut self.state, self.context, markers)
    }
}
