//! The CUDA engine on a driver that is made of Rust functions: it computes nothing, but it knows every call, every
//! launch with its arguments, and what lives.

// The double belongs to the driver crate's own tests; not all of it is needed here.
#[allow(dead_code)]
#[path = "../../gpu-driver/tests/safe_layer/double/mod.rs"]
mod double;

use std::error::Error as _;

use double::{Double, Launch};
use gpu_driver::sys::CUresult;
use gpu_driver::{Context, DeviceBuffer, NodeType, Stream};
use kernels::elementwise::{Elementwise, ElementwiseOp};
use kernels::random::Random;
use runtime::cuda::attention_ops::{AttentionInput, AttentionOps, AttentionShape};
use runtime::cuda::{
    Argument, CudaDecoder, CudaError, DeviceMemory, LaunchPlan, LoadedPlan, ModuleCache, PlanGraph,
    RegionKind, Span, Uploader,
};
use runtime::decoder::{Decoder, Output, Row};
use runtime::error::{Error, chain};
use runtime::{EngineOptions, Model};
use tensor_formats::ElementType;
use tests::gpu;

/// Runs `test` with a double and the context of its first device, and then looks for what was not freed.
fn on_double(test: impl FnOnce(&Double, &Context) + Send) {
    let run = || {
        // The double's functions find it through the thread, so kernels must be compiled on this one.
        let pool = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build().unwrap();
        pool.install(|| {
            let double = Double::new();
            let context = double.driver().context(0).unwrap();
            test(&double, &context);
            drop(context);
            assert_eq!(double.live(), [0; 8], "something was not freed");
        });
    };
    // A thread can be in one pool only, so each double has a thread of its own.
    let ended = std::thread::scope(|scope| scope.spawn(run).join());
    ended.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
}

fn model() -> Model {
    Model::embedded().unwrap()
}

fn decoder(context: &Context, change: impl FnOnce(&mut EngineOptions)) -> CudaDecoder {
    let model = model();
    let mut options = gpu::options(&model, 2, 8);
    change(&mut options);
    CudaDecoder::with_context(&model, &options, context).unwrap()
}

fn launches(double: &Double) -> Vec<Launch> {
    std::mem::take(&mut double.state().launches)
}

/// The words of device memory from `address` on.
fn words(double: &Double, address: u64, n: usize) -> Vec<u32> {
    let state = double.state();
    let (start, allocation) = state.allocations.range(..=address).next_back().expect("an allocation");
    let data = allocation.data.as_ref().expect("memory behind the allocation");
    let words = data[(address - start) as usize..].chunks_exact(4).take(n);
    words.map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

fn pointer(launch: &Launch, index: usize) -> u64 {
    launch.args[index].iter().rev().fold(0, |address, &byte| address << 8 | u64::from(byte))
}

/// Tokens, positions and sequences as the kernels of the last step find them.
fn state_of(double: &Double, launches: &[Launch], rows: usize) -> [Vec<u32>; 3] {
    let find = |prefix: &str| launches.iter().find(|launch| launch.function.starts_with(prefix)).unwrap();
    let (embed, scatter) = (find("embed_rows"), find("kv_scatter"));
    [pointer(embed, 1), pointer(scatter, 2), pointer(scatter, 3)].map(|address| words(double, address, rows))
}

#[test]
fn a_graph_launches_the_same_kernels_on_the_same_memory_as_the_eager_way() {
    on_double(|double, context| {
        let mut decoder = decoder(context, |_| {});
        launches(double);
        let row = gpu::rows(0, 0, &[5]);
        decoder.step(&row, Output::LastArgmax).unwrap();
        let mut graph = launches(double);
        decoder.go_eager("as a test");
        decoder.step(&row, Output::LastArgmax).unwrap();
        let mut eager = launches(double);
        assert_eq!(eager.len(), 21 * model().config().n_layers + 5);
        // A graph may run them in any order that the edges allow.
        let key = |launch: &Launch| format!("{launch:?}");
        graph.sort_by_key(key);
        eager.sort_by_key(key);
        assert_eq!(graph, eager);
        let stats = decoder.stats();
        assert_eq!((stats.graph_steps, stats.eager_steps), (1, 1));
    });
}

#[test]
fn decoding_is_one_graph_launch_and_one_wait() {
    on_double(|double, context| {
        let mut decoder = decoder(context, |_| {});
        decoder.step(&gpu::rows(0, 0, &[5]), Output::LastArgmax).unwrap();
        double.forget_calls();
        decoder.step(&gpu::rows(0, 1, &[6]), Output::LastArgmax).unwrap();
        let calls: Vec<_> = double.state().calls.clone();
        let work: Vec<_> = calls.iter().filter(|call| !call.starts_with("cuCtx")).collect();
        assert_eq!(work.len(), 2, "{calls:?}");
        assert!(
            work[0].starts_with("cuGraphLaunch") && work[1].starts_with("cuStreamSynchronize"),
            "{calls:?}"
        );
    });
}

#[test]
fn the_graph_is_built_node_by_node_and_nothing_is_captured() {
    on_double(|double, context| {
        let decoder = decoder(context, |_| {});
        let stats = decoder.stats();
        assert_eq!(double.calls("cuGraphAddKernelNode").len(), stats.nodes - 2);
        assert_eq!(double.calls("cuGraphAddMemcpyNode").len(), 2);
        assert_eq!(double.calls("cuGraphInstantiate").len(), 1);
        assert_eq!(double.calls("cuGraphUpload").len(), 1);
        assert!(!double.state().calls.iter().any(|call| call.contains("Capture")));
        assert!(
            decoder.describe().contains(&format!("graph of {} nodes and {} edges", stats.nodes, stats.edges))
        );
    });
}

#[test]
fn a_step_uploads_its_state_once_and_downloads_four_bytes_a_row() {
    on_double(|double, context| {
        let mut decoder = decoder(context, |options| options.eager = true);
        double.forget_calls();
        decoder.step(&gpu::rows(0, 0, &[1, 2, 3]), Output::AllArgmax).unwrap();
        assert_eq!(double.calls("cuMemcpyHtoDAsync"), ["cuMemcpyHtoDAsync(768)"]);
        assert_eq!(double.calls("cuMemcpyDtoHAsync"), ["cuMemcpyDtoHAsync(12)"]);
        decoder.step(&gpu::rows(0, 3, &[4]), Output::Cache).unwrap();
        assert_eq!(double.calls("cuMemcpyDtoHAsync").len(), 1, "caches stay on the device");
        let synchronous = |call: &&String| call.starts_with("cuMemcpy") && !call.contains("Async");
        assert_eq!(double.state().calls.iter().find(synchronous), None);
    });
}

#[test]
fn every_step_finds_its_own_state_whatever_the_way() {
    on_double(|double, context| {
        let mut decoder = decoder(context, |_| {});
        for position in 0..30 {
            match position {
                10 => decoder.go_eager("as a test"),
                20 => decoder.use_graphs(),
                _ => {}
            }
            let rows = [
                Row { token: 100 + position, position, sequence: 1 },
                Row { token: 200 + position, position, sequence: 0 },
            ];
            launches(double);
            decoder.step(&rows, Output::AllArgmax).unwrap();
            let columns = [[100 + position, 200 + position], [position; 2], [1, 0]];
            assert_eq!(state_of(double, &launches(double), 2), columns.map(Vec::from), "position {position}");
        }
        let stats = decoder.stats();
        assert_eq!((stats.graph_steps, stats.eager_steps), (20, 10));
    });
}

/// Whichever call fails while a graph is built, steps run eagerly from then on, say why, and find their own state.
#[test]
fn a_graph_that_cannot_be_built_is_replaced_by_single_launches() {
    let calls =
        ["cuGraphCreate", "cuGraphAddMemcpyNode", "cuGraphAddKernelNode", "cuGraphInstantiateWithParams"];
    for call in calls {
        on_double(|double, context| {
            double.fail(call, [CUresult::ERROR_NOT_SUPPORTED]);
            let mut decoder = decoder(context, |_| {});
            let reason = decoder.eager_reason().expect("a reason").to_owned();
            assert!(reason.contains("CUDA_ERROR_NOT_SUPPORTED"), "{call}: {reason}");
            assert!(decoder.describe().contains(&reason), "{}", decoder.describe());
            for position in 0..3 {
                launches(double);
                decoder.step(&gpu::rows(0, position, &[50 + position]), Output::LastArgmax).unwrap();
                let expected = [vec![50 + position], vec![position], vec![0]];
                assert_eq!(state_of(double, &launches(double), 1), expected, "{call}");
            }
            let stats = decoder.stats();
            assert_eq!((stats.graph_steps, stats.eager_steps, stats.graphs), (0, 3, 0), "{call}");
        });
    }
}

#[test]
fn refused_rows_reach_no_driver_call() {
    on_double(|double, context| {
        let mut decoder = decoder(context, |_| {});
        double.forget_calls();
        let beyond = Row { token: 1, position: 256, sequence: 0 };
        let error = decoder.step(&[beyond], Output::LastArgmax).unwrap_err().to_string();
        assert!(error.contains("256"), "{error}");
        assert!(decoder.step(&[], Output::LastArgmax).is_err());
        assert_eq!(double.calls("").len(), 0, "{:?}", double.calls(""));
    });
}

#[test]
fn a_failure_of_the_device_is_an_error_that_names_the_call() {
    on_double(|double, context| {
        let mut decoder = decoder(context, |_| {});
        double.fail("cuGraphLaunch", [CUresult::ERROR_INVALID_VALUE]);
        let row = gpu::rows(0, 0, &[5]);
        let error = decoder.step(&row, Output::LastArgmax).unwrap_err();
        assert!(
            error.chain().contains("cuGraphLaunch returned CUDA_ERROR_INVALID_VALUE"),
            "{}",
            error.chain()
        );
        assert_eq!(decoder.stats().graph_steps, 0);
        // The position was not decoded.
        assert!(decoder.step(&gpu::rows(0, 1, &[5]), Output::LastArgmax).is_err());
        decoder.step(&row, Output::LastArgmax).unwrap();
    });
}

#[test]
fn weights_arrive_where_the_kernels_read_them() {
    on_double(|double, context| {
        let mut decoder = decoder(context, |options| options.eager = true);
        launches(double);
        decoder.step(&gpu::rows(0, 0, &[5]), Output::Cache).unwrap();
        let launches = launches(double);
        let embed = &launches[0];
        assert!(embed.function.starts_with("embed_rows"), "{}", embed.function);
        let model = model();
        let bytes = model.tensor_bytes("token_embd.weight").unwrap();
        let expected: Vec<_> = bytes
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        assert!(words(double, pointer(embed, 0), expected.len()) == expected);
        let rope = launches.iter().find(|launch| launch.function.starts_with("rope")).unwrap();
        let table: Vec<_> = model.rope_table(256).unwrap().iter().map(|value| value.to_bits()).collect();
        assert!(words(double, pointer(rope, 2), table.len()) == table);
    });
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_allocated() {
    on_double(|double, context| {
        let model = model();
        let options = EngineOptions { n_sequences: 100_000, ..EngineOptions::for_model(model.config()) };
        let error = CudaDecoder::with_context(&model, &options, context).unwrap_err();
        let source = error.source().and_then(|source| source.downcast_ref::<CudaError>());
        let Some(CudaError::DoesNotFit { need, free }) = source else { panic!("{error:?}") };
        assert_eq!(need.caches, model.config().kv_cache_bytes(100_000, options.max_seq));
        assert_eq!(*free, 141 << 30);
        assert!(double.calls("cuMemAlloc").is_empty());
    });
}

#[test]
fn memory_that_the_driver_does_not_give_is_named() {
    on_double(|double, context| {
        double.fail("cuMemAlloc", [CUresult::SUCCESS, CUresult::ERROR_OUT_OF_MEMORY]);
        let model = model();
        let error = CudaDecoder::with_context(&model, &EngineOptions::for_model(model.config()), context)
            .unwrap_err();
        let text = error.chain();
        assert!(text.contains("caches") && text.contains("CUDA_ERROR_OUT_OF_MEMORY"), "{text}");
    });
}

#[test]
fn kernels_are_compiled_once_and_found_again() {
    on_double(|double, context| {
        let mut decoder = decoder(context, |_| {});
        let compiled = decoder.stats().kernels.compiled;
        assert_eq!(double.calls("cuModuleLoadDataEx").len(), compiled);
        decoder.step(&gpu::rows(0, 0, &[1]), Output::LastArgmax).unwrap();
        assert_eq!(decoder.stats().kernels.compiled, compiled);
        // The logits of one row need everything but the argmax: all of it is there.
        decoder.step(&gpu::rows(0, 1, &[1]), Output::LastLogits).unwrap();
        let stats = decoder.stats();
        assert_eq!(stats.kernels.compiled, compiled);
        assert!(stats.kernels.hits > 0 && stats.plans == 1, "{stats:?}");
        assert_eq!(stats.nodes, 21 * model().config().n_layers + 6, "the graph that is told of is the last");
    });
}

#[test]
fn a_kernel_that_does_not_compile_is_named_and_tried_again() {
    on_double(|double, context| {
        let cache = ModuleCache::new(context).unwrap();
        let kernel = Elementwise::new(ElementwiseOp::Add, 1, 64).unwrap();
        double.fail("cuModuleLoadDataEx", [CUresult::ERROR_INVALID_PTX]);
        let error = chain(&cache.get(&kernel).unwrap_err());
        assert!(
            error.contains("compiling add_f32_n64_b1") && error.contains("CUDA_ERROR_INVALID_PTX"),
            "{error}"
        );
        cache.get(&kernel).unwrap();
        cache.get(&kernel).unwrap();
        let stats = cache.stats();
        assert_eq!((stats.compiled, stats.hits), (1, 1));
    });
}

/// Copies and fills between launches: the graph has a node of the right kind for each, and the driver's edges are the
/// plan's.
#[test]
fn every_kind_of_step_becomes_a_node_and_runs() {
    on_double(|double, context| {
        let stream = Stream::new(context).unwrap();
        let cache = ModuleCache::new(context).unwrap();
        let mut memory = DeviceMemory::new(context);
        let scratch = memory.allocate("scratch", RegionKind::Scratch, 1024).unwrap();
        let host = memory.allocate_host("host", 256).unwrap();
        let at = |region, offset| Span { region, offset, bytes: 256 };
        let mut plan = LaunchPlan::new(memory.map().clone());
        plan.copy(at(scratch, 0), at(host, 0)).unwrap();
        plan.fill(at(scratch, 256), 7).unwrap();
        let kernel = Elementwise::new(ElementwiseOp::Add, 1, 64).unwrap();
        let argument = |offset| Argument { span: at(scratch, offset), element: ElementType::F32 };
        plan.launch(std::sync::Arc::new(kernel), &[argument(0), argument(256), argument(768)]).unwrap();
        plan.copy(at(scratch, 512), at(scratch, 256)).unwrap();
        plan.copy(at(host, 0), at(scratch, 512)).unwrap();
        let plan = LoadedPlan::new(plan, &memory, &cache).unwrap();
        let graph = PlanGraph::build(&plan, &stream).unwrap();
        let types: Vec<_> = graph.definition().nodes().map(|(_, kind, _)| kind).collect();
        let (copy, fill, kernel) = (NodeType::Memcpy, NodeType::Memset, NodeType::Kernel);
        assert_eq!(types, [copy, fill, kernel, copy, copy]);
        let driver = graph.definition().driver_edges().unwrap();
        let mut edges: Vec<_> = driver.iter().map(|edge| (edge.from.index(), edge.to.index())).collect();
        edges.sort_unstable();
        // The last copy overwrites what the first reads.
        assert_eq!(edges, [(0, 2), (0, 4), (1, 2), (1, 3), (3, 4)]);
        for run in 0..2 {
            let pinned = memory.host(host).unwrap();
            pinned.write_range(0, &[run; 64]).unwrap();
            launches(double);
            match run {
                0 => plan.run(&stream).unwrap(),
                _ => graph.launch(&stream).unwrap(),
            }
            stream.synchronize().unwrap();
            let launched = launches(double);
            assert_eq!(launched.len(), 1);
            assert_eq!(words(double, pointer(&launched[0], 0), 64), [run; 64]);
            assert_eq!(pinned.read(63).unwrap(), 0x0707_0707);
        }
    });
}

#[test]
fn uploads_arrive_whole_through_the_staging_buffers() {
    on_double(|_, context| {
        let stream = Stream::new(context).unwrap();
        let mut memory = DeviceMemory::new(context);
        // More pieces than buffers, of odd sizes, at odd places.
        let sizes = [1, 255, 4096, (16 << 20) + 3, (33 << 20) + 1];
        let total: usize = sizes.iter().sum();
        let region = memory.allocate("upload", RegionKind::State, total as u64).unwrap();
        let source = Random::new(3).bytes(total);
        let mut uploader = Uploader::new(context, total as u64).unwrap();
        let mut start = 0;
        for size in sizes {
            let span = Span { region, offset: start as u64, bytes: size as u64 };
            uploader.send_to(&memory, span, &source[start..start + size]).unwrap();
            start += size;
        }
        let short = Span { region, offset: 0, bytes: 5 };
        assert!(matches!(uploader.send_to(&memory, short, &[0; 4]), Err(CudaError::InvalidParameter { .. })));
        uploader.finish().unwrap();
        let whole = Span { region, offset: 0, bytes: total as u64 };
        assert!(stream.read_to_vec(&memory.device_slice(whole).unwrap()).unwrap() == source);
    });
}

#[test]
fn attention_as_a_function_checks_before_it_queues() {
    on_double(|double, context| {
        let shape = AttentionShape { n_heads: 4, n_kv_heads: 2, head_dim: 64, max_seq: 33, scale: 0.125 };
        let ops = AttentionOps::new(&ModuleCache::new(context).unwrap(), shape).unwrap();
        let stream = Stream::new(context).unwrap();
        let buffer = |n: usize| DeviceBuffer::from_slice(&stream, &vec![1.0f32; n]).unwrap();
        let (query, cache, mut output, mut written) =
            (buffer(256), buffer(2 * 33 * 64), buffer(256), buffer(2 * 33 * 64));
        let input = |seq_len| AttentionInput {
            query: query.as_slice(),
            keys: cache.as_slice(),
            values: cache.as_slice(),
            seq_len,
        };
        double.forget_calls();
        launches(double);
        let refused = |result: Result<(), CudaError>, expected: &str| {
            let text = result.unwrap_err().to_string();
            assert_eq!(text, format!("invalid parameter: {expected}"));
        };
        let target = &mut output.as_slice_mut();
        refused(
            ops.attention_on(&stream, input(34), target),
            "the sequence length must be at most 33, is 34",
        );
        let short = AttentionInput { keys: cache.slice(..64).unwrap(), ..input(1) };
        refused(ops.attention(short, target), "the length of the key cache must be 4224, is 64");
        let short = AttentionInput { query: query.slice(..64).unwrap(), ..input(1) };
        refused(ops.attention(short, target), "the length of the query must be 256, is 64");
        let row = query.slice(..128).unwrap();
        let cache = &mut written.as_slice_mut();
        refused(ops.scatter_on(&stream, cache, row, 33), "the position must be below 33, is 33");
        refused(ops.scatter(cache, query.as_slice(), 0), "the length of the row must be 128, is 256");
        let longer = buffer(257);
        let odd = AttentionInput { query: longer.slice(1..).unwrap(), ..input(1) };
        assert!(ops.attention(odd, target).unwrap_err().to_string().contains("a multiple of 16"));
        assert_eq!(launches(double), []);

        double.forget_calls();
        ops.attention_on(&stream, input(33), target).unwrap();
        ops.scatter_on(&stream, cache, row, 32).unwrap();
        assert!(double.calls("cuStreamSynchronize").is_empty());
        assert!(ops.attention_async(input(1), target).unwrap().same_as(ops.stream()));
        assert!(double.calls("cuStreamSynchronize").is_empty());
        ops.attention(input(1), target).unwrap();
        assert_eq!(double.calls("cuStreamSynchronize").len(), 1);
        let launched = launches(double);
        assert_eq!(launched.len(), 4);
        assert_eq!(words(double, pointer(&launched[0], 3), 1), [32], "the last position");
        assert_eq!(words(double, pointer(&launched[1], 2), 1), [32], "the position written");
        ops.attention(input(0), target).unwrap();
        assert_eq!(launches(double), [], "nothing to attend to");
        assert!(stream.read_to_vec(&output.as_slice()).unwrap().iter().all(|value| *value == 0.0));
    });
}

#[test]
fn without_a_driver_the_engine_says_so() {
    // This process has loaded no driver; where one exists the test has nothing to say.
    if gpu_driver::Driver::load().is_ok() {
        return;
    }
    let model = model();
    let error = CudaDecoder::new(&model, &EngineOptions::for_model(model.config())).unwrap_err();
    assert!(matches!(error, Error::Backend(_)), "{error:?}");
    assert!(error.chain().contains("libcuda.so.1"), "{}", error.chain());
}
