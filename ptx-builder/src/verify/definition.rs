//! Definition before use, on every path.
//!
//! Most registers live within one block, so each block is scanned first. Most others are assigned in a block that
//! every path to their readers passes; only what that does not settle starts a search for a path from the entry without
//! an assignment.

use super::Place;
use super::flow::Flow;
use super::report::{Reporter, Rule};
use crate::ids::{BlockId, InstId, RegId};
use crate::inst::Guard;
use crate::module::Function;
use std::collections::{HashMap, HashSet};

pub(super) fn check(function: &Function, flow: &Flow, reporter: &mut Reporter<'_>) {
    let mut open: Vec<(RegId, InstId)> = Vec::new();
    let mut assigned: HashMap<RegId, Vec<usize>> = HashMap::new();
    for b in (0..flow.len()).filter(|b| flow.reachable[*b]) {
        scan(function, b, &mut open, &mut assigned);
    }
    open.sort_by_key(|(reg, _)| *reg);
    let dominators = flow.dominators();
    let mut search = Search { flow, assigns: vec![0; flow.len()], seen: vec![0; flow.len()], number: 0 };
    let mut rest = open.as_slice();
    while let Some((reg, _)) = rest.first() {
        let (reads, others) = rest.split_at(rest.partition_point(|(r, _)| r <= reg));
        rest = others;
        let assigning = assigned.get(reg).map_or(&[][..], Vec::as_slice);
        let settled = |(_, id): &(RegId, InstId)| {
            assigning.iter().take(FEW).any(|a| dominators.dominates(*a, id.block.index()))
        };
        if reads.iter().all(settled) {
            continue;
        }
        // One message for each register: the first read in layout order.
        let mut reads: Vec<InstId> = reads.iter().map(|(_, id)| *id).collect();
        reads.sort_unstable();
        search.begin(assigning);
        let first = reads.into_iter().find(|id| search.comes_undefined(id.block.index()));
        if let Some(id) = first {
            let message = format!("{} is read, but not assigned on every path before", name(function, *reg));
            reporter.advice(Rule::Definition, Place::Inst(function, id), message);
        }
    }
}

fn name(function: &Function, reg: RegId) -> String {
    match function.names.get(&reg) {
        Some(name) => format!("{reg}_{name}"),
        None => reg.to_string(),
    }
}

/// Reads that are not settled within the block, and registers that are assigned at its end.
fn scan(
    function: &Function,
    b: usize,
    open: &mut Vec<(RegId, InstId)>,
    assigned: &mut HashMap<RegId, Vec<usize>>,
) {
    let block = BlockId(u32::try_from(b).unwrap_or(u32::MAX));
    let mut known: HashSet<RegId> = HashSet::new();
    let mut under: HashSet<(RegId, Guard)> = HashSet::new();
    for (index, inst) in (0..).zip(&function.blocks[b].insts) {
        for reg in inst.uses() {
            let guarded = inst.guard.filter(|guard| guard.pred != reg);
            if !known.contains(&reg) && !guarded.is_some_and(|guard| under.contains(&(reg, guard))) {
                open.push((reg, InstId { block, index }));
            }
        }
        for reg in inst.defs() {
            // An assignment of a predicate ends what was known under it.
            if reg.class() == crate::ids::RegClass::Pred {
                under.retain(|(_, guard)| guard.pred != reg);
            }
            match inst.guard {
                None => {
                    known.insert(reg);
                }
                Some(guard) => {
                    let opposite = Guard { negated: !guard.negated, ..guard };
                    if under.contains(&(reg, opposite)) {
                        known.insert(reg);
                    } else if guard.pred != reg {
                        under.insert((reg, guard));
                    }
                }
            }
        }
    }
    for reg in known {
        assigned.entry(reg).or_default().push(b);
    }
}

/// Blocks with assignments that are looked at one by one.
const FEW: usize = 4;

/// Searches backwards from reads of one register after the other.
struct Search<'a> {
    flow: &'a Flow,
    /// The last register that each block assigned, and the last whose search came to its start.
    assigns: Vec<u32>,
    seen: Vec<u32>,
    number: u32,
}

impl Search<'_> {
    /// Begins with a register, given the blocks that assign it.
    fn begin(&mut self, assigning: &[usize]) {
        self.number += 1;
        for b in assigning {
            self.assigns[*b] = self.number;
        }
    }

    /// Can the start of a block be reached from the entry without an assignment? No more is asked after a yes.
    fn comes_undefined(&mut self, block: usize) -> bool {
        let mut work = vec![block];
        while let Some(b) = work.pop() {
            if std::mem::replace(&mut self.seen[b], self.number) == self.number {
                continue;
            }
            if b == 0 {
                return true;
            }
            let before = self.flow.predecessors[b].iter().copied();
            work.extend(before.filter(|p| self.flow.reachable[*p] && self.assigns[*p] != self.number));
        }
        false
    }
}
