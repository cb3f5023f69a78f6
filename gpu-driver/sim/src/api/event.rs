//! Events. Time is simulated: see [`crate::work`] for what costs what.

use std::ffi::c_uint;

use gpu_driver::sys::{CU_EVENT_BLOCKING_SYNC, CU_EVENT_DISABLE_TIMING, CUevent, CUresult, CUstream};

use crate::call::{Call, Name, Outcome, in_context, name, put, releasing};
use crate::handle::Id;
use crate::objects::Event;
use crate::work::Work;

/// Flag of `cuEventCreate`: visible to other processes.
const INTERPROCESS: c_uint = 4;

pub(crate) unsafe extern "C" fn create(event: *mut CUevent, flags: c_uint) -> CUresult {
    in_context(name!("cuEventCreate", "{flags}"), |call| {
        if event.is_null() || flags & !(CU_EVENT_BLOCKING_SYNC | CU_EVENT_DISABLE_TIMING | INTERPROCESS) != 0
        {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        if flags & INTERPROCESS != 0 {
            return Err(CUresult::ERROR_NOT_SUPPORTED);
        }
        let id = call.new_id()?;
        let timing = flags & CU_EVENT_DISABLE_TIMING == 0;
        let context = call.context;
        call.events.insert(id, Event { context, timing, recorded: None, part: None });
        put(event, call.handle(id))
    })
}

fn known(call: &Call<'_>, event: CUevent) -> Outcome<Id> {
    let id = call.id_of(event)?;
    if call.events.contains_key(&id) { Ok(id) } else { Err(CUresult::ERROR_INVALID_HANDLE) }
}

pub(crate) unsafe extern "C" fn destroy(event: CUevent) -> CUresult {
    releasing(name!("cuEventDestroy"), |call| {
        let id = known(call, event)?;
        call.events.remove(&id);
        Ok(())
    })
}

/// An event of a capture has no end that could be waited for.
fn expect_uncaptured(call: &mut Call<'_>, event: Id) -> Outcome {
    match call.events.get(&event).and_then(|event| event.part.as_ref()).map(|part| part.capture) {
        None => Ok(()),
        Some(capture) => {
            call.break_capture(capture);
            Err(CUresult::ERROR_CAPTURED_EVENT)
        }
    }
}

fn record_in(name: Name<'_>, event: CUevent, stream: CUstream, external: bool) -> CUresult {
    in_context(name, |call| {
        let stream = call.stream(stream)?;
        let id = known(call, event)?;
        if call.events.get(&id).is_none_or(|event| event.context != call.context_of(stream)) {
            return Err(CUresult::ERROR_INVALID_HANDLE);
        }
        if let Some(part) = call.part(stream).cloned() {
            call.expect_whole(part.capture)?;
            if external {
                return call.expect_capturable(stream);
            }
            if let Some(event) = call.events.get_mut(&id) {
                (event.recorded, event.part) = (None, Some(part));
            }
            return Ok(());
        }
        let marker = call.submit(stream, Work::Nothing, false)?;
        if let Some(event) = call.events.get_mut(&id) {
            (event.recorded, event.part) = (marker, None);
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn record(event: CUevent, stream: CUstream) -> CUresult {
    record_in(name!("cuEventRecord"), event, stream, false)
}

pub(crate) unsafe extern "C" fn record_with_flags(
    event: CUevent,
    stream: CUstream,
    flags: c_uint,
) -> CUresult {
    // CU_EVENT_RECORD_EXTERNAL has a meaning in captures only.
    if flags > 1 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    record_in(name!("cuEventRecordWithFlags", "{flags}"), event, stream, flags != 0)
}

pub(crate) unsafe extern "C" fn query(event: CUevent) -> CUresult {
    in_context(name!("cuEventQuery"), |call| {
        let id = known(call, event)?;
        expect_uncaptured(call, id)?;
        call.expect_careless()?;
        let recorded = call.events.get(&id).and_then(|event| event.recorded.clone());
        call.query(recorded.as_slice())
    })
}

pub(crate) unsafe extern "C" fn synchronize(event: CUevent) -> CUresult {
    in_context(name!("cuEventSynchronize"), |call| {
        let id = known(call, event)?;
        expect_uncaptured(call, id)?;
        call.expect_careless()?;
        let recorded = call.events.get(&id).and_then(|event| event.recorded.clone());
        call.wait(recorded.as_slice())
    })
}

pub(crate) unsafe extern "C" fn elapsed_time(
    milliseconds: *mut f32,
    start: CUevent,
    end: CUevent,
) -> CUresult {
    in_context(name!("cuEventElapsedTime"), |call| {
        let mut times = [0u64; 2];
        let context =
            |call: &Call<'_>, event| known(call, event).map(|id| call.events.get(&id).map(|e| e.context));
        if context(call, start)? != context(call, end)? {
            return Err(CUresult::ERROR_INVALID_HANDLE);
        }
        for (time, event) in times.iter_mut().zip([start, end]) {
            let id = known(call, event)?;
            expect_uncaptured(call, id)?;
            let event = call.events.get(&id).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
            let recorded =
                event.recorded.as_ref().filter(|_| event.timing).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
            *time = recorded.done().ok_or(CUresult::ERROR_NOT_READY)?.end_ns;
        }
        let nanoseconds = times[1] as f64 - times[0] as f64;
        put(milliseconds, (nanoseconds / 1e6) as f32)
    })
}
