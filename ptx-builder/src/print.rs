//! PTX text from the IR: deterministic, and readable enough to review a kernel in it.

use crate::ids::{BlockId, RegClass, RegId};
use crate::inst::{Address, Base, Form, Inst, Kind, Operand, What};
use crate::module::{Array, Block, DYNAMIC_SHARED, Function, Module, Param, ParamTy};
use crate::ops::Op;
use crate::parse::{INLINE_CLOSE, INLINE_OPEN};
use crate::ty::TyKind;
use std::fmt::{self, Display, Write as _};

/// The module as PTX text.
///
/// The text of a verified module is accepted by [`crate::parse`], which gives back an equal module. A module
/// that does not verify prints too, for error messages; such text may mean something else or nothing.
pub fn print(module: &Module) -> String {
    let insts: usize = module.functions.iter().flat_map(|f| &f.blocks).map(|b| b.insts.len()).sum();
    let mut out = String::with_capacity(256 + insts * 40);
    // Writing to a String does not fail.
    let _ = write_module(&mut out, module);
    out
}

impl Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_module(f, self)
    }
}

impl Function {
    /// An instruction as text, without its comment.
    pub fn display<'a>(&'a self, inst: &'a Inst) -> impl Display + 'a {
        InstText { function: self, inst }
    }
}

fn write_module(out: &mut dyn fmt::Write, module: &Module) -> fmt::Result {
    writeln!(out, ".version {}", module.version())?;
    writeln!(out, ".target {}", module.target)?;
    writeln!(out, ".address_size 64")?;
    if let Some(align) = module.dynamic_shared {
        writeln!(out, "\n.extern .shared .align {align} .b8 {DYNAMIC_SHARED}[];")?;
    }
    for function in &module.functions {
        out.write_char('\n')?;
        write_function(out, function)?;
    }
    Ok(())
}

fn write_function(out: &mut dyn fmt::Write, function: &Function) -> fmt::Result {
    write!(out, ".visible .entry {}(", function.name)?;
    for (i, param) in function.params.iter().enumerate() {
        out.write_str(if i == 0 { "\n\t" } else { ",\n\t" })?;
        write_param(out, param)?;
    }
    out.write_str(if function.params.is_empty() { ")\n" } else { "\n)\n" })?;
    for (name, size) in [(".reqntid", function.reqntid), (".maxntid", function.maxntid)] {
        if let Some([x, y, z]) = size {
            writeln!(out, "{name} {x}, {y}, {z}")?;
        }
    }
    for (name, n) in [(".minnctapersm", function.minnctapersm), (".maxnreg", function.maxnreg)] {
        if let Some(n) = n {
            writeln!(out, "{name} {n}")?;
        }
    }
    out.write_str("{\n")?;
    for array in &function.arrays {
        write_array(out, array)?;
    }
    write_registers(out, function)?;
    out.write_char('\n')?;
    let targets = targets(function);
    for (i, block) in (0..).zip(&function.blocks) {
        write_block(out, function, BlockId(i), block, targets[i as usize])?;
    }
    out.write_str("}\n")
}

fn write_param(out: &mut dyn fmt::Write, param: &Param) -> fmt::Result {
    let name = &param.name;
    match param.ty {
        ParamTy::Scalar(ty) => write!(out, ".param .{ty} {name}"),
        ParamTy::Pointer { align } => write!(out, ".param .u64 .ptr .global .align {align} {name}"),
        ParamTy::Bytes { len, align } => write!(out, ".param .align {align} .b8 {name}[{len}]"),
    }
}

fn write_array(out: &mut dyn fmt::Write, array: &Array) -> fmt::Result {
    let Array { name, space, ty, len, align } = array;
    writeln!(out, "\t.{} .align {align} .{ty} {name}[{len}];", space.name())
}

/// `%f<8>` for the class, then each named register.
fn write_registers(out: &mut dyn fmt::Write, function: &Function) -> fmt::Result {
    for class in RegClass::ALL {
        let count = function.registers[class as usize];
        if count == 0 {
            continue;
        }
        write!(out, "\t.reg {} {}<{count}>", class.declared(), class.prefix())?;
        for (reg, name) in function.names.iter().filter(|(reg, _)| reg.class() == class) {
            write!(out, ", {reg}_{name}")?;
        }
        out.write_str(";\n")?;
    }
    Ok(())
}

/// Which blocks are jumped to.
pub(crate) fn targets(function: &Function) -> Vec<bool> {
    let mut targets = vec![false; function.blocks.len()];
    for target in function.blocks.iter().filter_map(|block| block.insts.last()?.target()) {
        if let Some(found) = targets.get_mut(target.index()) {
            *found = true;
        }
    }
    targets
}

fn write_block(
    out: &mut dyn fmt::Write,
    function: &Function,
    id: BlockId,
    block: &Block,
    is_target: bool,
) -> fmt::Result {
    if is_target || block.name.is_some() {
        writeln!(out, "{}:", Label(function, id))?;
    }
    for inst in &block.insts {
        for line in inst.comment.iter().flat_map(|comment| comment.split('\n')) {
            writeln!(out, "\t// {line}")?;
        }
        if inst.op() == Op::Inline {
            write_inline(out, function, inst)?;
        } else {
            writeln!(out, "\t{}", function.display(inst))?;
        }
    }
    Ok(())
}

struct Label<'a>(&'a Function, BlockId);

impl Display for Label<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.1)?;
        match self.0.blocks.get(self.1.index()).and_then(|block| block.name.as_ref()) {
            Some(name) => write!(f, "_{name}"),
            None => Ok(()),
        }
    }
}

struct RegName<'a>(&'a Function, RegId);

impl Display for RegName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.1)?;
        match self.0.names.get(&self.1) {
            Some(name) => write!(f, "_{name}"),
            None => Ok(()),
        }
    }
}

/// Inline text between markers that list what it defines and reads, so that the parser can skip it.
fn write_inline(out: &mut dyn fmt::Write, function: &Function, inst: &Inst) -> fmt::Result {
    let Kind::Inline { text, defs } = &inst.kind else { return Ok(()) };
    let (defs, uses) = inst.operands.split_at(inst.operands.len().min(usize::from(*defs)));
    let list = |operands: &[Operand]| {
        operands.iter().filter_map(Operand::register).map(|reg| format!(" {reg}")).collect::<String>()
    };
    let not = if inst.guard.is_some_and(|guard| guard.negated) { "!" } else { "" };
    let guard = inst.guard.map(|guard| format!(" @{not}{}", guard.pred)).unwrap_or_default();
    writeln!(out, "\t//{INLINE_OPEN}{guard}{} <-{}", list(defs), list(uses))?;
    for (i, line) in text.split('\n').enumerate() {
        out.write_char('\t')?;
        if let Some(guard) = inst.guard.filter(|_| i == 0) {
            write!(out, "@{not}{} ", RegName(function, guard.pred))?;
        }
        writeln!(out, "{}", InlineLine(function, line))?;
    }
    writeln!(out, "\t//{INLINE_CLOSE}")
}

/// A line of inline text with register numbers replaced by the printed names.
struct InlineLine<'a>(&'a Function, &'a str);

impl Display for InlineLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.1;
        while let Some(at) = rest.find('%') {
            f.write_str(&rest[..at])?;
            let token = register_token(&rest[at..]);
            match parse_register(token) {
                Some(reg) => write!(f, "{}", RegName(self.0, reg))?,
                None => f.write_str(token)?,
            }
            rest = &rest[at + token.len()..];
        }
        f.write_str(rest)
    }
}

/// The longest prefix that reads as one identifier; never empty on text that starts with `%`.
pub(crate) fn register_token(text: &str) -> &str {
    let end = text[1..].find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '$'));
    &text[..end.map_or(text.len(), |end| end + 1)]
}

/// `%r12` without a name.
pub(crate) fn parse_register(text: &str) -> Option<RegId> {
    let (class, digits) = RegClass::of_name(text)?;
    let canonical = digits.len() == 1 || !digits.starts_with('0');
    let index: u32 = digits.parse().ok()?;
    (canonical && digits.bytes().all(|b| b.is_ascii_digit()) && index < RegId::MAX_INDEX)
        .then(|| RegId::new(class, index))
}

struct InstText<'a> {
    function: &'a Function,
    inst: &'a Inst,
}

impl Display for InstText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { function, inst } = *self;
        if let Some(guard) = inst.guard {
            write!(f, "@{}{} ", if guard.negated { "!" } else { "" }, RegName(function, guard.pred))?;
        }
        write!(f, "{}", inst.kind)?;
        if inst.op() == Op::Inline {
            return Ok(());
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
                Some(operand) => write_operand(f, function, operand, arg.what),
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
                        write_operand(f, function, second, What::Pred(false))?;
                    }
                }
            }
        }
        f.write_char(';')
    }
}

fn write_operand(
    f: &mut fmt::Formatter<'_>,
    function: &Function,
    operand: &Operand,
    what: What,
) -> fmt::Result {
    match *operand {
        Operand::None => f.write_char('_'),
        Operand::Reg(reg) => write!(f, "{}", RegName(function, reg)),
        Operand::NotPred(reg) => write!(f, "!{}", RegName(function, reg)),
        Operand::Int(value) => write_int(f, value, what),
        Operand::F32(bits) => write!(f, "0f{bits:08X}"),
        Operand::F64(bits) => write!(f, "0d{bits:016X}"),
        Operand::Special(special) => f.write_str(special.name()),
        Operand::Symbol(base) => write_base(f, function, base),
        Operand::Label(block) => write!(f, "{}", Label(function, block)),
        Operand::Addr(Address { base, offset }) => {
            f.write_char('[')?;
            write_base(f, function, base)?;
            if offset != 0 {
                // `+-4`: the assembler does not read `-4` here.
                write!(f, "+{offset}")?;
            }
            f.write_char(']')
        }
    }
}

fn write_base(f: &mut fmt::Formatter<'_>, function: &Function, base: Base) -> fmt::Result {
    match base {
        Base::Reg(reg) => write!(f, "{}", RegName(function, reg)),
        Base::Param(id) => match function.param(id) {
            Some(param) => f.write_str(&param.name),
            None => write!(f, "{id}"),
        },
        Base::Array(id) => match function.array(id) {
            Some(array) => f.write_str(&array.name),
            None => write!(f, "{id}"),
        },
        Base::DynamicShared => f.write_str(DYNAMIC_SHARED),
    }
}

/// Bits in hexadecimal, numbers in decimal.
fn write_int(f: &mut fmt::Formatter<'_>, value: i64, what: What) -> fmt::Result {
    let ty = match what {
        What::Value(ty) | What::WideValue(ty) | What::MovSource(ty) => ty,
        _ => return write!(f, "{value}"),
    };
    match ty.kind() {
        TyKind::Signed => write!(f, "{value}"),
        TyKind::Unsigned => write!(f, "{}", value.cast_unsigned()),
        _ if (0..10).contains(&value) => write!(f, "{value}"),
        _ => write!(f, "0x{:X}", value.cast_unsigned()),
    }
}
