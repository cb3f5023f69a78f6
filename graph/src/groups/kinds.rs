//! The operands of each kind of group.
//!
//! The structs are generic over what names a tensor: a [`TensorView`] for backends, a [`TensorId`](crate::TensorId)
//! while a graph is searched.

use std::fmt;

use crate::RopeStyle;
use crate::view::TensorView;

/// A linear map of a row: `weight * x + bias`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Projection<T = TensorView> {
    /// `[out, in]`; its `dtype` says how it is stored.
    pub weight: T,
    /// `[out]` F32.
    pub bias: Option<T>,
}

/// What precedes attention in a layer: norm, projections to query, key and value, rotation, append to the caches.
///
/// With `h = rms_norm(input) * norm`, row by row: `output = rope(query * h)`, and `rope(key * h)` and `value * h` go to
/// position `positions[r]` of sequence `sequences[r]` of their caches.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionInput<T = TensorView> {
    /// `[rows, n]` F32.
    pub input: T,
    /// `[n]` F32: the weight of the norm.
    pub norm: T,
    /// Added to the mean square.
    pub eps: f32,
    /// Whether the normed rows are quantised to Q8Act before they are multiplied, for all three projections alike.
    pub q8: bool,
    /// `[n_heads * head_dim, n]`.
    pub query: Projection<T>,
    /// `[n_kv_heads * head_dim, n]`.
    pub key: Projection<T>,
    /// `[n_kv_heads * head_dim, n]`.
    pub value: Projection<T>,
    /// `[rows]` U32, each below `max_seq` and below the positions of `table`.
    pub positions: T,
    /// `[rows]` U32, each below `n_sequences`.
    pub sequences: T,
    /// `[positions, n_rot / 2, 2]` F32: (cos, sin).
    pub table: T,
    /// Which features form a pair.
    pub style: RopeStyle,
    /// Features of each head that are rotated; the rest is copied.
    pub n_rot: usize,
    /// `[rows, n_heads * head_dim]` F32: the rotated query.
    pub output: T,
    /// `[n_sequences, n_kv_heads, max_seq, head_dim]` in F32, F16, BF16 or F8E4M3, written in part.
    pub keys: T,
    /// As `keys`.
    pub values: T,
    /// Query heads of a row.
    pub n_heads: usize,
    /// Key-value heads of a row.
    pub n_kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Positions of a cache.
    pub max_seq: usize,
    /// Caches.
    pub n_sequences: usize,
}

/// A projection that is added to the residual stream: `output = residual + projection(input)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ResidualProjection<T = TensorView> {
    /// `[rows, in]` F32, not quantised yet.
    pub input: T,
    /// Whether the input is what an attention gives.
    pub of_attention: bool,
    /// Whether the input is quantised to Q8Act before it is multiplied.
    pub q8: bool,
    /// `[out, in]`, with or without bias.
    pub projection: Projection<T>,
    /// `[rows, out]` F32.
    pub residual: T,
    /// `[rows, out]` F32. May be the bytes of `residual`, not those of `input`.
    pub output: T,
}

/// The first half of a gated feed-forward: with `h = rms_norm(input) * norm`, `output = silu(gate * h) * (up * h)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GatedProjection<T = TensorView> {
    /// `[rows, n]` F32.
    pub input: T,
    /// `[n]` F32: the weight of the norm.
    pub norm: T,
    /// Added to the mean square.
    pub eps: f32,
    /// Whether the normed rows are quantised to Q8Act before they are multiplied, for both projections alike.
    pub q8: bool,
    /// `[out, n]`.
    pub gate: T,
    /// `[out, n]`.
    pub up: T,
    /// `[rows, out]` F32.
    pub output: T,
}

/// A normed projection, and which of its results is largest: with `h = rms_norm(input) * norm`, `logits = weight * h` and
/// `argmax` the index of each row's largest.
///
/// At least one of the two is there. Without an argmax this is any norm that a single matmul reads.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Head<T = TensorView> {
    /// `[rows, n]` F32, usually a view of a step's last rows.
    pub input: T,
    /// `[n]` F32: the weight of the norm.
    pub norm: T,
    /// Added to the mean square.
    pub eps: f32,
    /// Whether the normed rows are quantised to Q8Act before they are multiplied.
    pub q8: bool,
    /// `[n_vocab, n]`.
    pub weight: T,
    /// `[rows, n_vocab]` F32; `None` if only the argmax reads them.
    pub logits: Option<T>,
    /// `[rows]` U32, as [`TensorOp::Argmax`](crate::TensorOp::Argmax) says.
    pub argmax: Option<T>,
}

/// Which kind a group is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs)] // Each variant is the struct of its name.
pub enum GroupKind {
    AttentionInput,
    ResidualProjection,
    GatedProjection,
    Head,
}

impl GroupKind {
    /// Every kind, in declaration order.
    pub const ALL: [Self; 4] =
        [Self::AttentionInput, Self::ResidualProjection, Self::GatedProjection, Self::Head];

    /// The name in dumps and error messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AttentionInput => "attention_input",
            Self::ResidualProjection => "residual_projection",
            Self::GatedProjection => "gated_projection",
            Self::Head => "head",
        }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What a group asks of a backend.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // Each variant is the struct of its name.
pub enum GroupCall<T = TensorView> {
    AttentionInput(AttentionInput<T>),
    ResidualProjection(ResidualProjection<T>),
    GatedProjection(GatedProjection<T>),
    Head(Head<T>),
}

impl<T: Copy> GroupCall<T> {
    /// The kind.
    pub const fn kind(&self) -> GroupKind {
        match self {
            Self::AttentionInput(_) => GroupKind::AttentionInput,
            Self::ResidualProjection(_) => GroupKind::ResidualProjection,
            Self::GatedProjection(_) => GroupKind::GatedProjection,
            Self::Head(_) => GroupKind::Head,
        }
    }

    /// Whether activations are quantised to Q8Act before they are multiplied.
    pub const fn q8(&self) -> bool {
        match self {
            Self::AttentionInput(a) => a.q8,
            Self::ResidualProjection(a) => a.q8,
            Self::GatedProjection(a) => a.q8,
            Self::Head(a) => a.q8,
        }
    }

    /// What the group reads, the caches of [`AttentionInput`] apart, of which it reads nothing.
    pub fn operands(&self) -> Vec<T> {
        let (mut all, optional) = match self {
            Self::AttentionInput(a) => {
                let [query, key, value] = [a.query, a.key, a.value].map(|p| (p.weight, p.bias));
                let all = vec![a.input, a.norm, query.0, key.0, value.0, a.positions, a.sequences, a.table];
                (all, vec![query.1, key.1, value.1])
            }
            Self::ResidualProjection(a) => {
                (vec![a.input, a.projection.weight, a.residual], vec![a.projection.bias])
            }
            Self::GatedProjection(a) => (vec![a.input, a.norm, a.gate, a.up], Vec::new()),
            Self::Head(a) => (vec![a.input, a.norm, a.weight], Vec::new()),
        };
        all.extend(optional.into_iter().flatten());
        all
    }

    /// What the group leaves for others: everything else that its operations write is an intermediate.
    pub fn results(&self) -> Vec<T> {
        match self {
            Self::AttentionInput(a) => vec![a.output, a.keys, a.values],
            Self::ResidualProjection(a) => vec![a.output],
            Self::GatedProjection(a) => vec![a.output],
            Self::Head(a) => [a.logits, a.argmax].into_iter().flatten().collect(),
        }
    }

    /// The same with other names for the tensors.
    pub(super) fn map<U>(&self, f: impl Fn(T) -> U) -> GroupCall<U> {
        let projection = |p: &Projection<T>| Projection { weight: f(p.weight), bias: p.bias.map(&f) };
        match self {
            Self::AttentionInput(a) => GroupCall::AttentionInput(AttentionInput {
                input: f(a.input),
                norm: f(a.norm),
                eps: a.eps,
                q8: a.q8,
                query: projection(&a.query),
                key: projection(&a.key),
                value: projection(&a.value),
                positions: f(a.positions),
                sequences: f(a.sequences),
                table: f(a.table),
                style: a.style,
                n_rot: a.n_rot,
                output: f(a.output),
                keys: f(a.keys),
                values: f(a.values),
                n_heads: a.n_heads,
                n_kv_heads: a.n_kv_heads,
                head_dim: a.head_dim,
                max_seq: a.max_seq,
                n_sequences: a.n_sequences,
            }),
            Self::ResidualProjection(a) => GroupCall::ResidualProjection(ResidualProjection {
                input: f(a.input),
                of_attention: a.of_attention,
                q8: a.q8,
                projection: projection(&a.projection),
                residual: f(a.residual),
                output: f(a.output),
            }),
            Self::GatedProjection(a) => GroupCall::GatedProjection(GatedProjection {
                input: f(a.input),
                norm: f(a.norm),
                eps: a.eps,
                q8: a.q8,
                gate: f(a.gate),
                up: f(a.up),
                output: f(a.output),
            }),
            Self::Head(a) => GroupCall::Head(Head {
                input: f(a.input),
                norm: f(a.norm),
                eps: a.eps,
                q8: a.q8,
                weight: f(a.weight),
                logits: a.logits.map(&f),
                argmax: a.argmax.map(&f),
            }),
        }
    }
}
