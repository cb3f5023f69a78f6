//! How fast the device's memory can be read.

use std::sync::Arc;

use gpu_driver::{Context, DeviceAttribute, Stream};
use kernels::Kernel as _;
use kernels::stream_read::StreamRead;
use tensor_formats::ElementType;

use super::error::CudaError;
use super::loaded::LoadedPlan;
use super::memory::DeviceMemory;
use super::memory_map::{RegionId, RegionKind};
use super::module_cache::ModuleCache;
use super::plan::{Argument, LaunchPlan};
use super::plan_graph::PlanGraph;
use super::profile::median_micros;

/// Operations per second of the f32 pipes at the highest clock, a multiply-add counting two; `None` for a device whose
/// number of lanes is not known here.
///
/// Lanes of a processor: "Throughput of Native Arithmetic Instructions" of the CUDA programming guide.
///
/// # Errors
/// The driver's failure.
pub fn arithmetic_rate(context: &Context) -> Result<Option<f64>, CudaError> {
    let clock = context.device().attribute(DeviceAttribute::ClockRate);
    let kilohertz = clock.map_err(CudaError::driver("asking for the clock rate"))?;
    let limits = context.limits();
    let lanes = match (limits.compute_capability.major, limits.compute_capability.minor) {
        (7, 5) | (8, 0) => 64.0,
        (8, _) | (9, 0) | (10 | 12, _) => 128.0,
        _ => return Ok(None),
    };
    Ok((kilohertz > 0).then(|| 2.0 * lanes * f64::from(limits.multiprocessors) * f64::from(kilohertz) * 1e3))
}

/// Launches between two events.
const LAUNCHES: usize = 8;
/// Blocks for each processor that are tried, up to as many as fit at once. With those alone, an H200 once read slower than
/// a head did in its step: 4.26 and 4.51 TB/s.
const BLOCKS: [usize; 4] = [1, 2, 4, 8];

/// Bytes per second at which the device of `cache` reads at least `bytes` bytes of its memory, again and again: of several
/// numbers of blocks the fastest, each by the median of `runs` runs. The bytes should be many times what the L2 holds.
///
/// # Errors
/// The driver's failure, such as memory that is not there; [`CudaError::InvalidParameter`] for no runs.
pub fn read_rate(cache: &ModuleCache, stream: &Stream, bytes: u64, runs: usize) -> Result<f64, CudaError> {
    if runs == 0 {
        let (expected, actual) = ("at least 1".into(), "0".into());
        return Err(CudaError::InvalidParameter { what: "the number of runs", expected, actual });
    }
    let tiles = usize::try_from(bytes.div_ceil(StreamRead::TILE_BYTES).max(1))
        .map_err(|_| CudaError::Overflow { what: format!("a read of {bytes} bytes") })?;
    let processors = cache.context().limits().multiprocessors as usize;
    let kernels = BLOCKS.map(|blocks| {
        let blocks = (processors * blocks).min(tiles);
        StreamRead::new(blocks, tiles.div_ceil(blocks))
    });
    let mut kernels = kernels.into_iter().collect::<Result<Vec<_>, _>>()?;
    kernels.dedup();
    let largest = |of: fn(&StreamRead) -> u64| kernels.iter().map(of).max().unwrap_or(0);
    let mut memory = DeviceMemory::new(cache.context());
    let x = memory.allocate_filled(stream, "stream", RegionKind::State, largest(StreamRead::bytes), 0x5A)?;
    let y =
        memory.allocate("results of the stream", RegionKind::Scratch, 4 * largest(StreamRead::results))?;
    let mut fastest = 0.0_f64;
    for kernel in kernels {
        fastest = fastest.max(rate_of(kernel, &memory, [x, y], cache, stream, runs)?);
    }
    Ok(fastest)
}

/// Bytes per second that `kernel` reads, the median of `runs` runs; its parameters lie at the start of `regions`.
fn rate_of(
    kernel: StreamRead,
    memory: &DeviceMemory,
    regions: [RegionId; 2],
    cache: &ModuleCache,
    stream: &Stream,
    runs: usize,
) -> Result<f64, CudaError> {
    let mut plan = LaunchPlan::new(Arc::clone(memory.map()));
    let [x, y] = regions.map(|id| {
        let span = memory.map().whole(id).ok_or(CudaError::Overflow { what: "a region".into() })?;
        Ok::<_, CudaError>(Argument { span, element: ElementType::U32 })
    });
    plan.launch(Arc::new(kernel), &[x?, y?])?;
    let plan = LoadedPlan::new(plan, memory, cache)?;
    let graph = PlanGraph::chain(&plan, stream, &[0; LAUNCHES], false)?;
    let micros = median_micros(&graph, stream, runs)?;
    Ok(kernel.cost(0).bytes_read as f64 * LAUNCHES as f64 / (micros * 1e-6))
}
