//! Device addresses.

use std::fmt;

/// An address in device memory. It owns nothing and promises nothing; kernels take it as a `.u64` parameter.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, bytemuck::Pod, bytemuck::Zeroable)]
pub struct DevicePtr(pub u64);

impl DevicePtr {
    /// Address zero, which is never part of an allocation.
    pub const NULL: Self = Self(0);

    /// The address `bytes` further on. Nothing is accessed and nothing is checked; it wraps at the end of the
    /// address space.
    #[must_use]
    pub fn byte_add(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }

    /// Whether this is address zero.
    pub fn is_null(self) -> bool {
        self.0 == 0
    }
}

impl fmt::Debug for DevicePtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for DevicePtr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}
