//! What the CUDA engine asks of the driver: every call, every launch with its arguments, and what lives, as the software
//! driver saw them.

use std::error::Error as _;
use std::sync::Arc;

use gpu_driver::sys::CUresult;
use gpu_driver::{Context, DeviceBuffer, EdgeKind, NodeType, Stream};
use gpu_driver_sim::{Fault, LaunchRecord, Sanitize, SimConfig, SimDriver};
use kernels::elementwise::{Elementwise, ElementwiseOp};
use kernels::random::Random;
use kernels::sample::{Advance, LoopCondition};
use runtime::cuda::attention_ops::{AttentionInput, AttentionOps, AttentionShape};
use runtime::cuda::{
    Argument, CudaDecoder, CudaError, DeviceMemory, LaunchPlan, LoadedPlan, ModuleCache, PlanGraph,
    RegionKind, Span, Uploader,
};
use runtime::decoder::{Decoder, Output, Row};
use runtime::error::{Error, chain};
use runtime::{EngineOptions, Model};
use tensor_formats::{ElementType, to_planes};
use tests::{data, gpu, sim};

/// Runs `test` with a driver and the context of its first device, and then looks for what was not freed.
fn on_driver(test: impl FnOnce(&SimDriver, &Context)) {
    let driver = sim::driver(0, Sanitize::ALL);
    let context = sim::context(&driver);
    test(&driver, &context);
    drop(context);
    sim::check_clean(&driver);
}

/// Makes a call fail, the first from now on.
fn fail(driver: &SimDriver, call: &str, code: CUresult) {
    driver.inject(Fault::new(call, 1, code));
}

fn model() -> Model {
    data::model("synthetic/tiny-q4_k_m.gguf")
}

fn decoder(context: &Context, change: impl FnOnce(&mut EngineOptions)) -> CudaDecoder {
    let model = model();
    let mut options = gpu::options(&model, 2, 8);
    change(&mut options);
    CudaDecoder::with_context(&model, &options, context).unwrap()
}

/// What a launch was asked to do.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Launch {
    kernel: String,
    grid: [u32; 3],
    block: [u32; 3],
    dynamic_shared: u32,
    args: Vec<Vec<u8>>,
}

/// The kernels executed since the last time, in the order of execution.
fn launches(driver: &SimDriver) -> Vec<Launch> {
    let launch = |LaunchRecord { kernel, grid, block, dynamic_shared, args, .. }| Launch {
        kernel,
        grid,
        block,
        dynamic_shared,
        args,
    };
    driver.take_launches().into_iter().map(launch).collect()
}

/// The words of device memory from `address` on.
fn words(driver: &SimDriver, address: u64, n: usize) -> Vec<u32> {
    let mut bytes = vec![0; 4 * n];
    driver.read(address, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

fn pointer(launch: &Launch, index: usize) -> u64 {
    launch.args[index].iter().rev().fold(0, |address, &byte| address << 8 | u64::from(byte))
}

/// Tokens, positions and sequences as the kernels of the last step find them.
fn state_of(driver: &SimDriver, launches: &[Launch], rows: usize) -> [Vec<u32>; 3] {
    let find = |prefix: &str| launches.iter().find(|launch| launch.kernel.starts_with(prefix)).unwrap();
    let (embed, input) = (find("embed_rows"), find("attention_input"));
    let [positions, sequences, _] = rotation_arguments(input);
    [pointer(embed, 1), pointer(input, positions), pointer(input, sequences)]
        .map(|address| words(driver, address, rows))
}

/// Where the positions, the sequences and the table of rotations are among the arguments of an `attention_input`: before
/// its three results.
fn rotation_arguments(launch: &Launch) -> [usize; 3] {
    [6, 5, 4].map(|from_the_end| launch.args.len() - from_the_end)
}

#[test]
fn a_graph_launches_the_same_kernels_on_the_same_memory_as_the_eager_way() {
    on_driver(|driver, context| {
        let mut decoder = decoder(context, |_| {});
        launches(driver);
        let row = gpu::rows(0, 0, &[5]);
        decoder.step(&row, Output::LastArgmax).unwrap();
        let mut graph = launches(driver);
        decoder.go_eager("as a test");
        decoder.step(&row, Output::LastArgmax).unwrap();
        let mut eager = launches(driver);
        assert_eq!(eager.len(), 5 * model().config().n_layers + 2);
        // A graph may run them in any order that the edges allow.
        graph.sort();
        eager.sort();
        assert_eq!(graph, eager);
        let stats = decoder.stats();
        assert_eq!((stats.graph_steps, stats.eager_steps), (1, 1));
    });
}

/// CUDA 12.2 has graphs, and kernels that wait by themselves, but no data of edges.
#[test]
fn a_driver_without_programmatic_edges_replays_a_graph_with_full_ones() {
    let tokens = |cuda_version: i32| {
        let config = SimConfig { cuda_version, ..SimConfig::default() };
        let driver = SimDriver::new(config).unwrap();
        let context = sim::context(&driver);
        let mut decoder = decoder(&context, |_| {});
        let mut token = gpu::argmax(&mut decoder, &gpu::rows(0, 0, &[7, 8, 9]), Output::LastArgmax);
        let mut tokens = token.clone();
        for position in 3..6 {
            token = gpu::argmax(&mut decoder, &gpu::rows(0, position, &token), Output::LastArgmax);
            tokens.extend(&token);
        }
        assert_eq!((decoder.eager_reason(), decoder.stats().eager_steps), (None, 0), "{cuda_version}");
        drop((decoder, context));
        sim::check_clean(&driver);
        tokens
    };
    assert_eq!(tokens(12_020), tokens(SimConfig::default().cuda_version));
}

#[test]
fn decoding_is_one_graph_launch_and_one_wait() {
    on_driver(|driver, context| {
        let mut decoder = decoder(context, |_| {});
        decoder.step(&gpu::rows(0, 0, &[5]), Output::LastArgmax).unwrap();
        driver.forget_calls();
        decoder.step(&gpu::rows(0, 1, &[6]), Output::LastArgmax).unwrap();
        let calls = driver.calls_of("cu");
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
    on_driver(|driver, context| {
        let decoder = decoder(context, |_| {});
        let stats = decoder.stats();
        assert_eq!(driver.calls_of("cuGraphAddKernelNode").len(), stats.nodes - 2);
        assert_eq!(driver.calls_of("cuGraphAddMemcpyNode").len(), 2);
        assert_eq!(driver.calls_of("cuGraphInstantiate").len(), 1);
        assert_eq!(driver.calls_of("cuGraphUpload").len(), 1);
        assert!(!driver.calls_of("cu").iter().any(|call| call.contains("Capture")));
        assert!(
            decoder.describe().contains(&format!("graph of {} nodes and {} edges", stats.nodes, stats.edges))
        );
    });
}

#[test]
fn a_step_uploads_its_state_once_and_downloads_four_bytes_a_row() {
    on_driver(|driver, context| {
        let mut decoder = decoder(context, |options| options.eager = true);
        driver.forget_calls();
        decoder.step(&gpu::rows(0, 0, &[1, 2, 3]), Output::AllArgmax).unwrap();
        // Four words for each row of the largest step, a prompt's.
        let bytes = 4 * 4 * EngineOptions::PROMPT_ROWS;
        assert_eq!(driver.calls_of("cuMemcpyHtoDAsync"), [format!("cuMemcpyHtoDAsync({bytes})")]);
        assert_eq!(driver.calls_of("cuMemcpyDtoHAsync"), ["cuMemcpyDtoHAsync(12)"]);
        decoder.step(&gpu::rows(0, 3, &[4]), Output::Cache).unwrap();
        assert_eq!(driver.calls_of("cuMemcpyDtoHAsync").len(), 1, "caches stay on the device");
        let synchronous = |call: &String| call.starts_with("cuMemcpy") && !call.contains("Async");
        assert!(!driver.calls_of("cuMemcpy").iter().any(synchronous));
    });
}

#[test]
fn first_steps_of_a_prompt_are_those_that_it_takes() {
    on_driver(|_, context| {
        let plans = |first_steps: &[(usize, Output)], prompt_rows| {
            let change = |options: &mut EngineOptions| {
                (options.first_steps, options.prompt_rows) = (first_steps.to_vec(), prompt_rows);
            };
            decoder(context, change).stats().plans
        };
        // Eight rows, then four; all together; all together, and the rest.
        assert_eq!(plans(&[(20, Output::LastArgmax)], 512), 2);
        assert_eq!(plans(&[(64, Output::LastArgmax)], 512), 1);
        assert_eq!(plans(&[(64, Output::Cache), (3, Output::LastArgmax)], 64), 2);
        let model = model();
        let first_steps = vec![(513, Output::Cache)];
        let options = EngineOptions { first_steps, prompt_rows: 1024, ..gpu::options(&model, 2, 8) };
        let refused = CudaDecoder::with_context(&model, &options, context).unwrap_err();
        assert!(refused.to_string().contains("513") && refused.to_string().contains("512"), "{refused}");
    });
}

#[test]
fn every_step_finds_its_own_state_whatever_the_way() {
    on_driver(|driver, context| {
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
            launches(driver);
            decoder.step(&rows, Output::AllArgmax).unwrap();
            let columns = [[100 + position, 200 + position], [position; 2], [1, 0]];
            assert_eq!(state_of(driver, &launches(driver), 2), columns.map(Vec::from), "position {position}");
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
        on_driver(|driver, context| {
            fail(driver, call, CUresult::ERROR_NOT_SUPPORTED);
            let mut decoder = decoder(context, |_| {});
            let reason = decoder.eager_reason().expect("a reason").to_owned();
            assert!(reason.contains("CUDA_ERROR_NOT_SUPPORTED"), "{call}: {reason}");
            assert!(decoder.describe().contains(&reason), "{}", decoder.describe());
            for position in 0..3 {
                launches(driver);
                decoder.step(&gpu::rows(0, position, &[50 + position]), Output::LastArgmax).unwrap();
                let expected = [vec![50 + position], vec![position], vec![0]];
                assert_eq!(state_of(driver, &launches(driver), 1), expected, "{call}");
            }
            let stats = decoder.stats();
            assert_eq!((stats.graph_steps, stats.eager_steps, stats.graphs), (0, 3, 0), "{call}");
        });
    }
}

#[test]
fn refused_rows_reach_no_driver_call() {
    on_driver(|driver, context| {
        let mut decoder = decoder(context, |_| {});
        driver.forget_calls();
        let beyond = Row { token: 1, position: 256, sequence: 0 };
        let error = decoder.step(&[beyond], Output::LastArgmax).unwrap_err().to_string();
        assert!(error.contains("256"), "{error}");
        assert!(decoder.step(&[], Output::LastArgmax).is_err());
        assert_eq!(driver.trace(), []);
    });
}

#[test]
fn a_failure_of_the_device_is_an_error_that_names_the_call() {
    on_driver(|driver, context| {
        let mut decoder = decoder(context, |_| {});
        fail(driver, "cuGraphLaunch", CUresult::ERROR_INVALID_VALUE);
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
    on_driver(|driver, context| {
        let mut decoder = decoder(context, |options| options.eager = true);
        launches(driver);
        decoder.step(&gpu::rows(0, 0, &[5]), Output::Cache).unwrap();
        let launches = launches(driver);
        let embed = &launches[0];
        assert!(embed.kernel.starts_with("embed_rows"), "{}", embed.kernel);
        let model = model();
        let table = model.config().weights.token_embd.clone();
        let gguf = model.tensor_bytes(&table.name).unwrap();
        let mut bytes = vec![0; gguf.len()];
        to_planes(table.ty, table.dims[0], table.dims[1], gguf, &mut bytes).unwrap();
        let expected: Vec<_> = bytes
            .chunks_exact(4)
            .map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
            .collect();
        assert!(words(driver, pointer(embed, 0), expected.len()) == expected);
        let input = launches.iter().find(|launch| launch.kernel.starts_with("attention_input")).unwrap();
        let [_, _, rotations] = rotation_arguments(input);
        let table: Vec<_> = model.rope_table(256).unwrap().iter().map(|value| value.to_bits()).collect();
        assert!(words(driver, pointer(input, rotations), table.len()) == table);
    });
}

#[test]
fn what_does_not_fit_is_refused_before_it_is_allocated() {
    on_driver(|driver, context| {
        let model = model();
        let options = EngineOptions { n_sequences: 1_000_000, ..EngineOptions::for_model(model.config()) };
        let error = CudaDecoder::with_context(&model, &options, context).unwrap_err();
        let source = error.source().and_then(|source| source.downcast_ref::<CudaError>());
        let Some(CudaError::DoesNotFit { need, free }) = source else { panic!("{error:?}") };
        assert_eq!(need.caches, model.config().kv_cache_bytes(options.kv, 1_000_000, options.max_seq));
        assert_eq!(*free, context.memory_info().unwrap().free);
        assert!(driver.calls_of("cuMemAlloc").is_empty());
    });
}

#[test]
fn memory_that_the_driver_does_not_give_is_named() {
    on_driver(|driver, context| {
        driver.inject(Fault::new("cuMemAlloc", 2, CUresult::ERROR_OUT_OF_MEMORY));
        let model = model();
        let error = CudaDecoder::with_context(&model, &EngineOptions::for_model(model.config()), context)
            .unwrap_err();
        let text = error.chain();
        assert!(text.contains("caches") && text.contains("CUDA_ERROR_OUT_OF_MEMORY"), "{text}");
    });
}

#[test]
fn kernels_are_compiled_once_and_found_again() {
    on_driver(|driver, context| {
        let mut decoder = decoder(context, |_| {});
        let compiled = decoder.stats().kernels.compiled;
        assert_eq!(driver.calls_of("cuModuleLoadDataEx").len(), compiled);
        decoder.step(&gpu::rows(0, 0, &[1]), Output::LastArgmax).unwrap();
        assert_eq!(decoder.stats().kernels.compiled, compiled);
        // The logits of one row need another head, and all else is there.
        decoder.step(&gpu::rows(0, 1, &[1]), Output::LastLogits).unwrap();
        let stats = decoder.stats();
        assert_eq!(stats.kernels.compiled, compiled + 1);
        assert!(stats.kernels.hits > 0 && stats.plans == 1, "{stats:?}");
        assert_eq!(stats.nodes, 5 * model().config().n_layers + 4, "the graph that is told of is the last");
    });
}

#[test]
fn a_kernel_that_does_not_compile_is_named_and_tried_again() {
    on_driver(|driver, context| {
        let cache = ModuleCache::new(context).unwrap();
        let kernel = Elementwise::new(ElementwiseOp::Add, 1, 64).unwrap();
        fail(driver, "cuModuleLoadDataEx", CUresult::ERROR_INVALID_PTX);
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
    on_driver(|driver, context| {
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
        plan.launch(Arc::new(kernel), &[argument(0), argument(256), argument(768)]).unwrap();
        plan.copy(at(scratch, 512), at(scratch, 256)).unwrap();
        plan.copy(at(host, 0), at(scratch, 512)).unwrap();
        let plan = LoadedPlan::new(plan, &memory, &cache).unwrap();
        let graph = PlanGraph::build(&plan, &stream).unwrap();
        let types: Vec<_> = graph.definition().nodes().map(|(_, kind, _)| kind).collect();
        let (copy, fill, kernel) = (NodeType::Memcpy, NodeType::Memset, NodeType::Kernel);
        assert_eq!(types, [copy, fill, kernel, copy, copy]);
        let held = graph.definition().driver_edges().unwrap();
        let mut edges: Vec<_> = held.iter().map(|edge| (edge.from.index(), edge.to.index())).collect();
        edges.sort_unstable();
        // The last copy overwrites what the first reads.
        assert_eq!(edges, [(0, 2), (0, 4), (1, 2), (1, 3), (3, 4)]);
        for run in 0..2 {
            let pinned = memory.host(host).unwrap();
            pinned.write_range(0, &[run; 64]).unwrap();
            launches(driver);
            match run {
                0 => plan.run(&stream).unwrap(),
                _ => graph.launch(&stream).unwrap(),
            }
            stream.synchronize().unwrap();
            let launched = launches(driver);
            assert_eq!(launched.len(), 1);
            assert_eq!(words(driver, pointer(&launched[0], 0), 64), [run; 64]);
            assert_eq!(pinned.read(63).unwrap(), 0x0707_0707);
        }
    });
}

/// Each run of a plan begins with what the one before it left, when that one has ended. Within a run kernels overlap, and
/// the end of an iteration overlaps its last run. A launch goes on as far as the limit.
#[test]
fn runs_of_a_plan_in_a_loop_follow_each_other() {
    const RUNS: u32 = 3;
    on_driver(|driver, context| {
        let stream = Stream::new(context).unwrap();
        let cache = ModuleCache::new(context).unwrap();
        let mut memory = DeviceMemory::new(context);
        let state = memory.allocate_filled(&stream, "state", RegionKind::State, 512, 1).unwrap();
        let counts = memory.allocate_filled(&stream, "counts", RegionKind::State, 1024, 0).unwrap();
        let ring = memory.allocate_mapped("ring", 64).unwrap();
        let control = memory.allocate_mapped("loop", LoopCondition::WORDS as u64 * 4).unwrap();
        let argument = |region, offset, bytes, element| {
            let span = Span { region, offset, bytes };
            Argument { span, element }
        };
        let word = |offset| argument(counts, offset, 4, ElementType::U32);
        // y = x + x, x = y + y: four times as much, exactly. Then what counts the runs.
        let mut plan = LaunchPlan::new(memory.map().clone());
        for (from, to) in [(0, 256), (256, 0)] {
            let kernel = Elementwise::new(ElementwiseOp::Add, 1, 64).unwrap();
            let [from, to] = [from, to].map(|offset| argument(state, offset, 256, ElementType::F32));
            plan.launch(Arc::new(kernel), &[from, from, to]).unwrap();
        }
        let advance = Arc::new(Advance::new(1, 8).unwrap());
        let told = argument(ring, 0, 64, ElementType::U32);
        plan.launch(advance, &[word(0), word(256), word(512), word(768), told]).unwrap();
        let plan = LoadedPlan::new(plan, &memory, &cache).unwrap();
        let mut end = LaunchPlan::new(memory.map().clone());
        let limit = argument(control, 0, LoopCondition::WORDS as u64 * 4, ElementType::U32);
        // SAFETY: the number of the condition is written below, before the loop is launched.
        let condition = unsafe { LoopCondition::new(RUNS) };
        end.launch(Arc::new(condition), &[word(768), limit]).unwrap();
        let end = LoadedPlan::new(end, &memory, &cache).unwrap();

        let (graph, condition) = PlanGraph::looped(&plan, &stream, RUNS as usize, &end).unwrap();
        let (node, kind, _) = graph.definition().nodes().next().unwrap();
        assert_eq!((graph.n_nodes(), graph.n_edges(), kind), (1, 0, NodeType::Conditional));
        let body = graph.definition().body(node).unwrap();
        let edges: Vec<_> = body.driver_edges().unwrap();
        let found = |from: usize, to: usize| {
            edges.iter().find(|edge| (edge.from.index(), edge.to.index()) == (from, to)).map(|edge| edge.kind)
        };
        let (overlaps, full) = (Some(EdgeKind::Programmatic), Some(EdgeKind::Full));
        for run in 0..RUNS as usize {
            assert_eq!(found(3 * run, 3 * run + 1), overlaps);
            assert_eq!(found(3 * run + 1, 3 * run + 3), full.filter(|_| run + 1 < RUNS as usize));
        }
        assert_eq!((found(8, 9), body.len(), edges.len()), (overlaps, 10, 8));

        let words_of = memory.host(control).unwrap();
        words_of.write_range(0, &[condition.handle() as u32, (condition.handle() >> 32) as u32]).unwrap();
        launches(driver);
        let mut launched = Vec::new();
        // A launch stops where fewer than three runs are allowed, and runs three in any case.
        for (limit, runs) in [(8, 6), (6, 9), (15, 15)] {
            words_of.write(LoopCondition::LIMIT, limit).unwrap();
            words_of.write(LoopCondition::ENDED + 1, 0).unwrap();
            graph.launch(&stream).unwrap();
            stream.synchronize().unwrap();
            let ended = [0, 1].map(|word| words_of.read(LoopCondition::ENDED + word).unwrap());
            assert_eq!(ended, [runs, 1]);
            launched.extend(launches(driver));
        }
        assert_eq!(launched.len(), 15 * 3 + 5);
        let one = f32::from_bits(0x0101_0101);
        let expected = one * 4f32.powi(15);
        assert_eq!(words(driver, memory.map().get(state).unwrap().base, 64), [expected.to_bits(); 64]);
    });
}

#[test]
fn uploads_arrive_whole_through_the_staging_buffers() {
    on_driver(|_, context| {
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
    on_driver(|driver, context| {
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
        driver.forget_calls();
        launches(driver);
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
        assert_eq!(launches(driver), []);

        driver.forget_calls();
        ops.attention_on(&stream, input(33), target).unwrap();
        ops.scatter_on(&stream, cache, row, 32).unwrap();
        assert!(driver.calls_of("cuStreamSynchronize").is_empty());
        stream.synchronize().unwrap();
        driver.forget_calls();
        assert!(ops.attention_async(input(1), target).unwrap().same_as(ops.stream()));
        assert!(driver.calls_of("cuStreamSynchronize").is_empty());
        ops.attention(input(1), target).unwrap();
        assert_eq!(driver.calls_of("cuStreamSynchronize").len(), 1);
        let launched = launches(driver);
        assert_eq!(launched.len(), 4);
        assert_eq!(words(driver, pointer(&launched[0], 3), 1), [32], "the last position");
        assert_eq!(words(driver, pointer(&launched[1], 2), 1), [32], "the position written");
        ops.attention(input(0), target).unwrap();
        assert_eq!(launches(driver), [], "nothing to attend to");
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
