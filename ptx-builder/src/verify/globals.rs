//! Variables at module scope.

use super::Place;
use super::declarations::{is_alignment, is_plain};
use super::report::{Reporter, Rule};
use crate::inst::Space;
use crate::module::{FunctionKind, Module};
use crate::symbols::{Global, Linkage, Relocation, SymbolId};
use crate::ty::Ty;

/// The most bytes of one variable.
const MAX_BYTES: u64 = 1 << 31;

pub(super) fn check(module: &Module, reporter: &mut Reporter<'_>) {
    for (index, global) in module.globals.iter().enumerate() {
        let mut error = |message| {
            reporter.error(Rule::Global, Place::Module, format!("variable `{}` {message}", global.name));
        };
        check_shape(global, &mut error);
        check_init(module, index, global, &mut error);
    }
}

fn check_shape(global: &Global, error: &mut dyn FnMut(String)) {
    let Global { linkage, space, ty, len, align, .. } = global;
    if !matches!(space, Space::Global | Space::Const | Space::Shared) {
        error(format!("cannot be in {} memory", space.name()));
    }
    if !is_plain(*ty) {
        error(format!("cannot have elements of type .{ty}"));
    }
    if *len == 0 && *linkage != Linkage::Extern {
        error("is empty".to_owned());
    }
    if !is_alignment(*align) {
        error(format!("of .{ty} cannot be aligned to {align} bytes"));
    }
    let limit = if *space == Space::Const { 64 * 1024 } else { MAX_BYTES };
    if global.bytes() > limit {
        error(format!("has {} bytes, at most {limit} can be", global.bytes()));
    }
}

fn check_init(module: &Module, index: usize, global: &Global, error: &mut dyn FnMut(String)) {
    let Global { linkage, space, ty, init, relocations, .. } = global;
    let initialised = !init.is_empty() || !relocations.is_empty();
    if initialised && (*space == Space::Shared || matches!(linkage, Linkage::Extern | Linkage::Common)) {
        error("cannot have an initial value".to_owned());
    }
    if init.len() as u64 > global.bytes() {
        error(format!("has an initial value of {} bytes, more than its {}", init.len(), global.bytes()));
    }
    if ty.bytes() > 0 && !init.len().is_multiple_of(ty.bytes() as usize) {
        error("has an initial value that ends within an element".to_owned());
    }
    if !init.is_empty() && init.iter().rev().take(ty.bytes() as usize).all(|byte| *byte == 0) {
        error("has an initial value that ends with an element of zeros, which are implied".to_owned());
    }
    let mut end = 0u64;
    for relocation in relocations {
        let Relocation { offset, symbol, bytes, first, .. } = *relocation;
        let offset = u64::from(offset);
        // A whole address, or one of its bytes.
        let fits = match ty {
            Ty::U64 => bytes == 8 && first == 0,
            Ty::U8 => bytes == 1 && first < 8,
            _ => false,
        };
        if !fits || offset % u64::from(ty.bytes().max(1)) != 0 {
            error(format!("has an address of {bytes} bytes at {offset}, which is no element of .{ty}"));
        }
        if offset < end || offset + u64::from(bytes) > global.bytes() {
            error(format!("has an address at {offset} that overlaps another or the end"));
        }
        end = offset + u64::from(bytes);
        let span = usize::try_from(offset).unwrap_or(usize::MAX).min(init.len())
            ..usize::try_from(end).unwrap_or(usize::MAX).min(init.len());
        if init[span].iter().any(|byte| *byte != 0) {
            error(format!("has bytes under the address at {offset}"));
        }
        let known = match symbol {
            // The text declares a variable before it is named.
            SymbolId::Global(id) => id.index() < index,
            SymbolId::Function(id) => {
                module.function_by_id(id).is_some_and(|function| function.kind == FunctionKind::Device)
            }
        };
        if !known {
            error(format!("has the address of {symbol:?}, which is not declared before it"));
        }
    }
}
