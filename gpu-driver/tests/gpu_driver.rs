//! The safe layer on a device. Run serially: `cargo test -p gpu-driver --test gpu_driver -- --ignored --test-threads 1`.

use gpu_driver::graph::{Dependency, Edge, EdgeKind, Graph, KernelNode, MemsetValue, NodeType, Region};
use gpu_driver::sys::CUresult;
use gpu_driver::{
    ComputeCapability, Context, DeviceBuffer, Driver, DriverError, ErrorKind, Event, EventKind, Function,
    JitOptions, KernelArgs, LaunchConfig, Module, PinnedBuffer, SharedPinned, Stream,
};
use std::sync::Arc;

const BASE: &str = include_str!("ptx/base.ptx");
const HOPPER: &str = include_str!("ptx/hopper.ptx");
const LOOP: &str = include_str!("ptx/loop.ptx");

type Outcome = Result<(), DriverError>;

struct Gpu {
    context: Context,
    stream: Stream,
    module: Module,
}

impl Gpu {
    fn new() -> Result<Self, DriverError> {
        let context = Driver::load()?.context(0)?;
        Ok(Self { stream: Stream::new(&context)?, module: Module::from_ptx(&context, BASE)?, context })
    }

    fn scale(&self, data: &Arc<DeviceBuffer<u32>>, factor: u32) -> Result<KernelNode, DriverError> {
        let config = LaunchConfig::new(1, data.len() as u32);
        let args = KernelArgs::new().with(&**data).with(factor);
        let owner: Arc<DeviceBuffer<u32>> = Arc::clone(data);
        Ok(KernelNode::new(&self.module.function("scale")?, config, args).keep(owner))
    }

    fn data(&self, values: &[u32]) -> Result<Arc<DeviceBuffer<u32>>, DriverError> {
        Ok(Arc::new(DeviceBuffer::from_slice(&self.stream, values)?))
    }

    fn read(&self, data: &DeviceBuffer<u32>) -> Result<Vec<u32>, DriverError> {
        self.stream.read_to_vec(&data.as_slice())
    }

    /// The module for capability 9.0, or `None` with a note on an older device.
    fn hopper(&self) -> Result<Option<Module>, DriverError> {
        let capability = self.context.limits().compute_capability;
        if capability < (ComputeCapability { major: 9, minor: 0 }) {
            note(&format!("skipped: the device has capability {capability}, this needs 9.0"));
            return Ok(None);
        }
        Module::from_ptx(&self.context, HOPPER).map(Some)
    }
}

#[allow(clippy::print_stderr)]
fn note(text: &str) {
    eprintln!("{text}");
}

/// A kernel that runs until the host lets it go, so that work is in flight for certain.
struct Gate {
    flag: Arc<SharedPinned<u32>>,
    kernel: Function,
    args: KernelArgs,
}

impl Gate {
    fn new(gpu: &Gpu) -> Result<Self, DriverError> {
        let flag = Arc::new(SharedPinned::<u32>::zeroed(&gpu.context, 1)?);
        let args = KernelArgs::new().with(flag.device_ptr()?);
        Ok(Self { flag, kernel: gpu.module.function("wait_for_flag")?, args })
    }

    fn close(&self, stream: &Stream) -> Outcome {
        self.flag.write(0, 0)?;
        // SAFETY: the kernel reads one word of pinned memory, which this value keeps, until it is not zero.
        unsafe { self.kernel.launch(stream, &LaunchConfig::new(1, 1), &self.args) }
    }

    fn open(&self) -> Outcome {
        self.flag.write(0, 1)
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn the_device_describes_itself() -> Outcome {
    let driver = Driver::load()?;
    let device = driver.device(0)?;
    assert!(!device.name()?.is_empty());
    assert!(device.uuid()?.to_string().starts_with("GPU-"));
    assert!(device.pci_bus_id()?.contains(':'));
    assert!(device.total_memory()? > 1 << 30);
    let limits = device.limits()?;
    assert_eq!((limits.warp_size, limits.max_threads_per_block), (32, 1024));
    assert!(limits.multiprocessors > 0 && limits.shared_per_block_optin > limits.shared_per_block);
    let info = device.context()?.memory_info()?;
    assert!(info.free > 0 && info.free <= info.total);
    let beyond = driver.device_count()?;
    assert!(matches!(driver.device(beyond), Err(DriverError::NoSuchDevice { .. })));
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn buffers_copies_and_fills() -> Outcome {
    let gpu = Gpu::new()?;
    let values: Vec<u32> = (0..100_000u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
    let mut a = DeviceBuffer::from_slice(&gpu.stream, &values)?;
    let mut b = DeviceBuffer::<u32>::zeroed(&gpu.stream, values.len())?;
    assert_eq!(gpu.read(&b)?, vec![0; values.len()]);
    gpu.stream.copy_on_device(&mut b.slice_mut(10..20)?, &a.slice(50..60)?)?;
    assert_eq!(gpu.stream.read_to_vec(&b.slice(9..21)?)?[1..11], values[50..60]);
    gpu.stream.memset(&mut a.slice_mut(..3)?, 0xab)?;
    gpu.stream.fill(&mut a.slice_mut(1..2)?, 77)?;
    assert_eq!(gpu.stream.read_to_vec(&a.slice(..4)?)?, [0xabab_abab, 77, 0xabab_abab, values[3]]);

    let source = Arc::new(PinnedBuffer::from_slice(&gpu.context, &values)?);
    gpu.stream.copy_to_device_async(&mut b.as_slice_mut(), &source, ..)?;
    let target = PinnedBuffer::zeroed(&gpu.context, values.len())?;
    let pending = gpu.stream.copy_to_host_async(target, &b.as_slice())?;
    assert_eq!(&pending.wait()?[..], &values[..]);
    gpu.stream.synchronize()?;
    assert_eq!(Arc::strong_count(&source), 1);

    let shared = Arc::new(SharedPinned::<u32>::zeroed(&gpu.context, 4)?);
    shared.write_range(0, &[1, 2, 3, 4])?;
    gpu.stream.copy_from_shared(&mut a.slice_mut(..2)?, &shared, 2..)?;
    gpu.stream.copy_to_shared(&shared, ..2, &a.slice(..2)?)?;
    gpu.stream.synchronize()?;
    assert_eq!((shared.read(0)?, shared.read(1)?), (3, 4));
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn copies_and_fills_beyond_4_gib() -> Outcome {
    let gpu = Gpu::new()?;
    let len = (4usize << 30) + 4096;
    if gpu.context.memory_info()?.free < 3 * len as u64 {
        note("skipped: needs 13 GB of free device memory");
        return Ok(());
    }
    let a = Arc::new(DeviceBuffer::<u8>::uninit(&gpu.context, len)?);
    let mut b = DeviceBuffer::<u8>::uninit(&gpu.context, len)?;
    gpu.stream.memset(&mut b.as_slice_mut(), 1)?;
    let b = Arc::new(b);
    let (all_a, all_b) = (Region::device(&a, ..)?, Region::device(&b, ..)?);
    let mut graph = Graph::new(&gpu.context)?;
    let fill = graph.add_memset(&all_a, MemsetValue::Byte(5), &[])?;
    let mark =
        graph.add_memset(&Region::device(&a, len - 8..)?, MemsetValue::Word(0x0909_0909), &[fill.into()])?;
    graph.add_memcpy(&all_b, &all_a, &[mark.into()])?;
    graph.instantiate()?.launch(&gpu.stream)?;
    assert_eq!(gpu.stream.read_to_vec(&b.slice(len - 10..)?)?, [5, 5, 9, 9, 9, 9, 9, 9, 9, 9]);
    assert_eq!(gpu.stream.read_to_vec(&b.slice(..2)?)?, [5, 5]);
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn modules_compile_and_say_why_not() -> Outcome {
    let gpu = Gpu::new()?;
    let options = JitOptions { verbose: true, optimization_level: Some(1), ..JitOptions::default() };
    let module = Module::from_ptx_with(&gpu.context, BASE, &options)?;
    let kernel = module.function("vector_add")?;
    let attributes = kernel.attributes();
    assert!(attributes.registers > 0 && attributes.max_threads_per_block == 1024, "{attributes:?}");
    let device = gpu.context.limits().compute_capability.sm();
    assert!(attributes.ptx_target == 75 && attributes.binary_target <= device, "{attributes:?}");
    if let Some(sizes) = kernel.parameter_sizes() {
        assert_eq!(sizes, [8, 8, 8, 4]);
    }
    let (address, bytes) = module.global("counter")?;
    assert_eq!(bytes, 4);
    // SAFETY: the variable has one word, and its module is alive.
    let counter = unsafe { gpu_driver::DeviceSlice::<u32>::from_raw(&gpu.context, address, 1) };
    assert_eq!(gpu.stream.read_to_vec(&counter)?, [41]);
    assert!(matches!(module.function("absent"), Err(DriverError::NoSuchName { .. })));

    let broken = BASE.replace("add.f32 %f3, %f1, %f2;", "add.f32 %f3, %f1, %undeclared;");
    let line = BASE.lines().position(|l| l.contains("add.f32")).map(|i| i + 1);
    let error = Module::from_ptx(&gpu.context, &broken).expect_err("compiled");
    assert_eq!(error.kind(), ErrorKind::Load);
    let DriverError::Jit(jit) = &error else { panic!("{error}") };
    assert_eq!(jit.line(), line, "{error}");
    assert!(jit.excerpt().contains("%undeclared") && jit.log().error.contains("undeclared"), "{error}");
    assert!(gpu.context.poison().is_none());
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_launch_computes() -> Outcome {
    let gpu = Gpu::new()?;
    let n = 10_007usize;
    let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
    let (da, db) = (DeviceBuffer::from_slice(&gpu.stream, &a)?, DeviceBuffer::from_slice(&gpu.stream, &a)?);
    let dc = DeviceBuffer::<f32>::zeroed(&gpu.stream, n + 1)?;
    let kernel = gpu.module.function("vector_add")?;
    let args = KernelArgs::new().with(&da).with(&db).with(&dc).with(n as u32);
    // SAFETY: three pointers to at least `n` floats and the length, as the kernel declares; all live to the end.
    unsafe { kernel.launch(&gpu.stream, &LaunchConfig::new((n as u32).div_ceil(128), 128), &args) }?;
    let c = gpu.stream.read_to_vec(&dc.as_slice())?;
    assert!(c[..n].iter().zip(&a).all(|(c, a)| *c == 2.0 * a));
    assert_eq!(c[n], 0.0, "nothing is written beyond the end");

    if kernel.parameter_sizes().is_some() {
        let short = KernelArgs::new().with(&da).with(&db).with(&dc);
        // SAFETY: refused before the driver is called.
        let refused = unsafe { kernel.launch(&gpu.stream, &LaunchConfig::new(1, 32), &short) };
        assert!(matches!(refused, Err(DriverError::Launch { .. })));
    }
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn more_than_48_kib_of_shared_memory() -> Outcome {
    let gpu = Gpu::new()?;
    let most = gpu.context.limits().shared_per_block_optin;
    assert!(most > 48 << 10, "{most}");
    let kernel = gpu.module.function("shared_last")?;
    let out = DeviceBuffer::<u32>::zeroed(&gpu.stream, 1)?;
    let config = LaunchConfig::new(1, 1).with_dynamic_shared(most);
    let args = KernelArgs::new().with(&out).with(most / 4);
    // SAFETY: refused before the driver is called.
    let refused = unsafe { kernel.launch(&gpu.stream, &config, &args) };
    assert!(matches!(refused, Err(DriverError::Launch { .. })), "{refused:?}");
    kernel.allow_dynamic_shared(most)?;
    // SAFETY: the kernel writes `most / 4` words of the `most` bytes, and one word of `out`.
    unsafe { kernel.launch(&gpu.stream, &config, &args) }?;
    assert_eq!(gpu.read(&out)?, [most / 4 - 1]);
    assert!(kernel.allow_dynamic_shared(most + 1).is_err());
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn occupancy_and_block_size() -> Outcome {
    let gpu = Gpu::new()?;
    let kernel = gpu.module.function("vector_add")?;
    let blocks = kernel.max_active_blocks(256, 0)?;
    assert!(blocks >= 4, "{blocks}");
    let crowded = kernel.max_active_blocks(256, 40 << 10)?;
    assert!(crowded >= 1 && crowded < blocks, "{crowded} of {blocks}");
    let suggestion = kernel.suggested_block(0)?;
    assert!(
        suggestion.block_threads.is_multiple_of(32)
            && suggestion.min_grid >= gpu.context.limits().multiprocessors
    );
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn events_order_and_time_streams() -> Outcome {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let second = Stream::with_priority(&gpu.context, Stream::priority_range(&gpu.context)?.1)?;
    let start = gpu.stream.record(EventKind::Timing)?;
    gate.close(&gpu.stream)?;
    let end = Event::new(&gpu.context, EventKind::Timing)?;
    end.record(&gpu.stream)?;
    second.wait_event(&end)?;
    let after = second.record(EventKind::Ordering)?;
    assert!(!end.is_complete()? && !after.is_complete()? && !gpu.stream.is_idle()?);
    assert_eq!(end.elapsed_ms(&start).map_err(|e| e.code()), Err(Some(CUresult::ERROR_NOT_READY)));
    std::thread::sleep(std::time::Duration::from_millis(20));
    gate.open()?;
    after.synchronize()?;
    assert!(end.is_complete()?);
    let ms = end.elapsed_ms(&start)?;
    assert!((20.0..9_000.0).contains(&ms), "{ms} ms");
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn the_extended_launch_takes_clusters_and_serialization() -> Outcome {
    let gpu = Gpu::new()?;
    let Some(module) = gpu.hopper()? else { return Ok(()) };
    let kernel = module.function("cluster_size")?;
    let out = DeviceBuffer::<u32>::zeroed(&gpu.stream, 8)?;
    let config = LaunchConfig::new(8, 32).with_cluster(4);
    assert!(kernel.max_active_clusters(&config)? > 0);
    // SAFETY: each of eight blocks writes one word of `out`.
    unsafe { kernel.launch(&gpu.stream, &config, &KernelArgs::new().with(&out)) }?;
    assert_eq!(gpu.read(&out)?, [4; 8]);

    let data = DeviceBuffer::<u32>::zeroed(&gpu.stream, 2)?;
    let (args, plain) = (KernelArgs::new().with(&data), LaunchConfig::new(1, 1));
    // SAFETY: the kernels write the two words of `data`; the second waits before it reads.
    unsafe {
        module.function("producer")?.launch(&gpu.stream, &plain, &args)?;
        module.function("consumer")?.launch(&gpu.stream, &plain.with_programmatic_serialization(), &args)?;
    }
    assert_eq!(gpu.read(&data)?, [7, 8]);
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_graph_of_every_kind_of_node() -> Outcome {
    let gpu = Gpu::new()?;
    let (a, b) = (gpu.data(&[0; 4])?, gpu.data(&[9; 4])?);
    let host = Arc::new(SharedPinned::<u32>::zeroed(&gpu.context, 8)?);
    host.write_range(0, &[1, 2, 3, 4])?;
    let (all_a, all_b) = (Region::device(&a, ..)?, Region::device(&b, ..)?);

    let mut child = Graph::new(&gpu.context)?;
    // SAFETY: the node owns the buffer, and the edges order it.
    unsafe { child.add_kernel(gpu.scale(&a, 10)?, &[]) }?;

    let mut graph = Graph::new(&gpu.context)?;
    let upload = graph.add_memcpy(&all_a, &Region::pinned(&host, ..4)?, &[])?;
    let inner = graph.add_child(&child, &[upload.into()])?;
    // SAFETY: the node owns the buffer, and the edges order it.
    let kernel = unsafe { graph.add_kernel(gpu.scale(&a, 2)?, &[inner.into()]) }?;
    let copy = graph.add_memcpy(&all_b, &all_a, &[kernel.into()])?;
    let bytes = graph.add_memset(&Region::device(&b, 1..2)?, MemsetValue::Byte(0x11), &[copy.into()])?;
    let words = graph.add_memset(&Region::device(&b, 2..3)?, MemsetValue::Word(77), &[copy.into()])?;
    let join = graph.add_empty(&[bytes.into()])?;
    graph.add_dependency(words, join, EdgeKind::Full)?;
    graph.add_memcpy(&Region::pinned(&host, 4..)?, &all_b, &[join.into()])?;

    use NodeType::*;
    let mut types = graph.driver_node_types()?;
    let mut wanted = [Memcpy, Child, Kernel, Memcpy, Memset, Memset, Empty, Memcpy].to_vec();
    for list in [&mut types, &mut wanted] {
        list.sort_by_key(|t| format!("{t}"));
    }
    assert_eq!(types, wanted);
    assert_eq!(sorted(graph.driver_edges()?), sorted(graph.edges().to_vec()));
    assert!(graph.driver_dot()?.contains("digraph"));

    let exec = graph.instantiate()?;
    drop((graph, child, a, b, all_a, all_b));
    exec.upload(&gpu.stream)?;
    for round in 1..4u32 {
        host.write_range(0, &[round, 2, 3, 4])?;
        exec.launch(&gpu.stream)?;
        exec.wait()?;
        let mut out = [0; 4];
        host.read_range(4, &mut out)?;
        assert_eq!(out, [(round * 10 + 1) * 2 + 1, 0x1111_1111, 77, 83]);
    }
    Ok(())
}

fn sorted(mut edges: Vec<Edge>) -> Vec<Edge> {
    edges.sort_by_key(|e| (e.from, e.to));
    edges
}

#[test]
#[ignore = "needs a CUDA device"]
fn programmatic_edges_are_read_back_as_such() -> Outcome {
    let gpu = Gpu::new()?;
    let Some(module) = gpu.hopper()? else { return Ok(()) };
    let data = gpu.data(&[0, 0])?;
    let node = |name: &str| -> Result<KernelNode, DriverError> {
        let owner: Arc<DeviceBuffer<u32>> = Arc::clone(&data);
        let args = KernelArgs::new().with(&*data);
        Ok(KernelNode::new(&module.function(name)?, LaunchConfig::new(1, 1), args).keep(owner))
    };
    let mut graph = Graph::new(&gpu.context)?;
    let clear = graph.add_memset(&Region::device(&data, ..)?, MemsetValue::Byte(0), &[])?;
    // SAFETY: the nodes own the buffer; the consumers wait before they read.
    let (first, second, third) = unsafe {
        let first = graph.add_kernel(node("producer")?, &[clear.into()])?;
        let second = graph.add_kernel(node("consumer")?, &[Dependency::programmatic(first)])?;
        let both = [Dependency::full(first), Dependency::programmatic(second)];
        (first, second, graph.add_kernel(node("consumer")?, &both)?)
    };
    let edge = |from, to, kind| Edge { from, to, kind };
    let wanted = [
        edge(clear, first, EdgeKind::Full),
        edge(first, second, EdgeKind::Programmatic),
        edge(first, third, EdgeKind::Full),
        edge(second, third, EdgeKind::Programmatic),
    ];
    assert_eq!(sorted(graph.driver_edges()?), wanted);
    let exec = graph.instantiate()?;
    for _ in 0..100 {
        exec.launch(&gpu.stream)?;
        assert_eq!(gpu.read(&data)?, [7, 8]);
    }
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_loop_runs_while_its_condition_holds() -> Outcome {
    let gpu = Gpu::new()?;
    let mut graph = Graph::new(&gpu.context)?;
    if !graph.takes_conditional() {
        note("skipped: the driver has no conditional nodes");
        return Ok(());
    }
    let count_down = Module::from_ptx(&gpu.context, LOOP)?.function("count_down")?;
    let (count, data) = (gpu.data(&[0, 0])?, gpu.data(&[1, 1])?);
    let host = Arc::new(SharedPinned::<u32>::zeroed(&gpu.context, 2)?);
    let begin = graph.add_memset(&Region::device(&count, ..1)?, MemsetValue::Word(5), &[])?;
    let mut last = begin;
    // The second loop does not run at all: nobody sets its condition.
    for launch_value in [1, 0] {
        let condition = graph.conditional(launch_value)?;
        let fill = |body: &mut Graph| {
            let args = KernelArgs::new().with(&*count).with(condition.handle());
            let owner: Arc<DeviceBuffer<u32>> = Arc::clone(&count);
            let node = KernelNode::new(&count_down, LaunchConfig::new(1, 1), args).keep(owner);
            // SAFETY: the kernel touches two words of the buffer, which the node owns, and sets the loop's condition.
            let counted = unsafe { body.add_kernel(node, &[]) }?;
            // SAFETY: the node owns the buffer, and the edges order it.
            unsafe { body.add_kernel(gpu.scale(&data, 2)?, &[counted.into()]) }?;
            assert_eq!(body.driver_edges()?, body.edges());
            Ok::<_, DriverError>(())
        };
        last = graph.add_while(condition, &[last.into()], fill)?;
    }
    graph.add_memcpy(&Region::pinned(&host, ..)?, &Region::device(&count, ..)?, &[last.into()])?;
    let types = graph.driver_node_types()?;
    assert_eq!(types.iter().filter(|kind| **kind == NodeType::Conditional).count(), 2);
    assert!(graph.driver_dot()?.contains("digraph"));

    let exec = graph.instantiate()?;
    let again = graph.instantiate().expect_err("a second instantiated graph");
    assert!(again.to_string().contains("has been dropped"), "{again}");
    drop((graph, count_down, count));
    exec.upload(&gpu.stream)?;
    for round in 1..4u32 {
        exec.launch(&gpu.stream)?;
        exec.wait()?;
        let mut out = [0; 2];
        host.read_range(0, &mut out)?;
        assert_eq!(out, [0, 5 * round]);
        assert_eq!(gpu.read(&data)?, [(2 << (5 * round)) - 1; 2]);
    }
    Ok(())
}

/// Twenty iterations, in each of which one kernel starts before another ends.
#[test]
#[ignore = "needs a CUDA device"]
fn a_body_has_programmatic_edges() -> Outcome {
    let gpu = Gpu::new()?;
    let Some(module) = gpu.hopper()? else { return Ok(()) };
    let mut graph = Graph::new(&gpu.context)?;
    if !graph.takes_conditional() {
        note("skipped: the driver has no conditional nodes");
        return Ok(());
    }
    let count_down = Module::from_ptx(&gpu.context, LOOP)?.function("count_down")?;
    let (count, out) = (gpu.data(&[20, 0])?, gpu.data(&[0, 0])?);
    let condition = graph.conditional(1)?;
    let fill = |body: &mut Graph| {
        let node = |function: &Function, args: KernelArgs, buffer: &Arc<DeviceBuffer<u32>>| {
            let owner: Arc<DeviceBuffer<u32>> = Arc::clone(buffer);
            KernelNode::new(function, LaunchConfig::new(1, 1), args).keep(owner)
        };
        let args = || KernelArgs::new().with(&*out);
        let (producer, consumer) = (module.function("producer")?, module.function("consumer")?);
        // SAFETY: the kernels touch two words of the buffer, which the nodes own; the consumer waits for the producer.
        let produced = unsafe { body.add_kernel(node(&producer, args(), &out), &[]) }?;
        let after = [Dependency::programmatic(produced)];
        // SAFETY: as above.
        let consumed = unsafe { body.add_kernel(node(&consumer, args(), &out), &after) }?;
        let args = KernelArgs::new().with(&*count).with(condition.handle());
        // SAFETY: the kernel touches two words of the buffer, which the node owns, and sets the loop's condition.
        unsafe { body.add_kernel(node(&count_down, args, &count), &[consumed.into()]) }?;
        let edges = body.driver_edges()?;
        assert_eq!(edges.iter().filter(|edge| edge.kind == EdgeKind::Programmatic).count(), 1);
        Ok::<_, DriverError>(())
    };
    graph.add_while(condition, &[], fill)?;
    let exec = graph.instantiate()?;
    drop(graph);
    exec.launch(&gpu.stream)?;
    exec.wait()?;
    assert_eq!((gpu.read(&count)?, gpu.read(&out)?), (vec![0, 20], vec![7, 8]));
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn clusters_work_in_graphs() -> Outcome {
    let gpu = Gpu::new()?;
    let Some(module) = gpu.hopper()? else { return Ok(()) };
    let out = gpu.data(&[0; 8])?;
    let owner: Arc<DeviceBuffer<u32>> = Arc::clone(&out);
    let config = LaunchConfig::new(8, 32).with_cluster(2);
    let node =
        KernelNode::new(&module.function("cluster_size")?, config, KernelArgs::new().with(&*out)).keep(owner);
    let mut graph = Graph::new(&gpu.context)?;
    // SAFETY: each of eight blocks writes one word of `out`, which the node owns.
    unsafe { graph.add_kernel(node, &[]) }?;
    graph.instantiate()?.launch(&gpu.stream)?;
    assert_eq!(gpu.read(&out)?, [2; 8]);
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn nodes_of_an_instantiated_graph_are_updated() -> Outcome {
    let gpu = Gpu::new()?;
    let (a, b) = (gpu.data(&[1, 2])?, gpu.data(&[5, 6])?);
    let mut graph = Graph::new(&gpu.context)?;
    // SAFETY: the node owns the buffer, and nothing else runs meanwhile.
    let kernel = unsafe { graph.add_kernel(gpu.scale(&a, 2)?, &[]) }?;
    let out = gpu.data(&[0, 0])?;
    let region = Region::device(&out, ..)?;
    let copy = graph.add_memcpy(&region, &Region::device(&a, ..)?, &[kernel.into()])?;
    let mut exec = graph.instantiate()?;
    // SAFETY: as above.
    unsafe { exec.update_kernel(kernel, gpu.scale(&b, 3)?) }?;
    exec.update_memcpy(copy, &region, &Region::device(&b, ..)?)?;
    assert_eq!(Arc::strong_count(&b), 3);
    exec.launch(&gpu.stream)?;
    assert_eq!((gpu.read(&a)?, gpu.read(&out)?), (vec![1, 2], vec![16, 19]));

    let mut next = Graph::new(&gpu.context)?;
    // SAFETY: as above.
    let again = unsafe { next.add_kernel(gpu.scale(&a, 100)?, &[]) }?;
    next.add_memcpy(&region, &Region::device(&a, ..)?, &[again.into()])?;
    exec.update(&next)?;
    exec.launch(&gpu.stream)?;
    assert_eq!(gpu.read(&out)?, [101, 201]);
    next.add_empty(&[])?;
    assert!(matches!(exec.update(&next), Err(DriverError::GraphUpdate { code: 2, .. })));
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_graph_in_flight_cannot_be_updated() -> Outcome {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let data = gpu.data(&[1, 2])?;
    let mut graph = Graph::new(&gpu.context)?;
    // SAFETY: the node owns the buffer, and nothing else uses it meanwhile.
    let kernel = unsafe { graph.add_kernel(gpu.scale(&data, 2)?, &[]) }?;
    let mut exec = graph.instantiate()?;
    gate.close(&gpu.stream)?;
    exec.launch(&gpu.stream)?;
    assert!(exec.is_in_flight()?);
    // SAFETY: refused; otherwise as above.
    let refused = unsafe { exec.update_kernel(kernel, gpu.scale(&data, 3)?) };
    assert!(matches!(refused, Err(DriverError::GraphInFlight)), "{refused:?}");
    gate.open()?;
    exec.wait()?;
    // SAFETY: as above.
    unsafe { exec.update_kernel(kernel, gpu.scale(&data, 3)?) }?;
    exec.launch(&gpu.stream)?;
    assert_eq!(gpu.read(&data)?, [10, 16]);
    Ok(())
}

#[test]
#[ignore = "needs a CUDA device"]
fn what_is_dropped_in_flight_stays_until_it_is_done() -> Outcome {
    let gpu = Gpu::new()?;
    let gate = Gate::new(&gpu)?;
    let out = Arc::new(SharedPinned::<u32>::zeroed(&gpu.context, 2)?);
    let data = gpu.data(&[1, 2])?;
    let mut graph = Graph::new(&gpu.context)?;
    // SAFETY: the node owns the buffer, and the edges order it.
    let kernel = unsafe { graph.add_kernel(gpu.scale(&data, 2)?, &[]) }?;
    graph.add_memcpy(&Region::pinned(&out, ..)?, &Region::device(&data, ..)?, &[kernel.into()])?;
    let exec = graph.instantiate()?;
    gate.close(&gpu.stream)?;
    exec.launch(&gpu.stream)?;
    drop((graph, data));
    let releaser = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        gate.open()
    });
    drop(exec);
    assert_eq!((out.read(0)?, out.read(1)?), (3, 5), "the drop waited for the launch");
    releaser.join().expect("the gate")?;
    assert!(gpu.context.take_drop_errors().is_empty());
    Ok(())
}

/// A fault ends CUDA for its process, so this runs in one of its own.
#[test]
#[ignore = "needs a CUDA device"]
fn a_fault_poisons_the_context() -> Outcome {
    const CHILD: &str = "GPU_DRIVER_TEST_FAULT";
    if std::env::var_os(CHILD).is_none() {
        let test = std::env::current_exe().expect("the path of this test");
        let status = std::process::Command::new(test)
            .args(["--ignored", "--exact", "a_fault_poisons_the_context"])
            .env(CHILD, "1")
            .status()
            .expect("a second process");
        assert!(status.success(), "{status}");
        return Ok(());
    }
    let gpu = Gpu::new()?;
    let buffer = gpu.data(&[1])?;
    // SAFETY: not at all, on purpose; the process ends with this test.
    unsafe {
        gpu.module.function("fault")?.launch(&gpu.stream, &LaunchConfig::new(1, 1), &KernelArgs::new())
    }?;
    let error = gpu.stream.synchronize().expect_err("no fault");
    assert_eq!(error.kind(), ErrorKind::Sticky, "{error}");
    assert_eq!(error.code(), Some(CUresult::ERROR_ILLEGAL_ADDRESS), "{error}");
    let later = DeviceBuffer::<u8>::uninit(&gpu.context, 16).expect_err("memory");
    assert!(matches!(later, DriverError::Poisoned { .. }), "{later}");
    assert!(later.to_string().contains("CUDA_ERROR_ILLEGAL_ADDRESS"), "{later}");
    drop(buffer);
    assert!(!gpu.context.take_drop_errors().is_empty(), "freeing in a lost context fails, and says so");
    Ok(())
}
