//! Streams and events.

use crate::Fixture;
use gpu_driver::sys::CUresult;
use gpu_driver::{Event, EventKind, Stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn streams_are_non_blocking_and_have_priorities() {
    let f = Fixture::new();
    let urgent = Stream::with_priority(&f.context, -9).expect("a stream");
    assert_eq!(f.double.calls("cuStreamCreate"), ["cuStreamCreateWithPriority(1, -9)"]);
    assert_eq!(urgent.priority().expect("a priority"), -5);
    assert_eq!(Stream::priority_range(&f.context).expect("a range"), (0, -5));
}

#[test]
fn unfinished_is_an_answer_and_not_an_error() {
    let f = Fixture::new();
    let event = f.stream.record(EventKind::Ordering).expect("an event");
    f.double.state().busy = true;
    assert!(!f.stream.is_idle().expect("a query"));
    assert!(!event.is_complete().expect("a query"));
    event.synchronize().expect("a wait");
    assert!(f.stream.is_idle().expect("a query"));
}

#[test]
fn timing_needs_events_with_time_stamps() {
    let f = Fixture::new();
    let start = f.stream.record(EventKind::Timing).expect("an event");
    let end = f.stream.record(EventKind::Timing).expect("an event");
    assert_eq!(end.elapsed_ms(&start).expect("a time"), 1.5);
    let bare = f.stream.record(EventKind::Ordering).expect("an event");
    assert_eq!(bare.elapsed_ms(&start).expect_err("a time").code(), Some(CUresult::ERROR_INVALID_HANDLE));
    let unrecorded = Event::new(&f.context, EventKind::Timing).expect("an event");
    assert!(unrecorded.elapsed_ms(&start).is_err());
    assert_eq!(
        f.double.calls("cuEventCreate"),
        ["cuEventCreate(0)", "cuEventCreate(0)", "cuEventCreate(2)", "cuEventCreate(0)"]
    );
}

#[test]
fn streams_wait_for_events_of_their_own_context() {
    let f = Fixture::new();
    let event = f.stream.record(EventKind::Ordering).expect("an event");
    let second = Stream::new(&f.context).expect("a stream");
    second.wait_event(&event).expect("a wait");
    let foreign = Stream::new(&f.context.driver().context(1).expect("a context")).expect("a stream");
    assert!(foreign.wait_event(&event).is_err());
    assert_eq!(f.double.calls("cuStreamWaitEvent").len(), 1);
}

struct Flag(Arc<AtomicBool>);

impl Drop for Flag {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn flag() -> (Arc<AtomicBool>, Box<Flag>) {
    let seen = Arc::new(AtomicBool::new(false));
    (Arc::clone(&seen), Box::new(Flag(seen)))
}

#[test]
fn what_a_stream_keeps_is_dropped_by_waiting_and_events_are_reused() {
    let f = Fixture::new();
    for _ in 0..5 {
        let (dropped, value) = flag();
        f.double.state().busy = true;
        f.stream.keep_until_done(value);
        assert!(!dropped.load(Ordering::SeqCst));
        f.stream.synchronize().expect("a wait");
        assert!(dropped.load(Ordering::SeqCst));
    }
    assert_eq!(f.double.calls("cuEventCreate").len(), 1);
}

#[test]
fn a_destructor_that_panics_does_not_release_what_is_kept_next() {
    struct Panics;
    impl Drop for Panics {
        fn drop(&mut self) {
            panic!("in a destructor");
        }
    }
    let f = Fixture::new();
    f.stream.keep_until_done(Box::new(Panics));
    let (dropped, value) = flag();
    let kept = std::panic::AssertUnwindSafe(|| f.stream.keep_until_done(value));
    assert!(std::panic::catch_unwind(kept).is_err());
    assert!(!dropped.load(Ordering::SeqCst));
    f.stream.synchronize().expect("a wait");
    assert!(dropped.load(Ordering::SeqCst));
}

#[test]
fn a_failed_wait_keeps_what_the_stream_keeps() {
    let f = Fixture::new();
    let (dropped, value) = flag();
    f.double.state().busy = true;
    f.stream.keep_until_done(value);
    f.double.fail("cuStreamSynchronize", [CUresult::ERROR_NOT_PERMITTED]);
    f.stream.synchronize().expect_err("a failing wait");
    assert!(!dropped.load(Ordering::SeqCst));
    assert_eq!(f.stream.parked(), 1);
}

#[test]
fn dropping_a_stream_waits_only_for_what_it_keeps() {
    let f = Fixture::new();
    let plain = Stream::new(&f.context).expect("a stream");
    f.double.forget_calls();
    drop(plain);
    assert!(f.double.calls("cuStreamSynchronize").is_empty());

    let (dropped, value) = flag();
    let keeper = Stream::new(&f.context).expect("a stream");
    f.double.state().busy = true;
    keeper.keep_until_done(value);
    drop(keeper);
    assert_eq!(f.double.calls("cuStreamSynchronize").len(), 1);
    assert!(dropped.load(Ordering::SeqCst));
}

#[test]
fn values_that_cannot_be_waited_for_are_leaked() {
    let f = Fixture::new();
    let (dropped, value) = flag();
    let keeper = Stream::new(&f.context).expect("a stream");
    f.double.state().busy = true;
    keeper.keep_until_done(value);
    f.double.fail("cuStreamSynchronize", [CUresult::ERROR_NOT_PERMITTED]);
    drop(keeper);
    assert!(!dropped.load(Ordering::SeqCst));
    assert_eq!(f.context.take_drop_errors()[0].origin, "Stream, waiting for its copies");
}

#[test]
fn a_wait_in_the_place_of_an_event_loses_no_error() {
    let f = Fixture::new();
    let (dropped, value) = flag();
    f.double.fail("cuEventCreate", [CUresult::ERROR_OUT_OF_MEMORY]);
    f.double.fail("cuStreamSynchronize", [CUresult::ERROR_LAUNCH_OUT_OF_RESOURCES]);
    f.stream.keep_until_done(value);
    assert!(!dropped.load(Ordering::SeqCst));
    let errors = f.context.take_drop_errors();
    assert_eq!(errors[0].origin, "Stream, waiting for its work");
    assert_eq!(errors[0].error.code(), Some(CUresult::ERROR_LAUNCH_OUT_OF_RESOURCES));
}

#[test]
fn without_an_event_the_stream_waits_at_once() {
    let f = Fixture::new();
    let (dropped, value) = flag();
    f.double.fail("cuEventCreate", [CUresult::ERROR_OUT_OF_MEMORY]);
    f.stream.keep_until_done(value);
    assert!(dropped.load(Ordering::SeqCst));
    assert_eq!(f.double.calls("cuStreamSynchronize").len(), 1);
}
