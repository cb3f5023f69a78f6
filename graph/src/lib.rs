//! Backend-agnostic tensor graph: shape inference, passes, memory planning, executor.

mod build;
mod counting;
pub mod dispatch;
mod display;
mod error;
mod execute;
mod graph;
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
pub use id::TensorId;
pub use op::{OpParams, RopeStyle, TensorOp};
pub use plan::{MemoryPlan, PlanOptions};
pub use shape::{MAX_RANK, Shape, ShapeError};
pub use view::{BufferId, TensorView};
