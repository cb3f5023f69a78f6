//! The cases: what is built, on which data, and what has to come out.

mod attention;
mod elementwise;
mod groups;
mod layer;
mod matmul;
mod rows;

use tensor_formats::{ElementType, FormatError};

use super::data::{Rng, f32_bytes};
use crate::passes::{Rewrite, fuse_swiglu, share_q8_activations};
use crate::reference::{ReferenceError, Value, evaluate, stored, to_u32_bytes};
use crate::rope::RopeTableError;
use crate::{ComputeGraph, GraphError, GroupKind, PlanOptions, Shape, ShapeError, TensorId, TensorOp};

/// Relative L2 distance allowed on the f32 path.
const F32_TOLERANCE: f64 = 1e-5;

/// Relative L2 distance allowed for one matmul with an activation that is quantised on the way.
const Q8_TOLERANCE: f64 = 1e-2;

/// Batches: one row, the ends of what one kernel takes, and what needs several.
const ROWS: [usize; 7] = [1, 2, 5, 8, 9, 16, 32];

/// How much a case costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tier {
    /// Part of every run.
    #[default]
    Fast,
    /// Only part of the full suite.
    Full,
}

impl Tier {
    fn fast_if(fast: bool) -> Self {
        if fast { Self::Fast } else { Self::Full }
    }
}

/// A case, not yet built: names are cheap, data is not.
pub struct Case {
    name: String,
    op: TensorOp,
    tier: Tier,
    build: BuildFn,
}

type BuildFn = Box<dyn Fn(&mut Builder) -> Result<Vec<(TensorId, Goal)>, BuildError> + Send + Sync>;

/// What a tensor is compared with.
enum Goal {
    /// The reference's value, within a relative L2 distance in every row.
    Close(f64),
    /// The reference's value, rounded to the tensor's type.
    Exact,
    /// These bytes.
    Bytes(Vec<u8>),
}

/// A case, ready to run.
#[derive(Debug, Clone)]
pub struct Built {
    /// The graph.
    pub graph: ComputeGraph,
    /// How its memory is to be planned.
    pub plan: PlanOptions,
    /// The bytes of every leaf.
    pub leaves: Vec<(TensorId, Vec<u8>)>,
    /// What has to come out.
    pub checks: Vec<Check>,
}

/// One result of a case and what it has to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Check {
    /// The tensor.
    pub tensor: TensorId,
    /// What it has to be.
    pub expect: Expect,
}

/// What a result has to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// F32 values, each row within a relative L2 distance.
    Close {
        /// The reference's values.
        values: Vec<f64>,
        /// The largest distance allowed.
        tolerance: f64,
    },
    /// Exactly these bytes.
    Bytes(Vec<u8>),
}

impl Case {
    fn new(
        name: String,
        op: TensorOp,
        tier: Tier,
        build: impl Fn(&mut Builder) -> Result<Vec<(TensorId, Goal)>, BuildError> + Send + Sync + 'static,
    ) -> Self {
        Self { name, op, tier, build: Box::new(build) }
    }

    /// The name: the operation, then what is special about the case.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The operation that the case is about; [`TensorOp::None`] for chains of many.
    pub fn op(&self) -> TensorOp {
        self.op
    }

    /// How much the case costs.
    pub fn tier(&self) -> Tier {
        self.tier
    }

    /// Makes the graph, the data, which follows from the name alone, and the reference's results.
    ///
    /// # Errors
    /// A message, if the graph refuses the case: a defect of one of them.
    pub fn build(&self) -> Result<Built, String> {
        let mut builder = Builder::new(Rng::from_name(&self.name));
        let goals = (self.build)(&mut builder).map_err(|error| error.to_string())?;
        builder.finish(goals).map_err(|error| error.to_string())
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Case")
            .field("name", &self.name)
            .field("op", &self.op)
            .field("tier", &self.tier)
            .finish()
    }
}

impl Built {
    /// The leaves that no scatter writes to.
    pub(super) fn unwritten_leaves(&self) -> Vec<&(TensorId, Vec<u8>)> {
        self.leaves.iter().filter(|(id, _)| !self.graph.is_written(*id)).collect()
    }
}

/// All cases, in a fixed order.
pub fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    matmul::add_cases(&mut cases);
    rows::add_cases(&mut cases);
    elementwise::add_cases(&mut cases);
    attention::add_cases(&mut cases);
    layer::add_cases(&mut cases);
    groups::add_cases(&mut cases);
    cases
}

/// Why a case could not be built.
#[derive(Debug, thiserror::Error)]
enum BuildError {
    #[error(transparent)]
    Graph(#[from] GraphError),
    #[error(transparent)]
    Shape(#[from] ShapeError),
    #[error(transparent)]
    Format(#[from] FormatError),
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    #[error(transparent)]
    Rope(#[from] RopeTableError),
    #[error("{0} should be planned in place and is not")]
    NotInPlace(TensorId),
    #[error("the operations should make up one {0} and do not")]
    NotGrouped(GroupKind),
    #[error("{0} is lost, or of a kind that the check does not fit")]
    Check(TensorId),
}

/// A graph under construction, with the data of its leaves.
struct Builder {
    g: ComputeGraph,
    rng: Rng,
    leaves: Vec<(TensorId, Vec<u8>)>,
    plan: PlanOptions,
    in_place: Vec<TensorId>,
    passes: bool,
    /// What the operations, copies apart, have to be together.
    group: Option<GroupKind>,
}

impl Builder {
    fn new(rng: Rng) -> Self {
        // Guards show what is written beyond a tensor, but only where memory is not used again.
        let plan = PlanOptions { reuse: false, in_place: true, guard_bytes: 256 };
        let g = ComputeGraph::new();
        Self { g, rng, leaves: Vec::new(), plan, in_place: Vec::new(), passes: false, group: None }
    }

    fn leaf(
        &mut self,
        name: &str,
        dtype: ElementType,
        dims: &[usize],
        bytes: Vec<u8>,
    ) -> Result<TensorId, BuildError> {
        let id = self.g.add_leaf(name, dtype, Shape::new(dims)?)?;
        self.leaves.push((id, bytes));
        Ok(id)
    }

    fn f32(&mut self, name: &str, dims: &[usize], values: &[f32]) -> Result<TensorId, BuildError> {
        self.leaf(name, ElementType::F32, dims, f32_bytes(values))
    }

    fn u32(&mut self, name: &str, values: &[u32]) -> Result<TensorId, BuildError> {
        self.leaf(name, ElementType::U32, &[values.len()], to_u32_bytes(values))
    }

    /// A leaf of normal numbers times `sigma`.
    fn normal(&mut self, name: &str, dims: &[usize], sigma: f32) -> Result<TensorId, BuildError> {
        let values = self.rng.normals(dims.iter().product(), sigma);
        self.f32(name, dims, &values)
    }

    fn weight(
        &mut self,
        name: &str,
        dtype: ElementType,
        dims: &[usize],
        sigma: f32,
    ) -> Result<TensorId, BuildError> {
        let bytes = self.rng.weights(dtype, dims.iter().product(), sigma)?;
        self.leaf(name, dtype, dims, bytes)
    }

    /// A copy of `x` that dies with its next reader, so that an operation that can will write over it.
    fn dying(&mut self, x: TensorId) -> Result<TensorId, BuildError> {
        Ok(self.g.copy(x)?)
    }

    /// Demands that `y` was planned in place.
    fn must_be_in_place(&mut self, y: TensorId) {
        self.in_place.push(y);
    }

    fn finish(mut self, goals: Vec<(TensorId, Goal)>) -> Result<Built, BuildError> {
        for (tensor, _) in &goals {
            self.g.mark_output(*tensor)?;
        }
        let needs_values = goals.iter().any(|(_, goal)| !matches!(goal, Goal::Bytes(_)));
        let values = if needs_values { Some(evaluate(&self.g, &self.leaves)?) } else { None };
        let value = |id| values.as_ref().and_then(|values| values.get(id));

        let mut rewrite = Rewrite::identity(self.g.clone());
        if self.passes {
            rewrite = rewrite.then(fuse_swiglu)?.then(share_q8_activations)?;
        }
        let renamed = |id| rewrite.map(id).ok_or(BuildError::Check(id));
        let mut checks = Vec::with_capacity(goals.len());
        for (id, goal) in goals {
            let expect = match (goal, value(id)) {
                (Goal::Bytes(bytes), _) => Expect::Bytes(bytes),
                (Goal::Close(tolerance), Some(Value::Real(values))) => {
                    Expect::Close { values: values.clone(), tolerance }
                }
                (Goal::Exact, Some(Value::Real(values))) => {
                    Expect::Bytes(stored(self.g.get(id)?.dtype(), values)?)
                }
                (Goal::Exact, Some(Value::Index(values))) => Expect::Bytes(to_u32_bytes(values)),
                _ => return Err(BuildError::Check(id)),
            };
            checks.push(Check { tensor: renamed(id)?, expect });
        }
        let grouping = rewrite.graph.group(|_| true);
        if let Some(kind) = self.group {
            let copies = rewrite.graph.nodes().iter().filter(|node| node.op() == TensorOp::Copy).count();
            if grouping.n_calls() != 1 + copies || grouping.groups().any(|(found, _)| found != kind) {
                return Err(BuildError::NotGrouped(kind));
            }
        }
        for plan in [rewrite.graph.plan_with(self.plan), grouping.plan_with(self.plan)] {
            for &id in &self.in_place {
                if plan.in_place_of(renamed(id)?).is_none() {
                    return Err(BuildError::NotInPlace(id));
                }
            }
        }
        let leaves = self.leaves.into_iter().map(|(id, bytes)| Ok((renamed(id)?, bytes)));
        let leaves = leaves.collect::<Result<_, BuildError>>()?;
        Ok(Built { graph: rewrite.graph, plan: self.plan, leaves, checks })
    }
}
