//! A plan as a table.

use std::fmt;

use kernels::{Access, LaunchGeometry};

use super::plan::{LaunchPlan, Step};

/// The listing when every row attends to one position.
impl fmt::Display for LaunchPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.listing(1).fmt(f)
    }
}

/// A plan with costs at some context.
pub(super) struct Listing<'a> {
    pub(super) plan: &'a LaunchPlan,
    pub(super) context: u64,
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan;
        let edges = plan.edges();
        for (index, step) in plan.steps().iter().enumerate() {
            write!(f, "{index:>4}  {}", step.name())?;
            match step {
                Step::Launch(launch) => {
                    let LaunchGeometry { grid, block, dynamic_shared } = launch.geometry;
                    write!(f, "  grid {} block {}", dimensions(grid), dimensions(block))?;
                    if dynamic_shared > 0 {
                        write!(f, " shared {dynamic_shared}")?;
                    }
                    for (param, span) in launch.params.iter().zip(&launch.touched) {
                        let sign = match param.access {
                            Access::Read => "=",
                            Access::Write => "->",
                            Access::ReadWrite => "<->",
                            Access::Scratch => "~",
                            Access::Counter => "#",
                        };
                        write!(f, "  {}{sign}{}", param.name, plan.memory().display(*span))?;
                    }
                }
                Step::Copy { target, source } => {
                    write!(f, "  {} -> {}", plan.memory().display(*source), plan.memory().display(*target))?;
                }
                Step::Fill { target, value } => write!(f, "  {value} -> {}", plan.memory().display(*target))?,
            }
            let cost = step.cost(self.context);
            write!(
                f,
                "  read {} B, written {} B, {} op",
                cost.bytes_read, cost.bytes_written, cost.operations
            )?;
            let after: Vec<_> =
                edges.iter().filter(|edge| edge.to == index).map(|edge| edge.from.to_string()).collect();
            if after.is_empty() { writeln!(f)? } else { writeln!(f, "  after {}", after.join(" "))? }
        }
        let cost = plan.cost(self.context);
        writeln!(
            f,
            "{} steps, {} launches of {} kernels, {} edges; read {} B, written {} B, {} op at context {}",
            plan.steps().len(),
            plan.n_launches(),
            plan.kernels().len(),
            edges.len(),
            cost.bytes_read,
            cost.bytes_written,
            cost.operations,
            self.context,
        )
    }
}

/// `8`, `8x2` or `8x2x3`.
fn dimensions([x, y, z]: [u32; 3]) -> String {
    match (y, z) {
        (1, 1) => x.to_string(),
        (_, 1) => format!("{x}x{y}"),
        _ => format!("{x}x{y}x{z}"),
    }
}
