//! Dependencies between nodes.

use super::node::NodeId;
use crate::sys::{
    CU_GRAPH_DEPENDENCY_TYPE_DEFAULT, CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC,
    CU_GRAPH_KERNEL_NODE_PORT_DEFAULT, CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC, CUgraphEdgeData,
};

/// When a node that depends on another may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EdgeKind {
    /// When the other has finished and its writes are visible.
    Full,
    /// When every block of the other kernel has triggered or exited; what it wrote is visible only after
    /// `griddepcontrol.wait`.
    Programmatic,
    /// Something that this crate does not make, as read back from the driver.
    Other {
        /// Output port of the earlier node.
        from_port: u8,
        /// Input port of the later node.
        to_port: u8,
        /// The driver's number of the kind.
        kind: u8,
    },
}

impl EdgeKind {
    /// In the form of the C interface.
    pub(super) fn to_data(self) -> CUgraphEdgeData {
        let (from_port, to_port, kind) = match self {
            Self::Full => (CU_GRAPH_KERNEL_NODE_PORT_DEFAULT, 0, CU_GRAPH_DEPENDENCY_TYPE_DEFAULT),
            Self::Programmatic => {
                (CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC, 0, CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC)
            }
            Self::Other { from_port, to_port, kind } => (from_port, to_port, kind),
        };
        CUgraphEdgeData { from_port, to_port, kind, reserved: [0; 5] }
    }

    pub(super) fn from_data(data: CUgraphEdgeData) -> Self {
        let CUgraphEdgeData { from_port, to_port, kind, .. } = data;
        [Self::Full, Self::Programmatic]
            .into_iter()
            .find(|known| known.to_data() == CUgraphEdgeData { reserved: [0; 5], ..data })
            .unwrap_or(Self::Other { from_port, to_port, kind })
    }
}

/// A dependency of a node that is being added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Dependency {
    /// The node to wait for.
    pub on: NodeId,
    /// How.
    pub kind: EdgeKind,
}

impl Dependency {
    /// On the end of `node`.
    pub fn full(node: NodeId) -> Self {
        Self { on: node, kind: EdgeKind::Full }
    }

    /// On the trigger of `node`.
    pub fn programmatic(node: NodeId) -> Self {
        Self { on: node, kind: EdgeKind::Programmatic }
    }
}

impl From<NodeId> for Dependency {
    fn from(node: NodeId) -> Self {
        Self::full(node)
    }
}

/// An edge of a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Edge {
    /// The earlier node.
    pub from: NodeId,
    /// The later node.
    pub to: NodeId,
    /// What it waits for.
    pub kind: EdgeKind,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programmatic_edges_use_port_one_and_type_one() {
        let data = EdgeKind::Programmatic.to_data();
        assert_eq!((data.from_port, data.to_port, data.kind, data.reserved), (1, 0, 1, [0; 5]));
        assert_eq!(EdgeKind::Full.to_data(), CUgraphEdgeData::default());
    }

    #[test]
    fn kinds_survive_the_round_trip() {
        let odd = EdgeKind::Other { from_port: 2, to_port: 0, kind: 1 };
        for kind in [EdgeKind::Full, EdgeKind::Programmatic, odd] {
            assert_eq!(EdgeKind::from_data(kind.to_data()), kind);
        }
    }
}
