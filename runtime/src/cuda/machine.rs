//! What kernels are made for.

use kernels::projection;
use ptx_builder::Target;

/// What the choice of kernels depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine {
    /// What they may use.
    pub target: Target,
    /// Multiprocessors that they are spread over.
    pub processors: u32,
    /// Whether groups of many rows are multiplied as halves, see [`Gemm`](projection::Gemm).
    pub halves: bool,
}

impl Machine {
    /// An H200.
    pub const H200: Self = Self { target: Target::SM_90A, processors: projection::PROCESSORS, halves: false };

    /// Whether groups of so many rows are multiplied as halves. Few are multiplied as bytes.
    pub const fn multiplies_halves(self, rows: usize) -> bool {
        self.halves && rows > projection::MAX_BATCH
    }
}
