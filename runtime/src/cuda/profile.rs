//! The device's time for each step of a plan.
//!
//! A kernel of decoding takes a few microseconds, which is what an event and the gap to a launch from the host take, too.
//! So a kernel is not timed alone: all launches of it that a plan has, one for each layer, become a chain of nodes of a
//! graph, some hundreds of them, which the device runs without the host; the time of a launch is that of the chain
//! divided by its nodes. Between two launches that read the same weights come those of all other layers, so weights
//! come from device memory, as in decoding, unless all layers' together fit the L2: [`StepTime::cold`] says.
//!
//! Each chain runs twice. With plain edges a launch starts when the one before it has ended: that is its time from start
//! to start, what it takes to be started (somewhat less than a microsecond on Hopper) included. With the plan's
//! programmatic edges it may start before that and load its first weights: that is what a launch adds to a step.

use gpu_driver::{DeviceAttribute, Event, EventKind, Stream};
use kernels::Cost;

use super::error::CudaError;
use super::loaded::LoadedPlan;
use super::plan_graph::PlanGraph;

/// How a plan is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileOptions {
    /// Positions that every row attends to, for what steps cost.
    pub context: u64,
    /// How often each chain runs, of which the median counts; at least 1.
    pub runs: usize,
    /// Nodes of a chain at least; at least 1. What begins and ends a graph is divided by it.
    pub chain: usize,
}

impl ProfileOptions {
    /// Enough runs and nodes for times to a few hundredths of a microsecond.
    pub const fn at(context: u64) -> Self {
        Self { context, runs: 5, chain: 256 }
    }
}

/// What a plan took.
#[derive(Debug, Clone, PartialEq)]
pub struct Profile {
    /// Its steps, in order.
    pub steps: Vec<StepTime>,
    /// Device time of the whole plan as a graph in microseconds.
    pub micros: f64,
}

/// What one step took.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTime {
    /// The step's index in the plan.
    pub step: usize,
    /// Its kernel's name, or `copy` or `fill`. Steps with the same name have the same times: their mean.
    pub name: String,
    /// Device time in microseconds when the step before it has ended.
    pub micros: f64,
    /// Device time in microseconds when the step may start before the one before it has ended, as it may in the plan's
    /// graph; `None` if it may not.
    pub overlapped: Option<f64>,
    /// What it costs in bytes and operations.
    pub cost: Cost,
    /// Whether what steps of this name read is at least twice what the L2 holds.
    pub cold: bool,
}

impl StepTime {
    /// What the step adds to a run of the plan: the overlapped time, if it overlaps.
    pub fn added(&self) -> f64 {
        self.overlapped.unwrap_or(self.micros)
    }
}

/// Measures every step of `plan`. Its memory then holds what a run of the plan leaves, whatever the chains made of it.
///
/// # Errors
/// The driver's failure; [`CudaError::InvalidParameter`] for no runs or no nodes.
pub fn profile(plan: &LoadedPlan, stream: &Stream, options: ProfileOptions) -> Result<Profile, CudaError> {
    for (what, count) in
        [("the number of profiled runs", options.runs), ("the chain's length", options.chain)]
    {
        if count == 0 {
            let (expected, actual) = ("at least 1".into(), "0".into());
            return Err(CudaError::InvalidParameter { what, expected, actual });
        }
    }
    let cache = stream.context().device().attribute(DeviceAttribute::L2CacheSize);
    let cache = cache.map_err(CudaError::driver("asking for the size of the L2"))?;
    let cache = u64::try_from(cache).unwrap_or(0);
    let steps = plan.plan().steps();
    let mut times: Vec<Option<StepTime>> = vec![None; steps.len()];
    for first in 0..steps.len() {
        if times[first].is_some() {
            continue;
        }
        let alike: Vec<usize> =
            (first..steps.len()).filter(|&index| steps[index].name() == steps[first].name()).collect();
        let rounds = options.chain.div_ceil(alike.len());
        let chain: Vec<usize> = std::iter::repeat_n(&alike, rounds).flatten().copied().collect();
        let measure = |overlap: bool| -> Result<f64, CudaError> {
            // What the step finds is what it finds in the plan, however often others have run.
            plan.run(stream)?;
            let graph = PlanGraph::chain(plan, stream, &chain, overlap)?;
            Ok(median_micros(&graph, stream, options.runs)? / chain.len() as f64)
        };
        let micros = measure(false)?;
        let overlapped = if PlanGraph::overlaps(plan, stream, first)? { Some(measure(true)?) } else { None };
        let read: u64 = alike
            .iter()
            .map(|&step| steps[step].cost(options.context).bytes_read)
            .fold(0, u64::saturating_add);
        for &step in &alike {
            let (name, cost) = (steps[step].name().to_owned(), steps[step].cost(options.context));
            let cold = read >= cache.saturating_mul(2);
            times[step] = Some(StepTime { step, name, micros, overlapped, cost, cold });
        }
    }
    let graph = PlanGraph::build(plan, stream)?;
    let micros = median_micros(&graph, stream, options.runs)?;
    plan.run(stream)?;
    stream.synchronize().map_err(CudaError::driver("profiling"))?;
    Ok(Profile { steps: times.into_iter().flatten().collect(), micros })
}

/// The device's time for a graph in microseconds, the median of some runs. Each run follows one that keeps the device
/// busy while the host queues events and graph.
pub(super) fn median_micros(graph: &PlanGraph, stream: &Stream, runs: usize) -> Result<f64, CudaError> {
    let fail = || CudaError::driver("timing a graph");
    let event = || Event::new(stream.context(), EventKind::Timing).map_err(fail());
    let (start, end) = (event()?, event()?);
    let mut micros = Vec::with_capacity(runs);
    for _ in 0..runs {
        graph.launch(stream)?;
        start.record(stream).map_err(fail())?;
        graph.launch(stream)?;
        end.record(stream).map_err(fail())?;
        stream.synchronize().map_err(fail())?;
        micros.push(f64::from(end.elapsed_ms(&start).map_err(fail())?) * 1e3);
    }
    Ok(crate::bench::median(&micros))
}
