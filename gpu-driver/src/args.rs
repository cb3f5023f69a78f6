//! Kernel arguments.

use crate::memory::{DeviceBuffer, DevicePtr, DeviceSlice, DeviceSliceMut};
use bytemuck::Pod;
use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

/// A value that can be passed to a kernel.
///
/// Plain data is passed by value and must have the size of the kernel's parameter; buffers and slices pass their
/// address, as a `.u64` parameter.
pub trait KernelArg {
    /// Appends the value.
    fn push_to(self, args: &mut KernelArgs);
}

macro_rules! by_value {
    ($($t:ty),*) => {$(
        impl KernelArg for $t {
            fn push_to(self, args: &mut KernelArgs) {
                args.push_pod(&self);
            }
        }
    )*};
}

by_value!(u8, i8, u16, i16, u32, i32, u64, i64, f32, f64, DevicePtr);

macro_rules! by_address {
    ($($t:ty),*) => {$(
        impl<T> KernelArg for $t {
            fn push_to(self, args: &mut KernelArgs) {
                args.push_pod(&self.device_ptr());
            }
        }
    )*};
}

by_address!(&DeviceBuffer<T>, &mut DeviceBuffer<T>, &Arc<DeviceBuffer<T>>);
by_address!(DeviceSlice<'_, T>, &DeviceSlice<'_, T>);
by_address!(DeviceSliceMut<'_, T>, &DeviceSliceMut<'_, T>, &mut DeviceSliceMut<'_, T>);

/// The arguments of one launch, copied into memory of their own, in the order of the kernel's parameters.
///
/// ```
/// use gpu_driver::{DevicePtr, KernelArgs};
/// let args = KernelArgs::new().with(DevicePtr(0x7f00_0000_0000)).with(1024u32).with(0.5f32);
/// assert_eq!(args.sizes().collect::<Vec<_>>(), [8, 4, 4]);
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct KernelArgs {
    // Each argument starts at a 16-byte boundary, the strictest alignment of a PTX parameter's scalar or vector type.
    blob: Vec<Unit>,
    args: Vec<Slot>,
}

#[repr(C, align(16))]
#[derive(Clone, Copy, PartialEq, Eq, bytemuck::Pod, bytemuck::Zeroable)]
struct Unit([u8; 16]);

#[derive(Clone, Copy, PartialEq, Eq)]
struct Slot {
    unit: usize,
    bytes: usize,
}

/// Arguments whose pointer array fits on the stack.
const ON_STACK: usize = 32;

impl KernelArgs {
    /// No arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Arguments that are all addresses, for kernels whose only parameters are pointers.
    pub fn from_pointers(pointers: impl IntoIterator<Item = DevicePtr>) -> Self {
        let mut args = Self::new();
        for pointer in pointers {
            args.push_pod(&pointer);
        }
        args
    }

    /// Appends an argument.
    #[must_use]
    pub fn with(mut self, arg: impl KernelArg) -> Self {
        arg.push_to(&mut self);
        self
    }

    /// Appends an argument.
    pub fn push(&mut self, arg: impl KernelArg) -> &mut Self {
        arg.push_to(self);
        self
    }

    /// Appends plain data of any type, for kernels with structures as parameters.
    ///
    /// ```
    /// use gpu_driver::{KernelArgs, Pod, bytemuck};
    ///
    /// #[derive(Clone, Copy, Pod, bytemuck::Zeroable)]
    /// #[bytemuck(crate = "gpu_driver::bytemuck")]
    /// #[repr(C)]
    /// struct Window {
    ///     start: u32,
    ///     len: u32,
    /// }
    ///
    /// let mut args = KernelArgs::new();
    /// args.push_pod(&Window { start: 1, len: 2 });
    /// assert_eq!(args.bytes(0), Some(&[1, 0, 0, 0, 2, 0, 0, 0][..]));
    /// ```
    pub fn push_pod<T: Pod>(&mut self, value: &T) -> &mut Self {
        let bytes = bytemuck::bytes_of(value);
        let unit = self.blob.len();
        self.args.push(Slot { unit, bytes: bytes.len() });
        for chunk in bytes.chunks(size_of::<Unit>()) {
            let mut padded = [0; size_of::<Unit>()];
            padded[..chunk.len()].copy_from_slice(chunk);
            self.blob.push(Unit(padded));
        }
        self
    }

    /// Number of arguments.
    pub fn len(&self) -> usize {
        self.args.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.args.is_empty()
    }

    /// Size of each argument in bytes.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.args.iter().map(|slot| slot.bytes)
    }

    /// Bytes of argument `index`.
    pub fn bytes(&self, index: usize) -> Option<&[u8]> {
        let slot = self.args.get(index)?;
        bytemuck::cast_slice::<Unit, u8>(&self.blob[slot.unit..]).get(..slot.bytes)
    }

    /// Calls `f` with the array of pointers, one per argument, that the driver wants. The driver reads through them
    /// and does not keep them.
    pub(crate) fn with_pointers<R>(&self, f: impl FnOnce(*mut *mut c_void) -> R) -> R {
        let base = self.blob.as_ptr();
        let pointer = |slot: &Slot| base.wrapping_add(slot.unit).cast_mut().cast::<c_void>();
        if self.args.len() <= ON_STACK {
            let mut pointers = [std::ptr::null_mut(); ON_STACK];
            for (out, slot) in pointers.iter_mut().zip(&self.args) {
                *out = pointer(slot);
            }
            f(pointers.as_mut_ptr())
        } else {
            let mut pointers: Vec<_> = self.args.iter().map(pointer).collect();
            f(pointers.as_mut_ptr())
        }
    }
}

impl fmt::Debug for KernelArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().rev().map(|b| format!("{b:02x}")).collect::<String>();
        f.debug_list().entries((0..self.len()).map(|i| hex(self.bytes(i).unwrap_or_default()))).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pointers_lead_to_the_values() {
        for n in [0usize, 1, 5, ON_STACK, ON_STACK + 1, 100] {
            let args = KernelArgs::from_pointers((0..n as u64).map(|i| DevicePtr(i * 1000)));
            args.with_pointers(|pointers| {
                for i in 0..n {
                    // SAFETY: the array has `n` pointers, each to an aligned 8-byte argument.
                    let value = unsafe { pointers.add(i).read().cast::<u64>().read() };
                    assert_eq!(value, i as u64 * 1000);
                }
            });
        }
    }

    proptest! {
        #[test]
        fn arguments_keep_their_bytes(values in proptest::collection::vec((any::<u8>(), any::<u64>(), any::<[u32; 5]>()), 0..20)) {
            let mut args = KernelArgs::new();
            for (a, b, c) in &values {
                args.push(*a).push(*b).push_pod(c);
            }
            prop_assert_eq!(args.len(), values.len() * 3);
            for (i, (a, b, c)) in values.iter().enumerate() {
                prop_assert_eq!(args.bytes(3 * i), Some(bytemuck::bytes_of(a)));
                prop_assert_eq!(args.bytes(3 * i + 1), Some(bytemuck::bytes_of(b)));
                prop_assert_eq!(args.bytes(3 * i + 2), Some(bytemuck::bytes_of(c)));
            }
        }
    }
}
