//! Transformer layers in which everything that a group depends on can be chosen.

use graph::{AttentionOperands, ComputeGraph, RopeOperands, RopeStyle, TensorId};
use tensor_formats::ElementType::{self, F32, U32};

use crate::support::leaf;

pub const HIDDEN: usize = 32;
pub const HEAD_DIM: usize = 8;
pub const MAX_SEQ: usize = 9;
pub const ROWS: usize = 4;
pub const CACHES: usize = 3;
pub const VOCAB: usize = 64;

/// In which order the branches of an attention layer are built.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Order {
    /// Key, value, scatters, query: as the engine does.
    QueryLast,
    /// Every product, then every rotation, then the scatters.
    Breadth,
    /// Query, value and its scatter, key and its scatter.
    QueryFirst,
}

/// A graph under construction.
pub struct Model {
    pub g: ComputeGraph,
    pub weights: ElementType,
    pub q8: bool,
    pub bias: bool,
    pub order: Order,
    pub style: RopeStyle,
    pub positions: TensorId,
    pub sequences: TensorId,
    pub table: TensorId,
}

impl Model {
    pub fn new(weights: ElementType, q8: bool, bias: bool) -> Self {
        let mut g = ComputeGraph::new();
        let positions = leaf(&mut g, "positions", U32, &[ROWS]);
        let sequences = leaf(&mut g, "sequences", U32, &[ROWS]);
        let table = leaf(&mut g, "table", F32, &[MAX_SEQ, HEAD_DIM / 2, 2]);
        let (order, style) = (Order::QueryLast, RopeStyle::NeoX);
        Self { g, weights, q8, bias, order, style, positions, sequences, table }
    }

    pub fn norm(&mut self, x: TensorId) -> TensorId {
        let n = self.g.get(x).unwrap().shape().cols();
        let norm = leaf(&mut self.g, "norm", F32, &[n]);
        self.g.rms_norm(x, norm, 1e-5).unwrap()
    }

    /// What matmuls read in place of `x`.
    pub fn activation(&mut self, x: TensorId) -> TensorId {
        if self.q8 { self.g.quantize_q8(x).unwrap() } else { x }
    }

    pub fn product(&mut self, name: &str, out: usize, x: TensorId) -> TensorId {
        let n = self.g.get(x).unwrap().shape().cols();
        let weight = leaf(&mut self.g, name, self.weights, &[out, n]);
        self.g.mul_mat(weight, x).unwrap()
    }

    /// A product, with bias if the model has biases.
    pub fn linear(&mut self, name: &str, out: usize, x: TensorId) -> TensorId {
        let y = self.product(name, out, x);
        if !self.bias {
            return y;
        }
        let bias = leaf(&mut self.g, "bias", F32, &[out]);
        self.g.add(y, bias).unwrap()
    }

    pub fn rope(&mut self, input: TensorId) -> TensorId {
        let &mut Self { positions, table, style, .. } = self;
        self.g
            .rope(RopeOperands { input, positions, table, style, n_rot: HEAD_DIM, head_dim: HEAD_DIM })
            .unwrap()
    }

    pub fn cache(&mut self, name: &str) -> TensorId {
        leaf(&mut self.g, name, F32, &[CACHES, 2, MAX_SEQ, HEAD_DIM])
    }

    pub fn scatter(&mut self, cache: TensorId, x: TensorId) -> TensorId {
        self.g.kv_scatter(cache, x, self.positions, self.sequences).unwrap()
    }

    /// The operations of an attention input: query, keys, values.
    pub fn attention_input(&mut self, x: TensorId) -> [TensorId; 3] {
        let (keys, values) = (self.cache("keys"), self.cache("values"));
        let normed = self.norm(x);
        let h = self.activation(normed);
        let (n_query, n_kv) = (HIDDEN, 2 * HEAD_DIM);
        match self.order {
            Order::QueryLast => {
                let k = self.linear("wk", n_kv, h);
                let k = self.rope(k);
                let v = self.linear("wv", n_kv, h);
                let (keys, values) = (self.scatter(keys, k), self.scatter(values, v));
                let q = self.linear("wq", n_query, h);
                [self.rope(q), keys, values]
            }
            Order::Breadth => {
                let [q, k, v] =
                    [("wq", n_query), ("wk", n_kv), ("wv", n_kv)].map(|(n, out)| self.linear(n, out, h));
                let (q, k) = (self.rope(q), self.rope(k));
                let values = self.scatter(values, v);
                [q, self.scatter(keys, k), values]
            }
            Order::QueryFirst => {
                let q = self.linear("wq", n_query, h);
                let q = self.rope(q);
                let v = self.linear("wv", n_kv, h);
                let values = self.scatter(values, v);
                let k = self.linear("wk", n_kv, h);
                let k = self.rope(k);
                [q, self.scatter(keys, k), values]
            }
        }
    }

    pub fn attention(&mut self, [query, keys, values]: [TensorId; 3]) -> TensorId {
        let &mut Self { positions, sequences, .. } = self;
        let operands = AttentionOperands { query, keys, values, positions, sequences, scale: 0.35 };
        self.g.attention(operands).unwrap()
    }

    /// The operations of a residual projection.
    pub fn residual(&mut self, input: TensorId, residual: TensorId, product_first: bool) -> TensorId {
        let h = self.activation(input);
        let out = self.g.get(residual).unwrap().shape().cols();
        let y = self.linear("wo", out, h);
        let (a, b) = if product_first { (y, residual) } else { (residual, y) };
        self.g.add(a, b).unwrap()
    }

    /// The operations of a gated projection.
    pub fn gated(&mut self, x: TensorId, width: usize, up_first: bool) -> TensorId {
        let normed = self.norm(x);
        let h = self.activation(normed);
        let (first, second) = (self.product("w1", width, h), self.product("w2", width, h));
        let (gate, up) = if up_first { (second, first) } else { (first, second) };
        self.g.swi_glu(gate, up).unwrap()
    }

    /// The operations of a head: logits and argmax.
    pub fn head(&mut self, x: TensorId) -> [TensorId; 2] {
        let normed = self.norm(x);
        let h = self.activation(normed);
        let logits = self.product("output", VOCAB, h);
        [logits, self.g.argmax(logits).unwrap()]
    }

    /// A whole layer.
    pub fn layer(&mut self, x: TensorId) -> TensorId {
        let input = self.attention_input(x);
        let attended = self.attention(input);
        let middle = self.residual(attended, x, false);
        let hidden = self.gated(middle, 64, false);
        self.residual(hidden, middle, true)
    }
}
