//! The plans that graphs become, without a device.

use std::sync::Arc;

use graph::passes::{fuse_swiglu, share_q8_activations};
use graph::{
    AttentionOperands, ComputeGraph, ExecError, RopeOperands, RopeStyle, Shape, TensorId, execute_graph,
};
use tensor_formats::ElementType;

use super::error::CudaError;
use super::executor::{Bindings, CudaExecutor};
use super::machine::Machine;
use super::memory_map::{MemoryMap, Region, RegionKind};
use super::plan::LaunchPlan;
use super::working_memory::WorkingMemory;

const BASE: u64 = 0x7_0000_0000;

/// Binds every leaf to a region of its own (caches are state, all else is constant) and plans the graph.
fn plan(graph: &ComputeGraph) -> Result<LaunchPlan, ExecError<CudaError>> {
    plan_with(graph, |_| true)
}

fn plan_with(graph: &ComputeGraph, bound: impl Fn(&str) -> bool) -> Result<LaunchPlan, ExecError<CudaError>> {
    let memory = graph.plan();
    let (mut map, mut bindings) = (MemoryMap::new(), Bindings::new());
    let mut add = |name: &str, kind, bytes| {
        let base = BASE * (map.iter().count() as u64 + 1);
        let id = map.add(Region { name: name.into(), kind, base, bytes });
        map.whole(id).unwrap()
    };
    for id in graph.leaves() {
        let node = graph.get(id).unwrap();
        let kind = if node.name().starts_with("cache") { RegionKind::State } else { RegionKind::Constant };
        let span = add(node.name(), kind, node.bytes());
        if bound(node.name()) {
            bindings.bind(id, span);
        }
    }
    bindings.bind_workspace(add("workspace", RegionKind::Scratch, memory.workspace_bytes));
    let working = WorkingMemory::of_graph(graph, &memory, Machine::H200)?;
    bindings.bind_scratch(add("scratch", RegionKind::Scratch, working.scratch));
    bindings.bind_counters(add("counters", RegionKind::State, working.counters));
    let mut executor = CudaExecutor::new(LaunchPlan::new(Arc::new(map)), &bindings, Machine::H200);
    let result = execute_graph(graph, &memory, &mut executor)?;
    let plan = executor.finish();
    assert_eq!(result.n_launches, plan.n_launches(), "what is counted is what is launched");
    Ok(plan)
}

fn shape(dims: &[usize]) -> Shape {
    Shape::new(dims).unwrap()
}

fn f32_leaf(graph: &mut ComputeGraph, name: &str, dims: &[usize]) -> TensorId {
    graph.add_leaf(name, ElementType::F32, shape(dims)).unwrap()
}

fn weight(graph: &mut ComputeGraph, name: &str, ty: ElementType, out: usize, cols: usize) -> TensorId {
    graph.add_leaf(name, ty, shape(&[out, cols])).unwrap()
}

/// Norm, Q, K and V, rotation, scatter, attention, output, residual; then the gated feed-forward part.
fn layer(rows: usize) -> ComputeGraph {
    let (n, heads, kv_heads, head_dim, max_seq, ff) = (256, 4, 2, 64, 128, 512);
    let mut g = ComputeGraph::new();
    let u32s = |g: &mut ComputeGraph, name| g.add_leaf(name, ElementType::U32, shape(&[rows])).unwrap();
    let (positions, sequences) = (u32s(&mut g, "positions"), u32s(&mut g, "sequences"));
    let table = f32_leaf(&mut g, "rope_table", &[max_seq, head_dim / 2, 2]);
    let x = f32_leaf(&mut g, "x", &[rows, n]);
    let keys = f32_leaf(&mut g, "cache_k", &[2, kv_heads, max_seq, head_dim]);
    let values = f32_leaf(&mut g, "cache_v", &[2, kv_heads, max_seq, head_dim]);
    let norm = f32_leaf(&mut g, "norm", &[n]);
    let wq = weight(&mut g, "wq", ElementType::Q4_K, heads * head_dim, n);
    let wk = weight(&mut g, "wk", ElementType::Q4_K, kv_heads * head_dim, n);
    let wv = weight(&mut g, "wv", ElementType::Q6_K, kv_heads * head_dim, n);
    let wo = weight(&mut g, "wo", ElementType::Q4_K, n, heads * head_dim);
    let (gate, up) =
        (weight(&mut g, "gate", ElementType::Q4_K, ff, n), weight(&mut g, "up", ElementType::Q4_K, ff, n));
    let down = weight(&mut g, "down", ElementType::F16, n, ff);
    let normed = g.rms_norm(x, norm, 1e-5).unwrap();
    let [q, k, v] = [wq, wk, wv].map(|w| g.mul_mat(w, normed).unwrap());
    let [q, k] = [q, k].map(|input| {
        let style = RopeStyle::NeoX;
        g.rope(RopeOperands { input, positions, table, style, n_rot: head_dim, head_dim }).unwrap()
    });
    let keys = g.kv_scatter(keys, k, positions, sequences).unwrap();
    let values = g.kv_scatter(values, v, positions, sequences).unwrap();
    let operands = AttentionOperands { query: q, keys, values, positions, sequences, scale: 0.125 };
    let attended = g.attention(operands).unwrap();
    let projected = g.mul_mat(wo, attended).unwrap();
    let middle = g.add(x, projected).unwrap();
    let [gate, up] = [gate, up].map(|w| g.mul_mat(w, middle).unwrap());
    let gate = g.silu(gate).unwrap();
    let hidden = g.mul(gate, up).unwrap();
    let hidden = g.mul_mat(down, hidden).unwrap();
    let out = g.add(middle, hidden).unwrap();
    g.mark_output(out).unwrap();
    g
}

/// Family of each launch: the kernel's name up to its numbers.
fn names(plan: &LaunchPlan) -> Vec<&str> {
    plan.launches().map(|launch| launch.name.as_str()).collect()
}

fn with_prefix(plan: &LaunchPlan, prefix: &str) -> usize {
    names(plan).iter().filter(|name| name.starts_with(prefix)).count()
}

/// Whether a path of edges leads from one launch to another.
fn ordered(plan: &LaunchPlan, from: usize, to: usize) -> bool {
    let edges = plan.edges();
    let mut reached = vec![false; plan.steps().len()];
    reached[from] = true;
    for edge in &edges {
        reached[edge.to] |= reached[edge.from];
    }
    reached[to]
}

#[test]
fn the_weights_type_chooses_the_kernel() {
    let plan = plan(&layer(1)).unwrap();
    assert_eq!(with_prefix(&plan, "gemv_q4_k"), 5, "{plan}");
    assert_eq!(with_prefix(&plan, "gemv_q6_k"), 1, "{plan}");
    assert_eq!(with_prefix(&plan, "gemv_f16"), 1, "{plan}");
}

#[test]
fn quantised_activations_are_computed_once_for_each_tensor_that_is_multiplied() {
    let graph = share_q8_activations(&layer(1)).unwrap().graph;
    let plan = plan(&graph).unwrap();
    let quantise = with_prefix(&plan, "quantize");
    // Q, K and V share one; the attention's output and the residual have one each; F16 reads f32.
    assert_eq!(quantise, 3, "{plan}");
    assert_eq!(with_prefix(&plan, "gemv_q8_q4_k"), 5, "{plan}");
    assert_eq!(with_prefix(&plan, "gemv_q8_q6_k"), 1, "{plan}");
    assert_eq!(with_prefix(&plan, "gemv_f16"), 1, "{plan}");
}

#[test]
fn projections_run_side_by_side_and_attention_waits_for_both_scatters() {
    let plan = plan(&layer(1)).unwrap();
    let at = |prefix: &str| -> Vec<usize> {
        names(&plan).iter().enumerate().filter(|(_, name)| name.starts_with(prefix)).map(|(i, _)| i).collect()
    };
    let (q6, q4) = (at("gemv_q6_k"), at("gemv_q4_k"));
    let (q, k, v) = (q4[0], q4[1], q6[0]);
    for (a, b) in [(q, k), (q, v), (k, v)] {
        assert!(!ordered(&plan, a.min(b), a.max(b)), "{plan}");
    }
    let attention = at("attention")[0];
    let scatters = at("kv_scatter");
    assert_eq!(scatters.len(), 2);
    assert!(scatters.iter().all(|&scatter| ordered(&plan, scatter, attention)), "{plan}");
    let last = plan.steps().len() - 1;
    assert!((0..last).all(|step| ordered(&plan, step, last)), "{plan}");
}

#[test]
fn the_fused_gate_is_one_launch() {
    let unfused = plan(&layer(2)).unwrap();
    let fused = plan(&fuse_swiglu(&layer(2)).unwrap().graph).unwrap();
    assert_eq!(fused.n_launches() + 1, unfused.n_launches());
    assert_eq!(with_prefix(&fused, "swiglu"), 1, "{fused}");
}

#[test]
fn more_rows_than_a_kernel_takes_become_several_launches_over_views() {
    let mut g = ComputeGraph::new();
    let w = weight(&mut g, "w", ElementType::Q8_0, 64, 32);
    let x = f32_leaf(&mut g, "x", &[19, 32]);
    let y = g.mul_mat(w, x).unwrap();
    g.mark_output(y).unwrap();
    let plan = plan(&g).unwrap();
    assert_eq!(plan.n_launches(), 3);
    let launches: Vec<_> = plan.launches().collect();
    for (i, (launch, rows)) in launches.iter().zip([8, 8, 3]).enumerate() {
        let [w, x, y] = launch.touched[..] else { panic!("{launch:?}") };
        assert_eq!(w, launches[0].touched[0]);
        assert_eq!((x.offset, x.bytes), (i as u64 * 8 * 32 * 4, rows * 32 * 4));
        assert_eq!((y.offset, y.bytes), (i as u64 * 8 * 64 * 4, rows * 64 * 4));
    }
    assert_eq!(plan.edges(), [], "the parts are independent");
}

#[test]
fn a_view_is_no_launch_and_reads_where_it_says() {
    let mut g = ComputeGraph::new();
    let x = f32_leaf(&mut g, "x", &[5, 64]);
    let w = f32_leaf(&mut g, "w", &[64]);
    let last = g.view(x, 4, 1).unwrap();
    let y = g.rms_norm(last, w, 1e-6).unwrap();
    g.mark_output(y).unwrap();
    let plan = plan(&g).unwrap();
    assert_eq!(plan.n_launches(), 1);
    let launch = plan.launches().next().unwrap();
    assert_eq!((launch.touched[0].offset, launch.touched[0].bytes), (4 * 64 * 4, 64 * 4));
}

#[test]
fn a_leaf_without_memory_is_refused_by_name() {
    let error = plan_with(&layer(1), |name| name != "wv").unwrap_err();
    assert!(matches!(error, ExecError::Unsupported { source: CudaError::Unbound { .. }, .. }), "{error}");
    assert!(error.to_string().contains("wv"), "{error}");
}

#[test]
fn what_no_kernel_takes_is_refused_before_anything_is_appended() {
    let mut g = ComputeGraph::new();
    let u32s = |g: &mut ComputeGraph, name| g.add_leaf(name, ElementType::U32, shape(&[1])).unwrap();
    let (positions, sequences) = (u32s(&mut g, "positions"), u32s(&mut g, "sequences"));
    let query = f32_leaf(&mut g, "query", &[1, 66]);
    let query = g.copy(query).unwrap();
    let [keys, values] = ["cache_k", "cache_v"].map(|name| f32_leaf(&mut g, name, &[1, 1, 8, 66]));
    let y = g.attention(AttentionOperands { query, keys, values, positions, sequences, scale: 1.0 }).unwrap();
    g.mark_output(y).unwrap();
    let error = plan(&g).unwrap_err();
    assert!(matches!(error, ExecError::Unsupported { source: CudaError::Kernel(_), .. }), "{error}");
    assert!(error.to_string().contains("66"), "{error}");
}

#[test]
fn the_same_graph_gives_the_same_plan() {
    let listing = |rows| plan(&layer(rows)).unwrap().to_string();
    assert_eq!(listing(3), listing(3));
    assert_ne!(listing(3), listing(4));
}

#[test]
fn a_plan_costs_what_its_weights_weigh() {
    let plan = plan(&layer(1)).unwrap();
    let weights = 256 * 256 / 256 * 144 * 2 + 128 * 144 + 128 * 210 + 2 * 512 * 144 + 256 * 512 * 2;
    let cost = plan.cost(1);
    assert!(cost.bytes_read > weights && cost.bytes_read < weights + 64 * 1024, "{}", cost.bytes_read);
    assert!(plan.cost(100).bytes_read > cost.bytes_read);
}
