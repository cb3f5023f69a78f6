//! Owned device memory.

use super::pointer::DevicePtr;
use super::slice::{DeviceSlice, DeviceSliceMut};
use super::{bytes_of, checked_range};
use crate::context::Context;
use crate::error::DriverError;
use crate::stream::Stream;
use crate::sys::table::call;
use bytemuck::Pod;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;

/// Device memory for `len` elements of `T`, freed on drop.
///
/// Dropping waits for all work of the context first: the driver documents that `cuMemFree` *may* wait, not that it
/// does, and queued work may still use the memory. Allocate at set-up, not per step. A buffer of length zero owns
/// nothing and has a null address.
///
/// To hand memory to a graph, put the buffer into an [`Arc`](std::sync::Arc) (see [`Region`](crate::graph::Region)).
pub struct DeviceBuffer<T> {
    context: Context,
    pointer: DevicePtr,
    len: usize,
    element: PhantomData<T>,
}

// SAFETY: the buffer is an address and a context handle; `T` is Pod and is never accessed through the buffer on the
// host. The driver's functions may be called from any thread once the context is current there, which `Context` sees to.
unsafe impl<T: Pod> Send for DeviceBuffer<T> {}
// SAFETY: a shared buffer gives out its address, and read access in stream order; no host memory is shared.
unsafe impl<T: Pod> Sync for DeviceBuffer<T> {}

impl<T: Pod> DeviceBuffer<T> {
    /// Allocates without setting the contents, which are whatever the memory held. (Every bit pattern is a `T`.)
    ///
    /// # Errors
    ///
    /// [`DriverError::TooLarge`] if the bytes exceed the address space; `CUDA_ERROR_OUT_OF_MEMORY`;
    /// [`DriverError::Poisoned`].
    pub fn uninit(context: &Context, len: usize) -> Result<Self, DriverError> {
        let bytes = bytes_of::<T>("device allocation", len)?;
        let mut address = 0u64;
        if bytes > 0 {
            // SAFETY: the address goes to a local.
            context.run(|t| unsafe { call!(t, mem_alloc(&mut address, bytes)) })?;
        }
        Ok(Self { context: context.clone(), pointer: DevicePtr(address), len, element: PhantomData })
    }

    /// Allocates, and fills with zero bytes in the order of `stream`.
    ///
    /// # Errors
    ///
    /// Those of [`DeviceBuffer::uninit`] and [`Stream::memset`].
    pub fn zeroed(stream: &Stream, len: usize) -> Result<Self, DriverError> {
        let mut buffer = Self::uninit(stream.context(), len)?;
        stream.memset(&mut buffer.as_slice_mut(), 0)?;
        Ok(buffer)
    }

    /// Allocates, copies `data` in the order of `stream`, and waits for the copy.
    ///
    /// # Errors
    ///
    /// Those of [`DeviceBuffer::uninit`] and [`Stream::copy_to_device`].
    pub fn from_slice(stream: &Stream, data: &[T]) -> Result<Self, DriverError> {
        let mut buffer = Self::uninit(stream.context(), data.len())?;
        stream.copy_to_device(&mut buffer.as_slice_mut(), data)?;
        Ok(buffer)
    }

    /// All of it, to read.
    pub fn as_slice(&self) -> DeviceSlice<'_, T> {
        // SAFETY: the range is this allocation, which the borrow keeps.
        unsafe { DeviceSlice::from_raw(&self.context, self.pointer, self.len) }
    }

    /// All of it, to write.
    pub fn as_slice_mut(&mut self) -> DeviceSliceMut<'_, T> {
        // SAFETY: the range is this allocation, which the exclusive borrow keeps.
        unsafe { DeviceSliceMut::from_raw(&self.context, self.pointer, self.len) }
    }

    /// A range of elements, to read.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`].
    pub fn slice(&self, range: impl RangeBounds<usize>) -> Result<DeviceSlice<'_, T>, DriverError> {
        self.as_slice().slice(range)
    }

    /// A range of elements, to write.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`].
    pub fn slice_mut(
        &mut self,
        range: impl RangeBounds<usize>,
    ) -> Result<DeviceSliceMut<'_, T>, DriverError> {
        let range = checked_range("device slice", range, self.len)?;
        let pointer = self.pointer.byte_add((range.start * size_of::<T>()) as u64);
        // SAFETY: the range lies in this allocation, which the exclusive borrow keeps.
        Ok(unsafe { DeviceSliceMut::from_raw(&self.context, pointer, range.len()) })
    }
}

impl<T> DeviceBuffer<T> {
    /// Its context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Its address. Null for a buffer of length zero.
    pub fn device_ptr(&self) -> DevicePtr {
        self.pointer
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes.
    pub fn byte_len(&self) -> usize {
        // Checked when it was allocated.
        self.len * size_of::<T>()
    }
}

impl<T> Drop for DeviceBuffer<T> {
    fn drop(&mut self) {
        if self.pointer.is_null() {
            return;
        }
        let (address, bytes) = (self.pointer.0, self.byte_len());
        let context = &self.context;
        context.release(
            || format!("DeviceBuffer of {bytes} bytes"),
            |t| {
                // If the wait fails for another reason than a lost context, work may still use the memory. Freeing it
                // is then the lesser harm: the driver itself waits wherever it is known to.
                let waited = context.quiesce();
                // SAFETY: the address came from cuMemAlloc, is freed once, and nothing queued uses it any more.
                let freed = unsafe { call!(t, mem_free(address)) };
                waited.and(freed)
            },
        );
    }
}

impl<T> fmt::Debug for DeviceBuffer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceBuffer<{}>({} elements at {})", std::any::type_name::<T>(), self.len, self.pointer)
    }
}
