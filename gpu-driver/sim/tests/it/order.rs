//! What a program does not order has no order: an omitted dependency shows for some seed, a right program for none.

use std::sync::Arc;

use gpu_driver::graph::{Dependency, Graph, KernelNode};
use gpu_driver::{DeviceBuffer, EventKind, KernelArgs, LaunchConfig, Module, Stream};
use gpu_driver_sim::FindingKind;

use crate::support::Gpu;

const SEEDS: u64 = 8;

/// A producer on one stream, a consumer on another, and an event between them, or not.
fn two_streams(seed: u64, with_event: bool) -> bool {
    let gpu = Gpu::seeded(seed);
    let mut a = DeviceBuffer::from_slice(&gpu.stream, &[1u32; 4]).unwrap();
    let mut b = DeviceBuffer::from_slice(&gpu.stream, &[0u32; 4]).unwrap();
    let other = Stream::new(&gpu.context).unwrap();
    gpu.stream.fill(&mut a.as_slice_mut(), 5u32).unwrap();
    let event = gpu.stream.record(EventKind::Ordering).unwrap();
    if with_event {
        other.wait_event(&event).unwrap();
    }
    other.copy_on_device(&mut b.as_slice_mut(), &a.as_slice()).unwrap();
    let right = other.read_to_vec(&b.as_slice()).unwrap() == [5; 4];
    drop((a, b, other, event));
    gpu.finish();
    right
}

#[test]
fn a_missing_event_shows() {
    assert!((0..SEEDS).all(|seed| two_streams(seed, true)));
    assert!(!(0..SEEDS).all(|seed| two_streams(seed, false)));
}

/// `(1 * 3 + 10) * 3` by three kernels in a chain, whose second edge may be missing.
fn chain(seed: u64, with_edge: bool) -> bool {
    let gpu = Gpu::seeded(seed);
    let data = Arc::new(DeviceBuffer::from_slice(&gpu.stream, &[1u32; 4]).unwrap());
    let (triple, add) = (gpu.function("triple"), gpu.function("add"));
    let config = LaunchConfig::new(1, 4);
    let mut graph = Graph::new(&gpu.context).unwrap();
    let node = |function, args| KernelNode::new(function, config, args).keep(data.clone());
    let pointer = || KernelArgs::from_pointers([data.device_ptr()]);
    // SAFETY: the kernels touch four words of the buffer, which the nodes own. The missing edge is the test.
    unsafe {
        let first = graph.add_kernel(node(&triple, pointer()), &[]).unwrap();
        let second = graph.add_kernel(node(&add, pointer().with(10u32)), &[Dependency::full(first)]).unwrap();
        let last = if with_edge { second } else { first };
        graph.add_kernel(node(&triple, pointer()), &[Dependency::full(last)]).unwrap();
    }
    let exec = graph.instantiate().unwrap();
    exec.launch(&gpu.stream).unwrap();
    let right = gpu.stream.read_to_vec(&data.as_slice()).unwrap() == [39; 4];
    drop((exec, graph, data, triple, add));
    gpu.finish();
    right
}

#[test]
fn a_missing_edge_shows() {
    assert!((0..SEEDS).all(|seed| chain(seed, true)));
    assert!(!(0..SEEDS).all(|seed| chain(seed, false)));
}

/// A producer and a consumer that may overtake it until it waits.
fn programmatic(seed: u64, consumer: &str, in_graph: bool) -> Result<u32, FindingKind> {
    let gpu = Gpu::seeded(seed);
    let module = Module::from_ptx(&gpu.context, include_str!("pdl.ptx")).unwrap();
    let data = Arc::new(DeviceBuffer::from_slice(&gpu.stream, &[41u32, 0, 0]).unwrap());
    let at = |i: u64| data.device_ptr().byte_add(4 * i);
    let (produces, consumes) = (module.function("produces").unwrap(), module.function(consumer).unwrap());
    let config = LaunchConfig::new(1, 1);
    let (first, second) =
        (KernelArgs::from_pointers([at(1), at(0)]), KernelArgs::from_pointers([at(2), at(1)]));
    // SAFETY: the kernels touch words of the buffer, which outlives the wait; `hurries` breaks the rule on purpose.
    unsafe {
        if in_graph {
            let mut graph = Graph::new(&gpu.context).unwrap();
            let a =
                graph.add_kernel(KernelNode::new(&produces, config, first).keep(data.clone()), &[]).unwrap();
            let b = KernelNode::new(&consumes, config, second).keep(data.clone());
            graph.add_kernel(b, &[Dependency::programmatic(a)]).unwrap();
            graph.instantiate().unwrap().launch(&gpu.stream).unwrap();
        } else {
            produces.launch(&gpu.stream, &config, &first).unwrap();
            consumes.launch(&gpu.stream, &config.with_programmatic_serialization(), &second).unwrap();
        }
    }
    let read = gpu.stream.read_to_vec(&data.as_slice());
    let report = gpu.sim.report();
    match (read, report.findings.first()) {
        (Ok(words), None) => {
            assert!(gpu.sim.take_launches()[1].programmatic);
            Ok(words[2])
        }
        (_, Some(finding)) => Err(finding.kind),
        (Err(error), None) => panic!("{error}"),
    }
}

#[test]
fn an_access_before_the_wait_is_found() {
    for in_graph in [false, true] {
        for seed in 0..2 {
            assert_eq!(programmatic(seed, "waits", in_graph), Ok(42));
            assert_eq!(programmatic(seed, "hurries", in_graph), Err(FindingKind::GridDependency));
        }
    }
}
