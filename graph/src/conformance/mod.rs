//! One suite that every backend has to pass: each operation on each weight type, batch, head size and length around its
//! thresholds, alone and chained, against the [f64 reference](crate::reference).
//!
//! A backend implements [`ConformanceBackend`] and calls [`run_suite`] from its tests:
//!
//! ```
//! use graph::conformance::{ConformanceBackend, Job, Run, Selection, run_suite};
//! use graph::reference::{ReferenceDispatch, ReferenceError};
//! use graph::{TensorOp, execute_graph};
//!
//! struct Backend;
//!
//! impl ConformanceBackend for Backend {
//!     type Error = Box<dyn std::error::Error>;
//!
//!     fn run(&mut self, job: &Job<'_>) -> Result<Vec<Run>, Self::Error> {
//!         let mut dispatch = ReferenceDispatch::new(job.plan, job.poison);
//!         for (leaf, bytes) in job.leaves {
//!             dispatch.bind(*leaf, bytes.clone())?;
//!         }
//!         execute_graph(job.graph, job.plan, &mut dispatch)?;
//!         let read = |view| dispatch.bytes(view).map(<[u8]>::to_vec);
//!         let buffers = job.read.iter().map(read).collect::<Result<_, ReferenceError>>()?;
//!         Ok(vec![Run { label: "eager".into(), buffers }])
//!     }
//! }
//!
//! let report = run_suite(&mut Backend, &Selection::fast().of(TensorOp::Silu));
//! assert!(report.is_success(), "{report}");
//! assert_eq!(report.skipped, []);
//! ```
//!
//! # What is demanded
//! - A graph that has [groups](crate::groups) meets all of this twice: operation by operation, and in groups.
//! - Every run of a case (eager, as a graph, the hundredth replay) gives the same bits.
//! - Each row of an F32 result is within 1e-5 of the reference, relative, by L2 norm; within 1e-2 where activations
//!   were quantised on the way, per matmul. From given Q8Act bytes it is 1e-5 again.
//! - Copies, scatters, argmax and quantised activations are exact.
//! - Nothing but results is written: leaves and the guard bytes around every tensor are as before.
//! - Nothing is read that was not written: workspace and unused cache positions hold not-a-numbers.

mod cases;
mod check;
mod data;

pub use cases::{Built, Case, Check, Expect, Tier, cases};
pub use check::Mismatch;
pub use data::Rng;

use std::fmt;

use tensor_formats::ElementType;

use crate::view::{BufferId, TensorView};
use crate::{ComputeGraph, Group, MemoryPlan, Shape, TensorId, TensorOp};

/// A backend under test.
pub trait ConformanceBackend {
    /// What can go wrong.
    type Error: fmt::Display;

    /// Why the backend cannot run `graph` by design, or `None` if it has to. What is skipped is listed in the
    /// [`Report`], for the caller to compare with what it expects.
    fn unsupported(&self, graph: &ComputeGraph) -> Option<String> {
        let _ = graph;
        None
    }

    /// Whether the backend wants `group` as one call. By default it does; where it has no kernel, its parts run.
    fn accepts(&self, group: &Group) -> bool {
        let _ = group;
        true
    }

    /// Runs `job` in every way that the backend has, each from the given leaves and with the workspace filled with
    /// [`Job::poison`], and reads the views back: one [`Run`] for each way, at least one.
    ///
    /// # Errors
    /// Whatever fails; it is a failure of the case.
    fn run(&mut self, job: &Job<'_>) -> Result<Vec<Run>, Self::Error>;
}

/// A case for a backend to run.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The graph.
    pub graph: &'a ComputeGraph,
    /// Where its tensors are, and which of its operations are groups.
    pub plan: &'a MemoryPlan,
    /// The bytes of every leaf.
    pub leaves: &'a [(TensorId, Vec<u8>)],
    /// What to read back at the end, in this order.
    pub read: &'a [TensorView],
    /// The byte that fills the workspace beforehand: 0xff, a not-a-number in every float.
    pub poison: u8,
}

/// What one way of running a case left in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// The way, such as "eager" or "replay 100".
    pub label: String,
    /// The bytes of each view of [`Job::read`].
    pub buffers: Vec<Vec<u8>>,
}

/// Which cases to run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    tier: Tier,
    op: Option<TensorOp>,
    containing: Option<String>,
}

impl Selection {
    /// A subset of every kind of case, small enough for a slow backend on every change.
    pub fn fast() -> Self {
        Self::default()
    }

    /// Everything.
    pub fn full() -> Self {
        Self { tier: Tier::Full, ..Self::default() }
    }

    /// Only the cases of `op`; chained cases belong to [`TensorOp::None`].
    #[must_use]
    pub fn of(mut self, op: TensorOp) -> Self {
        self.op = Some(op);
        self
    }

    /// Only the cases whose names contain `text`.
    #[must_use]
    pub fn containing(mut self, text: impl Into<String>) -> Self {
        self.containing = Some(text.into());
        self
    }

    /// Whether `case` is selected.
    pub fn selects(&self, case: &Case) -> bool {
        (self.tier == Tier::Full || case.tier() == Tier::Fast)
            && self.op.is_none_or(|op| op == case.op())
            && self.containing.as_ref().is_none_or(|text| case.name().contains(text.as_str()))
    }
}

/// What came of a suite.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Cases that passed.
    pub passed: usize,
    /// Cases that the backend said it cannot run, and why.
    pub skipped: Vec<(String, String)>,
    /// Cases that failed, and how.
    pub failed: Vec<(String, Failure)>,
}

impl Report {
    /// Whether nothing failed and at least one case passed.
    pub fn is_success(&self) -> bool {
        self.failed.is_empty() && self.passed > 0
    }
}

/// Counts, then each failure on its line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, skipped, failed } = self;
        write!(f, "{passed} passed, {} failed, {} skipped", failed.len(), skipped.len())?;
        failed.iter().try_for_each(|(name, failure)| write!(f, "\n{name}: {failure}"))
    }
}

/// How a case failed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The case itself could not be made: a defect of the suite or of the graph.
    #[error("the case could not be built: {0}")]
    Build(String),
    /// The backend returned an error.
    #[error("{0}")]
    Backend(String),
    /// The backend returned no run, or a run without exactly the views that were to be read.
    #[error("{label}: returned {actual} of {expected} buffers")]
    Incomplete {
        /// The run, or "no run".
        label: String,
        /// Buffers of the right length that were returned.
        actual: usize,
        /// Views to be read.
        expected: usize,
    },
    /// Two runs differ in their bits.
    #[error("{label} differs from {first} in {view}, first at byte {byte}")]
    RunsDiffer {
        /// The first run.
        first: String,
        /// The run that differs from it.
        label: String,
        /// Where they differ.
        view: TensorView,
        /// The first byte that differs, within the view.
        byte: usize,
    },
    /// A result is not what the reference says.
    #[error("{tensor} ({op}): {mismatch}")]
    Wrong {
        /// The tensor.
        tensor: TensorId,
        /// The operation that made it.
        op: TensorOp,
        /// How it differs.
        mismatch: Mismatch,
    },
    /// A leaf that no operation writes to has changed.
    #[error("leaf {leaf} was written to, first at byte {byte}")]
    LeafWritten {
        /// The leaf.
        leaf: TensorId,
        /// The first byte that changed.
        byte: usize,
    },
    /// The case failed when its operations ran in groups. One by one they passed.
    #[error("in groups: {0}")]
    Grouped(Box<Failure>),
    /// Bytes between two tensors of the workspace have changed.
    #[error("wrote beyond a tensor, at byte {offset} of the workspace")]
    GuardWritten {
        /// The first byte that changed.
        offset: u64,
    },
}

/// Runs the selected cases on `backend`, one after the other.
pub fn run_suite<B: ConformanceBackend>(backend: &mut B, selection: &Selection) -> Report {
    let mut report = Report::default();
    for case in cases().iter().filter(|case| selection.selects(case)) {
        let name = case.name().to_owned();
        match run_case(backend, case) {
            Ok(Outcome::Passed) => report.passed += 1,
            Ok(Outcome::Skipped(reason)) => report.skipped.push((name, reason)),
            Err(failure) => report.failed.push((name, failure)),
        }
    }
    report
}

/// The byte that nothing has written.
const POISON: u8 = 0xff;

/// What came of a case that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every demand is met.
    Passed,
    /// The backend said why it cannot run the case.
    Skipped(String),
}

/// Runs one of the [`cases`] on `backend`: operation by operation and, if the backend accepts any of its groups, in
/// groups.
///
/// # Errors
/// How the case failed.
pub fn run_case<B: ConformanceBackend>(backend: &mut B, case: &Case) -> Result<Outcome, Failure> {
    let built = case.build().map_err(Failure::Build)?;
    if let Some(reason) = backend.unsupported(&built.graph) {
        return Ok(Outcome::Skipped(reason));
    }
    run_planned(backend, &built, &built.graph.plan_with(built.plan))?;
    let grouping = built.graph.group(|group| backend.accepts(group));
    if grouping.groups().len() > 0 {
        run_planned(backend, &built, &grouping.plan_with(built.plan))
            .map_err(|failure| Failure::Grouped(Box::new(failure)))?;
    }
    Ok(Outcome::Passed)
}

/// Runs a case with its tensors where `plan` says.
fn run_planned<B: ConformanceBackend>(
    backend: &mut B,
    built: &Built,
    plan: &MemoryPlan,
) -> Result<(), Failure> {
    let missing = |id| Failure::Build(format!("{id} is not planned"));
    let view = |id: TensorId| plan.view(id).ok_or_else(|| missing(id));
    let checked = built.checks.iter().map(|check| view(check.tensor)).collect::<Result<Vec<_>, _>>()?;
    let leaves = built.unwritten_leaves();
    let read_leaves = leaves.iter().map(|(id, _)| view(*id)).collect::<Result<Vec<_>, _>>()?;
    let guards = if built.plan.reuse { Vec::new() } else { guards(plan)? };
    let read = [checked.as_slice(), &read_leaves, &guards].concat();

    let job = Job { graph: &built.graph, plan, leaves: &built.leaves, read: &read, poison: POISON };
    let runs = backend.run(&job).map_err(|error| Failure::Backend(error.to_string()))?;
    let first = same_bits(&runs, &read)?;

    for (check, bytes) in built.checks.iter().zip(&first.buffers) {
        let op = built.graph.nodes()[check.tensor.index()].op();
        let (shape, tensor) = (built.graph.nodes()[check.tensor.index()].shape(), check.tensor);
        check::compare(&check.expect, shape, bytes).map_err(|mismatch| Failure::Wrong {
            tensor,
            op,
            mismatch,
        })?;
    }
    let rest = &first.buffers[checked.len()..];
    for ((leaf, before), after) in leaves.iter().zip(rest) {
        if let Some(byte) = first_difference(before, after) {
            return Err(Failure::LeafWritten { leaf: *leaf, byte });
        }
    }
    for (guard, bytes) in guards.iter().zip(&rest[leaves.len()..]) {
        if let Some(byte) = bytes.iter().position(|&b| b != POISON) {
            return Err(Failure::GuardWritten { offset: guard.offset + byte as u64 });
        }
    }
    Ok(())
}

/// The first run, if all runs are complete and agree with it.
fn same_bits<'a>(runs: &'a [Run], read: &[TensorView]) -> Result<&'a Run, Failure> {
    let incomplete =
        |label: &str, actual| Failure::Incomplete { label: label.into(), actual, expected: read.len() };
    let first = runs.first().ok_or_else(|| incomplete("no run", 0))?;
    for run in runs {
        let complete =
            run.buffers.iter().zip(read).filter(|(b, view)| b.len() as u64 == view.bytes()).count();
        if complete != read.len() || run.buffers.len() != read.len() {
            return Err(incomplete(&run.label, complete));
        }
        for ((expected, actual), view) in first.buffers.iter().zip(&run.buffers).zip(read) {
            if let Some(byte) = first_difference(expected, actual) {
                let (first, label) = (first.label.clone(), run.label.clone());
                return Err(Failure::RunsDiffer { first, label, view: *view, byte });
            }
        }
    }
    Ok(first)
}

fn first_difference(a: &[u8], b: &[u8]) -> Option<usize> {
    if a == b {
        None
    } else {
        Some(a.iter().zip(b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len())))
    }
}

/// The bytes of the workspace that no tensor covers.
fn guards(plan: &MemoryPlan) -> Result<Vec<TensorView>, Failure> {
    let mut taken: Vec<_> = plan.views().iter().filter(|v| v.buffer == BufferId::Workspace).collect();
    taken.sort_by_key(|view| view.offset);
    let mut guards = Vec::new();
    let mut free = 0;
    let ends = taken.iter().map(|view| (view.offset, view.end()));
    for (start, end) in ends.chain([(plan.workspace_bytes, plan.workspace_bytes)]) {
        if start > free {
            // A gap may be of any size: an element is a byte.
            let shape =
                Shape::new(&[(start - free) as usize]).map_err(|error| Failure::Build(error.to_string()))?;
            let dtype = ElementType::F8E4M3;
            guards.push(TensorView { buffer: BufferId::Workspace, offset: free, shape, dtype });
        }
        free = free.max(end);
    }
    Ok(guards)
}
