//! Appending instructions: what the typed methods share.

use super::{KernelBuilder, Pred, Reg, RegTy, Val, Var};
use crate::ids::{RegClass, RegId};
use crate::inst::{Guard, Inst, Kind, Operand, Regular, Role, SpecialReg};
use crate::module::Block;
use crate::ops::{Mods, Op};
use crate::ty::Ty;

impl KernelBuilder {
    /// Appends an instruction, with the pending comment and guard. The escape hatch for what has no method:
    /// the verifier checks it like any other. Integer literals may be any reading of their bits.
    pub fn push(&mut self, kind: Kind, mut operands: Vec<Operand>) {
        canonicalise_literals(&kind, &mut operands);
        let comment = self.comment.take().map(String::into_boxed_str);
        let inst = Inst { guard: self.guard, kind, operands, comment };
        let terminates = inst.is_terminator();
        let falls_through = inst.falls_through();
        if let Some(block) = self.blocks.last_mut() {
            block.insts.push(inst);
        }
        if terminates {
            self.blocks.push(Block::default());
            self.labelled = false;
            self.reachable = falls_through;
        }
    }

    /// Text that the IR does not understand. `{0}`, `{1}`, ... stand for the registers of `defs`, then
    /// `uses`. The verifier reports every use of it, and cannot check more than definitions.
    pub fn inline(&mut self, template: &str, defs: &[RegId], uses: &[RegId]) {
        let mut text = template.to_owned();
        for (i, reg) in defs.iter().chain(uses).enumerate() {
            text = text.replace(&format!("{{{i}}}"), &reg.to_string());
        }
        let count = u8::try_from(defs.len()).unwrap_or(u8::MAX);
        let operands = defs.iter().chain(uses).map(|reg| Operand::Reg(*reg)).collect();
        self.push(Kind::Inline { text: text.into_boxed_str(), defs: count }, operands);
    }

    /// A new register that nothing assigns yet, for [`KernelBuilder::push`] and [`KernelBuilder::inline`].
    pub fn fresh<T: RegTy>(&mut self) -> Reg<T> {
        Reg::new(self.function.new_register(T::PLAIN.class()))
    }

    /// A new register of a class, for instructions that are built without types.
    pub(crate) fn fresh_register(&mut self, class: RegClass) -> RegId {
        self.function.new_register(class)
    }

    pub(super) fn fresh_pred(&mut self) -> Pred {
        Pred { id: self.function.new_register(RegClass::Pred), negated: false }
    }

    /// `op.ty d, sources` with one result of type `T`.
    pub(super) fn regular<T: RegTy, const N: usize>(
        &mut self,
        op: Op,
        ty: Ty,
        sources: [Operand; N],
    ) -> Reg<T> {
        self.regular_with(op, Some(ty), Mods::NONE, sources)
    }

    pub(super) fn regular_with<T: RegTy, const N: usize>(
        &mut self,
        op: Op,
        ty: Option<Ty>,
        mods: Mods,
        sources: [Operand; N],
    ) -> Reg<T> {
        let dest = self.fresh::<T>();
        self.push_regular(Regular { op, ty, mods }, Some(dest.operand()), &sources);
        dest
    }

    /// An instruction without a type suffix and with one result.
    pub(super) fn untyped<T: RegTy, const N: usize>(&mut self, op: Op, sources: [Operand; N]) -> Reg<T> {
        self.regular_with(op, None, Mods::NONE, sources)
    }

    /// An instruction with a predicate as its result.
    pub(super) fn regular_pred<const N: usize>(
        &mut self,
        op: Op,
        ty: Option<Ty>,
        sources: [Operand; N],
    ) -> Pred {
        let dest = self.fresh_pred();
        self.push_regular(Regular::new(op, ty), Some(Operand::Reg(dest.id)), &sources);
        dest
    }

    /// An instruction without type and results.
    pub(super) fn effect<const N: usize>(&mut self, op: Op, sources: [Operand; N]) {
        self.push_regular(Regular::new(op, None), None, &sources);
    }

    fn push_regular(&mut self, regular: Regular, dest: Option<Operand>, sources: &[Operand]) {
        let mut operands = Vec::with_capacity(sources.len() + 1);
        operands.extend(dest);
        operands.extend_from_slice(sources);
        self.push(Kind::Regular(regular), operands);
    }

    pub(super) fn mov_operand<T: RegTy>(&mut self, ty: Ty, source: Operand) -> Reg<T> {
        let dest = self.fresh::<T>();
        self.push(Kind::Mov(ty), vec![dest.operand(), source]);
        dest
    }

    /// A predicate without its negation, for operands that cannot express one.
    pub(super) fn plain(&mut self, p: Pred) -> Operand {
        if p.negated {
            Operand::Reg(self.regular_pred(Op::Not, Some(Ty::Pred), [Operand::Reg(p.id)]).id)
        } else {
            Operand::Reg(p.id)
        }
    }

    pub(super) fn negatable(p: Pred) -> Operand {
        if p.negated { Operand::NotPred(p.id) } else { Operand::Reg(p.id) }
    }

    /// A copy of a value: a literal in a register, or the present value of a variable.
    pub fn get<T: RegTy>(&mut self, value: impl Val<T>) -> Reg<T> {
        self.mov_operand(T::PLAIN, value.operand())
    }

    /// A literal in a register.
    pub fn imm<T: RegTy>(&mut self, value: impl Val<T>) -> Reg<T> {
        self.get(value)
    }

    /// The value of a special register. 32-bit ones; see [`KernelBuilder::special64`] for clocks.
    pub fn special(&mut self, special: SpecialReg) -> Reg<super::U32> {
        self.mov_operand(special.ty(), Operand::Special(special))
    }

    /// The value of a 64-bit special register.
    pub fn special64(&mut self, special: SpecialReg) -> Reg<super::U64> {
        self.mov_operand(special.ty(), Operand::Special(special))
    }

    /// A variable with a first value.
    pub fn var<T: RegTy>(&mut self, value: impl Val<T>) -> Var<T> {
        Var::new(self.get(value).id())
    }

    /// A variable with a first value and a name.
    pub fn named_var<T: RegTy>(&mut self, name: &str, value: impl Val<T>) -> Var<T> {
        let var = self.var(value);
        self.name(var, name)
    }

    /// Assigns a variable.
    pub fn set<T: RegTy>(&mut self, var: Var<T>, value: impl Val<T>) {
        self.push(Kind::Mov(T::PLAIN), vec![var.operand(), value.operand()]);
    }

    /// Assigns a variable the value that the closure computes from it, in place if the closure's last
    /// instruction is what computes it: `k.update(acc, |k, acc| k.fma(a, b, acc))` is one `fma`.
    ///
    /// The register that the closure returns must not be used elsewhere: it may never be assigned, which
    /// the verifier reports.
    pub fn update<T: RegTy>(&mut self, var: Var<T>, compute: impl FnOnce(&mut Self, Reg<T>) -> Reg<T>) {
        let first_new = self.function.registers[T::PLAIN.class() as usize];
        let result = compute(self, var.live());
        let last = self.blocks.last_mut().and_then(|block| block.insts.last_mut());
        if let Some(inst) = last.filter(|inst| {
            result.id().index() >= first_new && inst.guard.is_none() && inst.defs().eq([result.id()])
        }) {
            inst.map_registers(|role, reg| if role == Role::Def { var.id() } else { reg });
        } else {
            self.set(var, result);
        }
    }

    /// Everything that the closure emits happens only in threads where `p` holds, without a jump. It must
    /// not contain control flow. Results are defined only where `p` holds.
    pub fn guarded<R>(&mut self, p: Pred, body: impl FnOnce(&mut Self) -> R) -> R {
        let outer = self.guard.replace(Guard { pred: p.id, negated: p.negated });
        let result = body(self);
        self.guard = outer;
        result
    }
}

/// The typed methods know literals by the type of the value, which may be signed where the instruction is
/// of bits. What does not fit is left to the verifier.
fn canonicalise_literals(kind: &Kind, operands: &mut [Operand]) {
    if !operands.iter().any(|operand| matches!(operand, Operand::Int(_))) {
        return;
    }
    let signature = kind.signature(operands);
    let whats = signature.args().iter().flat_map(|arg| std::iter::repeat_n(arg.what, arg.operands()));
    for (operand, what) in operands.iter_mut().zip(whats) {
        if let (Operand::Int(value), Some(ty)) = (operand, what.ty()) {
            *value = ty.canonical_literal(i128::from(*value)).unwrap_or(*value);
        }
    }
}
