//! What a launch did wrong.

use crate::ids::InstId;
use crate::inst::Space;
use std::collections::HashMap;
use std::fmt;

/// Kinds of findings.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[non_exhaustive]
pub enum FindingKind {
    /// An access outside of every allocation, or of the shared or local memory that the kernel has.
    OutOfBounds,
    /// An address that is not a multiple of the access's size.
    Misaligned,
    /// An access to memory that was freed.
    UseAfterFree,
    /// A read of bytes that nothing wrote.
    Uninitialised,
    /// Conflicting accesses to shared memory that nothing orders.
    SharedRace,
    /// Conflicting accesses of different warps to global memory that nothing orders. Grids of more than 2^23 warps are
    /// too large to look for them.
    GlobalRace,
    /// A barrier that not all threads reach together.
    BarrierDivergence,
    /// Threads wait for each other, or for what never comes.
    Deadlock,
    /// An access to what an earlier launch uses, before `griddepcontrol.wait`.
    GridDependency,
    /// `trap`, or a failed assertion.
    Trap,
    /// A block executed more instructions than the launch allows.
    EndlessLoop,
    /// An instruction used against its rules: a shuffle from a lane that is not there, a write to constant memory.
    InvalidUse,
}

impl FindingKind {
    /// A few words for the reader.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::OutOfBounds => "access out of bounds",
            Self::Misaligned => "misaligned access",
            Self::UseAfterFree => "use after free",
            Self::Uninitialised => "read of memory that nothing wrote",
            Self::SharedRace => "race in shared memory",
            Self::GlobalRace => "race in global memory",
            Self::BarrierDivergence => "barrier under divergence",
            Self::Deadlock => "deadlock",
            Self::GridDependency => "access before griddepcontrol.wait",
            Self::Trap => "trap",
            Self::EndlessLoop => "endless loop",
            Self::InvalidUse => "invalid use of an instruction",
        }
    }
}

impl fmt::Display for FindingKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.describe())
    }
}

/// Something that a launch did wrong: the first instance, and how often the instruction did it.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Finding {
    /// What.
    pub kind: FindingKind,
    /// The kernel's name.
    pub kernel: String,
    /// The block, in x, y and z.
    pub block: [u32; 3],
    /// The thread within its block, in x, y and z.
    pub thread: [u32; 3],
    /// Where the instruction is in its function.
    pub inst: InstId,
    /// The instruction as it is printed.
    pub line: String,
    /// The address, if it is about one.
    pub address: Option<u64>,
    /// The state space of the address.
    pub space: Option<Space>,
    /// What exactly is wrong, in a sentence without a full stop.
    pub detail: String,
    /// How many lanes did it, over the whole launch.
    pub count: u64,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [bx, by, bz] = self.block;
        let [tx, ty, tz] = self.thread;
        write!(
            f,
            "{}: kernel `{}`, block ({bx}, {by}, {bz}), thread ({tx}, {ty}, {tz}), at `{}`",
            self.kind, self.kernel, self.line
        )?;
        if let Some(address) = self.address {
            write!(f, ", address {address:#x}")?;
            if let Some(space) = self.space.filter(|space| *space != Space::Generic) {
                write!(f, " in .{} memory", space.name())?;
            }
        }
        if !self.detail.is_empty() {
            write!(f, ": {}", self.detail)?;
        }
        if self.count > 1 {
            write!(f, " ({} times)", self.count)?;
        }
        Ok(())
    }
}

/// The other side of a conflict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Other {
    /// Linear index of the cluster in the grid.
    pub(super) cluster: u32,
    /// Warp in the cluster.
    pub(super) warp: u32,
    /// Lane, where it is known.
    pub(super) lane: Option<u32>,
    /// The instruction, where it is known.
    pub(super) pc: Option<u32>,
    /// Did it write?
    pub(super) wrote: bool,
}

/// A finding before program counters have become lines and warps coordinates.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct RawFinding {
    pub(super) kind: FindingKind,
    /// Index into the code of the program.
    pub(super) pc: u32,
    /// Linear index of the cluster in the grid.
    pub(super) cluster: u32,
    /// Warp in the cluster: rank of the block times warps of a block, plus the warp in the block.
    pub(super) warp: u32,
    pub(super) lane: u32,
    pub(super) address: Option<u64>,
    pub(super) space: Option<Space>,
    pub(super) detail: String,
    pub(super) other: Option<Other>,
    pub(super) count: u64,
}

/// What stops a launch.
pub(super) type Fault = Box<RawFinding>;

/// What a program and a launch know about numbers in findings.
pub(super) trait Names {
    /// The kernel's name.
    fn kernel(&self) -> &str;
    /// Block and thread coordinates.
    fn place(&self, cluster: u32, warp: u32, lane: u32) -> ([u32; 3], [u32; 3]);
    /// The instruction at a program counter, and its printed line.
    fn line(&self, pc: u32) -> (InstId, String);
}

impl RawFinding {
    /// The finding for the reader.
    pub(super) fn resolve(&self, names: &dyn Names) -> Finding {
        let (block, thread) = names.place(self.cluster, self.warp, self.lane);
        let (inst, line) = names.line(self.pc);
        let mut detail = self.detail.clone();
        if let Some(other) = self.other {
            let (block, thread) = names.place(other.cluster, other.warp, other.lane.unwrap_or(0));
            let [bx, by, bz] = block;
            let [tx, ty, tz] = thread;
            let what = if other.wrote { "the write" } else { "the read" };
            if !detail.is_empty() {
                detail.push_str("; ");
            }
            detail.push_str(&format!("conflicts with {what} by block ({bx}, {by}, {bz}), "));
            match other.lane {
                Some(_) => detail.push_str(&format!("thread ({tx}, {ty}, {tz})")),
                None => detail.push_str(&format!("the warp of thread ({tx}, {ty}, {tz})")),
            }
            if let Some(pc) = other.pc {
                detail.push_str(&format!(", at `{}`", names.line(pc).1));
            }
        }
        Finding {
            kind: self.kind,
            kernel: names.kernel().to_owned(),
            block,
            thread,
            inst,
            line,
            address: self.address,
            space: self.space,
            detail,
            count: self.count,
        }
    }
}

/// Findings of a launch or of a part of it, one for each instruction and kind.
#[derive(Clone, Debug, Default)]
pub(super) struct Findings {
    by_site: HashMap<(u32, FindingKind), RawFinding>,
}

impl Findings {
    /// Counts one more instance of a finding that is known, without building it again.
    pub(super) fn again(&mut self, pc: u32, kind: FindingKind, count: u64) -> bool {
        match self.by_site.get_mut(&(pc, kind)) {
            Some(known) => {
                known.count += count;
                true
            }
            None => false,
        }
    }

    pub(super) fn add(&mut self, finding: RawFinding) {
        let count = finding.count;
        if !self.again(finding.pc, finding.kind, count) {
            self.by_site.insert((finding.pc, finding.kind), finding);
        }
    }

    /// Joins what another part of the launch found. The first instance is that of the first cluster, so that the
    /// order in which parts end does not show.
    pub(super) fn merge(&mut self, other: Self) {
        for (site, finding) in other.by_site {
            match self.by_site.get_mut(&site) {
                None => {
                    self.by_site.insert(site, finding);
                }
                Some(known) => {
                    let count = known.count + finding.count;
                    let place = |f: &RawFinding| (f.cluster, f.warp, f.lane);
                    if place(&finding) < place(known) {
                        *known = finding;
                    }
                    known.count = count;
                }
            }
        }
    }

    /// All of them, by program counter and kind.
    pub(super) fn into_sorted(self) -> Vec<RawFinding> {
        let mut all: Vec<_> = self.by_site.into_values().collect();
        all.sort_by_key(|finding| (finding.pc, finding.kind));
        all
    }
}
