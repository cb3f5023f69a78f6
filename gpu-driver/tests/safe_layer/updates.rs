//! Updates of instantiated graphs.

use crate::graphs::{add_kernel, buffer, triple};
use crate::{Fixture, PTX};
use gpu_driver::graph::{Graph, GraphExec, KernelNode, MemsetValue, NodeId, Region};
use gpu_driver::sys::CUresult;
use gpu_driver::{DeviceBuffer, DriverError, KernelArgs, LaunchConfig, Module, Stream};
use std::sync::Arc;

fn update_kernel(exec: &mut GraphExec, id: NodeId, node: KernelNode) -> Result<(), DriverError> {
    // SAFETY: the double runs its own kernels, on memory that it checks and that the node owns.
    unsafe { exec.update_kernel(id, node) }
}

fn one_kernel(f: &Fixture, data: &Arc<DeviceBuffer<u32>>) -> (Graph, NodeId) {
    let mut graph = Graph::new(&f.context).expect("a graph");
    let id = add_kernel(&mut graph, triple(f, data), &[]).expect("a node");
    (graph, id)
}

#[test]
fn a_kernel_node_takes_new_arguments() {
    let f = Fixture::new();
    let (a, b) = (buffer(&f, &[1, 2]), buffer(&f, &[5, 6]));
    let (graph, id) = one_kernel(&f, &a);
    let mut exec = graph.instantiate().expect("an instantiated graph");
    update_kernel(&mut exec, id, triple(&f, &b)).expect("an update");
    exec.launch(&f.stream).expect("a launch");
    assert_eq!(f.stream.read_to_vec(&a.as_slice()).expect("a copy"), [1, 2]);
    assert_eq!(f.stream.read_to_vec(&b.as_slice()).expect("a copy"), [15, 18]);
}

#[test]
fn the_kernel_that_the_definition_names_stays_loaded() {
    let f = Fixture::new();
    let other = Module::from_ptx(&f.context, PTX).expect("a module");
    let node = |module: &Module| {
        KernelNode::new(
            &module.function("fat").expect("a kernel"),
            LaunchConfig::new(1, 1),
            KernelArgs::new(),
        )
    };
    let mut graph = Graph::new(&f.context).expect("a graph");
    let id = add_kernel(&mut graph, node(&other), &[]).expect("a node");
    let mut exec = graph.instantiate().expect("an instantiated graph");
    drop((graph, other));
    for _ in 0..2 {
        update_kernel(&mut exec, id, node(&f.module)).expect("an update");
        assert_eq!(f.double.live()[4..6], [2, 1], "the definition is there for updates");
    }
    drop(exec);
    assert_eq!(f.double.live()[4..6], [1, 0]);
}

#[test]
fn a_graph_in_flight_cannot_be_updated() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2]);
    let (graph, id) = one_kernel(&f, &data);
    let mut exec = graph.instantiate().expect("an instantiated graph");
    f.double.state().busy = true;
    update_kernel(&mut exec, id, triple(&f, &data)).expect("never launched, so not in flight");

    exec.launch(&f.stream).expect("a launch");
    assert!(exec.is_in_flight().expect("a query"));
    f.double.forget_calls();
    let error = update_kernel(&mut exec, id, triple(&f, &data)).expect_err("an update");
    assert!(matches!(error, DriverError::GraphInFlight), "{error}");
    assert!(matches!(exec.update(&graph), Err(DriverError::GraphInFlight)));
    assert!(f.double.calls("cuGraphExec").is_empty(), "the driver must not be asked");

    exec.wait().expect("a wait");
    assert!(!exec.is_in_flight().expect("a query"));
    update_kernel(&mut exec, id, triple(&f, &data)).expect("an update");
}

#[test]
fn every_stream_of_a_launch_counts() {
    let f = Fixture::new();
    let (graph, _) = one_kernel(&f, &buffer(&f, &[1]));
    let exec = graph.instantiate().expect("an instantiated graph");
    let second = Stream::new(&f.context).expect("a stream");
    for stream in [&f.stream, &second, &f.stream, &second] {
        exec.launch(stream).expect("a launch");
    }
    f.double.forget_calls();
    exec.wait().expect("a wait");
    assert_eq!(f.double.calls("cuStreamSynchronize").len(), 2);
    exec.wait().expect("nothing left to wait for");
    assert_eq!(f.double.calls("cuStreamSynchronize").len(), 2);
}

#[test]
fn copies_and_fills_take_new_memory() {
    let f = Fixture::new();
    let (a, b, c) = (buffer(&f, &[1, 2]), buffer(&f, &[3, 4]), buffer(&f, &[0, 0]));
    let region = |buffer| Region::device(buffer, ..).expect("a region");
    let mut graph = Graph::new(&f.context).expect("a graph");
    let fill = graph.add_memset(&region(&a), MemsetValue::Word(8), &[]).expect("a node");
    let copy = graph.add_memcpy(&region(&c), &region(&a), &[fill.into()]).expect("a node");
    let mut exec = graph.instantiate().expect("an instantiated graph");
    exec.update_memset(fill, &region(&b), MemsetValue::Word(9)).expect("an update");
    exec.update_memcpy(copy, &region(&c), &region(&b)).expect("an update");
    exec.launch(&f.stream).expect("a launch");
    assert_eq!(f.stream.read_to_vec(&c.as_slice()).expect("a copy"), [9, 9]);
    assert_eq!(f.stream.read_to_vec(&a.as_slice()).expect("a copy"), [1, 2]);
    let error = exec.update_memset(copy, &region(&b), MemsetValue::Word(9)).expect_err("an update");
    assert_eq!(error.to_string(), "graph: n1 is a memcpy node, not a memset node");
    let short = Region::device(&b, 0..1).expect("a region");
    assert!(matches!(exec.update_memcpy(copy, &region(&c), &short), Err(DriverError::LengthMismatch { .. })));
}

#[test]
fn updates_are_checked_like_nodes() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2]);
    let (graph, id) = one_kernel(&f, &data);
    let mut exec = graph.instantiate().expect("an instantiated graph");
    let (other, foreign) = one_kernel(&f, &data);
    let node = KernelNode::new(&f.function("mixed"), LaunchConfig::new(1, 1), KernelArgs::new());
    assert!(matches!(update_kernel(&mut exec, id, node), Err(DriverError::Launch { .. })));
    let error = update_kernel(&mut exec, foreign, triple(&f, &data)).expect_err("an update");
    assert!(error.to_string().contains("not of the definition"), "{error}");
    let clustered = LaunchConfig::new(2, 1).with_cluster(2);
    let node = KernelNode::new(&f.function("fat"), clustered, KernelArgs::new());
    let error = update_kernel(&mut exec, id, node).expect_err("an update");
    assert!(error.to_string().contains("cannot change the cluster"), "{error}");
    drop(other);
}

#[test]
fn a_whole_update_takes_everything_from_the_new_definition() {
    let f = Fixture::new();
    let (a, b) = (buffer(&f, &[1, 2]), buffer(&f, &[5, 6]));
    let (first, id) = one_kernel(&f, &a);
    let (second, _) = one_kernel(&f, &b);
    let mut exec = first.instantiate().expect("an instantiated graph");
    exec.update(&second).expect("an update");
    exec.launch(&f.stream).expect("a launch");
    assert_eq!(f.stream.read_to_vec(&b.as_slice()).expect("a copy"), [15, 18]);
    exec.wait().expect("a wait");
    update_kernel(&mut exec, id, triple(&f, &a)).expect("identities are those of the first definition");
}

#[test]
fn labels_are_those_of_what_the_nodes_do_now() {
    let f = Fixture::new();
    let (a, b) = (buffer(&f, &[1, 2]), buffer(&f, &[1, 2, 3, 4]));
    let region = |buffer| Region::device(buffer, ..).expect("a region");
    let make = |label: &str| {
        let mut graph = Graph::new(&f.context).expect("a graph");
        let kernel = add_kernel(&mut graph, triple(&f, &a).label(label), &[]).expect("a node");
        let fill = graph.add_memset(&region(&a), MemsetValue::Byte(0), &[kernel.into()]).expect("a node");
        (graph, kernel, fill)
    };
    let (graph, kernel, fill) = make("first");
    let mut exec = graph.instantiate().expect("an instantiated graph");
    assert_eq!(exec.labels().collect::<Vec<_>>(), ["first", "memset 8 bytes"]);
    update_kernel(&mut exec, kernel, triple(&f, &b)).expect("an update");
    exec.update_memset(fill, &region(&b), MemsetValue::Byte(0)).expect("an update");
    assert_eq!(exec.labels().collect::<Vec<_>>(), ["triple", "memset 16 bytes"]);
    exec.update(&make("second").0).expect("an update");
    assert_eq!(exec.labels().collect::<Vec<_>>(), ["second", "memset 8 bytes"]);
}

#[test]
fn another_shape_is_refused_with_the_reason_and_the_node() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2]);
    let (first, _) = one_kernel(&f, &data);
    let mut exec = first.instantiate().expect("an instantiated graph");
    let (mut longer, _) = one_kernel(&f, &data);
    longer.add_empty(&[]).expect("a node");
    let error = exec.update(&longer).expect_err("an update");
    assert_eq!(error.to_string(), "graph update refused: ERROR_TOPOLOGY_CHANGED (2)");
    let mut other = Graph::new(&f.context).expect("a graph");
    other
        .add_memset(&Region::device(&data, ..).expect("a region"), MemsetValue::Byte(0), &[])
        .expect("a node");
    let error = exec.update(&other).expect_err("an update");
    assert_eq!(error.to_string(), "graph update refused: ERROR_NODE_TYPE_CHANGED (3), node memset 8 bytes");
    exec.launch(&f.stream).expect("the graph is as before");
    assert_eq!(f.stream.read_to_vec(&data.as_slice()).expect("a copy"), [3, 6]);
}

#[test]
fn a_failed_update_changes_neither_the_node_nor_its_owners() {
    let f = Fixture::new();
    let (a, b) = (buffer(&f, &[1, 2]), buffer(&f, &[5, 6]));
    let (graph, id) = one_kernel(&f, &a);
    let mut exec = graph.instantiate().expect("an instantiated graph");
    drop(graph);
    f.double.fail("cuGraphExecKernelNodeSetParams", [CUresult::ERROR_INVALID_VALUE]);
    update_kernel(&mut exec, id, triple(&f, &b)).expect_err("a failing update");
    assert_eq!((Arc::strong_count(&a), Arc::strong_count(&b)), (2, 1));
    exec.launch(&f.stream).expect("a launch");
    assert_eq!(f.stream.read_to_vec(&a.as_slice()).expect("a copy"), [3, 6]);
}
