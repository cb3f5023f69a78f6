//! The operations, their operands and their parameters.

use std::fmt;
use std::hash::{Hash, Hasher};

/// What a node computes. The operand order of [`add_op`](crate::ComputeGraph::add_op) is that of
/// [`operands`](Self::operands); shapes and types are checked when the node is added.
///
/// Activations are `[rows, features]` F32. A step has `rows` rows, each with a token, a position and a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum TensorOp {
    /// A leaf: a weight, a cache or step state, whose memory the backend binds. Never executed.
    None,
    /// `table [vocab, n]` of any weight type, `tokens [rows]` U32 to `[rows, n]` F32.
    EmbedRows,
    /// `input [rows, n]`, `weight [n]` to `input / sqrt(mean(input^2) + eps) * weight`, by row.
    RmsNorm,
    /// `weight [out, in]` of any weight type, `input [rows, in]` F32 (or Q8Act with a quantised weight) to
    /// `input * weight^T`, `[rows, out]` F32.
    MulMat,
    /// `a + b` of equal shapes, or `b [n]` added to every row of `a [.., n]`.
    Add,
    /// `a * b` of equal shapes.
    Mul,
    /// `x / (1 + exp(-x))`.
    Silu,
    /// `silu(gate) * up` of equal shapes.
    SwiGlu,
    /// Rotates the first `n_rot` features of each head of `input [rows, n_heads * head_dim]` by the angles of each
    /// row's position; the other features are copied. `positions [rows]` U32, `table [max_seq, n_rot / 2, 2]` F32 of
    /// (cos, sin), see [`rope_table`](crate::rope::rope_table).
    Rope,
    /// Writes row `r` of `input [rows, n_kv_heads * head_dim]` to position `positions[r]` of sequence `sequences[r]` of
    /// `cache [n_sequences, n_kv_heads, max_seq, head_dim]` in F32, F16, BF16 or F8E4M3, rounded to nearest: what is too
    /// large becomes an infinity, in F8E4M3, which has none, the largest number. Of two rows at one position of one
    /// sequence either may stay, or part of each. The result is the cache: an alias of its leaf.
    KvScatter,
    /// Causal grouped-query attention of `query [rows, n_heads * head_dim]` over `keys` and `values`
    /// `[n_sequences, n_kv_heads, max_seq, head_dim]` of one type, which [`KvScatter`](Self::KvScatter) takes: row `r`
    /// attends to positions `0..=positions[r]` of sequence `sequences[r]`, and query head `h` reads key-value head `h / (n_heads / n_kv_heads)`.
    Attention,
    /// `softmax(scale * x)` over the innermost dimension.
    SoftMax,
    /// The same values in memory of their own.
    Copy,
    /// `input [rows, n]` F32, `n` a multiple of 32, to Q8Act of the same shape.
    QuantizeQ8,
    /// `input [rows, n]` F32 to the index of each row's largest value, `[rows]` U32: the lowest among equals, never
    /// that of a NaN, `u32::MAX` if nothing is above -inf.
    Argmax,
    /// A range of the outermost dimension: an alias of its input, not executed. That of a vector consists of whole
    /// blocks; a vector of Q8Act, whose scales lie apart, has none.
    View,
}

impl TensorOp {
    /// Every operation, in declaration order.
    pub const ALL: [Self; 16] = [
        Self::None,
        Self::EmbedRows,
        Self::RmsNorm,
        Self::MulMat,
        Self::Add,
        Self::Mul,
        Self::Silu,
        Self::SwiGlu,
        Self::Rope,
        Self::KvScatter,
        Self::Attention,
        Self::SoftMax,
        Self::Copy,
        Self::QuantizeQ8,
        Self::Argmax,
        Self::View,
    ];

    /// The name in dumps and error messages.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "leaf",
            Self::EmbedRows => "embed_rows",
            Self::RmsNorm => "rms_norm",
            Self::MulMat => "mul_mat",
            Self::Add => "add",
            Self::Mul => "mul",
            Self::Silu => "silu",
            Self::SwiGlu => "swi_glu",
            Self::Rope => "rope",
            Self::KvScatter => "kv_scatter",
            Self::Attention => "attention",
            Self::SoftMax => "soft_max",
            Self::Copy => "copy",
            Self::QuantizeQ8 => "quantize_q8",
            Self::Argmax => "argmax",
            Self::View => "view",
        }
    }

    /// The operands' names, in order. Every operation takes exactly these.
    pub const fn operands(self) -> &'static [&'static str] {
        match self {
            Self::None => &[],
            Self::EmbedRows => &["table", "tokens"],
            Self::RmsNorm => &["input", "weight"],
            Self::MulMat => &["weight", "input"],
            Self::Add | Self::Mul => &["a", "b"],
            Self::SwiGlu => &["gate", "up"],
            Self::Rope => &["input", "positions", "table"],
            Self::KvScatter => &["cache", "input", "positions", "sequences"],
            Self::Attention => &["query", "keys", "values", "positions", "sequences"],
            Self::Silu | Self::SoftMax | Self::Copy | Self::QuantizeQ8 | Self::Argmax | Self::View => {
                &["input"]
            }
        }
    }

    /// Whether executing a graph dispatches the operation. Leaves and views are only names for memory.
    pub const fn is_executed(self) -> bool {
        !matches!(self, Self::None | Self::View)
    }

    /// The operand whose memory the result shares by definition, whatever the memory plan.
    pub const fn alias_of(self) -> Option<usize> {
        match self {
            Self::KvScatter | Self::View => Some(0),
            _ => None,
        }
    }

    /// The operands over which the result may be written if they are not needed afterwards.
    ///
    /// For [`SwiGlu`](Self::SwiGlu) this is only `gate`: the unfused form writes `silu(gate)` before it reads `up`.
    pub const fn in_place_operands(self) -> &'static [usize] {
        match self {
            Self::Add | Self::Mul => &[0, 1],
            Self::Silu | Self::SwiGlu | Self::Rope => &[0],
            _ => &[],
        }
    }
}

impl fmt::Display for TensorOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How rotary embedding pairs the features of a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RopeStyle {
    /// Pair `i` is features `2i` and `2i + 1` (llama).
    Interleaved,
    /// Pair `i` is features `i` and `i + n_rot / 2` (GPT-NeoX, qwen2).
    NeoX,
}

impl RopeStyle {
    /// The two features of pair `i` of `n_rot / 2`.
    pub const fn pair(self, i: usize, n_rot: usize) -> (usize, usize) {
        match self {
            Self::Interleaved => (2 * i, 2 * i + 1),
            Self::NeoX => (i, i + n_rot / 2),
        }
    }
}

/// The compile-time numbers of an operation. Each operation takes exactly one variant; none has a default.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum OpParams {
    /// Operations without parameters.
    None,
    /// [`TensorOp::RmsNorm`].
    RmsNorm {
        /// Added to the mean square; finite, not negative.
        eps: f32,
    },
    /// [`TensorOp::Rope`].
    Rope {
        /// Which features form a pair.
        style: RopeStyle,
        /// Features of each head that are rotated: even, at most `head_dim`.
        n_rot: usize,
        /// Features of a head.
        head_dim: usize,
    },
    /// [`TensorOp::Attention`].
    Attention {
        /// Factor on the scores before the softmax, usually `1 / sqrt(head_dim)`; finite.
        scale: f32,
    },
    /// [`TensorOp::SoftMax`].
    SoftMax {
        /// Factor on the input; finite.
        scale: f32,
    },
    /// [`TensorOp::View`].
    View {
        /// First index of the outermost dimension.
        start: usize,
        /// Number of indices, at least 1.
        len: usize,
    },
}

impl OpParams {
    /// The variant's name, for messages.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::None => "none",
            Self::RmsNorm { .. } => "rms_norm",
            Self::Rope { .. } => "rope",
            Self::Attention { .. } => "attention",
            Self::SoftMax { .. } => "soft_max",
            Self::View { .. } => "view",
        }
    }
}

impl Hash for OpParams {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::mem::discriminant(self).hash(state);
        match *self {
            Self::None => {}
            Self::RmsNorm { eps } => eps.to_bits().hash(state),
            Self::Rope { style, n_rot, head_dim } => (style, n_rot, head_dim).hash(state),
            Self::Attention { scale } | Self::SoftMax { scale } => scale.to_bits().hash(state),
            Self::View { start, len } => (start, len).hash(state),
        }
    }
}

/// Nothing for [`OpParams::None`], else a list such as `eps=0.00001`.
impl fmt::Display for OpParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::RmsNorm { eps } => write!(f, "eps={eps:?}"),
            Self::Rope { style, n_rot, head_dim } => {
                write!(f, "style={style:?}, n_rot={n_rot}, head_dim={head_dim}")
            }
            Self::Attention { scale } | Self::SoftMax { scale } => write!(f, "scale={scale:?}"),
            Self::View { start, len } => write!(f, "rows={start}..{}", start.saturating_add(*len)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_place_operands_exist() {
        for op in TensorOp::ALL {
            assert!(op.in_place_operands().iter().all(|&i| i < op.operands().len()), "{op}");
            assert!(op.alias_of().is_none_or(|i| i < op.operands().len()), "{op}");
            assert!(op.operands().len() <= crate::graph::MAX_OPERANDS, "{op}");
        }
    }

    #[test]
    fn rope_pairs() {
        assert_eq!(RopeStyle::Interleaved.pair(3, 16), (6, 7));
        assert_eq!(RopeStyle::NeoX.pair(3, 16), (3, 11));
    }
}
