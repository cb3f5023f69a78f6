//! Borrowed ranges of device memory.

use super::checked_range;
use super::pointer::DevicePtr;
use crate::context::Context;
use crate::error::DriverError;
use bytemuck::Pod;
use std::fmt;
use std::marker::PhantomData;
use std::ops::RangeBounds;

/// A borrowed range of device memory, to read.
pub struct DeviceSlice<'a, T> {
    context: &'a Context,
    pointer: DevicePtr,
    len: usize,
    element: PhantomData<&'a [T]>,
}

impl<T> Clone for DeviceSlice<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for DeviceSlice<'_, T> {}

/// A borrowed range of device memory, to write.
pub struct DeviceSliceMut<'a, T> {
    context: &'a Context,
    pointer: DevicePtr,
    len: usize,
    element: PhantomData<&'a mut [T]>,
}

impl<'a, T> DeviceSlice<'a, T> {
    /// Its context.
    pub fn context(&self) -> &'a Context {
        self.context
    }

    /// Address of its first element.
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
        self.len * size_of::<T>()
    }
}

impl<'a, T: Pod> DeviceSlice<'a, T> {
    /// A range that is known by its address.
    ///
    /// # Safety
    ///
    /// For the lifetime `'a`, `pointer` must be the address of `len` elements of `T` within one live allocation of
    /// `context`, whose size in bytes fits `usize`.
    pub unsafe fn from_raw(context: &'a Context, pointer: DevicePtr, len: usize) -> Self {
        Self { context, pointer, len, element: PhantomData }
    }

    /// A range of its elements.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`].
    pub fn slice(self, range: impl RangeBounds<usize>) -> Result<Self, DriverError> {
        let range = checked_range("device slice", range, self.len)?;
        Ok(Self {
            pointer: self.pointer.byte_add((range.start * size_of::<T>()) as u64),
            len: range.len(),
            ..self
        })
    }

    /// The elements before `mid`, and those from `mid` on.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`] if `mid` exceeds the length.
    pub fn split_at(self, mid: usize) -> Result<(Self, Self), DriverError> {
        Ok((self.slice(..mid)?, self.slice(mid..)?))
    }

    /// The same bytes as elements of another type.
    ///
    /// # Errors
    ///
    /// [`DriverError::BadCast`] if size or alignment do not fit.
    pub fn cast<U: Pod>(self) -> Result<DeviceSlice<'a, U>, DriverError> {
        let len = cast_len::<U>(self.pointer, self.byte_len())?;
        Ok(DeviceSlice { context: self.context, pointer: self.pointer, len, element: PhantomData })
    }
}

impl<'a, T> DeviceSliceMut<'a, T> {
    /// Its context.
    pub fn context(&self) -> &'a Context {
        self.context
    }

    /// Address of its first element.
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
        self.len * size_of::<T>()
    }
}

impl<'a, T: Pod> DeviceSliceMut<'a, T> {
    /// A range that is known by its address.
    ///
    /// # Safety
    ///
    /// For the lifetime `'a`, `pointer` must be the address of `len` elements of `T` within one live allocation of
    /// `context`, whose size in bytes fits `usize`, and no other slice made meanwhile may overlap it.
    pub unsafe fn from_raw(context: &'a Context, pointer: DevicePtr, len: usize) -> Self {
        Self { context, pointer, len, element: PhantomData }
    }

    /// The same range, to read.
    pub fn as_slice(&self) -> DeviceSlice<'_, T> {
        DeviceSlice { context: self.context, pointer: self.pointer, len: self.len, element: PhantomData }
    }

    /// The same range, borrowed for a shorter time.
    pub fn reborrow(&mut self) -> DeviceSliceMut<'_, T> {
        DeviceSliceMut { context: self.context, pointer: self.pointer, len: self.len, element: PhantomData }
    }

    /// A range of its elements. To keep using the whole afterwards, [`reborrow`](Self::reborrow) first.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`].
    pub fn slice(self, range: impl RangeBounds<usize>) -> Result<Self, DriverError> {
        let range = checked_range("device slice", range, self.len)?;
        Ok(Self {
            pointer: self.pointer.byte_add((range.start * size_of::<T>()) as u64),
            len: range.len(),
            ..self
        })
    }

    /// The elements before `mid`, and those from `mid` on, as two disjoint slices.
    ///
    /// # Errors
    ///
    /// [`DriverError::OutOfBounds`] if `mid` exceeds the length.
    pub fn split_at(self, mid: usize) -> Result<(Self, Self), DriverError> {
        let left = checked_range("device slice split", ..mid, self.len)?;
        let right = Self {
            pointer: self.pointer.byte_add((mid * size_of::<T>()) as u64),
            len: self.len - mid,
            ..self
        };
        Ok((Self { len: left.len(), ..self }, right))
    }

    /// The same bytes as elements of another type.
    ///
    /// # Errors
    ///
    /// [`DriverError::BadCast`] if size or alignment do not fit.
    pub fn cast<U: Pod>(self) -> Result<DeviceSliceMut<'a, U>, DriverError> {
        let len = cast_len::<U>(self.pointer, self.byte_len())?;
        Ok(DeviceSliceMut { context: self.context, pointer: self.pointer, len, element: PhantomData })
    }
}

fn cast_len<U>(pointer: DevicePtr, bytes: usize) -> Result<usize, DriverError> {
    let (size, align) = (size_of::<U>(), align_of::<U>());
    if size == 0 || !bytes.is_multiple_of(size) || !pointer.0.is_multiple_of(align as u64) {
        return Err(DriverError::BadCast { bytes, address: pointer.0, size, align });
    }
    Ok(bytes / size)
}

impl<T> fmt::Debug for DeviceSlice<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceSlice<{}>({} elements at {})", std::any::type_name::<T>(), self.len, self.pointer)
    }
}

impl<T> fmt::Debug for DeviceSliceMut<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DeviceSliceMut<{}>({} elements at {})", std::any::type_name::<T>(), self.len, self.pointer)
    }
}
