//! Nodes that are there already: what they follow, and new parameters for them.

use gpu_driver::sys::*;

use crate::api::graph::{HostNodeParams, host_of, known_graph, known_node};
use crate::api::params::{copy_of, fill_of, kernel_of};
use crate::call::{Call, Name, Outcome, in_context, name, put};
use crate::handle::Id;
use crate::objects::{Node, NodeWork};
use crate::work::{Fill, Work};

/// Writes nodes, with the data of their edges, into arrays of a size, or their number where there are no arrays.
///
/// # Safety
///
/// `n` must be null or hold the number of entries of the arrays, which may be null, the data alone, too.
unsafe fn list_out(
    call: &Call<'_>,
    list: &[(Id, CUgraphEdgeData)],
    nodes: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    n: *mut usize,
    has_data: bool,
) -> Outcome {
    if n.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    if nodes.is_null() {
        return put(n, list.len());
    }
    if has_data && data.is_null() && list.iter().any(|(_, data)| *data != CUgraphEdgeData::default()) {
        return Err(CUresult::ERROR_LOSSY_QUERY);
    }
    // SAFETY: the caller's promise.
    let room = unsafe { n.read() };
    for i in 0..room {
        let found = list.get(i);
        // SAFETY: the arrays have that many entries.
        unsafe {
            nodes.add(i).write(found.map_or(CUgraphNode::NULL, |(node, _)| call.handle(*node)));
            if !data.is_null() {
                data.add(i).write(found.map(|(_, data)| *data).unwrap_or_default());
            }
        }
    }
    put(n, list.len().min(room))
}

pub(crate) unsafe extern "C" fn get_root_nodes(
    graph: CUgraph,
    nodes: *mut CUgraphNode,
    n: *mut usize,
) -> CUresult {
    in_context(name!("cuGraphGetRootNodes"), |call| {
        let id = known_graph(&call.state, graph)?;
        let graph = call.graphs.get(&id).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let is_root = |node: &&Id| !graph.edges.iter().any(|(_, to, _)| to == *node);
        let roots = graph.nodes.iter().filter(is_root).map(|node| (*node, CUgraphEdgeData::default()));
        let roots: Vec<_> = roots.collect();
        // SAFETY: the caller's promise.
        unsafe { list_out(call, &roots, nodes, std::ptr::null_mut(), n, false) }
    })
}

/// The neighbours of a node: before it, or after.
///
/// # Safety
///
/// As for [`list_out`].
unsafe fn neighbours(
    name: Name<'_>,
    node: CUgraphNode,
    nodes: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    n: *mut usize,
    before: bool,
) -> CUresult {
    in_context(name, |call| {
        let node = known_node(&call.state, node)?;
        let graph = call.nodes.get(&node).and_then(|node| call.graphs.get(&node.graph));
        let edges = graph.ok_or(CUresult::ERROR_INVALID_VALUE)?.edges.iter();
        let ends =
            edges.map(|(from, to, data)| if before { (*to, *from, *data) } else { (*from, *to, *data) });
        let list: Vec<_> =
            ends.filter(|(own, ..)| *own == node).map(|(_, other, data)| (other, data)).collect();
        // SAFETY: the caller's promise.
        unsafe { list_out(call, &list, nodes, data, n, true) }
    })
}

pub(crate) unsafe extern "C" fn get_dependencies(
    node: CUgraphNode,
    nodes: *mut CUgraphNode,
    n: *mut usize,
) -> CUresult {
    // SAFETY: the caller's promise.
    unsafe { get_dependencies_v2(node, nodes, std::ptr::null_mut(), n) }
}

pub(crate) unsafe extern "C" fn get_dependencies_v2(
    node: CUgraphNode,
    nodes: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    n: *mut usize,
) -> CUresult {
    // SAFETY: the caller's promise.
    unsafe { neighbours(name!("cuGraphNodeGetDependencies"), node, nodes, data, n, true) }
}

pub(crate) unsafe extern "C" fn get_dependent_nodes(
    node: CUgraphNode,
    nodes: *mut CUgraphNode,
    n: *mut usize,
) -> CUresult {
    // SAFETY: the caller's promise.
    unsafe { get_dependent_nodes_v2(node, nodes, std::ptr::null_mut(), n) }
}

pub(crate) unsafe extern "C" fn get_dependent_nodes_v2(
    node: CUgraphNode,
    nodes: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    n: *mut usize,
) -> CUresult {
    // SAFETY: the caller's promise.
    unsafe { neighbours(name!("cuGraphNodeGetDependentNodes"), node, nodes, data, n, false) }
}

/// Gives a node of a definition the work that `make` says, which must be of its kind.
fn replace(
    name: Name<'_>,
    node: CUgraphNode,
    make: impl FnOnce(&mut Call<'_>, &Work) -> Outcome<Work>,
) -> CUresult {
    in_context(name, |call| {
        let id = known_node(&call.state, node)?;
        let old = match call.nodes.get(&id) {
            Some(Node { work: NodeWork::Single(old), .. }) => old.clone(),
            _ => return Err(CUresult::ERROR_INVALID_VALUE),
        };
        let new = make(call, &old)?;
        if std::mem::discriminant(&old) != std::mem::discriminant(&new) {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        if let Some(node) = call.nodes.get_mut(&id) {
            node.work = NodeWork::Single(new);
        }
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn kernel_set_params(
    node: CUgraphNode,
    params: *const CUDA_KERNEL_NODE_PARAMS_v2,
) -> CUresult {
    replace(name!("cuGraphKernelNodeSetParams"), node, |call, old| {
        // SAFETY: the caller's promise.
        let mut new = unsafe { kernel_of(call, params) }?;
        if let Work::Kernel(old) = old {
            // Attributes stay the node's.
            new.expect_cluster(call, old.cluster)?;
        }
        Ok(Work::Kernel(new))
    })
}

/// The work of a node.
fn work_of<'a>(call: &'a Call<'_>, node: CUgraphNode) -> Outcome<&'a Work> {
    match call.nodes.get(&known_node(&call.state, node)?) {
        Some(Node { work: NodeWork::Single(work), .. }) => Ok(work),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}

/// The arguments are the node's, and there until it takes others.
pub(crate) unsafe extern "C" fn kernel_get_params(
    node: CUgraphNode,
    params: *mut CUDA_KERNEL_NODE_PARAMS_v2,
) -> CUresult {
    in_context(name!("cuGraphKernelNodeGetParams"), |call| {
        let Work::Kernel(kernel) = work_of(call, node)? else { return Err(CUresult::ERROR_INVALID_VALUE) };
        let found = CUDA_KERNEL_NODE_PARAMS_v2 {
            func: call.handle(kernel.function),
            grid_dim: kernel.grid,
            block_dim: kernel.block,
            shared_mem_bytes: kernel.dynamic_shared,
            kernel_params: kernel.pointers.as_ptr().cast_mut().cast(),
            extra: std::ptr::null_mut(),
            kern: CUkernel::NULL,
            ctx: CUcontext::NULL,
        };
        put(params, found)
    })
}

pub(crate) unsafe extern "C" fn memset_get_params(
    node: CUgraphNode,
    params: *mut CUDA_MEMSET_NODE_PARAMS,
) -> CUresult {
    in_context(name!("cuGraphMemsetNodeGetParams"), |call| {
        let Work::Fill(fill) = work_of(call, node)? else { return Err(CUresult::ERROR_INVALID_VALUE) };
        let Fill { dst, value, element, width, height, pitch } = *fill;
        put(params, CUDA_MEMSET_NODE_PARAMS { dst, pitch, value, element_size: element, width, height })
    })
}

pub(crate) unsafe extern "C" fn memcpy_set_params(
    node: CUgraphNode,
    params: *const CUDA_MEMCPY3D_v2,
) -> CUresult {
    replace(name!("cuGraphMemcpyNodeSetParams"), node, |call, _| {
        // SAFETY: the caller's promise.
        unsafe { copy_of(call, params) }.map(Work::Copy)
    })
}

pub(crate) unsafe extern "C" fn memset_set_params(
    node: CUgraphNode,
    params: *const CUDA_MEMSET_NODE_PARAMS,
) -> CUresult {
    replace(name!("cuGraphMemsetNodeSetParams"), node, |call, _| {
        // SAFETY: the caller's promise.
        unsafe { fill_of(call, params) }.map(Work::Fill)
    })
}

pub(crate) unsafe extern "C" fn host_set_params(
    node: CUgraphNode,
    params: *const HostNodeParams,
) -> CUresult {
    // SAFETY: the caller's promise.
    replace(name!("cuGraphHostNodeSetParams"), node, |_, _| unsafe { host_of(params) })
}
