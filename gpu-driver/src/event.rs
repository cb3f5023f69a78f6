//! Events: marks in a stream to wait for, and to measure between.

use crate::context::Context;
use crate::error::DriverError;
use crate::stream::Stream;
use crate::sys::table::call;
use crate::sys::{CU_EVENT_BLOCKING_SYNC, CU_EVENT_DISABLE_TIMING, CUevent, CUresult};
use std::fmt;

/// What an event is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EventKind {
    /// Carries a time stamp, for [`Event::elapsed_ms`].
    #[default]
    Timing,
    /// Only for ordering; cheaper.
    Ordering,
    /// Only for ordering; a host thread that waits for it sleeps instead of spinning.
    Blocking,
}

/// A mark in a stream. Until it is first recorded it counts as having happened.
pub struct Event {
    context: Context,
    handle: CUevent,
    kind: EventKind,
}

impl Event {
    /// Makes an event.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn new(context: &Context, kind: EventKind) -> Result<Self, DriverError> {
        let flags = match kind {
            EventKind::Timing => 0,
            EventKind::Ordering => CU_EVENT_DISABLE_TIMING,
            EventKind::Blocking => CU_EVENT_DISABLE_TIMING | CU_EVENT_BLOCKING_SYNC,
        };
        let mut handle = CUevent::NULL;
        // SAFETY: the event goes to a local.
        context.run(|t| unsafe { call!(t, event_create(&mut handle, flags)) })?;
        Ok(Self { context: context.clone(), handle, kind })
    }

    /// Its context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// The driver's handle.
    pub fn handle(&self) -> CUevent {
        self.handle
    }

    /// Records it after all work now in `stream`. It then stands for that point, no longer for an earlier one.
    ///
    /// # Errors
    ///
    /// [`DriverError::ContextMismatch`], [`DriverError::Poisoned`], or the driver's failure.
    pub fn record(&self, stream: &Stream) -> Result<(), DriverError> {
        self.context.expect_same(stream.context(), "recording an event")?;
        // SAFETY: both handles are alive and of the current context.
        self.context.run(|t| unsafe { call!(t, event_record(self.handle, stream.handle())) })
    }

    /// Whether the work before it has finished.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the failure of work queued earlier.
    pub fn is_complete(&self) -> Result<bool, DriverError> {
        // SAFETY: the event is alive and of the current context.
        ready(self.context.run(|t| unsafe { call!(t, event_query(self.handle)) }))
    }

    /// Waits for the work before it.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the failure of work queued earlier.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: the event is alive and of the current context.
        self.context.run(|t| unsafe { call!(t, event_synchronize(self.handle)) })
    }

    /// Milliseconds of device time from `start` to this event, with a resolution of about half a microsecond. Both
    /// must be of [`EventKind::Timing`] and have been recorded.
    ///
    /// # Errors
    ///
    /// `CUDA_ERROR_NOT_READY` if one has not happened yet, `CUDA_ERROR_INVALID_HANDLE` if one has no time stamp or
    /// was never recorded; [`DriverError::ContextMismatch`], [`DriverError::Poisoned`].
    pub fn elapsed_ms(&self, start: &Event) -> Result<f32, DriverError> {
        self.context.expect_same(&start.context, "timing between events")?;
        let mut ms = 0f32;
        // SAFETY: the time goes to a local; both events are alive and of the current context.
        self.context.run(|t| unsafe { call!(t, event_elapsed_time(&mut ms, start.handle, self.handle)) })?;
        Ok(ms)
    }
}

/// Turns the answer of a query into "finished or not".
pub(crate) fn ready(result: Result<(), DriverError>) -> Result<bool, DriverError> {
    match result {
        Ok(()) => Ok(true),
        Err(DriverError::Api(e)) if e.code() == CUresult::ERROR_NOT_READY => Ok(false),
        Err(e) => Err(e),
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        let handle = self.handle;
        // SAFETY: the handle is owned by this value and not used again; the driver keeps the event's resources until
        // work that refers to it has finished.
        self.context.release(|| "Event".to_owned(), |t| unsafe { call!(t, event_destroy(handle)) });
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event").field("kind", &self.kind).finish_non_exhaustive()
    }
}
