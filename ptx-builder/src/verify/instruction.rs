//! Rules that look at one instruction: operands against the signature, forms, targets.

use super::Place;
use super::objects::{object, undeclared};
use super::report::{Reporter, Rule};
use crate::ids::{InstId, RegClass, RegId};
use crate::inst::{Address, Base, Form, Inst, Kind, Ld, Operand, Role, Space, St, What};
use crate::module::{Function, Module};
use crate::ty::Ty;

pub(super) fn check(
    module: &Module,
    function: &Function,
    id: InstId,
    inst: &Inst,
    reporter: &mut Reporter<'_>,
) {
    let place = Place::Inst(function, id);
    inst.kind.problems(&inst.operands, &mut |message| reporter.error(Rule::InstructionForm, place, message));
    check_operands(module, function, inst, &mut |rule, message| reporter.error(rule, place, message));
    if let (Kind::St(St { space: Space::Param, .. }), Some(Operand::Addr(address))) =
        (&inst.kind, inst.operands.first())
        && !matches!(address.base, Base::Return(_) | Base::CallParam(_))
    {
        let message = "only results and arguments of calls are stored to in .param memory".to_owned();
        reporter.error(Rule::OperandType, place, message);
    }
    if let (
        Kind::Ld(Ld { space: Space::Param, .. }),
        Some(Operand::Addr(Address { base: Base::Return(_), .. })),
    ) = (&inst.kind, inst.operands.last())
    {
        let message = "results are stored to, not loaded".to_owned();
        reporter.error(Rule::OperandType, place, message);
    }
    let requires = inst.requires();
    if !requires.met_by(module.target) {
        let message =
            format!("`{}` needs {}, the module targets {}", inst.kind, requires.target_name(), module.target);
        reporter.error(Rule::Target, place, message);
    }
    if let Kind::Inline { .. } = inst.kind {
        reporter.note(
            Rule::InlineText,
            place,
            "inline text, which nothing but the assembler checks".to_owned(),
        );
    }
}

type Report<'a> = &'a mut dyn FnMut(Rule, String);

fn check_operands(module: &Module, function: &Function, inst: &Inst, report: Report<'_>) {
    if let Some(guard) = inst.guard
        && guard.pred.class() != RegClass::Pred
    {
        report(Rule::OperandKind, format!("the guard {} is not a predicate", guard.pred));
    }
    for reg in inst.operands.iter().filter_map(Operand::register).chain(inst.guard.map(|g| g.pred)) {
        if function.register_index(reg).is_none() {
            report(Rule::OperandKind, format!("register {reg} is not declared"));
        }
    }
    let signature = inst.kind.signature(&inst.operands);
    let mut operands = inst.operands.iter();
    for arg in signature.args() {
        if arg.form == Form::Optional && operands.len() == 0 {
            continue;
        }
        let mut width = None;
        for i in 0..arg.operands() {
            let Some(operand) = operands.next() else {
                return report(Rule::OperandKind, "operands are missing".to_owned());
            };
            if let (Form::Vector(_), Operand::Reg(reg)) = (arg.form, operand)
                && *width.get_or_insert(reg.class().bits()) != reg.class().bits()
                && arg.what != What::Any
            {
                report(Rule::OperandType, "the registers of a vector have one width".to_owned());
            }
            let second = arg.form == Form::Pair && i == 1;
            if second && *operand == Operand::None {
                continue;
            }
            let what = if second { What::Pred(false) } else { arg.what };
            check_operand((module, function), operand, what, arg.role, report);
        }
    }
    if operands.len() != 0 {
        report(Rule::OperandKind, format!("{} operands too many", operands.len()));
    }
}

fn check_operand(
    (module, function): (&Module, &Function),
    operand: &Operand,
    what: What,
    role: Role,
    report: Report<'_>,
) {
    let kind = |report: Report<'_>, expected: &str| {
        report(Rule::OperandKind, format!("expected {expected}, found {operand:?}"));
    };
    match (what, operand) {
        (What::Reg(ty) | What::Value(ty) | What::MovSource(ty), Operand::Reg(reg)) => {
            check_register(*reg, ty, ty.agrees_with(reg.class()), report);
        }
        (What::Word, Operand::Reg(reg)) => {
            check_register(*reg, Ty::B32, reg.class() == RegClass::B32, report);
        }
        (What::WideReg(ty) | What::WideValue(ty), Operand::Reg(reg)) => {
            check_register(*reg, ty, ty.fits_in(reg.class()), report);
        }
        (
            What::Value(_) | What::WideValue(_) | What::MovSource(_) | What::Word,
            literal @ (Operand::Int(_) | Operand::F32(_) | Operand::F64(_)),
        ) if role == Role::Use => {
            check_literal(literal, what.ty().unwrap_or(Ty::B32), report);
        }
        (What::Pred(_), Operand::Reg(reg)) => {
            check_register(*reg, Ty::Pred, reg.class() == RegClass::Pred, report)
        }
        (What::Pred(true), Operand::NotPred(reg)) => {
            check_register(*reg, Ty::Pred, reg.class() == RegClass::Pred, report);
        }
        (What::Pred(false), Operand::NotPred(_)) => kind(report, "a predicate that is not negated"),
        (What::Sink, Operand::None) | (What::Literal, Operand::Int(_)) | (What::Any, Operand::Reg(_)) => {}
        (What::Address(space), Operand::Addr(address)) => {
            check_base(module, function, space, *address, report)
        }
        (What::MovSource(ty), Operand::Special(special)) => {
            if !special.has_bits(ty.bits()) || ty.is_float() {
                report(Rule::OperandType, format!("{} is a .{}, not a .{ty}", special.name(), special.ty()));
            }
        }
        (What::MovSource(ty), Operand::Symbol(base)) => check_symbol(module, function, ty, *base, report),
        (What::Label, Operand::Label(block)) => {
            if block.index() >= function.blocks.len() {
                report(Rule::OperandKind, "the label that it jumps to was never placed, or twice".to_owned());
            }
        }
        (What::Reg(_) | What::WideReg(_) | What::Any, _) => kind(report, "a register"),
        (What::Value(_) | What::WideValue(_) | What::Word, _) => kind(report, "a register or a literal"),
        (What::MovSource(_), _) => kind(report, "a register, literal, special register or symbol"),
        (What::Pred(_), _) => kind(report, "a predicate"),
        (What::Literal, _) => kind(report, "an integer literal"),
        (What::Address(_), _) => kind(report, "an address"),
        (What::Label, _) => kind(report, "a label"),
        (What::Sink, _) => kind(report, "`_`"),
    }
}

fn check_register(reg: RegId, ty: Ty, agrees: bool, report: Report<'_>) {
    if !agrees {
        report(
            Rule::OperandType,
            format!("{reg} is a {} register, which .{ty} does not agree with", reg.class().declared()),
        );
    }
}

fn check_literal(literal: &Operand, ty: Ty, report: Report<'_>) {
    let fits = match literal {
        Operand::Int(_) if ty == Ty::Pred => true,
        Operand::F32(_) => ty == Ty::F32,
        Operand::F64(_) => ty == Ty::F64,
        _ => !ty.is_float() && ty != Ty::Pred,
    };
    if !fits {
        return report(Rule::OperandType, format!("{literal:?} is no literal of type .{ty}"));
    }
    if let Operand::Int(value) = literal {
        let (min, max) = ty.literal_range();
        if !(min..=max).contains(value) {
            report(Rule::LiteralRange, format!("{value} is not in the range {min}..={max} of .{ty}"));
        }
    }
}

fn check_base(module: &Module, function: &Function, space: Space, address: Address, report: Report<'_>) {
    if let Base::Reg(reg) = address.base {
        let wide = reg.class() == RegClass::B64;
        let narrow = reg.class() == RegClass::B32
            && matches!(space, Space::Shared | Space::SharedCluster | Space::Local);
        // Space is generic for atomics whose space is written elsewhere; 32-bit addresses are those of small windows.
        if !(wide || narrow) {
            report(Rule::OperandType, format!("{reg} is no address in {} memory", space_name(space)));
        }
        return;
    }
    let Some(object) = object(module, function, address.base) else {
        return report(Rule::OperandKind, format!("{} is not declared", undeclared(address.base)));
    };
    let Some(own) = object.space else {
        return report(Rule::OperandType, format!("`{}` is a function, which is not accessed", object.name));
    };
    let same = own == space || (own, space) == (Space::Shared, Space::SharedCluster);
    if !same {
        let (name, own) = (object.name, space_name(own));
        report(Rule::OperandType, format!("`{name}` is in {own}, not in {} memory", space_name(space)));
    }
}

fn check_symbol(module: &Module, function: &Function, ty: Ty, base: Base, report: Report<'_>) {
    if let Base::Reg(reg) = base {
        return report(Rule::OperandKind, format!("{reg} is no symbol"));
    }
    let Some(object) = object(module, function, base) else {
        return report(Rule::OperandKind, format!("{} is not declared", undeclared(base)));
    };
    let narrow = ty.bits() == 32 && matches!(object.space, Some(Space::Shared | Space::Local));
    if ty.is_float() || !(ty.bits() == 64 || narrow) {
        let place =
            object.space.map_or("of a function".to_owned(), |s| format!("in {} memory", space_name(s)));
        report(Rule::OperandType, format!("an address {place} is no .{ty}"));
    }
}

fn space_name(space: Space) -> &'static str {
    if space == Space::Generic { "generic" } else { space.name() }
}
