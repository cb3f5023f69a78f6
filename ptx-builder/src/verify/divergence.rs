//! Barriers of the whole block under conditions that differ between its threads.
//!
//! A register is divergent if its value can differ between threads of the block: it comes from a thread
//! index, an atomic operation, local memory or an exchange, from another divergent register, or it is
//! assigned in several places of which one is under divergent control. A block is under divergent control
//! if it lies between a branch on a divergent predicate and the point where its paths meet again. What a load
//! gives from an address that all threads share is taken to be the same for all of them.

use super::Place;
use super::flow::Flow;
use super::report::{Reporter, Rule};
use crate::ids::{InstId, RegId};
use crate::inst::{Address, Base, Inst, Kind, Operand};
use crate::module::{Function, FunctionKind};
use crate::ops::Op;
use std::collections::{HashMap, HashSet};

pub(super) fn check(function: &Function, flow: &Flow, reporter: &mut Reporter<'_>) {
    let meets_all = |inst: &Inst| match inst.op() {
        Op::BarSync | Op::BarrierSync => inst.operands.len() == 1,
        op => reduces_over_block(op),
    };
    let barriers: Vec<(InstId, &Inst)> = function.insts().filter(|(_, inst)| meets_all(inst)).collect();
    if barriers.is_empty() {
        return;
    }
    let state = State::solve(function, flow, &barriers);
    for (id, inst) in barriers {
        let guard = inst.guard.filter(|guard| state.is_divergent(guard.pred));
        let why = match (state.control[id.block.index()], guard) {
            (_, Some(guard)) => format!("the guard {} differs between threads", guard.pred),
            (Some(branch), None) => {
                let last = function.blocks[branch].insts.last();
                let branch = last.map(|inst| function.display(inst).to_string()).unwrap_or_default();
                format!("whether threads get here depends on `{branch}`, which differs between them")
            }
            (None, None) => continue,
        };
        let message = format!("a barrier of all threads under divergent control: {why}");
        reporter.advice(Rule::DivergentBarrier, Place::Inst(function, id), message);
    }
}

fn reduces_over_block(op: Op) -> bool {
    matches!(
        op,
        Op::BarRedPopc
            | Op::BarRedAnd
            | Op::BarRedOr
            | Op::BarrierRedPopc
            | Op::BarrierRedAnd
            | Op::BarrierRedOr
    )
}

struct State {
    divergent: HashSet<RegId>,
    /// The divergent branch that decides over each block, if any.
    control: Vec<Option<usize>>,
}

impl State {
    fn is_divergent(&self, reg: RegId) -> bool {
        self.divergent.contains(&reg)
    }

    fn solve(function: &Function, flow: &Flow, barriers: &[(InstId, &Inst)]) -> Self {
        let mut assignments: HashMap<RegId, u32> = HashMap::new();
        for reg in function.insts().flat_map(|(_, inst)| inst.defs()) {
            *assignments.entry(reg).or_default() += 1;
        }
        let meeting_points = flow.immediate_postdominators(function);
        let mut has_barrier = vec![false; flow.len()];
        for (id, _) in barriers {
            has_barrier[id.block.index()] = true;
        }
        let mut state = Self { divergent: HashSet::new(), control: vec![None; flow.len()] };
        // Both sets only grow, so this ends.
        loop {
            let before = state.divergent.len();
            state.spread_values(function, &assignments);
            let spread = state.spread_control(function, flow, &meeting_points, &has_barrier);
            if state.divergent.len() == before && !spread {
                return state;
            }
        }
    }

    fn spread_values(&mut self, function: &Function, assignments: &HashMap<RegId, u32>) {
        loop {
            let before = self.divergent.len();
            // A reduction over the block gives every thread the same.
            let same = |inst: &Inst| reduces_over_block(inst.op());
            for (id, inst) in function.insts().filter(|(_, inst)| !same(inst)) {
                let varies = |operand: &Operand| is_divergent_source(function, operand);
                let source = inst.kind.effects().varies || inst.operands.iter().any(varies);
                let flows = source || inst.uses().any(|reg| self.is_divergent(reg));
                let controlled = self.control[id.block.index()].is_some();
                for reg in inst.defs() {
                    let several = assignments.get(&reg).is_some_and(|n| *n > 1);
                    if flows || (controlled && several) {
                        self.divergent.insert(reg);
                    }
                }
            }
            if self.divergent.len() == before {
                return;
            }
        }
    }

    /// Marks the blocks between each divergent branch and its meeting point. Says whether any was new.
    fn spread_control(
        &mut self,
        function: &Function,
        flow: &Flow,
        meeting_points: &[Option<usize>],
        has_barrier: &[bool],
    ) -> bool {
        let mut spread = false;
        for b in (0..flow.len()).filter(|b| flow.reachable[*b]) {
            let Some(last) = function.blocks[b].insts.last() else { continue };
            let by_index = matches!(last.kind, Kind::BrxIdx { .. }).then(|| last.uses().next()).flatten();
            let decides = last.guard.map(|guard| guard.pred).into_iter().chain(by_index);
            let divergent = decides.into_iter().any(|reg| self.is_divergent(reg));
            let branches = flow.successors[b].len() > 1;
            if !divergent || !branches || leaves_early(flow, b, has_barrier) {
                continue;
            }
            let mut work: Vec<usize> = flow.successors[b].clone();
            let mut seen = vec![false; flow.len()];
            while let Some(x) = work.pop() {
                if meeting_points[b] == Some(x) || std::mem::replace(&mut seen[x], true) {
                    continue;
                }
                if self.control[x].is_none() {
                    self.control[x] = Some(b);
                    spread = true;
                }
                work.extend(&flow.successors[x]);
            }
        }
        spread
    }
}

/// Does one side of a branch go to an exit of its own, without a barrier? Threads that have exited are not
/// waited for.
fn leaves_early(flow: &Flow, branch: usize, has_barrier: &[bool]) -> bool {
    let [one, other] = flow.successors[branch][..] else { return false };
    let [one, other] = [flow.reach_from(one), flow.reach_from(other)];
    let disjoint = one.iter().zip(&other).all(|(a, b)| !(a & b));
    let quiet = |side: &[bool]| side.iter().zip(has_barrier).all(|(reached, barrier)| !(reached & barrier));
    disjoint && (quiet(&one) || quiet(&other))
}

/// Special registers that differ, and what comes from callers and callees.
fn is_divergent_source(function: &Function, operand: &Operand) -> bool {
    match operand {
        Operand::Special(special) => special.is_divergent(),
        Operand::Addr(Address { base: Base::CallParam(_), .. }) => true,
        Operand::Addr(Address { base: Base::Param(_), .. }) => function.kind == FunctionKind::Device,
        _ => false,
    }
}
