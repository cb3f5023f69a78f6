//! How much of a kernel fits on a device at once.

use std::ffi::{c_int, c_uint};

use gpu_driver::sys::*;

use crate::api::function::known;
use crate::api::launch::attributes;
use crate::call::{Name, in_context, name, put};
use crate::limits::{Shape, active_blocks};
use crate::objects::Function;
use crate::profile::{DeviceProfile, LARGEST_CLUSTER, PORTABLE_CLUSTER};

fn active(
    name: Name<'_>,
    blocks: *mut c_int,
    function: CUfunction,
    threads: c_int,
    shared: usize,
) -> CUresult {
    in_context(name, |call| {
        let part = &call.sim.profile;
        let (_, function) = known(call, function)?;
        let threads = u32::try_from(threads).ok().filter(|n| *n > 0).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        put(blocks, active_blocks(&function.code, part, threads, shared as u64) as c_int)
    })
}

pub(crate) unsafe extern "C" fn max_active_blocks(
    blocks: *mut c_int,
    function: CUfunction,
    threads: c_int,
    shared: usize,
) -> CUresult {
    active(
        name!("cuOccupancyMaxActiveBlocksPerMultiprocessor", "{threads}"),
        blocks,
        function,
        threads,
        shared,
    )
}

pub(crate) unsafe extern "C" fn max_active_blocks_with_flags(
    blocks: *mut c_int,
    function: CUfunction,
    threads: c_int,
    shared: usize,
    flags: c_uint,
) -> CUresult {
    if flags > 1 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    let name = name!("cuOccupancyMaxActiveBlocksPerMultiprocessorWithFlags", "{threads}");
    active(name, blocks, function, threads, shared)
}

/// The amount of shared memory of a block of so many threads.
type SharedOfBlock = Option<extern "C" fn(c_int) -> usize>;

pub(crate) unsafe extern "C" fn max_potential_block_size(
    min_grid: *mut c_int,
    block: *mut c_int,
    function: CUfunction,
    shared_of_block: SharedOfBlock,
    shared: usize,
    limit: c_int,
) -> CUresult {
    in_context(name!("cuOccupancyMaxPotentialBlockSize"), |call| {
        let part = &call.sim.profile;
        let (_, function) = known(call, function)?;
        let most = function.code.max_threads();
        let most = u32::try_from(limit).ok().filter(|n| *n > 0).map_or(most, |limit| limit.min(most));
        let sizes = (1..=most.div_ceil(32)).rev().map(|warps| (warps * 32).min(most));
        let mut best = (0, 0, 0);
        for threads in sizes {
            let shared = shared_of_block.map_or(shared, |f| f(threads as c_int));
            let blocks = active_blocks(&function.code, part, threads, shared as u64);
            if threads * blocks > best.0 {
                best = (threads * blocks, threads, blocks);
            }
        }
        put(min_grid, (best.2 * part.multiprocessors) as c_int)?;
        put(block, best.1 as c_int)
    })
}

pub(crate) unsafe extern "C" fn max_potential_block_size_with_flags(
    min_grid: *mut c_int,
    block: *mut c_int,
    function: CUfunction,
    shared_of_block: SharedOfBlock,
    shared: usize,
    limit: c_int,
    flags: c_uint,
) -> CUresult {
    if flags > 1 {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the caller's promise.
    unsafe { max_potential_block_size(min_grid, block, function, shared_of_block, shared, limit) }
}

pub(crate) unsafe extern "C" fn available_dynamic_shared(
    bytes: *mut usize,
    function: CUfunction,
    blocks: c_int,
    threads: c_int,
) -> CUresult {
    in_context(name!("cuOccupancyAvailableDynamicSMemPerBlock"), |call| {
        let part = &call.sim.profile;
        let (_, function) = known(call, function)?;
        let wanted = u32::try_from(blocks).ok().filter(|n| *n > 0).ok_or(CUresult::ERROR_INVALID_VALUE)?;
        let threads = u32::try_from(threads).map_err(|_| CUresult::ERROR_INVALID_VALUE)?;
        if active_blocks(&function.code, part, threads, 0) < wanted {
            return put(bytes, 0);
        }
        let each = part.shared_per_multiprocessor / wanted;
        let used = function.code.static_shared + part.reserved_shared;
        let optin = part.shared_per_block_optin.saturating_sub(function.code.static_shared);
        put(bytes, each.saturating_sub(used).min(optin) as usize)
    })
}

/// Blocks of a launch that a multiprocessor has room for.
fn blocks_of(config: &CUlaunchConfig, function: &Function, part: &DeviceProfile) -> u32 {
    let threads = config.block_dim.iter().fold(1u32, |n, dim| n.saturating_mul(*dim));
    active_blocks(&function.code, part, threads, u64::from(config.shared_mem_bytes))
}

pub(crate) unsafe extern "C" fn max_active_clusters(
    clusters: *mut c_int,
    function: CUfunction,
    config: *const CUlaunchConfig,
) -> CUresult {
    if config.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the caller's promise.
    let config = unsafe { &*config };
    // SAFETY: as above.
    let attributes = unsafe { attributes(config) };
    in_context(name!("cuOccupancyMaxActiveClusters"), |call| {
        let cluster = attributes?.cluster;
        let part = &call.sim.profile;
        let (_, function) = known(call, function)?;
        let shape = Shape {
            grid: config.grid_dim,
            block: config.block_dim,
            cluster,
            dynamic_shared: config.shared_mem_bytes,
        };
        let shape = shape.completed(&function.code)?;
        shape.check(function, part)?;
        let blocks = blocks_of(config, function, part);
        let size = shape.cluster.iter().product::<u32>().max(1);
        put(clusters, (blocks * part.multiprocessors / size) as c_int)
    })
}

/// The largest cluster that a launch can have: any that is allowed fits where a block does.
pub(crate) unsafe extern "C" fn max_potential_cluster_size(
    size: *mut c_int,
    function: CUfunction,
    config: *const CUlaunchConfig,
) -> CUresult {
    if config.is_null() {
        return CUresult::ERROR_INVALID_VALUE;
    }
    // SAFETY: the caller's promise.
    let config = unsafe { &*config };
    in_context(name!("cuOccupancyMaxPotentialClusterSize"), |call| {
        let part = &call.sim.profile;
        let (_, function) = known(call, function)?;
        if !part.clusters() {
            return Err(CUresult::ERROR_NOT_SUPPORTED);
        }
        let fits = blocks_of(config, function, part) > 0;
        let most = if function.non_portable_clusters { LARGEST_CLUSTER } else { PORTABLE_CLUSTER };
        put(size, if fits { most as c_int } else { 0 })
    })
}
