//! The table.

use std::fmt;

use super::{Group, Roofline};

impl fmt::Display for Roofline {
    /// A line for each kernel, for each family that has several, and for the whole.
    ///
    /// `alone` is a launch's time after another of its kernel has ended, `added` where it may start before that, both
    /// the mean of the kernel's launches; `step` is the sum of what they add. Rates and shares are of that. What a kernel
    /// may have found in the L2 is marked.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roof = self.roof.bytes_per_second / 1e12;
        let source = match self.roof.measured {
            Some(bytes) => format!("measured by reading {:.0} MiB", bytes as f64 / f64::from(1 << 20)),
            None => "as given".to_owned(),
        };
        writeln!(f, "{} on {}, at {} positions", self.model.escape_debug(), self.gpu, self.context)?;
        writeln!(f, "read roof {roof:.3} TB/s, {source}; times in us, of the device")?;
        writeln!(
            f,
            "{:>8} {:>8} {:>8} {:>9} {:>7} {:>9} {:>7} {:>8}  kernel",
            "launches", "alone", "added", "step", "share", "MB each", "TB/s", "of roof"
        )?;
        let total = self.total();
        let kernels = self.kernels();
        for kernel in &kernels {
            self.line(f, kernel, &total)?;
        }
        let families = self.families();
        if families.len() < kernels.len() {
            writeln!(f, "by family")?;
            for family in &families {
                self.line(f, family, &total)?;
            }
        }
        self.line(f, &total, &total)?;
        let step = self.profile.micros;
        let rate = if step > 0.0 { total.bytes() as f64 / (step * 1e-6) } else { 0.0 };
        let share = 100.0 * rate / self.roof.bytes_per_second;
        writeln!(
            f,
            "the step as a graph takes {step:.1} us: {:.2} TB/s, {share:.1} % of the roof",
            rate / 1e12
        )?;
        if kernels.iter().any(|kernel| !kernel.cold) {
            writeln!(
                f,
                "* fits the L2 when only this kernel runs, so that its memory may count for more than it is"
            )?;
        }
        Ok(())
    }
}

impl Roofline {
    fn line(&self, f: &mut fmt::Formatter<'_>, group: &Group, total: &Group) -> fmt::Result {
        let n = group.launches.max(1) as f64;
        let share = if total.added > 0.0 { 100.0 * group.added / total.added } else { 0.0 };
        writeln!(
            f,
            "{:>8} {:>8.2} {:>8.2} {:>9.1} {share:>5.1} % {:>9.3} {:>7.3} {:>6.1} %{} {}",
            group.launches,
            group.micros / n,
            group.added / n,
            group.added,
            group.bytes() as f64 / n / 1e6,
            group.bytes_per_second() / 1e12,
            100.0 * self.share_of_roof(group),
            if group.cold { ' ' } else { '*' },
            group.name,
        )
    }
}
