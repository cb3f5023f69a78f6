//! How the threads of a block share the work, and what they leave in shared memory.

use super::lanes::plan::LanePlan;
use super::matrix::MatrixPlan;
use crate::factor::Factor;
use crate::stored::Stored;
use crate::support::WARP;

/// The division of heads, features and positions among the threads of a block.
///
/// It follows from the group size, `head_dim` and the type of the cache alone, never from the batch or a length: that
/// is what makes a row's result independent of its neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Multiply-adds of f32.
    Lanes(LanePlan),
    /// Tensor cores.
    Matrix(MatrixPlan),
}

impl Plan {
    /// The plan for groups of `group` query heads of `head_dim` features, a multiple of a 16-byte load: tensor cores for
    /// the types that they multiply, or that become one without loss.
    pub fn new(group: u32, head_dim: u32, stored: Stored) -> Self {
        match stored {
            Stored::F16 | Stored::E4m3 => Self::Matrix(MatrixPlan::new(group, head_dim, Factor::F16)),
            Stored::Bf16 => Self::Matrix(MatrixPlan::new(group, head_dim, Factor::Bf16)),
            Stored::F32 => Self::Lanes(LanePlan::new(group, head_dim)),
        }
    }

    /// Query heads of a block. They share every key and value that the block reads.
    pub const fn heads(&self) -> u32 {
        match self {
            Self::Lanes(plan) => plan.heads,
            Self::Matrix(plan) => plan.heads,
        }
    }

    /// Warps of a block.
    pub const fn warps(&self) -> u32 {
        match self {
            Self::Lanes(_) => LanePlan::WARPS,
            Self::Matrix(_) => MatrixPlan::WARPS,
        }
    }

    /// Threads of a block.
    pub const fn threads(&self) -> u32 {
        self.warps() * WARP
    }

    /// Floats from one head of a warp to the next in shared memory.
    pub const fn head_stride(&self, head_dim: u32) -> u32 {
        match self {
            Self::Lanes(_) => head_dim,
            Self::Matrix(plan) => plan.head_stride(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_of_a_block_has_a_thread() {
        for stored in Stored::ALL {
            let load = 16 / stored.bytes();
            for head_dim in (load..=256).step_by(load as usize) {
                for group in 1..=32 {
                    let plan = Plan::new(group, head_dim, stored);
                    assert!(group.is_multiple_of(plan.heads()) && plan.heads() <= 8, "{plan:?}");
                    assert!(plan.heads() * head_dim / 4 <= plan.threads(), "{plan:?} {head_dim}");
                    assert!(plan.head_stride(head_dim) >= head_dim, "{plan:?} {head_dim}");
                }
            }
        }
    }

    #[test]
    fn heads_of_usual_groups_stay_together() {
        for (group, head_dim, heads) in
            [(4, 64, 4), (6, 128, 6), (7, 64, 7), (8, 128, 8), (16, 128, 8), (8, 256, 4), (1, 128, 1)]
        {
            for stored in Stored::ALL {
                let plan = Plan::new(group, head_dim, stored);
                assert_eq!(plan.heads(), heads, "group {group}, head_dim {head_dim}, {}", stored.name());
            }
        }
    }
}
