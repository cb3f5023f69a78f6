//! A device's primary context.

use crate::device::{Device, DeviceLimits};
use crate::driver::Driver;
use crate::drop_log::{DropError, DropLog};
use crate::error::{ApiError, DriverError};
use crate::sys::table::call;
use crate::sys::{CUcontext, DriverTable};
use std::fmt;
use std::sync::{Arc, OnceLock, Weak};

/// The primary context of a device, reference counted: it is retained once for all clones and for every object made
/// in it, and released with the last of them.
///
/// Each operation makes the context current on the calling thread if it is not, and leaves it current; the usual case
/// costs one `cuCtxGetCurrent`, a thread-local read. Objects can therefore be used from any thread.
///
/// A sticky error (illegal address, launch failure and their like) poisons the context. From then on every operation
/// fails with [`DriverError::Poisoned`], which names the original error, without calling the driver. So does a wait that
/// fails twice, where memory that was only borrowed for a copy may still be in use. Once everything of a poisoned context
/// has been dropped, [`Device::context`] makes a new one; that it works is promised by CUDA to a new process only.
#[derive(Clone)]
pub struct Context(pub(crate) Arc<ContextInner>);

pub(crate) struct ContextInner {
    device: Device,
    handle: CUcontext,
    limits: DeviceLimits,
    poison: OnceLock<ApiError>,
    drop_log: DropLog,
}

/// Device memory in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryInfo {
    /// Not allocated by anyone.
    pub free: u64,
    /// All of it.
    pub total: u64,
}

impl Context {
    /// The context of `device`, shared with every other user of it through the same [`Driver`].
    pub(crate) fn of(device: &Device) -> Result<Self, DriverError> {
        let driver = device.driver();
        let mut contexts = driver.0.contexts.lock();
        if let Some(inner) = contexts.get(&device.ordinal()).and_then(Weak::upgrade) {
            return Ok(Self(inner));
        }
        // Limits first: a failure must not leave a retained context behind.
        let limits = device.limits()?;
        let mut handle = CUcontext::NULL;
        // SAFETY: the context goes to a local; the device handle is the driver's.
        unsafe { call!(driver.table(), device_primary_ctx_retain(&mut handle, device.handle())) }?;
        let inner = Arc::new(ContextInner {
            device: device.clone(),
            handle,
            limits,
            poison: OnceLock::new(),
            drop_log: DropLog::default(),
        });
        contexts.insert(device.ordinal(), Arc::downgrade(&inner));
        Ok(Self(inner))
    }

    /// Its device.
    pub fn device(&self) -> &Device {
        &self.0.device
    }

    /// Its driver.
    pub fn driver(&self) -> &Driver {
        self.0.device.driver()
    }

    /// The driver's handle.
    pub fn handle(&self) -> CUcontext {
        self.0.handle
    }

    /// The device's limits, read when the context was made.
    pub fn limits(&self) -> &DeviceLimits {
        &self.0.limits
    }

    /// Makes it current on the calling thread, for libraries that expect that.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn make_current(&self) -> Result<(), DriverError> {
        self.bind()
    }

    /// Waits for all work on all streams of the context.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the failure of work queued earlier.
    pub fn synchronize(&self) -> Result<(), DriverError> {
        // SAFETY: no arguments; the context is current.
        self.run(|t| unsafe { call!(t, ctx_synchronize()) })
    }

    /// Free and total device memory.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn memory_info(&self) -> Result<MemoryInfo, DriverError> {
        let (mut free, mut total) = (0usize, 0usize);
        // SAFETY: both sizes go to locals.
        self.run(|t| unsafe { call!(t, mem_get_info(&mut free, &mut total)) })?;
        Ok(MemoryInfo { free: free as u64, total: total as u64 })
    }

    /// The error that poisoned this context, if one did.
    pub fn poison(&self) -> Option<&ApiError> {
        self.0.poison.get()
    }

    /// Takes the errors that destructors of objects of this context met, and others that no call could return, oldest
    /// first; 64 at most are kept. What is not taken moves to [`Driver::take_drop_errors`] when the context ends.
    pub fn take_drop_errors(&self) -> Vec<DropError> {
        self.0.drop_log.take()
    }

    /// Whether both are the same context.
    pub fn same_as(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn expect_same(&self, other: &Self, what: &'static str) -> Result<(), DriverError> {
        if self.same_as(other) {
            return Ok(());
        }
        Err(DriverError::ContextMismatch {
            what,
            device: self.device().ordinal(),
            other: other.device().ordinal(),
        })
    }

    #[inline]
    pub(crate) fn table(&self) -> &DriverTable {
        self.driver().table()
    }

    /// Refuses a poisoned context, and makes it current.
    #[inline]
    pub(crate) fn bind(&self) -> Result<(), DriverError> {
        if let Some(cause) = self.0.poison.get() {
            return Err(self.poisoned(cause));
        }
        let mut current = CUcontext::NULL;
        // SAFETY: the context goes to a local.
        unsafe { call!(self.table(), ctx_get_current(&mut current)) }
            .and_then(|()| {
                if current == self.0.handle {
                    return Ok(());
                }
                // SAFETY: the handle is the primary context that this object has retained.
                unsafe { call!(self.table(), ctx_set_current(self.0.handle)) }
            })
            .inspect_err(|error| self.note(error))
    }

    #[cold]
    fn poisoned(&self, cause: &ApiError) -> DriverError {
        DriverError::Poisoned { device: self.device().ordinal(), cause: Box::new(cause.clone()) }
    }

    /// Runs driver calls with the context current, and poisons it where they return a sticky error.
    #[inline]
    pub(crate) fn run<T>(
        &self,
        f: impl FnOnce(&DriverTable) -> Result<T, DriverError>,
    ) -> Result<T, DriverError> {
        self.bind()?;
        f(self.table()).inspect_err(|e| self.note(e))
    }

    /// Poisons the context if the error is sticky.
    #[cold]
    pub(crate) fn note(&self, error: &DriverError) {
        let api = match error {
            DriverError::Api(api) => api,
            DriverError::Jit(jit) => jit.api(),
            _ => return,
        };
        if api.code().is_sticky() {
            self.give_up(api);
        }
    }

    fn give_up(&self, cause: &ApiError) {
        if self.0.poison.set(cause.clone()).is_ok() {
            tracing::error!(device = self.device().ordinal(), error = %cause, "context poisoned");
        }
    }

    /// Keeps an error that cannot be returned to anyone. That the context is poisoned is known without.
    pub(crate) fn keep_error(&self, origin: &str, error: DriverError) {
        if !matches!(error, DriverError::Poisoned { .. }) {
            self.0.drop_log.record(origin.to_owned(), error);
        }
    }

    /// Runs the driver calls of a destructor. They are made even in a poisoned context, where the driver may still
    /// free host resources; what fails is logged and kept. The origin is only formatted on failure.
    pub(crate) fn release(
        &self,
        origin: impl Fn() -> String,
        f: impl FnOnce(&DriverTable) -> Result<(), DriverError>,
    ) {
        let bound = self.bind().or_else(|error| {
            if !matches!(error, DriverError::Poisoned { .. }) {
                // The driver could not say which context is current. It can still make this one current.
                self.0.drop_log.record(origin(), error);
            }
            // SAFETY: the handle is the primary context that this object has retained.
            unsafe { call!(self.table(), ctx_set_current(self.0.handle)) }
        });
        if let Err(error) = bound.and_then(|()| f(self.table())) {
            self.note(&error);
            self.0.drop_log.record(origin(), error);
        }
    }

    /// Whether a sticky error ended it, so that nothing runs in it any more. One that is poisoned because it could not be
    /// waited for may still have work.
    pub(crate) fn is_lost(&self) -> bool {
        self.poison().is_some_and(|cause| cause.code().is_sticky())
    }

    /// Waits for all work before memory or code that it may use is released. In a lost context there is none left to
    /// wait for. Used by destructors, inside [`Context::release`].
    pub(crate) fn quiesce(&self) -> Result<(), DriverError> {
        if self.is_lost() {
            return Ok(());
        }
        // SAFETY: no arguments; `release` has made the context current.
        unsafe { call!(self.table(), ctx_synchronize()) }.or_else(|error| {
            // Nobody knows whether the context is idle if it fails again, and what it may be using must stay.
            self.wait_again(&error)?;
            self.0.drop_log.record("waiting for the context".to_owned(), error);
            Ok(())
        })
    }

    /// Returns the failure of a call that queued and waited for work on memory that its caller has only borrowed, when
    /// nothing uses that memory any more. A context that cannot be waited for is poisoned: nothing is queued in it again,
    /// and no later wait could say more.
    #[cold]
    pub(crate) fn end_borrow(&self, error: DriverError) -> DriverError {
        if let Err(DriverError::Api(cause)) = self.wait_again(&error) {
            self.give_up(&cause);
        }
        error
    }

    /// Waits for all work, after a call that waits failed with `error`: what failed may be work that was queued earlier,
    /// and the rest still runs. In a lost context nothing does.
    pub(crate) fn wait_again(&self, error: &DriverError) -> Result<(), DriverError> {
        self.note(error);
        if self.is_lost() {
            return Ok(());
        }
        // SAFETY: the handle is the primary context that this object has retained.
        let bound = unsafe { call!(self.table(), ctx_set_current(self.0.handle)) };
        // SAFETY: no arguments; the context is current.
        bound.and_then(|()| unsafe { call!(self.table(), ctx_synchronize()) }).or_else(|error| {
            self.note(&error);
            if self.is_lost() { Ok(()) } else { Err(error) }
        })
    }
}

impl Drop for ContextInner {
    fn drop(&mut self) {
        let driver = &self.device.driver().0;
        let log = &driver.drop_log;
        self.drop_log.drain_into(log);
        // SAFETY: this is the release of the one reference that `Context::of` took; no object of the context is left,
        // because each holds a reference to this value.
        if let Err(error) = unsafe { call!(&driver.table, device_primary_ctx_release(self.device.handle())) }
        {
            log.record(format!("primary context of device {}", self.device.ordinal()), error);
        }
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("device", &self.0.device.ordinal())
            .field("poison", &self.0.poison.get())
            .finish_non_exhaustive()
    }
}
