//! PTX text from the IR: deterministic, and readable enough to review a kernel in it.

mod inst;
mod symbols;

use crate::ids::{BlockId, FuncId, RegClass, RegId};
use crate::inst::{Inst, Kind, Operand};
use crate::module::{Array, Block, DYNAMIC_SHARED, Function, FunctionKind, Module, Param, ParamTy};
use crate::ops::Op;
use crate::parse::{INLINE_CLOSE, INLINE_OPEN};
use inst::{Context, InstText, Label, RegName};
use std::fmt::{self, Display};

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
    /// An instruction as text, without its comment. Symbols of the module have numbers for names:
    /// [`Module::display`] knows better.
    pub fn display<'a>(&'a self, inst: &'a Inst) -> impl Display + 'a {
        InstText { context: Context { module: None, function: self }, inst }
    }
}

impl Module {
    /// An instruction of a function of the module as text, without its comment.
    pub fn display<'a>(&'a self, function: &'a Function, inst: &'a Inst) -> impl Display + 'a {
        InstText { context: Context { module: Some(self), function }, inst }
    }
}

fn write_module(out: &mut dyn fmt::Write, module: &Module) -> fmt::Result {
    writeln!(out, ".version {}", module.version())?;
    writeln!(out, ".target {}", module.target)?;
    writeln!(out, ".address_size 64")?;
    if let Some(align) = module.dynamic_shared {
        writeln!(out, "\n.extern .shared .align {align} .b8 {DYNAMIC_SHARED}[];")?;
    }
    let declared = symbols::write_globals(out, module)?;
    for (id, function) in (0..).map(FuncId).zip(&module.functions) {
        for later in symbols::called_before_definition(module, id, &declared) {
            write_declaration(out, later)?;
        }
        out.write_char('\n')?;
        if function.is_declaration() {
            write_head(out, function)?;
            out.write_str(";\n")?;
        } else {
            write_function(out, module, function)?;
        }
    }
    Ok(())
}

fn write_declaration(out: &mut dyn fmt::Write, function: &Function) -> fmt::Result {
    out.write_char('\n')?;
    write_head(out, function)?;
    out.write_str(";\n")
}

/// Linkage, name, parameters and directives.
fn write_head(out: &mut dyn fmt::Write, function: &Function) -> fmt::Result {
    let linkage = function.linkage.directive();
    write!(out, "{linkage}{}", if linkage.is_empty() { "" } else { " " })?;
    match function.kind {
        FunctionKind::Kernel => out.write_str(".entry ")?,
        FunctionKind::Device => out.write_str(".func ")?,
    }
    if !function.returns.is_empty() {
        write_list(out, "(", &function.returns, ") ")?;
    }
    out.write_str(&function.name)?;
    write_params(out, &function.params)?;
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
    if function.explicitcluster {
        out.write_str(".explicitcluster\n")?;
    }
    if let Some([x, y, z]) = function.reqnctapercluster {
        writeln!(out, ".reqnctapercluster {x}, {y}, {z}")?;
    }
    if let Some(n) = function.maxclusterrank {
        writeln!(out, ".maxclusterrank {n}")?;
    }
    if function.noreturn {
        out.write_str(".noreturn\n")?;
    }
    Ok(())
}

fn write_list(out: &mut dyn fmt::Write, open: &str, params: &[Param], close: &str) -> fmt::Result {
    out.write_str(open)?;
    for (i, param) in params.iter().enumerate() {
        out.write_str(if i == 0 { "" } else { ", " })?;
        write_param(out, param.ty, &param.name)?;
    }
    out.write_str(close)
}

/// One parameter a line.
fn write_params(out: &mut dyn fmt::Write, params: &[Param]) -> fmt::Result {
    out.write_char('(')?;
    for (i, param) in params.iter().enumerate() {
        out.write_str(if i == 0 { "\n\t" } else { ",\n\t" })?;
        write_param(out, param.ty, &param.name)?;
    }
    out.write_str(if params.is_empty() { ")\n" } else { "\n)\n" })
}

fn write_function(out: &mut dyn fmt::Write, module: &Module, function: &Function) -> fmt::Result {
    write_head(out, function)?;
    out.write_str("{\n")?;
    for array in &function.arrays {
        write_array(out, array)?;
    }
    for param in &function.call_params {
        out.write_char('\t')?;
        write_param(out, param.ty, &param.name)?;
        out.write_str(";\n")?;
    }
    write_registers(out, function)?;
    for (i, prototype) in function.prototypes.iter().enumerate() {
        symbols::write_prototype(out, i, prototype)?;
    }
    for (i, targets) in function.branch_targets.iter().enumerate() {
        write!(out, "targets{i}: .branchtargets ")?;
        for (i, block) in targets.iter().enumerate() {
            write!(out, "{}{}", if i == 0 { "" } else { ", " }, Label(function, *block))?;
        }
        out.write_str(";\n")?;
    }
    out.write_char('\n')?;
    let targets = targets(function);
    for (i, block) in (0..).zip(&function.blocks) {
        write_block(out, Context { module: Some(module), function }, BlockId(i), block, targets[i as usize])?;
    }
    out.write_str("}\n")
}

fn write_param(out: &mut dyn fmt::Write, ty: ParamTy, name: &str) -> fmt::Result {
    match ty {
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
    let jumps = function.blocks.iter().filter_map(|block| block.insts.last()?.target());
    for target in jumps.chain(function.branch_targets.iter().flatten().copied()) {
        if let Some(found) = targets.get_mut(target.index()) {
            *found = true;
        }
    }
    targets
}

fn write_block(
    out: &mut dyn fmt::Write,
    context: Context<'_>,
    id: BlockId,
    block: &Block,
    is_target: bool,
) -> fmt::Result {
    let function = context.function;
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
            writeln!(out, "\t{}", InstText { context, inst })?;
        }
    }
    Ok(())
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
