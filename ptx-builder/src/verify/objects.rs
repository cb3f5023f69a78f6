//! What the base of an address stands for.

use crate::inst::{Base, Space};
use crate::module::{DYNAMIC_SHARED, Function, Module, Param};

/// What lies at a symbol.
#[derive(Clone, Copy)]
pub(super) struct Object<'a> {
    pub(super) name: &'a str,
    /// `None` for functions, which are not accessed.
    pub(super) space: Option<Space>,
    /// The size in bytes, as far as the module says.
    pub(super) bytes: Option<i64>,
    /// Alignment in bytes.
    pub(super) align: u32,
}

/// The object of a symbol; `None` for registers and what is not declared.
pub(super) fn object<'a>(module: &'a Module, function: &'a Function, base: Base) -> Option<Object<'a>> {
    let param = |param: &'a Param| Object {
        name: &param.name,
        space: Some(Space::Param),
        bytes: Some(i64::from(param.ty.bytes())),
        align: param.ty.align(),
    };
    match base {
        Base::Reg(_) => None,
        Base::Param(id) => function.param(id).map(param),
        Base::Return(id) => function.result(id).map(param),
        Base::CallParam(id) => function.call_param(id).map(param),
        Base::Array(id) => function.array(id).map(|array| Object {
            name: &array.name,
            space: Some(array.space),
            bytes: i64::try_from(array.bytes()).ok(),
            align: array.align,
        }),
        Base::DynamicShared => Some(Object {
            name: DYNAMIC_SHARED,
            space: Some(Space::Shared),
            bytes: None,
            align: module.dynamic_shared.unwrap_or(1),
        }),
        Base::Global(id) => module.global(id).map(|global| Object {
            name: &global.name,
            space: Some(global.space),
            bytes: i64::try_from(global.bytes()).ok().filter(|_| global.len > 0),
            align: global.align,
        }),
        Base::Function(id) => module.function_by_id(id).map(|callee| Object {
            name: &callee.name,
            space: None,
            bytes: None,
            align: 1,
        }),
    }
}

/// What a base that is not declared is called in a message.
pub(super) fn undeclared(base: Base) -> String {
    match base {
        Base::Reg(reg) => format!("register {reg}"),
        Base::Param(id) => format!("parameter {id}"),
        Base::Return(id) => format!("result {id}"),
        Base::CallParam(id) => format!("call parameter {id}"),
        Base::Array(id) => format!("array {id}"),
        Base::DynamicShared => DYNAMIC_SHARED.to_owned(),
        Base::Global(id) => format!("variable {id}"),
        Base::Function(id) => format!("function {id}"),
    }
}
