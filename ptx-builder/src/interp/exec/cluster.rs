//! The blocks of a cluster, interleaved on one host thread.

use super::barrier::Barriers;
use super::block::{BlockState, Buffers, Counts, Env};
use super::cluster_barrier::ClusterBarrier;
use super::copy::InFlight;
use super::frame::Place;
use super::grid::Grid;
use super::run::Turn;
use super::warp::Warp;
use crate::interp::finding::{Fault, FindingKind};
use crate::interp::memory::ClusterMemory;

/// A cluster in execution.
pub(super) struct Cluster<'m> {
    pub(super) memory: ClusterMemory<'m>,
    blocks: Vec<(BlockState, Vec<Warp>)>,
    barrier: ClusterBarrier,
    /// Instructions so far.
    pub(super) executed: u64,
    /// Was it put aside although it could have gone on?
    pub(super) hungry: bool,
    turn: u32,
    order: u64,
}

/// What a host thread has to run clusters with.
#[derive(Default)]
pub(super) struct Tools {
    pub(super) buffers: Buffers,
    pub(super) counts: Counts,
    pub(super) printed: String,
    pub(super) conditionals: Vec<(u64, u32)>,
}

/// Why a cluster stopped running.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Progress {
    Finished,
    /// It has had its share.
    Quantum,
    /// All that can run waits for other clusters.
    Waits,
}

/// The next state of a generator of pseudorandom numbers (splitmix64).
pub(super) fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl<'m> Cluster<'m> {
    /// The cluster with that linear index, before its first instruction.
    pub(super) fn new(grid: &Grid<'_>, mut memory: ClusterMemory<'m>, index: u32) -> Self {
        memory.begin(index);
        let threads = grid.threads();
        let warps = grid.warps();
        let template = grid.template(grid.index);
        let blocks = (0..grid.blocks_per_cluster()).map(|rank| {
            let at = grid.block_at(index, rank);
            let all = (0..warps).map(|number| {
                let left = threads - number * 32;
                let live = if left >= 32 { u32::MAX } else { (1 << left) - 1 };
                let place = Place { block: at, rank, warp: number };
                let mut frame = template.frame(grid, grid.index, place, 0, live);
                for (row, word) in frame.params.iter_mut().zip(&grid.params) {
                    *row = [*word; 32];
                }
                Warp::new(number, rank * warps + number, rank, live, frame, grid.kernel.range.entry)
            });
            let state = BlockState {
                at,
                rank,
                live: threads,
                barriers: Barriers::default(),
                executed: 0,
                in_flight: InFlight::default(),
            };
            (state, all.collect())
        });
        let order = if grid.options.seed == 0 { 0 } else { mix(grid.options.seed ^ u64::from(index) << 20) };
        let barrier = ClusterBarrier::new(threads * grid.blocks_per_cluster());
        Self { memory, blocks: blocks.collect(), barrier, executed: 0, hungry: false, turn: 0, order }
    }

    /// Runs for about `quantum` instructions.
    pub(super) fn run(
        &mut self,
        grid: &Grid<'_>,
        tools: &mut Tools,
        quantum: u64,
    ) -> Result<Progress, Fault> {
        let stop = self.executed.saturating_add(quantum);
        loop {
            let mut ran = false;
            let mut busy = false;
            let mut done = true;
            self.turn = self.turn.wrapping_add(1);
            // Seeds other than 0 also vary the length of turns, so that warps meet in other ways.
            let shuffled = grid.options.seed != 0;
            let budget = if shuffled { 1 << (5 + mix(self.order ^ u64::from(self.turn)) % 8) } else { 4096 };
            for b in 0..self.blocks.len() {
                let (block, warps) = &mut self.blocks[b];
                let count = warps.len();
                let start =
                    if shuffled { mix(self.order.wrapping_add(b as u64)) as usize % count } else { 0 };
                for k in 0..count {
                    let w = (start + k) % count;
                    let warp = &mut warps[w];
                    if warp.is_done() {
                        continue;
                    }
                    done = false;
                    if !warp.is_ready() {
                        continue;
                    }
                    ran = true;
                    let mut env =
                        environment(grid, (&mut self.memory, &mut self.barrier), block, tools, self.executed);
                    let turn = warp.run(&mut env, budget);
                    let used = env.executed;
                    block.executed += used;
                    self.executed += used;
                    busy |= turn? != Turn::Polled;
                    if block.executed > grid.options.fuel {
                        let pc = warp.fragments.first().map_or(0, |f| f.pc);
                        let detail = format!("the block has executed {} warp instructions", block.executed);
                        let env = environment(grid, (&mut self.memory, &mut self.barrier), block, tools, 0);
                        return Err(env.fault(FindingKind::EndlessLoop, warp.index, pc, warp.live, detail));
                    }
                    let live = (block.rank, block.live);
                    let mut barriers = std::mem::take(&mut block.barriers);
                    barriers.settle(grid.code, live, warps, &mut self.memory);
                    block.barriers = barriers;
                }
            }
            let warps = self.blocks.iter_mut().flat_map(|(_, warps)| warps);
            let released = self.barrier.settle(warps, &mut self.memory);
            if done {
                return Ok(Progress::Finished);
            }
            if !ran && !released && !self.unblock(grid, tools)? {
                return Err(self.deadlock(grid));
            }
            if ran && !busy && !released {
                return Ok(Progress::Waits);
            }
            if self.executed >= stop {
                return Ok(Progress::Quantum);
            }
        }
    }

    /// Nothing can run: parts of warps that wait for their rest go on alone. `false` if there are none.
    fn unblock(&mut self, grid: &Grid<'_>, tools: &mut Tools) -> Result<bool, Fault> {
        for (block, warps) in &mut self.blocks {
            let mut found = false;
            for warp in warps.iter_mut() {
                let mut env =
                    environment(grid, (&mut self.memory, &mut self.barrier), block, tools, self.executed);
                found |= warp.give_up_together(&mut env)?;
            }
            if found {
                let mut barriers = std::mem::take(&mut block.barriers);
                barriers.settle(grid.code, (block.rank, block.live), warps, &mut self.memory);
                block.barriers = barriers;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn deadlock(&self, grid: &Grid<'_>) -> Fault {
        let warps = self.blocks.iter().flat_map(|(_, warps)| warps);
        let waits: Vec<_> = warps.flat_map(|warp| warp.waits(grid.code)).collect();
        let mut shown: Vec<&str> = waits.iter().take(8).map(|(_, _, what)| what.as_str()).collect();
        let more = waits.len().saturating_sub(shown.len());
        let rest = format!("{more} more");
        if more > 0 {
            shown.push(&rest);
        }
        let exited: u32 = self.blocks.iter().map(|(block, _)| grid.threads() - block.live).sum();
        let mut detail = format!("no thread can go on: {}", shown.join("; "));
        if exited > 0 {
            detail.push_str(&format!("; {exited} threads have exited"));
        }
        let (site, lanes) = waits.first().map_or(
            (crate::interp::memory::Site { warp: 0, pc: grid.kernel.range.entry }, 1),
            |(site, lanes, _)| (*site, *lanes),
        );
        Box::new(self.memory.finding(FindingKind::Deadlock, site, lanes.trailing_zeros() % 32, detail))
    }

    /// Where a warp of the cluster is, for the report of an endless wait.
    pub(super) fn stuck(&self, grid: &Grid<'_>) -> Fault {
        let warps = self.blocks.iter().flat_map(|(_, warps)| warps);
        let at = warps.filter(|warp| !warp.is_done()).find_map(|warp| Some((warp, *warp.fragments.first()?)));
        let (warp, pc) =
            at.map_or((0, grid.kernel.range.entry), |(warp, fragment)| (warp.index, fragment.pc));
        let detail = "every block that runs waits for memory to change, and nothing changes it".to_owned();
        let site = crate::interp::memory::Site { warp, pc };
        Box::new(self.memory.finding(FindingKind::Deadlock, site, 0, detail))
    }
}

fn environment<'a, 'm>(
    grid: &'a Grid<'a>,
    (memory, cluster): (&'a mut ClusterMemory<'m>, &'a mut ClusterBarrier),
    block: &'a mut BlockState,
    tools: &'a mut Tools,
    time: u64,
) -> Env<'a, 'm> {
    Env {
        grid,
        memory,
        block,
        cluster,
        buffers: &mut tools.buffers,
        counts: &mut tools.counts,
        printed: &mut tools.printed,
        conditionals: &mut tools.conditionals,
        metrics: grid.options.metrics,
        sync: grid.options.sanitize.sync,
        polls: 0,
        executed: 0,
        time,
    }
}
