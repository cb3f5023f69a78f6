//! Recognition of groups in the order of execution, by dataflow.

use tensor_formats::ElementType;

use super::kinds::{
    AttentionInput, GatedProjection, GroupCall, GroupKind, Head, Projection, ResidualProjection,
};
use crate::{ComputeGraph, OpParams, RopeStyle, TensorId, TensorNode, TensorOp};

/// A group of the first `len` operations of a run.
pub(super) struct Match {
    pub call: GroupCall<TensorId>,
    pub len: usize,
}

/// Finds groups in one graph.
pub(super) struct Matcher<'a> {
    graph: &'a ComputeGraph,
    /// By node: the nodes that read it, views among them.
    readers: Vec<Vec<TensorId>>,
}

impl<'a> Matcher<'a> {
    pub fn new(graph: &'a ComputeGraph) -> Self {
        let mut readers = vec![Vec::new(); graph.nodes().len()];
        for (id, node) in graph.ids().zip(graph.nodes()) {
            node.inputs().iter().for_each(|input| readers[input.index()].push(id));
        }
        Self { graph, readers }
    }

    /// The group of `kind` that the first operations of `run`, which are executed one after the other, make up.
    pub fn find(&self, kind: GroupKind, run: &[TensorId]) -> Option<Match> {
        let run = Run { graph: self.graph, ids: run };
        let (call, len) = match kind {
            GroupKind::AttentionInput => run.attention_input()?,
            GroupKind::ResidualProjection => run.residual_projection()?,
            GroupKind::GatedProjection => run.gated_projection()?,
            GroupKind::Head => run.head(|id, members| self.is_read_beyond(id, members))?,
        };
        self.is_closed(&call, &run.ids[..len]).then_some(Match { call, len })
    }

    /// Whether nothing but results leaves the group, and no operand is made in it.
    fn is_closed(&self, call: &GroupCall<TensorId>, members: &[TensorId]) -> bool {
        let (operands, results) = (call.operands(), call.results());
        let inner = |id: &TensorId| !results.contains(id);
        !operands.iter().any(|&id| members.contains(&self.graph.node(id).root()))
            && !members.iter().filter(|id| inner(id)).any(|&id| self.is_read_beyond(id, members))
    }

    /// Whether `id` is an output, or anything but `members` reads it.
    fn is_read_beyond(&self, id: TensorId, members: &[TensorId]) -> bool {
        let outside = |reader: &TensorId| !members.contains(reader);
        self.graph.outputs().contains(&id) || self.readers[id.index()].iter().any(outside)
    }
}

/// Operations in execution order.
#[derive(Clone, Copy)]
struct Run<'a> {
    graph: &'a ComputeGraph,
    ids: &'a [TensorId],
}

/// Rows that matmuls of a group read, and how they came to be.
struct Activation {
    id: TensorId,
    /// Operations up to here.
    len: usize,
    q8: bool,
}

/// A norm, and the activation that it ends in.
struct Normed {
    input: TensorId,
    weight: TensorId,
    eps: f32,
    activation: Activation,
}

impl<'a> Run<'a> {
    /// Operation `i`, with its node.
    fn at(&self, i: usize) -> Option<(TensorId, &'a TensorNode)> {
        self.ids.get(i).map(|&id| (id, self.graph.node(id)))
    }

    /// The operation at `i` if it is `op`, with its operands.
    fn expect(&self, i: usize, op: TensorOp) -> Option<(TensorId, &'a [TensorId])> {
        self.at(i).filter(|(_, node)| node.op() == op).map(|(id, node)| (id, node.inputs()))
    }

    /// `source`, or its quantised form if operation `len` makes that.
    fn activation(&self, source: TensorId, len: usize) -> Activation {
        match self.expect(len, TensorOp::QuantizeQ8) {
            Some((id, inputs)) if inputs == [source] => Activation { id, len: len + 1, q8: true },
            _ => Activation { id: source, len, q8: false },
        }
    }

    fn normed(&self) -> Option<Normed> {
        let (id, node) = self.at(0)?;
        let (OpParams::RmsNorm { eps }, &[input, weight]) = (node.params(), node.inputs()) else {
            return None;
        };
        Some(Normed { input, weight, eps, activation: self.activation(id, 1) })
    }

    /// The matmul at `i` if it reads `activation`, with its weight.
    fn product(&self, i: usize, activation: TensorId) -> Option<(TensorId, TensorId)> {
        match self.expect(i, TensorOp::MulMat)? {
            (id, &[weight, input]) if input == activation => Some((id, weight)),
            _ => None,
        }
    }

    /// The addition of a vector to every row of `rows` at `i`, with the vector.
    fn bias(&self, i: usize, rows: TensorId) -> Option<(TensorId, TensorId)> {
        let (id, &[a, b]) = self.expect(i, TensorOp::Add)? else { return None };
        let is_vector = self.graph.node(b).shape() != self.graph.node(a).shape();
        (a == rows && is_vector).then_some((id, b))
    }

    fn residual_projection(&self) -> Option<(GroupCall<TensorId>, usize)> {
        let (first, node) = self.at(0)?;
        let (input, activation, mut len, q8) = match (node.op(), node.inputs()) {
            (TensorOp::QuantizeQ8, &[input]) => (input, first, 1, true),
            (TensorOp::MulMat, &[_, input]) if self.graph.node(input).dtype() == ElementType::F32 => {
                (input, input, 0, false)
            }
            _ => return None,
        };
        let (mut tip, weight) = self.product(len, activation)?;
        len += 1;
        let mut bias = None;
        if let Some((sum, vector)) = self.bias(len, tip) {
            (tip, bias, len) = (sum, Some(vector), len + 1);
        }
        let (output, &[a, b]) = self.expect(len, TensorOp::Add)? else { return None };
        if self.graph.node(a).shape() != self.graph.node(b).shape() {
            return None;
        }
        // A product added to itself is refused later, as every group one of whose operands is made in it.
        let residual = match (a == tip, b == tip) {
            (true, _) => b,
            (_, true) => a,
            _ => return None,
        };
        let projection = Projection { weight, bias };
        let of_attention = self.graph.node(input).op() == TensorOp::Attention;
        let call = ResidualProjection { input, of_attention, q8, projection, residual, output };
        Some((GroupCall::ResidualProjection(call), len + 1))
    }

    fn gated_projection(&self) -> Option<(GroupCall<TensorId>, usize)> {
        let Normed { input, weight: norm, eps, activation } = self.normed()?;
        let Activation { id, len, q8 } = activation;
        let (first, second) = (self.product(len, id)?, self.product(len + 1, id)?);
        let (gate, up, output) = match self.expect(len + 2, TensorOp::SwiGlu)? {
            (output, &[gate, up]) if (gate, up) == (first.0, second.0) => (first.1, second.1, output),
            (output, &[gate, up]) if (gate, up) == (second.0, first.0) => (second.1, first.1, output),
            _ => return None,
        };
        let call = GatedProjection { input, norm, eps, q8, gate, up, output };
        Some((GroupCall::GatedProjection(call), len + 3))
    }

    /// With an argmax of the logits if that follows; `is_read` says whether logits are read by more than that.
    fn head(&self, is_read: impl Fn(TensorId, &[TensorId]) -> bool) -> Option<(GroupCall<TensorId>, usize)> {
        let Normed { input, weight: norm, eps, activation } = self.normed()?;
        let Activation { id, mut len, q8 } = activation;
        let (product, weight) = self.product(len, id)?;
        len += 1;
        let argmax = self.expect(len, TensorOp::Argmax).filter(|(_, inputs)| *inputs == [product]);
        let argmax = argmax.map(|(id, _)| id);
        len += usize::from(argmax.is_some());
        let needed = argmax.is_none() || is_read(product, &self.ids[..len]);
        let logits = needed.then_some(product);
        let call = Head { input, norm, eps, q8, weight, logits, argmax };
        Some((GroupCall::Head(call), len))
    }

    /// The branches from the norm may come in any order and be interleaved.
    fn attention_input(&self) -> Option<(GroupCall<TensorId>, usize)> {
        let normed = self.normed()?;
        let mut branches: Vec<Branch> = Vec::with_capacity(3);
        for i in normed.activation.len.. {
            let (id, node) = self.at(i)?;
            match (node.op(), node.inputs()) {
                (TensorOp::MulMat, &[weight, input])
                    if input == normed.activation.id && branches.len() < 3 =>
                {
                    branches.push(Branch::new(id, weight));
                }
                (TensorOp::Add, &[rows, _]) => {
                    let (_, vector) = self.bias(i, rows)?;
                    let branch = Branch::ending_in(&mut branches, rows)
                        .filter(|b| b.bias.is_none() && b.rope.is_none())?;
                    (branch.tip, branch.bias) = (id, Some(vector));
                }
                (TensorOp::Rope, &[input, positions, table]) => {
                    let OpParams::Rope { style, n_rot, head_dim } = node.params() else { return None };
                    let branch = Branch::ending_in(&mut branches, input).filter(|b| b.rope.is_none())?;
                    let rotation = Rotation { positions, table, style, n_rot, head_dim };
                    (branch.tip, branch.rope) = (id, Some(rotation));
                }
                (TensorOp::KvScatter, &[_, input, positions, sequences]) => {
                    let branch = Branch::ending_in(&mut branches, input)?;
                    branch.scattered = Some(Scattered { cache: id, positions, sequences });
                }
                _ => return None,
            }
            if let Some(complete) = Branches::sort(&branches) {
                return Some((self.attention_of(&normed, &complete)?, i + 1));
            }
        }
        None
    }

    /// The group of three complete branches, if they rotate alike and write to the same places of two caches.
    fn attention_of(&self, normed: &Normed, branches: &Branches<'_>) -> Option<GroupCall<TensorId>> {
        let Branches { query, key, value } = *branches;
        let (rotation, keys, values) = (query.rope?, key.scattered?, value.scattered?);
        let cache = |s: Scattered| self.graph.node(s.cache);
        let dims: [usize; 4] = cache(keys).shape().dims().try_into().ok()?;
        let [n_sequences, n_kv_heads, max_seq, head_dim] = dims;
        let agree = key.rope == Some(rotation)
            && rotation.head_dim == head_dim
            && rotation.positions == keys.positions
            && (keys.positions, keys.sequences) == (values.positions, values.sequences)
            && cache(keys).shape() == cache(values).shape()
            && cache(keys).root() != cache(values).root();
        let Rotation { positions, table, style, n_rot, .. } = rotation;
        let call = AttentionInput {
            input: normed.input,
            norm: normed.weight,
            eps: normed.eps,
            q8: normed.activation.q8,
            query: query.projection(),
            key: key.projection(),
            value: value.projection(),
            positions,
            sequences: keys.sequences,
            table,
            style,
            n_rot,
            output: query.tip,
            keys: keys.cache,
            values: values.cache,
            n_heads: self.graph.node(query.tip).shape().cols() / head_dim,
            n_kv_heads,
            head_dim,
            max_seq,
            n_sequences,
        };
        agree.then_some(GroupCall::AttentionInput(call))
    }
}

/// A projection of the normed rows, and what has become of it so far.
struct Branch {
    weight: TensorId,
    bias: Option<TensorId>,
    rope: Option<Rotation>,
    scattered: Option<Scattered>,
    /// The last tensor of the branch, scatters apart.
    tip: TensorId,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Rotation {
    positions: TensorId,
    table: TensorId,
    style: RopeStyle,
    n_rot: usize,
    head_dim: usize,
}

#[derive(Debug, Clone, Copy)]
struct Scattered {
    cache: TensorId,
    positions: TensorId,
    sequences: TensorId,
}

impl Branch {
    fn new(product: TensorId, weight: TensorId) -> Self {
        Self { weight, bias: None, rope: None, scattered: None, tip: product }
    }

    /// The branch that is at `tip` and may go on.
    fn ending_in(branches: &mut [Self], tip: TensorId) -> Option<&mut Self> {
        branches.iter_mut().find(|branch| branch.tip == tip && branch.scattered.is_none())
    }

    fn projection(&self) -> Projection<TensorId> {
        Projection { weight: self.weight, bias: self.bias }
    }
}

/// The three branches, told apart by what became of them.
struct Branches<'b> {
    query: &'b Branch,
    key: &'b Branch,
    value: &'b Branch,
}

impl<'b> Branches<'b> {
    /// The rotated branch that stays, the rotated one that is cached and the other that is cached, once all are there.
    fn sort(branches: &'b [Branch]) -> Option<Self> {
        let find = |rotated: bool, cached: bool| {
            branches.iter().find(|b| b.rope.is_some() == rotated && b.scattered.is_some() == cached)
        };
        let (query, key, value) = (find(true, false)?, find(true, true)?, find(false, true)?);
        Some(Self { query, key, value })
    }
}
