//! CUDA graphs, built node by node.
//!
//! A [`Graph`] is a definition: nodes (kernels, copies, fills, empty nodes, other graphs, loops) and the dependencies
//! between them. [`Graph::instantiate`] makes a [`GraphExec`] of it, which a stream launches as often as wanted.
//!
//! Who keeps what alive: a node owns, through `Arc`s, the kernel and with it the module, its copy of the arguments, the
//! buffers of its [`Region`]s, and whatever else [`KernelNode::keep`] names. An instantiated graph shares all of that
//! with the definition that it was made from, and each update replaces the old owners only after the graph has been
//! seen idle; the modules of the definition's kernels stay, because updates name its nodes. So the definition, its
//! buffers and its modules may be dropped in any order.
//!
//! Dependencies go from earlier to later nodes, so a graph has no cycles. A dependency is full (the later node starts
//! when the earlier one has finished) or, between kernels, programmatic: the later kernel may start when every block
//! of the earlier one has executed `griddepcontrol.launch_dependents` or exited, and waits for its results with
//! `griddepcontrol.wait`. Programmatic edges are added one per driver call, because driver 580 applies the first edge's
//! data to all edges of a call, and [`Graph::instantiate`] reads them back before it trusts them.
//!
//! A loop ([`Graph::add_while`]) has a body, a graph that the driver makes and that is filled like any other. It runs as
//! long as a [`Conditional`] holds, which kernels set on the device. What the nodes of the body own, the loop owns.

mod condition;
mod definition;
mod dependencies;
mod dot;
mod edge;
mod exec;
mod node;
mod region;

pub use condition::Conditional;
pub use definition::Graph;
pub use edge::{Dependency, Edge, EdgeKind};
pub use exec::GraphExec;
pub use node::{KernelNode, MemsetValue, NodeId, NodeType};
pub use region::Region;

use std::any::Any;
use std::sync::Arc;

/// Something that must outlive a node of a graph.
pub type KeepAlive = Arc<dyn Any + Send + Sync>;
