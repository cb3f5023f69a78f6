//! Operands of one instruction have one type.
use ptx_builder::{Module, S32, Target, U64};

fn main() {
    Module::new(Target::SM_80).kernel("k", |k| {
        let a = k.param::<S32>("a");
        let b = k.param::<U64>("b");
        k.add(a, b);
    });
}
