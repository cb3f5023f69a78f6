//! What a backend implements: one method for each operation, on resolved views.
//!
//! # Aliasing
//! The memory plan never gives two live tensors common bytes, with these exceptions, which a backend has to allow:
//! - [`Add`], [`Mul`]: `output` may be the same bytes as `a`, as `b`, or as both. (`b` as a broadcast vector never is.)
//! - [`Silu`], [`Rope`]: `output` may be the same bytes as `input`.
//! - [`SwiGlu`]: `output` may be the same bytes as `gate`, never those of `up`.
//! - Two operands that are only read may be the same bytes, or overlap as views of one tensor.
//!
//! An output that shares bytes with an operand shares all of them: same offset, same extent. All other outputs are
//! disjoint from all operands.
//!
//! # Contents of memory
//! A result's memory holds anything before the operation, not-a-numbers included, and the operation writes all of it.
//! A cache may hold anything at positions that no row has been scattered to.

use crate::view::TensorView;
use crate::{ComputeGraph, MemoryPlan, OpParams, RopeStyle, TensorId, TensorOp};

/// [`TensorOp::EmbedRows`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmbedRows {
    /// `[vocab, n]`, any weight type.
    pub table: TensorView,
    /// `[rows]` U32, each below `vocab`.
    pub tokens: TensorView,
    /// `[rows, n]` F32.
    pub output: TensorView,
}

/// [`TensorOp::RmsNorm`].
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

/// [`TensorOp::MulMat`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MulMat {
    /// `[out, in]`; its `dtype` says how it is stored.
    pub weight: TensorView,
    /// `[rows, in]`, F32 or Q8Act.
    pub input: TensorView,
    /// `[rows, out]` F32.
    pub output: TensorView,
}

/// [`TensorOp::Add`].
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

/// [`TensorOp::Mul`]; all three of one shape, F32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Mul {
    /// First factor.
    pub a: TensorView,
    /// Second factor.
    pub b: TensorView,
    /// Product.
    pub output: TensorView,
}

/// [`TensorOp::Silu`]; both of one shape, F32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Silu {
    /// Argument.
    pub input: TensorView,
    /// Result.
    pub output: TensorView,
}

/// [`TensorOp::SwiGlu`]; all three of one shape, F32.
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

/// [`TensorOp::Rope`].
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

/// [`TensorOp::KvScatter`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KvScatter {
    /// `[n_sequences, n_kv_heads, max_seq, head_dim]` F32, written in part.
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

/// [`TensorOp::Attention`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// `[rows, n_heads * head_dim]` F32.
    pub query: TensorView,
    /// `[n_sequences, n_kv_heads, max_seq, head_dim]` F32.
    pub keys: TensorView,
    /// As `keys`.
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

/// [`TensorOp::SoftMax`]; both of one shape, F32.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftMax {
    /// Scores.
    pub input: TensorView,
    /// Probabilities: each row sums to 1.
    pub output: TensorView,
    /// Factor on the scores.
    pub scale: f32,
}

/// [`TensorOp::Copy`]; both of one shape and any one type.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CopyTensor {
    /// Source.
    pub input: TensorView,
    /// Destination, disjoint from the source.
    pub output: TensorView,
}

/// [`TensorOp::QuantizeQ8`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct QuantizeQ8 {
    /// `[rows, n]` F32.
    pub input: TensorView,
    /// `[rows, n]` Q8Act.
    pub output: TensorView,
}

/// [`TensorOp::Argmax`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Argmax {
    /// `[rows, n]` F32.
    pub input: TensorView,
    /// `[rows]` U32.
    pub output: TensorView,
}

/// An operation with its operands resolved: what a node asks of a backend.
#[derive(Debug, Clone, Copy, PartialEq)]
#[allow(missing_docs)] // Each variant is the struct of its name.
#[non_exhaustive]
pub enum OpCall {
    EmbedRows(EmbedRows),
    RmsNorm(RmsNorm),
    MulMat(MulMat),
    Add(Add),
    Mul(Mul),
    Silu(Silu),
    SwiGlu(SwiGlu),
    Rope(Rope),
    KvScatter(KvScatter),
    Attention(Attention),
    SoftMax(SoftMax),
    Copy(CopyTensor),
    QuantizeQ8(QuantizeQ8),
    Argmax(Argmax),
}

/// An operation that a backend does not have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{backend} cannot run {op}: {reason}")]
pub struct DispatchError {
    /// The backend's name.
    pub backend: &'static str,
    /// The operation.
    pub op: TensorOp,
    /// Which type or size of it, and what would do.
    pub reason: String,
}

/// A backend: runs operations, or records them to be run.
///
/// Every method returns the number of launches that it really made: 0 is a correct answer for an operation that
/// needed none. The views' bounds, types and shapes agree as the structs say; the backend checks what only it knows,
/// that bound memory is large enough and that token ids, positions and sequences are in range.
pub trait KernelDispatch {
    /// What can go wrong. Backends usually have a variant for [`DispatchError`].
    type Error: std::error::Error + Send + Sync + 'static;

    /// Refuses what the backend cannot run. Called for every node before the first dispatch, so that nothing runs if
    /// anything cannot. A backend that keeps the default body of a fused operation checks the operations it consists of.
    ///
    /// # Errors
    /// An operation, type or size that the backend lacks.
    fn check(&self, call: &OpCall) -> Result<(), Self::Error>;

    /// [`TensorOp::EmbedRows`].
    ///
    /// # Errors
    /// The backend's own.
    fn embed_rows(&mut self, a: EmbedRows) -> Result<usize, Self::Error>;

    /// [`TensorOp::RmsNorm`].
    ///
    /// # Errors
    /// The backend's own.
    fn rms_norm(&mut self, a: RmsNorm) -> Result<usize, Self::Error>;

    /// [`TensorOp::MulMat`].
    ///
    /// # Errors
    /// The backend's own.
    fn mul_mat(&mut self, a: MulMat) -> Result<usize, Self::Error>;

    /// [`TensorOp::Add`].
    ///
    /// # Errors
    /// The backend's own.
    fn add(&mut self, a: Add) -> Result<usize, Self::Error>;

    /// [`TensorOp::Mul`].
    ///
    /// # Errors
    /// The backend's own.
    fn mul(&mut self, a: Mul) -> Result<usize, Self::Error>;

    /// [`TensorOp::Silu`].
    ///
    /// # Errors
    /// The backend's own.
    fn silu(&mut self, a: Silu) -> Result<usize, Self::Error>;

    /// [`TensorOp::Rope`].
    ///
    /// # Errors
    /// The backend's own.
    fn rope(&mut self, a: Rope) -> Result<usize, Self::Error>;

    /// [`TensorOp::KvScatter`].
    ///
    /// # Errors
    /// The backend's own.
    fn kv_scatter(&mut self, a: KvScatter) -> Result<usize, Self::Error>;

    /// [`TensorOp::Attention`].
    ///
    /// # Errors
    /// The backend's own.
    fn attention(&mut self, a: Attention) -> Result<usize, Self::Error>;

    /// [`TensorOp::SoftMax`].
    ///
    /// # Errors
    /// The backend's own.
    fn soft_max(&mut self, a: SoftMax) -> Result<usize, Self::Error>;

    /// [`TensorOp::Copy`].
    ///
    /// # Errors
    /// The backend's own.
    fn copy(&mut self, a: CopyTensor) -> Result<usize, Self::Error>;

    /// [`TensorOp::QuantizeQ8`].
    ///
    /// # Errors
    /// The backend's own.
    fn quantize_q8(&mut self, a: QuantizeQ8) -> Result<usize, Self::Error>;

    /// [`TensorOp::Argmax`].
    ///
    /// # Errors
    /// The backend's own.
    fn argmax(&mut self, a: Argmax) -> Result<usize, Self::Error>;

    /// [`TensorOp::SwiGlu`]. Fused; by default [`silu`](Self::silu) into the output, then [`mul`](Self::mul) in place.
    ///
    /// # Errors
    /// The backend's own.
    fn swi_glu(&mut self, a: SwiGlu) -> Result<usize, Self::Error> {
        let (silu, mul) = a.unfused();
        Ok(self.silu(silu)? + self.mul(mul)?)
    }
}

impl OpCall {
    /// What node `id` asks of a backend; `None` for leaves and views, which ask nothing, and for an id that the graph
    /// does not have. The plan has to be one of this graph.
    pub fn resolve(graph: &ComputeGraph, plan: &MemoryPlan, id: TensorId) -> Option<Self> {
        let (node, views) = (graph.nodes().get(id.index())?, plan.views());
        let output = *views.get(id.index())?;
        let input = |i: usize| views[node.inputs()[i].index()];
        Some(match (node.op(), node.params()) {
            (TensorOp::EmbedRows, _) => {
                Self::EmbedRows(EmbedRows { table: input(0), tokens: input(1), output })
            }
            (TensorOp::RmsNorm, OpParams::RmsNorm { eps }) => {
                Self::RmsNorm(RmsNorm { input: input(0), weight: input(1), output, eps })
            }
            (TensorOp::MulMat, _) => Self::MulMat(MulMat { weight: input(0), input: input(1), output }),
            (TensorOp::Add, _) => Self::Add(Add { a: input(0), b: input(1), output }),
            (TensorOp::Mul, _) => Self::Mul(Mul { a: input(0), b: input(1), output }),
            (TensorOp::Silu, _) => Self::Silu(Silu { input: input(0), output }),
            (TensorOp::SwiGlu, _) => Self::SwiGlu(SwiGlu { gate: input(0), up: input(1), output }),
            (TensorOp::Rope, OpParams::Rope { style, n_rot, head_dim }) => Self::Rope(Rope {
                input: input(0),
                positions: input(1),
                table: input(2),
                output,
                style,
                n_rot,
                head_dim,
                n_heads: output.shape.cols() / head_dim,
                max_seq: input(2).shape.outer(),
            }),
            (TensorOp::KvScatter, _) => {
                let [n_sequences, n_kv_heads, max_seq, head_dim] = cache_dims(&output)?;
                Self::KvScatter(KvScatter {
                    cache: output,
                    input: input(1),
                    positions: input(2),
                    sequences: input(3),
                    n_sequences,
                    n_kv_heads,
                    max_seq,
                    head_dim,
                })
            }
            (TensorOp::Attention, OpParams::Attention { scale }) => {
                let [n_sequences, n_kv_heads, max_seq, head_dim] = cache_dims(&input(1))?;
                Self::Attention(Attention {
                    query: input(0),
                    keys: input(1),
                    values: input(2),
                    positions: input(3),
                    sequences: input(4),
                    output,
                    scale,
                    n_heads: output.shape.cols() / head_dim,
                    n_kv_heads,
                    head_dim,
                    max_seq,
                    n_sequences,
                })
            }
            (TensorOp::SoftMax, OpParams::SoftMax { scale }) => {
                Self::SoftMax(SoftMax { input: input(0), output, scale })
            }
            (TensorOp::Copy, _) => Self::Copy(CopyTensor { input: input(0), output }),
            (TensorOp::QuantizeQ8, _) => Self::QuantizeQ8(QuantizeQ8 { input: input(0), output }),
            (TensorOp::Argmax, _) => Self::Argmax(Argmax { input: input(0), output }),
            // Leaves and views. The graph holds no other pairs: `add_op` checked the parameters' variant.
            (TensorOp::None | TensorOp::View, _) => return None,
            (TensorOp::RmsNorm | TensorOp::Rope | TensorOp::Attention | TensorOp::SoftMax, _) => return None,
        })
    }

    /// The operation.
    pub const fn op(&self) -> TensorOp {
        match self {
            Self::EmbedRows(_) => TensorOp::EmbedRows,
            Self::RmsNorm(_) => TensorOp::RmsNorm,
            Self::MulMat(_) => TensorOp::MulMat,
            Self::Add(_) => TensorOp::Add,
            Self::Mul(_) => TensorOp::Mul,
            Self::Silu(_) => TensorOp::Silu,
            Self::SwiGlu(_) => TensorOp::SwiGlu,
            Self::Rope(_) => TensorOp::Rope,
            Self::KvScatter(_) => TensorOp::KvScatter,
            Self::Attention(_) => TensorOp::Attention,
            Self::SoftMax(_) => TensorOp::SoftMax,
            Self::Copy(_) => TensorOp::Copy,
            Self::QuantizeQ8(_) => TensorOp::QuantizeQ8,
            Self::Argmax(_) => TensorOp::Argmax,
        }
    }

    /// The view that is written; for [`KvScatter`] the cache, of which only some rows are.
    pub const fn output(&self) -> TensorView {
        match self {
            Self::EmbedRows(a) => a.output,
            Self::RmsNorm(a) => a.output,
            Self::MulMat(a) => a.output,
            Self::Add(a) => a.output,
            Self::Mul(a) => a.output,
            Self::Silu(a) => a.output,
            Self::SwiGlu(a) => a.output,
            Self::Rope(a) => a.output,
            Self::KvScatter(a) => a.cache,
            Self::Attention(a) => a.output,
            Self::SoftMax(a) => a.output,
            Self::Copy(a) => a.output,
            Self::QuantizeQ8(a) => a.output,
            Self::Argmax(a) => a.output,
        }
    }

    /// Runs the operation: the one place that maps operations to methods.
    ///
    /// # Errors
    /// The backend's own.
    pub fn dispatch<D: KernelDispatch + ?Sized>(self, dispatcher: &mut D) -> Result<usize, D::Error> {
        match self {
            Self::EmbedRows(a) => dispatcher.embed_rows(a),
            Self::RmsNorm(a) => dispatcher.rms_norm(a),
            Self::MulMat(a) => dispatcher.mul_mat(a),
            Self::Add(a) => dispatcher.add(a),
            Self::Mul(a) => dispatcher.mul(a),
            Self::Silu(a) => dispatcher.silu(a),
            Self::SwiGlu(a) => dispatcher.swi_glu(a),
            Self::Rope(a) => dispatcher.rope(a),
            Self::KvScatter(a) => dispatcher.kv_scatter(a),
            Self::Attention(a) => dispatcher.attention(a),
            Self::SoftMax(a) => dispatcher.soft_max(a),
            Self::Copy(a) => dispatcher.copy(a),
            Self::QuantizeQ8(a) => dispatcher.quantize_q8(a),
            Self::Argmax(a) => dispatcher.argmax(a),
        }
    }
}

fn cache_dims(view: &TensorView) -> Option<[usize; 4]> {
    view.shape.dims().try_into().ok()
}
