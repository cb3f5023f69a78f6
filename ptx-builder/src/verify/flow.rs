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
    pub(super) fn immediate_postdominators(&self, function: &Function) -> Vec<Option<usize>> {
        immediate_dominators(&self.predecessors, &self.successors, &self.ends(function))
    }

    /// The blocks that every path from the entry to a block passes.
    pub(super) fn dominators(&self) -> Dominators {
        let entry: &[usize] = if self.len() > 0 { &[0] } else { &[] };
        let immediate = immediate_dominators(&self.successors, &self.predecessors, entry);
        let mut children = vec![Vec::new(); self.len()];
        for (b, dominator) in immediate.into_iter().enumerate() {
            if let Some(dominator) = dominator {
                children[dominator].push(b);
            }
        }
        // Before and after everything that it dominates.
        let mut spans = vec![(0, 0); self.len()];
        for (time, b) in (1..).zip(postorder(&children, entry.iter().copied())) {
            let first = children[b].iter().map(|child| spans[*child].0).min();
            spans[b] = (first.unwrap_or(time), time);
        }
        Dominators { spans }
    }
}

/// Answers whether one block dominates another.
pub(super) struct Dominators {
    /// The places of the first block that each dominates, and of itself, which is the last; from 1.
    spans: Vec<(u32, u32)>,
}

impl Dominators {
    /// Does every path from the entry to `b` pass `a`, another block that can be reached?
    pub(super) fn dominates(&self, a: usize, b: usize) -> bool {
        let ((first, last), (_, place)) = (self.spans[a], self.spans[b]);
        a != b && last != 0 && first <= place && place < last
    }
}

/// Of each block that edges lead to from the roots: the last block that all ways to it pass, or `None` if there is
/// none. `before` are the same edges backwards.
///
/// The algorithm is that of Georgiadis, "Linear-Time Algorithms for Dominators and Related Problems": the semidominators
/// of Lengauer and Tarjan, then the nearest common ancestors in the tree so far.
fn immediate_dominators(edges: &[Vec<usize>], before: &[Vec<usize>], roots: &[usize]) -> Vec<Option<usize>> {
    const NONE: usize = usize::MAX;
    // A tree of a depth-first search. Its nodes are numbered as they are found; 0 leads to all roots.
    let mut numbers = vec![NONE; edges.len()];
    let (mut blocks, mut parents) = (vec![NONE], vec![0]);
    let mut stack: Vec<(usize, usize)> = roots.iter().rev().map(|root| (*root, 0)).collect();
    while let Some((b, parent)) = stack.pop() {
        if numbers[b] == NONE {
            numbers[b] = blocks.len();
            stack.extend(edges[b].iter().rev().map(|next| (*next, blocks.len())));
            blocks.push(b);
            parents.push(parent);
        }
    }
    let mut forest = Forest::new(blocks.len());
    let mut is_root = vec![false; edges.len()];
    for root in roots {
        is_root[*root] = true;
    }
    for w in (1..blocks.len()).rev() {
        let from = before[blocks[w]].iter().map(|b| numbers[*b]).filter(|v| *v != NONE);
        let semi = from.map(|v| forest.least(v)).fold(parents[w], usize::min);
        forest.semi[w] = if is_root[blocks[w]] { 0 } else { semi };
        forest.ancestors[w] = Some(parents[w]);
    }
    let mut dominators = vec![0; blocks.len()];
    let mut found = vec![None; edges.len()];
    for w in 1..blocks.len() {
        let mut dominator = parents[w];
        while dominator > forest.semi[w] {
            dominator = dominators[dominator];
        }
        dominators[w] = dominator;
        found[blocks[w]] = (dominator != 0).then(|| blocks[dominator]);
    }
    found
}

/// Parts of a tree, whose paths become shorter as they are used.
struct Forest {
    ancestors: Vec<Option<usize>>,
    /// The node on the path to the ancestor whose semidominator is least.
    labels: Vec<usize>,
    semi: Vec<usize>,
}

impl Forest {
    fn new(nodes: usize) -> Self {
        Self { ancestors: vec![None; nodes], labels: (0..nodes).collect(), semi: (0..nodes).collect() }
    }

    /// The least semidominator of a node and those above it, without the top of its part of the tree.
    fn least(&mut self, node: usize) -> usize {
        let mut path = Vec::new();
        let mut next = node;
        while let Some(ancestor) = self.ancestors[next].filter(|a| self.ancestors[*a].is_some()) {
            path.push(next);
            next = ancestor;
        }
        while let Some(x) = path.pop() {
            if let Some(ancestor) = self.ancestors[x] {
                if self.semi[self.labels[ancestor]] < self.semi[self.labels[x]] {
                    self.labels[x] = self.labels[ancestor];
                }
                self.ancestors[x] = self.ancestors[ancestor];
            }
        }
        self.semi[self.labels[node]]
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
