//! The processor time that the program takes.

use std::time::Duration;

/// Processor time of all threads of this process so far, those of the GPU driver among them; `None` where the system
/// does not say.
pub(crate) fn of_process() -> Option<Duration> {
    #[cfg(unix)]
    {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
        Some(Duration::new(u64::try_from(time.tv_sec).ok()?, u32::try_from(time.tv_nsec).ok()?))
    }
    #[cfg(not(unix))]
    None
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn work_takes_time_and_only_grows() {
        let begun = of_process().unwrap();
        let mut sum = 0u64;
        while of_process().unwrap() - begun < Duration::from_millis(2) {
            sum = std::hint::black_box(sum.wrapping_mul(31).wrapping_add(7));
        }
        assert!(of_process().unwrap() >= begun + Duration::from_millis(2));
    }
}
