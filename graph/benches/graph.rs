//! Building, rewriting, planning and dispatching the graph of a decode step of a 32-layer model.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use graph::passes::{Rewrite, fuse_swiglu, share_q8_activations};
use graph::{
    Add, Argmax, Attention, AttentionOperands, ComputeGraph, CopyTensor, EmbedRows, GraphError,
    KernelDispatch, KvScatter, Mul, MulMat, OpCall, QuantizeQ8, RmsNorm, Rope, RopeOperands, RopeStyle,
    Shape, Silu, SoftMax, SwiGlu, TensorId, execute_graph,
};
use tensor_formats::ElementType::{self, F32, Q4_K, Q6_K, U32};

const LAYERS: usize = 32;
const HIDDEN: usize = 4096;
const HEAD_DIM: usize = 128;
const KV: usize = 1024;
const FFN: usize = 14_336;
const MAX_SEQ: usize = 4096;

/// The leaves that every layer reads.
struct Step {
    positions: TensorId,
    sequences: TensorId,
    table: TensorId,
}

fn leaf(g: &mut ComputeGraph, name: &str, ty: ElementType, dims: &[usize]) -> Result<TensorId, GraphError> {
    g.add_leaf(name, ty, Shape::new(dims)?)
}

fn linear(
    g: &mut ComputeGraph,
    ty: ElementType,
    dims: [usize; 2],
    x: TensorId,
) -> Result<TensorId, GraphError> {
    let weight = leaf(g, "weight", ty, &dims)?;
    g.mul_mat(weight, x)
}

fn layer(g: &mut ComputeGraph, step: &Step, x: TensorId) -> Result<TensorId, GraphError> {
    let &Step { positions, sequences, table } = step;
    let rope = |g: &mut ComputeGraph, input| {
        let style = RopeStyle::Interleaved;
        g.rope(RopeOperands { input, positions, table, style, n_rot: HEAD_DIM, head_dim: HEAD_DIM })
    };
    let cache = [1, KV / HEAD_DIM, MAX_SEQ, HEAD_DIM];
    let norm = leaf(g, "norm", F32, &[HIDDEN])?;
    let normed = g.rms_norm(x, norm, 1e-5)?;
    let q = linear(g, Q4_K, [HIDDEN, HIDDEN], normed)?;
    let k = linear(g, Q4_K, [KV, HIDDEN], normed)?;
    let v = linear(g, Q6_K, [KV, HIDDEN], normed)?;
    let (query, k) = (rope(g, q)?, rope(g, k)?);
    let (keys, values) = (leaf(g, "keys", F32, &cache)?, leaf(g, "values", F32, &cache)?);
    let keys = g.kv_scatter(keys, k, positions, sequences)?;
    let values = g.kv_scatter(values, v, positions, sequences)?;
    let attended =
        g.attention(AttentionOperands { query, keys, values, positions, sequences, scale: 0.088 })?;
    let projected = linear(g, Q4_K, [HIDDEN, HIDDEN], attended)?;
    let x = g.add(x, projected)?;
    let norm = leaf(g, "norm", F32, &[HIDDEN])?;
    let normed = g.rms_norm(x, norm, 1e-5)?;
    let gate = linear(g, Q4_K, [FFN, HIDDEN], normed)?;
    let up = linear(g, Q4_K, [FFN, HIDDEN], normed)?;
    let gate = g.silu(gate)?;
    let hidden = g.mul(gate, up)?;
    let down = linear(g, Q6_K, [HIDDEN, FFN], hidden)?;
    g.add(x, down)
}

fn model() -> Result<ComputeGraph, GraphError> {
    let mut g = ComputeGraph::new();
    let positions = leaf(&mut g, "positions", U32, &[1])?;
    let sequences = leaf(&mut g, "sequences", U32, &[1])?;
    let tokens = leaf(&mut g, "tokens", U32, &[1])?;
    let table = leaf(&mut g, "rope", F32, &[MAX_SEQ, HEAD_DIM / 2, 2])?;
    let embedding = leaf(&mut g, "token_embd", Q4_K, &[128_256, HIDDEN])?;
    let step = Step { positions, sequences, table };
    let mut x = g.embed_rows(embedding, tokens)?;
    for _ in 0..LAYERS {
        x = layer(&mut g, &step, x)?;
    }
    let logits = g.mul_mat(embedding, x)?;
    let token = g.argmax(logits)?;
    g.mark_output(token)?;
    Ok(g)
}

/// Accepts everything and does nothing: what is left is the executor.
struct Nothing;

macro_rules! nothing {
    ($($method:ident($args:ty),)*) => {
        $(fn $method(&mut self, a: $args) -> Result<usize, Self::Error> {
            black_box(&a);
            Ok(1)
        })*
    };
}

impl KernelDispatch for Nothing {
    type Error = std::convert::Infallible;

    fn check(&self, call: &OpCall) -> Result<(), Self::Error> {
        black_box(call);
        Ok(())
    }

    nothing! {
        embed_rows(EmbedRows), rms_norm(RmsNorm), mul_mat(MulMat), add(Add), mul(Mul), silu(Silu), swi_glu(SwiGlu),
        rope(Rope), kv_scatter(KvScatter), attention(Attention), soft_max(SoftMax), copy(CopyTensor),
        quantize_q8(QuantizeQ8), argmax(Argmax),
    }
}

fn benches(c: &mut Criterion) {
    let build = || model().expect("a valid model");
    let passes = |g: ComputeGraph| {
        let rewrite = Rewrite::identity(g).then(fuse_swiglu).and_then(|r| r.then(share_q8_activations));
        rewrite.expect("valid passes").graph
    };
    let g = build();
    let rewritten = passes(g.clone());
    let plan = rewritten.plan();
    c.bench_function("build a 32-layer step", |b| b.iter(build));
    c.bench_function("fuse and share activations", |b| b.iter_with_setup(|| g.clone(), passes));
    c.bench_function("plan its memory", |b| b.iter(|| black_box(&rewritten).plan()));
    c.bench_function("find its groups and plan their memory", |b| {
        b.iter(|| black_box(&rewritten).group(|_| true).plan());
    });
    c.bench_function("execute it on a backend that does nothing", |b| {
        b.iter(|| execute_graph(&rewritten, &plan, &mut Nothing).map(|result| result.n_launches));
    });
}

criterion_group!(graph_benches, benches);
criterion_main!(graph_benches);
