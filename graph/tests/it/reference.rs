//! The reference's own refusals: it never computes on memory that is not there.

use graph::reference::{
    ReferenceDispatch, ReferenceError, Value, dequantize, evaluate, to_f32_bytes, to_u32_bytes,
};
use graph::{AttentionOperands, ComputeGraph, TensorId, execute_graph};
use tensor_formats::ElementType::{self, BF16, F8E4M3, F16, F32, Q8_0, U32};
use tensor_formats::FormatError;

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

/// The result of attention over a cache of `dtype` that one row of `x` was scattered to, and the cache's values.
fn scatter_and_attend(dtype: ElementType, x: [f64; 4]) -> (Vec<u8>, Vec<f64>) {
    let mut g = ComputeGraph::new();
    let cache = leaf(&mut g, "cache", dtype, &[2, 2, 3, 2]);
    let row = leaf(&mut g, "x", F32, &[1, 4]);
    let [positions, sequences] = ["positions", "sequences"].map(|name| leaf(&mut g, name, U32, &[1]));
    let written = g.kv_scatter(cache, row, positions, sequences).unwrap();
    let (query, keys, values) = (row, written, written);
    let attended =
        g.attention(AttentionOperands { query, keys, values, positions, sequences, scale: 1.0 }).unwrap();
    let plan = g.plan();
    let mut backend = ReferenceDispatch::new(&plan, 0xff);
    for (id, bytes) in [
        (cache, vec![0; g.get(cache).unwrap().bytes() as usize]),
        (row, to_f32_bytes(&x)),
        (positions, to_u32_bytes(&[0])),
        (sequences, to_u32_bytes(&[1])),
    ] {
        backend.bind(id, bytes).unwrap();
    }
    execute_graph(&g, &plan, &mut backend).unwrap();
    let bytes = |id| backend.bytes(&plan.view(id).unwrap()).unwrap();
    (bytes(attended).to_vec(), dequantize(dtype, 2, bytes(written)).unwrap())
}

#[test]
fn a_scatter_rounds_to_the_type_of_the_cache() {
    // The steps above 1 are 2^-3 for F8E4M3, 2^-7 for BF16 and 2^-10 for F16.
    let (eighth, seventh, tenth) = (0.125, 2f64.powi(-7), 2f64.powi(-10));
    let x = [1.0 + 0.75 * tenth, 1.0 + 0.75 * seventh, -1.0 - 0.75 * eighth, 3.0];
    for (dtype, stored) in [
        (F32, x),
        (F16, [1.0 + tenth, x[1], x[2], 3.0]),
        (BF16, [1.0, 1.0 + seventh, x[2], 3.0]),
        (F8E4M3, [1.0, 1.0, -1.125, 3.0]),
    ] {
        let (attended, cache) = scatter_and_attend(dtype, x);
        // Of sequence 1 the first of three positions of either head; one position has all the weight.
        let mut expected = [0.0; 24];
        expected[12..14].copy_from_slice(&stored[..2]);
        expected[18..20].copy_from_slice(&stored[2..]);
        assert_eq!(cache, expected, "{dtype}");
        assert_eq!(attended, to_f32_bytes(&stored), "{dtype}");
    }
}

#[test]
fn bytes_that_are_no_whole_rows_are_refused() {
    for (dtype, cols, len, whole) in [(Q8_0, 32, 33, 0), (Q8_0, 32, 35, 34), (F32, 2, 12, 8), (F32, 0, 4, 0)]
    {
        let error = dequantize(dtype, cols, &vec![0; len]).unwrap_err();
        assert_eq!(error, FormatError::Length { what: "bytes of whole rows", expected: whole, actual: len });
    }
    assert_eq!(dequantize(Q8_0, 32, &[]), Ok(Vec::new()));
    assert_eq!(dequantize(F32, 0, &[]), Ok(Vec::new()));
}
