//! Errors of destructors. `Drop` can return nothing, so what goes wrong there is logged and kept until asked for.

use crate::error::DriverError;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::fmt;

/// Most errors that are kept; older ones are dropped and counted.
const CAPACITY: usize = 64;

/// An error that a destructor met.
#[derive(Debug, Clone)]
pub struct DropError {
    /// What was being released, for example `DeviceBuffer of 4096 bytes`.
    pub origin: String,
    /// What went wrong.
    pub error: DriverError,
}

impl fmt::Display for DropError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "releasing {}: {}", self.origin, self.error)
    }
}

impl std::error::Error for DropError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

#[derive(Default)]
pub(crate) struct DropLog(Mutex<State>);

#[derive(Default)]
struct State {
    errors: VecDeque<DropError>,
    lost: usize,
}

impl DropLog {
    pub(crate) fn record(&self, origin: String, error: DriverError) {
        tracing::error!(%origin, %error, "release failed");
        self.push(DropError { origin, error });
    }

    fn push(&self, error: DropError) {
        let mut state = self.0.lock();
        if state.errors.len() == CAPACITY {
            state.errors.pop_front();
            state.lost += 1;
        }
        state.errors.push_back(error);
    }

    pub(crate) fn take(&self) -> Vec<DropError> {
        let mut state = self.0.lock();
        if state.lost > 0 {
            tracing::warn!(lost = state.lost, "older release errors were not kept");
            state.lost = 0;
        }
        state.errors.drain(..).collect()
    }

    /// Moves everything to another log, without logging it again.
    pub(crate) fn drain_into(&self, other: &Self) {
        let errors: Vec<_> = self.0.lock().errors.drain(..).collect();
        for error in errors {
            other.push(error);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_newest_and_empties_on_take() {
        let log = DropLog::default();
        for i in 0..CAPACITY + 3 {
            log.record(format!("object {i}"), DriverError::GraphInFlight);
        }
        let errors = log.take();
        assert_eq!(errors.len(), CAPACITY);
        assert_eq!(errors[0].origin, "object 3");
        assert_eq!(errors[0].to_string(), format!("releasing object 3: {}", DriverError::GraphInFlight));
        assert!(log.take().is_empty());
    }
}
