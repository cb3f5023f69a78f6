//! A CUDA driver in software: the driver API over the PTX interpreter of `ptx-builder`.
//!
//! A program that runs CUDA runs on it without a GPU, slowly and under watch: accesses are checked per allocation,
//! memory that nobody wrote and races are found, and what the program does not order runs in a shuffled order.
//!
//! ```
//! use gpu_driver::{DeviceBuffer, KernelArgs, LaunchConfig, Module, Stream};
//! use gpu_driver_sim::{SimConfig, SimDriver};
//!
//! let sim = SimDriver::new(SimConfig { seed: 7, ..SimConfig::default() })?;
//! let context = sim.driver()?.context(0)?;
//! let stream = Stream::new(&context)?;
//! let data = DeviceBuffer::from_slice(&stream, &[1u32, 2, 3, 4])?;
//! assert_eq!(stream.read_to_vec(&data.as_slice())?, [1, 2, 3, 4]);
//! drop((data, stream, context));
//! assert!(sim.report().is_clean(), "{}", sim.report());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Two faces
//!
//! - [`SimDriver`] fills the function table of a [`gpu_driver::Driver`]. A process may have many; see [`SimConfig`].
//! - The crate is a `cdylib`, too, which exports the C symbols: [`install`] puts it into a folder as `libcuda.so.1`, and
//!   a program that loads that from `LD_LIBRARY_PATH` (or by `WARPSMITH_CUDA_LIBRARY`) need not know. It is configured
//!   by the environment: [`SimConfig::from_env`].
//!
//! # What is simulated
//!
//! Contexts, memory and pools, managed, pinned and registered memory, streams and events, modules and libraries from PTX, launches with
//! their limits, explicit and captured graphs, their loops, sticky errors. Work is queued, and executed when something waits for
//! it; among what could run next, a seeded generator chooses ([`SimConfig::seed`]). Time is simulated: kernels cost
//! their instructions, transfers their bytes, and nothing competes for the device.
//!
//! Entries of the driver API that are missing are not found, or return `CUDA_ERROR_NOT_SUPPORTED`: among them conditional
//! nodes that are no loops, virtual memory management, arrays and textures,
//! linking of machine code, IPC. Machine code is refused with
//! `CUDA_ERROR_NO_BINARY_FOR_GPU`.
//!
//! # Faults and reports
//!
//! [`Fault`] makes the nth call of a function fail, a kernel die, memory run out. [`Report`] has calls, findings, what
//! failed, and what was alive when its context ended.
//!
//! # Map
//!
//! `api` has the functions, `exports` their list, `call` how one finds its driver; `state` the objects, `capture` streams that are captured, `queue` what
//! waits for what, `sim` the loop that executes, `work` what is executed, `launched` a launch of a graph; `code`
//! modules, `limits` launches, `profile` the parts.

mod api;
mod call;
mod capture;
mod code;
mod config;
mod driver;
mod error;
mod exports;
mod fault;
mod handle;
mod install;
mod launched;
mod lifetime;
mod limits;
mod objects;
mod profile;
mod queue;
mod random;
mod registry;
mod report;
mod sim;
mod state;
mod table;
mod texts;
mod work;

pub use config::SimConfig;
pub use driver::SimDriver;
pub use error::{Result, SimError};
pub use fault::{ANY, Fault, LAUNCH};
pub use install::{built_library, install};
pub use profile::DeviceProfile;
pub use ptx_builder::Target;
pub use ptx_builder::interp::{Finding, FindingKind, Metrics, Sanitize};
pub use report::{Call, CallCount, LaunchRecord, LiveObject, ObjectKind, Report};
