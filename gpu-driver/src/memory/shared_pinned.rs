//! Page-locked host memory that host and device use at the same time.

use super::checked_range;
use super::pinned::{PinnedBuffer, PinnedMemory};
use super::pointer::DevicePtr;
use crate::context::Context;
use crate::error::DriverError;
use crate::sys::table::call;
use bytemuck::Pod;
use parking_lot::Mutex;
use std::ffi::c_void;
use std::fmt;

/// Page-locked host memory that the device may read or write at any moment, through graph nodes, queued copies or
/// kernels that have its address. The host therefore never sees it as a slice: elements are read and written one by
/// one with volatile accesses, like memory-mapped registers, and host threads take turns by a lock.
///
/// What the host reads while the device writes is some mixture of old and new bytes; wait for an event or the stream
/// first to read what the device wrote.
pub struct SharedPinned<T: Pod> {
    memory: PinnedMemory<T>,
    host: Mutex<()>,
}

impl<T: Pod> SharedPinned<T> {
    pub(super) fn new(memory: PinnedMemory<T>) -> Self {
        Self { memory, host: Mutex::new(()) }
    }

    /// Allocates; all bytes are zero.
    ///
    /// # Errors
    ///
    /// As for [`PinnedBuffer::zeroed`].
    pub fn zeroed(context: &Context, len: usize) -> Result<Self, DriverError> {
        PinnedBuffer::zeroed(context, len).map(PinnedBuffer::into_shared)
    }

    /// Its context.
    pub fn context(&self) -> &Context {
        &self.memory.context
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.memory.len
    }

    /// Whether it has no elements.
    pub fn is_empty(&self) -> bool {
        self.memory.len == 0
    }

    /// Bytes.
    pub fn byte_len(&self) -> usize {
        self.memory.byte_len()
    }

    /// Address in host memory, for calls that this crate does not wrap.
    pub fn host_ptr(&self) -> *mut T {
        self.memory.pointer.as_ptr()
    }

    /// Address at which kernels reach it. Null for a buffer of length zero.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure.
    pub fn device_ptr(&self) -> Result<DevicePtr, DriverError> {
        if self.byte_len() == 0 {
            return Ok(DevicePtr::NULL);
        }
        let mut address = 0u64;
        let host = self.host_ptr().cast::<c_void>();
        // SAFETY: the address goes to a local; `host` is memory that cuMemHostAlloc mapped.
        self.context().run(|t| unsafe { call!(t, mem_host_get_device_pointer(&mut address, host, 0)) })?;
        Ok(DevicePtr(address))
    }

    /// Reads element `index`.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`].
    pub fn read(&self, index: usize) -> Result<T, DriverError> {
        let mut value = [T::zeroed()];
        self.read_range(index, &mut value)?;
        Ok(value[0])
    }

    /// Writes element `index`.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`].
    pub fn write(&self, index: usize, value: T) -> Result<(), DriverError> {
        self.write_range(index, &[value])
    }

    /// Reads the elements from `start` on into `out`.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`]; nothing has been read then.
    pub fn read_range(&self, start: usize, out: &mut [T]) -> Result<(), DriverError> {
        let range = checked_range("pinned read", start..start.saturating_add(out.len()), self.len())?;
        let _turn = self.host.lock();
        for (value, index) in out.iter_mut().zip(range) {
            // SAFETY: the index is within the allocation, which is aligned and initialised; every bit pattern is a
            // `T`. Host threads are excluded by the lock. The device is no thread of the abstract machine: a write of
            // its that happens meanwhile can only change which bits this volatile read returns.
            *value = unsafe { self.memory.pointer.as_ptr().add(index).read_volatile() };
        }
        Ok(())
    }

    /// Writes `values` to the elements from `start` on.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`]; nothing has been written then.
    pub fn write_range(&self, start: usize, values: &[T]) -> Result<(), DriverError> {
        let range = checked_range("pinned write", start..start.saturating_add(values.len()), self.len())?;
        let _turn = self.host.lock();
        for (&value, index) in values.iter().zip(range) {
            // SAFETY: as in `read_range`; no reference to the element exists, because none is ever given out.
            unsafe { self.memory.pointer.as_ptr().add(index).write_volatile(value) };
        }
        Ok(())
    }
}

impl<T: Pod> fmt::Debug for SharedPinned<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedPinned<{}>({} elements)", std::any::type_name::<T>(), self.memory.len)
    }
}
