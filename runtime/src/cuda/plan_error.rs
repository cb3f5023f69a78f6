//! Why a step was not appended to a plan.

use kernels::LaunchGeometry;
use tensor_formats::ElementType;

/// A step that must not run. Spans are printed as `region[start..end]`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlanError {
    /// Too many or too few arguments.
    #[error("{kernel} takes {expected} arguments, got {actual}")]
    Arity {
        /// The kernel's name.
        kernel: String,
        /// Its number of parameters.
        expected: usize,
        /// The number of arguments.
        actual: usize,
    },
    /// A launch that no device can run.
    #[error("{kernel}: no device launches {geometry:?}")]
    Geometry {
        /// The kernel's name.
        kernel: String,
        /// What was asked for.
        geometry: LaunchGeometry,
    },
    /// A span that is not inside its region, or whose region is not in the plan's map.
    #[error("{step}: {span} is outside its region")]
    Outside {
        /// The kernel's name, or what else was to be done.
        step: String,
        /// The span.
        span: String,
    },
    /// A tensor of the wrong type.
    #[error("{kernel}: {parameter} takes {expected}, {span} holds {actual}")]
    Element {
        /// The kernel's name.
        kernel: String,
        /// The parameter's name.
        parameter: &'static str,
        /// The argument.
        span: String,
        /// What the parameter takes.
        expected: ElementType,
        /// What the argument is.
        actual: ElementType,
    },
    /// A tensor with fewer bytes than the kernel touches.
    #[error("{kernel}: {parameter} touches {needs} bytes, more than {span} has")]
    Extent {
        /// The kernel's name.
        kernel: String,
        /// The parameter's name.
        parameter: &'static str,
        /// The argument.
        span: String,
        /// The parameter's extent in bytes.
        needs: u64,
    },
    /// A pointer that is not aligned.
    #[error("{kernel}: {parameter} must be a multiple of {align}, {span} is at {address:#x}")]
    Alignment {
        /// The kernel's name.
        kernel: String,
        /// The parameter's name.
        parameter: &'static str,
        /// The argument.
        span: String,
        /// Its address.
        address: u64,
        /// What the parameter needs.
        align: u32,
    },
    /// A write to constant memory.
    #[error("{step} would write {span}, which is constant")]
    Constant {
        /// The kernel and parameter, or what else was to be done.
        step: String,
        /// The span.
        span: String,
    },
    /// Host memory where only device memory will do.
    #[error("{step} cannot use {span}, which is host memory")]
    Host {
        /// The kernel and parameter, or what else was to be done.
        step: String,
        /// The span.
        span: String,
    },
    /// Spans that overlap without being the same, one of them written.
    #[error("{kernel}: {a} and {b} overlap in part")]
    Alias {
        /// The kernel's name, or what else was to be done.
        kernel: String,
        /// One of the two.
        a: String,
        /// The other.
        b: String,
    },
    /// Scratch memory that nothing has written.
    #[error("{step} reads {span}, but nothing wrote byte {byte} of that region")]
    Unwritten {
        /// The kernel's name, or what else was to be done.
        step: String,
        /// The span.
        span: String,
        /// The first byte without contents, from the start of the region.
        byte: u64,
    },
    /// A copy between spans of different lengths.
    #[error("cannot copy {source_span} to {target}: the lengths differ")]
    CopyLength {
        /// The bytes to write.
        target: String,
        /// The bytes to read.
        source_span: String,
    },
}
