//! Definition before use, on every path.
//!
//! Most registers live within one block, so each block is scanned first; only reads that the block does not
//! settle start a search backwards for a path from the entry without an assignment.

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
    let mut rest = open.as_slice();
    while let Some((reg, _)) = rest.first() {
        let (reads, others) = rest.split_at(rest.partition_point(|(r, _)| r <= reg));
        rest = others;
        let undefined = reached_without(flow, assigned.get(reg).map_or(&[], Vec::as_slice));
        // One message for each register: the first read in layout order.
        let first = reads.iter().map(|(_, id)| *id).filter(|id| undefined[id.block.index()]).min();
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

/// The blocks whose start can be reached without passing one of `assigning`.
fn reached_without(flow: &Flow, assigning: &[usize]) -> Vec<bool> {
    let mut assigns = vec![false; flow.len()];
    for b in assigning {
        assigns[*b] = true;
    }
    let mut seen = vec![false; flow.len()];
    let mut work = vec![0];
    while let Some(b) = work.pop() {
        if !std::mem::replace(&mut seen[b], true) && !assigns[b] {
            work.extend(&flow.successors[b]);
        }
    }
    seen
}
