//! Plans, graphs, uploads and the module cache on a GPU.

use std::sync::Arc;

use graph::{ComputeGraph, Shape, TensorId, execute_graph};
use kernels::elementwise::{Elementwise, ElementwiseOp};
use runtime::cuda::runner::CudaRunner;
use runtime::cuda::{
    Bindings, CudaExecutor, DeviceMemory, LaunchPlan, LoadedPlan, PlanGraph, RegionId, RegionKind, Span,
    Uploader,
};
use tensor_formats::ElementType;
use tests::gpu;

/// `y = (x + x) * (x * x) + x`, over words that come from the host and go back to it.
struct Small {
    memory: DeviceMemory,
    plan: LoadedPlan,
    input: RegionId,
    output: RegionId,
}

const N: usize = 1000;

fn small(runner: &CudaRunner) -> Small {
    let mut graph = ComputeGraph::new();
    let x: TensorId = graph.add_leaf("x", ElementType::F32, Shape::new(&[N]).unwrap()).unwrap();
    let sum = graph.add(x, x).unwrap();
    let square = graph.mul(x, x).unwrap();
    let product = graph.mul(sum, square).unwrap();
    let y = graph.add(product, x).unwrap();
    graph.mark_output(y).unwrap();
    let layout = graph.plan();
    let bytes = N as u64 * 4;
    let mut memory = DeviceMemory::new(runner.cache().context());
    let device_x = memory.allocate("x", RegionKind::Scratch, bytes).unwrap();
    let workspace = memory.allocate("workspace", RegionKind::Scratch, layout.workspace_bytes).unwrap();
    let input = memory.allocate_host("input", bytes).unwrap();
    let output = memory.allocate_host("output", bytes).unwrap();
    let whole = |region| Span { region, offset: 0, bytes };
    let mut bindings = Bindings::new();
    bindings.bind(x, whole(device_x));
    bindings.bind_workspace(Span { region: workspace, offset: 0, bytes: layout.workspace_bytes });
    let mut plan = LaunchPlan::new(Arc::clone(memory.map()));
    plan.copy(whole(device_x), whole(input)).unwrap();
    let mut executor = CudaExecutor::new(plan, &bindings, runner.cache().machine());
    execute_graph(&graph, &layout, &mut executor).unwrap();
    let mut plan = executor.finish();
    plan.copy(whole(output), bindings.span(&layout.view(y).unwrap()).unwrap()).unwrap();
    let plan = LoadedPlan::new(plan, &memory, runner.cache()).unwrap();
    Small { memory, plan, input, output }
}

fn input(seed: usize) -> Vec<u32> {
    (0..N).map(|i| ((i + seed) as f32 * 0.125 - 50.0).to_bits()).collect()
}

fn expected(seed: usize) -> Vec<u32> {
    let y = |bits: u32| {
        let x = f32::from_bits(bits);
        ((x + x) * (x * x) + x).to_bits()
    };
    input(seed).into_iter().map(y).collect()
}

#[test]
#[ignore = "needs a CUDA device"]
fn new_input_needs_no_new_graph() {
    let runner = gpu::runner();
    let small = small(&runner);
    let graph = PlanGraph::build(&small.plan, runner.stream()).unwrap();
    let (input_words, output_words) =
        (small.memory.host(small.input).unwrap(), small.memory.host(small.output).unwrap());
    for seed in 0..50 {
        input_words.write_range(0, &input(seed)).unwrap();
        match seed % 2 {
            0 => graph.launch(runner.stream()).unwrap(),
            _ => small.plan.run(runner.stream()).unwrap(),
        }
        runner.stream().synchronize().unwrap();
        let mut got = vec![0; N];
        output_words.read_range(0, &mut got).unwrap();
        assert!(got == expected(seed), "run {seed}");
    }
}

#[test]
#[ignore = "needs a CUDA device"]
fn the_drivers_graph_has_the_plans_nodes_and_edges() {
    let runner = gpu::runner();
    let small = small(&runner);
    let graph = PlanGraph::build(&small.plan, runner.stream()).unwrap();
    let plan = small.plan.plan();
    assert_eq!(graph.n_nodes(), plan.steps().len());
    let mut wanted: Vec<_> = plan.edges().iter().map(|edge| (edge.from, edge.to)).collect();
    let held = graph.definition().driver_edges().unwrap();
    let mut held: Vec<_> = held.iter().map(|edge| (edge.from.index(), edge.to.index())).collect();
    wanted.sort_unstable();
    held.sort_unstable();
    assert_eq!(held, wanted);
    // The sum and the square both wait for the copy alone.
    assert!(wanted.contains(&(0, 1)) && wanted.contains(&(0, 2)) && !wanted.contains(&(1, 2)), "{wanted:?}");
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_graph_outlives_what_it_was_made_from() {
    let runner = gpu::runner();
    let stream = runner.stream().clone();
    let small = small(&runner);
    let graph = PlanGraph::build(&small.plan, &stream).unwrap();
    let input_words = Arc::clone(small.memory.host(small.input).unwrap());
    let output_words = Arc::clone(small.memory.host(small.output).unwrap());
    drop(small);
    drop(runner);
    input_words.write_range(0, &input(7)).unwrap();
    graph.launch(&stream).unwrap();
    stream.synchronize().unwrap();
    let mut got = vec![0; N];
    output_words.read_range(0, &mut got).unwrap();
    assert!(got == expected(7));
}

#[test]
#[ignore = "needs a CUDA device"]
fn a_kernel_is_compiled_once() {
    let runner = gpu::runner();
    let kernel = |n| Elementwise::new(ElementwiseOp::Add, 1, n).unwrap();
    runner.cache().get(&kernel(64)).unwrap();
    runner.cache().get(&kernel(64)).unwrap();
    runner.cache().get(&kernel(65)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| runner.cache().get(&kernel(66)).map(drop).unwrap());
        }
    });
    let stats = runner.cache().stats();
    assert_eq!(stats.compiled, 3, "{stats:?}");
}

#[test]
#[ignore = "needs a CUDA device"]
fn memory_of_another_map_is_refused() {
    let runner = gpu::runner();
    let (a, b) = (small(&runner), small(&runner));
    let error = LoadedPlan::new(a.plan.plan().clone(), &b.memory, runner.cache()).unwrap_err();
    assert!(error.to_string().contains("the memory of a plan"), "{error}");
}

/// More pieces than staging buffers, of odd sizes, at odd places.
#[test]
#[ignore = "needs a CUDA device"]
fn uploads_arrive_whole() {
    let runner = gpu::runner();
    let total = (100 << 20) + 12_345;
    let mut memory = DeviceMemory::new(runner.cache().context());
    let region = memory.allocate_filled(runner.stream(), "upload", RegionKind::State, total, 0).unwrap();
    runner.stream().synchronize().unwrap();
    let source: Vec<u8> = (0..total).map(|i| ((i * 2_654_435_761) >> 13) as u8).collect();
    let mut uploader = Uploader::new(runner.cache().context(), total).unwrap();
    let sizes = [1, 255, 3 << 20, (16 << 20) + 1, 70 << 20];
    let mut offset = 0;
    for size in sizes.into_iter().chain([total - sizes.iter().sum::<u64>()]) {
        let span = Span { region, offset, bytes: size };
        let range = offset as usize..(offset + size) as usize;
        uploader.send_to(&memory, span, &source[range]).unwrap();
        offset += size;
    }
    uploader.finish().unwrap();
    let span = Span { region, offset: 0, bytes: total };
    let got = runner.stream().read_to_vec(&memory.device_slice(span).unwrap()).unwrap();
    assert!(got == source);
}
