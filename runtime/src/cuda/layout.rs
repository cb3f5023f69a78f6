//! Places tensors one after the other in an allocation, and checks what is needed against what is free.

use super::error::CudaError;

/// Every tensor starts at a multiple of this many bytes: enough for any vector access, and a whole number of 128-byte
/// cache lines.
pub const ALIGNMENT: u64 = 256;

/// An allocation that grows as tensors are placed in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    bytes: u64,
}

impl Layout {
    /// Places a tensor of `bytes` bytes and returns its offset; `None` if the total does not fit 64 bits.
    pub fn place(&mut self, bytes: u64) -> Option<u64> {
        let offset = self.bytes;
        self.bytes = offset.checked_add(bytes)?.checked_next_multiple_of(ALIGNMENT)?;
        Some(offset)
    }

    /// The size of the allocation, a multiple of [`ALIGNMENT`].
    pub const fn bytes(self) -> u64 {
        self.bytes
    }
}

/// What an engine keeps on the device, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MemoryNeed {
    /// Weights and tables.
    pub weights: u64,
    /// KV caches.
    pub caches: u64,
    /// Intermediates and step state.
    pub workspace: u64,
}

impl MemoryNeed {
    /// The sum of the parts; saturates.
    pub const fn total(self) -> u64 {
        self.weights.saturating_add(self.caches).saturating_add(self.workspace)
    }

    /// Refuses what does not fit before anything is allocated.
    ///
    /// # Errors
    /// [`CudaError::DoesNotFit`] if the total exceeds `free` bytes.
    pub const fn check(self, free: u64) -> Result<(), CudaError> {
        if self.total() <= free { Ok(()) } else { Err(CudaError::DoesNotFit { need: self, free }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_aligned_and_do_not_overlap() {
        let mut layout = Layout::default();
        assert_eq!(layout.place(1), Some(0));
        assert_eq!(layout.place(256), Some(256));
        assert_eq!(layout.place(0), Some(512));
        assert_eq!(layout.place(5 << 30), Some(512));
        assert_eq!(layout.bytes(), (5 << 30) + 512);
        assert_eq!(layout.place(u64::MAX), None);
    }

    #[test]
    fn what_does_not_fit_is_told_with_both_numbers() {
        let need = MemoryNeed { weights: 3 << 30, caches: 1 << 30, workspace: 1 << 20 };
        assert!(need.check(need.total()).is_ok());
        let message = need.check(4 << 30).unwrap_err().to_string();
        assert_eq!(
            message,
            "4296015872 bytes are needed on the device (3221225472 for weights, 1073741824 for KV caches, \
             1048576 for workspaces), 4294967296 are free"
        );
    }
}
