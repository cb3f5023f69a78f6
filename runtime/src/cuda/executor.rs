//! [`CudaExecutor`]: turns a graph into a launch plan.

use std::collections::BTreeMap;
use std::sync::Arc;

use graph::groups::{AttentionInput, GatedProjection, Group, Head, ResidualProjection};
use graph::{
    Add, Argmax, Attention, BufferId, CopyTensor, EmbedRows, KernelDispatch, KvScatter, Mul, MulMat, OpCall,
    QuantizeQ8, RmsNorm, Rope, Silu, SoftMax, SwiGlu, TensorId, TensorView,
};

use super::error::CudaError;
use super::lower::{Lowered, Operand, lower};
use super::lower_group::{self, lower_group};
use super::machine::Machine;
use super::memory_map::Span;
use super::plan::{Argument, LaunchPlan};
use super::working_memory::{self, WorkingMemory};

/// Where a graph's buffers are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bindings {
    leaves: BTreeMap<TensorId, Span>,
    workspace: Option<Span>,
    scratch: Option<Span>,
    counters: Option<Span>,
}

impl Bindings {
    /// Nothing bound.
    pub fn new() -> Self {
        Self::default()
    }

    /// The memory of leaf `id`.
    pub fn bind(&mut self, id: TensorId, span: Span) {
        self.leaves.insert(id, span);
    }

    /// The memory of intermediates.
    pub fn bind_workspace(&mut self, span: Span) {
        self.workspace = Some(span);
    }

    /// The memory of kernels' scratch: in a region of kind [`Scratch`](super::memory_map::RegionKind::Scratch), apart
    /// from the intermediates.
    pub fn bind_scratch(&mut self, span: Span) {
        self.scratch = Some(span);
    }

    /// The memory of kernels' counters: in a region of kind [`State`](super::memory_map::RegionKind::State), zero before
    /// the first run.
    pub fn bind_counters(&mut self, span: Span) {
        self.counters = Some(span);
    }

    /// The memory that kernels work in: scratch, and counters.
    pub(super) const fn working(&self) -> [Option<Span>; 2] {
        [self.scratch, self.counters]
    }

    /// The bytes of a tensor.
    ///
    /// # Errors
    /// [`CudaError::Unbound`], [`CudaError::TooShort`] and [`CudaError::Part`].
    pub fn span(&self, view: &TensorView) -> Result<Span, CudaError> {
        let bound = match view.buffer {
            BufferId::Leaf(id) => self.leaves.get(&id).copied(),
            BufferId::Workspace => self.workspace,
        };
        let bound = bound.ok_or(CudaError::Unbound { buffer: view.buffer })?;
        let error = || CudaError::TooShort { view: Box::new(*view), bytes: bound.bytes };
        let span = bound.slice(view.offset, view.bytes()).ok_or_else(error)?;
        // Rows of a matrix in planes do not lie together.
        match view.buffer {
            BufferId::Leaf(_) if view.dtype.planes().len() > 1 && span != bound => {
                Err(CudaError::Part { view: Box::new(*view) })
            }
            _ => Ok(span),
        }
    }
}

/// The CUDA backend of [`graph::execute_graph`]. It launches nothing: every operation appends to a [`LaunchPlan`],
/// which is then run as often as wanted.
///
/// Groups become fused kernels.
///
/// An operation that has no kernel, a shape or type that its kernel does not take, a tensor without memory: all are
/// refused by [`check`](KernelDispatch::check), before anything is appended.
#[derive(Debug)]
pub struct CudaExecutor<'a> {
    plan: LaunchPlan,
    /// The memory; `None` if nothing is to be appended.
    bindings: Option<&'a Bindings>,
    machine: Machine,
    working: WorkingMemory,
}

impl CudaExecutor<'static> {
    /// An executor that appends nothing, and only finds what [memory](CudaExecutor::working_memory) the kernels for `machine`
    /// work in.
    pub fn sizing(machine: Machine) -> Self {
        Self {
            plan: LaunchPlan::new(Arc::default()),
            bindings: None,
            machine,
            working: WorkingMemory::default(),
        }
    }
}

impl<'a> CudaExecutor<'a> {
    /// An executor that appends to `plan` kernels for `machine`, with operands where `bindings` says.
    pub fn new(plan: LaunchPlan, bindings: &'a Bindings, machine: Machine) -> Self {
        Self { plan, bindings: Some(bindings), machine, working: WorkingMemory::default() }
    }

    /// What the kernels that were dispatched work in, one after the other.
    pub fn working_memory(&self) -> WorkingMemory {
        self.working
    }

    /// The plan with everything that was dispatched.
    pub fn finish(self) -> LaunchPlan {
        self.plan
    }

    fn append(&mut self, call: OpCall) -> Result<usize, CudaError> {
        self.launch(lower(&call, self.machine)?)
    }

    fn check_launches(&self, launches: Vec<Lowered>) -> Result<(), CudaError> {
        let Some(bindings) = self.bindings else { return Ok(()) };
        let target = self.machine.target;
        for launch in launches {
            let needs = launch.kernel.min_target();
            if needs > target {
                return Err(CudaError::Target { kernel: launch.kernel.name(), needs, target });
            }
            arguments(&launch, bindings)?;
        }
        Ok(())
    }

    fn launch(&mut self, launches: Vec<Lowered>) -> Result<usize, CudaError> {
        let count = launches.len();
        for launch in launches {
            self.working = self.working.max(launch.working_memory()?);
            if let Some(bindings) = self.bindings {
                let arguments = arguments(&launch, bindings)?;
                self.plan.launch(launch.kernel, &arguments)?;
            }
        }
        Ok(count)
    }
}

/// Where the parameters of a launch are.
fn arguments(launch: &Lowered, bindings: &Bindings) -> Result<Vec<Argument>, CudaError> {
    let (kernel, params) = (launch.kernel.name(), launch.kernel.params());
    let argument = |operand: &Operand| match operand {
        Operand::Tensor(view) => Ok(Argument { span: bindings.span(view)?, element: view.dtype }),
        &Operand::Handed { offset, bytes, element } => {
            let [scratch, _] = bindings.working();
            let span = working_memory::slice(scratch, (&kernel, "what it is handed"), (offset, bytes))?;
            Ok::<_, CudaError>(Argument { span, element })
        }
    };
    let tensors = launch.operands.iter().map(argument).collect::<Result<Vec<_>, _>>()?;
    working_memory::arguments(&kernel, &params, tensors, bindings.working())
}

impl KernelDispatch for CudaExecutor<'_> {
    type Error = CudaError;

    fn check(&self, call: &OpCall) -> Result<(), CudaError> {
        self.check_launches(lower(call, self.machine)?)
    }

    fn check_group(&self, group: &Group) -> Result<(), CudaError> {
        self.check_launches(lower_group(group, self.machine)?)
    }

    fn attention_input(&mut self, a: &AttentionInput, _: &[OpCall]) -> Result<usize, CudaError> {
        self.launch(lower_group::attention_input(a, self.machine)?)
    }

    fn residual_projection(&mut self, a: &ResidualProjection, parts: &[OpCall]) -> Result<usize, CudaError> {
        self.launch(lower_group::residual_projection(a, parts, self.machine)?)
    }

    fn gated_projection(&mut self, a: &GatedProjection, _: &[OpCall]) -> Result<usize, CudaError> {
        self.launch(lower_group::gated_projection(a, self.machine)?)
    }

    fn head(&mut self, a: &Head, parts: &[OpCall]) -> Result<usize, CudaError> {
        self.launch(lower_group::head(a, parts, self.machine)?)
    }

    fn embed_rows(&mut self, a: EmbedRows) -> Result<usize, CudaError> {
        self.append(OpCall::EmbedRows(a))
    }

    fn rms_norm(&mut self, a: RmsNorm) -> Result<usize, CudaError> {
        self.append(OpCall::RmsNorm(a))
    }

    fn mul_mat(&mut self, a: MulMat) -> Result<usize, CudaError> {
        self.append(OpCall::MulMat(a))
    }

    fn add(&mut self, a: Add) -> Result<usize, CudaError> {
        self.append(OpCall::Add(a))
    }

    fn mul(&mut self, a: Mul) -> Result<usize, CudaError> {
        self.append(OpCall::Mul(a))
    }

    fn silu(&mut self, a: Silu) -> Result<usize, CudaError> {
        self.append(OpCall::Silu(a))
    }

    fn rope(&mut self, a: Rope) -> Result<usize, CudaError> {
        self.append(OpCall::Rope(a))
    }

    fn kv_scatter(&mut self, a: KvScatter) -> Result<usize, CudaError> {
        self.append(OpCall::KvScatter(a))
    }

    fn attention(&mut self, a: Attention) -> Result<usize, CudaError> {
        self.append(OpCall::Attention(a))
    }

    fn soft_max(&mut self, a: SoftMax) -> Result<usize, CudaError> {
        self.append(OpCall::SoftMax(a))
    }

    fn copy(&mut self, a: CopyTensor) -> Result<usize, CudaError> {
        self.append(OpCall::Copy(a))
    }

    fn quantize_q8(&mut self, a: QuantizeQ8) -> Result<usize, CudaError> {
        self.append(OpCall::QuantizeQ8(a))
    }

    fn argmax(&mut self, a: Argmax) -> Result<usize, CudaError> {
        self.append(OpCall::Argmax(a))
    }

    fn swi_glu(&mut self, a: SwiGlu) -> Result<usize, CudaError> {
        self.append(OpCall::SwiGlu(a))
    }
}
