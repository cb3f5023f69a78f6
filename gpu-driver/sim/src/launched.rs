//! A launch of an instantiated graph: what it queues, the values of its conditions, the turns of its loops.
//!
//! A loop is one operation of the queue. Each time it is executed it looks at its condition; while that is not 0 it
//! queues the body, and itself again after all of it. What depends on the loop waits until it is not queued again.

use std::collections::BTreeMap;
use std::sync::Arc;

use gpu_driver::sys::{CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC, CUgraphConditionalHandle, CUresult};
use parking_lot::Mutex;

use crate::handle::Id;
use crate::objects::{ExecBody, ExecWork};
use crate::queue::{Dependency, Marker, Queue};
use crate::work::Work;

/// The conditions of one launch with their values, which belong to no other launch. No value is one that nobody set.
#[derive(Debug, Default)]
pub(crate) struct Conditions(Mutex<BTreeMap<CUgraphConditionalHandle, Option<u32>>>);

/// Why a context is lost.
type Failure = (CUresult, String);

impl Conditions {
    pub(crate) fn new(at_launch: &[(CUgraphConditionalHandle, Option<u32>)]) -> Self {
        Self(Mutex::new(at_launch.iter().copied().collect()))
    }

    /// Does what kernels asked for, in their order.
    pub(crate) fn set(&self, values: &[(u64, u32)]) -> Result<(), Failure> {
        let mut conditions = self.0.lock();
        for (handle, value) in values {
            match conditions.get_mut(handle) {
                Some(condition) => *condition = Some(*value),
                None => return Err(unknown(*handle, "it is no condition of the graph that runs")),
            }
        }
        Ok(())
    }

    fn value(&self, handle: CUgraphConditionalHandle) -> Option<u32> {
        self.0.lock().get(&handle).copied().flatten()
    }
}

/// What a device does with such a number is not documented; it is an address to the driver.
pub(crate) fn unknown(handle: u64, why: &str) -> Failure {
    (CUresult::ERROR_ILLEGAL_ADDRESS, format!("cudaGraphSetConditional of {handle:#x}: {why}"))
}

/// A loop that is queued.
#[derive(Clone)]
pub(crate) struct Loop {
    handle: CUgraphConditionalHandle,
    body: Arc<ExecBody>,
    conditions: Arc<Conditions>,
    /// Iterations so far.
    turns: u64,
}

impl Loop {
    /// The loop after one more iteration, or `None` if its condition does not hold any more.
    pub(crate) fn next(self, most: u64) -> Result<Option<Self>, Failure> {
        let Self { handle, turns, .. } = self;
        match self.conditions.value(handle) {
            None => Err((
                CUresult::ERROR_LAUNCH_FAILED,
                format!("condition {handle:#x} has neither a default value nor one that a kernel set"),
            )),
            Some(0) => Ok(None),
            Some(value) if turns >= most => Err((
                CUresult::ERROR_LAUNCH_TIMEOUT,
                format!("endless: condition {handle:#x} is {value} after {turns} iterations"),
            )),
            Some(_) => Ok(Some(Self { turns: turns + 1, ..self })),
        }
    }

    /// Queues an iteration from `now_ns` on; the answer ends with it.
    pub(crate) fn queue(&self, queue: &mut Queue, context: Id, now_ns: u64) -> Arc<Marker> {
        let begin = queue.push(context, Vec::new(), Work::Nothing, now_ns);
        queue_body(queue, context, now_ns, &self.body, &self.conditions, &begin)
    }
}

/// Queues the nodes of a graph after `begin`; the answer ends when all of them have.
pub(crate) fn queue_body(
    queue: &mut Queue,
    context: Id,
    now_ns: u64,
    body: &ExecBody,
    conditions: &Arc<Conditions>,
    begin: &Arc<Marker>,
) -> Arc<Marker> {
    let mut markers: Vec<Arc<Marker>> = Vec::with_capacity(body.nodes.len());
    for (i, node) in body.nodes.iter().enumerate() {
        let incoming = body.edges.iter().filter(|(_, to, _)| *to == i);
        let mut after: Vec<Dependency> = incoming
            .map(|(from, _, data)| Dependency {
                marker: Arc::clone(&markers[*from]),
                programmatic: data.kind == CU_GRAPH_DEPENDENCY_TYPE_PROGRAMMATIC,
            })
            .collect();
        if after.is_empty() {
            after.push(Dependency::full(Arc::clone(begin)));
        }
        let marker = match &node.work {
            ExecWork::Single(work) => {
                let mut work = work.clone();
                if let Work::Kernel(kernel) = &mut work {
                    kernel.conditions = Some(Arc::clone(conditions));
                }
                queue.push(context, after, work, now_ns)
            }
            ExecWork::Child(child) => {
                let begin = queue.push(context, after, Work::Nothing, now_ns);
                queue_body(queue, context, now_ns, child, conditions, &begin)
            }
            ExecWork::While(handle, body) => {
                let (body, conditions) = (Arc::clone(body), Arc::clone(conditions));
                let work = Work::While(Loop { handle: *handle, body, conditions, turns: 0 });
                queue.push(context, after, work, now_ns)
            }
        };
        markers.push(marker);
    }
    let mut after: Vec<_> = markers.into_iter().map(Dependency::full).collect();
    after.push(Dependency::full(Arc::clone(begin)));
    queue.push(context, after, Work::Nothing, now_ns)
}
