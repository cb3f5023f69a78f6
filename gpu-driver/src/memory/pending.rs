//! Pinned memory that a queued copy is writing.

use crate::error::DriverError;
use crate::event::Event;
use std::fmt;

/// A value that queued work is using. It comes back from [`Pending::wait`] when that work has finished; dropping this
/// waits too. Forgetting it leaks the value, so the device never writes to freed memory.
#[must_use = "the value comes back from `wait`"]
pub struct Pending<V> {
    event: Event,
    value: Option<V>,
}

impl<V> Pending<V> {
    /// `event` must have been recorded after the work that uses `value`.
    pub(crate) fn new(event: Event, value: V) -> Self {
        Self { event, value: Some(value) }
    }

    /// Whether the work has finished.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the failure of work queued earlier.
    pub fn is_ready(&self) -> Result<bool, DriverError> {
        self.event.is_complete()
    }

    /// Waits for the work and returns the value.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the failure of work queued earlier. The value is then lost: dropped if a sticky
    /// error ended the context, since nothing runs there any more, or if a second wait succeeds, else leaked.
    pub fn wait(mut self) -> Result<V, DriverError> {
        self.event.synchronize()?;
        match self.value.take() {
            Some(value) => Ok(value),
            // Only `wait` and `drop` take the value, and both consume `self`.
            None => unreachable!("a pending value was taken twice"),
        }
    }
}

impl<V> Drop for Pending<V> {
    fn drop(&mut self) {
        let Some(value) = self.value.take() else { return };
        if let Err(error) = self.event.synchronize() {
            let context = self.event.context();
            if !context.is_lost() {
                tracing::error!(%error, "a copy into pinned memory could not be waited for; the memory is not freed");
                Box::leak(Box::new(value));
            }
            context.keep_error("Pending, waiting for its copy", error);
        }
    }
}

impl<V> fmt::Debug for Pending<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pending").finish_non_exhaustive()
    }
}
