//! What a kernel is: a name, its parameters, its launch geometry, its cost and the PTX it emits.

use ptx_builder::{Module, Target};
use tensor_formats::ElementType;

/// A PTX kernel specialised for one shape.
///
/// Every number that is known when the model is loaded (rows, columns, batch, epsilon, head size) is a field of the
/// implementing struct and an immediate in its PTX, so the only parameters left are pointers: a launch is the
/// function, [`geometry`](Kernel::geometry) and one device address for each of [`params`](Kernel::params).
pub trait Kernel: std::fmt::Debug + Send + Sync {
    /// A stable name that determines the PTX together with the target: the key of module caches, the name in
    /// `ptx-dump`, and the name of the entry function. It is a valid PTX identifier.
    fn name(&self) -> String;

    /// The pointer parameters in the order of the PTX signature.
    fn params(&self) -> Vec<Param>;

    /// Grid, block and dynamic shared memory of a launch.
    fn geometry(&self) -> LaunchGeometry;

    /// The bytes and operations that a launch moves and performs when every row attends to `context` cached
    /// positions. Kernels that do not read the KV cache ignore `context`.
    fn cost(&self, context: u64) -> Cost;

    /// The first target that can run this kernel.
    fn min_target(&self) -> Target {
        Target::SM_75
    }

    /// Whether a processor should run one block of this kernel at a time, even if it has room for more. A kernel that
    /// starts before its predecessor has ended otherwise crowds the processors that have room first, and leaves others
    /// without work.
    fn alone(&self) -> bool {
        false
    }

    /// Builds the verified module with one entry function called [`name`](Kernel::name).
    ///
    /// # Errors
    /// [`KernelError::Target`] if `target` is older than [`min_target`](Kernel::min_target);
    /// [`KernelError::SharedMemory`] if a block needs more than it can have there; [`KernelError::Verify`] if the verifier rejects what was built, which is a defect of the emitter.
    fn emit(&self, target: Target) -> Result<Module, KernelError>;

    /// Whether devices of `target` can run this kernel: [`emit`](Kernel::emit) refuses all others.
    fn runs_on(&self, target: Target) -> bool {
        !matches!(self.emit(target), Err(KernelError::Target { .. } | KernelError::SharedMemory { .. }))
    }
}

/// One pointer parameter of a kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Param {
    /// The parameter's name in PTX.
    pub name: &'static str,
    /// Whether the kernel reads or writes what the pointer addresses.
    pub access: Access,
    /// The element type behind the pointer.
    pub element: ElementType,
    /// The extent in bytes that the kernel may touch from the pointer on. It bounds every access, so edges between
    /// launches and bounds checks are derived from it.
    pub bytes: u64,
    /// The alignment in bytes that the pointer must have.
    pub align: u32,
}

/// How a kernel uses a parameter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Access {
    /// Only read.
    Read,
    /// Only written; every byte of the extent is written.
    Write,
    /// Read and written, or written in part.
    ReadWrite,
    /// Working memory of the launch, not a tensor: whatever it holds before does not matter, and what it holds
    /// afterwards means nothing. Launches that are ordered may share it.
    Scratch,
    /// Counters of the launch, not a tensor: zero before the first launch, and zero again after each. Launches that are
    /// ordered may share them.
    Counter,
}

impl Access {
    /// Whether the kernel reads what was there before.
    pub const fn reads(self) -> bool {
        matches!(self, Access::Read | Access::ReadWrite | Access::Counter)
    }

    /// Whether the kernel writes through the parameter.
    pub const fn writes(self) -> bool {
        !matches!(self, Access::Read)
    }

    /// Whether the parameter is memory to work in and not a tensor.
    pub const fn is_working(self) -> bool {
        matches!(self, Access::Scratch | Access::Counter)
    }
}

/// The shape of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LaunchGeometry {
    /// Blocks along x, y and z.
    pub grid: [u32; 3],
    /// Threads of a block along x, y and z.
    pub block: [u32; 3],
    /// Dynamic shared memory of a block, in bytes.
    pub dynamic_shared: u32,
}

/// Bytes of shared memory that a block can have on every device of compute capability 8.0 and later.
pub(crate) const LEAST_SHARED: u32 = 98 << 10;

/// Bytes of shared memory that a block can have on devices of `target`, at least.
pub const fn shared_memory(target: Target) -> u32 {
    match target.sm() {
        75 => 64 << 10,
        90 | 100 => 227 << 10,
        _ => LEAST_SHARED,
    }
}

/// What a launch costs at least, for comparison with the roofline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes read from device memory, each input once.
    pub bytes_read: u64,
    /// Bytes written to device memory.
    pub bytes_written: u64,
    /// Arithmetic operations; a multiply-add counts two.
    pub operations: u64,
}

/// Why a kernel could not be described or emitted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A size or type that the kernel cannot handle.
    #[error("{kernel}: {reason}")]
    Unsupported {
        /// The kernel family.
        kernel: &'static str,
        /// What does not fit, with the numbers.
        reason: String,
    },
    /// The target lacks what the kernel needs.
    #[error("{kernel} needs {needs}, the target is {target}")]
    Target {
        /// The kernel's name.
        kernel: String,
        /// The first target that would do.
        needs: Target,
        /// The target that was asked for.
        target: Target,
    },
    /// A block needs more shared memory than it can have on devices of the target.
    #[error(
        "{kernel} needs {needs} bytes of shared memory, a block can have {has} on {target}: make it for that target, \
         with `on` or `within`"
    )]
    SharedMemory {
        /// The kernel's name.
        kernel: String,
        /// Bytes that a block needs.
        needs: u64,
        /// Bytes that it can have.
        has: u32,
        /// The target that was asked for.
        target: Target,
    },
    /// The verifier rejected the emitted module.
    #[error("{kernel}: emitted PTX is invalid: {report}")]
    Verify {
        /// The kernel's name.
        kernel: String,
        /// The verifier's findings.
        report: String,
    },
    /// An element type or row length that the format does not allow.
    #[error(transparent)]
    Format(#[from] tensor_formats::FormatError),
}
