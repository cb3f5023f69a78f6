//! Dumps and DOT.

use graph::ComputeGraph;
use tensor_formats::ElementType::F32;

use crate::support::{Step, attention_layer, leaf};

fn layer() -> ComputeGraph {
    let mut g = ComputeGraph::new();
    let step = Step::new(&mut g, 2);
    let x = leaf(&mut g, "x", F32, &[step.rows, 64]);
    let y = attention_layer(&mut g, &step, x).unwrap();
    g.set_name(y, "a \"quoted\" name").unwrap();
    let last = g.view(y, 1, 1).unwrap();
    g.mark_output(last).unwrap();
    g
}

#[test]
fn dump() {
    insta::assert_snapshot!(layer());
}

#[test]
fn dot() {
    insta::assert_snapshot!(layer().to_dot());
}

#[test]
fn equal_calls_make_equal_graphs() {
    let (a, b) = (layer(), layer());
    assert_eq!((a.to_string(), a.to_dot(), a.fingerprint()), (b.to_string(), b.to_dot(), b.fingerprint()));
    assert_eq!(a.plan(), b.plan());
}
