//! How to wait for something that comes at a steady pace without keeping a core busy.

use std::thread;
use std::time::{Duration, Instant};

/// The shortest sleep: shorter ones cost more of the processor than they save, as a sleep ends late by about as much.
const SHORTEST: Duration = Duration::from_micros(40);
/// What a step may be late, beside half of its own time, before it is given up to the driver to wait for.
const LATE: Duration = Duration::from_millis(2);

/// When steps are expected to end.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// The time of a step; `None` as long as none was seen.
    step: Option<Duration>,
    /// When a step was last waited for, or the first was queued.
    since: Instant,
    /// Steps that have been found done since then.
    done: u32,
}

impl Pace {
    /// Nothing is known.
    pub(super) fn new() -> Self {
        Self { step: None, since: Instant::now(), done: 0 }
    }

    /// Whether the time of a step is known.
    pub(super) const fn is_known(&self) -> bool {
        self.step.is_some()
    }

    /// Steps begin to run.
    pub(super) fn start(&mut self) {
        (self.since, self.done) = (Instant::now(), 0);
    }

    /// Calls `look` until it finds the next of `queued` steps done, and sleeps between the calls. `None` if it is overdue,
    /// or nothing is known about when to expect it: somebody must then be asked who knows of failures.
    pub(super) fn wait<T, E>(
        &mut self,
        queued: u32,
        mut look: impl FnMut() -> Result<Option<T>, E>,
    ) -> Result<Option<T>, E> {
        let mut found = look()?;
        if found.is_some() {
            self.done += 1;
            return Ok(found);
        }
        let Some(step) = self.step else { return Ok(None) };
        let begun = Instant::now();
        // The caller may have taken its time: no step is farther away than one from now.
        let expected = (self.since + step * (self.done + 1)).min(begun + step);
        let overdue = expected.max(begun) + step / 2 + LATE;
        while found.is_none() {
            let now = Instant::now();
            if now >= overdue {
                return Ok(None);
            }
            let left = expected.saturating_duration_since(now);
            thread::sleep(left.max(step / 16).max(SHORTEST));
            found = look()?;
        }
        let now = Instant::now();
        // While others follow, the device is never idle, and steps come at its pace. The last one may have ended long
        // before the sleep did: to learn from it would be to learn from sleeps.
        if queued > 1 {
            self.learn((now - self.since) / (self.done + 1));
        }
        (self.since, self.done) = (now, 0);
        Ok(found)
    }

    /// `steps` steps have run since somebody else began to wait for them.
    pub(super) fn waited(&mut self, begun: Instant, steps: u32) {
        let now = Instant::now();
        self.learn((now - begun) / steps.max(1));
        (self.since, self.done) = (now, 0);
    }

    /// A quarter of the news, and not too much of it: what is seen of a step is inexact by as much as a sleep is, and
    /// may include what the caller did meanwhile.
    fn learn(&mut self, seen: Duration) {
        self.step = Some(self.step.map_or(seen, |step| (step * 3 + seen.min(step * 2)) / 4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pace(step: Option<Duration>) -> Pace {
        Pace { step, ..Pace::new() }
    }

    #[test]
    fn what_is_there_is_found_at_once() {
        let mut pace = pace(Some(Duration::from_secs(60)));
        let start = Instant::now();
        assert_eq!(pace.wait(2, || Ok::<_, ()>(Some(7))), Ok(Some(7)));
        assert!(start.elapsed() < Duration::from_secs(5));
        assert_eq!(pace.step, Some(Duration::from_secs(60)), "what was not waited for says nothing");
    }

    #[test]
    fn what_comes_is_waited_for_with_few_looks() {
        let step = Duration::from_millis(20);
        let mut pace = pace(Some(step));
        let (start, mut looks) = (Instant::now(), 0);
        let found = pace.wait(2, || {
            looks += 1;
            Ok::<_, ()>((start.elapsed() >= step).then_some(()))
        });
        assert_eq!(found, Ok(Some(())));
        assert!(looks <= 4, "{looks}");
    }

    /// Sleeps end late. A pace that believed them would be slower each time.
    #[test]
    fn a_step_that_nothing_follows_teaches_nothing() {
        let step = Duration::from_micros(500);
        let mut pace = pace(Some(step));
        for _ in 0..5 {
            let mut looks = 0;
            let found = pace.wait(1, || {
                looks += 1;
                Ok::<_, ()>((looks > 1).then_some(()))
            });
            assert_eq!((found, pace.step), (Ok(Some(())), Some(step)));
        }
    }

    #[test]
    fn what_does_not_come_is_given_up() {
        let mut pace = pace(Some(Duration::from_millis(1)));
        assert_eq!(pace.wait(2, || Ok::<_, ()>(None::<()>)), Ok(None));
        let mut pace = Pace::new();
        let mut looks = 0;
        let found = pace.wait(2, || {
            looks += 1;
            Ok::<_, ()>(None::<()>)
        });
        assert_eq!((found, looks, pace.is_known()), (Ok(None), 1, false));
        pace.waited(Instant::now() - Duration::from_millis(40), 4);
        let step = pace.step.unwrap();
        assert!(step >= Duration::from_millis(10) && step < Duration::from_millis(20), "{step:?}");
    }

    #[test]
    fn steps_that_were_found_done_count_too() {
        let mut pace = Pace {
            since: Instant::now() - Duration::from_millis(40),
            ..pace(Some(Duration::from_millis(1)))
        };
        (0..3).for_each(|_| assert_eq!(pace.wait(2, || Ok::<_, ()>(Some(()))), Ok(Some(()))));
        let found = pace.wait(2, {
            let mut looks = 0;
            move || {
                looks += 1;
                Ok::<_, ()>((looks > 1).then_some(()))
            }
        });
        assert_eq!(found, Ok(Some(())));
        let step = pace.step.unwrap();
        assert!(step >= Duration::from_millis(1) && step < Duration::from_millis(20), "{step:?}");
    }

    #[test]
    fn a_look_that_fails_ends_the_wait() {
        assert_eq!(pace(Some(Duration::from_secs(60))).wait(2, || Err::<Option<()>, _>("lost")), Err("lost"));
    }
}
