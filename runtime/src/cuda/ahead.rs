//! Steps that are queued before the host knows the tokens that they begin with.
//!
//! A step of such a queue takes its tokens and positions from the device's memory and leaves there those of the next
//! one, so any number of them can be queued at once, and the device does not wait for the host. The tokens arrive one
//! step after the other in a ring in host memory, each with the count of its step. What was queued and is not asked
//! for costs time and nothing else: it has written to positions that are not decoded as far as
//! [`StepGuard`](crate::decoder::StepGuard) knows, and are written again before anything attends to them.
//!
//! The steps of a long queue are one launch: a loop on the device, which runs as far as a [limit](Control) in host memory.
//! The host raises the limit as it takes tokens. If that comes too late the loop has ended, and is launched again.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use gpu_driver::{DriverError, SharedPinned};
use kernels::sample::{LoopCondition, SamplingParams};

use super::decoder::{Choice, CudaDecoder, Purpose, driver_failed, failed, key};
use super::error::CudaError;
use super::memory_map::Span;
use crate::decoder::{Output, Row};
use crate::error::Error;
use crate::sampling::{Rule, Sampler};

/// Steps of an iteration of a loop, where at least so many are wanted: the end of an iteration takes about 3 us
/// (docs/measurements/2026-11-22-decode.md). As a queue waits until there is room for all of them, it gets shorter by up to
/// seven steps.
pub(super) const TOGETHER: u32 = 8;

/// What is queued.
#[derive(Debug)]
pub(super) struct Queue {
    /// The rows of the next step, if the caller goes on with the tokens that were chosen.
    next: Vec<Row>,
    /// The count of that step.
    count: u32,
    /// Steps that are queued, from that one on.
    queued: u32,
    /// Whether these are all that is wanted.
    complete: bool,
    /// Steps that were launched one by one after the loop was; `None` as long as it was not.
    behind: Option<u32>,
    /// By what the tokens of each row are chosen at that step; nothing if they are the most likely ones.
    rules: Vec<Rule>,
}

impl Queue {
    fn purpose(&self) -> Purpose {
        purpose(self.rules.len())
    }
}

fn purpose(rules: usize) -> Purpose {
    Purpose::Ahead(if rules == 0 { Choice::Argmax } else { Choice::Sample })
}

/// How many steps to queue next for a queue that holds `queued` of the next `wanted` steps and may hold `limit`: 1 to
/// launch, [`TOGETHER`] for the loop if there is one (`looped`), 0 for none now.
fn next_steps(queued: u32, wanted: u32, limit: u32, looped: bool) -> u32 {
    let (missing, space) = (wanted.saturating_sub(queued), limit.saturating_sub(queued));
    if looped && missing >= TOGETHER {
        // Until there is space for all of them, what is queued keeps the device busy.
        if space >= TOGETHER { TOGETHER } else { 0 }
    } else {
        missing.min(space).min(1)
    }
}

/// The ring of tokens, `[slots, rows]` pairs of a token and a count: see [`Advance`](kernels::sample::Advance).
struct Ring<'a> {
    pinned: &'a SharedPinned<u32>,
    slots: usize,
}

impl Ring<'_> {
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

/// What the host and a loop tell each other: see [`LoopCondition`].
pub(super) struct Control<'a>(&'a SharedPinned<u32>);

impl Control<'_> {
    /// Before a launch, when no loop is at work.
    fn prepare(&self, condition: u64) -> Result<(), DriverError> {
        self.0.write_range(0, &[condition as u32, (condition >> 32) as u32])?;
        self.0.write_range(LoopCondition::ENDED, &[0, 0])
    }

    /// Lets the loop run up to step `limit`, without that one.
    fn allow(&self, limit: u32) -> Result<(), DriverError> {
        self.0.write(LoopCondition::LIMIT, limit)
    }

    /// Ends the loop after the iteration that it is in, or the next, if no step from `begun` on has been allowed.
    pub(super) fn stop(&self, begun: u32) -> Result<(), DriverError> {
        self.allow(begun.wrapping_sub(1 << 30))
    }

    /// The step that would be next, if the loop has ended.
    fn ended(&self) -> Result<Option<u32>, DriverError> {
        if self.0.read(LoopCondition::ENDED + 1)? == 0 {
            return Ok(None);
        }
        // The device stores both words at once; this keeps the reads of them in order.
        fence(Ordering::Acquire);
        self.0.read(LoopCondition::ENDED).map(Some)
    }
}

impl CudaDecoder {
    pub(super) fn control(&self) -> Result<Control<'_>, Error> {
        let pinned = self.memory.host(self.regions.control).map_err(failed("finding the limit of a loop"))?;
        Ok(Control(pinned))
    }

    /// Whether the device can choose the tokens that follow `rows`. A sampler that remembers tokens from before its
    /// sequence's first position is asked by the host.
    pub(super) fn samples(&self, rows: &[Row], samplers: &[Sampler]) -> bool {
        self.layout.sampling.is_some()
            && rows
                .iter()
                .zip(samplers)
                .all(|(row, sampler)| sampler.rule().recent.len() <= row.position as usize + 1)
    }

    /// The tokens that follow `rows`, no two of one sequence, and up to `ahead` steps queued that go on from there. The
    /// tokens are chosen by `rules`, or are the most likely ones if there are none.
    pub(super) fn run_ahead(&mut self, rows: &[Row], rules: &[&Rule], ahead: usize) -> Result<&[u32], Error> {
        self.guard.check(rows, Output::AllArgmax)?;
        let prepared = self.steps.contains_key(&key(rows.len(), purpose(rules.len())));
        let queue = match self.queue.take() {
            Some(queue) if prepared && queue.next == rows && queue.rules.iter().eq(rules.iter().copied()) => {
                queue
            }
            _ => self.begin(rows, rules)?,
        };
        // Without a queue after a failure: the next call waits for what is left of it, and begins another.
        let mut queue = self.fill(queue, ahead)?;
        self.take_tokens(&mut queue)?;
        self.guard.commit(rows);
        queue.count = queue.count.wrapping_add(1);
        queue.queued -= 1;
        for (row, &token) in queue.next.iter_mut().zip(&self.results) {
            *row = Row { token, position: row.position + 1, ..*row };
        }
        for (rule, &token) in queue.rules.iter_mut().zip(&self.results) {
            rule.accept(&[token]);
        }
        // The end of a loop comes after its last token.
        self.idle = queue.queued == 0 && queue.behind.is_none();
        self.queue = Some(queue);
        Ok(&self.results)
    }

    /// Puts the state of a first step on the device.
    fn begin(&mut self, rows: &[Row], rules: &[&Rule]) -> Result<Queue, Error> {
        self.settle()?;
        self.prepare(rows.len(), purpose(rules.len()))?;
        self.write_rules(rows, rules)?;
        self.write_state(rows, rows.len())?;
        self.idle = false;
        let bytes = self.layout.state_bytes();
        let host = self.memory.host(self.regions.host_state).map_err(failed("writing the step's state"))?;
        let span = Span { region: self.regions.state, offset: 0, bytes };
        let state = self.memory.device_slice_mut(span).map_err(failed("writing the step's state"))?;
        let copied = state
            .cast()
            .and_then(|mut state| self.stream.copy_from_shared(&mut state, host, 0..(bytes / 4) as usize));
        copied.map_err(driver_failed("writing the step's state"))?;
        if let Some(step) = self.steps.get_mut(&key(rows.len(), purpose(rules.len()))) {
            step.pace.start();
        }
        let rules = rules.iter().map(|&rule| rule.clone()).collect();
        Ok(Queue { next: rows.to_vec(), count: self.begun, queued: 0, complete: false, behind: None, rules })
    }

    /// Puts on the device by what tokens are chosen, and what came lately, which nothing may be reading.
    fn write_rules(&self, rows: &[Row], rules: &[&Rule]) -> Result<(), Error> {
        let Some(sampling) = self.layout.sampling.filter(|_| !rules.is_empty()) else { return Ok(()) };
        let region = self.regions.sampling;
        let lost = || {
            let what = "the memory of sampling".to_owned();
            failed("writing what to sample by")(CudaError::Overflow { what })
        };
        let write = |span: Option<Span>, words: &[u32]| {
            let span = span.filter(|span| span.bytes == words.len() as u64 * 4).ok_or_else(lost)?;
            let bytes = self.memory.device_slice_mut(span).map_err(failed("writing what to sample by"))?;
            let copied = bytes.cast().and_then(|mut bytes| self.stream.copy_to_device(&mut bytes, words));
            copied.map_err(driver_failed("writing what to sample by"))
        };
        let mut words = Vec::with_capacity(rows.len() * SamplingParams::WORDS);
        for (row, rule) in rows.iter().zip(rules) {
            let end = row.position as usize + 1;
            let since = end.checked_sub(rule.recent.len()).ok_or_else(lost)?;
            words.extend(rule.params.words(since as u32));
            if since < end {
                let recent: Vec<u32> = rule.recent.iter().copied().collect();
                write(sampling.positions(region, row.sequence, since, end), &recent)?;
            }
        }
        let params = Span { region, offset: sampling.params.offset, bytes: sampling.params.bytes };
        write(params.prefix(words.len() as u64 * 4), &words)
    }

    /// Queues steps until `ahead` follow the next one, as far as options and caches allow.
    fn fill(&mut self, mut queue: Queue, ahead: usize) -> Result<Queue, Error> {
        let position = queue.next.iter().map(|row| row.position as usize).max().unwrap_or(0);
        let room = self.options.max_seq.saturating_sub(position + 1);
        let (rows, purpose) = (queue.next.len(), queue.purpose());
        let step = self.prepared(rows, purpose)?;
        let looped = step.looped.is_some();
        // The first step that ever runs tells how long one takes.
        let (ahead, limit) =
            if step.pace.is_known() { (ahead.min(room), self.options.ahead) } else { (0, 0) };
        // Positions fit 32 bits.
        let (wanted, limit) = (ahead as u32 + 1, limit as u32 + 1);
        loop {
            let steps = next_steps(queue.queued, wanted, limit, looped);
            if steps == 0 {
                break;
            }
            // Counted even if the launch fails: it may have queued the steps all the same.
            self.begun = self.begun.wrapping_add(steps);
            self.idle = false;
            if steps == TOGETHER {
                self.keep_looping(&mut queue)?;
                self.stats.graph_steps += u64::from(steps);
            } else {
                self.launch(rows, purpose)?;
                queue.behind = queue.behind.map(|behind| behind + 1);
            }
            queue.queued += steps;
        }
        queue.complete = queue.queued >= wanted;
        // With a full queue, so that the device is busy meanwhile.
        if !looped && wanted.saturating_sub(queue.queued) >= TOGETHER {
            self.prepare_loop(rows, purpose);
        }
        Ok(queue)
    }

    /// Lets the loop run as far as steps are queued. Launches it if it has ended before that, or there was none yet; whether
    /// it did.
    fn keep_looping(&mut self, queue: &mut Queue) -> Result<bool, Error> {
        let control = self.control()?;
        control.allow(self.begun).map_err(driver_failed("continuing a loop"))?;
        if let Some(behind) = queue.behind {
            let ended = control.ended().map_err(driver_failed("continuing a loop"))?;
            // Steps are alike: those behind the loop do what it has left, whichever steps that are.
            if ended.is_none_or(|next| self.begun.wrapping_sub(next) == behind) {
                return Ok(false);
            }
        }
        let (rows, purpose) = (queue.next.len(), queue.purpose());
        let Some((graph, condition)) = &self.prepared(rows, purpose)?.looped else { return Ok(false) };
        control.prepare(*condition).map_err(driver_failed("beginning a loop"))?;
        graph.launch(&self.stream).map_err(failed("running steps"))?;
        queue.behind = Some(0);
        self.latest = key(rows, purpose);
        Ok(true)
    }

    /// Waits for the tokens of the next step of the queue, and leaves them in the results.
    fn take_tokens(&mut self, queue: &mut Queue) -> Result<(), Error> {
        let Queue { count, queued, complete, .. } = *queue;
        // What is refilled must not run empty while the host sleeps, and the end should not be slept through.
        let together = if complete { queued - 1 } else { queued / 2 };
        let rows = queue.next.len();
        let pinned = Arc::clone(self.memory.host(self.regions.ring).map_err(failed("reading tokens"))?);
        let ring = Ring { pinned: &pinned, slots: self.layout.ring_slots };
        let done = || ring.done(count, queued, rows).map_err(driver_failed("reading tokens"));
        let mut pace = self.prepared(rows, queue.purpose())?.pace;
        // Who wants no queue wants no sleep that may end late either.
        if self.options.ahead == 0 || !pace.take(queued, together, done)? {
            let begun = Instant::now();
            self.stream.synchronize().map_err(driver_failed("running a step"))?;
            // Should a loop have ended just when it was told to go on.
            if queue.behind.is_some() && self.keep_looping(queue)? {
                self.stream.synchronize().map_err(driver_failed("running steps"))?;
            }
            pace.waited(begun, queued);
            if done()? < queued {
                let lost = CudaError::NoToken { step: count };
                return Err(Error::device("cuda", "running a step", lost));
            }
        }
        if let Some(step) = self.steps.get_mut(&key(rows, queue.purpose())) {
            step.pace = pace;
        }
        ring.tokens(count, &mut self.results, rows).map_err(driver_failed("reading tokens"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By how many steps a queue grows that begins empty, of which `wanted` steps are asked for one after the other, and
    /// the fewest that were left in it when some were still missing.
    fn launches(wanted: u32, limit: u32, looped: bool) -> (Vec<u32>, u32) {
        let (mut launches, mut queued, mut fewest) = (Vec::new(), 0, u32::MAX);
        for taken in 0..wanted {
            if launches.iter().sum::<u32>() < wanted && taken > 0 {
                fewest = fewest.min(queued);
            }
            while let steps @ 1.. = next_steps(queued, wanted - taken, limit, looped) {
                launches.push(steps);
                queued += steps;
                assert!(queued <= limit && launches.iter().sum::<u32>() <= wanted, "{launches:?}");
            }
            assert!(queued > 0, "{launches:?}");
            queued -= 1;
        }
        assert_eq!((launches.iter().sum::<u32>(), queued), (wanted, 0));
        (launches, fewest)
    }

    #[test]
    fn a_queue_gets_what_is_wanted_and_never_more_than_it_may_hold() {
        for limit in 1..=40 {
            for wanted in 1..=90 {
                let (single, fewest) = launches(wanted, limit, false);
                assert!(single.iter().all(|&steps| steps == 1) && fewest >= limit - 1);
                if limit >= 2 * TOGETHER {
                    let (looped, fewest) = launches(wanted, limit, true);
                    assert_eq!(looped.len() as u32, wanted / TOGETHER + wanted % TOGETHER, "{looped:?}");
                    assert!(fewest >= limit - TOGETHER, "of {limit}: {fewest}");
                }
            }
        }
    }

    #[test]
    fn single_steps_are_launched_where_few_are_wanted() {
        assert_eq!(launches(18, 16, true).0, [8, 8, 1, 1]);
        assert_eq!(launches(3, 32, true).0, [1, 1, 1]);
        assert_eq!(next_steps(25, 100, 32, true), 0, "no room for eight");
        assert_eq!(next_steps(24, 100, 32, true), 8);
        assert_eq!(next_steps(5, 3, 32, true), 0, "more than is wanted");
    }
}
