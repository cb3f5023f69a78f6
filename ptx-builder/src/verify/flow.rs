//! The control-flow graph of a function and what the rules ask of it.

use crate::ids::BlockId;
use crate::module::Function;

/// Edges between blocks, by index; reachability forwards and backwards.
pub(super) struct Flow {
    pub(super) successors: Vec<Vec<usize>>,
    pub(super) predecessors: Vec<Vec<usize>>,
    /// Can control get there from the entry?
    pub(super) reachable: Vec<bool>,
    /// Can control get from there to an exit?
    pub(super) exits: Vec<bool>,
}

impl Flow {
    pub(super) fn new(function: &Function) -> Self {
        let count = function.blocks.len();
        let mut successors = vec![Vec::new(); count];
        let mut predecessors = vec![Vec::new(); count];
        for (b, successors) in successors.iter_mut().enumerate() {
            let id = BlockId(u32::try_from(b).unwrap_or(u32::MAX));
            *successors = function.successors(id).map(BlockId::index).collect();
            for successor in successors.iter() {
                predecessors[*successor].push(b);
            }
        }
        let ends = |block: &crate::module::Block| {
            block.insts.last().is_some_and(|inst| inst.is_terminator() && inst.target().is_none())
        };
        let exit_blocks = function.blocks.iter().enumerate().filter(|(_, block)| ends(block)).map(|(b, _)| b);
        let exits = reach(&predecessors, exit_blocks);
        let reachable = reach(&successors, [0].into_iter().filter(|_| count > 0));
        Self { successors, predecessors, reachable, exits }
    }

    pub(super) fn len(&self) -> usize {
        self.successors.len()
    }

    /// The blocks from which control can get to one of these, themselves included.
    pub(super) fn reaching(&self, blocks: impl Iterator<Item = usize>) -> Vec<bool> {
        reach(&self.predecessors, blocks)
    }

    /// The blocks that control does not go on from, whatever guards say.
    pub(super) fn ends(&self, function: &Function) -> Vec<usize> {
        let leaves = |b: &usize| function.blocks[*b].insts.last().is_some_and(|inst| !inst.falls_through());
        (0..self.len()).filter(|b| self.successors[*b].is_empty()).filter(leaves).collect()
    }

    /// A number for each block, the same for blocks that lead to each other: what leads to a block, of what no later
    /// search of all has been at (Kosaraju's algorithm).
    pub(super) fn cycles(&self) -> Vec<u32> {
        let order = postorder(&self.successors, 0..self.len());
        let mut numbers = vec![0; self.len()];
        let mut number = 0;
        for b in order.into_iter().rev() {
            number += 1;
            let mut work = vec![b];
            while let Some(x) = work.pop() {
                if numbers[x] == 0 {
                    numbers[x] = number;
                    work.extend(&self.predecessors[x]);
                }
            }
        }
        numbers
    }

    /// For each block the first block that every path from it to the end passes, or `None` where paths only
    /// meet at the end itself. Guarded exits are no ends: what matters is where the other threads go on.
    ///
    /// The algorithm is that of Cooper, Harvey and Kennedy, "A Simple, Fast Dominance Algorithm", on the
    /// reversed graph.
    pub(super) fn immediate_postdominators(&self, function: &Function) -> Vec<Option<usize>> {
        let end = self.len();
        let ends = self.ends(function);
        let mut is_end = vec![false; end];
        for b in &ends {
            is_end[*b] = true;
        }
        // Blocks that reach an end, each before the blocks that only come before it.
        let mut order = postorder(&self.predecessors, ends.iter().copied());
        order.reverse();
        let mut number = vec![0; end + 1];
        for (i, b) in order.iter().enumerate() {
            number[*b] = i + 1;
        }
        let mut dominator: Vec<Option<usize>> = vec![None; end + 1];
        dominator[end] = Some(end);
        let mut changed = true;
        while changed {
            changed = false;
            for b in &order {
                let mut found = is_end[*b].then_some(end);
                for successor in &self.successors[*b] {
                    if dominator[*successor].is_some() {
                        found = Some(found.map_or(*successor, |f| meet(&dominator, &number, f, *successor)));
                    }
                }
                if dominator[*b] != found {
                    dominator[*b] = found;
                    changed = true;
                }
            }
        }
        dominator.truncate(end);
        dominator.into_iter().map(|d| d.filter(|d| *d != end)).collect()
    }
}

/// Blocks that edges lead to from these, each after the blocks that are only reached through it.
fn postorder(edges: &[Vec<usize>], from: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut order = Vec::with_capacity(edges.len());
    let mut seen = vec![false; edges.len()];
    let mut stack: Vec<(usize, usize)> = Vec::new();
    for start in from {
        if std::mem::replace(&mut seen[start], true) {
            continue;
        }
        stack.push((start, 0));
        while let Some((b, next)) = stack.last_mut() {
            if let Some(further) = edges[*b].get(*next).copied() {
                *next += 1;
                if !std::mem::replace(&mut seen[further], true) {
                    stack.push((further, 0));
                }
            } else {
                order.push(*b);
                stack.pop();
            }
        }
    }
    order
}

/// The nearest common dominator; numbers grow away from the root.
fn meet(dominator: &[Option<usize>], number: &[usize], mut a: usize, mut b: usize) -> usize {
    while a != b {
        let later = if number[a] > number[b] { &mut a } else { &mut b };
        match dominator[*later] {
            Some(next) => *later = next,
            None => return dominator.len() - 1,
        }
    }
    a
}

fn reach(edges: &[Vec<usize>], from: impl Iterator<Item = usize>) -> Vec<bool> {
    let mut seen = vec![false; edges.len()];
    let mut work: Vec<usize> = from.collect();
    while let Some(b) = work.pop() {
        if !std::mem::replace(&mut seen[b], true) {
            work.extend(&edges[b]);
        }
    }
    seen
}
