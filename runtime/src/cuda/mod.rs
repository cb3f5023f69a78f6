//! The CUDA engine: a launch plan over emitted PTX, run eagerly or as an explicit CUDA graph.
//!
//! ```text
//! ComputeGraph ── CudaExecutor ──> LaunchPlan ── ModuleCache ──> LoadedPlan ──> run on a stream
//!  (graph)        (lower)          plain data    (PTX, JIT)          ├────────> PlanGraph (CUDA graph)
//!                                  edges                             └────────> profile
//! ```
//!
//! | file | what |
//! |---|---|
//! | [`memory_map`] | regions and byte ranges, the language of plans |
//! | [`edges`] | which steps must wait for which |
//! | [`plan`] | the launch plan and what it refuses |
//! | `lower` | operations to kernels |
//! | [`executor`] | [`graph::KernelDispatch`] that appends to a plan |
//! | [`module_cache`] | PTX emitted and compiled once |
//! | [`memory`], [`upload`] | allocations behind a memory map, and filling them |
//! | `weight_image`, `weights` | a model's weights in the device's layout, and their way to the device |
//! | `weight_cache`, `checksum` | that layout on disk |
//! | [`loaded`], [`plan_graph`], [`profile`](mod@profile) | the three ways to run a plan |
//! | [`engine_layout`], [`step_plan`] | the plan of a decoding step |
//! | [`sampling`] | the part of it that samples |
//! | [`roof`] | how fast memory can be read |
//! | [`decoder`] | [`Decoder`](crate::decoder::Decoder) on a GPU |
//! | `ahead`, `pace` | steps that are queued ahead of the host, and how it waits for them |
//! | [`attention_ops`] | attention and KV scatter as plain functions |
//! | [`runner`] | conformance cases and jobs on a GPU |
//!
//! Plans know no device and are tested without one. Nothing here captures a stream: graphs are built node by node, from
//! the same plan that runs eagerly.
//!
//! # Example: a plan without a device
//!
//! ```
//! use std::sync::Arc;
//! use graph::{ComputeGraph, Shape, execute_graph};
//! use runtime::cuda::{Bindings, CudaExecutor, LaunchPlan, Machine, MemoryMap, Region, RegionKind};
//! use tensor_formats::ElementType;
//!
//! let mut graph = ComputeGraph::new();
//! let x = graph.add_leaf("x", ElementType::F32, Shape::new(&[2, 256])?)?;
//! let w = graph.add_leaf("w", ElementType::Q8_0, Shape::new(&[64, 256])?)?;
//! let quantised = graph.quantize_q8(x)?;
//! let y = graph.mul_mat(w, quantised)?;
//! graph.mark_output(y)?;
//!
//! let layout = graph.plan();
//! let (mut memory, mut bindings) = (MemoryMap::new(), Bindings::new());
//! let mut region = |name: &str, kind, base, bytes| {
//!     let id = memory.add(Region { name: name.into(), kind, base, bytes });
//!     memory.whole(id).ok_or("a region of this map")
//! };
//! bindings.bind(x, region("x", RegionKind::Constant, 0x1000, 2 * 256 * 4)?);
//! bindings.bind(w, region("w", RegionKind::Constant, 0x10000, 64 * 256 / 32 * 34)?);
//! bindings.bind_workspace(region("workspace", RegionKind::Scratch, 0x20000, layout.workspace_bytes)?);
//!
//! let plan = LaunchPlan::new(Arc::new(memory));
//! let mut executor = CudaExecutor::new(plan, &bindings, Machine::H200);
//! execute_graph(&graph, &layout, &mut executor)?;
//! let plan = executor.finish();
//! assert_eq!(plan.n_launches(), 2);
//! assert_eq!(plan.edges().len(), 1, "the product reads what the first launch writes");
//! println!("{plan}");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ahead;
pub mod attention_ops;
mod byte_set;
mod checksum;
pub mod decoder;
mod decoder_profile;
pub mod edges;
pub mod engine_layout;
pub mod error;
pub mod executor;
#[cfg(test)]
mod executor_tests;
pub mod layout;
pub mod loaded;
mod lower;
mod lower_group;
pub mod machine;
pub mod memory;
pub mod memory_map;
pub mod module_cache;
mod pace;
pub mod plan;
pub mod plan_error;
pub mod plan_graph;
mod plan_listing;
#[cfg(test)]
mod plan_tests;
pub mod profile;
pub mod roof;
mod row_chunks;
pub mod runner;
pub mod sampling;
pub mod step_plan;
#[cfg(test)]
mod step_plan_tests;
#[cfg(test)]
mod testing;
pub mod upload;
mod weight_cache;
#[cfg(test)]
mod weight_cache_tests;
mod weight_image;
mod weights;
pub mod working_memory;

pub use decoder::{CudaDecoder, DecoderStats};
pub use edges::{Accesses, Edge, dependencies};
pub use error::CudaError;
pub use executor::{Bindings, CudaExecutor};
pub use loaded::LoadedPlan;
pub use machine::{Machine, Rounds};
pub use memory::DeviceMemory;
pub use memory_map::{MemoryMap, Region, RegionId, RegionKind, Span};
pub use module_cache::{CacheStats, ModuleCache};
pub use plan::{Argument, Launch, LaunchPlan, Step};
pub use plan_error::PlanError;
pub use plan_graph::PlanGraph;
pub use profile::{Profile, ProfileOptions, StepTime, profile};
pub use roof::{arithmetic_rate, read_rate};
pub use upload::{UploadTimes, Uploader};
