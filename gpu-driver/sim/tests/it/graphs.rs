//! Explicit graphs.

use std::sync::Arc;
use std::time::Duration;

use gpu_driver::graph::{Dependency, EdgeKind, Graph, KernelNode, MemsetValue, NodeType, Region};
use gpu_driver::sys::{CUgraphEdgeData, CUresult};
use gpu_driver::{DeviceBuffer, DriverError, KernelArgs, LaunchConfig, Module, SharedPinned, Stream};

use crate::support::{Gpu, words};

fn triple(gpu: &Gpu, data: &Arc<DeviceBuffer<u32>>) -> KernelNode {
    let args = KernelArgs::from_pointers([data.device_ptr()]);
    KernelNode::new(&gpu.function("triple"), LaunchConfig::new(1, 4), args).keep(data.clone())
}

fn add(gpu: &Gpu, data: &Arc<DeviceBuffer<u32>>, n: u32) -> KernelNode {
    let args = KernelArgs::from_pointers([data.device_ptr()]).with(n);
    KernelNode::new(&gpu.function("add"), LaunchConfig::new(1, 4), args).keep(data.clone())
}

#[test]
fn every_kind_of_node_runs_in_the_order_of_its_edges() {
    for seed in 0..8 {
        let gpu = Gpu::seeded(seed);
        let data = Arc::new(DeviceBuffer::<u32>::uninit(&gpu.context, 4).unwrap());
        let pinned = Arc::new(SharedPinned::<u32>::zeroed(&gpu.context, 4).unwrap());
        let on_device = Region::device(&data, ..).unwrap();
        let on_host = Region::pinned(&pinned, ..).unwrap();
        let mut child = Graph::new(&gpu.context).unwrap();
        // SAFETY: the kernel touches four words of the buffer, which the node owns; edges order it.
        let inner = unsafe { child.add_kernel(add(&gpu, &data, 5), &[]) }.unwrap();
        // SAFETY: as above.
        unsafe { child.add_kernel(triple(&gpu, &data), &[inner.into()]) }.unwrap();
        let mut graph = Graph::new(&gpu.context).unwrap();
        let fill = graph.add_memset(&on_device, MemsetValue::Word(2), &[]).unwrap();
        let meet = graph.add_empty(&[fill.into()]).unwrap();
        let middle = graph.add_child(&child, &[meet.into()]).unwrap();
        // SAFETY: as above.
        let last = unsafe { graph.add_kernel(add(&gpu, &data, 1), &[middle.into()]) }.unwrap();
        graph.add_memcpy(&on_host, &on_device, &[last.into()]).unwrap();
        let types = graph.driver_node_types().unwrap();
        let expected =
            [NodeType::Memset, NodeType::Empty, NodeType::Child, NodeType::Kernel, NodeType::Memcpy];
        assert_eq!(types, expected);
        assert_eq!(graph.driver_edges().unwrap().len(), 4);
        assert!(graph.driver_dot().unwrap().contains("kernel add"));
        let exec = graph.instantiate().unwrap();
        drop(child);
        exec.upload(&gpu.stream).unwrap();
        for _ in 0..2 {
            exec.launch(&gpu.stream).unwrap();
            gpu.stream.synchronize().unwrap();
            let mut words = [0; 4];
            pinned.read_range(0, &mut words).unwrap();
            assert_eq!(words, [22; 4]);
        }
        drop((graph, exec, data, pinned, on_device, on_host));
        gpu.finish();
    }
}

#[test]
fn arguments_are_those_of_the_node_and_updates_replace_them() {
    let gpu = Gpu::new();
    let data = Arc::new(DeviceBuffer::from_slice(&gpu.stream, &[0u32; 4]).unwrap());
    let other = Arc::new(DeviceBuffer::from_slice(&gpu.stream, &[100u32; 4]).unwrap());
    let mut graph = Graph::new(&gpu.context).unwrap();
    // SAFETY: the kernels touch four words of the buffers, which the nodes own.
    let node = unsafe { graph.add_kernel(add(&gpu, &data, 1), &[]) }.unwrap();
    let fill = graph.add_memset(&Region::device(&other, 0..1).unwrap(), MemsetValue::Word(8), &[]).unwrap();
    let region = |range: std::ops::Range<usize>| Region::device(&other, range).unwrap();
    let copy = graph.add_memcpy(&region(3..4), &region(1..2), &[]).unwrap();
    let mut exec = graph.instantiate().unwrap();
    exec.launch(&gpu.stream).unwrap();
    let read = |buffer: &DeviceBuffer<u32>| gpu.stream.read_to_vec(&buffer.as_slice()).unwrap();
    assert_eq!((read(&data), read(&other)), (vec![1; 4], vec![8, 100, 100, 100]));
    // SAFETY: as above; the launch has finished.
    unsafe { exec.update_kernel(node, add(&gpu, &data, 10)) }.unwrap();
    exec.update_memset(fill, &region(1..2), MemsetValue::Byte(1)).unwrap();
    exec.update_memcpy(copy, &region(3..4), &region(0..1)).unwrap();
    exec.launch(&gpu.stream).unwrap();
    assert_eq!((read(&data), read(&other)), (vec![11; 4], vec![8, 0x0101_0101, 100, 8]));
    drop((graph, exec, data, other));
    gpu.finish();
}

#[test]
fn an_update_that_changes_the_shape_is_refused() {
    let gpu = Gpu::new();
    let data = Arc::new(DeviceBuffer::from_slice(&gpu.stream, &[1u32; 4]).unwrap());
    let region = Region::device(&data, ..).unwrap();
    let make = |nodes: &[u32], linked: bool| {
        let mut graph = Graph::new(&gpu.context).unwrap();
        let mut last = None;
        for n in nodes {
            let deps: Vec<Dependency> = last.filter(|_| linked).map(Dependency::full).into_iter().collect();
            // Zero stands for a fill.
            last = Some(match n {
                0 => graph.add_memset(&region, MemsetValue::Word(0), &deps).unwrap(),
                // SAFETY: the kernel touches four words of the buffer, which the node owns.
                n => unsafe { graph.add_kernel(add(&gpu, &data, *n), &deps) }.unwrap(),
            });
        }
        graph
    };
    let mut exec = make(&[1, 2], true).instantiate().unwrap();
    for (other, code) in [(make(&[1, 2, 3], true), 2), (make(&[1, 2], false), 2), (make(&[1, 0], true), 3)] {
        let error = exec.update(&other).unwrap_err();
        assert!(matches!(error, DriverError::GraphUpdate { code: c, .. } if c == code), "{error:?}");
    }
    exec.update(&make(&[10, 20], true)).unwrap();
    exec.launch(&gpu.stream).unwrap();
    assert_eq!(gpu.stream.read_to_vec(&data.as_slice()).unwrap(), [31; 4]);
    drop((exec, data, region));
    gpu.finish();
}

#[test]
fn a_graph_in_flight_is_seen() {
    let gpu = Gpu::new();
    let data = Arc::new(DeviceBuffer::from_slice(&gpu.stream, &[1u32; 4]).unwrap());
    let mut graph = Graph::new(&gpu.context).unwrap();
    // SAFETY: the kernel touches four words of the buffer, which the node owns.
    let node = unsafe { graph.add_kernel(triple(&gpu, &data), &[]) }.unwrap();
    let mut exec = graph.instantiate().unwrap();
    exec.launch(&gpu.stream).unwrap();
    // SAFETY: refused.
    let refused = unsafe { exec.update_kernel(node, add(&gpu, &data, 1)) };
    assert!(matches!(refused, Err(DriverError::GraphInFlight)), "{refused:?}");
    exec.wait().unwrap();
    drop((graph, exec, data));
    gpu.finish();
}

#[test]
fn edges_have_data_and_bad_ones_are_refused() {
    let gpu = Gpu::new();
    gpu.context.make_current().unwrap();
    let module = Module::from_ptx(&gpu.context, include_str!("pdl.ptx")).unwrap();
    let (produces, waits) = (module.function("produces").unwrap(), module.function("waits").unwrap());
    let data = Arc::new(DeviceBuffer::from_slice(&gpu.stream, &[1u32; 4]).unwrap());
    let node = |function| {
        let args = KernelArgs::from_pointers([data.device_ptr(), data.device_ptr().byte_add(4)]);
        KernelNode::new(function, LaunchConfig::new(1, 1), args).keep(data.clone())
    };
    let mut graph = Graph::new(&gpu.context).unwrap();
    // SAFETY: the kernels touch words of the buffer, which the nodes own.
    let (a, b) = unsafe { (graph.add_kernel(node(&produces), &[]), graph.add_kernel(node(&waits), &[])) };
    let (a, b) = (a.unwrap(), b.unwrap());
    let fill = graph.add_memset(&Region::device(&data, 3..4).unwrap(), MemsetValue::Word(0), &[]).unwrap();
    graph.add_dependency(a, b, EdgeKind::Programmatic).unwrap();
    let edges = graph.driver_edges().unwrap();
    assert_eq!((edges.len(), edges[0].kind), (1, EdgeKind::Programmatic));
    // The safe layer asks for none of these.
    assert!(graph.add_dependency(fill, b, EdgeKind::Programmatic).is_err());
    drop((graph, data, produces, waits, module));
    let table = gpu.driver.table();
    let (mut raw, mut nodes) = (gpu_driver::sys::CUgraph::NULL, [gpu_driver::sys::CUgraphNode::NULL; 2]);
    let data = CUgraphEdgeData { from_port: 1, kind: 1, ..CUgraphEdgeData::default() };
    // SAFETY: results go to locals, arrays have as many entries as is said, and the driver checks handles.
    unsafe {
        let null = std::ptr::null();
        assert_eq!((table.graph_create.unwrap())(&mut raw, 0), CUresult::SUCCESS);
        for node in &mut nodes {
            assert_eq!((table.graph_add_empty_node.unwrap())(node, raw, null, 0), CUresult::SUCCESS);
        }
        let add = |from, to, data| (table.graph_add_dependencies_v2.unwrap())(raw, from, to, data, 1);
        let invalid = CUresult::ERROR_INVALID_VALUE;
        assert_eq!(
            add(&nodes[0], &nodes[1], &data),
            invalid,
            "programmatic between nodes that are no kernels"
        );
        assert_eq!(add(&nodes[0], &nodes[0], null.cast()), invalid, "to itself");
        assert_eq!(add(&nodes[0], &nodes[1], null.cast()), CUresult::SUCCESS);
        assert_eq!(add(&nodes[0], &nodes[1], null.cast()), invalid, "twice");
        assert_eq!(add(&nodes[1], &nodes[0], null.cast()), CUresult::SUCCESS);
        let mut exec = gpu_driver::sys::CUgraphExec::NULL;
        let made = (table.graph_instantiate_with_flags.unwrap())(&mut exec, raw, 0);
        assert_eq!(made, invalid, "a cycle");
        assert_eq!((table.graph_destroy.unwrap())(raw), CUresult::SUCCESS);
        assert_eq!((table.graph_destroy.unwrap())(raw), invalid);
    }
    gpu.finish();
}

#[test]
fn launches_in_a_graph_are_recorded_as_they_run() {
    let gpu = Gpu::new();
    let data = Arc::new(DeviceBuffer::from_slice(&gpu.stream, &[1u32; 4]).unwrap());
    let mut graph = Graph::new(&gpu.context).unwrap();
    // SAFETY: the kernels touch four words of the buffer, which the nodes own.
    unsafe {
        let first = graph.add_kernel(add(&gpu, &data, 4), &[]).unwrap();
        graph.add_kernel(triple(&gpu, &data), &[first.into()]).unwrap();
    }
    let exec = graph.instantiate().unwrap();
    exec.launch(&gpu.stream).unwrap();
    exec.wait().unwrap();
    let launches = gpu.sim.take_launches();
    let seen: Vec<_> = launches.iter().map(|launch| (launch.kernel.as_str(), launch.args.len())).collect();
    assert_eq!(seen, [("add", 2), ("triple", 1)]);
    assert_eq!(words(&launches[0].args[1]), [4]);
    drop((graph, exec, data));
    gpu.finish();
}

#[test]
fn a_thread_that_waits_for_a_graph_does_not_keep_others_from_it() {
    let gpu = Gpu::new();
    let flag = Arc::new(SharedPinned::<u32>::zeroed(&gpu.context, 1).unwrap());
    let args = KernelArgs::from_pointers([flag.device_ptr().unwrap()]);
    let node = KernelNode::new(&gpu.function("spin"), LaunchConfig::new(1, 1), args).keep(flag.clone());
    let mut graph = Graph::new(&gpu.context).unwrap();
    // SAFETY: the kernel reads one word, which the node owns.
    unsafe { graph.add_kernel(node, &[]) }.unwrap();
    let exec = graph.instantiate().unwrap();
    exec.launch(&gpu.stream).unwrap();
    let second = Stream::new(&gpu.context).unwrap();
    let (send, receive) = std::sync::mpsc::channel();
    let answer = std::thread::scope(|scope| {
        scope.spawn(|| exec.wait().unwrap());
        scope.spawn(|| {
            // The other thread is waiting by then, or the test says nothing.
            std::thread::sleep(Duration::from_millis(50));
            exec.launch(&second).unwrap();
            send.send(exec.is_in_flight().unwrap()).unwrap();
        });
        let answer = receive.recv_timeout(Duration::from_secs(10));
        flag.write(0, 1).unwrap();
        answer
    });
    assert_eq!(answer, Ok(true));
    exec.wait().unwrap();
    assert!(!exec.is_in_flight().unwrap());
    drop((graph, exec, flag, second));
    gpu.finish();
}
