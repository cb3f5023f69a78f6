//! Hand-written, dynamically loaded binding to the CUDA driver API.
//!
//! The only thing this crate needs on the machine is the NVIDIA driver, and it needs that at run time only: without one,
//! everything builds, and [`Driver::load`] returns an error that says what was tried.
//!
//! | CUDA | here |
//! | --- | --- |
//! | `libcuda`, `cuInit` | [`Driver`] |
//! | `CUdevice` | [`Device`], [`DeviceAttribute`] |
//! | primary `CUcontext` | [`Context`] |
//! | `CUstream`, `CUevent` | [`Stream`], [`Event`] |
//! | `cuMemAlloc`, `cuMemHostAlloc`, `cuMemcpy*`, `cuMemset*` | [`memory`] |
//! | `CUmodule` and its compiler's logs | [`Module`], [`JitOptions`], [`JitError`] |
//! | `CUfunction`, occupancy | [`Function`] |
//! | `cuLaunchKernel`, `cuLaunchKernelEx` | [`LaunchConfig`], [`KernelArgs`], [`Function::launch`] |
//! | `CUgraph`, `CUgraphExec` | [`graph`] |
//! | `CUresult` | [`DriverError`], [`sys::CUresult`] |
//! | the functions themselves | [`sys::DriverTable`] |
//!
//! What holds throughout:
//!
//! - Objects keep alive what they depend on, down to the loaded library, and may be dropped in any order, on any thread.
//! - Work in flight is never pulled from under the device: what a queued copy or a graph uses is owned by the stream or
//!   the graph, and releasing memory or code waits for the context's work first.
//! - A sticky error poisons its [`Context`]; what follows says so by name.
//! - Destructors do not panic and lose no error: see [`Context::take_drop_errors`].
//! - Nothing runs on the legacy default stream, and there is no stream capture.
//!
//! # Example
//!
//! ```
//! use gpu_driver::{Driver, DriverError, DeviceBuffer, KernelArgs, LaunchConfig, Module, Stream};
//!
//! const PTX: &str = "
//! .version 7.0
//! .target sm_75
//! .address_size 64
//! .visible .entry triple(.param .u64 data) {
//!     .reg .b32 %r<3>;
//!     .reg .b64 %rd<3>;
//!     ld.param.u64 %rd1, [data];
//!     mov.u32 %r1, %tid.x;
//!     mad.wide.u32 %rd2, %r1, 4, %rd1;
//!     ld.global.u32 %r2, [%rd2];
//!     mul.lo.u32 %r2, %r2, 3;
//!     st.global.u32 [%rd2], %r2;
//!     ret;
//! }";
//!
//! fn triple(driver: &Driver) -> Result<Vec<u32>, DriverError> {
//!     let context = driver.context(0)?;
//!     let stream = Stream::new(&context)?;
//!     let data = DeviceBuffer::from_slice(&stream, &[1u32, 2, 3, 4])?;
//!     let kernel = Module::from_ptx(&context, PTX)?.function("triple")?;
//!     // SAFETY: four threads touch the four elements of `data`, which lives until the copy below has waited.
//!     unsafe { kernel.launch(&stream, &LaunchConfig::new(1, 4), &KernelArgs::new().with(&data)) }?;
//!     stream.read_to_vec(&data.as_slice())
//! }
//!
//! match Driver::load() {
//!     Ok(driver) => match triple(&driver) {
//!         Ok(result) => assert_eq!(result, [3, 6, 9, 12]),
//!         Err(error) => println!("not on this machine: {error}"),
//!     },
//!     Err(error) => println!("not on this machine: {error}"),
//! }
//! ```

mod args;
mod attribute;
mod context;
mod device;
mod driver;
mod drop_log;
mod error;
mod event;
mod function;
pub mod graph;
mod launch;
pub mod memory;
mod module;
mod stream;
pub mod sys;

pub use args::{KernelArg, KernelArgs};
pub use attribute::DeviceAttribute;
pub use bytemuck::{self, Pod};
pub use context::{Context, MemoryInfo};
pub use device::{ComputeCapability, Device, DeviceLimits, Uuid};
pub use driver::{Driver, LIBRARY_VARIABLE};
pub use drop_log::DropError;
pub use error::{ApiError, CudaVersion, DriverError, ErrorKind};
pub use event::{Event, EventKind};
pub use function::{BlockSuggestion, Function, FunctionAttributes};
pub use graph::{
    Conditional, Dependency, EdgeKind, Graph, GraphExec, KernelNode, MemsetValue, NodeId, NodeType, Region,
};
pub use launch::{Dim3, LaunchConfig};
pub use memory::{DeviceBuffer, DevicePtr, DeviceSlice, DeviceSliceMut, Pending, PinnedBuffer, SharedPinned};
pub use module::{JitError, JitLog, JitOptions, Module};
pub use stream::Stream;
