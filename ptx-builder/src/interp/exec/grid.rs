//! What all blocks of a launch have in common.

use super::frame::Template;
use crate::ids::InstId;
use crate::interp::finding::Names;
use crate::interp::launch::{LaunchId, Options};
use crate::interp::program::{Code, FunctionCode};
use std::sync::OnceLock;

/// A launch in progress.
pub(in crate::interp) struct Grid<'a> {
    pub(in crate::interp) code: &'a Code,
    /// The kernel.
    pub(in crate::interp) kernel: &'a FunctionCode,
    pub(in crate::interp) index: u32,
    pub(in crate::interp) id: LaunchId,
    /// Addresses of the module's variables.
    pub(in crate::interp) globals: &'a [u64],
    pub(in crate::interp) grid: [u32; 3],
    pub(in crate::interp) block: [u32; 3],
    pub(in crate::interp) cluster: [u32; 3],
    pub(in crate::interp) dynamic_shared: u32,
    /// Where the dynamic shared memory starts.
    pub(in crate::interp) dynamic_offset: u32,
    /// Shared memory of a block, static and dynamic.
    pub(in crate::interp) shared_bytes: u32,
    /// Local memory of a thread.
    pub(in crate::interp) local_bytes: u32,
    /// The address of the words that the grid synchronises by, or 0 if nothing asks for it.
    pub(in crate::interp) words: u64,
    /// The parameter memory of the kernel, in words.
    pub(in crate::interp) params: Vec<u32>,
    pub(in crate::interp) templates: Vec<OnceLock<Template>>,
    pub(in crate::interp) options: &'a Options,
}

impl Grid<'_> {
    pub(super) fn template(&self, function: u32) -> &Template {
        self.templates[function as usize].get_or_init(|| Template::new(self, function))
    }

    pub(in crate::interp) fn threads(&self) -> u32 {
        self.block.iter().product()
    }

    pub(in crate::interp) fn warps(&self) -> u32 {
        self.threads().div_ceil(32)
    }

    pub(in crate::interp) fn blocks_per_cluster(&self) -> u32 {
        self.cluster.iter().product()
    }

    /// The number of clusters.
    pub(in crate::interp) fn clusters(&self) -> u64 {
        let axes = self.grid.iter().zip(&self.cluster);
        axes.map(|(blocks, cluster)| u64::from(blocks / cluster)).product()
    }

    /// The coordinates of a block.
    pub(in crate::interp) fn block_at(&self, cluster: u32, rank: u32) -> [u32; 3] {
        let [cx, cy, cz] = self.cluster;
        let [nx, ny] = [self.grid[0] / cx, self.grid[1] / cy];
        let base = [cluster % nx * cx, cluster / nx % ny * cy, cluster / nx / ny * cz];
        [base[0] + rank % cx, base[1] + rank / cx % cy, base[2] + rank / cx / cy]
    }

    /// A shared address within the cluster: the rank of the block above 24 bits of offset.
    pub(super) fn shared_address(&self, rank: u32, offset: u32) -> u32 {
        rank << 24 | offset
    }
}

impl Names for Grid<'_> {
    fn kernel(&self) -> &str {
        &self.code.module.functions[self.index as usize].name
    }

    fn place(&self, cluster: u32, warp: u32, lane: u32) -> ([u32; 3], [u32; 3]) {
        let warps = self.warps().max(1);
        let block = self.block_at(cluster, warp / warps);
        let thread = warp % warps * 32 + lane;
        let [x, y, _] = self.block;
        (block, [thread % x, thread / x % y, thread / x / y])
    }

    fn line(&self, pc: u32) -> (InstId, String) {
        self.code.describe(pc)
    }
}
