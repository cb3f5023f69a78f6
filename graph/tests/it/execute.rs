//! The executor: what is dispatched, counted, refused, and named when it fails.

use graph::{
    Add, Argmax, Attention, ComputeGraph, CopyTensor, CountingDispatch, DispatchError, EmbedRows, ExecError,
    GraphExecResult, KernelDispatch, KvScatter, Mul, MulMat, OpCall, QuantizeQ8, RmsNorm, Rope, Silu,
    SoftMax, TensorOp, execute_graph,
};
use tensor_formats::ElementType::{F32, Q4_K, Q6_K};

use crate::support::{Step, attention_layer, leaf, mlp};

#[test]
fn an_empty_graph_launches_nothing() {
    let g = ComputeGraph::new();
    let mut counting = CountingDispatch::new();
    let result = execute_graph(&g, &g.plan(), &mut counting).unwrap();
    assert_eq!((result.n_launches, g.n_ops(), g.plan().workspace_bytes), (0, 0, 0));
}

#[test]
fn a_layer_launches_six() {
    let mut g = ComputeGraph::new();
    let step = Step::new(&mut g, 2);
    let x = leaf(&mut g, "x", F32, &[step.rows, 64]);
    let y = attention_layer(&mut g, &step, x).unwrap();
    g.view(y, 0, 1).unwrap();
    let mut counting = CountingDispatch::new();
    let GraphExecResult { n_launches, .. } = execute_graph(&g, &g.plan(), &mut counting).unwrap();
    assert_eq!((n_launches, g.n_ops()), (6, 6));
    use TensorOp::{Add, Attention, MulMat, RmsNorm};
    assert_eq!(counting.ops(), [RmsNorm, MulMat, MulMat, MulMat, Attention, Add]);
}

#[test]
fn a_weight_is_dispatched_with_its_own_type() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[1, 256]);
    let expected = [Q4_K, Q6_K, Q4_K];
    for dtype in expected {
        let w = leaf(&mut g, "w", dtype, &[64, 256]);
        g.mul_mat(w, x).unwrap();
    }
    let mut counting = CountingDispatch::new();
    execute_graph(&g, &g.plan(), &mut counting).unwrap();
    let dtypes = counting.calls().iter().map(|call| match call {
        OpCall::MulMat(a) => a.weight.dtype,
        other => panic!("{other:?}"),
    });
    assert_eq!(dtypes.collect::<Vec<_>>(), expected);
}

#[test]
fn a_missing_operation_is_refused_before_the_first_launch() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[1, 256]);
    mlp(&mut g, F32, x).unwrap();
    let mut counting = CountingDispatch::new().without(TensorOp::Add);
    let error = execute_graph(&g, &g.plan(), &mut counting).unwrap_err();
    assert_eq!(counting.calls(), [], "the addition is the last node");
    assert!(matches!(error, ExecError::Unsupported { .. }));
    assert_eq!(error.to_string(), "%11 add \"x\" is not supported: counting cannot run add: told to lack it");
}

#[test]
fn the_first_error_aborts_and_names_the_node() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[1, 256]);
    mlp(&mut g, F32, x).unwrap();
    let silu = g.ids().find(|&id| g.get(id).unwrap().op() == TensorOp::Silu).unwrap();
    g.set_name(silu, "blk.0.act").unwrap();
    let mut counting = CountingDispatch::new().failing(TensorOp::Silu);
    let error = execute_graph(&g, &g.plan(), &mut counting).unwrap_err();
    assert_eq!(error.to_string(), "%8 silu \"blk.0.act\" failed: counting cannot run silu: told to fail");
    assert_eq!(counting.ops(), [TensorOp::RmsNorm, TensorOp::MulMat, TensorOp::MulMat]);
}

#[test]
fn a_plan_of_another_graph_is_refused() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[1, 256]);
    let y = mlp(&mut g, F32, x).unwrap();
    let plan = g.plan();
    let mut counting = CountingDispatch::new();
    assert!(execute_graph(&g, &plan, &mut counting).is_ok());
    g.set_name(y, "names do not matter").unwrap();
    assert!(execute_graph(&g, &plan, &mut counting).is_ok());
    let launched = counting.calls().len();
    g.mark_output(y).unwrap();
    let error = execute_graph(&g, &plan, &mut counting).unwrap_err();
    assert!(matches!(error, ExecError::PlanMismatch));
    assert!(matches!(
        execute_graph(&ComputeGraph::new(), &plan, &mut counting).unwrap_err(),
        ExecError::PlanMismatch
    ));
    assert_eq!(counting.calls().len(), launched);
}

#[test]
fn a_plan_fits_every_graph_that_is_equal() {
    let build = |order: [usize; 2], early: bool| {
        let mut g = ComputeGraph::new();
        let x = leaf(&mut g, "x", F32, &[1, 256]);
        let outputs = [g.silu(x).unwrap(), g.copy(x).unwrap()];
        let mark = |g: &mut ComputeGraph| order.map(|i| g.mark_output(outputs[i]).unwrap());
        early.then(|| mark(&mut g));
        g.add(outputs[0], x).unwrap();
        (!early).then(|| mark(&mut g));
        g
    };
    let (early, late) = (build([0, 1], true), build([0, 1], false));
    assert_eq!(early.to_string(), late.to_string());
    assert!(early.plan().fits(&late) && late.plan().fits(&early));
    assert!(!early.plan().fits(&build([1, 0], true)), "the outputs are in another order");
}

#[test]
fn a_fused_operation_falls_back_to_the_basic_ones() {
    let mut g = ComputeGraph::new();
    let [gate, up] = ["gate", "up"].map(|name| leaf(&mut g, name, F32, &[2, 32]));
    let y = g.swi_glu(gate, up).unwrap();
    let plan = g.plan();
    let mut counting = CountingDispatch::new().unfused();
    assert_eq!(execute_graph(&g, &plan, &mut counting).unwrap().n_launches, 2);
    let [gate, up, output] = [gate, up, y].map(|id| plan.view(id).unwrap());
    let expected =
        [OpCall::Silu(Silu { input: gate, output }), OpCall::Mul(Mul { a: output, b: up, output })];
    assert_eq!(counting.calls(), expected);
    let mut counting = CountingDispatch::new();
    assert_eq!(execute_graph(&g, &plan, &mut counting).unwrap().n_launches, 1);
    assert_eq!(counting.ops(), [TensorOp::SwiGlu]);
}

#[test]
fn a_fused_operation_needs_the_basic_ones_only_where_it_falls_back() {
    let mut g = ComputeGraph::new();
    let [gate, up] = ["gate", "up"].map(|name| leaf(&mut g, name, F32, &[2, 32]));
    g.swi_glu(gate, up).unwrap();
    for part in [TensorOp::Silu, TensorOp::Mul] {
        let mut counting = CountingDispatch::new().unfused().without(part);
        let error = execute_graph(&g, &g.plan(), &mut counting).unwrap_err();
        assert!(matches!(error, ExecError::Unsupported { .. }), "{error}");
        assert_eq!(counting.calls(), []);
        assert!(execute_graph(&g, &g.plan(), &mut CountingDispatch::new().without(part)).is_ok());
    }
}

/// Needs no launch for a copy, three for a matmul and one for anything else.
struct Uneven;

impl KernelDispatch for Uneven {
    type Error = DispatchError;

    fn check(&self, _: &OpCall) -> Result<(), DispatchError> {
        Ok(())
    }
    fn embed_rows(&mut self, _: EmbedRows) -> Result<usize, DispatchError> {
        Ok(1)
    }
    fn rms_norm(&mut self, _: RmsNorm) -> Result<usize, DispatchError> {
        Ok(1)
    }
    fn mul_mat(&mut self, _: MulMat) -> Result<usize, DispatchError> {
        Ok(3)
    }
    fn add(&mut self, _: Add) -> Result<usize, DispatchError> {
        Ok(1)
    }
    fn mul(&mut self, _: Mul) -> Result<usize, DispatchError> {
        Ok(1)
    }
    fn silu(&mut self, _: Silu) -> Result<usize, DispatchError> {
        Ok(1)
    }
    fn rope(&mut self, _: Rope) -> Result<usize, DispatchError> {
        Ok(1)
    }
    fn kv_scatter(&mut self, _: KvScatter) -> Result<usize, DispatchError> {
        Ok(1)
    }
    fn attention(&mut self, _: Attention) -> Result<usize, DispatchError> {
        Ok(1)
    }
    fn soft_max(&mut self, _: SoftMax) -> Result<usize, DispatchError> {
        Ok(1)
    }
    fn copy(&mut self, _: CopyTensor) -> Result<usize, DispatchError> {
        Ok(0)
    }
    fn quantize_q8(&mut self, _: QuantizeQ8) -> Result<usize, DispatchError> {
        Ok(1)
    }
    fn argmax(&mut self, _: Argmax) -> Result<usize, DispatchError> {
        Ok(1)
    }
}

#[test]
fn launches_are_what_the_backend_made() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[2, 32]);
    let w = leaf(&mut g, "w", F32, &[8, 32]);
    let copied = g.copy(x).unwrap();
    let copied = g.copy(copied).unwrap();
    assert_eq!(execute_graph(&g, &g.plan(), &mut Uneven).unwrap().n_launches, 0);
    g.mul_mat(w, copied).unwrap();
    g.swi_glu(x, x).unwrap();
    assert_eq!(execute_graph(&g, &g.plan(), &mut Uneven).unwrap().n_launches, 5);
}
