//! Rules about blocks: boundaries, termination, reachable exits.

use super::Place;
use super::flow::Flow;
use super::report::{Reporter, Rule};
use crate::ids::{BlockId, InstId};
use crate::inst::{Inst, Kind};
use crate::module::{Block, Function};
use crate::print::targets;

/// Targets of all jumps by index: short text can have many, since jumps share tables.
const MAX_INDEXED: usize = 1 << 20;

/// Targets of the jump by index at the end of a block.
fn by_index(function: &Function, block: &Block) -> usize {
    match block.insts.last().map(|inst| &inst.kind) {
        Some(Kind::BrxIdx { targets, .. }) => {
            function.branch_targets.get(targets.index()).map_or(0, Vec::len)
        }
        _ => 0,
    }
}

pub(super) fn check(function: &Function, reporter: &mut Reporter<'_>) {
    let place = Place::Function(function);
    let Some(last) = function.blocks.last() else {
        return reporter.error(Rule::Block, place, "the kernel has no blocks".to_owned());
    };
    if u32::try_from(function.blocks.len()).is_err() {
        return reporter.error(Rule::Block, place, "the kernel has too many blocks".to_owned());
    }
    let jumps: usize = function.blocks.iter().map(|block| by_index(function, block)).sum();
    if jumps > MAX_INDEXED {
        let message = format!("jumps by index have {jumps} targets in all, at most {MAX_INDEXED} can be");
        return reporter.error(Rule::Block, place, message);
    }
    let targets = targets(function);
    let mut visible = true;
    for ((b, block), is_target) in (0..).zip(&function.blocks).zip(targets) {
        let id = BlockId(b);
        let labelled = is_target || block.name.is_some();
        if !labelled && block.insts.is_empty() {
            let message = "an empty block without a label would disappear in the text".to_owned();
            reporter.error(Rule::Block, Place::Block(function, id), message);
        } else if !labelled && !visible {
            let message =
                "the block neither has a label nor follows a jump, the text would join it with the last";
            reporter.error(Rule::Block, Place::Block(function, id), message.to_owned());
        }
        visible = block.insts.last().is_some_and(Inst::is_terminator);
        let inner = block.insts.split_last().map_or(&[][..], |(_, inner)| inner);
        for (index, _) in (0..).zip(inner).filter(|(_, inst)| inst.is_terminator()) {
            let message = "a jump or exit must be the last instruction of its block".to_owned();
            reporter.error(Rule::Block, Place::Inst(function, InstId { block: id, index }), message);
        }
    }
    if last.insts.last().is_none_or(Inst::falls_through) {
        let id = BlockId(u32::try_from(function.blocks.len() - 1).unwrap_or(u32::MAX));
        let message = "control runs off the end of the kernel".to_owned();
        reporter.error(Rule::Termination, Place::Block(function, id), message);
    }
}

pub(super) fn check_exits(function: &Function, flow: &Flow, reporter: &mut Reporter<'_>) {
    for b in 0..flow.len() {
        let id = BlockId(u32::try_from(b).unwrap_or(u32::MAX));
        if !flow.reachable[b] {
            let message = "no path leads here".to_owned();
            reporter.note(Rule::Exit, Place::Block(function, id), message);
        } else if !flow.exits[b] {
            let message = "no exit can be reached from here".to_owned();
            reporter.advice(Rule::Exit, Place::Block(function, id), message);
        }
    }
}
