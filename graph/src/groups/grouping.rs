//! Which operations of a graph run as one.

use super::kinds::{GroupCall, GroupKind};
use super::matcher::{Match, Matcher};
use crate::dispatch::OpCall;
use crate::view::TensorView;
use crate::{ComputeGraph, KernelDispatch, MemoryPlan, PlanOptions, TensorId};

/// A group with its tensors resolved: what it asks of a backend as one, and the parts that it consists of.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    call: GroupCall,
    ids: Vec<TensorId>,
    parts: Vec<OpCall>,
}

impl Group {
    /// The group as one operation.
    pub const fn call(&self) -> &GroupCall {
        &self.call
    }

    /// The kind.
    pub const fn kind(&self) -> GroupKind {
        self.call.kind()
    }

    /// Its operations in execution order. Run one after the other they do the same.
    pub fn parts(&self) -> &[OpCall] {
        &self.parts
    }

    /// The nodes of [`parts`](Self::parts).
    pub fn ids(&self) -> &[TensorId] {
        &self.ids
    }

    /// Runs the group: the one place that maps kinds to methods.
    ///
    /// # Errors
    /// The backend's own.
    pub fn dispatch<D: KernelDispatch + ?Sized>(&self, dispatcher: &mut D) -> Result<usize, D::Error> {
        match &self.call {
            GroupCall::AttentionInput(a) => dispatcher.attention_input(a, &self.parts),
            GroupCall::ResidualProjection(a) => dispatcher.residual_projection(a, &self.parts),
            GroupCall::GatedProjection(a) => dispatcher.gated_projection(a, &self.parts),
            GroupCall::Head(a) => dispatcher.head(a, &self.parts),
        }
    }
}

/// A group of a graph whose tensors have no memory yet.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct SymbolicGroup {
    pub(crate) call: GroupCall<TensorId>,
    /// Its operations, one after the other in the order of execution.
    pub(crate) ids: Vec<TensorId>,
}

impl SymbolicGroup {
    /// The group when its tensors are at `views`.
    pub(crate) fn resolve(&self, graph: &ComputeGraph, views: &[TensorView]) -> Group {
        let parts = self.ids.iter().filter_map(|&id| OpCall::resolve(graph, views, id)).collect();
        Group { call: self.call.map(|id| views[id.index()]), ids: self.ids.clone(), parts }
    }
}

/// A graph with the groups that its operations are executed in, made by [`ComputeGraph::group`].
#[derive(Debug, Clone)]
pub struct Grouping<'a> {
    graph: &'a ComputeGraph,
    groups: Vec<SymbolicGroup>,
}

impl ComputeGraph {
    /// Finds the [groups](crate::groups) of consecutive operations that `accept` takes. Where several kinds would do, the
    /// first that is accepted is formed; no operation is in two groups.
    ///
    /// This is decided before memory is planned, since the plan depends on it: the views that `accept` sees have the
    /// shapes and types of the final ones, but not their places.
    pub fn group(&self, mut accept: impl FnMut(&Group) -> bool) -> Grouping<'_> {
        let apart = self.plan_with(PlanOptions { reuse: false, in_place: false, guard_bytes: 0 });
        let executed: Vec<TensorId> = self.ids().filter(|&id| self.node(id).op().is_executed()).collect();
        let matcher = Matcher::new(self);
        let mut groups = Vec::new();
        let mut rest = executed.as_slice();
        while !rest.is_empty() {
            let found = GroupKind::ALL.iter().filter_map(|&kind| matcher.find(kind, rest));
            let mut found =
                found.map(|Match { call, len }| SymbolicGroup { call, ids: rest[..len].to_vec() });
            let accepted = found.find(|group| accept(&group.resolve(self, apart.views())));
            rest = &rest[accepted.as_ref().map_or(1, |group| group.ids.len())..];
            groups.extend(accepted);
        }
        Grouping { graph: self, groups }
    }
}

impl Grouping<'_> {
    /// Plans memory for the graph executed in these groups: see [`groups`](crate::groups) for what that promises.
    pub fn plan(&self) -> MemoryPlan {
        self.plan_with(PlanOptions::default())
    }

    /// [`plan`](Self::plan) with choices.
    pub fn plan_with(&self, options: PlanOptions) -> MemoryPlan {
        MemoryPlan::of(self.graph, &self.groups, options)
    }

    /// Kind and operations of each group, in execution order.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (GroupKind, &[TensorId])> {
        self.groups.iter().map(|group| (group.call.kind(), group.ids.as_slice()))
    }

    /// The number of calls that executing the plan makes: groups, and operations outside of them.
    pub fn n_calls(&self) -> usize {
        let grouped: usize = self.groups.iter().map(|group| group.ids.len()).sum();
        self.graph.n_ops() - grouped + self.groups.len()
    }

    /// The graph as [`ComputeGraph::to_dot`] draws it, with a frame around each group.
    pub fn to_dot(&self) -> String {
        crate::display::to_dot(self.graph, self.groups())
    }
}
