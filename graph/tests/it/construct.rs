//! Shape inference and rejection.

use graph::{
    AttentionOperands, ComputeGraph, GraphError, OpParams, Reason, RopeOperands, RopeStyle, Shape,
    ShapeError, TensorId, TensorOp,
};
use tensor_formats::ElementType::{self, F16, F32, Q4_K, Q8_0, Q8Act, U32};

use crate::support::leaf;

/// One leaf of every kind that the operations take: 5 rows, 2 sequences, 4 heads over 2 key-value heads of 16.
struct Fixture {
    g: ComputeGraph,
    x: TensorId,
    y: TensorId,
    vector: TensorId,
    tokens: TensorId,
    positions: TensorId,
    sequences: TensorId,
    three: TensorId,
    weight: TensorId,
    table: TensorId,
    cache: TensorId,
    kv: TensorId,
}

fn fixture() -> Fixture {
    let mut g = ComputeGraph::new();
    let [x, y] = ["x", "y"].map(|name| leaf(&mut g, name, F32, &[5, 64]));
    let vector = leaf(&mut g, "vector", F32, &[64]);
    let [tokens, positions, sequences] =
        ["tokens", "positions", "sequences"].map(|n| leaf(&mut g, n, U32, &[5]));
    let three = leaf(&mut g, "three", U32, &[3]);
    let weight = leaf(&mut g, "weight", F16, &[32, 64]);
    let table = leaf(&mut g, "rope", F32, &[99, 4, 2]);
    let cache = leaf(&mut g, "cache", F32, &[2, 2, 99, 16]);
    let kv = leaf(&mut g, "kv", F32, &[5, 32]);
    Fixture { g, x, y, vector, tokens, positions, sequences, three, weight, table, cache, kv }
}

const ROPE: OpParams = OpParams::Rope { style: RopeStyle::NeoX, n_rot: 8, head_dim: 16 };
const NORM: OpParams = OpParams::RmsNorm { eps: 1e-5 };
const ATTENTION: OpParams = OpParams::Attention { scale: 0.25 };

impl Fixture {
    fn shape_of(&self, id: TensorId) -> (ElementType, Vec<usize>) {
        let node = self.g.get(id).unwrap();
        (node.dtype(), node.shape().dims().to_vec())
    }

    /// The message of a refused operation; the graph has to be as before.
    #[track_caller]
    fn refuses(&mut self, op: TensorOp, inputs: &[TensorId], params: OpParams, expected: &str) {
        let (nodes, fingerprint) = (self.g.nodes().len(), self.g.fingerprint());
        let error = self.g.add_op(op, inputs, params).expect_err("should be refused");
        let GraphError::Op { node, op: named, operands, reason } = &error else { panic!("{error}") };
        assert_eq!((node.index(), *named, reason.to_string().as_str()), (nodes, op, expected));
        for &id in inputs.iter().filter(|id| id.index() < nodes) {
            let input = self.g.get(id).unwrap();
            assert!(operands.contains(&format!(
                "{id} {:?} {} {}",
                input.name(),
                input.dtype(),
                input.shape()
            )));
        }
        assert_eq!((self.g.nodes().len(), self.g.fingerprint()), (nodes, fingerprint));
    }
}

#[test]
fn results_have_the_documented_shapes() {
    let f = &mut fixture();
    let style = RopeStyle::Interleaved;
    let (input, positions, table) = (f.x, f.positions, f.table);
    let embedded = f.g.embed_rows(f.weight, f.tokens).unwrap();
    let normed = f.g.rms_norm(f.x, f.vector, 0.0).unwrap();
    let product = f.g.mul_mat(f.weight, f.x).unwrap();
    let sum = f.g.add(f.x, f.y).unwrap();
    let biased = f.g.add(f.x, f.vector).unwrap();
    let swi_glu = f.g.swi_glu(f.x, f.y).unwrap();
    let rope = f.g.rope(RopeOperands { input, positions, table, style, n_rot: 8, head_dim: 16 }).unwrap();
    let keys = f.g.kv_scatter(f.cache, f.kv, f.positions, f.sequences).unwrap();
    let (query, values, sequences) = (f.x, keys, f.sequences);
    let attended =
        f.g.attention(AttentionOperands { query, keys, values, positions, sequences, scale: 1.0 }).unwrap();
    let probabilities = f.g.soft_max(f.x, 1.0).unwrap();
    let copied = f.g.copy(f.tokens).unwrap();
    let quantised = f.g.quantize_q8(f.x).unwrap();
    let argmax = f.g.argmax(f.x).unwrap();
    let view = f.g.view(f.x, 3, 2).unwrap();

    assert_eq!(f.shape_of(embedded), (F32, vec![5, 64]));
    for id in [normed, sum, biased, swi_glu, rope, attended, probabilities] {
        assert_eq!(f.shape_of(id), (F32, vec![5, 64]));
    }
    assert_eq!(f.shape_of(product), (F32, vec![5, 32]));
    assert_eq!(f.shape_of(keys), (F32, vec![2, 2, 99, 16]));
    assert_eq!(f.shape_of(copied), (U32, vec![5]));
    assert_eq!(f.shape_of(quantised), (Q8Act, vec![5, 64]));
    assert_eq!(f.shape_of(argmax), (U32, vec![5]));
    assert_eq!(f.shape_of(view), (F32, vec![2, 64]));
    let node = f.g.get(view).unwrap();
    assert_eq!((node.root(), node.root_offset()), (f.x, 3 * 64 * 4));
    assert_eq!(f.g.get(keys).unwrap().root(), f.cache);
    assert_eq!(f.g.n_ops(), 13, "all but the view");
}

#[test]
fn weights_of_every_type_multiply_by_their_own_type() {
    let mut g = ComputeGraph::new();
    let x = leaf(&mut g, "x", F32, &[3, 512]);
    let q8 = g.quantize_q8(x).unwrap();
    for dtype in ElementType::WEIGHTS {
        let weight = leaf(&mut g, dtype.name(), dtype, &[7, 512]);
        let product = g.mul_mat(weight, x).unwrap();
        assert_eq!(g.get(product).unwrap().shape(), Shape::new(&[3, 7]).unwrap());
        // The operation carries no type of its own: it reads the leaf's.
        assert_eq!(g.get(g.get(product).unwrap().inputs()[0]).unwrap().dtype(), dtype);
        assert_eq!(g.mul_mat(weight, q8).is_ok(), dtype.is_quantised(), "{dtype}");
        let tokens = leaf(&mut g, "tokens", U32, &[2]);
        assert!(g.embed_rows(weight, tokens).is_ok());
    }
}

#[test]
fn a_missing_operand_has_no_default() {
    let f = &mut fixture();
    for op in TensorOp::ALL.into_iter().filter(|&op| op != TensorOp::None) {
        let full = vec![f.x; op.operands().len()];
        for count in 0..full.len() {
            let expected = format!("takes {} operands, got {count}", full.len());
            f.refuses(op, &full[..count], OpParams::None, &expected);
        }
        let more = [full.as_slice(), &[f.x]].concat();
        f.refuses(op, &more, OpParams::None, &format!("takes {} operands, got {}", full.len(), more.len()));
    }
}

#[test]
fn unknown_operands_are_refused() {
    let f = &mut fixture();
    let mut other = f.g.clone();
    let foreign = other.silu(f.x).unwrap();
    f.refuses(
        TensorOp::Add,
        &[f.x, foreign],
        OpParams::None,
        &format!("operand b is {foreign}, but the graph has {} nodes", foreign.index()),
    );
    let nodes = foreign.index();
    assert_eq!(f.g.mark_output(foreign), Err(GraphError::NoSuchTensor { id: foreign, nodes }));
    assert_eq!(f.g.set_name(foreign, "no"), Err(GraphError::NoSuchTensor { id: foreign, nodes }));
}

#[test]
fn parameters_have_to_be_those_of_the_operation() {
    let f = &mut fixture();
    let attention = [f.x, f.cache, f.cache, f.positions, f.sequences];
    let none = OpParams::None;
    f.refuses(TensorOp::RmsNorm, &[f.x, f.vector], none, "takes parameters of kind rms_norm, got none");
    f.refuses(
        TensorOp::Rope,
        &[f.x, f.positions, f.table],
        NORM,
        "takes parameters of kind rope, got rms_norm",
    );
    f.refuses(TensorOp::Attention, &attention, ROPE, "takes parameters of kind attention, got rope");
    f.refuses(TensorOp::SoftMax, &[f.x], ATTENTION, "takes parameters of kind soft_max, got attention");
    f.refuses(TensorOp::View, &[f.x], none, "takes parameters of kind view, got none");
    let view = OpParams::View { start: 0, len: 1 };
    for (op, inputs) in [
        (TensorOp::EmbedRows, vec![f.weight, f.tokens]),
        (TensorOp::MulMat, vec![f.weight, f.x]),
        (TensorOp::Add, vec![f.x, f.y]),
        (TensorOp::Mul, vec![f.x, f.y]),
        (TensorOp::Silu, vec![f.x]),
        (TensorOp::SwiGlu, vec![f.x, f.y]),
        (TensorOp::KvScatter, vec![f.cache, f.kv, f.positions, f.sequences]),
        (TensorOp::Copy, vec![f.x]),
        (TensorOp::QuantizeQ8, vec![f.x]),
        (TensorOp::Argmax, vec![f.x]),
    ] {
        f.refuses(op, &inputs, view, "takes parameters of kind none, got view");
    }
    f.refuses(TensorOp::None, &[], OpParams::None, "leaves are added with add_leaf");
}

#[test]
fn parameters_have_to_be_in_range() {
    let f = &mut fixture();
    let eps = |eps| OpParams::RmsNorm { eps };
    f.refuses(TensorOp::RmsNorm, &[f.x, f.vector], eps(-1.0), "eps has to be finite and not negative, is -1");
    f.refuses(
        TensorOp::RmsNorm,
        &[f.x, f.vector],
        eps(f32::NAN),
        "eps has to be finite and not negative, is NaN",
    );
    let inputs = [f.x, f.positions, f.table];
    let rope = |n_rot, head_dim| OpParams::Rope { style: RopeStyle::NeoX, n_rot, head_dim };
    for n_rot in [0, 7, 18] {
        let expected = format!("n_rot has to be even, at least 2 and at most head_dim, is {n_rot}");
        f.refuses(TensorOp::Rope, &inputs, rope(n_rot, 16), &expected);
    }
    f.refuses(TensorOp::Rope, &inputs, rope(8, 0), "head_dim has to be at least 1, is 0");
    let infinite = OpParams::SoftMax { scale: f32::INFINITY };
    f.refuses(TensorOp::SoftMax, &[f.x], infinite, "scale has to be finite, is inf");
    let attention = [f.x, f.cache, f.cache, f.positions, f.sequences];
    let infinite = OpParams::Attention { scale: f32::NEG_INFINITY };
    f.refuses(TensorOp::Attention, &attention, infinite, "scale has to be finite, is -inf");
    for (start, len) in [(0, 0), (0, 6), (5, 1), (usize::MAX, 2)] {
        let expected = format!("rows {start}..{start}+{len} are not within the outermost dimension of 5");
        f.refuses(TensorOp::View, &[f.x], OpParams::View { start, len }, &expected);
    }
}

#[test]
fn element_types_have_to_fit() {
    let f = &mut fixture();
    let none = OpParams::None;
    let q8 = f.g.quantize_q8(f.x).unwrap();
    f.g.set_name(q8, "q8").unwrap();
    f.refuses(TensorOp::EmbedRows, &[q8, f.tokens], none, "table has to be a weight type, is Q8Act");
    f.refuses(TensorOp::EmbedRows, &[f.weight, f.vector], none, "tokens has to be U32, is F32");
    f.refuses(TensorOp::RmsNorm, &[f.weight, f.vector], NORM, "input has to be F32, is F16");
    f.refuses(TensorOp::MulMat, &[q8, f.x], none, "weight has to be a weight type, is Q8Act");
    f.refuses(
        TensorOp::MulMat,
        &[f.x, f.weight],
        none,
        "input has to be F32, the weight not being quantised, is F16",
    );
    f.refuses(
        TensorOp::MulMat,
        &[f.weight, q8],
        none,
        "input has to be F32, the weight not being quantised, is Q8Act",
    );
    let blocks = leaf(&mut f.g, "blocks", Q8_0, &[32, 64]);
    f.refuses(TensorOp::MulMat, &[blocks, f.weight], none, "input has to be F32 or Q8Act, is F16");
    for op in [TensorOp::Add, TensorOp::Mul, TensorOp::SwiGlu] {
        let [a, b] = [op.operands()[0], op.operands()[1]];
        f.refuses(op, &[f.weight, f.x], none, &format!("{a} has to be F32, is F16"));
        f.refuses(op, &[f.x, f.weight], none, &format!("{b} has to be F32, is F16"));
    }
    f.refuses(TensorOp::Silu, &[f.tokens], none, "input has to be F32, is U32");
    f.refuses(TensorOp::Rope, &[f.weight, f.positions, f.table], ROPE, "input has to be F32, is F16");
    f.refuses(TensorOp::Rope, &[f.x, f.vector, f.table], ROPE, "positions has to be U32, is F32");
    let halves = leaf(&mut f.g, "halves", F16, &[99, 4, 2]);
    f.refuses(TensorOp::Rope, &[f.x, f.positions, halves], ROPE, "table has to be F32, is F16");
    let half_cache = leaf(&mut f.g, "half_cache", F16, &[2, 2, 99, 16]);
    let odd_cache = leaf(&mut f.g, "odd_cache", U32, &[2, 2, 99, 16]);
    let floats = "F32, F16, BF16 or F8E4M3";
    let [p, s] = [f.positions, f.sequences];
    f.refuses(
        TensorOp::KvScatter,
        &[odd_cache, f.kv, p, s],
        none,
        &format!("cache has to be {floats}, is U32"),
    );
    f.refuses(TensorOp::KvScatter, &[f.cache, f.weight, p, s], none, "input has to be F32, is F16");
    f.refuses(TensorOp::KvScatter, &[f.cache, f.kv, f.vector, s], none, "positions has to be U32, is F32");
    f.refuses(TensorOp::KvScatter, &[f.cache, f.kv, p, f.vector], none, "sequences has to be U32, is F32");
    let c = f.cache;
    f.refuses(TensorOp::Attention, &[f.weight, c, c, p, s], ATTENTION, "query has to be F32, is F16");
    let reason = format!("keys has to be {floats}, is U32");
    f.refuses(TensorOp::Attention, &[f.x, odd_cache, c, p, s], ATTENTION, &reason);
    f.refuses(TensorOp::Attention, &[f.x, c, half_cache, p, s], ATTENTION, "values has to be F32, is F16");
    f.refuses(TensorOp::Attention, &[f.x, c, c, f.vector, s], ATTENTION, "positions has to be U32, is F32");
    f.refuses(TensorOp::Attention, &[f.x, c, c, p, f.vector], ATTENTION, "sequences has to be U32, is F32");
    f.refuses(
        TensorOp::SoftMax,
        &[f.weight],
        OpParams::SoftMax { scale: 1.0 },
        "input has to be F32, is F16",
    );
    f.refuses(TensorOp::QuantizeQ8, &[f.weight], none, "input has to be F32, is F16");
    f.refuses(TensorOp::Argmax, &[f.weight], none, "input has to be F32, is F16");
}

#[test]
fn caches_of_every_float_take_and_give_f32() {
    let mut f = fixture();
    for dtype in [F32, F16, ElementType::BF16, ElementType::F8E4M3] {
        let [keys, values] =
            ["keys", "values"].map(|name| leaf(&mut f.g, &format!("{name} {dtype}"), dtype, &[2, 2, 99, 16]));
        let [p, s] = [f.positions, f.sequences];
        let [keys, values] = [keys, values].map(|cache| f.g.kv_scatter(cache, f.kv, p, s).unwrap());
        assert_eq!(f.g.get(keys).unwrap().dtype(), dtype);
        let operands = AttentionOperands { query: f.x, keys, values, positions: p, sequences: s, scale: 1.0 };
        let attended = f.g.attention(operands).unwrap();
        assert_eq!(f.g.get(attended).unwrap().dtype(), F32);
    }
}

#[test]
fn shapes_have_to_fit() {
    let f = &mut fixture();
    let none = OpParams::None;
    let (x, c, [p, s]) = (f.x, f.cache, [f.positions, f.sequences]);
    f.refuses(TensorOp::EmbedRows, &[f.vector, f.tokens], none, "table has to be of rank 2, is of rank 1");
    f.refuses(TensorOp::EmbedRows, &[f.weight, f.kv], none, "tokens has to be of rank 1, is of rank 2");
    f.refuses(TensorOp::RmsNorm, &[f.vector, f.vector], NORM, "input has to be of rank 2, is of rank 1");
    f.refuses(TensorOp::RmsNorm, &[x, f.kv], NORM, "weight has to be of rank 1, is of rank 2");
    f.refuses(TensorOp::RmsNorm, &[f.kv, f.vector], NORM, "the length of weight has to be 32, is 64");
    f.refuses(TensorOp::MulMat, &[f.vector, x], none, "weight has to be of rank 2, is of rank 1");
    f.refuses(TensorOp::MulMat, &[f.weight, f.vector], none, "input has to be of rank 2, is of rank 1");
    f.refuses(TensorOp::MulMat, &[f.weight, f.kv], none, "the row length of input has to be 64, is 32");
    f.refuses(TensorOp::Add, &[f.kv, f.vector], none, "the length of b has to be 32, is 64");
    f.refuses(TensorOp::Add, &[x, f.kv], none, "the second dimension has to be 64, is 32");
    f.refuses(TensorOp::Add, &[f.vector, x], none, "b has to be of rank 1, is of rank 2");
    for op in [TensorOp::Mul, TensorOp::SwiGlu] {
        f.refuses(op, &[x, f.kv], none, "the second dimension has to be 64, is 32");
        f.refuses(
            op,
            &[x, f.vector],
            none,
            &format!("{} has to be of rank 2, is of rank 1", op.operands()[1]),
        );
    }
    let (four_rows, column) = (leaf(&mut f.g, "rows", F32, &[4, 64]), leaf(&mut f.g, "col", F32, &[5, 1]));
    f.refuses(TensorOp::Mul, &[x, four_rows], none, "the outermost dimension has to be 5, is 4");
    f.refuses(TensorOp::Add, &[x, column], none, "the second dimension has to be 64, is 1");

    f.refuses(TensorOp::Rope, &[f.vector, p, f.table], ROPE, "input has to be of rank 2, is of rank 1");
    f.refuses(TensorOp::Rope, &[x, f.three, f.table], ROPE, "the length of positions has to be 5, is 3");
    f.refuses(TensorOp::Rope, &[x, p, f.kv], ROPE, "table has to be of rank 3, is of rank 2");
    let [narrow, triples] = [[99, 3, 2], [99, 4, 3]].map(|d| leaf(&mut f.g, "t", F32, &d));
    f.refuses(TensorOp::Rope, &[x, p, narrow], ROPE, "the second dimension of table has to be 4, is 3");
    f.refuses(TensorOp::Rope, &[x, p, triples], ROPE, "the last dimension of table has to be 2, is 3");
    let heads = OpParams::Rope { style: RopeStyle::NeoX, n_rot: 8, head_dim: 24 };
    let expected = "the row length of input (64) has to be a multiple of head_dim (24)";
    f.refuses(TensorOp::Rope, &[x, p, f.table], heads, expected);

    f.refuses(TensorOp::KvScatter, &[x, f.kv, p, s], none, "cache has to be of rank 4, is of rank 2");
    f.refuses(TensorOp::KvScatter, &[c, x, p, s], none, "the row length of input has to be 32, is 64");
    f.refuses(TensorOp::KvScatter, &[c, f.vector, p, s], none, "input has to be of rank 2, is of rank 1");
    f.refuses(TensorOp::KvScatter, &[c, f.kv, f.three, s], none, "the length of positions has to be 5, is 3");
    f.refuses(TensorOp::KvScatter, &[c, f.kv, p, f.three], none, "the length of sequences has to be 5, is 3");

    f.refuses(
        TensorOp::Attention,
        &[f.vector, c, c, p, s],
        ATTENTION,
        "query has to be of rank 2, is of rank 1",
    );
    f.refuses(TensorOp::Attention, &[x, f.kv, c, p, s], ATTENTION, "keys has to be of rank 4, is of rank 2");
    f.refuses(
        TensorOp::Attention,
        &[x, c, f.kv, p, s],
        ATTENTION,
        "values has to be of rank 4, is of rank 2",
    );
    f.refuses(
        TensorOp::Attention,
        &[x, c, c, f.three, s],
        ATTENTION,
        "the length of positions has to be 5, is 3",
    );
    f.refuses(
        TensorOp::Attention,
        &[x, c, c, p, f.three],
        ATTENTION,
        "the length of sequences has to be 5, is 3",
    );
    let short = leaf(&mut f.g, "short", F32, &[2, 2, 98, 16]);
    f.refuses(
        TensorOp::Attention,
        &[x, c, short, p, s],
        ATTENTION,
        "the third dimension has to be 99, is 98",
    );
    let wide = leaf(&mut f.g, "wide", F32, &[2, 2, 99, 48]);
    let expected = "the row length of query (64) has to be a multiple of head_dim (48)";
    f.refuses(TensorOp::Attention, &[x, wide, wide, p, s], ATTENTION, expected);
    let three_heads = leaf(&mut f.g, "three_heads", F32, &[2, 3, 99, 16]);
    let expected = "the number of query heads (4) has to be a multiple of the number of key-value heads (3)";
    f.refuses(TensorOp::Attention, &[x, three_heads, three_heads, p, s], ATTENTION, expected);

    f.refuses(TensorOp::QuantizeQ8, &[f.vector], none, "input has to be of rank 2, is of rank 1");
    let odd = leaf(&mut f.g, "odd", F32, &[2, 33]);
    f.refuses(TensorOp::QuantizeQ8, &[odd], none, "33 elements are not a whole number of Q8Act blocks of 32");
    f.refuses(TensorOp::Argmax, &[f.vector], none, "input has to be of rank 2, is of rank 1");
    let blocks = leaf(&mut f.g, "blocks", Q8_0, &[64]);
    let params = OpParams::View { start: 33, len: 31 };
    let expected = "the start of the view (33) has to be a multiple of the type's block (32)";
    f.refuses(TensorOp::View, &[blocks], params, expected);
    let params = OpParams::View { start: 32, len: 31 };
    let expected = "31 elements are not a whole number of Q8_0 blocks of 32";
    f.refuses(TensorOp::View, &[blocks], params, expected);
    let planar = leaf(&mut f.g, "planar", Q8Act, &[64]);
    let params = OpParams::View { start: 32, len: 32 };
    let expected = "input has to be of a type whose blocks follow each other, is Q8Act";
    f.refuses(TensorOp::View, &[planar], params, expected);
}

#[test]
fn a_view_starts_at_the_first_byte_of_its_rows() {
    let mut g = ComputeGraph::new();
    for dtype in ElementType::WEIGHTS.into_iter().chain([U32, ElementType::F8E4M3]) {
        let block = dtype.block_elements();
        let vector = leaf(&mut g, "vector", dtype, &[5 * block]);
        let view = g.view(vector, 2 * block, 3 * block).unwrap();
        let of_view = g.view(view, block, block).unwrap();
        let offsets = [view, of_view].map(|id| g.get(id).unwrap().root_offset());
        assert_eq!(offsets, [2, 3].map(|blocks| blocks * dtype.block_bytes() as u64), "{dtype}");
    }
    for dtype in ElementType::ALL {
        let block = dtype.block_elements();
        let matrices = leaf(&mut g, "matrices", dtype, &[4, 3, 2 * block]);
        let view = g.view(matrices, 1, 3).unwrap();
        let expected = 3 * 2 * dtype.block_bytes() as u64;
        assert_eq!(g.get(view).unwrap().root_offset(), expected, "{dtype}");
    }
}

#[test]
fn a_scatter_writes_to_a_leaf() {
    let f = &mut fixture();
    let copy = f.g.copy(f.cache).unwrap();
    f.g.set_name(copy, "copy").unwrap();
    let inputs = [copy, f.kv, f.positions, f.sequences];
    let expected = "cache has to be a leaf or the result of a kv_scatter into one";
    f.refuses(TensorOp::KvScatter, &inputs, OpParams::None, expected);
    let view = f.g.view(f.cache, 0, 1).unwrap();
    f.g.set_name(view, "view").unwrap();
    f.refuses(TensorOp::KvScatter, &[view, f.kv, f.positions, f.sequences], OpParams::None, expected);
}

#[test]
fn a_cache_is_not_read_by_an_overwritten_name() {
    let f = &mut fixture();
    let first_sequence = f.g.view(f.cache, 0, 1).unwrap();
    f.g.set_name(first_sequence, "first").unwrap();
    let scattered = f.g.kv_scatter(f.cache, f.kv, f.positions, f.sequences).unwrap();
    f.g.set_name(scattered, "scattered").unwrap();
    let expected = |operand: &str, id| {
        format!("{operand} {id} was overwritten by {scattered}: read {scattered}, or a view of it, instead")
    };
    let [p, s] = [f.positions, f.sequences];
    let stale = [f.x, f.cache, scattered, p, s];
    f.refuses(TensorOp::Attention, &stale, ATTENTION, &expected("keys", f.cache));
    f.refuses(TensorOp::Copy, &[first_sequence], OpParams::None, &expected("input", first_sequence));
    f.refuses(TensorOp::KvScatter, &[f.cache, f.kv, p, s], OpParams::None, &expected("cache", f.cache));
    assert!(f.g.add_op(TensorOp::Attention, &[f.x, scattered, scattered, p, s], ATTENTION).is_ok());
    let again = f.g.kv_scatter(scattered, f.kv, p, s).unwrap();
    assert_eq!(f.g.get(again).unwrap().root(), f.cache);
    let view = f.g.view(again, 1, 1).unwrap();
    assert!(f.g.copy(view).is_ok());
}

#[test]
fn leaves_have_whole_blocks_and_bounded_sizes() {
    let mut g = ComputeGraph::new();
    let error = g.add_leaf("blk.0.ffn_up", Q4_K, Shape::new(&[8, 300]).unwrap()).unwrap_err();
    let expected = "%0 = leaf \"blk.0.ffn_up\": 300 elements are not a whole number of Q4_K blocks of 256";
    assert_eq!(error.to_string(), expected);
    let huge = Shape::new(&[usize::MAX / 8]).unwrap();
    for _ in 0..2 {
        // Sizes are summed in 64 bits: the second leaf of 2^63 - 4 bytes is one too many.
        let _ = g.add_leaf("huge", F32, huge);
    }
    let error = g.add_leaf("huge", F32, huge).unwrap_err();
    assert!(matches!(error, GraphError::Leaf { reason: Reason::Overflow, .. }), "{error}");
    let error = g.add_leaf("huge", F32, Shape::new(&[usize::MAX]).unwrap()).unwrap_err();
    assert!(matches!(error, GraphError::Leaf { reason: Reason::Format(_), .. }), "{error}");
    assert!(matches!(
        GraphError::from(Shape::new(&[]).unwrap_err()),
        GraphError::Shape(ShapeError::Rank { .. })
    ));
}

#[test]
fn messages_name_node_operation_and_shapes() {
    let f = &mut fixture();
    let error = f.g.mul_mat(f.weight, f.kv).unwrap_err();
    assert_eq!(
        error.to_string(),
        "%11 = mul_mat(weight %7 \"weight\" F16 [32, 64], input %10 \"kv\" F32 [5, 32]): \
         the row length of input has to be 64, is 32"
    );
}
