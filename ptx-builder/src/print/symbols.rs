//! Variables with their initial values, declarations ahead of definitions, and call prototypes.

use crate::ids::FuncId;
use crate::inst::{Base, Callee, Kind, Operand};
use crate::module::{Function, FunctionKind, Module, ParamTy};
use crate::symbols::{Global, Prototype, Relocation, SymbolId};
use crate::ty::{Ty, TyKind};
use std::collections::BTreeSet;
use std::fmt;

/// The variables, after declarations of the functions whose addresses they hold. Gives back those functions.
pub(super) fn write_globals(
    out: &mut dyn fmt::Write,
    module: &Module,
) -> Result<BTreeSet<FuncId>, fmt::Error> {
    let relocations = module.globals.iter().flat_map(|global| &global.relocations);
    let functions: BTreeSet<FuncId> = relocations
        .filter_map(|relocation| match relocation.symbol {
            SymbolId::Function(id) => Some(id),
            SymbolId::Global(_) => None,
        })
        .collect();
    for function in functions.iter().filter_map(|id| module.function_by_id(*id)) {
        super::write_declaration(out, function)?;
    }
    if !module.globals.is_empty() {
        out.write_char('\n')?;
    }
    for global in &module.globals {
        write_global(out, module, global)?;
    }
    Ok(functions)
}

/// The device functions that a function refers to and that are not declared yet where it stands: they are declared
/// before it.
pub(super) fn called_before_definition<'a>(
    module: &'a Module,
    user: FuncId,
    declared: &BTreeSet<FuncId>,
) -> Vec<&'a Function> {
    let Some(function) = module.function_by_id(user) else { return Vec::new() };
    let mut later = BTreeSet::new();
    for (_, inst) in function.insts() {
        if let Kind::Call(call) = &inst.kind
            && let Callee::Function(id) = call.callee
        {
            later.insert(id);
        }
        later.extend(inst.operands.iter().filter_map(|operand| match operand {
            Operand::Symbol(Base::Function(id)) => Some(*id),
            _ => None,
        }));
    }
    let later = later.into_iter().filter(|id| *id > user && !declared.contains(id));
    let later = later.filter_map(|id| module.function_by_id(id));
    later.filter(|function| function.kind == FunctionKind::Device).collect()
}

fn write_global(out: &mut dyn fmt::Write, module: &Module, global: &Global) -> fmt::Result {
    let Global { name, linkage, space, ty, len, align, init, relocations } = global;
    let linkage = linkage.directive();
    write!(
        out,
        "{linkage}{}.{} .align {align} .{ty} {name}",
        if linkage.is_empty() { "" } else { " " },
        space.name()
    )?;
    match len {
        0 => out.write_str("[]")?,
        len => write!(out, "[{len}]")?,
    }
    if init.is_empty() && relocations.is_empty() {
        return out.write_str(";\n");
    }
    out.write_str(" = {")?;
    let size = ty.bytes().max(1) as usize;
    let end = relocations.last().map_or(0, |last| last.offset as usize + usize::from(last.bytes));
    let mut relocations = relocations.iter().peekable();
    for i in 0..init.len().max(end).div_ceil(size) {
        out.write_str(if i == 0 { "" } else { ", " })?;
        match relocations.next_if(|relocation| relocation.offset as usize == i * size) {
            Some(relocation) => write_address(out, module, relocation)?,
            None => write_element(out, *ty, init.get(i * size..).unwrap_or_default())?,
        }
    }
    out.write_str("};\n")
}

/// The first element of `bytes`, of which those that are missing are zero.
fn write_element(out: &mut dyn fmt::Write, ty: Ty, bytes: &[u8]) -> fmt::Result {
    let size = ty.bytes() as usize;
    let value = bytes.iter().take(size).rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte));
    match (ty.kind(), ty) {
        (TyKind::Float, Ty::F32) => write!(out, "0f{value:08X}"),
        (TyKind::Float, _) => write!(out, "0d{value:016X}"),
        (TyKind::Signed, _) => {
            let shift = 64u32.saturating_sub(ty.bits()).min(63);
            write!(out, "{}", (value << shift).cast_signed() >> shift)
        }
        _ => write!(out, "{value}"),
    }
}

fn write_address(out: &mut dyn fmt::Write, module: &Module, relocation: &Relocation) -> fmt::Result {
    let name = match relocation.symbol {
        SymbolId::Function(id) => module.function_by_id(id).map_or("", |function| &function.name),
        SymbolId::Global(id) => module.global(id).map_or("", |global| &global.name),
    };
    let partial = relocation.bytes < 8;
    if partial {
        let mask = (1u128 << (8 * u32::from(relocation.bytes.min(8)))) - 1;
        write!(out, "0x{:X}(", mask << (8 * u32::from(relocation.first.min(8))))?;
    }
    match relocation.generic {
        true => write!(out, "generic({name})")?,
        false => out.write_str(name)?,
    }
    if relocation.addend != 0 {
        write!(out, "{:+}", relocation.addend)?;
    }
    out.write_str(if partial { ")" } else { "" })
}

/// `prototype0: .callprototype (.param .b32 _) _ (.param .b64 _);`
pub(super) fn write_prototype(out: &mut dyn fmt::Write, index: usize, prototype: &Prototype) -> fmt::Result {
    write!(out, "prototype{index}: .callprototype ")?;
    let list = |out: &mut dyn fmt::Write, params: &[ParamTy]| {
        out.write_char('(')?;
        for (i, ty) in params.iter().enumerate() {
            out.write_str(if i == 0 { "" } else { ", " })?;
            super::write_param(out, *ty, "_")?;
        }
        out.write_char(')')
    };
    if !prototype.returns.is_empty() {
        list(out, &prototype.returns)?;
        out.write_char(' ')?;
    }
    out.write_str("_ ")?;
    list(out, &prototype.params)?;
    out.write_str(if prototype.noreturn { " .noreturn;\n" } else { ";\n" })
}
