//! Groups: consecutive operations that a backend may run as one.
//!
//! Decoding on a GPU takes as long as its kernels are many. Four runs of operations make up nearly all of a
//! transformer's step, and each can be one kernel: [`AttentionInput`], [`ResidualProjection`], [`GatedProjection`] and
//! [`Head`]. [`ComputeGraph::group`](crate::ComputeGraph::group) finds them, by what reads what and not by names, and
//! forms those that the backend accepts. The graph stays as it is: a group is a run of its nodes, so shapes, the
//! reference and the operations themselves know nothing of groups, and a backend that has no kernel for a group runs its
//! parts.
//!
//! ```
//! use graph::{ComputeGraph, CountingDispatch, GroupKind, Shape, execute_graph};
//! use tensor_formats::ElementType::F32;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut g = ComputeGraph::new();
//! let x = g.add_leaf("x", F32, Shape::new(&[1, 64])?)?;
//! let hidden = g.add_leaf("hidden", F32, Shape::new(&[1, 96])?)?;
//! let down = g.add_leaf("ffn_down", F32, Shape::new(&[64, 96])?)?;
//! let product = g.mul_mat(down, hidden)?;
//! let y = g.add(x, product)?;
//! g.mark_output(y)?;
//!
//! let plan = g.group(|group| group.kind() == GroupKind::ResidualProjection).plan();
//! let mut backend = CountingDispatch::new();
//! assert_eq!(execute_graph(&g, &plan, &mut backend)?.n_launches, 1);
//! assert_eq!(backend.groups()[0].kind(), GroupKind::ResidualProjection);
//! # Ok(())
//! # }
//! ```
//!
//! # What a backend may rely on
//! A fused kernel reads operands while it writes results, in any order of threads. The memory plan of a grouping
//! therefore gives the tensors of a group memory as if the group were one operation:
//! - All operands of a group hold their values until its last operation, and its results share no byte with them. The one
//!   exception: [`ResidualProjection::output`] may be exactly the bytes of its `residual`, and of no other operand then.
//! - The caches of [`AttentionInput`] are two leaves, and no other operand lies in them.
//! - An intermediate (what one operation of the group writes and only others of the same group read) has memory of its
//!   own until the last operation, so that the parts can run. A fused kernel may leave it as it is, or write anything to
//!   it. A result may lie over an intermediate as the operations' own [aliasing rules](crate::dispatch) allow; what a
//!   `quantize_q8` or `rms_norm` of the group writes is never written over.
//! - Two results share no byte, even if nobody reads one of them.

mod grouping;
mod kinds;
mod matcher;

pub(crate) use grouping::SymbolicGroup;
pub use grouping::{Group, Grouping};
pub use kinds::{
    AttentionInput, GatedProjection, GroupCall, GroupKind, Head, Projection, ResidualProjection,
};
