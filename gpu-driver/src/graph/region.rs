//! Memory that a node owns a share of.

use super::KeepAlive;
use crate::context::Context;
use crate::error::DriverError;
use crate::memory::{DeviceBuffer, DevicePtr, SharedPinned, checked_range};
use bytemuck::Pod;
use std::ffi::c_void;
use std::fmt;
use std::ops::RangeBounds;
use std::sync::Arc;

/// A range of device or pinned memory together with its owner, for copy and fill nodes.
#[derive(Clone)]
pub struct Region {
    context: Context,
    place: Place,
    bytes: usize,
    owner: KeepAlive,
}

/// Where a region lies.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place {
    Device(DevicePtr),
    Host(*mut c_void),
}

// SAFETY: the address is only handed to the driver; the memory behind it is kept alive by `owner`, which is Send and
// Sync, and host memory is of `SharedPinned`, whose host accesses are locked and volatile.
unsafe impl Send for Region {}
// SAFETY: as for Send; a shared region gives no access to its memory.
unsafe impl Sync for Region {}

impl Region {
    /// The elements `range` of a device buffer.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`].
    pub fn device<T: Pod>(
        buffer: &Arc<DeviceBuffer<T>>,
        range: impl RangeBounds<usize>,
    ) -> Result<Self, DriverError> {
        let range = checked_range("device region", range, buffer.len())?;
        Ok(Self {
            context: buffer.context().clone(),
            place: Place::Device(buffer.device_ptr().byte_add((range.start * size_of::<T>()) as u64)),
            bytes: range.len() * size_of::<T>(),
            owner: Arc::<DeviceBuffer<T>>::clone(buffer),
        })
    }

    /// The elements `range` of pinned memory.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`].
    pub fn pinned<T: Pod>(
        memory: &Arc<SharedPinned<T>>,
        range: impl RangeBounds<usize>,
    ) -> Result<Self, DriverError> {
        let range = checked_range("pinned region", range, memory.len())?;
        Ok(Self {
            context: memory.context().clone(),
            place: Place::Host(memory.host_ptr().wrapping_add(range.start).cast::<c_void>()),
            bytes: range.len() * size_of::<T>(),
            owner: Arc::<SharedPinned<T>>::clone(memory),
        })
    }

    /// A range of device memory that is known by its address.
    ///
    /// # Safety
    ///
    /// `pointer` must be the address of `bytes` bytes in one allocation of `context` that lives, and holds data for
    /// which every bit pattern is valid, for as long as `owner` or a clone of it does.
    pub unsafe fn from_raw_device(
        context: &Context,
        pointer: DevicePtr,
        bytes: usize,
        owner: KeepAlive,
    ) -> Self {
        Self { context: context.clone(), place: Place::Device(pointer), bytes, owner }
    }

    /// Its context.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Its size in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether it lies in pinned host memory.
    pub fn is_host(&self) -> bool {
        matches!(self.place, Place::Host(_))
    }

    pub(super) fn place(&self) -> Place {
        self.place
    }

    pub(super) fn owner(&self) -> KeepAlive {
        Arc::clone(&self.owner)
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({} bytes at {:?})", self.bytes, self.place)
    }
}
