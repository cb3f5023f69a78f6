//! Device and pinned host memory, and the copies between them.
//!
//! | type | owns | host access |
//! | --- | --- | --- |
//! | [`DeviceBuffer`] | device memory | none |
//! | [`DeviceSlice`], [`DeviceSliceMut`] | nothing: borrowed ranges of device memory | none |
//! | [`PinnedBuffer`] | page-locked host memory | as a slice; a queued copy takes it away until it has finished |
//! | [`SharedPinned`] | page-locked host memory | element by element, while the device may use it too |
//!
//! Copies and fills are methods of [`Stream`](crate::Stream) and run in its order. One that borrows ordinary host
//! memory returns when it has finished; one that uses pinned memory returns at once, and the stream or the returned
//! [`Pending`] keeps the memory alive. Lengths are elements in `usize`; byte counts are computed in `usize` with an
//! overflow check, so a buffer may exceed 4 GiB.

mod copy;
mod device_buffer;
mod pending;
mod pinned;
mod pointer;
mod shared_pinned;
mod slice;

pub use copy::Word;
pub use device_buffer::DeviceBuffer;
pub use pending::Pending;
pub use pinned::PinnedBuffer;
pub use pointer::DevicePtr;
pub use shared_pinned::SharedPinned;
pub use slice::{DeviceSlice, DeviceSliceMut};

use crate::error::DriverError;
use std::ops::{Bound, Range, RangeBounds};

/// Bytes that `count` elements of `T` take.
pub(crate) fn bytes_of<T>(what: &'static str, count: usize) -> Result<usize, DriverError> {
    let size = size_of::<T>();
    count.checked_mul(size).ok_or(DriverError::TooLarge { what, count, size })
}

/// The range that `bounds` selects of `len` elements.
pub(crate) fn checked_range(
    what: &'static str,
    bounds: impl RangeBounds<usize>,
    len: usize,
) -> Result<Range<usize>, DriverError> {
    let start = match bounds.start_bound() {
        Bound::Included(&s) => s,
        Bound::Excluded(&s) => s.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match bounds.end_bound() {
        Bound::Included(&e) => e.saturating_add(1),
        Bound::Excluded(&e) => e,
        Bound::Unbounded => len,
    };
    if start <= end && end <= len {
        Ok(start..end)
    } else {
        Err(DriverError::OutOfBounds { what, start, end, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn sizes_are_computed_beyond_32_bits_and_checked() {
        assert_eq!(bytes_of::<f32>("test", 3 << 30).ok(), Some(12 << 30));
        assert!(matches!(
            bytes_of::<u64>("test", usize::MAX / 4),
            Err(DriverError::TooLarge { size: 8, .. })
        ));
    }

    #[test]
    fn extreme_bounds_do_not_wrap() {
        assert!(checked_range("test", 0..=usize::MAX, 4).is_err());
        assert!(checked_range("test", (Bound::Excluded(usize::MAX), Bound::Unbounded), 4).is_err());
    }

    proptest! {
        #[test]
        fn ranges_agree_with_slices(len in 0usize..20, start in 0usize..24, end in 0usize..24) {
            let data: Vec<usize> = (0..len).collect();
            let ours = checked_range("test", start..end, len).ok().map(|r| data[r].to_vec());
            prop_assert_eq!(ours, data.get(start..end).map(<[usize]>::to_vec));
            let ours = checked_range("test", start..=end, len).ok().map(|r| data[r].to_vec());
            prop_assert_eq!(ours, data.get(start..=end).map(<[usize]>::to_vec));
        }
    }
}
