//! Kernels that are never emitted, for tests of plans.

use kernels::{Access, Cost, Kernel, KernelError, LaunchGeometry, Param};
use ptx_builder::{Module, Target};
use tensor_formats::ElementType;

/// A kernel with given parameters and no code.
#[derive(Debug, Clone)]
pub(crate) struct FakeKernel {
    pub(crate) name: &'static str,
    pub(crate) params: Vec<Param>,
    pub(crate) geometry: LaunchGeometry,
}

impl FakeKernel {
    pub(crate) fn new(name: &'static str, params: &[Param]) -> Self {
        let geometry = LaunchGeometry { grid: [1, 1, 1], block: [32, 1, 1], dynamic_shared: 0 };
        Self { name, params: params.to_vec(), geometry }
    }
}

/// An F32 parameter of `bytes` bytes.
pub(crate) fn param(name: &'static str, access: Access, bytes: u64) -> Param {
    Param { name, access, element: ElementType::F32, bytes, align: 4 }
}

impl Kernel for FakeKernel {
    fn name(&self) -> String {
        self.name.into()
    }

    fn params(&self) -> Vec<Param> {
        self.params.clone()
    }

    fn geometry(&self) -> LaunchGeometry {
        self.geometry
    }

    /// Each parameter once; as many operations as there are positions.
    fn cost(&self, context: u64) -> Cost {
        let sum = |used: fn(Access) -> bool| {
            self.params.iter().filter(|param| used(param.access)).map(|param| param.bytes).sum()
        };
        Cost { bytes_read: sum(Access::reads), bytes_written: sum(Access::writes), operations: context }
    }

    fn emit(&self, _target: Target) -> Result<Module, KernelError> {
        Err(KernelError::Unsupported { kernel: "fake", reason: "it has no code".into() })
    }
}
