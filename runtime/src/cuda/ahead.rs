//! Steps that are queued before the host knows the tokens that they begin with.
//!
//! A step of such a queue takes its tokens and positions from the device's memory and leaves there those of the next
//! one, so any number of them can be queued at once, and the device does not wait for the host. The tokens arrive one
//! step after the other in a ring in host memory, each with the count of its step. What was queued and is not asked
//! for costs time and nothing else: it has written to positions that are not decoded as far as
//! [`StepGuard`](crate::decoder::StepGuard) knows, and are written again before anything attends to them.

use std::sync::atomic::{Ordering, fence};
use std::time::Instant;

use gpu_driver::{DriverError, SharedPinned};
use kernels::sample::SamplingParams;

use super::decoder::{Choice, CudaDecoder, Purpose, driver_failed, failed, key};
use super::error::CudaError;
use super::memory_map::Span;
use crate::decoder::Row;
use crate::error::Error;
use crate::sampling::{Rule, Sampler};

/// Steps that one graph launch queues where at least so many are wanted: of 1, 4, 8 and 16 the number that costs the host
/// least for each of them (docs/measurements/2026-11-22-decode.md). As a queue waits until there is room for all of them, it gets shorter by
/// up to three steps.
pub(super) const TOGETHER: u32 = 4;

/// What is queued.
#[derive(Debug)]
pub(super) struct Queue {
    /// The rows of the next step, if the caller goes on with the tokens that were chosen.
    next: Vec<Row>,
    /// The count of that step.
    count: u32,
    /// Steps that are queued, from that one on.
    queued: u32,
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

/// How many steps to launch next for a queue that holds `queued` of the next `wanted` steps and may hold `limit`; 0 for
/// none now. `several`: whether [`TOGETHER`] steps can be launched at once.
fn next_launch(queued: u32, wanted: u32, limit: u32, several: bool) -> u32 {
    let (missing, space) = (wanted.saturating_sub(queued), limit.saturating_sub(queued));
    if several && missing >= TOGETHER {
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

impl CudaDecoder {
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
        self.guard.check(rows)?;
        let prepared = self.steps.contains_key(&key(rows.len(), purpose(rules.len())));
        let queue = match self.queue.take() {
            Some(queue) if prepared && queue.next == rows && queue.rules.iter().eq(rules.iter().copied()) => {
                queue
            }
            _ => self.begin(rows, rules)?,
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
        for (rule, &token) in queue.rules.iter_mut().zip(&self.results) {
            rule.accept(&[token]);
        }
        self.idle = queue.queued == 0;
        self.queue = Some(queue);
        Ok(&self.results)
    }

    /// Puts the state of a first step on the device.
    fn begin(&mut self, rows: &[Row], rules: &[&Rule]) -> Result<Queue, Error> {
        self.settle()?;
        self.prepare(rows.len(), purpose(rules.len()))?;
        self.write_rules(rows, rules)?;
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
        if let Some(step) = self.steps.get_mut(&key(rows.len(), purpose(rules.len()))) {
            step.pace.start();
        }
        let rules = rules.iter().map(|&rule| rule.clone()).collect();
        Ok(Queue { next: rows.to_vec(), count: self.begun, queued: 0, rules })
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
        let several = step.several.is_some();
        // The first step that ever runs tells how long one takes.
        let (ahead, limit) =
            if step.pace.is_known() { (ahead.min(room), self.options.ahead) } else { (0, 0) };
        // Positions fit 32 bits.
        let (wanted, limit) = (ahead as u32 + 1, limit as u32 + 1);
        loop {
            let steps = next_launch(queue.queued, wanted, limit, several);
            if steps == 0 {
                break;
            }
            // Counted even if the launch fails: it may have queued the steps all the same.
            self.begun = self.begun.wrapping_add(steps);
            self.idle = false;
            self.launch(rows, purpose, steps)?;
            queue.queued += steps;
        }
        // With a full queue, so that the device is busy meanwhile.
        if !several && wanted.saturating_sub(queue.queued) >= TOGETHER {
            self.prepare_several(rows, purpose);
        }
        Ok(queue)
    }

    /// Waits for the tokens of the next step of the queue, and leaves them in the results.
    fn take_tokens(&mut self, queue: &Queue) -> Result<(), Error> {
        let Queue { count, queued, .. } = *queue;
        let rows = queue.next.len();
        let pinned = self.memory.host(self.regions.ring).map_err(failed("reading tokens"))?;
        let ring = Ring { pinned, slots: self.layout.ring_slots };
        let done = || ring.done(count, queued, rows).map_err(driver_failed("reading tokens"));
        let mut pace = self.prepared(rows, queue.purpose())?.pace;
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
        if let Some(step) = self.steps.get_mut(&key(rows, queue.purpose())) {
            step.pace = pace;
        }
        ring.tokens(count, &mut self.results, rows).map_err(driver_failed("reading tokens"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The launches of a queue that begins empty, of which `wanted` steps are asked for one after the other, and the
    /// fewest that were left in it when some were still to be launched.
    fn launches(wanted: u32, limit: u32, several: bool) -> (Vec<u32>, u32) {
        let (mut launches, mut queued, mut fewest) = (Vec::new(), 0, u32::MAX);
        for taken in 0..wanted {
            if launches.iter().sum::<u32>() < wanted && taken > 0 {
                fewest = fewest.min(queued);
            }
            while let steps @ 1.. = next_launch(queued, wanted - taken, limit, several) {
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
                    let (several, fewest) = launches(wanted, limit, true);
                    assert_eq!(several.len() as u32, wanted / TOGETHER + wanted % TOGETHER, "{several:?}");
                    assert!(fewest >= limit - TOGETHER, "of {limit}: {fewest}");
                }
            }
        }
    }

    #[test]
    fn single_steps_are_launched_where_few_are_wanted() {
        assert_eq!(launches(10, 8, true).0, [4, 4, 1, 1]);
        assert_eq!(launches(3, 32, true).0, [1, 1, 1]);
        assert_eq!(next_launch(29, 100, 32, true), 0, "no room for four");
        assert_eq!(next_launch(28, 100, 32, true), 4);
        assert_eq!(next_launch(5, 3, 32, true), 0, "more than is wanted");
    }
}
