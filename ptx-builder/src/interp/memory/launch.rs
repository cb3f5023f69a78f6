//! What the blocks of a launch share.

use super::super::finding::{Findings, RawFinding};
use super::super::launch::{LaunchId, Sanitize};
use super::super::metrics::{MemoryMetrics, Touched};
use super::super::sanitize::{LAST_TAG, LAST_WARP, Objects};
use super::block::ClusterMemory;
use super::host::{Memory, Table};
use std::sync::{Arc, Mutex, PoisonError};

/// The size of a cluster, which is what one host thread runs; a block is a cluster of one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::interp) struct Shape {
    /// Clusters of the grid.
    pub(in crate::interp) clusters: u64,
    /// Blocks of a cluster.
    pub(in crate::interp) blocks: u32,
    /// Warps of a block.
    pub(in crate::interp) warps_per_block: u32,
    /// Bytes of shared memory of a block, static and dynamic.
    pub(in crate::interp) shared_bytes: u32,
    /// Bytes of local memory of a thread.
    pub(in crate::interp) local_bytes: u32,
}

impl Shape {
    /// Warps of a cluster.
    pub(in crate::interp) fn warps(&self) -> usize {
        self.blocks as usize * self.warps_per_block as usize
    }
}

/// The memory of a launch: a snapshot of the allocations, and what its blocks know of each other.
#[derive(Debug)]
pub(in crate::interp) struct LaunchMemory {
    pub(super) memory: Memory,
    pub(super) table: Arc<Table>,
    pub(super) shape: Shape,
    pub(super) sanitize: Sanitize,
    pub(super) metrics: bool,
    /// Are conflicts between accesses to global memory looked for?
    pub(super) global_races: bool,
    /// The number of the launch in shadow state.
    pub(super) tag: u64,
    /// Those of the launches that this one may overtake.
    pub(super) pending: Vec<u64>,
    pub(super) objects: Objects,
    pub(super) touched: Touched,
    joined: Mutex<(Findings, MemoryMetrics)>,
}

impl LaunchMemory {
    pub(in crate::interp) fn new(
        memory: &Memory,
        id: LaunchId,
        pending: &[LaunchId],
        shape: Shape,
        (sanitize, metrics): (Sanitize, bool),
    ) -> Self {
        let tag = if sanitize.races { memory.launch_tag(id.0, LAST_TAG) } else { 0 };
        let warps = shape.clusters.saturating_mul(shape.warps() as u64);
        let tags = pending.iter().map(|id| memory.launch_tag(id.0, u64::MAX)).filter(|tag| *tag != 0);
        Self {
            memory: memory.clone(),
            table: memory.table(),
            shape,
            sanitize,
            metrics,
            global_races: tag != 0 && warps <= LAST_WARP,
            tag,
            pending: tags.collect(),
            objects: Objects::default(),
            touched: Touched::default(),
            joined: Mutex::default(),
        }
    }

    /// Memory for a host thread that runs clusters. What it finds and counts is joined when it is dropped.
    pub(in crate::interp) fn cluster_memory(&self) -> ClusterMemory<'_> {
        ClusterMemory::new(self)
    }

    /// Does anybody ask what happens before what?
    #[inline]
    pub(super) fn tracks_order(&self) -> bool {
        self.sanitize.races
    }

    pub(super) fn join(&self, findings: Findings, counters: Option<Box<MemoryMetrics>>) {
        let mut joined = self.joined.lock().unwrap_or_else(PoisonError::into_inner);
        joined.0.merge(findings);
        if let Some(counters) = counters {
            joined.1.merge(&counters);
        }
    }

    /// Everything that was found and counted, after the last cluster's memory was dropped.
    pub(in crate::interp) fn finish(self) -> (Vec<RawFinding>, Option<MemoryMetrics>) {
        let (findings, mut metrics) = self.joined.into_inner().unwrap_or_else(PoisonError::into_inner);
        self.touched.finish(&mut metrics);
        (findings.into_sorted(), self.metrics.then_some(metrics))
    }
}
