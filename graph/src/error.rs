//! Why a node was refused.

use tensor_formats::{ElementType, FormatError};

use crate::{ShapeError, TensorId, TensorOp};

/// A graph that cannot be built. The message names the node, the operation and the operands with their shapes.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// An operation whose operands or parameters do not fit.
    #[error("{node} = {op}({operands}): {reason}")]
    Op {
        /// The id that the node would have had.
        node: TensorId,
        /// The operation.
        op: TensorOp,
        /// The operands as text: name, id, type and shape of each.
        operands: String,
        /// What does not fit.
        reason: Reason,
    },
    /// A leaf that cannot exist.
    #[error("{node} = leaf \"{name}\": {reason}")]
    Leaf {
        /// The id that the leaf would have had.
        node: TensorId,
        /// The leaf's name.
        name: String,
        /// What does not fit.
        reason: Reason,
    },
    /// A method was given an id that the graph does not have.
    #[error("the graph has {nodes} nodes, there is no {id}")]
    NoSuchTensor {
        /// The id.
        id: TensorId,
        /// The number of nodes.
        nodes: usize,
    },
    /// Dimensions that are no shape.
    #[error(transparent)]
    Shape(#[from] ShapeError),
}

/// What is wrong with a node.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Too few or too many operands. A missing operand never has a default.
    #[error("takes {expected} operands, got {actual}")]
    Arity {
        /// Operands that the operation takes.
        expected: usize,
        /// Operands given.
        actual: usize,
    },
    /// An operand that the graph does not have.
    #[error("operand {operand} is {id}, but the graph has {nodes} nodes")]
    UnknownTensor {
        /// The operand's name.
        operand: &'static str,
        /// The id given.
        id: TensorId,
        /// The number of nodes.
        nodes: usize,
    },
    /// The wrong variant of [`OpParams`](crate::OpParams).
    #[error("takes parameters of kind {expected}, got {actual}")]
    Params {
        /// The variant that the operation takes.
        expected: &'static str,
        /// The variant given.
        actual: &'static str,
    },
    /// [`TensorOp::None`] was passed to `add_op`.
    #[error("leaves are added with add_leaf")]
    NotAnOperation,
    /// An operand of the wrong element type.
    #[error("{operand} has to be {expected}, is {actual}")]
    Type {
        /// The operand's name.
        operand: &'static str,
        /// The types that would do.
        expected: &'static str,
        /// The type it has.
        actual: ElementType,
    },
    /// An operand with the wrong number of dimensions.
    #[error("{operand} has to be of rank {expected}, is of rank {actual}")]
    Rank {
        /// The operand's name.
        operand: &'static str,
        /// Dimensions that it should have.
        expected: usize,
        /// Dimensions that it has.
        actual: usize,
    },
    /// A dimension that disagrees with another operand or a parameter.
    #[error("{what} has to be {expected}, is {actual}")]
    Size {
        /// Which size of which operand.
        what: &'static str,
        /// The size that follows from the other operands and the parameters.
        expected: usize,
        /// The size it has.
        actual: usize,
    },
    /// A size that has to be a multiple of another and is not.
    #[error("{what} ({actual}) has to be a multiple of {of} ({divisor})")]
    NotAMultiple {
        /// Which size.
        what: &'static str,
        /// The size.
        actual: usize,
        /// What it has to be a multiple of.
        of: &'static str,
        /// The value of that.
        divisor: usize,
    },
    /// A parameter out of its range.
    #[error("{what} has to be {requirement}, is {actual}")]
    Parameter {
        /// The parameter's name.
        what: &'static str,
        /// Its range.
        requirement: &'static str,
        /// Its value as text.
        actual: String,
    },
    /// A view that does not lie within its input.
    #[error("rows {start}..{start}+{len} are not within the outermost dimension of {outer}")]
    ViewRange {
        /// First row of the view.
        start: usize,
        /// Rows of the view.
        len: usize,
        /// Rows of the input.
        outer: usize,
    },
    /// The cache of a scatter is an intermediate, or a view. Its contents have to outlive the graph, and its result
    /// replaces every other name of the memory, so it has to be a leaf.
    #[error("{operand} has to be a leaf or the result of a kv_scatter into one")]
    NotALeaf {
        /// The operand's name.
        operand: &'static str,
    },
    /// An operand names memory as it was before a scatter wrote to it; use the scatter's result, or a view of that.
    #[error("{operand} {id} was overwritten by {by}: read {by}, or a view of it, instead")]
    Stale {
        /// The operand's name.
        operand: &'static str,
        /// The operand.
        id: TensorId,
        /// The scatter that wrote to the memory.
        by: TensorId,
    },
    /// The bytes of the result, or of all tensors together, do not fit in 63 bits.
    #[error("the tensor's size overflows")]
    Overflow,
    /// The element type does not allow the shape.
    #[error(transparent)]
    Format(#[from] FormatError),
}
