//! Launches, and the kernels that the double can execute: by name, in Rust.

use super::*;
use gpu_driver::sys::{CUDA_KERNEL_NODE_PARAMS_v2, CUfunction, CUlaunchConfig, CUstream};
use std::ffi::{c_int, c_uint};

impl State {
    /// Copies the arguments behind `params`, as the driver does.
    pub fn capture_args(
        &self,
        function: CUfunction,
        params: *mut *mut c_void,
    ) -> Result<Vec<Vec<u8>>, CUresult> {
        let sizes = &self.function(function)?.parameters;
        Ok(sizes
            .iter()
            .enumerate()
            .map(|(i, &bytes)| {
                // SAFETY: the safe layer passes one pointer per parameter, each to as many bytes as the parameter has.
                unsafe { std::slice::from_raw_parts((*params.add(i)).cast::<u8>(), bytes) }.to_vec()
            })
            .collect())
    }

    pub fn capture_node(&self, params: *const CUDA_KERNEL_NODE_PARAMS_v2) -> Result<Launch, CUresult> {
        // SAFETY: the safe layer passes a structure that lives during the call.
        let p = unsafe { &*params };
        if !p.extra.is_null() || !p.kern.is_null() || !p.ctx.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        Ok(Launch {
            function: self.function(p.func)?.name.clone(),
            grid: p.grid_dim,
            block: p.block_dim,
            shared: p.shared_mem_bytes,
            args: self.capture_args(p.func, p.kernel_params)?,
            attributes: Vec::new(),
        })
    }

    pub fn run_kernel(&mut self, launch: &Launch) -> Outcome {
        self.launches.push(launch.clone());
        let threads = (launch.grid[0] * launch.block[0]) as usize;
        let pointer = |i: usize| u64::from_le_bytes(launch.args[i][..8].try_into().expect("an address"));
        match launch.function.as_str() {
            "triple" => {
                for x in self.device(pointer(0), 4 * threads)?.chunks_exact_mut(4) {
                    let value = u32::from_le_bytes(x.try_into().expect("four bytes"));
                    x.copy_from_slice(&(3 * value).to_le_bytes());
                }
            }
            "fault" => self.sticky = Some(CUresult::ERROR_ILLEGAL_ADDRESS),
            _ => {}
        }
        Ok(())
    }
}

#[rustfmt::skip]
pub extern "C" fn launch_kernel(
    function: CUfunction, grid_x: c_uint, grid_y: c_uint, grid_z: c_uint, block_x: c_uint, block_y: c_uint,
    block_z: c_uint, shared: c_uint, stream: CUstream, params: *mut *mut c_void, extra: *mut *mut c_void,
) -> CUresult {
    answer_in_context("cuLaunchKernel", String::new(), |s| {
        alive(&s.streams, stream.0.addr())?;
        if !extra.is_null() {
            return Err(CUresult::ERROR_INVALID_VALUE);
        }
        let launch = Launch {
            function: s.function(function)?.name.clone(),
            grid: [grid_x, grid_y, grid_z],
            block: [block_x, block_y, block_z],
            shared,
            args: s.capture_args(function, params)?,
            attributes: Vec::new(),
        };
        s.run_kernel(&launch)
    })
}

/// # Safety
///
/// `config` must be as the driver's documentation says.
unsafe fn attributes_of(config: &CUlaunchConfig) -> Vec<(u32, [u32; 3])> {
    // SAFETY: the array has `num_attrs` entries.
    let list = unsafe { std::slice::from_raw_parts(config.attrs, config.num_attrs as usize) };
    // SAFETY: every byte of the union is initialised, because it is made from `ZERO`.
    list.iter().map(|a| (a.id, unsafe { a.value.cluster_dim })).collect()
}

pub extern "C" fn launch_kernel_ex(
    config: *const CUlaunchConfig,
    function: CUfunction,
    params: *mut *mut c_void,
    _extra: *mut *mut c_void,
) -> CUresult {
    answer_in_context("cuLaunchKernelEx", String::new(), |s| {
        // SAFETY: the safe layer passes a configuration that lives during the call.
        let c = unsafe { &*config };
        alive(&s.streams, c.stream.0.addr())?;
        let launch = Launch {
            function: s.function(function)?.name.clone(),
            grid: c.grid_dim,
            block: c.block_dim,
            shared: c.shared_mem_bytes,
            args: s.capture_args(function, params)?,
            // SAFETY: as above.
            attributes: unsafe { attributes_of(c) },
        };
        s.run_kernel(&launch)
    })
}

pub extern "C" fn occupancy_max_active_blocks(
    blocks: *mut c_int,
    _function: CUfunction,
    threads: c_int,
    _dynamic_shared: usize,
) -> CUresult {
    answer_in_context("cuOccupancyMaxActiveBlocksPerMultiprocessor", threads.to_string(), |_| {
        put(blocks, 2048 / threads)
    })
}

pub extern "C" fn occupancy_max_potential_block_size(
    min_grid: *mut c_int,
    block: *mut c_int,
    _function: CUfunction,
    _shared_of_block: Option<extern "C" fn(c_int) -> usize>,
    _dynamic_shared: usize,
    _limit: c_int,
) -> CUresult {
    answer_in_context("cuOccupancyMaxPotentialBlockSize", String::new(), |_| {
        put(min_grid, 264)?;
        put(block, 1024)
    })
}

pub extern "C" fn occupancy_max_active_clusters(
    clusters: *mut c_int,
    _function: CUfunction,
    config: *const CUlaunchConfig,
) -> CUresult {
    answer_in_context("cuOccupancyMaxActiveClusters", String::new(), |_| {
        // SAFETY: the safe layer passes a configuration that lives during the call.
        let list = unsafe { attributes_of(&*config) };
        let size = list.iter().find(|a| a.0 == 4).map_or(1, |a| a.1.iter().product::<u32>());
        put(clusters, (132 / size) as c_int)
    })
}
