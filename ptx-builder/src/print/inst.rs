//! One instruction as text.

use crate::ids::{BlockId, CallParamId, RegId};
use crate::inst::{Address, Base, Call, Callee, Form, Inst, Kind, Operand, What};
use crate::module::{DYNAMIC_SHARED, Function, Module};
use crate::ops::Op;
use crate::ty::{Ty, TyKind};
use std::fmt::{self, Display, Write as _};

/// Where names are looked up.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    pub(super) module: Option<&'a Module>,
    pub(super) function: &'a Function,
}

pub(super) struct Label<'a>(pub(super) &'a Function, pub(super) BlockId);

impl Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.1)?;
        match self.0.blocks.get(self.1.index()).and_then(|block| block.name.as_ref()) {
            Some(name) => write!(f, "_{name}"),
            None => Ok(()),
        }
    }
}

pub(super) struct RegName<'a>(pub(super) &'a Function, pub(super) RegId);

impl Display for RegName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.1)?;
        match self.0.names.get(&self.1) {
            Some(name) => write!(f, "_{name}"),
            None => Ok(()),
        }
    }
}

pub(super) struct InstText<'a> {
    pub(super) context: Context<'a>,
    pub(super) inst: &'a Inst,
}

impl Display for InstText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { context, inst } = *self;
        let function = context.function;
        if let Some(guard) = inst.guard {
            write!(f, "@{}{} ", if guard.negated { "!" } else { "" }, RegName(function, guard.pred))?;
        }
        write!(f, "{}", inst.kind)?;
        if inst.op() == Op::Inline {
            return Ok(());
        }
        if let Kind::Call(call) = &inst.kind {
            return write_call(f, context, call, &inst.operands);
        }
        let signature = inst.kind.signature(&inst.operands);
        let mut operands = inst.operands.iter();
        let mut first = true;
        for arg in signature.args() {
            if arg.form == Form::Optional && operands.len() == 0 {
                break;
            }
            f.write_str(if first { " " } else { ", " })?;
            first = false;
            let mut one = |f: &mut fmt::Formatter<'_>| match operands.next() {
                Some(operand) => write_operand(f, context, operand, arg.what),
                None => f.write_str("<missing>"),
            };
            match arg.form {
                Form::One | Form::Optional => one(f)?,
                Form::Vector(n) => {
                    f.write_char('{')?;
                    for i in 0..n {
                        if i > 0 {
                            f.write_str(", ")?;
                        }
                        one(f)?;
                    }
                    f.write_char('}')?;
                }
                Form::Pair => {
                    one(f)?;
                    if let Some(second) = operands.next().filter(|operand| **operand != Operand::None) {
                        f.write_char('|')?;
                        write_operand(f, context, second, What::Pred(false))?;
                    }
                }
            }
        }
        if let Kind::BrxIdx { targets, .. } = inst.kind {
            write!(f, ", {targets}")?;
        }
        f.write_char(';')
    }
}

fn write_call(
    f: &mut fmt::Formatter<'_>,
    context: Context<'_>,
    call: &Call,
    operands: &[Operand],
) -> fmt::Result {
    let list = |f: &mut fmt::Formatter<'_>, params: &[CallParamId]| {
        f.write_char('(')?;
        for (i, param) in params.iter().enumerate() {
            f.write_str(if i == 0 { "" } else { ", " })?;
            write_base(f, context, Base::CallParam(*param))?;
        }
        f.write_char(')')
    };
    f.write_char(' ')?;
    if !call.returns.is_empty() {
        list(f, &call.returns)?;
        f.write_str(", ")?;
    }
    match (call.callee, operands.first()) {
        (Callee::Function(id), _) => write_base(f, context, Base::Function(id))?,
        (Callee::Pointer(_), Some(operand)) => write_operand(f, context, operand, What::Reg(Ty::U64))?,
        (Callee::Pointer(_), None) => f.write_str("<missing>")?,
    }
    f.write_str(", ")?;
    list(f, &call.args)?;
    if let Callee::Pointer(prototype) = call.callee {
        write!(f, ", {prototype}")?;
    }
    f.write_char(';')
}

fn write_operand(
    f: &mut fmt::Formatter<'_>,
    context: Context<'_>,
    operand: &Operand,
    what: What,
) -> fmt::Result {
    let function = context.function;
    match *operand {
        Operand::None => f.write_char('_'),
        Operand::Reg(reg) => write!(f, "{}", RegName(function, reg)),
        Operand::NotPred(reg) => write!(f, "!{}", RegName(function, reg)),
        Operand::Int(value) => write_int(f, value, what),
        Operand::F32(bits) => write!(f, "0f{bits:08X}"),
        Operand::F64(bits) => write!(f, "0d{bits:016X}"),
        Operand::Special(special) => f.write_str(special.name()),
        Operand::Symbol(base) => write_base(f, context, base),
        Operand::Label(block) => write!(f, "{}", Label(function, block)),
        Operand::Addr(Address { base, offset }) => {
            f.write_char('[')?;
            write_base(f, context, base)?;
            if offset != 0 {
                // `+-4`: the assembler does not read `-4` here.
                write!(f, "+{offset}")?;
            }
            f.write_char(']')
        }
    }
}

fn write_base(f: &mut fmt::Formatter<'_>, context: Context<'_>, base: Base) -> fmt::Result {
    let Context { module, function } = context;
    let name = match base {
        Base::Reg(reg) => return write!(f, "{}", RegName(function, reg)),
        Base::DynamicShared => return f.write_str(DYNAMIC_SHARED),
        Base::Param(id) => function.param(id).map(|param| &param.name),
        Base::Return(id) => function.result(id).map(|param| &param.name),
        Base::CallParam(id) => function.call_param(id).map(|param| &param.name),
        Base::Array(id) => function.array(id).map(|array| &array.name),
        Base::Global(id) => module.and_then(|module| module.global(id)).map(|global| &global.name),
        Base::Function(id) => module.and_then(|module| module.function_by_id(id)).map(|callee| &callee.name),
    };
    match (name, base) {
        (Some(name), _) => f.write_str(name),
        (None, Base::Param(id) | Base::Return(id)) => write!(f, "{id}"),
        (None, Base::CallParam(id)) => write!(f, "{id}"),
        (None, Base::Array(id)) => write!(f, "{id}"),
        (None, Base::Global(id)) => write!(f, "{id}"),
        (None, Base::Function(id)) => write!(f, "{id}"),
        (None, Base::Reg(_) | Base::DynamicShared) => Ok(()),
    }
}

/// Bits in hexadecimal, numbers in decimal.
fn write_int(f: &mut fmt::Formatter<'_>, value: i64, what: What) -> fmt::Result {
    let Some(ty) = what.ty() else { return write!(f, "{value}") };
    match ty.kind() {
        TyKind::Signed => write!(f, "{value}"),
        TyKind::Unsigned => write!(f, "{}", value.cast_unsigned()),
        _ if (0..10).contains(&value) => write!(f, "{value}"),
        _ => write!(f, "0x{:X}", value.cast_unsigned()),
    }
}
