//! Little-endian scalars at any alignment: rows come straight from a memory map.

/// The `u16` at byte `at`; the caller's block type guarantees the length.
#[inline(always)]
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// The `u32` at byte `at`.
#[inline(always)]
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// The `f32` at byte `at`.
#[inline(always)]
pub(crate) fn f32_at(bytes: &[u8], at: usize) -> f32 {
    f32::from_bits(u32_at(bytes, at))
}

/// The `N` bytes from `at`.
#[inline(always)]
pub(crate) fn bytes_at<const N: usize>(bytes: &[u8], at: usize) -> &[u8; N] {
    let (chunks, _) = bytes[at..at + N].as_chunks();
    &chunks[0]
}
