//! Clusters on host threads.
//!
//! A cluster runs until it is finished, has had its share, or only waits for others; then it is put aside and another
//! one runs, so that blocks that wait for each other (grid barriers, chained scans) go on with any number of host
//! threads. New clusters start while not too many have been put aside.

use super::block::Counts;
use super::cluster::{Cluster, Progress, Tools, mix};
use super::grid::Grid;
use crate::interp::finding::Fault;
use crate::interp::memory::{ClusterMemory, LaunchMemory};
use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Instructions that a cluster executes before another one gets its turn.
const QUANTUM: u64 = 1 << 20;
/// Clusters that have begun and are not finished.
const RESIDENT: usize = 1024;
/// How long nothing but waiting may happen.
const PATIENCE: Duration = Duration::from_millis(1500);

/// What came of it.
pub(in crate::interp) struct Outcome {
    pub(in crate::interp) fault: Option<Fault>,
    pub(in crate::interp) counts: Counts,
    pub(in crate::interp) printed: String,
    pub(in crate::interp) conditionals: Vec<(u64, u32)>,
    /// Warp instructions.
    pub(in crate::interp) instructions: u64,
}

struct Queue<'m> {
    /// Clusters that were put aside.
    waiting: VecDeque<Cluster<'m>>,
    /// Memories of clusters that are finished.
    memories: Vec<ClusterMemory<'m>>,
    next: u64,
    /// Clusters that run now.
    running: usize,
    /// Of `waiting`, those that had their share rather than nothing to do.
    hungry: usize,
    quanta: u64,
    /// When something else than waiting happened last, and turns since.
    progress: Instant,
    idle_turns: u64,
    fault: Option<Fault>,
    counts: Counts,
    printed: String,
    conditionals: Vec<(u64, u32)>,
    instructions: u64,
}

struct Schedule<'a, 'm> {
    grid: &'a Grid<'a>,
    memory: &'m LaunchMemory,
    clusters: u64,
    order: Order,
    queue: Mutex<Queue<'m>>,
    changed: Condvar,
}

/// A permutation of the clusters.
struct Order {
    step: u64,
    start: u64,
    count: u64,
}

impl Order {
    fn new(seed: u64, count: u64) -> Self {
        if seed == 0 || count < 2 {
            return Self { step: 1, start: 0, count };
        }
        let coprime = |step: &u64| {
            let (mut a, mut b) = (*step, count);
            while b != 0 {
                (a, b) = (b, a % b);
            }
            a == 1
        };
        let first = mix(seed) % count;
        let step = (first.max(1)..count).chain(1..count).find(coprime).unwrap_or(1);
        Self { step, start: mix(seed ^ 1) % count, count }
    }

    fn at(&self, i: u64) -> u64 {
        let wide = u128::from(i) * u128::from(self.step) + u128::from(self.start);
        (wide % u128::from(self.count.max(1))) as u64
    }
}

/// Runs all clusters of a launch.
pub(in crate::interp) fn run(grid: &Grid<'_>, memory: &LaunchMemory) -> Outcome {
    let clusters = grid.clusters();
    let schedule = Schedule {
        grid,
        memory,
        clusters,
        order: Order::new(grid.options.seed, clusters),
        queue: Mutex::new(Queue {
            waiting: VecDeque::new(),
            memories: Vec::new(),
            next: 0,
            running: 0,
            hungry: 0,
            quanta: 0,
            progress: Instant::now(),
            idle_turns: 0,
            fault: None,
            counts: Counts::default(),
            printed: String::new(),
            conditionals: Vec::new(),
            instructions: 0,
        }),
        changed: Condvar::new(),
    };
    let limit = usize::try_from(clusters).unwrap_or(usize::MAX);
    let threads = grid.options.threads.unwrap_or_else(rayon::current_num_threads).clamp(1, limit.max(1));
    if threads == 1 {
        schedule.work();
    } else {
        rayon::scope(|scope| {
            for _ in 1..threads {
                scope.spawn(|_| schedule.work());
            }
            schedule.work();
        });
    }
    let queue = schedule.queue.into_inner().unwrap_or_else(PoisonError::into_inner);
    Outcome {
        fault: queue.fault,
        counts: queue.counts,
        printed: queue.printed,
        conditionals: queue.conditionals,
        instructions: queue.instructions,
    }
}

impl<'m> Schedule<'_, 'm> {
    fn lock(&self) -> MutexGuard<'_, Queue<'m>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What one host thread does.
    fn work(&self) {
        let mut tools = Tools::default();
        if self.grid.options.metrics {
            tools.counts.steps.resize(self.grid.code.steps.len(), (0, 0));
        }
        while let Some(mut cluster) = self.next() {
            let result = cluster.run(self.grid, &mut tools, QUANTUM);
            let mut queue = self.lock();
            queue.running -= 1;
            match result {
                Ok(Progress::Finished) => {
                    queue.instructions += cluster.executed;
                    queue.moved();
                    queue.memories.push(cluster.memory);
                }
                Ok(Progress::Quantum) => {
                    queue.moved();
                    queue.quanta += 1;
                    queue.hungry += 1;
                    cluster.hungry = true;
                    queue.waiting.push_back(cluster);
                }
                Ok(Progress::Waits) => {
                    queue.idle_turns += 1;
                    // Only when everything that can run has been looked at many times.
                    let patient = queue.idle_turns < 64 * (queue.waiting.len() as u64 + 1)
                        || queue.progress.elapsed() < PATIENCE;
                    if patient {
                        queue.waiting.push_back(cluster);
                    } else {
                        queue.stop(cluster.stuck(self.grid));
                        queue.instructions += cluster.executed;
                    }
                }
                Err(fault) => {
                    queue.stop(fault);
                    queue.instructions += cluster.executed;
                }
            }
            drop(queue);
            self.changed.notify_all();
        }
        let mut queue = self.lock();
        queue.counts.merge(&tools.counts);
        queue.printed.push_str(&tools.printed);
        queue.conditionals.append(&mut tools.conditionals);
    }

    /// The cluster to run next, once there is one.
    fn next(&self) -> Option<Cluster<'m>> {
        let mut queue = self.lock();
        loop {
            if queue.fault.is_some() {
                return None;
            }
            let resident = queue.waiting.len() + queue.running;
            let room = resident < RESIDENT && (queue.hungry == 0 || queue.quanta.is_multiple_of(8));
            if queue.next < self.clusters && (room || queue.waiting.is_empty()) {
                let index = u32::try_from(self.order.at(queue.next)).unwrap_or(u32::MAX);
                queue.next += 1;
                queue.running += 1;
                queue.moved();
                let memory = queue.memories.pop();
                drop(queue);
                let memory = memory.unwrap_or_else(|| self.memory.cluster_memory());
                return Some(Cluster::new(self.grid, memory, index));
            }
            if let Some(mut cluster) = queue.waiting.pop_front() {
                queue.hungry -= usize::from(std::mem::take(&mut cluster.hungry));
                queue.running += 1;
                return Some(cluster);
            }
            if queue.running == 0 {
                return None;
            }
            queue = self.changed.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Queue<'_> {
    /// Something else than waiting happened.
    fn moved(&mut self) {
        self.progress = Instant::now();
        self.idle_turns = 0;
    }

    /// The first fault ends the launch.
    fn stop(&mut self, fault: Fault) {
        self.fault.get_or_insert(fault);
    }
}
