//! Barriers of the whole block under conditions that differ between its threads.
//!
//! A register is divergent if its value can differ between threads of the block: it comes from a thread
//! index, an atomic operation, local memory or an exchange, from another divergent register, or it is
//! assigned in several places of which one is under divergent control. A block is under divergent control
//! if it lies between a branch on a divergent predicate and the point where its paths meet again. What a load
//! gives from an address that all threads share is taken to be the same for all of them.

use super::Place;
use super::flow::Flow;
use super::regions::Regions;
use super::report::{Reporter, Rule};
use crate::ids::{InstId, RegId};
use crate::inst::{Address, Base, Inst, Kind, Operand};
use crate::module::{Function, FunctionKind};
use crate::ops::Op;

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

/// Of each register by its dense index: whether it is divergent, and what follows when it becomes so.
struct State<'a> {
    function: &'a Function,
    divergent: Vec<bool>,
    /// Divergent registers whose readers have not been looked at.
    fresh: Vec<usize>,
    /// The divergent branch that decides over each block, if any.
    control: Vec<Option<usize>>,
    readers: Readers<'a>,
    /// Is the register assigned in several places?
    several: Vec<bool>,
}

/// The instructions that read each register, one register after the other.
struct Readers<'a> {
    starts: Vec<u32>,
    insts: Vec<&'a Inst>,
}

impl<'a> Readers<'a> {
    fn new(function: &'a Function, registers: usize) -> Self {
        let uses = || function.insts().flat_map(|(_, inst)| inst.uses().map(move |reg| (inst, reg)));
        let index = |reg| function.register_index(reg);
        let mut starts = vec![0u32; registers + 1];
        for reg in uses().filter_map(|(_, reg)| index(reg)) {
            starts[reg + 1] += 1;
        }
        for i in 0..registers {
            starts[i + 1] += starts[i];
        }
        let Some((_, first)) = function.insts().next() else { return Self { starts, insts: Vec::new() } };
        let mut insts = vec![first; starts[registers] as usize];
        let mut next = starts.clone();
        for (inst, reg) in uses().filter_map(|(inst, reg)| Some((inst, index(reg)?))) {
            insts[next[reg] as usize] = inst;
            next[reg] += 1;
        }
        Self { starts, insts }
    }

    fn of(&self, reg: usize) -> std::ops::Range<usize> {
        self.starts[reg] as usize..self.starts[reg + 1] as usize
    }
}

impl<'a> State<'a> {
    fn is_divergent(&self, reg: RegId) -> bool {
        self.function.register_index(reg).is_some_and(|index| self.divergent[index])
    }

    fn solve(function: &'a Function, flow: &Flow, barriers: &[(InstId, &Inst)]) -> Self {
        let registers = function.registers.iter().map(|n| *n as usize).sum();
        let (mut assigned, mut several) = (vec![false; registers], vec![false; registers]);
        for reg in function.insts().flat_map(|(_, inst)| inst.defs()) {
            if let Some(index) = function.register_index(reg) {
                several[index] |= std::mem::replace(&mut assigned[index], true);
            }
        }
        let mut state = Self {
            function,
            divergent: vec![false; registers],
            fresh: Vec::new(),
            control: vec![None; flow.len()],
            readers: Readers::new(function, registers),
            several,
        };
        for (_, inst) in function.insts() {
            let varies = |operand: &Operand| is_divergent_source(function, operand);
            if inst.kind.effects().varies || inst.operands.iter().any(varies) {
                state.assigns_divergent(inst, false);
            }
        }
        let mut regions = Regions::new(function, flow, barriers);
        let mut branches: Vec<usize> = (0..flow.len()).filter(|b| flow.reachable[*b]).collect();
        // Each round takes the branches that have become divergent, so all rounds together visit each once.
        loop {
            state.spread_values();
            let before = branches.len();
            branches.retain(|b| {
                let divergent = state.decides(*b).any(|reg| state.is_divergent(reg));
                if divergent && flow.successors[*b].len() > 1 && !regions.leaves_early(*b) {
                    let marked = regions.mark(*b, &mut state.control);
                    marked.into_iter().for_each(|block| state.comes_under_control(block));
                }
                !divergent
            });
            if branches.len() == before {
                return state;
            }
        }
    }

    /// The registers on which the way out of a block depends.
    fn decides(&self, b: usize) -> impl Iterator<Item = RegId> + use<> {
        let last = self.function.blocks[b].insts.last();
        let by_index = last.filter(|last| matches!(last.kind, Kind::BrxIdx { .. }));
        let index = by_index.and_then(|last| last.uses().next());
        last.and_then(|last| last.guard).map(|guard| guard.pred).into_iter().chain(index)
    }

    /// The instruction gives its results a divergent value; or only those that are assigned elsewhere, too.
    fn assigns_divergent(&mut self, inst: &Inst, only_several: bool) {
        // A reduction over the block gives every thread the same.
        if reduces_over_block(inst.op()) {
            return;
        }
        for index in inst.defs().filter_map(|reg| self.function.register_index(reg)) {
            if (!only_several || self.several[index]) && !std::mem::replace(&mut self.divergent[index], true)
            {
                self.fresh.push(index);
            }
        }
    }

    fn spread_values(&mut self) {
        while let Some(reg) = self.fresh.pop() {
            for i in self.readers.of(reg) {
                self.assigns_divergent(self.readers.insts[i], false);
            }
        }
    }

    fn comes_under_control(&mut self, block: usize) {
        let function = self.function;
        function.blocks[block].insts.iter().for_each(|inst| self.assigns_divergent(inst, true));
    }
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
