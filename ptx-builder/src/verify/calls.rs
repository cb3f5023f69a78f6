//! Calls and jump tables: callees exist, arguments agree with parameters, targets are blocks.

use super::Place;
use super::report::{Reporter, Rule};
use crate::ids::{CallParamId, InstId};
use crate::inst::{Address, Base, Call, Callee, Inst, Kind, Operand};
use crate::module::{Function, FunctionKind, Module, ParamTy};

pub(super) fn check(
    module: &Module,
    function: &Function,
    id: InstId,
    inst: &Inst,
    reporter: &mut Reporter<'_>,
) {
    let place = Place::Inst(function, id);
    match &inst.kind {
        Kind::Call(call) => {
            check_call(module, function, call, &mut |message| reporter.error(Rule::Call, place, message));
        }
        Kind::BrxIdx { targets, .. } => {
            let error = match function.targets(*targets) {
                None => format!("the table {targets} is not declared"),
                Some([]) => format!("the table {targets} is empty"),
                Some(targets) if targets.iter().any(|block| block.index() >= function.blocks.len()) => {
                    "a label of the table was never placed".to_owned()
                }
                Some(_) => return,
            };
            reporter.error(Rule::OperandKind, place, error);
        }
        Kind::Ld(_) | Kind::St(_) if inst.guard.is_some() && inst.operands.iter().any(is_call_param) => {
            let message = "arguments and results of calls are stored and loaded without a guard".to_owned();
            reporter.error(Rule::Call, place, message);
        }
        _ => {}
    }
}

fn is_call_param(operand: &Operand) -> bool {
    matches!(operand, Operand::Addr(Address { base: Base::CallParam(_), .. }))
}

fn check_call(module: &Module, function: &Function, call: &Call, report: &mut dyn FnMut(String)) {
    let types = |params: &[crate::module::Param]| params.iter().map(|param| param.ty).collect::<Vec<_>>();
    let (name, returns, params) = match call.callee {
        Callee::Function(id) => match module.function_by_id(id) {
            Some(callee) if callee.kind == FunctionKind::Device => {
                (format!("`{}`", callee.name), types(&callee.returns), types(&callee.params))
            }
            Some(callee) => return report(format!("`{}` is a kernel, which nothing calls", callee.name)),
            None => return report(format!("function {id} is not declared")),
        },
        Callee::Pointer(id) => match function.prototype(id) {
            Some(prototype) => {
                ("the prototype".to_owned(), prototype.returns.clone(), prototype.params.clone())
            }
            None => return report(format!("prototype {id} is not declared")),
        },
    };
    for (what, given, declared) in [("results", &call.returns, returns), ("arguments", &call.args, params)] {
        if given.len() != declared.len() {
            report(format!("{} {what} are given, {name} has {}", given.len(), declared.len()));
            continue;
        }
        for (i, (given, declared)) in given.iter().zip(declared).enumerate() {
            check_variable(function, *given, declared, &format!("{what} {i} of {name}"), report);
        }
    }
}

fn check_variable(
    function: &Function,
    given: CallParamId,
    declared: ParamTy,
    what: &str,
    report: &mut dyn FnMut(String),
) {
    match function.call_param(given).map(|variable| variable.ty) {
        None => report(format!("call parameter {given} is not declared")),
        Some(ty) if ty.bytes() != declared.bytes() || ty.align() < declared.align() => report(format!(
            "{what}: a variable of {} bytes aligned to {}, where {} bytes aligned to {} are expected",
            ty.bytes(),
            ty.align(),
            declared.bytes(),
            declared.align()
        )),
        Some(_) => {}
    }
}
