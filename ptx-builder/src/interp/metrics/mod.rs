//! What a launch did: instructions, memory traffic, divergence.

mod banks;
mod instructions;
mod traffic;

use super::finding::Names;
use crate::inst::Space;
use std::collections::BTreeMap;
use std::fmt;

pub(super) use banks::wavefronts;
pub use instructions::{Executed, InstClass, InstructionCounts};
pub use traffic::{AllocationTraffic, Direction, InstructionTraffic, SECTOR_BYTES, Traffic};
pub(super) use traffic::{MemoryMetrics, Touched, TouchedBytes};

/// What a launch did. Displayed as a table.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Metrics {
    /// Instructions by class.
    pub instructions: InstructionCounts,
    /// Memory traffic by instruction, in the order of the code.
    pub traffic: Vec<InstructionTraffic>,
    /// Global memory traffic by allocation, in the order of addresses.
    pub allocations: Vec<AllocationTraffic>,
}

impl Metrics {
    pub(super) fn new(instructions: InstructionCounts, memory: MemoryMetrics, names: &dyn Names) -> Self {
        let mut sites: Vec<_> = memory.sites.into_iter().collect();
        sites.sort_by_key(|((pc, space), _)| (*pc, *space as u8));
        let traffic = sites.into_iter().map(|((pc, space), (direction, traffic))| {
            let (inst, line) = names.line(pc);
            InstructionTraffic { inst, line, space, direction, traffic }
        });
        Self {
            instructions,
            traffic: traffic.collect(),
            allocations: memory.allocations.into_values().collect(),
        }
    }

    /// The traffic of a state space in one direction.
    pub fn total(&self, space: Space, direction: Direction) -> Traffic {
        let mut total = Traffic::default();
        for site in self.traffic.iter().filter(|site| site.space == space && site.direction == direction) {
            total += site.traffic;
        }
        total
    }

    /// The traffic of the allocation with that base address.
    pub fn allocation(&self, base: u64) -> Option<&AllocationTraffic> {
        self.allocations.iter().find(|allocation| allocation.base == base)
    }
}

impl fmt::Display for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.instructions.total();
        writeln!(f, "{:<18} {:>14} {:>14} {:>7}", "instructions", "warps", "lanes", "active")?;
        let row = |f: &mut fmt::Formatter<'_>, name: &str, executed: Executed| {
            let active = executed.utilisation() * 100.0;
            writeln!(f, "{name:<18} {:>14} {:>14} {active:>6.1}%", executed.warp, executed.lane)
        };
        for class in InstClass::ALL {
            let executed = self.instructions.of(class);
            if executed.warp > 0 {
                row(f, class.name(), executed)?;
            }
        }
        row(f, "all", all)?;
        writeln!(f, "divergent branches {:>14}", self.instructions.divergent_branches)?;
        if !self.traffic.is_empty() {
            writeln!(
                f,
                "\n{:<8} {:<7} {:>12} {:>14} {:>12} {:>9} {:>12} {:>10}  instruction",
                "memory", "", "requests", "bytes", "sectors", "per req.", "wavefronts", "conflicts"
            )?;
        }
        let mut totals = BTreeMap::new();
        for site in &self.traffic {
            *totals.entry((site.space.name(), site.direction)).or_insert_with(Traffic::default) +=
                site.traffic;
            traffic_row(f, (site.space.name(), site.direction), &site.traffic, &site.line)?;
        }
        for (key, total) in &totals {
            traffic_row(f, *key, total, "(all)")?;
        }
        if !self.allocations.is_empty() {
            writeln!(
                f,
                "\n{:<16} {:>14} {:>14} {:>14} {:>12} {:>14} {:>14}",
                "allocation", "bytes", "read", "distinct", "sectors", "written", "distinct"
            )?;
        }
        for a in &self.allocations {
            writeln!(
                f,
                "{:<#16x} {:>14} {:>14} {:>14} {:>12} {:>14} {:>14}",
                a.base,
                a.bytes,
                a.bytes_read,
                a.distinct_read,
                a.sectors_read,
                a.bytes_written,
                a.distinct_written
            )?;
        }
        Ok(())
    }
}

fn traffic_row(
    f: &mut fmt::Formatter<'_>,
    (space, direction): (&str, Direction),
    t: &Traffic,
    line: &str,
) -> fmt::Result {
    writeln!(
        f,
        "{space:<8} {:<7} {:>12} {:>14} {:>12} {:>9.2} {:>12} {:>10}  {line}",
        direction.name(),
        t.requests,
        t.bytes,
        t.sectors,
        t.sectors_per_request(),
        t.wavefronts,
        t.bank_conflicts()
    )
}
