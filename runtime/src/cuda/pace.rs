//! How to wait for something that comes at a steady pace without keeping a core busy.

use std::thread;
use std::time::{Duration, Instant};

/// The shortest sleep: shorter ones cost more of the processor than they save, as a sleep ends late by about as much.
const SHORTEST: Duration = Duration::from_micros(40);
/// Steps that are shorter than this are waited for several at a time: nobody reads so fast, and beside an H200 a sleep
/// costs about 30 us of the processor when it ends.
const SMOOTH: Duration = Duration::from_millis(20);
/// What a step may be late, beside half of its own time, before it is given up to the driver to wait for.
const LATE: Duration = Duration::from_millis(2);

/// When steps are expected to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The time of a step; `None` as long as none was seen.
    step: Option<Duration>,
    /// When the last step that is known to be done seems to have ended, or the first was queued.
    since: Instant,
    /// Steps that were done then and have not been taken.
    ready: u32,
}

impl Pace {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        Self { step: None, since: Instant::now(), ready: 0 }
    }

    /// Whether the time of a step is known.
    pub(super) const fn is_known(&self) -> bool {
        self.step.is_some()
    }

    /// Steps begin to run.
    pub(super) fn start(&mut self) {
        (self.since, self.ready) = (Instant::now(), 0);
    }

    /// Takes the next of `queued` steps, of which `done` says how many are done; sleeps until one is, or for the time of
    /// `most` short ones. False if it is overdue, or nothing is known about when to expect it: somebody must then be asked
    /// who knows of failures.
    pub(super) fn take<E>(
        &mut self,
        queued: u32,
        most: u32,
        mut done: impl FnMut() -> Result<u32, E>,
    ) -> Result<bool, E> {
        if self.ready > 0 {
            self.ready -= 1;
            return Ok(true);
        }
        let mut n = done()?;
        let Some(step) = self.step.filter(|_| n == 0) else {
            if n > 0 {
                self.found(n, queued, self.since);
            }
            return Ok(n > 0);
        };
        let begun = Instant::now();
        let mut looked = begun;
        let together = step.max(SMOOTH.min(step * most));
        let expected = self.since + together;
        // The first look is after the time of several, but it is the first of them that can be overdue.
        let overdue = expected.max(begun) + step / 2 + LATE;
        while n == 0 {
            let now = Instant::now();
            if now >= overdue {
                return Ok(false);
            }
            looked = now;
            let left = expected.saturating_duration_since(now);
            thread::sleep(left.max(step / 16).max(SHORTEST));
            n = done()?;
        }
        self.found(n, queued, looked);
        Ok(true)
    }

    /// `n` of `queued` steps are done, one of which is taken; none was when it was last `looked`.
    fn found(&mut self, n: u32, queued: u32, looked: Instant) {
        let now = Instant::now();
        self.ready = n - 1;
        // When the last of all ended nobody knows.
        if n == queued {
            self.since = now;
            return;
        }
        // The device has not been idle: the next step has begun, and has not ended.
        let passed = now - self.since;
        let (least, most) = (passed / (n + 1), passed / n);
        let step = self.step.map_or(most, |step| step.clamp(least.min(step * 2), most));
        let ended = self.since + step * n;
        let after = if n == 1 { looked } else { now.checked_sub(step).unwrap_or(looked) };
        self.step = Some(step);
        self.since = ended.clamp(after, now);
    }

    /// All of `steps` steps have run since somebody else began to wait for them, and one of them is taken.
    pub(super) fn waited(&mut self, begun: Instant, steps: u32) {
        let (now, steps) = (Instant::now(), steps.max(1));
        let seen = (now - begun) / steps;
        // A quarter of the news, and not too much of it: it may include what the caller did meanwhile.
        self.step = Some(self.step.map_or(seen, |step| (step * 3 + seen.min(step * 2)) / 4));
        (self.since, self.ready) = (now, steps - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(step: Option<Duration>) -> Pace {
        Pace { step, ..Pace::new() }
    }

    const MILLI: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_there_is_taken_at_once_and_looked_at_once() {
        let mut pace = pace(Some(60_000 * MILLI));
        let (start, mut looks) = (Instant::now(), 0);
        for _ in 0..3 {
            let taken = pace.take(8, 4, || {
                looks += 1;
                Ok::<_, ()>(3)
            });
            assert_eq!(taken, Ok(true));
        }
        assert!(looks == 1 && start.elapsed() < 5000 * MILLI);
    }

    #[test]
    fn what_comes_is_waited_for_with_few_looks() {
        let step = 20 * MILLI;
        let mut pace = pace(Some(step));
        let (start, mut looks) = (Instant::now(), 0);
        let taken = pace.take(4, 2, || {
            looks += 1;
            Ok::<_, ()>(u32::from(start.elapsed() >= step))
        });
        assert_eq!(taken, Ok(true));
        assert!(looks <= 4, "{looks}");
    }

    /// A device that ends a step every two milliseconds, seen through sleeps that end late.
    #[test]
    fn the_pace_that_is_learnt_is_that_of_the_device() {
        for guess in [MILLI / 4, 2 * MILLI, 9 * MILLI] {
            let mut pace = pace(Some(guess));
            let start = Instant::now();
            let done = || (start.elapsed().as_micros() / 2000) as u32;
            for taken in 0..80 {
                // The queue is always longer than what can have ended.
                assert_eq!(
                    pace.take(1000, 500, || Ok::<_, ()>(done().saturating_sub(taken))),
                    Ok(true),
                    "{taken}"
                );
            }
            let step = pace.step.unwrap();
            assert!(step > MILLI && step < 4 * MILLI, "{guess:?}: {step:?}");
        }
    }

    /// What is seen late has ended before, and the next step is expected so much sooner.
    #[test]
    fn a_look_in_the_middle_of_a_step_does_not_shift_the_next_ones() {
        let begun = Instant::now();
        let past = begun.checked_sub(25 * MILLI).expect("a clock that has run for a while");
        for (guess, step, ended) in [(10, 10.0, 20.0), (6, 25.0 / 3.0, 50.0 / 3.0), (20, 12.5, 25.0)] {
            let mut pace = Pace { step: Some(guess * MILLI), since: past, ready: 0 };
            pace.found(2, 8, past);
            // The test may be held up.
            let held_up = begun.elapsed().as_secs_f64() * 1e3;
            let seen = pace.step.expect("known").as_secs_f64() * 1e3;
            assert!(seen > step - 0.01 && seen <= step + held_up / 2.0, "{guess}: {seen}");
            let since = (pace.since - past).as_secs_f64() * 1e3;
            assert!(since > ended - 0.01 && since <= ended + held_up, "{guess}: {since}");
            assert_eq!(pace.ready, 1, "one is taken");
        }
    }

    /// Sleeps end late. A pace that believed them would be slower each time.
    #[test]
    fn a_step_that_nothing_follows_teaches_nothing() {
        let step = MILLI / 2;
        let mut pace = pace(Some(step));
        for _ in 0..5 {
            let mut looks = 0;
            let taken = pace.take(1, 1, || {
                looks += 1;
                Ok::<_, ()>(u32::from(looks > 1))
            });
            assert_eq!((taken, pace.step), (Ok(true), Some(step)));
        }
    }

    #[test]
    fn what_does_not_come_is_given_up() {
        let mut pace = pace(Some(MILLI));
        assert_eq!(pace.take(2, 1, || Ok::<_, ()>(0)), Ok(false));
        let mut pace = Pace::new();
        let mut looks = 0;
        let taken = pace.take(2, 1, || {
            looks += 1;
            Ok::<_, ()>(0)
        });
        assert_eq!((taken, looks, pace.is_known()), (Ok(false), 1, false));
        pace.waited(Instant::now() - 40 * MILLI, 4);
        let step = pace.step.unwrap();
        assert!(step >= 10 * MILLI && step < 20 * MILLI, "{step:?}");
        assert_eq!(pace.ready, 3, "one is taken");
    }

    #[test]
    fn a_look_that_fails_ends_the_wait() {
        assert_eq!(pace(Some(60_000 * MILLI)).take(2, 1, || Err::<u32, _>("lost")), Err("lost"));
    }
}
