//! Memory planning: an offset in one workspace for every intermediate.

use crate::graph::ALIGNMENT;
use crate::groups::{Group, GroupCall, SymbolicGroup};
use crate::view::{BufferId, TensorView};
use crate::{ComputeGraph, OpCall, TensorId, TensorNode};

/// How [`ComputeGraph::plan_with`] lays out the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlanOptions {
    /// Give the memory of dead tensors to later ones.
    pub reuse: bool,
    /// Write results over a dying operand where the operation allows it.
    pub in_place: bool,
    /// Bytes left free before and after every tensor, rounded up to the alignment; without `reuse` nothing is ever
    /// placed there, so a test can see writes past the end of a tensor.
    pub guard_bytes: u32,
}

impl Default for PlanOptions {
    /// Reuse and in-place results, no guards.
    fn default() -> Self {
        Self { reuse: true, in_place: true, guard_bytes: 0 }
    }
}

/// What is executed as one.
#[derive(Debug, Clone, PartialEq)]
pub enum PlannedCall {
    /// An operation by itself.
    Op(TensorId, Box<OpCall>),
    /// Consecutive operations.
    Group(Box<Group>),
}

/// Where every tensor of one graph lies, and what its operations are on that memory.
#[derive(Debug, Clone, PartialEq)]
pub struct MemoryPlan {
    /// Bytes of the workspace that the backend provides, aligned to [`ALIGNMENT`]; 0 if none is needed.
    pub workspace_bytes: u64,
    views: Vec<TensorView>,
    in_place: Vec<Option<TensorId>>,
    calls: Vec<PlannedCall>,
    fingerprint: u64,
}

impl MemoryPlan {
    /// Where `id` lies, or `None` if the plan's graph has no such tensor.
    pub fn view(&self, id: TensorId) -> Option<TensorView> {
        self.views.get(id.index()).copied()
    }

    /// The views of all tensors, by [`TensorId::index`].
    pub fn views(&self) -> &[TensorView] {
        &self.views
    }

    /// The operand that the result `id` is written over, if it is.
    pub fn in_place_of(&self, id: TensorId) -> Option<TensorId> {
        self.in_place.get(id.index()).copied().flatten()
    }

    /// Operations and groups in execution order, with their operands resolved: what
    /// [`execute_graph`](crate::execute_graph) dispatches. Leaves and views are not among them.
    pub fn calls(&self) -> &[PlannedCall] {
        &self.calls
    }

    /// The groups among [`calls`](Self::calls).
    pub fn groups(&self) -> impl Iterator<Item = &Group> {
        self.calls.iter().filter_map(|call| match call {
            PlannedCall::Group(group) => Some(&**group),
            PlannedCall::Op(..) => None,
        })
    }

    /// The plan of `graph` executed in `groups`, which are in the order of execution.
    pub(crate) fn of(graph: &ComputeGraph, groups: &[SymbolicGroup], options: PlanOptions) -> Self {
        Planner::new(graph, groups, options).run()
    }

    /// Whether this plan was made for a graph equal to `graph`, names apart.
    pub fn fits(&self, graph: &ComputeGraph) -> bool {
        self.fingerprint == graph.fingerprint() && self.views.len() == graph.nodes().len()
    }
}

impl ComputeGraph {
    /// Assigns memory by liveness: a tensor's bytes are reused once its last reader is done, best fit first, and an
    /// elementwise result replaces a dying operand of the same extent. Outputs stay alive to the end.
    pub fn plan(&self) -> MemoryPlan {
        self.plan_with(PlanOptions::default())
    }

    /// [`plan`](Self::plan) with choices.
    pub fn plan_with(&self, options: PlanOptions) -> MemoryPlan {
        MemoryPlan::of(self, &[], options)
    }
}

/// State of one planning run. All tables are by node index.
struct Planner<'a> {
    graph: &'a ComputeGraph,
    groups: &'a [SymbolicGroup],
    options: PlanOptions,
    /// Bytes of the guards.
    guard: u64,
    /// Which of the groups a node belongs to.
    group: Vec<Option<usize>>,
    /// The index of the last node that reads the memory of a root; `usize::MAX` for outputs.
    last_read: Vec<usize>,
    /// The index of the node after which the memory of a root is free: the last that reads it, or the last of the last
    /// group that touches it.
    last_use: Vec<usize>,
    offset: Vec<u64>,
    in_place: Vec<Option<TensorId>>,
    /// Roots whose block an in-place result has taken over.
    taken: Vec<bool>,
    free: FreeList,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a ComputeGraph, groups: &'a [SymbolicGroup], options: PlanOptions) -> Self {
        let n = graph.nodes().len();
        let root = |id: TensorId| graph.node(id).root().index();
        let mut last_read: Vec<usize> = (0..n).collect();
        for (i, node) in graph.nodes().iter().enumerate() {
            node.inputs().iter().for_each(|&input| last_read[root(input)] = i);
        }
        graph.outputs().iter().for_each(|&output| last_read[root(output)] = usize::MAX);

        let (mut group, mut last_use) = (vec![None; n], last_read.clone());
        for (index, SymbolicGroup { ids, .. }) in groups.iter().enumerate() {
            let end = ids.last().map_or(0, |id| id.index());
            for &id in ids {
                group[id.index()] = Some(index);
                for &touched in graph.node(id).inputs().iter().chain([&id]) {
                    last_use[root(touched)] = last_use[root(touched)].max(end);
                }
            }
        }
        let (offset, in_place, taken) = (vec![0; n], vec![None; n], vec![false; n]);
        let (guard, free) = (u64::from(options.guard_bytes).next_multiple_of(ALIGNMENT), FreeList::default());
        Self { graph, groups, options, guard, group, last_read, last_use, offset, in_place, taken, free }
    }

    fn run(mut self) -> MemoryPlan {
        let nodes = self.graph.nodes();
        // dying[i]: the blocks that nothing reads after node i. A chain of in-place results moves its block along.
        let mut dying: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
        for (i, node) in nodes.iter().enumerate() {
            if !node.is_leaf() && node.root().index() == i {
                if let Some(operand) = self.dying_operand(i) {
                    let root = self.graph.node(operand).root().index();
                    self.in_place[i] = Some(operand);
                    self.offset[i] = self.offset[root];
                    self.taken[root] = true;
                } else {
                    self.offset[i] = self.allocate(node.bytes());
                }
                if self.last_use[i] != usize::MAX {
                    dying[self.last_use[i]].push(i);
                }
            }
            for root in std::mem::take(&mut dying[i]) {
                if self.options.reuse && !self.taken[root] {
                    self.free.release(self.padded(nodes[root].bytes(), self.offset[root]));
                }
            }
        }
        self.finish()
    }

    /// The operand that node `i` may be written over: `i` is its last reader, it fills its block exactly, it has the
    /// result's shape, and no other operand reads the same memory in a way that the operation, or the group that it is
    /// part of, does not allow.
    fn dying_operand(&self, i: usize) -> Option<TensorId> {
        let node = &self.graph.nodes()[i];
        let allowed = node.op().in_place_operands();
        let fills_block = |id: TensorId| {
            let tensor = self.graph.node(id);
            tensor.root_offset() == 0 && tensor.bytes() == self.graph.node(tensor.root()).bytes()
        };
        let root = |id: TensorId| self.graph.node(id).root();
        let dies = |id: TensorId| {
            self.last_read[root(id).index()] == i
                && !self.graph.node(root(id)).is_leaf()
                && self.graph.node(id).shape() == node.shape()
                && self.graph.node(id).dtype() == node.dtype()
                && fills_block(id)
                && node.inputs().iter().enumerate().all(|(operand, &other)| {
                    root(other) != root(id) || (allowed.contains(&operand) && fills_block(other))
                })
                && self.group_allows_over(i, root(id))
        };
        let candidates = allowed.iter().map(|&operand| node.inputs()[operand]);
        let dying = candidates.filter(|&id| self.options.in_place && dies(id));
        // The first; but a residual rather than a product, which a fused kernel never touches.
        let is_inner =
            |id: TensorId| self.group[i].is_some() && self.group[i] == self.group[root(id).index()];
        dying.min_by_key(|&id| is_inner(id))
    }

    /// Whether node `i` may be written over `root` as far as its group is concerned: over what the group made itself, or
    /// over the residual of a projection, if that is all that the group reads there.
    fn group_allows_over(&self, i: usize, root: TensorId) -> bool {
        let Some(index) = self.group[i] else { return true };
        if self.group[root.index()] == Some(index) {
            return true;
        }
        let GroupCall::ResidualProjection(projection) = &self.groups[index].call else { return false };
        let of = |id: TensorId| self.graph.node(id).root();
        let read_there = self.groups[index].call.operands().into_iter().filter(|&id| of(id) == root).count();
        of(projection.residual) == root && read_there == 1
    }

    fn allocate(&mut self, bytes: u64) -> u64 {
        let padded = bytes.next_multiple_of(ALIGNMENT) + 2 * self.guard;
        self.free.take(padded) + self.guard
    }

    /// The span that `allocate` took for a tensor.
    fn padded(&self, bytes: u64, offset: u64) -> Span {
        Span { start: offset - self.guard, end: offset + bytes.next_multiple_of(ALIGNMENT) + self.guard }
    }

    fn finish(self) -> MemoryPlan {
        let graph = self.graph;
        let view = |node: &TensorNode| {
            let root = node.root();
            let (buffer, base) = if graph.node(root).is_leaf() {
                (BufferId::Leaf(root), 0)
            } else {
                (BufferId::Workspace, self.offset[root.index()])
            };
            let offset = base + node.root_offset();
            TensorView { buffer, offset, shape: node.shape(), dtype: node.dtype() }
        };
        let views: Vec<TensorView> = graph.nodes().iter().map(view).collect();
        MemoryPlan {
            workspace_bytes: self.free.end,
            calls: graph.ids().filter_map(|id| self.call(&views, id)).collect(),
            views,
            in_place: self.in_place,
            fingerprint: graph.fingerprint(),
        }
    }

    /// What is executed where node `id` is in the order: of a group everything at its first node.
    fn call(&self, views: &[TensorView], id: TensorId) -> Option<PlannedCall> {
        let Some(index) = self.group[id.index()] else {
            return Some(PlannedCall::Op(id, Box::new(OpCall::resolve(self.graph, views, id)?)));
        };
        let group = &self.groups[index];
        (group.ids.first() == Some(&id))
            .then(|| PlannedCall::Group(Box::new(group.resolve(self.graph, views))))
    }
}

/// A range of bytes of the workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Span {
    start: u64,
    end: u64,
}

/// The free spans below `end`, sorted, never touching one another.
#[derive(Debug, Default)]
struct FreeList {
    spans: Vec<Span>,
    end: u64,
}

impl FreeList {
    /// The start of `bytes` free bytes: from the smallest span that holds them, else by growing the workspace.
    fn take(&mut self, bytes: u64) -> u64 {
        let fits = self.spans.iter().enumerate().filter(|(_, s)| s.end - s.start >= bytes);
        if let Some((i, _)) = fits.min_by_key(|(_, s)| s.end - s.start) {
            let start = self.spans[i].start;
            self.spans[i].start += bytes;
            if self.spans[i].start == self.spans[i].end {
                self.spans.remove(i);
            }
            return start;
        }
        // A free span at the very end is extended rather than left behind.
        let start = match self.spans.last() {
            Some(last) if last.end == self.end => {
                let start = last.start;
                self.spans.pop();
                start
            }
            _ => self.end,
        };
        self.end = start + bytes;
        start
    }

    fn release(&mut self, span: Span) {
        let at = self.spans.partition_point(|s| s.start < span.start);
        self.spans.insert(at, span);
        if self.spans.get(at + 1).is_some_and(|next| next.start == span.end) {
            self.spans[at].end = self.spans.remove(at + 1).end;
        }
        if at > 0 && self.spans[at - 1].end == self.spans[at].start {
            self.spans[at - 1].end = self.spans.remove(at).end;
        }
    }
}
