//! Definitions of graphs and their nodes, which take copies of their arguments when they are added.

use std::ffi::{CStr, c_char, c_uint, c_void};
use std::fmt::Write as _;

use gpu_driver::sys::*;

use crate::api::params::{copy_of, expect_context, fill_of, kernel_of};
use crate::api::user_object::References;
use crate::call::{Call, Outcome, in_context, name, put, releasing};
use crate::handle::Id;
use crate::limits::Shape;
use crate::objects::{Graph, Node, NodeWork};
use crate::state::State;
use crate::work::{HostCall, HostFunction, Work};

type Nodes = *const CUgraphNode;

pub(crate) fn known_graph(state: &State, graph: CUgraph) -> Outcome<Id> {
    let id = state.id_of(graph).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    if state.graphs.contains_key(&id) { Ok(id) } else { Err(CUresult::ERROR_INVALID_VALUE) }
}

pub(crate) fn known_node(state: &State, node: CUgraphNode) -> Outcome<Id> {
    let id = state.id_of(node).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    if state.nodes.contains_key(&id) { Ok(id) } else { Err(CUresult::ERROR_INVALID_VALUE) }
}

pub(crate) fn new_graph(call: &mut Call<'_>, embedded: bool, body_of: Option<Id>) -> Outcome<Id> {
    let id = call.new_id()?;
    let context = call.context;
    call.graphs.insert(
        id,
        Graph {
            context,
            nodes: Vec::new(),
            edges: Vec::new(),
            embedded,
            body_of,
            objects: References::new(),
        },
    );
    Ok(id)
}

pub(crate) unsafe extern "C" fn create(graph: *mut CUgraph, flags: c_uint) -> CUresult {
    in_context(name!("cuGraphCreate"), |call| {
        if flags != 0 || graph.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let id = new_graph(call, false, None)?;
        put(graph, call.handle(id))
    })
}

pub(crate) unsafe extern "C" fn destroy(graph: CUgraph) -> CUresult {
    releasing(name!("cuGraphDestroy"), |call| {
        let id = known_graph(&call.state, graph)?;
        if call.graphs.get(&id).is_some_and(|graph| graph.embedded) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        call.remove_graph(id);
        Ok(())
    })
}

/// Adds a node after others of its graph.
pub(crate) fn add(
    call: &mut Call<'_>,
    out: *mut CUgraphNode,
    graph: CUgraph,
    (deps, n): (Nodes, usize),
    work: NodeWork,
) -> Outcome<Id> {
    let id = known_graph(&call.state, graph)?;
    if out.is_null() || n > 0 && deps.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let mut from = Vec::with_capacity(n);
    for i in 0..n {
        // SAFETY: the program passes an array of `n` nodes.
        let node = known_node(&call.state, unsafe { deps.add(i).read() })?;
        if from.contains(&node) || call.nodes.get(&node).is_none_or(|node| node.graph != id) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        from.push(node);
    }
    let node = call.new_id()?;
    call.nodes.insert(node, Node { graph: id, work });
    if let Some(graph) = call.graphs.get_mut(&id) {
        graph.nodes.push(node);
        graph.edges.extend(from.into_iter().map(|from| (from, node, CUgraphEdgeData::default())));
    }
    put(out, call.handle(node))?;
    Ok(node)
}

pub(crate) unsafe extern "C" fn add_kernel_node(
    node: *mut CUgraphNode,
    graph: CUgraph,
    deps: Nodes,
    n: usize,
    params: *const CUDA_KERNEL_NODE_PARAMS_v2,
) -> CUresult {
    in_context(name!("cuGraphAddKernelNode", "{n}"), |call| {
        // SAFETY: the caller's promise.
        let work = unsafe { kernel_of(call, params) }?;
        add(call, node, graph, (deps, n), NodeWork::Single(Work::Kernel(work))).map(|_| ())
    })
}

pub(crate) unsafe extern "C" fn kernel_node_set_attribute(
    node: CUgraphNode,
    attribute: c_uint,
    value: *const CUlaunchAttributeValue,
) -> CUresult {
    in_context(name!("cuGraphKernelNodeSetAttribute", "{attribute}"), |call| {
        let id = known_node(&call.state, node)?;
        let Some(Node { work: NodeWork::Single(Work::Kernel(kernel)), .. }) = call.nodes.get(&id) else {
            return Err(CUresult::ERROR_INVALID_VALUE);
        };
        if value.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        match attribute {
            CU_LAUNCH_ATTRIBUTE_PRIORITY => Ok(()),
            CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION => {
                // SAFETY: the program passes the value of that attribute.
                let cluster = unsafe { (*value).cluster_dim };
                let shape = Shape {
                    grid: kernel.grid,
                    block: kernel.block,
                    cluster,
                    dynamic_shared: kernel.dynamic_shared,
                };
                let function = call.functions.get(&kernel.function).ok_or(CUresult::ERROR_INVALID_HANDLE)?;
                shape.check(function, &call.sim.profile)?;
                if let Some(Node { work: NodeWork::Single(Work::Kernel(kernel)), .. }) =
                    call.nodes.get_mut(&id)
                {
                    kernel.cluster = cluster;
                }
                Ok(())
            }
            _ => Err(CUresult::ERROR_NOT_SUPPORTED),
        }
    })
}

pub(crate) unsafe extern "C" fn add_memcpy_node(
    node: *mut CUgraphNode,
    graph: CUgraph,
    deps: Nodes,
    n: usize,
    params: *const CUDA_MEMCPY3D_v2,
    context: CUcontext,
) -> CUresult {
    in_context(name!("cuGraphAddMemcpyNode", "{n}"), |call| {
        expect_context(call, context)?;
        // SAFETY: the caller's promise.
        let copy = unsafe { copy_of(call, params) }?;
        add(call, node, graph, (deps, n), NodeWork::Single(Work::Copy(copy))).map(|_| ())
    })
}

pub(crate) unsafe extern "C" fn add_memset_node(
    node: *mut CUgraphNode,
    graph: CUgraph,
    deps: Nodes,
    n: usize,
    params: *const CUDA_MEMSET_NODE_PARAMS,
    context: CUcontext,
) -> CUresult {
    in_context(name!("cuGraphAddMemsetNode", "{n}"), |call| {
        expect_context(call, context)?;
        // SAFETY: the caller's promise.
        let fill = unsafe { fill_of(call, params) }?;
        add(call, node, graph, (deps, n), NodeWork::Single(Work::Fill(fill))).map(|_| ())
    })
}

pub(crate) unsafe extern "C" fn add_empty_node(
    node: *mut CUgraphNode,
    graph: CUgraph,
    deps: Nodes,
    n: usize,
) -> CUresult {
    in_context(name!("cuGraphAddEmptyNode", "{n}"), |call| {
        add(call, node, graph, (deps, n), NodeWork::Single(Work::Nothing)).map(|_| ())
    })
}

/// Parameters of a host node.
#[repr(C)]
pub(crate) struct HostNodeParams {
    function: Option<extern "C" fn(*mut c_void)>,
    data: *mut c_void,
}

/// # Safety
///
/// Null, or a structure that lives during the call.
pub(crate) unsafe fn host_of(params: *const HostNodeParams) -> Outcome<Work> {
    if params.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the caller's promise.
    let params = unsafe { &*params };
    let function = HostCall::Plain(params.function.ok_or(CUresult::ERROR_INVALID_VALUE)?);
    Ok(Work::Host(HostFunction { function, data: params.data.expose_provenance() }))
}

pub(crate) unsafe extern "C" fn add_host_node(
    node: *mut CUgraphNode,
    graph: CUgraph,
    deps: Nodes,
    n: usize,
    params: *const HostNodeParams,
) -> CUresult {
    in_context(name!("cuGraphAddHostNode", "{n}"), |call| {
        // SAFETY: the caller's promise.
        let work = unsafe { host_of(params) }?;
        add(call, node, graph, (deps, n), NodeWork::Single(work)).map(|_| ())
    })
}

/// Copies a graph with everything in it, under new numbers. Conditional nodes are not copied: a condition has one node.
fn clone_graph(call: &mut Call<'_>, original: Id, embedded: bool) -> Outcome<Id> {
    let (nodes, edges, objects) = match call.graphs.get(&original) {
        Some(graph) => (graph.nodes.clone(), graph.edges.clone(), graph.objects.clone()),
        None => return Err(CUresult::ERROR_INVALID_VALUE),
    };
    let is_loop = |node| matches!(call.nodes.get(node), Some(Node { work: NodeWork::While { .. }, .. }));
    if nodes.iter().any(is_loop) {
        return Err(CUresult::ERROR_NOT_SUPPORTED);
    }
    let copy = new_graph(call, embedded, None)?;
    let mut copies = Vec::with_capacity(nodes.len());
    for node in &nodes {
        let work = match call.nodes.get(node).map(|node| node.work.clone()) {
            Some(NodeWork::Child(child)) => NodeWork::Child(clone_graph(call, child, true)?),
            Some(single) => single,
            None => return Err(CUresult::ERROR_INVALID_VALUE),
        };
        let id = call.new_id()?;
        call.nodes.insert(id, Node { graph: copy, work });
        copies.push(id);
    }
    let renamed = |old: Id| nodes.iter().position(|node| *node == old).map_or(old, |at| copies[at]);
    let edges = edges.into_iter().map(|(from, to, data)| (renamed(from), renamed(to), data)).collect();
    call.retain_objects(&objects);
    if let Some(graph) = call.graphs.get_mut(&copy) {
        graph.objects = objects;
        graph.edges = edges;
        graph.nodes = copies;
    }
    Ok(copy)
}

pub(crate) unsafe extern "C" fn clone(copy: *mut CUgraph, original: CUgraph) -> CUresult {
    in_context(name!("cuGraphClone"), |call| {
        let original = known_graph(&call.state, original)?;
        if copy.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let id = clone_graph(call, original, false)?;
        put(copy, call.handle(id))
    })
}

pub(crate) unsafe extern "C" fn add_child_graph_node(
    node: *mut CUgraphNode,
    graph: CUgraph,
    deps: Nodes,
    n: usize,
    child: CUgraph,
) -> CUresult {
    in_context(name!("cuGraphAddChildGraphNode", "{n}"), |call| {
        let child = known_graph(&call.state, child)?;
        if known_graph(&call.state, graph)? == child {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let copy = clone_graph(call, child, true)?;
        let added = add(call, node, graph, (deps, n), NodeWork::Child(copy));
        if added.is_err() {
            call.remove_graph(copy);
        }
        added.map(|_| ())
    })
}

pub(crate) unsafe extern "C" fn child_graph_node_get_graph(
    node: CUgraphNode,
    graph: *mut CUgraph,
) -> CUresult {
    in_context(name!("cuGraphChildGraphNodeGetGraph"), |call| {
        let id = known_node(&call.state, node)?;
        match call.nodes.get(&id) {
            Some(Node { work: NodeWork::Child(child), .. }) => put(graph, call.handle(*child)),
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    })
}

pub(crate) unsafe extern "C" fn get_nodes(
    graph: CUgraph,
    nodes: *mut CUgraphNode,
    n: *mut usize,
) -> CUresult {
    in_context(name!("cuGraphGetNodes"), |call| {
        let graph = known_graph(&call.state, graph)?;
        let list = call.graphs.get(&graph).map(|graph| graph.nodes.clone()).unwrap_or_default();
        if n.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        if nodes.is_null() {
            return put(n, list.len());
        }
        // SAFETY: the program passes the size of the array.
        let room = unsafe { n.read() };
        for i in 0..room {
            let node = list.get(i).map_or(CUgraphNode::NULL, |node| call.handle(*node));
            // SAFETY: the array has that many entries.
            unsafe { nodes.add(i).write(node) };
        }
        put(n, list.len().min(room))
    })
}

fn type_of(work: &NodeWork) -> c_uint {
    match work {
        NodeWork::Child(_) => CU_GRAPH_NODE_TYPE_GRAPH,
        NodeWork::While { .. } => CU_GRAPH_NODE_TYPE_CONDITIONAL,
        NodeWork::Single(Work::Kernel(_)) => CU_GRAPH_NODE_TYPE_KERNEL,
        NodeWork::Single(Work::Copy(_)) => CU_GRAPH_NODE_TYPE_MEMCPY,
        NodeWork::Single(Work::Fill(_)) => CU_GRAPH_NODE_TYPE_MEMSET,
        // CU_GRAPH_NODE_TYPE_HOST.
        NodeWork::Single(Work::Host(_)) => 3,
        NodeWork::Single(Work::Nothing | Work::Free(_) | Work::While(_)) => CU_GRAPH_NODE_TYPE_EMPTY,
    }
}

pub(crate) unsafe extern "C" fn node_get_type(node: CUgraphNode, kind: *mut c_uint) -> CUresult {
    in_context(name!("cuGraphNodeGetType"), |call| {
        let id = known_node(&call.state, node)?;
        put(kind, call.nodes.get(&id).map_or(CU_GRAPH_NODE_TYPE_EMPTY, |node| type_of(&node.work)))
    })
}

pub(crate) unsafe extern "C" fn destroy_node(node: CUgraphNode) -> CUresult {
    in_context(name!("cuGraphDestroyNode"), |call| {
        let id = known_node(&call.state, node)?;
        let Some(gone) = call.remove_node(id) else { return Ok(()) };
        if let Some(graph) = call.graphs.get_mut(&gone.graph) {
            graph.nodes.retain(|node| *node != id);
            graph.edges.retain(|(from, to, _)| *from != id && *to != id);
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn debug_dot_print(
    graph: CUgraph,
    path: *const c_char,
    _flags: c_uint,
) -> CUresult {
    if path.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the program passes a string that ends with a NUL.
    let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
    in_context(name!("cuGraphDebugDotPrint"), |call| {
        let id = known_graph(&call.state, graph)?;
        let graph = call.graphs.get(&id).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let mut text = String::from("digraph dot {\n");
        for node in &graph.nodes {
            let label = match call.nodes.get(node).map(|node| &node.work) {
                Some(NodeWork::Single(work)) => format!("{work:?}"),
                Some(NodeWork::While { condition, .. }) => format!("while {condition:#x}"),
                _ => "graph".to_owned(),
            };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  n{node} [label={label:?}];");
        }
        for (from, to, data) in &graph.edges {
            let style = if data.kind == CU_GRAPH_DEPENDENCY_TYPE_DEFAULT { "" } else { " [style=dashed]" };
            let _ = writeln!(text, "  n{from} -> n{to}{style};");
        }
        text.push_str("}\n");
        std::fs::write(&path, text).map_err(|_| CUresult::ERROR_OPERATING_SYSTEM)
    })
}
