//! Edges of graphs. An edge's data is that of the first edge of its call, for all of them, as driver 580 has it
//! (measured on a GPU).

use gpu_driver::sys::*;

use crate::api::graph::{known_graph, known_node};
use crate::call::{Call, Name, Outcome, in_context, name, put};
use crate::handle::Id;
use crate::objects::{Node, NodeWork};
use crate::work::Work;

type Nodes = *const CUgraphNode;

pub(crate) unsafe extern "C" fn add_dependencies(
    graph: CUgraph,
    from: Nodes,
    to: Nodes,
    n: usize,
) -> CUresult {
    let name = name!("cuGraphAddDependencies", "{n}");
    // SAFETY: the caller's promise; there is no data.
    unsafe { add_edges(name, graph, from, to, std::ptr::null(), n) }
}

pub(crate) unsafe extern "C" fn add_dependencies_v2(
    graph: CUgraph,
    from: Nodes,
    to: Nodes,
    data: *const CUgraphEdgeData,
    n: usize,
) -> CUresult {
    // SAFETY: the caller's promise.
    unsafe { add_edges(name!("cuGraphAddDependencies", "{n}"), graph, from, to, data, n) }
}

/// # Safety
///
/// Arrays of `n` entries; `data` may be null.
unsafe fn add_edges(
    name: Name<'_>,
    graph: CUgraph,
    from: Nodes,
    to: Nodes,
    data: *const CUgraphEdgeData,
    n: usize,
) -> CUresult {
    in_context(name, |call| {
        let graph = known_graph(&call.state, graph)?;
        if n == 0 {
            return Ok(());
        }
        if from.is_null() || to.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the array has at least one entry.
        let first = if data.is_null() { CUgraphEdgeData::default() } else { unsafe { data.read() } };
        let mut edges = Vec::with_capacity(n);
        for i in 0..n {
            // SAFETY: both arrays have `n` entries.
            let (a, b) = unsafe { (from.add(i).read(), to.add(i).read()) };
            let edge = (known_node(&call.state, a)?, known_node(&call.state, b)?);
            check_edge(call, graph, edge, first)?;
            if edges.contains(&edge) {
                return Err(CUresult::ERROR_INVALID_VALUE);
            }
            edges.push(edge);
        }
        if let Some(graph) = call.graphs.get_mut(&graph) {
            graph.edges.extend(edges.into_iter().map(|(from, to)| (from, to, first)));
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn remove_dependencies(
    graph: CUgraph,
    from: Nodes,
    to: Nodes,
    n: usize,
) -> CUresult {
    // SAFETY: the caller's promise; there is no data.
    unsafe { remove_dependencies_v2(graph, from, to, std::ptr::null(), n) }
}

pub(crate) unsafe extern "C" fn remove_dependencies_v2(
    graph: CUgraph,
    from: Nodes,
    to: Nodes,
    data: *const CUgraphEdgeData,
    n: usize,
) -> CUresult {
    in_context(name!("cuGraphRemoveDependencies", "{n}"), |call| {
        let graph = known_graph(&call.state, graph)?;
        if n > 0 && (from.is_null() || to.is_null()) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let mut edges = call.graphs.get(&graph).map(|graph| graph.edges.clone()).unwrap_or_default();
        for i in 0..n {
            // SAFETY: the arrays have `n` entries.
            let (a, b) = unsafe { (from.add(i).read(), to.add(i).read()) };
            let (a, b) = (known_node(&call.state, a)?, known_node(&call.state, b)?);
            // SAFETY: as above.
            let kind = if data.is_null() { None } else { Some(unsafe { data.add(i).read() }) };
            let found = edges
                .iter()
                .position(|(from, to, data)| (*from, *to) == (a, b) && *data == kind.unwrap_or_default());
            edges.remove(found.ok_or(CUresult::ERROR_INVALID_VALUE)?);
        }
        if let Some(graph) = call.graphs.get_mut(&graph) {
            graph.edges = edges;
        }
        Ok(())
    })
}

fn check_edge(call: &Call<'_>, graph: Id, (from, to): (Id, Id), data: CUgraphEdgeData) -> Outcome {
    let invalid = Err(CUresult::ERROR_INVALID_VALUE);
    let of_graph = |node: Id| call.nodes.get(&node).is_some_and(|node| node.graph == graph);
    if from == to || !of_graph(from) || !of_graph(to) {
        return invalid;
    }
    let known =
        call.graphs.get(&graph).is_some_and(|g| g.edges.iter().any(|(a, b, _)| (*a, *b) == (from, to)));
    if known {
        return invalid;
    }
    let is_kernel = |node: Id| {
        matches!(call.nodes.get(&node), Some(Node { work: NodeWork::Single(Work::Kernel(_)), .. }))
    };
    match (data.kind, data.from_port, data.to_port) {
        (CU_GRAPH_DEPENDENCY_TYPE_DEFAULT, CU_GRAPH_KERNEL_NODE_PORT_DEFAULT, 0) => Ok(()),
        (CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC, CU_GRAPH_KERNEL_NODE_PORT_PROGRAMMATIC, 0)
            if is_kernel(from) && is_kernel(to) && call.sim.profile.clusters() =>
        {
            Ok(())
        }
        _ => invalid,
    }
}

pub(crate) unsafe extern "C" fn get_edges(
    graph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    n: *mut usize,
) -> CUresult {
    let outs = EdgeArrays { from, to, data: std::ptr::null_mut(), n };
    // SAFETY: the caller's promise.
    unsafe { outs.fill(name!("cuGraphGetEdges"), graph) }
}

pub(crate) unsafe extern "C" fn get_edges_v2(
    graph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    n: *mut usize,
) -> CUresult {
    let outs = EdgeArrays { from, to, data, n };
    // SAFETY: the caller's promise.
    unsafe { outs.fill(name!("cuGraphGetEdges"), graph) }
}

/// Where the edges of a graph go.
struct EdgeArrays {
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    n: *mut usize,
}

impl EdgeArrays {
    /// # Safety
    ///
    /// `n` must be null or hold the number of entries of the arrays; `from` and `to` may both be null, `data` alone.
    unsafe fn fill(&self, name: Name<'_>, graph: CUgraph) -> CUresult {
        let Self { from, to, data, n } = *self;
        in_context(name, |call| {
            let graph = known_graph(&call.state, graph)?;
            let list = call.graphs.get(&graph).map(|graph| graph.edges.clone()).unwrap_or_default();
            if n.is_null() || from.is_null() != to.is_null() {
                return Err(CUresult::ERROR_INVALID_VALUE);
            }
            if from.is_null() {
                return put(n, list.len());
            }
            if data.is_null() && list.iter().any(|edge| edge.2 != CUgraphEdgeData::default()) {
                return Err(CUresult::ERROR_LOSSY_QUERY);
            }
            // SAFETY: the program passes the size of the arrays.
            let room = unsafe { n.read() };
            for (i, (a, b, d)) in list.iter().take(room).enumerate() {
                // SAFETY: the arrays have that many entries.
                unsafe {
                    from.add(i).write(call.handle(*a));
                    to.add(i).write(call.handle(*b));
                    if !data.is_null() {
                        data.add(i).write(*d);
                    }
                }
            }
            put(n, list.len().min(room))
        })
    }
}
