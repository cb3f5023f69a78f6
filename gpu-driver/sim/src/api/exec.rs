//! Instantiated graphs: made from definitions, updated, launched.
//!
//! A launch queues every node after its predecessors and nothing else: nodes without a path between them run in any
//! order. Launches of one instantiated graph follow each other, whatever their streams.

use std::collections::BTreeMap;
use std::ffi::{c_char, c_uint};
use std::sync::Arc;

use gpu_driver::sys::*;

use crate::api::graph::{HostNodeParams, host_of, known_graph, known_node};
use crate::api::params::{copy_of, expect_context, fill_of, kernel_of};
use crate::api::user_object::References;
use crate::call::{Call, Outcome, in_context, name, put, put_if, releasing};
use crate::handle::Id;
use crate::launched::{Conditions, queue_body};
use crate::objects::{Exec, ExecBody, ExecNode, ExecWork, Node, NodeWork};
use crate::queue::Dependency;
use crate::state::State;
use crate::work::{Copy, Place, Work};

/// `CUgraphInstantiateResult`.
const INSTANTIATE_ERROR: u32 = 1;
const INSTANTIATE_INVALID_STRUCTURE: u32 = 2;
const INSTANTIATE_MULTIPLE_CONTEXTS: u32 = 4;
const INSTANTIATE_CONDITION_UNUSED: u32 = 5;

/// `CUgraphExecUpdateResult`.
const UPDATE_TOPOLOGY_CHANGED: u32 = 2;
const UPDATE_NODE_TYPE_CHANGED: u32 = 3;
const UPDATE_PARAMETERS_CHANGED: u32 = 5;
const UPDATE_NOT_SUPPORTED: u32 = 6;
const UPDATE_ATTRIBUTES_CHANGED: u32 = 8;

/// Instantiation flags that change nothing here: automatic free, upload, use of priorities.
const FLAGS: u64 = 1 | 2 | 8;

/// Why a graph cannot be instantiated, and which node is at fault.
struct Unfit {
    code: CUresult,
    result: u32,
    node: Id,
}

/// Nodes in an order that their edges allow, children and bodies within. `in_loop` says whether it is, or is in, the body
/// of a loop, which takes kernels, copies, fills and nothing that the host does.
fn body(state: &State, context: Id, graph: Id, in_loop: bool) -> Result<ExecBody, Unfit> {
    let unfit = |code, result, node| Unfit { code, result, node };
    let Some(graph) = state.graphs.get(&graph) else {
        return Err(unfit(CUresult::ERROR_INVALID_VALUE, INSTANTIATE_INVALID_STRUCTURE, 0));
    };
    let mut waiting: BTreeMap<Id, usize> = graph.nodes.iter().map(|node| (*node, 0)).collect();
    for (_, to, _) in &graph.edges {
        *waiting.entry(*to).or_default() += 1;
    }
    let mut order: Vec<Id> = graph.nodes.iter().copied().filter(|node| waiting[node] == 0).collect();
    let mut next = 0;
    while let Some(node) = order.get(next).copied() {
        next += 1;
        for (_, to, _) in graph.edges.iter().filter(|(from, _, _)| *from == node) {
            if let Some(n) = waiting.get_mut(to) {
                *n -= 1;
                if *n == 0 {
                    order.push(*to);
                }
            }
        }
    }
    if let Some(stuck) = graph.nodes.iter().find(|node| !order.contains(node)) {
        return Err(unfit(CUresult::ERROR_INVALID_VALUE, INSTANTIATE_INVALID_STRUCTURE, *stuck));
    }
    let mut nodes = Vec::with_capacity(order.len());
    for id in &order {
        let work = match state.nodes.get(id).map(|node| &node.work) {
            Some(NodeWork::Child(child)) => ExecWork::Child(body(state, context, *child, in_loop)?),
            Some(NodeWork::While { condition, body: inner, .. }) => {
                ExecWork::While(*condition, Arc::new(body(state, context, *inner, true)?))
            }
            Some(NodeWork::Single(Work::Host(_))) if in_loop => {
                return Err(unfit(CUresult::ERROR_NOT_SUPPORTED, INSTANTIATE_ERROR, *id));
            }
            Some(NodeWork::Single(work)) => {
                if let Work::Kernel(kernel) = work {
                    let other = state.functions.get(&kernel.function).is_some_and(|f| f.context != context);
                    if other {
                        return Err(unfit(CUresult::ERROR_NOT_SUPPORTED, INSTANTIATE_MULTIPLE_CONTEXTS, *id));
                    }
                }
                ExecWork::Single(work.clone())
            }
            None => return Err(unfit(CUresult::ERROR_INVALID_VALUE, INSTANTIATE_INVALID_STRUCTURE, *id)),
        };
        nodes.push(ExecNode { node: *id, work });
    }
    let at = |node: Id| order.iter().position(|id| *id == node);
    let edges =
        graph.edges.iter().filter_map(|(from, to, data)| Some((at(*from)?, at(*to)?, *data))).collect();
    Ok(ExecBody { nodes, edges })
}

/// The conditions of a graph and of the bodies in it, each with its value at a launch.
fn conditions(
    state: &State,
    graph: Id,
    found: &mut Vec<(CUgraphConditionalHandle, Option<u32>)>,
) -> Result<(), Unfit> {
    for (handle, condition) in state.conditions.iter().filter(|(_, condition)| condition.graph == graph) {
        if condition.node.is_none() {
            let (code, result) = (CUresult::ERROR_INVALID_VALUE, INSTANTIATE_CONDITION_UNUSED);
            return Err(Unfit { code, result, node: 0 });
        }
        found.push((*handle, condition.default));
    }
    for node in state.graphs.get(&graph).into_iter().flat_map(|graph| &graph.nodes) {
        if let Some(Node { work: NodeWork::While { body, .. }, .. }) = state.nodes.get(node) {
            conditions(state, *body, found)?;
        }
    }
    Ok(())
}

/// What a graph keeps for the program, with its children and bodies.
fn kept(state: &State, graph: Id) -> References {
    let Some(graph) = state.graphs.get(&graph) else { return References::new() };
    let mut found = graph.objects.clone();
    for node in &graph.nodes {
        let inner = match state.nodes.get(node).map(|node| &node.work) {
            Some(NodeWork::Child(child)) => kept(state, *child),
            Some(NodeWork::While { body, .. }) => kept(state, *body),
            _ => continue,
        };
        for (object, count) in inner {
            *found.entry(object).or_default() += count;
        }
    }
    found
}

fn instantiate(call: &mut Call<'_>, exec: *mut CUgraphExec, graph: CUgraph, flags: u64) -> Result<(), Unfit> {
    let failed = |code| Unfit { code, result: INSTANTIATE_ERROR, node: 0 };
    let graph = known_graph(&call.state, graph).map_err(failed)?;
    let is_body = call.graphs.get(&graph).is_some_and(|graph| graph.body_of.is_some());
    if exec.is_null() || flags & !FLAGS != 0 || is_body {
        return Err(failed(CUresult::ERROR_INVALID_VALUE));
    }
    let context = call.context;
    let body = body(&call.state, context, graph, false)?;
    let mut values = Vec::new();
    conditions(&call.state, graph, &mut values)?;
    // With conditional nodes there is one instantiated graph at a time. Which code says so is not documented.
    if !values.is_empty() && call.execs.values().any(|exec| exec.graph == graph) {
        return Err(failed(CUresult::ERROR_NOT_SUPPORTED));
    }
    let id = call.new_id().map_err(failed)?;
    let objects = kept(&call.state, graph);
    call.retain_objects(&objects);
    call.execs.insert(id, Exec { context, graph, body, conditions: values, last: None, objects });
    put(exec, call.handle(id)).map_err(failed)
}

pub(crate) unsafe extern "C" fn instantiate_with_flags(
    exec: *mut CUgraphExec,
    graph: CUgraph,
    flags: u64,
) -> CUresult {
    in_context(name!("cuGraphInstantiateWithFlags"), |call| {
        instantiate(call, exec, graph, flags).map_err(|unfit| unfit.code)
    })
}

pub(crate) unsafe extern "C" fn instantiate_with_params(
    exec: *mut CUgraphExec,
    graph: CUgraph,
    params: *mut CUDA_GRAPH_INSTANTIATE_PARAMS,
) -> CUresult {
    in_context(name!("cuGraphInstantiateWithParams"), |call| {
        if params.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        // SAFETY: the program passes a structure that lives during the call.
        let params = unsafe { &mut *params };
        let made = instantiate(call, exec, graph, params.flags);
        let (result, node) = made.as_ref().err().map_or((0, 0), |unfit| (unfit.result, unfit.node));
        params.result = result;
        params.error_node = if node == 0 { CUgraphNode::NULL } else { call.handle(node) };
        made.map_err(|unfit| unfit.code)
    })
}

/// As programs of CUDA 11 call it: with the node at fault, and a text that says nothing more.
pub(crate) unsafe extern "C" fn instantiate_v1(
    exec: *mut CUgraphExec,
    graph: CUgraph,
    node: *mut CUgraphNode,
    log: *mut c_char,
    room: usize,
) -> CUresult {
    in_context(name!("cuGraphInstantiate"), |call| {
        let made = instantiate(call, exec, graph, 0);
        if room > 0 {
            put_if(log, 0);
        }
        let fault = made.as_ref().err().map_or(0, |unfit| unfit.node);
        put_if(node, if fault == 0 { CUgraphNode::NULL } else { call.handle(fault) });
        made.map_err(|unfit| unfit.code)
    })
}

fn known_exec(state: &State, exec: CUgraphExec) -> Outcome<Id> {
    let id = state.id_of(exec).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
    if state.execs.contains_key(&id) { Ok(id) } else { Err(CUresult::ERROR_INVALID_VALUE) }
}

/// What is queued of it still runs.
pub(crate) unsafe extern "C" fn destroy(exec: CUgraphExec) -> CUresult {
    releasing(name!("cuGraphExecDestroy"), |call| {
        let id = known_exec(&call.state, exec)?;
        call.remove_exec(id);
        Ok(())
    })
}

pub(crate) unsafe extern "C" fn upload(exec: CUgraphExec, stream: CUstream) -> CUresult {
    in_context(name!("cuGraphUpload"), |call| {
        known_exec(&call.state, exec)?;
        let stream = call.own_stream(stream)?;
        call.expect_uncaptured(stream)?;
        call.submit(stream, Work::Nothing, false).map(|_| ())
    })
}

pub(crate) unsafe extern "C" fn launch(exec: CUgraphExec, stream: CUstream) -> CUresult {
    in_context(name!("cuGraphLaunch"), |call| {
        let id = known_exec(&call.state, exec)?;
        let stream = call.own_stream(stream)?;
        let context = call.context;
        let exec = call.execs.get(&id).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let (body, last) = (exec.body.clone(), exec.last.clone());
        if let Some(part) = call.part(stream).cloned() {
            call.expect_whole(part.capture)?;
            let objects = call.execs.get(&id).map(|exec| exec.objects.clone()).unwrap_or_default();
            let child = call.graph_of(&body)?;
            call.retain_objects(&objects);
            if let Some(child) = call.graphs.get_mut(&child) {
                child.objects = objects;
            }
            return call.note(stream, &part, NodeWork::Child(child), false);
        }
        if stream.is_none() {
            call.expect_free_legacy()?;
        }
        let exec = call.execs.get(&id).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let conditions = Arc::new(Conditions::new(&exec.conditions));
        let after = last.into_iter().map(Dependency::full).collect();
        let begin = call.state.queue_in(context, stream, after, Work::Nothing, false)?;
        let now = call.now_ns;
        let end = queue_body(&mut call.queue, context, now, &body, &conditions, &begin);
        call.state.set_tail(context, stream, &end, false);
        if let Some(exec) = call.execs.get_mut(&id) {
            exec.last = Some(end);
        }
        call.sim.relieve(&mut call.state);
        Ok(())
    })
}

/// The work of a node in a graph, its children or bodies.
fn slot(body: &mut ExecBody, node: Id) -> Option<&mut ExecWork> {
    for slot in &mut body.nodes {
        if slot.node == node {
            return Some(&mut slot.work);
        }
        let inner = match &mut slot.work {
            ExecWork::Single(_) => None,
            ExecWork::Child(child) => Some(child),
            // What is queued keeps the body that it was queued with.
            ExecWork::While(_, body) => Some(Arc::make_mut(body)),
        };
        if let Some(found) = inner.and_then(|inner| self::slot(inner, node)) {
            return Some(found);
        }
    }
    None
}

/// Replaces the work of a node by what `make` says about it.
fn replace(
    call: &mut Call<'_>,
    exec: CUgraphExec,
    node: CUgraphNode,
    make: impl FnOnce(&Call<'_>, &Work) -> Outcome<Work>,
) -> Outcome {
    let id = known_exec(&call.state, exec)?;
    let node = known_node(&call.state, node)?;
    let mut body = call.execs.get(&id).map(|exec| exec.body.clone()).ok_or(CUresult::ERROR_INVALID_VALUE)?;
    match slot(&mut body, node) {
        Some(ExecWork::Single(work)) => *work = make(call, work)?,
        _ => return Err(CUresult::ERROR_INVALID_VALUE),
    }
    if let Some(exec) = call.execs.get_mut(&id) {
        exec.body = body;
    }
    Ok(())
}

pub(crate) unsafe extern "C" fn kernel_node_set_params(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: *const CUDA_KERNEL_NODE_PARAMS_v2,
) -> CUresult {
    in_context(name!("cuGraphExecKernelNodeSetParams"), |call| {
        // SAFETY: the caller's promise.
        let mut new = unsafe { kernel_of(call, params) }?;
        replace(call, exec, node, |call, old| {
            let Work::Kernel(old) = old else { return Err(CUresult::ERROR_INVALID_VALUE) };
            // Attributes stay the node's.
            new.expect_cluster(call, old.cluster)?;
            Ok(Work::Kernel(new))
        })
    })
}

/// Whether both ends of two copies are memory of the same kinds.
fn same_kinds(a: &Copy, b: &Copy) -> bool {
    let on_device = |place: &Place| matches!(place, Place::Device(_));
    on_device(&a.dst) == on_device(&b.dst) && on_device(&a.src) == on_device(&b.src)
}

pub(crate) unsafe extern "C" fn memcpy_node_set_params(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: *const CUDA_MEMCPY3D_v2,
    context: CUcontext,
) -> CUresult {
    in_context(name!("cuGraphExecMemcpyNodeSetParams"), |call| {
        expect_context(call, context)?;
        // SAFETY: the caller's promise.
        let new = unsafe { copy_of(call, params) }?;
        replace(call, exec, node, |_, old| match old {
            Work::Copy(old) if same_kinds(old, &new) => Ok(Work::Copy(new)),
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        })
    })
}

pub(crate) unsafe extern "C" fn host_node_set_params(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: *const HostNodeParams,
) -> CUresult {
    in_context(name!("cuGraphExecHostNodeSetParams"), |call| {
        // SAFETY: the caller's promise.
        let new = unsafe { host_of(params) }?;
        replace(call, exec, node, |_, old| match old {
            Work::Host(_) => Ok(new),
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        })
    })
}

pub(crate) unsafe extern "C" fn memset_node_set_params(
    exec: CUgraphExec,
    node: CUgraphNode,
    params: *const CUDA_MEMSET_NODE_PARAMS,
    context: CUcontext,
) -> CUresult {
    in_context(name!("cuGraphExecMemsetNodeSetParams"), |call| {
        expect_context(call, context)?;
        // SAFETY: the caller's promise.
        let new = unsafe { fill_of(call, params) }?;
        replace(call, exec, node, |_, old| match old {
            Work::Fill(_) => Ok(Work::Fill(new)),
            _ => Err(CUresult::ERROR_INVALID_VALUE),
        })
    })
}

/// Puts new work in the place of old, or says what an update cannot change, and at which node of the new graph.
fn merge(old: &mut ExecBody, new: &ExecBody) -> Result<(), (u32, Id)> {
    let last = new.nodes.last().map_or(0, |node| node.node);
    if old.nodes.len() != new.nodes.len() || old.edges.len() != new.edges.len() {
        return Err((UPDATE_TOPOLOGY_CHANGED, last));
    }
    for (was, is) in old.nodes.iter_mut().zip(&new.nodes) {
        match (&mut was.work, &is.work) {
            (ExecWork::Child(was), ExecWork::Child(is)) => merge(was, is)?,
            // A driver can update bodies. Here nobody asks for it.
            (ExecWork::While(..), ExecWork::While(..)) => return Err((UPDATE_NOT_SUPPORTED, is.node)),
            (ExecWork::Single(Work::Kernel(was)), ExecWork::Single(Work::Kernel(is_kernel))) => {
                if was.cluster != is_kernel.cluster {
                    return Err((UPDATE_ATTRIBUTES_CHANGED, is.node));
                }
                *was = is_kernel.clone();
            }
            (ExecWork::Single(Work::Copy(was)), ExecWork::Single(Work::Copy(copy))) => {
                if !same_kinds(was, copy) {
                    return Err((UPDATE_PARAMETERS_CHANGED, is.node));
                }
                *was = copy.clone();
            }
            (ExecWork::Single(was), ExecWork::Single(work))
                if std::mem::discriminant(was) == std::mem::discriminant(work) =>
            {
                *was = work.clone();
            }
            _ => return Err((UPDATE_NODE_TYPE_CHANGED, is.node)),
        }
    }
    let mut edges = [old.edges.clone(), new.edges.clone()];
    for list in &mut edges {
        list.sort_by_key(|(from, to, data)| (*from, *to, data.kind, data.from_port, data.to_port));
    }
    if edges[0] != edges[1] {
        return Err((UPDATE_TOPOLOGY_CHANGED, last));
    }
    Ok(())
}

/// As programs of CUDA 11 call it.
pub(crate) unsafe extern "C" fn update_v1(
    exec: CUgraphExec,
    graph: CUgraph,
    node: *mut CUgraphNode,
    result: *mut c_uint,
) -> CUresult {
    let null = CUgraphNode::NULL;
    let mut info = CUgraphExecUpdateResultInfo { result: 0, error_node: null, error_from_node: null };
    // SAFETY: the caller's promise; the result is a local.
    let code = unsafe { update(exec, graph, &mut info) };
    put_if(node, info.error_node);
    put_if(result, info.result);
    code
}

pub(crate) unsafe extern "C" fn update(
    exec: CUgraphExec,
    graph: CUgraph,
    info: *mut CUgraphExecUpdateResultInfo,
) -> CUresult {
    in_context(name!("cuGraphExecUpdate"), |call| {
        let id = known_exec(&call.state, exec)?;
        let graph = known_graph(&call.state, graph)?;
        let context = call.context;
        let new = body(&call.state, context, graph, false).map_err(|unfit| unfit.code)?;
        let exec = call.execs.get(&id).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let mut merged = exec.body.clone();
        let outcome = merge(&mut merged, &new);
        let (result, node) = outcome.err().unwrap_or((0, 0));
        let error_node = if node == 0 { CUgraphNode::NULL } else { call.handle(node) };
        put_if(info, CUgraphExecUpdateResultInfo { result, error_node, error_from_node: CUgraphNode::NULL });
        if outcome.is_err() {
            return Err(CUresult::ERROR_GRAPH_EXEC_UPDATE_FAILURE);
        }
        if let Some(exec) = call.execs.get_mut(&id) {
            exec.body = merged;
        }
        Ok(())
    })
}
