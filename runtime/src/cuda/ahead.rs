//! Steps that are queued before the host knows the tokens that they begin with.
//!
//! A step of such a queue takes its tokens and positions from the device's memory and leaves there those of the next
//! one, so any number of them can be queued at once, and the device does not wait for the host. The tokens arrive one
//! step after the other in a ring in host memory, each with the count of its step. What was queued and is not asked
//! for costs time and nothing else: it has written to positions that are not decoded as far as
//! [`StepGuard`](crate::decoder::StepGuard) knows, and are written again before anything attends to them.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use gpu_driver::{DriverError, SharedPinned};

use super::decoder::{CudaDecoder, Purpose, driver_failed, failed, key};
use super::error::CudaError;
use super::memory_map::Span;
use crate::decoder::{Row, check_ahead};
use crate::error::Error;

/// What is queued.
#[derive(Debug)]
pub(super) struct Queue {
    /// The rows of the next step, if the caller goes on with the tokens that were chosen.
    next: Vec<Row>,
    /// The count of that step.
    count: u32,
    /// Steps that are queued, from that one on.
    queued: u32,
}

/// The ring of tokens, `[slots, rows]` pairs of a token and a count: see [`Advance`](kernels::sample::Advance).
struct Ring {
    pinned: Arc<SharedPinned<u32>>,
    slots: usize,
}

impl Ring {
    /// How many of `queued` steps from `count` on have told all their tokens.
    fn done(&self, count: u32, queued: u32, rows: usize) -> Result<u32, DriverError> {
        let mut done = 0;
        while done < queued && self.is_done(count.wrapping_add(done), rows)? {
            done += 1;
        }
        // The device stores token and count at once; this keeps the reads of them in order.
        fence(Ordering::Acquire);
        Ok(done)
    }

    fn is_done(&self, count: u32, rows: usize) -> Result<bool, DriverError> {
        let first = self.entry(count, rows);
        for entry in first..first + rows {
            if self.pinned.read(2 * entry + 1)? != count.wrapping_add(1) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The tokens of step `count`, which is done.
    fn tokens(&self, count: u32, tokens: &mut Vec<u32>, rows: usize) -> Result<(), DriverError> {
        let first = self.entry(count, rows);
        tokens.clear();
        for entry in first..first + rows {
            tokens.push(self.pinned.read(2 * entry)?);
        }
        Ok(())
    }

    fn entry(&self, count: u32, rows: usize) -> usize {
        count as usize % self.slots * rows
    }
}

impl CudaDecoder {
    /// The tokens that follow `rows`, and up to `ahead` steps queued that go on from there.
    pub(super) fn run_ahead(&mut self, rows: &[Row], ahead: usize) -> Result<&[u32], Error> {
        check_ahead(rows)?;
        self.guard.check(rows)?;
        let prepared = self.steps.contains_key(&key(rows.len(), Purpose::Ahead));
        let queue = match self.queue.take() {
            Some(queue) if prepared && queue.next == rows => queue,
            _ => self.begin(rows)?,
        };
        // Without a queue after a failure: the next call waits for what is left of it, and begins another.
        let mut queue = self.fill(queue, ahead)?;
        self.take_tokens(&queue)?;
        self.guard.commit(rows);
        queue.count = queue.count.wrapping_add(1);
        queue.queued -= 1;
        for (row, &token) in queue.next.iter_mut().zip(&self.results) {
            *row = Row { token, position: row.position + 1, ..*row };
        }
        self.idle = queue.queued == 0;
        self.queue = Some(queue);
        Ok(&self.results)
    }

    /// Puts the state of a first step on the device.
    fn begin(&mut self, rows: &[Row]) -> Result<Queue, Error> {
        self.settle()?;
        self.prepare(rows.len(), Purpose::Ahead)?;
        self.write_state(rows)?;
        self.idle = false;
        let bytes = self.layout.state_bytes();
        let host = self.memory.host(self.regions.host_state).map_err(failed("writing the step's state"))?;
        let span = Span { region: self.regions.state, offset: 0, bytes };
        let state = self.memory.device_slice_mut(span).map_err(failed("writing the step's state"))?;
        let copied = state
            .cast()
            .and_then(|mut state| self.stream.copy_from_shared(&mut state, host, 0..(bytes / 4) as usize));
        copied.map_err(driver_failed("writing the step's state"))?;
        if let Some(step) = self.steps.get_mut(&key(rows.len(), Purpose::Ahead)) {
            step.pace.start();
        }
        Ok(Queue { next: rows.to_vec(), count: self.begun, queued: 0 })
    }

    /// Queues steps until `ahead` follow the next one, as far as options and caches allow.
    fn fill(&mut self, mut queue: Queue, ahead: usize) -> Result<Queue, Error> {
        let position = queue.next.iter().map(|row| row.position as usize).max().unwrap_or(0);
        let room = self.options.max_seq.saturating_sub(position + 1);
        let step = self.prepared(queue.next.len(), Purpose::Ahead)?;
        // The first step that ever runs tells how long one takes.
        let ahead = if step.pace.is_known() { ahead.min(self.options.ahead).min(room) } else { 0 };
        while (queue.queued as usize) < ahead + 1 {
            // Counted even if the launch fails: it may have queued the step all the same.
            self.begun = self.begun.wrapping_add(1);
            self.idle = false;
            self.launch(queue.next.len(), Purpose::Ahead)?;
            queue.queued += 1;
        }
        Ok(queue)
    }

    /// Waits for the tokens of the next step of the queue, and leaves them in the results.
    fn take_tokens(&mut self, queue: &Queue) -> Result<(), Error> {
        let Queue { count, queued, .. } = *queue;
        let rows = queue.next.len();
        let pinned = self.memory.host(self.regions.ring).map_err(failed("reading tokens"))?;
        let ring = Ring { pinned: Arc::clone(pinned), slots: self.layout.ring_slots };
        let done = || ring.done(count, queued, rows).map_err(driver_failed("reading tokens"));
        let mut pace = self.prepared(rows, Purpose::Ahead)?.pace;
        // Who wants no queue wants no sleep that may end late either.
        if self.options.ahead == 0 || !pace.take(queued, done)? {
            let begun = Instant::now();
            self.stream.synchronize().map_err(driver_failed("running a step"))?;
            pace.waited(begun, queued);
            if done()? < queued {
                let lost = CudaError::NoToken { step: count };
                return Err(Error::device("cuda", "running a step", lost));
            }
        }
        if let Some(step) = self.steps.get_mut(&key(rows, Purpose::Ahead)) {
            step.pace = pace;
        }
        ring.tokens(count, &mut self.results, rows).map_err(driver_failed("reading tokens"))
    }
}
