//! Passes: graphs before and after.

use graph::passes::{Rewrite, fuse_swiglu, remove_dead, share_q8_activations};
use graph::{ComputeGraph, TensorId, TensorOp};
use proptest::prelude::*;
use tensor_formats::ElementType::{self, F16, F32, Q4_K, Q6_K, Q8_0, U32};

use crate::plan::{random_graph, recipes, run};
use crate::support::{leaf, mlp};

fn count(g: &ComputeGraph, op: TensorOp) -> usize {
    g.nodes().iter().filter(|node| node.op() == op).count()
}

fn op_of(g: &ComputeGraph, id: TensorId) -> TensorOp {
    g.get(id).unwrap().op()
}

/// An MLP of `dtype` weights with its result marked.
fn marked_mlp(dtype: ElementType) -> (ComputeGraph, TensorId) {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[2, 256]);
    let y = mlp(&mut g, dtype, x).unwrap();
    g.mark_output(y).unwrap();
    (g, y)
}

#[test]
fn both_passes_before_and_after() {
    let (before, y) = marked_mlp(Q4_K);
    let after =
        Rewrite::identity(before.clone()).then(fuse_swiglu).unwrap().then(share_q8_activations).unwrap();
    assert_eq!(after.graph.outputs(), [after.map(y).unwrap()]);
    insta::assert_snapshot!(format!("before\n{before}\nafter\n{}", after.graph));
}

#[test]
fn swiglu_is_found_in_either_order_and_maps_the_product() {
    for swapped in [false, true] {
        let mut g = ComputeGraph::new();
        let [gate, up] = ["gate", "up"].map(|name| leaf(&mut g, name, F32, &[2, 64]));
        let silu = g.silu(gate).unwrap();
        let product = if swapped { g.mul(up, silu) } else { g.mul(silu, up) }.unwrap();
        g.mark_output(product).unwrap();
        let fused = fuse_swiglu(&g).unwrap();
        let new = fused.map(product).unwrap();
        assert_eq!(op_of(&fused.graph, new), TensorOp::SwiGlu);
        assert_eq!(fused.graph.get(new).unwrap().inputs(), [gate, up].map(|id| fused.map(id).unwrap()));
        assert_eq!((fused.map(silu), fused.graph.n_ops()), (None, 1));
    }
}

#[test]
fn a_silu_that_others_need_is_not_fused() {
    let build = |extra: fn(&mut ComputeGraph, TensorId)| {
        let mut g = ComputeGraph::new();
        let [gate, up] = ["gate", "up"].map(|name| leaf(&mut g, name, F32, &[2, 64]));
        let silu = g.silu(gate).unwrap();
        g.mul(silu, up).unwrap();
        extra(&mut g, silu);
        count(&fuse_swiglu(&g).unwrap().graph, TensorOp::SwiGlu)
    };
    assert_eq!(build(|_, _| {}), 1);
    assert_eq!(build(|g, silu| _ = g.copy(silu).unwrap()), 0, "another reader");
    assert_eq!(build(|g, silu| g.mark_output(silu).unwrap()), 0, "an output");
}

#[test]
fn the_square_of_a_silu_is_not_a_swiglu() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[2, 64]);
    let silu = g.silu(x).unwrap();
    g.mul(silu, silu).unwrap();
    assert_eq!(fuse_swiglu(&g).unwrap().graph.to_string(), g.to_string());
}

#[test]
fn a_gate_that_a_scatter_overwrites_is_not_read_later() {
    let mut g = ComputeGraph::new();
    let cache = leaf(&mut g, "cache", F32, &[1, 1, 8, 4]);
    let up = leaf(&mut g, "up", F32, &[1, 1, 8, 4]);
    let x = leaf(&mut g, "x", F32, &[1, 4]);
    let [positions, sequences] = ["positions", "sequences"].map(|name| leaf(&mut g, name, U32, &[1]));
    let silu = g.silu(cache).unwrap();
    g.kv_scatter(cache, x, positions, sequences).unwrap();
    g.mul(silu, up).unwrap();
    assert_eq!(fuse_swiglu(&g).unwrap().graph.to_string(), g.to_string());
}

#[test]
fn one_quantised_activation_for_each_activation() {
    const LAYERS: usize = 24;
    let mut g = ComputeGraph::new();
    let mut x = leaf(&mut g, "x", F32, &[2, 256]);
    let mut products = Vec::new();
    for layer in 0..LAYERS {
        let norm = leaf(&mut g, "norm", F32, &[256]);
        let normed = g.rms_norm(x, norm, 1e-5).unwrap();
        // A file of one quantisation holds several: the type is each weight's own.
        let [a, b] =
            [Q4_K, if layer % 2 == 0 { Q6_K } else { Q8_0 }].map(|ty| leaf(&mut g, "w", ty, &[256, 256]));
        let [a, b] = [a, b].map(|w| g.mul_mat(w, normed).unwrap());
        products.extend([(a, normed), (b, normed)]);
        x = g.add(a, b).unwrap();
    }
    g.mark_output(x).unwrap();
    let shared = share_q8_activations(&g).unwrap();
    assert_eq!(count(&shared.graph, TensorOp::QuantizeQ8), LAYERS);
    let mut seen = Vec::new();
    for (product, normed) in products {
        let node = shared.graph.get(shared.map(product).unwrap()).unwrap();
        let activation = node.inputs()[1];
        let quantize = shared.graph.get(activation).unwrap();
        assert_eq!(quantize.op(), TensorOp::QuantizeQ8);
        assert_eq!(
            quantize.inputs(),
            [shared.map(normed).unwrap()],
            "each layer quantises its own activation"
        );
        seen.push(activation);
    }
    seen.dedup();
    assert_eq!(seen.len(), LAYERS, "and both matmuls of a layer share it");
}

#[test]
fn only_quantised_weights_read_quantised_activations() {
    for (dtype, quantised) in [
        (F32, 0),
        (F16, 0),
        (ElementType::BF16, 0),
        (ElementType::Q4_0, 2),
        (Q8_0, 2),
        (Q4_K, 2),
        (ElementType::Q5_K, 2),
        (Q6_K, 2),
    ] {
        let (g, _) = marked_mlp(dtype);
        let shared = share_q8_activations(&g).unwrap();
        assert_eq!(count(&shared.graph, TensorOp::QuantizeQ8), quantised, "{dtype}");
        if quantised == 0 {
            assert_eq!(shared.graph.to_string(), g.to_string());
        }
    }
}

#[test]
fn sharing_twice_changes_nothing() {
    let (g, _) = marked_mlp(Q6_K);
    let once = share_q8_activations(&g).unwrap().graph;
    assert_eq!(share_q8_activations(&once).unwrap().graph.to_string(), once.to_string());
}

#[test]
fn dead_operations_go_and_effects_stay() {
    let (mut g, y) = marked_mlp(F32);
    let dead = g.silu(y).unwrap();
    let dead = g.mul(dead, y).unwrap();
    let cache = leaf(&mut g, "cache", F32, &[1, 1, 8, 256]);
    let [positions, sequences] = ["positions", "sequences"].map(|name| leaf(&mut g, name, U32, &[2]));
    let scattered = g.kv_scatter(cache, y, positions, sequences).unwrap();
    let unused = leaf(&mut g, "unused", F32, &[1]);
    let live = remove_dead(&g).unwrap();
    assert_eq!(live.map(dead), None);
    assert_eq!(op_of(&live.graph, live.map(scattered).unwrap()), TensorOp::KvScatter);
    assert!(live.map(unused).is_some(), "leaves survive");
    assert_eq!(live.graph.n_ops(), g.n_ops() - 2);
    assert_eq!(live.graph.outputs(), [live.map(y).unwrap()]);
    assert_eq!(remove_dead(&live.graph).unwrap().graph.to_string(), live.graph.to_string());
}

#[test]
fn maps_compose() {
    let (mut g, y) = marked_mlp(Q8_0);
    let dead = g.silu(y).unwrap();
    let all = Rewrite::identity(g.clone());
    assert!(g.ids().all(|id| all.map(id) == Some(id)));
    let all = all.then(fuse_swiglu).unwrap().then(share_q8_activations).unwrap().then(remove_dead).unwrap();
    assert_eq!(all.map(dead), None);
    for id in g.leaves() {
        let (old, new) = (g.get(id).unwrap(), all.graph.get(all.map(id).unwrap()).unwrap());
        assert_eq!((old.name(), old.dtype(), old.shape()), (new.name(), new.dtype(), new.shape()));
    }
    assert_eq!(op_of(&all.graph, all.map(y).unwrap()), TensorOp::Add);
}

proptest! {
    /// Outputs and caches have the same bits, whatever the order of the passes.
    #[test]
    fn passes_change_no_result(recipes in recipes(), seed in "[a-z]{8}", dead_first: bool) {
        let g = random_graph(&recipes);
        let before = run(&g, &g.plan(), &seed);
        let all = Rewrite::identity(g.clone());
        let all = match dead_first {
            true => all.then(remove_dead).unwrap().then(fuse_swiglu).unwrap(),
            false => all.then(fuse_swiglu).unwrap().then(remove_dead).unwrap(),
        };
        prop_assert_eq!(&before, &run(&all.graph, &all.graph.plan(), &seed));
        for id in g.ids() {
            let (old, new) = (g.get(id).unwrap(), all.map(id).map(|id| all.graph.get(id).unwrap()));
            prop_assert!(new.is_none_or(|new| (old.shape(), old.dtype()) == (new.shape(), new.dtype())));
        }
    }
}
