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
}

impl Machine {
    /// An H200.
    pub const H200: Self = Self { target: Target::SM_90A, processors: projection::PROCESSORS };
}
