//! Handles: which driver of the process an object belongs to, and which object it is.
//!
//! A handle is never an address. The upper half holds the driver's serial number, the lower the object's number times
//! sixteen, so that a handle looks aligned, is never one of the small numbers that mean special streams, and a handle
//! of another driver, or one that was made up, is recognised. Numbers are not used twice.

use std::ffi::c_void;

use gpu_driver::sys::*;

/// The number of an object within its driver.
pub(crate) type Id = u32;

/// The most objects of one driver's life.
pub(crate) const LAST: Id = u32::MAX >> 4;

/// The handle of an object.
pub(crate) fn token(serial: u32, id: Id) -> *mut c_void {
    std::ptr::without_provenance_mut(((serial as usize) << 32) | ((id as usize) << 4))
}

/// Serial number and object of a handle.
fn parts(handle: *mut c_void) -> Option<(u32, Id)> {
    let bits = handle.addr();
    let (serial, low) = ((bits >> 32) as u32, bits as u32);
    (serial != 0 && low.is_multiple_of(16) && low != 0).then_some((serial, low >> 4))
}

/// The types that are handles.
pub(crate) trait Handle: Copy {
    /// The bits.
    fn raw(self) -> *mut c_void;
    /// From the bits.
    fn from_raw(raw: *mut c_void) -> Self;

    /// The serial number of its driver, if it can be a handle at all.
    fn serial(self) -> Option<u32> {
        parts(self.raw()).map(|(serial, _)| serial)
    }

    /// The object, if it can be a handle of the driver with that serial number.
    fn id(self, serial: u32) -> Option<Id> {
        parts(self.raw()).filter(|(s, _)| *s == serial).map(|(_, id)| id)
    }

    /// The handle of an object.
    fn make(serial: u32, id: Id) -> Self {
        Self::from_raw(token(serial, id))
    }
}

macro_rules! handles {
    ($($name:ident)*) => {$(
        impl Handle for $name {
            fn raw(self) -> *mut c_void {
                self.0
            }
            fn from_raw(raw: *mut c_void) -> Self {
                Self(raw)
            }
        }
    )*};
}

handles! {
    CUcontext CUmodule CUfunction CUstream CUevent CUgraph CUgraphNode CUgraphExec CUkernel CUmemoryPool CUlibrary
    CUlinkState CUuserObject
}

/// A memory pool. The binding has none, so the type is here, like those below.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CUmemoryPool(pub *mut c_void);

/// A module that belongs to no context.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CUlibrary(pub *mut c_void);

/// What a graph keeps for the program.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CUuserObject(pub *mut c_void);

/// A link in progress.
#[repr(transparent)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CUlinkState(pub *mut c_void);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_knows_its_driver_and_nothing_else_is_a_handle() {
        let stream = CUstream::make(7, 3);
        assert_eq!((stream.serial(), stream.id(7), stream.id(8)), (Some(7), Some(3), None));
        for bits in [0usize, 1, 2, 0x30, 7 << 32, (7 << 32) | 0x31, usize::MAX] {
            let odd = CUstream(std::ptr::without_provenance_mut(bits));
            assert_eq!(odd.id(7), None, "{bits:#x}");
        }
    }
}
