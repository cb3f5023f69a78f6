//! Building, reading back and launching graphs.

use crate::double::Double;
use crate::{Fixture, PTX};
use gpu_driver::graph::{
    Dependency, Edge, EdgeKind, Graph, KernelNode, MemsetValue, NodeId, NodeType, Region,
};
use gpu_driver::sys::CUresult;
use gpu_driver::{DeviceBuffer, DriverError, KernelArgs, LaunchConfig, Module, SharedPinned};
use std::sync::Arc;

pub fn triple(f: &Fixture, data: &Arc<DeviceBuffer<u32>>) -> KernelNode {
    let config = LaunchConfig::new(1, data.len() as u32);
    let owner: Arc<DeviceBuffer<u32>> = Arc::clone(data);
    KernelNode::new(&f.function("triple"), config, KernelArgs::new().with(&**data)).keep(owner)
}

pub fn add_kernel(graph: &mut Graph, node: KernelNode, after: &[Dependency]) -> Result<NodeId, DriverError> {
    // SAFETY: the double runs its own kernels, on memory that it checks and that the node owns.
    unsafe { graph.add_kernel(node, after) }
}

pub fn buffer(f: &Fixture, data: &[u32]) -> Arc<DeviceBuffer<u32>> {
    Arc::new(DeviceBuffer::from_slice(&f.stream, data).expect("a buffer"))
}

#[test]
fn nodes_run_in_the_order_of_their_edges() {
    let f = Fixture::new();
    let (a, b) = (buffer(&f, &[9; 4]), buffer(&f, &[0; 4]));
    let host = Arc::new(SharedPinned::<u32>::zeroed(&f.context, 8).expect("pinned memory"));
    host.write_range(0, &[1, 2, 3, 4]).expect("a write");
    let region = |buffer, range: std::ops::Range<usize>| Region::device(buffer, range).expect("a region");

    let mut graph = Graph::new(&f.context).expect("a graph");
    let upload = graph
        .add_memcpy(&region(&a, 0..4), &Region::pinned(&host, 0..4).expect("a region"), &[])
        .expect("n0");
    let kernel = add_kernel(&mut graph, triple(&f, &a), &[upload.into()]).expect("n1");
    let copy = graph.add_memcpy(&region(&b, 0..4), &region(&a, 0..4), &[kernel.into()]).expect("n2");
    let fill = graph.add_memset(&region(&b, 1..2), MemsetValue::Byte(0x11), &[copy.into()]).expect("n3");
    let words = graph.add_memset(&region(&b, 2..3), MemsetValue::Word(77), &[copy.into()]).expect("n4");
    let join = graph.add_empty(&[fill.into(), words.into()]).expect("n5");
    graph
        .add_memcpy(&Region::pinned(&host, 4..8).expect("a region"), &region(&b, 0..4), &[join.into()])
        .expect("n6");

    assert_eq!((graph.len(), graph.edges().len()), (7, 7));
    let mut held = graph.driver_edges().expect("edges");
    let mut asked = graph.edges().to_vec();
    held.sort_by_key(|e| (e.from, e.to));
    asked.sort_by_key(|e| (e.from, e.to));
    assert_eq!(held, asked);
    use NodeType::*;
    let types = [Memcpy, Kernel, Memcpy, Memset, Memset, Empty, Memcpy];
    assert_eq!(graph.driver_node_types().expect("types"), types);
    assert_eq!(graph.nodes().map(|(_, kind, _)| kind).collect::<Vec<_>>(), types);

    let exec = graph.instantiate().expect("an instantiated graph");
    exec.upload(&f.stream).expect("an upload");
    for round in 1..3 {
        host.write_range(0, &[round, 2, 3, 4]).expect("a write");
        exec.launch(&f.stream).expect("a launch");
        f.stream.synchronize().expect("a wait");
        let mut out = [0; 4];
        host.read_range(4, &mut out).expect("a read");
        assert_eq!(out, [3 * round, 0x1111_1111, 77, 12]);
    }
}

#[test]
fn launching_costs_a_look_at_the_context_and_one_call() {
    let f = Fixture::new();
    let mut graph = Graph::new(&f.context).expect("a graph");
    graph.add_empty(&[]).expect("a node");
    let exec = graph.instantiate().expect("an instantiated graph");
    exec.launch(&f.stream).expect("a launch");
    f.double.forget_calls();
    exec.launch(&f.stream).expect("a launch");
    assert_eq!(f.double.calls(""), ["cuCtxGetCurrent()", "cuGraphLaunch()"]);
}

#[test]
fn edges_with_data_are_added_one_per_call() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2]);
    let mut graph = Graph::new(&f.context).expect("a graph");
    let a = add_kernel(&mut graph, triple(&f, &data), &[]).expect("a node");
    let b = add_kernel(&mut graph, triple(&f, &data), &[]).expect("a node");
    let c = add_kernel(&mut graph, triple(&f, &data), &[]).expect("a node");
    f.double.forget_calls();
    let after = [Dependency::full(a), Dependency::programmatic(b), Dependency::programmatic(c)];
    let d = add_kernel(&mut graph, triple(&f, &data), &after).expect("a node");
    let calls = ["cuGraphAddDependencies_v2(1)", "cuGraphAddDependencies_v2(1)"];
    assert_eq!(f.double.calls("cuGraphAddDependencies"), calls);
    // The double gives all edges of one call the data of the first, so a single call would have lost two.
    let kinds: Vec<_> =
        graph.driver_edges().expect("edges").into_iter().map(|e| (e.from, e.to, e.kind)).collect();
    let programmatic = EdgeKind::Programmatic;
    assert_eq!(kinds, [(a, d, EdgeKind::Full), (b, d, programmatic), (c, d, programmatic)]);
    graph.instantiate().expect("an instantiated graph");
}

#[test]
fn a_driver_that_loses_edge_data_is_found_out() {
    let f = Fixture::new();
    f.double.state().edges_lose_data = true;
    let data = buffer(&f, &[1, 2]);
    let mut graph = Graph::new(&f.context).expect("a graph");
    let a = add_kernel(&mut graph, triple(&f, &data), &[]).expect("a node");
    add_kernel(&mut graph, triple(&f, &data), &[Dependency::programmatic(a)]).expect("a node");
    let error = graph.instantiate().expect_err("an instantiated graph");
    assert_eq!(error.to_string(), "graph: the edge n0 -> n1 was added as Programmatic, the driver has Full");
}

#[test]
fn an_old_driver_takes_full_edges_and_refuses_programmatic_ones() {
    let double = Double::new();
    let driver = double.driver_with(|t| {
        t.graph_add_dependencies_v2 = None;
        t.graph_get_edges_v2 = None;
        t.graph_instantiate_with_params = None;
    });
    double.state().version = 12_000;
    let f = Fixture::over(double, &driver);
    let data = buffer(&f, &[1, 2]);
    let mut graph = Graph::new(&f.context).expect("a graph");
    assert!(!graph.takes_programmatic());
    let a = add_kernel(&mut graph, triple(&f, &data), &[]).expect("a node");
    let error =
        add_kernel(&mut graph, triple(&f, &data), &[Dependency::programmatic(a)]).expect_err("a node");
    assert!(
        error.to_string().starts_with("the driver lacks cuGraphAddDependencies_v2, which CUDA 12.3"),
        "{error}"
    );
    let b = add_kernel(&mut graph, triple(&f, &data), &[]).expect("a node");
    assert_eq!(graph.len(), 2, "the refused node was not added");
    graph.add_dependency(a, b, EdgeKind::Full).expect("an edge");
    assert_eq!(f.double.calls("cuGraphAddDependencies"), ["cuGraphAddDependencies(1)"]);
    assert_eq!(graph.driver_edges().expect("edges"), [Edge { from: a, to: b, kind: EdgeKind::Full }]);
    graph.instantiate().expect("an instantiated graph").launch(&f.stream).expect("a launch");
    assert_eq!(f.stream.read_to_vec(&data.as_slice()).expect("a copy"), [9, 18]);
}

#[test]
fn a_driver_without_conditions_says_so() {
    let f = Fixture::new();
    f.double.state().version = 12_020;
    let mut graph = Graph::new(&f.context).expect("a graph");
    assert!(!graph.takes_conditional());
    let error = graph.conditional(1).expect_err("a condition");
    assert_eq!(
        error.to_string(),
        "the driver lacks cuGraphConditionalHandleCreate, which CUDA 12.3 introduced; this driver supports CUDA 12.2"
    );
    graph.instantiate().expect("an instantiated graph");
}

#[test]
fn a_half_added_node_makes_the_definition_unusable() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2]);
    let mut graph = Graph::new(&f.context).expect("a graph");
    let a = add_kernel(&mut graph, triple(&f, &data), &[]).expect("a node");
    f.double.fail("cuGraphAddDependencies_v2", [CUresult::ERROR_INVALID_VALUE]);
    add_kernel(&mut graph, triple(&f, &data), &[Dependency::programmatic(a)]).expect_err("a failing edge");
    let error = graph.instantiate().expect_err("an instantiated graph");
    assert!(error.to_string().contains("incomplete: node n1 lacks its dependency on n0"), "{error}");
    let mut parent = Graph::new(&f.context).expect("a graph");
    parent.add_child(&graph, &[]).expect_err("a child");
}

#[test]
fn a_half_added_node_has_its_owners() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2]);
    let mut graph = Graph::new(&f.context).expect("a graph");
    let a = add_kernel(&mut graph, triple(&f, &data), &[]).expect("a node");
    let other = Module::from_ptx(&f.context, PTX).expect("a module");
    let function = other.function("fat").expect("a kernel");
    let node = KernelNode::new(&function, LaunchConfig::new(1, 1), KernelArgs::new());
    f.double.fail("cuGraphAddDependencies_v2", [CUresult::ERROR_INVALID_VALUE]);
    add_kernel(&mut graph, node, &[Dependency::programmatic(a)]).expect_err("a failing edge");
    drop((function, other));
    assert_eq!(f.double.live()[4], 2, "the driver's graph has the kernel");
    let error = graph.driver_dot().expect_err("a drawing");
    assert!(error.to_string().contains("incomplete: node n1 lacks"), "{error}");
    drop(graph);
    assert_eq!(f.double.live()[4], 1);
}

#[test]
fn dependencies_that_do_not_fit_are_refused() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2]);
    let mut graph = Graph::new(&f.context).expect("a graph");
    let empty = graph.add_empty(&[]).expect("a node");
    let kernel = add_kernel(&mut graph, triple(&f, &data), &[empty.into()]).expect("a node");
    let mut other = Graph::new(&f.context).expect("a graph");
    let foreign = other.add_empty(&[]).expect("a node");
    f.double.forget_calls();
    let refused = |result: Result<(), DriverError>, wanted: &str| {
        let error = result.expect_err("accepted").to_string();
        assert!(error.contains(wanted), "{error}");
    };
    refused(graph.add_empty(&[foreign.into()]).map(drop), "node n0 is of another graph");
    refused(graph.add_empty(&[empty.into(), empty.into()]).map(drop), "n0 appears twice");
    let programmatic = Dependency::programmatic(empty);
    refused(
        add_kernel(&mut graph, triple(&f, &data), &[programmatic]).map(drop),
        "joins two kernels, not n0 (empty) and n2 (kernel)",
    );
    refused(graph.add_dependency(kernel, empty, EdgeKind::Full), "not an earlier node");
    refused(graph.add_dependency(kernel, kernel, EdgeKind::Full), "not an earlier node");
    refused(graph.add_dependency(empty, kernel, EdgeKind::Full), "depends on n0 already");
    assert!(f.double.calls("cuGraphAdd").is_empty());
}

#[test]
fn nodes_are_checked_like_launches() {
    let f = Fixture::new();
    let mut graph = Graph::new(&f.context).expect("a graph");
    let node = KernelNode::new(&f.function("mixed"), LaunchConfig::new(1, 32), KernelArgs::new());
    assert!(matches!(add_kernel(&mut graph, node, &[]), Err(DriverError::Launch { .. })));
    let config = LaunchConfig::new(1, 32).with_programmatic_serialization();
    let node = KernelNode::new(&f.function("fat"), config, KernelArgs::new());
    let error = add_kernel(&mut graph, node, &[]).expect_err("a node");
    assert!(error.to_string().contains("programmatic dependency"), "{error}");
    assert!(graph.is_empty());
}

#[test]
fn clusters_become_attributes_of_the_node() {
    let f = Fixture::new();
    let mut graph = Graph::new(&f.context).expect("a graph");
    let config = LaunchConfig::new(8, 32).with_cluster(4);
    add_kernel(&mut graph, KernelNode::new(&f.function("fat"), config, KernelArgs::new()), &[])
        .expect("a node");
    graph.instantiate().expect("an instantiated graph").launch(&f.stream).expect("a launch");
    assert_eq!(f.double.state().launches[0].attributes, [(4, [4, 1, 1])]);
}

#[test]
fn copies_and_fills_are_checked() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2, 3, 4]);
    let host = Arc::new(SharedPinned::<u32>::zeroed(&f.context, 4).expect("pinned memory"));
    let device = |range: std::ops::Range<usize>| Region::device(&data, range).expect("a region");
    let pinned = |range: std::ops::Range<usize>| Region::pinned(&host, range).expect("a region");
    assert!(matches!(Region::device(&data, 3..5), Err(DriverError::OutOfBounds { len: 4, .. })));
    assert!(matches!(Region::pinned(&host, 5..), Err(DriverError::OutOfBounds { .. })));
    let mut graph = Graph::new(&f.context).expect("a graph");
    let lengths = graph.add_memcpy(&device(0..2), &device(2..3), &[]).expect_err("a node");
    assert!(matches!(lengths, DriverError::LengthMismatch { dst: 8, src: 4, .. }), "{lengths}");
    for error in [
        graph.add_memcpy(&pinned(0..1), &pinned(1..2), &[]).expect_err("host to host"),
        graph.add_memcpy(&device(0..0), &device(1..1), &[]).expect_err("nothing"),
        graph.add_memcpy(&device(0..2), &device(1..3), &[]).expect_err("onto part of itself"),
        graph.add_memcpy(&device(2..3), &device(2..3), &[]).expect_err("onto itself"),
        graph.add_memset(&pinned(0..1), MemsetValue::Byte(0), &[]).expect_err("host memory"),
        graph.add_memset(&device(2..2), MemsetValue::Byte(0), &[]).expect_err("nothing"),
    ] {
        assert!(matches!(error, DriverError::Graph { .. }), "{error}");
    }
    graph.add_memcpy(&device(0..2), &device(2..4), &[]).expect("neighbours");
    let bytes = Arc::new(DeviceBuffer::<u8>::uninit(&f.context, 7).expect("a buffer"));
    let odd = Region::device(&bytes, ..).expect("a region");
    let error = graph.add_memset(&odd, MemsetValue::Word(1), &[]).expect_err("seven bytes in words");
    assert!(error.to_string().contains("7 bytes at"), "{error}");
    graph.add_memset(&odd, MemsetValue::Byte(1), &[]).expect("seven bytes");
}

#[test]
fn an_empty_graph_has_no_nodes_and_no_edges() {
    let f = Fixture::new();
    let graph = Graph::new(&f.context).expect("a graph");
    assert_eq!(graph.driver_node_types().expect("types"), []);
    assert_eq!(graph.driver_edges().expect("edges"), []);
    assert_eq!(f.double.calls("cuGraphGet").len(), 2, "there is no array to pass");
}

#[test]
fn fill_nodes_count_their_own_units_beyond_4_gib() {
    let f = Fixture::new();
    let big = Arc::new(DeviceBuffer::<u32>::uninit(&f.context, 5 << 28).expect("a buffer"));
    let region = Region::device(&big, ..).expect("a region");
    assert_eq!(region.bytes(), 5 << 30);
    let mut graph = Graph::new(&f.context).expect("a graph");
    graph.add_memset(&region, MemsetValue::Byte(1), &[]).expect("a node");
    graph.add_memset(&region, MemsetValue::Word(1), &[]).expect("a node");
    let state = f.double.state();
    let mut widths: Vec<_> = state.nodes.values().map(|work| format!("{work:?}")).collect();
    widths.sort();
    assert!(widths[0].contains("element: 1, width: 5368709120"), "{widths:?}");
    assert!(widths[1].contains("element: 4, width: 1342177280"), "{widths:?}");
}

#[test]
fn a_child_graph_is_a_copy() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2]);
    let mut child = Graph::new(&f.context).expect("a graph");
    add_kernel(&mut child, triple(&f, &data), &[]).expect("a node");
    let mut graph = Graph::new(&f.context).expect("a graph");
    let first = graph.add_child(&child, &[]).expect("a node");
    add_kernel(&mut child, triple(&f, &data), &[]).expect("a later node of the child");
    graph.add_child(&child, &[first.into()]).expect("a node");
    drop(child);
    graph.instantiate().expect("an instantiated graph").launch(&f.stream).expect("a launch");
    assert_eq!(f.stream.read_to_vec(&data.as_slice()).expect("a copy"), [27, 54]);
}

#[test]
fn drawings() {
    let f = Fixture::new();
    let data = buffer(&f, &[1, 2]);
    let mut graph = Graph::new(&f.context).expect("a graph");
    let a = add_kernel(&mut graph, triple(&f, &data).label("first \"one\""), &[]).expect("a node");
    add_kernel(&mut graph, triple(&f, &data), &[Dependency::programmatic(a)]).expect("a node");
    let dot = graph.to_dot();
    assert!(dot.contains("n0 [shape=box, label=\"n0 first \\\"one\\\"\"];"), "{dot}");
    assert!(dot.contains("n0 -> n1 [style=dashed];"), "{dot}");
    assert_eq!(graph.driver_dot().expect("a drawing"), "digraph dot { /* 2 nodes */ }\n");
}

#[test]
fn the_node_that_cannot_be_instantiated_is_named() {
    let f = Fixture::new();
    let mut graph = Graph::new(&f.context).expect("a graph");
    let node = KernelNode::new(&f.function("unfit"), LaunchConfig::new(1, 1), KernelArgs::new());
    add_kernel(&mut graph, node.label("layer 3"), &[]).expect("a node");
    let error = graph.instantiate().expect_err("an instantiated graph");
    assert!(error.to_string().contains("kernel node \"layer 3\" (reason 3)"), "{error}");
    assert!(error.to_string().contains("CUDA_ERROR_NOT_SUPPORTED"), "{error}");
}

#[test]
fn a_driver_without_graphs_says_so() {
    let double = Double::new();
    let driver = double.driver_with(|t| t.graph_create = None);
    let f = Fixture::over(double, &driver);
    let error = Graph::new(&f.context).expect_err("a graph");
    assert!(error.to_string().starts_with("the driver lacks cuGraphCreate, which CUDA 10.0"), "{error}");
}
