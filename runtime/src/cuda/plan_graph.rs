//! A plan as a CUDA graph, built node by node.

use std::any::Any;
use std::sync::Arc;

use gpu_driver::{
    Conditional, Dependency, DriverError, Graph, GraphExec, KernelNode, MemsetValue, NodeId, Region, Stream,
};

use super::error::CudaError;
use super::loaded::{LoadedPlan, LoadedStep};
use super::memory::{Allocation, DeviceMemory};
use super::memory_map::Span;

/// An instantiated CUDA graph with one node for each step of a plan and the plan's edges, or a loop over several runs of
/// a plan.
///
/// Nothing is captured from a stream: kernels are added with `cuGraphAddKernelNode`, copies and fills with their
/// counterparts, and the dependencies are those that [`LaunchPlan::edges`](super::plan::LaunchPlan::edges) derives:
/// programmatic ones where a kernel waits by itself for the only step that it depends on and the driver knows such edges
/// (from CUDA 12.3 on). The nodes own the kernels'
/// modules and the memory, so the graph can outlive the plan.
#[derive(Debug)]
pub struct PlanGraph {
    exec: GraphExec,
    graph: Graph,
}

impl PlanGraph {
    /// Builds and instantiates the graph of `plan`, and moves it to the device in the order of `stream`.
    ///
    /// # Errors
    /// The driver's, with the step that it was about.
    pub fn build(plan: &LoadedPlan, stream: &Stream) -> Result<Self, CudaError> {
        let mut graph = Self::empty(stream)?;
        add_runs(&mut graph, plan, 1, None)?;
        Self::instantiate(graph, stream)
    }

    /// A loop on the device: `runs` runs of `plan`, one after the other, then one of `end`, and all of that again as long
    /// as the condition that comes with it is not 0. It is 1 whenever a launch begins, and `end` is to set it: its kernels
    /// look at nothing that a plan writes before they wait.
    ///
    /// Nodes and edges are those of a plan that has the steps so many times
    /// ([`LaunchPlan::edges_of_runs`](super::plan::LaunchPlan::edges_of_runs)). Edges from one run to the next are full.
    ///
    /// # Errors
    /// As [`build`](Self::build); a driver that has no loops, which CUDA 12.4 introduced.
    pub fn looped(
        plan: &LoadedPlan,
        stream: &Stream,
        runs: usize,
        end: &LoadedPlan,
    ) -> Result<(Self, Conditional), CudaError> {
        let mut graph = Self::empty(stream)?;
        let condition = graph.conditional(1).map_err(CudaError::driver("making the condition of a loop"))?;
        let fill = |body: &mut Graph| add_runs(body, plan, runs, Some(end)).map_err(BodyError::Plan);
        match graph.add_while(condition, &[], fill) {
            Ok(_) => Ok((Self::instantiate(graph, stream)?, condition)),
            Err(BodyError::Plan(error)) => Err(error),
            Err(BodyError::Driver(error)) => Err(CudaError::driver("adding a loop to the graph")(error)),
        }
    }

    /// A graph of the steps of `plan` with these indices, each after the one before it, to measure them. With `overlap` a
    /// step that [may](Self::overlaps) starts before that one has ended.
    ///
    /// Steps keep to the plan's memory in any order, but what they compute means something only in the plan's.
    ///
    /// # Errors
    /// As [`build`](Self::build); [`CudaError::InvalidParameter`] for an index that the plan does not have.
    pub fn chain(
        plan: &LoadedPlan,
        stream: &Stream,
        steps: &[usize],
        overlap: bool,
    ) -> Result<Self, CudaError> {
        if let Some(index) = steps.iter().find(|index| **index >= plan.steps.len()) {
            return Err(CudaError::InvalidParameter {
                what: "a step of a chain",
                expected: format!("one of {}", plan.steps.len()),
                actual: index.to_string(),
            });
        }
        let mut graph = Self::empty(stream)?;
        let overlap = overlap && graph.takes_programmatic();
        let owner = owner(plan);
        let mut last: Option<(usize, NodeId)> = None;
        for &index in steps {
            let after = last.map(|(from, node)| {
                let programmatic = overlap && overlaps(&plan.steps[from], &plan.steps[index]);
                if programmatic { Dependency::programmatic(node) } else { Dependency::full(node) }
            });
            last = Some((index, add_node(&mut graph, plan, index, &owner, after.as_slice())?));
        }
        Self::instantiate(graph, stream)
    }

    /// Whether a step of `plan`, after another kernel, may start before that one has ended.
    ///
    /// # Errors
    /// The driver's; [`CudaError::InvalidParameter`] for an index that the plan does not have.
    pub fn overlaps(plan: &LoadedPlan, stream: &Stream, step: usize) -> Result<bool, CudaError> {
        let Some(step) = plan.steps.get(step) else {
            let (expected, actual) = (format!("one of {}", plan.steps.len()), step.to_string());
            return Err(CudaError::InvalidParameter { what: "a step", expected, actual });
        };
        Ok(overlaps(step, step) && Self::empty(stream)?.takes_programmatic())
    }

    fn empty(stream: &Stream) -> Result<Graph, CudaError> {
        Graph::new(stream.context()).map_err(CudaError::driver("making a graph"))
    }

    fn instantiate(graph: Graph, stream: &Stream) -> Result<Self, CudaError> {
        let exec = graph.instantiate().map_err(CudaError::driver("instantiating the graph"))?;
        exec.upload(stream).map_err(CudaError::driver("uploading the graph"))?;
        Ok(Self { exec, graph })
    }

    /// Queues what the graph does on `stream` and returns without waiting.
    ///
    /// # Errors
    /// The driver's.
    pub fn launch(&self, stream: &Stream) -> Result<(), CudaError> {
        self.exec.launch(stream).map_err(CudaError::driver("launching the graph"))
    }

    /// Number of nodes: the plan's steps, or one for a loop.
    pub fn n_nodes(&self) -> usize {
        self.graph.len()
    }

    /// Number of edges between them, none of which follows from the others.
    pub fn n_edges(&self) -> usize {
        self.graph.edges().len()
    }

    /// What was built, to draw it or to ask the driver for its nodes and edges.
    pub fn definition(&self) -> &Graph {
        &self.graph
    }
}

/// Whether `step` may be started before `from`, the one step that it depends on, has ended: both are kernels, and `step`
/// waits for the end of `from` before it touches what others write. Orders remain transitive, because no kernel ends
/// before it has waited: what comes before `from` has ended when `from` has.
fn overlaps(from: &LoadedStep, step: &LoadedStep) -> bool {
    matches!(from, LoadedStep::Launch { .. }) && matches!(step, LoadedStep::Launch { waits: true, .. })
}

/// One owner for all kernels: the memory of the whole plan.
fn owner(plan: &LoadedPlan) -> Arc<dyn Any + Send + Sync> {
    Arc::new(plan.memory.clone())
}

/// Why a loop has no body.
enum BodyError {
    Plan(CudaError),
    Driver(DriverError),
}

impl From<DriverError> for BodyError {
    fn from(error: DriverError) -> Self {
        Self::Driver(error)
    }
}

/// Adds `runs` runs of `plan` to a graph without nodes, and after them what ends an iteration, if they are one of a loop.
fn add_runs(
    graph: &mut Graph,
    plan: &LoadedPlan,
    runs: usize,
    end: Option<&LoadedPlan>,
) -> Result<(), CudaError> {
    let edges = plan.plan().edges_of_runs(runs, end.map(LoadedPlan::plan));
    let (steps, programmatic) = (plan.steps.len(), graph.takes_programmatic());
    let last = end.into_iter().flat_map(|end| (0..end.steps.len()).map(move |index| (end, index)));
    let all: Vec<(&LoadedPlan, usize)> =
        (0..steps * runs).map(|node| (plan, node % steps)).chain(last).collect();
    // Not between runs: a kernel may look at what begins its run before it waits, to guess what it will read, since no
    // kernel before it in that run writes it; but the last of the run before may. What ends the iteration does not look.
    let overlap = |from: usize, to: usize| {
        let step = |node: usize| &all[node].0.steps[all[node].1];
        programmatic && (to >= steps * runs || from / steps == to / steps) && overlaps(step(from), step(to))
    };
    let (owner_of_runs, owner_of_end) = (owner(plan), end.map(owner));
    let mut nodes: Vec<NodeId> = Vec::with_capacity(all.len());
    for (node, &(plan, index)) in all.iter().enumerate() {
        // Edges are sorted by the waiting step.
        let first = edges.partition_point(|edge| edge.to < node);
        let incoming: Vec<_> = edges[first..].iter().take_while(|edge| edge.to == node).collect();
        let after: Vec<Dependency> = match incoming[..] {
            [edge] if overlap(edge.from, node) => vec![Dependency::programmatic(nodes[edge.from])],
            _ => incoming.iter().map(|edge| Dependency::full(nodes[edge.from])).collect(),
        };
        let owner = owner_of_end.as_ref().filter(|_| node >= steps * runs).unwrap_or(&owner_of_runs);
        nodes.push(add_node(graph, plan, index, owner, &after)?);
    }
    Ok(())
}

fn add_node(
    graph: &mut Graph,
    plan: &LoadedPlan,
    index: usize,
    owner: &Arc<dyn Any + Send + Sync>,
    after: &[Dependency],
) -> Result<NodeId, CudaError> {
    let action = || format!("adding step {index}, {}, to the graph", plan.plan().steps()[index].name());
    let fail = || CudaError::driver(action());
    match &plan.steps[index] {
        LoadedStep::Launch { function, config, args, .. } => {
            let node = KernelNode::new(function, *config, args.clone()).keep(Arc::clone(owner));
            // SAFETY: as in `LoadedPlan::run_step`: the plan has checked every pointer's extent, alignment and access.
            // The node owns the memory. Steps that touch a byte in common, one of them writing it, are joined by a
            // path of edges, full ones or such that order as full ones do: see `overlaps`. Whoever made a kernel that sets a
            // condition has promised that it is one of this graph.
            unsafe { graph.add_kernel(node, after) }.map_err(fail())
        }
        LoadedStep::ToDevice { target, source, first, words } => {
            let source = Region::pinned(source, *first..*first + *words).map_err(fail())?;
            let target = device_region(&plan.memory, *target, action())?;
            graph.add_memcpy(&target, &source, after).map_err(fail())
        }
        LoadedStep::ToHost { target, first, words, source } => {
            let target = Region::pinned(target, *first..*first + *words).map_err(fail())?;
            let source = device_region(&plan.memory, *source, action())?;
            graph.add_memcpy(&target, &source, after).map_err(fail())
        }
        LoadedStep::OnDevice { target, source } => {
            let target = device_region(&plan.memory, *target, action())?;
            let source = device_region(&plan.memory, *source, action())?;
            graph.add_memcpy(&target, &source, after).map_err(fail())
        }
        LoadedStep::Fill { target, value } => {
            let target = device_region(&plan.memory, *target, action())?;
            graph.add_memset(&target, MemsetValue::Byte(*value), after).map_err(fail())
        }
    }
}

fn device_region(memory: &DeviceMemory, span: Span, action: String) -> Result<Region, CudaError> {
    let Allocation::Device(buffer) = memory.allocation(span.region)? else {
        return Err(CudaError::InvalidParameter {
            what: "a region of the graph",
            expected: "device memory".into(),
            actual: memory.map().display(span).to_string(),
        });
    };
    let range = usize::try_from(span.offset).ok().zip(usize::try_from(span.end()).ok());
    let Some((start, end)) = range else {
        return Err(CudaError::Overflow { what: memory.map().display(span).to_string() });
    };
    let region: Result<Region, DriverError> = Region::device(buffer, start..end);
    region.map_err(CudaError::driver(action))
}
