//! The device's time for each step of a plan.

use gpu_driver::{DeviceBuffer, Event, EventKind, Stream};
use kernels::Cost;

use super::error::CudaError;
use super::loaded::LoadedPlan;

/// What one step took.
#[derive(Debug, Clone, PartialEq)]
pub struct StepTime {
    /// The step's index in the plan.
    pub step: usize,
    /// Its kernel's name, or `copy` or `fill`.
    pub name: String,
    /// Device time in microseconds: the median over all runs.
    pub micros: f64,
    /// What it cost in bytes and operations.
    pub cost: Cost,
}

impl StepTime {
    /// Bytes read and written for each second of device time.
    pub fn bytes_per_second(&self) -> f64 {
        self.cost.bytes_read.saturating_add(self.cost.bytes_written) as f64 / (self.micros * 1e-6)
    }
}

/// Steps whose events are queued behind one plug.
const GROUP: usize = 64;

/// Size and number of the fills that keep the device busy while the host queues a group. One takes some 20 us on the
/// fastest devices, so all of them outlast the 5 to 10 us that the host needs for each step.
const PLUG_BYTES: usize = 64 << 20;
const PLUG_FILLS: usize = 32;

/// Runs the plan `runs` times, kernel by kernel, and returns each step's device time when every row attends to
/// `context` positions.
///
/// Events around a launch also count the time in which the device waits for the host, which for a small kernel is most
/// of it. Here the host queues a group of steps while the device is busy with fills, so that every step's successor
/// is there when it ends. The times include what an event costs, about half a microsecond. The caches have no weights
/// left from an earlier run.
///
/// # Errors
/// The driver's failure; [`CudaError::InvalidParameter`] for zero runs.
pub fn profile(
    plan: &LoadedPlan,
    stream: &Stream,
    runs: usize,
    context: u64,
) -> Result<Vec<StepTime>, CudaError> {
    if runs == 0 {
        let (expected, actual) = ("at least 1".into(), "0".into());
        return Err(CudaError::InvalidParameter { what: "the number of profiled runs", expected, actual });
    }
    let fail = || CudaError::driver("profiling");
    let mut plug = DeviceBuffer::<u8>::uninit(stream.context(), PLUG_BYTES).map_err(fail())?;
    let n = plan.plan().steps().len();
    let mut micros = vec![Vec::with_capacity(runs); n];
    let marks = (0..=GROUP)
        .map(|_| Event::new(stream.context(), EventKind::Timing))
        .collect::<Result<Vec<_>, _>>()
        .map_err(fail())?;
    // The first run warms up: the driver loads a kernel's code when it first runs.
    for run in 0..=runs {
        for first in (0..n).step_by(GROUP) {
            let group = first..n.min(first + GROUP);
            for _ in 0..PLUG_FILLS {
                stream.memset(&mut plug.as_slice_mut(), 0).map_err(fail())?;
            }
            marks[0].record(stream).map_err(fail())?;
            for step in group.clone() {
                plan.run_step(stream, step)?;
                marks[step - first + 1].record(stream).map_err(fail())?;
            }
            stream.synchronize().map_err(fail())?;
            for step in group {
                let elapsed = marks[step - first + 1].elapsed_ms(&marks[step - first]).map_err(fail())?;
                if run > 0 {
                    micros[step].push(f64::from(elapsed) * 1e3);
                }
            }
        }
    }
    let time = |(step, mut times): (usize, Vec<f64>)| {
        times.sort_by(f64::total_cmp);
        let planned = &plan.plan().steps()[step];
        StepTime {
            step,
            name: planned.name().to_owned(),
            micros: times[times.len() / 2],
            cost: planned.cost(context),
        }
    };
    Ok(micros.into_iter().enumerate().map(time).collect())
}
