//! Streams and events. Work runs when it is queued; `busy` makes it look unfinished.

use super::*;
use gpu_driver::sys::{CUevent, CUstream};
use std::ffi::{c_int, c_uint};

pub extern "C" fn stream_create_with_priority(
    stream: *mut CUstream,
    flags: c_uint,
    priority: c_int,
) -> CUresult {
    answer_in_context("cuStreamCreateWithPriority", format!("{flags}, {priority}"), |s| {
        let handle = s.handle();
        s.streams.insert(handle, priority.clamp(-5, 0));
        put(stream, CUstream(token(handle)))
    })
}

pub extern "C" fn stream_destroy(stream: CUstream) -> CUresult {
    answer_in_context("cuStreamDestroy", String::new(), |s| {
        s.streams.remove(&stream.0.addr()).map(|_| ()).ok_or(CUresult::ERROR_INVALID_HANDLE)
    })
}

pub extern "C" fn stream_synchronize(stream: CUstream) -> CUresult {
    answer_in_context("cuStreamSynchronize", String::new(), |s| {
        alive(&s.streams, stream.0.addr())?;
        s.busy = false;
        Ok(())
    })
}

pub extern "C" fn stream_query(stream: CUstream) -> CUresult {
    answer_in_context("cuStreamQuery", String::new(), |s| {
        alive(&s.streams, stream.0.addr())?;
        if s.busy { Err(CUresult::ERROR_NOT_READY) } else { Ok(()) }
    })
}

pub extern "C" fn stream_wait_event(stream: CUstream, event: CUevent, _flags: c_uint) -> CUresult {
    answer_in_context("cuStreamWaitEvent", String::new(), |s| {
        alive(&s.streams, stream.0.addr())?;
        alive(&s.events, event.0.addr())
    })
}

pub extern "C" fn stream_get_priority(stream: CUstream, priority: *mut c_int) -> CUresult {
    answer_in_context("cuStreamGetPriority", String::new(), |s| {
        let value = *s.streams.get(&stream.0.addr()).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        put(priority, value)
    })
}

pub extern "C" fn event_create(event: *mut CUevent, flags: c_uint) -> CUresult {
    answer_in_context("cuEventCreate", flags.to_string(), |s| {
        let handle = s.handle();
        s.events.insert(handle, EventModel { timed: flags & 2 == 0, at: None });
        put(event, CUevent(token(handle)))
    })
}

pub extern "C" fn event_destroy(event: CUevent) -> CUresult {
    answer_in_context("cuEventDestroy", String::new(), |s| {
        s.events.remove(&event.0.addr()).map(|_| ()).ok_or(CUresult::ERROR_INVALID_HANDLE)
    })
}

pub extern "C" fn event_record(event: CUevent, stream: CUstream) -> CUresult {
    answer_in_context("cuEventRecord", String::new(), |s| {
        alive(&s.streams, stream.0.addr())?;
        s.clock += 1.5;
        let now = s.clock;
        let event = s.events.get_mut(&event.0.addr()).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
        event.at = Some(now);
        Ok(())
    })
}

pub extern "C" fn event_query(event: CUevent) -> CUresult {
    answer_in_context("cuEventQuery", String::new(), |s| {
        alive(&s.events, event.0.addr())?;
        if s.busy { Err(CUresult::ERROR_NOT_READY) } else { Ok(()) }
    })
}

pub extern "C" fn event_synchronize(event: CUevent) -> CUresult {
    answer_in_context("cuEventSynchronize", String::new(), |s| {
        alive(&s.events, event.0.addr())?;
        s.busy = false;
        Ok(())
    })
}

pub extern "C" fn event_elapsed_time(milliseconds: *mut f32, start: CUevent, end: CUevent) -> CUresult {
    answer_in_context("cuEventElapsedTime", String::new(), |s| {
        let at = |e: CUevent| s.events.get(&e.0.addr()).filter(|e| e.timed).and_then(|e| e.at);
        match (at(start), at(end)) {
            (Some(a), Some(b)) => put(milliseconds, b - a),
            _ => Err(CUresult::ERROR_INVALID_HANDLE),
        }
    })
}
