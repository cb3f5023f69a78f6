//! Checks and arithmetic that the kernel families share.

use tensor_formats::ElementType;

use crate::{Access, Kernel, KernelError, LaunchGeometry, Param};

/// Threads of a warp.
pub(crate) const WARP: u32 = 32;

/// Its lanes, as a mask.
pub(crate) const ALL_LANES: u32 = !0;

/// The largest extent a parameter may have. Byte offsets are 64-bit in PTX; this keeps their sums from wrapping.
const MAX_BYTES: u64 = 1 << 48;

/// A dimension as the emitters want it: at least 1 and below 2^31, so that sums of two fit 32 bits.
pub(crate) fn dim(kernel: &'static str, name: &str, value: usize) -> Result<u32, KernelError> {
    match u32::try_from(value) {
        Ok(v) if (1..1 << 31).contains(&v) => Ok(v),
        _ => Err(refuse(kernel, format!("{name} is {value}, it must be in 1..2^31"))),
    }
}

/// A dimension from 1 to `max`.
pub(crate) fn dim_up_to(
    kernel: &'static str,
    name: &str,
    value: usize,
    max: usize,
) -> Result<u32, KernelError> {
    match dim(kernel, name, value)? {
        v if v as usize <= max => Ok(v),
        _ => Err(refuse(kernel, format!("{name} is {value}, the largest is {max}"))),
    }
}

/// Checks that a parameter with these dimensions, in elements of four bytes or less, has an extent that addresses
/// can span.
pub(crate) fn extent(kernel: &'static str, name: &str, dims: &[u32]) -> Result<(), KernelError> {
    let elements = dims.iter().try_fold(1u64, |product, &dim| product.checked_mul(u64::from(dim)));
    match elements {
        Some(n) if n <= MAX_BYTES / 4 => Ok(()),
        _ => Err(refuse(kernel, format!("{name} of {dims:?} elements exceeds {MAX_BYTES} bytes"))),
    }
}

/// The same for a matrix of `rows` rows of `row_bytes` bytes.
pub(crate) fn matrix_extent(
    kernel: &'static str,
    name: &str,
    rows: u32,
    row_bytes: u32,
) -> Result<(), KernelError> {
    if u64::from(rows) * u64::from(row_bytes) <= MAX_BYTES {
        return Ok(());
    }
    Err(refuse(kernel, format!("{name} of {rows} rows of {row_bytes} bytes exceeds {MAX_BYTES} bytes")))
}

/// [`KernelError::Unsupported`].
pub(crate) fn refuse(kernel: &'static str, reason: String) -> KernelError {
    KernelError::Unsupported { kernel, reason }
}

/// One thread for each of `items`, which are numbered in 32 bits; `None` if there are too many.
pub(crate) fn flat_launch(items: u64, threads: u32) -> Option<LaunchGeometry> {
    let blocks = items.div_ceil(u64::from(threads));
    let numbered = blocks * u64::from(threads) <= 1 << 32;
    // The launch limit of the x dimension is 2^31 - 1 blocks.
    let blocks = u32::try_from(blocks).ok().filter(|&b| numbered && b < 1 << 31)?;
    Some(LaunchGeometry { grid: [blocks, 1, 1], block: [threads, 1, 1], dynamic_shared: 0 })
}

/// A parameter of f32 values.
pub(crate) fn f32_param(name: &'static str, access: Access, elements: u64, align: u32) -> Param {
    Param { name, access, element: ElementType::F32, bytes: elements * 4, align }
}

/// A parameter of u32 values that is only read.
pub(crate) fn u32_param(name: &'static str, elements: u64) -> Param {
    Param { name, access: Access::Read, element: ElementType::U32, bytes: elements * 4, align: 4 }
}

/// Scratch of f32 values.
pub(crate) fn scratch_param(name: &'static str, elements: u64) -> Param {
    Param { name, access: Access::Scratch, element: ElementType::F32, bytes: elements * 4, align: 16 }
}

/// `count` counters.
pub(crate) fn counter_param(name: &'static str, count: u64) -> Param {
    Param { name, access: Access::Counter, element: ElementType::U32, bytes: count * 4, align: 4 }
}

/// Elements of a 16-byte access if rows of `n` f32 start on 16-byte boundaries, else 1.
pub(crate) const fn f32_vector(n: u32) -> u32 {
    if n.is_multiple_of(4) { 4 } else { 1 }
}

/// A kernel of the catalogue or of a case, whose shape is written in this crate.
///
/// # Panics
/// If its constructor refuses the shape, which is a defect of this crate that any test of the catalogue shows.
pub(crate) fn known<K>(kernel: Result<K, KernelError>) -> K {
    match kernel {
        Ok(kernel) => kernel,
        Err(error) => panic!("a shape of the catalogue or a case is refused: {error}"),
    }
}

/// [`known`], boxed.
pub(crate) fn boxed<K: Kernel + 'static>(kernel: Result<K, KernelError>) -> Box<dyn Kernel> {
    Box::new(known(kernel))
}
