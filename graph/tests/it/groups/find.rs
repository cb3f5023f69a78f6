//! What is a group, and what looks like one and is not.

use graph::{
    BufferId, ComputeGraph, CountingDispatch, ExecError, Group, GroupCall, GroupKind, RopeOperands,
    RopeStyle, TensorId, TensorOp, execute_graph,
};
use tensor_formats::ElementType::{F16, F32, Q8_0};

use super::build::{HEAD_DIM, HIDDEN, Model, Order, ROWS};
use crate::support::leaf;

use GroupKind::{AttentionInput, GatedProjection, Head, ResidualProjection};

/// The kinds of all groups, with their numbers of operations.
fn kinds(g: &ComputeGraph) -> Vec<(GroupKind, usize)> {
    g.group(|_| true).groups().map(|(kind, ids)| (kind, ids.len())).collect()
}

/// The one group of `g`.
#[track_caller]
fn only(g: &ComputeGraph) -> Group {
    let plan = g.group(|_| true).plan();
    let groups: Vec<&Group> = plan.groups().collect();
    assert_eq!(groups.len(), 1, "{g}");
    groups[0].clone()
}

fn input(m: &mut Model) -> TensorId {
    leaf(&mut m.g, "x", F32, &[ROWS, HIDDEN])
}

#[test]
fn a_model_is_five_calls_a_layer() {
    for (q8, bias) in [(false, false), (false, true), (true, false), (true, true)] {
        for order in [Order::QueryLast, Order::Breadth, Order::QueryFirst] {
            let mut m = Model { order, ..Model::new(Q8_0, q8, bias) };
            let mut x = input(&mut m);
            for _ in 0..2 {
                x = m.layer(x);
            }
            let last = m.g.view(x, ROWS - 1, 1).unwrap();
            let [_, token] = m.head(last);
            m.g.mark_output(token).unwrap();
            let (q, b) = (usize::from(q8), usize::from(bias));
            let layer = [
                (AttentionInput, 8 + q + 3 * b),
                (ResidualProjection, 2 + q + b),
                (GatedProjection, 4 + q),
                (ResidualProjection, 2 + q + b),
            ];
            let expected = [&layer[..], &layer, &[(Head, 3 + q)]].concat();
            assert_eq!(kinds(&m.g), expected, "{order:?}, q8={q8}, bias={bias}");
            let grouping = m.g.group(|_| true);
            assert_eq!(grouping.n_calls(), 2 * 5 + 1);
            let mut counting = CountingDispatch::new();
            let n_launches = execute_graph(&m.g, &grouping.plan(), &mut counting).unwrap().n_launches;
            assert_eq!((n_launches, counting.ops()), (11, vec![TensorOp::Attention; 2]));
            assert!(counting.groups().iter().all(|group| group.q8() == q8));
            // The default bodies run the parts, in their order.
            let mut parts = CountingDispatch::new().unfused();
            execute_graph(&m.g, &grouping.plan(), &mut parts).unwrap();
            let mut alone = CountingDispatch::new().unfused();
            execute_graph(&m.g, &m.g.plan(), &mut alone).unwrap();
            assert_eq!(parts.ops(), alone.ops());
        }
    }
}

#[test]
fn the_operands_of_an_attention_input_are_told_apart() {
    for order in [Order::QueryLast, Order::Breadth, Order::QueryFirst] {
        let mut m = Model { order, ..Model::new(F16, false, true) };
        let x = input(&mut m);
        let ids = m.attention_input(x);
        ids.iter().for_each(|&id| m.g.mark_output(id).unwrap());
        let plan = m.g.group(|_| true).plan();
        let group = plan.groups().next().unwrap();
        let GroupCall::AttentionInput(a) = group.call() else { panic!("{group:?}") };
        let name = |view: graph::TensorView| match view.buffer {
            BufferId::Leaf(id) => m.g.get(id).unwrap().name().to_owned(),
            BufferId::Workspace => "workspace".to_owned(),
        };
        let [q, k, v] = [a.query, a.key, a.value].map(|p| (name(p.weight), name(p.bias.unwrap())));
        assert_eq!([q.0, k.0, v.0], ["wq", "wk", "wv"]);
        assert_eq!([q.1, k.1, v.1], ["bias"; 3]);
        let [x, norm, positions, sequences, table] =
            [a.input, a.norm, a.positions, a.sequences, a.table].map(name);
        assert_eq!([x, norm, positions, sequences, table], ["x", "norm", "positions", "sequences", "table"]);
        assert_eq!([a.keys, a.values].map(name), ["keys", "values"]);
        assert_eq!([a.output, a.keys, a.values].map(Some), ids.map(|id| plan.view(id)));
        assert_eq!((a.n_heads, a.n_kv_heads, a.head_dim, a.max_seq, a.n_sequences), (4, 2, HEAD_DIM, 9, 3));
        assert_eq!((a.style, a.n_rot, a.eps.to_bits()), (RopeStyle::NeoX, HEAD_DIM, 1e-5f32.to_bits()));
    }
}

#[test]
fn gate_and_up_are_told_apart() {
    for up_first in [false, true] {
        let mut m = Model::new(F32, false, false);
        let x = input(&mut m);
        m.gated(x, 64, up_first);
        let GroupCall::GatedProjection(a) = *only(&m.g).call() else { panic!() };
        let name = |view: graph::TensorView| match view.buffer {
            BufferId::Leaf(id) => m.g.get(id).unwrap().name().to_owned(),
            BufferId::Workspace => "workspace".to_owned(),
        };
        let expected = if up_first { ["w2", "w1"] } else { ["w1", "w2"] };
        assert_eq!([a.gate, a.up].map(name), expected);
    }
}

#[test]
fn a_residual_may_be_either_operand_but_not_the_product() {
    for product_first in [false, true] {
        let mut m = Model::new(Q8_0, true, true);
        let (x, h) = (input(&mut m), leaf(&mut m.g, "h", F32, &[ROWS, 64]));
        m.residual(h, x, product_first);
        let GroupCall::ResidualProjection(a) = *only(&m.g).call() else { panic!() };
        assert_eq!((a.residual.buffer, a.input.buffer), (BufferId::Leaf(x), BufferId::Leaf(h)));
        assert!(a.q8 && a.projection.bias.is_some());
    }
    let mut m = Model::new(F32, false, false);
    let x = input(&mut m);
    let y = m.product("w", HIDDEN, x);
    m.g.add(y, y).unwrap();
    assert_eq!(kinds(&m.g), []);
}

#[test]
fn logits_are_kept_where_somebody_needs_them() {
    // (with argmax, logits are an output, somebody else reads them)
    for (argmax, output, reader) in [
        (true, false, false),
        (true, true, false),
        (true, false, true),
        (false, false, false),
        (false, true, false),
    ] {
        let mut m = Model::new(F32, false, false);
        let x = input(&mut m);
        let normed = m.norm(x);
        let logits = m.product("output", 40, normed);
        let token = argmax.then(|| m.g.argmax(logits).unwrap());
        if reader {
            m.g.soft_max(logits, 1.0).unwrap();
        }
        if output {
            m.g.mark_output(logits).unwrap();
        }
        let GroupCall::Head(a) = *only(&m.g).call() else { panic!() };
        assert_eq!(a.argmax.is_some(), token.is_some());
        assert_eq!(a.logits.is_some(), output || reader || !argmax);
    }
}

#[test]
fn what_leaks_is_no_group() {
    /// Builds a layer's groups on `x` and then reads one of their intermediates.
    type Leak = fn(&mut Model, TensorId);
    let nth = |m: &Model, op: TensorOp, n: usize| {
        m.g.ids().filter(|&id| m.g.get(id).unwrap().op() == op).nth(n).unwrap()
    };
    let leaks: [(&str, Leak); 3] = [
        ("an output", |m, id| m.g.mark_output(id).unwrap()),
        ("a reader", |m, id| m.g.copy(id).map(|_| ()).unwrap()),
        ("a view", |m, id| m.g.view(id, 0, 1).map(|_| ()).unwrap()),
    ];
    for (what, leak) in leaks {
        for (kind, intermediates) in [
            (AttentionInput, &[(TensorOp::RmsNorm, 0), (TensorOp::MulMat, 1), (TensorOp::Rope, 0)][..]),
            (GatedProjection, &[(TensorOp::RmsNorm, 0), (TensorOp::MulMat, 0), (TensorOp::MulMat, 1)]),
            (ResidualProjection, &[(TensorOp::MulMat, 0), (TensorOp::Add, 0)]),
            (Head, &[(TensorOp::RmsNorm, 0)]),
        ] {
            let build = || {
                let mut m = Model::new(F32, false, kind == ResidualProjection);
                let x = input(&mut m);
                match kind {
                    AttentionInput => m.attention_input(x)[0],
                    GatedProjection => m.gated(x, 64, false),
                    ResidualProjection => m.residual(x, x, false),
                    Head => m.head(x)[0],
                };
                m
            };
            assert_eq!(only(&build().g).kind(), kind);
            for &(op, n) in intermediates {
                let mut m = build();
                let id = nth(&m, op, n);
                leak(&mut m, id);
                let of_kind = kinds(&m.g).into_iter().filter(|(found, _)| *found == kind).count();
                assert_eq!(of_kind, 0, "{what} of {op} {n} of {kind}\n{}", m.g);
            }
        }
    }
}

#[test]
fn an_operation_in_between_breaks_the_run() {
    let mut m = Model::new(F32, false, false);
    let x = input(&mut m);
    let normed = m.norm(x);
    let gate = m.product("w1", 64, normed);
    let up = m.product("w2", 64, normed);
    // A leaf or a view of something else is not executed, and is nothing in between.
    leaf(&mut m.g, "unrelated", F32, &[1]);
    m.g.view(x, 0, 1).unwrap();
    let mut apart = ComputeGraph::clone(&m.g);
    m.g.swi_glu(gate, up).unwrap();
    assert_eq!(kinds(&m.g), [(GatedProjection, 4)]);
    apart.silu(x).unwrap();
    apart.swi_glu(gate, up).unwrap();
    assert_eq!(kinds(&apart), []);
}

#[test]
fn branches_of_an_attention_input_have_to_agree() {
    let attempt = |change: fn(&mut Model) -> [RopeOperands; 2], shared_cache: bool, late: bool| {
        let mut m = Model::new(F32, false, false);
        let x = input(&mut m);
        let (keys, values) = (m.cache("keys"), m.cache("values"));
        let other = leaf(&mut m.g, "other", tensor_formats::ElementType::U32, &[ROWS]);
        let ropes = change(&mut m);
        let normed = m.norm(x);
        let [q, k, v] =
            [("wq", HIDDEN), ("wk", 16), ("wv", 16)].map(|(name, out)| m.product(name, out, normed));
        m.g.rope(RopeOperands { input: q, ..ropes[0] }).unwrap();
        let k = m.g.rope(RopeOperands { input: k, ..ropes[1] }).unwrap();
        let keys = m.scatter(keys, k);
        if late {
            m.sequences = other;
        }
        m.scatter(if shared_cache { keys } else { values }, v);
        kinds(&m.g) == [(AttentionInput, 8)]
    };
    fn rope(m: &mut Model) -> RopeOperands {
        let &mut Model { positions, table, style, .. } = m;
        RopeOperands { input: table, positions, table, style, n_rot: HEAD_DIM, head_dim: HEAD_DIM }
    }
    let same = |m: &mut Model| [rope(m); 2];
    assert!(attempt(same, false, false));
    assert!(!attempt(same, true, false), "keys and values in one cache");
    assert!(!attempt(same, false, true), "values of other sequences");
    assert!(!attempt(|m| [rope(m), RopeOperands { style: RopeStyle::Interleaved, ..rope(m) }], false, false));
    assert!(!attempt(
        |m| {
            let table = leaf(&mut m.g, "table 2", F32, &[9, 4, 2]);
            [rope(m), RopeOperands { table, ..rope(m) }]
        },
        false,
        false
    ));
    assert!(!attempt(
        |m| {
            let positions = leaf(&mut m.g, "positions 2", tensor_formats::ElementType::U32, &[ROWS]);
            [RopeOperands { positions, ..rope(m) }; 2]
        },
        false,
        false
    ));
    assert!(!attempt(
        |m| {
            let table = leaf(&mut m.g, "table 2", F32, &[9, 2, 2]);
            [RopeOperands { table, n_rot: 4, head_dim: 4, ..rope(m) }; 2]
        },
        false,
        false
    ));
}

#[test]
fn activations_are_quantised_for_all_or_for_none() {
    let mut m = Model::new(Q8_0, true, false);
    let x = input(&mut m);
    let normed = m.norm(x);
    let h = m.activation(normed);
    let gate = m.product("w1", 64, h);
    m.weights = F16;
    let up = m.product("w2", 64, normed);
    m.g.swi_glu(gate, up).unwrap();
    assert_eq!(kinds(&m.g), []);
    // Given Q8Act rows have no F32 form that a projection could quantise.
    let mut m = Model::new(Q8_0, false, false);
    let x = input(&mut m);
    let given = leaf(&mut m.g, "h", tensor_formats::ElementType::Q8Act, &[ROWS, 64]);
    m.residual(given, x, false);
    assert_eq!(kinds(&m.g), []);
}

#[test]
fn the_backend_chooses() {
    let mut m = Model::new(Q8_0, true, true);
    let x = input(&mut m);
    m.layer(x);
    for kind in GroupKind::ALL.into_iter().filter(|&kind| kind != Head) {
        let mut seen = Vec::new();
        let grouping = m.g.group(|group| {
            seen.push(group.kind());
            group.kind() == kind
        });
        assert!(grouping.groups().all(|(found, _)| found == kind) && grouping.groups().len() > 0);
        for kind in GroupKind::ALL.into_iter().filter(|&kind| kind != Head) {
            assert!(seen.contains(&kind), "{kind} was not offered");
        }
    }
    assert_eq!(m.g.group(|_| false).plan(), m.g.plan());
    // What is refused is offered by the rest of its operations too: here a norm without its residual projection.
    let mut m = Model::new(F32, false, false);
    let x = input(&mut m);
    let normed = m.norm(x);
    m.residual(normed, x, false);
    assert_eq!(kinds(&m.g), [(Head, 2)]);
    let grouping = m.g.group(|group| group.kind() != Head);
    assert_eq!(grouping.groups().map(|(kind, _)| kind).collect::<Vec<_>>(), [ResidualProjection]);
}

#[test]
fn errors_name_the_group() {
    let mut m = Model::new(F32, false, false);
    let h = leaf(&mut m.g, "", F32, &[ROWS, 64]);
    let x = input(&mut m);
    let y = m.residual(h, x, false);
    m.g.set_name(y, "blk.3.ffn_residual").unwrap();
    let plan = m.g.group(|_| true).plan();
    let mut lacking = CountingDispatch::new().without(TensorOp::Add);
    let error = execute_graph(&m.g, &plan, &mut lacking).unwrap_err();
    assert!(matches!(error, ExecError::Unsupported { .. }));
    let expected = "%6 residual_projection \"wo\" is not supported: counting cannot run add: told to lack it";
    assert_eq!(error.to_string(), expected);
    let mut failing = CountingDispatch::new().failing(TensorOp::MulMat);
    let error = execute_graph(&m.g, &plan, &mut failing).unwrap_err();
    let expected = "%6 residual_projection \"wo\" failed: counting cannot run mul_mat: told to fail";
    assert_eq!(error.to_string(), expected);
}

#[test]
fn a_drawing_frames_groups() {
    let mut m = Model::new(F32, false, false);
    let x = input(&mut m);
    let [_, token] = m.head(x);
    m.g.mark_output(token).unwrap();
    insta::assert_snapshot!(m.g.group(|_| true).to_dot());
}
