//! What a branch decides over: the blocks between it and the point where its paths meet again.

use super::flow::Flow;
use crate::ids::InstId;
use crate::inst::Inst;
use crate::module::Function;

/// Answers about branches, with scratch space for searches. Of code as compilers write it, each answer takes time in
/// proportion to what is new in it.
pub(super) struct Regions<'a> {
    flow: &'a Flow,
    /// Where the paths from each block meet; `None` if only at the end.
    meeting_points: Vec<Option<usize>>,
    /// Can control get from there to a barrier?
    to_barrier: Vec<bool>,
    /// Can control get from there to the end of a path?
    to_end: Vec<bool>,
    /// Blocks with the same number lead to each other.
    cycles: Vec<u32>,
    /// The search that saw each block last.
    seen: Vec<u32>,
    search: u32,
}

impl<'a> Regions<'a> {
    pub(super) fn new(function: &Function, flow: &'a Flow, barriers: &[(InstId, &Inst)]) -> Self {
        let blocks = barriers.iter().map(|(id, _)| id.block.index());
        Self {
            flow,
            meeting_points: flow.immediate_postdominators(function),
            to_barrier: flow.reaching(blocks),
            to_end: flow.reaching(flow.ends(function).into_iter()),
            cycles: flow.cycles(),
            seen: vec![0; flow.len()],
            search: 0,
        }
    }

    /// Begins a search; marks of earlier ones are void.
    fn begin(&mut self) -> u32 {
        self.search += 1;
        self.search
    }

    /// Does one side of a branch go to an exit of its own, without a barrier? Threads that have exited are not
    /// waited for.
    pub(super) fn leaves_early(&mut self, branch: usize) -> bool {
        let [one, other] = self.flow.successors[branch][..] else { return false };
        if self.to_barrier[one] && self.to_barrier[other] {
            return false;
        }
        // Both sides come to the place where they meet.
        if self.meeting_points[branch].is_some() && self.to_end[one] && self.to_end[other] {
            return false;
        }
        self.apart(branch, one, other)
    }

    /// Is there no block that both sides of a branch come to?
    fn apart(&mut self, branch: usize, one: usize, other: usize) -> bool {
        // A side that leads back to the branch comes to the other side, too.
        if [one, other].iter().any(|side| self.cycles[*side] == self.cycles[branch]) {
            return false;
        }
        // It takes knowing one side as a whole, and one of them is mostly small.
        let mut limit = 8;
        loop {
            for (side, across) in [(one, other), (other, one)] {
                if let Some(blocks) = self.reached(side, limit) {
                    return !self.comes_into(&blocks, branch, across);
                }
            }
            limit *= 8;
        }
    }

    /// The blocks that a block leads to, itself included, unless there are more than so many.
    fn reached(&mut self, block: usize, limit: usize) -> Option<Vec<usize>> {
        let search = self.begin();
        self.seen[block] = search;
        let mut blocks = vec![block];
        let mut next = 0;
        while let Some(x) = blocks.get(next).copied() {
            next += 1;
            for successor in &self.flow.successors[x] {
                if std::mem::replace(&mut self.seen[*successor], search) != search {
                    blocks.push(*successor);
                }
            }
            if blocks.len() > limit {
                return None;
            }
        }
        Some(blocks)
    }

    /// Does control come from the other side of a branch into blocks that it does not leave, which the last search found?
    fn comes_into(&mut self, blocks: &[usize], branch: usize, across: usize) -> bool {
        let side = self.search;
        if self.seen[across] == side {
            return true;
        }
        // Mostly only the branch leads there.
        let seen = &self.seen;
        let outside = |p: &usize| *p != branch && seen[*p] != side;
        if !blocks.iter().any(|x| self.flow.predecessors[*x].iter().any(outside)) {
            return false;
        }
        let search = self.begin();
        let mut work = vec![across];
        while let Some(x) = work.pop() {
            if self.seen[x] == side {
                return true;
            }
            if std::mem::replace(&mut self.seen[x], search) != search {
                work.extend(&self.flow.successors[x]);
            }
        }
        false
    }

    /// Notes the branch for all blocks between it and its meeting point that have none yet, and gives those.
    pub(super) fn mark(&mut self, branch: usize, control: &mut [Option<usize>]) -> Vec<usize> {
        let mut marked = Vec::new();
        if self.lies_within(branch, control) {
            return marked;
        }
        let search = self.begin();
        let mut work: Vec<usize> = self.flow.successors[branch].clone();
        while let Some(x) = work.pop() {
            if self.meeting_points[branch] == Some(x)
                || std::mem::replace(&mut self.seen[x], search) == search
            {
                continue;
            }
            if control[x].is_none() {
                control[x] = Some(branch);
                marked.push(x);
            }
            work.extend(&self.flow.successors[x]);
        }
        marked
    }

    /// Is the branch between an outer branch that has been marked and its meeting point, and so is what it decides
    /// over? That is so if both meet at the same place, or the inner one within the region of the outer: a path from
    /// there on past the outer meeting point would lead to an end, and so past the inner one.
    fn lies_within(&self, branch: usize, control: &[Option<usize>]) -> bool {
        let Some(outer) = control[branch] else { return false };
        let (inner, outer_meets) = (self.meeting_points[branch], self.meeting_points[outer]);
        inner == outer_meets || outer_meets.is_none() || inner.is_some_and(|m| control[m] == Some(outer))
    }
}

#[cfg(test)]
mod tests;
