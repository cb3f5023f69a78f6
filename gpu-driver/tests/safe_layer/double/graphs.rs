//! Graphs. Kernel nodes copy their arguments, edges take the first edge's data for a whole call as driver 580 does.

use super::*;
use gpu_driver::sys::*;
use std::ffi::{CStr, c_char, c_uint};

pub extern "C" fn graph_create(graph: *mut CUgraph, _flags: c_uint) -> CUresult {
    answer_in_context("cuGraphCreate", String::new(), |s| {
        let handle = s.handle();
        s.graphs.insert(handle, GraphModel::default());
        put(graph, CUgraph(token(handle)))
    })
}

pub extern "C" fn graph_destroy(graph: CUgraph) -> CUresult {
    answer_in_context("cuGraphDestroy", String::new(), |s| {
        s.graphs.remove(&graph.0.addr()).map(|_| ()).ok_or(CUresult::ERROR_INVALID_VALUE)
    })
}

impl State {
    fn graph(&mut self, graph: CUgraph) -> Result<&mut GraphModel, CUresult> {
        self.graphs.get_mut(&graph.0.addr()).ok_or(CUresult::ERROR_INVALID_VALUE)
    }

    fn add(
        &mut self,
        node: *mut CUgraphNode,
        graph: CUgraph,
        deps: *const CUgraphNode,
        n: usize,
        work: Work,
    ) -> Outcome {
        let handle = self.handle();
        let model = self.graph(graph)?;
        for i in 0..n {
            // SAFETY: the safe layer passes an array of `n` nodes.
            let from = unsafe { deps.add(i).read() }.0.addr();
            if !model.nodes.contains(&from) {
                return Err(CUresult::ERROR_INVALID_VALUE);
            }
            model.edges.push((from, handle, CUgraphEdgeData::default()));
        }
        model.nodes.push(handle);
        self.nodes.insert(handle, work);
        put(node, CUgraphNode(token(handle)))
    }

    fn works(&mut self, graph: CUgraph) -> Result<Vec<(usize, Work)>, CUresult> {
        let order = topological(self.graph(graph)?)?;
        Ok(order.into_iter().map(|n| (n, self.nodes[&n].clone())).collect())
    }
}

type Nodes = *const CUgraphNode;

pub extern "C" fn graph_add_kernel_node(
    node: *mut CUgraphNode,
    graph: CUgraph,
    deps: Nodes,
    n: usize,
    params: *const CUDA_KERNEL_NODE_PARAMS_v2,
) -> CUresult {
    answer_in_context("cuGraphAddKernelNode", n.to_string(), |s| {
        let work = Work::Kernel(s.capture_node(params)?);
        s.add(node, graph, deps, n, work)
    })
}

pub extern "C" fn graph_kernel_node_set_attribute(
    node: CUgraphNode,
    attribute: c_uint,
    value: *const CUlaunchAttributeValue,
) -> CUresult {
    answer_in_context("cuGraphKernelNodeSetAttribute", attribute.to_string(), |s| {
        match s.nodes.get_mut(&node.0.addr()) {
            Some(Work::Kernel(launch)) => {
                // SAFETY: the safe layer passes a value that lives during the call and is fully initialised.
                launch.attributes.push((attribute, unsafe { (*value).cluster_dim }));
                Ok(())
            }
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    })
}

/// # Safety
///
/// `params` must point to a structure that lives during the call.
unsafe fn copy_of(params: *const CUDA_MEMCPY3D_v2) -> Result<Work, CUresult> {
    // SAFETY: the caller's promise.
    let p = unsafe { &*params };
    if p.height != 1 || p.depth != 1 || !p.reserved0.is_null() || !p.reserved1.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    let dst =
        if p.dst_memory_type == 2 { Address::Device(p.dst_device) } else { Address::Host(p.dst_host.addr()) };
    let src =
        if p.src_memory_type == 2 { Address::Device(p.src_device) } else { Address::Host(p.src_host.addr()) };
    Ok(Work::Copy { dst, src, bytes: p.width_in_bytes })
}

pub extern "C" fn graph_add_memcpy_node(
    node: *mut CUgraphNode,
    graph: CUgraph,
    deps: Nodes,
    n: usize,
    params: *const CUDA_MEMCPY3D_v2,
    context: CUcontext,
) -> CUresult {
    answer_in_context("cuGraphAddMemcpyNode", n.to_string(), |s| {
        if context.0.addr() != current_context() {
            return Err(CUresult::ERROR_INVALID_CONTEXT);
        }
        // SAFETY: the safe layer passes a structure that lives during the call.
        let work = unsafe { copy_of(params) }?;
        s.add(node, graph, deps, n, work)
    })
}

/// # Safety
///
/// `params` must point to a structure that lives during the call.
unsafe fn fill_of(params: *const CUDA_MEMSET_NODE_PARAMS) -> Result<Work, CUresult> {
    // SAFETY: the caller's promise.
    let p = unsafe { &*params };
    if p.height != 1 || ![1, 2, 4].contains(&p.element_size) {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    Ok(Work::Fill { dst: p.dst, value: p.value, element: p.element_size, width: p.width })
}

pub extern "C" fn graph_add_memset_node(
    node: *mut CUgraphNode,
    graph: CUgraph,
    deps: Nodes,
    n: usize,
    params: *const CUDA_MEMSET_NODE_PARAMS,
    _context: CUcontext,
) -> CUresult {
    answer_in_context("cuGraphAddMemsetNode", n.to_string(), |s| {
        // SAFETY: the safe layer passes a structure that lives during the call.
        let work = unsafe { fill_of(params) }?;
        s.add(node, graph, deps, n, work)
    })
}

pub extern "C" fn graph_add_empty_node(
    node: *mut CUgraphNode,
    graph: CUgraph,
    deps: Nodes,
    n: usize,
) -> CUresult {
    answer_in_context("cuGraphAddEmptyNode", n.to_string(), |s| s.add(node, graph, deps, n, Work::Nothing))
}

pub extern "C" fn graph_add_child_graph_node(
    node: *mut CUgraphNode,
    graph: CUgraph,
    deps: Nodes,
    n: usize,
    child: CUgraph,
) -> CUresult {
    answer_in_context("cuGraphAddChildGraphNode", n.to_string(), |s| {
        let inner = s.works(child)?.into_iter().map(|(_, work)| work).collect();
        s.add(node, graph, deps, n, Work::Child(inner))
    })
}

pub extern "C" fn graph_add_dependencies(graph: CUgraph, from: Nodes, to: Nodes, n: usize) -> CUresult {
    add_edges("cuGraphAddDependencies", graph, from, to, std::ptr::null(), n)
}

pub extern "C" fn graph_add_dependencies_v2(
    graph: CUgraph,
    from: Nodes,
    to: Nodes,
    data: *const CUgraphEdgeData,
    n: usize,
) -> CUresult {
    add_edges("cuGraphAddDependencies_v2", graph, from, to, data, n)
}

fn add_edges(
    name: &'static str,
    graph: CUgraph,
    from: Nodes,
    to: Nodes,
    data: *const CUgraphEdgeData,
    n: usize,
) -> CUresult {
    answer_in_context(name, n.to_string(), |s| {
        let lost = s.edges_lose_data || data.is_null() || n == 0;
        // SAFETY: the array has at least one entry.
        let first = if lost { CUgraphEdgeData::default() } else { unsafe { data.read() } };
        let model = s.graph(graph)?;
        for i in 0..n {
            // SAFETY: both arrays have `n` entries.
            let (a, b) = unsafe { (from.add(i).read().0.addr(), to.add(i).read().0.addr()) };
            if !model.nodes.contains(&a) || !model.nodes.contains(&b) || a == b {
                return Err(CUresult::ERROR_INVALID_VALUE);
            }
            model.edges.push((a, b, first));
        }
        Ok(())
    })
}

pub extern "C" fn graph_get_nodes(graph: CUgraph, nodes: *mut CUgraphNode, n: *mut usize) -> CUresult {
    answer_in_context("cuGraphGetNodes", String::new(), |s| {
        let list = s.graph(graph)?.nodes.clone();
        if !nodes.is_null() {
            for (i, &node) in list.iter().enumerate() {
                // SAFETY: the array has as many entries as the count that was asked for before.
                unsafe { nodes.add(i).write(CUgraphNode(token(node))) };
            }
        }
        put(n, list.len())
    })
}

pub extern "C" fn graph_get_edges(
    graph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    n: *mut usize,
) -> CUresult {
    get_edges("cuGraphGetEdges", graph, from, to, std::ptr::null_mut(), n)
}

pub extern "C" fn graph_get_edges_v2(
    graph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    n: *mut usize,
) -> CUresult {
    get_edges("cuGraphGetEdges_v2", graph, from, to, data, n)
}

fn get_edges(
    name: &'static str,
    graph: CUgraph,
    from: *mut CUgraphNode,
    to: *mut CUgraphNode,
    data: *mut CUgraphEdgeData,
    n: *mut usize,
) -> CUresult {
    answer_in_context(name, String::new(), |s| {
        let list = s.graph(graph)?.edges.clone();
        if !from.is_null() {
            if data.is_null() && list.iter().any(|e| e.2 != CUgraphEdgeData::default()) {
                return Err(CUresult::ERROR_LOSSY_QUERY);
            }
            for (i, &(a, b, d)) in list.iter().enumerate() {
                // SAFETY: the arrays have as many entries as the count that was asked for before.
                unsafe {
                    from.add(i).write(CUgraphNode(token(a)));
                    to.add(i).write(CUgraphNode(token(b)));
                    if !data.is_null() {
                        data.add(i).write(d);
                    }
                }
            }
        }
        put(n, list.len())
    })
}

pub extern "C" fn graph_node_get_type(node: CUgraphNode, kind: *mut c_uint) -> CUresult {
    answer_in_context("cuGraphNodeGetType", String::new(), |s| {
        let number = match s.nodes.get(&node.0.addr()).ok_or(CUresult::ERROR_INVALID_VALUE)? {
            Work::Kernel(_) => 0,
            Work::Copy { .. } => 1,
            Work::Fill { .. } => 2,
            Work::Child(_) => 4,
            Work::Nothing => 5,
        };
        put(kind, number)
    })
}

pub extern "C" fn graph_debug_dot_print(graph: CUgraph, path: *const c_char, _flags: c_uint) -> CUresult {
    answer_in_context("cuGraphDebugDotPrint", String::new(), |s| {
        let nodes = s.graph(graph)?.nodes.len();
        // SAFETY: the safe layer passes a NUL-terminated string.
        let path = unsafe { CStr::from_ptr(path) }.to_string_lossy().into_owned();
        let text = format!("digraph dot {{ /* {nodes} nodes */ }}\n");
        std::fs::write(path, text).map_err(|_| CUresult::ERROR_OPERATING_SYSTEM)
    })
}

pub extern "C" fn graph_instantiate_with_flags(
    exec: *mut CUgraphExec,
    graph: CUgraph,
    _flags: u64,
) -> CUresult {
    answer_in_context("cuGraphInstantiateWithFlags", String::new(), |s| instantiate(s, exec, graph))
}

pub extern "C" fn graph_instantiate_with_params(
    exec: *mut CUgraphExec,
    graph: CUgraph,
    params: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
) -> CUresult {
    answer_in_context("cuGraphInstantiateWithParams", String::new(), |s| {
        let bad =
            s.works(graph)?.into_iter().find(|(_, w)| matches!(w, Work::Kernel(l) if l.function == "unfit"));
        if let Some((node, _)) = bad {
            // SAFETY: the safe layer passes a structure that lives during the call.
            unsafe {
                (*params).error_node = CUgraphNode(token(node));
                (*params).result = 3;
            }
            return Err(CUresult::ERROR_NOT_SUPPORTED);
        }
        instantiate(s, exec, graph)
    })
}

fn instantiate(s: &mut State, exec: *mut CUgraphExec, graph: CUgraph) -> Outcome {
    let nodes = s.works(graph)?;
    let handle = s.handle();
    s.execs.insert(handle, ExecModel { nodes });
    put(exec, CUgraphExec(token(handle)))
}

pub extern "C" fn graph_exec_destroy(exec: CUgraphExec) -> CUresult {
    answer_in_context("cuGraphExecDestroy", String::new(), |s| {
        s.execs.remove(&exec.0.addr()).map(|_| ()).ok_or(CUresult::ERROR_INVALID_VALUE)
    })
}

pub extern "C" fn graph_upload(exec: CUgraphExec, stream: CUstream) -> CUresult {
    answer_in_context("cuGraphUpload", String::new(), |s| {
        alive(&s.streams, stream.0.addr())?;
        alive(&s.execs, exec.0.addr())
    })
}

pub extern "C" fn graph_launch(exec: CUgraphExec, stream: CUstream) -> CUresult {
    answer_in_context("cuGraphLaunch", String::new(), |s| {
        alive(&s.streams, stream.0.addr())?;
        let list = s.execs.get(&exec.0.addr()).ok_or(CUresult::ERROR_INVALID_VALUE)?.nodes.clone();
        list.iter().try_for_each(|(_, work)| s.run(work))
    })
}

impl State {
    /// The work of `node` in an instantiated graph, if the new work is of the same type.
    fn replace(&mut self, exec: CUgraphExec, node: CUgraphNode, work: Work) -> Outcome {
        let exec = self.execs.get_mut(&exec.0.addr()).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        match exec.nodes.iter_mut().find(|(n, _)| *n == node.0.addr()) {
            Some((_, old)) if std::mem::discriminant(old) == std::mem::discriminant(&work) => {
                *old = work;
                Ok(())
            }
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        }
    }
}

pub extern "C" fn graph_exec_kernel_node_set_params(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: *const CUDA_KERNEL_NODE_PARAMS_v2,
) -> CUresult {
    answer_in_context("cuGraphExecKernelNodeSetParams", String::new(), |s| {
        let work = Work::Kernel(s.capture_node(params)?);
        s.replace(exec, node, work)
    })
}

pub extern "C" fn graph_exec_memcpy_node_set_params(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: *const CUDA_MEMCPY3D_v2,
    _context: CUcontext,
) -> CUresult {
    answer_in_context("cuGraphExecMemcpyNodeSetParams", String::new(), |s| {
        // SAFETY: the safe layer passes a structure that lives during the call.
        let work = unsafe { copy_of(params) }?;
        s.replace(exec, node, work)
    })
}

pub extern "C" fn graph_exec_memset_node_set_params(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: *const CUDA_MEMSET_NODE_PARAMS,
    _context: CUcontext,
) -> CUresult {
    answer_in_context("cuGraphExecMemsetNodeSetParams", String::new(), |s| {
        // SAFETY: the safe layer passes a structure that lives during the call.
        let work = unsafe { fill_of(params) }?;
        s.replace(exec, node, work)
    })
}

pub extern "C" fn graph_exec_update(
    exec: CUgraphExec,
    graph: CUgraph,
    info: *mut CUgraphExecUpdateResultInfo,
) -> CUresult {
    answer_in_context("cuGraphExecUpdate", String::new(), |s| {
        let new = s.works(graph)?;
        let old = s.execs.get_mut(&exec.0.addr()).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let refuse = |result, node: usize| {
            let error_node = CUgraphNode(token(node));
            put(
                info,
                CUgraphExecUpdateResultInfo { result, error_node, error_from_node: CUgraphNode::NULL },
            )?;
            Err(CUresult::ERROR_GRAPH_EXEC_UPDATE_FAILURE)
        };
        if old.nodes.len() != new.len() {
            return refuse(2, 0);
        }
        for ((_, a), (node, b)) in old.nodes.iter().zip(&new) {
            if std::mem::discriminant(a) != std::mem::discriminant(b) {
                return refuse(3, *node);
            }
        }
        for (slot, (_, work)) in old.nodes.iter_mut().zip(new) {
            slot.1 = work;
        }
        Ok(())
    })
}
