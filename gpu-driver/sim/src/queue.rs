//! Work that is queued and not done: what waits for what, and in which order the rest runs.
//!
//! Every operation depends on others: those before it in its stream, events, edges of its graph. Whatever has nothing
//! left to wait for may run next, and a seeded generator chooses. An order that a program does not ask for is therefore
//! an order that it does not get.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use ptx_builder::interp::LaunchId;

use crate::handle::Id;
use crate::random::Random;
use crate::work::Work;

/// The end of an operation, for others to wait on. Completed under the lock of the driver's state.
#[derive(Debug)]
pub(crate) struct Marker {
    id: u64,
    done: OnceLock<Done>,
}

/// How an operation ended.
#[derive(Debug, Clone, Default)]
pub(crate) struct Done {
    /// Simulated time.
    pub end_ns: u64,
    /// The grid, if it was a kernel that ran.
    pub grid: Option<LaunchId>,
    /// Grids that it was allowed to overtake: they may be unfinished for whoever is allowed to overtake it.
    pub overtaken: Vec<LaunchId>,
}

impl Marker {
    pub(crate) fn done(&self) -> Option<&Done> {
        self.done.get()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done.get().is_some()
    }
}

/// Something that an operation waits for.
#[derive(Debug, Clone)]
pub(crate) struct Dependency {
    pub marker: Arc<Marker>,
    /// The operation may start before the other has finished, and waits by `griddepcontrol.wait`.
    pub programmatic: bool,
}

impl Dependency {
    pub(crate) const fn full(marker: Arc<Marker>) -> Self {
        Self { marker, programmatic: false }
    }
}

#[derive(Debug)]
struct Op {
    marker: Arc<Marker>,
    context: Id,
    missing: usize,
    dependents: Vec<u64>,
    after: Vec<Dependency>,
    queued_ns: u64,
    /// Taken when it starts.
    work: Option<Work>,
}

/// An operation that is to be executed now.
#[derive(Debug)]
pub(crate) struct Started {
    pub id: u64,
    pub context: Id,
    pub work: Work,
    /// Simulated time at which it starts.
    pub start_ns: u64,
    /// Grids that may be unfinished until it waits for them.
    pub pending: Vec<LaunchId>,
}

/// The operations of one driver.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    ops: BTreeMap<u64, Op>,
    ready: Vec<u64>,
    last: u64,
}

impl Queue {
    /// Operations that have not finished.
    pub(crate) fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether an operation of the context has not finished.
    pub(crate) fn is_busy(&self, context: Id) -> bool {
        self.ops.values().any(|op| op.context == context)
    }

    /// Queues `work` after `after`.
    pub(crate) fn push(
        &mut self,
        context: Id,
        after: Vec<Dependency>,
        work: Work,
        queued_ns: u64,
    ) -> Arc<Marker> {
        self.last += 1;
        let id = self.last;
        let marker = Arc::new(Marker { id, done: OnceLock::new() });
        let mut missing = 0;
        for dependency in &after {
            if let Some(op) = self.ops.get_mut(&dependency.marker.id) {
                op.dependents.push(id);
                missing += 1;
            }
        }
        if missing == 0 {
            self.ready.push(id);
        }
        let op = Op {
            marker: Arc::clone(&marker),
            context,
            missing,
            dependents: Vec::new(),
            after,
            queued_ns,
            work: Some(work),
        };
        self.ops.insert(id, op);
        marker
    }

    /// Takes one of the operations that may run now. With `transfers_last` copies and fills run only if nothing else
    /// can.
    pub(crate) fn start(&mut self, random: &mut Random, transfers_last: bool) -> Option<Started> {
        let all = 0..self.ready.len();
        let others: Vec<usize> = if transfers_last {
            let is_transfer =
                |id| self.ops.get(id).is_some_and(|op| op.work.as_ref().is_some_and(Work::is_transfer));
            all.clone().filter(|i| !is_transfer(&self.ready[*i])).collect()
        } else {
            Vec::new()
        };
        let chosen = match (others.len(), self.ready.len()) {
            (0, 0) => return None,
            (0, n) => random.below(n),
            (n, _) => others[random.below(n)],
        };
        let id = self.ready.remove(chosen);
        let op = self.ops.get_mut(&id)?;
        let ended = |dependency: &Dependency| dependency.marker.done().map_or(0, |done| done.end_ns);
        let start_ns = op.after.iter().map(ended).fold(op.queued_ns, u64::max);
        let mut pending = Vec::new();
        for dependency in op.after.iter().filter(|dependency| dependency.programmatic) {
            if let Some(done) = dependency.marker.done() {
                pending.extend(done.grid.into_iter().chain(done.overtaken.iter().copied()));
            }
        }
        pending.sort_unstable();
        pending.dedup();
        let work = op.work.take()?;
        Some(Started { id, context: op.context, work, start_ns, pending })
    }

    /// Queues an operation that was started once more, after another: it has not ended, and what waits for it goes on
    /// waiting.
    pub(crate) fn again(&mut self, id: u64, after: Arc<Marker>, work: Work) {
        let waits = match self.ops.get_mut(&after.id) {
            Some(before) => {
                before.dependents.push(id);
                true
            }
            None => false,
        };
        let Some(op) = self.ops.get_mut(&id) else { return };
        op.missing = usize::from(waits);
        op.after = vec![Dependency::full(after)];
        op.work = Some(work);
        if !waits {
            self.ready.push(id);
        }
    }

    /// Completes an operation that was started; what waited only for it may run next.
    pub(crate) fn finish(&mut self, id: u64, done: Done) {
        let Some(op) = self.ops.remove(&id) else { return };
        // Each operation finishes once, so the cell is empty.
        let _ = op.marker.done.set(done);
        for dependent in op.dependents {
            if let Some(waiting) = self.ops.get_mut(&dependent) {
                waiting.missing -= 1;
                if waiting.missing == 0 {
                    self.ready.push(dependent);
                }
            }
        }
    }

    /// Gives up everything of a context that has not started, as if it had ended at `now_ns`.
    pub(crate) fn cancel(&mut self, context: Id, now_ns: u64) {
        let waiting = |op: &Op| op.context == context && op.work.is_some();
        let ids: Vec<u64> = self.ops.iter().filter(|(_, op)| waiting(op)).map(|(id, _)| *id).collect();
        self.ready.retain(|id| ids.binary_search(id).is_err());
        for id in &ids {
            if let Some(op) = self.ops.get_mut(id) {
                op.work = None;
            }
        }
        for id in &ids {
            self.finish(*id, Done { end_ns: now_ns, ..Done::default() });
        }
        // Finishing one of them may have made another of them ready.
        self.ready.retain(|id| self.ops.get(id).is_some_and(|op| op.work.is_some()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(queue: &mut Queue, seed: u64) -> Vec<u64> {
        let mut random = Random::new(seed);
        let mut order = Vec::new();
        while let Some(started) = queue.start(&mut random, false) {
            order.push(started.id);
            queue.finish(started.id, Done { end_ns: started.start_ns + 1, ..Done::default() });
        }
        assert_eq!(queue.len(), 0);
        order
    }

    /// Two chains of three.
    fn chains(seed: u64) -> Vec<u64> {
        let mut queue = Queue::default();
        for _ in 0..2 {
            let mut tail: Option<Arc<Marker>> = None;
            for _ in 0..3 {
                let after = tail.into_iter().map(Dependency::full).collect();
                tail = Some(queue.push(1, after, Work::Nothing, 0));
            }
        }
        run(&mut queue, seed)
    }

    #[test]
    fn dependencies_hold_and_nothing_else_does() {
        let orders: std::collections::BTreeSet<Vec<u64>> = (0..1000).map(chains).collect();
        assert_eq!(orders.len(), 20, "every way to interleave two chains of three");
        for order in orders {
            for chain in [[1, 2, 3], [4, 5, 6]] {
                let kept: Vec<_> = order.iter().copied().filter(|id| chain.contains(id)).collect();
                assert_eq!(kept, chain);
            }
        }
        assert_eq!(chains(7), chains(7), "a seed is an order");
    }

    #[test]
    fn time_follows_dependencies() {
        let mut queue = Queue::default();
        let first = queue.push(1, Vec::new(), Work::Nothing, 10);
        let second = queue.push(1, vec![Dependency::full(Arc::clone(&first))], Work::Nothing, 0);
        run(&mut queue, 0);
        assert_eq!((first.done().unwrap().end_ns, second.done().unwrap().end_ns), (11, 12));
    }

    #[test]
    fn what_runs_again_is_waited_for_until_it_does_not() {
        let mut queue = Queue::default();
        let mut random = Random::new(0);
        let first = queue.push(1, Vec::new(), Work::Nothing, 10);
        let last = queue.push(1, vec![Dependency::full(Arc::clone(&first))], Work::Nothing, 0);
        for round in 0..3 {
            let started = queue.start(&mut random, false).unwrap();
            assert_eq!((started.id, started.start_ns), (first.id, 10 + 5 * round));
            let between = queue.push(1, Vec::new(), Work::Nothing, started.start_ns);
            queue.again(started.id, Arc::clone(&between), Work::Nothing);
            let started = queue.start(&mut random, false).unwrap();
            assert_eq!(started.id, between.id);
            queue.finish(started.id, Done { end_ns: started.start_ns + 5, ..Done::default() });
        }
        assert!(!first.is_done() && !last.is_done());
        assert_eq!(run(&mut queue, 0), [first.id, last.id]);
    }

    #[test]
    fn cancelled_work_releases_other_contexts() {
        let mut queue = Queue::default();
        let lost = queue.push(1, Vec::new(), Work::Nothing, 0);
        let also = queue.push(1, vec![Dependency::full(Arc::clone(&lost))], Work::Nothing, 0);
        let other = queue.push(2, vec![Dependency::full(Arc::clone(&also))], Work::Nothing, 0);
        queue.cancel(1, 5);
        assert!(lost.is_done() && also.is_done() && !other.is_done());
        assert!(!queue.is_busy(1) && queue.is_busy(2));
        assert_eq!(run(&mut queue, 0).len(), 1);
    }
}
