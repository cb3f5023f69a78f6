//! What a launch may ask for: geometry, shared memory, clusters; and how many blocks fit at once.

use gpu_driver::sys::CUresult;

use crate::call::Outcome;
use crate::code::Code;
use crate::objects::Function;
use crate::profile::{
    BLOCK_DIMS, DeviceProfile, GRID_DIMS, LARGEST_CLUSTER, PORTABLE_CLUSTER, REGISTERS, SHARED_PER_BLOCK,
    THREADS_PER_BLOCK,
};

/// The shape of a launch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub grid: [u32; 3],
    pub block: [u32; 3],
    pub cluster: [u32; 3],
    pub dynamic_shared: u32,
}

fn count(dims: [u32; 3]) -> u64 {
    dims.iter().map(|&n| u64::from(n)).fold(1, u64::saturating_mul)
}

impl Shape {
    /// The shape with the cluster that the kernel itself declares, where the launch says nothing else.
    pub(crate) fn completed(mut self, code: &Code) -> Outcome<Self> {
        let function = code.function();
        match function.reqnctapercluster {
            Some(declared) if self.cluster == [1; 3] => self.cluster = declared,
            Some(declared) if self.cluster != declared => return Err(CUresult::ERROR_INVALID_CLUSTER_SIZE),
            _ => {}
        }
        let most = function.maxclusterrank.map_or(u64::MAX, u64::from);
        if count(self.cluster) > most { Err(CUresult::ERROR_INVALID_CLUSTER_SIZE) } else { Ok(self) }
    }

    /// Refuses a launch whose blocks cannot all run at once.
    pub(crate) fn check_together(&self, code: &Code, part: &DeviceProfile) -> Outcome {
        let threads = u32::try_from(count(self.block)).unwrap_or(u32::MAX);
        let each = active_blocks(code, part, threads, u64::from(self.dynamic_shared));
        if count(self.grid) > u64::from(each) * u64::from(part.multiprocessors) {
            return Err(CUresult::ERROR_COOPERATIVE_LAUNCH_TOO_LARGE);
        }
        if count(self.grid) > MOST_TOGETHER { Err(CUresult::ERROR_NOT_SUPPORTED) } else { Ok(()) }
    }

    /// Refuses what a device refuses when the launch is queued.
    pub(crate) fn check(&self, function: &Function, part: &DeviceProfile) -> Outcome {
        let Self { grid, block, cluster, dynamic_shared } = *self;
        let invalid = Err(CUresult::ERROR_INVALID_VALUE);
        let outside =
            |dims: [u32; 3], most: [u32; 3]| dims.iter().zip(most).any(|(n, most)| *n == 0 || *n > most);
        if outside(grid, GRID_DIMS)
            || outside(block, BLOCK_DIMS)
            || count(block) > u64::from(THREADS_PER_BLOCK)
        {
            return invalid;
        }
        let code = &function.code;
        if count(block) > u64::from(code.max_threads())
            || code.function().reqntid.is_some_and(|fixed| fixed != block)
        {
            return invalid;
        }
        if dynamic_shared > function.max_dynamic_shared || code.static_shared > SHARED_PER_BLOCK {
            return invalid;
        }
        if cluster == [1; 3] {
            return Ok(());
        }
        let most = if function.non_portable_clusters { LARGEST_CLUSTER } else { PORTABLE_CLUSTER };
        let blocks = count(cluster);
        if !part.clusters() || blocks == 0 || blocks > most {
            return Err(CUresult::ERROR_INVALID_CLUSTER_SIZE);
        }
        if grid.iter().zip(cluster).any(|(n, c)| !n.is_multiple_of(c)) {
            return invalid;
        }
        Ok(())
    }
}

/// The most blocks that the interpreter runs at once.
const MOST_TOGETHER: u64 = 1024;

/// Blocks that are resident on one multiprocessor at once.
pub(crate) fn active_blocks(code: &Code, part: &DeviceProfile, threads: u32, dynamic_shared: u64) -> u32 {
    if threads == 0 || threads > code.max_threads() {
        return 0;
    }
    let shared = u64::from(code.static_shared) + dynamic_shared + u64::from(part.reserved_shared);
    if u64::from(code.static_shared) + dynamic_shared > u64::from(part.shared_per_block_optin) {
        return 0;
    }
    let warps = threads.div_ceil(32);
    let by_threads = part.threads_per_multiprocessor / (warps * 32);
    let by_registers = REGISTERS / (code.registers() * warps * 32).max(1);
    let by_shared = u64::from(part.shared_per_multiprocessor).checked_div(shared).unwrap_or(u64::MAX);
    let by_shared = u32::try_from(by_shared).unwrap_or(u32::MAX);
    part.blocks_per_multiprocessor.min(by_threads).min(by_registers).min(by_shared)
}
