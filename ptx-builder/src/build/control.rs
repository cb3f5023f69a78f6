//! Control flow. Closures produce blocks; loops test at the bottom, so that an iteration costs one jump.

use super::{Int, KernelBuilder, Pred, Reg, Val};
use crate::ids::BlockId;
use crate::inst::{Cmp, Guard, Kind, Operand};
use crate::module::Block;
use crate::ops::Op;

/// A place to jump to, for control flow that the closures do not express.
#[derive(Clone, Copy, Debug)]
pub struct Label(BlockId);

impl KernelBuilder {
    /// A new label, to be placed once.
    pub fn label(&mut self) -> Label {
        let label = Label(BlockId(u32::try_from(self.labels.len()).unwrap_or(u32::MAX)));
        self.labels.push(None);
        label
    }

    /// Puts a label here; `name` appears in the text.
    pub fn place(&mut self, label: Label, name: &str) {
        let fresh = self.blocks.last().is_some_and(|block| block.insts.is_empty());
        if !fresh {
            self.blocks.push(Block::default());
            self.labelled = false;
        }
        // Labels at the same place share the block and the first one's name.
        if let Some(block) = self.blocks.last_mut().filter(|_| !self.labelled) {
            block.name = Some(name.to_owned());
        }
        let here = BlockId(u32::try_from(self.blocks.len() - 1).unwrap_or(u32::MAX));
        if let Some(slot) = self.labels.get_mut(label.0.index()) {
            // Placed twice, it is left dangling as well: nobody can tell which place a jump means.
            *slot = Some(if slot.is_none() { here } else { BlockId(u32::MAX) });
        }
        self.labelled = true;
        self.reachable = true;
    }

    /// Jumps.
    pub fn bra(&mut self, label: Label) {
        if self.reachable {
            self.push(Kind::Bra { uni: false }, vec![Operand::Label(label.0)]);
        }
    }

    /// Jumps where `p` holds.
    pub fn bra_if(&mut self, p: Pred, label: Label) {
        self.conditional(p, |k| k.push(Kind::Bra { uni: false }, vec![Operand::Label(label.0)]));
    }

    /// Ends the thread.
    pub fn ret(&mut self) {
        if self.reachable {
            self.effect(Op::Ret, []);
        }
    }

    /// Ends the threads where `p` holds.
    pub fn ret_if(&mut self, p: Pred) {
        self.conditional(p, |k| k.effect(Op::Ret, []));
    }

    /// Ends the thread, also from within a function.
    pub fn exit(&mut self) {
        if self.reachable {
            self.effect(Op::Exit, []);
        }
    }

    /// Aborts the launch with an error.
    pub fn trap(&mut self) {
        if self.reachable {
            self.effect(Op::Trap, []);
        }
    }

    fn conditional(&mut self, p: Pred, jump: impl FnOnce(&mut Self)) {
        if self.reachable {
            let outer = self.guard.replace(Guard { pred: p.id, negated: p.negated });
            jump(self);
            self.guard = outer;
        }
    }

    /// The body happens where `p` holds.
    pub fn if_(&mut self, p: Pred, body: impl FnOnce(&mut Self)) {
        let end = self.label();
        self.bra_if(!p, end);
        body(self);
        self.place(end, "endif");
    }

    /// The first body happens where `p` holds, the second where it does not.
    pub fn if_else(&mut self, p: Pred, then: impl FnOnce(&mut Self), otherwise: impl FnOnce(&mut Self)) {
        let [other, end] = [self.label(), self.label()];
        self.bra_if(!p, other);
        then(self);
        let joins = self.reachable;
        self.bra(end);
        self.place(other, "else");
        otherwise(self);
        if joins {
            self.place(end, "endif");
        }
    }

    /// `i` from `start` up to, but without, `end`. The test is `i < end`, signed or unsigned as `T` is;
    /// `end` plus one step must not overflow.
    pub fn for_range<T: Int>(
        &mut self,
        start: impl Val<T>,
        end: impl Val<T>,
        step: impl Val<T>,
        body: impl FnOnce(&mut Self, Reg<T>),
    ) {
        let known = match (start.operand(), end.operand()) {
            (Operand::Int(start), Operand::Int(end)) if T::TY.is_signed() => Some(start < end),
            (Operand::Int(start), Operand::Int(end)) => Some(start.cast_unsigned() < end.cast_unsigned()),
            _ => None,
        };
        if known == Some(false) {
            return;
        }
        let never = self.label();
        let i = self.var::<T>(start);
        if known.is_none() {
            let empty = self.setp::<T>(Cmp::Ge, i, end);
            self.bra_if(empty, never);
        }
        let top = self.label();
        self.place(top, "for");
        body(self, i.live());
        if self.reachable {
            self.update(i, |k, i| k.add::<T>(i, step));
            let again = self.setp::<T>(Cmp::Lt, i, end);
            self.bra_if(again, top);
        }
        if known.is_none() {
            self.place(never, "endfor");
        }
    }

    /// `i` from 0 to `n - 1` as a Rust number: the body is emitted `n` times.
    pub fn unroll(&mut self, n: u32, mut body: impl FnMut(&mut Self, u32)) {
        for i in 0..n {
            body(self, i);
        }
    }

    /// While the condition holds. It is evaluated before each iteration.
    pub fn while_(&mut self, condition: impl FnOnce(&mut Self) -> Pred, body: impl FnOnce(&mut Self)) {
        let [top, end] = [self.label(), self.label()];
        self.place(top, "while");
        let p = condition(self);
        self.bra_if(!p, end);
        body(self);
        self.bra(top);
        self.place(end, "endwhile");
    }

    /// At least once, and again while the condition that the body returns holds.
    pub fn do_while(&mut self, body: impl FnOnce(&mut Self) -> Pred) {
        let top = self.label();
        self.place(top, "do");
        let again = body(self);
        self.bra_if(again, top);
    }

    /// Until a jump to the label that the body receives: `k.loop_(|k, done| ... k.bra_if(p, done))`.
    pub fn loop_(&mut self, body: impl FnOnce(&mut Self, Label)) {
        let [top, end] = [self.label(), self.label()];
        self.place(top, "loop");
        body(self, end);
        self.bra(top);
        self.place(end, "endloop");
    }
}
