//! The graph: nodes in execution order.

use std::hash::{Hash, Hasher};

use tensor_formats::ElementType;

use crate::error::{GraphError, Reason};
use crate::infer::infer;
use crate::{OpParams, Shape, TensorId, TensorOp};

/// The most operands of any operation.
pub(crate) const MAX_OPERANDS: usize = 5;

/// Tensors start at multiples of this many bytes.
pub const ALIGNMENT: u64 = 256;

/// A tensor and the operation that makes it.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorNode {
    name: String,
    op: TensorOp,
    params: OpParams,
    inputs: [TensorId; MAX_OPERANDS],
    n_inputs: u8,
    shape: Shape,
    dtype: ElementType,
    bytes: u64,
    /// The tensor that owns the memory: the node itself unless the operation makes an alias.
    root: TensorId,
    /// Where this tensor starts in its root, in bytes.
    root_offset: u64,
    /// The scatter that last wrote to the root before this tensor was named; the root itself if none did.
    version: TensorId,
}

impl TensorNode {
    /// The leaf's name, or what [`ComputeGraph::set_name`] gave; may be empty for operations.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operation; [`TensorOp::None`] for a leaf.
    pub const fn op(&self) -> TensorOp {
        self.op
    }

    /// The operation's parameters.
    pub const fn params(&self) -> OpParams {
        self.params
    }

    /// The operands, in the order of [`TensorOp::operands`].
    pub fn inputs(&self) -> &[TensorId] {
        &self.inputs[..self.n_inputs as usize]
    }

    /// The shape of the result.
    pub const fn shape(&self) -> Shape {
        self.shape
    }

    /// The element type of the result.
    pub const fn dtype(&self) -> ElementType {
        self.dtype
    }

    /// Bytes of the result.
    pub const fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether this is a leaf.
    pub const fn is_leaf(&self) -> bool {
        matches!(self.op, TensorOp::None)
    }

    /// The tensor whose memory this one lies in: itself, or for views and scatters what they are an alias of.
    pub const fn root(&self) -> TensorId {
        self.root
    }

    /// Where this tensor starts in [`root`](Self::root), in bytes.
    pub const fn root_offset(&self) -> u64 {
        self.root_offset
    }
}

/// A symbolic computation on typed, shaped tensors. No address appears in it.
///
/// Nodes are in the order in which they were added, which is the order of execution: operands exist before the
/// operation that reads them, so a graph has no cycles by construction. Nothing in it depends on hash order; equal
/// calls make equal graphs.
///
/// Memory is of three kinds. A *leaf* is bound by the backend. A result lies in the *workspace*. An *alias* shares
/// another tensor's memory: a view, or the cache that a scatter has written to. Once a scatter has written to a
/// cache, older names of it are refused as operands, so that every read sees what the order of nodes suggests.
#[derive(Debug, Clone, Default)]
pub struct ComputeGraph {
    nodes: Vec<TensorNode>,
    outputs: Vec<TensorId>,
    /// For each node that is a root, the last scatter into it (or itself).
    last_write: Vec<TensorId>,
    n_ops: usize,
    total_bytes: u64,
    /// Of the nodes. Outputs are hashed when it is asked for: when they were marked does not matter.
    fingerprint: Fnv,
}

impl ComputeGraph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a tensor whose memory the backend binds: a weight, a cache, step state.
    ///
    /// # Errors
    /// [`GraphError::Leaf`] if the type does not allow rows of that length, or if sizes overflow.
    pub fn add_leaf(
        &mut self,
        name: impl Into<String>,
        dtype: ElementType,
        shape: Shape,
    ) -> Result<TensorId, GraphError> {
        let (name, node) = (name.into(), self.next_id());
        match self.push(name, TensorOp::None, OpParams::None, &[], shape, dtype) {
            Ok(id) => Ok(id),
            Err((name, reason)) => Err(GraphError::Leaf { node, name, reason }),
        }
    }

    /// Adds an operation on `inputs`, in the order of [`TensorOp::operands`], and returns its result.
    ///
    /// # Errors
    /// [`GraphError::Op`] if an operand is missing, unknown, stale, or of the wrong type or shape, or if the
    /// parameters are not those of the operation. The graph is unchanged then.
    pub fn add_op(
        &mut self,
        op: TensorOp,
        inputs: &[TensorId],
        params: OpParams,
    ) -> Result<TensorId, GraphError> {
        let checked = self.check_op(op, inputs, params);
        let pushed = checked.and_then(|(shape, dtype)| {
            self.push(String::new(), op, params, inputs, shape, dtype).map_err(|(_, reason)| reason)
        });
        pushed.map_err(|reason| GraphError::Op {
            node: self.next_id(),
            op,
            operands: self.describe(op, inputs),
            reason,
        })
    }

    /// Keeps `id` readable after the last operation: its memory is never reused. A cache, or a view of one, is then as
    /// the last scatter left it, whichever of its names is marked.
    ///
    /// # Errors
    /// [`GraphError::NoSuchTensor`].
    pub fn mark_output(&mut self, id: TensorId) -> Result<(), GraphError> {
        self.get(id)?;
        if !self.outputs.contains(&id) {
            self.outputs.push(id);
        }
        Ok(())
    }

    /// Names a tensor, for dumps and error messages.
    ///
    /// # Errors
    /// [`GraphError::NoSuchTensor`].
    pub fn set_name(&mut self, id: TensorId, name: impl Into<String>) -> Result<(), GraphError> {
        self.get(id)?;
        self.nodes[id.index()].name = name.into();
        Ok(())
    }

    /// The nodes in execution order; a node's position is its [`TensorId::index`].
    pub fn nodes(&self) -> &[TensorNode] {
        &self.nodes
    }

    /// The ids of all nodes, in execution order.
    pub fn ids(&self) -> impl DoubleEndedIterator<Item = TensorId> + use<> {
        (0..self.nodes.len() as u32).map(TensorId)
    }

    /// The node of `id`.
    ///
    /// # Errors
    /// [`GraphError::NoSuchTensor`] for an id of a larger graph.
    pub fn get(&self, id: TensorId) -> Result<&TensorNode, GraphError> {
        self.nodes.get(id.index()).ok_or(GraphError::NoSuchTensor { id, nodes: self.nodes.len() })
    }

    /// The marked outputs, in the order in which they were marked.
    pub fn outputs(&self) -> &[TensorId] {
        &self.outputs
    }

    /// The leaves, in the order in which they were added.
    pub fn leaves(&self) -> impl Iterator<Item = TensorId> + '_ {
        self.ids().filter(|id| self.nodes[id.index()].is_leaf())
    }

    /// The number of operations that executing the graph dispatches: all nodes but leaves and views.
    pub fn n_ops(&self) -> usize {
        self.n_ops
    }

    /// A hash of everything that determines a memory plan and an execution: operations, parameters, operands, shapes,
    /// types and outputs, but not names. Stable within a process.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = self.fingerprint.clone();
        self.outputs.hash(&mut hasher);
        hasher.finish()
    }

    /// The node of an id that is known to be of this graph.
    pub(crate) fn node(&self, id: TensorId) -> &TensorNode {
        &self.nodes[id.index()]
    }

    /// Whether some scatter writes to the leaf that `id` lies in.
    pub(crate) fn is_written(&self, id: TensorId) -> bool {
        let root = self.node(id).root;
        self.last_write[root.index()] != root
    }

    fn next_id(&self) -> TensorId {
        // `push` refuses a node before the count could exceed u32.
        TensorId(self.nodes.len() as u32)
    }

    fn check_op(
        &self,
        op: TensorOp,
        inputs: &[TensorId],
        params: OpParams,
    ) -> Result<(Shape, ElementType), Reason> {
        if op == TensorOp::None {
            return Err(Reason::NotAnOperation);
        }
        let names = op.operands();
        if inputs.len() != names.len() {
            return Err(Reason::Arity { expected: names.len(), actual: inputs.len() });
        }
        for (&id, &operand) in inputs.iter().zip(names) {
            let node = self.nodes.get(id.index()).ok_or(Reason::UnknownTensor {
                operand,
                id,
                nodes: self.nodes.len(),
            })?;
            let by = self.last_write[node.root.index()];
            if node.version != by {
                return Err(Reason::Stale { operand, id, by });
            }
        }
        let mut operands = [(Shape::vector(1), ElementType::F32); MAX_OPERANDS];
        for (slot, &id) in operands.iter_mut().zip(inputs) {
            *slot = (self.node(id).shape, self.node(id).dtype);
        }
        let result = infer(op, &params, &operands[..inputs.len()])?;
        if op == TensorOp::KvScatter {
            let cache = self.node(inputs[0]);
            if !(cache.is_leaf() || cache.op == TensorOp::KvScatter) {
                return Err(Reason::NotALeaf { operand: names[0] });
            }
        }
        Ok(result)
    }

    fn push(
        &mut self,
        name: String,
        op: TensorOp,
        params: OpParams,
        inputs: &[TensorId],
        shape: Shape,
        dtype: ElementType,
    ) -> Result<TensorId, (String, Reason)> {
        let sized = (|| {
            let bytes = dtype.matrix_bytes(shape.rows(), shape.cols())? as u64;
            let total =
                bytes.checked_next_multiple_of(ALIGNMENT).and_then(|b| b.checked_add(self.total_bytes));
            match total {
                Some(total) if total <= i64::MAX as u64 && self.nodes.len() < u32::MAX as usize => {
                    Ok((bytes, total))
                }
                _ => Err(Reason::Overflow),
            }
        })();
        let (bytes, total_bytes) = match sized {
            Ok(sizes) => sizes,
            Err(reason) => return Err((name, reason)),
        };

        let id = self.next_id();
        let (root, root_offset) = match op.alias_of().map(|operand| self.node(inputs[operand])) {
            Some(of) => (of.root, of.root_offset + view_offset(of, &params)),
            None => (id, 0),
        };
        self.last_write.push(id);
        if op == TensorOp::KvScatter {
            self.last_write[root.index()] = id;
        }
        let mut all = [TensorId(0); MAX_OPERANDS];
        all[..inputs.len()].copy_from_slice(inputs);
        (op, params, inputs, shape, dtype).hash(&mut self.fingerprint);
        self.n_ops += usize::from(op.is_executed());
        self.total_bytes = total_bytes;
        self.nodes.push(TensorNode {
            name,
            op,
            params,
            inputs: all,
            n_inputs: inputs.len() as u8,
            shape,
            dtype,
            bytes,
            root,
            root_offset,
            version: self.last_write[root.index()],
        });
        Ok(id)
    }

    /// Name, id, type and shape of every operand, for messages.
    fn describe(&self, op: TensorOp, inputs: &[TensorId]) -> String {
        let mut text = Vec::new();
        for (i, &id) in inputs.iter().enumerate() {
            let operand = op.operands().get(i).copied().unwrap_or("?");
            text.push(match self.nodes.get(id.index()) {
                Some(node) if node.name.is_empty() => format!("{operand} {id} {} {}", node.dtype, node.shape),
                Some(node) => format!("{operand} {id} \"{}\" {} {}", node.name, node.dtype, node.shape),
                None => format!("{operand} {id}"),
            });
        }
        text.join(", ")
    }
}

/// Where a view starts in its input, in bytes; 0 for a scatter.
fn view_offset(input: &TensorNode, params: &OpParams) -> u64 {
    match *params {
        OpParams::View { start, .. } => {
            // Of a vector, what lies at a byte of its own is a block.
            let unit = if input.shape.rank() == 1 { input.dtype.block_elements() } else { 1 };
            input.bytes / (input.shape.outer() / unit) as u64 * (start / unit) as u64
        }
        _ => 0,
    }
}

/// FNV-1a, 64 bit: a hash whose value does not change between processes of one build.
#[derive(Debug, Clone)]
struct Fnv(u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
}
