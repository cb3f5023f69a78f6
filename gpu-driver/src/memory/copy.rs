//! Copies and fills, in the order of a stream.

use super::checked_range;
use super::pending::Pending;
use super::pinned::PinnedBuffer;
use super::shared_pinned::SharedPinned;
use super::slice::{DeviceSlice, DeviceSliceMut};
use crate::context::Context;
use crate::error::DriverError;
use crate::event::{Event, EventKind};
use crate::stream::Stream;
use crate::sys::table::call;
use bytemuck::Pod;
use std::ffi::c_void;
use std::ops::RangeBounds;
use std::sync::Arc;

/// # Copies and fills
///
/// Each checks that lengths agree and that all memory is of the stream's context. Copies of nothing return at once.
impl Stream {
    /// Copies host memory to the device, and waits until it is there.
    ///
    /// # Errors
    ///
    /// [`DriverError::LengthMismatch`], [`DriverError::ContextMismatch`], [`DriverError::Poisoned`], or the failure of
    /// the copy or of work queued earlier. The copy has ended then as well; a context in which that cannot be found out
    /// is poisoned.
    pub fn copy_to_device<T: Pod>(
        &self,
        dst: &mut DeviceSliceMut<'_, T>,
        src: &[T],
    ) -> Result<(), DriverError> {
        const WHAT: &str = "copy to device";
        self.check_copy(WHAT, dst.context(), dst.len(), src.len())?;
        let (to, from, bytes) = (dst.device_ptr().0, src.as_ptr().cast::<c_void>(), size_of_val(src));
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: both ranges hold `bytes` bytes: lengths and element types agree. The host range stays borrowed until
        // `finish` returns.
        self.finish(
            self.context().run(|t| unsafe { call!(t, memcpy_htod_async(to, from, bytes, self.handle())) }),
        )
    }

    /// Copies device memory to the host, and waits for it.
    ///
    /// # Errors
    ///
    /// As for [`Stream::copy_to_device`]. `dst` may then be partly written.
    pub fn copy_to_host<T: Pod>(&self, dst: &mut [T], src: &DeviceSlice<'_, T>) -> Result<(), DriverError> {
        const WHAT: &str = "copy to host";
        self.check_copy(WHAT, src.context(), dst.len(), src.len())?;
        let (to, from, bytes) = (dst.as_mut_ptr().cast::<c_void>(), src.device_ptr().0, size_of_val(dst));
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: both ranges hold `bytes` bytes: lengths and element types agree. The host range stays exclusively
        // borrowed until `finish` returns, and every bit pattern is a `T`.
        self.finish(
            self.context().run(|t| unsafe { call!(t, memcpy_dtoh_async(to, from, bytes, self.handle())) }),
        )
    }

    /// Waits until nothing uses the host memory of a copy, whatever the call that queued it returned: a failure may be
    /// that of earlier work.
    fn finish(&self, queued: Result<(), DriverError>) -> Result<(), DriverError> {
        queued.and_then(|()| self.synchronize()).map_err(|error| self.context().end_borrow(error))
    }

    /// Copies device memory into a new vector, and waits for it.
    ///
    /// # Errors
    ///
    /// As for [`Stream::copy_to_host`].
    pub fn read_to_vec<T: Pod>(&self, src: &DeviceSlice<'_, T>) -> Result<Vec<T>, DriverError> {
        let mut out = vec![T::zeroed(); src.len()];
        self.copy_to_host(&mut out, src)?;
        Ok(out)
    }

    /// Copies within device memory, without waiting.
    ///
    /// # Errors
    ///
    /// [`DriverError::LengthMismatch`], [`DriverError::ContextMismatch`], [`DriverError::Poisoned`], or the driver's
    /// failure.
    pub fn copy_on_device<T: Pod>(
        &self,
        dst: &mut DeviceSliceMut<'_, T>,
        src: &DeviceSlice<'_, T>,
    ) -> Result<(), DriverError> {
        const WHAT: &str = "copy on device";
        self.check_copy(WHAT, dst.context(), dst.len(), src.len())?;
        self.context().expect_same(src.context(), WHAT)?;
        let (to, from, bytes) = (dst.device_ptr().0, src.device_ptr().0, src.byte_len());
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: both ranges hold `bytes` bytes of device memory. Whoever frees either waits for queued work first.
        self.context().run(|t| unsafe { call!(t, memcpy_dtod_async(to, from, bytes, self.handle())) })
    }

    /// Copies the elements `range` of pinned memory to the device without waiting. The stream shares `src` until the
    /// copy has finished.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`], and those of [`Stream::copy_on_device`].
    pub fn copy_to_device_async<T: Pod>(
        &self,
        dst: &mut DeviceSliceMut<'_, T>,
        src: &Arc<PinnedBuffer<T>>,
        range: impl RangeBounds<usize>,
    ) -> Result<(), DriverError> {
        const WHAT: &str = "asynchronous copy to device";
        let range = checked_range(WHAT, range, src.len())?;
        self.context().expect_same(src.context(), WHAT)?;
        let from = src[range.clone()].as_ptr().cast::<c_void>();
        // SAFETY: `from` is `range` of the pinned memory; nobody can write to it while the stream holds a clone of
        // the Arc.
        unsafe { self.queue_to_device(WHAT, dst, from, range.len(), Box::new(Arc::clone(src))) }
    }

    /// Copies device memory into pinned memory without waiting. The pinned memory comes back from
    /// [`Pending::wait`].
    ///
    /// # Errors
    ///
    /// Those of [`Stream::copy_on_device`]; `dst` is freed then.
    pub fn copy_to_host_async<T: Pod>(
        &self,
        mut dst: PinnedBuffer<T>,
        src: &DeviceSlice<'_, T>,
    ) -> Result<Pending<PinnedBuffer<T>>, DriverError> {
        const WHAT: &str = "asynchronous copy to host";
        self.check_copy(WHAT, src.context(), dst.len(), src.len())?;
        self.context().expect_same(dst.context(), WHAT)?;
        // Made first: once the copy is queued, nothing may fail that would free the memory early.
        let event = Event::new(self.context(), EventKind::Ordering)?;
        let (to, from, bytes) = (dst.as_mut_ptr().cast::<c_void>(), src.device_ptr().0, src.byte_len());
        if bytes > 0 {
            // SAFETY: both ranges hold `bytes` bytes. The pinned memory is owned by this function and then by the
            // `Pending`, neither of which frees or shows it before the copy has finished.
            self.context().run(|t| unsafe { call!(t, memcpy_dtoh_async(to, from, bytes, self.handle())) })?;
        }
        if let Err(error) = event.record(self) {
            // Dropping pinned memory waits for the whole context, and keeps the memory if it cannot.
            drop(dst);
            return Err(error);
        }
        Ok(Pending::new(event, dst))
    }

    /// Copies the elements `range` of shared pinned memory to the device without waiting. The stream shares `src` until
    /// the copy has finished; what the host writes to `src` meanwhile may or may not be copied.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`], and those of [`Stream::copy_on_device`].
    pub fn copy_from_shared<T: Pod>(
        &self,
        dst: &mut DeviceSliceMut<'_, T>,
        src: &Arc<SharedPinned<T>>,
        range: impl RangeBounds<usize>,
    ) -> Result<(), DriverError> {
        const WHAT: &str = "asynchronous copy to device";
        let range = checked_range(WHAT, range, src.len())?;
        self.context().expect_same(src.context(), WHAT)?;
        let from = src.host_ptr().wrapping_add(range.start).cast_const().cast::<c_void>();
        // SAFETY: `from` is `range` of the pinned memory, of which the host has no references, and which the stream
        // keeps alive.
        unsafe { self.queue_to_device(WHAT, dst, from, range.len(), Box::new(Arc::clone(src))) }
    }

    /// Copies device memory to the elements `range` of shared pinned memory without waiting. The stream shares `dst`
    /// until the copy has finished; the host may read `dst` meanwhile, and sees old or new bytes.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`], and those of [`Stream::copy_on_device`].
    pub fn copy_to_shared<T: Pod>(
        &self,
        dst: &Arc<SharedPinned<T>>,
        range: impl RangeBounds<usize>,
        src: &DeviceSlice<'_, T>,
    ) -> Result<(), DriverError> {
        const WHAT: &str = "asynchronous copy to host";
        let range = checked_range(WHAT, range, dst.len())?;
        self.check_copy(WHAT, src.context(), range.len(), src.len())?;
        self.context().expect_same(dst.context(), WHAT)?;
        let to = dst.host_ptr().wrapping_add(range.start).cast::<c_void>();
        let (from, bytes) = (src.device_ptr().0, src.byte_len());
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: both ranges hold `bytes` bytes; the host has no references to the pinned memory, and the stream keeps
        // it alive from the next line on.
        self.context().run(|t| unsafe { call!(t, memcpy_dtoh_async(to, from, bytes, self.handle())) })?;
        self.keep_until_done(Box::new(Arc::clone(dst)));
        Ok(())
    }

    /// Sets every byte of `dst` to `value`, without waiting. The unit is the byte whatever `T` is.
    ///
    /// # Errors
    ///
    /// [`DriverError::ContextMismatch`], [`DriverError::Poisoned`], or the driver's failure.
    pub fn memset<T: Pod>(&self, dst: &mut DeviceSliceMut<'_, T>, value: u8) -> Result<(), DriverError> {
        self.context().expect_same(dst.context(), "memset")?;
        let (address, bytes) = (dst.device_ptr().0, dst.byte_len());
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: the range holds `bytes` bytes of device memory, and every bit pattern is a `T`.
        self.context().run(|t| unsafe { call!(t, memset_d8_async(address, value, bytes, self.handle())) })
    }

    /// Sets every element of `dst` to `value`, a 32-bit word, without waiting.
    ///
    /// # Errors
    ///
    /// As for [`Stream::memset`].
    pub fn fill<T: Word>(&self, dst: &mut DeviceSliceMut<'_, T>, value: T) -> Result<(), DriverError> {
        self.context().expect_same(dst.context(), "fill")?;
        let (address, words) = (dst.device_ptr().0, dst.len());
        if words == 0 {
            return Ok(());
        }
        let bits = value.bits();
        // SAFETY: the range holds `words` 32-bit words of device memory, aligned as an element of `T`.
        self.context().run(|t| unsafe { call!(t, memset_d32_async(address, bits, words, self.handle())) })
    }

    /// # Safety
    ///
    /// `from` must be `len` elements of pinned memory that `keep` keeps alive and unwritten by Rust code.
    unsafe fn queue_to_device<T: Pod>(
        &self,
        what: &'static str,
        dst: &mut DeviceSliceMut<'_, T>,
        from: *const c_void,
        len: usize,
        keep: Box<dyn std::any::Any + Send>,
    ) -> Result<(), DriverError> {
        self.check_copy(what, dst.context(), dst.len(), len)?;
        let (to, bytes) = (dst.device_ptr().0, dst.byte_len());
        if bytes == 0 {
            return Ok(());
        }
        // SAFETY: both ranges hold `bytes` bytes; the source stays alive and unchanged by the caller's promise.
        self.context().run(|t| unsafe { call!(t, memcpy_htod_async(to, from, bytes, self.handle())) })?;
        self.keep_until_done(keep);
        Ok(())
    }

    fn check_copy(
        &self,
        what: &'static str,
        device: &Context,
        dst: usize,
        src: usize,
    ) -> Result<(), DriverError> {
        self.context().expect_same(device, what)?;
        if dst == src { Ok(()) } else { Err(DriverError::LengthMismatch { what, dst, src }) }
    }
}

/// An element of 32 bits, for [`Stream::fill`].
pub trait Word: Pod + sealed::Sealed {
    /// Its bits.
    fn bits(self) -> u32;
}

mod sealed {
    pub trait Sealed {}
}

impl sealed::Sealed for u32 {}
impl Word for u32 {
    fn bits(self) -> u32 {
        self
    }
}

impl sealed::Sealed for i32 {}
impl Word for i32 {
    fn bits(self) -> u32 {
        self.cast_unsigned()
    }
}

impl sealed::Sealed for f32 {}
impl Word for f32 {
    fn bits(self) -> u32 {
        self.to_bits()
    }
}
