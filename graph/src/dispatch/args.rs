//! The operands of each operation, resolved.

use crate::RopeStyle;
use crate::view::TensorView;

/// [`TensorOp::EmbedRows`](crate::TensorOp::EmbedRows).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbedRows {
    /// `[vocab, n]`, any weight type.
    pub table: TensorView,
    /// `[rows]` U32, each below `vocab`.
    pub tokens: TensorView,
    /// `[rows, n]` F32.
    pub output: TensorView,
}

/// [`TensorOp::RmsNorm`](crate::TensorOp::RmsNorm).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsNorm {
    /// `[rows, n]` F32.
    pub input: TensorView,
    /// `[n]` F32.
    pub weight: TensorView,
    /// `[rows, n]` F32.
    pub output: TensorView,
    /// Added to the mean square.
    pub eps: f32,
}

/// [`TensorOp::MulMat`](crate::TensorOp::MulMat).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MulMat {
    /// `[out, in]`; its `dtype` says how it is stored.
    pub weight: TensorView,
    /// `[rows, in]`, F32 or Q8Act.
    pub input: TensorView,
    /// `[rows, out]` F32.
    pub output: TensorView,
}

/// [`TensorOp::Add`](crate::TensorOp::Add).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Add {
    /// Any shape, F32.
    pub a: TensorView,
    /// The shape of `a`, or a vector of its innermost dimension, F32.
    pub b: TensorView,
    /// The shape of `a`, F32.
    pub output: TensorView,
}

impl Add {
    /// Whether `b` is one vector that is added to every row of `a`.
    pub fn is_broadcast(&self) -> bool {
        self.a.shape != self.b.shape
    }
}

/// [`TensorOp::Mul`](crate::TensorOp::Mul); all three of one shape, F32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mul {
    /// First factor.
    pub a: TensorView,
    /// Second factor.
    pub b: TensorView,
    /// Product.
    pub output: TensorView,
}

/// [`TensorOp::Silu`](crate::TensorOp::Silu); both of one shape, F32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Silu {
    /// Argument.
    pub input: TensorView,
    /// Result.
    pub output: TensorView,
}

/// [`TensorOp::SwiGlu`](crate::TensorOp::SwiGlu); all three of one shape, F32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SwiGlu {
    /// Argument of silu.
    pub gate: TensorView,
    /// Factor.
    pub up: TensorView,
    /// `silu(gate) * up`. May be the bytes of `gate`, not those of `up`.
    pub output: TensorView,
}

impl SwiGlu {
    /// The same as two basic operations, to be run in this order: `silu` into the output, then `mul` in place.
    pub fn unfused(&self) -> (Silu, Mul) {
        let silu = Silu { input: self.gate, output: self.output };
        (silu, Mul { a: self.output, b: self.up, output: self.output })
    }
}

/// [`TensorOp::Rope`](crate::TensorOp::Rope).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rope {
    /// `[rows, n_heads * head_dim]` F32.
    pub input: TensorView,
    /// `[rows]` U32, each below `max_seq`.
    pub positions: TensorView,
    /// `[max_seq, n_rot / 2, 2]` F32: (cos, sin).
    pub table: TensorView,
    /// `[rows, n_heads * head_dim]` F32.
    pub output: TensorView,
    /// Which features form a pair.
    pub style: RopeStyle,
    /// Features of each head that are rotated; the rest is copied.
    pub n_rot: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Heads of a row.
    pub n_heads: usize,
    /// Positions of the table.
    pub max_seq: usize,
}

/// [`TensorOp::KvScatter`](crate::TensorOp::KvScatter).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KvScatter {
    /// `[n_sequences, n_kv_heads, max_seq, head_dim]` in F32, F16, BF16 or F8E4M3, written in part.
    pub cache: TensorView,
    /// `[rows, n_kv_heads * head_dim]` F32.
    pub input: TensorView,
    /// `[rows]` U32, each below `max_seq`.
    pub positions: TensorView,
    /// `[rows]` U32, each below `n_sequences`.
    pub sequences: TensorView,
    /// Caches.
    pub n_sequences: usize,
    /// Heads of a row.
    pub n_kv_heads: usize,
    /// Positions of a cache.
    pub max_seq: usize,
    /// Features of a head.
    pub head_dim: usize,
}

/// [`TensorOp::Attention`](crate::TensorOp::Attention).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// `[rows, n_heads * head_dim]` F32.
    pub query: TensorView,
    /// `[n_sequences, n_kv_heads, max_seq, head_dim]` in F32, F16, BF16 or F8E4M3.
    pub keys: TensorView,
    /// As `keys`, and of their type.
    pub values: TensorView,
    /// `[rows]` U32, each below `max_seq`; row `r` attends to `positions[r] + 1` positions.
    pub positions: TensorView,
    /// `[rows]` U32, each below `n_sequences`.
    pub sequences: TensorView,
    /// `[rows, n_heads * head_dim]` F32.
    pub output: TensorView,
    /// Factor on the scores before the softmax.
    pub scale: f32,
    /// Query heads of a row; a multiple of `n_kv_heads`.
    pub n_heads: usize,
    /// Key-value heads.
    pub n_kv_heads: usize,
    /// Features of a head.
    pub head_dim: usize,
    /// Positions of a cache.
    pub max_seq: usize,
    /// Caches.
    pub n_sequences: usize,
}

/// [`TensorOp::SoftMax`](crate::TensorOp::SoftMax); both of one shape, F32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftMax {
    /// Scores.
    pub input: TensorView,
    /// Probabilities: each row sums to 1.
    pub output: TensorView,
    /// Factor on the scores.
    pub scale: f32,
}

/// [`TensorOp::Copy`](crate::TensorOp::Copy); both of one shape and any one type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CopyTensor {
    /// Source.
    pub input: TensorView,
    /// Destination, disjoint from the source.
    pub output: TensorView,
}

/// [`TensorOp::QuantizeQ8`](crate::TensorOp::QuantizeQ8).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantizeQ8 {
    /// `[rows, n]` F32.
    pub input: TensorView,
    /// `[rows, n]` Q8Act.
    pub output: TensorView,
}

/// [`TensorOp::Argmax`](crate::TensorOp::Argmax).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Argmax {
    /// `[rows, n]` F32.
    pub input: TensorView,
    /// `[rows]` U32.
    pub output: TensorView,
}
