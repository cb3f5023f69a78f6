//! Nodes of graphs, and objects that graphs keep for the program; through the C library in a process of its own.

use std::ffi::{c_char, c_uint, c_void};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicU32, Ordering};

use gpu_driver::sys::*;

use crate::c_api::{Library, call, ok, refused, started};
use crate::library::{in_process, installed, is_child};

fn library(test: &str) -> Option<Library> {
    if is_child() {
        let mut context = CUcontext::NULL;
        return Some(started(&mut 0, &mut context));
    }
    let (_folder, path) = installed();
    in_process(&format!("nodes::{test}"), &[], &path);
    None
}

/// `CUDA_HOST_NODE_PARAMS`: a function that adds one to a counter.
#[repr(C)]
struct Host<'a> {
    function: extern "C" fn(*mut c_void),
    counter: &'a AtomicU32,
}

extern "C" fn count(data: *mut c_void) {
    // SAFETY: the test passes the address of a counter that outlives everything that counts.
    unsafe { &*data.cast::<AtomicU32>() }.fetch_add(1, Ordering::Relaxed);
}

fn add(l: &Library, graph: CUgraph, after: &[CUgraphNode], counter: &AtomicU32) -> CUgraphNode {
    let (mut node, host) = (CUgraphNode::NULL, Host { function: count, counter });
    ok!(l, "cuGraphAddHostNode"(
        &mut node => *mut CUgraphNode, graph => CUgraph, after.as_ptr() => *const CUgraphNode, after.len() => usize,
        &host => *const Host<'_>,
    ));
    node
}

#[test]
fn nodes_know_their_neighbours_and_take_new_parameters() {
    let Some(l) = library("nodes_know_their_neighbours_and_take_new_parameters") else { return };
    let (counter, other, mut graph) = (AtomicU32::new(0), AtomicU32::new(0), CUgraph::NULL);
    ok!(l, "cuGraphCreate"(&mut graph => *mut CUgraph, 0 => c_uint));
    let a = add(&l, graph, &[], &counter);
    let b = add(&l, graph, &[a], &counter);
    let c = add(&l, graph, &[a, b], &counter);
    let list = |symbol: &str, node: CUgraphNode| {
        let (mut n, mut nodes) = (4usize, [b; 4]);
        let code = match symbol {
            "before" => {
                call!(l, "cuGraphNodeGetDependencies"(node => CUgraphNode, nodes.as_mut_ptr() => *mut CUgraphNode, &mut n => *mut usize))
            }
            "after" => {
                call!(l, "cuGraphNodeGetDependentNodes"(node => CUgraphNode, nodes.as_mut_ptr() => *mut CUgraphNode, &mut n => *mut usize))
            }
            _ => {
                call!(l, "cuGraphGetRootNodes"(graph => CUgraph, nodes.as_mut_ptr() => *mut CUgraphNode, &mut n => *mut usize))
            }
        };
        assert_eq!(code, CUresult::SUCCESS);
        assert!(nodes[n..].iter().all(|node| node.is_null()));
        nodes[..n].to_vec()
    };
    assert_eq!(
        (list("roots", a), list("before", c), list("after", a), list("after", c)),
        (vec![a], vec![a, b], vec![b, c], vec![])
    );
    let mut n = 7;
    ok!(l, "cuGraphNodeGetDependencies_v2"(c => CUgraphNode, null_mut() => *mut CUgraphNode, null_mut() => *mut CUgraphEdgeData, &mut n => *mut usize));
    assert_eq!(n, 2);
    let remove = |from: CUgraphNode, to: CUgraphNode| call!(l, "cuGraphRemoveDependencies"(graph => CUgraph, &from => *const CUgraphNode, &to => *const CUgraphNode, 1 => usize));
    assert_eq!((remove(a, b), remove(a, b)), (CUresult::SUCCESS, CUresult::ERROR_INVALID_VALUE));
    assert_eq!(list("roots", a), [a, b]);
    // As programs of CUDA 11 make it.
    let (mut exec, mut fault, mut log, mut result) = (CUgraphExec::NULL, a, [1 as c_char; 8], 7);
    ok!(l, "cuGraphInstantiate_v2"(
        &mut exec => *mut CUgraphExec, graph => CUgraph, &mut fault => *mut CUgraphNode,
        log.as_mut_ptr() => *mut c_char, 8 => usize,
    ));
    assert_eq!((fault, log[0]), (CUgraphNode::NULL, 0));
    let run = || {
        ok!(l, "cuGraphLaunch"(exec => CUgraphExec, CUstream::NULL => CUstream));
        ok!(l, "cuStreamSynchronize"(CUstream::NULL => CUstream));
        (counter.swap(0, Ordering::Relaxed), other.swap(0, Ordering::Relaxed))
    };
    assert_eq!(run(), (3, 0));
    let host = Host { function: count, counter: &other };
    ok!(l, "cuGraphExecHostNodeSetParams"(exec => CUgraphExec, a => CUgraphNode, &host => *const Host<'_>));
    assert_eq!(run(), (2, 1));
    ok!(l, "cuGraphHostNodeSetParams"(b => CUgraphNode, &host => *const Host<'_>));
    ok!(l, "cuGraphExecUpdate"(exec => CUgraphExec, graph => CUgraph, &mut fault => *mut CUgraphNode, &mut result => *mut c_uint));
    assert_eq!((run(), result), ((2, 1), 0), "a counts for one again, b for the other");
    let fill = CUDA_MEMSET_NODE_PARAMS { dst: 0, pitch: 0, value: 0, element_size: 1, width: 1, height: 1 };
    refused!(ERROR_INVALID_VALUE, l, "cuGraphMemsetNodeSetParams"(a => CUgraphNode, &fill => *const CUDA_MEMSET_NODE_PARAMS));
    refused!(ERROR_INVALID_VALUE, l, "cuGraphKernelNodeSetParams_v2"(a => CUgraphNode, null() => *const CUDA_KERNEL_NODE_PARAMS_v2));
    add(&l, graph, &[], &counter);
    refused!(ERROR_GRAPH_EXEC_UPDATE_FAILURE, l, "cuGraphExecUpdate"(exec => CUgraphExec, graph => CUgraph, &mut fault => *mut CUgraphNode, &mut result => *mut c_uint));
    assert_eq!(result, 2, "another topology");
}

#[test]
fn parameters_of_nodes_are_read_back() {
    let Some(l) = library("parameters_of_nodes_are_read_back") else { return };
    let (mut graph, mut node, mut data, none) =
        (CUgraph::NULL, CUgraphNode::NULL, 0u64, null::<CUgraphNode>());
    let (text, mut module, mut add) =
        (std::ffi::CString::new(crate::support::KERNELS).unwrap(), CUmodule::NULL, CUfunction::NULL);
    ok!(l, "cuModuleLoadData"(&mut module => *mut CUmodule, text.as_ptr().cast() => *const c_void));
    ok!(l, "cuModuleGetFunction"(&mut add => *mut CUfunction, module => CUmodule, c"add".as_ptr() => *const c_char));
    ok!(l, "cuGraphCreate"(&mut graph => *mut CUgraph, 0 => c_uint));
    ok!(l, "cuMemAlloc_v2"(&mut data => *mut u64, 16 => usize));
    let mut arguments = [data, 5];
    let mut pointers: [*mut c_void; 2] = [(&raw mut arguments[0]).cast(), (&raw mut arguments[1]).cast()];
    let mut params = CUDA_KERNEL_NODE_PARAMS_v2 {
        func: add,
        grid_dim: [2, 1, 1],
        block_dim: [4, 1, 1],
        shared_mem_bytes: 32,
        kernel_params: pointers.as_mut_ptr(),
        extra: null_mut(),
        kern: CUkernel::NULL,
        ctx: CUcontext::NULL,
    };
    ok!(l, "cuGraphAddKernelNode_v2"(&mut node => *mut CUgraphNode, graph => CUgraph, none => *const CUgraphNode, 0 => usize, &params => *const CUDA_KERNEL_NODE_PARAMS_v2));
    arguments[1] = 9;
    (params.grid_dim, params.kernel_params) = ([7; 3], null_mut());
    ok!(l, "cuGraphKernelNodeGetParams_v2"(node => CUgraphNode, &mut params => *mut CUDA_KERNEL_NODE_PARAMS_v2));
    assert_eq!((params.func, params.grid_dim, params.shared_mem_bytes), (add, [2, 1, 1], 32));
    // SAFETY: the driver keeps a copy of each argument, with as many bytes as the parameter has.
    let kept = unsafe {
        (
            params.kernel_params.read().cast::<u64>().read(),
            params.kernel_params.add(1).read().cast::<u32>().read(),
        )
    };
    assert_eq!(kept, (data, 5), "{arguments:?}");
    let fill =
        CUDA_MEMSET_NODE_PARAMS { dst: data, pitch: 0, value: 3, element_size: 4, width: 4, height: 1 };
    let mut back =
        CUDA_MEMSET_NODE_PARAMS { dst: 0, pitch: 7, value: 0, element_size: 0, width: 0, height: 0 };
    let mut context = CUcontext::NULL;
    ok!(l, "cuCtxGetCurrent"(&mut context => *mut CUcontext));
    ok!(l, "cuGraphAddMemsetNode"(&mut node => *mut CUgraphNode, graph => CUgraph, none => *const CUgraphNode, 0 => usize, &fill => *const CUDA_MEMSET_NODE_PARAMS, context => CUcontext));
    ok!(l, "cuGraphMemsetNodeGetParams"(node => CUgraphNode, &mut back => *mut CUDA_MEMSET_NODE_PARAMS));
    assert_eq!((back.dst, back.value, back.element_size, back.width, back.height), (data, 3, 4, 4, 1));
    refused!(ERROR_INVALID_VALUE, l, "cuGraphKernelNodeGetParams_v2"(node => CUgraphNode, &mut params => *mut CUDA_KERNEL_NODE_PARAMS_v2));
}

#[test]
fn graphs_keep_objects_until_nothing_needs_them() {
    let Some(l) = library("graphs_keep_objects_until_nothing_needs_them") else { return };
    type Handle = *mut c_void;
    type Function = extern "C" fn(*mut c_void);
    let (destroyed, ran) = (AtomicU32::new(0), AtomicU32::new(0));
    let gone = || destroyed.load(Ordering::Relaxed);
    let data = (&raw const destroyed).cast_mut().cast::<c_void>();
    let (mut object, mut graph, mut copy, mut exec) =
        (null_mut(), CUgraph::NULL, CUgraph::NULL, CUgraphExec::NULL);
    let mut create = |n: c_uint, flags: c_uint| call!(l, "cuUserObjectCreate"(&mut object => *mut Handle, data => *mut c_void, count => Function, n => c_uint, flags => c_uint));
    assert_eq!((create(0, 1), create(1, 0)), (CUresult::ERROR_INVALID_VALUE, CUresult::ERROR_INVALID_VALUE));
    assert_eq!(create(2, 1), CUresult::SUCCESS);
    ok!(l, "cuUserObjectRetain"(object => Handle, 1 => c_uint));
    ok!(l, "cuUserObjectRelease"(object => Handle, 2 => c_uint));
    ok!(l, "cuGraphCreate"(&mut graph => *mut CUgraph, 0 => c_uint));
    add(&l, graph, &[], &ran);
    // The last reference moves to the graph.
    ok!(l, "cuGraphRetainUserObject"(graph => CUgraph, object => Handle, 1 => c_uint, 1 => c_uint));
    refused!(ERROR_INVALID_VALUE, l, "cuGraphReleaseUserObject"(graph => CUgraph, object => Handle, 2 => c_uint));
    ok!(l, "cuGraphClone"(&mut copy => *mut CUgraph, graph => CUgraph));
    ok!(l, "cuGraphDestroy"(graph => CUgraph));
    ok!(l, "cuGraphInstantiateWithFlags"(&mut exec => *mut CUgraphExec, copy => CUgraph, 0 => u64));
    ok!(l, "cuGraphDestroy"(copy => CUgraph));
    assert_eq!(gone(), 0);
    ok!(l, "cuGraphLaunch"(exec => CUgraphExec, CUstream::NULL => CUstream));
    ok!(l, "cuGraphExecDestroy"(exec => CUgraphExec));
    assert_eq!((gone(), ran.load(Ordering::Relaxed)), (0, 0), "what is queued needs it");
    ok!(l, "cuCtxSynchronize"());
    assert_eq!((gone(), ran.load(Ordering::Relaxed)), (1, 1));
    refused!(ERROR_INVALID_VALUE, l, "cuUserObjectRelease"(object => Handle, 1 => c_uint));
    // Without a graph it goes at once.
    ok!(l, "cuUserObjectCreate"(&mut object => *mut Handle, data => *mut c_void, count => Function, 1 => c_uint, 1 => c_uint));
    ok!(l, "cuUserObjectRelease"(object => Handle, 1 => c_uint));
    assert_eq!(gone(), 2);
}
