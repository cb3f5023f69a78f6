//! Mutations: a module that differs from another in one instruction, to measure what a test suite would notice.
//!
//! Each operator stands for a mistake that people make in kernels: a forgotten barrier or fence, a bound off by
//! one, swapped operands, a wrong comparison, a lost guard, an accumulator that starts elsewhere, a load that
//! forgets the sign.

use crate::ids::InstId;
use crate::inst::{AtomOp, Cmp, Inst, Kind, Operand, Role, ShflMode, What};
use crate::module::Module;
use crate::ops::{Mods, Op};
use crate::ty::{Ty, TyKind};
use std::fmt;

/// What is done to the instruction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Change {
    /// It is not there: a store, a barrier, a fence, a jump, an exit.
    Remove,
    /// Its guard is not there, or if it has a guard it is negated.
    NegateGuard,
    /// Two operands of the same type change places.
    Swap(u8, u8),
    /// An integer literal is larger by this.
    Literal(u8, i8),
    /// A float literal has another value: 1 where it was 0 or not finite, twice it otherwise.
    Float(u8),
    /// The offset of an address is larger by this many bytes.
    Offset(u8, i8),
    /// Another relation.
    Compare(Cmp),
    /// Another operation of the same shape.
    Operation(Op),
    /// Another atomic operation.
    Atomic(AtomOp),
    /// The same width with the other signedness, or a smaller product.
    Type(Ty),
    /// Another lane is read.
    Shuffle(ShflMode),
    /// The predicate operand is negated.
    NegateOperand(u8),
}

/// One change at one place of a module.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Mutation {
    /// The function, by its position in the module.
    pub function: usize,
    /// The instruction.
    pub at: InstId,
    /// What is done to it.
    pub change: Change,
}

/// Every mutation of a module, in layout order. Some give a module that does not verify.
pub fn mutations(module: &Module) -> Vec<Mutation> {
    let mut found = Vec::new();
    for (function, body) in module.functions.iter().enumerate() {
        for (at, inst) in body.insts() {
            changes(inst, &mut |change| found.push(Mutation { function, at, change }));
        }
    }
    found
}

impl Mutation {
    /// The module with the change; unchanged if the place does not exist.
    pub fn apply(&self, module: &Module) -> Module {
        let mut module = module.clone();
        let block = module
            .functions
            .get_mut(self.function)
            .and_then(|function| function.blocks.get_mut(self.at.block.index()));
        if let Some(block) = block {
            let index = self.at.index as usize;
            if index < block.insts.len() {
                if self.change == Change::Remove {
                    block.insts.remove(index);
                } else {
                    change(&mut block.insts[index], self.change);
                }
            }
        }
        module
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.at, self.change)
    }
}

/// The changes that make sense for an instruction.
fn changes(inst: &Inst, add: &mut dyn FnMut(Change)) {
    let effects = inst.kind.effects();
    let has_results = inst.defs().next().is_some();
    // The last `ret` only ends the text, and a jump to the next block does nothing.
    if !has_results && (effects.writes || effects.communicates || inst.guard.is_some()) {
        add(Change::Remove);
    }
    if inst.guard.is_some() {
        add(Change::NegateGuard);
    }
    operand_changes(inst, add);
    match &inst.kind {
        Kind::Setp(setp) => other_relations(setp.cmp).iter().for_each(|cmp| add(Change::Compare(*cmp))),
        Kind::Shfl(mode) => add(Change::Shuffle(match mode {
            // Not down: the first lane, whose sum most kernels use, reads the same lanes.
            ShflMode::Bfly => ShflMode::Up,
            ShflMode::Down => ShflMode::Up,
            ShflMode::Up => ShflMode::Down,
            ShflMode::Idx => ShflMode::Bfly,
        })),
        Kind::Regular(regular) => {
            // Zero is as well subtracted as added.
            let of_zero = inst.operands.contains(&Operand::Int(0)) && matches!(regular.op, Op::Add | Op::Sub);
            if !of_zero {
                other_operations(regular.op).iter().for_each(|op| add(Change::Operation(*op)));
            }
            // The sign decides only where values are widened, ordered, divided or shifted right.
            let ordered = matches!(
                regular.op,
                Op::MulWide
                    | Op::MadWide
                    | Op::MulHi
                    | Op::Div
                    | Op::Rem
                    | Op::Min
                    | Op::Max
                    | Op::Shr
                    | Op::Bfe
            );
            // Unsigned to signed differs from 2^31 on, where no index of a kernel gets: not a mistake to look for.
            if let Some(ty) = regular.ty.filter(|ty| ordered && ty.is_signed()).and_then(other_sign) {
                add(Change::Type(ty));
            }
        }
        Kind::Ld(ld) if ld.ty.bits() < 32 => {
            other_sign(ld.ty).into_iter().for_each(|ty| add(Change::Type(ty)))
        }
        Kind::Cvt(cvt) if cvt.from.is_int() && (cvt.from.bits() < 32 || cvt.from.is_signed()) => {
            other_sign(cvt.from).into_iter().for_each(|ty| add(Change::Type(ty)));
        }
        Kind::Atom(atom) => other_atomic(atom.op).into_iter().for_each(|op| add(Change::Atomic(op))),
        Kind::Red(red) => other_atomic(red.op).into_iter().for_each(|op| add(Change::Atomic(op))),
        _ => {}
    }
}

fn operand_changes(inst: &Inst, add: &mut dyn FnMut(Change)) {
    let signature = inst.kind.signature(&inst.operands);
    let mut whats = Vec::with_capacity(inst.operands.len());
    for arg in signature.args() {
        whats.extend(std::iter::repeat_n((arg.role, arg.what), arg.operands()));
    }
    for (i, operand) in inst.operands.iter().enumerate() {
        let index = i as u8;
        match operand {
            // The clamp of a butterfly matters only to lanes whose partner does not exist, and the number of a
            // barrier only beside others.
            Operand::Int(_) if i == 4 && inst.kind == Kind::Shfl(ShflMode::Bfly) => {}
            Operand::Int(_) if i == 0 && inst.op() == Op::BarSync => {}
            Operand::Int(value) => {
                add(Change::Literal(index, 1));
                if *value != 0 {
                    add(Change::Literal(index, -1));
                }
            }
            Operand::F32(_) | Operand::F64(_) => add(Change::Float(index)),
            Operand::Addr(address) => {
                let bytes = access_bytes(&inst.kind);
                add(Change::Offset(index, bytes));
                if address.offset != 0 {
                    add(Change::Offset(index, -bytes));
                }
            }
            Operand::Reg(_) if whats.get(i).is_some_and(|what| *what == (Role::Use, What::Pred(true))) => {
                add(Change::NegateOperand(index));
            }
            Operand::NotPred(_) => add(Change::NegateOperand(index)),
            _ => {}
        }
    }
    for (i, j) in swaps(&inst.kind, whats.len()) {
        let (a, b) = (usize::from(i), usize::from(j));
        if whats.get(a) == whats.get(b) && inst.operands.get(a) != inst.operands.get(b) {
            add(Change::Swap(i, j));
        }
    }
}

/// Operands whose order matters.
fn swaps(kind: &Kind, operands: usize) -> Vec<(u8, u8)> {
    match kind {
        Kind::Setp(setp)
            if !matches!(setp.cmp, Cmp::Eq | Cmp::Ne | Cmp::Equ | Cmp::Neu | Cmp::Num | Cmp::Nan) =>
        {
            vec![(2, 3)]
        }
        Kind::Regular(regular) => match regular.op {
            Op::Sub | Op::FSub | Op::DSub | Op::HSub | Op::BSub | Op::Div | Op::Rem | Op::FDiv | Op::DDiv => {
                vec![(1, 2)]
            }
            Op::DivApprox | Op::DivFull | Op::Selp | Op::Shl | Op::Shr | Op::Copysign => vec![(1, 2)],
            Op::Prmt | Op::ShfLWrap | Op::ShfRWrap | Op::ShfLClamp | Op::ShfRClamp | Op::Bfi => vec![(1, 2)],
            Op::MadLo | Op::FFma | Op::DFma | Op::HFma | Op::BFma => vec![(2, 3)],
            Op::Dp4aSU | Op::Dp4aUS | Op::Dp2aLoSS | Op::Dp2aHiSS | Op::Dp2aLoSU | Op::Dp2aHiSU => {
                vec![(1, 2)]
            }
            _ => Vec::new(),
        },
        Kind::Pack { .. } => vec![(1, 2)],
        Kind::Unpack { .. } => vec![(0, 1)],
        Kind::Ld(_) if operands > 2 => vec![(0, 1)],
        Kind::St(_) if operands > 2 => vec![(1, 2)],
        Kind::Cvt(_) if operands > 2 => vec![(1, 2)],
        _ => Vec::new(),
    }
}

/// The step that keeps an access aligned.
fn access_bytes(kind: &Kind) -> i8 {
    let bytes = match kind {
        Kind::Ld(ld) => ld.ty.bytes() * u32::from(ld.width.count()),
        Kind::St(st) => st.ty.bytes() * u32::from(st.width.count()),
        Kind::Atom(atom) => atom.ty.bytes(),
        Kind::Red(red) => red.ty.bytes(),
        _ => 16,
    };
    bytes as i8
}

fn other_relations(cmp: Cmp) -> &'static [Cmp] {
    match cmp {
        // Not below-or-equal, and not above: for unsigned values beside zero those are the same.
        Cmp::Eq => &[Cmp::Ne, Cmp::Ge],
        Cmp::Ne => &[Cmp::Eq, Cmp::Lt],
        Cmp::Lt => &[Cmp::Le, Cmp::Ge],
        Cmp::Le => &[Cmp::Lt, Cmp::Gt],
        Cmp::Gt => &[Cmp::Ge, Cmp::Le],
        Cmp::Ge => &[Cmp::Gt, Cmp::Lt],
        Cmp::Equ => &[Cmp::Neu],
        Cmp::Neu => &[Cmp::Equ],
        Cmp::Ltu => &[Cmp::Leu, Cmp::Geu],
        Cmp::Leu => &[Cmp::Ltu, Cmp::Gtu],
        Cmp::Gtu => &[Cmp::Geu, Cmp::Leu],
        Cmp::Geu => &[Cmp::Gtu, Cmp::Ltu],
        Cmp::Num => &[Cmp::Nan],
        Cmp::Nan => &[Cmp::Num],
    }
}

fn other_operations(op: Op) -> &'static [Op] {
    match op {
        Op::Add => &[Op::Sub],
        Op::Sub => &[Op::Add],
        Op::MulLo => &[Op::Add],
        Op::MulHi => &[Op::MulLo],
        Op::Div => &[Op::Rem],
        Op::Rem => &[Op::Div],
        Op::Min => &[Op::Max],
        Op::Max => &[Op::Min],
        Op::And => &[Op::Or],
        Op::Or => &[Op::And],
        Op::Xor => &[Op::Or],
        Op::Shl => &[Op::Shr],
        Op::Shr => &[Op::Shl],
        Op::FAdd => &[Op::FSub, Op::FMul],
        Op::FSub => &[Op::FAdd],
        Op::FMul => &[Op::FAdd],
        Op::FDiv => &[Op::FMul],
        Op::FMin => &[Op::FMax],
        Op::FMax => &[Op::FMin],
        Op::FNeg => &[Op::FAbs],
        Op::FAbs => &[Op::FNeg],
        Op::Dp4aSS => &[Op::Dp4aUS],
        Op::Dp4aUS => &[Op::Dp4aSS],
        Op::Dp4aSU => &[Op::Dp4aSS],
        Op::ReduxAdd => &[Op::ReduxMax],
        Op::ReduxMin => &[Op::ReduxMax],
        Op::ReduxMax => &[Op::ReduxMin],
        Op::VoteAll => &[Op::VoteAny],
        Op::VoteAny => &[Op::VoteAll],
        _ => &[],
    }
}

fn other_atomic(op: AtomOp) -> Option<AtomOp> {
    match op {
        AtomOp::Add => Some(AtomOp::Max),
        AtomOp::Max => Some(AtomOp::Min),
        AtomOp::Min => Some(AtomOp::Max),
        _ => None,
    }
}

fn other_sign(ty: Ty) -> Option<Ty> {
    let kind = match ty.kind() {
        TyKind::Signed => TyKind::Unsigned,
        TyKind::Unsigned => TyKind::Signed,
        _ => return None,
    };
    Ty::ALL.iter().copied().find(|other| other.bits() == ty.bits() && other.kind() == kind)
}

fn change(inst: &mut Inst, change: Change) {
    match change {
        Change::Remove => {}
        Change::NegateGuard => {
            if let Some(guard) = &mut inst.guard {
                guard.negated = !guard.negated;
            }
        }
        Change::Swap(a, b) => {
            let (a, b) = (usize::from(a), usize::from(b));
            if a < inst.operands.len() && b < inst.operands.len() {
                inst.operands.swap(a, b);
            }
        }
        Change::Literal(i, by) => {
            if let Some(Operand::Int(value)) = inst.operands.get_mut(usize::from(i)) {
                *value = value.wrapping_add(i64::from(by));
            }
        }
        Change::Float(i) => match inst.operands.get_mut(usize::from(i)) {
            Some(Operand::F32(bits)) => {
                let value = f32::from_bits(*bits);
                *bits = if value == 0.0 || !value.is_finite() { 1.0 } else { 2.0 * value }.to_bits();
            }
            Some(Operand::F64(bits)) => {
                let value = f64::from_bits(*bits);
                *bits = if value == 0.0 || !value.is_finite() { 1.0 } else { 2.0 * value }.to_bits();
            }
            _ => {}
        },
        Change::Offset(i, by) => {
            if let Some(Operand::Addr(address)) = inst.operands.get_mut(usize::from(i)) {
                address.offset = address.offset.wrapping_add(i32::from(by));
            }
        }
        Change::Compare(cmp) => {
            if let Kind::Setp(setp) = &mut inst.kind {
                setp.cmp = cmp;
            }
        }
        Change::Operation(op) => {
            if let Kind::Regular(regular) = &mut inst.kind {
                regular.op = op;
                if op.regular().is_some_and(|info| !info.allows(regular.mods)) {
                    regular.mods = Mods::NONE;
                }
            }
        }
        Change::Atomic(op) => match &mut inst.kind {
            Kind::Atom(atom) => atom.op = op,
            Kind::Red(red) => red.op = op,
            _ => {}
        },
        Change::Type(ty) => match &mut inst.kind {
            Kind::Regular(regular) => regular.ty = Some(ty),
            Kind::Ld(ld) => ld.ty = ty,
            Kind::Cvt(cvt) => cvt.from = ty,
            _ => {}
        },
        Change::Shuffle(mode) => {
            if let Kind::Shfl(old) = &mut inst.kind {
                *old = mode;
            }
        }
        Change::NegateOperand(i) => {
            if let Some(operand) = inst.operands.get_mut(usize::from(i)) {
                *operand = match *operand {
                    Operand::Reg(reg) => Operand::NotPred(reg),
                    Operand::NotPred(reg) => Operand::Reg(reg),
                    other => other,
                };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{F32, Target, U32};

    fn sum() -> Module {
        let mut module = Module::new(Target::SM_80);
        module.kernel("sum", |k| {
            k.reqntid(32, 1, 1);
            let x = k.param_ptr("x", 4);
            let n = k.param::<U32>("n");
            let tile = k.shared::<F32>("tile", 32);
            let tid = k.tid_x();
            let at = k.ptr_index(x, tid, 4);
            let inside = k.lt(tid, n);
            let slot = k.shared_index(tile, tid);
            k.st_shared::<F32>(slot, 0.0);
            k.if_(inside, |k| {
                let value = k.ld_global::<F32>(at);
                k.st_shared::<F32>(slot, value);
            });
            k.barrier();
            let value = k.ld_shared::<F32>(slot);
            let sum = k.warp_sum(value);
            k.st_global::<F32>(at, sum);
        });
        module
    }

    #[test]
    fn each_mutation_changes_one_place() {
        let module = sum();
        let found = mutations(&module);
        let text = crate::print(&module);
        for mutation in &found {
            let mutant = mutation.apply(&module);
            assert_ne!(mutant, module, "{mutation}");
            let changed = crate::print(&mutant);
            let differing = match mutation.change {
                Change::Remove => text.lines().count() - changed.lines().count(),
                _ => text.lines().zip(changed.lines()).filter(|(a, b)| a != b).count(),
            };
            assert_eq!(differing, 1, "{mutation}\n{changed}");
        }
    }

    #[test]
    fn the_mistakes_that_people_make_are_among_them() {
        let found = mutations(&sum());
        let has = |wanted: fn(Change) -> bool| found.iter().any(|mutation| wanted(mutation.change));
        assert!(has(|change| change == Change::Remove), "a lost barrier");
        assert!(has(|change| change == Change::NegateGuard), "a jump the wrong way");
        assert!(has(|change| matches!(change, Change::Compare(_))), "a bound off by one");
        assert!(has(|change| matches!(change, Change::Swap(..))), "swapped operands");
        assert!(has(|change| matches!(change, Change::Float(_))), "another first value");
        assert!(has(|change| matches!(change, Change::Shuffle(_))), "another lane");
    }

    #[test]
    fn most_mutants_verify() {
        let module = sum();
        let found = mutations(&module);
        let valid = found.iter().filter(|mutation| mutation.apply(&module).verify().is_ok()).count();
        assert!(valid * 4 > found.len() * 3, "{valid} of {}", found.len());
    }
}
