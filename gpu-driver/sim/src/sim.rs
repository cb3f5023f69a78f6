//! One driver: its state behind a lock, and the loop that executes what is queued.

use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpu_driver::sys::CUresult;
use parking_lot::{Condvar, Mutex, MutexGuard};
use ptx_builder::interp::Options;

use crate::call::Outcome as CallOutcome;
use crate::config::SimConfig;
use crate::error::{Result, SimError};
use crate::fault::LAUNCH;
use crate::handle::Id;
use crate::profile::DeviceProfile;
use crate::queue::{Done, Marker, Started};
use crate::report::{LaunchRecord, LiveObject};
use crate::state::State;
use crate::work::{Machine, Outcome, Work};

/// How long a query that finds work unfinished lets it go on.
const QUERY: Duration = Duration::from_millis(10);

/// The most findings that a launch reports.
const MOST_FINDINGS: usize = 64;

/// The most devices of one driver.
const MOST_DEVICES: u32 = 16;

pub(crate) struct Sim {
    pub serial: u32,
    pub config: SimConfig,
    /// The C library's own driver, whose device handles are ordinals.
    pub is_default: bool,
    pub profile: DeviceProfile,
    state: Mutex<State>,
    /// An operation has finished.
    progress: Condvar,
}

/// An operation that was taken from the queue, with what executes it.
struct Job {
    started: Started,
    machine: Machine,
    /// A fault on demand in its place.
    injected: Option<CUresult>,
}

impl Sim {
    pub(crate) fn new(serial: u32, config: SimConfig, is_default: bool) -> Result<Self> {
        if config.devices > MOST_DEVICES {
            return Err(SimError::TooManyDevices(config.devices));
        }
        let part = DeviceProfile::of(config.target);
        let multiprocessors = config.processors.unwrap_or(part.multiprocessors);
        let profile = DeviceProfile { multiprocessors, ..*part };
        let state = Mutex::new(State::new(serial, &config, &profile));
        Ok(Self { serial, config, is_default, profile, state, progress: Condvar::new() })
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Executes what is queued until `until` holds or nothing is left. The order is the generator's, and work that
    /// nobody waits for takes part.
    pub(crate) fn drive(&self, state: &mut MutexGuard<'_, State>, mut until: impl FnMut(&State) -> bool) {
        while !until(state) {
            if state.running {
                // Another thread executes something; it notifies when done.
                self.progress.wait(state);
                continue;
            }
            let Some(mut job) = self.start(state) else { break };
            let outcome = MutexGuard::unlocked(state, || job.run());
            self.finish(state, job, outcome);
        }
    }

    /// Waits for operations. Afterwards the context may be lost.
    pub(crate) fn wait(
        &self,
        state: &mut MutexGuard<'_, State>,
        context: Id,
        markers: &[Arc<Marker>],
    ) -> CallOutcome {
        self.drive(state, |_| markers.iter().all(|marker| marker.is_done()));
        for done in markers.iter().filter_map(|marker| marker.done()) {
            state.now_ns = state.now_ns.max(done.end_ns);
        }
        match state.contexts.get(&context).and_then(|context| context.sticky) {
            Some(code) => Err(code),
            None => Ok(()),
        }
    }

    /// Waits for everything of a context.
    pub(crate) fn wait_for_context(&self, state: &mut MutexGuard<'_, State>, context: Id) -> CallOutcome {
        self.drive(state, |state| !state.queue.is_busy(context));
        state.now_ns = state.now_ns.max(state.latest(context));
        match state.contexts.get(&context).and_then(|context| context.sticky) {
            Some(code) => Err(code),
            None => Ok(()),
        }
    }

    /// Says whether operations have finished; where not, lets one operation go on in the background, so that a
    /// program that asks again and again gets there, and one that has to act before a kernel can end does, too.
    pub(crate) fn query(
        self: &Arc<Self>,
        state: &mut MutexGuard<'_, State>,
        context: Id,
        markers: &[Arc<Marker>],
    ) -> CallOutcome {
        if markers.iter().all(|marker| marker.is_done()) {
            return Ok(());
        }
        if !state.running
            && let Some(job) = self.start(state)
        {
            let sim = Arc::clone(self);
            let (hand, take) = std::sync::mpsc::channel::<Job>();
            let spawned = std::thread::Builder::new().name("warpsmith-sim".to_owned()).spawn(move || {
                if let Ok(mut job) = take.recv() {
                    let began = Instant::now();
                    let mut outcome = job.run();
                    // The program went on meanwhile: it may have waited for this, or let it wait.
                    let real = began.elapsed();
                    if real >= QUERY {
                        let real_ns = u64::try_from(real.as_nanos()).unwrap_or(u64::MAX);
                        outcome.duration_ns = outcome.duration_ns.max(real_ns);
                    }
                    sim.finish(&mut sim.lock(), job, outcome);
                }
            });
            let kept = match spawned {
                Ok(_) => hand.send(job).err().map(|refused| refused.0),
                Err(_) => Some(job),
            };
            if let Some(mut job) = kept {
                let outcome = MutexGuard::unlocked(state, || job.run());
                self.finish(state, job, outcome);
            }
        }
        let deadline = Instant::now() + QUERY;
        while state.running && !self.progress.wait_until(state, deadline).timed_out() {}
        match state.contexts.get(&context).and_then(|context| context.sticky) {
            Some(code) => Err(code),
            None => Err(CUresult::ERROR_NOT_READY),
        }
    }

    /// Executes some of the queue when it is long.
    pub(crate) fn relieve(&self, state: &mut MutexGuard<'_, State>) {
        let most = self.config.most_queued;
        if state.queue.len() > most {
            self.drive(state, |state| state.queue.len() <= most / 2);
        }
    }

    fn start(&self, state: &mut State) -> Option<Job> {
        let state = &mut *state;
        let started = state.queue.start(&mut state.random, self.config.slow_copies.is_some())?;
        let is_kernel = matches!(started.work, Work::Kernel(_));
        let injected = if is_kernel { state.faults.strike(LAUNCH) } else { None };
        let cycles_per_us = u64::from(self.profile.clock_khz / 1000);
        let options = Options {
            sanitize: self.config.sanitize,
            metrics: self.config.metrics,
            fuel: self.config.fuel,
            seed: state.random.next(),
            threads: self.config.threads,
            pending: started.pending.clone(),
            max_findings: MOST_FINDINGS,
            clock_base: started.start_ns * cycles_per_us / 1000,
            cooperative: matches!(&started.work, Work::Kernel(work) if work.cooperative),
        };
        let machine = Machine {
            memory: state.memory.clone(),
            options,
            fail_on_findings: self.config.fail_on_findings,
            instructions_per_us: u64::from(self.profile.multiprocessors) * cycles_per_us,
            slow_copies: self.config.slow_copies.map_or(1, |times| u64::from(times.max(1))),
        };
        state.running = true;
        Some(Job { started, machine, injected })
    }

    fn finish(&self, state: &mut State, job: Job, outcome: Outcome) {
        let Started { id, context, work, start_ns, pending } = job.started;
        let mut failure = outcome.failure;
        let end_ns = start_ns + outcome.duration_ns;
        state.running = false;
        let log = &mut state.log;
        log.bytes_copied += outcome.bytes_copied;
        log.instructions += outcome.instructions;
        log.printed.push_str(&outcome.printed);
        for finding in &outcome.findings {
            tracing::error!(%finding, "finding");
            self.tell(&format!("finding: {finding}"));
        }
        log.findings.extend(outcome.findings);
        if let (Work::Kernel(kernel), None) = (&work, job.injected) {
            log.launch(LaunchRecord {
                kernel: kernel.code.name().to_owned(),
                grid: kernel.grid,
                block: kernel.block,
                cluster: kernel.cluster,
                dynamic_shared: kernel.dynamic_shared,
                args: kernel.args.as_ref().clone(),
                programmatic: !pending.is_empty(),
                instructions: outcome.instructions,
                start_ns,
                end_ns,
                metrics: outcome.metrics,
            });
        }
        if let Work::Free(address) = work {
            state.forget_allocation(address);
        }
        if let (Work::Kernel(kernel), None) = (&work, &failure) {
            failure = kernel.set(&outcome.conditionals).err();
        }
        state.note_end(context, end_ns);
        let repeated = match (&work, &failure) {
            // A context that was lost or has ended meanwhile queues nothing any more.
            (Work::While(turn), None) if state.is_usable(context) => {
                turn.clone().next(self.config.most_iterations)
            }
            _ => Ok(None),
        };
        match repeated {
            Ok(Some(turn)) => {
                let iteration = turn.queue(&mut state.queue, context, end_ns);
                state.queue.again(id, iteration, Work::While(turn));
            }
            ended => {
                failure = failure.or(ended.err());
                state.queue.finish(id, Done { end_ns, grid: outcome.grid, overtaken: pending });
            }
        }
        if let Some((code, why)) = failure {
            self.lose(state, context, code, &format!("{work:?}: {why}"));
        }
        self.progress.notify_all();
    }

    /// Loses a context: nothing that it has queued will run, and every call on it returns the code.
    pub(crate) fn lose(&self, state: &mut State, context: Id, code: CUresult, why: &str) {
        let now = state.now_ns;
        let Some(lost) = state.contexts.get_mut(&context) else { return };
        if lost.sticky.is_none() {
            tracing::error!(code = ?code, why, "context lost");
            lost.sticky = Some(code);
            self.tell(&format!("fault: {code:?}: {why}"));
            state.log.faults.push(format!("{code:?}: {why}"));
        }
        state.queue.cancel(context, now);
        self.progress.notify_all();
    }

    /// Says what a context leaves behind.
    pub(crate) fn tell_leaks(&self, leaks: &[LiveObject]) {
        for leak in leaks {
            tracing::warn!(%leak, "leak");
            self.tell(&format!("leak: {leak}"));
        }
    }

    /// A line on standard error, if the program wants it.
    fn tell(&self, line: &str) {
        if self.config.print_report {
            print(&format!("warpsmith software driver: {line}"));
        }
    }
}

impl Job {
    fn run(&mut self) -> Outcome {
        if let Some(code) = self.injected {
            return Outcome { failure: Some((code, "a fault on demand".to_owned())), ..Outcome::default() };
        }
        let work = self.started.work.clone();
        catch_unwind(AssertUnwindSafe(|| work.execute(&self.machine))).unwrap_or_else(|_| Outcome {
            failure: Some((CUresult::ERROR_UNKNOWN, "the interpreter panicked".to_owned())),
            ..Outcome::default()
        })
    }
}

/// A line on standard error, which a program that loaded the C library has asked for. It may be closed.
pub(crate) fn print(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
