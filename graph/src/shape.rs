//! Tensor shapes.

use std::fmt;
use std::hash::{Hash, Hasher};

/// The most dimensions that a tensor can have.
pub const MAX_RANK: usize = 4;

/// One to four dimensions, outermost first, each at least 1; their product fits in `usize`.
///
/// Tensors are row-major and contiguous, so a shape and an element type determine the bytes. The innermost dimension
/// is the row: quantised formats pack whole rows.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Dimensions past `rank` are 1.
    dims: [usize; MAX_RANK],
    rank: u8,
}

/// Why a list of dimensions is not a [`Shape`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ShapeError {
    /// No dimensions, or more than [`MAX_RANK`].
    #[error("a shape has 1 to {MAX_RANK} dimensions, got {rank}")]
    Rank {
        /// The number of dimensions given.
        rank: usize,
    },
    /// A dimension is zero.
    #[error("dimension {dimension} of {dims:?} is zero")]
    Zero {
        /// Which dimension, counted from the outermost.
        dimension: usize,
        /// All dimensions given.
        dims: Vec<usize>,
    },
    /// The number of elements does not fit in `usize`.
    #[error("the number of elements of {dims:?} overflows")]
    Overflow {
        /// All dimensions given.
        dims: Vec<usize>,
    },
}

impl Shape {
    /// The shape with dimensions `dims`, outermost first.
    ///
    /// # Errors
    /// [`ShapeError`] if there are none or more than four, if one is zero, or if their product overflows.
    pub fn new(dims: &[usize]) -> Result<Self, ShapeError> {
        if dims.is_empty() || dims.len() > MAX_RANK {
            return Err(ShapeError::Rank { rank: dims.len() });
        }
        if let Some(dimension) = dims.iter().position(|&d| d == 0) {
            return Err(ShapeError::Zero { dimension, dims: dims.to_vec() });
        }
        if dims.iter().try_fold(1usize, |product, &d| product.checked_mul(d)).is_none() {
            return Err(ShapeError::Overflow { dims: dims.to_vec() });
        }
        let mut all = [1; MAX_RANK];
        all[..dims.len()].copy_from_slice(dims);
        Ok(Self { dims: all, rank: dims.len() as u8 })
    }

    /// The dimensions, outermost first.
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank()]
    }

    /// The number of dimensions, 1 to 4.
    pub const fn rank(&self) -> usize {
        self.rank as usize
    }

    /// The number of elements.
    pub const fn elements(&self) -> usize {
        self.dims[0] * self.dims[1] * self.dims[2] * self.dims[3]
    }

    /// The product of all dimensions but the innermost; 1 for a vector.
    pub const fn rows(&self) -> usize {
        self.elements() / self.cols()
    }

    /// The innermost dimension.
    pub const fn cols(&self) -> usize {
        self.dims[self.rank as usize - 1]
    }

    /// The outermost dimension.
    pub const fn outer(&self) -> usize {
        self.dims[0]
    }

    /// This shape with another outermost dimension, which must be in `1..=self.outer()`.
    pub(crate) fn with_outer(mut self, outer: usize) -> Self {
        debug_assert!((1..=self.outer()).contains(&outer));
        self.dims[0] = outer;
        self
    }

    /// A vector of the `len` of another shape's dimension: never zero, never overflowing.
    pub(crate) fn vector(len: usize) -> Self {
        debug_assert!(len > 0);
        Self { dims: [len, 1, 1, 1], rank: 1 }
    }
}

impl PartialEq for Shape {
    fn eq(&self, other: &Self) -> bool {
        self.dims() == other.dims()
    }
}

impl Eq for Shape {}

impl Hash for Shape {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.dims().hash(state);
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (i, dim) in self.dims().iter().enumerate() {
            write!(f, "{}{dim}", if i == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_and_cols() {
        let s = Shape::new(&[2, 3, 5]).unwrap();
        assert_eq!((s.rank(), s.elements(), s.rows(), s.cols(), s.outer()), (3, 30, 6, 5, 2));
        let v = Shape::new(&[7]).unwrap();
        assert_eq!((v.rank(), v.rows(), v.cols()), (1, 1, 7));
        assert_eq!(s.to_string(), "[2, 3, 5]");
    }

    #[test]
    fn rank_distinguishes_shapes() {
        assert_ne!(Shape::new(&[4]).unwrap(), Shape::new(&[4, 1]).unwrap());
    }

    #[test]
    fn bad_dimensions_are_rejected() {
        assert_eq!(Shape::new(&[]), Err(ShapeError::Rank { rank: 0 }));
        assert_eq!(Shape::new(&[1; 5]), Err(ShapeError::Rank { rank: 5 }));
        assert_eq!(Shape::new(&[3, 0]).unwrap_err().to_string(), "dimension 1 of [3, 0] is zero");
        let huge = [usize::MAX, 2];
        assert_eq!(Shape::new(&huge), Err(ShapeError::Overflow { dims: huge.to_vec() }));
    }
}
