//! Page-locked host memory with one owner.

use super::bytes_of;
use super::shared_pinned::SharedPinned;
use crate::context::Context;
use crate::error::DriverError;
use crate::sys::CU_MEMHOSTALLOC_DEVICEMAP;
use crate::sys::table::call;
use bytemuck::Pod;
use std::ffi::c_void;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// Page-locked host memory for `len` elements of `T`, which the host sees as a slice. Copies from and to it run
/// asynchronously and at full speed.
///
/// To copy from it, share it in an [`Arc`](std::sync::Arc) ([`Stream::copy_to_device_async`]); to copy into it, give it
/// away and get it back when the copy has finished ([`Stream::copy_to_host_async`]). For memory that host and device
/// use at the same time, as graphs do, turn it into a [`SharedPinned`].
///
/// [`Stream::copy_to_device_async`]: crate::Stream::copy_to_device_async
/// [`Stream::copy_to_host_async`]: crate::Stream::copy_to_host_async
pub struct PinnedBuffer<T: Pod>(PinnedMemory<T>);

/// The allocation behind [`PinnedBuffer`] and [`SharedPinned`].
pub(super) struct PinnedMemory<T> {
    pub(super) context: Context,
    pub(super) pointer: NonNull<T>,
    pub(super) len: usize,
}

// SAFETY: the memory has one owner, and `T` is Pod; its address and the context may be used on any thread.
unsafe impl<T: Pod> Send for PinnedMemory<T> {}
// SAFETY: shared access to the memory itself gives no access to the elements; `PinnedBuffer` and `SharedPinned` each
// govern that.
unsafe impl<T: Pod> Sync for PinnedMemory<T> {}

impl<T: Pod> PinnedMemory<T> {
    fn zeroed(context: &Context, len: usize) -> Result<Self, DriverError> {
        let bytes = bytes_of::<T>("pinned allocation", len)?;
        if bytes == 0 {
            return Ok(Self { context: context.clone(), pointer: NonNull::dangling(), len });
        }
        let mut address: *mut c_void = std::ptr::null_mut();
        context
            // SAFETY: the address goes to a local.
            .run(|t| unsafe { call!(t, mem_host_alloc(&mut address, bytes, CU_MEMHOSTALLOC_DEVICEMAP)) })?;
        let Some(pointer) = NonNull::new(address.cast::<T>()).filter(|p| p.is_aligned()) else {
            // SAFETY: the address is what the driver has just returned, and nothing else knows it.
            context.release(
                || "misaligned pinned allocation".to_owned(),
                |t| unsafe { call!(t, mem_free_host(address)) },
            );
            let (size, align) = (size_of::<T>(), align_of::<T>());
            return Err(DriverError::BadCast { bytes, address: address as u64, size, align });
        };
        // SAFETY: the driver returned `bytes` bytes of host memory at this address, which nobody else knows yet.
        unsafe { std::ptr::write_bytes(address.cast::<u8>(), 0, bytes) };
        Ok(Self { context: context.clone(), pointer, len })
    }
}

impl<T> PinnedMemory<T> {
    pub(super) fn byte_len(&self) -> usize {
        // Checked when it was allocated.
        self.len * size_of::<T>()
    }
}

impl<T> Drop for PinnedMemory<T> {
    fn drop(&mut self) {
        if self.byte_len() == 0 {
            return;
        }
        let (address, bytes) = (self.pointer.as_ptr().cast::<c_void>(), self.byte_len());
        let context = &self.context;
        context.release(
            || format!("pinned memory of {bytes} bytes"),
            |t| {
                // Kernels may have been given its device address.
                context.quiesce()?;
                // SAFETY: the address came from cuMemHostAlloc, is freed once, and nothing queued uses it any more.
                unsafe { call!(t, mem_free_host(address)) }
            },
        );
    }
}

impl<T: Pod> PinnedBuffer<T> {
    /// Allocates; all bytes are zero.
    ///
    /// # Errors
    ///
    /// [`DriverError::TooLarge`], `CUDA_ERROR_OUT_OF_MEMORY`, [`DriverError::Poisoned`].
    pub fn zeroed(context: &Context, len: usize) -> Result<Self, DriverError> {
        PinnedMemory::zeroed(context, len).map(Self)
    }

    /// Allocates and copies `data` into it, on the host.
    ///
    /// # Errors
    ///
    /// As for [`PinnedBuffer::zeroed`].
    pub fn from_slice(context: &Context, data: &[T]) -> Result<Self, DriverError> {
        let mut buffer = Self::zeroed(context, data.len())?;
        buffer.copy_from_slice(data);
        Ok(buffer)
    }

    /// Its context.
    pub fn context(&self) -> &Context {
        &self.0.context
    }

    /// Gives up the slice view for one that host and device can use at the same time.
    pub fn into_shared(self) -> SharedPinned<T> {
        SharedPinned::new(self.0)
    }
}

impl<T: Pod> Deref for PinnedBuffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        // SAFETY: `pointer` and `len` are the allocation (or dangling with zero bytes), initialised with zeros and since
        // then only written through `deref_mut` or by copies that owned the buffer; every bit pattern is a `T`.
        unsafe { std::slice::from_raw_parts(self.0.pointer.as_ptr(), self.0.len) }
    }
}

impl<T: Pod> DerefMut for PinnedBuffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: as in `deref`; the exclusive borrow excludes other access on the host, and a queued copy would hold
        // the buffer or a clone of its Arc.
        unsafe { std::slice::from_raw_parts_mut(self.0.pointer.as_ptr(), self.0.len) }
    }
}

impl<T: Pod> fmt::Debug for PinnedBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PinnedBuffer<{}>({} elements)", std::any::type_name::<T>(), self.0.len)
    }
}
