//! The memory of groups, checked by a simulation that derives operands and results from the graph alone, and by running
//! groups as fused kernels.

use graph::conformance::Rng;
use graph::reference::{ReferenceDispatch, to_u32_bytes};
use graph::{
    BufferId, ComputeGraph, Group, GroupKind, KernelDispatch, MemoryPlan, PlanOptions, TensorId, TensorOp,
    TensorView, execute_graph,
};
use proptest::prelude::*;
use tensor_formats::ElementType::{F16, F32, Q8_0};

use super::build::{HIDDEN, Model, Order, ROWS};
use super::fused::{Fused, POISON};
use crate::support::leaf;

/// Executes `g` on an abstract memory in which every byte remembers which value was written to it: in the given runs as
/// one, and in them by their parts.
fn simulate(g: &ComputeGraph, groups: &[(GroupKind, Vec<TensorId>)], plan: &MemoryPlan) {
    let mut memory = Memory { g, plan, bytes: vec![None; plan.workspace_bytes as usize] };
    for id in g.ids().filter(|&id| g.get(id).unwrap().op().is_executed()) {
        match groups.iter().find(|(_, ids)| ids.contains(&id)) {
            None => memory.operation(id),
            Some((kind, ids)) if ids[0] == id => {
                let mut by_parts = Memory { bytes: memory.bytes.clone(), ..memory };
                ids.iter().for_each(|&id| by_parts.operation(id));
                memory.group(*kind, ids);
                results(g, ids).for_each(|id| by_parts.assert_holds(id, "of the parts"));
            }
            Some(_) => {}
        }
    }
    g.outputs().iter().for_each(|&output| memory.assert_holds(output, "at the end"));
}

/// What leaves a run, caches apart: what others or nobody reads.
fn results(g: &ComputeGraph, ids: &[TensorId]) -> impl Iterator<Item = TensorId> {
    let is_result = |&id: &TensorId| {
        let mut readers = g.ids().filter(|&reader| g.get(reader).unwrap().inputs().contains(&id)).peekable();
        g.outputs().contains(&id) || readers.peek().is_none() || readers.any(|reader| !ids.contains(&reader))
    };
    let in_workspace = |&id: &TensorId| g.get(id).unwrap().op() != TensorOp::KvScatter;
    ids.iter().copied().filter(in_workspace).filter(is_result).collect::<Vec<_>>().into_iter()
}

struct Memory<'a> {
    g: &'a ComputeGraph,
    plan: &'a MemoryPlan,
    /// The value in memory is named by the node that computed it; `None` is garbage.
    bytes: Vec<Option<TensorId>>,
}

impl Memory<'_> {
    fn view(&self, id: TensorId) -> TensorView {
        self.plan.view(id).unwrap()
    }

    fn fill(&mut self, id: TensorId, value: Option<TensorId>) {
        let view = self.view(id);
        if view.buffer == BufferId::Workspace {
            self.bytes[view.offset as usize..view.end() as usize].fill(value);
        }
    }

    fn assert_holds(&self, id: TensorId, when: &str) {
        let (view, owner) = (self.view(id), self.g.get(id).unwrap().root());
        if view.buffer == BufferId::Workspace {
            let span = &self.bytes[view.offset as usize..view.end() as usize];
            assert!(span.iter().all(|&value| value == Some(owner)), "{id} is gone {when}\n{}", self.g);
        }
    }

    fn operation(&mut self, id: TensorId) {
        let node = self.g.get(id).unwrap();
        node.inputs().iter().for_each(|&input| self.assert_holds(input, &format!("when {id} reads it")));
        self.fill(id, Some(node.root()));
    }

    fn group(&mut self, kind: GroupKind, ids: &[TensorId]) {
        let inputs = ids.iter().flat_map(|&id| self.g.get(id).unwrap().inputs());
        let operands: Vec<TensorId> =
            inputs.copied().filter(|&id| !ids.contains(&self.g.get(id).unwrap().root())).collect();
        operands
            .iter()
            .for_each(|&id| self.assert_holds(id, &format!("when the {kind} at {} reads it", ids[0])));
        let results: Vec<TensorId> = results(self.g, ids).collect();
        let root = |id: TensorId| self.g.get(id).unwrap().root();
        for &id in ids.iter().filter(|&&id| root(id) == id) {
            let written = self.view(id);
            for &operand in operands.iter().filter(|&&operand| self.view(operand).overlaps(&written)) {
                // Only the sum of a residual projection, over the residual, which nothing else of the group reads.
                let last = ids[ids.len() - 1];
                let readers = ids.iter().flat_map(|&id| self.g.get(id).unwrap().inputs());
                let allowed = kind == GroupKind::ResidualProjection
                    && id == last
                    && self.view(operand).same_bytes(&written)
                    && self.g.get(last).unwrap().inputs().contains(&operand)
                    && readers.filter(|&&read| root(read) == root(operand)).count() == 1;
                assert!(
                    allowed,
                    "{id} of the {kind} at {} is over its operand {operand}\n{}",
                    ids[0], self.g
                );
            }
            for &other in ids.iter().filter(|&&other| other > id && root(other) == other) {
                if self.view(other).overlaps(&written) {
                    let op = self.g.get(id).unwrap().op();
                    assert!(!matches!(op, TensorOp::RmsNorm | TensorOp::QuantizeQ8), "{other} is over {id}");
                    assert!(!results.contains(&id), "the result {id} is overwritten by {other}");
                    assert!(self.view(other).same_bytes(&written), "{other} is partly over {id}");
                }
            }
        }
        ids.iter().for_each(|&id| self.fill(id, None));
        results.iter().for_each(|&id| self.fill(id, Some(id)));
    }
}

/// A piece of a graph: what it is, and which of the earlier tensors it reads, modulo what there is.
#[derive(Debug, Clone, Copy)]
struct Recipe {
    kind: u8,
    a: usize,
    b: usize,
    flags: u8,
}

fn build(recipes: &[Recipe]) -> ComputeGraph {
    let mut m = Model::new(F32, false, false);
    let mut tensors = vec![leaf(&mut m.g, "x", F32, &[ROWS, HIDDEN])];
    // What dies is written over; a leaf never is.
    tensors.push(m.g.copy(tensors[0]).unwrap());
    for r in recipes {
        let [bias, quantised, q8, first] = [0, 1, 2, 3].map(|bit| r.flags >> bit & 1 == 1);
        m.bias = bias;
        m.weights = if quantised { Q8_0 } else { [F32, F16][r.b % 2] };
        m.q8 = q8 && quantised;
        m.order = [Order::QueryLast, Order::Breadth, Order::QueryFirst][r.b % 3];
        let shape = |m: &Model, id: TensorId| m.g.get(id).unwrap().shape();
        let pick = |m: &Model, n: usize, fits: &dyn Fn(graph::Shape) -> bool| {
            let fitting: Vec<TensorId> = tensors.iter().copied().filter(|&id| fits(shape(m, id))).collect();
            // The latest most of the time, as in a chain of layers.
            fitting[fitting.len() - 1 - (n % 7).min(n % fitting.len())]
        };
        let a = pick(&m, r.a, &|s| s.outer() == ROWS);
        let b = pick(&m, r.b, &|s| s.outer() == ROWS && s.cols() == HIDDEN);
        let made = match r.kind % 16 {
            0..=2 => {
                let input = m.attention_input(a);
                if first { m.attention(input) } else { input[0] }
            }
            3..=5 => m.residual(a, b, first),
            6 => m.residual(b, b, first),
            7 | 8 => m.gated(a, [HIDDEN, 64][r.b % 2], first),
            9 => {
                let from = if first { m.g.view(a, 1, 2).unwrap() } else { a };
                m.head(from)[0]
            }
            10 => m.g.silu(a).unwrap(),
            11 => m.g.add(b, tensors[1]).unwrap(),
            12 => m.g.view(a, 0, if first { ROWS } else { 1 + r.b % ROWS }).unwrap(),
            13 => m.layer(b),
            // Something leaves what might be a group.
            kind => {
                let ids: Vec<TensorId> = m.g.ids().collect();
                let id = ids[ids.len() - 1 - r.a % ids.len().min(12)];
                if kind == 14 && !m.g.get(id).unwrap().is_leaf() {
                    m.g.mark_output(id).unwrap();
                } else {
                    // A cache whose name is out of date is refused, which is as well.
                    let _ = m.g.copy(id);
                }
                continue;
            }
        };
        tensors.push(made);
    }
    let last = tensors[tensors.len() - 1];
    m.g.mark_output(last).unwrap();
    m.g
}

fn recipes() -> impl Strategy<Value = Vec<Recipe>> {
    let recipe = (any::<u8>(), 0..64usize, 0..64usize, any::<u8>());
    prop::collection::vec(recipe.prop_map(|(kind, a, b, flags)| Recipe { kind, a, b, flags }), 1..12)
}

/// The bytes of all outputs and caches after running `g` on random leaves.
fn run<D: KernelDispatch>(
    g: &ComputeGraph,
    plan: &MemoryPlan,
    seed: &str,
    wrap: impl Fn(ReferenceDispatch) -> D,
    unwrap: impl Fn(D) -> ReferenceDispatch,
) -> Vec<Vec<u8>> {
    let mut rng = Rng::from_name(seed);
    let mut memory = ReferenceDispatch::new(plan, POISON);
    for id in g.leaves() {
        let node = g.get(id).unwrap();
        let bytes = match node.name() {
            "positions" => to_u32_bytes(&[3, 8, 0, 4]),
            "sequences" => to_u32_bytes(&[1, 0, 2, 1]),
            _ => rng.weights(node.dtype(), node.shape().elements(), 0.3).unwrap(),
        };
        memory.bind(id, bytes).unwrap();
    }
    let mut backend = wrap(memory);
    execute_graph(g, plan, &mut backend).unwrap();
    let memory = unwrap(backend);
    let caches = g.leaves().filter(|&id| matches!(g.get(id).unwrap().name(), "keys" | "values"));
    let read = |id| memory.bytes(&plan.view(id).unwrap()).unwrap().to_vec();
    g.outputs().iter().copied().chain(caches).map(read).collect()
}

fn by_parts(g: &ComputeGraph, plan: &MemoryPlan, seed: &str) -> Vec<Vec<u8>> {
    run(g, plan, seed, |inner| inner, |inner| inner)
}

fn fused(g: &ComputeGraph, plan: &MemoryPlan, seed: &str) -> Vec<Vec<u8>> {
    run(g, plan, seed, Fused::new, |fused| fused.inner)
}

/// Accepts a group for each bit that is set.
fn choose(mut mask: u32) -> impl FnMut(&Group) -> bool {
    move |_| {
        mask = mask.rotate_right(1);
        mask >> 31 == 1
    }
}

const OPTIONS: [PlanOptions; 4] = [
    PlanOptions { reuse: true, in_place: true, guard_bytes: 0 },
    PlanOptions { reuse: true, in_place: false, guard_bytes: 0 },
    PlanOptions { reuse: false, in_place: true, guard_bytes: 256 },
    PlanOptions { reuse: true, in_place: true, guard_bytes: 300 },
];

proptest! {
    #[test]
    fn a_group_never_writes_what_it_reads(recipes in recipes(), mask in prop_oneof![any::<u32>(), Just(u32::MAX)]) {
        let g = build(&recipes);
        let grouping = g.group(choose(mask));
        let groups: Vec<_> = grouping.groups().map(|(kind, ids)| (kind, ids.to_vec())).collect();
        for options in OPTIONS {
            let plan = grouping.plan_with(options);
            prop_assert_eq!(plan.calls().len(), grouping.n_calls());
            simulate(&g, &groups, &plan);
        }
    }

    #[test]
    fn fused_groups_compute_what_their_parts_do(
        recipes in recipes(),
        mask in prop_oneof![any::<u32>(), Just(u32::MAX)],
        seed in "[a-z]{8}",
    ) {
        let g = build(&recipes);
        let apart = g.plan_with(PlanOptions { reuse: false, in_place: false, guard_bytes: 0 });
        let expected = by_parts(&g, &apart, &seed);
        let grouping = g.group(choose(mask));
        let plan = grouping.plan();
        prop_assert_eq!(&expected, &fused(&g, &plan, &seed));
        prop_assert_eq!(&expected, &by_parts(&g, &plan, &seed));
        prop_assert_eq!(&expected, &fused(&g, &grouping.plan_with(OPTIONS[2]), &seed));
    }
}

/// A chain of layers whose memory is used again and again.
fn layers() -> ComputeGraph {
    let mut m = Model::new(F32, false, true);
    let mut x = leaf(&mut m.g, "x", F32, &[ROWS, HIDDEN]);
    for _ in 0..3 {
        x = m.layer(x);
    }
    let [_, token] = m.head(x);
    m.g.mark_output(token).unwrap();
    m.g
}

/// A projection of a tensor that is added to itself, through a view or not.
fn multiplied_residual(view: bool) -> (ComputeGraph, [TensorId; 3]) {
    let mut m = Model::new(F32, false, false);
    let x = leaf(&mut m.g, "x", F32, &[ROWS, HIDDEN]);
    let x = m.g.copy(x).unwrap();
    let input = if view { m.g.view(x, 0, ROWS).unwrap() } else { x };
    let y = m.residual(input, x, false);
    (m.g, [x, input, y])
}

/// The simulation has to notice a plan that knows nothing of groups.
#[test]
fn the_simulation_sees_what_a_plan_without_groups_does() {
    for (g, expected) in [(layers(), "is partly over"), (multiplied_residual(false).0, "is over its operand")]
    {
        let groups: Vec<_> = g.group(|_| true).groups().map(|(kind, ids)| (kind, ids.to_vec())).collect();
        let panic = std::panic::catch_unwind(|| simulate(&g, &groups, &g.plan())).unwrap_err();
        let message = panic.downcast_ref::<String>().unwrap();
        assert!(message.contains(expected), "{message}");
    }
}

#[test]
fn a_residual_stream_stays_in_place() {
    let g = layers();
    let plan = g.group(|_| true).plan();
    let in_place: Vec<bool> = plan
        .groups()
        .filter_map(|group| match group.call() {
            graph::GroupCall::ResidualProjection(a) => Some(a.output.same_bytes(&a.residual)),
            _ => None,
        })
        .collect();
    // The first residual is a leaf.
    assert_eq!(in_place, [false, true, true, true, true, true]);
}

#[test]
fn a_residual_that_is_multiplied_too_is_kept() {
    for view in [false, true] {
        let (g, [x, input, y]) = multiplied_residual(view);
        assert_eq!(g.plan().in_place_of(y), Some(x), "the product has been computed by then");
        let grouped = g.group(|_| true).plan().in_place_of(y);
        assert!(![Some(x), Some(input)].contains(&grouped), "and here it has not");
    }
}

#[test]
fn groups_cost_little_memory() {
    let g = layers();
    let (alone, grouped) = (g.plan().workspace_bytes, g.group(|_| true).plan().workspace_bytes);
    assert!(grouped <= alone * 2, "{grouped} bytes instead of {alone}");
}
