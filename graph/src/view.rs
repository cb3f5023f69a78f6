//! Where a tensor lies in memory.

use std::fmt;

use tensor_formats::{ElementType, FormatError};

use crate::{Shape, TensorId};

/// A piece of memory that the backend owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BufferId {
    /// The memory bound to a leaf.
    Leaf(TensorId),
    /// The one workspace, of [`MemoryPlan::workspace_bytes`](crate::MemoryPlan::workspace_bytes) bytes.
    Workspace,
}

impl fmt::Display for BufferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leaf(id) => write!(f, "leaf {id}"),
            Self::Workspace => f.write_str("workspace"),
        }
    }
}

/// A contiguous, row-major tensor in a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TensorView {
    /// The buffer.
    pub buffer: BufferId,
    /// The first byte in the buffer. A multiple of 256, but for the results of [`TensorOp::View`](crate::TensorOp).
    pub offset: u64,
    /// The shape.
    pub shape: Shape,
    /// The element type.
    pub dtype: ElementType,
}

impl TensorView {
    /// A view, if the type allows rows of the shape's length.
    ///
    /// # Errors
    /// [`FormatError`] if the rows are not whole blocks or the size overflows.
    pub fn new(buffer: BufferId, offset: u64, shape: Shape, dtype: ElementType) -> Result<Self, FormatError> {
        dtype.matrix_bytes(shape.rows(), shape.cols())?;
        Ok(Self { buffer, offset, shape, dtype })
    }

    /// Bytes of one row.
    pub const fn row_bytes(&self) -> u64 {
        (self.shape.cols() / self.dtype.block_elements()) as u64 * self.dtype.block_bytes() as u64
    }

    /// Bytes of the tensor.
    pub const fn bytes(&self) -> u64 {
        self.shape.rows() as u64 * self.row_bytes()
    }

    /// The first byte after the tensor.
    pub const fn end(&self) -> u64 {
        self.offset + self.bytes()
    }

    /// Whether both views are the same bytes of the same buffer.
    pub fn same_bytes(&self, other: &Self) -> bool {
        self.buffer == other.buffer && self.offset == other.offset && self.bytes() == other.bytes()
    }

    /// Whether the views have a byte in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.buffer == other.buffer && self.offset < other.end() && other.offset < self.end()
    }
}

impl fmt::Display for TensorView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} in {}+{}", self.dtype, self.shape, self.buffer, self.offset)
    }
}
