//! Inline text becomes instructions: the module is printed without the marks around it and read again.

use crate::inst::Kind;
use crate::interp::launch::InterpError;
use crate::module::{Function, Module};
use crate::parse::{INLINE_CLOSE, INLINE_OPEN};

/// The module with its inline text read, or as it is if there is none.
pub(super) fn expand(module: &Module) -> Result<Module, InterpError> {
    let mut texts = module.functions.iter().flat_map(|function| {
        let inline = function.insts().filter_map(|(_, inst)| match &inst.kind {
            Kind::Inline { text, .. } => Some(text.to_string()),
            _ => None,
        });
        inline.map(|text| (function.name.clone(), text))
    });
    let Some((function, line)) = texts.next() else { return Ok(module.clone()) };
    let mut text = String::new();
    for line in crate::print::print(module).lines() {
        let mark = line.trim().strip_prefix("//");
        if !mark.is_some_and(|mark| mark.starts_with(INLINE_OPEN) || mark == INLINE_CLOSE) {
            text.push_str(line);
            text.push('\n');
        }
    }
    let unsupported = |message: String| InterpError::Unsupported { function, line, message };
    let read = match crate::parse(&text) {
        Ok(read) => read,
        Err(error) => return Err(unsupported(error.to_string())),
    };
    match read.verify_foreign() {
        Ok(verified) if same(module, verified.module()) => Ok(verified.into_module()),
        Ok(_) => Err(unsupported("it changes the declarations of the module".to_owned())),
        Err(errors) => Err(unsupported(errors.to_string())),
    }
}

/// Are these the same functions, with the same parameters?
fn same(one: &Module, other: &Module) -> bool {
    let key = |f: &Function| (f.name.clone(), f.params.clone(), f.returns.clone(), f.arrays.clone());
    one.globals == other.globals && one.functions.iter().map(key).eq(other.functions.iter().map(key))
}
