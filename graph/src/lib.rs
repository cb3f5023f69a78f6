//! Backend-agnostic tensor graph: shape inference, passes, memory planning, executor.
//!
//! A [`ComputeGraph`] says what is to be computed, on typed, shaped tensors and without addresses. Building it infers
//! shapes and refuses what does not fit. [Passes](passes) turn it into one that runs better. [`ComputeGraph::plan`]
//! gives every intermediate its place in one workspace. [`execute_graph`] hands the operations, with their operands
//! resolved to places in memory, to whatever implements [`KernelDispatch`]: this crate knows no backend.
//!
//! ```
//! use graph::passes::{Rewrite, fuse_swiglu, share_q8_activations};
//! use graph::ElementType::{F32, Q4_K};
//! use graph::{ComputeGraph, CountingDispatch, Shape, TensorOp, execute_graph};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The feed-forward half of a transformer layer.
//! let mut g = ComputeGraph::new();
//! let x = g.add_leaf("x", F32, Shape::new(&[1, 256])?)?;
//! let gate = g.add_leaf("ffn_gate", Q4_K, Shape::new(&[512, 256])?)?;
//! let up = g.add_leaf("ffn_up", Q4_K, Shape::new(&[512, 256])?)?;
//! let down = g.add_leaf("ffn_down", Q4_K, Shape::new(&[256, 512])?)?;
//! let gate = g.mul_mat(gate, x)?;
//! let up = g.mul_mat(up, x)?;
//! let gate = g.silu(gate)?;
//! let hidden = g.mul(gate, up)?;
//! let down = g.mul_mat(down, hidden)?;
//! let y = g.add(x, down)?;
//! g.mark_output(y)?;
//! assert_eq!(g.n_ops(), 6);
//!
//! // What does not fit is refused by name.
//! let error = g.mul_mat(y, hidden).unwrap_err().to_string();
//! assert!(error.ends_with("the row length of input has to be 256, is 512"), "{error}");
//!
//! // One kernel for silu(gate) * up; each activation is quantised once for all the matmuls that read it.
//! let step = Rewrite::identity(g).then(fuse_swiglu)?.then(share_q8_activations)?;
//! let plan = step.graph.plan();
//!
//! let mut backend = CountingDispatch::new();
//! let result = execute_graph(&step.graph, &plan, &mut backend)?;
//! assert_eq!(result.n_launches, 7);
//! assert_eq!(backend.count(TensorOp::QuantizeQ8), 2);
//!
//! // The result is where the plan says.
//! let y = step.map(y).and_then(|y| plan.view(y)).expect("an output is kept");
//! assert!(y.end() <= plan.workspace_bytes);
//! # Ok(())
//! # }
//! ```
//!
//! # Map
//!
//! | module | what it holds |
//! | --- | --- |
//! | `graph`, `build`, `infer`, `op`, `shape` | the graph, its builders, and what each operation takes and gives |
//! | `display` | dumps and DOT |
//! | [`passes`] | graph to graph |
//! | [`groups`] | consecutive operations that a backend may run as one |
//! | `plan`, `view` | where every tensor lies |
//! | [`dispatch`], `execute` | what a backend implements, its aliasing rules, and the executor that drives it |
//! | `counting` | a backend that computes nothing |
//! | [`rope`] | the table of rotation angles |
//! | [`mod@reference`] | every operation in f64, and a backend of it |
//! | [`conformance`] | the suite that every backend has to pass |

mod build;
pub mod conformance;
mod counting;
pub mod dispatch;
mod display;
mod error;
mod execute;
mod graph;
pub mod groups;
mod id;
mod infer;
mod op;
pub mod passes;
mod plan;
pub mod reference;
pub mod rope;
mod shape;
mod view;

pub use build::{AttentionOperands, RopeOperands};
pub use counting::CountingDispatch;
pub use dispatch::{
    Add, Argmax, Attention, CopyTensor, DispatchError, EmbedRows, KernelDispatch, KvScatter, Mul, MulMat,
    OpCall, QuantizeQ8, RmsNorm, Rope, Silu, SoftMax, SwiGlu,
};
pub use error::{GraphError, Reason};
pub use execute::{ExecError, GraphExecResult, NodeName, execute_graph};
pub use graph::{ALIGNMENT, ComputeGraph, TensorNode};
pub use groups::{
    AttentionInput, GatedProjection, Group, GroupCall, GroupKind, Grouping, Head, Projection,
    ResidualProjection,
};
pub use id::TensorId;
pub use op::{OpParams, RopeStyle, TensorOp};
pub use plan::{MemoryPlan, PlanOptions, PlannedCall};
pub use shape::{MAX_RANK, Shape, ShapeError};
pub use view::{BufferId, TensorView};

/// The element types of tensors, and all else that signatures here take from their crate.
pub use tensor_formats::{self, ElementType};
