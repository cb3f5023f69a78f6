//! Streams: queues of work on a device.

use crate::context::Context;
use crate::error::DriverError;
use crate::event::{Event, EventKind, ready};
use crate::sys::table::call;
use crate::sys::{CU_STREAM_NON_BLOCKING, CUstream};
use parking_lot::Mutex;
use std::any::Any;
use std::collections::VecDeque;
use std::ffi::c_int;
use std::fmt;
use std::sync::Arc;

/// A queue of work; what is queued in one stream runs in order. Cloning shares the queue.
///
/// Streams are made non-blocking: nothing orders them with the legacy default stream, and this crate queues nothing
/// there. All copies and fills are methods of a stream (see the [`memory`](crate::memory) module), so their order
/// relative to launches in it is the order of the calls.
#[derive(Clone)]
pub struct Stream(Arc<StreamInner>);

struct StreamInner {
    queue: Arc<Queue>,
    parked: Mutex<Parked>,
}

/// The driver's stream, without what [`Stream::keep_until_done`] keeps. An instantiated graph shares this part of the
/// streams on which it was launched, and so may itself be among what a stream keeps.
pub(crate) struct Queue {
    context: Context,
    handle: CUstream,
}

/// Host memory that queued copies use, each with the event after its last use.
#[derive(Default)]
struct Parked {
    waiting: VecDeque<(Event, Box<dyn Any + Send>)>,
    spare_events: Vec<Event>,
}

impl Stream {
    /// Makes a stream of default priority.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn new(context: &Context) -> Result<Self, DriverError> {
        Self::with_priority(context, 0)
    }

    /// Makes a stream with a priority; smaller is more urgent. The driver clamps it to
    /// [`Stream::priority_range`].
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn with_priority(context: &Context, priority: i32) -> Result<Self, DriverError> {
        let mut handle = CUstream::NULL;
        // SAFETY: the stream goes to a local.
        context.run(|t| unsafe {
            call!(t, stream_create_with_priority(&mut handle, CU_STREAM_NON_BLOCKING, priority))
        })?;
        let queue = Arc::new(Queue { context: context.clone(), handle });
        Ok(Self(Arc::new(StreamInner { queue, parked: Mutex::default() })))
    }

    /// Least and most urgent priority of the context's device, for example `(0, -5)`.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn priority_range(context: &Context) -> Result<(i32, i32), DriverError> {
        let (mut least, mut greatest): (c_int, c_int) = (0, 0);
        // SAFETY: both numbers go to locals.
        context.run(|t| unsafe { call!(t, ctx_get_stream_priority_range(&mut least, &mut greatest)) })?;
        Ok((least, greatest))
    }

    /// Its context.
    pub fn context(&self) -> &Context {
        &self.0.queue.context
    }

    /// The driver's handle.
    pub fn handle(&self) -> CUstream {
        self.0.queue.handle
    }

    pub(crate) fn queue(&self) -> &Arc<Queue> {
        &self.0.queue
    }

    /// Whether both are the same queue.
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Its priority after clamping.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn priority(&self) -> Result<i32, DriverError> {
        let mut priority: c_int = 0;
        // SAFETY: the number goes to a local; the stream is alive.
        self.context().run(|t| unsafe { call!(t, stream_get_priority(self.handle(), &mut priority)) })?;
        Ok(priority)
    }

    /// Waits until everything queued so far has finished.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the failure of work queued earlier.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        // Taken before waiting: what another thread parks meanwhile is not covered by this wait.
        let done = std::mem::take(&mut self.0.parked.lock().waiting);
        let waited = self.0.queue.wait();
        if waited.is_ok() {
            let (events, values): (Vec<_>, Vec<_>) = done.into_iter().unzip();
            drop(values);
            self.0.parked.lock().spare_events.extend(events);
        } else {
            let mut parked = self.0.parked.lock();
            for entry in done.into_iter().rev() {
                parked.waiting.push_front(entry);
            }
        }
        waited
    }

    /// Whether everything queued so far has finished.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the failure of work queued earlier.
    pub fn is_idle(&self) -> Result<bool, DriverError> {
        self.0.queue.is_idle()
    }

    /// Makes work queued in this stream from now on wait for `event`.
    ///
    /// # Errors
    ///
    /// [`DriverError::ContextMismatch`], [`DriverError::Poisoned`], or the driver's failure.
    pub fn wait_event(&self, event: &Event) -> Result<(), DriverError> {
        self.context().expect_same(event.context(), "waiting for an event")?;
        // SAFETY: both handles are alive and of the current context.
        self.context().run(|t| unsafe { call!(t, stream_wait_event(self.handle(), event.handle(), 0)) })
    }

    /// Records a new event after everything queued so far.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn record(&self, kind: EventKind) -> Result<Event, DriverError> {
        let event = Event::new(self.context(), kind)?;
        event.record(self)?;
        Ok(event)
    }

    /// Keeps `value` alive until everything queued so far has finished. It is dropped by a later call on this stream
    /// or with the stream, never before. A value that holds a clone of this stream keeps the stream from being dropped:
    /// only a later call drops it.
    pub fn keep_until_done(&self, value: Box<dyn Any + Send>) {
        let (finished, spare) = {
            let mut parked = self.0.parked.lock();
            (parked.reap(), parked.spare_events.pop())
        };
        let event = spare.map_or_else(|| Event::new(self.context(), EventKind::Ordering), Ok);
        let recorded = event.and_then(|event| event.record(self).map(|()| event));
        match recorded {
            Ok(event) => self.0.parked.lock().waiting.push_back((event, value)),
            Err(error) => {
                tracing::warn!(%error, "no event to follow queued work with; waiting for it instead");
                if let Err(error) = self.synchronize() {
                    if !self.context().is_lost() {
                        // Whether the device still uses it is unknown, so it must never be freed.
                        Box::leak(value);
                    }
                    self.context().keep_error("Stream, waiting for its work", error);
                }
            }
        }
        // Last: a destructor that panics must not take `value` with it.
        drop(finished);
    }

    /// Number of values that [`Stream::keep_until_done`] still holds.
    pub fn parked(&self) -> usize {
        let (finished, waiting) = {
            let mut parked = self.0.parked.lock();
            (parked.reap(), parked.waiting.len())
        };
        drop(finished);
        waiting
    }
}

impl Queue {
    pub(crate) fn handle(&self) -> CUstream {
        self.handle
    }

    pub(crate) fn wait(&self) -> Result<(), DriverError> {
        // SAFETY: the stream is alive and of the current context.
        self.context.run(|t| unsafe { call!(t, stream_synchronize(self.handle)) })
    }

    pub(crate) fn is_idle(&self) -> Result<bool, DriverError> {
        // SAFETY: the stream is alive and of the current context.
        ready(self.context.run(|t| unsafe { call!(t, stream_query(self.handle)) }))
    }
}

impl Parked {
    /// Takes out what the stream has finished with, for the caller to drop without the lock: those drops are foreign
    /// code. Values are in stream order, so the first unfinished one ends the walk.
    fn reap(&mut self) -> Vec<Box<dyn Any + Send>> {
        let mut finished = Vec::new();
        while let Some((event, _)) = self.waiting.front() {
            if !matches!(event.is_complete(), Ok(true)) {
                break;
            }
            if let Some((event, value)) = self.waiting.pop_front() {
                self.spare_events.push(event);
                finished.push(value);
            }
        }
        finished
    }
}

impl Drop for StreamInner {
    fn drop(&mut self) {
        let Queue { context, handle } = &*self.queue;
        let parked = std::mem::take(self.parked.get_mut());
        if parked.waiting.is_empty() {
            return;
        }
        let mut finished = false;
        context.release(
            || "Stream, waiting for its copies".to_owned(),
            |t| {
                // SAFETY: the stream is alive: this value shares it.
                let waited = unsafe { call!(t, stream_synchronize(*handle)) };
                finished = waited.is_ok();
                waited
            },
        );
        if !finished && !context.is_lost() {
            Box::leak(Box::new(parked));
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        let handle = self.handle;
        // SAFETY: the handle is owned by this value and not used again; queued work still runs to its end.
        self.context.release(|| "Stream".to_owned(), |t| unsafe { call!(t, stream_destroy(handle)) });
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("handle", &self.handle()).finish_non_exhaustive()
    }
}
