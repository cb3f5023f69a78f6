//! The memory plan, checked by a simulation that knows nothing of how it is made.

use graph::conformance::Rng;
use graph::reference::{ReferenceDispatch, to_u32_bytes};
use graph::{
    ALIGNMENT, BufferId, ComputeGraph, MemoryPlan, PlanOptions, RopeOperands, RopeStyle, TensorId, TensorOp,
    execute_graph,
};
use proptest::prelude::*;
use tensor_formats::ElementType::{F32, Q4_K, U32};

use crate::support::{leaf, mlp};

/// Executes the plan on an abstract memory in which every byte remembers which value was written to it, and checks
/// that each operand still holds its value when it is read, and each output at the end.
fn simulate(g: &ComputeGraph, plan: &MemoryPlan) {
    // The value in memory is named by the node that computed it; `None` is garbage.
    let mut memory: Vec<Option<TensorId>> = vec![None; plan.workspace_bytes as usize];
    let owner = |id: TensorId| g.get(id).unwrap().root();
    let span = |id: TensorId| {
        let view = plan.view(id).unwrap();
        assert!(view.end() <= plan.workspace_bytes, "{view} ends beyond the workspace");
        view.offset as usize..view.end() as usize
    };
    let in_workspace = |id: TensorId| plan.view(id).unwrap().buffer == BufferId::Workspace;
    let holds = |memory: &[Option<TensorId>], id: TensorId, when: &str| {
        if in_workspace(id) {
            assert!(
                memory[span(id)].iter().all(|&value| value == Some(owner(id))),
                "{id} is gone {when}\n{g}"
            );
        }
    };
    for (id, node) in g.ids().zip(g.nodes()) {
        let view = plan.view(id).unwrap();
        assert_eq!((view.shape, view.dtype, view.bytes()), (node.shape(), node.dtype(), node.bytes()));
        match owner(id) {
            root if g.get(root).unwrap().is_leaf() => {
                assert_eq!((view.buffer, view.offset), (BufferId::Leaf(root), node.root_offset()));
            }
            root => {
                assert_eq!(view.buffer, BufferId::Workspace);
                assert_eq!(view.offset, plan.view(root).unwrap().offset + node.root_offset());
            }
        }
        node.inputs().iter().for_each(|&input| holds(&memory, input, &format!("when {id} reads it")));
        if owner(id) != id || node.is_leaf() {
            continue;
        }
        assert_eq!(view.offset % ALIGNMENT, 0);
        // An output shares bytes with an operand only as the operation's aliasing rules allow.
        for (operand, &input) in node.inputs().iter().enumerate() {
            let read = plan.view(input).unwrap();
            if read.overlaps(&view) {
                assert!(
                    node.op().in_place_operands().contains(&operand),
                    "{id} overlaps its operand {input}\n{g}"
                );
                assert!(read.same_bytes(&view) && read.shape == view.shape);
                assert!(plan.in_place_of(id).is_some_and(|over| owner(over) == owner(input)));
                assert!(!g.outputs().contains(&input));
            }
        }
        memory[span(id)].fill(Some(id));
    }
    g.outputs().iter().for_each(|&output| holds(&memory, output, "at the end"));
}

/// A recipe for a node: an operation and which of the earlier tensors it reads, modulo what there is.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    op: u8,
    a: usize,
    b: usize,
    output: bool,
}

/// Turns recipes into a graph. Operations that do not fit are refused by the graph and left out.
pub fn random_graph(recipes: &[Recipe]) -> ComputeGraph {
    let mut g = ComputeGraph::new();
    let positions = leaf(&mut g, "positions", U32, &[4]);
    let sequences = leaf(&mut g, "sequences", U32, &[4]);
    let table = leaf(&mut g, "table", F32, &[9, 4, 2]);
    let mut cache = leaf(&mut g, "cache", F32, &[2, 4, 9, 8]);
    let weights = [32, 96].map(|out| leaf(&mut g, "weight", F32, &[out, 32]));
    let back = leaf(&mut g, "back", F32, &[32, 96]);
    let norm = leaf(&mut g, "norm", F32, &[32]);
    let mut tensors = vec![leaf(&mut g, "x", F32, &[4, 32])];
    for r in recipes {
        let (a, b) = (tensors[r.a % tensors.len()], tensors[r.b % tensors.len()]);
        let rope = RopeOperands { input: a, positions, table, style: RopeStyle::NeoX, n_rot: 8, head_dim: 8 };
        let rows = g.get(a).unwrap().shape().outer();
        let made = match r.op % 14 {
            0 => g.add(a, b),
            1 => g.mul(a, b),
            2 => g.silu(a),
            3 => g.swi_glu(a, b),
            4 => g.rope(rope),
            5 => g.mul_mat(weights[r.b % 2], a),
            6 => g.mul_mat(back, a),
            7 => g.rms_norm(a, norm, 1e-5),
            8 => g.view(a, r.b % rows, 1 + r.b % (rows - r.b % rows)),
            9 => g.copy(a),
            10 => g.add(a, norm),
            11 => g.soft_max(a, 1.0),
            12 => g.quantize_q8(a).and_then(|_| g.argmax(a)),
            _ => g.kv_scatter(cache, a, positions, sequences).inspect(|&written| cache = written),
        };
        if let Ok(id) = made {
            if g.get(id).unwrap().dtype() == F32 && g.get(id).unwrap().shape().rank() == 2 {
                tensors.push(id);
            }
            if r.output {
                g.mark_output(id).unwrap();
            }
        }
    }
    g
}

/// The bytes of all outputs, and of the cache, after running `g` on random leaves.
pub fn run(g: &ComputeGraph, plan: &MemoryPlan, seed: &str) -> Vec<Vec<u8>> {
    let mut rng = Rng::from_name(seed);
    let mut backend = ReferenceDispatch::new(plan, 0xff);
    for id in g.leaves() {
        let node = g.get(id).unwrap();
        let bytes = match node.name() {
            "positions" => to_u32_bytes(&[3, 8, 0, 4]),
            "sequences" => to_u32_bytes(&[1, 0, 0, 1]),
            _ => rng.weights(F32, node.shape().elements(), 1.0).unwrap(),
        };
        backend.bind(id, bytes).unwrap();
    }
    execute_graph(g, plan, &mut backend).unwrap();
    let cache = g.leaves().filter(|&id| g.get(id).unwrap().name() == "cache");
    let read = |id| backend.bytes(&plan.view(id).unwrap()).unwrap().to_vec();
    g.outputs().iter().copied().chain(cache).map(read).collect()
}

pub fn recipes() -> impl Strategy<Value = Vec<Recipe>> {
    let recipe = (any::<u8>(), 0..64usize, 0..64usize, prop::bool::weighted(0.1));
    prop::collection::vec(recipe.prop_map(|(op, a, b, output)| Recipe { op, a, b, output }), 1..40)
}

proptest! {
    #[test]
    fn live_tensors_never_overlap(recipes in recipes()) {
        let g = random_graph(&recipes);
        for (reuse, in_place, guard_bytes) in
            [(true, true, 0), (true, false, 0), (false, true, 0), (false, false, 1), (true, true, 300)]
        {
            simulate(&g, &g.plan_with(PlanOptions { reuse, in_place, guard_bytes }));
        }
        let without = g.plan_with(PlanOptions { reuse: false, in_place: false, guard_bytes: 0 });
        prop_assert!(g.plan().workspace_bytes <= without.workspace_bytes);
    }

    #[test]
    fn sharing_memory_changes_no_result(recipes in recipes(), seed in "[a-z]{8}") {
        let g = random_graph(&recipes);
        let apart = run(&g, &g.plan_with(PlanOptions { reuse: false, in_place: false, guard_bytes: 0 }), &seed);
        prop_assert_eq!(apart, run(&g, &g.plan(), &seed));
    }

    #[test]
    fn guards_belong_to_nobody(recipes in recipes()) {
        let g = random_graph(&recipes);
        let plan = g.plan_with(PlanOptions { reuse: false, in_place: true, guard_bytes: 256 });
        let mut spans: Vec<_> = g
            .ids()
            .map(|id| plan.view(id).unwrap())
            .filter(|view| view.buffer == BufferId::Workspace)
            .map(|view| (view.offset, view.end()))
            .collect();
        spans.sort_by_key(|&(start, end)| (start, std::cmp::Reverse(end)));
        let mut covered = 0;
        for (start, end) in spans {
            // Either inside of what an alias or an in-place result shares, or beyond both guards.
            prop_assert!(end <= covered || start >= covered + 256);
            covered = covered.max(end);
        }
        prop_assert!(covered == 0 || plan.workspace_bytes >= covered + 256);
    }
}

#[test]
fn the_largest_guards_overflow_nothing() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[4, 32]);
    let first = g.copy(x).unwrap();
    let second = g.copy(first).unwrap();
    let plan = g.plan_with(PlanOptions { reuse: false, in_place: false, guard_bytes: u32::MAX });
    let offsets = [first, second].map(|id| plan.view(id).unwrap().offset);
    assert_eq!(offsets, [1 << 32, (3 << 32) + 512]);
    assert_eq!(plan.workspace_bytes, (4 << 32) + 1024);
}

/// The simulation has to notice a bad plan: that of a graph in which the same tensor dies earlier.
#[test]
#[should_panic(expected = "is gone")]
fn the_simulation_sees_a_tensor_freed_too_early() {
    let build = |late_reader: bool| {
        let mut g = ComputeGraph::new();
        let x = leaf(&mut g, "x", F32, &[4, 32]);
        let early = g.copy(x).unwrap();
        let mut last = g.copy(early).unwrap();
        for _ in 0..3 {
            last = g.copy(last).unwrap();
        }
        g.add(last, if late_reader { early } else { x }).unwrap();
        g
    };
    simulate(&build(true), &build(false).plan());
}

#[test]
fn a_chain_of_elementwise_operations_needs_one_block() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[4, 100]);
    let mut y = g.copy(x).unwrap();
    for _ in 0..10 {
        let z = g.silu(y).unwrap();
        y = g.add(z, x).unwrap();
    }
    assert_eq!(g.plan().workspace_bytes, 1792, "1600 bytes, rounded up");
    simulate(&g, &g.plan());
}

#[test]
fn leaves_and_outputs_are_never_written_over() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[4, 64]);
    let over_leaf = g.silu(x).unwrap();
    g.mark_output(over_leaf).unwrap();
    let over_output = g.silu(over_leaf).unwrap();
    let over_dying = g.silu(over_output).unwrap();
    let plan = g.plan();
    let replaced = [over_leaf, over_output, over_dying].map(|id| plan.in_place_of(id));
    assert_eq!(replaced, [None, None, Some(over_output)]);
}

#[test]
fn a_view_keeps_its_tensor_alive_and_in_place() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[4, 64]);
    let whole = g.copy(x).unwrap();
    let last_row = g.view(whole, 3, 1).unwrap();
    let over_part = g.silu(last_row).unwrap();
    let all_rows = g.view(whole, 0, 4).unwrap();
    let over_all = g.silu(all_rows).unwrap();
    let plan = g.plan();
    assert_eq!(plan.in_place_of(over_part), None, "a part of a tensor that is read again");
    assert_eq!(plan.in_place_of(over_all), Some(all_rows), "the whole of a tensor that dies");
    simulate(&g, &plan);
}

#[test]
fn swiglu_replaces_only_its_gate() {
    let build = |swap: bool, same: bool| {
        let mut g = ComputeGraph::new();
        let x = leaf(&mut g, "x", F32, &[4, 64]);
        let dying = g.copy(x).unwrap();
        let y = match (same, swap) {
            (true, _) => g.swi_glu(dying, dying),
            (false, false) => g.swi_glu(dying, x),
            (false, true) => g.swi_glu(x, dying),
        };
        g.plan().in_place_of(y.unwrap()).is_some()
    };
    assert!(build(false, false));
    assert!(!build(true, false), "up is read after the output is first written");
    assert!(!build(false, true), "and so it is where it is also the gate");
}

#[test]
fn in_place_needs_equal_shapes() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[1, 64]);
    let v = leaf(&mut g, "v", F32, &[64]);
    let bias = g.copy(v).unwrap();
    let y = g.add(x, bias).unwrap();
    assert_eq!(g.plan().in_place_of(y), None, "a vector of the same bytes");
}

#[test]
fn best_fit_takes_the_smallest_hole() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[1, 64]);
    let wide = leaf(&mut g, "wide", F32, &[1, 256]);
    let big = g.copy(wide).unwrap();
    let keep = g.copy(x).unwrap();
    let small = g.copy(x).unwrap();
    let keep_too = g.copy(x).unwrap();
    // Both die here, and leave holes of 1024 and 256 bytes between what is kept.
    g.soft_max(big, 1.0).unwrap();
    g.soft_max(small, 1.0).unwrap();
    let fits_small = g.copy(x).unwrap();
    let fits_big = g.copy(wide).unwrap();
    for id in [keep, keep_too, fits_small, fits_big] {
        g.mark_output(id).unwrap();
    }
    let plan = g.plan();
    let offset = |id| plan.view(id).unwrap().offset;
    assert_eq!((offset(fits_small), offset(fits_big)), (offset(small), offset(big)));
    simulate(&g, &plan);
}

#[test]
fn a_deep_model_needs_the_workspace_of_one_layer() {
    let build = |layers| {
        let mut g = ComputeGraph::new();
        let mut x = leaf(&mut g, "x", F32, &[2, 256]);
        for _ in 0..layers {
            x = mlp(&mut g, Q4_K, x).unwrap();
        }
        g.mark_output(x).unwrap();
        simulate(&g, &g.plan());
        g.plan().workspace_bytes
    };
    assert_eq!(build(32), build(2));
    // Residual, norm and the two hidden activations: 2 rows of 256, 256, 512 and 512.
    assert_eq!(build(32), 4 * 2 * (256 + 256 + 512 + 512));
}

#[test]
fn every_operation_that_may_run_in_place_is_planned_so() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[4, 64]);
    let positions = leaf(&mut g, "positions", U32, &[4]);
    let table = leaf(&mut g, "table", F32, &[9, 4, 2]);
    let mut y = g.copy(x).unwrap();
    for op in TensorOp::ALL.into_iter().filter(|op| !op.in_place_operands().is_empty()) {
        for &operand in op.in_place_operands() {
            let mut inputs = vec![x; op.operands().len()];
            let mut params = graph::OpParams::None;
            if op == TensorOp::Rope {
                inputs = vec![x, positions, table];
                params = graph::OpParams::Rope { style: RopeStyle::NeoX, n_rot: 8, head_dim: 16 };
            }
            inputs[operand] = y;
            let before = y;
            y = g.add_op(op, &inputs, params).unwrap();
            assert_eq!(g.plan().in_place_of(y), Some(before), "{op} over operand {operand}");
        }
    }
    assert_eq!(g.plan().workspace_bytes, 4 * 4 * 64);
}
