//! Tensor ids.

use std::fmt;

/// A tensor of one [`ComputeGraph`](crate::ComputeGraph): the node that produces it. Displays as `%3`.
///
/// An id is an index and not a reference, so graphs are plain data that clone, compare and print without pointers.
/// It means something only in the graph that gave it out; passes return a map from old ids to new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TensorId(pub(crate) u32);

impl TensorId {
    /// The position of the node in [`ComputeGraph::nodes`](crate::ComputeGraph::nodes), for side tables.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

impl fmt::Display for TensorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}", self.0)
    }
}
