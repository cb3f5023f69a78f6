//! How a C function becomes a call of a driver: which driver it is for, what is recorded, what fails on demand, and
//! what is returned.
//!
//! `extern "C"` functions carry no state. A function with a handle finds its driver in the handle; one that works on
//! the current context finds it in the handle that this thread has made current. The few functions that have neither
//! exist once for each of a number of slots, and a driver's table holds those of its slot (see [`crate::registry`]).
//! All of this works from any thread, and any number of drivers can be used by one thread in turns.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use gpu_driver::sys::{CUcontext, CUresult, CUstream};
use parking_lot::MutexGuard;

use crate::handle::{Handle, Id};
use crate::objects::Stream;
use crate::queue::Marker;
use crate::registry;
use crate::sim::Sim;
use crate::state::State;
use crate::work::HostFunction;

/// What a call comes to.
pub(crate) type Outcome<T = ()> = Result<T, CUresult>;

thread_local! {
    /// The stack of contexts of this thread; the last is current.
    static CONTEXTS: RefCell<Vec<CUcontext>> = const { RefCell::new(Vec::new()) };
    static IN_HOST_FUNCTION: Cell<bool> = const { Cell::new(false) };
    /// The default stream of a call is that of this thread.
    static THREAD_STREAM: Cell<bool> = const { Cell::new(false) };
}

/// The context that is current on this thread.
pub(crate) fn current() -> CUcontext {
    CONTEXTS.with_borrow(|stack| stack.last().copied()).unwrap_or(CUcontext::NULL)
}

/// Replaces the current context; null pops it.
pub(crate) fn set_current(context: CUcontext) {
    CONTEXTS.with_borrow_mut(|stack| {
        stack.pop();
        if !context.is_null() {
            stack.push(context);
        }
    });
}

pub(crate) fn push_current(context: CUcontext) {
    CONTEXTS.with_borrow_mut(|stack| stack.push(context));
}

pub(crate) fn pop_current() -> Option<CUcontext> {
    CONTEXTS.with_borrow_mut(Vec::pop)
}

/// Runs a host function of the program: calls of the driver from within are refused.
pub(crate) fn as_host_function(f: impl FnOnce()) {
    IN_HOST_FUNCTION.set(true);
    f();
    IN_HOST_FUNCTION.set(false);
}

/// Makes a call whose default stream is that of this thread.
pub(crate) fn with_thread_stream(call: impl FnOnce() -> CUresult) -> CUresult {
    THREAD_STREAM.set(true);
    let code = call();
    THREAD_STREAM.set(false);
    code
}

/// Name and telling argument of a call.
pub(crate) struct Name<'a> {
    pub name: &'static str,
    pub detail: fmt::Arguments<'a>,
}

/// `name!("cuMemAlloc")`, `name!("cuMemAlloc", "{bytes}")`.
macro_rules! name {
    ($name:literal) => {
        $crate::call::Name { name: $name, detail: format_args!("") }
    };
    ($name:literal, $($detail:tt)+) => {
        $crate::call::Name { name: $name, detail: format_args!($($detail)+) }
    };
}
pub(crate) use name;

/// A call in progress: the driver's state, locked, and the context that it works on.
pub(crate) struct Call<'a> {
    pub sim: &'a Arc<Sim>,
    pub state: MutexGuard<'a, State>,
    pub context: Id,
    /// Ordinal of the context's device.
    pub device: u32,
}

impl Deref for Call<'_> {
    type Target = State;
    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for Call<'_> {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}

fn guarded(f: impl FnOnce() -> Outcome) -> CUresult {
    if IN_HOST_FUNCTION.get() {
        return CUresult::ERROR_NOT_PERMITTED;
    }
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(Ok(())) => CUresult::SUCCESS,
        Ok(Err(code)) => code,
        Err(_) => {
            tracing::error!("the simulated driver panicked");
            CUresult::ERROR_UNKNOWN
        }
    }
}

/// Records a call, lets time pass, and says whether it is to fail.
fn begin(state: &mut State, name: &Name<'_>) -> Outcome {
    state.now_ns += 1_000;
    state.log.call(name.name, name.detail.to_string());
    match state.faults.strike(name.name) {
        Some(code) => Err(code),
        None => Ok(()),
    }
}

/// Runs destructors of the program, with nothing locked. They must not call the driver.
fn run_doomed(state: &mut MutexGuard<'_, State>) {
    let doomed = std::mem::take(&mut state.doomed);
    if !doomed.is_empty() {
        MutexGuard::unlocked(state, || doomed.into_iter().for_each(HostFunction::call));
    }
}

fn end(state: &mut State, at: usize, outcome: &Outcome) {
    if let Err(code) = outcome
        && *code != CUresult::ERROR_NOT_READY
        && let Some(call) = state.log.calls.get_mut(at)
    {
        call.ok = false;
    }
}

/// A call that needs no context.
pub(crate) fn on_driver(
    sim: Option<Arc<Sim>>,
    name: Name<'_>,
    needs_init: bool,
    f: impl FnOnce(&Arc<Sim>, &mut MutexGuard<'_, State>) -> Outcome,
) -> CUresult {
    guarded(|| {
        let Some(sim) = sim else { return Err(CUresult::ERROR_DEINITIALIZED) };
        let mut state = sim.lock();
        let at = state.log.calls.len();
        let outcome = begin(&mut state, &name).and_then(|()| {
            if needs_init && !state.initialised {
                return Err(CUresult::ERROR_NOT_INITIALIZED);
            }
            f(&sim, &mut state)
        });
        end(&mut state, at, &outcome);
        outcome
    })
}

/// The driver of a call that has neither a context nor a handle: that of the current context, if there is one.
pub(crate) fn any_driver() -> Option<Arc<Sim>> {
    let current = current();
    if current.is_null() { registry::default() } else { current.serial().and_then(registry::find) }
}

/// A call that releases a context. It does so even where it fails on demand.
pub(crate) fn releasing_on_driver(
    sim: Option<Arc<Sim>>,
    name: Name<'_>,
    f: impl FnOnce(&Arc<Sim>, &mut MutexGuard<'_, State>) -> Outcome,
) -> CUresult {
    guarded(|| {
        let Some(sim) = sim else { return Err(CUresult::ERROR_DEINITIALIZED) };
        let mut state = sim.lock();
        let at = state.log.calls.len();
        let injected = begin(&mut state, &name);
        let done = if state.initialised { f(&sim, &mut state) } else { Err(CUresult::ERROR_NOT_INITIALIZED) };
        let outcome = injected.and(done);
        end(&mut state, at, &outcome);
        run_doomed(&mut state);
        outcome
    })
}

/// A call on the current context.
pub(crate) fn in_context(name: Name<'_>, f: impl FnOnce(&mut Call<'_>) -> Outcome) -> CUresult {
    guarded(|| {
        let current = current();
        with_context(current, &name, |call, injected| {
            injected?;
            if let Some(code) = call.sticky() {
                return Err(code);
            }
            f(call)
        })
    })
}

/// A call that releases something in the current context. It does so even where it fails: in a lost context, or on
/// demand.
pub(crate) fn releasing(name: Name<'_>, f: impl FnOnce(&mut Call<'_>) -> Outcome) -> CUresult {
    guarded(|| {
        let current = current();
        with_context(current, &name, |call, injected| {
            let done = f(call);
            injected?;
            match call.sticky() {
                Some(code) => Err(code),
                None => done,
            }
        })
    })
}

fn with_context(
    handle: CUcontext,
    name: &Name<'_>,
    f: impl FnOnce(&mut Call<'_>, Outcome) -> Outcome,
) -> Outcome {
    if handle.is_null() {
        // Nobody to record it with, but for the library's own driver.
        if let Some(sim) = registry::existing_default() {
            let mut state = sim.lock();
            let at = state.log.calls.len();
            let outcome = begin(&mut state, name);
            let initialised = state.initialised;
            let outcome = outcome.and(if initialised {
                Err(CUresult::ERROR_INVALID_CONTEXT)
            } else {
                Err(CUresult::ERROR_NOT_INITIALIZED)
            });
            end(&mut state, at, &outcome);
            return outcome;
        }
        return Err(CUresult::ERROR_INVALID_CONTEXT);
    }
    let sim = handle.serial().and_then(registry::find).ok_or(CUresult::ERROR_DEINITIALIZED)?;
    let mut state = sim.lock();
    let at = state.log.calls.len();
    let injected = begin(&mut state, name);
    let found = state.id_of(handle).and_then(|id| {
        let alive = state.contexts.get(&id).filter(|context| context.alive);
        alive.map(|context| (id, context.device)).ok_or(CUresult::ERROR_CONTEXT_IS_DESTROYED)
    });
    let (context, device) = match found {
        Ok(found) => found,
        Err(code) => {
            let outcome = injected.and(Err(code));
            end(&mut state, at, &outcome);
            return outcome;
        }
    };
    let mut call = Call { sim: &sim, state, context, device };
    if let Err(code) = injected
        && code.is_sticky()
    {
        call.lose(code, "a fault on demand");
    }
    let outcome = f(&mut call, injected);
    end(&mut call.state, at, &outcome);
    run_doomed(&mut call.state);
    outcome
}

impl Call<'_> {
    /// The code of the context's fault.
    pub(crate) fn sticky(&self) -> Option<CUresult> {
        self.state.contexts.get(&self.context).and_then(|context| context.sticky)
    }

    /// The stream of a handle, which may be of another context, as far as nothing is launched; `None` is the legacy
    /// default stream.
    pub(crate) fn stream(&mut self, stream: CUstream) -> Outcome<Option<Id>> {
        match stream.0.addr() {
            0 if THREAD_STREAM.get() => self.thread_stream().map(Some),
            // Null, and the name of the legacy default stream.
            0 | 1 => Ok(None),
            2 => self.thread_stream().map(Some),
            _ => {
                let id = self.state.id_of(stream)?;
                let known = self.state.streams.contains_key(&id);
                if known { Ok(Some(id)) } else { Err(CUresult::ERROR_INVALID_HANDLE) }
            }
        }
    }

    /// The default stream of this thread in the current context, which is ordered with the legacy one.
    fn thread_stream(&mut self) -> Outcome<Id> {
        let key = (self.context, std::thread::current().id());
        if let Some(stream) = self.state.thread_streams.get(&key) {
            return Ok(*stream);
        }
        let id = self.state.new_id()?;
        self.state.streams.insert(id, Stream::new(self.context, true, 0));
        self.state.thread_streams.insert(key, id);
        Ok(id)
    }

    /// A stream of the current context.
    pub(crate) fn own_stream(&mut self, stream: CUstream) -> Outcome<Option<Id>> {
        let stream = self.stream(stream)?;
        let own = self.context_of(stream) == self.context;
        if own { Ok(stream) } else { Err(CUresult::ERROR_INVALID_HANDLE) }
    }

    /// The context in which work of a stream runs.
    pub(crate) fn context_of(&self, stream: Option<Id>) -> Id {
        stream.and_then(|id| self.state.streams.get(&id)).map_or(self.context, |stream| stream.context)
    }

    /// Waits for what is in a stream.
    pub(crate) fn wait_for_stream(&mut self, stream: Option<Id>) -> Outcome {
        let context = self.context_of(stream);
        let tails = self.tails(context, stream);
        self.sim.wait(&mut self.state, context, &tails)
    }

    /// Waits for operations.
    pub(crate) fn wait(&mut self, markers: &[Arc<Marker>]) -> Outcome {
        self.sim.wait(&mut self.state, self.context, markers)
    }

    /// Waits for everything of the context.
    pub(crate) fn wait_for_context(&mut self) -> Outcome {
        self.sim.wait_for_context(&mut self.state, self.context)
    }

    /// Loses the context.
    pub(crate) fn lose(&mut self, code: CUresult, why: &str) {
        let context = self.context;
        self.sim.lose(&mut self.state, context, code, why);
    }
}

/// Writes a result of a call.
pub(crate) fn put<T>(out: *mut T, value: T) -> Outcome {
    if out.is_null() {
        return Err(CUresult::ERROR_INVALID_VALUE);
    }
    // SAFETY: the program passes a pointer to a place for the result, which is not null.
    unsafe { out.write(value) };
    Ok(())
}

/// As [`put`], where the program may pass null for what it does not want.
pub(crate) fn put_if<T>(out: *mut T, value: T) {
    if !out.is_null() {
        // SAFETY: as for `put`.
        unsafe { out.write(value) };
    }
}
