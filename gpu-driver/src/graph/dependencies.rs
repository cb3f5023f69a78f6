//! Dependencies of a definition: adding them, and reading back what the driver made of them.

use super::definition::{Graph, refused};
use super::edge::{Dependency, Edge, EdgeKind};
use super::node::{NodeId, NodeType};
use crate::error::DriverError;
use crate::sys::table::call;
use crate::sys::{CUgraph, CUgraphEdgeData, CUgraphNode, DriverTable};
use std::collections::{HashMap, HashSet};
use std::ptr;

impl Graph {
    /// Adds a dependency between two nodes that exist. `to` must have been added after `from`.
    ///
    /// # Errors
    ///
    /// [`DriverError::Graph`] for a node of another graph, a dependency on a later node, one that exists already, or a
    /// programmatic one that is not between kernels; [`DriverError::SymbolMissing`] for a programmatic one before
    /// CUDA 12.3; [`DriverError::Poisoned`], or the driver's failure.
    pub fn add_dependency(&mut self, from: NodeId, to: NodeId, kind: EdgeKind) -> Result<(), DriverError> {
        let to_kind = self.node(to)?.kind;
        self.check_dependency(Dependency { on: from, kind }, to.index, to_kind)?;
        if self.edges.iter().any(|e| e.from == from && e.to == to) {
            return Err(refused(format!("{to} depends on {from} already")));
        }
        self.connect(from, to, kind)
    }

    /// Whether the driver knows programmatic dependencies, which CUDA 12.3 introduced. Where it does not, a full one in
    /// the place of each orders more than is needed, and no less.
    pub fn takes_programmatic(&self) -> bool {
        self.context().table().graph_add_dependencies_v2.is_some()
    }

    /// The edges as the driver holds them, in the driver's order.
    ///
    /// # Errors
    ///
    /// [`DriverError::Poisoned`], or the driver's failure; `CUDA_ERROR_LOSSY_QUERY` never, because a driver that knows
    /// programmatic edges is asked for them.
    pub fn driver_edges(&self) -> Result<Vec<Edge>, DriverError> {
        let by_handle: HashMap<CUgraphNode, usize> =
            self.nodes.iter().enumerate().map(|(i, node)| (node.handle, i)).collect();
        let raw = self.inner.with(read_edges)?;
        raw.into_iter()
            .map(|(from, to, data)| match (by_handle.get(&from), by_handle.get(&to)) {
                (Some(&from), Some(&to)) => {
                    Ok(Edge { from: self.id_of(from), to: self.id_of(to), kind: EdgeKind::from_data(data) })
                }
                _ => Err(refused(
                    "the driver's graph has an edge of a node that was not added here".to_owned(),
                )),
            })
            .collect()
    }

    /// Refuses a definition that the driver may hold otherwise than it was asked for.
    pub(super) fn expect_sound(&self) -> Result<(), DriverError> {
        self.expect_unbroken()?;
        self.expect_conditions_used()?;
        if self.edges.iter().any(|e| e.kind != EdgeKind::Full) {
            self.check_edges()?;
        }
        self.nodes.iter().filter_map(|node| node.body.as_ref()).try_for_each(|body| body.expect_sound())
    }

    /// Refuses a definition to which something was added half-way.
    pub(super) fn expect_unbroken(&self) -> Result<(), DriverError> {
        match &self.broken {
            None => Ok(()),
            Some(reason) => Err(refused(format!("the definition is incomplete: {reason}"))),
        }
    }

    /// Compares the driver's edges with those asked for.
    fn check_edges(&self) -> Result<(), DriverError> {
        let held: HashSet<Edge> = self.driver_edges()?.into_iter().collect();
        match self.edges.iter().find(|edge| !held.contains(edge)) {
            None if held.len() == self.edges.len() => Ok(()),
            None => {
                Err(refused(format!("{} edges were added, the driver has {}", self.edges.len(), held.len())))
            }
            Some(Edge { from, to, kind }) => {
                let other = held.iter().find(|e| e.from == *from && e.to == *to);
                Err(refused(format!(
                    "the edge {from} -> {to} was added as {kind:?}, the driver has {}",
                    other.map_or_else(|| "none".to_owned(), |e| format!("{:?}", e.kind))
                )))
            }
        }
    }

    pub(super) fn check_dependency(
        &self,
        dependency: Dependency,
        to: u32,
        to_kind: NodeType,
    ) -> Result<(), DriverError> {
        let Dependency { on, kind } = dependency;
        let from_kind = self.node(on)?.kind;
        if on.index >= to {
            return Err(refused(format!("n{to} cannot depend on {on}, which is not an earlier node")));
        }
        match kind {
            EdgeKind::Full => Ok(()),
            EdgeKind::Programmatic if from_kind == NodeType::Kernel && to_kind == NodeType::Kernel => {
                if !self.takes_programmatic() {
                    // The error names the symbol and the version that has it.
                    self.context().table().graph_add_dependencies_v2().map(|_| ())?;
                }
                Ok(())
            }
            EdgeKind::Programmatic => Err(refused(format!(
                "a programmatic dependency joins two kernels, not {on} ({from_kind}) and n{to} ({to_kind})"
            ))),
            EdgeKind::Other { .. } => Err(refused(format!("a dependency of kind {kind:?} cannot be added"))),
        }
    }

    /// Adds one edge, in a call of its own.
    pub(super) fn connect(&mut self, from: NodeId, to: NodeId, kind: EdgeKind) -> Result<(), DriverError> {
        let (a, b) = (self.node(from)?.handle, self.node(to)?.handle);
        self.inner.with(|t, graph| {
            if kind == EdgeKind::Full && t.graph_add_dependencies_v2.is_none() {
                // SAFETY: both nodes are alive and of this graph; one edge is passed.
                return unsafe { call!(t, graph_add_dependencies(graph, &a, &b, 1)) };
            }
            let data = kind.to_data();
            // SAFETY: both nodes are alive and of this graph; one edge with its data is passed.
            unsafe { call!(t, graph_add_dependencies_v2(graph, &a, &b, &data, 1)) }
        })?;
        self.edges.push(Edge { from, to, kind });
        Ok(())
    }
}

fn read_edges(
    t: &DriverTable,
    graph: CUgraph,
) -> Result<Vec<(CUgraphNode, CUgraphNode, CUgraphEdgeData)>, DriverError> {
    let with_data = t.graph_get_edges_v2.is_some();
    let mut n = 0usize;
    let null = ptr::null_mut();
    if with_data {
        // SAFETY: with null arrays the driver only writes the count, to a local.
        unsafe { call!(t, graph_get_edges_v2(graph, null, null, ptr::null_mut(), &mut n)) }?;
    } else {
        // SAFETY: with null arrays the driver only writes the count, to a local.
        unsafe { call!(t, graph_get_edges(graph, null, null, &mut n)) }?;
    }
    if n == 0 {
        return Ok(Vec::new());
    }
    let (mut from, mut to) = (vec![CUgraphNode::NULL; n], vec![CUgraphNode::NULL; n]);
    let mut data = vec![CUgraphEdgeData::default(); n];
    if with_data {
        // SAFETY: each array has `n` entries, and the driver writes no more than `n`.
        unsafe {
            call!(t, graph_get_edges_v2(graph, from.as_mut_ptr(), to.as_mut_ptr(), data.as_mut_ptr(), &mut n))
        }?;
    } else {
        // SAFETY: each array has `n` entries, and the driver writes no more than `n`.
        unsafe { call!(t, graph_get_edges(graph, from.as_mut_ptr(), to.as_mut_ptr(), &mut n)) }?;
    }
    Ok(from.into_iter().zip(to).zip(data).map(|((from, to), data)| (from, to, data)).take(n).collect())
}
