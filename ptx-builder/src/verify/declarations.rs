//! Rules about declarations: names, comments, launch bounds, parameters, arrays.

use super::Place;
use super::report::{Reporter, Rule};
use crate::ids::RegClass;
use crate::inst::{Kind, Space};
use crate::module::{
    Array, DYNAMIC_SHARED, Function, FunctionKind, MAX_REGISTERS, Module, Param, ParamTy, volume,
};
use crate::parse::{INLINE_CLOSE, INLINE_OPEN};
use crate::print::{parse_register, register_token, targets};
use crate::symbols::Linkage;
use crate::target::Requires;
use crate::ty::{Ty, TyKind};
use std::collections::HashSet;

/// Bytes of kernel parameters.
const MAX_PARAM_BYTES: u64 = 32764;
/// Bytes of static shared memory of a kernel.
const MAX_STATIC_SHARED: u64 = 48 * 1024;
/// Bytes of local memory of a thread.
const MAX_LOCAL: u64 = 512 * 1024;
/// What the directives for clusters need.
const CLUSTERS: Requires = Requires::new(7, 8, 90);
/// The largest alignment that a declaration may ask for.
const MAX_ALIGN: u32 = 4096;

pub(super) fn check_module(module: &Module, reporter: &mut Reporter<'_>) {
    let mut names = HashSet::new();
    let functions = module.functions.iter().map(|function| (&function.name, Place::Function(function)));
    let globals = module.globals.iter().map(|global| (&global.name, Place::Module));
    for (name, place) in globals.chain(functions) {
        let mut error = |message| reporter.error(Rule::Name, place, message);
        if !is_symbol(name) {
            error(format!("`{name}` cannot be a symbol"));
        } else if name == DYNAMIC_SHARED || !names.insert(name) {
            error(format!("the name `{name}` is taken"));
        }
    }
    let names = module.functions.iter().map(|function| &function.name);
    let names: Vec<&String> = names.chain(module.globals.iter().map(|global| &global.name)).collect();
    // Only few names can be mistaken for a label at all.
    let labels = ["L", "prototype", "targets"];
    let like_a_label = |name: &&&String| {
        let rest = labels.iter().find_map(|label| name.strip_prefix(label));
        rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    let suspects: Vec<&&String> = names.iter().filter(like_a_label).collect();
    for function in module.functions.iter().filter(|_| !suspects.is_empty()) {
        let targets = targets(function);
        for name in &suspects {
            if has_label(function, &targets, name) {
                let message = format!("`{name}` is a label of the text of `{}`", function.name);
                reporter.error(Rule::Name, Place::Module, message);
            }
        }
    }
    let taken: HashSet<&String> = names.into_iter().collect();
    for function in &module.functions {
        // What is declared in a body would hide the symbol from all of it.
        let arrays = function.arrays.iter().map(|array| &array.name);
        for name in arrays.chain(function.call_params.iter().map(|param| &param.name)) {
            if taken.contains(name) {
                let message = format!("the name `{name}` is taken");
                reporter.error(Rule::Name, Place::Function(function), message);
            }
        }
    }
    if let Some(align) = module.dynamic_shared
        && !is_alignment(align)
    {
        let message = format!("dynamic shared memory cannot be aligned to {align} bytes");
        reporter.error(Rule::Array, Place::Module, message);
    }
}

pub(super) fn check_function(module: &Module, function: &Function, reporter: &mut Reporter<'_>) {
    check_linkage(function, reporter);
    check_clusters(module, function, reporter);
    check_names(function, reporter);
    check_text(function, reporter);
    check_launch_bounds(function, reporter);
    check_params(function, reporter);
    check_arrays(function, reporter);
    for (class, count) in RegClass::ALL.into_iter().zip(function.registers) {
        if count > MAX_REGISTERS {
            let message = format!("{count} {} registers, at most {MAX_REGISTERS} can be", class.declared());
            reporter.error(Rule::RegisterCount, Place::Function(function), message);
        }
    }
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'$'))
}

/// Can the name be declared? Names that read as literals of the text cannot.
fn is_symbol(name: &str) -> bool {
    is_word(name) && !name.starts_with(|c: char| c.is_ascii_digit()) && name != "_" && name != "WARP_SZ"
}

/// Does the text of the function have a label of this name?
fn has_label(function: &Function, targets: &[bool], name: &str) -> bool {
    let numbered = |prefix: &str| name.strip_prefix(prefix)?.parse::<usize>().ok();
    if numbered("prototype").is_some_and(|i| i < function.prototypes.len())
        || numbered("targets").is_some_and(|i| i < function.branch_targets.len())
    {
        return true;
    }
    let Some(rest) = name.strip_prefix('L') else { return false };
    let (number, label) = rest.split_once('_').map_or((rest, None), |(number, label)| (number, Some(label)));
    let Some(index) = number.parse::<usize>().ok().filter(|index| index.to_string() == number) else {
        return false;
    };
    function.blocks.get(index).is_some_and(|block| {
        block.name.as_deref() == label && (label.is_some() || targets.get(index).copied().unwrap_or(false))
    })
}

pub(super) fn is_alignment(align: u32) -> bool {
    align.is_power_of_two() && align <= MAX_ALIGN
}

fn check_names(function: &Function, reporter: &mut Reporter<'_>) {
    let place = Place::Function(function);
    let mut names = HashSet::from([DYNAMIC_SHARED]);
    let targets = targets(function);
    let lists = [&function.params, &function.returns, &function.call_params];
    let params = lists.into_iter().flatten().map(|param| &param.name);
    for name in params.chain(function.arrays.iter().map(|array| &array.name)) {
        if !is_symbol(name) {
            reporter.error(Rule::Name, place, format!("`{name}` cannot be a symbol"));
        } else if has_label(function, &targets, name) {
            reporter.error(Rule::Name, place, format!("`{name}` is a label of the text"));
        } else if !names.insert(name) {
            reporter.error(Rule::Name, place, format!("the name `{name}` is taken"));
        }
    }
    for (reg, name) in &function.names {
        if function.register_index(*reg).is_none() {
            reporter.error(Rule::Name, place, format!("{reg} is named but not declared"));
        }
        if !is_word(name) {
            reporter.error(Rule::Name, place, format!("`{name}` cannot be the name of a register"));
        }
    }
    for name in function.blocks.iter().filter_map(|block| block.name.as_ref()) {
        if !is_word(name) {
            reporter.error(Rule::Name, place, format!("`{name}` cannot be the name of a block"));
        }
    }
}

/// Comments and inline text must come through the text unchanged.
fn check_text(function: &Function, reporter: &mut Reporter<'_>) {
    for (id, inst) in function.insts() {
        let place = Place::Inst(function, id);
        if let Some(comment) = &inst.comment {
            if !comment.chars().all(|c| c == '\n' || (c.is_ascii() && !c.is_ascii_control())) {
                reporter.error(Rule::Comment, place, "the comment is not printable ASCII".to_owned());
            }
            let marker = |line: &str| {
                let line = format!(" {line}");
                line.starts_with(INLINE_OPEN) || line == INLINE_CLOSE
            };
            if comment.split('\n').any(marker) {
                reporter.error(
                    Rule::Comment,
                    place,
                    "the comment looks like a marker of inline text".to_owned(),
                );
            }
        }
        if let Kind::Inline { text, .. } = &inst.kind {
            if !text.chars().all(|c| matches!(c, '\n' | '\t') || (c.is_ascii() && !c.is_ascii_control())) {
                reporter.error(Rule::InstructionForm, place, "inline text is not printable ASCII".to_owned());
            }
            if inst.guard.is_some() && text.matches(';').count() > 1 {
                let message = "a guard applies to the first statement of inline text only".to_owned();
                reporter.error(Rule::InstructionForm, place, message);
            }
            for (at, _) in text.match_indices('%') {
                let token = register_token(&text[at..]);
                match parse_register(token) {
                    Some(reg) if function.register_index(reg).is_none() => {
                        reporter.error(Rule::OperandKind, place, format!("register {reg} is not declared"));
                    }
                    None if RegClass::of_name(token).is_some() => {
                        let message = format!("inline text writes registers by number, not `{token}`");
                        reporter.error(Rule::InstructionForm, place, message);
                    }
                    _ => {}
                }
            }
        }
    }
}

fn check_linkage(function: &Function, reporter: &mut Reporter<'_>) {
    let message = match function.linkage {
        Linkage::Extern if !function.blocks.is_empty() => "what is defined elsewhere has no body",
        Linkage::Common => ".common is for variables",
        _ => return,
    };
    reporter.error(Rule::Name, Place::Function(function), message.to_owned());
}

fn check_launch_bounds(function: &Function, reporter: &mut Reporter<'_>) {
    let place = Place::Function(function);
    let mut error = |message| reporter.error(Rule::LaunchBounds, place, message);
    if function.kind == FunctionKind::Device {
        let Function { reqntid, maxntid, minnctapersm, maxnreg, .. } = function;
        let sizes = reqntid.is_some() || maxntid.is_some() || function.has_cluster_directives();
        if sizes || minnctapersm.is_some() || maxnreg.is_some() {
            error("performance directives belong to kernels".to_owned());
        }
        return;
    }
    for (name, size) in [(".reqntid", function.reqntid), (".maxntid", function.maxntid)] {
        let Some([x, y, z]) = size else { continue };
        let threads = volume([x, y, z]);
        if threads == 0 || threads > 1024 || x > 1024 || y > 1024 || z > 64 {
            error(format!("no block has the size {x} x {y} x {z} of {name}: at most 1024 threads, 64 in z"));
        }
    }
    if function.reqntid.is_some() && function.maxntid.is_some() {
        error(".reqntid and .maxntid exclude each other".to_owned());
    }
    if let Some(n) = function.minnctapersm {
        if !(1..=32).contains(&n) {
            error(format!(".minnctapersm is between 1 and 32, not {n}"));
        }
        if function.reqntid.is_none() && function.maxntid.is_none() {
            let message = ".minnctapersm has no effect without .reqntid or .maxntid".to_owned();
            reporter.advice(Rule::LaunchBounds, place, message);
        }
    }
    let mut error = |message| reporter.error(Rule::LaunchBounds, place, message);
    if let Some(n) = function.maxnreg
        && !(24..=255).contains(&n)
    {
        error(format!(".maxnreg is between 24 and 255, not {n}"));
    }
    if function.reqntid.is_none() && function.maxntid.is_none() {
        let message = "no .reqntid and no .maxntid: launches cannot be checked against the kernel".to_owned();
        reporter.note(Rule::LaunchBounds, place, message);
    }
}

fn check_clusters(module: &Module, function: &Function, reporter: &mut Reporter<'_>) {
    let Function { reqnctapercluster, maxclusterrank, .. } = function;
    let place = Place::Function(function);
    if !function.has_cluster_directives() {
        return;
    }
    if !CLUSTERS.met_by(module.target) {
        let message =
            format!("clusters need {}, the module targets {}", CLUSTERS.target_name(), module.target);
        reporter.error(Rule::Target, place, message);
    }
    if let Some([x, y, z]) = reqnctapercluster {
        let blocks = volume([*x, *y, *z]);
        if blocks == 0 || blocks > 16 {
            let message = format!("no cluster has the size {x} x {y} x {z}: between 1 and 16 blocks");
            reporter.error(Rule::LaunchBounds, place, message);
        }
    }
    if maxclusterrank.is_some() && reqnctapercluster.is_some() {
        let message = ".maxclusterrank and an exact cluster size exclude each other".to_owned();
        reporter.error(Rule::LaunchBounds, place, message);
    }
}

fn check_params(function: &Function, reporter: &mut Reporter<'_>) {
    let place = Place::Function(function);
    let kernel = function.kind == FunctionKind::Kernel;
    if kernel && (!function.returns.is_empty() || function.noreturn) {
        reporter.error(Rule::Parameter, place, "a kernel does not return to a caller".to_owned());
    }
    if function.returns.len() > 1 {
        reporter.error(Rule::Parameter, place, "a function has at most one result".to_owned());
    }
    let bytes = check_param_list(function, &function.params, reporter);
    if kernel && bytes > MAX_PARAM_BYTES {
        let message = format!("{bytes} bytes of parameters, at most {MAX_PARAM_BYTES} can be");
        reporter.error(Rule::Parameter, place, message);
    }
    check_param_list(function, &function.returns, reporter);
    check_param_list(function, &function.call_params, reporter);
}

/// Gives back the size of the list.
fn check_param_list(function: &Function, params: &[Param], reporter: &mut Reporter<'_>) -> u64 {
    let place = Place::Function(function);
    let mut end = 0u64;
    for param in params {
        let name = &param.name;
        let mut error = |message| reporter.error(Rule::Parameter, place, message);
        match param.ty {
            ParamTy::Scalar(ty) if !is_plain(ty) => {
                error(format!("parameter `{name}` cannot be a .{ty}"));
                continue;
            }
            ParamTy::Bytes { len: 0, .. } => error(format!("parameter `{name}` is empty")),
            ParamTy::Pointer { align } if !is_alignment(align) => {
                error(format!("what `{name}` points to cannot be aligned to {align} bytes"));
            }
            _ => {}
        }
        if !is_alignment(param.ty.align()) {
            error(format!("parameter `{name}` cannot be aligned to {} bytes", param.ty.align()));
            continue;
        }
        end = end.next_multiple_of(u64::from(param.ty.align())) + u64::from(param.ty.bytes());
    }
    end
}

fn check_arrays(function: &Function, reporter: &mut Reporter<'_>) {
    let place = Place::Function(function);
    let mut local = 0;
    for array in &function.arrays {
        let Array { name, space, ty, len, align } = array;
        let mut error = |message| reporter.error(Rule::Array, place, message);
        if !matches!(space, Space::Shared | Space::Local) {
            error(format!("array `{name}` cannot be in {} memory", space.name()));
        }
        if !is_plain(*ty) {
            error(format!("array `{name}` cannot have elements of type .{ty}"));
        }
        if *len == 0 {
            error(format!("array `{name}` is empty"));
        }
        if !is_alignment(*align) {
            error(format!("array `{name}` of .{ty} cannot be aligned to {align} bytes"));
        }
        if *space == Space::Local {
            local += array.bytes();
        }
    }
    for (what, bytes, limit) in
        [("static shared", function.static_shared_bytes(), MAX_STATIC_SHARED), ("local", local, MAX_LOCAL)]
    {
        if bytes > limit {
            let message = format!("{bytes} bytes of {what} memory, at most {limit} can be");
            reporter.error(Rule::Array, place, message);
        }
    }
}

/// Types of declarations: integers, bits, single and double precision.
pub(super) fn is_plain(ty: Ty) -> bool {
    !matches!(ty.kind(), TyKind::Pred | TyKind::SmallFloat)
}
