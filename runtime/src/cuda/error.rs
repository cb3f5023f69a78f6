//! What can go wrong on the way from a graph to a device.

use gpu_driver::DriverError;
use graph::{BufferId, DispatchError, TensorView};
use kernels::KernelError;
use ptx_builder::Target;
use tensor_formats::FormatError;

use super::layout::MemoryNeed;
use super::plan_error::PlanError;

/// Everything in this module that can fail fails with this.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CudaError {
    /// The driver refused or failed.
    #[error("{action}")]
    Driver {
        /// What was being done.
        action: String,
        /// The driver's error.
        source: Box<DriverError>,
    },
    /// A device that no known PTX target runs on.
    #[error("{device} has compute capability {capability}, the oldest that is supported is 7.5")]
    OldDevice {
        /// The device's name.
        device: String,
        /// Its compute capability.
        capability: String,
    },
    /// A kernel that cannot be made for a shape or a type, or not be emitted.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A tensor that its type does not allow.
    #[error(transparent)]
    Format(#[from] FormatError),
    /// A part of a quantised matrix, whose layout on the device is that of the whole.
    #[error("{view} is a part of a quantised matrix")]
    Part {
        /// The tensor.
        view: Box<TensorView>,
    },
    /// A kernel that needs a newer device.
    #[error("{kernel} needs {needs}, the device runs {target}")]
    Target {
        /// The kernel's name.
        kernel: String,
        /// The first target that would do.
        needs: Target,
        /// The device's.
        target: Target,
    },
    /// A step that has ended without telling its tokens.
    #[error("step {step} of the queue has ended and has told no token")]
    NoToken {
        /// The count of the step.
        step: u32,
    },
    /// An operation that this backend does not have.
    #[error(transparent)]
    Unsupported(#[from] DispatchError),
    /// A launch, copy or fill that must not run.
    #[error(transparent)]
    Plan(Box<PlanError>),
    /// A weight that the layout of the device's memory lacks.
    #[error("{weight} has no place on the device")]
    NoPlace {
        /// The tensor's name in the file.
        weight: String,
    },
    /// A tensor of the graph without memory.
    #[error("no memory is bound to {buffer}")]
    Unbound {
        /// The tensor's buffer.
        buffer: BufferId,
    },
    /// A tensor that reaches beyond the memory bound to its buffer.
    #[error("{view} ends beyond the {bytes} bytes bound to it")]
    TooShort {
        /// The tensor.
        view: Box<TensorView>,
        /// The bytes that are bound.
        bytes: u64,
    },
    /// A kernel that works in more memory than is there for it.
    #[error("{kernel} needs {needs} bytes of memory for {param} and what comes before it, {bytes} are bound")]
    NoWorkingMemory {
        /// The kernel.
        kernel: String,
        /// Its parameter.
        param: &'static str,
        /// Bytes of memory of that kind up to the end of the parameter.
        needs: u64,
        /// The bytes that are bound.
        bytes: u64,
    },
    /// A plan that needs more than the device has.
    #[error(
        "{} bytes are needed on the device ({} for weights, {} for KV caches, {} for workspaces), {free} are free",
        need.total(), need.weights, need.caches, need.workspace
    )]
    DoesNotFit {
        /// What is needed.
        need: MemoryNeed,
        /// What is free.
        free: u64,
    },
    /// A size that does not fit 64 bits, or the address space.
    #[error("the size of {what} overflows")]
    Overflow {
        /// What is so large.
        what: String,
    },
    /// A parameter that does not fit the others.
    #[error("invalid parameter: {what} must be {expected}, is {actual}")]
    InvalidParameter {
        /// Which one.
        what: &'static str,
        /// What it must be.
        expected: String,
        /// What it is.
        actual: String,
    },
}

impl From<PlanError> for CudaError {
    fn from(error: PlanError) -> Self {
        Self::Plan(Box::new(error))
    }
}

impl CudaError {
    /// For `map_err`: the driver failed at `action`.
    pub(crate) fn driver(action: impl Into<String>) -> impl FnOnce(DriverError) -> Self {
        |source| Self::Driver { action: action.into(), source: Box::new(source) }
    }
}
