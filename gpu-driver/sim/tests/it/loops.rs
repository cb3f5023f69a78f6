//! Loops of graphs: conditions that kernels set, and bodies that run while they hold.

use std::sync::Arc;

use gpu_driver::graph::{
    Conditional, Dependency, EdgeKind, Graph, KernelNode, MemsetValue, NodeType, Region,
};
use gpu_driver::sys::*;
use gpu_driver::{
    DeviceBuffer, DriverError, GraphExec, KernelArgs, LaunchConfig, Module, SharedPinned, Stream,
};
use gpu_driver_sim::{Fault, FindingKind, ObjectKind, SimConfig, SimDriver};

use crate::support::Gpu;

const LOOPS: &str = include_str!("loops.ptx");

type Words = Arc<DeviceBuffer<u32>>;

fn node(module: &Module, kernel: &str, args: KernelArgs, data: &Words) -> KernelNode {
    KernelNode::new(&module.function(kernel).unwrap(), LaunchConfig::new(1, 1), args).keep(data.clone())
}

/// Counts the first word down and the second up, and goes on while the first is not 0.
fn count_down(module: &Module, data: &Words, condition: Conditional) -> KernelNode {
    let args = KernelArgs::from_pointers([data.device_ptr()]).with(condition.handle());
    node(module, "count_down", args, data)
}

fn set(module: &Module, handle: u64, value: u32, data: &Words) -> KernelNode {
    node(module, "set", KernelArgs::new().with(handle).with(value), data)
}

fn add(graph: &mut Graph, node: KernelNode, after: &[Dependency]) -> gpu_driver::NodeId {
    // SAFETY: the kernels touch words of buffers that the nodes own; edges order them. Wrong conditions are tests.
    unsafe { graph.add_kernel(node, after) }.unwrap()
}

fn loops(gpu: &Gpu) -> Module {
    Module::from_ptx(&gpu.context, LOOPS).unwrap()
}

fn buffer(gpu: &Gpu, words: &[u32]) -> Words {
    Arc::new(DeviceBuffer::from_slice(&gpu.stream, words).unwrap())
}

fn region(data: &Words, range: std::ops::Range<usize>) -> Region {
    Region::device(data, range).unwrap()
}

/// Sets the first word to `n`, counts it down to 0, and copies the second, the number of iterations, to the third.
fn counting(module: &Module, data: &Words, n: u32, launch_value: u32) -> Graph {
    let mut graph = Graph::new(data.context()).unwrap();
    let condition = graph.conditional(launch_value).unwrap();
    let begin = graph.add_memset(&region(data, 0..1), MemsetValue::Word(n), &[]).unwrap();
    let repeated = graph.add_while(condition, &[begin.into()], |body| {
        add(body, count_down(module, data, condition), &[]);
        Ok::<_, DriverError>(())
    });
    graph.add_memcpy(&region(data, 2..3), &region(data, 1..2), &[repeated.unwrap().into()]).unwrap();
    graph
}

fn run(gpu: &Gpu, exec: &GraphExec, data: &Words) -> Vec<u32> {
    exec.launch(&gpu.stream).unwrap();
    gpu.stream.read_to_vec(&data.as_slice()).unwrap()
}

#[test]
fn a_loop_runs_while_its_condition_holds_and_what_depends_on_it_after_it() {
    for seed in 0..8 {
        let gpu = Gpu::seeded(seed);
        let (module, data) = (loops(&gpu), buffer(&gpu, &[0, 0, 0]));
        let graph = counting(&module, &data, 5, 1);
        assert!(graph.takes_conditional());
        use NodeType::{Conditional, Memcpy, Memset};
        assert_eq!(graph.driver_node_types().unwrap(), [Memset, Conditional, Memcpy]);
        assert_eq!(graph.driver_edges().unwrap(), graph.edges());
        let exec = graph.instantiate().unwrap();
        exec.upload(&gpu.stream).unwrap();
        assert_eq!(run(&gpu, &exec, &data), [0, 5, 5]);
        assert_eq!(run(&gpu, &exec, &data), [0, 10, 10], "each launch begins with the launch value");
        // Several launches that wait for nothing in between.
        for _ in 0..3 {
            exec.launch(&gpu.stream).unwrap();
        }
        assert_eq!(run(&gpu, &exec, &data), [0, 30, 30]);
        let launches = gpu.sim.take_launches();
        assert_eq!(launches.len(), 30);
        assert!(launches.windows(2).all(|pair| pair[0].end_ns < pair[1].start_ns && !pair[1].programmatic));
        drop((graph, exec, data, module));
        gpu.finish();
    }
}

#[test]
fn a_launch_value_of_zero_runs_nothing() {
    let gpu = Gpu::new();
    let (module, data) = (loops(&gpu), buffer(&gpu, &[7, 3, 0]));
    let exec = counting(&module, &data, 5, 0).instantiate().unwrap();
    assert_eq!(run(&gpu, &exec, &data), [5, 3, 3]);
    assert!(gpu.sim.take_launches().is_empty());
    drop((exec, data, module));
    gpu.finish();
}

#[test]
fn a_kernel_before_the_loop_can_stop_it() {
    for (value, turns) in [(0, 0), (7, 2)] {
        let gpu = Gpu::new();
        let (module, data) = (loops(&gpu), buffer(&gpu, &[2, 0]));
        let mut graph = Graph::new(&gpu.context).unwrap();
        let condition = graph.conditional(1).unwrap();
        let first = add(&mut graph, set(&module, condition.handle(), value, &data), &[]);
        let fill = |body: &mut Graph| {
            add(body, count_down(&module, &data, condition), &[]);
            Ok::<_, DriverError>(())
        };
        graph.add_while(condition, &[first.into()], fill).unwrap();
        let exec = graph.instantiate().unwrap();
        assert_eq!(run(&gpu, &exec, &data), [2 - turns, turns]);
        drop((graph, exec, data, module));
        gpu.finish();
    }
}

/// A body with nodes of every kind: the producer writes word 4 from word 3 plus 1, the consumer, which may overtake it,
/// word 3 from word 4.
fn every_kind(seed: u64, consumer: &str) -> Result<Vec<u32>, FindingKind> {
    let gpu = Gpu::seeded(seed);
    let (module, data) = (loops(&gpu), buffer(&gpu, &[3, 0, 9, 10, 0, 9]));
    let pdl = Module::from_ptx(&gpu.context, include_str!("pdl.ptx")).unwrap();
    let at = |i: u64| data.device_ptr().byte_add(4 * i);
    let kernel = |name, to, from| node(&pdl, name, KernelArgs::from_pointers([at(to), at(from)]), &data);
    let mut child = Graph::new(&gpu.context).unwrap();
    child.add_memset(&region(&data, 2..3), MemsetValue::Word(1), &[]).unwrap();
    let mut graph = Graph::new(&gpu.context).unwrap();
    let condition = graph.conditional(1).unwrap();
    let fill = |body: &mut Graph| {
        let produced = add(body, kernel("produces", 4, 3), &[]);
        let consumed = add(body, kernel(consumer, 3, 4), &[Dependency::programmatic(produced)]);
        let copied = body.add_memcpy(&region(&data, 5..6), &region(&data, 3..4), &[consumed.into()])?;
        let embedded = body.add_child(&child, &[])?;
        let met = body.add_empty(&[embedded.into(), copied.into()])?;
        add(body, count_down(&module, &data, condition), &[met.into()]);
        assert_eq!(body.driver_edges()?[0].kind, EdgeKind::Programmatic);
        Ok::<_, DriverError>(())
    };
    graph.add_while(condition, &[], fill).unwrap();
    let exec = graph.instantiate().unwrap();
    drop((graph, child, pdl, module));
    exec.launch(&gpu.stream).unwrap();
    let words = gpu.stream.read_to_vec(&data.as_slice());
    match gpu.sim.report().findings.first() {
        Some(finding) => Err(finding.kind),
        None => {
            let overlaps = gpu.sim.take_launches().iter().filter(|launch| launch.programmatic).count();
            assert_eq!(overlaps, 3);
            drop((exec, data));
            gpu.finish();
            Ok(words.unwrap())
        }
    }
}

#[test]
fn a_body_has_programmatic_edges_and_every_kind_of_node() {
    for seed in 0..8 {
        assert_eq!(every_kind(seed, "waits").unwrap(), [0, 3, 1, 13, 13, 13]);
        assert_eq!(every_kind(seed, "hurries"), Err(FindingKind::GridDependency));
    }
}

#[test]
fn the_definition_and_all_that_it_names_may_go_first() {
    let gpu = Gpu::new();
    let (module, data) = (loops(&gpu), buffer(&gpu, &[0, 0, 0]));
    let pinned = Arc::new(SharedPinned::<u32>::zeroed(&gpu.context, 1).unwrap());
    let mut graph = Graph::new(&gpu.context).unwrap();
    let condition = graph.conditional(1).unwrap();
    let begin = graph.add_memset(&region(&data, 0..2), MemsetValue::Word(4), &[]).unwrap();
    let fill = |body: &mut Graph| {
        let counted = add(body, count_down(&module, &data, condition), &[]);
        let out = Region::pinned(&pinned, ..)?;
        body.add_memcpy(&out, &region(&data, 1..2), &[counted.into()]).map(|_| ())
    };
    graph.add_while(condition, &[begin.into()], fill).unwrap();
    let exec = graph.instantiate().unwrap();
    let watch = Arc::downgrade(&data);
    drop((graph, data, module));
    assert!(watch.upgrade().is_some());
    exec.launch(&gpu.stream).unwrap();
    exec.wait().unwrap();
    assert_eq!(pinned.read(0).unwrap(), 8);
    drop(exec);
    assert!(watch.upgrade().is_none());
    drop(pinned);
    gpu.finish();
}

#[test]
fn loops_that_run_at_the_same_time_have_values_of_their_own() {
    for seed in 0..8 {
        let gpu = Gpu::seeded(seed);
        let module = loops(&gpu);
        let other = Stream::new(&gpu.context).unwrap();
        let (a, b) = (buffer(&gpu, &[0, 0, 0]), buffer(&gpu, &[0, 0, 0]));
        gpu.stream.synchronize().unwrap();
        let exec = |data, n| counting(&module, data, n, 1).instantiate().unwrap();
        let (first, second) = (exec(&a, 3), exec(&b, 6));
        first.launch(&gpu.stream).unwrap();
        second.launch(&other).unwrap();
        assert_eq!(gpu.stream.read_to_vec(&a.as_slice()).unwrap(), [0, 3, 3]);
        assert_eq!(other.read_to_vec(&b.as_slice()).unwrap(), [0, 6, 6]);
        drop((first, second, a, b, other, module));
        gpu.finish();
    }
}

#[test]
fn what_nothing_orders_runs_in_any_order_in_a_body_too() {
    let run = |seed, linked: bool| {
        let gpu = Gpu::seeded(seed);
        let (module, data) = (loops(&gpu), buffer(&gpu, &[3, 0, 0]));
        let mut graph = Graph::new(&gpu.context).unwrap();
        let condition = graph.conditional(1).unwrap();
        let fill = |body: &mut Graph| {
            let counted = add(body, count_down(&module, &data, condition), &[]);
            let after: Vec<Dependency> = linked.then_some(counted.into()).into_iter().collect();
            body.add_memcpy(&region(&data, 2..3), &region(&data, 1..2), &after).map(|_| ())
        };
        graph.add_while(condition, &[], fill).unwrap();
        let exec = graph.instantiate().unwrap();
        let words = self::run(&gpu, &exec, &data);
        drop((graph, exec, data, module));
        gpu.finish();
        words == [0, 3, 3]
    };
    assert!((0..8).all(|seed| run(seed, true)));
    assert!(!(0..8).all(|seed| run(seed, false)));
}

#[test]
fn an_endless_loop_ends_with_an_error() {
    let gpu = Gpu::with(SimConfig { most_iterations: 100, ..SimConfig::default() });
    let data = buffer(&gpu, &[0]);
    let mut graph = Graph::new(&gpu.context).unwrap();
    let condition = graph.conditional(2).unwrap();
    let fill =
        |body: &mut Graph| body.add_memset(&region(&data, 0..1), MemsetValue::Word(1), &[]).map(|_| ());
    graph.add_while(condition, &[], fill).unwrap();
    let exec = graph.instantiate().unwrap();
    exec.launch(&gpu.stream).unwrap();
    let error = exec.wait().unwrap_err();
    assert!(error.to_string().contains("CUDA_ERROR_LAUNCH_TIMEOUT"), "{error}");
    let faults = gpu.sim.report().faults;
    let expected = format!("endless: condition {:#x} is 2 after 100 iterations", condition.handle());
    assert!(faults.len() == 1 && faults[0].contains(&expected), "{faults:?}");
}

#[test]
fn only_conditions_of_the_graph_that_runs_are_set() {
    let fault = |handle_of: fn(&Gpu, &Module, &Words) -> (u64, Option<Graph>), in_graph: bool| {
        let gpu = Gpu::new();
        let (module, data) = (loops(&gpu), buffer(&gpu, &[1, 0, 0]));
        let (handle, _graph) = handle_of(&gpu, &module, &data);
        if in_graph {
            let mut graph = Graph::new(&gpu.context).unwrap();
            add(&mut graph, set(&module, handle, 1, &data), &[]);
            graph.instantiate().unwrap().launch(&gpu.stream).unwrap();
        } else {
            let args = KernelArgs::new().with(handle).with(1u32);
            let kernel = module.function("set").unwrap();
            // SAFETY: the kernel touches no memory.
            unsafe { kernel.launch(&gpu.stream, &LaunchConfig::new(1, 1), &args) }.unwrap();
        }
        assert!(gpu.context.synchronize().is_err());
        gpu.sim.report().faults.join(" ")
    };
    let foreign = |gpu: &Gpu, _: &Module, _: &Words| {
        let mut graph = Graph::new(&gpu.context).unwrap();
        (graph.conditional(1).unwrap().handle(), Some(graph))
    };
    let text = fault(|_, _, _| (0x1234, None), true);
    let expected = "kernel set: cudaGraphSetConditional of 0x1234: it is no condition of the graph that runs";
    assert!(text.contains("ILLEGAL_ADDRESS") && text.contains(expected), "{text}");
    let text = fault(foreign, true);
    assert!(text.contains("it is no condition of the graph that runs"), "{text}");
    let text = fault(foreign, false);
    assert!(text.contains("the kernel is not part of a graph"), "{text}");
}

#[track_caller]
fn refused<T: std::fmt::Debug>(outcome: Result<T, DriverError>, why: &str) {
    let error = outcome.expect_err("it is accepted").to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn misuse_is_refused_before_the_driver_sees_it() {
    let gpu = Gpu::new();
    let data = buffer(&gpu, &[0; 3]);
    let fill = |body: &mut Graph| body.add_empty(&[]).map(|_| ());
    let mut graph = Graph::new(&gpu.context).unwrap();
    let mut other = Graph::new(&gpu.context).unwrap();
    let (condition, foreign) = (graph.conditional(0).unwrap(), other.conditional(0).unwrap());
    assert_ne!(condition.handle(), foreign.handle());
    gpu.sim.forget_calls();
    refused(graph.add_while(foreign, &[], fill), "the condition is of another graph");
    refused(graph.instantiate(), "1 conditions have no loop");
    assert!(gpu.sim.calls_of("cuGraph").is_empty());
    let id = graph.add_while(condition, &[], fill).unwrap();
    gpu.sim.forget_calls();
    refused(graph.add_while(condition, &[], fill), "the condition has a loop already");
    let programmatic = Dependency::programmatic(id);
    let extra = graph.conditional(0).unwrap();
    refused(graph.add_while(extra, &[programmatic], fill), "joins two kernels");
    refused(other.add_child(&graph, &[]), "cannot be a child of another");
    assert_eq!(gpu.sim.calls_of("cuGraph").len(), 1);
    let in_body = |body: &mut Graph| {
        refused(body.conditional(1), "a loop in the body of a loop");
        refused(body.instantiate(), "cannot be used without its graph");
        refused(Graph::new(&gpu.context)?.add_child(body, &[]), "cannot be used without its graph");
        refused(body.add_empty(&[id.into()]), "is of another graph");
        Ok::<_, DriverError>(())
    };
    graph.add_while(extra, &[id.into()], in_body).unwrap();
    let mut exec = graph.instantiate().unwrap();
    refused(graph.instantiate(), "once its instantiated graph has been dropped");
    refused(exec.update(&graph), "a graph with a loop cannot be used for an update");
    refused(exec.update(&Graph::new(&gpu.context).unwrap()), "cannot be updated as a whole");
    drop(exec);
    let exec = graph.instantiate().unwrap();
    exec.launch(&gpu.stream).unwrap();
    exec.wait().unwrap();
    drop((graph, other, exec, data));
    gpu.finish();
}

#[test]
fn nodes_beside_a_loop_take_new_arguments_and_those_in_it_do_not() {
    let gpu = Gpu::new();
    let (module, data) = (loops(&gpu), buffer(&gpu, &[0; 3]));
    let mut graph = Graph::new(&gpu.context).unwrap();
    let condition = graph.conditional(1).unwrap();
    let begin = graph.add_memset(&region(&data, 0..1), MemsetValue::Word(2), &[]).unwrap();
    let mut inner = None;
    let fill = |body: &mut Graph| {
        inner = Some(add(body, count_down(&module, &data, condition), &[]));
        Ok::<_, DriverError>(())
    };
    graph.add_while(condition, &[begin.into()], fill).unwrap();
    let mut exec = graph.instantiate().unwrap();
    exec.update_memset(begin, &region(&data, 0..1), MemsetValue::Word(4)).unwrap();
    assert_eq!(run(&gpu, &exec, &data), [0, 4, 0]);
    // SAFETY: refused.
    let updated = unsafe { exec.update_kernel(inner.unwrap(), count_down(&module, &data, condition)) };
    refused(updated, "not of the definition");
    drop((graph, exec, data, module));
    gpu.finish();
}

#[test]
fn a_body_that_is_not_finished_is_not_instantiated() {
    #[derive(Debug)]
    struct Mine(String);
    impl From<DriverError> for Mine {
        fn from(error: DriverError) -> Self {
            Self(error.to_string())
        }
    }
    let gpu = Gpu::new();
    let mut graph = Graph::new(&gpu.context).unwrap();
    let condition = graph.conditional(1).unwrap();
    let fails = |body: &mut Graph| {
        body.add_empty(&[]).unwrap();
        Err(Mine("no more".to_owned()))
    };
    assert_eq!(graph.add_while(condition, &[], fails).unwrap_err().0, "no more");
    refused(graph.instantiate(), "the definition is incomplete: the body of node n0 is not finished");
    drop(graph);
    let mut graph = Graph::new(&gpu.context).unwrap();
    let mut stolen = Graph::new(&gpu.context).unwrap();
    let condition = graph.conditional(1).unwrap();
    let steals = |body: &mut Graph| {
        std::mem::swap(body, &mut stolen);
        Ok::<_, DriverError>(())
    };
    refused(graph.add_while(condition, &[], steals), "was exchanged for another graph");
    refused(graph.instantiate(), "is not finished");
    drop(graph);
    stolen.add_empty(&[]).unwrap();
    let graphs = gpu.sim.live().into_iter().filter(|object| object.kind == ObjectKind::Graph);
    assert_eq!(graphs.count(), 1, "the body keeps its graph");
    let mut graph = Graph::new(&gpu.context).unwrap();
    let condition = graph.conditional(1).unwrap();
    let panics = |_: &mut Graph| -> Result<(), DriverError> { panic!("in a body") };
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        graph.add_while(condition, &[], panics).map(|_| ())
    }));
    assert!(caught.is_err());
    refused(graph.instantiate(), "is not finished");
    drop((graph, stolen));
    gpu.finish();
}

#[test]
fn kernels_of_a_body_stay_loaded_as_long_as_the_graph_has_them() {
    let gpu = Gpu::new();
    let data = buffer(&gpu, &[0; 3]);
    for whole in [true, false] {
        let module = loops(&gpu);
        let mut graph = Graph::new(&gpu.context).unwrap();
        let condition = graph.conditional(1).unwrap();
        let other = loops(&gpu);
        add(&mut graph, set(&other, condition.handle(), 1, &data), &[]);
        drop(other);
        let fill = |body: &mut Graph| {
            add(body, count_down(&module, &data, condition), &[]);
            if whole { Ok(()) } else { Err(DriverError::NoDevice) }
        };
        assert_eq!(graph.add_while(condition, &[], fill).is_ok(), whole);
        assert_eq!(graph.driver_dot().is_ok(), whole);
        gpu.sim.forget_calls();
        drop(module);
        assert!(gpu.sim.calls_of("cuModuleUnload").is_empty(), "whole: {whole}");
        drop(graph);
        let trace = gpu.sim.trace();
        let position = |name| trace.iter().position(|call| call.name == name).unwrap();
        assert!(position("cuGraphDestroy") < position("cuModuleUnload"), "whole: {whole}");
    }
    drop(data);
    gpu.finish();
}

#[test]
fn old_drivers_have_no_loops() {
    let expected = [
        (12_020, "the driver lacks cuGraphConditionalHandleCreate, which CUDA 12.3 introduced"),
        (12_030, "conditional nodes need CUDA 12.4, this driver supports 12.3"),
    ];
    for (cuda_version, why) in expected {
        let gpu = Gpu::with(SimConfig { cuda_version, ..SimConfig::default() });
        let mut graph = Graph::new(&gpu.context).unwrap();
        assert!(!graph.takes_conditional());
        refused(graph.conditional(1), why);
        let load = Module::from_ptx(&gpu.context, LOOPS).unwrap_err().to_string();
        assert!(load.contains("cudaGraphSetConditional"), "{load}");
        drop(graph);
        gpu.finish();
    }
}

#[test]
fn drawings_have_the_body_in_a_box() {
    let gpu = Gpu::new();
    let (module, data) = (loops(&gpu), buffer(&gpu, &[0; 3]));
    let graph = counting(&module, &data, 1, 1);
    let dot = graph.to_dot();
    for line in [
        "n1 [shape=diamond, label=\"n1 while of 1 nodes\"];",
        "subgraph cluster_n1 {",
        "n1_n0 [shape=box, label=\"n0 count_down\"];",
        "n0 -> n1;",
    ] {
        assert!(dot.contains(line), "{dot}");
    }
    assert!(graph.driver_dot().unwrap().contains("while 0x"));
    drop((graph, data, module));
    gpu.finish();
}

/// A program with a loop that counts from 3.
fn program(sim: &SimDriver) -> Result<Vec<u32>, DriverError> {
    let context = sim.driver().expect("a table").context(0)?;
    let stream = Stream::new(&context)?;
    let module = Module::from_ptx(&context, LOOPS)?;
    let (kernel, data) =
        (module.function("count_down")?, Arc::new(DeviceBuffer::from_slice(&stream, &[3u32, 0])?));
    let mut graph = Graph::new(&context)?;
    let condition = graph.conditional(1)?;
    let args = KernelArgs::from_pointers([data.device_ptr()]).with(condition.handle());
    graph.add_while(condition, &[], |body| {
        let first = body.add_empty(&[])?;
        let node = KernelNode::new(&kernel, LaunchConfig::new(1, 1), args).keep(data.clone());
        // SAFETY: the kernel touches two words of the buffer, which the node owns.
        unsafe { body.add_kernel(node, &[first.into()]) }?;
        Ok::<_, DriverError>(())
    })?;
    let exec = graph.instantiate()?;
    exec.launch(&stream)?;
    stream.read_to_vec(&data.as_slice())
}

#[test]
fn every_call_that_fails_is_named_and_nothing_leaks() {
    let config = || SimConfig { threads: Some(1), ..SimConfig::default() };
    let sim = SimDriver::new(config()).unwrap();
    assert_eq!(program(&sim).unwrap(), [0, 3]);
    let trace = sim.trace();
    for name in ["cuGraphConditionalHandleCreate(1)", "cuGraphAddNode(0)"] {
        assert!(trace.iter().any(|call| call.to_string() == name), "{trace:?}");
    }
    let mut named = 0;
    for (call, nth) in trace.iter().zip(1..) {
        let sim = SimDriver::new(config()).unwrap();
        sim.inject(Fault::new("*", nth, CUresult::ERROR_UNKNOWN));
        match program(&sim) {
            Ok(words) => assert_eq!(words, [0, 3], "{call}: in a destructor, or an optional question"),
            Err(error) => {
                named += u32::from(call.name.starts_with("cuGraph"));
                // Where the version cannot be asked, that is the error.
                assert!(error.to_string().contains(call.name), "{call}: {error}");
            }
        }
        let report = sim.report();
        assert!(report.leaks.is_empty() && report.live.is_empty(), "{call}: {report}\n{:?}", report.live);
        assert_eq!(program(&sim).unwrap(), [0, 3], "{call}");
    }
    assert!(named >= 6, "{named}");
}

#[test]
fn a_kernel_that_fails_in_a_body_ends_the_loop() {
    let sim = SimDriver::new(SimConfig { threads: Some(1), ..SimConfig::default() }).unwrap();
    sim.inject(Fault::new("launch", 2, CUresult::ERROR_ILLEGAL_ADDRESS));
    let error = program(&sim).unwrap_err().to_string();
    assert!(error.contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{error}");
    assert_eq!(sim.take_launches().len(), 1);
    assert!(sim.live().is_empty(), "{:?}", sim.live());
}

#[test]
fn the_driver_refuses_what_is_no_loop_of_the_graph() {
    let gpu = Gpu::new();
    gpu.context.make_current().unwrap();
    let t = gpu.driver.table();
    let create = t.graph_conditional_handle_create.unwrap();
    let (mut graph, mut other) = (CUgraph::NULL, CUgraph::NULL);
    let (mut node, mut exec) = (CUgraphNode::NULL, CUgraphExec::NULL);
    let (mut handle, mut foreign) = (0u64, 0u64);
    let context = gpu.context.handle();
    let (ok, invalid, unsupported) =
        (CUresult::SUCCESS, CUresult::ERROR_INVALID_VALUE, CUresult::ERROR_NOT_SUPPORTED);
    let params = |handle, kind, size, ctx| {
        let mut value = CUgraphNodeParamsValue::ZERO;
        value.conditional =
            CUDA_CONDITIONAL_NODE_PARAMS { handle, kind, size, graphs: std::ptr::null_mut(), ctx };
        CUgraphNodeParams { kind: CU_GRAPH_NODE_TYPE_CONDITIONAL, reserved0: [0; 3], value, reserved2: 0 }
    };
    // SAFETY: results go to locals, structures live during their calls, and the driver checks handles.
    unsafe {
        assert_eq!((t.graph_create.unwrap())(&mut graph, 0), ok);
        assert_eq!((t.graph_create.unwrap())(&mut other, 0), ok);
        assert_eq!(create(&mut handle, graph, CUcontext::NULL, 1, 1), invalid, "no context");
        assert_eq!(create(&mut handle, graph, context, 1, 2), invalid, "an unknown flag");
        assert_eq!(create(&mut handle, CUgraph::NULL, context, 1, 1), invalid);
        assert_eq!(create(std::ptr::null_mut(), graph, context, 1, 1), invalid);
        assert_eq!(create(&mut handle, graph, context, 1, 0), ok);
        assert_eq!(create(&mut foreign, other, context, 1, 1), ok);
        let mut add = |graph, params: &mut CUgraphNodeParams| {
            let null = std::ptr::null();
            (t.graph_add_node.unwrap())(&mut node, graph, null, null.cast(), 0, params)
        };
        let (repeat, branch) = (CU_GRAPH_COND_TYPE_WHILE, CU_GRAPH_COND_TYPE_IF);
        for (handle, kind, size, ctx, code) in [
            (0x30, repeat, 1, context, invalid),
            (foreign, repeat, 1, context, invalid),
            (handle, 3, 1, context, invalid),
            (handle, repeat, 0, context, invalid),
            (handle, repeat, 2, context, invalid),
            (handle, repeat, 1, CUcontext::NULL, invalid),
            (handle, branch, 1, context, unsupported),
        ] {
            assert_eq!(add(graph, &mut params(handle, kind, size, ctx)), code, "{handle:#x} {kind} {size}");
        }
        let mut odd = params(handle, repeat, 1, context);
        odd.reserved2 = 1;
        assert_eq!(add(graph, &mut odd), invalid);
        odd = params(handle, repeat, 1, context);
        odd.value.pad[10] = 1;
        assert_eq!(add(graph, &mut odd), invalid);
        odd = CUgraphNodeParams { kind: CU_GRAPH_NODE_TYPE_EMPTY, ..params(0, 0, 0, context) };
        assert_eq!(add(graph, &mut odd), unsupported);
        // A condition without a node.
        assert_eq!((t.graph_instantiate_with_flags.unwrap())(&mut exec, graph, 0), invalid);
        let mut right = params(handle, repeat, 1, context);
        assert_eq!(add(graph, &mut right), ok);
        let body = right.value.conditional.graphs.read();
        assert_eq!(add(graph, &mut params(handle, repeat, 1, context)), invalid, "it has a node");
        assert_eq!((t.graph_destroy.unwrap())(body), invalid, "the node owns it");
        assert_eq!((t.graph_instantiate_with_flags.unwrap())(&mut exec, body, 0), invalid);
        let null = std::ptr::null();
        assert_eq!((t.graph_add_child_graph_node.unwrap())(&mut node, other, null, 0, graph), unsupported);
        assert_eq!((t.graph_instantiate_with_flags.unwrap())(&mut exec, graph, 0), ok);
        let mut again = CUgraphExec::NULL;
        assert_eq!((t.graph_instantiate_with_flags.unwrap())(&mut again, graph, 0), unsupported);
        assert_eq!((t.graph_destroy.unwrap())(graph), ok);
        assert_eq!((t.graph_destroy.unwrap())(other), ok);
        // Without a default value somebody has to set one.
        assert_eq!((t.graph_launch.unwrap())(exec, gpu.stream.handle()), ok);
        assert_eq!((t.ctx_synchronize)(), CUresult::ERROR_LAUNCH_FAILED);
        let _ = (t.graph_exec_destroy.unwrap())(exec);
    }
    let faults = gpu.sim.report().faults;
    assert!(faults.len() == 1 && faults[0].contains("neither a default value"), "{faults:?}");
}

/// A loop in a loop, which the safe layer does not make: the inner condition gets its value when the launch begins.
#[test]
fn a_body_can_have_a_loop() {
    let gpu = Gpu::new();
    gpu.context.make_current().unwrap();
    let (module, data) = (loops(&gpu), buffer(&gpu, &[2, 0, 3, 0]));
    let kernel = module.function("count_down").unwrap();
    let t = gpu.driver.table();
    let context = gpu.context.handle();
    let mut exec = CUgraphExec::NULL;
    // SAFETY: results go to locals, structures live during their calls, arguments are those of the kernel, and the
    // buffer outlives the wait.
    unsafe {
        let mut graph = CUgraph::NULL;
        assert_eq!((t.graph_create.unwrap())(&mut graph, 0), CUresult::SUCCESS);
        let mut level = graph;
        for i in 0..2u64 {
            let (mut handle, mut node) = (0u64, CUgraphNode::NULL);
            let create = t.graph_conditional_handle_create.unwrap();
            // The handle of the inner loop may be of either graph.
            assert_eq!(create(&mut handle, graph, context, 1, 1), CUresult::SUCCESS);
            let mut value = CUgraphNodeParamsValue::ZERO;
            let (kind, graphs) = (CU_GRAPH_COND_TYPE_WHILE, std::ptr::null_mut());
            value.conditional = CUDA_CONDITIONAL_NODE_PARAMS { handle, kind, size: 1, graphs, ctx: context };
            let kind = CU_GRAPH_NODE_TYPE_CONDITIONAL;
            let mut params = CUgraphNodeParams { kind, reserved0: [0; 3], value, reserved2: 0 };
            let null = std::ptr::null();
            let add = t.graph_add_node.unwrap();
            assert_eq!(add(&mut node, level, null, null.cast(), 0, &mut params), CUresult::SUCCESS);
            level = params.value.conditional.graphs.read();
            let mut pointer = data.device_ptr().byte_add(8 * i);
            let mut arguments = [(&raw mut pointer).cast(), (&raw mut handle).cast()];
            let params = CUDA_KERNEL_NODE_PARAMS_v2 {
                func: kernel.handle(),
                grid_dim: [1; 3],
                block_dim: [1; 3],
                shared_mem_bytes: 0,
                kernel_params: arguments.as_mut_ptr(),
                extra: std::ptr::null_mut(),
                kern: CUkernel::NULL,
                ctx: CUcontext::NULL,
            };
            let add = t.graph_add_kernel_node.unwrap();
            assert_eq!(add(&mut node, level, null, 0, &params), CUresult::SUCCESS);
        }
        assert_eq!((t.graph_instantiate_with_flags.unwrap())(&mut exec, graph, 0), CUresult::SUCCESS);
        assert_eq!((t.graph_destroy.unwrap())(graph), CUresult::SUCCESS);
        assert_eq!((t.graph_launch.unwrap())(exec, gpu.stream.handle()), CUresult::SUCCESS);
    }
    assert_eq!(gpu.stream.read_to_vec(&data.as_slice()).unwrap(), [0, 2, 0, 3]);
    // SAFETY: it is not used again.
    unsafe { assert_eq!((t.graph_exec_destroy.unwrap())(exec), CUresult::SUCCESS) };
    drop((data, kernel, module));
    gpu.finish();
}
