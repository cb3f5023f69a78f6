//! What keeps what alive, and that nothing is left in the end.

use crate::Fixture;
use crate::graphs::{add_kernel, buffer, triple};
use gpu_driver::graph::{Graph, KernelNode, MemsetValue, Region};
use gpu_driver::sys::CUresult;
use gpu_driver::{
    Driver, Event, EventKind, GraphExec, KernelArgs, LaunchConfig, PinnedBuffer, SharedPinned, Stream,
};
use std::sync::Arc;

#[test]
fn an_instantiated_graph_owns_code_and_memory_of_its_nodes() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2]);
    let host = Arc::new(SharedPinned::<u32>::zeroed(&f.context, 2).expect("pinned memory"));
    let mut graph = Graph::new(&f.context).expect("a graph");
    let kernel = add_kernel(&mut graph, triple(&f, &data), &[]).expect("a node");
    let device = Region::device(&data, ..).expect("a region");
    graph
        .add_memcpy(&Region::pinned(&host, ..).expect("a region"), &device, &[kernel.into()])
        .expect("a node");
    let exec = graph.instantiate().expect("an instantiated graph");
    let watch = Arc::downgrade(&data);
    drop((graph, data, device, f.module));
    assert!(watch.upgrade().is_some());
    assert_eq!(f.double.live()[4], 1, "the module is still loaded");
    exec.launch(&f.stream).expect("a launch");
    f.stream.synchronize().expect("a wait");
    assert_eq!(host.read(1).expect("a read"), 6);
    drop(exec);
    assert!(watch.upgrade().is_none());
    assert_eq!(f.double.live()[4], 0);
    assert_eq!(Arc::strong_count(&host), 1);
}

#[test]
fn a_child_keeps_what_the_embedded_graph_owned() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2]);
    let watch = Arc::downgrade(&data);
    let mut child = Graph::new(&f.context).expect("a graph");
    child
        .add_memset(&Region::device(&data, ..).expect("a region"), MemsetValue::Byte(1), &[])
        .expect("a node");
    let mut parent = Graph::new(&f.context).expect("a graph");
    parent.add_child(&child, &[]).expect("a node");
    drop((child, data));
    let exec = parent.instantiate().expect("an instantiated graph");
    drop(parent);
    assert!(watch.upgrade().is_some());
    exec.launch(&f.stream).expect("a launch");
    drop(exec);
    assert!(watch.upgrade().is_none());
}

#[test]
fn updates_replace_owners() {
    let f = Fixture::new();
    let (a, b, c) = (buffer(&f, &[1, 2]), buffer(&f, &[3, 4]), buffer(&f, &[5, 6]));
    let mut graph = Graph::new(&f.context).expect("a graph");
    let id = add_kernel(&mut graph, triple(&f, &a), &[]).expect("a node");
    let mut exec = graph.instantiate().expect("an instantiated graph");
    drop(graph);
    let counts = || [&a, &b, &c].map(Arc::strong_count);
    assert_eq!(counts(), [2, 1, 1]);
    // SAFETY: the double runs its own kernels, on memory that it checks and that the node owns.
    unsafe { exec.update_kernel(id, triple(&f, &b)) }.expect("an update");
    assert_eq!(counts(), [1, 2, 1]);
    let mut next = Graph::new(&f.context).expect("a graph");
    add_kernel(&mut next, triple(&f, &c), &[]).expect("a node");
    exec.update(&next).expect("an update");
    drop(next);
    assert_eq!(counts(), [1, 1, 2]);
    drop(exec);
    assert_eq!(counts(), [1, 1, 1]);
}

#[test]
fn dropping_a_graph_in_flight_waits_for_it_before_anything_is_freed() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2]);
    let mut graph = Graph::new(&f.context).expect("a graph");
    add_kernel(&mut graph, triple(&f, &data), &[]).expect("a node");
    let exec = graph.instantiate().expect("an instantiated graph");
    drop((graph, data));
    exec.launch(&f.stream).expect("a launch");
    f.double.state().busy = true;
    f.double.forget_calls();
    drop(exec);
    let calls = f.double.calls("");
    let position = |name: &str| calls.iter().position(|c| c.starts_with(name)).expect("a call");
    assert!(position("cuStreamSynchronize") < position("cuGraphExecDestroy"));
    assert!(position("cuGraphExecDestroy") < position("cuMemFree"));
}

#[test]
fn a_graph_that_cannot_be_waited_for_keeps_what_its_nodes_own() {
    // The stream is waited for without success, then the context with and without.
    for (failures, freed) in [(0, true), (1, false)] {
        let f = Fixture::new();
        let owner = Arc::new(());
        let node = KernelNode::new(&f.function("fat"), LaunchConfig::new(1, 1), KernelArgs::new());
        let mut graph = Graph::new(&f.context).expect("a graph");
        add_kernel(&mut graph, node.keep(owner.clone()), &[]).expect("a node");
        let exec = graph.instantiate().expect("an instantiated graph");
        exec.launch(&f.stream).expect("a launch");
        drop(graph);
        f.double.state().busy = true;
        let failure = CUresult::ERROR_LAUNCH_OUT_OF_RESOURCES;
        f.double.fail("cuStreamSynchronize", [failure]);
        f.double.fail("cuCtxSynchronize", std::iter::repeat_n(failure, failures));
        drop(exec);
        assert_eq!(Arc::strong_count(&owner) == 1, freed);
        assert_eq!(!f.double.state().busy, freed, "work may be left that uses it");
        assert_eq!(f.double.live()[6], 0);
        let errors = f.context.take_drop_errors();
        assert_eq!(errors.iter().map(|e| e.origin.as_str()).collect::<Vec<_>>(), ["GraphExec"]);
    }
}

#[test]
fn a_stream_may_keep_a_graph_that_was_launched_on_it() {
    let Fixture { double, context, stream, module } = Fixture::new();
    let mut graph = Graph::new(&context).expect("a graph");
    graph.add_empty(&[]).expect("a node");
    let exec = graph.instantiate().expect("an instantiated graph");
    double.state().busy = true;
    exec.launch(&stream).expect("a launch");
    stream.keep_until_done(Box::new(exec));
    double.forget_calls();
    drop((graph, stream));
    let calls = double.calls("");
    let position = |name: &str| calls.iter().position(|c| c.starts_with(name)).expect("a call");
    assert!(position("cuStreamSynchronize") < position("cuGraphExecDestroy"));
    assert!(position("cuGraphExecDestroy") < position("cuStreamDestroy"));
    drop((context, module));
    assert_eq!(double.live(), [0; 8]);
}

#[test]
fn a_graph_outlives_the_stream_on_which_it_was_launched() {
    let f = Fixture::new();
    let mut graph = Graph::new(&f.context).expect("a graph");
    graph.add_empty(&[]).expect("a node");
    let exec = graph.instantiate().expect("an instantiated graph");
    exec.launch(&f.stream).expect("a launch");
    f.double.state().busy = true;
    drop(f.stream);
    assert!(exec.is_in_flight().expect("a query"));
    exec.wait().expect("a wait");
    assert!(!exec.is_in_flight().expect("a query"));
    assert_eq!(f.double.live()[2], 0, "the stream is not needed any more");
}

#[test]
fn a_graph_that_was_never_launched_is_dropped_without_waiting() {
    let f = Fixture::new();
    let mut graph = Graph::new(&f.context).expect("a graph");
    graph.add_empty(&[]).expect("a node");
    let exec = graph.instantiate().expect("an instantiated graph");
    f.double.forget_calls();
    drop(exec);
    assert!(
        f.double.calls("cuStreamSynchronize").is_empty() && f.double.calls("cuCtxSynchronize").is_empty()
    );
}

#[test]
fn everything_is_released_in_any_order() {
    for reversed in [false, true] {
        let f = Fixture::new();
        let double = f.double.clone();
        let mut objects: Vec<Box<dyn std::any::Any>> = Vec::new();
        let data = buffer(&f, &[1, 2]);
        let mut graph = Graph::new(&f.context).expect("a graph");
        add_kernel(&mut graph, triple(&f, &data), &[]).expect("a node");
        let exec: GraphExec = graph.instantiate().expect("an instantiated graph");
        exec.launch(&f.stream).expect("a launch");
        let event: Event = f.stream.record(EventKind::Timing).expect("an event");
        let pinned = Arc::new(PinnedBuffer::from_slice(&f.context, &[1u32, 2]).expect("a buffer"));
        let driver: Driver = f.context.driver().clone();
        objects.push(Box::new(f.context));
        objects.push(Box::new(f.stream));
        objects.push(Box::new(driver));
        objects.push(Box::new(f.module));
        objects.push(Box::new(data));
        objects.push(Box::new(graph));
        objects.push(Box::new(exec));
        objects.push(Box::new(event));
        objects.push(Box::new(pinned));
        if reversed {
            objects.reverse();
        }
        for object in objects {
            drop(object);
        }
        assert_eq!(double.live(), [0; 8], "reversed: {reversed}");
        let last = double.state().calls.last().cloned();
        assert_eq!(last.as_deref(), Some("cuDevicePrimaryCtxRelease(100)"));
    }
}

#[test]
fn a_failed_step_of_construction_leaves_nothing_behind() {
    let f = Fixture::new();
    let before = f.double.live();
    f.double.fail("cuEventRecord", [CUresult::ERROR_INVALID_HANDLE]);
    f.stream.record(EventKind::Timing).expect_err("a failing record");
    f.double.fail("cuFuncGetAttribute", [CUresult::ERROR_INVALID_VALUE]);
    f.module.function("triple").expect_err("a failing query");
    let graph = Graph::new(&f.context).expect("a graph");
    f.double.fail("cuGraphInstantiateWithParams", [CUresult::ERROR_OUT_OF_MEMORY]);
    graph.instantiate().expect_err("a failing instantiation");
    drop(graph);
    assert_eq!(f.double.live(), before);
    f.double.fail("cuStreamCreateWithPriority", [CUresult::ERROR_OUT_OF_MEMORY]);
    Stream::new(&f.context).expect_err("a failing creation");
    assert_eq!(f.double.live(), before);
}
