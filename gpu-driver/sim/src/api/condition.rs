//! Conditions, and the nodes that repeat a body while one holds. Other conditional nodes (`IF`, `SWITCH`) are absent.

use std::ffi::c_uint;
use std::sync::Arc;

use gpu_driver::sys::*;

use crate::api::graph::{add, known_graph, new_graph};
use crate::api::params::expect_context;
use crate::call::{Call, Outcome, in_context, name, put};
use crate::handle::{Id, token};
use crate::objects::{Condition, NodeWork};

/// The greatest `CUgraphNodeType` of CUDA 13.
const LAST_NODE_TYPE: c_uint = 18;
/// `CUgraphConditionalNodeType`: one of several bodies.
const COND_TYPE_SWITCH: c_uint = 2;

pub(crate) unsafe extern "C" fn handle_create(
    handle: *mut CUgraphConditionalHandle,
    graph: CUgraph,
    context: CUcontext,
    default: c_uint,
    flags: c_uint,
) -> CUresult {
    in_context(name!("cuGraphConditionalHandleCreate", "{default}"), |call| {
        let graph = known_graph(&call.state, graph)?;
        let known = expect_context(call, context).is_ok();
        if !known || handle.is_null() || flags & !CU_GRAPH_COND_ASSIGN_DEFAULT != 0 {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let id = call.new_id()?;
        // A number like a handle, so that no other object has it, and no other driver.
        let number = token(call.serial, id).addr() as CUgraphConditionalHandle;
        let default = (flags == CU_GRAPH_COND_ASSIGN_DEFAULT).then_some(default);
        call.conditions.insert(number, Condition { graph, default, node: None });
        put(handle, number)
    })
}

/// Whether `graph` is `other`, or a body in it.
fn is_part_of(call: &Call<'_>, graph: Id, other: Id) -> bool {
    graph == other
        || call
            .graphs
            .get(&graph)
            .and_then(|graph| graph.body_of)
            .is_some_and(|outer| is_part_of(call, outer, other))
}

pub(crate) unsafe extern "C" fn add_node(
    node: *mut CUgraphNode,
    graph: CUgraph,
    deps: *const CUgraphNode,
    data: *const CUgraphEdgeData,
    n: usize,
    params: *mut CUgraphNodeParams,
) -> CUresult {
    in_context(name!("cuGraphAddNode", "{n}"), |call| {
        let invalid = Err(CUresult::ERROR_INVALID_VALUE);
        if params.is_null() {
            return invalid;
        }
        // SAFETY: the program passes a structure that lives during the call, initialised as far as it goes.
        let params = unsafe { &mut *params };
        if params.reserved0 != [0; 3] || params.reserved2 != 0 || params.kind > LAST_NODE_TYPE {
            return invalid;
        }
        if params.kind != CU_GRAPH_NODE_TYPE_CONDITIONAL {
            return Err(CUresult::ERROR_NOT_SUPPORTED);
        }
        for i in 0..if data.is_null() { 0 } else { n } {
            // SAFETY: the array has as many entries as that of dependencies.
            if unsafe { data.add(i).read() } != CUgraphEdgeData::default() {
                return invalid;
            }
        }
        // SAFETY: all of it is initialised: what the type does not use has to be zero.
        let unused = unsafe { params.value.pad }.into_iter().skip(4);
        // SAFETY: the value is that of the type.
        let conditional = unsafe { params.value.conditional };
        expect_loop(call, &conditional)?;
        if unused.into_iter().any(|word| word != 0) {
            return invalid;
        }
        let id = known_graph(&call.state, graph)?;
        let usable = call.conditions.get(&conditional.handle).filter(|condition| condition.node.is_none());
        if !usable.is_some_and(|condition| is_part_of(call, id, condition.graph)) {
            return invalid;
        }
        let body = new_graph(call, true, Some(id))?;
        let out = Arc::new(call.handle::<CUgraph>(body));
        let graphs = Arc::as_ptr(&out).cast_mut();
        let work = NodeWork::While { condition: conditional.handle, body, _out: out };
        let added = add(call, node, graph, (deps, n), work);
        let Ok(added) = added else {
            call.remove_graph(body);
            return added.map(|_| ());
        };
        if let Some(condition) = call.conditions.get_mut(&conditional.handle) {
            condition.node = Some(added);
        }
        params.value.conditional.graphs = graphs;
        Ok(())
    })
}

fn expect_loop(call: &Call<'_>, conditional: &CUDA_CONDITIONAL_NODE_PARAMS) -> Outcome {
    let CUDA_CONDITIONAL_NODE_PARAMS { kind, size, ctx, .. } = *conditional;
    match kind {
        CU_GRAPH_COND_TYPE_WHILE if size == 1 && expect_context(call, ctx).is_ok() => Ok(()),
        CU_GRAPH_COND_TYPE_IF | COND_TYPE_SWITCH => Err(CUresult::ERROR_NOT_SUPPORTED),
        _ => Err(CUresult::ERROR_INVALID_VALUE),
    }
}
