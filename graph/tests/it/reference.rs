//! The reference's own refusals: it never computes on memory that is not there.

use graph::reference::{ReferenceDispatch, ReferenceError, Value, evaluate, to_f32_bytes, to_u32_bytes};
use graph::{ComputeGraph, TensorId, execute_graph};
use tensor_formats::ElementType::{F32, U32};

use crate::support::leaf;

/// The rows of a table of three that two tokens name.
fn lookup() -> (ComputeGraph, [TensorId; 3]) {
    let mut g = ComputeGraph::new();
    let table = leaf(&mut g, "table", F32, &[3, 2]);
    let tokens = leaf(&mut g, "tokens", U32, &[2]);
    let y = g.embed_rows(table, tokens).unwrap();
    (g, [table, tokens, y])
}

const TABLE: [f64; 6] = [0.0, 1.0, 10.0, 11.0, 20.0, 21.0];

#[test]
fn both_forms_of_the_reference_agree() {
    let (g, [table, tokens, y]) = lookup();
    let leaves = [(table, to_f32_bytes(&TABLE)), (tokens, to_u32_bytes(&[2, 0]))];
    let expected = [20.0, 21.0, 0.0, 1.0];
    assert_eq!(evaluate(&g, &leaves).unwrap().get(y), Some(&Value::Real(expected.to_vec())));

    let plan = g.plan();
    let mut backend = ReferenceDispatch::new(&plan, 0xff);
    for (id, bytes) in leaves {
        backend.bind(id, bytes).unwrap();
    }
    assert_eq!(execute_graph(&g, &plan, &mut backend).unwrap().n_launches, 1);
    assert_eq!(backend.bytes(&plan.view(y).unwrap()).unwrap(), to_f32_bytes(&expected));
}

#[test]
fn a_token_out_of_range_names_the_node() {
    let (g, [table, tokens, y]) = lookup();
    let leaves = [(table, to_f32_bytes(&TABLE)), (tokens, to_u32_bytes(&[2, 3]))];
    let out_of_range = ReferenceError::OutOfRange { what: "token", row: 1, value: 3, limit: 3 };
    assert_eq!(evaluate(&g, &leaves).unwrap_err(), out_of_range);

    let plan = g.plan();
    let mut backend = ReferenceDispatch::new(&plan, 0xff);
    for (id, bytes) in leaves {
        backend.bind(id, bytes).unwrap();
    }
    let error = execute_graph(&g, &plan, &mut backend).unwrap_err();
    assert_eq!(error.to_string(), "%2 embed_rows \"table\" failed: token 3 of row 1 is not below 3");
    assert!(backend.bytes(&plan.view(y).unwrap()).unwrap().iter().all(|&b| b == 0xff), "nothing is written");
}

#[test]
fn unbound_and_short_leaves_are_refused() {
    let (g, [table, tokens, _]) = lookup();
    let short = (table, to_f32_bytes(&TABLE[..4]));
    let leaves = [short.clone(), (tokens, to_u32_bytes(&[0, 0]))];
    assert_eq!(evaluate(&g, &leaves[..1]).unwrap_err().to_string(), "bytes 0..24 of leaf %0, which has 16");
    assert_eq!(evaluate(&g, &leaves[1..]).unwrap_err(), ReferenceError::NotBound(table));

    let plan = g.plan();
    let mut backend = ReferenceDispatch::new(&plan, 0xff);
    let error = execute_graph(&g, &plan, &mut backend).unwrap_err();
    assert_eq!(error.to_string(), "%2 embed_rows \"table\" failed: leaf %0 is not bound");
    backend.bind(short.0, short.1).unwrap();
    let error = execute_graph(&g, &plan, &mut backend).unwrap_err();
    assert_eq!(error.to_string(), "%2 embed_rows \"table\" failed: bytes 0..24 of leaf %0, which has 16");
}
